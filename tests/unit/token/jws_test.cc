#include "token/jws.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "crypto/base64url.h"
#include "vectors/access_token.h"
#include "vectors/jose.h"

namespace postern::token {
namespace {

using crypto::Algorithm;
using vectors::compact;

std::string encoded(std::string_view text) { return crypto::base64url(as_bytes(text)); }

JwkSet set_of(Json jwk) {
  return JwkSet::parse({{"keys", Json::array({std::move(jwk)})}}, JwkSet::WeakKeys::Refuse).value();
}
JwkSet rsa_set() { return set_of({{"kty", "RSA"}, {"n", vectors::kRsaN}, {"e", vectors::kRsaE}}); }
JwkSet p256_set() {
  return set_of({{"kty", "EC"}, {"crv", "P-256"}, {"x", vectors::kP256X}, {"y", vectors::kP256Y}});
}
JwkSet ed25519_set() {
  return set_of({{"kty", "OKP"}, {"crv", "Ed25519"}, {"x", vectors::kEd25519X}});
}

crypto::SigningKey vector_key() {
  return crypto::SigningKey::import_private(
             Algorithm::EdDSA, PrivateKey(SecureBuffer::copy_of(
                                   crypto::base64url_decode(vectors::kEd25519D).value())))
      .value();
}

/// A token with this header and payload text, correctly signed with the vector
/// key: whatever is refused is refused for its header or claims.
std::string signed_raw(std::string_view header, std::string_view payload) {
  const auto input = encoded(header) + "." + encoded(payload);
  return input + "." + crypto::base64url(vector_key().sign(as_bytes(input)));
}

bool accepted(std::string_view token, const JwkSet& keys = ed25519_set()) {
  const auto jwt = UnverifiedJwt::parse(token);
  if (!jwt.ok()) {
    EXPECT_EQ(jwt.error().code, ErrorCode::InvalidToken);
    return false;
  }
  const auto claims = jwt.value().verify(keys);
  if (!claims.ok()) {
    EXPECT_EQ(claims.error().code, ErrorCode::InvalidToken);
    return false;
  }
  return true;
}

bool well_formed(std::string_view token) { return UnverifiedJwt::parse(token).ok(); }

constexpr std::string_view kGoodHeader = R"({"alg":"EdDSA"})";
constexpr std::string_view kGoodClaims = R"({"sub":"user-42"})";

// ---- vectors ---------------------------------------------------------------

TEST(Jws, VerifiesTheTokensOfRfc7515) {
  EXPECT_TRUE(accepted(compact(vectors::kRs256Header, vectors::kPayload, vectors::kRs256Signature),
                       rsa_set()));
  EXPECT_TRUE(accepted(compact(vectors::kEs256Header, vectors::kPayload, vectors::kEs256Signature),
                       p256_set()));
}

TEST(Jws, RefusesTheHmacTokenOfRfc7515) {
  const auto token = compact(vectors::kHs256Header, vectors::kPayload, vectors::kHs256Signature);
  EXPECT_FALSE(accepted(token, rsa_set()));
  EXPECT_FALSE(accepted(token, p256_set()));
  EXPECT_FALSE(accepted(token, ed25519_set()));
}

TEST(Jws, ReadsTheAccessTokenVector) {
  const auto jwt = UnverifiedJwt::parse(vectors::kAccessToken);
  ASSERT_TRUE(jwt.ok());
  EXPECT_EQ(jwt.value().algorithm(), Algorithm::EdDSA);
  EXPECT_EQ(jwt.value().kid(), std::string(vectors::kEd25519Thumbprint));
  EXPECT_EQ(jwt.value().typ(), "at+jwt");
  EXPECT_EQ(jwt.value().claimed_issuer(), "https://sts.example.com/t/acme");
  const auto claims = jwt.value().verify(ed25519_set());
  ASSERT_TRUE(claims.ok());
  EXPECT_EQ(dump_json(claims.value()), vectors::kAccessTokenClaims);
}

TEST(SignJwt, WritesTheAccessTokenVector) {
  EXPECT_EQ(sign_jwt(vector_key(), vectors::kEd25519Thumbprint, "at+jwt",
                     parse_json(vectors::kAccessTokenClaims).value()),
            vectors::kAccessToken);
}

TEST(SignJwt, IsVerifiedWithThePublishedKey) {
  for (const auto algorithm : {Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256}) {
    const auto key = crypto::SigningKey::generate(algorithm);
    const auto jwk = public_jwk(key);
    const auto token = sign_jwt(key, jwk["kid"].get<std::string>(), "at+jwt", {{"sub", "u"}});
    EXPECT_TRUE(accepted(token, set_of(jwk)));
    EXPECT_FALSE(accepted(token, set_of(public_jwk(crypto::SigningKey::generate(algorithm)))));
    EXPECT_FALSE(accepted(token, JwkSet()));
  }
}

// ---- algorithms ------------------------------------------------------------

TEST(Jws, RefusesNoneInEverySpelling) {
  for (const std::string_view alg : {R"("none")",
                                     R"("None")",
                                     R"("NONE")",
                                     R"("nOnE")",
                                     R"("none ")",
                                     R"(" none")",
                                     R"("")",
                                     R"("\u006eone")",
                                     R"("n\u006fne")",
                                     R"("none\u0000")",
                                     "null",
                                     "0",
                                     "1",
                                     "true",
                                     "false",
                                     "[]",
                                     R"(["none"])",
                                     R"(["EdDSA"])",
                                     R"(["EdDSA","none"])",
                                     "{}",
                                     R"({"name":"EdDSA"})",
                                     R"("EDDSA")",
                                     R"("eddsa")",
                                     R"("EdDSA ")",
                                     R"("HS256")",
                                     R"("HS512")",
                                     R"("A128KW")",
                                     R"("RS1")"}) {
    const auto header = R"({"alg":)" + std::string(alg) + "}";
    EXPECT_FALSE(accepted(signed_raw(header, kGoodClaims))) << alg;
    EXPECT_FALSE(accepted(encoded(header) + "." + encoded(kGoodClaims) + ".")) << alg;
  }
  EXPECT_FALSE(accepted(signed_raw("{}", kGoodClaims)));
  EXPECT_FALSE(accepted(signed_raw(R"({"ALG":"EdDSA"})", kGoodClaims)));
  EXPECT_FALSE(accepted(signed_raw(R"({"typ":"EdDSA"})", kGoodClaims)));
  ASSERT_TRUE(accepted(signed_raw(kGoodHeader, kGoodClaims)));
}

TEST(Jws, AcceptsTheFullySpecifiedNameOfEd25519) {
  EXPECT_TRUE(accepted(signed_raw(R"({"alg":"Ed25519"})", kGoodClaims)));
}

TEST(Jws, RefusesAnEmptySignature) {
  for (const auto* const alg : {"EdDSA", "RS256", "ES256", "PS256"}) {
    const auto input =
        encoded(R"({"alg":")" + std::string(alg) + "\"}") + "." + encoded(kGoodClaims) + ".";
    EXPECT_FALSE(well_formed(input)) << alg;  // CVE-2020-28042
  }
}

/// The public key of RFC 7515 A.2 in every form it may lie around in.
std::vector<std::string> rsa_key_texts() {
  const auto n = crypto::base64url_decode(vectors::kRsaN).value();
  const auto e = crypto::base64url_decode(vectors::kRsaE).value();
  // SubjectPublicKeyInfo by hand: SEQUENCE { rsaEncryption, BIT STRING { PKCS#1 } }.
  std::string pkcs1("\x30\x82\x01\x0a\x02\x82\x01\x01\x00", 9);
  pkcs1 += as_text(n);
  pkcs1 += std::string("\x02\x03", 2) + std::string(as_text(e));
  std::string spki(
      "\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"
      "\x03\x82\x01\x0f\x00",
      24);
  spki += pkcs1;
  const auto pem = [](const std::string& label, const std::string& der, const char* newline) {
    const auto body = crypto::base64(as_bytes(der));
    std::string text = "-----BEGIN " + label + "-----" + newline;
    for (std::size_t at = 0; at < body.size(); at += 64) text += body.substr(at, 64) + newline;
    return text + "-----END " + label + "-----";
  };
  const auto jwk = R"({"e":"AQAB","kty":"RSA","n":")" + std::string(vectors::kRsaN) + "\"}";
  return {pem("PUBLIC KEY", spki, "\n"),
          pem("PUBLIC KEY", spki, "\n") + "\n",
          pem("PUBLIC KEY", spki, "\r\n") + "\r\n",
          " " + pem("PUBLIC KEY", spki, "\n"),
          pem("RSA PUBLIC KEY", pkcs1, "\n") + "\n",
          spki,
          pkcs1,
          std::string(as_text(n)),
          jwk,
          std::string(vectors::kRsaN),
          std::string(vectors::kRsaThumbprint),
          crypto::base64(as_bytes(spki)),
          ""};
}

