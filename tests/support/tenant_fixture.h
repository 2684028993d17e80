#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "core/clock.h"
#include "core/result.h"
#include "crypto/signature.h"
#include "policy/manifest.h"
#include "policy/snapshot.h"
#include "support/in_memory_kek_store.h"
#include "token/json.h"
#include "token/jwk.h"
#include "token/jws.h"

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
  for (const auto& kid : change.remove_signing_keys) {
    drop(after.signing_keys, [&](const auto& key) { return key.kid == kid; });
  }
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

/// One tenant, `acme`, with a provider, a gateway and three backends. Tests
/// change `manifest` and call load() again.
struct TenantFixture {
  TenantFixture() : manifest(acme()) { load(); }

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

  const TenantId tenant{"acme"};
  FixedClock clock;
  Idp idp{"https://idp.acme.example"};
  Json manifest;
  TestTenants tenants;
  std::shared_ptr<const policy::TenantSnapshot> snapshot;
};

}  // namespace postern::test
