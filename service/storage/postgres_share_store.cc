#include "storage/postgres_share_store.h"

#include <cstdint>
#include <utility>

#include "storage/session.h"

namespace postern::storage {
namespace {

constexpr Statement kAdd{"share.add", R"sql(
    INSERT INTO key_share (tenant_id, share_id, share) VALUES ($1, $2, $3)
        ON CONFLICT (tenant_id, share_id) DO NOTHING)sql"};
constexpr Statement kFind{"share.find", R"sql(
    SELECT share FROM key_share
     WHERE tenant_id = $1 AND share_id = $2 AND share IS NOT NULL)sql"};
constexpr Statement kDestroy{"share.destroy", R"sql(
    UPDATE key_share SET share = NULL, destroyed_at = coalesce(destroyed_at, now())
     WHERE tenant_id = $1 AND share_id = $2)sql"};
constexpr Statement kDestroyAll{"share.destroy_all", R"sql(
    UPDATE key_share SET share = NULL, destroyed_at = now()
     WHERE tenant_id = $1 AND share IS NOT NULL)sql"};

Error absent() { return fail(ErrorCode::NotFound, "no such share"); }

}  // namespace

Status PostgresShareStore::add(const TenantId& tenant, const vault::ShareId& id,
                               const vault::KeyShare& share) {
  return named(kAdd.name, database_.pool(), [&](Session& session) -> Status {
    TenantTransaction tx(session, tenant);
    share.expose([&](ByteView bytes) { tx.run(kAdd, tenant.str(), ByteView(id), bytes); });
    tx.commit();
    return {};
  });
}

Result<vault::KeyShare> PostgresShareStore::find(const TenantId& tenant, const vault::ShareId& id) {
  return named(kFind.name, database_.pool(), [&](Session& session) -> Result<vault::KeyShare> {
    TenantTransaction tx(session, tenant);
    const auto rows = tx.run(kFind, tenant.str(), ByteView(id));
    if (rows.empty()) return absent();
    auto read = bytes(rows[0][0]);
    auto buffer = SecureBuffer::copy_of(read);
    wipe(read);
    return vault::KeyShare(std::move(buffer));
  });
}

Status PostgresShareStore::destroy(const TenantId& tenant, const vault::ShareId& id) {
  return named(kDestroy.name, database_.pool(), [&](Session& session) -> Status {
    TenantTransaction tx(session, tenant);
    if (tx.run(kDestroy, tenant.str(), ByteView(id)).affected_rows() == 0) return absent();
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
