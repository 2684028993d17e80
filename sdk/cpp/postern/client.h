#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/ids.h"
#include "postern/transport.h"

/// A client of Postern's REST API and token endpoint: one function an
/// endpoint, typed answers, secrets in memory that is wiped. sdk/openapi.yaml
/// describes the same calls. libcurl and OpenSSL keep copies of what passes
/// through their own buffers; those are beyond this library.
namespace postern::sdk {

struct ServerStatus {
  std::string version;
  std::int64_t schema_version = 0;
  std::string database;
  std::int64_t tenants = 0;
  std::int64_t uptime_seconds = 0;
  std::string root_key_id;
};

/// Where the keys that seal everything are in use, and what rotating them has left to do.
struct KeyStatus {
  struct RootKey {
    std::string id;
    std::string state;  ///< "active", "old" (only opens), "missing" (not at that server)
    std::int64_t keks = 0;
    std::int64_t tenants = 0;
  };
  std::vector<RootKey> root_keys;
  std::int64_t keks_to_rotate = 0;  ///< under another root key than the active one
  struct Rows {                     ///< under an older KEK than their tenant's newest
    std::int64_t tenants = 0;
    std::int64_t credential_versions = 0;
    std::int64_t signing_keys = 0;
    std::int64_t others = 0;  ///< answers that wait wrapped, versions of transit keys
  } rows_to_rewrap;
  std::int64_t rows_rewrapped = 0;  ///< ever, of the tenants there are
  std::vector<std::string> advice;  ///< what the operator should do next
};

template <class T>
struct Page {
  std::vector<T> items;
  std::string next_cursor;  ///< empty on the last page
};

struct TenantSummary {
  std::string tenant;
  std::string display_name;
  bool enabled = true;
  std::uint64_t epoch = 0;
  sys_seconds created_at{};
};

struct Tenant : TenantSummary {
  std::string issuer;                                        ///< our issuer URL for it
  std::vector<std::pair<std::string, std::int64_t>> counts;  ///< kind, how many
};

struct Change {
  std::string kind;
  std::string name;
  std::string action;               ///< create, update, delete, unchanged
  std::vector<std::string> fields;  ///< top-level members that changed
};

struct GeneratedSecret {
  std::string client;
  ClientSecret secret;
};

struct ApplyResult {
  std::string tenant;
  std::uint64_t epoch = 0;
  bool created = false;
  bool dry_run = false;
  std::vector<Change> changes;
  std::vector<GeneratedSecret> client_secrets;  ///< made now and never shown again
  std::vector<std::string> warnings;
  std::vector<std::string> missing_credentials;

  /// Whether anything is, or would be, different.
  bool changes_anything() const;
};

enum class DryRun { No, Yes };
enum class Prune { No, Yes };

struct ApplyOptions {
  DryRun dry_run = DryRun::No;
  Prune prune = Prune::No;                  ///< delete what the manifest does not name
  std::optional<std::uint64_t> only_epoch;  ///< fail when the tenant has moved on
};

struct AdminToken {
  std::string token_id;
  std::string description;
  sys_seconds created_at{};
  std::optional<sys_seconds> expires_at;
};

/// Whether a tenant's key demands a share that only its key holder has, as the replica
/// that answered sees it.
struct KeyHolder {
  std::string state;  ///< "not-held", "unsealed" or "sealed"
  std::int64_t kek_version = 0;
  std::int64_t rows_left = 0;  ///< under older KEKs, which may demand another share or none
};

/// The erasure of a principal or a tenant.
struct Erasure {
  std::string erasure_id;
  std::string state;      ///< "open" or "done"
  std::string statement;  ///< a signed statement, when it is done
};

struct SigningKey {
  std::string kid;
  std::string algorithm;
  std::string state;  ///< pending, active or retired
  sys_seconds created_at{};
  sys_seconds active_from{};
  std::optional<sys_seconds> retired_at;
};

struct NewAdminToken {
  std::string token_id;
  BearerToken token;
};

/// With which clients register themselves (RFC 7591 §3).
struct InitialAccessToken {
  std::string token_id;
  std::string description;
  sys_seconds created_at{};
  sys_seconds expires_at{};
  std::uint64_t max_uses = 1;
  std::uint64_t uses = 0;
};

struct ClientSecretInfo {
  std::string secret_id;
  std::optional<sys_seconds> expires_at;
};

struct NewClientSecret {
  std::string secret_id;
  ClientSecret secret;
};

/// Whose credential is meant. With a user's token as bearer it is always the
/// user's own, and `caller()` says so.
class CredentialOwner {
 public:
  static CredentialOwner tenant() { return CredentialOwner({}); }
  static CredentialOwner caller() { return CredentialOwner({}); }
  static CredentialOwner principal(Principal principal) {
    return CredentialOwner(std::move(principal));
  }
  const Principal& principal() const noexcept { return principal_; }

