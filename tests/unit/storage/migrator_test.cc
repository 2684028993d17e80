#include "storage/migrator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <thread>
#include <vector>

#include "storage/embedded_migrations.h"
#include "support/code_of.h"
#include "support/postgres_fixture.h"

namespace postern::storage {
namespace {

using test::code_of;
using test::empty_database;
using test::shared_postgres;

SchemaState state(const std::string& conninfo) {
  const auto found = schema_state(conninfo);
  EXPECT_TRUE(found.ok());
  return found.ok() ? found.value() : SchemaState{};
}

void run(const std::string& conninfo, const std::string& sql) {
  pqxx::connection connection(conninfo);
  pqxx::nontransaction tx(connection);
  tx.exec(sql);
}

std::string one(const std::string& conninfo, const std::string& sql) {
  pqxx::connection connection(conninfo);
  pqxx::nontransaction tx(connection);
  return tx.exec(sql)[0][0].c_str();
}

int known() { return static_cast<int>(embedded_migrations().size()); }

TEST(Migrations, AreNumberedWithoutGaps) {
  ASSERT_GT(known(), 0);
  for (int i = 0; i < known(); ++i) {
    const auto& name = embedded_migrations()[static_cast<std::size_t>(i)].name;
    EXPECT_EQ(std::atoi(name.substr(0, 4).c_str()), i + 1) << name;
    EXPECT_EQ(name.at(4), '_') << name;
  }
}

TEST(Migrator, BringsAnEmptyDatabaseUpToDate) {
  const auto name = empty_database();
  const auto owner = shared_postgres().owner_conninfo(name);
  EXPECT_EQ(state(owner).status, SchemaStatus::Missing);
  ASSERT_TRUE(migrate(owner).ok());
  EXPECT_EQ(state(owner).status, SchemaStatus::Current);
  EXPECT_EQ(state(owner).applied, known());
  EXPECT_EQ(state(shared_postgres().service_conninfo(name)).status, SchemaStatus::Current);
}

TEST(Migrator, DoesNothingTheSecondTime) {
  const test::PostgresDatabase database;
  const auto applied = [&] {
    return one(database.owner(), "SELECT max(applied_at) FROM postern.schema_migration");
  };
  const auto before = applied();
  ASSERT_TRUE(migrate(database.owner()).ok());
  EXPECT_EQ(applied(), before);
}

TEST(Migrator, SeveralAtOnceApplyEachMigrationOnce) {
  const auto owner = shared_postgres().owner_conninfo(empty_database());
  std::array<std::optional<ErrorCode>, 4> failures;
  std::vector<std::thread> threads;
  for (auto& failure : failures) {
    threads.emplace_back([&] { failure = code_of(migrate(owner)); });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(failures, testing::Each(std::nullopt));
  EXPECT_EQ(one(owner, "SELECT count(*) FROM postern.schema_migration"), std::to_string(known()));
}

TEST(Migrator, RefusesASchemaWhoseMigrationsWereOthers) {
  const test::PostgresDatabase database;
  run(database.owner(),
      "UPDATE postern.schema_migration SET checksum = decode(repeat('00', 32), 'hex')"
      " WHERE version = 1");
  EXPECT_EQ(state(database.service()).status, SchemaStatus::Altered);
  EXPECT_EQ(code_of(migrate(database.owner())), ErrorCode::Conflict);
}

TEST(Migrator, RefusesAHistoryWithAGap) {
  const test::PostgresDatabase database;
  run(database.owner(), "DELETE FROM postern.schema_migration WHERE version = 1");
  EXPECT_EQ(state(database.service()).status, SchemaStatus::Altered);
  EXPECT_EQ(code_of(migrate(database.owner())), ErrorCode::Conflict);
}

TEST(Migrator, RefusesASchemaOfALaterRelease) {
  const test::PostgresDatabase database;
  run(database.owner(), "INSERT INTO postern.schema_migration VALUES (" +
                            std::to_string(known() + 1) + ", 'later', '\\x00')");
  EXPECT_EQ(state(database.service()).status, SchemaStatus::Newer);
  EXPECT_EQ(state(database.service()).applied, known() + 1);
  EXPECT_EQ(code_of(migrate(database.owner())), ErrorCode::Conflict);
}

TEST(Migrator, SaysWhenMigrationsAreMissing) {
  const test::PostgresDatabase database;
  run(database.owner(),
      "DELETE FROM postern.schema_migration WHERE version = " + std::to_string(known()));
  EXPECT_EQ(state(database.service()).status, SchemaStatus::Older);
}

TEST(Migrator, AFailedMigrationChangesNothing) {
  const auto owner = shared_postgres().owner_conninfo(empty_database());
  run(owner, "CREATE SCHEMA postern; CREATE TABLE postern.audit_head (in_the_way integer)");
  const auto status = migrate(owner);
  ASSERT_EQ(code_of(status), ErrorCode::Internal);
  EXPECT_EQ(status.error().diagnostic, "migration 0003_audit 42P07");
  EXPECT_EQ(state(owner).status, SchemaStatus::Missing);
  EXPECT_EQ(one(owner, "SELECT to_regclass('postern.tenant') IS NULL"), "t");
}

TEST(Migrator, OnlyTheOwnerMigrates) {
  const auto name = empty_database();
  EXPECT_FALSE(migrate(shared_postgres().service_conninfo(name)).ok());
  EXPECT_EQ(state(shared_postgres().owner_conninfo(name)).status, SchemaStatus::Missing);
}

TEST(Migrator, SaysWhenThereIsNoDatabase) {
  EXPECT_EQ(code_of(schema_state("host=/nonexistent user=x")), ErrorCode::Unavailable);
  EXPECT_EQ(code_of(migrate("host=/nonexistent user=x")), ErrorCode::Unavailable);
}

// ---- bootstrap ----

BootstrapOptions bootstrapping(const std::string& database) {
  BootstrapOptions options;
  options.superuser_conninfo = shared_postgres().superuser_conninfo();
  options.database = database;
  return options;  // without passwords: those of the shared roles stay
}

TEST(Bootstrap, MakesADatabaseThatCanBeMigrated) {
  ASSERT_TRUE(bootstrap(bootstrapping("boot")).ok());
  ASSERT_TRUE(bootstrap(bootstrapping("boot")).ok()) << "and again";
  EXPECT_TRUE(migrate(shared_postgres().owner_conninfo("boot")).ok());
  EXPECT_EQ(one(shared_postgres().service_conninfo("boot"),
                "SELECT has_database_privilege('public', 'boot', 'CONNECT')"),
            "f");
}

TEST(Bootstrap, SeveralAtOnceDoNotMind) {
  std::array<std::optional<ErrorCode>, 3> failures;
  std::vector<std::thread> threads;
  for (auto& failure : failures) {
    threads.emplace_back([&] { failure = code_of(bootstrap(bootstrapping("boot_at_once"))); });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(failures, testing::Each(std::nullopt));
}

TEST(Bootstrap, SetsPasswordsThatTheServerNeverSees) {
  auto options = bootstrapping("boot_password");
  const auto superuser = shared_postgres().superuser_conninfo();
  // A password of its own for the auditor, and back.
  const auto before =
      one(superuser, "SELECT rolpassword FROM pg_authid WHERE rolname = 'postern_auditor'");
  options.auditor_password = "another-Password_1";
  ASSERT_TRUE(bootstrap(options).ok());
  auto conninfo = shared_postgres().auditor_conninfo("boot_password");
  conninfo.replace(conninfo.find("password="), std::string::npos,
                   "password=" + options.auditor_password);
  EXPECT_EQ(one(conninfo, "SELECT current_user"), "postern_auditor");
  run(superuser, "ALTER ROLE postern_auditor PASSWORD '" + before + "'");
}

TEST(Bootstrap, RefusesRolesThatCouldBypassRowSecurity) {
  const auto superuser = shared_postgres().superuser_conninfo();
  run(superuser, "ALTER ROLE postern_auditor BYPASSRLS");
  EXPECT_EQ(code_of(bootstrap(bootstrapping("boot_bypass"))), ErrorCode::Conflict);
  run(superuser, "ALTER ROLE postern_auditor NOBYPASSRLS");
  EXPECT_TRUE(bootstrap(bootstrapping("boot_bypass")).ok());
}

TEST(Bootstrap, RefusesOddNamesAndPasswords) {
  for (const std::string name : {"", "Postern", "a-b", "x; DROP DATABASE postgres", "1a", "a\"b"}) {
    EXPECT_EQ(code_of(bootstrap(bootstrapping(name))), ErrorCode::MalformedRequest) << name;
  }
  auto options = bootstrapping("fine");
  options.service_password = "with blank";
  EXPECT_EQ(code_of(bootstrap(options)), ErrorCode::MalformedRequest);
}

}  // namespace
}  // namespace postern::storage
