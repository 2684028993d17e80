#include "policy/signing_keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "policy/snapshot.h"
#include "support/code_of.h"
#include "support/tenant_fixture.h"

namespace postern::policy {
namespace {

using namespace std::chrono_literals;
using crypto::Algorithm;
using test::code_of;
using test::must;

struct Keys : test::TenantFixture {
  std::shared_ptr<const TenantSnapshot> rebuilt() {
    return must(TenantSnapshot::build(tenants.stored(tenant), test::kBaseUrl, tenants.keyring(),
                                      clock.now()));
  }
  Result<ConfigChange> plan(std::chrono::seconds publish_for,
                            Algorithm algorithm = Algorithm::ES256) {
    return rotate_signing_keys(tenants.keyring(), tenants.stored(tenant), {algorithm}, publish_for,
                               clock.now());
  }
  void apply(const ConfigChange& change) {
    auto& stored = tenants.stored(tenant);
    stored = test::applied(tenant, &stored, change, clock.now());
    for (const auto& [kid, state] : change.set_signing_key_state) {
      for (auto& key : stored.signing_keys) {
        if (key.kid == kid) key.state = state, key.retired_at = clock.now();
      }
    }
  }
  std::string rotate(std::chrono::seconds publish_for = kPublishFor) {
    const auto change = must(plan(publish_for));
    apply(change);
    return change.add_signing_keys.front().kid;
  }
  /// The key that signs now, whenever the snapshot was built.
  std::string signer(const TenantSnapshot& with) const {
    const auto* found = with.signer(Algorithm::ES256, clock.now());
    return found != nullptr ? found->kid : "";
  }
  std::string signer() { return signer(*rebuilt()); }
  bool published(const std::string& kid) {
    return rebuilt()->jwks_document().find(kid) != std::string::npos;
  }
};

TEST(SigningKeys, K2_ANewKeyIsPublishedFifteenMinutesBeforeItSigns) {
  Keys f;
  const auto old_kid = f.signer();
  const auto new_kid = f.rotate();
  ASSERT_NE(new_kid, old_kid);
  EXPECT_TRUE(f.published(new_kid));
  EXPECT_EQ(f.signer(), old_kid);
  f.clock.advance(15min - 1s);
  EXPECT_EQ(f.signer(), old_kid);
  f.clock.advance(1s);
  EXPECT_EQ(f.signer(), new_kid);
}

TEST(SigningKeys, K2_ASnapshotBuiltBeforehandTakesTheNewKeyInTime) {
  Keys f;
  const auto new_kid = f.rotate();
  const auto snapshot = f.rebuilt();
  EXPECT_NE(f.signer(*snapshot), new_kid);
  f.clock.advance(15min);
  EXPECT_EQ(f.signer(*snapshot), new_kid);
}

TEST(SigningKeys, K2_TheOldKeyStaysUntilItsLastTokenExpired) {
  Keys f;
  const auto old_kid = f.signer();
  f.rotate();
  f.clock.advance(15min);
  EXPECT_TRUE(f.published(old_kid));
  f.clock.advance(1h + 1min);
  EXPECT_TRUE(f.published(old_kid));
  f.clock.advance(1min);
  EXPECT_FALSE(f.published(old_kid));
  EXPECT_FALSE(f.rebuilt()->own_keys().has_kid(old_kid));
}

TEST(SigningKeys, RotateAtOnceInAnEmergency) {
  Keys f;
  const auto old_kid = f.signer();
  const auto new_kid = f.rotate(0s);
  EXPECT_EQ(f.signer(), new_kid);
  EXPECT_TRUE(f.published(old_kid));
}

TEST(SigningKeys, AtOnceHoldsWithinTheSameSecondInWhateverOrderTheStoreAnswers) {
  Keys f;
  for (int i = 0; i < 3; ++i) {
    const auto new_kid = f.rotate(0s);
    EXPECT_EQ(f.signer(), new_kid);
    auto& keys = f.tenants.stored(f.tenant).signing_keys;
    std::reverse(keys.begin(), keys.end());
    EXPECT_EQ(f.signer(), new_kid);
  }
}

TEST(SigningKeys, RetiredIsRetiredWhateverTheDatabasesClockSays) {
  Keys f;
  const auto new_kid = f.rotate(0s);
  for (auto& key : f.tenants.stored(f.tenant).signing_keys) {
    if (key.retired_at) *key.retired_at += 3s;
  }
  EXPECT_EQ(f.signer(), new_kid);
  int active = 0;
  const auto snapshot = f.rebuilt();
  for (const auto& key : snapshot->signing_keys()) {
    active += key.state(f.clock.now()) == SigningKeyState::Active && key.algorithm == "ES256";
  }
  EXPECT_EQ(active, 1);
}

TEST(SigningKeys, AtOnceDoesNotKeepLongerWhatHadEnded) {
  Keys f;
  const auto first = f.signer();
  f.rotate(1s);
  f.clock.advance(8s);
  const auto ended = [&] {
    const auto snapshot = f.rebuilt();
    for (const auto& key : snapshot->signing_keys()) {
      if (key.kid == first) return key.retired_at;
    }
    return std::optional<sys_seconds>();
  };
  const auto before = ended();
  ASSERT_TRUE(before.has_value());
  f.rotate(0s);
  EXPECT_EQ(ended(), before);
}

TEST(SigningKeys, AtOnceHoldsForAReplicaWhoseClockIsBehind) {
  Keys f;
  const auto new_kid = f.rotate(0s);
  f.clock.advance(-30s);
  EXPECT_EQ(f.signer(), new_kid);
}

TEST(SigningKeys, OneRotationAtATime) {
  Keys f;
  f.rotate();
  EXPECT_EQ(code_of(f.plan(kPublishFor)), ErrorCode::Conflict);
  EXPECT_TRUE(f.plan(kPublishFor, Algorithm::EdDSA).ok()) << "another algorithm's keys";
  f.clock.advance(15min);
  EXPECT_TRUE(f.plan(kPublishFor).ok());
}

TEST(SigningKeys, AtOncePutsAWaitingKeyAside) {
  Keys f;
  const auto waiting = f.rotate();
  const auto emergency = f.rotate(0s);
  EXPECT_FALSE(f.published(waiting));
  f.clock.advance(1h);
  EXPECT_EQ(f.signer(), emergency);
}

TEST(SigningKeys, AnAlgorithmsFirstKeySignsAtOnce) {
  Keys f;
  EXPECT_EQ(f.snapshot->signer(Algorithm::RS256, f.clock.now()), nullptr);
  f.apply(must(f.plan(kPublishFor, Algorithm::RS256)));
  EXPECT_NE(f.rebuilt()->signer(Algorithm::RS256, f.clock.now()), nullptr);
}

TEST(SigningKeys, ARotationRemovesWhatNobodyNeeds) {
  Keys f;
  const auto first = f.signer();
  f.rotate();
  f.clock.advance(15min + 1h + 2min);
  EXPECT_EQ(must(f.plan(kPublishFor)).remove_signing_keys, std::vector<std::string>{first});
}

TEST(SigningKeys, ThereAreNeverTooMany) {
  Keys f;
  ErrorCode code{};
  int rotations = 0;
  for (; rotations < 100; ++rotations) {
    const auto change = f.plan(0s);
    if (!change.ok()) {
      code = change.error().code;
      break;
    }
    f.apply(change.value());
  }
  EXPECT_EQ(code, ErrorCode::Conflict);
  EXPECT_LT(rotations, 20);
  f.clock.advance(2h);
  EXPECT_TRUE(f.plan(0s).ok());
}

TEST(SigningKeys, AWithdrawnKeyIsNeitherPublishedNorUsed) {
  Keys f;
  const auto compromised = f.signer();
  const auto next = f.rotate(0s);
  f.apply(must(withdraw_signing_key(f.tenants.stored(f.tenant), compromised, f.clock.now())));
  EXPECT_FALSE(f.published(compromised));
  EXPECT_EQ(f.signer(), next);
}

TEST(SigningKeys, NoEarlierKeySignsInPlaceOfAWithdrawnOne) {
  Keys f;
  const auto first = f.signer();
  f.rotate();
  f.clock.advance(20min);
  const auto second = f.signer();
  ASSERT_NE(second, first);
  f.apply(must(withdraw_signing_key(f.tenants.stored(f.tenant), second, f.clock.now())));
  EXPECT_EQ(f.signer(), "");
  EXPECT_TRUE(f.published(first)) << "its tokens are still in use";
}

TEST(SigningKeys, OnlyAKeyThatIsThereCanBeWithdrawn) {
  Keys f;
  for (const std::string kid : {"", "unknown", "' OR 1=1"}) {
    EXPECT_EQ(code_of(withdraw_signing_key(f.tenants.stored(f.tenant), kid, f.clock.now())),
              ErrorCode::NotFound);
  }
}

TEST(SigningKeys, APendingKeyOfThePreviousReleaseNeverSigns) {
  Keys f;
  auto key = must(make_signing_key(f.tenants.keyring(), f.tenant, Algorithm::ES256, f.clock.now()));
  key.state = SigningKeyState::Pending;  // without active_from
  const auto signer = f.signer();
  f.tenants.stored(f.tenant).signing_keys.push_back(key);
  f.clock.advance(24h * 365);
  EXPECT_EQ(f.signer(), signer);
}

}  // namespace
}  // namespace postern::policy
