#include "cli/credential_input.h"

#include <termios.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "cli/output.h"
#include "postern/secret_file.h"

namespace postern::cli {
namespace {

using sdk::ErrorKind;

constexpr std::size_t kMaxValueBytes = 1024 * 1024;

termios terminal_before{};  // for end_with_echo(), which a signal calls

void end_with_echo(int signal) {
  ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal_before);
  ::raise(signal);  // SA_RESETHAND: this time it ends us
}

/// Turns off the terminal's echo while a secret is typed, until the end of
/// that or of the process.
class NoEcho {
 public:
  NoEcho() {
    active_ = ::tcgetattr(STDIN_FILENO, &terminal_before) == 0;
    if (!active_) return;
    struct sigaction restore {};
    restore.sa_handler = end_with_echo;
    restore.sa_flags = static_cast<int>(SA_RESETHAND);
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      ::sigaction(kSignals[i], nullptr, &actions_before_[i]);
      const bool ignored = actions_before_[i].sa_handler == SIG_IGN;
      if (!ignored) ::sigaction(kSignals[i], &restore, nullptr);
    }
    auto quiet = terminal_before;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
  }
  ~NoEcho() {
    if (!active_) return;
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal_before);
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      ::sigaction(kSignals[i], &actions_before_[i], nullptr);
    }
  }
  NoEcho(const NoEcho&) = delete;
  NoEcho& operator=(const NoEcho&) = delete;

 private:
  static constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP, SIGQUIT};
  std::array<struct sigaction, kSignals.size()> actions_before_{};
  bool active_ = false;
};

/// `FIELD=SOURCE`, cut at the first equals sign.
sdk::Result<std::pair<std::string, std::string>> field_and_source(const std::string& text,
                                                                  const char* shape) {
  const auto equals = text.find('=');
  if (equals == text.npos || equals == 0 || equals + 1 == text.size()) {
    // Not quoted: somebody may have put the secret itself here.
    return sdk::fail(ErrorKind::Usage, std::string("a field is given as ") + shape +
                                           "; a value itself never goes on the command line");
  }
  return std::pair(text.substr(0, equals), text.substr(equals + 1));
}

/// A file that is one line ends with a newline only because editors add it.
SecureBuffer without_final_newline(const SecureBuffer& content) {
  auto text = as_text(content.readable());
  if (!text.empty() && text.find('\n') == text.size() - 1) text.remove_suffix(1);
  if (!text.empty() && text.back() == '\r' && text.find('\r') == text.size() - 1) {
    text.remove_suffix(1);
  }
  return SecureBuffer::copy_of(text);
}

}  // namespace

sdk::Result<SecureBuffer> typed_value(const std::string& field) {
  if (::isatty(STDIN_FILENO) == 0) {
    return sdk::read_secret_file("-", "field " + field, kMaxValueBytes);
  }
  const NoEcho quiet;
  const auto prompt = "Value of " + printable(field) + " (not shown): ";
  std::fputs(prompt.c_str(), stderr);
  sdk::SecretBytes line(4096);
  const auto count = ::read(STDIN_FILENO, line.data(), line.size());
  std::fputs("\n", stderr);
  if (count <= 0) return sdk::fail(ErrorKind::Usage, "nothing was entered");
  return SecureBuffer::copy_of(std::string_view(line.data(), static_cast<std::size_t>(count)));
}

sdk::Result<std::vector<sdk::CredentialField>> read_fields(const CredentialOptions& options) {
  std::vector<sdk::CredentialField> fields;
  bool stdin_used = false;
  const auto add = [&](const std::string& name, SecureBuffer content) -> sdk::Status {
    for (const auto& field : fields) {
      if (field.name == name) {
        return sdk::fail(ErrorKind::Usage, "field " + name + " is given twice");
      }
    }
    auto value = without_final_newline(content);
    if (value.size() == 0) {
      return sdk::fail(ErrorKind::Usage, "the value of field " + name + " is empty");
    }
    fields.push_back(sdk::CredentialField{name, FieldValue(std::move(value))});
    return {};
  };
  const auto from_input = [&](const std::string& name) -> sdk::Status {
    if (stdin_used && ::isatty(STDIN_FILENO) == 0) {
      return sdk::fail(ErrorKind::Usage, "only one field can be read from standard input");
    }
    stdin_used = true;
    POSTERN_TRY(auto content, typed_value(name));
    return add(name, std::move(content));
  };

  for (const auto& text : options.from_file) {
    POSTERN_TRY(const auto pair, field_and_source(text, "--from-file FIELD=PATH"));
    if (pair.second == "-") {
      POSTERN_CHECK(from_input(pair.first));
      continue;
    }
    POSTERN_TRY(auto content,
                sdk::read_secret_file(pair.second, "field " + pair.first, kMaxValueBytes));
    POSTERN_CHECK(add(pair.first, std::move(content)));
  }
  for (const auto& text : options.from_env) {
    POSTERN_TRY(const auto pair, field_and_source(text, "--from-env FIELD=VARIABLE"));
    const char* value = std::getenv(pair.second.c_str());
    if (value == nullptr) {
      return sdk::fail(ErrorKind::Usage,
                       "there is no such environment variable for field " + pair.first);
    }
    POSTERN_CHECK(add(pair.first, SecureBuffer::copy_of(std::string_view(value))));
  }
  for (const auto& name : options.fields) {
    if (name.find('=') != name.npos) {
      return sdk::fail(ErrorKind::Usage,
                       "--field takes a name alone and asks for the value; a value never goes on "
                       "the command line");
    }
    POSTERN_CHECK(from_input(name));
  }
  if (fields.empty()) {
    return sdk::fail(ErrorKind::Usage,
                     "which fields? use --from-file FIELD=PATH, --from-env FIELD=VARIABLE, or "
                     "--field FIELD to be asked");
  }
  return fields;
}

sdk::Result<std::uint64_t> whole_number(const std::string& text, const char* option) {
  std::uint64_t number = 0;
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    return sdk::fail(ErrorKind::Usage, std::string(option) + " takes a whole number");
  }
  return number;
}

sdk::Result<std::optional<std::uint64_t>> only_version(const CredentialOptions& options) {
  if (options.only_version.empty()) return std::optional<std::uint64_t>();
  POSTERN_TRY(const auto version, whole_number(options.only_version, "--only-version"));
  return std::optional(version);
}

sdk::Result<CredentialAccess> credential_access(const Settings& settings,
                                                const CredentialOptions& options) {
  const bool principal = !options.issuer.empty() || !options.subject.empty();
  if (principal && (options.issuer.empty() || options.subject.empty())) {
    return sdk::fail(ErrorKind::Usage, "a user is named by --issuer and --subject together");
  }
  if (int{options.tenant_owned} + int{options.as_user} + int{principal} != 1) {
    return sdk::fail(ErrorKind::Usage,
                     "whose credential is it? use one of --tenant-owned, --as-user, or --issuer "
                     "with --subject");
  }
  if (options.as_user) {
    POSTERN_TRY(auto client, user_client(settings));
    return CredentialAccess{sdk::CredentialOwner::caller(), std::move(client)};
  }
  POSTERN_TRY(auto client, admin_client(settings));
  auto owner = principal ? sdk::CredentialOwner::principal({options.issuer, options.subject})
                         : sdk::CredentialOwner::tenant();
  return CredentialAccess{std::move(owner), std::move(client)};
}

}  // namespace postern::cli
