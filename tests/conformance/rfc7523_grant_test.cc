// Assertions as grants, on the wire (RFC 7523 §2.1). ID-JAGs are in id_jag_test.cc;
// what the grant decides is in unit/grants/jwt_bearer_test.cc.

#include <gtest/gtest.h>

#include <future>
#include <string>
#include <vector>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

constexpr const char* kJwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer";
constexpr const char* kFiles = "https://files.example.com/mcp";

struct Rfc7523 : testing::Test {
  static TestTenant& acme() {
    static TestTenant tenant("rfc7523");
    static const bool ready = [] {
      tenant.part("clients", "gw-01")["grants"] = {"token-exchange", "jwt-bearer"};
      tenant.part("issuers", "corp")["token_types"] = {"access_token", "jwt", "jwt_bearer",
                                                       "id_jag"};
      EXPECT_THAT(tenant.apply(), HasStatus(200));
      return true;
    }();
    EXPECT_TRUE(ready);
    return tenant;
  }
  static Json claims() {
    static int number = 0;
    auto claims = acme().claims("alice");
    claims["aud"] = std::string(kBaseUrlOfTests) + "/t/rfc7523";
    claims["jti"] = "wire-" + std::to_string(++number);
    return claims;
  }
  static Pairs fields(const std::string& assertion, const Pairs& more = {}) {
    Pairs all{{"grant_type", kJwtBearer}, {"assertion", assertion}};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  static WireReply ask(const std::string& assertion, const Pairs& more = {}) {
    return acme().token(fields(assertion, more));
  }
};

TEST_F(Rfc7523, AnAssertionIsAGrant) {
  const auto reply = ask(acme().idp.sign(claims()), {{"audience", "files"}});
  ASSERT_THAT(reply, HasStatus(200));
  const auto json = json_of(reply);
  EXPECT_EQ(json.at("token_type"), "Bearer");
  EXPECT_FALSE(json.contains("issued_token_type"));
  EXPECT_FALSE(json.contains("refresh_token"));
  const auto issued = claims_of(json.at("access_token").get<std::string>());
  EXPECT_EQ(issued.at("aud"), kFiles);
  EXPECT_EQ(issued.at("sub"), "alice");
  const auto record = acme().audit().back().at("event");
  EXPECT_EQ(record.at("action"), "token.jwt_bearer");
  EXPECT_EQ(record.dump().find("eyJ"), std::string::npos);
}

TEST_F(Rfc7523, EveryFailureIsInvalidGrant) {
  auto expired = claims();
  expired["exp"] = seconds_of(SystemClock().now() - 1s);
  auto elsewhere = claims();
  elsewhere["aud"] = "gw-01";
  const Idp impostor(acme().idp.issuer());
  for (const auto& assertion :
       {std::string("garbage"), acme().idp.sign(expired), acme().idp.sign(elsewhere),
        impostor.sign(claims()), acme().idp.sign(claims(), "at+jwt"),
        acme().idp.sign(claims(), "oauth-id-jag+jwt")}) {
    EXPECT_THAT(ask(assertion, {{"audience", "files"}}), IsOAuthError(400, "invalid_grant"));
  }
  EXPECT_THAT(acme().token({{"grant_type", kJwtBearer}}), IsOAuthError(400, "invalid_request"));
  const auto twice = fields(acme().idp.sign(claims()), {{"assertion", "x"}});
  EXPECT_THAT(acme().token(twice), IsOAuthError(400, "invalid_request"));
}

TEST_F(Rfc7523, Rfc7523_3_1_WrongCredentialsSpoilAGoodAssertion) {
  const auto assertion = acme().idp.sign(claims());
  EXPECT_THAT(acme().token(fields(assertion, {{"audience", "files"}}), basic("gw-01", "wrong")),
              IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(acme().token(fields(assertion, {{"audience", "files"}}),
                           basic("gw-files", acme().files_secret)),
              IsOAuthError(400, "unauthorized_client"));
  EXPECT_THAT(ask(assertion, {{"audience", "files"}}), HasStatus(200));  // still good
}

TEST_F(Rfc7523, Rfc7523_3_1_ValidCredentialsOfEitherKindWillDo) {
  const Pairs target{{"audience", "files"}};
  EXPECT_THAT(acme().token(fields(acme().idp.sign(claims()), target)), HasStatus(200));
  auto in_the_body = fields(acme().idp.sign(claims()), target);
  in_the_body.emplace_back("client_id", "gw-01");
  in_the_body.emplace_back("client_secret", acme().secret);
  EXPECT_THAT(acme().token(in_the_body, ""), HasStatus(200));
}

TEST_F(Rfc7523, OfManyAtOnceOneIsFirst) {
  const auto assertion = acme().idp.sign(claims());
  std::vector<std::future<int>> asked;
  for (int i = 0; i < 8; ++i) {
    asked.push_back(std::async(std::launch::async, [&] {
      return ask(assertion, {{"audience", "files"}}).status;
    }));
  }
  int granted = 0;
  for (auto& each : asked) granted += each.get() == 200 ? 1 : 0;
  EXPECT_EQ(granted, 1);
  EXPECT_THAT(ask(assertion, {{"audience", "files"}}), IsOAuthError(400, "invalid_grant"));
}

TEST_F(Rfc7523, Rfc7523_2_1_TheMetadataNamesTheGrantWhereAClientHasIt) {
  const auto grants = [](const std::string& tenant) {
    return json_of(acme().ask("GET", "/.well-known/oauth-authorization-server/t/" + tenant))
        .at("grant_types_supported")
        .dump();
  };
  EXPECT_NE(grants("rfc7523").find(kJwtBearer), std::string::npos);
  TestTenant without("rfc7523-without");
  EXPECT_EQ(grants("rfc7523-without").find(kJwtBearer), std::string::npos);
}

}  // namespace
}  // namespace postern::test
