#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "storage/database.h"
#include "storage/postgres_audit_log.h"
#include "vault/rotation.h"

namespace postern::storage {

/// Where keys are in use, and their rotation. Thread-safe.
///
/// Locks are taken in one order: the tenant, its KEKs, rows that are moved, the head
/// of the audit chain.
class PostgresRotationStore final : public vault::RotationStore {
 public:
  PostgresRotationStore(Database& database, PostgresAuditLog& log)
      : database_(database), log_(log) {}

  /// Replicas that are connected and do not show that they have this root key (the
  /// label of their EpochWatcher). Errors: Unavailable.
  Result<std::uint64_t> replicas_without(const std::string& root_key_id);

  /// The database's time, which the age of a KEK is by. Errors: Unavailable.
  Result<sys_seconds> now();

  Result<std::vector<vault::RootKeyUse>> root_key_uses() override;
  Result<vault::Backlog> backlog() override;
  Result<std::vector<vault::KekPlace>> keks_not_under(const std::string& root_key_id,
                                                      const std::optional<vault::KekPlace>& after,
                                                      std::uint32_t limit) override;
  Result<std::vector<vault::HeldTenant>> held_tenants() override;
  Result<std::vector<vault::KekUse>> kek_uses(const TenantId& tenant) override;
  Result<vault::Backlog> backlog_of(const TenantId& tenant) override;
  Result<NewestKek> newest_kek(const TenantId& tenant) override;
  Status rewrap_kek(const TenantId& tenant, KekVersion version, const ChangeKek& change) override;
  Result<KekVersion> add_kek(const TenantId& tenant, const MakeKek& make) override;
  Result<std::uint64_t> seal(const TenantId& tenant, const audit::Event& event) override;
  Result<Batch> rewrap_rows(const TenantId& tenant, Position& position, std::uint32_t limit,
                            Rewrapper& rewrapper) override;
  Result<std::vector<Principal>> without_share(const TenantId& tenant,
                                               std::uint32_t limit) override;
  Status note_emptied(const TenantId& tenant) override;

 private:
  Database& database_;
  PostgresAuditLog& log_;
};

}  // namespace postern::storage
