#pragma once

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
/// locks itself. Errors: Unavailable, when not even `kLockedBytes` of that may be
/// locked; says what to raise.
Status lock_memory();
inline constexpr std::size_t kLockedBytes = 4 * 1024 * 1024;

}  // namespace postern::app
