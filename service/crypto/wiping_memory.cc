#include "crypto/wiping_memory.h"

#include <openssl/crypto.h>

#include <cstdlib>

#include "core/wiping_memory.h"

namespace postern::crypto {

bool wipe_freed_memory() noexcept {
  return CRYPTO_set_mem_functions(
             [](std::size_t size, const char*, int) { return std::malloc(size); },
             [](void* memory, std::size_t size, const char*, int) {
               return resize_wiped(memory, size);
             },
             [](void* memory, const char*, int) { free_wiped(memory); }) == 1;
}

}  // namespace postern::crypto
