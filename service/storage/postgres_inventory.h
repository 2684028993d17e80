#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "storage/database.h"
#include "vault/credential.h"

namespace postern::storage {

/// All that is sealed of a tenant's credentials: for whoever has to open everything,
/// not for serving. Thread-safe.
class PostgresInventory {
 public:
  explicit PostgresInventory(Database& database) : database_(database) {}

  struct Entry {
    vault::CredentialKey key;
    vault::SealedVersion sealed;
    std::optional<sys_seconds> deleted_at;  ///< undelete would bring it back
  };
  /// In the order of owner, name and version; what was destroyed is not among them.
  /// Read in pages: what is changed meanwhile may be seen before or after.
  /// Errors: those of `each`, which end it; Unavailable.
  using Each = std::function<Status(const Entry&)>;
  Status each_version(const TenantId& tenant, const Each& each);

  /// How many credentials are there whose current version is not.
  Result<std::uint64_t> missing(const TenantId& tenant);

  /// A credential with its versions, oldest first. What is not destroyed is sealed.
  struct Credential {
    vault::CredentialMetadata metadata;
    struct Version {
      vault::VersionInfo info;
      std::optional<vault::SealedVersion> sealed;
    };
    std::vector<Version> versions;
  };
  /// All of them, in the order of owner and name, each as it is at one moment. Errors: as
  /// above; Internal when a version that should be there is not.
  using EachCredential = std::function<Status(Credential)>;
  Status each_credential(const TenantId& tenant, vault::CredentialStore& credentials,
                         const EachCredential& each);

  /// Stores them as they are, under their version numbers, in one transaction. One that
  /// is there already, or was once, stays as it is. Returns how many were stored.
  /// Errors: NotFound (the tenant), Conflict (a newer KEK has come), Unavailable.
  Result<std::uint64_t> put_back(const TenantId& tenant, std::span<const Credential> credentials);

 private:
  Result<Credential> whole(const TenantId& tenant, const vault::CredentialKey& key,
                           vault::CredentialStore& credentials);

  Database& database_;
};

}  // namespace postern::storage