TEST(Jws, RefusesHmacOverThePublicKeyInEveryEncoding) {
  for (const auto& [alg, digest] : {std::pair{"HS256", EVP_sha256()},
                                    {"HS384", EVP_sha384()},
                                    {"HS512", EVP_sha512()},
                                    {"RS256", EVP_sha256()}}) {
    for (const auto& secret : rsa_key_texts()) {
      const auto input =
          encoded(R"({"alg":")" + std::string(alg) + "\"}") + "." + encoded(kGoodClaims);
      std::array<unsigned char, EVP_MAX_MD_SIZE> mac{};
      unsigned int length = 0;
      ASSERT_NE(HMAC(digest, secret.data(), static_cast<int>(secret.size()),
                     reinterpret_cast<const unsigned char*>(input.data()), input.size(), mac.data(),
                     &length),
                nullptr);
      const auto token =
          input + "." +
          encoded({reinterpret_cast<const char*>(mac.data()), static_cast<std::size_t>(length)});
      EXPECT_FALSE(accepted(token, rsa_set())) << alg;
    }
  }
}

TEST(Jws, DoesNotVerifyWithAKeyOfAnotherType) {
  const auto token = compact(vectors::kEs256Header, vectors::kPayload, vectors::kEs256Signature);
  EXPECT_FALSE(accepted(token, rsa_set()));
  EXPECT_FALSE(accepted(token, ed25519_set()));
  // The header rewritten to the key's algorithm does not help either.
  EXPECT_FALSE(accepted(compact(vectors::kRs256Header, vectors::kPayload, vectors::kEs256Signature),
                        rsa_set()));
  EXPECT_FALSE(
      accepted(compact(encoded(R"({"alg":"PS256"})"), vectors::kPayload, vectors::kRs256Signature),
               rsa_set()));
}

