// Dynamic client registration (RFC 7591) over the wire, behind initial access
// tokens. What metadata may say is in unit/policy/client_metadata_test.cc.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <string>
#include <vector>

#include "support/service_fixture.h"
#include "support/throttled.h"

namespace postern::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr const char* kAssertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

Json template_of_tests() {
  return {{"dynamic", true},
          {"grants", {"token-exchange", "client_credentials"}},
          {"authentication", {"client_secret", "private_key_jwt"}},
          {"backends", {"files"}},
          {"scopes", {"files:read"}},
          {"audiences", {"gw-01"}},
          {"max_clients", 100}};
}

/// A tenant that takes registrations.
struct Tenant : TestTenant {
  explicit Tenant(const std::string& called) : Tenant(shared_service(), called) {}
  Tenant(TestService& service, const std::string& called) : TestTenant(service, called) {
    allow(template_of_tests());
  }

  void allow(const Json& registration) {
    if (registration.is_null()) {
      manifest["settings"].erase("registration");
    } else {
      manifest["settings"]["registration"] = registration;
    }
    EXPECT_THAT(apply(), HasStatus(200));
  }
  Json new_token(const Json& body = Json::object()) const {
    const auto reply = api("POST", "/initial-access-tokens", admin, body);
    EXPECT_THAT(reply, HasStatus(201));
    return json_of(reply);
  }
  std::string initial_token(const Json& body = Json::object()) const {
    return new_token(body).at("token");
  }
  WireReply post(const Json& metadata, const std::string& token) const {
    return ask("POST", "/t/" + name + "/register",
               {{"Authorization", bearer(token)}, {"Content-Type", "application/json"}},
               metadata.dump());
  }
  Json registered(const Json& metadata = Json::object()) const {
    const auto reply = post(metadata, initial_token());
    EXPECT_THAT(reply, HasStatus(201));
    return json_of(reply);
  }
  WireReply exchange_as(const Json& client, const std::string& audience = "files",
                        const std::string& scope = "files:read") const {
    auto fields = exchange_fields(user_token("alice"), audience);
    fields.emplace_back("scope", scope);
    return token(fields, basic(client.at("client_id").get<std::string>(),
                               client.at("client_secret").get<std::string>()));
  }
  Json metadata_document() const {
    return json_of(ask("GET", "/.well-known/oauth-authorization-server/t/" + name));
  }
};

Tenant& acme() {
  static Tenant tenant("rfc7591");
  return tenant;
}

std::string error_of(const WireReply& reply) { return json_of(reply).value("error", ""); }

