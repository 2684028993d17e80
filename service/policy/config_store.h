#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "audit/event.h"
#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "crypto/hash.h"
#include "vault/keyring.h"

namespace postern::policy {

/// The kinds of configuration object a tenant has. One table row each, whose
/// `spec` is canonical JSON validated by policy/config.h.
enum class Kind { Issuer, Client, Backend, Role, Binding };
std::string_view to_string(
    Kind kind) noexcept;  ///< "issuer", "client", "backend", "role", "binding"
std::optional<Kind> parse_kind(std::string_view name) noexcept;

struct StoredObject {
  Kind kind{};
  std::string name;
  std::string spec;            ///< canonical JSON (sorted members, compact)
  std::uint64_t revision = 0;  ///< tenant epoch of the last change
};

/// A client's secret, stored as a hash only.
struct StoredClientSecret {
  ClientId client;
  std::string secret_id;   ///< random id
  crypto::Hash256 hash{};  ///< SHA-256 over length-prefixed ("postern-client-secret-v1", tenant,
                           ///< client, secret)
  std::optional<sys_seconds> expires_at;
};

/// A tenant-admin API token, stored as a hash only.
struct StoredAdminToken {
  std::string token_id;
  std::string description;
  crypto::Hash256
      hash{};  ///< SHA-256 over length-prefixed ("postern-admin-token-v1", tenant, token)
  sys_seconds created_at{};
  std::optional<sys_seconds> expires_at;
};

/// What lets somebody register clients (RFC 7591 §1.2), stored as a hash only.
struct StoredInitialToken {
  std::string token_id;
  std::string description;
  crypto::Hash256 hash{};  ///< SHA-256 over length-prefixed ("postern-initial-token-v1", tenant,
                           ///< token)
  sys_seconds created_at{};
  sys_seconds expires_at{};
  std::uint32_t max_uses = 1;
  std::uint32_t uses = 0;

  bool live(sys_seconds now) const { return uses < max_uses && now < expires_at; }
};

enum class SigningKeyState { Pending, Active, Retired };
struct StoredSigningKey {
  std::string kid;
  std::string algorithm;   ///< JWS name
  std::string public_jwk;  ///< JSON
  SigningKeyState state = SigningKeyState::Active;
  vault::Keyring::WrappedPrivateKey wrapped;
  sys_seconds created_at{};
  std::optional<sys_seconds> retired_at;
  /// It signs from then on; until then it is only published. None: from created_at.
  std::optional<sys_seconds> active_from = {};
};

struct TenantRow {
  TenantId tenant;
  std::string display_name;
  bool enabled = true;
  std::string settings;     ///< canonical JSON of tenant-wide settings, "{}" by default
  std::uint64_t epoch = 0;  ///< grows with every configuration change
  sys_seconds created_at{};
};

/// Everything a snapshot is built from, read in one consistent transaction.
struct StoredTenant {
  TenantRow row;
  std::vector<StoredObject> objects;
  std::vector<StoredClientSecret> client_secrets;
  std::vector<StoredAdminToken> admin_tokens;
  std::vector<StoredSigningKey> signing_keys;
  std::vector<StoredInitialToken> initial_tokens = {};
};

/// A set of changes to one tenant, applied in one transaction or not at all.
struct ConfigChange {
  std::optional<std::uint64_t> expected_epoch;  ///< PreconditionFailed when the tenant has moved on

  // Creating the tenant: all of these set; Conflict when it exists.
  struct Create {
    vault::WrappedKek kek;
    audit::ChainKey chain_key;  ///< of that KEK, for the first audit record's head
  };
  std::optional<Create> create;
  std::optional<std::string> display_name;
  std::optional<bool> enabled;
  std::optional<std::string> settings;

  std::vector<StoredObject> put;                     ///< inserted or replaced
  std::vector<std::pair<Kind, std::string>> remove;  ///< removing a client removes its secrets
  // Removals first: a secret whose expiry changes is removed and added again.
  std::vector<std::pair<ClientId, std::string>> remove_client_secrets;
  std::vector<StoredClientSecret> add_client_secrets;
  std::vector<StoredAdminToken> add_admin_tokens;
  std::vector<std::string> remove_admin_tokens;
  std::vector<std::string> remove_signing_keys;
  std::vector<StoredSigningKey> add_signing_keys;
  std::vector<std::pair<std::string, SigningKeyState>> set_signing_key_state;
  std::vector<std::string> remove_initial_tokens;
  std::vector<StoredInitialToken> add_initial_tokens;
  /// One use more of each. NotFound when it is gone or all its uses are used.
  std::vector<std::string> use_initial_tokens;
};

/// Tenants and their configuration. Implemented by storage and in memory by tests/support.
class ConfigStore {
 public:
  virtual ~ConfigStore() = default;

  struct TenantPage {
    std::vector<TenantRow> items;
    std::string next;
  };
  /// Every tenant's row (no secrets in it): for operators and for following epochs.
  virtual Result<TenantPage> tenants(std::string_view cursor, std::uint32_t limit) = 0;

  virtual Result<StoredTenant> load(const TenantId& tenant) = 0;

  /// Applies the change with its audit events in one transaction, raises the
  /// epoch and announces it (NOTIFY). Returns the new epoch.
  /// Errors: NotFound, Conflict, PreconditionFailed, Unavailable.
  virtual Result<std::uint64_t> apply(const TenantId& tenant, const ConfigChange& change,
                                      std::span<const audit::Event> events) = 0;

  /// Deletes the tenant and everything it has but its audit chain and a
  /// tombstone, so that the id is never used again. Errors: NotFound.
  virtual Status remove(const TenantId& tenant, std::span<const audit::Event> events) = 0;

  /// Whether remove() has left its tombstone. Only a hint: apply() decides.
  virtual Result<bool> was_removed(const TenantId& tenant) = 0;
};

}  // namespace postern::policy
