#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"

namespace postern::policy {

/// Tokens that were revoked before they expired (RFC 7009). Shared by replicas:
/// what one revokes, all refuse within a second. Thread-safe.
class RevocationList {
 public:
  virtual ~RevocationList() = default;

  /// Whether one of these token ids (the token's own and its ancestors') is
  /// revoked. Answers from memory. Errors: Unavailable when this replica cannot
  /// know whether what it has is current.
  virtual Result<bool> any_revoked(const TenantId& tenant,
                                   std::span<const std::string> token_ids) const = 0;

  /// Whoever holds a token can fill what a tenant has room for; an emergency has room then.
  enum class Room { Shared, Reserved };
  /// Revokes a token and with it every token that names it as an ancestor.
  /// Committed before it answers; kept until `expires_at`. Again is no error.
  /// Errors: NotFound (the tenant is gone), RateLimited (no room), Unavailable.
  virtual Status revoke(const TenantId& tenant, std::string_view token_id, sys_seconds expires_at,
                        Room room) = 0;
  Status revoke(const TenantId& tenant, std::string_view token_id, sys_seconds expires_at) {
    return revoke(tenant, token_id, expires_at, Room::Shared);
  }
};

}  // namespace postern::policy
