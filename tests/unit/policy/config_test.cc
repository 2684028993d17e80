#include "policy/config.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "support/code_of.h"
#include "token/jwk.h"

namespace postern::policy {
namespace {

/// One change to a good object, and the pointer of the complaint; empty text
/// means the object itself, nothing means it is still good.
struct Case {
  const char* name;
  std::function<void(Json&)> change;
  std::optional<std::string> pointer;
};

template <class Read>
void expect_cases(const Json& good, const Read& read, const std::vector<Case>& cases) {
  ASSERT_TRUE(read(good, "/at/3").ok());
  for (const auto& [name, change, pointer] : cases) {
    SCOPED_TRACE(name);
    Json value = good;
    change(value);
    const auto result = read(value, "/at/3");
    if (!pointer) {
      EXPECT_TRUE(result.ok()) << result.error().pointer << ": " << result.error().detail;
      continue;
    }
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ErrorCode::MalformedRequest);
    EXPECT_EQ(result.error().pointer, "/at/3" + *pointer);
    EXPECT_FALSE(result.error().detail.empty());
    // RFC 6749 §5.2 limits what an error text may hold.
    EXPECT_EQ(result.error().detail.find_first_of("\"\\"), std::string::npos);
  }
}

/// The same value in a place, by JSON pointer.
std::function<void(Json&)> put(const char* pointer, Json value) {
  return [pointer, value = std::move(value)](Json& json) {
    json[Json::json_pointer(pointer)] = value;
  };
}
std::function<void(Json&)> drop(const char* name) {
  return [name](Json& json) { json.erase(name); };
}
const std::optional<std::string> kGood;

Json texts(std::size_t count) {
  Json list = Json::array();
  for (std::size_t i = 0; i < count; ++i) list.push_back("t" + std::to_string(i));
  return list;
}

TEST(ReadSettings, ChecksEachMember) {
  const auto transit = [](const Json& change) {
    Json rule{{"clients", {"gw-01"}}, {"keys", {"orders"}}, {"operations", {"encrypt"}}};
    rule.update(change);
    return put("/vault_api",
               {{"clients", {"gw-01"}}, {"transit", {{"rules", Json::array({rule})}}}});
  };
  const auto views = [](const Json& list) { return put("/vault_api", {{"views", list}}); };
  expect_cases(
      Json::object(), read_settings,
      {{"lifetime", put("/max_token_lifetime", 600), kGood},
       {"shortest", put("/max_token_lifetime", 10), kGood},
       {"longest", put("/max_token_lifetime", 3600), kGood},
       {"too short", put("/max_token_lifetime", 9), "/max_token_lifetime"},
       {"too long", put("/max_token_lifetime", 3601), "/max_token_lifetime"},
       {"negative", put("/max_token_lifetime", -1), "/max_token_lifetime"},
       {"huge", put("/max_token_lifetime", 18446744073709551615ull), "/max_token_lifetime"},
       {"fraction", put("/max_token_lifetime", 300.5), "/max_token_lifetime"},
       {"whole fraction", put("/max_token_lifetime", 300.0), "/max_token_lifetime"},
       {"text", put("/max_token_lifetime", "300"), "/max_token_lifetime"},
       {"true", put("/max_token_lifetime", true), "/max_token_lifetime"},
       {"null is absent", put("/max_token_lifetime", nullptr), kGood},
       {"connect", put("/connect_url", "https://portal.example/c?b={backend}"), kGood},
       {"connect http", put("/connect_url", "http://portal.example/"), "/connect_url"},
       {"connect on this machine", put("/connect_url", "http://localhost:8080/c"), kGood},
       {"connect looks local", put("/connect_url", "http://localhost.evil.example/"),
        "/connect_url"},
       {"connect user info", put("/connect_url", "http://127.0.0.1:1@evil.example/"),
        "/connect_url"},
       {"connect script", put("/connect_url", "javascript:alert(1)"), "/connect_url"},
       {"connect other place", put("/connect_url", "https://portal.example/{user}"),
        "/connect_url"},
       {"connect two places", put("/connect_url", "https://p.example/{backend}/{backend}"),
        "/connect_url"},
       {"connect list", put("/connect_url", Json::array()), "/connect_url"},
       {"vault", put("/vault_api", Json::object()), kGood},
       {"vault mount", put("/vault_api", {{"mount", "kv-2"}}), kGood},
       {"vault clients", put("/vault_api", {{"clients", {"gw-01", "b"}}}), kGood},
       {"vault everybody", put("/vault_api", {{"clients", {"*"}}}), "/vault_api/clients/0"},
       {"vault client list", put("/vault_api", {{"clients", "gw-01"}}), "/vault_api/clients"},
       {"vault true", put("/vault_api", true), "/vault_api"},
       {"vault unknown", put("/vault_api", {{"path", "kv"}}), "/vault_api/path"},
       {"vault folder", put("/vault_api", {{"mount", "a/b"}}), "/vault_api/mount"},
       {"vault dots", put("/vault_api", {{"mount", ".."}}), "/vault_api/mount"},
       {"vault no name", put("/vault_api", {{"mount", ""}}), "/vault_api/mount"},
       {"vault's own", put("/vault_api", {{"mount", "sys"}}), "/vault_api/mount"},
       {"transit's own", put("/vault_api", {{"mount", "transit"}}), "/vault_api/mount"},
       {"views", views({{{"path", "a/{sub}"}, {"backend", "b"}}, {{"path", "{sub}/{backend}"}}}),
        kGood},
       {"no views", views(Json::array()), kGood},
       {"views text", views("a/{sub}"), "/vault_api/views"},
       {"view text", views({"a/{sub}"}), "/vault_api/views/0"},
       {"view member", views({{{"path", "{sub}/{backend}"}, {"name", "x"}}}),
        "/vault_api/views/0/name"},
       {"view without path", views({{{"backend", "b"}}}), "/vault_api/views/0/path"},
       {"view of nobody", views({{{"path", "a/{backend}"}}}), "/vault_api/views/0/path"},
       {"view of any backend", views({{{"path", "a/{sub}"}}}), "/vault_api/views/0/path"},
       {"view of two backends", views({{{"path", "{sub}/{backend}"}, {"backend", "b"}}}),
        "/vault_api/views/0/path"},
       {"view of no backend", views({{{"path", "a/{sub}"}, {"backend", "a/b"}}}),
        "/vault_api/views/0/backend"},
       {"views of one path", views({{{"path", "{sub}/{backend}"}}, {{"path", "{backend}/{sub}"}}}),
        "/vault_api/views/1/path"},
       {"many views", views(std::vector<Json>(51, {{"path", "{sub}/{backend}"}})),
        "/vault_api/views"},
       {"transit", put("/vault_api", {{"transit", Json::object()}}), kGood},
       {"transit rule", transit(Json::object()), kGood},
       {"transit true", put("/vault_api", {{"transit", true}}), "/vault_api/transit"},
       {"transit unknown", put("/vault_api", {{"transit", {{"keys", {"a"}}}}}),
        "/vault_api/transit/keys"},
       {"transit rules", put("/vault_api", {{"transit", {{"rules", "a"}}}}),
        "/vault_api/transit/rules"},
       {"transit stranger", transit({{"clients", {"other"}}}),
        "/vault_api/transit/rules/0/clients/0"},
       {"transit nobody", transit({{"clients", Json::array()}}), "/vault_api/transit/rules/0"},
       {"transit no key", transit({{"keys", Json::array()}}), "/vault_api/transit/rules/0"},
       {"transit nothing", transit({{"operations", Json::array()}}), "/vault_api/transit/rules/0"},
       {"transit operation", transit({{"operations", {"export"}}}),
        "/vault_api/transit/rules/0/operations/0"},
       {"transit member", transit({{"path", "x"}}), "/vault_api/transit/rules/0/path"},
       {"unknown", put("/max_token_lifetme", 300), "/max_token_lifetme"}});
}

TEST(ReadSettings, ApiScopesAreScopeTokens) {
  const auto read = read_settings({{"api_scopes", {"vault", "basic", "vault"}}}, "");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read.value().api_scopes.str(), "basic vault");
  EXPECT_EQ(write(read.value()).at("api_scopes"), Json({"basic", "vault"}));
  for (const Json& bad : {Json("a b"), Json(""), Json("a\"b"), Json(7)}) {
    EXPECT_EQ(read_settings({{"api_scopes", Json::array({bad})}}, "").error().pointer,
              "/api_scopes/0");
  }
  const auto none = read_settings(Json::object(), "");
  EXPECT_FALSE(write(none.value()).contains("api_scopes")) << "stored text stays the same";
}

