// Rotation through the running service: passwords of a real PostgreSQL, a webhook that
// checks signatures, emergencies; and nothing secret in what anybody can read.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <pqxx/pqxx>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/time_format.h"
#include "crypto/base64url.h"
#include "grants/webhook_rotator.h"
#include "storage/postgres_rotator.h"
#include "support/code_of.h"
#include "support/https_host.h"
#include "support/service_fixture.h"
#include "support/tcp_door.h"

namespace postern::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

/// `host` of the test server's connection strings.
std::string socket_directory() {
  const auto conninfo = shared_postgres().superuser_conninfo();
  const auto begin = conninfo.find("host='") + 6;
  return conninfo.substr(begin, conninfo.find('\'', begin) - begin);
}

/// A webhook that checks what it is told.
class Hook {
 public:
  Hook() {
    host_ = std::make_unique<HttpsHost>([this](http::Router& router) {
      router.add("POST", "/hook", http::Pool::Database,
                 [this](std::shared_ptr<http::Request> request, http::Responder responder) {
                   responder.send(http::Reply::text(take(*request), ""));
                 });
    });
  }
  std::string url() const { return host_->url("/hook"); }
  const std::string& ca_file() const { return host_->ca_file(); }

  struct Message {
    std::string id;
    Json body;
    bool authentic = false;
  };
  std::vector<Message> messages() const {
    const std::lock_guard lock(mutex_);
    return messages_;
  }
  std::vector<std::string> told() const {
    std::vector<std::string> out;
    for (const auto& each : messages()) out.push_back(each.body.at("type"));
    return out;
  }
  void answer(const std::string& type, int status) {
    const std::lock_guard lock(mutex_);
    answers_[type] = status;
  }

  static constexpr const char* kSecret = "whsec_a2V5LW9mLXRoZS1ob29rLTAxMjM0NTY3ODkwMTIzNA==";

 private:
  int take(const http::Request& request) {
    const auto header = [&](const char* name) {
      return std::string(request.header(name).value_or(""));
    };
    const auto text =
        request.body.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
    Message message{header("webhook-id"), Json::parse(text), false};
    const auto wanted =
        grants::webhook_signature(kSecret, message.id, header("webhook-timestamp"), text);
    message.authentic = wanted.ok() && wanted.value() == header("webhook-signature");
    const std::lock_guard lock(mutex_);
    const auto type = message.body.at("type").get<std::string>();
    messages_.push_back(std::move(message));
    return answers_.contains(type) ? answers_[type] : 200;
  }

  mutable std::mutex mutex_;
  std::vector<Message> messages_;
  std::map<std::string, int> answers_;
  std::unique_ptr<HttpsHost> host_;
};

class ServiceRotation : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    superuser("CREATE ROLE rot_admin LOGIN CREATEROLE SUPERUSER PASSWORD 'the-admins-password'");
    for (const char* role : {"app_a", "app_b", "app_one"}) {
      superuser(std::string("CREATE ROLE ") + role + " LOGIN PASSWORD 'first-password'");
    }
  }
  void SetUp() override {
    superuser("ALTER ROLE app_a LOGIN PASSWORD 'first-password'");
    superuser("ALTER ROLE app_b LOGIN PASSWORD NULL");
    superuser("ALTER ROLE app_one LOGIN PASSWORD 'first-password'");
  }
  static void superuser(const std::string& sql) {
    pqxx::connection connection(shared_postgres().superuser_conninfo());
    pqxx::nontransaction tx(connection);
    tx.exec(sql);
  }
  bool takes(const std::string& user, const std::string& password) const {
    try {
      pqxx::connection connection("host='" + socket_directory() + "' port=5432 user=" + user +
                                  " dbname=postgres password='" + password + "'");
      return connection.is_open();
    } catch (const pqxx::broken_connection&) {
      return false;
    }
  }

  Json put(const std::string& path, const Json& body) {
    const auto reply = tenant.api("PUT", path, tenant.admin, body);
    EXPECT_THAT(reply.status, testing::AnyOf(200, 201)) << reply.body;
    return json_of(reply);
  }
  Json state(const std::string& name) {
    return json_of(tenant.api("GET", "/credentials/" + name + "/rotation", tenant.admin));
  }
  Json until(const std::string& name, const std::function<bool(const Json&)>& is_so,
             const char* what) {
    Json found;
    eventually(
        [&] {
          found = state(name);
          return is_so(found);
        },
        what);
    return found;
  }
  static std::string phase(const Json& state) {
    return state.contains("rotation") ? state.at("rotation").at("phase").get<std::string>() : "";
  }
  Json settings_of_postgres(std::vector<std::string> roles) {
    return {{"kind", "postgres"},     {"host", "127.0.0.1"},       {"port", door.port()},
            {"database", "postgres"}, {"roles", std::move(roles)}, {"admin_credential", "pg-admin"},
            {"grace_seconds", 3600}};
  }
  void prepare_postgres(const std::string& name, const std::string& user,
                        std::vector<std::string> roles) {
    put("/credentials/pg-admin",
        {{"fields", {{"username", "rot_admin"}, {"password", "the-admins-password"}}}});
    put("/credentials/" + name,
        {{"type", "basic"}, {"fields", {{"username", user}, {"password", "first-password"}}}});
    put("/credentials/" + name + "/rotation", settings_of_postgres(std::move(roles)));
  }
  /// A key that a webhook is told of, made as `generate` says.
  void prepare_key(const char* generate) {
    put("/credentials/hook-secret", {{"fields", {{"secret", Hook::kSecret}}}});
    put("/credentials/deploy", {{"fields", {{"private_key", "old"}}}});
    put("/credentials/deploy/rotation", {{"kind", "webhook"},
                                         {"generate", generate},
                                         {"url", hook.url()},
                                         {"secret_credential", "hook-secret"}});
  }
  std::pair<std::string, std::string> value(const std::string& name) {
    const auto shown = json_of(tenant.api("POST", "/credentials/" + name + "/reveal", tenant.admin,
                                          {{"reason", "a test"}}));
    return {shown.at("fields").at("username"), shown.at("fields").at("password")};
  }
  WireReply rotate(const std::string& name, const Json& body = Json::object()) {
    return tenant.api("POST", "/credentials/" + name + "/rotate", tenant.admin, body);
  }

  TcpDoor door{socket_directory() + "/.s.PGSQL.5432"};
  Hook hook;
  TestService service{[this](app::Config& config) {
    config.rotation_postgres_hosts = {"127.0.0.1:" + std::to_string(door.port())};
    config.rotation_webhook_hosts = {"127.0.0.1"};
    config.rotation_allow_insecure_loopback = true;
    config.outbound_ca_file = hook.ca_file();
  }};
  TestTenant tenant = [this] {
    TestTenant made(service, "rotating");
    made.manifest["settings"]["reveal"] = true;
    if (made.apply().status != 200) throw std::runtime_error("tenant");
    return made;
  }();
};

TEST_F(ServiceRotation, OfARoleSetsItsPasswordOnTheServer) {
  prepare_postgres("db", "app_one", {"app_one"});
  EXPECT_THAT(rotate("db"), HasStatus(202));
  until(
      "db", [](const Json& is) { return phase(is) == "previous"; }, "the role is rotated");
  const auto [user, password] = value("db");
  EXPECT_EQ(user, "app_one");
  EXPECT_EQ(password.size(), 32U);
  EXPECT_TRUE(takes(user, password));
  EXPECT_FALSE(takes(user, "first-password")) << "one role has one password";
}

TEST_F(ServiceRotation, WhoOwnsTheDatabaseDoesNothingAsTheAdmin) {
  superuser("DROP DATABASE IF EXISTS of_app_one");
  superuser("CREATE DATABASE of_app_one OWNER app_one");
  {
    pqxx::connection connection("host='" + socket_directory() + "' port=5432 user=app_one" +
                                " dbname=of_app_one password='first-password'");
    pqxx::nontransaction tx(connection);
    // In every schema that a statement could look into first.
    tx.exec("CREATE SCHEMA postern");
    tx.exec("GRANT USAGE ON SCHEMA postern TO public");
    tx.exec("CREATE TABLE postern.seen (by text)");
    tx.exec("GRANT ALL ON postern.seen TO public");
    for (const char* schema : {"postern", "public"}) {
      const std::string in(schema);
      tx.exec("CREATE SCHEMA IF NOT EXISTS " + in);
      tx.exec("CREATE FUNCTION " + in + ".format(text, text, text) RETURNS text LANGUAGE sql AS " +
              "$$ SELECT pg_catalog.format('ALTER ROLE app_one SUPERUSER PASSWORD %L', $3) $$");
      tx.exec("CREATE FUNCTION " + in + ".same(name, text) RETURNS boolean LANGUAGE plpgsql AS " +
              "$$ BEGIN INSERT INTO postern.seen VALUES (current_user); RETURN true; END $$");
      tx.exec("CREATE OPERATOR " + in + ".= (LEFTARG = name, RIGHTARG = text, PROCEDURE = " + in +
              ".same)");
      tx.exec("CREATE FUNCTION " + in + ".current_setting(text) RETURNS text LANGUAGE plpgsql AS " +
              "$$ BEGIN INSERT INTO postern.seen VALUES (current_user); RETURN 'on'; END $$");
    }
  }
  prepare_postgres("db", "app_one", {"app_one"});
  auto settings = settings_of_postgres({"app_one"});
  settings["database"] = "of_app_one";
  put("/credentials/db/rotation", settings);
  EXPECT_THAT(rotate("db"), HasStatus(202));
  until(
      "db", [](const Json& is) { return phase(is) == "previous"; }, "the role is rotated");
  const auto [user, password] = value("db");
  EXPECT_TRUE(takes(user, password));
  pqxx::connection connection("host='" + socket_directory() + "' port=5432 user=app_one" +
                              " dbname=of_app_one password='" + password + "'");
  pqxx::nontransaction tx(connection);
  EXPECT_STREQ(tx.exec("SELECT rolsuper FROM pg_roles WHERE rolname = 'app_one'")[0][0].c_str(),
               "f");
  EXPECT_TRUE(tx.exec("SELECT by FROM postern.seen").empty()) << "something of theirs was called";
}

