#pragma once

#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/result.h"

namespace postern::crypto {

/// RFC 7515 §2: base64url without padding.
std::string base64url(ByteView bytes);

/// Strict inverse: no padding, no white space, no other alphabet, and the
/// unused bits of the last character must be zero, so every byte string has
/// exactly one encoding. Errors: MalformedRequest.
Result<Bytes> base64url_decode(std::string_view text);

/// Standard alphabet with padding, as HTTP Basic and JWK x5c use; strict likewise.
std::string base64(ByteView bytes);
Result<Bytes> base64_decode(std::string_view text);

}  // namespace postern::crypto
