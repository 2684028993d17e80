#include "policy/snapshot.h"

#include <algorithm>
#include <tuple>

#include "policy/client_metadata.h"
#include "policy/resource_uri.h"

namespace postern::policy {
namespace {

using token::Json;

constexpr std::string_view kJwtBearerGrant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
constexpr std::string_view kExchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange";

Error unreadable(std::string what) {
  return fail(ErrorCode::Internal, "", "stored configuration unreadable: " + std::move(what));
}

Result<std::shared_ptr<const token::JwkSet>> static_keys(std::string_view text, const char* what) {
  auto json = token::parse_json(text);
  if (!json.ok()) return unreadable(what);
  auto keys = token::JwkSet::parse(json.value(), token::JwkSet::WeakKeys::Refuse);
  if (!keys.ok()) return unreadable(what);
  return std::make_shared<const token::JwkSet>(std::move(keys).value());
}

std::string comparable(std::string_view text) {
  if (looks_like_uri(text)) {
    if (auto form = comparable_resource(text); form.ok()) return std::move(form).value();
  }
  return std::string(text);
}

bool unconditional(const BoundRole& bound) {
  return bound.binding->issuer.empty() && bound.binding->claims.empty();
}

/// One binding is enough to have a role: what could not matter goes.
template <class Enough>
void keep_unique(std::vector<BoundRole>& roles, const Enough& enough) {
  std::sort(roles.begin(), roles.end(), [](const BoundRole& a, const BoundRole& b) {
    return std::tuple(a.role, !unconditional(a), a.binding) <
           std::tuple(b.role, !unconditional(b), b.binding);
  });
  roles.erase(std::unique(roles.begin(), roles.end(),
                          [&](const BoundRole& a, const BoundRole& b) {
                            return a.role == b.role && (a.binding == b.binding || enough(a));
                          }),
              roles.end());
}

template <class T, class Read, class Key>
Status read_into(const StoredObject& object, std::map<std::string, T>& into, Read read, Key key) {
  auto json = token::parse_json(object.spec);
  if (!json.ok()) return unreadable(std::string(to_string(object.kind)));
  auto value = read(json.value(), std::string());
  if (!value.ok()) {
    return unreadable(std::string(to_string(object.kind)) + value.error().pointer);
  }
  auto name = key(value.value());
  if (name != object.name) return unreadable(std::string(to_string(object.kind)) + " name");
  into.emplace(std::move(name), std::move(value).value());
  return {};
}

}  // namespace

crypto::Hash256 client_secret_hash(const TenantId& tenant, std::string_view client,
                                   const ClientSecret& secret) {
  return secret.expose([&](ByteView bytes) {
    return crypto::sha256_parts(
        {as_bytes("postern-client-secret-v1"), as_bytes(tenant.str()), as_bytes(client), bytes});
  });
}

crypto::Hash256 admin_token_hash(const TenantId& tenant, const BearerToken& token) {
  return token.expose([&](ByteView bytes) {
    return crypto::sha256_parts(
        {as_bytes("postern-admin-token-v1"), as_bytes(tenant.str()), bytes});
  });
}

crypto::Hash256 initial_token_hash(const TenantId& tenant, const BearerToken& token) {
  return token.expose([&](ByteView bytes) {
    return crypto::sha256_parts(
        {as_bytes("postern-initial-token-v1"), as_bytes(tenant.str()), bytes});
  });
}

namespace {

bool denies_everything(const Role& role) {
  return std::any_of(role.deny.begin(), role.deny.end(), [](const Permission& permission) {
    return permission.backend == "*" && permission.scope == "*";
  });
}

}  // namespace

std::vector<PublishedKey> published_keys(const std::vector<StoredSigningKey>& stored,
                                         sys_seconds now) {
  std::vector<PublishedKey> keys;
  for (const auto& key : stored) {
    const bool waits = key.state == SigningKeyState::Pending;
    PublishedKey published{
        key.kid,        key.algorithm,
        key.created_at, key.active_from.value_or(waits ? sys_seconds::max() : key.created_at),
        waits,          std::nullopt};
    // The database's clock may be ahead of this one; retired is retired.
    if (key.state == SigningKeyState::Retired) {
      published.retired_at = std::min(key.retired_at.value_or(now), now);
    }
    keys.push_back(std::move(published));
  }
  std::stable_sort(keys.begin(), keys.end(), [](const auto& a, const auto& b) {
    return std::tie(a.algorithm, a.active_from) < std::tie(b.algorithm, b.active_from);
  });
  // Each one signs until the next one of its algorithm does. Backwards, so that
  // who is given an end here has not been asked for it yet.
  const PublishedKey* next = nullptr;
  bool next_was_told = false;
  for (auto key = keys.rbegin(); key != keys.rend(); ++key) {
    if (next != nullptr && next->algorithm != key->algorithm) next = nullptr;
    const bool told = key->retired_at.has_value();
    const bool same_second = next != nullptr && next->active_from == key->active_from;
    // Of two that began in one second the one signs that was not told to stop.
    if (told && same_second) continue;
    if (!told && next != nullptr && !(next_was_told && same_second)) {
      key->retired_at = next->active_from;
    }
    next = &*key;
    next_was_told = told;
  }
  std::erase_if(keys, [&](const auto& key) {
    return key.retired_at && *key.retired_at != sys_seconds::max() &&
           *key.retired_at + kRetiredKeyLife <= now;
  });
  return keys;
}

Result<TenantConfig> read_config(const StoredTenant& stored) {
  TenantConfig config;
  auto settings = token::parse_json(stored.row.settings);
  if (!settings.ok()) return unreadable("settings");
  auto read = read_settings(settings.value(), "");
  if (!read.ok()) return unreadable("settings" + read.error().pointer);
  config.settings = std::move(read).value();
  const auto name = [](const auto& value) { return value.name; };
  for (const auto& object : stored.objects) {
    switch (object.kind) {
      case Kind::Issuer: POSTERN_CHECK(read_into(object, config.issuers, read_issuer, name)); break;
      case Kind::Client:
        POSTERN_CHECK(read_into(object, config.clients, read_client,
                                [](const Client& client) { return client.id.str(); }));
        break;
      case Kind::Backend:
        POSTERN_CHECK(read_into(object, config.backends, read_backend,
                                [](const Backend& backend) { return backend.name.str(); }));
        break;
      case Kind::Role: POSTERN_CHECK(read_into(object, config.roles, read_role, name)); break;
      case Kind::Binding:
        POSTERN_CHECK(read_into(object, config.bindings, read_binding, name));
        break;
    }
  }
  return config;
}

Result<std::shared_ptr<const TenantSnapshot>> TenantSnapshot::build(const StoredTenant& stored,
                                                                    std::string_view base_url,
                                                                    vault::Keyring& keyring,
                                                                    sys_seconds now) {
  std::shared_ptr<TenantSnapshot> made(new TenantSnapshot(stored.row.tenant));
  made->epoch_ = stored.row.epoch;
  made->enabled_ = stored.row.enabled;
  made->display_name_ = stored.row.display_name;
  made->created_at_ = stored.row.created_at;
  made->issuer_url_ = std::string(base_url) + "/t/" + stored.row.tenant.str();
  POSTERN_TRY(made->config_, read_config(stored));
  for (auto& [id, client] : made->config_.clients) {
    if (client.registered) hold_to(made->config_.settings.registration, client);
  }
  if (const auto& allowed = made->config_.settings.registration;
      allowed && !allowed->metadata_urls.empty()) {
    Client most;
    most.authentication.method = *allowed->authentication.begin();
    most.grants = allowed->grants;
    most.scopes.all = true;
    hold_to(allowed, most);
    made->document_client_ = std::move(most);
  }
  made->client_secrets_ = stored.client_secrets;
  made->admin_tokens_ = stored.admin_tokens;
  made->initial_tokens_ = stored.initial_tokens;

  for (const auto& object : stored.objects) {
    made->footprint_ += 512 + object.spec.size() * 3;
    if (object.kind == Kind::Client) {
      const auto& rule = made->config_.clients.at(object.name).authentication;
      if (rule.method != ClientAuthentication::PrivateKeyJwt) continue;
      ClientKeys keys{object.name, rule.jwks_uri, nullptr, object.revision};
      if (!rule.jwks.empty()) {
        POSTERN_TRY(keys.static_keys, static_keys(rule.jwks, "client keys"));
      }
      made->client_keys_.emplace(object.name, std::move(keys));
    }
    if (object.kind == Kind::Binding) {
      const auto& binding = made->config_.bindings.at(object.name);
      const auto role = made->config_.roles.find(binding.role);
      if (role != made->config_.roles.end() && !role->second.deny.empty() &&
          (!binding.groups.empty() || !binding.claims.empty())) {
        made->groups_denied_at_ = std::max(made->groups_denied_at_, object.revision);
      }
    }
    if (object.kind != Kind::Issuer) continue;
    const auto& config = made->config_.issuers.at(object.name);
    IssuerEntry entry{config, nullptr, object.revision};
    if (!config.jwks.empty()) {
      POSTERN_TRY(entry.static_keys, static_keys(config.jwks, "issuer keys"));
    }
    made->issuers_.emplace(config.issuer, std::move(entry));
  }

  made->signing_keys_ = published_keys(stored.signing_keys, now);
  std::vector<Json> public_keys;
  for (const auto& published : made->signing_keys_) {
    const auto& stored_key =
        *std::find_if(stored.signing_keys.begin(), stored.signing_keys.end(),
                      [&](const auto& key) { return key.kid == published.kid; });
    auto jwk = token::parse_json(stored_key.public_jwk);
    if (!jwk.ok()) return unreadable("signing key");
    public_keys.push_back(std::move(jwk).value());
    if (published.state(now) == SigningKeyState::Retired) continue;
    const auto algorithm = crypto::parse_algorithm(stored_key.algorithm);
    if (!algorithm) return unreadable("signing key algorithm");
    auto& of_algorithm = made->signers_[*algorithm];  // there also when it cannot sign now
    auto unwrapped = keyring.unwrap_private(stored.row.tenant, vault::kTokenSigning, stored_key.kid,
                                            stored_key.wrapped);
    if (!unwrapped.ok() && unwrapped.error().code == ErrorCode::TenantSealed) {
      // Public keys, metadata and configuration are served all the same.
      made->sealed_ = std::move(unwrapped).error();
      continue;
    }
    POSTERN_TRY(const auto secret, std::move(unwrapped));
    POSTERN_TRY(auto key, crypto::SigningKey::import_private(*algorithm, secret));
    of_algorithm.insert(of_algorithm.begin(),
                        {stored_key.kid, std::make_shared<const crypto::SigningKey>(std::move(key)),
                         published.waits ? published.active_from : sys_seconds()});
  }
  if (made->sealed_) {
    POSTERN_TRY(const auto seal, keyring.seal_of(stored.row.tenant));
    made->opens_soon_ = seal != vault::Keyring::Seal::Sealed;
  }
  Json set{{"keys", public_keys}};
  auto own = token::JwkSet::parse(set, token::JwkSet::WeakKeys::Refuse);
  if (!own.ok()) return unreadable("signing keys");
  made->own_keys_ = std::move(own).value();

  made->index();
  made->write_documents(public_keys);
  return std::shared_ptr<const TenantSnapshot>(std::move(made));
}

Status TenantSnapshot::check_unsealed() const {
  if (sealed_) return *sealed_;
  return {};
}

void TenantSnapshot::index() {
  std::vector<std::string> scopes;
  for (const auto& [name, backend] : config_.backends) {
    scopes.insert(scopes.end(), backend.scopes.begin(), backend.scopes.end());
    if (!backend.enabled) continue;
    targets_.emplace(name, &backend);
    targets_.emplace(comparable(backend.audience), &backend);
    for (const auto& alias : backend.aliases) targets_.emplace(comparable(alias), &backend);
  }
  all_scopes_ = ScopeSet(std::move(scopes));
  for (const auto& [name, role] : config_.roles) names_tools_ |= !role.tools.empty();
  for (const auto& [name, binding] : config_.bindings) {
    const auto role = config_.roles.find(binding.role);
    if (role == config_.roles.end()) continue;  // check() refuses this on write
    disables_ |= denies_everything(role->second);
    const BoundRole bound{&binding, &role->second};
    for (const auto& group : binding.groups) roles_by_group_[group].push_back(bound);
    for (const auto& subject : binding.subjects) roles_by_subject_[subject].push_back(bound);
    if (binding.groups.empty() && binding.subjects.empty()) roles_by_claims_.push_back(bound);
    for (const auto& [claim, values] : binding.claims) binding_claims_.insert(claim);
    footprint_ += 256 * (binding.groups.size() + binding.subjects.size() + binding.claims.size());
  }
  for (auto& [group, roles] : roles_by_group_) keep_unique(roles, unconditional);
  footprint_ +=
      sizeof(TenantSnapshot) + 64 * all_scopes_.size() + 8192 + 256 * client_secrets_.size();
}

void TenantSnapshot::write_documents(const std::vector<Json>& public_keys) {
  jwks_document_ = token::dump_json(Json{{"keys", public_keys}});

  // RFC 8414 §2. Defaults of absent members are traps (absent grant types mean
  // code and implicit), so every list is written out.
  Json methods{"client_secret_basic", "client_secret_post", "private_key_jwt"};
  bool by_certificate = false;
  bool bound_to_certificate = false;
  for (const auto& [id, client] : config_.clients) {
    const auto method = client.authentication.method;
    by_certificate |= method == ClientAuthentication::Tls;
    by_certificate |= method == ClientAuthentication::SelfSignedTls;
    bound_to_certificate |= client.certificate_bound;
  }
  const auto& registration = config_.settings.registration;
  if (registration) {
    by_certificate |= registration->authentication.contains(ClientAuthentication::Tls);
    by_certificate |= registration->authentication.contains(ClientAuthentication::SelfSignedTls);
  }
  // Whether TLS reaches us, or a proxy passes certificates on, shows in that some
  // client is registered for it.
  if (by_certificate) {
    methods.push_back("tls_client_auth");
    methods.push_back("self_signed_tls_client_auth");
  }
  Json metadata{
      {"issuer", issuer_url_},
      {"token_endpoint", issuer_url_ + "/token"},
      // MCP clients refuse metadata without these three, though no code is issued.
      {"authorization_endpoint", issuer_url_ + "/authorize"},
      {"response_types_supported", {"code"}},
      {"code_challenge_methods_supported", {"S256"}},
      {"jwks_uri", issuer_url_ + "/jwks"},
      {"grant_types_supported", {kExchangeGrant, "client_credentials"}},
      {"token_endpoint_auth_methods_supported", methods},
      {"token_endpoint_auth_signing_alg_values_supported", {"RS256", "PS256", "ES256", "EdDSA"}},
      {"dpop_signing_alg_values_supported", {"ES256", "ES384", "EdDSA", "RS256", "PS256"}},
      {"authorization_details_types_supported", {kToolDetailType}},  // RFC 9396 §10
  };
  if (document_client_) metadata["client_id_metadata_document_supported"] = true;
  if (takes_registrations()) metadata["registration_endpoint"] = issuer_url_ + "/register";
  const bool assertions =
      (registration && registration->grants.contains(GrantType::JwtBearer)) ||
      std::any_of(config_.clients.begin(), config_.clients.end(), [](const auto& entry) {
        return entry.second.grants.contains(GrantType::JwtBearer);
      });
  if (assertions) {
    metadata["grant_types_supported"].push_back(kJwtBearerGrant);
    const bool id_jag =
        std::any_of(config_.issuers.begin(), config_.issuers.end(), [](const auto& entry) {
          return entry.second.token_types.contains(SubjectTokenType::IdJag);
        });
    if (id_jag) {
      metadata["authorization_grant_profiles_supported"] = {
          "urn:ietf:params:oauth:grant-profile:id-jag"};
    }
  }
  if (by_certificate || bound_to_certificate) {
    metadata["tls_client_certificate_bound_access_tokens"] = true;  // RFC 8705 §3.3
  }
  std::vector<std::string> scopes;
  for (const auto& [name, backend] : config_.backends) {
    if (backend.enabled) scopes.insert(scopes.end(), backend.scopes.begin(), backend.scopes.end());
  }
  const ScopeSet unique(std::move(scopes));
  if (!unique.empty()) {
    metadata["scopes_supported"] = std::vector<std::string>(unique.begin(), unique.end());
  }
  metadata["introspection_endpoint"] = issuer_url_ + "/introspect";
  metadata["revocation_endpoint"] = issuer_url_ + "/revoke";
  // Clients authenticate there as at the token endpoint; absent would mean Basic only.
  for (const char* what : {"auth_methods_supported", "auth_signing_alg_values_supported"}) {
    const auto known = metadata.find(std::string("token_endpoint_") + what);
    if (known == metadata.end()) continue;
    const Json values = *known;
    metadata[std::string("introspection_endpoint_") + what] = values;
    metadata[std::string("revocation_endpoint_") + what] = values;
  }
  Json signing = Json::array();
  for (const auto algorithm : introspection_algorithms()) {
    signing.push_back(std::string(crypto::to_string(algorithm)));
  }
  if (!signing.empty()) metadata["introspection_signing_alg_values_supported"] = signing;
  metadata_document_ = token::dump_json(metadata);
  footprint_ += jwks_document_.size() + metadata_document_.size();
}

const IssuerEntry* TenantSnapshot::find_issuer(std::string_view iss) const {
  const auto it = issuers_.find(std::string(iss));
  const bool usable = it != issuers_.end() && it->second.config.enabled &&
                      config_.settings.guardrails.allows_issuer(iss);
  return usable ? &it->second : nullptr;
}

const Client* TenantSnapshot::find_client(std::string_view id) const {
  const auto it = config_.clients.find(std::string(id));
  return it != config_.clients.end() ? &it->second : nullptr;
}

const Client* TenantSnapshot::client_of_token(std::string_view id) const {
  if (const auto* client = find_client(id)) return client;
  const bool by_document = document_client_ && settings().registration->takes_metadata_of(id);
  return by_document ? &*document_client_ : nullptr;
}

const ClientKeys* TenantSnapshot::client_keys(std::string_view id) const {
  const auto it = client_keys_.find(id);
  return it != client_keys_.end() ? &it->second : nullptr;
}

const Backend* TenantSnapshot::find_backend(std::string_view name) const {
  const auto it = config_.backends.find(std::string(name));
  return it != config_.backends.end() ? &it->second : nullptr;
}

const Backend* TenantSnapshot::resolve(std::string_view audience_or_resource) const {
  const auto it = targets_.find(comparable(audience_or_resource));
  return it != targets_.end() ? it->second : nullptr;
}

bool TenantSnapshot::client_secret_matches(std::string_view client, const ClientSecret& secret,
                                           sys_seconds now) const {
  const auto hash = client_secret_hash(tenant_, client, secret);
  bool matches = false;
  for (const auto& stored : client_secrets_) {
    if (stored.client.str() != client) continue;
    if (stored.expires_at && *stored.expires_at <= now) continue;
    matches |= crypto::equal(ByteView(stored.hash), ByteView(hash));
  }
  return matches;
}

std::optional<std::string> TenantSnapshot::admin_token_id(const BearerToken& token,
                                                          sys_seconds now) const {
  const auto hash = admin_token_hash(tenant_, token);
  std::optional<std::string> found;
  for (const auto& stored : admin_tokens_) {
    if (stored.expires_at && *stored.expires_at <= now) continue;
    if (crypto::equal(ByteView(stored.hash), ByteView(hash))) found = stored.token_id;
  }
  return found;
}

std::optional<std::string> TenantSnapshot::initial_token_id(const BearerToken& token,
                                                            sys_seconds now) const {
  const auto hash = initial_token_hash(tenant_, token);
  std::optional<std::string> found;
  for (const auto& stored : initial_tokens_) {
    if (stored.live(now) && crypto::equal(ByteView(stored.hash), ByteView(hash))) {
      found = stored.token_id;
    }
  }
  return found;
}

bool issuer_fits(const Binding& binding, const Principal& principal, const TenantConfig& config) {
  if (binding.issuer.empty()) return true;
  const auto issuer = config.issuers.find(binding.issuer);
  return issuer != config.issuers.end() && issuer->second.issuer == principal.issuer;
}

bool claim_fits(const std::string& claim, const std::vector<std::string>& values,
                const Attributes& attributes) {
  const auto has = attributes.find(claim);
  if (has == attributes.end()) return false;
  return std::any_of(has->second.begin(), has->second.end(), [&](const std::string& value) {
    return std::find(values.begin(), values.end(), value) != values.end();
  });
}

bool claims_fit(const Binding& binding, const Attributes& attributes) {
  return std::all_of(binding.claims.begin(), binding.claims.end(), [&](const auto& rule) {
    return claim_fits(rule.first, rule.second, attributes);
  });
}

std::vector<BoundRole> TenantSnapshot::roles_of(const Principal& principal,
                                                const std::vector<std::string>& groups,
                                                const Attributes& attributes) const {
  std::vector<BoundRole> roles = roles_by_claims_;
  if (const auto it = roles_by_subject_.find(principal); it != roles_by_subject_.end()) {
    roles.insert(roles.end(), it->second.begin(), it->second.end());
  }
  for (const auto& group : groups) {
    const auto it = roles_by_group_.find(group);
    if (it == roles_by_group_.end()) continue;
    roles.insert(roles.end(), it->second.begin(), it->second.end());
  }
  std::erase_if(roles, [&](const BoundRole& bound) {
    return !issuer_fits(*bound.binding, principal, config_) ||
           !claims_fit(*bound.binding, attributes);
  });
  keep_unique(roles, [](const BoundRole&) { return true; });
  return roles;
}

bool TenantSnapshot::disabled(const Principal& principal, const std::vector<std::string>& groups,
                              const Attributes& attributes) const {
  if (!disables_) return false;
  const auto roles = roles_of(principal, groups, attributes);
  return std::any_of(roles.begin(), roles.end(),
                     [](const BoundRole& bound) { return denies_everything(*bound.role); });
}

bool TenantSnapshot::binds_claim(const std::string& claim, const std::string& value) const {
  return std::any_of(config_.bindings.begin(), config_.bindings.end(), [&](const auto& entry) {
    const auto rule = entry.second.claims.find(claim);
    return rule != entry.second.claims.end() &&
           std::find(rule->second.begin(), rule->second.end(), value) != rule->second.end();
  });
}

const TokenSigner* TenantSnapshot::signer(crypto::Algorithm algorithm, sys_seconds now) const {
  const auto it = signers_.find(algorithm);
  if (it == signers_.end()) return nullptr;
  const auto found = std::find_if(it->second.begin(), it->second.end(),
                                  [&](const auto& signer) { return signer.from <= now; });
  return found != it->second.end() ? &*found : nullptr;
}

std::set<crypto::Algorithm> TenantSnapshot::introspection_algorithms() const {
  std::set<crypto::Algorithm> found;
  for (const auto& [algorithm, signers] : signers_) found.insert(algorithm);
  return found;
}

crypto::Algorithm TenantSnapshot::introspection_algorithm(const Client& client,
                                                          sys_seconds now) const {
  using enum crypto::Algorithm;
  if (client.introspection_algorithm) return *client.introspection_algorithm;
  for (const auto algorithm : {RS256, ES256, EdDSA}) {
    if (signer(algorithm, now) != nullptr) return algorithm;
  }
  return RS256;
}

std::vector<const StoredClientSecret*> TenantSnapshot::secrets_of(std::string_view client) const {
  std::vector<const StoredClientSecret*> found;
  for (const auto& secret : client_secrets_) {
    if (secret.client.str() == client) found.push_back(&secret);
  }
  return found;
}

}  // namespace postern::policy
