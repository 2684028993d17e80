#include "policy/scope_pattern.h"

#include <algorithm>

namespace postern::policy {
namespace {

constexpr std::string_view kVariables[] = {"{sub}", "{issuer}"};

bool unreserved(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~' || c == '@';
}

bool delimiter(char c) noexcept { return c == '/' || c == ':'; }

/// The variable at the beginning of `text`; empty when there is none.
std::string_view variable_at(std::string_view text) noexcept {
  for (const auto name : kVariables) {
    if (text.starts_with(name)) return name;
  }
  return {};
}

std::string encoded(std::string_view value) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : value) {
    if (unreserved(c)) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

/// Without its `*`, and with values for variables; nothing when one has no value.
std::optional<std::string> expanded(std::string_view pattern, const PatternVariables& variables) {
  std::string out;
  while (!pattern.empty()) {
    const auto variable = pattern.front() == '{' ? variable_at(pattern) : std::string_view();
    if (variable.empty()) {
      out += pattern.front();
      pattern.remove_prefix(1);
      continue;
    }
    const auto& value = variable == "{sub}" ? variables.sub : variables.issuer;
    // Dots alone are a step in a path, not a name.
    if (value.find_first_not_of('.') == value.npos) return std::nullopt;
    out += encoded(value);
    pattern.remove_prefix(variable.size());
  }
  return out;
}

bool open_ended(std::string_view pattern) noexcept {
  return !pattern.empty() && pattern.back() == '*';
}

/// What comes before the first variable or the `*`.
std::string_view fixed_part(std::string_view pattern) noexcept {
  auto end = open_ended(pattern) ? pattern.size() - 1 : pattern.size();
  for (const auto name : kVariables) end = std::min(end, std::min(pattern.find(name), end));
  return pattern.substr(0, end);
}

int digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

}  // namespace

Status check_scope_pattern(std::string_view pattern, Variables variables) {
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const auto variable = variable_at(pattern.substr(i));
    if (variable.empty()) continue;
    if (variables == Variables::Refuse) {
      return fail(ErrorCode::MalformedRequest, "takes no variables such as {sub}");
    }
    const auto end = i + variable.size();
    if ((i > 0 && !delimiter(pattern[i - 1])) ||
        (end < pattern.size() && !delimiter(pattern[end]))) {
      return fail(ErrorCode::MalformedRequest,
                  "has a variable that does not stand alone between / or :");
    }
  }
  return {};
}

bool is_scope_pattern(std::string_view pattern) noexcept {
  return open_ended(pattern) || fixed_part(pattern).size() != pattern.size();
}

bool scope_matches(std::string_view pattern, std::string_view token,
                   const PatternVariables& variables) {
  if (pattern == "*") return true;
  if (!is_scope_pattern(pattern)) return pattern == token;
  const bool open = open_ended(pattern);
  if (open) pattern.remove_suffix(1);
  const auto text = expanded(pattern, variables);
  if (!text) return false;
  return open ? token.size() > text->size() && token.starts_with(*text) : token == *text;
}

bool patterns_overlap(std::string_view pattern, std::string_view other) {
  const auto a = fixed_part(pattern), b = fixed_part(other);
  if (!is_scope_pattern(pattern) && !is_scope_pattern(other)) return pattern == other;
  if (!is_scope_pattern(other)) return other.starts_with(a);
  if (!is_scope_pattern(pattern)) return pattern.starts_with(b);
  return a.starts_with(b) || b.starts_with(a);
}

bool is_resource_token(std::string_view token) {
  std::string part;
  const auto ends_well = [&] { return !part.empty() && part != "." && part != ".."; };
  for (std::size_t i = 0; i < token.size(); ++i) {
    char c = token[i];
    if (delimiter(c)) {
      if (!ends_well()) return false;
      part.clear();
      continue;
    }
    if (c == '%') {
      if (token.size() - i < 3) return false;
      const int high = digit(token[i + 1]), low = digit(token[i + 2]);
      if (high < 0 || low < 0) return false;
      c = static_cast<char>(high * 16 + low);
      i += 2;
      const auto byte = static_cast<unsigned char>(c);
      // One spelling, decoded once: what decodes again to something else is out.
      if (unreserved(c) || c == '%' || c == '\\' || byte < 0x20 || byte == 0x7f) return false;
      if (c == '/') {
        if (!ends_well()) return false;
        part.clear();
        continue;
      }
    } else if (!unreserved(c)) {
      return false;
    }
    part += c;
  }
  return ends_well();
}

}  // namespace postern::policy
