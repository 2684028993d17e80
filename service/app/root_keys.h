#pragma once

#include <memory>

#include "app/config.h"
#include "vault/root_key_provider.h"

namespace postern::app {

/// Where the configuration says that the root keys are.
std::unique_ptr<vault::RootKeyProvider> root_key_provider(const Config& config);

}  // namespace postern::app
