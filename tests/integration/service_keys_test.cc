// Root keys and tenants' KEKs of the running program: missing, wrong, put right,
// rotated while it serves, with the rotating program killed on the way.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <mutex>
#include <pqxx/pqxx>
#include <random>
#include <sstream>
#include <thread>

#include "crypto/base64url.h"
#include "crypto/random.h"
#include "support/finished.h"
#include "support/from_environment.h"
#include "support/service_fixture.h"
#include "support/soft_token.h"
#include "vault/root_key.h"

namespace postern::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// One service over a database of its own, and the program's key commands beside it.
class Keys : public ::testing::Test {
 protected:
  Keys() { service_.start(); }

  fs::path root_key() const { return directory_.path() / "keys/root.key"; }
  static std::string id_in(const std::string& line) { return line.substr(20, 16); }
  std::string fresh_line() {
    const auto file = directory_.path() / ("made." + std::to_string(++made_));
    EXPECT_TRUE(vault::RootKeys::create(file).ok());
    return read_text(file);
  }
  void put_root_key(const std::string& text) {
    const auto fresh = directory_.path() / "fresh";
    std::ofstream(fresh) << text;
    ::chmod(fresh.c_str(), 0600);
    fs::rename(fresh, root_key());
  }
  /// In the service's configuration, this line for that of a key; "" adds one.
  void replace_setting(const std::string& key, const std::string& line) {
    const auto file = directory_.path() / "posternd.toml";
    std::string kept;
    std::istringstream lines(read_text(file));
    for (std::string each; std::getline(lines, each);) {
      if (key.empty() || !each.starts_with(key)) kept += each + "\n";
    }
    std::ofstream(file) << kept << line << "\n";
  }
  WireReply readyz() const { return http_ask(service_.ops_port(), "GET", "/readyz"); }
  std::string state() const {
    return json_of(readyz(), "checks").at("root_key").get<std::string>();
  }
  void until(const std::string& wanted) {
    eventually([&] { return state() == wanted; }, ("root key " + wanted).c_str());
  }

  /// Until the metrics have all of these lines. Rows are counted as the service starts, and
  /// then every half minute only: start it before.
  void until_metrics(const std::vector<std::string>& lines) const {
    eventually(
        [&] {
          const auto body = "\n" + http_ask(service_.ops_port(), "GET", "/metrics").body;
          return std::all_of(lines.begin(), lines.end(), [&](const std::string& line) {
            return body.find("\n" + line + "\n") != std::string::npos;
          });
        },
        lines.front().c_str());
  }

  std::unique_ptr<Process> begin(std::vector<std::string> command) {
    command.insert(command.begin(), {program("posternd"), "keys"});
    if (command[2] != "add" && command[2] != "create") {
      command.insert(command.end(), {"-c", (directory_.path() / "posternd.toml").string()});
    }
    const auto output = directory_.path() / ("keys." + std::to_string(++runs_) + ".log");
    return std::make_unique<Process>(command, environment_, output);
  }
  Finished run(std::vector<std::string> command) {
    auto process = begin(std::move(command));
    return Finished::wait_for(*process);
  }
  /// Until the replica shows that it has this root key as the active one.
  void until_shown(const std::string& id) {
    eventually(
        [&] {
          return one("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE"
                     " 'posternd-epochs " +
                     id + "%'") == "1";
        },
        "the replica shows it");
  }
  /// Once the replica shows that it has the new root key.
  Finished rotate_root() {
    Finished done;
    eventually(
        [&] {
          done = run({"rotate-root"});
          return done.output.find("1 replica without") == std::string::npos;
        },
        "the replica shows it");
    return done;
  }
  Json status() {
    const auto done = run({"status", "--json"});
    EXPECT_EQ(done.status, 0) << done.output;
    auto json = token::parse_json(done.last_line());
    if (!json.ok()) throw std::runtime_error("not JSON: " + done.output);
    return std::move(json).value();
  }
  std::string one(const std::string& sql) {
    pqxx::connection connection(database_.superuser());
    pqxx::nontransaction tx(connection);
    tx.exec("SET search_path = postern");
    return tx.exec(sql)[0][0].c_str();
  }
  void change(const std::string& sql) {
    pqxx::connection connection(database_.superuser());
    pqxx::nontransaction tx(connection);
    tx.exec("SET search_path = postern");
    tx.exec(sql);
  }
  std::string newest_keks() {
    return one(
        "SELECT string_agg(tenant_id || ' ' || version, ', ' ORDER BY tenant_id)"
        "  FROM (SELECT tenant_id, max(version) AS version FROM kek GROUP BY tenant_id) newest");
  }
  static std::string released(const TestTenant& tenant, const std::string& token) {
    const auto reply = tenant.release(token, {{{"backend", "github"}}});
    if (reply.status != 200) return "status " + std::to_string(reply.status);
    return item_of(reply).value("env", Json::object()).value("GITHUB_TOKEN", item_of(reply).dump());
  }

  /// Everything that takes a key, refused; what takes none still works.
  void expect_nothing_released(const TestTenant& tenant) {
    const auto alice = tenant.user_token("alice");
    EXPECT_THAT(tenant.exchange(alice, "files"), IsOAuthError(503, "temporarily_unavailable"));
    EXPECT_THAT(tenant.exchange(alice, "github"), IsOAuthError(503, "temporarily_unavailable"));
    EXPECT_THAT(tenant.release(alice, {{{"backend", "github"}}}), IsProblem(503, "unavailable"));
    EXPECT_THAT(tenant.token({{"grant_type", "client_credentials"}, {"audience", "files"}}),
                IsOAuthError(503, "temporarily_unavailable"));
    EXPECT_THAT(tenant.api("PUT", "/credentials/github", alice, {{"fields", {{"token", "x"}}}}),
                IsProblem(503, "unavailable"));
    EXPECT_THAT(tenant.api("GET", "/credentials", tenant.admin), IsProblem(503, "unavailable"));
    EXPECT_THAT(tenant.api("GET", "/audit/verification", tenant.operator_token()),
                IsProblem(503, "unavailable"));
    // Nothing new is made under a key that is not the database's.
    auto manifest = tenant.manifest;
    manifest["tenant"] = "made-meanwhile";
    EXPECT_THAT(tenant.ask("PUT", "/api/v1/tenants/made-meanwhile/manifest",
                           {{"Authorization", bearer(tenant.operator_token())},
                            {"Content-Type", "application/json"}},
                           manifest.dump()),
                IsProblem(503, "unavailable"));
    EXPECT_EQ(one("SELECT count(*) FROM tenant WHERE tenant_id = 'made-meanwhile'"), "0");
    EXPECT_THAT(http_ask(service_.ops_port(), "GET", "/livez"), HasStatus(200));
    EXPECT_THAT(
        tenant.ask("GET", "/api/v1/tenants", {{"Authorization", bearer(tenant.operator_token())}}),
        HasStatus(200));
  }

