#include "policy/snapshot_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/code_of.h"
#include "support/tenant_fixture.h"

namespace postern::policy {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using test::code_of;

/// Tenants whose loads a test can watch, delay and fail.
class ScriptedStore final : public ConfigStore {
 public:
  Result<TenantPage> tenants(std::string_view, std::uint32_t) override { return TenantPage{}; }
  Result<StoredTenant> load(const TenantId& tenant) override {
    const int call = ++loads_;
    std::optional<StoredTenant> found;
    {
      const std::lock_guard lock(mutex_);
      const auto it = rows_.find(tenant);
      if (it != rows_.end()) found = it->second;
    }
    if (during) during(call);
    if (failure) return *failure;
    if (!found) return fail(ErrorCode::NotFound, "no such tenant");
    return *found;
  }
  Result<std::uint64_t> apply(const TenantId&, const ConfigChange&,
                              std::span<const audit::Event>) override {
    return fail(ErrorCode::Internal, "");
  }
  Status remove(const TenantId&, std::span<const audit::Event>) override { return {}; }
  Result<bool> was_removed(const TenantId&) override { return false; }

  void put(StoredTenant tenant) {
    const std::lock_guard lock(mutex_);
    rows_.insert_or_assign(tenant.row.tenant, std::move(tenant));
  }
  /// As a commit of a change would: the next epoch.
  std::uint64_t touch(const TenantId& tenant) {
    const std::lock_guard lock(mutex_);
    return ++rows_.at(tenant).row.epoch;
  }
  void erase(const TenantId& tenant) {
    const std::lock_guard lock(mutex_);
    rows_.erase(tenant);
  }
  int loads() const { return loads_; }

  std::function<void(int call)> during;  ///< after the row was read
  std::optional<Error> failure;

 private:
  std::atomic<int> loads_{0};
  std::mutex mutex_;
  std::map<TenantId, StoredTenant> rows_;
};

struct CacheFixture {
  explicit CacheFixture(std::size_t max_bytes = 256 * 1024 * 1024) {
    options.base_url = "https://sts.example.com";
    options.max_bytes = max_bytes;
    options.unknown_for = std::chrono::seconds(3600);
    add("acme");
  }
  void add(const std::string& name) {
    keys.add(TenantId(name));
    store.put({{TenantId(name), name, true, "{}", 1, {}}, {}, {}, {}, {}});
  }
  SnapshotCache cache() {
    return SnapshotCache(store, keys.keyring, options, [this] { return confirmed; });
  }

