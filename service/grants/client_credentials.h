#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "grants/issuance.h"

namespace postern::grants {

class DecisionPoint;

/// RFC 6749 §4.4: a client acts for itself. `sub` is the client id (RFC 9068 §2.2).
/// Errors: UnauthorizedClient, TargetRefused, ScopeRefused, NeedsOutbound, Unavailable.
class ClientCredentials {
 public:
  /// @param point  null only where no tenant can have a decision point.
  explicit ClientCredentials(const Clock& clock, DecisionPoint* point = nullptr)
      : clock_(clock), point_(point) {}

  Result<IssuedToken> grant(const policy::TenantSnapshot& snapshot, const Caller& caller,
                            const std::vector<std::string_view>& audiences,
                            const std::vector<std::string_view>& resources,
                            std::optional<std::string_view> scope, audit::Event& record,
                            Wait wait = Wait::No) const;

 private:
  const Clock& clock_;
  DecisionPoint* point_;
};

}  // namespace postern::grants
