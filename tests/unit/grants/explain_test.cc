#include "grants/explain.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "support/tenant_fixture.h"

namespace postern::grants {
namespace {

using policy::Prune;
using policy::ScopeSet;
using test::TenantFixture;
using token::Json;

struct Explained : TenantFixture {
  Explained() {
    alice.principal = {idp.issuer(), "alice"};
    alice.issued_subject = "alice";
    alice.groups = {"engineering"};
    alice.auth_context = Json::object();
  }
  VerifiedToken alice;

  Explanation ask(std::string_view target, std::optional<std::string_view> scope = std::nullopt) {
    Question question;
    question.client = &gateway();
    question.subject = std::make_shared<const VerifiedToken>(alice);
    question.audiences = {target};
    question.scope = scope;
    return explain(*snapshot, question, clock.now());
  }
  Json json(std::string_view target, std::optional<std::string_view> scope = std::nullopt) {
    return write(*snapshot, ask(target, scope));
  }
};

/// Kinds of what would allow it, in order.
std::vector<std::string> kinds(const Explanation& explanation) {
  std::vector<std::string> out;
  for (const auto& hint : explanation.hints) out.push_back(hint.kind);
  return out;
}
using Kinds = std::vector<std::string>;

TEST(Explain, NamesTheRuleThatAllows) {
  Explained f;
  const auto json = f.json("docs", "files:read");
  EXPECT_EQ(json.at("allowed"), true);
  EXPECT_EQ(json.at("backend"), "files");
  EXPECT_EQ(json.at("scope"), "files:read");
  EXPECT_EQ(json.at("max_expires_in"), 300);
  EXPECT_EQ(json.at("scopes")[0].at("scope"), "files:read");
  EXPECT_EQ(json.at("scopes")[0].at("allowed_by")[0],
            Json({{"role", "developer"}, {"binding", "developer"}, {"permission", "files:*"}}));
  EXPECT_FALSE(json.contains("reason"));
}

TEST(Explain, NamesTheGroupThatIsMissing) {
  Explained f;
  f.alice.groups = {"sales"};
  const auto explanation = f.ask("files", "files:read");
  EXPECT_EQ(explanation.refused_by, "roles");
  ASSERT_EQ(kinds(explanation), Kinds{"binding"});
  EXPECT_EQ(explanation.hints[0].details.at("lacks"), Json({{"one_of_groups", {"engineering"}}}));
}

TEST(Explain, NamesTheClaimThatIsMissing) {
  Explained f;
  f.manifest["bindings"][0]["claims"] = {{"department", {"finance"}}, {"/a/b", {"c"}}};
  f.manifest["bindings"][0]["issuer"] = "corp";
  f.load();
  f.alice.attributes = {{"department", {"sales"}}, {"/a/b", {"x", "c"}}};
  auto explanation = f.ask("files", "files:read");
  EXPECT_EQ(explanation.refused_by, "roles");
  ASSERT_EQ(kinds(explanation), Kinds{"binding"});
  EXPECT_EQ(explanation.hints[0].details.at("lacks"),
            Json({{"claims", {{"department", {"finance"}}}}}));
  f.alice.attributes["department"] = {"finance"};
  EXPECT_TRUE(f.ask("files", "files:read").allowed());
  f.alice.principal.issuer = "https://idp.partner.example";
  explanation = f.ask("files", "files:read");
  ASSERT_FALSE(explanation.allowed());
  EXPECT_EQ(explanation.hints[0].details.at("lacks"), Json({{"issuer", "corp"}}));
}

TEST(Explain, NamesTheDenyThatClosed) {
  Explained f;
  f.manifest["roles"].push_back({{"name", "frozen"}, {"deny", {"*:files:*"}}});
  f.manifest["bindings"].push_back({{"role", "frozen"}, {"groups", {"engineering"}}});
  f.load();
  const auto explanation = f.ask("files", "files:write");
  EXPECT_EQ(explanation.refused_by, "roles");
  ASSERT_EQ(kinds(explanation), Kinds{"deny"});
  EXPECT_EQ(explanation.hints[0].details.at("role"), "frozen");
  EXPECT_EQ(explanation.hints[0].details.at("permission"), "*:files:*");
}

TEST(Explain, NamesTheCeilingThatCut) {
  Explained f;
  f.alice.scope = ScopeSet({"files:read"});
  auto explanation = f.ask("files", "files:write");
  EXPECT_EQ(explanation.refused_by, "request");
  EXPECT_EQ(kinds(explanation), Kinds{"token_scope"});
  f.alice.scope.reset();
  f.client()["scopes"] = {"files:read"};
  f.load();
  explanation = f.ask("files", "files:write");
  EXPECT_EQ(kinds(explanation), Kinds{"client_scope"});
  const auto json = write(*f.snapshot, explanation);
  EXPECT_EQ(json.at("scopes")[1].at("closed_by"), Json({"client"}));
}

TEST(Explain, SaysWhatTheBackendDoesNotHave) {
  Explained f;
  EXPECT_EQ(kinds(f.ask("files", "files:read files:admin")), Kinds{"unknown_scope"});
  EXPECT_EQ(kinds(f.ask("nope")), Kinds{"target"});
  f.client()["backends"] = {"search"};
  f.load();
  EXPECT_EQ(kinds(f.ask("files")), Kinds{"client_backend"});
}

TEST(Explain, SaysHowTheUserMustAuthenticate) {
  Explained f;
  f.backend("files")["require"] = {{"acr", {"phr"}}, {"max_auth_age", 60}};
  f.load();
  const auto explanation = f.ask("files");
  EXPECT_EQ(explanation.refused_by, "authentication");
  ASSERT_EQ(kinds(explanation), Kinds{"authentication"});
  EXPECT_EQ(explanation.hints[0].details, Json({{"one_of_acr", {"phr"}}, {"max_auth_age", 60}}));
  f.alice.auth_context = {{"acr", "phr"}, {"auth_time", test::seconds_of(f.clock.now())}};
  EXPECT_TRUE(f.ask("files").allowed());
  // Whoever has no right is not told to authenticate.
  f.alice.groups.clear();
  f.alice.auth_context = Json::object();
  EXPECT_EQ(f.ask("files").refused_by, "roles");
}

TEST(Explain, SaysWhatACredentialNeeds) {
  Explained f;
  f.manifest["roles"][0]["allow"] = {"github:repo:read"};
  f.load();
  const auto explanation = f.ask("github");
  EXPECT_EQ(explanation.refused_by, "credential");
  ASSERT_EQ(kinds(explanation), Kinds{"permission"});
  EXPECT_EQ(explanation.hints[0].details.at("permission"), "github:repo:write");
}

TEST(Explain, SaysThatAGuardrailStopped) {
  Explained f;
  f.manifest["guardrails"] = {{"signing_algorithms", {"EdDSA"}}, {"impersonation", false}};
  f.tenants.apply({{"tenant", "acme"}, {"guardrails", f.manifest["guardrails"]}}, f.clock.now(),
                  Prune::No);
  f.snapshot = f.tenants.snapshot(f.tenant);
  auto explanation = f.ask("files");
  EXPECT_EQ(explanation.refused_by, "guardrails");
  EXPECT_TRUE(explanation.names_actor);
  f.tenants.apply({{"tenant", "acme"}, {"guardrails", {{"client_authentication", Json::array()}}}},
                  f.clock.now(), Prune::No);
  f.snapshot = f.tenants.snapshot(f.tenant);
  explanation = f.ask("files");
  EXPECT_EQ(explanation.refused_by, "client");
  EXPECT_EQ(kinds(explanation), Kinds{"guardrail"});
}

}  // namespace
}  // namespace postern::grants
