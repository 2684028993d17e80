#include "outbound/wiping_memory.h"

#include <curl/curl.h>

#include <cstdlib>
#include <cstring>

#include "core/wiping_memory.h"

namespace postern::outbound {

bool wipe_freed_memory() noexcept {
  return curl_global_init_mem(CURL_GLOBAL_DEFAULT, std::malloc, free_wiped, resize_wiped, ::strdup,
                              std::calloc) == CURLE_OK;
}

}  // namespace postern::outbound
