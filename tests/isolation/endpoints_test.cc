// Every endpoint with another tenant's and another user's names, ids, tokens and
// credentials: what comes back is what a thing that does not exist would give.
// Cold: a service that has seen nothing yet. Warm: one that has just served the
// rightful owner. Then with one wall taken away, at a service that is new for each test:
// without row-level security each statement's own condition is all that keeps tenants
// apart, and without those conditions row-level security is. Without both rows cross, and
// their values do not open.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <pqxx/pqxx>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/pqxx_compat.h"
#include "support/postgres_proxy.h"
#include "support/routes.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

enum class State {
  Cold,
  Warm,
  WithoutRowSecurity,
  WithoutConditions,
  WithoutBoth,
  WithoutAssociatedData,
};

#ifdef POSTERN_WITHOUT_ASSOCIATED_DATA
constexpr bool kAssociatedData = false;
#else
constexpr bool kAssociatedData = true;
#endif

std::vector<State> states() {
  if (!kAssociatedData) return {State::WithoutAssociatedData};
  return {State::Cold, State::Warm, State::WithoutRowSecurity, State::WithoutConditions};
}

std::string name_of(const testing::TestParamInfo<State>& state) {
  switch (state.param) {
    case State::Cold: return "Cold";
    case State::Warm: return "Warm";
    case State::WithoutRowSecurity: return "WithoutRowSecurity";
    case State::WithoutConditions: return "WithoutConditions";
    case State::WithoutBoth: return "WithoutBoth";
    case State::WithoutAssociatedData: break;
  }
  return "WithoutAssociatedData";
}

/// Statements without their condition on the tenant.
class ConditionRemover {
 public:
  std::string operator()(const std::string& sql) {
    auto without = std::regex_replace(sql, condition_, "($$1::text IS NOT NULL)");
    if (without != sql) {
      const std::lock_guard lock(mutex_);
      changed_.insert(sql);
    }
    return without;
  }
  std::size_t changed() {
    const std::lock_guard lock(mutex_);
    return changed_.size();
  }

 private:
  // Not static: the services that are asked through here end after what is made later.
  const std::regex condition_{R"((\w+\.)?tenant_id = (ANY \(string_to_array\(\$1, ','\)\)|\$1))"};
  std::mutex mutex_;
  std::set<std::string> changed_;
};

/// Two tenants of one deployment, and services over them.
class Isolation : public testing::TestWithParam<State> {
 protected:
  void SetUp() override {
    const bool neither = GetParam() == State::WithoutBoth;
    world_->set_row_security(!neither && GetParam() != State::WithoutRowSecurity);
    world_->set_conditions(!neither && GetParam() != State::WithoutConditions);
    if (GetParam() != State::Warm && !cold()) world_->renew();
  }
  static void SetUpTestSuite() {
    if (world_ != nullptr) return;
    shared_postgres();
    static World world;
    world_ = &world;
  }

  struct World {
    World() {
      service = std::make_unique<TestService>(database.service(), keys.path() / "keys",
                                              TestService::Adjust());
      const Endpoint endpoint{[this] { return service->port(); }, service->operator_token()};
      x = std::make_unique<TestTenant>(endpoint, "tenant-x");
      y = std::make_unique<TestTenant>(endpoint, "tenant-y");
      // What only Y has.
      y->manifest["clients"].push_back({{"id", "only-y"}});
      y->manifest["backends"].push_back(
          {{"name", "only-y"}, {"audience", "https://only-y.example.com/mcp"}});
      y->manifest["roles"][0]["allow"].push_back("only-y:*");
      y->manifest["settings"]["registration"] = {{"dynamic", true}};
      y->manifest["settings"]["reveal"] = true;
      x->manifest["settings"]["reveal"] = true;
      for (auto* each : {x.get(), y.get()}) {
        each->part("clients", "gw-01")["introspects"] = Json::array({"*"});
        each->manifest["settings"]["vault_api"] = {
            {"clients", {"gw-01"}},
            {"views",
             {{{"path", "mcp-gateway/{sub}"}, {"backend", "github"}},
              {{"path", "{preferred_username}/{backend}"}}}},
            {"transit",
             {{"rules",
               {{{"clients", {"gw-01"}},
                 {"keys", {"*"}},
                 {"operations",
                  {"encrypt", "decrypt", "rewrap", "sign", "verify", "hmac", "datakey"}}}}}}}};
      }
      if (x->apply().status != 200) throw std::runtime_error("tenant-x");
      if (y->apply().status != 200) throw std::runtime_error("tenant-y");
      const auto initial =
          json_of(y->api("POST", "/initial-access-tokens", y->admin, Json::object()));
      y_initial_id = initial.at("token_id");
      y_initial_token = initial.at("token");
      const Json value{{"fields", {{"token", "of-y"}}}};
      for (const char* name : {"jira", "only-y"}) {
        if (y->api("PUT", std::string("/credentials/") + name, y->admin, value).status != 201) {
          throw std::runtime_error("credential of tenant-y");
        }
      }
      for (const char* name : {"only-y", "only-y-too"}) {
        if (y->ask("PUT", std::string("/t/tenant-y/v1/transit/keys/") + name,
                   {{"X-Vault-Token", y->admin}})
                .status != 200) {
          throw std::runtime_error("transit key of tenant-y");
        }
      }
      if (y->api("PUT", "/credentials/only-y/rotation", y->admin,
                 {{"kind", "password"}, {"field", "token"}})
              .status != 200) {
        throw std::runtime_error("rotation of tenant-y");
      }
      y->store("gone", "github", {{"token", "of-y-gone"}});
      y_erasure_id = json_of(y->api("POST", "/principals/erase", y->admin,
                                    {{"issuer", y->idp.issuer()}, {"subject", "gone"}}))
                         .at("erasure_id");
      y_kid = json_of(y->ask("GET", "/t/tenant-y/jwks")).at("keys").at(0).at("kid");
      y->store("alice", "github", {{"token", "of-y-alice"}});
      x->store("bob", "github", {{"token", "of-x-bob"}});
      y_secret_id = json_of(y->api("GET", "/clients/gw-01/secrets", y->admin))
                        .at("items")
                        .at(0)
                        .at("secret_id");
      y_admin_id =
          json_of(y->api("GET", "/admin-tokens", y->admin)).at("items").at(0).at("token_id");
      TestTenant off(endpoint, "tenant-off");
      off.manifest["enabled"] = false;
      if (off.apply().status != 200) throw std::runtime_error("tenant-off");
    }
    void renew() {
      service.reset();
      service = std::make_unique<TestService>(conditions ? database.service() : proxy.conninfo(),
                                              keys.path() / "keys", TestService::Adjust());
    }

    /// Takes each statement's condition on the tenant away, and those of functions that
    /// are called with one, or puts them back.
    void set_conditions(bool on) {
      if (on == conditions) return;
      conditions = on;
      pqxx::connection connection(database.superuser());
      pqxx::work tx(connection);
      if (!on) {
        functions.clear();
        for (const auto& row : tx.exec("SELECT pg_get_functiondef(oid) FROM pg_proc"
                                       " WHERE pronamespace = 'postern'::regnamespace"
                                       "   AND prosrc ~ 'tenant_id = p_tenant'")) {
          functions.emplace_back(row[0].c_str());
        }
        ASSERT_GE(functions.size(), 3U);
      }
      const std::regex condition(R"((\w+\.)?tenant_id = p_tenant)");
      for (const auto& function : functions) {
        tx.exec(on ? function : std::regex_replace(function, condition, "p_tenant IS NOT NULL"));
      }
      tx.commit();
      renew();
    }

