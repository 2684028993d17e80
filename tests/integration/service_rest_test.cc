// The REST API is strict where a slip would do something else than was meant.

#include <gtest/gtest.h>

#include <string>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(RestQuery, AnEmptyValueIsNotAnAbsentOne) {
  TestTenant tenant("rest-empty");
  const Json mine{{"fields", {{"token", "of-bob"}}}};
  for (const char* query : {"?issuer=&subject=", "?issuer&subject", "?issuer=&subject=bob"}) {
    EXPECT_THAT(tenant.api("PUT", std::string("/credentials/github") + query, tenant.admin, mine),
                IsProblem(400, "malformed-request"))
        << query;
  }
  EXPECT_THAT(json_of(tenant.api("PUT", "/credentials/github?issuer=", tenant.admin, mine))
                  .at("detail")
                  .get<std::string>(),
              HasSubstr("query parameter issuer is empty"));
  EXPECT_THAT(tenant.api("GET", "/credentials/github", tenant.admin), HasStatus(404));

  const auto before = tenant.epoch();
  tenant.manifest["display_name"] = "Changed";
  for (const char* query : {"?dry_run", "?dry_run=", "?prune=&dry_run=true"}) {
    EXPECT_THAT(tenant.apply(query), IsProblem(400, "malformed-request")) << query;
  }
  EXPECT_EQ(tenant.epoch(), before);
  EXPECT_THAT(tenant.api("GET", "/audit?action=", tenant.admin),
              IsProblem(400, "malformed-request"));
}

TEST(RestQuery, OperationsWithoutParametersTakeNone) {
  TestTenant tenant("rest-unknown");
  for (const auto& [method, path] : Pairs{{"GET", ""},
                                          {"GET", "/manifest"},
                                          {"GET", "/admin-tokens"},
                                          {"DELETE", "/admin-tokens/x"},
                                          {"POST", "/clients/gw-01/secrets"},
                                          {"GET", "/clients/gw-01/secrets"},
                                          {"GET", "/audit/verification"},
                                          {"GET", "/credentials/github"}}) {
    EXPECT_THAT(tenant.api(method, path + "?dry_run=true", tenant.admin),
                IsProblem(400, "malformed-request"))
        << method << path;
  }
  EXPECT_THAT(shared_service().as_operator("POST", "/api/v1/tenants/rest-unknown/admin-tokens?x=1",
                                           Json::object()),
              IsProblem(400, "malformed-request"));
  EXPECT_THAT(shared_service().as_operator("GET", "/api/v1/status?x=1"),
              IsProblem(400, "malformed-request"));
  EXPECT_THAT(tenant.ask("POST", "/api/v1/tenants/rest-unknown/release?x=1",
                         {{"Authorization", basic("gw-01", tenant.secret)},
                          {"Content-Type", "application/json"}},
                         "{}"),
              IsProblem(400, "malformed-request"));
}

TEST(RestCredential, ASubjectHasNoControlCharacters) {
  TestTenant tenant("rest-subject");
  const auto of = [&](const char* subject) {
    return "/credentials/github?issuer=" + percent_encoded(tenant.idp.issuer()) +
           "&subject=" + subject;
  };
  const Json body{{"fields", {{"token", "x"}}}};
  for (const char* subject : {"%0a", "a%1b[2J", "%7f", "a%00b"}) {
    EXPECT_THAT(tenant.api("PUT", of(subject), tenant.admin, body),
                IsProblem(400, "malformed-request"))
        << subject;
  }
  EXPECT_THAT(tenant.api("PUT", of("j%C3%B6rg"), tenant.admin, body), HasStatus(201));
}