  TempDirectory directory_;
  PostgresDatabase database_;
  ServiceProcess service_{directory_.path(), database_.service()};
  Pairs environment_;  ///< of the commands
  int runs_ = 0, made_ = 0;
};

// ---- missing, wrong, put right ----

TEST_F(Keys, WithoutARootKeyVaultsClientsAreToldThatItIsSealed) {
  const auto ask = [&](const char* method, const std::string& path) {
    return http_ask(service_.port(), method, "/v1/sys/" + path);
  };
  const auto right = read_text(root_key());
  service_.stop();
  fs::remove(root_key());
  service_.start();
  // As Go's client asks: it takes what is from 400 on for an error.
  const std::string of_go =
      "health?drsecondarycode=299&performancestandbycode=299&sealedcode=299"
      "&standbycode=299&uninitcode=299";
  const std::vector<std::pair<std::string, int>> expected{{"health", 503},
                                                          {of_go, 299},
                                                          {"health?standbyok=true", 503},
                                                          {"health?activecode=299", 503},
                                                          {"health?sealedcode=200", 200}};
  for (const auto& [path, status] : expected) {
    const auto reply = ask("GET", path);
    EXPECT_EQ(reply.status, status) << path;
    const auto body = json_of(reply);
    EXPECT_EQ(body.at("sealed"), true) << path;
    EXPECT_EQ(body.at("standby"), false) << path;
    EXPECT_EQ(body.at("initialized"), true) << path;
    const auto head = ask("HEAD", path);
    EXPECT_EQ(head.status, status) << path;
    EXPECT_EQ(head.body, "") << path;
  }
  EXPECT_EQ(json_of(ask("GET", "seal-status")).at("sealed"), true);
  EXPECT_EQ(ask("HEAD", "seal-status").status, 200);
  for (const auto* query :
       {"sealedcode=", "sealedcode=x", "sealedcode=99", "sealedcode=600", "sealedcode=+299",
        "sealedcode=299.0", "sealedcode=4294967596", "sealedcode=299&sealedcode=299",
        // Of these a reply has no body.
        "sealedcode=100", "activecode=204", "standbycode=304", "uninitcode=0", "standbyok=perhaps",
        "standbyok=true&standbyok=true", "sealedcode=%zz"}) {
    EXPECT_EQ(ask("GET", std::string("health?") + query).status, 400) << query;
    EXPECT_EQ(ask("HEAD", std::string("health?") + query).status, 400) << query;
  }

  put_root_key(right);
  until("ok");
  EXPECT_EQ(ask("GET", of_go).status, 200);
  EXPECT_EQ(ask("HEAD", "health?activecode=299").status, 299);
  EXPECT_EQ(json_of(ask("GET", "health")).at("sealed"), false);
  EXPECT_EQ(json_of(ask("GET", "seal-status")).at("sealed"), false);
}

TEST_F(Keys, WithoutItsDatabaseVaultsClientsAreToldThatItIsStandby) {
  const auto ask = [&](const char* method, const std::string& path) {
    return http_ask(service_.port(), method, "/v1/sys/" + path);
  };
  const auto allow_connections = [&](bool allowed) {
    pqxx::connection connection(shared_postgres().superuser_conninfo());
    pqxx::nontransaction tx(connection);
    tx.exec("ALTER DATABASE " + database_.name() + " ALLOW_CONNECTIONS " +
            (allowed ? "true" : "false"));
    if (allowed) return;
    tx.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = " +
            tx.quote(database_.name()));
  };
  EXPECT_EQ(ask("GET", "health").status, 200);
  allow_connections(false);
  eventually([&] { return ask("GET", "health").status == 429; }, "standby");
  const std::vector<std::pair<std::string, int>> expected{
      {"health?standbycode=299", 299},
      {"health?sealedcode=299", 429},
      {"health?standbyok=true", 200},
      {"health?standbyok", 200},
      {"health?standbyok=false", 429},
      {"health?activecode=298", 429},
      {"health?standbyok=True&activecode=298", 298}};
  for (const auto& [path, status] : expected) {
    const auto reply = ask("GET", path);
    EXPECT_EQ(reply.status, status) << path;
    EXPECT_EQ(json_of(reply).at("standby"), true) << path;
    EXPECT_EQ(json_of(reply).at("sealed"), false) << path;
    EXPECT_EQ(ask("HEAD", path).status, status) << path;
  }
  EXPECT_EQ(json_of(ask("GET", "seal-status")).at("sealed"), false);
  allow_connections(true);
  eventually([&] { return ask("GET", "health").status == 200; }, "current");
}

TEST_F(Keys, AMissingRootKeyStartsReleasesNothingAndRecovers) {
  EXPECT_THAT(readyz(), HasStatus(200));
  EXPECT_EQ(json_of(readyz()), (Json{{"status", "ready"},
                                     {"checks",
                                      {{"database", "ok"},
                                       {"accepting", "ok"},
                                       {"root_key", "ok"},
                                       {"share_store", "none"}}}}));
  TestTenant tenant(service_.endpoint(), "acme");
  tenant.store("alice", "github", {{"token", "s3cret"}});
  const auto right = read_text(root_key());
  service_.stop();
  fs::remove(root_key());
  service_.start();

  EXPECT_THAT(readyz(), HasStatus(503));
  EXPECT_EQ(json_of(readyz()),
            (Json{{"status", "not ready"},
                  {"checks",
                   {{"database", "ok"},
                    {"accepting", "ok"},
                    {"root_key", "missing"},
                    {"share_store", "none"}}},
                  {"root_keys", {{"given", Json::array()}, {"wanted", {id_in(right)}}}}}));
  expect_nothing_released(tenant);
  put_root_key("not a key\n");
  service_.process().signal(SIGHUP);
  expect_nothing_released(tenant);
  EXPECT_EQ(state(), "missing");

  put_root_key(right);
  until("ok");
  EXPECT_THAT(readyz(), HasStatus(200));
  EXPECT_EQ(released(tenant, tenant.user_token("alice")), "s3cret");
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "files"), HasStatus(200));
  const auto logs = service_.logs();
  EXPECT_THAT(logs, HasSubstr("root_key.not_in_order state=missing wanted=" + id_in(right) +
                              " given=none"));
  EXPECT_THAT(logs, HasSubstr("root_key.ok active=" + id_in(right)));
  EXPECT_THAT(logs, Not(HasSubstr(right.substr(37, 16))));
  EXPECT_EQ(tenant.verification().at("intact"), true);
}

