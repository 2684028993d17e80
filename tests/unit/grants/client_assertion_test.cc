#include "grants/client_assertion.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <optional>
#include <string>

#include "crypto/base64url.h"
#include "grants/client_authentication.h"
#include "support/code_of.h"
#include "support/grants_fixture.h"
#include "support/in_memory_replay_guard.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using crypto::Algorithm;
using test::code_of;
using test::GrantsFixture;
using test::Idp;
using test::InMemoryReplayGuard;
using test::seconds_of;
using token::Json;

/// The gateway authenticates by private_key_jwt with a key of its own.
struct Asserting : GrantsFixture {
  Asserting() {
    client()["authentication"] = {{"method", "private_key_jwt"}, {"jwks", gw.jwks()}};
    load();
  }
  Json claims_now(const std::string& jti = "1") const {
    const std::string issuer = snapshot->issuer_url();
    return {{"iss", "gw-01"},
            {"sub", "gw-01"},
            {"aud", issuer},
            {"jti", jti},
            {"iat", seconds_of(clock.now())},
            {"exp", seconds_of(clock.now() + 60s)}};
  }
  Json with(const char* name, const Json& value) {
    auto claims = claims_now(std::to_string(++serial));
    if (value.is_null()) {
      claims.erase(name);
    } else {
      claims[name] = value;
    }
    return claims;
  }
  Result<const policy::Client*> present(std::string_view assertion) {
    return assertions.authenticate(*snapshot, assertion, replays, Wait::Yes);
  }
  bool takes(const Json& claims, std::string_view typ = "JWT") {
    return present(gw.sign(claims, typ)).ok();
  }
  /// Refused in the one way there is, and nothing used up.
  void expect_refused(const Result<const policy::Client*>& result, const std::string& what) {
    ASSERT_FALSE(result.ok()) << what;
    EXPECT_EQ(result.error().code, ErrorCode::InvalidClient) << what;
    EXPECT_EQ(result.error().detail, "client authentication failed") << what;
    EXPECT_EQ(replays.uses(), uses_before) << what;
    EXPECT_EQ(result.error().pointer, "") << what;
    EXPECT_FALSE(result.error().retry_after) << what;
  }
  void refuses(const Json& claims, const std::string& what) {
    uses_before = replays.uses();
    expect_refused(present(gw.sign(claims)), what);
  }

  Idp gw{"gw-01"};
  InMemoryReplayGuard replays;
  ClientAssertions assertions{issuer_keys, clock};
  int serial = 0;
  std::size_t uses_before = 0;
};

/// Signed with this key; the header has its algorithm and these members, no `kid`.
std::string signed_with(const Idp& signer, Json header, const Json& claims) {
  header["alg"] = crypto::to_string(signer.key().algorithm());
  const auto input =
      crypto::base64url(as_bytes(header.dump())) + "." + crypto::base64url(as_bytes(claims.dump()));
  return input + "." + crypto::base64url(signer.key().sign(as_bytes(input)));
}

TEST(ClientAssertion, A7_TheClientItselfSignsForThisIssuer) {
  Asserting f;
  const auto client = f.present(f.gw.sign(f.claims_now()));
  ASSERT_TRUE(client.ok()) << client.error().diagnostic;
  EXPECT_EQ(client.value()->id.str(), "gw-01");
}

TEST(ClientAssertion, A7_IssuerAndSubjectAreTheClient) {
  Asserting f;
  f.refuses(f.with("iss", nullptr), "no iss");
  f.refuses(f.with("iss", "gw-02"), "unknown client");
  f.refuses(f.with("iss", 1), "iss of another type");
  f.refuses(f.with("sub", nullptr), "no sub");
  f.refuses(f.with("sub", "gw-02"), "sub of another");
  f.refuses(f.with("sub", Json::array({"gw-01"})), "sub of another type");
}

TEST(ClientAssertion, A7_WhoItClaimsToBeFromIsReadBeforeItIsVerified) {
  Asserting f;
  EXPECT_EQ(claimed_client(f.gw.sign(f.claims_now())), "gw-01");
  EXPECT_EQ(claimed_client(f.gw.sign(f.with("iss", nullptr))), std::nullopt);
  for (const char* bad : {"", "garbage", "a.b.c", "e30.e30."}) {
    EXPECT_EQ(claimed_client(bad), std::nullopt) << bad;
  }
}