TEST(Jws, RefusesForgedEcdsaSignatures) {
  const auto forged = [](const std::string& signature) {
    return accepted(compact(vectors::kEs256Header, vectors::kPayload, encoded(signature)),
                    p256_set());
  };
  EXPECT_FALSE(forged(std::string(64, '\0')));  // CVE-2022-21449
  EXPECT_FALSE(forged(std::string(32, '\0') + std::string(32, '\x01')));
  EXPECT_FALSE(forged(std::string(64, '\xff')));
  EXPECT_FALSE(forged(std::string("\x30\x06\x02\x01\x01\x02\x01\x01", 8)));
  EXPECT_FALSE(forged("x"));
}

TEST(Jws, RefusesEveryFlippedBit) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  std::string token(vectors::kAccessToken);
  for (std::size_t bit = 0; bit < token.size() * 8; ++bit) {
    token[bit / 8] = static_cast<char>(token[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_FALSE(accepted(token)) << "bit " << bit;
    token[bit / 8] = static_cast<char>(token[bit / 8] ^ (1 << (bit % 8)));
  }
  for (int i = 0; i < 2000; ++i) {  // and several at once
    auto altered = token;
    for (int j = 0; j < 3; ++j) {
      altered[random() % altered.size()] = static_cast<char>(random());
    }
    if (altered != token) {
      ASSERT_FALSE(accepted(altered));
    }
  }
  ASSERT_TRUE(accepted(token));
}

// ---- the compact form ------------------------------------------------------

TEST(Jws, HasExactlyThreeParts) {
  const std::string good = signed_raw(kGoodHeader, kGoodClaims);
  ASSERT_TRUE(accepted(good));
  const auto first = good.find('.');
  const auto second = good.find('.', first + 1);
  for (const auto& token :
       {std::string(), std::string("."), std::string(".."), std::string("..."), std::string("...."),
        good.substr(0, first), good.substr(0, second), good.substr(0, second + 1), good + ".",
        "." + good, good + "." + good, good + ".AAAA", good.substr(0, first) + good.substr(second),
        good.substr(first),
        // five parts: a JWE
        std::string(
            "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAA"
            "AAAAA")}) {
    EXPECT_FALSE(accepted(token)) << token;
  }
}

TEST(Jws, SaysInTheLogThatPartsAreMissing) {
  const std::string good = signed_raw(kGoodHeader, kGoodClaims);
  for (const auto& token : {good + ".AAAA", good.substr(0, good.rfind('.'))}) {
    EXPECT_EQ(UnverifiedJwt::parse(token).error().diagnostic, "jws: not three parts");
  }
}

TEST(Jws, RefusesJsonSerialisations) {
  const auto input = Json{{"payload", vectors::kPayload},
                          {"protected", vectors::kEs256Header},
                          {"signature", vectors::kEs256Signature}};
  EXPECT_FALSE(accepted(input.dump(), p256_set()));
  EXPECT_FALSE(
      accepted(Json{{"payload", vectors::kPayload}, {"signatures", {input}}}.dump(), p256_set()));
}

TEST(Jws, RefusesOtherSpellingsOfTheSameBytes) {
  const std::string good = signed_raw(kGoodHeader, kGoodClaims);
  const auto first = good.find('.');
  const auto second = good.find('.', first + 1);
  for (const auto at : {std::size_t{0}, std::size_t{4}, first, first + 1, second, good.size()}) {
    for (const std::string_view inserted : {" ", "\n", "\r\n", "\t", "=", "==", "%20", "+", "/"}) {
      auto token = good;
      token.insert(at, inserted);
      EXPECT_FALSE(well_formed(token)) << at << " " << inserted;
    }
    auto token = good;
    token.insert(at, 1, '\0');
    EXPECT_FALSE(well_formed(token)) << at;
  }
  // The 64 bytes of a signature leave four unused bits in the last character.
  auto token = good;
  ASSERT_TRUE(token.back() == 'A' || token.back() == 'Q' || token.back() == 'g' ||
              token.back() == 'w');
  token.back() = static_cast<char>(token.back() + 1);
  EXPECT_FALSE(well_formed(token));
}

TEST(Jws, BoundsItsLength) {
  const auto of_length = [](std::size_t length) {
    std::string claims = R"({"a":")";
    for (std::size_t fill = 0;; ++fill) {
      auto token = signed_raw(kGoodHeader, claims + std::string(fill, 'x') + "\"}");
      if (token.size() >= length) return token;
      fill += (length - token.size()) / 2;
    }
  };
  EXPECT_TRUE(well_formed(of_length(kMaxTokenBytes - 2)));
  const auto longer = of_length(kMaxTokenBytes + 1);
  EXPECT_FALSE(well_formed(longer));
  EXPECT_FALSE(well_formed(std::string(10'000'000, 'A')));
  EXPECT_FALSE(well_formed(std::string(10'000'000, '.')));
}

