#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "policy/tools.h"

/// `authorization_details`: whatever is accepted is written back as the same, and
/// covers itself.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto details = policy::parse_tool_details(text);
  if (!details.ok()) return 0;
  const auto again = policy::read_tool_details(policy::write(details.value()));
  if (!again.ok() || again.value() != details.value()) std::abort();
  for (const auto& detail : details.value()) {
    if (!policy::covers(details.value(), detail)) std::abort();
  }
  return 0;
}
