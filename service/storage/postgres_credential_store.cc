#include "storage/postgres_credential_store.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "crypto/base64url.h"
#include "storage/credential_row.h"
#include "storage/session.h"
#include "storage/stored_texts.h"
#include "storage/write_audited.h"

namespace postern::storage {
namespace {

constexpr Statement kLatest{"credential.latest", R"sql(
    SELECT version, kek_version, wrapped_dek, sealed, field_names, created_at, expires_at, share_id
      FROM credential_latest($1, $2, $3, $4))sql"};
// What metadata_in() reads, of a credential `c` and its latest version `v`.
#define METADATA_OF_CREDENTIALS                                                                \
  "SELECT c.owner_issuer, c.owner_subject, c.name, v.version, array_to_string(v.field_names, " \
  "','), "                                                                                     \
  "extract(epoch FROM v.created_at)::bigint, extract(epoch FROM v.expires_at)::bigint, "       \
  "extract(epoch FROM v.deleted_at)::bigint, extract(epoch FROM v.destroyed_at)::bigint, "     \
  "extract(epoch FROM c.last_used_at)::bigint, c.revision, c.type, c.max_versions, "           \
  "c.cas_required, "                                                                           \
  "c.description, c.labels, c.metadata, extract(epoch FROM c.rotation_due_at)::bigint "        \
  "FROM credential c JOIN credential_version v "                                               \
  "ON v.tenant_id = c.tenant_id AND v.owner_issuer = c.owner_issuer "                          \
  "AND v.owner_subject = c.owner_subject AND v.name = c.name AND v.version = c.current_version "

// The versions that count of one credential, $1 to $4.
#define VERSIONS_OF_CREDENTIAL                                        \
  " FROM credential c JOIN credential_version v "                     \
  "ON v.tenant_id = c.tenant_id AND v.owner_issuer = c.owner_issuer " \
  "AND v.owner_subject = c.owner_subject AND v.name = c.name "        \
  "AND v.version BETWEEN c.first_version AND c.current_version "      \
  "WHERE c.tenant_id = $1 AND c.owner_issuer = $2 AND c.owner_subject = $3 AND c.name = $4 "
// What of a tenant's credentials is listed, after those before.
#define FILTERED                                                                         \
  "WHERE c.tenant_id = $1 AND (c.owner_issuer, c.owner_subject, c.name) > ($2, $3, $4) " \
  "AND c.labels @> $6::jsonb AND ($7 = '' OR c.type = $7) "                              \
  "AND ($8 = '' OR (c.rotation_due_at <= to_timestamp(nullif($8, '')::bigint) "          \
  "AND v.deleted_at IS NULL AND v.destroyed_at IS NULL)) "

constexpr Statement kVersion{"credential.version", R"sql(
    SELECT v.version, v.kek_version, v.wrapped_dek, v.sealed, array_to_string(v.field_names, ','),
           extract(epoch FROM v.created_at)::bigint, extract(epoch FROM v.expires_at)::bigint,
           v.share_id)sql" VERSIONS_OF_CREDENTIAL R"sql(
       AND v.version = $5 AND v.deleted_at IS NULL AND v.destroyed_at IS NULL)sql"};
// Locks the credential, present or not, until the transaction ends. The numbers of versions
// that were erased are not used again either.
constexpr Statement kNextVersion{"credential.next_version", R"sql(
    INSERT INTO credential
           (tenant_id, owner_issuer, owner_subject, name, last_version, current_version)
    VALUES ($1, $2, $3, $4,
            coalesce((SELECT max(e.last_version) FROM erasure e
                       WHERE e.tenant_id = $1 AND e.owner_issuer = $2 AND e.owner_subject = $3),
                     0) + 1, 0)
        ON CONFLICT (tenant_id, owner_issuer, owner_subject, name)
        DO UPDATE SET last_version = credential.last_version + 1
 RETURNING current_version, revision, type, max_versions, cas_required, description, labels,
           metadata, extract(epoch FROM rotation_due_at)::bigint, last_version, first_version,
           extract(epoch FROM last_used_at)::bigint)sql"};
constexpr Statement kPut{"credential.put", R"sql(
    WITH current AS (
      UPDATE credential
         SET current_version = $5, first_version = $12, revision = 0, type = $13,
             max_versions = $14, cas_required = $15, description = $16, labels = $17::jsonb,
             metadata = $18::jsonb, rotation_due_at = to_timestamp(nullif($19, '')::bigint),
             last_used_at = CASE WHEN current_version > 0 THEN last_used_at END
       WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4),
    pruned AS (
      DELETE FROM credential_version
       WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
         AND version < $12)
    INSERT INTO credential_version
           (tenant_id, owner_issuer, owner_subject, name, version, kek_version, wrapped_dek,
            sealed, field_names, created_at, expires_at, share_id, metadata)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, string_to_array($9, ','),
            to_timestamp($10), to_timestamp(nullif($11, '')::bigint),
            nullif($20, ''::bytea), $21::jsonb))sql"};
constexpr Statement kMetadata{"credential.metadata", METADATA_OF_CREDENTIALS R"sql(
     WHERE c.tenant_id = $1 AND c.owner_issuer = $2 AND c.owner_subject = $3
       AND c.name = $4)sql"};
constexpr Statement kHistory{"credential.history", R"sql(
    SELECT v.version, array_to_string(v.field_names, ','),
           extract(epoch FROM v.created_at)::bigint, extract(epoch FROM v.expires_at)::bigint,
           extract(epoch FROM v.deleted_at)::bigint, extract(epoch FROM v.destroyed_at)::bigint,
           v.withdrawn, v.metadata)sql" VERSIONS_OF_CREDENTIAL R"sql(
     ORDER BY v.version)sql"};
constexpr Statement kList{"credential.list", METADATA_OF_CREDENTIALS FILTERED R"sql(
     ORDER BY c.owner_issuer, c.owner_subject, c.name
     LIMIT $5)sql"};
constexpr Statement kListOfOwner{"credential.list_of_owner", METADATA_OF_CREDENTIALS FILTERED R"sql(
       AND c.owner_issuer = $9 AND c.owner_subject = $10
     ORDER BY c.owner_issuer, c.owner_subject, c.name
     LIMIT $5)sql"};
// Its columns begin as those of kNextVersion.
constexpr Statement kLock{"credential.lock", R"sql(
    SELECT current_version, revision, type, max_versions, cas_required, description, labels,
           metadata, extract(epoch FROM rotation_due_at)::bigint
      FROM credential
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       FOR UPDATE)sql"};
constexpr Statement kDescribe{"credential.describe", R"sql(
    UPDATE credential
       SET revision = revision + 1, type = $5, max_versions = $6, cas_required = $7,
           description = $8, labels = $9::jsonb, metadata = $10::jsonb,
           rotation_due_at = to_timestamp(nullif($11, '')::bigint)
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4)sql"};
constexpr Statement kRevise{"credential.revise", R"sql(
    UPDATE credential SET revision = revision + 1
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4)sql"};
constexpr Statement kCountVersions{"credential.count_versions", R"sql(
    SELECT count(v.version), count(v.destroyed_at),
           count(v.version) FILTER (WHERE v.withdrawn AND v.destroyed_at IS NULL))sql" VERSIONS_OF_CREDENTIAL
                                                                R"sql(
       AND v.version = ANY ($5::integer[]))sql"};
