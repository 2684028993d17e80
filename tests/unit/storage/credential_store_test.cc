#include <gtest/gtest.h>

#include <memory>
#include <pqxx/pqxx>
#include <string>
#include <vector>

#include "storage/pqxx_compat.h"
#include "support/credential_store_suite.h"
#include "support/postgres_stores.h"

namespace postern::test {
namespace {

class PostgresCredentials final : public CredentialStoreHarness {
 public:
  vault::CredentialStore& store() override { return stores_.credentials; }
  audit::AuditLog& log() override { return stores_.log; }
  TenantId add_tenant() override { return stores_.add_tenant(); }

 private:
  PostgresStores stores_;
};

INSTANTIATE_TEST_SUITE_P(Postgres, CredentialStoreSuite,
                         ::testing::Values(CredentialStoreFactory{
                             [] { return std::make_unique<PostgresCredentials>(); }}));

TEST(PostgresCredentialStore, ARowThatFindsItsWayBackIsNoCredential) {
  PostgresStores stores;
  const auto tenant = stores.add_tenant();
  const vault::CredentialKey key{Owner::tenant(), CredentialName("github")};
  const auto put = [&] {
    return stores.credentials.put(tenant, key, std::nullopt,
                                  [](std::uint32_t version) -> Result<vault::SealedVersion> {
                                    return vault::SealedVersion{
                                        version,   KekVersion{1}, Bytes(105),  Bytes(80),
                                        {"token"}, sys_seconds{}, std::nullopt};
                                  },
                                  {});
  };
  ASSERT_TRUE(put().ok());
  pqxx::connection connection(stores.superuser());
  const auto run = [&](const char* sql) {
    pqxx::work tx(connection);
    tx.exec(sql);
    tx.commit();
  };
  run("CREATE TABLE kept AS SELECT * FROM postern.credential_version");
  ASSERT_TRUE(stores.credentials.remove(tenant, key, std::nullopt, {}).ok());
  run("INSERT INTO postern.credential_version SELECT * FROM kept");

  EXPECT_EQ(stores.credentials.latest(tenant, key).error().code, ErrorCode::NotFound);
  EXPECT_EQ(stores.credentials.metadata(tenant, key).error().code, ErrorCode::NotFound);
  EXPECT_TRUE(stores.credentials.list(tenant, std::nullopt, "", 10).value().items.empty());
  // And it does not get in the way of the next one.
  EXPECT_EQ(put().value().version, 2u);
  EXPECT_EQ(stores.credentials.latest(tenant, key).value().version, 2u);
  // Nor is it one of the versions of that one.
  EXPECT_EQ(stores.credentials.version(tenant, key, 1).error().code, ErrorCode::NotFound);
  EXPECT_EQ(stores.credentials.history(tenant, key).value().versions.size(), 1u);
}

bool put_something(PostgresStores& stores, const TenantId& tenant,
                   const vault::CredentialKey& key) {
  return stores.credentials
      .put(tenant, key, std::nullopt,
           [](std::uint32_t version) -> Result<vault::SealedVersion> {
             return vault::SealedVersion{version,   KekVersion{1}, Bytes(105),  Bytes(80),
                                         {"token"}, sys_seconds{}, std::nullopt};
           },
           {})
      .ok();
}

TEST(PostgresCredentialStore, WhatIsDestroyedIsNoLongerInTheRow) {
  PostgresStores stores;
  const auto tenant = stores.add_tenant();
  const vault::CredentialKey key{Owner::tenant(), CredentialName("github")};
  ASSERT_TRUE(put_something(stores, tenant, key));
  using Change = vault::CredentialStore::VersionChange;
  ASSERT_TRUE(
      stores.credentials
          .change_versions(tenant, key, {}, Change::Destroy, std::nullopt, sys_seconds{}, {})
          .ok());
  const auto as = [](const std::string& conninfo, const char* sql) -> std::string {
    pqxx::connection connection(conninfo);
    pqxx::work tx(connection);
    try {
      const auto rows = tx.exec(sql);
      tx.commit();
      return rows.empty() ? std::to_string(rows.affected_rows()) : rows[0][0].c_str();
    } catch (const std::exception& e) {
      return storage::pq::sqlstate_of(e).value_or(e.what());
    }
  };
  EXPECT_EQ(as(stores.superuser(),
               "SELECT count(*) FROM postern.credential_version WHERE sealed IS NULL AND "
               "wrapped_dek IS NULL AND kek_version IS NULL AND destroyed_at IS NOT NULL"),
            "1");
  // Not even the superuser's statement puts something in its place by mistake.
  EXPECT_EQ(as(stores.superuser(), "UPDATE postern.credential_version SET sealed = '\\x01'"),
            "42501");
  EXPECT_EQ(as(stores.superuser(),
               "UPDATE postern.credential_version SET wrapped_dek = '\\x01', kek_version = 1"),
            "23514");
  EXPECT_EQ(as(stores.superuser(), "UPDATE postern.credential_version SET destroyed_at = NULL"),
            "23514");
}

TEST(PostgresCredentialStore, AVersionsContentIsFinal) {
  PostgresStores stores;
  const auto tenant = stores.add_tenant();
  const vault::CredentialKey key{Owner::tenant(), CredentialName("github")};
  ASSERT_TRUE(put_something(stores, tenant, key));
  const auto as_service = [&](const std::string& sql) -> std::string {
    pqxx::connection connection(stores.service());
    pqxx::work tx(connection);
    try {
      tx.exec("SELECT set_config('postern.tenant_id', " + tx.quote(tenant.str()) + ", true)");
      tx.exec(sql);
      return "";
    } catch (const std::exception& e) {
      return storage::pq::sqlstate_of(e).value_or(e.what());
    }
  };
  const std::string update = "UPDATE postern.credential_version SET ";
  EXPECT_EQ(as_service(update + "sealed = '\\x01'"), "42501");
  EXPECT_EQ(as_service(update + "sealed = NULL"), "23514") << "destroyed halfway";
  EXPECT_EQ(as_service(update + "version = 2"), "42501");
  EXPECT_EQ(as_service(update + "field_names = '{x}'"), "42501");
  EXPECT_EQ(as_service(update + "created_at = now()"), "42501");
  EXPECT_EQ(as_service(update + "expires_at = NULL"), "42501");
  EXPECT_EQ(as_service(update + "wrapped_dek = '\\x01'"), "") << "what a rewrap does";
}

}  // namespace
}  // namespace postern::test
