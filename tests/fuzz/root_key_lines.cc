// Lines of root key files, of each kind: any bytes are read without harm, and a line
// has one kind at most.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "vault/root_key.h"
#include "vault/root_key_lines.h"
#include "vault/root_key_passphrase.h"
#include "vault/root_key_pkcs11.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern::vault;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const bool clear = RootKeys::parse(text).ok();
  const auto stretched = root_key_lines::keys_of(text, RootKeyPassphrase::is_line);
  const auto encrypted = root_key_lines::keys_of(text, RootKeyPkcs11::is_line);
  const auto some = [](const auto& lines) { return lines.ok() && !lines.value().empty(); };
  if (clear + some(stretched) + some(encrypted) > 1) std::abort();
  if (stretched.ok() && stretched.value().size() > root_key_lines::kMostKeys) std::abort();
  return 0;
}
