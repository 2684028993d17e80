#pragma once

#include <optional>
#include <string_view>

#include "core/clock.h"
#include "core/result.h"
#include "grants/subject.h"
#include "policy/authorize.h"
#include "policy/snapshot.h"

namespace postern::grants {

/// The widest scope this user may have at this backend through this client, now:
/// what policy permits (policy::permitted_scope), if the user authenticated as
/// the backend demands, and never more than a token of ours was granted there
/// earlier in its chain. Every grant and every release for a user asks here.
/// @param requested, trace  as for policy::permitted_scope.
/// Errors: as policy::permitted_scope and check_authentication.
Result<policy::ScopeSet> entitled_scope(const policy::TenantSnapshot& snapshot,
                                        const policy::Client& client,
                                        const policy::Backend& backend,
                                        const VerifiedToken& subject,
                                        const std::optional<std::string_view>& requested,
                                        sys_seconds now, policy::PolicyTrace* trace = nullptr);

/// Step-up (RFC 9470): whether how the user authenticated, as the subject token
/// tells it, is what the backend demands. What the token does not say is not so.
/// Errors: InsufficientAuthentication; its remedy is the whole demand, so that
/// one further sign-in satisfies all of it.
Status check_authentication(const policy::AuthenticationDemand& demand,
                            const token::Json& auth_context, sys_seconds now);

}  // namespace postern::grants
