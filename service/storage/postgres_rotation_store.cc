#include "storage/postgres_rotation_store.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <utility>

#include "storage/credential_row.h"
#include "storage/kek_row.h"
#include "storage/postgres_config_store.h"
#include "storage/session.h"
#include "storage/wrapped_answer_row.h"
#include "vault/transit.h"

namespace postern::storage {
namespace {

constexpr Statement kSetKeys{"kek.set_scope", "SELECT set_config('postern.scope', 'keys', true)"};
// Across tenants, and so under the policy `root_keys`, which shows this table only.
constexpr Statement kRootKeyUses{"kek.root_key_uses", R"sql(
    SELECT root_key_id, count(*), count(DISTINCT tenant_id), sum(rewrapped)::bigint
      FROM kek
     GROUP BY root_key_id
     ORDER BY root_key_id)sql"};
constexpr Statement kKeksNotUnder{"kek.not_under", R"sql(
    SELECT tenant_id, version
      FROM kek
     WHERE root_key_id <> $1 AND (tenant_id, version) > ($2, $3)
     ORDER BY tenant_id, version
     LIMIT $4)sql"};
constexpr Statement kHeldTenants{"kek.held_tenants", R"sql(
    SELECT tenant_id, (array_agg(held_check IS NOT NULL ORDER BY version DESC))[1]
      FROM kek
     GROUP BY tenant_id
    HAVING bool_or(held_check IS NOT NULL)
     ORDER BY tenant_id)sql"};
constexpr Statement kReplicasWithout{"replica.without_root_key", R"sql(
    SELECT count(*)
      FROM pg_stat_activity
     WHERE datname = current_database() AND usename = current_user
       AND starts_with(application_name, $1)
       AND NOT $2 = ANY (string_to_array(substr(application_name, length($1) + 2), ',')))sql"};
constexpr Statement kNow{"kek.now", "SELECT extract(epoch FROM clock_timestamp())::bigint"};
constexpr Statement kBacklog{"kek.backlog", R"sql(
    SELECT tenants, credential_versions, signing_keys, others FROM key_backlog())sql"};

constexpr Statement kKekUses{"kek.uses", R"sql(
    SELECT k.version, k.root_key_id,
           (SELECT count(*) FROM credential_version v
             WHERE v.tenant_id = k.tenant_id AND v.kek_version = k.version),
           (SELECT count(*) FROM signing_key s
             WHERE s.tenant_id = k.tenant_id AND s.kek_version = k.version),
           (SELECT count(*) FROM wrapped_answer w
             WHERE w.tenant_id = k.tenant_id AND w.kek_version = k.version)
             + (SELECT count(*) FROM transit_key_version t
                 WHERE t.tenant_id = k.tenant_id AND t.kek_version = k.version),
           k.share_id IS NOT NULL, k.held_check IS NOT NULL
      FROM kek k
     WHERE k.tenant_id = $1
     ORDER BY k.version DESC)sql"};
// Whom is being erased, nothing is moved of: nothing at all, when it is the tenant.
constexpr Statement kBacklogOf{"kek.backlog_of", R"sql(
    WITH newest AS (SELECT max(version) AS version FROM kek WHERE tenant_id = $1)
    SELECT (SELECT count(*) FROM credential_version v
             WHERE v.tenant_id = $1 AND v.kek_version < newest.version
               AND NOT EXISTS (SELECT FROM erasure e
                                WHERE e.tenant_id = v.tenant_id AND e.owner_issuer = v.owner_issuer
                                  AND e.owner_subject = v.owner_subject AND e.done_at IS NULL)),
           (SELECT count(*) FROM signing_key s
             WHERE s.tenant_id = $1 AND s.kek_version < newest.version),
           coalesce(older_others($1, newest.version), 0)
      FROM newest
     WHERE NOT EXISTS (SELECT FROM tenant_erasure t WHERE t.tenant_id = $1))sql"};

constexpr Statement kNewest{"kek.newest_made", R"sql(
    SELECT version, extract(epoch FROM created_at)::bigint
      FROM kek
     WHERE tenant_id = $1
     ORDER BY version DESC
     LIMIT 1)sql"};

constexpr Statement kLockKek{"kek.lock", R"sql(
    SELECT k.root_key_id, k.wrapped, k.held_check, t.seals, k.share_id
      FROM kek k JOIN tenant t ON t.tenant_id = k.tenant_id
     WHERE k.tenant_id = $1 AND k.version = $2
       FOR NO KEY UPDATE OF k)sql"};
constexpr Statement kRewrapKek{"kek.rewrap", R"sql(
    UPDATE kek SET root_key_id = $3, wrapped = $4
     WHERE tenant_id = $1 AND version = $2)sql"};

constexpr Statement kRaiseEpoch{"tenant.raise_epoch", R"sql(
    UPDATE tenant SET epoch = epoch + 1
     WHERE tenant_id = $1
 RETURNING epoch)sql"};
// Waits for everybody who is storing something under these, see migration 0009. By
// itself, so that the next statement sees what they stored.
constexpr Statement kLockKeks{"kek.lock_all", "SELECT pg_advisory_xact_lock(kek_lock($1))"};
constexpr Statement kNewestRow{"kek.newest_row", R"sql(
    SELECT k.version, k.root_key_id, k.wrapped, k.held_check, t.seals, k.share_id
      FROM kek k JOIN tenant t ON t.tenant_id = k.tenant_id
     WHERE k.tenant_id = $1
     ORDER BY k.version DESC
     LIMIT 1)sql"};
constexpr Statement kAddKek{"kek.add", R"sql(
    INSERT INTO kek (tenant_id, version, root_key_id, wrapped, held_check, share_id)
    VALUES ($1, $2, $3, $4, nullif($5, ''::bytea), nullif($6, ''::bytea)))sql"};
constexpr Statement kSeal{"tenant.seal", R"sql(
    UPDATE tenant SET epoch = epoch + 1, seals = seals + 1
     WHERE tenant_id = $1
 RETURNING epoch)sql"};
constexpr Statement kNotify{"kek.notify", "SELECT pg_notify('postern_epoch', $1)"};

// First, so that removing the tenant and moving its rows never wait for one another.
constexpr Statement kNewestKek{"kek.newest", R"sql(
    SELECT version
      FROM kek
     WHERE tenant_id = $1
     ORDER BY version DESC
     LIMIT 1
       FOR KEY SHARE)sql"};
constexpr Statement kOlderSigningKeys{"signing_key.older", R"sql(
    SELECT kid, kek_version, wrapped
      FROM signing_key
     WHERE tenant_id = $1 AND kek_version < $2 AND kid > $3
     ORDER BY kid
     LIMIT $4
       FOR NO KEY UPDATE SKIP LOCKED)sql"};
constexpr Statement kRewrapSigningKey{"signing_key.rewrap", R"sql(
    UPDATE signing_key SET kek_version = $3, wrapped = $4
     WHERE tenant_id = $1 AND kid = $2)sql"};
constexpr Statement kOlderAnswers{"wrapped_answer.older", "SELECT " WRAPPED_ANSWER_COLUMNS R"sql(,
           (SELECT p.share_id FROM principal_share p
             WHERE p.tenant_id = w.tenant_id AND p.owner_issuer = w.owner_issuer
               AND p.owner_subject = w.owner_subject)
      FROM wrapped_answer w
     WHERE tenant_id = $1 AND kek_version < $2 AND accessor > $3
     ORDER BY accessor
     LIMIT $4
       FOR NO KEY UPDATE SKIP LOCKED)sql"};
constexpr Statement kRewrapAnswer{"wrapped_answer.rewrap", R"sql(
    UPDATE wrapped_answer SET kek_version = $3, sealed = $4, share_id = nullif($5, ''::bytea)
     WHERE tenant_id = $1 AND accessor = $2)sql"};
// A row's key here is its key's id and its version; neither has a slash.
constexpr Statement kOlderTransitKeys{"transit.older", R"sql(
    SELECT v.key_id || '/' || v.version, k.name, k.key_id, k.type, v.version, v.kek_version,
           v.wrapped
      FROM transit_key_version v
      JOIN transit_key k ON k.tenant_id = v.tenant_id AND k.key_id = v.key_id
     WHERE v.tenant_id = $1 AND v.kek_version < $2 AND v.key_id || '/' || v.version > $3
     ORDER BY v.key_id || '/' || v.version
     LIMIT $4
       FOR NO KEY UPDATE OF v SKIP LOCKED)sql"};
constexpr Statement kRewrapTransitKey{"transit.rewrap", R"sql(
    UPDATE transit_key_version SET kek_version = $3, wrapped = $4
     WHERE tenant_id = $1 AND key_id = split_part($2, '/', 1)
       AND version = split_part($2, '/', 2)::integer)sql"};
constexpr Statement kOlderDeks{"credential_version.older", R"sql(
    SELECT v.owner_issuer, v.owner_subject, v.name, v.version, v.kek_version, v.wrapped_dek,
           v.share_id, p.share_id
      FROM credential_version v
      LEFT JOIN principal_share p
        ON p.tenant_id = v.tenant_id AND p.owner_issuer = v.owner_issuer
       AND p.owner_subject = v.owner_subject
     WHERE v.tenant_id = $1 AND v.kek_version < $2
       AND (v.owner_issuer, v.owner_subject, v.name, v.version) > ($3, $4, $5, $6)
       AND NOT EXISTS (SELECT FROM erasure e
                        WHERE e.tenant_id = v.tenant_id AND e.owner_issuer = v.owner_issuer
                          AND e.owner_subject = v.owner_subject AND e.done_at IS NULL)
       AND NOT EXISTS (SELECT FROM tenant_erasure t WHERE t.tenant_id = v.tenant_id)
     ORDER BY v.owner_issuer, v.owner_subject, v.name, v.version
     LIMIT $7
       FOR NO KEY UPDATE OF v SKIP LOCKED)sql"};
constexpr Statement kRewrapDek{"credential_version.rewrap", R"sql(
    UPDATE credential_version
       SET kek_version = $6, wrapped_dek = $7, share_id = nullif($8, ''::bytea)
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       AND version = $5)sql"};
constexpr Statement kWithoutShare{"principal_share.without", R"sql(
    SELECT v.owner_issuer, v.owner_subject
      FROM (SELECT tenant_id, owner_issuer, owner_subject, kek_version FROM credential_version
             WHERE tenant_id = $1
             UNION ALL
            SELECT tenant_id, owner_issuer, owner_subject, kek_version FROM wrapped_answer
             WHERE tenant_id = $1) v
     WHERE v.owner_issuer <> ''
       AND v.kek_version < (SELECT max(k.version) FROM kek k WHERE k.tenant_id = $1)
       AND NOT EXISTS (SELECT FROM principal_share p
                        WHERE p.tenant_id = v.tenant_id AND p.owner_issuer = v.owner_issuer
                          AND p.owner_subject = v.owner_subject)
       AND NOT EXISTS (SELECT FROM erasure e
                        WHERE e.tenant_id = v.tenant_id AND e.owner_issuer = v.owner_issuer
                          AND e.owner_subject = v.owner_subject AND e.done_at IS NULL)
       AND NOT EXISTS (SELECT FROM tenant_erasure t WHERE t.tenant_id = v.tenant_id)
     GROUP BY v.owner_issuer, v.owner_subject
     LIMIT $2)sql"};
// Not while a row is under it, such as one that was passed over since it is being erased.
constexpr Statement kNoteEmptied{"kek.note_emptied", R"sql(
    UPDATE kek k SET emptied_at = clock_timestamp()
     WHERE k.tenant_id = $1 AND k.share_id IS NULL AND k.emptied_at IS NULL
       AND k.version < (SELECT max(n.version) FROM kek n WHERE n.tenant_id = $1)
       AND NOT EXISTS (SELECT FROM credential_version v
                        WHERE v.tenant_id = k.tenant_id AND v.kek_version = k.version)
       AND NOT EXISTS (SELECT FROM signing_key s
                        WHERE s.tenant_id = k.tenant_id AND s.kek_version = k.version)
       AND NOT EXISTS (SELECT FROM wrapped_answer w
                        WHERE w.tenant_id = k.tenant_id AND w.kek_version = k.version)
       AND NOT EXISTS (SELECT FROM transit_key_version t
                        WHERE t.tenant_id = k.tenant_id AND t.kek_version = k.version))sql"};
constexpr Statement kCountRewrapped{"kek.count_rewrapped", R"sql(
    UPDATE kek SET rewrapped = rewrapped + $3
     WHERE tenant_id = $1 AND version = $2)sql"};

Error absent() { return fail(ErrorCode::NotFound, "no such tenant"); }

KekVersion version_in(const pqxx::field& field) { return KekVersion{number<std::uint32_t>(field)}; }
std::uint32_t number_of(KekVersion version) { return static_cast<std::uint32_t>(version); }

/// Reads across tenants. The scope ends with the transaction.
template <class... Args>
pqxx::result across_tenants(Session& session, const Statement& statement, const Args&... args) {
  pqxx::work tx(session.link());
  ++session.counters().transactions;
  session.run(tx, kSetKeys);
  return session.run(tx, statement, args...);
}

}  // namespace

Result<std::vector<vault::RootKeyUse>> PostgresRotationStore::root_key_uses() {
  return named(kRootKeyUses.name, database_.pool(),
               [&](Session& session) -> Result<std::vector<vault::RootKeyUse>> {
                 std::vector<vault::RootKeyUse> out;
                 for (const auto& row : across_tenants(session, kRootKeyUses)) {
                   out.push_back({text(row[0]), number<std::uint64_t>(row[1]),
                                  number<std::uint64_t>(row[2]), number<std::uint64_t>(row[3])});
                 }
                 return out;
               });
}

Result<std::uint64_t> PostgresRotationStore::replicas_without(const std::string& root_key_id) {
  return named(kReplicasWithout.name, database_.pool(),
               [&](Session& session) -> Result<std::uint64_t> {
                 pqxx::nontransaction tx(session.link());
                 return number<std::uint64_t>(
                     session.run(tx, kReplicasWithout, kEpochSessions, root_key_id)[0][0]);
               });
}

Result<sys_seconds> PostgresRotationStore::now() {
  return named(kNow.name, database_.pool(), [&](Session& session) -> Result<sys_seconds> {
    pqxx::nontransaction tx(session.link());
    return instant(session.run(tx, kNow)[0][0]);
  });
}

Result<vault::Backlog> PostgresRotationStore::backlog() {
  return named(kBacklog.name, database_.pool(), [&](Session& session) -> Result<vault::Backlog> {
    // The function makes its settings for its own statement.
    pqxx::nontransaction tx(session.link());
    const auto rows = session.run(tx, kBacklog);
    return vault::Backlog{number<std::uint64_t>(rows[0][0]), number<std::uint64_t>(rows[0][1]),
                          number<std::uint64_t>(rows[0][2]), number<std::uint64_t>(rows[0][3])};
  });
}

Result<std::vector<vault::KekPlace>> PostgresRotationStore::keks_not_under(
    const std::string& root_key_id, const std::optional<vault::KekPlace>& after,
    std::uint32_t limit) {
  return named(
      kKeksNotUnder.name, database_.pool(),
      [&](Session& session) -> Result<std::vector<vault::KekPlace>> {
        std::vector<vault::KekPlace> out;
        for (const auto& row : across_tenants(session, kKeksNotUnder, root_key_id,
                                              after ? after->tenant.str() : std::string(),
                                              after ? number_of(after->version) : 0U, limit)) {
          out.push_back({TenantId(text(row[0])), version_in(row[1])});
        }
        return out;
      });
}

Result<std::vector<vault::HeldTenant>> PostgresRotationStore::held_tenants() {
  return named(kHeldTenants.name, database_.pool(),
               [&](Session& session) -> Result<std::vector<vault::HeldTenant>> {
                 std::vector<vault::HeldTenant> out;
                 for (const auto& row : across_tenants(session, kHeldTenants)) {
                   out.push_back({TenantId(text(row[0])), number<bool>(row[1])});
                 }
                 return out;
               });
}

Result<std::vector<vault::KekUse>> PostgresRotationStore::kek_uses(const TenantId& tenant) {
  return named(kKekUses.name, database_.pool(),
               [&](Session& session) -> Result<std::vector<vault::KekUse>> {
                 TenantTransaction tx(session, tenant);
                 std::vector<vault::KekUse> out;
                 for (const auto& row : tx.run(kKekUses, tenant.str())) {
                   out.push_back({version_in(row[0]), text(row[1]), number<std::uint64_t>(row[2]),
                                  number<std::uint64_t>(row[3]), number<std::uint64_t>(row[4]),
                                  number<bool>(row[5]), number<bool>(row[6])});
                 }
                 if (out.empty()) return absent();
                 return out;
               });
}

Result<vault::Backlog> PostgresRotationStore::backlog_of(const TenantId& tenant) {
  return named(kBacklogOf.name, database_.pool(), [&](Session& session) -> Result<vault::Backlog> {
    TenantTransaction tx(session, tenant);
    const auto rows = tx.run(kBacklogOf, tenant.str());
    if (rows.empty()) return vault::Backlog{};
    vault::Backlog out{0, number<std::uint64_t>(rows[0][0]), number<std::uint64_t>(rows[0][1]),
                       number<std::uint64_t>(rows[0][2])};
    out.tenants = out.rows() > 0 ? 1 : 0;
    return out;
  });
}

Result<PostgresRotationStore::NewestKek> PostgresRotationStore::newest_kek(const TenantId& tenant) {
  return named(kNewest.name, database_.pool(), [&](Session& session) -> Result<NewestKek> {
    TenantTransaction tx(session, tenant);
    const auto rows = tx.run(kNewest, tenant.str());
    if (rows.empty()) return absent();
    return NewestKek{version_in(rows[0][0]), instant(rows[0][1])};
  });
}

Status PostgresRotationStore::rewrap_kek(const TenantId& tenant, KekVersion version,
                                         const ChangeKek& change) {
  POSTERN_TRY(const auto chain_key, log_.key_of(tenant));
  std::optional<audit::ChainHead> head;
  auto status = named(kRewrapKek.name, database_.pool(), [&](Session& session) -> Status {
    TenantTransaction tx(session, tenant);
    const auto rows = tx.run(kLockKek, tenant.str(), number_of(version));
    if (rows.empty()) return absent();
    POSTERN_TRY(const auto changed,
                change({version, text(rows[0][0]), bytes(rows[0][1]),
                        held_in(rows[0][2], rows[0][3]), share_in(rows[0][4])}));
    tx.run(kRewrapKek, tenant.str(), number_of(version), changed.kek.root_key_id,
           ByteView(changed.kek.wrapped));
    POSTERN_TRY(head, log_.append_in(tx, tenant, chain_key, {&changed.event, 1}));
    tx.commit();
    return {};
  });
  log_.ended(tenant, status.ok() ? head : std::nullopt);
  return status;
}

Result<KekVersion> PostgresRotationStore::add_kek(const TenantId& tenant, const MakeKek& make) {
  POSTERN_TRY(const auto chain_key, log_.key_of(tenant));
  std::optional<audit::ChainHead> head;
  auto result = named(kAddKek.name, database_.pool(), [&](Session& session) -> Result<KekVersion> {
    TenantTransaction tx(session, tenant);
    // As configuration changes do, so that both are serial.
    const auto raised = tx.run(kRaiseEpoch, tenant.str());
    if (raised.empty()) return absent();
    tx.run(kLockKeks, tenant.str());
    const auto keks = tx.run(kNewestRow, tenant.str());
    if (keks.empty()) return absent();
    const vault::WrappedKek newest{version_in(keks[0][0]), text(keks[0][1]), bytes(keks[0][2]),
                                   held_in(keks[0][3], keks[0][4]), share_in(keks[0][5])};
    POSTERN_TRY(const auto made, make(newest));
    const auto next = vault::after(newest.version);
    if (made.kek.version != next) throw std::logic_error("a KEK of another version");
    const auto& held = made.kek.held;
    tx.run(kAddKek, tenant.str(), number_of(next), made.kek.root_key_id, ByteView(made.kek.wrapped),
           held ? ByteView(held->check) : ByteView(), bytes_of(made.kek.share));
    tx.run(kNotify, tenant.str() + " " + text(raised[0][0]));
    POSTERN_TRY(head, log_.append_in(tx, tenant, chain_key, {&made.event, 1}));
    tx.commit();
    return next;
  });
  log_.ended(tenant, result.ok() ? head : std::nullopt);
  return result;
}

Result<std::uint64_t> PostgresRotationStore::seal(const TenantId& tenant,
                                                  const audit::Event& event) {
  POSTERN_TRY(const auto chain_key, log_.key_of(tenant));
  std::optional<audit::ChainHead> head;
  auto result = named(kSeal.name, database_.pool(), [&](Session& session) -> Result<std::uint64_t> {
    TenantTransaction tx(session, tenant);
    const auto rows = tx.run(kSeal, tenant.str());
    if (rows.empty()) return absent();
    const auto epoch = number<std::uint64_t>(rows[0][0]);
    tx.run(kNotify, tenant.str() + " " + std::to_string(epoch));
    POSTERN_TRY(head, log_.append_in(tx, tenant, chain_key, {&event, 1}));
    tx.commit();
    return epoch;
  });
  log_.ended(tenant, result.ok() ? head : std::nullopt);
  return result;
}

Result<std::vector<Principal>> PostgresRotationStore::without_share(const TenantId& tenant,
                                                                    std::uint32_t limit) {
  return named(kWithoutShare.name, database_.pool(),
               [&](Session& session) -> Result<std::vector<Principal>> {
                 TenantTransaction tx(session, tenant);
                 std::vector<Principal> out;
                 for (const auto& row : tx.run(kWithoutShare, tenant.str(), limit)) {
                   out.push_back({text(row[0]), text(row[1])});
                 }
                 return out;
               });
}

Status PostgresRotationStore::note_emptied(const TenantId& tenant) {
  return named(kNoteEmptied.name, database_.pool(), [&](Session& session) -> Status {
    TenantTransaction tx(session, tenant);
    tx.run(kNoteEmptied, tenant.str());
    tx.commit();
    return {};
  });
}

namespace {

using Batch = vault::RotationStore::Batch;
using Position = vault::RotationStore::Position;
using Rewrapper = vault::RotationStore::Rewrapper;

/// One of the rows whose content is wrapped as it is.
struct Box : Rewrapper::Box {
  std::string row;  ///< its key here
};
struct BoxTable {
  const Statement& older;
  const Statement& rewrap;
  std::string_view purpose;
  Box (*read)(const pqxx::row& row);
  Position::In next;
  bool owned = false;  ///< by principals too: `rewrap` sets which share it takes
};

const BoxTable kSigningKeys{kOlderSigningKeys, kRewrapSigningKey, vault::kTokenSigning,
                            [](const pqxx::row& row) -> Box {
                              const auto kid = text(row[0]);
                              return {{kid, kid, {version_in(row[1]), bytes(row[2])}}, kid};
                            },
                            Position::In::WrappedAnswers};
const BoxTable kWrappedAnswers{kOlderAnswers,
                               kRewrapAnswer,
                               vault::kWrappedAnswer,
                               [](const pqxx::row& row) -> Box {
                                 auto answer = wrapped_answer_in(row);
                                 return {
                                     {vault::box_id(answer), answer.accessor,
                                      std::move(answer.sealed), answer.owner, share_in(row[11])},
                                     answer.accessor};
                               },
                               Position::In::TransitKeys,
                               true};
const BoxTable kTransitKeys{
    kOlderTransitKeys, kRewrapTransitKey, vault::kTransitKey,
    [](const pqxx::row& row) -> Box {
      const auto id = vault::transit_box_id(text(row[1]), text(row[3]), text(row[2]),
                                            number<std::uint32_t>(row[4]));
      return {{id, text(row[1]), {version_in(row[5]), bytes(row[6])}}, text(row[0])};
    },
    Position::In::Credentials};

/// Adds up what became of a row. Errors: what ends the batch.
template <class T>
Result<bool> moved(const Result<T>& result, Batch& batch) {
  if (result.ok()) {
    ++batch.moved;
    return true;
  }
  const auto& error = result.error();
  if (error.code != ErrorCode::Internal && !vault::is_share_destroyed(error)) return error;
  ++batch.failed;
  return false;
}

Status move_boxes(TenantTransaction& tx, const TenantId& tenant, const BoxTable& table,
                  KekVersion to, Position& position, std::uint32_t limit, Rewrapper& rewrapper,
                  Batch& batch) {
  const auto rows = tx.run(table.older, tenant.str(), number_of(to), position.other, limit);
  for (const auto& row : rows) {
    const auto box = table.read(row);
    position.other = box.row;
    const auto result = rewrapper.box(table.purpose, box, to);
    POSTERN_TRY(const bool done, moved(result, batch));
    if (!done) continue;
    const ByteView wrapped(result.value().wrapped);
    if (table.owned) {
      tx.run(table.rewrap, tenant.str(), box.row, number_of(to), wrapped,
             bytes_of(result.value().share));
    } else {
      tx.run(table.rewrap, tenant.str(), box.row, number_of(to), wrapped);
    }
  }
  if (std::cmp_less(rows.size(), limit)) {
    position.in = table.next;
    position.other.clear();
  }
  return {};
}

Status move_deks(TenantTransaction& tx, const TenantId& tenant, KekVersion to, Position& position,
                 std::uint32_t limit, Rewrapper& rewrapper, Batch& batch) {
  const auto rows = tx.run(kOlderDeks, tenant.str(), number_of(to), position.issuer,
                           position.subject, position.name, position.version, limit);
  for (const auto& row : rows) {
    position.issuer = text(row[0]);
    position.subject = text(row[1]);
    position.name = text(row[2]);
    position.version = number<std::uint32_t>(row[3]);
    const vault::CredentialKey key{owner_of(position.issuer, position.subject),
                                   CredentialName(position.name)};
    const vault::WrappedDek from{version_in(row[4]), share_in(row[6]), bytes(row[5])};
    const auto wrapped = rewrapper.dek(key, position.version, from, to, share_in(row[7]));
    POSTERN_TRY(const bool done, moved(wrapped, batch));
    if (!done) continue;
    tx.run(kRewrapDek, tenant.str(), position.issuer, position.subject, position.name,
           position.version, number_of(to), ByteView(wrapped.value().wrapped),
           bytes_of(wrapped.value().share));
  }
  batch.end = std::cmp_less(rows.size(), limit);
  return {};
}

}  // namespace

Result<Batch> PostgresRotationStore::rewrap_rows(const TenantId& tenant, Position& position,
                                                 std::uint32_t limit, Rewrapper& rewrapper) {
  POSTERN_TRY(const auto chain_key, log_.key_of(tenant));
  std::optional<audit::ChainHead> head;
  auto next = position;
  auto result = named(kRewrapDek.name, database_.pool(), [&](Session& session) -> Result<Batch> {
    TenantTransaction tx(session, tenant);
    const auto newest = tx.run(kNewestKek, tenant.str());
    if (newest.empty()) return absent();
    const auto to = version_in(newest[0][0]);
    Batch batch;
    Rewrapper::Moved done;
    // Up to `limit` of each kind, and the next kind when there are no more of one.
    for (const auto& [in, table] : {std::pair(Position::In::SigningKeys, &kSigningKeys),
                                    std::pair(Position::In::WrappedAnswers, &kWrappedAnswers),
                                    std::pair(Position::In::TransitKeys, &kTransitKeys)}) {
      if (next.in != in) continue;
      const auto before = batch.moved;
      POSTERN_CHECK(move_boxes(tx, tenant, *table, to, next, limit, rewrapper, batch));
      (in == Position::In::SigningKeys ? done.signing_keys : done.others) += batch.moved - before;
    }
    if (next.in == Position::In::Credentials) {
      const auto before = batch.moved;
      POSTERN_CHECK(move_deks(tx, tenant, to, next, limit, rewrapper, batch));
      done.credential_versions = batch.moved - before;
    }
    if (batch.moved == 0) return batch;
    tx.run(kCountRewrapped, tenant.str(), number_of(to), batch.moved);
    const auto event = rewrapper.event(to, done);
    POSTERN_TRY(head, log_.append_in(tx, tenant, chain_key, {&event, 1}));
    tx.commit();
    return batch;
  });
  log_.ended(tenant, result.ok() ? head : std::nullopt);
  if (result.ok()) position = next;
  return result;
}

}  // namespace postern::storage