TEST(ClientAssertion, A7_TheSignatureMustVerify) {
  Asserting f;
  const auto good = f.gw.sign(f.claims_now());
  f.expect_refused(f.present(Idp("gw-01").sign(f.claims_now())), "another key");
  auto altered = good;
  altered[altered.size() - 5] = altered[altered.size() - 5] == 'A' ? 'B' : 'A';
  f.expect_refused(f.present(altered), "altered signature");
  f.expect_refused(f.present(good.substr(0, good.rfind('.') + 1)), "no signature");
  f.expect_refused(f.present("x"), "no JWT");
  f.expect_refused(f.present(""), "empty");
  EXPECT_TRUE(f.present(good).ok()) << "what was forged burns nothing";
}

TEST(ClientAssertion, A8_TheIssuerIsTheOnlyAudience) {
  Asserting f;
  const std::string issuer = f.snapshot->issuer_url();
  EXPECT_TRUE(f.takes(f.with("aud", Json::array({issuer}))));
  EXPECT_TRUE(f.takes(f.with("aud", issuer + "/"))) << "the slash alias";
  f.refuses(f.with("aud", nullptr), "no aud");
  f.refuses(f.with("aud", issuer + "/token"), "the token endpoint");
  f.refuses(f.with("aud", Json::array({issuer, issuer})), "twice");
  f.refuses(f.with("aud", Json::array({issuer, "https://evil.example"})), "two");
  f.refuses(f.with("aud", Json::array()), "none");
  f.refuses(f.with("aud", Json::array({Json::array({issuer})})), "nested");
  f.refuses(f.with("aud", issuer + "//"), "two slashes");
  f.refuses(f.with("aud", "https://sts.example.com/t/other"), "another tenant");
  f.refuses(f.with("aud", "https://STS.example.com/t/acme"), "case");
  f.refuses(f.with("aud", Json::object()), "object");
}

TEST(ClientAssertion, A8_TheSlashAliasDoesNotCountForAClientRegisteredSo) {
  Asserting f;
  f.client()["authentication"]["issuer_slash_audience"] = false;
  f.load();
  const std::string issuer = f.snapshot->issuer_url();
  EXPECT_TRUE(f.takes(f.with("aud", issuer)));
  f.refuses(f.with("aud", issuer + "/"), "the slash alias");
  f.refuses(f.with("aud", Json::array({issuer + "/"})), "the slash alias in a list");
  f.refuses(f.with("aud", issuer + "/token"), "the token endpoint");
  f.client()["authentication"]["issuer_slash_audience"] = true;
  f.load();
  EXPECT_TRUE(f.takes(f.with("aud", issuer + "/")));
}

TEST(ClientAssertion, A8_TheTokenEndpointCountsOnlyForAClientRegisteredSo) {
  Asserting f;
  f.client()["authentication"]["token_endpoint_audience"] = true;
  f.load();
  const std::string issuer = f.snapshot->issuer_url();
  EXPECT_TRUE(f.takes(f.with("aud", issuer + "/token")));
  EXPECT_TRUE(f.takes(f.with("aud", issuer)));
  f.refuses(f.with("aud", issuer + "/introspect"), "another endpoint");
}

TEST(ClientAssertion, A9_IsTakenOnceUntilItExpires) {
  Asserting f;
  const auto assertion = f.gw.sign(f.claims_now("once"));
  EXPECT_TRUE(f.present(assertion).ok());
  f.uses_before = f.replays.uses();
  f.expect_refused(f.present(assertion), "again");
  f.expect_refused(f.present(f.gw.sign(f.with("jti", "once"))), "another with its jti");
  // Remembered as long as any replica could still take it.
  EXPECT_GE(f.replays.last_expiry(), f.clock.now() + 120s);
}

TEST(ClientAssertion, A9_OneClientsIdsDoNotBurnAnothers) {
  Asserting f;
  const Idp other("gw-02");
  auto second = f.client();
  second["id"] = "gw-02";
  second["authentication"]["jwks"] = other.jwks();
  f.manifest["clients"].push_back(second);
  f.load();
  EXPECT_TRUE(f.takes(f.claims_now("same")));
  auto claims = f.claims_now("same");
  claims["iss"] = claims["sub"] = "gw-02";
  EXPECT_TRUE(f.present(other.sign(claims)).ok());
  // Nor does one client's key speak for another.
  claims["jti"] = "new";
  f.refuses(claims, "signed by gw-01 for gw-02");
}

