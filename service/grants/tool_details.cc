#include "grants/tool_details.h"

#include <algorithm>
#include <utility>

namespace postern::grants {

using policy::ToolDetail;
using policy::ToolDetails;

namespace {

Error refused(std::string detail) {
  return fail(ErrorCode::InvalidAuthorizationDetails, std::move(detail));
}

/// What the user's roles say of the backend's tools; nothing when they are silent.
std::optional<ToolDetails> of_roles(const policy::TenantSnapshot& snapshot,
                                    const policy::Backend& backend, const VerifiedToken& subject) {
  std::optional<ToolDetails> details;
  for (const auto& bound : tools_of_roles(snapshot, backend, subject)) {
    if (!details) details.emplace();
    ToolDetail detail{{}, {bound.permission->action}, bound.permission->tool, {}};
    if (std::find(details->begin(), details->end(), detail) == details->end()) {
      details->push_back(std::move(detail));
    }
  }
  return details;
}

bool is_for(const policy::TenantSnapshot& snapshot, const policy::Backend& backend,
            const ToolDetail& detail) {
  return detail.locations.empty() || std::any_of(detail.locations.begin(), detail.locations.end(),
                                                 [&](const std::string& location) {
                                                   return snapshot.resolve(location) == &backend;
                                                 });
}

/// The subject token's own details for the backend; nothing when it has none at all.
std::optional<ToolDetails> of_subject(const policy::TenantSnapshot& snapshot,
                                      const policy::Backend& backend,
                                      const VerifiedToken& subject) {
  if (!subject.tools) return std::nullopt;
  ToolDetails details;
  for (const auto& detail : *subject.tools) {
    if (is_for(snapshot, backend, detail)) details.push_back(detail);
  }
  return details;
}

}  // namespace

std::vector<BoundTool> tools_of_roles(const policy::TenantSnapshot& snapshot,
                                      const policy::Backend& backend,
                                      const VerifiedToken& subject) {
  std::vector<BoundTool> tools;
  if (!snapshot.names_tools()) return tools;
  for (const auto& bound :
       snapshot.roles_of(subject.principal, subject.groups, subject.attributes)) {
    for (const auto& permission : bound.role->tools) {
      if (permission.backend != "*" && permission.backend != backend.name.str()) continue;
      tools.push_back({bound, &permission});
    }
  }
  return tools;
}

Result<std::optional<ToolDetails>> granted_tools(const policy::TenantSnapshot& snapshot,
                                                 const policy::Target& target,
                                                 const VerifiedToken& subject,
                                                 const std::optional<ToolDetails>& requested) {
  const auto& backend = *target.backend;
  const auto permitted = of_roles(snapshot, backend, subject);
  auto granted = permitted;
  if (const auto own = of_subject(snapshot, backend, subject)) {
    if (requested) {
      for (const auto& detail : *requested) {
        if (!policy::covers(*own, detail)) {
          return refused("the subject token's authorization details do not go so far");
        }
      }
    }
    granted = granted ? policy::intersect(*own, *granted) : own;
  }
  if (requested) {
    for (const auto& detail : *requested) {
      // One token is for one backend, so its details are (RFC 8707 §2).
      for (const auto& location : detail.locations) {
        if (snapshot.resolve(location) != &backend) {
          return refused("an authorization detail names a location other than the target");
        }
      }
      if (permitted && !policy::covers(*permitted, detail)) {
        return refused("the authorization details go beyond what the user's roles permit");
      }
    }
    granted = requested;
  }
  if (!granted) return granted;
  if (granted->empty()) {
    return refused("the user's roles and the subject token leave no tool of this backend");
  }
  if (granted->size() > policy::kMaxToolDetails) {
    return refused("more authorization details would be granted than fit; ask for fewer");
  }
  for (auto& detail : *granted) detail.locations = {target.audience};
  return granted;
}

Status check_all_tools(const policy::TenantSnapshot& snapshot, const policy::Backend& backend,
                       const VerifiedToken& subject, const std::optional<ToolDetails>& requested) {
  const ToolDetail everything{{}, {"*"}, "*", {}};
  const auto closed = [&](const std::optional<ToolDetails>& details) {
    return details && !policy::covers(*details, everything);
  };
  if (requested || closed(of_roles(snapshot, backend, subject)) ||
      closed(of_subject(snapshot, backend, subject))) {
    return refused("a stored credential opens every tool; it cannot be narrowed");
  }
  return {};
}

}  // namespace postern::grants
