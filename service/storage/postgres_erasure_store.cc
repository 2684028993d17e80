#include "storage/postgres_erasure_store.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "storage/kek_row.h"
#include "storage/session.h"

namespace postern::storage {
namespace {

using vault::Erasure;

#define ERASURE_COLUMNS                                                                        \
  "SELECT erasure_id, owner_issuer, owner_subject, extract(epoch FROM asked_at)::bigint, "     \
  "extract(epoch FROM removed_at)::bigint, extract(epoch FROM done_at)::bigint, share_id, "    \
  "credentials, versions, extract(epoch FROM covered_since)::bigint, coalesce(statement, '') " \
  "FROM erasure "

// Not for update, which writers of its credentials would wait for; and before the lock
// of its KEKs, for whoever removes the tenant holds this one first.
constexpr Statement kHoldTenant{"erasure.hold_tenant", R"sql(
    SELECT 1 FROM tenant WHERE tenant_id = $1 FOR KEY SHARE)sql"};
// Waits for everybody who is storing something (migration 0009); who comes later sees
// what this transaction has stored.
constexpr Statement kLockKeks{"erasure.lock_keks", "SELECT pg_advisory_xact_lock(kek_lock($1))"};
constexpr Statement kLast{"erasure.last", ERASURE_COLUMNS R"sql(
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3
     ORDER BY done_at IS NULL DESC, asked_at DESC, erasure_id
     LIMIT 1)sql"};
// Whatever remove_rows removes.
constexpr Statement kAnything{"erasure.anything", R"sql(
    SELECT EXISTS (SELECT FROM credential
                    WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3)
        OR EXISTS (SELECT FROM principal_share
                    WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3)
        OR EXISTS (SELECT FROM wrapped_answer
                    WHERE tenant_id = $1 AND is_maker(maker, $2, $3)))sql"};
constexpr Statement kBegin{"erasure.begin", R"sql(
    INSERT INTO erasure (tenant_id, erasure_id, owner_issuer, owner_subject, asked_at)
    VALUES ($1, $2, $3, $4, to_timestamp($5)))sql"};
constexpr Statement kFind{"erasure.find", ERASURE_COLUMNS R"sql(
     WHERE tenant_id = $1 AND erasure_id = $2)sql"};
constexpr Statement kLock{"erasure.lock", ERASURE_COLUMNS R"sql(
     WHERE tenant_id = $1 AND erasure_id = $2
       FOR UPDATE)sql"};
constexpr Statement kList{"erasure.list", ERASURE_COLUMNS R"sql(
     WHERE tenant_id = $1 AND erasure_id > $2
     ORDER BY erasure_id
     LIMIT $3)sql"};

// In the order of the key, as note_uses locks them.
constexpr Statement kLockCredentials{"erasure.lock_credentials", R"sql(
    SELECT name
      FROM credential
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3
     ORDER BY name
       FOR UPDATE)sql"};
constexpr Statement kCount{"erasure.count", R"sql(
    SELECT (SELECT count(*) FROM credential c
             WHERE c.tenant_id = $1 AND c.owner_issuer = $2 AND c.owner_subject = $3
               AND c.current_version > 0),
           (SELECT count(*) FROM credential_version v
             WHERE v.tenant_id = $1 AND v.owner_issuer = $2 AND v.owner_subject = $3
               AND v.destroyed_at IS NULL),
           (SELECT coalesce(max(c.last_version), 0) FROM credential c
             WHERE c.tenant_id = $1 AND c.owner_issuer = $2 AND c.owner_subject = $3))sql"};
// Theirs, and those that clients had wrapped for them.
constexpr Statement kRemoveAnswers{"erasure.remove_answers", R"sql(
    DELETE FROM wrapped_answer WHERE tenant_id = $1 AND is_maker(maker, $2, $3))sql"};
constexpr Statement kRemoveCredentials{"erasure.remove_credentials", R"sql(
    DELETE FROM credential
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3)sql"};
// After the versions, whose removal notes here whether one was under no share. When that
// was is the time of a statement: a copy holds it until the transaction has committed, which
// is within the hour, whatever it had to wait for.
constexpr Statement kRemoveShare{"erasure.remove_share", R"sql(
    DELETE FROM principal_share p
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3
 RETURNING share_id,
           ceil(extract(epoch FROM coalesce(unshared_until, created_at)
             + CASE WHEN unshared_until IS NULL
                     AND NOT EXISTS (SELECT FROM kek k
                                      WHERE k.tenant_id = p.tenant_id AND k.share_id IS NULL)
                    THEN interval '0' ELSE interval '1 hour' END))::bigint)sql"};
constexpr Statement kRemoved{"erasure.removed", R"sql(
    UPDATE erasure
       SET removed_at = to_timestamp($3), share_id = nullif($4, ''::bytea), credentials = $5,
           versions = $6, last_version = $7,
           covered_since = to_timestamp(nullif($8, '')::bigint)
     WHERE tenant_id = $1 AND erasure_id = $2)sql"};

constexpr Statement kRaiseEpoch{"erasure.raise_epoch", R"sql(
    UPDATE tenant SET epoch = epoch + 1 WHERE tenant_id = $1 RETURNING epoch)sql"};
// At the latest from now on, for what this erasure removed has been committed.
constexpr Statement kCovered{"erasure.covered", R"sql(
    UPDATE erasure
       SET covered_since = least(covered_since,
                                 to_timestamp(ceil(extract(epoch FROM clock_timestamp()))))
     WHERE tenant_id = $1 AND erasure_id = $2 AND covered_since IS NOT NULL
 RETURNING extract(epoch FROM covered_since)::bigint)sql"};
constexpr Statement kDone{"erasure.done", R"sql(
    UPDATE erasure SET done_at = to_timestamp($3), statement = $4
     WHERE tenant_id = $1 AND erasure_id = $2)sql"};
constexpr Statement kNotify{"erasure.notify", "SELECT pg_notify('postern_epoch', $1)"};

constexpr Statement kDisable{"erasure.disable", R"sql(
    UPDATE tenant SET enabled = false, epoch = epoch + 1 WHERE tenant_id = $1 RETURNING epoch)sql"};
constexpr Statement kBeginTenant{"erasure.begin_tenant", R"sql(
    INSERT INTO tenant_erasure (tenant_id, erasure_id, asked_at)
    VALUES ($1, $2, to_timestamp($3)))sql"};
constexpr Statement kFindTenant{"erasure.find_tenant", R"sql(
    SELECT erasure_id, extract(epoch FROM asked_at)::bigint, extract(epoch FROM done_at)::bigint,
           shares, coalesce(statement, '')
      FROM tenant_erasure
     WHERE tenant_id = $1)sql"};
constexpr Statement kLockTenant{"erasure.lock_tenant", R"sql(
    SELECT 1 FROM tenant WHERE tenant_id = $1 FOR UPDATE)sql"};
// Covered are copies from when nothing was left any more under a KEK that takes no share.
// The shares are those that the keys take, whoever destroyed them and when; that of a
// principal whose erasure has removed the rows already is named there alone.
constexpr Statement kCountTenant{"erasure.count_tenant", R"sql(
    SELECT (SELECT count(*) FROM credential c WHERE c.tenant_id = $1 AND c.current_version > 0),
           (SELECT count(*) FROM credential_version v
             WHERE v.tenant_id = $1 AND v.destroyed_at IS NULL),
           (SELECT CASE WHEN bool_or(k.share_id IS NULL AND k.emptied_at IS NULL) THEN NULL
                        ELSE ceil(extract(epoch FROM coalesce(max(k.emptied_at),
                                                              min(k.created_at))))::bigint END
              FROM kek k WHERE k.tenant_id = $1),
           (SELECT count(*) FROM kek k WHERE k.tenant_id = $1 AND k.share_id IS NOT NULL)
             + (SELECT count(*) FROM principal_share p WHERE p.tenant_id = $1)
             + (SELECT count(*) FROM erasure e
                 WHERE e.tenant_id = $1 AND e.share_id IS NOT NULL AND e.done_at IS NULL))sql"};
constexpr Statement kSharesOf{"erasure.shares_of", R"sql(
    SELECT share_id FROM (
      SELECT share_id FROM kek WHERE tenant_id = $1
       UNION
      SELECT share_id FROM principal_share WHERE tenant_id = $1
       UNION
      SELECT share_id FROM erasure WHERE tenant_id = $1 AND done_at IS NULL) s
     WHERE share_id > $2
     ORDER BY share_id
     LIMIT $3)sql"};
constexpr Statement kRemoveTenant{"erasure.remove_tenant", R"sql(
    DELETE FROM tenant WHERE tenant_id = $1)sql"};
constexpr Statement kAddTombstone{"erasure.add_tombstone", R"sql(
    INSERT INTO tenant_tombstone (tenant_id) VALUES ($1))sql"};
constexpr Statement kCloseHead{"erasure.close_head", R"sql(
    UPDATE audit_head SET closed = true WHERE tenant_id = $1)sql"};
constexpr Statement kTenantDone{"erasure.tenant_done", R"sql(
    UPDATE tenant_erasure SET done_at = to_timestamp($2), statement = $3, shares = $4
     WHERE tenant_id = $1)sql"};

// Across tenants, and so under the policies `open_erasures`.
constexpr Statement kSetErasures{"erasure.set_scope",
                                 "SELECT set_config('postern.scope', 'erasures', true)"};
constexpr Statement kOpen{"erasure.open", R"sql(
    SELECT tenant_id, erasure_id
      FROM (SELECT 1 AS kind, tenant_id, '' COLLATE "C" AS erasure_id
              FROM tenant_erasure WHERE done_at IS NULL
             UNION ALL
            SELECT 2, tenant_id, erasure_id FROM erasure WHERE done_at IS NULL) o
     WHERE (kind, tenant_id, erasure_id) > ($1, $2, $3)
     ORDER BY kind, tenant_id, erasure_id
     LIMIT $4)sql"};

constexpr std::chrono::seconds kLong(60);  // for whoever has many credentials

Error no_tenant() { return fail(ErrorCode::NotFound, "no such tenant"); }
Error absent() { return fail(ErrorCode::NotFound, "no such erasure"); }

Erasure erasure_in(const pqxx::row& row) {
  Erasure out;
  out.id = text(row[0]);
  out.principal = Principal{text(row[1]), text(row[2])};
  out.asked_at = instant(row[3]);
  out.removed_at = optional_instant(row[4]);
  out.done_at = optional_instant(row[5]);
  out.share = share_in(row[6]);
  out.shares = out.share ? 1 : 0;
  out.credentials = number<std::uint64_t>(row[7]);
  out.versions = number<std::uint64_t>(row[8]);
  out.covered_since = optional_instant(row[9]);
  out.statement = text(row[10]);
  return out;
}

Erasure tenant_erasure_in(const pqxx::row& row) {
  Erasure out;
  out.id = text(row[0]);
  out.asked_at = instant(row[1]);
  out.done_at = optional_instant(row[2]);
  out.shares = number<std::uint64_t>(row[3]);
  out.statement = text(row[4]);
  return out;
}

/// The erasure that is open, or the last one when nothing was stored since.
/// Errors: NotFound (nothing is stored, and was not).
Result<std::optional<Erasure>> begun_before(TenantTransaction& tx, const TenantId& tenant,
                                            const Principal& principal) {
  const auto& [issuer, subject] = principal;
  std::optional<Erasure> last;
  const auto rows = tx.run(kLast, tenant.str(), issuer, subject);
  if (!rows.empty()) last = erasure_in(rows[0]);
  if (last && !last->done_at) return last;
  const bool anything = number<bool>(tx.run(kAnything, tenant.str(), issuer, subject)[0][0]);
  if (anything) return std::optional<Erasure>();
  if (last) return last;
  return fail(ErrorCode::NotFound, "nothing is stored of this principal");
}

void allow_long(TenantTransaction& tx) {
  tx.work().exec("SET LOCAL statement_timeout = '60s'");
  tx.session().allow(kLong + std::chrono::seconds(1));
}

std::string notification(const TenantId& tenant, const std::string& epoch) {
  return tenant.str() + " " + epoch;
}

}  // namespace

Result<PostgresErasureStore::Begun> PostgresErasureStore::begin(const TenantId& tenant,
                                                                const Principal& principal,
                                                                const std::string& id,
                                                                sys_seconds now,
                                                                const audit::Event& event) {
  POSTERN_TRY(const auto chain_key, log_.key_of(tenant));
  std::optional<audit::ChainHead> head;
  auto begun = named(kBegin.name, database_.pool(), [&](Session& session) -> Result<Begun> {
    TenantTransaction tx(session, tenant);
    if (tx.run(kHoldTenant, tenant.str()).empty()) return no_tenant();
    // First without the lock: writers wait for it only when there is something to erase.
    POSTERN_TRY(auto before, begun_before(tx, tenant, principal));
    if (before) return Begun{std::move(*before), false};
    tx.run(kLockKeks, tenant.str());
    POSTERN_TRY(before, begun_before(tx, tenant, principal));
    if (before) return Begun{std::move(*before), false};
    tx.run(kBegin, tenant.str(), id, principal.issuer, principal.subject, seconds_of(now));
    auto erasure = erasure_in(tx.run(kFind, tenant.str(), id)[0]);
    POSTERN_TRY(head, log_.append_in(tx, tenant, chain_key, {&event, 1}));
    tx.commit();
    return Begun{std::move(erasure), true};
  });
  log_.ended(tenant, begun.ok() ? head : std::nullopt);
  return begun;
}

Result<Erasure> PostgresErasureStore::remove_rows(const TenantId& tenant, const std::string& id,
                                                  sys_seconds now) {
  return named(kRemoved.name, database_.pool(), [&](Session& session) -> Result<Erasure> {
    TenantTransaction tx(session, tenant);
    allow_long(tx);
    const auto found = tx.run(kLock, tenant.str(), id);
    if (found.empty()) return absent();
    auto erasure = erasure_in(found[0]);
    if (erasure.removed_at) return erasure;
    const auto& [issuer, subject] = *erasure.principal;
    tx.run(kLockCredentials, tenant.str(), issuer, subject);
    const auto counted = tx.run(kCount, tenant.str(), issuer, subject);
    tx.run(kRemoveAnswers, tenant.str(), issuer, subject);
    tx.run(kRemoveCredentials, tenant.str(), issuer, subject);
    const auto shares = tx.run(kRemoveShare, tenant.str(), issuer, subject);
    std::optional<vault::ShareId> share;
    std::optional<sys_seconds> since;
    if (!shares.empty()) {
      share = share_in(shares[0][0]);
      since = optional_instant(shares[0][1]);
    }
    tx.run(kRemoved, tenant.str(), id, seconds_of(now), bytes_of(share),
           number<std::uint64_t>(counted[0][0]), number<std::uint64_t>(counted[0][1]),
           number<std::uint64_t>(counted[0][2]), seconds_of(since));
    auto removed = erasure_in(tx.run(kFind, tenant.str(), id)[0]);
    tx.commit();
    return removed;
  });
}

Result<Erasure> PostgresErasureStore::finish(const TenantId& tenant, const std::string& id,
                                             sys_seconds now, const Say& say) {
  POSTERN_TRY(const auto chain_key, log_.key_of(tenant));
  std::optional<audit::ChainHead> head;
  auto done = named(kDone.name, database_.pool(), [&](Session& session) -> Result<Erasure> {
    TenantTransaction tx(session, tenant);
    // First, as configuration changes do.
    const auto raised = tx.run(kRaiseEpoch, tenant.str());
    if (raised.empty()) return no_tenant();
    const auto found = tx.run(kLock, tenant.str(), id);
    if (found.empty()) return absent();
    auto erasure = erasure_in(found[0]);
    if (erasure.done_at) return erasure;
    if (!erasure.removed_at) return fail(ErrorCode::Conflict, "its rows are there yet");
    erasure.done_at = now;
    const auto covered = tx.run(kCovered, tenant.str(), id);
    if (!covered.empty()) erasure.covered_since = instant(covered[0][0]);
    POSTERN_TRY(const auto said, say(erasure));
    erasure.statement = said.statement;
    tx.run(kDone, tenant.str(), id, seconds_of(now), said.statement);
    tx.run(kNotify, notification(tenant, text(raised[0][0])));
    POSTERN_TRY(head, log_.append_in(tx, tenant, chain_key, {&said.event, 1}));
    tx.commit();
    return erasure;
  });
  log_.ended(tenant, done.ok() ? head : std::nullopt);
  return done;
}

Result<Erasure> PostgresErasureStore::find(const TenantId& tenant, const std::string& id) {
  return named(kFind.name, database_.pool(), [&](Session& session) -> Result<Erasure> {
    TenantTransaction tx(session, tenant);
    const auto rows = tx.run(kFind, tenant.str(), id);
    if (rows.empty()) return absent();
    return erasure_in(rows[0]);
  });
}

Result<PostgresErasureStore::Page> PostgresErasureStore::list(const TenantId& tenant,
                                                              std::string_view cursor,
                                                              std::uint32_t limit) {
  const std::size_t at_most = std::clamp<std::uint32_t>(limit, 1, 1000);
  return named(kList.name, database_.pool(), [&](Session& session) -> Result<Page> {
    TenantTransaction tx(session, tenant);
    Page page;
    for (const auto& row : tx.run(kList, tenant.str(), cursor, at_most + 1)) {
      if (page.items.size() == at_most) {
        page.next = page.items.back().id;
        break;
      }
      page.items.push_back(erasure_in(row));
    }
    return page;
  });
}

Result<PostgresErasureStore::Begun> PostgresErasureStore::begin_tenant(const TenantId& tenant,
                                                                       const std::string& id,
                                                                       sys_seconds now,
                                                                       const audit::Event& event) {
  POSTERN_TRY(const auto chain_key, log_.key_of(tenant));
  std::optional<audit::ChainHead> head;
  auto begun = named(kBeginTenant.name, database_.pool(), [&](Session& session) -> Result<Begun> {
    TenantTransaction tx(session, tenant);
    // The tenant first, then the lock of its KEKs: as a new KEK does.
    const auto raised = tx.run(kDisable, tenant.str());
    if (raised.empty()) return no_tenant();
    tx.run(kLockKeks, tenant.str());
    const auto before = tx.run(kFindTenant, tenant.str());
    if (!before.empty()) return Begun{tenant_erasure_in(before[0]), false};
    tx.run(kBeginTenant, tenant.str(), id, seconds_of(now));
    auto erasure = tenant_erasure_in(tx.run(kFindTenant, tenant.str())[0]);
    tx.run(kNotify, notification(tenant, text(raised[0][0])));
    POSTERN_TRY(head, log_.append_in(tx, tenant, chain_key, {&event, 1}));
    tx.commit();
    return Begun{std::move(erasure), true};
  });
  log_.ended(tenant, begun.ok() ? head : std::nullopt);
  return begun;
}

Result<std::vector<vault::ShareId>> PostgresErasureStore::shares_of(
    const TenantId& tenant, const std::optional<vault::ShareId>& after, std::uint32_t limit) {
  using Shares = std::vector<vault::ShareId>;
  return named(kSharesOf.name, database_.pool(), [&](Session& session) -> Result<Shares> {
    TenantTransaction tx(session, tenant);
    Shares found;
    for (const auto& row : tx.run(kSharesOf, tenant.str(), bytes_of(after), limit)) {
      found.push_back(*share_in(row[0]));
    }
    return found;
  });
}

Result<Erasure> PostgresErasureStore::finish_tenant(const TenantId& tenant, std::uint64_t shares,
                                                    sys_seconds now, const Say& say) {
  POSTERN_TRY(auto found, find_tenant(tenant));
  if (found.done_at) return found;
  auto done = remove_tenant(tenant, shares, now, say);
  if (done.ok() || done.error().code != ErrorCode::NotFound) return done;
  // Another replica was first.
  auto now_there = find_tenant(tenant);
  return now_there.ok() && now_there.value().done_at ? now_there : done;
}

Result<Erasure> PostgresErasureStore::remove_tenant(const TenantId& tenant, std::uint64_t shares,
                                                    sys_seconds now, const Say& say) {
  POSTERN_TRY(const auto chain_key, log_.key_of(tenant));
  auto done = named(kRemoveTenant.name, database_.pool(), [&](Session& session) -> Result<Erasure> {
    TenantTransaction tx(session, tenant);
    allow_long(tx);
    if (tx.run(kLockTenant, tenant.str()).empty()) return no_tenant();
    auto erasure = tenant_erasure_in(tx.run(kFindTenant, tenant.str())[0]);
    const auto counted = tx.run(kCountTenant, tenant.str());
    erasure.credentials = number<std::uint64_t>(counted[0][0]);
    erasure.versions = number<std::uint64_t>(counted[0][1]);
    erasure.covered_since = optional_instant(counted[0][2]);
    // Those that are named here, whoever destroyed them; perhaps some that were not.
    erasure.shares = std::max(number<std::uint64_t>(counted[0][3]), shares);
    erasure.removed_at = now;
    erasure.done_at = now;
    POSTERN_TRY(const auto said, say(erasure));
    erasure.statement = said.statement;
    // Before the tenant goes, which it does not while this is open.
    tx.run(kTenantDone, tenant.str(), seconds_of(now), said.statement, erasure.shares);
    tx.run(kRemoveTenant, tenant.str());
    tx.run(kAddTombstone, tenant.str());
    POSTERN_CHECK(log_.append_in(tx, tenant, chain_key, {&said.event, 1}));
    tx.run(kCloseHead, tenant.str());
    tx.run(kNotify, notification(tenant, "0"));
    tx.commit();
    return erasure;
  });
  log_.ended(tenant, std::nullopt);
  return done;
}

Result<Erasure> PostgresErasureStore::find_tenant(const TenantId& tenant) {
  return named(kFindTenant.name, database_.pool(), [&](Session& session) -> Result<Erasure> {
    TenantTransaction tx(session, tenant);
    const auto rows = tx.run(kFindTenant, tenant.str());
    if (rows.empty()) return absent();
    return tenant_erasure_in(rows[0]);
  });
}

Result<std::vector<PostgresErasureStore::Open>> PostgresErasureStore::open(
    const std::optional<Open>& after, std::uint32_t limit) {
  return named(kOpen.name, database_.pool(), [&](Session& session) -> Result<std::vector<Open>> {
    pqxx::work tx(session.link());
    ++session.counters().transactions;
    session.run(tx, kSetErasures);
    const int kind = !after ? 0 : after->id.empty() ? 1 : 2;
    std::vector<Open> out;
    for (const auto& row : session.run(tx, kOpen, kind, after ? after->tenant.str() : std::string(),
                                       after ? after->id : std::string(), limit)) {
      out.push_back({TenantId(text(row[0])), text(row[1])});
    }
    return out;
  });
}

bool is_being_erased(const Error& error) {
  return error.code == ErrorCode::Conflict && error.diagnostic.ends_with(" ERA01");
}

}  // namespace postern::storage
