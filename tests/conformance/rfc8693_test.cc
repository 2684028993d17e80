// Token exchange on the wire (RFC 8693, 8707). Rows X of docs/conformance.md; what
// the grant decides by itself is in rfc8693_grant_test.cc.

#include <gtest/gtest.h>

#include <set>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

constexpr const char* kFiles = "https://files.example.com/mcp";

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

TEST(Rfc8693_2_2_2, X1_ABadSubjectTokenIsInvalidRequestNeverInvalidGrant) {
  EXPECT_THAT(acme().exchange("garbage", "files"), IsOAuthError(400, "invalid_request"));
  auto expired = acme().claims("alice");
  expired["exp"] = seconds_of(SystemClock().now() - 1s);
  EXPECT_THAT(acme().exchange(acme().idp.sign(expired), "files"),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc8693_2_1, X1_ParametersThatBelongTogether) {
  const auto alice = acme().user_token("alice");
  for (const Pairs& fields : std::vector<Pairs>{
           {{"grant_type", TestTenant::kExchange}, {"audience", "files"}},
           {{"grant_type", TestTenant::kExchange}, {"subject_token", alice}, {"audience", "files"}},
           {{"grant_type", TestTenant::kExchange},
            {"subject_token_type", TestTenant::kJwt},
            {"audience", "files"}},
           typed(alice, TestTenant::kJwt, {{"audience", "files"}, {"actor_token", alice}}),
           typed(alice, TestTenant::kJwt,
                 {{"audience", "files"}, {"actor_token_type", TestTenant::kJwt}}),
           typed(alice, "urn:ietf:params:oauth:token-type:saml2"),
           typed(alice, "urn:ietf:params:oauth:token-type:refresh_token"),
           typed(alice, "jwt")}) {
    EXPECT_THAT(acme().token(fields), IsOAuthError(400, "invalid_request")) << form(fields);
  }
}

TEST(Rfc8693_2_1, X2_TheSubjectTokenIsNotConsumed) {
  const auto alice = acme().user_token("alice");
  const auto first = issued(acme().exchange(alice, "files"));
  const auto second = issued(acme().exchange(alice, "files"));
  EXPECT_NE(first.at("jti"), second.at("jti"));
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

TEST(TokenExchange, X4_OnlyThePresenterMayExchange) {
  TestTenant tenant("presenter");
  tenant.manifest["clients"].push_back(
      {{"id", "gw-other"}, {"backends", {"*"}}, {"scopes", {"*"}}});
  const auto applied = json_of(tenant.apply());
  const std::string secret = applied.at("client_secrets").at(0).at("client_secret");
  const auto as_other = [&](const Json& claims) {
    return tenant.token(tenant.exchange_fields(tenant.idp.sign(claims), "files"),
                        basic("gw-other", secret));
  };
  auto claims = tenant.claims("alice");
  EXPECT_THAT(as_other(claims), IsOAuthError(400, "invalid_request"));
  claims["azp"] = "gw-01";
  EXPECT_THAT(as_other(claims), IsOAuthError(400, "invalid_request"));
  claims["azp"] = "gw-other";
  EXPECT_THAT(as_other(claims), HasStatus(200));
  claims.erase("azp");
  claims["client_id"] = "gw-other";
  EXPECT_THAT(as_other(claims), HasStatus(200));
  claims.erase("client_id");
  claims["aud"] = {"gw-01", "gw-other"};
  EXPECT_THAT(as_other(claims), HasStatus(200));
}

TEST(TokenExchange, X5_ABoundTokenIsRefused) {
  EXPECT_THAT(acme().exchange(acme().idp.sign(alice_with("cnf", {{"jkt", "x"}})), "files"),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().exchange(acme().idp.sign(alice_with("cnf", Json::object())), "files"),
              IsOAuthError(400, "invalid_request"));
}

TEST(TokenExchange, X6_AnAccessTokenIsNeverAnIdToken) {
  const auto claims = acme().claims("alice");
  EXPECT_THAT(acme().token(typed(acme().idp.sign(claims, "JWT"), TestTenant::kIdToken)),
              HasStatus(200));
  EXPECT_THAT(acme().token(typed(acme().idp.sign(claims, "at+jwt"), TestTenant::kIdToken)),
              IsOAuthError(400, "invalid_request"));
  auto several = claims;
  several["aud"] = {"gw-01", "other-app"};
  EXPECT_THAT(acme().token(typed(acme().idp.sign(several), TestTenant::kIdToken)),
              IsOAuthError(400, "invalid_request"));
  several["azp"] = "gw-01";
  EXPECT_THAT(acme().token(typed(acme().idp.sign(several), TestTenant::kIdToken)), HasStatus(200));
  several["azp"] = "other-app";
  EXPECT_THAT(acme().token(typed(acme().idp.sign(several), TestTenant::kIdToken)),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc8693_4_4, X7_OnlyWhomMayActNamesMayAct) {
  const auto exchange = [](const Json& may_act) {
    return acme().exchange(acme().idp.sign(alice_with("may_act", may_act)), "files").status;
  };
  EXPECT_EQ(exchange({{"sub", "gw-01"}}), 200);
  EXPECT_EQ(exchange({{"client_id", "gw-01"}}), 200);
  EXPECT_EQ(exchange({{"sub", "gw-02"}}), 400);
  EXPECT_EQ(exchange(Json::object()), 400);
  EXPECT_EQ(exchange({{"sub", "gw-01"}, {"iss", "https://elsewhere.example"}}), 400);
  EXPECT_EQ(exchange({{"sub", "gw-01"}, {"unknown", "x"}}), 400);
  // A release is an exchange too.
  const auto release = acme().release(acme().idp.sign(alice_with("may_act", {{"sub", "gw-02"}})),
                                      {{{"backend", "files"}}});
  EXPECT_THAT(release, IsProblem(422, "invalid-token"));
}

TEST(Rfc8693_4_1, X8_X9_HistoryIsKeptAndNeverAuthorises) {
  // With an actor token: the actor outermost, the subject's history below.
  const Json history{{"sub", "agent-1"}};
  const auto subject = acme().idp.sign(alice_with("act", history));
  const auto actor = acme().user_token("robot");
  const auto delegated = issued(acme().exchange(
      subject, "files", {{"actor_token", actor}, {"actor_token_type", TestTenant::kJwt}}));
  EXPECT_EQ(delegated.at("act"),
            Json({{"iss", acme().idp.issuer()}, {"sub", "robot"}, {"act", history}}));
  EXPECT_EQ(delegated.at("sub"), "alice");
  // Without: the gateway is wrapped around it, not dropped.
  const auto wrapped = issued(acme().exchange(subject, "files"));
  EXPECT_EQ(wrapped.at("act"), Json({{"sub", "gw-01"}, {"act", history}}));
  EXPECT_FALSE(issued(acme().exchange(acme().user_token("alice"), "files")).contains("act"));

  Json deep{{"sub", "a5"}};
  for (int i = 4; i >= 1; --i) deep = {{"sub", "a" + std::to_string(i)}, {"act", deep}};
  EXPECT_THAT(acme().exchange(acme().idp.sign(alice_with("act", deep)), "files"),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(
      acme().exchange(acme().idp.sign(alice_with("act", {{"sub", "a"}, {"exp", 1}})), "files"),
      IsOAuthError(400, "invalid_request"));
}

TEST(Rfc8693_2_1_1, X10_OneTargetByWhateverNames) {
  const auto alice = acme().user_token("alice");
  const auto ask = [&](const Pairs& targets) {
    return acme().token(typed(alice, TestTenant::kJwt, targets));
  };
  EXPECT_EQ(
      issued(ask({{"resource", kFiles}, {"audience", "files"}, {"audience", "docs"}})).at("aud"),
      kFiles);
  EXPECT_THAT(ask({{"audience", "files"}, {"audience", "search"}}),
              IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(ask({{"resource", kFiles}, {"audience", "search"}}),
              IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(ask({{"audience", "nowhere"}}), IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(ask({{"resource", "files"}}), IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(ask({{"resource", std::string(kFiles) + "#x"}}), IsOAuthError(400, "invalid_target"));
}

TEST(TokenExchange, X11_NoTargetMeansTheClientsDefault) {
  const auto fields = typed(acme().user_token("alice"), TestTenant::kJwt, {});
  EXPECT_THAT(acme().token(fields), IsOAuthError(400, "invalid_target"));
  EXPECT_EQ(issued(acme().token(fields, basic("gw-files", acme().files_secret))).at("aud"), kFiles);
}

TEST(Rfc8707_2, X12_ResourcesAreComparedNormalised) {
  const auto alice = acme().user_token("alice");
  for (const char* resource :
       {"https://files.example.com/mcp", "https://files.example.com/mcp/",
        "https://FILES.example.com/mcp", "HTTPS://files.example.com:443/mcp"}) {
    EXPECT_EQ(
        issued(acme().token(typed(alice, TestTenant::kJwt, {{"resource", resource}}))).at("aud"),
        kFiles)
        << resource;
  }
  for (const char* resource :
       {"https://files.example.com/MCP", "https://files.example.com/mcp//",
        "https://files.example.com/mcp/../mcp2", "https://files.example.com:8443/mcp",
        "http://files.example.com/mcp", "https://files.example.com/mc",
        "https://user@files.example.com/mcp", "https://files.example.com.evil.example/mcp"}) {
    EXPECT_THAT(acme().token(typed(alice, TestTenant::kJwt, {{"resource", resource}})),
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
  auto claims = acme().claims("alice");
  claims["scope"] = "files:read search openid";
  const auto token = acme().idp.sign(claims);
  EXPECT_EQ(issued(acme().exchange(token, "files")).at("scope"), "files:read");
  EXPECT_EQ(
      issued(acme().exchange(token, "files", {{"scope", "openid profile files:read"}})).at("scope"),
      "files:read");
  EXPECT_EQ(issued(acme().exchange(token, "files", {{"scope", "openid"}})).at("scope"),
            "files:read");
  EXPECT_THAT(acme().exchange(token, "files", {{"scope", "files:read files:write"}}),
              IsOAuthError(400, "invalid_scope"));
  claims["scope"] = "something:else";
  EXPECT_THAT(acme().exchange(acme().idp.sign(claims), "files"),
              IsOAuthError(400, "invalid_scope"));
}

TEST(TokenExchange, X14_WithoutScopeTheRolesAreTheCeiling) {
  auto claims = acme().claims("carol");
  claims["groups"] = {"sales"};
  const auto token = acme().idp.sign(claims);
  EXPECT_EQ(issued(acme().exchange(token, "files")).at("scope"), "files:read");
  EXPECT_THAT(acme().exchange(token, "files", {{"scope", "files:write"}}),
              IsOAuthError(400, "invalid_scope"));
  EXPECT_THAT(acme().exchange(token, "search"), IsOAuthError(400, "invalid_target"));
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
  const auto alice = tenant.user_token("alice");
  const auto granted = issued(tenant.exchange(alice, "files", {{"scope", "files:read"}}));
  tenant.exchange(alice, "files", {{"scope", "files:admin"}});
  const auto records = tenant.audit("action=token.exchange");
  ASSERT_EQ(records.size(), 2u);
  const auto& fields = records[0].at("event").at("fields");
  EXPECT_EQ(fields.at("client"), "gw-01");
  EXPECT_EQ(fields.at("subject"), "alice");
  EXPECT_EQ(fields.at("subject_issuer"), tenant.idp.issuer());
  EXPECT_EQ(fields.at("audience"), kFiles);
  EXPECT_EQ(fields.at("scope"), "files:read");
  EXPECT_EQ(granted.at("jti"), fields.at("jti"));
  EXPECT_EQ(records[1].at("event").at("outcome"), "refused");
  EXPECT_EQ(records[1].at("event").at("fields").at("code"), "ScopeRefused");
  EXPECT_EQ(records[0].dump().find("eyJ"), std::string::npos);
}

TEST(Rfc8693_2_2_1, TheIssuedTypeIsTheOneAskedFor) {
  const auto alice = acme().user_token("alice");
  const auto type = [&](Pairs more) {
    return json_of(acme().exchange(alice, "files", std::move(more))).value("issued_token_type", "");
  };
  EXPECT_EQ(type({}), TestTenant::kAccessToken);
  EXPECT_EQ(type({{"requested_token_type", TestTenant::kAccessToken}}), TestTenant::kAccessToken);
  EXPECT_EQ(type({{"requested_token_type", TestTenant::kJwt}}), TestTenant::kJwt);
  for (const char* other : {"urn:ietf:params:oauth:token-type:refresh_token",
                            "urn:ietf:params:oauth:token-type:id_token",
                            "urn:ietf:params:oauth:token-type:saml2", "access_token"}) {
    EXPECT_THAT(acme().exchange(alice, "files", {{"requested_token_type", other}}),
                IsOAuthError(400, "invalid_request"))
        << other;
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

constexpr const char* kCredential = "https://postern-project.org/oauth/token-type/credential";

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

TEST_F(VaultedAnswer, Rfc8693_2_2_1_ThePrivateTypeIsNoAccessToken) {
  const auto alice = vaulted().user_token("alice");
  const auto json =
      json_of(vaulted().exchange(alice, "github", {{"requested_token_type", kCredential}}));
  EXPECT_EQ(json.at("access_token"), R"(ghp_"al\ice)");
  EXPECT_EQ(json.at("token_type"), "N_A");
  EXPECT_EQ(json.at("issued_token_type"), kCredential);
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
