// Whatever is switched off at one replica is refused by both, on every path that
// rests on it, and each in its own words. The second replica looks for changes by
// itself once an hour: all that it knows in time, it was told.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "crypto/base64url.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "http/server.h"
#include "support/https_host.h"
#include "support/mtls_fixture.h"
#include "support/service_fixture.h"
#include "support/temporary_directory.h"

namespace postern::test {
namespace {

using std::chrono::steady_clock;

constexpr const char* kAssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
constexpr const char* kJwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer";
constexpr const char* kDocument = "/agents/one.json";
constexpr const char* kFiles = "https://files.example.com/mcp";

/// A client's document, and an issuer that is asked about opaque tokens: it takes
/// every one for alice's.
class Outside {
 public:
  Idp agent{"agent"};
  std::string url(const std::string& path) const { return host_.url(path); }
  const std::string& ca_file() const { return host_.ca_file(); }

 private:
  http::Reply document() const {
    return http::Reply::json(200, Json{{"client_id", url(kDocument)},
                                       {"token_endpoint_auth_method", "private_key_jwt"},
                                       {"jwks", agent.jwks()}}
                                      .dump());
  }
  static http::Reply introspection() {
    return http::Reply::json(200, Json{{"active", true},
                                       {"token_type", "Bearer"},
                                       {"sub", "alice"},
                                       {"aud", "gw-01"},
                                       {"groups", {"engineering"}},
                                       {"exp", seconds_of(SystemClock().now() + 300s)}}
                                      .dump());
  }
  HttpsHost host_{[this](http::Router& router) {
    router.add("GET", kDocument, http::Pool::Inline,
               [this](std::shared_ptr<http::Request>, http::Responder responder) {
                 responder.send(document());
               });
    router.add("POST", "/introspect", http::Pool::Inline,
               [](std::shared_ptr<http::Request>, http::Responder responder) {
                 responder.send(introspection());
               });
  }};
};

/// Two replicas over one database: the program, where everything is switched, and
/// the service in this process.
struct World {
  TempDirectory directory;
  PostgresDatabase database;
  Outside outside;
  const Certificate authority = make_certificate("authority");
  const Certificate vouched = make_certificate("vouched", &authority);
  const Certificate own = make_certificate("own");
  TemporaryDirectory files;
  const std::string client_ca = files.write("ca.pem", authority.certificate_pem()).string();
  ServiceProcess one{directory.path(),
                     database.service(),
                     {{"outbound.allow_private", R"(["127.0.0.0/8"])"},
                      {"outbound.ca_file", '"' + outside.ca_file() + '"'},
                      {"proxy.addresses", R"(["127.0.0.1/32"])"},
                      {"proxy.client_ca_file", '"' + client_ca + '"'}}};
  TestService two{database.service(), directory.path() / "keys", [this](app::Config& config) {
                    config.outbound_allow_private = {"127.0.0.0/8"};
                    config.outbound_ca_file = outside.ca_file();
                    config.proxy_addresses = {"127.0.0.1/32"};
                    config.proxy_client_ca_file = client_ca;
                    config.follow_interval = std::chrono::hours(1);
                    config.max_staleness = std::chrono::hours(2);
                  }};
  World() { one.start(); }
};
World& world() {
  static auto& postgres = shared_postgres();
  static_cast<void>(postgres);
  static World made;
  return made;
}

/// `issued`, or how it was refused.
std::string outcome(const WireReply& reply) {
  auto json = json_of(reply);
  if (json.contains("items") && reply.status == 200) {
    json = Json(json.at("items").at(0));
    return json.at("status") == "allowed" ? "issued" : "item " + json.value("error", "?");
  }
  if (json.contains("active")) return json.at("active") == true ? "issued" : "inactive";
  if (json.contains("data") && reply.status == 200) return "issued";
  if (json.contains("warnings") && json.at("data").is_null()) return "404 and what to do";
  if (json.contains("errors")) return std::to_string(reply.status) + " errors";
  if (reply.status == 200) return json.contains("access_token") ? "issued" : "nothing";
  const auto name = json.value("error", json.value("type", "?"));
  return std::to_string(reply.status) + " " + name.substr(name.rfind(':') + 1);
}

enum class Kind { Token, Assertion, Batch, Release, Introspection, VaultRead, View, Transit };

/// A way to a token or a stored value, and all that it rests on.
struct Path {
  const char* name;
  Kind kind;
  std::set<std::string> rests_on;
  std::function<WireReply(std::uint16_t port)> ask;
};

/// A tenant with a client of each kind, and a user of each of two issuers.
class Tenant : public TestTenant {
 public:
  explicit Tenant(const std::string& called) : TestTenant(world().one.endpoint(), called) {
    add_issuers();
    add_clients();
    part("backends", "github")["token_field"] = "token";
    manifest["bindings"][0]["groups"] = {"engineering", "hydra:engineering"};
    const auto applied = apply();
    EXPECT_THAT(applied, HasStatus(200));
    for (const auto& made : json_of(applied, "client_secrets")) {
      secrets_[made.at("client")] = made.at("client_secret");
    }
    secrets_["gw-01"] = secret;
    store("alice", "github", {{"token", "ghp_of_alice"}});
    EXPECT_THAT(
        api("PUT", "/credentials/hydra", admin, {{"fields", {{"client_secret", "of postern"}}}}),
        HasStatus(201));
    const std::string initial =
        json_of(api("POST", "/initial-access-tokens", admin, Json::object()), "token");
    registered =
        json_of(ask("POST", "/t/" + name + "/register",
                    {{"Authorization", bearer(initial)}, {"Content-Type", "application/json"}},
                    R"({"token_endpoint_auth_method":"client_secret_basic"})"));
    warm = user_token("alice");
    opaque = "opaque-" + crypto::random_id();
    issued = json_of(exchange(warm, "files"), "access_token");
    actor = json_of(token({{"grant_type", "client_credentials"}, {"audience", "files"}}),
                    "access_token");
    begin_sessions();
  }

