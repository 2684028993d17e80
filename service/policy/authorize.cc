#include "policy/authorize.h"

#include <algorithm>

#include "policy/resource_uri.h"

namespace postern::policy {
namespace {

Error unknown_target() {
  return fail(ErrorCode::TargetRefused,
              "the audience or resource is unknown, or not open to this client");
}

ScopeSet within_client(const Client& client, const ScopeSet& scopes) {
  if (client.scopes.all) return scopes;
  std::vector<std::string> kept;
  for (const auto& scope : scopes) {
    if (client.scopes.contains(scope)) kept.push_back(scope);
  }
  return ScopeSet(std::move(kept));
}

}  // namespace

Result<Target> resolve_target(const TenantSnapshot& snapshot, const Client& client,
                              const std::vector<std::string_view>& audiences,
                              const std::vector<std::string_view>& resources) {
  // Every grant and every release comes by here, whoever authenticated before.
  if (!snapshot.enabled() || !client.enabled) {
    return fail(ErrorCode::UnauthorizedClient, "this client is disabled");
  }
  if (!snapshot.settings().guardrails.allows(client.authentication.method)) {
    return fail(ErrorCode::UnauthorizedClient,
                "the operator does not allow the way this client authenticates");
  }
  if (audiences.size() + resources.size() > 8) {
    return fail(ErrorCode::TargetRefused, "more than 8 audience and resource values");
  }
  Target target;
  const auto add = [&](std::string_view value) -> Status {
    const auto* backend = snapshot.resolve(value);
    if (backend == nullptr || !client.backends.contains(backend->name.str())) {
      return unknown_target();
    }
    if (target.backend != nullptr && target.backend != backend) {
      return fail(ErrorCode::TargetRefused,
                  "audience and resource name more than one target; ask for one at a time");
    }
    if (target.backend == nullptr) {
      target.backend = backend;
      target.audience = backend->aud_as_requested ? std::string(value) : backend->audience;
    }
    return {};
  };
  for (const auto resource : resources) {
    POSTERN_CHECK(comparable_resource(resource));  // must be an absolute URI; a name is an audience
    POSTERN_CHECK(add(resource));
  }
  for (const auto audience : audiences) POSTERN_CHECK(add(audience));

  if (target.backend == nullptr) {
    if (!client.default_backend) {
      return fail(ErrorCode::TargetRefused,
                  "name a target with audience or resource; this client has no default");
    }
    const auto* backend = snapshot.find_backend(client.default_backend->str());
    if (backend == nullptr || !backend->enabled || !client.backends.contains(backend->name.str())) {
      return unknown_target();
    }
    target.backend = backend;
    target.audience = backend->audience;
  }
  return target;
}

Result<ScopeSet> permitted_scope(const TenantSnapshot& snapshot, const Client& client,
                                 const Backend& backend, const SubjectRights& subject) {
  const auto& name = backend.name.str();
  const auto roles = snapshot.roles_of(subject.principal, subject.groups);
  const auto any = [&](auto member, std::string_view scope) {
    return std::any_of(roles.begin(), roles.end(), [&](const Role* role) {
      const auto& permissions = role->*member;
      return std::any_of(permissions.begin(), permissions.end(), [&](const Permission& permission) {
        return permission.matches(name, scope);
      });
    });
  };

  // A backend without scopes is opened by `backend:*` alone, which is what an
  // empty token matches; a deny of everything closes any backend.
  std::vector<std::string> granted;
  for (const auto& scope : backend.scopes) {
    if (any(&Role::allow, scope) && !any(&Role::deny, scope)) granted.push_back(scope);
  }
  const bool open =
      backend.scopes.empty() ? any(&Role::allow, "") && !any(&Role::deny, "") : !granted.empty();
  if (!open) {
    return fail(ErrorCode::TargetRefused, "no role of this user opens this backend");
  }
  ScopeSet scopes = within_client(client, ScopeSet(std::move(granted)));
  if (subject.ceiling) scopes = scopes.intersect(*subject.ceiling);
  if (scopes.empty() && !backend.scopes.empty()) {
    return fail(ErrorCode::ScopeRefused,
                "the client's or the subject token's scope leaves nothing at this backend");
  }
  return scopes;
}

Result<ScopeSet> permitted_scope_of_client(const Client& client, const Backend& backend) {
  ScopeSet scopes = within_client(client, backend.scopes);
  if (scopes.empty() && !backend.scopes.empty()) {
    return fail(ErrorCode::ScopeRefused, "this client has no scope at this backend");
  }
  return scopes;
}

Result<ScopeSet> narrow_scope(const ScopeSet& permitted,
                              const std::optional<std::string_view>& requested) {
  if (!requested) return permitted;
  POSTERN_TRY(const auto asked, ScopeSet::parse(*requested));
  std::vector<std::string> wanted;
  for (const auto& scope : asked) {
    const bool identity =
        scope == "openid" || scope == "profile" || scope == "email" || scope == "offline_access";
    if (!identity || permitted.contains(scope)) wanted.push_back(scope);
  }
  // Only identity scopes were asked: the same as asking for nothing.
  if (wanted.empty()) return permitted;
  ScopeSet narrowed(std::move(wanted));
  if (!narrowed.subset_of(permitted)) {
    return fail(ErrorCode::ScopeRefused, "the requested scope is wider than may be granted here");
  }
  return narrowed;
}

}  // namespace postern::policy
