#include "vault/root_key_pkcs11.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <string>

#include "crypto/aead.h"
#include "support/code_of.h"
#include "support/soft_token.h"
#include "support/temporary_directory.h"

namespace postern::vault {
namespace {

namespace fs = std::filesystem;
using test::code_of;
using test::SoftToken;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

Result<SecureBuffer> read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail(ErrorCode::Unavailable, "no such file");
  return SecureBuffer::copy_of(
      std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()));
}

class RootKeyPkcs11Test : public testing::Test {
 protected:
  std::string create() {
    const auto made = RootKeyPkcs11::create(keys_, where_, "postern", read_file);
    EXPECT_TRUE(made.ok()) << made.error().detail;
    return made.ok() ? made.value() : "";
  }
  RootKeyPkcs11 provider(std::chrono::seconds again_after = std::chrono::seconds(0)) {
    return RootKeyPkcs11(keys_, where_, read_file, again_after);
  }
  std::string text() const {
    const auto bytes = read_file(keys_);
    return std::string(as_text(bytes.value().readable()));
  }
  /// As a file that is put in its place.
  void put(const fs::path& path, const std::string& content) const {
    fs::rename(directory_.write("fresh", content), path);
  }
  std::string refusal() {
    const auto keys = provider().load();
    EXPECT_EQ(code_of(keys), ErrorCode::Unavailable);
    return keys.ok() ? "" : keys.error().detail;
  }

  SoftToken token_;
  test::TemporaryDirectory directory_;
  const fs::path keys_ = directory_.path() / "root.key";
  const fs::path pin_ = directory_.write("pin", std::string(SoftToken::kPin) + "\n");
  const RootKeyPkcs11::Where where_{SoftToken::module(), std::string(SoftToken::kLabel), pin_};
};

TEST_F(RootKeyPkcs11Test, GivesTheSameKeysAgainTheNewestFirst) {
  const auto first = create();
  EXPECT_THAT(text(), StartsWith("postern-root-pkcs11-v1:" + first + ":postern:"));
  EXPECT_EQ(fs::status(keys_).permissions() & fs::perms::mask,
            fs::perms::owner_read | fs::perms::owner_write);
  const auto one = provider().load();
  ASSERT_TRUE(one.ok()) << one.error().detail;
  EXPECT_EQ(one.value().ids(), std::vector<std::string>{first});

  const auto second = RootKeyPkcs11::add_to(keys_, where_, "another", read_file);
  ASSERT_TRUE(second.ok()) << second.error().detail;
  const auto two = provider().load();
  ASSERT_TRUE(two.ok()) << two.error().detail;
  EXPECT_EQ(two.value().ids(), (std::vector<std::string>{second.value(), first}));
  const auto box = crypto::seal(one.value().active(), as_bytes("x"), {});
  EXPECT_TRUE(crypto::open(*two.value().find(first), box, {}).ok());
}

TEST_F(RootKeyPkcs11Test, NeverReplacesAFileAndRefusesBadLabels) {
  create();
  const auto before = text();
  EXPECT_EQ(code_of(RootKeyPkcs11::create(keys_, where_, "postern", read_file)),
            ErrorCode::Conflict);
  for (const auto* label : {"", "a:b", "a b", "a\nb"}) {
    EXPECT_EQ(code_of(RootKeyPkcs11::add_to(keys_, where_, label, read_file)),
              ErrorCode::MalformedRequest)
        << label;
  }
  EXPECT_EQ(text(), before);
}

TEST_F(RootKeyPkcs11Test, WhatIsAlteredOrOfAnotherTokenDoesNotOpen) {
  create();
  const auto whole = text();
  const auto changed = [&](std::size_t at, char with) {
    auto copy = whole;
    copy[at] = copy[at] == with ? 'a' : with;  // a digit of an id too
    return copy;
  };
  const auto box = whole.rfind(':') + 1;
  for (const auto at : {box, box + 20, whole.size() - 3}) {
    put(keys_, changed(at, 'B'));
    EXPECT_THAT(refusal(), HasSubstr("does not open")) << at;
  }
  put(keys_, changed(std::string("postern-root-pkcs11-v1:").size(), '0'));  // its id
  EXPECT_THAT(refusal(), HasSubstr("does not open"));
  put(keys_, whole + whole);
  EXPECT_NE(refusal(), "");
  for (const auto& text : {std::string("junk\n"), whole + "junk\n", whole.substr(0, box) + "\n",
                           whole.substr(0, whole.size() - 2) + "\n"}) {
    put(keys_, text);
    EXPECT_THAT(refusal(), HasSubstr("not of the form")) << text;
  }
  put(keys_, "# nothing\n");
  EXPECT_NE(refusal(), "");

  put(keys_, whole);
  EXPECT_TRUE(provider().load().ok());
  const SoftToken other;  // of the same label and PIN
  EXPECT_THAT(refusal(), HasSubstr("has no AES key labelled postern"));
}

TEST_F(RootKeyPkcs11Test, ARefusedPinIsTriedAgainOnlyWhenItsFileChanged) {
  create();
  put(pin_, "wrong-pin-canary\n");
  auto provider = this->provider();
  const auto refused = provider.load();
  ASSERT_EQ(code_of(refused), ErrorCode::Unavailable);
  EXPECT_THAT(refused.error().detail, HasSubstr("the PIN is wrong"));
  EXPECT_THAT(refused.error().detail, Not(HasSubstr("canary")));
  EXPECT_FALSE(provider.changed());
  put(pin_, std::string(SoftToken::kPin));
  EXPECT_TRUE(provider.changed());
  EXPECT_TRUE(provider.load().ok());
  EXPECT_FALSE(provider.changed());
}

TEST_F(RootKeyPkcs11Test, WhatFailsForNowIsTriedAgain) {
  create();
  const auto away = directory_.path() / "away";
  fs::rename(token_.tokens(), away);
  fs::create_directory(token_.tokens());
  auto soon = provider(), later = provider(std::chrono::hours(1));
  EXPECT_FALSE(soon.load().ok());
  EXPECT_FALSE(later.load().ok());
  EXPECT_TRUE(soon.changed());
  EXPECT_FALSE(later.changed());
  fs::remove(token_.tokens());
  fs::rename(away, token_.tokens());
  EXPECT_TRUE(soon.load().ok());
  EXPECT_FALSE(soon.changed());
}

TEST_F(RootKeyPkcs11Test, ThePinFileHasOneLine) {
  create();
  for (const auto* content : {"", "\n", "one\ntwo\n"}) {
    put(pin_, content);
    EXPECT_THAT(refusal(), HasSubstr("one line")) << content;
  }
}

}  // namespace
}  // namespace postern::vault