  std::vector<Path> paths() const;

  WireReply post(std::uint16_t port, const std::string& endpoint, const Pairs& fields,
                 Pairs headers) const {
    headers.emplace_back("Content-Type", "application/x-www-form-urlencoded");
    return http_ask(port, "POST", "/t/" + name + endpoint, headers, form(fields));
  }
  /// Revokes a token as gw-01, at the first replica.
  void revoke(const std::string& token) const {
    EXPECT_THAT(post(world().one.port(), "/revoke", {{"token", token}}, as("gw-01")),
                HasStatus(200));
  }
  void delete_at(const std::string& path) const {
    EXPECT_THAT(api("DELETE", path, admin), HasStatus(204));
  }

  Idp hydra{"https://hydra." + name + ".example"};
  Idp ci{"https://ci." + name + ".example"};
  Idp keyed{"keyed"};
  Json registered;
  std::string warm, opaque, issued;
  std::string actor;  ///< a token of gw-01's own
  /// Of gw-01 at Vault's API: by itself, and for alice.
  std::string session, session_for_alice;

  WireReply vault(std::uint16_t port, const char* method, const std::string& path,
                  const std::string& as, const Json& body = nullptr) const {
    Pairs headers;
    if (!as.empty()) headers.emplace_back("X-Vault-Token", as);
    return http_ask(port, method, "/t/" + name + "/v1/" + path, headers,
                    body.is_null() ? "" : body.dump());
  }