 private:
  explicit CredentialOwner(Principal principal) : principal_(std::move(principal)) {}
  Principal principal_;  ///< empty: neither parameter is sent
};

struct CredentialInfo {
  std::string name;
  std::string owner_type;  ///< "tenant" or "principal"
  Principal principal;     ///< of a principal's credential
  std::uint64_t version = 0;
  std::vector<std::string> fields;
  sys_seconds created_at{};
  std::optional<sys_seconds> expires_at;
  std::vector<std::string> warnings;  ///< of a write: what the fields are not enough for

  std::string state = "live";  ///< of the latest version: live, deleted or destroyed
  std::string type = "generic";
  std::string description;
  std::vector<std::pair<std::string, std::string>> labels;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::uint64_t max_versions = 10;
  bool cas_required = false;
  std::optional<sys_seconds> deleted_at;
  std::optional<sys_seconds> destroyed_at;
  std::optional<sys_seconds> rotation_due_at;
  std::optional<sys_seconds> last_used_at;  ///< up to a minute late
};

struct CredentialVersion {
  std::uint64_t version = 0;
  std::string state;  ///< live, deleted or destroyed
  std::vector<std::string> fields;
  sys_seconds created_at{};
  std::optional<sys_seconds> expires_at;
  std::optional<sys_seconds> deleted_at;
  std::optional<sys_seconds> destroyed_at;
  bool withdrawn = false;  ///< deleted in an emergency: only an admin brings it back
  std::vector<std::pair<std::string, std::string>> metadata;  ///< what its writer said about it
};

/// What is said about a credential beside its values. What is not set stays.
struct CredentialDescription {
  using Texts = std::vector<std::pair<std::string, std::optional<std::string>>>;

  std::optional<std::string> description;
  Texts labels;    ///< each is set or, without a text, taken away
  Texts metadata;  ///< likewise
  std::optional<sys_seconds> rotation_due_at;
  bool never_due = false;  ///< takes rotation_due_at away
  std::optional<std::uint32_t> max_versions;
  std::optional<bool> cas_required;
  /// Of put_credential() alone: about the version that it writes, and final with it.
  std::vector<std::pair<std::string, std::string>> version_metadata;
};

enum class VersionChange { Delete, Undelete, Destroy };

struct CredentialField {
  std::string name;
  FieldValue value;
};

struct RevealedCredential {
  std::uint64_t version = 0;
  std::vector<CredentialField> fields;
};

struct CredentialFilter {
  std::string owner;  ///< "tenant", "principal", or empty for all
  Principal principal;
  std::vector<std::pair<std::string, std::string>> labels;  ///< has all of these
  std::string type;
  bool overdue = false;  ///< was to be rotated by now
  std::string cursor;
  std::uint32_t limit = 100;
};

/// What a credential is rotated to.
struct RotateRequest {
  std::vector<CredentialField> fields;  ///< this value; none: as the settings say
  std::string generate;                 ///< JSON: how a value is made this once; or empty
  std::optional<std::chrono::seconds> grace;
  std::optional<sys_seconds> expires_at;      ///< with fields; none: as the one before
  std::optional<std::uint64_t> only_version;  ///< which must be the latest one
};
/// Abandoned ones end in the service alone: outside all stays as it is.
enum class RotationStep { Promote, Retire, Cancel, AbandonRetire, AbandonCancel };

/// What one item of a release or an exchange is for.
struct TargetItem {
  // Exactly one of these three.
  std::string backend;
  std::string resource;
  std::string audience;
  std::string scope;  ///< space-separated; empty for what policy gives
};

struct ReleasedFile {
  std::string name;
  std::string env;  ///< variable that wants the file's path; may be empty
  FieldValue content;
};

struct ReleasedItem {
  std::string backend;  ///< its name, or the target as it was asked for
  bool allowed = false;

