#include "grants/release.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "support/code_of.h"
#include "support/dead_credential_store.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::field_of;
using test::GrantsFixture;
using test::seconds_of;
using token::Json;

std::string text(const FieldValue& value) {
  return value.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
}

struct Releases : GrantsFixture {
  Result<ReleasedItem> release_as(std::string_view subject, const std::string& asked,
                                  std::optional<std::string> scope = std::nullopt,
                                  bool is_resource = false) {
    const auto token = test::must(release.verify_subject(
        *snapshot, caller(), subject_token(subject), kAccessToken, Wait::Yes));
    last_record = record("credential.release");
    return release.release(*snapshot, caller(), *token, {asked, is_resource, std::move(scope)},
                           last_record);
  }
  void owner(const char* rule) {
    backend("github")["credential"]["owner"] = rule;
    load();
  }
  void deliver(Json delivery) {
    backend("github")["delivery"] = std::move(delivery);
    load();
  }
};

TEST(Release, RendersTheUsersOwnCredential) {
  Releases f;
  f.store("github", "alice", {{"token", "ghp_alice"}}, f.clock.now() + 1h);

  const auto item = f.release_as("alice", "github");

  ASSERT_TRUE(item.ok()) << item.error().detail;
  EXPECT_EQ(item.value().backend.str(), "github");
  EXPECT_EQ(text(item.value().env.at("GITHUB_TOKEN")), "ghp_alice");
  EXPECT_EQ(text(item.value().headers.at("Authorization")), "Bearer ghp_alice");
  EXPECT_EQ(item.value().expires_at, f.clock.now() + 1h);
  ASSERT_TRUE(item.value().credential);
  EXPECT_EQ(item.value().credential->name.str(), "github");
  EXPECT_FALSE(item.value().credential->of_tenant);
  EXPECT_EQ(item.value().credential->version, 1u);
  EXPECT_FALSE(item.value().scope);
}

TEST(Release, ResolvesByResourceAndAudience) {
  Releases f;
  f.store("github", "alice", {{"token", "t"}});
  EXPECT_TRUE(f.release_as("alice", "https://github.example.com/mcp").ok());
  EXPECT_TRUE(f.release_as("alice", "https://github.example.com/mcp/", std::nullopt, true).ok());
  EXPECT_EQ(code_of(f.release_as("alice", "github", std::nullopt, true)), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(f.release_as("alice", "nope")), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(f.release_as("alice", "")), ErrorCode::TargetRefused);
}

TEST(Release, AlwaysTakesTheLatestVersion) {
  Releases f;
  f.store("github", "alice", {{"token", "first"}});
  f.store("github", "alice", {{"token", "second"}});
  const auto item = f.release_as("alice", "github");
  EXPECT_EQ(text(item.value().env.at("GITHUB_TOKEN")), "second");
  EXPECT_EQ(item.value().credential->version, 2u);
}

// ---- whose ----

TEST(Release, NeverReachesAnotherUsersCredential) {
  Releases f;
  f.store("github", "alice", {{"token", "alices"}});
  f.store("github", "Bob", {{"token", "bobs"}});
  for (const char* rule : {"principal", "principal_or_tenant"}) {
    f.owner(rule);
    for (const char* subject : {"bob", "alice2", "alic", "mallory", "*", "%", "Alice"}) {
      EXPECT_EQ(code_of(f.release_as(subject, "github")), ErrorCode::InteractionRequired)
          << subject;
    }
  }
}

