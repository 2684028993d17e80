#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "core/ids.h"
#include "core/result.h"
#include "vault/share_store.h"

namespace postern::test {

/// Shares in memory. Thread-safe.
class InMemoryShareStore final : public vault::ShareStore {
 public:
  Status add(const TenantId& tenant, const vault::ShareId& id,
             const vault::KeyShare& share) override {
    const std::lock_guard lock(mutex_);
    if (failure_) return *failure_;
    if (!destroyed_.contains({tenant, id})) shares_.try_emplace({tenant, id}, copy(share));
    return {};
  }
  Result<vault::KeyShare> find(const TenantId& tenant, const vault::ShareId& id) override {
    const std::lock_guard lock(mutex_);
    ++finds_;
    if (failure_) return *failure_;
    const auto found = shares_.find({tenant, id});
    if (found == shares_.end()) {
      return destroyed_.contains({tenant, id}) ? fail(ErrorCode::Conflict, "destroyed") : absent();
    }
    return copy(found->second);
  }
  Status know(const TenantId& tenant, std::span<const vault::ShareId> ids) override {
    const std::lock_guard lock(mutex_);
    if (failure_) return *failure_;
    return known(tenant, ids);
  }
  using ShareStore::destroy;
  Status destroy(const TenantId& tenant, std::span<const vault::ShareId> ids) override {
    const std::lock_guard lock(mutex_);
    if (failure_) return *failure_;
    POSTERN_CHECK(known(tenant, ids));
    for (const auto& id : ids) {
      shares_.erase({tenant, id});
      destroyed_.emplace(tenant, id);
    }
    return {};
  }
  Result<std::uint64_t> destroy_all(const TenantId& tenant) override {
    const std::lock_guard lock(mutex_);
    if (failure_) return *failure_;
    return std::erase_if(shares_, [&](const auto& entry) {
      const bool its = entry.first.first == tenant;
      if (its) destroyed_.insert(entry.first);
      return its;
    });
  }
  Status ping() override {
    const std::lock_guard lock(mutex_);
    return failure_ ? Status(*failure_) : Status();
  }

  /// Every call fails as if nothing answered, until set back.
  void away(bool is_away) {
    const std::lock_guard lock(mutex_);
    failure_.reset();
    if (is_away) failure_ = fail(ErrorCode::Unavailable, "the database is not available");
  }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return shares_.size();
  }
  std::size_t finds() const {
    const std::lock_guard lock(mutex_);
    return finds_;
  }
  /// Another share under the same id, as whoever can write the store could.
  void forge(const TenantId& tenant, const vault::ShareId& id) {
    const std::lock_guard lock(mutex_);
    SecureBuffer bytes(32);
    shares_.insert_or_assign({tenant, id}, vault::KeyShare(std::move(bytes)));
  }

 private:
  static Error absent() { return fail(ErrorCode::NotFound, "no such share"); }
  Status known(const TenantId& tenant, std::span<const vault::ShareId> ids) const {
    for (const auto& id : ids) {
      if (!shares_.contains({tenant, id}) && !destroyed_.contains({tenant, id})) return absent();
    }
    return {};
  }
  static vault::KeyShare copy(const vault::KeyShare& share) {
    return vault::KeyShare(
        share.expose([](ByteView bytes) { return SecureBuffer::copy_of(bytes); }));
  }

  mutable std::mutex mutex_;
  using Key = std::pair<TenantId, vault::ShareId>;
  std::map<Key, vault::KeyShare> shares_;
  std::set<Key> destroyed_;
  std::optional<Error> failure_;
  std::size_t finds_ = 0;
};

}  // namespace postern::test