constexpr Statement kDeleteVersions{"credential.delete_versions", R"sql(
    UPDATE credential_version SET deleted_at = to_timestamp($6)
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       AND version = ANY ($5::integer[]) AND deleted_at IS NULL AND destroyed_at IS NULL)sql"};
constexpr Statement kWithdrawVersions{"credential.withdraw_versions", R"sql(
    UPDATE credential_version
       SET deleted_at = coalesce(deleted_at, to_timestamp($6)), withdrawn = true
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       AND version = ANY ($5::integer[]) AND NOT withdrawn AND destroyed_at IS NULL)sql"};
constexpr Statement kUndeleteVersions{"credential.undelete_versions", R"sql(
    UPDATE credential_version SET deleted_at = NULL, withdrawn = false
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       AND version = ANY ($5::integer[]) AND deleted_at IS NOT NULL
       AND destroyed_at IS NULL)sql"};
constexpr Statement kDestroyVersions{"credential.destroy_versions", R"sql(
    UPDATE credential_version
       SET sealed = NULL, wrapped_dek = NULL, kek_version = NULL, destroyed_at = to_timestamp($6)
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       AND version = ANY ($5::integer[]) AND destroyed_at IS NULL)sql"};
constexpr Statement kRemove{"credential.remove", R"sql(
    WITH removed AS (
      DELETE FROM credential_version
       WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4)
    UPDATE credential
       SET current_version = 0, revision = 0, type = DEFAULT, max_versions = DEFAULT,
           cas_required = DEFAULT, description = DEFAULT, labels = DEFAULT, metadata = DEFAULT,
           rotation_due_at = NULL, last_used_at = NULL
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4)sql"};
// Locks in the order of the key, as every replica does, so that two never wait for each other.
constexpr Statement kNoteUses{"credential.note_uses", R"sql(
    WITH used AS (
      SELECT c.owner_issuer, c.owner_subject, c.name, to_timestamp(u.used_at) AS used_at
        FROM jsonb_to_recordset($2::jsonb) AS u(issuer text, subject text, name text,
                                                   used_at bigint)
        JOIN credential c
          ON c.tenant_id = $1 AND c.owner_issuer = u.issuer AND c.owner_subject = u.subject
         AND c.name = u.name
        JOIN credential_version v
          ON v.tenant_id = c.tenant_id AND v.owner_issuer = c.owner_issuer
         AND v.owner_subject = c.owner_subject AND v.name = c.name AND v.version = c.first_version
       WHERE c.current_version > 0 AND v.created_at <= to_timestamp(u.used_at)
         AND (c.last_used_at IS NULL OR c.last_used_at < to_timestamp(u.used_at))
       ORDER BY c.owner_issuer, c.owner_subject, c.name
         FOR UPDATE OF c)
    UPDATE credential c
       SET last_used_at = greatest(c.last_used_at, used.used_at)
      FROM used
     WHERE c.tenant_id = $1 AND c.owner_issuer = used.owner_issuer
       AND c.owner_subject = used.owner_subject AND c.name = used.name)sql"};

