#include "storage/postgres_inventory.h"

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "storage/credential_row.h"
#include "storage/session.h"
#include "storage/stored_texts.h"

namespace postern::storage {
namespace {

constexpr std::uint32_t kPage = 200;

// The columns of sealed_in(), then whose it is.
constexpr Statement kVersions{"inventory.versions", R"sql(
    SELECT v.version, v.kek_version, v.wrapped_dek, v.sealed, array_to_string(v.field_names, ','),
           extract(epoch FROM v.created_at)::bigint, extract(epoch FROM v.expires_at)::bigint,
           v.share_id, extract(epoch FROM v.deleted_at)::bigint, v.owner_issuer, v.owner_subject,
           v.name
      FROM credential_version v
     WHERE v.tenant_id = $1 AND v.destroyed_at IS NULL
       AND (v.owner_issuer, v.owner_subject, v.name, v.version) > ($2, $3, $4, $5)
     ORDER BY v.owner_issuer, v.owner_subject, v.name, v.version
     LIMIT $6)sql"};

constexpr Statement kVersionsOf{"inventory.versions_of", R"sql(
    SELECT v.version, v.kek_version, v.wrapped_dek, v.sealed, array_to_string(v.field_names, ','),
           extract(epoch FROM v.created_at)::bigint, extract(epoch FROM v.expires_at)::bigint,
           v.share_id
      FROM credential_version v
     WHERE v.tenant_id = $1 AND v.owner_issuer = $2 AND v.owner_subject = $3 AND v.name = $4
       AND v.destroyed_at IS NULL)sql"};
constexpr Statement kMissing{"inventory.missing", R"sql(
    SELECT count(*)
      FROM credential c
     WHERE c.tenant_id = $1 AND c.current_version > 0
       AND NOT EXISTS (SELECT FROM credential_version v
                        WHERE v.tenant_id = c.tenant_id AND v.owner_issuer = c.owner_issuer
                          AND v.owner_subject = c.owner_subject AND v.name = c.name
                          AND v.version = c.current_version))sql"};
constexpr Statement kPutCredential{"inventory.put_credential", R"sql(
    INSERT INTO credential
           (tenant_id, owner_issuer, owner_subject, name, last_version, current_version,
            first_version, type, max_versions, cas_required, description, labels, metadata,
            rotation_due_at, last_used_at)
    VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8, $9, $10, $11::jsonb, $12::jsonb,
            to_timestamp(nullif($13, '')::bigint), to_timestamp(nullif($14, '')::bigint))
        ON CONFLICT DO NOTHING)sql"};
constexpr Statement kPutVersion{"inventory.put_version", R"sql(
    INSERT INTO credential_version
           (tenant_id, owner_issuer, owner_subject, name, version, kek_version, wrapped_dek,
            sealed, field_names, created_at, expires_at, deleted_at, share_id, withdrawn,
            metadata)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, string_to_array($9, ','), to_timestamp($10),
            to_timestamp(nullif($11, '')::bigint), to_timestamp(nullif($12, '')::bigint),
            nullif($13, ''::bytea), $14, $15::jsonb))sql"};
