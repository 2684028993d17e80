#pragma once

// The contract of audit::AuditLog as tests. To hold an implementation to it:
//
//   namespace postern::test {
//   INSTANTIATE_TEST_SUITE_P(Postgres, AuditLogSuite,
//       ::testing::Values(AuditLogFactory{[] { return std::make_unique<PostgresHarness>(); }}));
//   }

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "audit/chain.h"
#include "audit/event.h"
#include "audit/log.h"
#include "core/ids.h"
#include "support/code_of.h"

namespace postern::test {

/// What whoever can write the database, but has no root key, could do to it.
struct AuditTamper {
  std::function<void(const TenantId&, const audit::Record&)> put;  ///< replaces or adds a row
  std::function<void(const TenantId&, std::uint64_t)> remove;
  std::function<void(const TenantId&, const audit::ChainHead&)> rewrite_head;  ///< MAC stays
  std::function<void(const TenantId&, KekVersion)> rewrite_kek_version;        ///< of the head
};

class AuditLogHarness {
 public:
  virtual ~AuditLogHarness() = default;
  virtual audit::AuditLog& log() = 0;
  virtual TenantId add_tenant() = 0;  ///< a new one, with keys and an empty chain
  virtual std::optional<AuditTamper> tamper() { return std::nullopt; }
};

struct AuditLogFactory {
  std::function<std::unique_ptr<AuditLogHarness>()> make;
  friend void PrintTo(const AuditLogFactory&, std::ostream* out) { *out << "audit log"; }
};

inline audit::Event audit_event(const TenantId& tenant, std::string action,
                                const std::string& note = "") {
  audit::Event event{tenant,
                     sys_seconds(std::chrono::seconds(1'800'000'000)),
                     std::move(action),
                     audit::Outcome::Allowed,
                     "request-1",
                     {}};
  return event.with("note", note);
}

class AuditLogSuite : public ::testing::TestWithParam<AuditLogFactory> {
 protected:
  audit::AuditLog& log() { return harness_->log(); }

  /// Appends `count` events, one transaction each, noted 1, 2, 3, …
  void append(const TenantId& tenant, int count) {
    for (int i = 1; i <= count; ++i) {
      const std::vector events{audit_event(tenant, "token.exchange", std::to_string(i))};
      const auto status = log().append(events);
      ASSERT_TRUE(status.ok()) << status.error().detail;
    }
  }

  std::vector<audit::Record> read(const TenantId& tenant, const audit::Query& query = {}) {
    auto records = log().read(tenant, query);
    EXPECT_TRUE(records.ok());
    return records.ok() ? std::move(records).value() : std::vector<audit::Record>();
  }

  std::vector<std::uint64_t> sequences(const TenantId& tenant, const audit::Query& query) {
    std::vector<std::uint64_t> found;
    for (const auto& record : read(tenant, query)) found.push_back(record.sequence);
    return found;
  }

  audit::Verification verify(const TenantId& tenant) {
    auto verification = log().verify(tenant);
    EXPECT_TRUE(verification.ok()) << (verification.ok() ? "" : verification.error().detail);
    return verification.ok() ? std::move(verification).value() : audit::Verification();
  }

  void expect_problem(const TenantId& tenant, const std::string& problem, std::uint64_t first_bad) {
    const auto verification = verify(tenant);
    EXPECT_FALSE(verification.intact);
    EXPECT_EQ(verification.problem, problem);
    EXPECT_EQ(verification.first_bad, first_bad);
  }

  static audit::ChainHead head_of(const audit::Record& record) {
    return {record.sequence, record.hash};
  }

  std::unique_ptr<AuditLogHarness> harness_ = GetParam().make();
  const TenantId a_ = harness_->add_tenant();
  const TenantId b_ = harness_->add_tenant();
  const TenantId unknown_{"no-such-tenant"};
};

TEST_P(AuditLogSuite, EachTenantHasItsOwnChain) {
  const std::vector events{audit_event(a_, "token.exchange", "a1"),
                           audit_event(b_, "token.exchange", "b1"),
                           audit_event(a_, "token.exchange", "a2")};
  ASSERT_TRUE(log().append(events).ok());

  const auto of_a = read(a_);
  ASSERT_EQ(of_a.size(), 2u);
  EXPECT_EQ(of_a[0].body, audit::canonical(events[0]));
  EXPECT_EQ(of_a[1].body, audit::canonical(events[2]));
  EXPECT_EQ(of_a[0].hash, audit::link(a_, 1, {}, of_a[0].body));
  EXPECT_EQ(of_a[1].hash, audit::link(a_, 2, of_a[0].hash, of_a[1].body));

  const auto of_b = read(b_);
  ASSERT_EQ(of_b.size(), 1u);
  EXPECT_EQ(of_b[0].hash, audit::link(b_, 1, {}, of_b[0].body));
}

TEST_P(AuditLogSuite, AChainGoesOnAcrossAppends) {
  append(a_, 3);
  const auto records = read(a_);
  ASSERT_EQ(records.size(), 3u);
  for (std::size_t i = 1; i < records.size(); ++i) {
    EXPECT_EQ(records[i].sequence, i + 1);
    EXPECT_EQ(records[i].hash, audit::link(a_, i + 1, records[i - 1].hash, records[i].body));
  }
}

TEST_P(AuditLogSuite, NoEventsIsNothingToDo) {
  EXPECT_TRUE(log().append({}).ok());
  EXPECT_TRUE(read(a_).empty());
}

TEST_P(AuditLogSuite, OneUnknownTenantRefusesTheWholeBatch) {
  append(a_, 1);
  const std::vector events{audit_event(a_, "token.exchange"),
                           audit_event(unknown_, "token.exchange"),
                           audit_event(b_, "token.exchange")};
  EXPECT_EQ(code_of(log().append(events)), ErrorCode::NotFound);
  EXPECT_EQ(read(a_).size(), 1u);
  EXPECT_TRUE(read(b_).empty());
  EXPECT_TRUE(verify(a_).intact);
  EXPECT_TRUE(verify(b_).intact);

  append(a_, 1);  // and the chain is still where it was
  EXPECT_TRUE(verify(a_).intact);
}

TEST_P(AuditLogSuite, ATenantReadsOnlyItsOwnRecords) {
  append(a_, 2);
  EXPECT_TRUE(read(b_).empty());
  EXPECT_TRUE(read(unknown_).empty());
  audit::Query query;
  query.newest_first = true;
  EXPECT_TRUE(read(b_, query).empty());
  query.action = "token.";
  EXPECT_TRUE(read(b_, query).empty());
}

TEST_P(AuditLogSuite, ReadsPageByPage) {
  append(a_, 5);
  using Sequences = std::vector<std::uint64_t>;
  audit::Query query;
  query.limit = 2;
  EXPECT_EQ(sequences(a_, query), (Sequences{1, 2}));
  query.after = 2;
  EXPECT_EQ(sequences(a_, query), (Sequences{3, 4}));
  query.after = 4;
  EXPECT_EQ(sequences(a_, query), (Sequences{5}));
  query.after = 5;
  EXPECT_EQ(sequences(a_, query), Sequences{});
}

TEST_P(AuditLogSuite, ReadsNewestFirstBelowABound) {
  append(a_, 5);
  using Sequences = std::vector<std::uint64_t>;
  audit::Query query;
  query.newest_first = true;
  query.limit = 2;
  EXPECT_EQ(sequences(a_, query), (Sequences{5, 4}));
  query.after = 4;  // the last one seen
  EXPECT_EQ(sequences(a_, query), (Sequences{3, 2}));
  query.after = 1;
  EXPECT_EQ(sequences(a_, query), Sequences{});
}

TEST_P(AuditLogSuite, ReadsAThousandAtMost) {
  const std::vector<audit::Event> events(1001, audit_event(a_, "token.exchange"));
  ASSERT_TRUE(log().append(events).ok());
  audit::Query query;
  query.limit = 5000;
  EXPECT_EQ(read(a_, query).size(), 1000u);
}

TEST_P(AuditLogSuite, ReadsByActionOrItsPrefix) {
  const char* actions[] = {"token.exchange", "token.revoke",   "token",
                           "tokens.list",    "t_ken.exchange", "credential.release"};
  for (const char* action : actions) {
    ASSERT_TRUE(log().append(std::vector{audit_event(a_, action)}).ok());
  }
  using Sequences = std::vector<std::uint64_t>;
  const auto of = [&](const char* action) {
    audit::Query query;
    query.action = action;
    return sequences(a_, query);
  };
  EXPECT_EQ(of("token.exchange"), (Sequences{1}));
  EXPECT_EQ(of("token."), (Sequences{1, 2}));
  EXPECT_EQ(of("token"), (Sequences{3}));
  EXPECT_EQ(of("t_ken."), (Sequences{5}));  // no wildcard
  EXPECT_EQ(of("%."), Sequences{});
  EXPECT_EQ(of("exchange"), Sequences{});
  EXPECT_EQ(of("token.exchange' OR '1'='1"), Sequences{});
}

TEST_P(AuditLogSuite, TheActionIsNotMistakenForAField) {
  ASSERT_TRUE(log().append(std::vector{audit_event(a_, "token.exchange", "token.revoke")}).ok());
  audit::Query query;
  query.action = "token.revoke";
  EXPECT_TRUE(read(a_, query).empty());
}

TEST_P(AuditLogSuite, KeepsEveryBodyAsItIs) {
  const std::string odd =
      std::string("nul \0 ", 6) + "quote \" back \\ tab \t \xF0\x9F\x94\x91 \xFF";
  const std::vector events{audit_event(a_, "token.exchange", odd)};
  ASSERT_TRUE(log().append(events).ok());
  const auto records = read(a_);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].body, audit::canonical(events[0]));
  EXPECT_TRUE(verify(a_).intact);
}

TEST_P(AuditLogSuite, VerifiesAChainItWrote) {
  append(a_, 20);
  append(b_, 1);
  const auto verification = verify(a_);
  EXPECT_TRUE(verification.intact);
  EXPECT_EQ(verification.problem, "");
  EXPECT_EQ(verification.records, 20u);
  EXPECT_EQ(verification.first_bad, 0u);
  EXPECT_EQ(verification.head, read(a_).back().hash);
}

TEST_P(AuditLogSuite, VerifiesAnEmptyChain) {
  const auto verification = verify(a_);
  EXPECT_TRUE(verification.intact);
  EXPECT_EQ(verification.records, 0u);
}

TEST_P(AuditLogSuite, DoesNotVerifyAnUnknownTenant) {
  EXPECT_EQ(code_of(log().verify(unknown_)), ErrorCode::NotFound);
}

TEST_P(AuditLogSuite, ConcurrentAppendsLeaveWholeChains) {
  constexpr int kThreads = 6;
  constexpr int kEach = 10;
  std::vector<std::thread> threads;
  std::vector<int> appended(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        // Both orders, so that an implementation that locks as events come deadlocks.
        std::vector events{audit_event(t % 2 ? a_ : b_, "token.exchange"),
                           audit_event(t % 2 ? b_ : a_, "token.exchange")};
        auto status = log().append(events);
        for (int again = 0; code_of(status) == ErrorCode::Conflict && again < 100; ++again) {
          status = log().append(events);
        }
        if (status.ok()) ++appended[static_cast<std::size_t>(t)];
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const int count : appended) EXPECT_EQ(count, kEach);
  for (const auto& tenant : {a_, b_}) {
    const auto verification = verify(tenant);
    EXPECT_TRUE(verification.intact) << verification.problem;
    EXPECT_EQ(verification.records, static_cast<std::uint64_t>(kThreads * kEach));
  }
}

// ---- what whoever writes the database cannot hide ----

class AuditTamperSuite : public AuditLogSuite {
 protected:
  void SetUp() override {
    tamper_ = harness_->tamper();
    if (!tamper_) GTEST_SKIP() << "this harness cannot change rows";
    append(a_, 5);
    append(b_, 5);
    records_ = read(a_);
    ASSERT_EQ(records_.size(), 5u);
  }
  void TearDown() override {
    if (tamper_) {
      EXPECT_TRUE(verify(b_).intact) << "of the other tenant";
    }
  }

