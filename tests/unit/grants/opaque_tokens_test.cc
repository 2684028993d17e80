// Opaque subject tokens: an issuer's answer (RFC 7662) is held to everything
// that a JWT is held to.

#include "grants/opaque_tokens.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "grants/revocation.h"
#include "support/code_of.h"
#include "support/dead_credential_store.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using policy::SubjectTokenType;
using test::code_of;
using test::GrantsFixture;
using test::seconds_of;
using token::Json;

constexpr auto kRefused = ErrorCode::InvalidToken;
constexpr const char* kEndpoint = "https://idp.acme.example/introspect";
constexpr const char* kToken = "ory_at_Vx3k.canary-opaque-token_1";

struct Opaque : GrantsFixture {
  Opaque() {
    issuer()["introspection"] = {{"endpoint", kEndpoint},
                                 {"client_id", "postern:1"},
                                 {"credential", "idp-client"},
                                 {"cache_for", 30}};
    load();
    store("idp-client", "", {{"client_secret", "s3cret/X"}});
    answer({});
  }

  /// What the issuer says of any token from now on.
  Json answer_with(const Json& changes) const {
    Json claims{{"active", true},
                {"token_type", "Bearer"},
                {"client_id", "agent-app"},
                {"sub", "alice"},
                {"aud", {"gw-01"}},
                {"iat", seconds_of(clock.now())},
                {"exp", seconds_of(clock.now() + 300s)},
                {"iss", idp.issuer()},
                {"groups", {"engineering"}}};
    if (changes.is_object()) claims.update(changes);
    return claims;
  }
  void answer(const Json& changes) { fetcher.serve(kEndpoint, answer_with(changes)); }
  void answer_without(const char* member) {
    auto claims = answer_with({});
    claims.erase(member);
    fetcher.serve(kEndpoint, claims);
  }
  std::optional<ErrorCode> refusal(SubjectTokenType type = SubjectTokenType::AccessToken,
                                   std::string_view token = kToken) {
    return code_of(verify(token, type));
  }
  std::optional<ErrorCode> refusal_of(const Json& changes) {
    answer(changes);
    return refusal();
  }
  int asked() const { return static_cast<int>(fetcher.posted().size()); }
  /// Nothing is remembered, so that each verification asks.
  void remember_nothing() {
    issuer()["introspection"]["cache_for"] = 0;
    load();
  }
};

struct Forgetful : Opaque {
  Forgetful() { remember_nothing(); }
};

// ---- the call ----

TEST(OpaqueToken, IsAskedAboutAsRfc7662Says) {
  Opaque f;
  const auto token = f.verify(kToken);
  ASSERT_TRUE(token.ok()) << token.error().detail << token.error().diagnostic;
  const auto posted = f.fetcher.posted();
  ASSERT_EQ(posted.size(), 1u);
  EXPECT_EQ(posted[0].url, kEndpoint);
  EXPECT_EQ(posted[0].body, "token=ory_at_Vx3k.canary-opaque-token_1&token_type_hint=access_token");
  // RFC 6749 §2.3.1: `postern%3A1:s3cret%2FX`.
  EXPECT_EQ(posted[0].authorization, "Basic cG9zdGVybiUzQTE6czNjcmV0JTJGWA==");
}

TEST(OpaqueToken, ADeletedOrDestroyedSecretIsNoneAndNoOlderOneIs) {
  using Change = vault::CredentialStore::VersionChange;
  Forgetful f;
  f.store("idp-client", "", {{"client_secret", "second"}});
  for (const auto how : {Change::Delete, Change::Destroy}) {
    f.change("idp-client", "", how);
    EXPECT_EQ(f.refusal(), ErrorCode::Unavailable);
    f.clock.advance(60s);  // the issuer is left alone no longer
  }
  EXPECT_TRUE(f.fetcher.posted().empty()) << "no secret was sent, an old one neither";
}

