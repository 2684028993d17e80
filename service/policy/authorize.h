#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/ids.h"
#include "core/result.h"
#include "policy/scope.h"
#include "policy/snapshot.h"

namespace postern::policy {

/// The one backend a request names through `audience` and `resource`
/// (RFC 8693 §2.1, RFC 8707 §2). Several values may name the same one.
struct Target {
  const Backend* backend = nullptr;
  std::string audience;  ///< what goes into `aud`
};

/// Errors: TargetRefused when a value is malformed, unknown or disabled, values
/// name different backends, none is named and the client has no default, or
/// the client may not use the backend. Unknown and not allowed look alike.
/// UnauthorizedClient when the client or its tenant is disabled, or the tenant's
/// guardrails do not allow the way the client authenticates.
Result<Target> resolve_target(const TenantSnapshot& snapshot, const Client& client,
                              const std::vector<std::string_view>& audiences,
                              const std::vector<std::string_view>& resources);

/// Who asks, after verification.
struct SubjectRights {
  Principal principal;
  std::vector<std::string> groups;
  std::optional<ScopeSet> ceiling;  ///< scope of the subject token, when its issuer's scope counts
  Attributes attributes = {};
  std::string issued_subject = {};  ///< `sub` of tokens issued here: {sub} in permissions
};

/// A permission that matched, and how the subject has it.
struct Matched {
  BoundRole by;
  const Permission* permission = nullptr;
};

/// How one scope fared. A backend without scopes has one, the empty one.
struct ScopeTrace {
  std::string scope;
  std::vector<Matched> allowed_by;
  std::vector<Matched> denied_by;
  bool needs_role = true;  ///< a client for itself needs none
  bool within_client = false;
  bool within_token = true;
  bool open() const { return (!needs_role || !allowed_by.empty()) && denied_by.empty(); }
  bool granted() const { return open() && within_client && within_token; }
};

/// What permitted_scope looked at, for explanations; deciding does not read it.
struct PolicyTrace {
  std::vector<BoundRole> roles;
  std::vector<ScopeTrace> scopes;
};

/// The widest scope this subject may have at this backend through this client:
/// backend's ∩ client's ∩ roles' (deny wins) ∩ token's. Deny by default.
/// @param requested  only for the resources it names (Backend::scope_patterns):
///                   there is no list of them, so each must be asked for.
/// @param trace      filled when not null; the decision is the same.
/// Errors: TargetRefused when the subject has no right to the backend at all.
Result<ScopeSet> permitted_scope(const TenantSnapshot& snapshot, const Client& client,
                                 const Backend& backend, const SubjectRights& subject,
                                 const std::optional<std::string_view>& requested = std::nullopt,
                                 PolicyTrace* trace = nullptr);

/// As permitted_scope, for a client acting on its own behalf: its registration
/// is its right.
Result<ScopeSet> permitted_scope_of_client(
    const Client& client, const Backend& backend,
    const std::optional<std::string_view>& requested = std::nullopt, PolicyTrace* trace = nullptr);

/// A stored credential cannot be narrowed: its bearer has every scope of the
/// backend, and so must be entitled to all of them. Anything less would make a
/// deny, or a client's limit, worth nothing here. Errors: ScopeRefused.
Status check_whole_backend(const Backend& backend, const ScopeSet& permitted);

/// Whether the guardrails let tokens for this backend be signed as it wants.
/// Errors: TargetRefused.
Status check_signing(const TenantSnapshot& snapshot, const Backend& backend);

/// What is issued: the request when it lies within `permitted`, all of
/// `permitted` when nothing was asked. `openid`, `profile`, `email` and
/// `offline_access` are dropped silently: stock gateways send them.
/// Errors: ScopeRefused when more was asked than is permitted, or the text is malformed.
Result<ScopeSet> narrow_scope(const ScopeSet& permitted,
                              const std::optional<std::string_view>& requested);

}  // namespace postern::policy
