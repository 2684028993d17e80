// Narrowing only (design invariant 2), over random tenants and requests: what is
// issued is compared with an oracle that works on plain sets, written from the
// documentation and sharing no code with service/policy.
//
//   POSTERN_PROPERTY_RUNS   random tenants (default 5000, about eight requests each)
//   POSTERN_PROPERTY_SEED   to repeat a run (printed on failure)

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/from_environment.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::from_environment;
using test::GrantsFixture;
using test::seconds_of;
using token::Json;
using Names = std::set<std::string>;

/// A random tenant, as sets: what its documents say, for the oracle to read.
struct World {
  struct Rule {
    std::string backend, scope;
    bool matches(const std::string& b, const std::string& s) const {
      return (backend == "*" || backend == b) && (scope == "*" || scope == s);
    }
  };
  struct Backend {
    std::string name, audience, alias;
    Names scopes;
    std::int64_t max_expires_in = 300;
    bool enabled = true, aud_as_requested = false, vaulted = false;
  };
  struct Role {
    std::vector<Rule> allow, deny;
    Names groups, subjects;
  };
  std::vector<Backend> backends;
  std::vector<Role> roles;
  Names client_backends, client_scopes;
  bool all_backends = false, all_scopes = false, exchange_allowed = true, client_enabled = true;
  std::string default_backend;
  bool scope_counts = false;
  std::int64_t max_lifetime = 3600;

  const Backend* named(const std::string& text) const {
    for (const auto& backend : backends) {
      const bool is = text == backend.name || text == backend.audience || text == backend.alias ||
                      text == backend.audience + "/";
      if (is) return &backend;
    }
    return nullptr;
  }
  bool denies_everything(const std::string& subject, const Names& person_groups) const {
    for (const auto& role : roles) {
      bool binds = role.subjects.count(subject) != 0;
      for (const auto& group : person_groups) binds = binds || role.groups.count(group) != 0;
      for (const auto& rule : role.deny) {
        if (binds && rule.backend == "*" && rule.scope == "*") return true;
      }
    }
    return false;
  }
};

struct Person {
  std::string subject;
  Names groups;
  std::optional<Names> scope;
  std::int64_t life = 300;
  bool acted_for = false;
  std::string token;
};

struct Request {
  std::string subject_token, subject_token_type{GrantsFixture::kAccessToken};
  std::optional<std::string> actor_token, actor_token_type, scope, requested_type;
  std::vector<std::string> audiences, resources;
};

/// What the documentation promises for a request, or nothing for a refusal.
struct Promise {
  const World::Backend* backend = nullptr;
  std::string audience;
  Names scope;
  std::int64_t life = 0;
};

