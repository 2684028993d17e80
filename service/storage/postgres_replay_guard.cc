#include "storage/postgres_replay_guard.h"

#include <stdexcept>

#include "storage/session.h"

namespace postern::storage {

constexpr Statement kUseOnce{"used_once.first_use", "SELECT use_once($1, $2, $3, $4)"};

Result<bool> PostgresReplayGuard::first_use(const TenantId& tenant, std::string_view kind,
                                            const crypto::Hash256& digest, sys_seconds expires_at) {
  return named(kUseOnce.name, database_.pool(), [&](Session& session) -> Result<bool> {
    // The function sets the tenant for its own statement, which is the transaction.
    pqxx::nontransaction tx(session.link());
    const auto rows =
        session.run(tx, kUseOnce, tenant.str(), kind, ByteView(digest), seconds_of(expires_at));
    if (rows.empty()) throw std::logic_error("use_once answered nothing");
    return rows[0][0].as<bool>();
  });
}

}  // namespace postern::storage
