#include "vault/root_key_passphrase.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "crypto/aead.h"
#include "support/code_of.h"
#include "support/temporary_directory.h"

namespace postern::vault {
namespace {

namespace fs = std::filesystem;
using test::code_of;

// Low, for tests are many; what is stored says how high it is.
constexpr crypto::StretchCost kLow{2, 8};
constexpr const char* kOld = "correct horse battery staple";
constexpr const char* kNew = "a passphrase that came later";

bool same(const RootKey& a, const RootKey& b) {
  return crypto::open(b, crypto::seal(a, as_bytes("x"), {}), {}).ok();
}
std::string line(const char* passphrase) {
  return RootKeyPassphrase::new_line(passphrase, kLow).value();
}
std::string id_in(const std::string& text) { return text.substr(25, 16); }

TEST(RootKeyPassphrase, GivesTheSameKeyAgain) {
  const auto text = line(kOld);
  const auto one = RootKeyPassphrase::derive(text, kOld);
  const auto two = RootKeyPassphrase::derive("# old\n\n" + text, std::string(kOld) + "\n");
  ASSERT_TRUE(one.ok()) << one.error().detail;
  ASSERT_TRUE(two.ok()) << two.error().detail;
  EXPECT_EQ(one.value().active_id(), id_in(text));
  EXPECT_EQ(one.value().active().size(), 32u);
  EXPECT_TRUE(same(one.value().active(), two.value().active()));
}

TEST(RootKeyPassphrase, EachLineIsAnotherKeyOfOneOfThePassphrases) {
  const auto older = line(kOld), newer = line(kNew), again = line(kOld);
  EXPECT_NE(id_in(older), id_in(again));  // by its salt
  const auto keys =
      RootKeyPassphrase::derive(newer + older + again, std::string(kNew) + "\n" + kOld + "\n");
  ASSERT_TRUE(keys.ok()) << keys.error().detail;
  EXPECT_EQ(keys.value().ids(),
            (std::vector<std::string>{id_in(newer), id_in(older), id_in(again)}));
}

TEST(RootKeyPassphrase, AnotherPassphraseOrAlteredParametersGiveNothing) {
  const auto text = line(kOld);
  const auto refused = [](const std::string& parameters, const std::string& passphrases) {
    const auto keys = RootKeyPassphrase::derive(parameters, passphrases);
    if (!keys.ok()) {
      EXPECT_EQ(keys.error().detail.find("horse"), std::string::npos) << keys.error().detail;
    }
    return code_of(keys) == ErrorCode::Unavailable;
  };
  EXPECT_TRUE(refused(text, kNew));
  EXPECT_TRUE(refused(text, std::string(kOld) + " "));
  EXPECT_TRUE(refused(text, "short"));
  EXPECT_TRUE(refused(text, ""));
  EXPECT_TRUE(refused(text, std::string(kOld) + "\nshort"));
  EXPECT_TRUE(refused("", kOld));
  EXPECT_TRUE(refused(text + text, kOld));  // one key twice
  EXPECT_TRUE(refused(text + "junk\n", kOld));
  const auto changed = [&](const std::string& from, const std::string& to) {
    auto copy = text;
    return copy.replace(copy.find(from), from.size(), to);
  };
  EXPECT_TRUE(refused(changed(":2:8:", ":3:8:"), kOld));
  EXPECT_TRUE(refused(changed(":2:8:", ":2:9:"), kOld));
  EXPECT_TRUE(refused(changed(":2:8:", ":02:8:"), kOld));
  EXPECT_TRUE(refused(changed(":2:8:", ":2:8:8:"), kOld));
  EXPECT_TRUE(refused(changed("argon2id-v1", "argon2id-v2"), kOld));
  EXPECT_TRUE(refused(changed(id_in(text), "0123456789abcdef"), kOld));
  EXPECT_TRUE(refused(line(kOld) + line(kOld) + line(kOld) + line(kOld) + line(kOld), kOld));
}

TEST(RootKeyPassphrase, MemoryAndTimeAreBounded) {
  const auto text = line(kOld);
  for (const char* cost : {":1:8:", ":17:8:", ":2:7:", ":2:1025:", ":2:4294967295:", ":0:0:"}) {
    auto copy = text;
    copy.replace(copy.find(":2:8:"), 5, cost);
    EXPECT_EQ(code_of(RootKeyPassphrase::derive(copy, kOld)), ErrorCode::Unavailable) << cost;
  }
  EXPECT_EQ(code_of(RootKeyPassphrase::new_line(kOld, {1, 8})), ErrorCode::MalformedRequest);
  EXPECT_EQ(code_of(RootKeyPassphrase::new_line(kOld, {2, 2048})), ErrorCode::MalformedRequest);
  EXPECT_EQ(code_of(RootKeyPassphrase::new_line("fifteen bytes..", kLow)), ErrorCode::Unavailable);
}

struct PassphraseFiles : ::testing::Test {
  RootKeyPassphrase provider() {
    return {parameters, passphrases, [](const fs::path& file) -> Result<SecureBuffer> {
              std::ifstream in(file);
              if (!in) return fail(ErrorCode::Unavailable, "absent");
              return SecureBuffer::copy_of(std::string(std::istreambuf_iterator<char>(in), {}));
            }};
  }
  void write(const fs::path& file, const std::string& text) const {
    std::ofstream(directory.path() / "fresh") << text;
    fs::rename(directory.path() / "fresh", file);
  }
  const test::TemporaryDirectory directory;
  const fs::path parameters = directory.path() / "root.argon2id";
  const fs::path passphrases = directory.path() / "passphrase";
};

TEST_F(PassphraseFiles, AreReadAgainWhenEitherChanges) {
  auto keys = provider();
  EXPECT_TRUE(keys.changed());
  EXPECT_EQ(code_of(keys.load()), ErrorCode::Unavailable);
  EXPECT_FALSE(keys.changed());
  ASSERT_TRUE(RootKeyPassphrase::create(parameters, kOld, kLow).ok());
  EXPECT_TRUE(keys.changed());
  EXPECT_EQ(code_of(keys.load()), ErrorCode::Unavailable);
  write(passphrases, kOld);
  EXPECT_TRUE(keys.changed());
  const auto loaded = keys.load();
  ASSERT_TRUE(loaded.ok()) << loaded.error().detail;
  EXPECT_FALSE(keys.changed());

  write(passphrases, std::string(kNew) + "\n" + kOld);
  const auto added = RootKeyPassphrase::add_to(parameters, std::string(kNew) + "\n" + kOld, kLow);
  ASSERT_TRUE(added.ok()) << added.error().detail;
  EXPECT_TRUE(keys.changed());
  EXPECT_EQ(keys.load().value().ids(),
            (std::vector<std::string>{added.value(), loaded.value().active_id()}));
  struct stat status {};
  ASSERT_EQ(::stat(parameters.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST_F(PassphraseFiles, AreNeverOverwrittenNorAddedToWhenTheyAreNone) {
  EXPECT_EQ(code_of(RootKeyPassphrase::add_to(parameters, kOld, kLow)), ErrorCode::Unavailable);
  write(parameters, "junk\n");
  EXPECT_EQ(code_of(RootKeyPassphrase::add_to(parameters, kOld, kLow)), ErrorCode::Unavailable);
  EXPECT_EQ(code_of(RootKeyPassphrase::create(parameters, kOld, kLow)), ErrorCode::Conflict);
}

}  // namespace
}  // namespace postern::vault