TEST(Release, NeverReachesANamesakeOfAnotherIssuer) {
  Releases f;
  const test::Idp partner("https://idp.partner.example");
  f.manifest["issuers"].push_back({{"name", "partner"},
                                   {"issuer", partner.issuer()},
                                   {"jwks", partner.jwks()},
                                   {"audiences", {"gw-01"}},
                                   {"subject_prefix", "partner:"}});
  f.manifest["bindings"].push_back(
      {{"name", "partners"},
       {"role", "developer"},
       {"subjects", {{{"issuer", partner.issuer()}, {"subject", "alice"}}}}});
  f.load();
  f.store("github", "alice", {{"token", "corps"}});
  const auto token = partner.sign(partner.claims("alice", f.clock.now()));
  const auto subject = test::must(f.release.verify_subject(*f.snapshot, f.caller(), token,
                                                           GrantsFixture::kAccessToken, Wait::Yes));
  auto record = f.record();
  EXPECT_EQ(
      code_of(f.release.release(*f.snapshot, f.caller(), *subject, {"github", false, {}}, record)),
      ErrorCode::InteractionRequired);
}

TEST(Release, NeverReachesAnotherTenantsCredential) {
  Releases f;
  f.store("github", "alice", {{"token", "acmes"}});
  f.store("github", "", {{"token", "acmes-own"}});
  auto manifest = f.manifest;
  manifest["tenant"] = "other";
  f.tenants.apply(manifest, f.clock.now());
  const auto other = f.tenants.snapshot(TenantId("other"));
  const auto* client = other->find_client("gw-01");
  for (const char* rule : {"principal", "tenant", "principal_or_tenant"}) {
    manifest["backends"][2]["credential"]["owner"] = rule;
    f.tenants.apply(manifest, f.clock.now());
    const auto snapshot = f.tenants.snapshot(TenantId("other"));
    client = snapshot->find_client("gw-01");
    const auto subject = test::must(f.release.verify_subject(
        *snapshot, Caller(*client), f.subject_token(), GrantsFixture::kAccessToken, Wait::Yes));
    auto record = f.record();
    EXPECT_EQ(code_of(f.release.release(*snapshot, Caller(*client), *subject, {"github", false, {}},
                                        record)),
              ErrorCode::InteractionRequired)
        << rule;
  }
}

TEST(Release, FollowsTheOwnerRule) {
  Releases f;
  f.store("github", "", {{"token", "shared"}});
  EXPECT_EQ(code_of(f.release_as("alice", "github")), ErrorCode::InteractionRequired);

  f.owner("tenant");
  const auto shared = f.release_as("alice", "github");
  EXPECT_EQ(text(shared.value().env.at("GITHUB_TOKEN")), "shared");
  EXPECT_TRUE(shared.value().credential->of_tenant);
  EXPECT_EQ(field_of(f.last_record, "credential_owner"), "tenant");

  f.owner("principal_or_tenant");
  EXPECT_EQ(text(f.release_as("alice", "github").value().env.at("GITHUB_TOKEN")), "shared");
  f.store("github", "alice", {{"token", "own"}});
  EXPECT_EQ(text(f.release_as("alice", "github").value().env.at("GITHUB_TOKEN")), "own");
  EXPECT_EQ(text(f.release_as("bob", "github").value().env.at("GITHUB_TOKEN")), "shared");

  f.owner("tenant");  // then the user's own does not count
  EXPECT_EQ(text(f.release_as("alice", "github").value().env.at("GITHUB_TOKEN")), "shared");
}

TEST(Release, AUsersExpiredCredentialIsNotReplacedByTheTenants) {
  Releases f;
  f.owner("principal_or_tenant");
  f.store("github", "", {{"token", "shared"}});
  f.store("github", "alice", {{"token", "own"}}, f.clock.now() + 1h);
  f.clock.advance(1h - 1s);
  EXPECT_TRUE(f.release_as("alice", "github").ok());
  f.clock.advance(1s);
  const auto expired = f.release_as("alice", "github");
  ASSERT_EQ(code_of(expired), ErrorCode::InteractionRequired);
  EXPECT_NE(expired.error().detail.find("expired"), std::string::npos);
}

