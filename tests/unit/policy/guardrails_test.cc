#include "policy/guardrails.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "policy/authorize.h"
#include "policy/manifest.h"
#include "support/code_of.h"
#include "support/tenant_fixture.h"

namespace postern::policy {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::must;
using test::TenantFixture;

Json limits() {
  return {{"max_token_lifetime", 120},
          {"issuers", {"https://idp.acme.example"}},
          {"impersonation", false},
          {"reveal", false},
          {"vault_api", false},
          {"client_authentication", {"private_key_jwt"}},
          {"signing_algorithms", {"ES256"}}};
}

TEST(ReadGuardrails, TakesWhatItWrites) {
  const auto read = read_guardrails(limits(), "");
  ASSERT_TRUE(read.ok()) << read.error().detail;
  EXPECT_EQ(write(read.value()), limits());
  EXPECT_EQ(must(read_guardrails(Json::object(), "")), Guardrails{});
  EXPECT_EQ(write(Guardrails{}), Json::object());
}

TEST(ReadGuardrails, NothingAllowedIsNotNothingLimited) {
  const auto none = must(read_guardrails({{"issuers", Json::array()},
                                          {"client_authentication", Json::array()},
                                          {"signing_algorithms", Json::array()}},
                                         ""));
  EXPECT_FALSE(none.allows_issuer("https://idp.acme.example"));
  EXPECT_FALSE(none.allows(ClientAuthentication::Secret));
  EXPECT_FALSE(none.allows_signing(crypto::Algorithm::ES256));
  EXPECT_EQ(must(read_guardrails(write(none), "")), none);
}

TEST(ReadGuardrails, ADecisionPointIsTheUrlOfADecision) {
  const auto read = [](Json point) {
    return read_guardrails({{"decision_point", std::move(point)}}, "/guardrails");
  };
  const auto whole = must(read({{"url", "https://opa.example/v1/data/a"}}));
  EXPECT_EQ(
      write(whole).at("decision_point"),
      Json({{"url", "https://opa.example/v1/data/a"}, {"timeout_ms", 500}, {"cache_for", 5}}));
  EXPECT_EQ(must(read_guardrails(write(whole), "")), whole);
  for (const char* url :
       {"", "https://opa.example", "https://opa.example/v1/data", "https://opa.example/v1/data/",
        "https://opa.example/v1/data/../policies/x", "https://opa.example/v1/data/x?explain=full",
        "https://opa.example/v1/data/%2e%2e/policies/x", "https://opa.example/v1/data/x#y",
        "https://u:p@opa.example/v1/data/x", "http://opa.example/v1/data/x",
        "http://127.0.0.1.evil.example/v1/data/x", "ftp://opa.example/v1/data/x",
        "opa.example/v1/data/x"}) {
    const auto refused = read({{"url", url}});
    ASSERT_FALSE(refused.ok()) << url;
    EXPECT_EQ(refused.error().pointer, "/guardrails/decision_point/url");
  }
  EXPECT_TRUE(read({{"url", "http://127.0.0.1:8181/v1/data/x"}}).ok());
  const auto pointer = [&](const char* member, Json value) {
    const auto refused = read({{"url", "https://opa.example/v1/data/a"}, {member, value}});
    return refused.ok() ? std::string("accepted") : refused.error().pointer;
  };
  EXPECT_EQ(pointer("timeout_ms", 49), "/guardrails/decision_point/timeout_ms");
  EXPECT_EQ(pointer("timeout_ms", 2001), "/guardrails/decision_point/timeout_ms");
  EXPECT_EQ(pointer("timeout_ms", 50.5), "/guardrails/decision_point/timeout_ms");
  EXPECT_EQ(pointer("timeout_ms", 18446744073709551615u), "/guardrails/decision_point/timeout_ms");
  EXPECT_EQ(pointer("timeout_ms", 2000), "accepted");
  EXPECT_EQ(pointer("cache_for", -1), "/guardrails/decision_point/cache_for");
  EXPECT_EQ(pointer("cache_for", 61), "/guardrails/decision_point/cache_for");
  EXPECT_EQ(pointer("cache_for", 0), "accepted");
  EXPECT_EQ(pointer("fail_open", true), "/guardrails/decision_point/fail_open");
}

TEST(ReadGuardrails, NamesThePlaceOfTheFirstProblem) {
  const auto pointer = [](const char* member, Json value) {
    auto json = limits();
    json[member] = std::move(value);
    const auto read = read_guardrails(json, "/guardrails");
    return read.ok() ? std::string("accepted") : read.error().pointer;
  };
  EXPECT_EQ(pointer("max_token_lifetime", 9), "/guardrails/max_token_lifetime");
  EXPECT_EQ(pointer("max_token_lifetime", 3601), "/guardrails/max_token_lifetime");
  EXPECT_EQ(pointer("max_token_lifetime", "60"), "/guardrails/max_token_lifetime");
  EXPECT_EQ(pointer("issuers", "https://idp.acme.example"), "/guardrails/issuers");
  EXPECT_EQ(pointer("issuers", {"*"}), "/guardrails/issuers/0");
  EXPECT_EQ(pointer("issuers", {"https://a.example", "http://b.example"}), "/guardrails/issuers/1");
  EXPECT_EQ(pointer("impersonation", 0), "/guardrails/impersonation");
  EXPECT_EQ(pointer("reveal", "no"), "/guardrails/reveal");
  EXPECT_EQ(pointer("client_authentication", {"none"}), "/guardrails/client_authentication/0");
  EXPECT_EQ(pointer("signing_algorithms", {"HS256"}), "/guardrails/signing_algorithms/0");
  EXPECT_EQ(pointer("impersonate", false), "/guardrails/impersonate");
  EXPECT_EQ(read_guardrails(Json::array(), "/guardrails").error().pointer, "/guardrails");
}

/// The fixture's tenant, what plan() says of a manifest, and what is stored then.
struct Planned : TenantFixture {
  Result<Plan> plan(const Json& json, Prune prune = Prune::No) {
    return policy::plan(must(Manifest::read(json)), &tenants.stored(tenant), prune, clock.now());
  }
  void limit(Json guardrails) {
    tenants.apply({{"tenant", "acme"}, {"guardrails", std::move(guardrails)}}, clock.now(),
                  Prune::No);
    snapshot = tenants.snapshot(tenant);
  }
};

TEST(Guardrails, StayWhenAManifestLeavesThemOut) {
  Planned f;
  f.limit(limits());
  for (const auto prune : {Prune::No, Prune::Yes}) {
    f.tenants.apply({{"tenant", "acme"}, {"settings", Json::object()}}, f.clock.now(), prune);
    f.tenants.apply({{"tenant", "acme"}}, f.clock.now(), prune);
    EXPECT_EQ(write(guardrails_of(f.tenants.stored(f.tenant).row)), limits());
  }
  f.limit(Json::object());
  EXPECT_EQ(guardrails_of(f.tenants.stored(f.tenant).row), Guardrails{});
}

TEST(Guardrails, AreSetWithoutTouchingTheSettings) {
  Planned f;
  const auto before = f.snapshot->settings().connect_url;
  f.limit(limits());
  EXPECT_EQ(f.snapshot->settings().connect_url, before);
  const auto plan = must(f.plan({{"tenant", "acme"}, {"guardrails", {{"impersonation", false}}}}));
  EXPECT_EQ(plan.lines.front().fields, std::vector<std::string>{"/guardrails"});
  // Said again, nothing changes.
  EXPECT_TRUE(must(f.plan({{"tenant", "acme"}, {"guardrails", limits()}})).empty());
}

TEST(Guardrails, StandBesideTheSettingsInAManifest) {
  const auto within =
      Manifest::read({{"tenant", "acme"}, {"settings", {{"guardrails", Json::object()}}}});
  ASSERT_EQ(code_of(within), ErrorCode::MalformedRequest);
  EXPECT_EQ(within.error().pointer, "/settings/guardrails");
  Planned f;
  f.limit(limits());
  const auto manifest = write_manifest(f.tenants.stored(f.tenant));
  EXPECT_EQ(manifest.at("guardrails"), limits());
  EXPECT_FALSE(manifest.at("settings").contains("guardrails"));
}

TEST(Guardrails, ALongerLifetimeIsRefused) {
  Planned f;
  f.limit({{"max_token_lifetime", 120}});
  const auto longer = f.plan({{"tenant", "acme"}, {"settings", {{"max_token_lifetime", 121}}}});
  ASSERT_EQ(code_of(longer), ErrorCode::Forbidden);
  EXPECT_EQ(longer.error().pointer, "/settings/max_token_lifetime");
  EXPECT_TRUE(f.plan({{"tenant", "acme"}, {"settings", {{"max_token_lifetime", 120}}}}).ok());
  // A default is no wish.
  f.tenants.apply({{"tenant", "acme"}, {"settings", Json::object()}}, f.clock.now(), Prune::No);
  EXPECT_EQ(f.tenants.snapshot(f.tenant)->settings().max_token_lifetime, 120s);
  // Not even in one manifest with the guardrail.
  EXPECT_EQ(code_of(f.plan({{"tenant", "acme"},
                            {"guardrails", {{"max_token_lifetime", 60}}},
                            {"settings", {{"max_token_lifetime", 61}}}})),
            ErrorCode::Forbidden);
}

TEST(Guardrails, RevealingIsOffUntilTheTenantSaysSoAndTheOperatorDoesNotForbidIt) {
  Planned f;
  const auto settings = [&] { return f.tenants.snapshot(f.tenant)->settings(); };
  const auto set = [&](bool reveal) {
    return Json{{"tenant", "acme"}, {"settings", {{"reveal", reveal}}}};
  };
  EXPECT_FALSE(settings().may_reveal());
  f.tenants.apply(set(true), f.clock.now(), Prune::No);
  EXPECT_TRUE(settings().may_reveal());
  // A guardrail that comes later holds at once.
  f.limit({{"reveal", false}});
  EXPECT_TRUE(settings().reveal);
  EXPECT_FALSE(settings().may_reveal());
  // Settings that do not name it take it back; then it cannot be had again.
  f.tenants.apply({{"tenant", "acme"}, {"settings", Json::object()}}, f.clock.now(), Prune::No);
  EXPECT_FALSE(settings().reveal);
  const auto refused = f.plan(set(true));
  ASSERT_EQ(code_of(refused), ErrorCode::Forbidden);
  EXPECT_EQ(refused.error().pointer, "/settings/reveal");
  EXPECT_TRUE(f.plan(set(false)).ok());
  auto both = set(true);
  both["guardrails"] = {{"reveal", false}};
  EXPECT_EQ(code_of(f.plan(both)), ErrorCode::Forbidden);
  f.limit(Json::object());
  EXPECT_TRUE(f.plan(set(true)).ok());
}

TEST(Guardrails, TheVaultApiIsOffUntilTheTenantSaysSoAndTheOperatorDoesNotForbidIt) {
  Planned f;
  const auto settings = [&] { return f.tenants.snapshot(f.tenant)->settings(); };
  const auto set = [&](const Json& members) {
    return Json{{"tenant", "acme"}, {"settings", members}};
  };
  const Json on{{"vault_api", Json::object()}};
  EXPECT_EQ(settings().vault(), nullptr);
  f.tenants.apply(set(on), f.clock.now(), Prune::No);
  EXPECT_NE(settings().vault(), nullptr);
  f.limit({{"vault_api", false}});
  EXPECT_TRUE(settings().vault_api.has_value());
  EXPECT_EQ(settings().vault(), nullptr) << "a guardrail that comes later holds at once";
  f.tenants.apply(set(Json::object()), f.clock.now(), Prune::No);
  const auto refused = f.plan(set(on));
  ASSERT_EQ(code_of(refused), ErrorCode::Forbidden);
  EXPECT_EQ(refused.error().pointer, "/settings/vault_api");
  f.limit(Json::object());
  EXPECT_TRUE(f.plan(set(on)).ok());
}

TEST(Guardrails, ATenantMayBeMadeWithThem) {
  const auto manifest = must(Manifest::read(
      {{"tenant", "acme"}, {"guardrails", {{"max_token_lifetime", 60}, {"issuers", {}}}}}));
  const auto made = must(plan(manifest, nullptr, Prune::No, sys_seconds(0s)));
  const auto stored = Json::parse(*made.change.settings);
  EXPECT_EQ(stored.at("max_token_lifetime"), 60);
  EXPECT_EQ(stored.at("guardrails").at("max_token_lifetime"), 60);
}

TEST(Guardrails, WhatChangesAndGoesBeyondIsRefused) {
  Planned f;
  f.limit({{"issuers", {f.idp.issuer()}},
           {"client_authentication", {"client_secret"}},
           {"signing_algorithms", {"ES256", "EdDSA"}}});
  const auto refused = [&](const char* section, Json object, Prune prune = Prune::No) {
    const auto planned = f.plan({{"tenant", "acme"}, {section, Json::array({object})}}, prune);
    EXPECT_EQ(code_of(planned), ErrorCode::Forbidden) << object;
    return planned.ok() ? std::string() : planned.error().pointer;
  };
  Json issuer{{"name", "other"},
              {"issuer", "https://idp.elsewhere.example"},
              {"discovery", true},
              {"subject_prefix", "o:"},
              {"audiences", {"gw-01"}}};
  EXPECT_EQ(refused("issuers", issuer), "/issuers/0/issuer");
  EXPECT_EQ(refused("issuers", issuer, Prune::Yes), "/issuers/0/issuer");
  issuer["enabled"] = false;  // it could be enabled by a later hand
  EXPECT_EQ(refused("issuers", issuer), "/issuers/0/issuer");
  issuer["name"] = "corp";  // in the place of one that is allowed
  EXPECT_EQ(refused("issuers", issuer), "/issuers/0/issuer");
  // Almost the allowed one.
  for (const std::string& almost :
       {f.idp.issuer() + "/", std::string("https://IDP.acme.example"), f.idp.issuer() + "."}) {
    issuer["issuer"] = almost;
    EXPECT_EQ(refused("issuers", issuer), "/issuers/0/issuer");
  }
  EXPECT_EQ(
      refused("clients",
              {{"id", "gw-09"},
               {"authentication",
                {{"method", "tls_client_auth"}, {"tls_subject", {{"dns", "gw.example.com"}}}}}}),
      "/clients/0/authentication");
  EXPECT_EQ(refused("backends", {{"name", "b"},
                                 {"audience", "https://b.example/mcp"},
                                 {"signing_algorithm", "RS256"}}),
            "/backends/0/signing_algorithm");
}

TEST(Guardrails, WhatWentBeyondBeforeStaysWithAWarning) {
  Planned f;
  f.limit({{"issuers", {"https://idp.elsewhere.example"}},
           {"client_authentication", {"private_key_jwt"}}});
  const auto again = must(f.plan(f.manifest));
  EXPECT_TRUE(again.empty());
  EXPECT_GE(again.warnings.size(), 2u);
  // It cannot be touched without being put right.
  auto touched = f.manifest;
  touched["clients"][0]["audiences"] = {"x"};
  EXPECT_EQ(code_of(f.plan(touched)), ErrorCode::Forbidden);
}

TEST(Guardrails, AnIssuerThatIsNotAllowedIsNoIssuer) {
  Planned f;
  ASSERT_NE(f.snapshot->find_issuer(f.idp.issuer()), nullptr);
  f.limit({{"issuers", Json::array()}});
  EXPECT_EQ(f.snapshot->find_issuer(f.idp.issuer()), nullptr);
  f.limit({{"issuers", {f.idp.issuer()}}});
  EXPECT_NE(f.snapshot->find_issuer(f.idp.issuer()), nullptr);
}

TEST(Guardrails, AClientThatMayNotAuthenticateSoReachesNothing) {
  Planned f;
  f.limit({{"client_authentication", {"private_key_jwt"}}});
  EXPECT_EQ(code_of(resolve_target(*f.snapshot, f.gateway(), {"files"}, {})),
            ErrorCode::UnauthorizedClient);
}

}  // namespace
}  // namespace postern::policy
