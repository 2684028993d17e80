// No request becomes more by saying less, whatever the grant: each parameter of a
// request for a token is removed, blanked, doubled and given twice with two values,
// and what comes of it is held against the whole request; and whatever is issued
// lies within all that went into it, by rules written here on plain sets. Over
// random tenants, each grant of the token endpoint and the batch exchange, each
// client authentication, with and without DPoP. From the router on, with stores in
// memory; rfc8693_lesser_requests_test.cc does it on the wire.
//
//   POSTERN_PROPERTY_RUNS   random tenants and requests (default 200, each with
//                           about thirty lesser ones)
//   POSTERN_PROPERTY_SEED   to repeat a run (printed)

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "audit/group_writer.h"
#include "http/handlers/api.h"
#include "http/handlers/gate.h"
#include "http/handlers/oauth_endpoints.h"
#include "support/certificates.h"
#include "support/dpop_proof.h"
#include "support/from_environment.h"
#include "support/grants_fixture.h"
#include "support/privilege.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

constexpr const char* kTokenPath = "/t/acme/token";
constexpr const char* kBatchPath = "/api/v1/tenants/acme/exchange";
constexpr const char* kUs = "https://sts.example.com/t/acme";
constexpr const char* kAssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
constexpr const char* kStored = "what-alice-stored";

const std::vector<std::string> kTools{"read_a", "write_a", "stat"};
const std::vector<std::string> kActions{"call", "list"};
using Tools = std::set<std::pair<std::string, std::string>>;  // tool, action

/// What these details open. Without any, everything is open.
Tools opened(const Json& details) {
  Tools open;
  for (const auto& tool : kTools) {
    for (const auto& action : kActions) {
      const auto has = [&](const Json& detail) {
        const Json& actions = detail.at("actions");
        const auto named = [&](const std::string& name) {
          return std::find(actions.begin(), actions.end(), Json(name)) != actions.end();
        };
        return (detail.at("identifier") == "*" || detail.at("identifier") == tool) &&
               (named("*") || named(action));
      };
      if (details.is_null() || std::any_of(details.begin(), details.end(), has)) {
        open.emplace(tool, action);
      }
    }
  }
  return open;
}

template <class Set>
bool within(const Set& inner, const Set& outer) {
  return std::includes(outer.begin(), outer.end(), inner.begin(), inner.end());
}
Names both(const Names& a, const Names& b) {
  Names out;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::inserter(out, out.end()));
  return out;
}
std::string joined(const Names& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : " ") + name;
  return out;
}

enum class Place { Header, Field, Member, Item, Certificate };

/// One parameter of a request, with another value that would suit it too.
struct Part {
  Place place;
  std::string name, value, other;
};
using Parts = std::vector<Part>;

std::string printed(const Parts& parts) {
  std::string out;
  for (const auto& part : parts) out += part.name + "=" + part.value.substr(0, 32) + " ";
  return out;
}

std::string form_of(const Parts& parts) {
  Pairs fields;
  for (const auto& part : parts) {
    if (part.place == Place::Field) fields.emplace_back(part.name, part.value);
  }
  return form(fields);
}

/// Values of members are JSON already; the member `items` gets the items' parts,
/// unless it was given a value.
std::string object_of(const Parts& parts, Place place) {
  std::string out;
  for (const auto& part : parts) {
    if (part.place != place) continue;
    const bool list = part.name == "items" && part.value.empty();
    out += (out.empty() ? "{\"" : ",\"") + part.name +
           "\":" + (list ? "[" + object_of(parts, Place::Item) + "]" : part.value);
  }
  return out.empty() ? "{}" : out + "}";
}

enum class Grant { Exchange, Batch, ClientCredentials, JwtBearer, IdJag, OnBehalfOf };

struct Backend {
  std::string name, audience, alias;
  Names scopes;
};
const std::vector<Backend> kBackends{
    {"files", "https://files.example.com/mcp", "docs", {"files:read", "files:write"}},
    {"search", "https://search.example.com/mcp", "", {}},
    {"github", "https://github.example.com/mcp", "", {"repo:read", "repo:write"}}};
const Names kScopes{"files:read", "files:write", "repo:read", "repo:write"};

