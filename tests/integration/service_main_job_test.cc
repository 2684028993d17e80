// The main job, end to end, over real sockets: onboard, exchange, store,
// release, refuse, and account for all of it.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <set>
#include <thread>

#include "core/time_format.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

/// `action:kind/name` of what an apply answered, without what stayed as it was.
std::vector<std::string> changes_of(const WireReply& reply) {
  std::vector<std::string> out;
  for (const auto& change : json_of(reply, "changes")) {
    const std::string action = change.at("action");
    if (action == "unchanged") continue;
    out.push_back(action + ":" + change.at("kind").get<std::string>() + "/" +
                  change.at("name").get<std::string>());
  }
  return out;
}

// ---- exchange ----

TEST(MainJob, ABroadUserTokenBecomesANarrowOne) {
  TestTenant tenant("exchange-narrow");
  const auto reply =
      tenant.exchange(tenant.user_token("alice"), "files", {{"scope", "files:read"}});

  ASSERT_THAT(reply, HasStatus(200));
  const auto body = json_of(reply);
  const auto jwks = json_of(tenant.ask("GET", "/t/exchange-narrow/jwks"));
  const auto claims = verified_claims(body.at("access_token").get<std::string>(), jwks);
  EXPECT_EQ(claims.at("iss"), "https://sts.example.com/t/exchange-narrow");
  EXPECT_EQ(claims.at("sub"), "alice");
  EXPECT_EQ(claims.at("aud"), "https://files.example.com/mcp");
  EXPECT_EQ(claims.at("scope"), "files:read");
  EXPECT_EQ(claims.at("client_id"), "gw-01");
  EXPECT_FALSE(claims.contains("groups"));
  EXPECT_LE(claims.at("exp").get<long>() - claims.at("iat").get<long>(), 300);
}

TEST(MainJob, TwoUsersEachGetTokensOfTheirOwn) {
  TestTenant tenant("exchange-two");
  const auto subject = [&](const char* user) {
    const auto reply = tenant.exchange(tenant.user_token(user), "files");
    return claims_of(json_of(reply).at("access_token").get<std::string>()).at("sub");
  };
  // Warm and cold, one after the other and back.
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(subject("alice"), "alice");
    EXPECT_EQ(subject("bob"), "bob");
  }
}

TEST(MainJob, AWiderScopeIsRefused) {
  TestTenant tenant("exchange-wider");
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "files", {{"scope", "files:admin"}}),
              IsOAuthError(400, "invalid_scope"));
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "files", {{"scope", "repo:read"}}),
              IsOAuthError(400, "invalid_scope"));
}

TEST(MainJob, TheSubjectTokensScopeIsACeiling) {
  TestTenant tenant("exchange-ceiling");
  auto claims = tenant.claims("alice");
  claims["scope"] = "files:read something:else";
  const auto token = tenant.idp.sign(claims);

  const auto reply = tenant.exchange(token, "files");
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(json_of(reply).at("scope"), "files:read");
  EXPECT_THAT(tenant.exchange(token, "files", {{"scope", "files:write"}}),
              IsOAuthError(400, "invalid_scope"));
}

TEST(MainJob, AnUnknownBackendIsRefused) {
  TestTenant tenant("exchange-unknown");
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "nowhere"),
              IsOAuthError(400, "invalid_target"));
}

