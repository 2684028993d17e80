// A box, version 1:
//
//   offset  length  content
//        0       1  0x01
//        1      32  key commitment: BLAKE2b-256, keyed with the key, over
//                   kLabel (fixed length) || nonce || aad
//       33      24  nonce, random
//       57       n  ciphertext, as long as the plaintext
//     57+n      16  Poly1305 tag
#include "crypto/aead.h"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string_view>

#include "crypto/hash.h"
#include "crypto/init.h"
#include "crypto/random.h"

namespace postern::crypto {
namespace {

constexpr std::byte kVersion{0x01};
constexpr std::string_view kLabel = "postern.seal.v1";
constexpr std::size_t kCommitmentBytes = 32;
constexpr std::size_t kNonceBytes = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr std::size_t kTagBytes = crypto_aead_xchacha20poly1305_ietf_ABYTES;
constexpr std::size_t kNonceAt = 1 + kCommitmentBytes;
constexpr std::size_t kCiphertextAt = kNonceAt + kNonceBytes;

static_assert(kKeyBytes == crypto_aead_xchacha20poly1305_ietf_KEYBYTES);
static_assert(kSealOverhead == kCiphertextAt + kTagBytes);

Hash256 commitment(ByteView key, ByteView nonce, ByteView aad) {
  crypto_generichash_state state;
  crypto_generichash_init(&state, as_uchar(key), key.size(), kCommitmentBytes);
  crypto_generichash_update(&state, as_uchar(as_bytes(kLabel)), kLabel.size());
  crypto_generichash_update(&state, as_uchar(nonce), nonce.size());
  crypto_generichash_update(&state, as_uchar(aad), aad.size());
  Hash256 result;
  crypto_generichash_final(&state, as_uchar(std::span<std::byte>(result)), result.size());
  sodium_memzero(&state, sizeof state);  // its first block is the key
  return result;
}

void require_key(ByteView key) {
  if (key.size() != kKeyBytes) throw std::logic_error("a key is 32 bytes");
}

using Nonce = std::array<std::byte, kNonceBytes>;

Bytes seal_with(ByteView key, const Nonce& fresh, ByteView plaintext, ByteView aad) {
  require_key(key);
  Bytes box(kSealOverhead + plaintext.size());
  const std::span out(box);
  out[0] = kVersion;
  const auto nonce = out.subspan(kNonceAt, kNonceBytes);
  std::copy(fresh.begin(), fresh.end(), nonce.begin());
  const auto committed = commitment(key, nonce, aad);
  std::copy(committed.begin(), committed.end(), out.begin() + 1);
  crypto_aead_xchacha20poly1305_ietf_encrypt(as_uchar(out.subspan(kCiphertextAt)), nullptr,
                                             as_uchar(plaintext), plaintext.size(), as_uchar(aad),
                                             aad.size(), nullptr, as_uchar(nonce), as_uchar(key));
  return box;
}

Result<SecureBuffer> open_with(ByteView key, ByteView sealed, ByteView aad) {
  detail::ensure_sodium();
  require_key(key);
  const auto refused = [] { return fail(ErrorCode::Internal, "", "sealed box does not open"); };
  if (sealed.size() < kSealOverhead || sealed[0] != kVersion) return refused();
  const auto nonce = sealed.subspan(kNonceAt, kNonceBytes);
  const auto ciphertext = sealed.subspan(kCiphertextAt);
  if (!equal(commitment(key, nonce, aad), sealed.subspan(1, kCommitmentBytes))) return refused();
  SecureBuffer plaintext(ciphertext.size() - kTagBytes);
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(
          as_uchar(plaintext.writable()), nullptr, nullptr, as_uchar(ciphertext), ciphertext.size(),
          as_uchar(aad), aad.size(), as_uchar(nonce), as_uchar(key)) != 0) {
    return refused();
  }
  return plaintext;
}

}  // namespace

template <class Key>
Bytes seal(const Key& key, ByteView plaintext, ByteView aad) {
  Nonce nonce;
  random_bytes(nonce);
  return key.expose([&](ByteView bytes) { return seal_with(bytes, nonce, plaintext, aad); });
}

SealedUnderFreshKey seal_under_fresh_key(ByteView plaintext, ByteView aad) {
  SecureBuffer bytes(kKeyBytes);
  Nonce nonce;
  std::array<std::byte, kKeyBytes + kNonceBytes> drawn;
  random_bytes(drawn);  // from here until it is wiped nothing throws
  std::copy_n(drawn.begin(), kKeyBytes, bytes.writable().begin());
  std::copy(drawn.begin() + kKeyBytes, drawn.end(), nonce.begin());
  wipe(drawn);
  auto box = seal_with(bytes.readable(), nonce, plaintext, aad);
  return {Dek(std::move(bytes)), std::move(box)};
}

template <class Key>
Result<SecureBuffer> open(const Key& key, ByteView sealed, ByteView aad) {
  return key.expose([&](ByteView bytes) { return open_with(bytes, sealed, aad); });
}

template Bytes seal(const RootKey&, ByteView, ByteView);
template Bytes seal(const Kek&, ByteView, ByteView);
template Bytes seal(const Dek&, ByteView, ByteView);
template Result<SecureBuffer> open(const RootKey&, ByteView, ByteView);
template Result<SecureBuffer> open(const Kek&, ByteView, ByteView);
template Result<SecureBuffer> open(const Dek&, ByteView, ByteView);

}  // namespace postern::crypto
