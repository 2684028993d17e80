// The token endpoint on the wire: RFC 6749 §2.3, 3.2, 3.3, 4.4 and 5, and what
// it leaves open. Rows T, A and TV8 of docs/conformance.md.

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include "app/config.h"
#include "http/basic_auth.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

/// One tenant for what changes nothing.
TestTenant& acme() {
  static TestTenant tenant("rfc6749");
  return tenant;
}

Pairs fields() { return acme().exchange_fields(acme().user_token("alice"), "files"); }
Pairs with(Pairs more) {
  auto all = fields();
  all.insert(all.end(), more.begin(), more.end());
  return all;
}
Pairs without(const std::string& name, Pairs from = fields()) {
  std::erase_if(from, [&](const auto& field) { return field.first == name; });
  return from;
}
std::string gateway() { return basic("gw-01", acme().secret); }

WireReply post(const std::string& body, Pairs headers, const std::string& query = "") {
  return acme().ask("POST", "/t/rfc6749/token" + query, headers, body);
}
const Pairs kForm{{"Content-Type", "application/x-www-form-urlencoded"}};

// ---- the endpoint (§3.2) ----

TEST(Rfc6749_3_2, T1_TakesPostAlone) {
  for (const char* method : {"GET", "PUT", "DELETE", "HEAD"}) {
    const auto reply = acme().ask(method, "/t/rfc6749/token");
    EXPECT_EQ(reply.status, 405) << method;
    EXPECT_EQ(reply.header("Allow"), "POST") << method;
  }
}

TEST(Rfc6749_3_2, T1_IgnoresMediaTypeParameters) {
  for (const char* type :
       {"application/x-www-form-urlencoded", "application/x-www-form-urlencoded;charset=UTF-8",
        "application/x-www-form-urlencoded; charset=iso-8859-1",
        "Application/X-WWW-Form-URLEncoded"}) {
    EXPECT_THAT(post(form(fields()), {{"Content-Type", type}, {"Authorization", gateway()}}),
                HasStatus(200))
        << type;
  }
}

TEST(Rfc6749_3_2, T1_RefusesOtherMediaTypes) {
  for (const char* type : {"application/json", "text/plain", "multipart/form-data; boundary=x",
                           "application/x-www-form-urlencoded-not", ""}) {
    Pairs headers{{"Authorization", gateway()}};
    if (*type != '\0') headers.emplace_back("Content-Type", type);
    EXPECT_THAT(post(form(fields()), headers), IsOAuthError(400, "invalid_request")) << type;
  }
}

TEST(Rfc6749_3_2, T2_IgnoresUnknownParameters) {
  EXPECT_THAT(acme().token(with({{"foo", "bar"}, {"options", R"({"a":1})"}})), HasStatus(200));
}

TEST(Rfc6749_3_2, T2_TakesAnEmptyParameterAsAbsent) {
  EXPECT_THAT(acme().token(with({{"scope", ""},
                                 {"resource", ""},
                                 {"actor_token", ""},
                                 {"actor_token_type", ""},
                                 {"requested_token_type", ""},
                                 {"client_secret", ""},
                                 {"client_id", ""}})),
              HasStatus(200));
  auto empty = without("subject_token");
  empty.emplace_back("subject_token", "");
  EXPECT_THAT(acme().token(empty), IsOAuthError(400, "invalid_request"));
}

TEST(Rfc6749_3_2, T3_RefusesARepeatedParameter) {
  for (const char* name : {"grant_type", "subject_token", "subject_token_type", "scope",
                           "client_id", "requested_token_type", "foo"}) {
    EXPECT_THAT(acme().token(with({{name, "x"}, {name, "x"}})),
                IsOAuthError(400, "invalid_request"))
        << name;
  }
}

