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

TEST(Rfc9728_5_1, AnythingElseInThePathIsNotRepeated) {
  const auto reply = acme().ask("GET", "/api/v1/tenants/x%22%2C%20error%3D%22y/manifest");
  EXPECT_THAT(reply.header("WWW-Authenticate"), Not(HasSubstr("y\"")));
}

}  // namespace
}  // namespace postern::test
