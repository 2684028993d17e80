#pragma once

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "grants/subject.h"
#include "policy/snapshot.h"
#include "vault/credential.h"
#include "vault/last_uses.h"

namespace postern::grants {

class DecisionPoint;

/// What a client may have of the tenant's stored credentials with no user behind
/// it: those that an open, vaulted backend of its own takes of the tenant, where it
/// may have all of the backend by itself. Thread-safe.
class ClientRelease {
 public:
  ClientRelease(const Clock& clock, DecisionPoint* point, vault::LastUses* uses)
      : clock_(clock), point_(point), uses_(uses) {}

  /// Whether some backend gives it. Errors: Forbidden; NeedsOutbound and
  /// Unavailable of a decision point.
  Status check(const policy::TenantSnapshot& snapshot, const policy::Client& client,
               const CredentialName& credential, Wait wait) const;

  /// That it was given, for `last_used_at`.
  void note(const TenantId& tenant, const vault::CredentialKey& key) const;

 private:
  const Clock& clock_;
  DecisionPoint* point_;
  vault::LastUses* uses_;
};

}  // namespace postern::grants
