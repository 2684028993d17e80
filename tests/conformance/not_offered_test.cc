// What the standards have and Postern has not: whoever asks for it is told so, and no
// metadata claims it. The last table of docs/conformance.md; RFC 8705's aliases are in
// rfc8705_test.cc.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kTypes = "urn:ietf:params:oauth:token-type:";

/// With clients of every grant, and one that registers itself.
TestTenant& acme() {
  static TestTenant tenant("not-offered");
  static const bool ready = [] {
    tenant.part("clients", "gw-01")["grants"] = {"token-exchange", "client_credentials",
                                                 "jwt-bearer"};
    tenant.part("issuers", "corp")["token_types"] = {"access_token", "jwt", "jwt_bearer", "id_jag"};
    tenant.manifest["settings"]["registration"] = {{"dynamic", true},
                                                   {"authentication", {"client_secret"}},
                                                   {"backends", {"files"}},
                                                   {"scopes", {"*"}}};
    EXPECT_THAT(tenant.apply(), HasStatus(200));
    return true;
  }();
  EXPECT_TRUE(ready);
  return tenant;
}
std::string metadata() {
  return acme().ask("GET", "/.well-known/oauth-authorization-server/t/not-offered").body;
}
WireReply exchange_of(const std::string& subject_type, const std::string& requested = {}) {
  auto fields = acme().exchange_fields(acme().user_token("alice"), "files");
  for (auto& [name, value] : fields) {
    if (name == "subject_token_type") value = kTypes + subject_type;
  }
  if (!requested.empty()) fields.emplace_back("requested_token_type", kTypes + requested);
  return acme().token(fields);
}
std::string assertion(const char* claim = "jti", const Json& value = "not-offered-1") {
  auto claims = acme().claims("alice");
  claims["aud"] = "https://sts.example.com/t/not-offered";
  claims[claim] = value;
  return acme().idp.sign(claims);
}

