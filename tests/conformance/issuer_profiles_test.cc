// Tokens as identity providers make them, against the manifest snippets of
// docs/issuers.md: what is written there is what is tried here. RFC 8725 §3.8,
// OpenID Connect Core §2, rows V7, V8, V11 and X3 to X6 of docs/conformance.md.

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "cli/manifest.h"
#include "crypto/base64url.h"
#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern {
namespace {

using policy::SubjectTokenType;
using test::code_of;
using test::GrantsFixture;
using test::Idp;
using test::seconds_of;
using token::Json;
using namespace std::chrono_literals;

constexpr auto kRefused = ErrorCode::InvalidToken;
using enum SubjectTokenType;

/// The YAML below a heading of docs/issuers.md, as JSON.
Json snippet(const std::string& heading) {
  std::ifstream file(POSTERN_SOURCE_DIR "/docs/issuers.md");
  std::stringstream text;
  text << file.rdbuf();
  const auto page = text.str();
  const auto at = page.find("\n## " + heading + "\n");
  const auto begin = page.find("```yaml\n", at) + 8;
  const auto end = page.find("```", begin);
  if (at == std::string::npos || end == std::string::npos) throw std::runtime_error(heading);
  auto reading = cli::read_yaml(page.substr(begin, end - begin), heading, cli::Documents::One);
  if (!reading.faults.empty()) throw std::runtime_error(reading.faults.front().text());
  return Json::parse(reading.documents.at(0).json().dump()).at("issuers").at(0);
}

/// A tenant that trusts the provider as its snippet says, but for where the keys
/// come from: they are the test's. Its roles are bound to the group `engineers`.
struct Profile : GrantsFixture {
  explicit Profile(const std::string& heading,
                   crypto::Algorithm algorithm = crypto::Algorithm::RS256)
      : registered(snippet(heading)),
        provider(registered.at("issuer").get<std::string>(), algorithm),
        audience(registered.at("audiences").at(0).get<std::string>()) {
    auto issuer = registered;
    for (const char* source : {"discovery", "jwks_uri"}) issuer.erase(source);
    if (!issuer.contains("introspection")) issuer["jwks"] = provider.jwks();
    manifest["issuers"] = Json::array({issuer});
    manifest["clients"][0]["audiences"] = {audience};
    const auto prefix = issuer.value("subject_prefix", "");
    manifest["bindings"] = {{{"role", "developer"}, {"groups", {prefix + "engineers"}}}};
    load();
  }

  std::int64_t at(std::chrono::seconds offset) const { return seconds_of(clock.now() + offset); }
  Result<grants::VerifiedTokenPtr> take(const Json& claims, SubjectTokenType type = AccessToken,
                                        std::string_view typ = "JWT") {
    return verify(provider.sign(claims, typ), type);
  }
  /// How a change to an otherwise good token is received.
  std::optional<ErrorCode> changed(const std::function<void(Json&)>& change,
                                   SubjectTokenType type = AccessToken,
                                   std::string_view typ = "JWT") {
    auto claims = good;
    change(claims);
    return code_of(take(claims, type, typ));
  }
  std::optional<ErrorCode> with(const char* name, const Json& value,
                                SubjectTokenType type = AccessToken) {
    return changed([&](Json& claims) { claims[name] = value; }, type);
  }
  std::optional<ErrorCode> without(const char* name, SubjectTokenType type = AccessToken) {
    return changed([&](Json& claims) { claims.erase(name); }, type);
  }

