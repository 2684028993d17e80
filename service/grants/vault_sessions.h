#pragma once

#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "core/secret.h"
#include "policy/revocation_list.h"
#include "policy/snapshot.h"
#include "vault/keyring.h"

namespace postern::grants {

/// A client that logged in at the Vault subset, as its token says.
struct VaultSession {
  std::string client;
  std::string id;  ///< by which it is revoked
  sys_seconds issued_at{};
  sys_seconds expires_at{};
};

/// Tokens of clients at the Vault subset, and nowhere else: not a JWT, so nothing
/// that takes our access tokens could take one. No row is kept of them:
///
///   postern_vt_{tenant}.{KEK version}.{base64url of JSON}.{base64url of MAC}
///
/// with members client, id, iat and exp, under a key derived from the tenant's KEK.
/// A token does not outlive the KEK's version. Thread-safe; waits for the database.
class VaultSessions {
 public:
  static constexpr std::string_view kPrefix = "postern_vt_";

  VaultSessions(vault::Keyring& keyring, policy::RevocationList& revocations, const Clock& clock)
      : keyring_(keyring), revocations_(revocations), clock_(clock) {}

  /// Whether this client may be there at all: the tenant names it, it may act for
  /// itself (client_credentials), and its tokens need not be bound to a key, which
  /// these cannot be. Errors: Forbidden.
  static Status check_client(const policy::TenantSnapshot& snapshot, const policy::Client& client);

  struct Started {
    BearerToken token;
    VaultSession session;
  };
  /// For as long as any token of the tenant may live.
  /// Errors: as vault::Keyring::with_current.
  Result<Started> start(const policy::TenantSnapshot& snapshot, const policy::Client& client) const;

  /// Errors: Unauthenticated, alike for every cause: malformed, forged, expired,
  /// revoked, another tenant's, or of a client that check_client refuses by now;
  /// Unavailable and KeyUnavailable.
  Result<VaultSession> verify(const policy::TenantSnapshot& snapshot, std::string_view token) const;

  /// Errors: as policy::RevocationList::revoke.
  Status end(const TenantId& tenant, const VaultSession& session) const;

 private:
  vault::Keyring& keyring_;
  policy::RevocationList& revocations_;
  const Clock& clock_;
};

}  // namespace postern::grants
