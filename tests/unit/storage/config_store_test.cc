#include <gtest/gtest.h>

#include <memory>

#include "support/config_store_suite.h"
#include "support/in_memory_audit_log.h"
#include "support/in_memory_config_store.h"
#include "support/in_memory_kek_store.h"
#include "support/postgres_stores.h"

namespace postern::test {
namespace {

class PostgresConfig final : public ConfigStoreHarness {
 public:
  policy::ConfigStore& store() override { return stores_.config; }
  audit::AuditLog& log() override { return stores_.log; }
  vault::Keyring& keyring() override { return stores_.keyring; }

 private:
  PostgresStores stores_;
};

class InMemoryConfig final : public ConfigStoreHarness {
 public:
  policy::ConfigStore& store() override { return store_; }
  audit::AuditLog& log() override { return log_; }
  vault::Keyring& keyring() override { return keys_.keyring; }

 private:
  TestKeyring keys_;
  InMemoryAuditLog log_{keys_.keyring};
  InMemoryConfigStore store_{log_, keys_.store};
};

INSTANTIATE_TEST_SUITE_P(Postgres, ConfigStoreSuite, ::testing::Values(ConfigStoreFactory{[] {
                           return std::make_unique<PostgresConfig>();
                         }}));
INSTANTIATE_TEST_SUITE_P(InMemory, ConfigStoreSuite, ::testing::Values(ConfigStoreFactory{[] {
                           return std::make_unique<InMemoryConfig>();
                         }}));

}  // namespace
}  // namespace postern::test
