#include "grants/dpop.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>

#include "crypto/base64url.h"
#include "support/code_of.h"
#include "support/grants_fixture.h"
#include "support/in_memory_replay_guard.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using crypto::Algorithm;
using test::code_of;
using test::GrantsFixture;
using test::InMemoryReplayGuard;
using test::seconds_of;
using token::Json;

constexpr const char* kUrl = "https://sts.example.com/t/acme/token";

std::string jws(const crypto::SigningKey& key, const Json& header, const Json& claims) {
  const auto input =
      crypto::base64url(as_bytes(header.dump())) + "." + crypto::base64url(as_bytes(claims.dump()));
  return input + "." + crypto::base64url(key.sign(as_bytes(input)));
}

struct Proofs : GrantsFixture {
  explicit Proofs(Algorithm algorithm = Algorithm::ES256)
      : key(crypto::SigningKey::generate(algorithm)) {}

  Json header() const {
    auto jwk = token::public_jwk(key);
    for (const char* member : {"kid", "use", "alg"}) jwk.erase(member);
    return {{"typ", "dpop+jwt"},
            {"alg", std::string(crypto::to_string(key.algorithm()))},
            {"jwk", jwk}};
  }
  Json claims() {
    return {{"jti", "id-" + std::to_string(++serial)},
            {"htm", "POST"},
            {"htu", kUrl},
            {"iat", seconds_of(clock.now())}};
  }
  Result<std::string> verify(const std::string& proof, DpopProofs::Nonce nonce = {},
                             std::optional<std::string_view> access_token = std::nullopt) {
    return DpopProofs(nonces, nonce, clock)
        .verify(tenant, proof, {"POST", kUrl, access_token}, replays);
  }
  std::optional<ErrorCode> code(const Json& head, const Json& body) {
    return code_of(verify(jws(key, head, body)));
  }
  std::optional<ErrorCode> with_header(const char* name, const Json& value) {
    auto head = header();
    head[name] = value;
    if (value.is_null()) head.erase(name);
    return code(head, claims());
  }
  std::optional<ErrorCode> with_claim(const char* name, const Json& value) {
    auto body = claims();
    body[name] = value;
    if (value.is_null()) body.erase(name);
    return code(header(), body);
  }
  void expect_good() { EXPECT_TRUE(verify(jws(key, header(), claims())).ok()); }

  crypto::SigningKey key;
  InMemoryReplayGuard replays;
  DpopNonces nonces{tenants.keyring(), clock};
  int serial = 0;
};