// ---- header and claims -----------------------------------------------------

TEST(Jws, HeaderAndClaimsAreStrictJsonObjects) {
  const std::string nul(1, '\0');
  for (const auto& text :
       {std::string(), std::string("null"), std::string("[]"), std::string("\"x\""),
        std::string("1"), std::string("{"), std::string(R"({"alg":"EdDSA"}{})"),
        std::string(R"({"alg":"EdDSA","alg":"EdDSA"})"),
        std::string(R"({"alg":"none","alg":"EdDSA"})"),
        std::string(R"({"alg":"EdDSA","\u0061lg":"none"})"), R"({"alg":"EdDSA"})" + nul,
        R"({"alg":"EdDSA"})" + nul + "x", std::string("\xef\xbb\xbf{\"alg\":\"EdDSA\"}"),
        std::string("{\"alg\":\"EdDSA\",\"x\":\"\xff\"}"),
        R"({"alg":"EdDSA","x":)" + std::string(40, '[') + std::string(40, ']') + "}"}) {
    EXPECT_FALSE(accepted(signed_raw(text, kGoodClaims))) << text;
    EXPECT_FALSE(accepted(signed_raw(kGoodHeader, text))) << text;
  }
  for (const std::string_view claims :
       {R"({"sub":"a","sub":"b"})", R"({"sub":"a","\u0073ub":"b"})",
        R"({"act":{"sub":"a","sub":"b"}})", R"({"exp":1e999})", R"({"sub":"a\u0000b"})"}) {
    EXPECT_FALSE(accepted(signed_raw(kGoodHeader, claims))) << claims;
  }
}

TEST(Jws, RefusesExtensionsAndTransformations) {
  for (const std::string_view member :
       {R"("crit":["b64"])", R"("crit":[])", R"("crit":["exp"])", R"("crit":"exp")",
        R"("crit":null)", R"("crit":["alg"])", R"("b64":false)", R"("b64":true)",
        R"("b64":false,"crit":["b64"])", R"("zip":"DEF")", R"("zip":null)"}) {
    EXPECT_FALSE(
        accepted(signed_raw(R"({"alg":"EdDSA",)" + std::string(member) + "}", kGoodClaims)))
        << member;
  }
}

