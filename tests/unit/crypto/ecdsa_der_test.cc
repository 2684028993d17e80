#include "crypto/ecdsa_der.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>

#include "crypto/signature.h"
#include "support/code_of.h"
#include "vectors/hex.h"

namespace postern::crypto {
namespace {

using test::code_of;
using vectors::from_hex;

TEST(EcdsaDer, WritesNumbersAsShortAsTheyAre) {
  const auto raw = from_hex(std::string(62, '0') + "01" + "80" + std::string(62, '0'));
  const auto der = ecdsa_to_der(raw);
  EXPECT_EQ(der, from_hex("3026"
                          "020101"
                          "022100"
                          "80" +
                          std::string(62, '0')));
  const auto back = ecdsa_from_der(der, 32);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back.value(), raw);
}

TEST(EcdsaDer, ComesBackAndStillVerifies) {
  const auto key = SigningKey::generate(Algorithm::ES256);
  for (int i = 0; i < 50; ++i) {
    const auto text = std::to_string(i);
    const auto raw = ecdsa_from_der(ecdsa_to_der(key.sign(as_bytes(text))), 32);
    ASSERT_TRUE(raw.ok());
    EXPECT_TRUE(key.public_key().verify(Algorithm::ES256, as_bytes(text), raw.value()));
  }
}

TEST(EcdsaDer, RefusesEveryOtherEncoding) {
  const std::string ones =
      "0201010201"
      "01";
  ASSERT_TRUE(ecdsa_from_der(from_hex("3006" + ones), 32).ok());
  for (const auto& hex : {std::string(), std::string("30"), "308106" + ones, "3080" + ones + "0000",
                          "3006" + ones + "00", "3007" + ones + "00", "3007" + ones, "3005" + ones,
                          std::string("300702020001020101"),
                          std::string("300602018102010"
                                      "1"),
                          "3026"
                          "020101"
                          "0221"
                          "01" +
                              std::string(64, '0'),
                          std::string("3109") + ones}) {
    EXPECT_EQ(code_of(ecdsa_from_der(from_hex(hex), 32)), ErrorCode::MalformedRequest) << hex;
  }
  EXPECT_FALSE(ecdsa_from_der(Bytes(200), 32).ok());
}

TEST(EcdsaDer, APublicKeyIsWrittenAsPem) {
  const auto pem = p256_pem(Bytes(32, std::byte{1}), Bytes(32, std::byte{2}));
  EXPECT_TRUE(pem.starts_with(
      "-----BEGIN PUBLIC "
      "KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n"));
  EXPECT_TRUE(pem.ends_with("-----END PUBLIC KEY-----\n"));
}

}  // namespace
}  // namespace postern::crypto