Error absent() { return fail(ErrorCode::NotFound, "no such credential"); }
Error absent_version() { return fail(ErrorCode::NotFound, "no such version"); }
Error changed() {
  return fail(ErrorCode::PreconditionFailed, "the credential has another version");
}

vault::Texts texts_in(const pqxx::field& field) {
  auto texts = parse_texts(text(field));
  if (!texts.ok()) throw std::runtime_error(texts.error().diagnostic);
  return std::move(texts).value();
}

/// Reads from `type` on.
vault::CredentialDescription description_in(const pqxx::row& row, int type) {
  vault::CredentialDescription out;
  out.type = text(row[type]);
  out.max_versions = number<std::uint32_t>(row[type + 1]);
  out.cas_required = number<bool>(row[type + 2]);
  out.description = text(row[type + 3]);
  out.labels = texts_in(row[type + 4]);
  out.metadata = texts_in(row[type + 5]);
  out.rotation_due_at = optional_instant(row[type + 6]);
  return out;
}

vault::CredentialMetadata metadata_in(const pqxx::row& row) {
  return {{owner_of(text(row[0]), text(row[1])), CredentialName(text(row[2]))},
          number<std::uint32_t>(row[3]),
          names_in(row[4]),
          instant(row[5]),
          optional_instant(row[6]),
          false,
          optional_instant(row[7]),
          optional_instant(row[8]),
          number<std::uint32_t>(row[10]),
          description_in(row, 11),
          optional_instant(row[9])};
}