TEST(RestCredential, WarnsOfFieldsThatABackendWillMiss) {
  TestTenant tenant("rest-missing");
  const auto alice = tenant.user_token("alice");
  const auto warnings = [&](const char* path, const std::string& who, const Json& fields) {
    const auto reply = tenant.api("PUT", path, who, {{"fields", fields}});
    EXPECT_THAT(reply.status, testing::AnyOf(200, 201));
    return json_of(reply).at("warnings").get<std::vector<std::string>>();
  };
  EXPECT_THAT(warnings("/credentials/github", alice, {{"token", "x"}, {"more", "y"}}),
              ElementsAre());
  EXPECT_THAT(warnings("/credentials/github", alice, {{"tokne", "x"}}),
              ElementsAre("backend github cannot be used: it needs token"));
  // Of which only a tenant's own is asked.
  EXPECT_THAT(warnings("/credentials/github", tenant.admin, {{"tokne", "x"}}), ElementsAre());
  EXPECT_THAT(warnings("/credentials/shared-db", tenant.admin, {{"uri", "x"}}),
              ElementsAre("backend db cannot be used: it needs url"));
}

TEST(RestCredential, ADeletedVersionIsReleasedToNobodyUntilItIsBack) {
  TestTenant tenant("rest-versions");
  const auto alice = tenant.user_token("alice");
  tenant.store("alice", "github", {{"token", "first"}});
  tenant.store("alice", "github", {{"token", "second"}});
  const auto released = [&] {
    const auto item = item_of(tenant.release(alice, {{{"backend", "github"}}}));
    return item.at("status") == "allowed" ? item.at("env").at("GITHUB_TOKEN") : item.at("error");
  };
  const auto change = [&](const char* method, const char* path) {
    return tenant.api(method, std::string("/credentials/github/versions/") + path, alice);
  };
  ASSERT_THAT(change("DELETE", "2"), HasStatus(200));
  EXPECT_EQ(released(), "interaction_required");
  ASSERT_THAT(change("POST", "2/undelete"), HasStatus(200));
  EXPECT_EQ(released(), "second");
  ASSERT_THAT(change("DELETE", "1"), HasStatus(200));
  EXPECT_EQ(released(), "second");
  ASSERT_THAT(change("POST", "2/destroy"), HasStatus(200));
  EXPECT_EQ(released(), "interaction_required");
  ASSERT_THAT(change("POST", "1/undelete"), HasStatus(200));
  EXPECT_EQ(released(), "interaction_required") << "the one before takes no one's place";
  EXPECT_THAT(change("POST", "2/undelete"), IsProblem(409, "conflict"));

  const auto versions = json_of(tenant.api("GET", "/credentials/github/versions", alice));
  std::string states;
  for (const auto& each : versions.at("items")) states += each.at("state").get<std::string>() + " ";
  EXPECT_EQ(states, "live destroyed ");
  const auto shown = tenant.api("GET", "/credentials/github", alice);
  EXPECT_EQ(json_of(shown).at("state"), "destroyed");
  EXPECT_EQ(shown.header("ETag"), "\"2.5\"");

  std::vector<std::string> actions;
  for (const auto& record : tenant.audit("limit=1000")) {
    const std::string action = record.at("event").at("action");
    if (action.starts_with("credential.version")) {
      actions.push_back(action.substr(18) + " " +
                        record.at("event").at("outcome").get<std::string>());
      EXPECT_EQ(record.at("event").at("fields").at("credential"), "github");
    }
  }
  EXPECT_THAT(actions, ElementsAre("_delete allowed", "_undelete allowed", "_delete allowed",
                                   "_destroy allowed", "_undelete allowed", "_undelete refused"));
}

TEST(RestCredential, AMissingIntrospectionSecretIsReportedAlsoWhenItIsDeleted) {
  TestTenant tenant("rest-deleted-secret");
  tenant.manifest["credentials"] = {{{"name", "shared-db"}, {"fields", {"url"}}}};
  const Json body{{"fields", {{"url", "u"}}}};
  ASSERT_THAT(tenant.api("PUT", "/credentials/shared-db", tenant.admin, body), HasStatus(201));
  EXPECT_EQ(json_of(tenant.apply()).at("missing_credentials"), Json::array());
  ASSERT_THAT(tenant.api("DELETE", "/credentials/shared-db/versions/1", tenant.admin),
              HasStatus(200));
  EXPECT_EQ(json_of(tenant.apply()).at("missing_credentials"), Json::array({"shared-db"}));
}