TEST(OpaqueToken, BecomesTheSameVerifiedTokenAsAJwt) {
  Opaque f;
  f.answer({{"scope", "files:read openid"},
            {"act", {{"sub", "agent"}, {"name", "dropped"}}},
            {"may_act", {{"sub", "gw-01"}}},
            {"acr", "2"},
            {"username", "alice@example.com"}});
  const auto result = f.verify(kToken);
  ASSERT_TRUE(result.ok()) << result.error().detail;
  const auto& token = *result.value();
  EXPECT_EQ(token.principal, (Principal{f.idp.issuer(), "alice"}));
  EXPECT_EQ(token.groups, std::vector<std::string>{"engineering"});
  EXPECT_EQ(token.scope->str(), "files:read openid");
  EXPECT_EQ(token.audiences, std::vector<std::string>{"gw-01"});
  EXPECT_EQ(token.authorized_party, "agent-app");
  EXPECT_EQ(token.expires_at, f.clock.now() + 300s);
  EXPECT_EQ(token.act, Json({{"sub", "agent"}}));
  EXPECT_EQ(token.may_act, Json({{"sub", "gw-01"}}));
  EXPECT_EQ(token.auth_context, Json({{"acr", "2"}}));
  EXPECT_EQ(token.kind, TokenKind::Access);
  EXPECT_TRUE(token.opaque);
  EXPECT_EQ(token.fingerprint.size(), 22u);
}

TEST(OpaqueToken, IsExchangedLikeAJwt) {
  Opaque f;
  f.answer({{"scope", "files:read"}, {"exp", seconds_of(f.clock.now() + 100s)}});
  const auto issued = f.exchange(f.request(kToken));
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  EXPECT_EQ(issued.value().scope.str(), "files:read");
  EXPECT_EQ(issued.value().expires_in, 100s);  // never beyond the subject token
  EXPECT_EQ(f.open(issued.value().access_token).at("sub"), "alice");
  for (const auto& [name, value] : f.last_record.fields) {
    EXPECT_EQ(value.find("canary"), std::string::npos) << name;
  }
}

TEST(OpaqueToken, ServesAsActorToo) {
  Opaque f;
  f.answer({{"sub", "agent"}});
  const auto subject = f.subject_token();
  auto request = f.request(subject);
  request.actor_token = kToken;
  request.actor_token_type = GrantsFixture::kAccessToken;
  const auto issued = f.exchange(request);
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  EXPECT_EQ(f.open(issued.value().access_token).at("act"),
            Json({{"iss", f.idp.issuer()}, {"sub", "agent"}}));
}

// Nobody has authenticated there, so anybody could make us ask.
TEST(OpaqueToken, IsNotTakenOnTheRestApi) {
  Opaque f;
  EXPECT_EQ(code_of(f.verifier.verify_user(*f.snapshot, kToken, Wait::Yes)), kRefused);
  EXPECT_EQ(f.asked(), 0);
  ASSERT_EQ(f.refusal(), std::nullopt);  // remembered, and still
  EXPECT_EQ(code_of(f.verifier.verify_user(*f.snapshot, kToken, Wait::Yes)), kRefused);
  EXPECT_EQ(f.asked(), 1);
}

TEST(OpaqueToken, AnIssuerWithoutKeysHasNoJwts) {
  Opaque f;
  f.issuer().erase("jwks");
  f.load();
  EXPECT_EQ(code_of(f.verify(f.subject_token())), kRefused);
  EXPECT_EQ(f.fetcher.asked(), 0);
  EXPECT_EQ(f.refusal(), std::nullopt);
}

// ---- what may be shown to the issuer ----

TEST(OpaqueToken, WhatIsNoOpaqueTokenIsNeverShownToTheIssuer) {
  Opaque f;
  const auto jwt = f.subject_token();
  const test::Idp stranger("https://idp.elsewhere.example");
  std::vector<std::string> unshown{
      "",
      "=",
      jwt,
      jwt.substr(0, jwt.size() - 3),  // a broken signature
      jwt.substr(0, jwt.rfind('.')),  // two parts of a JWT
      jwt + ".x",                     // four
      stranger.sign(stranger.claims("bob", f.clock.now())),
      "eyJhbGciOiJkaXIifQ..iv.text.tag",  // a JWE
      "a.b.c",
      "postern_op_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      "postern_ta_acme_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      "with blank",
      "with\nbreak",
      "with%20escape",
      "with&client_id=x",
      "quote\"",
      "ümlaut",
      "pad=ding",
      std::string(4097, 'a'),
      std::string("nul\0", 4),
  };
  for (const auto& token : unshown) {
    EXPECT_FALSE(may_be_opaque(token)) << token;
    static_cast<void>(f.refusal(SubjectTokenType::AccessToken, token));
  }
  EXPECT_EQ(f.asked(), 0);
  for (const std::string& token :
       {std::string("a"), std::string("Zm9v/bar+baz=="), std::string("ory_at_x.y"),
        std::string("-._~+/="), std::string("a.b.c.d.e"), std::string(4096, 'a')}) {
    EXPECT_TRUE(may_be_opaque(token)) << token;
  }
}