TEST(Jws, KidIsTextOfAtMost128Bytes) {
  const auto header = [](const std::string& kid) { return R"({"alg":"EdDSA","kid":)" + kid + "}"; };
  for (const std::string kid : {"7", "null", "true", "[]", R"(["a"])", "{}", R"({"a":"b"})"}) {
    EXPECT_FALSE(well_formed(signed_raw(header(kid), kGoodClaims))) << kid;
  }
  EXPECT_TRUE(well_formed(signed_raw(header('"' + std::string(128, 'k') + '"'), kGoodClaims)));
  EXPECT_FALSE(well_formed(signed_raw(header('"' + std::string(129, 'k') + '"'), kGoodClaims)));
  for (const std::string kid : {"../../etc/passwd", "' OR 1=1 --", "/dev/null"}) {
    // Untrusted text, compared and nothing else.
    const auto jwt = UnverifiedJwt::parse(signed_raw(header('"' + kid + '"'), kGoodClaims));
    ASSERT_TRUE(jwt.ok());
    EXPECT_EQ(jwt.value().kid(), kid);
    EXPECT_FALSE(
        jwt.value()
            .verify(set_of(
                {{"kty", "OKP"}, {"crv", "Ed25519"}, {"x", vectors::kEd25519X}, {"kid", "mine"}}))
            .ok());
  }
}

TEST(Jws, IgnoresKeysAndLinksInTheHeader) {
  // CVE-2018-0114: the attacker signs with a key of its own and sends it along.
  const auto attacker = crypto::SigningKey::generate(Algorithm::EdDSA);
  const auto jwk = public_jwk(attacker);
  const Json header = {{"alg", "EdDSA"},
                       {"jwk", jwk},
                       {"jku", "https://attacker.example/jwks"},
                       {"x5u", "https://attacker.example/x5c"},
                       {"x5c", Json::array({"AAAA"})}};
  const auto input = encoded(header.dump()) + "." + encoded(kGoodClaims);
  const auto token = input + "." + crypto::base64url(attacker.sign(as_bytes(input)));
  EXPECT_TRUE(well_formed(token));
  EXPECT_FALSE(accepted(token));
  EXPECT_TRUE(accepted(signed_raw(header.dump(), kGoodClaims)));
}

TEST(Jws, TypIsNormalised) {
  const auto typ = [](const std::string& value) -> std::string {
    const auto jwt =
        UnverifiedJwt::parse(signed_raw(R"({"alg":"EdDSA","typ":)" + value + "}", kGoodClaims));
    return jwt.ok() ? jwt.value().typ() : "(refused)";
  };
  EXPECT_EQ(typ(R"("at+jwt")"), "at+jwt");
  EXPECT_EQ(typ(R"("AT+JWT")"), "at+jwt");
  EXPECT_EQ(typ(R"("application/at+jwt")"), "at+jwt");
  EXPECT_EQ(typ(R"("APPLICATION/At+Jwt")"), "at+jwt");
  EXPECT_EQ(typ(R"("JWT")"), "jwt");
  EXPECT_EQ(typ(R"("application/application/jwt")"), "application/jwt");
  EXPECT_EQ(typ(R"(" at+jwt")"), " at+jwt");
  for (const std::string value : {"7", "null", "[]", R"(["at+jwt"])", "{}", "true"}) {
    EXPECT_EQ(typ(value), "(refused)") << value;
  }
  EXPECT_EQ(typ('"' + std::string(65, 't') + '"'), "(refused)");
  const auto absent = UnverifiedJwt::parse(signed_raw(kGoodHeader, kGoodClaims));
  ASSERT_TRUE(absent.ok());
  EXPECT_EQ(absent.value().typ(), "");
}

TEST(Jws, ClaimsAnIssuerOnlyAsText) {
  const auto issuer = [](const std::string& claims) {
    return UnverifiedJwt::parse(signed_raw(kGoodHeader, claims)).value().claimed_issuer();
  };
  EXPECT_EQ(issuer(R"({"iss":"https://idp.example"})"), "https://idp.example");
  for (const std::string claims :
       {"{}", R"({"iss":null})", R"({"iss":7})", R"({"iss":["https://idp.example"]})",
        R"({"iss":{}})", R"({"ISS":"x"})"}) {
    EXPECT_EQ(issuer(claims), std::nullopt) << claims;
  }
}

TEST(Jws, ErrorsNeverCarryTheToken) {
  const std::string canary = "Y2FuYXJ5LWNhbmFyeQ";
  for (const auto& token : {canary, canary + "." + canary + "." + canary,
                            encoded(R"({"alg":"canary-canary"})") + ".e30.AA",
                            signed_raw(R"({"alg":"EdDSA","kid":"canary-canary"})", "[]")}) {
    const auto jwt = UnverifiedJwt::parse(token);
    ASSERT_FALSE(jwt.ok());
    for (const auto& text : {jwt.error().detail, jwt.error().diagnostic}) {
      EXPECT_EQ(text.find("canary"), std::string::npos);
      EXPECT_EQ(text.find(canary), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace postern::token