TEST(ReadSettings, WantsAnObject) {
  for (const auto& value : {Json(1), Json("x"), Json(nullptr), Json::array(), Json(true)}) {
    const auto result = read_settings(value, "/settings");
    EXPECT_EQ(test::code_of(result), ErrorCode::MalformedRequest);
    EXPECT_EQ(result.error().pointer, "/settings");
  }
}

TEST(ReadSettings, ErrorsNeverRepeatAMemberNameThatIsNotPlain) {
  for (const char* name : {"a\"b", "a/b", "a~b", "\xc3\xa4", "with space", ""}) {
    const auto result = read_settings(Json{{name, 1}}, "/settings");
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().pointer, "/settings") << name;
  }
  const auto result = read_settings(Json{{std::string(65, 'a'), 1}}, "/settings");
  EXPECT_EQ(result.error().pointer, "/settings");
}

const Json& jwks() {
  static const Json kSet{
      {"keys", {token::public_jwk(crypto::SigningKey::generate(crypto::Algorithm::ES256))}}};
  return kSet;
}
Json private_jwks() {
  Json set = jwks();
  set["keys"][0]["d"] = "AAAA";
  return set;
}

TEST(ReadIssuer, ChecksEachMember) {
  const Json good{{"name", "corp"},
                  {"issuer", "https://idp.example"},
                  {"jwks_uri", "https://idp.example/keys"},
                  {"audiences", {"gw-01"}}};
  expect_cases(
      good, read_issuer,
      {{"no name", drop("name"), "/name"},
       {"empty name", put("/name", ""), "/name"},
       {"null name", put("/name", nullptr), "/name"},
       {"number name", put("/name", 1), "/name"},
       {"upper case", put("/name", "Corp"), "/name"},
       {"hyphen first", put("/name", "-corp"), "/name"},
       {"hyphen last", put("/name", "corp-"), "/name"},
       {"slash", put("/name", "a/b"), "/name"},
       {"63", put("/name", std::string(63, 'a')), kGood},
       {"64", put("/name", std::string(64, 'a')), "/name"},
       {"no issuer", drop("issuer"), "/issuer"},
       {"plain http", put("/issuer", "http://idp.example"), "/issuer"},
       {"loopback", put("/issuer", "http://127.0.0.1:8080"), kGood},
       {"loopback 6", put("/issuer", "http://[::1]:8080/r"), kGood},
       {"not quite loopback", put("/issuer", "http://127.0.0.1.evil.example"), "/issuer"},
       {"fragment", put("/issuer", "https://idp.example/#a"), "/issuer"},
       {"bare Google", put("/issuer", "accounts.google.com"), kGood},
       {"not quite Google", put("/issuer", "accounts.google.com.evil.example"), "/issuer"},
       {"bare Google has no metadata",
        [](Json& j) {
          j["issuer"] = "accounts.google.com";
          j.erase("jwks_uri");
          j["discovery"] = true;
        },
        "/discovery"},
       {"Entra v2", put("/issuer", "https://login.microsoftonline.com/9188040d-6c67/v2.0"), kGood},
       {"Entra v1", put("/issuer", "https://sts.windows.net/9188040d-6c67/"), kGood},
       {"Entra common", put("/issuer", "https://login.microsoftonline.com/common/v2.0"), "/issuer"},
       {"Entra organizations",
        put("/issuer", "https://login.microsoftonline.us/organizations/v2.0"), "/issuer"},
       {"Entra consumers", put("/issuer", "https://login.microsoftonline.com/consumers"),
        "/issuer"},
       {"Entra template", put("/issuer", "https://login.microsoftonline.com/{tenantid}/v2.0"),
        "/issuer"},
       {"Entra v1 template", put("/issuer", "https://sts.windows.net/{tenantid}/"), "/issuer"},
       {"Entra without tenant", put("/issuer", "https://sts.windows.net/"), "/issuer"},
       {"Entra without path", put("/issuer", "https://login.microsoftonline.com"), "/issuer"},
       {"control", put("/issuer", "https://idp.example/\n"), "/issuer"},
       {"not a uri", put("/issuer", "idp"), "/issuer"},
       {"too long", put("/issuer", "https://idp.example/" + std::string(2000, 'a')), "/issuer"},
       {"no keys", drop("jwks_uri"), ""},
       {"two sources", put("/discovery", true), ""},
       {"three sources",
        [](Json& j) {
          j["discovery"] = true;
          j["jwks"] = jwks();
        },
        ""},
       {"static",
        [](Json& j) {
          j.erase("jwks_uri");
          j["jwks"] = jwks();
        },
        kGood},
       {"static empty",
        [](Json& j) {
          j.erase("jwks_uri");
          j["jwks"] = {{"keys", Json::array()}};
        },
        "/jwks"},
       {"static text",
        [](Json& j) {
          j.erase("jwks_uri");
          j["jwks"] = "{}";
        },
        "/jwks"},
       {"static private",
        [](Json& j) {
          j.erase("jwks_uri");
          j["jwks"] = private_jwks();
        },
        "/jwks"},
       {"discovery",
        [](Json& j) {
          j.erase("jwks_uri");
          j["discovery"] = true;
        },
        kGood},
       {"discovery text", put("/discovery", "yes"), "/discovery"},
       {"keys over http", put("/jwks_uri", "http://idp.example/keys"), "/jwks_uri"},
       {"keys from a file", put("/jwks_uri", "file:///etc/passwd"), "/jwks_uri"},
       {"algorithms", put("/algorithms", {"RS256", "EdDSA", "Ed25519"}), kGood},
       {"no algorithm", put("/algorithms", Json::array()), "/algorithms"},
       {"none", put("/algorithms", {"RS256", "none"}), "/algorithms/1"},
       {"hmac", put("/algorithms", {"HS256"}), "/algorithms/0"},
       {"lower case", put("/algorithms", {"es256"}), "/algorithms/0"},
       {"not a list", put("/algorithms", "RS256"), "/algorithms"},
       {"no audience", drop("audiences"), "/audiences"},
       {"empty audiences", put("/audiences", Json::array()), "/audiences"},
       {"empty audience", put("/audiences", {"a", ""}), "/audiences/1"},
       {"number audience", put("/audiences", {1}), "/audiences/0"},
       {"200 audiences", put("/audiences", texts(200)), kGood},
       {"201 audiences", put("/audiences", texts(201)), "/audiences"},
       {"types", put("/token_types", {"jwt"}), kGood},
       {"no type", put("/token_types", Json::array()), "/token_types"},
       {"unknown type", put("/token_types", {"jwt", "refresh_token"}), "/token_types/1"},
       {"claims",
        put("/claims", {{"subject", "oid"}, {"groups", "/realm/roles"}, {"scope", "scp"}}), kGood},
       {"claims list", put("/claims", Json::array()), "/claims"},
       {"claims unknown", put("/claims", {{"email", "email"}}), "/claims/email"},
       {"empty subject", put("/claims", {{"subject", ""}}), "/claims/subject"},
       {"mutable subject", put("/claims", {{"subject", "email"}}), "/claims/subject"},
       {"mutable user name", put("/claims", {{"subject", "preferred_username"}}),
        "/claims/subject"},
       {"mutable by pointer", put("/claims", {{"subject", "/email"}}), "/claims/subject"},
       {"mutable below", put("/claims", {{"subject", "/user/upn"}}), "/claims/subject"},
       {"immutable below", put("/claims", {{"subject", "/user/id"}}), kGood},
       {"prefix", put("/subject_prefix", "corp:"), kGood},
       {"prefix without colon", put("/subject_prefix", "corp"), "/subject_prefix"},
       {"prefix of a colon", put("/subject_prefix", ":"), "/subject_prefix"},
       {"two colons", put("/subject_prefix", "a:b:"), "/subject_prefix"},
       {"prefix too long", put("/subject_prefix", std::string(32, 'a') + ":"), "/subject_prefix"},
       {"age", put("/max_token_age", 3600), kGood},
       {"age zero", put("/max_token_age", 0), "/max_token_age"},
       {"age text", put("/max_token_age", "1h"), "/max_token_age"},
       {"age too long", put("/max_token_age", 86400 * 30 + 1), "/max_token_age"},
       {"disabled", put("/enabled", false), kGood},
       {"enabled text", put("/enabled", "true"), "/enabled"},
       {"enabled number", put("/enabled", 1), "/enabled"},
       {"unknown", put("/audience", "gw-01"), "/audience"}});
}

