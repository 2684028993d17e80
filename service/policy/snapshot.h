#pragma once

#include <compare>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "crypto/hash.h"
#include "crypto/signature.h"
#include "policy/config.h"
#include "policy/config_store.h"
#include "token/jwk.h"

namespace postern::policy {

/// A signing key ready to use. Shared: a token being minted may outlive the
/// snapshot the key came from.
struct TokenSigner {
  std::string kid;
  std::shared_ptr<const crypto::SigningKey> key;
  sys_seconds from{};  ///< it signs from then on
};

/// A signing key as far as anyone may know it. Which one signs is decided by
/// time alone, so that a rotation needs nobody to come back and finish it.
struct PublishedKey {
  std::string kid;
  std::string algorithm;
  sys_seconds created_at{};
  sys_seconds active_from{};
  bool waits = false;  ///< for active_from; else it signs at once, whatever the clocks say
  std::optional<sys_seconds> retired_at;  ///< when it was, or when another one takes over

  SigningKeyState state(sys_seconds now) const {
    if (retired_at && *retired_at <= now) return SigningKeyState::Retired;
    return waits && active_from > now ? SigningKeyState::Pending : SigningKeyState::Active;
  }
};

/// What a retired key signed has expired by then: the longest token and clock skew.
inline constexpr auto kRetiredKeyLife = std::chrono::hours(1) + std::chrono::minutes(2);

/// The keys that are published at `now`: those to come, those that sign, and
/// those whose tokens may still be in use. Oldest first for each algorithm.
std::vector<PublishedKey> published_keys(const std::vector<StoredSigningKey>& stored,
                                         sys_seconds now);

/// A trusted issuer with its static keys parsed.
struct IssuerEntry {
  TrustedIssuer config;
  std::shared_ptr<const token::JwkSet> static_keys;  ///< null when keys are fetched
  std::uint64_t revision = 0;
};

/// Where the keys of a private_key_jwt client are from.
struct ClientKeys {
  std::string client;
  std::string jwks_uri;
  std::shared_ptr<const token::JwkSet> static_keys;  ///< null when fetched
  std::uint64_t revision = 0;
};

/// A role, and the binding by which somebody has it.
struct BoundRole {
  const Binding* binding = nullptr;
  const Role* role = nullptr;
  auto operator<=>(const BoundRole&) const = default;
};

/// Everything an exchange needs of one tenant: immutable, in memory, replaced
/// as a whole when the tenant's epoch changes. Reading it needs no lock.
class TenantSnapshot {
 public:
  /// Builds from what was stored. `base_url` is this installation's public
  /// origin; the tenant's issuer is base_url + "/t/" + tenant. Signing keys that
  /// were retired long enough before `now` are no longer published.
  /// Errors: Internal when something stored does not read back.
  static Result<std::shared_ptr<const TenantSnapshot>> build(const StoredTenant& stored,
                                                             std::string_view base_url,
                                                             vault::Keyring& keyring,
                                                             sys_seconds now = SystemClock().now());

  const TenantId& tenant() const noexcept { return tenant_; }
  std::uint64_t epoch() const noexcept { return epoch_; }
  bool enabled() const noexcept { return enabled_; }
  /// Errors: TenantSealed, when it was sealed as this snapshot was built. Then there
  /// is no signer, and whatever takes the tenant's key is refused.
  Status check_unsealed() const;
  /// Whether it is sealed for now only: the tenant's newest KEK opens here, and what
  /// signs is being moved to it.
  bool opens_soon() const noexcept { return opens_soon_; }
  const std::string& display_name() const noexcept { return display_name_; }
  sys_seconds created_at() const noexcept { return created_at_; }
  const std::string& issuer_url() const noexcept { return issuer_url_; }
  const TenantConfig& config() const noexcept { return config_; }
  const TenantSettings& settings() const noexcept { return config_.settings; }

  /// By exact `iss`; null when unknown, disabled, or beyond the tenant's guardrails.
  const IssuerEntry* find_issuer(std::string_view iss) const;
  /// Null when unknown; the caller checks `enabled`.
  const Client* find_client(std::string_view id) const;
  /// The client as far as its issued tokens go: also one that is known by a metadata
  /// document, as what such clients may have at most. Never for authenticating.
  const Client* client_of_token(std::string_view id) const;
  /// Null for a client that does not authenticate by private_key_jwt.
  const ClientKeys* client_keys(std::string_view id) const;
  /// By name; null when unknown.
  const Backend* find_backend(std::string_view name) const;
  /// By what a request may call it: name, alias, audience or resource URI.
  /// Null when unknown, malformed or disabled.
  const Backend* resolve(std::string_view audience_or_resource) const;

  /// Whether this is a live secret of the client. Constant time in the secret;
  /// does the same work for an unknown client.
  bool client_secret_matches(std::string_view client, const ClientSecret& secret,
                             sys_seconds now) const;
  /// The token's id when this is a live tenant-admin token.
  std::optional<std::string> admin_token_id(const BearerToken& token, sys_seconds now) const;

  /// The token's id when this is an initial access token with a use left.
  std::optional<std::string> initial_token_id(const BearerToken& token, sys_seconds now) const;