TEST_F(ServiceRotation, OfTwoRolesKeepsTheOneBeforeValidForItsGrace) {
  prepare_postgres("db", "app_a", {"app_a", "app_b"});
  EXPECT_THAT(rotate("db"), HasStatus(202));
  until(
      "db", [](const Json& is) { return phase(is) == "previous"; }, "it is the other's turn");
  const auto [user, password] = value("db");
  EXPECT_EQ(user, "app_b");
  EXPECT_TRUE(takes("app_b", password));
  EXPECT_TRUE(takes("app_a", "first-password")) << "whoever has it goes on working";
  EXPECT_THAT(tenant.api("POST", "/credentials/db/rotation/retire", tenant.admin), HasStatus(202));
  until(
      "db", [](const Json& is) { return phase(is).empty(); }, "the one before is retired");
  EXPECT_FALSE(takes("app_a", "first-password"));
  EXPECT_TRUE(takes("app_b", password));
  // And back again.
  EXPECT_THAT(rotate("db"), HasStatus(202));
  until(
      "db", [](const Json& is) { return phase(is) == "previous"; }, "it is the first's turn");
  const auto again = value("db");
  EXPECT_EQ(again.first, "app_a");
  EXPECT_TRUE(takes("app_a", again.second));
  EXPECT_TRUE(takes("app_b", password));
}

TEST_F(ServiceRotation, OfARoleThatMayNotLogInIsRolledBack) {
  prepare_postgres("db", "app_one", {"app_one"});
  superuser("ALTER ROLE app_one NOLOGIN");
  EXPECT_THAT(rotate("db"), HasStatus(202));
  const auto ended = until(
      "db", [](const Json& is) { return is.contains("failed_at"); }, "it is rolled back");
  EXPECT_EQ(ended.at("problem"), "the PostgreSQL server does not take the new password");
  EXPECT_EQ(phase(ended), "");
  EXPECT_EQ(value("db"), std::pair(std::string("app_one"), std::string("first-password")));
  superuser("ALTER ROLE app_one LOGIN");
  EXPECT_TRUE(takes("app_one", "first-password")) << "as it was before";
}

TEST_F(ServiceRotation, OfTwoRolesRollsBackWithoutTouchingTheOther) {
  prepare_postgres("db", "app_a", {"app_a", "app_b"});
  superuser("ALTER ROLE app_b NOLOGIN");
  EXPECT_THAT(rotate("db"), HasStatus(202));
  until(
      "db", [](const Json& is) { return is.contains("failed_at"); }, "it is rolled back");
  EXPECT_TRUE(takes("app_a", "first-password"));
  EXPECT_EQ(value("db").first, "app_a");
}

TEST_F(ServiceRotation, OfAUrlPutsRoleAndPasswordIntoIt) {
  put("/credentials/pg-admin",
      {{"type", "database_url"},
       {"fields", {{"url", "postgresql://rot_admin:the-admins-password@127.0.0.1/postgres"}}}});
  put("/credentials/db",
      {{"type", "database_url"},
       {"fields", {{"url", "postgresql://app_a:first-password@db.example/main?sslmode=require"}}}});
  auto settings = settings_of_postgres({"app_a", "app_b"});
  settings["field"] = "url";
  put("/credentials/db/rotation", settings);
  EXPECT_THAT(rotate("db"), HasStatus(202));
  until(
      "db", [](const Json& is) { return phase(is) == "previous"; }, "the URL is rotated");
  const auto shown =
      json_of(tenant.api("POST", "/credentials/db/reveal", tenant.admin, {{"reason", "a test"}}));
  const std::string url = shown.at("fields").at("url");
  EXPECT_THAT(url, testing::StartsWith("postgresql://app_b:"));
  EXPECT_THAT(url, testing::EndsWith("@db.example/main?sslmode=require"));
  EXPECT_TRUE(takes("app_b", url.substr(19, url.find('@') - 19)));
}

TEST_F(ServiceRotation, AServerThatIsAwayChangesNothing) {
  prepare_postgres("db", "app_one", {"app_one"});
  door.closed = true;
  EXPECT_THAT(rotate("db"), HasStatus(202));
  const auto waits = until(
      "db", [](const Json& is) { return is.contains("problem"); }, "it was tried");
  EXPECT_EQ(phase(waits), "pending");
  EXPECT_THAT(waits.at("problem").get<std::string>(), HasSubstr("could not be reached"));
  EXPECT_EQ(value("db").second, "first-password");
  EXPECT_TRUE(takes("app_one", "first-password"));
  door.closed = false;
  until(
      "db", [](const Json& is) { return phase(is) == "previous"; }, "it came back");
  EXPECT_TRUE(takes("app_one", value("db").second));
}

TEST_F(ServiceRotation, GoesOnlyWhereTheOperatorLetsIt) {
  prepare_postgres("db", "app_one", {"app_one"});
  auto settings = settings_of_postgres({"app_one"});
  settings["port"] = door.port() + 1;
  EXPECT_THAT(tenant.api("PUT", "/credentials/db/rotation", tenant.admin, settings),
              IsProblem(403, "forbidden"));
  settings["port"] = door.port();
  settings["host"] = "localhost";
  EXPECT_THAT(tenant.api("PUT", "/credentials/db/rotation", tenant.admin, settings),
              IsProblem(403, "forbidden"));
  put("/credentials/hook-secret", {{"fields", {{"secret", Hook::kSecret}}}});
  for (const char* url : {"https://hooks.example.com/", "https://127.0.0.1.example.com/",
                          "https://127.0.0.2/", "https://169.254.169.254/latest"}) {
    const auto reply =
        tenant.api("PUT", "/credentials/db/rotation", tenant.admin,
                   {{"kind", "webhook"}, {"url", url}, {"secret_credential", "hook-secret"}});
    EXPECT_THAT(reply.status, testing::AnyOf(400, 403)) << url;
  }
}

TEST_F(ServiceRotation, WithoutTlsNoServerIsTrusted) {
  // As it is unless for development: the server has no certificate, so nothing is sent to it.
  storage::PostgresRotator rotator({{"127.0.0.1:" + std::to_string(door.port())}, "", false});
  vault::Fields made, admin;
  const auto field = [](const char* text) {
    return FieldValue(SecureBuffer::copy_of(std::string_view(text)));
  };
  made.emplace("username", field("app_one"));
  made.emplace("password", field("new-password"));
  admin.emplace("username", field("rot_admin"));
  admin.emplace("password", field("the-admins-password"));
  vault::RunningRotation running;
  running.settings.kind = vault::RotationKind::Postgres;
  running.settings.host = "127.0.0.1";
  running.settings.port = door.port();
  running.settings.database = "postgres";
  running.settings.field = "password";
  running.settings.roles = {"app_one"};
  running.new_role = "app_one";
  const TenantId tenant_id("acme");
  const vault::CredentialKey key{Owner::tenant(), CredentialName("db")};
  const vault::Rotator::Step step{tenant_id, key, running, &made, &made, &admin, {}};
  ASSERT_TRUE(rotator.check(running.settings).ok());
  EXPECT_EQ(code_of(rotator.set(step)), ErrorCode::Unavailable);
  EXPECT_TRUE(takes("app_one", "first-password"));
  storage::PostgresRotator lenient({{"127.0.0.1:" + std::to_string(door.port())}, "", true});
  EXPECT_TRUE(lenient.set(step).ok());
  EXPECT_TRUE(takes("app_one", "new-password"));
  EXPECT_TRUE(lenient.test(step).ok());
  // Whoever uses the role itself as the admin would lock themselves out.
  running.new_role = "rot_admin";
  EXPECT_EQ(code_of(lenient.set(step)), ErrorCode::Conflict);
  running.new_role = "no_such_role";
  EXPECT_EQ(code_of(lenient.set(step)), ErrorCode::Conflict);

  // What is in a value cannot take a time-out away, and none is told a password.
  running.settings.database = "connect_timeout=";
  const vault::LogIn log_in{"u", SecureBuffer::copy_of(std::string_view("tcp_user_timeout="))};
  const auto strict = storage::complete_conninfo(rotator.server(running.settings, log_in));
  for (const char* wanted : {" connect_timeout=5", " tcp_user_timeout=15000", " gssencmode=disable",
                             " sslmode=verify-full", " channel_binding=require"}) {
    EXPECT_THAT(strict, HasSubstr(wanted));
  }
  EXPECT_THAT(storage::complete_conninfo(lenient.server(running.settings, log_in)),
              HasSubstr(" connect_timeout=5"));
}

TEST_F(ServiceRotation, WhatTheServerRefusesIsRolledBackAndCanBeRotatedAgain) {
  prepare_postgres("db", "app_a", {"app_a", "app_typo"});
  EXPECT_THAT(rotate("db"), HasStatus(202));
  const auto ended = until(
      "db", [](const Json& is) { return is.contains("failed_at") && phase(is).empty(); },
      "there is no such role");
  EXPECT_EQ(ended.at("problem"), "the PostgreSQL server has no such role");
  EXPECT_TRUE(takes("app_a", "first-password"));
  put("/credentials/db/rotation", settings_of_postgres({"app_a", "app_b"}));
  EXPECT_THAT(rotate("db"), HasStatus(202));
  until(
      "db", [](const Json& is) { return phase(is) == "previous"; }, "the typo is mended");
}

