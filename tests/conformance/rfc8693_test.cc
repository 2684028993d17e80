// Token exchange on the wire (RFC 8693, 8707). Rows request, type, X and response of
// docs/conformance.md; what the grant decides by itself is in rfc8693_grant_test.cc.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

constexpr const char* kFiles = "https://files.example.com/mcp";
constexpr const char* kCredential = "https://postern-project.org/oauth/token-type/credential";

TestTenant& acme() {
  static TestTenant tenant("rfc8693");
  return tenant;
}

/// Claims of what was issued; fails the test when nothing was.
Json issued(const WireReply& reply) {
  EXPECT_THAT(reply, HasStatus(200));
  return reply.status == 200 ? claims_of(json_of(reply).at("access_token").get<std::string>())
                             : Json::object();
}
Pairs typed(const std::string& token, const char* type, Pairs more = {{"audience", "files"}}) {
  Pairs fields{{"grant_type", TestTenant::kExchange},
               {"subject_token", token},
               {"subject_token_type", type}};
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}
Json alice_with(const char* claim, const Json& value) {
  auto claims = acme().claims("alice");
  claims[claim] = value;
  return claims;
}
std::string alice() { return acme().user_token("alice"); }
std::string robot() { return acme().user_token("robot"); }
/// Alice's exchange at files, with an actor.
WireReply delegated(const std::string& subject, const std::string& actor,
                    const char* type = TestTenant::kJwt) {
  return acme().exchange(subject, "files", {{"actor_token", actor}, {"actor_token_type", type}});
}
/// What is no token type here.
constexpr const char* kUnsupportedTypes[] = {"urn:ietf:params:oauth:token-type:refresh_token",
                                             "urn:ietf:params:oauth:token-type:saml1",
                                             "urn:ietf:params:oauth:token-type:saml2",
                                             "urn:ietf:params:oauth:token-type:id-jag",
                                             "urn:ietf:params:oauth:token-type:txn_token",
                                             "urn:ietf:params:oauth:token-type:JWT",
                                             "urn:ietf:params:oauth:token-type:",
                                             "access_token",
                                             "https://example.com/token-type"};

// ---- the request (§2.1) ----

TEST(Rfc8693_2_1, RequestGrantType_TheUrnIsAnExchange) {
  const auto reply = acme().token(typed(alice(), TestTenant::kJwt));
  EXPECT_EQ(issued(reply).at("sub"), "alice");
  EXPECT_TRUE(json_of(reply).contains("issued_token_type"));
}

TEST(Rfc8693_2_1, RequestGrantType_NoOtherSpellingIs) {
  auto fields = typed(alice(), TestTenant::kJwt);
  const std::string urn = TestTenant::kExchange;
  for (const auto& other :
       {urn + " ", " " + urn, urn + ":", urn.substr(0, urn.size() - 1), "URN" + urn.substr(3),
        std::string("token-exchange"), std::string("token_exchange"),
        std::string("urn:ietf:params:oauth:grant-type:Token-Exchange")}) {
    fields[0].second = other;
    EXPECT_THAT(acme().token(fields), IsOAuthError(400, "unsupported_grant_type")) << other;
  }
  fields.erase(fields.begin());
  EXPECT_THAT(acme().token(fields), IsOAuthError(400, "invalid_request"));
}

TEST(Rfc8693_2_1, RequestSubjectToken_ComesWithItsType) {
  for (const char* type : {TestTenant::kAccessToken, TestTenant::kJwt, TestTenant::kIdToken}) {
    EXPECT_EQ(issued(acme().token(typed(alice(), type))).at("sub"), "alice") << type;
  }
}

TEST(Rfc8693_2_1, RequestSubjectToken_NeitherIsThereWithoutTheOther) {
  for (const Pairs& fields :
       std::vector<Pairs>{{{"grant_type", TestTenant::kExchange}, {"audience", "files"}},
                          {{"grant_type", TestTenant::kExchange},
                           {"subject_token", alice()},
                           {"audience", "files"}},
                          {{"grant_type", TestTenant::kExchange},
                           {"subject_token_type", TestTenant::kJwt},
                           {"audience", "files"}},
                          // An actor is no subject.
                          {{"grant_type", TestTenant::kExchange},
                           {"actor_token", alice()},
                           {"actor_token_type", TestTenant::kJwt},
                           {"audience", "files"}}}) {
    EXPECT_THAT(acme().token(fields), IsOAuthError(400, "invalid_request")) << form(fields);
  }
}

TEST(Rfc8693_2_1, RequestActorToken_ComesWithItsType) {
  for (const char* type : {TestTenant::kAccessToken, TestTenant::kJwt, TestTenant::kIdToken}) {
    EXPECT_EQ(issued(delegated(alice(), robot(), type)).at("act").at("sub"), "robot") << type;
  }
  EXPECT_FALSE(issued(acme().exchange(alice(), "files")).contains("act"));
}

