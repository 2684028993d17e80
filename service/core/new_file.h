#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string_view>

#include "core/result.h"

namespace postern {

/// Makes a file of mode 0600 that holds `content`, whole or not at all, also
/// when the machine stops half-way: it is written and synced under another name
/// (`path` with `.new`), then given its own. Never replaces what is there.
/// Errors: Conflict when there is something of that name; Unavailable.
Status make_private_file(const std::filesystem::path& path, std::string_view content);

/// The same over a file that is there: whoever opens `path` finds the old content
/// or the new, whole. The new file has mode 0600 and the owner and group given.
/// Errors: Unavailable, also when this process may not give it that owner.
Status replace_private_file(const std::filesystem::path& path, std::string_view content,
                            uid_t owner, gid_t group);

/// What was written to a file that make_private_file made is on disk when this returns,
/// and so is its name. Errors: Unavailable.
Status sync_file(const std::filesystem::path& path);

}  // namespace postern