  std::vector<std::pair<std::string, FieldValue>> env;
  std::vector<std::pair<std::string, FieldValue>> headers;
  std::vector<ReleasedFile> files;
  std::optional<sys_seconds> expires_at;
  std::string credential_name;  ///< empty for a minted token
  std::string credential_owner;
  std::uint64_t credential_version = 0;
  std::string token_scope;

  // Of a refused item.
  std::string error;
  std::string detail;
  std::string connect_url;
};

struct AuditRecord {
  std::uint64_t sequence = 0;
  std::string hash;
  std::string at;
  std::string action;
  std::string outcome;
  std::string request_id;
  std::vector<std::pair<std::string, std::string>> fields;
  std::string json;  ///< the whole record as one line

  /// The value of the first of these fields that the record has.
  std::string_view first_of(std::initializer_list<std::string_view> names) const;
};

enum class AuditOrder { OldestFirst, NewestFirst };

struct AuditQuery {
  std::optional<std::uint64_t> after;
  std::uint32_t limit = 100;
  std::string action;
  AuditOrder order = AuditOrder::OldestFirst;
};

struct AuditPage {
  std::vector<AuditRecord> items;
  std::optional<std::uint64_t> next_after;
};

struct AuditVerification {
  bool intact = false;
  std::uint64_t records = 0;
  std::uint64_t head_sequence = 0;
  std::string head_hash;
  std::optional<std::uint64_t> first_bad;
  std::string problem;
};

namespace token_type {
inline constexpr std::string_view kAccessToken = "urn:ietf:params:oauth:token-type:access_token";
inline constexpr std::string_view kJwt = "urn:ietf:params:oauth:token-type:jwt";
inline constexpr std::string_view kIdToken = "urn:ietf:params:oauth:token-type:id_token";
}  // namespace token_type

struct ExchangeRequest {
  const SubjectToken& subject_token;
  std::string subject_token_type{token_type::kAccessToken};
  std::vector<std::string> audience = {};
  std::vector<std::string> resource = {};
  std::string scope = {};
  std::string requested_token_type = {};
  const ActorToken* actor_token = nullptr;
  std::string actor_token_type{token_type::kAccessToken};
};

struct IssuedToken {
  AccessToken access_token;
  std::string issued_token_type;  ///< empty for client_credentials
  std::string token_type;
  std::optional<std::chrono::seconds> expires_in;
  std::string scope;
  SecretBytes json;  ///< the whole answer
};

/// One of many: with a token, or with why not.
struct ExchangedItem {
  std::string backend;  ///< its name, or the target as it was asked for
  std::optional<IssuedToken> issued;

  // Of a refused item.
  std::string error;
  std::string detail;
  std::string connect_url;
};

struct ExchangedItems {
  std::vector<ExchangedItem> items;  ///< one for each asked, in that order
  SecretBytes json;                  ///< the whole answer
};

struct Credentials {
  std::optional<BearerToken> token;  ///< operator, tenant admin, or a user's own
  std::optional<ClientCredentials> client;
};

/// Every function may fail as Transport::send does, or be Refused. Not thread-safe.
/// A request whose decision is to be explained. Without subject and token the
/// client asks for itself.
struct ExplainQuestion {
  std::string client;
  const SubjectToken* subject_token = nullptr;
  std::string subject_token_type;
  // Or the user, described.
  std::string issuer;
  std::string subject;
  std::vector<std::string> groups;
  std::vector<std::pair<std::string, std::string>> claims;
  std::string token_scope;  ///< of the user's token
  // Who acts for the user, by a token or described; empty: nobody.
  const ActorToken* actor_token = nullptr;
  std::string actor_token_type;
  std::string actor_issuer;
  std::string actor;
  // What is asked for.
  std::string audience;
  std::string resource;
  std::string scope;
  std::string grant;                  ///< empty: as there is a user or not
  std::string authorization_details;  ///< JSON text, or empty
};

class Client {
 public:
  static Result<Client> create(TransportOptions options, Credentials credentials);

  Result<ServerStatus> status();
  /// For operators.
  Result<KeyStatus> key_status();

  Result<Page<TenantSummary>> tenants(const std::string& cursor = {}, std::uint32_t limit = 100);
  Result<Tenant> tenant(const TenantId& tenant);
  /// Deletes the tenant and all that is its. There is no way back.
  Status delete_tenant(const TenantId& tenant);

