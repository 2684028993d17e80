// Scope patterns: the first line is a pattern, the second a user's subject, the
// third a requested token. What matches stays within the pattern's fixed part,
// and never is the resource of a user with another subject.

#include "policy/scope_pattern.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "policy/scope.h"

using namespace postern::policy;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto require = [](bool promise) {
    if (!promise) std::abort();
  };
  std::array<std::string_view, 3> lines;
  for (auto& line : lines) {
    const auto end = std::min(text.find('\n'), text.size());
    line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  const auto [pattern, subject, token] = lines;
  const PatternVariables variables{std::string(subject), "corp"};
  const bool matches = scope_matches(pattern, token, variables);
  if (!is_scope_pattern(pattern)) require(matches == (pattern == token));

  if (is_resource_token(token)) {
    require(token != ".." && token.find("//") == token.npos && token.back() != '/');
    require(ScopeSet::is_token(token) || token.size() > 200);
  }
  if (!check_scope_pattern(pattern, Variables::Allow).ok()) return 0;
  const bool has_sub = pattern.find("{sub}") != pattern.npos;
  if (has_sub) {
    require(!scope_matches(pattern, token, {"", "corp"}));
    // One resource, one owner.
    const PatternVariables other{std::string(subject) + "x", "corp"};
    require(!matches || !scope_matches(pattern, token, other));
  }
  require(!matches || patterns_overlap(pattern, token));
  return 0;
}
