#pragma once

namespace postern {

/// Overwrites the 32 KiB of this thread's stack below the caller: what calls that
/// have returned left there in copies and saved registers.
void wipe_stack() noexcept;

}  // namespace postern