    /// Takes the wall away, or puts it back.
    void set_row_security(bool on) {
      if (on == row_security) return;
      row_security = on;
      pqxx::connection connection(database.superuser());
      pqxx::work tx(connection);
      const auto tables = tx.exec(
          "SELECT oid::regclass FROM pg_class"
          " WHERE relnamespace = 'postern'::regnamespace AND relkind = 'r'"
          "   AND EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid)");
      ASSERT_GE(tables.size(), 14);
      for (const auto& table : tables) {
        tx.exec(std::string("ALTER TABLE ") + table[0].c_str() + (on ? " ENABLE" : " DISABLE") +
                " ROW LEVEL SECURITY");
      }
      tx.commit();
    }

    PostgresDatabase database;
    bool row_security = true;
    bool conditions = true;
    std::vector<std::string> functions;  ///< as they are with their conditions
    ConditionRemover remover;
    PostgresProxy proxy{database.service(), std::ref(remover)};
    TempDirectory keys;
    std::unique_ptr<TestService> service;
    std::unique_ptr<TestTenant> x, y;
    std::string y_secret_id, y_admin_id, y_initial_id, y_initial_token, y_erasure_id, y_kid;
  };

  TestTenant& x() { return *world_->x; }
  TestTenant& y() { return *world_->y; }
  /// Of what only Y has.
  static std::string id_of_y(std::string_view what) {
    const auto& ids = *world_;
    return what == "admin token"     ? ids.y_admin_id
           : what == "initial token" ? ids.y_initial_id
           : what == "secret"        ? ids.y_secret_id
           : what == "erasure"       ? ids.y_erasure_id
                                     : ids.y_kid;
  }
  World& world() { return *world_; }
  static bool cold() { return GetParam() == State::Cold; }

  /// As the parameter says: a fresh service for each question, or one that just served both.
  void prepare() {
    if (cold()) world_->renew();
    if (GetParam() != State::Warm) return;
    ASSERT_THAT(y().exchange(y().user_token("alice"), "files"), HasStatus(200));
    ASSERT_EQ(item_of(y().release(y().user_token("alice"), {{{"backend", "github"}}})).at("status"),
              "allowed");
    ASSERT_EQ(item_of(x().release(x().user_token("bob"), {{{"backend", "github"}}})).at("status"),
              "allowed");
    ASSERT_THAT(y().api("GET", "/manifest", y().admin), HasStatus(200));
    ASSERT_THAT(x().api("GET", "/manifest", x().admin), HasStatus(200));
  }

  using Ask = std::function<WireReply(const std::string& name)>;
  /// The same question about what is another's and about what is nowhere.
  void expect_same(const Ask& ask, const std::string& theirs, const std::string& nowhere,
                   const std::string& what) {
    prepare();
    const auto of_theirs = ask(theirs);
    if (cold()) world_->renew();
    const auto of_nowhere = ask(nowhere);
    ASSERT_NE(of_theirs.status, 0) << what;
    EXPECT_GE(of_theirs.status, 400) << what;
    EXPECT_EQ(of_theirs.status, of_nowhere.status) << what;
    EXPECT_EQ(with_names_removed(of_theirs.body, theirs, nowhere),
              with_names_removed(of_nowhere.body, theirs, nowhere))
        << what;
    for (const char* header : {"Content-Type", "Cache-Control", "ETag", "Allow"}) {
      EXPECT_EQ(of_theirs.header(header), of_nowhere.header(header)) << what << " " << header;
    }
    EXPECT_EQ(with_names_removed(of_theirs.header("WWW-Authenticate"), theirs, nowhere),
              with_names_removed(of_nowhere.header("WWW-Authenticate"), theirs, nowhere))
        << what;
  }

  /// A reply may name what was asked for.
  static std::string with_names_removed(std::string text, const std::string& one,
                                        const std::string& other) {
    for (const auto* name : {&one, &other}) {
      for (auto at = text.find(*name); at != text.npos; at = text.find(*name)) {
        text.replace(at, name->size(), "*");
      }
    }
    return text;
  }

 private:
  static World* world_;
};
Isolation::World* Isolation::world_ = nullptr;

INSTANTIATE_TEST_SUITE_P(Walls, Isolation, testing::ValuesIn(states()), name_of);

/// Rows of other tenants are found. What is left is what they are sealed with: without
/// associated data that is the tenant's own key.
class IsolationBySealing : public Isolation {};
INSTANTIATE_TEST_SUITE_P(Walls, IsolationBySealing, testing::Values(State::WithoutBoth), name_of);

struct Call {
  const char* method;
  const char* path;  // below the tenant
  Json body;
};

std::vector<Call> rest_calls() {
  const Json fields{{"fields", {{"token", "stolen"}}}};
  return {{"GET", "", nullptr},
          {"DELETE", "?confirm=tenant-y", nullptr},
          {"GET", "/manifest", nullptr},
          {"GET", "/admin-tokens", nullptr},
          {"POST", "/admin-tokens", Json::object()},
          {"DELETE", "/admin-tokens/abc", nullptr},
          {"GET", "/initial-access-tokens", nullptr},
          {"POST", "/initial-access-tokens", Json::object()},
          {"DELETE", "/initial-access-tokens/abc", nullptr},
          {"GET", "/key-holder", nullptr},
          {"PUT", "/key-holder", {{"share", std::string(43, 'A')}}},
          {"POST", "/key-holder/release", {{"share", std::string(43, 'A')}}},
          {"POST", "/key-holder/seal", Json::object()},
          {"POST", "/key-holder/unseal", {{"share", std::string(43, 'A')}}},
          {"DELETE", "/clients/gw-01", nullptr},
          {"GET", "/clients/gw-01/secrets", nullptr},
          {"POST", "/clients/gw-01/secrets", Json::object()},
          {"DELETE", "/clients/gw-01/secrets/abc", nullptr},
          {"GET", "/credentials", nullptr},
          {"GET", "/credentials/jira", nullptr},
          {"PUT", "/credentials/jira", fields},
          {"DELETE", "/credentials/jira", nullptr},
          {"PATCH", "/credentials/jira", {{"description", "theirs"}}},
          {"GET", "/credentials/jira/versions", nullptr},
          {"DELETE", "/credentials/jira/versions/1", nullptr},
          {"POST", "/credentials/jira/versions/1/undelete", nullptr},
          {"POST", "/credentials/jira/versions/1/destroy", nullptr},
          {"POST", "/credentials/jira/reveal", {{"reason", "theirs"}}},
          {"GET", "/credentials/jira/rotation", nullptr},
          {"PUT", "/credentials/jira/rotation", {{"kind", "manual"}}},
          {"DELETE", "/credentials/jira/rotation", nullptr},
          {"POST", "/credentials/jira/rotate", fields},
          {"POST", "/credentials/jira/rotation/promote", nullptr},
          {"POST", "/credentials/jira/rotation/retire", nullptr},
          {"POST", "/credentials/jira/rotation/cancel", nullptr},
          {"GET", "/rotations", nullptr},
          {"POST", "/rotations", {{"labels", {{"team", "theirs"}}}}},
          {"POST",
           "/emergency",
           {{"client", "gw-01"},
            {"since", "2026-01-01T00:00:00Z"},
            {"action", "disable"},
            {"reason", "theirs"}}},
          {"GET", "/signing-keys", nullptr},
          {"POST", "/signing-keys/rotation", {{"publish_for", 0}}},
          {"DELETE", "/signing-keys/abc", nullptr},
          {"POST", "/principals/erase", {{"issuer", "https://a.example"}, {"subject", "bob"}}},
          {"GET", "/erasures", nullptr},
          {"GET", "/erasures/abc", nullptr},
          {"POST", "/erase", {{"confirm", "tenant-y"}}},
          {"PUT", "/manifest", {{"display_name", "theirs"}}},
          {"POST", "/explanations", {{"client", "gw-01"}, {"audience", "files"}}},
          {"GET", "/audit", nullptr},
          {"GET", "/audit/verification", nullptr}};
}