TEST(RestCredential, OneTypeStaysUntilAWriteSaysOtherwise) {
  TestTenant tenant("rest-type");
  const auto put = [&](const Json& body) {
    return tenant.api("PUT", "/credentials/shared-db", tenant.admin, body);
  };
  const Json typed{{"type", "database_url"}, {"fields", {{"url", "postgres://u:canary@h/d"}}}};
  ASSERT_THAT(put(typed), HasStatus(201));
  const auto refused = put({{"fields", {{"url", "postgres://canary@h/d"}}}});
  EXPECT_THAT(refused, IsProblem(400, "malformed-request"));
  EXPECT_EQ(json_of(refused).at("pointer"), "/fields/url");
  EXPECT_THAT(refused.body, testing::Not(HasSubstr("canary")));
  EXPECT_THAT(put({{"type", "basic"}, {"fields", {{"url", "x"}}}}), HasStatus(400));
  EXPECT_THAT(put({{"type", "no-such"}, {"fields", {{"url", "x"}}}}), HasStatus(400));
  EXPECT_EQ(json_of(tenant.api("GET", "/credentials/shared-db", tenant.admin)).at("version"), 1);
  EXPECT_THAT(put({{"type", "generic"}, {"fields", {{"url", "x"}}}}), HasStatus(200));
  EXPECT_THAT(put({{"fields", {{"url", "y"}}}}), HasStatus(200));
}

// ---- reveal ----

struct Revealing : TestTenant {
  explicit Revealing(const std::string& tenant_name) : TestTenant(tenant_name) {
    manifest["settings"]["reveal"] = true;
    EXPECT_THAT(apply(), HasStatus(200));
    store("alice", "github", {{"token", "first-of-alice"}});
    store("alice", "github", {{"token", "second-of-alice"}});
    path = "/credentials/github/reveal?issuer=" + percent_encoded(idp.issuer()) + "&subject=alice";
  }
  WireReply reveal(const std::string& who, const Json& body = {{"reason", "a drill"}}) const {
    return api("POST", path, who, body);
  }
  std::string path;
};

TEST(RestReveal, ShowsAdminsTheValuesAndSaysSoInTheAuditTrail) {
  Revealing tenant("rest-reveal");
  for (const auto& who : {tenant.admin, tenant.operator_token()}) {
    const auto shown = tenant.reveal(who);
    ASSERT_THAT(shown, HasStatus(200));
    EXPECT_EQ(shown.header("Cache-Control"), "no-store");
    EXPECT_EQ(json_of(shown), Json({{"version", 2}, {"fields", {{"token", "second-of-alice"}}}}));
  }
  const Json body{{"reason", "why \"so\""}, {"version", 1}};
  EXPECT_EQ(json_of(tenant.reveal(tenant.admin, body)).at("fields").at("token"), "first-of-alice");

  const auto records = tenant.audit("action=credential.reveal");
  ASSERT_EQ(records.size(), 3u);
  const auto& event = records.back().at("event");
  EXPECT_EQ(event.at("outcome"), "allowed");
  const auto& fields = event.at("fields");
  EXPECT_EQ(fields.at("reason"), "why \"so\"");
  EXPECT_EQ(fields.at("caller"), "tenant-admin");
  EXPECT_EQ(fields.at("credential"), "github");
  EXPECT_EQ(fields.at("credential_version"), "1");
  EXPECT_EQ(fields.at("subject"), "alice");
  for (const auto& record : records) {
    EXPECT_EQ(record.dump().find("of-alice"), std::string::npos);
  }
}

