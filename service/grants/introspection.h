#pragma once

#include <string>
#include <string_view>

#include "audit/event.h"
#include "core/clock.h"
#include "core/result.h"
#include "grants/caller.h"
#include "grants/own_token.h"
#include "policy/snapshot.h"
#include "token/json.h"

namespace postern::grants {

/// RFC 7662: what a token of this tenant is worth now. Thread-safe.
class Introspection {
 public:
  explicit Introspection(const OwnTokens& own_tokens) : own_tokens_(own_tokens) {}

  /// `{"active":true,…}`, or `{"active":false}` and nothing else for whatever is
  /// unknown, malformed, expired, revoked, no longer permitted, or not for this
  /// caller, who must be the resource server it is for or the client that got it.
  /// @param record  says which of these it was.
  /// Errors: Unavailable when it cannot be known.
  Result<token::Json> introspect(const policy::TenantSnapshot& snapshot, const Caller& caller,
                                 std::string_view compact, audit::Event& record) const;

 private:
  Result<token::Json> active(const policy::TenantSnapshot& snapshot, const Caller& caller,
                             std::string_view compact, audit::Event& record) const;

  const OwnTokens& own_tokens_;
};

/// RFC 9701: the answer as a JWT for this caller, of a type that no token of ours
/// has. Errors: MalformedRequest when the tenant has no key for the client's algorithm.
Result<std::string> signed_introspection(const policy::TenantSnapshot& snapshot,
                                         const Caller& caller, const token::Json& answer,
                                         sys_seconds now);

}  // namespace postern::grants