TEST_P(Isolation, ATenantOfOthersIsLikeNoTenant) {
  for (const auto& [method, path, body] : rest_calls()) {
    for (const auto& [who, token] : Pairs{{"admin of x", x().admin},
                                          {"user of x", x().user_token("alice")},
                                          {"nobody", ""},
                                          {"garbage", "garbage"}}) {
      expect_same(
          [&, m = method, p = path, b = body, t = token](const std::string& tenant) {
            Pairs headers;
            if (!t.empty()) headers.emplace_back("Authorization", bearer(t));
            return x().ask(m, "/api/v1/tenants/" + tenant + p, headers,
                           b.is_null() ? "" : b.dump());
          },
          "tenant-y", "no-such-x", std::string(method) + " " + path + " by " + who);
    }
  }
}

/// Of the Vault subset, below `v1/`.
std::vector<Call> vault_calls() {
  const Json data{{"data", {{"token", "stolen"}}}};
  const Json versions{{"versions", {1}}};
  return {
      {"GET", "secret/data/only-y", nullptr},
      {"GET", "secret/data/only-y?version=1", nullptr},
      {"GET", "secret/data/mcp-gateway/alice", nullptr},
      {"GET", "secret/data/alice/github", nullptr},
      {"PUT", "secret/data/only-y", data},
      {"POST", "secret/data/jira", data},
      {"PATCH", "secret/data/only-y", data},
      {"DELETE", "secret/data/only-y", nullptr},
      {"PUT", "secret/delete/only-y", versions},
      {"PUT", "secret/undelete/only-y", versions},
      {"PUT", "secret/destroy/only-y", versions},
      {"GET", "secret/metadata/only-y", nullptr},
      {"PUT", "secret/metadata/only-y", {{"max_versions", 1}}},
      {"PATCH", "secret/metadata/only-y", {{"max_versions", 1}}},
      {"DELETE", "secret/metadata/only-y", nullptr},
      {"LIST", "secret/metadata", nullptr},
      {"LIST", "secret/metadata/", nullptr},
      {"GET", "secret/metadata?list=true", nullptr},
      {"GET", "sys/mounts", nullptr},
      {"GET", "sys/internal/ui/mounts", nullptr},
      {"GET", "sys/internal/ui/mounts/secret", nullptr},
      {"GET", "auth/token/lookup-self", nullptr},
      {"POST", "auth/token/renew-self", nullptr},
      {"POST", "auth/token/revoke-self", nullptr},
      {"POST", "auth/token/lookup", {{"token", "guessed"}}},
      {"POST", "auth/token/renew", {{"token", "guessed"}}},
      {"POST", "auth/token/revoke", {{"token", "guessed"}}},
      {"POST", "auth/token/lookup-accessor", {{"accessor", "guessed"}}},
      {"POST", "auth/token/revoke-accessor", {{"accessor", "guessed"}}},
      {"POST", "auth/token/create", Json::object()},
      {"POST", "sys/wrapping/wrap", data},
      {"PUT", "sys/wrapping/unwrap", {{"token", "postern_wt_guessed"}}},
      {"PUT", "sys/wrapping/unwrap", nullptr},
      {"POST", "sys/wrapping/lookup", {{"token", "postern_wt_guessed"}}},
      {"GET", "sys/wrapping/lookup", nullptr},
      {"POST", "sys/wrapping/rewrap", {{"token", "postern_wt_guessed"}}},
      {"GET", "transit/keys", nullptr},
      {"LIST", "transit/keys", nullptr},
      {"GET", "transit/keys/only-y", nullptr},
      {"PUT", "transit/keys/only-y", nullptr},
      {"POST", "transit/keys/only-y/rotate", nullptr},
      {"POST", "transit/keys/only-y/config", {{"deletion_allowed", true}}},
      {"DELETE", "transit/keys/only-y", nullptr},
      {"POST", "transit/encrypt/only-y", {{"plaintext", "YQ=="}}},
      {"POST", "transit/decrypt/only-y", {{"ciphertext", "vault:v1:YQ=="}}},
      {"POST", "transit/rewrap/only-y", {{"ciphertext", "vault:v1:YQ=="}}},
      {"POST", "transit/sign/only-y", {{"input", "YQ=="}}},
      {"POST", "transit/sign/only-y/sha2-256", {{"input", "YQ=="}}},
      {"POST", "transit/verify/only-y", {{"input", "YQ=="}, {"hmac", "vault:v1:YQ=="}}},
      {"POST", "transit/verify/only-y/sha2-256", {{"input", "YQ=="}, {"hmac", "vault:v1:YQ=="}}},
      {"POST", "transit/hmac/only-y", {{"input", "YQ=="}}},
      {"POST", "transit/hmac/only-y/sha2-256", {{"input", "YQ=="}}},
      {"POST", "transit/datakey/plaintext/only-y", nullptr},
      {"POST", "transit/datakey/wrapped/only-y", nullptr}};
}

/// Without what differs between any two answers.
WireReply without_request_id(WireReply reply) {
  if (const auto at = reply.body.find("\"request_id\":\""); at != std::string::npos) {
    reply.body.erase(at, reply.body.find('"', at + 14) - at);
  }
  return reply;
}

/// A session of gw-01 that holds the token of a user, who is also called so.
WireReply log_in_for(TestTenant& at, const std::string& user_token, const std::string& secret) {
  return at.ask("POST", "/t/" + at.name + "/v1/auth/jwt/login",
                {{"Authorization", basic("gw-01", secret)}},
                Json{{"role", "gw-01"}, {"jwt", user_token}}.dump());
}
std::string token_of(TestTenant& tenant, const std::string& user) {
  auto claims = tenant.claims(user);
  claims["preferred_username"] = user;
  return tenant.idp.sign(claims);
}
std::string session_for(TestTenant& tenant, const std::string& user) {
  return json_of(log_in_for(tenant, token_of(tenant, user), tenant.secret))
      .at("auth")
      .at("client_token");
}

