#pragma once

#include "http/handlers/services.h"
#include "http/router.h"

namespace postern::http {

/// Adds the OAuth surface: token endpoint (RFC 6749 §3.2, RFC 8693), metadata
/// (RFC 8414), JWKS (RFC 7517) and the authorization endpoint's refusal.
void add_oauth_endpoints(Router& router, Gate& gate, Services& services);

/// Adds introspection (RFC 7662) and revocation (RFC 7009).
void add_token_status_endpoints(Router& router, Gate& gate, Services& services);

/// RFC 6749 §3.2: parameters come as a form, and none of them in the URI that
/// must not be logged. Errors: MalformedRequest.
Status check_oauth_request(const Request& request);

/// The client that a request authenticates, by exactly one method
/// (RFC 6749 §2.3): `client_secret_basic` or `client_secret_post`.
/// `form` may be null (REST API: Basic only). `record` gets the client's id.
/// Errors: InvalidClient, MalformedRequest (two methods, or two ids).
class Form;
Result<grants::Caller> authenticate(const Services& services,
                                    const policy::TenantSnapshot& snapshot, const Request& request,
                                    const Form* form, audit::Event& record);

}  // namespace postern::http