  /// Records `from` and later again, each linked to the one before.
  void relink(std::size_t from) {
    for (std::size_t i = from; i < records_.size(); ++i) {
      const auto previous = i == 0 ? crypto::Hash256{} : records_[i - 1].hash;
      records_[i].sequence = i + 1;
      records_[i].hash = audit::link(a_, i + 1, previous, records_[i].body);
      tamper_->put(a_, records_[i]);
    }
  }

  std::optional<AuditTamper> tamper_;
  std::vector<audit::Record> records_;
};

TEST_P(AuditTamperSuite, FindsAnAlteredBody) {
  auto record = records_[2];
  record.body.replace(record.body.find("allowed"), 7, "refused");
  tamper_->put(a_, record);
  expect_problem(a_, "record altered", 3);
}

TEST_P(AuditTamperSuite, FindsAnAlteredHash) {
  auto record = records_[4];
  record.hash[31] ^= std::byte{1};
  tamper_->put(a_, record);
  expect_problem(a_, "record altered", 5);
}

TEST_P(AuditTamperSuite, FindsAnAlteredRecordWithItsHashMadeToFit) {
  auto record = records_[2];
  record.body.replace(record.body.find("allowed"), 7, "refused");
  record.hash = audit::link(a_, 3, records_[1].hash, record.body);
  tamper_->put(a_, record);
  expect_problem(a_, "record altered", 4);
}

TEST_P(AuditTamperSuite, FindsARemovedRecord) {
  tamper_->remove(a_, 3);
  expect_problem(a_, "record missing", 3);
}

TEST_P(AuditTamperSuite, FindsThatTheFirstRecordWasRemoved) {
  tamper_->remove(a_, 1);
  expect_problem(a_, "record missing", 1);
}

TEST_P(AuditTamperSuite, FindsThatTheLastRecordWasRemoved) {
  tamper_->remove(a_, 5);
  expect_problem(a_, "record missing", 5);
}

TEST_P(AuditTamperSuite, FindsThatAllRecordsWereRemoved) {
  for (std::uint64_t i = 1; i <= 5; ++i) tamper_->remove(a_, i);
  expect_problem(a_, "record missing", 1);
}

TEST_P(AuditTamperSuite, FindsTheEndCutOffWithTheHeadMadeToFit) {
  tamper_->remove(a_, 5);
  tamper_->rewrite_head(a_, head_of(records_[3]));
  expect_problem(a_, "head forged", 0);
}

TEST_P(AuditTamperSuite, FindsAllRecordsRemovedWithTheHeadMadeToFit) {
  for (std::uint64_t i = 1; i <= 5; ++i) tamper_->remove(a_, i);
  tamper_->rewrite_head(a_, {});
  expect_problem(a_, "head forged", 0);
}

TEST_P(AuditTamperSuite, FindsAHeadSetBack) {
  tamper_->rewrite_head(a_, head_of(records_[3]));
  expect_problem(a_, "head does not match", 5);
}

TEST_P(AuditTamperSuite, FindsAHeadWithAnotherHash) {
  auto head = head_of(records_[4]);
  head.hash[0] ^= std::byte{1};
  tamper_->rewrite_head(a_, head);
  expect_problem(a_, "head does not match", 0);
}

TEST_P(AuditTamperSuite, FindsARecordAddedWithoutTheKey) {
  auto head = head_of(records_[4]);
  const auto added = audit::append(a_, head, audit_event(a_, "token.exchange", "never happened"));
  tamper_->put(a_, added);
  expect_problem(a_, "head does not match", 6);
  tamper_->rewrite_head(a_, head);
  expect_problem(a_, "head forged", 0);
}

TEST_P(AuditTamperSuite, FindsAChainRewrittenWhole) {
  records_[1].body.replace(records_[1].body.find("allowed"), 7, "refused");
  relink(1);
  expect_problem(a_, "head does not match", 0);
  tamper_->rewrite_head(a_, head_of(records_[4]));
  expect_problem(a_, "head forged", 0);
}

TEST_P(AuditTamperSuite, FindsSwappedRecords) {
  std::swap(records_[1].body, records_[2].body);
  std::swap(records_[1].hash, records_[2].hash);
  tamper_->put(a_, records_[1]);
  tamper_->put(a_, records_[2]);
  expect_problem(a_, "record altered", 2);
}

TEST_P(AuditTamperSuite, FindsARecordOfAnotherTenant) {
  const auto of_b = read(b_);
  ASSERT_EQ(of_b.size(), 5u);
  ASSERT_EQ(of_b[0].body, records_[0].body);  // even the very same event
  tamper_->put(a_, of_b[0]);
  expect_problem(a_, "record altered", 1);
}

TEST_P(AuditTamperSuite, FindsAHeadOfAKekVersionThatIsNot) {
  tamper_->rewrite_kek_version(a_, KekVersion{77});
  expect_problem(a_, "head forged", 0);
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AuditLogSuite);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AuditTamperSuite);

}  // namespace postern::test
