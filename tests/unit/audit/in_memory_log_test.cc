// Holds the in-memory audit log to the contract the PostgreSQL one is held to.
#include "support/in_memory_audit_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>

#include "support/audit_log_suite.h"

namespace postern::test {
namespace {

/// Fixed keys, but only for tenants that were added.
class SomeTenantsKeys final : public audit::ChainKeys {
 public:
  Result<audit::ChainKey> current(const TenantId& tenant) override {
    return of_version(tenant, KekVersion{1});
  }
  Result<audit::ChainKey> of_version(const TenantId& tenant, KekVersion version) override {
    if (!tenants.contains(tenant)) return fail(ErrorCode::NotFound, "no such tenant");
    return keys_.of_version(tenant, version);
  }
  std::set<TenantId> tenants;

 private:
  FixedChainKeys keys_;
};

class InMemoryHarness final : public AuditLogHarness {
 public:
  audit::AuditLog& log() override { return log_; }

  TenantId add_tenant() override {
    TenantId tenant("tenant-" + std::to_string(keys_.tenants.size() + 1));
    keys_.tenants.insert(tenant);
    return tenant;
  }

  std::optional<AuditTamper> tamper() override {
    AuditTamper tamper;
    tamper.put = [this](const TenantId& tenant, const audit::Record& record) {
      log_.tamper(tenant, [&](auto& records, auto&) {
        const auto found = at(records, record.sequence);
        if (found == records.end() || found->sequence != record.sequence) {
          records.insert(found, record);
        } else {
          *found = record;
        }
      });
    };
    tamper.remove = [this](const TenantId& tenant, std::uint64_t sequence) {
      log_.tamper(tenant, [&](auto& records, auto&) { records.erase(at(records, sequence)); });
    };
    tamper.rewrite_head = [this](const TenantId& tenant, const audit::ChainHead& head) {
      log_.tamper(tenant, [&](auto&, auto& stored) { stored.head = head; });
    };
    tamper.rewrite_kek_version = [this](const TenantId& tenant, KekVersion version) {
      log_.tamper(tenant, [&](auto&, auto& stored) { stored.kek_version = version; });
    };
    return tamper;
  }

 private:
  static std::vector<audit::Record>::iterator at(std::vector<audit::Record>& records,
                                                 std::uint64_t sequence) {
    return std::find_if(records.begin(), records.end(),
                        [&](const auto& record) { return record.sequence >= sequence; });
  }

  SomeTenantsKeys keys_;
  InMemoryAuditLog log_{keys_};
};

const AuditLogFactory kInMemory{[] { return std::make_unique<InMemoryHarness>(); }};

}  // namespace

INSTANTIATE_TEST_SUITE_P(InMemory, AuditLogSuite, ::testing::Values(kInMemory));
INSTANTIATE_TEST_SUITE_P(InMemory, AuditTamperSuite, ::testing::Values(kInMemory));

}  // namespace postern::test