 private:
  void begin_sessions() {
    const auto one = world().one.port();
    EXPECT_THAT(vault(one, "POST", "secret/data/shared-db", admin, {{"data", {{"url", "db"}}}}),
                HasStatus(200));
    EXPECT_THAT(vault(one, "POST", "transit/keys/orders", admin, Json::object()), HasStatus(200));
    const auto begun = [&](const std::string& method, const Json& login) -> std::string {
      const auto reply = vault(one, "POST", "auth/" + method + "/login", "", login);
      EXPECT_THAT(reply, HasStatus(200));
      return json_of(reply).at("auth").at("client_token");
    };
    session = begun("approle", {{"role_id", "gw-01"}, {"secret_id", secret}});
    session_for_alice = begun("jwt", {{"role", "gw-01"}, {"jwt", warm}, {"client_secret", secret}});
  }
  void add_issuers() {
    part("issuers", "corp")["token_types"] = {"access_token", "jwt", "jwt_bearer", "id_jag"};
    manifest["issuers"].push_back({{"name", "hydra"},
                                   {"issuer", hydra.issuer()},
                                   {"audiences", {"gw-01"}},
                                   {"subject_prefix", "hydra:"},
                                   {"introspection",
                                    {{"endpoint", world().outside.url("/introspect")},
                                     {"client_id", "postern"},
                                     {"credential", "hydra"},
                                     {"cache_for", 300}}}});
    manifest["issuers"].push_back({{"name", "ci"},
                                   {"issuer", ci.issuer()},
                                   {"jwks", ci.jwks()},
                                   {"audiences", {url()}},
                                   {"subject_prefix", "ci:"}});
  }
  void add_clients() {
    part("clients", "gw-01")["grants"] = {"token-exchange", "client_credentials", "jwt-bearer"};
    const auto add = [&](const char* id, const Json& authentication) {
      manifest["clients"].push_back({{"id", id},
                                     {"grants", {"token-exchange", "client_credentials"}},
                                     {"backends", {"*"}},
                                     {"scopes", {"*"}},
                                     {"audiences", {"gw-01"}},
                                     {"authentication", authentication}});
    };
    add("files-rs", {{"method", "client_secret"}});
    part("clients", "files-rs")["introspects"] = {"files"};
    part("clients", "files-rs")["introspection_algorithm"] = "ES256";
    add("keyed", {{"method", "private_key_jwt"}, {"jwks", keyed.jwks()}});
    add("workload",
        {{"method", "workload_identity"},
         {"workload", {{"issuer", "ci"}, {"audience", url()}, {"claims", {{"sub", {"job"}}}}}}});
    add("self-signed",
        {{"method", "self_signed_tls_client_auth"}, {"certificate_sha256", {x5t(world().own)}}});
    add("vouched", {{"method", "tls_client_auth"}, {"tls_subject", {{"dn", "CN=vouched"}}}});
    manifest["settings"]["vault_api"] = {
        {"clients", {"gw-01"}},
        {"views", {{{"path", "mcp-gateway/{sub}"}, {"backend", "github"}}}},
        {"transit",
         {{"rules",
           {{{"clients", {"gw-01"}}, {"keys", {"orders"}}, {"operations", {"encrypt"}}}}}}}};
    manifest["settings"]["registration"] = {
        {"dynamic", true},
        {"client_id_metadata", {world().outside.url(kDocument)}},
        {"authentication", {"client_secret", "private_key_jwt"}},
        {"grants", {"token-exchange", "client_credentials"}},
        {"backends", {"files"}},
        {"scopes", {"files:read", "files:write"}},
        {"audiences", {"gw-01"}}};
  }

