#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/secret.h"
#include "crypto/passphrase.h"
#include "vault/root_key_provider.h"

namespace postern::vault {

/// Root keys that are stretched from passphrases.
///
/// The file that says how has one key a line, the active one first, and is no secret:
/// `postern-root-argon2id-v1:<id>:<passes>:<memory in MiB>:<base64url of 16 bytes of salt>`.
/// Lines that are empty or begin with # are skipped; at most four keys. <id> is that of
/// the root key, so a wrong passphrase shows.
///
/// The passphrases are in another file, one a line, the one for new keys first; each
/// line of the first file is tried with each until one fits. A passphrase has 16 bytes
/// at least: who has the database can try as many as he likes.
class RootKeyPassphrase final : public RootKeyProvider {
 public:
  /// Reads a secret file; refuses one that others can read.
  using ReadSecret = std::function<Result<SecureBuffer>(const std::filesystem::path&)>;

  RootKeyPassphrase(std::filesystem::path parameters, std::filesystem::path passphrases,
                    ReadSecret read)
      : parameters_(std::move(parameters)),
        passphrases_(std::move(passphrases)),
        read_(std::move(read)) {}

  Result<RootKeys> load() override;
  bool changed() override;

  /// A line for a new key, of the first passphrase in the text and fresh salt.
  /// Errors: MalformedRequest, Unavailable.
  static Result<std::string> new_line(std::string_view passphrases, crypto::StretchCost cost);
  /// A new file of parameters, of mode 0600, never over an existing one. Returns the id.
  static Result<std::string> create(const std::filesystem::path& parameters,
                                    std::string_view passphrases, crypto::StretchCost cost);
  /// Puts a line for a new key first in such a file, whole or not at all. Returns the id.
  /// Errors: as above, and Conflict while another does so.
  static Result<std::string> add_to(const std::filesystem::path& parameters,
                                    std::string_view passphrases, crypto::StretchCost cost);
  /// The root keys of such a file's text. Errors: Unavailable, alike for every
  /// passphrase that does not fit.
  static Result<RootKeys> derive(std::string_view parameters, std::string_view passphrases);
  static bool is_line(std::string_view line);

 private:
  const std::filesystem::path parameters_, passphrases_;
  const ReadSecret read_;
  std::optional<std::pair<FileStamp, FileStamp>> loaded_;
};

}  // namespace postern::vault