TEST(ClientAssertion, A9_NeedsAnId) {
  Asserting f;
  f.refuses(f.with("jti", nullptr), "none");
  f.refuses(f.with("jti", ""), "empty");
  f.refuses(f.with("jti", 7), "number");
  f.refuses(f.with("jti", std::string(257, 'j')), "too long");
  EXPECT_TRUE(f.takes(f.with("jti", std::string(256, 'j'))));
}

TEST(ClientAssertion, A9_LivesAtMostTenMinutes) {
  Asserting f;
  const auto at = [&](std::chrono::seconds from_now) {
    return seconds_of(f.clock.now() + from_now);
  };
  EXPECT_TRUE(f.takes(f.with("exp", at(600s))));
  f.refuses(f.with("exp", at(601s)), "too far ahead");
  EXPECT_TRUE(f.takes(f.with("exp", at(-59s)))) << "skew";
  f.refuses(f.with("exp", at(-60s)), "expired");
  f.refuses(f.with("exp", at(-300s)), "long expired");
  f.refuses(f.with("exp", nullptr), "no exp");
  for (const auto& bad : {Json("9999999999"), Json(true), Json(-1), Json(1e30), Json::array()}) {
    f.refuses(f.with("exp", bad), bad.dump());
  }
  EXPECT_TRUE(f.takes(f.with("iat", at(60s))));
  f.refuses(f.with("iat", at(61s)), "iat in the future");
  f.refuses(f.with("iat", "now"), "iat of another type");
  EXPECT_TRUE(f.takes(f.with("iat", nullptr)));
  EXPECT_TRUE(f.takes(f.with("nbf", at(8s))));
  f.refuses(f.with("nbf", at(61s)), "not valid yet");
}

TEST(ClientAssertion, A10_IsOfItsOwnKindOrOfNone) {
  Asserting f;
  for (const char* typ : {"JWT", "jwt", "client-authentication+jwt", "CLIENT-AUTHENTICATION+JWT",
                          "application/client-authentication+jwt", ""}) {
    EXPECT_TRUE(f.takes(f.with("aud", f.snapshot->issuer_url()), typ)) << typ;
  }
  EXPECT_TRUE(f.present(signed_with(f.gw, Json::object(), f.claims_now("untyped"))).ok());
}

TEST(ClientAssertion, A10_IsOfNoOtherKind) {
  Asserting f;
  for (const char* typ : {"at+jwt", "oauth-id-jag+jwt", "dpop+jwt", "secevent+jwt", "logout+jwt",
                          "token-introspection+jwt", "jwt2"}) {
    f.uses_before = f.replays.uses();
    f.expect_refused(f.present(f.gw.sign(f.claims_now(typ), typ)), typ);
  }
  f.uses_before = f.replays.uses();
  f.expect_refused(f.present(signed_with(f.gw, {{"typ", 1}}, f.claims_now("number"))), "a number");
}

TEST(ClientAssertion, A11_TriesEachKeyThatFitsWhenThereIsNoKid) {
  Asserting f;
  const Idp second("gw-01"), third("gw-01", Algorithm::EdDSA);
  Json keys = {{"keys", {f.gw.jwk(), second.jwk(), third.jwk()}}};
  for (auto& key : keys["keys"]) key.erase("kid");
  f.client()["authentication"]["jwks"] = keys;
  f.load();
  int id = 0;
  for (const Idp* signer : std::initializer_list<const Idp*>{&f.gw, &second, &third}) {
    const auto claims = f.claims_now("no-kid-" + std::to_string(++id));
    EXPECT_TRUE(f.present(signed_with(*signer, Json::object(), claims)).ok()) << id;
  }
}

