// Views of the Vault subset: which paths there can be, and whose they are.

#include "policy/view.h"

#include <gtest/gtest.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/code_of.h"
#include "support/tenant_fixture.h"

namespace postern::policy {
namespace {

using test::code_of;
using test::must;
using OneView = std::pair<std::string, std::string>;  // path, and backend or ""

Result<View> view(const std::string& path, const std::string& backend = "") {
  return View::parse(path, backend.empty() ? std::nullopt : std::optional(BackendId(backend)));
}
Views views(const std::vector<OneView>& all) {
  Views made;
  for (const auto& [path, backend] : all) {
    if (!made.add(must(view(path, backend))).ok()) throw std::runtime_error(path);
  }
  return made;
}
const ViewClaims kAlice{"1000-alice", "alice"};

/// The backend that a path leads to; "-" for nowhere.
std::string backend_of(const Views& all, std::string_view path, const ViewClaims& claims = kAlice) {
  const auto found = all.find(path, claims);
  return found ? found->backend : "-";
}

TEST(Views, ShowABackendUnderTheUsersOwnPath) {
  const auto all = views({{"mcp-gateway/{sub}", "github"}, {"{preferred_username}/{backend}", ""}});
  EXPECT_EQ(backend_of(all, "mcp-gateway/1000-alice"), "github");
  EXPECT_EQ(backend_of(all, "alice/github"), "github");
  EXPECT_EQ(backend_of(all, "alice/any-text"), "any-text") << "the caller knows its backends";
  EXPECT_EQ(all.find("alice/github", kAlice)->view->path(), "{preferred_username}/{backend}");
}

TEST(Views, AreNobodyElses) {
  const auto all = views({{"mcp-gateway/{sub}", "github"},
                          {"{preferred_username}/{backend}", ""},
                          {"both/{sub}/{preferred_username}", "github"}});
  for (const auto* path : {"mcp-gateway/1000-bob",
                           "mcp-gateway/alice",
                           "bob/github",
                           "1000-alice/github",
                           "mcp-gateway/1000-alic",
                           "mcp-gateway/1000-alice2",
                           "mcp-gateway/1000-Alice",
                           "mcp-gateway/{sub}",
                           "{preferred_username}/github",
                           "mcp-gateway",
                           "mcp-gateway/",
                           "mcp-gateway/1000-alice/",
                           "/mcp-gateway/1000-alice",
                           "mcp-gateway//1000-alice",
                           "alice/",
                           "alice",
                           "",
                           "/",
                           "alice/github/x",
                           "Mcp-Gateway/1000-alice",
                           "*/github",
                           "%/github",
                           "both/1000-alice/bob",
                           "both/1000-bob/alice",
                           "alic\xC3\xA9/github",
                           "\xD0\xB0lice/github"}) {
    EXPECT_EQ(backend_of(all, path), "-") << path;
  }
  EXPECT_EQ(backend_of(all, std::string("alice\0/github", 13)), "-");
  EXPECT_EQ(backend_of(all, "both/1000-alice/alice"), "github");
}

TEST(Views, AClaimThatIsMissingOrEmptyFitsNothing) {
  const auto all = views({{"a/{sub}", "x"}, {"b/{preferred_username}", "x"}});
  for (const auto& claims : {ViewClaims{}, ViewClaims{"", ""}, ViewClaims{"s", {}}}) {
    for (const auto* path : {"b/", "b/alice", "b/{preferred_username}", "a/", "b/s"}) {
      EXPECT_EQ(backend_of(all, path, claims), "-") << path;
    }
  }
  EXPECT_EQ(backend_of(all, "a/s", {"s", {}}), "x");
}

TEST(Views, AClaimIsTextAndNothingElse) {
  const auto all = views({{"{preferred_username}/{backend}", ""}, {"a/b/{sub}", "x"}});
  for (const auto* name : {"{backend}", "{sub}", "%61lice", "a b", "\xD0\xB0lice"}) {
    const ViewClaims claims{"1000", name};
    EXPECT_EQ(backend_of(all, std::string(name) + "/github", claims), "github") << name;
    EXPECT_EQ(backend_of(all, "alice/github", claims), "-") << name;
  }
  // A slash in a name makes no segments.
  for (const auto* name : {"a/b", "alice/github", "/", "alice/"}) {
    const ViewClaims claims{"1000", name};
    EXPECT_EQ(backend_of(all, std::string(name) + "/github", claims), "-") << name;
    EXPECT_EQ(backend_of(all, "alice/github", claims), "-") << name;
  }
}

TEST(Views, AWordOfOneIsNoUsersNameInAnother) {
  const auto all = views({{"mcp-gateway/{sub}", "github"}, {"{preferred_username}/{backend}", ""}});
  EXPECT_EQ(backend_of(all, "mcp-gateway/github", {"1", "mcp-gateway"}), "-");
  EXPECT_EQ(backend_of(all, "mcp-gateway/github", {"github", "mcp-gateway"}), "github")
      << "the other view's, by the subject";
  const auto crossed = views({{"a/{sub}", "x"}, {"{preferred_username}/b", "y"}});
  EXPECT_EQ(backend_of(crossed, "a/b", {"b", "a"}), "-");
}

TEST(Views, NoTwoShowOnePath) {
  const auto refused = [](const std::vector<OneView>& before, const OneView& last) {
    auto made = views(before);
    return !made.add(must(view(last.first, last.second))).ok();
  };
  EXPECT_TRUE(refused({{"a/{sub}", "x"}}, {"a/{sub}", "y"}));
  EXPECT_TRUE(refused({{"a/{sub}", "x"}}, {"a/{preferred_username}", "x"}));
  EXPECT_TRUE(refused({{"{sub}/{backend}", ""}}, {"{backend}/{sub}", ""}));
  EXPECT_TRUE(refused({{"{sub}/{backend}", ""}}, {"{preferred_username}/{backend}", ""}));
  EXPECT_TRUE(refused({{"x/{sub}", "x"}, {"{sub}/y", "x"}}, {"{preferred_username}/y", "x"}));
  EXPECT_FALSE(refused({{"a/{sub}", "x"}}, {"b/{sub}", "x"}));
  EXPECT_FALSE(refused({{"a/{sub}", "x"}}, {"a/{sub}/{backend}", ""}));
  EXPECT_FALSE(refused({{"{sub}/a", "x"}}, {"{sub}/{backend}", ""}));
  EXPECT_FALSE(refused({{"a/{sub}", "x"}}, {"{sub}/b", "x"}));
}

// Whatever two views a tenant has, no user finds a path in both.
TEST(Views, NoPathIsOfTwoWhateverTheUserIsCalled) {
  const std::vector<std::string> segments{"a", "b", "{sub}", "{preferred_username}", "{backend}"};
  const std::vector<std::string> values{"a", "b", "c"};
  std::vector<View> all;
  for (const auto& first : segments) {
    for (const auto& second : segments) {
      const auto path = first + '/' + second;
      for (const auto* backend : {"", "x"}) {
        if (auto made = view(path, backend); made.ok()) all.push_back(std::move(made).value());
      }
    }
  }
  int pairs = 0;
  for (const auto& one : all) {
    for (const auto& other : all) {
      Views both;
      ASSERT_TRUE(both.add(one).ok());
      if (!both.add(other).ok()) continue;
      Views reversed;
      ASSERT_TRUE(reversed.add(other).ok() && reversed.add(one).ok());
      ++pairs;
      for (const auto& sub : values) {
        for (const auto& name : values) {
          for (const auto& first : values) {
            for (const auto& second : values) {
              const auto path = first + '/' + second;
              const auto found = both.find(path, {sub, name});
              const auto again = reversed.find(path, {sub, name});
              ASSERT_EQ(found.has_value(), again.has_value());
              if (found) {
                ASSERT_EQ(found->view->path(), again->view->path())
                    << path << " of " << sub << name;
              }
            }
          }
        }
      }
    }
  }
  EXPECT_GT(pairs, 20);
}

TEST(Views, HavePathsThatSayEnoughAndNoMore) {
  for (const auto* path : {"",
                           "/",
                           "/{sub}",
                           "{sub}/",
                           "a//{sub}",
                           "a/..{sub}",
                           "../{sub}",
                           "./{sub}",
                           "a.b./{sub}",
                           ".a/{sub}",
                           "a..b/{sub}",
                           "a b/{sub}",
                           "a%2f/{sub}",
                           "\xC3\xA9/{sub}",
                           "a",
                           "a/b",
                           "{backend}",
                           "{sub}{backend}",
                           "x{sub}",
                           "{sub}x",
                           "{Sub}",
                           "{ sub }",
                           "{email}",
                           "{}",
                           "{sub",
                           "sub}",
                           "{{sub}}",
                           "${sub}",
                           "{sub}/{sub}",
                           "*/{sub}",
                           "~/{sub}",
                           "a/b/c/d/e/f/g/h/{sub}"}) {
    EXPECT_EQ(code_of(view(path, "github")), ErrorCode::MalformedRequest) << path;
  }
  EXPECT_EQ(code_of(view(std::string("a\0/{sub}", 8), "github")), ErrorCode::MalformedRequest);
  EXPECT_EQ(code_of(view(std::string(195, 'a') + "/{sub}", "x")), ErrorCode::MalformedRequest);
  EXPECT_TRUE(view(std::string(194, 'a') + "/{sub}", "x").ok());
  EXPECT_TRUE(view("a/b/c/d/e/f/g/{sub}", "x").ok());
  EXPECT_TRUE(view("team-1/a.b_c/{preferred_username}", "x").ok());
  EXPECT_EQ(code_of(view("a/{sub}")), ErrorCode::MalformedRequest) << "which backend?";
  EXPECT_EQ(code_of(view("{sub}/{backend}", "x")), ErrorCode::MalformedRequest) << "which of two?";
  EXPECT_EQ(code_of(view("{sub}/{backend}/{backend}")), ErrorCode::MalformedRequest);
}

TEST(Views, AreNoMoreThanFifty) {
  Views all;
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(all.add(must(view("v" + std::to_string(i) + "/{sub}", "x"))).ok());
  }
  EXPECT_EQ(code_of(all.add(must(view("v50/{sub}", "x")))), ErrorCode::MalformedRequest);
}

}  // namespace
}  // namespace postern::policy
