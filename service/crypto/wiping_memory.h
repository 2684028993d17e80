#pragma once

namespace postern::crypto {

/// OpenSSL overwrites what it frees. False when it has allocated already.
bool wipe_freed_memory() noexcept;

}  // namespace postern::crypto
