// Whatever a catalogue of Docker's holds, reading it ends, within the bounds.

#include "cli/import_sources.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

using namespace postern::cli;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ImportRules rules;
  rules.look_up = [](const Reference&) -> std::optional<postern::SecureBuffer> {
    return postern::SecureBuffer::copy_of(std::string_view("value"));
  };
  const auto found = read_docker_catalog(text, "catalog.yaml", rules);
  if (!found.ok()) return 0;
  for (const auto& server : found.value().servers) {
    if (server.secrets.empty() && server.notes.empty()) std::abort();
    if (server.secrets.size() > kMaxImportFields) std::abort();
    for (const auto& secret : server.secrets) {
      if (!is_field_name(secret.field)) std::abort();
    }
  }
  return 0;
}
