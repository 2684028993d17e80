// Whatever a server answers in Vault's place, reading it ends, and no key leads
// out of its folder.

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
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  if (const auto keys = parse_vault_list(body); keys.ok()) {
    for (const auto& key : keys.value()) {
      require(!key.empty() && key != ".." && key != "../" && key != "/");
      const auto slash = key.find('/');
      require(slash == key.npos || slash + 1 == key.size());
    }
  }
  if (const auto server = parse_vault_secret(body, "team/db", {}); server.ok()) {
    require(server.value().secrets.size() <= kMaxImportFields);
    for (const auto& secret : server.value().secrets) require(is_field_name(secret.field));
  }
  return 0;
}
