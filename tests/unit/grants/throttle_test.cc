#include "grants/throttle.h"

#include <gtest/gtest.h>

#include <string>

#include "support/tenant_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;

struct Guessing {
  explicit Guessing(Throttle::Options options = {.free_failures = 5, .max_delay = 8s})
      : throttle(clock, options) {}

  bool refused(std::string_view client = "gw-01", std::string_view source = "192.0.2.1") {
    return throttle.refuses(tenant, client, source).has_value();
  }
  void fail_times(int times, std::string_view client = "gw-01",
                  std::string_view source = "192.0.2.1") {
    for (int i = 0; i < times; ++i) throttle.failed(tenant, client, source);
  }

  const TenantId tenant{"acme"};
  test::FixedClock clock;
  Throttle throttle;
};

TEST(Throttle, A6_AFewFailuresCostNothing) {
  Guessing f;
  f.fail_times(5);  // one client retries each failure three times
  EXPECT_FALSE(f.refused());
  f.fail_times(1);
  EXPECT_TRUE(f.refused());
}

TEST(Throttle, A6_EachFurtherFailureDoublesTheDelayUpToABound) {
  Guessing f;
  f.fail_times(5);
  for (const auto delay : {1s, 2s, 4s, 8s, 8s, 8s}) {
    f.fail_times(1);
    const auto refusal = f.throttle.refuses(f.tenant, "gw-01", "192.0.2.1");
    ASSERT_TRUE(refusal);
    EXPECT_EQ(refusal->retry_after, delay);
    f.clock.advance(delay);
    EXPECT_FALSE(f.refused()) << "no lock-out";
  }
}

TEST(Throttle, A6_ASuccessEndsIt) {
  Guessing f;
  f.fail_times(6);
  f.clock.advance(1s);
  f.throttle.succeeded(f.tenant, "gw-01", "192.0.2.1");
  EXPECT_EQ(f.throttle.entries(), 0U);
  f.fail_times(5);
  EXPECT_FALSE(f.refused());
}

TEST(Throttle, A6_OtherSourcesClientsAndTenantsAreNotAffected) {
  Guessing f;
  f.fail_times(20);
  EXPECT_TRUE(f.refused());
  EXPECT_FALSE(f.refused("gw-01", "192.0.2.2"));
  EXPECT_FALSE(f.refused("gw-02", "192.0.2.1"));
  EXPECT_FALSE(f.throttle.refuses(TenantId("other"), "gw-01", "192.0.2.1"));
}

TEST(Throttle, OneIpv6HostIsItsWholeNetwork) {
  Guessing f;
  for (int i = 0; i < 6; ++i) {
    f.fail_times(1, "gw-01", "2001:db8:0:1::" + std::to_string(i));
  }
  EXPECT_TRUE(f.refused("gw-01", "2001:db8:0:1:ffff::1"));
  EXPECT_FALSE(f.refused("gw-01", "2001:db8:0:2::1"));
}

TEST(Throttle, IsForgottenAfterAQuietTime) {
  Guessing f;
  f.fail_times(5);
  f.clock.advance(901s);
  f.fail_times(5);
  EXPECT_FALSE(f.refused());
}

TEST(Throttle, RefusedAttemptsAreCountedAndRecordedOnceAMinute) {
  Guessing f({.free_failures = 1, .max_delay = 3600s});
  f.fail_times(20);
  std::uint64_t recorded = 0, records = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto refusal = f.throttle.refuses(f.tenant, "gw-01", "192.0.2.1");
    ASSERT_TRUE(refusal);
    recorded += refusal->to_record;
    records += refusal->to_record > 0;
    if (i % 10 == 9) f.clock.advance(1s);
  }
  EXPECT_EQ(records, 2U) << "a hundred seconds";
  f.clock.advance(3600s);
  recorded += f.throttle.failed(f.tenant, "gw-01", "192.0.2.1");
  EXPECT_EQ(recorded, 1000U) << "none is lost";
}

TEST(Throttle, KeepsABoundedTable) {
  Guessing f({.free_failures = 1, .max_delay = 60s, .entries = 10});
  for (int i = 0; i < 1000; ++i) f.fail_times(1, "gw-" + std::to_string(i));
  EXPECT_EQ(f.throttle.entries(), 10U);
  f.fail_times(1, "gw-999");
  EXPECT_TRUE(f.refused("gw-999"));
  EXPECT_FALSE(f.refused("gw-0"));
}

}  // namespace
}  // namespace postern::grants
