#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "core/secret.h"
#include "grants/subject.h"
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
  std::vector<std::string> parents{};  ///< ids of the sessions that made it, which end it too
};

/// For whom a client is there.
enum class ActsFor {
  Itself,
  User,  ///< whose own token the session holds
};

/// Tokens of clients at the Vault subset, and nowhere else: not a JWT, so nothing
/// that takes our access tokens could take one. No row is kept of them:
///
///   postern_vt_{tenant}.{KEK version}.{base64url of JSON}.{base64url of MAC}
///   postern_vu_{tenant}.{KEK version}.{base64url of sealed JSON}
///
/// with members client, id, iat and exp, and parents where another session made it, under a key
/// derived from the tenant's KEK; with parents under another label, so that releases which do not
/// know them refuse it. The second is for a client that acts for a user: sealed under the
/// KEK, for it has the user's token as well (user), which counts for what it is at each use. A
/// token does not outlive the KEK's version. Thread-safe; waits for the database.
class VaultSessions {
 public:
  static constexpr std::string_view kPrefix = "postern_vt_";
  static constexpr std::string_view kUserPrefix = "postern_vu_";
  /// How deep sessions make sessions.
  static constexpr std::size_t kMostParents = 4;
  /// Of a user's token that a session can hold: it has to fit in a header.
  static constexpr std::size_t kMostUserBytes = 8 * 1024;

  VaultSessions(vault::Keyring& keyring, policy::RevocationList& revocations, const Clock& clock)
      : keyring_(keyring), revocations_(revocations), clock_(clock) {}

  /// Whether this client may be there at all: the tenant names it, it may act for
  /// itself (client_credentials) or for users (token-exchange, where there are views),
  /// and its tokens need not be bound to a key, which these cannot be. Errors: Forbidden.
  static Status check_client(const policy::TenantSnapshot& snapshot, const policy::Client& client,
                             ActsFor whom = ActsFor::Itself);

  struct Started {
    BearerToken token;
    VaultSession session;
  };
  /// For as long as any token of the tenant may live.
  /// Errors: as vault::Keyring::with_current.
  Result<Started> start(const policy::TenantSnapshot& snapshot, const policy::Client& client) const;

  /// Another session of the same client, which ends with its parent and when that would.
  /// @param lifetime  none: as long as the parent's
  /// Errors: MalformedRequest at more than kMostParents; as start().
  Result<Started> start_child(const policy::TenantSnapshot& snapshot, const VaultSession& parent,
                              std::optional<std::chrono::seconds> lifetime) const;

  /// For a user whose token was verified, until that expires at the latest.
  /// Errors: TooLarge; as start().
  Result<Started> start_for_user(const policy::TenantSnapshot& snapshot,
                                 const policy::Client& client, const VerifiedToken& user,
                                 std::string_view user_token) const;

  /// Errors: Unauthenticated, alike for every cause: malformed, forged, expired,
  /// revoked, another tenant's, or of a client that check_client refuses by now;
  /// Unavailable and KeyUnavailable.
  Result<VaultSession> verify(const policy::TenantSnapshot& snapshot, std::string_view token) const;

  struct ForUser {
    VaultSession session;
    SubjectToken user_token;  ///< as it was at login: to be verified again
  };
  /// Of a token with kUserPrefix. Errors: as verify().
  Result<ForUser> verify_for_user(const policy::TenantSnapshot& snapshot,
                                  std::string_view token) const;

  /// Errors: as policy::RevocationList::revoke.
  Status end(const TenantId& tenant, const VaultSession& session) const;

 private:
  /// Its token. Errors: as vault::Keyring::with_current.
  Result<Started> started(const TenantId& tenant, VaultSession session) const;
  /// Of a session that is genuine. Errors: as verify().
  Status check_live(const policy::TenantSnapshot& snapshot, const VaultSession& session,
                    ActsFor whom) const;

  vault::Keyring& keyring_;
  policy::RevocationList& revocations_;
  const Clock& clock_;
};

}  // namespace postern::grants