/// A user's token, and what may come of it at most.
struct Subject {
  std::string token;
  std::optional<Names> scope;  ///< nothing: it does not say
  std::int64_t expires_at = 0;
  Json tools;
  std::size_t actors = 0;
  bool bound = false;
};

struct Scenario {
  Grant grant{};
  Parts parts;
  std::string path = kTokenPath;
  std::set<std::string> optional;  ///< parts that may be missing
  const Backend* target = nullptr;
  const Backend* otherwise = nullptr;  ///< the client's default
  Names client_scopes;
  std::map<std::string, Names> role_scopes;  ///< by backend
  std::map<std::string, Tools> role_tools;   ///< by backend
  std::int64_t max_lifetime = 3600;
  std::optional<Subject> subject;
  std::optional<std::int64_t> actor_expires_at;
  std::optional<Names> asked_scope;
  Json asked_tools;
  bool proof_sent = false, must_be_bound = false;
};

/// The tenant's row, whatever it is by now; nothing else is asked for.
class OneTenantStore final : public policy::ConfigStore {
 public:
  explicit OneTenantStore(TestTenants& tenants) : tenants_(tenants) {}
  Result<policy::StoredTenant> load(const TenantId& tenant) override {
    return tenants_.stored(tenant);
  }
  Result<TenantPage> tenants(std::string_view, std::uint32_t) override { return none(); }
  Result<std::uint64_t> apply(const TenantId&, const policy::ConfigChange&,
                              std::span<const audit::Event>) override {
    return none();
  }
  Status remove(const TenantId&, std::span<const audit::Event>) override { return none(); }
  Result<bool> was_removed(const TenantId&) override { return none(); }

 private:
  static Error none() { return fail(ErrorCode::Unavailable, "not in this test"); }
  TestTenants& tenants_;
};

/// Takes every record and keeps none: there are millions.
class NoAuditLog final : public audit::AuditLog {
 public:
  Status append(std::span<const audit::Event>) override { return {}; }
  Result<std::vector<audit::Record>> read(const TenantId&, const audit::Query&) override {
    return std::vector<audit::Record>();
  }
  Result<audit::Verification> verify(const TenantId&) override { return audit::Verification(); }
};

/// Knows the uses of one request, so that a lesser one may use the same proofs.
class OneRequestReplays final : public policy::ReplayGuard {
 public:
  Result<bool> first_use(const TenantId&, std::string_view kind, const crypto::Hash256& digest,
                         sys_seconds) override {
    return used_.emplace(std::string(kind), digest).second;
  }
  void forget() { used_.clear(); }

 private:
  std::set<std::pair<std::string, crypto::Hash256>> used_;
};

/// The endpoints over the fixture's tenant.
class Doors : public GrantsFixture {
 public:
  Doors() {
    clock.set(SystemClock().now());  // certificates are made by that clock
    http::add_oauth_endpoints(router_, gate_, services_);
    http::add_exchange_endpoint(router_, gate_, services_);
  }

  /// Status and body.
  std::pair<int, std::string> send(const std::string& path, const Parts& parts) {
    replays_.forget();
    auto request = std::make_shared<http::Request>();
    request->method = "POST";
    request->path = path;
    // Each from elsewhere: no throttle between them.
    request->peer_address = "10." + std::to_string(number_ / 65536 % 256) + "." +
                            std::to_string(number_ / 256 % 256) + "." +
                            std::to_string(number_ % 256);
    ++number_;
    const bool batch = path == kBatchPath;
    request->headers.emplace_back("Content-Type",
                                  batch ? "application/json" : "application/x-www-form-urlencoded");
    for (const auto& part : parts) {
      if (part.place == Place::Header) request->headers.emplace_back(part.name, part.value);
      if (part.place == Place::Certificate) {
        request->client_certificate = part.value;
        request->client_certificate_verified = true;
      }
    }
    request->body = Secret<struct http::RequestBodyTag>(
        SecureBuffer::copy_of(batch ? object_of(parts, Place::Member) : form_of(parts)));
    const auto match = router_.match("POST", path);
    request->parameters = match.parameters;

    struct Sink final : http::Responder::Sink {
      void deliver(http::Reply reply) noexcept override {
        done.set_value({reply.status(), reply.body()});
      }
      std::promise<std::pair<int, std::string>> done;
    };
    auto sink = std::make_unique<Sink>();
    auto answered = sink->done.get_future();
    (*match.handler)(std::move(request), http::Responder(std::move(sink)));
    return answered.get();
  }

