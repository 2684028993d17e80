// What MCP gateways and frameworks send to a token endpoint, byte for byte as
// their sources write it, and what they demand of the answer:
//   agentgateway    crates/agentgateway/src/http/auth/oauth/{transport,client_auth}.rs
//   ContextForge    mcpgateway/services/oauth_manager.py
//   ToolHive        pkg/auth/tokenexchange/exchange.go
//   Kuadrant        config/samples/oauth-token-exchange/tools-call-auth.yaml (Authorino)
//   Spring Security TokenExchangeGrantRequest, DefaultOAuth2TokenRequestHeadersConverter
// Real clients that can be run are in tests/interop.

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

#include "crypto/base64url.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

constexpr const char* kFiles = "https://files.example.com/mcp";
constexpr const char* kJwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer";
constexpr const char* kServerName = "mcp-test/files-route";  // x-mcp-servername: namespace/route

const Idp& gateway_key() {
  static const Idp key("gw-key", crypto::Algorithm::RS256);
  return key;
}

TestTenant& acme() {
  static TestTenant tenant("gateways");
  static const bool ready = [] {
    tenant.part("clients", "gw-01")["grants"] = {"token-exchange", "jwt-bearer"};
    tenant.part("issuers", "corp")["token_types"] = {"access_token", "jwt", "id_token",
                                                     "jwt_bearer", "id_jag"};
    tenant.part("backends", "files")["aliases"] = {"docs", kServerName};
    tenant.manifest["clients"].push_back(
        {{"id", "gw-key"},
         {"authentication", {{"method", "private_key_jwt"}, {"jwks", gateway_key().jwks()}}},
         {"backends", {"*"}},
         {"scopes", {"*"}},
         {"audiences", {"gw-01"}}});
    EXPECT_THAT(tenant.apply(), HasStatus(200));
    return true;
  }();
  EXPECT_TRUE(ready);
  return tenant;
}
std::string alice() { return acme().user_token("alice"); }

/// Rust form_urlencoded, Go url.Values, Python urlencode and Java URLEncoder all
/// write a space as `+`; of the rest they differ in `*` and `~` alone.
std::string written(const Pairs& fields) {
  auto text = form(fields);
  for (auto at = text.find("%20"); at != text.npos; at = text.find("%20", at)) {
    text.replace(at, 3, "+");
  }
  return text;
}
/// Both halves form-encoded before they are joined (RFC 6749 §2.3.1).
std::string encoded_basic(const std::string& id, const std::string& secret) {
  return basic(percent_encoded(id), percent_encoded(secret));
}
WireReply post(const Pairs& fields, Pairs headers) {
  headers.insert(headers.begin(), {"Content-Type", "application/x-www-form-urlencoded"});
  return acme().ask("POST", "/t/gateways/token", headers, written(fields));
}

