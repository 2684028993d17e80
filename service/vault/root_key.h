#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/secret.h"

namespace postern::vault {

/// All versions of the root key that this process was given. The first line of
/// the file is the active one; later ones only unwrap.
///
/// File format, one key a line: `postern-root-key-v1:<id>:<base64url of 32 bytes>`,
/// where <id> is 16 hexadecimal digits derived from the key (so a mix-up shows).
/// Lines that are empty or begin with # are skipped.
class RootKeys {
 public:
  /// Errors: Unavailable with the path's problem: missing, not a regular file,
  /// readable by group or others, owned by neither this user nor root, malformed.
  static Result<RootKeys> load(const std::filesystem::path& file);
  /// Writes a new file with one fresh key, mode 0600, never over an existing one, fsynced.
  static Status create(const std::filesystem::path& file);
  /// Puts a fresh key first in such a file, so that it becomes the active one; the
  /// others stay. Whole or not at all; owner and group stay, the mode is 0600.
  /// Returns the new key's id. Errors: as load(), and Conflict while another does so.
  static Result<std::string> add_to(const std::filesystem::path& file);
  static RootKeys generate();  ///< in memory only, for tests
  /// No key at all: nothing opens, and nothing new is made.
  static RootKeys none() { return RootKeys(); }
  /// The text of such a file. Errors: Unavailable with the number of the bad line.
  static Result<RootKeys> parse(std::string_view text);

  bool empty() const noexcept { return ids_.empty(); }
  /// "" when there is none.
  const std::string& active_id() const noexcept { return active_id_; }
  const RootKey& active() const { return keys_.at(active_id_); }
  const std::vector<std::string>& ids() const noexcept { return ids_; }  ///< the active one first
  const RootKey* find(std::string_view id) const;

  RootKeys(RootKeys&&) = default;
  RootKeys& operator=(RootKeys&&) = default;

 private:
  RootKeys() = default;
  void add(RootKey key, std::string id);

  std::string active_id_;
  std::vector<std::string> ids_;
  std::map<std::string, RootKey, std::less<>> keys_;
};

/// Ids as logs and status show them. What stands in a row may be anything.
bool is_root_key_id(std::string_view id) noexcept;
std::string root_key_ids(const std::vector<std::string>& ids);  ///< "a,b"; "none"; "malformed"

}  // namespace postern::vault
