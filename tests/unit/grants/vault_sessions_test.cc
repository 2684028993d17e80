// Clients at the Vault subset: their tokens, and what they may read by themselves.

#include "grants/vault_sessions.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "crypto/base64url.h"
#include "crypto/hash.h"
#include "grants/client_release.h"
#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::GrantsFixture;
using test::must;
using test::seconds_of;
using token::Json;

struct SessionsFixture : GrantsFixture {
  SessionsFixture() {
    manifest["settings"]["vault_api"] = {{"clients", {"gw-01"}}};
    manifest["settings"]["max_token_lifetime"] = 600;
    manifest["backends"].push_back({{"name", "db"},
                                    {"audience", "https://db.example.com/mcp"},
                                    {"answer", "vaulted"},
                                    {"scopes", {"db:read", "db:write"}},
                                    {"credential", {{"name", "shared-db"}, {"owner", "tenant"}}},
                                    {"delivery", {{"env", {{"DATABASE_URL", "{url}"}}}}}});
    load();
  }

  std::string start() { return text(must(sessions.start(*snapshot, gateway())).token); }
  static std::string text(const BearerToken& token) {
    return token.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  }
  auto verify(const std::string& token) const { return sessions.verify(*snapshot, token); }
  std::string child_of(const std::string& token) {
    return text(must(sessions.start_child(*snapshot, must(verify(token)), std::nullopt)).token);
  }
  /// The same token with its MAC under this label.
  std::string under_label(const std::string& token, std::string_view label) {
    const auto end = token.rfind('.');
    const auto begin = token.rfind('.', end - 1) + 1;
    const auto payload = token.substr(begin, end - begin);
    std::string mac;
    const auto make = [&](KekVersion, const Kek& kek) -> Status {
      mac = crypto::base64url(
          crypto::keyed_hash(crypto::derive(kek, "vaulttok"),
                             {as_bytes(label), as_bytes(tenant.str()), as_bytes(payload)}));
      return {};
    };
    EXPECT_TRUE(tenants.keyring().with_current(tenant, make).ok());
    return token.substr(0, end + 1) + mac;
  }

  VaultSessions sessions{tenants.keyring(), revocations, clock};
};

TEST(VaultSessions, SayWhoTheClientIsUntilTheyEnd) {
  SessionsFixture f;
  const auto started = must(f.sessions.start(*f.snapshot, f.gateway()));
  const auto token = f.text(started.token);
  EXPECT_TRUE(token.starts_with("postern_vt_acme."));
  EXPECT_EQ(started.session.expires_at, f.clock.now() + 600s);
  const auto session = must(f.verify(token));
  EXPECT_EQ(session.client, "gw-01");
  EXPECT_EQ(session.id, started.session.id);
  EXPECT_EQ(session.expires_at, started.session.expires_at);
  EXPECT_NE(f.start(), token);

  f.clock.advance(599s);
  EXPECT_TRUE(f.verify(token).ok());
  f.clock.advance(1s);
  EXPECT_EQ(code_of(f.verify(token)), ErrorCode::Unauthenticated);
  f.clock.advance(-(600s + 61s));
  EXPECT_EQ(code_of(f.verify(token)), ErrorCode::Unauthenticated) << "made in the future";
}

TEST(VaultSessions, EndWhenTheyAreGivenBack) {
  SessionsFixture f;
  const auto token = f.start();
  const auto other = f.start();
  ASSERT_TRUE(f.sessions.end(f.tenant, must(f.verify(token))).ok());
  EXPECT_EQ(code_of(f.verify(token)), ErrorCode::Unauthenticated);
  EXPECT_TRUE(f.verify(other).ok());
  f.revocations.be_stale();
  EXPECT_EQ(code_of(f.verify(other)), ErrorCode::Unavailable)
      << "nobody knows whether it is revoked";
}

TEST(VaultSessions, WithParentsAreNoneToWhoDoesNotKnowParents) {
  SessionsFixture f;
  constexpr std::string_view kFirst = "postern-vault-token-v1", kSecond = "postern-vault-token-v2";
  const auto token = f.start();
  const auto child = f.child_of(token), grandchild = f.child_of(child);
  // What the release before takes is the first label alone.
  EXPECT_EQ(f.under_label(token, kFirst), token);
  EXPECT_EQ(code_of(f.verify(f.under_label(token, kSecond))), ErrorCode::Unauthenticated);
  for (const auto& each : {child, grandchild}) {
    EXPECT_TRUE(f.verify(each).ok());
    EXPECT_EQ(f.under_label(each, kSecond), each);
    EXPECT_EQ(code_of(f.verify(f.under_label(each, kFirst))), ErrorCode::Unauthenticated);
  }
  ASSERT_TRUE(f.sessions.end(f.tenant, must(f.verify(token))).ok());
  for (const auto& each : {child, grandchild}) {
    EXPECT_EQ(code_of(f.verify(each)), ErrorCode::Unauthenticated) << "ended with the first";
  }
}