  /// `manifest` is JSON text. Wiped by the caller: it may hold client secrets.
  Result<ApplyResult> apply(const TenantId& tenant, const SecretBytes& manifest,
                            const ApplyOptions& options);
  /// The current configuration as JSON text, without secrets.
  Result<std::string> manifest(const TenantId& tenant);

  /// Why a request would be allowed or refused, as JSON text (schema Explanation).
  Result<std::string> explain(const TenantId& tenant, const ExplainQuestion& question);

  Result<NewAdminToken> create_admin_token(const TenantId& tenant, const std::string& description,
                                           std::optional<sys_seconds> expires_at);
  Result<std::vector<AdminToken>> admin_tokens(const TenantId& tenant);
  Status delete_admin_token(const TenantId& tenant, const std::string& token_id);

  /// Without `expires_at` for a day. @param max_uses  1 to 1000 clients.
  Result<NewAdminToken> create_initial_access_token(const TenantId& tenant,
                                                    const std::string& description,
                                                    std::optional<sys_seconds> expires_at,
                                                    std::uint64_t max_uses);
  Result<std::vector<InitialAccessToken>> initial_access_tokens(const TenantId& tenant);
  Status delete_initial_access_token(const TenantId& tenant, const std::string& token_id);

  Result<NewClientSecret> add_client_secret(const TenantId& tenant, const ClientId& client,
                                            std::optional<sys_seconds> expires_at);
  Result<std::vector<ClientSecretInfo>> client_secrets(const TenantId& tenant,
                                                       const ClientId& client);
  Status delete_client_secret(const TenantId& tenant, const ClientId& client,
                              const std::string& secret_id);

  Result<KeyHolder> key_holder(const TenantId& tenant);
  /// For the tenant's admins, as all that follow. A share is 32 random bytes in base64url.
  /// `present` is the share that is replaced; empty: there is none.
  Result<KeyHolder> hold_key(const TenantId& tenant, const SecureBuffer& share,
                             const SecureBuffer& present);
  Result<KeyHolder> release_key(const TenantId& tenant, const SecureBuffer& share);
  Result<KeyHolder> seal_tenant(const TenantId& tenant);
  Result<KeyHolder> unseal_tenant(const TenantId& tenant, const SecureBuffer& share);

  /// Erases all that the principal has. Both empty: whom the token is about.
  Result<Erasure> erase_principal(const TenantId& tenant, const std::string& issuer,
                                  const std::string& subject);
  Result<Erasure> erasure(const TenantId& tenant, const std::string& erasure_id);
  /// For operators: the tenant as a whole, in backups too.
  Result<Erasure> erase_tenant(const TenantId& tenant);
  Result<Erasure> tenant_erasure(const TenantId& tenant);

  Result<std::vector<SigningKey>> signing_keys(const TenantId& tenant);
  /// The new keys, one for each algorithm, or for the one that is named.
  /// `publish_for`: how long they are only published; the server's choice when not given.
  Result<std::vector<SigningKey>> rotate_signing_keys(
      const TenantId& tenant, const std::string& algorithm,
      std::optional<std::chrono::seconds> publish_for);
  /// At once: what the key signed verifies no more.
  Status withdraw_signing_key(const TenantId& tenant, const std::string& kid);

  /// Stores a new version. With `only_version` the call fails when another
  /// version is current; 0 stands for "there is none yet". An empty `type` keeps
  /// the one the credential has.
  Result<CredentialInfo> put_credential(const TenantId& tenant, const CredentialName& name,
                                        const CredentialOwner& owner,
                                        const std::vector<CredentialField>& fields,
                                        std::optional<sys_seconds> expires_at,
                                        std::optional<std::uint64_t> only_version = {},
                                        const std::string& type = {},
                                        const CredentialDescription& description = {});
  Result<CredentialInfo> credential(const TenantId& tenant, const CredentialName& name,
                                    const CredentialOwner& owner);
  Result<CredentialInfo> describe_credential(const TenantId& tenant, const CredentialName& name,
                                             const CredentialOwner& owner,
                                             const CredentialDescription& description);
  /// With all its versions. There is no way back.
  Status delete_credential(const TenantId& tenant, const CredentialName& name,
                           const CredentialOwner& owner);
  /// Those that are kept, oldest first.
  Result<std::vector<CredentialVersion>> credential_versions(const TenantId& tenant,
                                                             const CredentialName& name,
                                                             const CredentialOwner& owner);
  /// A deleted version can be brought back, a destroyed one cannot. When the latest
  /// one is either, there is no credential to release.
  Result<CredentialInfo> change_credential_version(const TenantId& tenant,
                                                   const CredentialName& name,
                                                   const CredentialOwner& owner,
                                                   std::uint64_t version, VersionChange change);
  Result<Page<CredentialInfo>> credentials(const TenantId& tenant, const CredentialFilter& filter);

