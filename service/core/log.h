#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace postern::log {

/// One field of a log line. Values are names, codes, ids and numbers: never
/// request text, tokens, secrets or parts of them.
using Field = std::pair<std::string_view, std::string_view>;
using Fields = std::initializer_list<Field>;

enum class Level { Debug, Info, Warning, Error };

/// Lines go to standard error as `time level event key=value …`; values with
/// blanks or control characters are quoted and escaped, so a line stays one line.
void set_level(Level level);

void debug(std::string_view event, Fields fields = {});
void info(std::string_view event, Fields fields = {});
void warning(std::string_view event, Fields fields = {});
void error(std::string_view event, Fields fields = {});

}  // namespace postern::log