TEST(VaultSessions, AreTakenAsTheyAreOrNotAtAll) {
  SessionsFixture f;
  const auto token = f.start();
  for (std::size_t i = 0; i < token.size(); ++i) {
    for (const char c : {'A', '.', '0', '_'}) {
      auto spoilt = token;
      if (spoilt[i] == c) continue;
      spoilt[i] = c;
      // Not the unused bits of a last character: base64url has one spelling.
      EXPECT_EQ(code_of(f.verify(spoilt)), ErrorCode::Unauthenticated) << i << c;
    }
    EXPECT_EQ(code_of(f.verify(token.substr(0, i))), ErrorCode::Unauthenticated) << i;
  }
  for (const auto& text :
       {token + ".", token + "A", "x" + token, token + token, std::string("postern_vt_"),
        std::string("postern_vt_acme..."), std::string(5000, '.')}) {
    EXPECT_EQ(code_of(f.verify(text)), ErrorCode::Unauthenticated) << text;
  }
}

TEST(VaultSessions, AreOfOneTenant) {
  SessionsFixture f;
  auto other = f.manifest;
  other["tenant"] = "globex";
  other["issuers"] = Json::array();
  other["bindings"] = Json::array();
  f.tenants.apply(other, f.clock.now());
  const TenantId globex("globex");
  f.revocations.add_tenant(globex);
  const auto there = f.tenants.snapshot(globex);
  const auto token = f.start();
  EXPECT_EQ(code_of(f.sessions.verify(*there, token)), ErrorCode::Unauthenticated);
  const auto renamed = "postern_vt_globex" + token.substr(token.find('.'));
  EXPECT_EQ(code_of(f.sessions.verify(*there, renamed)), ErrorCode::Unauthenticated);
}

TEST(VaultSessions, LastAsLongAsTheClientsRight) {
  const std::vector<std::pair<const char*, std::function<void(SessionsFixture&)>>> changes{
      {"tenant", [](auto& f) { f.manifest["settings"].erase("vault_api"); }},
      {"list", [](auto& f) { f.manifest["settings"]["vault_api"]["clients"] = {"other"}; }},
      {"operator",
       [](auto& f) {
         f.manifest["guardrails"] = {{"vault_api", false}};
       }},
      {"operator's methods",
       [](auto& f) {
         f.manifest["guardrails"] = {{"client_authentication", {"private_key_jwt"}}};
       }},
      {"client", [](auto& f) { f.client()["enabled"] = false; }},
      {"grant", [](auto& f) { f.client()["grants"] = {"token-exchange"}; }},
      {"dpop", [](auto& f) { f.client()["dpop_bound"] = true; }},
      {"certificate", [](auto& f) { f.client()["certificate_bound"] = true; }}};
  for (const auto& [what, change] : changes) {
    SessionsFixture f;
    const auto token = f.start();
    ASSERT_TRUE(VaultSessions::check_client(*f.snapshot, f.gateway()).ok());
    change(f);
    f.load();
    EXPECT_EQ(code_of(f.verify(token)), ErrorCode::Unauthenticated) << what;
    EXPECT_EQ(code_of(VaultSessions::check_client(*f.snapshot, f.gateway())), ErrorCode::Forbidden)
        << what;
  }
}

// ---- for a user ----

struct UserSessions : SessionsFixture {
  UserSessions() {
    manifest["settings"]["vault_api"]["views"] = {{{"path", "{preferred_username}/{backend}"}}};
    load();
  }
  std::string start(const std::string& token) { return text(must(begin(token)).token); }
  Result<VaultSessions::Started> begin(const std::string& token) {
    POSTERN_TRY(const auto user, release.verify_undeclared(*snapshot, caller(), token, Wait::Yes));
    return sessions.start_for_user(*snapshot, gateway(), *user, token);
  }
  auto verify(const std::string& token) const { return sessions.verify_for_user(*snapshot, token); }
};

