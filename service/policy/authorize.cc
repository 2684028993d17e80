#include "policy/authorize.h"

#include <algorithm>

#include "policy/resource_uri.h"

namespace postern::policy {
namespace {

Error unknown_target() {
  return fail(ErrorCode::TargetRefused,
              "the audience or resource is unknown, or not open to this client");
}

/// What may be asked for at a backend: its scopes, and those resources among the
/// requested tokens that it has a pattern for.
std::vector<std::string> candidates(const Backend& backend,
                                    const std::optional<std::string_view>& requested) {
  std::vector<std::string> scopes(backend.scopes.begin(), backend.scopes.end());
  if (backend.scope_patterns.empty() || !requested) return scopes;
  const auto asked = ScopeSet::parse(*requested);
  if (!asked.ok()) return scopes;  // narrow_scope says so
  for (const auto& token : asked.value()) {
    const bool known =
        std::any_of(backend.scope_patterns.begin(), backend.scope_patterns.end(),
                    [&](const std::string& pattern) { return scope_matches(pattern, token, {}); });
    if (known && is_resource_token(token) && !backend.scopes.contains(token)) {
      scopes.push_back(token);
    }
  }
  return scopes;
}

/// Whether a permission among these matches; all that do, when they are wanted.
bool any_matches(const std::vector<BoundRole>& roles, std::vector<Permission> Role::*member,
                 std::string_view backend, std::string_view scope,
                 const PatternVariables& variables, std::vector<Matched>* all) {
  bool any = false;
  for (const auto& bound : roles) {
    for (const auto& permission : bound.role->*member) {
      if (!permission.matches(backend, scope, variables)) continue;
      any = true;
      if (all == nullptr) return true;
      all->push_back({bound, &permission});
    }
  }
  return any;
}

PatternVariables variables_of(const TenantSnapshot& snapshot, const SubjectRights& subject) {
  const auto* issuer = snapshot.find_issuer(subject.principal.issuer);
  return {subject.issued_subject, issuer != nullptr ? issuer->config.name : std::string()};
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
                                 const Backend& backend, const SubjectRights& subject,
                                 const std::optional<std::string_view>& requested,
                                 PolicyTrace* trace) {
  const auto& name = backend.name.str();
  const auto roles = snapshot.roles_of(subject.principal, subject.groups, subject.attributes);
  const auto variables = variables_of(snapshot, subject);
  if (trace != nullptr) trace->roles = roles;

  // A backend without scopes is opened by `backend:*` alone, which is what an
  // empty token matches; a deny of everything closes any backend.
  auto scopes = candidates(backend, requested);
  if (!backend.has_scopes()) scopes.emplace_back();
  if (scopes.empty()) {
    return fail(ErrorCode::ScopeRefused, "name the resources of this backend in scope");
  }
  std::vector<std::string> granted;
  bool any_open = false;
  for (const auto& scope : scopes) {
    auto* told = trace != nullptr ? &trace->scopes.emplace_back() : nullptr;
    const bool allowed = any_matches(roles, &Role::allow, name, scope, variables,
                                     told != nullptr ? &told->allowed_by : nullptr);
    if (!allowed && told == nullptr) continue;
    const bool denied = any_matches(roles, &Role::deny, name, scope, variables,
                                    told != nullptr ? &told->denied_by : nullptr);
    const bool within_client = scope.empty() || client.scopes.contains(scope);
    const bool within_token = scope.empty() || !subject.ceiling || subject.ceiling->contains(scope);
    if (told != nullptr) {
      told->scope = scope;
      told->within_client = within_client;
      told->within_token = within_token;
    }
    if (!allowed || denied) continue;
    any_open = true;
    if (within_client && within_token && !scope.empty()) granted.push_back(scope);
  }
  if (!any_open) {
    return fail(ErrorCode::TargetRefused, "no role of this user opens this backend");
  }
  if (granted.empty() && backend.has_scopes()) {
    return fail(ErrorCode::ScopeRefused,
                "the client's or the subject token's scope leaves nothing at this backend");
  }
  return ScopeSet(std::move(granted));
}

Result<ScopeSet> permitted_scope_of_client(const Client& client, const Backend& backend,
                                           const std::optional<std::string_view>& requested,
                                           PolicyTrace* trace) {
  std::vector<std::string> granted;
  for (const auto& scope : candidates(backend, requested)) {
    const bool within_client = client.scopes.contains(scope);
    if (trace != nullptr) trace->scopes.push_back({scope, {}, {}, false, within_client, true});
    if (within_client) granted.push_back(scope);
  }
  if (granted.empty() && backend.has_scopes()) {
    return fail(ErrorCode::ScopeRefused, "this client has no scope at this backend");
  }
  return ScopeSet(std::move(granted));
}

Status check_whole_backend(const Backend& backend, const ScopeSet& permitted) {
  if (backend.scopes.subset_of(permitted)) return {};
  return fail(ErrorCode::ScopeRefused,
              "the stored credential opens more of this backend than is permitted here");
}

Status check_signing(const TenantSnapshot& snapshot, const Backend& backend) {
  if (snapshot.settings().guardrails.allows_signing(backend.signing_algorithm)) return {};
  return fail(ErrorCode::TargetRefused,
              "the operator does not allow the algorithm that signs for this backend");
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
