#pragma once

#include <functional>
#include <string>

#include "audit/log.h"
#include "core/clock.h"
#include "crypto/hash.h"
#include "grants/client_credentials.h"
#include "grants/client_release.h"
#include "grants/introspection.h"
#include "grants/jwt_bearer.h"
#include "grants/release.h"
#include "grants/revocation.h"
#include "grants/subject.h"
#include "grants/token_exchange.h"
#include "grants/vault_sessions.h"
#include "http/handlers/authenticate.h"
#include "http/handlers/gate.h"
#include "policy/config_store.h"
#include "policy/snapshot_cache.h"
#include "vault/credential.h"
#include "vault/envelope.h"
#include "vault/erasure.h"
#include "vault/key_holder.h"
#include "vault/row_mover.h"
#include "vault/transit.h"
#include "vault/wrapping.h"

namespace postern::grants {
class CredentialRotations;
}

namespace postern::http {

/// What the endpoints work with. Built by app/wiring.cc, which owns it all.
struct Services {
  policy::SnapshotCache& snapshots;
  policy::ConfigStore& config;
  vault::Keyring& keyring;
  vault::CredentialStore& credentials;
  vault::Envelope& envelope;
  audit::AuditLog& audit_log;
  grants::SubjectVerifier& verifier;
  grants::TokenExchange& exchange;
  grants::ClientCredentials& client_credentials;
  grants::Release& release;
  grants::Introspection& introspection;
  grants::Revocation& revocation;
  Authentication authentication;
  const Clock& clock;
  std::string base_url;
  /// Whether this is one of the operator's tokens. Constant time.
  std::function<bool(const BearerToken&)> is_operator;
  /// Facts for GET /api/v1/status, as JSON text; waits for the database.
  std::function<Result<std::string>()> status;
  grants::JwtBearer* jwt_bearer = nullptr;  ///< null: assertions are not taken
  grants::DecisionPoint* decision_point = nullptr;
  /// Where keys are in use, for GET /api/v1/keys, as JSON text; waits for the database.
  std::function<Result<std::string>()> keys;
  /// Whether values can be opened and whether this replica knows what is current; from memory.
  struct Health {
    bool has_root_key = false;
    bool current = false;
    std::string_view version;  ///< of this program
  };
  std::function<Health()> health = {};
  grants::VaultSessions* vault_sessions = nullptr;
  grants::ClientRelease* client_release = nullptr;
  vault::KeyHolder* key_holder = nullptr;
  vault::RowMover* row_mover = nullptr;
  vault::Wrapping* wrapping = nullptr;
  vault::Transit* transit = nullptr;
  vault::Erasures* erasures = nullptr;
  grants::CredentialRotations* rotations = nullptr;  ///< null: nothing is rotated
};

/// The tenant a path names, from memory, or loaded when this run may wait for
/// the database. Errors: NotFound (also for a disabled tenant, unless asked
/// for), NeedsDatabase, Unavailable.
enum class DisabledTenant { Refuse, Allow };
Result<std::shared_ptr<const policy::TenantSnapshot>> tenant_of(
    const Services& services, const Request& request,
    DisabledTenant disabled = DisabledTenant::Refuse);

/// Waiting allowed to this run, in the grants' terms.
inline grants::Wait wait_of(const Request& request) {
  if (request.may_block_on_outbound) return grants::Wait::Yes;
  return request.may_wait_for_database ? grants::Wait::Database : grants::Wait::No;
}

/// An audit record for this request, outcome to be set.
audit::Event record_for(const Services& services, const TenantId& tenant, const Request& request,
                        std::string action);
/// Marks the record refused or failed, with the error's code and our words for it.
void record_error(audit::Event& record, const Error& error);

/// Query parameters of the REST API, decoded strictly. Errors: MalformedRequest
/// for a bad encoding, a repeated or an unknown name, and a value that is empty.
class Query {
 public:
  static Result<Query> parse(std::string_view query, std::initializer_list<std::string_view> known);
  /// For an operation that takes no parameters.
  static Status none(const Request& request);
  std::optional<std::string> get(std::string_view name) const;
  /// Errors: MalformedRequest unless `true` or `false`.
  Result<bool> flag(std::string_view name) const;
  /// Errors: MalformedRequest unless a number within the bounds.
  Result<std::uint64_t> number(std::string_view name, std::uint64_t otherwise, std::uint64_t low,
                               std::uint64_t high) const;

 private:
  std::vector<std::pair<std::string, std::string>> values_;
};

}  // namespace postern::http
