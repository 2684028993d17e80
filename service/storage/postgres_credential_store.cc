#include "storage/postgres_credential_store.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "crypto/base64url.h"
#include "storage/session.h"

namespace postern::storage {
namespace {

constexpr int kSealAttempts = 3;

constexpr Statement kLatest{"credential.latest", R"sql(
    SELECT version, kek_version, wrapped_dek, sealed, field_names, created_at, expires_at
      FROM credential_latest($1, $2, $3, $4))sql"};
// Locks the credential, present or not, until the transaction ends.
constexpr Statement kNextVersion{"credential.next_version", R"sql(
    INSERT INTO credential
           (tenant_id, owner_issuer, owner_subject, name, last_version, current_version)
    VALUES ($1, $2, $3, $4, 1, 0)
        ON CONFLICT (tenant_id, owner_issuer, owner_subject, name)
        DO UPDATE SET last_version = credential.last_version + 1
 RETURNING last_version, current_version)sql"};
constexpr Statement kPut{"credential.put", R"sql(
    WITH current AS (
      UPDATE credential SET current_version = $5
       WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4),
    pruned AS (
      DELETE FROM credential_version
       WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
         AND version <= $5 - $12)
    INSERT INTO credential_version
           (tenant_id, owner_issuer, owner_subject, name, version, kek_version, wrapped_dek,
            sealed, field_names, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, string_to_array($9, ','),
            to_timestamp($10), to_timestamp(nullif($11, '')::bigint)))sql"};
constexpr Statement kMetadata{"credential.metadata", R"sql(
    SELECT c.owner_issuer, c.owner_subject, c.name, v.version,
           array_to_string(v.field_names, ','), extract(epoch FROM v.created_at)::bigint,
           extract(epoch FROM v.expires_at)::bigint
      FROM credential c
      JOIN credential_version v
        ON v.tenant_id = c.tenant_id AND v.owner_issuer = c.owner_issuer
       AND v.owner_subject = c.owner_subject AND v.name = c.name
       AND v.version = c.current_version
     WHERE c.tenant_id = $1 AND c.owner_issuer = $2 AND c.owner_subject = $3
       AND c.name = $4)sql"};
constexpr Statement kList{"credential.list", R"sql(
    SELECT c.owner_issuer, c.owner_subject, c.name, v.version,
           array_to_string(v.field_names, ','), extract(epoch FROM v.created_at)::bigint,
           extract(epoch FROM v.expires_at)::bigint
      FROM credential c
      JOIN credential_version v
        ON v.tenant_id = c.tenant_id AND v.owner_issuer = c.owner_issuer
       AND v.owner_subject = c.owner_subject AND v.name = c.name
       AND v.version = c.current_version
     WHERE c.tenant_id = $1 AND (c.owner_issuer, c.owner_subject, c.name) > ($2, $3, $4)
     ORDER BY c.owner_issuer, c.owner_subject, c.name
     LIMIT $5)sql"};
constexpr Statement kListOfOwner{"credential.list_of_owner", R"sql(
    SELECT c.owner_issuer, c.owner_subject, c.name, v.version,
           array_to_string(v.field_names, ','), extract(epoch FROM v.created_at)::bigint,
           extract(epoch FROM v.expires_at)::bigint
      FROM credential c
      JOIN credential_version v
        ON v.tenant_id = c.tenant_id AND v.owner_issuer = c.owner_issuer
       AND v.owner_subject = c.owner_subject AND v.name = c.name
       AND v.version = c.current_version
     WHERE c.tenant_id = $1 AND (c.owner_issuer, c.owner_subject, c.name) > ($2, $3, $4)
       AND c.owner_issuer = $6 AND c.owner_subject = $7
     ORDER BY c.owner_issuer, c.owner_subject, c.name
     LIMIT $5)sql"};
constexpr Statement kLock{"credential.lock", R"sql(
    SELECT current_version
      FROM credential
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       FOR UPDATE)sql"};
constexpr Statement kRemove{"credential.remove", R"sql(
    WITH removed AS (
      DELETE FROM credential_version
       WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4)
    UPDATE credential SET current_version = 0
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4)sql"};

Error absent() { return fail(ErrorCode::NotFound, "no such credential"); }
Error changed() {
  return fail(ErrorCode::PreconditionFailed, "the credential has another version");
}

// Field names are [A-Za-z_][A-Za-z0-9_]*, so a comma separates them.
std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) {
    if (name.find(',') != std::string::npos) throw std::logic_error("a comma in a field name");
    out += (out.empty() ? "" : ",") + name;
  }
  return out;
}
std::vector<std::string> split(const std::string& names) {
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin <= names.size();) {
    const auto end = std::min(names.find(',', begin), names.size());
    out.push_back(names.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

Owner owner_of(std::string issuer, std::string subject) {
  if (issuer.empty() && subject.empty()) return Owner::tenant();
  return Owner::principal({std::move(issuer), std::move(subject)});
}

vault::CredentialMetadata metadata_in(const pqxx::row& row) {
  return {{owner_of(text(row[0]), text(row[1])), CredentialName(text(row[2]))},
          number<std::uint32_t>(row[3]),
          split(text(row[4])),
          instant(row[5]),
          optional_instant(row[6])};
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

}  // namespace

Result<vault::CredentialMetadata> PostgresCredentialStore::put(
    const TenantId& tenant, const vault::CredentialKey& key,
    std::optional<std::uint32_t> expected_version, const Seal& seal,
    std::span<const audit::Event> events) {
  for (int attempt = 1;; ++attempt) {
    auto result = put_once(tenant, key, expected_version, seal, events);
    if (result.ok() || attempt == kSealAttempts || !kek_was_rotated(result.error())) return result;
    log_.forget_keys(tenant);  // sealed again, it is under the new KEK
  }
}

Result<vault::CredentialMetadata> PostgresCredentialStore::put_once(
    const TenantId& tenant, const vault::CredentialKey& key,
    std::optional<std::uint32_t> expected_version, const Seal& seal,
    std::span<const audit::Event> events) {
  const auto& issuer = key.owner.principal().issuer;
  const auto& subject = key.owner.principal().subject;
  POSTERN_TRY(const auto chain_key, log_.key_of(tenant));
  std::optional<audit::ChainHead> head;
  auto result = named(
      kPut.name, database_.pool(), [&](Session& session) -> Result<vault::CredentialMetadata> {
        TenantTransaction tx(session, tenant);
        const auto next = tx.run(kNextVersion, tenant.str(), issuer, subject, key.name.str());
        const auto version = number<std::uint32_t>(next[0][0]);
        const auto current = number<std::uint32_t>(next[0][1]);
        if (expected_version && *expected_version != current) return changed();

        POSTERN_TRY(const auto sealed, seal(version));
        if (sealed.version != version) throw std::logic_error("sealed as another version");
        tx.run(kPut, tenant.str(), issuer, subject, key.name.str(), version,
               static_cast<std::uint32_t>(sealed.kek_version), ByteView(sealed.wrapped_dek),
               ByteView(sealed.sealed), joined(sealed.field_names), seconds_of(sealed.created_at),
               seconds_of(sealed.expires_at), kKeptVersions);
        POSTERN_TRY(head, log_.append_in(tx, tenant, chain_key, events));
        tx.commit();
        return vault::CredentialMetadata{
            key, version, sealed.field_names, sealed.created_at, sealed.expires_at, current != 0};
      });
  log_.ended(tenant, result.ok() ? head : std::nullopt);
  return result;
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
        const auto& row = rows[0];
        return vault::SealedVersion{number<std::uint32_t>(row[0]),
                                    KekVersion{number<std::uint32_t>(row[1])},
                                    bytes(row[2]),
                                    bytes(row[3]),
                                    split(text(row[4])),
                                    instant(row[5]),
                                    optional_instant(row[6])};
      });
}

