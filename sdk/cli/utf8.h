#pragma once

#include <cstddef>
#include <string_view>

namespace postern::cli::utf8 {

struct Character {
  char32_t code_point = 0;
  std::size_t length = 0;  ///< in bytes; 0 when the text does not begin with valid UTF-8
};

/// The first character of a text (RFC 3629: no overlong forms, no surrogates).
Character first(std::string_view text) noexcept;

}  // namespace postern::cli::utf8
