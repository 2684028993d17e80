#include "crypto/hmac.h"

#include <gtest/gtest.h>

#include "vectors/hex.h"

namespace postern::crypto {
namespace {

using vectors::from_hex;

// RFC 4231 §4.3.
TEST(Hmac, IsThatOfRfc4231) {
  const DataKey key(SecureBuffer::copy_of("Jefe"));
  const auto text = as_bytes("what do ya want for nothing?");
  EXPECT_EQ(hmac(HashFunction::Sha256, key, text),
            from_hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"));
  EXPECT_EQ(hmac(HashFunction::Sha384, key, text),
            from_hex("af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
                     "8e2240ca5e69e2c78b3239ecfab21649"));
  EXPECT_EQ(hmac(HashFunction::Sha512, key, text),
            from_hex("164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
                     "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"));
}

// RFC 5869 A.3: no salt, no info. Its first 32 bytes.
TEST(Hkdf, IsThatOfRfc5869) {
  const DataKey key(
      SecureBuffer::copy_of(from_hex("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b")));
  const auto derived = hkdf_sha256(key, {});
  EXPECT_EQ(derived.expose([](ByteView bytes) { return Bytes(bytes.begin(), bytes.end()); }),
            from_hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"));
  const auto other = hkdf_sha256(key, as_bytes("x"));
  EXPECT_NE(other.expose([](ByteView bytes) { return Bytes(bytes.begin(), bytes.end()); }),
            derived.expose([](ByteView bytes) { return Bytes(bytes.begin(), bytes.end()); }));
}

}  // namespace
}  // namespace postern::crypto
