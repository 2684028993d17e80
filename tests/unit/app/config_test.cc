#include "app/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace postern::app {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

std::vector<std::string> problems_with(const std::vector<std::string>& settings) {
  const auto loaded = load_config(
      "", [](const std::string&) { return std::nullopt; }, settings);
  const auto* found = std::get_if<ConfigProblems>(&loaded);
  return found != nullptr ? found->problems : std::vector<std::string>();
}

TEST(LoadConfig, RefusesAVariableThatIsNoKeys) {
  EXPECT_THAT(problems_with({"POSTERND_LISTEN_PRT", "POSTERND_LISTEN_PORT"}),
              AllOf(Contains("POSTERND_LISTEN_PRT: is the environment variable of no key"),
                    Not(Contains(HasSubstr("POSTERND_LISTEN_PORT")))));
}

TEST(LoadConfig, KnowsTheVariablesOfItsProcess) {
  ::setenv("POSTERND_LISTEN_PRT", "1", 1);
  ::setenv("POSTERN_URL", "x", 1);
  EXPECT_THAT(process_settings(),
              AllOf(Contains("POSTERND_LISTEN_PRT"), Not(Contains("POSTERN_URL"))));
  ::unsetenv("POSTERND_LISTEN_PRT");
}

}  // namespace
}  // namespace postern::app