TEST_P(Isolation, AViewOfAnotherTenantsUserIsLikeThatOfNobody) {
  const auto bob = session_for(x(), "bob");
  const auto read = [&](const std::string& token, const std::string& path) {
    return without_request_id(
        x().ask("GET", "/t/tenant-x/v1/secret/data/" + path, {{"X-Vault-Token", token}}));
  };
  ASSERT_THAT(read(bob, "bob/github"), HasStatus(200));
  for (const auto* path : {"mcp-gateway/", "github/", ""}) {
    const std::string begins(path);
    expect_same([&](const std::string& user) { return read(bob, begins + user); }, "alice", "nobod",
                begins);
  }
  expect_same([&](const std::string& backend) { return read(bob, "bob/" + backend); }, "only-y",
              "no-one", "backend");
  // A namesake of theirs has what is its own here: nothing.
  const auto alice = session_for(x(), "alice");
  const auto namesakes = read(alice, "alice/github");
  EXPECT_EQ(namesakes.status, 404);
  EXPECT_EQ(namesakes.body.find("of-y"), std::string::npos);
  // Their user's token is here what a stranger's is.
  Idp stranger("https://idp.nobody.example");
  auto claims = stranger.claims("alice", SystemClock().now());
  claims["preferred_username"] = "alice";
  expect_same(
      [&](const std::string& token) {
        return without_request_id(log_in_for(x(), token, x().secret));
      },
      token_of(y(), "alice"), stranger.sign(claims), "login");
  const auto theirs = session_for(y(), "alice");
  const auto nobodys = theirs.substr(0, theirs.size() - 8) + "AAAAAAAA";
  expect_same([&](const std::string& token) { return read(token, "alice/github"); }, theirs,
              nobodys, "session");
  EXPECT_THAT(y().ask("GET", "/t/tenant-y/v1/secret/data/alice/github",
                      {{"X-Vault-Token", session_for(y(), "alice")}}),
              HasStatus(200));
}

TEST_P(Isolation, TheVaultOfATenantOfOthersIsLikeThatOfNone) {
  const auto login = x().ask("POST", "/t/tenant-x/v1/auth/approle/login", {},
                             Json{{"role_id", "gw-01"}, {"secret_id", x().secret}}.dump());
  ASSERT_THAT(login, HasStatus(200));
  const std::string session = json_of(login).at("auth").at("client_token");
  for (const auto& [who, token] : Pairs{{"admin of x", x().admin},
                                        {"user of x", x().user_token("alice")},
                                        {"client of x", session},
                                        {"client of x for a user", session_for(x(), "bob")},
                                        {"nobody", ""},
                                        {"garbage", "garbage"}}) {
    // A fresh service for each question: those of one will do.
    if (cold() && who != "admin of x") continue;
    for (const auto& [method, path, body] : vault_calls()) {
      for (const bool in_path : {true, false}) {
        for (const auto* theirs : {"tenant-y", "tenant-off"}) {
          expect_same(
              [&, m = method, p = path, b = body, t = token](const std::string& tenant) {
                Pairs headers{{"Content-Type", "application/merge-patch+json"}};
                if (!t.empty()) headers.emplace_back("X-Vault-Token", t);
                if (!in_path) headers.emplace_back("X-Vault-Namespace", tenant);
                return without_request_id(x().ask(m,
                                                  (in_path ? "/t/" + tenant + "/v1/" : "/v1/") + p,
                                                  headers, b.is_null() ? "" : b.dump()));
              },
              theirs, "no-such-x", std::string(method) + " " + path + " by " + who);
        }
        if (cold()) break;
      }
    }
  }
  EXPECT_EQ(y().api("GET", "/credentials/only-y", y().admin).header("ETag"), "\"1\"");
}

TEST_P(Isolation, WhatAnotherTenantsKeyMadeNoKeyOfOnesOwnTakes) {
  const auto session = [](TestTenant& tenant) -> std::string {
    const auto login = tenant.ask("POST", "/t/" + tenant.name + "/v1/auth/approle/login", {},
                                  Json{{"role_id", "gw-01"}, {"secret_id", tenant.secret}}.dump());
    return json_of(login).at("auth").at("client_token");
  };
  const auto use = [](TestTenant& tenant, const std::string& token, const std::string& what,
                      const Json& body) {
    return tenant.ask("POST", "/t/" + tenant.name + "/v1/transit/" + what,
                      {{"X-Vault-Token", token}}, body.dump());
  };
  const auto of_y = session(y());
  const auto made = use(y(), of_y, "encrypt/only-y", {{"plaintext", "YQ=="}});
  ASSERT_THAT(made, HasStatus(200));
  const Json sent{{"ciphertext", json_of(made).at("data").at("ciphertext")}};
  EXPECT_THAT(use(y(), of_y, "decrypt/only-y-too", sent), HasStatus(400));
  const auto of_x = session(x());
  EXPECT_THAT(use(x(), of_x, "decrypt/only-y", sent), HasStatus(400)) << "no such key here";
  const auto own = [&](const char* method, const std::string& more, const Json& body) {
    return x().ask(method, "/t/tenant-x/v1/transit/keys/only-y" + more,
                   {{"X-Vault-Token", x().admin}}, body.dump());
  };
  ASSERT_THAT(own("PUT", "", nullptr), HasStatus(200));
  EXPECT_THAT(use(x(), of_x, "decrypt/only-y", sent), HasStatus(400)) << "another of that name";
  EXPECT_THAT(use(y(), of_x, "decrypt/only-y", sent), HasStatus(403)) << "another's token";
  EXPECT_THAT(use(y(), of_y, "decrypt/only-y", sent), HasStatus(200));
  ASSERT_THAT(own("POST", "/config", {{"deletion_allowed", true}}), HasStatus(200));
  ASSERT_THAT(own("DELETE", "", nullptr), HasStatus(204));
}

TEST_P(Isolation, AWrappingTokenOfAnotherTenantIsLikeOneThatNobodyMade) {
  const auto made = y().ask("PUT", "/t/tenant-y/v1/sys/wrapping/wrap",
                            {{"X-Vault-Token", y().admin}, {"X-Vault-Wrap-TTL", "1h"}},
                            Json{{"token", "of-y"}}.dump());
  ASSERT_THAT(made, HasStatus(200));
  const std::string theirs = json_of(made).at("wrap_info").at("token");
  const auto nowhere = theirs.substr(0, theirs.size() - 8) + "AAAAAAAA";
  for (const auto* use : {"unwrap", "lookup", "rewrap"}) {
    const auto path = std::string("/t/tenant-x/v1/sys/wrapping/") + use;
    expect_same(
        [&](const std::string& token) {
          return x().ask("PUT", path, {{"X-Vault-Token", x().admin}},
                         Json{{"token", token}}.dump());
        },
        theirs, nowhere, path);
    expect_same(
        [&](const std::string& token) {
          return x().ask("PUT", path, {{"X-Vault-Token", token}});
        },
        theirs, nowhere, path + " by itself");
  }
  EXPECT_THAT(y().ask("PUT", "/t/tenant-y/v1/sys/wrapping/unwrap", {{"X-Vault-Token", theirs}}),
              HasStatus(200));
}

TEST_P(Isolation, LoggingInAtTheVaultOfOthersIsLikeLoggingInAtNone) {
  for (const auto& [method, body] : std::vector<std::pair<std::string, Json>>{
           {"approle", {{"role_id", "gw-01"}, {"secret_id", x().secret}}},
           {"approle", {{"role_id", "only-y"}, {"secret_id", "guessed"}}},
           {"jwt", {{"role", "gw-01"}, {"jwt", x().user_token("alice")}}},
           {"kubernetes", {{"role", "gw-01"}, {"jwt", "garbage"}}}}) {
    expect_same(
        [&, m = method, b = body](const std::string& tenant) {
          return x().ask("POST", "/t/" + tenant + "/v1/auth/" + m + "/login", {}, b.dump());
        },
        "tenant-y", "no-such-x", method);
  }
  for (const auto& secret : {x().secret, std::string("guessed")}) {
    expect_same(
        [&](const std::string& tenant) {
          return x().ask("POST", "/t/" + tenant + "/v1/auth/jwt/login",
                         {{"Authorization", basic("gw-01", secret)}},
                         Json{{"role", "gw-01"}, {"jwt", token_of(x(), "alice")}}.dump());
        },
        "tenant-y", "no-such-x", "for a user");
  }
}

