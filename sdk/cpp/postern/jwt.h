#pragma once

#include <string>
#include <string_view>

#include "postern/error.h"

namespace postern::sdk {

/// The readable parts of a JWT. Nothing here is verified: for a person to look
/// at, never to decide on.
struct UnverifiedJwt {
  std::string header;  ///< JSON text, indented
  std::string claims;  ///< JSON text, indented
};

/// Errors: Usage, when the text is not a signed JWT in compact form.
Result<UnverifiedJwt> decode_unverified(std::string_view token);

}  // namespace postern::sdk