  /// Roles that this principal has, each with a binding whose conditions it meets.
  std::vector<BoundRole> roles_of(const Principal& principal,
                                  const std::vector<std::string>& groups,
                                  const Attributes& attributes = {}) const;
  /// Whether one of these roles denies everything (`*:*`): the user is disabled,
  /// wherever a token of theirs is shown.
  bool disabled(const Principal& principal, const std::vector<std::string>& groups,
                const Attributes& attributes = {}) const;
  /// Whether a binding names the group.
  bool binds(const std::string& group) const { return roles_by_group_.contains(group); }
  /// Whether a binding asks for this value of the claim.
  bool binds_claim(const std::string& claim, const std::string& value) const;
  /// Whether some role names tools.
  bool names_tools() const noexcept { return names_tools_; }
  /// The scopes of all backends; those that match patterns are not among them.
  const ScopeSet& all_scopes() const noexcept { return all_scopes_; }
  /// The epoch of the last change to a binding of groups or claims to a role that
  /// denies something. Who was not known to have those before may be denied since.
  std::uint64_t groups_denied_at() const noexcept { return groups_denied_at_; }
  /// Names of the claims that some binding asks for: what a verified token keeps.
  const std::set<std::string>& binding_claims() const noexcept { return binding_claims_; }

  /// The key that signs now; null when the tenant has none for the algorithm.
  const TokenSigner* signer(crypto::Algorithm algorithm, sys_seconds now) const;
  /// What introspection answers may be signed with (RFC 9701 §7).
  std::set<crypto::Algorithm> introspection_algorithms() const;
  /// What a client's are signed with: its own choice, else RS256 (RFC 9701 §6), else
  /// what this tenant has (docs/decisions/0025).
  crypto::Algorithm introspection_algorithm(const Client& client, sys_seconds now) const;
  /// Those that were published when this snapshot was built.
  const std::vector<PublishedKey>& signing_keys() const noexcept { return signing_keys_; }
  /// Public keys of our own tokens, retired ones included.
  const token::JwkSet& own_keys() const noexcept { return own_keys_; }

  const std::string& jwks_document() const noexcept { return jwks_document_; }
  const std::string& metadata_document() const noexcept { return metadata_document_; }

  const std::vector<StoredAdminToken>& admin_tokens() const noexcept { return admin_tokens_; }
  const std::vector<StoredInitialToken>& initial_tokens() const noexcept { return initial_tokens_; }
  /// Whether clients may register by RFC 7591.
  bool takes_registrations() const noexcept {
    return config_.settings.registration && config_.settings.registration->dynamic;
  }
  std::vector<const StoredClientSecret*> secrets_of(std::string_view client) const;
  /// Rough bytes held, for the cache's memory bound.
  std::size_t footprint() const noexcept { return footprint_; }

 private:
  explicit TenantSnapshot(TenantId tenant) : tenant_(std::move(tenant)) {}
  void index();
  void write_documents(const std::vector<token::Json>& public_keys);

  TenantId tenant_;
  std::uint64_t epoch_ = 0;
  bool enabled_ = true;
  std::optional<Error> sealed_;
  bool opens_soon_ = false;
  std::string display_name_;
  sys_seconds created_at_{};
  std::string issuer_url_;
  TenantConfig config_;
  std::optional<Client> document_client_;                 // whom a metadata document describes
  std::unordered_map<std::string, IssuerEntry> issuers_;  // by iss
  std::map<std::string, ClientKeys, std::less<>> client_keys_;
  std::unordered_map<std::string, const Backend*> targets_;
  std::unordered_map<std::string, std::vector<BoundRole>> roles_by_group_;
  std::map<Principal, std::vector<BoundRole>> roles_by_subject_;
  std::vector<BoundRole> roles_by_claims_;  // of bindings that name claims alone
  std::set<std::string> binding_claims_;
  bool disables_ = false;  // some role denies everything
  bool names_tools_ = false;
  ScopeSet all_scopes_;
  std::uint64_t groups_denied_at_ = 0;
  std::vector<StoredClientSecret> client_secrets_;
  std::vector<StoredAdminToken> admin_tokens_;
  std::vector<StoredInitialToken> initial_tokens_;
  std::map<crypto::Algorithm, std::vector<TokenSigner>> signers_;  // newest first
  std::vector<PublishedKey> signing_keys_;
  token::JwkSet own_keys_;
  std::string jwks_document_;
  std::string metadata_document_;
  std::size_t footprint_ = 0;
};

/// How client secrets, admin tokens and initial access tokens are hashed for storage
/// and look-up. All are 256 random bits (or at least 32 chosen characters), so one pass of
/// SHA-256 is enough; a slow hash would only help against guessable secrets.
crypto::Hash256 client_secret_hash(const TenantId& tenant, std::string_view client,
                                   const ClientSecret& secret);
crypto::Hash256 admin_token_hash(const TenantId& tenant, const BearerToken& token);
crypto::Hash256 initial_token_hash(const TenantId& tenant, const BearerToken& token);

/// The conditions of a binding, one by one.
bool issuer_fits(const Binding& binding, const Principal& principal, const TenantConfig& config);
bool claim_fits(const std::string& claim, const std::vector<std::string>& values,
                const Attributes& attributes);
bool claims_fit(const Binding& binding, const Attributes& attributes);

/// Reads stored objects into a configuration. Errors: Internal.
Result<TenantConfig> read_config(const StoredTenant& stored);

/// Where the current snapshot of a tenant comes from.
class SnapshotSource {
 public:
  virtual ~SnapshotSource() = default;
  /// Errors: NotFound for an unknown tenant (kept for a moment, so that guesses
  /// do not reach the database), Unavailable when the database cannot be reached
  /// or this replica cannot know whether what it holds is current, TooLarge never.
  virtual Result<std::shared_ptr<const TenantSnapshot>> get(const TenantId& tenant) = 0;
};

}  // namespace postern::policy
