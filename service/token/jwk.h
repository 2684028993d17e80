#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "crypto/signature.h"
#include "token/json.h"

namespace postern::token {

/// A public JSON Web Key for verification (RFC 7517, 7518 §6, 8037).
struct Jwk {
  std::optional<std::string> kid;              ///< at most 128 bytes
  std::optional<crypto::Algorithm> algorithm;  ///< the `alg` member, when present
  crypto::PublicKey key;
};

/// One issuer's keys. Immutable.
class JwkSet {
 public:
  JwkSet() = default;

  /// Keys of unknown kty, crv or alg, or with `use` other than `sig`, or
  /// `key_ops` without `verify`, are left out (RFC 7517 §5). Errors:
  /// MalformedRequest for what is not a JWK Set, carries a private or symmetric
  /// member (d, p, q, k), holds more than 100 keys, or holds a weak key
  /// when `weak` is Refuse (issuer registration); Skip leaves weak keys out
  /// (fetched sets).
  enum class WeakKeys { Refuse, Skip };
  static Result<JwkSet> parse(const Json& document, WeakKeys weak);

  /// Keys that may verify a token with this header: algorithm fits, and kid is
  /// equal when the header has one. A key without a kid never matches a header
  /// that has one, unless it is the only key of that family. At most 16, which
  /// bounds the work a token without kid can cause.
  std::vector<const Jwk*> candidates(crypto::Algorithm algorithm,
                                     const std::optional<std::string>& kid) const;
  bool has_kid(std::string_view kid) const;
  std::size_t size() const noexcept { return keys_.size(); }

 private:
  std::vector<Jwk> keys_;
};

/// The public JWK of a signing key with kid (RFC 7638 thumbprint), use and alg.
Json public_jwk(const crypto::SigningKey& key);
/// RFC 7638 SHA-256 thumbprint, base64url.
/// For a JWK of a key type we know, with strict base64url members. Errors: MalformedRequest.
Result<std::string> thumbprint(const Json& jwk);
std::string thumbprint(const crypto::PublicParameters& parameters);

}  // namespace postern::token