TEST_P(Isolation, WhatAnotherTenantsVaultHasIsLikeWhatNobodyHas) {
  for (const auto& [method, path, body] : vault_calls()) {
    const std::string asked = path;
    const bool creates = std::string(method) == "PUT" && (asked.starts_with("secret/data/") ||
                                                          asked.starts_with("secret/metadata/") ||
                                                          asked.starts_with("transit/keys/"));
    if (asked.find("only-y") == std::string::npos || creates) continue;
    prepare();
    const auto ask = [&, m = method, b = body](const std::string& name) {
      auto target = asked;
      return without_request_id(
          x().ask(m, "/t/tenant-x/v1/" + target.replace(target.find("only-y"), 6, name),
                  {{"X-Vault-Token", x().admin}, {"Content-Type", "application/merge-patch+json"}},
                  b.is_null() ? "" : b.dump()));
    };
    const auto theirs = ask("only-y");
    const auto nowhere = ask("no-such");
    EXPECT_EQ(theirs.status, nowhere.status) << method << path;
    EXPECT_EQ(theirs.body, nowhere.body) << method << path;
  }
  EXPECT_EQ(y().api("GET", "/credentials/only-y", y().admin).header("ETag"), "\"1\"");
}

TEST_P(Isolation, AManifestForATenantOfOthersIsRefusedAsForNone) {
  expect_same(
      [&](const std::string& tenant) {
        const Json manifest{{"tenant", tenant}, {"display_name", "mine now"}};
        return x().ask("PUT", "/api/v1/tenants/" + tenant + "/manifest",
                       {{"Authorization", bearer(x().admin)}}, manifest.dump());
      },
      "tenant-y", "no-such-x", "PUT manifest");
  EXPECT_EQ(json_of(y().api("GET", "", y().admin)).at("display_name"), "Tenant tenant-y");
}

TEST_P(Isolation, ReleasingAtATenantOfOthersIsLikeReleasingAtNone) {
  Json released{{"items", {{{"backend", "github"}}}}},
      exchanged{{"items", {{{"audience", "files"}}}}};
  for (auto* body : {&released, &exchanged}) {
    (*body)["subject_token"] = x().user_token("alice");
    const std::string last = body == &released ? "/release" : "/exchange";
    for (const auto& who :
         {basic("gw-01", x().secret), basic("only-y", x().secret), std::string()}) {
      expect_same(
          [&](const std::string& tenant) {
            Pairs headers{{"Content-Type", "application/json"}};
            if (!who.empty()) headers.emplace_back("Authorization", who);
            return x().ask("POST", "/api/v1/tenants/" + tenant + last, headers, body->dump());
          },
          "tenant-y", "no-such-x", last);
    }
  }
}

TEST_P(Isolation, ADisabledTenantIsLikeNoTenant) {
  for (const auto& [method, path, body] : rest_calls()) {
    expect_same(
        [&, m = method, p = path, b = body](const std::string& tenant) {
          return x().ask(m, "/api/v1/tenants/" + tenant + p, {{"Authorization", bearer(x().admin)}},
                         b.is_null() ? "" : b.dump());
        },
        "tenant-off", "tenant-not", std::string(method) + " " + path);
  }
  for (const char* path :
       {"/t/*/jwks", "/t/*/authorize", "/.well-known/oauth-authorization-server/t/*"}) {
    expect_same(
        [&](const std::string& tenant) {
          std::string target = path;
          return x().ask("GET", target.replace(target.find('*'), 1, tenant));
        },
        "tenant-off", "tenant-not", path);
  }
  expect_same(
      [&](const std::string& tenant) {
        return x().ask("POST", "/t/" + tenant + "/token",
                       {{"Content-Type", "application/x-www-form-urlencoded"},
                        {"Authorization", basic("gw-01", x().secret)}},
                       form(x().exchange_fields(x().user_token("alice"), "files")));
      },
      "tenant-off", "tenant-not", "token");
}

TEST_P(Isolation, AnotherTenantsClientIsLikeNoClient) {
  // At the token endpoint of Y: a client that exists, with X's secret, and one that does not.
  const auto fields = y().exchange_fields(y().user_token("alice"), "files");
  expect_same(
      [&](const std::string& client) { return y().token(fields, basic(client, x().secret)); },
      "gw-01", "gw-99", "token with Basic");
  expect_same(
      [&](const std::string& client) {
        auto posted = fields;
        posted.emplace_back("client_id", client);
        posted.emplace_back("client_secret", x().secret);
        return y().token(posted, "");
      },
      "gw-01", "gw-99", "token with post");
  expect_same(
      [&](const std::string& client) {
        return y().release(y().user_token("alice"), {{{"backend", "github"}}},
                           basic(client, x().secret));
      },
      "gw-01", "gw-99", "release");
}

TEST_P(Isolation, AnotherTenantsUserTokenIsLikeAnyStrangers) {
  const Idp stranger("https://idp.stranger.example");
  auto claims = stranger.claims("alice", SystemClock().now());
  claims["groups"] = {"engineering"};
  const auto strange = stranger.sign(claims);
  const auto of_y = y().user_token("alice");
  const auto issued_by_y =
      json_of(y().exchange(of_y, "files")).at("access_token").get<std::string>();
  const auto token = [&](const std::string& which) { return which == "theirs" ? of_y : strange; };
  expect_same([&](const std::string& which) { return x().exchange(token(which), "files"); },
              "theirs", "strange", "exchange");
  expect_same(
      [&](const std::string& which) {
        auto fields = x().exchange_fields(x().user_token("alice"), "files");
        fields.emplace_back("actor_token", token(which));
        fields.emplace_back("actor_token_type", TestTenant::kJwt);
        return x().token(fields);
      },
      "theirs", "strange", "exchange as actor");
  expect_same(
      [&](const std::string& which) {
        return x().release(token(which), {{{"backend", "github"}}});
      },
      "theirs", "strange", "release");
  for (const auto& [method, path, body] : rest_calls()) {
    expect_same([&, m = method, p = path,
                 b = body](const std::string& which) { return x().api(m, p, token(which), b); },
                "theirs", "strange", std::string(method) + " " + path);
  }
  // A token that Y's own issuer made, and one that only says so of a tenant that is not there.
  auto forged = claims;
  forged["iss"] = "https://sts.example.com/t/no-such-x";
  const auto from_nowhere = stranger.sign(forged, "at+jwt");
  expect_same(
      [&](const std::string& which) {
        return x().exchange(which == "theirs" ? issued_by_y : from_nowhere, "files");
      },
      "theirs", "nowhere", "exchange of an issued token");
}

/// Below the tenant, with what is another's in place of the `*`, and what is nowhere.
struct IdCall {
  const char* method;
  std::string path;
  std::string theirs, nowhere;
  Json body = nullptr;
};