TEST(VaultSessionsForUsers, HoldTheUsersTokenAndEndWithIt) {
  UserSessions f;
  const auto alice = f.subject_token();
  const auto started = must(f.begin(alice));
  EXPECT_EQ(started.session.expires_at, f.clock.now() + 300s) << "the user's token's end";
  const auto token = f.text(started.token);
  EXPECT_TRUE(token.starts_with("postern_vu_acme."));
  EXPECT_EQ(token.find(alice.substr(0, 20)), std::string::npos) << "it is sealed";
  const auto held = must(f.verify(token));
  EXPECT_EQ(held.session.client, "gw-01");
  EXPECT_EQ(held.session.id, started.session.id);
  EXPECT_EQ(held.user_token.expose([](ByteView bytes) { return std::string(as_text(bytes)); }),
            alice);
  auto claims = f.claims();
  claims["exp"] = seconds_of(f.clock.now() + 3600s);
  const auto longer = f.start(f.idp.sign(claims));
  f.clock.advance(299s);
  EXPECT_TRUE(f.verify(token).ok());
  f.clock.advance(1s);
  EXPECT_EQ(code_of(f.verify(token)), ErrorCode::Unauthenticated);
  f.clock.advance(299s);
  EXPECT_TRUE(f.verify(longer).ok());
  f.clock.advance(1s);
  EXPECT_EQ(code_of(f.verify(longer)), ErrorCode::Unauthenticated) << "the tenant's limit";
}

TEST(VaultSessionsForUsers, AreNoSessionsOfClientsNorTheOtherWayRound) {
  UserSessions f;
  const auto of_user = f.start(f.subject_token());
  const auto of_client = static_cast<SessionsFixture&>(f).start();
  EXPECT_EQ(code_of(f.verify(of_client)), ErrorCode::Unauthenticated);
  EXPECT_EQ(code_of(f.sessions.verify(*f.snapshot, of_user)), ErrorCode::Unauthenticated);
  const auto under = [](std::string_view prefix, const std::string& token) {
    return std::string(prefix) + token.substr(prefix.size());
  };
  EXPECT_EQ(code_of(f.verify(under(VaultSessions::kUserPrefix, of_client))),
            ErrorCode::Unauthenticated);
  EXPECT_EQ(code_of(f.sessions.verify(*f.snapshot, under(VaultSessions::kPrefix, of_user))),
            ErrorCode::Unauthenticated);
}

