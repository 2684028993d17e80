// What the authorization chapter of the Model Context Protocol asks of an
// authorization server beyond the standards that it builds on.

#include <gtest/gtest.h>

#include <string>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kFiles = "https://files.example.com/mcp";

TestTenant& acme() {
  static TestTenant tenant("mcp");
  return tenant;
}
std::string issued(std::string_view audience) {
  return json_of(acme().exchange(acme().user_token("alice"), audience)).at("access_token");
}

TEST(Mcp, Resource_DecidesTheAudience) {
  auto fields = acme().exchange_fields(acme().user_token("alice"), "files");
  std::erase_if(fields, [](const auto& field) { return field.first == "audience"; });
  fields.emplace_back("resource", kFiles);
  const auto reply = acme().token(fields);
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(claims_of(json_of(reply, "access_token").get<std::string>()).at("aud"), kFiles);
}

TEST(Mcp, Resource_AnUnknownOrMalformedOneIsRefused) {
  for (const char* resource :
       {"https://nowhere.example/mcp", "https://files.example.com/mcp/other", "files/mcp",
        "https://files.example.com/mcp#x", "https://files.example.com.evil.example/mcp"}) {
    auto fields = acme().exchange_fields(acme().user_token("alice"), "files");
    std::erase_if(fields, [](const auto& field) { return field.first == "audience"; });
    fields.emplace_back("resource", resource);
    EXPECT_THAT(acme().token(fields), IsOAuthError(400, "invalid_target")) << resource;
  }
}

TEST(Mcp, Passthrough_TheBackendGetsATokenOfItsOwn) {
  const auto user = acme().user_token("alice");
  const std::string token = json_of(acme().exchange(user, "files")).at("access_token");
  EXPECT_NE(token, user);
  EXPECT_THAT(token, Not(HasSubstr(user)));
  EXPECT_EQ(claims_of(token).at("aud"), kFiles);
  EXPECT_NE(claims_of(token).at("iss"), claims_of(user).at("iss"));
}

TEST(Mcp, Passthrough_ATokenForOneServerIsNoneAtAnother) {
  // At our own API, as a subject token of a gateway that it is not for, and one of
  // the user's that was made for somebody else.
  EXPECT_THAT(acme().api("GET", "/credentials", issued("files")),
              IsProblem(401, "unauthenticated"));
  const auto fields = acme().exchange_fields(issued("search"), "files");
  EXPECT_THAT(acme().token(fields, basic("gw-files", acme().files_secret)),
              IsOAuthError(400, "invalid_request"));
  auto elsewhere = acme().claims("alice");
  elsewhere["aud"] = kFiles;
  EXPECT_THAT(acme().exchange(acme().idp.sign(elsewhere), "files"),
              IsOAuthError(400, "invalid_request"));
}

