#include "grants/own_token.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "crypto/base64url.h"
#include "grants/introspection.h"
#include "grants/revocation.h"
#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::GrantsFixture;
using test::must;
using test::seconds_of;
using token::Json;

std::string text(const IssuedToken& issued) {
  return issued.access_token.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
}

/// alice's token goes from gw-01 to the backend `files`, whose own gateway asks
/// for one at `search`.
struct Chain : GrantsFixture {
  Chain() {
    const auto add = [&](const char* id, Json introspects) {
      manifest["clients"].push_back({{"id", id},
                                     {"grants", {"token-exchange", "client_credentials"}},
                                     {"backends", {"*"}},
                                     {"scopes", {"*"}},
                                     {"introspects", std::move(introspects)},
                                     {"introspection_algorithm", "ES256"}});
    };
    add("files-gw", {"files"});
    add("search-gw", {"search"});
    add("bystander", Json::array());
    backend("search")["scopes"] = {"search:query", "search:admin"};
    load();
  }

  Result<IssuedToken> exchange_as(const char* client, std::string_view token,
                                  std::string_view audience,
                                  std::optional<std::string_view> scope = std::nullopt,
                                  std::optional<std::string_view> actor = std::nullopt) {
    auto asked = request(token);
    asked.audiences = {audience};
    asked.scope = scope;
    if (actor) {
      asked.actor_token = actor;
      asked.actor_token_type = kAccessToken;
    }
    last_record = record();
    return token_exchange.exchange(*snapshot, Caller(gateway(client)), asked, Wait::Yes,
                                   last_record);
  }
  /// A token of ours for alice at `files`, which gw-01 got.
  std::string files_token(std::optional<std::string_view> scope = std::nullopt) {
    return text(must(exchange_as("gw-01", subject_token(), "files", scope)));
  }
  std::string client_token(const char* client) {
    last_record = record();
    return text(must(client_credentials.grant(*snapshot, Caller(gateway(client)), {"files"}, {},
                                              std::nullopt, last_record)));
  }
  /// Whether the gateway of `files` may still exchange it onward.
  std::optional<ErrorCode> onward(const std::string& token) {
    return code_of(exchange_as("files-gw", token, "search"));
  }
  std::string sign(const Json& claims, std::string_view typ = "at+jwt") {
    const auto* signer = snapshot->signer(crypto::Algorithm::ES256, clock.now());
    return token::sign_jwt(*signer->key, signer->kid, typ, claims);
  }
  Json look(const char* client, const std::string& token) {
    last_record = record("token.introspect");
    return must(introspection.introspect(*snapshot, Caller(gateway(client)), token, last_record));
  }
  bool active(const std::string& token) { return look("files-gw", token).at("active"); }
  void revoke(const char* client, const std::string& token) {
    last_record = record("token.revoke");
    const auto status =
        revocation.revoke(*snapshot, Caller(gateway(client)), token, Wait::Yes, last_record);
    ASSERT_TRUE(status.ok()) << status.error().detail;
  }
  std::string effect() const { return test::field_of(last_record, "effect"); }

  Introspection introspection{own_tokens};
  Revocation revocation{verifier, own_tokens, revocations};
};

// ---- who may exchange a token of ours, and for what ----

TEST(ChainedExchange, TheResourceServerOfItsAudienceMayCallOnward) {
  Chain f;
  const auto issued = f.exchange_as("files-gw", f.files_token(), "search", "search:query");
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  const auto claims = f.open(issued.value().access_token);
  EXPECT_EQ(claims.at("sub"), "alice");
  EXPECT_EQ(claims.at("aud"), "https://search.example.com/mcp");
  EXPECT_EQ(claims.at("client_id"), "files-gw");
  EXPECT_EQ(claims.at("scope"), "search:query");
}

TEST(ChainedExchange, TheClientThatGotItMay) {
  Chain f;
  EXPECT_TRUE(f.exchange_as("gw-01", f.files_token(), "search").ok());
}

TEST(ChainedExchange, NobodyElseMay) {
  Chain f;
  const auto token = f.files_token();
  EXPECT_EQ(code_of(f.exchange_as("bystander", token, "search")), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(f.exchange_as("search-gw", token, "search")), ErrorCode::InvalidToken);
  // What a client may be named as in an issuer's tokens says nothing about ours.
  for (auto& client : f.manifest["clients"]) {
    if (client["id"] == "bystander") client["audiences"] = {"https://files.example.com/mcp"};
  }
  f.load();
  EXPECT_EQ(code_of(f.exchange_as("bystander", f.files_token(), "search")),
            ErrorCode::InvalidToken);
}

