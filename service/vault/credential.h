#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "audit/event.h"
#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "core/secret.h"
#include "vault/share_store.h"

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

/// Names to texts that are no secrets.
using Texts = std::map<std::string, std::string>;

/// One version as stored. Content is final; only how its DEK is wrapped may change.
struct SealedVersion {
  std::uint32_t version = 0;
  KekVersion kek_version{};
  Bytes wrapped_dek;  ///< crypto::seal(KEK, DEK); AAD as docs/architecture.md says
  Bytes sealed;       ///< crypto::seal(DEK, encoded fields)
  std::vector<std::string> field_names;  ///< sorted; bound by the AAD
  sys_seconds created_at{};
  std::optional<sys_seconds> expires_at;
  /// Of its owner, a principal: the KEK that wraps the DEK takes it.
  std::optional<ShareId> share{};
  Texts metadata{};  ///< said as it is written, and then shown by history() alone
};
/// Bounds: 16 of 128 and 512 bytes, no control characters. Errors: MalformedRequest and
/// TooLarge, with the pointer `/version_metadata`.
Status validate_version_metadata(const Texts& metadata);

/// How far a version is gone. Deleted can be undone; destroyed cannot: its
/// sealed bytes and its key are no more.
enum class VersionState { Live, Deleted, Destroyed };
std::string_view to_string(VersionState state) noexcept;  ///< "live", "deleted", "destroyed"

/// What may be shown about one version: never a value.
struct VersionInfo {
  std::uint32_t version = 0;
  std::vector<std::string> field_names;
  sys_seconds created_at{};
  std::optional<sys_seconds> expires_at{};
  std::optional<sys_seconds> deleted_at{};
  std::optional<sys_seconds> destroyed_at{};
  bool withdrawn = false;  ///< deleted, and not for its owner to bring back
  Texts metadata{};        ///< for whoever wrote it; final, as the content is

  VersionState state() const noexcept {
    if (destroyed_at) return VersionState::Destroyed;
    return deleted_at ? VersionState::Deleted : VersionState::Live;
  }
};

/// What is said about a credential beside its values, and how it is kept.
struct CredentialDescription {
  static constexpr std::uint32_t kDefaultVersions = 10;
  static constexpr std::uint32_t kMostVersions = 100;

  std::string type{"generic"};  ///< how its fields are held to be (policy/credential_type.h)
  std::uint32_t max_versions = kDefaultVersions;  ///< older ones go with the next write
  bool cas_required = false;                      ///< a write must say which version it expects
  std::string description{};
  Texts labels{};    ///< lists can be narrowed by them
  Texts metadata{};  ///< for whoever set it
  std::optional<sys_seconds> rotation_due_at{};
  bool operator==(const CredentialDescription&) const = default;
};
/// Bounds: description 1000 bytes; 32 labels of 63 and 200 bytes, their names
/// [A-Za-z0-9][A-Za-z0-9._/-]*, their texts without comma; 64 metadata of 128 and 512 bytes; no
/// control characters. Errors: MalformedRequest and TooLarge, with a pointer to the member.
Status validate(const CredentialDescription& description);

/// What may be shown about a credential: never a value. The state is that of
/// its latest version.
struct CredentialMetadata {
  CredentialKey key;
  std::uint32_t version = 0;
  std::vector<std::string> field_names;
  sys_seconds created_at{};  ///< of the latest version
  std::optional<sys_seconds> expires_at;
  bool replaces = false;  ///< answered by put(): there was a version before
  std::optional<sys_seconds> deleted_at{};
  std::optional<sys_seconds> destroyed_at{};
  std::uint32_t revision = 0;  ///< changes of anything since the latest version was written
  CredentialDescription description{};
  std::optional<sys_seconds> last_used_at{};

  VersionState state() const noexcept {
    if (destroyed_at) return VersionState::Destroyed;
    return deleted_at ? VersionState::Deleted : VersionState::Live;
  }
};

/// What a change must find: this version as the latest one (0: none at all),
/// and, when given, no change since that revision. A number alone converts.
struct Expected {
  Expected(std::uint32_t version_) : version(version_) {}
  Expected(std::uint32_t version_, std::uint32_t revision_)
      : version(version_), revision(revision_) {}
  bool meets(std::uint32_t current, std::uint32_t current_revision) const noexcept {
    return version == current && (!revision || *revision == current_revision);
  }

  std::uint32_t version;
  std::optional<std::uint32_t> revision;
  /// Whether the caller named the version, as `cas_required` wants; else it is what was found.
  bool named = true;
};

// What every implementation answers.
Error cas_is_required();       ///< PreconditionFailed
Error version_is_destroyed();  ///< Conflict
Error version_is_withdrawn();  ///< Forbidden

/// Implemented by storage and, in memory, by tests/support; one suite holds
/// both to it. Another tenant's or owner's credential and none are the same NotFound.
///
/// The model is Vault's KV version 2: a deleted or destroyed version stays the
/// latest one, and nothing falls back to the one before.
class CredentialStore {
 public:
  virtual ~CredentialStore() = default;

