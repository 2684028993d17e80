#include "grants/tool_details.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using test::code_of;
using test::field_of;
using test::GrantsFixture;
using token::Json;

constexpr const char* kFiles = "https://files.example.com/mcp";

Json tool(const char* identifier, Json actions = Json::array({"call"})) {
  return {{"type", "mcp_tool"}, {"identifier", identifier}, {"actions", std::move(actions)}};
}

struct ToolGrants : GrantsFixture {
  void roles_permit(Json tools) {
    role()["tools"] = std::move(tools);
    load();
  }
  /// An exchange at `audience` with these details asked for, the subject token
  /// having those; null: none.
  Result<IssuedToken> ask(const Json& wanted, const Json& own = nullptr,
                          const char* audience = "files") {
    auto claims = this->claims();
    if (!own.is_null()) claims["authorization_details"] = own;
    token = idp.sign(claims);
    auto asked = request(token);
    asked.audiences = {audience};
    if (!wanted.is_null()) asked.tools = test::must(policy::read_tool_details(wanted));
    return exchange(asked);
  }
  Json granted(const Result<IssuedToken>& issued) {
    if (!issued.ok()) return issued.error().detail;
    const auto claims = open(issued.value().access_token);
    const auto details = claims.value("authorization_details", Json());
    EXPECT_EQ(issued.value().authorization_details, details.is_null() ? "" : details.dump());
    return details;
  }
  std::string token;
};

Json at_files(Json detail) {
  detail["locations"] = {kFiles};
  return detail;
}

TEST(Rfc9396_7, WhatWasAskedIsGrantedWithItsLocation) {
  ToolGrants f;
  EXPECT_EQ(f.granted(f.ask(Json::array({tool("read_file")}))),
            Json::array({at_files(tool("read_file"))}));
  EXPECT_NE(field_of(f.last_record, "authorization_details").find("read_file"), std::string::npos);
  EXPECT_TRUE(f.granted(f.ask(nullptr)).is_null());
}

TEST(Rfc9396_5, WithinWhatRolesPermit) {
  ToolGrants f;
  f.roles_permit({"files:read_*:call", "files:stat:*", "search:*:*"});
  EXPECT_EQ(f.granted(f.ask(Json::array({tool("read_file")}))),
            Json::array({at_files(tool("read_file"))}));
  EXPECT_TRUE(f.ask(Json::array({tool("stat", {"call", "list"})})).ok());
  for (const Json& more : {tool("*"), tool("write_file"), tool("rea*"), tool("read_x", {"list"}),
                           tool("read_x", {"*"}), tool("read_x", {"call", "list"})}) {
    EXPECT_EQ(code_of(f.ask(Json::array({more}))), ErrorCode::InvalidAuthorizationDetails) << more;
    EXPECT_EQ(code_of(f.ask(Json::array({tool("read_x"), more}))),
              ErrorCode::InvalidAuthorizationDetails);
  }
  // Nothing asked: all of it, so that a limit is never passed over.
  EXPECT_EQ(f.granted(f.ask(nullptr)),
            Json::array({at_files(tool("read_*")), at_files(tool("stat", Json::array({"*"})))}));
}

TEST(Rfc9396_5, WithinTheSubjectTokensOwn) {
  ToolGrants f;
  const Json own = Json::array({tool("read_*"), {{"type", "payment"}, {"amount", 1}}});
  EXPECT_EQ(f.granted(f.ask(nullptr, own)), Json::array({at_files(tool("read_*"))}));
  EXPECT_TRUE(f.ask(Json::array({tool("read_x")}), own).ok());
  EXPECT_EQ(code_of(f.ask(Json::array({tool("write_x")}), own)),
            ErrorCode::InvalidAuthorizationDetails);
  // Details of another type say nothing of tools.
  EXPECT_TRUE(f.granted(f.ask(nullptr, Json::array({{{"type", "payment"}}}))).is_null());
  // Both limits hold.
  f.roles_permit({"files:*_file:call"});
  EXPECT_EQ(code_of(f.ask(Json::array({tool("read_dir")}), own)),
            ErrorCode::InvalidAuthorizationDetails);
  EXPECT_TRUE(f.ask(Json::array({tool("read_file")}), own).ok());
  EXPECT_EQ(code_of(f.ask(nullptr, own)), ErrorCode::InvalidAuthorizationDetails);
  f.roles_permit({"files:read_file:*"});
  EXPECT_EQ(f.granted(f.ask(nullptr, own)), Json::array({at_files(tool("read_file"))}));
}