TEST(ChainedExchange, X8_TheChainOfActorsOnlyGrows) {
  Chain f;
  const auto first = f.files_token();
  EXPECT_FALSE(f.open(first).contains("act"));
  const auto second = text(must(f.exchange_as("files-gw", first, "search")));
  EXPECT_EQ(f.open(second).at("act"), Json({{"sub", "files-gw"}, {"act", {{"sub", "gw-01"}}}}));
  const auto third = text(must(f.exchange_as("search-gw", second, "files")));
  EXPECT_EQ(f.open(third).at("act"),
            Json({{"sub", "search-gw"}, {"act", f.open(second).at("act")}}));
}

TEST(ChainedExchange, X9_FiveActorsAndNoMore) {
  Chain f;
  auto token = f.files_token();
  for (int i = 0; i < 4; ++i) token = text(must(f.exchange_as("gw-01", token, "files")));
  EXPECT_EQ(f.open(token).at("postern").at("ancestors").size(), 5u);
  EXPECT_EQ(code_of(f.exchange_as("gw-01", token, "files")), ErrorCode::MalformedRequest);
}

TEST(ChainedExchange, X15_NeverOutlivesWhatItRestsOn) {
  Chain f;
  auto claims = f.claims();
  claims["exp"] = seconds_of(f.clock.now() + 100s);
  const auto first = text(must(f.exchange_as("gw-01", f.idp.sign(claims), "files")));
  f.clock.advance(40s);
  EXPECT_EQ(must(f.exchange_as("files-gw", first, "search")).expires_in, 60s);
  f.clock.advance(60s);
  EXPECT_EQ(f.onward(first), ErrorCode::InvalidToken);
}

TEST(ChainedExchange, NeverWidensAtTheSameBackend) {
  Chain f;
  const auto token = f.files_token("files:read");
  EXPECT_EQ(must(f.exchange_as("files-gw", token, "files")).scope.str(), "files:read");
  EXPECT_EQ(code_of(f.exchange_as("files-gw", token, "files", "files:write")),
            ErrorCode::ScopeRefused);
}

TEST(ChainedExchange, NeverWidensByADetour) {
  Chain f;
  const auto there =
      text(must(f.exchange_as("files-gw", f.files_token("files:read"), "search", "search:query")));
  const auto back = text(must(f.exchange_as("search-gw", there, "files")));
  EXPECT_EQ(f.open(back).at("scope"), "files:read");
  EXPECT_EQ(code_of(f.exchange_as("search-gw", there, "files", "files:write")),
            ErrorCode::ScopeRefused);
  EXPECT_EQ(code_of(f.exchange_as("files-gw", back, "search", "search:admin")),
            ErrorCode::ScopeRefused);
}

TEST(ChainedExchange, TheClientsOwnLimitsHold) {
  Chain f;
  for (auto& client : f.manifest["clients"]) {
    if (client["id"] == "files-gw") client["backends"] = {"files"};
  }
  f.load();
  EXPECT_EQ(f.onward(f.files_token()), ErrorCode::TargetRefused);
}

TEST(ChainedExchange, TheUsersScopeAtTheIssuerStaysTheCeiling) {
  Chain f;
  auto claims = f.claims();
  claims["scope"] = "files:read search:query unheard-of";
  const auto token = text(must(f.exchange_as("gw-01", f.idp.sign(claims), "files")));
  EXPECT_EQ(f.open(token).at("postern").at("scope"), "files:read search:query");
  EXPECT_EQ(must(f.exchange_as("files-gw", token, "search")).scope.str(), "search:query");
}

TEST(ChainedExchange, RightsAreThoseOfTheUserAtTheRoot) {
  Chain f;
  const auto token = f.files_token();
  f.role()["allow"] = {"files:*"};
  f.load();
  EXPECT_EQ(f.onward(token), ErrorCode::TargetRefused);
}