TEST(Rfc8693_2_1, RequestActorToken_NeitherIsThereWithoutTheOther) {
  EXPECT_THAT(acme().exchange(alice(), "files", {{"actor_token", robot()}}),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().exchange(alice(), "files", {{"actor_token_type", TestTenant::kJwt}}),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc8693_2_1, RequestResource_IsAnAbsoluteUriWithOrWithoutAQuery) {
  TestTenant tenant("rfc8693-query");
  tenant.manifest["backends"].push_back(
      {{"name", "shop"}, {"audience", "https://shop.example.com/mcp?area=eu"}});
  tenant.manifest["backends"].push_back({{"name", "urn"}, {"audience", "urn:example:shop"}});
  tenant.manifest["roles"][0]["allow"].push_back("*:*");
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  for (const char* resource :
       {kFiles, "https://shop.example.com/mcp?area=eu", "urn:example:shop"}) {
    const auto reply =
        tenant.token(typed(tenant.user_token("alice"), TestTenant::kJwt, {{"resource", resource}}));
    EXPECT_EQ(issued(reply).at("aud"), resource);
  }
}

TEST(Rfc8693_2_1, RequestResource_IsNeitherRelativeNorHasItAFragment) {
  for (const std::string resource :
       {"files", "/mcp", "files.example.com/mcp", "//files.example.com/mcp", "https:",
        "https:///mcp", "https://files.example.com/mcp#", "https://files.example.com/mcp#a",
        "https://files.example.com/mcp?a#b", "https://files.example.com/m cp"}) {
    EXPECT_THAT(acme().token(typed(alice(), TestTenant::kJwt, {{"resource", resource}})),
                IsOAuthError(400, "invalid_target"))
        << resource;
  }
}

TEST(Rfc8693_2_1, RequestAudience_IsANameThatIsKnownHere) {
  for (const char* audience : {"files", "docs", kFiles}) {
    EXPECT_EQ(issued(acme().exchange(alice(), audience)).at("aud"), kFiles) << audience;
  }
}

TEST(Rfc8693_2_1, RequestAudience_IsNoOtherName) {
  for (const char* audience : {"nowhere", "Files", "files ", "gw-01", "alice", "*",
                               "https://files.example.com/", "https://sts.example.com/t/rfc8693"}) {
    EXPECT_THAT(acme().exchange(alice(), audience), IsOAuthError(400, "invalid_target"))
        << audience;
  }
}

TEST(Rfc8693_2_1, RequestScope_AppliesToTheTargetByWhicheverOfItsNames) {
  for (const Pairs& target : std::vector<Pairs>{{{"audience", "files"}},
                                                {{"resource", kFiles}},
                                                {{"audience", "docs"}, {"resource", kFiles}}}) {
    auto fields = typed(alice(), TestTenant::kJwt, target);
    fields.emplace_back("scope", "files:read");
    EXPECT_EQ(issued(acme().token(fields)).at("scope"), "files:read") << form(target);
  }
}

TEST(Rfc8693_2_1, RequestScope_OfAnotherTargetIsNone) {
  for (const Pairs& target : std::vector<Pairs>{{{"audience", "search"}},
                                                {{"resource", "https://search.example.com/mcp"}}}) {
    auto fields = typed(alice(), TestTenant::kJwt, target);
    fields.emplace_back("scope", "files:read");
    EXPECT_THAT(acme().token(fields), IsOAuthError(400, "invalid_scope")) << form(target);
  }
  EXPECT_THAT(acme().exchange(alice(), "files", {{"scope", "files:read repo:read"}}),
              IsOAuthError(400, "invalid_scope"));
}

TEST(Rfc8693_2_1, RequestRequestedTokenType_IsAccessTokenUnlessSaid) {
  const auto type = [&](Pairs more) {
    return json_of(acme().exchange(alice(), "files", std::move(more)))
        .value("issued_token_type", "");
  };
  EXPECT_EQ(type({}), TestTenant::kAccessToken);
  EXPECT_EQ(type({{"requested_token_type", TestTenant::kAccessToken}}), TestTenant::kAccessToken);
  EXPECT_EQ(type({{"requested_token_type", TestTenant::kJwt}}), TestTenant::kJwt);
}

TEST(Rfc8693_2_1, RequestRequestedTokenType_NoOtherIsIssued) {
  for (const char* other : kUnsupportedTypes) {
    EXPECT_THAT(acme().exchange(alice(), "files", {{"requested_token_type", other}}),
                IsOAuthError(400, "invalid_request"))
        << other;
  }
}

// ---- token types (§3) ----

TEST(Rfc8693_3, TypeAccessToken_IsATrustedIssuersOrOurs) {
  for (const char* typ : {"JWT", "at+jwt"}) {
    EXPECT_THAT(
        acme().token(typed(acme().idp.sign(acme().claims("alice"), typ), TestTenant::kAccessToken)),
        HasStatus(200))
        << typ;
  }
  const auto ours = json_of(acme().exchange(alice(), "files"), "access_token").get<std::string>();
  const auto again =
      issued(acme().token(typed(ours, TestTenant::kAccessToken, {{"audience", "search"}})));
  EXPECT_EQ(again.at("sub"), "alice");
}

/// With an issuer whose tokens may be sent as these types only.
WireReply exchange_where(const char* name, const Json& types, const char* declared) {
  TestTenant tenant(name);
  tenant.part("issuers", "corp")["token_types"] = types;
  EXPECT_THAT(tenant.apply(), HasStatus(200));
  return tenant.token(typed(tenant.user_token("alice"), declared));
}

TEST(Rfc8693_3, TypeAccessToken_IsNotOfAnIssuerThatSendsOthers) {
  EXPECT_THAT(exchange_where("rfc8693-no-at", {"jwt", "id_token"}, TestTenant::kAccessToken),
              IsOAuthError(400, "invalid_request"));
  const Idp stranger("https://elsewhere.example");
  auto claims = acme().claims("alice");
  claims["iss"] = stranger.issuer();
  EXPECT_THAT(acme().token(typed(stranger.sign(claims, "at+jwt"), TestTenant::kAccessToken)),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc8693_3, TypeJwt_IsTakenAndIssuedAsTheSameToken) {
  const auto ours = json_of(acme().exchange(alice(), "files"), "access_token").get<std::string>();
  EXPECT_THAT(acme().token(typed(ours, TestTenant::kJwt, {{"audience", "search"}})),
              HasStatus(200));
  const auto as = [](const char* type) {
    return acme().token(
        typed(alice(), TestTenant::kJwt, {{"audience", "files"}, {"requested_token_type", type}}));
  };
  const auto jwt = as(TestTenant::kJwt), access = as(TestTenant::kAccessToken);
  EXPECT_EQ(json_of(jwt).at("token_type"), "Bearer");
  EXPECT_EQ(header_of(json_of(jwt).at("access_token").get<std::string>()).at("typ"), "at+jwt");
  auto one = issued(jwt), other = issued(access);
  for (const char* own : {"jti", "iat", "exp", "postern"}) {
    EXPECT_EQ(one.erase(own), other.erase(own)) << own;
  }
  EXPECT_EQ(one, other);
}

TEST(Rfc8693_3, TypeJwt_IsNotOfAnIssuerThatSendsOthers) {
  EXPECT_THAT(exchange_where("rfc8693-no-jwt", {"access_token", "id_token"}, TestTenant::kJwt),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().token(typed("opaque", TestTenant::kJwt)),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc8693_3, X6_TypeIdToken_IsTakenForItsAudience) {
  const auto claims = acme().claims("alice");
  EXPECT_THAT(acme().token(typed(acme().idp.sign(claims, "JWT"), TestTenant::kIdToken)),
              HasStatus(200));
  auto several = claims;
  several["aud"] = {"gw-01", "other-app"};
  several["azp"] = "gw-01";
  EXPECT_THAT(acme().token(typed(acme().idp.sign(several), TestTenant::kIdToken)), HasStatus(200));
}

TEST(Rfc8693_3, X6_TypeIdToken_IsNeitherAnAccessTokenNorAnothers) {
  const auto as_id_token = [](const Json& claims, const char* typ = "JWT") {
    return acme().token(typed(acme().idp.sign(claims, typ), TestTenant::kIdToken));
  };
  const auto claims = acme().claims("alice");
  EXPECT_THAT(as_id_token(claims, "at+jwt"), IsOAuthError(400, "invalid_request"));
  auto several = claims;
  several["aud"] = {"gw-01", "other-app"};
  EXPECT_THAT(as_id_token(several), IsOAuthError(400, "invalid_request"));
  several["azp"] = "other-app";
  EXPECT_THAT(as_id_token(several), IsOAuthError(400, "invalid_request"));
  auto elsewhere = claims;
  elsewhere["aud"] = "other-app";
  elsewhere["azp"] = "gw-01";  // narrows, never widens
  EXPECT_THAT(as_id_token(elsewhere), IsOAuthError(400, "invalid_request"));
  auto endless = claims;
  endless.erase("exp");
  EXPECT_THAT(as_id_token(endless), IsOAuthError(400, "invalid_request"));
}

TEST(Rfc8693_3, TypeIdToken_IsNeverIssued) {
  for (const char* target : {"files", "search"}) {
    EXPECT_THAT(
        acme().token(typed(alice(), TestTenant::kIdToken,
                           {{"audience", target}, {"requested_token_type", TestTenant::kIdToken}})),
        IsOAuthError(400, "invalid_request"));
  }
}

TEST(Rfc8693_3, TypeUnsupported_TheSupportedOnesAreTakenOfBothParties) {
  for (const char* subject : {TestTenant::kAccessToken, TestTenant::kJwt, TestTenant::kIdToken}) {
    for (const char* actor : {TestTenant::kAccessToken, TestTenant::kJwt, TestTenant::kIdToken}) {
      EXPECT_THAT(
          acme().token(typed(
              alice(), subject,
              {{"audience", "files"}, {"actor_token", robot()}, {"actor_token_type", actor}})),
          HasStatus(200))
          << subject << actor;
    }
  }
}

TEST(Rfc8693_3, TypeUnsupported_IsInvalidRequestOfBothParties) {
  for (const char* type : kUnsupportedTypes) {
    EXPECT_THAT(acme().token(typed(alice(), type)), IsOAuthError(400, "invalid_request")) << type;
    EXPECT_THAT(delegated(alice(), robot(), type), IsOAuthError(400, "invalid_request")) << type;
  }
  // Nor what is issued as a stored credential.
  EXPECT_THAT(acme().token(typed(alice(), kCredential)), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(delegated(alice(), robot(), kCredential), IsOAuthError(400, "invalid_request"));
}

// ---- validation ----

TEST(Rfc8693_2_2_2, X1_AGoodTokenOfASubjectAndAnActorIsTaken) {
  EXPECT_EQ(issued(acme().exchange(alice(), "files")).at("sub"), "alice");
  EXPECT_EQ(issued(delegated(alice(), robot())).at("act").at("sub"), "robot");
}

TEST(Rfc8693_2_2_2, X1_ABadSubjectTokenIsInvalidRequestNeverInvalidGrant) {
  EXPECT_THAT(acme().exchange("garbage", "files"), IsOAuthError(400, "invalid_request"));
  auto expired = acme().claims("alice");
  expired["exp"] = seconds_of(SystemClock().now() - 1s);
  EXPECT_THAT(acme().exchange(acme().idp.sign(expired), "files"),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc8693_2_2_2, X1_WhateverIsWrongWithEitherTokenIsInvalidRequest) {
  const auto now = seconds_of(SystemClock().now());
  const auto with = [&](const char* claim, const Json& value) {
    return acme().idp.sign(alice_with(claim, value));
  };
  const auto good = alice();
  const auto revoked = with("jti", "to be revoked");
  ASSERT_THAT(acme().exchange(revoked, "files"), HasStatus(200));
  ASSERT_THAT(acme().ask("POST", "/t/rfc8693/revoke",
                         {{"Content-Type", "application/x-www-form-urlencoded"},
                          {"Authorization", basic("gw-01", acme().secret)}},
                         form({{"token", revoked}})),
              HasStatus(200));
  for (const auto& [what, token] :
       Pairs{{"opaque", "garbage"},
             {"empty parts", ".."},
             {"unsigned", "eyJhbGciOiJub25lIn0" +
                              good.substr(good.find('.'), good.rfind('.') + 1 - good.find('.'))},
             {"no signature", good.substr(0, good.rfind('.') + 1)},
             {"another's key", Idp(acme().idp.issuer()).sign(acme().claims("alice"))},
             {"another issuer", with("iss", "https://elsewhere.example")},
             {"no issuer", with("iss", nullptr)},
             {"for another", with("aud", "other-app")},
             {"no subject", with("sub", "")},
             {"expired", with("exp", now - 1)},
             {"not yet", with("nbf", now + 3600)},
             {"from the future", with("iat", now + 3600)},
             {"revoked", revoked}}) {
    EXPECT_THAT(acme().exchange(token, "files"), IsOAuthError(400, "invalid_request")) << what;
    EXPECT_THAT(delegated(good, token), IsOAuthError(400, "invalid_request")) << what;
  }
}

TEST(Rfc8693_2_2_2, X1_ATokenThatPolicyRefusesIsInvalidRequest) {
  TestTenant tenant("rfc8693-policy");
  const auto token = tenant.user_token("alice");
  ASSERT_THAT(tenant.exchange(token, "files"), HasStatus(200));
  tenant.part("issuers", "corp")["required_claims"] = {{"department", {"engineering"}}};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_THAT(tenant.exchange(token, "files"), IsOAuthError(400, "invalid_request"));
  tenant.part("issuers", "corp").erase("required_claims");
  tenant.part("issuers", "corp")["enabled"] = false;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_THAT(tenant.exchange(token, "files"), IsOAuthError(400, "invalid_request"));
}

TEST(Rfc8693_2_1, X2_TheSubjectTokenIsNotConsumed) {
  const auto subject = alice(), actor = robot();
  std::set<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    ids.insert(issued(acme().exchange(subject, "files")).at("jti"));
    ids.insert(issued(delegated(subject, actor)).at("jti"));
  }
  EXPECT_EQ(ids.size(), 6U);
}

TEST(Rfc8693_3, X3_TheIssuerChoosesTheVerifierNotTheDeclaredType) {
  // A foreign token that gateways label access_token.
  EXPECT_THAT(acme().token(typed(acme().user_token("alice"), TestTenant::kAccessToken)),
              HasStatus(200));
  EXPECT_THAT(acme().token(typed(acme().user_token("alice"), TestTenant::kJwt)), HasStatus(200));
  // Another issuer's key under our issuer's name.
  const Idp impostor(acme().idp.issuer());
  EXPECT_THAT(acme().exchange(impostor.sign(acme().claims("alice")), "files"),
              IsOAuthError(400, "invalid_request"));
}

/// A second gateway, to which the issuer's tokens are not addressed.
struct Presenter {
  Presenter() {
    tenant.manifest["clients"].push_back(
        {{"id", "gw-other"}, {"backends", {"*"}}, {"scopes", {"*"}}});
    secret = json_of(tenant.apply()).at("client_secrets").at(0).at("client_secret");
  }
  WireReply present(const char* claim, const Json& value) const {
    auto claims = tenant.claims("alice");
    claims[claim] = value;
    return tenant.token(tenant.exchange_fields(tenant.idp.sign(claims), "files"),
                        basic("gw-other", secret));
  }
  TestTenant tenant{"presenter"};
  std::string secret;
};
const Presenter& presenter() {
  static const Presenter made;
  return made;
}

TEST(TokenExchange, X4_TheAudienceAndThePresenterMayExchange) {
  EXPECT_THAT(presenter().present("azp", "gw-other"), HasStatus(200));
  EXPECT_THAT(presenter().present("client_id", "gw-other"), HasStatus(200));
  EXPECT_THAT(presenter().present("aud", {"gw-01", "gw-other"}), HasStatus(200));
}

TEST(TokenExchange, X4_NobodyElseMay) {
  EXPECT_THAT(presenter().present("aud", "gw-01"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(presenter().present("azp", "gw-01"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(presenter().present("client_id", "gw-01"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(presenter().present("client", "gw-other"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(presenter().present("sub", "gw-other"), IsOAuthError(400, "invalid_request"));
}

TEST(TokenExchange, X5_ABoundTokenIsRefused) {
  EXPECT_THAT(acme().exchange(acme().idp.sign(alice_with("cnf", {{"jkt", "x"}})), "files"),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().exchange(acme().idp.sign(alice_with("cnf", Json::object())), "files"),
              IsOAuthError(400, "invalid_request"));
}

WireReply exchange_where_may_act(const Json& may_act, const std::string& actor = "") {
  const auto subject = acme().idp.sign(alice_with("may_act", may_act));
  return actor.empty() ? acme().exchange(subject, "files") : delegated(subject, actor);
}

TEST(Rfc8693_4_4, X7_WhomMayActNamesMayAct) {
  EXPECT_THAT(exchange_where_may_act({{"sub", "gw-01"}}), HasStatus(200));
  EXPECT_THAT(exchange_where_may_act({{"client_id", "gw-01"}}), HasStatus(200));
  EXPECT_THAT(exchange_where_may_act({{"sub", "robot"}}, robot()), HasStatus(200));
  EXPECT_THAT(exchange_where_may_act({{"sub", "robot"}, {"iss", acme().idp.issuer()}}, robot()),
              HasStatus(200));
}

TEST(Rfc8693_4_4, X7_NobodyElseMay) {
  for (const Json& party :
       std::vector<Json>{{{"sub", "gw-02"}},
                         Json::object(),
                         {{"sub", "gw-01"}, {"iss", "https://elsewhere.example"}},
                         {{"sub", "gw-01"}, {"unknown", "x"}},
                         {{"sub", "robot"}},
                         "gw-01",
                         Json::array({"gw-01"})}) {
    EXPECT_THAT(exchange_where_may_act(party), IsOAuthError(400, "invalid_request")) << party;
  }
  // With an actor it is the actor who is named, not the client that sends him.
  for (const Json& party :
       std::vector<Json>{{{"sub", "gw-01"}},
                         {{"client_id", "gw-01"}},
                         {{"sub", "other"}},
                         Json::object(),
                         {{"sub", "robot"}, {"iss", "https://elsewhere.example"}}}) {
    EXPECT_THAT(exchange_where_may_act(party, robot()), IsOAuthError(400, "invalid_request"))
        << party;
  }
  // A release is an exchange too.
  const auto release = acme().release(acme().idp.sign(alice_with("may_act", {{"sub", "gw-02"}})),
                                      {{{"backend", "files"}}});
  EXPECT_THAT(release, IsProblem(422, "invalid-token"));
}

/// A chain of this many actors, a1 outermost.
Json chain_of(int actors) {
  Json act;
  for (int i = actors; i >= 1; --i) {
    Json outer{{"sub", "a" + std::to_string(i)}};
    if (!act.is_null()) outer["act"] = std::move(act);
    act = std::move(outer);
  }
  return act;
}

TEST(Rfc8693_4_1, X8_X9_HistoryIsKeptBelowWhoActsNow) {
  // With an actor token: the actor outermost, the subject's history below.
  const auto history = chain_of(2);
  const auto subject = acme().idp.sign(alice_with("act", history));
  const auto acted = issued(delegated(subject, robot()));
  EXPECT_EQ(acted.at("act"),
            Json({{"iss", acme().idp.issuer()}, {"sub", "robot"}, {"act", history}}));
  EXPECT_EQ(acted.at("sub"), "alice");
  // Without: the gateway is wrapped around it, not dropped.
  const auto wrapped = issued(acme().exchange(subject, "files"));
  EXPECT_EQ(wrapped.at("act"), Json({{"sub", "gw-01"}, {"act", history}}));
  EXPECT_FALSE(issued(acme().exchange(alice(), "files")).contains("act"));
  // Five are not too many.
  EXPECT_EQ(issued(acme().exchange(acme().idp.sign(alice_with("act", chain_of(4))), "files"))
                .at("act")
                .at("act"),
            chain_of(4));
}

TEST(Rfc8693_4_1, X8_ActHasIdentityAndNothingElse) {
  for (const Json& act : std::vector<Json>{{{"sub", "a"}, {"exp", 1}},
                                           {{"sub", "a"}, {"nbf", 1}},
                                           {{"sub", "a"}, {"aud", "gw-01"}},
                                           {{"sub", "a"}, {"act", {{"sub", "b"}, {"exp", 1}}}},
                                           "a",
                                           Json::array({"a"}),
                                           {{"sub", "a"}, {"act", "b"}}}) {
    EXPECT_THAT(acme().exchange(acme().idp.sign(alice_with("act", act)), "files"),
                IsOAuthError(400, "invalid_request"))
        << act;
  }
}

TEST(Rfc8693_4_1, X8_HistoryAuthorisesNothing) {
  // Rights are the subject's, whoever acted for it before.
  auto claims = acme().claims("intern");
  claims["groups"] = Json::array();
  claims["act"] = {{"iss", acme().idp.issuer()}, {"sub", "alice"}, {"groups", {"engineering"}}};
  EXPECT_THAT(acme().exchange(acme().idp.sign(claims), "files"),
              IsOAuthError(400, "invalid_target"));
  // Who acted once is not who acts now.
  auto consented = alice_with("may_act", {{"sub", "robot"}});
  consented["act"] = {{"iss", acme().idp.issuer()}, {"sub", "robot"}};
  EXPECT_THAT(acme().exchange(acme().idp.sign(consented), "files"),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc8693_4_1, X9_MoreThanFiveActorsAreRefused) {
  const auto subject = acme().idp.sign(alice_with("act", chain_of(5)));
  EXPECT_THAT(acme().exchange(subject, "files"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(delegated(subject, robot()), IsOAuthError(400, "invalid_request"));
}

TEST(Rfc8693_2_1_1, X10_OneTargetByWhateverNames) {
  for (const Pairs& targets :
       std::vector<Pairs>{{{"resource", kFiles}, {"audience", "files"}, {"audience", "docs"}},
                          {{"resource", kFiles}, {"resource", kFiles}},
                          {{"audience", kFiles}, {"audience", "files"}}}) {
    EXPECT_EQ(issued(acme().token(typed(alice(), TestTenant::kJwt, targets))).at("aud"), kFiles)
        << form(targets);
  }
}

TEST(Rfc8693_2_1_1, X10_TwoTargetsOrUnknownOnesAreRefused) {
  for (const Pairs& targets :
       std::vector<Pairs>{{{"audience", "files"}, {"audience", "search"}},
                          {{"resource", kFiles}, {"audience", "search"}},
                          {{"resource", kFiles}, {"resource", "https://search.example.com/mcp"}},
                          {{"audience", "files"}, {"audience", "nowhere"}},
                          {{"audience", "nowhere"}},
                          {{"resource", "files"}},
                          {{"resource", std::string(kFiles) + "#x"}}}) {
    EXPECT_THAT(acme().token(typed(alice(), TestTenant::kJwt, targets)),
                IsOAuthError(400, "invalid_target"))
        << form(targets);
  }
}

TEST(Rfc9068_3, X11_NoTargetMeansTheClientsDefault) {
  const auto fields = typed(alice(), TestTenant::kJwt, {});
  EXPECT_EQ(issued(acme().token(fields, basic("gw-files", acme().files_secret))).at("aud"), kFiles);
}

TEST(Rfc9068_3, X11_NoTargetIsInvalidTargetOfAClientWithoutDefault) {
  EXPECT_THAT(acme().token(typed(alice(), TestTenant::kJwt, {})),
              IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(acme().token(typed(alice(), TestTenant::kJwt, {{"audience", ""}, {"resource", ""}})),
              IsOAuthError(400, "invalid_target"));
  // Nor does a default stand in for a target that is unknown.
  EXPECT_THAT(acme().token(typed(alice(), TestTenant::kJwt, {{"audience", "nowhere"}}),
                           basic("gw-files", acme().files_secret)),
              IsOAuthError(400, "invalid_target"));
}

TEST(Rfc8707_2, X12_ResourcesAreComparedNormalised) {
  for (const char* resource :
       {"https://files.example.com/mcp", "https://files.example.com/mcp/",
        "https://FILES.example.com/mcp", "HTTPS://files.example.com:443/mcp"}) {
    EXPECT_EQ(
        issued(acme().token(typed(alice(), TestTenant::kJwt, {{"resource", resource}}))).at("aud"),
        kFiles)
        << resource;
  }
}

TEST(Rfc8707_2, X12_AnotherResourceIsRefused) {
  for (const char* resource :
       {"https://files.example.com/MCP", "https://files.example.com/mcp//",
        "https://files.example.com/mcp/../mcp2", "https://files.example.com:8443/mcp",
        "http://files.example.com/mcp", "https://files.example.com/mc",
        "https://user@files.example.com/mcp", "https://files.example.com.evil.example/mcp"}) {
    EXPECT_THAT(acme().token(typed(alice(), TestTenant::kJwt, {{"resource", resource}})),
                IsOAuthError(400, "invalid_target"))
        << resource;
  }
}

TEST(TokenExchange, X12_AnAliasMayBeTheAudienceWhenTheBackendWantsIt) {
  TestTenant tenant("alias");
  tenant.part("backends", "files")["aud_as_requested"] = true;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto aud = [&](const char* audience) {
    return issued(tenant.exchange(tenant.user_token("alice"), audience)).at("aud");
  };
  EXPECT_EQ(aud("docs"), "docs");
  EXPECT_EQ(aud(kFiles), kFiles);
}

TEST(TokenExchange, X13_ScopeIsTheIntersectionAndIdentityScopesAreDropped) {
  const auto token = acme().idp.sign(alice_with("scope", "files:read search openid"));
  EXPECT_EQ(issued(acme().exchange(token, "files")).at("scope"), "files:read");
  for (const char* asked : {"openid profile files:read", "openid", "email offline_access"}) {
    EXPECT_EQ(issued(acme().exchange(token, "files", {{"scope", asked}})).at("scope"), "files:read")
        << asked;
  }
}

TEST(TokenExchange, X13_MoreThanAnyOfThemAllowsIsRefused) {
  const auto token = acme().idp.sign(alice_with("scope", "files:read search openid"));
  for (const char* asked : {"files:write", "files:read files:write", "files:read search"}) {
    EXPECT_THAT(acme().exchange(token, "files", {{"scope", asked}}),
                IsOAuthError(400, "invalid_scope"))
        << asked;
  }
  // The client's, the target's and the user's own bounds.
  EXPECT_THAT(acme().token(typed(alice(), TestTenant::kJwt,
                                 {{"audience", "files"}, {"scope", "files:write"}}),
                           basic("gw-files", acme().files_secret)),
              IsOAuthError(400, "invalid_scope"));
  EXPECT_THAT(acme().exchange(alice(), "files", {{"scope", "files:admin"}}),
              IsOAuthError(400, "invalid_scope"));
  EXPECT_THAT(acme().exchange(acme().idp.sign(alice_with("scope", "something:else")), "files"),
              IsOAuthError(400, "invalid_scope"));
}

/// Of a user whose role permits to read, in a token without scope.
std::string sales_token() {
  auto claims = acme().claims("carol");
  claims["groups"] = {"sales"};
  return acme().idp.sign(claims);
}

TEST(TokenExchange, X14_WithoutScopeTheRolesAreTheCeiling) {
  EXPECT_EQ(issued(acme().exchange(sales_token(), "files")).at("scope"), "files:read");
  EXPECT_EQ(issued(acme().token(typed(sales_token(), TestTenant::kIdToken))).at("scope"),
            "files:read");
}

TEST(TokenExchange, X14_WithoutScopeNothingIsBeyondTheRoles) {
  EXPECT_THAT(acme().exchange(sales_token(), "files", {{"scope", "files:write"}}),
              IsOAuthError(400, "invalid_scope"));
  EXPECT_THAT(acme().exchange(sales_token(), "search"), IsOAuthError(400, "invalid_target"));
  auto nobody = acme().claims("dave");
  nobody["groups"] = Json::array();
  EXPECT_THAT(acme().exchange(acme().idp.sign(nobody), "files"),
              IsOAuthError(400, "invalid_target"));
}

TEST(TokenExchange, X15_NothingOutlivesItsSubject) {
  const auto now = seconds_of(SystemClock().now());
  const auto soon = issued(acme().exchange(acme().idp.sign(alice_with("exp", now + 60)), "files"));
  EXPECT_LE(soon.at("exp").get<std::int64_t>(), now + 60);
  const auto late =
      issued(acme().exchange(acme().idp.sign(alice_with("exp", now + 9000)), "files"));
  EXPECT_LE(late.at("exp").get<std::int64_t>() - late.at("iat").get<std::int64_t>(), 300);
  auto actor = acme().claims("robot");
  actor["exp"] = now + 30;
  const auto delegated = issued(acme().exchange(
      acme().user_token("alice"), "files",
      {{"actor_token", acme().idp.sign(actor)}, {"actor_token_type", TestTenant::kJwt}}));
  EXPECT_LE(delegated.at("exp").get<std::int64_t>(), now + 30);
}

TEST(TokenExchange, X16_NoRefreshToken) {
  EXPECT_FALSE(
      json_of(acme().exchange(acme().user_token("alice"), "files")).contains("refresh_token"));
}

TEST(TokenExchange, X17_EachDecisionIsRecordedWithoutTokenText) {
  TestTenant tenant("recorded");
  const auto subject = tenant.user_token("alice");
  const auto granted = issued(tenant.exchange(subject, "files",
                                              {{"scope", "files:read openid"},
                                               {"actor_token", tenant.user_token("robot")},
                                               {"actor_token_type", TestTenant::kJwt}}));
  tenant.exchange(subject, "files", {{"scope", "files:admin"}});
  const auto records = tenant.audit("action=token.exchange");
  ASSERT_EQ(records.size(), 2u);
  const auto& fields = records[0].at("event").at("fields");
  EXPECT_EQ(records[0].at("event").at("outcome"), "allowed");
  EXPECT_EQ(fields.at("client"), "gw-01");
  EXPECT_EQ(fields.at("subject"), "alice");
  EXPECT_EQ(fields.at("subject_issuer"), tenant.idp.issuer());
  EXPECT_EQ(fields.at("subject_token").get<std::string>().size(), 22u);  // of its hash
  EXPECT_EQ(fields.at("actor"), "robot");
  EXPECT_EQ(fields.at("audience"), kFiles);
  EXPECT_EQ(fields.at("requested_scope"), "files:read");
  EXPECT_EQ(fields.at("scope"), "files:read");
  EXPECT_EQ(granted.at("jti"), fields.at("jti"));
  EXPECT_EQ(records[1].at("event").at("outcome"), "refused");
  EXPECT_EQ(records[1].at("event").at("fields").at("code"), "ScopeRefused");
  EXPECT_EQ(Json(records).dump().find("eyJ"), std::string::npos);
}

// ---- the response (§2.2.1) ----

/// One refusal for each of the reasons.
std::vector<WireReply> refusals() {
  return {acme().exchange("garbage", "files"),
          acme().exchange(alice(), "nowhere"),
          acme().exchange(alice(), "files", {{"scope", "files:admin"}}),
          acme().exchange(alice(), "files", {{"requested_token_type", TestTenant::kIdToken}}),
          acme().exchange(alice(), "github"),
          acme().token(typed(alice(), TestTenant::kJwt), basic("gw-01", "wrong")),
          acme().token({{"grant_type", "password"}})};
}

TEST(Rfc8693_2_2_1, ResponseAccessToken_IsWhatWasIssuedWhateverItsType) {
  for (const char* type : {TestTenant::kAccessToken, TestTenant::kJwt}) {
    const auto reply = acme().exchange(alice(), "files", {{"requested_token_type", type}});
    const auto jwks = json_of(acme().ask("GET", "/t/rfc8693/jwks"));
    EXPECT_EQ(verified_claims(json_of(reply, "access_token").get<std::string>(), jwks).at("sub"),
              "alice")
        << type;
  }
}

TEST(Rfc8693_2_2_1, ResponseAccessToken_IsInNoRefusal) {
  for (const auto& reply : refusals()) {
    EXPECT_GE(reply.status, 400);
    for (const char* member :
         {"access_token", "issued_token_type", "token_type", "expires_in", "scope"}) {
      EXPECT_FALSE(json_of(reply).contains(member)) << reply.body;
    }
  }
}

TEST(Rfc8693_2_2_1, ResponseIssuedTokenType_IsInNoAnswerToAnotherGrant) {
  const auto reply = acme().token({{"grant_type", "client_credentials"},
                                   {"audience", "files"},
                                   {"requested_token_type", TestTenant::kJwt}});
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_FALSE(json_of(reply).contains("issued_token_type"));
}

TEST(Rfc8693_2_2_1, ResponseTokenType_IsBearerOfEveryAccessToken) {
  for (const Pairs& more : std::vector<Pairs>{{},
                                              {{"requested_token_type", TestTenant::kAccessToken}},
                                              {{"requested_token_type", TestTenant::kJwt}}}) {
    for (const char* target : {"files", "search"}) {
      EXPECT_EQ(json_of(acme().exchange(alice(), target, more)).at("token_type"), "Bearer");
    }
  }
}

TEST(Rfc8693_2_2_1, ResponseExpiresIn_IsNeverMoreThanTheTokenHas) {
  const auto now = seconds_of(SystemClock().now());
  for (const int left : {5, 60, 299, 301, 86'400}) {
    const auto reply = acme().exchange(acme().idp.sign(alice_with("exp", now + left)), "files");
    const auto expires_in = json_of(reply).at("expires_in");
    ASSERT_TRUE(expires_in.is_number_unsigned()) << expires_in;
    EXPECT_LE(expires_in.get<int>(), std::min(left, 300));
    const auto claims = issued(reply);
    EXPECT_EQ(claims.at("exp").get<std::int64_t>() - claims.at("iat").get<std::int64_t>(),
              expires_in.get<std::int64_t>());
  }
}

TEST(Rfc8693_2_2_1, ResponseScope_NamesNothingThatTheTokenLacks) {
  for (const char* asked : {"files:read", "openid files:read", "profile", "files:write email"}) {
    const auto reply = acme().exchange(alice(), "files", {{"scope", asked}});
    EXPECT_EQ(issued(reply).at("scope"), json_of(reply).at("scope")) << asked;
    EXPECT_EQ(json_of(reply).at("scope").get<std::string>().find("openid"), std::string::npos);
  }
}

TEST(Rfc8693_2_1, AParameterLostOnTheWayNeverWidensTheResult) {
  // A client that may also act for itself, and a request with everything in it.
  const auto actor = acme().user_token("robot");
  const Pairs full{{"grant_type", TestTenant::kExchange},
                   {"subject_token", acme().user_token("alice")},
                   {"subject_token_type", TestTenant::kJwt},
                   {"actor_token", actor},
                   {"actor_token_type", TestTenant::kJwt},
                   {"audience", "files"},
                   {"resource", kFiles},
                   {"scope", "files:read"},
                   {"requested_token_type", TestTenant::kAccessToken}};
  ASSERT_EQ(issued(acme().token(full)).at("scope"), "files:read");
  for (std::size_t i = 0; i < full.size(); ++i) {
    const auto& name = full[i].first;
    auto left_out = full;
    left_out.erase(left_out.begin() + static_cast<std::ptrdiff_t>(i));
    auto blank = full;
    blank[i].second.clear();
    for (const auto& fields : {left_out, blank}) {
      const auto reply = acme().token(fields);
      const bool optional = name == "audience" || name == "resource" || name == "scope" ||
                            name == "requested_token_type";
      ASSERT_EQ(reply.status, optional ? 200 : 400) << name << reply.body;
      if (!optional) continue;
      const auto claims = issued(reply);
      EXPECT_EQ(claims.at("sub"), "alice") << name;  // never the client's own token
      EXPECT_EQ(claims.at("aud"), kFiles) << name;
      EXPECT_EQ(claims.at("act").at("sub"), "robot") << name;
      if (name != "scope") {
        EXPECT_EQ(claims.at("scope"), "files:read") << name;
      }
    }
    auto twice = full;
    twice.push_back(full[i]);
    EXPECT_EQ(acme().token(twice).status, name == "audience" || name == "resource" ? 200 : 400)
        << name;
  }
}

TEST(Rfc8693_2_2_2, NoClientReachesATargetThatIsNotItsOwn) {
  // gw-files may have files alone, whatever the user may.
  const auto alice = acme().user_token("alice");
  for (const char* target : {"files", "search", "github", "db", "jira", "nowhere"}) {
    const auto reply =
        acme().token(acme().exchange_fields(alice, target), basic("gw-files", acme().files_secret));
    if (std::string_view(target) == "files") {
      EXPECT_EQ(issued(reply).at("scope"), "files:read");
    } else {
      EXPECT_THAT(reply, IsOAuthError(400, "invalid_target")) << target;
    }
  }
}

// ---- a stored credential as the answer ----

struct VaultedAnswer : testing::Test {
  static TestTenant& vaulted() {
    static TestTenant tenant("vaulted");
    static const bool ready = [] {
      tenant.part("backends", "github")["token_field"] = "token";
      EXPECT_THAT(tenant.apply(), HasStatus(200));
      tenant.store("alice", "github", {{"token", R"(ghp_"al\ice)"}});
      return true;
    }();
    EXPECT_TRUE(ready);
    return tenant;
  }
};

TEST_F(VaultedAnswer, Rfc8693_2_2_1_AStockGatewayGetsABearer) {
  const auto alice = vaulted().user_token("alice");
  for (const Pairs& more :
       std::vector<Pairs>{{}, {{"requested_token_type", TestTenant::kAccessToken}}}) {
    const auto reply = vaulted().exchange(alice, "github", more);
    ASSERT_THAT(reply, HasStatus(200));
    EXPECT_EQ(reply.header("Cache-Control"), "no-store");
    const auto json = json_of(reply);
    EXPECT_EQ(json.at("access_token"), R"(ghp_"al\ice)");
    EXPECT_EQ(json.at("token_type"), "Bearer");
    EXPECT_EQ(json.at("issued_token_type"), TestTenant::kAccessToken);
    EXPECT_TRUE(json.at("expires_in").is_number_integer());
    EXPECT_LE(json.at("expires_in"), 300);
    EXPECT_EQ(json.at("scope"), "repo:read repo:write");
    EXPECT_FALSE(json.contains("refresh_token"));
  }
}

TEST_F(VaultedAnswer, Rfc8693_2_2_1_TypeCredential_IsIssuedAsNoAccessToken) {
  const auto json = json_of(vaulted().exchange(vaulted().user_token("alice"), "github",
                                               {{"requested_token_type", kCredential}}));
  EXPECT_EQ(json.at("access_token"), R"(ghp_"al\ice)");
  EXPECT_EQ(json.at("token_type"), "N_A");
  EXPECT_EQ(json.at("issued_token_type"), kCredential);
}

TEST_F(VaultedAnswer, Rfc8693_2_2_1_TypeCredential_IsOfVaultedBackendsAlone) {
  const auto alice = vaulted().user_token("alice");
  for (const char* type : {TestTenant::kJwt, "https://postern-project.org/oauth/token-type/"}) {
    EXPECT_THAT(vaulted().exchange(alice, "github", {{"requested_token_type", type}}),
                IsOAuthError(400, "invalid_request"));
  }
  EXPECT_THAT(vaulted().exchange(alice, "files", {{"requested_token_type", kCredential}}),
              IsOAuthError(400, "invalid_request"));
}

TEST_F(VaultedAnswer, WhoHasNotConnectedIsToldWhere) {
  const auto reply = vaulted().exchange(vaulted().user_token("bob"), "github");
  EXPECT_THAT(reply, IsOAuthError(400, "interaction_required"));
  EXPECT_EQ(json_of(reply).at("error_uri"), "https://portal.example/connect?backend=github");
}

TEST_F(VaultedAnswer, NeedsAllOfTheBackendTheUserAndTheClient) {
  auto claims = vaulted().claims("alice");
  claims["scope"] = "repo:read";
  EXPECT_THAT(vaulted().exchange(vaulted().idp.sign(claims), "github"),
              IsOAuthError(400, "invalid_scope"));
  const auto alice = vaulted().user_token("alice");
  const auto fields = vaulted().exchange_fields(alice, "github");
  EXPECT_THAT(vaulted().token(fields, basic("gw-files", vaulted().files_secret)),
              IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(vaulted().token(fields, basic("gw-01", "wrong")),
              IsOAuthError(401, "invalid_client"));
  const auto own = json_of(vaulted().exchange(alice, "files")).at("access_token");
  EXPECT_THAT(vaulted().exchange(own.get<std::string>(), "github"),
              IsOAuthError(400, "invalid_request"));
}

TEST_F(VaultedAnswer, X17_IsOneRecordOfAReleaseWithoutTheSecret) {
  TestTenant tenant("vaulted-audit");
  tenant.part("backends", "github")["token_field"] = "token";
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  tenant.store("alice", "github", {{"token", "ghp_recorded"}});
  const auto before = tenant.audit().size();
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "github"), HasStatus(200));
  const auto records = tenant.audit();
  ASSERT_EQ(records.size(), before + 1);
  const auto& event = records.back().at("event");
  EXPECT_EQ(event.at("action"), "credential.release");
  EXPECT_EQ(event.at("fields").at("grant"), "token-exchange");
  EXPECT_EQ(event.at("fields").at("credential_version"), "1");
  EXPECT_EQ(Json(records).dump().find("ghp_recorded"), std::string::npos);
}

// ---- many targets in one call ----

struct BatchExchange : testing::Test {
  static TestTenant& tenant() {
    static TestTenant made("batch");
    static const bool ready = [] {
      made.part("backends", "github")["token_field"] = "token";
      made.part("backends", "search")["require"] = {{"acr", {"urn:gold"}}, {"max_auth_age", 600}};
      EXPECT_THAT(made.apply(), HasStatus(200));
      made.store("alice", "github", {{"token", "ghp_batch"}});
      return true;
    }();
    EXPECT_TRUE(ready);
    return made;
  }
  static WireReply post(const Json& body) { return post(body, basic("gw-01", tenant().secret)); }
  static WireReply post(const Json& body, const std::string& authorization) {
    return tenant().ask("POST", "/api/v1/tenants/batch/exchange",
                        {{"Authorization", authorization}, {"Content-Type", "application/json"}},
                        body.dump());
  }
  static Json body(Json items) {
    return {{"subject_token", tenant().user_token("alice")}, {"items", std::move(items)}};
  }
};

TEST_F(BatchExchange, EachItemHasItsOwnOutcomeAndRecord) {
  const auto before = tenant().audit().size();
  const auto reply = post(
      body({{{"audience", "files"}, {"scope", "files:read"}},
            {{"backend", "github"}},
            {{"resource", "https://github.example.com/mcp"}, {"requested_token_type", kCredential}},
            {{"audience", "files"}, {"scope", "files:admin"}},
            {{"audience", "nowhere"}},
            {{"backend", "search"}},
            {{"backend", "jira"}},
            {{"resource", kFiles}, {"requested_token_type", TestTenant::kJwt}}}));
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(reply.header("Cache-Control"), "no-store");
  EXPECT_EQ(item_of(reply, 0).at("status"), "allowed");
  EXPECT_EQ(item_of(reply, 0).at("backend"), "files");
  EXPECT_EQ(claims_of(item_of(reply, 0).at("access_token").get<std::string>()).at("aud"), kFiles);
  EXPECT_EQ(item_of(reply, 0).at("scope"), "files:read");
  EXPECT_EQ(item_of(reply, 0).at("token_type"), "Bearer");
  EXPECT_TRUE(item_of(reply, 0).at("expires_in").is_number_integer());
  EXPECT_EQ(item_of(reply, 1).at("access_token"), "ghp_batch");
  EXPECT_EQ(item_of(reply, 2).at("token_type"), "N_A");
  EXPECT_EQ(item_of(reply, 2).at("issued_token_type"), kCredential);
  EXPECT_EQ(item_of(reply, 3).at("error"), "invalid_scope");
  EXPECT_EQ(item_of(reply, 4).at("error"), "invalid_target");
  EXPECT_EQ(item_of(reply, 5).at("error"), "insufficient_user_authentication");
  EXPECT_EQ(item_of(reply, 5).at("acr_values"), "urn:gold");
  EXPECT_EQ(item_of(reply, 5).at("max_age"), 600);
  EXPECT_EQ(item_of(reply, 6).at("error"), "invalid_target");
  EXPECT_EQ(item_of(reply, 7).at("issued_token_type"), TestTenant::kJwt);
  for (std::size_t i = 3; i < 7; ++i) {
    EXPECT_EQ(item_of(reply, i).at("status"), "refused");
    EXPECT_FALSE(item_of(reply, i).contains("access_token"));
  }

  const auto records = tenant().audit();
  ASSERT_EQ(records.size(), before + 8);
  EXPECT_EQ(records[before].at("event").at("action"), "token.exchange");
  EXPECT_EQ(records[before + 1].at("event").at("action"), "credential.release");
  EXPECT_EQ(records[before + 3].at("event").at("outcome"), "refused");
  EXPECT_EQ(Json(records).dump().find("ghp_batch"), std::string::npos);
}

TEST_F(BatchExchange, WhoConnectsNothingIsToldWhereForThatItem) {
  auto asked = body({{{"backend", "github"}}, {{"backend", "files"}}});
  asked["subject_token"] = tenant().user_token("bob");
  const auto reply = post(asked);
  EXPECT_EQ(item_of(reply, 0).at("error"), "interaction_required");
  EXPECT_EQ(item_of(reply, 0).at("connect_url"), "https://portal.example/connect?backend=github");
  EXPECT_EQ(item_of(reply, 1).at("status"), "allowed");
}

TEST_F(BatchExchange, ABadCallIsRefusedWhole) {
  const Json one{{{"audience", "files"}}};
  EXPECT_THAT(post(body(one), basic("gw-01", "wrong")), IsProblem(401, "invalid-client"));
  auto bad = body(one);
  bad["subject_token"] = "garbage";
  EXPECT_THAT(post(bad), IsProblem(422, "invalid-token"));
  bad.erase("subject_token");
  EXPECT_THAT(post(bad), IsProblem(400, "malformed-request"));
  bad = body(one);
  bad["actor_token"] = tenant().user_token("robot");
  EXPECT_THAT(post(bad), IsProblem(400, "malformed-request"));
  bad["actor_token_type"] = TestTenant::kJwt;
  EXPECT_EQ(claims_of(item_of(post(bad)).at("access_token").get<std::string>()).at("act").at("sub"),
            "robot");
  for (const Json& items :
       {Json::array(), Json(1), Json{Json::array()}, Json{Json::object()},
        Json{{{"audience", "files"}, {"resource", kFiles}}}, Json{{{"audience", ""}}},
        Json{{{"audience", 1}}}, Json{{{"audience", "files"}, {"unknown", "x"}}},
        Json{{{"audience", std::string(2001, 'x')}}}, Json(65, Json{{"audience", "files"}})}) {
    EXPECT_THAT(post(body(items)), IsProblem(400, "malformed-request"))
        << items.dump().substr(0, 99);
  }
  auto unknown = body(one);
  unknown["scope"] = "files:read";
  EXPECT_THAT(post(unknown), IsProblem(400, "malformed-request"));
}

TEST_F(BatchExchange, SixtyFourItemsAreOneCall) {
  const auto reply = post(body(Json(64, Json{{"audience", "files"}})));
  ASSERT_THAT(reply, HasStatus(200));
  std::set<std::string> ids;
  for (const auto& item : json_of(reply, "items")) {
    ids.insert(claims_of(item.at("access_token").get<std::string>()).at("jti"));
  }
  EXPECT_EQ(ids.size(), 64u);
}

// ---- Entra ID's words for an exchange ----

struct OnBehalfOf : testing::Test {
  static constexpr const char* kJwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer";
  static WireReply ask(const std::string& assertion, Pairs more) {
    Pairs fields{{"grant_type", kJwtBearer},
                 {"requested_token_use", "on_behalf_of"},
                 {"assertion", assertion}};
    fields.insert(fields.end(), more.begin(), more.end());
    return acme().token(fields);
  }
};

TEST_F(OnBehalfOf, IsAnExchangeInOtherWords) {
  const auto alice = acme().user_token("alice");
  const std::string files(kFiles);
  for (const Pairs& more : std::vector<Pairs>{{{"scope", files + "/.default"}},
                                              {{"scope", files + "/.default offline_access"}},
                                              {{"audience", "files"}},
                                              {{"resource", kFiles}, {"scope", "openid"}}}) {
    const auto reply = ask(alice, more);
    EXPECT_EQ(issued(reply).at("aud"), kFiles);
    EXPECT_EQ(json_of(reply).at("scope"), "files:read files:write");
    EXPECT_FALSE(json_of(reply).contains("issued_token_type"));
  }
  EXPECT_EQ(issued(ask(alice, {{"scope", files + "/files:read"}})).at("scope"), "files:read");
  EXPECT_EQ(acme()
                .audit("action=token.exchange&limit=1000")
                .back()
                .at("event")
                .at("fields")
                .at("subject"),
            "alice");
}

TEST_F(OnBehalfOf, FailsAsAnExchange) {
  const auto alice = acme().user_token("alice");
  EXPECT_THAT(ask("garbage", {{"audience", "files"}}), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(ask(alice, {}), IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(ask(alice, {{"scope", "https://nowhere.example/.default"}}),
              IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(ask(alice, {{"scope", std::string(kFiles) + "/files:admin"}}),
              IsOAuthError(400, "invalid_scope"));
  EXPECT_THAT(ask(alice, {{"scope", std::string(kFiles) +
                                        "/.default https://search.example.com/mcp/.default"}}),
              IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(acme().token({{"grant_type", kJwtBearer},
                            {"requested_token_use", "on_behalf_of"},
                            {"audience", "files"}}),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(
      acme().token(
          {{"grant_type", kJwtBearer}, {"requested_token_use", "other"}, {"assertion", alice}}),
      IsOAuthError(400, "invalid_request"));
}

}  // namespace
}  // namespace postern::test