/// What is there of a credential that this transaction has locked.
struct Locked {
  std::uint32_t current = 0;  // 0: no credential
  std::uint32_t revision = 0;
  vault::CredentialDescription description;
};
Locked locked_in(const pqxx::row& row) {
  Locked out{number<std::uint32_t>(row[0]), 0, {}};
  if (out.current == 0) return out;  // what was said of the one before counts no more
  out.revision = number<std::uint32_t>(row[1]);
  out.description = description_in(row, 2);
  return out;
}

/// Runs the edit and holds it to its bounds.
Status edited(const vault::CredentialStore::Edit& edit, vault::CredentialDescription& description) {
  if (!edit) return {};
  POSTERN_CHECK(edit(description));
  return vault::validate(description);
}

// The cursor names the last row shown: issuer and subject in base64url, then the name.
std::string cursor_after(const vault::CredentialKey& key) {
  const auto& [issuer, subject] = key.owner.principal();
  return crypto::base64url(as_bytes(issuer)) + '.' + crypto::base64url(as_bytes(subject)) + '.' +
         key.name.str();
}
struct Position {
  std::string issuer, subject, name;  // all empty: before the first
};
Result<Position> parse_cursor(std::string_view cursor) {
  if (cursor.empty()) return Position{};
  const auto malformed = fail(ErrorCode::MalformedRequest, "malformed cursor");
  const auto first = cursor.find('.');
  const auto second = first == cursor.npos ? first : cursor.find('.', first + 1);
  if (second == cursor.npos) return malformed;
  const auto issuer = crypto::base64url_decode(cursor.substr(0, first));
  const auto subject = crypto::base64url_decode(cursor.substr(first + 1, second - first - 1));
  const auto name = CredentialName::parse(cursor.substr(second + 1));
  if (!issuer.ok() || !subject.ok() || !name.ok()) return malformed;
  return Position{std::string(as_text(issuer.value())), std::string(as_text(subject.value())),
                  name.value().str()};
}

Result<vault::CredentialMetadata> metadata_of(TenantTransaction& tx, const TenantId& tenant,
                                              const vault::CredentialKey& key) {
  const auto& [issuer, subject] = key.owner.principal();
  const auto rows = tx.run(kMetadata, tenant.str(), issuer, subject, key.name.str());
  if (rows.empty()) return absent();
  return metadata_in(rows[0]);
}

constexpr std::uint32_t kLargestVersion = INT32_MAX;  // of the column

/// `{1,2}`; the current one when none is named.
std::string array_of(std::span<const std::uint32_t> versions, std::uint32_t current) {
  if (versions.empty()) return '{' + std::to_string(current) + '}';
  std::string out;
  for (const auto version : versions) {
    if (version <= kLargestVersion) out += (out.empty() ? "" : ",") + std::to_string(version);
  }
  return '{' + out + '}';
}

/// As write_audited(), of a credential that must be there: a tenant that is not has none.
template <class T, class Body>
Result<T> change(const Statement& statement, Database& database, PostgresAuditLog& log,
                 const TenantId& tenant, const vault::CredentialKey& key,
                 const std::optional<vault::Expected>& expected,
                 std::span<const audit::Event> events, const Body& body) {
  if (const auto keys = log.key_of(tenant); !keys.ok()) {
    return keys.error().code == ErrorCode::NotFound ? absent() : keys.error();
  }
  const auto& issuer = key.owner.principal().issuer;
  const auto& subject = key.owner.principal().subject;
  return write_audited<T>(
      statement, database, log, tenant, events, [&](TenantTransaction& tx) -> Result<T> {
        const auto rows = tx.run(kLock, tenant.str(), issuer, subject, key.name.str());
        if (rows.empty()) return absent();
        const auto locked = locked_in(rows[0]);
        if (locked.current == 0) return absent();
        const bool met = !expected || expected->meets(locked.current, locked.revision);
        if (!met) return changed();
        return body(tx, locked);
      });
}

}  // namespace