  test::TestKeyring keys;
  ScriptedStore store;
  SnapshotCache::Options options;
  steady_clock::time_point confirmed = steady_clock::time_point::max();
  const TenantId acme{"acme"};
};

TEST(SnapshotCache, LoadsOnceAndPeeksWithoutLoading) {
  CacheFixture f;
  auto cache = f.cache();
  EXPECT_EQ(cache.peek(f.acme).value(), nullptr);
  EXPECT_EQ(f.store.loads(), 0);
  const auto first = cache.get(f.acme).value();
  EXPECT_EQ(cache.get(f.acme).value(), first);
  EXPECT_EQ(cache.peek(f.acme).value(), first);
  EXPECT_EQ(f.store.loads(), 1);
  EXPECT_EQ(cache.stats().tenants, 1u);
  EXPECT_EQ(cache.stats().bytes, first->footprint());
}

TEST(SnapshotCache, DropsWhatIsOlderThanAnnounced) {
  CacheFixture f;
  auto cache = f.cache();
  const auto first = cache.get(f.acme).value();
  cache.moved_on(f.acme, 1);  // what it has already
  EXPECT_EQ(cache.peek(f.acme).value(), first);

  const auto epoch = f.store.touch(f.acme);
  cache.moved_on(f.acme, epoch);
  EXPECT_EQ(cache.peek(f.acme).value(), nullptr);
  EXPECT_EQ(cache.stats().bytes, 0u);
  EXPECT_EQ(cache.get(f.acme).value()->epoch(), epoch);
  cache.moved_on(f.acme, 1);  // announced late: nothing to do
  EXPECT_EQ(cache.peek(f.acme).value()->epoch(), epoch);
  EXPECT_EQ(first->epoch(), 1u);  // whoever holds the old one keeps it whole
}

TEST(SnapshotCache, LoadsAgainWhenTheTenantMovesOnMeanwhile) {
  CacheFixture f;
  auto cache = f.cache();
  f.store.during = [&](int call) {
    if (call == 1) cache.moved_on(f.acme, f.store.touch(f.acme));
  };
  EXPECT_EQ(cache.get(f.acme).value()->epoch(), 2u);
  EXPECT_EQ(f.store.loads(), 2);
  EXPECT_EQ(cache.peek(f.acme).value()->epoch(), 2u);
}

TEST(SnapshotCache, ServesNothingWhileItCannotCatchUp) {
  CacheFixture f;
  auto cache = f.cache();
  f.store.during = [&](int) { cache.moved_on(f.acme, f.store.touch(f.acme)); };
  const auto refused = cache.get(f.acme);
  ASSERT_EQ(code_of(refused), ErrorCode::Unavailable);
  EXPECT_TRUE(refused.error().retry_after);
  EXPECT_EQ(cache.peek(f.acme).value(), nullptr);
  EXPECT_EQ(cache.stats().bytes, 0u);
  f.store.during = nullptr;
  EXPECT_TRUE(cache.get(f.acme).ok());
}

// A fail-over that lost commits: the database is at an earlier epoch than was built from.
TEST(SnapshotCache, FollowsTheDatabaseBackwardsToo) {
  CacheFixture f;
  auto cache = f.cache();
  f.store.touch(f.acme);
  f.store.touch(f.acme);
  ASSERT_EQ(cache.get(f.acme).value()->epoch(), 3u);
  cache.observed(f.acme, 3);
  EXPECT_NE(cache.peek(f.acme).value(), nullptr);
  f.store.put({{f.acme, "acme", true, "{}", 2, {}}, {}, {}, {}, {}});
  cache.observed(f.acme, 2);
  EXPECT_EQ(cache.peek(f.acme).value(), nullptr);
  EXPECT_EQ(cache.stats().bytes, 0u);
  EXPECT_EQ(cache.get(f.acme).value()->epoch(), 2u);
  cache.observed(f.acme, 4);
  EXPECT_EQ(code_of(cache.get(f.acme)), ErrorCode::Unavailable);
}

TEST(SnapshotCache, HoldsNoMoreGuessesThanItMay) {
  CacheFixture f;
  f.options.max_slots = 50;
  auto cache = f.cache();
  ASSERT_TRUE(cache.get(f.acme).ok());
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(code_of(cache.get(TenantId("guess-" + std::to_string(i)))), ErrorCode::NotFound);
  }
  const auto loads = f.store.loads();
  (void)cache.get(TenantId("guess-199"));  // the newest is remembered
  EXPECT_NE(cache.peek(f.acme).value(), nullptr);
  EXPECT_EQ(f.store.loads(), loads);
  (void)cache.get(TenantId("guess-0"));  // the oldest is not
  EXPECT_EQ(f.store.loads(), loads + 1);
}

