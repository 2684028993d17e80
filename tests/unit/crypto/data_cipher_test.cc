#include "crypto/data_cipher.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <set>
#include <string>

#include "support/code_of.h"
#include "vectors/hex.h"

namespace postern::crypto {
namespace {

using test::code_of;
using vectors::from_hex;

DataKey key(const std::string& hex) { return DataKey(SecureBuffer::copy_of(from_hex(hex))); }
std::string text_of(const Plaintext& bytes) {
  return bytes.expose([](ByteView view) { return std::string(as_text(view)); });
}
Bytes joined(std::initializer_list<const char*> parts) {
  std::string hex;
  for (const char* part : parts) hex += part;
  return from_hex(hex);
}

// McGrew and Viega, The Galois/Counter Mode of Operation, test case 16.
TEST(DataCipher, OpensWhatAes256GcmsAuthorsMade) {
  const auto opened =
      decrypt_data(DataCipher::Aes256Gcm,
                   key("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
                   joined({"cafebabefacedbaddecaf888",
                           "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa",
                           "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
                           "76fc6ece0f4e1768cddf8853bb2d551b"}),
                   from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"));
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(text_of(opened.value()),
            as_text(joined({"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72",
                            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"})));
}

// RFC 8439 §2.8.2.
TEST(DataCipher, OpensWhatRfc8439Made) {
  const auto opened = decrypt_data(
      DataCipher::ChaCha20Poly1305,
      key("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"),
      joined({"070000004041424344454647",
              "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6",
              "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36",
              "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc",
              "3ff4def08e4b7a9de576d26586cec64b6116", "1ae10b594f09e26a7e902ecbd0600691"}),
      from_hex("50515253c0c1c2c3c4c5c6c7"));
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(text_of(opened.value()),
            "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
            "future, sunscreen would be it.");
}

TEST(DataCipher, ComesBackUnderItsKeyAndDataAlone) {
  const auto one = key(std::string(64, '1'));
  const auto other = key(std::string(64, '2'));
  for (const auto cipher : {DataCipher::Aes256Gcm, DataCipher::ChaCha20Poly1305}) {
    for (const std::string text : {"", "x", "a longer text, of more than one block of sixteen"}) {
      auto box = encrypt_data(cipher, one, as_bytes(text), as_bytes("aad"));
      EXPECT_EQ(box.size(), text.size() + kDataCipherOverhead);
      const auto opened = decrypt_data(cipher, one, box, as_bytes("aad"));
      ASSERT_TRUE(opened.ok());
      EXPECT_EQ(text_of(opened.value()), text);
      EXPECT_EQ(code_of(decrypt_data(cipher, other, box, as_bytes("aad"))),
                ErrorCode::MalformedRequest);
      EXPECT_EQ(code_of(decrypt_data(cipher, one, box, as_bytes("aae"))),
                ErrorCode::MalformedRequest);
      EXPECT_FALSE(decrypt_data(cipher, one, box, {}).ok());
      for (std::size_t bit = 0; bit < box.size() * 8; ++bit) {
        box[bit / 8] ^= std::byte{1} << (bit % 8);
        EXPECT_FALSE(decrypt_data(cipher, one, box, as_bytes("aad")).ok()) << bit;
        box[bit / 8] ^= std::byte{1} << (bit % 8);
      }
      for (std::size_t size = 0; size < box.size(); ++size) {
        EXPECT_FALSE(decrypt_data(cipher, one, ByteView(box).first(size), as_bytes("aad")).ok());
      }
    }
  }
}

TEST(DataCipher, NoTwoNoncesAreAlike) {
  const auto one = key(std::string(64, '1'));
  std::set<Bytes> nonces;
  for (int i = 0; i < 1000; ++i) {
    auto box = encrypt_data(DataCipher::Aes256Gcm, one, as_bytes("x"), {});
    box.resize(12);
    nonces.insert(std::move(box));
  }
  EXPECT_EQ(nonces.size(), 1000u);
}

}  // namespace
}  // namespace postern::crypto
