#pragma once

// The contract of policy::RevocationList as tests. To hold an implementation to it:
//
//   namespace postern::test {
//   INSTANTIATE_TEST_SUITE_P(Postgres, RevocationListSuite,
//       ::testing::Values(RevocationListFactory{[] { return std::make_unique<Harness>(); }}));
//   }

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/ids.h"
#include "policy/revocation_list.h"
#include "support/code_of.h"

namespace postern::test {

class RevocationListHarness {
 public:
  virtual ~RevocationListHarness() = default;
  virtual policy::RevocationList& list() = 0;
  virtual TenantId add_tenant() = 0;  ///< a new one
};

struct RevocationListFactory {
  std::function<std::unique_ptr<RevocationListHarness>()> make;
  friend void PrintTo(const RevocationListFactory&, std::ostream* out) {
    *out << "revocation list";
  }
};

class RevocationListSuite : public ::testing::TestWithParam<RevocationListFactory> {
 protected:
  policy::RevocationList& list() { return harness_->list(); }
  static sys_seconds later() { return SystemClock().now() + std::chrono::minutes(5); }
  bool revoked(const TenantId& tenant, const std::vector<std::string>& ids) {
    const auto answer = list().any_revoked(tenant, ids);
    EXPECT_TRUE(answer.ok()) << answer.error().diagnostic;
    return answer.ok() && answer.value();
  }

  std::unique_ptr<RevocationListHarness> harness_ = GetParam().make();
  const TenantId a_ = harness_->add_tenant();
  const TenantId b_ = harness_->add_tenant();
};

TEST_P(RevocationListSuite, NothingIsRevokedAtFirst) {
  EXPECT_FALSE(revoked(a_, {"one", "two"}));
  EXPECT_FALSE(revoked(a_, {}));
}

TEST_P(RevocationListSuite, WhatIsRevokedIsSoAtOnce) {
  ASSERT_TRUE(list().revoke(a_, "one", later()).ok());
  EXPECT_TRUE(revoked(a_, {"one"}));
  EXPECT_FALSE(revoked(a_, {"two"}));
}

TEST_P(RevocationListSuite, OneRevokedAncestorIsEnough) {
  ASSERT_TRUE(list().revoke(a_, "grandparent", later()).ok());
  EXPECT_TRUE(revoked(a_, {"token", "parent", "grandparent"}));
  EXPECT_FALSE(revoked(a_, {"token", "parent"}));
}

TEST_P(RevocationListSuite, AgainIsNoError) {
  ASSERT_TRUE(list().revoke(a_, "one", later()).ok());
  EXPECT_TRUE(list().revoke(a_, "one", later()).ok());
  EXPECT_TRUE(revoked(a_, {"one"}));
}

TEST_P(RevocationListSuite, AnotherTenantsTokensAreUntouched) {
  ASSERT_TRUE(list().revoke(a_, "one", later()).ok());
  EXPECT_FALSE(revoked(b_, {"one"}));
  ASSERT_TRUE(list().revoke(b_, "two", later()).ok());
  EXPECT_FALSE(revoked(a_, {"two"}));
}

TEST_P(RevocationListSuite, IdsAreComparedByteByByte) {
  ASSERT_TRUE(list().revoke(a_, "x:AbC_-9", later()).ok());
  EXPECT_FALSE(revoked(a_, {"x:abc_-9", "AbC_-9", "x:AbC_-9 ", "x:AbC_-"}));
  EXPECT_TRUE(revoked(a_, {"x:AbC_-9"}));
}

TEST_P(RevocationListSuite, ATenantThatIsNotThereHasNoList) {
  EXPECT_EQ(code_of(list().revoke(TenantId("no-such-tenant"), "one", later())),
            ErrorCode::NotFound);
}

TEST_P(RevocationListSuite, AnIdHasBounds) {
  EXPECT_EQ(code_of(list().revoke(a_, "", later())), ErrorCode::TooLarge);
  EXPECT_EQ(code_of(list().revoke(a_, std::string(101, 'x'), later())), ErrorCode::TooLarge);
  EXPECT_TRUE(list().revoke(a_, std::string(100, 'x'), later()).ok());
}

TEST_P(RevocationListSuite, AnExpiryMayLieInAnyFuture) {
  EXPECT_TRUE(list().revoke(a_, "far", sys_seconds(std::chrono::seconds(1LL << 53))).ok());
  EXPECT_TRUE(revoked(a_, {"far"}));
}

TEST_P(RevocationListSuite, ManyAtTheSameTimeAreAllRevoked) {
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < 10; ++k) {
        const auto id = std::to_string(i * 5 + k);  // some of them twice
        failures += !list().revoke(a_, id, later()).ok();
        const std::vector<std::string> ids{id};
        const auto answer = list().any_revoked(a_, ids);
        failures += !(answer.ok() && answer.value());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
}

}  // namespace postern::test
