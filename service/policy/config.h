#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "crypto/signature.h"
#include "policy/guardrails.h"
#include "policy/scope.h"
#include "policy/scope_pattern.h"
#include "policy/tools.h"
#include "policy/view.h"
#include "token/json.h"

/// The configuration of a tenant as typed values, read strictly from JSON:
/// unknown members, wrong types and values out of bounds are MalformedRequest
/// with a JSON pointer. docs/manifest.md describes every member to users.
namespace postern::policy {

using std::chrono::seconds;
using token::Json;

/// A list of names, or everything ("*").
struct NameSet {
  bool all = false;
  std::set<std::string, std::less<>> names;
  bool contains(std::string_view name) const { return all || names.find(name) != names.end(); }
};

enum class GrantType;

/// What clients that register themselves may have, all of it and at most, by
/// RFC 7591 or by a Client ID Metadata Document. Held when they register and
/// whenever they act.
struct Registration {
  bool dynamic = false;  ///< RFC 7591, for whoever holds an initial access token
  /// Client ids that are URLs of metadata documents: one that ends in `/` stands
  /// for all below it. None: no such client.
  std::vector<std::string> metadata_urls;
  std::set<GrantType> grants;
  std::set<ClientAuthentication> authentication;
  NameSet backends;
  NameSet scopes;
  std::vector<std::string> audiences;  ///< further `aud` values that make each the presenter
  bool dpop_bound = false;             ///< every token they get is bound by DPoP
  std::uint32_t max_clients = 50;      ///< that registered by RFC 7591
  std::optional<seconds> secret_expires_in;

  bool takes_metadata_of(std::string_view client_id) const;
};

/// What a client may do with a key of transit.
enum class TransitOperation { Encrypt, Decrypt, Rewrap, Sign, Verify, Hmac, DataKey };

/// Which clients may do what with which keys of transit.
struct Transit {
  struct Rule {
    std::set<std::string, std::less<>> clients;
    NameSet keys;
    std::set<TransitOperation> operations;
  };
  std::vector<Rule> rules;

  /// @param operation  nothing: anything at all.
  bool allows(std::string_view client, std::string_view key,
              std::optional<TransitOperation> operation) const;
};

/// What of Vault's API a tenant answers to (docs/vault-api.md).
struct VaultApi {
  std::string mount = "secret";  ///< the path of its one KV version 2 engine
  /// Ids of clients that may log in there, and read what their backends take of the
  /// tenant with no user behind them.
  std::set<std::string, std::less<>> clients;
  std::optional<Transit> transit;  ///< none: there is none
  Views views;                     ///< where those clients read what is of their users
};

struct TenantSettings {
  seconds max_token_lifetime{3600};
  std::string connect_url;  ///< where a user connects a missing credential; `{backend}` is replaced
  /// The operator's; a member of its own in manifests, stored with the settings.
  Guardrails guardrails;
  std::optional<Registration> registration;  ///< none: no client registers itself
  bool reveal = false;                       ///< stored values may be shown to admins
  ScopeSet api_scopes;                       ///< that a user's token must have at the REST API
  std::optional<VaultApi> vault_api;         ///< none: it does not answer to Vault's API

