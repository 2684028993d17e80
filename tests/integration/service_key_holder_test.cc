// A tenant that its key holder has sealed: what each door answers, at two replicas,
// and what goes on.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "crypto/base64url.h"
#include "crypto/random.h"
#include "support/routes.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using std::chrono::steady_clock;
using testing::HasSubstr;
using testing::Not;

/// Two replicas over one database. The second looks for changes by itself once an
/// hour: all that it knows in time, it was told.
struct World {
  TestService one;
  TestService two{one.database_url(), one.key_directory(), [](app::Config& config) {
                    config.follow_interval = std::chrono::hours(1);
                    config.max_staleness = std::chrono::hours(2);
                  }};
};
World& world() {
  static auto& postgres = shared_postgres();
  static_cast<void>(postgres);
  static World made;
  return made;
}

Endpoint endpoint_of(const TestService& service) {
  return {[&service] { return service.port(); }, service.operator_token()};
}

struct Door {
  const char* name;
  enum class Shape { OAuth, Rest, Vault } shape;
  std::function<WireReply(std::uint16_t port)> ask;
};

class HeldTenant : public TestTenant {
 public:
  explicit HeldTenant(const std::string& called)
      : TestTenant(endpoint_of(world().one), called), alice(user_token("alice")) {
    manifest["settings"]["vault_api"] = {
        {"clients", {"gw-01", "pod"}},
        {"views", {{{"path", "mcp-gateway/{sub}"}, {"backend", "github"}}}},
        {"transit",
         {{"rules",
           {{{"clients", {"gw-01"}},
             {"keys", {"*"}},
             {"operations",
              {"encrypt", "decrypt", "rewrap", "sign", "verify", "hmac", "datakey"}}}}}}}};
    manifest["settings"]["reveal"] = true;
    part("backends", "github")["token_field"] = "token";
    part("clients", "gw-01")["introspects"] = Json::array({"*"});
    manifest["clients"].push_back(
        {{"id", "pod"},
         {"grants", {"client_credentials"}},
         {"backends", {"*"}},
         {"scopes", {"*"}},
         {"authentication",
          {{"method", "workload_identity"},
           {"workload",
            {{"issuer", manifest["issuers"][0]["name"]},
             {"audience", "gw-01"},
             {"claims", {{"sub", {"system:serviceaccount:mcp:pod"}}}}}}}}});
    EXPECT_THAT(apply(), HasStatus(200));
    store("alice", "github", {{"token", "ghp_of_alice"}});
    EXPECT_THAT(api("PUT", "/credentials/shared", admin, {{"fields", {{"token", "of all"}}}}),
                HasStatus(201));
    issued = json_of(exchange(alice, "files"), "access_token");
    session = json_of(ask("POST", "/t/" + name + "/v1/auth/approle/login",
                          {{"Content-Type", "application/json"}},
                          Json{{"role_id", "gw-01"}, {"secret_id", secret}}.dump()))
                  .value("auth", Json::object())
                  .value("client_token", "");
  }

  static std::string new_share() {
    Bytes bytes(32);
    crypto::random_bytes(bytes);
    return crypto::base64url(bytes);
  }
  WireReply at(std::uint16_t port, std::string_view method, const std::string& path,
               const std::string& token, const Json& body = nullptr) const {
    Pairs headers{{"Authorization", bearer(token)}};
    if (!body.is_null()) headers.emplace_back("Content-Type", "application/json");
    return http_ask(port, method, "/api/v1/tenants/" + name + path, headers,
                    body.is_null() ? "" : body.dump());
  }
  WireReply post_form(std::uint16_t port, const std::string& path, const Pairs& fields) const {
    return http_ask(port, "POST", "/t/" + name + path,
                    {{"Authorization", basic("gw-01", secret)},
                     {"Content-Type", "application/x-www-form-urlencoded"}},
                    form(fields));
  }
  WireReply vault(std::uint16_t port, std::string_view method, const std::string& path,
                  const Json& body = nullptr) const {
    return http_ask(port, method, "/t/" + name + "/v1/" + path, {{"X-Vault-Token", admin}},
                    body.is_null() ? "" : body.dump());
  }
  WireReply as_client(std::uint16_t port, const std::string& path, Json body) const {
    body["subject_token"] = alice;
    return http_ask(
        port, "POST", "/api/v1/tenants/" + name + path,
        {{"Authorization", basic("gw-01", secret)}, {"Content-Type", "application/json"}},
        body.dump());
  }

  WireReply hold(const std::string& share) const {
    return at(world().one.port(), "PUT", "/key-holder", admin, {{"share", share}});
  }
  WireReply seal() const {
    return at(world().one.port(), "POST", "/key-holder/seal", admin, Json::object());
  }
  WireReply unseal(std::uint16_t port, const std::string& share) const {
    return at(port, "POST", "/key-holder/unseal", admin, {{"share", share}});
  }
  Json holder(std::uint16_t port) const { return json_of(at(port, "GET", "/key-holder", admin)); }
  std::string state(std::uint16_t port) const { return holder(port).value("state", "?"); }
  void hold_everywhere(const std::string& share) const {
    ASSERT_THAT(hold(share), HasStatus(200));
    eventually([&] { return state(world().two.port()) == "sealed"; }, "the other heard of it");
    ASSERT_THAT(unseal(world().two.port(), share), HasStatus(200));
    eventually([&] { return holder(world().one.port()).at("rows_left") == 0; }, "all moved");
  }

