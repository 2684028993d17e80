#include "core/ids.h"

#include <algorithm>

namespace postern::detail {
namespace {

// Not <cctype>: its answers depend on the locale.
bool is_lower(char c) noexcept { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) noexcept { return c >= 'A' && c <= 'Z'; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

}  // namespace

bool is_slug(std::string_view text) noexcept {
  const auto edge = [](char c) { return is_lower(c) || is_digit(c); };
  return !text.empty() && text.size() <= 63 && edge(text.front()) && edge(text.back()) &&
         std::all_of(text.begin(), text.end(), [&](char c) { return edge(c) || c == '-'; });
}

bool is_name(std::string_view text) noexcept {
  const auto alnum = [](char c) { return is_lower(c) || is_upper(c) || is_digit(c); };
  return !text.empty() && text.size() <= 200 && alnum(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return alnum(c) || c == '.' || c == '_' || c == '-'; });
}

bool is_client_url(std::string_view text) noexcept {
  constexpr std::string_view kScheme = "https://";
  if (text.size() > 200 || text.substr(0, kScheme.size()) != kScheme) return false;
  text.remove_prefix(kScheme.size());
  const auto slash = text.find('/');
  if (slash == text.npos) return false;
  auto host = text.substr(0, slash);
  auto path = text.substr(slash);
  if (const auto colon = host.find(':'); colon != host.npos) {
    const auto port = host.substr(colon + 1);
    if (port.empty() || port.size() > 5 || port.front() == '0' || port == "443" ||
        !std::all_of(port.begin(), port.end(), is_digit)) {
      return false;
    }
    host = host.substr(0, colon);
  }
  const auto in_host = [](char c) { return is_lower(c) || is_digit(c) || c == '-' || c == '.'; };
  if (host.empty() || host.front() == '.' || host.back() == '.' ||
      !std::all_of(host.begin(), host.end(), in_host)) {
    return false;
  }
  // Percent signs stay out: an encoded dot or slash would be another spelling.
  const auto in_path = [](char c) {
    return is_lower(c) || is_upper(c) || is_digit(c) ||
           std::string_view("/-._~!$&'()*+,;=:@").find(c) != std::string_view::npos;
  };
  if (!std::all_of(path.begin(), path.end(), in_path)) return false;
  while (!path.empty()) {
    path.remove_prefix(1);
    const auto segment = path.substr(0, path.find('/'));
    if (segment == "." || segment == "..") return false;
    path.remove_prefix(segment.size());
  }
  return true;
}

}  // namespace postern::detail
