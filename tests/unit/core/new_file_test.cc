#include "core/new_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "support/code_of.h"
#include "support/temporary_directory.h"

namespace postern {
namespace {

namespace fs = std::filesystem;
using test::code_of;

std::string content_of(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(MakePrivateFile, IsWholeAndPrivateAndAlone) {
  const test::TemporaryDirectory directory;
  const auto before = ::umask(0);
  const auto made = make_private_file(directory.path() / "key", "secret\n");
  ::umask(before);
  ASSERT_TRUE(made.ok()) << made.error().detail;
  EXPECT_EQ(content_of(directory.path() / "key"), "secret\n");
  struct stat facts {};
  ASSERT_EQ(::stat((directory.path() / "key").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 1);
}

TEST(MakePrivateFile, ReplacesNothing) {
  const test::TemporaryDirectory directory;
  std::ofstream(directory.path() / "key") << "there";
  fs::create_symlink(directory.path() / "elsewhere", directory.path() / "link");
  EXPECT_EQ(code_of(make_private_file(directory.path() / "key", "x")), ErrorCode::Conflict);
  EXPECT_EQ(code_of(make_private_file(directory.path() / "link", "x")), ErrorCode::Conflict);
  EXPECT_EQ(content_of(directory.path() / "key"), "there");
  EXPECT_FALSE(fs::exists(directory.path() / "elsewhere"));
  EXPECT_FALSE(fs::exists(directory.path() / "key.new"));
}

TEST(MakePrivateFile, IsNotHinderedByAnInterruptedOne) {
  const test::TemporaryDirectory directory;
  std::ofstream(directory.path() / "key.new") << "half";
  ASSERT_TRUE(make_private_file(directory.path() / "key", "whole").ok());
  EXPECT_EQ(content_of(directory.path() / "key"), "whole");
  EXPECT_FALSE(fs::exists(directory.path() / "key.new"));
}

TEST(MakePrivateFile, SaysWhereAndWhy) {
  const test::TemporaryDirectory directory;
  const auto status = make_private_file(directory.path() / "no" / "key", "x");
  EXPECT_EQ(code_of(status), ErrorCode::Unavailable);
  EXPECT_NE(status.error().detail.find("no/key: cannot be created: No such file"),
            std::string::npos)
      << status.error().detail;
}

TEST(ReplacePrivateFile, IsTheOldOrTheNewWhole) {
  const test::TemporaryDirectory directory;
  const auto file = directory.path() / "key";
  ASSERT_TRUE(make_private_file(file, "old").ok());
  std::ofstream(directory.path() / "key.new") << "half";  // of a run that was interrupted
  const auto before = ::umask(0);
  const auto status = replace_private_file(file, "new", ::geteuid(), ::getegid());
  ::umask(before);
  ASSERT_TRUE(status.ok()) << status.error().detail;
  EXPECT_EQ(content_of(file), "new");
  struct stat facts {};
  ASSERT_EQ(::stat(file.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0600u);
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 1);
}

TEST(ReplacePrivateFile, ReplacesALinkAndNotWhatItLeadsTo) {
  const test::TemporaryDirectory directory;
  std::ofstream(directory.path() / "target") << "there";
  fs::create_symlink(directory.path() / "target", directory.path() / "key");
  ASSERT_TRUE(replace_private_file(directory.path() / "key", "new", ::geteuid(), ::getegid()).ok());
  EXPECT_EQ(content_of(directory.path() / "target"), "there");
  EXPECT_FALSE(fs::is_symlink(directory.path() / "key"));
}

TEST(ReplacePrivateFile, AFailureLeavesTheOldAndNothingElse) {
  const test::TemporaryDirectory directory;
  EXPECT_EQ(
      code_of(replace_private_file(directory.path() / "no" / "key", "x", ::geteuid(), ::getegid())),
      ErrorCode::Unavailable);
  fs::create_directory(directory.path() / "folder");
  EXPECT_EQ(
      code_of(replace_private_file(directory.path() / "folder", "x", ::geteuid(), ::getegid())),
      ErrorCode::Unavailable);
  EXPECT_TRUE(fs::is_directory(directory.path() / "folder"));
  EXPECT_FALSE(fs::exists(directory.path() / "folder.new"));
}

}  // namespace
}  // namespace postern
