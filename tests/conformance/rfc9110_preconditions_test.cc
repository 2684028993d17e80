// RFC 9110 §13 over the wire: who names a version writes that version or nothing.

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

Json token(const char* value) { return {{"fields", {{"token", value}}}}; }

TEST(Rfc9110_13, ACredentialIsWrittenOnlyWhereTheConditionsHold) {
  TestTenant tenant("rfc9110-credential");
  const auto alice = tenant.user_token("alice");
  const auto put = [&](const Pairs& headers) {
    return tenant.api("PUT", "/credentials/github", alice, token("x"), headers);
  };
  EXPECT_THAT(put({{"If-Match", "*"}}), IsProblem(412, "precondition-failed"));
  EXPECT_THAT(put({{"If-Match", "\"0\""}}), IsProblem(412, "precondition-failed"));
  ASSERT_THAT(put({{"If-None-Match", "\"1\", \"2\""}}), HasStatus(201));
  for (const auto& headers :
       {Pairs{{"If-Match", "*"}, {"If-None-Match", "*"}}, Pairs{{"If-None-Match", "*"}},
        Pairs{{"If-None-Match", "W/\"1\""}}, Pairs{{"If-Match", "W/\"1\""}},
        Pairs{{"If-Match", "\"01\""}}, Pairs{{"If-Match", "\"99999999999999999999\""}},
        Pairs{{"If-Match", "\"1\""}, {"If-None-Match", "\"1\""}}}) {
    EXPECT_THAT(put(headers), IsProblem(412, "precondition-failed"))
        << headers.front().first << headers.front().second;
  }
  EXPECT_EQ(json_of(tenant.api("GET", "/credentials/github", alice)).at("version"), 1);
  EXPECT_THAT(put({{"If-Match", "\"7\", \"1\""}}), HasStatus(200));
  EXPECT_THAT(put({{"If-Match", "*"}}), HasStatus(200));

  EXPECT_THAT(tenant.api("DELETE", "/credentials/github", alice, nullptr, {{"If-None-Match", "*"}}),
              IsProblem(412, "precondition-failed"));
  EXPECT_THAT(tenant.api("DELETE", "/credentials/github", alice, nullptr, {{"If-Match", "*"}}),
              HasStatus(204));
  EXPECT_THAT(tenant.api("DELETE", "/credentials/github", alice, nullptr, {{"If-Match", "*"}}),
              IsProblem(404, "not-found"));
}

TEST(Rfc9110_8_8_1, EveryChangeOfACredentialIsAnotherTag) {
  TestTenant tenant("rfc9110-revision");
  const auto alice = tenant.user_token("alice");
  tenant.store("alice", "github", {{"token", "x"}});
  std::set<std::string> tags;
  std::string tag = tenant.api("GET", "/credentials/github", alice).header("ETag");
  for (const auto& [method, path, body] : std::vector<std::tuple<const char*, const char*, Json>>{
           {"PATCH", "", {{"labels", {{"a", "b"}}}}},
           {"DELETE", "/versions/1", nullptr},
           {"POST", "/versions/1/undelete", nullptr},
           {"PUT", "", token("y")},
           {"POST", "/versions/1/destroy", nullptr}}) {
    EXPECT_TRUE(tags.insert(tag).second) << tag;
    const auto target = std::string("/credentials/github") + path;
    EXPECT_THAT(tenant.api(method, target, alice, body, {{"If-Match", "\"1.99\""}}),
                IsProblem(412, "precondition-failed"));
    const auto changed = tenant.api(method, target, alice, body, {{"If-Match", tag}});
    ASSERT_THAT(changed, HasStatus(200)) << method << path;
    EXPECT_THAT(tenant.api(method, target, alice, body, {{"If-Match", tag}}),
                IsProblem(412, "precondition-failed"));
    tag = changed.header("ETag");
    EXPECT_EQ(tenant.api("GET", "/credentials/github", alice).header("ETag"), tag);
  }
}

TEST(Rfc9110_13, AManifestIsAppliedOnlyWhereTheConditionsHold) {
  TestTenant tenant("rfc9110-manifest");
  const auto target = [](const std::string& name) { return "/api/v1/tenants/" + name; };
  const auto make = [&](const std::string& name, const Pairs& headers) {
    return shared_service().as_operator("PUT", target(name) + "/manifest", {{"tenant", name}},
                                        headers);
  };
  EXPECT_THAT(make("rfc9110-absent", {{"If-Match", "*"}}), IsProblem(412, "precondition-failed"));
  EXPECT_THAT(shared_service().as_operator("GET", target("rfc9110-absent")), HasStatus(404));
  EXPECT_THAT(make("rfc9110-absent", {{"If-None-Match", "*"}}), HasStatus(201));
  EXPECT_THAT(make("rfc9110-absent", {{"If-None-Match", "*"}}),
              IsProblem(412, "precondition-failed"));

  const auto tag = tenant.api("GET", "/manifest", tenant.admin).header("ETag");
  tenant.manifest["display_name"] = "Renamed";
  EXPECT_THAT(tenant.apply("", {{"If-None-Match", tag}}), IsProblem(412, "precondition-failed"));
  EXPECT_THAT(tenant.apply("?dry_run=true", {{"If-Match", "\"0\""}}),
              IsProblem(412, "precondition-failed"));
  EXPECT_THAT(tenant.apply("", {{"If-Match", "\"0\", " + tag}}), HasStatus(200));
  EXPECT_THAT(tenant.ask("DELETE", target(tenant.name) + "?confirm=" + tenant.name,
                         {{"Authorization", bearer(tenant.operator_token())}, {"If-Match", tag}}),
              IsProblem(412, "precondition-failed"));
}

TEST(Rfc9110_13_1_2, WhatTheCallerHasIsNotSentAgain) {
  TestTenant tenant("rfc9110-not-modified");
  const auto alice = tenant.user_token("alice");
  tenant.store("alice", "github", {{"token", "x"}});
  for (const char* path : {"", "/manifest", "/credentials/github"}) {
    const auto& who = std::string(path) == "/credentials/github" ? alice : tenant.admin;
    const auto tag = tenant.api("GET", path, who).header("ETag");
    const auto same = tenant.api("GET", path, who, nullptr, {{"If-None-Match", "W/" + tag}});
    EXPECT_THAT(same, HasStatus(304));
    EXPECT_EQ(same.body, "");
    EXPECT_EQ(same.header("ETag"), tag);
    EXPECT_THAT(tenant.api("GET", path, who, nullptr, {{"If-None-Match", "\"0\""}}),
                HasStatus(200));
    EXPECT_THAT(tenant.api("GET", path, who, nullptr, {{"If-Match", "\"0\""}}),
                IsProblem(412, "precondition-failed"));
  }
}

}  // namespace
}  // namespace postern::test
