#pragma once

#include <string>

#include "core/secret.h"

namespace postern::vault {

/// 16 hexadecimal digits that only this key gives and that give nothing of it away.
std::string root_key_id(const RootKey& key);

}  // namespace postern::vault