constexpr Statement kPutDestroyed{"inventory.put_destroyed", R"sql(
    INSERT INTO credential_version
           (tenant_id, owner_issuer, owner_subject, name, version, field_names, created_at,
            expires_at, deleted_at, destroyed_at, metadata)
    VALUES ($1, $2, $3, $4, $5, string_to_array($6, ','), to_timestamp($7),
            to_timestamp(nullif($8, '')::bigint), to_timestamp(nullif($9, '')::bigint),
            to_timestamp($10), $11::jsonb))sql"};

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
                {{owner_of(text(row[9]), text(row[10])), CredentialName(text(row[11]))},
                 sealed_in(row),
                 optional_instant(row[8])});
          }
          if (!rows.empty()) {
            const auto& last = rows.back();
            position = {text(last[9]), text(last[10]), text(last[11]),
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

Status PostgresInventory::each_credential(const TenantId& tenant,
                                          vault::CredentialStore& credentials,
                                          const EachCredential& each) {
  std::string cursor;
  do {
    POSTERN_TRY(const auto page, credentials.list(tenant, std::nullopt, cursor, kPage));
    for (const auto& item : page.items) {
      auto read = whole(tenant, item.key, credentials);
      // Removed since the page was read.
      if (!read.ok() && read.error().code == ErrorCode::NotFound) continue;
      POSTERN_TRY(auto credential, std::move(read));
      POSTERN_CHECK(each(std::move(credential)));
    }
    cursor = page.next;
  } while (!cursor.empty());
  return {};
}

Result<PostgresInventory::Credential> PostgresInventory::whole(
    const TenantId& tenant, const vault::CredentialKey& key, vault::CredentialStore& credentials) {
  using Sealed = std::map<std::uint32_t, vault::SealedVersion>;
  const auto& principal = key.owner.principal();
  constexpr int kAttempts = 10;
  // What is read between two alike is of the same moment.
  POSTERN_TRY(auto before, credentials.history(tenant, key));
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    auto sealed =
        named(kVersionsOf.name, database_.pool(), [&](Session& session) -> Result<Sealed> {
          TenantTransaction tx(session, tenant);
          Sealed found;
          for (const auto& row : tx.run(kVersionsOf, tenant.str(), principal.issuer,
                                        principal.subject, key.name.str())) {
            auto version = sealed_in(row);
            found.emplace(version.version, std::move(version));
          }
          return found;
        });
    if (!sealed.ok()) return sealed.error();
    POSTERN_TRY(auto after, credentials.history(tenant, key));
    const bool same = before.metadata.version == after.metadata.version &&
                      before.metadata.revision == after.metadata.revision;
    before = std::move(after);
    if (!same) continue;
    Credential credential{std::move(before.metadata), {}};
    for (auto& info : before.versions) {
      auto found = sealed.value().find(info.version);
      const bool destroyed = info.state() == vault::VersionState::Destroyed;
      if (!destroyed && found == sealed.value().end()) {
        return fail(ErrorCode::Internal, "a version of a credential is missing");
      }
      credential.versions.push_back(
          {std::move(info), destroyed ? std::nullopt : std::optional(std::move(found->second))});
    }
    return credential;
  }
  return fail(ErrorCode::Unavailable, "a credential is written faster than it can be read");
}

Result<std::uint64_t> PostgresInventory::missing(const TenantId& tenant) {
  return named(kMissing.name, database_.pool(), [&](Session& session) -> Result<std::uint64_t> {
    TenantTransaction tx(session, tenant);
    return number<std::uint64_t>(tx.run(kMissing, tenant.str())[0][0]);
  });
}

Result<std::uint64_t> PostgresInventory::put_back(const TenantId& tenant,
                                                  std::span<const Credential> credentials) {
  return named(
      kPutCredential.name, database_.pool(), [&](Session& session) -> Result<std::uint64_t> {
        TenantTransaction tx(session, tenant);
        std::uint64_t stored = 0;
        for (const auto& [metadata, versions] : credentials) {
          const auto& [issuer, subject] = metadata.key.owner.principal();
          const auto& name = metadata.key.name.str();
          const auto& description = metadata.description;
          if (versions.empty()) continue;
          const auto put =
              tx.run(kPutCredential, tenant.str(), issuer, subject, name, metadata.version,
                     versions.front().info.version, description.type, description.max_versions,
                     description.cas_required, description.description, json_of(description.labels),
                     json_of(description.metadata), seconds_of(description.rotation_due_at),
                     seconds_of(metadata.last_used_at));
          if (put.affected_rows() == 0) continue;
          ++stored;
          for (const auto& [info, sealed] : versions) {
            if (info.destroyed_at) {
              tx.run(kPutDestroyed, tenant.str(), issuer, subject, name, info.version,
                     joined(info.field_names), seconds_of(info.created_at),
                     seconds_of(info.expires_at), seconds_of(info.deleted_at),
                     seconds_of(*info.destroyed_at), json_of(info.metadata));
              continue;
            }
            tx.run(kPutVersion, tenant.str(), issuer, subject, name, info.version,
                   static_cast<std::uint32_t>(sealed->kek_version), ByteView(sealed->wrapped_dek),
                   ByteView(sealed->sealed), joined(info.field_names), seconds_of(info.created_at),
                   seconds_of(info.expires_at), seconds_of(info.deleted_at),
                   bytes_of(sealed->share), info.withdrawn, json_of(info.metadata));
          }
        }
        tx.commit();
        return stored;
      });
}

}  // namespace postern::storage