TEST(Rfc7591_3_2_1, ARegisteredClientGetsItsIdSecretAndWhatWasRegistered) {
  const auto reply = acme().post({{"client_name", "Support gateway"},
                                  {"grant_types", {TestTenant::kExchange}},
                                  {"scope", "files:read"},
                                  {"logo_uri", "https://x.example/logo.png"},
                                  {"unknown", {1, 2}}},
                                 acme().initial_token());
  ASSERT_THAT(reply, HasStatus(201));
  EXPECT_THAT(reply.header("Cache-Control"), HasSubstr("no-store"));
  EXPECT_EQ(reply.header("Pragma"), "no-cache");
  const auto client = json_of(reply);
  EXPECT_THAT(client.at("client_id").get<std::string>(), StartsWith("dyn-")) << "A5: no URL";
  EXPECT_EQ(client.at("client_secret").get<std::string>().size(), 43u);
  EXPECT_EQ(client.at("client_secret_expires_at"), 0);
  EXPECT_GT(client.at("client_id_issued_at").get<std::int64_t>(), 1'700'000'000);
  EXPECT_EQ(client.at("client_name"), "Support gateway");
  EXPECT_EQ(client.at("token_endpoint_auth_method"), "client_secret_basic");
  EXPECT_EQ(client.at("grant_types"), Json::array({TestTenant::kExchange}));
  EXPECT_EQ(client.at("scope"), "files:read");
  EXPECT_FALSE(client.contains("logo_uri")) << "it was not registered";
  EXPECT_FALSE(client.contains("unknown"));
}

TEST(Rfc7591_3_2_1, ARegisteredClientWorksAtOnceAndWithinTheTemplateOnly) {
  const auto client = acme().registered({{"scope", "files:read"}});
  const auto issued = acme().exchange_as(client);
  ASSERT_THAT(issued, HasStatus(200));
  const auto claims = claims_of(json_of(issued, "access_token").get<std::string>());
  EXPECT_EQ(claims.at("client_id"), client.at("client_id"));
  EXPECT_THAT(acme().exchange_as(client, "search", ""), IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(acme().exchange_as(client, "files", "files:write"),
              IsOAuthError(400, "invalid_scope"));
}

TEST(Rfc7591_3_2_1, AnAskedGrantIsAllThereIs) {
  const auto client = acme().registered({{"grant_types", {"client_credentials"}}});
  EXPECT_THAT(acme().exchange_as(client), IsOAuthError(400, "unauthorized_client"));
}

TEST(Rfc7591_2, AClientWithKeysHasNoSecret) {
  const Idp key("agent");
  const auto client =
      acme().registered({{"token_endpoint_auth_method", "private_key_jwt"}, {"jwks", key.jwks()}});
  EXPECT_FALSE(client.contains("client_secret"));
  EXPECT_FALSE(client.contains("client_secret_expires_at"));
  EXPECT_EQ(client.at("jwks"), key.jwks());
  const auto now = SystemClock().now();
  const auto assertion = key.sign({{"iss", client.at("client_id")},
                                   {"sub", client.at("client_id")},
                                   {"aud", "https://sts.example.com/t/rfc7591"},
                                   {"jti", "registered-1"},
                                   {"exp", seconds_of(now + 60s)}});
  auto fields = acme().exchange_fields(acme().user_token("alice"), "files");
  fields.emplace_back("client_assertion_type", kAssertion);
  fields.emplace_back("client_assertion", assertion);
  EXPECT_THAT(acme().token(fields, ""), HasStatus(200));
  EXPECT_THAT(acme().token(fields, ""), IsOAuthError(401, "invalid_client")) << "once";
}

TEST(Rfc7591_3_2_2, WhatIsAskedForInVainHasItsErrorCode) {
  const auto token = acme().initial_token({{"max_uses", 100}});
  const Idp key("agent");
  const struct {
    Json metadata;
    const char* error;
  } cases[] = {
      {{{"redirect_uris", {"javascript:alert(1)"}}}, "invalid_redirect_uri"},
      {{{"redirect_uris", "https://a.example/cb"}}, "invalid_redirect_uri"},
      {{{"software_statement", "e30.e30.e30"}}, "unapproved_software_statement"},
      {{{"grant_types", {"authorization_code"}}}, "invalid_client_metadata"},
      {{{"grant_types", Json::array()}}, "invalid_client_metadata"},
      {{{"response_types", {"code"}}}, "invalid_client_metadata"},
      {{{"scope", "files:write"}}, "invalid_client_metadata"},
      {{{"scope", "files:read files:write"}}, "invalid_client_metadata"},
      {{{"token_endpoint_auth_method", "none"}}, "invalid_client_metadata"},
      {{{"token_endpoint_auth_method", "tls_client_auth"}}, "invalid_client_metadata"},
      {{{"token_endpoint_auth_method", "private_key_jwt"}}, "invalid_client_metadata"},
      {{{"token_endpoint_auth_method", "private_key_jwt"},
        {"jwks", key.jwks()},
        {"jwks_uri", "https://a.example/jwks"}},
       "invalid_client_metadata"},
      {{{"client_name", 7}}, "invalid_client_metadata"},
      {Json::array(), "invalid_client_metadata"},
  };
  const auto before = acme().epoch();
  for (const auto& [metadata, error] : cases) {
    const auto reply = acme().post(metadata, token);
    EXPECT_THAT(reply, HasStatus(400)) << metadata;
    EXPECT_EQ(error_of(reply), error) << metadata;
    EXPECT_THAT(reply.header("Cache-Control"), HasSubstr("no-store"));
    EXPECT_NE(json_of(reply).value("error_description", ""), "") << metadata;
  }
  EXPECT_EQ(acme().epoch(), before) << "nothing was registered and no use was used";
}

TEST(Rfc7591_3_1, TheBodyIsOneJsonObjectOfBoundedSize) {
  const auto token = acme().initial_token();
  const auto raw = [&](const std::string& type, const std::string& body) {
    return acme().ask("POST", "/t/rfc7591/register",
                      {{"Authorization", bearer(token)}, {"Content-Type", type}}, body);
  };
  EXPECT_EQ(error_of(raw("application/x-www-form-urlencoded", "{}")), "invalid_client_metadata");
  EXPECT_EQ(error_of(raw("application/json", "{")), "invalid_client_metadata");
  EXPECT_EQ(error_of(raw("application/json", R"({"scope":"a","scope":"b"})")),
            "invalid_client_metadata");
  const Json large{{"policy_uri", std::string(17'000, 'x')}};
  EXPECT_THAT(raw("application/json", large.dump()), HasStatus(413));
  EXPECT_THAT(raw("application/json; charset=utf-8", "{}"), HasStatus(201));
}

TEST(Rfc7591_3_1, WhatIsStoredCanBeReadAgain) {
  Tenant tenant("rfc7591-depth");
  const auto keys = test::Idp("x", crypto::Algorithm::ES256).jwks();
  const auto post = [&](int depth) {
    auto jwks = keys;
    Json nested = 1;
    for (int i = 0; i < depth; ++i) nested = Json::array({nested});
    jwks["keys"][0]["zz"] = nested;
    return tenant.post({{"token_endpoint_auth_method", "private_key_jwt"}, {"jwks", jwks}},
                       tenant.initial_token());
  };
  EXPECT_THAT(post(3), HasStatus(201));
  for (const int depth : {6, 20, 25, 26, 27, 28, 29, 40}) {
    EXPECT_THAT(post(depth), HasStatus(413)) << depth;
  }
  // Nobody's client is anybody else's trouble.
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "files"), HasStatus(200));
  EXPECT_THAT(tenant.api("GET", "/manifest", tenant.admin), HasStatus(200));
}

TEST(Rfc7591_3, NobodyRegistersWithoutAnInitialAccessToken) {
  const auto before = acme().epoch();
  const auto none =
      acme().ask("POST", "/t/rfc7591/register", {{"Content-Type", "application/json"}}, "{}");
  EXPECT_THAT(none, HasStatus(401));
  EXPECT_EQ(error_of(none), "invalid_token");
  EXPECT_EQ(none.header("WWW-Authenticate"), "Bearer");
  for (const auto& token : {acme().admin, acme().operator_token(), acme().user_token("alice"),
                            std::string("postern_ia_rfc7591_") + std::string(43, 'x')}) {
    const auto reply = acme().post(Json::object(), token);
    EXPECT_THAT(reply, HasStatus(401));
    EXPECT_EQ(error_of(reply), "invalid_token");
    EXPECT_EQ(reply.header("WWW-Authenticate"), R"(Bearer error="invalid_token")");
  }
  EXPECT_EQ(acme().epoch(), before);
}

TEST(Rfc7591_3, AnInitialAccessTokenOpensNothingElse) {
  const auto token = acme().initial_token();
  EXPECT_THAT(acme().api("GET", "/manifest", token), HasStatus(401));
  EXPECT_THAT(acme().api("GET", "/initial-access-tokens", token), HasStatus(401));
  EXPECT_THAT(acme().exchange(token, "files"), IsOAuthError(400, "invalid_request"));
}

TEST(Rfc7591_3, ATokenIsGoodForAsManyClientsAsItSays) {
  const auto token = acme().initial_token({{"max_uses", 2}});
  EXPECT_THAT(acme().post(Json::object(), token), HasStatus(201));
  EXPECT_THAT(acme().post({{"scope", "no-such"}}, token), HasStatus(400)) << "not a use";
  EXPECT_THAT(acme().post(Json::object(), token), HasStatus(201));
  EXPECT_THAT(acme().post(Json::object(), token), HasStatus(401));
}

TEST(Rfc7591_3, OfManyAtOnceOneUseIsOneClient) {
  Tenant tenant("rfc7591-race");
  const auto token = tenant.initial_token();
  std::vector<std::future<WireReply>> replies;
  for (int i = 0; i < 6; ++i) {
    replies.push_back(
        std::async(std::launch::async, [&] { return tenant.post(Json::object(), token); }));
  }
  int made = 0;
  for (auto& reply : replies) made += reply.get().status == 201;
  EXPECT_EQ(made, 1);
}

TEST(Rfc7591_3, ARevokedTokenIsWorthNothing) {
  const auto made = acme().new_token();
  const auto path = "/initial-access-tokens/" + made.at("token_id").get<std::string>();
  EXPECT_THAT(acme().api("DELETE", path, acme().admin), HasStatus(204));
  EXPECT_THAT(acme().post(Json::object(), made.at("token")), HasStatus(401));
  EXPECT_THAT(acme().api("DELETE", path, acme().admin), IsProblem(404, "not-found"));
}

TEST(InitialAccessTokens, AreShownOnceAndListedWithoutTheToken) {
  Tenant tenant("rfc7591-list");
  const auto made = tenant.new_token({{"description", "onboarding"}, {"max_uses", 3}});
  EXPECT_THAT(tenant.post(Json::object(), made.at("token")), HasStatus(201));
  const auto list = tenant.api("GET", "/initial-access-tokens", tenant.admin);
  EXPECT_THAT(list.body, Not(HasSubstr(made.at("token").get<std::string>())));
  const auto items = json_of(list, "items");
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].at("token_id"), made.at("token_id"));
  EXPECT_EQ(items[0].at("description"), "onboarding");
  EXPECT_EQ(items[0].at("max_uses"), 3);
  EXPECT_EQ(items[0].at("uses"), 1);
  EXPECT_EQ(items[0].at("expires_at"), made.at("expires_at"));
}

TEST(InitialAccessTokens, AreBounded) {
  const auto refused = [](const Json& body) {
    return acme().api("POST", "/initial-access-tokens", acme().admin, body);
  };
  for (const Json& uses : {Json(0), Json(1001), Json(-1), Json("1"), Json(1.5)}) {
    EXPECT_THAT(refused({{"max_uses", uses}}), IsProblem(400, "malformed-request")) << uses;
  }
  for (const char* when : {"2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "tomorrow"}) {
    EXPECT_THAT(refused({{"expires_at", when}}), IsProblem(400, "malformed-request")) << when;
  }
  EXPECT_THAT(
      acme().api("POST", "/initial-access-tokens", acme().user_token("alice"), Json::object()),
      IsProblem(403, "forbidden"));
  TestTenant closed("rfc7591-closed");
  EXPECT_THAT(closed.api("POST", "/initial-access-tokens", closed.admin, Json::object()),
              IsProblem(409, "conflict"));
}

TEST(Registration, IsOffUntilATenantTurnsItOn) {
  TestTenant off("rfc7591-off");
  const auto reply =
      off.ask("POST", "/t/rfc7591-off/register", {{"Content-Type", "application/json"}}, "{}");
  EXPECT_THAT(reply, HasStatus(404));
  const auto document =
      json_of(off.ask("GET", "/.well-known/oauth-authorization-server/t/rfc7591-off"));
  EXPECT_FALSE(document.contains("registration_endpoint"));
  EXPECT_EQ(acme().metadata_document().at("registration_endpoint"),
            "https://sts.example.com/t/rfc7591/register");
}

TEST(Registration, ATokenOfOneTenantRegistersNothingAtAnother) {
  static Tenant other("rfc7591-other");
  EXPECT_THAT(other.post(Json::object(), acme().initial_token()), HasStatus(401));
}

TEST(Registration, HoldsClientsToTheTemplateAsItIsNow) {
  Tenant tenant("rfc7591-narrow");
  const auto client = tenant.registered();
  ASSERT_THAT(tenant.exchange_as(client), HasStatus(200));
  auto narrower = template_of_tests();
  narrower["backends"] = {"search"};
  tenant.allow(narrower);
  EXPECT_THAT(tenant.exchange_as(client), IsOAuthError(400, "invalid_target"));
  narrower["backends"] = {"files"};
  narrower["authentication"] = {"private_key_jwt"};
  tenant.allow(narrower);
  EXPECT_THAT(tenant.exchange_as(client), IsOAuthError(401, "invalid_client"));
  tenant.allow(template_of_tests());
  EXPECT_THAT(tenant.exchange_as(client), HasStatus(200));
  tenant.allow(nullptr);
  EXPECT_THAT(tenant.exchange_as(client), IsOAuthError(401, "invalid_client"));
}

TEST(Registration, KeepsWithinTheOperatorsGuardrails) {
  Tenant tenant("rfc7591-rails");
  const auto token = tenant.initial_token();
  tenant.manifest["guardrails"] = {{"client_authentication", {"private_key_jwt"}}};
  const auto applied = shared_service().as_operator(
      "PUT", "/api/v1/tenants/rfc7591-rails/manifest",
      {{"tenant", tenant.name}, {"guardrails", tenant.manifest["guardrails"]}});
  ASSERT_THAT(applied, HasStatus(200));
  const auto reply = tenant.post(Json::object(), token);
  EXPECT_THAT(reply, HasStatus(403));
  EXPECT_EQ(error_of(reply), "access_denied");
}

TEST(Registration, HasARoomOfItsOwn) {
  Tenant tenant("rfc7591-room");
  auto small = template_of_tests();
  small["max_clients"] = 1;
  tenant.allow(small);
  const auto token = tenant.initial_token({{"max_uses", 5}});
  const auto first = json_of(tenant.post(Json::object(), token));
  EXPECT_THAT(tenant.post(Json::object(), token), HasStatus(403));
  const auto path = "/clients/" + first.at("client_id").get<std::string>();
  EXPECT_THAT(tenant.api("DELETE", path, tenant.admin), HasStatus(204));
  EXPECT_THAT(tenant.exchange_as(first), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(tenant.api("DELETE", path, tenant.admin), IsProblem(404, "not-found"));
  EXPECT_THAT(tenant.post(Json::object(), token), HasStatus(201));
  EXPECT_THAT(tenant.api("DELETE", "/clients/gw-01", tenant.admin), IsProblem(409, "conflict"))
      << "configured clients go by the manifest";
}

TEST(Registration, AManifestDoesNotPruneWhoRegisteredAndMayDisableThem) {
  Tenant tenant("rfc7591-prune");
  const auto client = tenant.registered({{"client_name", "Nightly agent"}});
  ASSERT_THAT(tenant.apply("?prune=true"), HasStatus(200));
  EXPECT_THAT(tenant.exchange_as(client), HasStatus(200));

  auto whole = json_of(tenant.api("GET", "/manifest", tenant.admin));
  auto& clients = whole.at("clients");
  const auto it = std::find_if(clients.begin(), clients.end(), [&](const Json& entry) {
    return entry.at("id") == client.at("client_id");
  });
  ASSERT_NE(it, clients.end()) << "admins see it";
  EXPECT_EQ(it->at("registered").at("client_name"), "Nightly agent");
  EXPECT_EQ(it->at("backends"), Json::array()) << "they are the template's";
  (*it)["enabled"] = false;
  ASSERT_THAT(tenant.api("PUT", "/manifest", tenant.admin, whole), HasStatus(200));
  EXPECT_THAT(tenant.exchange_as(client), IsOAuthError(401, "invalid_client"));
}

TEST(Registration, EveryDecisionIsOnRecord) {
  Tenant tenant("rfc7591-audit");
  const auto made = tenant.new_token();
  const auto client =
      json_of(tenant.post({{"client_name", "Agent"}}, made.at("token").get<std::string>()));
  tenant.post(Json::object(), made.at("token"));
  const auto refused = tenant.initial_token();
  tenant.post({{"scope", "everything"}}, refused);
  const auto records = tenant.audit("limit=1000&action=client.register");
  ASSERT_EQ(records.size(), 3u);
  const auto field = [&](std::size_t i, const char* name) {
    return records[i].at("event").at("fields").value(name, "");
  };
  EXPECT_EQ(records[0].at("event").at("outcome"), "allowed");
  EXPECT_EQ(client.at("client_id"), field(0, "client"));
  EXPECT_EQ(made.at("token_id"), field(0, "initial_access_token"));
  EXPECT_EQ(field(0, "client_name"), "Agent");
  EXPECT_EQ(records[1].at("event").at("outcome"), "refused");
  EXPECT_EQ(field(1, "code"), "Unauthenticated");
  EXPECT_EQ(records[2].at("event").at("outcome"), "refused");
  EXPECT_EQ(field(2, "client"), "");
  const auto all = Json(records).dump();
  EXPECT_THAT(all, Not(HasSubstr(client.at("client_secret").get<std::string>())));
  EXPECT_THAT(all, Not(HasSubstr("postern_ia_")));
  EXPECT_TRUE(tenant.verification().at("intact"));
}

TEST(Registration, WhoGuessesTokensWaits) {
  TestService strict([](app::Config& config) { config.throttle = {}; });
  Tenant tenant(strict, "rfc7591-guess");
  const auto good = tenant.initial_token();
  eventually([&] { return seconds_to_wait(tenant.post(Json::object(), "guess")) >= 3; },
             "a time to wait that what is asked below fits into");
  EXPECT_THAT(tenant.post(Json::object(), good), HasStatus(429)) << "nothing of it is looked at";
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "files"), HasStatus(200))
      << "clients are not affected";
}

TEST(Registration, AnotherReplicaKnowsTheClient) {
  static TestService replica(shared_service().database_url(), shared_service().key_directory(), {});
  const auto client = acme().registered({{"grant_types", {"client_credentials"}}});
  const auto ask = [&] {
    return replica.ask("POST", "/t/rfc7591/token",
                       {{"Content-Type", "application/x-www-form-urlencoded"},
                        {"Authorization", basic(client.at("client_id").get<std::string>(),
                                                client.at("client_secret").get<std::string>())}},
                       form({{"grant_type", "client_credentials"}, {"audience", "files"}}));
  };
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  auto reply = ask();
  while (reply.status != 200 && std::chrono::steady_clock::now() < deadline) reply = ask();
  EXPECT_THAT(reply, HasStatus(200));
}

}  // namespace
}  // namespace postern::test
