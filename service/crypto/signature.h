#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/result.h"
#include "core/secret.h"

namespace postern::crypto {

/// JWS algorithms (RFC 7518 §3.1, RFC 8037, RFC 9864). No HMAC and no `none`:
/// they cannot be named, so they cannot be accepted.
enum class Algorithm { RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA };

std::string_view to_string(Algorithm algorithm) noexcept;
/// Exact, case-sensitive; `Ed25519` (RFC 9864) is read as EdDSA.
std::optional<Algorithm> parse_algorithm(std::string_view name) noexcept;

/// A public key bound to the family it can verify. Immutable, thread-safe,
/// cheap to share. Keeps whatever makes verification fast (parsed EVP_PKEY).
class PublicKey {
 public:
  /// Errors (all three): MalformedRequest with a reason when the key is weak or
  /// malformed: RSA below 2048 or above 8192 bits, e even, below 65537 or above 64
  /// bits, a modulus with a factor below 2000 or the fingerprint of ROCA; point
  /// not on the curve, wrong length, small-order or mixed-order Ed25519 point.
  static Result<PublicKey> rsa(ByteView modulus, ByteView exponent);
  static Result<PublicKey> ec(std::string_view curve, ByteView x,
                              ByteView y);  ///< P-256, P-384, P-521
  static Result<PublicKey> ed25519(ByteView x);

  bool supports(Algorithm algorithm) const noexcept;
  /// False for a bad signature or one that is not of the JWS form (ECDSA is raw
  /// R || S of exact length, each in [1, n-1]; DER is refused) or an algorithm
  /// this key does not support.
  bool verify(Algorithm algorithm, ByteView message, ByteView signature) const;

  PublicKey(PublicKey&&) noexcept;
  PublicKey& operator=(PublicKey&&) noexcept;
  PublicKey(const PublicKey&);  // shares the immutable parsed key
  PublicKey& operator=(const PublicKey&);
  ~PublicKey();

 private:
  struct Impl;
  explicit PublicKey(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
  friend class SigningKey;
};

/// The coordinates of a public key, for a JWK: only the members of its type are set.
struct PublicParameters {
  std::string kty;  ///< RSA, EC or OKP
  std::string crv;  ///< EC and OKP
  Bytes n, e;       ///< RSA
  Bytes x, y;       ///< EC (y) and OKP
};

/// A private key that signs with one algorithm. Thread-safe.
class SigningKey {
 public:
  static SigningKey generate(Algorithm algorithm);  ///< ES256, EdDSA, RS256 (2048 bits)
  /// The private key in the form export_private() gave. Errors: Internal.
  static Result<SigningKey> import_private(Algorithm algorithm, const PrivateKey& key);
  PrivateKey export_private() const;  ///< PKCS#8 DER for RSA and EC; 32-byte seed for Ed25519

  Algorithm algorithm() const noexcept;
  PublicKey public_key() const;
  PublicParameters public_parameters() const;
  Bytes sign(ByteView message) const;  ///< JWS form

  SigningKey(SigningKey&&) noexcept;
  SigningKey& operator=(SigningKey&&) noexcept;
  ~SigningKey();

 private:
  struct Impl;
  explicit SigningKey(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::crypto
