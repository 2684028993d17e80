#include "storage/postgres_transit_store.h"

#include <stdexcept>

#include "storage/session.h"
#include "storage/write_audited.h"

namespace postern::storage {
namespace {

// What key_in() reads, of a key `k`; and version_in(), of a version `v`.
#define KEY_COLUMNS                                                             \
  "k.name, k.key_id, k.type, k.derived, k.deletion_allowed, k.latest_version, " \
  "k.min_decryption_version, k.min_encryption_version"
#define VERSION_COLUMNS \
  "v.version, extract(epoch FROM v.created_at)::bigint, v.kek_version, v.wrapped"

constexpr Statement kFind{"transit.find", "SELECT " KEY_COLUMNS ", " VERSION_COLUMNS R"sql(
      FROM transit_key k
      JOIN transit_key_version v
        ON v.tenant_id = k.tenant_id AND v.key_id = k.key_id AND v.version = k.latest_version
     WHERE k.tenant_id = $1 AND k.name = $2)sql"};
constexpr Statement kVersion{"transit.version", "SELECT " VERSION_COLUMNS R"sql(
      FROM transit_key_version v
     WHERE v.tenant_id = $1 AND v.key_id = $2 AND v.version = $3)sql"};
constexpr Statement kVersions{"transit.versions", "SELECT " VERSION_COLUMNS R"sql(
      FROM transit_key_version v
     WHERE v.tenant_id = $1 AND v.key_id = $2
     ORDER BY v.version)sql"};
constexpr Statement kNames{"transit.names", R"sql(
    SELECT name
      FROM transit_key
     WHERE tenant_id = $1
     ORDER BY name)sql"};
// One at a time, or two could pass the bound together.
constexpr Statement kLockTenant{"transit.lock_tenant", R"sql(
    SELECT pg_advisory_xact_lock(hashtextextended('postern.transit ' || $1, 0)))sql"};
constexpr Statement kCount{"transit.count", R"sql(
    SELECT count(*)
      FROM transit_key
     WHERE tenant_id = $1)sql"};
constexpr Statement kCreate{"transit.create", R"sql(
    INSERT INTO transit_key (tenant_id, name, key_id, type, derived, latest_version)
    VALUES ($1, $2, $3, $4, $5, 1))sql"};
constexpr Statement kLock{"transit.lock", "SELECT " KEY_COLUMNS R"sql(
      FROM transit_key k
     WHERE k.tenant_id = $1 AND k.name = $2
       FOR NO KEY UPDATE)sql"};
constexpr Statement kAddVersion{"transit.add_version", R"sql(
    INSERT INTO transit_key_version (tenant_id, key_id, version, kek_version, wrapped, created_at)
    VALUES ($1, $2, $3, $4, $5, to_timestamp($6)))sql"};
constexpr Statement kConfigure{"transit.configure", R"sql(
    UPDATE transit_key
       SET latest_version = $3, deletion_allowed = $4, min_decryption_version = $5,
           min_encryption_version = $6
     WHERE tenant_id = $1 AND name = $2)sql"};
constexpr Statement kRemove{"transit.remove", R"sql(
    DELETE FROM transit_key
     WHERE tenant_id = $1 AND name = $2)sql"};

Error absent() { return fail(ErrorCode::NotFound, "no such key"); }

vault::TransitKey key_in(const pqxx::row& row) {
  const auto type = vault::parse_transit_type(text(row[2]));
  if (!type) throw std::runtime_error("a key of an unknown type");
  return {vault::TransitName(text(row[0])),
          text(row[1]),
          *type,
          number<bool>(row[3]),
          number<bool>(row[4]),
          number<std::uint32_t>(row[5]),
          number<std::uint32_t>(row[6]),
          number<std::uint32_t>(row[7])};
}

vault::TransitVersion version_in(const pqxx::row& row, int first = 0) {
  return {number<std::uint32_t>(row[first]),
          instant(row[first + 1]),
          {KekVersion{number<std::uint32_t>(row[first + 2])}, bytes(row[first + 3])}};
}

void add(TenantTransaction& tx, const TenantId& tenant, const std::string& key_id,
         const vault::TransitVersion& made) {
  tx.run(kAddVersion, tenant.str(), key_id, made.version,
         static_cast<std::uint32_t>(made.wrapped.kek_version), ByteView(made.wrapped.wrapped),
         seconds_of(made.created_at));
}

void write_settings(TenantTransaction& tx, const TenantId& tenant, const vault::TransitKey& key) {
  tx.run(kConfigure, tenant.str(), key.name.str(), key.latest_version, key.deletion_allowed,
         key.min_decryption_version, key.min_encryption_version);
}

/// A change of a key that is locked meanwhile.
template <class Body>
Status change(const Statement& statement, Database& database, PostgresAuditLog& log,
              const TenantId& tenant, const vault::TransitName& name,
              std::span<const audit::Event> events, const Body& body) {
  const auto result = under_newest_kek(log, tenant, [&] {
    return write_audited<bool>(statement, database, log, tenant, events,
                               [&](TenantTransaction& tx) -> Result<bool> {
                                 const auto rows = tx.run(kLock, tenant.str(), name.str());
                                 if (rows.empty()) return absent();
                                 auto key = key_in(rows[0]);
                                 POSTERN_CHECK(body(tx, key));
                                 return true;
                               });
  });
  return result.ok() ? Status() : Status(result.error());
}

}  // namespace

Result<vault::TransitStore::Found> PostgresTransitStore::find(const TenantId& tenant,
                                                              const vault::TransitName& name) {
  return named(kFind.name, database_.pool(), [&](Session& session) -> Result<Found> {
    TenantTransaction tx(session, tenant);
    const auto rows = tx.run(kFind, tenant.str(), name.str());
    if (rows.empty()) return absent();
    return Found{key_in(rows[0]), version_in(rows[0], 8)};
  });
}

Result<vault::TransitVersion> PostgresTransitStore::version(const TenantId& tenant,
                                                            const std::string& key_id,
                                                            std::uint32_t version) {
  return named(kVersion.name, database_.pool(),
               [&](Session& session) -> Result<vault::TransitVersion> {
                 TenantTransaction tx(session, tenant);
                 const auto rows = tx.run(kVersion, tenant.str(), key_id, version);
                 if (rows.empty()) return absent();
                 return version_in(rows[0]);
               });
}

Result<std::vector<vault::TransitVersion>> PostgresTransitStore::versions(
    const TenantId& tenant, const std::string& key_id) {
  return named(kVersions.name, database_.pool(),
               [&](Session& session) -> Result<std::vector<vault::TransitVersion>> {
                 TenantTransaction tx(session, tenant);
                 std::vector<vault::TransitVersion> out;
                 for (const auto& row : tx.run(kVersions, tenant.str(), key_id)) {
                   out.push_back(version_in(row));
                 }
                 return out;
               });
}

Result<std::vector<std::string>> PostgresTransitStore::names(const TenantId& tenant) {
  return named(kNames.name, database_.pool(),
               [&](Session& session) -> Result<std::vector<std::string>> {
                 TenantTransaction tx(session, tenant);
                 std::vector<std::string> out;
                 for (const auto& row : tx.run(kNames, tenant.str())) out.push_back(text(row[0]));
                 return out;
               });
}

Status PostgresTransitStore::create(const TenantId& tenant, const vault::TransitKey& key,
                                    const Seal& seal, std::uint32_t most,
                                    std::span<const audit::Event> events) {
  const auto body = [&](TenantTransaction& tx) -> Result<bool> {
    POSTERN_TRY(const auto made, seal(key, 1));
    tx.run(kLockTenant, tenant.str());
    if (number<std::uint64_t>(tx.run(kCount, tenant.str())[0][0]) >= most) {
      return fail(ErrorCode::TooLarge, "there are as many keys as a tenant may have");
    }
    tx.run(kCreate, tenant.str(), key.name.str(), key.id, std::string(vault::to_string(key.type)),
           key.derived);
    add(tx, tenant, key.id, made);
    return true;
  };
  const auto result = under_newest_kek(log_, tenant, [&] {
    return write_audited<bool>(kCreate, database_, log_, tenant, events, body);
  });
  return result.ok() ? Status() : Status(result.error());
}

Status PostgresTransitStore::rotate(const TenantId& tenant, const vault::TransitName& name,
                                    const Seal& seal, std::uint32_t most,
                                    std::span<const audit::Event> events) {
  return change(kAddVersion, database_, log_, tenant, name, events,
                [&](TenantTransaction& tx, vault::TransitKey& key) -> Status {
                  if (key.latest_version >= most) {
                    return fail(ErrorCode::TooLarge, "the key has as many versions as it may have");
                  }
                  POSTERN_TRY(const auto made, seal(key, ++key.latest_version));
                  add(tx, tenant, key.id, made);
                  write_settings(tx, tenant, key);
                  return {};
                });
}

Status PostgresTransitStore::configure(const TenantId& tenant, const vault::TransitName& name,
                                       const Edit& edit, std::span<const audit::Event> events) {
  return change(kConfigure, database_, log_, tenant, name, events,
                [&](TenantTransaction& tx, vault::TransitKey& key) -> Status {
                  POSTERN_CHECK(edit(key));
                  write_settings(tx, tenant, key);
                  return {};
                });
}

Status PostgresTransitStore::remove(const TenantId& tenant, const vault::TransitName& name,
                                    const Check& check, std::span<const audit::Event> events) {
  return change(kRemove, database_, log_, tenant, name, events,
                [&](TenantTransaction& tx, vault::TransitKey& key) -> Status {
                  POSTERN_CHECK(check(key));
                  tx.run(kRemove, tenant.str(), name.str());
                  return {};
                });
}

}  // namespace postern::storage