TEST_F(ServiceRotation, ByWebhookThatRefusesToUndoIsAbandonedByAnAdmin) {
  put("/credentials/hook-secret", {{"fields", {{"secret", Hook::kSecret}}}});
  put("/credentials/api", {{"fields", {{"username", "u"}, {"password", "old"}}}});
  put("/credentials/api/rotation",
      {{"kind", "webhook"}, {"url", hook.url()}, {"secret_credential", "hook-secret"}});
  hook.answer("rotation.undo", 404);
  hook.answer("rotation.set", 422);
  EXPECT_THAT(rotate("api"), HasStatus(202));
  until(
      "api", [](const Json& is) { return is.contains("failed_at"); }, "a refusal sets nothing");
  EXPECT_THAT(hook.told(), ElementsAre("rotation.set")) << "so nothing is undone";
  hook.answer("rotation.set", 200);
  hook.answer("rotation.test", 422);
  EXPECT_THAT(rotate("api"), HasStatus(202));
  until(
      "api",
      [](const Json& is) {
        return phase(is) == "rolling_back" && is.at("rotation").at("attempts") > 0;
      },
      "it cannot be undone");
  eventually(
      [&] {
        return tenant
                   .api("POST", "/credentials/api/rotation/cancel", tenant.admin,
                        {{"abandon", true}})
                   .status == 200;
      },
      "it is abandoned");
  EXPECT_THAT(state("api").at("problem").get<std::string>(), HasSubstr("abandoned"));
  EXPECT_EQ(value("api").second, "old");
}

TEST_F(ServiceRotation, AUserNeitherMovesAScheduleNorHasRsaKeysMade) {
  const auto alice = tenant.user_token("alice");
  tenant.store("alice", "github", {{"token", "of-alice"}});
  const auto query = "?issuer=" + percent_encoded(tenant.idp.issuer()) + "&subject=alice";
  const auto own = [&](const char* method, const std::string& path, const Json& body) {
    return tenant.api(method, "/credentials/github" + path, alice, body);
  };
  EXPECT_THAT(own("PATCH", "", {{"rotation_due_at", "2020-01-01T00:00:00Z"}}), HasStatus(200))
      << "it is a note while there is no schedule";
  put("/credentials/github/rotation" + query,
      {{"kind", "password"}, {"field", "token"}, {"interval_seconds", 86400}});
  for (const Json& date : {Json("2020-01-01T00:00:00Z"), Json(nullptr)}) {
    EXPECT_THAT(own("PATCH", "", {{"rotation_due_at", date}}), IsProblem(403, "forbidden"));
    EXPECT_THAT(own("PUT", "", {{"fields", {{"token", "x"}}}, {"rotation_due_at", date}}),
                IsProblem(403, "forbidden"));
  }
  EXPECT_THAT(tenant.api("PATCH", "/credentials/github" + query, tenant.admin,
                         {{"rotation_due_at", nullptr}}),
              HasStatus(409));
  EXPECT_THAT(
      own("POST", "/rotate",
          {{"generate", {{"kind", "ssh_key"}, {"field", "token"}, {"algorithm", "rsa-4096"}}}}),
      IsProblem(403, "forbidden"));
}

TEST_F(ServiceRotation, AnEmergencyGoesPageByPageAndEndsSessions) {
  tenant.manifest["settings"]["vault_api"] = {{"clients", {"gw-01"}}};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  for (const char* who : {"alice", "bob"}) {
    tenant.store(who, "github", {{"token", "x"}});
    ASSERT_THAT(tenant.release(tenant.user_token(who), {{{"backend", "github"}}}), HasStatus(200));
  }
  const auto session = json_of(tenant.ask(
      "POST", "/t/rotating/v1/auth/approle/login", {{"Content-Type", "application/json"}},
      Json{{"role_id", "gw-01"}, {"secret_id", tenant.secret}}.dump()));
  const auto token = session.at("auth").at("client_token").get<std::string>();
  const auto look = [&] {
    return tenant
        .ask("GET", "/t/rotating/v1/auth/token/lookup-self", {{"X-Vault-Token", token}}, "")
        .status;
  };
  ASSERT_EQ(look(), 200);
  Json order{{"client", "gw-01"},
             {"since", "2020-01-01T00:00:00Z"},
             {"action", "disable"},
             {"limit", 1},
             {"reason", "a drill"}};
  auto page = json_of(tenant.api("POST", "/emergency", tenant.admin, order));
  EXPECT_EQ(page.at("tokens"), 1) << page;
  EXPECT_EQ(page.at("tokens_revoked"), 1);
  EXPECT_EQ(look(), 403) << "a session from before is no more";
  ASSERT_EQ(page.at("items").size(), 1U);
  EXPECT_EQ(page.at("items").at(0).at("owner").at("subject"), "alice");
  order["cursor"] = page.at("next_cursor");
  page = json_of(tenant.api("POST", "/emergency", tenant.admin, order));
  ASSERT_EQ(page.at("items").size(), 1U);
  EXPECT_EQ(page.at("items").at(0).at("owner").at("subject"), "bob");
  EXPECT_FALSE(page.contains("next_cursor"));
  std::vector<std::string> owners;
  for (const auto& each : tenant.audit("limit=1000&action=credential.version_delete")) {
    owners.push_back(each.at("event").at("fields").at("subject"));
  }
  EXPECT_THAT(owners, testing::UnorderedElementsAre("alice", "bob"));
  order["cursor"] = "nonsense";
  EXPECT_THAT(tenant.api("POST", "/emergency", tenant.admin, order), HasStatus(400));
}

