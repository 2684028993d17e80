#include "storage/postgres_revocation_list.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <unordered_map>
#include <utility>

#include "storage/follower.h"
#include "storage/session.h"

namespace postern::storage {
namespace {

using std::chrono::steady_clock;
using Room = policy::RevocationList::Room;

constexpr const char* kChannel = "postern_revocation";
/// Beyond `exp`: how far another replica's clock may be behind.
constexpr std::chrono::seconds kSkew{60};
constexpr std::chrono::seconds kPruneEvery{60};
/// PostgreSQL's calendar ends before JSON's numbers do.
constexpr std::chrono::hours kLongest{24 * 3650};

constexpr Statement kAdd{"revoked_token.add", R"sql(
    INSERT INTO revoked_token (tenant_id, token_id, expires_at)
    VALUES ($1, $2, to_timestamp($3))
        ON CONFLICT (tenant_id, token_id) DO NOTHING)sql"};
constexpr Statement kPrune{"revoked_token.prune", R"sql(
    DELETE FROM revoked_token WHERE tenant_id = $1 AND expires_at < to_timestamp($2))sql"};
constexpr Statement kNotify{"revoked_token.notify", "SELECT pg_notify('postern_revocation', '')"};

// Across tenants, and so under a policy that shows this table only.
constexpr const char* kSetScope = "SELECT set_config('postern.scope', 'revocations', true)";
// Every transaction below this one has ended: what it added, the next statement sees.
constexpr const char* kOldestRunning = "SELECT pg_snapshot_xmin(pg_current_snapshot())";
constexpr Statement kAddedSince{"revoked_token.added_since", R"sql(
    SELECT tenant_id, token_id, extract(epoch FROM expires_at)::bigint
      FROM revoked_token
     WHERE added_in >= $1::xid8)sql"};

Error not_current(std::string diagnostic) {
  Error error = fail(ErrorCode::Unavailable, "", std::move(diagnostic));
  error.retry_after = std::chrono::seconds(2);
  return error;
}

}  // namespace

class PostgresRevocationList::Impl {
 public:
  Impl(Database& database, std::string conninfo, const Clock& clock, Options options)
      : database_(database),
        clock_(clock),
        options_(options),
        follower_({std::move(conninfo), "posternd-revocations", kChannel, "revoked_token.follow",
                   options.interval},
                  [this](pqxx::connection& connection, Follower::Reading reading) {
                    read(connection, reading);
                  }) {}

  Status start() { return follower_.start(); }
  void stop() { follower_.stop(); }
  steady_clock::time_point last_confirmed() const noexcept { return follower_.last_confirmed(); }

  Result<bool> any_revoked(const TenantId& tenant, std::span<const std::string> token_ids) const {
    if (steady_clock::now() - last_confirmed() > options_.max_staleness) {
      return not_current("no word from the database: cannot know which tokens are revoked");
    }
    const std::shared_lock lock(mutex_);
    if (overflown_.contains(tenant)) return not_current("more revoked tokens than memory allows");
    const auto found = tokens_.find(tenant);
    if (found == tokens_.end()) return false;
    return std::any_of(token_ids.begin(), token_ids.end(),
                       [&](const auto& id) { return found->second.contains(id); });
  }

  Status revoke(const TenantId& tenant, std::string_view token_id, sys_seconds expires_at,
                Room room) {
    const auto now = clock_.now();
    const auto most =
        options_.max_of_tenant + (room == Room::Reserved ? options_.max_of_tenant / 2 : 0);
    {
      const std::shared_lock lock(mutex_);
      const auto found = tokens_.find(tenant);
      if (overflown_.contains(tenant) || (found != tokens_.end() && found->second.size() >= most &&
                                          !found->second.contains(std::string(token_id)))) {
        Error error = fail(ErrorCode::RateLimited, "this tenant has too many revoked tokens");
        error.retry_after = kPruneEvery;
        return error;
      }
    }
    expires_at = std::min(expires_at, now + kLongest);
    const auto status = named(kAdd.name, database_.pool(), [&](Session& session) -> Status {
      TenantTransaction tx(session, tenant);
      tx.run(kPrune, tenant.str(), seconds_of(now - kSkew));
      tx.run(kAdd, tenant.str(), token_id, seconds_of(expires_at));
      tx.run(kNotify);
      tx.commit();
      return {};
    });
    // Here at once; a commit in doubt may have happened, and refusing is the safe side.
    if (status.ok() || status.error().code == ErrorCode::Unavailable) {
      const std::unique_lock lock(mutex_);
      add(tenant, std::string(token_id), expires_at);
    }
    return status;
  }