  std::string url() const { return std::string(kBaseUrlOfTests) + "/t/" + name; }
  /// Differs from any other, also from one of the same second.
  std::string new_token() const {
    auto claims = this->claims("alice");
    claims["jti"] = crypto::random_id();
    return idp.sign(claims);
  }
  std::string assertion(bool id_jag) const {
    auto claims = this->claims("alice");
    claims["aud"] = url();
    claims["jti"] = crypto::random_id();
    if (!id_jag) return idp.sign(claims);
    claims["client_id"] = "gw-01";
    claims["resource"] = kFiles;
    return idp.sign(claims, "oauth-id-jag+jwt");
  }
  Pairs as(const std::string& client) const {
    return {{"Authorization", basic(client, secrets_.at(client))}};
  }
  Pairs as_registered() const {
    return {{"Authorization", basic(registered.at("client_id").get<std::string>(),
                                    registered.at("client_secret").get<std::string>())}};
  }
  static Pairs asserted(Pairs fields, const std::string& compact, const char* id = nullptr) {
    fields.emplace_back("client_assertion_type", kAssertionType);
    fields.emplace_back("client_assertion", compact);
    if (id != nullptr) fields.emplace_back("client_id", id);
    return fields;
  }
  std::string client_assertion(const Idp& key, const std::string& client) const {
    return key.sign({{"iss", client},
                     {"sub", client},
                     {"aud", url()},
                     {"jti", crypto::random_id()},
                     {"exp", seconds_of(SystemClock().now() + 60s)}});
  }
  std::string document_assertion() const {
    return client_assertion(world().outside.agent, world().outside.url(kDocument));
  }
  std::string workload_token() const {
    auto claims = ci.claims("job", SystemClock().now());
    claims["aud"] = url();
    return ci.sign(claims);
  }
  static Pairs shown(const Certificate& certificate) {
    return {{"Client-Cert", item(certificate)}};
  }
  static Pairs with(Pairs fields, const std::string& field, const std::string& value) {
    fields.emplace_back(field, value);
    return fields;
  }
  WireReply items(std::uint16_t port, const char* door, const std::string& token,
                  const char* backend, Pairs headers) const {
    headers.emplace_back("Content-Type", "application/json");
    return http_ask(port, "POST", "/api/v1/tenants/" + name + door, headers,
                    Json{{"subject_token", token}, {"items", {{{"backend", backend}}}}}.dump());
  }

