// Two replicas over one database, what a request costs it, and what happens to
// chains that somebody has tampered with.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "audit/group_writer.h"
#include "support/code_of.h"
#include "support/postgres_stores.h"
#include "vault/envelope.h"

namespace postern::test {
namespace {

class Replicas : public ::testing::Test {
 protected:
  /// The same root key for each replica, through the file they would share.
  vault::RootKeys root_keys() {
    const auto file = directory_.path() / "root-key";
    if (!std::filesystem::exists(file)) {
      EXPECT_TRUE(vault::RootKeys::create(file).ok());
    }
    return std::move(vault::RootKeys::load(file)).value();
  }
  std::vector<audit::Event> event(const TenantId& tenant) {
    return {{tenant,
             sys_seconds(std::chrono::seconds(1'800'000'000)),
             "token.exchange",
             audit::Outcome::Allowed,
             "request-1",
             {}}};
  }
  void as_superuser(const std::string& sql) {
    pqxx::connection connection(database_.superuser());
    pqxx::nontransaction tx(connection);
    tx.exec("SET search_path = postern");
    tx.exec(sql);
  }

  TempDirectory directory_;
  PostgresDatabase database_;
  StoreSet first_{database_.options(), root_keys()};
  StoreSet second_{database_.options(), root_keys()};
  const TenantId a_ = first_.add_tenant();
  const TenantId b_ = first_.add_tenant();
  const vault::CredentialKey key_{Owner::principal({"https://idp.example", "alice"}),
                                  CredentialName("github")};
};

// ---- what it costs ----

TEST_F(Replicas, AWarmBatchIsOneStatement) {
  ASSERT_TRUE(first_.log.append(std::vector{event(a_)[0], event(b_)[0]}).ok());
  const auto before = first_.database.stats();
  std::vector<audit::Event> batch;
  for (int i = 0; i < 64; ++i) batch.push_back(event(i % 2 == 0 ? a_ : b_)[0]);
  ASSERT_TRUE(first_.log.append(batch).ok());
  const auto after = first_.database.stats();
  EXPECT_EQ(after.queries - before.queries, 1U);
  EXPECT_EQ(after.transactions, before.transactions);
  EXPECT_EQ(after.audit_batches - before.audit_batches, 1U);
  EXPECT_EQ(after.audit_events - before.audit_events, 64U);
  EXPECT_EQ(after.audit_conflicts, 0U);
}

TEST_F(Replicas, AReleaseReadsOnce) {
  vault::Envelope envelope(first_.keyring);
  vault::Fields fields;
  fields.emplace("token", FieldValue(SecureBuffer::copy_of("s3cret")));
  ASSERT_TRUE(first_.credentials
                  .put(a_, key_, std::nullopt,
                       [&](std::uint32_t version) {
                         return envelope.seal(a_, key_, version, fields, {}, std::nullopt);
                       },
                       {})
                  .ok());
  const auto before = first_.database.stats();
  const auto sealed = first_.credentials.latest(a_, key_);
  ASSERT_TRUE(sealed.ok());
  const auto opened = envelope.open(a_, key_, sealed.value());
  EXPECT_TRUE(opened.ok());
  const auto after = first_.database.stats();
  EXPECT_EQ(after.queries - before.queries, 1U);
  EXPECT_EQ(after.transactions, before.transactions);

  // Moved to another owner, as by whoever can write the database, it does not open.
  const vault::CredentialKey other{Owner::tenant(), key_.name};
  EXPECT_FALSE(envelope.open(a_, other, sealed.value()).ok());
}

// ---- two replicas ----

TEST_F(Replicas, ContinueOneAnothersChains) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(first_.log.append(event(a_)).ok());
    ASSERT_TRUE(second_.log.append(event(a_)).ok());
  }
  EXPECT_GT(first_.database.stats().audit_conflicts, 0U);
  const auto verification = second_.log.verify(a_);
  ASSERT_TRUE(verification.ok());
  EXPECT_TRUE(verification.value().intact) << verification.value().problem;
  EXPECT_EQ(verification.value().records, 10U);
}

TEST_F(Replicas, WriteAtOnceWithoutLosingOrDeadlocking) {
  constexpr int kEach = 40;
  std::atomic<int> failed = 0;
  const auto write = [&](StoreSet& replica, const TenantId& one, const TenantId& other) {
    for (int i = 0; i < kEach; ++i) {
      const auto status = replica.log.append(std::vector{event(one)[0], event(other)[0]});
      if (!status.ok()) ++failed;
    }
  };
  const auto configure = [&](StoreSet& replica) {
    for (int i = 0; i < kEach / 4; ++i) {
      policy::ConfigChange change;
      change.put.push_back({policy::Kind::Role, "r" + std::to_string(i), "{}", 0});
      if (!replica.config.apply(a_, change, event(a_)).ok()) ++failed;
    }
  };
  std::thread one([&] { write(first_, a_, b_); });
  std::thread other([&] { write(second_, b_, a_); });
  std::thread config([&] { configure(second_); });
  one.join();
  other.join();
  config.join();
  EXPECT_EQ(failed, 0);
  const auto of_a = first_.log.verify(a_);
  const auto of_b = first_.log.verify(b_);
  EXPECT_TRUE(of_a.value().intact) << of_a.value().problem;
  EXPECT_TRUE(of_b.value().intact) << of_b.value().problem;
  EXPECT_EQ(of_a.value().records, 2U * kEach + kEach / 4);
  EXPECT_EQ(of_b.value().records, 2U * kEach);
}

TEST_F(Replicas, ATenantRemovedByOneIsGoneForTheOther) {
  ASSERT_TRUE(second_.log.append(event(a_)).ok());  // has its key and head in memory
  ASSERT_TRUE(first_.config.remove(a_, event(a_)).ok());
  EXPECT_EQ(code_of(second_.log.append(event(a_))), ErrorCode::NotFound);
  EXPECT_EQ(code_of(second_.log.append(std::vector{event(b_)[0], event(a_)[0]})),
            ErrorCode::NotFound);
  EXPECT_TRUE(second_.log.append(event(b_)).ok());
  EXPECT_EQ(second_.log.read(a_, {}).value().size(), 2U);
  EXPECT_EQ(second_.log.read(b_, {}).value().size(), 1U);

  // Nor can anything be stored for it with the keys still in memory.
  const auto put = second_.credentials.put(
      a_, key_, std::nullopt,
      [](std::uint32_t version) -> Result<vault::SealedVersion> {
        return vault::SealedVersion{version, KekVersion{1}, to_bytes("k"), to_bytes("s"), {"t"},
                                    {},      std::nullopt};
      },
      event(a_));
  EXPECT_EQ(code_of(put), ErrorCode::NotFound);
}

TEST_F(Replicas, AWriterOfBothGoesOnWhenOneTenantIsGone) {
  ASSERT_TRUE(second_.log.append(std::vector{event(a_)[0], event(b_)[0]}).ok());
  ASSERT_TRUE(first_.config.remove(a_, {}).ok());
  std::vector<Status> of_a(8), of_b(8);
  {
    audit::GroupWriter writer(second_.log);
    for (std::size_t i = 0; i < 8; ++i) {
      writer.submit(event(a_), [&, i](const Status& status) { of_a[i] = status; });
      writer.submit(event(b_), [&, i](const Status& status) { of_b[i] = status; });
    }
  }
  for (const auto& status : of_a) EXPECT_EQ(code_of(status), ErrorCode::NotFound);
  for (const auto& status : of_b) EXPECT_TRUE(status.ok());
  EXPECT_EQ(first_.log.verify(b_).value().records, 9U);
}

// ---- chains that were tampered with are not continued ----

TEST_F(Replicas, AChainCutOffIsNotContinued) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(first_.log.append(event(a_)).ok());
  as_superuser("DELETE FROM audit_record WHERE tenant_id = '" + a_.str() + "' AND sequence = 3");
  as_superuser(
      "UPDATE audit_head h SET sequence = 2, hash = (SELECT hash FROM audit_record r"
      " WHERE r.tenant_id = h.tenant_id AND r.sequence = 2)"
      " WHERE tenant_id = '" +
      a_.str() + "'");

