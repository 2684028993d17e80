#pragma once

#include <string_view>

namespace postern {

/// The control characters of ASCII: what ends a line or steers a terminal.
constexpr bool is_control(char c) noexcept {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f;
}

constexpr bool has_control_characters(std::string_view text) noexcept {
  for (const char c : text) {
    if (is_control(c)) return true;
  }
  return false;
}

}  // namespace postern