  /// Everything that takes the tenant's key.
  std::vector<Door> doors() const {
    using Shape = Door::Shape;
    const Pairs subject = exchange_fields(alice, "files");
    const Json files{{"items", {{{"backend", "files"}}}}};
    const Json fields{{"fields", {{"token", "new"}}}};
    const Json data{{"data", {{"token", "new"}}}};
    return {
        {"exchange", Shape::OAuth,
         [=, this](auto port) { return post_form(port, "/token", subject); }},
        {"vaulted exchange", Shape::OAuth,
         [this](auto port) { return post_form(port, "/token", exchange_fields(alice, "github")); }},
        {"client credentials", Shape::OAuth,
         [this](auto port) {
           return post_form(port, "/token",
                            {{"grant_type", "client_credentials"}, {"audience", "files"}});
         }},
        {"batch", Shape::Rest,
         [this](auto port) {
           return as_client(port, "/exchange", {{"items", {{{"audience", "files"}}}}});
         }},
        {"release", Shape::Rest,
         [=, this](auto port) { return as_client(port, "/release", files); }},
        {"write", Shape::Rest,
         [=, this](auto port) { return at(port, "PUT", "/credentials/shared", admin, fields); }},
        {"write of a user", Shape::Rest,
         [=, this](auto port) { return at(port, "PUT", "/credentials/github", alice, fields); }},
        {"reveal", Shape::Rest,
         [this](auto port) {
           return at(port, "POST", "/credentials/shared/reveal", admin, {{"reason", "to see"}});
         }},
        {"signing key", Shape::Rest,
         [this](auto port) {
           return at(port, "POST", "/signing-keys/rotation", admin, {{"publish_for", 0}});
         }},
        {"vault read", Shape::Vault,
         [this](auto port) { return vault(port, "GET", "secret/data/shared"); }},
        {"vault write", Shape::Vault,
         [=, this](auto port) { return vault(port, "PUT", "secret/data/shared", data); }},
        {"vault list", Shape::Vault,
         [this](auto port) { return vault(port, "LIST", "secret/metadata/"); }},
        {"vault mounts", Shape::Vault,
         [this](auto port) { return vault(port, "GET", "sys/mounts"); }},
        {"vault login", Shape::Vault,
         [this](auto port) {
           return vault(port, "POST", "auth/approle/login",
                        {{"role_id", "gw-01"}, {"secret_id", secret}});
         }},
        {"vault session", Shape::Vault,
         [this](auto port) {
           return http_ask(port, "GET", "/t/" + name + "/v1/auth/token/lookup-self",
                           {{"X-Vault-Token", session}});
         }},
    };
  }

  const std::string alice;
  std::string issued, session;
};

std::string json_text(const WireReply& reply) { return json_of(reply).dump(); }

void expect_sealed(const Door& door, const WireReply& reply) {
  SCOPED_TRACE(door.name);
  EXPECT_EQ(reply.header("Retry-After"), "30");
  EXPECT_EQ(reply.header("Cache-Control"), "no-store");
  switch (door.shape) {
    case Door::Shape::OAuth:
      EXPECT_THAT(reply, IsOAuthError(503, "temporarily_unavailable"));
      EXPECT_EQ(json_of(reply).value("reason", ""), "tenant_sealed");
      break;
    case Door::Shape::Rest: EXPECT_THAT(reply, IsProblem(503, "tenant-sealed")); break;
    case Door::Shape::Vault:
      EXPECT_THAT(reply, HasStatus(503));
      EXPECT_EQ(json_text(reply), R"({"errors":["Vault is sealed"]})");
      break;
  }
}

void expect_all(const HeldTenant& tenant, std::uint16_t port, bool sealed) {
  for (const auto& door : tenant.doors()) {
    const auto reply = door.ask(port);
    if (sealed) {
      expect_sealed(door, reply);
    } else {
      EXPECT_LT(reply.status, 300) << door.name << ": " << reply.body;
    }
  }
}

TEST(KeyHolder, EveryDoorOfASealedTenantAnswersSoAtBothReplicas) {
  const HeldTenant tenant("sealed-doors");
  const auto share = HeldTenant::new_share();
  expect_all(tenant, world().one.port(), false);
  tenant.hold_everywhere(share);
  expect_all(tenant, world().one.port(), false);
  expect_all(tenant, world().two.port(), false);

  const auto begun = steady_clock::now();
  ASSERT_THAT(tenant.seal(), HasStatus(200));
  const auto ask = tenant.doors().front().ask;
  eventually([&] { return ask(world().two.port()).status == 503; }, "the other heard of it");
  RecordProperty("milliseconds_until_sealed_everywhere",
                 static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                      steady_clock::now() - begun)
                                      .count()));
  expect_all(tenant, world().one.port(), true);
  expect_all(tenant, world().two.port(), true);

  ASSERT_THAT(tenant.unseal(world().one.port(), share), HasStatus(200));
  expect_all(tenant, world().one.port(), false);
  expect_all(tenant, world().two.port(), true);
  ASSERT_THAT(tenant.unseal(world().two.port(), share), HasStatus(200));
  expect_all(tenant, world().two.port(), false);
}

