#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "audit/event.h"
#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "core/secret.h"

namespace postern::vault {

/// Which credential, of whom. The tenant always goes first, beside it.
struct CredentialKey {
  Owner owner;
  CredentialName name;
  auto operator<=>(const CredentialKey&) const = default;
};

/// Fields of a credential in the clear: name to value. Names are
/// [A-Za-z_][A-Za-z0-9_]{0,63}; 1 to 32 fields; values up to 64 KiB, 256 KiB in all.
using Fields = std::map<std::string, FieldValue>;
Status validate_fields(const Fields& fields);

/// One version as stored. Content is final; only how its DEK is wrapped may change.
struct SealedVersion {
  std::uint32_t version = 0;
  KekVersion kek_version{};
  Bytes wrapped_dek;  ///< crypto::seal(KEK, DEK); AAD as docs/architecture.md says
  Bytes sealed;       ///< crypto::seal(DEK, encoded fields)
  std::vector<std::string> field_names;  ///< sorted; bound by the AAD
  sys_seconds created_at{};
  std::optional<sys_seconds> expires_at;
};

/// What may be shown about a credential: never a value.
struct CredentialMetadata {
  CredentialKey key;
  std::uint32_t version = 0;
  std::vector<std::string> field_names;
  sys_seconds created_at{};  ///< of the latest version
  std::optional<sys_seconds> expires_at;
  bool replaces = false;  ///< answered by put(): there was a version before
};

/// Implemented by storage and, in memory, by tests/support; one suite holds
/// both to it. Another tenant's or owner's credential and none are the same NotFound.
class CredentialStore {
 public:
  virtual ~CredentialStore() = default;

  /// Seals the next version of a credential, given its number (the AAD binds it).
  using Seal = std::function<Result<SealedVersion>(std::uint32_t version)>;

  /// Adds a version in one transaction with its audit events. Version numbers
  /// are never reused, not even after remove(). `expected_version`: the latest
  /// version the caller saw (0: none must exist); when given and different:
  /// PreconditionFailed.
  virtual Result<CredentialMetadata> put(const TenantId& tenant, const CredentialKey& key,
                                         std::optional<std::uint32_t> expected_version,
                                         const Seal& seal,
                                         std::span<const audit::Event> events) = 0;
  virtual Result<SealedVersion> latest(const TenantId& tenant, const CredentialKey& key) = 0;
  virtual Result<CredentialMetadata> metadata(const TenantId& tenant, const CredentialKey& key) = 0;

  struct Page {
    std::vector<CredentialMetadata> items;
    std::string next;  ///< opaque cursor; empty at the end
  };
  /// Ordered by owner, then name. `owner`: only this owner's; nothing: all of the tenant.
  virtual Result<Page> list(const TenantId& tenant, const std::optional<Owner>& owner,
                            std::string_view cursor, std::uint32_t limit) = 0;
  /// Removes all versions. Errors: NotFound, PreconditionFailed.
  virtual Status remove(const TenantId& tenant, const CredentialKey& key,
                        std::optional<std::uint32_t> expected_version,
                        std::span<const audit::Event> events) = 0;
};

}  // namespace postern::vault
