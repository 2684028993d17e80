#include "crypto/pkcs11.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <string>

#include "support/code_of.h"
#include "support/soft_token.h"

namespace postern::crypto {
namespace {

using test::code_of;
using test::SoftToken;
using testing::HasSubstr;
using testing::Not;

constexpr std::array<std::byte, Pkcs11Token::kNonceBytes> kNonce{std::byte{7}};

class Pkcs11 : public testing::Test {
 protected:
  static Result<Pkcs11Token> open(std::string_view label = SoftToken::kLabel,
                                  std::string_view pin = SoftToken::kPin,
                                  const std::filesystem::path& module = SoftToken::module()) {
    return Pkcs11Token::open(module, label, pin);
  }
  SoftToken soft_;
};

TEST_F(Pkcs11, OpensWhatItSealedAndNothingElse) {
  auto opened = open();
  ASSERT_TRUE(opened.ok()) << opened.error().detail;
  auto& token = opened.value();
  ASSERT_TRUE(token.make_key("one").ok());
  ASSERT_TRUE(token.make_key("two").ok());
  const auto box = token.encrypt("one", kNonce, as_bytes("text"), as_bytes("row"));
  ASSERT_TRUE(box.ok()) << box.error().detail;
  const auto plain = token.decrypt("one", kNonce, box.value(), as_bytes("row"));
  ASSERT_TRUE(plain.ok()) << plain.error().detail;
  EXPECT_EQ(as_text(plain.value().readable()), "text");

  auto other_nonce = kNonce;
  other_nonce[11] = std::byte{1};
  const auto refused = [&](const Result<SecureBuffer>& result) {
    return code_of(result) == ErrorCode::Unavailable;
  };
  EXPECT_TRUE(refused(token.decrypt("two", kNonce, box.value(), as_bytes("row"))));
  EXPECT_TRUE(refused(token.decrypt("one", other_nonce, box.value(), as_bytes("row"))));
  EXPECT_TRUE(refused(token.decrypt("one", kNonce, box.value(), as_bytes("other row"))));
  for (std::size_t i = 0; i < box.value().size(); ++i) {
    auto altered = box.value();
    altered[i] ^= std::byte{1};
    EXPECT_TRUE(refused(token.decrypt("one", kNonce, altered, as_bytes("row")))) << i;
  }
  for (std::size_t size = 0; size < box.value().size(); ++size) {
    EXPECT_TRUE(
        refused(token.decrypt("one", kNonce, ByteView(box.value()).first(size), as_bytes("row"))))
        << size;
  }
  // After all of that it still opens what is whole.
  EXPECT_TRUE(token.decrypt("one", kNonce, box.value(), as_bytes("row")).ok());
}

TEST_F(Pkcs11, KeysStayWhenTheSessionEndsAndAreMadeOnce) {
  Bytes box;
  {
    auto token = open().value();
    EXPECT_EQ(code_of(token.find_key("one")), ErrorCode::NotFound);
    EXPECT_EQ(code_of(token.encrypt("one", kNonce, as_bytes("text"), {})), ErrorCode::NotFound);
    ASSERT_TRUE(token.make_key("one").ok());
    EXPECT_EQ(code_of(token.make_key("one")), ErrorCode::Conflict);
    box = token.encrypt("one", kNonce, as_bytes("text"), {}).value();
  }
  auto token = open().value();
  EXPECT_TRUE(token.find_key("one").ok());
  EXPECT_EQ(as_text(token.decrypt("one", kNonce, box, {}).value().readable()), "text");
}

TEST_F(Pkcs11, RefusesAWrongPinWithoutRepeatingIt) {
  const auto refused = open(SoftToken::kLabel, "wrong-pin-canary");
  EXPECT_EQ(code_of(refused), ErrorCode::Unauthenticated);
  EXPECT_THAT(refused.error().detail, HasSubstr("the PIN is wrong"));
  EXPECT_THAT(refused.error().detail, Not(HasSubstr("canary")));
  EXPECT_TRUE(open().ok());  // nothing of the failed one is left
}

TEST_F(Pkcs11, NamesATokenByItsWholeLabel) {
  for (const auto* label : {"postern", "postern-test-2", "", "Postern-Test"}) {
    EXPECT_EQ(code_of(open(label)), ErrorCode::Unavailable) << label;
  }
  soft_.add(SoftToken::kLabel);
  EXPECT_THAT(open().error().detail, HasSubstr("two tokens"));
}

TEST_F(Pkcs11, LoadsOnlyAModuleThatNobodyElseCanChange) {
  const auto with = [](const std::filesystem::path& module) {
    const auto opened = open(SoftToken::kLabel, SoftToken::kPin, module);
    return opened.ok() ? "" : opened.error().detail;
  };
  EXPECT_THAT(with("libsofthsm2.so"), HasSubstr("absolute"));
  EXPECT_THAT(with("/nowhere/module.so"), HasSubstr("is no file"));
  EXPECT_THAT(with("/usr/lib"), HasSubstr("is no file"));
  test::TemporaryDirectory directory;
  const auto copy = directory.path() / "module.so";
  std::filesystem::copy_file(SoftToken::module(), copy);
  ::chmod(copy.c_str(), 0666);
  EXPECT_THAT(with(copy), HasSubstr("may be changed by others"));
  EXPECT_THAT(with(directory.write("text.so", "text")), HasSubstr("cannot be loaded"));
}

}  // namespace
}  // namespace postern::crypto
