#include "vault/root_key.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "crypto/aead.h"
#include "crypto/base64url.h"
#include "support/code_of.h"
#include "vault/root_key_access.h"

namespace postern::vault {
namespace {

namespace fs = std::filesystem;
using test::code_of;

struct AclEntry {
  unsigned tag, rights, id;
};
constexpr unsigned kNobody = 0xFFFFFFFF;  // ACL_UNDEFINED_ID

std::string acl(std::initializer_list<AclEntry> entries, unsigned version = 2) {
  std::string text;
  const auto number = [&](unsigned value, int bytes) {
    for (; bytes > 0; --bytes, value >>= 8) text += static_cast<char>(value & 0xFF);
  };
  number(version, 4);
  for (const auto& entry : entries) {
    number(entry.tag, 2);
    number(entry.rights, 2);
    number(entry.id, 4);
  }
  return text;
}

constexpr AclEntry kOwnerReads{0x01, 4, kNobody}, kGroupNone{0x04, 0, kNobody},
    kMaskReads{0x10, 4, kNobody}, kOthersNone{0x20, 0, kNobody};

struct RootKeyFile : ::testing::Test {
  RootKeyFile() {
    std::string pattern = (fs::temp_directory_path() / "postern-root-key-XXXXXX").string();
    directory = ::mkdtemp(pattern.data());
    file = directory / "root.key";
  }
  ~RootKeyFile() override { fs::remove_all(directory); }

  std::string content() const {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& text, mode_t mode = 0600) const {
    std::ofstream(file) << text;
    ::chmod(file.c_str(), mode);
  }
  void expect_refused(const std::string& why) const {
    const auto keys = RootKeys::load(file);
    ASSERT_EQ(code_of(keys), ErrorCode::Unavailable);
    EXPECT_NE(keys.error().detail.find(why), std::string::npos) << keys.error().detail;
    EXPECT_NE(keys.error().detail.find(file.string()), std::string::npos) << keys.error().detail;
  }

  fs::path directory;
  fs::path file;
};

bool same(const RootKey& a, const RootKey& b) {
  const auto box = crypto::seal(a, as_bytes("x"), {});
  return crypto::open(b, box, {}).ok();
}

TEST_F(RootKeyFile, IsCreatedPrivateAndLoads) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  struct stat status {};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);

  const auto keys = RootKeys::load(file);
  ASSERT_TRUE(keys.ok()) << keys.error().detail;
  EXPECT_EQ(keys.value().active_id().size(), 16u);
  EXPECT_EQ(keys.value().active().size(), 32u);
  EXPECT_TRUE(same(keys.value().active(), RootKeys::load(file).value().active()));
}

TEST_F(RootKeyFile, HasTheDocumentedFormat) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  const auto text = content();
  ASSERT_TRUE(text.starts_with("postern-root-key-v1:"));
  EXPECT_EQ(text.substr(20, 16).find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(text[36], ':');
  EXPECT_EQ(crypto::base64url_decode(text.substr(37, 43)).value().size(), 32u);
  EXPECT_EQ(text.substr(80), "\n");
}

TEST_F(RootKeyFile, IsPrivateWhateverTheUmask) {
  const auto before = ::umask(0);
  const auto status = RootKeys::create(file);
  ::umask(before);
  ASSERT_TRUE(status.ok());
  EXPECT_TRUE(RootKeys::load(file).ok());
}

TEST_F(RootKeyFile, IsNeverOverwritten) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  const auto before = content();
  EXPECT_EQ(code_of(RootKeys::create(file)), ErrorCode::Conflict);
  EXPECT_EQ(content(), before);
}

TEST_F(RootKeyFile, IsNotCreatedThroughALink) {
  fs::create_symlink(directory / "elsewhere", file);
  EXPECT_FALSE(RootKeys::create(file).ok());
  EXPECT_FALSE(fs::exists(directory / "elsewhere"));
}

