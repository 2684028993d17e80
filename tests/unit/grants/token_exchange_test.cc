#include "grants/token_exchange.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::field_of;
using test::GrantsFixture;
using test::seconds_of;
using token::Json;

constexpr const char* kFiles = "https://files.example.com/mcp";

TEST(TokenExchange, IssuesARfc9068TokenForTheOneTarget) {
  GrantsFixture f;
  const auto token = f.subject_token();

  const auto issued = f.exchange(f.request(token));

  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  const auto claims = f.open(issued.value().access_token);
  EXPECT_EQ(claims.at("iss"), "https://sts.example.com/t/acme");
  EXPECT_EQ(claims.at("sub"), "alice");
  EXPECT_EQ(claims.at("aud"), kFiles);  // a string, not a list
  EXPECT_EQ(claims.at("client_id"), "gw-01");
  EXPECT_EQ(claims.at("scope"), "files:read files:write");
  EXPECT_EQ(claims.at("iat"), seconds_of(f.clock.now()));
  EXPECT_EQ(claims.at("exp"), seconds_of(f.clock.now() + 300s));
  EXPECT_GE(claims.at("jti").get<std::string>().size(), 22u);
  EXPECT_EQ(claims.size(), 9u);  // with `postern`, for ourselves alone
  EXPECT_EQ(issued.value().expires_in, 300s);
  EXPECT_EQ(issued.value().expires_at, f.clock.now() + 300s);
  EXPECT_EQ(issued.value().scope.str(), "files:read files:write");
  EXPECT_EQ(issued.value().issued_token_type, GrantsFixture::kAccessToken);
}

TEST(TokenExchange, GivesEveryTokenItsOwnId) {
  GrantsFixture f;
  const auto token = f.subject_token();
  std::set<std::string> seen;
  for (int i = 0; i < 50; ++i) {
    seen.insert(f.open(f.exchange(f.request(token)).value().access_token).at("jti"));
  }
  EXPECT_EQ(seen.size(), 50u);
}

TEST(TokenExchange, CopiesHowTheUserAuthenticatedAndNothingElse) {
  GrantsFixture f;
  auto claims = f.claims();
  claims["auth_time"] = seconds_of(f.clock.now() - 10s);
  claims["acr"] = "loa2";
  claims["amr"] = {"otp"};
  claims["email"] = "alice@example.com";
  claims["admin"] = true;
  claims["client_id"] = "forged";
  claims["jti"] = "forged";
  const auto issued = f.open(f.exchange(f.request(f.idp.sign(claims))).value().access_token);
  EXPECT_EQ(issued.at("auth_time"), claims["auth_time"]);
  EXPECT_EQ(issued.at("acr"), "loa2");
  EXPECT_EQ(issued.at("amr"), Json({"otp"}));
  EXPECT_EQ(issued.at("client_id"), "gw-01");
  EXPECT_NE(issued.at("jti"), "forged");
  EXPECT_EQ(issued.size(), 12u);
}

TEST(TokenExchange, SignsWithTheBackendsAlgorithm) {
  GrantsFixture f;
  f.backend("files")["signing_algorithm"] = "EdDSA";
  f.load();
  const auto token = f.subject_token();
  const auto issued = f.exchange(f.request(token));
  issued.value().access_token.expose([&](ByteView bytes) {
    EXPECT_EQ(test::must(token::UnverifiedJwt::parse(as_text(bytes))).algorithm(),
              crypto::Algorithm::EdDSA);
  });
  EXPECT_NO_THROW(f.open(issued.value().access_token));
}

TEST(TokenExchange, IsUnavailableWithoutAKeyForTheBackendsAlgorithm) {
  GrantsFixture f;
  f.backend("files")["signing_algorithm"] = "RS256";
  f.load();
  const auto token = f.subject_token();
  EXPECT_EQ(code_of(f.exchange(f.request(token))), ErrorCode::Unavailable);
}

// ---- lifetime ----