  // One that has just begun, and the one that was there.
  for (auto* replica : {&second_, &first_}) {
    EXPECT_EQ(code_of(replica->log.append(event(a_))), ErrorCode::NotFound);
    EXPECT_EQ(code_of(replica->config.apply(a_, {}, event(a_))), ErrorCode::NotFound);
    EXPECT_TRUE(replica->log.append(event(b_)).ok()) << "others go on";
    EXPECT_EQ(replica->log.verify(a_).value().problem, "head forged") << "and it still shows";
  }
}

TEST_F(Replicas, AHeadSetBackAloneCannotBeContinuedEither) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(first_.log.append(event(a_)).ok());
  as_superuser("CREATE TABLE kept AS SELECT * FROM audit_head WHERE tenant_id = '" + a_.str() +
               "'");
  ASSERT_TRUE(first_.log.append(event(a_)).ok());
  as_superuser(
      "UPDATE audit_head h SET sequence = k.sequence, hash = k.hash, mac = k.mac"
      "  FROM kept k WHERE h.tenant_id = k.tenant_id");
  // The old head with its true MAC: the record that follows is there already.
  EXPECT_EQ(code_of(second_.log.append(event(a_))), ErrorCode::NotFound);
  EXPECT_EQ(second_.log.verify(a_).value().problem, "head does not match");
  EXPECT_EQ(second_.log.read(a_, {}).value().size(), 4U);
}

