#include "cli/environment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/variables.h"

namespace postern::cli {
namespace {

using namespace std::string_view_literals;

// Linux refuses a longer entry (MAX_ARG_STRLEN).
constexpr std::size_t kMaxEntryBytes = 131'072;
constexpr int kFirstFileDescriptor = 100;

bool begins_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

sdk::Error refuse(std::string_view source, std::string_view name, const std::string& why) {
  return sdk::fail(sdk::ErrorKind::Refused, "backend " + std::string(source) +
                                                " releases the variable " + std::string(name) +
                                                ", " + why);
}

}  // namespace

bool is_variable_name(std::string_view name) {
  if (name.empty() || name.size() > 200 || (name[0] >= '0' && name[0] <= '9')) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

sdk::Result<ChildEnvironment> ChildEnvironment::inherit(const char* const* parent,
                                                        const std::vector<std::string>& pass) {
  for (const auto& name : pass) {
    if (!is_variable_name(name)) {
      return sdk::fail(sdk::ErrorKind::Usage,
                       "--pass wants the name of an environment variable, not \"" + name + "\"");
    }
    if (begins_with(name, "POSTERN_")) {
      return sdk::fail(sdk::ErrorKind::Usage,
                       "--pass " + name + ": our own settings are never given to a child");
    }
  }
  ChildEnvironment out;
  for (; parent != nullptr && *parent != nullptr; ++parent) {
    const std::string_view entry(*parent);
    const auto equals = entry.find('=');
    if (equals == entry.npos) continue;
    const auto name = entry.substr(0, equals);
    if (!is_variable_name(name) || out.has(name)) continue;
    if (inherited_variable(name) || std::find(pass.begin(), pass.end(), name) != pass.end()) {
      out.put(name, entry.substr(equals + 1));
    }
  }
  return out;
}

sdk::Status ChildEnvironment::add(std::string_view source, std::string_view name,
                                  std::string_view value) {
  if (!is_variable_name(name)) return refuse(source, name, "which is not a variable's name");
  if (hijacking_variable(name)) {
    return refuse(source, name, "which could take over the started program");
  }
  if (has(name)) {
    return refuse(source, name, "which another backend or --pass has set already");
  }
  if (value.find('\0') != value.npos) {
    return refuse(source, name, "whose value holds a NUL and does not fit into an environment");
  }
  if (name.size() + value.size() + 2 > kMaxEntryBytes) {
    return refuse(source, name, "whose value is too long for an environment");
  }
  put(name, value);
  return {};
}

std::vector<char*> ChildEnvironment::pointers() {
  std::vector<char*> out;
  for (auto& entry : entries_) out.push_back(entry.data());
  out.push_back(nullptr);
  return out;
}

std::vector<std::string> ChildEnvironment::names() const {
  std::vector<std::string> out;
  for (const auto& entry : entries_) {
    const auto text = sdk::view(entry);
    out.emplace_back(text.substr(0, text.find('=')));
  }
  return out;
}

void ChildEnvironment::put(std::string_view name, std::string_view value) {
  auto& entry = entries_.emplace_back();
  entry.reserve(name.size() + value.size() + 2);
  sdk::append(entry, name);
  entry.push_back('=');
  sdk::append(entry, value);
  entry.push_back('\0');
}

bool ChildEnvironment::has(std::string_view name) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const sdk::SecretBytes& entry) {
    const auto text = sdk::view(entry);
    return text.size() > name.size() && begins_with(text, name) && text[name.size()] == '=';
  });
}

sdk::Result<int> make_sealed_file(std::string_view content) {
  const auto failed = [](int fd) {
    auto error = sdk::fail(sdk::ErrorKind::Usage,
                           std::string("cannot make a file in memory: ") + std::strerror(errno));
    if (fd >= 0) ::close(fd);
    return error;
  };
  const int low = ::memfd_create("postern", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (low < 0) return failed(low);
  const int fd = ::fcntl(low, F_DUPFD, kFirstFileDescriptor);  // without close-on-exec
  if (fd < 0) return failed(low);
  ::close(low);
  while (!content.empty()) {
    const auto count = ::write(fd, content.data(), content.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed(fd);
    content.remove_prefix(static_cast<std::size_t>(count));
  }
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fchmod(fd, 0400) != 0 || ::fcntl(fd, F_ADD_SEALS, kSeals) != 0) return failed(fd);
  if (::lseek(fd, 0, SEEK_SET) != 0) return failed(fd);
  return fd;
}

namespace {

// Options without a value; every other `--name` takes the next argument.
constexpr std::array kFlags{"--help"sv, "-h"sv, "--verbose"sv, "-v"sv, "--version"sv, "--json"sv};

}  // namespace

std::vector<std::string> words_of(const std::vector<std::string>& arguments) {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto& argument = arguments[i];
    if (argument.empty() || argument[0] != '-') {
      words.push_back(argument);
    } else if (std::find(kFlags.begin(), kFlags.end(), argument) == kFlags.end() &&
               argument.find('=') == argument.npos) {
      ++i;
    }
  }
  return words;
}

ExecArguments split_exec(const std::vector<std::string>& arguments) {
  ExecArguments out;
  int words = 0;  // that are no options: "exec", the backends, the command
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto& argument = arguments[i];
    const bool dashes = argument == "--" && words > 0;
    const bool option = argument.size() > 1 && argument[0] == '-';
    if (dashes || (!option && words == 2)) {
      const auto from = i + (dashes ? 1 : 0);
      out.command.assign(arguments.begin() + static_cast<std::ptrdiff_t>(from), arguments.end());
      return out;
    }
    out.ours.push_back(argument);
    if (!option) {
      if (words == 0 && argument != "exec") return {arguments, {}};
      ++words;
    } else if (std::find(kFlags.begin(), kFlags.end(), argument) == kFlags.end() &&
               argument.find('=') == argument.npos && i + 1 < arguments.size()) {
      out.ours.push_back(arguments[++i]);
    }
  }
  return out;
}

}  // namespace postern::cli