TEST(TokenExchange, NeverOutlivesSubjectActorBackendOrTenant) {
  for (const auto subject_left : {10s, 120s, 3600s}) {
    for (const auto actor_left : {0s, 20s, 3600s}) {  // 0: no actor
      for (const auto backend_max : {15s, 3600s}) {
        for (const auto tenant_max : {12s, 3600s}) {
          GrantsFixture f;
          f.manifest["settings"]["max_token_lifetime"] = tenant_max.count();
          f.backend("files")["max_expires_in"] = backend_max.count();
          f.load();
          auto claims = f.claims();
          claims["exp"] = seconds_of(f.clock.now() + subject_left);
          const auto token = f.idp.sign(claims);
          auto actor_claims = f.claims("agent");
          actor_claims["exp"] = seconds_of(f.clock.now() + actor_left);
          const auto actor = f.idp.sign(actor_claims);
          auto request = f.request(token);
          if (actor_left > 0s) {
            request.actor_token = actor;
            request.actor_token_type = GrantsFixture::kAccessToken;
          }
          auto expected = std::min(
              {subject_left, std::chrono::seconds(backend_max), std::chrono::seconds(tenant_max)});
          if (actor_left > 0s) expected = std::min(expected, std::chrono::seconds(actor_left));

          const auto issued = f.exchange(request);

          ASSERT_TRUE(issued.ok());
          EXPECT_EQ(issued.value().expires_in, expected);
          EXPECT_EQ(f.open(issued.value().access_token).at("exp"),
                    seconds_of(f.clock.now() + expected));
        }
      }
    }
  }
}

TEST(TokenExchange, LastsFiveMinutesUnlessSaidOtherwise) {
  GrantsFixture f;
  auto claims = f.claims();
  claims["exp"] = seconds_of(f.clock.now() + 24h);
  EXPECT_EQ(f.exchange(f.request(f.idp.sign(claims))).value().expires_in, 300s);
}

// ---- parameters ----

TEST(TokenExchange, EchoesTheRequestedType) {
  GrantsFixture f;
  const auto token = f.subject_token();
  auto request = f.request(token);
  request.requested_token_type = GrantsFixture::kJwt;
  EXPECT_EQ(f.exchange(request).value().issued_token_type, GrantsFixture::kJwt);
  request.requested_token_type = GrantsFixture::kAccessToken;
  EXPECT_EQ(f.exchange(request).value().issued_token_type, GrantsFixture::kAccessToken);
}

TEST(TokenExchange, RefusesTypesItDoesNotIssue) {
  GrantsFixture f;
  const auto token = f.subject_token();
  for (const char* type :
       {"", "jwt", "urn:ietf:params:oauth:token-type:id_token",
        "urn:ietf:params:oauth:token-type:refresh_token", "urn:ietf:params:oauth:token-type:id-jag",
        "urn:ietf:params:oauth:token-type:saml2",
        "urn:ietf:params:oauth:token-type:access_token "}) {
    auto request = f.request(token);
    request.requested_token_type = type;
    EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::MalformedRequest) << type;
  }
}

TEST(TokenExchange, RefusesSubjectTypesItDoesNotTake) {
  GrantsFixture f;
  const auto token = f.subject_token();
  for (const char* type : {"", "access_token", "urn:ietf:params:oauth:token-type:refresh_token",
                           "urn:ietf:params:oauth:token-type:saml2"}) {
    auto request = f.request(token);
    request.subject_token_type = type;
    EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::MalformedRequest) << type;
  }
}

TEST(TokenExchange, WantsActorTokenAndItsTypeTogether) {
  GrantsFixture f;
  const auto token = f.subject_token();
  const auto actor = f.subject_token("agent");
  auto request = f.request(token);
  request.actor_token_type = GrantsFixture::kAccessToken;
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::MalformedRequest);
  request.actor_token_type.reset();
  request.actor_token = actor;
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::MalformedRequest);
  request.actor_token_type = "urn:ietf:params:oauth:token-type:saml2";
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::MalformedRequest);
}

TEST(TokenExchange, NeedsTheGrant) {
  GrantsFixture f;
  f.client()["grants"] = {"client_credentials"};
  f.load();
  const auto token = f.subject_token();
  EXPECT_EQ(code_of(f.exchange(f.request(token))), ErrorCode::UnauthorizedClient);
}

// CVE-2026-9704: a subject_token that was dropped let the request run as the client.
TEST(TokenExchange, NeverRunsWithoutASubject) {
  GrantsFixture f;
  for (const char* token : {"", " ", "null", "undefined", "a.b.c"}) {
    EXPECT_EQ(code_of(f.exchange(f.request(token))), ErrorCode::InvalidToken) << token;
  }
}

// ---- targets ----

TEST(TokenExchange, TakesSeveralNamesOfOneTarget) {
  GrantsFixture f;
  const auto token = f.subject_token();
  auto request = f.request(token);
  request.audiences = {"files", "docs", kFiles};
  request.resources = {kFiles, "https://FILES.example.com/mcp/"};
  EXPECT_EQ(f.open(f.exchange(request).value().access_token).at("aud"), kFiles);
}

