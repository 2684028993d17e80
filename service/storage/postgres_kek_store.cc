#include "storage/postgres_kek_store.h"

#include <cstdint>

#include "storage/kek_row.h"

namespace postern::storage {

constexpr Statement kKeks{"kek.list", R"sql(
    SELECT k.version, k.root_key_id, k.wrapped, k.held_check, t.seals
      FROM kek k JOIN tenant t ON t.tenant_id = k.tenant_id
     WHERE k.tenant_id = $1
     ORDER BY k.version DESC)sql"};

Result<std::vector<vault::WrappedKek>> PostgresKekStore::keks(const TenantId& tenant) {
  return named(kKeks.name, database_.pool(),
               [&](Session& session) -> Result<std::vector<vault::WrappedKek>> {
                 TenantTransaction tx(session, tenant);
                 std::vector<vault::WrappedKek> out;
                 for (const auto& row : tx.run(kKeks, tenant.str())) {
                   out.push_back({KekVersion{number<std::uint32_t>(row[0])}, text(row[1]),
                                  bytes(row[2]), held_in(row[3], row[4])});
                 }
                 if (out.empty()) return fail(ErrorCode::NotFound, "no such tenant");
                 return out;
               });
}

}  // namespace postern::storage
