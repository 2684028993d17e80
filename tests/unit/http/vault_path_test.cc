#include "http/vault_path.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace postern::http {
namespace {

std::string name_of(std::string_view path) {
  const auto name = credential_of_path(path);
  return name.ok() ? name.value().str() : "(refused)";
}

TEST(VaultPath, NamesACredential) {
  EXPECT_EQ(name_of("github"), "github");
  EXPECT_EQ(name_of("team/github"), "team..github");
  EXPECT_EQ(name_of("team/v1.2/_x/-y"), "team..v1.2.._x..-y");
  EXPECT_EQ(name_of(std::string(99, 'a') + "/" + std::string(99, 'b')),
            std::string(99, 'a') + ".." + std::string(99, 'b'));
}

TEST(VaultPath, RefusesWhatNoCredentialCanHave) {
  for (const std::string& path :
       std::vector<std::string>{"",
                                "/",
                                "a/",
                                "/a",
                                "a//b",
                                ".",
                                "..",
                                "a/..",
                                "../a",
                                "a/./b",
                                "a/../b",
                                ".a",
                                "a.",
                                "a./b",
                                "a/.b",
                                "a..b",
                                "a/b..c",
                                "_a",
                                "-a",
                                "a b",
                                "a%20b",
                                "a%2fb",
                                "a\\b",
                                "a\nb",
                                "a\x7f",
                                "a:b",
                                "a@b",
                                "a+b",
                                "a*",
                                "{sub}",
                                "\xc3\xa9",
                                std::string("a\0b", 3),
                                std::string(201, 'a'),
                                std::string(100, 'a') + "/" + std::string(99, 'b')}) {
    const auto refused = credential_of_path(path);
    ASSERT_FALSE(refused.ok()) << path;
    EXPECT_EQ(refused.error().code, ErrorCode::MalformedRequest) << path;
  }
}

TEST(VaultPath, TwoPathsNeverHaveOneName) {
  // All paths of up to six characters out of these.
  constexpr std::string_view kAlphabet = "a./_";
  std::map<std::string, std::string> path_by_name;
  std::size_t named = 0;
  std::string path;
  const auto grow = [&](const auto& self) -> void {
    const auto name = credential_of_path(path);
    if (name.ok()) {
      ++named;
      const auto [it, is_new] = path_by_name.emplace(name.value().str(), path);
      EXPECT_TRUE(is_new) << it->second << " and " << path;
      EXPECT_EQ(path_of_credential(name.value()), path);
    }
    if (path.size() == 6) return;
    for (const char c : kAlphabet) {
      path += c;
      self(self);
      path.pop_back();
    }
  };
  grow(grow);
  EXPECT_GT(named, 100u);
}

TEST(VaultPath, ANameThatNoPathHasIsNotShown) {
  for (const auto* name : {"a.", "a..", "a...b", "a....b", "a..b.", "a....", "a...", "a.._."}) {
    EXPECT_EQ(path_of_credential(CredentialName(name)), std::nullopt) << name;
  }
  EXPECT_EQ(path_of_credential(CredentialName("team..github")), "team/github");
  EXPECT_EQ(path_of_credential(CredentialName("v1.2")), "v1.2");
}

TEST(VaultPath, AFolderEndsInASlashOrNot) {
  EXPECT_EQ(folder_of_path("").value(), "");
  EXPECT_EQ(folder_of_path("/").value(), "");
  EXPECT_EQ(folder_of_path("team").value(), "team/");
  EXPECT_EQ(folder_of_path("team/eu/").value(), "team/eu/");
  for (const auto* path : {"//", "team//", "../", "..", "a b", "team/../x"}) {
    EXPECT_FALSE(folder_of_path(path).ok()) << path;
  }
}

}  // namespace
}  // namespace postern::http
