#pragma once

#include <optional>
#include <string_view>

#include "core/clock.h"

namespace postern {

/// A point in time as operators write it: RFC 3339 in UTC (`2027-01-31T00:00:00Z`), or how
/// long after `now`, or before it: `90d`, `12h`, `30m`, `45s`, ten years at most. Nothing for
/// anything else.
std::optional<sys_seconds> instant_after(std::string_view text, sys_seconds now);
std::optional<sys_seconds> instant_before(std::string_view text, sys_seconds now);

/// What to say of a text that is neither.
inline constexpr std::string_view kInstantExpected =
    "is neither a time such as 2027-01-31T00:00:00Z nor a duration such as 90d, 12h, 30m or 45s";

}  // namespace postern
