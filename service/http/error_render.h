#pragma once

#include <string>
#include <string_view>

#include "core/result.h"
#include "http/message.h"

namespace postern::http {

/// An error as the OAuth endpoints send it: RFC 6749 §5.2 JSON, never cached.
/// `WWW-Authenticate: Basic` goes out only when the request used the
/// Authorization header, because clients that see it hide the JSON code.
/// `realm` is the tenant. Status 500 and above sends the code alone.
Reply oauth_error(const Error& error, bool used_authorization_header, std::string_view realm);

/// The `error` that oauth_error() sends for a code.
std::string_view oauth_error_name(ErrorCode code) noexcept;

/// The `WWW-Authenticate` value that asks a client for its id and secret.
std::string basic_challenge(std::string_view realm);

/// An error as the REST API sends it: RFC 9457 `application/problem+json` with
/// `type` urn:postern:problem:<code>, `title`, `status`, `detail`, and `pointer`
/// (RFC 6901, into the request body) when the error names a place.
///
///   400 MalformedRequest UnsupportedGrant   401 Unauthenticated InvalidClient
///   403 Forbidden UnauthorizedClient        404 NotFound     409 Conflict
///   409 InteractionRequired                 412 PreconditionFailed
///   413 TooLarge                            429 RateLimited  503 Unavailable
///   422 InvalidToken TargetRefused ScopeRefused: well-formed, but refused
///   500 Internal, and NeedsOutbound, which no endpoint may let through
Reply problem(const Error& error);

/// An error as the Vault subset sends it: `{"errors":["…"]}`. What is not there has
/// an empty list, which its clients read as "no such secret".
///
///   400 what is malformed, and a `cas` that does not match
///   403 whoever may not, or has not proven who they are: Vault tells neither apart
///   404, 409, 413, 429, 500, 503 as problem()
Reply vault_error(const Error& error);

/// Which family of endpoints a path belongs to, and so what errors look like:
/// problem+json under /api/, {"errors":[…]} for the Vault subset under
/// /t/{tenant}/v1/ and /v1/, OAuth JSON everywhere else.
enum class Surface { OAuth, Rest, Vault };
Surface surface_of(std::string_view path) noexcept;

/// What the server itself answers when no handler does: 404, 405, 408, 413, …
/// `detail` is ours: ASCII without quote or backslash.
Reply edge_error(int status, Surface surface, std::string_view detail = {});

/// The reason phrase of a status code; "Unknown" when we never send it.
std::string_view reason_phrase(int status) noexcept;

}  // namespace postern::http