TEST(RestReveal, NeedsTheTenantsWordAndTheOperators) {
  Revealing tenant("rest-reveal-off");
  ASSERT_THAT(tenant.reveal(tenant.admin), HasStatus(200));
  const auto refused = [&] {
    for (const auto& who : {tenant.admin, tenant.operator_token()}) {
      EXPECT_THAT(tenant.reveal(who), IsProblem(403, "forbidden"));
    }
  };
  const auto limit = [&](bool reveal) {
    const Json part{{"tenant", tenant.name}, {"guardrails", {{"reveal", reveal}}}};
    return tenant.api("PUT", "/manifest", tenant.operator_token(), part);
  };
  ASSERT_THAT(limit(false), HasStatus(200));
  refused();
  tenant.manifest["settings"].erase("reveal");
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  // The admin cannot have it back while the operator forbids it.
  const Json wish{{"tenant", tenant.name}, {"settings", {{"reveal", true}}}};
  const auto denied = tenant.api("PUT", "/manifest", tenant.admin, wish);
  EXPECT_THAT(denied, IsProblem(403, "forbidden"));
  EXPECT_EQ(json_of(denied).at("pointer"), "/settings/reveal");
  ASSERT_THAT(limit(true), HasStatus(200));
  refused();
  for (const auto& record : tenant.audit("action=credential.reveal")) {
    const auto& event = record.at("event");
    EXPECT_EQ(event.at("fields").contains("credential_version"), event.at("outcome") == "allowed");
    EXPECT_EQ(event.at("fields").at("reason"), "a drill") << "a refusal says why it was wanted";
  }
}

TEST(RestReveal, IsForAdminsWithAReasonAndAVersionThatIsThere) {
  Revealing tenant("rest-reveal-who");
  EXPECT_THAT(tenant.reveal(tenant.user_token("alice")), IsProblem(403, "forbidden"));
  for (const Json& body :
       {Json::object(), Json{{"reason", ""}}, Json{{"reason", "  "}}, Json{{"reason", 7}},
        Json{{"reason", "two\nlines"}}, Json{{"reason", std::string(501, 'x')}},
        Json{{"reason", "x"}, {"version", 0}}, Json{{"reason", "x"}, {"version", "1"}},
        Json{{"reason", "x"}, {"field", "token"}}}) {
    EXPECT_THAT(tenant.reveal(tenant.admin, body), IsProblem(400, "malformed-request")) << body;
  }
  EXPECT_THAT(tenant.reveal(tenant.admin, {{"reason", "x"}, {"version", 3}}),
              IsProblem(404, "not-found"));
  EXPECT_THAT(tenant.api("POST", "/credentials/github/reveal", tenant.admin, {{"reason", "x"}}),
              IsProblem(404, "not-found"))
      << "the tenant has none of its own";
  const auto alice = tenant.user_token("alice");
  ASSERT_THAT(tenant.api("DELETE", "/credentials/github/versions/2", alice), HasStatus(200));
  EXPECT_THAT(tenant.reveal(tenant.admin), IsProblem(404, "not-found"));
  ASSERT_THAT(tenant.api("POST", "/credentials/github/versions/1/destroy", alice), HasStatus(200));
  EXPECT_THAT(tenant.reveal(tenant.admin, {{"reason", "x"}, {"version", 1}}),
              IsProblem(404, "not-found"));
}

TEST(RestManifest, ADryRunKnowsTheIdsThatWereUsed) {
  const auto put = [](const std::string& query) {
    return shared_service().as_operator("PUT", "/api/v1/tenants/rest-gone/manifest" + query,
                                        {{"tenant", "rest-gone"}});
  };
  ASSERT_THAT(put(""), HasStatus(201));
  ASSERT_THAT(shared_service().as_operator("DELETE", "/api/v1/tenants/rest-gone?confirm=rest-gone"),
              HasStatus(204));
  for (const char* query : {"?dry_run=true", ""}) {
    const auto reply = put(query);
    EXPECT_THAT(reply, IsProblem(409, "conflict")) << query;
    EXPECT_EQ(json_of(reply).at("pointer"), "/tenant");
    EXPECT_THAT(json_of(reply).at("detail").get<std::string>(), HasSubstr("never used again"));
  }
}

}  // namespace
}  // namespace postern::test
