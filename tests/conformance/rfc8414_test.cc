// Discovery, key set and the REST API as a protected resource: RFC 8414, 7517,
// 6750 and 9457. Rows M, K and B of the checklist.

#include <gtest/gtest.h>

#include <optional>
#include <set>
#include <string>
#include <variant>

#include "app/config.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kMetadata = "/.well-known/oauth-authorization-server/t/rfc8414";

TestTenant& acme() {
  static TestTenant tenant("rfc8414");
  return tenant;
}
Json metadata() { return json_of(acme().ask("GET", kMetadata)); }

TEST(Rfc8414_3, M1_TheWellKnownPathComesBeforeTheIssuersPath) {
  const auto reply = acme().ask("GET", kMetadata);
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(reply.header("Content-Type"), "application/json");
  for (const char* path : {"/.well-known/oauth-authorization-server/t/nobody",
                           "/.well-known/oauth-authorization-server",
                           "/t/rfc8414/.well-known/oauth-authorization-server"}) {
    EXPECT_EQ(acme().ask("GET", path).status, 404) << path;
  }
}

TEST(Rfc8414_3_3, M2_TheIssuerIsByteForByteTheOneInTokens) {
  const std::string issuer = metadata().at("issuer");
  EXPECT_EQ(issuer, "https://sts.example.com/t/rfc8414");
  // Never from the Host header.
  EXPECT_EQ(json_of(acme().ask("GET", kMetadata,
                               {{"X-Forwarded-Host", "evil.example"},
                                {"Forwarded", "host=evil.example;proto=http"}}))
                .at("issuer"),
            issuer);
  const auto token = json_of(acme().exchange(acme().user_token("alice"), "files"));
  EXPECT_EQ(claims_of(token.at("access_token").get<std::string>()).at("iss"), issuer);
}

TEST(Rfc8414_2, M2_NoOtherOriginIsConfigured) {
  for (const char* origin :
       {"http://sts.example.com", "https://sts.example.com/", "https://sts.example.com?x=1",
        "https://sts.example.com#x", "https://sts.example.com/path", "https://", "sts.example.com",
        "ftp://sts.example.com", "https://sts.example.com/?"}) {
    const auto loaded =
        app::load_config("", [&](const std::string& name) -> std::optional<std::string> {
          if (name == "POSTERND_BASE_URL") return origin;
          return std::nullopt;
        });
    const auto* problems = std::get_if<app::ConfigProblems>(&loaded);
    ASSERT_NE(problems, nullptr) << origin;
    EXPECT_THAT(problems->problems, testing::Contains(HasSubstr("base_url: must"))) << origin;
  }
}

TEST(Rfc8414_2, M3_RequiredMembersAreThere) {
  const auto document = metadata();
  const std::string issuer = document.at("issuer");
  EXPECT_EQ(document.at("token_endpoint"), issuer + "/token");
  EXPECT_EQ(document.at("authorization_endpoint"), issuer + "/authorize");
  EXPECT_EQ(document.at("jwks_uri"), issuer + "/jwks");
  EXPECT_THAT(document.at("response_types_supported").dump(), HasSubstr("code"));
  EXPECT_THAT(document.at("code_challenge_methods_supported").dump(), HasSubstr("S256"));
}

TEST(Rfc8414_2, M4_NoAlgorithmIsNamedForAMethodThatIsNotOffered) {
  const auto document = metadata();
  const auto methods = document.at("token_endpoint_auth_methods_supported").dump();
  if (methods.find("private_key_jwt") == methods.npos) {
    EXPECT_FALSE(document.contains("token_endpoint_auth_signing_alg_values_supported"));
  }
  EXPECT_THAT(methods, HasSubstr("client_secret_basic"));
  EXPECT_THAT(methods, HasSubstr("client_secret_post"));
  EXPECT_THAT(methods, Not(HasSubstr("none")));
}

TEST(Rfc8414_3_2, M5_EmptyArraysAreLeftOut) {
  auto& service = shared_service();
  ASSERT_THAT(service.as_operator("PUT", "/api/v1/tenants/bare/manifest", {{"tenant", "bare"}}),
              HasStatus(201));
  const auto document =
      json_of(service.ask("GET", "/.well-known/oauth-authorization-server/t/bare"));
  for (const auto& [name, value] : document.items()) {
    EXPECT_FALSE(value.is_array() && value.empty()) << name;
  }
}

TEST(Rfc8414_2, M6_WhatIsOfferedIsListed) {
  const auto grants = metadata().at("grant_types_supported").dump();
  EXPECT_THAT(grants, HasSubstr("urn:ietf:params:oauth:grant-type:token-exchange"));
  EXPECT_THAT(grants, HasSubstr("client_credentials"));
  EXPECT_THAT(grants, Not(HasSubstr("authorization_code")));
  EXPECT_THAT(metadata().at("scopes_supported").dump(), HasSubstr("files:read"));
}

TEST(Rfc8414_3, M7_ThereIsNoOpenIdConfiguration) {
  for (const char* path :
       {"/.well-known/openid-configuration", "/.well-known/openid-configuration/t/rfc8414",
        "/t/rfc8414/.well-known/openid-configuration"}) {
    const auto reply = acme().ask("GET", path);
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_EQ(reply.header("Location"), "(none)") << path;
  }
}

