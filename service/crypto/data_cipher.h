#pragma once

#include <cstddef>

#include "core/bytes.h"
#include "core/result.h"
#include "core/secret.h"
#include "crypto/data_key.h"

namespace postern::crypto {

/// AEADs that clients ask for by name, to have their own data encrypted. For what is
/// stored here there is crypto::seal().
enum class DataCipher { Aes256Gcm, ChaCha20Poly1305 };

/// Nonce and tag.
inline constexpr std::size_t kDataCipherOverhead = 12 + 16;

/// Under a fresh random nonce of 96 bits: a key is good for 2^32 messages.
/// @param key  exactly 32 bytes (throws std::logic_error otherwise).
/// @return     nonce (12) || ciphertext || tag (16).
Bytes encrypt_data(DataCipher cipher, const DataKey& key, ByteView plaintext, ByteView aad);

/// Reverses encrypt_data(). Thread-safe. Errors: MalformedRequest when it does not
/// verify, alike for every cause; then there is no plaintext.
Result<Plaintext> decrypt_data(DataCipher cipher, const DataKey& key, ByteView encrypted,
                               ByteView aad);

}  // namespace postern::crypto