TEST(ClientAssertion, A11_CertificatesAndLinksInTheHeaderCountForNothing) {
  Asserting f;
  const Idp stranger("gw-01");
  const Json theirs{{"jwk", stranger.jwk()},
                    {"jku", "https://elsewhere.example/jwks"},
                    {"x5u", "https://elsewhere.example/cert"},
                    {"x5c", {"MIIB"}},
                    {"x5t#S256", std::string(43, 'A')}};
  f.fetcher.serve("https://elsewhere.example/jwks", stranger.jwks());
  EXPECT_TRUE(f.present(signed_with(f.gw, theirs, f.claims_now("ours"))).ok());
  f.uses_before = f.replays.uses();
  f.expect_refused(f.present(signed_with(stranger, theirs, f.claims_now("theirs"))), "their key");
  EXPECT_EQ(f.fetcher.asked("https://elsewhere.example/jwks"), 0);
}

TEST(ClientAssertion, A11_Rs256IsOfferedWithoutBeingRegistered) {
  Asserting f;
  const Idp rsa("gw-01", Algorithm::RS256);
  f.client()["authentication"]["jwks"] = rsa.jwks();
  f.load();
  EXPECT_TRUE(f.present(rsa.sign(f.claims_now())).ok());
}

TEST(ClientAssertion, A11_TheAlgorithmIsOneOfTheClients) {
  Asserting f;
  f.client()["authentication"]["algorithms"] = {"RS256"};
  f.load();
  f.refuses(f.claims_now(), "ES256 is not registered");
  f.client()["authentication"]["algorithms"] = {"ES256"};
  f.load();
  EXPECT_TRUE(f.takes(f.claims_now()));
}

TEST(ClientAssertion, ADisabledClientTenantOrAnotherMethodIsRefusedInTheSameWords) {
  Asserting f;
  f.client()["enabled"] = false;
  f.load();
  f.refuses(f.claims_now(), "disabled client");
  f.client()["enabled"] = true;
  f.client().erase("authentication");
  f.load();
  f.refuses(f.claims_now(), "registered with a secret");
  // And the secret of a client that signs is worth nothing.
  Asserting g;
  EXPECT_EQ(
      code_of(authenticate_client(
          *g.snapshot, "gw-01",
          ClientSecret(SecureBuffer::copy_of(g.tenants.secret(g.tenant, "gw-01"))), g.clock.now())),
      ErrorCode::InvalidClient);
  g.tenants.stored(g.tenant).row.enabled = false;
  g.snapshot = g.tenants.snapshot(g.tenant);
  g.refuses(g.claims_now(), "disabled tenant");
}

TEST(ClientAssertion, FetchesTheClientsKeysLikeAnIssuers) {
  Asserting f;
  f.client()["authentication"] = {{"method", "private_key_jwt"},
                                  {"jwks_uri", "https://gw.example/jwks"}};
  f.load();
  const auto assertion = f.gw.sign(f.claims_now());
  EXPECT_EQ(code_of(f.assertions.authenticate(*f.snapshot, assertion, f.replays, Wait::No)),
            ErrorCode::NeedsOutbound);
  // Not invalid_client: MCP clients throw their credentials away on that.
  EXPECT_EQ(code_of(f.present(assertion)), ErrorCode::Unavailable);
  f.fetcher.serve("https://gw.example/jwks", f.gw.jwks());
  f.clock.advance(61s);
  EXPECT_TRUE(f.present(f.gw.sign(f.claims_now())).ok());
  EXPECT_TRUE(f.takes(f.claims_now("2")));
  EXPECT_EQ(f.fetcher.asked("https://gw.example/jwks"), 2);
  EXPECT_EQ(f.replays.uses(), 2U);
}

TEST(ClientAssertion, AClientsKeysAreNotAnIssuersOfTheSameName) {
  Asserting f;
  f.client()["id"] = "corp";  // as the issuer
  f.client()["authentication"] = {{"method", "private_key_jwt"},
                                  {"jwks_uri", "https://gw.example/jwks"}};
  f.issuer().erase("jwks");
  f.issuer()["jwks_uri"] = "https://idp.example/jwks";
  f.load();
  f.fetcher.serve("https://gw.example/jwks", f.gw.jwks());
  f.fetcher.serve("https://idp.example/jwks", f.idp.jwks());
  auto claims = f.claims_now();
  claims["iss"] = claims["sub"] = "corp";
  EXPECT_TRUE(f.takes(claims));
  claims["jti"] = "2";
  f.uses_before = f.replays.uses();
  f.expect_refused(f.present(f.idp.sign(claims)), "the issuer's key");
}

