#include "vault/last_uses.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/log.h"

namespace postern::vault {
namespace {

constexpr std::size_t kBatch = 500;

}  // namespace

bool LastUses::keep(const TenantId& tenant, const CredentialKey& key, sys_seconds at) {
  const auto of_tenant = noted_.find(tenant);
  if (of_tenant != noted_.end()) {
    if (const auto it = of_tenant->second.find(key); it != of_tenant->second.end()) {
      it->second = std::max(it->second, at);
      return true;
    }
  }
  if (count_ == kMostNoted) return false;
  noted_[tenant].emplace(key, at);
  ++count_;
  return true;
}

void LastUses::note(const TenantId& tenant, const CredentialKey& key, sys_seconds at) {
  const std::lock_guard lock(mutex_);
  if (!keep(tenant, key, at)) ++dropped_;
}

Status LastUses::write() {
  const std::lock_guard one_at_a_time(writing_);
  std::map<TenantId, Uses> taken;
  {
    const std::lock_guard lock(mutex_);
    taken.swap(noted_);
    count_ = 0;
  }
  Status result;
  for (const auto& [tenant, uses] : taken) {
    for (auto it = uses.begin(); it != uses.end();) {
      std::vector<CredentialStore::Use> batch;
      const auto first = it;
      for (; it != uses.end() && batch.size() < kBatch; ++it) {
        batch.push_back({it->first, it->second});
      }
      // After one failure the others only wait for the same database.
      if (result.ok()) result = store_.note_uses(tenant, batch);
      if (result.ok()) continue;
      const std::lock_guard lock(mutex_);
      for (auto again = first; again != it; ++again) {
        if (!keep(tenant, again->first, again->second)) ++dropped_;
      }
    }
  }
  return result;
}

void LastUses::start(std::chrono::milliseconds interval) {
  writer_ = std::thread([this, interval] { run(interval); });
}

void LastUses::run(std::chrono::milliseconds interval) {
  std::unique_lock lock(mutex_);
  for (bool last = false; !last;) {
    last = wake_.wait_for(lock, interval, [this] { return stopping_; });
    lock.unlock();
    if (const auto status = write(); !status.ok()) {
      log::warning("credential.last_used_not_written", {{"why", status.error().diagnostic}});
    }
    lock.lock();
    if (std::exchange(reported_, dropped_) != dropped_) {
      log::warning("credential.last_used_dropped", {{"in_all", std::to_string(dropped_)}});
    }
  }
}

void LastUses::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (writer_.joinable()) writer_.join();
}

std::uint64_t LastUses::dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

}  // namespace postern::vault