TEST(OpaqueToken, NobodyIsAskedInATenantWithoutSuchAnIssuer) {
  GrantsFixture plain;
  EXPECT_EQ(code_of(plain.verify(kToken)), kRefused);
  EXPECT_EQ(plain.fetcher.asked(), 0);
  Opaque f;
  f.issuer()["enabled"] = false;
  f.load();
  EXPECT_EQ(f.refusal(), kRefused);
  f.issuer()["enabled"] = true;
  f.manifest["enabled"] = false;
  f.load();
  EXPECT_EQ(f.refusal(), kRefused);
  EXPECT_EQ(f.asked(), 0);
}

TEST(OpaqueToken, IsNeitherAnIdTokenNorAJwt) {
  Opaque f;
  EXPECT_EQ(f.refusal(SubjectTokenType::IdToken), kRefused);
  EXPECT_EQ(f.refusal(SubjectTokenType::Jwt), kRefused);
  EXPECT_EQ(f.refusal(), std::nullopt);
  f.issuer()["token_types"] = {"jwt", "id_token"};
  f.load();
  EXPECT_EQ(f.refusal(), kRefused);
}

// ---- RFC 7662 answers ----

TEST(OpaqueToken, IsGoodOnlyWhenActiveIsTheBooleanTrue) {
  Forgetful f;
  EXPECT_EQ(f.refusal_of({}), std::nullopt);
  EXPECT_EQ(f.refusal_of({{"active", false}}), kRefused);
  for (const Json& active : std::vector<Json>{nullptr, "true", 1, "active", Json::array({true}),
                                              Json::object(), "", 0, 1.0}) {
    EXPECT_EQ(f.refusal_of({{"active", active}}), ErrorCode::Unavailable) << active;
  }
  f.answer_without("active");
  EXPECT_EQ(f.refusal(), ErrorCode::Unavailable);
  f.fetcher.serve(kEndpoint, {{"active", false}});
  EXPECT_EQ(f.refusal(), kRefused);
}

