#include "crypto/hmac.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstddef>
#include <span>
#include <stdexcept>

namespace postern::crypto {
namespace {

const EVP_MD* digest_of(HashFunction hash) {
  switch (hash) {
    case HashFunction::Sha256: return EVP_sha256();
    case HashFunction::Sha384: return EVP_sha384();
    case HashFunction::Sha512: return EVP_sha512();
  }
  throw std::logic_error("an unknown hash function");
}

void hmac_into(HashFunction hash, ByteView key, ByteView message, std::span<std::byte> out) {
  unsigned length = 0;
  if (HMAC(digest_of(hash), key.data(), static_cast<int>(key.size()), as_uchar(message),
           message.size(), as_uchar(out), &length) == nullptr ||
      length != out.size()) {
    throw std::runtime_error("OpenSSL operation failed");
  }
}

}  // namespace

Bytes hmac(HashFunction hash, const DataKey& key, ByteView message) {
  Bytes out(static_cast<std::size_t>(EVP_MD_get_size(digest_of(hash))));
  key.expose([&](ByteView bytes) { hmac_into(hash, bytes, message, out); });
  return out;
}

DataKey hkdf_sha256(const DataKey& key, ByteView info) {
  const Bytes salt(32);  // RFC 5869 §2.2: zeros when there is none
  SecureBuffer extracted(32);
  key.expose(
      [&](ByteView bytes) { hmac_into(HashFunction::Sha256, salt, bytes, extracted.writable()); });
  Bytes first(info.begin(), info.end());  // §2.3: T(1), which is all of it
  first.push_back(std::byte{1});
  SecureBuffer out(32);
  hmac_into(HashFunction::Sha256, extracted.readable(), first, out.writable());
  return DataKey(std::move(out));
}

}  // namespace postern::crypto
