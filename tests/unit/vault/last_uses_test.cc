#include "vault/last_uses.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "support/in_memory_audit_log.h"
#include "support/in_memory_credential_store.h"
#include "support/in_memory_kek_store.h"

namespace postern::vault {
namespace {

using namespace std::chrono_literals;

const sys_seconds kNow(1'900'000'000s);

/// A store whose writings can fail, and are counted.
class CountingStore final : public test::InMemoryCredentialStore {
 public:
  using InMemoryCredentialStore::InMemoryCredentialStore;
  Status note_uses(const TenantId& tenant, std::span<const Use> uses) override {
    ++writings;
    largest = std::max(largest, uses.size());
    if (dead) return fail(ErrorCode::Unavailable, "", "database");
    return InMemoryCredentialStore::note_uses(tenant, uses);
  }
  bool dead = false;
  int writings = 0;
  std::size_t largest = 0;
};

class LastUsesTest : public ::testing::Test {
 protected:
  LastUsesTest() {
    for (const auto& tenant : {a_, b_}) keys_.add(tenant);
  }
  static CredentialKey key(const std::string& name) {
    return {Owner::tenant(), CredentialName(name)};
  }
  void put(const TenantId& tenant, const std::string& name) {
    ASSERT_TRUE(store_
                    .put(tenant, key(name), std::nullopt,
                         [](std::uint32_t version) -> Result<SealedVersion> {
                           return SealedVersion{version, KekVersion{1}, Bytes(1), Bytes(1), {"f"},
                                                {},      std::nullopt};
                         },
                         {})
                    .ok());
  }
  std::optional<sys_seconds> used(const TenantId& tenant, const std::string& name) {
    return store_.metadata(tenant, key(name)).value().last_used_at;
  }

  const TenantId a_{"a"};
  const TenantId b_{"b"};
  test::TestKeyring keys_;
  test::InMemoryAuditLog log_{keys_.keyring};
  CountingStore store_{log_};
  LastUses uses_{store_};
};

TEST_F(LastUsesTest, ManyUsesAreOneWriting) {
  put(a_, "github");
  put(b_, "github");
  for (int i = 0; i < 1000; ++i) uses_.note(a_, key("github"), kNow + std::chrono::seconds(i));
  EXPECT_EQ(store_.writings, 0) << "handing out waits for no write";
  ASSERT_TRUE(uses_.write().ok());
  EXPECT_EQ(store_.writings, 1);
  EXPECT_EQ(used(a_, "github"), kNow + 999s);
  EXPECT_EQ(used(b_, "github"), std::nullopt);
  ASSERT_TRUE(uses_.write().ok());
  EXPECT_EQ(store_.writings, 1) << "nothing new";
}

TEST_F(LastUsesTest, TheLatestUseCountsInWhateverOrderTheyCome) {
  put(a_, "github");
  uses_.note(a_, key("github"), kNow);
  uses_.note(a_, key("github"), kNow - 5s);
  ASSERT_TRUE(uses_.write().ok());
  EXPECT_EQ(used(a_, "github"), kNow);
}

TEST_F(LastUsesTest, WhatCouldNotBeWrittenWaitsForTheNextTime) {
  for (const char* name : {"x", "y"}) {
    put(a_, name);
    put(b_, name);
    uses_.note(a_, key(name), kNow);
    uses_.note(b_, key(name), kNow);
  }
  store_.dead = true;
  EXPECT_FALSE(uses_.write().ok());
  EXPECT_EQ(store_.writings, 1) << "one failure is enough to know";
  uses_.note(a_, key("x"), kNow + 7s);
  store_.dead = false;
  ASSERT_TRUE(uses_.write().ok());
  EXPECT_EQ(used(a_, "x"), kNow + 7s);
  for (const auto& tenant : {a_, b_}) EXPECT_EQ(used(tenant, "y"), kNow);
  EXPECT_EQ(uses_.dropped(), 0u);
}

TEST_F(LastUsesTest, IsBoundedAndWritesInBatches) {
  for (std::size_t i = 0; i < LastUses::kMostNoted + 10; ++i) {
    uses_.note(i % 2 == 0 ? a_ : b_, key("c" + std::to_string(i)), kNow);
  }
  EXPECT_EQ(uses_.dropped(), 10u);
  uses_.note(a_, key("c0"), kNow + 1s);  // is noted already
  EXPECT_EQ(uses_.dropped(), 10u);
  ASSERT_TRUE(uses_.write().ok());
  EXPECT_LE(store_.largest, 1000u);
  uses_.note(a_, key("there-is-room-again"), kNow);
  EXPECT_EQ(uses_.dropped(), 10u);
}

TEST_F(LastUsesTest, WritesOnceMoreWhenItStops) {
  put(a_, "github");
  uses_.start(1h);
  uses_.note(a_, key("github"), kNow);
  uses_.stop();
  EXPECT_EQ(used(a_, "github"), kNow);
  uses_.stop();
}

TEST_F(LastUsesTest, NotesOfManyThreadsAllCount) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) put(a_, "c" + std::to_string(i));
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int j = 0; j < 200; ++j) {
        uses_.note(a_, key("c" + std::to_string((i + j) % 4)), kNow + std::chrono::seconds(j));
        if (j % 50 == 0) {
          EXPECT_TRUE(uses_.write().ok());
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  ASSERT_TRUE(uses_.write().ok());
  for (int i = 0; i < 4; ++i) EXPECT_EQ(used(a_, "c" + std::to_string(i)), kNow + 199s);
}

}  // namespace
}  // namespace postern::vault
