#include "policy/resource_uri.h"

#include <algorithm>

namespace postern::policy {
namespace {

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

std::string lowered(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), lower);
  return out;
}

Error malformed() {
  return fail(ErrorCode::TargetRefused, "resource must be an absolute URI without fragment");
}

}  // namespace

bool looks_like_uri(std::string_view text) noexcept {
  const auto starts = [&](std::string_view scheme) {
    return text.size() > scheme.size() && std::equal(scheme.begin(), scheme.end(), text.begin(),
                                                     [](char a, char b) { return a == lower(b); });
  };
  return starts("https://") || starts("http://") || starts("urn:");
}

Result<std::string> comparable_resource(std::string_view uri) {
  const bool visible =
      std::all_of(uri.begin(), uri.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (uri.size() > 2000 || !visible || !looks_like_uri(uri) ||
      uri.find_first_of("#\"\\<>^`{|}") != std::string_view::npos) {
    return malformed();
  }
  const auto colon = uri.find(':');
  const std::string scheme = lowered(uri.substr(0, colon));
  if (scheme == "urn") return scheme + std::string(uri.substr(colon));

  const auto rest = uri.substr(colon + 3);
  const auto path_at = std::min(rest.find_first_of("/?"), rest.size());
  std::string authority = lowered(rest.substr(0, path_at));
  std::string path(rest.substr(path_at));
  if (authority.empty() || authority.find('@') != std::string::npos) return malformed();

  // RFC 3986 §3.2.2: brackets around an address, and only there more colons.
  const auto bracket = authority.rfind(']');
  const auto port_at = authority.find(':', bracket == std::string::npos ? 0 : bracket);
  const auto host = authority.substr(0, port_at);
  const bool literal = host.size() > 2 && host.front() == '[';
  if (host.empty() ||
      host.find_first_of("[]", literal ? 1 : 0) != (literal ? host.size() - 1 : host.npos)) {
    return malformed();
  }
  if (port_at != std::string::npos) {
    const auto port = authority.substr(port_at + 1);
    const bool digits =
        std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits || port.size() > 5) return malformed();
    if (port.empty() || (scheme == "https" && port == "443") ||
        (scheme == "http" && port == "80")) {
      authority.resize(port_at);
    }
  }
  if (!path.empty() && path.back() == '/' && path.find('?') == std::string::npos) path.pop_back();
  return scheme + "://" + authority + path;
}

}  // namespace postern::policy
