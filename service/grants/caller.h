#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"
#include "policy/config.h"
#include "token/json.h"

namespace postern::grants {

/// The keys a token is bound to (RFC 7800 `cnf`); an empty one: not bound so.
struct Confirmation {
  std::string jkt;       ///< RFC 7638 thumbprint of a DPoP key (RFC 9449 §6)
  std::string x5t_s256;  ///< SHA-256 of a certificate, base64url (RFC 8705 §3.1)

  /// Takes over what `other` is bound to and this is not. Both were proven by
  /// one caller, so where both name a key it is the same.
  void include(const Confirmation& other) {
    if (jkt.empty()) jkt = other.jkt;
    if (x5t_s256.empty()) x5t_s256 = other.x5t_s256;
  }
  bool empty() const noexcept { return jkt.empty() && x5t_s256.empty(); }
  bool operator==(const Confirmation&) const = default;
};

/// The client behind a request: authenticated, with the keys it proved in this
/// very request to hold. Valid as long as the snapshot that the client is from;
/// `keeps` keeps one that is from elsewhere.
struct Caller {
  explicit Caller(const policy::Client& authenticated) : client(&authenticated) {}

  const policy::Client* client;
  Confirmation proven;
  std::shared_ptr<const void> keeps;  ///< a client that is not the snapshot's

  const std::string& id() const noexcept { return client->id.str(); }
};

/// Reads a `cnf` claim. Errors: InvalidToken for any member but `jkt` and
/// `x5t#S256`: what we cannot prove we must not pass over (RFC 7800 §3.1).
Result<Confirmation> read_confirmation(const token::Json& cnf);

/// Whether the caller proved to hold every key that this is bound to.
bool proves(const Caller& caller, const Confirmation& bound);

/// What a token issued to this caller is bound to: to its DPoP key when it
/// proved one, to its certificate when the client is registered so or when what
/// the token rests on was. What was bound never becomes unbound.
/// Errors: InvalidDpopProof, MalformedRequest when the client's tokens must be
/// bound and the key was not proven; InvalidToken when `inherited` is not proven.
Result<Confirmation> confirmation_of(const Caller& caller, const Confirmation& inherited);

}  // namespace postern::grants