TEST(TokenExchange, RefusesTwoTargetsAndUnknownOnes) {
  GrantsFixture f;
  const auto token = f.subject_token();
  const auto with = [&](std::vector<std::string_view> audiences,
                        std::vector<std::string_view> resources) {
    auto request = f.request(token);
    request.audiences = std::move(audiences);
    request.resources = std::move(resources);
    return code_of(f.exchange(request));
  };
  EXPECT_EQ(with({"files", "search"}, {}), ErrorCode::TargetRefused);
  EXPECT_EQ(with({"files"}, {"https://search.example.com/mcp"}), ErrorCode::TargetRefused);
  EXPECT_EQ(with({"nope"}, {}), ErrorCode::TargetRefused);
  EXPECT_EQ(with({}, {"files"}), ErrorCode::TargetRefused);
  EXPECT_EQ(with({}, {}), ErrorCode::TargetRefused);
  EXPECT_EQ(with({"gw-01"}, {}), ErrorCode::TargetRefused);  // a client is no target
  EXPECT_EQ(with({"https://sts.example.com/t/acme"}, {}), ErrorCode::TargetRefused);
}

TEST(TokenExchange, UsesTheClientsDefaultWhenNoTargetIsNamed) {
  GrantsFixture f;
  f.client()["default_backend"] = "files";
  f.load();
  const auto token = f.subject_token();
  auto request = f.request(token);
  request.audiences.clear();
  EXPECT_EQ(f.open(f.exchange(request).value().access_token).at("aud"), kFiles);
}

TEST(TokenExchange, IssuesTheAliasAsAudienceWhereConfigured) {
  GrantsFixture f;
  f.backend("files")["aud_as_requested"] = true;
  f.load();
  const auto token = f.subject_token();
  auto request = f.request(token);
  request.audiences = {"docs"};
  EXPECT_EQ(f.open(f.exchange(request).value().access_token).at("aud"), "docs");
}

TEST(TokenExchange, DoesNotAnswerWithAStoredCredential) {
  GrantsFixture f;
  const auto token = f.subject_token();
  auto request = f.request(token);
  request.audiences = {"github"};
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::TargetRefused);
}

// ---- scope ----

TEST(TokenExchange, NarrowsTheScope) {
  GrantsFixture f;
  const auto token = f.subject_token();
  auto request = f.request(token);
  request.scope = "openid files:read";
  const auto issued = f.exchange(request);
  EXPECT_EQ(issued.value().scope.str(), "files:read");
  EXPECT_EQ(f.open(issued.value().access_token).at("scope"), "files:read");
  for (const char* scope :
       {"files:read files:admin", "repo:read", "*", "files:*", "files:read\n"}) {
    request.scope = scope;
    EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::ScopeRefused) << scope;
  }
}

TEST(TokenExchange, HasNoScopeClaimForABackendWithoutScopes) {
  GrantsFixture f;
  const auto token = f.subject_token();
  auto request = f.request(token);
  request.audiences = {"search"};
  const auto issued = f.exchange(request);
  EXPECT_FALSE(f.open(issued.value().access_token).contains("scope"));
  EXPECT_TRUE(issued.value().scope.empty());
  request.scope = "files:read";
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::ScopeRefused);
}

TEST(TokenExchange, AWarmCacheDoesNotWidenTheScope) {
  GrantsFixture f;
  auto claims = f.claims();
  claims["scope"] = "files:read";
  const auto token = f.idp.sign(claims);
  auto request = f.request(token);
  ASSERT_EQ(f.exchange(request).value().scope.str(), "files:read");
  request.scope = "files:write";
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::ScopeRefused);
}

// ---- delegation ----

struct Delegation : GrantsFixture {
  Delegation() {
    manifest["issuers"].push_back({{"name", "partner"},
                                   {"issuer", partner.issuer()},
                                   {"jwks", partner.jwks()},
                                   {"audiences", {"gw-01"}},
                                   {"subject_prefix", "partner:"}});
    load();
  }
  Result<IssuedToken> run(const Json& subject, const std::string& actor_token = "") {
    const auto token = idp.sign(subject);
    auto asked = request(token);
    if (!actor_token.empty()) {
      asked.actor_token = actor_token;
      asked.actor_token_type = kAccessToken;
    }
    return exchange(asked);
  }
  std::string actor(std::string_view subject = "agent") const { return idp.sign(claims(subject)); }
  Json may_act(Json party) const {
    auto subject = claims();
    subject["may_act"] = std::move(party);
    return subject;
  }

