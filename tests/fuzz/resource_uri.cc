// comparable_resource: whatever it accepts is a form two requests may be compared by.

#include "policy/resource_uri.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

using postern::policy::comparable_resource;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto form = comparable_resource(text);
  if (!form.ok()) return 0;
  const std::string& uri = form.value();
  const auto require = [](bool promise) {
    if (!promise) std::abort();
  };
  require(uri.size() <= text.size() && postern::policy::looks_like_uri(text));
  require(std::all_of(uri.begin(), uri.end(), [](char c) { return c > 0x20 && c < 0x7f; }));
  require(uri.find('#') == uri.npos);
  if (uri.substr(0, 4) == "urn:") return 0;

  const auto host_at = uri.find("://") + 3;
  const auto host_end = std::min(uri.find_first_of("/?", host_at), uri.size());
  const auto host = uri.substr(host_at, host_end - host_at);
  require(!host.empty() && host.find('@') == host.npos);
  require(std::none_of(host.begin(), host.end(), [](char c) { return c >= 'A' && c <= 'Z'; }));
  // One trailing slash more is the same resource, unless it falls into the query.
  if (uri.find('?') == uri.npos && uri.size() < 2000 && uri.back() != '/') {
    const auto slashed = comparable_resource(uri + "/");
    require(slashed.ok() && slashed.value() == uri);
  }
  return 0;
}
