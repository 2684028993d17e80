#include "crypto/random.h"

#include <sodium.h>

#include <array>
#include <new>

#include "core/secret.h"
#include "crypto/base64url.h"
#include "crypto/init.h"

namespace postern::crypto {

void detail::ensure_sodium() {
  static const int initialised = sodium_init();
  if (initialised < 0) throw std::bad_alloc();
}

void random_bytes(std::span<std::byte> out) {
  detail::ensure_sodium();
  if (!out.empty()) randombytes_buf(out.data(), out.size());
}

namespace {

template <std::size_t N>
std::string random_text() {
  std::array<std::byte, N> bytes{};
  random_bytes(bytes);
  auto text = base64url(bytes);
  wipe(bytes);
  return text;
}

}  // namespace

std::string random_id() { return random_text<16>(); }
std::string random_token() { return random_text<32>(); }

}  // namespace postern::crypto
