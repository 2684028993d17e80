// Problems of the REST API (RFC 9457). Row B4 of docs/conformance.md.

#include <gtest/gtest.h>

#include <string>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

TestTenant& acme() {
  static TestTenant tenant("rfc9457");
  return tenant;
}

TEST(Rfc9457_3, B4_ProblemsSayTypeTitleStatusAndDetail) {
  const auto reply = acme().api("PUT", "/credentials/github", acme().user_token("alice"),
                                {{"fields", {{"token", 1}}}});
  ASSERT_THAT(reply, IsProblem(400, "malformed-request"));
  const auto problem = json_of(reply);
  EXPECT_TRUE(problem.at("type").get<std::string>().starts_with("urn:postern:problem:"));
  EXPECT_EQ(problem.at("status"), 400);
  EXPECT_FALSE(problem.at("title").get<std::string>().empty());
  EXPECT_FALSE(problem.at("detail").get<std::string>().empty());
  EXPECT_EQ(problem.at("pointer"), "/fields");
  for (const auto& [name, value] : problem.items()) EXPECT_GE(name.size(), 3u);
}

TEST(Rfc9457_3, B4_NothingOfTheRequestIsRepeatedAndTheStatusIsTheReplys) {
  const auto alice = acme().user_token("alice");
  for (const auto& reply :
       {acme().api("PUT", "/credentials/github", alice, {{"fields", {{"token", 1}}}}),
        acme().api("PUT", "/credentials/github", alice, {{"canary-member", "canary-value"}}),
        acme().api("GET", "/credentials/canary-name", alice),
        acme().api("GET", "/credentials?canary=canary", alice),
        acme().api("GET", "/manifest", alice), acme().api("GET", "/manifest", "canary-token"),
        acme().api("DELETE", "/credentials/canary-name", alice),
        acme().ask("POST", "/api/v1/tenants/rfc9457/release", {}, "canary")}) {
    EXPECT_GE(reply.status, 400);
    EXPECT_EQ(reply.header("Content-Type"), "application/problem+json") << reply.head;
    const auto problem = json_of(reply);
    EXPECT_EQ(problem.at("status"), reply.status);
    EXPECT_TRUE(problem.at("type").is_string());
    EXPECT_EQ(reply.body.find("canary-v"), std::string::npos) << reply.body;
    EXPECT_EQ(reply.body.find("canary-t"), std::string::npos) << reply.body;
    for (const auto& [name, value] : problem.items()) EXPECT_GE(name.size(), 3u);
  }
}

TEST(Rfc9457_3, B4_TheOAuthEndpointsSendNone) {
  for (const auto& reply :
       {acme().token({{"grant_type", "x"}}), acme().ask("POST", "/t/rfc9457/introspect"),
        acme().ask("POST", "/t/rfc9457/revoke"), acme().ask("GET", "/t/rfc9457/token")}) {
    EXPECT_GE(reply.status, 400);
    EXPECT_EQ(reply.header("Content-Type"), "application/json") << reply.head;
    EXPECT_TRUE(json_of(reply).contains("error"));
  }
}

}  // namespace
}  // namespace postern::test
