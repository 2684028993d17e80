#pragma once

#include "app/config.h"
#include "core/result.h"

namespace postern::app {

/// From here on memory is overwritten as it is freed: that of C++ (in every
/// program that links this), of OpenSSL and of libcurl. Copies that a parser or
/// a growing buffer leaves behind do not wait in the heap for whoever reads it
/// next. What libpq frees is overwritten within a WipingScope (core/wiping_memory.h):
/// elsewhere it has sealed bytes, and the database's password.
///
/// Before the first call of OpenSSL and libcurl; ends the program otherwise.
/// Does nothing where a sanitizer watches the heap.
void wipe_freed_memory();

/// Keeps memory from being swapped out: all of it where the limit allows
/// (CAP_IPC_LOCK, or RLIMIT_MEMLOCK unlimited), else that of SecureBuffer, which
/// locks itself. When that is not all, says so and what to raise: in the log, as
/// `memory.partly_locked`, or as `memory.not_locked` where not even `kLockedBytes`
/// of it may be locked. Errors: Unavailable, with the same words, where
/// `keys.require_locked_memory` is set. A child process has no lock of its parent's.
Status lock_memory(const Config& config);
inline constexpr std::size_t kLockedBytes = 4 * 1024 * 1024;

/// To be called now and then. Tries again to lock what could not be locked when it was
/// taken, and logs when that is so (`memory.lock_failed`) and when it is over.
void keep_memory_locked();

}  // namespace postern::app
