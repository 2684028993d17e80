#include "http/basic_auth.h"

#include <cstddef>
#include <optional>

#include "crypto/base64url.h"
#include "http/ascii.h"

namespace postern::http {
namespace {

constexpr std::size_t kMaxHeaderBytes = 16 * 1024;

/// What follows the scheme and its blanks; nothing when the scheme differs.
std::optional<std::string_view> after_scheme(std::string_view value, std::string_view scheme) {
  if (value.size() <= scheme.size() || !ascii_iequals(value.substr(0, scheme.size()), scheme)) {
    return std::nullopt;
  }
  value.remove_prefix(scheme.size());
  if (value.front() != ' ') return std::nullopt;
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  return value;
}

/// Decodes form encoding into a buffer of its own; nothing when malformed.
std::optional<SecureBuffer> form_decode(std::string_view text) {
  SecureBuffer decoded(text.size());
  std::size_t size = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '+') {
      c = ' ';
    } else if (c == '%') {
      if (text.size() - i < 3) return std::nullopt;
      const int high = hex_value(text[i + 1]);
      const int low = hex_value(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    // RFC 6749 appendix A: client_id and client_secret are VSCHAR.
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return std::nullopt;
    decoded.writable()[size++] = static_cast<std::byte>(c);
  }
  const auto used = decoded.readable().first(size);
  if (!is_utf8(as_text(used))) return std::nullopt;
  return SecureBuffer::copy_of(used);
}

}  // namespace

Result<std::pair<std::string, ClientSecret>> basic_credentials(std::string_view header_value) {
  const auto refused = [] {
    return fail(ErrorCode::InvalidClient, "the Authorization header is not valid HTTP Basic");
  };
  if (header_value.size() > kMaxHeaderBytes) return refused();
  const auto encoded = after_scheme(header_value, "Basic");
  if (!encoded) return refused();
  auto decoded = crypto::base64_decode(*encoded);
  if (!decoded.ok()) return refused();

  struct Wiper {
    Bytes& bytes;
    ~Wiper() { wipe(bytes); }
  } const wiper{decoded.value()};
  const auto text = as_text(decoded.value());
  const auto colon = text.find(':');
  if (colon == text.npos) return refused();
  const auto client_id = form_decode(text.substr(0, colon));
  auto secret = form_decode(text.substr(colon + 1));
  if (!client_id || client_id->size() == 0 || !secret) return refused();
  return std::pair{std::string(as_text(client_id->readable())), ClientSecret(std::move(*secret))};
}

Result<BearerToken> bearer_token(std::string_view header_value) {
  return bare_token(after_scheme(header_value, "Bearer").value_or(""));
}

Result<BearerToken> bare_token(std::string_view token) {
  const auto refused = [] {
    return fail(ErrorCode::Unauthenticated, "a bearer token is required");
  };
  if (token.size() > kMaxHeaderBytes) return refused();
  // b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
  const auto end = token.find_last_not_of('=');
  if (end == token.npos) return refused();
  for (const char c : token.substr(0, end + 1)) {
    const bool allowed =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
        (c != '\0' && std::string_view("-._~+/").find(c) != std::string_view::npos);
    if (!allowed) return refused();
  }
  return BearerToken(SecureBuffer::copy_of(token));
}

}  // namespace postern::http