  /// Whether the operator's guardrails leave that to the tenant, too.
  bool may_reveal() const { return reveal && guardrails.reveal; }
  /// Null when switched off, by the tenant or by the operator.
  const VaultApi* vault() const {
    return vault_api && guardrails.vault_api ? &*vault_api : nullptr;
  }
  /// The longest that any token of the tenant may live.
  seconds lifetime_ceiling() const {
    return std::min(max_token_lifetime, guardrails.max_token_lifetime.value_or(max_token_lifetime));
  }
};

/// What a token of an issuer may be presented as. The first three are RFC 8693
/// subject and actor tokens; the others are assertions of the jwt-bearer grant.
enum class SubjectTokenType { AccessToken, Jwt, IdToken, IdJag, JwtBearer };

/// Claims (a name, or a JSON pointer) and the values of which one must be there.
using ClaimRules = std::map<std::string, std::vector<std::string>>;

/// How an issuer is asked about its opaque tokens (RFC 7662).
struct Introspection {
  std::string endpoint;  ///< https
  std::string client_id;
  CredentialName credential{"unset"};  ///< tenant-owned; its field `client_secret`
  seconds cache_for{30};               ///< of positive answers, never past `exp`
};

struct ClaimMapping {
  // A name is a top-level claim, or a JSON pointer when it begins with `/`.
  std::string subject = "sub";
  std::string groups = "groups";
  std::string scope;  ///< empty: the token's scope says nothing here; roles are the ceiling
};

struct TrustedIssuer {
  std::string name;
  std::string issuer;  ///< exact `iss`
  /// JSON text of a static key set; empty when fetched, or when there are only opaque tokens.
  std::string jwks;
  std::string jwks_uri;    ///< https; empty when static or discovered
  bool discovery = false;  ///< jwks_uri from the issuer's metadata
  std::vector<crypto::Algorithm> algorithms;
  std::vector<std::string> audiences;  ///< a token must carry one of them
  std::set<SubjectTokenType> token_types;
  std::vector<std::string> header_types;  ///< `typ` values taken besides none, jwt and at+jwt
  ClaimMapping claims;
  ClaimRules required_claims;
  std::optional<Introspection> introspection;
  /// Whether an ID-JAG may be presented again until it expires (the IETF draft
  /// allows it, MCP forbids it).
  bool id_jag_reuse = false;
  /// Put before `sub` in issued tokens and before group names when bindings are
  /// looked up, to keep two issuers' users and groups apart.
  std::string subject_prefix;
  std::optional<seconds> max_token_age;
  bool enabled = true;
};

enum class GrantType { TokenExchange, ClientCredentials, JwtBearer };

/// How a client authenticates: one way each (RFC 7591 `token_endpoint_auth_method`).
enum class ClientAuthentication {
  Secret,         ///< client_secret_basic and client_secret_post
  PrivateKeyJwt,  ///< RFC 7523
  Tls,            ///< tls_client_auth, RFC 8705 §2.1
  SelfSignedTls,  ///< self_signed_tls_client_auth, RFC 8705 §2.2
  Workload,       ///< a token of a trusted issuer as client_assertion; no stored secret
};

/// What a client's certificate must say (RFC 8705 §2.1.2): exactly one kind of name.
struct TlsSubject {
  enum class Kind { Dn, Dns, Uri, Ip, Email };
  Kind kind = Kind::Dn;
  std::string value;  ///< a DN as RFC 4514 text
};

/// Which tokens of which issuer are this client's credential.
struct WorkloadRule {
  std::string issuer;    ///< name of a trusted issuer of the tenant
  std::string audience;  ///< must be in `aud`
  ClaimRules claims;     ///< at least one
};

struct AuthenticationRule {
  ClientAuthentication method = ClientAuthentication::Secret;
  std::string jwks;      ///< private_key_jwt: JSON text of a static key set
  std::string jwks_uri;  ///< private_key_jwt: fetched keys; exactly one of the two
  std::vector<crypto::Algorithm> algorithms;    ///< private_key_jwt
  bool token_endpoint_audience = false;         ///< private_key_jwt: also takes that URL as `aud`
  bool issuer_slash_audience = true;            ///< private_key_jwt: also takes the issuer with `/`
  std::optional<TlsSubject> tls_subject;        ///< tls_client_auth
  std::vector<std::string> certificate_sha256;  ///< self-signed: x5t#S256 of each, base64url
  std::optional<WorkloadRule> workload;
};

/// How a client came to be that nobody configured (RFC 7591).
struct Registered {
  std::string token;  ///< id of the initial access token
  sys_seconds at{};
  std::string name;  ///< `client_name`: what it calls itself
};

struct Client {
  ClientId id{"unset"};
  AuthenticationRule authentication;
  std::set<GrantType> grants;
  NameSet backends;
  NameSet scopes;
  std::vector<std::string> audiences;  ///< further `aud` values that make this client the presenter
  std::optional<BackendId> default_backend;
  bool dpop_bound = false;  ///< RFC 9449 §5.2: every token it gets is bound by DPoP
  bool certificate_bound =
      false;            ///< RFC 8705 §3.4: every token it gets is bound to its certificate
  NameSet introspects;  ///< backends that it is the resource server of (RFC 7662)
  /// Of signed introspection answers (RFC 9701 §6); none: TenantSnapshot::introspection_algorithm.
  std::optional<crypto::Algorithm> introspection_algorithm;
  bool enabled = true;
  /// Then its backends, and the most it may have of all else, are Registration's.
  std::optional<Registered> registered;
};

enum class AnswerKind { Minted, Vaulted };
enum class CredentialOwnerRule { Tenant, Principal, PrincipalOrTenant };

/// Text with {field} places, cut once when the configuration is read.
class Template {
 public:
  /// `{{` and `}}` are braces. Errors: MalformedRequest for an unclosed or empty place.
  static Result<Template> parse(std::string_view text);
  struct Part {
    bool is_field = false;
    std::string text;
  };
  const std::vector<Part>& parts() const noexcept { return parts_; }
  const std::string& source() const noexcept { return source_; }
  std::set<std::string> fields() const;

