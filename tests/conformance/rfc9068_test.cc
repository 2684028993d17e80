// The access tokens that are issued, on the wire (RFC 9068). Rows J and TV9; what
// holds for every grant is in rfc9068_access_token_test.cc.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "core/secret.h"
#include "crypto/base64url.h"
#include "support/service_fixture.h"
#include "token/jws.h"

namespace postern::test {
namespace {

/// Claims of what was issued; fails the test when nothing was.
Json issued(const WireReply& reply) {
  EXPECT_THAT(reply, HasStatus(200));
  return reply.status == 200 ? claims_of(json_of(reply).at("access_token").get<std::string>())
                             : Json::object();
}

TestTenant& acme() {
  static TestTenant tenant("rfc9068");
  return tenant;
}

TEST(Rfc9068_2, J1_J2_J4_J7_ATokenHasWhatABackendChecks) {
  const auto reply = acme().exchange(acme().user_token("alice"), "files");
  const auto compact = json_of(reply).at("access_token").get<std::string>();
  const auto header = header_of(compact);
  EXPECT_EQ(header.at("typ"), "at+jwt");
  EXPECT_EQ(header.at("alg"), "ES256");
  const auto jwks = json_of(acme().ask("GET", "/t/rfc9068/jwks"));
  const auto claims = verified_claims(compact, jwks);
  for (const char* name : {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"}) {
    EXPECT_TRUE(claims.contains(name)) << name;
  }
  EXPECT_TRUE(claims.at("aud").is_string());
  const auto metadata =
      json_of(acme().ask("GET", "/.well-known/oauth-authorization-server/t/rfc9068"));
  EXPECT_EQ(claims.at("iss"), metadata.at("issuer"));
  EXPECT_GE(claims.at("jti").get<std::string>().size(), 22u);  // 128 bits
  for (const char* name : {"email", "name", "groups", "preferred_username"}) {
    EXPECT_FALSE(claims.contains(name)) << name;
  }
}

TEST(Rfc9068_2_2_1, J3_HowTheUserSignedInIsPassedOn) {
  auto claims = acme().claims("alice");
  claims["auth_time"] = seconds_of(SystemClock().now() - 100s);
  claims["acr"] = "urn:acr:gold";
  claims["amr"] = {"pwd", "otp"};
  claims["email"] = "alice@example.com";
  const auto token = issued(acme().exchange(acme().idp.sign(claims), "files"));
  EXPECT_EQ(token.at("auth_time"), claims["auth_time"]);
  EXPECT_EQ(token.at("acr"), "urn:acr:gold");
  EXPECT_EQ(token.at("amr"), claims["amr"]);
  EXPECT_FALSE(token.contains("email"));
}

TEST(Rfc9068_3, J6_EachTargetHasItsOwnAudienceAndScope) {
  const auto alice = acme().user_token("alice");
  const auto files = issued(acme().exchange(alice, "files"));
  const auto search = issued(acme().exchange(alice, "search"));
  EXPECT_NE(files.at("aud"), search.at("aud"));
  EXPECT_FALSE(search.contains("scope"));
}

TEST(Rfc9068_2_2_1, J3_WhatTheUsersTokenDoesNotSayIsNotMadeUp) {
  auto unusable = acme().claims("alice");
  unusable["auth_time"] = "soon";
  unusable["acr"] = 7;
  unusable["amr"] = "pwd";
  for (const auto& claims : {acme().claims("alice"), unusable}) {
    const auto token = issued(acme().exchange(acme().idp.sign(claims), "search"));
    for (const char* name : {"auth_time", "acr", "amr", "scope"}) {
      EXPECT_FALSE(token.contains(name)) << name;
    }
  }
}

TEST(Rfc9068_2, J4_NoTokenIsForSeveralTargetsOrNone) {
  const auto alice = acme().user_token("alice");
  EXPECT_THAT(acme().exchange(alice, "files", {{"audience", "search"}}),
              IsOAuthError(400, "invalid_target"));
  auto fields = acme().exchange_fields(alice, "files");
  std::erase_if(fields, [](const auto& field) { return field.first == "audience"; });
  EXPECT_THAT(acme().token(fields), IsOAuthError(400, "invalid_target"));
  for (const char* audience : {"files", "docs", "https://files.example.com/mcp/"}) {
    EXPECT_EQ(issued(acme().exchange(alice, audience)).at("aud"), "https://files.example.com/mcp");
  }
}

TEST(Rfc9068_2, J5_WhoActsIsNamedAndNothingPersonalIsPassedOn) {
  auto claims = acme().claims("alice");
  for (const char* name : {"email", "name", "given_name", "preferred_username", "phone_number",
                           "address", "picture", "groups"}) {
    if (!claims.contains(name)) claims[name] = "personal";
  }
  const auto token = issued(acme().exchange(acme().idp.sign(claims), "files",
                                            {{"actor_token", acme().user_token("agent")},
                                             {"actor_token_type", TestTenant::kAccessToken}}));
  EXPECT_EQ(token.at("act").at("sub"), "agent");
  EXPECT_EQ(token.dump().find("personal"), std::string::npos) << token;
  EXPECT_FALSE(token.contains("groups"));
}

TEST(Rfc9068_2_1, J8_EachBackendMayChooseItsAlgorithm) {
  TestTenant tenant("algorithms");
  for (const char* name : {"RS256", "EdDSA", "ES256"}) {
    tenant.manifest["backends"].push_back(
        {{"name", std::string("b-") + (name[0] == 'R'   ? "rs"
                                       : name[1] == 'd' ? "ed"
                                                        : "es")},
         {"audience", std::string("https://") + name + ".example/"},
         {"signing_algorithm", name}});
  }
  tenant.manifest["roles"][0]["allow"].push_back("*:*");
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto jwks = json_of(tenant.ask("GET", "/t/algorithms/jwks"));
  for (const auto& [backend, algorithm] :
       Pairs{{"b-rs", "RS256"}, {"b-ed", "EdDSA"}, {"b-es", "ES256"}}) {
    const auto compact = json_of(tenant.exchange(tenant.user_token("alice"), backend))
                             .at("access_token")
                             .get<std::string>();
    EXPECT_EQ(header_of(compact).at("alg"), algorithm);
    EXPECT_EQ(verified_claims(compact, jwks).at("sub"), "alice");
  }
}

TEST(Rfc8037, TV9_ADeterministicAccessToken) {
  const auto seed = must(crypto::base64url_decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"));
  const auto key = must(crypto::SigningKey::import_private(
      crypto::Algorithm::EdDSA, PrivateKey(SecureBuffer::copy_of(ByteView(seed)))));
  const std::string kid = token::public_jwk(key).at("kid");
  EXPECT_EQ(kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
  const Json claims{{"act", {{"sub", "gw-01"}}},
                    {"aud", "https://files.example.com/mcp"},
                    {"client_id", "gw-01"},
                    {"exp", 1790000300},
                    {"iat", 1790000000},
                    {"iss", "https://sts.example.com/t/acme"},
                    {"jti", "0001"},
                    {"scope", "files:read"},
                    {"sub", "user-42"}};
  EXPECT_EQ(token::sign_jwt(key, kid, "at+jwt", claims),
            "eyJhbGciOiJFZERTQSIsImtpZCI6ImtQcktfcW14VldhWVZBOXd3QkY2SXVvM3ZWeno3VHhIQ1R3WEJ5Z3JT"
            "NGsiLCJ0eXAiOiJhdCtqd3QifQ.eyJhY3QiOnsic3ViIjoiZ3ctMDEifSwiYXVkIjoiaHR0cHM6Ly9maWxlcy"
            "5leGFtcGxlLmNvbS9tY3AiLCJjbGllbnRfaWQiOiJndy0wMSIsImV4cCI6MTc5MDAwMDMwMCwiaWF0IjoxNzk"
            "wMDAwMDAwLCJpc3MiOiJodHRwczovL3N0cy5leGFtcGxlLmNvbS90L2FjbWUiLCJqdGkiOiIwMDAxIiwic2Nv"
            "cGUiOiJmaWxlczpyZWFkIiwic3ViIjoidXNlci00MiJ9.1cufeCwnumnvYFYdRbacVl9NMyTjdEiwTPxA_5rW"
            "o7TJZYP8TGrl4Jr1emz1c2d-uAk9FCeUIayXTE0Bkcm_Dg");
}

}  // namespace
}  // namespace postern::test
