#pragma once

#include <optional>
#include <span>

#include "storage/postgres_audit_log.h"
#include "storage/session.h"

namespace postern::storage {

/// A change and its events, in one transaction. The audit log is asked for its key
/// first, which no transaction may wait for.
/// @param body  changes what there is; its error is the answer, and changes nothing.
template <class T, class Body>
Result<T> write_audited(const Statement& statement, Database& database, PostgresAuditLog& log,
                        const TenantId& tenant, std::span<const audit::Event> events,
                        const Body& body) {
  POSTERN_TRY(const auto chain_key, log.key_of(tenant));
  std::optional<audit::ChainHead> head;
  auto result = named(statement.name, database.pool(), [&](Session& session) -> Result<T> {
    TenantTransaction tx(session, tenant);
    POSTERN_TRY(auto done, body(tx));
    POSTERN_TRY(head, log.append_in(tx, tenant, chain_key, events));
    tx.commit();
    return done;
  });
  log.ended(tenant, result.ok() ? head : std::nullopt);
  return result;
}

/// Runs a write that seals until it is under the newest KEK, a few times: this
/// process may not have heard of a new one.
template <class Write>
auto under_newest_kek(PostgresAuditLog& log, const TenantId& tenant, const Write& write)
    -> decltype(write()) {
  constexpr int kAttempts = 3;
  for (int attempt = 1;; ++attempt) {
    auto result = write();
    if (result.ok() || attempt == kAttempts || !kek_was_rotated(result.error())) return result;
    log.forget_keys(tenant);
  }
}

}  // namespace postern::storage
