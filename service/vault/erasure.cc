#include "vault/erasure.h"

#include <exception>
#include <typeinfo>
#include <utility>

#include "core/log.h"
#include "core/time_format.h"
#include "core/wipe_stack.h"
#include "crypto/random.h"
#include "vault/share_errors.h"

namespace postern::vault {
namespace {

constexpr std::uint32_t kPage = 100;
constexpr std::uint32_t kShares = 1000;  // in one statement

void report(const TenantId& tenant, const std::string& id, const Error& error) {
  log::warning("erasure.goes_on_later", {{"tenant", tenant.str()},
                                         {"erasure", id},
                                         {"code", to_string(error.code)},
                                         {"diagnostic", error.diagnostic}});
}

/// Nobody says that a share is destroyed which somewhere else may still be.
Error not_destroyed(const Error& cause) {
  return cause.code == ErrorCode::NotFound ? another_share_store() : share_store_is_away(cause);
}

/// What is not asked while it is away, so that nobody waits for it in vain.
Status may_ask(Erasures::ShareStoreState state) {
  if (state != Erasures::ShareStoreState::Unreachable) return {};
  return share_store_is_away(fail(ErrorCode::Unavailable, "", "it did not answer lately"));
}

}  // namespace

Erasures::Erasures(ErasureStore& store, Keyring& keyring, ShareStore* shares, Sign sign,
                   const Clock& clock)
    : store_(store),
      keyring_(keyring),
      shares_(shares),
      sign_(std::move(sign)),
      clock_(clock),
      share_store_(shares == nullptr ? ShareStoreState::None : ShareStoreState::Ok) {}

Result<ErasureStore::Said> Erasures::say(const TenantId& tenant, const Erasure& erasure) const {
  POSTERN_TRY(auto statement, sign_(tenant, erasure));
  audit::Event event{tenant,
                     clock_.now(),
                     erasure.principal ? "principal.erased" : "tenant.erased",
                     audit::Outcome::Allowed,
                     "",
                     {}};
  event.with("caller", "posternd").with("erasure", erasure.id);
  if (erasure.principal) {
    event.with("subject_issuer", erasure.principal->issuer)
        .with("subject", erasure.principal->subject);
  }
  event.with("credentials", std::to_string(erasure.credentials))
      .with("versions", std::to_string(erasure.versions))
      .with("shares", std::to_string(erasure.shares))
      .with("backups_covered_since",
            erasure.covered_since ? format_time(*erasure.covered_since) : "never")
      .with("statement", statement);
  return ErasureStore::Said{std::move(statement), std::move(event)};
}

Result<Erasure> Erasures::finish(const TenantId& tenant, const std::string& id) {
  POSTERN_TRY(const auto removed, store_.remove_rows(tenant, id, clock_.now()));
  if (removed.done_at) return removed;
  if (removed.share) {
    if (shares_ == nullptr) return no_share_store();
    POSTERN_CHECK(may_ask(share_store_));
    if (const auto gone = shares_->destroy(tenant, *removed.share); !gone.ok()) {
      return not_destroyed(gone.error());
    }
  }
  // Now, and when it is known to all: a release on its way may have read the share before.
  keyring_.forget(tenant);
  auto done = store_.finish(tenant, id, clock_.now(),
                            [&](const Erasure& erasure) { return say(tenant, erasure); });
  keyring_.forget(tenant);
  return done;
}

/// Pages of all the shares that the tenant's keys take. Returns how many.
template <class Do>
Result<std::uint64_t> Erasures::each_share(const TenantId& tenant, const Do& act) {
  std::uint64_t count = 0;
  std::vector<ShareId> page;
  do {
    const auto after = page.empty() ? std::optional<ShareId>() : std::optional(page.back());
    POSTERN_TRY(page, store_.shares_of(tenant, after, kShares));
    if (page.empty()) break;
    if (const auto done = act(page); !done.ok()) return not_destroyed(done.error());
    count += page.size();
  } while (page.size() == kShares);
  return count;
}

Result<Erasure> Erasures::finish_tenant(const TenantId& tenant) {
  std::uint64_t shares = 0;
  if (shares_ != nullptr) {
    POSTERN_CHECK(may_ask(share_store_));
    // Before anything is destroyed: in another's share store nothing is.
    POSTERN_TRY(const auto known,
                each_share(tenant, [&](const auto& ids) { return shares_->know(tenant, ids); }));
    POSTERN_TRY(shares,
                each_share(tenant, [&](const auto& ids) { return shares_->destroy(tenant, ids); }));
    // What no key names (a crash came between) goes too and is not counted; but not by the
    // mere name of a tenant that another installation may have as well.
    if (known > 0) {
      const auto others = shares_->destroy_all(tenant);
      if (!others.ok()) return share_store_is_away(others.error());
    }
  }
  keyring_.forget(tenant);
  auto done = store_.finish_tenant(tenant, shares, clock_.now(),
                                   [&](const Erasure& erasure) -> Result<ErasureStore::Said> {
                                     // Under the tenant's lock: nothing is changed when this
                                     // replica destroyed none of the shares that there were.
                                     if (erasure.shares > 0 && shares_ == nullptr)
                                       return no_share_store();
                                     return say(tenant, erasure);
                                   });
  keyring_.forget(tenant);
  if (done.ok())
    log::info("tenant.erased", {{"tenant", tenant.str()}, {"erasure", done.value().id}});
  return done;
}

Result<ErasureStore::Begun> Erasures::erase(const TenantId& tenant, const Principal& principal,
                                            const audit::Event& event) {
  POSTERN_TRY(auto begun,
              store_.begin(tenant, principal, crypto::random_id(), clock_.now(), event));
  if (begun.erasure.done_at) return begun;
  auto done = finish(tenant, begun.erasure.id);
  if (done.ok()) {
    begun.erasure = std::move(done).value();
  } else {
    report(tenant, begun.erasure.id, done.error());
    // As far as it got; what was begun is begun.
    auto now = store_.find(tenant, begun.erasure.id);
    if (now.ok()) begun.erasure = std::move(now).value();
  }
  return begun;
}

Result<ErasureStore::Begun> Erasures::erase_tenant(const TenantId& tenant,
                                                   const audit::Event& event) {
  POSTERN_TRY(auto begun, store_.begin_tenant(tenant, crypto::random_id(), clock_.now(), event));
  keyring_.forget(tenant);
  auto done = finish_tenant(tenant);
  if (done.ok()) {
    begun.erasure = std::move(done).value();
  } else {
    report(tenant, begun.erasure.id, done.error());
  }
  return begun;
}

void Erasures::go_on() {
  const auto stopping = [this] {
    const std::lock_guard lock(mutex_);
    return stopping_;
  };
  std::optional<ErasureStore::Open> after;
  for (;;) {
    const auto page = store_.open(after, kPage);
    if (!page.ok()) return;  // the database is away, which others say
    for (const auto& open : page.value()) {
      if (stopping()) return;
      try {
        const auto done =
            open.id.empty() ? finish_tenant(open.tenant) : finish(open.tenant, open.id);
        // That the share store is away was said once.
        const bool waits = !done.ok() && share_store_ == ShareStoreState::Unreachable &&
                           is_share_store_away(done.error());
        if (!done.ok() && !waits) report(open.tenant, open.id, done.error());
      } catch (const std::exception& e) {
        // The type, not what().
        log::error("erasure.threw", {{"tenant", open.tenant.str()}, {"type", typeid(e).name()}});
      }
    }
    if (page.value().size() < kPage) return;
    after = page.value().back();
  }
}

void Erasures::look_at_share_store() {
  if (shares_ == nullptr) return;
  const bool ok = shares_->ping().ok();
  const auto state = ok ? ShareStoreState::Ok : ShareStoreState::Unreachable;
  if (share_store_.exchange(state) == state) return;
  if (ok) {
    log::info("share_store.reachable");
  } else {
    log::error("share_store.unreachable");
  }
}

void Erasures::start(std::chrono::milliseconds interval) {
  thread_ = std::thread([this, interval] { run(interval); });
}

void Erasures::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Erasures::run(std::chrono::milliseconds interval) {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    try {
      look_at_share_store();
      go_on();
    } catch (const std::exception& e) {
      log::error("erasure.threw", {{"type", typeid(e).name()}});
    }
    wipe_stack();
    lock.lock();
    wake_.wait_for(lock, interval, [this] { return stopping_; });
  }
}

}  // namespace postern::vault