TEST_F(Keys, AnotherRootKeyStartsReleasesNothingAndRecovers) {
  TestTenant tenant(service_.endpoint(), "acme");
  tenant.store("alice", "github", {{"token", "s3cret"}});
  const auto right = read_text(root_key());
  const auto wrong = fresh_line();
  service_.stop();
  put_root_key(wrong);
  service_.start();

  EXPECT_THAT(readyz(), HasStatus(503));
  EXPECT_EQ(json_of(readyz(), "checks").at("root_key"), "wrong");
  EXPECT_EQ(json_of(readyz(), "root_keys"),
            (Json{{"given", {id_in(wrong)}}, {"wanted", {id_in(right)}}}));
  expect_nothing_released(tenant);
  EXPECT_THAT(service_.logs(), HasSubstr("root_key.not_in_order state=wrong wanted=" +
                                         id_in(right) + " given=" + id_in(wrong)));
  // Each refusal says so too.
  EXPECT_THAT(service_.logs(),
              HasSubstr("under root key " + id_in(right) + ", this process has " + id_in(wrong)));
  const auto page = json_of(
      tenant.ask("GET", "/api/v1/status", {{"Authorization", bearer(tenant.operator_token())}}));
  EXPECT_EQ(page.at("root_key"), "wrong");
  EXPECT_EQ(page.at("root_key_id"), id_in(wrong));
  EXPECT_THAT(
      http_ask(service_.ops_port(), "GET", "/metrics").body,
      AllOf(HasSubstr("postern_root_key_ok 0"), HasSubstr("postern_keks{root_key=\"missing\"} 1")));

  put_root_key(right);
  service_.process().signal(SIGHUP);
  until("ok");
  EXPECT_EQ(released(tenant, tenant.user_token("alice")), "s3cret");
  // What a running process has outlives its file; only the next start needs that.
  fs::remove(root_key());
  service_.process().signal(SIGHUP);
  eventually([&] { return service_.logs().find("root_key.not_loaded") != std::string::npos; },
             "the loss noticed");
  EXPECT_EQ(released(tenant, tenant.user_token("alice")), "s3cret");
  EXPECT_THAT(readyz(), HasStatus(200));
}

TEST_F(Keys, OneTenantWhoseRootKeyIsNotHereHoldsUpNoOther) {
  TestTenant lost(service_.endpoint(), "lost");
  const auto first = read_text(root_key());
  const auto second = fresh_line();
  put_root_key(second + first);
  eventually(
      [&] {
        return service_.logs().find("root_key.loaded active=" + id_in(second)) != std::string::npos;
      },
      "the new root key noticed");
  TestTenant kept(service_.endpoint(), "kept");
  service_.stop();
  put_root_key(second);
  service_.start();
  EXPECT_EQ(state(), "incomplete");
  EXPECT_THAT(readyz(), HasStatus(503));
  EXPECT_THAT(kept.exchange(kept.user_token("alice"), "files"), HasStatus(200));
  EXPECT_THAT(lost.exchange(lost.user_token("alice"), "files"),
              IsOAuthError(503, "temporarily_unavailable"));
}

TEST_F(Keys, CheckConfigSaysWhatIsWrongWithTheRootKey) {
  const auto check = [&] {
    const auto output = directory_.path() / ("keys." + std::to_string(++runs_) + ".log");
    Process process(
        {program("posternd"), "check-config", "-c", (directory_.path() / "posternd.toml").string()},
        {}, output);
    return Finished::wait_for(process);
  };
  EXPECT_EQ(check().status, 0);
  TestTenant tenant(service_.endpoint(), "acme");
  const auto right = read_text(root_key());
  const auto wrong = fresh_line();
  put_root_key(wrong);
  auto found = check();
  EXPECT_EQ(found.status, 1);
  EXPECT_THAT(found.output, HasSubstr("the database has keys under root key " + id_in(right) +
                                      ", and here is only " + id_in(wrong)));
  fs::remove(root_key());
  found = check();
  EXPECT_EQ(found.status, 1);
  EXPECT_THAT(found.output, HasSubstr(root_key().string()));
  put_root_key(right);
  EXPECT_EQ(check().status, 0);
}

// ---- where they are kept ----

/// A command under this limit on locked memory; "" is that of the tests.
std::vector<std::string> limited(const std::string& limit, std::vector<std::string> command) {
  command.insert(command.begin(), program("posternd"));
  if (limit.empty()) return command;
  std::vector<std::string> whole{"/usr/bin/prlimit", "--memlock=" + limit};
  if (::geteuid() == 0) {  // whom no limit holds, with this capability
    for (const char* drop :
         {"/usr/bin/setpriv", "--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock"}) {
      whole.emplace_back(drop);
    }
  }
  whole.insert(whole.end(), command.begin(), command.end());
  return whole;
}

/// Whether the tests themselves may lock more than their limit, or have none.
bool no_limit_holds() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return false;
  if (limit.rlim_cur == RLIM_INFINITY) return true;
  const auto size = limit.rlim_cur + 4096;
  void* const region =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (region == MAP_FAILED) return false;
  const bool locked = ::mlock2(region, size, MLOCK_ONFAULT) == 0;
  ::munmap(region, size);
  return locked;
}

