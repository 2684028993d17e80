#include "storage/postgres_kek_store.h"

#include <cstdint>

#include "storage/kek_row.h"

namespace postern::storage {

constexpr Statement kKeks{"kek.list", R"sql(
    SELECT k.version, k.root_key_id, k.wrapped, k.held_check, t.seals, k.share_id
      FROM kek k JOIN tenant t ON t.tenant_id = k.tenant_id
     WHERE k.tenant_id = $1
     ORDER BY k.version DESC)sql"};
constexpr Statement kPrincipalShare{"principal_share.find", R"sql(
    SELECT (SELECT share_id FROM principal_share
             WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3),
           EXISTS (SELECT FROM erasure
                    WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3
                      AND done_at IS NULL)
             OR EXISTS (SELECT FROM tenant_erasure WHERE tenant_id = $1))sql"};
constexpr Statement kAddPrincipalShare{"principal_share.add", R"sql(
    INSERT INTO principal_share (tenant_id, owner_issuer, owner_subject, share_id)
    VALUES ($1, $2, $3, $4)
        ON CONFLICT (tenant_id, owner_issuer, owner_subject) DO NOTHING)sql"};

Result<std::vector<vault::WrappedKek>> PostgresKekStore::keks(const TenantId& tenant) {
  return named(kKeks.name, database_.pool(),
               [&](Session& session) -> Result<std::vector<vault::WrappedKek>> {
                 TenantTransaction tx(session, tenant);
                 std::vector<vault::WrappedKek> out;
                 for (const auto& row : tx.run(kKeks, tenant.str())) {
                   out.push_back({KekVersion{number<std::uint32_t>(row[0])}, text(row[1]),
                                  bytes(row[2]), held_in(row[3], row[4]), share_in(row[5])});
                 }
                 if (out.empty()) return fail(ErrorCode::NotFound, "no such tenant");
                 return out;
               });
}

Result<std::optional<vault::ShareId>> PostgresKekStore::principal_share(
    const TenantId& tenant, const Principal& principal) {
  using Found = std::optional<vault::ShareId>;
  return named(kPrincipalShare.name, database_.pool(), [&](Session& session) -> Result<Found> {
    TenantTransaction tx(session, tenant);
    const auto rows = tx.run(kPrincipalShare, tenant.str(), principal.issuer, principal.subject);
    const auto share = share_in(rows[0][0]);
    // A share that would be made now would be of no use, and its row stay in the share store.
    if (!share && rows[0][1].as<bool>()) {
      return fail(ErrorCode::Conflict, "the owner is being erased",
                  std::string(kPrincipalShare.name) + " ERA01");
    }
    return share;
  });
}

Result<vault::ShareId> PostgresKekStore::add_principal_share(const TenantId& tenant,
                                                             const Principal& principal,
                                                             const vault::ShareId& fresh) {
  return named(kAddPrincipalShare.name, database_.pool(),
               [&](Session& session) -> Result<vault::ShareId> {
                 TenantTransaction tx(session, tenant);
                 tx.run(kAddPrincipalShare, tenant.str(), principal.issuer, principal.subject,
                        ByteView(fresh));
                 // By itself, so that it sees what somebody else has just added.
                 const auto rows =
                     tx.run(kPrincipalShare, tenant.str(), principal.issuer, principal.subject);
                 const auto which = share_in(rows[0][0]);
                 if (!which) {
                   return fail(ErrorCode::Conflict, "the owner has just been erased; try again");
                 }
                 tx.commit();
                 return *which;
               });
}

}  // namespace postern::storage
