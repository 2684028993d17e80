#include "core/ids.h"

#include <algorithm>

namespace postern::detail {
namespace {

// Not <cctype>: its answers depend on the locale.
bool is_lower(char c) noexcept { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) noexcept { return c >= 'A' && c <= 'Z'; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

}  // namespace

bool is_slug(std::string_view text) noexcept {
  const auto edge = [](char c) { return is_lower(c) || is_digit(c); };
  return !text.empty() && text.size() <= 63 && edge(text.front()) && edge(text.back()) &&
         std::all_of(text.begin(), text.end(), [&](char c) { return edge(c) || c == '-'; });
}

bool is_name(std::string_view text) noexcept {
  const auto alnum = [](char c) { return is_lower(c) || is_upper(c) || is_digit(c); };
  return !text.empty() && text.size() <= 200 && alnum(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return alnum(c) || c == '.' || c == '_' || c == '-'; });
}

}  // namespace postern::detail