  test::Idp partner{"https://idp.partner.example"};
};

TEST(TokenExchange, NamesTheActorOutermost) {
  Delegation f;
  EXPECT_FALSE(f.open(f.run(f.claims()).value().access_token).contains("act"));

  const auto delegated = f.open(f.run(f.claims(), f.actor()).value().access_token);
  EXPECT_EQ(delegated.at("sub"), "alice");
  EXPECT_EQ(delegated.at("act"), Json({{"iss", f.idp.issuer()}, {"sub", "agent"}}));

  auto subject = f.claims();
  subject["act"] = {{"sub", "first"}, {"exp_note", "dropped"}};
  EXPECT_EQ(f.open(f.run(subject, f.actor()).value().access_token).at("act"),
            Json({{"iss", f.idp.issuer()}, {"sub", "agent"}, {"act", {{"sub", "first"}}}}));
}

// keycloak#52691: a delegated token exchanged again came back clean.
TEST(TokenExchange, NeverDropsTheHistoryOfActors) {
  Delegation f;
  auto subject = f.claims();
  subject["act"] = {{"sub", "first"}};
  EXPECT_EQ(f.open(f.run(subject).value().access_token).at("act"),
            Json({{"sub", "gw-01"}, {"act", {{"sub", "first"}}}}));
}

TEST(TokenExchange, RefusesAChainDeeperThanFive) {
  Delegation f;
  Json act{{"sub", "a1"}};
  for (int i = 2; i <= 4; ++i) act = {{"sub", "a" + std::to_string(i)}, {"act", act}};
  auto subject = f.claims();
  subject["act"] = act;  // 4 deep: one more fits
  EXPECT_TRUE(f.run(subject).ok());
  EXPECT_TRUE(f.run(subject, f.actor()).ok());
  subject["act"] = {{"sub", "a5"}, {"act", act}};
  EXPECT_EQ(code_of(f.run(subject)), ErrorCode::MalformedRequest);
  EXPECT_EQ(code_of(f.run(subject, f.actor())), ErrorCode::MalformedRequest);
}

TEST(TokenExchange, VerifiesTheActorTokenLikeASubjectToken) {
  Delegation f;
  EXPECT_EQ(code_of(f.run(f.claims(), "not.a.token")), ErrorCode::InvalidToken);
  auto expired = f.claims("agent");
  expired["exp"] = seconds_of(f.clock.now());
  EXPECT_EQ(code_of(f.run(f.claims(), f.idp.sign(expired))), ErrorCode::InvalidToken);
  auto elsewhere = f.claims("agent");
  elsewhere["aud"] = "other-app";
  EXPECT_EQ(code_of(f.run(f.claims(), f.idp.sign(elsewhere))), ErrorCode::InvalidToken);
  auto bound = f.claims("agent");
  bound["cnf"] = {{"jkt", "x"}};
  EXPECT_EQ(code_of(f.run(f.claims(), f.idp.sign(bound))), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(f.run(f.claims(), test::Idp(f.idp.issuer()).sign(f.claims("agent")))),
            ErrorCode::InvalidToken);
}

TEST(TokenExchange, RefusesAnActorWhoIsHimselfActedFor) {
  Delegation f;
  auto agent = f.claims("agent");
  agent["act"] = {{"sub", "puppeteer"}};
  EXPECT_EQ(code_of(f.run(f.claims(), f.idp.sign(agent))), ErrorCode::InvalidToken);
}

TEST(TokenExchange, MayActLetsOnlyTheNamedActorAct) {
  Delegation f;
  const Json agent{{"sub", "agent"}};
  EXPECT_TRUE(f.run(f.may_act(agent), f.actor("agent")).ok());
  EXPECT_EQ(code_of(f.run(f.may_act(agent), f.actor("other"))), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(f.run(f.may_act(agent))), ErrorCode::InvalidToken);  // the client is not he
  const Json full{{"sub", "agent"}, {"iss", f.idp.issuer()}};
  EXPECT_TRUE(f.run(f.may_act(full), f.actor("agent")).ok());
  for (const Json& party : std::vector<Json>{Json::object(),
                                             {{"iss", f.idp.issuer()}},
                                             {{"sub", "agent"}, {"iss", "https://other.example"}},
                                             {{"sub", "agent"}, {"email", "agent@example.com"}},
                                             {{"sub", "agent"}, {"client_id", "agent"}},
                                             {{"sub", {"agent"}}},
                                             {{"sub", "Agent"}},
                                             {{"sub", ""}},
                                             {{"client_id", "gw-01"}}}) {
    EXPECT_EQ(code_of(f.run(f.may_act(party), f.actor("agent"))), ErrorCode::InvalidToken) << party;
  }
}