// ---- all that there is, by its route ----

/// What opens nothing, and makes nothing that is sealed.
const std::map<std::string, const char*> kOpensNothing = {
    {"GET /.well-known/oauth-authorization-server/t/{}", "public"},
    {"GET /.well-known/oauth-protected-resource/api/v1", "public"},
    {"GET /.well-known/oauth-protected-resource/api/v1/tenants/{}", "public"},
    {"GET /t/{}/jwks", "public"},
    {"GET /t/{}/authorize", "says that there is none"},
    {"POST /t/{}/revoke", "writes an id down"},
    {"POST /t/{}/register", "writes a hash down"},
    {"GET /api/v1/status", "of no tenant"},
    {"GET /api/v1/keys", "how many rows are under which key"},
    {"GET /api/v1/tenants", "names"},
    {"GET /api/v1/erasure-keys", "public"},
    {"GET /api/v1/tenant-erasures/{}", "what was destroyed"},
    {"GET /api/v1/tenants/{}", "a name"},
    {"DELETE /api/v1/tenants/{}", "takes away"},
    {"GET /api/v1/tenants/{}/manifest", "configuration"},
    {"PUT /api/v1/tenants/{}/manifest", "configuration; of secrets the hash"},
    {"GET /api/v1/tenants/{}/admin-tokens", "ids"},
    {"POST /api/v1/tenants/{}/admin-tokens", "writes a hash down"},
    {"DELETE /api/v1/tenants/{}/admin-tokens/{}", "takes away"},
    {"GET /api/v1/tenants/{}/initial-access-tokens", "ids"},
    {"POST /api/v1/tenants/{}/initial-access-tokens", "writes a hash down"},
    {"DELETE /api/v1/tenants/{}/initial-access-tokens/{}", "takes away"},
    {"DELETE /api/v1/tenants/{}/clients/{}", "takes away"},
    {"GET /api/v1/tenants/{}/clients/{}/secrets", "ids"},
    {"POST /api/v1/tenants/{}/clients/{}/secrets", "writes a hash down"},
    {"DELETE /api/v1/tenants/{}/clients/{}/secrets/{}", "takes away"},
    {"GET /api/v1/tenants/{}/key-holder", "whether it is sealed"},
    {"PUT /api/v1/tenants/{}/key-holder", "is for who has the share"},
    {"POST /api/v1/tenants/{}/key-holder/release", "is for who has the share"},
    {"POST /api/v1/tenants/{}/key-holder/unseal", "is for who has the share"},
    {"POST /api/v1/tenants/{}/key-holder/seal", "seals"},
    {"POST /api/v1/tenants/{}/principals/erase", "destroys"},
    {"GET /api/v1/tenants/{}/erasures", "what was destroyed"},
    {"GET /api/v1/tenants/{}/erasures/{}", "what was destroyed"},
    {"POST /api/v1/tenants/{}/erase", "destroys"},
    {"GET /api/v1/tenants/{}/signing-keys", "public halves"},
    {"DELETE /api/v1/tenants/{}/signing-keys/{}", "takes away"},
    {"GET /api/v1/tenants/{}/credentials", "names"},
    {"GET /api/v1/tenants/{}/credentials/{}", "shows no value"},
    {"PATCH /api/v1/tenants/{}/credentials/{}", "shows no value"},
    {"DELETE /api/v1/tenants/{}/credentials/{}", "takes away"},
    {"GET /api/v1/tenants/{}/credentials/{}/versions", "shows no value"},
    {"DELETE /api/v1/tenants/{}/credentials/{}/versions/{}", "marks it"},
    {"POST /api/v1/tenants/{}/credentials/{}/versions/{}/undelete", "takes the mark off"},
    {"POST /api/v1/tenants/{}/credentials/{}/versions/{}/destroy", "takes away"},
    {"GET /api/v1/tenants/{}/credentials/{}/rotation", "shows no value"},
    {"DELETE /api/v1/tenants/{}/credentials/{}/rotation", "shows no value"},
    {"POST /api/v1/tenants/{}/credentials/{}/rotation/promote", "what is handed out stays sealed"},
    {"POST /api/v1/tenants/{}/credentials/{}/rotation/retire", "takes away"},
    {"POST /api/v1/tenants/{}/credentials/{}/rotation/cancel", "takes away"},
    {"GET /api/v1/tenants/{}/rotations", "shows no value"},
    {"POST /api/v1/tenants/{}/explanations", "what policy says; shows no value"},
    {"GET /api/v1/tenants/{}/audit", "the trail goes on"},
    {"GET /api/v1/tenants/{}/audit/verification", "the trail goes on"},
    {"GET /t/{}/v1/sys/wrapping/lookup", "for how long it waits"},
    {"POST /t/{}/v1/sys/wrapping/lookup", "for how long it waits"},
    {"GET /t/{}/v1/sys/health", "of no tenant"},
    {"GET /t/{}/v1/sys/seal-status", "says that it is, to who has proven something"},
};

