#include "crypto/passphrase.h"

#include <sodium.h>

#include "crypto/aead.h"
#include "crypto/init.h"

namespace postern::crypto {

static_assert(kSaltBytes == crypto_pwhash_argon2id_SALTBYTES);

Result<SecureBuffer> stretch(ByteView passphrase, const Salt& salt, StretchCost cost) {
  detail::ensure_sodium();
  if (cost.passes < 2 || cost.passes > 16 || cost.memory_mib < 8 || cost.memory_mib > 1024) {
    return fail(ErrorCode::MalformedRequest, "the cost of stretching is out of bounds");
  }
  SecureBuffer key(kKeyBytes);
  const auto memory = static_cast<std::size_t>(cost.memory_mib) * 1024 * 1024;
  if (crypto_pwhash_argon2id(as_uchar(key.writable()), key.size(),
                             reinterpret_cast<const char*>(passphrase.data()), passphrase.size(),
                             as_uchar(ByteView(salt)), cost.passes, memory,
                             crypto_pwhash_argon2id_ALG_ARGON2ID13) != 0) {
    return fail(ErrorCode::Unavailable, "there is not the memory that the passphrase takes");
  }
  return key;
}

}  // namespace postern::crypto