TEST(Rfc9396_5, DetailsOfAnotherLocationAreForNothingHere) {
  ToolGrants f;
  auto elsewhere = tool("read_x");
  elsewhere["locations"] = {"https://search.example.com/mcp"};
  EXPECT_EQ(code_of(f.ask(Json::array({elsewhere}))), ErrorCode::InvalidAuthorizationDetails);
  EXPECT_TRUE(f.ask(Json::array({elsewhere}), nullptr, "search").ok());
  EXPECT_EQ(code_of(f.ask(nullptr, Json::array({elsewhere}))),
            ErrorCode::InvalidAuthorizationDetails);
  auto both = tool("read_x");
  both["locations"] = {kFiles, "https://search.example.com/mcp"};
  EXPECT_EQ(f.granted(f.ask(nullptr, Json::array({both}))),
            Json::array({at_files(tool("read_x"))}));
  EXPECT_EQ(code_of(f.ask(Json::array({both}))), ErrorCode::InvalidAuthorizationDetails);
}

TEST(Rfc9396_9, AMalformedClaimIsNotPassedOver) {
  ToolGrants f;
  for (const Json& own :
       {Json("mcp_tool"), Json::object(), Json::array({1}), Json::array({Json::object()}),
        Json::array({{{"type", 1}}}), Json::array({{{"type", "mcp_tool"}}}), Json(65, tool("x"))}) {
    EXPECT_EQ(code_of(f.ask(nullptr, own)), ErrorCode::InvalidToken) << own.dump().substr(0, 80);
  }
}

TEST(Rfc9396, ChainedDetailsOnlyShrink) {
  ToolGrants f;
  auto first = f.granted(f.ask(Json::array({tool("read_*", {"call", "list"})})));
  const auto second = f.granted(f.ask(Json::array({tool("read_a*")}), first));
  EXPECT_EQ(second, Json::array({at_files(tool("read_a*"))}));
  EXPECT_EQ(f.granted(f.ask(nullptr, second)), second);
  EXPECT_EQ(code_of(f.ask(first, second)), ErrorCode::InvalidAuthorizationDetails);
  EXPECT_EQ(code_of(f.ask(nullptr, second, "search")), ErrorCode::InvalidAuthorizationDetails);
}

TEST(Rfc9396, AStoredCredentialCannotBeNarrowed) {
  ToolGrants f;
  f.backend("github")["token_field"] = "token";
  f.load();
  f.store("github", "alice", {{"token", "ghp"}});
  EXPECT_TRUE(f.ask(nullptr, nullptr, "github").ok());
  EXPECT_EQ(code_of(f.ask(Json::array({tool("x")}), nullptr, "github")),
            ErrorCode::InvalidAuthorizationDetails);
  EXPECT_EQ(code_of(f.ask(nullptr, Json::array({tool("x")}), "github")),
            ErrorCode::InvalidAuthorizationDetails);
  f.roles_permit({"github:read_*:*"});
  EXPECT_EQ(code_of(f.ask(nullptr, nullptr, "github")), ErrorCode::InvalidAuthorizationDetails);
  const auto subject = f.subject_token();
  const auto verified = test::must(f.release.verify_subject(
      *f.snapshot, f.caller(), subject, GrantsFixture::kAccessToken, Wait::Yes));
  auto record = f.record();
  EXPECT_EQ(code_of(f.release.release(*f.snapshot, f.caller(), *verified,
                                      {"github", false, std::nullopt}, record)),
            ErrorCode::InvalidAuthorizationDetails);
  f.roles_permit({"github:*:*"});
  EXPECT_TRUE(f.ask(nullptr, nullptr, "github").ok());
}

TEST(Rfc9396, ATokenThatIsReleasedIsLimitedToo) {
  ToolGrants f;
  f.roles_permit({"files:read_*:*"});
  const auto subject = f.subject_token();
  const auto verified = test::must(f.release.verify_subject(
      *f.snapshot, f.caller(), subject, GrantsFixture::kAccessToken, Wait::Yes));
  auto record = f.record();
  const auto item = test::must(f.release.release(*f.snapshot, f.caller(), *verified,
                                                 {"files", false, std::nullopt}, record));
  item.env.at("FILES_TOKEN").expose([&](ByteView bytes) {
    const auto details = f.open(as_text(bytes)).at("authorization_details");
    ASSERT_EQ(details.size(), 1u);
    EXPECT_EQ(details.at(0).at("identifier"), "read_*");
  });
}

TEST(Rfc9396, ARoleNamesBackendsThatExist) {
  ToolGrants f;
  EXPECT_NO_THROW(f.roles_permit({"*:*:*", "files:x:call"}));
  EXPECT_THROW(f.roles_permit({"nowhere:x:call"}), std::runtime_error);
  EXPECT_THROW(f.roles_permit({"files:x"}), std::runtime_error);
}

}  // namespace
}  // namespace postern::grants
