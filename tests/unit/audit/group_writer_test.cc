#include "audit/group_writer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/code_of.h"
#include "support/in_memory_audit_log.h"

namespace postern::audit {
namespace {

using test::code_of;

const TenantId kAcme("acme");

Event event(const TenantId& tenant = kAcme, const std::string& note = "x") {
  Event made{tenant, sys_seconds{}, "token.exchange", Outcome::Allowed, "r", {}};
  return made.with("note", note);
}

/// An audit log whose appends the test can hold, refuse and count.
class GatedLog final : public AuditLog {
 public:
  Status append(std::span<const Event> events) override {
    std::unique_lock lock(mutex_);
    ++entered_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    batches_.push_back(events.size());
    if (throws_) throw std::runtime_error("secret text of an exception");
    if (!failures_.empty()) {
      const auto code = failures_.front();
      failures_.erase(failures_.begin());
      return fail(code, "refused");
    }
    for (const auto& one : events) {
      if (gone_.contains(one.tenant)) return fail(ErrorCode::NotFound, "no such tenant");
    }
    for (const auto& one : events) notes_.push_back(one.fields.at(0).second);
    return {};
  }
  Result<std::vector<Record>> read(const TenantId&, const Query&) override {
    return std::vector<Record>();
  }
  Result<Verification> verify(const TenantId&) override { return Verification(); }

  void close() {
    set([&] { open_ = false; });
  }
  void open() {
    set([&] { open_ = true; });
  }
  void fail_once(ErrorCode code) {
    set([&] { failures_.push_back(code); });
  }
  void throw_always() {
    set([&] { throws_ = true; });
  }
  void remove(const TenantId& tenant) {
    set([&] { gone_.insert(tenant); });
  }
  /// Until that many appends have begun.
  void wait_for_appends(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return entered_ >= count; });
  }
  std::vector<std::size_t> batches() {
    const std::lock_guard lock(mutex_);
    return batches_;
  }
  std::vector<std::string> notes() {
    const std::lock_guard lock(mutex_);
    return notes_;
  }

 private:
  template <class F>
  void set(F change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  bool throws_ = false;
  int entered_ = 0;
  std::set<TenantId> gone_;
  std::vector<ErrorCode> failures_;
  std::vector<std::size_t> batches_;
  std::vector<std::string> notes_;
};

/// What the callbacks got, each once.
class Answers {
 public:
  GroupWriter::Done next() {
    auto promise = std::make_shared<std::promise<Status>>();
    futures_.push_back(promise->get_future());
    // A second call would throw out of set_value and never pass unnoticed.
    return [promise](const Status& status) { promise->set_value(status); };
  }
  Status wait(std::size_t i) { return futures_.at(i).get(); }
  bool ready(std::size_t i) {
    return futures_.at(i).wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }
  std::size_t size() const { return futures_.size(); }

