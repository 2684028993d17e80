#include "storage/scram_verifier.h"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/bytes.h"
#include "crypto/random.h"

namespace postern::storage {
namespace {

using Digest = std::array<unsigned char, crypto_auth_hmacsha256_BYTES>;

Digest hmac(std::string_view key, std::string_view message) {
  Digest out;
  crypto_auth_hmacsha256_state state;
  crypto_auth_hmacsha256_init(&state, as_uchar(as_bytes(key)), key.size());
  crypto_auth_hmacsha256_update(&state, as_uchar(as_bytes(message)), message.size());
  crypto_auth_hmacsha256_final(&state, out.data());
  return out;
}

std::string_view view(const Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

/// PBKDF2 (RFC 8018) of one block, which is all SCRAM needs.
Digest salted_password(std::string_view password, std::string_view salt, unsigned iterations) {
  using namespace std::string_view_literals;
  auto block = hmac(password, std::string(salt) + std::string("\0\0\0\1"sv));
  auto out = block;
  for (unsigned i = 1; i < iterations; ++i) {
    block = hmac(password, view(block));
    std::transform(
        out.begin(), out.end(), block.begin(), out.begin(),
        [](unsigned char a, unsigned char b) { return static_cast<unsigned char>(a ^ b); });
  }
  return out;
}

std::string base64(std::string_view bytes) {
  std::string out(sodium_base64_encoded_len(bytes.size(), sodium_base64_VARIANT_ORIGINAL), '\0');
  sodium_bin2base64(out.data(), out.size(), as_uchar(as_bytes(bytes)), bytes.size(),
                    sodium_base64_VARIANT_ORIGINAL);
  out.pop_back();  // the terminating NUL
  return out;
}

}  // namespace

std::string scram_verifier(std::string_view password, std::string_view salt, unsigned iterations) {
  auto salted = salted_password(password, salt, iterations);
  auto client_key = hmac(view(salted), "Client Key");
  Digest stored_key;
  crypto_hash_sha256(stored_key.data(), client_key.data(), client_key.size());
  const auto server_key = hmac(view(salted), "Server Key");
  sodium_memzero(salted.data(), salted.size());
  sodium_memzero(client_key.data(), client_key.size());
  return "SCRAM-SHA-256$" + std::to_string(iterations) + ":" + base64(salt) + "$" +
         base64(view(stored_key)) + ":" + base64(view(server_key));
}

Result<std::string> scram_verifier(std::string_view password) {
  const bool printable =
      std::all_of(password.begin(), password.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (password.empty() || password.size() > 200 || !printable) {
    return fail(ErrorCode::MalformedRequest,
                "a database password is 1 to 200 printable ASCII characters without blanks");
  }
  std::array<std::byte, 16> salt;
  crypto::random_bytes(salt);
  return scram_verifier(password, as_text(salt), 4096);
}

}  // namespace postern::storage
