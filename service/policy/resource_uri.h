#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace postern::policy {

/// The form in which two resource URIs are compared (RFC 8707 §2, RFC 3986 §6.2):
/// scheme and host in lower case, default port dropped, an empty path and one
/// trailing slash dropped, everything else byte for byte.
///
/// Errors: TargetRefused for what is not an absolute http(s) or urn URI of
/// visible ASCII, has a fragment or user information, or is over 2,000 bytes.
Result<std::string> comparable_resource(std::string_view uri);

/// Whether the text is an absolute URI with scheme http or https (so that a
/// value of `audience` that is a URI is compared as one).
bool looks_like_uri(std::string_view text) noexcept;

}  // namespace postern::policy
