// What an operator limits, and what a tenant's own admin can do about it: nothing.

#include <gtest/gtest.h>

#include <string>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

WireReply set_guardrails(const TestTenant& tenant, const Json& guardrails,
                         const std::string& bearer_token) {
  return tenant.api("PUT", "/manifest", bearer_token,
                    {{"tenant", tenant.name}, {"guardrails", guardrails}});
}

TEST(Guardrails, NoTenantAdminPassesThemByAnyRoute) {
  TestTenant t("rails-admin");
  const Json limits{{"max_token_lifetime", 60},
                    {"issuers", {t.idp.issuer()}},
                    {"impersonation", false},
                    {"client_authentication", {"client_secret"}}};
  ASSERT_THAT(set_guardrails(t, limits, t.operator_token()), HasStatus(200));
  const auto epoch = t.epoch();

  // Repeating is allowed, leaving out too; neither changes anything.
  EXPECT_THAT(set_guardrails(t, limits, t.admin), HasStatus(200));
  const auto own = json_of(t.api("GET", "/manifest", t.admin));
  EXPECT_EQ(own.at("guardrails"), limits);
  EXPECT_THAT(t.api("PUT", "/manifest", t.admin, own), HasStatus(200));

  for (const auto& wanted :
       {Json::object(), Json{{"max_token_lifetime", 61}}, Json{{"impersonation", true}}}) {
    auto changed = wanted.empty() ? wanted : limits;
    changed.update(wanted);
    for (const char* query : {"", "?dry_run=true", "?prune=true"}) {
      const auto reply = t.api("PUT", std::string("/manifest") + query, t.admin,
                               {{"tenant", t.name}, {"guardrails", changed}});
      EXPECT_THAT(reply, IsProblem(403, "forbidden")) << query << changed;
      EXPECT_EQ(json_of(reply).value("pointer", ""), "/guardrails");
    }
  }
  const auto refused = [&](const Json& part, const char* pointer) {
    Json manifest{{"tenant", t.name}};
    manifest.update(part);
    for (const char* query : {"", "?dry_run=true"}) {
      const auto reply = t.api("PUT", std::string("/manifest") + query, t.admin, manifest);
      EXPECT_THAT(reply, IsProblem(403, "forbidden")) << query << part;
      EXPECT_EQ(json_of(reply).value("pointer", ""), pointer);
    }
  };
  refused({{"settings", {{"max_token_lifetime", 61}}}}, "/settings/max_token_lifetime");
  refused({{"issuers",
            {{{"name", "mine"},
              {"issuer", "https://idp.of-the-admin.example"},
              {"discovery", true},
              {"subject_prefix", "m:"},
              {"audiences", {"gw-01"}}}}}},
          "/issuers/0/issuer");
  refused({{"clients",
            {{{"id", "gw-02"},
              {"authentication",
               {{"method", "tls_client_auth"}, {"tls_subject", {{"dns", "gw.example"}}}}}}}}},
          "/clients/0/authentication");
  // A pruning manifest that names nothing removes objects, never the limits.
  EXPECT_THAT(t.api("PUT", "/manifest?prune=true&dry_run=true", t.admin, {{"tenant", t.name}}),
              HasStatus(200));
  EXPECT_EQ(json_of(t.api("GET", "", t.admin)).at("guardrails"), limits);
  EXPECT_EQ(t.epoch(), epoch);
}

