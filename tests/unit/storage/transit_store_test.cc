#include "storage/postgres_transit_store.h"

#include <gtest/gtest.h>

#include <memory>

#include "support/postgres_stores.h"
#include "support/transit_store_suite.h"

namespace postern::test {
namespace {

class PostgresTransit final : public TransitStoreHarness {
 public:
  vault::TransitStore& store() override { return store_; }
  audit::AuditLog& log() override { return stores_.log; }
  TenantId add_tenant() override { return stores_.add_tenant(); }

 private:
  PostgresStores stores_;
  storage::PostgresTransitStore store_{stores_.database, stores_.log};
};

INSTANTIATE_TEST_SUITE_P(Postgres, TransitStoreSuite, ::testing::Values(TransitStoreFactory{[] {
                           return std::make_unique<PostgresTransit>();
                         }}));

}  // namespace
}  // namespace postern::test