TEST(Rfc6749_3_2, T3_AllowsRepeatedResourceAndAudience) {
  EXPECT_THAT(acme().token(with({{"audience", "files"},
                                 {"resource", "https://files.example.com/mcp"},
                                 {"resource", "https://files.example.com/mcp"}})),
              HasStatus(200));
}

TEST(Rfc6749_2_3_1, T4_NeverReadsTheQuery) {
  const Pairs headers{kForm[0], {"Authorization", gateway()}};
  EXPECT_THAT(post("", headers, "?grant_type=client_credentials&audience=files"),
              IsOAuthError(400, "invalid_request"));
  // A parameter of the query does not widen what the body asks for.
  const auto reply =
      post(form(with({{"scope", "files:read"}})), headers, "?scope=files%3Aread+files%3Awrite");
  EXPECT_EQ(json_of(reply).at("scope"), "files:read");
}

TEST(Rfc6749_2_3_1, T4_RefusesSecretsInTheQuery) {
  for (const char* name : {"client_secret", "subject_token", "actor_token", "client_assertion"}) {
    EXPECT_THAT(post(form(fields()), {kForm[0], {"Authorization", gateway()}},
                     std::string("?") + name + "=x"),
                IsOAuthError(400, "invalid_request"))
        << name;
  }
}

// ---- TLS (§3.2) ----

/// What is wrong with a configuration of these keys and all that is required.
std::vector<std::string> problems_with(std::map<std::string, std::string> variables) {
  variables.try_emplace("POSTERND_BASE_URL", "https://sts.example.com");
  variables.try_emplace("POSTERND_DATABASE_URL", "postgresql://db/postern");
  variables.try_emplace("POSTERND_KEYS_ROOT_KEY_FILE", "root.key");
  variables.try_emplace("POSTERND_OPERATOR_TOKEN_FILE", "operator.token");
  const auto loaded =
      app::load_config("", [&](const std::string& name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        if (found == variables.end()) return std::nullopt;
        return found->second;
      });
  const auto* found = std::get_if<app::ConfigProblems>(&loaded);
  return found != nullptr ? found->problems : std::vector<std::string>();
}
std::vector<outbound::Network> networks(const char* network) {
  return {must(outbound::Network::parse(network))};
}

TEST(Rfc6749_3_2, T5_PlainHttpIsForLoopbackAndDeclaredProxies) {
  for (const std::map<std::string, std::string>& good :
       std::vector<std::map<std::string, std::string>>{
           {},
           {{"POSTERND_LISTEN_ADDRESS", "127.0.0.1"}},
           {{"POSTERND_LISTEN_ADDRESS", "::1"}},
           {{"POSTERND_LISTEN_ADDRESS", "0.0.0.0"}, {"POSTERND_PROXY_ADDRESSES", "10.0.0.7/32"}},
           {{"POSTERND_LISTEN_ADDRESS", "0.0.0.0"},
            {"POSTERND_LISTEN_TLS_CERTIFICATE_FILE", "tls.crt"},
            {"POSTERND_LISTEN_TLS_KEY_FILE", "tls.key"}},
           {{"POSTERND_LISTEN_ADDRESS", "0.0.0.0"},
            {"POSTERND_BASE_URL", "http://127.0.0.1:8711"}}}) {
    EXPECT_THAT(problems_with(good), testing::IsEmpty());
  }
  app::Config config;
  config.base_url = "https://sts.example.com";
  const auto takes = app::peers_taken(config, networks("10.0.0.0/24"));
  for (const char* peer : {"127.0.0.1", "127.0.0.2", "::1", "10.0.0.7"}) EXPECT_TRUE(takes(peer));
  config.listen.tls.emplace();
  EXPECT_FALSE(app::peers_taken(config, {})) << "over TLS everybody";
}

