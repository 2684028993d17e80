#include "storage/postgres_audit_log.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <stdexcept>
#include <utility>

#include "core/log.h"
#include "storage/session.h"

namespace postern::storage {
namespace {

constexpr std::size_t kVerifications = 2;  // at a time, of different tenants
constexpr std::size_t kRememberedHeads = 100'000;
constexpr std::int64_t kVerifyPage = 2000;

constexpr Statement kSetTenants{"audit.set_tenants",
                                "SELECT set_config('postern.audit_tenants', $1, true)"};
constexpr Statement kHeads{"audit.heads", R"sql(
    SELECT tenant_id, sequence, hash, mac, kek_version
      FROM audit_head
     WHERE tenant_id = ANY (string_to_array($1, ',')) AND NOT closed)sql"};
// In one order everywhere, as audit_append() does: replicas must not deadlock.
constexpr Statement kHeadsForUpdate{"audit.heads_for_update", R"sql(
    SELECT tenant_id, sequence, hash, mac, kek_version
      FROM audit_head
     WHERE tenant_id = ANY (string_to_array($1, ',')) AND NOT closed
     ORDER BY tenant_id
       FOR NO KEY UPDATE)sql"};
constexpr Statement kAppend{"audit.append", R"sql(
    SELECT audit_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11))sql"};
constexpr Statement kRead{"audit.read", R"sql(
    SELECT sequence, body, hash
      FROM audit_record
     WHERE tenant_id = $1 AND sequence > $2 AND starts_with(body, $3)
     ORDER BY sequence
     LIMIT $4)sql"};
constexpr Statement kReadNewest{"audit.read_newest", R"sql(
    SELECT sequence, body, hash
      FROM audit_record
     WHERE tenant_id = $1 AND sequence < $2 AND starts_with(body, $3)
     ORDER BY sequence DESC
     LIMIT $4)sql"};

crypto::Hash256 hash_in(const pqxx::field& field) {
  const auto raw = bytes(field);
  crypto::Hash256 out{};
  if (raw.size() != out.size()) throw std::logic_error("a stored hash has another length");
  std::copy(raw.begin(), raw.end(), out.begin());
  return out;
}

audit::Record record_in(const pqxx::row& row) {
  return {number<std::uint64_t>(row[0]), text(row[1]), hash_in(row[2])};
}

template <class Range, class Text>
std::string joined(const Range& range, Text&& text_of) {
  std::string out;
  for (const auto& item : range) {
    if (!out.empty()) out += ',';
    out += text_of(item);
  }
  return out;
}

void add(Bytes& out, const crypto::Hash256& hash) {
  out.insert(out.end(), hash.begin(), hash.end());
}

/// Of kHeads and kHeadsForUpdate, after the tenant.
audit::StoredHead head_in(const pqxx::row& row) {
  return {{number<std::uint64_t>(row[1]), hash_in(row[2])},
          KekVersion{number<std::uint32_t>(row[4])},
          bytes(row[3])};
}

/// Whether a stored head is not one that can follow what is known to be committed.
bool set_back(const audit::ChainHead& stored, const audit::ChainHead& known) {
  return stored.sequence < known.sequence ||
         (stored.sequence == known.sequence && stored.hash != known.hash);
}

Error gone() { return fail(ErrorCode::NotFound, "no such tenant"); }

/// The arguments of audit_append(), computed from events and the heads they follow.
class Batch {
 public:
  /// `events` in any order; `heads` has every tenant of theirs.
  Batch(std::span<const audit::Event> events, const std::map<TenantId, audit::ChainHead>& heads)
      : from_(heads), to_(heads) {
    std::map<TenantId, std::vector<const audit::Event*>> by_tenant;
    for (const auto& event : events) by_tenant[event.tenant].push_back(&event);
    std::string separator;
    for (const auto& [tenant, own] : by_tenant) {
      auto& head = to_.at(tenant);
      for (const auto* event : own) {
        const auto record = audit::append(tenant, head, *event);
        record_tenants_ += separator + tenant.str();
        sequences_ += separator + std::to_string(record.sequence);
        if (!bodies_.empty()) bodies_ += '\n';
        bodies_ += record.body;
        add(hashes_, record.hash);
        separator = ",";
      }
    }
  }