  /// Applies `manifest`, for the endpoints too.
  void renew() {
    load();
    snapshots_.moved_on(tenant, snapshot->epoch());
  }

 private:
  OneTenantStore store_{tenants};
  NoAuditLog no_audit_;
  OneRequestReplays replays_;
  policy::SnapshotCache snapshots_{store_, tenants.keyring(), {std::string(kBaseUrl)}, [] {
                                     return std::chrono::steady_clock::now();
                                   }};
  grants::Introspection introspection_{own_tokens};
  grants::Revocation revocation_{verifier, own_tokens, revocations};
  grants::JwtBearer jwt_bearer_{verifier, replays_, clock};
  grants::ClientAssertions assertions_{issuer_keys, clock};
  grants::DpopNonces nonces_{tenants.keyring(), clock};
  grants::DpopProofs dpop_{nonces_, grants::DpopProofs::Nonce::NotAsked, clock};
  grants::Throttle throttle_{clock, {}};
  http::Services services_{snapshots_,
                           store_,
                           tenants.keyring(),
                           credentials,
                           envelope,
                           no_audit_,
                           verifier,
                           token_exchange,
                           client_credentials,
                           release,
                           introspection_,
                           revocation_,
                           {replays_, assertions_, dpop_, throttle_, {}, {}},
                           clock,
                           std::string(kBaseUrl),
                           [](const BearerToken&) { return false; },
                           [] { return Result<std::string>("{}"); },
                           &jwt_bearer_,
                           nullptr,
                           [] { return Result<std::string>("{}"); }};
  audit::GroupWriter writer_{no_audit_};
  http::Gate gate_{writer_, [](http::Pool, const std::function<void()>& work) {
                     work();
                     return true;
                   }};
  http::Router router_;
  std::uint64_t number_ = 0;
};

/// Makes tenants and requests at random.
class Generator : public Doors {
 public:
  Generator() {
    store("github", "alice", {{"token", kStored}});
    const auto dn = CertificateDetails{{{"O", "Example"}}, "", "", -60, 86400};
    authority_ = make_certificate("authority");
    named_ = make_certificate("gw-01", &authority_, dn);
    own_ = make_certificate("own", nullptr, dn);
  }

  Scenario scenario(std::uint64_t seed) {
    random_.seed(seed);
    Scenario s;
    s.grant = one<Grant>({Grant::Exchange, Grant::Exchange, Grant::Batch, Grant::ClientCredentials,
                          Grant::JwtBearer, Grant::IdJag, Grant::OnBehalfOf});
    const bool batch = s.grant == Grant::Batch;
    if (batch) s.path = kBatchPath;
    const bool dpop_bound = chance(15);
    // No form, no client_id: the batch knows Basic alone.
    method_ = batch ? Method::Basic
                    : one<Method>({Method::Post, Method::Basic, Method::PrivateKeyJwt, Method::Tls,
                                   Method::SelfSigned, Method::Workload});
    tenant_of(s, dpop_bound);
    request_of(s);
    authentication_of(s);
    s.proof_sent = dpop_bound || (s.subject && s.subject->bound) || chance(30);
    s.must_be_bound = dpop_bound || (s.subject && s.subject->bound);
    if (s.proof_sent) {
      const auto url = std::string(kBaseUrl) + s.path;
      s.parts.push_back({Place::Header, "DPoP", dpop_proof(holder_, url, clock.now()),
                         dpop_proof(stranger_, url, clock.now())});
      if (!s.must_be_bound) s.optional.insert("DPoP");
    }
    return s;
  }
  std::string jkt() const { return must(token::thumbprint(token::public_jwk(holder_))); }

 private:
  enum class Method { Post, Basic, PrivateKeyJwt, Tls, SelfSigned, Workload };

