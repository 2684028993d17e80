#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "audit/log.h"
#include "vault/transit.h"

namespace postern::test {

/// Transit keys in memory, beside an audit log. Thread-safe.
class InMemoryTransitStore final : public vault::TransitStore {
 public:
  explicit InMemoryTransitStore(audit::AuditLog& log) : log_(log) {}

  Result<Found> find(const TenantId& tenant, const vault::TransitName& name) override {
    const std::lock_guard lock(mutex_);
    const auto found = keys_.find({tenant, name.str()});
    if (found == keys_.end()) return absent();
    return Found{found->second.key, found->second.versions.back()};
  }
  Result<vault::TransitVersion> version(const TenantId& tenant, const std::string& key_id,
                                        std::uint32_t version) override {
    POSTERN_TRY(const auto all, versions(tenant, key_id));
    for (const auto& each : all) {
      if (each.version == version) return each;
    }
    return absent();
  }
  Result<std::vector<vault::TransitVersion>> versions(const TenantId& tenant,
                                                      const std::string& key_id) override {
    const std::lock_guard lock(mutex_);
    for (const auto& [place, row] : keys_) {
      if (place.first == tenant && row.key.id == key_id) return row.versions;
    }
    return std::vector<vault::TransitVersion>();
  }
  Result<std::vector<std::string>> names(const TenantId& tenant) override {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> out;
    for (const auto& [place, row] : keys_) {
      if (place.first == tenant) out.push_back(place.second);
    }
    return out;
  }

  Status create(const TenantId& tenant, const vault::TransitKey& key, const Seal& seal,
                std::uint32_t most, std::span<const audit::Event> events) override {
    const auto all = names(tenant).value();
    const std::lock_guard lock(mutex_);
    POSTERN_TRY(auto made, seal(key, 1));
    if (all.size() >= most) return fail(ErrorCode::TooLarge, "");
    if (keys_.contains({tenant, key.name.str()})) return fail(ErrorCode::Conflict, "");
    POSTERN_CHECK(log_.append(events));
    keys_.emplace(std::pair(tenant, key.name.str()), Row{key, {std::move(made)}});
    return {};
  }
  Status rotate(const TenantId& tenant, const vault::TransitName& name, const Seal& seal,
                std::uint32_t most, std::span<const audit::Event> events) override {
    return change(tenant, name, events, [&](Row& row) -> Status {
      if (row.key.latest_version >= most) return fail(ErrorCode::TooLarge, "");
      POSTERN_TRY(auto made, seal(row.key, ++row.key.latest_version));
      row.versions.push_back(std::move(made));
      return {};
    });
  }
  Status configure(const TenantId& tenant, const vault::TransitName& name, const Edit& edit,
                   std::span<const audit::Event> events) override {
    return change(tenant, name, events, [&](Row& row) { return edit(row.key); });
  }
  Status remove(const TenantId& tenant, const vault::TransitName& name, const Check& check,
                std::span<const audit::Event> events) override {
    POSTERN_CHECK(change(tenant, name, events, [&](Row& row) { return check(row.key); }));
    const std::lock_guard lock(mutex_);
    keys_.erase({tenant, name.str()});
    return {};
  }

  struct Row {
    vault::TransitKey key;
    std::vector<vault::TransitVersion> versions;
  };
  /// What whoever can write the database could do.
  Row& row(const TenantId& tenant, const std::string& name) { return keys_.at({tenant, name}); }

 private:
  static Error absent() { return fail(ErrorCode::NotFound, "no such key"); }

  template <class Body>
  Status change(const TenantId& tenant, const vault::TransitName& name,
                std::span<const audit::Event> events, const Body& body) {
    const std::lock_guard lock(mutex_);
    const auto found = keys_.find({tenant, name.str()});
    if (found == keys_.end()) return absent();
    auto changed = found->second;
    POSTERN_CHECK(body(changed));
    POSTERN_CHECK(log_.append(events));
    found->second = std::move(changed);
    return {};
  }

  std::mutex mutex_;
  audit::AuditLog& log_;
  std::map<std::pair<TenantId, std::string>, Row> keys_;
};

}  // namespace postern::test
