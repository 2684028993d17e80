#include "token/jwk.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "crypto/base64url.h"
#include "vectors/jose.h"

namespace postern::token {
namespace {

using crypto::Algorithm;
using WeakKeys = JwkSet::WeakKeys;

Json rsa_jwk() { return {{"kty", "RSA"}, {"n", vectors::kRsaN}, {"e", vectors::kRsaE}}; }
Json p256_jwk() {
  return {{"kty", "EC"}, {"crv", "P-256"}, {"x", vectors::kP256X}, {"y", vectors::kP256Y}};
}
Json ed25519_jwk() { return {{"kty", "OKP"}, {"crv", "Ed25519"}, {"x", vectors::kEd25519X}}; }

Json with(Json jwk, const char* member, Json value) {
  jwk[member] = std::move(value);
  return jwk;
}
Json without(Json jwk, const char* member) {
  jwk.erase(member);
  return jwk;
}

template <class... Jwk>
Json set_of(Jwk... jwks) {
  auto keys = Json::array();
  (keys.push_back(std::move(jwks)), ...);
  return {{"keys", keys}};
}

std::string refusal(const Json& document, WeakKeys weak = WeakKeys::Refuse) {
  const auto set = JwkSet::parse(document, weak);
  if (set.ok()) return "(accepted)";
  EXPECT_EQ(set.error().code, ErrorCode::MalformedRequest);
  return set.error().detail;
}

std::size_t kept(const Json& document) {
  const auto set = JwkSet::parse(document, WeakKeys::Refuse);
  EXPECT_TRUE(set.ok()) << document;
  return set.ok() ? set.value().size() : 999;
}

TEST(JwkSet, HoldsKeysOfEveryKind) {
  const auto set = JwkSet::parse(set_of(with(rsa_jwk(), "kid", "r"), with(p256_jwk(), "kid", "p"),
                                        with(ed25519_jwk(), "kid", "e")),
                                 WeakKeys::Refuse);
  ASSERT_TRUE(set.ok());
  EXPECT_EQ(set.value().size(), 3U);
  for (const auto algorithm :
       {Algorithm::RS256, Algorithm::PS512, Algorithm::ES256, Algorithm::EdDSA}) {
    EXPECT_EQ(set.value().candidates(algorithm, std::nullopt).size(), 1U);
  }
  EXPECT_TRUE(set.value().candidates(Algorithm::ES384, std::nullopt).empty());
  EXPECT_TRUE(set.value().has_kid("p"));
  EXPECT_FALSE(set.value().has_kid("P"));
  EXPECT_FALSE(set.value().has_kid(""));
}

TEST(JwkSet, RefusesWhatIsNotAJwkSet) {
  for (const char* text :
       {"null", "[]", "\"keys\"", "{}", R"({"keys":null})", R"({"keys":{}})", R"({"keys":"x"})",
        R"({"Keys":[]})", R"({"keys":["x"]})", R"({"keys":[null]})", R"({"keys":[[]]})"}) {
    EXPECT_NE(refusal(Json::parse(text), WeakKeys::Refuse), "(accepted)") << text;
    EXPECT_NE(refusal(Json::parse(text), WeakKeys::Skip), "(accepted)") << text;
  }
  EXPECT_NE(refusal(rsa_jwk()), "(accepted)");  // one key alone is no set
  EXPECT_EQ(kept(set_of()), 0U);
}

TEST(JwkSet, LeavesOutKeysItHasNoUseFor) {
  for (const auto& jwk :
       {Json{{"kty", "OKP"}, {"crv", "X25519"}, {"x", vectors::kEd25519X}},
        Json{{"kty", "OKP"}, {"crv", "Ed448"}, {"x", "AAAA"}},
        Json{{"kty", "EC"}, {"crv", "secp256k1"}, {"x", "AA"}, {"y", "AA"}},
        Json{{"kty", "EC"}, {"crv", "p-256"}, {"x", vectors::kP256X}, {"y", vectors::kP256Y}},
        Json{{"kty", "AKP"}, {"alg", "ML-DSA-65"}, {"pub", "AAAA"}}, Json{{"kty", "rsa"}},
        Json{{"kty", 7}}, Json{{"kid", "no kty"}}, Json::object(), with(rsa_jwk(), "use", "enc"),
        with(rsa_jwk(), "use", "SIG"), with(rsa_jwk(), "use", Json::array({"sig"})),
        with(rsa_jwk(), "key_ops", Json::array({"encrypt"})),
        with(rsa_jwk(), "key_ops", Json::array()), with(rsa_jwk(), "key_ops", "verify"),
        with(rsa_jwk(), "alg", "RSA-OAEP"), with(rsa_jwk(), "alg", "HS256"),
        with(rsa_jwk(), "alg", "none"), with(rsa_jwk(), "alg", 5)}) {
    EXPECT_EQ(kept(set_of(jwk, p256_jwk())), 1U) << jwk;
  }
  EXPECT_EQ(kept(set_of(with(rsa_jwk(), "use", "sig"))), 1U);
  EXPECT_EQ(kept(set_of(with(rsa_jwk(), "key_ops", Json::array({"sign", "verify"})))), 1U);
}

TEST(JwkSet, RefusesPrivateAndSymmetricMembers) {
  for (const char* member : {"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}) {
    for (const auto weak : {WeakKeys::Refuse, WeakKeys::Skip}) {
      EXPECT_EQ(refusal(set_of(p256_jwk(), with(rsa_jwk(), member, "AAAA")), weak),
                "a JWK Set holds a private or symmetric key");
    }
  }
  EXPECT_NE(refusal(set_of(with(p256_jwk(), "d", nullptr))), "(accepted)");
  EXPECT_NE(refusal(set_of(Json{{"kty", "oct"}, {"k", "AAAA"}})), "(accepted)");
  EXPECT_NE(refusal(set_of(with(with(rsa_jwk(), "use", "enc"), "d", "AAAA"))), "(accepted)");
}

TEST(JwkSet, RefusesOrSkipsWeakAndMalformedKeys) {
  const std::string rsa_1024 = crypto::base64url(Bytes(128, std::byte{0xc5}));
  std::string padded(vectors::kP256X);
  padded += '=';
  for (const auto& jwk :
       {with(rsa_jwk(), "n", rsa_1024), with(rsa_jwk(), "e", "Aw"), with(rsa_jwk(), "e", "AQ"),
        with(rsa_jwk(), "e", "AQAA"), without(rsa_jwk(), "n"), without(rsa_jwk(), "e"),
        with(rsa_jwk(), "n", 17), with(rsa_jwk(), "n", "not base64url!"), with(rsa_jwk(), "n", ""),
        with(p256_jwk(), "x", padded), with(p256_jwk(), "y", vectors::kP256X),
        with(p256_jwk(), "crv", "P-384"), without(p256_jwk(), "y"),
        with(p256_jwk(), "x", Json::array()),
        with(ed25519_jwk(), "x", crypto::base64url(Bytes(32))),
        with(ed25519_jwk(), "x", crypto::base64url(Bytes(31))),
        // A kid or alg that cannot be meant.
        with(p256_jwk(), "kid", 7), with(p256_jwk(), "kid", Json::array({"a"})),
        with(p256_jwk(), "kid", nullptr), with(p256_jwk(), "kid", std::string(129, 'k')),
        with(p256_jwk(), "alg", "RS256"), with(rsa_jwk(), "alg", "ES256"),
        with(ed25519_jwk(), "alg", "ES256"), with(p256_jwk(), "alg", "ES384")}) {
    EXPECT_NE(refusal(set_of(jwk, p256_jwk()), WeakKeys::Refuse), "(accepted)") << jwk;
    const auto skipped = JwkSet::parse(set_of(jwk, p256_jwk()), WeakKeys::Skip);
    ASSERT_TRUE(skipped.ok()) << jwk;
    EXPECT_EQ(skipped.value().size(), 1U) << jwk;
  }
  EXPECT_EQ(kept(set_of(with(p256_jwk(), "kid", std::string(128, 'k')))), 1U);
}

TEST(JwkSet, BoundsTheNumberOfKeys) {
  auto document = set_of();
  for (int i = 0; i < 100; ++i) document["keys"].push_back(ed25519_jwk());
  EXPECT_EQ(kept(document), 100U);
  document["keys"].push_back(ed25519_jwk());
  EXPECT_EQ(refusal(document, WeakKeys::Skip), "a JWK Set holds at most 100 keys");
}

TEST(Candidates, NeedTheHeadersKid) {
  const auto set = JwkSet::parse(set_of(with(p256_jwk(), "kid", "1"), with(p256_jwk(), "kid", "2"),
                                        with(rsa_jwk(), "kid", "1")),
                                 WeakKeys::Refuse)
                       .value();
  const auto found = set.candidates(Algorithm::ES256, "1");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0]->kid, "1");
  EXPECT_TRUE(found[0]->key.supports(Algorithm::ES256));
  EXPECT_EQ(set.candidates(Algorithm::ES256, std::nullopt).size(), 2U);
  for (const char* kid : {"3", "", "1 ", "01", "11"}) {
    EXPECT_TRUE(set.candidates(Algorithm::ES256, kid).empty()) << kid;
  }
  EXPECT_TRUE(set.candidates(Algorithm::RS256, "2").empty());
}

TEST(Candidates, FindTheOnlyKeyOfAFamilyEvenWhenItHasNoKid) {
  const auto one = JwkSet::parse(set_of(p256_jwk(), rsa_jwk()), WeakKeys::Refuse).value();
  EXPECT_EQ(one.candidates(Algorithm::ES256, "anything").size(), 1U);
  const auto two = JwkSet::parse(set_of(p256_jwk(), p256_jwk()), WeakKeys::Refuse).value();
  EXPECT_TRUE(two.candidates(Algorithm::ES256, "anything").empty());
  EXPECT_EQ(two.candidates(Algorithm::ES256, std::nullopt).size(), 2U);
  const auto mixed =
      JwkSet::parse(set_of(p256_jwk(), with(p256_jwk(), "kid", "k")), WeakKeys::Refuse).value();
  EXPECT_EQ(mixed.candidates(Algorithm::ES256, "k").size(), 1U);
  EXPECT_TRUE(mixed.candidates(Algorithm::ES256, "other").empty());
}

TEST(Candidates, HonourTheAlgOfTheKey) {
  const auto set =
      JwkSet::parse(set_of(with(rsa_jwk(), "alg", "PS256"), with(ed25519_jwk(), "alg", "Ed25519")),
                    WeakKeys::Refuse)
          .value();
  EXPECT_EQ(set.candidates(Algorithm::PS256, std::nullopt).size(), 1U);
  EXPECT_TRUE(set.candidates(Algorithm::RS256, std::nullopt).empty());
  EXPECT_TRUE(set.candidates(Algorithm::PS384, std::nullopt).empty());
  EXPECT_EQ(set.candidates(Algorithm::EdDSA, std::nullopt).size(), 1U);
}

TEST(Candidates, AreBounded) {
  auto document = set_of();
  for (int i = 0; i < 100; ++i) document["keys"].push_back(with(ed25519_jwk(), "kid", "same"));
  const auto set = JwkSet::parse(document, WeakKeys::Refuse).value();
  EXPECT_EQ(set.candidates(Algorithm::EdDSA, std::nullopt).size(), 16U);
  EXPECT_EQ(set.candidates(Algorithm::EdDSA, "same").size(), 16U);
}

crypto::PublicParameters parameters_of(const Json& jwk) {
  crypto::PublicParameters parameters;
  const auto octets = [&](const char* name) {
    return jwk.contains(name) ? crypto::base64url_decode(jwk[name].get<std::string>()).value()
                              : Bytes{};
  };
  parameters.kty = jwk["kty"].get<std::string>();
  parameters.crv = jwk.value("crv", "");
  parameters.n = octets("n");
  parameters.e = octets("e");
  parameters.x = octets("x");
  parameters.y = octets("y");
  return parameters;
}

TEST(Thumbprint, MatchesTheVectors) {
  EXPECT_EQ(thumbprint(parameters_of(rsa_jwk())), vectors::kRsaThumbprint);
  EXPECT_EQ(thumbprint(parameters_of(p256_jwk())), vectors::kP256Thumbprint);
  EXPECT_EQ(thumbprint(parameters_of(ed25519_jwk())), vectors::kEd25519Thumbprint);
  // TV7, RFC 9449 §6.1: the `jkt` of the example's key.
  EXPECT_EQ(thumbprint(parameters_of({{"kty", "EC"},
                                      {"crv", "P-256"},
                                      {"x", "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs"},
                                      {"y", "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}})),
            "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}

TEST(PublicJwk, HoldsPublicMembersOnlyAndIsReadBack) {
  for (const auto algorithm : {Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256}) {
    const auto key = crypto::SigningKey::generate(algorithm);
    const auto jwk = public_jwk(key);
    EXPECT_EQ(jwk["use"], "sig");
    EXPECT_EQ(jwk["alg"], crypto::to_string(algorithm));
    EXPECT_EQ(jwk["kid"], thumbprint(key.public_parameters()));
    for (const char* member : {"d", "p", "q", "dp", "dq", "qi", "k"}) {
      EXPECT_FALSE(jwk.contains(member));
    }
    const auto set = JwkSet::parse(set_of(jwk), WeakKeys::Refuse);
    ASSERT_TRUE(set.ok());
    const auto found = set.value().candidates(algorithm, jwk["kid"].get<std::string>());
    ASSERT_EQ(found.size(), 1U);
    EXPECT_TRUE(found[0]->key.verify(algorithm, as_bytes("m"), key.sign(as_bytes("m"))));
  }
}

}  // namespace
}  // namespace postern::token
