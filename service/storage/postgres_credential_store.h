#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "storage/database.h"
#include "storage/postgres_audit_log.h"
#include "vault/credential.h"

namespace postern::storage {

/// Sealed credentials. A write and its audit events are one transaction. Thread-safe.
class PostgresCredentialStore final : public vault::CredentialStore {
 public:
  PostgresCredentialStore(Database& database, PostgresAuditLog& log)
      : database_(database), log_(log) {}

  using CredentialStore::put;
  Result<vault::CredentialMetadata> put(const TenantId& tenant, const vault::CredentialKey& key,
                                        std::optional<vault::Expected> expected, const Seal& seal,
                                        const Edit& edit,
                                        std::span<const audit::Event> events) override;
  /// One round trip: this is the release path.
  Result<vault::SealedVersion> latest(const TenantId& tenant,
                                      const vault::CredentialKey& key) override;
  Result<vault::SealedVersion> version(const TenantId& tenant, const vault::CredentialKey& key,
                                       std::uint32_t number) override;
  Result<vault::CredentialMetadata> metadata(const TenantId& tenant,
                                             const vault::CredentialKey& key) override;
  Result<History> history(const TenantId& tenant, const vault::CredentialKey& key) override;
  Result<vault::CredentialMetadata> describe(const TenantId& tenant,
                                             const vault::CredentialKey& key,
                                             std::optional<vault::Expected> expected,
                                             const Edit& edit,
                                             std::span<const audit::Event> events) override;
  Result<vault::CredentialMetadata> change_versions(const TenantId& tenant,
                                                    const vault::CredentialKey& key,
                                                    std::span<const std::uint32_t> versions,
                                                    VersionChange how,
                                                    std::optional<vault::Expected> expected,
                                                    sys_seconds now,
                                                    std::span<const audit::Event> events) override;
  Result<Page> list(const TenantId& tenant, const Filter& filter, std::string_view cursor,
                    std::uint32_t limit) override;
  Status remove(const TenantId& tenant, const vault::CredentialKey& key,
                std::optional<vault::Expected> expected,
                std::span<const audit::Event> events) override;
  Status note_uses(const TenantId& tenant, std::span<const Use> uses) override;

 private:
  Result<vault::CredentialMetadata> put_once(const TenantId& tenant,
                                             const vault::CredentialKey& key,
                                             const std::optional<vault::Expected>& expected,
                                             const Seal& seal, const Edit& edit,
                                             std::span<const audit::Event> events);

  Database& database_;
  PostgresAuditLog& log_;
};

}  // namespace postern::storage