TEST(Release, ADeletedOrDestroyedVersionIsNoCredentialAndNoOlderOneIs) {
  using Change = vault::CredentialStore::VersionChange;
  Releases f;
  f.store("github", "alice", {{"token", "first"}});
  f.store("github", "alice", {{"token", "second"}});
  const auto nothing_stored = [&] { return f.release_as("bob", "github").error().detail; }();
  const auto refused = [&] {
    const auto item = f.release_as("alice", "github");
    return code_of(item) == ErrorCode::InteractionRequired &&
           item.error().detail == nothing_stored &&
           field_of(f.last_record, "credential_version").empty();
  };
  f.change("github", "alice", Change::Delete);
  EXPECT_TRUE(refused());
  f.change("github", "alice", Change::Undelete);
  EXPECT_EQ(text(f.release_as("alice", "github").value().env.at("GITHUB_TOKEN")), "second");
  f.change("github", "alice", Change::Destroy);
  EXPECT_TRUE(refused());
  f.store("github", "alice", {{"token", "third"}});
  EXPECT_EQ(text(f.release_as("alice", "github").value().env.at("GITHUB_TOKEN")), "third");
}

TEST(Release, TellsWhoMustActWhenNothingIsStored) {
  Releases f;
  EXPECT_NE(f.release_as("alice", "github").error().detail.find("user"), std::string::npos);
  f.owner("tenant");
  EXPECT_NE(f.release_as("alice", "github").error().detail.find("tenant"), std::string::npos);
  EXPECT_EQ(connect_url(*f.snapshot, "github"),
            "https://portal.acme.example/connect?backend=github");
}

TEST(Release, AnUnreachableStoreIsNotAMissingCredential) {
  Releases f;
  f.owner("principal_or_tenant");
  test::DeadCredentialStore dead;
  const Release release(f.verifier, dead, f.envelope, f.clock);
  const auto subject = f.verify(f.subject_token()).value();
  auto record = f.record();
  EXPECT_EQ(
      code_of(release.release(*f.snapshot, f.caller(), *subject, {"github", false, {}}, record)),
      ErrorCode::Unavailable);
}

TEST(Release, ARowMovedToAnotherUserDoesNotOpen) {
  Releases f;
  f.store("github", "alice", {{"token", "alices"}});
  const vault::CredentialKey alices{Owner::principal({f.idp.issuer(), "alice"}),
                                    CredentialName("github")};
  const vault::CredentialKey bobs{Owner::principal({f.idp.issuer(), "bob"}),
                                  CredentialName("github")};
  const auto row = f.credentials.latest(f.tenant, alices).value();
  ASSERT_TRUE(f.credentials
                  .put(f.tenant, bobs, std::nullopt,
                       [&](std::uint32_t) -> Result<vault::SealedVersion> { return row; }, {})
                  .ok());
  EXPECT_EQ(code_of(f.release_as("bob", "github")), ErrorCode::Internal);
}

// ---- what ----

TEST(Release, RendersTemplatesByteForByte) {
  Releases f;
  f.deliver({{"env", {{"A", "{user}:{{{password}}}@{host}"}, {"B", "literal"}, {"C", "{empty}"}}},
             {"headers", {{"X-Key", "k={password}"}}},
             {"files", {{{"name", "sa.json"}, {"env", "SA_FILE"}, {"content", "{binary}"}}}}});
  const std::string binary("\0\r\n\xff{x}", 7);
  f.store("github", "alice",
          {{"user", "{password}"},
           {"password", "p%s}{"},
           {"host", "h"},
           {"empty", ""},
           {"binary", binary},
           {"unused", "never-delivered"}});

  const auto item = f.release_as("alice", "github");

  ASSERT_TRUE(item.ok()) << item.error().detail;
  // Values are never read as templates again.
  EXPECT_EQ(text(item.value().env.at("A")), "{password}:{p%s}{}@h");
  EXPECT_EQ(text(item.value().env.at("B")), "literal");
  EXPECT_EQ(text(item.value().env.at("C")), "");
  EXPECT_EQ(text(item.value().headers.at("X-Key")), "k=p%s}{");
  ASSERT_EQ(item.value().files.size(), 1u);
  EXPECT_EQ(item.value().files[0].name, "sa.json");
  EXPECT_EQ(item.value().files[0].env, "SA_FILE");
  EXPECT_EQ(text(item.value().files[0].content), binary);
  EXPECT_EQ(item.value().env.size(), 3u);
}

