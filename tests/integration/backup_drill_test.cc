// `posternd restore --drill`: a backup in which everything opens is proven, and one
// in which anything does not is not; nothing of it is left behind.

#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <utility>
#include <vector>

#include "storage/embedded_migrations.h"
#include "support/finished.h"
#include "support/postgres_tools.h"
#include "support/service_fixture.h"
#include "vault/root_key.h"

namespace postern::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kCanary = "canary-9f3b";

class BackupDrill : public ::testing::Test {
 protected:
  BackupDrill() {
    service_.start();
    tenant_.emplace(service_.endpoint(), "acme");
    other_.emplace(service_.endpoint(), "globex");
    for (const char* user : {"alice", "bob"}) {
      tenant_->store(user, "github", {{"token", std::string(kCanary) + user}});
    }
    tenant_->store("alice", "github", {{"token", kCanary}});
    fs::create_directory(scratch());
    fs::permissions(scratch(), fs::perms(0711));
  }

  fs::path scratch() const { return directory_.path() / "scratch"; }
  std::unique_ptr<Process> begin(std::vector<std::string> options) {
    std::vector<std::string> command{program("posternd"), "restore", "-c",
                                     (directory_.path() / "posternd.toml").string()};
    command.insert(command.end(), options.begin(), options.end());
    const auto output = directory_.path() / ("drill." + std::to_string(++runs_) + ".log");
    return std::make_unique<Process>(command, Pairs{}, output);
  }
  Finished run(std::vector<std::string> options) {
    auto process = begin(std::move(options));
    auto done = Finished::wait_for(*process);
    EXPECT_THAT(done.output, Not(HasSubstr(kCanary)));
    return done;
  }
  Finished drill() { return run({"--drill"}); }
  Finished drill(const fs::path& dump) {
    auto done = run({"--drill", "--dump", dump.string(), "--directory", scratch().string()});
    EXPECT_TRUE(fs::is_empty(scratch()));
    return done;
  }
  fs::path dump(const std::string& format = "custom") {
    return dump_of(database_.superuser(), format);
  }
  fs::path dump_of(const std::string& database, const std::string& format = "custom") {
    const auto file = directory_.path() / ("dump." + std::to_string(++runs_));
    Process process({postgres_tool("pg_dump"), "--format=" + format, "--file=" + file.string(),
                     "--dbname=" + database},
                    {}, directory_.path() / "dump.log");
    EXPECT_EQ(process.wait(), 0) << read_text(directory_.path() / "dump.log");
    return file;
  }
  void change(const std::string& sql) {
    pqxx::connection connection(database_.superuser());
    pqxx::nontransaction tx(connection);
    tx.exec("SET search_path = postern");
    tx.exec("SET session_replication_role = replica");  // past the triggers
    tx.exec(sql);
  }
  std::string root_key() const { return (directory_.path() / "keys/root.key").string(); }

  TempDirectory directory_;
  PostgresDatabase database_;
  ServiceProcess service_{directory_.path(), database_.service()};
  std::optional<TestTenant> tenant_, other_;
  int runs_ = 0;
};

TEST_F(BackupDrill, ProvesTheDatabaseThereIsAndChangesNothing) {
  const auto records = tenant_->verification().at("records");
  const auto done = run({"--drill", "--json"});
  ASSERT_EQ(done.status, 0) << done.output;
  const auto found = token::parse_json(done.last_line()).value();
  EXPECT_EQ(found.at("proven"), true);
  ASSERT_EQ(found.at("tenants").size(), 2u);
  const auto& acme = found.at("tenants")[0];
  EXPECT_EQ(acme.at("tenant"), "acme");
  EXPECT_EQ(acme.at("credential_versions"), 3);
  EXPECT_EQ(acme.at("keks"), 1);
  EXPECT_GE(acme.at("signing_keys").get<int>(), 1);
  EXPECT_EQ(acme.at("problems"), Json::array());
  // The question before was recorded too; the drill was not.
  EXPECT_EQ(tenant_->verification().at("records"), records.get<int>() + 1);
}

