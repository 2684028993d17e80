// Whatever bytes a manifest file holds, reading it ends, and yields either
// documents within the bounds or faults, never both and never neither.

#include "cli/manifest.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

using postern::cli::Document;
using postern::cli::Documents;
using postern::cli::Json;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

std::size_t depth_of(const Json& value) {
  std::size_t depth = 0;
  for (const auto& element : value) {
    if (value.is_structured()) depth = std::max(depth, depth_of(element));
  }
  return value.is_structured() ? depth + 1 : 0;
}

/// Every place in the document can be named, and is somewhere in the file.
void walk(const Document& document, const Json& value, const std::string& pointer) {
  const auto fault = document.fault(pointer, "m");
  require(fault.position.line > 0 && fault.position.column > 0);
  if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      walk(document, value[i], pointer + "/" + std::to_string(i));
    }
  } else if (value.is_object()) {
    for (const auto& [key, element] : value.items()) walk(document, element, pointer + "/" + key);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto reading = postern::cli::read_yaml(text, "fuzz.yaml", Documents::Many);
  require(reading.documents.empty() != reading.faults.empty());
  for (const auto& document : reading.documents) {
    require(depth_of(document.json()) <= postern::cli::kMaxManifestDepth);
    if (size < 4096) walk(document, document.json(), "");
    // What was read is JSON that our own strict reader takes back.
    const auto text_again = postern::sdk::dump_secret(document.json());
    const auto again = postern::sdk::parse_json(postern::sdk::view(text_again));
    require(again.ok() && *again.value() == document.json());
  }
  for (const auto& fault : reading.faults) require(!fault.text().empty());
  return 0;
}
