#include "storage/child_process.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <thread>

namespace postern::storage {
namespace {

/// For the forked child, where only async-signal-safe calls are allowed.
bool become(const RunAs& user) noexcept {
  return ::setgroups(1, &user.gid) == 0 && ::setgid(user.gid) == 0 && ::setuid(user.uid) == 0;
}

}  // namespace

pid_t spawn(const ChildOptions& options) {
  std::vector<char*> argv;
  for (const auto& word : options.command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  std::string path = "PATH=/usr/local/bin:/usr/bin:/bin", locale = "LC_ALL=C", zone = "TZ=UTC";
  char* const environment[] = {path.data(), locale.data(), zone.data(), nullptr};
  const std::string directory = options.directory.string();
  const auto parent = ::getpid();
  const auto last_descriptor = static_cast<int>(::sysconf(_SC_OPEN_MAX));

  const auto child = ::fork();
  if (child != 0) return child;

  ::setsid();
  struct sigaction by_default = {};
  by_default.sa_handler = SIG_DFL;
  for (const int number : {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGPIPE, SIGCHLD, SIGUSR1, SIGUSR2}) {
    ::sigaction(number, &by_default, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);

  const int input = ::open("/dev/null", O_RDONLY);
  const int output = options.output >= 0 ? options.output : ::open("/dev/null", O_WRONLY);
  if (input < 0 || output < 0 || ::dup2(input, 0) < 0 || ::dup2(output, 1) < 0 ||
      ::dup2(output, 2) < 0) {
    ::_exit(126);
  }
  if (::close_range(3, ~0U, 0) != 0) {
    for (int fd = 3; fd < last_descriptor && fd < 65536; ++fd) ::close(fd);
  }
  ::umask(077);
  if (options.run_as && !become(*options.run_as)) ::_exit(126);
  // After setuid(), which clears it.
  if (options.death_signal != 0) {
    ::prctl(PR_SET_PDEATHSIG, options.death_signal);
    if (::getppid() != parent) ::_exit(126);  // it died before
  }
  if (!directory.empty() && ::chdir(directory.c_str()) != 0) ::_exit(126);
  ::execve(argv[0], argv.data(), environment);
  ::_exit(127);
}

std::optional<int> wait_for(pid_t child, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    int status = 0;
    const auto got = ::waitpid(child, &status, WNOHANG);
    if (got == child) return status;
    if (got < 0 && errno != EINTR) return 0;  // reaped elsewhere: gone in any case
    if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

bool can_enter(const RunAs& user, const std::filesystem::path& directory) {
  const std::string path = directory.string();
  const auto child = ::fork();
  if (child == 0) {
    ::_exit(become(user) && ::chdir(path.c_str()) == 0 ? 0 : 1);
  }
  if (child < 0) return false;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace postern::storage
