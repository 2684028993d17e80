// ScopeSet and narrow_scope: the first line is requested, the second permitted.

#include "policy/scope.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "policy/authorize.h"

using postern::policy::ScopeSet;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto require = [](bool promise) {
    if (!promise) std::abort();
  };
  const auto end = text.find('\n');
  const auto first = text.substr(0, end);
  const auto asked = ScopeSet::parse(first);
  if (asked.ok()) {
    require(asked.value().size() <= ScopeSet::kMaxTokens);
    for (const auto& token : asked.value()) require(ScopeSet::is_token(token));
    const auto again = ScopeSet::parse(asked.value().str());
    require(again.ok() && again.value() == asked.value());
  }
  if (end == text.npos) return 0;
  const auto permitted = ScopeSet::parse(text.substr(end + 1));
  if (!permitted.ok()) return 0;
  const auto narrowed = postern::policy::narrow_scope(permitted.value(), first);
  require(!narrowed.ok() || narrowed.value().subset_of(permitted.value()));
  require(!narrowed.ok() || asked.ok());
  if (asked.ok()) {
    const auto both = asked.value().intersect(permitted.value());
    require(both.subset_of(asked.value()) && both.subset_of(permitted.value()));
    require(asked.value().subset_of(permitted.value()) == (both == asked.value()));
  }
  return 0;
}
