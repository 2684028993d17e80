#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "core/bytes.h"

namespace postern::crypto {

/// Fills with bytes from the kernel's generator (libsodium).
void random_bytes(std::span<std::byte> out);

/// 128 random bits in base64url without padding (22 characters): jti and ids.
std::string random_id();

/// 256 random bits in base64url without padding (43 characters): client secrets
/// and API tokens. Only [A-Za-z0-9_-], so Basic encoded and raw agree.
std::string random_token();

}  // namespace postern::crypto
