#include "storage/postgres_share_store.h"

#include <cstdint>
#include <string>
#include <utility>

#include "core/wiping_memory.h"
#include "storage/session.h"

namespace postern::storage {
namespace {

constexpr Statement kAdd{"share.add", R"sql(
    INSERT INTO key_share (tenant_id, share_id, share) VALUES ($1, $2, $3)
        ON CONFLICT (tenant_id, share_id) DO NOTHING)sql"};
constexpr Statement kFind{"share.find", R"sql(
    SELECT share, share IS NULL FROM key_share WHERE tenant_id = $1 AND share_id = $2)sql"};
// Ids, one after the other.
#define THESE                                  \
  "(SELECT substr($2::bytea, 32 * i + 1, 32) " \
  "FROM generate_series(0, octet_length($2::bytea) / 32 - 1) i) "
constexpr Statement kKnow{"share.know", R"sql(
    SELECT count(*) FROM key_share WHERE tenant_id = $1 AND share_id IN )sql" THESE};
constexpr Statement kDestroy{"share.destroy", R"sql(
    UPDATE key_share SET share = NULL, destroyed_at = now()
     WHERE tenant_id = $1 AND share IS NOT NULL AND share_id IN )sql" THESE};
constexpr Statement kDestroyAll{"share.destroy_all", R"sql(
    UPDATE key_share SET share = NULL, destroyed_at = now()
     WHERE tenant_id = $1 AND share IS NOT NULL)sql"};

Error absent() { return fail(ErrorCode::NotFound, "no such share"); }

Bytes joined(std::span<const vault::ShareId> ids) {
  Bytes all;
  for (const auto& id : ids) all.insert(all.end(), id.begin(), id.end());
  return all;
}

constexpr Statement kEcho{"share.echo", "SELECT $1::text"};

/// Runs `body(session)`, which sends or reads a share, and leaves nothing of it in memory
/// that libpq freed, nor in the buffers that the connection keeps.
template <class Body>
auto with_share(std::string_view name, ConnectionPool& pool, Body&& body)
    -> decltype(body(std::declval<Session&>())) {
  const WipingScope wiping;
  return named(name, pool, [&](Session& session) -> decltype(body(session)) {
    try {
      auto done = body(session);
      try {
        // Each message begins where the one before did. A share's are of a few hundred bytes.
        pqxx::nontransaction tx(session.link());
        session.run(tx, kEcho, std::string(4096, '.'));
      } catch (...) {
        session.discard();
      }
      return done;
    } catch (...) {
      session.discard();  // it keeps the server's words too, which may quote the row
      throw;
    }
  });
}

Status known(TenantTransaction& tx, const TenantId& tenant, const Bytes& ids) {
  const auto there = number<std::uint64_t>(tx.run(kKnow, tenant.str(), ByteView(ids))[0][0]);
  return there == ids.size() / sizeof(vault::ShareId) ? Status() : absent();
}

}  // namespace

Status PostgresShareStore::add(const TenantId& tenant, const vault::ShareId& id,
                               const vault::KeyShare& share) {
  return with_share(kAdd.name, database_.pool(), [&](Session& session) -> Status {
    TenantTransaction tx(session, tenant);
    share.expose([&](ByteView bytes) { tx.run(kAdd, tenant.str(), ByteView(id), bytes); });
    tx.commit();
    return {};
  });
}

Result<vault::KeyShare> PostgresShareStore::find(const TenantId& tenant, const vault::ShareId& id) {
  return with_share(kFind.name, database_.pool(), [&](Session& session) -> Result<vault::KeyShare> {
    TenantTransaction tx(session, tenant);
    const auto rows = tx.run(kFind, tenant.str(), ByteView(id));
    if (rows.empty()) return absent();
    if (rows[0][1].as<bool>()) return fail(ErrorCode::Conflict, "this share is destroyed");
    auto read = bytes(rows[0][0]);
    auto buffer = SecureBuffer::copy_of(read);
    wipe(read);
    return vault::KeyShare(std::move(buffer));
  });
}

Status PostgresShareStore::know(const TenantId& tenant, std::span<const vault::ShareId> ids) {
  return named(kKnow.name, database_.pool(), [&](Session& session) -> Status {
    TenantTransaction tx(session, tenant);
    return known(tx, tenant, joined(ids));
  });
}

Status PostgresShareStore::destroy(const TenantId& tenant, std::span<const vault::ShareId> ids) {
  return named(kDestroy.name, database_.pool(), [&](Session& session) -> Status {
    TenantTransaction tx(session, tenant);
    const auto these = joined(ids);
    tx.run(kDestroy, tenant.str(), ByteView(these));
    POSTERN_CHECK(known(tx, tenant, these));
    tx.commit();
    return {};
  });
}

Result<std::uint64_t> PostgresShareStore::destroy_all(const TenantId& tenant) {
  return named(kDestroyAll.name, database_.pool(), [&](Session& session) -> Result<std::uint64_t> {
    TenantTransaction tx(session, tenant);
    const auto gone = tx.run(kDestroyAll, tenant.str()).affected_rows();
    tx.commit();
    return static_cast<std::uint64_t>(gone);
  });
}

}  // namespace postern::storage