struct Knock {
  std::string method, target;
  Pairs headers;
  std::string body{};
  /// Each of many is answered for itself, as refused.
  bool of_many = false;
};

/// One for each route that is not among those.
/// @param wrapped  of a wrapping token that nobody has used
std::vector<Knock> knocks(const HeldTenant& tenant, const std::string& user_session,
                          const std::string& wrapped) {
  const auto api = "/api/v1/tenants/" + tenant.name, vault = "/t/" + tenant.name + "/v1/";
  const Pairs json{{"Content-Type", "application/json"}};
  const auto by = [](std::string authorization, const char* media = "application/json") {
    return Pairs{{"Authorization", std::move(authorization)}, {"Content-Type", media}};
  };
  const auto client = by(basic("gw-01", tenant.secret));
  const auto client_form = by(basic("gw-01", tenant.secret), "application/x-www-form-urlencoded");
  const auto admin = by(bearer(tenant.admin));
  const auto for_alice = [&](Json body) {
    body["subject_token"] = tenant.alice;
    return body.dump();
  };
  auto signed_answer = client_form;
  signed_answer.emplace_back("Accept", "application/token-introspection+jwt");
  std::vector<Knock> all{
      {"POST", "/t/" + tenant.name + "/token", client_form,
       form(tenant.exchange_fields(tenant.alice, "files"))},
      {"POST", "/t/" + tenant.name + "/token", client_form,
       form({{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"},
             {"assertion", tenant.alice},
             {"audience", "files"}})},
      {"POST", "/t/" + tenant.name + "/introspect", signed_answer,
       form({{"token", tenant.issued}})},
      {"POST", api + "/exchange", client, for_alice({{"items", {{{"audience", "files"}}}}})},
      {"POST", api + "/release", client, for_alice({{"items", {{{"backend", "github"}}}}})},
      {"PUT", api + "/credentials/shared", admin, Json{{"fields", {{"token", "new"}}}}.dump()},
      {"POST", api + "/credentials/shared/reveal", admin, Json{{"reason", "to see"}}.dump()},
      {"PUT", api + "/credentials/shared/rotation", admin,
       Json{{"kind", "password"}, {"field", "token"}}.dump()},
      {"POST", api + "/credentials/shared/rotate", admin,
       Json{{"generate", {{"kind", "password"}, {"field", "token"}}}}.dump()},
      {"POST", api + "/credentials/shared/rotate", admin,
       Json{{"fields", {{"token", "new"}}}}.dump()},
      {"POST", api + "/signing-keys/rotation", admin, Json{{"publish_for", 0}}.dump()},
      {"POST", api + "/rotations", admin, Json{{"labels", {{"team", "held"}}}}.dump(), true},
      {"POST", api + "/emergency", admin,
       Json{{"client", "gw-01"},
            {"since", "2020-01-01T00:00:00Z"},
            {"action", "rotate"},
            {"reason", "a drill"}}
           .dump(),
       true}};
  // Of the Vault subset, whoever asks.
  const Json data{{"data", {{"token", "new"}}}}, versions{{"versions", {1}}};
  const Json plain{{"plaintext", "YQ=="}}, input{{"input", "YQ=="}};
  const auto cipher = Json{{"ciphertext", "vault:v1:YQ=="}};
  const Json signature{{"input", "YQ=="}, {"hmac", "vault:v1:YQ=="}};
  const Json login{{"role", "gw-01"}, {"jwt", tenant.alice}};
  struct Call {
    const char* method;
    const char* path;
    Json body = nullptr;
    std::string token{};
  };
  for (const auto& [method, path, body, token] : std::vector<Call>{
           {"GET", "secret/data/shared"},
           {"GET", "secret/data/mcp-gateway/alice", nullptr, user_session},
           {"POST", "secret/data/shared", data},
           {"PATCH", "secret/data/shared", data},
           {"DELETE", "secret/data/none"},
           {"POST", "secret/delete/none", versions},
           {"POST", "secret/undelete/none", versions},
           {"POST", "secret/destroy/none", versions},
           {"GET", "secret/metadata/shared"},
           {"LIST", "secret/metadata/"},
           {"LIST", "secret/metadata"},
           {"GET", "secret/metadata?list=true"},
           {"POST", "secret/metadata/shared", {{"max_versions", 5}}},
           {"PATCH", "secret/metadata/shared", {{"max_versions", 5}}},
           {"DELETE", "secret/metadata/none"},
           {"GET", "sys/mounts"},
           {"GET", "sys/internal/ui/mounts"},
           {"GET", "sys/internal/ui/mounts/secret"},
           {"POST", "auth/approle/login", {{"role_id", "gw-01"}, {"secret_id", tenant.secret}}},
           {"POST", "auth/jwt/login", login, "-"},
           {"POST",
            "auth/kubernetes/login",
            {{"role", "pod"}, {"jwt", tenant.user_token("system:serviceaccount:mcp:pod")}}},
           {"GET", "auth/token/lookup-self", nullptr, tenant.session},
           {"POST", "auth/token/renew-self", nullptr, tenant.session},
           {"POST", "auth/token/lookup", {{"token", tenant.session}}},
           {"POST", "auth/token/renew", {{"token", tenant.session}}},
           {"POST", "auth/token/lookup-accessor", {{"accessor", "none"}}},
           {"POST", "auth/token/revoke-accessor", {{"accessor", "none"}}, tenant.session},
           {"POST", "auth/token/revoke", {{"token", "none"}}, tenant.session},
           {"POST", "auth/token/create", Json::object(), tenant.session},
           {"POST", "sys/wrapping/wrap", data},
           {"POST", "sys/wrapping/unwrap", {{"token", wrapped}}},
           {"POST", "sys/wrapping/rewrap", {{"token", wrapped}}},
           {"POST", "sys/wrapping/unwrap", nullptr, wrapped},
           {"GET", "transit/keys"},
           {"LIST", "transit/keys"},
           {"GET", "transit/keys/held"},
           {"POST", "transit/keys/held", {{"type", "aes256-gcm96"}}},
           {"POST", "transit/keys/held/rotate"},
           {"POST", "transit/keys/held/config", {{"min_decryption_version", 1}}},
           {"DELETE", "transit/keys/none"},
           {"POST", "transit/encrypt/held", plain, tenant.session},
           {"POST", "transit/decrypt/held", cipher, tenant.session},
           {"POST", "transit/rewrap/held", cipher, tenant.session},
           {"POST", "transit/sign/held", input, tenant.session},
           {"POST", "transit/sign/held/sha2-256", input, tenant.session},
           {"POST", "transit/verify/held", signature, tenant.session},
           {"POST", "transit/verify/held/sha2-256", signature, tenant.session},
           {"POST", "transit/hmac/held", input, tenant.session},
           {"POST", "transit/hmac/held/sha2-256", input, tenant.session},
           {"POST", "transit/datakey/plaintext/held", nullptr, tenant.session},
           {"POST", "transit/datakey/wrapped/held", nullptr, tenant.session},
           {"POST", "auth/token/revoke-self", nullptr, tenant.session}}) {
    Pairs headers = json;
    if (token == "-") {
      headers.emplace_back("Authorization", basic("gw-01", tenant.secret));
    } else {
      headers.emplace_back("X-Vault-Token", token.empty() ? tenant.admin : token);
    }
    if (std::string_view(path) == "sys/wrapping/wrap") {
      headers.emplace_back("X-Vault-Wrap-TTL", "1h");
    }
    if (std::string_view(method) == "PATCH") {
      headers.front().second = "application/merge-patch+json";
    }
    all.push_back({method, vault + path, headers, body.is_null() ? "" : body.dump()});
  }
  return all;
}

TEST(KeyHolder, NoRouteOpensAnythingOfASealedTenant) {
  const HeldTenant tenant("sealed-routes");
  const auto port = world().one.port();
  ASSERT_THAT(tenant.at(port, "PATCH", "/credentials/shared", tenant.admin,
                        {{"labels", {{"team", "held"}}}}),
              HasStatus(200));
  ASSERT_THAT(tenant.vault(port, "PUT", "transit/keys/held"), HasStatus(200));
  const auto logged_in = http_ask(
      port, "POST", "/t/" + tenant.name + "/v1/auth/jwt/login",
      {{"Authorization", basic("gw-01", tenant.secret)}, {"Content-Type", "application/json"}},
      Json{{"role", "gw-01"}, {"jwt", tenant.alice}}.dump());
  ASSERT_THAT(logged_in, HasStatus(200));
  const auto wrap = [&]() -> std::string {
    return json_of(http_ask(port, "PUT", "/t/" + tenant.name + "/v1/sys/wrapping/wrap",
                            {{"X-Vault-Token", tenant.admin}, {"X-Vault-Wrap-TTL", "1h"}},
                            Json{{"token", "wrapped"}}.dump()))
        .at("wrap_info")
        .at("token");
  };
  const auto ask = [&](const Knock& knock) {
    return http_ask(port, knock.method, knock.target, knock.headers, knock.body);
  };
  const auto doors =
      knocks(tenant, json_of(logged_in).at("auth").at("client_token").get<std::string>(), wrap());
  ASSERT_THAT(tenant.at(port, "PUT", "/credentials/shared/rotation", tenant.admin,
                        {{"kind", "password"}, {"field", "token"}}),
              HasStatus(200));
  ASSERT_THAT(tenant.release(tenant.alice, {{{"backend", "github"}}}), HasStatus(200));

  tenant.hold_everywhere(HeldTenant::new_share());
  ASSERT_THAT(tenant.seal(), HasStatus(200));
  for (const auto& door : doors) {
    const auto what = door.method + " " + door.target;
    const auto reply = ask(door);
    if (!door.of_many) {
      EXPECT_THAT(reply, HasStatus(503)) << what;
      continue;
    }
    ASSERT_THAT(reply, HasStatus(200)) << what;
    const auto items = json_of(reply, "items");
    EXPECT_FALSE(items.empty()) << what;
    for (const auto& item : items) EXPECT_EQ(item.at("status"), "refused") << what << item;
  }

  // Each route is one of these, or named.
  auto named = kOpensNothing;
  for (const auto& route : routes_of_service()) {
    const auto what = route.name();
    if (kOpensNothing.count(what) != 0) {
      named.erase(what);
      continue;
    }
    EXPECT_TRUE(
        std::any_of(doors.begin(), doors.end(),
                    [&](const Knock& door) { return goes_to(route, door.method, door.target); }))
        << what << ": must be refused while sealed, or named as what opens nothing";
  }
  EXPECT_THAT(named, testing::IsEmpty()) << "no routes any more";
}

/// The control of the test above: it is the seal that refuses them.
TEST(KeyHolder, WhatIsRefusedWhileSealedIsNotUnavailableOtherwise) {
  const HeldTenant tenant("unsealed-routes");
  const auto port = world().one.port();
  ASSERT_THAT(tenant.vault(port, "PUT", "transit/keys/held"), HasStatus(200));
  for (const auto& door : knocks(tenant, tenant.session, "postern_wt_none")) {
    const auto reply = http_ask(port, door.method, door.target, door.headers, door.body);
    EXPECT_LT(reply.status, 500) << door.method << " " << door.target << reply.body;
    EXPECT_NE(reply.status, 405) << door.method << " " << door.target;
  }
}

TEST(KeyHolder, WhoHasProvenNothingLearnsAtVaultsApiNeitherThatItIsSealedNorThatItIs) {
  const HeldTenant tenant("sealed-nobody");
  tenant.hold_everywhere(HeldTenant::new_share());
  ASSERT_THAT(tenant.seal(), HasStatus(200));
  struct Ask {
    const char* method;
    const char* path;
    std::string token;
    Json body;
    int status;
  };
  const Ask asks[] = {
      {"GET", "sys/seal-status", "", nullptr, 200},
      {"GET", "sys/seal-status", tenant.admin, nullptr, 200},
      {"GET", "sys/health", "", nullptr, 200},
      {"GET", "sys/mounts", "", nullptr, 403},
      {"GET", "secret/data/shared", "", nullptr, 403},
      {"GET", "secret/data/shared", "made-up", nullptr, 403},
      {"GET", "secret/data/shared", tenant.admin + "x", nullptr, 403},
      {"POST", "auth/approle/login", "", {{"role_id", "gw-01"}, {"secret_id", "a guess"}}, 403}};
  for (const auto& [method, path, token, body, status] : asks) {
    const auto answer = [&, &path = path](const std::string& name) {
      Pairs headers;
      if (!token.empty()) headers.emplace_back("X-Vault-Token", token);
      const auto reply = http_ask(world().one.port(), method, "/t/" + name + "/v1/" + path, headers,
                                  body.is_null() ? "" : body.dump());
      auto said = json_of(reply);
      said.erase("server_time_utc");
      return std::pair(reply.status, std::move(said));
    };
    const auto sealed = answer(tenant.name);
    EXPECT_EQ(sealed.first, status) << path << sealed.second;
    EXPECT_EQ(sealed, answer("there-is-none")) << path;
    if (sealed.first == 200) {
      EXPECT_EQ(sealed.second.at("sealed"), false) << path;
    }
  }
  // Once it is right it is told, as decision 42 says; so is, by form alone, a session.
  const auto made_up = tenant.session.substr(0, tenant.session.rfind('.')) + ".AAAA";
  for (const auto& token : {tenant.admin, tenant.session, made_up}) {
    const auto reply = http_ask(world().one.port(), "GET", "/t/" + tenant.name + "/v1/sys/mounts",
                                {{"X-Vault-Token", token}});
    EXPECT_THAT(reply, HasStatus(503));
    EXPECT_EQ(json_text(reply), R"({"errors":["Vault is sealed"]})");
  }
}

TEST(KeyHolder, WhatNeedsNoKeyGoesOnWhileSealed) {
  const HeldTenant tenant("sealed-rest");
  const auto keys = json_of(tenant.ask("GET", "/t/" + tenant.name + "/jwks"));
  tenant.hold_everywhere(HeldTenant::new_share());
  ASSERT_THAT(tenant.seal(), HasStatus(200));
  const auto port = world().one.port();

  EXPECT_EQ(json_of(tenant.ask("GET", "/t/" + tenant.name + "/jwks")), keys);
  EXPECT_THAT(tenant.ask("GET", "/.well-known/oauth-authorization-server/t/" + tenant.name),
              HasStatus(200));
  EXPECT_THAT(tenant.api("GET", "", tenant.admin), HasStatus(200));
  EXPECT_THAT(tenant.api("GET", "/credentials", tenant.admin), HasStatus(200));
  EXPECT_THAT(tenant.api("GET", "/credentials/shared", tenant.admin), HasStatus(200));
  EXPECT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_THAT(tenant.api("DELETE", "/credentials/shared", tenant.admin), HasStatus(204));
  const auto introspected = tenant.post_form(port, "/introspect", {{"token", tenant.issued}});
  EXPECT_EQ(json_of(introspected).value("active", false), true);
  EXPECT_THAT(tenant.post_form(port, "/revoke", {{"token", tenant.issued}}), HasStatus(200));
  // Others are not touched by it.
  const TestTenant other(endpoint_of(world().one), "sealed-other");
  EXPECT_THAT(other.exchange(other.user_token("alice"), "files"), HasStatus(200));
}

TEST(KeyHolder, TheTrailGoesOnWhileSealedAndHoldsNoShare) {
  const HeldTenant tenant("sealed-trail");
  const auto share = HeldTenant::new_share();
  tenant.hold_everywhere(share);
  ASSERT_THAT(tenant.seal(), HasStatus(200));
  EXPECT_THAT(tenant.exchange(tenant.alice, "files"), HasStatus(503));
  EXPECT_THAT(tenant.unseal(world().one.port(), HeldTenant::new_share()),
              IsProblem(403, "forbidden"));
  ASSERT_THAT(tenant.unseal(world().one.port(), share), HasStatus(200));

  std::vector<std::string> said;
  for (const auto& record : tenant.audit()) {
    const auto& event = record.at("event");
    const std::string action = event.at("action");
    if (event.at("outcome") == "refused") {
      said.push_back("refused " + action + " " + event.at("fields").value("code", ""));
    } else if (action.starts_with("key_holder.")) {
      said.push_back(action);
    }
    EXPECT_THAT(record.dump(), Not(HasSubstr(share)));
  }
  EXPECT_THAT(said,
              testing::ElementsAre("key_holder.hold", "key_holder.unseal", "key_holder.seal",
                                   "refused token.exchange TenantSealed",
                                   "refused key_holder.unseal Forbidden", "key_holder.unseal"));
  EXPECT_EQ(tenant.verification().at("intact"), true);
}

TEST(KeyHolder, OnlyTheTenantsOwnAdminsHoldSealAndUnseal) {
  const HeldTenant tenant("sealed-who");
  const HeldTenant other("sealed-whose");
  const auto share = HeldTenant::new_share();
  const auto port = world().one.port();
  const std::pair<const char*, const char*> calls[] = {{"PUT", "/key-holder"},
                                                       {"POST", "/key-holder/release"},
                                                       {"POST", "/key-holder/seal"},
                                                       {"POST", "/key-holder/unseal"}};
  for (const auto& [method, path] : calls) {
    const bool empty = std::string(path).ends_with("/seal");
    const Json body = empty ? Json::object() : Json{{"share", share}};
    for (const auto& token : {tenant.operator_token(), tenant.alice}) {
      EXPECT_THAT(tenant.at(port, method, path, token, body), IsProblem(403, "forbidden")) << path;
    }
    EXPECT_THAT(tenant.at(port, method, path, other.admin, body), IsProblem(401, "unauthenticated"))
        << path;
  }
  EXPECT_THAT(tenant.at(port, "GET", "/key-holder", tenant.operator_token()), HasStatus(200));
  EXPECT_THAT(tenant.at(port, "GET", "/key-holder", tenant.alice), IsProblem(403, "forbidden"));
  EXPECT_EQ(tenant.state(port), "not-held");
}

TEST(KeyHolder, RefusesWhatIsNoShareAndWhatIsAnother) {
  const HeldTenant tenant("sealed-shares");
  const auto port = world().one.port();
  const auto share = HeldTenant::new_share();
  for (const std::string& bad : {std::string(), std::string("short"), share + "AA", share + "=",
                                 share.substr(1) + " ", std::string(43, '!')}) {
    EXPECT_THAT(tenant.hold(bad), IsProblem(400, "malformed-request")) << bad.size();
  }
  for (const Json& body : {Json::object(), Json{{"share", 7}}, Json{{"share", nullptr}},
                           Json{{"share", share}, {"more", 1}}}) {
    EXPECT_THAT(tenant.at(port, "PUT", "/key-holder", tenant.admin, body),
                IsProblem(400, "malformed-request"));
  }
  EXPECT_THAT(tenant.seal(), IsProblem(409, "conflict"));
  EXPECT_THAT(tenant.unseal(port, share), IsProblem(409, "conflict"));
  EXPECT_EQ(tenant.state(port), "not-held");

  ASSERT_THAT(tenant.hold(share), HasStatus(200));
  EXPECT_THAT(tenant.hold(share), HasStatus(200));
  EXPECT_EQ(tenant.holder(port).at("kek_version"), 2);
  EXPECT_THAT(tenant.hold(HeldTenant::new_share()), IsProblem(409, "conflict"));
  EXPECT_THAT(tenant.at(port, "POST", "/key-holder/release", tenant.admin,
                        {{"share", HeldTenant::new_share()}}),
              IsProblem(403, "forbidden"));
  EXPECT_EQ(tenant.state(port), "unsealed");
}

TEST(KeyHolder, AShareIsReplacedAndGivenBack) {
  const HeldTenant tenant("sealed-change");
  const auto first = HeldTenant::new_share();
  const auto second = HeldTenant::new_share();
  const auto port = world().one.port();
  tenant.hold_everywhere(first);
  ASSERT_THAT(tenant.at(port, "PUT", "/key-holder", tenant.admin,
                        {{"share", second}, {"present_share", first}}),
              HasStatus(200));
  eventually([&] { return tenant.holder(port).at("rows_left") == 0; }, "all moved");
  ASSERT_THAT(tenant.seal(), HasStatus(200));
  const auto old = tenant.unseal(port, first);
  EXPECT_THAT(old, IsProblem(409, "conflict")) << "nothing that is left demands it";
  EXPECT_THAT(old.body, testing::HasSubstr("this share was replaced"));
  EXPECT_EQ(tenant.state(port), "sealed");
  ASSERT_THAT(tenant.unseal(port, second), HasStatus(200));
  EXPECT_EQ(tenant.state(port), "unsealed");

  ASSERT_THAT(tenant.at(port, "POST", "/key-holder/release", tenant.admin, {{"share", second}}),
              HasStatus(200));
  eventually([&] { return tenant.holder(port).at("rows_left") == 0; }, "all moved");
  EXPECT_EQ(tenant.state(port), "not-held");
  const auto released = tenant.unseal(port, second);
  EXPECT_THAT(released, IsProblem(409, "conflict"));
  EXPECT_THAT(released.body, testing::HasSubstr("this tenant has no key holder"));
  // The other, sealed as it is, opens what has been moved.
  const auto ask = tenant.doors().front().ask;
  eventually([&] { return ask(world().two.port()).status == 200; }, "the other opens it");
  EXPECT_EQ(tenant.state(world().two.port()), "not-held");
  expect_all(tenant, port, false);
  expect_all(tenant, world().two.port(), false);
}

TEST(KeyHolder, AReplicaThatStartsIsSealed) {
  const HeldTenant tenant("sealed-start");
  const auto share = HeldTenant::new_share();
  tenant.hold_everywhere(share);
  const TestService three(world().one.database_url(), world().one.key_directory(), {});
  expect_all(tenant, three.port(), true);
  ASSERT_THAT(tenant.unseal(three.port(), share), HasStatus(200));
  expect_all(tenant, three.port(), false);
}

// ---- the program ----

TEST(KeyHolder, TheProgramHoldsSealsAndUnseals) {
  namespace fs = std::filesystem;
  const HeldTenant tenant("sealed-program");
  const TempDirectory directory;
  const auto token = directory.path() / "admin.token";
  const auto share = directory.path() / "acme.share";
  std::ofstream(token) << tenant.admin << "\n";
  fs::permissions(token, fs::perms(0600));
  const auto run = [&](const std::vector<std::string>& words, int status = 0) {
    std::vector<std::string> command{program("postern"), "tenant"};
    command.insert(command.end(), words.begin(), words.end());
    Process process(command,
                    {{"PATH", "/usr/bin:/bin"},
                     {"POSTERN_URL", "http://127.0.0.1:" + std::to_string(world().one.port())},
                     {"POSTERN_TENANT", tenant.name},
                     {"POSTERN_TOKEN_FILE", token.string()}},
                    directory.path() / "output");
    EXPECT_EQ(process.wait(), status) << process.output();
    return process.output();
  };

  EXPECT_EQ(run({"key-holder"}), "not-held, KEK 1\n");
  EXPECT_NE(run({"unseal", "--share-file", share.string()}, 2), "");
  EXPECT_FALSE(fs::exists(share)) << "only hold-key makes one";
  EXPECT_THAT(run({"hold-key", "--share-file", share.string()}), HasSubstr("unsealed, KEK 2"));
  EXPECT_EQ(fs::status(share).permissions(), fs::perms(0600));
  const auto made = read_text(share);
  EXPECT_EQ(made.size(), 44u);
  EXPECT_THAT(run({"hold-key", "--share-file", share.string()}), HasSubstr("unsealed, KEK 2"));
  EXPECT_EQ(read_text(share), made) << "it is never made again";
  EXPECT_THAT(run({"seal"}), HasSubstr("sealed, KEK 2"));
  EXPECT_THAT(tenant.exchange(tenant.alice, "files"), HasStatus(503));
  EXPECT_THAT(run({"unseal", "--share-file", share.string()}), HasSubstr("unsealed, KEK 2"));
  EXPECT_THAT(tenant.exchange(tenant.alice, "files"), HasStatus(200));

  const auto next = directory.path() / "next.share";
  EXPECT_THAT(
      run({"hold-key", "--share-file", next.string(), "--present-share-file", share.string()}),
      HasSubstr("unsealed, KEK 3"));
  EXPECT_NE(read_text(next), made);
  EXPECT_THAT(run({"release-key", "--share-file", next.string()}), HasSubstr("not-held, KEK 4"));
  EXPECT_THAT(run({"--json", "key-holder"}), HasSubstr(R"("state":"not-held")"));
}

}  // namespace
}  // namespace postern::test
