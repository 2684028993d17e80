#include "crypto/data_cipher.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include <climits>
#include <memory>
#include <span>
#include <stdexcept>

#include "crypto/random.h"

namespace postern::crypto {
namespace {

constexpr std::size_t kNonceBytes = 12;
constexpr std::size_t kTagBytes = 16;
constexpr std::size_t kDataKeyBytes = 32;
static_assert(kDataCipherOverhead == kNonceBytes + kTagBytes);

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
};
using ContextPtr = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

void require(bool done) {
  if (done) return;
  ERR_clear_error();
  throw std::runtime_error("OpenSSL operation failed");
}

const EVP_CIPHER* cipher_of(DataCipher cipher) {
  return cipher == DataCipher::Aes256Gcm ? EVP_aes_256_gcm() : EVP_chacha20_poly1305();
}

int length_of(ByteView bytes) {
  if (bytes.size() > INT_MAX) throw std::logic_error("too long for one message");
  return static_cast<int>(bytes.size());
}

enum Direction : int { kDecrypt = 0, kEncrypt = 1 };

/// Ready for data: key, nonce and associated data are in.
ContextPtr begin(DataCipher cipher, ByteView key, ByteView nonce, ByteView aad,
                 Direction direction) {
  if (key.size() != kDataKeyBytes) throw std::logic_error("a data key is 32 bytes");
  ContextPtr context(EVP_CIPHER_CTX_new());
  int length = 0;
  require(context && EVP_CipherInit_ex(context.get(), cipher_of(cipher), nullptr, as_uchar(key),
                                       as_uchar(nonce), direction) == 1);
  require(aad.empty() ||
          EVP_CipherUpdate(context.get(), nullptr, &length, as_uchar(aad), length_of(aad)) == 1);
  return context;
}

}  // namespace

Bytes encrypt_data(DataCipher cipher, const DataKey& key, ByteView plaintext, ByteView aad) {
  Bytes out(kDataCipherOverhead + plaintext.size());
  const std::span all(out);
  const auto nonce = all.first(kNonceBytes);
  const auto body = all.subspan(kNonceBytes, plaintext.size());
  const auto tag = all.last(kTagBytes);
  random_bytes(nonce);
  key.expose([&](ByteView bytes) {
    const auto context = begin(cipher, bytes, nonce, aad, kEncrypt);
    int length = 0;
    require(plaintext.empty() || EVP_CipherUpdate(context.get(), as_uchar(body), &length,
                                                  as_uchar(plaintext), length_of(plaintext)) == 1);
    require(EVP_CipherFinal_ex(context.get(), as_uchar(tag), &length) == 1 && length == 0);
    require(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, static_cast<int>(kTagBytes),
                                as_uchar(tag)) == 1);
  });
  return out;
}

Result<Plaintext> decrypt_data(DataCipher cipher, const DataKey& key, ByteView encrypted,
                               ByteView aad) {
  const auto refused = fail(ErrorCode::MalformedRequest, "invalid ciphertext: unable to decrypt");
  if (encrypted.size() < kDataCipherOverhead) return refused;
  const auto body = encrypted.subspan(kNonceBytes, encrypted.size() - kDataCipherOverhead);
  Bytes tag(encrypted.end() - kTagBytes, encrypted.end());  // OpenSSL wants to write there
  SecureBuffer out(body.size());
  const bool genuine = key.expose([&](ByteView bytes) {
    const auto context = begin(cipher, bytes, encrypted.first(kNonceBytes), aad, kDecrypt);
    int length = 0;
    require(body.empty() || EVP_CipherUpdate(context.get(), as_uchar(out.writable()), &length,
                                             as_uchar(body), length_of(body)) == 1);
    require(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, static_cast<int>(kTagBytes),
                                tag.data()) == 1);
    unsigned char none[16];  // nothing comes at the end
    return EVP_CipherFinal_ex(context.get(), none, &length) == 1;
  });
  ERR_clear_error();
  if (!genuine) return refused;  // `out` is wiped with what was decrypted so far
  return Plaintext(std::move(out));
}

}  // namespace postern::crypto
