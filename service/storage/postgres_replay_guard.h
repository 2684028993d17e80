#pragma once

#include <string_view>

#include "policy/replay_guard.h"
#include "storage/database.h"

namespace postern::storage {

/// What was presented once, for all replicas over one database. Each use removes
/// a few rows that expired, so nothing else has to clean up. Thread-safe.
class PostgresReplayGuard final : public policy::ReplayGuard {
 public:
  explicit PostgresReplayGuard(Database& database) : database_(database) {}

  Result<bool> first_use(const TenantId& tenant, std::string_view kind,
                         const crypto::Hash256& digest, sys_seconds expires_at) override;

 private:
  Database& database_;
};

}  // namespace postern::storage