/// @param id  by what it names: of Y
std::vector<IdCall> id_calls(const std::function<std::string(std::string_view)>& id) {
  const std::string unknown("aaaaaaaaaaaaaaa");
  const Json fields{{"fields", {{"token", "mine"}}}};
  std::vector<IdCall> calls{{"DELETE", "/admin-tokens/*", id("admin token"), unknown},
                            {"DELETE", "/initial-access-tokens/*", id("initial token"), unknown},
                            {"DELETE", "/clients/gw-01/secrets/*", id("secret"), unknown},
                            {"DELETE", "/signing-keys/*", id("key"), unknown},
                            {"GET", "/erasures/*", id("erasure"), unknown},
                            {"DELETE", "/clients/*", "only-y", "no-such"},
                            {"GET", "/clients/*/secrets", "only-y", "no-such"},
                            {"POST", "/clients/*/secrets", "only-y", "no-such", Json::object()},
                            {"DELETE", "/clients/*/secrets/abc", "only-y", "no-such"}};
  for (const auto& [method, path, body] : std::vector<Call>{
           {"GET", "", nullptr},
           {"PUT", "", {{"fields", {{"token", "mine"}}}, {"cas", 7}}},  // which none has
           {"DELETE", "", nullptr},
           {"PATCH", "", {{"description", "mine"}}},
           {"GET", "/versions", nullptr},
           {"DELETE", "/versions/1", nullptr},
           {"POST", "/versions/1/undelete", nullptr},
           {"POST", "/versions/1/destroy", nullptr},
           {"POST", "/reveal", {{"reason", "x"}}},
           {"GET", "/rotation", nullptr},
           {"PUT", "/rotation", {{"kind", "manual"}}},
           {"DELETE", "/rotation", nullptr},
           {"POST", "/rotate", fields},
           {"POST", "/rotation/promote", nullptr},
           {"POST", "/rotation/retire", nullptr},
           {"POST", "/rotation/cancel", nullptr}}) {
    calls.push_back({method, std::string("/credentials/*") + path, "only-y", "no-such", body});
  }
  return calls;
}

TEST_P(Isolation, AnotherTenantsIdsAreLikeNoIds) {
  for (const auto& call : id_calls([&](auto what) { return id_of_y(what); })) {
    expect_same(
        [&](const std::string& id) {
          auto target = call.path;
          return x().api(call.method, target.replace(target.find('*'), 1, id), x().admin,
                         call.body);
        },
        call.theirs, call.nowhere, call.method + (' ' + call.path));
  }
  // Y's issuer, by name of its principal.
  for (const char* method : {"GET", "DELETE"}) {
    expect_same(
        [&](const std::string& issuer) {
          return x().api(method,
                         "/credentials/github?issuer=" + percent_encoded(issuer) + "&subject=alice",
                         x().admin);
        },
        y().idp.issuer(), "https://idp.nowhere.example", method);
  }
  EXPECT_THAT(json_of(y().api("GET", "/admin-tokens", y().admin), "items"), testing::SizeIs(1));
  EXPECT_THAT(json_of(y().api("GET", "/initial-access-tokens", y().admin), "items"),
              testing::SizeIs(1));
  EXPECT_THAT(json_of(y().api("GET", "/clients/gw-01/secrets", y().admin), "items"),
              testing::SizeIs(1));
  const auto untouched = y().api("GET", "/credentials/only-y", y().admin);
  EXPECT_THAT(untouched, HasStatus(200));
  EXPECT_EQ(untouched.header("ETag"), "\"1\"");
}

// ---- all that is asked for by its route ----

constexpr std::string_view kOfTenant = "/api/v1/tenants/{}";
constexpr std::string_view kOfVault = "/t/{}/v1/";

/// Not about what a tenant has, and why; or asked about in a test of its own.
const std::map<std::string, const char*> kElsewhere = {
    {"GET /api/v1/status", "for operators, of all tenants"},
    {"GET /api/v1/keys", "for operators, of all tenants"},
    {"GET /api/v1/tenants", "for operators, of all tenants"},
    {"GET /api/v1/tenant-erasures/{}", "for operators, of all tenants"},
    {"GET /api/v1/erasure-keys", "public, and the deployment's"},
    {"GET /.well-known/oauth-protected-resource/api/v1", "public, and the deployment's"},
    {"GET /.well-known/oauth-protected-resource/api/v1/tenants/{}", "public"},
    {"GET /.well-known/oauth-authorization-server/t/{}", "public"},
    {"GET /t/{}/jwks", "public"},
    {"GET /t/{}/authorize", "says that there is none"},
    {"POST /api/v1/tenants/{}/exchange", "ReleasingAtATenantOfOthersIsLikeReleasingAtNone"},
    {"POST /api/v1/tenants/{}/release", "ReleasingAtATenantOfOthersIsLikeReleasingAtNone"},
    {"POST /t/{}/token", "AnotherTenantsUserTokenIsLikeAnyStrangers"},
    {"POST /t/{}/introspect", "AnotherTenantsTokensAreLikeGarbage"},
    {"POST /t/{}/revoke", "AnotherTenantsTokensAreLikeGarbage"},
    {"POST /t/{}/register", "AnotherTenantsTokensAreLikeGarbage"},
    {"GET /t/{}/v1/sys/health", "the same for all"},
    {"GET /t/{}/v1/sys/seal-status", "the same for all who have proven nothing"},
    {"POST /t/{}/v1/auth/approle/login", "LoggingInAtTheVaultOfOthersIsLikeLoggingInAtNone"},
    {"POST /t/{}/v1/auth/jwt/login", "LoggingInAtTheVaultOfOthersIsLikeLoggingInAtNone"},
    {"POST /t/{}/v1/auth/kubernetes/login", "LoggingInAtTheVaultOfOthersIsLikeLoggingInAtNone"},
};

TEST_P(Isolation, EveryRouteIsAskedAbout) {
  const auto ids = id_calls([](auto) { return std::string("id"); });
  auto named = kElsewhere;
  for (const auto& route : routes_of_service()) {
    const auto what = route.name();
    if (kElsewhere.count(what) != 0) {
      named.erase(what);
      continue;
    }
    const bool of_vault = route.pattern.starts_with(kOfVault);
    const auto asks = [&](const std::string& prefix, const auto& calls) {
      return std::any_of(calls.begin(), calls.end(), [&](const auto& call) {
        const bool put = of_vault && std::string_view(call.method) == "PUT";
        return goes_to(route, put ? "POST" : call.method, prefix + call.path);
      });
    };
    if (of_vault) {
      EXPECT_TRUE(asks("/t/tenant-y/v1/", vault_calls())) << what;
      continue;
    }
    ASSERT_TRUE(route.pattern.starts_with(kOfTenant)) << what << ": ask about it, or say why not";
    EXPECT_TRUE(asks("/api/v1/tenants/tenant-y", rest_calls())) << what;
    if (route.pattern.find("{}", kOfTenant.size()) == std::string::npos) continue;
    EXPECT_TRUE(asks("/api/v1/tenants/tenant-x", ids)) << what << ": with an id of another tenant";
  }
  EXPECT_THAT(named, testing::IsEmpty()) << "no routes any more";
}

