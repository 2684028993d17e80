// Introspection (RFC 7662) over the wire. Its signed answers are in rfc9701_test.cc.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

/// With a resource server for `files`.
class Tenant : public TestTenant {
 public:
  Tenant() : TestTenant("rfc7662") {
    manifest["clients"].push_back({{"id", "files-rs"},
                                   {"grants", {"token-exchange"}},
                                   {"backends", {"search"}},
                                   {"scopes", {"*"}},
                                   {"introspects", {"files"}}});
    const auto reply = apply();
    for (const auto& made : json_of(reply, "client_secrets")) {
      if (made.at("client") == "files-rs") rs_secret = made.at("client_secret");
    }
  }
  WireReply introspect(const Pairs& fields, const std::string& authorization,
                       Pairs headers = {}) const {
    headers.emplace_back("Content-Type", "application/x-www-form-urlencoded");
    if (!authorization.empty()) headers.emplace_back("Authorization", authorization);
    return ask("POST", "/t/rfc7662/introspect", headers, form(fields));
  }
  std::string as_rs() const { return basic("files-rs", rs_secret); }
  std::string issued(std::string_view audience) const {
    return json_of(exchange(user_token("alice"), audience)).at("access_token");
  }
  std::string rs_secret;
};

Tenant& acme() {
  static Tenant tenant;
  return tenant;
}

