#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "cli/commands.h"
#include "cli/environment.h"
#include "cli/items.h"
#include "cli/output.h"

extern char** environ;

namespace postern::cli {
namespace {

int exec_exit_code(const sdk::Error& error) {
  if (error.kind == sdk::ErrorKind::Usage) return exit_code::kExecUsage;
  return exit_code_of(error) == exit_code::kUnreachable ? exit_code::kExecUnreachable
                                                        : exit_code::kExecRefused;
}

int fail_exec(const sdk::Error& error, const std::string& doing) {
  report(error, doing);
  return exec_exit_code(error);
}

/// Whether execvp would find the command. Asked before anything is released.
/// Returns 0, or the errno that execvp would end with.
int find_command(const std::string& command) {
  const auto runnable = [](const std::string& path) {
    struct stat file {};
    if (::stat(path.c_str(), &file) != 0) return errno;
    if (S_ISDIR(file.st_mode)) return EACCES;
    return ::access(path.c_str(), X_OK) == 0 ? 0 : errno;
  };
  if (command.empty()) return ENOENT;
  if (command.find('/') != command.npos) return runnable(command);
  const char* path = std::getenv("PATH");
  std::string rest = (path == nullptr ? "/bin:/usr/bin" : std::string(path)) + ":";
  int result = ENOENT;
  while (!rest.empty()) {
    const auto colon = rest.find(':');
    const auto folder = rest.substr(0, colon);
    rest.erase(0, colon + 1);
    const int found = runnable((folder.empty() ? "." : folder) + "/" + command);
    if (found == 0) return 0;
    if (found == EACCES) result = EACCES;
  }
  return result;
}

int cannot_run(const std::string& command, int error) {
  if (error == ENOENT || error == ENOTDIR) {
    say_error("command not found: " + printable(command));
    return exit_code::kExecNotFound;
  }
  say_error("cannot run " + printable(command) + ": " + std::strerror(error));
  return exit_code::kExecCannotRun;
}

sdk::Status add_item(ChildEnvironment& child, const sdk::ReleasedItem& item) {
  for (const auto& [name, value] : item.env) {
    POSTERN_CHECK(value.expose([&, &variable = name](ByteView bytes) {
      return child.add(item.backend, variable, as_text(bytes));
    }));
  }
  for (const auto& file : item.files) {
    if (file.env.empty()) {
      say_error("warning: file " + printable(file.name) + " of backend " + printable(item.backend) +
                " has no variable for its path, so the command does not get it");
      continue;
    }
    POSTERN_TRY(const int fd, file.content.expose(
                                  [](ByteView bytes) { return make_sealed_file(as_text(bytes)); }));
    POSTERN_CHECK(child.add(item.backend, file.env, "/proc/self/fd/" + std::to_string(fd)));
  }
  if (item.env.empty() && item.files.empty() && !item.headers.empty()) {
    say_error("warning: backend " + printable(item.backend) +
              " releases HTTP headers only, which a gateway can send but a command cannot get");
  }
  return {};
}

/// Marks every descriptor above 2 to be closed when the command starts.
void close_inherited() {
  if (::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0) return;
  // Before Linux 5.11. /proc/self/fd would not do: it is root's while we are not dumpable.
  const long limit = std::min<long>(::sysconf(_SC_OPEN_MAX), 65'536);
  for (int fd = 3; fd < limit; ++fd) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

}  // namespace

int run_exec(const Settings& settings, const ExecOptions& options) {
  // Before the first secret is read: no core dump, no debugger of the same
  // user. execve undoes it for the child.
  ::prctl(PR_SET_DUMPABLE, 0);

  if (options.command.empty()) {
    say_error("which command? postern exec " + printable(options.backends) + " -- COMMAND …");
    return exit_code::kExecUsage;
  }
  const auto items = wanted_items(options.backends, options.scopes);
  if (!items.ok()) return fail_exec(items.error(), "");
  auto child = ChildEnvironment::inherit(environ, options.pass);
  if (!child.ok()) return fail_exec(child.error(), "");
  if (const int error = find_command(options.command[0]); error != 0) {
    return cannot_run(options.command[0], error);
  }
  const auto doing = "start " + options.command[0];
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return fail_exec(tenant.error(), doing);

  std::vector<sdk::ReleasedItem> released;
  {
    auto token = subject_token(settings);
    if (!token.ok()) return fail_exec(token.error(), doing);
    auto client = oauth_client(settings);
    if (!client.ok()) return fail_exec(client.error(), doing);
    auto answer = client.value().release(
        tenant.value(), token.value(), token_type_urn(settings.subject_token_type), items.value());
    if (!answer.ok()) return fail_exec(answer.error(), doing);
    released = std::move(answer).value();
  }
  const auto refused = [](const sdk::ReleasedItem& item) { return !item.allowed; };
  if (std::any_of(released.begin(), released.end(), refused)) {
    for (const auto& item : released) {
      if (!item.allowed) show_refusal(item.backend, item.error, item.detail, item.connect_url);
    }
    return exit_code::kExecRefused;
  }
  close_inherited();  // before the files that the command is to have
  for (const auto& item : released) {
    if (const auto status = add_item(child.value(), item); !status.ok()) {
      say_error("cannot " + printable(doing) + ": " + printable(status.error().detail));
      return exec_exit_code(status.error());
    }
    if (options.verbose) {
      say_error("backend " + printable(item.backend) + ": " +
                (item.credential_name.empty()
                     ? "token, scope \"" + printable(item.token_scope) + "\""
                     : "credential " + printable(item.credential_name) + " version " +
                           std::to_string(item.credential_version)) +
                ", expires " + shown(item.expires_at));
    }
  }
  released.clear();  // wiped; the environment and the files are all that is left

  std::vector<char*> arguments;
  for (const auto& argument : options.command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));  // execve does not write to them
  }
  arguments.push_back(nullptr);
  auto variables = child.value().pointers();
  std::signal(SIGPIPE, SIG_DFL);  // which we ignore; execve would keep that
  ::execvpe(arguments[0], arguments.data(), variables.data());
  return cannot_run(options.command[0], errno);
}

}  // namespace postern::cli
