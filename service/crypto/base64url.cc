#include "crypto/base64url.h"

#include <sodium.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "crypto/init.h"

namespace postern::crypto {
namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::uint8_t kNotInAlphabet = 0xff;

constexpr auto kValues = [] {
  std::array<std::uint8_t, 256> values{};
  values.fill(kNotInAlphabet);
  for (std::size_t i = 0; i < kAlphabet.size(); ++i) {
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::uint8_t>(i);
  }
  return values;
}();

}  // namespace

// Tokens are encoded and decoded with tables: libsodium's codec below has no
// look-ups that depend on the data, for secrets, but takes six times as long.

std::string base64url(ByteView bytes) {
  std::string text((bytes.size() * 4 + 2) / 3, '\0');
  std::size_t length = 0;
  std::uint32_t bits = 0;
  int count = 0;
  for (const auto byte : bytes) {
    bits = bits << 8 | std::to_integer<std::uint32_t>(byte);
    for (count += 8; count >= 6;) {
      count -= 6;
      text[length++] = kAlphabet[bits >> count & 0x3f];
    }
  }
  if (count > 0) text[length++] = kAlphabet[bits << (6 - count) & 0x3f];
  return text;
}

Result<Bytes> base64url_decode(std::string_view text) {
  Bytes bytes(text.size() / 4 * 3 + text.size() % 4 * 3 / 4);
  std::size_t length = 0;
  std::uint32_t bits = 0;
  int count = 0;
  std::uint8_t seen = 0;
  for (const char c : text) {
    const auto value = kValues[static_cast<unsigned char>(c)];
    seen |= value;
    bits = bits << 6 | (value & 0x3fU);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes[length++] = static_cast<std::byte>(bits >> count & 0xff);
    }
  }
  // Values are below 64, so the top bit shows that some character was none of ours.
  // Six bits left over are a lone character; other left-over bits must be zero.
  const std::uint32_t unused = bits & ((1U << count) - 1);
  if ((seen & 0x80) != 0 || count == 6 || unused != 0) {
    return fail(ErrorCode::MalformedRequest, "malformed base64url text");
  }
  return bytes;
}

std::string base64(ByteView bytes) {
  detail::ensure_sodium();
  constexpr int kVariant = sodium_base64_VARIANT_ORIGINAL;
  std::string text(sodium_base64_encoded_len(bytes.size(), kVariant), '\0');
  sodium_bin2base64(text.data(), text.size(), as_uchar(bytes), bytes.size(), kVariant);
  text.pop_back();  // libsodium counts and writes a NUL
  return text;
}

Result<Bytes> base64_decode(std::string_view text) {
  detail::ensure_sodium();
  Bytes bytes(text.size() / 4 * 3 + 3);
  std::size_t length = 0;
  // libsodium takes a byte above 127 for a slash, where char is signed.
  unsigned char seen = 0;
  for (const char c : text) seen |= static_cast<unsigned char>(c);
  // Without an end pointer it requires that all of the text was used.
  if ((seen & 0x80) != 0 ||
      sodium_base642bin(as_uchar(std::span(bytes)), bytes.size(), text.data(), text.size(), nullptr,
                        &length, nullptr, sodium_base64_VARIANT_ORIGINAL) != 0) {
    return fail(ErrorCode::MalformedRequest, "malformed base64 text");
  }
  bytes.resize(length);
  return bytes;
}

}  // namespace postern::crypto
