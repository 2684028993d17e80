#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "grants/subject.h"
#include "policy/authorize.h"
#include "policy/snapshot.h"
#include "policy/tools.h"

namespace postern::grants {

/// A line of a role's `tools`, and how the user has the role.
struct BoundTool {
  policy::BoundRole by;
  const policy::ToolPermission* permission = nullptr;
};

/// What the user's roles say of the backend's tools; nothing: they are silent.
std::vector<BoundTool> tools_of_roles(const policy::TenantSnapshot& snapshot,
                                      const policy::Backend& backend, const VerifiedToken& subject);

/// The authorization details of what is issued for this user at this target, with
/// its audience as their location; nothing when neither policy, nor the subject
/// token, nor the request says anything of tools.
///
/// A request must lie within what the user's roles permit and within the subject
/// token's own details. Without a request all that these permit is granted: what
/// is chained through several exchanges only ever gets less.
///
/// Errors: InvalidAuthorizationDetails.
Result<std::optional<policy::ToolDetails>> granted_tools(
    const policy::TenantSnapshot& snapshot, const policy::Target& target,
    const VerifiedToken& subject, const std::optional<policy::ToolDetails>& requested);

/// A stored credential cannot be narrowed to tools: whether this user may use
/// every tool of the backend, and nothing narrower was asked for.
/// Errors: InvalidAuthorizationDetails.
Status check_all_tools(const policy::TenantSnapshot& snapshot, const policy::Backend& backend,
                       const VerifiedToken& subject,
                       const std::optional<policy::ToolDetails>& requested);

}  // namespace postern::grants
