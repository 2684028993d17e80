#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "postern/error.h"
#include "postern/secret_bytes.h"

namespace postern::cli {

/// [A-Za-z_][A-Za-z0-9_]*, at most 200 bytes.
bool is_variable_name(std::string_view name);

/// The environment of a child process: built from nothing, in wiped memory.
class ChildEnvironment {
 public:
  /// Takes from `parent` (entries `NAME=value`) what inherited_variable() names and
  /// what `pass` names. Errors: Usage, for a name in `pass` that is none or
  /// begins with POSTERN_.
  static sdk::Result<ChildEnvironment> inherit(const char* const* parent,
                                               const std::vector<std::string>& pass);

  /// Adds a released variable. `source` names the backend in messages.
  /// Errors: Refused, for a name that is none, hijacks, or is there already,
  /// and for a value that no environment can hold.
  sdk::Status add(std::string_view source, std::string_view name, std::string_view value);

  /// For execve. Valid until the next change.
  std::vector<char*> pointers();

  std::vector<std::string> names() const;

 private:
  void put(std::string_view name, std::string_view value);
  bool has(std::string_view name) const;

  std::vector<sdk::SecretBytes> entries_;  ///< `NAME=value` with its final NUL
};

/// A file in memory that holds `content`, can no longer be changed, and is
/// inherited by a child. Returns its descriptor, at least 100: Node closes the
/// first ones when it starts programs of its own, and a server is often
/// started through npx. Errors: Usage, with the system's reason.
sdk::Result<int> make_sealed_file(std::string_view content);

/// `postern exec …` cut into our part and the command's. The command begins
/// after the first argument that is no option (the backends), or after `--`.
struct ExecArguments {
  std::vector<std::string> ours;
  std::vector<std::string> command;
};
ExecArguments split_exec(const std::vector<std::string>& arguments);

/// The arguments that are neither options nor values of global ones: command
/// and subcommands come first among them.
std::vector<std::string> words_of(const std::vector<std::string>& arguments);

}  // namespace postern::cli