bool is_bearer(const Json& answer) {
  if (!answer.contains("token_type") || !answer.at("token_type").is_string()) return false;
  std::string type = answer.at("token_type");
  std::transform(type.begin(), type.end(), type.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return type == "bearer";
}
bool is_text(const Json& answer, const char* name) {
  return answer.contains(name) && answer.at(name).is_string() && answer.at(name) != "";
}
std::string access_token(const WireReply& reply) { return json_of(reply).at("access_token"); }

// ---- agentgateway ----

namespace agentgateway {

struct Settings {
  std::vector<std::string> audiences = {"files"};
  std::vector<std::string> resources = {};
  std::string scope = "";
  std::string requested_token_type = "";
  std::string subject_token_type = TestTenant::kAccessToken;
  Pairs actor = {};
  Pairs extra = {};
};

Pairs exchange(const Settings& is, const std::string& subject) {
  Pairs fields{{"grant_type", TestTenant::kExchange},
               {"subject_token", subject},
               {"subject_token_type", is.subject_token_type}};
  fields.insert(fields.end(), is.actor.begin(), is.actor.end());
  if (!is.requested_token_type.empty()) {
    fields.emplace_back("requested_token_type", is.requested_token_type);
  }
  for (const auto& audience : is.audiences) fields.emplace_back("audience", audience);
  if (!is.scope.empty()) fields.emplace_back("scope", is.scope);
  for (const auto& resource : is.resources) fields.emplace_back("resource", resource);
  fields.insert(fields.end(), is.extra.begin(), is.extra.end());
  return fields;
}
WireReply send(const Pairs& fields) {
  return post(fields, {{"Accept", "application/json"},
                       {"Authorization", encoded_basic("gw-01", acme().secret)}});
}
WireReply send(const Settings& is, const std::string& subject) {
  return send(exchange(is, subject));
}

/// TokenResponse::into_token: why it would not take the answer.
std::string objection(const WireReply& reply, const Settings& is = {}) {
  if (reply.status / 100 != 2) return "status " + std::to_string(reply.status);
  const auto answer = json_of(reply);
  if (!is_bearer(answer)) return "token_type";
  if (answer.contains("issued_token_type")) {
    const std::string issued = answer.at("issued_token_type");
    if (!is.requested_token_type.empty() && issued != is.requested_token_type) {
      return "issued_token_type is not the requested one";
    }
    if (is.requested_token_type.empty() && issued != TestTenant::kAccessToken &&
        issued != TestTenant::kJwt && issued != TestTenant::kIdToken) {
      return "issued_token_type is unusable";
    }
  }
  if (!is_text(answer, "access_token")) return "access_token";
  if (answer.contains("expires_in") && !answer.at("expires_in").is_number_unsigned()) {
    return "expires_in";
  }
  return "";
}
/// classify_token_endpoint_error: 4xx but for 401 and 403 is the user's affair.
bool blames_the_caller(const WireReply& reply) {
  return reply.status / 100 == 4 && reply.status != 401 && reply.status != 403;
}

}  // namespace agentgateway

TEST(Agentgateway, TakesTheAnswerToItsExchange) {
  for (const agentgateway::Settings& is : std::vector<agentgateway::Settings>{
           {},
           {.audiences = {"files"}, .resources = {kFiles}},  // one target by two names
           {.audiences = {"files", "docs"}, .resources = {kFiles, kFiles}},
           {.audiences = {}, .resources = {kFiles}, .scope = "files:read"},
           {.requested_token_type = TestTenant::kAccessToken},
           {.requested_token_type = TestTenant::kJwt},
           {.subject_token_type = TestTenant::kJwt},
           {.subject_token_type = TestTenant::kIdToken},
           {.actor = {{"actor_token", acme().user_token("robot")},
                      {"actor_token_type", TestTenant::kAccessToken}}},
           {.extra = {{"tenant_hint", "a b&c=d"}, {"x-request", "1"}}}}) {
    const auto reply = agentgateway::send(is, alice());
    EXPECT_EQ(agentgateway::objection(reply, is), "") << reply.body;
  }
}

TEST(Agentgateway, ABadUserTokenIsTheCallersFaultAndABadSecretTheGateways) {
  EXPECT_TRUE(agentgateway::blames_the_caller(agentgateway::send({}, "not.a.token")));
  EXPECT_TRUE(
      agentgateway::blames_the_caller(agentgateway::send({.audiences = {"nowhere"}}, alice())));
  EXPECT_TRUE(
      agentgateway::blames_the_caller(agentgateway::send({.scope = "files:admin"}, alice())));
  EXPECT_TRUE(agentgateway::blames_the_caller(
      agentgateway::send({.audiences = {"files", "search"}}, alice())));
  const auto wrong =
      post(agentgateway::exchange({}, alice()),
           {{"Accept", "application/json"}, {"Authorization", encoded_basic("gw-01", "wrong")}});
  EXPECT_FALSE(agentgateway::blames_the_caller(wrong));
  EXPECT_THAT(wrong, IsOAuthError(401, "invalid_client"));
}

TEST(Agentgateway, AuthenticatesByPostAndByItsAssertion) {
  auto posted = agentgateway::exchange({}, alice());
  posted.insert(posted.end(), {{"client_id", "gw-01"}, {"client_secret", acme().secret}});
  EXPECT_EQ(agentgateway::objection(post(posted, {{"Accept", "application/json"}})), "");

  // RS256 unless said otherwise; certificates may be in the header, a kid need not.
  const auto now = seconds_of(SystemClock().now());
  const auto assertion = [&](const std::string& jti, Json header, Json claims) {
    header.update(Json{{"typ", "JWT"}, {"alg", "RS256"}});
    claims.update(Json{{"iss", "gw-key"}, {"sub", "gw-key"}, {"jti", jti}});
    const auto input = crypto::base64url(as_bytes(header.dump())) + "." +
                       crypto::base64url(as_bytes(claims.dump()));
    return input + "." + crypto::base64url(gateway_key().key().sign(as_bytes(input)));
  };
  const auto send = [&](const std::string& compact) {
    auto fields = agentgateway::exchange({}, alice());
    fields.insert(fields.end(), {{"client_id", "gw-key"},
                                 {"client_assertion_type",
                                  "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
                                 {"client_assertion", compact}});
    return post(fields, {{"Accept", "application/json"}});
  };
  const Json to_us{
      {"aud", std::string(kBaseUrlOfTests) + "/t/gateways"}, {"iat", now - 10}, {"exp", now + 290}};
  EXPECT_EQ(agentgateway::objection(
                send(assertion("5f0c7f6e-0000-4000-8000-000000000001", Json::object(), to_us))),
            "");
  EXPECT_EQ(agentgateway::objection(send(assertion("5f0c7f6e-0000-4000-8000-000000000002",
                                                   {{"kid", gateway_key().kid()},
                                                    {"x5c", Json::array({"AAAA"})},
                                                    {"x5t#S256", std::string(43, 'A')}},
                                                   to_us))),
            "");
  auto elsewhere = to_us;
  elsewhere["aud"] = std::string(kBaseUrlOfTests) + "/t/gateways/token";
  EXPECT_THAT(send(assertion("5f0c7f6e-0000-4000-8000-000000000003", Json::object(), elsewhere)),
              IsOAuthError(401, "invalid_client"));
}

TEST(Agentgateway, TakesTheAnswerToItsJwtBearerGrant) {
  auto claims = acme().claims("alice");
  claims["aud"] = std::string(kBaseUrlOfTests) + "/t/gateways";
  claims["jti"] = "agw-1";
  const auto plain = agentgateway::send({{"grant_type", kJwtBearer},
                                         {"assertion", acme().idp.sign(claims)},
                                         {"audience", "files"},
                                         {"scope", "files:read"}});
  EXPECT_EQ(agentgateway::objection(plain), "") << plain.body;
  // Cross-app access: the second leg names no resource, the assertion does.
  claims["jti"] = "agw-2";
  claims["client_id"] = "gw-01";
  claims["resource"] = kFiles;
  const Pairs leg{{"grant_type", kJwtBearer},
                  {"assertion", acme().idp.sign(claims, "oauth-id-jag+jwt")}};
  EXPECT_EQ(agentgateway::objection(agentgateway::send(leg)), "");
  EXPECT_THAT(agentgateway::send(leg), IsOAuthError(400, "invalid_grant"));
}

// ---- IBM ContextForge ----

namespace contextforge {

Pairs exchange(const std::string& subject, const std::string& secret) {
  return {{"grant_type", TestTenant::kExchange},
          {"subject_token", subject},
          {"subject_token_type", TestTenant::kJwt},
          {"requested_token_type", TestTenant::kAccessToken},
          {"client_id", "gw-01"},
          {"client_secret", secret},
          {"audience", "files"},
          {"scope", "files:read files:write"}};
}
WireReply send(const Pairs& fields) {
  return post(fields, {{"Accept", "*/*"},
                       {"Accept-Encoding", "gzip, deflate"},
                       {"User-Agent", "python-httpx/0.28.1"}});
}
bool takes(const WireReply& reply) {
  return reply.status == 200 && json_of(reply).contains("access_token") &&
         is_bearer(json_of(reply));
}

}  // namespace contextforge

TEST(ContextForge, TakesTheAnswerToItsExchange) {
  const auto reply = contextforge::send(contextforge::exchange(alice(), acme().secret));
  EXPECT_TRUE(contextforge::takes(reply)) << reply.body;
  EXPECT_EQ(claims_of(access_token(reply)).at("aud"), kFiles);
}

TEST(ContextForge, AnEmptySecretIsNone) {
  EXPECT_THAT(contextforge::send(contextforge::exchange(alice(), "")),
              IsOAuthError(401, "invalid_client"));
  // Beside a certificate or a header it is no second method.
  auto fields = contextforge::exchange(alice(), "");
  EXPECT_TRUE(
      contextforge::takes(post(fields, {{"Authorization", basic("gw-01", acme().secret)}})));
}

TEST(ContextForge, ItsThreeTriesOfEveryFailureLockNobodyOut) {
  for (int attempt = 0; attempt < 3; ++attempt) {
    EXPECT_THAT(contextforge::send(contextforge::exchange(alice(), "wrong")),
                IsOAuthError(401, "invalid_client"));
    EXPECT_THAT(contextforge::send(contextforge::exchange("not.a.token", acme().secret)),
                IsOAuthError(400, "invalid_request"));
  }
  EXPECT_TRUE(
      contextforge::takes(contextforge::send(contextforge::exchange(alice(), acme().secret))));
}

// ---- ToolHive ----

namespace toolhive {

/// Go's url.Values.Encode sorts by name.
WireReply send(Pairs fields, const std::string& secret) {
  std::sort(fields.begin(), fields.end());
  return post(fields, {{"Authorization", encoded_basic("gw-01", secret)},
                       {"User-Agent", "Go-http-client/1.1"},
                       {"Accept-Encoding", "gzip"}});
}
Pairs exchange(const std::string& subject, const char* type = TestTenant::kAccessToken) {
  return {{"grant_type", TestTenant::kExchange},
          {"subject_token", subject},
          {"subject_token_type", type},
          {"requested_token_type", TestTenant::kAccessToken},
          {"audience", "files"},
          {"scope", "files:read"}};
}
std::string objection(const WireReply& reply) {
  if (reply.status / 100 != 2) return "status " + std::to_string(reply.status);
  if (reply.body.size() > 1u << 20) return "longer than 1 MiB";
  const auto answer = json_of(reply);
  for (const char* name : {"access_token", "token_type", "issued_token_type"}) {
    if (!is_text(answer, name)) return name;
  }
  if (!answer.value("expires_in", Json(0)).is_number_integer()) return "expires_in is no int";
  if (!answer.value("scope", Json("")).is_string()) return "scope";
  return "";
}
/// parseOAuthError: the code it shows its user.
std::string error_of(const WireReply& reply) { return json_of(reply).at("error"); }

}  // namespace toolhive

TEST(ToolHive, TakesTheAnswerToItsExchange) {
  for (const char* type : {TestTenant::kAccessToken, TestTenant::kJwt, TestTenant::kIdToken}) {
    const auto reply = toolhive::send(toolhive::exchange(alice(), type), acme().secret);
    EXPECT_EQ(toolhive::objection(reply), "") << type << reply.body;
  }
  auto delegated = toolhive::exchange(alice());
  delegated.emplace_back("actor_token", acme().user_token("robot"));
  delegated.emplace_back("actor_token_type", TestTenant::kAccessToken);
  EXPECT_EQ(toolhive::objection(toolhive::send(delegated, acme().secret)), "");
}

TEST(ToolHive, ReadsTheCodeOfARefusal) {
  EXPECT_EQ(toolhive::error_of(toolhive::send(toolhive::exchange("x.y.z"), acme().secret)),
            "invalid_request");
  EXPECT_EQ(toolhive::error_of(toolhive::send(toolhive::exchange(alice()), "wrong")),
            "invalid_client");
  // Its secret is optional; then it sends no client at all.
  EXPECT_THAT(post(toolhive::exchange(alice()), {}), IsOAuthError(401, "invalid_client"));
}

TEST(ToolHive, EntraOnBehalfOfIsUnderstoodToo) {
  const auto reply = toolhive::send({{"grant_type", kJwtBearer},
                                     {"requested_token_use", "on_behalf_of"},
                                     {"assertion", alice()},
                                     {"scope", std::string(kFiles) + "/.default"}},
                                    acme().secret);
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_TRUE(is_bearer(json_of(reply)));
}

// ---- Kuadrant ----

namespace kuadrant {

WireReply send(TestTenant& tenant, const std::string& server) {
  const Pairs fields{{"audience", server},
                     {"grant_type", TestTenant::kExchange},
                     {"scope", "openid"},
                     {"subject_token", tenant.user_token("alice")},
                     {"subject_token_type", TestTenant::kAccessToken}};
  return tenant.token(fields);
}
/// `scoped-audience-check`: a text, and the name in x-mcp-servername.
bool takes(const WireReply& reply, const std::string& server) {
  if (reply.status != 200) return false;
  const auto claims = claims_of(access_token(reply));
  return claims.contains("aud") && claims.at("aud").is_string() && claims.at("aud") == server;
}

}  // namespace kuadrant

TEST(Kuadrant, TakesTheTokenWhereTheBackendIsRegisteredByTheNameAsSent) {
  TestTenant tenant("kuadrant");
  tenant.part("backends", "files")["aliases"] = {kServerName};
  tenant.part("backends", "files")["aud_as_requested"] = true;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto reply = kuadrant::send(tenant, kServerName);
  EXPECT_TRUE(kuadrant::takes(reply, kServerName)) << reply.body;
  EXPECT_EQ(json_of(reply).at("scope"), "files:read files:write");  // `openid` narrows nothing
  EXPECT_EQ(kuadrant::send(tenant, "mcp-test/other-route").status, 400);
}

TEST(Kuadrant, WithoutThatTheAudienceIsTheRegisteredOneAndItsCheckFails) {
  const auto reply = kuadrant::send(acme(), kServerName);
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(claims_of(access_token(reply)).at("aud"), kFiles);
  EXPECT_FALSE(kuadrant::takes(reply, kServerName));
}

// ---- Spring Security ----

namespace spring {

WireReply send(const char* client, const std::string& secret, const char* type,
               const std::string& subject) {
  const Pairs fields{{"grant_type", TestTenant::kExchange},
                     {"scope", "files:read"},
                     {"requested_token_type", TestTenant::kAccessToken},
                     {"subject_token", subject},
                     {"subject_token_type", type}};
  return acme().ask("POST", "/t/gateways/token",
                    {{"Accept", "application/json;charset=UTF-8"},
                     {"Content-Type", "application/x-www-form-urlencoded;charset=UTF-8"},
                     {"Authorization", encoded_basic(client, secret)}},
                    written(fields));
}

}  // namespace spring

TEST(Spring, TakesTheAnswerThoughItNamesNoTarget) {
  for (const char* type : {TestTenant::kJwt, TestTenant::kAccessToken}) {
    const auto reply = spring::send("gw-files", acme().files_secret, type, alice());
    ASSERT_THAT(reply, HasStatus(200)) << type;
    EXPECT_EQ(reply.header("Content-Type"), "application/json");
    EXPECT_TRUE(is_bearer(json_of(reply)));
    EXPECT_TRUE(json_of(reply).at("expires_in").is_number_integer());
    EXPECT_EQ(json_of(reply).at("scope"), "files:read");
    EXPECT_EQ(claims_of(access_token(reply)).at("aud"), kFiles);  // the client's default backend
  }
}

TEST(Spring, AClientWithoutADefaultBackendIsRefused) {
  EXPECT_THAT(spring::send("gw-01", acme().secret, TestTenant::kJwt, alice()),
              IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(spring::send("gw-files", "wrong", TestTenant::kJwt, alice()),
              IsOAuthError(401, "invalid_client"));
}

// ---- all of them ----

TEST(Gateways, AskAgainBeforeATokenExpiresAndGetAnother) {
  const auto subject = alice();
  const auto first = agentgateway::send({}, subject);
  const auto second = agentgateway::send({}, subject);
  EXPECT_EQ(agentgateway::objection(second), "");
  EXPECT_NE(access_token(first), access_token(second));
}

TEST(Gateways, NeverGetWhatIsNoBearerUnlessTheyAskForIt) {
  TestTenant tenant("gateways-vaulted");
  tenant.part("backends", "github")["token_field"] = "token";
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  tenant.store("alice", "github", {{"token", "ghp_x"}});
  for (const Pairs& more :
       std::vector<Pairs>{{}, {{"requested_token_type", TestTenant::kAccessToken}}}) {
    const auto reply = tenant.exchange(tenant.user_token("alice"), "github", more);
    EXPECT_EQ(agentgateway::objection(reply), "");
    EXPECT_EQ(toolhive::objection(reply), "");
    EXPECT_TRUE(contextforge::takes(reply));
  }
  const auto asked = tenant.exchange(
      tenant.user_token("alice"), "github",
      {{"requested_token_type", "https://postern-project.org/oauth/token-type/credential"}});
  EXPECT_EQ(agentgateway::objection(asked), "token_type");
}

}  // namespace
}  // namespace postern::test
