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
