#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "postern/error.h"

namespace postern::cli {

/// What the program ends with. `exec` has numbers of its own, because there
/// 0 to 76 belong to the command it starts.
namespace exit_code {
inline constexpr int kOk = 0;
inline constexpr int kRefused = 1;      ///< the server said no; diff: there are differences
inline constexpr int kUsage = 2;        ///< wrong options or files; nothing was sent
inline constexpr int kUnreachable = 3;  ///< no answer that can be used; trying later may help
inline constexpr int kNotKept = 4;      ///< done, but what came of it could not be shown or kept

inline constexpr int kExecUnreachable = 69;
inline constexpr int kExecRefused = 77;
inline constexpr int kExecUsage = 78;
inline constexpr int kExecCannotRun = 126;
inline constexpr int kExecNotFound = 127;
}  // namespace exit_code

/// `text` without what could change a terminal: control characters (also C1),
/// marks that reverse the direction of text, and bytes that are not UTF-8 are
/// shown as \xNN. Every text that came from a server or a token goes through
/// this before a person sees it.
std::string printable(std::string_view text);

/// Lines on standard error that begin with `postern: `.
void say_error(std::string_view text);
void say_note(std::string_view text);

/// Shows why `doing` failed, with the next step and the request id where there
/// is one. Returns the exit code.
int report(const sdk::Error& error, std::string_view doing);

/// What a person can do about it; empty when there is nothing to add.
std::string next_step(const sdk::Error& error);

int exit_code_of(const sdk::Error& error);

/// Columns aligned to their widest cell; the last column runs free.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// "2026-11-21T05:40:00Z", or "-" for none.
std::string shown(const std::optional<sys_seconds>& time);

/// Writes to standard output and notices when that fails (a full disk, a
/// closed pipe), so that a lost secret or token does not look like success.
sdk::Status print(std::string_view text);

/// Whether standard output takes anything now: it is not closed, not full, and
/// somebody reads it. Asked before the server makes what is shown once.
/// Errors: Usage.
sdk::Status check_standard_output();

/// Says that a secret was made and is lost, and how to get another.
/// Returns kNotKept.
int report_lost(const sdk::Error& error, const std::string& label, const std::string& again);

}  // namespace postern::cli