TEST(Release, AsksTheUserToActWhenAFieldIsMissing) {
  Releases f;
  f.store("github", "alice", {{"password", "x"}});
  EXPECT_EQ(code_of(f.release_as("alice", "github")), ErrorCode::InteractionRequired);
}

TEST(Release, RefusesValuesThatWouldBreakOutOfTheirPlace) {
  for (const auto& [value, env, header] :
       std::vector<std::tuple<std::string, bool, bool>>{{"plain", true, true},
                                                        {std::string("a\0b", 3), false, false},
                                                        {"a\nb", true, false},
                                                        {"a\r\nX-Evil: 1", true, false},
                                                        {"a\r", true, false},
                                                        {"\n", true, false}}) {
    Releases f;
    f.store("github", "alice", {{"token", value}});
    f.deliver({{"env", {{"T", "{token}"}}}});
    EXPECT_EQ(f.release_as("alice", "github").ok(), env);
    f.deliver({{"headers", {{"T", "Bearer {token}"}}}});
    const auto in_header = f.release_as("alice", "github");
    EXPECT_EQ(in_header.ok(), header);
    if (!in_header.ok()) {
      EXPECT_EQ(in_header.error().code, ErrorCode::InteractionRequired);
      EXPECT_EQ(in_header.error().detail.find("Evil"), std::string::npos);
    }
  }
}

// ---- minted ----

TEST(Release, MintsATokenIntoTheDelivery) {
  Releases f;
  f.backend("files")["delivery"]["headers"] = {{"Authorization", "Bearer {access_token}"}};
  f.load();
  const auto item = f.release_as("alice", "files", "files:read");
  ASSERT_TRUE(item.ok()) << item.error().detail;
  const auto token = text(item.value().env.at("FILES_TOKEN"));
  const auto claims = f.open(token);
  EXPECT_EQ(claims.at("sub"), "alice");
  EXPECT_EQ(claims.at("aud"), "https://files.example.com/mcp");
  EXPECT_EQ(claims.at("scope"), "files:read");
  EXPECT_EQ(text(item.value().headers.at("Authorization")), "Bearer " + token);
  EXPECT_EQ(item.value().scope->str(), "files:read");
  EXPECT_FALSE(item.value().credential);
  EXPECT_EQ(seconds_of(*item.value().expires_at), claims.at("exp").get<std::int64_t>());
  EXPECT_EQ(claims.at("jti"), field_of(f.last_record, "jti"));
}

TEST(Release, AMintedTokenObeysScopeAndLifetime) {
  Releases f;
  EXPECT_EQ(code_of(f.release_as("alice", "files", "files:admin")), ErrorCode::ScopeRefused);
  f.backend("files")["max_expires_in"] = 20;
  f.load();
  EXPECT_EQ(*f.release_as("alice", "files").value().expires_at, f.clock.now() + 20s);
  // Nor does it outlive the user's own.
  auto claims = f.claims();
  claims["exp"] = seconds_of(f.clock.now() + 10s);
  const auto subject = test::must(f.release.verify_subject(
      *f.snapshot, f.caller(), f.idp.sign(claims), GrantsFixture::kAccessToken, Wait::Yes));
  auto record = f.record();
  const auto item =
      f.release.release(*f.snapshot, f.caller(), *subject, {"files", false, {}}, record);
  EXPECT_EQ(*item.value().expires_at, f.clock.now() + 10s);
}

