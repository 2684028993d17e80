#pragma once

#include "http/handlers/authenticate.h"
#include "http/handlers/services.h"
#include "http/router.h"

namespace postern::http {

/// Adds the OAuth surface: token endpoint (RFC 6749 §3.2, RFC 8693), metadata
/// (RFC 8414), JWKS (RFC 7517) and the authorization endpoint's refusal.
void add_oauth_endpoints(Router& router, Gate& gate, Services& services);

/// Adds introspection (RFC 7662) and revocation (RFC 7009).
void add_token_status_endpoints(Router& router, Gate& gate, Services& services);

/// Whether the body is of this media type, given in lower case.
bool has_media_type(const Request& request, std::string_view wanted);

/// RFC 6749 §3.2: parameters come as a form, and none of them in the URI that
/// must not be logged. Errors: MalformedRequest.
Status check_oauth_request(const Request& request);

}  // namespace postern::http
