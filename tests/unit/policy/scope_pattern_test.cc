#include "policy/scope_pattern.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <string_view>

#include "policy/authorize.h"
#include "support/code_of.h"
#include "support/tenant_fixture.h"

namespace postern::policy {
namespace {

using test::code_of;
using test::TenantFixture;

const PatternVariables kAlice{"alice", "corp"};

TEST(ScopePattern, AStarAtTheEndIsOneOrMoreCharacters) {
  EXPECT_TRUE(scope_matches("repo:*", "repo:read", {}));
  EXPECT_TRUE(scope_matches("repo:*", "repo:a:b/c", {}));
  EXPECT_FALSE(scope_matches("repo:*", "repo:", {}));
  EXPECT_FALSE(scope_matches("repo:*", "repo", {}));
  EXPECT_FALSE(scope_matches("repo:*", "REPO:read", {}));
  EXPECT_FALSE(scope_matches("repo:*", "xrepo:read", {}));
  EXPECT_FALSE(scope_matches("repo:*", "", {}));
}

TEST(ScopePattern, AStarElsewhereIsItself) {
  EXPECT_FALSE(scope_matches("re*o:read", "repo:read", {}));
  EXPECT_TRUE(scope_matches("re*o:read", "re*o:read", {}));
  EXPECT_FALSE(scope_matches("*:read", "repo:read", {}));
}

TEST(ScopePattern, AloneAStarMatchesAllAndTheBackendWithoutScopes) {
  EXPECT_TRUE(scope_matches("*", "", {}));
  EXPECT_TRUE(scope_matches("*", "anything", {}));
}

TEST(ScopePattern, AVariableIsTheUsersOwn) {
  EXPECT_TRUE(scope_matches("user/{sub}/*", "user/alice/notes", kAlice));
  EXPECT_TRUE(scope_matches("user/{sub}", "user/alice", kAlice));
  EXPECT_TRUE(scope_matches("{issuer}:{sub}:*", "corp:alice:x", kAlice));
  EXPECT_FALSE(scope_matches("user/{sub}/*", "user/alice2/notes", kAlice));
  EXPECT_FALSE(scope_matches("user/{sub}/*", "user/bob/notes", kAlice));
  EXPECT_FALSE(scope_matches("user/{sub}/*", "user/alice/", kAlice));
  EXPECT_FALSE(scope_matches("user/{sub}/*", "user/{sub}/notes", kAlice));
  // Without a value it matches nothing, not everything.
  EXPECT_FALSE(scope_matches("user/{sub}/*", "user//notes", {}));
  EXPECT_FALSE(scope_matches("user/{sub}/*", "user/x/notes", {}));
}

TEST(ScopePattern, NoSubjectWidensAPattern) {
  for (const std::string sub : {"*", "a*", "alice/*", "alice/bob", "{sub}", "{issuer}", "..",
                                "../bob", "alice:bob", "%2A", "a b", "\xc3\xa9"}) {
    const PatternVariables mallory{sub, "corp"};
    for (const auto* token : {"user/alice/notes", "user/bob/notes", "user/alice/bob/x",
                              "user/a/notes", "user/corp/notes", "user/../bob/notes"}) {
      EXPECT_FALSE(scope_matches("user/{sub}/*", token, mallory)) << sub << " " << token;
    }
  }
  EXPECT_TRUE(scope_matches("user/{sub}/*", "user/auth0%7C12/notes", {"auth0|12", ""}));
  EXPECT_TRUE(scope_matches("user/{sub}/*", "user/corp%3A7/notes", {"corp:7", ""}));
}

TEST(ScopePattern, TwoSubjectsNeverShareAResource) {
  std::mt19937_64 random(7);
  const std::string letters = "ab/:*%.{}|@~-_ \xc3";
  const auto word = [&] {
    std::string out;
    for (auto n = random() % 4 + 1; n > 0; --n) out += letters[random() % letters.size()];
    return out;
  };
  for (int run = 0; run < 20'000; ++run) {
    const auto a = word(), b = word();
    if (a == b) continue;
    for (const auto* pattern : {"user/{sub}/*", "user:{sub}:*", "{sub}/*"}) {
      for (const auto& token : {a + "/x", b + "/x", "user/" + a + "/x", "user:" + b + ":x"}) {
        EXPECT_FALSE(scope_matches(pattern, token, {a, ""}) &&
                     scope_matches(pattern, token, {b, ""}))
            << pattern << " " << token << " " << a << " " << b;
      }
    }
  }
}

TEST(ScopePattern, AVariableStandsAlone) {
  for (const auto* pattern :
       {"user/{sub}", "{sub}", "{sub}:x", "user:{sub}:*", "{issuer}/{sub}/*"}) {
    EXPECT_TRUE(check_scope_pattern(pattern, Variables::Allow).ok()) << pattern;
    EXPECT_FALSE(check_scope_pattern(pattern, Variables::Refuse).ok()) << pattern;
  }
  for (const auto* pattern :
       {"user/{sub}*", "user{sub}", "{sub}x", "user-{sub}-x", "{sub}{issuer}"}) {
    EXPECT_FALSE(check_scope_pattern(pattern, Variables::Allow).ok()) << pattern;
  }
  EXPECT_TRUE(check_scope_pattern("{other}", Variables::Refuse).ok());  // text
}

TEST(ResourceToken, StaysWhereItSays) {
  for (const auto* good :
       {"user/alice/notes", "a", "a:b", "user/auth0%7C1/x", "a/..b", "a/%C3%A9"}) {
    EXPECT_TRUE(is_resource_token(good)) << good;
  }
  for (const auto* bad : {"",
                          "/",
                          "a/",
                          "/a",
                          "a//b",
                          "a/../b",
                          "..",
                          "a/.",
                          "a/%2E%2E/b",
                          "a/%2e./b",
                          "a/x%2F..%2Fb",
                          "a%2F%2Fb",
                          "a%2F",
                          "a/%252E%252E/b",
                          "a/%5C../b",
                          "a/%61",
                          "a/%7c",
                          "a/%",
                          "a/%4",
                          "a/b*",
                          "a/{b}",
                          "a?b",
                          "a#b",
                          "a/%00",
                          "a b",
                          "a:::b"}) {
    EXPECT_FALSE(is_resource_token(bad)) << bad;
  }
}

/// A backend with resources, and two users who have their own.
struct Resources : TenantFixture {
  Resources() {
    backend("files")["scope_patterns"] = {"user/*"};
    manifest["roles"][0]["allow"] = {"files:user/{sub}/*", "files:files:read"};
    load();
  }
  Result<ScopeSet> ask(const std::string& subject, const std::string& scope) {
    SubjectRights rights{{idp.issuer(), subject}, {"engineering"}, std::nullopt, {}, subject};
    POSTERN_TRY(
        const auto permitted,
        permitted_scope(*snapshot, gateway(), *snapshot->find_backend("files"), rights, scope));
    return narrow_scope(permitted, scope);
  }
};

TEST(Resources, AreTheUsersOwnAndOnlyWhenAsked) {
  Resources f;
  EXPECT_EQ(f.ask("alice", "user/alice/notes").value().str(), "user/alice/notes");
  EXPECT_EQ(f.ask("alice", "user/alice/a/b files:read").value().str(), "files:read user/alice/a/b");
  for (const auto* scope : {"user/bob/notes", "user/alice", "user/alice/../bob/notes", "user/*",
                            "user/alice/*", "user/alice/%2E%2E/bob", "other/alice/x"}) {
    EXPECT_EQ(code_of(f.ask("alice", scope)), ErrorCode::ScopeRefused) << scope;
  }
  EXPECT_EQ(code_of(f.ask("*", "user/bob/notes")), ErrorCode::ScopeRefused);
  EXPECT_EQ(code_of(f.ask("..", "user/../bob")), ErrorCode::ScopeRefused);
  EXPECT_EQ(code_of(f.ask("alice/x", "user/alice/x/y")), ErrorCode::ScopeRefused);
  // Unasked for, no resource is granted.
  SubjectRights rights{{f.idp.issuer(), "alice"}, {"engineering"}, std::nullopt, {}, "alice"};
  EXPECT_EQ(permitted_scope(*f.snapshot, f.gateway(), *f.snapshot->find_backend("files"), rights)
                .value()
                .str(),
            "files:read");
}

TEST(Resources, OfABackendThatHasNothingElseMustBeNamed) {
  Resources f;
  f.backend("files")["scopes"] = token::Json::array();
  f.manifest["roles"][0]["allow"] = {"files:*"};
  f.load();
  EXPECT_EQ(f.ask("alice", "user/alice/notes").value().str(), "user/alice/notes");
  SubjectRights rights{{f.idp.issuer(), "alice"}, {"engineering"}, std::nullopt, {}, "alice"};
  const auto unnamed =
      permitted_scope(*f.snapshot, f.gateway(), *f.snapshot->find_backend("files"), rights);
  EXPECT_EQ(code_of(unnamed), ErrorCode::ScopeRefused);
}

TEST(Resources, ADenyClosesThemForAll) {
  Resources f;
  f.manifest["roles"][0]["deny"] = {"files:user/alice/private/*"};
  f.load();
  EXPECT_EQ(code_of(f.ask("alice", "user/alice/private/x")), ErrorCode::ScopeRefused);
  EXPECT_TRUE(f.ask("alice", "user/alice/public/x").ok());
}

}  // namespace
}  // namespace postern::policy
