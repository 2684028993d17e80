#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/result.h"
#include "grants/subject.h"
#include "policy/revocation_list.h"
#include "policy/snapshot.h"
#include "token/json.h"
#include "token/jws.h"

/// Tokens that this tenant issued, when they come back: to be exchanged again,
/// introspected or revoked.
///
/// What we need of them then stands in the private claim `postern`, which means
/// nothing to anybody else (RFC 7519 §4.3):
///
///   ancestors  ids of the tokens it rests on, nearest first (VerifiedToken::lineage)
///   iss, sub   the principal; `sub` only where the token's own has a prefix
///   groups     those of the principal's groups that a binding named
///   claims     those values of other claims that a binding asked for
///   scope      the principal's ceiling, where the issuer's scope counts
///   may_act    of the token at the root: only the party that it names may act
///   within     for each backend earlier in the chain, the scope granted there
///   iat        when the token at the root was issued
///   epoch      the tenant's when groups and claims were written
///   whole      with a decision point: the claims whose values are all there, as
///              are all groups
///
/// A token of client_credentials has none of it: its subject is the client.
namespace postern::grants {

inline constexpr const char* kOwnClaim = "postern";
/// Five in a chain, each with an actor of at most two.
inline constexpr std::size_t kMaxAncestors = 15;

/// The claim for a token that rests on these, as JSON.
/// Errors: MalformedRequest when it would rest on too many.
Result<std::string> own_claim(const policy::TenantSnapshot& snapshot, const VerifiedToken& subject,
                              const VerifiedToken* actor);

/// An id by which a token that we did not issue can be revoked here: a digest of
/// what is signed, since some signatures can be changed without becoming wrong.
std::string foreign_token_id(const TenantId& tenant, std::string_view compact);

/// Thread-safe.
class OwnTokens {
 public:
  OwnTokens(const policy::RevocationList& revocations, const Clock& clock)
      : revocations_(revocations), clock_(clock) {}

  /// A token of this tenant, by signature, type and form, that has not expired.
  /// Errors: InvalidToken.
  Result<VerifiedToken> read(const policy::TenantSnapshot& snapshot,
                             const token::UnverifiedJwt& jwt) const;

  /// Whether it still stands: not revoked, nor anything it rests on; and its
  /// client, its backend, its principal and their issuer are enabled.
  /// Errors: InvalidToken, Unavailable.
  Status check(const policy::TenantSnapshot& snapshot, const VerifiedToken& token) const;

  /// What of its scope is still permitted at its backend.
  /// Errors: TargetRefused, ScopeRefused.
  Result<policy::ScopeSet> scope(const policy::TenantSnapshot& snapshot,
                                 const VerifiedToken& token) const;

  /// Errors: InvalidToken when the token or one that it rests on is revoked; Unavailable.
  Status check_revocation(const TenantId& tenant, const VerifiedToken& token) const;

 private:
  const policy::RevocationList& revocations_;
  const Clock& clock_;
};

/// Whether the token says of its user what the user's own token would say here:
/// a token of ours carries what is bound, unless a decision point wants the rest.
bool tells_all(const policy::TenantSnapshot& snapshot, const VerifiedToken& token);

/// Whether the client may use this token of ours: it got it, or it is the
/// resource server the token is for.
bool may_present(const policy::Client& client, const VerifiedToken& token);

/// What remains of `permitted` at a backend for a token that rests on another of
/// ours: never more than was granted there earlier in the chain.
/// Errors: ScopeRefused when nothing remains.
Result<policy::ScopeSet> within_chain(const VerifiedToken& subject, const policy::Backend& backend,
                                      policy::ScopeSet permitted);

}  // namespace postern::grants
