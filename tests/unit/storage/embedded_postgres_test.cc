#include "storage/embedded_postgres.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <pqxx/pqxx>
#include <sstream>
#include <string>

#include "core/result.h"
#include "storage/database.h"
#include "storage/migrator.h"
#include "support/postgres_fixture.h"

namespace postern::storage {
namespace {

namespace fs = std::filesystem;

EmbeddedPostgres::Options in(const fs::path& directory) {
  EmbeddedPostgres::Options options;
  options.directory = directory;
  options.durability = EmbeddedPostgres::Options::Durability::None;
  return options;
}

std::string one(const std::string& conninfo, const std::string& sql) {
  pqxx::connection connection(conninfo);
  pqxx::nontransaction tx(connection);
  const auto rows = tx.exec(sql);
  return rows.empty() ? std::string() : rows[0][0].c_str();
}

unsigned mode_of(const fs::path& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 ? info.st_mode & 07777U : 0;
}

// Everything about starting and stopping is in few tests, for initdb is slow.
TEST(EmbeddedPostgres, KeepsDataAndPasswordsFromStartToStart) {
  test::TempDirectory temp;
  const auto directory = temp.path() / "postgres";
  std::string before;
  {
    auto server = EmbeddedPostgres::start(in(directory));
    ASSERT_TRUE(server.ok()) << server.error().detail;
    ASSERT_TRUE(server.value().provision().ok());
    before = server.value().service_conninfo();
    one(server.value().superuser_conninfo(), "CREATE TABLE kept AS SELECT 7 AS n");
  }
  auto server = EmbeddedPostgres::start(in(directory));
  ASSERT_TRUE(server.ok()) << server.error().detail;
  EXPECT_EQ(server.value().service_conninfo(), before);
  EXPECT_EQ(one(server.value().superuser_conninfo(), "SELECT n FROM kept"), "7");
  EXPECT_TRUE(server.value().provision().ok()) << "provisioning again must change nothing";
}

TEST(EmbeddedPostgres, StopsNothingButServersInItsDirectory) {
  test::TempDirectory temp;
  const auto directory = temp.path() / "postgres";
  { ASSERT_TRUE(EmbeddedPostgres::start(in(directory)).ok()); }
  const pid_t shell = ::fork();
  ASSERT_GE(shell, 0);
  if (shell == 0) {
    if (::chdir((directory / "pgdata").c_str()) != 0) ::_exit(1);
    ::execl("/bin/sleep", "sleep", "600", nullptr);
    ::_exit(1);
  }
  std::error_code ignored;
  while (fs::read_symlink("/proc/" + std::to_string(shell) + "/exe", ignored).filename() !=
             fs::canonical("/bin/sleep").filename() &&
         ::waitpid(shell, nullptr, WNOHANG) == 0) {
  }
  EXPECT_TRUE(EmbeddedPostgres::start(in(directory)).ok());
  EXPECT_EQ(::waitpid(shell, nullptr, WNOHANG), 0) << "it was signalled";
  ::kill(shell, SIGKILL);
  ::waitpid(shell, nullptr, 0);
}

TEST(EmbeddedPostgres, FollowsNoLinkAsItsLock) {
  test::TempDirectory temp;
  const auto directory = temp.path() / "postgres";
  fs::create_directory(directory);
  fs::create_symlink(temp.path() / "elsewhere", directory / "lock");
  EXPECT_FALSE(EmbeddedPostgres::start(in(directory)).ok());
  EXPECT_FALSE(fs::exists(temp.path() / "elsewhere"));
}

TEST(EmbeddedPostgres, IsPrivateToItsUser) {
  auto& server = test::shared_postgres();
  const auto directory = server.log_file().parent_path();
  EXPECT_EQ(mode_of(directory), 0700U);
  EXPECT_EQ(mode_of(directory / "pgdata"), 0700U);
  EXPECT_EQ(mode_of(directory / "run"), 0700U);
  EXPECT_EQ(mode_of(directory / "passwords"), 0600U);
  EXPECT_EQ(mode_of(directory / "postgres.log"), 0600U);
  EXPECT_EQ(one(server.superuser_conninfo(), "SHOW listen_addresses"), "");
  EXPECT_EQ(one(server.superuser_conninfo(), "SHOW log_parameter_max_length_on_error"), "0");
  EXPECT_EQ(one(server.superuser_conninfo(), "SHOW log_error_verbosity"), "terse");
  EXPECT_FALSE(fs::exists(directory / "initial-password"));
}

TEST(EmbeddedPostgres, RefusesAWrongPassword) {
  auto conninfo = test::shared_postgres().superuser_conninfo();
  const auto at = conninfo.find("password='") + 10;
  conninfo[at] = conninfo[at] == 'A' ? 'B' : 'A';
  EXPECT_THROW(pqxx::connection{conninfo}, pqxx::broken_connection);
}

TEST(EmbeddedPostgres, RefusesADirectoryThatIsInUse) {
  const auto directory = test::shared_postgres().log_file().parent_path();
  const auto second = EmbeddedPostgres::start(in(directory));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::Unavailable);
  EXPECT_THAT(second.error().detail, testing::HasSubstr("in use"));
  EXPECT_EQ(one(test::shared_postgres().superuser_conninfo(), "SELECT 1"), "1");
}

TEST(EmbeddedPostgres, WorksInADirectoryTooDeepForASocket) {
  test::TempDirectory temp;
  const auto deep = temp.path() / std::string(120, 'd');
  auto server = EmbeddedPostgres::start(in(deep));
  ASSERT_TRUE(server.ok()) << server.error().detail;
  EXPECT_EQ(one(server.value().superuser_conninfo(), "SELECT 1"), "1");
  std::istringstream words(server.value().superuser_conninfo());
  std::string host;
  words >> host;
  const fs::path sockets = host.substr(6, host.size() - 7);
  EXPECT_EQ(mode_of(sockets), 0700U);
  server.value().stop();
  std::error_code ignored;
  fs::remove_all(sockets, ignored);
}

TEST(EmbeddedPostgres, RefusesADirectoryItsUserCannotReach) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root runs the server as another user";
  test::TempDirectory temp;
  fs::create_directory(temp.path() / "closed");
  ::chmod((temp.path() / "closed").c_str(), 0700);
  const auto server = EmbeddedPostgres::start(in(temp.path() / "closed" / "postgres"));
  ASSERT_FALSE(server.ok());
  EXPECT_THAT(server.error().detail, testing::HasSubstr("cannot reach"));
}

