#include "http/vault_duration.h"

#include <charconv>
#include <cstdint>

namespace postern::http {
namespace {

constexpr std::int64_t kMost = 366 * 24 * 3600;

std::int64_t seconds_in(char unit) {
  switch (unit) {
    case 'h': return 3600;
    case 'm': return 60;
    case 's': return 1;
    default: return 0;
  }
}

}  // namespace

std::optional<std::chrono::seconds> vault_duration(std::string_view text) {
  if (text.empty()) return std::nullopt;
  std::int64_t total = 0;
  std::int64_t before = kMost;  // each unit is smaller than the one before it
  const bool bare = text.find_first_not_of("0123456789") == text.npos;
  while (!text.empty()) {
    std::uint32_t number = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
    if (read.ec != std::errc()) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(read.ptr - text.data()));
    const auto unit = bare ? 1 : text.empty() ? 0 : seconds_in(text.front());
    if (unit == 0 || unit >= before) return std::nullopt;
    if (!bare) text.remove_prefix(1);
    before = unit;
    total += number * unit;
    if (total > kMost) return std::nullopt;
  }
  return std::chrono::seconds(total);
}

}  // namespace postern::http
