#include "storage/postgres_wrapping_store.h"

#include <gtest/gtest.h>

#include <memory>
#include <pqxx/pqxx>
#include <string>

#include "support/postgres_stores.h"
#include "support/wrapping_store_suite.h"

namespace postern::test {
namespace {

class PostgresWrapping final : public WrappingStoreHarness {
 public:
  vault::WrappingStore& store() override { return store_; }
  vault::WrappingStore& other_replica() override { return other_; }
  audit::AuditLog& log() override { return stores_.log; }
  TenantId add_tenant() override { return stores_.add_tenant(); }

 private:
  PostgresStores stores_;
  storage::PostgresWrappingStore store_{stores_.database, stores_.log};
  storage::Database second_{stores_.options()};
  storage::PostgresAuditLog second_log_{second_, stores_.keyring};
  storage::PostgresWrappingStore other_{second_, second_log_};
};

INSTANTIATE_TEST_SUITE_P(Postgres, WrappingStoreSuite, ::testing::Values(WrappingStoreFactory{[] {
                           return std::make_unique<PostgresWrapping>();
                         }}));

TEST(PostgresWrappingStore, WhoAddsOneClearsAwayWhatExpiredOfTheTenant) {
  PostgresStores stores;
  const SystemClock clock;
  storage::PostgresWrappingStore store(stores.database, stores.log);
  vault::Wrapping wrapping(stores.keyring, store, clock);
  const auto tenant = stores.add_tenant();
  const auto other = stores.add_tenant();
  const auto wrap = [&](const TenantId& of) {
    audit::Event record{of, clock.now(), "vault.wrap", {}, "r", {}};
    return wrapping
        .wrap(of, Owner::tenant(), "operator", "sys/wrapping/wrap", std::chrono::minutes(1),
              Plaintext(SecureBuffer::copy_of("{}")), record)
        .ok();
  };
  const auto rows = [&](const std::string& change = "") -> std::string {
    pqxx::connection connection(stores.superuser());
    pqxx::work tx(connection);
    if (!change.empty()) tx.exec(change);
    std::string count = tx.exec("SELECT count(*) FROM postern.wrapped_answer")[0][0].c_str();
    tx.commit();
    return count;
  };
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(wrap(tenant));
  ASSERT_TRUE(wrap(other));
  EXPECT_EQ(rows("UPDATE postern.wrapped_answer SET created_at = '2020-01-01',"
                 " expires_at = '2020-01-02'"),
            "4");
  ASSERT_TRUE(wrap(tenant));
  EXPECT_EQ(rows(), "2");  // the new one, and the other tenant's
}

}  // namespace
}  // namespace postern::test
