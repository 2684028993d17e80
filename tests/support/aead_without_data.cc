// All of crypto/aead.h with a cipher that knows no associated data. A program that is
// linked with this has it in the place of the library's own: what is sealed in it does
// not say whose it is. For tests that take this wall away.

#include <sodium.h>

#include <algorithm>
#include <span>

#include "crypto/aead.h"
#include "crypto/random.h"

namespace postern::crypto {
namespace {

constexpr std::size_t kNonceBytes = crypto_secretbox_NONCEBYTES;
static_assert(kNonceBytes + crypto_secretbox_MACBYTES < kSealOverhead);
static_assert(kKeyBytes == crypto_secretbox_KEYBYTES);

}  // namespace

// nonce || box || zeros, as long as the real one.
template <class Key>
Bytes seal(const Key& key, ByteView plaintext, ByteView) {
  Bytes sealed(kSealOverhead + plaintext.size());
  const std::span out(sealed);
  random_bytes(out.first(kNonceBytes));
  key.expose([&](ByteView bytes) {
    crypto_secretbox_easy(as_uchar(out.subspan(kNonceBytes)), as_uchar(plaintext), plaintext.size(),
                          as_uchar(out.first(kNonceBytes)), as_uchar(bytes));
  });
  return sealed;
}

template <class Key>
Result<SecureBuffer> open(const Key& key, ByteView sealed, ByteView) {
  const auto refused = fail(ErrorCode::Internal, "", "sealed box does not open");
  if (sealed.size() < kSealOverhead) return refused;
  SecureBuffer plaintext(sealed.size() - kSealOverhead);
  const auto box =
      sealed.subspan(kNonceBytes, crypto_secretbox_MACBYTES + plaintext.readable().size());
  const auto opened = key.expose([&](ByteView bytes) {
    return crypto_secretbox_open_easy(as_uchar(plaintext.writable()), as_uchar(box), box.size(),
                                      as_uchar(sealed.first(kNonceBytes)), as_uchar(bytes));
  });
  if (opened != 0) return refused;
  return plaintext;
}

SealedUnderFreshKey seal_under_fresh_key(ByteView plaintext, ByteView aad) {
  SecureBuffer bytes(kKeyBytes);
  random_bytes(bytes.writable());
  Dek key(std::move(bytes));
  auto box = seal(key, plaintext, aad);
  return {std::move(key), std::move(box)};
}

template Bytes seal(const RootKey&, ByteView, ByteView);
template Bytes seal(const Kek&, ByteView, ByteView);
template Bytes seal(const Dek&, ByteView, ByteView);
template Result<SecureBuffer> open(const RootKey&, ByteView, ByteView);
template Result<SecureBuffer> open(const Kek&, ByteView, ByteView);
template Result<SecureBuffer> open(const Dek&, ByteView, ByteView);

}  // namespace postern::crypto