  bool chance(std::uint64_t percent) { return random_() % 100 < percent; }
  template <class T>
  T one(const std::vector<T>& from) {
    return from[random_() % from.size()];
  }
  Names some(const Names& from, std::uint64_t percent) {
    Names out;
    for (const auto& item : from) {
      if (chance(percent)) out.insert(item);
    }
    return out;
  }
  Json details() {
    Json details = Json::array();
    do {
      details.push_back(
          {{"type", "mcp_tool"},
           {"identifier", chance(30) ? "*" : one(kTools)},
           {"actions", chance(30) ? Json::array({"*"}) : Json::array({one(kActions)})}});
    } while (chance(50) && details.size() < 3);
    return details;
  }

  /// The tenant, with a second client and a second user who may do everything.
  void tenant_of(Scenario& s, bool dpop_bound) {
    manifest = acme();
    manifest["settings"]["max_token_lifetime"] = s.max_lifetime =
        one<std::int64_t>({60, 300, 3600});
    issuer()["token_types"] = {"access_token", "jwt", "id_token", "jwt_bearer", "id_jag"};
    issuer()["claims"] = {{"scope", "scope"}};
    backend("github")["token_field"] = "token";
    s.client_scopes = chance(50) ? kScopes : some(kScopes, 70);
    client()["grants"] = {"token-exchange", "client_credentials", "jwt-bearer"};
    client()["scopes"] =
        Json(std::vector<std::string>(s.client_scopes.begin(), s.client_scopes.end()));
    if (dpop_bound) client()["dpop_bound"] = true;
    s.target = &kBackends[chance(60) ? 0 : chance(50) ? 1 : 2];
    if (chance(50)) s.otherwise = chance(60) ? s.target : &kBackends[random_() % 3];
    if (s.otherwise != nullptr) client()["default_backend"] = s.otherwise->name;
    switch (method_) {
      case Method::Post:
      case Method::Basic: break;
      case Method::PrivateKeyJwt:
        client()["authentication"] = {{"method", "private_key_jwt"}, {"jwks", gateway_.jwks()}};
        break;
      case Method::Tls:
        client()["authentication"] = {{"method", "tls_client_auth"},
                                      {"tls_subject", {{"dn", "CN=gw-01,O=Example"}}}};
        break;
      case Method::SelfSigned:
        client()["authentication"] = {{"method", "self_signed_tls_client_auth"},
                                      {"certificate_sha256", {x5t(own_)}}};
        break;
      case Method::Workload:
        client()["authentication"] = {
            {"method", "workload_identity"},
            {"workload",
             {{"issuer", "corp"}, {"audience", "gw-01"}, {"claims", {{"sub", {"workload"}}}}}}};
    }
    manifest["clients"].push_back({{"id", "gw-02"},
                                   {"grants", {"token-exchange", "client_credentials"}},
                                   {"backends", {"*"}},
                                   {"scopes", {"*"}},
                                   {"audiences", {"gw-01"}}});

    Json allow = Json::array(), tools = Json::array();
    for (const auto& backend : kBackends) {
      for (const auto& scope : some(backend.scopes, 80)) {
        allow.push_back(backend.name + ":" + scope);
        s.role_scopes[backend.name].insert(scope);
      }
      if (backend.scopes.empty() && chance(90)) allow.push_back(backend.name + ":*");
      if (!chance(20)) continue;
      for (const auto& tool : {one(kTools), one(kTools)}) {
        const auto action = one(kActions);
        tools.push_back(backend.name + ":" + tool + ":" + action);
        s.role_tools[backend.name].emplace(tool, action);
      }
    }
    role()["allow"] = allow;
    if (!tools.empty()) role()["tools"] = tools;
    manifest["roles"].push_back({{"name", "everything"}, {"allow", {"*:*"}}});
    manifest["bindings"].push_back(
        {{"role", "everything"}, {"subjects", {{{"issuer", idp.issuer()}, {"subject", "agent"}}}}});
    renew();
  }

  Json claims_now(const std::string& who, std::int64_t life) {
    Json made = claims(who);
    made["exp"] = seconds_of(clock.now()) + life;
    made["jti"] = crypto::random_id();
    return made;
  }

