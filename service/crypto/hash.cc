#include "crypto/hash.h"

#include <openssl/evp.h>
#include <sodium.h>

#include <algorithm>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <utility>

#include "crypto/init.h"

namespace postern::crypto {
namespace {

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const noexcept { EVP_MD_CTX_free(context); }
};

// OpenSSL's SHA-256 uses the processor's SHA instructions; libsodium's does not.
// The fetched algorithm and a context a thread are kept, because fetching and
// allocating cost several times the hash of a short text.
EVP_MD_CTX* start_sha256() {
  static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  thread_local const std::unique_ptr<EVP_MD_CTX, FreeContext> context(EVP_MD_CTX_new());
  if (algorithm == nullptr || context == nullptr ||
      EVP_DigestInit_ex2(context.get(), algorithm, nullptr) != 1) {
    throw std::bad_alloc();
  }
  return context.get();
}

void add(EVP_MD_CTX* context, ByteView bytes) {
  if (EVP_DigestUpdate(context, bytes.data(), bytes.size()) != 1) throw std::bad_alloc();
}

Hash256 finish(EVP_MD_CTX* context) {
  Hash256 hash;
  if (EVP_DigestFinal_ex(context, as_uchar(std::span<std::byte>(hash)), nullptr) != 1) {
    throw std::bad_alloc();
  }
  return hash;
}

std::array<std::byte, 8> length_prefix(std::size_t length) {
  std::array<std::byte, 8> prefix;
  for (std::size_t i = prefix.size(); i-- > 0; length >>= 8) prefix[i] = std::byte(length & 0xff);
  return prefix;
}

DerivedKey derive_from(ByteView key, std::string_view label, std::uint64_t id) {
  detail::ensure_sodium();
  if (key.size() != crypto_kdf_KEYBYTES) throw std::logic_error("a key is 32 bytes");
  // Shorter labels are padded with zeros, so a zero inside would be ambiguous.
  if (label.empty() || label.size() > crypto_kdf_CONTEXTBYTES ||
      label.find('\0') != std::string_view::npos) {
    throw std::logic_error("a derivation label is 1 to 8 bytes");
  }
  std::array<char, crypto_kdf_CONTEXTBYTES> context{};
  std::copy(label.begin(), label.end(), context.begin());
  SecureBuffer derived(32);
  crypto_kdf_derive_from_key(as_uchar(derived.writable()), derived.size(), id, context.data(),
                             as_uchar(key));
  return DerivedKey(std::move(derived));
}

template <class Key>
void keyed_hash_into(const Key& key, std::initializer_list<ByteView> parts,
                     std::span<std::byte> hash) {
  detail::ensure_sodium();
  if (key.size() != 32) throw std::logic_error("a hash key is 32 bytes");
  crypto_generichash_state state;
  key.expose([&](ByteView bytes) {
    crypto_generichash_init(&state, as_uchar(bytes), bytes.size(), hash.size());
  });
  for (const auto part : parts) {
    const auto prefix = length_prefix(part.size());
    crypto_generichash_update(&state, as_uchar(ByteView(prefix)), prefix.size());
    crypto_generichash_update(&state, as_uchar(part), part.size());
  }
  crypto_generichash_final(&state, as_uchar(hash), hash.size());
  sodium_memzero(&state, sizeof state);
}

}  // namespace

Hash256 sha256(ByteView bytes) {
  auto* const context = start_sha256();
  add(context, bytes);
  return finish(context);
}

Hash256 sha256_parts(std::initializer_list<ByteView> parts) {
  auto* const context = start_sha256();
  for (const auto part : parts) {
    add(context, length_prefix(part.size()));
    add(context, part);
  }
  return finish(context);
}

Hash256 keyed_hash(const DerivedKey& key, std::initializer_list<ByteView> parts) {
  Hash256 hash;
  keyed_hash_into(key, parts, hash);
  return hash;
}

Hash256 keyed_hash(const HeldShare& key, std::initializer_list<ByteView> parts) {
  Hash256 hash;
  keyed_hash_into(key, parts, hash);
  return hash;
}

Kek combine(const Kek& key, std::initializer_list<ByteView> parts) {
  SecureBuffer combined(sizeof(Hash256));
  keyed_hash_into(key, parts, combined.writable());
  return Kek(std::move(combined));
}

bool equal(ByteView a, ByteView b) noexcept {
  if (a.size() == crypto_verify_32_BYTES && b.size() == a.size()) {
    return crypto_verify_32(as_uchar(a), as_uchar(b)) == 0;  // as constant in time, and faster
  }
  return a.size() == b.size() && (a.empty() || sodium_memcmp(a.data(), b.data(), a.size()) == 0);
}

DerivedKey derive(const Kek& key, std::string_view label, std::uint64_t id) {
  return key.expose([&](ByteView bytes) { return derive_from(bytes, label, id); });
}
DerivedKey derive(const RootKey& key, std::string_view label, std::uint64_t id) {
  return key.expose([&](ByteView bytes) { return derive_from(bytes, label, id); });
}

}  // namespace postern::crypto
