#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "audit/log.h"
#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "policy/config.h"
#include "vault/credential.h"

namespace postern::grants {

/// Whose traces are looked for. What is set must all be so.
struct Suspect {
  std::optional<Principal> principal{};
  std::string client{};
  std::string backend{};
  /// As the tenant has it. What names a credential that it takes is its trace too, whoever
  /// asked: what is read through Vault's API is read for no backend.
  const policy::Backend* configured = nullptr;
};

struct TouchedCredential {
  std::uint64_t uses = 0;
  sys_seconds last_at{};
};
struct TouchedToken {
  std::string id;
  sys_seconds expires_at{};
};
struct Touched {
  std::map<vault::CredentialKey, TouchedCredential> credentials;
  std::vector<TouchedToken> tokens;  ///< and sessions: issued and not expired
  bool complete = true;              ///< false: there are more records than are looked through
  // Unless complete: the sequence and the time of the oldest record that was looked at.
  std::uint64_t ended_at = 0;
  sys_seconds reached{};
};

/// Which part of the trail one search reads, newest first.
struct SearchPart {
  std::uint64_t before = 0;  ///< lesser sequences: where another one ended; 0: from the end
  std::uint64_t most_records = 500'000;  ///< so many at most
};

/// What somebody was given since a time, by the audit trail: credentials released, read
/// through Vault's API, revealed or changed; and the tokens and sessions that are still
/// valid, also from before that time. As the subject or as the actor. What one part does not
/// reach, the next one does, before its `ended_at`. A session that was used in this part and
/// began in an older one is there with the latest time at which it can end, since only its
/// beginning says when that is; an older part may name it again.
/// Errors: those of the log.
Result<Touched> touched_by(audit::AuditLog& log, const TenantId& tenant, const Suspect& suspect,
                           sys_seconds since, sys_seconds now, const SearchPart& part = {});

}  // namespace postern::grants
