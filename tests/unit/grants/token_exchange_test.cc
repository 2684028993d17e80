#include "grants/token_exchange.h"

#include <gtest/gtest.h>

#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::GrantsFixture;
using token::Json;

TEST(TokenExchange, IssuesARfc9068TokenForTheOneTarget) {
  GrantsFixture f;
  const auto token = f.subject_token();

  const auto issued = f.exchange(f.request(token));

  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  const auto claims = f.open(issued.value().access_token);
  EXPECT_EQ(claims.at("iss"), "https://sts.example.com/t/acme");
  EXPECT_EQ(claims.at("sub"), "alice");
  EXPECT_EQ(claims.at("aud"), "https://files.example.com/mcp");
  EXPECT_EQ(claims.at("client_id"), "gw-01");
  EXPECT_EQ(claims.at("scope"), "files:read files:write");
  EXPECT_EQ(claims.at("iat"), test::seconds_of(f.clock.now()));
  EXPECT_EQ(claims.at("exp"), test::seconds_of(f.clock.now() + 300s));
  EXPECT_GE(claims.at("jti").get<std::string>().size(), 22u);
  EXPECT_EQ(claims.size(), 8u);
  EXPECT_EQ(issued.value().expires_in, 300s);
  EXPECT_EQ(issued.value().issued_token_type, GrantsFixture::kAccessToken);
}

}  // namespace
}  // namespace postern::grants
