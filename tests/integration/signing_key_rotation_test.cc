// Signing keys rotate under verifiers that only know the key set.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

/// A verifier: fetches the key set when it does not know a kid, as jose does.
class Verifier {
 public:
  explicit Verifier(const TestTenant& tenant) : tenant_(tenant) {}
  /// Claims, or a throw when no published key verifies the token.
  Json verify(const std::string& token) {
    const std::string kid = header_of(token).at("kid");
    if (keys_.dump().find(kid) == std::string::npos) {
      keys_ = json_of(tenant_.ask("GET", "/t/" + tenant_.name + "/jwks"));
      ++fetches;
    }
    return verified_claims(token, keys_);
  }
  int fetches = 0;

 private:
  const TestTenant& tenant_;
  Json keys_ = {{"keys", Json::array()}};
};

std::string kid_of(const std::string& token) { return header_of(token).at("kid"); }

TEST(SigningKeyRotation, K2_VerifiersNeverMeetATokenTheyCannotVerify) {
  TestTenant tenant("rotation");
  Verifier verifier(tenant);
  const auto issue = [&] {
    return json_of(tenant.exchange(tenant.user_token("alice"), "files"))
        .at("access_token")
        .get<std::string>();
  };
  const auto before = issue();
  verifier.verify(before);
  EXPECT_EQ(verifier.fetches, 1);

  const auto reply = tenant.api("POST", "/signing-keys/rotation", tenant.admin,
                                {{"algorithm", "ES256"}, {"publish_for", 5}});
  ASSERT_THAT(reply, HasStatus(201));
  const auto made = json_of(reply, "items");
  ASSERT_EQ(made.size(), 1u);
  EXPECT_EQ(made[0].at("state"), "pending");
  const std::string next = made[0].at("kid");
  EXPECT_NE(next, kid_of(before));

  // Published while it waits. Nobody calls anything; it takes over by itself.
  EXPECT_THAT(tenant.ask("GET", "/t/rotation/jwks").body, testing::HasSubstr(next));
  std::set<std::string> used;
  eventually(
      [&] {
        const auto token = issue();
        verifier.verify(token);
        used.insert(kid_of(token));
        return kid_of(token) == next;
      },
      "the next key signs");
  EXPECT_EQ(used.size(), 2u) << "the old key signed until then";
  EXPECT_EQ(verifier.fetches, 2);
  // The old one's tokens are good until they expire.
  EXPECT_THAT(tenant.ask("GET", "/t/rotation/jwks").body, testing::HasSubstr(kid_of(before)));
  const auto state = [&](const std::string& kid) -> std::string {
    for (const auto& key : json_of(tenant.api("GET", "/signing-keys", tenant.admin), "items")) {
      if (key.at("kid") == kid) return key.at("state");
    }
    return "";
  };
  EXPECT_EQ(state(next), "active");
  EXPECT_EQ(state(kid_of(before)), "retired");
}

TEST(SigningKeyRotation, OfAllAlgorithmsAtOnceInAnEmergency) {
  TestTenant tenant("emergency");
  const std::string before =
      json_of(tenant.exchange(tenant.user_token("alice"), "files")).at("access_token");
  const auto reply =
      tenant.api("POST", "/signing-keys/rotation", tenant.operator_token(), {{"publish_for", 0}});
  ASSERT_THAT(reply, HasStatus(201));
  for (const auto& key : json_of(reply, "items")) EXPECT_EQ(key.at("state"), "active");
  const std::string after =
      json_of(tenant.exchange(tenant.user_token("alice"), "files")).at("access_token");
  EXPECT_NE(kid_of(before), kid_of(after));
  // A key that others may have is withdrawn, and what it signed is void.
  const auto ask = [&](const std::string& token) {
    return json_of(tenant.ask("POST", "/t/emergency/introspect",
                              {{"Content-Type", "application/x-www-form-urlencoded"},
                               {"Authorization", basic("gw-01", tenant.secret)}},
                              form({{"token", token}})))
        .at("active");
  };
  EXPECT_EQ(ask(before), Json(true));
  ASSERT_THAT(tenant.api("DELETE", "/signing-keys/" + kid_of(before), tenant.admin),
              HasStatus(204));
  EXPECT_EQ(ask(before), Json(false));
  EXPECT_EQ(ask(after), Json(true));
}

TEST(SigningKeyRotation, RefusesWhatItDoesNotUnderstand) {
  TestTenant tenant("rotation-refusals");
  const auto rotate = [&](const Json& body) {
    return tenant.api("POST", "/signing-keys/rotation", tenant.admin, body);
  };
  for (const auto& body : std::vector<Json>{{{"algorithm", "HS256"}},
                                            {{"algorithm", 1}},
                                            {{"publish_for", -1}},
                                            {{"publish_for", 604801}},
                                            {{"publish_for", "900"}},
                                            {{"publish_for", 1.5}},
                                            {{"unknown", 1}}}) {
    EXPECT_THAT(rotate(body), IsProblem(400, "malformed-request")) << body;
  }
  EXPECT_THAT(tenant.api("POST", "/signing-keys/rotation", ""), IsProblem(401, "unauthenticated"));
  EXPECT_THAT(tenant.api("POST", "/signing-keys/rotation", tenant.user_token("alice")),
              IsProblem(403, "forbidden"));
  EXPECT_THAT(tenant.api("DELETE", "/signing-keys/unknown", tenant.admin),
              IsProblem(404, "not-found"));
  ASSERT_THAT(rotate({{"algorithm", "EdDSA"}}), HasStatus(201));
  EXPECT_THAT(rotate({{"algorithm", "EdDSA"}}), IsProblem(409, "conflict"));
  TestTenant other("rotation-other");
  const auto keys = json_of(tenant.api("GET", "/signing-keys", tenant.admin), "items");
  EXPECT_THAT(
      other.api("DELETE", "/signing-keys/" + keys[0].at("kid").get<std::string>(), other.admin),
      IsProblem(404, "not-found"));
}

}  // namespace
}  // namespace postern::test
