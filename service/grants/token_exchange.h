#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "grants/issuance.h"
#include "grants/subject.h"

namespace postern::grants {

/// The parameters of RFC 8693 §2.1, syntax checked, still untrusted. Views into
/// the request, which outlives the call.
struct TokenExchangeRequest {
  std::string_view subject_token;
  std::string_view subject_token_type;
  std::optional<std::string_view> actor_token;
  std::optional<std::string_view> actor_token_type;
  std::vector<std::string_view> audiences;
  std::vector<std::string_view> resources;
  std::optional<std::string_view> scope;
  std::optional<std::string_view> requested_token_type;
};

/// RFC 8693 token exchange: a broad user token in, a narrow token for one
/// backend out. Thread-safe.
class TokenExchange {
 public:
  TokenExchange(SubjectVerifier& verifier, const Clock& clock)
      : verifier_(verifier), clock_(clock) {}

  /// @param record  filled with what the decision rested on, also when refused.
  /// Errors: MalformedRequest, InvalidToken, TargetRefused, ScopeRefused,
  /// UnauthorizedClient, NeedsOutbound, Unavailable.
  Result<IssuedToken> exchange(const policy::TenantSnapshot& snapshot, const Caller& caller,
                               const TokenExchangeRequest& request, Wait wait,
                               audit::Event& record) const;

 private:
  SubjectVerifier& verifier_;
  const Clock& clock_;
};

/// The `act` of a token issued to `client` for `subject` (RFC 8693 §4.1): the
/// actor outermost, the subject's own history below it; without an actor the
/// client stands in only when there is history to keep.
/// Errors: MalformedRequest when the chain would be deeper than 5.
Result<token::Json> actor_chain(const VerifiedToken& subject, const VerifiedToken* actor,
                                const policy::Client& client);

/// RFC 8693 §4.4: with `may_act` in the subject token, only the party it names
/// may act: the actor token's subject, else the client. Errors: InvalidToken.
Status check_may_act(const VerifiedToken& subject, const VerifiedToken* actor,
                     const policy::TenantSnapshot& snapshot, const policy::Client& client);

/// Adds what identifies the subject and actor to an audit record.
void record_subject(audit::Event& record, const VerifiedToken& subject);

}  // namespace postern::grants