Result<vault::CredentialMetadata> PostgresCredentialStore::put(
    const TenantId& tenant, const vault::CredentialKey& key,
    std::optional<vault::Expected> expected, const Seal& seal, const Edit& edit,
    std::span<const audit::Event> events) {
  return under_newest_kek(log_, tenant,
                          [&] { return put_once(tenant, key, expected, seal, edit, events); });
}

Result<vault::CredentialMetadata> PostgresCredentialStore::put_once(
    const TenantId& tenant, const vault::CredentialKey& key,
    const std::optional<vault::Expected>& expected, const Seal& seal, const Edit& edit,
    std::span<const audit::Event> events) {
  using Metadata = vault::CredentialMetadata;
  const auto& issuer = key.owner.principal().issuer;
  const auto& subject = key.owner.principal().subject;
  return write_audited<Metadata>(
      kPut, database_, log_, tenant, events, [&](TenantTransaction& tx) -> Result<Metadata> {
        const auto next = tx.run(kNextVersion, tenant.str(), issuer, subject, key.name.str());
        const auto& row = next[0];
        const auto version = number<std::uint32_t>(row[9]);
        auto [current, revision, description] = locked_in(row);
        if (expected && !expected->meets(current, revision)) return changed();
        if (description.cas_required && !(expected && expected->named))
          return vault::cas_is_required();
        POSTERN_CHECK(edited(edit, description));

        POSTERN_TRY(const auto sealed, seal(version));
        if (sealed.version != version) throw std::logic_error("sealed as another version");
        POSTERN_CHECK(vault::validate_version_metadata(sealed.metadata));
        const auto oldest =
            version < description.max_versions ? 1 : version - description.max_versions + 1;
        const auto first =
            current == 0 ? version : std::max(number<std::uint32_t>(row[10]), oldest);
        tx.run(kPut, tenant.str(), issuer, subject, key.name.str(), version,
               static_cast<std::uint32_t>(sealed.kek_version), ByteView(sealed.wrapped_dek),
               ByteView(sealed.sealed), joined(sealed.field_names), seconds_of(sealed.created_at),
               seconds_of(sealed.expires_at), first, description.type, description.max_versions,
               description.cas_required, description.description, json_of(description.labels),
               json_of(description.metadata), seconds_of(description.rotation_due_at),
               bytes_of(sealed.share), json_of(sealed.metadata));
        return Metadata{key,
                        version,
                        sealed.field_names,
                        sealed.created_at,
                        sealed.expires_at,
                        current != 0,
                        std::nullopt,
                        std::nullopt,
                        0,
                        std::move(description),
                        current == 0 ? std::nullopt : optional_instant(row[11])};
      });
}

Result<vault::SealedVersion> PostgresCredentialStore::latest(const TenantId& tenant,
                                                             const vault::CredentialKey& key) {
  const auto& issuer = key.owner.principal().issuer;
  const auto& subject = key.owner.principal().subject;
  return named(
      kLatest.name, database_.pool(), [&](Session& session) -> Result<vault::SealedVersion> {
        // The function sets the tenant for its own statement.
        pqxx::nontransaction tx(session.link());
        const auto rows = session.run(tx, kLatest, tenant.str(), issuer, subject, key.name.str());
        if (rows.empty()) return absent();
        return sealed_in(rows[0]);
      });
}

