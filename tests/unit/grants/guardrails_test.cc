// Guardrails hold at the moment of issuing, whatever was configured before them.

#include <gtest/gtest.h>

#include <string>

#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::GrantsFixture;
using token::Json;

struct Limited : GrantsFixture {
  void limit(Json guardrails) {
    tenants.apply({{"tenant", "acme"}, {"guardrails", std::move(guardrails)}}, clock.now(),
                  policy::Prune::No);
    snapshot = tenants.snapshot(tenant);
  }
  std::string user() {
    auto claims = idp.claims("alice", clock.now());
    claims["groups"] = {"engineering"};
    return idp.sign(claims);
  }
};

TEST(Guardrails, CutTheLifeOfTokensConfiguredToLiveLonger) {
  Limited f;
  f.limit({{"max_token_lifetime", 20}});
  ASSERT_GT(f.snapshot->settings().max_token_lifetime, 20s);
  const auto token = f.user();
  const auto issued = f.exchange(f.request(token));
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  EXPECT_EQ(issued.value().expires_in, 20s);
  auto record = f.record();
  const auto own = f.client_credentials.grant(*f.snapshot, f.caller(), {"files"}, {}, {}, record);
  ASSERT_TRUE(own.ok()) << own.error().detail;
  EXPECT_EQ(own.value().expires_in, 20s);
}

TEST(Guardrails, StopAnIssuerThatWasTrustedBefore) {
  Limited f;
  const auto token = f.user();
  ASSERT_TRUE(f.exchange(f.request(token)).ok());  // and remembered
  f.limit({{"issuers", {"https://idp.elsewhere.example"}}});
  EXPECT_EQ(code_of(f.exchange(f.request(token))), ErrorCode::InvalidToken);
  // Nor as an actor, nor at the REST API.
  EXPECT_EQ(code_of(f.verifier.verify_user(*f.snapshot, token, Wait::Yes)),
            ErrorCode::InvalidToken);
}

TEST(Guardrails, StopTheWayAClientAuthenticates) {
  Limited f;
  const auto token = f.user();
  f.limit({{"client_authentication", {"private_key_jwt"}}});
  EXPECT_EQ(code_of(f.exchange(f.request(token))), ErrorCode::UnauthorizedClient);
  auto record = f.record();
  EXPECT_EQ(code_of(f.client_credentials.grant(*f.snapshot, f.caller(), {"files"}, {}, {}, record)),
            ErrorCode::UnauthorizedClient);
}

TEST(Guardrails, StopAnAlgorithm) {
  Limited f;
  const auto token = f.user();
  f.limit({{"signing_algorithms", {"EdDSA"}}});
  EXPECT_EQ(code_of(f.exchange(f.request(token))), ErrorCode::TargetRefused);
}

TEST(Guardrails, WithoutImpersonationATokenNamesTheClientThatActs) {
  Limited f;
  const auto token = f.user();
  auto issued = f.exchange(f.request(token));
  ASSERT_TRUE(issued.ok());
  EXPECT_FALSE(f.open(issued.value().access_token).contains("act"));

  f.limit({{"impersonation", false}});
  issued = f.exchange(f.request(token));
  ASSERT_TRUE(issued.ok());
  EXPECT_EQ(f.open(issued.value().access_token).at("act"), Json({{"sub", "gw-01"}}));
}

TEST(Guardrails, WithoutImpersonationAnActorTokenNamesTheActor) {
  Limited f;
  f.limit({{"impersonation", false}});
  const auto token = f.user();
  const auto agent = f.idp.sign(f.idp.claims("agent", f.clock.now()));
  auto request = f.request(token);
  request.actor_token = agent;
  request.actor_token_type = GrantsFixture::kAccessToken;
  const auto issued = f.exchange(request);
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  EXPECT_EQ(f.open(issued.value().access_token).at("act"),
            Json({{"iss", f.idp.issuer()}, {"sub", "agent"}}));
}

TEST(Guardrails, WithoutImpersonationHistoryIsKeptBelowTheClient) {
  Limited f;
  f.limit({{"impersonation", false}});
  auto claims = f.idp.claims("alice", f.clock.now());
  claims["groups"] = {"engineering"};
  claims["act"] = {{"sub", "first"}};
  const auto token = f.idp.sign(claims);
  const auto issued = f.exchange(f.request(token));
  ASSERT_TRUE(issued.ok());
  EXPECT_EQ(f.open(issued.value().access_token).at("act"),
            Json({{"sub", "gw-01"}, {"act", {{"sub", "first"}}}}));
}

TEST(Guardrails, AClientForItselfHasNoActor) {
  Limited f;
  f.limit({{"impersonation", false}});
  auto record = f.record();
  const auto own = f.client_credentials.grant(*f.snapshot, f.caller(), {"files"}, {}, {}, record);
  ASSERT_TRUE(own.ok());
  EXPECT_FALSE(f.open(own.value().access_token).contains("act"));
}

TEST(Guardrails, WithoutImpersonationAReleasedTokenNamesTheClientToo) {
  Limited f;
  f.limit({{"impersonation", false}});
  const auto token = f.user();
  auto record = f.record();
  const auto subject = f.release.verify_subject(*f.snapshot, f.caller(), token,
                                                GrantsFixture::kAccessToken, Wait::Yes);
  ASSERT_TRUE(subject.ok());
  const auto released =
      f.release.release(*f.snapshot, f.caller(), *subject.value(), {"files", false, {}}, record);
  ASSERT_TRUE(released.ok()) << released.error().detail;
  const auto claims = released.value().env.at("FILES_TOKEN").expose([&](ByteView bytes) {
    return f.open(as_text(bytes));
  });
  EXPECT_EQ(claims.at("act"), Json({{"sub", "gw-01"}}));
}

}  // namespace
}  // namespace postern::grants
