#include "crypto/signature.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "crypto/base64url.h"
#include "vectors/hex.h"
#include "vectors/jose.h"

namespace postern::crypto {
namespace {

using vectors::from_hex;

constexpr std::array kAlgorithms = {
    Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384,
    Algorithm::PS512, Algorithm::ES256, Algorithm::ES384, Algorithm::ES512, Algorithm::EdDSA};

Bytes decode(std::string_view text) { return base64url_decode(text).value(); }

PublicKey vector_rsa() {
  return PublicKey::rsa(decode(vectors::kRsaN), decode(vectors::kRsaE)).value();
}
PublicKey vector_p256() {
  return PublicKey::ec("P-256", decode(vectors::kP256X), decode(vectors::kP256Y)).value();
}
PublicKey vector_ed25519() { return PublicKey::ed25519(decode(vectors::kEd25519X)).value(); }

std::string signing_input(std::string_view header, std::string_view payload) {
  return std::string(header) + "." + std::string(payload);
}

Bytes join(const Bytes& a, const Bytes& b) {
  Bytes both = a;
  both.insert(both.end(), b.begin(), b.end());
  return both;
}

TEST(Algorithm, NamesAreExact) {
  for (const auto algorithm : kAlgorithms) {
    EXPECT_EQ(parse_algorithm(to_string(algorithm)), algorithm);
  }
  EXPECT_EQ(parse_algorithm("Ed25519"), Algorithm::EdDSA);
  for (const std::string_view name :
       {"", "none", "None", "NONE", "HS256", "HS384", "HS512", "rs256", "Rs256", "RS256 ", " RS256",
        "ES256K", "Ed448", "ed25519", "eddsa", "RS1", "RSA-OAEP", "dir", "RS2567"}) {
    EXPECT_EQ(parse_algorithm(name), std::nullopt) << name;
  }
  EXPECT_EQ(parse_algorithm(std::string_view("RS256\0", 6)), std::nullopt);
}

// ---- vectors ---------------------------------------------------------------

TEST(Verify, AcceptsTheSignaturesOfTheRfcs) {
  EXPECT_TRUE(vector_rsa().verify(Algorithm::RS256,
                                  as_bytes(signing_input(vectors::kRs256Header, vectors::kPayload)),
                                  decode(vectors::kRs256Signature)));
  EXPECT_TRUE(vector_p256().verify(
      Algorithm::ES256, as_bytes(signing_input(vectors::kEs256Header, vectors::kPayload)),
      decode(vectors::kEs256Signature)));
  const auto dot = vectors::kEd25519Jws.rfind('.');
  EXPECT_TRUE(vector_ed25519().verify(Algorithm::EdDSA,
                                      as_bytes(vectors::kEd25519Jws.substr(0, dot)),
                                      decode(vectors::kEd25519Jws.substr(dot + 1))));
  EXPECT_TRUE(PublicKey::rsa(decode(vectors::kCookbookRsaN), decode(vectors::kRsaE))
                  .value()
                  .verify(Algorithm::PS384,
                          as_bytes(signing_input(vectors::kPs384Header, vectors::kCookbookPayload)),
                          decode(vectors::kPs384Signature)));
  EXPECT_TRUE(PublicKey::ec("P-521", decode(vectors::kP521X), decode(vectors::kP521Y))
                  .value()
                  .verify(Algorithm::ES512,
                          as_bytes(signing_input(vectors::kEs512Header, vectors::kCookbookPayload)),
                          decode(vectors::kEs512Signature)));
}

TEST(Sign, Ed25519MatchesRfc8037) {
  const auto key =
      SigningKey::import_private(Algorithm::EdDSA,
                                 PrivateKey(SecureBuffer::copy_of(decode(vectors::kEd25519D))))
          .value();
  EXPECT_EQ(base64url(key.public_parameters().x), vectors::kEd25519X);
  const auto dot = vectors::kEd25519Jws.rfind('.');
  EXPECT_EQ(base64url(key.sign(as_bytes(vectors::kEd25519Jws.substr(0, dot)))),
            vectors::kEd25519Jws.substr(dot + 1));
}

// ---- what must not verify --------------------------------------------------

TEST(Verify, RefusesEveryFlippedBitOfASignatureAndMessage) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (const auto algorithm :
       {Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256, Algorithm::PS256}) {
    const auto key = SigningKey::generate(algorithm);
    const auto verifier = key.public_key();
    std::string message(1 + random() % 20, '\0');
    for (auto& c : message) c = static_cast<char>(random());
    const auto signature = key.sign(as_bytes(message));
    ASSERT_TRUE(verifier.verify(algorithm, as_bytes(message), signature));
    for (std::size_t bit = 0; bit < signature.size() * 8; ++bit) {
      auto altered = signature;
      altered[bit / 8] ^= std::byte{1} << (bit % 8);
      ASSERT_FALSE(verifier.verify(algorithm, as_bytes(message), altered))
          << to_string(algorithm) << " bit " << bit;
    }
    for (std::size_t bit = 0; bit < message.size() * 8; ++bit) {
      auto altered = to_bytes(message);
      altered[bit / 8] ^= std::byte{1} << (bit % 8);
      ASSERT_FALSE(verifier.verify(algorithm, altered, signature)) << to_string(algorithm);
    }
  }
}

TEST(Verify, RefusesSignaturesOfTheWrongLength) {
  for (const auto algorithm : kAlgorithms) {
    const auto key = SigningKey::generate(algorithm);
    const auto signature = key.sign(as_bytes("message"));
    for (std::size_t length = 0; length < signature.size(); length += 1 + length / 16) {
      EXPECT_FALSE(key.public_key().verify(algorithm, as_bytes("message"),
                                           ByteView(signature).first(length)));
    }
    for (const auto extra : {std::byte{0}, std::byte{1}}) {
      auto longer = signature;
      longer.push_back(extra);
      EXPECT_FALSE(key.public_key().verify(algorithm, as_bytes("message"), longer));
      longer = signature;
      longer.insert(longer.begin(), extra);
      EXPECT_FALSE(key.public_key().verify(algorithm, as_bytes("message"), longer));
    }
  }
}

TEST(Verify, RefusesEcdsaInDer) {
  // RFC 7518 §3.4 wants R || S. The same signature in DER, wrapped here by hand:
  const auto raw = decode(vectors::kEs256Signature);
  Bytes der = from_hex("30450220");
  der.insert(der.end(), raw.begin(), raw.begin() + 32);  // r starts with 0x0e
  const auto s_tag = from_hex("022100");
  der.insert(der.end(), s_tag.begin(), s_tag.end());  // s starts with 0xc5
  der.insert(der.end(), raw.begin() + 32, raw.end());
  const auto message = signing_input(vectors::kEs256Header, vectors::kPayload);
  EXPECT_FALSE(vector_p256().verify(Algorithm::ES256, as_bytes(message), der));
  der.resize(64);
  EXPECT_FALSE(vector_p256().verify(Algorithm::ES256, as_bytes(message), der));
}

TEST(Verify, RefusesEcdsaHalvesOutsideTheirRange) {
  const auto key = vector_p256();
  const auto message = signing_input(vectors::kEs256Header, vectors::kPayload);
  const auto good = decode(vectors::kEs256Signature);
  const Bytes r(good.begin(), good.begin() + 32);
  const Bytes s(good.begin() + 32, good.end());
  const Bytes zero(32);
  const auto n = from_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
  const auto n_plus_one =
      from_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632552");
  const auto p = from_hex("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff");
  const Bytes ones(32, std::byte{0xff});
  ASSERT_TRUE(key.verify(Algorithm::ES256, as_bytes(message), join(r, s)));
  EXPECT_FALSE(
      key.verify(Algorithm::ES256, as_bytes(message), join(zero, zero)));  // CVE-2022-21449
  for (const auto& bad : {zero, n, n_plus_one, p, ones}) {
    EXPECT_FALSE(key.verify(Algorithm::ES256, as_bytes(message), join(bad, s)));
    EXPECT_FALSE(key.verify(Algorithm::ES256, as_bytes(message), join(r, bad)));
    EXPECT_FALSE(key.verify(Algorithm::ES256, as_bytes(message), join(bad, bad)));
  }
  EXPECT_FALSE(key.verify(Algorithm::ES256, as_bytes(message), join(s, r)));
}

TEST(Verify, RefusesAnEdwardsSignatureWithSBeyondTheOrder) {
  // S + L verifies under code that does not check S < L (RFC 8032 §5.1.7).
  const auto dot = vectors::kEd25519Jws.rfind('.');
  auto signature = decode(vectors::kEd25519Jws.substr(dot + 1));
  const auto order = from_hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
  unsigned carry = 0;
  for (std::size_t i = 0; i < 32; ++i) {
    carry += std::to_integer<unsigned>(signature[32 + i]) + std::to_integer<unsigned>(order[i]);
    signature[32 + i] = static_cast<std::byte>(carry & 0xff);
    carry >>= 8;
  }
  EXPECT_FALSE(vector_ed25519().verify(Algorithm::EdDSA,
                                       as_bytes(vectors::kEd25519Jws.substr(0, dot)), signature));
}

TEST(Verify, UsesAKeyOnlyWithAlgorithmsOfItsFamily) {
  for (const auto made : kAlgorithms) {
    const auto key = SigningKey::generate(made);
    const auto signature = key.sign(as_bytes("message"));
    for (const auto asked : kAlgorithms) {
      const bool verified = key.public_key().verify(asked, as_bytes("message"), signature);
      EXPECT_EQ(verified, asked == made) << to_string(made) << " as " << to_string(asked);
    }
  }
}

TEST(Verify, RefusesAnotherKeysSignature) {
  for (const auto algorithm : kAlgorithms) {
    const auto signature = SigningKey::generate(algorithm).sign(as_bytes("message"));
    EXPECT_FALSE(SigningKey::generate(algorithm).public_key().verify(algorithm, as_bytes("message"),
                                                                     signature));
  }
}

TEST(Verify, WorksFromManyThreadsAndOutlivesTheKeyItCameFrom) {
  const auto key = vector_rsa();
  const auto message = signing_input(vectors::kRs256Header, vectors::kPayload);
  const auto signature = decode(vectors::kRs256Signature);
  std::vector<int> accepted(8);
  std::vector<std::thread> threads;
  for (auto& count : accepted) {
    threads.emplace_back([&count, key, &message, &signature] {
      for (int i = 0; i < 50; ++i) {
        count += key.verify(Algorithm::RS256, as_bytes(message), signature) ? 1 : 0;
        count -= key.verify(Algorithm::PS256, as_bytes(message), signature) ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(accepted, std::vector<int>(8, 50));
}

// ---- weak and malformed keys -----------------------------------------------

std::string refusal(const Result<PublicKey>& key) {
  if (key.ok()) return "(accepted)";
  EXPECT_EQ(key.error().code, ErrorCode::MalformedRequest);
  return key.error().detail;
}

TEST(WeakKeys, RsaModulusLengthIsBounded) {
  const auto e = from_hex("010001");
  EXPECT_EQ(refusal(PublicKey::rsa(Bytes(128, std::byte{0xc5}), e)),
            "an RSA key has at least 2048 bits");
  auto n = decode(vectors::kRsaN);
  n[0] = std::byte{0x7f};  // 2047 bits
  EXPECT_EQ(refusal(PublicKey::rsa(n, e)), "an RSA key has at least 2048 bits");
  EXPECT_EQ(refusal(PublicKey::rsa(Bytes(1025, std::byte{0xc5}), e)),
            "an RSA key has at most 8192 bits");
  EXPECT_NE(refusal(PublicKey::rsa(Bytes(100'000, std::byte{0xc5}), e)), "(accepted)");
  EXPECT_NE(refusal(PublicKey::rsa({}, e)), "(accepted)");
  EXPECT_NE(refusal(PublicKey::rsa(Bytes(256), e)), "(accepted)");
}

TEST(WeakKeys, RsaExponentIsOddAndAtLeast65537) {
  const auto n = decode(vectors::kRsaN);
  for (const std::string_view weak : {"", "00", "01", "03", "11", "ffff", "010000", "010002"}) {
    EXPECT_EQ(refusal(PublicKey::rsa(n, from_hex(weak))),
              "an RSA exponent is odd and at least 65537")
        << weak;
  }
  EXPECT_EQ(refusal(PublicKey::rsa(n, from_hex("010000000000000001"))),
            "an RSA exponent has at most 64 bits");
  EXPECT_NE(refusal(PublicKey::rsa(n, Bytes(256, std::byte{0xff}))), "(accepted)");
  EXPECT_EQ(refusal(PublicKey::rsa(n, from_hex("010001"))), "(accepted)");
  EXPECT_EQ(refusal(PublicKey::rsa(n, from_hex("ffffffffffffffff"))), "(accepted)");
}

TEST(WeakKeys, RsaModulusWithASmallFactorIsRefused) {
  const auto e = from_hex("010001");
  auto n = decode(vectors::kRsaN);
  n.back() &= std::byte{0xfe};
  EXPECT_EQ(refusal(PublicKey::rsa(n, e)), "the RSA modulus has a small factor");
  EXPECT_EQ(refusal(PublicKey::rsa(Bytes(256, std::byte{0xff}), e)),  // 2^2048 - 1 = 3 * ...
            "the RSA modulus has a small factor");
}

TEST(WeakKeys, RsaModulusWithTheFingerprintOfRocaIsRefused) {
  // A number of the form k * M + 65537^a mod M (CVE-2017-15361), not a real key.
  EXPECT_EQ(refusal(PublicKey::rsa(
                from_hex("8b00c04e1a4b418e6d3fa9678477753490de439b5844d30aea85039191cf132c"
                         "963a051dfc4871ffe4fcce54e49a617105b6b59741b5976b8b6b832b96ba5ee4"
                         "8ec8301df3988d92a50e50c08045bc274dac87b6801d6429ebf92e4e5cc6dcbc"
                         "ac230d6e9292e31131987663f964c3a13761f7f091945e9da2dce34957915caf"
                         "2a1dccc274c89877aaa032244b13f49d7ad0cab266a7657b8fcfe788a0dcd014"
                         "7a1a7023ef8376ecf381f5dbcefd1bab639240b801131f475c6e4b35e4c84def"
                         "123accb7b00eca571e14394c8397ff573b4adbe0fa57728c236c370006c646e7"
                         "b585e56fce30307bca67f54ceae20d267e82e4091e986b6c60f0740f6836f3eb"),
                from_hex("010001"))),
            "the RSA key is of a broken generator (ROCA)");
  for (int i = 0; i < 3; ++i) SigningKey::generate(Algorithm::RS256);  // throws when refused
}

TEST(WeakKeys, RsaAcceptsALeadingZeroOctet) {
  // RFC 7518 §6.3.1.1 warns that some libraries add one.
  EXPECT_EQ(refusal(PublicKey::rsa(join(Bytes(1), decode(vectors::kRsaN)), from_hex("010001"))),
            "(accepted)");
}

TEST(WeakKeys, EllipticPointMustBeOnItsCurve) {
  const auto x = decode(vectors::kP256X);
  const auto y = decode(vectors::kP256Y);
  auto off = y;
  off.back() ^= std::byte{1};
  EXPECT_EQ(refusal(PublicKey::ec("P-256", x, off)), "the point is not on the curve");
  EXPECT_EQ(refusal(PublicKey::ec("P-256", y, x)), "the point is not on the curve");
  EXPECT_EQ(refusal(PublicKey::ec("P-256", Bytes(32), Bytes(32))), "the point is not on the curve");
  EXPECT_EQ(refusal(PublicKey::ec("P-256", Bytes(32, std::byte{0xff}), y)),
            "the point is not on the curve");
}

TEST(WeakKeys, EllipticCoordinatesHaveTheCurvesLength) {
  const auto x = decode(vectors::kP256X);
  const auto y = decode(vectors::kP256Y);
  for (const std::string_view curve : {"P-384", "P-521"}) {
    EXPECT_EQ(refusal(PublicKey::ec(curve, x, y)), "wrong length of a coordinate");
  }
  EXPECT_NE(refusal(PublicKey::ec("P-256", {}, {})), "(accepted)");
  EXPECT_NE(refusal(PublicKey::ec("P-256", x, {})), "(accepted)");
  EXPECT_NE(refusal(PublicKey::ec("P-256", join(Bytes(1), x), y)), "(accepted)");
  EXPECT_NE(refusal(PublicKey::ec("P-256", ByteView(x).subspan(1), y)), "(accepted)");
}

TEST(WeakKeys, UnknownCurvesAreRefused) {
  const auto x = decode(vectors::kP256X);
  for (const std::string_view curve :
       {"", "p-256", "P-224", "P-192", "secp256k1", "prime256v1", "Ed25519", "X25519"}) {
    EXPECT_EQ(refusal(PublicKey::ec(curve, x, x)), "unsupported elliptic curve") << curve;
  }
}

TEST(WeakKeys, EdwardsPointsOfSmallOrderAreRefused) {
  // The encodings of the eight torsion points (canonical and not), for which a
  // signature of zeros can verify.
  for (const std::string_view hex :
       {"0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"}) {
    EXPECT_EQ(refusal(PublicKey::ed25519(from_hex(hex))), "the point is not a sound Ed25519 key")
        << hex;
  }
  auto x = decode(vectors::kEd25519X);
  EXPECT_EQ(refusal(PublicKey::ed25519(ByteView(x).first(31))), "an Ed25519 key has 32 bytes");
  x.push_back(std::byte{0});
  EXPECT_EQ(refusal(PublicKey::ed25519(x)), "an Ed25519 key has 32 bytes");
}

// ---- private keys ----------------------------------------------------------

TEST(SigningKey, SurvivesExportAndImport) {
  for (const auto algorithm : kAlgorithms) {
    const auto key = SigningKey::generate(algorithm);
    const auto back = SigningKey::import_private(algorithm, key.export_private());
    ASSERT_TRUE(back.ok()) << to_string(algorithm);
    EXPECT_EQ(back.value().algorithm(), algorithm);
    const auto signature = back.value().sign(as_bytes("message"));
    EXPECT_TRUE(key.public_key().verify(algorithm, as_bytes("message"), signature));
    EXPECT_EQ(back.value().public_parameters().x, key.public_parameters().x);
    EXPECT_EQ(back.value().public_parameters().n, key.public_parameters().n);
  }
}

TEST(SigningKey, IsNotImportedForAnotherFamily) {
  for (const auto made : {Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA}) {
    const auto exported = SigningKey::generate(made).export_private();
    for (const auto asked :
         {Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA}) {
      const auto imported = SigningKey::import_private(asked, exported);
      EXPECT_EQ(imported.ok(), asked == made) << to_string(made) << " as " << to_string(asked);
      if (!imported.ok()) {
        EXPECT_EQ(imported.error().code, ErrorCode::Internal);
      }
    }
  }
}

TEST(SigningKey, RefusesDamagedPrivateKeys) {
  const auto der =
      SigningKey::generate(Algorithm::ES256).export_private().expose([](ByteView bytes) {
        return Bytes(bytes.begin(), bytes.end());
      });
  const auto importable = [](ByteView bytes) {
    return SigningKey::import_private(Algorithm::ES256, PrivateKey(SecureBuffer::copy_of(bytes)))
        .ok();
  };
  ASSERT_TRUE(importable(der));
  for (std::size_t length = 0; length < der.size(); ++length) {
    EXPECT_FALSE(importable(ByteView(der).first(length))) << length;
  }
  auto longer = der;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(importable(longer));
}

TEST(SigningKey, RefusesAWeakPrivateKey) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_RSA_gen(1024), EVP_PKEY_free);
  const std::unique_ptr<PKCS8_PRIV_KEY_INFO, decltype(&PKCS8_PRIV_KEY_INFO_free)> info(
      EVP_PKEY2PKCS8(key.get()), PKCS8_PRIV_KEY_INFO_free);
  unsigned char* der = nullptr;
  const int length = i2d_PKCS8_PRIV_KEY_INFO(info.get(), &der);
  ASSERT_GT(length, 0);
  auto copy = SecureBuffer::copy_of(
      std::as_bytes(std::span<const unsigned char>(der, static_cast<std::size_t>(length))));
  OPENSSL_free(der);
  EXPECT_FALSE(SigningKey::import_private(Algorithm::RS256, PrivateKey(std::move(copy))).ok());
}

TEST(SigningKey, PublishesCoordinatesOfFullLength) {
  // One coordinate in 256 starts with a zero byte, which must not be dropped.
  for (int i = 0; i < 600; ++i) {
    const auto parameters = SigningKey::generate(Algorithm::ES256).public_parameters();
    ASSERT_EQ(parameters.x.size(), 32U);
    ASSERT_EQ(parameters.y.size(), 32U);
    ASSERT_TRUE(PublicKey::ec("P-256", parameters.x, parameters.y).ok());
  }
}

TEST(SigningKey, SignsInTheFixedLengthOfJws) {
  const auto key = SigningKey::generate(Algorithm::ES256);
  for (int i = 0; i < 600; ++i) {
    const auto signature = key.sign(as_bytes(std::to_string(i)));
    ASSERT_EQ(signature.size(), 64U);
    ASSERT_TRUE(key.public_key().verify(Algorithm::ES256, as_bytes(std::to_string(i)), signature));
  }
  EXPECT_EQ(SigningKey::generate(Algorithm::ES384).sign({}).size(), 96U);
  EXPECT_EQ(SigningKey::generate(Algorithm::ES512).sign({}).size(), 132U);
  EXPECT_EQ(SigningKey::generate(Algorithm::RS256).sign({}).size(), 256U);
}

}  // namespace
}  // namespace postern::crypto
