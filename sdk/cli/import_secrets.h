#pragma once

#include <string_view>

namespace postern::cli {

/// Why a value is taken for a secret: what its name says (TOKEN, API_KEY, …), what it begins
/// with (`ghp_`, `xoxb-`, …), or that it is a URL with a password, or with a secret in its path
/// or query. Empty: it is not.
std::string_view why_secret(std::string_view name, std::string_view value);

/// What a value alone shows.
std::string_view why_secret_value(std::string_view value);

/// What a name alone shows.
std::string_view why_secret_name(std::string_view name);

}  // namespace postern::cli
