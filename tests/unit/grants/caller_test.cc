#include "grants/caller.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using test::code_of;
using test::GrantsFixture;
using token::Json;

const std::string kKey = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
const std::string kOtherKey = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
const std::string kCertificate = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0";

TEST(Confirmation, IsReadOnlyWhenEveryMemberIsOneWeCanProve) {
  EXPECT_EQ(read_confirmation({{"jkt", kKey}}).value(), (Confirmation{kKey, ""}));
  EXPECT_EQ(read_confirmation({{"x5t#S256", kCertificate}, {"jkt", kKey}}).value(),
            (Confirmation{kKey, kCertificate}));
  for (const auto& bad :
       {Json(nullptr), Json(true), Json("jkt"), Json::array(), Json::object(), Json{{"jkt", 1}},
        Json{{"jkt", ""}}, Json{{"jkt", "short"}}, Json{{"jkt", kKey}, {"kid", "k"}},
        Json{{"jwk", Json::object()}}, Json{{"x5t#S256", nullptr}}, Json{{"JKT", kKey}}}) {
    EXPECT_EQ(code_of(read_confirmation(bad)), ErrorCode::InvalidToken) << bad;
  }
}

/// The fixture with what a caller proved.
struct Bound : GrantsFixture {
  std::string subject_bound_to(const Json& cnf) {
    auto all = claims();
    all["cnf"] = cnf;
    return idp.sign(all);
  }
  Result<IssuedToken> exchange_as(const Confirmation& proven, std::string_view subject,
                                  std::optional<std::string_view> actor = std::nullopt) {
    auto asked = request(subject);
    asked.actor_token = actor;
    if (actor) asked.actor_token_type = kAccessToken;
    auto who = caller();
    who.proven = proven;
    last_record = record();
    return token_exchange.exchange(*snapshot, who, asked, Wait::Yes, last_record);
  }
  Json cnf_of(const Result<IssuedToken>& issued) {
    return open(issued.value().access_token).value("cnf", Json());
  }
};

TEST(Confirmation, NoTokenIsBoundToAKeyThatWasNotProven) {
  Bound f;
  auto who = f.caller();
  EXPECT_EQ(confirmation_of(who, {}).value(), Confirmation());
  EXPECT_EQ(code_of(confirmation_of(who, {kKey, ""})), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(confirmation_of(who, {"", kCertificate})), ErrorCode::InvalidToken);
  who.proven = {kOtherKey, kCertificate};
  EXPECT_EQ(code_of(confirmation_of(who, {kKey, kCertificate})), ErrorCode::InvalidToken);
  EXPECT_EQ(confirmation_of(who, {"", kCertificate}).value(), who.proven);
}

TEST(BoundTokens, X5_ABoundSubjectTokenNeedsTheProofOfItsKey) {
  Bound f;
  const auto by_key = f.subject_bound_to({{"jkt", kKey}});
  const auto by_certificate = f.subject_bound_to({{"x5t#S256", kCertificate}});
  const auto by_both = f.subject_bound_to({{"jkt", kKey}, {"x5t#S256", kCertificate}});
  // The good ones first: what is remembered of a token must not carry its proof.
  ASSERT_TRUE(f.exchange_as({kKey, ""}, by_key).ok());
  ASSERT_TRUE(f.exchange_as({"", kCertificate}, by_certificate).ok());
  ASSERT_TRUE(f.exchange_as({kKey, kCertificate}, by_both).ok());
  for (const auto& token : {by_key, by_certificate, by_both}) {
    EXPECT_EQ(code_of(f.exchange_as({}, token)), ErrorCode::InvalidToken);
    EXPECT_EQ(code_of(f.exchange_as({kOtherKey, kOtherKey}, token)), ErrorCode::InvalidToken);
    // One kind of key never stands for the other.
    EXPECT_EQ(code_of(f.exchange_as({kCertificate, kKey}, token)), ErrorCode::InvalidToken);
  }
  EXPECT_EQ(code_of(f.exchange_as({kKey, ""}, by_both)), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(f.exchange_as({"", kCertificate}, by_both)), ErrorCode::InvalidToken);
}

TEST(BoundTokens, ABoundActorTokenNeedsTheProofOfItsKeyToo) {
  Bound f;
  auto claims = f.claims("agent");
  claims["cnf"] = {{"jkt", kKey}};
  const auto actor = f.idp.sign(claims);
  const auto plain = f.subject_token();
  EXPECT_EQ(code_of(f.exchange_as({}, plain, actor)), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(f.exchange_as({kOtherKey, ""}, plain, actor)), ErrorCode::InvalidToken);
  const auto issued = f.exchange_as({kKey, ""}, plain, actor);
  EXPECT_EQ(f.cnf_of(issued), Json({{"jkt", kKey}}));
  // A certificate binds only what was bound before, be it by the actor's token.
  claims["cnf"] = {{"x5t#S256", kCertificate}};
  const auto by_certificate = f.exchange_as({"", kCertificate}, plain, f.idp.sign(claims));
  EXPECT_EQ(f.cnf_of(by_certificate), Json({{"x5t#S256", kCertificate}}));
}

