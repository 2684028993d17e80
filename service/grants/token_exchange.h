#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "grants/issuance.h"
#include "grants/subject.h"

namespace postern::grants {

class DecisionPoint;
class Release;

/// `requested_token_type` of a stored credential (RFC 8693 §3 lets anyone use a
/// URI of their own). Never fetched.
inline constexpr std::string_view kCredentialTokenType =
    "https://postern-project.org/oauth/token-type/credential";

/// The parameters of RFC 8693 §2.1, syntax checked, still untrusted. Views into
/// the request, which outlives the call.
///
/// On whose behalf.
struct ExchangeTokens {
  std::string_view subject_token;
  std::string_view subject_token_type;
  std::optional<std::string_view> actor_token;
  std::optional<std::string_view> actor_token_type;
};
/// For what.
struct ExchangeTarget {
  std::vector<std::string_view> audiences;
  std::vector<std::string_view> resources;
  std::optional<std::string_view> scope;
  std::optional<std::string_view> requested_token_type;
  std::optional<policy::ToolDetails> tools;  ///< `authorization_details` (RFC 9396 §6)
};
struct TokenExchangeRequest : ExchangeTokens, ExchangeTarget {};

/// The tokens of a request, verified, for one or many targets.
struct ExchangeParties {
  VerifiedTokenPtr subject;
  VerifiedTokenPtr actor;  ///< null when nobody acts for the subject
  token::Json act;         ///< null, or the `act` of what is issued
};

/// RFC 8693 token exchange: a broad user token in, a narrow token for one
/// backend out, or the stored credential that the backend takes. Thread-safe.
class TokenExchange {
 public:
  TokenExchange(SubjectVerifier& verifier, const Release& release, const Clock& clock,
                DecisionPoint* point = nullptr)
      : verifier_(verifier), release_(release), clock_(clock), point_(point) {}

  /// @param record  filled with what the decision rested on, also when refused.
  /// Errors: those of verify() and issue_for().
  Result<IssuedToken> exchange(const policy::TenantSnapshot& snapshot, const Caller& caller,
                               const TokenExchangeRequest& request, Wait wait,
                               audit::Event& record) const;

  /// The first half: who asks, and whether this client may ask for them.
  /// Errors: MalformedRequest, InvalidToken, UnauthorizedClient, NeedsOutbound, Unavailable.
  Result<ExchangeParties> verify(const policy::TenantSnapshot& snapshot, const Caller& caller,
                                 const ExchangeTokens& tokens, Wait wait,
                                 audit::Event& record) const;

  /// The second half: one answer for one target.
  ///
  /// A vaulted backend that names a `token_field` is answered with that field of
  /// the stored credential, under the rules of a release and recorded as one.
  ///
  /// Errors: MalformedRequest, InvalidToken, TargetRefused, ScopeRefused,
  /// InteractionRequired with its connect_url, NeedsDatabase, Unavailable.
  Result<IssuedToken> issue_for(const policy::TenantSnapshot& snapshot, const Caller& caller,
                                const ExchangeParties& parties, const ExchangeTarget& target,
                                Wait wait, audit::Event& record) const;

 private:
  Result<IssuedToken> vaulted(const policy::TenantSnapshot& snapshot,
                              const policy::Backend& backend, const ExchangeParties& parties,
                              const policy::ScopeSet& permitted, const ExchangeTarget& asked,
                              Wait wait, audit::Event& record) const;

  SubjectVerifier& verifier_;
  const Release& release_;
  const Clock& clock_;
  DecisionPoint* point_;
};

/// Whether `client` may ask for `subject`, with `actor` or without one (null), and
/// the `act` of what it gets: of an exchange, once the tokens are verified.
/// Errors: InvalidToken, MalformedRequest.
Result<token::Json> check_parties(const policy::TenantSnapshot& snapshot,
                                  const policy::Client& client, const VerifiedToken& subject,
                                  const VerifiedToken* actor);

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

/// Whether an exchange answers for this backend, or a release alone. Errors: TargetRefused.
Status check_answers_exchange(const policy::Backend& backend);

/// A stored credential is what it is: it cannot name an actor. Errors: MalformedRequest.
Status check_vaulted_actor(const VerifiedToken* actor);

/// Why a stored credential cannot be the answer of an exchange.
Error lacks_token_field();

/// Adds what identifies the subject and actor to an audit record.
void record_subject(audit::Event& record, const VerifiedToken& subject);

}  // namespace postern::grants