  /// A user's token for this grant.
  Subject user(Grant grant) {
    Subject s;
    const auto life = one<std::int64_t>({30, 200, 1200});
    s.expires_at = seconds_of(clock.now()) + life;
    auto made = claims_now("alice", life);
    if (chance(60)) s.scope = some(kScopes, 80);
    // A claim that is there and empty says: nothing.
    if (s.scope) made["scope"] = joined(*s.scope);
    if (chance(25)) made["authorization_details"] = s.tools = details();
    if (chance(20)) {
      made["act"] = {{"sub", "first"}};
      s.actors = 1;
      if (chance(50)) {
        made["act"]["act"] = {{"sub", "zeroth"}};
        s.actors = 2;
      }
    }
    if (chance(15)) {
      made["cnf"] = {{"jkt", jkt()}};
      s.bound = true;
    }
    if (grant == Grant::JwtBearer || grant == Grant::IdJag) made["aud"] = kUs;
    if (grant == Grant::IdJag) made["client_id"] = "gw-01";
    s.token = idp.sign(made, grant == Grant::IdJag ? "oauth-id-jag+jwt" : "JWT");
    return s;
  }

  /// The user's token exchanged once before, when that works: ours, chained.
  void chain(Subject& s) {
    auto asked = request(s.token);
    asked.audiences = {kBackends[random_() % 2].name};
    auto who = caller();
    if (s.bound) who.proven.jkt = jkt();
    auto note = record();
    const auto issued = token_exchange.exchange(*snapshot, who, asked, grants::Wait::Yes, note);
    if (!issued.ok()) return;
    const auto said = open(issued.value().access_token);
    s.token = issued.value().access_token.expose(
        [](ByteView bytes) { return std::string(as_text(bytes)); });
    s.expires_at = said.at("exp");
    s.actors = actors_of(said);
    s.tools = said.value("authorization_details", Json());
    s.bound = said.contains("cnf");
  }