 private:
  std::string source_;
  std::vector<Part> parts_;
};

struct DeliveredFile {
  std::string name;
  std::string env;  ///< variable that will hold the file's path; may be empty
  Template content;
};

struct Delivery {
  std::map<std::string, Template> env;
  std::map<std::string, Template> headers;
  std::vector<DeliveredFile> files;

  std::set<std::string> fields() const;  ///< that its templates ask a credential for
};

/// How a user must have authenticated to reach a backend (RFC 9470).
struct AuthenticationDemand {
  std::vector<std::string> acr;         ///< one of these, when there are any
  std::vector<std::string> amr;         ///< all of these
  std::optional<seconds> max_auth_age;  ///< since `auth_time`
  bool any() const { return !acr.empty() || !amr.empty() || max_auth_age.has_value(); }
};

struct Backend {
  BackendId name{"unset"};
  std::string audience;
  std::vector<std::string> aliases;
  bool aud_as_requested = false;
  ScopeSet scopes;
  /// Resources that a request may name as scope, each ending in `*`; a token that
  /// matches one is a scope of this backend (see is_resource_token).
  std::vector<std::string> scope_patterns;
  bool has_scopes() const { return !scopes.empty() || !scope_patterns.empty(); }
  AnswerKind answer = AnswerKind::Minted;
  crypto::Algorithm signing_algorithm = crypto::Algorithm::ES256;
  seconds max_expires_in{300};
  std::optional<CredentialName> credential;
  CredentialOwnerRule credential_owner = CredentialOwnerRule::Principal;
  /// Vaulted: the field that a token exchange answers with; empty: release only.
  std::string token_field;
  AuthenticationDemand require;
  Delivery delivery;
  bool enabled = true;
};

/// `backend:scope`; either part may be `*`, and the scope a pattern
/// (policy/scope_pattern.h). The backend part ends at the first colon.
struct Permission {
  std::string backend;
  std::string scope;
  static Result<Permission> parse(std::string_view text);
  bool matches(std::string_view backend_name, std::string_view scope_token,
               const PatternVariables& variables = {}) const {
    return (backend == "*" || backend == backend_name) &&
           scope_matches(scope, scope_token, variables);
  }
  std::string str() const { return backend + ":" + scope; }
};

struct Role {
  std::string name;
  std::vector<Permission> allow;
  std::vector<Permission> deny;  ///< wins over every allow of every role
  /// Where a role of the user names tools of a backend, these are all there are
  /// for the user; roles without do not speak of tools.
  std::vector<ToolPermission> tools;
};

/// Claims of a verified token that some binding of the tenant asks for, by the
/// name the binding gives them.
using Attributes = std::map<std::string, std::vector<std::string>>;

/// Who has a role: one of the groups or subjects, or everybody when there are
/// neither, provided that issuer and claims are as said.
struct Binding {
  std::string name;
  std::string role;
  std::vector<std::string> groups;
  std::vector<Principal> subjects;
  std::string issuer;  ///< name of a trusted issuer; empty: any
  ClaimRules claims;   ///< every one of them with one of its values
};

// Readers. `pointer` is the place of `value` in the request, for error messages.
Result<Registration> read_registration(const Json& value, const std::string& pointer);
Result<VaultApi> read_vault_api(const Json& value, const std::string& pointer);
Result<TenantSettings> read_settings(const Json& value, const std::string& pointer);
Result<TrustedIssuer> read_issuer(const Json& value, const std::string& pointer);
Result<Client> read_client(const Json& value, const std::string& pointer);
Result<Backend> read_backend(const Json& value, const std::string& pointer);
Result<Role> read_role(const Json& value, const std::string& pointer);
Result<Binding> read_binding(const Json& value, const std::string& pointer);

// Writers: every member, defaults included, so that equal meaning is equal text.
Json write(const Registration& registration);
Json write(const VaultApi& api);
Json write(const TenantSettings& settings);
Json write(const TrustedIssuer& issuer);
Json write(const Client& client);
Json write(const Backend& backend);
Json write(const Role& role);
Json write(const Binding& binding);

/// All of a tenant's configuration, with names resolved and checked together.
struct TenantConfig {
  TenantSettings settings;
  std::map<std::string, TrustedIssuer> issuers;  ///< by name
  std::map<std::string, Client> clients;
  std::map<std::string, Backend> backends;
  std::map<std::string, Role> roles;
  std::map<std::string, Binding> bindings;

  /// Whether the parts fit together: names that are referred to exist, no two
  /// backends answer to one audience, no two issuers share an `iss` or leave
  /// their subjects indistinguishable. Error pointers name kind and object
  /// (`/bindings/devs/role`), which the caller maps to the request when it can.
  Status check() const;
};

}  // namespace postern::policy
