#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "postern/json.h"

/// Reads manifests: YAML in files, JSON for the server. YAML is read as plain
/// JSON in another spelling; what makes it surprising is refused (duplicate
/// keys, anchors and aliases, tags, merge keys, `010`, keys that are no text).
namespace postern::cli {

using sdk::Json;

struct Position {
  std::size_t line = 0;  ///< from 1; 0 when unknown
  std::size_t column = 0;
};

/// One fault, as `file:line:column: place: message`.
struct Fault {
  std::string file;
  Position position;
  std::string place;  ///< `backends[0].audience`; may be empty
  std::string message;

  std::string text() const;
};

/// One YAML document as JSON, with the place of each value in its file.
class Document {
 public:
  Document(std::string file, sdk::SecretJson json, std::map<std::string, Position> positions)
      : file_(std::move(file)), json_(std::move(json)), positions_(std::move(positions)) {}

  const Json& json() const noexcept { return *json_; }
  Json& json() noexcept { return *json_; }
  const std::string& file() const noexcept { return file_; }

  /// The fault at a JSON pointer: at the key of a member, at the first
  /// character of a list entry. A pointer that leads to nothing is placed at
  /// its nearest ancestor. Entries of lists may also be named by their `name`
  /// or `id` (`/bindings/devs/role`), as the server does for faults it finds
  /// after the lists became sets.
  Fault fault(std::string_view pointer, std::string message) const;

  /// Makes `to` stand where `from` stood.
  void copy_position(const std::string& from, const std::string& to);

 private:
  std::string file_;
  sdk::SecretJson json_;
  std::map<std::string, Position> positions_;  ///< by JSON pointer
};

enum class Documents { One, Many };

/// What came of reading: documents, or every fault that was found.
struct Reading {
  std::vector<Document> documents;
  std::vector<Fault> faults;
};

constexpr std::size_t kMaxManifestBytes = 1024 * 1024;
constexpr std::size_t kMaxManifestDepth = 32;
constexpr std::size_t kMaxKeyBytes = 256;
/// Of the pointers to every value of a file, which are kept for error messages.
constexpr std::size_t kMaxPointerBytes = 32 * 1024 * 1024;

/// Converts YAML text, within the bounds above. `file` is only for messages.
Reading read_yaml(std::string_view text, const std::string& file, Documents wanted);

/// Reads a file of manifests and puts in place what they refer to:
/// `jwks_file` becomes `jwks`, a client's `secret_file` becomes `secret`
/// (paths are relative to the manifest; "-" is standard input, where they are
/// relative to the current folder). Checks only what the program itself needs:
/// that each document is a map that names its tenant.
Reading read_manifests(const std::string& path);

/// `/backends/0/audience` as `backends[0].audience`.
std::string place_of(std::string_view pointer);

}  // namespace postern::cli
