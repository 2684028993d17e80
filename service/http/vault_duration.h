#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace postern::http {

/// A time as Vault's clients write it: seconds (`300`), or whole hours, minutes and
/// seconds in that order (`1h30m`, `45s`). Nothing for anything else, and for more
/// than a year.
std::optional<std::chrono::seconds> vault_duration(std::string_view text);

}  // namespace postern::http
