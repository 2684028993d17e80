#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "grants/token_exchange.h"
#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::field_of;
using test::GrantsFixture;
using test::seconds_of;
using token::Json;

/// The fixture with a vaulted backend, github, that exchanges answer from its
/// credential's field `token`.
struct VaultedExchange : GrantsFixture {
  VaultedExchange() {
    backend("github")["token_field"] = "token";
    load();
    store("github", "alice", {{"token", "ghp_alice"}});
  }
  TokenExchangeRequest wish(std::string_view subject) const {
    auto asked = request(subject);
    asked.audiences = {"github"};
    return asked;
  }
  Result<IssuedToken> ask(std::string_view subject = "alice") {
    token = subject_token(subject);
    return exchange(wish(token));
  }
  static std::string text(const IssuedToken& issued) {
    return issued.access_token.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  }
  std::string token;
};

TEST(VaultedExchange, AnswersAStockGatewayWithABearer) {
  VaultedExchange f;
  const auto issued = f.ask();
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  EXPECT_EQ(f.text(issued.value()), "ghp_alice");
  EXPECT_EQ(issued.value().token_type, "Bearer");
  EXPECT_EQ(issued.value().issued_token_type, GrantsFixture::kAccessToken);
  EXPECT_EQ(issued.value().expires_in, 300s);
  EXPECT_EQ(issued.value().scope.str(), "repo:read repo:write");
}

TEST(VaultedExchange, AnswersThePrivateTypeWithNA) {
  VaultedExchange f;
  auto request = f.wish(f.token = f.subject_token());
  request.requested_token_type = kCredentialTokenType;
  const auto issued = f.exchange(request);
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  EXPECT_EQ(f.text(issued.value()), "ghp_alice");
  EXPECT_EQ(issued.value().token_type, "N_A");
  EXPECT_EQ(issued.value().issued_token_type, kCredentialTokenType);
}

TEST(VaultedExchange, IsRecordedAsAReleaseWithoutTheSecret) {
  VaultedExchange f;
  ASSERT_TRUE(f.ask().ok());
  const auto& record = f.last_record;
  EXPECT_EQ(record.action, "credential.release");
  EXPECT_EQ(field_of(record, "grant"), "token-exchange");
  EXPECT_EQ(field_of(record, "backend"), "github");
  EXPECT_EQ(field_of(record, "credential"), "github");
  EXPECT_EQ(field_of(record, "credential_owner"), "principal");
  EXPECT_EQ(field_of(record, "credential_version"), "1");
  EXPECT_EQ(field_of(record, "subject"), "alice");
  EXPECT_EQ(field_of(record, "scope"), "repo:read repo:write");
  EXPECT_EQ(field_of(record, "jti"), "");
  for (const auto& [name, value] : record.fields) {
    EXPECT_EQ(value.find("ghp_"), std::string::npos) << name;
  }
}

TEST(VaultedExchange, ADeletedOrDestroyedVersionIsNoCredentialAndNoOlderOneIs) {
  using Change = vault::CredentialStore::VersionChange;
  VaultedExchange f;
  f.store("github", "alice", {{"token", "ghp_second"}});
  f.change("github", "alice", Change::Delete);
  EXPECT_EQ(code_of(f.ask()), ErrorCode::InteractionRequired);
  f.change("github", "alice", Change::Undelete);
  EXPECT_EQ(f.text(f.ask().value()), "ghp_second");
  f.change("github", "alice", Change::Destroy);
  EXPECT_EQ(code_of(f.ask()), ErrorCode::InteractionRequired);
}

TEST(VaultedExchange, OnlyTheTypesThatTheAnswerIs) {
  VaultedExchange f;
  const auto token = f.subject_token();
  auto request = f.wish(token);
  // A stored credential is no JWT of ours.
  request.requested_token_type = GrantsFixture::kJwt;
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::MalformedRequest);
  request.requested_token_type = "https://elsewhere.example/token-type/credential";
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::MalformedRequest);
  request.requested_token_type = GrantsFixture::kAccessToken;
  EXPECT_TRUE(f.exchange(request).ok());
  // And a minted token is no stored credential.
  auto minted = f.request(token);
  minted.requested_token_type = kCredentialTokenType;
  EXPECT_EQ(code_of(f.exchange(minted)), ErrorCode::MalformedRequest);
}

