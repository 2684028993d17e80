#include "app/dev.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "support/temporary_directory.h"

namespace postern::app {
namespace {

using testing::HasSubstr;

DevOptions in(const std::filesystem::path& directory) {
  DevOptions options;
  options.directory = directory;
  return options;
}

TEST(PrepareDev, LeavesADirectoryOfOthersAlone) {
  const test::TemporaryDirectory directory;
  directory.write("thesis.tex", "years of work");
  ASSERT_EQ(::chmod(directory.path().c_str(), 0750), 0);
  const auto prepared = prepare_dev(in(directory.path()), process_environment());
  ASSERT_FALSE(prepared.ok());
  EXPECT_THAT(prepared.error().detail, HasSubstr("holds no data of posternd"));
  struct stat facts {};
  ASSERT_EQ(::stat(directory.path().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0750u);
  EXPECT_FALSE(std::filesystem::exists(directory.path() / "root.key"));
}

TEST(PrepareDev, WantsAPortThatIssuersCanName) {
  const test::TemporaryDirectory directory;
  auto options = in(directory.path());
  options.port = 0;
  const auto prepared = prepare_dev(options, process_environment());
  ASSERT_FALSE(prepared.ok());
  EXPECT_THAT(prepared.error().detail, HasSubstr("--port 1 to 65535"));
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

}  // namespace
}  // namespace postern::app
