#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "policy/revocation_list.h"
#include "storage/database.h"

namespace postern::storage {

/// The revocation list of every tenant, in memory, kept current from the
/// database by a thread of its own: woken by NOTIFY, and reading every second in
/// any case. Entries go when the token has expired and clocks may differ no more.
class PostgresRevocationList final : public policy::RevocationList {
 public:
  struct Options {
    std::chrono::milliseconds interval{1000};
    std::chrono::seconds max_staleness{10};  ///< without word of the database, before it stops
    std::size_t max_of_tenant =
        20'000;  ///< then revoke() is refused as RateLimited; half as many are reserved
    std::size_t max_tokens = 1'000'000;  ///< then what does not fit makes its tenant Unavailable
  };
  /// @param conninfo  for the connection that follows.
  PostgresRevocationList(Database& database, std::string conninfo, const Clock& clock,
                         Options options);
  PostgresRevocationList(Database& database, std::string conninfo, const Clock& clock)
      : PostgresRevocationList(database, std::move(conninfo), clock, Options{}) {}
  ~PostgresRevocationList() override;  ///< stop()

  /// Reads the whole list and begins to follow it; nothing can be known before.
  /// Errors: Unavailable.
  Status start();
  void stop();

  Result<bool> any_revoked(const TenantId& tenant,
                           std::span<const std::string> token_ids) const override;
  using RevocationList::revoke;
  Status revoke(const TenantId& tenant, std::string_view token_id, sys_seconds expires_at,
                Room room) override;

  std::chrono::steady_clock::time_point last_confirmed() const noexcept;
  std::size_t size() const;  ///< entries in memory, of all tenants

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::storage
