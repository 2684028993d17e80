#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"

/// Patterns of scope tokens in permissions.
///
///   repo:read          that token
///   repo:*             a `*` at the end: one or more characters more
///   user/{sub}/*       the user's own: {sub} is `sub` in tokens issued for the user,
///                      {issuer} the name of the issuer they come from
///
/// A `*` elsewhere is itself. A variable stands between delimiters (`/`, `:` or an
/// end), and its value is percent-encoded except for letters, digits and `-._~@`:
/// no value holds a delimiter or a `*`, so no user's pattern covers another's.
namespace postern::policy {

/// What the variables of a pattern stand for. An empty one stands for nothing:
/// a pattern that has it then matches nothing.
struct PatternVariables {
  std::string sub;
  std::string issuer;
};

enum class Variables { Refuse, Allow };

/// Errors: MalformedRequest when a variable does not stand between delimiters,
/// or is not taken here.
Status check_scope_pattern(std::string_view pattern, Variables variables);

/// Whether a pattern has a `*` at its end or a variable; otherwise it is one token.
bool is_scope_pattern(std::string_view pattern) noexcept;

bool scope_matches(std::string_view pattern, std::string_view token,
                   const PatternVariables& variables);

/// Whether some token could match both: for configuration time, where `pattern`
/// has its variables still. Rather true than false.
bool patterns_overlap(std::string_view pattern, std::string_view other);

/// Whether a token that a request made up may stand for a resource: letters,
/// digits, `-._~@`, the delimiters, and percent-encoding in one spelling only;
/// decoded, no part between delimiters is empty, `.` or `..`. So a backend that
/// resolves it as a path stays where the pattern that allowed it said.
bool is_resource_token(std::string_view token);

}  // namespace postern::policy