TEST(ClientAssertion, FailsWhenTheReplayGuardDoes) {
  Asserting f;
  f.replays.fail_with(fail(ErrorCode::Unavailable, "gone"));
  EXPECT_EQ(code_of(f.present(f.gw.sign(f.claims_now()))), ErrorCode::Unavailable);
}

// ---- workload identity ----

const std::optional<ErrorCode> kTaken;

/// The gateway runs as a Kubernetes service account.
struct Workload : GrantsFixture {
  Workload() {
    manifest["issuers"].push_back({{"name", "cluster"},
                                   {"issuer", cluster.issuer()},
                                   {"jwks", cluster.jwks()},
                                   {"audiences", {kBase}},
                                   {"subject_prefix", "k8s:"}});
    manifest["issuers"].push_back({{"name", "actions"},
                                   {"issuer", actions.issuer()},
                                   {"jwks", actions.jwks()},
                                   {"audiences", {kBase}},
                                   {"subject_prefix", "gh:"}});
    rule({{"issuer", "cluster"},
          {"audience", kBase},
          {"claims",
           {{"sub", {"system:serviceaccount:gateways:gw"}},
            {"/kubernetes.io/namespace", {"gateways"}}}}});
  }
  void rule(const Json& workload) {
    client()["authentication"] = {{"method", "workload_identity"}, {"workload", workload}};
    load();
  }
  /// As the API server projects it into a pod.
  Json projected() const {
    return {{"iss", cluster.issuer()},
            {"sub", "system:serviceaccount:gateways:gw"},
            {"aud", Json::array({kBase})},
            {"exp", seconds_of(clock.now() + 3600s)},
            {"iat", seconds_of(clock.now())},
            {"nbf", seconds_of(clock.now())},
            {"jti", "0c7c9f2c-5a0e-4a52-9d1b-9e4fb7f6b3d3"},
            {"kubernetes.io",
             {{"namespace", "gateways"},
              {"pod", {{"name", "gw-5d8"}, {"uid", "1"}}},
              {"serviceaccount", {{"name", "gw"}, {"uid", "2"}}}}}};
  }
  Json action() const {
    return {{"iss", actions.issuer()},
            {"sub", "repo:example/deploy:ref:refs/heads/main"},
            {"aud", kBase},
            {"exp", seconds_of(clock.now() + 300s)},
            {"iat", seconds_of(clock.now())},
            {"nbf", seconds_of(clock.now() - 300s)},
            {"jti", "9"},
            {"repository", "example/deploy"},
            {"repository_owner", "example"},
            {"ref", "refs/heads/main"},
            {"workflow", "deploy"},
            {"job_workflow_ref", "example/deploy/.github/workflows/d.yml@refs/heads/main"}};
  }
  std::optional<ErrorCode> present(const std::string& token, const char* id = "gw-01") {
    const auto& workload = *gateway(id).authentication.workload;
    return code_of(verifier.verify_workload(*snapshot, workload, token, Wait::Yes));
  }
  std::optional<ErrorCode> without(Json claims, const char* name, const Json& value) {
    if (value.is_null()) {
      claims.erase(name);
    } else {
      claims[name] = value;
    }
    return present(cluster.sign(claims));
  }

  static constexpr const char* kBase = "https://sts.example.com/t/acme";
  Idp cluster{"https://kubernetes.default.svc.cluster.local", Algorithm::RS256};
  Idp actions{"https://token.actions.githubusercontent.com", Algorithm::RS256};
};

TEST(WorkloadIdentity, AProjectedServiceAccountTokenIsTheClientUntilItExpires) {
  Workload f;
  const auto token = f.cluster.sign(f.projected());
  const auto verified = f.verifier.verify_workload(
      *f.snapshot, *f.gateway().authentication.workload, token, Wait::Yes);
  ASSERT_TRUE(verified.ok()) << verified.error().detail;
  // One token serves a pod for an hour.
  f.clock.advance(3599s);
  EXPECT_TRUE(
      f.verifier
          .verify_workload(*f.snapshot, *f.gateway().authentication.workload, token, Wait::Yes)
          .ok());
  f.clock.advance(1s);
  EXPECT_EQ(f.present(token), ErrorCode::InvalidToken);
}

