#pragma once

#include "core/result.h"

namespace postern::vault {

/// Whether it is what share_store_is_away() says.
bool is_share_store_away(const Error& error);

}  // namespace postern::vault
