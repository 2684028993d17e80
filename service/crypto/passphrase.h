#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/bytes.h"
#include "core/result.h"
#include "core/secret.h"

namespace postern::crypto {

/// What stretching a passphrase costs, and so what guessing it costs.
struct StretchCost {
  std::uint32_t passes = 4;        ///< 2 to 16
  std::uint32_t memory_mib = 256;  ///< 8 to 1024
};
inline constexpr std::size_t kSaltBytes = 16;
using Salt = std::array<std::byte, kSaltBytes>;

/// 32 bytes by Argon2id version 1.3 (RFC 9106), one lane. Takes the memory that the
/// cost says, and about a second for each 512 MiB and four passes.
/// Errors: MalformedRequest for a cost out of bounds; Unavailable when there is not so
/// much memory.
Result<SecureBuffer> stretch(ByteView passphrase, const Salt& salt, StretchCost cost);

}  // namespace postern::crypto
