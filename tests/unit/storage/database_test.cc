#include "storage/database.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "storage/session.h"
#include "support/code_of.h"
#include "support/postgres_fixture.h"

namespace postern::storage {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using testing::HasSubstr;
using testing::Not;

constexpr Statement kOne{"test.one", "SELECT 1"};
constexpr Statement kEcho{"test.echo", "SELECT $1::text, $2::bytea, $3::bigint"};

class DatabaseTest : public ::testing::Test {
 protected:
  void as_superuser(const std::string& sql) {
    pqxx::connection connection(test::shared_postgres().superuser_conninfo());
    pqxx::nontransaction tx(connection);
    tx.exec(sql);
  }
  void end_sessions() {
    as_superuser("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '" +
                 postgres_.name() + "'");
  }

  /// What named() makes of a statement that fails.
  static Error error_of(Database& database, const std::string& sql) {
    const auto status = named("test.statement", database.pool(), [&](Session& session) -> Status {
      pqxx::work tx(session.link());
      tx.exec(sql);
      tx.commit();
      return {};
    });
    EXPECT_FALSE(status.ok()) << sql;
    return status.ok() ? Error{} : status.error();
  }

  test::PostgresDatabase postgres_;
};

// ---- the pool ----

TEST_F(DatabaseTest, OpensConnectionsOnlyWhenNeeded) {
  Database database(postgres_.options());
  EXPECT_EQ(database.stats().open, 0U);
  ASSERT_TRUE(database.ping().ok());
  ASSERT_TRUE(database.ping().ok());
  EXPECT_EQ(database.stats().open, 1U);
  EXPECT_EQ(database.stats().busy, 0U);
  EXPECT_EQ(database.stats().connects, 1U);
  EXPECT_EQ(database.stats().queries, 2U);
}

TEST_F(DatabaseTest, NeverOpensMoreThanAllowed) {
  auto options = postgres_.options();
  options.max_connections = 2;
  options.checkout_timeout = 20ms;
  Database database(options);
  auto first = database.pool().checkout();
  auto second = database.pool().checkout();
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(database.stats().busy, 2U);

  EXPECT_EQ(code_of(database.ping()), ErrorCode::Unavailable);
  EXPECT_EQ(database.stats().checkout_timeouts, 1U);
  { const auto returned = std::move(second).value(); }
  EXPECT_TRUE(database.ping().ok());
  EXPECT_EQ(database.stats().open, 2U);
}

TEST_F(DatabaseTest, AWaiterGetsTheConnectionThatIsReturned) {
  auto options = postgres_.options();
  options.max_connections = 1;
  options.checkout_timeout = 30s;
  Database database(options);
  std::optional<Result<Session>> held(database.pool().checkout());
  ASSERT_TRUE(held->ok());
  Status status = fail(ErrorCode::Internal, "");
  std::thread waiter([&] { status = database.ping(); });
  held.reset();
  waiter.join();
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(database.stats().connects, 1U);
}

TEST_F(DatabaseTest, ReplacesConnectionsThatEndedWhileIdleUnnoticed) {
  Database database(postgres_.options());
  ASSERT_TRUE(database.ping().ok());
  end_sessions();
  EXPECT_TRUE(database.ping().ok()) << "the caller must not notice";
  EXPECT_EQ(database.stats().connects, 2U);
  EXPECT_EQ(database.stats().open, 1U);
}

TEST_F(DatabaseTest, AConnectionLostInTheMiddleIsUnavailableAndNotReused) {
  Database database(postgres_.options());
  const auto status = named("test.lost", database.pool(), [&](Session& session) -> Status {
    pqxx::work tx(session.link());
    session.run(tx, kOne);
    end_sessions();
    session.run(tx, kOne);
    tx.commit();
    return {};
  });
  EXPECT_EQ(code_of(status), ErrorCode::Unavailable);
  EXPECT_EQ(database.stats().open, 0U);
  EXPECT_TRUE(database.ping().ok());
}

TEST_F(DatabaseTest, ReturnsByItselfWhenTheServerDoes) {
  auto options = postgres_.options();
  Database database(options);
  ASSERT_TRUE(database.ping().ok());
  as_superuser("ALTER DATABASE " + postgres_.name() + " ALLOW_CONNECTIONS false");
  end_sessions();
  EXPECT_EQ(code_of(database.ping()), ErrorCode::Unavailable);
  EXPECT_EQ(code_of(database.ping()), ErrorCode::Unavailable);
  EXPECT_GE(database.stats().connect_failures, 1U);
  as_superuser("ALTER DATABASE " + postgres_.name() + " ALLOW_CONNECTIONS true");

  const auto deadline = std::chrono::steady_clock::now() + 10s;
  auto status = database.ping();
  while (!status.ok() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
    status = database.ping();
  }
  EXPECT_TRUE(status.ok());
}

TEST_F(DatabaseTest, DoesNotHammerAServerThatIsAway) {
  auto options = postgres_.options();
  options.conninfo = "host=/nonexistent dbname=x user=y";
  Database database(options);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(code_of(database.ping()), ErrorCode::Unavailable);
  EXPECT_LT(database.stats().connect_failures, 100U);
}

TEST_F(DatabaseTest, AWrongPasswordIsUnavailableAndNotShown) {
  auto options = postgres_.options();
  const auto at = options.conninfo.find("password='") + 10;
  options.conninfo.replace(at, 8, "CANARY42");
  Database database(options);
  const auto status = database.ping();
  ASSERT_EQ(code_of(status), ErrorCode::Unavailable);
  EXPECT_THAT(status.error().detail + status.error().diagnostic, Not(HasSubstr("CANARY42")));
}

TEST_F(DatabaseTest, RefusesAServerThatOnlyReads) {
  as_superuser("ALTER DATABASE " + postgres_.name() + " SET default_transaction_read_only = on");
  Database database(postgres_.options());
  EXPECT_EQ(code_of(database.ping()), ErrorCode::Unavailable);
}

TEST_F(DatabaseTest, SessionsHaveTheirLimits) {
  auto options = postgres_.options();
  options.application_name = "postern-test";
  options.statement_timeout = 1234ms;
  Database database(options);
  const auto shown = [&](const std::string& name) {
    auto session = database.pool().checkout();
    pqxx::nontransaction tx(session.value().link());
    return std::string(tx.exec("SHOW " + name)[0][0].c_str());
  };
  EXPECT_EQ(shown("application_name"), "postern-test");
  EXPECT_EQ(shown("statement_timeout"), "1234ms");
  EXPECT_EQ(shown("lock_timeout"), "2s");
  EXPECT_EQ(shown("idle_in_transaction_session_timeout"), "10s");
  EXPECT_EQ(shown("search_path"), "postern");
  EXPECT_EQ(shown("synchronous_commit"), "on") << "though the server's default here is off";
}

// ---- conninfo ----

TEST(Conninfo, IsCompletedWithoutChangingWhatItSays) {
  DatabaseOptions options;
  options.conninfo = "host=db target_session_attrs=any";
  EXPECT_THAT(complete_conninfo(options), HasSubstr("host=db target_session_attrs=any "));
  EXPECT_THAT(complete_conninfo(options), Not(HasSubstr("read-write")));
  options.conninfo = "postgresql://u:p@db/postern";
  EXPECT_THAT(complete_conninfo(options),
              HasSubstr("postgresql://u:p@db/postern?application_name=postern&"
                        "target_session_attrs=read-write&"));
  options.conninfo = "postgres://db/postern?sslmode=verify-full";
  EXPECT_THAT(complete_conninfo(options), HasSubstr("?sslmode=verify-full&application_name="));
}

// ---- parameters ----

TEST_F(DatabaseTest, ParametersComeBackAsTheyWere) {
  Database database(postgres_.options());
  const auto status = named("test.echo", database.pool(), [&](Session& session) -> Status {
    pqxx::nontransaction tx(session.link());
    const std::string odd = "' \" \\ \xC3\xA9 $1 {}";
    Bytes all(256);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(i);
    const auto row = session.run(tx, kEcho, odd, ByteView(all), std::int64_t{-7})[0];
    EXPECT_EQ(text(row[0]), odd);
    EXPECT_EQ(bytes(row[1]), all);
    EXPECT_EQ(number<std::int64_t>(row[2]), -7);
    const auto empty = session.run(tx, kEcho, "", ByteView(), std::int64_t{0})[0];
    EXPECT_EQ(text(empty[0]), "");
    EXPECT_EQ(bytes(empty[1]), Bytes());
    return {};
  });
  EXPECT_TRUE(status.ok()) << status.error().diagnostic;
}

TEST_F(DatabaseTest, ATextWithANulIsRefusedAndNotCut) {
  Database database(postgres_.options());
  const auto status = named("test.echo", database.pool(), [&](Session& session) -> Status {
    pqxx::nontransaction tx(session.link());
    session.run(tx, kEcho, std::string("alice\0.evil", 11), ByteView(), std::int64_t{0});
    return {};
  });
  EXPECT_EQ(code_of(status), ErrorCode::MalformedRequest);
  EXPECT_EQ(database.stats().open, 1U) << "the connection is as good as before";
  EXPECT_TRUE(database.ping().ok());
}

// ---- what failures mean ----

TEST_F(DatabaseTest, FailuresAreNamedByStatementAndStateOnly) {
  auto options = postgres_.options();
  options.conninfo = postgres_.superuser();
  Database database(options);
  struct Case {
    const char* sql;
    ErrorCode code;
    const char* state;
  };
  const Case cases[] = {
      {"INSERT INTO tenant (tenant_id, display_name) VALUES ('canary', ''), ('canary', '')",
       ErrorCode::Conflict, "23505"},
      {"INSERT INTO kek VALUES ('canary', 1, 'r', '\\x00')", ErrorCode::NotFound, "23503"},
      {"INSERT INTO tenant (tenant_id, display_name) VALUES ('CANARY', '')", ErrorCode::TooLarge,
       "23514"},
      {"SELECT 'canary'::integer", ErrorCode::Internal, "22P02"},
      {"SELECT canary", ErrorCode::Internal, "42703"},
      {"SELECT * FROM canary", ErrorCode::Internal, "42P01"},
      {"SET LOCAL statement_timeout = 10; SELECT pg_sleep(60), 'canary'", ErrorCode::Unavailable,
       "57014"},
      {"DO $$ BEGIN RAISE 'canary' USING ERRCODE = '40001'; END $$", ErrorCode::Unavailable,
       "40001"},
      {"DO $$ BEGIN RAISE 'canary' USING ERRCODE = '40P01'; END $$", ErrorCode::Unavailable,
       "40P01"},
      {"DO $$ BEGIN RAISE 'canary' USING ERRCODE = '53100'; END $$", ErrorCode::Unavailable,
       "53100"},
      {"DO $$ BEGIN RAISE 'canary' USING ERRCODE = '42501'; END $$", ErrorCode::Internal, "42501"},
      {"DO $$ BEGIN RAISE 'canary'; END $$", ErrorCode::Internal, "P0001"},
  };
  for (const auto& one : cases) {
    const auto error = error_of(database, one.sql);
    EXPECT_EQ(error.code, one.code) << one.sql;
    EXPECT_EQ(error.diagnostic, std::string("test.statement ") + one.state);
    EXPECT_THAT(error.detail, Not(testing::ContainsRegex("[Cc][Aa][Nn]|[\"\\\\]"))) << one.sql;
    EXPECT_TRUE(database.ping().ok());
  }
}

TEST_F(DatabaseTest, ALockThatIsHeldTooLongIsUnavailable) {
  auto options = postgres_.options();
  options.conninfo = postgres_.superuser();
  options.lock_timeout = 10ms;
  Database database(options);
  pqxx::connection other(postgres_.superuser());
  pqxx::work holder(other);
  holder.exec("LOCK TABLE postern.tenant");
  const auto error = error_of(database, "SELECT count(*) FROM tenant");
  EXPECT_EQ(error.code, ErrorCode::Unavailable);
  EXPECT_EQ(error.diagnostic, "test.statement 55P03");
}

TEST_F(DatabaseTest, ACommitInDoubtIsUnavailableAndNotTriedAgain) {
  // The session ends while it commits: a deferred trigger sees to that.
  pqxx::connection admin(postgres_.superuser());
  {
    pqxx::nontransaction tx(admin);
    tx.exec(R"sql(
        CREATE TABLE postern.attempt (n serial);
        CREATE FUNCTION postern.end_session() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON postern.attempt
          DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION postern.end_session())sql");
  }
  auto options = postgres_.options();
  options.conninfo = postgres_.superuser();
  Database database(options);
  int runs = 0;
  const auto status = named("test.commit", database.pool(), [&](Session& session) -> Status {
    ++runs;
    pqxx::work tx(session.link());
    tx.exec("INSERT INTO attempt DEFAULT VALUES");
    tx.commit();
    return {};
  });
  EXPECT_EQ(code_of(status), ErrorCode::Unavailable);
  EXPECT_EQ(status.error().diagnostic, "test.commit in doubt");
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(database.stats().open, 0U);
  pqxx::nontransaction tx(admin);
  EXPECT_STREQ(tx.exec("SELECT last_value FROM postern.attempt_n_seq")[0][0].c_str(), "1");
}

TEST_F(DatabaseTest, AStatementPreparedBeforeAMigrationIsPreparedAgain) {
  constexpr Statement kRows{"test.rows", "SELECT * FROM changing"};
  pqxx::connection admin(postgres_.superuser());
  const auto alter = [&](const std::string& sql) {
    pqxx::nontransaction tx(admin);
    tx.exec(sql);
  };
  alter("CREATE TABLE postern.changing (a integer)");
  auto options = postgres_.options();
  options.conninfo = postgres_.superuser();
  Database database(options);
  const auto select = [&] {
    return named("test.rows", database.pool(), [&](Session& session) -> Status {
      pqxx::nontransaction tx(session.link());
      session.run(tx, kRows);
      return {};
    });
  };
  ASSERT_TRUE(select().ok());
  alter("ALTER TABLE postern.changing ADD COLUMN b text");
  EXPECT_EQ(code_of(select()), ErrorCode::Unavailable);
  EXPECT_TRUE(select().ok());
}

// ---- transactions ----

TEST_F(DatabaseTest, ATenantTransactionThatIsNotCommittedLeavesNothing) {
  Database database(postgres_.options());
  constexpr Statement kInsert{"test.insert",
                              "INSERT INTO tenant (tenant_id, display_name) VALUES ($1, '')"};
  const TenantId tenant("acme");
  const auto insert = [&](bool commit) {
    return named("test.insert", database.pool(), [&](Session& session) -> Status {
      TenantTransaction tx(session, tenant);
      tx.run(kInsert, tenant.str());
      if (commit) tx.commit();
      return {};
    });
  };
  EXPECT_TRUE(insert(false).ok());
  EXPECT_TRUE(insert(true).ok());
  EXPECT_EQ(code_of(insert(true)), ErrorCode::Conflict);
}

}  // namespace
}  // namespace postern::storage