TEST(EmbeddedPostgres, SaysWhenThereIsNoServerToRun) {
  test::TempDirectory temp;
  auto options = in(temp.path() / "postgres");
  options.binaries = temp.path();
  const auto server = EmbeddedPostgres::start(options);
  ASSERT_FALSE(server.ok());
  EXPECT_EQ(server.error().code, ErrorCode::Unavailable);
}

/// Starts a server in a child process, which then waits to be killed.
pid_t start_in_a_child(const fs::path& directory, pid_t& postmaster) {
  int channel[2];
  if (::pipe(channel) != 0) return -1;
  const auto child = ::fork();
  if (child == 0) {
    auto server = EmbeddedPostgres::start(in(directory));
    const pid_t pid = server.ok() ? server.value().pid() : -1;
    if (::write(channel[1], &pid, sizeof pid) != sizeof pid) ::_exit(1);
    for (;;) ::pause();
  }
  ::close(channel[1]);
  if (::read(channel[0], &postmaster, sizeof postmaster) != sizeof postmaster) postmaster = -1;
  ::close(channel[0]);
  return child;
}

bool ends_soon(pid_t pid) {
  for (int i = 0; i < 6000; ++i) {
    if (::kill(pid, 0) != 0) return true;
    ::usleep(10'000);
  }
  return false;
}

TEST(EmbeddedPostgres, EndsWithAProcessThatIsKilled) {
  test::TempDirectory temp;
  pid_t postmaster = 0;
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
  const auto child = start_in_a_child(temp.path() / "postgres", postmaster);
  ASSERT_GT(postmaster, 0);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(ends_soon(postmaster));
  // And the next start is not misled by what is left.
  const auto again = EmbeddedPostgres::start(in(temp.path() / "postgres"));
  EXPECT_TRUE(again.ok()) << again.error().detail;
}

TEST(EmbeddedPostgres, StartsAfterServerAndServiceWereKilled) {
  test::TempDirectory temp;
  const auto directory = temp.path() / "postgres";
  pid_t postmaster = 0;
  const auto child = start_in_a_child(directory, postmaster);
  ASSERT_GT(postmaster, 0);
  ::kill(child, SIGSTOP);  // so that it cannot tidy up
  ::kill(postmaster, SIGKILL);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ASSERT_TRUE(fs::exists(directory / "pgdata" / "postmaster.pid"));

  // The number in the stale file now belongs to a process that lives: this one.
  std::ifstream old(directory / "pgdata" / "postmaster.pid");
  std::string first, rest;
  std::getline(old, first);
  std::ostringstream content;
  content << ::getppid() << '\n' << old.rdbuf();
  std::ofstream(directory / "pgdata" / "postmaster.pid") << content.str();

  auto server = EmbeddedPostgres::start(in(directory));
  ASSERT_TRUE(server.ok()) << server.error().detail;
  EXPECT_EQ(one(server.value().superuser_conninfo(), "SELECT 1"), "1");
}

TEST(EmbeddedPostgres, StartsAgainWhenTheServerEndsByItself) {
  test::TempDirectory temp;
  auto started = EmbeddedPostgres::start(in(temp.path() / "postgres"));
  ASSERT_TRUE(started.ok()) << started.error().detail;
  auto& server = started.value();
  for (int round = 0; round < 2; ++round) {
    const auto before = server.pid();
    server.keep_running();
    EXPECT_EQ(server.pid(), before) << "a server that runs is left alone";
    ::kill(before, SIGKILL);
    for (int i = 0; i < 1000 && (server.pid() == before || server.pid() == 0); ++i) {
      server.keep_running();
      ::usleep(10'000);
    }
    ASSERT_NE(server.pid(), before);
    EXPECT_EQ(one(server.superuser_conninfo(), "SELECT 1"), "1");
  }
  server.stop();
  server.keep_running();
  EXPECT_EQ(server.pid(), 0) << "what was stopped stays stopped";
}

TEST(EmbeddedPostgres, BeginsAgainAfterAnInterruptedInitdb) {
  test::TempDirectory temp;
  const auto directory = temp.path() / "postgres";
  fs::create_directories(directory / "pgdata.new" / "base");
  std::ofstream(directory / "pgdata.new" / "PG_VERSION") << "15\n";
  const auto server = EmbeddedPostgres::start(in(directory));
  EXPECT_TRUE(server.ok()) << server.error().detail;
}

}  // namespace
}  // namespace postern::storage