TEST(OpaqueToken, AnAnswerThatIsNoCleanJsonIsNoAnswer) {
  Forgetful f;
  const auto good = f.answer_with({}).dump();
  for (const std::string& body : std::vector<std::string>{
           "", "true", "[]", "null", "{}", "[" + good + "]", good + good, good + "x",
           "\xef\xbb\xbf" + good, good.substr(0, good.size() - 1) + R"(,"active":true})",
           good.substr(0, good.size() - 1) + R"(,"sub":"mallory"})",
           good.substr(0, good.size() - 1) + R"(,"\u0073ub":"mallory"})", std::string(1000, '['),
           "<html>active</html>",
           good.substr(0, good.size() - 1) + ",\"x\":\"" + std::string(65'536, 'x') + "\"}"}) {
    f.fetcher.serve_text(kEndpoint, 200, body);
    EXPECT_EQ(f.refusal(), ErrorCode::Unavailable) << body.substr(0, 80);
  }
  f.answer({});
  EXPECT_EQ(f.refusal(), std::nullopt);
}

TEST(OpaqueToken, OnlyStatus200AndJsonIsAnAnswer) {
  for (const int status : {201, 204, 301, 302, 400, 401, 403, 404, 429, 500, 503}) {
    Forgetful f;
    f.fetcher.serve_text(kEndpoint, status, f.answer_with({}).dump());
    EXPECT_EQ(f.refusal(), ErrorCode::Unavailable) << status;
  }
  Forgetful f;
  for (const char* type : {"", "text/html", "application/token-introspection+jwt",
                           "application/jwt", "application/jsonx", "text/json"}) {
    f.fetcher.serve_text(kEndpoint, 200, f.answer_with({}).dump(), std::nullopt, type);
    EXPECT_EQ(f.refusal(), ErrorCode::Unavailable) << type;
  }
  for (const char* type : {"application/json", "Application/JSON; charset=utf-8"}) {
    f.fetcher.serve_text(kEndpoint, 200, f.answer_with({}).dump(), std::nullopt, type);
    EXPECT_EQ(f.refusal(), std::nullopt) << type;
  }
}

TEST(OpaqueToken, ARefreshTokenThatIsActiveIsNoAccessToken) {
  Forgetful f;
  for (const char* type : {"Bearer", "bearer", "BEARER"}) {
    EXPECT_EQ(f.refusal_of({{"token_type", type}}), std::nullopt);
  }
  for (const Json& type : std::vector<Json>{nullptr, "", "refresh_token", "DPoP", "N_A", "mac", 1,
                                            Json::array({"Bearer"}), "Bearer "}) {
    EXPECT_EQ(f.refusal_of({{"token_type", type}}), kRefused) << type;
  }
  f.answer_without("token_type");
  EXPECT_EQ(f.refusal(), kRefused);
  EXPECT_EQ(f.refusal_of({{"token_use", "access_token"}}), std::nullopt);
  for (const Json& use : std::vector<Json>{"refresh_token", nullptr, "", 1}) {
    EXPECT_EQ(f.refusal_of({{"token_use", use}}), kRefused) << use;
  }
  for (const char* typ : {"Refresh", "Offline", "ID", "Logout"}) {
    EXPECT_EQ(f.refusal_of({{"typ", typ}}), kRefused) << typ;
  }
}

// ---- the same rules as for a JWT ----

TEST(OpaqueToken, IsHeldToWhatAJwtIsHeldTo) {
  Forgetful f;
  const auto at = [&](std::chrono::seconds offset) { return seconds_of(f.clock.now() + offset); };
  for (const char* name : {"exp", "sub", "aud"}) {
    f.answer_without(name);
    EXPECT_EQ(f.refusal(), kRefused) << name;
  }
  for (const Json& changes : std::vector<Json>{
           {{"iss", "https://other.example"}},
           {{"iss", f.idp.issuer() + "/"}},
           {{"iss", nullptr}},
           {{"iss", Json::array({f.idp.issuer()})}},
           {{"exp", at(0s)}},
           {{"exp", at(-1s)}},
           {{"exp", std::to_string(at(300s))}},
           {{"exp", true}},
           {{"exp", -1}},
           {{"exp", std::numeric_limits<std::uint64_t>::max()}},
           {{"nbf", at(61s)}},
           {{"iat", at(61s)}},
           {{"aud", Json::array()}},
           {{"aud", "other"}},
           {{"aud", nullptr}},
           {{"aud", {"GW-01"}}},
           {{"sub", ""}},
           {{"sub", 1}},
           {{"sub", "gw-01"}},
           {{"sub", std::string(256, 'a')}},
           {{"cnf", {{"jkt", "x"}}}},
           {{"cnf", {{"x5t#S256", "x"}}}},
           {{"cnf", nullptr}},
           {{"act", "agent"}},
           {{"act", {{"sub", "a"}, {"exp", 1}}}},
           {{"may_act", "agent"}},
           {{"events", Json::object()}},
           {{"scope", 7}},
           {{"groups", "x\"y"}, {"hasgroups", true}},
       }) {
    EXPECT_EQ(f.refusal_of(changes), kRefused) << changes;
  }
  f.answer_without("iss");  // RFC 7662 leaves it out at will
  EXPECT_EQ(f.refusal(), std::nullopt);
  f.issuer()["required_claims"] = {{"tid", {"t1"}}};
  f.issuer()["max_token_age"] = 100;
  f.load();
  EXPECT_EQ(f.refusal_of({}), kRefused);
  EXPECT_EQ(f.refusal_of({{"tid", "t1"}}), std::nullopt);
  EXPECT_EQ(f.refusal_of({{"tid", "t1"}, {"iat", at(-161s)}}), kRefused);
}

TEST(OpaqueToken, X4_MustBeForThePresenterOrFromIt) {
  Opaque f;
  f.issuer()["audiences"] = {"gw-01", "api://mesh"};
  f.remember_nothing();
  EXPECT_EQ(f.refusal_of({{"aud", "api://mesh"}}), kRefused);
  EXPECT_EQ(f.refusal_of({{"aud", "api://mesh"}, {"client_id", "gw-01"}}), std::nullopt);
  EXPECT_EQ(f.refusal_of({{"aud", "api://mesh"}, {"azp", "gw-01"}}), std::nullopt);
  EXPECT_EQ(f.refusal_of({{"aud", "api://mesh"}, {"azp", "x"}, {"client_id", "gw-01"}}), kRefused);
  f.client()["audiences"] = {"api://mesh"};
  f.load();
  EXPECT_EQ(f.refusal_of({{"aud", "api://mesh"}}), std::nullopt);
}

TEST(OpaqueToken, OfThisInstallationOpensNothingHere) {
  Opaque f;
  f.issuer()["issuer"] = "https://sts.example.com/t/other";
  f.load();
  f.answer({{"iss", "https://sts.example.com/t/other"}});
  EXPECT_EQ(f.refusal(), kRefused);
  EXPECT_EQ(f.asked(), 0);
}

TEST(OpaqueToken, X5_BoundToAKeyItNeedsTheProof) {
  Forgetful f;
  const std::string thumbprint(43, 'k');
  for (const char* type : {"DPoP", "dpop", "Bearer"}) {
    EXPECT_EQ(f.refusal_of({{"token_type", type}, {"cnf", {{"jkt", thumbprint}}}}), kRefused);
    auto caller = f.caller();
    caller.proven.jkt = thumbprint;
    EXPECT_TRUE(
        f.verifier.verify(*f.snapshot, caller, kToken, SubjectTokenType::AccessToken, Wait::Yes)
            .ok())
        << type;
    caller.proven.jkt.back() = 'l';
    EXPECT_FALSE(
        f.verifier.verify(*f.snapshot, caller, kToken, SubjectTokenType::AccessToken, Wait::Yes)
            .ok());
  }
}

// ---- waiting and failing ----

TEST(OpaqueToken, OnlyAThreadForTheOutsideWaits) {
  Opaque f;
  const auto verify = [&](Wait wait) {
    return code_of(
        f.verifier.verify(*f.snapshot, f.caller(), kToken, SubjectTokenType::AccessToken, wait));
  };
  EXPECT_EQ(verify(Wait::No), ErrorCode::NeedsOutbound);
  EXPECT_EQ(verify(Wait::Database), ErrorCode::NeedsOutbound);
  EXPECT_EQ(f.asked(), 0);
  ASSERT_EQ(f.refusal(), std::nullopt);
  EXPECT_EQ(verify(Wait::No), std::nullopt) << "what is remembered needs no waiting";
}

TEST(OpaqueToken, IsRevokedHereByTheClientItIsFor) {
  Opaque f;
  f.manifest["clients"].push_back({{"id", "bystander"}, {"backends", {"files"}}});
  f.load();
  const Revocation revocation{f.verifier, f.own_tokens, f.revocations};
  const auto revoke = [&](const char* client, Wait wait = Wait::Yes) {
    auto record = f.record("token.revoke");
    const auto status = revocation.revoke(*f.snapshot, f.caller(client), kToken, wait, record);
    EXPECT_EQ(code_of(status),
              wait == Wait::Yes ? std::nullopt : std::optional(ErrorCode::NeedsOutbound));
    return test::field_of(record, "effect");
  };
  revoke("gw-01", Wait::Database);
  EXPECT_EQ(revoke("bystander"), "none");
  EXPECT_EQ(f.refusal(), std::nullopt);
  EXPECT_EQ(revoke("gw-01"), "revoked");
  EXPECT_EQ(f.refusal(), kRefused) << "remembered";
  f.remember_nothing();
  EXPECT_EQ(f.refusal(), kRefused) << "though its issuer calls it active";
  EXPECT_EQ(f.refusal(SubjectTokenType::AccessToken, "another-opaque-token"), std::nullopt);
  f.answer({{"active", false}});
  EXPECT_EQ(revoke("gw-01"), "none");
}

TEST(OpaqueToken, WithoutAClientSecretNobodyIsAsked) {
  Opaque f;
  f.issuer()["introspection"]["credential"] = "not-stored";
  f.load();
  EXPECT_EQ(f.refusal(), ErrorCode::Unavailable);
  f.store("wrong-field", "", {{"secret", "x"}});
  f.issuer()["introspection"]["credential"] = "wrong-field";
  f.load();
  EXPECT_EQ(f.refusal(), ErrorCode::Unavailable);
  f.store("expired", "", {{"client_secret", "x"}}, f.clock.now());
  f.issuer()["introspection"]["credential"] = "expired";
  f.load();
  EXPECT_EQ(f.refusal(), ErrorCode::Unavailable);
  // A user's credential of that name is not the tenant's.
  f.store("of-alice", "alice", {{"client_secret", "x"}});
  f.issuer()["introspection"]["credential"] = "of-alice";
  f.load();
  EXPECT_EQ(f.refusal(), ErrorCode::Unavailable);
  EXPECT_EQ(f.asked(), 0);
}

// Each fails closed by more than one check; the log tells the operator which.
TEST(OpaqueToken, TheLogSaysWhyNobodyWasAskedOrUnderstood) {
  Forgetful f;
  const auto logged = [&] {
    const auto result = f.verify(kToken);
    return result.ok() ? "accepted" : result.error().diagnostic;
  };
  f.fetcher.serve_text(kEndpoint, 200, "not json");
  EXPECT_EQ(logged(), "introspection: not a JSON object");
  f.fetcher.serve_text(kEndpoint, 200, "[]");
  EXPECT_EQ(logged(), "introspection: not a JSON object");
  f.fetcher.serve_text(kEndpoint, 200, "{}");
  EXPECT_EQ(logged(), "introspection: `active` is missing or no boolean");
  f.fetcher.die(kEndpoint);
  const auto dead = logged();
  EXPECT_TRUE(dead.starts_with("introspection: ")) << dead;
  EXPECT_EQ(dead.find("exception"), dead.npos);
  f.clock.advance(1s);
  f.store("wrong-field", "", {{"secret", "x"}});
  f.issuer()["introspection"]["credential"] = "wrong-field";
  f.load();
  EXPECT_EQ(logged(), "introspection: the credential has no field client_secret");
}

TEST(OpaqueToken, WithoutTheStoreNobodyIsAsked) {
  Opaque f;
  test::DeadCredentialStore store;
  AskedOpaqueTokens tokens(f.fetcher, store, f.envelope, f.clock);
  const auto* issuer = f.snapshot->find_issuer(f.idp.issuer());
  ASSERT_NE(issuer, nullptr);
  const auto answer = tokens.ask(f.tenant, *issuer, kToken, Wait::Yes);
  ASSERT_EQ(code_of(answer), ErrorCode::Unavailable);
  EXPECT_EQ(answer.error().diagnostic, "the store is gone");
  EXPECT_EQ(f.asked(), 0);
}

TEST(OpaqueToken, AnIssuerWithoutAnEndpointIsNotAsked) {
  Opaque f;
  f.issuer().erase("introspection");
  f.load();
  const auto* issuer = f.snapshot->find_issuer(f.idp.issuer());
  ASSERT_NE(issuer, nullptr);
  EXPECT_EQ(code_of(f.opaque_tokens.ask(f.tenant, *issuer, kToken, Wait::Yes)), kRefused);
  EXPECT_EQ(f.asked(), 0);
}

TEST(OpaqueToken, ADeadIssuerIsLeftAloneForAWhile) {
  Opaque f;
  f.fetcher.die(kEndpoint);
  EXPECT_EQ(f.refusal(), ErrorCode::Unavailable);
  EXPECT_EQ(f.asked(), 1);
  std::chrono::seconds silence{0};
  for (const auto pause : {1s, 2s, 4s, 8s, 16s, 30s, 30s}) {
    const auto before = f.asked();
    f.clock.advance(pause - 1s);
    const auto waiting = f.verify("another-token");
    ASSERT_EQ(code_of(waiting), ErrorCode::Unavailable);
    EXPECT_EQ(waiting.error().retry_after, 1s);
    EXPECT_EQ(f.asked(), before) << "asked too early";
    // Not even a thread is asked for meanwhile.
    EXPECT_EQ(code_of(f.verifier.verify(*f.snapshot, f.caller(), kToken,
                                        SubjectTokenType::AccessToken, Wait::No)),
              ErrorCode::Unavailable);
    f.clock.advance(1s);
    EXPECT_EQ(f.refusal(), ErrorCode::Unavailable);
    EXPECT_EQ(f.asked(), before + 1);
  }
  f.clock.advance(30s);
  f.answer({});
  EXPECT_EQ(f.refusal(), std::nullopt);
  // One good answer, and the next failure begins at one second again.
  f.fetcher.die(kEndpoint);
  EXPECT_EQ(f.refusal(SubjectTokenType::AccessToken, "third"), ErrorCode::Unavailable);
  f.clock.advance(1s);
  f.answer({});
  EXPECT_EQ(f.refusal(SubjectTokenType::AccessToken, "third"), std::nullopt);
}

TEST(OpaqueToken, ATokenThatTheIssuerCannotReadIsNoOutage) {
  Opaque f;
  f.fetcher.serve_text(kEndpoint, 400, R"({"error":"invalid_request"})");
  EXPECT_EQ(f.refusal(), ErrorCode::Unavailable);
  f.answer({});
  EXPECT_EQ(f.refusal(), std::nullopt);
}

TEST(OpaqueToken, ADeadIssuerDoesNotTouchJwtsNorOtherTenants) {
  Opaque f;
  f.fetcher.die(kEndpoint);
  ASSERT_EQ(f.refusal(), ErrorCode::Unavailable);
  EXPECT_TRUE(f.verify(f.subject_token()).ok());
  auto manifest = f.manifest;
  manifest["tenant"] = "other";
  manifest["issuers"][0]["introspection"]["endpoint"] = "https://other.example/introspect";
  f.tenants.apply(manifest, f.clock.now());
  const TenantId other_id("other");
  const auto other = f.tenants.snapshot(other_id);
  const vault::CredentialKey key{Owner::tenant(), CredentialName("idp-client")};
  vault::Fields fields;
  fields.emplace("client_secret", FieldValue(SecureBuffer::copy_of("others")));
  test::must(f.credentials.put(other_id, key, std::nullopt,
                               [&](std::uint32_t version) {
                                 return f.envelope.seal(other_id, key, version, fields,
                                                        f.clock.now(), std::nullopt);
                               },
                               {}));
  f.fetcher.serve("https://other.example/introspect", f.answer_with({}));
  EXPECT_TRUE(f.verifier
                  .verify(*other, Caller(*other->find_client("gw-01")), kToken,
                          SubjectTokenType::AccessToken, Wait::Yes)
                  .ok());
  EXPECT_EQ(f.fetcher.posted().back().authorization, "Basic cG9zdGVybiUzQTE6b3RoZXJz");
}

TEST(OpaqueToken, AtMostFourCallsOfATenantWaitAtOnce) {
  Forgetful f;
  std::promise<void> open;
  const auto gate = open.get_future().share();
  std::atomic<int> inside{0};
  std::promise<void> four;
  f.fetcher.during([&] {
    if (++inside == 4) four.set_value();
    gate.wait();
  });
  std::vector<std::future<std::optional<ErrorCode>>> waiting;
  for (int i = 0; i < 4; ++i) {
    waiting.push_back(std::async(std::launch::async, [&f, i] {
      return f.refusal(SubjectTokenType::AccessToken, "token-" + std::to_string(i));
    }));
  }
  four.get_future().wait();
  const auto fifth = f.verify("token-5");
  EXPECT_EQ(code_of(fifth), ErrorCode::Unavailable);
  EXPECT_EQ(fifth.error().retry_after, 1s);
  EXPECT_TRUE(f.verify(f.subject_token()).ok());  // JWTs go on
  open.set_value();
  for (auto& one : waiting) EXPECT_EQ(one.get(), std::nullopt);
  EXPECT_EQ(f.refusal(SubjectTokenType::AccessToken, "token-5"), std::nullopt);
}

TEST(OpaqueToken, RequestsWithOneTokenShareOneCall) {
  Forgetful f;
  std::promise<void> open, entered;
  const auto gate = open.get_future().share();
  std::atomic<int> calls{0};
  f.fetcher.during([&] {
    if (++calls == 1) entered.set_value();
    gate.wait();
  });
  std::vector<std::future<std::optional<ErrorCode>>> waiting;
  const auto ask = [&f] { return f.refusal(); };
  waiting.push_back(std::async(std::launch::async, ask));
  entered.get_future().wait();
  std::atomic<int> started{0};
  for (int i = 0; i < 5; ++i) {
    waiting.push_back(std::async(std::launch::async, [&] {
      ++started;
      return ask();
    }));
  }
  while (started.load() < 5) std::this_thread::yield();
  open.set_value();
  for (auto& one : waiting) EXPECT_EQ(one.get(), std::nullopt);
  // Whoever came while the first call was out shared it; a late one may have asked anew.
  EXPECT_LE(calls.load(), 6);
  EXPECT_EQ(f.asked(), calls.load());
}

TEST(OpaqueToken, ErrorsSayNothingOfTokenSecretOrAddress) {
  Forgetful f;
  const auto clean = [](const Result<VerifiedTokenPtr>& result) {
    ASSERT_FALSE(result.ok());
    for (const auto& text : {result.error().detail, result.error().diagnostic}) {
      for (const char* canary : {"canary", "s3cret", "idp.acme", "mallory"}) {
        EXPECT_EQ(text.find(canary), std::string::npos) << text;
      }
    }
  };
  f.answer({{"active", false}, {"sub", "mallory"}});
  clean(f.verify(kToken));
  f.answer({{"aud", "mallory"}});
  clean(f.verify(kToken));
  f.fetcher.serve_text(kEndpoint, 500, "mallory canary s3cret");
  clean(f.verify(kToken));
}

// ---- what is remembered ----

TEST(OpaqueCache, AGoodAnswerServesForItsTime) {
  Opaque f;
  ASSERT_EQ(f.refusal(), std::nullopt);
  f.answer({{"active", false}});  // revoked at the issuer
  f.clock.advance(29s);
  EXPECT_EQ(f.refusal(), std::nullopt);
  EXPECT_EQ(f.asked(), 1);
  f.clock.advance(1s);
  EXPECT_EQ(f.refusal(), kRefused);
  EXPECT_EQ(f.asked(), 2);
}

TEST(OpaqueCache, NeverPastTheTokensEnd) {
  Opaque f;
  f.answer({{"exp", seconds_of(f.clock.now() + 10s)}});
  ASSERT_EQ(f.refusal(), std::nullopt);
  f.clock.advance(9s);
  EXPECT_EQ(f.refusal(), std::nullopt);
  f.clock.advance(1s);
  EXPECT_EQ(f.refusal(), kRefused);
  EXPECT_EQ(f.asked(), 2);
}

TEST(OpaqueCache, ABadAnswerIsNeverRemembered) {
  Opaque f;
  f.answer({{"active", false}});
  EXPECT_EQ(f.refusal(), kRefused);
  f.answer({{"aud", "other"}});
  EXPECT_EQ(f.refusal(), kRefused);
  f.answer({});
  EXPECT_EQ(f.refusal(), std::nullopt);
  EXPECT_EQ(f.asked(), 3);
}

TEST(OpaqueCache, ZeroMeansToAskEveryTime) {
  Forgetful f;
  EXPECT_EQ(f.refusal(), std::nullopt);
  EXPECT_EQ(f.refusal(), std::nullopt);
  EXPECT_EQ(f.asked(), 2);
  EXPECT_EQ(f.verifier.stats().entries, 0u);
}

TEST(OpaqueCache, EveryConfigurationChangeAsksAnew) {
  Opaque f;
  ASSERT_EQ(f.refusal(), std::nullopt);
  f.issuer()["audiences"] = {"api://other"};
  f.load();
  EXPECT_EQ(f.refusal(), kRefused);
  EXPECT_EQ(f.asked(), 2);
}

TEST(OpaqueCache, TellsTokensAndIssuersApart) {
  Opaque f;
  ASSERT_EQ(f.refusal(), std::nullopt);
  f.answer({{"sub", "bob"}});
  EXPECT_EQ(f.verify(std::string(kToken) + "2").value()->principal.subject, "bob");
  EXPECT_EQ(f.verify(std::string_view(kToken).substr(1)).value()->principal.subject, "bob");
  EXPECT_EQ(f.verify(kToken).value()->principal.subject, "alice");
  EXPECT_EQ(f.asked(), 3);
}

TEST(OpaqueCache, ChecksTheClientOnEveryHit) {
  Opaque f;
  f.manifest["clients"].push_back({{"id", "gw-02"}, {"backends", {"*"}}, {"scopes", {"*"}}});
  f.load();
  ASSERT_EQ(f.refusal(), std::nullopt);
  EXPECT_EQ(code_of(f.verifier.verify(*f.snapshot, f.caller("gw-02"), kToken,
                                      SubjectTokenType::AccessToken, Wait::Yes)),
            kRefused);
  EXPECT_EQ(f.asked(), 1);
}

}  // namespace
}  // namespace postern::grants
