#pragma once

// The contract of policy::ReplayGuard as tests; see config_store_suite.h for how
// to hold an implementation to it.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "core/ids.h"
#include "crypto/hash.h"
#include "policy/replay_guard.h"
#include "support/code_of.h"

namespace postern::test {

class ReplayGuardHarness {
 public:
  virtual ~ReplayGuardHarness() = default;
  virtual policy::ReplayGuard& guard() = 0;
  virtual policy::ReplayGuard& other_replica() = 0;
  virtual TenantId tenant(int number) = 0;  ///< 0 and 1, which there are
};

struct ReplayGuardFactory {
  std::function<std::unique_ptr<ReplayGuardHarness>()> make;
  friend void PrintTo(const ReplayGuardFactory&, std::ostream* out) { *out << "replay guard"; }
};

class ReplayGuardSuite : public ::testing::TestWithParam<ReplayGuardFactory> {
 protected:
  static crypto::Hash256 digest(const std::string& of) { return crypto::sha256(as_bytes(of)); }
  static sys_seconds later() { return SystemClock().now() + std::chrono::minutes(5); }
  bool first(const TenantId& tenant, std::string_view kind, const std::string& of) {
    const auto answer = harness_->guard().first_use(tenant, kind, digest(of), later());
    EXPECT_TRUE(answer.ok()) << answer.error().diagnostic;
    return answer.ok() && answer.value();
  }

  std::unique_ptr<ReplayGuardHarness> harness_ = GetParam().make();
  const TenantId a_ = harness_->tenant(0);
  const TenantId b_ = harness_->tenant(1);
};

TEST_P(ReplayGuardSuite, OnlyTheFirstUseIsTheFirst) {
  EXPECT_TRUE(first(a_, "dpop", "one"));
  EXPECT_FALSE(first(a_, "dpop", "one"));
  EXPECT_FALSE(first(a_, "dpop", "one"));
  EXPECT_TRUE(first(a_, "dpop", "two"));
}

TEST_P(ReplayGuardSuite, KindsAndTenantsDoNotBurnEachOthers) {
  EXPECT_TRUE(first(a_, "dpop", "same"));
  EXPECT_TRUE(first(a_, "client_assertion", "same"));
  EXPECT_TRUE(first(a_, "id_jag", "same"));
  EXPECT_TRUE(first(b_, "dpop", "same"));
  EXPECT_FALSE(first(b_, "dpop", "same"));
  EXPECT_FALSE(first(a_, "dpop", "same"));
}

TEST_P(ReplayGuardSuite, ATenantThatIsNotThereIsNotFound) {
  EXPECT_EQ(code_of(harness_->guard().first_use(TenantId("nobody"), "dpop", digest("x"), later())),
            ErrorCode::NotFound);
}

TEST_P(ReplayGuardSuite, OfManyAtOnceOnReplicasOneIsTheFirst) {
  for (int round = 0; round < 10; ++round) {
    const auto shared = digest("round " + std::to_string(round));
    std::atomic<int> firsts{0}, failures{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        auto& guard = i % 2 == 0 ? harness_->guard() : harness_->other_replica();
        const auto answer = guard.first_use(a_, "dpop", shared, later());
        if (!answer.ok()) {
          ++failures;
        } else if (answer.value()) {
          ++firsts;
        }
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(firsts, 1);
    EXPECT_EQ(failures, 0);
  }
}

}  // namespace postern::test
