#include <gtest/gtest.h>

#include <memory>
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

}  // namespace
}  // namespace postern::test
