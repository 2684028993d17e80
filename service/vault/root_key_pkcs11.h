#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/secret.h"
#include "vault/root_key_provider.h"

namespace postern::vault {

/// Root keys that a PKCS #11 token has encrypted, and that it alone can decrypt.
///
/// The file has one key a line, the active one first, and is no secret:
/// `postern-root-pkcs11-v1:<id>:<label of the token's key>:<base64url of the nonce and
/// the box>`. AES-256-GCM, associated data: all before the last colon. <id> is that of
/// the root key.
///
/// The token is asked at start and when a file changes. A PIN that it refused is tried
/// again only when the PIN's file has changed, or at SIGHUP: tokens lock themselves.
class RootKeyPkcs11 final : public RootKeyProvider {
 public:
  /// Reads a secret file; refuses one that others can read.
  using ReadSecret = std::function<Result<SecureBuffer>(const std::filesystem::path&)>;
  struct Where {
    std::filesystem::path module;    ///< absolute path of the token's shared library
    std::string token;               ///< the token's label
    std::filesystem::path pin_file;  ///< the first line of it, without its end
  };

  RootKeyPkcs11(std::filesystem::path keys, Where where, ReadSecret read,
                std::chrono::seconds again_after = std::chrono::seconds(30))
      : keys_(std::move(keys)),
        where_(std::move(where)),
        read_(std::move(read)),
        again_after_(again_after) {}

  Result<RootKeys> load() override;
  bool changed() override;

  /// A new file with one fresh root key, of mode 0600, never over an existing one;
  /// makes the token's key when there is none of that label. Returns the root key's id.
  /// Errors: MalformedRequest for a label that is not 1 to 64 letters, digits, `_`, `.`
  /// or `-`; those of crypto::Pkcs11Token; Conflict.
  static Result<std::string> create(const std::filesystem::path& keys, const Where& where,
                                    std::string_view label, const ReadSecret& read);
  /// Puts a fresh root key first in such a file. Errors: as above.
  static Result<std::string> add_to(const std::filesystem::path& keys, const Where& where,
                                    std::string_view label, const ReadSecret& read);
  static bool is_line(std::string_view line);

 private:
  Result<RootKeys> ask();

  const std::filesystem::path keys_;
  const Where where_;
  const ReadSecret read_;
  const std::chrono::seconds again_after_;
  std::optional<std::pair<FileStamp, FileStamp>> loaded_;
  std::optional<std::chrono::steady_clock::time_point> again_;  ///< when it failed for now
};

}  // namespace postern::vault
