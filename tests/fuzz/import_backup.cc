// What `postern import` keeps of earlier imports of a file: what is read of it is written as
// the same again.

#include "cli/import_backup.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

using namespace postern::cli;

namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<Kept> imports(1);  // the last one is kept by itself
  if (!add_earlier(imports, {reinterpret_cast<const char*>(data), size})) return 0;
  const auto text = earlier_text(imports);
  std::vector<Kept> again(1);
  require(add_earlier(again, postern::sdk::view(text)) && again.size() == imports.size());
  for (std::size_t i = 0; i < imports.size(); ++i) {
    require(again[i].original == imports[i].original);
    require(again[i].rewritten == imports[i].rewritten);
  }
  require(earlier_text(again) == text);
  return 0;
}
