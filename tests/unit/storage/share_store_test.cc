#include <gtest/gtest.h>

#include <exception>
#include <memory>
#include <pqxx/pqxx>
#include <string>

#include "storage/database.h"
#include "storage/migrator.h"
#include "storage/postgres_share_store.h"
#include "storage/pqxx_compat.h"
#include "support/in_memory_share_store.h"
#include "support/postgres_fixture.h"
#include "support/share_store_suite.h"

namespace postern::test {
namespace {

struct InMemory final : ShareStoreHarness {
  vault::ShareStore& store() override { return shares; }
  InMemoryShareStore shares;
};

struct Postgres final : ShareStoreHarness {
  vault::ShareStore& store() override { return shares; }
  ShareDatabase server;
  storage::Database database{server.options()};
  storage::PostgresShareStore shares{database};
};

INSTANTIATE_TEST_SUITE_P(InMemory, ShareStoreSuite, ::testing::Values(ShareStoreFactory{[] {
                           return std::make_unique<InMemory>();
                         }}));
INSTANTIATE_TEST_SUITE_P(Postgres, ShareStoreSuite, ::testing::Values(ShareStoreFactory{[] {
                           return std::make_unique<Postgres>();
                         }}));

/// Each statement's own condition is all that keeps tenants apart.
struct WithoutRowSecurity final : ShareStoreHarness {
  WithoutRowSecurity() {
    pqxx::connection connection(made.server.owner());
    pqxx::work tx(connection);
    tx.exec("ALTER TABLE postern.key_share DISABLE ROW LEVEL SECURITY");
    tx.commit();
  }
  vault::ShareStore& store() override { return made.shares; }
  Postgres made;
};
INSTANTIATE_TEST_SUITE_P(PostgresWithoutRowSecurity, ShareStoreSuite,
                         ::testing::Values(ShareStoreFactory{
                             [] { return std::make_unique<WithoutRowSecurity>(); }}));

std::string as_service(const ShareDatabase& server, const std::string& tenant,
                       const std::string& sql) {
  pqxx::connection connection(server.service());
  pqxx::work tx(connection);
  tx.exec("SELECT set_config('postern.tenant_id', " + tx.quote(tenant) + ", true)");
  try {
    const auto rows = tx.exec(sql);
    return rows.empty() ? std::to_string(rows.affected_rows()) : rows[0][0].c_str();
  } catch (const std::exception& error) {
    return storage::pq::sqlstate_of(error).value_or(error.what());
  }
}

TEST(PostgresShareStore, RowLevelSecurityShowsOneTenantsSharesOnly) {
  Postgres made;
  for (const char* name : {"acme", "beta"}) {
    const TenantId tenant(name);
    SecureBuffer bytes(32);
    const vault::KeyShare share(std::move(bytes));
    ASSERT_TRUE(made.shares.add(tenant, vault::id_of(tenant, share), share).ok());
  }
  EXPECT_EQ(as_service(made.server, "", "SELECT count(*) FROM postern.key_share"), "0");
  EXPECT_EQ(as_service(made.server, "acme", "SELECT count(*) FROM postern.key_share"), "1");
  EXPECT_EQ(as_service(made.server, "acme",
                       "UPDATE postern.key_share SET share = NULL, destroyed_at = now() "
                       "WHERE tenant_id = 'beta'"),
            "0");
  EXPECT_EQ(as_service(made.server, "acme", "DELETE FROM postern.key_share"), "42501");
  EXPECT_EQ(as_service(made.server, "acme", "UPDATE postern.key_share SET share = share_id"),
            "42501");
  // What was destroyed stays destroyed.
  ASSERT_TRUE(made.shares.destroy_all(TenantId("acme")).ok());
  EXPECT_EQ(as_service(made.server, "acme",
                       "UPDATE postern.key_share SET share = share_id, destroyed_at = NULL"),
            "42501");
  EXPECT_EQ(as_service(made.server, "acme", "UPDATE postern.key_share SET destroyed_at = NULL"),
            "23514");
}

TEST(PostgresShareStore, IsAwayWhenItsDatabaseIs) {
  Postgres made;
  auto options = made.server.options();
  options.conninfo += " port=1";
  storage::Database elsewhere(options);
  storage::PostgresShareStore lost(elsewhere);
  EXPECT_EQ(code_of(lost.find(TenantId("acme"), {})), ErrorCode::Unavailable);
  EXPECT_EQ(code_of(lost.destroy_all(TenantId("acme"))), ErrorCode::Unavailable);
  EXPECT_EQ(code_of(lost.ping()), ErrorCode::Unavailable);
}

TEST(PostgresShareStore, ItsSchemaIsNotThatOfTheService) {
  using storage::Schema;
  using storage::SchemaStatus;
  const ShareDatabase shares;
  const PostgresDatabase service;
  EXPECT_EQ(storage::schema_state(shares.service(), Schema::Shares).value().status,
            SchemaStatus::Current);
  EXPECT_EQ(storage::schema_state(shares.service()).value().status, SchemaStatus::Altered);
  EXPECT_NE(storage::schema_state(service.service(), Schema::Shares).value().status,
            SchemaStatus::Current);
  EXPECT_FALSE(storage::migrate(shares.owner()).ok());
  EXPECT_TRUE(storage::migrate(shares.owner(), Schema::Shares).ok()) << "it is current";
}

}  // namespace
}  // namespace postern::test
