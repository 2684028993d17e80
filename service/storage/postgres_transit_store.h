#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "storage/database.h"
#include "storage/postgres_audit_log.h"
#include "vault/transit.h"

namespace postern::storage {

/// Transit keys. A write and its audit events are one transaction. Thread-safe.
class PostgresTransitStore final : public vault::TransitStore {
 public:
  PostgresTransitStore(Database& database, PostgresAuditLog& log)
      : database_(database), log_(log) {}

  /// One round trip.
  Result<Found> find(const TenantId& tenant, const vault::TransitName& name) override;
  Result<vault::TransitVersion> version(const TenantId& tenant, const std::string& key_id,
                                        std::uint32_t version) override;
  Result<std::vector<vault::TransitVersion>> versions(const TenantId& tenant,
                                                      const std::string& key_id) override;
  Result<std::vector<std::string>> names(const TenantId& tenant) override;
  Status create(const TenantId& tenant, const vault::TransitKey& key, const Seal& seal,
                std::uint32_t most, std::span<const audit::Event> events) override;
  Status rotate(const TenantId& tenant, const vault::TransitName& name, const Seal& seal,
                std::uint32_t most, std::span<const audit::Event> events) override;
  Status configure(const TenantId& tenant, const vault::TransitName& name, const Edit& edit,
                   std::span<const audit::Event> events) override;
  Status remove(const TenantId& tenant, const vault::TransitName& name, const Check& check,
                std::span<const audit::Event> events) override;

 private:
  Database& database_;
  PostgresAuditLog& log_;
};

}  // namespace postern::storage
