// Discovery (RFC 8414). Rows M of docs/conformance.md.

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
  EXPECT_EQ(json_of(reply).at("issuer"), "https://sts.example.com/t/rfc8414");
}

TEST(Rfc8414_3, M1_UnknownTenantsAndOtherPathsAre404) {
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

TEST(Rfc8414_2, M3_NoTenantsMetadataLacksARequiredMember) {
  auto& service = shared_service();
  ASSERT_THAT(service.as_operator("PUT", "/api/v1/tenants/empty/manifest", {{"tenant", "empty"}}),
              HasStatus(201));
  const auto document =
      json_of(service.ask("GET", "/.well-known/oauth-authorization-server/t/empty"));
  for (const char* member : {"issuer", "authorization_endpoint", "token_endpoint", "jwks_uri",
                             "response_types_supported", "code_challenge_methods_supported",
                             "grant_types_supported", "token_endpoint_auth_methods_supported"}) {
    EXPECT_TRUE(document.contains(member)) << member;
  }
  // What is named there is of that tenant alone.
  for (const auto& [name, value] : document.items()) {
    if (!value.is_string()) continue;
    EXPECT_TRUE(value.get<std::string>().starts_with("https://sts.example.com/t/empty")) << name;
  }
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

TEST(Rfc8414_3_2, M5_ArraysWithElementsAreThere) {
  const auto document = metadata();
  int arrays = 0;
  for (const auto& [name, value] : document.items()) arrays += value.is_array() ? 1 : 0;
  EXPECT_GE(arrays, 9);
  EXPECT_EQ(document.at("scopes_supported"),
            Json({"files:read", "files:write", "repo:read", "repo:write"}));
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
  EXPECT_FALSE(document.contains("scopes_supported"));
}

TEST(Rfc8414_2, M6_WhatIsOfferedIsListed) {
  const auto grants = metadata().at("grant_types_supported").dump();
  EXPECT_THAT(grants, HasSubstr("urn:ietf:params:oauth:grant-type:token-exchange"));
  EXPECT_THAT(grants, HasSubstr("client_credentials"));
  EXPECT_THAT(metadata().at("scopes_supported").dump(), HasSubstr("files:read"));
}

TEST(Rfc8414_2, M6_WhatIsNotOfferedIsNotListed) {
  const auto grants = metadata().at("grant_types_supported").dump();
  for (const char* grant : {"authorization_code", "implicit", "password", "refresh_token",
                            "device_code", "jwt-bearer", "saml2-bearer"}) {
    EXPECT_THAT(grants, Not(HasSubstr(grant)));
  }
  const auto methods = metadata().at("token_endpoint_auth_methods_supported").dump();
  for (const char* method : {"none", "client_secret_jwt", "tls_client_auth"}) {
    EXPECT_THAT(methods, Not(HasSubstr(method)));
  }
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
}

TEST(Rfc8414_3, M8_NothingElseIsCachedOrReadByBrowsers) {
  for (const auto& reply :
       {acme().token(acme().exchange_fields(acme().user_token("alice"), "files")),
        acme().ask("GET", "/t/rfc8414/authorize"), acme().api("GET", "", acme().admin)}) {
    EXPECT_EQ(reply.header("Access-Control-Allow-Origin"), "(none)");
    EXPECT_EQ(reply.header("Cache-Control"), "no-store");
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

}  // namespace
}  // namespace postern::test