TEST(BoundTokens, WhatWasBoundNeverBecomesUnbound) {
  Bound f;
  const auto by_key = f.exchange_as({kKey, ""}, f.subject_bound_to({{"jkt", kKey}}));
  EXPECT_EQ(f.cnf_of(by_key), Json({{"jkt", kKey}}));
  EXPECT_EQ(by_key.value().token_type, "DPoP");
  // The client is not registered for certificate-bound tokens: the subject token decides.
  const auto by_certificate =
      f.exchange_as({"", kCertificate}, f.subject_bound_to({{"x5t#S256", kCertificate}}));
  EXPECT_EQ(f.cnf_of(by_certificate), Json({{"x5t#S256", kCertificate}}));
  EXPECT_EQ(by_certificate.value().token_type, "Bearer");
  const auto by_both = f.exchange_as(
      {kKey, kCertificate}, f.subject_bound_to({{"jkt", kKey}, {"x5t#S256", kCertificate}}));
  EXPECT_EQ(f.cnf_of(by_both), Json({{"jkt", kKey}, {"x5t#S256", kCertificate}}));
}

TEST(BoundTokens, AReleaseOfAMintedTokenKeepsTheBinding) {
  Bound f;
  for (const auto& [cnf, proven] :
       {std::pair(Json{{"jkt", kKey}}, Confirmation{kKey, ""}),
        // which binds only what was bound before
        std::pair(Json{{"x5t#S256", kCertificate}}, Confirmation{"", kCertificate})}) {
    const auto token = f.subject_bound_to(cnf);
    auto who = f.caller();
    EXPECT_EQ(code_of(f.release.verify_subject(*f.snapshot, who, token, GrantsFixture::kAccessToken,
                                               Wait::Yes)),
              ErrorCode::InvalidToken);
    who.proven = proven;
    const auto subject = test::must(
        f.release.verify_subject(*f.snapshot, who, token, GrantsFixture::kAccessToken, Wait::Yes));
    auto record = f.record();
    const auto released =
        f.release.release(*f.snapshot, who, *subject, {"files", false, {}}, record);
    ASSERT_TRUE(released.ok());
    released.value().env.at("FILES_TOKEN").expose([&, &cnf = cnf](ByteView bytes) {
      EXPECT_EQ(f.open(as_text(bytes)).at("cnf"), cnf);
    });
  }
}

TEST(BoundTokens, AProofBindsAndACertificateBindsOnlyWhenTheClientAsksForIt) {
  Bound f;
  EXPECT_EQ(f.cnf_of(f.exchange_as({}, f.subject_token())), Json());
  EXPECT_EQ(f.cnf_of(f.exchange_as({kKey, ""}, f.subject_token())), Json({{"jkt", kKey}}));
  EXPECT_EQ(f.cnf_of(f.exchange_as({"", kCertificate}, f.subject_token())), Json());
  f.client()["certificate_bound"] = true;
  f.load();
  EXPECT_EQ(f.cnf_of(f.exchange_as({"", kCertificate}, f.subject_token())),
            Json({{"x5t#S256", kCertificate}}));
}

TEST(BoundTokens, AClientRegisteredForBoundTokensGetsNoOthers) {
  Bound f;
  f.client()["dpop_bound"] = true;
  f.load();
  EXPECT_EQ(code_of(f.exchange_as({}, f.subject_token())), ErrorCode::InvalidDpopProof);
  EXPECT_EQ(code_of(f.exchange_as({"", kCertificate}, f.subject_token())),
            ErrorCode::InvalidDpopProof);
  EXPECT_TRUE(f.exchange_as({kKey, ""}, f.subject_token()).ok());
  auto record = f.record();
  EXPECT_EQ(code_of(f.client_credentials.grant(*f.snapshot, f.caller(), {"files"}, {}, std::nullopt,
                                               record)),
            ErrorCode::InvalidDpopProof);
  f.client()["certificate_bound"] = true;
  f.client()["dpop_bound"] = false;
  f.load();
  EXPECT_EQ(code_of(f.exchange_as({kKey, ""}, f.subject_token())), ErrorCode::MalformedRequest);
}

TEST(BoundTokens, TheRestApiTakesNoBoundTokenAsBearer) {
  Bound f;
  EXPECT_EQ(
      code_of(f.verifier.verify_user(*f.snapshot, f.subject_bound_to({{"jkt", kKey}}), Wait::Yes)),
      ErrorCode::InvalidToken);
}

}  // namespace
}  // namespace postern::grants