TEST_P(Isolation, WhatATenantSeesOfItselfHasNothingOfOthers) {
  const std::vector<std::string> of_y{"only-y",
                                      "tenant-y",
                                      "of-y",
                                      y().idp.issuer(),
                                      world().y_admin_id,
                                      world().y_initial_id,
                                      world().y_secret_id,
                                      world().y_erasure_id,
                                      world().y_kid};
  const auto expect_nothing = [&](const WireReply& reply, const std::string& what) {
    EXPECT_THAT(reply, HasStatus(200)) << what;
    for (const auto& each : of_y) {
      EXPECT_THAT(reply.body, testing::Not(testing::HasSubstr(each))) << what;
    }
  };
  std::size_t asked = 0;
  for (const auto& [method, pattern] : routes_of_service()) {
    const bool rest = pattern.starts_with(kOfTenant) && method == "GET";
    const bool vault = pattern.starts_with("/t/{}/v1/transit/") && method == "LIST";
    const auto below = pattern.substr(std::min(pattern.size(), kOfTenant.size()));
    if (!vault && (!rest || below.find('{') != below.npos)) continue;
    prepare();
    ++asked;
    if (vault) {
      const auto path = "/t/tenant-x" + pattern.substr(5);
      const auto reply = x().ask(method, path, {{"X-Vault-Token", x().admin}});
      if (reply.status != 404) expect_nothing(reply, path);  // it has none
      continue;
    }
    // What others tests did here names what is Y's, since they asked for it.
    if (below == "/audit") continue;
    expect_nothing(x().api("GET", below, x().admin), below);
  }
  EXPECT_GE(asked, 11U);
  prepare();
  expect_nothing(x().ask("GET", "/t/tenant-x/jwks"), "jwks");
  const auto kv = x().ask("LIST", "/t/tenant-x/v1/secret/metadata", {{"X-Vault-Token", x().admin}});
  if (kv.status != 404) expect_nothing(kv, "secret/metadata");
  expect_nothing(x().api("POST", "/rotations", x().admin, {{"type", "generic"}, {"dry_run", true}}),
                 "bulk");
  // Of the same client, who is another one there.
  ASSERT_EQ(item_of(y().release(y().user_token("alice"), {{{"backend", "github"}}})).at("status"),
            "allowed");
  expect_nothing(x().api("POST", "/emergency", x().admin,
                         {{"client", "gw-01"},
                          {"since", "2020-01-01T00:00:00Z"},
                          {"action", "disable"},
                          {"dry_run", true},
                          {"reason", "a drill"}}),
                 "emergency");
  const auto keys = json_of(y().ask("GET", "/t/tenant-y/jwks"));
  EXPECT_THAT(x().api("POST", "/signing-keys/rotation", x().admin, {{"publish_for", 0}}),
              HasStatus(201));
  EXPECT_EQ(json_of(y().ask("GET", "/t/tenant-y/jwks")), keys);
}

TEST_P(Isolation, AnotherTenantsTokensAreLikeGarbage) {
  prepare();
  const auto issued =
      json_of(y().exchange(y().user_token("alice"), "files")).at("access_token").get<std::string>();
  const auto post = [](TestTenant& at, const char* path, const std::string& token) {
    return at.ask("POST", "/t/" + at.name + path,
                  {{"Authorization", basic("gw-01", at.secret)},
                   {"Content-Type", "application/x-www-form-urlencoded"}},
                  form({{"token", token}}));
  };
  for (const char* path : {"/introspect", "/revoke"}) {
    const auto theirs = post(x(), path, issued), garbage = post(x(), path, "garbage");
    EXPECT_EQ(theirs.status, garbage.status) << path;
    EXPECT_EQ(theirs.body, garbage.body) << path;
  }
  EXPECT_EQ(json_of(post(y(), "/introspect", issued)).at("active"), true) << "nobody revoked it";
  expect_same(
      [&](const std::string& token) {
        return x().ask("POST", "/t/tenant-x/register",
                       {{"Authorization", bearer(token)}, {"Content-Type", "application/json"}},
                       Json{{"client_name", "theirs"}}.dump());
      },
      world().y_initial_token, "garbage", "register");
}

TEST_P(Isolation, AnotherTenantsBackendIsLikeNoBackend) {
  const auto alice = x().user_token("alice");
  expect_same([&](const std::string& name) { return x().exchange(alice, name); }, "only-y",
              "no-such", "audience");
  expect_same(
      [&](const std::string& name) {
        auto fields = x().exchange_fields(alice, "");
        fields.pop_back();
        fields.emplace_back("resource", "https://" + name + ".example.com/mcp");
        return x().token(fields);
      },
      "only-y", "no-such", "resource");
  prepare();
  const auto reply = x().release(alice, {{{"backend", "only-y"}}, {{"backend", "no-such"}}});
  ASSERT_THAT(reply, HasStatus(200));
  auto theirs = item_of(reply, 0);
  auto nowhere = item_of(reply, 1);
  theirs.erase("backend");
  nowhere.erase("backend");
  EXPECT_EQ(theirs, nowhere);
}

TEST_P(Isolation, ListsEndAtTheTenantWhateverTheCursor) {
  prepare();
  const auto of_y = json_of(y().api("GET", "/credentials?limit=1", y().admin));
  const std::string cursor = of_y.at("next_cursor");
  const auto reply = x().api("GET", "/credentials?cursor=" + percent_encoded(cursor), x().admin);
  EXPECT_THAT(reply.body, testing::Not(testing::HasSubstr("only-y")));
  EXPECT_THAT(reply.body, testing::Not(testing::HasSubstr(y().idp.issuer())));
  std::set<std::string> requests;
  for (const auto& record : y().audit("limit=1000&order=desc")) {
    requests.insert(record.at("event").at("request_id"));
  }
  for (const auto& record : x().audit("limit=1000&order=desc")) {
    EXPECT_FALSE(requests.contains(record.at("event").at("request_id"))) << record;
  }
}

TEST_P(Isolation, AnotherUsersCredentialIsLikeNoCredential) {
  const auto alice = x().user_token("alice");
  const auto about = [&](const char* method, const Json& body = nullptr) {
    return [this, method, body, &alice](const std::string& subject) {
      return x().api(
          method,
          "/credentials/github?issuer=" + percent_encoded(x().idp.issuer()) + "&subject=" + subject,
          alice, body);
    };
  };
  expect_same(about("GET"), "bob", "nobody", "GET");
  expect_same(about("DELETE"), "bob", "nobody", "DELETE");
  expect_same(about("PUT", {{"fields", {{"token", "mine"}}}}), "bob", "nobody", "PUT");
  expect_same(about("PATCH", {{"description", "mine"}}), "bob", "nobody", "PATCH");
  expect_same(
      [&](const std::string& subject) {
        return x().api("POST",
                       "/credentials/github/rotate?issuer=" + percent_encoded(x().idp.issuer()) +
                           "&subject=" + subject,
                       alice, {{"fields", {{"token", "mine"}}}});
      },
      "bob", "nobody", "POST rotate");
  for (const auto& [method, path] : Pairs{{"GET", "versions"},
                                          {"DELETE", "versions/1"},
                                          {"POST", "versions/1/undelete"},
                                          {"POST", "versions/1/destroy"},
                                          {"GET", "rotation"},
                                          {"POST", "rotation/promote"},
                                          {"POST", "rotation/retire"},
                                          {"POST", "rotation/cancel"}}) {
    expect_same(
        [&, m = method, p = path](const std::string& subject) {
          return x().api(m,
                         "/credentials/github/" + p +
                             "?issuer=" + percent_encoded(x().idp.issuer()) + "&subject=" + subject,
                         alice);
        },
        "bob", "nobody", method + " " + path);
    expect_same(
        [&, m = method, p = path](const std::string& name) {
          return x().api(m, "/credentials/" + name + "/" + p, alice);
        },
        "github", "unused", method + " " + path + " by name");
  }
  expect_same(
      [&](const std::string& subject) {
        return x().api(
            "GET",
            "/credentials?issuer=" + percent_encoded(x().idp.issuer()) + "&subject=" + subject,
            alice);
      },
      "bob", "nobody", "list");
  // A name under which only others have stored something, and one nobody has used.
  expect_same(
      [&](const std::string& name) { return x().api("GET", "/credentials/" + name, alice); },
      "github", "unused", "GET by name");
  expect_same(
      [&](const std::string& name) { return x().api("DELETE", "/credentials/" + name, alice); },
      "github", "unused", "DELETE by name");
  EXPECT_EQ(item_of(x().release(x().user_token("bob"), {{{"backend", "github"}}}))
                .at("env")
                .at("GITHUB_TOKEN"),
            "of-x-bob");
}

