#pragma once

#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "core/ids.h"
#include "core/result.h"
#include "policy/replay_guard.h"

namespace postern::test {

/// What was used once, in memory and for ever. Thread-safe.
class InMemoryReplayGuard final : public policy::ReplayGuard {
 public:
  /// @param tenants  those there are; none given: every tenant there could be.
  explicit InMemoryReplayGuard(std::set<TenantId> tenants = {}) : tenants_(std::move(tenants)) {}

  Result<bool> first_use(const TenantId& tenant, std::string_view kind,
                         const crypto::Hash256& digest, sys_seconds expires_at) override {
    const std::lock_guard lock(mutex_);
    if (failure_) return *failure_;
    if (!tenants_.empty() && tenants_.count(tenant) == 0) {
      return fail(ErrorCode::NotFound, "no such tenant");
    }
    last_expiry_ = expires_at;
    return used_.emplace(tenant, std::string(kind), digest).second;
  }

  /// Every call fails like this, until set to nothing.
  void fail_with(std::optional<Error> failure) {
    const std::lock_guard lock(mutex_);
    failure_ = std::move(failure);
  }
  std::size_t uses() const {
    const std::lock_guard lock(mutex_);
    return used_.size();
  }
  sys_seconds last_expiry() const {
    const std::lock_guard lock(mutex_);
    return last_expiry_;
  }

 private:
  mutable std::mutex mutex_;
  std::set<TenantId> tenants_;
  std::set<std::tuple<TenantId, std::string, crypto::Hash256>> used_;
  std::optional<Error> failure_;
  sys_seconds last_expiry_{};
};

}  // namespace postern::test
