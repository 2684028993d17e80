#include "crypto/hash.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "crypto/base64url.h"
#include "crypto/random.h"
#include "vectors/aead.h"
#include "vectors/hex.h"

namespace postern::crypto {
namespace {

using vectors::from_hex;

Bytes bytes_of(const Hash256& hash) { return {hash.begin(), hash.end()}; }

template <class Key>
Key key_of(std::string_view hex) {
  return Key(SecureBuffer::copy_of(from_hex(hex)));
}

template <class Key>
Bytes exposed(const Key& key) {
  return key.expose([](ByteView bytes) { return Bytes(bytes.begin(), bytes.end()); });
}

TEST(Sha256, MatchesFips180) {
  EXPECT_EQ(bytes_of(sha256(as_bytes(""))),
            from_hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
  EXPECT_EQ(bytes_of(sha256(as_bytes("abc"))),
            from_hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
}

TEST(Sha256, IsTheSameFromManyThreads) {
  const auto expected = sha256(as_bytes("abc"));
  std::vector<std::thread> threads;
  std::vector<int> wrong(8);
  for (auto& count : wrong) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) count += sha256(as_bytes("abc")) != expected ? 1 : 0;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(8));
}

TEST(HashOfParts, MatchesAnIndependentImplementation) {
  EXPECT_EQ(bytes_of(sha256_parts({as_bytes("ab"), as_bytes("c")})),
            from_hex(vectors::kSha256OfParts));
  EXPECT_EQ(
      bytes_of(keyed_hash(key_of<DerivedKey>(vectors::kSealKey), {as_bytes("ab"), as_bytes("c")})),
      from_hex(vectors::kKeyedHashOfParts));
  // The same function, of other keys.
  EXPECT_EQ(
      bytes_of(keyed_hash(key_of<HeldShare>(vectors::kSealKey), {as_bytes("ab"), as_bytes("c")})),
      from_hex(vectors::kKeyedHashOfParts));
  EXPECT_EQ(exposed(combine(key_of<Kek>(vectors::kSealKey), {as_bytes("ab"), as_bytes("c")})),
            from_hex(vectors::kKeyedHashOfParts));
}

TEST(HashOfParts, KnowsWhereOnePartEnds) {
  const auto key = key_of<DerivedKey>(vectors::kSealKey);
  const std::vector<Hash256> plain = {
      sha256_parts({as_bytes("ab"), as_bytes("c")}), sha256_parts({as_bytes("a"), as_bytes("bc")}),
      sha256_parts({as_bytes("abc")}), sha256_parts({as_bytes("abc"), as_bytes("")}),
      sha256_parts({as_bytes(""), as_bytes("abc")})};
  const std::vector<Hash256> keyed = {keyed_hash(key, {as_bytes("ab"), as_bytes("c")}),
                                      keyed_hash(key, {as_bytes("a"), as_bytes("bc")}),
                                      keyed_hash(key, {as_bytes("abc")}),
                                      keyed_hash(key, {as_bytes("abc"), as_bytes("")}),
                                      keyed_hash(key, {as_bytes(""), as_bytes("abc")})};
  for (std::size_t i = 0; i < plain.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      EXPECT_NE(plain[i], plain[j]);
      EXPECT_NE(keyed[i], keyed[j]);
    }
  }
}

TEST(Derive, MatchesAnIndependentImplementation) {
  const auto kek = key_of<Kek>(vectors::kSealKey);
  EXPECT_EQ(exposed(derive(kek, "lookup")), from_hex(vectors::kSubkeyLookup1));
  EXPECT_EQ(exposed(derive(kek, "lookup", 2)), from_hex(vectors::kSubkeyLookup2));
  EXPECT_EQ(exposed(derive(key_of<RootKey>(vectors::kSealKey), "lookup")),
            from_hex(vectors::kSubkeyLookup1));
}

TEST(Derive, RefusesLabelsAndKeysOfTheWrongLength) {
  const auto kek = key_of<Kek>(vectors::kSealKey);
  EXPECT_THROW(derive(kek, ""), std::logic_error);
  EXPECT_THROW(derive(kek, "ninebytes"), std::logic_error);
  EXPECT_THROW(derive(kek, std::string_view("a\0", 2)), std::logic_error);
  EXPECT_THROW(derive(Kek(SecureBuffer(31)), "lookup"), std::logic_error);
  EXPECT_THROW(keyed_hash(DerivedKey(SecureBuffer(33)), {}), std::logic_error);
  EXPECT_THROW(keyed_hash(HeldShare(SecureBuffer(31)), {}), std::logic_error);
  EXPECT_THROW(combine(Kek(SecureBuffer(31)), {}), std::logic_error);
  EXPECT_NO_THROW(derive(kek, "8_bytes!"));
}

TEST(Equal, ComparesContentAndLength) {
  EXPECT_TRUE(equal("", ""));
  EXPECT_TRUE(equal("secret", "secret"));
  EXPECT_FALSE(equal("secret", "secreT"));
  EXPECT_FALSE(equal("Secret", "secret"));
  EXPECT_FALSE(equal("secret", "secret "));
  EXPECT_FALSE(equal("secret", ""));
  EXPECT_FALSE(equal(std::string_view("a\0b", 3), std::string_view("a\0c", 3)));
}

TEST(Random, GivesTextOfTheStatedShapeThatDoesNotRepeat) {
  EXPECT_EQ(random_id().size(), 22U);
  EXPECT_EQ(random_token().size(), 43U);
  EXPECT_NE(random_id(), random_id());
  EXPECT_NE(random_token(), random_token());
  EXPECT_EQ(random_token().find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                             "0123456789-_"),
            std::string::npos);
}

TEST(Random, FillsEveryByte) {
  Bytes seen(64);
  for (int i = 0; i < 64; ++i) {
    Bytes bytes(seen.size());
    random_bytes(bytes);
    for (std::size_t at = 0; at < seen.size(); ++at) seen[at] |= bytes[at];
  }
  // 64 draws leave a given bit zero with probability 2^-64.
  EXPECT_EQ(seen, Bytes(64, std::byte{0xff}));
  EXPECT_NO_THROW(random_bytes({}));
}

// RFC 7636 appendix B and RFC 9449 §4.2 `ath`: base64url of the SHA-256 of ASCII text.
TEST(Sha256, TV6_TV7_MatchesPkceAndDpop) {
  const auto of = [](std::string_view text) { return base64url(sha256(as_bytes(text))); };
  EXPECT_EQ(of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
  EXPECT_EQ(of("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"),
            "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
}

}  // namespace
}  // namespace postern::crypto