std::optional<Promise> oracle(const World& world, const Person& alice, const Person& agent,
                              const Request& request) {
  if (!world.client_enabled || !world.exchange_allowed) return std::nullopt;
  if (request.subject_token != alice.token) return std::nullopt;
  if (request.subject_token_type != GrantsFixture::kAccessToken) return std::nullopt;
  if (request.actor_token.has_value() != request.actor_token_type.has_value()) return std::nullopt;
  if (request.actor_token && (*request.actor_token != agent.token ||
                              *request.actor_token_type != GrantsFixture::kAccessToken)) {
    return std::nullopt;
  }
  if (request.requested_type && *request.requested_type != GrantsFixture::kAccessToken &&
      *request.requested_type != GrantsFixture::kJwt) {
    return std::nullopt;
  }
  Promise promise;
  const auto aim = [&](const std::string& text) {
    const auto* backend = world.named(text);
    const bool open = backend != nullptr && backend->enabled &&
                      (world.all_backends || world.client_backends.count(backend->name) != 0);
    if (!open || (promise.backend != nullptr && promise.backend != backend)) return false;
    if (promise.backend == nullptr) {
      promise.backend = backend;
      promise.audience = backend->aud_as_requested ? text : backend->audience;
    }
    return true;
  };
  for (const auto& resource : request.resources) {
    if (resource.substr(0, 8) != "https://" || !aim(resource)) return std::nullopt;
  }
  for (const auto& audience : request.audiences) {
    if (!aim(audience)) return std::nullopt;
  }
  if (promise.backend == nullptr) {
    if (world.default_backend.empty() || !aim(world.default_backend)) return std::nullopt;
    promise.audience = promise.backend->audience;
  }
  const auto& backend = *promise.backend;
  if (backend.vaulted) return std::nullopt;
  // Whoever is denied everything is disabled, and acts for nobody either.
  if (request.actor_token && world.denies_everything(agent.subject, agent.groups)) {
    return std::nullopt;
  }

  std::vector<const World::Role*> bound;
  for (const auto& role : world.roles) {
    bool binds = role.subjects.count(alice.subject) != 0;
    for (const auto& group : alice.groups) binds = binds || role.groups.count(group) != 0;
    if (binds) bound.push_back(&role);
  }
  const auto opens = [&](const std::string& scope) {
    bool allowed = false, denied = false;
    for (const auto* role : bound) {
      for (const auto& rule : role->allow) allowed = allowed || rule.matches(backend.name, scope);
      for (const auto& rule : role->deny) denied = denied || rule.matches(backend.name, scope);
    }
    return allowed && !denied;
  };
  Names permitted;
  if (backend.scopes.empty()) {
    if (!opens("")) return std::nullopt;
  } else {
    for (const auto& scope : backend.scopes) {
      const bool below_ceiling =
          !world.scope_counts || !alice.scope || alice.scope->count(scope) != 0;
      if (opens(scope) && below_ceiling &&
          (world.all_scopes || world.client_scopes.count(scope) != 0)) {
        permitted.insert(scope);
      }
    }
    if (permitted.empty()) return std::nullopt;
  }
  promise.scope = permitted;
  if (request.scope) {
    Names asked;
    std::string word;
    for (const char c : *request.scope + " ") {
      if (c != ' ') {
        word += c;
      } else if (!word.empty()) {
        if (word != "openid" || permitted.count(word) != 0) asked.insert(word);
        word.clear();
      }
    }
    if (!std::includes(permitted.begin(), permitted.end(), asked.begin(), asked.end())) {
      return std::nullopt;
    }
    if (!asked.empty()) promise.scope = asked;
  }
  promise.life = std::min({alice.life, backend.max_expires_in, world.max_lifetime});
  if (request.actor_token) promise.life = std::min(promise.life, agent.life);
  return promise;
}

class Generator {
 public:
  explicit Generator(std::uint64_t seed) : random_(seed) {}

  std::size_t below(std::size_t bound) { return random_() % bound; }
  bool chance(std::size_t of_ten) { return below(10) < of_ten; }
  Names some(const std::vector<std::string>& from, std::size_t of_ten) {
    Names out;
    for (const auto& item : from) {
      if (chance(of_ten)) out.insert(item);
    }
    return out;
  }
  template <class T>
  const T& one(const std::vector<T>& from) {
    return from[below(from.size())];
  }

  World world() {
    World world;
    for (int i = 0; i < 3; ++i) {
      const auto name = "b" + std::to_string(i);
      world.backends.push_back({name, "https://" + name + ".example/mcp", "alias-" + name,
                                chance(8) ? some(kScopes, 6) : Names(),
                                one<std::int64_t>({10, 60, 300, 3600}), chance(9), chance(3),
                                chance(1)});
    }
    const auto rules = [&](std::size_t most) {
      std::vector<World::Rule> out;
      for (auto count = below(most + 1); count > 0; --count) {
        out.push_back(
            {chance(4) ? "*" : "b" + std::to_string(below(3)), chance(4) ? "*" : one(kScopes)});
      }
      return out;
    };
    for (auto count = below(4) + 1; count > 0; --count) {
      world.roles.push_back({rules(6), chance(3) ? rules(1) : std::vector<World::Rule>(),
                             some(kGroups, 6), some({"alice", "agent"}, 3)});
    }
    world.all_backends = chance(8);
    world.client_backends = some({"b0", "b1", "b2"}, 7);
    world.all_scopes = chance(6);
    world.client_scopes = some(kScopes, 7);
    world.exchange_allowed = !chance(1) || chance(5);
    world.client_enabled = !chance(1) || chance(5);
    if (chance(4)) world.default_backend = "b" + std::to_string(below(3));
    world.scope_counts = chance(5);
    world.max_lifetime = one<std::int64_t>({10, 100, 3600});
    return world;
  }
  Person person(const std::string& subject) {
    Person person{subject, some(kGroups, 5), {}, one<std::int64_t>({1, 30, 300, 7200}), false, ""};
    if (chance(6)) person.scope = some(kScopes, 7);
    person.acted_for = chance(3);
    return person;
  }
  Request request(const Person& alice, const Person& agent) {
    Request request;
    request.subject_token = alice.token;
    if (chance(3)) {
      request.actor_token = agent.token;
      request.actor_token_type = std::string(GrantsFixture::kAccessToken);
    }
    const auto name = [&](bool uri) {
      const auto b = "b" + std::to_string(below(3));
      const std::string audience = "https://" + b + ".example/mcp";
      if (uri) return chance(8) ? audience : audience + "/";
      return one<std::string>({b, "alias-" + b, audience, chance(1) ? "nope" : b});
    };
    if (chance(7)) request.audiences.push_back(name(false));
    if (chance(1)) request.audiences.push_back(name(false));
    if (chance(2)) request.resources.push_back(name(true));
    if (chance(5)) {
      std::string scope = chance(3) ? "openid" : "";
      for (const auto& item : some(kScopes, 2)) scope += (scope.empty() ? "" : " ") + item;
      if (!scope.empty()) request.scope = scope;
    }
    if (chance(3)) request.requested_type = std::string(GrantsFixture::kJwt);
    return request;
  }