  /// False when a chain has moved on: then nothing was written.
  bool store(Session& session, pqxx::transaction_base& tx,
             const std::function<const audit::ChainKey&(const TenantId&)>& key_of) const {
    const auto sequence = [](const auto& item) { return std::to_string(item.second.sequence); };
    Bytes from_hashes, to_hashes, macs;
    for (const auto& [tenant, head] : from_) add(from_hashes, head.hash);
    for (const auto& [tenant, head] : to_) {
      add(to_hashes, head.hash);
      add(macs, audit::head_mac(key_of(tenant).key, tenant, head));
    }
    const auto versions = joined(to_, [&](const auto& item) {
      return std::to_string(static_cast<std::uint32_t>(key_of(item.first).kek_version));
    });
    const auto rows = session.run(
        tx, kAppend, joined(from_, [](const auto& item) { return item.first.str(); }),
        "{" + joined(from_, sequence) + "}", ByteView(from_hashes),
        "{" + joined(to_, sequence) + "}", ByteView(to_hashes), ByteView(macs),
        "{" + versions + "}", record_tenants_, "{" + sequences_ + "}", bodies_, ByteView(hashes_));
    return number<bool>(rows[0][0]);
  }

  const std::map<TenantId, audit::ChainHead>& ends() const { return to_; }

 private:
  std::map<TenantId, audit::ChainHead> from_, to_;
  std::string record_tenants_, sequences_, bodies_;
  Bytes hashes_;
};

/// What a query for an action selects: canonical() puts the action first, and an
/// action needs no escaping, so both forms are a prefix of the body.
std::string body_prefix(const std::string& action) {
  if (action.empty()) return {};
  return R"({"action":")" + action + (action.back() == '.' ? "" : "\"");
}

}  // namespace

std::optional<audit::ChainHead> PostgresAuditLog::highest(const TenantId& tenant) {
  const std::lock_guard lock(mutex_);
  const auto known = highest_.find(tenant);
  return known != highest_.end() ? std::optional(known->second) : std::nullopt;
}

Status PostgresAuditLog::check(const TenantId& tenant, const audit::StoredHead& stored,
                               const audit::ChainKey* current,
                               const std::optional<audit::ChainHead>& known) {
  if (known) {
    if (known->sequence == stored.head.sequence && known->hash == stored.head.hash) return {};
    if (set_back(stored.head, *known)) {
      // An older head has a MAC that fits: only memory tells that it was passed.
      log::error("audit.head_set_back", {{"tenant", tenant.str()},
                                         {"stored", std::to_string(stored.head.sequence)},
                                         {"written", std::to_string(known->sequence)}});
      return fail(ErrorCode::NotFound, "the audit log of this tenant cannot be continued",
                  "audit head was set back");
    }
  }
  const auto fits = [&](const audit::ChainKey& key) {
    return crypto::equal(audit::head_mac(key.key, tenant, stored.head), stored.mac);
  };
  if (current != nullptr && current->kek_version == stored.kek_version) {
    if (fits(*current)) return {};
  } else {
    const auto key = keys_.of_version(tenant, stored.kek_version);
    if (!key.ok() && key.error().code != ErrorCode::NotFound) return key.error();
    if (key.ok() && fits(key.value())) return {};
  }
  log::error("audit.head_forged", {{"tenant", tenant.str()}});
  return fail(ErrorCode::NotFound, "the audit log of this tenant cannot be continued",
              "audit head does not verify");
}

