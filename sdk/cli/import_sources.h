#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/secret.h"
#include "postern/client.h"
#include "postern/error.h"
#include "postern/secret_bytes.h"

/// Where secrets lie in plaintext, each kind with a reader of its own. A reader
/// is given text and touches nothing; what it says never quotes a value.
namespace postern::cli {

enum class ImportFormat {
  McpJson,        ///< `mcpServers`, as most hosts have it; `${NAME}` is of the environment
  ClaudeDesktop,  ///< claude_desktop_config.json: likewise, and no references
  VsCode,         ///< `servers`, `inputs`, `envFile`; with comments
  Cursor,         ///< `mcpServers` with `${env:NAME}`; with comments
  Dotenv,
  DockerCatalog,  ///< YAML: `registry`
};

/// By its name and, for JSON, its shape; nothing when neither tells.
std::optional<ImportFormat> format_of(const std::string& path, std::string_view text);
std::optional<ImportFormat> format_named(std::string_view name);

constexpr std::size_t kMaxImportBytes = 64 * 1024;  ///< of a file that is rewritten
constexpr std::size_t kMaxImportServers = 256;
constexpr std::size_t kMaxImportFields = 32;  ///< of one credential

/// One secret that was found.
struct FoundSecret {
  std::string field;     ///< of the credential
  std::string variable;  ///< that delivers it; empty: none does
  std::string header;    ///< that delivers it, of a remote server
  std::string why;
  FieldValue value;
};

/// What belongs to one server, or to one backend.
struct FoundServer {
  std::string name;        ///< as the file has it
  std::string backend;     ///< and its credential, unless that is named
  std::string credential;  ///< empty: as the backend
  /// It was imported before: its backend is there, and its credential has more than `secrets`.
  bool imported = false;
  std::vector<FoundSecret> secrets;
  std::vector<std::string> notes;  ///< what stays as it is, and why

  const std::string& credential_name() const { return credential.empty() ? backend : credential; }
};

/// A file and what it is to become.
struct FileChange {
  std::string path;
  sdk::SecretBytes original;
  sdk::SecretBytes rewritten;
};

struct Found {
  std::vector<FoundServer> servers;  ///< those with secrets or with notes
  std::vector<FileChange> files;     ///< in the order in which they are rewritten
  bool unfinished = false;           ///< an import was begun that cannot be gone on with
};

/// What a value refers to instead of being there: `${input:ID}`, `${env:NAME}`.
struct Reference {
  enum class Kind { Input, Environment };
  Kind kind = Kind::Environment;
  std::string name;
  std::string variable;  ///< whose value it is
};

struct ImportRules {
  std::vector<std::string> also;     ///< variables that are secrets whatever they look like
  bool all = false;                  ///< all variables are
  std::vector<std::string> except;   ///< variables that are none
  std::vector<std::string> servers;  ///< only these; empty: all
  std::map<std::string, std::string> backends;  ///< by server; others by the server's name
  std::vector<std::pair<std::string, std::string>> settings;  ///< POSTERN_* of the new command
  /// A value that is not in the file; nothing when nobody knows it.
  std::function<std::optional<SecureBuffer>(const Reference&)> look_up;
  /// Another file, up to kMaxImportBytes, by its absolute path.
  std::function<sdk::Result<sdk::SecretBytes>(const std::string&)> read;
};

/// A host's JSON file.
/// @param path  absolute; what `envFile` and `${workspaceFolder}` are relative to
/// Errors: Usage, with the line.
sdk::Result<Found> read_host_file(sdk::SecretBytes text, ImportFormat format,
                                  const std::string& path, const ImportRules& rules);

/// A `.env` file, for one backend.
sdk::Result<Found> read_dotenv_file(sdk::SecretBytes text, const std::string& backend,
                                    const std::string& path, const ImportRules& rules);

/// What a catalogue of Docker's says its servers need. The values are not in it, but for
/// variables that somebody wrote them into; it is not rewritten.
sdk::Result<Found> read_docker_catalog(std::string_view text, const std::string& path,
                                       const ImportRules& rules);

struct DotenvEntry {
  std::string name;
  SecureBuffer value;
  bool literal = true;    ///< nothing in it stands for something else
  std::size_t begin = 0;  ///< of its lines, with the last one's end
  std::size_t end = 0;
};
/// Errors: Usage, with the line, for what is no entry, a name that is there twice, a quote
/// that is never closed, and more than kMaxDotenvEntries.
sdk::Result<std::vector<DotenvEntry>> parse_dotenv(std::string_view text);
constexpr std::size_t kMaxDotenvEntries = 1000;

/// Vault's or OpenBao's KV version 2, by its API.
struct VaultSource {
  std::string url;
  std::string token_file;
  std::string ca_file;
  std::string name_space;
  std::string mount = "secret";
  std::string prefix;
};
constexpr std::size_t kMaxVaultDepth = 16;
constexpr std::size_t kMaxVaultSecrets = 500;

/// Reads all secrets below the prefix; changes nothing there.
sdk::Result<Found> read_vault(const VaultSource& source, const ImportRules& rules);

/// The answers of a list and of a read, as read_vault() takes them.
sdk::Result<std::vector<std::string>> parse_vault_list(std::string_view body);
sdk::Result<FoundServer> parse_vault_secret(std::string_view body, const std::string& path,
                                            const ImportRules& rules);

/// The backend of a server: its name as a slug, unless the rules name one. Errors: Usage,
/// when nothing of the name can be in a slug.
sdk::Result<std::string> backend_of(const std::string& server, const ImportRules& rules);

/// Whether a credential can have this field, and an environment this variable.
bool is_field_name(std::string_view name);

/// Why no variable of this name can be released; empty: it can.
std::string why_not_delivered(const std::string& name);

/// In capitals, with an underscore for whatever a variable's name cannot have.
std::string as_variable(std::string_view text);

}  // namespace postern::cli
