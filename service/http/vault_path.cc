#include "http/vault_path.h"

#include <algorithm>

namespace postern::http {
namespace {

constexpr std::string_view kFolder = "..";

bool is_segment(std::string_view text) {
  const auto plain = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  return !text.empty() && text.front() != '.' && text.back() != '.' &&
         text.find(kFolder) == text.npos && std::all_of(text.begin(), text.end(), plain);
}

/// Takes what stands before the separator off the front, and the separator.
std::string_view next(std::string_view& rest, std::string_view separator) {
  const auto end = rest.find(separator);
  const auto part = rest.substr(0, end);
  rest.remove_prefix(end == rest.npos ? rest.size() : end + separator.size());
  return part;
}

}  // namespace

Result<CredentialName> credential_of_path(std::string_view path) {
  const auto refused = [] {
    return fail(ErrorCode::MalformedRequest,
                "a path is made of segments of letters, digits, dots, underscores and hyphens, "
                "none of which begins or ends with a dot or has two in a row; 200 characters in "
                "all, with two for each slash");
  };
  if (path.empty() || path.ends_with('/')) return refused();
  std::string name;
  for (auto rest = path; !rest.empty();) {
    const auto segment = next(rest, "/");
    if (!is_segment(segment)) return refused();
    if (!name.empty()) name += kFolder;
    name += segment;
  }
  auto parsed = CredentialName::parse(name);
  return parsed.ok() ? std::move(parsed) : refused();
}

std::optional<std::string> path_of_credential(const CredentialName& name) {
  if (name.str().ends_with('.')) return std::nullopt;
  std::string path;
  for (std::string_view rest = name.str(); !rest.empty();) {
    const auto segment = next(rest, kFolder);
    if (!is_segment(segment)) return std::nullopt;
    if (!path.empty()) path += '/';
    path += segment;
  }
  return path;
}

Result<std::string> folder_of_path(std::string_view path) {
  if (path.ends_with('/')) path.remove_suffix(1);
  if (path.empty()) return std::string();
  POSTERN_CHECK(credential_of_path(path));
  return std::string(path) + '/';
}

}  // namespace postern::http
