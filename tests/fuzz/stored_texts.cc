// Labels and metadata as the database has them: what is read is texts, and is the same after
// it was written and read again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "storage/stored_texts.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto texts = postern::storage::parse_texts({reinterpret_cast<const char*>(data), size});
  if (!texts.ok()) return 0;
  const auto again = postern::storage::parse_texts(postern::storage::json_of(texts.value()));
  if (!again.ok() || again.value() != texts.value()) std::abort();
  return 0;
}