TEST_F(Keys, MemoryThatMayNotBeLockedIsSaidOrRefused) {
  const auto configuration = (directory_.path() / "posternd.toml").string();
  const auto passphrase = directory_.path() / "archive.passphrase";
  std::ofstream(passphrase) << "correct horse battery staple\n";
  ::chmod(passphrase.c_str(), 0600);
  TestTenant tenant(service_.endpoint(), "acme");
  int archives = 0;
  const auto archive = [&] {
    return (directory_.path() / ("archive." + std::to_string(++archives))).string();
  };
  const auto run = [&](const std::string& limit, std::vector<std::string> command) {
    const auto output = directory_.path() / ("keys." + std::to_string(++runs_) + ".log");
    command.insert(command.end(), {"-c", configuration});
    Process process(limited(limit, std::move(command)), {}, output);
    return Finished::wait_for(process);
  };
  // All that has root keys in memory.
  const auto commands = [&] {
    return std::vector<std::vector<std::string>>{
        {"check-config"},
        {"keys", "status"},
        {"keys", "rewrap", "acme"},
        {"tenant", "export", "acme", archive(), "--passphrase-file", passphrase},
        {"restore", "--drill"}};
  };
  const auto advice = HasSubstr("raise RLIMIT_MEMLOCK to unlimited");
  // The second is what Linux gives, and more than SecureBuffer takes: not all that is secret.
  const std::vector<std::pair<std::string, std::string>> too_little{
      {"65536", "memory.not_locked"}, {"8388608", "memory.partly_locked"}};
  for (const auto& [limit, event] : too_little) {
    for (const auto& command : commands()) {
      const auto found = run(limit, command);
      EXPECT_EQ(found.status, 0) << found.output;
      EXPECT_THAT(found.output, AllOf(HasSubstr(event), advice)) << command[0];
    }
  }
  replace_setting("", "keys.require_locked_memory = true");
  for (const auto& [limit, event] : too_little) {
    for (const auto& command : commands()) {
      const auto found = run(limit, command);
      EXPECT_EQ(found.status, 1) << found.output;
      EXPECT_THAT(found.output, AllOf(advice, Not(HasSubstr(event)))) << command[0];
    }
  }
  if (!no_limit_holds()) return;
  for (const auto& command : commands()) {
    const auto found = run("", command);
    EXPECT_EQ(found.status, 0) << found.output;
    EXPECT_THAT(found.output, Not(HasSubstr("memory."))) << command[0];
  }
}

TEST_F(Keys, MemoryIsLockedOnceThereIsRoomForIt) {
  service_.stop();
  const auto configuration = (directory_.path() / "posternd.toml").string();
  Process process(limited("65536:8388608", {"serve", "-c", configuration}), {},
                  directory_.path() / "limited.log");
  const auto port =
      static_cast<std::uint16_t>(std::stoi(log_field(process, "service.started", "ops_port")));
  const auto locked = [&](const char* value) {
    return http_ask(port, "GET", "/metrics")
               .body.find(std::string("\npostern_memory_locked ") + value) != std::string::npos;
  };
  EXPECT_TRUE(locked("0"));
  eventually([&] { return process.output().find("memory.lock_failed") != std::string::npos; },
             "the failure in the log");
  rlimit limit{8388608, 8388608};
  ASSERT_EQ(::prlimit(process.pid(), RLIMIT_MEMLOCK, &limit, nullptr), 0);
  eventually([&] { return locked("1"); }, "locked memory");
  const auto log = process.output();
  EXPECT_NE(log.find("memory.locked_again"), log.npos);
  const auto first = log.find("memory.lock_failed");
  EXPECT_EQ(log.find("memory.lock_failed", first + 1), log.npos) << "said once";
}

// ---- where root keys come from ----

TEST_F(Keys, MayComeFromACommand) {
  TestTenant tenant(service_.endpoint(), "acme");
  tenant.store("alice", "github", {{"token", "s3cret"}});
  service_.stop();
  const auto kept = directory_.path() / "kept.key";
  fs::rename(root_key(), kept);
  const auto command = directory_.path() / "give-keys";
  std::ofstream(command) << "#!/bin/sh\n[ \"$1\" = 'for us' ] && exec cat " << kept.string()
                         << "\n";
  ::chmod(command.c_str(), 0700);
  replace_setting("keys.root_key_file",
                  "keys.root_key_command = [\"" + command.string() + "\", \"for us\"]");
  service_.start();
  EXPECT_EQ(state(), "ok");
  EXPECT_EQ(released(tenant, tenant.user_token("alice")), "s3cret");
  EXPECT_EQ(status().at("root_keys").at(0).at("state"), "active");
  // While it fails, what it gave before stays; after a start there is nothing.
  ::chmod(command.c_str(), 0600);
  service_.process().signal(SIGHUP);
  eventually([&] { return service_.logs().find("root_key.not_loaded") != std::string::npos; },
             "the failure noticed");
  EXPECT_EQ(released(tenant, tenant.user_token("alice")), "s3cret");
  service_.stop();
  service_.start();
  EXPECT_EQ(state(), "missing");
  expect_nothing_released(tenant);
  ::chmod(command.c_str(), 0700);
  service_.process().signal(SIGHUP);
  until("ok");
  EXPECT_EQ(released(tenant, tenant.user_token("alice")), "s3cret");
}

TEST_F(Keys, MayComeFromASystemdCredential) {
  TestTenant tenant(service_.endpoint(), "acme");
  tenant.store("alice", "github", {{"token", "s3cret"}});
  service_.stop();
  const auto credentials = directory_.path() / "credentials";
  const auto credential = credentials / "postern-root-key";
  fs::create_directory(credentials);
  const auto put = [&](const std::string& text) {
    std::ofstream(directory_.path() / "fresh") << text;
    ::chmod((directory_.path() / "fresh").c_str(), 0400);  // as systemd gives them
    fs::rename(directory_.path() / "fresh", credential);
  };
  const auto key = read_text(root_key());
  fs::remove(root_key());
  replace_setting("keys.root_key_file", "");
  environment_.emplace_back("CREDENTIALS_DIRECTORY", credentials.string());
  service_.set_variable("CREDENTIALS_DIRECTORY", credentials.string());

  // A directory without it: the service starts, and names what it looked for.
  put(key);
  fs::rename(credential, credentials / "another");
  service_.start();
  EXPECT_EQ(state(), "missing");
  EXPECT_EQ(readyz().status, 503);
  expect_nothing_released(tenant);
  EXPECT_THAT(service_.logs(), HasSubstr("the root key file " + credential.string()));
  const auto output = directory_.path() / "check-config.log";
  Process process(
      {program("posternd"), "check-config", "-c", (directory_.path() / "posternd.toml").string()},
      environment_, output);
  EXPECT_EQ(Finished::wait_for(process).status, 1);
  EXPECT_THAT(read_text(output), HasSubstr("the root key file " + credential.string()));

  fs::rename(credentials / "another", credential);
  until("ok");
  EXPECT_EQ(released(tenant, tenant.user_token("alice")), "s3cret");
  service_.stop();
  service_.start();
  EXPECT_EQ(state(), "ok");
  EXPECT_EQ(released(tenant, tenant.user_token("alice")), "s3cret");
  const auto shown = status().at("root_keys");
  ASSERT_EQ(shown.size(), 1u);
  EXPECT_EQ(shown.at(0).at("id"), id_in(key));
  EXPECT_EQ(shown.at(0).at("state"), "active");

  // One that holds another key, or none: it starts, says so and releases nothing.
  service_.stop();
  for (const auto& [text, said] : {std::pair{fresh_line(), "wrong"}, {"no key\n", "missing"}}) {
    put(text);
    service_.start();
    EXPECT_EQ(state(), said);
    EXPECT_EQ(readyz().status, 503);
    expect_nothing_released(tenant);
    service_.stop();
  }
  put(key);
  service_.start();
  EXPECT_EQ(released(tenant, tenant.user_token("alice")), "s3cret");
}