  const Json registered;
  const Idp provider;
  const std::string audience;
  Json good;
};

const std::string kTid = "2f4a9838-26b7-47ee-be60-ccc1fdec5953";
const std::string kOid = "00000000-0000-0000-66f3-3332eca7ea81";

struct EntraV2 : Profile {
  EntraV2() : Profile("Entra ID") {
    good = {{"aud", audience},
            {"iss", "https://login.microsoftonline.com/" + kTid + "/v2.0"},
            {"iat", at(-5s)},
            {"nbf", at(-5s)},
            {"exp", at(4000s)},
            {"aio", "AXQAi/8IAAAAtAaZLo3ChMif6KOnttRB7eBq4/DccQzjcJGxPYy/C3jDaNGxXd6wNIIVGRghNRnw"},
            {"azp", "2b0b5c2e-3d62-4a4e-9c3e-0f1f7e0f0c9d"},
            {"azpacr", "1"},
            {"name", "Alice Example"},
            {"oid", kOid},
            {"preferred_username", "alice@acme.example"},
            {"rh", "0.ARoAv4j5cvGGr0GRqy180BHbR."},
            {"roles", {"engineers", "auditors"}},
            {"scp", "Files.Read Mcp.Use"},
            {"sub", "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ"},
            {"tid", kTid},
            {"uti", "fqiBqXLPj0eQa82S-IYFAA"},
            {"ver", "2.0"}};
  }
};

TEST(EntraId, V2AccessToken) {
  EntraV2 f;
  const auto token = f.take(f.good);
  ASSERT_TRUE(token.ok()) << token.error().detail;
  EXPECT_EQ(token.value()->principal.subject, kOid);
  EXPECT_EQ(token.value()->groups, (std::vector<std::string>{"auditors", "engineers"}));
  EXPECT_EQ(token.value()->scope->str(), "Files.Read Mcp.Use");
  EXPECT_TRUE(code_of(f.take(f.good, IdToken)) == kRefused);  // only access tokens are registered
  // A daemon has no scp, and roles as well.
  EXPECT_EQ(f.without("scp"), std::nullopt);
}

TEST(EntraId, V11_OnlyTheOneTenantsV2Issuer) {
  EntraV2 f;
  for (const auto& issuer :
       {"https://login.microsoftonline.com/common/v2.0",
        "https://login.microsoftonline.com/organizations/v2.0",
        "https://login.microsoftonline.com/{tenantid}/v2.0",
        "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
        "https://login.microsoftonline.com/2f4a9838-26b7-47ee-be60-ccc1fdec5953/v2.0/",
        "https://sts.windows.net/2f4a9838-26b7-47ee-be60-ccc1fdec5953/"}) {
    EXPECT_EQ(f.with("iss", issuer), kRefused) << issuer;
  }
  EXPECT_EQ(f.with("tid", "9188040d-6c67-4c5b-b112-36a304b66dad"), kRefused);
  EXPECT_EQ(f.without("tid"), kRefused);
  // Graph's token, another app's token, the App ID URI of v1.
  for (const char* aud : {"00000003-0000-0000-c000-000000000000", "api://mcp-gateway",
                          "1f7e0f0c-0000-4a4e-9c3e-2b0b5c2e3d62"}) {
    EXPECT_EQ(f.with("aud", aud), kRefused) << aud;
  }
  EXPECT_EQ(f.without("oid"), kRefused);  // sub is another id for each app
}

TEST(EntraId, V11_ATemplateIsRefusedWithWhatToWrite) {
  EntraV2 f;
  f.manifest["issuers"][0]["issuer"] = "https://login.microsoftonline.com/common/v2.0";
  const auto read = policy::Manifest::read(f.manifest);
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().pointer, "/issuers/0/issuer");
  EXPECT_NE(read.error().detail.find("https://login.microsoftonline.com/<tenant id>/v2.0"),
            std::string::npos);
}

TEST(EntraId, TwoTenantsAreTwoIssuers) {
  EntraV2 f;
  const Idp other("https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0");
  auto second = f.manifest["issuers"][0];
  second["name"] = "partner";
  second["issuer"] = other.issuer();
  second["jwks"] = other.jwks();
  second["subject_prefix"] = "partner:";
  second["required_claims"] = {{"tid", {"72f988bf-86f1-41af-91ab-2d7cd011db47"}}};
  f.manifest["issuers"].push_back(second);
  f.load();
  EXPECT_EQ(code_of(f.take(f.good)), std::nullopt);
  // CVE-2025-55241, Storm-0558: one tenant's key, another tenant's name.
  EXPECT_EQ(code_of(f.verify(other.sign(f.good))), kRefused);
  auto claims = f.good;
  claims["iss"] = other.issuer();
  EXPECT_EQ(code_of(f.verify(other.sign(claims))), kRefused);  // tid still says the first
  claims["tid"] = "72f988bf-86f1-41af-91ab-2d7cd011db47";
  const auto token = f.verify(other.sign(claims));
  ASSERT_TRUE(token.ok());
  EXPECT_EQ(token.value()->groups.back(), "partner:engineers");
}

