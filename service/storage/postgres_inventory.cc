#include "storage/postgres_inventory.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "storage/credential_row.h"
#include "storage/session.h"

namespace postern::storage {
namespace {

constexpr std::uint32_t kPage = 200;

// The columns of sealed_in(), then whose it is.
constexpr Statement kVersions{"inventory.versions", R"sql(
    SELECT v.version, v.kek_version, v.wrapped_dek, v.sealed, array_to_string(v.field_names, ','),
           extract(epoch FROM v.created_at)::bigint, extract(epoch FROM v.expires_at)::bigint,
           extract(epoch FROM v.deleted_at)::bigint, v.owner_issuer, v.owner_subject, v.name
      FROM credential_version v
     WHERE v.tenant_id = $1 AND v.destroyed_at IS NULL
       AND (v.owner_issuer, v.owner_subject, v.name, v.version) > ($2, $3, $4, $5)
     ORDER BY v.owner_issuer, v.owner_subject, v.name, v.version
     LIMIT $6)sql"};

/// The last one seen.
struct Position {
  std::string issuer, subject, name;
  std::uint32_t version = 0;
};

}  // namespace

Status PostgresInventory::each_version(const TenantId& tenant, const Each& each) {
  Position position;
  for (;;) {
    const auto page = named(
        kVersions.name, database_.pool(), [&](Session& session) -> Result<std::vector<Entry>> {
          TenantTransaction tx(session, tenant);
          const auto rows = tx.run(kVersions, tenant.str(), position.issuer, position.subject,
                                   position.name, position.version, kPage);
          std::vector<Entry> entries;
          for (const auto& row : rows) {
            entries.push_back(
                {{owner_of(text(row[8]), text(row[9])), CredentialName(text(row[10]))},
                 sealed_in(row),
                 optional_instant(row[7])});
          }
          if (!rows.empty()) {
            const auto& last = rows.back();
            position = {text(last[8]), text(last[9]), text(last[10]),
                        number<std::uint32_t>(last[0])};
          }
          return entries;
        });
    if (!page.ok()) return page.error();
    // Without a connection: to open them may take one.
    for (const auto& entry : page.value()) POSTERN_CHECK(each(entry));
    if (page.value().size() < kPage) return {};
  }
}

}  // namespace postern::storage