TEST(WorkloadIdentity, EveryRuleMustHold) {
  Workload f;
  const auto claims = f.projected();
  EXPECT_EQ(f.without(claims, "sub", "system:serviceaccount:gateways:other"),
            ErrorCode::InvalidToken);
  EXPECT_EQ(f.without(claims, "sub", nullptr), ErrorCode::InvalidToken);
  EXPECT_EQ(f.without(claims, "kubernetes.io", {{"namespace", "other"}}), ErrorCode::InvalidToken);
  EXPECT_EQ(f.without(claims, "kubernetes.io", nullptr), ErrorCode::InvalidToken);
  EXPECT_EQ(f.without(claims, "aud", "https://kubernetes.default.svc"), ErrorCode::InvalidToken);
  EXPECT_EQ(f.without(claims, "aud", nullptr), ErrorCode::InvalidToken);
  EXPECT_EQ(f.without(claims, "exp", nullptr), ErrorCode::InvalidToken);
  EXPECT_EQ(f.without(claims, "iss", f.actions.issuer()), ErrorCode::InvalidToken);
  EXPECT_EQ(f.without(claims, "iss", "https://other-cluster.example"), ErrorCode::InvalidToken);
  EXPECT_EQ(f.without(claims, "cnf", {{"jkt", std::string(43, 'A')}}), ErrorCode::InvalidToken);
  EXPECT_EQ(f.without(claims, "act", {{"sub", "x"}}), ErrorCode::InvalidToken);
  EXPECT_EQ(f.present(f.actions.sign(claims)), ErrorCode::InvalidToken) << "another's key";
  auto elsewhere = claims;  // all that the rule asks, said by another trusted issuer
  elsewhere["iss"] = f.actions.issuer();
  EXPECT_EQ(f.present(f.actions.sign(elsewhere)), ErrorCode::InvalidToken);
  EXPECT_EQ(f.present(f.cluster.sign(claims, "dpop+jwt")), ErrorCode::InvalidToken);
  f.issuer(1)["enabled"] = false;
  f.load();
  EXPECT_EQ(f.present(f.cluster.sign(claims)), ErrorCode::InvalidToken) << "issuer disabled";
}

TEST(WorkloadIdentity, IsNotEvenLookedAtWhenTooLongOrInADisabledTenant) {
  Workload f;
  const auto why = [&](const std::string& token) {
    return f.verifier
        .verify_workload(*f.snapshot, *f.gateway().authentication.workload, token, Wait::Yes)
        .error()
        .detail;
  };
  EXPECT_EQ(why(std::string(token::kMaxTokenBytes + 1, 'a')), "the token is too long");
  const auto good = f.cluster.sign(f.projected());
  f.manifest["enabled"] = false;
  f.load();
  EXPECT_EQ(why(good), "this tenant is disabled");
}

TEST(WorkloadIdentity, TheTokenIsForTheRulesAudienceNotForAnyOfTheIssuers) {
  Workload f;
  f.issuer(1)["audiences"] = {Workload::kBase, "https://vault.example"};
  f.load();
  EXPECT_EQ(f.without(f.projected(), "aud", "https://vault.example"), ErrorCode::InvalidToken);
  EXPECT_EQ(
      f.without(f.projected(), "aud", Json::array({"https://vault.example", Workload::kBase})),
      kTaken);
}

TEST(WorkloadIdentity, AGitHubActionsRunIsTheClientOfItsRepositoryAndBranch) {
  Workload f;
  f.rule(
      {{"issuer", "actions"},
       {"audience", Workload::kBase},
       {"claims",
        {{"repository", {"example/deploy"}}, {"ref", {"refs/heads/main", "refs/heads/release"}}}}});
  EXPECT_EQ(f.present(f.actions.sign(f.action())), kTaken);
  auto pull_request = f.action();
  pull_request["ref"] = "refs/pull/7/merge";
  EXPECT_EQ(f.present(f.actions.sign(pull_request)), ErrorCode::InvalidToken);
  auto fork = f.action();
  fork["repository"] = "evil/deploy";
  EXPECT_EQ(f.present(f.actions.sign(fork)), ErrorCode::InvalidToken);
  EXPECT_EQ(f.present(f.cluster.sign(f.projected())), ErrorCode::InvalidToken) << "other issuer";
  EXPECT_EQ(f.present(test::Idp(f.actions.issuer()).sign(f.action())), ErrorCode::InvalidToken);
}

}  // namespace
}  // namespace postern::grants