 private:
  std::vector<std::future<Status>> futures_;
};

TEST(GroupWriter, AnswersAfterTheCommit) {
  GatedLog log;
  log.close();
  Answers answers;
  GroupWriter writer(log);
  writer.submit({event()}, answers.next());
  log.wait_for_appends(1);
  EXPECT_FALSE(answers.ready(0));
  log.open();
  EXPECT_TRUE(answers.wait(0).ok());
  EXPECT_EQ(log.notes(), std::vector<std::string>{"x"});
}

TEST(GroupWriter, CommitsEverythingWaitingAsOneBatch) {
  GatedLog log;
  log.close();
  Answers answers;
  GroupWriter writer(log);
  writer.submit({event(kAcme, "0")}, answers.next());
  log.wait_for_appends(1);
  for (int i = 1; i <= 10; ++i) writer.submit({event(kAcme, std::to_string(i))}, answers.next());
  log.open();
  for (std::size_t i = 0; i < answers.size(); ++i) EXPECT_TRUE(answers.wait(i).ok());
  EXPECT_EQ(log.batches(), (std::vector<std::size_t>{1, 10}));
  EXPECT_EQ(log.notes(),
            (std::vector<std::string>{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}));
}

TEST(GroupWriter, NeverPassesTheBatchLimit) {
  GatedLog log;
  log.close();
  Answers answers;
  GroupWriter writer(log, {.max_batch = 4});
  writer.submit({event()}, answers.next());
  log.wait_for_appends(1);
  for (int i = 0; i < 3; ++i) writer.submit({event(), event(), event()}, answers.next());
  for (int i = 0; i < 5; ++i) writer.submit({event()}, answers.next());
  log.open();
  for (std::size_t i = 0; i < answers.size(); ++i) EXPECT_TRUE(answers.wait(i).ok());
  // No submission is ever cut in two.
  EXPECT_EQ(log.batches(), (std::vector<std::size_t>{1, 3, 3, 4, 4}));
}

TEST(GroupWriter, ASubmissionLargerThanABatchIsOneTransaction) {
  GatedLog log;
  Answers answers;
  GroupWriter writer(log, {.max_batch = 2});
  writer.submit(std::vector<Event>(5, event()), answers.next());
  EXPECT_TRUE(answers.wait(0).ok());
  EXPECT_EQ(log.batches(), std::vector<std::size_t>{5});
}

TEST(GroupWriter, RefusesAtOnceWhenFull) {
  GatedLog log;
  log.close();
  Answers answers;
  GroupWriter writer(log, {.max_batch = 512, .max_waiting = 3});
  writer.submit({event()}, answers.next());
  log.wait_for_appends(1);
  for (int i = 0; i < 3; ++i) writer.submit({event()}, answers.next());
  writer.submit({event(kAcme, "too many")}, answers.next());
  ASSERT_TRUE(answers.ready(4));
  const auto refused = answers.wait(4);
  EXPECT_EQ(code_of(refused), ErrorCode::RateLimited);
  EXPECT_TRUE(refused.error().retry_after.has_value());
  EXPECT_EQ(writer.stats().waiting, 3u);
  EXPECT_EQ(writer.stats().failures, 1u);

  log.open();
  for (std::size_t i = 0; i < 4; ++i) EXPECT_TRUE(answers.wait(i).ok());
  EXPECT_EQ(log.notes().size(), 4u);
  writer.submit({event()}, answers.next());  // and takes again
  EXPECT_TRUE(answers.wait(5).ok());
}

TEST(GroupWriter, NoEventsAreDoneAtOnceOnTheCallersThread) {
  GatedLog log;
  log.close();
  GroupWriter writer(log);
  std::thread::id thread;
  writer.submit({}, [&](const Status& status) {
    EXPECT_TRUE(status.ok());
    thread = std::this_thread::get_id();
  });
  EXPECT_EQ(thread, std::this_thread::get_id());
  log.open();
}

TEST(GroupWriter, FailsTheWholeBatchWhenTheLogIsDown) {
  GatedLog log;
  log.close();
  Answers answers;
  GroupWriter writer(log);
  writer.submit({event()}, answers.next());
  log.wait_for_appends(1);
  for (int i = 0; i < 3; ++i) writer.submit({event()}, answers.next());
  log.fail_once(ErrorCode::Unavailable);
  log.fail_once(ErrorCode::Unavailable);
  log.open();
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(code_of(answers.wait(i)), ErrorCode::Unavailable);
  }
  // In doubt is never tried again: the records might be there twice.
  EXPECT_EQ(log.batches(), (std::vector<std::size_t>{1, 3}));
  EXPECT_EQ(writer.stats().failures, 4u);
  EXPECT_EQ(writer.stats().events, 0u);

  writer.submit({event()}, answers.next());
  EXPECT_TRUE(answers.wait(4).ok());
}

TEST(GroupWriter, TriesAConflictOnceMore) {
  GatedLog log;
  Answers answers;
  GroupWriter writer(log);
  log.fail_once(ErrorCode::Conflict);
  writer.submit({event()}, answers.next());
  EXPECT_TRUE(answers.wait(0).ok());
  EXPECT_EQ(log.batches().size(), 2u);

  log.fail_once(ErrorCode::Conflict);
  log.fail_once(ErrorCode::Conflict);
  writer.submit({event()}, answers.next());
  EXPECT_EQ(code_of(answers.wait(1)), ErrorCode::Conflict);
  EXPECT_EQ(log.batches().size(), 4u);
}

TEST(GroupWriter, OneGoneTenantDoesNotRefuseTheOthers) {
  const TenantId gone("gone");
  for (std::size_t at = 0; at < 9; ++at) {
    GatedLog log;
    log.remove(gone);
    log.close();
    Answers answers;
    GroupWriter writer(log);
    writer.submit({event()}, answers.next());
    log.wait_for_appends(1);
    for (std::size_t i = 0; i < 9; ++i) {
      const auto note = std::to_string(i);
      std::vector<Event> events{event(kAcme, note)};
      if (i == at) events.push_back(event(gone, note));
      writer.submit(std::move(events), answers.next());
    }
    log.open();
    EXPECT_TRUE(answers.wait(0).ok());
    for (std::size_t i = 0; i < 9; ++i) {
      EXPECT_EQ(code_of(answers.wait(i + 1)),
                i == at ? std::optional(ErrorCode::NotFound) : std::nullopt)
          << "gone at " << at << ", submission " << i;
    }
    std::vector<std::string> expected{"x"};
    for (std::size_t i = 0; i < 9; ++i) {
      if (i != at) expected.push_back(std::to_string(i));
    }
    EXPECT_EQ(log.notes(), expected);  // in order, each once
  }
}

