#include "cli/output.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cli/utf8.h"
#include "core/time_format.h"

namespace postern::cli {
namespace {

/// Code points that a terminal or a reader's eye would obey instead of show.
bool is_harmful(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0x200b && c <= 0x200f) ||
         (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff;
}

std::string hex_bytes(std::string_view text) {
  std::string out;
  for (const char c : text) {
    char escape[8];
    std::snprintf(escape, sizeof escape, "\\x%02x",
                  static_cast<unsigned>(static_cast<unsigned char>(c)));
    out += escape;
  }
  return out;
}

std::size_t width(std::string_view text) {  // in code points: close enough for a table
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto character = utf8::first(text);
    const auto bytes = text.substr(0, std::max<std::size_t>(character.length, 1));
    const bool show = character.length > 0 && !is_harmful(character.code_point);
    out += show ? std::string(bytes) : hex_bytes(bytes);
    text.remove_prefix(bytes.size());
  }
  return out;
}

void say_error(std::string_view text) {
  const auto line = "postern: " + std::string(text) + "\n";
  std::fputs(line.c_str(), stderr);
}

void say_note(std::string_view text) {
  const auto line = "  " + std::string(text) + "\n";
  std::fputs(line.c_str(), stderr);
}

std::string next_step(const sdk::Error& error) {
  if (!error.connect_url.empty()) return "open " + printable(error.connect_url);
  if (error.retry_after) {
    return "try again in " + std::to_string(error.retry_after->count()) + " seconds";
  }
  switch (error.kind) {
    case sdk::ErrorKind::Usage: return {};
    case sdk::ErrorKind::Unreachable:
      return "check that posternd runs and that --url (POSTERN_URL) is right";
    case sdk::ErrorKind::BrokenAnswer: return "check that --url (POSTERN_URL) is a Postern server";
    case sdk::ErrorKind::Refused: break;
  }
  // OAuth errors and problem types name the same things.
  auto code = error.code;
  std::replace(code.begin(), code.end(), '-', '_');
  if (code == "invalid_client") {
    return "check --client-id and --client-secret-file; `postern client secret add` makes a new "
           "secret";
  }
  if (code == "invalid_target" || code == "target_refused") {
    return "check the backend's name or audience, and that the client's `backends` and a role "
           "allow it";
  }
  if (code == "invalid_scope" || code == "scope_refused") {
    return "ask for less with --scope, or change the roles";
  }
  if (code == "invalid_token") return "get a new token for the user";
  switch (error.status) {
    case 401: return "check the token in --token-file, and that it belongs to this server";
    case 403: return "use a token that may do this: an operator's, or this tenant's admin's";
    // 409 has several causes, each said in the answer.
    case 412: return "somebody changed it meanwhile; look at it again and repeat";
    case 502:
    case 503:
    case 504: return "try again later; posternd answers, but something it needs does not";
    default: return {};
  }
}

int exit_code_of(const sdk::Error& error) {
  switch (error.kind) {
    case sdk::ErrorKind::Usage: return exit_code::kUsage;
    case sdk::ErrorKind::Unreachable:
    case sdk::ErrorKind::BrokenAnswer: return exit_code::kUnreachable;
    case sdk::ErrorKind::Refused:
      return error.status >= 502 && error.status <= 504 ? exit_code::kUnreachable
                                                        : exit_code::kRefused;
  }
  return exit_code::kUnreachable;
}

int report(const sdk::Error& error, std::string_view doing) {
  std::string line;
  if (!doing.empty()) line = "cannot " + printable(doing) + ": ";
  // What the words are about: `/fields/password: must have no colon`.
  if (!error.pointer.empty()) line += printable(error.pointer) + ": ";
  line += printable(error.detail);
  const bool code = !error.code.empty() && error.code != "blank" && error.code != error.detail;
  std::string said = code ? printable(error.code) : "";
  if (error.status != 0) said += (code ? ", HTTP " : "HTTP ") + std::to_string(error.status);
  if (error.kind == sdk::ErrorKind::Refused && !said.empty()) line += " (" + said + ")";
  say_error(line);
  if (const auto next = next_step(error); !next.empty()) say_note("next: " + next);
  if (!error.request_id.empty()) say_note("request: " + printable(error.request_id));
  return exit_code_of(error);
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string out;
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - width(row[i]) + 2, ' ');
    }
    while (!out.empty() && out.back() == ' ') out.pop_back();
    out += '\n';
  }
  return out;
}

std::string shown(const std::optional<sys_seconds>& time) {
  return time ? format_time(*time) : "-";
}

sdk::Status print(std::string_view text) {
  while (!text.empty()) {
    const auto count = ::write(STDOUT_FILENO, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      return sdk::fail(sdk::ErrorKind::Usage,
                       std::string("cannot write to standard output: ") + std::strerror(errno));
    }
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

sdk::Status check_standard_output() {
  const auto refused = [](const char* why) {
    return sdk::fail(sdk::ErrorKind::Usage,
                     std::string("what is shown once would be lost on standard output: ") + why +
                         "; nothing was sent");
  };
  // A full device refuses even nothing; a closed descriptor is there for reading only (main.cc).
  if (::write(STDOUT_FILENO, "", 0) < 0) {
    return refused(errno == EBADF ? "it is closed" : std::strerror(errno));
  }
  pollfd output{STDOUT_FILENO, POLLOUT, 0};
  if (::poll(&output, 1, 0) > 0 && (output.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
    return refused("nobody reads it");
  }
  return {};
}

int report_lost(const sdk::Error& error, const std::string& label, const std::string& again) {
  report(error, "keep the " + label);
  say_note("it was made all the same, is on the server, and cannot be shown again");
  say_note("next: " + again);
  return exit_code::kNotKept;
}

}  // namespace postern::cli
