#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "core/result.h"
#include "core/secret.h"

namespace postern::http {

/// Reads `Basic …` as RFC 6749 §2.3.1 has it: base64, split at the first `:`,
/// both halves form-urldecoded. The first half is the client_id as sent, not
/// yet checked to be one of ours; the secret may be empty.
/// Errors: InvalidClient for another scheme or anything that does not decode.
Result<std::pair<std::string, ClientSecret>> basic_credentials(std::string_view header_value);

/// Reads `Bearer b64token` (RFC 6750 §2.1), at most 16 KiB.
/// Errors: Unauthenticated for another scheme or other characters.
Result<BearerToken> bearer_token(std::string_view header_value);
/// The same of what stands in a header by itself. Errors: Unauthenticated.
Result<BearerToken> bare_token(std::string_view header_value);

}  // namespace postern::http