// The `sub` of our tokens may have a prefix; bindings know the user without.
TEST(ChainedExchange, ThePrincipalIsFoundBehindThePrefix) {
  Chain f;
  f.issuer()["subject_prefix"] = "corp:";
  f.manifest["bindings"] = {
      {{"role", "developer"}, {"subjects", {{{"issuer", f.idp.issuer()}, {"subject", "alice"}}}}}};
  f.load();
  const auto token = f.files_token();
  EXPECT_EQ(f.open(token).at("sub"), "corp:alice");
  const auto issued = f.exchange_as("files-gw", token, "search");
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  EXPECT_EQ(f.open(issued.value().access_token).at("sub"), "corp:alice");
  EXPECT_EQ(test::field_of(f.last_record, "subject"), "alice");
}

TEST(ChainedExchange, AChangedPrefixNeverMakesSomebodyElseOfIt) {
  Chain f;
  const auto token = f.files_token();
  f.issuer()["subject_prefix"] = "ali:";
  f.load();
  EXPECT_EQ(f.onward(token), ErrorCode::InvalidToken);
  EXPECT_FALSE(f.active(token));
}

TEST(ChainedExchange, X7_WhomTheUserLetActMayNotPassItOn) {
  Chain f;
  auto claims = f.claims();
  claims["may_act"] = {{"sub", "gw-01"}};
  const auto token = text(must(f.exchange_as("gw-01", f.idp.sign(claims), "files")));
  EXPECT_TRUE(f.exchange_as("gw-01", token, "search").ok());
  EXPECT_EQ(f.onward(token), ErrorCode::InvalidToken);

  claims["may_act"] = {{"sub", "files-gw"}};
  EXPECT_FALSE(f.exchange_as("gw-01", f.idp.sign(claims), "files").ok());
}

TEST(ChainedExchange, X7_AMayActTooLargeToCarryNamesNobody) {
  Chain f;
  auto claims = f.claims();
  // Of members that match as often as they are said.
  claims["may_act"] = {{"sub", "gw-01"}, {"client_id", "gw-01"}, {"iss", f.snapshot->issuer_url()}};
  const auto fits = text(must(f.exchange_as("gw-01", f.idp.sign(claims), "files")));
  EXPECT_TRUE(f.exchange_as("gw-01", fits, "search").ok());
  const auto subject = must(f.verify(f.idp.sign(claims)));
  auto large = *subject;
  large.may_act["sub"] = std::string(600, 'x');
  EXPECT_EQ(Json::parse(must(own_claim(*f.snapshot, large, nullptr))).at("may_act"),
            Json::object());
}

TEST(ChainedExchange, CarriesOnlyGroupsThatMatter) {
  Chain f;
  auto claims = f.claims();
  claims["groups"] = {"engineering", "works-council"};
  const auto token = text(must(f.exchange_as("gw-01", f.idp.sign(claims), "files")));
  EXPECT_EQ(f.open(token).at("postern").at("groups"), Json({"engineering"}));
  EXPECT_EQ(f.onward(token), std::nullopt);
}

TEST(ChainedExchange, ADenyOfAGroupThatWasNotCarriedIsNotMissed) {
  Chain f;
  auto claims = f.claims();
  claims["groups"] = {"engineering", "leavers"};
  const auto token = text(must(f.exchange_as("gw-01", f.idp.sign(claims), "files")));
  ASSERT_EQ(f.onward(token), std::nullopt);
  f.manifest["roles"].push_back({{"name", "gone"}, {"deny", {"search:*"}}});
  f.manifest["bindings"].push_back({{"role", "gone"}, {"groups", {"leavers"}}});
  f.load();
  EXPECT_EQ(f.onward(token), ErrorCode::InvalidToken);
  claims["groups"] = {"engineering"};
  const auto anew = text(must(f.exchange_as("gw-01", f.idp.sign(claims), "files")));
  EXPECT_EQ(f.onward(anew), std::nullopt);
}

TEST(ChainedExchange, TheIssuersAgeLimitCountsFromTheRoot) {
  Chain f;
  auto claims = f.claims();
  claims["exp"] = seconds_of(f.clock.now() + 1h);
  f.issuer()["max_token_age"] = 120;
  f.load();
  const auto token = text(must(f.exchange_as("gw-01", f.idp.sign(claims), "files")));
  f.clock.advance(180s);
  EXPECT_EQ(f.onward(token), std::nullopt);
  f.clock.advance(1s);
  EXPECT_EQ(f.onward(token), ErrorCode::InvalidToken);
}

