// An explanation never disagrees with the decision, over random tenants and
// requests; and doing what it says would allow a request allows it.
//
//   POSTERN_PROPERTY_RUNS   random tenants (default 200, three requests each)
//   POSTERN_PROPERTY_SEED   to repeat a run (printed on failure)

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "grants/explain.h"
#include "support/from_environment.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using test::from_environment;
using test::GrantsFixture;
using test::must;
using token::Json;

class World : public GrantsFixture {
 public:
  explicit World(std::uint64_t seed) : random_(seed) {}

  /// Another tenant: roles, bindings, client and guardrails at random.
  void renew() {
    manifest = acme();
    backend("files")["scope_patterns"] = {"user/*"};
    if (chance(5)) backend("github")["token_field"] = "token";
    if (chance(2)) backend("files")["require"] = {{"acr", {"phr"}}};
    const std::vector<std::string> permissions{
        "*:*",           "files:*",  "files:files:*", "files:files:read", "github:*",
        "github:repo:*", "search:*", "*:files:write", "files:user/*",     "github:repo:read",
    };
    auto own = permissions;
    own.push_back("files:user/{sub}/*");
    manifest["roles"] = Json::array();
    manifest["bindings"] = Json::array();
    for (int i = 0; i < 3; ++i) {
      const auto name = "r" + std::to_string(i);
      manifest["roles"].push_back(
          {{"name", name},
           {"allow", some(own, 5)},
           {"deny", chance(2) ? some(permissions, 1) : std::vector<std::string>()}});
      Json binding{{"role", name}, {"groups", some({"g0", "g1"}, 6)}};
      if (chance(2)) binding["claims"] = {{"department", {one({"a", "b"})}}};
      if (chance(2)) binding["issuer"] = "corp";
      if (chance(3)) {
        binding["subjects"].push_back({{"issuer", idp.issuer()}, {"subject", "alice"}});
      }
      if (binding["groups"].empty() && !binding.contains("subjects") &&
          !binding.contains("claims")) {
        continue;
      }
      manifest["bindings"].push_back(binding);
    }
    client()["backends"] = chance(8) ? Json({"*"}) : Json(some({"files", "search", "github"}, 5));
    client()["scopes"] =
        chance(6) ? Json({"*"}) : Json(some({"files:read", "files:write", "repo:read"}, 6));
    client()["enabled"] = !chance(1);
    if (chance(1)) client()["grants"] = {"client_credentials"};
    limit(Json::object());  // what follows may go beyond the last tenant's
    load();
    Json guardrails = Json::object();
    if (chance(1)) guardrails["signing_algorithms"] = {"EdDSA"};
    if (chance(1)) guardrails["client_authentication"] = {"private_key_jwt"};
    if (chance(3)) guardrails["impersonation"] = false;
    limit(guardrails);
  }
  void limit(const Json& guardrails) {
    tenants.apply({{"tenant", "acme"}, {"guardrails", guardrails}}, clock.now(), policy::Prune::No);
    snapshot = tenants.snapshot(tenant);
    guardrails_ = guardrails;
  }
  void reload() {
    const auto kept = guardrails_;
    limit(Json::object());
    load();
    limit(kept);
  }

  std::string token() {
    auto claims = idp.claims("alice", clock.now());
    if (chance(2)) claims["may_act"] = {{"sub", one({"gw-01", "agent", "other"})}};
    if (chance(3)) claims["act"] = chain(1 + random_() % 5);
    claims["groups"] = some({"g0", "g1"}, 7);
    if (chance(6)) claims["department"] = chance(5) ? Json(one({"a", "b"})) : Json({"x", "a"});
    if (chance(5)) claims["acr"] = one({"phr", "pwd"});
    if (chance(4)) {
      std::string scope;
      for (const auto& item : some({"files:read", "files:write", "repo:read", "repo:write"}, 7)) {
        scope += item + " ";
      }
      claims["scope"] = scope;
    }
    return idp.sign(claims);
  }
  std::string actor_token() {
    auto claims = idp.claims("agent", clock.now());
    if (chance(2)) claims["act"] = chain(1);
    return idp.sign(claims);
  }
  /// Whoever acted before, this deep.
  static Json chain(std::size_t depth) {
    Json act;
    for (std::size_t i = 0; i < depth; ++i) {
      Json outer{{"sub", "agent-" + std::to_string(i)}};
      if (!act.is_null()) outer["act"] = std::move(act);
      act = std::move(outer);
    }
    return act;
  }
  std::string target() { return one({"files", "docs", "search", "github", "nope"}); }
  std::optional<std::string> scope() {
    if (chance(4)) return std::nullopt;
    return one({"files:read", "files:read", "files:write", "repo:read", "user/alice/x",
                "user/bob/x", "openid", "files:read files:write", "repo:read repo:write",
                "user/alice/../x", "nope", "files:read user/alice/x", "files:*", "a\"b"});
  }