  /// Seals the next version of a credential, given its number (the AAD binds it).
  using Seal = std::function<Result<SealedVersion>(std::uint32_t version)>;
  /// Changes the description that is there, under the credential's lock. Must
  /// leave what validate() accepts. May be empty: nothing is changed.
  using Edit = std::function<Status(CredentialDescription&)>;

  /// Adds a version in one transaction with its audit events: `edit` runs first,
  /// then `seal`. Version numbers are never reused, not even after remove(). Versions
  /// beyond max_versions are removed. What was not there starts with the default
  /// description.
  /// Errors: PreconditionFailed when something else than `expected` is there, or
  /// nothing is expected and the credential has cas_required; NotFound (the tenant);
  /// those of `seal`, `edit` and validate_version_metadata().
  virtual Result<CredentialMetadata> put(const TenantId& tenant, const CredentialKey& key,
                                         std::optional<Expected> expected, const Seal& seal,
                                         const Edit& edit,
                                         std::span<const audit::Event> events) = 0;
  Result<CredentialMetadata> put(const TenantId& tenant, const CredentialKey& key,
                                 std::optional<Expected> expected, const Seal& seal,
                                 std::span<const audit::Event> events) {
    return put(tenant, key, expected, seal, Edit(), events);
  }

  /// The latest version, to be opened. NotFound also when it is deleted or destroyed.
  virtual Result<SealedVersion> latest(const TenantId& tenant, const CredentialKey& key) = 0;
  /// One version by its number, to be opened. NotFound as latest().
  virtual Result<SealedVersion> version(const TenantId& tenant, const CredentialKey& key,
                                        std::uint32_t number) = 0;

  /// Also of a credential whose latest version is deleted or destroyed.
  virtual Result<CredentialMetadata> metadata(const TenantId& tenant, const CredentialKey& key) = 0;

  struct History {
    CredentialMetadata metadata;
    std::vector<VersionInfo> versions;  ///< those that are kept, oldest first; at most 100
  };
  virtual Result<History> history(const TenantId& tenant, const CredentialKey& key) = 0;

  /// Changes the description alone. Errors: NotFound, PreconditionFailed, those of `edit`.
  virtual Result<CredentialMetadata> describe(const TenantId& tenant, const CredentialKey& key,
                                              std::optional<Expected> expected, const Edit& edit,
                                              std::span<const audit::Event> events) = 0;

  enum class VersionChange {
    Delete,    ///< marks it; latest() and version() find it no more
    Undelete,  ///< takes the mark off, but not what Withdraw marked
    Withdraw,  ///< Delete, also what is deleted already; only Restore takes this mark off
    Restore,   ///< takes either mark off
    Destroy,   ///< removes the sealed bytes and the wrapped key for good
  };
  /// Changes versions by their numbers; none: the latest one. Numbers that are not
  /// kept are passed over, and so is what is as asked already, or destroyed.
  /// Errors: NotFound when no such credential is there, or none of the versions;
  /// Conflict when all of them are destroyed and that was not what was asked;
  /// Forbidden when one of them is withdrawn and Undelete was asked; PreconditionFailed.
  virtual Result<CredentialMetadata> change_versions(
      const TenantId& tenant, const CredentialKey& key, std::span<const std::uint32_t> versions,
      VersionChange change, std::optional<Expected> expected, sys_seconds now,
      std::span<const audit::Event> events) = 0;

  struct Page {
    std::vector<CredentialMetadata> items;
    std::string next;  ///< opaque cursor; empty at the end
  };
  /// Which credentials a list shows. What is not set narrows nothing.
  struct Filter {
    Filter() = default;
    Filter(std::nullopt_t) {}
    Filter(Owner of) : owner(std::move(of)) {}
    Filter(std::optional<Owner> of) : owner(std::move(of)) {}

    std::optional<Owner> owner;  ///< only this owner's; nothing: all of the tenant
    Texts labels{};              ///< has all of these
    std::string type{};
    std::optional<sys_seconds> due_by{};  ///< live, and to be rotated by then
  };
  /// Ordered by owner, then name.
  virtual Result<Page> list(const TenantId& tenant, const Filter& filter, std::string_view cursor,
                            std::uint32_t limit) = 0;
  /// Removes all versions and the description. Errors: NotFound, PreconditionFailed.
  virtual Status remove(const TenantId& tenant, const CredentialKey& key,
                        std::optional<Expected> expected, std::span<const audit::Event> events) = 0;

  /// When a credential was last handed out.
  struct Use {
    CredentialKey key;
    sys_seconds at{};
  };
  /// Notes uses, of a tenant that may be gone and credentials that may be. Never
  /// sets one back, and is no change: neither version nor revision moves.
  virtual Status note_uses(const TenantId& tenant, std::span<const Use> uses) = 0;
};

}  // namespace postern::vault
