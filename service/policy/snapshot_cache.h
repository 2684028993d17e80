#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>

#include "core/clock.h"
#include "policy/snapshot.h"

namespace postern::policy {

/// Snapshots of the tenants in use: loaded on first use, dropped when the
/// tenant's epoch moves on or memory is short. Thread-safe.
class SnapshotCache final : public SnapshotSource {
 public:
  struct Options {
    std::string base_url;                       ///< public origin, without trailing slash
    std::size_t max_bytes = 256 * 1024 * 1024;  ///< of footprints, before the least used go
    std::chrono::seconds unknown_for{5};        ///< how long "no such tenant" is remembered
    std::chrono::seconds max_staleness{10};     ///< without word of epochs, before it stops
    std::size_t max_slots = 100'000;            ///< tenants remembered, unknown ones included
  };
  /// Steady time at which it was last certain that every epoch announced so far
  /// has been seen.
  using Confirmed = std::function<std::chrono::steady_clock::time_point()>;

  SnapshotCache(ConfigStore& store, vault::Keyring& keyring, Options options, Confirmed confirmed);

  /// What is in memory and current; null when it must be loaded first (then
  /// get() on a thread that may wait for the database). Errors: NotFound
  /// (remembered), Unavailable (this replica cannot know whether it is current).
  Result<std::shared_ptr<const TenantSnapshot>> peek(const TenantId& tenant);

  /// As peek(), but loads. Waits for the database.
  Result<std::shared_ptr<const TenantSnapshot>> get(const TenantId& tenant) override;

  /// The tenant has reached this epoch: whatever is older is dropped.
  void moved_on(const TenantId& tenant, std::uint64_t epoch);

  /// The database says that the tenant is at this epoch. Usually a later one;
  /// an earlier one after a fail-over that lost commits, when whatever was built
  /// from those must go as well.
  void observed(const TenantId& tenant, std::uint64_t epoch);

  /// What a snapshot is made of has changed without a new epoch: whether the tenant is
  /// sealed in this process.
  void renew(const TenantId& tenant);

  struct Stats {
    std::uint64_t loads = 0;
    std::size_t tenants = 0, bytes = 0;
  };
  Stats stats() const;

 private:
  struct Slot {
    std::mutex loading;  // one load at a time for each tenant
    std::mutex mutex;    // guards what follows
    std::shared_ptr<const TenantSnapshot> snapshot;
    std::chrono::steady_clock::time_point loaded{};
    std::uint64_t at_least = 0;  // epoch below which a load is stale on arrival
    std::uint64_t renewals = 0;  // a load that began before the last one is stale too
    std::chrono::steady_clock::time_point unknown_until{};
    std::chrono::steady_clock::time_point used{};
  };

  std::shared_ptr<Slot> slot_of(const TenantId& tenant);
  std::shared_ptr<Slot> known_slot(const TenantId& tenant) const;  ///< may be null
  void drop(Slot& slot);                                           ///< with slot.mutex held
  Status check_current() const;
  void evict();

  ConfigStore& store_;
  vault::Keyring& keyring_;
  Options options_;
  Confirmed confirmed_;
  mutable std::shared_mutex mutex_;
  std::unordered_map<TenantId, std::shared_ptr<Slot>> slots_;
  std::atomic<std::uint64_t> loads_{0};
  std::atomic<std::size_t> bytes_{0};
};

}  // namespace postern::policy
