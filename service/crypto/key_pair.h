#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/secret.h"

namespace postern::crypto {

enum class KeyPairKind { Ed25519, P256, P384, Rsa3072, Rsa4096 };
std::string_view to_string(KeyPairKind kind) noexcept;  ///< "ed25519", "p-256", …, "rsa-4096"
std::optional<KeyPairKind> parse_key_pair_kind(std::string_view text) noexcept;

struct KeyPair {
  SecureBuffer private_text;
  std::string public_text;  ///< may be shown
};

/// PKCS#8 and SubjectPublicKeyInfo in PEM, not encrypted. RSA takes up to seconds.
KeyPair make_pem_key_pair(KeyPairKind kind);
/// OpenSSH's own form, not encrypted, and a line for authorized_keys with the comment.
/// Ed25519 and RSA alone; throws logic_error for others.
/// @param comment  one line of printable ASCII
KeyPair make_ssh_key_pair(KeyPairKind kind, std::string_view comment);

/// The public half of a private key that is not encrypted, computed from its secret
/// numbers and written as the functions above write it (SSH: without comment). Nothing for
/// what is no such key, or whose halves are not of one pair.
std::optional<std::string> public_half(std::string_view private_text);

}  // namespace postern::crypto
