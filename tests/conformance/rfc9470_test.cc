// Step-up at the token endpoint and at release (RFC 9470, and the error code of
// draft-ietf-oauth-identity-assertion-authz-grant).

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

TestTenant& step_up() {
  static TestTenant tenant("step-up");
  static const bool ready = [] {
    tenant.part("backends", "files")["require"] = {{"acr", {"urn:gold"}}, {"max_auth_age", 600}};
    EXPECT_THAT(tenant.apply(), HasStatus(200));
    return true;
  }();
  EXPECT_TRUE(ready);
  return tenant;
}
/// Of who signed in so, this long ago.
std::string signed_in(const char* acr, std::chrono::seconds ago) {
  auto claims = step_up().claims("alice");
  claims["acr"] = acr;
  claims["auth_time"] = seconds_of(SystemClock().now() - ago);
  return step_up().idp.sign(claims);
}

TEST(Rfc9470_3, WhoDidNotIsToldWhatIsDemanded) {
  const auto alice = step_up().user_token("alice");
  for (const auto& token : {alice, signed_in("urn:gold", 700s), signed_in("urn:silver", 7s)}) {
    const auto refused = step_up().exchange(token, "files");
    EXPECT_THAT(refused, IsOAuthError(400, "insufficient_user_authentication"));
    EXPECT_EQ(json_of(refused).at("acr_values"), "urn:gold");
    EXPECT_EQ(json_of(refused).at("max_age"), 600);
  }
  EXPECT_EQ(item_of(step_up().release(alice, {{{"backend", "files"}}})).at("error"),
            "insufficient_user_authentication");
}

TEST(Rfc9470_3, SignedInAsDemandedAUserGetsIn) {
  EXPECT_THAT(step_up().exchange(signed_in("urn:gold", 7s), "files"), HasStatus(200));
  // What demands nothing is reached as before.
  EXPECT_THAT(step_up().exchange(step_up().user_token("alice"), "search"), HasStatus(200));
}

}  // namespace
}  // namespace postern::test