TEST(Release, AMintedTokenKeepsTheActors) {
  Releases f;
  auto claims = f.claims();
  claims["act"] = {{"sub", "agent"}};
  const auto subject = test::must(f.release.verify_subject(
      *f.snapshot, f.caller(), f.idp.sign(claims), GrantsFixture::kAccessToken, Wait::Yes));
  auto record = f.record();
  const auto item =
      f.release.release(*f.snapshot, f.caller(), *subject, {"files", false, {}}, record);
  EXPECT_EQ(f.open(text(item.value().env.at("FILES_TOKEN"))).at("act"),
            Json({{"sub", "gw-01"}, {"act", {{"sub", "agent"}}}}));
}

// ---- may they ----

TEST(Release, NeedsTheUsersRight) {
  Releases f;
  f.store("github", "alice", {{"token", "t"}});
  f.role()["allow"] = {"files:*"};
  f.load();
  EXPECT_EQ(code_of(f.release_as("alice", "github")), ErrorCode::TargetRefused);
  f.role()["allow"] = {"github:repo:read", "github:repo:write"};
  f.load();
  EXPECT_TRUE(f.release_as("alice", "github").ok());
  EXPECT_TRUE(f.release_as("alice", "github", "repo:read").ok());
  EXPECT_EQ(code_of(f.release_as("alice", "github", "repo:admin")), ErrorCode::ScopeRefused);
  EXPECT_EQ(code_of(f.release_as("alice", "github", "\"")), ErrorCode::ScopeRefused);
}

// A stored credential cannot be narrowed, so it takes the right to all of it.
TEST(Release, AStoredCredentialNeedsEveryScopeOfItsBackend) {
  Releases f;
  f.store("github", "alice", {{"token", "t"}});
  const auto refused = [&] {
    f.load();
    return code_of(f.release_as("alice", "github", "repo:read"));
  };
  f.role()["allow"] = {"github:repo:read"};
  EXPECT_EQ(refused(), ErrorCode::ScopeRefused);
  f.role()["allow"] = {"github:*"};
  EXPECT_EQ(refused(), std::nullopt);
  f.role()["deny"] = {"github:repo:write"};
  EXPECT_EQ(refused(), ErrorCode::ScopeRefused);
  f.role()["deny"] = Json::array();
  f.client()["scopes"] = {"repo:read"};
  EXPECT_EQ(refused(), ErrorCode::ScopeRefused);
  f.client()["scopes"] = {"repo:read", "repo:write"};
  EXPECT_EQ(refused(), std::nullopt);
  // The subject token's own scope is a limit like any other.
  auto claims = f.claims();
  claims["scope"] = "repo:read";
  const auto subject = f.verify(f.idp.sign(claims)).value();
  auto record = f.record();
  EXPECT_EQ(
      code_of(f.release.release(*f.snapshot, f.caller(), *subject, {"github", false, {}}, record)),
      ErrorCode::ScopeRefused);
}

TEST(Release, BoundsWhatATemplateMakesOfASmallCredential) {
  Releases f;
  std::string often;
  for (int i = 0; i < 16; ++i) often += "{token}";
  f.deliver({{"env", {{"T", often}}}});
  f.store("github", "alice", {{"token", std::string(16 * 1024, 'x')}});
  EXPECT_EQ(f.release_as("alice", "github").value().bytes(), 256u * 1024);
  f.deliver({{"env", {{"T", often + "y"}}}});
  EXPECT_EQ(code_of(f.release_as("alice", "github")), ErrorCode::TooLarge);
  Json many = Json::object();
  for (int i = 0; i < 5; ++i) many["T" + std::to_string(i)] = often;
  f.deliver({{"env", many}});
  EXPECT_EQ(code_of(f.release_as("alice", "github")), ErrorCode::TooLarge);
}

