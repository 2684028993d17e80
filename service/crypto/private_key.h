#pragma once

#include <optional>
#include <string_view>

namespace postern::crypto {

/// How a private key is written down.
struct PrivateKeyForm {
  bool openssh = false;    ///< as ssh-keygen does; else PKCS#8, or RSA's and EC's own form
  bool encrypted = false;  ///< takes a passphrase; then only its frame could be read
};

/// The private key in a PEM text, beside which certificates and parameters may
/// stand. Nothing when there is none or more than one, or OpenSSL does not read
/// it; of an OpenSSH key the structure is read. No passphrase is ever tried,
/// because a text can ask for any amount of work for one. Thread-safe.
std::optional<PrivateKeyForm> private_key_form(std::string_view pem);

}  // namespace postern::crypto
