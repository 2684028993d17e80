// Revocation (RFC 7009) over the wire.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;

TestTenant& acme() {
  static TestTenant tenant("rfc7009");
  return tenant;
}

Pairs headers(const std::string& authorization) {
  Pairs all{{"Content-Type", "application/x-www-form-urlencoded"}};
  if (!authorization.empty()) all.emplace_back("Authorization", authorization);
  return all;
}
WireReply post(const char* endpoint, const Pairs& fields, const std::string& authorization) {
  return acme().ask("POST", std::string("/t/rfc7009/") + endpoint, headers(authorization),
                    form(fields));
}
std::string gateway() { return basic("gw-01", acme().secret); }
std::string other() { return basic("gw-files", acme().files_secret); }
std::string issued(const std::string& user_token) {
  return json_of(acme().exchange(user_token, "files")).at("access_token");
}
bool active(const std::string& token) {
  return json_of(post("introspect", {{"token", token}}, gateway())).at("active");
}

TEST(Rfc7009_2_1, R1_TheClientMustAuthenticate) {
  const auto token = issued(acme().user_token("alice"));
  EXPECT_THAT(post("revoke", {{"token", token}}, ""), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(post("revoke", {{"token", token}}, basic("gw-01", "wrong")),
              IsOAuthError(401, "invalid_client"));
  EXPECT_TRUE(active(token));
}

TEST(Rfc7009_2_2, R2_ARevokedTokenIsWorthNothing) {
  const auto token = issued(acme().user_token("alice"));
  ASSERT_TRUE(active(token));
  const auto reply = post("revoke", {{"token", token}}, gateway());
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "");
  EXPECT_THAT(reply.header("Cache-Control"), HasSubstr("no-store"));
  EXPECT_FALSE(active(token));
  EXPECT_THAT(acme().exchange(token, "search"), IsOAuthError(400, "invalid_request"));
  EXPECT_EQ(post("revoke", {{"token", token}}, gateway()).status, 200) << "again";
}

TEST(Rfc7009_2_2, R2_UnknownAndInvalidTokensAre200) {
  for (const auto& token : {std::string("x"), std::string("a.b.c"), std::string(3000, 'a')}) {
    EXPECT_EQ(post("revoke", {{"token", token}}, gateway()).status, 200);
  }
}

TEST(Rfc7009_2_1, R3_TheClientsOwnTokenIsRevoked) {
  const auto token = issued(acme().user_token("alice"));
  EXPECT_EQ(post("revoke", {{"token", token}}, gateway()).status, 200);
  EXPECT_FALSE(active(token));
  const auto records = acme().audit("limit=1&order=desc&action=token.revoke");
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].at("event").at("fields").at("effect"), "revoked");
}

TEST(Rfc7009_2_1, R3_AnotherClientsTokenIsLeftAloneWithoutAWord) {
  const auto token = issued(acme().user_token("alice"));
  const auto reply = post("revoke", {{"token", token}}, other());
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "");
  EXPECT_TRUE(active(token));
  const auto records = acme().audit("limit=1&order=desc&action=token.revoke");
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].at("event").at("fields").at("effect"), "none");
}

TEST(Rfc7009_2_1, R4_OneTokenIsRevokedByItsIdAndItsSiblingsLiveOn) {
  const auto user = acme().user_token("alice");
  const auto first = issued(user);
  const auto sibling = issued(user);
  EXPECT_EQ(post("revoke", {{"token", first}}, gateway()).status, 200);
  EXPECT_FALSE(active(first));
  EXPECT_TRUE(active(sibling));
  EXPECT_TRUE(active(issued(user)));
}

TEST(Rfc7009_2_1, R4_ExchangedDescendantsDieWithTheParent) {
  const auto first = issued(acme().user_token("bob"));
  const std::string second = json_of(acme().exchange(first, "search")).at("access_token");
  ASSERT_TRUE(active(second));
  post("revoke", {{"token", first}}, gateway());
  EXPECT_FALSE(active(second));
}

TEST(Rfc7009_2_1, R4_AnIssuersTokenTakesAllWithIt) {
  const auto user = acme().user_token("carol");
  const auto first = issued(user);
  post("revoke", {{"token", user}, {"token_type_hint", "access_token"}}, gateway());
  EXPECT_FALSE(active(first));
  EXPECT_THAT(acme().exchange(user, "files"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().release(user, {{{"backend", "files"}}}), IsProblem(422, "invalid-token"));
  EXPECT_THAT(acme().api("GET", "/credentials", user), IsProblem(401, "unauthenticated"));
}

TEST(Rfc7009_2_1, R1_AnUnknownHintIsIgnored) {
  const auto token = issued(acme().user_token("alice"));
  EXPECT_EQ(post("revoke", {{"token", token}, {"token_type_hint", "nonsense"}}, gateway()).status,
            200);
  EXPECT_FALSE(active(token));
}

TEST(Rfc7009_2_2_1, R5_NoTypeOfTokenIsUnsupported) {
  for (const char* hint : {"access_token", "refresh_token", "id_token", "nonsense"}) {
    const auto token = issued(acme().user_token("alice"));
    const auto reply = post("revoke", {{"token", token}, {"token_type_hint", hint}}, gateway());
    EXPECT_THAT(reply, HasStatus(200)) << hint;
    EXPECT_FALSE(active(token)) << hint;
  }
}

TEST(Rfc7009_2_2_1, R5_OnlyPostsOfAFormAreTaken) {
  EXPECT_THAT(acme().ask("GET", "/t/rfc7009/revoke"), HasStatus(405));
  EXPECT_THAT(post("revoke", {}, gateway()), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().ask("POST", "/t/no-such-tenant/revoke", headers(gateway()), "token=x"),
              HasStatus(404));
}

}  // namespace
}  // namespace postern::test