 private:
  const std::vector<std::string> kScopes{"read", "write", "admin", "openid", "x:y"};
  const std::vector<std::string> kGroups{"g0", "g1", "g2"};
  std::mt19937_64 random_;
};

class Runner {
 public:
  void enter(const World& world) {
    auto& stored = f_.tenants.stored(f_.tenant);
    stored.objects.clear();
    const auto put = [&](policy::Kind kind, const std::string& name, const Json& spec) {
      stored.objects.push_back({kind, name, spec.dump(), stored.row.epoch});
    };
    ++stored.row.epoch;
    stored.row.settings = Json{{"max_token_lifetime", world.max_lifetime}}.dump();
    Json issuer = f_.issuer();
    issuer["claims"] = {{"scope", world.scope_counts ? "scope" : ""}};
    put(policy::Kind::Issuer, "corp", issuer);
    const auto list = [](bool all, const Names& names) {
      return all ? Json::array({"*"}) : Json(std::vector<std::string>(names.begin(), names.end()));
    };
    Json client{{"id", "gw-01"},
                {"grants", world.exchange_allowed ? Json::array({"token-exchange"})
                                                  : Json::array({"client_credentials"})},
                {"backends", list(world.all_backends, world.client_backends)},
                {"scopes", list(world.all_scopes, world.client_scopes)},
                {"enabled", world.client_enabled}};
    if (!world.default_backend.empty()) client["default_backend"] = world.default_backend;
    put(policy::Kind::Client, "gw-01", client);
    for (const auto& backend : world.backends) {
      Json spec{{"name", backend.name},
                {"audience", backend.audience},
                {"aliases", Json::array({backend.alias})},
                {"scopes", list(false, backend.scopes)},
                {"max_expires_in", backend.max_expires_in},
                {"aud_as_requested", backend.aud_as_requested},
                {"enabled", backend.enabled}};
      if (backend.vaulted) {
        spec["answer"] = "vaulted";
        spec["credential"] = {{"name", backend.name}};
      }
      put(policy::Kind::Backend, backend.name, spec);
    }
    for (std::size_t i = 0; i < world.roles.size(); ++i) {
      const auto& role = world.roles[i];
      const auto name = "r" + std::to_string(i);
      Json spec{{"name", name}, {"allow", Json::array()}, {"deny", Json::array()}};
      for (const auto& rule : role.allow) spec["allow"].push_back(rule.backend + ":" + rule.scope);
      for (const auto& rule : role.deny) spec["deny"].push_back(rule.backend + ":" + rule.scope);
      put(policy::Kind::Role, name, spec);
      if (role.groups.empty() && role.subjects.empty()) continue;
      Json binding{{"role", name}, {"groups", list(false, role.groups)}};
      for (const auto& subject : role.subjects) {
        binding["subjects"].push_back({{"issuer", f_.idp.issuer()}, {"subject", subject}});
      }
      put(policy::Kind::Binding, name, binding);
    }
    f_.snapshot = f_.tenants.snapshot(f_.tenant);
  }

  void sign(Person& person) {
    auto claims = f_.idp.claims(person.subject, f_.clock.now());
    claims["exp"] = seconds_of(f_.clock.now() + std::chrono::seconds(person.life));
    claims["groups"] = std::vector<std::string>(person.groups.begin(), person.groups.end());
    if (person.scope) {
      std::string scope;
      for (const auto& item : *person.scope) scope += (scope.empty() ? "" : " ") + item;
      claims["scope"] = scope;
    }
    if (person.acted_for) claims["act"] = {{"sub", "first"}};
    person.token = f_.idp.sign(claims);
  }

