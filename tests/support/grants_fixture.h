#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "audit/event.h"
#include "core/clock.h"
#include "core/result.h"
#include "crypto/random.h"
#include "crypto/signature.h"
#include "grants/client_credentials.h"
#include "grants/issuer_keys.h"
#include "grants/release.h"
#include "grants/subject.h"
#include "grants/token_exchange.h"
#include "outbound/fetch.h"
#include "policy/manifest.h"
#include "policy/snapshot.h"
#include "support/in_memory_audit_log.h"
#include "support/in_memory_credential_store.h"
#include "support/in_memory_kek_store.h"
#include "token/json.h"
#include "token/jwk.h"
#include "token/jws.h"
#include "vault/envelope.h"

namespace postern::test {

using token::Json;
using namespace std::chrono_literals;

/// Time stands still until a test moves it.
class FixedClock final : public Clock {
 public:
  explicit FixedClock(sys_seconds start = sys_seconds(1'790'000'000s)) : now_(start) {}
  sys_seconds now() const override { return now_; }
  void advance(std::chrono::seconds by) { now_ += by; }
  void set(sys_seconds now) { now_ = now; }

 private:
  sys_seconds now_;
};

/// Value of a Result, or an exception that names the error, for arranging.
template <class T>
T must(Result<T> result) {
  if (!result.ok()) {
    throw std::runtime_error(std::string(to_string(result.error().code)) + " " +
                             result.error().pointer + ": " + result.error().detail + " " +
                             result.error().diagnostic);
  }
  return std::move(result).value();
}

inline std::int64_t seconds_of(sys_seconds time) { return time.time_since_epoch().count(); }

/// An identity provider: a name and a key.
class Idp {
 public:
  explicit Idp(std::string issuer, crypto::Algorithm algorithm = crypto::Algorithm::ES256)
      : issuer_(std::move(issuer)), key_(crypto::SigningKey::generate(algorithm)) {
    kid_ = token::public_jwk(key_).at("kid").get<std::string>();
  }

  const std::string& issuer() const { return issuer_; }
  const std::string& kid() const { return kid_; }
  Json jwk() const { return token::public_jwk(key_); }
  Json jwks() const { return {{"keys", Json::array({jwk()})}}; }

  /// Claims that the fixture's tenant accepts, five minutes long.
  Json claims(std::string_view subject, sys_seconds now) const {
    return {{"iss", issuer_},
            {"sub", subject},
            {"aud", "gw-01"},
            {"iat", seconds_of(now)},
            {"exp", seconds_of(now + 300s)}};
  }
  std::string sign(const Json& claims, std::string_view typ = "JWT") const {
    return token::sign_jwt(key_, kid_, typ, claims);
  }
  std::string sign_as(std::string_view kid, const Json& claims) const {
    return token::sign_jwt(key_, kid, "JWT", claims);
  }
  const crypto::SigningKey& key() const { return key_; }

 private:
  std::string issuer_;
  crypto::SigningKey key_;
  std::string kid_;
};

/// The world outside, as a table of addresses. Counts what is asked.
class FakeFetcher final : public outbound::Fetcher {
 public:
  Result<outbound::FetchReply> get(const outbound::FetchRequest& request) override {
    std::function<void()> hook;
    std::optional<outbound::FetchReply> reply;
    {
      const std::lock_guard lock(mutex_);
      ++asked_[request.url];
      hook = hook_;
      if (const auto it = replies_.find(request.url); it != replies_.end()) reply = it->second;
    }
    if (hook) hook();
    if (!reply) return fail(ErrorCode::Unavailable, "the address did not answer", "fake: no route");
    return *reply;
  }

  void serve(const std::string& url, const Json& body,
             std::optional<std::chrono::seconds> max_age = std::nullopt) {
    serve_text(url, 200, body.dump(), max_age);
  }
  void serve_text(const std::string& url, int status, std::string body,
                  std::optional<std::chrono::seconds> max_age = std::nullopt) {
    const std::lock_guard lock(mutex_);
    replies_[url] = {status, "application/json", max_age, std::move(body)};
  }
  void die(const std::string& url) {
    const std::lock_guard lock(mutex_);
    replies_.erase(url);
  }
  int asked(const std::string& url) const {
    const std::lock_guard lock(mutex_);
    const auto it = asked_.find(url);
    return it == asked_.end() ? 0 : it->second;
  }
  int asked() const {
    const std::lock_guard lock(mutex_);
    int total = 0;
    for (const auto& [url, count] : asked_) total += count;
    return total;
  }
  /// Runs during every fetch.
  void during(std::function<void()> hook) {
    const std::lock_guard lock(mutex_);
    hook_ = std::move(hook);
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, outbound::FetchReply> replies_;
  std::map<std::string, int> asked_;
  std::function<void()> hook_;
};

/// What a store would hold after the change.
inline policy::StoredTenant applied(const TenantId& tenant, const policy::StoredTenant* before,
                                    const policy::ConfigChange& change, sys_seconds now) {
  policy::StoredTenant after{{tenant, "", true, "{}", 0, now}, {}, {}, {}, {}};
  if (before != nullptr) after = *before;
  const auto epoch = ++after.row.epoch;
  if (change.display_name) after.row.display_name = *change.display_name;
  if (change.enabled) after.row.enabled = *change.enabled;
  if (change.settings) after.row.settings = *change.settings;
  const auto drop = [](auto& list, const auto& unwanted) {
    list.erase(std::remove_if(list.begin(), list.end(), unwanted), list.end());
  };
  for (const auto& [kind, name] : change.remove) {
    drop(after.objects, [&, kind = kind, &name = name](const auto& object) {
      return object.kind == kind && object.name == name;
    });
    if (kind == policy::Kind::Client) {
      drop(after.client_secrets,
           [&name = name](const auto& secret) { return secret.client.str() == name; });
    }
  }
  for (auto object : change.put) {
    drop(after.objects, [&](const auto& existing) {
      return existing.kind == object.kind && existing.name == object.name;
    });
    object.revision = epoch;
    after.objects.push_back(std::move(object));
  }
  for (const auto& [client, id] : change.remove_client_secrets) {
    drop(after.client_secrets, [&, &client = client, &id = id](const auto& secret) {
      return secret.client == client && secret.secret_id == id;
    });
  }
  after.client_secrets.insert(after.client_secrets.end(), change.add_client_secrets.begin(),
                              change.add_client_secrets.end());
  after.signing_keys.insert(after.signing_keys.end(), change.add_signing_keys.begin(),
                            change.add_signing_keys.end());
  return after;
}

inline constexpr std::string_view kBaseUrl = "https://sts.example.com";

/// Tenants as the service makes them: manifest, plan, keys, snapshot.
class TestTenants {
 public:
  vault::Keyring& keyring() { return keys_.keyring; }
  TestKeyring& keys() { return keys_; }

  /// Applies a manifest; the first one of a tenant also makes its keys.
  const policy::StoredTenant& apply(const Json& manifest, sys_seconds now,
                                    policy::Prune prune = policy::Prune::Yes) {
    const auto read = must(policy::Manifest::read(manifest));
    const auto known = stored_.find(read.tenant);
    const auto* before = known == stored_.end() ? nullptr : &known->second;
    if (before == nullptr) keys_.add(read.tenant);
    auto plan = must(policy::plan(read, before, prune, now));
    if (before == nullptr) {
      for (const auto algorithm : {crypto::Algorithm::ES256, crypto::Algorithm::EdDSA}) {
        plan.change.add_signing_keys.push_back(new_signing_key(read.tenant, algorithm, now));
      }
    }
    for (auto& generated : plan.generated) {
      generated.secret.expose([&](ByteView bytes) {
        secrets_[{read.tenant, generated.client.str()}] = as_text(bytes);
      });
    }
    auto after = applied(read.tenant, before, plan.change, now);
    return stored_.insert_or_assign(read.tenant, std::move(after)).first->second;
  }

  policy::StoredSigningKey new_signing_key(const TenantId& tenant, crypto::Algorithm algorithm,
                                           sys_seconds now) {
    const auto key = crypto::SigningKey::generate(algorithm);
    const auto jwk = token::public_jwk(key);
    const auto kid = jwk.at("kid").get<std::string>();
    return {kid,
            std::string(crypto::to_string(algorithm)),
            token::dump_json(jwk),
            policy::SigningKeyState::Active,
            must(keys_.keyring.wrap_private(tenant, "token-signing", kid, key.export_private())),
            now,
            std::nullopt};
  }

  policy::StoredTenant& stored(const TenantId& tenant) { return stored_.at(tenant); }
  std::shared_ptr<const policy::TenantSnapshot> snapshot(const TenantId& tenant) {
    return must(policy::TenantSnapshot::build(stored_.at(tenant), kBaseUrl, keys_.keyring));
  }
  /// The secret generated for a client, once.
  const std::string& secret(const TenantId& tenant, const std::string& client) const {
    return secrets_.at({tenant, client});
  }

 private:
  TestKeyring keys_;
  std::map<TenantId, policy::StoredTenant> stored_;
  std::map<std::pair<TenantId, std::string>, std::string> secrets_;
};

/// One tenant, `acme`, with a provider, a gateway and three backends, and the
/// grants wired over it. Tests change `manifest` and call load() again.
struct GrantsFixture {
  static constexpr std::string_view kAccessToken = "urn:ietf:params:oauth:token-type:access_token";
  static constexpr std::string_view kJwt = "urn:ietf:params:oauth:token-type:jwt";
  static constexpr std::string_view kIdToken = "urn:ietf:params:oauth:token-type:id_token";

  GrantsFixture() : manifest(acme()) { load(); }

  Json acme() const {
    return {
        {"tenant", "acme"},
        {"settings", {{"connect_url", "https://portal.acme.example/connect?backend={backend}"}}},
        {"issuers",
         {{{"name", "corp"},
           {"issuer", idp.issuer()},
           {"jwks", idp.jwks()},
           {"audiences", {"gw-01"}},
           {"claims", {{"scope", "scope"}}}}}},
        {"clients",
         {{{"id", "gw-01"},
           {"grants", {"token-exchange", "client_credentials"}},
           {"backends", {"*"}},
           {"scopes", {"*"}}}}},
        {"backends",
         {{{"name", "files"},
           {"audience", "https://files.example.com/mcp"},
           {"aliases", {"docs"}},
           {"scopes", {"files:read", "files:write"}},
           {"delivery", {{"env", {{"FILES_TOKEN", "{access_token}"}}}}}},
          {{"name", "search"}, {"audience", "https://search.example.com/mcp"}},
          {{"name", "github"},
           {"audience", "https://github.example.com/mcp"},
           {"scopes", {"repo:read", "repo:write"}},
           {"answer", "vaulted"},
           {"credential", {{"name", "github"}, {"owner", "principal"}}},
           {"delivery",
            {{"env", {{"GITHUB_TOKEN", "{token}"}}},
             {"headers", {{"Authorization", "Bearer {token}"}}}}}}}},
        {"roles", {{{"name", "developer"}, {"allow", {"files:*", "search:*", "github:*"}}}}},
        {"bindings", {{{"role", "developer"}, {"groups", {"engineering"}}}}},
    };
  }

  /// Objects of the manifest, by section and name.
  Json& issuer(std::size_t index = 0) { return manifest["issuers"][index]; }
  Json& client() { return manifest["clients"][0]; }
  Json& backend(std::string_view name) {
    for (auto& item : manifest["backends"]) {
      if (item["name"] == name) return item;
    }
    throw std::logic_error("no such backend in the fixture");
  }
  Json& role() { return manifest["roles"][0]; }

  /// Applies `manifest` and takes a new snapshot of what came of it.
  void load() {
    tenants.apply(manifest, clock.now());
    snapshot = tenants.snapshot(tenant);
  }
  const policy::Client& gateway(const char* id = "gw-01") const {
    const auto* found = snapshot->find_client(id);
    if (found == nullptr) throw std::logic_error("no such client in the fixture");
    return *found;
  }

  /// Claims of alice, an engineer.
  Json claims(std::string_view subject = "alice") const {
    Json claims = idp.claims(subject, clock.now());
    claims["groups"] = {"engineering"};
    return claims;
  }
  std::string subject_token(std::string_view subject = "alice") const {
    return idp.sign(claims(subject));
  }

  audit::Event record(std::string action = "token.exchange") const {
    return {tenant, clock.now(), std::move(action), audit::Outcome::Allowed, "req-1", {}};
  }

  Result<grants::VerifiedTokenPtr> verify(
      std::string_view token,
      policy::SubjectTokenType type = policy::SubjectTokenType::AccessToken) {
    return verifier.verify(*snapshot, gateway(), token, type, grants::Wait::Yes);
  }

  /// A request for `files` with this token; change what the test is about.
  grants::TokenExchangeRequest request(std::string_view token) const {
    grants::TokenExchangeRequest request;
    request.subject_token = token;
    request.subject_token_type = kAccessToken;
    request.audiences = {"files"};
    return request;
  }
  Result<grants::IssuedToken> exchange(const grants::TokenExchangeRequest& request) {
    last_record = record();
    return token_exchange.exchange(*snapshot, gateway(), request, grants::Wait::Yes, last_record);
  }

  /// Claims of a token of ours, after verifying it as a backend would: with the
  /// published key set and nothing else.
  Json open(const AccessToken& token) const {
    return token.expose([&](ByteView bytes) { return open(as_text(bytes)); });
  }
  Json open(std::string_view compact) const {
    const auto document = must(token::parse_json(snapshot->jwks_document()));
    const auto keys = must(token::JwkSet::parse(document, token::JwkSet::WeakKeys::Refuse));
    const auto jwt = must(token::UnverifiedJwt::parse(compact));
    if (jwt.typ() != "at+jwt") throw std::runtime_error("typ is not at+jwt");
    if (!jwt.kid()) throw std::runtime_error("no kid");
    return must(jwt.verify(keys));
  }

  /// Stores a credential of the user, or of the tenant when `subject` is empty.
  void store(const std::string& name, const std::string& subject,
             const std::map<std::string, std::string>& fields,
             std::optional<sys_seconds> expires_at = std::nullopt) {
    const vault::CredentialKey key{
        subject.empty() ? Owner::tenant() : Owner::principal({idp.issuer(), subject}),
        CredentialName(name)};
    vault::Fields values;
    for (const auto& [field, value] : fields) {
      values.emplace(field, FieldValue(SecureBuffer::copy_of(value)));
    }
    must(credentials.put(tenant, key, std::nullopt,
                         [&](std::uint32_t version) {
                           return envelope.seal(tenant, key, version, values, clock.now(),
                                                expires_at);
                         },
                         {}));
  }

  const TenantId tenant{"acme"};
  FixedClock clock;
  Idp idp{"https://idp.acme.example"};
  Json manifest;
  TestTenants tenants;
  std::shared_ptr<const policy::TenantSnapshot> snapshot;
  FakeFetcher fetcher;
  grants::FetchedIssuerKeys issuer_keys{fetcher, clock};
  grants::SubjectVerifier verifier{issuer_keys, clock};
  grants::TokenExchange token_exchange{verifier, clock};
  grants::ClientCredentials client_credentials{clock};
  InMemoryAuditLog audit_log;
  InMemoryCredentialStore credentials{audit_log};
  vault::Envelope envelope{tenants.keyring()};
  grants::Release release{verifier, credentials, envelope, clock};
  audit::Event last_record = record();
};

/// A field of an audit record; empty when it is not there.
inline std::string field_of(const audit::Event& record, std::string_view name) {
  for (const auto& [key, value] : record.fields) {
    if (key == name) return value;
  }
  return "";
}

}  // namespace postern::test