TEST(VaultSessionsForUsers, AreTakenAsTheyAreOrNotAtAll) {
  UserSessions f;
  const auto token = f.start(f.subject_token());
  for (std::size_t i = 0; i < token.size(); ++i) {
    for (const char c : {'A', '.', '_'}) {
      auto spoilt = token;
      if (spoilt[i] == c) continue;
      spoilt[i] = c;
      EXPECT_EQ(code_of(f.verify(spoilt)), ErrorCode::Unauthenticated) << i << c;
    }
    EXPECT_EQ(code_of(f.verify(token.substr(0, i))), ErrorCode::Unauthenticated) << i;
  }
  for (const auto& text : {token + ".", token + "A", "x" + token, std::string("postern_vu_"),
                           std::string("postern_vu_acme.1."), std::string("postern_vu_acme.9.AAAA"),
                           "postern_vu_acme.1." + std::string(20'000, 'A')}) {
    EXPECT_EQ(code_of(f.verify(text)), ErrorCode::Unauthenticated) << text.substr(0, 40);
  }
  // Not where another tenant's key is asked.
  auto other = f.manifest;
  other["tenant"] = "globex";
  other["issuers"] = Json::array();
  other["bindings"] = Json::array();
  f.tenants.apply(other, f.clock.now());
  f.revocations.add_tenant(TenantId("globex"));
  const auto there = f.tenants.snapshot(TenantId("globex"));
  const auto renamed = "postern_vu_globex" + token.substr(token.find('.'));
  EXPECT_EQ(code_of(f.sessions.verify_for_user(*there, token)), ErrorCode::Unauthenticated);
  EXPECT_EQ(code_of(f.sessions.verify_for_user(*there, renamed)), ErrorCode::Unauthenticated);
}

TEST(VaultSessionsForUsers, HaveABound) {
  UserSessions f;
  auto claims = f.claims();
  claims["more"] = std::string(5600, 'x');
  EXPECT_LT(f.start(f.idp.sign(claims)).size(), 12u * 1024);
  claims["more"] = std::string(6500, 'x');
  EXPECT_EQ(code_of(f.begin(f.idp.sign(claims))), ErrorCode::TooLarge);
}

TEST(VaultSessionsForUsers, LastAsLongAsTheClientsRight) {
  const std::vector<std::pair<const char*, std::function<void(UserSessions&)>>> changes{
      {"tenant", [](auto& f) { f.manifest["settings"].erase("vault_api"); }},
      {"views", [](auto& f) { f.manifest["settings"]["vault_api"].erase("views"); }},
      {"list", [](auto& f) { f.manifest["settings"]["vault_api"]["clients"] = {"other"}; }},
      {"operator",
       [](auto& f) {
         f.manifest["guardrails"] = {{"vault_api", false}};
       }},
      {"client", [](auto& f) { f.client()["enabled"] = false; }},
      {"grant", [](auto& f) { f.client()["grants"] = {"client_credentials"}; }},
      {"dpop", [](auto& f) { f.client()["dpop_bound"] = true; }},
      {"certificate", [](auto& f) { f.client()["certificate_bound"] = true; }}};
  for (const auto& [what, change] : changes) {
    UserSessions f;
    const auto token = f.start(f.subject_token());
    ASSERT_TRUE(f.verify(token).ok());
    change(f);
    f.load();
    EXPECT_EQ(code_of(f.verify(token)), ErrorCode::Unauthenticated) << what;
    EXPECT_EQ(code_of(VaultSessions::check_client(*f.snapshot, f.gateway(), ActsFor::User)),
              ErrorCode::Forbidden)
        << what;
  }
  UserSessions f;
  const auto token = f.start(f.subject_token());
  ASSERT_TRUE(f.sessions.end(f.tenant, must(f.verify(token)).session).ok());
  EXPECT_EQ(code_of(f.verify(token)), ErrorCode::Unauthenticated);
}

TEST(VaultSessionsForUsers, ClaimsForPathsAreKeptWhereThereAreViews) {
  UserSessions f;
  auto claims = f.claims();
  claims["preferred_username"] = "alice-name";
  const auto kept = must(f.verifier.verify(*f.snapshot, f.caller(), f.idp.sign(claims),
                                           policy::SubjectTokenType::AccessToken, Wait::Yes));
  EXPECT_EQ(kept->view_claims.sub, "alice");
  EXPECT_EQ(kept->view_claims.preferred_username, "alice-name");
  for (const Json& other : {Json(1), Json(nullptr), Json::array({"alice"}), Json::object()}) {
    claims["preferred_username"] = other;
    const auto none = must(f.verifier.verify(*f.snapshot, f.caller(), f.idp.sign(claims),
                                             policy::SubjectTokenType::AccessToken, Wait::Yes));
    EXPECT_FALSE(none->view_claims.preferred_username) << other;
  }
  f.manifest["settings"]["vault_api"].erase("views");
  f.load();
  const auto off = must(f.verifier.verify(*f.snapshot, f.caller(), f.idp.sign(claims),
                                          policy::SubjectTokenType::AccessToken, Wait::Yes));
  EXPECT_FALSE(off->view_claims.sub);
}

struct ClientReleaseFixture : SessionsFixture {
  auto check(const char* name = "shared-db") const {
    return client_release.check(*snapshot, gateway(), CredentialName(name), Wait::Database);
  }
  ClientRelease client_release{clock, nullptr, nullptr};
};

TEST(ClientRelease, GivesWhatAVaultedBackendOfTheClientTakesOfTheTenant) {
  ClientReleaseFixture f;
  EXPECT_TRUE(f.check().ok());
  for (const char* name : {"github", "none", "files", "db"}) {
    EXPECT_EQ(code_of(f.check(name)), ErrorCode::Forbidden) << name;
  }
  f.backend("db")["credential"]["owner"] = "principal_or_tenant";
  f.load();
  EXPECT_TRUE(f.check().ok());
}

TEST(ClientRelease, RefusesWhatTheClientMayNotHaveByItself) {
  const std::vector<std::pair<const char*, std::function<void(ClientReleaseFixture&)>>> changes{
      {"backend off", [](auto& f) { f.backend("db")["enabled"] = false; }},
      {"of users", [](auto& f) { f.backend("db")["credential"]["owner"] = "principal"; }},
      {"a demand",
       [](auto& f) {
         f.backend("db")["require"] = {{"acr", {"mfa"}}};
       }},
      {"not its backend", [](auto& f) { f.client()["backends"] = {"files"}; }},
      {"some scopes", [](auto& f) { f.client()["scopes"] = {"db:read"}; }},
      {"no scope", [](auto& f) { f.client()["scopes"] = {"files:read"}; }}};
  for (const auto& [what, change] : changes) {
    ClientReleaseFixture f;
    change(f);
    f.load();
    EXPECT_EQ(code_of(f.check()), ErrorCode::Forbidden) << what;
  }
}

TEST(ClientRelease, IsClosedWithoutTheDecisionPointThatTheTenantHas) {
  ClientReleaseFixture f;
  f.manifest["guardrails"] = {{"decision_point", {{"url", "https://opa.example/v1/data/a"}}}};
  f.load();
  EXPECT_EQ(code_of(f.check()), ErrorCode::Unavailable);
}

}  // namespace
}  // namespace postern::grants