TEST_F(Keys, MayComeFromAPassphrase) {
  const auto passphrases = directory_.path() / "passphrase";
  const auto write = [&](const std::string& text) {
    std::ofstream(directory_.path() / "fresh") << text;
    ::chmod((directory_.path() / "fresh").c_str(), 0600);
    fs::rename(directory_.path() / "fresh", passphrases);
  };
  const std::string first = "correct horse battery staple", second = "and then another one came";
  write(first + "\n");
  service_.stop();
  fs::remove(root_key());
  auto done = run({"create", root_key().string(), "--passphrase-file", passphrases.string()});
  ASSERT_EQ(done.status, 0) << done.output;
  EXPECT_THAT(read_text(root_key()), testing::StartsWith("postern-root-argon2id-v1:"));
  replace_setting("", "keys.passphrase_file = \"" + passphrases.string() + "\"");
  service_.start();
  TestTenant tenant(service_.endpoint(), "acme");
  tenant.store("alice", "github", {{"token", "s3cret"}});

  write(second + "\n" + first + "\n");
  done = run({"add", root_key().string(), "--passphrase-file", passphrases.string()});
  ASSERT_EQ(done.status, 0) << done.output;
  done = rotate_root();
  EXPECT_EQ(done.status, 0) << done.output;
  until("ok");
  // The first passphrase and its line go.
  const auto lines = read_text(root_key());
  put_root_key(lines.substr(0, lines.find('\n') + 1));
  write("a wrong one, and long enough\n");
  service_.stop();
  service_.start();
  EXPECT_EQ(state(), "missing");
  expect_nothing_released(tenant);
  write(second + "\n");
  until("ok");
  EXPECT_EQ(released(tenant, tenant.user_token("alice")), "s3cret");
  for (const auto& text : {first, second}) {
    EXPECT_THAT(service_.logs() + done.output, Not(HasSubstr(text)));
  }
}

TEST_F(Keys, MayBeEncryptedByAPkcs11Token) {
  const SoftToken token;
  environment_.emplace_back(token.kVariable, token.configuration());
  service_.set_variable(token.kVariable, token.configuration());
  const auto pin = directory_.path() / "pin";
  const auto write_pin = [&](std::string_view text) {
    std::ofstream(directory_.path() / "fresh") << text << "\n";
    ::chmod((directory_.path() / "fresh").c_str(), 0600);
    fs::rename(directory_.path() / "fresh", pin);
  };
  write_pin(token.kPin);
  const std::vector<std::string> options{"--pkcs11-module",   token.module().string(),
                                         "--pkcs11-token",    std::string(token.kLabel),
                                         "--pkcs11-pin-file", pin.string()};
  const auto keys = [&](const std::string& command) {
    std::vector<std::string> arguments{command, root_key().string()};
    arguments.insert(arguments.end(), options.begin(), options.end());
    return run(arguments);
  };
  service_.stop();
  fs::remove(root_key());
  auto done = keys("create");
  ASSERT_EQ(done.status, 0) << done.output;
  EXPECT_NE(keys("create").status, 0);  // never over what is there
  replace_setting("", "keys.pkcs11_module = \"" + token.module().string() +
                          "\"\nkeys.pkcs11_token = \"" + std::string(token.kLabel) +
                          "\"\nkeys.pkcs11_pin_file = \"" + pin.string() + "\"");
  service_.start();
  EXPECT_EQ(state(), "ok");
  TestTenant tenant(service_.endpoint(), "acme");
  tenant.store("alice", "github", {{"token", "s3cret"}});

  done = keys("add");
  ASSERT_EQ(done.status, 0) << done.output;
  done = rotate_root();
  EXPECT_EQ(done.status, 0) << done.output;
  EXPECT_EQ(released(tenant, tenant.user_token("alice")), "s3cret");

  // Another PIN: nothing is released, and the file put right is enough.
  write_pin("wrong-pin-canary");
  service_.stop();
  service_.start();
  EXPECT_EQ(state(), "missing");
  expect_nothing_released(tenant);
  EXPECT_THAT(service_.logs(), HasSubstr("the PIN is wrong"));
  write_pin(token.kPin);
  until("ok");
  EXPECT_EQ(released(tenant, tenant.user_token("alice")), "s3cret");
  EXPECT_THAT(service_.logs() + done.output, Not(HasSubstr("canary")));
}

// ---- rotation ----