TEST(GroupWriter, AllTenantsGoneIsAllRefused) {
  GatedLog log;
  log.remove(kAcme);
  log.close();
  Answers answers;
  GroupWriter writer(log);
  for (int i = 0; i < 5; ++i) writer.submit({event()}, answers.next());
  log.open();
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(code_of(answers.wait(i)), ErrorCode::NotFound);
  EXPECT_TRUE(log.notes().empty());
}

TEST(GroupWriter, AThrowingLogIsAFailedStatus) {
  GatedLog log;
  log.throw_always();
  Answers answers;
  GroupWriter writer(log);
  for (std::size_t i = 0; i < 2; ++i) {
    writer.submit({event()}, answers.next());
    const auto status = answers.wait(i);
    ASSERT_EQ(code_of(status), ErrorCode::Unavailable);
    EXPECT_EQ((status.error().detail + status.error().diagnostic).find("secret"),
              std::string::npos);
  }
}

TEST(GroupWriter, AThrowingCallbackHarmsNobody) {
  GatedLog log;
  log.close();
  Answers answers;
  GroupWriter writer(log);
  writer.submit({event()}, answers.next());
  log.wait_for_appends(1);
  writer.submit({event()}, [](const Status&) { throw std::runtime_error("callback"); });
  writer.submit({event()}, [](const Status&) { throw 7; });
  writer.submit({event()}, answers.next());
  log.open();
  EXPECT_TRUE(answers.wait(0).ok());
  EXPECT_TRUE(answers.wait(1).ok());
}

TEST(GroupWriter, ACallbackMaySubmitAndAskForStats) {
  GatedLog log;
  Answers answers;
  GroupWriter writer(log);
  auto inner = answers.next();
  auto outer = answers.next();
  writer.submit({event()}, [&](const Status& status) {
    (void)writer.stats();
    writer.submit({event()}, inner);
    outer(status);
  });
  EXPECT_TRUE(answers.wait(0).ok());
  EXPECT_TRUE(answers.wait(1).ok());
}

TEST(GroupWriter, CommitsWhatWaitsBeforeItEnds) {
  GatedLog log;
  log.close();
  Answers answers;
  {
    GroupWriter writer(log, {.max_batch = 3});
    for (int i = 0; i < 20; ++i) writer.submit({event()}, answers.next());
    log.open();
  }
  for (std::size_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(answers.ready(i));
    EXPECT_TRUE(answers.wait(i).ok());
  }
  EXPECT_EQ(log.notes().size(), 20u);
}

TEST(GroupWriter, CountsWhatItDid) {
  GatedLog log;
  log.close();
  Answers answers;
  GroupWriter writer(log);
  writer.submit({event()}, answers.next());
  log.wait_for_appends(1);
  for (int i = 0; i < 4; ++i) writer.submit({event()}, answers.next());
  EXPECT_EQ(writer.stats().waiting, 4u);
  log.open();
  for (std::size_t i = 0; i < 5; ++i) (void)answers.wait(i);
  EXPECT_EQ(writer.stats().batches, 2u);
  EXPECT_EQ(writer.stats().events, 5u);
  EXPECT_EQ(writer.stats().failures, 0u);
  EXPECT_EQ(writer.stats().waiting, 0u);
}

TEST(GroupWriter, ManyThreadsLeaveOneWholeChainEach) {
  test::InMemoryAuditLog log;
  constexpr int kThreads = 8;
  constexpr int kEach = 500;
  std::atomic<int> committed = 0;
  {
    GroupWriter writer(log);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        const TenantId tenant(t % 2 ? "odd" : "even");
        for (int i = 0; i < kEach; ++i) {
          writer.submit({event(tenant)}, [&](const Status& status) { committed += status.ok(); });
        }
      });
    }
    for (auto& thread : threads) thread.join();
  }
  EXPECT_EQ(committed, kThreads * kEach);
  for (const char* name : {"odd", "even"}) {
    const auto verification = log.verify(TenantId(name)).value();
    EXPECT_TRUE(verification.intact);
    EXPECT_EQ(verification.records, static_cast<std::uint64_t>(kThreads * kEach / 2));
  }
  EXPECT_LT(log.appends(), static_cast<std::size_t>(kThreads * kEach));
}

}  // namespace
}  // namespace postern::audit