struct EntraV1 : Profile {
  EntraV1() : Profile("Entra ID, v1 tokens") {
    good = {{"aud", "api://mcp-gateway"},
            {"iss", "https://sts.windows.net/" + kTid + "/"},
            {"iat", at(-5s)},
            {"nbf", at(-5s)},
            {"exp", at(4000s)},
            {"acr", "1"},
            {"amr", {"pwd", "mfa"}},
            {"appid", "2b0b5c2e-3d62-4a4e-9c3e-0f1f7e0f0c9d"},
            {"appidacr", "0"},
            {"groups", {"engineers", "6c4c1a4e-0d3f-4a5b-8c1e-000000000001"}},
            {"ipaddr", "203.0.113.7"},
            {"oid", kOid},
            {"scp", "user_impersonation"},
            {"sub", "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ"},
            {"tid", kTid},
            {"unique_name", "alice@acme.example"},
            {"upn", "alice@acme.example"},
            {"ver", "1.0"}};
  }
};

TEST(EntraId, V1AccessToken) {
  EntraV1 f;
  const auto token = f.take(f.good);
  ASSERT_TRUE(token.ok()) << token.error().detail;
  EXPECT_EQ(token.value()->principal, (Principal{f.provider.issuer(), kOid}));
  EXPECT_EQ(token.value()->auth_context.at("amr"), Json({"pwd", "mfa"}));
  EXPECT_EQ(f.with("ver", "2.0"), kRefused);
  EXPECT_EQ(f.with("iss", "https://sts.windows.net/" + kTid), kRefused);
  EXPECT_EQ(f.with("iss", "https://login.microsoftonline.com/" + kTid + "/v2.0"), kRefused);
  EXPECT_EQ(f.with("aud", "https://graph.microsoft.com"), kRefused);
}

TEST(EntraId, GroupsOverageIsRefused) {
  EntraV1 f;
  const Json overage{{"groups", "src1"}};
  EXPECT_EQ(f.changed([&](Json& claims) {
    claims.erase("groups");
    claims["_claim_names"] = overage;
    claims["_claim_sources"] = {{"src1",
                                 {{"endpoint", "https://graph.windows.net/" + kTid + "/users/" +
                                                   kOid + "/getMemberObjects"}}}};
  }),
            kRefused);
  EXPECT_EQ(f.with("hasgroups", true), kRefused);
  EntraV2 roles;  // bound by app roles, which are never left out
  EXPECT_EQ(roles.with("_claim_names", overage), std::nullopt);
  EXPECT_EQ(roles.with("hasgroups", true), std::nullopt);
}

TEST(AzureAdB2c, OnlyTheNamedUserFlows) {
  Profile f("Azure AD B2C");
  f.good = {{"iss", "https://contoso.b2clogin.com/775527ff-9a37-4307-8b3d-cc311f58d925/v2.0/"},
            {"exp", f.at(3600s)},
            {"nbf", f.at(0s)},
            {"iat", f.at(0s)},
            {"aud", f.audience},
            {"idp", "facebook.com"},
            {"sub", "884408e1-2918-4cz0-b12d-3aa027d7563b"},
            {"tfp", "B2C_1_signin"},
            {"scp", "read"},
            {"azp", "90c0fe63-bcf2-44d5-8fb7-b8bbc0b29dc6"},
            {"ver", "1.0"},
            {"emails", {"alice@example.com"}}};
  EXPECT_EQ(code_of(f.take(f.good)), std::nullopt);
  for (const char* tfp : {"B2C_1_passwordreset", "b2c_1_signin", "B2C_1A_TRUSTFRAMEWORKBASE", ""}) {
    EXPECT_EQ(f.with("tfp", tfp), kRefused) << tfp;
  }
  EXPECT_EQ(f.without("tfp"), kRefused);
  EXPECT_EQ(f.with("iss",
                   "https://contoso.b2clogin.com/tfp/775527ff-9a37-4307-8b3d-cc311f58d925/"
                   "b2c_1_signin/v2.0/"),
            kRefused);
  EXPECT_EQ(
      f.with("iss", "https://fabrikam.b2clogin.com/775527ff-9a37-4307-8b3d-cc311f58d925/v2.0/"),
      kRefused);
}