Result<vault::SealedVersion> PostgresCredentialStore::version(const TenantId& tenant,
                                                              const vault::CredentialKey& key,
                                                              std::uint32_t number) {
  if (number > kLargestVersion) return absent_version();
  const auto& issuer = key.owner.principal().issuer;
  const auto& subject = key.owner.principal().subject;
  return named(
      kVersion.name, database_.pool(), [&](Session& session) -> Result<vault::SealedVersion> {
        TenantTransaction tx(session, tenant);
        const auto rows = tx.run(kVersion, tenant.str(), issuer, subject, key.name.str(), number);
        if (rows.empty()) return absent_version();
        return sealed_in(rows[0]);
      });
}

Result<vault::CredentialMetadata> PostgresCredentialStore::metadata(
    const TenantId& tenant, const vault::CredentialKey& key) {
  return named(kMetadata.name, database_.pool(), [&](Session& session) {
    TenantTransaction tx(session, tenant);
    return metadata_of(tx, tenant, key);
  });
}

Result<vault::CredentialStore::History> PostgresCredentialStore::history(
    const TenantId& tenant, const vault::CredentialKey& key) {
  const auto& issuer = key.owner.principal().issuer;
  const auto& subject = key.owner.principal().subject;
  return named(kHistory.name, database_.pool(), [&](Session& session) -> Result<History> {
    TenantTransaction tx(session, tenant, TenantTransaction::Mode::Snapshot);
    POSTERN_TRY(auto metadata, metadata_of(tx, tenant, key));
    History found{std::move(metadata), {}};
    for (const auto& row : tx.run(kHistory, tenant.str(), issuer, subject, key.name.str())) {
      found.versions.push_back({number<std::uint32_t>(row[0]), names_in(row[1]), instant(row[2]),
                                optional_instant(row[3]), optional_instant(row[4]),
                                optional_instant(row[5]), row[6].as<bool>(), texts_in(row[7])});
    }
    return found;
  });
}

Result<vault::CredentialMetadata> PostgresCredentialStore::describe(
    const TenantId& tenant, const vault::CredentialKey& key,
    std::optional<vault::Expected> expected, const Edit& edit,
    std::span<const audit::Event> events) {
  using Metadata = vault::CredentialMetadata;
  const auto& issuer = key.owner.principal().issuer;
  const auto& subject = key.owner.principal().subject;
  return change<Metadata>(kDescribe, database_, log_, tenant, key, expected, events,
                          [&](TenantTransaction& tx, const Locked& locked) -> Result<Metadata> {
                            auto description = locked.description;
                            POSTERN_CHECK(edited(edit, description));
                            if (description != locked.description) {
                              tx.run(kDescribe, tenant.str(), issuer, subject, key.name.str(),
                                     description.type, description.max_versions,
                                     description.cas_required, description.description,
                                     json_of(description.labels), json_of(description.metadata),
                                     seconds_of(description.rotation_due_at));
                            }
                            return metadata_of(tx, tenant, key);
                          });
}