TEST(VaultedExchange, WithoutATokenFieldThereIsOnlyTheReleaseEndpoint) {
  VaultedExchange f;
  f.backend("github").erase("token_field");
  f.load();
  EXPECT_EQ(code_of(f.ask()), ErrorCode::TargetRefused);
  EXPECT_EQ(f.last_record.action, "token.exchange");
}

TEST(VaultedExchange, IsAllOrNothing) {
  VaultedExchange f;
  f.role()["deny"] = {"github:repo:write"};
  f.load();
  EXPECT_EQ(code_of(f.ask()), ErrorCode::ScopeRefused);
  f.role()["deny"] = Json::array();
  f.client()["scopes"] = {"repo:read"};
  f.load();
  EXPECT_EQ(code_of(f.ask()), ErrorCode::ScopeRefused);
  f.client()["scopes"] = {"*"};
  f.load();
  auto claims = f.claims();
  claims["scope"] = "repo:read";  // the token's own ceiling
  const auto narrow = f.idp.sign(claims);
  EXPECT_EQ(code_of(f.exchange(f.wish(narrow))), ErrorCode::ScopeRefused);
  const auto token = f.subject_token();
  auto request = f.wish(token);
  request.scope = "repo:admin";
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::ScopeRefused);
  request.scope = "repo:read";  // less was asked; what the credential opens is said
  EXPECT_EQ(f.exchange(request).value().scope.str(), "repo:read repo:write");
}

TEST(VaultedExchange, NobodyWithoutARoleGetsIt) {
  VaultedExchange f;
  auto claims = f.claims("mallory");
  claims["groups"] = {"sales"};
  f.store("github", "mallory", {{"token", "ghp_mallory"}});
  const auto token = f.idp.sign(claims);
  EXPECT_EQ(code_of(f.exchange(f.wish(token))), ErrorCode::TargetRefused);
}

TEST(VaultedExchange, OneUserNeverGetsAnothersCredential) {
  VaultedExchange f;
  const auto issued = f.ask("bob");
  EXPECT_EQ(code_of(issued), ErrorCode::InteractionRequired);
  EXPECT_EQ(issued.error().remedy.connect_url,
            "https://portal.acme.example/connect?backend=github");
  f.store("github", "bob", {{"token", "ghp_bob"}});
  EXPECT_EQ(f.text(f.ask("bob").value()), "ghp_bob");
  EXPECT_EQ(f.text(f.ask("alice").value()), "ghp_alice");
}

TEST(VaultedExchange, ACredentialThatCannotBeATokenNeedsItsUser) {
  VaultedExchange f;
  f.store("github", "dora", {{"other", "x"}});
  const auto lacking = f.ask("dora");
  EXPECT_EQ(code_of(lacking), ErrorCode::InteractionRequired);
  EXPECT_NE(lacking.error().detail.find("lacks the field"), std::string::npos);
  for (const std::string& value : {std::string("two\nlines"), std::string("z\xc3\xbcrich"),
                                   std::string("tab\there"), std::string(16 * 1024 + 1, 'x')}) {
    f.store("github", "erin", {{"token", value}});
    const auto refused = f.ask("erin");
    EXPECT_EQ(code_of(refused), ErrorCode::InteractionRequired);
    EXPECT_FALSE(refused.error().remedy.connect_url.empty());
  }
  f.store("github", "erin", {{"token", "quote\" and \\ are fine"}});
  EXPECT_EQ(f.text(f.ask("erin").value()), "quote\" and \\ are fine");
}

