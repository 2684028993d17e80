#include <gtest/gtest.h>

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

}  // namespace
}  // namespace postern::test
