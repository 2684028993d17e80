// A stored private key: in PEM, or behind an `s` what OpenSSH's form has in base64. Its
// public half is one line for authorized_keys or one PEM, and the same each time.

#include "crypto/key_pair.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "crypto/base64url.h"

using namespace postern;

namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

constexpr std::string_view kBegin = "-----BEGIN PUBLIC KEY-----\n";
constexpr std::string_view kEnd = "-----END PUBLIC KEY-----\n";

bool is_base64(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' ||
         c == '/' || c == '=';
}

bool is_ssh_line(std::string_view text) {
  for (const std::string_view kind : {"ssh-ed25519 ", "ssh-rsa "}) {
    if (text.starts_with(kind)) {
      text.remove_prefix(kind.size());
      return !text.empty() && std::all_of(text.begin(), text.end(), is_base64);
    }
  }
  return false;
}

bool is_pem(std::string_view text) {
  if (!text.starts_with(kBegin) || !text.ends_with(kEnd)) return false;
  text.remove_prefix(kBegin.size());
  text.remove_suffix(kEnd.size());
  return std::all_of(text.begin(), text.end(), [](char c) { return c == '\n' || is_base64(c); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  const bool openssh = text.starts_with("s");
  if (openssh) {
    text = "-----BEGIN OPENSSH PRIVATE KEY-----\n" +
           crypto::base64(as_bytes(std::string_view(text).substr(1))) +
           "\n-----END OPENSSH PRIVATE KEY-----\n";
  }
  const auto found = crypto::public_half(text);
  if (!found) return 0;
  require(is_ssh_line(*found) || (!openssh && is_pem(*found)));
  require(crypto::public_half(text) == found);
  return 0;
}
