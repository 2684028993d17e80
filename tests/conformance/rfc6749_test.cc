// The token endpoint on the wire: RFC 6749 §2.3, 3.2, 3.3, 4.4 and 5, and what
// it leaves open. Rows T, A and TV8 of docs/conformance.md.

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
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

/// The three that take forms; a form with `token` is good at each.
constexpr const char* kEndpoints[] = {"/t/rfc6749/token", "/t/rfc6749/introspect",
                                      "/t/rfc6749/revoke"};
WireReply post_to(const char* endpoint, const std::string& body, const std::string& type,
                  Pairs headers = {}) {
  headers.emplace_back("Authorization", gateway());
  if (!type.empty()) headers.emplace_back("Content-Type", type);
  return acme().ask("POST", endpoint, headers, body);
}
std::string form_for_each() { return form(with({{"token", "none"}})); }

/// One refusal of each status that these endpoints have.
std::vector<WireReply> refusals(const Pairs& headers) {
  std::vector<WireReply> replies;
  for (const char* endpoint : kEndpoints) {
    auto all = headers;
    replies.push_back(acme().ask("GET", endpoint, all));
    replies.push_back(acme().ask("POST", "/t/nobody" + std::string(endpoint).substr(10), all));
    replies.push_back(acme().ask("POST", endpoint, all));
    all.push_back(kForm[0]);
    replies.push_back(acme().ask("POST", endpoint, all, "%"));
    replies.push_back(acme().ask("POST", endpoint, all, form_for_each()));
    replies.push_back(acme().ask("POST", endpoint, all, std::string(70'000, 'x')));
    all.emplace_back("Authorization", basic("gw-01", "wrong"));
    replies.push_back(acme().ask("POST", endpoint, all, form_for_each()));
  }
  return replies;
}

// ---- the endpoint (§3.2) ----

TEST(Rfc6749_3_2, T1_TakesPostAlone) {
  for (const char* endpoint : kEndpoints) {
    for (const char* method : {"GET", "PUT", "DELETE", "HEAD", "PATCH"}) {
      const auto reply = acme().ask(method, endpoint);
      EXPECT_EQ(reply.status, 405) << method << endpoint;
      EXPECT_EQ(reply.header("Allow"), "POST") << method << endpoint;
    }
  }
}

TEST(Rfc6749_3_2, T1_IgnoresMediaTypeParameters) {
  for (const char* endpoint : kEndpoints) {
    for (const char* type :
         {"application/x-www-form-urlencoded", "application/x-www-form-urlencoded;charset=UTF-8",
          "application/x-www-form-urlencoded; charset=iso-8859-1",
          "Application/X-WWW-Form-URLEncoded"}) {
      EXPECT_THAT(post_to(endpoint, form_for_each(), type), HasStatus(200)) << endpoint << type;
    }
  }
}

TEST(Rfc6749_3_2, T1_RefusesOtherMediaTypes) {
  for (const char* endpoint : kEndpoints) {
    for (const char* type : {"application/json", "text/plain", "multipart/form-data; boundary=x",
                             "application/x-www-form-urlencoded-not", ""}) {
      EXPECT_THAT(post_to(endpoint, form_for_each(), type), IsOAuthError(400, "invalid_request"))
          << endpoint << type;
    }
  }
}

TEST(Rfc6749_3_2, T1_TakesUtf8) {
  for (const char* endpoint : kEndpoints) {
    for (const char* value : {"%C3%A4", "\xc3\xa4", "%E2%82%AC", "%F0%9F%94%91"}) {
      EXPECT_THAT(post_to(endpoint, form_for_each() + "&note=" + value, kForm[0].second),
                  HasStatus(200))
          << endpoint << value;
    }
  }
}

TEST(Rfc6749_3_2, T1_RefusesWhatIsNotUtf8) {
  for (const char* endpoint : kEndpoints) {
    for (const char* value : {"%E4", "\xe4", "%C0%AF", "%ED%A0%80", "%F5%80%80%80", "%00", "%4"}) {
      EXPECT_THAT(post_to(endpoint, form_for_each() + "&note=" + value, kForm[0].second),
                  IsOAuthError(400, "invalid_request"))
          << endpoint << value;
    }
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
}

TEST(Rfc6749_3_2, T2_WhatIsNeededIsMissingWhenItIsEmptyOrMisspelt) {
  for (const char* name : {"grant_type", "subject_token", "subject_token_type"}) {
    auto empty = fields(), misspelt = fields();
    for (auto& field : empty) {
      if (field.first == name) field.second.clear();
    }
    for (auto& field : misspelt) {
      if (field.first == name) field.first += "s";
    }
    EXPECT_THAT(acme().token(empty), IsOAuthError(400, "invalid_request")) << name;
    EXPECT_THAT(acme().token(misspelt), IsOAuthError(400, "invalid_request")) << name;
  }
  EXPECT_THAT(acme().token(with({{"client_id", "gw-01"}, {"client_secret", ""}}), ""),
              IsOAuthError(401, "invalid_client"));
}

TEST(Rfc6749_3_2, T3_RefusesARepeatedParameter) {
  for (const char* name :
       {"grant_type", "subject_token", "subject_token_type", "actor_token", "actor_token_type",
        "scope", "client_id", "client_secret", "client_assertion", "client_assertion_type",
        "requested_token_type", "authorization_details", "foo"}) {
    EXPECT_THAT(acme().token(with({{name, "x"}, {name, "x"}})),
                IsOAuthError(400, "invalid_request"))
        << name;
  }
  // Nor with the same value, nor in another grant or endpoint.
  EXPECT_THAT(acme().token(with({{"subject_token_type", TestTenant::kJwt}})),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().token({{"grant_type", "client_credentials"},
                            {"audience", "files"},
                            {"scope", "files:read"},
                            {"scope", "files:read"}}),
              IsOAuthError(400, "invalid_request"));
  for (const char* endpoint : {kEndpoints[1], kEndpoints[2]}) {
    EXPECT_THAT(post_to(endpoint, "token=a&token=b", kForm[0].second),
                IsOAuthError(400, "invalid_request"))
        << endpoint;
  }
}

TEST(Rfc6749_3_2, T3_AllowsRepeatedResourceAndAudience) {
  EXPECT_THAT(acme().token(with({{"audience", "files"},
                                 {"resource", "https://files.example.com/mcp"},
                                 {"resource", "https://files.example.com/mcp"}})),
              HasStatus(200));
  // `resource` at every grant (RFC 8707 §2).
  EXPECT_THAT(acme().token({{"grant_type", "client_credentials"},
                            {"resource", "https://files.example.com/mcp"},
                            {"resource", "https://files.example.com/mcp/"}}),
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
  for (const char* name : {"client_secret", "subject_token", "actor_token", "client_assertion",
                           "assertion", "code", "refresh_token", "password", "token"}) {
    for (const char* before : {"?", "?a=b&"}) {
      EXPECT_THAT(post(form(fields()), {kForm[0], {"Authorization", gateway()}},
                       before + std::string(name) + "=x"),
                  IsOAuthError(400, "invalid_request"))
          << name;
    }
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

TEST(Rfc6749_5_1, T6_ErrorsAreKeptByNobodyEither) {
  std::set<int> statuses;
  for (const auto& reply : refusals({})) {
    statuses.insert(reply.status);
    EXPECT_EQ(reply.header("Cache-Control"), "no-store") << reply.head;
    EXPECT_EQ(reply.header("Pragma"), "no-cache") << reply.head;
  }
  EXPECT_EQ(statuses, (std::set<int>{400, 401, 404, 405, 413}));
}

TEST(Rfc6749_5_2, T7_ErrorsAreJsonThatNobodyKeeps) {
  const auto reply = acme().token(with({{"scope", "nope"}}));
  EXPECT_THAT(reply, IsOAuthError(400, "invalid_scope"));
  EXPECT_EQ(reply.header("Pragma"), "no-cache");
}

TEST(Rfc6749_5_2, T7_NoErrorIsHtmlOrAProblemWhateverIsAskedFor) {
  for (const char* accept : {"text/html", "application/problem+json", "text/*, */*;q=0"}) {
    for (const auto& reply : refusals({{"Accept", accept}})) {
      EXPECT_THAT(reply, IsOAuthError(reply.status, json_of(reply).value("error", "")));
      for (const char* member : {"type", "title", "status"}) {
        EXPECT_FALSE(json_of(reply).contains(member)) << reply.body;
      }
    }
  }
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
}

TEST(Rfc6749_5_2, T8_NoTokenComesBackWhereverItWasPut) {
  const auto token = acme().user_token("alice");
  for (const char* name : {"grant_type", "subject_token_type", "actor_token", "actor_token_type",
                           "requested_token_type", "scope", "audience", "resource", "client_id",
                           "client_secret", "client_assertion", "authorization_details"}) {
    const auto reply = acme().token(with({{name, token}}));
    EXPECT_GE(reply.status, 400) << name;
    for (std::size_t i = 0; i + 12 <= token.size(); i += 12) {
      EXPECT_THAT(reply.head + reply.body, Not(HasSubstr(token.substr(i, 12)))) << name;
    }
  }
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
  // To this client for this target and this user, whichever allows least.
  EXPECT_EQ(json_of(acme().token(fields(), basic("gw-files", acme().files_secret))).at("scope"),
            "files:read");
  auto claims = acme().claims("carol");
  claims["groups"] = {"sales"};
  EXPECT_EQ(json_of(acme().exchange(acme().idp.sign(claims), "files")).at("scope"), "files:read");
  EXPECT_EQ(json_of(acme().token({{"grant_type", "client_credentials"}, {"audience", "files"}}))
                .at("scope"),
            "files:read files:write");
}

TEST(Rfc6749_3_3, T10_NoScopeIsInvalidScopeWhenNothingMayBeGranted) {
  auto claims = acme().claims("alice");
  for (const char* held : {"something:else", "openid", ""}) {
    claims["scope"] = held;
    EXPECT_THAT(acme().exchange(acme().idp.sign(claims), "files"),
                IsOAuthError(400, "invalid_scope"))
        << held;
  }
}

TEST(Rfc6749_5_1, T11_TheAnswerAlwaysNamesTheScope) {
  EXPECT_EQ(json_of(acme().token(with({{"scope", "files:read"}}))).at("scope"), "files:read");
  EXPECT_EQ(json_of(acme().token(fields())).at("scope"), "files:read files:write");
}

TEST(Rfc6749_5_1, T11_WhatIsNotGrantedIsNeverNamed) {
  const auto reply = acme().token(with({{"scope", "openid files:read email"}}));
  EXPECT_EQ(json_of(reply).at("scope"), "files:read");
  EXPECT_EQ(claims_of(json_of(reply).at("access_token").get<std::string>()).at("scope"),
            "files:read");
  auto claims = acme().claims("alice");
  claims["scope"] = "files:write files:admin";
  EXPECT_EQ(json_of(acme().exchange(acme().idp.sign(claims), "files")).at("scope"), "files:write");
  // Of a target without scopes there is none to name, nor in the token.
  const auto none = json_of(acme().exchange(acme().user_token("alice"), "search"));
  EXPECT_FALSE(none.contains("scope"));
  EXPECT_FALSE(claims_of(none.at("access_token").get<std::string>()).contains("scope"));
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

/// Alice's token, filled up to as many bytes as fit into this number.
std::string token_of_size(std::size_t bytes) {
  auto claims = acme().claims("alice");
  claims["pad"] = "";
  std::size_t pad = (bytes - acme().idp.sign(claims).size()) / 4 * 3 + 3;
  std::string token;
  do {
    claims["pad"] = std::string(pad--, 'x');
    token = acme().idp.sign(claims);
  } while (token.size() > bytes);
  return token;
}

TEST(TokenEndpoint, T13_WithinItsBoundsARequestIsTaken) {
  const auto token = token_of_size(16 * 1024);
  EXPECT_GT(token.size(), 16U * 1024 - 4);
  EXPECT_THAT(acme().exchange(token, "files"), HasStatus(200));
  auto body = form(fields()) + "&x=";
  body.append(64 * 1024 - body.size(), 'x');
  EXPECT_THAT(post(body, {kForm[0], {"Authorization", gateway()}}), HasStatus(200));
  Pairs targets(3, {"audience", "files"});  // and the one that is there
  targets.insert(targets.end(), 4, {"resource", "https://files.example.com/mcp"});
  EXPECT_THAT(acme().token(with(targets)), HasStatus(200));
  std::string scopes = "files:read";
  for (int i = 1; i < 64; ++i) scopes += " openid";
  EXPECT_THAT(acme().token(with({{"scope", scopes}})), HasStatus(200));
}

TEST(TokenEndpoint, T13_BeyondItsBoundsItIsRefused) {
  const auto token = token_of_size(16 * 1024 + 4);
  EXPECT_GT(token.size(), 16U * 1024);
  EXPECT_THAT(acme().exchange(token, "files"), IsOAuthError(400, "invalid_request"));
  const auto alice = acme().user_token("alice");
  EXPECT_THAT(acme().exchange(alice, "files",
                              {{"actor_token", token}, {"actor_token_type", TestTenant::kJwt}}),
              IsOAuthError(400, "invalid_request"));
  auto body = form(fields()) + "&x=";
  body.append(64 * 1024 + 1 - body.size(), 'x');
  EXPECT_THAT(post(body, {kForm[0], {"Authorization", gateway()}}),
              IsOAuthError(413, "invalid_request"));
  body.back() = '%';  // nobody got as far as reading it
  EXPECT_THAT(post(body, {kForm[0], {"Authorization", gateway()}}),
              IsOAuthError(413, "invalid_request"));
  Pairs targets(3, {"audience", "files"});
  targets.insert(targets.end(), 5, {"resource", "https://files.example.com/mcp"});
  EXPECT_THAT(acme().token(with(targets)), IsOAuthError(400, "invalid_target"));
  std::string scopes = "files:read";
  for (int i = 1; i < 65; ++i) scopes += " openid";
  EXPECT_THAT(acme().token(with({{"scope", scopes}})), IsOAuthError(400, "invalid_scope"));
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

// Everything is wrong at first; what is answered is put right, and the next comes up.
TEST(TokenEndpoint, T15_TheOrderOfTheChecks) {
  Pairs asked{{"grant_type", "password"},  {"scope", "files:admin"}, {"scope", "twice"},
              {"audience", "nowhere"},     {"client_id", "gw-01"},   {"client_secret", "wrong"},
              {"subject_token", "garbage"}};
  const auto set = [&](const char* name, const std::string& value) {
    std::erase_if(asked, [&](const auto& field) { return field.first == name; });
    asked.emplace_back(name, value);
  };
  const auto send = [&](const char* method, const char* type, std::size_t padding = 0) {
    auto body = form(asked);
    if (padding > 0) body += "&x=" + std::string(padding, '%');
    return acme().ask(method, kEndpoints[0], {{"Content-Type", type}}, body);
  };
  EXPECT_THAT(send("PUT", "text/plain", 70'000), HasStatus(405));
  EXPECT_THAT(send("POST", kForm[0].second.c_str(), 70'000), HasStatus(413));
  EXPECT_THAT(send("POST", "text/plain").body, HasSubstr("x-www-form-urlencoded"));
  EXPECT_THAT(send("POST", kForm[0].second.c_str(), 1).body, HasSubstr("UTF-8"));
  const auto next = [&] { return send("POST", kForm[0].second.c_str()); };
  EXPECT_THAT(next(), IsOAuthError(400, "invalid_request"));
  set("scope", "files:admin");
  EXPECT_THAT(next(), IsOAuthError(400, "unsupported_grant_type"));
  set("grant_type", TestTenant::kExchange);
  EXPECT_THAT(next(), IsOAuthError(401, "invalid_client"));
  set("client_secret", acme().secret);
  EXPECT_THAT(next().body, HasSubstr("subject_token_type"));
  set("subject_token_type", TestTenant::kJwt);
  EXPECT_THAT(next(), IsOAuthError(400, "invalid_request"));
  set("subject_token", acme().user_token("alice"));
  set("actor_token", "garbage");
  set("actor_token_type", TestTenant::kJwt);
  EXPECT_THAT(next(), IsOAuthError(400, "invalid_request"));
  set("actor_token", acme().user_token("robot"));
  EXPECT_THAT(next(), IsOAuthError(400, "invalid_target"));
  set("audience", "files");
  EXPECT_THAT(next(), IsOAuthError(400, "invalid_scope"));
  set("scope", "files:read");
  EXPECT_THAT(next(), HasStatus(200));
}

// ---- error codes (§5.2): what gets one, and what next to it does not ----

TEST(Rfc6749_5_2, ErrorInvalidRequest_IsForWhatIsMissingRepeatedOrMalformed) {
  for (const Pairs& request : {without("grant_type"), without("subject_token"),
                               with({{"scope", "files:read"}, {"scope", "files:read"}}),
                               with({{"client_secret", acme().secret}})}) {
    EXPECT_THAT(acme().token(request), IsOAuthError(400, "invalid_request"));
  }
  EXPECT_THAT(post("%", {kForm[0], {"Authorization", gateway()}}),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc6749_5_2, ErrorInvalidRequest_IsNotForAGoodRequestNorForWhatHasItsOwnCode) {
  EXPECT_THAT(acme().token(fields()), HasStatus(200));
  EXPECT_THAT(acme().token(with({{"actor_token", acme().user_token("robot")},
                                 {"actor_token_type", TestTenant::kJwt}})),
              HasStatus(200));
  EXPECT_THAT(acme().token(with({{"scope", "nope"}})), IsOAuthError(400, "invalid_scope"));
  EXPECT_THAT(acme().token(with({{"audience", "nowhere"}})), IsOAuthError(400, "invalid_target"));
}

TEST(Rfc6749_5_2, ErrorInvalidClient_IsForWhoeverIsNotKnown) {
  for (const auto& authorization :
       {basic("nobody", acme().secret), basic("gw-01", "wrong"), basic("gw-01", ""),
        basic("gw-01", acme().files_secret), bearer(acme().secret),
        std::string("Digest username=\"gw-01\"")}) {
    EXPECT_THAT(acme().token(fields(), authorization), IsOAuthError(401, "invalid_client"))
        << authorization;
  }
  EXPECT_THAT(acme().token(fields(), ""), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(acme().token(with({{"client_assertion", "a.b.c"},
                                 {"client_assertion_type",
                                  "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}}),
                           ""),
              IsOAuthError(401, "invalid_client"));
}

TEST(Rfc6749_5_2, ErrorInvalidClient_IsNotForTheOtherMistakesOfAKnownOne) {
  EXPECT_THAT(acme().token(fields()), HasStatus(200));
  // A gateway reads 401 as its own fault, so a user's token never causes one.
  for (const char* token : {"garbage", "a.b.c"}) {
    const auto reply = acme().exchange(token, "files");
    EXPECT_EQ(reply.status, 400) << token;
    EXPECT_EQ(reply.header("WWW-Authenticate"), "(none)") << token;
  }
}

/// Where alice's token is an assertion as well.
TestTenant& asserting() {
  static TestTenant tenant("rfc6749-assertions");
  static const bool ready = [] {
    tenant.part("clients", "gw-01")["grants"] = {"token-exchange", "jwt-bearer"};
    tenant.part("issuers", "corp")["token_types"] = {"access_token", "jwt", "jwt_bearer"};
    EXPECT_THAT(tenant.apply(), HasStatus(200));
    return true;
  }();
  EXPECT_TRUE(ready);
  return tenant;
}
WireReply assert_as_grant(const std::string& assertion) {
  return asserting().token({{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"},
                            {"assertion", assertion},
                            {"audience", "files"}});
}
Json assertion_claims(std::chrono::seconds left) {
  auto claims = asserting().claims("alice");
  claims["aud"] = std::string(kBaseUrlOfTests) + "/t/rfc6749-assertions";
  claims["exp"] = seconds_of(SystemClock().now() + left);
  claims["jti"] = std::to_string(left.count());
  return claims;
}

TEST(Rfc6749_5_2, ErrorInvalidGrant_IsForABadAssertion) {
  EXPECT_THAT(assert_as_grant("garbage"), IsOAuthError(400, "invalid_grant"));
  EXPECT_THAT(assert_as_grant(asserting().idp.sign(assertion_claims(-120s))),
              IsOAuthError(400, "invalid_grant"));
  EXPECT_THAT(assert_as_grant(asserting().user_token("alice")), IsOAuthError(400, "invalid_grant"))
      << "for somebody else";
}

TEST(Rfc6749_5_2, ErrorInvalidGrant_IsNotForAGoodAssertionNorForAnySubjectToken) {
  EXPECT_THAT(assert_as_grant(asserting().idp.sign(assertion_claims(60s))), HasStatus(200));
  const auto late = asserting().idp.sign(assertion_claims(-120s));
  for (const auto& token : {std::string("garbage"), late}) {
    EXPECT_THAT(asserting().exchange(token, "files"), IsOAuthError(400, "invalid_request"));
    EXPECT_THAT(
        asserting().exchange(asserting().user_token("alice"), "files",
                             {{"actor_token", token}, {"actor_token_type", TestTenant::kJwt}}),
        IsOAuthError(400, "invalid_request"));
  }
}

TEST(Rfc6749_5_2, ErrorUnauthorizedClient_IsForAGrantThatAClientMayNotUse) {
  EXPECT_THAT(acme().token({{"grant_type", "client_credentials"}, {"audience", "files"}},
                           basic("gw-files", acme().files_secret)),
              IsOAuthError(400, "unauthorized_client"));
  EXPECT_THAT(acme().token({{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"},
                            {"assertion", acme().user_token("alice")},
                            {"audience", "files"}}),
              IsOAuthError(400, "unauthorized_client"));
}

TEST(Rfc6749_5_2, ErrorUnauthorizedClient_IsNotForAGrantThatItMayUse) {
  EXPECT_THAT(acme().token({{"grant_type", "client_credentials"}, {"audience", "files"}}),
              HasStatus(200));
  EXPECT_THAT(acme().token(fields(), basic("gw-files", acme().files_secret)), HasStatus(200));
}

TEST(Rfc6749_5_2, ErrorUnsupportedGrantType_IsForGrantsThatNobodyIsOffered) {
  for (const char* grant : {"password", "authorization_code", "refresh_token", "implicit",
                            "urn:ietf:params:oauth:grant-type:saml2-bearer", "TOKEN-EXCHANGE"}) {
    EXPECT_THAT(acme().token({{"grant_type", grant}}), IsOAuthError(400, "unsupported_grant_type"))
        << grant;
  }
}

TEST(Rfc6749_5_2, ErrorUnsupportedGrantType_IsNotForThoseThatAreNorForNone) {
  for (const char* grant : {TestTenant::kExchange, "urn:ietf:params:oauth:grant-type:jwt-bearer",
                            "client_credentials"}) {
    EXPECT_NE(json_of(acme().token({{"grant_type", grant}})).at("error"), "unsupported_grant_type")
        << grant;
  }
  EXPECT_THAT(acme().token({{"audience", "files"}}), IsOAuthError(400, "invalid_request"));
}

TEST(Rfc6749_5_2, ErrorInvalidScope_IsForTheUnknownMalformedAndForbidden) {
  for (const char* scope : {"nope", "files:read\"", "files:admin", "repo:read", "*"}) {
    EXPECT_THAT(acme().token(with({{"scope", scope}})), IsOAuthError(400, "invalid_scope"))
        << scope;
    EXPECT_THAT(
        acme().token(
            {{"grant_type", "client_credentials"}, {"audience", "files"}, {"scope", scope}}),
        IsOAuthError(400, "invalid_scope"))
        << scope;
  }
  EXPECT_THAT(
      acme().token(with({{"scope", "files:write"}}), basic("gw-files", acme().files_secret)),
      IsOAuthError(400, "invalid_scope"));
}

TEST(Rfc6749_5_2, ErrorInvalidScope_IsNotForWhatMayBeGranted) {
  for (const char* scope : {"files:read", "files:write files:read", " files:read "}) {
    EXPECT_THAT(acme().token(with({{"scope", scope}})), HasStatus(200)) << scope;
  }
  EXPECT_THAT(acme().token(with({{"scope", "files:read"}}), basic("gw-files", acme().files_secret)),
              HasStatus(200));
}

TEST(Rfc7009_2_2_1, ErrorUnsupportedTokenType_HasNoCauseWhereEveryTypeIsRevoked) {
  const std::string ours = json_of(acme().token(fields())).at("access_token");
  auto claims = acme().claims("alice");
  claims["jti"] = "revoked";
  for (const auto& token : {ours, acme().idp.sign(claims), std::string("opaque")}) {
    for (const char* hint : {"access_token", "refresh_token", "id_token", "saml2", ""}) {
      EXPECT_THAT(post_to(kEndpoints[2], form({{"token", token}, {"token_type_hint", hint}}),
                          kForm[0].second),
                  HasStatus(200))
          << hint;
    }
  }
}

TEST(Rfc7009_2_2_1, ErrorUnsupportedTokenType_IsNeverOfTheTokenEndpoint) {
  for (const char* parameter : {"subject_token_type", "requested_token_type"}) {
    for (const char* type : {"refresh_token", "saml2", "id-jag", "none"}) {
      auto asked = without(parameter);
      asked.emplace_back(parameter, "urn:ietf:params:oauth:token-type:" + std::string(type));
      EXPECT_THAT(acme().token(asked), IsOAuthError(400, "invalid_request")) << parameter << type;
    }
  }
}

// ---- client authentication (§2.3) ----

TEST(Rfc6749_2_3, A1_OneMethodIsEnough) {
  EXPECT_THAT(acme().token(fields()), HasStatus(200));
  EXPECT_THAT(acme().token(with({{"client_id", "gw-01"}, {"client_secret", acme().secret}}), ""),
              HasStatus(200));
}

TEST(Rfc6749_2_3, A1_RefusesTwoMethodsAtOnce) {
  const Pairs assertion{
      {"client_assertion", "a.b.c"},
      {"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}};
  const Pairs posted{{"client_id", "gw-01"}, {"client_secret", acme().secret}};
  EXPECT_THAT(acme().token(with({{"client_secret", acme().secret}})),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().token(with(posted)), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().token(with(assertion)), IsOAuthError(400, "invalid_request"));
  auto both = with(posted);
  both.insert(both.end(), assertion.begin(), assertion.end());
  EXPECT_THAT(acme().token(both, ""), IsOAuthError(400, "invalid_request"));
  // Nor one of them twice.
  EXPECT_THAT(
      post(form(fields()), {kForm[0], {"Authorization", gateway()}, {"Authorization", gateway()}}),
      IsOAuthError(400, "invalid_request"));
}

TEST(Rfc6749_2_3, A2_AllowsTheSameClientIdBesideBasic) {
  EXPECT_THAT(acme().token(with({{"client_id", "gw-01"}})), HasStatus(200));
}

TEST(Rfc6749_2_3, A2_RefusesAnotherClientIdBesideBasic) {
  for (const char* id : {"gw-files", "nobody", "GW-01"}) {
    EXPECT_THAT(acme().token(with({{"client_id", id}})), IsOAuthError(400, "invalid_request"))
        << id;
  }
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

TEST(Rfc6749_2_3_1, A3_RefusesWhatIsNotBasic) {
  const auto good = basic("gw-01", acme().secret);
  for (const auto& authorization :
       {"Basi" + good.substr(5), "Basic" + good.substr(6), good.substr(6), std::string("Basic"),
        good + "=", good.substr(0, good.size() - 2), "Basic gw-01:" + acme().secret,
        basic("gw-01", ""), basic("", acme().secret), basic("gw-01:", acme().secret),
        basic("gw-01", acme().secret + "%"), basic("gw-01", acme().secret + "+"),
        basic("gw%2501", acme().secret), basic("gw-01", acme().secret + "%00")}) {
    EXPECT_THAT(acme().token(fields(), authorization), IsOAuthError(401, "invalid_client"))
        << authorization;
  }
}

TEST(Rfc6749_2_3_1, A4_TakesCredentialsInTheBody) {
  const auto posted = with({{"client_id", "gw-01"}, {"client_secret", acme().secret}});
  EXPECT_THAT(acme().token(posted, ""), HasStatus(200));
}

TEST(Rfc6749_2_3_1, A4_RefusesOtherCredentialsInTheBody) {
  for (const Pairs& offered : std::vector<Pairs>{
           {{"client_id", "gw-01"}, {"client_secret", "wrong"}},
           {{"client_id", "gw-files"}, {"client_secret", acme().secret}},
           {{"client_id", "nobody"}, {"client_secret", acme().secret}},
           {{"client_secret", acme().secret}},
           {{"client_id", "gw-01"}},
           {{"client_id", "gw-01"}, {"client_secret", percent_encoded(acme().secret) + "%20"}}}) {
    EXPECT_THAT(acme().token(with(offered), ""), IsOAuthError(401, "invalid_client"))
        << form(offered);
  }
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
  // Confidential clients alone.
  EXPECT_THAT(
      acme().token(
          {{"grant_type", "client_credentials"}, {"client_id", "gw-01"}, {"audience", "files"}},
          ""),
      IsOAuthError(401, "invalid_client"));
}

}  // namespace
}  // namespace postern::test
