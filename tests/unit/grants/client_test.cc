// What a client may do for itself: authenticate, and the client_credentials grant.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "grants/client_authentication.h"
#include "grants/client_credentials.h"
#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::field_of;
using test::GrantsFixture;
using token::Json;

Result<const policy::Client*> authenticate(const GrantsFixture& f, const std::string& id,
                                           const std::string& secret) {
  return authenticate_client(*f.snapshot, id, ClientSecret(SecureBuffer::copy_of(secret)),
                             f.clock.now());
}

TEST(AuthenticateClient, TakesTheRightSecretOfAnEnabledClientOfAnEnabledTenant) {
  GrantsFixture f;
  const auto secret = f.tenants.secret(f.tenant, "gw-01");
  ASSERT_TRUE(authenticate(f, "gw-01", secret).ok());
  EXPECT_EQ(authenticate(f, "gw-01", secret).value()->id.str(), "gw-01");

  const auto reference = authenticate(f, "gw-01", "wrong");
  ASSERT_EQ(code_of(reference), ErrorCode::InvalidClient);
  const auto refused_alike = [&](const std::string& id, const std::string& given) {
    const auto result = authenticate(f, id, given);
    EXPECT_EQ(code_of(result), ErrorCode::InvalidClient) << id;
    EXPECT_EQ(result.error().detail, reference.error().detail) << id;
  };
  refused_alike("gw-01", "");
  refused_alike("gw-01", secret + " ");
  refused_alike("gw-01", std::string(100'000, 'x'));
  refused_alike("GW-01", secret);
  refused_alike("gw-02", secret);
  refused_alike("", "");
  refused_alike(std::string("gw-01\0", 6), secret);
  f.client()["enabled"] = false;
  f.load();
  refused_alike("gw-01", secret);
  f.client()["enabled"] = true;
  f.manifest["enabled"] = false;
  f.load();
  refused_alike("gw-01", secret);
}

TEST(AuthenticateClient, RefusesAClientWhoseRowIsGoneThoughItsSecretIsNot) {
  GrantsFixture f;
  const auto secret = f.tenants.secret(f.tenant, "gw-01");
  auto& stored = f.tenants.stored(f.tenant);
  stored.objects.erase(
      std::remove_if(stored.objects.begin(), stored.objects.end(),
                     [](const auto& object) { return object.kind == policy::Kind::Client; }),
      stored.objects.end());
  f.snapshot = f.tenants.snapshot(f.tenant);
  EXPECT_EQ(code_of(authenticate(f, "gw-01", secret)), ErrorCode::InvalidClient);
}

struct Granted : GrantsFixture {
  Result<IssuedToken> grant(std::vector<std::string_view> audiences,
                            std::vector<std::string_view> resources = {},
                            std::optional<std::string_view> scope = std::nullopt) {
    last_record = record("client_credentials");
    return client_credentials.grant(*snapshot, caller(), audiences, resources, scope, last_record);
  }
};

TEST(ClientCredentials, IssuesATokenWhoseSubjectIsTheClient) {
  Granted f;
  const auto issued = f.grant({}, {"https://files.example.com/mcp"}, "files:read");
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  const auto claims = f.open(issued.value().access_token);
  EXPECT_EQ(claims.at("sub"), "gw-01");
  EXPECT_EQ(claims.at("client_id"), "gw-01");
  EXPECT_EQ(claims.at("aud"), "https://files.example.com/mcp");
  EXPECT_EQ(claims.at("scope"), "files:read");
  EXPECT_FALSE(claims.contains("act"));
  EXPECT_FALSE(claims.contains("auth_time"));
  EXPECT_EQ(claims.size(), 8u);
  EXPECT_TRUE(issued.value().issued_token_type.empty());
  EXPECT_EQ(claims.at("jti"), field_of(f.last_record, "jti"));
}

TEST(ClientCredentials, StaysWithinTheRegistration) {
  Granted f;
  f.client()["scopes"] = {"files:read"};
  f.client()["backends"] = {"files"};
  f.load();
  EXPECT_EQ(f.grant({"files"}).value().scope.str(), "files:read");
  EXPECT_EQ(code_of(f.grant({"files"}, {}, "files:write")), ErrorCode::ScopeRefused);
  EXPECT_EQ(code_of(f.grant({"search"})), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(f.grant({})), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(f.grant({"files"}, {"https://search.example.com/mcp"})),
            ErrorCode::TargetRefused);
  f.client()["scopes"] = Json::array();
  f.load();
  EXPECT_EQ(code_of(f.grant({"files"})), ErrorCode::ScopeRefused);
}

TEST(ClientCredentials, NeverReachesAStoredCredential) {
  Granted f;
  EXPECT_EQ(code_of(f.grant({"github"})), ErrorCode::TargetRefused);
}

TEST(ClientCredentials, NeedsTheGrantAndAnEnabledClient) {
  Granted f;
  f.client()["grants"] = {"token-exchange"};
  f.load();
  EXPECT_EQ(code_of(f.grant({"files"})), ErrorCode::UnauthorizedClient);
  f.client()["grants"] = {"client_credentials"};
  f.client()["enabled"] = false;
  f.load();
  EXPECT_EQ(code_of(f.grant({"files"})), ErrorCode::UnauthorizedClient);
  f.client()["enabled"] = true;
  f.manifest["enabled"] = false;
  f.load();
  EXPECT_EQ(code_of(f.grant({"files"})), ErrorCode::UnauthorizedClient);
}

TEST(ClientCredentials, LastsAsLongAsBackendAndTenantAllow) {
  Granted f;
  f.backend("files")["max_expires_in"] = 120;
  f.load();
  EXPECT_EQ(f.grant({"files"}).value().expires_in, 120s);
  f.manifest["settings"]["max_token_lifetime"] = 60;
  f.load();
  EXPECT_EQ(f.grant({"files"}).value().expires_in, 60s);
}

TEST(ClientCredentials, AnsweredTokensAreNoSubjectTokens) {
  Granted f;
  const auto issued = f.grant({"files"});
  issued.value().access_token.expose([&](ByteView own) {
    EXPECT_EQ(code_of(f.exchange(f.request(as_text(own)))), ErrorCode::InvalidToken);
  });
}

}  // namespace
}  // namespace postern::grants