// ---- a failed write leaves the log usable ----

TEST_F(Replicas, AWriteThatFailsAfterItsEventsWereComputedLeavesTheChainWhole) {
  ASSERT_TRUE(first_.log.append(event(a_)).ok());
  policy::ConfigChange change;
  change.add_signing_keys.push_back({"k",
                                     "ES256",
                                     "{}",
                                     policy::SigningKeyState::Active,
                                     {KekVersion{9}, to_bytes("x")},
                                     {},
                                     std::nullopt});
  // Its KEK does not exist, which only the commit finds.
  EXPECT_EQ(code_of(first_.config.apply(a_, change, event(a_))), ErrorCode::NotFound);
  ASSERT_TRUE(first_.log.append(event(a_)).ok());
  const auto verification = first_.log.verify(a_);
  EXPECT_TRUE(verification.value().intact);
  EXPECT_EQ(verification.value().records, 2U);
}

TEST_F(Replicas, KeepsTheNewestVersionsOfACredential) {
  const auto put = [&](std::uint32_t) {
    return first_.credentials.put(a_, key_, std::nullopt,
                                  [](std::uint32_t version) -> Result<vault::SealedVersion> {
                                    return vault::SealedVersion{
                                        version, KekVersion{1}, to_bytes("k"), to_bytes("s"), {"t"},
                                        {},      std::nullopt};
                                  },
                                  {});
  };
  for (std::uint32_t i = 1; i <= 15; ++i) ASSERT_EQ(put(i).value().version, i);
  pqxx::connection connection(database_.superuser());
  pqxx::nontransaction tx(connection);
  const auto kept = tx.exec("SELECT count(*), min(version) FROM postern.credential_version")[0];
  EXPECT_STREQ(kept[0].c_str(), "10");
  EXPECT_STREQ(kept[1].c_str(), "6");
  EXPECT_EQ(first_.credentials.latest(a_, key_).value().version, 15U);
}

}  // namespace
}  // namespace postern::test