  std::size_t size() const {
    const std::shared_lock lock(mutex_);
    return size_;
  }

 private:
  void read(pqxx::connection& connection, Follower::Reading reading) {
    const auto now = clock_.now();
    bool everything = reading != Follower::Reading::Again;
    if (now - pruned_at_ >= kPruneEvery) {
      prune(now);
      const std::shared_lock lock(mutex_);
      everything |= !overflown_.empty();
    }
    if (reading != Follower::Reading::Again) {
      connection.prepare(kAddedSince.name, kAddedSince.sql);
    }
    pqxx::work tx(connection);
    tx.exec(kSetScope);
    const auto oldest = text(tx.exec(kOldestRunning)[0][0]);
    const auto rows =
        pq::exec_prepared(tx, kAddedSince.name, everything ? std::string("0") : since_);
    const std::unique_lock lock(mutex_);
    if (everything) overflown_.clear();
    for (const auto& row : rows) {
      const auto expires_at = instant(row[2]);
      if (expires_at + kSkew > now) add(TenantId(text(row[0])), text(row[1]), expires_at);
    }
    since_ = oldest;
  }

  /// Never takes anything away: after a fail-over that lost commits, what was
  /// revoked stays so. With mutex_ held.
  void add(const TenantId& tenant, std::string id, sys_seconds expires_at) {
    auto& of_tenant = tokens_[tenant];
    if (of_tenant.contains(id)) return;
    // Twice what one replica lets in: others may have added at the same time.
    if (size_ >= options_.max_tokens || of_tenant.size() >= 2 * options_.max_of_tenant) {
      overflown_.insert(tenant);
      return;
    }
    of_tenant.emplace(std::move(id), expires_at);
    ++size_;
  }

  void prune(sys_seconds now) {
    const std::unique_lock lock(mutex_);
    size_ = 0;
    for (auto entry = tokens_.begin(); entry != tokens_.end();) {
      auto& of_tenant = entry->second;
      std::erase_if(of_tenant, [&](const auto& token) { return token.second + kSkew <= now; });
      size_ += of_tenant.size();
      entry = of_tenant.empty() ? tokens_.erase(entry) : std::next(entry);
    }
    pruned_at_ = now;
  }

  Database& database_;
  const Clock& clock_;
  const Options options_;
  std::string since_ = "0";  // used by the follower only
  sys_seconds pruned_at_{};  // likewise
  mutable std::shared_mutex mutex_;
  std::unordered_map<TenantId, std::unordered_map<std::string, sys_seconds>> tokens_;
  std::size_t size_ = 0;
  std::set<TenantId> overflown_;  // tenants of which not everything fits
  Follower follower_;             // last: its thread uses the others
};

PostgresRevocationList::PostgresRevocationList(Database& database, std::string conninfo,
                                               const Clock& clock, Options options)
    : impl_(std::make_unique<Impl>(database, std::move(conninfo), clock, options)) {}
PostgresRevocationList::~PostgresRevocationList() = default;
Status PostgresRevocationList::start() { return impl_->start(); }
void PostgresRevocationList::stop() { impl_->stop(); }
Result<bool> PostgresRevocationList::any_revoked(const TenantId& tenant,
                                                 std::span<const std::string> token_ids) const {
  return impl_->any_revoked(tenant, token_ids);
}
Status PostgresRevocationList::revoke(const TenantId& tenant, std::string_view token_id,
                                      sys_seconds expires_at, Room room) {
  return impl_->revoke(tenant, token_id, expires_at, room);
}
steady_clock::time_point PostgresRevocationList::last_confirmed() const noexcept {
  return impl_->last_confirmed();
}
std::size_t PostgresRevocationList::size() const { return impl_->size(); }

}  // namespace postern::storage
