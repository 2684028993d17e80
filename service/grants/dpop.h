#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "policy/replay_guard.h"
#include "vault/keyring.h"

namespace postern::grants {

/// A URL without query and fragment, in the one form that equal URLs share
/// (RFC 3986 §6.2.2, §6.2.3): scheme and host in lower case, default port left
/// out, empty path as `/`, needless percent-encoding undone. Nothing for what is
/// not an absolute http or https URL with a host, or has user information or
/// dot segments.
std::optional<std::string> normalised_htu(std::string_view url);

/// Nonces for DPoP proofs (RFC 9449 §8) that no replica has to remember: a time
/// slice and its keyed hash, under a key derived from the tenant's KEK.
/// Thread-safe; loads the KEK on first use, so it may wait for the database.
class DpopNonces {
 public:
  static constexpr std::chrono::seconds kSlice{120};

  DpopNonces(vault::Keyring& keyring, const Clock& clock) : keyring_(keyring), clock_(clock) {}

  /// Errors: as vault::Keyring::with_current.
  Result<std::string> current(const TenantId& tenant);
  /// Whether this is a nonce of ours of the last four minutes, or two ahead of
  /// this replica's clock.
  Result<bool> fresh(const TenantId& tenant, std::string_view nonce);

 private:
  Result<std::string> of_slice(const TenantId& tenant, std::int64_t slice);

  vault::Keyring& keyring_;
  const Clock& clock_;
};

/// What a proof must be about.
struct DpopExpectation {
  std::string_view method;
  std::string_view url;                          ///< our own, from configuration
  std::optional<std::string_view> access_token;  ///< at resources: the token that `ath` names
};

/// Verifies DPoP proofs (RFC 9449 §4.3). Thread-safe.
class DpopProofs {
 public:
  enum class Nonce { NotAsked, Required };

  DpopProofs(DpopNonces& nonces, Nonce nonce, const Clock& clock)
      : nonces_(nonces), nonce_(nonce), clock_(clock) {}

  /// The RFC 7638 thumbprint of the key that the proof shows to be held. A proof
  /// is taken once, by whichever replica.
  /// Errors: InvalidDpopProof with a coarse reason; UseDpopNonce when one is
  /// required and the proof has none that is fresh; NeedsDatabase from `replays`.
  Result<std::string> verify(const TenantId& tenant, std::string_view proof,
                             const DpopExpectation& expected, policy::ReplayGuard& replays) const;

  bool asks_for_nonce() const noexcept { return nonce_ == Nonce::Required; }
  DpopNonces& nonces() const noexcept { return nonces_; }

 private:
  DpopNonces& nonces_;
  Nonce nonce_;
  const Clock& clock_;
};

}  // namespace postern::grants