// ---- what makes it worthless ----

TEST(ChainedExchange, StopsOnceAnyPartIsDisabled) {
  struct Switch {
    const char* what;
    const char* said;
    std::function<void(Chain&)> off;
  };
  const std::vector<Switch> switches{
      {"tenant", "this tenant is disabled", [](auto& f) { f.manifest["enabled"] = false; }},
      {"issuer", "the token's issuer is not trusted by this tenant",
       [](auto& f) { f.issuer()["enabled"] = false; }},
      {"client that got it", "the token's client is disabled",
       [](auto& f) { f.client()["enabled"] = false; }},
      {"its backend", "the token's backend is not open any more",
       [](auto& f) { f.backend("files")["enabled"] = false; }},
      {"role", "no role of this user opens this backend",
       [](auto& f) { f.role()["allow"] = Json::array(); }},
      {"user", "this user is disabled",
       [](auto& f) {
         f.manifest["roles"].push_back({{"name", "disabled"}, {"deny", {"*:*"}}});
         f.manifest["bindings"].push_back(
             {{"role", "disabled"},
              {"subjects", {{{"issuer", f.idp.issuer()}, {"subject", "alice"}}}}});
       }},
  };
  for (const auto& [what, said, off] : switches) {
    Chain f;
    const auto token = f.files_token();
    ASSERT_EQ(f.onward(token), std::nullopt) << what;
    ASSERT_TRUE(f.active(token)) << what;
    off(f);
    f.load();
    const auto refused = f.exchange_as("files-gw", token, "search");
    ASSERT_FALSE(refused.ok()) << what;
    EXPECT_EQ(refused.error().detail, said);
    EXPECT_FALSE(f.active(token)) << what;
  }
}

TEST(ChainedExchange, IsWorthNothingOnceItsClientMayNotUseItsBackend) {
  Chain f;
  const auto token = f.files_token();
  f.client()["backends"] = {"search"};
  f.load();
  EXPECT_FALSE(f.active(token));
}

TEST(ChainedExchange, IsWorthNothingOnceItsScopeIsNotPermitted) {
  Chain f;
  const auto token = f.files_token("files:read");
  f.role()["allow"] = {"files:files:write", "search:*"};
  f.load();
  EXPECT_FALSE(f.active(token));
  EXPECT_EQ(code_of(f.exchange_as("gw-01", token, "files")), ErrorCode::ScopeRefused);
  // Elsewhere what counts is what is permitted there.
  EXPECT_TRUE(f.exchange_as("gw-01", token, "search").ok());
}

TEST(ChainedExchange, AWithdrawnKeyVerifiesNothing) {
  Chain f;
  const auto token = f.files_token();
  std::erase_if(f.tenants.stored(f.tenant).signing_keys,
                [](const auto& key) { return key.algorithm == "ES256"; });
  f.tenants.stored(f.tenant).signing_keys.push_back(
      f.tenants.new_signing_key(f.tenant, crypto::Algorithm::ES256, f.clock.now()));
  f.snapshot = f.tenants.snapshot(f.tenant);
  EXPECT_EQ(f.onward(token), ErrorCode::InvalidToken);
  EXPECT_FALSE(f.active(token));
}

TEST(ChainedExchange, R4_DescendantsDieWithAnyAncestor) {
  for (const int victim : {0, 1, 2}) {
    Chain f;
    const auto root = f.subject_token();
    const auto first = text(must(f.exchange_as("gw-01", root, "files")));
    const auto second = text(must(f.exchange_as("gw-01", first, "search")));
    const auto third = text(must(f.exchange_as("gw-01", second, "files")));
    ASSERT_TRUE(f.active(third));
    f.revoke("gw-01", std::vector{root, first, second}[static_cast<std::size_t>(victim)]);
    EXPECT_EQ(f.effect(), "revoked");
    EXPECT_EQ(f.onward(third), ErrorCode::InvalidToken) << victim;
    EXPECT_FALSE(f.active(third)) << victim;
    EXPECT_EQ(f.onward(first) == std::nullopt, victim == 2) << "its elders live on";
  }
}

