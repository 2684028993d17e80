#pragma once

#include <span>
#include <string_view>

#include "policy/config_store.h"
#include "storage/database.h"
#include "storage/postgres_audit_log.h"

namespace postern::storage {

/// Announced with `<tenant> <epoch>` whenever a tenant's configuration changes.
inline constexpr const char* kEpochChannel = "postern_epoch";

/// The application_name of each replica's session that listens for that. What
/// EpochWatcher's label says comes after it and a blank.
inline constexpr const char* kEpochSessions = "posternd-epochs";

/// Tenants and their configuration. Changes of one tenant are serial; a change
/// and its audit events are one transaction. Thread-safe.
class PostgresConfigStore final : public policy::ConfigStore {
 public:
  PostgresConfigStore(Database& database, PostgresAuditLog& log) : database_(database), log_(log) {}

  Result<TenantPage> tenants(std::string_view cursor, std::uint32_t limit) override;
  Result<policy::StoredTenant> load(const TenantId& tenant) override;
  Result<std::uint64_t> apply(const TenantId& tenant, const policy::ConfigChange& change,
                              std::span<const audit::Event> events) override;
  Status remove(const TenantId& tenant, std::span<const audit::Event> events) override;
  Result<bool> was_removed(const TenantId& tenant) override;

 private:
  Database& database_;
  PostgresAuditLog& log_;
};

}  // namespace postern::storage
