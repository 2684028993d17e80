#include "app/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <variant>
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

std::vector<std::string> problems_of(const std::map<std::string, std::string>& variables) {
  const auto loaded = load_config("", [&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found != variables.end() ? std::optional(found->second) : std::nullopt;
  });
  const auto* found = std::get_if<ConfigProblems>(&loaded);
  return found != nullptr ? found->problems : std::vector<std::string>();
}

TEST(LoadConfig, RootKeysComeFromOnePlace) {
  const auto about_keys = [](const std::map<std::string, std::string>& variables) {
    std::vector<std::string> found;
    for (const auto& problem : problems_of(variables)) {
      if (problem.starts_with("keys.")) found.push_back(problem);
    }
    return found;
  };
  EXPECT_THAT(about_keys({}), Contains(HasSubstr("keys.root_key_file: is required")));
  EXPECT_THAT(about_keys({{"POSTERND_KEYS_ROOT_KEY_FILE", "/k"}}), testing::IsEmpty());
  EXPECT_THAT(
      about_keys({{"POSTERND_KEYS_ROOT_KEY_FILE", "/k"}, {"POSTERND_KEYS_PASSPHRASE_FILE", "/p"}}),
      testing::IsEmpty());
  EXPECT_THAT(about_keys({{"POSTERND_KEYS_ROOT_KEY_COMMAND", "/bin/keys,now"}}),
              testing::IsEmpty());
  EXPECT_THAT(about_keys({{"POSTERND_KEYS_ROOT_KEY_COMMAND", "keys"}}),
              Contains(HasSubstr("absolute path")));
  EXPECT_THAT(about_keys({{"POSTERND_KEYS_ROOT_KEY_COMMAND", "/bin/keys"},
                          {"POSTERND_KEYS_ROOT_KEY_FILE", "/k"}}),
              Contains(HasSubstr("not both")));
  EXPECT_THAT(about_keys({{"POSTERND_KEYS_ROOT_KEY_COMMAND", "/bin/keys"},
                          {"POSTERND_KEYS_PASSPHRASE_FILE", "/p"}}),
              Contains(HasSubstr("goes with root_key_file")));
}

TEST(LoadConfig, ARootKeyThatSystemdDidNotGiveIsLookedForWhereItWouldBe) {
  const auto problems = [](const std::map<std::string, std::string>& variables) {
    return testing::Value(problems_of(variables), Contains(HasSubstr("keys.root_key_file")));
  };
  EXPECT_FALSE(problems({{"CREDENTIALS_DIRECTORY", "/no/such/directory"}}));
  EXPECT_TRUE(problems({{"CREDENTIALS_DIRECTORY", ""}}));
}

TEST(LoadConfig, TheShareStoreIsAnotherDatabaseThanTheOneThatIsBackedUp) {
  const auto about_shares = [](const std::map<std::string, std::string>& variables) {
    std::vector<std::string> found;
    for (const auto& problem : problems_of(variables)) {
      if (problem.find("share_store") != problem.npos) found.push_back(problem);
    }
    return found;
  };
  EXPECT_THAT(about_shares({}), testing::IsEmpty()) << "there need be none";
  EXPECT_THAT(about_shares({{"POSTERND_DATABASE_URL", "dbname=postern"},
                            {"POSTERND_SHARE_STORE_URL", "dbname=postern_shares"}}),
              testing::IsEmpty());
  EXPECT_THAT(about_shares({{"POSTERND_DATABASE_URL", "dbname=postern"},
                            {"POSTERND_SHARE_STORE_URL", "dbname=postern"}}),
              Contains(HasSubstr("the database that backups are made of")));
  EXPECT_THAT(about_shares({{"POSTERND_SHARE_STORE_URL", "dbname=postern_shares"},
                            {"POSTERND_SHARE_STORE_URL_FILE", "/u"}}),
              Contains(HasSubstr("not both")));
  EXPECT_THAT(about_shares({{"POSTERND_SHARE_STORE_BACKUP_DAYS", "-1"}}),
              Contains(HasSubstr("must be a number")));
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
