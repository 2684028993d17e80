// Bearer tokens at the REST API and its challenges (RFC 6750). Rows B1 and B2 of
// docs/conformance.md.

#include <gtest/gtest.h>

#include <string>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kUrl =
    "https://sts.example.com/.well-known/oauth-protected-resource/api/v1/tenants/rfc6750";

TestTenant& acme() {
  static TestTenant tenant("rfc6750");
  return tenant;
}

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
  EXPECT_EQ(reply.header("WWW-Authenticate"), "Basic realm=\"rfc6750\", charset=\"UTF-8\"");
}

TEST(Rfc6750_2_3, B2_ATokenInTheQueryIsNotRead) {
  EXPECT_THAT(acme().ask("GET", "/api/v1/tenants/rfc6750?access_token=" + acme().admin),
              IsProblem(401, "unauthenticated"));
}

TEST(Rfc6750_3_1, B1_ABadTokenIsInvalidToken) {
  const auto reply = acme().api("GET", "/credentials", "garbage");
  EXPECT_THAT(reply, IsProblem(401, "unauthenticated"));
  EXPECT_EQ(reply.header("WWW-Authenticate"),
            std::string("Bearer error=\"invalid_token\", resource_metadata=\"") + kUrl + '"');
}

TEST(Rfc6750_2_1, B2_ATokenInTheHeaderIsRead) {
  EXPECT_THAT(acme().api("GET", "", acme().admin), HasStatus(200));
  EXPECT_THAT(
      acme().ask("GET", "/api/v1/tenants/rfc6750", {{"Authorization", "bEARER " + acme().admin}}),
      HasStatus(200));
}

TEST(Rfc6750_2_2, B2_ATokenAnywhereElseIsNot) {
  const auto target = std::string("/api/v1/tenants/rfc6750");
  for (const auto& reply : {acme().ask("GET", target + "?access_token=" + acme().admin),
                            acme().ask("PUT", target + "/manifest",
                                       {{"Content-Type", "application/x-www-form-urlencoded"}},
                                       "access_token=" + acme().admin),
                            acme().ask("GET", target, {{"Cookie", "access_token=" + acme().admin}}),
                            acme().ask("GET", target, {{"Authorization", acme().admin}}),
                            acme().ask("GET", target,
                                       {{"Authorization", bearer(acme().admin)},
                                        {"Authorization", bearer(acme().admin)}})}) {
    EXPECT_EQ(reply.status / 100, 4) << reply.head;
    EXPECT_NE(reply.status, 404);
  }
}

TEST(Rfc6750_3_1, B1_TooFewRightsAreInsufficientScope) {
  const auto reply = acme().api("GET", "/manifest", acme().user_token("alice"));
  EXPECT_THAT(reply, IsProblem(403, "forbidden"));
  EXPECT_EQ(reply.header("WWW-Authenticate"),
            std::string("Bearer error=\"insufficient_scope\", scope=\"postern:tenant-admin\", "
                        "resource_metadata=\"") +
                kUrl + '"');
  const auto scope_of = [](const WireReply& refused) {
    EXPECT_THAT(refused, HasStatus(403));
    const auto challenge = refused.header("WWW-Authenticate");
    const auto begin = challenge.find("scope=\"");
    if (begin == challenge.npos) return std::string("(none)");
    return challenge.substr(begin + 7, challenge.find('"', begin + 7) - begin - 7);
  };
  const auto alice = acme().user_token("alice");
  // The least that would do.
  EXPECT_EQ(scope_of(acme().api("GET", "/audit", alice)), "postern:tenant-admin");
  EXPECT_EQ(scope_of(acme().api("GET", "/credentials?owner=tenant", alice)),
            "postern:tenant-admin");
  EXPECT_EQ(scope_of(acme().api("DELETE", "?confirm=rfc6750", alice)), "postern:operator");
  EXPECT_EQ(scope_of(acme().api("DELETE", "?confirm=rfc6750", acme().admin)), "postern:operator");
  EXPECT_EQ(
      scope_of(acme().ask("GET", "/api/v1/tenants", {{"Authorization", bearer(acme().admin)}})),
      "postern:operator");
  auto disabled = acme().manifest;
  disabled["enabled"] = false;
  EXPECT_EQ(scope_of(acme().api("PUT", "/manifest", acme().admin, disabled)), "postern:operator");
}

TEST(Rfc6750_3_1, B1_AUserNeedsTheScopesThatTheTenantAsksFor) {
  TestTenant tenant("rfc6750-scopes");
  tenant.manifest["settings"]["api_scopes"] = {"postern.vault", "postern.basic"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto with = [&](const char* scope) {
    auto claims = tenant.claims("alice");
    if (scope != nullptr) claims["scope"] = scope;
    return tenant.api("GET", "/credentials", tenant.idp.sign(claims));
  };
  EXPECT_THAT(with("postern.basic openid postern.vault"), HasStatus(200));
  for (const char* scope :
       {static_cast<const char*>(nullptr), "postern.vault", "openid", "postern.vaults postern"}) {
    const auto refused = with(scope);
    EXPECT_THAT(refused, IsProblem(403, "forbidden"));
    EXPECT_THAT(refused.header("WWW-Authenticate"),
                HasSubstr("error=\"insufficient_scope\", scope=\"postern.basic postern.vault\", "));
  }
  // Our own tokens need none of an issuer's scopes.
  EXPECT_THAT(tenant.api("GET", "/credentials?owner=tenant", tenant.admin), HasStatus(200));
  // Nor does a gateway that acts for the user: there the client is asked.
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "search"), HasStatus(200));
}

TEST(Rfc6750_3_1, ATokenOfOursIsInvalidToken) {
  const std::string token =
      json_of(acme().exchange(acme().user_token("alice"), "files")).at("access_token");
  const auto reply = acme().api("GET", "/credentials", token);
  EXPECT_THAT(reply, IsProblem(401, "unauthenticated"));
  EXPECT_THAT(reply.header("WWW-Authenticate"), HasSubstr("invalid_token"));
}

}  // namespace
}  // namespace postern::test