TEST_F(BackupDrill, ProvesADumpAndLeavesNothingOfIt) {
  for (const char* format : {"custom", "directory", "tar"}) {
    const auto done = drill(dump(format));
    EXPECT_EQ(done.status, 0) << format << done.output;
    EXPECT_THAT(done.output, HasSubstr("proven: 3 credential versions of 2 tenants open"));
    EXPECT_THAT(done.output, HasSubstr("acme  3 credential versions, "));
  }
}

TEST_F(BackupDrill, WhatWasDeletedOpensAndWhatWasDestroyedIsGone) {
  const auto alice = tenant_->user_token("alice");
  ASSERT_THAT(tenant_->api("DELETE", "/credentials/github/versions/1", alice), HasStatus(200));
  EXPECT_THAT(drill().output, HasSubstr("proven: 3 credential versions"));
  ASSERT_THAT(tenant_->api("POST", "/credentials/github/versions/1/destroy", alice),
              HasStatus(200));
  EXPECT_THAT(drill().output, HasSubstr("proven: 2 credential versions"));
}

TEST_F(BackupDrill, NamesWhatDoesNotOpen) {
  change(
      "UPDATE credential_version SET sealed = set_byte(sealed, 90, get_byte(sealed, 90) # 1) "
      "WHERE owner_subject = 'bob'");
  const auto file = dump();
  for (const auto& done : {drill(), drill(file)}) {
    EXPECT_EQ(done.status, 1) << done.output;
    EXPECT_THAT(done.output,
                AllOf(HasSubstr("credential github version 1 of a principal: does not open"),
                      HasSubstr("not proven: 1 problem in 2 tenants"), Not(HasSubstr("bob"))));
  }
}

TEST_F(BackupDrill, NamesWhatIsMissingAndGoesOn) {
  change("DELETE FROM credential_version WHERE owner_subject = 'bob'");
  const auto done = drill();
  EXPECT_EQ(done.status, 1) << done.output;
  EXPECT_THAT(done.output,
              AllOf(HasSubstr("the current version of 1 credential: missing"),
                    HasSubstr("acme  2 credential versions"), HasSubstr("globex  0 ")));
  change("INSERT INTO transit_key VALUES ('acme', 'lost', 'k1', 'ed25519', false, false, 1)");
  EXPECT_THAT(drill().output,
              AllOf(HasSubstr("transit key lost: does not open"), HasSubstr("globex  0 ")));
  change("DELETE FROM transit_key");
  change("DELETE FROM signing_key WHERE tenant_id = 'globex'");
  EXPECT_THAT(drill().output, AllOf(HasSubstr("globex  0 credential versions, 0 signing keys"),
                                    HasSubstr("no signing key that is active"),
                                    HasSubstr("not proven: 2 problems in 2 tenants")));
}

TEST_F(BackupDrill, NoticesARecordThatWasAltered) {
  change(
      "UPDATE audit_record SET body = replace(body, 'alice', 'mallory') WHERE tenant_id = 'acme'");
  const auto done = drill();
  EXPECT_EQ(done.status, 1) << done.output;
  EXPECT_THAT(done.output, HasSubstr("the audit chain: "));
}

TEST_F(BackupDrill, WithoutTheRightRootKeyNothingIsProven) {
  const auto file = dump();
  const auto right = read_text(root_key());
  service_.stop();
  fs::remove(root_key());
  auto done = drill(file);
  EXPECT_EQ(done.status, 1);
  EXPECT_THAT(done.output, HasSubstr("root.key"));
  ASSERT_TRUE(vault::RootKeys::create(root_key()).ok());
  done = drill(file);
  EXPECT_EQ(done.status, 1);
  EXPECT_THAT(done.output, AllOf(HasSubstr("KEK 1 under root key " + right.substr(20, 16) +
                                           ": its root key is not here"),
                                 HasSubstr("not proven: ")));
}