TEST(Dpop, Rfc9449_6_ThumbprintOfTheVectorsKey) {
  // RFC 9449 §4.1 and §6.1.
  EXPECT_EQ(token::thumbprint(Json{{"kty", "EC"},
                                   {"x", "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs"},
                                   {"y", "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"},
                                   {"crv", "P-256"}})
                .value(),
            "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}

TEST(Dpop, Rfc9449_7_AthOfTheVector) {
  EXPECT_EQ(
      crypto::base64url(crypto::sha256(as_bytes("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"))),
      "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
}

TEST(Dpop, Rfc9449_4_1_TheVectorsProofVerifies) {
  Proofs f;
  f.clock.set(sys_seconds(1562262616s));
  const std::string proof =
      "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0Vj"
      "NoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5"
      "VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TV"
      "CIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8"
      "lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
  const auto jkt =
      DpopProofs(f.nonces, {}, f.clock)
          .verify(f.tenant, proof, {"POST", "https://server.example.com/token", std::nullopt},
                  f.replays);
  ASSERT_TRUE(jkt.ok()) << jkt.error().detail;
  EXPECT_EQ(jkt.value(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}

TEST(Dpop, Rfc9449_4_3_EveryOfferedAlgorithmIsTaken) {
  for (const auto algorithm : {Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256}) {
    Proofs f(algorithm);
    const auto jkt = f.verify(jws(f.key, f.header(), f.claims()));
    ASSERT_TRUE(jkt.ok()) << crypto::to_string(algorithm) << jkt.error().detail;
    EXPECT_EQ(jkt.value(), token::thumbprint(f.key.public_parameters()));
  }
}

TEST(Dpop, Rfc9449_4_3_2_MustBeAWellFormedJwt) {
  Proofs f;
  for (const char* proof : {"", "x", "a.b", "a.b.c", "....", "e30.e30.", "{}"}) {
    EXPECT_EQ(code_of(f.verify(proof)), ErrorCode::InvalidDpopProof) << proof;
  }
  f.expect_good();
}

TEST(Dpop, AProofHasEightKilobytesAtMost) {
  Proofs f;
  auto claims = f.claims();
  claims["padding"] = std::string(5000, 'a');  // a third more in base64url
  EXPECT_TRUE(f.verify(jws(f.key, f.header(), claims)).ok());
  claims = f.claims();
  claims["padding"] = std::string(6100, 'a');
  EXPECT_EQ(code_of(f.verify(jws(f.key, f.header(), claims))), ErrorCode::InvalidDpopProof);
}

TEST(Dpop, Rfc9449_4_3_3_EveryClaimIsRequired) {
  Proofs f;
  for (const char* claim : {"jti", "htm", "htu", "iat"}) {
    EXPECT_EQ(f.with_claim(claim, nullptr), ErrorCode::InvalidDpopProof) << claim;
    for (const auto& bad : {Json(true), Json::array(), Json::object(), Json("")}) {
      EXPECT_EQ(f.with_claim(claim, bad), ErrorCode::InvalidDpopProof) << claim << bad;
    }
  }
  EXPECT_EQ(f.replays.uses(), 0U);
  EXPECT_TRUE(f.verify(jws(f.key, f.header(),
                           [&] {
                             auto body = f.claims();
                             body["more"] = {{"x", 1}};
                             return body;
                           }()))
                  .ok());
}

TEST(Dpop, Rfc9449_4_3_4_TypIsDpopJwt) {
  Proofs f;
  for (const auto& typ : {Json(nullptr), Json("JWT"), Json("at+jwt"), Json("dpop"), Json(1)}) {
    EXPECT_EQ(f.with_header("typ", typ), ErrorCode::InvalidDpopProof) << typ;
  }
}

TEST(Dpop, Rfc9449_4_3_5_AlgIsAsymmetricAndOffered) {
  Proofs f;
  for (const char* alg : {"none", "HS256", "ES512", "RS384", "ES384", "", "es256"}) {
    EXPECT_EQ(f.with_header("alg", alg), ErrorCode::InvalidDpopProof) << alg;
  }
}

TEST(Dpop, Rfc9449_4_3_6_TheSignatureIsOfTheKeyInTheHeader) {
  Proofs f;
  const auto other = crypto::SigningKey::generate(Algorithm::ES256);
  EXPECT_EQ(code_of(f.verify(jws(other, f.header(), f.claims()))), ErrorCode::InvalidDpopProof);
  auto proof = jws(f.key, f.header(), f.claims());
  proof[proof.size() - 8] = proof[proof.size() - 8] == 'A' ? 'B' : 'A';
  EXPECT_EQ(code_of(f.verify(proof)), ErrorCode::InvalidDpopProof);
  EXPECT_EQ(f.replays.uses(), 0U) << "a forgery burns nobody's id";
}

TEST(Dpop, Rfc9449_4_3_7_TheKeyIsPublicAndFit) {
  Proofs f;
  EXPECT_EQ(f.with_header("jwk", nullptr), ErrorCode::InvalidDpopProof);
  for (const char* private_member : {"d", "k", "p", "q", "dp", "dq", "qi", "oth"}) {
    auto head = f.header();
    head["jwk"][private_member] = "AAAA";
    EXPECT_EQ(f.code(head, f.claims()), ErrorCode::InvalidDpopProof) << private_member;
  }
  for (const auto& jwk : {Json("x"), Json::array(), Json::object(), Json{{"kty", "oct"}},
                          Json{{"kty", "EC"}, {"crv", "secp256k1"}, {"x", "AA"}, {"y", "AA"}}}) {
    EXPECT_EQ(f.with_header("jwk", jwk), ErrorCode::InvalidDpopProof) << jwk;
  }
  auto head = f.header();
  head["jwk"]["use"] = "enc";
  EXPECT_EQ(f.code(head, f.claims()), ErrorCode::InvalidDpopProof);
  // What names the key means nothing: it is there itself.
  head = f.header();
  head["kid"] = "one";
  head["jwk"]["kid"] = "another";
  EXPECT_TRUE(f.verify(jws(f.key, head, f.claims())).ok());
}

TEST(Dpop, Rfc9449_4_3_8_TheMethodIsTheRequests) {
  Proofs f;
  for (const char* method : {"GET", "post", "POST ", "PUT"}) {
    EXPECT_EQ(f.with_claim("htm", method), ErrorCode::InvalidDpopProof) << method;
  }
}

TEST(Dpop, Rfc9449_4_3_9_TheUrlIsOurs) {
  Proofs f;
  for (const char* good :
       {"https://sts.example.com/t/acme/token?x=1", "https://sts.example.com/t/acme/token#f",
        "HTTPS://STS.EXAMPLE.COM/t/acme/token", "https://sts.example.com:443/t/acme/token",
        "https://sts.example.com:/t/acme/token", "https://sts.example.com/t/%61cme/token"}) {
    auto body = f.claims();
    body["htu"] = good;
    EXPECT_TRUE(f.verify(jws(f.key, f.header(), body)).ok()) << good;
  }
}

TEST(Dpop, Rfc9449_4_3_9_AnotherUrlIsNot) {
  Proofs f;
  for (const char* bad :
       {"https://sts.example.com/t/other/token", "https://sts.example.com/t/acme/token/",
        "https://sts.example.com/T/acme/token", "http://sts.example.com/t/acme/token",
        "https://sts.example.com:8443/t/acme/token", "https://evil@sts.example.com/t/acme/token",
        "https://sts.example.com/t/x/../acme/token", "https://sts.example.com/t/./acme/token",
        "https://sts.example.com/t/%2e%2e/acme/token", "https://sts.example.com.evil/t/acme/token",
        "/t/acme/token", "sts.example.com/t/acme/token", "https:///t/acme/token", "https://",
        "https://sts.example.com/t/acme%2Ftoken", "https://sts.example.com/t/acme/token%",
        "https://sts.example.com\\t\\acme\\token", "ftp://sts.example.com/t/acme/token"}) {
    EXPECT_EQ(f.with_claim("htu", bad), ErrorCode::InvalidDpopProof) << bad;
  }
  EXPECT_EQ(f.with_claim("htu", "https://sts.example.com/" + std::string(3000, 'a')),
            ErrorCode::InvalidDpopProof);
  f.expect_good();
}

TEST(Dpop, Rfc9449_4_3_9_OneFormForEqualUrlsAndNoneForWhatIsNoUrl) {
  EXPECT_EQ(normalised_htu("HTTPS://A.example:443/%61%2f?q#f"), "https://a.example/a%2F");
  EXPECT_EQ(normalised_htu("http://a.example:80"), "http://a.example/");
  EXPECT_EQ(normalised_htu("https://[::1]:8443/"), "https://[::1]:8443/");
  for (const std::string& bad :
       {std::string("https://a.example/%"), std::string("https://a.example/%2"),
        std::string("https://a.example/%zz"), std::string("https://a.example/./b"),
        std::string("https://a.example/b/%2e%2e"), std::string("https://a.example/ b"),
        std::string("https://a.example/\""), std::string("https://a.example/\xc3\xa4"),
        std::string("https"), std::string("a.example/b"), std::string("ws://a.example/"),
        std::string("https://b@a.example/"), std::string("https://a.example:44x/"),
        std::string("https:///b"), std::string("https://:443/b"),
        "https://a.example/" + std::string(2000, 'b')}) {
    EXPECT_EQ(normalised_htu(bad), std::nullopt) << bad;
  }
}

TEST(Dpop, Rfc9449_4_3_11_WasMadeWithinFiveMinutes) {
  Proofs f;
  const auto at = [&](std::chrono::seconds offset) { return seconds_of(f.clock.now() + offset); };
  EXPECT_EQ(f.with_claim("iat", at(-301s)), ErrorCode::InvalidDpopProof);
  EXPECT_EQ(f.with_claim("iat", at(301s)), ErrorCode::InvalidDpopProof);
  EXPECT_EQ(f.with_claim("iat", at(-3600s)), ErrorCode::InvalidDpopProof);
  for (const auto& bad : {Json("now"), Json(-1), Json(1e30), Json(true)}) {
    EXPECT_EQ(f.with_claim("iat", bad), ErrorCode::InvalidDpopProof) << bad;
  }
  for (const auto offset : {-300s, 300s}) {
    auto body = f.claims();
    body["iat"] = at(offset);
    EXPECT_TRUE(f.verify(jws(f.key, f.header(), body)).ok()) << offset.count();
    // Remembered while it could still be taken: from its iat on, not from now.
    EXPECT_GE(f.replays.last_expiry(), f.clock.now() + offset + 300s);
  }
}

TEST(Dpop, Rfc9449_11_1_IsTakenOnce) {
  Proofs f;
  const auto proof = jws(f.key, f.header(), f.claims());
  EXPECT_TRUE(f.verify(proof).ok());
  EXPECT_EQ(code_of(f.verify(proof)), ErrorCode::InvalidDpopProof);
  // The id is the key's: one client cannot burn another's.
  Proofs other;
  auto body = f.claims();
  body["jti"] = "id-1";
  EXPECT_TRUE(DpopProofs(f.nonces, {}, f.clock)
                  .verify(f.tenant, jws(other.key, other.header(), body),
                          {"POST", kUrl, std::nullopt}, f.replays)
                  .ok());
  EXPECT_EQ(f.with_claim("jti", std::string(129, 'j')), ErrorCode::InvalidDpopProof);
}

TEST(Dpop, Rfc9449_7_AtResourcesTheTokenIsNamed) {
  Proofs f;
  const std::string token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
  auto body = f.claims();
  body["ath"] = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo";
  EXPECT_TRUE(f.verify(jws(f.key, f.header(), body), {}, token).ok());
  EXPECT_EQ(code_of(f.verify(jws(f.key, f.header(), f.claims()), {}, token)),
            ErrorCode::InvalidDpopProof);
  body = f.claims();
  body["ath"] = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEp";
  EXPECT_EQ(code_of(f.verify(jws(f.key, f.header(), body), {}, token)),
            ErrorCode::InvalidDpopProof);
}

TEST(Dpop, Rfc9449_8_ANonceIsAskedForAndTakenWhileItIsFresh) {
  Proofs f;
  constexpr auto kRequired = DpopProofs::Nonce::Required;
  EXPECT_EQ(code_of(f.verify(jws(f.key, f.header(), f.claims()), kRequired)),
            ErrorCode::UseDpopNonce);
  const auto nonce = f.nonces.current(f.tenant).value();
  const auto with_nonce = [&](const Json& value) {
    auto body = f.claims();
    body["nonce"] = value;
    return f.verify(jws(f.key, f.header(), body), kRequired);
  };
  EXPECT_TRUE(with_nonce(nonce).ok());
  EXPECT_TRUE(with_nonce(nonce).ok()) << "good for several proofs";
  f.clock.advance(120s);
  EXPECT_TRUE(with_nonce(nonce).ok());
  f.clock.advance(120s);
  EXPECT_EQ(code_of(with_nonce(nonce)), ErrorCode::UseDpopNonce) << "too old";
  EXPECT_NE(f.nonces.current(f.tenant).value(), nonce);
}

TEST(Dpop, Rfc9449_8_ANonceIsOursAndThisTenants) {
  Proofs f;
  const auto nonce = f.nonces.current(f.tenant).value();
  auto manifest = f.manifest;
  manifest["tenant"] = "other";
  f.tenants.apply(manifest, f.clock.now());
  EXPECT_FALSE(f.nonces.fresh(TenantId("other"), nonce).value());
  EXPECT_TRUE(f.nonces.fresh(f.tenant, nonce).value());
  auto forged = nonce;
  forged.back() = forged.back() == 'A' ? 'Q' : 'A';
  for (const auto& bad : {forged, nonce + "A", std::string(), std::string("."), std::string("x"),
                          nonce.substr(0, nonce.find('.')), std::string("-1.AAAA"),
                          std::string("99999999999999999999.AAAA"), " " + nonce}) {
    EXPECT_FALSE(f.nonces.fresh(f.tenant, bad).value()) << bad;
  }
  // Whose key is not there has no nonce.
  EXPECT_EQ(code_of(f.nonces.current(TenantId("nobody"))), ErrorCode::NotFound);
  EXPECT_EQ(code_of(f.nonces.fresh(TenantId("nobody"), nonce)), ErrorCode::NotFound);
  // Another replica makes the same one: it is computed, not remembered.
  DpopNonces replica(f.tenants.keyring(), f.clock);
  EXPECT_EQ(replica.current(f.tenant).value(), nonce);
}

}  // namespace
}  // namespace postern::grants
