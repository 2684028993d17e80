#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <utility>

#include "audit/log.h"
#include "vault/wrapping.h"

namespace postern::test {

/// Wrapped answers in memory, beside an audit log. Thread-safe.
class InMemoryWrappingStore final : public vault::WrappingStore {
 public:
  explicit InMemoryWrappingStore(audit::AuditLog& log) : log_(log) {}

  Status add(const TenantId& tenant, const Seal& seal, std::uint32_t most, sys_seconds now,
             std::span<const audit::Event> events) override {
    POSTERN_TRY(auto answer, seal());
    const std::lock_guard lock(mutex_);
    const auto waiting = std::count_if(rows_.begin(), rows_.end(), [&](const auto& row) {
      return row.first.first == tenant && row.second.maker == answer.maker &&
             row.second.expires_at > now;
    });
    if (static_cast<std::uint32_t>(waiting) >= most) return fail(ErrorCode::RateLimited, "");
    if (answer.sealed.wrapped.size() > 524288) return fail(ErrorCode::TooLarge, "");
    POSTERN_CHECK(log_.append(events));
    rows_.insert_or_assign({tenant, answer.token_hash}, std::move(answer));
    return {};
  }

  Result<vault::WrappedAnswer> find(const TenantId& tenant, const crypto::Hash256& token_hash,
                                    sys_seconds now) override {
    const std::lock_guard lock(mutex_);
    const auto found = rows_.find({tenant, token_hash});
    if (found == rows_.end() || found->second.expires_at <= now) return absent();
    return found->second;
  }

  Status take(const TenantId& tenant, const crypto::Hash256& token_hash, sys_seconds now,
              const Open& open, std::span<const audit::Event> events) override {
    POSTERN_TRY(const auto row, find(tenant, token_hash, now));
    POSTERN_TRY(auto instead, open(row));
    const std::lock_guard lock(mutex_);
    const auto found = rows_.find({tenant, token_hash});
    if (found == rows_.end()) return absent();  // somebody else took it meanwhile
    POSTERN_CHECK(log_.append(events));
    rows_.erase(found);
    if (instead) rows_.insert_or_assign({tenant, instead->token_hash}, std::move(*instead));
    return {};
  }

  /// What whoever can write the database could do.
  void alter(const std::function<void(vault::WrappedAnswer& row)>& change) {
    const std::lock_guard lock(mutex_);
    for (auto& [key, row] : rows_) change(row);
  }

 private:
  static Error absent() { return fail(ErrorCode::NotFound, "no such wrapping token"); }

  std::mutex mutex_;
  audit::AuditLog& log_;
  std::map<std::pair<TenantId, crypto::Hash256>, vault::WrappedAnswer> rows_;
};

}  // namespace postern::test
