// Bad input over the wire: each a clear error, and nothing changed.

#include <gtest/gtest.h>

#include <array>

#include "crypto/base64url.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

/// What a tenant holds must be the same at the end as at the beginning, and its
/// audit chain whole.
class Unchanged {
 public:
  explicit Unchanged(const TestTenant& tenant) : tenant_(tenant), before_(state()) {}
  ~Unchanged() {
    EXPECT_EQ(state(), before_);
    EXPECT_EQ(tenant_.verification().at("intact"), true);
  }
  Unchanged(const Unchanged&) = delete;
  Unchanged& operator=(const Unchanged&) = delete;

 private:
  std::string state() const {
    std::string all;
    for (const char* path : {"", "/manifest", "/credentials?limit=1000", "/admin-tokens",
                             "/clients/gw-01/secrets", "/clients/gw-files/secrets"}) {
      const auto reply = tenant_.api("GET", path, tenant_.operator_token());
      EXPECT_EQ(reply.status, 200) << path;
      all += reply.body + "\n";
    }
    return all;
  }

  const TestTenant& tenant_;
  std::string before_;
};

std::string nested(std::size_t depth, const std::string& open, const std::string& close) {
  std::string text;
  for (std::size_t i = 0; i < depth; ++i) text += open;
  text += "1";
  for (std::size_t i = 0; i < depth; ++i) text += close;
  return text;
}

struct BadText {
  const char* what;
  std::string text;
  int status = 400;
};

