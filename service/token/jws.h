#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "crypto/signature.h"
#include "token/json.h"
#include "token/jwk.h"

namespace postern::token {

inline constexpr std::size_t kMaxTokenBytes = 16 * 1024;

/// A compact JWS that is well formed but NOT verified. Nothing in it is to be
/// believed; it exists to choose the issuer whose keys verify it.
class UnverifiedJwt {
 public:
  /// RFC 7515 §5.2 steps 1-5, RFC 7519 §7.2, RFC 8725: exactly three parts of
  /// canonical base64url, header and claims strict JSON objects, `alg` one we
  /// know, no `crit`, no `b64`, no `zip`, `kid` text of at most 128 bytes.
  /// Five parts (JWE) are refused. `jku`, `x5u`, `x5c` in the header are ignored.
  /// Errors: InvalidToken, with a coarse detail.
  static Result<UnverifiedJwt> parse(std::string_view compact);

  crypto::Algorithm algorithm() const noexcept { return algorithm_; }
  const std::optional<std::string>& kid() const noexcept { return kid_; }
  /// Lower-cased, without `application/`; empty when absent (RFC 8725 §3.11).
  const std::string& typ() const noexcept { return typ_; }
  /// The header's `jwk`, null when absent. Proves nothing but who holds the key:
  /// for DPoP proofs alone, ignored everywhere else (RFC 8725 §3.10).
  const Json& embedded_key() const noexcept { return embedded_key_; }
  /// The `iss` claim when it is a string: for choosing keys only.
  std::optional<std::string> claimed_issuer() const;

  /// The claims, when one of the candidate keys verifies the signature.
  /// Errors: InvalidToken.
  Result<Json> verify(const JwkSet& keys) const;
  /// As verify, for a set of one key that was sent along: its `kid` says nothing.
  Result<Json> verify_with_only(const JwkSet& keys) const;

 private:
  UnverifiedJwt() = default;
  Result<Json> verify_among(const std::vector<const Jwk*>& candidates) const;
  crypto::Algorithm algorithm_{};
  std::optional<std::string> kid_;
  std::string typ_;
  Json embedded_key_;
  std::string signing_input_;
  Bytes signature_;
  Json claims_;
};

/// Signs claims as a compact JWS with header {"alg","kid","typ"}.
/// `kid` is the key's thumbprint, given so that it is not recomputed.
std::string sign_jwt(const crypto::SigningKey& key, std::string_view kid, std::string_view typ,
                     const Json& claims);
/// As sign_jwt, of claims that are a JSON object as text already.
std::string sign_claims(const crypto::SigningKey& key, std::string_view kid, std::string_view typ,
                        std::string_view claims);

}  // namespace postern::token
