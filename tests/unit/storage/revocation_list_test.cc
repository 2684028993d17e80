#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <pqxx/pqxx>
#include <string>
#include <thread>
#include <vector>

#include "storage/postgres_revocation_list.h"
#include "support/code_of.h"
#include "support/in_memory_revocation_list.h"
#include "support/postgres_stores.h"
#include "support/revocation_list_suite.h"

namespace postern::test {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using storage::PostgresRevocationList;

class PostgresRevocations final : public RevocationListHarness {
 public:
  PostgresRevocations() { EXPECT_TRUE(list_.start().ok()); }
  policy::RevocationList& list() override { return list_; }
  TenantId add_tenant() override { return stores_.add_tenant(); }

 private:
  PostgresStores stores_;
  SystemClock clock_;
  PostgresRevocationList list_{stores_.database, stores_.service(), clock_};
};

class InMemoryRevocations final : public RevocationListHarness {
 public:
  policy::RevocationList& list() override { return list_; }
  TenantId add_tenant() override {
    const TenantId tenant("tenant-" + std::to_string(++number_));
    list_.add_tenant(tenant);
    return tenant;
  }

 private:
  InMemoryRevocationList list_;
  int number_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Postgres, RevocationListSuite, ::testing::Values(RevocationListFactory{[] {
                           return std::make_unique<PostgresRevocations>();
                         }}));
INSTANTIATE_TEST_SUITE_P(InMemory, RevocationListSuite, ::testing::Values(RevocationListFactory{[] {
                           return std::make_unique<InMemoryRevocations>();
                         }}));

/// A clock that a test may move while the list's thread reads it.
class MovableClock final : public Clock {
 public:
  sys_seconds now() const override { return SystemClock().now() + offset_.load(); }
  void advance(std::chrono::seconds by) { offset_ = offset_.load() + by; }

