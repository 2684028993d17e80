#pragma once

#include "storage/database.h"
#include "storage/postgres_audit_log.h"
#include "vault/erasure.h"

namespace postern::storage {

/// Erasures, as migration 0014 says what they mean. Thread-safe.
class PostgresErasureStore final : public vault::ErasureStore {
 public:
  PostgresErasureStore(Database& database, PostgresAuditLog& log)
      : database_(database), log_(log) {}

  Result<Begun> begin(const TenantId& tenant, const Principal& principal, const std::string& id,
                      sys_seconds now, const audit::Event& event) override;
  Result<vault::Erasure> remove_rows(const TenantId& tenant, const std::string& id,
                                     sys_seconds now) override;
  Result<vault::Erasure> finish(const TenantId& tenant, const std::string& id, sys_seconds now,
                                const Say& say) override;
  Result<vault::Erasure> find(const TenantId& tenant, const std::string& id) override;
  Result<Page> list(const TenantId& tenant, std::string_view cursor, std::uint32_t limit) override;
  Result<Begun> begin_tenant(const TenantId& tenant, const std::string& id, sys_seconds now,
                             const audit::Event& event) override;
  Result<vault::Erasure> finish_tenant(const TenantId& tenant, std::uint64_t shares,
                                       sys_seconds now, const Say& say) override;
  Result<vault::Erasure> find_tenant(const TenantId& tenant) override;
  Result<std::vector<vault::ShareId>> shares_of(const TenantId& tenant,
                                                const std::optional<vault::ShareId>& after,
                                                std::uint32_t limit) override;
  Result<std::vector<Open>> open(const std::optional<Open>& after, std::uint32_t limit) override;

 private:
  Result<vault::Erasure> remove_tenant(const TenantId& tenant, std::uint64_t shares,
                                       sys_seconds now, const Say& say);

  Database& database_;
  PostgresAuditLog& log_;
};

/// Whether it is that something would have been sealed, or removed, of what is being erased.
bool is_being_erased(const Error& error);

}  // namespace postern::storage