TEST(Rfc8414_3, M8_DocumentsMayBeCachedAndReadByBrowsers) {
  for (const char* path : {kMetadata, "/t/rfc8414/jwks"}) {
    const auto reply = acme().ask("GET", path, {{"Origin", "https://app.example"}});
    EXPECT_EQ(reply.header("Cache-Control"), "public, max-age=300") << path;
    EXPECT_EQ(reply.header("Access-Control-Allow-Origin"), "*") << path;
  }
  for (const auto& reply :
       {acme().token(acme().exchange_fields(acme().user_token("alice"), "files")),
        acme().ask("GET", "/t/rfc8414/authorize"), acme().api("GET", "", acme().admin)}) {
    EXPECT_EQ(reply.header("Access-Control-Allow-Origin"), "(none)");
  }
}

TEST(Rfc8414_3, M9_TheAuthorizationEndpointNeverRedirects) {
  const auto reply = acme().ask(
      "GET",
      "/t/rfc8414/authorize?response_type=code&client_id=gw-01&redirect_uri=https%3A%2F%2F"
      "evil.example&state=%3Cscript%3E");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.header("Location"), "(none)");
  EXPECT_THAT(reply.body, Not(HasSubstr("evil")));
  EXPECT_THAT(reply.body, Not(HasSubstr("script")));
  EXPECT_EQ(reply.header("Cache-Control"), "no-store");
}

TEST(Rfc7517_5, K1_TheKeySetHasPublicKeysWithAllTheirMembers) {
  TestTenant tenant("keys");
  tenant.part("backends", "files")["signing_algorithm"] = "RS256";
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto reply = tenant.ask("GET", "/t/keys/jwks");
  EXPECT_THAT(reply.header("Content-Type"), HasSubstr("json"));
  std::set<std::string> kids, algorithms;
  const auto keys = json_of(reply, "keys");
  for (const auto& key : keys) {
    EXPECT_TRUE(kids.insert(key.at("kid")).second);
    algorithms.insert(key.at("alg"));
    EXPECT_EQ(key.at("use"), "sig");
    for (const char* member : {"d", "p", "q", "dp", "dq", "qi", "k"}) {
      EXPECT_FALSE(key.contains(member)) << key;
    }
    // The kid is the thumbprint (RFC 7638): anybody can check it.
    EXPECT_EQ(key.at("kid").get<std::string>().size(), 43u);
  }
  EXPECT_EQ(algorithms, (std::set<std::string>{"ES256", "EdDSA", "RS256"}));
  // Another tenant's keys are others.
  for (const auto& key : json_of(acme().ask("GET", "/t/rfc8414/jwks"), "keys")) {
    EXPECT_FALSE(kids.contains(key.at("kid")));
  }
}

// ---- the REST API as a resource (RFC 6750) ----

TEST(Rfc6750_3, B1_WhoSendsNothingIsAskedForABearerTokenWithoutAnErrorCode) {
  for (const char* path : {"", "/manifest", "/credentials", "/audit"}) {
    const auto reply = acme().api("GET", path, "");
    EXPECT_THAT(reply, IsProblem(401, "unauthenticated")) << path;
    const auto challenge = reply.header("WWW-Authenticate");
    EXPECT_TRUE(challenge.starts_with("Bearer")) << challenge;
    EXPECT_THAT(challenge, Not(HasSubstr("error")));
  }
}

TEST(Rfc6750_3_1, B1_WhoSendsABadTokenIsToldSo) {
  const auto reply = acme().api("GET", "/credentials", "garbage");
  EXPECT_THAT(reply, IsProblem(401, "unauthenticated"));
  EXPECT_THAT(reply.header("WWW-Authenticate"), HasSubstr("error=\"invalid_token\""));
  EXPECT_THAT(acme().api("GET", "/manifest", acme().user_token("alice")),
              IsProblem(403, "forbidden"));
}

TEST(Rfc6750_3, B1_AClientIsAskedForBasic) {
  const auto reply =
      acme().release(acme().user_token("alice"), {{{"backend", "files"}}}, basic("gw-01", "wrong"));
  EXPECT_THAT(reply, IsProblem(401, "invalid-client"));
  EXPECT_EQ(reply.header("WWW-Authenticate"), "Basic realm=\"rfc8414\", charset=\"UTF-8\"");
}

TEST(Rfc6750_2_3, B2_ATokenInTheQueryIsNotRead) {
  EXPECT_THAT(acme().ask("GET", "/api/v1/tenants/rfc8414?access_token=" + acme().admin),
              IsProblem(401, "unauthenticated"));
}

TEST(Rfc9457_3, B4_ProblemsSayTypeTitleStatusAndDetail) {
  const auto reply = acme().api("PUT", "/credentials/github", acme().user_token("alice"),
                                {{"fields", {{"token", 1}}}});
  ASSERT_THAT(reply, IsProblem(400, "malformed-request"));
  const auto problem = json_of(reply);
  EXPECT_TRUE(problem.at("type").get<std::string>().starts_with("urn:postern:problem:"));
  EXPECT_EQ(problem.at("status"), 400);
  EXPECT_FALSE(problem.at("title").get<std::string>().empty());
  EXPECT_FALSE(problem.at("detail").get<std::string>().empty());
  EXPECT_EQ(problem.at("pointer"), "/fields");
  for (const auto& [name, value] : problem.items()) EXPECT_GE(name.size(), 3u);
}

}  // namespace
}  // namespace postern::test