 private:
  std::atomic<std::chrono::seconds> offset_{0s};
};

class RevocationReplicas : public ::testing::Test {
 protected:
  using Options = PostgresRevocationList::Options;
  static Options polling() {
    Options options;
    options.interval = 10ms;
    return options;
  }
  static Options notified() {
    Options options;
    options.interval = 60s;  // so that NOTIFY must do it
    options.max_staleness = 100s;
    return options;
  }
  std::unique_ptr<PostgresRevocationList> replica(const Options& options) {
    auto list = std::make_unique<PostgresRevocationList>(stores_.database, stores_.service(),
                                                         clock_, options);
    EXPECT_TRUE(list->start().ok());
    return list;
  }
  static bool eventually(const std::function<bool()>& condition) {
    const auto deadline = steady_clock::now() + 20s;
    while (!condition()) {
      if (steady_clock::now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }
  static bool confirms_again(const PostgresRevocationList& list) {
    const auto now = steady_clock::now();
    return eventually([&] { return list.last_confirmed() > now; });
  }
  bool revoked(const PostgresRevocationList& list, const std::string& id) {
    const std::vector<std::string> ids{id};
    const auto answer = list.any_revoked(tenant_, ids);
    return answer.ok() && answer.value();
  }
  sys_seconds later() const { return clock_.now() + 300s; }
  std::string insert(const std::string& id) const {
    return "INSERT INTO postern.revoked_token VALUES ('" + tenant_.str() + "', '" + id +
           "', now() + interval '5 minutes')";
  }
  void as_superuser(const std::string& conninfo, const std::string& sql) {
    pqxx::connection connection(conninfo);
    pqxx::nontransaction tx(connection);
    tx.exec(sql);
  }
  std::string rows() {
    pqxx::connection connection(stores_.superuser());
    pqxx::nontransaction tx(connection);
    return tx.exec("SELECT count(*) FROM postern.revoked_token")[0][0].c_str();
  }

  PostgresStores stores_;
  MovableClock clock_;
  const TenantId tenant_ = stores_.add_tenant();
};

TEST_F(RevocationReplicas, WhatOneRevokesTheOtherHearsOf) {
  const auto first = replica(notified());
  const auto second = replica(notified());
  ASSERT_TRUE(first->revoke(tenant_, "one", later()).ok());
  EXPECT_TRUE(revoked(*first, "one"));
  EXPECT_TRUE(eventually([&] { return revoked(*second, "one"); }));
}

TEST_F(RevocationReplicas, FindsWhatWasNotAnnounced) {
  const auto list = replica(polling());
  as_superuser(stores_.superuser(), insert("one"));
  EXPECT_TRUE(eventually([&] { return revoked(*list, "one"); }));
}

TEST_F(RevocationReplicas, KnowsAtTheStartWhatWasRevokedBefore) {
  ASSERT_TRUE(replica(notified())->revoke(tenant_, "one", later()).ok());
  EXPECT_TRUE(revoked(*replica(notified()), "one"));
}

TEST_F(RevocationReplicas, MissesNothingThatCommitsOutOfOrder) {
  const auto list = replica(polling());
  pqxx::connection connection(stores_.superuser());
  pqxx::work slow(connection);
  slow.exec(insert("begun-first"));
  as_superuser(stores_.superuser(), insert("committed-first"));
  ASSERT_TRUE(eventually([&] { return revoked(*list, "committed-first"); }));
  ASSERT_TRUE(confirms_again(*list));
  EXPECT_FALSE(revoked(*list, "begun-first"));
  slow.commit();
  EXPECT_TRUE(eventually([&] { return revoked(*list, "begun-first"); }));
}

TEST_F(RevocationReplicas, CatchesUpAfterALostConnection) {
  const auto list = replica(polling());
  as_superuser(shared_postgres().superuser_conninfo(),
               "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '" +
                   stores_.name() + "'");
  as_superuser(stores_.superuser(), insert("one"));
  EXPECT_TRUE(eventually([&] { return revoked(*list, "one"); }));
}

TEST_F(RevocationReplicas, KnowsNothingBeforeTheStart) {
  const PostgresRevocationList list(stores_.database, stores_.service(), clock_);
  const std::vector<std::string> ids{"one"};
  EXPECT_EQ(code_of(list.any_revoked(tenant_, ids)), ErrorCode::Unavailable);
}

TEST_F(RevocationReplicas, StopsAnsweringWhenItMayBeStale) {
  auto options = polling();
  options.interval = 1h;
  options.max_staleness = 0s;
  const auto list = replica(options);
  const std::vector<std::string> ids{"one"};
  EXPECT_TRUE(eventually(
      [&] { return code_of(list->any_revoked(tenant_, ids)) == ErrorCode::Unavailable; }));
}

TEST_F(RevocationReplicas, DoesNotStartWithoutADatabase) {
  PostgresRevocationList list(stores_.database, "host=/nonexistent user=x", clock_);
  EXPECT_EQ(code_of(list.start()), ErrorCode::Unavailable);
}

TEST_F(RevocationReplicas, ForgetsWhatHasExpired) {
  const auto list = replica(polling());
  ASSERT_TRUE(list->revoke(tenant_, "short", clock_.now() + 10s).ok());
  ASSERT_TRUE(list->revoke(tenant_, "long", clock_.now() + 1h).ok());
  clock_.advance(65s);
  EXPECT_TRUE(revoked(*list, "short")) << "another's clock may be behind";
  clock_.advance(60s);
  EXPECT_TRUE(eventually([&] { return list->size() == 1; }));
  EXPECT_TRUE(revoked(*list, "long"));
  EXPECT_EQ(rows(), "2") << "rows go with the next write";
  ASSERT_TRUE(list->revoke(tenant_, "other", later()).ok());
  EXPECT_EQ(rows(), "2");
}

TEST_F(RevocationReplicas, ATenantMayNotRevokeWithoutEnd) {
  auto options = polling();
  options.max_of_tenant = 2;
  const auto list = replica(options);
  ASSERT_TRUE(list->revoke(tenant_, "one", later()).ok());
  ASSERT_TRUE(list->revoke(tenant_, "two", later()).ok());
  EXPECT_EQ(code_of(list->revoke(tenant_, "three", later())), ErrorCode::RateLimited);
  EXPECT_TRUE(list->revoke(tenant_, "one", later()).ok()) << "again is no error";
  // An emergency can still end what fills it, but without an end neither.
  const auto reserved = policy::RevocationList::Room::Reserved;
  EXPECT_TRUE(list->revoke(tenant_, "three", later(), reserved).ok());
  EXPECT_EQ(code_of(list->revoke(tenant_, "four", later(), reserved)), ErrorCode::RateLimited);
  const auto other = stores_.add_tenant();
  EXPECT_TRUE(list->revoke(other, "one", later()).ok());
}

TEST_F(RevocationReplicas, WhatDoesNotFitInMemoryMakesItsTenantUnavailable) {
  const auto other = stores_.add_tenant();
  for (const auto* id : {"1", "2", "3"}) as_superuser(stores_.superuser(), insert(id));
  auto options = polling();
  options.max_tokens = 2;
  const auto list = replica(options);
  const std::vector<std::string> ids{"unheard-of"};
  EXPECT_EQ(code_of(list->any_revoked(tenant_, ids)), ErrorCode::Unavailable);
  EXPECT_FALSE(list->any_revoked(other, ids).value());
  EXPECT_EQ(list->size(), 2U);
  // Until there is room again.
  clock_.advance(10min);
  EXPECT_TRUE(eventually([&] { return list->any_revoked(tenant_, ids).ok(); }));
}

TEST_F(RevocationReplicas, AnAuditorMayNotReadIt) {
  pqxx::connection connection(stores_.auditor());
  pqxx::nontransaction tx(connection);
  EXPECT_THROW(tx.exec("SELECT count(*) FROM postern.revoked_token"), pqxx::sql_error);
}

}  // namespace
}  // namespace postern::test
