// The REST API as a protected resource (RFC 9728). Its challenges are in rfc6750_test.cc.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

TestTenant& acme() {
  static TestTenant tenant("rfc9728");
  return tenant;
}

constexpr const char* kDocument = "/.well-known/oauth-protected-resource/api/v1/tenants/rfc9728";
constexpr const char* kUrl =
    "https://sts.example.com/.well-known/oauth-protected-resource/api/v1/tenants/rfc9728";

TEST(Rfc9728_3, B3_TheDocumentNamesTheResourceItWasAskedFor) {
  const auto reply = acme().ask("GET", kDocument);
  EXPECT_EQ(reply.status, 200);
  EXPECT_THAT(reply.header("Content-Type"), HasSubstr("application/json"));
  EXPECT_EQ(reply.header("Access-Control-Allow-Origin"), "*");
  const auto document = json_of(reply);
  EXPECT_EQ(document.at("resource"), "https://sts.example.com/api/v1/tenants/rfc9728");
  EXPECT_EQ(document.at("authorization_servers"), Json({acme().idp.issuer()}));
  EXPECT_EQ(document.at("bearer_methods_supported"), Json({"header"}));
}

TEST(Rfc9728_2, B3_TheDocumentNamesTheScopesThatUsersNeed) {
  TestTenant tenant("rfc9728-scopes");
  const auto document = [&] {
    return json_of(
        tenant.ask("GET", "/.well-known/oauth-protected-resource/api/v1/tenants/rfc9728-scopes"));
  };
  // §3.2: no empty list, where users need none.
  EXPECT_FALSE(document().contains("scopes_supported"));
  tenant.manifest["settings"]["api_scopes"] = {"postern.vault", "postern.basic"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_EQ(document().at("scopes_supported"), Json({"postern.basic", "postern.vault"}));
}

TEST(Rfc9728_2, B3_NoScopeThatAnIssuerCannotGrantIsNamedForIt) {
  EXPECT_EQ(json_of(acme().ask("GET", "/.well-known/oauth-protected-resource/api/v1"))
                .at("scopes_supported"),
            Json({"postern:operator"}));
  TestTenant tenant("rfc9728-issuers");
  tenant.manifest["settings"]["api_scopes"] = {"postern.vault"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto scopes =
      json_of(
          tenant.ask("GET", "/.well-known/oauth-protected-resource/api/v1/tenants/rfc9728-issuers"))
          .at("scopes_supported");
  EXPECT_EQ(scopes, Json({"postern.vault"}));
  // Nor is anything taken for a scope that is none.
  for (const Json& bad : {Json("a b"), Json(""), Json("a\"b"), Json(7)}) {
    auto manifest = tenant.manifest;
    manifest["settings"]["api_scopes"] = Json::array({bad});
    EXPECT_THAT(tenant.api("PUT", "/manifest", tenant.admin, manifest),
                IsProblem(400, "malformed-request"))
        << bad;
  }
}

TEST(Rfc9728_5_1, B5_ChallengesBeginWithBearerAndQuoteTheirParameters) {
  for (const auto& reply :
       {acme().api("GET", "/manifest", ""), acme().api("GET", "/manifest", "garbage"),
        acme().api("GET", "/manifest", acme().user_token("alice"))}) {
    const auto challenge = reply.header("WWW-Authenticate");
    EXPECT_THAT(challenge,
                testing::MatchesRegex("Bearer [a-z_]+=\"[^\"]+\"(, [a-z_]+=\"[^\"]+\")*"));
    EXPECT_THAT(challenge, HasSubstr(std::string("resource_metadata=\"") + kUrl + '"'));
  }
}

TEST(Rfc9728_3, TheApiWithoutATenantHasOneToo) {
  const auto document = json_of(acme().ask("GET", "/.well-known/oauth-protected-resource/api/v1"));
  EXPECT_EQ(document.at("resource"), "https://sts.example.com/api/v1");
  EXPECT_FALSE(document.contains("authorization_servers")) << "operators' tokens come from none";
}

TEST(Rfc9728_3, OtherPathsHaveNone) {
  for (const char* path : {"/.well-known/oauth-protected-resource",
                           "/.well-known/oauth-protected-resource/api/v1/tenants/no-such-tenant",
                           "/.well-known/oauth-protected-resource/t/rfc9728"}) {
    EXPECT_EQ(acme().ask("GET", path).status, 404) << path;
  }
}

TEST(Rfc9728_5_1, B1_WhoSendsNothingIsToldWhereToLook) {
  const auto reply = acme().api("GET", "/credentials", "");
  EXPECT_THAT(reply, IsProblem(401, "unauthenticated"));
  EXPECT_EQ(reply.header("WWW-Authenticate"),
            std::string("Bearer resource_metadata=\"") + kUrl + '"');
}

TEST(Rfc9728_5_1, B5_AnythingElseInThePathIsNotRepeated) {
  const auto reply = acme().ask("GET", "/api/v1/tenants/x%22%2C%20error%3D%22y/manifest");
  EXPECT_THAT(reply.header("WWW-Authenticate"), Not(HasSubstr("y\"")));
}

}  // namespace
}  // namespace postern::test
