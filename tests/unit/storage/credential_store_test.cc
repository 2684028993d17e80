#include <gtest/gtest.h>

#include <memory>
#include <pqxx/pqxx>
#include <string>
#include <vector>

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
}

}  // namespace
}  // namespace postern::test
