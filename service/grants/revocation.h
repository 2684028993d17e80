#pragma once

#include <string_view>

#include "audit/event.h"
#include "core/result.h"
#include "grants/caller.h"
#include "grants/own_token.h"
#include "grants/subject.h"
#include "policy/revocation_list.h"
#include "policy/snapshot.h"

namespace postern::grants {

/// RFC 7009: a client gives a token back. With it go the tokens that rest on it.
/// Thread-safe.
class Revocation {
 public:
  Revocation(SubjectVerifier& verifier, const OwnTokens& own_tokens, policy::RevocationList& list)
      : verifier_(verifier), own_tokens_(own_tokens), list_(list) {}

  /// Revokes a token that this tenant issued to the caller, or a trusted issuer's
  /// token that the caller may exchange here: for this tenant alone, and until it
  /// expires. Anything else is success without effect (§2.2), so that nobody
  /// learns whose a token is. Waits for the database.
  /// @param record  says what was done, or why nothing.
  /// Errors: NotFound, RateLimited, NeedsOutbound, Unavailable.
  Status revoke(const policy::TenantSnapshot& snapshot, const Caller& caller,
                std::string_view compact, Wait wait, audit::Event& record) const;

 private:
  Result<VerifiedTokenPtr> revocable(const policy::TenantSnapshot& snapshot, const Caller& caller,
                                     std::string_view compact, Wait wait) const;

  SubjectVerifier& verifier_;
  const OwnTokens& own_tokens_;
  policy::RevocationList& list_;
};

}  // namespace postern::grants
