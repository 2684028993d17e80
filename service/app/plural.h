#pragma once

#include <cstdint>
#include <string>

namespace postern::app {

/// `1 row`, `2 rows`.
inline std::string plural(std::uint64_t count, const char* one) {
  return std::to_string(count) + ' ' + one + (count == 1 ? "" : "s");
}

}  // namespace postern::app