TEST_F(RootKeyFile, IsNotCreatedWhereThereIsNoDirectory) {
  EXPECT_EQ(code_of(RootKeys::create(directory / "no" / "root.key")), ErrorCode::Unavailable);
}

// ---- adding ----

TEST_F(RootKeyFile, AnAddedKeyIsTheActiveOneAndTheOthersStay) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  const auto before = content();
  write("# kept\n" + before);
  const auto added = RootKeys::add_to(file);
  ASSERT_TRUE(added.ok()) << added.error().detail;
  const auto keys = RootKeys::load(file);
  ASSERT_TRUE(keys.ok()) << keys.error().detail;
  EXPECT_EQ(keys.value().ids(), (std::vector<std::string>{added.value(), before.substr(20, 16)}));
  EXPECT_EQ(keys.value().active_id(), added.value());
  EXPECT_TRUE(content().ends_with("\n# kept\n" + before));
  struct stat status {};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  EXPECT_EQ(std::distance(fs::directory_iterator(directory), {}), 1);
}

TEST_F(RootKeyFile, AnAddedKeyLeavesTheFileItsOwner) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root gives files away";
  ASSERT_TRUE(RootKeys::create(file).ok());
  ASSERT_EQ(::chown(file.c_str(), 0, 12345), 0);
  ASSERT_TRUE(RootKeys::add_to(file).ok());
  struct stat status {};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 0u);
  EXPECT_EQ(status.st_gid, 12345u);
}

TEST_F(RootKeyFile, NothingIsAddedToWhatIsNoRootKeyFile) {
  EXPECT_EQ(code_of(RootKeys::add_to(file)), ErrorCode::Unavailable);
  EXPECT_FALSE(fs::exists(file));
  write("not a key\n");
  EXPECT_EQ(code_of(RootKeys::add_to(file)), ErrorCode::Unavailable);
  EXPECT_EQ(content(), "not a key\n");
  fs::remove(file);
  ASSERT_TRUE(RootKeys::create(file).ok());
  const auto before = content();
  ::chmod(file.c_str(), 0644);
  EXPECT_EQ(code_of(RootKeys::add_to(file)), ErrorCode::Unavailable);
  EXPECT_EQ(content(), before);
}

TEST_F(RootKeyFile, OfManyAddedAtOnceNoneIsLost) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  std::mutex mutex;
  std::set<std::string> added;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 8; ++i) {
        const auto id = RootKeys::add_to(file);
        const std::lock_guard lock(mutex);
        if (id.ok()) {
          added.insert(id.value());
        } else {
          EXPECT_EQ(code_of(id), ErrorCode::Conflict) << id.error().detail;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const auto keys = RootKeys::load(file);
  ASSERT_TRUE(keys.ok());
  EXPECT_EQ(keys.value().ids().size(), added.size() + 1);
  for (const auto& id : added) EXPECT_NE(keys.value().find(id), nullptr) << id;
}

TEST(RootKeyIds, ShowIdsAndNothingElse) {
  EXPECT_EQ(root_key_ids({}), "none");
  EXPECT_EQ(root_key_ids({"0123456789abcdef"}), "0123456789abcdef");
  EXPECT_EQ(root_key_ids({"0123456789abcdef", "x y"}), "0123456789abcdef,malformed");
  EXPECT_FALSE(is_root_key_id("0123456789ABCDEF"));
  EXPECT_FALSE(is_root_key_id("0123456789abcde"));
}

TEST(RootKeys, NoneHasNone) {
  const auto none = RootKeys::none();
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(none.active_id(), "");
  EXPECT_EQ(none.find(""), nullptr);
}

TEST_F(RootKeyFile, TwoFilesHaveTwoKeys) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  ASSERT_TRUE(RootKeys::create(directory / "other").ok());
  const auto one = RootKeys::load(file);
  const auto other = RootKeys::load(directory / "other");
  EXPECT_NE(one.value().active_id(), other.value().active_id());
  EXPECT_FALSE(same(one.value().active(), other.value().active()));
}