Result<PostgresAuditLog::Heads> PostgresAuditLog::known_heads(Session& session, const Keys& keys) {
  Heads out;
  std::map<TenantId, std::optional<audit::ChainHead>> known;
  std::vector<TenantId> missing;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [tenant, key] : keys) {
      const auto found = heads_.find(tenant);
      if (found != heads_.end()) {
        out.emplace(tenant, found->second);
        continue;
      }
      missing.push_back(tenant);
      const auto highest = highest_.find(tenant);
      known[tenant] = highest != highest_.end() ? std::optional(highest->second) : std::nullopt;
    }
  }
  if (missing.empty()) return out;
  const auto list = joined(missing, [](const TenantId& tenant) { return tenant.str(); });
  pqxx::work tx(session.link());
  ++session.counters().transactions;
  session.run(tx, kSetTenants, list);
  const auto rows = session.run(tx, kHeads, list);
  tx.commit();
  for (const auto& row : rows) {
    const TenantId tenant(text(row[0]));
    const auto stored = head_in(row);
    POSTERN_CHECK(check(tenant, stored, &keys.at(tenant), known.at(tenant)));
    out.emplace(tenant, stored.head);
  }
  if (out.size() != keys.size()) return gone();
  return out;
}

Status PostgresAuditLog::append(std::span<const audit::Event> events) {
  if (events.empty()) return {};
  Keys keys;
  for (const auto& event : events) {
    if (keys.contains(event.tenant)) continue;
    POSTERN_TRY(auto key, keys_.current(event.tenant));
    keys.emplace(event.tenant, std::move(key));
  }
  const auto key_of = [&](const TenantId& tenant) -> const audit::ChainKey& {
    return keys.at(tenant);
  };

  auto status = named(kAppend.name, database_.pool(), [&](Session& session) -> Status {
    const auto finish = [&](const Batch& batch) -> Status {
      for (const auto& [tenant, head] : batch.ends()) ended(tenant, head);
      ++session.counters().audit_batches;
      session.counters().audit_events += events.size();
      return {};
    };
    {
      POSTERN_TRY(const auto heads, known_heads(session, keys));
      const Batch batch(events, heads);
      pqxx::nontransaction tx(session.link());
      if (batch.store(session, tx, key_of)) return finish(batch);
    }
    // Another replica, or a configuration change, was first.
    ++session.counters().audit_conflicts;
    const auto list = joined(keys, [](const auto& item) { return item.first.str(); });
    pqxx::work tx(session.link());
    ++session.counters().transactions;
    session.run(tx, kSetTenants, list);
    Heads heads;
    for (const auto& row : session.run(tx, kHeadsForUpdate, list)) {
      const TenantId tenant(text(row[0]));
      const auto stored = head_in(row);
      // Under lock nothing can be committed meanwhile, so what is known now counts.
      POSTERN_CHECK(check(tenant, stored, &keys.at(tenant), highest(tenant)));
      heads.emplace(tenant, stored.head);
    }
    if (heads.size() != keys.size()) return gone();
    const Batch batch(events, heads);
    if (!batch.store(session, tx, key_of)) {
      return fail(ErrorCode::Internal, "the audit log refused a batch", "audit.append under lock");
    }
    tx.commit();
    return finish(batch);
  });
  if (!status.ok() && status.error().code == ErrorCode::Conflict) {
    // A record is there already where a chain is said to end: its head was set back.
    log::error("audit.head_set_back", {{"tenants", std::to_string(keys.size())}});
    status = fail(ErrorCode::NotFound, "the audit log of this tenant cannot be continued",
                  status.error().diagnostic);
  }
  if (!status.ok()) {
    // In doubt or refused: what is remembered may be wrong.
    for (const auto& [tenant, key] : keys) ended(tenant, std::nullopt);
  }
  return status;
}

Result<audit::ChainHead> PostgresAuditLog::append_in(TenantTransaction& tx, const TenantId& tenant,
                                                     const audit::ChainKey& key,
                                                     std::span<const audit::Event> events) {
  const auto rows = tx.run(kHeadsForUpdate, tenant.str());
  if (rows.empty()) return gone();
  const auto stored = head_in(rows[0]);
  POSTERN_CHECK(check(tenant, stored, &key, highest(tenant)));
  if (events.empty()) return stored.head;
  for (const auto& event : events) {
    if (event.tenant != tenant) throw std::logic_error("an event of another tenant");
  }
  const Batch batch(events, {{tenant, stored.head}});
  if (!batch.store(tx.session(), tx.work(),
                   [&](const TenantId&) -> const audit::ChainKey& { return key; })) {
    return fail(ErrorCode::Internal, "the audit log refused a batch", "audit.append under lock");
  }
  return batch.ends().at(tenant);
}

