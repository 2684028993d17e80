#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "grants/issuance.h"
#include "grants/subject.h"
#include "policy/authorize.h"
#include "policy/replay_guard.h"

namespace postern::grants {

class DecisionPoint;

/// The parameters of RFC 7523 §2.1, still untrusted. Views into the request.
struct JwtBearerRequest {
  std::string_view assertion;
  std::vector<std::string_view> audiences;
  std::vector<std::string_view> resources;
  std::optional<std::string_view> scope;
  std::optional<policy::ToolDetails> tools = {};
};

/// The target of an assertion: what an ID-JAG is for, and the request may only
/// repeat it; else what the request names, else the client's default.
/// Errors: as policy::resolve_target; InvalidGrant.
Result<policy::Target> target_of(const policy::TenantSnapshot& snapshot,
                                 const policy::Client& client, const VerifiedAssertion& assertion,
                                 const std::vector<std::string_view>& audiences,
                                 const std::vector<std::string_view>& resources);

/// What the assertion's own scope leaves, if it has one. Errors: ScopeRefused.
Result<policy::ScopeSet> within_assertion(const VerifiedAssertion& assertion,
                                          const policy::Backend& backend,
                                          policy::ScopeSet permitted);

/// RFC 7523 §2.1: a JWT that a trusted issuer made for this authorization server
/// is itself the grant. With header `typ` oauth-id-jag+jwt it is an identity
/// assertion authorization grant (ID-JAG), which also names the client, the
/// resource and the scope it is for. Thread-safe.
class JwtBearer {
 public:
  JwtBearer(SubjectVerifier& verifier, policy::ReplayGuard& replays, const Clock& clock,
            DecisionPoint* point = nullptr)
      : verifier_(verifier), replays_(replays), clock_(clock), point_(point) {}

  /// An assertion is used once, by its `jti`. It is marked as used last, when
  /// nothing else stands against it.
  /// @param wait  at least Database where a `jti` must be remembered, or NeedsDatabase.
  /// Errors: InvalidGrant for everything that is wrong with the assertion;
  /// UnauthorizedClient, TargetRefused, ScopeRefused, InsufficientAuthentication,
  /// NeedsDatabase, NeedsOutbound, Unavailable.
  Result<IssuedToken> grant(const policy::TenantSnapshot& snapshot, const Caller& caller,
                            const JwtBearerRequest& request, Wait wait, audit::Event& record) const;

 private:
  SubjectVerifier& verifier_;
  policy::ReplayGuard& replays_;
  const Clock& clock_;
  DecisionPoint* point_;
};

}  // namespace postern::grants
