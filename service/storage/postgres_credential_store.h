#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "storage/database.h"
#include "storage/postgres_audit_log.h"
#include "vault/credential.h"

namespace postern::storage {

/// Sealed credentials. A write and its audit events are one transaction.
/// Keeps the newest kKeptVersions versions of each credential. Thread-safe.
class PostgresCredentialStore final : public vault::CredentialStore {
 public:
  static constexpr std::uint32_t kKeptVersions = 10;

  PostgresCredentialStore(Database& database, PostgresAuditLog& log)
      : database_(database), log_(log) {}

  Result<vault::CredentialMetadata> put(const TenantId& tenant, const vault::CredentialKey& key,
                                        std::optional<std::uint32_t> expected_version,
                                        const Seal& seal,
                                        std::span<const audit::Event> events) override;
  /// One round trip: this is the release path.
  Result<vault::SealedVersion> latest(const TenantId& tenant,
                                      const vault::CredentialKey& key) override;
  Result<vault::CredentialMetadata> metadata(const TenantId& tenant,
                                             const vault::CredentialKey& key) override;
  Result<Page> list(const TenantId& tenant, const std::optional<Owner>& owner,
                    std::string_view cursor, std::uint32_t limit) override;
  Status remove(const TenantId& tenant, const vault::CredentialKey& key,
                std::optional<std::uint32_t> expected_version,
                std::span<const audit::Event> events) override;

 private:
  Result<vault::CredentialMetadata> put_once(const TenantId& tenant,
                                             const vault::CredentialKey& key,
                                             std::optional<std::uint32_t> expected_version,
                                             const Seal& seal,
                                             std::span<const audit::Event> events);

  Database& database_;
  PostgresAuditLog& log_;
};

}  // namespace postern::storage