TEST_F(ServiceRotation, AnEmergencyGoesOnInAnOlderPartAndRotatesNothingTwice) {
  for (const char* who : {"alice", "bob"}) {
    tenant.store(who, "github", {{"token", "x"}});
    put("/credentials/github/rotation?issuer=" + percent_encoded(tenant.idp.issuer()) +
            "&subject=" + who,
        {{"kind", "password"}, {"field", "token"}});
    ASSERT_THAT(tenant.release(tenant.user_token(who), {{{"backend", "github"}}}), HasStatus(200));
  }
  Json order{{"client", "gw-01"},
             {"since", "2020-01-01T00:00:00Z"},
             {"action", "rotate"},
             {"reason", "a drill"},
             {"limit", 1}};
  const auto contain = [&] { return tenant.api("POST", "/emergency", tenant.admin, order); };
  const auto version = [&](const char* who) {
    return json_of(tenant.api("GET",
                              "/credentials/github?issuer=" + percent_encoded(tenant.idp.issuer()) +
                                  "&subject=" + who,
                              tenant.admin))
        .at("version");
  };
  // Both are in more than one part, and what is rotated writes records of its own.
  for (int i = 0; i < 3; ++i) {
    for (const char* who : {"bob", "alice"}) {
      ASSERT_THAT(tenant.release(tenant.user_token(who), {{{"backend", "github"}}}),
                  HasStatus(200));
    }
  }
  const auto all = [&](int records) {
    order["records"] = records;
    std::map<std::string, std::set<std::string>> found;  // by subject, what was said of it
    bool complete = false;
    int pages = 0;
    for (order.erase("cursor"); pages < 200; ++pages) {
      const auto page = json_of(contain());
      EXPECT_LE(page.at("items").size(), 1U);
      for (const auto& item : page.at("items")) {
        found[item.at("owner").at("subject")].insert(item.at("status"));
      }
      complete = page.at("complete");
      EXPECT_EQ(complete, !page.contains("searched_back_to"));
      if (!page.contains("next_cursor")) break;
      order["cursor"] = page.at("next_cursor");
      // What the next pages find again has its new value a second later than the first one.
      std::this_thread::sleep_for(std::chrono::milliseconds(pages < 3 ? 700 : 0));
    }
    EXPECT_TRUE(complete);
    EXPECT_GT(pages, records > 100 ? 0 : 4);
    return found;
  };
  const std::map<std::string, std::set<std::string>> both{{"alice", {"rotated_here"}},
                                                          {"bob", {"rotated_here"}}};
  EXPECT_EQ(all(3), both);
  EXPECT_EQ(version("alice"), 2) << "not twice";
  EXPECT_EQ(version("bob"), 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // times are of whole seconds
  EXPECT_EQ(all(500'000), both) << "a new emergency does";
  EXPECT_EQ(version("alice"), 3);
  EXPECT_EQ(version("bob"), 3);

  // Of what was only shown, nothing may be passed over when it is done.
  order["dry_run"] = true;
  order.erase("cursor");
  order["cursor"] = json_of(contain()).at("next_cursor");
  EXPECT_THAT(contain(), HasStatus(200));
  auto another = order;
  another["dry_run"] = false;
  EXPECT_THAT(tenant.api("POST", "/emergency", tenant.admin, another), HasStatus(400));
  another = order;
  another["backend"] = "github";
  EXPECT_THAT(tenant.api("POST", "/emergency", tenant.admin, another), HasStatus(400));
  another = order;
  another["since"] = "2020-01-01T00:00:01Z";
  EXPECT_THAT(tenant.api("POST", "/emergency", tenant.admin, another), HasStatus(200));
  order.erase("cursor");

  for (const auto& bad : {Json(nullptr), Json("8"), Json(0), Json(-1), Json(500'001), Json(1.5)}) {
    order["records"] = bad;
    EXPECT_THAT(contain(), HasStatus(400)) << bad;
  }
  order.erase("records");
  for (const auto& bad : {Json(8), Json(""), Json("e30"), Json("nonsense")}) {
    order["cursor"] = bad;
    EXPECT_THAT(contain(), HasStatus(400)) << bad;
  }
}

TEST_F(ServiceRotation, NothingSecretIsInLogsAnswersOrRecords) {
  prepare_postgres("db", "app_one", {"app_one"});
  std::string answers = rotate("db").body;
  answers += until(
                 "db", [](const Json& is) { return phase(is) == "previous"; }, "rotated")
                 .dump();
  const auto password = value("db").second;
  answers += tenant.api("GET", "/rotations", tenant.admin).body;
  answers += tenant.api("GET", "/credentials/db/versions", tenant.admin).body;
  std::string records;
  for (const auto& each : tenant.audit()) records += each.dump();
  const auto log = read_text(shared_postgres().log_file());
  const auto dumped = [&] {
    pqxx::connection connection(service.database().superuser());
    pqxx::work tx(connection);
    std::string out;
    for (const auto& row : tx.exec("SELECT r::text FROM postern.credential_rotation r")) {
      out += row[0].c_str();
    }
    return out;
  }();
  for (const auto& secret :
       {password, std::string("first-password"), std::string("the-admins-password")}) {
    EXPECT_THAT(answers, Not(HasSubstr(secret)));
    EXPECT_THAT(records, Not(HasSubstr(secret)));
    EXPECT_THAT(dumped, Not(HasSubstr(secret)));
  }
  EXPECT_THAT(log, Not(HasSubstr(password))) << "the server is told the verifier alone";
  EXPECT_THAT(log, Not(HasSubstr("the-admins-password")));
  EXPECT_THAT(records, HasSubstr("credential.rotate"));
  EXPECT_THAT(records, HasSubstr("\"phase\":\"current\""));
  EXPECT_TRUE(tenant.verification().at("intact"));
}

// ---- webhooks ----

TEST(WebhookSignature, IsThatOfStandardWebhooks) {
  // The example of the specification's own libraries.
  EXPECT_EQ(must(grants::webhook_signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                                           "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330",
                                           R"({"test": 2432232314})")),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
  for (const char* secret : {"", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                             "whsec_c2hvcnQ=", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS"}) {
    EXPECT_EQ(code_of(grants::webhook_signature(secret, "id", "1", "{}")), ErrorCode::Conflict)
        << secret;
  }
}

TEST_F(ServiceRotation, ByWebhookTellsEachStepSignedAndOnce) {
  put("/credentials/hook-secret", {{"fields", {{"secret", Hook::kSecret}}}});
  put("/credentials/api", {{"fields", {{"username", "u"}, {"password", "old"}}}});
  put("/credentials/api/rotation", {{"kind", "webhook"},
                                    {"url", hook.url()},
                                    {"secret_credential", "hook-secret"},
                                    {"length", 24}});
  EXPECT_THAT(rotate("api"), HasStatus(202));
  until(
      "api", [](const Json& is) { return phase(is).empty() && is.contains("rotated_at"); },
      "the webhook was told");
  EXPECT_THAT(hook.told(), ElementsAre("rotation.set", "rotation.test", "rotation.retire"));
  const auto password = value("api").second;
  EXPECT_EQ(password.size(), 24U);
  std::string all;
  for (const auto& each : hook.messages()) {
    EXPECT_TRUE(each.authentic);
    EXPECT_EQ(each.body.at("data").at("credential"), "api");
    const auto rotation = each.body.at("data").at("rotation").get<std::string>();
    EXPECT_THAT(each.id, testing::StartsWith("rot_" + rotation + "_"));
    all += each.body.dump();
  }
  EXPECT_EQ(hook.messages().front().body.at("data").at("fields"), (Json{{"password", password}}));
  EXPECT_THAT(all, Not(HasSubstr("\"old\""))) << "the value before is told to nobody";
  EXPECT_FALSE(hook.messages().back().body.at("data").contains("fields"));
}

TEST_F(ServiceRotation, ByWebhookThatRefusesTheTestIsRolledBack) {
  put("/credentials/hook-secret", {{"fields", {{"secret", Hook::kSecret}}}});
  put("/credentials/api", {{"fields", {{"username", "u"}, {"password", "old"}}}});
  put("/credentials/api/rotation",
      {{"kind", "webhook"}, {"url", hook.url()}, {"secret_credential", "hook-secret"}});
  hook.answer("rotation.test", 422);
  EXPECT_THAT(rotate("api"), HasStatus(202));
  const auto ended = until(
      "api", [](const Json& is) { return is.contains("failed_at"); }, "rolled back");
  EXPECT_EQ(ended.at("problem"), "the webhook refused to test, with status 422");
  EXPECT_THAT(hook.told(), ElementsAre("rotation.set", "rotation.test", "rotation.undo"));
  EXPECT_EQ(value("api").second, "old");
}

TEST_F(ServiceRotation, ByWebhookOfAKeyPairTellsThePublicHalfAlone) {
  prepare_key("ssh_key");
  const auto first = state("deploy");
  EXPECT_THAT(rotate("deploy"), HasStatus(202));
  const auto ended = until(
      "deploy", [](const Json& is) { return is.contains("rotated_at"); }, "the key is told");
  const auto told = hook.messages().front().body;
  EXPECT_EQ(told.at("data").at("public_key"), ended.at("public_key"));
  EXPECT_THAT(told.dump(), Not(HasSubstr("PRIVATE KEY")));
  EXPECT_FALSE(told.at("data").contains("fields"));
  EXPECT_EQ(first.at("version"), 1);
}

TEST_F(ServiceRotation, WhatItWorksWithIsTriedAsSettingsAreGiven) {
  put("/credentials/api",
      {{"fields", {{"username", "u"}, {"password", "old"}}}, {"labels", {{"team", "data"}}}});
  const Json webhook{
      {"kind", "webhook"}, {"url", hook.url()}, {"secret_credential", "hook-secret"}};
  const auto refused = [&](const Json& settings, const std::string& pointer, const char* why) {
    const auto reply = tenant.api("PUT", "/credentials/api/rotation", tenant.admin, settings);
    EXPECT_THAT(reply, IsProblem(409, "conflict")) << why;
    const auto problem = json_of(reply);
    EXPECT_EQ(problem.value("pointer", ""), pointer) << why;
    EXPECT_THAT(problem.at("detail").get<std::string>(), HasSubstr(why));
    EXPECT_THAT(reply.body, Not(HasSubstr("short-secret")));
  };
  put("/credentials/hook-secret", {{"fields", {{"token", Hook::kSecret}}}});
  refused(webhook, "/secret_credential", "has no field secret");
  put("/credentials/hook-secret", {{"fields", {{"secret", "short-secret"}}}});
  refused(webhook, "/secret_credential", "must be whsec_");
  put("/credentials/hook-secret", {{"fields", {{"secret", Hook::kSecret}}}});
  EXPECT_THAT(tenant.api("DELETE", "/credentials/hook-secret/versions/3", tenant.admin),
              HasStatus(200));
  refused(webhook, "/secret_credential", "is gone");
  put("/credentials/pg-admin", {{"fields", {{"password", "short-secret"}}}});
  const auto postgres = settings_of_postgres({"u"});
  refused(postgres, "/admin_credential", "neither username and password");
  put("/credentials/pg-admin", {{"fields", {{"url", "postgresql://short-secret"}}}});
  refused(postgres, "/admin_credential", "neither username and password");
  put("/credentials/pg-admin", {{"fields", {{"username", "rot_admin"}, {"password", "x"}}}});
  put("/credentials/api/rotation", postgres);
  // What became unusable since begins nothing, and a dry run says so.
  put("/credentials/hook-secret", {{"fields", {{"secret", Hook::kSecret}}}});
  put("/credentials/api/rotation", webhook);
  put("/credentials/hook-secret", {{"fields", {{"secret", "short-secret"}}}});
  EXPECT_THAT(rotate("api"), IsProblem(409, "conflict"));
  const auto bulk = json_of(tenant.api("POST", "/rotations", tenant.admin,
                                       {{"labels", {{"team", "data"}}}, {"dry_run", true}}));
  EXPECT_EQ(bulk.at("items").at(0).at("status"), "refused") << bulk;
  EXPECT_THAT(hook.told(), testing::IsEmpty());
}

TEST_F(ServiceRotation, ThePublicKeyIsThatOfTheKeyInForce) {
  prepare_key("key_pair");
  EXPECT_THAT(rotate("deploy"), HasStatus(202));
  const auto first = until(
      "deploy", [](const Json& is) { return phase(is).empty() && is.contains("rotated_at"); },
      "the first is in force");
  ASSERT_TRUE(first.contains("public_key"));
  // Of one that fails its test, whoever is outside is told; what is in force stays.
  hook.answer("rotation.test", 422);
  EXPECT_THAT(rotate("deploy"), HasStatus(202));
  const auto second = until(
      "deploy", [](const Json& is) { return phase(is).empty() && is.contains("failed_at"); },
      "the second is rolled back");
  EXPECT_EQ(second.at("version"), 2);
  EXPECT_EQ(second.value("public_key", ""), first.at("public_key").get<std::string>());
  const auto undone = hook.messages().back().body;
  EXPECT_EQ(undone.at("type"), "rotation.undo");
  EXPECT_NE(undone.at("data").at("public_key"), first.at("public_key"));
  // Of a key that somebody stored, none is known.
  put("/credentials/deploy", {{"fields", {{"private_key", "by hand"}}}});
  EXPECT_FALSE(state("deploy").contains("public_key"));
  hook.answer("rotation.test", 200);
  EXPECT_THAT(rotate("deploy"), HasStatus(202));
  const auto third = until(
      "deploy", [](const Json& is) { return is.at("version") > 4; }, "the third is in force");
  EXPECT_EQ(third.at("public_key"), hook.messages().back().body.at("data").at("public_key"));
}

TEST_F(ServiceRotation, AnAnnouncedKeyIsShownBeforeItIsReleased) {
  const auto alice = tenant.user_token("alice"), bob = tenant.user_token("bob");
  tenant.store("alice", "github", {{"token", "old"}});
  const auto of_alice = [&](const std::string& method, const std::string& last,
                            const std::string& token, const Json& body = nullptr) {
    const auto query = token == tenant.admin
                           ? "?issuer=" + percent_encoded(tenant.idp.issuer()) + "&subject=alice"
                           : std::string();
    return tenant.api(method, "/credentials/github/" + last + query, token, body);
  };
  // Lines do not go into an environment: they are looked at by an admin.
  const auto handed_out = [&]() -> std::string {
    return json_of(of_alice("POST", "reveal", tenant.admin, {{"reason", "a test"}}))
        .at("fields")
        .at("token");
  };
  const Json settings{{"kind", "ssh_key"},
                      {"field", "token"},
                      {"announce_seconds", 86400},
                      {"grace_seconds", 3600}};
  ASSERT_THAT(of_alice("PUT", "rotation", tenant.admin, settings), HasStatus(200));
  const auto reply = of_alice("POST", "rotate", tenant.admin, Json::object());
  ASSERT_THAT(reply, HasStatus(202));
  const auto begun = json_of(reply);
  EXPECT_EQ(phase(begun), "tested");
  EXPECT_EQ(begun.at("version"), 1);
  EXPECT_EQ(begun.at("rotation").at("version"), 2);
  EXPECT_EQ(begun.at("rotation").at("promote_at"), begun.at("next_at"));
  const auto next = begun.at("rotation").at("public_key").get<std::string>();
  EXPECT_THAT(next, testing::StartsWith("ssh-ed25519 "));
  EXPECT_FALSE(begun.contains("public_key"));
  EXPECT_THAT(reply.body, Not(HasSubstr("PRIVATE KEY")));
  EXPECT_EQ(item_of(tenant.release(alice, {{{"backend", "github"}}})).at("env").at("GITHUB_TOKEN"),
            "old");
  const auto listed = tenant.api("GET", "/rotations", tenant.admin);
  EXPECT_THAT(listed.body, HasSubstr("promote_at"));
  EXPECT_THAT(listed.body, Not(HasSubstr("ssh-ed25519")));

  // Whoever may rotate it may say that it is installed; nobody else.
  EXPECT_THAT(of_alice("POST", "rotation/promote", bob), HasStatus(404));
  EXPECT_THAT(of_alice("POST", "rotation/promote", alice, {{"abandon", true}}), HasStatus(400));
  EXPECT_EQ(handed_out(), "old");
  const auto promoted = of_alice("POST", "rotation/promote", alice);
  ASSERT_THAT(promoted, HasStatus(200));
  EXPECT_EQ(json_of(promoted).at("public_key"), next);
  EXPECT_FALSE(json_of(promoted).at("rotation").contains("public_key"));
  EXPECT_THAT(handed_out(), HasSubstr("PRIVATE KEY"));
  EXPECT_THAT(of_alice("POST", "rotation/promote", alice), IsProblem(409, "conflict"));

  // An emergency announces nothing.
  ASSERT_THAT(of_alice("POST", "rotation/retire", alice), HasStatus(200));
  const auto before = handed_out();
  const auto contained =
      json_of(tenant.api("POST", "/emergency", tenant.admin,
                         {{"principal", {{"issuer", tenant.idp.issuer()}, {"subject", "alice"}}},
                          {"since", "2020-01-01T00:00:00Z"},
                          {"action", "rotate"},
                          {"reason", "a drill"}}));
  EXPECT_EQ(contained.at("items").at(0).at("status"), "rotated_here") << contained;
  EXPECT_NE(handed_out(), before);
}

// ---- in bulk, and the report ----

TEST_F(ServiceRotation, InBulkByLabelGivesTheLabelledNewValuesAndNoOther) {
  const auto make = [&](const std::string& name, const Json& labels) {
    put("/credentials/" + name,
        {{"fields", {{"username", "u"}, {"password", "first-password"}}}, {"labels", labels}});
  };
  const Json settings{{"kind", "password"}, {"field", "password"}};
  make("one", {{"team", "data"}});
  make("two", {{"team", "data"}, {"env", "prod"}});
  make("without-settings", {{"team", "data"}});
  make("another-teams", {{"team", "ops"}});
  make("unlabelled", Json::object());
  for (const char* name : {"one", "two", "another-teams", "unlabelled"}) {
    put(std::string("/credentials/") + name + "/rotation", settings);
  }
  const auto status_of = [](const Json& answer) {
    std::map<std::string, std::string> out;
    for (const auto& item : answer.at("items")) out[item.at("name")] = item.at("status");
    return out;
  };
  const auto bulk = [&](bool dry_run) {
    const auto reply = tenant.api("POST", "/rotations", tenant.admin,
                                  {{"labels", {{"team", "data"}}}, {"dry_run", dry_run}});
    EXPECT_THAT(reply, HasStatus(200));
    return status_of(json_of(reply));
  };
  const auto version = [&](const std::string& name) {
    return json_of(tenant.api("GET", "/credentials/" + name, tenant.admin)).at("version");
  };
  using Status = std::map<std::string, std::string>;
  EXPECT_EQ(
      bulk(true),
      (Status{{"one", "would_rotate"}, {"two", "would_rotate"}, {"without-settings", "refused"}}));
  EXPECT_EQ(version("one"), 1);
  EXPECT_EQ(bulk(false),
            (Status{{"one", "rotated"}, {"two", "rotated"}, {"without-settings", "refused"}}));
  for (const char* name : {"one", "two"}) {
    EXPECT_EQ(version(name), 2) << name;
    EXPECT_EQ(value(name).first, "u") << name;
    EXPECT_NE(value(name).second, "first-password") << name;
  }
  EXPECT_NE(value("one").second, value("two").second);
  for (const char* name : {"without-settings", "another-teams", "unlabelled"}) {
    EXPECT_EQ(version(name), 1) << name;
    EXPECT_EQ(value(name).second, "first-password") << name;
  }
  std::vector<std::string> rotated;
  for (const auto& each : tenant.audit("limit=1000&action=credential.rotate")) {
    const auto& event = each.at("event");
    if (event.at("outcome") != "allowed") continue;
    EXPECT_EQ(event.at("fields").at("reason"), "bulk");
    rotated.push_back(event.at("fields").at("credential"));
  }
  EXPECT_THAT(rotated, testing::UnorderedElementsAre("one", "two"));
}

TEST_F(ServiceRotation, ThatWouldReplaceNothingIsRefused) {
  put("/credentials/api", {{"fields", {{"token", "stolen"}}}, {"labels", {{"team", "data"}}}});
  const auto shown = [&] {
    const auto reply =
        tenant.api("POST", "/credentials/api/reveal", tenant.admin, {{"reason", "a test"}});
    return json_of(reply).at("fields");
  };
  const auto refused =
      tenant.api("PUT", "/credentials/api/rotation", tenant.admin, {{"kind", "password"}});
  EXPECT_THAT(refused, IsProblem(409, "conflict"));
  EXPECT_THAT(refused.body, HasSubstr("no field password"));
  EXPECT_THAT(rotate("api", {{"generate", {{"kind", "ssh_key"}}}}), IsProblem(409, "conflict"));
  // Settings that fitted the value before, and not the one that was stored since.
  put("/credentials/api", {{"fields", {{"password", "before"}}}});
  put("/credentials/api/rotation", {{"kind", "password"}});
  put("/credentials/api", {{"fields", {{"token", "stolen"}}}});
  EXPECT_THAT(rotate("api"), IsProblem(409, "conflict"));
  for (const bool dry_run : {true, false}) {
    const auto bulk = json_of(tenant.api("POST", "/rotations", tenant.admin,
                                         {{"labels", {{"team", "data"}}}, {"dry_run", dry_run}}));
    EXPECT_EQ(bulk.at("items").at(0).at("status"), "refused") << bulk;
  }
  EXPECT_EQ(shown(), (Json{{"token", "stolen"}}));
  put("/credentials/api/rotation", {{"kind", "password"}, {"field", "token"}});
  EXPECT_THAT(rotate("api"), HasStatus(200));
  EXPECT_EQ(shown().size(), 1U);
  EXPECT_NE(shown().at("token"), "stolen");
}

TEST_F(ServiceRotation, AGivenValueNamesTheVersionThatItFollowsWhereThatIsRequired) {
  put("/credentials/api", {{"fields", {{"token", "first"}}}, {"cas_required", true}});
  Json given{{"fields", {{"token", "second"}}}};
  EXPECT_THAT(rotate("api", given), IsProblem(412, "precondition-failed"));
  EXPECT_EQ(json_of(tenant.api("PUT", "/credentials/api", tenant.admin, given)).at("detail"),
            json_of(rotate("api", given)).at("detail"))
      << "as a write is";
  given["cas"] = 2;
  EXPECT_THAT(rotate("api", given), IsProblem(412, "precondition-failed"));
  given["cas"] = "1";
  EXPECT_THAT(rotate("api", given), HasStatus(400));
  given["cas"] = 1;
  EXPECT_THAT(rotate("api", given), HasStatus(200));
  // What is made follows whatever is there.
  EXPECT_THAT(rotate("api", {{"generate", {{"kind", "password"}, {"field", "token"}}}}),
              HasStatus(200));
  EXPECT_EQ(state("api").at("version"), 3);
}

TEST_F(ServiceRotation, SettingsAreChangedWhereNobodyChangedTheCredentialMeanwhile) {
  put("/credentials/api", {{"fields", {{"token", "x"}}}});
  const Json settings{{"kind", "password"}, {"field", "token"}};
  const auto change = [&](const char* method, const char* tag, const Json& body = nullptr) {
    return tenant.ask(method, "/api/v1/tenants/rotating/credentials/api/rotation",
                      {{"Authorization", "Bearer " + tenant.admin},
                       {"Content-Type", "application/json"},
                       {"If-Match", tag}},
                      body.is_null() ? "" : body.dump());
  };
  EXPECT_THAT(change("PUT", "\"2\"", settings), IsProblem(412, "precondition-failed"));
  EXPECT_FALSE(state("api").contains("settings"));
  EXPECT_THAT(change("PUT", "\"1\"", settings), HasStatus(200));
  EXPECT_THAT(change("DELETE", "\"2\""), IsProblem(412, "precondition-failed"));
  EXPECT_TRUE(state("api").contains("settings"));
  EXPECT_THAT(change("DELETE", "\"1\""), HasStatus(200));
  Json once{{"generate", settings}};
  once["generate"]["interval_seconds"] = 86400;
  const auto refused = rotate("api", once);
  EXPECT_THAT(refused, HasStatus(400));
  EXPECT_EQ(json_of(refused).at("pointer"), "/generate/interval_seconds");
}

TEST_F(ServiceRotation, TheReportSaysHowOldAValueIsAndWhetherItIsOverdue) {
  const auto now = SystemClock().now();
  const auto make = [&](const std::string& name, const Json& due) {
    put("/credentials/" + name, {{"fields", {{"token", "x"}}}, {"rotation_due_at", due}});
  };
  make("late", format_time(now - std::chrono::hours(24)));
  make("early", format_time(now + std::chrono::hours(24)));
  make("never", nullptr);
  // Its first version is ten days old, and the value that counts three.
  put("/credentials/late", {{"fields", {{"token", "y"}}}});
  {
    pqxx::connection connection(service.database().superuser());
    pqxx::nontransaction tx(connection);
    const auto made = tx.exec(
        "UPDATE postern.credential_version SET created_at = created_at -"
        " CASE version WHEN 1 THEN interval '10 days' ELSE interval '3 days' END"
        " WHERE name = 'late'");
    ASSERT_EQ(made.affected_rows(), 2U);
  }
  const auto report = [&](const std::string& query) {
    std::map<std::string, Json> out;
    const auto answer = json_of(tenant.api("GET", "/rotations" + query, tenant.admin));
    for (const auto& item : answer.at("items")) out[item.at("name")] = item;
    return out;
  };
  const auto all = report("");
  ASSERT_EQ(all.size(), 3U);
  constexpr std::int64_t kThreeDays = 3 * 86400;
  const std::int64_t age = all.at("late").at("age_seconds");
  EXPECT_GE(age, kThreeDays);
  EXPECT_LT(age, kThreeDays + 600);
  EXPECT_EQ(all.at("late").at("version"), 2);
  EXPECT_EQ(all.at("late").at("overdue"), true);
  EXPECT_EQ(all.at("late").at("rotation_due_at"), format_time(now - std::chrono::hours(24)));
  for (const char* name : {"early", "never"}) {
    EXPECT_EQ(all.at(name).at("overdue"), false) << name;
    EXPECT_GE(all.at(name).at("age_seconds"), 0) << name;
    EXPECT_LT(all.at(name).at("age_seconds"), 600) << name;
  }
  EXPECT_EQ(all.at("never").count("rotation_due_at"), 0U);
  const auto overdue = report("?overdue=true");
  ASSERT_EQ(overdue.size(), 1U);
  EXPECT_EQ(overdue.begin()->first, "late");
}

// ---- who may, and emergencies ----

TEST_F(ServiceRotation, AUserRotatesTheirOwnAndTellsNobodyOutside) {
  const auto alice = tenant.user_token("alice");
  tenant.store("alice", "github", {{"token", "of-alice"}});
  const auto own = [&](const char* method, const std::string& path, const Json& body = nullptr) {
    return tenant.api(method, "/credentials/github" + path, alice, body);
  };
  EXPECT_THAT(own("PUT", "/rotation", {{"kind", "password"}}), HasStatus(403));
  EXPECT_THAT(own("DELETE", "/rotation"), HasStatus(403));
  EXPECT_THAT(own("POST", "/rotate", {{"generate", {{"kind", "password"}, {"field", "token"}}}}),
              HasStatus(200));
  EXPECT_THAT(tenant.api("GET", "/rotations", alice), HasStatus(403));
  EXPECT_THAT(tenant.api("POST", "/rotations", alice, {{"type", "generic"}}), HasStatus(403));
  // An admin has it told to a webhook: then it is for admins.
  const auto query = "?issuer=" + percent_encoded(tenant.idp.issuer()) + "&subject=alice";
  put("/credentials/hook-secret" + query, {{"fields", {{"secret", Hook::kSecret}}}});
  put("/credentials/github/rotation" + query, {{"kind", "webhook"},
                                               {"field", "token"},
                                               {"url", hook.url()},
                                               {"secret_credential", "hook-secret"}});
  EXPECT_THAT(own("POST", "/rotate", Json::object()), HasStatus(403));
  EXPECT_THAT(hook.told(), testing::IsEmpty());
  EXPECT_THAT(own("POST", "/rotate", {{"fields", {{"token", "by hand"}}}}), HasStatus(200));
}

TEST_F(ServiceRotation, AUserTakesNothingAwayFromARotationThatIsAnAdmins) {
  tenant.manifest["settings"]["vault_api"] = {{"clients", {"gw-01"}}};
  // Users may store both.
  tenant.manifest["backends"].push_back(
      {{"name", "hooks"},
       {"audience", "https://hooks.example"},
       {"answer", "vaulted"},
       {"credential", {{"name", "hook-secret"}, {"owner", "principal"}}},
       {"delivery", {{"env", {{"HOOK_SECRET", "{secret}"}}}}}});
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto alice = tenant.user_token("alice");
  tenant.store("alice", "github", {{"token", "of-alice"}});
  const auto query = "?issuer=" + percent_encoded(tenant.idp.issuer()) + "&subject=alice";
  const auto by = [&](const std::string& token, const char* method, const std::string& path,
                      const Json& body = nullptr) {
    return tenant.api(method, "/credentials/github" + path, token, body).status;
  };
  const auto vault = [&](const char* method, const std::string& path, const Json& body = nullptr) {
    return tenant
        .ask(method, "/t/rotating/v1/secret/" + path, {{"X-Vault-Token", alice}},
             body.is_null() ? "" : body.dump())
        .status;
  };
  const auto phase_is = [&](const std::string& wanted) {
    eventually(
        [&] {
          const auto reply =
              tenant.api("GET", "/credentials/github/rotation" + query, tenant.admin);
          return phase(json_of(reply)) == wanted;
        },
        ("it is " + wanted).c_str());
  };
  put("/credentials/hook-secret" + query, {{"fields", {{"secret", Hook::kSecret}}}});
  put("/credentials/github/rotation" + query, {{"kind", "webhook"},
                                               {"field", "token"},
                                               {"grace_seconds", 3600},
                                               {"url", hook.url()},
                                               {"secret_credential", "hook-secret"}});
  const Json latest{{"versions", {1}}};
  hook.answer("rotation.set", 503);
  ASSERT_EQ(by(tenant.admin, "POST", "/rotate" + query, Json::object()), 202);
  // Without the latest version the new value would be given up.
  EXPECT_EQ(by(alice, "DELETE", "/versions/1"), 403);
  EXPECT_EQ(by(alice, "POST", "/versions/1/destroy"), 403);
  EXPECT_EQ(vault("DELETE", "data/github"), 403);
  EXPECT_EQ(vault("POST", "delete/github", latest), 403);
  EXPECT_EQ(vault("POST", "destroy/github", latest), 403);
  // And so would another value.
  EXPECT_EQ(by(alice, "PUT", "", {{"fields", {{"token", "x"}}}}), 403);
  EXPECT_EQ(vault("POST", "data/github", {{"data", {{"token", "x"}}}}), 403);
  // Without what it is signed with, nobody outside would be told anything more.
  const auto secret = [&](const std::string& who, const char* method, const std::string& path) {
    return tenant.api(method, "/credentials/hook-secret" + path, who).status;
  };
  const auto secret_stays = [&](const char* when) {
    EXPECT_EQ(secret(alice, "DELETE", ""), 403) << when;
    EXPECT_EQ(secret(alice, "DELETE", "/versions/1"), 403) << when;
    EXPECT_EQ(secret(alice, "POST", "/versions/1/destroy"), 403) << when;
    EXPECT_EQ(vault("DELETE", "metadata/hook-secret"), 403) << when;
    EXPECT_EQ(vault("DELETE", "data/hook-secret"), 403) << when;
    EXPECT_EQ(vault("POST", "destroy/hook-secret", latest), 403) << when;
    const Json other{{"fields", {{"secret", std::string(40, 'x')}}}};
    for (const auto& [method, path] : {std::pair("PUT", ""), std::pair("POST", "/rotate")}) {
      EXPECT_EQ(
          tenant.api(method, std::string("/credentials/hook-secret") + path, alice, other).status,
          403)
          << path << when;
    }
  };
  secret_stays("while it is set");
  hook.answer("rotation.set", 200);
  phase_is("previous");
  secret_stays("in its grace");
  // Without the credential nobody would be told to end the value before.
  EXPECT_EQ(by(alice, "DELETE", ""), 403);
  EXPECT_EQ(vault("DELETE", "metadata/github"), 403);
  EXPECT_EQ(by(alice, "DELETE", "/versions/1"), 200) << "it is not handed out any more";
  EXPECT_THAT(hook.told(), Not(testing::Contains("rotation.retire")));
  ASSERT_EQ(by(tenant.admin, "POST", "/rotation/retire" + query), 202);
  phase_is("");
  EXPECT_THAT(hook.told(), testing::Contains("rotation.retire"));
  // An emergency asked for another one, which has not begun yet.
  const auto want = [&](bool wanted) {
    pqxx::connection connection(service.database().superuser());
    pqxx::nontransaction tx(connection);
    tx.exec("UPDATE postern.credential_rotation SET next_at = NULL, wanted = " +
            std::string(wanted ? "true" : "false"));
  };
  want(true);
  EXPECT_EQ(by(alice, "DELETE", ""), 403);
  EXPECT_EQ(by(alice, "DELETE", "/versions/2"), 403);
  secret_stays("while another one is wanted");
  EXPECT_EQ(by(alice, "POST", "/rotate", {{"fields", {{"token", "x"}}}}), 403);
  EXPECT_EQ(by(alice, "PUT", "", {{"fields", {{"token", "hers"}}}}), 200)
      << "which is rotated as well";
  want(false);
  EXPECT_EQ(by(alice, "DELETE", "/versions/3"), 200);
  EXPECT_EQ(by(alice, "DELETE", ""), 204) << "her own, when nothing is under way";
  EXPECT_EQ(tenant
                .api("POST", "/credentials/hook-secret/rotate", alice,
                     {{"fields", {{"secret", std::string(40, 'x')}}}})
                .status,
            200);
  EXPECT_EQ(secret(alice, "DELETE", ""), 204);
}

TEST_F(ServiceRotation, AnEmergencyRotatesOrDisablesWhatWasTouchedAndNothingElse) {
  const auto alice = tenant.user_token("alice"), bob = tenant.user_token("bob");
  tenant.store("alice", "github", {{"token", "of-alice"}});
  tenant.store("bob", "github", {{"token", "of-bob"}});
  const auto query = [&](const char* who) {
    return "?issuer=" + percent_encoded(tenant.idp.issuer()) + "&subject=" + who;
  };
  put("/credentials/github/rotation" + query("alice"),
      {{"kind", "password"}, {"field", "token"}, {"grace_seconds", 86400}});
  // A rotation is in its grace: the value that alice's gateway had is still here.
  ASSERT_THAT(tenant.api("POST", "/credentials/github/rotate" + query("alice"), tenant.admin,
                         Json::object()),
              HasStatus(200));
  for (const auto& user : {alice, bob}) {
    ASSERT_THAT(tenant.release(user, {{{"backend", "github"}}}), HasStatus(200));
  }
  const auto exchanged = json_of(tenant.exchange(alice, "files"));
  Json order{{"principal", {{"issuer", tenant.idp.issuer()}, {"subject", "alice"}}},
             {"since", "2020-01-01T00:00:00Z"},
             {"action", "rotate"},
             {"dry_run", true},
             {"reason", "a drill"}};
  const auto of_alice = [&](const char* path) {
    return json_of(tenant.api("GET", "/credentials/github" + std::string(path) + query("alice"),
                              tenant.admin));
  };
  auto answer = json_of(tenant.api("POST", "/emergency", tenant.admin, order));
  ASSERT_EQ(answer.at("items").size(), 1U) << answer;
  EXPECT_EQ(answer.at("items").at(0).at("status"), "would_rotate");
  EXPECT_EQ(answer.at("tokens"), 1);
  EXPECT_EQ(of_alice("").at("version"), 2) << "a dry run changes nothing";

  order["dry_run"] = false;
  answer = json_of(tenant.api("POST", "/emergency", tenant.admin, order));
  EXPECT_EQ(answer.at("items").at(0).at("status"), "rotated_here") << answer;
  EXPECT_EQ(answer.at("tokens_revoked"), 1);
  EXPECT_EQ(of_alice("").at("version"), 3);
  std::vector<std::string> states;
  const auto versions = of_alice("/versions");
  for (const auto& each : versions.at("items")) states.push_back(each.at("state"));
  EXPECT_THAT(states, ElementsAre("destroyed", "destroyed", "live")) << "and no grace is left";
  const auto status =
      json_of(tenant.ask("POST", "/t/rotating/introspect",
                         {{"Authorization", basic("gw-01", tenant.secret)},
                          {"Content-Type", "application/x-www-form-urlencoded"}},
                         form({{"token", exchanged.at("access_token").get<std::string>()}})));
  EXPECT_EQ(status.at("active"), false);

  order["action"] = "disable";
  answer = json_of(tenant.api("POST", "/emergency", tenant.admin, order));
  EXPECT_EQ(answer.at("items").at(0).at("status"), "disabled");
  EXPECT_EQ(item_of(tenant.release(alice, {{{"backend", "github"}}})).at("error"),
            "interaction_required");
  EXPECT_EQ(item_of(tenant.release(bob, {{{"backend", "github"}}})).at("env").at("GITHUB_TOKEN"),
            "of-bob");
  // Neither alice nor who has her token brings it back; she may store another value.
  constexpr auto kUndelete = "/credentials/github/versions/3/undelete";
  EXPECT_THAT(tenant.api("POST", kUndelete, alice), HasStatus(403));
  EXPECT_EQ(of_alice("/versions").at("items").at(2).at("withdrawn"), true);
  EXPECT_THAT(tenant.api("POST", kUndelete + query("alice"), tenant.admin), HasStatus(200));
  EXPECT_EQ(of_alice("/versions").at("items").at(2).count("withdrawn"), 0U);
  std::size_t acts = 0;
  for (const auto& each : tenant.audit("limit=1000&action=credential.emergency")) {
    EXPECT_EQ(each.at("event").at("fields").at("credentials"),
              "github of alice (" + tenant.idp.issuer() + ")");
    ++acts;
  }
  EXPECT_EQ(acts, 3U);
}

TEST_F(ServiceRotation, AnEmergencySaysWhereNobodyOutsideWasTold) {
  tenant.store("alice", "github", {{"token", "of-alice"}});
  const auto query = "?issuer=" + percent_encoded(tenant.idp.issuer()) + "&subject=alice";
  put("/credentials/github/rotation" + query, {{"kind", "ssh_key"}, {"field", "token"}});
  ASSERT_THAT(tenant.release(tenant.user_token("alice"), {{{"backend", "github"}}}),
              HasStatus(200));
  Json order{{"client", "gw-01"},
             {"since", "2020-01-01T00:00:00Z"},
             {"action", "rotate"},
             {"dry_run", true},
             {"reason", "a drill"}};
  const auto contain = [&] {
    return json_of(tenant.api("POST", "/emergency", tenant.admin, order)).at("items").at(0);
  };
  auto item = contain();
  EXPECT_EQ(item.at("status"), "would_rotate");
  EXPECT_EQ(item.at("detail"), "nobody outside would be told");
  order["dry_run"] = false;
  item = contain();
  EXPECT_EQ(item.at("status"), "rotated_here");
  EXPECT_EQ(item.at("detail"), "nobody outside was told: end the value before there");
  // Whoever is told ends it.
  put("/credentials/hook-secret" + query, {{"fields", {{"secret", Hook::kSecret}}}});
  put("/credentials/github/rotation" + query, {{"kind", "webhook"},
                                               {"generate", "ssh_key"},
                                               {"field", "token"},
                                               {"url", hook.url()},
                                               {"secret_credential", "hook-secret"}});
  order["dry_run"] = true;
  EXPECT_FALSE(contain().contains("detail"));
}

TEST_F(ServiceRotation, AnEmergencySaysWhyWhatHasBegunDoesNotGoOn) {
  tenant.store("alice", "github", {{"token", "of-alice"}});
  const auto query = "?issuer=" + percent_encoded(tenant.idp.issuer()) + "&subject=alice";
  put("/credentials/hook-secret" + query, {{"fields", {{"secret", Hook::kSecret}}}});
  put("/credentials/github/rotation" + query, {{"kind", "webhook"},
                                               {"field", "token"},
                                               {"url", hook.url()},
                                               {"secret_credential", "hook-secret"}});
  ASSERT_THAT(tenant.release(tenant.user_token("alice"), {{{"backend", "github"}}}),
              HasStatus(200));
  const auto contain = [&] {
    return json_of(tenant.api("POST", "/emergency", tenant.admin,
                              {{"client", "gw-01"},
                               {"since", "2020-01-01T00:00:00Z"},
                               {"action", "rotate"},
                               {"reason", "a drill"}}))
        .at("items")
        .at(0);
  };
  hook.answer("rotation.set", 503);
  auto item = contain();
  EXPECT_EQ(item.at("status"), "begun");
  EXPECT_FALSE(item.contains("detail")) << "it has only just begun";
  eventually(
      [&] {
        return json_of(tenant.api("GET", "/credentials/github/rotation" + query, tenant.admin))
            .contains("problem");
      },
      "it was tried");
  item = contain();
  EXPECT_EQ(item.at("status"), "begun");
  EXPECT_THAT(item.value("detail", ""), HasSubstr("answered with status 503"));
}

TEST_F(ServiceRotation, AnEmergencyFindsWhatWasUnwrapped) {
  tenant.manifest["settings"]["vault_api"] = {{"clients", {"gw-01", "other"}}};
  tenant.manifest["settings"]["reveal"] = true;
  auto other = tenant.part("clients", "gw-01");
  other["id"] = "other";
  tenant.manifest["clients"].push_back(other);
  const auto applied = tenant.apply();
  ASSERT_THAT(applied, HasStatus(200));
  const std::string secret_of_other =
      json_of(applied).at("client_secrets").at(0).at("client_secret");
  for (const auto* name : {"unwrapped", "changed", "passed-on", "looked-up", "waiting"}) {
    put(std::string("/credentials/") + name, {{"fields", {{"token", "of-the-tenant"}}}});
  }
  const auto vault = [&](const char* method, const std::string& path, const std::string& token,
                         const Json& body = nullptr, Pairs headers = {}) {
    if (!token.empty()) headers.emplace_back("X-Vault-Token", token);
    return tenant.ask(method, "/t/rotating/v1/" + path, headers, body.is_null() ? "" : body.dump());
  };
  const auto log_in = [&](const char* client, const std::string& secret) -> std::string {
    const auto reply =
        vault("POST", "auth/approle/login", "", {{"role_id", client}, {"secret_id", secret}});
    return json_of(reply).at("auth").at("client_token");
  };
  const auto suspect = log_in("gw-01", tenant.secret), nobody = log_in("other", secret_of_other);
  const auto use = [&](const std::string& how, const std::string& who, const std::string& token) {
    const auto reply = vault("POST", "sys/wrapping/" + how, who, {{"token", token}});
    EXPECT_THAT(reply, HasStatus(200)) << how;
    return json_of(reply);
  };
  const auto token_in = [](const Json& answer) -> std::string {
    return answer.at("wrap_info").at("token");
  };
  const auto wrapped = [&](const std::string& name) {
    const auto reply =
        vault("GET", "secret/data/" + name, tenant.admin, nullptr, {{"X-Vault-Wrap-TTL", "5m"}});
    EXPECT_THAT(reply, HasStatus(200));
    return token_in(json_of(reply));
  };
  use("unwrap", suspect, wrapped("unwrapped"));
  // Changed by somebody else, twice, before the suspect had it.
  auto token = token_in(use("rewrap", nobody, wrapped("changed")));
  token = token_in(use("rewrap", tenant.admin, token));
  use("unwrap", suspect, token);
  // Whoever changed it has the token, and unwraps without saying who.
  token = token_in(use("rewrap", suspect, wrapped("passed-on")));
  EXPECT_THAT(vault("POST", "sys/wrapping/unwrap", token), HasStatus(200));
  // None of the suspect's.
  token = wrapped("looked-up");
  use("lookup", suspect, token);
  use("unwrap", nobody, token);
  wrapped("waiting");

  const auto found = [&](const std::string& client) {
    std::vector<std::string> names;
    const auto answer = json_of(tenant.api("POST", "/emergency", tenant.admin,
                                           {{"client", client},
                                            {"since", "2020-01-01T00:00:00Z"},
                                            {"action", "disable"},
                                            {"dry_run", true},
                                            {"reason", "a drill"}}));
    for (const auto& item : answer.at("items")) {
      EXPECT_EQ(item.at("uses"), 1);
      names.push_back(item.at("name"));
    }
    return names;
  };
  EXPECT_THAT(found("gw-01"), ElementsAre("changed", "passed-on", "unwrapped"));
  EXPECT_THAT(found("other"), ElementsAre("changed", "looked-up"));
}

TEST_F(ServiceRotation, AnEmergencyOfABackendFindsWhatVaultsApiShowed) {
  tenant.manifest["settings"]["vault_api"] = {{"clients", {"gw-01"}}};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  put("/credentials/shared-db", {{"fields", {{"url", "postgres://of-the-tenant"}}}});
  put("/credentials/jira", {{"fields", {{"token", "of-the-tenant"}}}});
  put("/credentials/github", {{"fields", {{"token", "no backend takes it of the tenant"}}}});
  const auto alice = tenant.user_token("alice");
  tenant.store("alice", "github", {{"token", "of-alice"}});
  const auto vault = [&](const char* method, const std::string& path, const std::string& token,
                         const Json& body = nullptr) {
    return tenant.ask(method, "/t/rotating/v1/" + path, {{"X-Vault-Token", token}},
                      body.is_null() ? "" : body.dump());
  };
  const auto log_in = [&]() -> std::string {
    const auto reply = tenant.ask("POST", "/t/rotating/v1/auth/approle/login", {},
                                  Json{{"role_id", "gw-01"}, {"secret_id", tenant.secret}}.dump());
    return json_of(reply).at("auth").at("client_token");
  };
  const auto of_db = log_in(), of_jira = log_in();
  const auto since = format_time(SystemClock().now());
  // Of alice and the db's tenant credential nothing is released yet: Vault's API alone.
  ASSERT_THAT(vault("GET", "secret/data/shared-db", of_db), HasStatus(200));
  ASSERT_THAT(vault("GET", "secret/data/jira", of_jira), HasStatus(200));
  ASSERT_THAT(tenant.release(alice, {{{"backend", "github"}}}), HasStatus(200));
  Json order{{"backend", "db"},
             {"since", since},
             {"action", "disable"},
             {"dry_run", true},
             {"reason", "a drill"}};
  const auto contain = [&] {
    return json_of(tenant.api("POST", "/emergency", tenant.admin, order));
  };
  const auto found = [&](const Json& answer) {
    std::vector<std::string> names;
    for (const auto& item : answer.at("items")) {
      names.push_back(item.at("name").get<std::string>() + " of " +
                      item.at("owner").value("subject", "the tenant") + ": " +
                      item.at("status").get<std::string>());
    }
    return names;
  };
  auto answer = contain();
  EXPECT_THAT(found(answer), ElementsAre("shared-db of the tenant: would_disable")) << answer;
  EXPECT_EQ(answer.at("tokens"), 1);
  EXPECT_THAT(vault("GET", "secret/data/shared-db", of_db), HasStatus(200)) << "a dry run";

  // And what was released at the REST API.
  ASSERT_THAT(tenant.release(alice, {{{"backend", "db"}}}), HasStatus(200));
  order["dry_run"] = false;
  answer = contain();
  EXPECT_THAT(found(answer), ElementsAre("shared-db of the tenant: disabled")) << answer;
  EXPECT_GE(answer.at("items").at(0).at("uses"), 3);
  EXPECT_EQ(answer.at("tokens_revoked"), 1);
  EXPECT_THAT(vault("GET", "auth/token/lookup-self", of_db), HasStatus(403));
  EXPECT_EQ(item_of(tenant.release(alice, {{{"backend", "db"}}})).at("error"),
            "interaction_required");
  // What is of other backends stays.
  EXPECT_THAT(vault("GET", "secret/data/jira", of_jira), HasStatus(200));
  EXPECT_EQ(item_of(tenant.release(alice, {{{"backend", "github"}}})).at("env").at("GITHUB_TOKEN"),
            "of-alice");

  // Whose it is counts as the backend has it: github takes the user's alone.
  order["backend"] = "github";
  answer = contain();
  EXPECT_THAT(found(answer), ElementsAre("github of alice: disabled")) << answer;
  EXPECT_EQ(answer.at("tokens"), 0);
  // One that takes either, and one that there is none of.
  order["backend"] = "jira";
  answer = contain();
  EXPECT_THAT(found(answer), ElementsAre("jira of the tenant: disabled")) << answer;
  EXPECT_THAT(vault("GET", "auth/token/lookup-self", of_jira), HasStatus(403));
  order["backend"] = "none";
  EXPECT_THAT(found(contain()), testing::IsEmpty());
}

// ---- kill -9 ----

TEST_F(ServiceRotation, AKilledServiceGoesOnWhereItWas) {
  PostgresDatabase database;
  TempDirectory directory;
  ServiceProcess process(directory.path(), database.service());
  process.set_variable("POSTERND_ROTATION_POSTGRES_HOSTS",
                       "127.0.0.1:" + std::to_string(door.port()));
  process.set_variable("POSTERND_ROTATION_ALLOW_INSECURE_LOOPBACK", "true");
  process.start();
  TestTenant killed(process.endpoint(), "killed");
  killed.manifest["settings"]["reveal"] = true;
  ASSERT_THAT(killed.apply(), HasStatus(200));
  const auto admin = [&](const char* method, const std::string& path, const Json& body) {
    return killed.api(method, path, killed.admin, body);
  };
  admin("PUT", "/credentials/pg-admin",
        {{"fields", {{"username", "rot_admin"}, {"password", "the-admins-password"}}}});
  admin("PUT", "/credentials/db",
        {{"fields", {{"username", "app_a"}, {"password", "first-password"}}}});
  ASSERT_THAT(admin("PUT", "/credentials/db/rotation", settings_of_postgres({"app_a", "app_b"})),
              HasStatus(200));
  ASSERT_THAT(admin("POST", "/credentials/db/rotate", Json::object()), HasStatus(202));
  process.process().signal(SIGKILL);
  process.process().wait();
  // Nobody waits two minutes here for the lease of the dead to end.
  pqxx::connection connection(database.superuser());
  pqxx::nontransaction tx(connection);
  tx.exec("UPDATE postern.credential_rotation SET lease_until = to_timestamp(0)");
  process.start();
  eventually(
      [&] {
        return json_of(killed.api("GET", "/credentials/db/rotation", killed.admin))
            .contains("rotated_at");
      },
      "the rotation goes on");
  const auto shown = json_of(admin("POST", "/credentials/db/reveal", {{"reason", "a test"}}));
  EXPECT_EQ(shown.at("fields").at("username"), "app_b");
  EXPECT_TRUE(takes("app_b", shown.at("fields").at("password")));
  EXPECT_TRUE(takes("app_a", "first-password"));
  EXPECT_TRUE(killed.verification().at("intact"));
}

}  // namespace
}  // namespace postern::test
