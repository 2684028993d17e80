#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "audit/event.h"
#include "core/clock.h"
#include "core/result.h"
#include "core/secret.h"
#include "grants/caller.h"
#include "grants/subject.h"
#include "policy/authorize.h"
#include "policy/snapshot.h"

namespace postern::grants {

/// A token that was issued, and what the answer says of it.
struct IssuedToken {
  AccessToken access_token;
  std::string issued_token_type;  ///< exchange only; the URI that was asked for
  std::string token_type = "Bearer";
  std::chrono::seconds expires_in{};
  policy::ScopeSet scope;
  sys_seconds expires_at{};
  std::string authorization_details = {};  ///< those granted, as JSON; empty: none
};

/// What is to be issued, already verified and authorised.
struct Issuance {
  const Caller* caller = nullptr;
  policy::Target target;
  std::string subject;         ///< `sub`
  policy::ScopeSet permitted;  ///< ceiling from policy::permitted_scope
  std::optional<std::string_view> requested_scope;
  std::optional<sys_seconds> not_beyond;         ///< earliest expiry of the tokens it rests on
  token::Json act;                               ///< null when nobody acts for the subject
  token::Json auth_context;                      ///< auth_time, acr, amr of the subject token
  Confirmation inherited = {};                   ///< what the tokens it rests on are bound to
  const VerifiedToken* subject_token = nullptr;  ///< null: the client acts for itself
  const VerifiedToken* actor_token = nullptr;
  std::optional<policy::ToolDetails> tools = {};  ///< from granted_tools()
};

/// The one place where a token comes into being (RFC 9068 shape). Every grant
/// and every release of a minted answer goes through here: it narrows the
/// scope, bounds the lifetime, sets one audience, binds the token to the keys that
/// confirmation_of() names, fills the audit record, signs.
///
/// Lifetime: at most the backend's max_expires_in, the tenant's
/// max_token_lifetime and what is left of the tokens it rests on.
///
/// The tenant's guardrails hold here whatever was configured before them:
/// lifetime, algorithm, and, with impersonation off, an `act` in every token for
/// a user.
///
/// Errors: as confirmation_of(); ScopeRefused; TargetRefused when a guardrail forbids
/// the backend's algorithm; InvalidToken when nothing of the subject token's life is
/// left; Unavailable when the tenant has no key for the backend's algorithm.
Result<IssuedToken> issue(const policy::TenantSnapshot& snapshot, const Issuance& issuance,
                          const Clock& clock, audit::Event& record);

}  // namespace postern::grants
