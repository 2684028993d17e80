#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace postern::storage {

/// The user that a child runs as: an unprivileged one when we are root.
struct RunAs {
  uid_t uid = 0;
  gid_t gid = 0;
};

struct ChildOptions {
  std::vector<std::string> command;  ///< command[0] is the path of the program
  std::optional<RunAs> run_as;       ///< nothing: as we are
  std::filesystem::path directory;   ///< working directory
  int output = -1;                   ///< descriptor for standard output and error
  int death_signal = 0;              ///< sent when the thread that called spawn() ends
};

/// Starts a program in a session of its own (so that a terminal's ^C does not
/// reach it), with a clean environment and no inherited descriptors but 0, 1, 2.
/// -1 when it could not be started.
pid_t spawn(const ChildOptions& options);

/// Waits for a child; nothing when it still runs after `patience`.
/// The value is as waitpid() gives it.
std::optional<int> wait_for(pid_t child, std::chrono::milliseconds patience);

/// Whether that user may enter the directory, all its parents included.
bool can_enter(const RunAs& user, const std::filesystem::path& directory);

}  // namespace postern::storage