TEST(NotOffered, TypeRefreshToken_IsNeitherTakenNorIssued) {
  EXPECT_THAT(exchange_of("refresh_token"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(exchange_of("access_token", "refresh_token"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().token({{"grant_type", "refresh_token"}, {"refresh_token", "x"}}),
              IsOAuthError(400, "unsupported_grant_type"));
  EXPECT_THAT(metadata(), Not(HasSubstr("refresh_token")));
}

TEST(NotOffered, TypeSaml_IsNeitherTakenNorIssued) {
  for (const char* type : {"saml1", "saml2"}) {
    EXPECT_THAT(exchange_of(type), IsOAuthError(400, "invalid_request")) << type;
    EXPECT_THAT(exchange_of("access_token", type), IsOAuthError(400, "invalid_request")) << type;
  }
  EXPECT_THAT(acme().token({{"grant_type", "urn:ietf:params:oauth:grant-type:saml2-bearer"},
                            {"assertion", "PHNhbWw+"}}),
              IsOAuthError(400, "unsupported_grant_type"));
  EXPECT_THAT(acme().token({{"grant_type", "client_credentials"},
                            {"client_assertion_type",
                             "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"},
                            {"client_assertion", "PHNhbWw+"}},
                           ""),
              IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(metadata(), Not(HasSubstr("saml")));
}

TEST(NotOffered, IdJagIssuing_IsLeftToIdentityProviders) {
  EXPECT_THAT(exchange_of("access_token", "id-jag"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(exchange_of("id_token", "id-jag"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(metadata(), Not(HasSubstr("identity_chaining_requested_token_types_supported")));
}

TEST(NotOffered, Wif_AWorkloadsTokenIsNoGrantWithoutAClient) {
  const Pairs fields{{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"},
                     {"assertion", assertion("jti", "wif-1")},
                     {"audience", "files"}};
  EXPECT_THAT(acme().token(fields, ""), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(acme().token(fields), HasStatus(200)) << "with one it is";
}

TEST(NotOffered, Chaining_NoTokenIsIssuedForAnotherDomain) {
  auto fields = acme().exchange_fields(acme().user_token("alice"), "files");
  std::erase_if(fields, [](const auto& field) { return field.first == "audience"; });
  for (const auto& [name, value] : Pairs{{"resource", "https://elsewhere.example/mcp"},
                                         {"audience", "https://as.elsewhere.example"}}) {
    auto asked = fields;
    asked.emplace_back(name, value);
    asked.emplace_back("requested_token_type", std::string(kTypes) + "jwt");
    EXPECT_THAT(acme().token(asked), IsOAuthError(400, "invalid_target")) << value;
  }
  // For a backend of the tenant it is an access token, not one of `N_A`.
  EXPECT_EQ(json_of(exchange_of("access_token", "jwt"), "token_type"), "Bearer");
}

TEST(Rfc7636_4, NoCodeIsIssuedWithOrWithoutAChallenge) {
  for (const char* query :
       {"", "?response_type=code&client_id=gw-01",
        "?response_type=code&client_id=gw-01&code_challenge_method=S256&code_challenge="
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&redirect_uri=https%3A%2F%2Fapp.example%"
        "2Fcb"}) {
    const auto reply = acme().ask("GET", std::string("/t/not-offered/authorize") + query);
    EXPECT_EQ(reply.status, 400) << query;
    EXPECT_EQ(reply.header("Location"), "(none)") << query;
    EXPECT_THAT(reply.body, HasSubstr("issues no authorization codes")) << query;
  }
}

TEST(Rfc7636_4_5, NoCodeIsTaken) {
  EXPECT_THAT(acme().token({{"grant_type", "authorization_code"},
                            {"code", "SplxlOBeZQQYbYS6WxSbIA"},
                            {"code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"},
                            {"redirect_uri", "https://app.example/cb"}}),
              IsOAuthError(400, "unsupported_grant_type"));
  EXPECT_THAT(metadata(), Not(HasSubstr("authorization_code")));
}

TEST(Rfc9207_3, NoIssuerIsPromisedForResponsesThatThereAreNot) {
  EXPECT_THAT(metadata(), Not(HasSubstr("authorization_response_iss_parameter_supported")));
}

TEST(Rfc9700_4_14, NoAnswerHasARefreshToken) {
  const std::vector<WireReply> answers{
      acme().exchange(acme().user_token("alice"), "files"),
      acme().exchange(acme().user_token("alice"), "files",
                      {{"scope", "files:read offline_access"}}),
      acme().token({{"grant_type", "client_credentials"}, {"audience", "files"}}),
      acme().token({{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"},
                    {"assertion", assertion("jti", "refresh-1")},
                    {"audience", "files"}})};
  for (const auto& answer : answers) {
    ASSERT_THAT(answer, HasStatus(200));
    EXPECT_FALSE(json_of(answer).contains("refresh_token"));
  }
}

TEST(Rfc9700_2_1, NoRedirectIsRegisteredOrFollowed) {
  const std::string token =
      json_of(acme().api("POST", "/initial-access-tokens", acme().admin, Json::object()))
          .at("token");
  const auto reply =
      acme().ask("POST", "/t/not-offered/register",
                 {{"Authorization", bearer(token)}, {"Content-Type", "application/json"}},
                 Json{{"redirect_uris", {"https://app.example/cb"}}}.dump());
  ASSERT_THAT(reply, HasStatus(201));
  const auto registered = json_of(reply);
  EXPECT_FALSE(registered.contains("redirect_uris"));
  EXPECT_EQ(registered.at("response_types"), Json::array());
  const auto asked = acme().ask("GET", "/t/not-offered/authorize?response_type=code&client_id=" +
                                           registered.at("client_id").get<std::string>() +
                                           "&redirect_uri=https%3A%2F%2Fapp.example%2Fcb");
  EXPECT_EQ(asked.status, 400);
  EXPECT_EQ(asked.header("Location"), "(none)");
}

TEST(Rfc8935_2, NoSecurityEventIsReceived) {
  auto claims = acme().claims("alice");
  claims["events"] = {
      {"https://schemas.openid.net/secevent/caep/event-type/session-revoked", Json::object()}};
  const auto set = acme().idp.sign(claims, "secevent+jwt");
  const Pairs headers{{"Content-Type", "application/secevent+jwt"},
                      {"Authorization", basic("gw-01", acme().secret)}};
  for (const char* path : {"/t/not-offered/events", "/t/not-offered/ssf/events",
                           "/t/not-offered/secevent", "/api/v1/tenants/not-offered/events"}) {
    EXPECT_THAT(acme().ask("POST", path, headers, set), HasStatus(404)) << path;
  }
  for (const char* path :
       {"/.well-known/ssf-configuration", "/.well-known/ssf-configuration/t/not-offered"}) {
    EXPECT_THAT(acme().ask("GET", path), HasStatus(404)) << path;
  }
}

TEST(Rfc8417_2, ASecurityEventTokenIsNoTokenOfAUser) {
  auto claims = acme().claims("alice");
  claims["events"] = {{"urn:example:event", Json::object()}};
  const auto set = acme().idp.sign(claims, "secevent+jwt");
  EXPECT_THAT(acme().exchange(set, "files"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().api("GET", "/credentials", set), IsProblem(401, "unauthenticated"));
}

}  // namespace
}  // namespace postern::test
