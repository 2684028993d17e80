#pragma once

#include <cstddef>

#include "core/bytes.h"
#include "core/result.h"
#include "core/secret.h"

namespace postern::crypto {

inline constexpr std::size_t kKeyBytes = 32;

/// Bytes of seal() beyond the plaintext: version 1, commitment 32, nonce 24, tag 16.
inline constexpr std::size_t kSealOverhead = 1 + 32 + 24 + 16;

/// Encrypts with XChaCha20-Poly1305-IETF under a fresh random nonce.
///
/// Poly1305 does not commit to a key, so the box also carries a key commitment:
/// BLAKE2b-256 keyed with the key over label, nonce and aad. A box opens under
/// one key only.
///
/// @param key  exactly kKeyBytes bytes (throws std::logic_error otherwise).
/// @param aad  authenticated, not encrypted; rebuilt byte for byte to open.
///             Build it with vault::Aad, never by hand.
/// @return     0x01 || commitment (32) || nonce (24) || ciphertext || tag (16).
///
/// There is no nonce parameter on purpose: a repeated nonce breaks the cipher.
template <class Key>
Bytes seal(const Key& key, ByteView plaintext, ByteView aad);

/// A box as seal() makes it, and the key made for it alone.
struct SealedUnderFreshKey {
  Dek key;
  Bytes box;
};
/// Key and nonce come of one call for random bytes, as each call is one of the system.
SealedUnderFreshKey seal_under_fresh_key(ByteView plaintext, ByteView aad);

/// Reverses seal(). Thread-safe.
///
/// Errors: Internal when it does not verify: wrong key, wrong aad (for example
/// another tenant's row), altered bytes or unknown version. All look alike by
/// design, and no plaintext is returned for any of them.
template <class Key>
Result<SecureBuffer> open(const Key& key, ByteView sealed, ByteView aad);

extern template Bytes seal(const RootKey&, ByteView, ByteView);
extern template Bytes seal(const Kek&, ByteView, ByteView);
extern template Bytes seal(const Dek&, ByteView, ByteView);
extern template Result<SecureBuffer> open(const RootKey&, ByteView, ByteView);
extern template Result<SecureBuffer> open(const Kek&, ByteView, ByteView);
extern template Result<SecureBuffer> open(const Dek&, ByteView, ByteView);

}  // namespace postern::crypto
