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

}  // namespace
}  // namespace postern::test