TEST(Release, BoundsWhatATemplateMakesOfAMintedToken) {
  Releases f;
  std::string often;
  for (int i = 0; i < 250; ++i) often += "{access_token}";
  for (int i = 0; i < 10; ++i) {
    f.backend("files")["delivery"]["env"]["T" + std::to_string(i)] = often;
  }
  f.load();
  EXPECT_EQ(code_of(f.release_as("alice", "files")), ErrorCode::TooLarge);
}

TEST(Release, NeedsTheClientsRight) {
  Releases f;
  f.store("github", "alice", {{"token", "t"}});
  f.client()["backends"] = {"files"};
  f.load();
  EXPECT_EQ(code_of(f.release_as("alice", "github")), ErrorCode::TargetRefused);
  f.client()["backends"] = {"*"};
  f.client()["scopes"] = {"files:read"};
  f.load();
  EXPECT_EQ(code_of(f.release_as("alice", "github")), ErrorCode::ScopeRefused);
}

TEST(Release, ADisabledBackendReleasesNothing) {
  Releases f;
  f.store("github", "alice", {{"token", "t"}});
  f.backend("github")["enabled"] = false;
  f.load();
  EXPECT_EQ(code_of(f.release_as("alice", "github")), ErrorCode::TargetRefused);
}

TEST(Release, VerifiesTheSubjectLikeAnExchange) {
  Releases f;
  const auto verify = [&](std::string_view token,
                          std::string_view type = GrantsFixture::kAccessToken) {
    return code_of(f.release.verify_subject(*f.snapshot, f.caller(), token, type, Wait::Yes));
  };
  const auto token = f.subject_token();
  EXPECT_EQ(verify(token), std::nullopt);
  EXPECT_EQ(verify(""), ErrorCode::InvalidToken);
  EXPECT_EQ(verify(token, "urn:ietf:params:oauth:token-type:saml2"), ErrorCode::MalformedRequest);
  // A backend's token never opens the vault.
  const auto issued = f.exchange(f.request(token));
  issued.value().access_token.expose(
      [&](ByteView own) { EXPECT_EQ(verify(as_text(own)), ErrorCode::InvalidToken); });
  auto claims = f.claims();
  claims["may_act"] = {{"sub", "agent"}};
  EXPECT_EQ(verify(f.idp.sign(claims)), ErrorCode::InvalidToken);
  claims["may_act"] = {{"sub", "gw-01"}};
  EXPECT_EQ(verify(f.idp.sign(claims)), std::nullopt);

  f.client()["grants"] = {"client_credentials"};
  f.load();
  EXPECT_EQ(verify(token), ErrorCode::UnauthorizedClient);
}

TEST(Release, RecordsTheCredentialButNeverItsValue) {
  Releases f;
  f.store("github", "alice", {{"token", "canary-4711"}});
  ASSERT_TRUE(f.release_as("alice", "github").ok());
  EXPECT_EQ(field_of(f.last_record, "credential"), "github");
  EXPECT_EQ(field_of(f.last_record, "credential_owner"), "principal");
  EXPECT_EQ(field_of(f.last_record, "credential_version"), "1");
  EXPECT_EQ(field_of(f.last_record, "subject"), "alice");
  EXPECT_EQ(audit::canonical(f.last_record).find("canary"), std::string::npos);
}

// ---- as it is stored, for Vault's views ----

struct StoredFields : Releases {
  Result<OpenedCredential> fields(const std::string& backend, std::string_view subject = "alice") {
    const auto token = test::must(
        release.verify_undeclared(*snapshot, caller(), subject_token(subject), Wait::Yes));
    last_record = record("credential.release");
    return release.release_fields(*snapshot, caller(), *token, backend, last_record, Wait::Yes);
  }
};

