#include "policy/snapshot_cache.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace postern::policy {

using std::chrono::steady_clock;

namespace {

constexpr int kLoadAttempts = 3;
/// How long a snapshot is kept of a tenant whose signing keys are being moved.
constexpr std::chrono::seconds kOpensSoon(1);

Error unknown_tenant() { return fail(ErrorCode::NotFound, "unknown tenant"); }

Error not_current(std::string diagnostic) {
  Error error = fail(ErrorCode::Unavailable, "", std::move(diagnostic));
  error.retry_after = std::chrono::seconds(2);
  return error;
}

}  // namespace

SnapshotCache::SnapshotCache(ConfigStore& store, vault::Keyring& keyring, Options options,
                             Confirmed confirmed)
    : store_(store),
      keyring_(keyring),
      options_(std::move(options)),
      confirmed_(std::move(confirmed)) {}

Status SnapshotCache::check_current() const {
  if (steady_clock::now() - confirmed_() <= options_.max_staleness) return {};
  return not_current("no word from the database: cannot know whether configuration is current");
}

std::shared_ptr<SnapshotCache::Slot> SnapshotCache::slot_of(const TenantId& tenant) {
  {
    const std::shared_lock lock(mutex_);
    if (const auto it = slots_.find(tenant); it != slots_.end()) return it->second;
  }
  const std::unique_lock lock(mutex_);
  // Slots of unknown tenants are small, but guesses are free: at the limit the
  // idle ones go. Under mutex_ nobody can take a slot up, so a count of one stays one.
  if (slots_.size() >= options_.max_slots) {
    std::erase_if(slots_, [](const auto& entry) {
      if (entry.second.use_count() != 1) return false;
      const std::lock_guard guard(entry.second->mutex);
      return entry.second->snapshot == nullptr;
    });
  }
  auto& slot = slots_[tenant];
  if (!slot) slot = std::make_shared<Slot>();
  return slot;
}

Result<std::shared_ptr<const TenantSnapshot>> SnapshotCache::peek(const TenantId& tenant) {
  POSTERN_CHECK(check_current());
  std::shared_ptr<Slot> slot;
  {
    const std::shared_lock lock(mutex_);
    const auto it = slots_.find(tenant);
    if (it == slots_.end()) return std::shared_ptr<const TenantSnapshot>();
    slot = it->second;
  }
  const auto now = steady_clock::now();
  const std::lock_guard lock(slot->mutex);
  slot->used = now;
  if (!slot->snapshot && now < slot->unknown_until) return unknown_tenant();
  // Moving a key is no change of configuration: nobody announces it.
  if (slot->snapshot && slot->snapshot->opens_soon() && now - slot->loaded > kOpensSoon) {
    drop(*slot);
  }
  return slot->snapshot;
}

Result<std::shared_ptr<const TenantSnapshot>> SnapshotCache::get(const TenantId& tenant) {
  POSTERN_TRY(auto known, peek(tenant));
  if (known) return known;

  const auto slot = slot_of(tenant);
  const std::lock_guard loading(slot->loading);
  // The tenant may move on while its configuration is being read.
  for (int attempt = 0; attempt < kLoadAttempts; ++attempt) {
    POSTERN_TRY(known, peek(tenant));
    if (known) return known;
    const auto [announced, renewals] = [&] {
      const std::lock_guard lock(slot->mutex);
      return std::pair(slot->at_least, slot->renewals);
    }();
    ++loads_;
    const auto stored = store_.load(tenant);
    if (!stored.ok()) {
      if (stored.error().code == ErrorCode::NotFound) {
        const std::lock_guard lock(slot->mutex);
        // Not when it came into being meanwhile.
        if (slot->at_least == announced) {
          slot->unknown_until = steady_clock::now() + options_.unknown_for;
        }
      }
      return stored.error();
    }
    POSTERN_TRY(auto made, TenantSnapshot::build(stored.value(), options_.base_url, keyring_));
    // Its rows may have been moved since they were read.
    if (made->opens_soon() && attempt + 1 < kLoadAttempts) continue;
    {
      const std::lock_guard lock(slot->mutex);
      if (made->epoch() < slot->at_least || slot->renewals != renewals) continue;
      bytes_ += made->footprint();
      slot->snapshot = made;
      slot->loaded = slot->used = steady_clock::now();
    }
    if (bytes_ > options_.max_bytes) evict();
    return made;
  }
  // What was read is known to be out of date: a revocation may be missing from it.
  return not_current("configuration changes faster than it can be read");
}

std::shared_ptr<SnapshotCache::Slot> SnapshotCache::known_slot(const TenantId& tenant) const {
  const std::shared_lock lock(mutex_);
  const auto it = slots_.find(tenant);
  return it != slots_.end() ? it->second : nullptr;
}

void SnapshotCache::moved_on(const TenantId& tenant, std::uint64_t epoch) {
  // A tenant without a slot is not in memory and not being loaded.
  const auto slot = known_slot(tenant);
  if (!slot) return;
  const std::lock_guard lock(slot->mutex);
  slot->at_least = std::max(slot->at_least, epoch);
  slot->unknown_until = {};
  if (slot->snapshot && slot->snapshot->epoch() < epoch) drop(*slot);
}

void SnapshotCache::observed(const TenantId& tenant, std::uint64_t epoch) {
  const auto slot = known_slot(tenant);
  if (!slot) return;
  const std::lock_guard lock(slot->mutex);
  slot->at_least = epoch;
  slot->unknown_until = {};
  if (slot->snapshot && slot->snapshot->epoch() != epoch) drop(*slot);
}

void SnapshotCache::renew(const TenantId& tenant) {
  const auto slot = known_slot(tenant);
  if (!slot) return;
  const std::lock_guard lock(slot->mutex);
  ++slot->renewals;
  if (slot->snapshot) drop(*slot);
}

void SnapshotCache::drop(Slot& slot) {
  bytes_ -= slot.snapshot->footprint();
  slot.snapshot = nullptr;
}

void SnapshotCache::evict() {
  const std::unique_lock lock(mutex_);
  std::vector<std::pair<steady_clock::time_point, std::shared_ptr<Slot>>> by_use;
  for (const auto& [tenant, slot] : slots_) {
    const std::lock_guard guard(slot->mutex);
    if (slot->snapshot) by_use.emplace_back(slot->used, slot);
  }
  std::sort(by_use.begin(), by_use.end());
  // Down to three quarters, so that not every load evicts.
  for (const auto& [used, slot] : by_use) {
    if (bytes_ <= options_.max_bytes / 4 * 3) break;
    const std::lock_guard guard(slot->mutex);
    if (slot->snapshot) drop(*slot);
  }
}

SnapshotCache::Stats SnapshotCache::stats() const {
  Stats stats{loads_, 0, bytes_};
  const std::shared_lock lock(mutex_);
  for (const auto& [tenant, slot] : slots_) {
    const std::lock_guard guard(slot->mutex);
    stats.tenants += slot->snapshot != nullptr;
  }
  return stats;
}

}  // namespace postern::policy
