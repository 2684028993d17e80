#pragma once

#include <string>
#include <vector>

#include "postern/client.h"

namespace postern::cli {

/// Several backends in one call, as `exec` and `exchange` take them.
/// @param backends  names with commas between them
/// @param scopes    `a b`, or `backend=a b` when there are several
/// Errors: Usage.
sdk::Result<std::vector<sdk::TargetItem>> wanted_items(const std::string& backends,
                                                       const std::vector<std::string>& scopes);

/// Shows why an item was refused, and where the user can act.
void show_refusal(const std::string& backend, const std::string& error, const std::string& detail,
                  const std::string& connect_url);

}  // namespace postern::cli