std::vector<BadText> bad_json() {
  std::string many = "{\"fields\":[0";
  for (int i = 0; i < 60'000; ++i) many += ",0";
  many += "]}";
  return {
      {"empty", ""},
      {"white space", " \n"},
      {"cut off", R"({"fields":{"token":"x")"},
      {"an array", "[]"},
      {"null", "null"},
      {"a number", "1"},
      {"text", "\"text\""},
      {"trailing bytes", R"({"fields":{"token":"x"}}x)"},
      {"two values", R"({"fields":{"token":"x"}} {})"},
      {"repeated name", R"({"fields":{"token":"x"},"fields":{"token":"y"}})"},
      {"repeated name below", R"({"fields":{"token":"x","token":"y"}})"},
      {"repeated name in escapes", R"({"fields":{"token":"x","\u0074oken":"y"}})"},
      {"NUL byte", std::string("{\"fields\":{\"token\":\"x\0y\"}}", 26)},
      {"NUL after the end", std::string("{\"fields\":{\"token\":\"x\"}}\0", 25)},
      {"escaped NUL", R"({"fields":{"token":"x\u0000y"}})"},
      {"not UTF-8", "{\"fields\":{\"token\":\"\xc3\x28\"}}"},
      {"lone surrogate", R"({"fields":{"token":"\ud800"}})"},
      {"byte-order mark", "\xef\xbb\xbf{\"fields\":{\"token\":\"x\"}}"},
      {"number too large", R"({"fields":1e999})"},
      {"NaN", R"({"fields":NaN})"},
      {"comment", R"({"fields":{"token":"x"}/* */})"},
      {"single quotes", R"({'fields':{'token':'x'}})"},
      {"trailing comma", R"({"fields":{"token":"x"},})"},
      {"control character", "{\"fields\":{\"token\":\"a\nb\"}}"},
      {"unknown member", R"({"fields":{"token":"x"},"value":"y"})"},
      {"too deep", nested(40, "{\"a\":", "}"), 413},
      {"far too deep", nested(100'000, "[", "]"), 413},
      {"too many values", many, 413},
      {"too large", "{\"fields\":{\"token\":\"" + std::string(1'200'000, 'x') + "\"}}", 413},
  };
}

TEST(BadInput, MalformedJsonIsRefusedEverywhere) {
  TestTenant tenant("bad-json");
  tenant.store("alice", "github", {{"token", "good"}});
  const std::string base = "/api/v1/tenants/bad-json";
  const auto user = bearer(tenant.user_token("alice"));
  const std::vector<std::array<std::string, 3>> endpoints{
      {"PUT", base + "/credentials/github", user},
      {"PUT", base + "/credentials/shared-db", bearer(tenant.admin)},
      {"PUT", base + "/manifest", bearer(tenant.admin)},
      {"PUT", base + "/manifest", bearer(tenant.operator_token())},
      {"POST", base + "/admin-tokens", bearer(tenant.operator_token())},
      {"POST", base + "/clients/gw-01/secrets", bearer(tenant.admin)},
      {"POST", base + "/exchange", basic("gw-01", tenant.secret)},
      {"POST", base + "/release", basic("gw-01", tenant.secret)}};
  const Unchanged unchanged(tenant);
  for (const auto& [method, target, authorization] : endpoints) {
    for (const auto& bad : bad_json()) {
      const auto reply = tenant.ask(
          method, target, {{"Authorization", authorization}, {"Content-Type", "application/json"}},
          bad.text);
      EXPECT_THAT(reply.status, AnyOf(bad.status, 400)) << bad.what << " " << target << reply.body;
      EXPECT_EQ(reply.header("Content-Type"), "application/problem+json") << bad.what;
      if (reply.status == 400) {
        EXPECT_THAT(reply, IsProblem(400, "malformed-request")) << bad.what << " " << target;
        EXPECT_GT(json_of(reply).value("detail", "").size(), 10u) << bad.what;
      }
    }
  }
}

TEST(BadInput, ATenantIsNotMadeFromMalformedJson) {
  auto& service = shared_service();
  for (const auto& bad : bad_json()) {
    const auto reply = service.ask("PUT", "/api/v1/tenants/never-made/manifest",
                                   {{"Authorization", bearer(service.operator_token())}}, bad.text);
    EXPECT_THAT(reply.status, AnyOf(400, 413)) << bad.what;
  }
  EXPECT_THAT(service.as_operator("GET", "/api/v1/tenants/never-made"), HasStatus(404));
}

TEST(BadInput, AManifestsFirstProblemIsNamedWithItsPlace) {
  TestTenant tenant("bad-manifest");
  const Idp other("https://other.example");
  struct Bad {
    const char* what;
    std::string pointer;
    std::function<void(Json&)> spoil;
  };
  const std::vector<Bad> all{
      {"no tenant", "/tenant", [](Json& m) { m.erase("tenant"); }},
      {"tenant is a number", "/tenant", [](Json& m) { m["tenant"] = 1; }},
      {"tenant is no slug", "/tenant", [](Json& m) { m["tenant"] = "Bad Manifest"; }},
      {"another tenant", "/tenant", [](Json& m) { m["tenant"] = "other"; }},
      {"unknown section", "/clientz", [](Json& m) { m["clientz"] = Json::array(); }},
      {"name of two lines", "/display_name", [](Json& m) { m["display_name"] = "a\nb"; }},
      {"enabled is text", "/enabled", [](Json& m) { m["enabled"] = "yes"; }},
      {"settings is a list", "/settings", [](Json& m) { m["settings"] = Json::array(); }},
      {"unknown setting", "/settings", [](Json& m) { m["settings"]["x"] = 1; }},
      {"lifetime of a day", "/settings/max_token_lifetime",
       [](Json& m) { m["settings"]["max_token_lifetime"] = 86400; }},
      {"connect_url without https", "/settings/connect_url",
       [](Json& m) { m["settings"]["connect_url"] = "javascript:alert(1)"; }},
      {"issuers is an object", "/issuers", [](Json& m) { m["issuers"] = Json::object(); }},
      {"issuer is text", "/issuers/0", [](Json& m) { m["issuers"][0] = "corp"; }},
      {"issuer without name", "/issuers/0/name", [](Json& m) { m["issuers"][0].erase("name"); }},
      {"issuer of http", "/issuers/0/issuer",
       [](Json& m) { m["issuers"][0]["issuer"] = "http://idp.example"; }},
      {"HMAC", "/issuers/0/algorithms",
       [](Json& m) {
         m["issuers"][0]["algorithms"] = {"ES256", "HS256"};
       }},
      {"alg none", "/issuers/0/algorithms",
       [](Json& m) { m["issuers"][0]["algorithms"] = {"none"}; }},
      {"no audience", "/issuers/0/audiences",
       [](Json& m) { m["issuers"][0]["audiences"] = Json::array(); }},
      {"two key sources", "/issuers/0",
       [](Json& m) { m["issuers"][0]["jwks_uri"] = "https://idp.example/jwks"; }},
      {"no key source", "/issuers/0", [](Json& m) { m["issuers"][0].erase("jwks"); }},
      {"private key", "/issuers/0/jwks",
       [](Json& m) { m["issuers"][0]["jwks"]["keys"][0]["d"] = "AAAA"; }},
      {"symmetric key", "/issuers/0/jwks",
       [](Json& m) {
         m["issuers"][0]["jwks"] = {{"keys", {{{"kty", "oct"}, {"k", "AAAA"}}}}};
       }},
      {"no keys", "/issuers/0/jwks",
       [](Json& m) {
         m["issuers"][0]["jwks"] = {{"keys", Json::array()}};
       }},
      {"two issuers with one iss", "/issuers",
       [&](Json& m) {
         auto twin = m["issuers"][0];
         twin["name"] = "twin";
         m["issuers"].push_back(twin);
       }},
      {"client without id", "/clients/0/id", [](Json& m) { m["clients"][0].erase("id"); }},
      {"client id with a colon", "/clients/0/id", [](Json& m) { m["clients"][0]["id"] = "a:b"; }},
      {"unknown grant", "/clients/0/grants",
       [](Json& m) { m["clients"][0]["grants"] = {"password"}; }},
      {"client of an unknown backend", "/clients/1/backends",
       [](Json& m) { m["clients"][1]["backends"] = {"nowhere"}; }},
      {"default of an unknown backend", "/clients/1/default_backend",
       [](Json& m) { m["clients"][1]["default_backend"] = "nowhere"; }},
      {"short secret", "/clients/0/secret",
       [](Json& m) { m["clients"][0]["secret"] = std::string(31, 'x'); }},
      {"two clients of one id", "/clients/2/id",
       [](Json& m) { m["clients"].push_back(m["clients"][0]); }},
      {"audience with a fragment", "/backends/0/audience",
       [](Json& m) { m["backends"][0]["audience"] = "https://x.example/#f"; }},
      {"two backends of one audience", "/backends",
       [](Json& m) { m["backends"][1]["audience"] = m["backends"][0]["audience"]; }},
      {"an alias that is another backend", "/backends",
       [](Json& m) { m["backends"][1]["aliases"] = {"github"}; }},
      {"vaulted without credential", "/backends/2",
       [](Json& m) { m["backends"][2].erase("credential"); }},
      {"minted with HS256", "/backends/0/signing_algorithm",
       [](Json& m) { m["backends"][0]["signing_algorithm"] = "HS256"; }},
      {"LD_PRELOAD", "/backends/2/delivery/env",
       [](Json& m) { m["backends"][2]["delivery"]["env"]["LD_PRELOAD"] = "{token}"; }},
      {"variable name with =", "/backends/2/delivery/env",
       [](Json& m) { m["backends"][2]["delivery"]["env"]["A=B"] = "{token}"; }},
      {"header with a line break", "/backends/2/delivery/headers",
       [](Json& m) { m["backends"][2]["delivery"]["headers"]["X-A"] = "a\r\nb: {token}"; }},
      {"file outside its directory", "/backends/2/delivery/files",
       [](Json& m) { m["backends"][2]["delivery"]["files"][0]["name"] = "../../etc/passwd"; }},
      {"open brace", "/backends/2/delivery/env",
       [](Json& m) { m["backends"][2]["delivery"]["env"]["A"] = "{token"; }},
      {"scope with a space", "/backends/0/scopes",
       [](Json& m) { m["backends"][0]["scopes"] = {"a b"}; }},
      {"permission without scope", "/roles/0/allow",
       [](Json& m) { m["roles"][0]["allow"] = {"files"}; }},
      {"binding of an unknown role", "/bindings/0/role",
       [](Json& m) { m["bindings"][0]["role"] = "nobody"; }},
      {"binding of an unknown issuer", "/bindings/0",
       [](Json& m) {
         m["bindings"][0]["subjects"] = {
             {{"issuer", "https://nowhere.example"}, {"subject", "alice"}}};
       }},
      {"a credential's value", "/credentials/0",
       [](Json& m) {
         m["credentials"] = {{{"name", "shared-db"}, {"value", "secret"}}};
       }},
      {"null section", "/roles", [](Json& m) { m["roles"] = nullptr; }},
  };
  const Unchanged unchanged(tenant);
  for (const auto& bad : all) {
    auto manifest = tenant.manifest;
    bad.spoil(manifest);
    for (const char* query : {"?dry_run=true", "?prune=true"}) {
      const auto reply =
          tenant.api("PUT", std::string("/manifest") + query, tenant.operator_token(), manifest);
      ASSERT_THAT(reply, IsProblem(400, "malformed-request")) << bad.what;
      const auto pointer = json_of(reply).value("pointer", "");
      EXPECT_TRUE(pointer.starts_with(bad.pointer)) << bad.what << ": " << reply.body;
      EXPECT_GT(json_of(reply).value("detail", "").size(), 8u) << bad.what;
    }
  }
}

TEST(BadInput, AManifestOfTooManyObjectsIsRefused) {
  TestTenant tenant("bad-many");
  const Unchanged unchanged(tenant);
  auto manifest = tenant.manifest;
  for (int i = 0; i <= 10'000; ++i) {
    manifest["roles"].push_back({{"name", "r" + std::to_string(i)}, {"allow", {"files:*"}}});
  }
  EXPECT_THAT(tenant.api("PUT", "/manifest", tenant.operator_token(), manifest).status,
              AnyOf(400, 413));
}

TEST(BadInput, BadQueriesAreRefused) {
  TestTenant tenant("bad-query");
  const Unchanged unchanged(tenant);
  for (const char* target :
       {"/manifest?dry_run=1", "/manifest?prune=yes", "/manifest?dry_run=true&dry_run=false",
        "/manifest?force=true", "/manifest?dry_run=%zz", "/manifest?%00=x"}) {
    EXPECT_THAT(tenant.api("PUT", target, tenant.admin, tenant.manifest),
                IsProblem(400, "malformed-request"))
        << target;
  }
  for (const char* target :
       {"/credentials?limit=0", "/credentials?limit=1001", "/credentials?limit=-1",
        "/credentials?limit=1e3", "/credentials?limit=99999999999999999999",
        "/credentials?owner=everybody", "/credentials?owner=principal",
        "/credentials?issuer=https%3A%2F%2Fidp.bad-query.example", "/credentials?subject=alice",
        "/credentials?tenant=other", "/credentials?cursor=%ff", "/audit?after=x",
        "/audit?limit=1&limit=2", "/audit?order=down"}) {
    const auto reply = tenant.api("GET", target, tenant.admin);
    EXPECT_THAT(reply, IsProblem(400, "malformed-request")) << target;
  }
  for (const char* name :
       {"%20", "a%2Fb", "..", "a%00b", "%C3%28", "UPPER%0A",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
    const auto reply = tenant.api("PUT", std::string("/credentials/") + name, tenant.admin,
                                  {{"fields", {{"token", "x"}}}});
    EXPECT_THAT(reply.status, AnyOf(400, 404)) << name;
  }
}

TEST(BadInput, BadCredentialFieldsAreRefused) {
  TestTenant tenant("bad-fields");
  tenant.store("alice", "github", {{"token", "good"}});
  const Unchanged unchanged(tenant);
  Json many = Json::object();
  for (int i = 0; i < 1000; ++i) many["f" + std::to_string(i)] = "x";
  for (const Json& body :
       std::vector<Json>{Json::object(),
                         {{"fields", Json::object()}},
                         {{"fields", Json::array({"token"})}},
                         {{"fields", {{"token", 1}}}},
                         {{"fields", {{"token", nullptr}}}},
                         {{"fields", {{"token", ""}}}},
                         {{"fields", {{"", "x"}}}},
                         {{"fields", {{"not a name", "x"}}}},
                         {{"fields", {{std::string(300, 'n'), "x"}}}},
                         {{"fields", many}},
                         {{"fields", {{"token", std::string(200'000, 'x')}}}},
                         {{"fields", {{"token", "x"}}}, {"expires_at", "tomorrow"}},
                         {{"fields", {{"token", "x"}}}, {"expires_at", 1790000000}},
                         {{"fields", {{"token", "x"}}}, {"expires_at", "2000-01-01T00:00:00Z"}},
                         {{"fields", {{"token", "x"}}}, {"expires_at", "2999-13-41T00:00:00Z"}},
                         {{"fields", {{"token", "x"}}}, {"owner", "tenant"}}}) {
    const auto reply = tenant.api("PUT", "/credentials/github", tenant.user_token("alice"), body);
    EXPECT_THAT(reply.status, AnyOf(400, 413)) << body.dump().substr(0, 200) << reply.body;
  }
  for (const auto& header : Pairs{{"If-Match", "1"},
                                  {"If-Match", "\"1"},
                                  {"If-Match", "*, \"1\""},
                                  {"If-None-Match", "1"}}) {
    EXPECT_THAT(tenant.api("PUT", "/credentials/github", tenant.user_token("alice"),
                           {{"fields", {{"token", "x"}}}}, {header}),
                IsProblem(400, "malformed-request"))
        << header.first << header.second;
  }
}

TEST(BadInput, BadReleaseRequestsAreRefusedWhole) {
  TestTenant tenant("bad-release");
  tenant.store("alice", "github", {{"token", "good"}});
  const Unchanged unchanged(tenant);
  const Json item{{"backend", "github"}};
  Json many = Json::array();
  for (int i = 0; i < 65; ++i) many.push_back(item);
  const auto alice = tenant.user_token("alice");
  for (const Json& items :
       std::vector<Json>{Json::array(),
                         Json::object(),
                         nullptr,
                         "github",
                         many,
                         {"github"},
                         {Json::object()},
                         {{{"backend", ""}}},
                         {{{"backend", 1}}},
                         {{{"backend", "github"}, {"resource", "https://github.example.com/mcp"}}},
                         {{{"backend", "github"}, {"scope", {"repo:read"}}}},
                         {{{"backend", "github"}, {"field", "token"}}},
                         {{{"backend", std::string(3000, 'x')}}},
                         {item, {{"nothing", "x"}}}}) {
    const auto reply = tenant.release(alice, items);
    EXPECT_THAT(reply, IsProblem(400, "malformed-request")) << items.dump().substr(0, 200);
    EXPECT_THAT(reply.body, Not(HasSubstr("good")));
  }
  for (const Json& body : std::vector<Json>{{{"items", {item}}},
                                            {{"items", {item}}, {"subject_token", ""}},
                                            {{"items", {item}}, {"subject_token", 7}}}) {
    const auto reply = tenant.ask("POST", "/api/v1/tenants/bad-release/release",
                                  {{"Authorization", basic("gw-01", tenant.secret)}}, body.dump());
    EXPECT_THAT(reply.status, AnyOf(400, 422)) << body << reply.body;
  }
}

TEST(BadInput, BadFormsAreRefused) {
  TestTenant tenant("bad-form");
  const Unchanged unchanged(tenant);
  const auto good = form(tenant.exchange_fields(tenant.user_token("alice"), "files"));
  const auto send = [&](const std::string& body, const std::string& query = "",
                        const std::string& type = "application/x-www-form-urlencoded") {
    return tenant.ask("POST", "/t/bad-form/token" + query,
                      {{"Authorization", basic("gw-01", tenant.secret)}, {"Content-Type", type}},
                      body);
  };
  ASSERT_THAT(send(good), HasStatus(200));
  std::string many = good;
  for (int i = 0; i < 70; ++i) many += "&x" + std::to_string(i) + "=1";
  for (const auto& bad :
       std::vector<BadText>{{"empty", ""},
                            {"no grant type", "subject_token=x"},
                            {"bad escape", good + "&x=%zz"},
                            {"cut escape", good + "&x=%4"},
                            {"NUL", good + "&x=%00"},
                            {"raw NUL", good + std::string("&x=\0", 4)},
                            {"raw control character", good + "&x=a\nb"},
                            {"not UTF-8", good + "&x=%c3%28"},
                            {"not UTF-8, raw", good + "&x=\xff"},
                            {"too many parameters", many},
                            {"repeated", good + "&scope=files%3Aread&scope=files%3Aread"},
                            {"repeated unknown", good + "&foo=1&foo=1"},
                            {"JSON", R"({"grant_type":"client_credentials"})"}}) {
    EXPECT_THAT(send(bad.text), IsOAuthError(400, "invalid_request")) << bad.what;
  }
  EXPECT_THAT(send(good + "&x=" + std::string(70'000, 'x')).status, AnyOf(400, 413));
  EXPECT_THAT(send(good + "&x=" + std::string(2'000'000, 'x')).status, 413);
  EXPECT_THAT(send(good, "", "application/json"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(send(good, "", "multipart/form-data; boundary=x"),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(send(good, "?client_secret=x"), IsOAuthError(400, "invalid_request"));
}

TEST(BadInput, OversizedRequestsAreRefusedBeforeTheyAreRead) {
  TestTenant tenant("bad-size");
  const Unchanged unchanged(tenant);
  const auto ask = [&](const std::string& request) {
    RawClient client(shared_service().port());
    if (!client.send(request)) return 0;
    try {
      return client.reply().status;
    } catch (const std::exception&) {
      return -1;
    }
  };
  EXPECT_THAT(ask("GET /" + std::string(100'000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n"),
              AnyOf(414, 431));
  EXPECT_EQ(ask("GET /t/bad-size/jwks HTTP/1.1\r\nHost: x\r\nX: " + std::string(100'000, 'a') +
                "\r\n\r\n"),
            431);
  std::string headers;
  for (int i = 0; i < 200; ++i) headers += "X" + std::to_string(i) + ": 1\r\n";
  EXPECT_EQ(ask("GET /t/bad-size/jwks HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n"), 431);
  // Nothing of the body is sent: the length alone decides.
  EXPECT_THAT(ask("PUT /api/v1/tenants/bad-size/manifest HTTP/1.1\r\nHost: x\r\n"
                  "Content-Length: 18446744073709551615\r\n\r\n"),
              AnyOf(400, 413));
  EXPECT_EQ(ask("POST /t/bad-size/token HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"),
            413);
}

TEST(BadInput, CrookedPathsLeadNowhere) {
  TestTenant tenant("bad-path");
  const Unchanged unchanged(tenant);
  const Pairs headers{{"Authorization", bearer(tenant.operator_token())}};
  for (const char* target : {"/api/v1/tenants/bad-path/",
                             "/api/v1/tenants//bad-path",
                             "/api/v1/tenants/./bad-path",
                             "/api/v1/tenants/x/../bad-path",
                             "/api/v1/tenants/x/%2e%2e/bad-path",
                             "/api/v1/tenants%2Fbad-path",
                             "/API/v1/tenants/bad-path",
                             "/api/v1/tenants/BAD-PATH",
                             "/api/v1/tenants/bad-path%00",
                             "/api/v1/tenants/bad-path%20",
                             "/api/v1/tenants/bad-path%0a",
                             "/api/v1/tenants/bad-path;x=1",
                             "/api/v1/tenants/bad%2Dpath%2F..%2Fother",
                             "/t/bad-path/jwks/",
                             "/t//bad-path/jwks",
                             "/t/bad-path/../bad-path/jwks",
                             "/t/bad-path%2Fjwks",
                             "/.well-known/oauth-authorization-server",
                             "/.well-known/oauth-authorization-server/t/bad-path/",
                             "/.well-known/oauth-authorization-server/t/",
                             "//",
                             "/api",
                             "/api/v1",
                             "/t/bad-path"}) {
    const auto reply = tenant.ask("GET", target, headers);
    EXPECT_THAT(reply.status, AnyOf(400, 404)) << target << reply.body;
  }
  for (const char* method : {"PATCH", "OPTIONS", "TRACE", "LIST", "get"}) {
    const auto reply = tenant.ask(method, "/api/v1/tenants/bad-path", headers);
    EXPECT_THAT(reply.status, AnyOf(400, 405, 501)) << method;
    if (reply.status == 405) {
      EXPECT_EQ(reply.header("Allow"), "DELETE, GET, HEAD");
    }
  }
}

// ---- tokens of every wrong kind ----

std::string encoded(std::string_view text) { return crypto::base64url(as_bytes(text)); }

std::string signed_with(const crypto::SigningKey& key, const std::string& header,
                        const std::string& payload) {
  const auto input = encoded(header) + "." + encoded(payload);
  return input + "." + crypto::base64url(key.sign(as_bytes(input)));
}

TEST(BadInput, TokensOfEveryWrongKindAreRefused) {
  TestTenant tenant("bad-token");
  tenant.store("alice", "github", {{"token", "good"}});
  const auto& idp = tenant.idp;
  const auto now = SystemClock().now();
  const auto good = tenant.claims("alice");
  const Json header{{"alg", "ES256"}, {"kid", idp.kid()}, {"typ", "JWT"}};
  const auto with = [&](const char* name, const Json& value) {
    auto claims = good;
    claims[name] = value;
    return idp.sign(claims);
  };
  const auto without = [&](const char* name) {
    auto claims = good;
    claims.erase(name);
    return idp.sign(claims);
  };
  const auto header_with = [&](const char* name, const Json& value) {
    auto changed = header;
    changed[name] = value;
    return signed_with(idp.key(), changed.dump(), good.dump());
  };
  const auto fine = idp.sign(good);
  const auto at_dot = [&](int index) {
    std::size_t at = fine.find('.');
    return index == 0 ? at : fine.find('.', at + 1);
  };
  const Idp attacker(idp.issuer());
  const Idp rsa("https://other.example", crypto::Algorithm::RS256);
  const auto second_dot = at_dot(1);
  const auto seconds = [](sys_seconds time) { return seconds_of(time); };

  const std::vector<std::pair<const char*, std::string>> all{
      {"not a token", "garbage"},
      {"dots", ".."},
      {"two parts", fine.substr(0, second_dot)},
      {"four parts", fine + ".AAAA"},
      {"five parts", fine + "." + fine.substr(0, second_dot)},
      {"empty signature", fine.substr(0, second_dot + 1)},
      {"truncated signature", fine.substr(0, fine.size() - 4)},
      {"signature of zeros", fine.substr(0, second_dot + 1) + std::string(86, 'A')},
      {"padding", fine + "="},
      {"space in front", " " + fine},
      {"line break at the end", fine + "\n"},
      {"plus sign", "+" + fine},
      {"two tokens", fine + " " + fine},
      {"with its scheme", "Bearer " + fine},
      {"alg none", encoded(R"({"alg":"none"})") + "." + encoded(good.dump()) + "."},
      {"alg NONE", encoded(R"({"alg":"nOnE"})") + "." + encoded(good.dump()) + "."},
      {"HMAC", encoded(R"({"alg":"HS256","typ":"JWT"})") + "." + encoded(good.dump()) + "." +
                   std::string(43, 'A')},
      {"alg of another family", header_with("alg", "RS256")},
      {"alg is a list", header_with("alg", {"ES256"})},
      {"no alg", signed_with(idp.key(), R"({"typ":"JWT"})", good.dump())},
      {"crit", header_with("crit", {"exp"})},
      {"b64", header_with("b64", false)},
      {"zip", header_with("zip", "DEF")},
      {"kid is a number", header_with("kid", 1)},
      {"kid is long", header_with("kid", std::string(1000, 'k'))},
      {"kid is a path", header_with("kid", "../../../../dev/null")},
      {"unknown kid", header_with("kid", "unknown")},
      {"header is no object", signed_with(idp.key(), "[]", good.dump())},
      {"header repeats a name",
       signed_with(idp.key(), R"({"alg":"ES256","alg":"ES256"})", good.dump())},
      {"payload is no object", signed_with(idp.key(), header.dump(), "[]")},
      {"payload is no JSON", signed_with(idp.key(), header.dump(), "{")},
      {"payload repeats a name",
       signed_with(idp.key(), header.dump(), "{\"sub\":\"mallory\"," + good.dump().substr(1))},
      {"payload with a NUL", with("sub", std::string("al\0ice", 6))},
      {"signed by an attacker", attacker.sign(good)},
      {"signed by an attacker under the known kid", attacker.sign_as(idp.kid(), good)},
      {"with the attacker's key inside",
       [&] {
         auto changed = header;
         changed["jwk"] = attacker.jwk();
         changed.erase("kid");
         return signed_with(attacker.key(), changed.dump(), good.dump());
       }()},
      {"with the attacker's key by reference",
       [&] {
         auto changed = header;
         changed["jku"] = "http://127.0.0.1:1/jwks";
         changed["x5u"] = "http://127.0.0.1:1/x5u";
         changed["kid"] = attacker.kid();
         return signed_with(attacker.key(), changed.dump(), good.dump());
       }()},
      {"signed with RSA by another issuer", [&] { return rsa.sign_as(idp.kid(), good); }()},
      {"logout token", idp.sign(good, "logout+jwt")},
      {"client assertion", idp.sign(good, "client-authentication+jwt")},
      {"DPoP proof", idp.sign(good, "dpop+jwt")},
      {"identity assertion", idp.sign(good, "oauth-id-jag+jwt")},
      {"security event", with("events", {{"https://schemas.openid.net/x", Json::object()}})},
      {"bound to a key", with("cnf", {{"jkt", "abc"}})},
      {"no iss", without("iss")},
      {"iss is a list", with("iss", {idp.issuer()})},
      {"iss with a slash more", with("iss", idp.issuer() + "/")},
      {"iss in upper case", with("iss", "HTTPS://IDP.BAD-TOKEN.EXAMPLE")},
      {"ours as iss", with("iss", "https://sts.example.com/t/bad-token")},
      {"no aud", without("aud")},
      {"aud of somebody else", with("aud", "another-app")},
      {"aud is a number", with("aud", 1)},
      {"aud is an object", with("aud", {{"gw-01", true}})},
      {"aud with a number", with("aud", {"gw-01", 1})},
      {"empty aud", with("aud", Json::array())},
      {"aud of too many",
       [&] {
         Json many = Json::array();
         for (int i = 0; i < 51; ++i) many.push_back("gw-01");
         return with("aud", many);
       }()},
      {"no sub", without("sub")},
      {"sub is a number", with("sub", 7)},
      {"sub is empty", with("sub", "")},
      {"sub is long", with("sub", std::string(256, 's'))},
      {"sub of two lines", with("sub", "alice\nbob")},
      {"sub of a client", with("sub", "gw-01")},
      {"no exp", without("exp")},
      {"expired", with("exp", seconds(now - 1s))},
      {"expired long ago", with("exp", 1)},
      {"exp is text", with("exp", "2999")},
      {"exp is true", with("exp", true)},
      {"exp is huge", with("exp", 1e30)},
      {"exp is 2^64-1", with("exp", 18446744073709551615ULL)},
      {"exp is negative", with("exp", -1)},
      {"not valid yet", with("nbf", seconds(now + 300s))},
      {"nbf is text", with("nbf", "now")},
      {"issued in the future", with("iat", seconds(now + 300s))},
      {"groups is a number", with("groups", 1)},
      {"a group is a number", with("groups", {1})},
      {"scope is a number", with("scope", 1)},
      {"scope with a quote", with("scope", "files:read \"x\"")},
      {"act is text", with("act", "gw")},
      {"act without sub", with("act", Json::object())},
      {"act with exp", with("act", {{"sub", "a"}, {"exp", 1}})},
      {"may_act is text", with("may_act", "gw-01")},
      {"may_act nobody", with("may_act", Json::object())},
      {"may_act somebody else", with("may_act", {{"sub", "gw-02"}})},
      {"may_act with what we cannot check", with("may_act", {{"sub", "gw-01"}, {"amr", {"mfa"}}})},
      {"longer than 16 KiB", with("padding", std::string(17'000, 'x'))},
      {"operator token", tenant.operator_token()},
      {"admin token", tenant.admin},
      {"client secret", tenant.secret},
  };
  ASSERT_THAT(tenant.exchange(fine, "files"), HasStatus(200));
  const Unchanged unchanged(tenant);
  for (const auto& [what, token] : all) {
    EXPECT_THAT(tenant.exchange(token, "files"), IsOAuthError(400, "invalid_request")) << what;
    const auto released = tenant.release(token, {{{"backend", "github"}}});
    EXPECT_THAT(released.status, AnyOf(400, 422)) << what << released.body;
    EXPECT_THAT(released.body, Not(HasSubstr("good"))) << what;
    // As an actor beside a good subject.
    if (std::string_view(what).substr(0, 7) != "may_act" &&
        std::string_view(what) != "sub of a client") {
      auto fields = tenant.exchange_fields(fine, "files");
      fields.emplace_back("actor_token", token);
      fields.emplace_back("actor_token_type", TestTenant::kJwt);
      EXPECT_THAT(tenant.token(fields), IsOAuthError(400, "invalid_request")) << what;
    }
    // As the caller of the REST API; what may be said of actors does not matter there.
    const std::string_view name(what);
    if (token.find_first_of(" \n") != token.npos || name.substr(0, 7) == "may_act" ||
        name == "operator token" || name == "admin token") {
      continue;
    }
    EXPECT_THAT(tenant.api("GET", "/credentials", token), IsProblem(401, "unauthenticated"))
        << what;
    EXPECT_THAT(tenant.api("PUT", "/credentials/github", token, {{"fields", {{"token", "bad"}}}}),
                IsProblem(401, "unauthenticated"))
        << what;
  }
  // None of it was remembered as good.
  for (const auto& [what, token] : all) {
    EXPECT_THAT(tenant.exchange(token, "files"), HasStatus(400)) << what;
  }
}

TEST(BadInput, BadAuthorizationHeadersAreRefused) {
  TestTenant tenant("bad-auth");
  const Unchanged unchanged(tenant);
  const auto fields = tenant.exchange_fields(tenant.user_token("alice"), "files");
  for (const auto& header : std::vector<std::string>{
           "Basic", "Basic ", "Basic !!!", "Basic Z3ctMDE=", "Basic Z3ctMDE6JXp6",
           "Basic Og==", "Digest x", "Bearer x", "basic" + basic("gw-01", "x").substr(5),
           "Basic " + std::string(20'000, 'A')}) {
    const auto reply = tenant.token(fields, header);
    EXPECT_THAT(reply, IsOAuthError(401, "invalid_client")) << header.substr(0, 40);
  }
  for (const auto& header :
       std::vector<std::string>{"Bearer", "Bearer ", "Bearer a b", "Bearer \"x\"", "Basic eDp4",
                                "x", "Bearer =", "Bearer\tx"}) {
    const auto reply = tenant.ask("GET", "/api/v1/tenants/bad-auth", {{"Authorization", header}});
    EXPECT_THAT(reply.status, AnyOf(400, 401)) << header;
  }
  const auto twice = tenant.ask(
      "GET", "/api/v1/tenants/bad-auth",
      {{"Authorization", bearer(tenant.admin)}, {"Authorization", bearer(tenant.admin)}});
  EXPECT_THAT(twice.status, AnyOf(400, 401));
  EXPECT_THAT(tenant.ask("GET", "/api/v1/tenants/bad-auth?access_token=" + tenant.admin),
              IsProblem(401, "unauthenticated"));
}

}  // namespace
}  // namespace postern::test
