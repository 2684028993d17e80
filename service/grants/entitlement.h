#pragma once

#include <optional>
#include <string_view>

#include "core/clock.h"
#include "core/result.h"
#include "grants/decision_point.h"
#include "grants/subject.h"
#include "policy/authorize.h"
#include "policy/snapshot.h"

namespace postern::grants {

/// How the tenant's decision point is asked, if the tenant has one.
struct Outside {
  /// Null only where no tenant can have one: then a tenant that does is refused.
  DecisionPoint* point = nullptr;
  Wait wait = Wait::No;
  const VerifiedToken* actor = nullptr;     ///< of a token that proves who acts
  std::optional<Decision>* told = nullptr;  ///< gets what it said
};

/// The widest scope this user may have at this backend through this client, now:
/// what policy permits (policy::permitted_scope), if the user authenticated as
/// the backend demands, never more than a token of ours was granted there earlier
/// in its chain, and what the operator's decision point leaves of it, if the tenant
/// has one. Every grant and every release for a user asks here.
/// @param requested, trace  as for policy::permitted_scope.
/// Errors: as policy::permitted_scope, check_authentication and DecisionPoint::decide.
Result<policy::ScopeSet> entitled_scope(const policy::TenantSnapshot& snapshot,
                                        const policy::Client& client,
                                        const policy::Backend& backend,
                                        const VerifiedToken& subject,
                                        const std::optional<std::string_view>& requested,
                                        sys_seconds now, const Outside& outside,
                                        policy::PolicyTrace* trace = nullptr);

/// As entitled_scope, for a client that asks for itself.
Result<policy::ScopeSet> entitled_scope_of_client(const policy::TenantSnapshot& snapshot,
                                                  const policy::Client& client,
                                                  const policy::Backend& backend,
                                                  const std::optional<std::string_view>& requested,
                                                  const Outside& outside,
                                                  policy::PolicyTrace* trace = nullptr);

/// Step-up (RFC 9470): whether how the user authenticated, as the subject token
/// tells it, is what the backend demands. What the token does not say is not so.
/// Errors: InsufficientAuthentication; its remedy is the whole demand, so that
/// one further sign-in satisfies all of it.
Status check_authentication(const policy::AuthenticationDemand& demand,
                            const token::Json& auth_context, sys_seconds now);

}  // namespace postern::grants