TEST_F(BackupDrill, ATenantThatIsSealedIsNamed) {
  const std::string share(43, 'A');
  const auto held = tenant_->api("PUT", "/key-holder", tenant_->admin, {{"share", share}});
  ASSERT_THAT(held, HasStatus(200));
  const auto done = drill();
  EXPECT_EQ(done.status, 0) << done.output;
  EXPECT_THAT(done.output, AllOf(HasSubstr(", sealed by its key holder"),
                                 HasSubstr("1 tenant sealed: "), HasSubstr("globex  0 ")));
}

TEST_F(BackupDrill, AnArchiveThatIsNoneProvesNothing) {
  const auto whole = read_text(dump());
  const auto cut = directory_.path() / "cut";
  std::ofstream(cut) << whole.substr(0, whole.size() / 2);
  const auto text = directory_.path() / "text";
  std::ofstream(text) << "DROP DATABASE postern;\n";
  for (const auto& file : {cut, text, dump("plain"), directory_.path() / "absent"}) {
    const auto done = drill(file);
    EXPECT_EQ(done.status, 1) << file;
    EXPECT_THAT(done.output, HasSubstr("posternd: ")) << file;
    EXPECT_THAT(done.output, Not(testing::ContainsRegex("(^|\n)proven:"))) << file;
  }
  EXPECT_THAT(drill(cut).output, HasSubstr("not proven: the drill did not come to its end"));
  const auto as_json = run({"--drill", "--json", "--dump", cut.string()});
  EXPECT_EQ(as_json.status, 1);
  EXPECT_THAT(as_json.output, HasSubstr(R"({"proven":false,"tenants":[]})"));
  EXPECT_EQ(run({}).status, 2) << "it does no other";
  EXPECT_EQ(run({"--drill", "--directory", scratch().string()}).status, 2);
  EXPECT_EQ(run({"--drill", "--dump", cut.string(), "--directory", "/nowhere"}).status, 1);
}

// ---- with a share store ----

class BackupDrillWithShares : public BackupDrill {
 protected:
  BackupDrillWithShares() {
    service_.stop();
    std::ofstream(directory_.path() / "posternd.toml", std::ios::app)
        << "share_store.url = \"" << shares_.service() << "\"\n";
    service_.start();
    for (const char* user : {"carol", "dave"}) {
      tenant_->store(user, "github", {{"token", std::string(kCanary) + user}});
    }
  }
  fs::path url_file(const std::string& url) {
    const auto file = directory_.path() / "shares.url";
    std::ofstream(file) << url << '\n';
    fs::permissions(file, fs::perms(0600));
    return file;
  }
  Finished drill_with(const fs::path& dump, std::vector<std::string> options) {
    options.insert(options.begin(), {"--drill", "--dump", dump.string()});
    return run(std::move(options));
  }

  ShareDatabase shares_;
};

TEST_F(BackupDrillWithShares, WhatTakesASharesOpensWithTheShareStore) {
  const auto file = dump();
  const auto done = drill(file);
  EXPECT_EQ(done.status, 0) << done.output;
  EXPECT_THAT(done.output, HasSubstr("proven: 5 credential versions"));
  const auto away = drill_with(
      file, {"--share-store-url-file", url_file(shares_.service() + " port=1").string()});
  EXPECT_EQ(away.status, 1) << away.output;
  EXPECT_THAT(away.output, AllOf(HasSubstr("the share store is not there to be asked"),
                                 HasSubstr("not proven: 2 problems in 2 tenants")));
}