struct Google : Profile {
  Google() : Profile("Google") {
    good = {{"iss", "https://accounts.google.com"},
            {"azp", audience},
            {"aud", audience},
            {"sub", "10769150350006150715113082367"},
            {"at_hash", "HK6E_P6Dh8Y93mRNtsDB1Q"},
            {"hd", "acme.example"},
            {"email", "alice@acme.example"},
            {"email_verified", true},
            {"iat", at(-5s)},
            {"exp", at(3595s)},
            {"nonce", "0394852-3190485-2490358"}};
  }
};

TEST(Google, IdTokenOfTheOwnDomain) {
  Google f;
  EXPECT_EQ(code_of(f.take(f.good, IdToken)), std::nullopt);
  EXPECT_EQ(code_of(f.take(f.good, AccessToken)), kRefused);
  EXPECT_EQ(code_of(f.take(f.good, Jwt)), kRefused);
  EXPECT_EQ(f.with("hd", "evil.example", IdToken), kRefused);
  EXPECT_EQ(f.without("hd", IdToken), kRefused);  // a private gmail.com account
  EXPECT_EQ(f.with("aud", "1234987819200-other.apps.googleusercontent.com", IdToken), kRefused);
  // An app of the same project got it for us: `azp` is not who presents it.
  EXPECT_EQ(f.changed(
                [&](Json& claims) {
                  claims["aud"] = {f.audience, "other"};
                  claims["azp"] = "other";
                },
                IdToken),
            kRefused);
}

TEST(Google, V11_TheBareIssuerIsAnotherIssuer) {
  Google f;
  EXPECT_EQ(f.with("iss", "accounts.google.com", IdToken), kRefused);
  auto bare = f.manifest["issuers"][0];
  bare["name"] = "google-bare";
  bare["issuer"] = "accounts.google.com";
  bare["subject_prefix"] = "old:";
  f.manifest["issuers"].push_back(bare);
  f.load();
  EXPECT_EQ(f.with("iss", "accounts.google.com", IdToken), std::nullopt);
  EXPECT_EQ(code_of(f.take(f.good, IdToken)), std::nullopt);
  for (const char* issuer : {"accounts.google.com/", "http://accounts.google.com",
                             "https://accounts.google.com/", "Accounts.google.com"}) {
    EXPECT_EQ(f.with("iss", issuer, IdToken), kRefused) << issuer;
  }
}

struct Okta : Profile {
  Okta() : Profile("Okta") {
    good = {{"ver", 1},
            {"jti", "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE"},
            {"iss", "https://acme.okta.com/oauth2/default"},
            {"aud", "api://mcp-gateway"},
            {"iat", at(-5s)},
            {"exp", at(3595s)},
            {"cid", "0oa8o8hWXgv5CF2CW1d7"},
            {"uid", "00uid4BxXw6I6TV4m0g3"},
            {"scp", {"openid", "files:read"}},
            {"groups", {"Everyone", "engineers"}},
            {"sub", "alice@acme.example"}};
  }
};

TEST(Okta, AccessTokenOfACustomServer) {
  Okta f;
  const auto token = f.take(f.good);
  ASSERT_TRUE(token.ok()) << token.error().detail;
  EXPECT_EQ(token.value()->principal.subject, "00uid4BxXw6I6TV4m0g3");
  EXPECT_EQ(token.value()->scope->str(), "files:read openid");
  const auto same = [](Json&) {};
  EXPECT_EQ(f.changed(same, AccessToken, "application/okta-internal-at+jwt"), std::nullopt);
  EXPECT_EQ(f.changed(same, AccessToken, "okta-other+jwt"), kRefused);
  EXPECT_EQ(f.changed(same, AccessToken, "okta-id+jwt"), kRefused);
  for (const char* issuer :
       {"https://acme.okta.com", "https://acme.okta.com/oauth2/aus1",
        "https://evil.okta.com/oauth2/default", "https://acme.okta.com/oauth2/default/"}) {
    EXPECT_EQ(f.with("iss", issuer), kRefused) << issuer;
  }
  EXPECT_EQ(f.with("aud", "https://acme.okta.com"), kRefused);
  EXPECT_EQ(f.without("uid"), kRefused);  // a service app's token: nobody is behind it
}

