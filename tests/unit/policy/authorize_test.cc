#include "policy/authorize.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/code_of.h"
#include "support/tenant_fixture.h"

namespace postern::policy {
namespace {

using test::code_of;
using test::TenantFixture;

constexpr const char* kFiles = "https://files.example.com/mcp";
constexpr const char* kSearch = "https://search.example.com/mcp";

struct Targets : TenantFixture {
  Result<Target> resolve(std::vector<std::string_view> audiences,
                         std::vector<std::string_view> resources = {}) {
    return resolve_target(*snapshot, gateway(), audiences, resources);
  }
};

TEST(ResolveTarget, TakesNameAliasAudienceAndResource) {
  Targets f;
  for (const char* audience : {"files", "docs", kFiles, "https://FILES.example.com:443/mcp/"}) {
    const auto target = f.resolve({audience});
    ASSERT_TRUE(target.ok()) << audience;
    EXPECT_EQ(target.value().backend->name.str(), "files");
    EXPECT_EQ(target.value().audience, kFiles);
  }
  EXPECT_EQ(f.resolve({}, {kFiles}).value().audience, kFiles);
  EXPECT_EQ(f.resolve({"docs", "files", kFiles}, {kFiles}).value().audience, kFiles);
}

TEST(ResolveTarget, RefusesUnknownMalformedAndForbiddenAlike) {
  Targets f;
  f.client()["backends"] = {"search"};
  f.load();
  const auto forbidden = f.resolve({"files"});
  ASSERT_EQ(code_of(forbidden), ErrorCode::TargetRefused);
  for (const char* audience :
       {"nope", "", "FILES", "files ", "*", "https://files.example.com/mcp#x",
        "https://files.example.com/mcp/x", "https://files.example.com/MCP", "https://u@search"}) {
    const auto refused = f.resolve({audience});
    ASSERT_EQ(code_of(refused), ErrorCode::TargetRefused) << audience;
    EXPECT_EQ(refused.error().detail, forbidden.error().detail) << audience;
  }
  // A good value does not carry a bad one.
  EXPECT_EQ(code_of(f.resolve({"search", "nope"})), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(f.resolve({"nope", "search"})), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(f.resolve({"search"}, {kFiles})), ErrorCode::TargetRefused);
}

TEST(ResolveTarget, WantsAUriInResource) {
  Targets f;
  for (const char* resource : {"files", "docs", "", "//files.example.com/mcp",
                               "https://files.example.com/mcp#frag", "file:///x"}) {
    EXPECT_EQ(code_of(f.resolve({}, {resource})), ErrorCode::TargetRefused) << resource;
  }
}

TEST(ResolveTarget, RefusesMoreThanOneTarget) {
  Targets f;
  EXPECT_EQ(code_of(f.resolve({"files", "search"})), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(f.resolve({"files"}, {kSearch})), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(f.resolve({}, {kFiles, kSearch})), ErrorCode::TargetRefused);
}

TEST(ResolveTarget, TakesAtMost8Values) {
  Targets f;
  EXPECT_TRUE(f.resolve(std::vector<std::string_view>(8, "files")).ok());
  EXPECT_TRUE(f.resolve(std::vector<std::string_view>(7, "files"), {kFiles}).ok());
  EXPECT_EQ(code_of(f.resolve(std::vector<std::string_view>(8, "files"), {kFiles})),
            ErrorCode::TargetRefused);
}

TEST(ResolveTarget, FallsBackToTheClientsDefaultOnlyWhenNothingIsNamed) {
  Targets f;
  EXPECT_EQ(code_of(f.resolve({})), ErrorCode::TargetRefused);
  f.client()["default_backend"] = "files";
  f.load();
  EXPECT_EQ(f.resolve({}).value().audience, kFiles);
  EXPECT_EQ(code_of(f.resolve({"nope"})), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(f.resolve({""})), ErrorCode::TargetRefused);
}

TEST(ResolveTarget, DisabledBackendsAreUnknown) {
  Targets f;
  f.client()["default_backend"] = "files";
  f.backend("files")["enabled"] = false;
  f.load();
  EXPECT_EQ(code_of(f.resolve({"files"})), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(f.resolve({}, {kFiles})), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(f.resolve({})), ErrorCode::TargetRefused);
}

TEST(ResolveTarget, RefusesADisabledClientAndADisabledTenant) {
  Targets f;
  f.client()["enabled"] = false;
  f.load();
  EXPECT_EQ(code_of(f.resolve({"files"})), ErrorCode::UnauthorizedClient);
  f.client()["enabled"] = true;
  f.manifest["enabled"] = false;
  f.load();
  EXPECT_EQ(code_of(f.resolve({"files"})), ErrorCode::UnauthorizedClient);
}

TEST(ResolveTarget, EchoesTheAliasOnlyWhereTheBackendWantsIt) {
  Targets f;
  EXPECT_EQ(f.resolve({"docs"}).value().audience, kFiles);
  f.backend("files")["aud_as_requested"] = true;
  f.load();
  EXPECT_EQ(f.resolve({"docs"}).value().audience, "docs");
  EXPECT_EQ(f.resolve({"files"}).value().audience, "files");
  // Named twice: the resource, which is what an MCP server verifies.
  EXPECT_EQ(f.resolve({"docs"}, {kFiles}).value().audience, kFiles);
  f.client()["default_backend"] = "files";
  f.load();
  EXPECT_EQ(f.resolve({}).value().audience, kFiles);
}

struct Scopes : TenantFixture {
  Result<ScopeSet> permitted(const char* backend_name, std::vector<std::string> groups,
                             std::optional<const char*> ceiling = std::nullopt,
                             const char* subject = "alice") {
    SubjectRights rights{{idp.issuer(), subject}, std::move(groups), std::nullopt};
    if (ceiling) rights.ceiling = ScopeSet::parse(*ceiling).value();
    return permitted_scope(*snapshot, gateway(), *snapshot->find_backend(backend_name), rights);
  }
  std::string text(const char* backend_name, std::vector<std::string> groups,
                   std::optional<const char*> ceiling = std::nullopt,
                   const char* subject = "alice") {
    const auto scopes = permitted(backend_name, std::move(groups), ceiling, subject);
    return scopes.ok() ? "[" + scopes.value().str() + "]"
                       : std::string(to_string(scopes.error().code));
  }
};

TEST(PermittedScope, DeniesByDefault) {
  Scopes f;
  EXPECT_EQ(f.text("files", {"engineering"}), "[files:read files:write]");
  EXPECT_EQ(f.text("files", {}), "TargetRefused");
  EXPECT_EQ(f.text("files", {"Engineering"}), "TargetRefused");
  EXPECT_EQ(f.text("files", {"engineering "}), "TargetRefused");
  f.role()["allow"] = {"search:*"};
  f.load();
  EXPECT_EQ(f.text("files", {"engineering"}), "TargetRefused");
  f.role()["allow"] = token::Json::array();
  f.load();
  EXPECT_EQ(f.text("search", {"engineering"}), "TargetRefused");
}

TEST(PermittedScope, DenyWinsOverEveryAllowOfEveryRole) {
  Scopes f;
  f.manifest["roles"].push_back({{"name", "restricted"}, {"deny", {"files:files:write"}}});
  f.manifest["bindings"].push_back(
      {{"role", "restricted"}, {"subjects", {{{"issuer", f.idp.issuer()}, {"subject", "bob"}}}}});
  f.load();
  EXPECT_EQ(f.text("files", {"engineering"}, std::nullopt, "alice"), "[files:read files:write]");
  EXPECT_EQ(f.text("files", {"engineering"}, std::nullopt, "bob"), "[files:read]");
  for (const char* deny : {"files:*", "*:*", "*:files:write"}) {
    f.manifest["roles"][1]["deny"] = {deny};
    f.load();
    EXPECT_EQ(f.text("files", {"engineering"}, std::nullopt, "bob"),
              std::string(deny) == "*:files:write" ? "[files:read]" : "TargetRefused")
        << deny;
  }
}

TEST(PermittedScope, WildcardsCoverTheirPartOnly) {
  Scopes f;
  f.role()["allow"] = {"*:files:read"};
  f.load();
  EXPECT_EQ(f.text("files", {"engineering"}), "[files:read]");
  EXPECT_EQ(f.text("search", {"engineering"}), "TargetRefused");  // not *:*
  f.role()["allow"] = {"*:*"};
  f.load();
  EXPECT_EQ(f.text("files", {"engineering"}), "[files:read files:write]");
  EXPECT_EQ(f.text("search", {"engineering"}), "[]");
}

TEST(PermittedScope, OpensABackendWithoutScopesByStarAlone) {
  Scopes f;
  EXPECT_EQ(f.text("search", {"engineering"}), "[]");
  EXPECT_EQ(f.text("search", {"engineering"}, ""), "[]");
  EXPECT_EQ(f.text("search", {}), "TargetRefused");
  f.role()["deny"] = {"search:*"};
  f.load();
  EXPECT_EQ(f.text("search", {"engineering"}), "TargetRefused");
}

TEST(PermittedScope, StaysWithinTheClientsScopes) {
  Scopes f;
  f.client()["scopes"] = {"files:read", "other"};
  f.load();
  EXPECT_EQ(f.text("files", {"engineering"}), "[files:read]");
  f.client()["scopes"] = token::Json::array();
  f.load();
  EXPECT_EQ(f.text("files", {"engineering"}), "ScopeRefused");
  EXPECT_EQ(f.text("search", {"engineering"}), "[]");
}

TEST(PermittedScope, StaysBelowTheSubjectTokensCeiling) {
  Scopes f;
  EXPECT_EQ(f.text("files", {"engineering"}, "files:read openid"), "[files:read]");
  EXPECT_EQ(f.text("files", {"engineering"}, "openid"), "ScopeRefused");
  EXPECT_EQ(f.text("files", {"engineering"}, ""), "ScopeRefused");
  EXPECT_EQ(f.text("files", {}, "files:read"), "TargetRefused");  // a ceiling grants nothing
}

TEST(PermittedScope, BindsSubjectsByIssuerAndSubjectTogether) {
  Scopes f;
  f.manifest["issuers"].push_back({{"name", "partner"},
                                   {"issuer", "https://idp.partner.example"},
                                   {"discovery", true},
                                   {"audiences", {"gw-01"}},
                                   {"subject_prefix", "partner:"}});
  f.manifest["bindings"] = {
      {{"role", "developer"}, {"subjects", {{{"issuer", f.idp.issuer()}, {"subject", "alice"}}}}}};
  f.load();
  EXPECT_EQ(f.text("files", {}), "[files:read files:write]");
  EXPECT_EQ(f.text("files", {}, std::nullopt, "Alice"), "TargetRefused");
  const SubjectRights namesake{{"https://idp.partner.example", "alice"}, {}, std::nullopt};
  EXPECT_EQ(code_of(permitted_scope(*f.snapshot, f.gateway(), *f.snapshot->find_backend("files"),
                                    namesake)),
            ErrorCode::TargetRefused);
}

TEST(PermittedScopeOfClient, IsTheBackendsWithinTheClients) {
  TenantFixture f;
  const auto text = [&] {
    const auto scopes = permitted_scope_of_client(f.gateway(), *f.snapshot->find_backend("files"));
    return scopes.ok() ? scopes.value().str() : std::string(to_string(scopes.error().code));
  };
  EXPECT_EQ(text(), "files:read files:write");
  f.client()["scopes"] = {"files:write"};
  f.load();
  EXPECT_EQ(text(), "files:write");
  f.client()["scopes"] = {"x"};
  f.load();
  EXPECT_EQ(text(), "ScopeRefused");
}

TEST(NarrowScope, GivesTheRequestOrRefusesIt) {
  const auto permitted = ScopeSet::parse("email read write").value();
  const auto narrowed = [&](std::optional<std::string_view> requested) {
    const auto scopes = narrow_scope(permitted, requested);
    return scopes.ok() ? scopes.value().str() : std::string(to_string(scopes.error().code));
  };
  EXPECT_EQ(narrowed(std::nullopt), "email read write");
  EXPECT_EQ(narrowed("read"), "read");
  EXPECT_EQ(narrowed("write read"), "read write");
  EXPECT_EQ(narrowed("read admin"), "ScopeRefused");
  EXPECT_EQ(narrowed("Read"), "ScopeRefused");
  EXPECT_EQ(narrowed("*"), "ScopeRefused");
  EXPECT_EQ(narrowed("read\twrite"), "ScopeRefused");
  EXPECT_EQ(narrowed("read \"x\""), "ScopeRefused");
  // What stock gateways send is dropped, but not where it is a real scope.
  EXPECT_EQ(narrowed("openid profile offline_access read"), "read");
  EXPECT_EQ(narrowed("openid email"), "email");
  EXPECT_EQ(narrowed("openid"), "email read write");
  EXPECT_EQ(narrowed("openid admin"), "ScopeRefused");
  EXPECT_EQ(narrowed(" "), "email read write");
}

}  // namespace
}  // namespace postern::policy
