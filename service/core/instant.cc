#include "core/instant.h"

#include <charconv>
#include <chrono>
#include <cstdint>
#include <system_error>

#include "core/time_format.h"

namespace postern {
namespace {

using std::chrono::seconds;

std::optional<seconds> duration(std::string_view text) {
  constexpr std::int64_t kTenYears = 3650LL * 86400;
  constexpr std::string_view kUnits = "smhd";
  constexpr std::int64_t kSeconds[] = {1, 60, 3600, 86400};
  std::int64_t count = 0;
  const auto* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, count);
  if (parsed.ec != std::errc() || parsed.ptr + 1 != end || count <= 0) return std::nullopt;
  const auto unit = kUnits.find(*parsed.ptr);
  if (unit == kUnits.npos || count > kTenYears / kSeconds[unit]) return std::nullopt;
  return seconds(count * kSeconds[unit]);
}

}  // namespace

std::optional<sys_seconds> instant_after(std::string_view text, sys_seconds now) {
  if (const auto time = parse_time(text)) return time;
  const auto length = duration(text);
  return length ? std::optional(now + *length) : std::nullopt;
}

std::optional<sys_seconds> instant_before(std::string_view text, sys_seconds now) {
  if (const auto time = parse_time(text)) return time;
  const auto length = duration(text);
  return length ? std::optional(now - *length) : std::nullopt;
}

}  // namespace postern
