// No request becomes more by saying less: each parameter of a token exchange, on
// the wire, is removed, blanked, doubled and given twice with two values, and
// what comes of it is held against the whole request (CVE-2026-9704: a dropped
// subject_token turned a user's request into the client's own). Every other grant:
// lesser_requests_test.cc. And the chain of actors only grows (keycloak#52691).
//
//   POSTERN_PROPERTY_RUNS   random requests are a hundredth of it (default 5000: 50)
//   POSTERN_PROPERTY_SEED   to repeat a run (printed on failure)

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "support/code_of.h"
#include "support/from_environment.h"
#include "support/grants_fixture.h"
#include "support/privilege.h"
#include "support/service_fixture.h"

namespace postern {
namespace {

using namespace test;
using token::Json;

/// Nothing when the request was refused.
std::optional<Privilege> given(const WireReply& reply) {
  if (reply.status != 200) return std::nullopt;
  return privilege_of(claims_of(json_of(reply, "access_token").get<std::string>()));
}

std::string printed(const Pairs& fields) {
  std::string out;
  for (const auto& [name, value] : fields) out += name + "=" + value.substr(0, 24) + " ";
  return out;
}

TEST(Rfc6749_3_2, NoParameterThatIsMissingBlankOrDoubledRaisesThePrivilege) {
  const auto seed = from_environment("POSTERN_PROPERTY_SEED", std::random_device{}());
  const auto runs = from_environment("POSTERN_PROPERTY_RUNS", 5'000) / 100;
  SCOPED_TRACE("POSTERN_PROPERTY_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto chance = [&](std::uint64_t percent) { return random() % 100 < percent; };

  TestTenant tenant("lesser");
  const std::string files = tenant.part("backends", "files").at("audience");
  tenant.part("clients", "gw-01")["default_backend"] = "files";
  ASSERT_EQ(tenant.apply().status, 200);
  const auto alice = tenant.user_token("alice"), agent = tenant.user_token("agent");

  std::uint64_t issued = 0, refused = 0;
  for (std::uint64_t run = 0; run < runs; ++run) {
    // A request that is good, of random parameters; the secret is one of them.
    Pairs whole{{"grant_type", TestTenant::kExchange},
                {"client_id", "gw-01"},
                {"client_secret", tenant.secret},
                {"subject_token", alice},
                {"subject_token_type", chance(50) ? TestTenant::kAccessToken : TestTenant::kJwt}};
    if (chance(60)) whole.emplace_back("audience", "files");
    if (chance(40)) whole.emplace_back("resource", files);
    if (chance(60)) whole.emplace_back("scope", chance(50) ? "files:read" : "files:read openid");
    if (chance(40)) {
      whole.emplace_back("actor_token", agent);
      whole.emplace_back("actor_token_type", TestTenant::kAccessToken);
    }
    if (chance(40)) whole.emplace_back("requested_token_type", TestTenant::kJwt);
    const auto full = given(tenant.token(whole, ""));
    ASSERT_TRUE(full) << printed(whole);
    // Without `scope` everything permitted is granted; that much and no more.
    auto unscoped = whole;
    std::erase_if(unscoped, [](const auto& field) { return field.first == "scope"; });
    const auto most = given(tenant.token(unscoped, ""));
    ASSERT_TRUE(most);

    for (std::size_t i = 0; i < whole.size(); ++i) {
      const auto& [name, value] = whole[i];
      std::vector<Pairs> variants(4, whole);
      variants[0].erase(variants[0].begin() + static_cast<long>(i));
      variants[1][i].second.clear();
      variants[2].push_back(whole[i]);
      variants[3].emplace_back(name, name == "subject_token" ? agent : value + "x");
      for (std::size_t kind = 0; kind < variants.size(); ++kind) {
        const auto lesser = given(tenant.token(variants[kind], ""));
        ++(lesser ? issued : refused);
        if (!lesser) continue;
        SCOPED_TRACE(name + " variant " + std::to_string(kind) + " of " + printed(whole));
        // Only what has a default may be absent, and only names of one target repeat.
        const std::set<std::string> optional{"audience", "resource", "scope",
                                             "requested_token_type"};
        EXPECT_TRUE(optional.count(name) != 0);
        EXPECT_TRUE(kind < 2 || name == "audience" || name == "resource");
        EXPECT_EQ(lesser->subject, full->subject);
        EXPECT_EQ(lesser->client, full->client);
        EXPECT_EQ(lesser->audience, full->audience);
        EXPECT_GE(lesser->actors, full->actors);
        EXPECT_LE(lesser->expires_at, full->expires_at + 60);  // the clock went on meanwhile
        const auto& ceiling = name == "scope" ? most->scope : full->scope;
        EXPECT_TRUE(std::includes(ceiling.begin(), ceiling.end(), lesser->scope.begin(),
                                  lesser->scope.end()));
      }
    }
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(issued, runs);
  EXPECT_GT(refused, issued);
}

TEST(Rfc8693_4_1, TheChainOfActorsOnlyGrows) {
  const auto seed = from_environment("POSTERN_PROPERTY_SEED", std::random_device{}());
  const auto runs = from_environment("POSTERN_PROPERTY_RUNS", 5'000) / 10;
  SCOPED_TRACE("POSTERN_PROPERTY_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  GrantsFixture f;
  for (std::uint64_t run = 0; run < runs; ++run) {
    // Alice's token after so many acted for her, newest outermost.
    Json history;
    const auto depth = random() % 7;
    for (std::uint64_t i = 0; i < depth; ++i) {
      Json next{{random() % 2 == 0 ? "sub" : "client_id", "actor-" + std::to_string(random() % 9)}};
      if (random() % 2 == 0)
        next["iss"] = "https://idp" + std::to_string(random() % 3) + ".example";
      if (!history.is_null()) next["act"] = history;
      history = next;
    }
    auto claims = f.claims();
    if (!history.is_null()) claims["act"] = history;
    const auto subject = f.idp.sign(claims), actor = f.subject_token("agent");
    auto request = f.request(subject);
    const bool delegated = random() % 2 == 0;
    if (delegated) {
      request.actor_token = actor;
      request.actor_token_type = GrantsFixture::kAccessToken;
    }
    const auto result = f.exchange(request);
    const auto expected = depth + (delegated || depth > 0 ? 1 : 0);
    ASSERT_EQ(result.ok(), expected <= 5) << "depth " << depth << " delegated " << delegated;
    if (!result.ok()) continue;
    const auto issued = f.open(result.value().access_token);
    EXPECT_EQ(actors_of(issued), expected);
    if (expected == 0) continue;
    // Everybody who was there still is, below the newcomer and unchanged.
    EXPECT_EQ(issued.at("act").value("act", Json()), history);
    EXPECT_EQ(issued.at("act").at("sub"), delegated ? "agent" : "gw-01");
    // And only the outermost is new: rights are the subject's, as before.
    EXPECT_EQ(issued.at("sub"), "alice");
  }
}

}  // namespace
}  // namespace postern
