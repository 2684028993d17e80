#include "storage/follower.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <pqxx/pqxx>
#include <string>
#include <thread>

#include "support/postgres_stores.h"

namespace postern::storage {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr const char* kChannel = "postern_follower_test";

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = steady_clock::now() + 20s;
  while (!condition()) {
    if (steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

/// Follows at so long an interval that only notifications make it read.
class FollowerTest : public ::testing::Test {
 protected:
  void announce() {
    pqxx::connection connection(stores_.superuser());
    pqxx::nontransaction tx(connection);
    tx.exec(std::string("NOTIFY ") + kChannel);
  }
  Follower::Options options() const {
    return {stores_.service(), "follower-test", kChannel, "test", 1h};
  }

  test::PostgresStores stores_;
  std::atomic<int> readings_{0};
};

TEST_F(FollowerTest, ReadsWhenItIsAnnounced) {
  Follower follower(options(), [&](pqxx::connection&, Follower::Reading) { ++readings_; });
  ASSERT_TRUE(follower.start().ok());
  EXPECT_EQ(readings_, 1);
  announce();
  EXPECT_TRUE(eventually([&] { return readings_ == 2; }));
}

// The reading is too early to see what is announced while it goes on, and the
// announcement arrives with the answer to its last statement: nothing wakes poll().
TEST_F(FollowerTest, ReadsAgainWhatWasAnnouncedWhileItRead) {
  for (const auto during : {1, 2}) {
    readings_ = 0;
    Follower follower(options(), [&](pqxx::connection& connection, Follower::Reading) {
      pqxx::work tx(connection);
      tx.exec("SELECT 1");
      if (++readings_ == during) announce();
      tx.exec("SELECT 1");
      tx.commit();
    });
    ASSERT_TRUE(follower.start().ok());
    if (during == 2) announce();
    EXPECT_TRUE(eventually([&] { return readings_ == during + 1; })) << "reading " << during;
  }
}

}  // namespace
}  // namespace postern::storage