  bool chance(std::size_t of_ten) { return random_() % 10 < of_ten; }
  std::string one(const std::vector<std::string>& from) { return from[random_() % from.size()]; }
  std::vector<std::string> some(const std::vector<std::string>& from, std::size_t of_ten) {
    std::vector<std::string> out;
    for (const auto& item : from) {
      if (chance(of_ten)) out.push_back(item);
    }
    return out;
  }

 private:
  std::mt19937_64 random_;
  Json guardrails_ = Json::object();
};

/// The same as what the grant does, in every respect that a client sees.
void expect_same(const Explanation& explanation, const Result<IssuedToken>& issued) {
  ASSERT_EQ(explanation.allowed(), issued.ok())
      << (issued.ok() ? explanation.refusal->detail : issued.error().detail);
  if (issued.ok()) {
    EXPECT_EQ(explanation.granted, issued.value().scope);
    EXPECT_EQ(explanation.refused_by, "");
    return;
  }
  EXPECT_EQ(explanation.refusal->code, issued.error().code);
  EXPECT_EQ(explanation.refusal->detail, issued.error().detail);
  EXPECT_NE(explanation.refused_by, "");
}

/// Does what the hints say. False when one is beyond the tenant's configuration.
bool follow(World& world, const Explanation& explanation, Question& question) {
  auto role = [&](const std::string& name) -> Json& {
    for (auto& candidate : world.manifest["roles"]) {
      if (candidate.at("name") == name) return candidate;
    }
    throw std::logic_error("a hint names a role that is not there");
  };
  const Json me{{"issuer", world.idp.issuer()}, {"subject", "alice"}};
  for (const auto& hint : explanation.hints) {
    const auto& details = hint.details;
    if (hint.kind == "deny") {
      auto& deny = role(details.at("role")).at("deny");
      auto kept = Json::array();
      for (const auto& permission : deny) {
        if (permission != details.at("permission")) kept.push_back(permission);
      }
      deny = kept;
    } else if (hint.kind == "permission" || hint.kind == "binding") {
      const auto name = "fix" + std::to_string(world.manifest["roles"].size());
      world.manifest["roles"].push_back({{"name", name}, {"allow", {details.at("permission")}}});
      world.manifest["bindings"].push_back({{"role", name}, {"subjects", {me}}});
    } else if (hint.kind == "client_scope") {
      if (world.client()["scopes"] != Json({"*"})) {
        world.client()["scopes"].push_back(details.at("scope"));
      }
    } else if (hint.kind == "client_backend") {
      world.client()["backends"].push_back(details.at("backend"));
    } else if (hint.kind == "client_grant") {
      world.client()["grants"].push_back(details.at("grant"));
    } else if (hint.kind == "client") {
      world.client()["enabled"] = true;
    } else if (hint.kind == "token_scope") {
      auto wider = *question.subject;
      wider.scope.reset();
      question.subject = std::make_shared<const VerifiedToken>(std::move(wider));
    } else if (hint.kind == "authentication") {
      auto stronger = *question.subject;
      stronger.auth_context["acr"] = details.at("one_of_acr")[0];
      question.subject = std::make_shared<const VerifiedToken>(std::move(stronger));
    } else if (hint.kind == "guardrail") {
      world.limit(Json::object());
    } else if (hint.kind == "credential") {
      world.store("github", "alice", {{"token", "t"}});
    } else {
      return false;  // target, subject, actor, unknown_scope: the request itself
    }
  }
  world.reload();
  question.client = &world.gateway();
  return true;
}

