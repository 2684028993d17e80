// Paths of views, and the paths that are asked for. What a view takes has the user's
// claim where the view has a place for it, and no path is of two views.

#include "policy/view.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

using namespace postern;
using namespace postern::policy;

namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == at) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

/// Each segment of a path that a view takes is what the view has there.
void check_found(const Views::Found& found, std::string_view path, const ViewClaims& claims) {
  const auto asked = split(path, '/');
  const auto shown = split(found.view->path(), '/');
  require(asked.size() == shown.size());
  for (std::size_t i = 0; i < asked.size(); ++i) {
    if (shown[i] == "{sub}") {
      require(claims.sub == asked[i]);
    } else if (shown[i] == "{preferred_username}") {
      require(claims.preferred_username == asked[i]);
    } else if (shown[i] == "{backend}") {
      require(found.backend == asked[i]);
    } else {
      require(shown[i] == asked[i]);
    }
    require(!asked[i].empty());
  }
}

}  // namespace

// Lines: sub, preferred_username, the path that is asked for, then paths of views.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto lines = split({reinterpret_cast<const char*>(data), size}, '\n');
  if (lines.size() < 4 || lines.size() > 20) return 0;
  const ViewClaims claims{lines[0], lines[1]};
  Views views, reversed;
  for (std::size_t i = 3; i < lines.size(); ++i) {
    for (const auto& backend : {std::optional<BackendId>(), std::optional(BackendId("github"))}) {
      auto view = View::parse(lines[i], backend);
      if (!view.ok()) continue;
      require(view.value().path() == lines[i]);
      (void)views.add(std::move(view).value());
    }
  }
  for (auto it = views.all().rbegin(); it != views.all().rend(); ++it) {
    require(reversed.add(*it).ok());
  }
  const auto found = views.find(lines[2], claims);
  const auto again = reversed.find(lines[2], claims);
  require(found.has_value() == again.has_value());
  if (!found) return 0;
  check_found(*found, lines[2], claims);
  require(found->view->path() == again->view->path());
  return 0;
}
