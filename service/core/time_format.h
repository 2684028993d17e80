#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"

namespace postern {

/// RFC 3339 in UTC with seconds: `2026-11-21T05:40:00Z`.
std::string format_time(sys_seconds time);

/// Reads what format_time writes (a fraction of a second is accepted and
/// dropped); nothing for any other text or a date that does not exist.
std::optional<sys_seconds> parse_time(std::string_view text);

}  // namespace postern