TEST(ChainedExchange, NothingWithoutKnowingWhatIsRevoked) {
  Chain f;
  const auto token = f.files_token();
  const auto root = f.subject_token();
  ASSERT_TRUE(f.exchange_as("gw-01", root, "files").ok());  // remembered from here on
  f.revocations.be_stale();
  EXPECT_EQ(f.onward(token), ErrorCode::Unavailable);
  EXPECT_EQ(code_of(f.exchange_as("gw-01", root, "files")), ErrorCode::Unavailable);
  auto record = f.record();
  EXPECT_EQ(code_of(f.introspection.introspect(*f.snapshot, Caller(f.gateway("files-gw")), token,
                                               record)),
            ErrorCode::Unavailable);
}

// ---- what it never opens ----

TEST(ChainedExchange, NeverOpensTheVault) {
  Chain f;
  f.store("github", "alice", {{"token", "ghp_alice"}});
  f.backend("github")["token_field"] = "token";
  f.load();
  const auto token = f.files_token();
  const auto direct = f.exchange_as("gw-01", f.subject_token(), "github");
  EXPECT_TRUE(direct.ok()) << direct.error().detail;
  EXPECT_EQ(code_of(f.exchange_as("gw-01", token, "github")), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(f.exchange_as("files-gw", token, "github")), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(f.release.verify_subject(*f.snapshot, Caller(f.gateway()), token,
                                             GrantsFixture::kAccessToken, Wait::Yes)),
            ErrorCode::InvalidToken);
}

TEST(ChainedExchange, IsNobodyAtTheRestApi) {
  Chain f;
  EXPECT_EQ(code_of(f.verifier.verify_user(*f.snapshot, f.files_token(), Wait::Yes)),
            ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(f.verifier.verify_user(*f.snapshot, f.client_token("gw-01"), Wait::Yes)),
            ErrorCode::InvalidToken);
}

TEST(ChainedExchange, AClientsOwnTokenIsNoSubject) {
  Chain f;
  const auto token = f.client_token("gw-01");
  EXPECT_EQ(code_of(f.exchange_as("gw-01", token, "search")), ErrorCode::InvalidToken);
  EXPECT_EQ(f.onward(token), ErrorCode::InvalidToken);
}

TEST(ChainedExchange, AClientsOwnTokenNamesAnActor) {
  Chain f;
  const auto agent = f.client_token("files-gw");
  const auto issued = f.exchange_as("files-gw", f.files_token(), "search", std::nullopt, agent);
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  const auto claims = f.open(issued.value().access_token);
  EXPECT_EQ(claims.at("act").at("sub"), "files-gw");
  EXPECT_EQ(claims.at("act").at("iss"), f.snapshot->issuer_url());
  EXPECT_EQ(claims.at("act").at("act"), Json({{"sub", "gw-01"}}));
  // And with it goes what it acted for.
  f.revoke("files-gw", agent);
  EXPECT_FALSE(f.look("search-gw", text(issued.value())).at("active"));
}

