// Times and durations that operators name: what is taken is bounded, alike in both
// directions, and no product runs over.

#include "core/instant.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/time_format.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr postern::sys_seconds kNow{std::chrono::seconds(1790000300)};
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto later = postern::instant_after(text, kNow);
  const auto sooner = postern::instant_before(text, kNow);
  if (later.has_value() != sooner.has_value()) std::abort();
  if (!later) return 0;
  if (postern::parse_time(text)) {
    if (later != sooner) std::abort();
  } else if (*later <= kNow || *later - kNow > std::chrono::days(3650) ||
             *later - kNow != kNow - *sooner) {
    std::abort();
  }
  return 0;
}
