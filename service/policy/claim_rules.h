#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/config.h"
#include "token/json.h"

namespace postern::policy {

/// RFC 6901 §4: `~1` is a slash, `~0` a tilde.
std::string unescaped_step(std::string_view step);

/// A claim by its name, or by a JSON pointer when the name begins with `/`
/// (objects only, no array indices). Null when absent.
const token::Json* claim_at(const token::Json& claims, std::string_view name);

/// A string, or an array of strings, each of 1 to 512 bytes. Nothing for anything else.
std::optional<std::vector<std::string>> claim_texts(const token::Json& value,
                                                    std::size_t max_items);

/// Whether every claim the rules name is there with one of its values: the
/// claim is that text, or an array that holds it. Anything else does not match.
bool satisfies(const token::Json& claims, const ClaimRules& rules);

}  // namespace postern::policy
