#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "core/bytes.h"
#include "core/result.h"
#include "core/secret.h"

namespace postern::crypto {

/// A token of a PKCS #11 (2.40) module, logged in to: an HSM, a smart card, SoftHSM.
/// What it encrypts it alone can decrypt: its keys do not leave it. One at a time in
/// a process; used by one thread.
class Pkcs11Token {
 public:
  static constexpr std::size_t kNonceBytes = 12;
  static constexpr std::size_t kTagBytes = 16;

  /// Loads the module (it stays loaded: few can be unloaded safely), finds the token
  /// of that label and logs in to it. The module runs within this process: it must
  /// belong to root or this user and be writable by nobody else.
  /// Errors: Unavailable with what to do, and never the PIN; Unauthenticated when the
  /// token did not take the PIN: each such try may bring it nearer to locking itself.
  static Result<Pkcs11Token> open(const std::filesystem::path& module, std::string_view label,
                                  std::string_view pin);
  ~Pkcs11Token();
  Pkcs11Token(Pkcs11Token&&) noexcept;
  Pkcs11Token& operator=(Pkcs11Token&&) = delete;

  /// Makes an AES-256 key that is sensitive, cannot be extracted, and encrypts and
  /// decrypts only. Errors: Conflict when there is one of that label; Unavailable.
  Status make_key(std::string_view label);
  /// Errors: NotFound, Conflict (two keys of that label), Unavailable.
  Status find_key(std::string_view label);

  /// AES-256-GCM (CKM_AES_GCM) with a tag of 16 bytes, by the secret key of that
  /// label. Errors: as find_key().
  Result<Bytes> encrypt(std::string_view key, ByteView nonce, ByteView plain, ByteView associated);
  /// Errors: as find_key(); Unavailable when it does not open, alike for every cause.
  Result<SecureBuffer> decrypt(std::string_view key, ByteView nonce, ByteView box,
                               ByteView associated);

 private:
  struct Impl;
  explicit Pkcs11Token(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::crypto