TEST(ReadIssuer, TakesOnlyAsymmetricAlgorithmsByDefault) {
  const auto issuer = read_issuer(Json{{"name", "corp"},
                                       {"issuer", "https://idp.example"},
                                       {"discovery", true},
                                       {"audiences", {"gw-01"}}},
                                  "")
                          .value();
  using crypto::Algorithm;
  EXPECT_EQ(issuer.algorithms,
            (std::vector{Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA}));
  EXPECT_EQ(issuer.token_types.size(), 3u);
  EXPECT_TRUE(issuer.claims.scope.empty());
  EXPECT_TRUE(issuer.enabled);
}

TEST(ReadClient, ChecksEachMember) {
  expect_cases(Json{{"id", "gw-01"}}, read_client,
               {{"no id", drop("id"), "/id"},
                {"dots and case", put("/id", "Gw_01.eu-1"), kGood},
                {"url", put("/id", "https://gw.example"), "/id"},
                {"colon", put("/id", "gw:01"), "/id"},
                {"percent", put("/id", "gw%01"), "/id"},
                {"space", put("/id", "gw 01"), "/id"},
                {"dot first", put("/id", ".gw"), "/id"},
                {"200", put("/id", std::string(200, 'a')), kGood},
                {"201", put("/id", std::string(201, 'a')), "/id"},
                {"grants", put("/grants", {"token-exchange", "client_credentials"}), kGood},
                {"no grant", put("/grants", Json::array()), kGood},
                {"unknown grant", put("/grants", {"password"}), "/grants/0"},
                {"urn grant", put("/grants", {"urn:ietf:params:oauth:grant-type:token-exchange"}),
                 "/grants/0"},
                {"backends", put("/backends", {"files", "*"}), kGood},
                {"backends text", put("/backends", "*"), "/backends"},
                {"empty backend", put("/backends", {""}), "/backends/0"},
                {"scopes", put("/scopes", {"files:read"}), kGood},
                {"scope with space", put("/scopes", {"a b"}), "/scopes"},
                {"scope with quote", put("/scopes", {"a\"b"}), "/scopes"},
                {"audiences", put("/audiences", {"api://gw"}), kGood},
                {"audiences object", put("/audiences", Json::object()), "/audiences"},
                {"default", put("/default_backend", "files"), kGood},
                {"default upper", put("/default_backend", "Files"), "/default_backend"},
                {"default number", put("/default_backend", 1), "/default_backend"},
                {"enabled", put("/enabled", 0), "/enabled"},
                // A secret is taken out by the manifest reader; nowhere else may it stand.
                {"secret", put("/secret", std::string(40, 'a')), "/secret"},
                {"secret_file", put("/secret_file", "./gw.secret"), "/secret_file"}});
}

