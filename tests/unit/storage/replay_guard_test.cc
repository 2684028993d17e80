#include "storage/postgres_replay_guard.h"

#include <gtest/gtest.h>

#include <memory>
#include <pqxx/pqxx>
#include <string>

#include "support/in_memory_replay_guard.h"
#include "support/postgres_stores.h"
#include "support/replay_guard_suite.h"

namespace postern::test {
namespace {

class MemoryGuard final : public ReplayGuardHarness {
 public:
  policy::ReplayGuard& guard() override { return guard_; }
  policy::ReplayGuard& other_replica() override { return guard_; }
  TenantId tenant(int number) override { return TenantId(number == 0 ? "acme" : "beta"); }

 private:
  InMemoryReplayGuard guard_{{TenantId("acme"), TenantId("beta")}};
};

class PostgresGuard final : public ReplayGuardHarness {
 public:
  PostgresGuard() {
    stores_.add(tenant(0));
    stores_.add(tenant(1));
  }
  policy::ReplayGuard& guard() override { return guard_; }
  policy::ReplayGuard& other_replica() override { return other_; }
  TenantId tenant(int number) override { return TenantId(number == 0 ? "acme" : "beta"); }
  PostgresStores& stores() { return stores_; }

 private:
  PostgresStores stores_;
  storage::PostgresReplayGuard guard_{stores_.database};
  storage::Database second_{stores_.options()};
  storage::PostgresReplayGuard other_{second_};
};

INSTANTIATE_TEST_SUITE_P(InMemory, ReplayGuardSuite, ::testing::Values(ReplayGuardFactory{[] {
                           return std::make_unique<MemoryGuard>();
                         }}));
INSTANTIATE_TEST_SUITE_P(Postgres, ReplayGuardSuite, ::testing::Values(ReplayGuardFactory{[] {
                           return std::make_unique<PostgresGuard>();
                         }}));

std::string rows_of(PostgresGuard& harness, const std::string& tenant) {
  pqxx::connection connection(harness.stores().superuser());
  pqxx::work tx(connection);
  return tx
      .exec("SELECT count(*) FROM postern.used_once WHERE tenant_id = " + tx.quote(tenant))[0][0]
      .c_str();
}

TEST(PostgresReplayGuard, EachUseRemovesAFewExpiredRowsOfItsTenantOnly) {
  PostgresGuard harness;
  const auto now = SystemClock().now();
  const auto use = [&](int tenant, const std::string& of, sys_seconds expires_at) {
    return harness.guard()
        .first_use(harness.tenant(tenant), "dpop", crypto::sha256(as_bytes(of)), expires_at)
        .value();
  };
  // Two minutes of grace: what expired a moment ago is still known. The first one
  // removes nothing, not even itself, long expired as it is.
  EXPECT_TRUE(use(0, "just expired", now - std::chrono::seconds(30)));
  EXPECT_FALSE(use(0, "just expired", now - std::chrono::seconds(30)));
  EXPECT_TRUE(use(1, "other tenant", now - std::chrono::hours(1)));
  EXPECT_FALSE(use(1, "other tenant", now - std::chrono::hours(1)));
  {
    pqxx::connection connection(harness.stores().superuser());
    pqxx::work tx(connection);
    tx.exec(
        "INSERT INTO postern.used_once SELECT 'acme', 'dpop', sha256(n::text::bytea), "
        "now() - interval '1 hour' FROM generate_series(1, 10) n");
    tx.commit();
  }
  EXPECT_EQ(rows_of(harness, "acme"), "11");
  EXPECT_TRUE(use(0, "a", now + std::chrono::minutes(5)));
  EXPECT_EQ(rows_of(harness, "acme"), "8");  // one more, four fewer
  EXPECT_TRUE(use(0, "b", now + std::chrono::minutes(5)));
  EXPECT_TRUE(use(0, "c", now + std::chrono::minutes(5)));
  EXPECT_EQ(rows_of(harness, "acme"), "4");  // the three and the one just expired
  EXPECT_FALSE(use(0, "a", now + std::chrono::minutes(5)));
  EXPECT_EQ(rows_of(harness, "beta"), "1");
}

TEST(PostgresReplayGuard, SaysUnavailableWhenTheDatabaseIsGone) {
  auto stores = std::make_unique<PostgresStores>();
  storage::PostgresReplayGuard guard(stores->database);
  stores->add(TenantId("acme"));
  auto options = stores->options();
  options.conninfo += " port=1";
  storage::Database elsewhere(options);
  storage::PostgresReplayGuard lost(elsewhere);
  EXPECT_EQ(code_of(lost.first_use(TenantId("acme"), "dpop", {}, SystemClock().now())),
            ErrorCode::Unavailable);
}

}  // namespace
}  // namespace postern::test