TEST_P(Isolation, ANamesakeAtAnotherIssuerIsAnotherUser) {
  prepare();
  // A second issuer of X has a bob of its own.
  const Idp second("https://second.tenant-x.example");
  auto manifest = x().manifest;
  manifest["issuers"].push_back({{"name", "second"},
                                 {"issuer", second.issuer()},
                                 {"jwks", second.jwks()},
                                 {"audiences", {"gw-01"}},
                                 {"subject_prefix", "second:"}});
  manifest["bindings"].push_back(
      {{"name", "second"}, {"role", "developer"}, {"groups", {"second:engineering"}}});
  ASSERT_THAT(x().api("PUT", "/manifest", x().admin, manifest), HasStatus(200));
  auto claims = second.claims("bob", SystemClock().now());
  claims["groups"] = {"engineering"};
  const auto other_bob = second.sign(claims);
  const auto item = item_of(x().release(other_bob, {{{"backend", "github"}}}));
  EXPECT_EQ(item.at("error"), "interaction_required") << item;
  EXPECT_THAT(x().api("GET", "/credentials/github", other_bob), HasStatus(404));
  // Back to one issuer for the other tests.
  ASSERT_THAT(x().api("PUT", "/manifest?prune=true", x().admin, x().manifest), HasStatus(200));
}

TEST_P(Isolation, EachKindOfTokenIsRefusedWhereAnotherBelongs) {
  prepare();
  const auto alice = x().user_token("alice");
  const auto issued = json_of(x().exchange(alice, "files")).at("access_token").get<std::string>();
  const Pairs tokens{{"operator", x().operator_token()}, {"admin", x().admin},
                     {"client secret", x().secret},      {"issued", issued},
                     {"admin of y", y().admin},          {"user", alice}};
  for (const auto& [kind, token] : tokens) {
    if (kind != "user") {
      // A token of ours may be exchanged onward by who got it, and opens no vault.
      if (kind == "issued") {
        EXPECT_THAT(x().exchange(token, "files"), HasStatus(200));
        EXPECT_EQ(x().exchange(token, "github").status, 400);
      } else {
        EXPECT_THAT(x().exchange(token, "files"), IsOAuthError(400, "invalid_request")) << kind;
      }
      EXPECT_THAT(x().release(token, {{{"backend", "github"}}}), IsProblem(422, "invalid-token"))
          << kind;
    }
    EXPECT_THAT(x().token(x().exchange_fields(alice, "files"), basic("gw-01", token)).status,
                kind == "client secret" ? 200 : 401)
        << kind;
    const auto status = x().api("GET", "/manifest", token).status;
    EXPECT_EQ(status, kind == "operator" || kind == "admin" ? 200
                      : kind == "user"                      ? 403
                                                            : 401)
        << kind;
    const auto own = x().api("GET", "/credentials", token).status;
    EXPECT_EQ(own, kind == "operator" || kind == "admin" || kind == "user" ? 200 : 401) << kind;
  }
}

// What one tenant is given of another then are keys and configuration that are not its own.
TEST_P(IsolationBySealing, RowsOfOthersAreFoundAndDoNotOpen) {
  // The control of the tests above: with either wall there would be one row.
  pqxx::connection connection(world().proxy.conninfo());
  pqxx::work tx(connection);
  tx.exec("SELECT set_config('postern.tenant_id', 'tenant-x', true)");
  connection.prepare("crosses", "SELECT DISTINCT tenant_id FROM postern.kek WHERE tenant_id = $1");
  ASSERT_EQ(storage::pq::exec_prepared(tx, "crosses", "tenant-x").size(), 3);
  tx.commit();

  prepare();
  const Pairs session{{"X-Vault-Token", x().admin}};
  // What is said of a credential is not sealed, and whether it is found here depends on whose row
  // of each table comes first.
  const auto listed = x().api("GET", "/credentials", x().admin);
  EXPECT_THAT(listed.body, testing::Not(testing::HasSubstr("of-y")));
  const std::vector<WireReply> replies{
      x().api("POST", "/credentials/only-y/reveal", x().admin, {{"reason", "theirs"}}),
      x().ask("GET", "/t/tenant-x/v1/secret/data/only-y", session),
      x().release(x().user_token("alice"), {{{"backend", "jira"}}}),
      x().exchange(x().user_token("alice"), "files"),
      x().ask("POST", "/t/tenant-x/v1/transit/encrypt/only-y", session,
              Json{{"plaintext", "YQ=="}}.dump())};
  for (const auto& reply : replies) {
    EXPECT_GE(reply.status, 400) << reply.body;
    EXPECT_THAT(reply.body, testing::Not(testing::HasSubstr("of-y")));
  }
  EXPECT_GE(world().remover.changed(), 5U);
}

// The control of the tests without associated data: nothing else holds a user's value to
// its row, so that what another's row is given opens there.
TEST_P(Isolation, AValueInAnotherUsersRowOpensWithoutAssociatedDataAlone) {
  x().store("mallory", "github", {{"token", "of-mallory"}});
  {
    pqxx::connection connection(world().database.superuser());
    pqxx::work tx(connection);
    tx.exec("SET LOCAL session_replication_role = replica");  // no triggers, no foreign keys
    const auto changed = tx.exec(
        "UPDATE postern.credential_version v SET sealed = o.sealed, wrapped_dek = o.wrapped_dek,"
        " kek_version = o.kek_version, share_id = o.share_id, created_at = o.created_at"
        " FROM postern.credential_version o WHERE v.tenant_id = 'tenant-x'"
        " AND o.tenant_id = 'tenant-x' AND v.owner_subject = 'mallory' AND v.name = 'github'"
        " AND o.owner_subject = 'bob' AND o.name = 'github'");
    ASSERT_GE(changed.affected_rows(), 1);
    tx.commit();
  }
  world().renew();
  const auto reply = x().release(x().user_token("mallory"), {{{"backend", "github"}}});
  EXPECT_THAT(reply, HasStatus(200));
  EXPECT_EQ(item_of(reply).at("status") == "allowed", !kAssociatedData) << reply.body;
  EXPECT_EQ(reply.body.find("of-x-bob") != reply.body.npos, !kAssociatedData);
}

}  // namespace
}  // namespace postern::test
