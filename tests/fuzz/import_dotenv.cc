// Whatever a .env file holds, reading it ends. Without its secrets it is such a
// file still, with all its other variables.

#include "cli/import_sources.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

using namespace postern::cli;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto entries = parse_dotenv(text);
  if (!entries.ok()) return 0;
  std::size_t before = 0;
  for (const auto& entry : entries.value()) {
    require(is_field_name(entry.name) && entry.begin >= before && entry.end <= size);
    require(entry.begin < entry.end);
    before = entry.end;
  }
  postern::sdk::SecretBytes copy;
  postern::sdk::append(copy, text);
  const auto found = read_dotenv_file(std::move(copy), "b", "/w/.env", {});
  require(found.ok());
  if (found.value().files.empty()) return 0;
  const auto left = parse_dotenv(postern::sdk::view(found.value().files[0].rewritten));
  require(left.ok());
  require(left.value().size() + found.value().servers[0].secrets.size() == entries.value().size());
  return 0;
}