  std::map<std::string, std::string> secrets_;
};

std::vector<Path> Tenant::paths() const {
  const auto token = [this](std::uint16_t port, const Pairs& fields, const Pairs& headers = {}) {
    return post(port, "/token", fields, headers);
  };
  const auto cold = [this] { return exchange_fields(new_token(), "files"); };
  const auto own = [] {
    return Pairs{{"grant_type", "client_credentials"}, {"audience", "files"}};
  };
  const auto together = [](std::set<std::string> some, const std::set<std::string>& more) {
    some.insert(more.begin(), more.end());
    return some;
  };
  // What a token for `files` rests on, and one for a user of corp, and as gw-01.
  const std::set<std::string> files{"tenant", "files", "ES256"};
  const auto user = together(files, {"corp", "alice", "role"});
  const auto gateway = together(user, {"gw-01", "gw-01's secret"});
  const auto remembered = together(gateway, {"alice's token"});
  const auto chained = together(user, {"alice's token", "our token", "gw-01", "files-rs"});
  const auto opaque_user = together(files, {"hydra", "alice", "role", "gw-01", "gw-01's secret"});
  const std::set<std::string> vaulted{"tenant",         "corp",          "alice",
                                      "role",           "gw-01",         "github",
                                      "gw-01's secret", "alice's token", "credential"};
  const auto obo = [token](std::uint16_t port, const std::string& subject, const Pairs& headers) {
    return token(port,
                 {{"grant_type", kJwtBearer},
                  {"requested_token_use", "on_behalf_of"},
                  {"assertion", subject},
                  {"audience", "files"}},
                 headers);
  };
  return {
      {"exchange, remembered token", Kind::Token, remembered,
       [=, this](auto port) { return token(port, exchange_fields(warm, "files"), as("gw-01")); }},
      {"exchange, new token", Kind::Token, gateway,
       [=, this](auto port) { return token(port, cold(), as("gw-01")); }},
      {"exchange, vaulted", Kind::Token, vaulted,
       [=, this](auto port) { return token(port, exchange_fields(warm, "github"), as("gw-01")); }},
      {"exchange, opaque, remembered", Kind::Token, together(opaque_user, {"opaque token"}),
       [=, this](auto port) { return token(port, exchange_fields(opaque, "files"), as("gw-01")); }},
      {"exchange, opaque, new", Kind::Token, opaque_user,
       [=, this](auto port) {
         return token(port, exchange_fields("opaque-" + crypto::random_id(), "files"), as("gw-01"));
       }},
      {"exchange, of our own token", Kind::Token, chained,
       [=, this](auto port) {
         return token(port, exchange_fields(issued, "files"), as("files-rs"));
       }},
      {"exchange, with an actor", Kind::Token, together(gateway, {"bob"}),
       [=, this](auto port) {
         return token(
             port,
             with(with(cold(), "actor_token", user_token("bob")), "actor_token_type", kAccessToken),
             as("gw-01"));
       }},
      {"exchange, our own token as actor", Kind::Token,
       together(user, {"our token", "gw-01", "files-rs"}),
       [=, this](auto port) {
         return token(port,
                      with(with(cold(), "actor_token", actor), "actor_token_type", kAccessToken),
                      as("files-rs"));
       }},
      {"batch", Kind::Batch, remembered,
       [=, this](auto port) { return items(port, "/exchange", warm, "files", as("gw-01")); }},
      {"batch, vaulted", Kind::Batch, vaulted,
       [=, this](auto port) { return items(port, "/exchange", warm, "github", as("gw-01")); }},
      {"batch, opaque", Kind::Batch, together(opaque_user, {"opaque token"}),
       [=, this](auto port) { return items(port, "/exchange", opaque, "files", as("gw-01")); }},
      {"batch, of our own token", Kind::Batch, chained,
       [=, this](auto port) { return items(port, "/exchange", issued, "files", as("files-rs")); }},
      {"on_behalf_of", Kind::Token, remembered,
       [=, this](auto port) { return obo(port, warm, as("gw-01")); }},
      {"on_behalf_of, of our own token", Kind::Token, chained,
       [=, this](auto port) { return obo(port, issued, as("files-rs")); }},
      {"release", Kind::Release, remembered,
       [=, this](auto port) { return items(port, "/release", warm, "files", as("gw-01")); }},
      {"release, vaulted", Kind::Release, vaulted,
       [=, this](auto port) { return items(port, "/release", warm, "github", as("gw-01")); }},
      {"release, opaque", Kind::Release, together(opaque_user, {"opaque token"}),
       [=, this](auto port) { return items(port, "/release", opaque, "files", as("gw-01")); }},
      {"jwt-bearer", Kind::Assertion, gateway,
       [=, this](auto port) {
         return token(
             port,
             {{"grant_type", kJwtBearer}, {"assertion", assertion(false)}, {"audience", "files"}},
             as("gw-01"));
       }},
      {"ID-JAG", Kind::Assertion, gateway,
       [=, this](auto port) {
         return token(port, {{"grant_type", kJwtBearer}, {"assertion", assertion(true)}},
                      as("gw-01"));
       }},
      {"client_credentials", Kind::Token, together(files, {"gw-01", "gw-01's secret"}),
       [=, this](auto port) { return token(port, own(), as("gw-01")); }},
      {"registered client", Kind::Token, together(user, {"registered", "template"}),
       [=, this](auto port) { return token(port, cold(), as_registered()); }},
      {"registered client, for itself", Kind::Token, together(files, {"registered", "template"}),
       [=, this](auto port) { return token(port, own(), as_registered()); }},
      {"document client", Kind::Token, together(user, {"document", "template"}),
       [=, this](auto port) { return token(port, asserted(cold(), document_assertion())); }},
      {"document client, for itself", Kind::Token, together(files, {"document", "template"}),
       [=, this](auto port) { return token(port, asserted(own(), document_assertion())); }},
      {"private_key_jwt", Kind::Token, together(user, {"keyed", "keyed's key"}),
       [=, this](auto port) {
         return token(port, asserted(cold(), client_assertion(keyed, "keyed")));
       }},
      {"workload", Kind::Token, together(user, {"workload", "ci", "job"}),
       [=, this](auto port) {
         return token(port, asserted(cold(), workload_token(), "workload"));
       }},
      {"self_signed_tls_client_auth", Kind::Token,
       together(user, {"self-signed", "self-signed's certificate"}),
       [=](auto port) {
         return token(port, with(cold(), "client_id", "self-signed"), shown(world().own));
       }},
      {"tls_client_auth", Kind::Token, together(user, {"vouched"}),
       [=](auto port) {
         return token(port, with(cold(), "client_id", "vouched"), shown(world().vouched));
       }},
      {"introspection", Kind::Introspection, chained,
       [=, this](auto port) {
         return post(port, "/introspect", {{"token", issued}}, as("files-rs"));
       }},
      // Of a session that has begun: its client's secret proves no more than that.
      {"Vault's API, read",
       Kind::VaultRead,
       {"tenant", "gw-01", "db", "vault", "session"},
       [=, this](auto port) { return vault(port, "GET", "secret/data/shared-db", session); }},
      {"Vault's API, view",
       Kind::View,
       {"tenant", "corp", "alice", "role", "gw-01", "github", "alice's token", "credential",
        "vault", "session"},
       [=, this](auto port) {
         return vault(port, "GET", "secret/data/mcp-gateway/alice", session_for_alice);
       }},
      {"Vault's API, transit",
       Kind::Transit,
       {"tenant", "gw-01", "vault", "transit", "session"},
       [=, this](auto port) {
         return vault(port, "POST", "transit/encrypt/orders", session, {{"plaintext", ""}});
       }},
  };
}

/// Something that is switched off, what no longer holds then, and how the paths
/// that rest on it are refused: by kind, or by name where one differs.
struct Switch {
  const char* name;
  std::set<std::string> takes;
  std::function<void(Tenant&)> off;
  std::map<Kind, std::string> refusals;
  std::map<std::string, std::string> exceptions = {};

