#include "storage/epoch_watcher.h"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <pqxx/pqxx>
#include <stdexcept>
#include <string>
#include <thread>

#include "support/code_of.h"
#include "support/postgres_stores.h"

namespace postern::storage {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

/// What a watcher has called back with; can be waited for.
class Seen {
 public:
  EpochWatcher::Changed callback() {
    return [this](const TenantId& tenant, std::uint64_t epoch) {
      const std::lock_guard lock(mutex_);
      epochs_[tenant] = epoch;
      ++calls_;
      changed_.notify_all();
    };
  }
  bool wait_for(const TenantId& tenant, std::uint64_t epoch) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 20s, [&] {
      const auto found = epochs_.find(tenant);
      return found != epochs_.end() && found->second == epoch;
    });
  }
  int calls() {
    const std::lock_guard lock(mutex_);
    return calls_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<TenantId, std::uint64_t> epochs_;
  int calls_ = 0;
};

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = steady_clock::now() + 20s;
  while (!condition()) {
    if (steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

class EpochWatcherTest : public ::testing::Test {
 protected:
  void change(const TenantId& tenant) {
    policy::ConfigChange change;
    change.put.push_back({policy::Kind::Role, "r", "{}", 0});
    ASSERT_TRUE(stores_.config.apply(tenant, change, {}).ok());
  }
  void as_superuser(const std::string& sql) {
    pqxx::connection connection(test::shared_postgres().superuser_conninfo());
    pqxx::nontransaction tx(connection);
    tx.exec(sql);
  }
  void end_sessions() {
    as_superuser("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '" +
                 stores_.name() + "'");
  }
  /// A whole reading has begun and ended after this call.
  static bool confirms_again(const EpochWatcher& watcher) {
    const auto now = steady_clock::now();
    return eventually([&] { return watcher.last_confirmed() > now; });
  }

  test::PostgresStores stores_;
  Seen seen_;
};

TEST_F(EpochWatcherTest, CallsBackWhenATenantChanges) {
  const auto a = stores_.add_tenant();
  const auto b = stores_.add_tenant();
  EpochWatcher watcher(stores_.service(), seen_.callback(), 30s);  // so that NOTIFY must do it
  ASSERT_TRUE(watcher.start().ok());
  EXPECT_EQ(watcher.known_tenants(), 2U);
  change(a);
  EXPECT_TRUE(seen_.wait_for(a, 2));
  change(b);
  EXPECT_TRUE(seen_.wait_for(b, 2));
  EXPECT_EQ(seen_.calls(), 2) << "not for what was there at the start";
}

TEST_F(EpochWatcherTest, FindsChangesThatWereNotAnnounced) {
  const auto tenant = stores_.add_tenant();
  EpochWatcher watcher(stores_.service(), seen_.callback(), 10ms);
  ASSERT_TRUE(watcher.start().ok());
  pqxx::connection connection(stores_.superuser());
  pqxx::nontransaction tx(connection);
  tx.exec("UPDATE postern.tenant SET epoch = 9");
  EXPECT_TRUE(seen_.wait_for(tenant, 9));
}

TEST_F(EpochWatcherTest, TellsOfNewAndRemovedTenants) {
  EpochWatcher watcher(stores_.service(), seen_.callback(), 30s);
  ASSERT_TRUE(watcher.start().ok());
  const auto tenant = stores_.add_tenant();
  EXPECT_TRUE(seen_.wait_for(tenant, 1));
  ASSERT_TRUE(stores_.config.remove(tenant, {}).ok());
  EXPECT_TRUE(seen_.wait_for(tenant, EpochWatcher::kGone));
  EXPECT_TRUE(eventually([&] { return watcher.known_tenants() == 0; }));
}

TEST_F(EpochWatcherTest, DoesNotBelieveANotification) {
  const auto tenant = stores_.add_tenant();
  EpochWatcher watcher(stores_.service(), seen_.callback(), 10ms);
  ASSERT_TRUE(watcher.start().ok());
  pqxx::connection connection(stores_.auditor());
  pqxx::nontransaction tx(connection);
  for (const auto* payload : {"", "nonsense", " 99999999999999999999", "' OR 1"}) {
    tx.exec("SELECT pg_notify('postern_epoch', " + tx.quote(payload) + ")");
  }
  tx.exec("SELECT pg_notify('postern_epoch', " + tx.quote(tenant.str() + " 77") + ")");
  EXPECT_TRUE(confirms_again(watcher));
  EXPECT_EQ(seen_.calls(), 0);
}

TEST_F(EpochWatcherTest, ConnectsAgainAndCatchesUp) {
  const auto tenant = stores_.add_tenant();
  EpochWatcher watcher(stores_.service(), seen_.callback(), 10ms);
  ASSERT_TRUE(watcher.start().ok());
  end_sessions();
  change(tenant);
  EXPECT_TRUE(seen_.wait_for(tenant, 2));
  EXPECT_TRUE(confirms_again(watcher));
}

TEST_F(EpochWatcherTest, ConfirmsNothingWhileTheDatabaseIsAway) {
  EpochWatcher watcher(stores_.service(), seen_.callback(), 10ms);
  EXPECT_GT(steady_clock::now() - watcher.last_confirmed(), 1h) << "nothing before the start";
  ASSERT_TRUE(watcher.start().ok());
  EXPECT_TRUE(confirms_again(watcher));

  as_superuser("ALTER DATABASE " + stores_.name() + " ALLOW_CONNECTIONS false");
  end_sessions();
  const auto away = steady_clock::now();
  EXPECT_LE(watcher.last_confirmed(), away);
  as_superuser("ALTER DATABASE " + stores_.name() + " ALLOW_CONNECTIONS true");
  EXPECT_TRUE(confirms_again(watcher));
}

TEST_F(EpochWatcherTest, CallsAgainAfterACallbackThatThrew) {
  const auto tenant = stores_.add_tenant();
  int throws = 1;
  auto callback = seen_.callback();
  EpochWatcher watcher(
      stores_.service(),
      [&](const TenantId& changed, std::uint64_t epoch) {
        if (throws-- > 0) throw std::runtime_error("not now");
        callback(changed, epoch);
      },
      10ms);
  ASSERT_TRUE(watcher.start().ok());
  change(tenant);
  EXPECT_TRUE(seen_.wait_for(tenant, 2));
}

TEST_F(EpochWatcherTest, DoesNotStartWithoutADatabase) {
  EpochWatcher watcher("host=/nonexistent user=x", seen_.callback());
  EXPECT_EQ(test::code_of(watcher.start()), ErrorCode::Unavailable);
}

TEST_F(EpochWatcherTest, StopsAtOnceAndForGood) {
  const auto tenant = stores_.add_tenant();
  EpochWatcher watcher(stores_.service(), seen_.callback(), 60s);
  ASSERT_TRUE(watcher.start().ok());
  const auto begun = steady_clock::now();
  watcher.stop();
  EXPECT_LT(steady_clock::now() - begun, 30s) << "it must not wait for its interval";
  change(tenant);
  EXPECT_EQ(seen_.calls(), 0);
  watcher.stop();
}

}  // namespace
}  // namespace postern::storage
