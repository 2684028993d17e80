// Authorization details at the token endpoint (RFC 9396). Their rules by themselves
// are in unit/policy/tools_test.cc and unit/grants.

#include <gtest/gtest.h>

#include <string>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

constexpr const char* kFiles = "https://files.example.com/mcp";

TestTenant& acme() {
  static TestTenant tenant("rfc9396");
  return tenant;
}

TEST(Rfc9396_7, WhatIsGrantedIsInTheAnswerAndInTheToken) {
  const auto alice = acme().user_token("alice");
  const std::string asked =
      R"([{"type":"mcp_tool","identifier":"read_*","actions":["call"],"constraints":{"path":["/a"]}}])";
  const auto reply = acme().exchange(alice, "files", {{"authorization_details", asked}});
  const Json granted = Json::array({{{"type", "mcp_tool"},
                                     {"identifier", "read_*"},
                                     {"actions", Json::array({"call"})},
                                     {"constraints", {{"path", Json::array({"/a"})}}},
                                     {"locations", Json::array({kFiles})}}});
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(
      claims_of(json_of(reply).at("access_token").get<std::string>()).at("authorization_details"),
      granted);
  EXPECT_EQ(json_of(reply).at("authorization_details"), granted);
  EXPECT_FALSE(json_of(acme().exchange(alice, "files")).contains("authorization_details"));
  const auto metadata =
      json_of(acme().ask("GET", "/.well-known/oauth-authorization-server/t/rfc9396"));
  EXPECT_EQ(metadata.at("authorization_details_types_supported"), Json::array({"mcp_tool"}));
}

TEST(Rfc9396_7, ResponseAuthorizationDetails_WhatWasNotGrantedIsNotNamed) {
  const auto alice = acme().user_token("alice");
  EXPECT_FALSE(json_of(acme().exchange(alice, "files")).contains("authorization_details"));
  const auto narrow =
      acme().exchange(alice, "files",
                      {{"authorization_details",
                        R"([{"type":"mcp_tool","identifier":"read_file","actions":["call"]}])"}});
  const std::string token = json_of(narrow).at("access_token");
  // Through another exchange no more is named than this token has.
  EXPECT_EQ(json_of(acme().exchange(token, "files")).at("authorization_details"),
            json_of(narrow).at("authorization_details"));
  const auto refused =
      acme().exchange(token, "files",
                      {{"authorization_details",
                        R"([{"type":"mcp_tool","identifier":"write_file","actions":["call"]}])"}});
  EXPECT_THAT(refused, IsOAuthError(400, "invalid_authorization_details"));
  EXPECT_FALSE(json_of(refused).contains("authorization_details"));
}

TEST(Rfc9396_5, ErrorInvalidAuthorizationDetails_IsNotForWhatMayBeGranted) {
  const auto alice = acme().user_token("alice");
  for (
      const char* asked :
      {R"([{"type":"mcp_tool","identifier":"x","actions":["call"]}])",
       R"([{"type":"mcp_tool","identifier":"*","actions":["*"]}])",
       R"([{"type":"mcp_tool","identifier":"x","actions":["call"],"locations":["https://files.example.com/mcp"]}])",
       R"([{"type":"mcp_tool","identifier":"x","actions":["call"]},{"type":"mcp_tool","identifier":"y","actions":["call"]}])"}) {
    EXPECT_THAT(acme().exchange(alice, "files", {{"authorization_details", asked}}), HasStatus(200))
        << asked;
    EXPECT_THAT(acme().exchange(alice, "files",
                                {{"authorization_details", asked}, {"scope", "files:admin"}}),
                IsOAuthError(400, "invalid_scope"))
        << asked;
  }
}

TEST(Rfc9396_5, WhatMayNotBeGrantedIsInvalid) {
  const auto alice = acme().user_token("alice");
  for (
      const char* asked :
      {"x", "{}", "[]", R"([{"type":"payment"}])",
       R"([{"type":"mcp_tool","identifier":"x","actions":["call"],"datatypes":["a"]}])",
       R"([{"type":"mcp_tool","identifier":"x","identifier":"y","actions":["call"]}])",
       R"([{"type":"mcp_tool","identifier":"x","actions":["call"],"locations":["https://search.example.com/mcp"]}])"}) {
    EXPECT_THAT(acme().exchange(alice, "files", {{"authorization_details", asked}}),
                IsOAuthError(400, "invalid_authorization_details"))
        << asked;
  }
  const std::string good = R"([{"type":"mcp_tool","identifier":"x","actions":["call"]}])";
  EXPECT_THAT(acme().exchange(alice, "files",
                              {{"authorization_details", good}, {"authorization_details", good}}),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().token({{"grant_type", "client_credentials"},
                            {"audience", "files"},
                            {"authorization_details", good}}),
              IsOAuthError(400, "invalid_authorization_details"));
}

}  // namespace
}  // namespace postern::test
