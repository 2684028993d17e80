// PostgreSQL is killed while replicas write. What was acknowledged is there
// afterwards, every chain is whole, and the pools recover by themselves.

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <pqxx/pqxx>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "storage/embedded_postgres.h"
#include "storage/epoch_watcher.h"
#include "storage/session.h"
#include "support/code_of.h"
#include "support/postgres_stores.h"

namespace postern::test {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

class Durability : public ::testing::Test {
 protected:
  storage::EmbeddedPostgres start() {
    storage::EmbeddedPostgres::Options options;
    options.directory = directory_.path() / "postgres";
    auto started = storage::EmbeddedPostgres::start(options);
    if (!started.ok()) throw std::runtime_error(started.error().detail);
    return std::move(started).value();
  }

  static audit::Event event(const TenantId& tenant, const std::string& note) {
    audit::Event out{tenant, {}, "token.exchange", audit::Outcome::Allowed, "r", {}};
    out.with("note", note);
    return out;
  }

  TempDirectory directory_;
};

TEST_F(Durability, NothingAcknowledgedIsLostWhenPostgresIsKilled) {
  constexpr int kRounds = 3;
  constexpr std::size_t kBeforeTheKill = 150;
  auto server = std::make_unique<storage::EmbeddedPostgres>(start());
  ASSERT_TRUE(server->provision().ok());
  storage::DatabaseOptions options;
  options.conninfo = server->service_conninfo();
  StoreSet stores(options, vault::RootKeys::generate());
  const auto a = stores.add_tenant();
  const auto b = stores.add_tenant();
  storage::EpochWatcher watcher(
      options.conninfo, [](const TenantId&, std::uint64_t) {}, 20ms);
  ASSERT_TRUE(watcher.start().ok());

  std::mutex mutex;
  std::set<std::string> acknowledged;             // notes of events
  std::map<std::string, std::uint32_t> versions;  // credential to acknowledged version
  std::atomic<bool> stop{false};
  std::atomic<int> refused{0}, other_errors{0};
  const auto count = [&] {
    const std::lock_guard lock(mutex);
    return acknowledged.size();
  };
  const auto judge = [&](const Error& error) {
    ++refused;
    // Nothing but "not now": a lost connection is no conflict and no bug.
    if (error.code != ErrorCode::Unavailable) ++other_errors;
  };

  std::vector<std::thread> writers;
  for (int writer = 0; writer < 2; ++writer) {
    writers.emplace_back([&, writer] {
      for (int i = 0; !stop; ++i) {
        const auto note = std::to_string(writer) + "-" + std::to_string(i);
        const auto status = stores.log.append(std::vector{event(a, note), event(b, note)});
        if (!status.ok()) {
          judge(status.error());
          continue;
        }
        const std::lock_guard lock(mutex);
        acknowledged.insert(note);
      }
    });
  }
  writers.emplace_back([&] {
    for (int i = 0; !stop; ++i) {
      const auto name = "c" + std::to_string(i % 7);
      const auto put = stores.credentials.put(
          a, {Owner::tenant(), CredentialName(name)}, std::nullopt,
          [](std::uint32_t version) -> Result<vault::SealedVersion> {
            return vault::SealedVersion{version,       KekVersion{1},
                                        to_bytes("k"), to_bytes("v" + std::to_string(version)),
                                        {"t"},         {},
                                        std::nullopt};
          },
          std::vector{event(a, "put")});
      if (!put.ok()) {
        judge(put.error());
        continue;
      }
      const std::lock_guard lock(mutex);
      versions[name] = put.value().version;
    }
  });

  for (int round = 0; round < kRounds; ++round) {
    const auto goal = count() + kBeforeTheKill;
    const auto deadline = steady_clock::now() + 120s;
    while (count() < goal && steady_clock::now() < deadline) std::this_thread::yield();
    ASSERT_GE(count(), goal) << "writes go on in round " << round;

    ASSERT_EQ(::kill(server->pid(), SIGKILL), 0);
    server = nullptr;  // reaps it and gives the directory back
    server = std::make_unique<storage::EmbeddedPostgres>(start());
  }
  {
    const auto goal = count() + kBeforeTheKill;
    const auto deadline = steady_clock::now() + 120s;
    while (count() < goal && steady_clock::now() < deadline) std::this_thread::yield();
    EXPECT_GE(count(), goal) << "writes go on after the last start";
  }
  stop = true;
  for (auto& writer : writers) writer.join();
  EXPECT_GT(refused, 0) << "the kills were noticed";
  EXPECT_EQ(other_errors, 0);

  for (const auto& tenant : {a, b}) {
    const auto verification = stores.log.verify(tenant);
    ASSERT_TRUE(verification.ok()) << verification.error().diagnostic;
    EXPECT_TRUE(verification.value().intact) << verification.value().problem;
    std::set<std::string> found;
    audit::Query query;
    query.limit = 1000;
    for (;;) {
      const auto records = stores.log.read(tenant, query);
      ASSERT_TRUE(records.ok());
      if (records.value().empty()) break;
      query.after = records.value().back().sequence;
      for (const auto& record : records.value()) {
        const auto at = record.body.find("\"note\":\"");
        if (at == std::string::npos) continue;
        const auto begin = at + 8;
        found.insert(record.body.substr(begin, record.body.find('"', begin) - begin));
      }
    }
    for (const auto& note : acknowledged) EXPECT_TRUE(found.contains(note)) << note;
  }
  for (const auto& [name, version] : versions) {
    const auto latest = stores.credentials.latest(a, {Owner::tenant(), CredentialName(name)});
    ASSERT_TRUE(latest.ok());
    // One more may have been committed than could be acknowledged.
    EXPECT_GE(latest.value().version, version);
    EXPECT_EQ(latest.value().sealed, to_bytes("v" + std::to_string(latest.value().version)));
  }
  const auto now = steady_clock::now();
  const auto deadline = now + 30s;
  while (watcher.last_confirmed() <= now && steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_GT(watcher.last_confirmed(), now) << "the watcher is back as well";
}

TEST_F(Durability, CommitsAreFlushedWhateverTheServersDefault) {
  auto server = start();
  ASSERT_TRUE(server.provision().ok());
  {
    pqxx::connection connection(server.superuser_conninfo());
    pqxx::nontransaction tx(connection);
    EXPECT_STREQ(tx.exec("SHOW fsync")[0][0].c_str(), "on");
    EXPECT_STREQ(tx.exec("SHOW full_page_writes")[0][0].c_str(), "on");
    EXPECT_STREQ(tx.exec("SHOW data_checksums")[0][0].c_str(), "on");
    tx.exec("ALTER ROLE postern_service SET synchronous_commit = off");
  }
  storage::DatabaseOptions options;
  options.conninfo = server.service_conninfo();
  storage::Database database(options);
  auto session = database.pool().checkout();
  ASSERT_TRUE(session.ok());
  pqxx::nontransaction tx(session.value().link());
  EXPECT_STREQ(tx.exec("SHOW synchronous_commit")[0][0].c_str(), "on");
}

}  // namespace
}  // namespace postern::test