TEST_F(Keys, AreRotatedWhileTheServiceRuns) {
  TestTenant acme(service_.endpoint(), "acme");
  TestTenant beta(service_.endpoint(), "beta");
  acme.store("alice", "github", {{"token", "of acme"}});
  beta.store("alice", "github", {{"token", "of beta"}});
  const auto alice = acme.user_token("alice");
  const auto old_id = id_in(read_text(root_key()));

  auto now = status();
  EXPECT_EQ(now.at("root_keys"),
            (Json{{{"id", old_id}, {"state", "active"}, {"keks", 2}, {"tenants", 2}}}));
  EXPECT_EQ(now.at("keks_to_rotate"), 0);
  EXPECT_TRUE(now.at("advice").empty());
  EXPECT_EQ(now.at("tenants").at(0), (Json{{"tenant", "acme"},
                                           {"keks",
                                            {{{"version", 1},
                                              {"root_key_id", old_id},
                                              {"credential_versions", 1},
                                              {"signing_keys", 2},
                                              {"others", 0},
                                              {"share", false}}}}}));
  EXPECT_EQ(now.at("share_store"), "none");
  auto done = run({"rotate-root"});
  EXPECT_EQ(done.status, 1) << done.output;
  EXPECT_THAT(done.output, HasSubstr("make another with: posternd keys add"));

  // A fresh root key, noticed by the service before anything is under it.
  done = run({"add", root_key().string()});
  EXPECT_EQ(done.status, 0) << done.output;
  const auto text = read_text(root_key());
  const auto new_id = id_in(text);
  EXPECT_NE(new_id, old_id);
  EXPECT_THAT(done.output, AllOf(HasSubstr(new_id), Not(HasSubstr(text.substr(37, 16)))));
  eventually(
      [&] {
        return json_of(acme.ask("GET", "/api/v1/status",
                                {{"Authorization", bearer(acme.operator_token())}}))
                   .at("root_key_id") == new_id;
      },
      "the new root key noticed");
  EXPECT_EQ(status().at("keks_to_rotate"), 2);
  eventually(
      [&] {
        done = run({"rotate-root", "--rate", "1000"});
        return done.output.find("1 replica without") == std::string::npos;
      },
      "the replica shows it");
  EXPECT_EQ(done.status, 0) << done.output;
  EXPECT_THAT(done.output, AllOf(HasSubstr("2 KEKs wrapped under root key " + new_id + ", 0 left"),
                                 HasSubstr("root key " + old_id + " wraps nothing any more")));
  EXPECT_EQ(run({"rotate-root"}).status, 0);  // again, after it has ended
  EXPECT_EQ(status().at("keks_to_rotate"), 0);

  // The old line leaves the file, and the service is started anew.
  put_root_key(text.substr(0, text.find('\n') + 1));
  service_.stop();
  service_.start();
  EXPECT_EQ(state(), "ok");
  EXPECT_EQ(released(acme, alice), "of acme");

  // The tenant's key.
  EXPECT_EQ(run({"rotate-tenant"}).status, 2);
  EXPECT_EQ(run({"rotate-tenant", "acme", "--all"}).status, 2);
  EXPECT_EQ(run({"rotate-tenant", "nobody"}).status, 1);
  EXPECT_EQ(run({"rotate-tenant", "../etc"}).status, 1);
  for (const auto& [command, rate] :
       {std::pair{"rotate-root", "100"}, {"rotate-tenant", "20"}, {"rewrap", "500"}}) {
    EXPECT_THAT(run({command, "--help"}).output, HasSubstr(std::string("default ") + rate));
  }
  done = run({"rotate-tenant", "acme"});
  EXPECT_EQ(done.status, 0) << done.output;
  EXPECT_THAT(done.output, HasSubstr("tenant acme: KEK 2"));
  EXPECT_EQ(released(acme, alice), "of acme");
  acme.store("alice", "github", {{"token", "newer"}});
  EXPECT_EQ(one("SELECT string_agg(kek_version::text, ' ' ORDER BY version) FROM credential_version"
                " WHERE tenant_id = 'acme'"),
            "1 2");
  EXPECT_EQ(status().at("rows_to_rewrap"),
            (Json{{"tenants", 1}, {"credential_versions", 1}, {"signing_keys", 2}, {"others", 0}}));
  service_.stop();
  service_.start();
  until_metrics({"postern_rows_to_rewrap{kind=\"credential_version\"} 1",
                 "postern_rows_to_rewrap{kind=\"signing_key\"} 2",
                 "postern_rows_to_rewrap{kind=\"other\"} 0", "postern_rows_rewrapped_total 0"});
  EXPECT_EQ(released(acme, alice), "newer");  // so that its keys are in memory
  done = run({"rewrap", "--all", "--rate", "1000"});
  EXPECT_EQ(done.status, 0) << done.output;
  EXPECT_THAT(done.output,
              AllOf(HasSubstr("tenant acme: 3 rows moved, 0 left"), Not(HasSubstr("beta"))));
  now = status();
  EXPECT_TRUE(now.at("advice").empty()) << now;
  EXPECT_EQ(now.at("rows_rewrapped"), 3);
  EXPECT_EQ(released(acme, alice), "newer");
  EXPECT_EQ(released(beta, beta.user_token("alice")), "of beta");
  EXPECT_THAT(acme.exchange(alice, "files"), HasStatus(200));

  std::map<std::string, int> actions;
  for (const auto& record : acme.audit()) ++actions[record.at("event").at("action")];
  EXPECT_EQ(actions["key.rotate_root"], 1);
  EXPECT_EQ(actions["key.rotate_tenant"], 1);
  EXPECT_EQ(actions["key.rewrap"], 1);
  EXPECT_EQ(acme.verification().at("intact"), true);
  EXPECT_THAT(run({"status"}).output, HasSubstr("to do\n  nothing\n"));
  service_.stop();
  service_.start();
  until_metrics({"postern_rows_to_rewrap{kind=\"credential_version\"} 0",
                 "postern_rows_to_rewrap{kind=\"signing_key\"} 0",
                 "postern_rows_to_rewrap{kind=\"other\"} 0", "postern_rows_rewrapped_total 3"});
}

TEST_F(Keys, ATenantWhoseAuditLogCannotBeContinuedIsNamedAndHoldsUpNoOther) {
  for (const char* name : {"acme", "beta", "gamma"}) {
    TestTenant(service_.endpoint(), name).store("alice", "github", {{"token", name}});
  }
  service_.stop();
  auto done = run({"rotate-tenant", "--all"});
  ASSERT_EQ(done.status, 0) << done.output;
  change(
      "UPDATE audit_head SET mac = set_byte(mac, 0, get_byte(mac, 0) # 1)"
      " WHERE tenant_id = 'beta'");
  const auto named = HasSubstr("tenant beta: its keys or its audit log are not as they were left");

  done = run({"rotate-tenant", "--all"});
  EXPECT_EQ(done.status, 1) << done.output;
  EXPECT_THAT(done.output, AllOf(named, HasSubstr("tenant gamma: KEK 3")));
  EXPECT_EQ(newest_keks(), "acme 3, beta 2, gamma 3");
  done = run({"rewrap", "--all"});
  EXPECT_EQ(done.status, 1) << done.output;
  EXPECT_THAT(done.output, AllOf(named, HasSubstr("tenant gamma: 3 rows moved, 0 left"),
                                 HasSubstr("6 rows moved, 3 left in all")));

  // Nor without any head.
  change("DELETE FROM audit_head WHERE tenant_id = 'gamma'");
  done = run({"rotate-tenant", "--all"});
  EXPECT_EQ(done.status, 1) << done.output;
  EXPECT_THAT(done.output, HasSubstr("tenant gamma: its keys or its audit log are not"));
}