TEST(Okta, IdTokenOfTheOrgServer) {
  Profile f("Okta, org server");
  f.good = {{"ver", 1},
            {"iss", "https://acme.okta.com"},
            {"aud", f.audience},
            {"sub", "00uid4BxXw6I6TV4m0g3"},
            {"iat", f.at(-5s)},
            {"exp", f.at(3595s)},
            {"jti", "ID.4eAWJOCMB3SX8XewDfVR"},
            {"amr", {"pwd"}},
            {"idp", "00oi4BxXw6I6TV4m0g3"},
            {"nonce", "n-0S6_WzA2Mj"},
            {"at_hash", "cpqKfdQA5eH891Ff5oJr_Q"}};
  EXPECT_EQ(code_of(f.take(f.good, IdToken)), std::nullopt);
  EXPECT_EQ(code_of(f.take(f.good, AccessToken)), kRefused);
  EXPECT_EQ(f.with("aud", "https://acme.okta.com", IdToken), kRefused);  // its access tokens
  EXPECT_EQ(f.with("iss", "https://acme.okta.com/oauth2/default", IdToken), kRefused);
}

TEST(Auth0, AccessTokenForAnApi) {
  Profile f("Auth0");
  f.good = {{"iss", "https://acme.eu.auth0.com/"},
            {"sub", "auth0|5f7c8ec7c33c6c004bbafe82"},
            {"aud", {"https://mcp.acme.example/", "https://acme.eu.auth0.com/userinfo"}},
            {"iat", f.at(-5s)},
            {"exp", f.at(86395s)},
            {"azp", "my_client_id"},
            {"scope", "openid profile files:read"},
            {"https://acme.example/roles", {"engineers"}},
            {"permissions", {"files:read"}}};
  const auto same = [](Json&) {};
  const auto token = f.take(f.good);
  ASSERT_TRUE(token.ok()) << token.error().detail;
  EXPECT_EQ(token.value()->groups, std::vector<std::string>{"engineers"});
  EXPECT_EQ(f.changed(same, AccessToken, "at+jwt"), std::nullopt);  // the RFC 9068 profile
  EXPECT_EQ(f.with("aud", "https://mcp.acme.example/"), std::nullopt);
  EXPECT_EQ(f.with("aud", "https://acme.eu.auth0.com/userinfo"), kRefused);
  EXPECT_EQ(f.with("aud", "https://mcp.acme.example"), kRefused);
  EXPECT_EQ(f.with("aud", "my_client_id"), kRefused);  // an ID token
  EXPECT_EQ(f.with("iss", "https://acme.eu.auth0.com"), kRefused);
  EXPECT_EQ(f.with("iss", "https://acme.us.auth0.com/"), kRefused);
  EXPECT_EQ(f.with("https://acme.example/roles", Json({{"engineers", true}})), kRefused);
  // A claim without the namespace is somebody else's.
  EXPECT_TRUE(f.take([&] {
                 auto claims = f.good;
                 claims.erase("https://acme.example/roles");
                 claims["roles"] = {"engineers"};
                 return claims;
               }())
                  .value()
                  ->groups.empty());
}

struct Keycloak : Profile {
  Keycloak() : Profile("Keycloak") {
    good = {{"exp", at(300s)},
            {"iat", at(-5s)},
            {"auth_time", at(-60s)},
            {"jti", "ofrtac:2d5f7f0a-6a0e-4d8f-8a53-8b6d1d9b9f11"},
            {"iss", "https://sso.acme.example/realms/acme"},
            {"aud", {"mcp-gateway", "account"}},
            {"sub", "f1b2c3d4-5678-90ab-cdef-1234567890ab"},
            {"typ", "Bearer"},
            {"azp", "web-app"},
            {"sid", "1b6a0a9c-31a7-4b3c-9e38-bd0d3c1ea0a9"},
            {"acr", "1"},
            {"allowed-origins", {"https://app.acme.example"}},
            {"realm_access", {{"roles", {"default-roles-acme", "engineers"}}}},
            {"resource_access",
             {{"mcp-gateway", {{"roles", {"tool-user"}}}}, {"account", {{"roles", {"view"}}}}}},
            {"scope", "openid email files:read"},
            {"email_verified", true},
            {"preferred_username", "alice"}};
  }
};