  /// Runs the request and compares; false when it was refused as promised.
  bool holds(const World& world, const Person& alice, const Person& agent, const Request& request) {
    TokenExchangeRequest given;
    given.subject_token = request.subject_token;
    given.subject_token_type = request.subject_token_type;
    given.actor_token = request.actor_token;
    given.actor_token_type = request.actor_token_type;
    given.scope = request.scope;
    given.requested_token_type = request.requested_type;
    given.audiences.assign(request.audiences.begin(), request.audiences.end());
    given.resources.assign(request.resources.begin(), request.resources.end());
    const auto issued = f_.exchange(given);
    const auto promised = oracle(world, alice, agent, request);

    EXPECT_EQ(issued.ok(), promised.has_value())
        << (issued.ok() ? "issued against the rules" : issued.error().detail);
    if (!issued.ok() || !promised) return false;
    const auto claims = f_.open(issued.value().access_token);  // as a backend would
    Names scope(issued.value().scope.begin(), issued.value().scope.end());
    EXPECT_EQ(scope, promised->scope);
    EXPECT_EQ(claims.value("scope", ""), issued.value().scope.str());
    EXPECT_EQ(claims.at("aud"), promised->audience);
    EXPECT_EQ(claims.at("sub"), alice.subject);
    EXPECT_EQ(claims.at("exp").get<std::int64_t>() - seconds_of(f_.clock.now()), promised->life);
    EXPECT_EQ(issued.value().expires_in.count(), promised->life);
    Json act;
    if (request.actor_token) {
      act = {{"iss", f_.idp.issuer()}, {"sub", agent.subject}};
    } else if (alice.acted_for) {
      act = {{"sub", "gw-01"}};
    }
    if (alice.acted_for) act["act"] = {{"sub", "first"}};
    EXPECT_EQ(claims.value("act", Json()), act);
    return true;
  }

 private:
  GrantsFixture f_;
};

/// The request with each parameter removed or blanked in turn.
std::vector<Request> lesser(const Request& request) {
  std::vector<Request> out;
  const auto add = [&](auto change) {
    out.push_back(request);
    change(out.back());
  };
  add([](Request& r) { r.subject_token.clear(); });
  add([](Request& r) { r.subject_token_type.clear(); });
  if (request.actor_token) {
    add([](Request& r) { r.actor_token.reset(); });
    add([](Request& r) { r.actor_token_type.reset(); });
    add([](Request& r) { r.actor_token = ""; });
    add([](Request& r) { r.actor_token_type = ""; });
    add([](Request& r) {
      r.actor_token.reset();
      r.actor_token_type.reset();
    });
  }
  if (request.scope) {
    add([](Request& r) { r.scope.reset(); });
    add([](Request& r) { r.scope = ""; });
  }
  if (request.requested_type) {
    add([](Request& r) { r.requested_type.reset(); });
    add([](Request& r) { r.requested_type = ""; });
  }
  if (!request.audiences.empty()) {
    add([](Request& r) { r.audiences.clear(); });
    add([](Request& r) { r.audiences = {""}; });
    add([](Request& r) { r.audiences.pop_back(); });
  }
  if (!request.resources.empty()) {
    add([](Request& r) { r.resources.clear(); });
    add([](Request& r) { r.resources = {""}; });
  }
  return out;
}

TEST(Narrowing, HoldsForRandomTenantsAndRequests) {
  const auto seed = from_environment("POSTERN_PROPERTY_SEED", std::random_device{}());
  const auto runs = from_environment("POSTERN_PROPERTY_RUNS", 5'000);
  Runner runner;
  std::uint64_t issued = 0, refused = 0;
  for (std::uint64_t run = 0; run < runs; ++run) {
    SCOPED_TRACE("POSTERN_PROPERTY_SEED=" + std::to_string(seed) + " run " + std::to_string(run));
    Generator random(seed + run);
    const auto world = random.world();
    auto alice = random.person("alice"), agent = random.person("agent");
    agent.acted_for = false;
    runner.enter(world);
    runner.sign(alice);
    runner.sign(agent);
    const auto request = random.request(alice, agent);
    ++(runner.holds(world, alice, agent, request) ? issued : refused);
    // Leaving out or blanking a parameter never gives more than a request
    // without it may have: each is held to the oracle on its own.
    for (const auto& variant : lesser(request)) {
      ++(runner.holds(world, alice, agent, variant) ? issued : refused);
    }
    if (testing::Test::HasFailure()) return;
  }
  RecordProperty("issued", static_cast<int>(issued));
  // The generator must not drift into refusing everything.
  EXPECT_GT(issued, runs / 10) << issued << " issued, " << refused << " refused";
}

}  // namespace
}  // namespace postern::grants
