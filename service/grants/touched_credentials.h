#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
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
  std::string maker{};  ///< the session that it is a child of, and ends with
};
/// What was found in one part of the trail and began in an older one.
struct Leads {
  static constexpr std::size_t kMost = 700;  ///< of each, that one search leaves to the next
  /// Answers that waited wrapped, by what names each, and when a suspect was given it; the
  /// credential is named where it was read.
  std::map<std::string, sys_seconds, std::less<>> given_at{};
  sys_seconds read_after = sys_seconds::max();  ///< all of these
  /// Of Vault's API: used, or made another one. Only of a backend: whom a client's or user's
  /// session is of, its beginning says too.
  std::set<std::string, std::less<>> sessions{};
  bool some_left_out = false;  ///< there were more
};

struct Touched {
  std::map<vault::CredentialKey, TouchedCredential> credentials;
  /// And sessions: issued and not expired. None ends with another one of them: there is only so
  /// much room for what is revoked, and whoever holds a session can fill it with children.
  std::vector<TouchedToken> tokens;
  /// False: there are more records than are looked through, or (then `ended_at` is 0) leads
  /// were left out.
  bool complete = true;
  // Where more records are: the sequence and the time of the oldest one that was looked at,
  // and what is to be looked for in those before it.
  std::uint64_t ended_at = 0;
  sys_seconds reached{};
  Leads leads{};
};

/// Which part of the trail one search reads, newest first.
struct SearchPart {
  static constexpr std::uint64_t kMostRecords = 500'000;
  std::uint64_t before = 0;  ///< lesser sequences: where another one ended; 0: from the end
  std::uint64_t most_records = kMostRecords;  ///< so many at most
  Leads leads{};                              ///< of the one before
};

/// What somebody was given since a time, by the audit trail: credentials released, read
/// through Vault's API, revealed or changed; and the tokens and sessions that are still
/// valid, also from before that time, and the sessions that made such a one. As the subject or
/// as the actor. What one part does not
/// reach, the next one does, before its `ended_at`. A session that was used in this part and
/// began in an older one is there with the latest time at which it can end, since only its
/// beginning says when that is; an older part may name it again.
/// Errors: those of the log.
Result<Touched> touched_by(audit::AuditLog& log, const TenantId& tenant, const Suspect& suspect,
                           sys_seconds since, sys_seconds now, const SearchPart& part = {});

}  // namespace postern::grants
