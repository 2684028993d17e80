#pragma once

#include <chrono>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"

namespace postern::token {

using Json = nlohmann::json;

struct JsonLimits {
  std::size_t max_bytes = 1024 * 1024;
  std::size_t max_depth = 32;
  std::size_t max_values = 50'000;  ///< members and elements in all
};

/// Parses one JSON text strictly: RFC 8259, UTF-8, one value, nothing after it
/// but white space. Refuses what nlohmann/json lets pass: duplicate member
/// names at any depth (also when spelled with escapes), NUL and what follows
/// it, a byte-order mark, nesting and size beyond the limits, numbers that do
/// not fit (1e999). Also refuses `\u0000` in strings and names, which RFC 8259
/// allows: C interfaces (libpq) would cut the text there.
/// Errors: MalformedRequest, TooLarge.
Result<Json> parse_json(std::string_view text, const JsonLimits& limits = {});

/// Compact, members sorted; never throws: bytes that are not UTF-8 are replaced.
std::string dump_json(const Json& value);

/// Overwrites every text in it; names of members stay.
void wipe_texts(Json& value);

/// A number of seconds since the epoch that may be fractional (RFC 7519 §2),
/// rounded down. Nothing for other types, negatives and values above 2^53:
/// nlohmann/json would turn `true` into 1 and 2^64-1 into -1.
std::optional<std::chrono::sys_seconds> numeric_date(const Json& value);

}  // namespace postern::token