TEST(ReadClient, AuthenticatesInExactlyOneWay) {
  const Json jwks{
      {"keys", Json::array({Json{{"kty", "OKP"},
                                 {"crv", "Ed25519"},
                                 {"x", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}})}};
  const std::string thumbprint(43, 'A');
  const Json by_jwt{{"method", "private_key_jwt"}, {"jwks", jwks}};
  const Json by_tls{{"method", "tls_client_auth"}, {"tls_subject", {{"dns", "gw.acme.example"}}}};
  const Json by_own_tls{{"method", "self_signed_tls_client_auth"},
                        {"certificate_sha256", Json::array({thumbprint})}};
  const Json by_workload{{"method", "workload_identity"},
                         {"workload",
                          {{"issuer", "cluster"},
                           {"audience", "postern"},
                           {"claims", {{"sub", {"system:serviceaccount:gw:gateway"}}}}}}};
  const auto with = [](const Json& base, const char* pointer, Json value) {
    Json json = base;
    json[Json::json_pointer(pointer)] = std::move(value);
    return put("/authentication", json);
  };
  expect_cases(
      {{"id", "gw-01"}}, read_client,
      {
          {"secret", put("/authentication", {{"method", "client_secret"}}), kGood},
          {"jwt", put("/authentication", by_jwt), kGood},
          {"tls", put("/authentication", by_tls), kGood},
          {"self-signed", put("/authentication", by_own_tls), kGood},
          {"workload", put("/authentication", by_workload), kGood},
          {"no method", put("/authentication", Json::object()), "/authentication/method"},
          {"unknown method", put("/authentication", {{"method", "none"}}),
           "/authentication/method"},
          {"no keys", put("/authentication", {{"method", "private_key_jwt"}}), "/authentication"},
          {"two key sources", with(by_jwt, "/jwks_uri", "https://gw.example/jwks"),
           "/authentication"},
          {"http keys",
           put("/authentication",
               {{"method", "private_key_jwt"}, {"jwks_uri", "http://gw.example"}}),
           "/authentication/jwks_uri"},
          {"HS256", with(by_jwt, "/algorithms", {"HS256"}), "/authentication/algorithms/0"},
          {"another method's member", with(by_tls, "/jwks", jwks), "/authentication/jwks"},
          {"no certificate name", with(by_tls, "/tls_subject", Json::object()),
           "/authentication/tls_subject"},
          {"two certificate names", with(by_tls, "/tls_subject/dn", "CN=gw"),
           "/authentication/tls_subject"},
          {"short thumbprint", with(by_own_tls, "/certificate_sha256", {"AAAA"}),
           "/authentication/certificate_sha256"},
          {"workload of everybody", with(by_workload, "/workload/claims", Json::object()),
           "/authentication/workload/claims"},
          {"claim without values", with(by_workload, "/workload/claims/sub", Json::array()),
           "/authentication/workload/claims/sub"},
          {"workload without audience", with(by_workload, "/workload/audience", nullptr),
           "/authentication/workload/audience"},
          {"signed introspection", put("/introspection_algorithm", "EdDSA"), kGood},
          {"unsigned introspection", put("/introspection_algorithm", "none"),
           "/introspection_algorithm"},
          {"introspection by nothing", put("/introspection_algorithm", ""),
           "/introspection_algorithm"},
          {"introspection by another", put("/introspection_algorithm", "PS256"),
           "/introspection_algorithm"},
          {"no slash alias", with(by_jwt, "/issuer_slash_audience", false), kGood},
          {"slash alias as text", with(by_jwt, "/issuer_slash_audience", "no"),
           "/authentication/issuer_slash_audience"},
      });
  auto strict = by_jwt;
  strict["issuer_slash_audience"] = false;
  for (const auto& rule : {by_jwt, strict, by_tls, by_own_tls, by_workload}) {
    const Json client{{"id", "gw-01"}, {"authentication", rule}};
    const auto once = read_client(client, "");
    ASSERT_TRUE(once.ok());
    const auto text = token::dump_json(write(once.value()));
    const auto twice = read_client(write(once.value()), "");
    ASSERT_TRUE(twice.ok());
    EXPECT_EQ(token::dump_json(write(twice.value())), text);
    EXPECT_NE(text.find(rule["method"].get<std::string>()), std::string::npos);
  }
}

TEST(ReadIssuer, MayHaveOpaqueTokensAlone) {
  const Json introspection{{"endpoint", "https://idp.example/introspect"},
                           {"client_id", "postern"},
                           {"credential", "idp-introspection"}};
  const Json good{{"name", "hydra"},
                  {"issuer", "https://idp.example/"},
                  {"audiences", {"gw-01"}},
                  {"introspection", introspection}};
  expect_cases(
      good, read_issuer,
      {
          {"neither keys nor introspection", drop("introspection"), ""},
          {"http", put("/introspection/endpoint", "http://idp.example/i"),
           "/introspection/endpoint"},
          {"no credential", put("/introspection/credential", nullptr), "/introspection/credential"},
          {"remembered too long", put("/introspection/cache_for", 301), "/introspection/cache_for"},
          {"required claims", put("/required_claims", {{"tid", {"t-1"}}}), kGood},
          {"required claim without values", put("/required_claims", {{"tid", Json::array()}}),
           "/required_claims/tid"},
          {"a further header type", put("/header_types", {"application/okta-internal-at+jwt"}),
           kGood},
          {"another kind's header type", put("/header_types", {"application/DPoP+JWT"}),
           "/header_types"},
      });
}

TEST(ReadBackend, MayDemandHowTheUserAuthenticated) {
  const Json good{{"name", "files"}, {"audience", "https://files.example/mcp"}};
  expect_cases(good, read_backend,
               {
                   {"acr", put("/require", {{"acr", {"urn:mfa"}}}), kGood},
                   {"age", put("/require", {{"max_auth_age", 600}}), kGood},
                   {"age zero", put("/require", {{"max_auth_age", 0}}), "/require/max_auth_age"},
                   {"unknown", put("/require", {{"mfa", true}}), "/require/mfa"},
                   {"field of a minted answer", put("/token_field", "token"), "/token_field"},
               });
}

TEST(ReadClient, MayDoNothingUnlessSaidOtherwise) {
  const auto client = read_client(Json{{"id", "gw-01"}}, "").value();
  EXPECT_EQ(client.grants, std::set<GrantType>{GrantType::TokenExchange});
  EXPECT_FALSE(client.backends.all);
  EXPECT_TRUE(client.backends.names.empty());
  EXPECT_FALSE(client.scopes.all);
  EXPECT_TRUE(client.scopes.names.empty());
  EXPECT_FALSE(client.default_backend);
}

Json file(const char* name, const char* env) {
  return {{"name", name}, {"env", env}, {"content", "{json}"}};
}

TEST(ReadBackend, ChecksEachMember) {
  const Json good{{"name", "github"},
                  {"audience", "https://github.example/mcp"},
                  {"answer", "vaulted"},
                  {"credential", {{"name", "github"}}},
                  {"delivery", {{"env", {{"GITHUB_TOKEN", "{token}"}}}}}};
  expect_cases(
      good, read_backend,
      {{"no name", drop("name"), "/name"},
       {"colon in name", put("/name", "a:b"), "/name"},
       {"star", put("/name", "*"), "/name"},
       {"no audience", drop("audience"), "/audience"},
       {"audience not a uri", put("/audience", "github"), "/audience"},
       {"audience with fragment", put("/audience", "https://github.example/#x"), "/audience"},
       {"audience urn", put("/audience", "urn:mcp:github"), kGood},
       {"aliases", put("/aliases", {"gh", "GitHub"}), kGood},
       {"empty alias", put("/aliases", {""}), "/aliases/0"},
       {"alias with control", put("/aliases", {"a\tb"}), "/aliases/0"},
       {"aud_as_requested", put("/aud_as_requested", "no"), "/aud_as_requested"},
       {"scopes", put("/scopes", {"repo:read"}), kGood},
       {"bad scope", put("/scopes", {"repo:read", "a b"}), "/scopes/1"},
       {"64 scopes", put("/scopes", texts(64)), kGood},
       {"65 scopes", put("/scopes", texts(65)), "/scopes"},
       {"answer", put("/answer", "both"), "/answer"},
       {"answer empty", put("/answer", ""), "/answer"},
       {"algorithm", put("/signing_algorithm", "EdDSA"), kGood},
       {"verify-only algorithm", put("/signing_algorithm", "PS256"), "/signing_algorithm"},
       {"none", put("/signing_algorithm", "none"), "/signing_algorithm"},
       {"expires", put("/max_expires_in", 10), kGood},
       {"expires early", put("/max_expires_in", 9), "/max_expires_in"},
       {"expires late", put("/max_expires_in", 3601), "/max_expires_in"},
       {"vaulted needs credential", drop("credential"), "/credential"},
       {"credential text", put("/credential", "github"), "/credential"},
       {"credential no name", put("/credential", Json::object()), "/credential/name"},
       {"credential path", put("/credential", {{"name", "../github"}}), "/credential/name"},
       {"credential template", put("/credential", {{"name", "{user}"}}), "/credential/name"},
       {"owner", put("/credential/owner", "principal_or_tenant"), kGood},
       {"owner unknown", put("/credential/owner", "anyone"), "/credential/owner"},
       {"credential unknown", put("/credential/version", 1), "/credential/version"},
       {"delivery list", put("/delivery", Json::array()), "/delivery"},
       {"delivery unknown", put("/delivery/args", Json::array()), "/delivery/args"},
       {"env list", put("/delivery/env", Json::array()), "/delivery/env"},
       {"env number", put("/delivery/env/X", 1), "/delivery/env/X"},
       {"env open place", put("/delivery/env/X", "{token"), "/delivery/env/X"},
       {"env with digit first", put("/delivery/env/1X", "a"), "/delivery/env/1X"},
       {"env with equals", put("/delivery/env/X=Y", "a"), "/delivery/env"},
       {"env with quote", put("/delivery/env/X\"", "a"), "/delivery/env"},
       {"env hijack", put("/delivery/env/LD_PRELOAD", "{token}"), "/delivery/env/LD_PRELOAD"},
       {"env path", put("/delivery/env/PATH", "{token}"), "/delivery/env/PATH"},
       {"env long", put("/delivery/env/X", std::string(4096, 'a')), kGood},
       {"env too long", put("/delivery/env/X", std::string(4097, 'a')), "/delivery/env/X"},
       {"headers", put("/delivery/headers", {{"X-Api-Key", "{token}"}}), kGood},
       {"header with colon", put("/delivery/headers", {{"X:", "{token}"}}), "/delivery/headers"},
       {"header with break", put("/delivery/headers", {{"X", "a\r\nY: b"}}), "/delivery/headers/X"},
       {"header frames", put("/delivery/headers", {{"Transfer-Encoding", "chunked"}}),
        "/delivery/headers/Transfer-Encoding"},
       {"header routes", put("/delivery/headers", {{"hOST", "evil"}}), "/delivery/headers/hOST"},
       {"file", put("/delivery/files", Json::array({file("sa.json", "SA_FILE")})), kGood},
       {"file path", put("/delivery/files", Json::array({file("../sa.json", "")})),
        "/delivery/files/0/name"},
       {"file hidden", put("/delivery/files", Json::array({file(".bashrc", "")})),
        "/delivery/files/0/name"},
       {"file hijack", put("/delivery/files", Json::array({file("a", "NODE_OPTIONS")})),
        "/delivery/files/0/env"},
       {"file toolchain", put("/delivery/files", Json::array({file("a", "GOENV")})),
        "/delivery/files/0/env"},
       {"steering variable", put("/delivery/env/KUBECONFIG", "{token}"),
        "/delivery/env/KUBECONFIG"},
       {"steering file of a user", put("/delivery/files", Json::array({file("a", "KUBECONFIG")})),
        "/delivery/files/0/env"},
       {"steering file of a user or the tenant",
        [](Json& json) {
          json["credential"]["owner"] = "principal_or_tenant";
          json["delivery"]["files"] = Json::array({file("a", "aws_config_file")});
        },
        "/delivery/files/0/env"},
       {"steering file of the tenant",
        [](Json& json) {
          json["credential"]["owner"] = "tenant";
          json["delivery"]["files"] = Json::array({file("a", "KUBECONFIG")});
        },
        kGood},
       {"steering file without a field",
        [](Json& json) {
          json["delivery"]["files"] = Json::array({file("a", "KUBECONFIG")});
          json["delivery"]["files"][0]["content"] = "all of it";
        },
        kGood},
       {"file twice",
        put("/delivery/files", Json::array({file("a", "A_FILE"), file("a", "B_FILE")})),
        "/delivery/files/1/name"},
       {"file variable twice",
        put("/delivery/files", Json::array({file("a", "A_FILE"), file("b", "A_FILE")})),
        "/delivery/files/1/env"},
       {"two files without variable",
        put("/delivery/files", Json::array({file("a", ""), file("b", "")})), kGood},
       {"file variable in env", put("/delivery/files", Json::array({file("a", "GITHUB_TOKEN")})),
        "/delivery/files/0/env"},
       {"file without content", put("/delivery/files", Json::array({{{"name", "a"}}})),
        "/delivery/files/0/content"},
       {"file unknown",
        put("/delivery/files", Json::array({{{"name", "a"}, {"content", "x"}, {"mode", "0600"}}})),
        "/delivery/files/0/mode"},
       {"enabled", put("/enabled", "no"), "/enabled"},
       {"unknown", put("/transport", "stdio"), "/transport"}});
}

TEST(ReadBackend, MintedAnswersHaveTheAccessTokenAndNoCredential) {
  const Json good{{"name", "files"}, {"audience", "https://files.example/mcp"}};
  expect_cases(good, read_backend,
               {{"delivery", put("/delivery", {{"env", {{"T", "x{access_token}"}}}}), kGood},
                {"literal only", put("/delivery", {{"env", {{"T", "x"}}}}), kGood},
                {"other field", put("/delivery", {{"env", {{"T", "{token}"}}}}), "/delivery"},
                {"credential", put("/credential", {{"name", "files"}}), "/credential"}});
  const auto backend = read_backend(good, "").value();
  EXPECT_EQ(backend.answer, AnswerKind::Minted);
  EXPECT_EQ(backend.signing_algorithm, crypto::Algorithm::ES256);
  EXPECT_EQ(backend.max_expires_in, std::chrono::seconds(300));
  EXPECT_FALSE(backend.aud_as_requested);
}

TEST(ReadRole, ChecksEachMember) {
  expect_cases(
      Json{{"name", "dev"}, {"allow", {"files:read"}}}, read_role,
      {{"no name", drop("name"), "/name"},
       {"nothing allowed", drop("allow"), kGood},
       {"all", put("/allow", {"*:*"}), kGood},
       {"no colon", put("/allow", {"files:read", "files"}), "/allow/1"},
       {"no scope", put("/allow", {"files:"}), "/allow/0"},
       {"no backend", put("/allow", {":read"}), "/allow/0"},
       {"partial wildcard", put("/allow", {"fil*:read"}), "/allow/0"},
       {"deny", put("/deny", {"*:files:write"}), kGood},
       {"deny bad", put("/deny", {"a b:c"}), "/deny/0"},
       {"deny text", put("/deny", "files:*"), "/deny"},
       {"200", [](Json& j) { j["allow"] = Json(std::vector<std::string>(200, "a:b")); }, kGood},
       {"201", [](Json& j) { j["allow"] = Json(std::vector<std::string>(201, "a:b")); }, "/allow"},
       {"unknown", put("/inherits", {"x"}), "/inherits"}});
}

TEST(ReadBinding, ChecksEachMember) {
  const Json subject{{"issuer", "https://idp.example"}, {"subject", "alice"}};
  expect_cases(
      Json{{"role", "dev"}, {"groups", {"engineering"}}}, read_binding,
      {{"no role", drop("role"), "/role"},
       {"bad role", put("/role", "Dev"), "/role"},
       {"name", put("/name", "devs"), kGood},
       {"bad name", put("/name", "a b"), "/name"},
       {"nobody", drop("groups"), ""},
       {"nobody either", put("/groups", Json::array()), ""},
       {"empty group", put("/groups", {""}), "/groups/0"},
       {"group list", put("/groups", "engineering"), "/groups"},
       {"subjects", put("/subjects", Json::array({subject})), kGood},
       {"subjects object", put("/subjects", Json::object()), "/subjects"},
       {"subject text", put("/subjects", {"alice"}), "/subjects/0"},
       {"subject without issuer", put("/subjects", Json::array({{{"subject", "alice"}}})),
        "/subjects/0/issuer"},
       {"subject unknown",
        [&](Json& j) {
          j["subjects"] = Json::array({subject});
          j["subjects"][0]["email"] = "a@b";
        },
        "/subjects/0/email"},
       {"subject too long",
        [&](Json& j) {
          j["subjects"] = Json::array({subject});
          j["subjects"][0]["subject"] = std::string(256, 'a');
        },
        "/subjects/0/subject"},
       {"too many", [&](Json& j) { j["subjects"] = Json(std::vector<Json>(1001, subject)); },
        "/subjects"}});
  EXPECT_EQ(read_binding(Json{{"role", "dev"}, {"groups", {"g"}}}, "").value().name, "dev");
}

// Equal meaning is equal text, so that a plan finds what really changed.
TEST(WriteConfig, ReadsBackToTheSameText) {
  const auto stable = [](const Json& value, auto read) {
    const auto first = write(read(value, "").value());
    EXPECT_EQ(write(read(first, "").value()), first) << first;
  };
  stable(Json{{"max_token_lifetime", 60}}, read_settings);
  stable(Json::object(), read_settings);
  stable(Json{{"vault_api", {{"mount", "kv"}, {"clients", {"b", "a", "b"}}}}}, read_settings);
  stable(Json{{"vault_api",
               {{"views",
                 {{{"path", "b/{sub}"}, {"backend", "x"}},
                  {{"path", "a/{preferred_username}/{backend}"}}}}}}},
         read_settings);
  stable(Json{{"vault_api",
               {{"clients", {"a", "b"}},
                {"transit",
                 {{"rules",
                   {{{"clients", {"b", "a"}}, {"keys", {"*"}}, {"operations", {"sign", "hmac"}}},
                    {{"clients", {"a"}}, {"keys", {"y", "x"}}, {"operations", {"decrypt"}}}}}}}}}},
         read_settings);
  stable(Json{{"name", "corp"},
              {"issuer", "https://idp.example"},
              {"jwks", jwks()},
              {"audiences", {"b", "a"}},
              {"algorithms", {"RS256", "EdDSA"}},
              {"token_types", {"jwt"}},
              {"claims", {{"groups", "/a/b"}}},
              {"subject_prefix", "corp:"},
              {"max_token_age", 60},
              {"enabled", false}},
         read_issuer);
  stable(Json{{"id", "gw"},
              {"backends", {"b", "a"}},
              {"scopes", {"*", "a"}},
              {"default_backend", "a"},
              {"grants", {"client_credentials"}}},
         read_client);
  stable(Json{{"name", "gh"},
              {"audience", "https://gh.example"},
              {"aliases", {"z", "a"}},
              {"scopes", {"b", "a"}},
              {"answer", "vaulted"},
              {"credential", {{"name", "gh"}, {"owner", "tenant"}}},
              {"delivery",
               {{"env", {{"A", "{{{x}}}"}}},
                {"headers", {{"B", "{y}"}}},
                {"files", Json::array({file("f", "F"), {{"name", "g"}, {"content", ""}}})}}}},
         read_backend);
  stable(Json{{"name", "r"}, {"allow", {"b:*", "*:a"}}, {"deny", {"b:c:d"}}}, read_role);
  stable(Json{{"role", "r"},
              {"groups", {"g"}},
              {"subjects", Json::array({{{"issuer", "https://i.example"}, {"subject", "s"}}})}},
         read_binding);
}

struct TemplateCase {
  const char* text;
  std::optional<std::string> rendered;  ///< fields as <name>; nothing: refused
};

TEST(Template, CutsFieldsAndBraces) {
  const std::vector<TemplateCase> cases{{"", ""},
                                        {"plain", "plain"},
                                        {"{a}", "<a>"},
                                        {"Bearer {token}", "Bearer <token>"},
                                        {"{a}{b}", "<a><b>"},
                                        {"{{}}", "{}"},
                                        {"{{a}}", "{a}"},
                                        {"{{{a}}}", "{<a>}"},
                                        {"{{{{", "{{"},
                                        {"{\x22k\x22: {v}}", std::nullopt},
                                        {"{{\"k\": \"{v}\"}}", "{\"k\": \"<v>\"}"},
                                        {"{", std::nullopt},
                                        {"}", std::nullopt},
                                        {"{}", std::nullopt},
                                        {"{a", std::nullopt},
                                        {"a}", std::nullopt},
                                        {"{a}}", std::nullopt},
                                        {"{ a }", std::nullopt},
                                        {"{1a}", std::nullopt},
                                        {"{a.b}", std::nullopt},
                                        {"{a{b}}", std::nullopt},
                                        {"{a\n}", std::nullopt},
                                        {"{{{", std::nullopt}};
  for (const auto& [text, rendered] : cases) {
    SCOPED_TRACE(text);
    const auto made = Template::parse(text);
    if (!rendered) {
      EXPECT_EQ(test::code_of(made), ErrorCode::MalformedRequest);
      continue;
    }
    ASSERT_TRUE(made.ok());
    std::string out;
    for (const auto& part : made.value().parts()) {
      out += part.is_field ? "<" + part.text + ">" : part.text;
    }
    EXPECT_EQ(out, *rendered);
    EXPECT_EQ(made.value().source(), text);
  }
  EXPECT_FALSE(Template::parse(std::string_view("a\0b", 3)).ok());
  EXPECT_EQ(Template::parse("{b}{a}{b}").value().fields(), (std::set<std::string>{"a", "b"}));
}

TEST(Permission, MatchesExactlyOrByStarOnWholeParts) {
  const auto matches = [](const char* text, const char* backend, const char* scope) {
    return Permission::parse(text).value().matches(backend, scope);
  };
  EXPECT_TRUE(matches("github:repo:read", "github", "repo:read"));
  EXPECT_TRUE(matches("github:*", "github", "repo:read"));
  EXPECT_TRUE(matches("*:repo:read", "github", "repo:read"));
  EXPECT_TRUE(matches("*:*", "github", "repo:read"));
  EXPECT_FALSE(matches("github:repo:read", "github", "repo:write"));
  EXPECT_FALSE(matches("github:repo:read", "gitlab", "repo:read"));
  EXPECT_FALSE(matches("github:repo", "github", "repo:read"));
  EXPECT_FALSE(matches("github:Repo:read", "github", "repo:read"));
  // More of stars: scope_pattern_test.cc.
  EXPECT_TRUE(matches("github:repo:*", "github", "repo:read"));
  EXPECT_FALSE(matches("github:repo:*", "github", "repo:"));
  EXPECT_TRUE(matches("github:repo:*", "github", "repo:*"));
  for (const char* bad :
       {"", ":", "a", "a:", ":a", "A:b", "**:a", "a b:c", "a:b c", "a:\"", "-:a"}) {
    EXPECT_EQ(test::code_of(Permission::parse(bad)), ErrorCode::MalformedRequest) << bad;
  }
}

class Check : public testing::Test {
 protected:
  void SetUp() override {
    add_backend(
        {{"name", "files"}, {"audience", "https://files.example/mcp"}, {"scopes", {"read"}}});
    add_backend(
        {{"name", "mail"}, {"audience", "https://mail.example/mcp"}, {"aliases", {"post"}}});
    add_issuer("corp", "https://idp.example", "");
  }
  void add_backend(const Json& json) {
    auto backend = read_backend(json, "").value();
    config.backends[backend.name.str()] = backend;
  }
  void add_client(const Json& json) {
    auto client = read_client(json, "").value();
    config.clients[client.id.str()] = client;
  }
  void add_issuer(const char* name, const char* url, const char* prefix) {
    config.issuers[name] = read_issuer(Json{{"name", name},
                                            {"issuer", url},
                                            {"discovery", true},
                                            {"subject_prefix", prefix},
                                            {"audiences", {"gw"}}},
                                       "")
                               .value();
  }
  void add_role(const Json& json) {
    auto role = read_role(json, "").value();
    config.roles[role.name] = role;
  }
  void add_binding(const Json& json) {
    auto binding = read_binding(json, "").value();
    config.bindings[binding.name] = binding;
  }
  std::string complaint() const {
    const auto status = config.check();
    if (status.ok()) return "";
    EXPECT_EQ(status.error().code, ErrorCode::MalformedRequest);
    return status.error().pointer;
  }
  TenantConfig config;
};

TEST_F(Check, TakesWhatFits) {
  add_client({{"id", "gw"}, {"backends", {"files"}}, {"default_backend", "files"}});
  add_client({{"id", "all"}, {"backends", {"*"}}, {"default_backend", "mail"}});
  add_role({{"name", "dev"}, {"allow", {"files:read", "*:*", "mail:*"}}, {"deny", {"*:x"}}});
  add_binding(
      {{"role", "dev"}, {"subjects", {{{"issuer", "https://idp.example"}, {"subject", "a"}}}}});
  add_issuer("partner", "https://partner.example", "partner:");
  EXPECT_EQ(complaint(), "");
}

TEST_F(Check, RefusesViewsOfWhatIsNotStored) {
  const auto view = [&](const char* backend) {
    Json views = Json::array();
    views.push_back({{"path", "a/{sub}"}, {"backend", backend}});
    config.settings = read_settings({{"vault_api", {{"views", views}}}}, "").value();
  };
  const auto pointer = "/settings/vault_api/views/0/backend";
  view("none");
  EXPECT_EQ(complaint(), pointer);
  view("files");
  EXPECT_EQ(complaint(), pointer);
  config.backends.at("files").answer = AnswerKind::Vaulted;
  EXPECT_EQ(complaint(), "");
}

TEST_F(Check, RefusesTwoBackendsThatAnswerToOneName) {
  const auto original = config;
  // Another spelling of the same audience, an alias, a name.
  for (const char* audience : {"https://files.example/mcp", "HTTPS://FILES.example:443/mcp/",
                               "https://files.example/mcp/"}) {
    config = original;
    add_backend({{"name", "other"}, {"audience", audience}});
    EXPECT_EQ(complaint(), "/backends/other/audience") << audience;
  }
  for (const char* alias : {"files", "post", "mail", "https://mail.example:443/mcp"}) {
    config = original;
    add_backend({{"name", "other"}, {"audience", "https://o.example"}, {"aliases", {alias}}});
    EXPECT_EQ(complaint(), "/backends/other/aliases") << alias;
  }
  config = original;
  add_backend({{"name", "post"}, {"audience", "https://o.example"}});
  EXPECT_EQ(complaint(), "/backends/post/name");
}

TEST_F(Check, RefusesAnAliasThatLooksLikeAUriButIsNone) {
  add_backend(
      {{"name", "other"}, {"audience", "https://o.example"}, {"aliases", {"https://u@h/"}}});
  EXPECT_EQ(complaint(), "/backends/other/aliases");
}

TEST_F(Check, LetsABackendRepeatItself) {
  add_backend({{"name", "self"},
               {"audience", "https://self.example"},
               {"aliases", {"self", "self", "https://self.example/"}}});
  EXPECT_EQ(complaint(), "");
}

TEST_F(Check, RefusesNamesThatDoNotExist) {
  const auto original = config;
  add_client({{"id", "gw"}, {"backends", {"nope"}}});
  EXPECT_EQ(complaint(), "/clients/gw/backends");
  config = original;
  add_client({{"id", "gw"}, {"backends", {"*"}}, {"default_backend", "nope"}});
  EXPECT_EQ(complaint(), "/clients/gw/default_backend");
  config = original;
  add_client({{"id", "gw"}, {"backends", {"files"}}, {"default_backend", "mail"}});
  EXPECT_EQ(complaint(), "/clients/gw/default_backend");
  config = original;
  add_role({{"name", "dev"}, {"allow", {"files:read", "nope:*"}}});
  EXPECT_EQ(complaint(), "/roles/dev/allow/1");
  config = original;
  add_role({{"name", "dev"}, {"deny", {"files:write"}}});
  EXPECT_EQ(complaint(), "/roles/dev/deny/0");
  config = original;
  add_binding({{"role", "nope"}, {"groups", {"g"}}});
  EXPECT_EQ(complaint(), "/bindings/nope/role");
  config = original;
  add_role({{"name", "dev"}});
  add_binding(
      {{"role", "dev"}, {"subjects", {{{"issuer", "https://idp.example/"}, {"subject", "a"}}}}});
  EXPECT_EQ(complaint(), "/bindings/dev/subjects");
}

TEST_F(Check, RefusesIssuersThatCannotBeToldApart) {
  add_issuer("other", "https://idp.example", "other:");
  EXPECT_EQ(complaint(), "/issuers/other/issuer");
  config.issuers.erase("other");
  add_issuer("other", "https://other.example", "");
  EXPECT_EQ(complaint(), "/issuers/other/subject_prefix");
  config.issuers.erase("other");
  // Not even a disabled one: it may be enabled again.
  add_issuer("other", "https://other.example", "");
  config.issuers.at("other").enabled = false;
  EXPECT_EQ(complaint(), "/issuers/other/subject_prefix");
}

}  // namespace
}  // namespace postern::policy