TEST_F(Keys, TenantsGetANewKekOnceHoweverOftenTheRunIsBegunAgain) {
  for (const char* name : {"acme", "beta", "gamma"}) TestTenant(service_.endpoint(), name);
  const auto a_day_passes = [&] {
    change("UPDATE kek SET created_at = created_at - interval '1 day'");
  };
  const auto older_than = [&](const std::string& what) {
    return run({"rotate-tenant", "--all", "--older-than", what});
  };
  EXPECT_EQ(older_than("a while").status, 2);
  EXPECT_EQ(newest_keks(), "acme 1, beta 1, gamma 1");

  a_day_passes();
  auto done = run({"rotate-tenant", "--all", "--older-than", "1h", "--rate", "1"});
  EXPECT_EQ(done.status, 0) << done.output;
  EXPECT_THAT(done.output, HasSubstr("posternd: tenants: 2 of 3\n"));
  EXPECT_EQ(newest_keks(), "acme 2, beta 2, gamma 2");
  done = older_than("1h");
  EXPECT_EQ(done.status, 0) << done.output;
  EXPECT_THAT(done.output, HasSubstr("3 tenants with a KEK that is not older"));
  EXPECT_EQ(newest_keks(), "acme 2, beta 2, gamma 2");
  EXPECT_THAT(older_than("30d").output, HasSubstr("3 tenants with a KEK that is not older"));

  // Somebody holds one tenant: the others are done, and the run says how to go on.
  a_day_passes();
  {
    pqxx::connection connection(database_.superuser());
    pqxx::work holding(connection);
    holding.exec("SELECT 1 FROM postern.tenant WHERE tenant_id = 'beta' FOR UPDATE");
    done = run({"rotate-tenant", "--all"});
  }
  EXPECT_EQ(done.status, 1) << done.output;
  EXPECT_THAT(done.output, HasSubstr("tenant beta: others hold its rows"));
  EXPECT_EQ(newest_keks(), "acme 3, beta 2, gamma 3");
  const std::string told = "go on with: posternd keys rotate-tenant --all --older-than ";
  const auto at = done.output.rfind(told);
  ASSERT_NE(at, std::string::npos) << done.output;
  done = older_than(done.output.substr(at + told.size(), 20));
  EXPECT_EQ(done.status, 0) << done.output;
  EXPECT_EQ(newest_keks(), "acme 3, beta 3, gamma 3");
}

TEST_F(Keys, AreCountedByTheRootKeyTheyAreUnderWhileItIsReplaced) {
  for (const char* name : {"acme", "beta"}) TestTenant(service_.endpoint(), name);
  const auto until_keks = [&](int active, int old, int missing) {
    const auto line = [](const char* under, int count) {
      return "postern_keks{root_key=\"" + std::string(under) + "\"} " + std::to_string(count);
    };
    until_metrics({line("active", active), line("old", old), line("missing", missing)});
  };
  until_keks(2, 0, 0);
  const auto old_line = read_text(root_key());
  ASSERT_EQ(run({"add", root_key().string()}).status, 0);
  const auto both = read_text(root_key());
  until_keks(0, 2, 0);
  until_shown(id_in(both));

  // Halfway: somebody holds the second.
  {
    pqxx::connection connection(database_.superuser());
    pqxx::work holding(connection);
    holding.exec("SELECT 1 FROM postern.kek WHERE tenant_id = 'beta' FOR UPDATE");
    const auto process = begin({"rotate-root"});
    until_keks(1, 1, 0);
    holding.abort();
    Finished::wait_for(*process);
  }
  EXPECT_EQ(run({"rotate-root"}).status, 0);
  until_keks(2, 0, 0);
  put_root_key(old_line);
  until_keks(0, 0, 2);
  put_root_key(both);
  until_keks(2, 0, 0);
}

TEST_F(Keys, OfATenantWithAKeyHolderRowsAreLeftToAReplicaWithTheShare) {
  TestTenant tenant(service_.endpoint(), "acme");
  tenant.store("alice", "github", {{"token", "s3cret"}});
  until_metrics({"postern_tenants_held 0", "postern_tenants_sealed 0"});
  Bytes bytes(32);
  crypto::random_bytes(bytes);
  const Json share{{"share", crypto::base64url(bytes)}};
  ASSERT_THAT(tenant.api("PUT", "/key-holder", tenant.admin, share), HasStatus(200));
  eventually([&] { return status().at("advice").empty(); }, "all moved by the replica");
  until_metrics({"postern_tenants_held 1", "postern_tenants_sealed 0"});

  ASSERT_THAT(tenant.api("POST", "/key-holder/seal", tenant.admin, Json::object()), HasStatus(200));
  until_metrics({"postern_tenants_held 1", "postern_tenants_sealed 1"});
  ASSERT_EQ(run({"rotate-tenant", "acme"}).status, 0);
  const auto now = status();
  ASSERT_EQ(now.at("advice").size(), 1u) << now;
  EXPECT_THAT(now.at("advice").at(0).get<std::string>(),
              HasSubstr("3 rows of 1 tenant with a key holder to move: a replica does so"));
  EXPECT_EQ(json_of(tenant.ask("GET", "/api/v1/keys",
                               {{"Authorization", bearer(tenant.operator_token())}}))
                .at("advice"),
            now.at("advice"));

  ASSERT_THAT(tenant.api("POST", "/key-holder/unseal", tenant.admin, share), HasStatus(200));
  eventually([&] { return status().at("advice").empty(); }, "all moved by the replica again");
  until_metrics({"postern_tenants_held 1", "postern_tenants_sealed 0"});
  EXPECT_EQ(released(tenant, tenant.user_token("alice")), "s3cret");
}

