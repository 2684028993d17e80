#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "audit/chain.h"
#include "audit/chain_verifier.h"
#include "audit/log.h"
#include "core/ids.h"
#include "core/result.h"

namespace postern::test {

/// Chain keys that need no key ring: made from the tenant's name alone.
class FixedChainKeys final : public audit::ChainKeys {
 public:
  Result<audit::ChainKey> current(const TenantId& tenant) override {
    return of_version(tenant, KekVersion{1});
  }
  Result<audit::ChainKey> of_version(const TenantId& tenant, KekVersion version) override {
    if (version != KekVersion{1}) return fail(ErrorCode::NotFound, "no such key version");
    const auto key = crypto::sha256(as_bytes(tenant.str()));
    return audit::ChainKey{version, DerivedKey(SecureBuffer::copy_of(key))};
  }
};

/// The audit log in memory. A tenant exists when it has a chain key; without
/// ChainKeys every tenant does. Thread-safe.
class InMemoryAuditLog final : public audit::AuditLog {
 public:
  InMemoryAuditLog() : keys_(fixed_keys_) {}
  explicit InMemoryAuditLog(audit::ChainKeys& keys) : keys_(keys) {}

  Status append(std::span<const audit::Event> events) override {
    const std::lock_guard lock(mutex_);
    ++appends_;
    if (failure_) return *failure_;
    // On copies of the heads first, so that a refused event changes nothing.
    struct Change {
      audit::StoredHead head;
      std::vector<audit::Record> records;
    };
    std::map<TenantId, Change> changes;
    for (const auto& event : events) {
      const auto [change, added] = changes.try_emplace(event.tenant);
      const auto chain = chains_.find(event.tenant);
      if (added && chain != chains_.end()) change->second.head = chain->second.head;
      change->second.records.push_back(
          audit::append(event.tenant, change->second.head.head, event));
    }
    for (auto& [tenant, change] : changes) {
      POSTERN_TRY(const auto key, keys_.current(tenant));
      const auto mac = audit::head_mac(key.key, tenant, change.head.head);
      change.head.kek_version = key.kek_version;
      change.head.mac.assign(mac.begin(), mac.end());
    }
    for (auto& [tenant, change] : changes) {
      auto& chain = chains_[tenant];
      chain.head = std::move(change.head);
      chain.records.insert(chain.records.end(), change.records.begin(), change.records.end());
    }
    return {};
  }

  Result<std::vector<audit::Record>> read(const TenantId& tenant,
                                          const audit::Query& query) override {
    const std::lock_guard lock(mutex_);
    std::vector<audit::Record> found;
    const auto chain = chains_.find(tenant);
    if (chain == chains_.end()) return found;
    const auto& records = chain->second.records;
    const auto wanted = [&](const audit::Record& record) {
      if (query.newest_first) {
        if (query.after != 0 && record.sequence >= query.after) return false;
      } else if (record.sequence <= query.after) {
        return false;
      }
      return matches(query.action, record.body);
    };
    const auto take = [&](const audit::Record& record) {
      if (found.size() < std::min<std::size_t>(query.limit, 1000) && wanted(record)) {
        found.push_back(record);
      }
    };
    if (query.newest_first) {
      std::for_each(records.rbegin(), records.rend(), take);
    } else {
      std::for_each(records.begin(), records.end(), take);
    }
    return found;
  }

  Result<audit::Verification> verify(const TenantId& tenant) override {
    const std::lock_guard lock(mutex_);
    POSTERN_TRY(const auto key, keys_.current(tenant));
    const auto found = chains_.find(tenant);
    audit::ChainVerifier verifier(tenant);
    if (found == chains_.end() || found->second.head.mac.empty()) {
      // Nothing was ever appended: there is no stored head to compare with.
      return verifier.finish(empty_head(tenant, key), keys_);
    }
    for (const auto& record : found->second.records) {
      if (!verifier.add(record)) break;
    }
    return verifier.finish(found->second.head, keys_);
  }

  // ---- what tests look at and do ----

  /// All bodies of a tenant's records, oldest first.
  std::vector<std::string> bodies(const TenantId& tenant) const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> bodies;
    if (const auto found = chains_.find(tenant); found != chains_.end()) {
      for (const auto& record : found->second.records) bodies.push_back(record.body);
    }
    return bodies;
  }
  /// Every append fails like this, until set to nothing.
  void fail_with(std::optional<Error> failure) {
    const std::lock_guard lock(mutex_);
    failure_ = std::move(failure);
  }
  std::size_t appends() const {
    const std::lock_guard lock(mutex_);
    return appends_;
  }
  /// Changes records and head behind the log's back.
  template <class Change>
  void tamper(const TenantId& tenant, Change&& change) {
    const std::lock_guard lock(mutex_);
    auto& chain = chains_[tenant];
    change(chain.records, chain.head);
  }

 private:
  struct Chain {
    std::vector<audit::Record> records;
    audit::StoredHead head;
  };

  static audit::StoredHead empty_head(const TenantId& tenant, const audit::ChainKey& key) {
    const auto mac = audit::head_mac(key.key, tenant, {});
    return {{}, key.kek_version, Bytes(mac.begin(), mac.end())};
  }

  static bool matches(const std::string& action, const std::string& body) {
    // canonical() puts the action first, and an action needs no escaping.
    const auto start = R"({"action":")" + action;
    if (action.empty() || (action.back() == '.' && body.starts_with(start))) return true;
    return body.starts_with(start + '"');
  }

  FixedChainKeys fixed_keys_;
  audit::ChainKeys& keys_;
  mutable std::mutex mutex_;
  std::map<TenantId, Chain> chains_;
  std::optional<Error> failure_;
  std::size_t appends_ = 0;
};

}  // namespace postern::test
