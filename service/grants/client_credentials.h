#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "grants/issuance.h"

namespace postern::grants {

/// RFC 6749 §4.4: a client acts for itself. `sub` is the client id (RFC 9068 §2.2).
/// Errors: UnauthorizedClient, TargetRefused, ScopeRefused, Unavailable.
class ClientCredentials {
 public:
  explicit ClientCredentials(const Clock& clock) : clock_(clock) {}

  Result<IssuedToken> grant(const policy::TenantSnapshot& snapshot, const Caller& caller,
                            const std::vector<std::string_view>& audiences,
                            const std::vector<std::string_view>& resources,
                            std::optional<std::string_view> scope, audit::Event& record) const;

 private:
  const Clock& clock_;
};

}  // namespace postern::grants