TEST(Explain, NeverDisagreesWithTheDecision) {
  const auto seed = from_environment("POSTERN_PROPERTY_SEED", std::random_device{}());
  const auto runs = from_environment("POSTERN_PROPERTY_RUNS", 200);
  std::uint64_t allowed = 0, refused = 0, put_right = 0;
  World world(seed);
  const vault::CredentialKey github{Owner::principal({world.idp.issuer(), "alice"}),
                                    CredentialName("github")};
  const auto explained = [&](const Question& question) {
    return explain(*world.snapshot, question, world.clock.now(), nullptr, Wait::Database,
                   &world.credentials);
  };
  for (std::uint64_t run = 0; run < runs && !testing::Test::HasFailure(); ++run) {
    SCOPED_TRACE("POSTERN_PROPERTY_SEED=" + std::to_string(seed) + " run " + std::to_string(run));
    world.renew();
    static_cast<void>(world.credentials.remove(world.tenant, github, std::nullopt, {}));
    if (!world.chance(2)) {
      const auto ends = world.clock.now() + std::chrono::seconds(world.chance(2) ? 0 : 60);
      world.store("github", "alice", {{world.chance(2) ? "key" : "token", "t"}}, ends);
    }
    for (int i = 0; i < 3; ++i) {
      const auto target = world.target();
      const auto text = world.token();
      const auto scope = world.scope();
      const auto verified = world.verify(text);
      if (!verified.ok()) {  // a role that denies everything disables the user
        EXPECT_EQ(verified.error().detail, "this user is disabled");
        ++refused;
        continue;
      }
      const auto subject = verified.value();
      Question question;
      question.client = &world.gateway();
      question.subject = subject;
      question.audiences = {target};
      question.scope = scope;
      std::string actor;
      const bool by_release =
          target == "github" && !world.backend("github").contains("token_field");
      if (!by_release && world.chance(3)) {
        actor = world.actor_token();
        const auto acting = world.verify(actor);
        if (!acting.ok()) {
          EXPECT_EQ(acting.error().detail, "this user is disabled");
          continue;
        }
        question.actor = acting.value();
      }
      const auto explanation = explained(question);
      ++(explanation.allowed() ? allowed : refused);
      SCOPED_TRACE(write(*world.snapshot, explanation).dump());

      if (by_release) {
        auto record = world.record();
        const bool may = question.client->grants.count(policy::GrantType::TokenExchange) != 0;
        const auto released = [&]() -> Result<ReleasedItem> {
          POSTERN_CHECK(world.release.verify_subject(*world.snapshot, world.caller(), text,
                                                     GrantsFixture::kAccessToken, Wait::Yes));
          return world.release.release(*world.snapshot, world.caller(), *subject,
                                       {target, false, scope}, record);
        }();
        EXPECT_EQ(explanation.allowed(), may && released.ok());
        if (may && !released.ok()) {
          EXPECT_EQ(explanation.refusal->detail, released.error().detail);
        }
      } else {
        auto request = world.request(text);
        request.audiences = {target};
        if (scope) request.scope = *scope;
        if (!actor.empty()) {
          request.actor_token = actor;
          request.actor_token_type = GrantsFixture::kAccessToken;
        }
        expect_same(explanation, world.exchange(request));
      }
      Question own = question;
      own.subject.reset();
      own.actor.reset();
      auto record = world.record();
      expect_same(explained(own),
                  world.client_credentials.grant(
                      *world.snapshot, world.caller(), question.audiences, {},
                      scope ? std::optional<std::string_view>(*scope) : std::nullopt, record));

      // What stood in the way is named, and gone when it is put right. A malformed
      // scope is nothing that policy could put right.
      if (explanation.allowed() || i != 0 || scope == "a\"b" || scope == "user/alice/../x")
        continue;
      auto again = explanation;
      bool possible = true;
      for (int step = 0; step < 8 && possible && !again.allowed(); ++step) {
        ASSERT_FALSE(again.hints.empty());
        possible = follow(world, again, question);
        again = explained(question);
      }
      EXPECT_TRUE(again.allowed() || !possible);
      put_right += again.allowed();
      break;  // the world is another now
    }
  }
  // The generator must not drift into one answer.
  EXPECT_GT(allowed, runs / 10) << allowed << " allowed, " << refused << " refused";
  EXPECT_GT(refused, runs / 10);
  EXPECT_GT(put_right, runs / 20);
}

}  // namespace
}  // namespace postern::grants
