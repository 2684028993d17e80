#include "http/basic_auth.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "crypto/base64url.h"

namespace postern::http {
namespace {

/// "id|secret", or the error's name.
std::string read(std::string_view header) {
  const auto result = basic_credentials(header);
  if (!result.ok()) return std::string(to_string(result.error().code));
  const auto& [id, secret] = result.value();
  return id + "|" + secret.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
}

std::string encoded(std::string_view text) { return "Basic " + crypto::base64(as_bytes(text)); }

// Vectors of the Basic scheme with form encoding; the last is RFC 8693 figure 2.
TEST(Rfc6749_2_3_1, ReadsEncodedAndRawBasicCredentials) {
  EXPECT_EQ(read("Basic Z3ctMDE6czNjcmV0X1g="), "gw-01|s3cret_X");
  EXPECT_EQ(read("Basic Z3clMkQwMTpzM2NyZXQlNUZY"), "gw-01|s3cret_X");
  EXPECT_EQ(read("Basic JTJEZ3c6YSUzQWIlMkJj"), "-gw|a:b+c");
  EXPECT_EQ(read("Basic cnMwODpsb25nLXNlY3VyZS1yYW5kb20tc2VjcmV0"),
            "rs08|long-secure-random-secret");
}

TEST(BasicCredentials, SchemeIsCaseInsensitiveAndBlanksMayRepeat) {
  EXPECT_EQ(read("bASIC Z3ctMDE6czNjcmV0X1g="), "gw-01|s3cret_X");
  EXPECT_EQ(read("Basic   Z3ctMDE6czNjcmV0X1g="), "gw-01|s3cret_X");
}

TEST(BasicCredentials, SplitsAtTheFirstColonAndDecodesPlus) {
  EXPECT_EQ(read(encoded("id:a:b")), "id|a:b");
  EXPECT_EQ(read(encoded("id:a+b")), "id|a b");
  EXPECT_EQ(read(encoded("id:")), "id|");
}

TEST(BasicCredentials, RefusesAnythingElse) {
  const std::vector<std::string> headers = {"",
                                            "Basic",
                                            "Basic ",
                                            "Bearer Z3ctMDE6czNjcmV0X1g=",
                                            "BasicZ3ctMDE6czNjcmV0X1g=",
                                            "Basic\tZ3ctMDE6czNjcmV0X1g=",
                                            "Basic Z3ctMDE6czNjcmV0X1g",
                                            "Basic Z3ct MDE6",
                                            "Basic Z3ctMDE6czNjcmV0X1g==",
                                            "Basic ====",
                                            encoded("no-colon"),
                                            encoded(":secret"),
                                            encoded("id:%"),
                                            encoded("id:%zz"),
                                            encoded("i%4:x"),
                                            encoded("id:%00"),
                                            encoded("id:a\nb"),
                                            encoded("id:%ff"),
                                            encoded(std::string("id:a\0b", 6)),
                                            "Basic " + std::string(20'000, 'A')};
  for (const auto& header : headers) EXPECT_EQ(read(header), "InvalidClient") << header;
}

TEST(BasicCredentials, ErrorDoesNotRepeatTheHeader) {
  const auto result = basic_credentials("Basic canary!");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().detail.find("canary"), std::string::npos);
}

TEST(BearerToken, ReadsB64Token) {
  const auto token = bearer_token("bearer mF_9.B5f-4.1JqM~+/==");
  ASSERT_TRUE(token.ok());
  EXPECT_EQ(token.value().expose([](ByteView bytes) { return std::string(as_text(bytes)); }),
            "mF_9.B5f-4.1JqM~+/==");
}

TEST(BearerToken, RefusesAnythingElse) {
  for (const std::string& header :
       {std::string(""), std::string("Bearer"), std::string("Bearer "), std::string("Bearer =="),
        std::string("Basic abc"), std::string("Bearer a b"), std::string("Bearer a,b"),
        std::string("Bearer a=b"), std::string("Bearer \"a\""), std::string("Bearer a\0b", 10),
        "Bearer " + std::string(20'000, 'a')}) {
    const auto token = bearer_token(header);
    ASSERT_FALSE(token.ok()) << header;
    EXPECT_EQ(token.error().code, ErrorCode::Unauthenticated);
  }
}

TEST(BareToken, IsAsStrictAsBearer) {
  EXPECT_TRUE(bare_token("a.b-c_~+/9==").ok());
  for (const auto* text : {"", "=", "a b", "a\tb", "Bearer a", "a\"b", "a=b", "\xc3\xa9"}) {
    EXPECT_EQ(bare_token(text).ok() ? ErrorCode::Internal : bare_token(text).error().code,
              ErrorCode::Unauthenticated)
        << text;
  }
  EXPECT_FALSE(bare_token(std::string(16 * 1024 + 1, 'a')).ok());
}

}  // namespace
}  // namespace postern::http
