#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/result.h"
#include "grants/client_documents.h"
#include "grants/issuer_keys.h"
#include "policy/replay_guard.h"
#include "policy/snapshot.h"

namespace postern::grants {

inline constexpr std::string_view kJwtBearerAssertion =
    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The client that an assertion claims to be (`iss`), unverified: for throttling
/// and for telling a workload's token from a client's own. Nothing when unreadable.
std::optional<std::string> claimed_client(std::string_view assertion);

/// `private_key_jwt` (RFC 7523 §2.2 and §3, draft-ietf-oauth-rfc7523bis): the
/// client signs a short assertion that names this tenant's issuer as its only
/// audience and is taken once, by whichever replica. Thread-safe.
class ClientAssertions {
 public:
  ClientAssertions(ClientKeySource& keys, const Clock& clock) : keys_(keys), clock_(clock) {}

  /// @param document  the client, when it is known by its metadata document.
  /// Errors: InvalidClient, in the same words whatever was wrong; NeedsOutbound,
  /// Unavailable (the client's keys cannot be fetched); NeedsDatabase from `replays`.
  Result<const policy::Client*> authenticate(const policy::TenantSnapshot& snapshot,
                                             std::string_view assertion,
                                             policy::ReplayGuard& replays, Wait wait,
                                             const DocumentClient* document = nullptr) const;

 private:
  ClientKeySource& keys_;
  const Clock& clock_;
};

}  // namespace postern::grants