TEST(Rfc7662_2_1, I1_TheCallerMustAuthenticate) {
  const auto token = acme().issued("files");
  EXPECT_THAT(acme().introspect({{"token", token}}, ""), IsOAuthError(401, "invalid_client"));
  const auto wrong = acme().introspect({{"token", token}}, basic("files-rs", "wrong"));
  EXPECT_THAT(wrong, IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(wrong.header("WWW-Authenticate"), HasSubstr("Basic"));
  EXPECT_THAT(acme().introspect({{"token", token}}, bearer(token)),
              IsOAuthError(401, "invalid_client"));
}

TEST(Rfc7662_2_1, I1_AnAuthenticatedCallerIsAnswered) {
  const auto token = acme().issued("files");
  EXPECT_EQ(json_of(acme().introspect({{"token", token}}, acme().as_rs())).at("active"),
            Json(true));
  const Pairs in_the_body{
      {"token", token}, {"client_id", "files-rs"}, {"client_secret", acme().rs_secret}};
  EXPECT_EQ(json_of(acme().introspect(in_the_body, "")).at("active"), Json(true));
}

TEST(Rfc7662_2_1, OnlyPostsOfAFormAreTaken) {
  EXPECT_THAT(acme().ask("GET", "/t/rfc7662/introspect"), HasStatus(405));
  EXPECT_THAT(
      acme().ask("POST", "/t/rfc7662/introspect", {{"Content-Type", "application/json"}}, "{}"),
      IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().introspect({}, acme().as_rs()), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().introspect({{"token", "a"}, {"token", "b"}}, acme().as_rs()),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().ask("POST", "/t/rfc7662/introspect?token=x",
                         {{"Content-Type", "application/x-www-form-urlencoded"},
                          {"Authorization", acme().as_rs()}},
                         "token=x"),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc7662_2_2, I3_SaysWhatATokenIsWorth) {
  const auto token = acme().issued("files");
  const auto reply = acme().introspect({{"token", token}}, acme().as_rs());
  EXPECT_EQ(reply.status, 200);
  EXPECT_THAT(reply.header("Content-Type"), HasSubstr("application/json"));
  EXPECT_THAT(reply.header("Cache-Control"), HasSubstr("no-store"));  // I5
  const auto answer = json_of(reply);
  EXPECT_EQ(answer.at("active"), Json(true));
  const auto claims = claims_of(token);
  for (const char* name : {"iss", "sub", "aud", "client_id", "iat", "exp", "jti", "scope"}) {
    EXPECT_EQ(answer.at(name), claims.at(name)) << name;
  }
  EXPECT_EQ(answer.at("token_type"), "Bearer");
  EXPECT_FALSE(answer.contains("username"));
}

TEST(Rfc7662_2_2, I3_ActiveIsNeverAnythingButABoolean) {
  auto forged = acme().issued("files");
  forged.back() = forged.back() == 'A' ? 'B' : 'A';
  for (const auto& token : {std::string("x"), std::string("a.b.c"), std::string(3000, 'a'), forged,
                            acme().user_token("alice"), acme().issued("files")}) {
    const auto answer = json_of(acme().introspect({{"token", token}}, acme().as_rs()));
    EXPECT_TRUE(answer.at("active").is_boolean()) << answer;
    if (answer.at("active") == Json(false)) {
      EXPECT_EQ(answer.size(), 1u) << answer;
    }
  }
}

TEST(Rfc7662_2_2, I2_I4_WhatIsNotForTheCallerLooksLikeWhatIsNone) {
  const auto nothing = acme().introspect({{"token", "nothing"}}, acme().as_rs());
  EXPECT_EQ(nothing.status, 200);
  EXPECT_EQ(nothing.body, R"({"active":false})");
  for (const auto& token : {acme().issued("search"), acme().user_token("alice")}) {
    const auto reply = acme().introspect({{"token", token}}, acme().as_rs());
    EXPECT_EQ(reply.status, nothing.status);
    EXPECT_EQ(reply.body, nothing.body);
  }
  // Another client of the tenant, though it may use the backend.
  const auto reply = acme().introspect({{"token", acme().issued("files")}},
                                       basic("gw-files", acme().files_secret));
  EXPECT_EQ(reply.body, nothing.body);
}

TEST(Rfc7662_2_2, I4_TheClientThatGotItMayAsk) {
  const auto reply =
      acme().introspect({{"token", acme().issued("search")}}, basic("gw-01", acme().secret));
  EXPECT_EQ(json_of(reply).at("active"), Json(true));
}

TEST(Rfc7662_2_2, AnotherTenantsTokenIsNone) {
  TestTenant other("rfc7662-other");
  const std::string token =
      json_of(other.exchange(other.user_token("alice"), "files")).at("access_token");
  EXPECT_EQ(acme().introspect({{"token", token}}, acme().as_rs()).body, R"({"active":false})");
}

TEST(Rfc7662_2_1, I6_AWrongHintChangesNothing) {
  const auto token = acme().issued("files");
  for (const char* hint : {"access_token", "refresh_token", "nonsense"}) {
    const auto reply =
        acme().introspect({{"token", token}, {"token_type_hint", hint}}, acme().as_rs());
    EXPECT_EQ(json_of(reply).at("active"), Json(true)) << hint;
  }
}

TEST(Rfc7662_2_1, I6_AHintMakesNothingActive) {
  for (const char* hint : {"access_token", "refresh_token", "id_token"}) {
    EXPECT_EQ(acme()
                  .introspect({{"token", acme().user_token("alice")}, {"token_type_hint", hint}},
                              acme().as_rs())
                  .body,
              R"({"active":false})")
        << hint;
  }
}

TEST(Rfc7662_4, I5_WhatIsNotRevokedStaysActive) {
  const auto token = acme().issued("files");
  const auto sibling = acme().issued("files");
  ASSERT_THAT(acme().ask("POST", "/t/rfc7662/revoke",
                         {{"Content-Type", "application/x-www-form-urlencoded"},
                          {"Authorization", basic("gw-01", acme().secret)}},
                         form({{"token", sibling}})),
              HasStatus(200));
  for (int i = 0; i < 3; ++i) {
    const auto reply = acme().introspect({{"token", token}}, acme().as_rs());
    EXPECT_EQ(json_of(reply).at("active"), Json(true));
    EXPECT_EQ(reply.header("Cache-Control"), "no-store");
  }
}

TEST(Rfc7662_4, I5_RevocationIsLookedUpEachTime) {
  const auto token = acme().issued("files");
  const auto ask = [&] { return acme().introspect({{"token", token}}, acme().as_rs()); };
  EXPECT_EQ(json_of(ask()).at("active"), Json(true));
  EXPECT_EQ(json_of(ask()).at("active"), Json(true));
  const auto revoked = acme().ask("POST", "/t/rfc7662/revoke",
                                  {{"Content-Type", "application/x-www-form-urlencoded"},
                                   {"Authorization", basic("gw-01", acme().secret)}},
                                  form({{"token", token}}));
  ASSERT_THAT(revoked, HasStatus(200));
  const auto reply = ask();
  EXPECT_EQ(reply.body, R"({"active":false})");
  EXPECT_EQ(reply.header("Cache-Control"), "no-store");
}

TEST(Rfc9396_9, IntrospectionSaysWhatWasGranted) {
  const std::string asked = R"([{"type":"mcp_tool","identifier":"read_*","actions":["call"]}])";
  const auto reply =
      acme().exchange(acme().user_token("alice"), "files", {{"authorization_details", asked}});
  ASSERT_THAT(reply, HasStatus(200));
  const std::string token = json_of(reply).at("access_token");
  const auto answer = json_of(acme().introspect({{"token", token}}, acme().as_rs()));
  EXPECT_EQ(answer.at("authorization_details"), json_of(reply).at("authorization_details"));
  // And nothing to anybody else.
  EXPECT_EQ(acme()
                .introspect({{"token", token}}, basic("gw-files", acme().files_secret))
                .body.find("read_"),
            std::string::npos);
}

TEST(Rfc8414_2, M4_MetadataNamesTheEndpointsAndHowToAuthenticateThere) {
  const auto document =
      json_of(acme().ask("GET", "/.well-known/oauth-authorization-server/t/rfc7662"));
  const std::string issuer = document.at("issuer");
  for (const std::string what : {"introspection", "revocation"}) {
    EXPECT_EQ(document.at(what + "_endpoint"),
              issuer + (what == "introspection" ? "/introspect" : "/revoke"));
    EXPECT_EQ(document.at(what + "_endpoint_auth_methods_supported"),
              document.at("token_endpoint_auth_methods_supported"));
    EXPECT_EQ(document.contains(what + "_endpoint_auth_signing_alg_values_supported"),
              document.contains("token_endpoint_auth_signing_alg_values_supported"));
  }
}

TEST(Rfc7662_4, EveryQuestionIsRecordedAndNoTokenIs) {
  const auto token = acme().issued("files");
  acme().introspect({{"token", token}}, acme().as_rs());
  bool found = false;
  for (const auto& record : acme().audit("limit=1000&action=token.introspect")) {
    const auto& fields = record.at("event").at("fields");
    found |= fields.value("jti", "") == claims_of(token).at("jti").get<std::string>() &&
             fields.value("active", "") == "true" && fields.value("client", "") == "files-rs";
    EXPECT_THAT(record.dump(), Not(HasSubstr(token.substr(token.rfind('.')))));
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace postern::test