TEST(Rfc6749_3_2, T5_NobodyElseMaySendSecretsInTheClear) {
  for (const char* address : {"0.0.0.0", "::", "10.0.0.1", "203.0.113.5"}) {
    EXPECT_THAT(problems_with({{"POSTERND_LISTEN_ADDRESS", address}}),
                testing::ElementsAre(HasSubstr("listen.address: beyond loopback")))
        << address;
  }
  for (const char* url : {"http://sts.example.com", "http://127.0.0.1.example.com",
                          "http://localhost.example.com", "http://10.0.0.1:8711"}) {
    EXPECT_THAT(problems_with({{"POSTERND_BASE_URL", url}}),
                testing::ElementsAre(HasSubstr("base_url: must begin with https://")))
        << url;
  }
  app::Config config;
  config.base_url = "https://sts.example.com";
  const auto takes = app::peers_taken(config, networks("10.0.0.0/24"));
  for (const char* peer : {"10.0.1.7", "203.0.113.5", "2001:db8::1", "::ffff:127.0.0.1", ""}) {
    EXPECT_FALSE(takes(peer)) << peer;
  }
}

TEST(Rfc6749_3_2, T5_AStrangersConnectionIsClosedUnread) {
  http::ServerOptions options;
  options.takes_peer = [](std::string_view) { return false; };
  const http::Router router;
  http::Server server(options, router);
  ASSERT_TRUE(server.start().ok());
  RawClient stranger(server.port());
  EXPECT_EQ(stranger.get("/").status, 0);
  EXPECT_TRUE(stranger.at_end());
  EXPECT_EQ(server.stats().requests, 0u);
}

// ---- answers (§5) ----

TEST(Rfc6749_5_1, T6_SuccessIsJsonThatNobodyKeeps) {
  const auto reply = acme().token(fields());
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(reply.header("Content-Type"), "application/json");
  EXPECT_EQ(reply.header("Cache-Control"), "no-store");
  EXPECT_EQ(reply.header("Pragma"), "no-cache");
  EXPECT_EQ(json_of(reply).at("token_type"), "Bearer");
}

TEST(Rfc6749_5_2, T7_ErrorsAreJsonThatNobodyKeeps) {
  const auto reply = acme().token(with({{"scope", "nope"}}));
  EXPECT_THAT(reply, IsOAuthError(400, "invalid_scope"));
  EXPECT_EQ(reply.header("Pragma"), "no-cache");
}

TEST(Rfc6749_5_2, T8_ErrorsEchoNothingOfTheRequest) {
  const std::string odd = "<script>\"\\\x01\xc3\xa4 canary";
  for (const auto& request :
       {with({{"scope", odd}}),
        without("audience", with({{"resource", "https://canary.example/"}})),
        with({{"requested_token_type", odd}}), with({{"actor_token_type", odd}}),
        Pairs{{"grant_type", odd}}, Pairs{{odd, odd}}}) {
    const auto reply = acme().token(request);
    EXPECT_EQ(reply.status, 400);
    EXPECT_THAT(reply, IsOAuthError(400, json_of(reply).at("error")));
    EXPECT_THAT(reply.body, Not(HasSubstr("canary")));
    EXPECT_THAT(reply.body, Not(HasSubstr("<scr")));
  }
  const auto token = acme().token(without("subject_token", with({{"x", "y"}})));
  EXPECT_THAT(token.body, Not(HasSubstr("eyJ")));
}

// ---- scope (§3.3) ----

TEST(Rfc6749_3_3, T9_OrderDoesNotMatterAndCaseDoes) {
  const auto scope = [](const std::string& asked) {
    return json_of(acme().token(with({{"scope", asked}}))).value("scope", "");
  };
  EXPECT_EQ(scope("files:write files:read"), scope("files:read files:write"));
  EXPECT_EQ(scope("files:read files:read"), "files:read");
  EXPECT_THAT(acme().token(with({{"scope", "FILES:READ"}})), IsOAuthError(400, "invalid_scope"));
}

