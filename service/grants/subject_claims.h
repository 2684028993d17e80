#pragma once

#include <string>
#include <vector>

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
/// @param expected  one of these must be in `aud`.
/// Errors: InvalidToken with a coarse reason.
Result<VerifiedToken> read_claims(const policy::TenantSnapshot& snapshot,
                                  const policy::TrustedIssuer& issuer, const token::Json& claims,
                                  const std::vector<std::string>& expected, sys_seconds now);

/// What tokens of ours call a user of an issuer: its prefix and the name.
/// Errors: InvalidToken when the name is none, or could be taken for another's.
Result<std::string> issued_subject_of(const policy::TenantSnapshot& snapshot,
                                      const policy::TrustedIssuer& issuer, const std::string& name);

/// RFC 9396 §9.1: the token's own limits on tools. Details of other types are for
/// others; ours must be well formed, since what is not understood of a limit would
/// be passed over. Errors: InvalidToken.
Status read_tools(const token::Json& claims, VerifiedToken& token);

/// What an assertion says of the grant it is: its `jti` and, for an ID-JAG, the
/// client, resource and scope it is for.
/// Errors: InvalidToken when something required is missing, or it is for another client.
Status read_grant(const token::Json& claims, const std::string& client_id,
                  VerifiedAssertion& assertion);

}  // namespace postern::grants