TEST(Keycloak, AccessTokenWithRealmRoles) {
  Keycloak f;
  const auto token = f.take(f.good);
  ASSERT_TRUE(token.ok()) << token.error().detail;
  EXPECT_EQ(token.value()->groups, (std::vector<std::string>{"default-roles-acme", "engineers"}));
  EXPECT_EQ(f.with("aud", "account"), kRefused);
  EXPECT_EQ(f.without("aud"), kRefused);
  EXPECT_EQ(f.with("iss", "https://sso.acme.example/realms/master"), kRefused);
  EXPECT_EQ(f.with("iss", "https://sso.acme.example/auth/realms/acme"), kRefused);
  EXPECT_EQ(f.with("cnf", {{"jkt", std::string(43, 'k')}}), kRefused);  // DPoP without proof
  EXPECT_EQ(f.with("realm_access", {{"roles", "x\"y"}, {"n", 1}}), std::nullopt);
  EXPECT_EQ(f.with("realm_access", {{"roles", {{"engineers", 1}}}}), kRefused);
}

TEST(Keycloak, V8_RefreshLogoutAndIdTokensAreNoAccessTokens) {
  Keycloak f;
  f.manifest["issuers"][0]["token_types"] = {"access_token", "jwt", "id_token"};
  f.load();
  for (const char* typ : {"Refresh", "Offline", "Logout", "Serialized-ID"}) {
    for (const auto type : {AccessToken, Jwt, IdToken}) {
      EXPECT_EQ(f.with("typ", typ, type), kRefused) << typ;
    }
  }
  EXPECT_EQ(f.with("typ", "ID", AccessToken), kRefused);
  EXPECT_EQ(f.changed(
                [](Json& claims) {
                  claims["typ"] = "ID";
                  claims["aud"] = "mcp-gateway";
                },
                IdToken),
            std::nullopt);
  EXPECT_EQ(code_of(f.take(f.good, IdToken)), kRefused);
}

TEST(Keycloak, ClientRolesByPointer) {
  Keycloak f;
  f.manifest["issuers"][0]["claims"]["groups"] = "/resource_access/mcp-gateway/roles";
  f.load();
  EXPECT_EQ(f.take(f.good).value()->groups, std::vector<std::string>{"tool-user"});
  auto other = f.good;
  other["resource_access"].erase("mcp-gateway");
  EXPECT_TRUE(f.take(other).value()->groups.empty());
}

TEST(Hydra, JwtAccessToken) {
  Profile f("Ory Hydra");
  f.good = {{"aud", {"mcp-gateway"}},
            {"client_id", "0dd7a6a2-6b4f-4e0f-93b0-7d3a4f5d8c11"},
            {"exp", f.at(3600s)},
            {"ext", {{"groups", {"engineers"}}, {"sub", "mallory"}}},
            {"iat", f.at(0s)},
            {"iss", "https://auth.acme.example/"},
            {"jti", "e3f8b1e0-1d6b-4c6f-8e4a-3f1d2c9b7a55"},
            {"nbf", f.at(0s)},
            {"scp", {"openid", "files:read"}},
            {"sub", "f3a1b2c4-alice"}};
  const auto token = f.take(f.good);
  ASSERT_TRUE(token.ok()) << token.error().detail;
  EXPECT_EQ(token.value()->principal.subject, "f3a1b2c4-alice");
  EXPECT_EQ(token.value()->groups, std::vector<std::string>{"engineers"});
  EXPECT_EQ(token.value()->scope->str(), "files:read openid");
  EXPECT_EQ(f.with("aud", Json::array()), kRefused);  // Hydra's default
  EXPECT_EQ(f.with("iss", "https://auth.acme.example"), kRefused);
  EXPECT_EQ(f.with("ext", Json({{"groups", 7}})), kRefused);
  EXPECT_EQ(f.with("scp", {"two words", ""}), kRefused);
}

