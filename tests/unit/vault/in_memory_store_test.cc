// Holds the in-memory credential store to the contract the PostgreSQL one is held to.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "support/credential_store_suite.h"
#include "support/in_memory_audit_log.h"
#include "support/in_memory_credential_store.h"
#include "support/in_memory_kek_store.h"

namespace postern::test {
namespace {

class InMemoryHarness final : public CredentialStoreHarness {
 public:
  vault::CredentialStore& store() override { return store_; }
  audit::AuditLog& log() override { return log_; }
  TenantId add_tenant() override {
    TenantId tenant("tenant-" + std::to_string(++tenants_));
    keys_.add(tenant);
    return tenant;
  }

 private:
  int tenants_ = 0;
  TestKeyring keys_;
  InMemoryAuditLog log_{keys_.keyring};
  InMemoryCredentialStore store_{log_};
};

const CredentialStoreFactory kInMemory{[] { return std::make_unique<InMemoryHarness>(); }};

}  // namespace

INSTANTIATE_TEST_SUITE_P(InMemory, CredentialStoreSuite, ::testing::Values(kInMemory));

}  // namespace postern::test
