// The REST API as a protected resource (RFC 9728) and its challenges (RFC 6750).

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

TEST(Rfc6750_3_1, B1_ABadTokenIsInvalidToken) {
  const auto reply = acme().api("GET", "/credentials", "garbage");
  EXPECT_THAT(reply, IsProblem(401, "unauthenticated"));
  EXPECT_EQ(reply.header("WWW-Authenticate"),
            std::string("Bearer error=\"invalid_token\", resource_metadata=\"") + kUrl + '"');
}

TEST(Rfc6750_2_1, B2_ATokenInTheHeaderIsRead) {
  EXPECT_THAT(acme().api("GET", "", acme().admin), HasStatus(200));
  EXPECT_THAT(
      acme().ask("GET", "/api/v1/tenants/rfc9728", {{"Authorization", "bEARER " + acme().admin}}),
      HasStatus(200));
}

TEST(Rfc6750_2_2, B2_ATokenAnywhereElseIsNot) {
  const auto target = std::string("/api/v1/tenants/rfc9728");
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
  EXPECT_THAT(reply.header("WWW-Authenticate"), HasSubstr("error=\"insufficient_scope\""));
}

TEST(Rfc6750_3_1, ATokenOfOursIsInvalidToken) {
  const std::string token =
      json_of(acme().exchange(acme().user_token("alice"), "files")).at("access_token");
  const auto reply = acme().api("GET", "/credentials", token);
  EXPECT_THAT(reply, IsProblem(401, "unauthenticated"));
  EXPECT_THAT(reply.header("WWW-Authenticate"), HasSubstr("invalid_token"));
}

TEST(Rfc9728_5_1, AnythingElseInThePathIsNotRepeated) {
  const auto reply = acme().ask("GET", "/api/v1/tenants/x%22%2C%20error%3D%22y/manifest");
  EXPECT_THAT(reply.header("WWW-Authenticate"), Not(HasSubstr("y\"")));
}

}  // namespace
}  // namespace postern::test