TEST(Rfc6749_3_3, T9_MalformedScopeIsInvalidScope) {
  for (const char* scope : {"files:read \"", "files\\read", "files:read\tfiles:write", "f\xc3\xa4",
                            "files:read,files:write"}) {
    EXPECT_THAT(acme().token(with({{"scope", scope}})), IsOAuthError(400, "invalid_scope"))
        << scope;
  }
}

TEST(Rfc6749_3_3, T10_NoScopeMeansAllThatMayBeGranted) {
  EXPECT_EQ(json_of(acme().token(fields())).at("scope"), "files:read files:write");
}

TEST(Rfc6749_3_3, T11_TheAnswerAlwaysNamesTheScope) {
  EXPECT_EQ(json_of(acme().token(with({{"scope", "files:read"}}))).at("scope"), "files:read");
}

TEST(Rfc6749_5_1, T12_ExpiresInIsAnInteger) {
  for (const auto& reply :
       {acme().token(fields()),
        acme().token({{"grant_type", "client_credentials"}, {"audience", "files"}})}) {
    const auto expires = json_of(reply).at("expires_in");
    EXPECT_TRUE(expires.is_number_integer()) << expires;
    EXPECT_GT(expires.get<int>(), 0);
    EXPECT_LE(expires.get<int>(), 300);
  }
}

// ---- bounds and order ----

