// A PostgreSQL that hangs: its processes are stopped, so it accepts, and says
// nothing. These tests fail by not ending.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <pqxx/pqxx>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "storage/epoch_watcher.h"
#include "storage/migrator.h"
#include "storage/session.h"
#include "storage/watchdog.h"
#include "support/code_of.h"
#include "support/postgres_fixture.h"

namespace postern::storage {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using test::code_of;

constexpr Statement kOne{"test.one", "SELECT 1"};

/// Stops every process of the shared server for as long as it lives. A child
/// lets them continue, also when the test dies.
class Hung {
 public:
  Hung() {
    if (::pipe2(alive_, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    const auto postmaster = test::shared_postgres().pid();
    ::kill(postmaster, SIGSTOP);  // first, so that it starts no more
    auto all = children_of(postmaster);
    for (const auto pid : all) ::kill(pid, SIGSTOP);
    all.push_back(postmaster);
    guard_ = ::fork();
    if (guard_ != 0) return;
    ::close(alive_[1]);
    char byte = 0;
    const auto end = ::read(alive_[0], &byte, 1);
    for (const auto pid : all) ::kill(pid, SIGCONT);
    ::_exit(end == 0 ? 0 : 1);
  }
  ~Hung() {
    ::close(alive_[1]);
    ::waitpid(guard_, nullptr, 0);
    ::close(alive_[0]);
  }
  Hung(const Hung&) = delete;
  Hung& operator=(const Hung&) = delete;

 private:
  static std::vector<pid_t> children_of(pid_t parent) {
    std::vector<pid_t> out;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const auto pid = std::atoi(entry.path().filename().c_str());
      if (pid <= 0) continue;
      std::ifstream file(entry.path() / "status");
      for (std::string line; std::getline(file, line);) {
        if (line == "PPid:\t" + std::to_string(parent)) out.push_back(pid);
      }
    }
    return out;
  }

  int alive_[2] = {-1, -1};
  pid_t guard_ = -1;
};

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = steady_clock::now() + 60s;
  while (!condition()) {
    if (steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

class HangTest : public ::testing::Test {
 protected:
  DatabaseOptions impatient() const {
    auto options = postgres_.options();
    options.client_timeout = 500ms;
    options.connect_timeout = 2s;
    return options;
  }
  test::PostgresDatabase postgres_;
};

TEST_F(HangTest, AStatementIsUnavailableAndThePoolRecovers) {
  Database database(impatient());
  ASSERT_TRUE(eventually([&] { return database.ping().ok(); }));
  const auto before = database.stats().client_timeouts;
  {
    const Hung hung;
    EXPECT_EQ(code_of(database.ping()), ErrorCode::Unavailable);
    EXPECT_EQ(database.stats().client_timeouts, before + 1);
    EXPECT_EQ(database.stats().open, 0U);
    EXPECT_EQ(code_of(database.ping()), ErrorCode::Unavailable) << "nor can it connect";
    EXPECT_GE(database.stats().connect_failures, 1U);
  }
  EXPECT_TRUE(eventually([&] { return database.ping().ok(); }));
  EXPECT_EQ(database.stats().busy, 0U);
}

TEST_F(HangTest, ACommitIsUnavailable) {
  Database database(impatient());
  std::optional<Hung> hung;
  const auto commit = [&](bool hang) {
    return named("test.commit", database.pool(), [&](Session& session) -> Status {
      TenantTransaction tx(session, TenantId("acme"));
      tx.run(kOne);
      if (hang) hung.emplace();
      tx.commit();
      return {};
    });
  };
  ASSERT_TRUE(eventually([&] { return commit(false).ok(); }));
  const auto status = commit(true);
  ASSERT_EQ(code_of(status), ErrorCode::Unavailable);
  EXPECT_EQ(status.error().diagnostic, "test.commit in doubt");
  EXPECT_EQ(database.stats().open, 0U);
  hung.reset();
  EXPECT_TRUE(eventually([&] { return commit(false).ok(); }));
}

TEST_F(HangTest, ALongerTimeIsKeptForTheRestOfTheLoan) {
  Database database(impatient());
  std::uint64_t before = 0;
  const auto slow = [&] {
    before = database.stats().client_timeouts;  // connecting has the short time, and may fail
    return named("test.slow", database.pool(), [&](Session& session) -> Status {
      session.allow(60s);
      pqxx::work tx(session.link());
      session.run(tx, kOne);
      tx.exec("SELECT pg_sleep(1)");
      tx.commit();
      return {};
    });
  };
  EXPECT_TRUE(eventually([&] { return slow().ok(); }));
  EXPECT_EQ(database.stats().client_timeouts, before);
}

TEST_F(HangTest, AConnectionThatNobodyUsesIsNotEnded) {
  auto options = impatient();
  options.client_timeout = 3s;
  Database database(options);
  ASSERT_TRUE(database.ping().ok());
  {
    pqxx::connection other(postgres_.superuser());
    pqxx::nontransaction tx(other);
    tx.exec("SELECT pg_sleep(3.2)");
  }
  EXPECT_TRUE(database.ping().ok());
  EXPECT_EQ(database.stats().client_timeouts, 0U);
  EXPECT_EQ(database.stats().connects, 1U);
}

TEST_F(HangTest, TheWatcherStops) {
  EpochWatcher watcher(
      postgres_.service(), [](const TenantId&, std::uint64_t) {}, 10ms);
  ASSERT_TRUE(watcher.start().ok());
  const Hung hung;
  ASSERT_TRUE(eventually([&] { return steady_clock::now() - watcher.last_confirmed() > 300ms; }));
  watcher.stop();
}

TEST_F(HangTest, TheSchemaIsNotReadForEver) {
  const Hung hung;
  const auto state = schema_state(postgres_.service());
  EXPECT_EQ(code_of(state), ErrorCode::Unavailable);
}

TEST(WatchdogTest, EndsWhatIsOverdueAndNothingElse) {
  Watchdog watchdog;
  int overdue[2];
  int patient[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, overdue), 0);
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, patient), 0);
  {
    Watchdog::Watch unlimited(watchdog, patient[1]);
    Watchdog::Watch later(watchdog, patient[0]);
    later.allow(1h);
    Watchdog::Watch now(watchdog, overdue[0]);
    now.allow(1ms);
    char byte = 0;
    EXPECT_EQ(::recv(overdue[0], &byte, 1, 0), 0) << "a call that waits returns";
    EXPECT_EQ(::recv(patient[0], &byte, 1, MSG_DONTWAIT), -1);
    // Counted just after the socket was ended.
    for (int i = 0; i < 10'000 && watchdog.ended() == 0; ++i) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(watchdog.ended(), 1U);
  }
  for (const int socket : {overdue[0], overdue[1], patient[0], patient[1]}) ::close(socket);
}

TEST(WatchdogTest, ADescriptorThatIsUsedAgainIsAnotherSocket) {
  Watchdog watchdog;
  int first[2];
  int second[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, first), 0);
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, second), 0);
  {
    Watchdog::Watch watch(watchdog, first[0]);
    ASSERT_EQ(::dup2(second[0], first[0]), first[0]);  // as when closed and opened again
    watch.allow(1ms);
    char byte = 0;
    EXPECT_EQ(::recv(first[1], &byte, 1, 0), 0) << "the one that was watched";
    EXPECT_EQ(::recv(second[1], &byte, 1, MSG_DONTWAIT), -1) << "not the new one";
  }
  for (const int socket : {first[0], first[1], second[0], second[1]}) ::close(socket);
}

}  // namespace
}  // namespace postern::storage