TEST(Guardrails, HoldForTokensOfWhatWasConfiguredBefore) {
  TestTenant t("rails-late");
  const auto user = t.user_token("alice");
  ASSERT_THAT(t.exchange(user, "files"), HasStatus(200));
  ASSERT_THAT(
      set_guardrails(t, {{"max_token_lifetime", 30}, {"impersonation", false}}, t.operator_token()),
      HasStatus(200));
  const auto reply = t.exchange(user, "files");
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_LE(json_of(reply).at("expires_in").get<int>(), 30);
  EXPECT_EQ(claims_of(json_of(reply).at("access_token").get<std::string>()).at("act"),
            Json({{"sub", "gw-01"}}));

  ASSERT_THAT(set_guardrails(t, {{"issuers", Json::array()}}, t.operator_token()), HasStatus(200));
  EXPECT_THAT(t.exchange(user, "files"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(t.release(user, {{{"backend", "files"}}}), IsProblem(422, "invalid-token"));

  ASSERT_THAT(
      set_guardrails(t, {{"client_authentication", {"private_key_jwt"}}}, t.operator_token()),
      HasStatus(200));
  EXPECT_EQ(t.exchange(user, "files").status / 100, 4);
  EXPECT_THAT(t.api("POST", "/clients/gw-01/secrets", t.admin, Json::object()),
              IsProblem(403, "forbidden"));
}

TEST(Explanations, AreForAdministratorsAlone) {
  TestTenant t("explain-who");
  TestTenant other("explain-other");
  const Json question{
      {"client", "gw-01"},
      {"subject",
       {{"issuer", t.idp.issuer()}, {"subject", "bob"}, {"groups", {"nobody-has-this"}}}},
      {"audience", "files"}};
  for (const auto& admin : {t.admin, t.operator_token()}) {
    const auto reply = t.api("POST", "/explanations", admin, question);
    ASSERT_THAT(reply, HasStatus(200));
    EXPECT_EQ(json_of(reply).at("allowed"), false);
    EXPECT_EQ(json_of(reply).at("refused_by"), "roles");
    EXPECT_FALSE(json_of(reply).at("would_allow").empty());
  }
  EXPECT_THAT(t.api("POST", "/explanations", t.user_token("alice"), question),
              IsProblem(403, "forbidden"));
  EXPECT_THAT(t.api("POST", "/explanations", other.admin, question),
              IsProblem(401, "unauthenticated"));
  EXPECT_THAT(
      http_ask(shared_service().port(), "POST", "/api/v1/tenants/" + t.name + "/explanations",
               {{"Authorization", basic("gw-01", t.secret)}, {"Content-Type", "application/json"}},
               question.dump()),
      IsProblem(401, "unauthenticated"));
  // Who looked, and at whom, is on record; also who was not let.
  std::size_t explained = 0, refused = 0;
  for (const auto& entry : t.audit()) {
    const auto& record = entry.at("event");
    if (record.at("action") != "policy.explain") continue;
    record.at("outcome") == "allowed" ? ++explained : ++refused;
    if (record.at("outcome") == "allowed") {
      EXPECT_EQ(record.at("fields").at("subject"), "bob");
      EXPECT_EQ(record.at("fields").at("would_be"), "refused");
    }
  }
  EXPECT_EQ(explained, 2u);
  EXPECT_GE(refused, 1u);
}

TEST(Explanations, SayOfATokenWhatTheExchangeDoes) {
  TestTenant t("explain-token");
  const auto user = t.user_token("alice");
  const auto ask = [&](Json more) {
    Json question{{"client", "gw-01"}, {"subject_token", user}, {"audience", "files"}};
    question.update(more);
    return json_of(t.api("POST", "/explanations", t.admin, question));
  };
  const auto issued = json_of(t.exchange(user, "files"));
  const auto allowed = ask(Json::object());
  EXPECT_EQ(allowed.at("allowed"), true);
  EXPECT_EQ(allowed.at("scope"), issued.at("scope"));
  EXPECT_EQ(ask({{"scope", "no:such"}}).at("refused_by"), "request");
  // One that was made for somebody else.
  auto claims = t.claims("alice");
  claims["aud"] = "gw-elsewhere";
  const auto foreign = ask({{"subject_token", t.idp.sign(claims)}});
  EXPECT_EQ(foreign.at("refused_by"), "subject");
  // A token that this service issued, and an actor.
  EXPECT_EQ(ask({{"subject_token", issued.at("access_token")}}).at("allowed"), true);
  EXPECT_EQ(ask({{"actor_token", t.user_token("bob")}}).at("allowed"), true);
  EXPECT_EQ(ask({{"actor_token", t.idp.sign(claims)}}).at("refused_by"), "actor");
  EXPECT_EQ(ask({{"actor_token", user + "x"}}).at("refused_by"), "actor");
  const Json stranger{{"issuer", "https://elsewhere.example"}, {"subject", "agent"}};
  EXPECT_EQ(ask({{"actor", stranger}}).at("refused_by"), "actor");
  const Json client{
      {"issuer",
       json_of(t.ask("GET", "/.well-known/oauth-authorization-server/t/" + t.name)).at("issuer")},
      {"subject", "gw-01"}};
  EXPECT_EQ(ask({{"actor", client}}).at("names_actor"), true);
  // A role that denies everything disables a user, who acts or is acted for.
  t.manifest["roles"].push_back({{"name", "off"}, {"deny", {"*:*"}}});
  t.manifest["bindings"].push_back(
      {{"role", "off"}, {"subjects", {{{"issuer", t.idp.issuer()}, {"subject", "bob"}}}}});
  ASSERT_THAT(t.apply(), HasStatus(200));
  const Json bob{{"issuer", t.idp.issuer()}, {"subject", "bob"}};
  for (const Json& more :
       std::vector<Json>{{{"actor", bob}}, {{"actor_token", t.user_token("bob")}}}) {
    EXPECT_EQ(ask(more).at("refused_by"), "actor");
    EXPECT_EQ(ask(more).at("reason"), "this user is disabled");
  }
  // The subject is judged first.
  EXPECT_EQ(ask({{"subject_token", t.idp.sign(claims)}, {"actor", stranger}}).at("refused_by"),
            "subject");
}

TEST(Explanations, RefuseBadQuestions) {
  TestTenant t("explain-bad");
  const Json subject{{"issuer", t.idp.issuer()}, {"subject", "bob"}};
  const auto pointer = [&](const Json& question) {
    const auto reply = t.api("POST", "/explanations", t.admin, question);
    EXPECT_THAT(reply, IsProblem(400, "malformed-request")) << question;
    return json_of(reply).value("pointer", "");
  };
  EXPECT_EQ(pointer({{"subject", subject}}), "/client");
  EXPECT_EQ(pointer({{"client", 1}}), "/client");
  EXPECT_EQ(pointer({{"client", "gw-01"}, {"subject", "bob"}}), "/subject");
  for (const Json& actor : std::vector<Json>{"agent",
                                             Json::object(),
                                             {{"subject", "agent"}},
                                             {{"issuer", "x"}, {"subject", 1}},
                                             {{"issuer", "x"}, {"subject", "y"}, {"groups", {}}}}) {
    EXPECT_EQ(pointer({{"client", "gw-01"}, {"subject", subject}, {"actor", actor}}), "/actor");
  }
  EXPECT_EQ(pointer({{"client", "gw-01"}, {"actor", subject}}), "/actor");
  for (const char* name : {"", "two\nlines", "\x7f"}) {
    const Json unusable{{"issuer", t.idp.issuer()}, {"subject", name}};
    EXPECT_EQ(pointer({{"client", "gw-01"}, {"subject", unusable}, {"audience", "github"}}),
              "/subject/subject");
    EXPECT_EQ(pointer({{"client", "gw-01"}, {"subject", subject}, {"actor", unusable}}), "/actor");
  }
  EXPECT_EQ(
      pointer(
          {{"client", "gw-01"}, {"subject", subject}, {"actor", subject}, {"grant", "jwt-bearer"}}),
      "/actor");
  EXPECT_EQ(
      pointer(
          {{"client", "gw-01"}, {"subject", subject}, {"actor", subject}, {"actor_token", "x"}}),
      "/actor");
  EXPECT_EQ(pointer({{"client", "gw-01"}, {"subject", subject}, {"actor_token", 1}}),
            "/actor_token");
  EXPECT_EQ(pointer({{"client", "gw-01"}, {"subject", subject}, {"actor_token_type", "x"}}),
            "/actor_token_type");
  EXPECT_EQ(pointer({{"client", "gw-01"}, {"subject", {{"issuer", "x"}}}}), "/subject/subject");
  EXPECT_EQ(pointer({{"client", "gw-01"}, {"subject", subject}, {"subject_token", "x"}}),
            "/subject");
  EXPECT_EQ(pointer({{"client", "gw-01"}, {"target", "files"}}), "/target");
  auto odd = subject;
  odd["groups"] = "sales";
  EXPECT_EQ(pointer({{"client", "gw-01"}, {"subject", odd}}), "/subject/groups");
  EXPECT_THAT(t.api("POST", "/explanations", t.admin, {{"client", "gw-99"}}),
              IsProblem(404, "not-found"));
}

}  // namespace
}  // namespace postern::test
