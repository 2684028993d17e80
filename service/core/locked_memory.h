#pragma once

namespace postern {

/// Locks what of the memory for secrets could not be locked when it was taken: a limit was
/// reached for a moment, or has been raised since. Returns what secure_memory_locked() then says.
bool lock_secure_memory() noexcept;

}  // namespace postern