TEST(SnapshotCache, RemembersThatATenantIsUnknown) {
  CacheFixture f;
  auto cache = f.cache();
  const TenantId guess("guess");
  EXPECT_EQ(code_of(cache.get(guess)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(cache.get(guess)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(cache.peek(guess)), ErrorCode::NotFound);
  EXPECT_EQ(f.store.loads(), 1);
  f.add("guess");
  cache.moved_on(guess, 1);
  EXPECT_EQ(cache.get(guess).value()->tenant(), guess);
}

TEST(SnapshotCache, DoesNotRememberUnknownWhatCameIntoBeingMeanwhile) {
  CacheFixture f;
  auto cache = f.cache();
  const TenantId fresh("fresh");
  f.store.during = [&](int call) {
    if (call != 1) return;
    f.add("fresh");
    cache.moved_on(fresh, 1);
  };
  EXPECT_EQ(code_of(cache.get(fresh)), ErrorCode::NotFound);
  EXPECT_TRUE(cache.get(fresh).ok());
}

TEST(SnapshotCache, ForgetsUnknownAtOnceWhenToldNotToRemember) {
  CacheFixture f;
  f.options.unknown_for = 0s;
  auto cache = f.cache();
  (void)cache.get(TenantId("guess"));
  (void)cache.get(TenantId("guess"));
  EXPECT_EQ(f.store.loads(), 2);
}

TEST(SnapshotCache, GuessesBeyondTheLimitPushOutOnlyIdleSlots) {
  CacheFixture f;
  f.options.max_slots = 10;
  auto cache = f.cache();
  const auto known = cache.get(f.acme).value();
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(code_of(cache.get(TenantId("guess-" + std::to_string(i)))), ErrorCode::NotFound);
  }
  EXPECT_EQ(cache.peek(f.acme).value(), known);
  EXPECT_EQ(cache.peek(TenantId("guess-0")).value(), nullptr) << "no longer remembered";
}

TEST(SnapshotCache, DropsWhatWasBuiltFromALostCommit) {
  CacheFixture f;
  auto cache = f.cache();
  f.store.touch(f.acme);
  EXPECT_EQ(cache.get(f.acme).value()->epoch(), 2u);
  f.store.erase(f.acme);
  f.add("acme");  // a fail-over to a replica that never had epoch 2
  cache.observed(f.acme, 1);
  EXPECT_EQ(cache.peek(f.acme).value(), nullptr);
  EXPECT_EQ(cache.get(f.acme).value()->epoch(), 1u);
}

TEST(SnapshotCache, ADeletedTenantIsGone) {
  CacheFixture f;
  auto cache = f.cache();
  ASSERT_TRUE(cache.get(f.acme).ok());
  f.store.erase(f.acme);
  cache.moved_on(f.acme, ~std::uint64_t{0});
  EXPECT_EQ(code_of(cache.get(f.acme)), ErrorCode::NotFound);
}

TEST(SnapshotCache, StopsWhenItCannotKnowWhetherItIsCurrent) {
  CacheFixture f;
  auto cache = f.cache();
  ASSERT_TRUE(cache.get(f.acme).ok());
  const auto loads = f.store.loads();
  f.confirmed = steady_clock::now() - 1h;
  for (const auto& refused : {cache.get(f.acme), cache.peek(f.acme)}) {
    ASSERT_EQ(code_of(refused), ErrorCode::Unavailable);
    EXPECT_TRUE(refused.error().retry_after);
    EXPECT_TRUE(refused.error().detail.empty());
  }
  // Not even for tenants it knows nothing of: a load says nothing of later changes.
  EXPECT_EQ(code_of(cache.get(TenantId("guess"))), ErrorCode::Unavailable);
  EXPECT_EQ(f.store.loads(), loads);
  f.confirmed = steady_clock::now();
  EXPECT_TRUE(cache.get(f.acme).ok());
}

TEST(SnapshotCache, PassesFailuresOnAndRemembersNone) {
  CacheFixture f;
  auto cache = f.cache();
  f.store.failure = fail(ErrorCode::Unavailable, "database");
  EXPECT_EQ(code_of(cache.get(f.acme)), ErrorCode::Unavailable);
  f.store.failure.reset();
  EXPECT_TRUE(cache.get(f.acme).ok());
}

TEST(SnapshotCache, StaysWithinItsMemoryByDroppingTheLeastUsed) {
  std::size_t one = 0;
  {
    CacheFixture f;
    one = f.cache().get(f.acme).value()->footprint();
  }
  CacheFixture f(one * 8 + one / 2);
  auto cache = f.cache();
  for (int i = 0; i < 8; ++i) {
    const auto name = "t" + std::to_string(i);
    f.add(name);
    ASSERT_TRUE(cache.get(TenantId(name)).ok());
  }
  EXPECT_EQ(cache.stats().tenants, 8u);
  ASSERT_NE(cache.peek(TenantId("t0")).value(), nullptr);  // used last
  const auto held = cache.peek(TenantId("t1")).value();
  f.add("t8");
  ASSERT_TRUE(cache.get(TenantId("t8")).ok());

  const auto stats = cache.stats();
  EXPECT_LE(stats.bytes, f.options.max_bytes);
  EXPECT_LT(stats.tenants, 9u);
  EXPECT_NE(cache.peek(TenantId("t0")).value(), nullptr);
  EXPECT_NE(cache.peek(TenantId("t8")).value(), nullptr);
  EXPECT_EQ(held->tenant(), TenantId("t1"));  // in use, so still whole
  // Dropped, not lost.
  const auto loads = f.store.loads();
  for (int i = 0; i < 9; ++i) ASSERT_TRUE(cache.get(TenantId("t" + std::to_string(i))).ok());
  EXPECT_GT(f.store.loads(), loads);
  EXPECT_LE(cache.stats().bytes, f.options.max_bytes);
}

TEST(SnapshotCache, ServesATenantLargerThanItsMemory) {
  CacheFixture f(1);
  auto cache = f.cache();
  EXPECT_TRUE(cache.get(f.acme).ok());
  EXPECT_TRUE(cache.get(f.acme).ok());
  EXPECT_EQ(cache.stats().bytes, 0u);
}

TEST(SnapshotCache, LoadsOnceForAllWhoWait) {
  CacheFixture f;
  auto cache = f.cache();
  std::promise<void> open;
  const auto gate = open.get_future().share();
  f.store.during = [&](int) { gate.wait(); };
  std::vector<std::future<const TenantSnapshot*>> waiting;
  for (int i = 0; i < 8; ++i) {
    waiting.push_back(
        std::async(std::launch::async, [&] { return cache.get(f.acme).value().get(); }));
  }
  open.set_value();
  std::set<const TenantSnapshot*> seen;
  for (auto& one : waiting) seen.insert(one.get());
  EXPECT_EQ(seen.size(), 1u);
  EXPECT_EQ(f.store.loads(), 1);
}

TEST(SnapshotCache, ASlowLoadOfOneTenantDoesNotHoldUpAnother) {
  CacheFixture f;
  f.add("other");
  auto cache = f.cache();
  ASSERT_TRUE(cache.get(TenantId("other")).ok());
  std::promise<void> open, started;
  f.store.during = [&](int) {
    started.set_value();
    open.get_future().wait();
  };
  auto slow = std::async(std::launch::async, [&] { return cache.get(f.acme).ok(); });
  started.get_future().wait();
  EXPECT_TRUE(cache.get(TenantId("other")).ok());  // would wait for ever otherwise
  cache.moved_on(TenantId("other"), 1);
  EXPECT_EQ(cache.peek(f.acme).value(), nullptr);
  open.set_value();
  EXPECT_TRUE(slow.get());
}

// Whatever happens at once, nobody is given an epoch older than what had been
// announced before it asked.
TEST(SnapshotCache, NeverGoesBackUnderConcurrentChanges) {
  CacheFixture f(1024 * 40);
  for (const char* name : {"t0", "t1", "t2"}) f.add(name);
  auto cache = f.cache();
  std::array<std::atomic<std::uint64_t>, 3> announced{1, 1, 1};
  std::atomic<bool> stop{false};
  std::atomic<int> stale{0}, served{0};
  std::thread writer([&] {
    for (int i = 0; i < 200; ++i) {
      const auto index = static_cast<std::size_t>(i % 3);
      const TenantId tenant("t" + std::to_string(index));
      const auto epoch = f.store.touch(tenant);
      cache.moved_on(tenant, epoch);
      announced[index] = epoch;
      std::this_thread::yield();
    }
    stop = true;
  });
  std::vector<std::thread> readers;
  for (int r = 0; r < 3; ++r) {
    readers.emplace_back([&, r] {
      for (std::size_t i = static_cast<std::size_t>(r); !stop || i < 300; ++i) {
        const auto floor = announced[i % 3].load();
        const auto got = cache.get(TenantId("t" + std::to_string(i % 3)));
        if (!got.ok()) continue;  // Unavailable: could not catch up
        ++served;
        if (got.value()->epoch() < floor) ++stale;
      }
    });
  }
  writer.join();
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(stale, 0);
  EXPECT_GT(served, 100);
}

TEST(SnapshotCache, IsRenewedWithoutANewEpoch) {
  CacheFixture f;
  auto cache = f.cache();
  cache.renew(f.acme);  // not in memory
  const auto before = cache.get(f.acme).value();
  cache.renew(f.acme);
  EXPECT_EQ(cache.peek(f.acme).value(), nullptr);
  EXPECT_EQ(cache.stats().bytes, 0u);
  const auto after = cache.get(f.acme).value();
  EXPECT_NE(after, before);
  EXPECT_EQ(after->epoch(), before->epoch());
}

TEST(SnapshotCache, WhatWasBeingLoadedWhenItWasRenewedIsLoadedAgain) {
  CacheFixture f;
  auto cache = f.cache();
  f.store.during = [&](int call) {
    if (call == 1) cache.renew(f.acme);
  };
  EXPECT_TRUE(cache.get(f.acme).ok());
  EXPECT_EQ(f.store.loads(), 2);
}

}  // namespace
}  // namespace postern::policy
