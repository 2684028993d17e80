#include "crypto/base64url.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include "vectors/hex.h"

namespace postern::crypto {
namespace {

std::string decoded(std::string_view text) {
  const auto bytes = base64url_decode(text);
  return bytes.ok() ? std::string(as_text(bytes.value())) : "(refused)";
}

TEST(Base64url, EncodesTheVectorsOfRfc4648WithoutPadding) {
  const std::pair<std::string_view, std::string_view> vectors[] = {
      {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},         {"foo", "Zm9v"},
      {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, encoded] : vectors) {
    EXPECT_EQ(base64url(as_bytes(plain)), encoded);
    EXPECT_EQ(decoded(encoded), plain);
  }
}

TEST(Base64url, UsesTheUrlSafeAlphabet) {
  const auto bytes = vectors::from_hex("fbefff");
  EXPECT_EQ(base64url(bytes), "--__");
  EXPECT_EQ(base64(bytes), "++//");
}

TEST(Base64url, RefusesEverythingButTheOneEncoding) {
  const std::string_view refused[] = {
      "Zg==", "Zg=",  "Zm8=", "=",      "Z",       "Zm9vY",       // padding, lone character
      "Zh",   "Zm9",  "Zn",   "Zm9vYh",                           // unused bits not zero
      "Zm 8", " Zm8", "Zm8 ", "Zm8\n",  "Zm8\r\n", "\tZm8",       // white space
      "++//", "Zm8+", "Zm8/", "Zm8.",   "Zm8,",    "Zm\xc3\xb6",  // other alphabets
  };
  for (const auto text : refused) EXPECT_FALSE(base64url_decode(text).ok()) << text;
  EXPECT_FALSE(base64url_decode(std::string_view("Zm8\0", 4)).ok());
  EXPECT_FALSE(base64url_decode(std::string_view("Zm\0008", 4)).ok());
}

TEST(Base64url, AcceptsExactly64Characters) {
  int accepted = 0;
  for (int c = 0; c < 256; ++c) {
    const std::string text{'A', 'A', 'A', static_cast<char>(c)};
    if (base64url_decode(text).ok()) ++accepted;
  }
  EXPECT_EQ(accepted, 64);
}

TEST(Base64url, GivesBackWhatWasEncoded) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (std::size_t length = 0; length < 200; ++length) {
    Bytes bytes(length);
    for (auto& byte : bytes) byte = static_cast<std::byte>(random());
    const auto text = base64url(bytes);
    const auto back = base64url_decode(text);
    ASSERT_TRUE(back.ok());
    ASSERT_EQ(back.value(), bytes);
    ASSERT_EQ(base64url(back.value()), text);
  }
}

TEST(Base64, DemandsExactPadding) {
  EXPECT_EQ(base64(as_bytes("fo")), "Zm8=");
  ASSERT_TRUE(base64_decode("Zm8=").ok());
  EXPECT_EQ(as_text(base64_decode("Zg==").value()), "f");
  for (const std::string_view text : {"Zm8", "Zg=", "Zg", "Zg===", "Zm9v=", "Zh==", "Zm9=", "Zm8= ",
                                      "Zm 8=", "--__", "Zg==Zg=="}) {
    EXPECT_FALSE(base64_decode(text).ok()) << text;
  }
  EXPECT_FALSE(base64_decode(std::string_view("Zm8=\0", 5)).ok());
}

TEST(Base64, AcceptsExactly64Characters) {
  int accepted = 0;
  for (int c = 0; c < 256; ++c) {
    const std::string text{'Z', 'm', static_cast<char>(c), 'v'};
    const auto bytes = base64_decode(text);
    if (!bytes.ok()) continue;
    ++accepted;
    EXPECT_EQ(base64(bytes.value()), text);
  }
  EXPECT_EQ(accepted, 64);
}

}  // namespace
}  // namespace postern::crypto
