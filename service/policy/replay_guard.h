#pragma once

#include <string_view>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "crypto/hash.h"

namespace postern::policy {

/// What may be used once: the `jti` of client assertions (RFC 7523 §3), of DPoP
/// proofs (RFC 9449 §11.1) and of ID-JAGs. Shared by all replicas. Thread-safe.
class ReplayGuard {
 public:
  virtual ~ReplayGuard() = default;

  /// Whether nobody presented this before. Committed before it answers, so of
  /// two at the same time one is told false, whichever replica they reach.
  /// Forgotten some time after `expires_at`. Waits for the database.
  /// @param kind  keeps the uses apart: "client_assertion", "dpop", "id_jag".
  /// @param digest  of whatever identifies the use; never the token itself.
  /// Errors: NotFound (the tenant is gone), Unavailable.
  virtual Result<bool> first_use(const TenantId& tenant, std::string_view kind,
                                 const crypto::Hash256& digest, sys_seconds expires_at) = 0;
};

}  // namespace postern::policy
