#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "audit/chain.h"
#include "audit/chain_verifier.h"
#include "audit/log.h"
#include "storage/database.h"

namespace postern::storage {

class Session;
class TenantTransaction;

/// The audit chains of all tenants. Thread-safe.
///
/// append() is on the path of every request, so it takes one round trip: it
/// remembers where each chain ends, computes the batch on that, and one
/// statement stores it provided that no chain has moved meanwhile. When one has
/// (another replica was first), the heads are read again under lock.
///
/// A chain whose stored head does not verify under the tenant's key is never
/// continued: a new MAC over it would hide that it was altered. Its tenant then
/// gets NotFound, as does one that was removed, so that a batch is split around it.
/// Nor is one whose stored head is older than what this process saw committed:
/// restoring an old head with its MAC would hide what came after. After a database
/// was set back on purpose, a restart forgets.
class PostgresAuditLog final : public audit::AuditLog {
 public:
  /// `readers`: for read() and verify(), which take long on a long chain and must
  /// not keep append() waiting; null: the same database.
  PostgresAuditLog(Database& database, audit::ChainKeys& keys, Database* readers = nullptr)
      : database_(database), readers_(readers != nullptr ? *readers : database), keys_(keys) {}

  Status append(std::span<const audit::Event> events) override;
  Result<std::vector<audit::Record>> read(const TenantId& tenant,
                                          const audit::Query& query) override;
  /// NotFound also for a removed tenant: its key is gone, its records can still be read.
  /// RateLimited while another of this tenant or two of others run: each occupies
  /// a connection, and no tenant may keep the rest waiting.
  Result<audit::Verification> verify(const TenantId& tenant) override;

  // ---- for stores of this folder, whose writes commit their own events ----

  Result<audit::ChainKey> key_of(const TenantId& tenant) { return keys_.current(tenant); }
  /// The tenant's keys have changed, as the database says.
  void forget_keys(const TenantId& tenant) { keys_.forget(tenant); }

  /// Appends within the transaction, under `key`, which is the tenant's current
  /// one. Afterwards the caller tells how the transaction ended: ended() with
  /// what this returned once it is committed, and with nothing in every other case.
  Result<audit::ChainHead> append_in(TenantTransaction& tx, const TenantId& tenant,
                                     const audit::ChainKey& key,
                                     std::span<const audit::Event> events);
  void ended(const TenantId& tenant, const std::optional<audit::ChainHead>& head);

 private:
  using Heads = std::map<TenantId, audit::ChainHead>;

  using Keys = std::map<TenantId, audit::ChainKey>;

  Result<Heads> known_heads(Session& session, const Keys& keys);
  /// `known`: highest() from before the head was read, or from under its lock.
  Status check(const TenantId& tenant, const audit::StoredHead& stored,
               const audit::ChainKey* current, const std::optional<audit::ChainHead>& known);

  Database& database_;
  Database& readers_;
  /// The last head of the tenant that this process saw committed.
  std::optional<audit::ChainHead> highest(const TenantId& tenant);

  audit::ChainKeys& keys_;
  std::mutex mutex_;
  std::set<TenantId> verifying_;
  // Bounded, see ended(). heads_ is where the next batch goes on, and forgotten
  // whenever a write is in doubt; highest_ is only ever confirmed and only grows.
  std::unordered_map<TenantId, audit::ChainHead> heads_, highest_;
};

}  // namespace postern::storage
