// Times of Vault's clients (X-Vault-Wrap-TTL): what is taken is bounded, and no sum
// runs over.

#include "http/vault_duration.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto time = postern::http::vault_duration(text);
  if (!time) return 0;
  if (*time < std::chrono::seconds(0) || *time > std::chrono::hours(366 * 24)) std::abort();
  if (text.find_first_not_of("0123456789hms") != text.npos) std::abort();
  return 0;
}
