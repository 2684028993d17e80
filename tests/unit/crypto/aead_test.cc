#include "crypto/aead.h"

#include <gtest/gtest.h>
#include <sodium.h>

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <random>
#include <stdexcept>
#include <string>

#include "vectors/aead.h"
#include "vectors/hex.h"

namespace postern::crypto {
namespace {

using vectors::from_hex;

Dek dek(char fill) { return Dek(SecureBuffer::copy_of(std::string(kKeyBytes, fill))); }
Dek vector_key() { return Dek(SecureBuffer::copy_of(from_hex(vectors::kSealKey))); }

bool refused(const Result<SecureBuffer>& result) {
  return !result.ok() && result.error().code == ErrorCode::Internal &&
         result.error().detail.empty();
}

TEST(Seal, OpensTheVectorOfTheXChaChaDraft) {
  const auto opened =
      open(vector_key(), from_hex(vectors::kSealedBox), from_hex(vectors::kSealAad));
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(as_text(opened.value().readable()), vectors::kSealPlaintext);
}

TEST(Seal, GivesBackThePlaintextOfEveryLength) {
  const auto key = dek('k');
  for (const std::size_t length :
       std::initializer_list<std::size_t>{0, 1, 15, 16, 17, 64, 1000, 70'000}) {
    const std::string plaintext(length, 'p');
    const auto box = seal(key, as_bytes(plaintext), as_bytes("aad"));
    EXPECT_EQ(box.size(), length + kSealOverhead);
    const auto opened = open(key, box, as_bytes("aad"));
    ASSERT_TRUE(opened.ok());
    EXPECT_EQ(as_text(opened.value().readable()), plaintext);
  }
}

TEST(Seal, NeverRepeatsANonce) {
  const auto key = dek('k');
  const auto a = seal(key, as_bytes("same"), {});
  const auto b = seal(key, as_bytes("same"), {});
  EXPECT_NE(Bytes(a.begin() + 33, a.begin() + 57), Bytes(b.begin() + 33, b.begin() + 57));
}

TEST(Seal, AFreshKeyOpensItsBoxAndNoOther) {
  const auto one = seal_under_fresh_key(as_bytes("same"), as_bytes("aad"));
  const auto other = seal_under_fresh_key(as_bytes("same"), as_bytes("aad"));
  EXPECT_EQ(one.box.size(), 4 + kSealOverhead);
  const auto opened = open(one.key, one.box, as_bytes("aad"));
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(as_text(opened.value().readable()), "same");
  EXPECT_TRUE(refused(open(other.key, one.box, as_bytes("aad"))));
  EXPECT_TRUE(refused(open(one.key, one.box, as_bytes("other"))));

  const auto bytes_of = [](const Dek& key) {
    return key.expose([](ByteView bytes) { return Bytes(bytes.begin(), bytes.end()); });
  };
  EXPECT_EQ(one.key.size(), kKeyBytes);
  EXPECT_NE(bytes_of(one.key), bytes_of(other.key));
  EXPECT_NE(Bytes(one.box.begin() + 33, one.box.begin() + 57),
            Bytes(other.box.begin() + 33, other.box.begin() + 57));
  // The nonce is shown; no 8 bytes of it are the key's.
  const auto key = bytes_of(one.key);
  for (std::ptrdiff_t at = 33; at + 8 <= 57; ++at) {
    const auto part = one.box.begin() + at;
    EXPECT_EQ(std::search(key.begin(), key.end(), part, part + 8), key.end()) << at;
  }
}

TEST(Seal, DoesNotOpenWithAnyFlippedBit) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const auto key = dek('k');
  std::string plaintext(1 + random() % 40, '\0');
  for (auto& c : plaintext) c = static_cast<char>(random());
  const auto box = seal(key, as_bytes(plaintext), as_bytes("tenant-a"));
  for (std::size_t bit = 0; bit < box.size() * 8; ++bit) {
    auto altered = box;
    altered[bit / 8] ^= std::byte{1} << (bit % 8);
    ASSERT_TRUE(refused(open(key, altered, as_bytes("tenant-a")))) << "bit " << bit;
  }
  ASSERT_TRUE(open(key, box, as_bytes("tenant-a")).ok());
}

TEST(Seal, DoesNotOpenWhenShortenedOrLengthened) {
  const auto key = dek('k');
  const auto box = seal(key, as_bytes("plaintext"), {});
  for (std::size_t length = 0; length < box.size(); ++length) {
    ASSERT_TRUE(refused(open(key, ByteView(box).first(length), {}))) << length;
    ASSERT_TRUE(refused(open(key, ByteView(box).last(length), {}))) << length;
  }
  auto longer = box;
  longer.push_back(std::byte{0});
  EXPECT_TRUE(refused(open(key, longer, {})));
}

TEST(Seal, DoesNotOpenUnderAnotherKeyOrAad) {
  const auto key = dek('k');
  const auto box = seal(key, as_bytes("plaintext"), as_bytes("tenant-a"));
  EXPECT_TRUE(refused(open(dek('x'), box, as_bytes("tenant-a"))));
  EXPECT_TRUE(refused(open(key, box, as_bytes("tenant-b"))));
  EXPECT_TRUE(refused(open(key, box, as_bytes("tenant-a "))));
  EXPECT_TRUE(refused(open(key, box, as_bytes("tenant-"))));
  EXPECT_TRUE(refused(open(key, box, {})));
}

TEST(Seal, RefusesUnknownVersions) {
  const auto key = dek('k');
  auto box = seal(key, as_bytes("plaintext"), {});
  for (const int version : {0, 2, 255}) {
    box[0] = static_cast<std::byte>(version);
    EXPECT_TRUE(refused(open(key, box, {}))) << version;
  }
}

// Poly1305 alone does not commit to a key: a ciphertext can be made that opens
// under two. Here the cipher's tag is right for the second key and only the
// commitment, which names the first, stands in the way.
TEST(Seal, ChecksTheCommitmentEvenWhenTheTagFits) {
  const auto first = dek('1');
  const auto second = dek('2');
  auto box = seal(first, as_bytes("plaintext"), {});
  second.expose([&](ByteView key) {
    ASSERT_EQ(crypto_aead_xchacha20poly1305_ietf_encrypt(
                  as_uchar(std::span(box).subspan(57)), nullptr, as_uchar(as_bytes("plaintext")), 9,
                  nullptr, 0, nullptr, as_uchar(ByteView(box).subspan(33, 24)), as_uchar(key)),
              0);
  });
  EXPECT_TRUE(refused(open(second, box, {})));
  EXPECT_TRUE(refused(open(first, box, {})));
}

TEST(Seal, ThrowsForAKeyOfTheWrongLength) {
  const auto box = seal(dek('k'), as_bytes("plaintext"), {});
  for (const std::size_t length : std::initializer_list<std::size_t>{0, 16, 31, 33}) {
    const Dek key{SecureBuffer(length)};
    EXPECT_THROW(seal(key, as_bytes("p"), {}), std::logic_error);
    EXPECT_THROW((void)open(key, box, {}), std::logic_error);
  }
}

}  // namespace
}  // namespace postern::crypto
