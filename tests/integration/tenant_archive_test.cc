// `posternd tenant export` and `import`: what a tenant has, in another installation with
// other keys; and what is refused on the way.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <utility>
#include <vector>

#include "support/finished.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kCanary = "canary-51c7";

/// One service over a database and a share store of its own.
struct Installation {
  Installation() { service.start(); }
  pqxx::result change(const std::string& sql) const {
    pqxx::connection connection(database.superuser());
    pqxx::nontransaction tx(connection);
    tx.exec("SET search_path = postern");
    return tx.exec(sql);
  }
  std::string one(const std::string& sql) const { return change(sql)[0][0].c_str(); }

  TempDirectory directory;
  PostgresDatabase database;
  ShareDatabase shares;
  ServiceProcess service{
      directory.path(), database.service(), {{"share_store.url", '"' + shares.service() + '"'}}};
};

class TenantArchive : public ::testing::Test {
 protected:
  TenantArchive() {
    at_ = &from_;
    tenant_.emplace(
        Endpoint{[this] { return at_->service.port(); }, from_.service.operator_token()}, "acme");
    put_secret("passphrase", "correct horse battery staple\n");
  }

  fs::path put_secret(const std::string& name, const std::string& text) {
    const auto file = files_.path() / name;
    std::ofstream(file) << text;
    ::chmod(file.c_str(), 0600);
    return file;
  }
  std::unique_ptr<Process> begin(const Installation& installation,
                                 std::vector<std::string> arguments) {
    std::vector<std::string> command{program("posternd"), "tenant"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    command.insert(command.end(), {"-c", (installation.directory.path() / "posternd.toml").string(),
                                   "--passphrase-file", passphrase_.string()});
    const auto output = files_.path() / ("run." + std::to_string(++runs_) + ".log");
    return std::make_unique<Process>(command, Pairs{}, output);
  }
  Finished run(const Installation& installation, std::vector<std::string> arguments) {
    auto process = begin(installation, std::move(arguments));
    auto done = Finished::wait_for(*process);
    EXPECT_THAT(done.output, Not(HasSubstr(kCanary)));
    return done;
  }
  Finished exported() { return run(from_, {"export", "acme", file_.string()}); }
  Finished imported(const fs::path& file, std::vector<std::string> options = {"--enable"}) {
    options.insert(options.begin(), {"import", "acme", file.string()});
    return run(to_, std::move(options));
  }
  void move() {
    const auto out = exported();
    ASSERT_EQ(out.status, 0) << out.output;
    const auto in = imported(file_);
    ASSERT_EQ(in.status, 0) << in.output;
    at_ = &to_;
  }
  std::string tenants(const Installation& installation) const {
    return installation.one("SELECT count(*) FROM tenant");
  }
  std::string released(const std::string& user) {
    const auto reply = tenant_->release(tenant_->user_token(user), {{{"backend", "github"}}});
    if (reply.status != 200) return "status " + std::to_string(reply.status);
    return item_of(reply).value("env", Json::object()).value("GITHUB_TOKEN", item_of(reply).dump());
  }
  WireReply vault(const std::string& token, const std::string& path, const Json& body) {
    return tenant_->ask("POST", "/t/acme/v1/" + path,
                        {{"X-Vault-Token", token}, {"Content-Type", "application/json"}},
                        body.dump());
  }
  std::string client_session() {
    const auto reply =
        vault("", "auth/approle/login", {{"role_id", "gw-01"}, {"secret_id", tenant_->secret}});
    return json_of(reply).at("auth").at("client_token");
  }

  TempDirectory files_;
  Installation from_, to_;
  const Installation* at_ = nullptr;  ///< where the tenant's calls go
  std::optional<TestTenant> tenant_;
  const fs::path file_ = files_.path() / "acme.archive";
  fs::path passphrase_ = files_.path() / "passphrase";
  int runs_ = 0;
};

TEST_F(TenantArchive, WhatATenantHasIsInTheOtherInstallation) {
  const std::string value(kCanary);
  const auto alice = tenant_->user_token("alice");
  for (int version = 1; version <= 3; ++version) {
    const auto number = std::to_string(version);
    const Json body{{"fields", {{"token", value + '-' + number}}},
                    {"version_metadata", {{"ticket", "OPS-" + number}}}};
    ASSERT_LT(tenant_->api("PUT", "/credentials/github", alice, body).status, 300);
  }
  tenant_->store("bob", "github", {{"token", value + "-bob"}});
  ASSERT_THAT(tenant_->api("POST", "/credentials/github/versions/1/destroy", alice),
              HasStatus(200));
  ASSERT_THAT(tenant_->api("DELETE", "/credentials/github/versions/2", alice), HasStatus(200));
  tenant_->store("carol", "github", {{"token", value + "-carol"}});
  const Json typed{{"type", "api_key"},
                   {"fields", {{"api_key", value + "-key"}, {"username", "reports"}}},
                   {"description", "of the reports"},
                   {"labels", {{"team", "data"}, {"env", "prod"}}},
                   {"metadata", {{"cost", "7"}}},
                   {"expires_at", "2099-01-02T03:04:05Z"},
                   {"rotation_due_at", "2098-01-02T03:04:05Z"},
                   {"max_versions", 3},
                   {"cas_required", true},
                   {"version_metadata", {{"ticket", "OPS-9"}}}};
  ASSERT_THAT(tenant_->api("PUT", "/credentials/reports", tenant_->admin, typed), HasStatus(201));
  const Json emergency{{"principal", {{"issuer", tenant_->idp.issuer()}, {"subject", "carol"}}},
                       {"since", "2020-01-01T00:00:00Z"},
                       {"action", "disable"},
                       {"reason", "a drill"}};
  ASSERT_THAT(tenant_->api("POST", "/emergency", tenant_->admin, emergency), HasStatus(200));
  const auto versions = json_of(tenant_->api("GET", "/credentials/github/versions", alice));
  for (const int at : {0, 2}) {
    EXPECT_EQ(versions.at("items").at(at).at("metadata").at("ticket"),
              "OPS-" + std::to_string(at + 1));
  }
  const auto reports = [&] {
    return json_of(tenant_->api("GET", "/credentials/reports/versions", tenant_->admin));
  };
  const auto versions_of_reports = reports();
  const auto listed = json_of(tenant_->api("GET", "/credentials", tenant_->admin));
  const auto is_typed = [&](const Json& item) {
    return item.value("labels", Json()) == typed.at("labels") && item.at("cas_required") == true;
  };
  const auto& items = listed.at("items");
  ASSERT_EQ(std::count_if(items.begin(), items.end(), is_typed), 1);
  tenant_->manifest["settings"]["vault_api"] = {
      {"clients", {"gw-01"}},
      {"transit",
       {{"rules",
         {{{"clients", {"gw-01"}}, {"keys", {"*"}}, {"operations", {"encrypt", "decrypt"}}}}}}}};
  ASSERT_THAT(tenant_->apply(), HasStatus(200));
  ASSERT_THAT(vault(tenant_->admin, "transit/keys/orders", Json::object()), HasStatus(200));
  const auto session = client_session();
  const auto encrypted = [&](const std::string& with) {
    const auto reply = vault(with, "transit/encrypt/orders", {{"plaintext", "dGV4dA=="}});
    return json_of(reply).at("data").at("ciphertext").get<std::string>();
  };
  const auto first = encrypted(session);
  ASSERT_THAT(vault(tenant_->admin, "transit/keys/orders/rotate", Json::object()), HasStatus(200));
  const auto second = encrypted(session);

  move();
  EXPECT_THAT(read_text(file_), AllOf(Not(HasSubstr(kCanary)), Not(HasSubstr("alice"))));
  struct stat info {};
  ASSERT_EQ(::stat(file_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);

  // Before anything is released here, which is written down as its last use.
  EXPECT_EQ(json_of(tenant_->api("GET", "/credentials/github/versions", alice)), versions);
  EXPECT_EQ(reports(), versions_of_reports);
  EXPECT_EQ(json_of(tenant_->api("GET", "/credentials", tenant_->admin)).at("items"),
            listed.at("items"));
  EXPECT_EQ(released("alice"), value + "-3");
  EXPECT_EQ(released("bob"), value + "-bob");
  ASSERT_THAT(tenant_->api("POST", "/credentials/github/versions/2/undelete", alice),
              HasStatus(200));
  const auto carol = tenant_->user_token("carol");
  EXPECT_EQ(json_of(tenant_->api("GET", "/credentials/github/versions", carol))
                .at("items")
                .at(0)
                .at("withdrawn"),
            true);
  EXPECT_THAT(tenant_->api("POST", "/credentials/github/versions/1/undelete", carol),
              HasStatus(403));
  tenant_->store("alice", "github", {{"token", value + "-4"}});
  EXPECT_EQ(released("alice"), value + "-4");
  EXPECT_EQ(json_of(tenant_->api("GET", "/credentials/github", alice)).at("version"), 4);

  const auto exchanged = tenant_->exchange(tenant_->user_token("alice"), "files");
  ASSERT_THAT(exchanged, HasStatus(200));
  const auto jwks = json_of(tenant_->ask("GET", "/t/acme/jwks"));
  const auto token = json_of(exchanged).at("access_token").get<std::string>();
  EXPECT_EQ(verified_claims(token, jwks).at("client_id"), "gw-01");
  const auto here = client_session();
  for (const auto& ciphertext : {first, second}) {
    EXPECT_EQ(json_of(vault(here, "transit/decrypt/orders", {{"ciphertext", ciphertext}}))
                  .at("data")
                  .at("plaintext"),
              "dGV4dA==");
  }
  EXPECT_THAT(vault(session, "transit/encrypt/orders", {{"plaintext", ""}}), HasStatus(403))
      << "a session of the other installation";
  EXPECT_EQ(to_.one("SELECT count(*) FROM audit_record WHERE tenant_id = 'acme' AND "
                    "body LIKE '%tenant.import%'"),
            "2");
  EXPECT_EQ(from_.one("SELECT count(*) FROM audit_record WHERE tenant_id = 'acme' AND "
                      "body LIKE '%tenant.export%'"),
            "1");
}

TEST_F(TenantArchive, NothingIsStoredOfWhatDoesNotOpen) {
  tenant_->store("alice", "github", {{"token", kCanary}});
  ASSERT_EQ(exported().status, 0);
  const auto whole = read_text(file_);
  const auto altered = files_.path() / "altered";
  auto flipped = whole;
  flipped[whole.size() - 30] = static_cast<char>(flipped[whole.size() - 30] ^ 1);
  for (const auto& content :
       {flipped, whole.substr(0, whole.size() - 1), whole.substr(0, whole.size() / 2), whole + "x",
        std::string("text")}) {
    std::ofstream(altered, std::ios::binary) << content;
    const auto done = imported(altered);
    EXPECT_EQ(done.status, 1);
    EXPECT_THAT(done.output, HasSubstr("archive"));
  }
  EXPECT_EQ(imported(files_.path() / "absent").status, 1);
  passphrase_ = put_secret("other", "another horse battery staple\n");
  EXPECT_THAT(imported(file_).output, HasSubstr("another passphrase"));
  EXPECT_EQ(tenants(to_), "0");
}

TEST_F(TenantArchive, IsImportedOnceAndNeverOverWhatIsThere) {
  tenant_->store("alice", "github", {{"token", kCanary}});
  move();
  tenant_->store("alice", "github", {{"token", "newer"}});
  EXPECT_THAT(imported(file_).output, HasSubstr("there is a tenant acme already"));
  auto done = imported(file_, {"--resume"});
  EXPECT_EQ(done.status, 1);
  EXPECT_THAT(done.output, HasSubstr("is not what an import of this archive left"));
  EXPECT_EQ(released("alice"), "newer");
  ASSERT_THAT(tenant_->ask("DELETE", "/api/v1/tenants/acme?confirm=acme",
                           {{"Authorization", bearer(to_.service.operator_token())}}),
              HasStatus(204));
  done = imported(file_);
  EXPECT_EQ(done.status, 1);
  EXPECT_THAT(done.output, HasSubstr("an id is never used again"));
}

TEST_F(TenantArchive, WhoeverImportsSaysWhatTheTenantMayBe) {
  tenant_->store("alice", "github", {{"token", kCanary}});
  ASSERT_EQ(exported().status, 0);
  auto done = run(to_, {"import", "globex", file_.string()});
  EXPECT_EQ(done.status, 1);
  EXPECT_THAT(done.output, HasSubstr("the archive is of tenant acme, not of globex"));
  tenant_->manifest["guardrails"] = {{"max_token_lifetime", 600}};
  ASSERT_THAT(tenant_->ask("PUT", "/api/v1/tenants/acme/manifest",
                           {{"Authorization", bearer(tenant_->operator_token())},
                            {"Content-Type", "application/json"}},
                           tenant_->manifest.dump()),
              HasStatus(200));
  fs::remove(file_);
  ASSERT_EQ(exported().status, 0);
  done = imported(file_);
  EXPECT_EQ(done.status, 1);
  EXPECT_THAT(done.output,
              AllOf(HasSubstr(R"({"max_token_lifetime":600})"), HasSubstr("--accept-guardrails")));
  EXPECT_EQ(tenants(to_), "0");
  done = imported(file_, {"--accept-guardrails"});
  ASSERT_EQ(done.status, 0) << done.output;
  EXPECT_THAT(done.output, HasSubstr("it is disabled"));
  EXPECT_EQ(to_.one("SELECT enabled FROM tenant"), "f");
}

TEST_F(TenantArchive, AnImportThatWasKilledGoesOn) {
  constexpr int kUsers = 120;
  for (int i = 0; i < kUsers; ++i) {
    tenant_->store("user" + std::to_string(i), "github", {{"token", "v" + std::to_string(i)}});
  }
  ASSERT_EQ(exported().status, 0);
  // It stops for a while before anything is stored, and then before the last ones.
  const auto stored = [&] { return std::stoi(to_.one("SELECT count(*) FROM credential")); };
  for (const auto& [at, expected] : {std::pair("user0", 0), std::pair("user99", 100)}) {
    to_.change(
        "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN "
        "PERFORM pg_sleep(30); RETURN NEW; END $f$");
    to_.change(std::string("CREATE TRIGGER pause BEFORE INSERT ON credential FOR EACH ROW "
                           "WHEN (NEW.owner_subject = '") +
               at + "') EXECUTE FUNCTION pause()");
    std::vector<std::string> arguments{"import", "acme", file_.string(), "--enable"};
    if (tenants(to_) != "0") arguments.emplace_back("--resume");
    auto process = begin(to_, arguments);
    eventually([&, n = expected] { return tenants(to_) == "1" && stored() == n; }, "half of it");
    process->signal(SIGKILL);
    EXPECT_EQ(process->wait(), -SIGKILL);
    to_.change(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'posternd-archive'");
    to_.change("DROP FUNCTION pause CASCADE");
    EXPECT_EQ(stored(), expected);
    EXPECT_EQ(to_.one("SELECT enabled FROM tenant"), "f");
  }
  // Another export is another archive, though it has the same in it.
  const auto other = files_.path() / "other.archive";
  ASSERT_EQ(run(from_, {"export", "acme", other.string()}).status, 0);
  EXPECT_THAT(imported(other, {"--resume"}).output,
              HasSubstr("is not what an import of this archive left"));
  const auto done = imported(file_, {"--resume", "--enable"});
  ASSERT_EQ(done.status, 0) << done.output;
  at_ = &to_;
  for (int i = 0; i < kUsers; ++i) {
    EXPECT_EQ(released("user" + std::to_string(i)), "v" + std::to_string(i));
  }
  EXPECT_EQ(json_of(tenant_->api("GET", "/audit/verification", tenant_->admin)).at("intact"), true);
}

TEST_F(TenantArchive, WhatCannotBeExportedLeavesNoFile) {
  EXPECT_THAT(run(from_, {"export", "nobody", file_.string()}).output, HasSubstr("no such tenant"));
  EXPECT_FALSE(fs::exists(file_));
  passphrase_ = put_secret("short", "fifteen bytes..\n");
  EXPECT_THAT(exported().output, HasSubstr("16 bytes at least"));
  EXPECT_FALSE(fs::exists(file_));
  passphrase_ = put_secret("passphrase", "correct horse battery staple\n");
  ::chmod(passphrase_.c_str(), 0644);
  EXPECT_EQ(exported().status, 1);
  EXPECT_FALSE(fs::exists(file_));
  ::chmod(passphrase_.c_str(), 0600);
  std::ofstream(file_) << "mine";
  EXPECT_EQ(exported().status, 1);
  EXPECT_EQ(read_text(file_), "mine");
  fs::remove(file_);
  ASSERT_THAT(tenant_->api("PUT", "/key-holder", tenant_->admin, {{"share", std::string(43, 'A')}}),
              HasStatus(200));
  const auto done = exported();
  EXPECT_EQ(done.status, 1);
  EXPECT_THAT(done.output, HasSubstr("sealed with its key holder's share"));
  EXPECT_FALSE(fs::exists(file_));
}

}  // namespace
}  // namespace postern::test
