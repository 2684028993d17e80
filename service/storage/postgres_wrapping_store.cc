#include "storage/postgres_wrapping_store.h"

#include <string>

#include "storage/session.h"
#include "storage/wrapped_answer_row.h"
#include "storage/write_audited.h"

namespace postern::storage {
namespace {

// One maker at a time, or two could pass the bound together.
constexpr Statement kLockMaker{"wrapped_answer.lock_maker", R"sql(
    SELECT pg_advisory_xact_lock(hashtextextended('postern.wrapped ' || $1 || ' ' || $2, 0)))sql"};
constexpr Statement kCount{"wrapped_answer.count", R"sql(
    SELECT count(*)
      FROM wrapped_answer
     WHERE tenant_id = $1 AND maker = $2 AND expires_at > to_timestamp($3))sql"};
constexpr Statement kSweep{"wrapped_answer.sweep", R"sql(
    DELETE FROM wrapped_answer
     WHERE tenant_id = $1
       AND ctid = ANY (ARRAY(SELECT w.ctid FROM wrapped_answer w
                              WHERE w.tenant_id = $1 AND w.expires_at <= to_timestamp($2)
                              ORDER BY w.expires_at
                              LIMIT 20
                                FOR UPDATE SKIP LOCKED)))sql"};
constexpr Statement kAdd{"wrapped_answer.add", R"sql(
    INSERT INTO wrapped_answer
           (tenant_id, token_hash, accessor, maker, creation_path, created_at, expires_at,
            kek_version, sealed, owner_issuer, owner_subject, share_id)
    VALUES ($1, $2, $3, $4, $5, to_timestamp($6), to_timestamp($7), $8, $9, $10, $11,
            nullif($12, ''::bytea)))sql"};
constexpr Statement kFind{"wrapped_answer.find", "SELECT " WRAPPED_ANSWER_COLUMNS R"sql(
      FROM wrapped_answer
     WHERE tenant_id = $1 AND token_hash = $2 AND expires_at > to_timestamp($3))sql"};
// Of two at once the second waits for the first, and finds nothing.
constexpr Statement kTake{"wrapped_answer.take", R"sql(
    DELETE FROM wrapped_answer
     WHERE tenant_id = $1 AND token_hash = $2 AND expires_at > to_timestamp($3)
 RETURNING accessor)sql"};

Error absent() { return fail(ErrorCode::NotFound, "no such wrapping token"); }

void insert(TenantTransaction& tx, const TenantId& tenant, const vault::WrappedAnswer& answer) {
  tx.run(kAdd, tenant.str(), ByteView(answer.token_hash), answer.accessor, answer.maker,
         answer.creation_path, seconds_of(answer.created_at), seconds_of(answer.expires_at),
         static_cast<std::uint32_t>(answer.sealed.kek_version), ByteView(answer.sealed.wrapped),
         answer.owner.principal().issuer, answer.owner.principal().subject,
         bytes_of(answer.sealed.share));
}

Status status_of(const Result<bool>& result) {
  return result.ok() ? Status() : Status(result.error());
}

}  // namespace

Status PostgresWrappingStore::add(const TenantId& tenant, const Seal& seal, std::uint32_t most,
                                  sys_seconds now, std::span<const audit::Event> events) {
  return status_of(under_newest_kek(log_, tenant, [&]() -> Result<bool> {
    // Before the transaction: none may wait for the share store.
    POSTERN_TRY(const auto answer, seal());
    const auto body = [&](TenantTransaction& tx) -> Result<bool> {
      tx.run(kLockMaker, tenant.str(), answer.maker);
      const auto waiting = tx.run(kCount, tenant.str(), answer.maker, seconds_of(now));
      if (number<std::uint64_t>(waiting[0][0]) >= most) {
        return fail(ErrorCode::RateLimited,
                    "as many wrapped answers are waiting as one caller may have");
      }
      tx.run(kSweep, tenant.str(), seconds_of(now));
      insert(tx, tenant, answer);
      return true;
    };
    return write_audited<bool>(kAdd, database_, log_, tenant, events, body);
  }));
}

Result<vault::WrappedAnswer> PostgresWrappingStore::find(const TenantId& tenant,
                                                         const crypto::Hash256& token_hash,
                                                         sys_seconds now) {
  return named(kFind.name, database_.pool(), [&](Session& session) -> Result<vault::WrappedAnswer> {
    TenantTransaction tx(session, tenant);
    const auto rows = tx.run(kFind, tenant.str(), ByteView(token_hash), seconds_of(now));
    if (rows.empty()) return absent();
    return wrapped_answer_in(rows[0]);
  });
}

Status PostgresWrappingStore::take(const TenantId& tenant, const crypto::Hash256& token_hash,
                                   sys_seconds now, const Open& open,
                                   std::span<const audit::Event> events) {
  return status_of(under_newest_kek(log_, tenant, [&]() -> Result<bool> {
    // Before the transaction, likewise. Whoever takes it meanwhile has it alone; moved to
    // another KEK meanwhile, it is the same answer.
    POSTERN_TRY(const auto row, find(tenant, token_hash, now));
    POSTERN_TRY(const auto instead, open(row));
    const auto body = [&](TenantTransaction& tx) -> Result<bool> {
      const auto taken = tx.run(kTake, tenant.str(), ByteView(token_hash), seconds_of(now));
      if (taken.empty()) return absent();
      if (instead) insert(tx, tenant, *instead);
      return true;
    };
    return write_audited<bool>(kTake, database_, log_, tenant, events, body);
  }));
}

}  // namespace postern::storage