  bool closes(const Path& path) const {
    return std::any_of(takes.begin(), takes.end(),
                       [&](const auto& part) { return path.rests_on.contains(part); });
  }
  std::string refusal(const Path& path) const {
    const auto exception = exceptions.find(path.name);
    if (exception != exceptions.end()) return exception->second;
    const auto usual = refusals.find(path.kind);
    return usual != refusals.end() ? usual->second : "no refusal is named";
  }
};

void apply(Tenant& tenant) { EXPECT_THAT(tenant.apply(), HasStatus(200)); }
std::function<void(Tenant&)> disable(const char* section, std::vector<std::string> names) {
  return [=](Tenant& tenant) {
    for (const auto& name : names) tenant.part(section, name)["enabled"] = false;
    apply(tenant);
  };
}
std::function<void(Tenant&)> disable_users(std::function<Json(Tenant&)> users) {
  return [=](Tenant& tenant) {
    tenant.manifest["roles"].push_back({{"name", "disabled"}, {"deny", {"*:*"}}});
    tenant.manifest["bindings"].push_back({{"role", "disabled"}, {"subjects", users(tenant)}});
    apply(tenant);
  };
}

std::vector<Switch> switches();

TEST(StoppedEverywhere, EachPathIsRefusedByBothReplicasInItsOwnWords) {
  const auto one = world().one.port();
  const auto two = world().two.port();
  std::set<std::string> all, covered;
  int number = 0;
  for (const auto& part : switches()) {
    SCOPED_TRACE(part.name);
    Tenant tenant("stop-" + std::to_string(++number));
    const auto paths = tenant.paths();
    for (const auto& path : paths) {
      all.insert(path.name);
      EXPECT_EQ(outcome(path.ask(one)), "issued") << path.name;
      EXPECT_EQ(outcome(path.ask(two)), "issued") << path.name;
    }
    const auto begun = steady_clock::now();
    part.off(tenant);
    auto last = begun;
    const char* slowest = "at once";
    for (const auto& path : paths) {
      if (!part.closes(path)) continue;
      covered.insert(path.name);
      EXPECT_EQ(outcome(path.ask(one)), part.refusal(path)) << path.name;
      std::string at_two;
      eventually(
          [&] {
            at_two = outcome(path.ask(two));
            if (at_two != "issued") return true;
            last = steady_clock::now();
            slowest = path.name;
            return false;
          },
          path.name);
      EXPECT_EQ(at_two, part.refusal(path)) << path.name;
    }
    // For good, and nothing else with it.
    for (const auto& path : paths) {
      const auto expected = part.closes(path) ? part.refusal(path) : "issued";
      for (const auto port : {one, two}) EXPECT_EQ(outcome(path.ask(port)), expected) << path.name;
    }
    std::printf("%-35s %5lld ms after the call the other replica last issued: %s\n", part.name,
                static_cast<long long>(
                    std::chrono::duration_cast<std::chrono::milliseconds>(last - begun).count()),
                slowest);
  }
  EXPECT_EQ(covered, all) << "every path is closed by some";
}

std::vector<Switch> switches() {
  // What was issued to a client that is gone, or for a backend that is, is no token
  // any more.
  const std::map<std::string, std::string> void_tokens{
      {"exchange, of our own token", "400 invalid_request"},
      {"exchange, our own token as actor", "400 invalid_request"},
      {"on_behalf_of, of our own token", "400 invalid_request"},
      {"batch, of our own token", "422 invalid-token"}};
  const std::string client = "401 invalid_client";
  const std::string denied = "403 errors", not_there = "404 errors";  // Vault's
  const std::map<Kind, std::string> no_client{{Kind::Token, client},
                                              {Kind::Assertion, client},
                                              {Kind::Batch, "401 invalid-client"},
                                              {Kind::Release, "401 invalid-client"},
                                              {Kind::Introspection, "inactive"},
                                              {Kind::VaultRead, denied},
                                              {Kind::View, denied},
                                              {Kind::Transit, denied}};
  const std::map<Kind, std::string> no_token{
      {Kind::Token, "400 invalid_request"}, {Kind::Assertion, "400 invalid_grant"},
      {Kind::Batch, "422 invalid-token"},   {Kind::Release, "422 invalid-token"},
      {Kind::Introspection, "inactive"},    {Kind::View, denied}};
  const std::map<Kind, std::string> no_target{{Kind::Token, "400 invalid_target"},
                                              {Kind::Assertion, "400 invalid_target"},
                                              {Kind::Batch, "item invalid_target"},
                                              {Kind::Release, "item invalid_target"},
                                              {Kind::Introspection, "inactive"},
                                              {Kind::VaultRead, denied},
                                              {Kind::View, not_there}};
  return {
      {"tenant",
       {"tenant"},
       [](Tenant& t) {
         t.manifest["enabled"] = false;
         apply(t);
       },
       {{Kind::Token, "404 invalid_request"},
        {Kind::Assertion, "404 invalid_request"},
        {Kind::Batch, "401 invalid-client"},
        {Kind::Release, "401 invalid-client"},
        {Kind::Introspection, "404 invalid_request"},
        {Kind::VaultRead, denied},
        {Kind::View, denied},
        {Kind::Transit, denied}}},
      {"issuer of JWTs", {"corp"}, disable("issuers", {"corp"}), no_token},
      {"issuer of opaque tokens", {"hydra"}, disable("issuers", {"hydra"}), no_token},
      {"issuer of workloads", {"ci"}, disable("issuers", {"ci"}), no_client},
      {"client", {"gw-01"}, disable("clients", {"gw-01"}), no_client, void_tokens},
      {"clients of other kinds",
       {"files-rs", "keyed", "workload", "self-signed", "vouched"},
       disable("clients", {"files-rs", "keyed", "workload", "self-signed", "vouched"}),
       no_client,
       {{"introspection", client}}},
      {"registered client, deleted",
       {"registered"},
       [](Tenant& t) {
         t.delete_at("/clients/" + t.registered.at("client_id").get<std::string>());
       },
       no_client},
      {"document, taken out",
       {"document"},
       [](Tenant& t) {
         t.manifest["settings"]["registration"]["client_id_metadata"].push_back(
             "!" + world().outside.url(kDocument));
         apply(t);
       },
       no_client},
      {"document, taken no more",
       {"document"},
       [](Tenant& t) {
         t.manifest["settings"]["registration"].erase("client_id_metadata");
         apply(t);
       },
       no_client},
      {"all that register themselves",
       {"template"},
       [](Tenant& t) {
         t.manifest["settings"].erase("registration");
         apply(t);
       },
       no_client},
      {"the backends of whoever registers",
       {"template"},
       [](Tenant& t) {
         t.manifest["settings"]["registration"]["backends"] = Json::array();
         apply(t);
       },
       no_target},
      {"user",
       {"alice"},
       disable_users([](Tenant& t) {
         return Json{{{"issuer", t.idp.issuer()}, {"subject", "alice"}},
                     {{"issuer", t.hydra.issuer()}, {"subject", "alice"}}};
       }),
       no_token},
      {"actor",
       {"bob"},
       disable_users([](Tenant& t) {
         return Json{{{"issuer", t.idp.issuer()}, {"subject", "bob"}}};
       }),
       no_token},
      {"workload",
       {"job"},
       disable_users([](Tenant& t) {
         return Json{{{"issuer", t.ci.issuer()}, {"subject", "job"}}};
       }),
       no_client},
      {"backend", {"files"}, disable("backends", {"files"}), no_target, void_tokens},
      {"backend with stored credentials", {"github"}, disable("backends", {"github"}), no_target},
      {"backend with the tenant's credential", {"db"}, disable("backends", {"db"}), no_target},
      {"Vault's API",
       {"vault"},
       [](Tenant& t) {
         t.manifest["settings"].erase("vault_api");
         apply(t);
       },
       no_client},
      {"transit",
       {"transit"},
       [](Tenant& t) {
         t.manifest["settings"]["vault_api"].erase("transit");
         apply(t);
       },
       {{Kind::Transit, not_there}}},
      {"sessions of Vault's API",
       {"session"},
       [](Tenant& t) {
         for (const auto& each : {t.session, t.session_for_alice}) {
           EXPECT_THAT(t.vault(world().one.port(), "POST", "auth/token/revoke-self", each),
                       HasStatus(204));
         }
       },
       no_client},
      {"role, its permissions",
       {"role"},
       [](Tenant& t) {
         t.part("roles", "developer")["allow"] = {"search:*"};
         apply(t);
       },
       no_target},
      {"role, its binding",
       {"role"},
       [](Tenant& t) {
         t.manifest["bindings"].erase(0);
         EXPECT_THAT(t.apply("?prune=true"), HasStatus(200));
       },
       no_target},
      {"signing key",
       {"ES256"},
       [](Tenant& t) {
         for (const auto& key : json_of(t.api("GET", "/signing-keys", t.admin), "items")) {
           if (key.at("algorithm") != "ES256") continue;
           t.delete_at("/signing-keys/" + key.at("kid").get<std::string>());
         }
       },
       {{Kind::Token, "503 temporarily_unavailable"},
        {Kind::Assertion, "503 temporarily_unavailable"},
        {Kind::Batch, "item temporarily_unavailable"},
        {Kind::Release, "item temporarily_unavailable"},
        {Kind::Introspection, "inactive"}},
       void_tokens},
      {"keys of clients",
       {"keyed's key", "self-signed's certificate"},
       [](Tenant& t) {
         t.part("clients", "keyed")["authentication"]["jwks"] = Idp("other").jwks();
         t.part("clients", "self-signed")["authentication"]["certificate_sha256"] = {
             crypto::base64url(crypto::sha256(as_bytes("another")))};
         apply(t);
       },
       no_client},
      {"secret of a client",
       {"gw-01's secret"},
       [](Tenant& t) {
         const auto all = json_of(t.api("GET", "/clients/gw-01/secrets", t.admin), "items");
         for (const auto& each : all) {
           t.delete_at("/clients/gw-01/secrets/" + each.at("secret_id").get<std::string>());
         }
       },
       no_client},
      {"stored credential",
       {"credential"},
       [](Tenant& t) {
         EXPECT_THAT(t.api("DELETE", "/credentials/github", t.user_token("alice")), HasStatus(204));
       },
       {{Kind::Token, "400 interaction_required"},
        {Kind::Batch, "item interaction_required"},
        {Kind::Release, "item interaction_required"},
        {Kind::View, "404 and what to do"}}},
      {"user's token, revoked", {"alice's token"}, [](Tenant& t) { t.revoke(t.warm); }, no_token},
      {"opaque token, revoked", {"opaque token"}, [](Tenant& t) { t.revoke(t.opaque); }, no_token},
      {"tokens of ours, revoked",
       {"our token"},
       [](Tenant& t) {
         t.revoke(t.issued);
         t.revoke(t.actor);
       },
       no_token},
  };
}

}  // namespace
}  // namespace postern::test
