#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace postern::storage {

/// What PostgreSQL stores for a password (RFC 5803, RFC 7677):
///   SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>
/// Computed here so that the password itself is in no SQL text, which servers
/// log and keep in statistics. Errors: MalformedRequest unless the password is
/// 1 to 200 printable ASCII characters (others would need SASLprep).
Result<std::string> scram_verifier(std::string_view password);

/// With a given salt, for test vectors.
std::string scram_verifier(std::string_view password, std::string_view salt, unsigned iterations);

}  // namespace postern::storage