TEST_F(RootKeyFile, TheFirstOfSeveralIsActive) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  const auto older = content();
  fs::remove(file);
  ASSERT_TRUE(RootKeys::create(file).ok());
  const auto newer = content();
  write("# new\n" + newer + "\n# old\n" + older);

  const auto keys = RootKeys::load(file);
  ASSERT_TRUE(keys.ok()) << keys.error().detail;
  EXPECT_EQ(keys.value().active_id(), newer.substr(20, 16));
  const auto* old_key = keys.value().find(older.substr(20, 16));
  ASSERT_NE(old_key, nullptr);
  EXPECT_FALSE(same(*old_key, keys.value().active()));
  EXPECT_EQ(keys.value().find("0000000000000000"), nullptr);
  EXPECT_EQ(keys.value().find(""), nullptr);
}

TEST_F(RootKeyFile, TheLastLineNeedsNoEnd) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  auto text = content();
  text.pop_back();
  write(text);
  EXPECT_TRUE(RootKeys::load(file).ok());
}

// ---- refusals: the file ----

TEST_F(RootKeyFile, MustExist) { expect_refused("cannot be opened"); }

TEST_F(RootKeyFile, MustNotBeALink) {
  ASSERT_TRUE(RootKeys::create(directory / "real").ok());
  fs::create_symlink(directory / "real", file);
  expect_refused("symbolic link");
}

TEST_F(RootKeyFile, MustBeAFile) {
  fs::create_directory(file);
  expect_refused("not a regular file");
}

TEST_F(RootKeyFile, MustNotBeAPipe) {  // and loading does not wait for a writer
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  expect_refused("not a regular file");
}

TEST_F(RootKeyFile, MustBePrivate) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  for (const mode_t mode : {0640u, 0604u, 0620u, 0602u, 0610u, 0601u, 0644u, 0660u, 0666u, 0777u}) {
    ::chmod(file.c_str(), mode);
    expect_refused("readable by group or others");
  }
  for (const mode_t mode : {0600u, 0400u, 0700u}) {
    ::chmod(file.c_str(), mode);
    EXPECT_TRUE(RootKeys::load(file).ok()) << std::oct << mode;
  }
}

TEST_F(RootKeyFile, MayBeOpenToThisUserThroughAnAcl) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  const auto set = [&](unsigned user) {
    const auto text = acl({kOwnerReads, {0x02, 4, user}, kGroupNone, kMaskReads, kOthersNone});
    return ::setxattr(file.c_str(), "system.posix_acl_access", text.data(), text.size(), 0) == 0;
  };
  if (!set(::geteuid())) GTEST_SKIP() << "this file system has no ACLs";
  struct stat status {};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0440u);  // the mask, not a right of the group
  EXPECT_TRUE(RootKeys::load(file).ok());
  ASSERT_TRUE(set(::geteuid() + 1));
  expect_refused("readable by group or others");
}

TEST_F(RootKeyFile, MustBelongToThisUserOrRoot) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  ASSERT_TRUE(RootKeys::create(file).ok());
  ASSERT_EQ(::chown(file.c_str(), 65534, 65534), 0);
  expect_refused("neither this user nor root");
}

TEST_F(RootKeyFile, HasABoundedSize) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  write(content() + std::string(64 * 1024, '#'));
  expect_refused("64 KiB");
}

// ---- refusals: the text ----

TEST_F(RootKeyFile, RefusesEveryChangedCharacterOfItsLine) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  const auto text = content();
  const auto line = text.substr(0, text.size() - 1);
  for (std::size_t i = 0; i < line.size(); ++i) {
    auto changed = line;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    EXPECT_FALSE(RootKeys::parse(changed).ok()) << i;
    EXPECT_FALSE(RootKeys::parse(line.substr(0, i)).ok()) << i;
  }
  for (const char* end : {" ", "\r\n", "=", "A", "\t", ":"}) {
    EXPECT_FALSE(RootKeys::parse(line + end).ok());
  }
  EXPECT_FALSE(RootKeys::parse(' ' + line).ok());
}