void PostgresAuditLog::ended(const TenantId& tenant, const std::optional<audit::ChainHead>& head) {
  const std::lock_guard lock(mutex_);
  if (!head) {
    heads_.erase(tenant);
    return;
  }
  for (auto* heads : {&heads_, &highest_}) {
    if (heads->size() >= kRememberedHeads && !heads->contains(tenant)) heads->clear();
    auto& known = (*heads)[tenant];
    // Reports of two threads may come in either order.
    if (head->sequence >= known.sequence) known = *head;
  }
}

Result<std::vector<audit::Record>> PostgresAuditLog::read(const TenantId& tenant,
                                                          const audit::Query& query) {
  constexpr auto kLast = std::numeric_limits<std::int64_t>::max();
  const auto bound = static_cast<std::int64_t>(std::min<std::uint64_t>(query.after, kLast));
  const auto limit = static_cast<std::int64_t>(std::min<std::uint32_t>(query.limit, 1000));
  const auto& statement = query.newest_first ? kReadNewest : kRead;
  return named(
      statement.name, readers_.pool(), [&](Session& session) -> Result<std::vector<audit::Record>> {
        TenantTransaction tx(session, tenant);
        const auto rows =
            tx.run(statement, tenant.str(), query.newest_first && bound == 0 ? kLast : bound,
                   body_prefix(query.action), limit);
        std::vector<audit::Record> out;
        out.reserve(rows.size());
        for (const auto& row : rows) out.push_back(record_in(row));
        return out;
      });
}

Result<audit::Verification> PostgresAuditLog::verify(const TenantId& tenant) {
  POSTERN_CHECK(keys_.current(tenant));
  const auto begin = [&] {
    const std::lock_guard lock(mutex_);
    return verifying_.size() < kVerifications && verifying_.insert(tenant).second;
  };
  const auto known = highest(tenant);
  struct Place {
    PostgresAuditLog* log;
    const TenantId& tenant;
    ~Place() {
      if (log == nullptr) return;
      const std::lock_guard lock(log->mutex_);
      log->verifying_.erase(tenant);
    }
  } const place{begin() ? this : nullptr, tenant};
  if (place.log == nullptr) {
    Error error = fail(ErrorCode::RateLimited, "other verifications are running; try again");
    error.retry_after = std::chrono::seconds(2);
    return error;
  }
  audit::ChainVerifier verifier(tenant);
  audit::StoredHead stored;
  POSTERN_CHECK(named("audit.verify", readers_.pool(), [&](Session& session) -> Status {
    TenantTransaction tx(session, tenant, TenantTransaction::Mode::Snapshot);
    const auto heads = tx.run(kHeads, tenant.str());
    if (heads.empty()) return gone();
    stored = head_in(heads[0]);
    std::int64_t after = 0;
    for (;;) {
      const auto rows = tx.run(kRead, tenant.str(), after, "", kVerifyPage);
      for (const auto& found : rows) {
        const auto record = record_in(found);
        after = static_cast<std::int64_t>(record.sequence);
        if (!verifier.add(record)) return {};
      }
      if (static_cast<std::int64_t>(rows.size()) < kVerifyPage) return {};
    }
  }));
  // Outside, for the key may need a connection of its own.
  POSTERN_TRY(auto verification, verifier.finish(stored, keys_));
  if (verification.intact && known && set_back(stored.head, *known)) {
    log::error("audit.head_set_back", {{"tenant", tenant.str()}});
    verification.intact = false;
    verification.problem = "records missing at the end";
  }
  return verification;
}

}  // namespace postern::storage
