// The key set that verifiers read (RFC 7517). Row K1 of docs/conformance.md.

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;

TestTenant& acme() {
  static TestTenant tenant("rfc7517");
  return tenant;
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
    EXPECT_TRUE(key.contains("kty"));
    // The kid is the thumbprint (RFC 7638): anybody can check it.
    EXPECT_EQ(key.at("kid").get<std::string>().size(), 43u);
  }
  EXPECT_EQ(algorithms, (std::set<std::string>{"ES256", "EdDSA", "RS256"}));
  // Another tenant's keys are others.
  for (const auto& key : json_of(acme().ask("GET", "/t/rfc7517/jwks"), "keys")) {
    EXPECT_FALSE(kids.contains(key.at("kid")));
  }
}

TEST(Rfc7517_5, K1_NothingPrivateAndNoSymmetricKeyIsPublished) {
  TestTenant tenant("keys-public");
  tenant.part("backends", "files")["signing_algorithm"] = "RS256";
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto keys = json_of(tenant.ask("GET", "/t/keys-public/jwks"), "keys");
  ASSERT_EQ(keys.size(), 3u);
  for (const auto& key : keys) {
    EXPECT_NE(key.at("kty"), "oct");
    for (const char* member : {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}) {
      EXPECT_FALSE(key.contains(member)) << key;
    }
  }
  EXPECT_THAT(acme().ask("GET", "/t/no-such-tenant/jwks"), HasStatus(404));
}

}  // namespace
}  // namespace postern::test
