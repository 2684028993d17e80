#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "storage/database.h"
#include "storage/postgres_audit_log.h"
#include "vault/credential_rotation.h"

namespace postern::storage {

/// Rotations of credentials. A change and its audit events are one transaction. Thread-safe.
class PostgresCredentialRotations final : public vault::CredentialRotationStore {
 public:
  PostgresCredentialRotations(Database& database, PostgresAuditLog& log)
      : database_(database), log_(log) {}

  Result<vault::CredentialRotation> find(const TenantId& tenant,
                                         const vault::CredentialKey& key) override;
  Result<std::vector<vault::CredentialRotation>> of(
      const TenantId& tenant, std::span<const vault::CredentialKey> keys) override;
  Result<vault::CredentialRotation> change(const TenantId& tenant, const vault::CredentialKey& key,
                                           const std::string& lease, const Edit& edit) override;
  Result<vault::CredentialRotation> begin(const TenantId& tenant, const vault::CredentialKey& key,
                                          vault::Expected expected, const Lease& lease,
                                          const vault::CredentialStore::Seal& seal,
                                          const Edit& edit) override;
  Result<vault::CredentialRotation> take(const TenantId& tenant, const vault::CredentialKey& key,
                                         const Lease& lease, sys_seconds now) override;
  Status give_back(const TenantId& tenant, const vault::CredentialKey& key,
                   const std::string& lease) override;
  Result<vault::SealedVersion> version(const TenantId& tenant, const vault::CredentialKey& key,
                                       std::uint32_t number) override;
  Result<std::vector<Due>> due(sys_seconds now, std::uint32_t limit) override;
  Result<Counts> counts(sys_seconds now) override;

 private:
  Database& database_;
  PostgresAuditLog& log_;
};

}  // namespace postern::storage