Result<vault::CredentialMetadata> PostgresCredentialStore::change_versions(
    const TenantId& tenant, const vault::CredentialKey& key,
    std::span<const std::uint32_t> versions, VersionChange how,
    std::optional<vault::Expected> expected, sys_seconds now,
    std::span<const audit::Event> events) {
  using Metadata = vault::CredentialMetadata;
  const auto& issuer = key.owner.principal().issuer;
  const auto& subject = key.owner.principal().subject;
  return change<Metadata>(
      kDeleteVersions, database_, log_, tenant, key, expected, events,
      [&](TenantTransaction& tx, const Locked& locked) -> Result<Metadata> {
        const auto numbers = array_of(versions, locked.current);
        const auto& name = key.name.str();
        const auto counted = tx.run(kCountVersions, tenant.str(), issuer, subject, name, numbers);
        const auto there = number<std::uint64_t>(counted[0][0]);
        if (there == 0) return absent_version();
        if (how != VersionChange::Destroy && number<std::uint64_t>(counted[0][1]) == there) {
          return vault::version_is_destroyed();
        }
        if (how == VersionChange::Undelete && number<std::uint64_t>(counted[0][2]) != 0) {
          return vault::version_is_withdrawn();
        }
        const auto run = [&] {
          switch (how) {
            case VersionChange::Delete:
              return tx.run(kDeleteVersions, tenant.str(), issuer, subject, name, numbers,
                            seconds_of(now));
            case VersionChange::Withdraw:
              return tx.run(kWithdrawVersions, tenant.str(), issuer, subject, name, numbers,
                            seconds_of(now));
            case VersionChange::Undelete:
            case VersionChange::Restore:
              return tx.run(kUndeleteVersions, tenant.str(), issuer, subject, name, numbers);
            case VersionChange::Destroy:
              return tx.run(kDestroyVersions, tenant.str(), issuer, subject, name, numbers,
                            seconds_of(now));
          }
          throw std::logic_error("an unknown change of versions");
        };
        if (run().affected_rows() != 0) {
          tx.run(kRevise, tenant.str(), issuer, subject, name);
        }
        return metadata_of(tx, tenant, key);
      });
}

Result<vault::CredentialStore::Page> PostgresCredentialStore::list(const TenantId& tenant,
                                                                   const Filter& filter,
                                                                   std::string_view cursor,
                                                                   std::uint32_t limit) {
  POSTERN_TRY(const auto after, parse_cursor(cursor));
  const std::size_t at_most = std::clamp<std::uint32_t>(limit, 1, 1000);
  const auto labels = json_of(filter.labels);
  const auto due_by = seconds_of(filter.due_by);
  const auto& statement = filter.owner ? kListOfOwner : kList;
  return named(statement.name, database_.pool(), [&](Session& session) -> Result<Page> {
    TenantTransaction tx(session, tenant);
    const auto rows =
        filter.owner ? tx.run(kListOfOwner, tenant.str(), after.issuer, after.subject, after.name,
                              at_most + 1, labels, filter.type, due_by,
                              filter.owner->principal().issuer, filter.owner->principal().subject)
                     : tx.run(kList, tenant.str(), after.issuer, after.subject, after.name,
                              at_most + 1, labels, filter.type, due_by);
    Page page;
    for (const auto& row : rows) {
      if (page.items.size() == at_most) {
        page.next = cursor_after(page.items.back().key);
        break;
      }
      page.items.push_back(metadata_in(row));
    }
    return page;
  });
}

Status PostgresCredentialStore::remove(const TenantId& tenant, const vault::CredentialKey& key,
                                       std::optional<vault::Expected> expected,
                                       std::span<const audit::Event> events) {
  const auto& issuer = key.owner.principal().issuer;
  const auto& subject = key.owner.principal().subject;
  const auto removed =
      change<bool>(kRemove, database_, log_, tenant, key, expected, events,
                   [&](TenantTransaction& tx, const Locked&) -> Result<bool> {
                     tx.run(kRemove, tenant.str(), issuer, subject, key.name.str());
                     return true;
                   });
  POSTERN_CHECK(removed);
  return {};
}

Status PostgresCredentialStore::note_uses(const TenantId& tenant, std::span<const Use> uses) {
  if (uses.empty()) return {};
  std::string json;
  for (const auto& use : uses) {
    const auto& [issuer, subject] = use.key.owner.principal();
    JsonObjectText object;
    object.string("issuer", issuer)
        .string("subject", subject)
        .string("name", use.key.name.str())
        .number("used_at", seconds_of(use.at));
    json += (json.empty() ? "[" : ",") + object.str();
  }
  json += ']';
  return named(kNoteUses.name, database_.pool(), [&](Session& session) -> Status {
    TenantTransaction tx(session, tenant);
    tx.run(kNoteUses, tenant.str(), json);
    tx.commit();
    return {};
  });
}

}  // namespace postern::storage