TEST(Hydra, OpaqueAccessToken) {
  Profile f("Ory Hydra, opaque tokens");
  f.issuer()["introspection"]["cache_for"] = 0;
  f.load();
  f.store("hydra-introspection", "", {{"client_secret", "hydra-admin-password"}});
  const std::string endpoint = "https://hydra-admin.acme.example/admin/oauth2/introspect";
  const Json good{{"active", true},
                  {"scope", "openid files:read"},
                  {"client_id", "0dd7a6a2-6b4f-4e0f-93b0-7d3a4f5d8c11"},
                  {"sub", "f3a1b2c4-alice"},
                  {"exp", f.at(3600s)},
                  {"iat", f.at(0s)},
                  {"nbf", f.at(0s)},
                  {"aud", {"mcp-gateway"}},
                  {"iss", "https://auth.acme.example/"},
                  {"token_type", "Bearer"},
                  {"token_use", "access_token"},
                  {"ext", {{"groups", {"engineers"}}}}};
  const auto says = [&](const std::function<void(Json&)>& change) {
    auto answer = good;
    change(answer);
    f.fetcher.serve(endpoint, answer);
    return code_of(f.verify("ory_at_Vx3kq0c2.l8Yw", AccessToken));
  };
  EXPECT_EQ(says([](Json&) {}), std::nullopt);
  EXPECT_EQ(says([](Json& a) { a["token_use"] = "refresh_token"; }), kRefused);
  EXPECT_EQ(says([](Json& a) { a["active"] = false; }), kRefused);
  EXPECT_EQ(says([](Json& a) { a["active"] = "true"; }), ErrorCode::Unavailable);
  EXPECT_EQ(says([](Json& a) { a.erase("active"); }), ErrorCode::Unavailable);
  EXPECT_EQ(says([](Json& a) { a["aud"] = nullptr; }), kRefused);
  EXPECT_EQ(says([](Json& a) { a["aud"] = Json::array(); }), kRefused);
  EXPECT_EQ(says([](Json& a) { a["aud"] = {"other-api"}; }), kRefused);
  EXPECT_EQ(says([](Json& a) { a["iss"] = "https://auth.acme.example"; }), kRefused);
  EXPECT_EQ(says([](Json& a) { a["sub"] = ""; }), kRefused);  // client_credentials at Hydra
  EXPECT_EQ(says([](Json& a) { a.erase("exp"); }), kRefused);
}

TEST(Kubernetes, ProjectedServiceAccountToken) {
  Profile f("Kubernetes");
  f.good = {
      {"aud", {"mcp-gateway"}},
      {"exp", f.at(3607s)},
      {"iat", f.at(0s)},
      {"nbf", f.at(0s)},
      {"iss", "https://kubernetes.default.svc.cluster.local"},
      {"jti", "aed34954-b33a-4142-b1ec-389d6bbb4936"},
      {"kubernetes.io",
       {{"namespace", "agents"},
        {"node", {{"name", "node-1"}, {"uid", "646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1"}}},
        {"pod", {{"name", "agent-0"}, {"uid", "5e0bd49b-f040-43b0-99b7-22765a53f7f3"}}},
        {"serviceaccount", {{"name", "agent"}, {"uid", "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"}}}}},
      {"sub", "system:serviceaccount:agents:agent"}};
  const auto token = f.take(f.good, Jwt, "");
  ASSERT_TRUE(token.ok()) << token.error().detail;
  EXPECT_EQ(token.value()->issued_subject, "cluster-1:system:serviceaccount:agents:agent");
  EXPECT_EQ(token.value()->groups, std::vector<std::string>{"cluster-1:agents"});
  EXPECT_EQ(code_of(f.take(f.good, AccessToken)), kRefused);
  EXPECT_EQ(code_of(f.take(f.good, IdToken)), kRefused);
  // A token that pods use at the API server itself.
  EXPECT_EQ(f.with("aud", {"https://kubernetes.default.svc.cluster.local", "k3s"}, Jwt), kRefused);
  EXPECT_EQ(f.with("kubernetes.io", {{"namespace", "kube-system"}, {"x", 1}}, Jwt), kRefused);
  EXPECT_EQ(f.without("kubernetes.io", Jwt), kRefused);
  EXPECT_EQ(f.without("exp", Jwt), kRefused);  // the old kind, from a secret
  EXPECT_EQ(f.with("iss", "kubernetes/serviceaccount", Jwt), kRefused);
}

TEST(IssuersPage, EachSnippetIsAManifestsIssuer) {
  for (const char* heading :
       {"Entra ID", "Entra ID, v1 tokens", "Azure AD B2C", "Google", "Okta", "Okta, org server",
        "Auth0", "Keycloak", "Ory Hydra", "Ory Hydra, opaque tokens", "Kubernetes"}) {
    const auto issuer = policy::read_issuer(snippet(heading), "");
    EXPECT_TRUE(issuer.ok()) << heading << ": "
                             << (issuer.ok() ? "" : issuer.error().pointer + issuer.error().detail);
  }
}

}  // namespace
}  // namespace postern