TEST(MainJob, AClientGetsOnlyItsBackendsAndScopes) {
  TestTenant tenant("exchange-client");
  const auto as_files = [&](const char* audience, const char* scope) {
    auto fields = tenant.exchange_fields(tenant.user_token("alice"), audience);
    if (*scope != '\0') fields.emplace_back("scope", scope);
    return tenant.token(fields, basic("gw-files", tenant.files_secret));
  };
  EXPECT_EQ(json_of(as_files("files", "")).at("scope"), "files:read");
  EXPECT_THAT(as_files("files", "files:write"), IsOAuthError(400, "invalid_scope"));
  EXPECT_THAT(as_files("search", ""), IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(as_files("github", ""), IsOAuthError(400, "invalid_target"));
}

TEST(MainJob, AUserWithoutARoleGetsNothing) {
  TestTenant tenant("exchange-no-role");
  auto claims = tenant.claims("mallory");
  claims["groups"] = {"guests"};
  EXPECT_THAT(tenant.exchange(tenant.idp.sign(claims), "files"),
              IsOAuthError(400, "invalid_target"));
  claims.erase("groups");
  EXPECT_THAT(tenant.exchange(tenant.idp.sign(claims), "files"),
              IsOAuthError(400, "invalid_target"));
}

TEST(MainJob, AStoredCredentialIsNeverAnswerToAnExchange) {
  TestTenant tenant("exchange-vaulted");
  tenant.store("alice", "github", {{"token", "ghp_alice"}});
  const auto reply = tenant.exchange(tenant.user_token("alice"), "github");
  EXPECT_THAT(reply, IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(reply.body, Not(HasSubstr("ghp_alice")));
}

TEST(MainJob, ATokenOfOursOpensNoVault) {
  TestTenant tenant("exchange-own");
  const auto issued = json_of(tenant.exchange(tenant.user_token("alice"), "files"))
                          .at("access_token")
                          .get<std::string>();
  EXPECT_THAT(tenant.exchange(issued, "search"), HasStatus(200));
  EXPECT_THAT(tenant.exchange(issued, "github"), IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(
      tenant.token(tenant.exchange_fields(issued, "files"), basic("gw-files", tenant.files_secret)),
      IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(tenant.release(issued, {{{"backend", "github"}}}), IsProblem(422, "invalid-token"));
  EXPECT_THAT(tenant.api("GET", "/credentials", issued), IsProblem(401, "unauthenticated"));
}

TEST(MainJob, AClientActsForItselfWithClientCredentials) {
  TestTenant tenant("client-credentials");
  const auto reply = tenant.token({{"grant_type", "client_credentials"}, {"audience", "files"}});
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(claims_of(json_of(reply).at("access_token").get<std::string>()).at("sub"), "gw-01");
  EXPECT_FALSE(json_of(reply).contains("issued_token_type"));

  EXPECT_THAT(tenant.token({{"grant_type", "client_credentials"}, {"audience", "files"}},
                           basic("gw-files", tenant.files_secret)),
              IsOAuthError(400, "unauthorized_client"));
}

// ---- tenants are apart ----

TEST(MainJob, OneTenantsGatewayIsNobodyAtAnother) {
  TestTenant x("apart-x");
  TestTenant y("apart-y");
  const auto fields = y.exchange_fields(y.user_token("alice"), "files");
  EXPECT_THAT(y.token(fields, basic("gw-01", x.secret)), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(y.release(y.user_token("alice"), {{{"backend", "files"}}}, basic("gw-01", x.secret)),
              IsProblem(401, "invalid-client"));
}

TEST(MainJob, OneTenantsUserIsNobodyAtAnother) {
  TestTenant x("apart-user-x");
  TestTenant y("apart-user-y");
  EXPECT_THAT(y.exchange(x.user_token("alice"), "files"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(y.release(x.user_token("alice"), {{{"backend", "github"}}}),
              IsProblem(422, "invalid-token"));
  EXPECT_THAT(
      y.api("PUT", "/credentials/github", x.user_token("alice"), {{"fields", {{"token", "t"}}}}),
      IsProblem(401, "unauthenticated"));
}

// ---- credentials ----

TEST(MainJob, EachUserGetsTheirOwnCredentialAndNoOther) {
  TestTenant tenant("release-own");
  tenant.store("alice", "github", {{"token", "ghp_alice"}});
  tenant.store("bob", "github", {{"token", "ghp_bob"}});

  for (const std::string user : {"alice", "bob", "alice"}) {
    const auto item = item_of(tenant.release(tenant.user_token(user), {{{"backend", "github"}}}));
    EXPECT_EQ(item.at("status"), "allowed") << item;
    EXPECT_EQ(item.at("env").at("GITHUB_TOKEN"), "ghp_" + user);
  }
  const auto item = item_of(tenant.release(tenant.user_token("carol"), {{{"backend", "github"}}}));
  EXPECT_EQ(item.at("status"), "refused");
  EXPECT_EQ(item.at("error"), "interaction_required");
  EXPECT_EQ(item.at("connect_url"), "https://portal.example/connect?backend=github");
  EXPECT_FALSE(item.contains("env"));
}

TEST(MainJob, AReleaseFillsEnvironmentHeadersAndFiles) {
  TestTenant tenant("release-shapes");
  tenant.store("alice", "github", {{"token", "ghp_alice"}});
  const auto reply = tenant.release(tenant.user_token("alice"), {{{"backend", "github"}}});

  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(reply.header("Cache-Control"), "no-store");
  const auto item = item_of(reply);
  EXPECT_EQ(item.at("env"), Json({{"GITHUB_TOKEN", "ghp_alice"}}));
  EXPECT_EQ(item.at("headers"), Json({{"Authorization", "Bearer ghp_alice"}}));
  EXPECT_EQ(item.at("files"), Json::array({{{"name", "github.json"},
                                            {"env", "GITHUB_CONFIG"},
                                            {"content", R"({"token":"ghp_alice"})"}}}));
  EXPECT_EQ(item.at("credential"),
            Json({{"name", "github"}, {"owner", "principal"}, {"version", 1}}));
}

TEST(MainJob, AReleasedTokenIsNarrowAsAnExchangedOne) {
  TestTenant tenant("release-minted");
  const auto item = item_of(tenant.release(tenant.user_token("alice"),
                                           {{{"backend", "files"}, {"scope", "files:read"}}}));
  ASSERT_EQ(item.at("status"), "allowed") << item;
  const auto claims = claims_of(item.at("env").at("FILES_TOKEN").get<std::string>());
  EXPECT_EQ(claims.at("aud"), "https://files.example.com/mcp");
  EXPECT_EQ(claims.at("scope"), "files:read");
  EXPECT_EQ(item.at("token").at("scope"), "files:read");
  EXPECT_TRUE(item.at("token").at("expires_in").is_number_integer());
  EXPECT_TRUE(item.contains("expires_at"));
}

TEST(MainJob, ARefusedItemDoesNotFailTheOthers) {
  TestTenant tenant("release-mixed");
  tenant.store("alice", "github", {{"token", "ghp_alice"}});
  const auto reply =
      tenant.release(tenant.user_token("alice"), {{{"backend", "nowhere"}},
                                                  {{"backend", "github"}},
                                                  {{"backend", "files"}, {"scope", "files:admin"}},
                                                  {{"resource", "https://search.example.com/mcp"}},
                                                  {{"backend", "jira"}}});
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(item_of(reply, 0).at("error"), "invalid_target");
  EXPECT_EQ(item_of(reply, 0).at("backend"), "nowhere");
  EXPECT_EQ(item_of(reply, 1).at("status"), "allowed");
  EXPECT_EQ(item_of(reply, 2).at("error"), "invalid_scope");
  EXPECT_EQ(item_of(reply, 3).at("status"), "allowed");
  EXPECT_EQ(item_of(reply, 4).at("error"), "interaction_required");

  // One record an item, each with its own outcome.
  std::vector<std::string> outcomes;
  for (const auto& record : tenant.audit("action=credential.release")) {
    outcomes.push_back(record.at("event").at("outcome"));
  }
  EXPECT_THAT(outcomes, ElementsAre("refused", "allowed", "refused", "allowed", "refused"));
}

TEST(MainJob, ABackendIsReleasedOnceACall) {
  TestTenant tenant("release-twice");
  const auto reply = tenant.release(tenant.user_token("alice"),
                                    {{{"backend", "search"}},
                                     {{"backend", "search"}},
                                     {{"audience", "https://search.example.com/mcp"}}});
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(item_of(reply, 0).at("status"), "allowed");
  EXPECT_EQ(item_of(reply, 1).at("error"), "invalid_request");
  EXPECT_EQ(item_of(reply, 2).at("error"), "invalid_request");
}

TEST(MainJob, ASharedCredentialIsTheTenantsToSet) {
  TestTenant tenant("release-shared");
  const Json body{{"fields", {{"url", "postgres://shared"}}}};
  EXPECT_THAT(tenant.api("PUT", "/credentials/shared-db", tenant.user_token("alice"), body),
              IsProblem(403, "forbidden"));
  EXPECT_THAT(tenant.api("PUT", "/credentials/shared-db", tenant.admin, body), HasStatus(201));
  const auto item = item_of(tenant.release(tenant.user_token("alice"), {{{"backend", "db"}}}));
  EXPECT_EQ(item.at("env").at("DATABASE_URL"), "postgres://shared");
  EXPECT_EQ(item.at("credential").at("owner"), "tenant");
}

TEST(MainJob, AUsersOwnCredentialComesBeforeTheTenants) {
  TestTenant tenant("release-fallback");
  const auto released = [&](const char* user) {
    return item_of(tenant.release(tenant.user_token(user), {{{"backend", "jira"}}}))
        .at("env")
        .at("JIRA_TOKEN");
  };
  EXPECT_THAT(
      tenant.api("PUT", "/credentials/jira", tenant.admin, {{"fields", {{"token", "of-tenant"}}}}),
      HasStatus(201));
  tenant.store("alice", "jira", {{"token", "of-alice"}});
  EXPECT_EQ(released("alice"), "of-alice");
  EXPECT_EQ(released("bob"), "of-tenant");
}

TEST(MainJob, ACredentialIsVersionedListedAndDeleted) {
  TestTenant tenant("credential-life");
  const auto alice = tenant.user_token("alice");
  const auto put = [&](const char* value, Pairs headers = {}) {
    return tenant.api("PUT", "/credentials/github", alice, {{"fields", {{"token", value}}}},
                      std::move(headers));
  };
  const auto first = put("one", {{"If-None-Match", "*"}});
  ASSERT_THAT(first, HasStatus(201));
  EXPECT_EQ(first.header("ETag"), "\"1\"");
  const auto metadata = json_of(first);
  EXPECT_EQ(metadata.at("fields"), Json::array({"token"}));
  EXPECT_EQ(metadata.at("owner"),
            Json({{"type", "principal"}, {"issuer", tenant.idp.issuer()}, {"subject", "alice"}}));
  EXPECT_THAT(put("two", {{"If-None-Match", "*"}}).status, testing::AnyOf(409, 412));
  EXPECT_THAT(put("two", {{"If-Match", "\"7\""}}), IsProblem(412, "precondition-failed"));
  EXPECT_THAT(put("two", {{"If-Match", "\"1\""}}), HasStatus(200));
  EXPECT_EQ(item_of(tenant.release(alice, {{{"backend", "github"}}})).at("env").at("GITHUB_TOKEN"),
            "two");

  const auto shown = tenant.api("GET", "/credentials/github", alice);
  EXPECT_EQ(json_of(shown).at("version"), 2);
  EXPECT_THAT(shown.body, Not(AnyOf(HasSubstr("one"), HasSubstr("two"))));
  EXPECT_THAT(json_of(tenant.api("GET", "/credentials", alice)).at("items"), SizeIs(1));

  EXPECT_THAT(tenant.api("DELETE", "/credentials/github", alice, nullptr, {{"If-Match", "\"1\""}}),
              IsProblem(412, "precondition-failed"));
  EXPECT_THAT(tenant.api("DELETE", "/credentials/github", alice), HasStatus(204));
  EXPECT_THAT(tenant.api("DELETE", "/credentials/github", alice), IsProblem(404, "not-found"));
  EXPECT_EQ(item_of(tenant.release(alice, {{{"backend", "github"}}})).at("error"),
            "interaction_required");
  // A version is never used twice.
  const auto again = put("three");
  EXPECT_THAT(again, HasStatus(201));  // RFC 9110 §9.3.4: there was none
  EXPECT_EQ(json_of(again).at("version"), 3);
}

TEST(MainJob, AUserSeesAndChangesOnlyTheirOwn) {
  TestTenant tenant("credential-own");
  tenant.store("bob", "github", {{"token", "ghp_bob"}});
  const auto alice = tenant.user_token("alice");
  const auto of = [&](const std::string& user) {
    return "?issuer=" + percent_encoded(tenant.idp.issuer()) + "&subject=" + user;
  };
  const Json body{{"fields", {{"token", "stolen"}}}};
  EXPECT_THAT(tenant.api("GET", "/credentials/github" + of("bob"), alice),
              IsProblem(403, "forbidden"));
  EXPECT_THAT(tenant.api("PUT", "/credentials/github" + of("bob"), alice, body),
              IsProblem(403, "forbidden"));
  EXPECT_THAT(tenant.api("DELETE", "/credentials/github" + of("bob"), alice),
              IsProblem(403, "forbidden"));
  EXPECT_THAT(tenant.api("GET", "/credentials" + of("bob"), alice), IsProblem(403, "forbidden"));
  EXPECT_THAT(tenant.api("GET", "/credentials/github", alice), IsProblem(404, "not-found"));
  EXPECT_THAT(json_of(tenant.api("GET", "/credentials", alice)).at("items"), IsEmpty());
  EXPECT_THAT(tenant.api("GET", "/credentials/github" + of("alice"), alice),
              IsProblem(404, "not-found"));

  EXPECT_EQ(item_of(tenant.release(tenant.user_token("bob"), {{{"backend", "github"}}}))
                .at("env")
                .at("GITHUB_TOKEN"),
            "ghp_bob");
}

TEST(MainJob, AUserStoresOnlyWhatABackendAsksFor) {
  TestTenant tenant("credential-wanted");
  EXPECT_THAT(tenant.api("PUT", "/credentials/free-store", tenant.user_token("alice"),
                         {{"fields", {{"token", "x"}}}}),
              IsProblem(403, "forbidden"));
}

TEST(MainJob, AnAdminManagesUsersCredentialsWithoutSeeingThem) {
  TestTenant tenant("credential-admin");
  const auto query = "?issuer=" + percent_encoded(tenant.idp.issuer()) + "&subject=alice";
  EXPECT_THAT(tenant.api("PUT", "/credentials/github" + query, tenant.admin,
                         {{"fields", {{"token", "set-by-admin"}}}}),
              HasStatus(201));
  const auto shown = tenant.api("GET", "/credentials/github" + query, tenant.admin);
  EXPECT_THAT(shown, HasStatus(200));
  EXPECT_THAT(shown.body, Not(HasSubstr("set-by-admin")));
  EXPECT_EQ(item_of(tenant.release(tenant.user_token("alice"), {{{"backend", "github"}}}))
                .at("env")
                .at("GITHUB_TOKEN"),
            "set-by-admin");
  EXPECT_THAT(tenant.api("PUT", "/credentials/github?issuer=https%3A%2F%2Felsewhere&subject=alice",
                         tenant.admin, {{"fields", {{"token", "x"}}}}),
              IsProblem(400, "malformed-request"));
}

TEST(MainJob, CredentialsAreListedInPages) {
  TestTenant tenant("credential-pages");
  for (const char* user : {"u1", "u2", "u3", "u4", "u5"}) {
    tenant.store(user, "github", {{"token", "x"}});
  }
  std::set<std::string> seen;
  std::string cursor;
  for (int page = 0; page < 10; ++page) {
    const auto body = json_of(tenant.api(
        "GET",
        "/credentials?limit=2" + (cursor.empty() ? "" : "&cursor=" + percent_encoded(cursor)),
        tenant.admin));
    EXPECT_LE(body.at("items").size(), 2u);
    for (const auto& item : body.at("items")) {
      EXPECT_TRUE(seen.insert(item.at("owner").at("subject")).second);
    }
    cursor = body.value("next_cursor", "");
    if (cursor.empty()) break;
  }
  EXPECT_THAT(seen, ElementsAre("u1", "u2", "u3", "u4", "u5"));
}

TEST(MainJob, AnExpiredCredentialIsNotReleased) {
  TestTenant tenant("credential-expired");
  const auto in_a_second = format_time(SystemClock().now() + 1s);
  EXPECT_THAT(tenant
                  .api("PUT", "/credentials/github", tenant.user_token("alice"),
                       {{"fields", {{"token", "x"}}}, {"expires_at", in_a_second}})
                  .status,
              testing::AnyOf(201, 400));
  EXPECT_THAT(tenant.api("PUT", "/credentials/github", tenant.user_token("bob"),
                         {{"fields", {{"token", "x"}}}, {"expires_at", "2020-01-01T00:00:00Z"}}),
              IsProblem(400, "malformed-request"));
  eventually(
      [&] {
        const auto item =
            item_of(tenant.release(tenant.user_token("alice"), {{{"backend", "github"}}}));
        return item.value("error", "") == "interaction_required";
      },
      "expiry of a credential");
}

// ---- manifests ----

TEST(MainJob, ApplyingTheSameManifestAgainChangesNothing) {
  TestTenant tenant("apply-again");
  const auto before = tenant.epoch();
  const auto again = tenant.apply();
  ASSERT_THAT(again, HasStatus(200));
  EXPECT_THAT(changes_of(again), IsEmpty());
  EXPECT_THAT(json_of(again).at("client_secrets"), IsEmpty());
  EXPECT_EQ(json_of(again).at("created"), false);
  EXPECT_EQ(tenant.epoch(), before);

  // What is read can be applied: reading loses nothing, secrets excepted.
  const auto read = tenant.api("GET", "/manifest", tenant.admin);
  EXPECT_EQ(read.header("ETag"), '"' + std::to_string(before) + '"');
  const auto reapplied = tenant.api("PUT", "/manifest?prune=true", tenant.admin, json_of(read));
  EXPECT_THAT(changes_of(reapplied), IsEmpty());
  EXPECT_EQ(tenant.epoch(), before);
}

TEST(MainJob, ADryRunTellsAndChangesNothing) {
  TestTenant tenant("apply-dry");
  const auto before = tenant.epoch();
  tenant.part("backends", "files")["max_expires_in"] = 60;
  tenant.manifest["clients"].push_back({{"id", "gw-new"}});

  const auto dry = tenant.apply("?dry_run=true");
  ASSERT_THAT(dry, HasStatus(200));
  EXPECT_THAT(changes_of(dry),
              testing::UnorderedElementsAre("update:backend/files", "create:client/gw-new"));
  EXPECT_EQ(json_of(dry).at("dry_run"), true);
  EXPECT_THAT(json_of(dry).at("client_secrets"), IsEmpty());
  EXPECT_EQ(tenant.epoch(), before);

  const auto real = tenant.apply();
  EXPECT_EQ(changes_of(real), changes_of(dry));
  EXPECT_THAT(json_of(real).at("client_secrets"), SizeIs(1));
  EXPECT_EQ(tenant.epoch(), before + 1);
}

TEST(MainJob, ADryRunOfANewTenantMakesNone) {
  auto& service = shared_service();
  const auto reply = service.as_operator("PUT", "/api/v1/tenants/not-yet/manifest?dry_run=true",
                                         {{"tenant", "not-yet"}});
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(json_of(reply).at("created"), false);
  EXPECT_THAT(service.as_operator("GET", "/api/v1/tenants/not-yet"), IsProblem(404, "not-found"));
}

TEST(MainJob, OnlyPruneRemovesWhatAManifestDoesNotName) {
  TestTenant tenant("apply-prune");
  auto& backends = tenant.manifest["backends"];
  backends.erase(backends.begin() + 1);  // search
  auto& allow = tenant.part("roles", "developer")["allow"];
  allow = {"files:*", "github:*", "db:*", "jira:*"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_EQ(json_of(tenant.api("GET", "", tenant.admin)).at("counts").at("backends"), 5);

  EXPECT_THAT(changes_of(tenant.apply("?prune=true")), ElementsAre("delete:backend/search"));
  EXPECT_EQ(json_of(tenant.api("GET", "", tenant.admin)).at("counts").at("backends"), 4);
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "search"),
              IsOAuthError(400, "invalid_target"));
}

TEST(MainJob, AStaleETagIsRefused) {
  TestTenant tenant("apply-etag");
  const auto etag = tenant.api("GET", "", tenant.admin).header("ETag");
  tenant.manifest["display_name"] = "First writer";
  ASSERT_THAT(tenant.apply("", {{"If-Match", etag}}), HasStatus(200));
  tenant.manifest["display_name"] = "Second writer";
  EXPECT_THAT(tenant.apply("", {{"If-Match", etag}}), IsProblem(412, "precondition-failed"));
  EXPECT_EQ(json_of(tenant.api("GET", "", tenant.admin)).at("display_name"), "First writer");
  EXPECT_THAT(tenant.apply("", {{"If-Match", "first"}}), IsProblem(400, "malformed-request"));
}

TEST(MainJob, AChangeCountsForTheNextRequest) {
  TestTenant tenant("apply-next");
  const auto alice = tenant.user_token("alice");
  ASSERT_THAT(tenant.exchange(alice, "files", {{"scope", "files:write"}}), HasStatus(200));
  tenant.part("roles", "developer")["deny"] = {"files:files:write"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_THAT(tenant.exchange(alice, "files", {{"scope", "files:write"}}),
              IsOAuthError(400, "invalid_scope"));
  EXPECT_THAT(tenant.exchange(alice, "files", {{"scope", "files:read"}}), HasStatus(200));
}

TEST(MainJob, WarningsAndMissingCredentialsAreReported) {
  TestTenant tenant("apply-warn");
  tenant.manifest["credentials"] = {{{"name", "shared-db"}, {"fields", {"url"}}}};
  tenant.manifest["roles"].push_back({{"name", "unused"}, {"allow", {"files:*"}}});
  auto body = json_of(tenant.apply());
  EXPECT_EQ(body.at("missing_credentials"), Json::array({"shared-db"}));
  EXPECT_THAT(body.at("warnings").dump(), HasSubstr("unused"));
  tenant.api("PUT", "/credentials/shared-db", tenant.admin, {{"fields", {{"url", "u"}}}});
  EXPECT_THAT(json_of(tenant.apply()).at("missing_credentials"), IsEmpty());
}

// ---- who may administer ----

TEST(MainJob, AnAdminTokenCountsInItsTenantUntilItIsDeleted) {
  TestTenant tenant("admin-token");
  TestTenant other("admin-token-other");
  const auto made = json_of(
      tenant.api("POST", "/admin-tokens", tenant.operator_token(), {{"description", "ci"}}));
  const std::string token = made.at("token");
  const std::string id = made.at("token_id");
  EXPECT_THAT(tenant.api("GET", "/manifest", token), HasStatus(200));
  EXPECT_THAT(tenant.api("PUT", "/manifest", token, tenant.manifest), HasStatus(200));
  EXPECT_THAT(other.api("GET", "/manifest", token), IsProblem(401, "unauthenticated"));
  EXPECT_THAT(other.api("PUT", "/manifest", token, other.manifest),
              IsProblem(401, "unauthenticated"));

  const auto list = tenant.api("GET", "/admin-tokens", tenant.admin);
  EXPECT_THAT(json_of(list).at("items"), SizeIs(2));
  EXPECT_THAT(list.body, AllOf(HasSubstr(id), Not(HasSubstr(token))));

  EXPECT_THAT(tenant.api("DELETE", "/admin-tokens/" + id, tenant.admin), HasStatus(204));
  EXPECT_THAT(tenant.api("GET", "/manifest", token), IsProblem(401, "unauthenticated"));
  EXPECT_THAT(tenant.api("DELETE", "/admin-tokens/" + id, tenant.admin),
              IsProblem(404, "not-found"));
}

TEST(MainJob, AnAdminIsNoOperator) {
  TestTenant tenant("admin-limits");
  EXPECT_THAT(tenant.api("POST", "/admin-tokens", tenant.admin, Json::object()),
              IsProblem(403, "forbidden"));
  EXPECT_THAT(tenant.api("DELETE", "?confirm=admin-limits", tenant.admin),
              IsProblem(403, "forbidden"));
  tenant.manifest["enabled"] = false;
  EXPECT_THAT(tenant.api("PUT", "/manifest", tenant.admin, tenant.manifest),
              IsProblem(403, "forbidden"));
  const auto with = [&](const char* target) {
    return tenant.ask("GET", target, {{"Authorization", bearer(tenant.admin)}});
  };
  EXPECT_THAT(with("/api/v1/status"), IsProblem(403, "forbidden"));
  EXPECT_THAT(with("/api/v1/keys"), IsProblem(403, "forbidden"));
  EXPECT_THAT(with("/api/v1/tenants"), IsProblem(403, "forbidden"));
  // Its tenant in another's token, and one that never was.
  for (const std::string& token : {tenant.admin + "x", std::string("postern_ta_"),
                                   "postern_ta_no-such-tenant_" + std::string(43, 'A')}) {
    EXPECT_THAT(tenant.ask("GET", "/api/v1/status", {{"Authorization", bearer(token)}}),
                IsProblem(401, "unauthenticated"));
  }
}

TEST(MainJob, AUserIsNoAdmin) {
  TestTenant tenant("user-limits");
  const auto user = tenant.user_token("alice");
  for (const auto& [method, path] : Pairs{{"GET", ""},
                                          {"GET", "/manifest"},
                                          {"PUT", "/manifest"},
                                          {"DELETE", "?confirm=user-limits"},
                                          {"GET", "/admin-tokens"},
                                          {"POST", "/admin-tokens"},
                                          {"GET", "/clients/gw-01/secrets"},
                                          {"POST", "/clients/gw-01/secrets"},
                                          {"GET", "/audit"},
                                          {"GET", "/audit/verification"}}) {
    EXPECT_THAT(tenant.api(method, path, user, method == "GET" ? Json() : Json::object()),
                IsProblem(403, "forbidden"))
        << method << path;
  }
}

TEST(MainJob, AnExpiringAdminTokenEnds) {
  TestTenant tenant("admin-expiry");
  const std::string token =
      json_of(tenant.api("POST", "/admin-tokens", tenant.operator_token(),
                         {{"expires_at", format_time(SystemClock().now() + 4s)}}))
          .at("token");
  eventually([&] { return tenant.api("GET", "", token).status == 401; }, "expiry of the token");
}

TEST(MainJob, AClientSecretIsRotatedWithoutAGap) {
  TestTenant tenant("secret-rotation");
  const auto works = [&](const std::string& secret) {
    return tenant
        .token(tenant.exchange_fields(tenant.user_token("alice"), "files"), basic("gw-01", secret))
        .status;
  };
  const auto path = std::string("/clients/gw-01/secrets");
  const auto listed = json_of(tenant.api("GET", path, tenant.admin)).at("items");
  ASSERT_THAT(listed, SizeIs(1));
  const std::string old_id = listed[0].at("secret_id");

  const auto made = json_of(tenant.api("POST", path, tenant.admin, Json::object()));
  const std::string next = made.at("client_secret");
  EXPECT_EQ(works(tenant.secret), 200);
  EXPECT_EQ(works(next), 200);
  EXPECT_THAT(tenant.api("POST", path, tenant.admin, Json::object()), IsProblem(409, "conflict"));

  EXPECT_THAT(tenant.api("DELETE", path + "/" + old_id, tenant.admin), HasStatus(204));
  EXPECT_EQ(works(tenant.secret), 401);
  EXPECT_EQ(works(next), 200);
  EXPECT_THAT(tenant.api("DELETE", path + "/" + old_id, tenant.admin), IsProblem(404, "not-found"));
  EXPECT_THAT(tenant.api("GET", "/clients/nobody/secrets", tenant.admin),
              IsProblem(404, "not-found"));
}

TEST(MainJob, AManifestMayBringAClientsSecret) {
  TestTenant tenant("secret-given");
  const std::string given(40, 'g');
  tenant.part("clients", "gw-01")["secret"] = given;
  const auto reply = tenant.apply();
  EXPECT_THAT(changes_of(reply), ElementsAre("update:client/gw-01"));
  EXPECT_THAT(reply.body, Not(HasSubstr(given)));
  const auto fields = tenant.exchange_fields(tenant.user_token("alice"), "files");
  EXPECT_THAT(tenant.token(fields, basic("gw-01", given)), HasStatus(200));
  EXPECT_THAT(changes_of(tenant.apply()), IsEmpty());
}

// ---- switching off ----

TEST(MainJob, ADisabledTenantStopsAtOnceAndCanComeBack) {
  TestTenant tenant("off-tenant");
  tenant.store("alice", "github", {{"token", "ghp_alice"}});
  const auto alice = tenant.user_token("alice");
  ASSERT_THAT(tenant.exchange(alice, "files"), HasStatus(200));
  tenant.manifest["enabled"] = false;
  ASSERT_THAT(tenant.apply(), HasStatus(200));

  EXPECT_THAT(tenant.exchange(alice, "files"), HasStatus(404));
  EXPECT_THAT(tenant.release(alice, {{{"backend", "github"}}}).status, testing::AnyOf(401, 404));
  EXPECT_THAT(tenant.ask("GET", "/t/off-tenant/jwks"), HasStatus(404));
  EXPECT_THAT(tenant.api("GET", "/credentials", alice), IsProblem(401, "unauthenticated"));
  EXPECT_THAT(tenant.api("GET", "", tenant.admin), IsProblem(401, "unauthenticated"));
  EXPECT_THAT(tenant.api("GET", "", tenant.operator_token()), HasStatus(200));

  tenant.manifest["enabled"] = true;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_THAT(tenant.exchange(alice, "files"), HasStatus(200));
  EXPECT_EQ(item_of(tenant.release(alice, {{{"backend", "github"}}})).at("status"), "allowed");
}

TEST(MainJob, ADisabledClientStopsAtOnce) {
  TestTenant tenant("off-client");
  const auto alice = tenant.user_token("alice");
  ASSERT_THAT(tenant.exchange(alice, "files"), HasStatus(200));
  tenant.part("clients", "gw-01")["enabled"] = false;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_THAT(tenant.exchange(alice, "files"), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(tenant.token({{"grant_type", "client_credentials"}, {"audience", "files"}}),
              IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(tenant.release(alice, {{{"backend", "files"}}}), IsProblem(401, "invalid-client"));
}

TEST(MainJob, ADisabledIssuerStopsAtOnce) {
  TestTenant tenant("off-issuer");
  tenant.store("alice", "github", {{"token", "ghp_alice"}});
  const auto alice = tenant.user_token("alice");
  ASSERT_THAT(tenant.exchange(alice, "files"), HasStatus(200));
  tenant.part("issuers", "corp")["enabled"] = false;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_THAT(tenant.exchange(alice, "files"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(tenant.release(alice, {{{"backend", "github"}}}), IsProblem(422, "invalid-token"));
  EXPECT_THAT(tenant.api("GET", "/credentials", alice), IsProblem(401, "unauthenticated"));
}

TEST(MainJob, ADisabledBackendStopsAtOnce) {
  TestTenant tenant("off-backend");
  tenant.store("alice", "github", {{"token", "ghp_alice"}});
  const auto alice = tenant.user_token("alice");
  ASSERT_THAT(tenant.exchange(alice, "files"), HasStatus(200));
  tenant.part("backends", "files")["enabled"] = false;
  tenant.part("backends", "github")["enabled"] = false;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_THAT(tenant.exchange(alice, "files"), IsOAuthError(400, "invalid_target"));
  EXPECT_EQ(item_of(tenant.release(alice, {{{"backend", "github"}}})).at("error"),
            "invalid_target");
  EXPECT_THAT(tenant.exchange(alice, "search"), HasStatus(200));
}

TEST(MainJob, ATenantIsDeletedOnlyWhenNamedTwice) {
  TestTenant tenant("gone");
  tenant.store("alice", "github", {{"token", "ghp_alice"}});
  const auto alice = tenant.user_token("alice");
  EXPECT_THAT(tenant.api("DELETE", "", tenant.operator_token()),
              IsProblem(400, "malformed-request"));
  EXPECT_THAT(tenant.api("DELETE", "?confirm=other", tenant.operator_token()),
              IsProblem(400, "malformed-request"));
  ASSERT_THAT(tenant.exchange(alice, "files"), HasStatus(200));

  ASSERT_THAT(tenant.api("DELETE", "?confirm=gone", tenant.operator_token()), HasStatus(204));
  EXPECT_THAT(tenant.exchange(alice, "files"), HasStatus(404));
  EXPECT_THAT(tenant.api("GET", "", tenant.operator_token()), IsProblem(404, "not-found"));
  EXPECT_THAT(tenant.api("GET", "", tenant.admin).status, testing::AnyOf(401, 404));

  // Its name, and with it its issuer URL, is never given to another.
  EXPECT_THAT(tenant.apply(), IsProblem(409, "conflict"));
  EXPECT_THAT(tenant.exchange(alice, "files"), HasStatus(404));
}

// ---- audit ----

TEST(MainJob, EveryDecisionStandsInAnIntactChain) {
  TestTenant tenant("audit-all");
  const auto alice = tenant.user_token("alice");
  tenant.store("alice", "github", {{"token", "ghp_alice"}});
  tenant.exchange(alice, "files", {{"scope", "files:read"}});
  tenant.exchange(alice, "nowhere");
  tenant.token(tenant.exchange_fields(alice, "files"), basic("gw-01", "wrong"));
  tenant.release(alice, {{{"backend", "github"}}});
  tenant.api("GET", "/manifest", "nonsense");
  tenant.api("DELETE", "/credentials/github", alice);

  std::vector<std::string> seen;
  std::uint64_t sequence = 0;
  for (const auto& record : tenant.audit()) {
    EXPECT_EQ(record.at("sequence").get<std::uint64_t>(), ++sequence);
    const auto& event = record.at("event");
    seen.push_back(event.at("action").get<std::string>() + " " +
                   event.at("outcome").get<std::string>());
  }
  EXPECT_THAT(seen, ElementsAre("config.apply allowed", "admin_token.create allowed",
                                "credential.put allowed", "token.exchange allowed",
                                "token.exchange refused", "token.exchange refused",
                                "credential.release allowed", "config.read refused",
                                "credential.delete allowed"));
  const auto exchange = tenant.audit("action=token.exchange").at(0).at("event").at("fields");
  EXPECT_EQ(exchange.at("client"), "gw-01");
  EXPECT_EQ(exchange.at("subject"), "alice");
  EXPECT_EQ(exchange.at("backend"), "files");
  EXPECT_EQ(exchange.at("scope"), "files:read");
  EXPECT_TRUE(exchange.contains("jti"));

  const auto verification = tenant.verification();
  EXPECT_EQ(verification.at("intact"), true);
  EXPECT_EQ(verification.at("records"), sequence);
}

TEST(MainJob, AuditIsReadInPagesBothWays) {
  TestTenant tenant("audit-pages");
  for (int i = 0; i < 5; ++i) tenant.exchange(tenant.user_token("alice"), "files");
  const auto page = [&](const std::string& query) {
    std::vector<int> sequences;
    for (const auto& record : tenant.audit(query)) sequences.push_back(record.at("sequence"));
    return sequences;
  };
  EXPECT_THAT(page("limit=3"), ElementsAre(1, 2, 3));
  EXPECT_THAT(page("limit=3&after=3"), ElementsAre(4, 5, 6));
  EXPECT_THAT(page("limit=2&order=desc"), ElementsAre(7, 6));
  EXPECT_THAT(page("limit=2&order=desc&after=6"), ElementsAre(5, 4));
  EXPECT_THAT(page("action=token."), SizeIs(5));
  EXPECT_THAT(tenant.api("GET", "/audit?order=sideways", tenant.admin),
              IsProblem(400, "malformed-request"));
  EXPECT_THAT(tenant.api("GET", "/audit?limit=0", tenant.admin),
              IsProblem(400, "malformed-request"));
}

// ---- operations ----

TEST(MainJob, OperatorsSeeStatusAndTenants) {
  TestTenant tenant("listed");
  auto& service = shared_service();
  const auto status = json_of(service.as_operator("GET", "/api/v1/status"));
  EXPECT_EQ(status.at("database"), "ok");
  EXPECT_TRUE(status.contains("version"));
  EXPECT_TRUE(status.contains("root_key_id"));
  std::set<std::string> names;
  std::string cursor;
  do {
    const auto body = json_of(service.as_operator(
        "GET", "/api/v1/tenants?limit=3" + (cursor.empty() ? "" : "&cursor=" + cursor)));
    for (const auto& item : body.at("items")) {
      EXPECT_TRUE(names.insert(item.at("tenant")).second);
    }
    cursor = body.value("next_cursor", "");
  } while (!cursor.empty());
  EXPECT_THAT(names, Contains("listed"));

  EXPECT_THAT(service.ask("GET", "/api/v1/status"), IsProblem(401, "unauthenticated"));
  EXPECT_THAT(service.ask("GET", "/api/v1/tenants"), IsProblem(401, "unauthenticated"));
  EXPECT_THAT(service.ask("GET", "/api/v1/keys"), IsProblem(401, "unauthenticated"));
  const auto keys = json_of(service.as_operator("GET", "/api/v1/keys"));
  EXPECT_EQ(keys.at("root_keys").at(0).at("state"), "active");
  EXPECT_EQ(keys.at("root_keys").at(0).at("id"), status.at("root_key_id"));
}

TEST(MainJob, HealthAndMetricsHaveAListenerOfTheirOwn) {
  auto& service = shared_service();
  const auto ops = service.service().ops_port();
  EXPECT_THAT(http_ask(ops, "GET", "/livez"), HasStatus(200));
  EXPECT_THAT(http_ask(ops, "GET", "/readyz"), HasStatus(200));
  EXPECT_THAT(http_ask(ops, "GET", "/metrics").body, HasSubstr("postern_http_requests_total"));
  EXPECT_THAT(service.ask("GET", "/metrics"), HasStatus(404));
}

TEST(MainJob, AWarmExchangeReadsNothingFromTheDatabase) {
  TestService service;  // of its own: nobody else's queries count
  TestTenant tenant(service, "warm");
  const auto alice = tenant.user_token("alice");
  const auto bob = tenant.user_token("bob");
  ASSERT_THAT(tenant.exchange(alice, "files"), HasStatus(200));

  const auto before = service.service().stats();
  for (int i = 0; i < 20; ++i) {
    ASSERT_THAT(tenant.exchange(alice, i % 2 == 0 ? "files" : "search"), HasStatus(200));
    // A token not seen before costs a signature, not a query.
    ASSERT_THAT(tenant.exchange(i == 0 ? bob : tenant.user_token("u" + std::to_string(i)), "files"),
                HasStatus(200));
    ASSERT_THAT(tenant.exchange(alice, "nowhere"), IsOAuthError(400, "invalid_target"));
  }
  const auto after = service.service().stats();
  EXPECT_EQ(after.database.queries, before.database.queries);
  EXPECT_EQ(after.database.transactions, before.database.transactions);
  EXPECT_EQ(after.audit_database.audit_events - before.audit_database.audit_events, 60u);
  EXPECT_GE(after.tokens.hits - before.tokens.hits, 20u);
}

TEST(MainJob, ARestartedServiceKnowsAllThatWasAcknowledged) {
  PostgresDatabase database;
  const TempDirectory keys;
  auto service = std::make_unique<TestService>(database.service(), keys.path() / "keys",
                                               TestService::Adjust());
  TestTenant tenant(Endpoint{[&] { return service->port(); }, service->operator_token()},
                    "restarted");
  tenant.store("alice", "github", {{"token", "ghp_alice"}});
  const auto alice = tenant.user_token("alice");
  const auto jwks = tenant.ask("GET", "/t/restarted/jwks").body;
  ASSERT_THAT(tenant.exchange(alice, "files"), HasStatus(200));

  service.reset();
  service = std::make_unique<TestService>(database.service(), keys.path() / "keys",
                                          TestService::Adjust());
  EXPECT_EQ(tenant.ask("GET", "/t/restarted/jwks").body, jwks);
  EXPECT_THAT(tenant.exchange(alice, "files"), HasStatus(200));
  EXPECT_EQ(item_of(tenant.release(alice, {{{"backend", "github"}}})).at("env").at("GITHUB_TOKEN"),
            "ghp_alice");
  EXPECT_EQ(tenant.verification().at("intact"), true);
}

TEST(MainJob, OfManyWritersWithOneETagOneWins) {
  TestTenant tenant("race");
  const auto etag = tenant.api("GET", "", tenant.admin).header("ETag");
  std::vector<int> applied(8), stored(8);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < applied.size(); ++i) {
    threads.emplace_back([&, i] {
      auto manifest = tenant.manifest;
      manifest["display_name"] = "writer " + std::to_string(i);
      applied[i] =
          tenant.api("PUT", "/manifest", tenant.admin, manifest, {{"If-Match", etag}}).status;
      stored[i] = tenant
                      .api("PUT", "/credentials/github", tenant.user_token("alice"),
                           {{"fields", {{"token", std::to_string(i)}}}}, {{"If-None-Match", "*"}})
                      .status;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(std::count(applied.begin(), applied.end(), 200), 1);
  EXPECT_EQ(std::count(stored.begin(), stored.end(), 201), 1);
  for (const int status : applied) EXPECT_THAT(status, testing::AnyOf(200, 409, 412));
  for (const int status : stored) EXPECT_THAT(status, testing::AnyOf(201, 409, 412));
  const auto winner = std::find(stored.begin(), stored.end(), 201) - stored.begin();
  EXPECT_EQ(item_of(tenant.release(tenant.user_token("alice"), {{{"backend", "github"}}}))
                .at("env")
                .at("GITHUB_TOKEN"),
            std::to_string(winner));
  EXPECT_EQ(tenant.verification().at("intact"), true);
}

TEST(MainJob, AReplicaFollowsWhatAnotherChanged) {
  PostgresDatabase database;
  const TempDirectory keys;
  const auto replica = [&] {
    return std::make_unique<TestService>(database.service(), keys.path() / "keys",
                                         TestService::Adjust());
  };
  const auto one = replica();
  const auto two = replica();
  std::atomic<bool> second{false};
  TestTenant tenant(
      Endpoint{[&] { return second ? two->port() : one->port(); }, one->operator_token()},
      "replicas");
  const auto alice = tenant.user_token("alice");
  const auto released = [&] {
    return item_of(tenant.release(alice, {{{"backend", "github"}}})).value("env", Json());
  };

  second = true;
  eventually([&] { return tenant.exchange(alice, "files").status == 200; }, "news of the tenant");
  second = false;
  tenant.store("alice", "github", {{"token", "first"}});
  second = true;
  EXPECT_EQ(released(), Json({{"GITHUB_TOKEN", "first"}}));  // credentials are never cached
  second = false;
  tenant.store("alice", "github", {{"token", "second"}});
  second = true;
  EXPECT_EQ(released(), Json({{"GITHUB_TOKEN", "second"}}));

  second = false;
  tenant.part("clients", "gw-01")["enabled"] = false;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  second = true;
  eventually([&] { return tenant.exchange(alice, "files").status == 401; }, "news of the client");
  tenant.part("clients", "gw-01")["enabled"] = true;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  ASSERT_THAT(tenant.exchange(alice, "files"), HasStatus(200));

  // Both write one chain.
  std::vector<std::thread> threads;
  for (const auto* service : {one.get(), two.get()}) {
    threads.emplace_back([&tenant, &alice, service] {
      const auto body = form(tenant.exchange_fields(alice, "files"));
      for (int i = 0; i < 20; ++i) {
        EXPECT_THAT(service->ask("POST", "/t/replicas/token",
                                 {{"Content-Type", "application/x-www-form-urlencoded"},
                                  {"Authorization", basic("gw-01", tenant.secret)}},
                                 body),
                    HasStatus(200));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(tenant.verification().at("intact"), true);
  EXPECT_GE(tenant.audit("action=token.exchange&limit=1000").size(), 42u);

  second = false;
  ASSERT_THAT(tenant.api("DELETE", "?confirm=replicas", tenant.operator_token()), HasStatus(204));
  second = true;
  eventually([&] { return tenant.exchange(alice, "files").status == 404; }, "news of the end");
}

TEST(MainJob, EveryAnswerNamesItsRequestAndIsKeptByNobody) {
  TestTenant tenant("headers");
  const auto ask = [&](const char* method, const std::string& target, const std::string& token) {
    return tenant.ask(method, target,
                      {{"Authorization", bearer(token)}, {"X-Request-Id", "from-the-client-1"}});
  };
  for (const char* path :
       {"", "/manifest", "/admin-tokens", "/clients/gw-01/secrets", "/credentials",
        "/credentials/none", "/audit", "/audit/verification", "/nowhere", "/release"}) {
    for (const auto& token : {tenant.admin, std::string("garbage")}) {
      const auto reply = ask("GET", "/api/v1/tenants/headers" + std::string(path), token);
      EXPECT_EQ(reply.header("Cache-Control"), "no-store") << path;
      EXPECT_EQ(reply.header("X-Request-Id"), "from-the-client-1") << path;
    }
  }
  for (const auto& record : tenant.audit("limit=1000")) {
    EXPECT_FALSE(record.at("event").at("request_id").get<std::string>().empty());
  }
  EXPECT_EQ(ask("GET", "/t/headers/jwks", "x").header("X-Request-Id"), "from-the-client-1");
}

}  // namespace
}  // namespace postern::test