TEST(TokenEndpoint, T13_HasBounds) {
  Pairs many;
  for (int i = 0; i < 9; ++i) many.emplace_back("audience", "files");
  EXPECT_EQ(acme().token(with(many)).status, 400);
  std::string scopes;
  for (int i = 0; i < 65; ++i) scopes += "s" + std::to_string(i) + " ";
  EXPECT_EQ(acme().token(with({{"scope", scopes}})).status, 400);
  EXPECT_EQ(acme().token(with({{"x", std::string(70'000, 'x')}})).status, 413);
  auto long_token = without("subject_token");
  long_token.emplace_back("subject_token", std::string(17'000, 'x'));
  EXPECT_THAT(acme().token(long_token), IsOAuthError(400, "invalid_request"));
}

/// Many requests at once, on one connection, to a service with one place to wait.
std::vector<WireReply> flood(TestService& service, const TestTenant& tenant,
                             const std::vector<std::string>& endpoints) {
  const auto body = form(tenant.exchange_fields("not.a.token", "files")) + "&token=x";
  std::string requests;
  for (std::size_t i = 0; i < 60; ++i) {
    requests += "POST /t/" + tenant.name + endpoints[i % endpoints.size()] +
                " HTTP/1.1\r\nHost: x\r\nAuthorization: " + basic("gw-01", tenant.secret) +
                "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  RawClient client(service.port());
  std::vector<WireReply> replies;
  if (!client.send(requests)) return replies;
  while (replies.size() < 60) replies.push_back(client.reply());
  return replies;
}

TEST(TokenEndpoint, T14_OverloadIsTemporarilyUnavailableAndSaysWhenToComeBack) {
  TestService service([](app::Config& config) {
    config.listen.compute_threads = config.listen.database_threads = 1;
    config.listen.pool_queue = 1;
  });
  TestTenant tenant(service, "t14");
  int overloaded = 0;
  for (const auto& reply : flood(service, tenant, {"/token", "/introspect", "/revoke"})) {
    if (reply.status != 503) continue;
    ++overloaded;
    EXPECT_THAT(reply, IsOAuthError(503, "temporarily_unavailable"));
    EXPECT_EQ(reply.header("Retry-After"), "1");
  }
  EXPECT_GT(overloaded, 0);
  // Nothing is left of it.
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "files"), HasStatus(200));
}

TEST(TokenEndpoint, T14_WithRoomToWaitNobodyIsTurnedAway) {
  for (const auto& reply : flood(shared_service(), acme(), {"/token"})) {
    EXPECT_THAT(reply, IsOAuthError(400, "invalid_request"));
  }
}

TEST(TokenEndpoint, T15_NothingIsSaidOfTokensBeforeTheClientIsKnown) {
  const auto wrong = basic("gw-01", std::string(43, 'x'));
  const auto good = acme().token(fields(), wrong);
  auto spoilt = without("subject_token");
  spoilt.emplace_back("subject_token", "garbage");
  const auto bad = acme().token(spoilt, wrong);
  const auto nowhere = acme().token(without("audience", with({{"audience", "nowhere"}})), wrong);
  EXPECT_THAT(good, IsOAuthError(401, "invalid_client"));
  EXPECT_EQ(good.body, bad.body);
  EXPECT_EQ(good.body, nowhere.body);
}

TEST(TokenEndpoint, T15_DuplicatesAndGrantTypeComeBeforeTheClient) {
  EXPECT_THAT(acme().token(with({{"scope", "a"}, {"scope", "b"}}), "Basic eDp4"),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().token({{"grant_type", "password"}}, "Basic eDp4"),
              IsOAuthError(400, "unsupported_grant_type"));
}

TEST(TokenEndpoint, T15_TheGrantMustBeAllowedBeforeAnythingOfItIsRead) {
  EXPECT_THAT(acme().token({{"grant_type", "client_credentials"}, {"scope", "\"bad"}},
                           basic("gw-files", acme().files_secret)),
              IsOAuthError(400, "unauthorized_client"));
}

TEST(TokenEndpoint, UnknownGrantsAreUnsupported) {
  for (const char* grant : {"password", "authorization_code", "refresh_token", "implicit",
                            "urn:ietf:params:oauth:grant-type:saml2-bearer", "TOKEN-EXCHANGE"}) {
    EXPECT_THAT(acme().token({{"grant_type", grant}}), IsOAuthError(400, "unsupported_grant_type"))
        << grant;
  }
  EXPECT_THAT(acme().token({{"audience", "files"}}), IsOAuthError(400, "invalid_request"));
}

// ---- client authentication (§2.3) ----

TEST(Rfc6749_2_3, A1_RefusesTwoMethodsAtOnce) {
  EXPECT_THAT(acme().token(with({{"client_secret", acme().secret}})),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().token(with({{"client_id", "gw-01"}, {"client_secret", acme().secret}})),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc6749_2_3, A1_RefusesAnAssertionWeDoNotOffer) {
  EXPECT_EQ(acme().token(with({{"client_assertion", "a.b.c"},
                               {"client_assertion_type",
                                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}))
                    .status /
                100,
            4);
}

TEST(Rfc6749_2_3, A2_AllowsTheSameClientIdBesideBasic) {
  EXPECT_THAT(acme().token(with({{"client_id", "gw-01"}})), HasStatus(200));
  EXPECT_THAT(acme().token(with({{"client_id", "gw-files"}})),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc6749_2_3_1, A3_TakesBasicEncodedAndRaw) {
  std::string encoded;
  for (const char c : acme().secret) {
    constexpr char kHex[] = "0123456789abcdef";
    (encoded += '%') += kHex[static_cast<unsigned char>(c) >> 4];
    encoded += kHex[c & 15];
  }
  for (const auto& authorization :
       {basic("gw-01", acme().secret), basic("gw%2D01", acme().secret), basic("gw-01", encoded),
        basic("gw%2d01", encoded), "bAsIc" + basic("gw-01", acme().secret).substr(5)}) {
    EXPECT_THAT(acme().token(fields(), authorization), HasStatus(200)) << authorization;
  }
}

TEST(Rfc6749_2_3_1, TV8_SplitsAndDecodesBasic) {
  const auto read = [](const char* encoded) {
    const auto parsed = must(http::basic_credentials(std::string("Basic ") + encoded));
    return parsed.first + " | " +
           parsed.second.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  };
  EXPECT_EQ(read("Z3ctMDE6czNjcmV0X1g="), "gw-01 | s3cret_X");
  EXPECT_EQ(read("Z3clMkQwMTpzM2NyZXQlNUZY"), "gw-01 | s3cret_X");
  EXPECT_EQ(read("JTJEZ3c6YSUzQWIlMkJj"), "-gw | a:b+c");
  EXPECT_EQ(read("cnMwODpsb25nLXNlY3VyZS1yYW5kb20tc2VjcmV0"), "rs08 | long-secure-random-secret");
}

TEST(Rfc6749_2_3_1, A4_TakesCredentialsInTheBody) {
  const auto posted = with({{"client_id", "gw-01"}, {"client_secret", acme().secret}});
  EXPECT_THAT(acme().token(posted, ""), HasStatus(200));
}

TEST(Rfc6749_2_3_1, A5_GeneratedSecretsNeedNoEncoding) {
  EXPECT_EQ(acme().secret.find_first_not_of(
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
            std::string::npos);
  EXPECT_GE(acme().secret.size(), 43u);
}

TEST(Rfc6749_2_3_1, A6_AWrongSecretIsRefusedAndTheRightOneNeverLockedOut) {
  for (int attempt = 0; attempt < 5; ++attempt) {
    EXPECT_EQ(acme().token(fields(), basic("gw-01", "guess-" + std::to_string(attempt))).status,
              401);
  }
  EXPECT_THAT(acme().token(fields()), HasStatus(200));
}

TEST(Rfc6749_5_2, ChallengesOnlyWhoUsedTheHeader) {
  const auto with_header = acme().token(fields(), basic("gw-01", "wrong"));
  EXPECT_THAT(with_header, IsOAuthError(401, "invalid_client"));
  EXPECT_EQ(with_header.header("WWW-Authenticate"), "Basic realm=\"rfc6749\", charset=\"UTF-8\"");
  const auto with_body =
      acme().token(with({{"client_id", "gw-01"}, {"client_secret", "wrong"}}), "");
  EXPECT_THAT(with_body, IsOAuthError(401, "invalid_client"));
  EXPECT_EQ(with_body.header("WWW-Authenticate"), "(none)");
}

TEST(Rfc6749_2_1, A12_AClientWithoutASecretIsNobody) {
  for (const auto& request :
       {with({{"client_id", "gw-01"}}), fields(),
        Pairs{
            {"grant_type", "client_credentials"}, {"client_id", "gw-01"}, {"audience", "files"}}}) {
    EXPECT_THAT(acme().token(request, ""), IsOAuthError(401, "invalid_client"));
  }
  EXPECT_THAT(acme().token(fields(), basic("gw-01", "")), IsOAuthError(401, "invalid_client"));
}

// ---- client credentials (§4.4) ----

TEST(Rfc6749_4_4, IssuesForTheClientItself) {
  const auto reply = acme().token({{"grant_type", "client_credentials"},
                                   {"resource", "https://files.example.com/mcp"},
                                   {"scope", "files:read"}});
  ASSERT_THAT(reply, HasStatus(200));
  const auto body = json_of(reply);
  EXPECT_FALSE(body.contains("refresh_token"));
  EXPECT_FALSE(body.contains("issued_token_type"));
  const auto claims = claims_of(body.at("access_token").get<std::string>());
  EXPECT_EQ(claims.at("sub"), "gw-01");
  EXPECT_EQ(claims.at("client_id"), "gw-01");
  EXPECT_EQ(claims.at("scope"), "files:read");
}

TEST(Rfc6749_4_4, RefusesWhatTheClientMayNotHave) {
  const auto ask = [](Pairs more) {
    more.emplace_back("grant_type", "client_credentials");
    return acme().token(more);
  };
  EXPECT_THAT(ask({{"audience", "nowhere"}}), IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(ask({}), IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(ask({{"audience", "github"}}), IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(ask({{"audience", "files"}, {"scope", "files:admin"}}),
              IsOAuthError(400, "invalid_scope"));
}

}  // namespace
}  // namespace postern::test
