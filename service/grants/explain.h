#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "grants/decision_point.h"
#include "grants/subject.h"
#include "grants/tool_details.h"
#include "policy/authorize.h"
#include "policy/snapshot.h"
#include "token/json.h"
#include "vault/credential.h"

namespace postern::grants {

/// A request whose decision is to be explained, after verification.
struct Question {
  const policy::Client* client = nullptr;
  /// Null: the client asks for itself.
  VerifiedTokenPtr subject;
  VerifiedTokenPtr actor;  ///< who acts for the subject, in an exchange; null: nobody
  /// How a user is asked for. Nothing: by an exchange, or by a release where only
  /// that answers.
  enum class Grant { Exchange, JwtBearer, Release };
  std::optional<Grant> grant;
  /// A token of the subject or of the actor was refused, or would be.
  struct Refused {
    std::string by;  ///< subject, actor
    Error error;
    std::string hint;
  };
  std::optional<Refused> refused;
  bool for_user() const { return subject != nullptr || refused.has_value(); }
  /// The assertion that `subject` is of, in a jwt-bearer request; null: described.
  std::shared_ptr<const VerifiedAssertion> assertion;
  std::vector<std::string_view> audiences;
  std::vector<std::string_view> resources;
  std::optional<std::string_view> scope;
  std::optional<policy::ToolDetails> tools;  ///< authorization_details
};

/// Something that stands in the way, and what would take it out of the way.
struct Hint {
  /// client, client_grant, client_backend, client_scope, subject, actor, target,
  /// permission, binding, deny, token_scope, unknown_scope, authentication,
  /// decision_point, tools, credential, guardrail, request
  std::string kind;
  std::string text;     ///< for people; our words and names of this tenant's configuration
  token::Json details;  ///< the names in it
};

struct Explanation {
  std::optional<Error> refusal;  ///< exactly what the client is told
  /// Where it was refused: client, subject, actor, target, roles, ceilings, authentication,
  /// decision_point, tools, request, credential, guardrails. Empty when it is allowed.
  std::string refused_by;
  const policy::Backend* backend = nullptr;
  std::string audience;
  std::string grant;  ///< token-exchange, release, jwt-bearer, client_credentials
  std::optional<policy::ScopeSet> permitted;  ///< once roles, ceilings and decision point agreed
  std::optional<Decision> decision;           ///< of the decision point, when it gave one
  policy::ScopeSet granted;
  std::optional<vault::CredentialMetadata> credential;  ///< that a vaulted backend would take
  std::optional<policy::ToolDetails> granted_tools;
  std::vector<BoundTool> tools;  ///< what the user's roles say of the backend's tools
  policy::PolicyTrace trace;
  std::vector<Hint> hints;
  bool names_actor = false;  ///< the token names in `act` who acts
  bool allowed() const { return !refusal.has_value(); }
};

/// Decides as every grant does, by the same functions in the same order, and
/// keeps what they looked at. Reveals the policy: for a tenant's administrators
/// only, never for the client or the user whom it is about. The refusal is
/// NeedsOutbound or NeedsDatabase when a decision point or the store must be
/// asked and `wait` does not allow it.
/// @param credentials  null: whether what a vaulted backend takes is stored is not looked at.
Explanation explain(const policy::TenantSnapshot& snapshot, const Question& question,
                    sys_seconds now, DecisionPoint* point = nullptr, Wait wait = Wait::No,
                    vault::CredentialStore* credentials = nullptr);

/// The explanation as the REST API answers it.
token::Json write(const policy::TenantSnapshot& snapshot, const Explanation& explanation);

}  // namespace postern::grants
