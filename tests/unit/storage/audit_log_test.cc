#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <utility>
#include <vector>

#include "support/audit_log_suite.h"
#include "support/postgres_stores.h"

namespace postern::test {
namespace {

std::string hex(const crypto::Hash256& hash) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "\\x";
  for (const auto byte : hash) {
    out += kDigits[static_cast<unsigned>(byte) >> 4];
    out += kDigits[static_cast<unsigned>(byte) & 15U];
  }
  return out;
}

class PostgresLog final : public AuditLogHarness {
 public:
  audit::AuditLog& log() override { return stores_.log; }
  TenantId add_tenant() override { return stores_.add_tenant(); }

  std::optional<AuditTamper> tamper() override {
    AuditTamper out;
    out.put = [this](const TenantId& tenant, const audit::Record& record) {
      write([&](pqxx::work& tx) {
        tx.exec("INSERT INTO postern.audit_record VALUES (" + tx.quote(tenant.str()) + ", " +
                std::to_string(record.sequence) + ", " + tx.quote(record.body) + ", " +
                tx.quote(hex(record.hash)) +
                ") ON CONFLICT (tenant_id, sequence)"
                " DO UPDATE SET body = excluded.body, hash = excluded.hash");
      });
    };
    out.remove = [this](const TenantId& tenant, std::uint64_t sequence) {
      write([&](pqxx::work& tx) {
        tx.exec("DELETE FROM postern.audit_record WHERE tenant_id = " + tx.quote(tenant.str()) +
                " AND sequence = " + std::to_string(sequence));
      });
    };
    out.rewrite_head = [this](const TenantId& tenant, const audit::ChainHead& head) {
      write([&](pqxx::work& tx) {
        tx.exec("UPDATE postern.audit_head SET sequence = " + std::to_string(head.sequence) +
                ", hash = " + tx.quote(hex(head.hash)) +
                " WHERE tenant_id = " + tx.quote(tenant.str()));
      });
    };
    out.rewrite_kek_version = [this](const TenantId& tenant, KekVersion version) {
      write([&](pqxx::work& tx) {
        tx.exec("UPDATE postern.audit_head SET kek_version = " +
                std::to_string(static_cast<unsigned>(version)) +
                " WHERE tenant_id = " + tx.quote(tenant.str()));
      });
    };
    return out;
  }

 private:
  template <class Write>
  void write(Write&& change) {
    pqxx::connection connection(stores_.superuser());
    pqxx::work tx(connection);
    change(tx);
    tx.commit();
  }

  PostgresStores stores_;
};

const AuditLogFactory kFactory{[] { return std::make_unique<PostgresLog>(); }};
INSTANTIATE_TEST_SUITE_P(Postgres, AuditLogSuite, ::testing::Values(kFactory));
INSTANTIATE_TEST_SUITE_P(Postgres, AuditTamperSuite, ::testing::Values(kFactory));

/// The stored head and records of a tenant, to put back later.
class Backup {
 public:
  Backup(const std::string& superuser, const TenantId& tenant)
      : connection_(superuser), tenant_(tenant.str()) {
    pqxx::work tx(connection_);
    tx.exec("CREATE TABLE kept AS SELECT * FROM postern.audit_head WHERE tenant_id = " +
            tx.quote(tenant_));
    tx.commit();
  }
  void restore() {
    pqxx::work tx(connection_);
    tx.exec("DELETE FROM postern.audit_record WHERE tenant_id = " + tx.quote(tenant_) +
            " AND sequence > (SELECT sequence FROM kept)");
    tx.exec(
        "UPDATE postern.audit_head h SET sequence = k.sequence, hash = k.hash, mac = k.mac"
        " FROM kept k WHERE h.tenant_id = k.tenant_id");
    tx.commit();
  }

 private:
  pqxx::connection connection_;
  const std::string tenant_;
};

TEST(PostgresAuditLog, SeesThatTheEndOfAChainWasTakenAway) {
  PostgresStores stores;
  const auto tenant = stores.add_tenant();
  const std::vector events{audit_event(tenant, "token.exchange", "kept")};
  ASSERT_TRUE(stores.log.append(events).ok());
  Backup backup(stores.superuser(), tenant);
  ASSERT_TRUE(
      stores.log.append(std::vector{audit_event(tenant, "credential.delete", "hidden")}).ok());
  ASSERT_TRUE(stores.log.verify(tenant).value().intact);
  backup.restore();

  const auto verification = stores.log.verify(tenant).value();
  EXPECT_FALSE(verification.intact);
  EXPECT_EQ(verification.problem, "records missing at the end");
  // Nothing is added on top, however often it is tried: that would hide it.
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(stores.log.append(events).ok());
  EXPECT_EQ(stores.log.verify(tenant).value().problem, "records missing at the end");
  EXPECT_EQ(stores.log.verify(tenant).value().records, 1u);
}

TEST(PostgresAuditLog, OneTenantsVerificationsLeaveRoomForAnothers) {
  PostgresStores stores;
  const auto a = stores.add_tenant();
  const auto b = stores.add_tenant();
  pqxx::connection locking(stores.superuser());
  pqxx::work lock(locking);
  lock.exec("LOCK TABLE postern.audit_record IN ACCESS EXCLUSIVE MODE");

  pqxx::connection watching(stores.superuser());
  const auto wait_for_blocked = [&](int count) {
    for (int blocked = 0; blocked < count;) {
      pqxx::nontransaction tx(watching);
      blocked = tx.exec("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0].as<int>();
    }
  };
  auto of_a = std::async(std::launch::async, [&] { return stores.log.verify(a); });
  wait_for_blocked(1);
  const auto again = stores.log.verify(a);
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, ErrorCode::RateLimited);
  auto of_b = std::async(std::launch::async, [&] { return stores.log.verify(b); });
  wait_for_blocked(2);
  lock.commit();
  EXPECT_TRUE(of_a.get().value().intact);
  EXPECT_TRUE(of_b.get().value().intact);
  EXPECT_TRUE(stores.log.verify(a).ok());
}

}  // namespace
}  // namespace postern::test
