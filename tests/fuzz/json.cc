// parse_json: never crashes, keeps its limits, and what it accepts survives a
// round trip through dump_json unchanged.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "token/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern::token;
  const JsonLimits limits{.max_bytes = 64 * 1024, .max_depth = 16, .max_values = 2000};
  const auto json = parse_json({reinterpret_cast<const char*>(data), size}, limits);
  if (!json.ok()) return 0;
  (void)numeric_date(json.value());
  const auto text = dump_json(json.value());
  const JsonLimits for_dump{.max_bytes = 1024 * 1024, .max_depth = 16, .max_values = 2000};
  const auto again = parse_json(text, for_dump);
  if (!again.ok() || dump_json(again.value()) != text) std::abort();
  return 0;
}
