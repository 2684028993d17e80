#include "vault/fields.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/code_of.h"

namespace postern::vault {
namespace {

using test::code_of;

FieldValue value(std::string_view text) { return FieldValue(SecureBuffer::copy_of(text)); }

Fields fields(const std::vector<std::pair<std::string, std::string>>& pairs) {
  Fields made;
  for (const auto& [name, text] : pairs) made.emplace(name, value(text));
  return made;
}

std::string encoded(const Fields& of) { return std::string(as_text(encode_fields(of).readable())); }

std::string revealed(const FieldValue& of) {
  return of.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
}

TEST(Fields, HaveTheDocumentedEncoding) {
  EXPECT_EQ(encoded(fields({{"token", "t"}, {"host", ""}})), std::string("\1"
                                                                         "\0\0\0\2"
                                                                         "\0\0\0\4host\0\0\0\0"
                                                                         "\0\0\0\5token\0\0\0\1t",
                                                                         5 + 12 + 14));
}

TEST(Fields, ComeBackAsTheyWere) {
  const auto bytes = encoded(fields({{"a", std::string("\0\xFF\n", 3)}, {"B_2", ""}}));
  const auto decoded = decode_fields(as_bytes(bytes));
  ASSERT_TRUE(decoded.ok());
  ASSERT_EQ(decoded.value().size(), 2u);
  EXPECT_EQ(revealed(decoded.value().at("a")), std::string("\0\xFF\n", 3));
  EXPECT_EQ(revealed(decoded.value().at("B_2")), "");
}

TEST(Fields, EveryShorterOrLongerTextIsRefused) {
  const auto whole = encoded(fields({{"host", "example"}, {"token", "t"}}));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_EQ(code_of(decode_fields(as_bytes(whole.substr(0, length)))), ErrorCode::Internal);
  }
  EXPECT_FALSE(decode_fields(as_bytes(whole + '\0')).ok());
}

TEST(Fields, RefusesWhatItCannotHaveWritten) {
  const std::string good = encoded(fields({{"a", "1"}, {"b", "2"}}));
  const auto with = [&](std::size_t at, char byte) {
    auto changed = good;
    changed.at(at) = byte;
    return changed;
  };
  ASSERT_TRUE(decode_fields(as_bytes(good)).ok());
  EXPECT_FALSE(decode_fields(as_bytes(with(0, 2))).ok());       // version
  EXPECT_FALSE(decode_fields(as_bytes(with(4, 1))).ok());       // fewer fields than there are
  EXPECT_FALSE(decode_fields(as_bytes(with(4, 3))).ok());       // more
  EXPECT_FALSE(decode_fields(as_bytes(with(1, '\x7f'))).ok());  // very many
  EXPECT_FALSE(decode_fields(as_bytes(with(9, 'c'))).ok());     // not in order
  EXPECT_FALSE(decode_fields(as_bytes(with(9, 'b'))).ok());     // repeated
  EXPECT_FALSE(decode_fields(as_bytes(with(9, '-'))).ok());     // no name
  EXPECT_FALSE(decode_fields(as_bytes(with(5, '\xff'))).ok());  // endless name
  EXPECT_FALSE(decode_fields(as_bytes(std::string("\1\0\0\0\0", 5))).ok());  // none
}

TEST(Fields, ValidNames) {
  for (const auto& name :
       {std::string("a"), std::string("_"), std::string("A9_z"), std::string(64, 'x')}) {
    EXPECT_TRUE(validate_fields(fields({{name, "v"}})).ok()) << name;
  }
  for (const auto& name :
       {std::string(""), std::string("9a"), std::string("a-b"), std::string("a.b"),
        std::string("a b"), std::string("a=b"), std::string("\xC3\xA9"), std::string("a\0", 2),
        std::string("a\n"), std::string(65, 'x')}) {
    EXPECT_EQ(code_of(validate_fields(fields({{name, "v"}}))), ErrorCode::MalformedRequest) << name;
  }
}

Fields many(std::size_t count, std::size_t size) {
  Fields made;
  for (std::size_t i = 0; i < count; ++i) {
    made.emplace("f" + std::to_string(i), value(std::string(size, 'x')));
  }
  return made;
}

TEST(Fields, BoundsOnCountAndSize) {
  EXPECT_EQ(code_of(validate_fields({})), ErrorCode::MalformedRequest);
  EXPECT_TRUE(validate_fields(many(32, 1)).ok());
  EXPECT_EQ(code_of(validate_fields(many(33, 1))), ErrorCode::TooLarge);
  EXPECT_TRUE(validate_fields(many(1, 0)).ok());
  EXPECT_TRUE(validate_fields(many(1, 64 * 1024)).ok());
  EXPECT_EQ(code_of(validate_fields(many(1, 64 * 1024 + 1))), ErrorCode::TooLarge);
  EXPECT_TRUE(validate_fields(many(4, 64 * 1024)).ok());
  auto beyond = many(4, 64 * 1024);
  beyond.emplace("one_more", value("x"));
  EXPECT_EQ(code_of(validate_fields(beyond)), ErrorCode::TooLarge);
}

TEST(Fields, ErrorsNeverQuoteTheInput) {
  const auto refused = validate_fields(fields({{"can-ary", "canary"}}));
  EXPECT_EQ((refused.error().detail + refused.error().diagnostic).find("can"), std::string::npos);
}

TEST(Fields, EveryAcceptedTextIsTheOneEncoding) {
  const auto good = encoded(fields({{"a", "1"}, {"bb", "22"}, {"c", ""}}));
  std::mt19937 random(20261121);
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    auto text = good;
    for (unsigned flips = 1 + static_cast<unsigned>(random() % 3); flips > 0; --flips) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    const auto decoded = decode_fields(as_bytes(text));
    if (!decoded.ok()) continue;
    ++accepted;
    ASSERT_EQ(encoded(decoded.value()), text);
    ASSERT_TRUE(validate_fields(decoded.value()).ok());
  }
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace postern::vault
