#pragma once

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "policy/revocation_list.h"

namespace postern::test {

/// The revocation list of the tenants that were added, in memory. Thread-safe.
class InMemoryRevocationList final : public policy::RevocationList {
 public:
  void add_tenant(const TenantId& tenant) {
    const std::lock_guard lock(mutex_);
    tenants_.try_emplace(tenant);
  }
  /// As a replica that has not heard from the database.
  void be_stale(bool stale = true) {
    const std::lock_guard lock(mutex_);
    stale_ = stale;
  }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    std::size_t size = 0;
    for (const auto& [tenant, tokens] : tenants_) size += tokens.size();
    return size;
  }

  Result<bool> any_revoked(const TenantId& tenant,
                           std::span<const std::string> token_ids) const override {
    const std::lock_guard lock(mutex_);
    if (stale_) return fail(ErrorCode::Unavailable, "", "fake: stale");
    const auto found = tenants_.find(tenant);
    if (found == tenants_.end()) return false;
    return std::any_of(token_ids.begin(), token_ids.end(),
                       [&](const auto& id) { return found->second.contains(id); });
  }

  using RevocationList::revoke;
  Status revoke(const TenantId& tenant, std::string_view token_id, sys_seconds expires_at,
                Room) override {
    const std::lock_guard lock(mutex_);
    const auto found = tenants_.find(tenant);
    if (found == tenants_.end()) return fail(ErrorCode::NotFound, "no such tenant");
    if (token_id.empty() || token_id.size() > 100)
      return fail(ErrorCode::TooLarge, "out of bounds");
    found->second.emplace(token_id, expires_at);
    return {};
  }

 private:
  mutable std::mutex mutex_;
  std::map<TenantId, std::map<std::string, sys_seconds>> tenants_;
  bool stale_ = false;
};

}  // namespace postern::test