  // Rotation. Each answers with the JSON text that the server sent, which holds no value.
  Result<std::string> rotation(const TenantId& tenant, const CredentialName& name,
                               const CredentialOwner& owner);
  /// @param settings  JSON; empty: there are none from now on. Errors: Usage.
  Result<std::string> configure_rotation(const TenantId& tenant, const CredentialName& name,
                                         const CredentialOwner& owner, const std::string& settings);
  Result<std::string> rotate_credential(const TenantId& tenant, const CredentialName& name,
                                        const CredentialOwner& owner, const RotateRequest& what);
  /// Hands an announced key out at once, retires the value before, or gives up a rotation that
  /// is under way.
  Result<std::string> steer_rotation(const TenantId& tenant, const CredentialName& name,
                                     const CredentialOwner& owner, RotationStep step);
  /// A page of the report; `owner` and `principal` of the filter are not looked at.
  Result<std::string> rotations(const TenantId& tenant, const CredentialFilter& filter);
  /// @param request  JSON. Errors: Usage.
  Result<std::string> rotate_many(const TenantId& tenant, const std::string& request);
  Result<std::string> contain(const TenantId& tenant, const std::string& request);

  /// The values of a version, of the latest one unless it is named, where operator
  /// and tenant allow that. `reason` goes into the audit trail.
  Result<RevealedCredential> reveal_credential(const TenantId& tenant, const CredentialName& name,
                                               const CredentialOwner& owner,
                                               const std::string& reason,
                                               std::optional<std::uint64_t> version = {});

  /// What the user may hand to these backends. Each item is allowed or refused
  /// on its own. Authenticates with the client credentials.
  Result<std::vector<ReleasedItem>> release(const TenantId& tenant,
                                            const SubjectToken& subject_token,
                                            std::string_view subject_token_type,
                                            const std::vector<TargetItem>& items);

  Result<AuditPage> audit(const TenantId& tenant, const AuditQuery& query);
  Result<AuditVerification> verify_audit(const TenantId& tenant);

  /// RFC 8693. Authenticates with the client credentials.
  Result<IssuedToken> exchange(const TenantId& tenant, const ExchangeRequest& request);
  /// Tokens for many targets with one call; each is decided on its own. Of the
  /// request only the tokens count, and the type that is asked for of each.
  Result<ExchangedItems> exchange(const TenantId& tenant, const ExchangeRequest& request,
                                  const std::vector<TargetItem>& items);
  /// RFC 6749 §4.4.
  Result<IssuedToken> client_credentials(const TenantId& tenant,
                                         const std::vector<std::string>& resource,
                                         const std::string& scope);
  /// RFC 7662: JSON text of what the token is worth to this client.
  Result<std::string> introspect(const TenantId& tenant, const SubjectToken& token);
  /// RFC 7009. Succeeds also when there was nothing to revoke.
  Status revoke(const TenantId& tenant, const SubjectToken& token);
  /// JSON text of the tenant's public signing keys, and of its RFC 8414 metadata.
  Result<std::string> jwks(const TenantId& tenant);
  Result<std::string> metadata(const TenantId& tenant);

  /// The X-Request-Id of the last answer.
  const std::string& last_request_id() const noexcept { return last_request_id_; }

 private:
  Client(Transport transport, Credentials credentials);

  enum class Authenticate { Nobody, Bearer, Client };
  Result<HttpAnswer> call(HttpRequest request, Authenticate as);
  Result<std::string> json_call(std::string method, std::string target, const std::string& body,
                                const char* what);
  Result<IssuedToken> token_request(const TenantId& tenant, SecretBytes form);
  Result<HttpAnswer> about_token(const TenantId& tenant, const char* endpoint,
                                 const SubjectToken& token);

  Transport transport_;
  Credentials credentials_;
  std::string last_request_id_;
};

}  // namespace postern::sdk
