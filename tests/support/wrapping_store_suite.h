#pragma once

// The contract of vault::WrappingStore as tests; see config_store_suite.h for how to
// hold an implementation to it.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "audit/log.h"
#include "support/code_of.h"
#include "vault/wrapping.h"

namespace postern::test {

class WrappingStoreHarness {
 public:
  virtual ~WrappingStoreHarness() = default;
  virtual vault::WrappingStore& store() = 0;
  virtual vault::WrappingStore& other_replica() = 0;
  virtual audit::AuditLog& log() = 0;
  virtual TenantId add_tenant() = 0;
};

struct WrappingStoreFactory {
  std::function<std::unique_ptr<WrappingStoreHarness>()> make;
  friend void PrintTo(const WrappingStoreFactory&, std::ostream* out) { *out << "wrapping store"; }
};

class WrappingStoreSuite : public ::testing::TestWithParam<WrappingStoreFactory> {
 protected:
  using Answer = vault::WrappedAnswer;
  static constexpr sys_seconds kNow{std::chrono::seconds(1'800'000'000)};
  static constexpr auto kSoon = std::chrono::minutes(5);

  static crypto::Hash256 hash(const std::string& of) { return crypto::sha256(as_bytes(of)); }
  static Answer answer(const std::string& name, const std::string& maker = "client gw") {
    return {hash(name),
            "accessor of " + name,
            maker,
            "secret/data/x",
            kNow,
            kNow + kSoon,
            {KekVersion{1}, to_bytes("box of " + name)}};
  }
  std::vector<audit::Event> events(const TenantId& tenant, const std::string& action) {
    return {audit::Event{tenant, kNow, action, {}, "r", {}}};
  }
  Status add(const TenantId& tenant, const Answer& it, std::uint32_t most = 10,
             sys_seconds now = kNow) {
    const auto record = events(tenant, "add");
    return harness_->store().add(
        tenant, [&] { return Result<Answer>(it); }, most, now, record);
  }
  /// The box that was taken, or the code.
  static std::string take_from(vault::WrappingStore& store, const TenantId& tenant,
                               const std::string& name, const std::vector<audit::Event>& record,
                               sys_seconds now = kNow) {
    std::string box;
    const auto taken = store.take(
        tenant, hash(name), now,
        [&](const Answer& row) -> Result<std::optional<Answer>> {
          box = as_text(row.sealed.wrapped);
          return std::optional<Answer>();
        },
        record);
    return taken.ok() ? box : std::string(to_string(taken.error().code));
  }
  std::string take(const TenantId& tenant, const std::string& name, sys_seconds now = kNow) {
    return take_from(harness_->store(), tenant, name, events(tenant, "take"), now);
  }
  std::size_t recorded(const TenantId& tenant, const std::string& action) {
    return harness_->log().read(tenant, {0, 1000, false, action}).value().size();
  }

  std::unique_ptr<WrappingStoreHarness> harness_ = GetParam().make();
  const TenantId a_ = harness_->add_tenant();
  const TenantId b_ = harness_->add_tenant();
};

TEST_P(WrappingStoreSuite, WhatIsAddedIsFoundAsItIsAndTakenOnce) {
  ASSERT_TRUE(add(a_, answer("one")).ok());
  for (int i = 0; i < 2; ++i) {
    const auto found = harness_->store().find(a_, hash("one"), kNow);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(found.value().accessor, "accessor of one");
    EXPECT_EQ(found.value().maker, "client gw");
    EXPECT_EQ(found.value().creation_path, "secret/data/x");
    EXPECT_EQ(found.value().created_at, kNow);
    EXPECT_EQ(found.value().expires_at, kNow + kSoon);
    EXPECT_EQ(found.value().token_hash, hash("one"));
    EXPECT_EQ(found.value().sealed.kek_version, KekVersion{1});
    EXPECT_EQ(found.value().sealed.share, std::nullopt);
    EXPECT_EQ(found.value().owner, Owner::tenant());
  }
  EXPECT_EQ(take(a_, "one"), "box of one");
  EXPECT_EQ(take(a_, "one"), "NotFound");
  EXPECT_EQ(code_of(harness_->store().find(a_, hash("one"), kNow)), ErrorCode::NotFound);
  EXPECT_EQ(recorded(a_, "add"), 1u);
  EXPECT_EQ(recorded(a_, "take"), 1u) << "none for what was not there";
}

TEST_P(WrappingStoreSuite, OfAnotherTenantItIsNotThere) {
  ASSERT_TRUE(add(a_, answer("one")).ok());
  EXPECT_EQ(take(b_, "one"), "NotFound");
  EXPECT_EQ(code_of(harness_->store().find(b_, hash("one"), kNow)), ErrorCode::NotFound);
  EXPECT_EQ(take(TenantId("nobody"), "one"), "NotFound");
  EXPECT_EQ(code_of(add(TenantId("nobody"), answer("two"))), ErrorCode::NotFound);
  EXPECT_EQ(take(a_, "one"), "box of one");
}

TEST_P(WrappingStoreSuite, WhatHasExpiredIsNotThere) {
  ASSERT_TRUE(add(a_, answer("one")).ok());
  EXPECT_EQ(take(a_, "one", kNow + kSoon), "NotFound");
  EXPECT_EQ(code_of(harness_->store().find(a_, hash("one"), kNow + kSoon)), ErrorCode::NotFound);
  EXPECT_EQ(take(a_, "one", kNow + kSoon - std::chrono::seconds(1)), "box of one");
}

TEST_P(WrappingStoreSuite, AMakerHasSoManyWaitingAndNoMore) {
  ASSERT_TRUE(add(a_, answer("one"), 2).ok());
  ASSERT_TRUE(add(a_, answer("two"), 2).ok());
  EXPECT_EQ(code_of(add(a_, answer("three"), 2)), ErrorCode::RateLimited);
  EXPECT_EQ(take(a_, "three"), "NotFound");
  EXPECT_EQ(recorded(a_, "add"), 2u);
  EXPECT_TRUE(add(a_, answer("three", "client other"), 2).ok());
  EXPECT_TRUE(add(b_, answer("three"), 2).ok());
  EXPECT_EQ(take(a_, "one"), "box of one");
  EXPECT_TRUE(add(a_, answer("four"), 2).ok()) << "one was taken";
  auto later = answer("five");
  later.created_at = kNow + kSoon;
  later.expires_at = kNow + 2 * kSoon;
  EXPECT_TRUE(add(a_, later, 2, kNow + kSoon).ok()) << "and they expire";
}

TEST_P(WrappingStoreSuite, WhatDoesNotOpenStays) {
  ASSERT_TRUE(add(a_, answer("one")).ok());
  const auto refused = harness_->store().take(
      a_, hash("one"), kNow,
      [](const Answer&) -> Result<std::optional<Answer>> { return fail(ErrorCode::Internal, ""); },
      events(a_, "take"));
  EXPECT_EQ(code_of(refused), ErrorCode::Internal);
  EXPECT_EQ(recorded(a_, "take"), 0u);
  EXPECT_EQ(take(a_, "one"), "box of one");
  EXPECT_EQ(code_of(harness_->store().add(
                a_, [] { return Result<Answer>(fail(ErrorCode::KeyUnavailable, "")); }, 10, kNow,
                events(a_, "add"))),
            ErrorCode::KeyUnavailable);
  auto large = answer("large");
  large.sealed.wrapped.resize(524289);
  EXPECT_EQ(code_of(add(a_, large)), ErrorCode::TooLarge);
}

TEST_P(WrappingStoreSuite, WhatIsBeingOpenedIsHeldFromNobody) {
  ASSERT_TRUE(add(a_, answer("one")).ok());
  std::string taken_meanwhile;
  const auto slow = harness_->store().take(
      a_, hash("one"), kNow,
      [&](const Answer&) -> Result<std::optional<Answer>> {
        // Which a transaction that held the row would not let happen.
        taken_meanwhile = take_from(harness_->other_replica(), a_, "one", events(a_, "quick"));
        return std::optional(answer("two"));
      },
      events(a_, "slow"));
  EXPECT_EQ(taken_meanwhile, "box of one");
  EXPECT_EQ(code_of(slow), ErrorCode::NotFound);
  EXPECT_EQ(take(a_, "two"), "NotFound") << "nothing is left by whoever took nothing";
  EXPECT_EQ(recorded(a_, "quick"), 1u);
  EXPECT_EQ(recorded(a_, "slow"), 0u);
}

TEST_P(WrappingStoreSuite, AnotherMayBeLeftInItsPlace) {
  ASSERT_TRUE(add(a_, answer("one")).ok());
  const auto changed = harness_->store().take(
      a_, hash("one"), kNow,
      [](const Answer&) -> Result<std::optional<Answer>> { return std::optional(answer("two")); },
      events(a_, "take"));
  ASSERT_TRUE(changed.ok());
  EXPECT_EQ(take(a_, "one"), "NotFound");
  EXPECT_EQ(take(a_, "two"), "box of two");
}

TEST_P(WrappingStoreSuite, OfManyAtOnceOnReplicasOneGetsIt) {
  for (int round = 0; round < 10; ++round) {
    const auto name = "round " + std::to_string(round);
    ASSERT_TRUE(add(a_, answer(name)).ok());
    std::atomic<int> got{0}, not_found{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        auto& store = i % 2 == 0 ? harness_->store() : harness_->other_replica();
        const auto box = take_from(store, a_, name, events(a_, "race"));
        if (box == "box of " + name) ++got;
        if (box == "NotFound") ++not_found;
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(got, 1);
    EXPECT_EQ(not_found, 7);
  }
  EXPECT_EQ(recorded(a_, "race"), 10u);
}

TEST_P(WrappingStoreSuite, ManyAtOnceDoNotPassTheBound) {
  std::atomic<int> added{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      auto& store = i % 2 == 0 ? harness_->store() : harness_->other_replica();
      const auto it = answer(std::to_string(i));
      if (store.add(a_, [&] { return Result<Answer>(it); }, 3, kNow, {}).ok()) ++added;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(added, 3);
}

}  // namespace postern::test