TEST_F(Keys, TheRootKeyIsNotRotatedAwayFromAReplicaThatHasNotTheNewOne) {
  TestTenant tenant(service_.endpoint(), "acme");
  const auto old_line = read_text(root_key());
  // Elsewhere, so that the service does not get it.
  const auto elsewhere = directory_.path() / "elsewhere.key";
  std::ofstream(elsewhere) << fresh_line() << old_line;
  ::chmod(elsewhere.c_str(), 0600);
  replace_setting("keys.root_key_file", "keys.root_key_file = \"" + elsewhere.string() + "\"");
  auto done = run({"rotate-root"});
  EXPECT_EQ(done.status, 1);
  EXPECT_THAT(done.output, HasSubstr("1 replica without root key " + id_in(read_text(elsewhere))));
  EXPECT_EQ(one("SELECT root_key_id FROM kek"), id_in(old_line));

  put_root_key(read_text(elsewhere));
  eventually([&] { return run({"rotate-root"}).status == 0; }, "the replica has it");
  EXPECT_EQ(one("SELECT root_key_id FROM kek"), id_in(read_text(elsewhere)));
  EXPECT_EQ(state(), "ok");
  // By force all the same; the replica then says what it lacks.
  std::ofstream(directory_.path() / "third") << fresh_line() << read_text(elsewhere);
  ::chmod((directory_.path() / "third").c_str(), 0600);
  fs::rename(directory_.path() / "third", elsewhere);
  EXPECT_EQ(run({"rotate-root"}).status, 1);
  EXPECT_EQ(run({"rotate-root", "--force"}).status, 0);
  until("wrong");
}

TEST_F(Keys, ARunningServiceSealsUnderTheNewKekWithinASecond) {
  TestTenant tenant(service_.endpoint(), "acme");
  tenant.store("alice", "github", {{"token", "1"}});
  ASSERT_EQ(run({"rotate-tenant", "acme"}).status, 0);
  // Without any write that would be told: the audit chain goes on under the new KEK.
  eventually(
      [&] {
        static_cast<void>(tenant.exchange(tenant.user_token("alice"), "files"));
        return one("SELECT kek_version FROM audit_head WHERE tenant_id = 'acme'") == "2";
      },
      "the new KEK in use");
}

/// Kills the program now and then, until a run ends by itself. Returns how often.
TEST_F(Keys, AreRotatedUnderLoadThoughTheRotationIsKilledAgainAndAgain) {
  const auto seed = from_environment("POSTERN_SEED", 4711);
  SCOPED_TRACE("POSTERN_SEED=" + std::to_string(seed));
  std::mt19937 random(static_cast<std::mt19937::result_type>(seed));
  TestTenant tenant(service_.endpoint(), "acme");
  constexpr int kUsers = 30;
  const auto user = [](int number) { return "user-" + std::to_string(number); };
  for (int i = 0; i < kUsers; ++i) tenant.store(user(i), "github", {{"token", user(i) + " 0"}});
  std::vector<std::unique_ptr<TestTenant>> others;
  for (int i = 0; i < 6; ++i) {
    others.push_back(
        std::make_unique<TestTenant>(service_.endpoint(), "other-" + std::to_string(i)));
  }
  std::atomic<bool> stop{false};
  std::atomic<int> releases{0}, puts{0};
  std::mutex mutex;
  std::vector<std::string> wrong;
  const auto problem = [&](const std::string& what) {
    const std::lock_guard lock(mutex);
    wrong.push_back(what);
  };
  const auto token_of = [&](int number) {
    const std::lock_guard lock(mutex);
    return tenant.user_token(user(number));
  };
  std::vector<int> last(kUsers, 0);
  std::thread releasing([&] {
    for (int i = 0; !stop; i = (i + 1) % kUsers) {
      const auto value = released(tenant, token_of(i));
      if (!value.starts_with(user(i) + " ")) problem("released: " + value);
      ++releases;
    }
  });
  std::thread writing([&] {
    for (int i = 0; !stop; i = (i + 1) % kUsers) {
      const auto reply =
          tenant.api("PUT", "/credentials/github", token_of(i),
                     {{"fields", {{"token", user(i) + " " + std::to_string(last[i] + 1)}}}});
      if (reply.status == 200) {
        ++last[i];
        ++puts;
      } else {
        problem("put: " + reply.body);
      }
    }
  });
  int kills = 0;
  const auto killed_on_the_way = [&](std::vector<std::string> command, int times) {
    for (int i = 0; i < times; ++i) {
      auto process = begin(command);
      const auto until = std::chrono::steady_clock::now() +
                         std::chrono::milliseconds(std::uniform_int_distribution(20, 400)(random));
      while (process->running() && std::chrono::steady_clock::now() < until) {
        std::this_thread::yield();
      }
      process->signal(SIGKILL);
      if (process->wait() == -SIGKILL) ++kills;
    }
    const auto done = run(command);
    EXPECT_EQ(done.status, 0) << done.output;
  };
  ASSERT_EQ(run({"add", root_key().string()}).status, 0);
  const auto text = read_text(root_key());
  eventually(
      [&] {
        return service_.logs().find("root_key.loaded active=" + id_in(text)) != std::string::npos;
      },
      "the new root key noticed");
  until_shown(id_in(text));
  killed_on_the_way({"rotate-root", "--rate", "20"}, 5);
  killed_on_the_way({"rotate-tenant", "acme"}, 3);
  killed_on_the_way({"rewrap", "--all", "--rate", "100"}, 6);
  const int before = puts;
  eventually([&] { return puts >= before + 20; }, "writers at work");
  stop = true;
  releasing.join();
  writing.join();

  EXPECT_GT(kills, 3);
  EXPECT_GT(releases, 50);
  EXPECT_EQ(wrong, std::vector<std::string>()) << service_.logs();
  const auto now = status();
  EXPECT_EQ(now.at("keks_to_rotate"), 0);
  EXPECT_TRUE(
      now.at("rows_to_rewrap") ==
      (Json{{"tenants", 0}, {"credential_versions", 0}, {"signing_keys", 0}, {"others", 0}}))
      << now;
  // Everything opens without the old root key.
  put_root_key(text.substr(0, text.find('\n') + 1));
  service_.stop();
  service_.start();
  EXPECT_EQ(state(), "ok");
  for (int i = 0; i < kUsers; ++i) {
    EXPECT_EQ(released(tenant, tenant.user_token(user(i))),
              user(i) + " " + std::to_string(last[i]));
  }
  EXPECT_EQ(tenant.verification().at("intact"), true);
  // What was moved is what was recorded, whatever was killed when.
  std::uint64_t recorded = 0;
  for (const auto& record : tenant.audit("limit=1000&action=key.rewrap")) {
    const auto& fields = record.at("event").at("fields");
    recorded += std::stoull(fields.at("credential_versions").get<std::string>()) +
                std::stoull(fields.at("signing_keys").get<std::string>());
  }
  EXPECT_EQ(std::to_string(recorded),
            one("SELECT sum(rewrapped) FROM kek WHERE tenant_id = 'acme'"));
}

}  // namespace
}  // namespace postern::test