TEST(ChainedExchange, OfOtherKindsNothingPasses) {
  Chain f;
  const auto good = f.open(f.files_token());
  EXPECT_EQ(f.onward(f.sign(good)), std::nullopt);
  for (const char* typ : {"JWT", "token-introspection+jwt", "oauth-id-jag+jwt", "logout+jwt"}) {
    EXPECT_EQ(f.onward(f.sign(good, typ)), ErrorCode::InvalidToken) << typ;
    EXPECT_FALSE(f.active(f.sign(good, typ))) << typ;
  }
  const auto token = f.sign(good);
  auto asked = f.request(token);
  asked.subject_token_type = GrantsFixture::kIdToken;
  EXPECT_EQ(code_of(f.exchange(asked)), ErrorCode::InvalidToken);

  const std::vector<std::function<void(Json&)>> faults{
      [](Json& c) { c.erase("exp"); },
      [](Json& c) { c.erase("jti"); },
      [](Json& c) { c.erase("client_id"); },
      [](Json& c) { c.erase("postern"); },
      [](Json& c) { c["aud"] = {c["aud"]}; },
      [](Json& c) { c["aud"] = "https://elsewhere.example.com"; },
      [](Json& c) { c["iss"] = "https://sts.example.com/t/other"; },
      [](Json& c) { c["client_id"] = "nobody"; },
      [](Json& c) {
        c["sub"] = "bob";
        c["postern"]["sub"] = "alice";
      },
      [](Json& c) { c["postern"] = 1; },
      [](Json& c) { c["postern"].erase("iss"); },
      [](Json& c) { c["postern"]["iss"] = "https://untrusted.example.com"; },
      [](Json& c) { c["postern"]["ancestors"] = Json::array(); },
      [](Json& c) { c["postern"]["ancestors"] = {1}; },
      [](Json& c) { c["postern"].erase("epoch"); },
      [](Json& c) { c["postern"]["epoch"] = -1; },
      [](Json& c) { c["postern"]["groups"] = "engineering"; },
      [](Json& c) { c["postern"]["iat"] = "now"; },
      [](Json& c) { c["postern"]["claims"] = Json::array(); },
      [](Json& c) {
        c["postern"]["claims"] = {{"department", "finance"}};
      },
      [](Json& c) { c["postern"]["scope"] = "a\"b"; },
      [](Json& c) { c["postern"]["within"] = Json::array(); },
      [](Json& c) {
        c["postern"]["within"] = {{"files", "a\"b"}};
      },
      [](Json& c) { c["postern"]["may_act"] = Json::array(); },
      [](Json& c) { c["postern"]["whole"] = "department"; },
      [](Json& c) { c["iat"] = 1'990'000'000; },
      [](Json& c) { c["authorization_details"] = "none"; },
      [](Json& c) {
        c["authorization_details"] = {{{"type", "mcp_tool"}, {"more", true}}};
      },
      [](Json& c) {
        c["cnf"] = {{"kid", "x"}};
      },
  };
  for (std::size_t i = 0; i < faults.size(); ++i) {
    auto claims = good;
    faults[i](claims);
    EXPECT_EQ(f.onward(f.sign(claims)), ErrorCode::InvalidToken) << i;
    EXPECT_FALSE(f.active(f.sign(claims))) << i;
  }
}

TEST(OwnClaim, NamesAllThatATokenRestsOn) {
  Chain f;
  auto subject = *must(f.verify(f.subject_token()));
  auto actor = subject;
  subject.lineage = {"a", "b"};
  actor.lineage = {"c"};
  const auto claim = must(token::parse_json(must(own_claim(*f.snapshot, subject, &actor))));
  EXPECT_EQ(claim.at("ancestors"), Json({"a", "b", "c"}));

  subject.lineage.assign(kMaxAncestors - 1, "x");
  EXPECT_TRUE(own_claim(*f.snapshot, subject, &actor).ok());
  subject.lineage.emplace_back("one more");
  EXPECT_TRUE(own_claim(*f.snapshot, subject, nullptr).ok());
  EXPECT_EQ(code_of(own_claim(*f.snapshot, subject, &actor)), ErrorCode::MalformedRequest);
  subject.lineage.clear();
  EXPECT_EQ(code_of(own_claim(*f.snapshot, subject, nullptr)), ErrorCode::Internal);
}

TEST(ChainedExchange, X5_ABoundTokenNeedsTheProofOfItsKey) {
  Chain f;
  auto claims = f.open(f.files_token());
  const std::string jkt(43, 'k');
  claims["cnf"]["jkt"] = jkt;
  const auto token = f.sign(claims);
  EXPECT_EQ(f.onward(token), ErrorCode::InvalidToken);
  Caller caller(f.gateway("files-gw"));
  caller.proven.jkt = jkt;
  auto asked = f.request(token);
  asked.audiences = {"search"};
  auto record = f.record();
  const auto issued = f.token_exchange.exchange(*f.snapshot, caller, asked, Wait::Yes, record);
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  EXPECT_EQ(f.open(issued.value().access_token).at("cnf"), Json({{"jkt", jkt}}));
  EXPECT_EQ(f.look("files-gw", token).at("token_type"), "DPoP");
}

// ---- ids of tokens that are not ours ----

TEST(ForeignTokenId, IsOverWhatIsSignedAndOverTheTenant) {
  const TenantId acme("acme");
  EXPECT_EQ(foreign_token_id(acme, "head.claims.one"), foreign_token_id(acme, "head.claims.two"));
  EXPECT_NE(foreign_token_id(acme, "head.claims.one"), foreign_token_id(acme, "head.other.one"));
  EXPECT_NE(foreign_token_id(acme, "opaque-1"), foreign_token_id(acme, "opaque-2"));
  EXPECT_NE(foreign_token_id(acme, "a.b.c"), foreign_token_id(TenantId("beta"), "a.b.c"));
}

// ECDSA: (r, n-s) verifies as (r, s) does, so the text of a token is no identity.
TEST(ForeignTokenId, AnotherSignatureDoesNotBringATokenBack) {
  Chain f;
  const auto token = f.subject_token();
  const auto dot = token.rfind('.');
  auto signature = must(crypto::base64url_decode(token.substr(dot + 1)));
  constexpr unsigned char kOrder[32] = {0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00,
                                        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                        0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84,
                                        0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};
  int borrow = 0;
  for (std::size_t i = 32; i-- > 0;) {
    int digit = kOrder[i] - static_cast<int>(signature[32 + i]) - borrow;
    borrow = digit < 0 ? 1 : 0;
    signature[32 + i] = static_cast<std::byte>(digit + (borrow != 0 ? 256 : 0));
  }
  const auto twin = token.substr(0, dot + 1) + crypto::base64url(signature);
  ASSERT_NE(twin, token);
  ASSERT_TRUE(f.exchange_as("gw-01", twin, "files").ok()) << "the twin verifies";
  f.revoke("gw-01", token);
  EXPECT_EQ(code_of(f.exchange_as("gw-01", twin, "files")), ErrorCode::InvalidToken);
}

// ---- introspection ----

TEST(Introspection, I3_SaysWhatATokenIsWorth) {
  Chain f;
  const auto token = f.files_token("files:read");
  const auto claims = f.open(token);
  const auto answer = f.look("files-gw", token);
  EXPECT_EQ(answer.at("active"), Json(true));
  EXPECT_EQ(answer.at("token_type"), "Bearer");
  for (const char* name : {"iss", "sub", "aud", "client_id", "iat", "exp", "jti", "scope"}) {
    EXPECT_EQ(answer.at(name), claims.at(name)) << name;
  }
  EXPECT_FALSE(answer.contains("postern"));
  EXPECT_FALSE(answer.contains("username"));
  EXPECT_EQ(test::field_of(f.last_record, "jti"), claims.at("jti").get<std::string>());
}

TEST(Introspection, I4_AnswersTheResourceServerAndTheClientAlone) {
  Chain f;
  const auto token = f.files_token();
  EXPECT_TRUE(f.look("gw-01", token).at("active"));
  for (const char* client : {"bystander", "search-gw"}) {
    EXPECT_EQ(f.look(client, token), f.look(client, "no such token")) << client;
    EXPECT_EQ(f.look(client, token).dump(), R"({"active":false})") << client;
  }
}

TEST(Introspection, I2_IsFalseAndNothingElseForWhateverIsNotOurs) {
  Chain f;
  const auto token = f.files_token();
  auto forged = token;
  forged[forged.size() - 5] = forged[forged.size() - 5] == 'A' ? 'B' : 'A';
  for (const auto& bad : {std::string(), std::string("x"), std::string("a.b.c"), f.subject_token(),
                          forged, token + ".x", std::string(20'000, 'a')}) {
    EXPECT_EQ(f.look("files-gw", bad).dump(), R"({"active":false})");
  }
  f.clock.advance(300s);
  EXPECT_EQ(f.look("files-gw", token).dump(), R"({"active":false})") << "expired";
}

TEST(Introspection, ScopeIsWhatIsStillPermitted) {
  Chain f;
  const auto token = f.files_token();
  f.role()["deny"] = Json::array({"files:files:write"});
  f.load();
  EXPECT_EQ(f.look("files-gw", token).at("scope"), "files:read");
}

TEST(Introspection, NamesTheActors) {
  Chain f;
  const auto token = text(must(f.exchange_as("files-gw", f.files_token(), "search")));
  EXPECT_EQ(f.look("search-gw", token).at("act"), f.open(token).at("act"));
}

TEST(Introspection, OfAClientsOwnToken) {
  Chain f;
  const auto answer = f.look("files-gw", f.client_token("gw-01"));
  EXPECT_TRUE(answer.at("active"));
  EXPECT_EQ(answer.at("sub"), "gw-01");
}

TEST(Introspection, Rfc9701_ASignedAnswerIsNoToken) {
  Chain f;
  const auto answer = f.look("files-gw", f.files_token());
  const auto jwt =
      must(signed_introspection(*f.snapshot, Caller(f.gateway("files-gw")), answer, f.clock.now()));
  const auto parsed = must(token::UnverifiedJwt::parse(jwt));
  EXPECT_EQ(parsed.typ(), "token-introspection+jwt");
  const auto claims = must(parsed.verify(f.snapshot->own_keys()));
  EXPECT_EQ(claims.at("aud"), "files-gw");
  EXPECT_EQ(claims.at("iss"), f.snapshot->issuer_url());
  EXPECT_EQ(claims.at("token_introspection"), answer);
  EXPECT_EQ(claims.size(), 4u) << "neither sub nor exp";
  EXPECT_EQ(f.onward(jwt), ErrorCode::InvalidToken);
  EXPECT_FALSE(f.active(jwt));
}

TEST(Introspection, Rfc9701_WithoutAKeyOfTheClientsAlgorithmThereIsNoAnswer) {
  Chain f;
  f.client()["introspection_algorithm"] = "RS256";
  f.load();
  EXPECT_EQ(code_of(signed_introspection(*f.snapshot, Caller(f.gateway("gw-01")),
                                         {{"active", false}}, f.clock.now())),
            ErrorCode::MalformedRequest);
}

TEST(Introspection, Rfc9701_6_WithoutAChoiceOrAnRs256KeyItIsEs256) {
  Chain f;
  const auto jwt = must(signed_introspection(*f.snapshot, Caller(f.gateway("gw-01")),
                                             {{"active", false}}, f.clock.now()));
  EXPECT_EQ(must(token::UnverifiedJwt::parse(jwt)).algorithm(), crypto::Algorithm::ES256);
}

// ---- revocation ----

TEST(Revocation, OfOnesOwnTokenWorksAtOnce) {
  Chain f;
  const auto token = f.files_token();
  f.revoke("gw-01", token);
  EXPECT_EQ(f.effect(), "revoked");
  EXPECT_FALSE(f.active(token));
  EXPECT_EQ(f.onward(token), ErrorCode::InvalidToken);
  f.revoke("gw-01", token);
  EXPECT_EQ(f.effect(), "revoked") << "again is no error";
}

TEST(Revocation, R3_AnothersTokenIsLeftAlone) {
  Chain f;
  const auto token = f.files_token();
  for (const char* client : {"bystander", "files-gw"}) {
    f.revoke(client, token);
    EXPECT_EQ(f.effect(), "none") << client;
  }
  EXPECT_TRUE(f.active(token));
  EXPECT_EQ(f.revocations.size(), 0u);
}

TEST(Revocation, R2_OfWhatIsNoTokenHasNoEffect) {
  Chain f;
  for (const auto& bad : {std::string("x"), std::string("a.b.c"), std::string(20'000, 'a'),
                          test::Idp("https://elsewhere.example.com").sign(f.claims())}) {
    f.revoke("gw-01", bad);
    EXPECT_EQ(f.effect(), "none");
  }
  EXPECT_EQ(f.revocations.size(), 0u);
}

TEST(Revocation, OfAnIssuersTokenByTheClientItIsFor) {
  Chain f;
  const auto token = f.subject_token();
  const auto other = f.subject_token("bob");
  ASSERT_TRUE(f.exchange_as("gw-01", token, "files").ok());
  f.revoke("bystander", token);
  EXPECT_EQ(f.effect(), "none");
  f.revoke("gw-01", token);
  EXPECT_EQ(f.effect(), "revoked");
  EXPECT_EQ(code_of(f.exchange_as("gw-01", token, "files")), ErrorCode::InvalidToken)
      << "remembered";
  EXPECT_EQ(code_of(f.verifier.verify_user(*f.snapshot, token, Wait::Yes)),
            ErrorCode::InvalidToken);
  EXPECT_TRUE(f.exchange_as("gw-01", other, "files").ok());
}

TEST(Revocation, WorksThoughTheBackendIsDisabledForNow) {
  Chain f;
  const auto token = f.files_token();
  f.backend("files")["enabled"] = false;
  f.load();
  f.revoke("gw-01", token);
  f.backend("files")["enabled"] = true;
  f.load();
  EXPECT_FALSE(f.active(token));
}

}  // namespace
}  // namespace postern::grants
