#pragma once

#include "core/clock.h"
#include "core/result.h"
#include "grants/subject.h"
#include "policy/snapshot.h"
#include "token/json.h"

namespace postern::grants {

/// What a trusted issuer says in a token, held to the tenant's rules for that
/// issuer. The claims come from a verified signature or from the issuer's own
/// answer about an opaque token; either way they pass here. `typ`, `kind` by
/// header and `fingerprint` are the caller's to fill.
/// Errors: InvalidToken with a coarse reason.
Result<VerifiedToken> read_claims(const policy::TenantSnapshot& snapshot,
                                  const policy::TrustedIssuer& issuer, const token::Json& claims,
                                  sys_seconds now);

}  // namespace postern::grants