TEST(TokenExchange, MayActWithoutIssuerMeansTheSubjectsIssuer) {
  Delegation f;
  const auto namesake = f.partner.sign(f.partner.claims("agent", f.clock.now()));
  EXPECT_EQ(code_of(f.run(f.may_act({{"sub", "agent"}}), namesake)), ErrorCode::InvalidToken);
  EXPECT_TRUE(f.run(f.may_act({{"sub", "agent"}, {"iss", f.partner.issuer()}}), namesake).ok());
}

TEST(TokenExchange, MayActLetsTheNamedClientActWithoutActorToken) {
  Delegation f;
  EXPECT_TRUE(f.run(f.may_act({{"sub", "gw-01"}})).ok());
  EXPECT_TRUE(f.run(f.may_act({{"client_id", "gw-01"}})).ok());
  EXPECT_TRUE(f.run(f.may_act({{"sub", "gw-01"}, {"iss", "https://sts.example.com/t/acme"}})).ok());
  for (const Json& party : std::vector<Json>{Json::object(),
                                             {{"sub", "gw-02"}},
                                             {{"client_id", "gw-02"}},
                                             {{"client_id", "gw-01"}, {"sub", "gw-02"}},
                                             {{"sub", "gw-01"}, {"iss", f.idp.issuer()}},
                                             {{"iss", "https://sts.example.com/t/acme"}},
                                             {{"sub", "gw-01"}, {"aud", "gw-01"}}}) {
    EXPECT_EQ(code_of(f.run(f.may_act(party))), ErrorCode::InvalidToken) << party;
  }
}

TEST(TokenExchange, RightsAreTheSubjectsNotTheActors) {
  Delegation f;
  auto subject = f.claims("intern");
  subject["groups"] = Json::array();
  EXPECT_EQ(code_of(f.run(subject, f.actor("agent"))), ErrorCode::TargetRefused);
}

// ---- who ----

TEST(TokenExchange, KeepsUsersOfTwoIssuersApart) {
  Delegation f;
  f.manifest["bindings"].push_back(
      {{"name", "partners"},
       {"role", "developer"},
       {"subjects", {{{"issuer", f.partner.issuer()}, {"subject", "alice"}}}}});
  f.load();
  const auto theirs = f.partner.sign(f.partner.claims("alice", f.clock.now()));
  EXPECT_EQ(f.open(f.exchange(f.request(theirs)).value().access_token).at("sub"), "partner:alice");
  EXPECT_EQ(f.open(f.run(f.claims()).value().access_token).at("sub"), "alice");
  // The partner's group of the same name opens nothing.
  auto bob = f.partner.claims("bob", f.clock.now());
  bob["groups"] = {"engineering"};
  const auto bobs = f.partner.sign(bob);
  EXPECT_EQ(code_of(f.exchange(f.request(bobs))), ErrorCode::TargetRefused);
}

TEST(TokenExchange, X2_NeitherConsumesNorExtendsTheSubjectToken) {
  GrantsFixture f;
  const auto token = f.subject_token();
  for (int i = 0; i < 5; ++i) {
    const auto issued = f.exchange(f.request(token));
    ASSERT_TRUE(issued.ok());
    EXPECT_EQ(issued.value().expires_in, 300s - 60s * i);
    f.clock.advance(60s);
  }
  EXPECT_EQ(code_of(f.exchange(f.request(token))), ErrorCode::InvalidToken);
}

