#pragma once

#include <cstdint>
#include <span>

#include "storage/database.h"
#include "storage/postgres_audit_log.h"
#include "vault/wrapping.h"

namespace postern::storage {

/// Wrapped answers. A write and its audit events are one transaction. Thread-safe.
///
/// Whoever adds one also clears away a few that have expired.
class PostgresWrappingStore final : public vault::WrappingStore {
 public:
  PostgresWrappingStore(Database& database, PostgresAuditLog& log)
      : database_(database), log_(log) {}

  Status add(const TenantId& tenant, const Seal& seal, std::uint32_t most, sys_seconds now,
             std::span<const audit::Event> events) override;
  Result<vault::WrappedAnswer> find(const TenantId& tenant, const crypto::Hash256& token_hash,
                                    sys_seconds now) override;
  Status take(const TenantId& tenant, const crypto::Hash256& token_hash, sys_seconds now,
              const Open& open, std::span<const audit::Event> events) override;

 private:
  Database& database_;
  PostgresAuditLog& log_;
};

}  // namespace postern::storage