TEST_F(RootKeyFile, RefusesAMixUpOfIdAndKey) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  ASSERT_TRUE(RootKeys::create(directory / "other").ok());
  const auto one = content();
  file = directory / "other";
  const auto other = content();
  const auto mixed = RootKeys::parse(one.substr(0, 37) + other.substr(37));
  EXPECT_EQ(code_of(mixed), ErrorCode::Unavailable);
}

TEST_F(RootKeyFile, RefusesAKeyTwice) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  const auto twice = RootKeys::parse(content() + content());
  ASSERT_FALSE(twice.ok());
  EXPECT_NE(twice.error().detail.find("line 2"), std::string::npos);
}

TEST_F(RootKeyFile, RefusesAFileWithoutAKey) {
  for (const char* text : {"", "\n\n", "# only a comment\n"}) {
    EXPECT_EQ(code_of(RootKeys::parse(text)), ErrorCode::Unavailable);
  }
}

TEST_F(RootKeyFile, NamesTheLineButNeverItsText) {
  ASSERT_TRUE(RootKeys::create(file).ok());
  auto text = "# comment\n" + content();
  const auto canary = text.substr(text.rfind(':') + 1, 20);
  text[12] = 'X';
  write(text);
  const auto keys = RootKeys::load(file);
  ASSERT_FALSE(keys.ok());
  EXPECT_NE(keys.error().detail.find("line 2"), std::string::npos);
  EXPECT_EQ((keys.error().detail + keys.error().diagnostic).find(canary), std::string::npos);
}

TEST(RootKeys, GeneratedOnesDiffer) {
  const auto one = RootKeys::generate();
  const auto other = RootKeys::generate();
  EXPECT_NE(one.active_id(), other.active_id());
  EXPECT_FALSE(same(one.active(), other.active()));
  EXPECT_NE(one.find(one.active_id()), nullptr);
}

// ---- access control lists ----

TEST(RootKeyAcl, OneNamedUserIsPrivate) {
  // What systemd sets for LoadCredential= and User=: getfacl shows user:1000:r--.
  const auto text = acl({kOwnerReads, {0x02, 4, 1000}, kGroupNone, kMaskReads, kOthersNone});
  EXPECT_TRUE(acl_is_private(as_bytes(text), 1000));
  EXPECT_FALSE(acl_is_private(as_bytes(text), 1001));
}

TEST(RootKeyAcl, AnythingElseIsNot) {
  const auto is_private = [](const std::string& text) {
    return acl_is_private(as_bytes(text), 1000);
  };
  EXPECT_FALSE(is_private(acl({kOwnerReads, {0x04, 4, kNobody}, kMaskReads, kOthersNone})));
  EXPECT_FALSE(is_private(acl({kOwnerReads, kGroupNone, kMaskReads, {0x20, 4, kNobody}})));
  EXPECT_FALSE(is_private(acl({kOwnerReads, {0x08, 4, 7}, kMaskReads, kOthersNone})));  // a group
  EXPECT_FALSE(is_private(
      acl({kOwnerReads, {0x02, 4, 1000}, {0x02, 2, 1001}, kGroupNone, kMaskReads, kOthersNone})));
  EXPECT_FALSE(is_private(acl({kOwnerReads, {0x40, 4, kNobody}})));  // no such tag
}

TEST(RootKeyAcl, WhatIsNotUnderstoodIsNotPrivate) {
  EXPECT_FALSE(acl_is_private({}, 1000));
  EXPECT_FALSE(acl_is_private(as_bytes(acl({})), 1000));
  EXPECT_FALSE(acl_is_private(as_bytes(acl({kOwnerReads}, 1)), 1000));
  const auto text = acl({kOwnerReads, kOthersNone});
  for (std::size_t length = 0; length < text.size(); ++length) {
    if (length == 12) continue;  // a whole entry
    EXPECT_FALSE(acl_is_private(as_bytes(text.substr(0, length)), 1000)) << length;
  }
}

}  // namespace
}  // namespace postern::vault