Result<vault::CredentialMetadata> PostgresCredentialStore::metadata(
    const TenantId& tenant, const vault::CredentialKey& key) {
  const auto& issuer = key.owner.principal().issuer;
  const auto& subject = key.owner.principal().subject;
  return named(kMetadata.name, database_.pool(),
               [&](Session& session) -> Result<vault::CredentialMetadata> {
                 TenantTransaction tx(session, tenant);
                 const auto rows = tx.run(kMetadata, tenant.str(), issuer, subject, key.name.str());
                 if (rows.empty()) return absent();
                 return metadata_in(rows[0]);
               });
}

Result<vault::CredentialStore::Page> PostgresCredentialStore::list(
    const TenantId& tenant, const std::optional<Owner>& owner, std::string_view cursor,
    std::uint32_t limit) {
  POSTERN_TRY(const auto after, parse_cursor(cursor));
  const std::size_t at_most = std::clamp<std::uint32_t>(limit, 1, 1000);
  const auto& statement = owner ? kListOfOwner : kList;
  return named(statement.name, database_.pool(), [&](Session& session) -> Result<Page> {
    TenantTransaction tx(session, tenant);
    const auto rows =
        owner ? tx.run(kListOfOwner, tenant.str(), after.issuer, after.subject, after.name,
                       at_most + 1, owner->principal().issuer, owner->principal().subject)
              : tx.run(kList, tenant.str(), after.issuer, after.subject, after.name, at_most + 1);
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
                                       std::optional<std::uint32_t> expected_version,
                                       std::span<const audit::Event> events) {
  const auto& issuer = key.owner.principal().issuer;
  const auto& subject = key.owner.principal().subject;
  const auto chain_key = log_.key_of(tenant);
  if (!chain_key.ok()) {
    return chain_key.error().code == ErrorCode::NotFound ? absent() : chain_key.error();
  }
  std::optional<audit::ChainHead> head;
  auto status = named(kRemove.name, database_.pool(), [&](Session& session) -> Status {
    TenantTransaction tx(session, tenant);
    const auto rows = tx.run(kLock, tenant.str(), issuer, subject, key.name.str());
    const auto current = rows.empty() ? 0U : number<std::uint32_t>(rows[0][0]);
    if (current == 0) return absent();
    if (expected_version && *expected_version != current) return changed();
    tx.run(kRemove, tenant.str(), issuer, subject, key.name.str());
    POSTERN_TRY(head, log_.append_in(tx, tenant, chain_key.value(), events));
    tx.commit();
    return {};
  });
  log_.ended(tenant, status.ok() ? head : std::nullopt);
  return status;
}

}  // namespace postern::storage
