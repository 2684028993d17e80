#pragma once

namespace postern::outbound {

/// libcurl overwrites what it frees. Before its first use; false when it cannot be readied.
bool wipe_freed_memory() noexcept;

}  // namespace postern::outbound