  void request_of(Scenario& s) {
    const bool batch = s.grant == Grant::Batch;
    const auto add = [&](const char* name, const std::string& value, const std::string& other = "",
                         bool in_item = false) {
      s.parts.push_back({batch ? in_item ? Place::Item : Place::Member : Place::Field, name,
                         batch ? Json(value).dump() : value,
                         batch           ? Json(other.empty() ? value + "x" : other).dump()
                         : other.empty() ? value + "x"
                                         : other});
    };
    const std::string everybody = "files:read files:write repo:read repo:write";
    std::string agent = idp.sign(claims_now("agent", 900));
    switch (s.grant) {
      case Grant::Batch: break;
      case Grant::Exchange: add("grant_type", TestTenant::kExchange, "client_credentials"); break;
      case Grant::ClientCredentials:
        add("grant_type", "client_credentials", TestTenant::kExchange);
        break;
      case Grant::JwtBearer:
      case Grant::IdJag:
      case Grant::OnBehalfOf:
        add("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "client_credentials");
    }
    if (s.grant != Grant::ClientCredentials) s.subject = user(s.grant);
    if (s.grant == Grant::Exchange || batch) {
      if (chance(20)) chain(*s.subject);
      add("subject_token", s.subject->token, agent);
      const auto* type = chance(60) ? TestTenant::kAccessToken : TestTenant::kJwt;
      add("subject_token_type", type, TestTenant::kIdToken);
      if (batch) s.optional.insert("subject_token_type");
      if (chance(30)) {
        const std::int64_t life = chance(50) ? 20 : 900;
        s.actor_expires_at = seconds_of(clock.now()) + life;
        add("actor_token", idp.sign(claims_now("agent", life)), s.subject->token);
        add("actor_token_type", TestTenant::kAccessToken, TestTenant::kJwt);
      }
      if (chance(40)) {
        add("requested_token_type", chance(50) ? TestTenant::kJwt : TestTenant::kAccessToken, "",
            true);
        s.optional.insert("requested_token_type");
      }
    } else if (s.subject) {
      add("assertion", s.subject->token, agent);
      if (s.grant == Grant::OnBehalfOf) add("requested_token_use", "on_behalf_of");
    }

    // The target, named in one way or in two, or left to the default.
    std::string prefix;
    const std::string wrong = kBackends[random_() % 3].name;
    const auto also = s.target->alias.empty() || chance(50) ? wrong : s.target->alias;
    s.optional.insert({"audience", "resource"});
    if (batch) {
      const auto in = chance(30) ? "resource" : chance(50) ? "audience" : "backend";
      add(in, std::string(in) == "backend" ? s.target->name : s.target->audience, also, true);
    } else if (chance(20) && s.otherwise != nullptr) {
      s.target = s.otherwise;
    } else {
      if (s.grant == Grant::OnBehalfOf && chance(50)) prefix = s.target->audience + "/";
      if (prefix.empty() || chance(30)) add("audience", s.target->name, also);
      if (chance(40)) add("resource", s.target->audience, "https://" + wrong + ".example.com/mcp");
    }
    if (chance(60) || !prefix.empty()) {
      const auto wanted = some(s.target->scopes, 60);
      Names words;
      for (const auto& scope : wanted) words.insert(prefix + scope);
      if (!prefix.empty() && wanted.empty()) words.insert(prefix + ".default");
      if (chance(20)) words.insert("openid");
      if (!words.empty()) {
        add("scope", joined(words), everybody, true);
        s.optional.insert("scope");
        if (!wanted.empty()) s.asked_scope = wanted;
      }
    }
    if (chance(30) && s.grant != Grant::ClientCredentials) {
      s.asked_tools = details();
      s.optional.insert("authorization_details");
      const Json all =
          Json::array({{{"type", "mcp_tool"}, {"identifier", "*"}, {"actions", {"*"}}}});
      s.parts.push_back({batch ? Place::Item : Place::Field, "authorization_details",
                         s.asked_tools.dump(), all.dump()});
    }
    if (batch) s.parts.push_back({Place::Member, "items", "", R"([{"backend":"search"}])"});
  }

  void authentication_of(Scenario& s) {
    const auto basic_header = [&](const char* id) { return basic(id, tenants.secret(tenant, id)); };
    const Part id{Place::Field, "client_id", "gw-01", "gw-02"};
    const auto assert_by = [&](const std::string& assertion, const std::string& other) {
      s.parts.push_back({Place::Field, "client_assertion", assertion, other});
      s.parts.push_back({Place::Field, "client_assertion_type", kAssertionType,
                         std::string(kAssertionType) + "x"});
    };
    const bool named = chance(50);
    auto workload = claims_now("workload", 300);
    workload.erase("groups");
    switch (method_) {
      case Method::Basic:
        s.parts.push_back(
            {Place::Header, "Authorization", basic_header("gw-01"), basic_header("gw-02")});
        if (s.grant == Grant::Batch || !named) return;
        s.optional.insert("client_id");
        break;
      case Method::Post:
        s.parts.push_back({Place::Field, "client_secret", tenants.secret(tenant, "gw-01"),
                           tenants.secret(tenant, "gw-02")});
        break;
      case Method::PrivateKeyJwt: {
        auto says = gateway_.claims("gw-01", clock.now());
        says["aud"] = kUs;
        says["jti"] = crypto::random_id();
        assert_by(gateway_.sign(says), idp.sign(workload));
        if (!named) return;
        s.optional.insert("client_id");
        break;
      }
      case Method::Tls:
        s.parts.push_back({Place::Certificate, "certificate", named_.certificate_pem(), ""});
        break;
      case Method::SelfSigned:
        s.parts.push_back({Place::Certificate, "certificate", own_.certificate_pem(), ""});
        break;
      case Method::Workload: {
        const auto alice = idp.sign(claims_now("alice", 300));
        assert_by(idp.sign(workload), alice);
      }
    }
    s.parts.push_back(id);
  }

  std::mt19937_64 random_;
  Method method_{};
  const Idp gateway_{"gw-01"};
  const crypto::SigningKey holder_ = crypto::SigningKey::generate(crypto::Algorithm::ES256);
  const crypto::SigningKey stranger_ = crypto::SigningKey::generate(crypto::Algorithm::ES256);
  Certificate authority_, named_, own_;
};

/// What an answer gives, nothing when it is a refusal.
std::optional<Privilege> given(const std::pair<int, std::string>& reply, std::int64_t now) {
  if (reply.first != 200) return std::nullopt;
  auto json = Json::parse(reply.second);
  if (json.contains("items")) {
    EXPECT_EQ(json.at("items").size(), 1u);
    json = json.at("items").at(0);
    if (json.at("status") != "allowed") return std::nullopt;
  }
  const std::string token = json.at("access_token");
  if (token != kStored) return privilege_of(claims_of(token));
  Privilege stored;
  stored.stored = true;
  stored.scope = words(json.value("scope", ""));
  stored.expires_at = now + json.at("expires_in").get<std::int64_t>();
  return stored;
}

/// Whatever is issued lies within everything that went into it.
void expect_within_inputs(const Scenario& s, const Privilege& issued, const std::string& changed,
                          const Generator& g) {
  const auto now = seconds_of(g.clock.now());
  const Backend* backend = nullptr;
  for (const auto& one : kBackends) {
    if (issued.stored ? one.name == "github" : one.audience == issued.audience) backend = &one;
  }
  ASSERT_NE(backend, nullptr) << issued.audience;
  // The default is for requests that name no target.
  EXPECT_TRUE(backend == s.target || backend == s.otherwise);
  EXPECT_EQ(issued.stored, backend->name == "github");
  auto ceiling = both(backend->scopes, s.client_scopes);
  EXPECT_LE(issued.expires_at, now + std::min<std::int64_t>(s.max_lifetime, 300));
  if (s.subject) {
    EXPECT_LE(issued.expires_at, s.subject->expires_at);
    const auto role = s.role_scopes.find(backend->name);
    ceiling = both(ceiling, role == s.role_scopes.end() ? Names() : role->second);
    if (s.subject->scope) ceiling = both(ceiling, *s.subject->scope);
  }
  EXPECT_TRUE(issued.stored || issued.expires_at <= s.actor_expires_at.value_or(issued.expires_at));
  // A stored credential cannot be narrowed, so the scope that is asked for changes nothing.
  if (s.asked_scope && changed != "scope" && !issued.stored) {
    ceiling = both(ceiling, *s.asked_scope);
  }
  EXPECT_TRUE(within(issued.scope, ceiling)) << joined(issued.scope) << " of " << joined(ceiling);
  if (issued.stored) {
    EXPECT_EQ(issued.scope, backend->scopes);
    EXPECT_EQ(opened(s.subject->tools), opened(nullptr));
    EXPECT_EQ(s.role_tools.count(backend->name), 0u);
    return;
  }
  EXPECT_EQ(issued.client, "gw-01");
  EXPECT_EQ(issued.subject, s.subject ? "alice" : "gw-01");
  EXPECT_GE(issued.actors, s.subject ? s.subject->actors + (s.actor_expires_at ? 1 : 0) : 0);
  const bool proof = s.proof_sent && changed != "DPoP";
  EXPECT_EQ(issued.jkt, proof ? g.jkt() : "");
  EXPECT_TRUE(!s.must_be_bound || !issued.jkt.empty());
  const auto tools = opened(issued.tools);
  EXPECT_TRUE(!s.subject || within(tools, opened(s.subject->tools))) << issued.tools;
  const auto of_role = s.role_tools.find(backend->name);
  if (s.subject && of_role != s.role_tools.end()) {
    EXPECT_TRUE(within(tools, of_role->second)) << issued.tools;
  }
  if (changed != "authorization_details") {
    EXPECT_TRUE(within(tools, opened(s.asked_tools))) << issued.tools;
  }
}

/// What the lesser request was given against the whole one, whose part `changed` it lacks.
void expect_no_more(const Privilege& lesser, const Privilege& whole, const std::string& changed) {
  const bool target = changed == "audience" || changed == "resource" || changed == "scope";
  if (!target) {
    EXPECT_EQ(lesser.stored, whole.stored);
    EXPECT_EQ(lesser.audience, whole.audience);
  }
  if (lesser.stored != whole.stored || lesser.audience != whole.audience) return;
  EXPECT_EQ(lesser.subject, whole.subject);
  EXPECT_EQ(lesser.client, whole.client);
  EXPECT_GE(lesser.actors, whole.actors);
  EXPECT_LE(lesser.expires_at, whole.expires_at);
  EXPECT_TRUE(changed == "scope" || within(lesser.scope, whole.scope));
  EXPECT_TRUE(changed == "DPoP" || lesser.jkt == whole.jkt);
  if (changed != "authorization_details") {
    EXPECT_TRUE(within(opened(lesser.tools), opened(whole.tools)));
  }
}

enum class Change { Removed, Blank, Null, Twice, TwiceDiffering };

/// The request with one part changed; nothing when that part cannot be so.
std::optional<Parts> changed(const Parts& whole, std::size_t at, Change change) {
  Parts parts = whole;
  auto& part = parts[at];
  const bool json = part.place == Place::Member || part.place == Place::Item;
  switch (change) {
    case Change::Removed: parts.erase(parts.begin() + static_cast<long>(at)); return parts;
    case Change::Blank:
      if (part.place == Place::Certificate) return std::nullopt;
      part.value = json ? part.name == "items" ? "[]" : "\"\"" : "";
      return parts;
    case Change::Null:
      if (!json) return std::nullopt;
      part.value = "null";
      return parts;
    case Change::Twice:
    case Change::TwiceDiffering: {
      if (part.place == Place::Certificate) return std::nullopt;
      auto second = part;
      if (change == Change::TwiceDiffering) second.value = part.other;
      parts.push_back(std::move(second));
      return parts;
    }
  }
  return std::nullopt;
}

TEST(Rfc6749_3_2, NoGrantGivesMoreForLessOrMoreThanItsInputs) {
  const auto seed = from_environment("POSTERN_PROPERTY_SEED", std::random_device{}());
  const auto runs = from_environment("POSTERN_PROPERTY_RUNS", 200);
  Generator g;
  std::map<Grant, std::uint64_t> granted;
  std::uint64_t whole_issued = 0, issued = 0, refused = 0;
  for (std::uint64_t run = 0; run < runs; ++run) {
    const auto s = g.scenario(seed + run);
    SCOPED_TRACE("POSTERN_PROPERTY_SEED=" + std::to_string(seed + run) + " " + printed(s.parts));
    const auto now = seconds_of(g.clock.now());
    const auto reply = g.send(s.path, s.parts);
    const auto whole = given(reply, now);
    if (whole) {
      ++whole_issued;
      ++granted[s.grant];
      expect_within_inputs(s, *whole, "", g);
    }
    for (std::size_t i = 0; i < s.parts.size(); ++i) {
      const auto& part = s.parts[i];
      for (const auto change :
           {Change::Removed, Change::Blank, Change::Null, Change::Twice, Change::TwiceDiffering}) {
        const auto parts = changed(s.parts, i, change);
        if (!parts) continue;
        const auto lesser = given(g.send(s.path, *parts), now);
        ++(lesser ? issued : refused);
        if (!lesser) continue;
        SCOPED_TRACE(part.name + ", change " + std::to_string(static_cast<int>(change)));
        // Only what has a default may be absent, and only names of one target repeat.
        EXPECT_EQ(s.optional.count(part.name), 1u);
        EXPECT_TRUE(
            change < Change::Twice ||
            (part.place == Place::Field && (part.name == "audience" || part.name == "resource")));
        expect_within_inputs(s, *lesser, part.name, g);
        if (whole) expect_no_more(*lesser, *whole, part.name);
      }
    }
    if (testing::Test::HasFailure()) return;
  }
  std::cout << "POSTERN_PROPERTY_SEED=" << seed << ": " << runs << " requests, " << whole_issued
            << " of them issued; lesser ones: " << issued << " issued, " << refused << " refused\n";
  // The generator must not drift into refusing everything, or any one grant.
  EXPECT_GT(whole_issued, runs / 4);
  EXPECT_GT(issued, runs / 2);
  EXPECT_GT(refused, issued);
  EXPECT_TRUE(runs < 100 || granted.size() == 6);
}

}  // namespace
}  // namespace postern::test
