#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "core/ids.h"
#include "core/result.h"
#include "vault/keyring.h"

namespace postern::test {

/// Wrapped KEKs in memory. Thread-safe.
class InMemoryKekStore final : public vault::KekStore {
 public:
  Result<std::vector<vault::WrappedKek>> keks(const TenantId& tenant) override {
    const std::lock_guard lock(mutex_);
    ++loads_;
    if (failure_) return *failure_;
    const auto found = keks_.find(tenant);
    if (found == keks_.end()) return fail(ErrorCode::NotFound, "no such tenant");
    return found->second;
  }

  Result<std::optional<vault::ShareId>> principal_share(const TenantId& tenant,
                                                        const Principal& principal) override {
    const std::lock_guard lock(mutex_);
    if (failure_) return *failure_;
    const auto found = shares_.find({tenant, principal});
    if (found == shares_.end()) return std::optional<vault::ShareId>();
    return std::optional(found->second);
  }
  Result<vault::ShareId> add_principal_share(const TenantId& tenant, const Principal& principal,
                                             const vault::ShareId& fresh) override {
    const std::lock_guard lock(mutex_);
    if (failure_) return *failure_;
    return shares_.try_emplace({tenant, principal}, fresh).first->second;
  }
  /// As an erasure does.
  void remove_principal_share(const TenantId& tenant, const Principal& principal) {
    const std::lock_guard lock(mutex_);
    shares_.erase({tenant, principal});
  }

  void add(const TenantId& tenant, vault::WrappedKek kek) {
    const std::lock_guard lock(mutex_);
    auto& keks = keks_[tenant];
    keks.insert(keks.begin(), std::move(kek));
  }
  /// Puts rows in place of a tenant's, as whoever can write the database could.
  void replace(const TenantId& tenant, std::vector<vault::WrappedKek> keks) {
    const std::lock_guard lock(mutex_);
    keks_[tenant] = std::move(keks);
  }
  void erase(const TenantId& tenant) {
    const std::lock_guard lock(mutex_);
    keks_.erase(tenant);
  }
  /// Every call fails like this, until set to nothing.
  void fail_with(std::optional<Error> failure) {
    const std::lock_guard lock(mutex_);
    failure_ = std::move(failure);
  }
  std::size_t loads() const {
    const std::lock_guard lock(mutex_);
    return loads_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<TenantId, std::vector<vault::WrappedKek>> keks_;
  std::map<std::pair<TenantId, Principal>, vault::ShareId> shares_;
  std::optional<Error> failure_;
  std::size_t loads_ = 0;
};

/// A key ring over such a store, for tests that need tenants with keys.
struct TestKeyring {
  InMemoryKekStore store;
  vault::Keyring keyring{vault::RootKeys::generate(), store};

  explicit TestKeyring(std::initializer_list<const char*> tenants = {}) {
    for (const char* tenant : tenants) add(TenantId(tenant));
  }
  void add(const TenantId& tenant, KekVersion version = KekVersion{1}) {
    store.add(tenant, keyring.create(tenant, version));
    keyring.forget(tenant);
  }
};

}  // namespace postern::test
