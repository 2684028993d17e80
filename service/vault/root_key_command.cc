#include "vault/root_key_command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <thread>

#include "core/descriptor.h"
#include "core/secret.h"

namespace postern::vault {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// Attributes and file actions of a spawn, freed at the end.
struct Spawn {
  posix_spawnattr_t attributes{};
  posix_spawn_file_actions_t actions{};
  Spawn() {
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_init(&actions);
  }
  ~Spawn() {
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&actions);
  }
  Spawn(const Spawn&) = delete;
  Spawn& operator=(const Spawn&) = delete;
};

/// A process group of its own; ended with everything in it, and waited for.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  ~Child() {
    if (pid_ > 0) end();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// The exit status, once it has ended by itself before then.
  std::optional<int> wait_until(steady_clock::time_point until) {
    for (;;) {
      int status = 0;
      const auto waited = ::waitpid(pid_, &status, WNOHANG);
      if (waited == pid_) {
        ::kill(-pid_, SIGKILL);  // what it left running
        pid_ = -1;
        return status;
      }
      if (waited < 0 && errno != EINTR) return std::nullopt;
      if (steady_clock::now() >= until) return std::nullopt;
      // Its output has ended, so it is about to; nothing else tells us when.
      std::this_thread::sleep_for(milliseconds(2));
    }
  }

 private:
  void end() {
    ::kill(-pid_, SIGKILL);
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
  }
  pid_t pid_;
};

std::optional<pid_t> spawn(const std::vector<std::string>& command, int output) {
  const Spawn spawn;
  auto* attributes = const_cast<posix_spawnattr_t*>(&spawn.attributes);
  auto* actions = const_cast<posix_spawn_file_actions_t*>(&spawn.actions);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  ::posix_spawnattr_setsigmask(attributes, &none);
  ::posix_spawnattr_setsigdefault(attributes, &all);
  ::posix_spawnattr_setpgroup(attributes, 0);
  ::posix_spawnattr_setflags(
      attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  // Ours are closed on exec, but those that we were started with perhaps are not.
  ::posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(actions, output, STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
  ::posix_spawn_file_actions_addchdir_np(actions, "/");
  std::vector<char*> arguments;
  for (const auto& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  char* const environment[] = {nullptr};
  pid_t pid = 0;
  if (::posix_spawn(&pid, command.front().c_str(), actions, attributes, arguments.data(),
                    environment) != 0) {
    return std::nullopt;
  }
  return pid;
}

}  // namespace

Result<RootKeys> RootKeyCommand::load() {
  auto keys = ask();
  failed_ = !keys.ok();
  next_ = steady_clock::now() + options_.again_after;
  return keys;
}

bool RootKeyCommand::changed() { return failed_ && steady_clock::now() >= next_; }

Result<RootKeys> RootKeyCommand::ask() const {
  const auto problem = [&](const std::string& what) {
    return fail(ErrorCode::Unavailable,
                "the root key command " + (command_.empty() ? "" : command_.front()) + " " + what);
  };
  if (command_.empty() || !command_.front().starts_with('/')) {
    return problem("must be an absolute path");
  }
  struct stat facts {};
  if (::stat(command_.front().c_str(), &facts) != 0 || !S_ISREG(facts.st_mode) ||
      ::access(command_.front().c_str(), X_OK) != 0) {
    return problem("is no program that can be run");
  }
  if ((facts.st_uid != 0 && facts.st_uid != ::geteuid()) ||
      (facts.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return problem("may be changed by others than root and this user");
  }

  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return problem("cannot be given a pipe");
  const Descriptor reading(ends[0]);
  const auto until = steady_clock::now() + options_.time;
  std::optional<pid_t> pid;
  {
    const Descriptor writing(ends[1]);
    pid = spawn(command_, writing.get());
  }
  if (!pid) return problem("cannot be started");
  Child child(*pid);

  SecureBuffer output(options_.max_bytes + 1);
  std::size_t size = 0;
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now()).count();
    pollfd waited{reading.get(), POLLIN, 0};
    const int ready = left > 0 ? ::poll(&waited, 1, static_cast<int>(left)) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return problem("gave no answer in time");
    const auto got = ::read(reading.get(), output.writable().data() + size, output.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return problem("cannot be read from");
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
    if (size > options_.max_bytes) return problem("says too much");
  }
  const auto status = child.wait_until(until);
  if (!status) return problem("did not end in time");
  if (!WIFEXITED(*status) || WEXITSTATUS(*status) != 0) {
    return problem(WIFEXITED(*status) ? "failed with " + std::to_string(WEXITSTATUS(*status))
                                      : "was ended by a signal");
  }
  auto keys = RootKeys::parse(as_text(output.readable().first(size)));
  // Which line of it is wrong, never the line.
  if (!keys.ok()) return problem("answers no root keys: " + keys.error().detail);
  return keys;
}

}  // namespace postern::vault