TEST(ReleaseFields, GivesWhatAReleaseGivesAsItIsStored) {
  StoredFields f;
  f.store("github", "alice", {{"token", "first"}});
  f.clock.advance(10s);
  f.store("github", "alice", {{"token", "ghp_alice"}, {"login", "alice"}});
  const auto opened = f.fields("github");
  ASSERT_TRUE(opened.ok()) << opened.error().detail;
  EXPECT_EQ(opened.value().fields.size(), 2u);
  EXPECT_EQ(text(opened.value().fields.at("token")), "ghp_alice");
  EXPECT_EQ(opened.value().used.version, 2u);
  EXPECT_EQ(opened.value().created_at, f.clock.now());
  EXPECT_EQ(field_of(f.last_record, "backend"), "github");
  EXPECT_EQ(field_of(f.last_record, "credential_owner"), "principal");
  EXPECT_EQ(code_of(f.fields("github", "bob")), ErrorCode::InteractionRequired);
}

TEST(ReleaseFields, TakesABackendByItsNameAlone) {
  StoredFields f;
  f.store("github", "alice", {{"token", "t"}});
  f.backend("github")["aliases"] = {"gh"};
  f.load();
  ASSERT_TRUE(f.release_as("alice", "gh").ok()) << "a release takes the alias";
  for (const char* name : {"gh", "https://github.example.com/mcp", "GitHub", "none", "", "files",
                           "search", "github "}) {
    EXPECT_EQ(code_of(f.fields(name)), ErrorCode::TargetRefused) << name;
  }
  f.backend("github")["enabled"] = false;
  f.load();
  EXPECT_EQ(code_of(f.fields("github")), ErrorCode::TargetRefused);
}

TEST(ReleaseFields, HoldsToAllThatAReleaseHoldsTo) {
  const std::vector<std::pair<ErrorCode, std::function<void(StoredFields&)>>> changes{
      {ErrorCode::TargetRefused, [](auto& f) { f.role()["allow"] = {"files:*"}; }},
      {ErrorCode::ScopeRefused, [](auto& f) { f.role()["allow"] = {"github:repo:read"}; }},
      {ErrorCode::ScopeRefused, [](auto& f) { f.client()["scopes"] = {"repo:read"}; }},
      {ErrorCode::TargetRefused, [](auto& f) { f.client()["backends"] = {"files"}; }},
      {ErrorCode::InsufficientAuthentication,
       [](auto& f) {
         f.backend("github")["require"] = {{"acr", {"mfa"}}};
       }},
      {ErrorCode::Unavailable, [](auto& f) {
         f.manifest["guardrails"] = {
             {"decision_point", {{"url", "https://opa.example/v1/data/a"}}}};
       }}};
  for (const auto& [code, change] : changes) {
    StoredFields f;
    f.store("github", "alice", {{"token", "t"}});
    ASSERT_TRUE(f.fields("github").ok());
    change(f);
    f.load();
    EXPECT_EQ(code_of(f.fields("github")), code);
    EXPECT_EQ(code_of(f.release_as("alice", "github")), code) << "as a release";
  }
}

TEST(VerifyUndeclared, TakesWhatTheClientCouldHaveDeclared) {
  Releases f;
  const auto verify = [&](const std::string& token) {
    return f.release.verify_undeclared(*f.snapshot, f.caller(), token, Wait::Yes);
  };
  auto id_token = f.claims();
  id_token["nonce"] = "n";
  for (const auto& [types, access, id] : std::vector<std::tuple<Json, bool, bool>>{
           {{"access_token"}, true, false},
           {{"id_token"}, true, true},  // nothing says that the first is none
           {{"jwt"}, true, true},
           {{"access_token", "id_token"}, true, true}}) {
    f.issuer()["token_types"] = types;
    f.load();
    EXPECT_EQ(verify(f.subject_token()).ok(), access) << types;
    EXPECT_EQ(verify(f.idp.sign(id_token)).ok(), id) << types;
  }
  f.issuer()["token_types"] = {"id_token"};
  f.load();
  EXPECT_EQ(code_of(verify(f.idp.sign(f.claims(), "at+jwt"))), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(verify("garbage")), ErrorCode::InvalidToken);
}

}  // namespace
}  // namespace postern::grants