TEST(Mcp, StepUp_WithTheScopesThatWereNamedTheRequestSucceeds) {
  TestTenant tenant("mcp-step-up");
  tenant.manifest["settings"]["api_scopes"] = {"vault:use", "vault:read"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  auto claims = tenant.claims("alice");
  claims["scope"] = "vault:read vault:use";
  EXPECT_THAT(tenant.api("GET", "/credentials", tenant.idp.sign(claims)), HasStatus(200));
}

TEST(Mcp, StepUp_WhoLacksOneIsToldAllThatAreNeeded) {
  TestTenant tenant("mcp-too-little");
  tenant.manifest["settings"]["api_scopes"] = {"vault:use", "vault:read"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  auto claims = tenant.claims("alice");
  claims["scope"] = "vault:read";
  const auto refused = tenant.api("GET", "/credentials", tenant.idp.sign(claims));
  EXPECT_EQ(refused.status, 403);
  EXPECT_THAT(refused.header("WWW-Authenticate"),
              HasSubstr(R"(error="insufficient_scope", scope="vault:read vault:use", )"));
}

TEST(Mcp, Issuer_IsTheOneThatTheMetadataWasAskedFor) {
  // Inserted before the path, as clients do with a path issuer.
  const std::string issuer = "https://sts.example.com/t/mcp";
  EXPECT_EQ(
      json_of(acme().ask("GET", "/.well-known/oauth-authorization-server/t/mcp")).at("issuer"),
      issuer);
  EXPECT_EQ(claims_of(issued("files")).at("iss"), issuer);
}

TEST(Mcp, Issuer_NoRequestChangesIt) {
  for (const char* header : {"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix",
                             "X-Original-URL", "Origin"}) {
    const auto reply = acme().ask("GET", "/.well-known/oauth-authorization-server/t/mcp",
                                  {{header, "evil.example"}});
    EXPECT_EQ(json_of(reply).at("issuer"), "https://sts.example.com/t/mcp") << header;
    EXPECT_THAT(reply.body, Not(HasSubstr("evil.example"))) << header;
  }
  for (const char* path : {"/.well-known/oauth-authorization-server/t/mcp/",
                           "/.well-known/oauth-authorization-server/t/MCP",
                           "/.well-known/oauth-authorization-server/t/mcp/extra"}) {
    EXPECT_EQ(acme().ask("GET", path).status / 100, 4) << path;
  }
}

TEST(Mcp, ShortLived_FiveMinutesUnlessSaidOtherwise) {
  const auto reply = acme().exchange(acme().user_token("alice"), "search");
  const auto seconds = json_of(reply, "expires_in").get<int>();
  EXPECT_GT(seconds, 0);
  EXPECT_LE(seconds, 300);
  const auto claims = claims_of(json_of(reply, "access_token").get<std::string>());
  EXPECT_LE(claims.at("exp").get<std::int64_t>() - claims.at("iat").get<std::int64_t>(), 300);
}

TEST(Mcp, ShortLived_NobodyCanConfigureMoreThanAnHour) {
  for (const char* place : {"backend", "settings"}) {
    auto manifest = acme().manifest;
    if (std::string_view(place) == "backend") {
      manifest["backends"][0]["max_expires_in"] = 3601;
    } else {
      manifest["settings"]["max_token_lifetime"] = 3601;
    }
    EXPECT_THAT(acme().api("PUT", "/manifest", acme().admin, manifest),
                IsProblem(400, "malformed-request"))
        << place;
  }
}

TEST(Mcp, ClientCredentials_AreOfferedAsTheExtensionAsks) {
  const auto metadata = json_of(acme().ask("GET", "/.well-known/oauth-authorization-server/t/mcp"));
  const auto methods = metadata.at("token_endpoint_auth_methods_supported").dump();
  EXPECT_THAT(methods, HasSubstr("\"private_key_jwt\""));
  EXPECT_THAT(methods, HasSubstr("\"client_secret_basic\""));
  EXPECT_THAT(metadata.at("token_endpoint_auth_signing_alg_values_supported").dump(),
              HasSubstr("RS256"));
  EXPECT_THAT(metadata.at("grant_types_supported").dump(), HasSubstr("client_credentials"));
  // And `client_id` beside an assertion is not needed: rfc7523_test.cc.
  const auto reply = acme().token({{"grant_type", "client_credentials"}, {"resource", kFiles}});
  ASSERT_THAT(reply, HasStatus(200));
  const auto claims = claims_of(json_of(reply, "access_token").get<std::string>());
  EXPECT_EQ(claims.at("aud"), kFiles);
  EXPECT_EQ(claims.at("sub"), "gw-01");
}

TEST(Mcp, ClientCredentials_NeedAClientTheGrantAndAResource) {
  const Pairs fields{{"grant_type", "client_credentials"}, {"resource", kFiles}};
  EXPECT_THAT(acme().token(fields, ""), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(acme().token(fields, basic("gw-01", "wrong")), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(acme().token(fields, basic("gw-files", acme().files_secret)),
              IsOAuthError(400, "unauthorized_client"));
  EXPECT_THAT(acme().token({{"grant_type", "client_credentials"},
                            {"resource", "https://nowhere.example/mcp"}}),
              IsOAuthError(400, "invalid_target"));
}

}  // namespace
}  // namespace postern::test