TEST_F(BackupDrillWithShares, WhatWasErasedAfterTheBackupIsCountedAndHasToBeAccepted) {
  const auto file = dump();
  ASSERT_THAT(tenant_->api("POST", "/principals/erase", tenant_->admin,
                           {{"issuer", tenant_->idp.issuer()}, {"subject", "carol"}}),
              HasStatus(200));
  const auto done = drill(file);
  EXPECT_EQ(done.status, 1) << done.output;
  EXPECT_THAT(done.output, AllOf(HasSubstr("1 without a share: it was destroyed"),
                                 HasSubstr("--accept-erased"), HasSubstr("not proven: ")));
  const auto accepted = drill_with(file, {"--accept-erased"});
  EXPECT_EQ(accepted.status, 0) << accepted.output;
  EXPECT_THAT(accepted.output, HasSubstr("proven: 4 credential versions"));
}

TEST_F(BackupDrill, AnEmptyDatabaseProvesNothing) {
  for (const auto* tenant : {"acme", "globex"}) {
    EXPECT_THAT(
        tenant_->ask("DELETE", std::string("/api/v1/tenants/") + tenant + "?confirm=" + tenant,
                     {{"Authorization", bearer(tenant_->operator_token())}}),
        HasStatus(204));
  }
  const auto done = drill();
  EXPECT_EQ(done.status, 1);
  EXPECT_THAT(done.output, HasSubstr("not proven: there is no tenant in it"));
}

TEST_F(BackupDrill, ABackupOfTheReleaseBeforeIsBroughtUpToDate) {
  const auto name = empty_database();
  const auto& migrations = storage::embedded_migrations();
  {
    pqxx::connection connection(shared_postgres().owner_conninfo(name));
    pqxx::work tx(connection);
    tx.exec(
        "CREATE SCHEMA postern; SET LOCAL search_path = postern; "
        "CREATE TABLE schema_migration (version integer PRIMARY KEY, name text NOT NULL, "
        "checksum bytea NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())");
    for (std::size_t i = 0; i + 1 < migrations.size(); ++i) {
      tx.exec(migrations[i].sql);
      // Quoted, as the releases of libpqxx differ in how a statement takes parameters.
      tx.exec("INSERT INTO schema_migration (version, name, checksum) VALUES (" +
              std::to_string(i + 1) + ", " + tx.quote(migrations[i].name) + ", sha256(convert_to(" +
              tx.quote(migrations[i].sql) + ", 'UTF8')))");
    }
    tx.commit();
  }
  const auto done = drill(dump_of(shared_postgres().superuser_conninfo(name)));
  EXPECT_THAT(done.output,
              AllOf(HasSubstr("not proven: there is no tenant in it"), Not(HasSubstr("schema"))));
}

TEST_F(BackupDrill, AnArchiveIsAProgramThatMayDoNothing) {
  const auto touched = directory_.path() / "touched";
  fs::permissions(directory_.path(), fs::perms(0777));
  change(
      "CREATE FUNCTION outside() RETURNS integer LANGUAGE plpgsql AS $f$ BEGIN "
      "COPY (SELECT 1) TO PROGRAM 'cat > " +
      touched.string() + "; true'; RETURN 1; END $f$");
  change("CREATE MATERIALIZED VIEW hostile AS SELECT outside()");
  ASSERT_TRUE(fs::remove(touched)) << "as a superuser it does";
  const auto done = drill(dump());
  EXPECT_EQ(done.status, 1);
  EXPECT_THAT(done.output, HasSubstr("pg_restore failed: "));
  EXPECT_FALSE(fs::exists(touched));
}

TEST_F(BackupDrill, EndedHalfwayItLeavesNothing) {
  const auto file = dump();
  for (const int number : {SIGTERM, SIGINT, SIGQUIT}) {
    auto process = begin({"--drill", "--dump", file.string(), "--directory", scratch().string()});
    eventually([&] { return !fs::is_empty(scratch()); }, "it has begun");
    process->signal(number);
    EXPECT_EQ(process->wait(), 1);
    EXPECT_TRUE(fs::is_empty(scratch()));
  }
}

}  // namespace
}  // namespace postern::test
