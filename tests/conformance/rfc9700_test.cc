// What the best current practice (RFC 9700) asks of us beyond what the standards of
// the parts say. The headers of proxies (section 4.13) are in rfc9440_test.cc.

#include <gtest/gtest.h>

#include <string>

#include "support/dpop_holder.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

TestTenant& acme() {
  static TestTenant tenant("rfc9700");
  return tenant;
}

TEST(Rfc9700_2_3, ATokenIsForOneBackendWithWhatWasAskedFor) {
  const auto reply =
      acme().exchange(acme().user_token("alice"), "files", {{"scope", "files:read"}});
  ASSERT_THAT(reply, HasStatus(200));
  const auto claims = claims_of(json_of(reply, "access_token").get<std::string>());
  EXPECT_EQ(claims.at("aud"), "https://files.example.com/mcp");
  EXPECT_EQ(claims.at("scope"), "files:read");
}

TEST(Rfc9700_2_3, NeverForMoreThanOneOrWithMoreThanIsPermitted) {
  const auto alice = acme().user_token("alice");
  EXPECT_THAT(acme().exchange(alice, "files", {{"audience", "search"}}),
              IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(acme().exchange(alice, "files", {{"scope", "files:read repo:read"}}),
              IsOAuthError(400, "invalid_scope"));
  const auto fields = [&](const char* target, const char* scope) {
    auto all = acme().exchange_fields(alice, target);
    all.emplace_back("scope", scope);
    return acme().token(all, basic("gw-files", acme().files_secret));
  };
  EXPECT_NE(fields("search", "").status, 200) << "not that gateway's";
  EXPECT_NE(fields("files", "files:write").status, 200) << "not that gateway's";
}

TEST(Rfc9700_2_2_1, WhoCanProveAKeyGetsTokensBoundToIt) {
  const DpopHolder holder;
  const auto reply = acme().ask("POST", "/t/rfc9700/token",
                                {{"Content-Type", "application/x-www-form-urlencoded"},
                                 {"Authorization", basic("gw-01", acme().secret)},
                                 {"DPoP", holder.proof("https://sts.example.com/t/rfc9700/token")}},
                                form(acme().exchange_fields(acme().user_token("alice"), "files")));
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(claims_of(json_of(reply, "access_token").get<std::string>()).at("cnf").at("jkt"),
            holder.jkt());
}

TEST(Rfc9700_2_4, GrantsWithoutAPasswordAreListedAndWork) {
  const auto metadata =
      json_of(acme().ask("GET", "/.well-known/oauth-authorization-server/t/rfc9700"));
  EXPECT_EQ(metadata.at("grant_types_supported"),
            Json({TestTenant::kExchange, "client_credentials"}));
  EXPECT_THAT(acme().exchange(acme().user_token("alice"), "files"), HasStatus(200));
  EXPECT_THAT(acme().token({{"grant_type", "client_credentials"},
                            {"resource", "https://files.example.com/mcp"}}),
              HasStatus(200));
}

TEST(Rfc9700_2_4, NoPasswordIsTakenAndNoTokenGoesThroughABrowser) {
  const auto refused = acme().token(
      {{"grant_type", "password"}, {"username", "alice"}, {"password", "canary-password"}});
  EXPECT_THAT(refused, IsOAuthError(400, "unsupported_grant_type"));
  EXPECT_THAT(refused.body, Not(HasSubstr("canary-password")));
  EXPECT_THAT(acme().token({{"grant_type", "implicit"}}),
              IsOAuthError(400, "unsupported_grant_type"));
  for (const char* type : {"token", "id_token%20token", "code%20token"}) {
    const auto reply =
        acme().ask("GET", std::string("/t/rfc9700/authorize?client_id=gw-01&response_type=") +
                              type + "&redirect_uri=https%3A%2F%2Fapp.example%2Fcb");
    EXPECT_EQ(reply.status, 400);
    EXPECT_EQ(reply.header("Location"), "(none)");
  }
}

}  // namespace
}  // namespace postern::test