// Disabling any link of the chain stops the next token.
TEST(TokenExchange, IssuesNothingOnceAnyPartIsDisabled) {
  const std::vector<std::pair<const char*, std::function<void(GrantsFixture&)>>> switches{
      {"tenant", [](auto& f) { f.manifest["enabled"] = false; }},
      {"issuer", [](auto& f) { f.issuer()["enabled"] = false; }},
      {"client", [](auto& f) { f.client()["enabled"] = false; }},
      {"backend", [](auto& f) { f.backend("files")["enabled"] = false; }},
      {"grant", [](auto& f) { f.client()["grants"] = Json::array(); }},
      {"client's backend", [](auto& f) { f.client()["backends"] = {"search"}; }},
      {"client's scopes", [](auto& f) { f.client()["scopes"] = Json::array(); }},
      {"audience", [](auto& f) { f.issuer()["audiences"] = {"other"}; }},
      {"role", [](auto& f) { f.role()["allow"] = Json::array(); }},
      {"deny", [](auto& f) { f.role()["deny"] = {"files:*"}; }},
      {"binding", [](auto& f) { f.manifest["bindings"] = Json::array(); }},
      {"algorithm", [](auto& f) { f.issuer()["algorithms"] = {"RS256"}; }},
      {"key", [](auto& f) { f.issuer()["jwks"] = test::Idp(f.idp.issuer()).jwks(); }}};
  for (const auto& [name, turn_off] : switches) {
    GrantsFixture f;
    const auto token = f.subject_token();
    ASSERT_TRUE(f.exchange(f.request(token)).ok());  // and the cache is warm
    turn_off(f);
    f.load();
    EXPECT_FALSE(f.exchange(f.request(token)).ok()) << name;
  }
}

// ---- audit ----

TEST(TokenExchange, RecordsWhatTheDecisionRestedOn) {
  Delegation f;
  auto request_claims = f.claims();
  const auto token = f.idp.sign(request_claims);
  const auto actor = f.actor();
  auto request = f.request(token);
  request.scope = "files:read";
  request.actor_token = actor;
  request.actor_token_type = GrantsFixture::kAccessToken;

  const auto issued = f.exchange(request);

  const auto claims = f.open(issued.value().access_token);
  const auto& record = f.last_record;
  EXPECT_EQ(field_of(record, "subject_issuer"), f.idp.issuer());
  EXPECT_EQ(field_of(record, "subject"), "alice");
  EXPECT_EQ(field_of(record, "subject_token").size(), 22u);
  EXPECT_EQ(field_of(record, "actor"), "agent");
  EXPECT_EQ(field_of(record, "backend"), "files");
  EXPECT_EQ(field_of(record, "audience"), kFiles);
  EXPECT_EQ(field_of(record, "requested_scope"), "files:read");
  EXPECT_EQ(field_of(record, "scope"), "files:read");
  EXPECT_EQ(claims.at("jti"), field_of(record, "jti"));
  EXPECT_EQ(field_of(record, "expires_at"), std::to_string(claims.at("exp").get<std::int64_t>()));
  std::set<std::string> names;
  const auto text = audit::canonical(record);
  for (const auto& [name, value] : record.fields) {
    EXPECT_TRUE(names.insert(name).second) << name << " stands twice";
  }
  // Never the tokens, nor parts of them.
  issued.value().access_token.expose([&](ByteView bytes) {
    for (const std::string_view secret :
         {std::string_view(token), std::string_view(actor), as_text(bytes)}) {
      EXPECT_EQ(text.find(secret.substr(0, 20)), std::string::npos);
      EXPECT_EQ(text.find(secret.substr(secret.size() - 20)), std::string::npos);
    }
  });
}

TEST(TokenExchange, RecordsWhoWasRefused) {
  GrantsFixture f;
  const auto token = f.subject_token();
  auto request = f.request(token);
  // Only names the backend has are recorded: a token may stand here by mistake.
  const auto scope = "files:read files:admin " + token.substr(0, 100);
  request.scope = scope;
  ASSERT_FALSE(f.exchange(request).ok());
  EXPECT_EQ(field_of(f.last_record, "subject"), "alice");
  EXPECT_EQ(field_of(f.last_record, "backend"), "files");
  EXPECT_EQ(field_of(f.last_record, "requested_scope"), "files:read");
  EXPECT_EQ(field_of(f.last_record, "jti"), "");
}

TEST(TokenExchange, SaysNeedsOutboundWhenKeysMustBeFetched) {
  GrantsFixture f;
  f.issuer().erase("jwks");
  f.issuer()["jwks_uri"] = "https://idp.acme.example/keys";
  f.fetcher.serve("https://idp.acme.example/keys", f.idp.jwks());
  f.load();
  const auto token = f.subject_token();
  auto record = f.record();
  EXPECT_EQ(code_of(f.token_exchange.exchange(*f.snapshot, f.caller(), f.request(token), Wait::No,
                                              record)),
            ErrorCode::NeedsOutbound);
  EXPECT_TRUE(f.exchange(f.request(token)).ok());
  EXPECT_TRUE(
      f.token_exchange.exchange(*f.snapshot, f.caller(), f.request(token), Wait::No, record).ok());
}

}  // namespace
}  // namespace postern::grants