TEST(VaultedExchange, MayBeKeptNoLongerThanCredentialSubjectAndBackendAllow) {
  VaultedExchange f;
  f.store("github", "alice", {{"token", "t"}}, f.clock.now() + 40s);
  EXPECT_EQ(f.ask().value().expires_in, 40s);
  f.backend("github")["max_expires_in"] = 30;
  f.load();
  EXPECT_EQ(f.ask().value().expires_in, 30s);
  auto claims = f.claims();
  claims["exp"] = seconds_of(f.clock.now() + 7s);
  const auto short_lived = f.idp.sign(claims);
  EXPECT_EQ(f.exchange(f.wish(short_lived)).value().expires_in, 7s);
  f.manifest["settings"]["max_token_lifetime"] = 20;
  f.load();
  EXPECT_EQ(f.ask().value().expires_in, 20s);
  f.store("github", "alice", {{"token", "t"}}, f.clock.now() - 1s);
  EXPECT_EQ(code_of(f.ask()), ErrorCode::InteractionRequired);
}

TEST(VaultedExchange, NothingIsAnsweredOnceTheProofOfTheUserIsOver) {
  VaultedExchange f;
  const auto token = f.subject_token();
  const auto asked = f.wish(token);
  auto record = f.record();
  const auto parties =
      test::must(f.token_exchange.verify(*f.snapshot, f.caller(), asked, Wait::Yes, record));
  // One of many targets of a call, whose turn comes late.
  f.clock.set(parties.subject->expires_at - 1s);
  EXPECT_EQ(f.token_exchange.issue_for(*f.snapshot, f.caller(), parties, asked, Wait::Yes, record)
                .value()
                .expires_in,
            1s);
  f.clock.set(parties.subject->expires_at);
  EXPECT_EQ(code_of(f.token_exchange.issue_for(*f.snapshot, f.caller(), parties, asked, Wait::Yes,
                                               record)),
            ErrorCode::InvalidToken);
}

TEST(VaultedExchange, NeedsTheDatabaseAndSaysSo) {
  VaultedExchange f;
  const auto token = f.subject_token();
  auto record = f.record();
  EXPECT_EQ(
      code_of(f.token_exchange.exchange(*f.snapshot, f.caller(), f.wish(token), Wait::No, record)),
      ErrorCode::NeedsDatabase);
  record = f.record();
  EXPECT_TRUE(
      f.token_exchange.exchange(*f.snapshot, f.caller(), f.wish(token), Wait::Database, record)
          .ok());
  // What can be refused without it is.
  f.role()["deny"] = {"github:*"};
  f.load();
  record = f.record();
  EXPECT_EQ(
      code_of(f.token_exchange.exchange(*f.snapshot, f.caller(), f.wish(token), Wait::No, record)),
      ErrorCode::TargetRefused);
}

TEST(VaultedExchange, NamesNoActor) {
  VaultedExchange f;
  const auto alice = f.subject_token();
  const auto robot = f.subject_token("robot");
  auto request = f.wish(alice);
  request.actor_token = robot;
  request.actor_token_type = GrantsFixture::kJwt;
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::MalformedRequest);
}

TEST(VaultedExchange, ATokenOfOursOpensNothing) {
  VaultedExchange f;
  const auto subject = f.subject_token();
  const auto minted = f.exchange(f.request(subject));
  ASSERT_TRUE(minted.ok());
  const auto own = f.text(minted.value());
  EXPECT_FALSE(f.exchange(f.wish(own)).ok());
}

TEST(VaultedExchange, MayActAndTheGrantHoldHereToo) {
  VaultedExchange f;
  auto claims = f.claims();
  claims["may_act"] = {{"sub", "gw-02"}};
  const auto token = f.idp.sign(claims);
  EXPECT_EQ(code_of(f.exchange(f.wish(token))), ErrorCode::InvalidToken);
  f.client()["grants"] = {"client_credentials"};
  f.load();
  EXPECT_EQ(code_of(f.ask()), ErrorCode::UnauthorizedClient);
}

}  // namespace
}  // namespace postern::grants
