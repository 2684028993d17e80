#include "http/error_render.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

namespace postern::http {
namespace {

struct OAuthError {
  int status;
  const char* name;
};

OAuthError oauth_code(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::MalformedRequest: return {400, "invalid_request"};
    // RFC 8693 §2.2.2 asks for invalid_request, not invalid_grant, here.
    case ErrorCode::InvalidToken: return {400, "invalid_request"};
    // RFC 7521 §4.1.1, where the assertion is the grant.
    case ErrorCode::InvalidGrant: return {400, "invalid_grant"};
    case ErrorCode::InvalidClient: return {401, "invalid_client"};
    case ErrorCode::InvalidDpopProof: return {400, "invalid_dpop_proof"};
    case ErrorCode::UseDpopNonce: return {400, "use_dpop_nonce"};
    case ErrorCode::InvalidAuthorizationDetails: return {400, "invalid_authorization_details"};
    case ErrorCode::InsufficientAuthentication: return {400, "insufficient_user_authentication"};
    case ErrorCode::UnauthorizedClient: return {400, "unauthorized_client"};
    case ErrorCode::UnsupportedGrant: return {400, "unsupported_grant_type"};
    case ErrorCode::TargetRefused: return {400, "invalid_target"};
    case ErrorCode::ScopeRefused: return {400, "invalid_scope"};
    case ErrorCode::InteractionRequired: return {400, "interaction_required"};
    // The next four are REST codes; RFC 6749 §5.2 has only its own for them.
    case ErrorCode::Unauthenticated: return {401, "invalid_client"};
    case ErrorCode::Forbidden: return {400, "unauthorized_client"};
    case ErrorCode::NotFound: return {404, "invalid_request"};
    case ErrorCode::Conflict: return {409, "invalid_request"};
    case ErrorCode::PreconditionFailed: return {412, "invalid_request"};
    case ErrorCode::TooLarge: return {413, "invalid_request"};
    // §5.2 names no 429 or 5xx errors; this one is borrowed from §4.1.2.1.
    case ErrorCode::RateLimited: return {429, "temporarily_unavailable"};
    case ErrorCode::Unavailable:
    case ErrorCode::KeyUnavailable:
    case ErrorCode::TenantSealed: return {503, "temporarily_unavailable"};
    case ErrorCode::NeedsDatabase:
    case ErrorCode::NeedsOutbound: return {500, "server_error"};
    case ErrorCode::Internal: return {500, "server_error"};
  }
  return {500, "server_error"};
}

struct ProblemKind {
  int status;
  const char* name;
  const char* title;
};

ProblemKind problem_kind(ErrorCode code) {
  switch (code) {
    case ErrorCode::MalformedRequest: return {400, "malformed-request", "Malformed request"};
    case ErrorCode::InvalidToken: return {422, "invalid-token", "Token not accepted"};
    case ErrorCode::InvalidGrant: return {422, "invalid-grant", "Assertion not accepted"};
    case ErrorCode::InvalidClient: return {401, "invalid-client", "Client not authenticated"};
    case ErrorCode::InvalidDpopProof:
    case ErrorCode::UseDpopNonce: return {401, "invalid-dpop-proof", "DPoP proof not accepted"};
    case ErrorCode::InvalidAuthorizationDetails:
      return {422, "invalid-authorization-details", "Authorization details refused"};
    case ErrorCode::InsufficientAuthentication:
      return {403, "insufficient-user-authentication", "The user must authenticate again"};
    case ErrorCode::UnauthorizedClient:
      return {403, "unauthorized-client", "Client not authorized"};
    case ErrorCode::UnsupportedGrant: return {400, "unsupported-grant", "Grant not supported"};
    case ErrorCode::TargetRefused: return {422, "target-refused", "Target refused"};
    case ErrorCode::ScopeRefused: return {422, "scope-refused", "Scope refused"};
    case ErrorCode::InteractionRequired:
      return {409, "interaction-required", "The user must act first"};
    case ErrorCode::Unauthenticated: return {401, "unauthenticated", "Authentication required"};
    case ErrorCode::Forbidden: return {403, "forbidden", "Forbidden"};
    case ErrorCode::NotFound: return {404, "not-found", "Not found"};
    case ErrorCode::Conflict: return {409, "conflict", "Conflict"};
    case ErrorCode::PreconditionFailed: return {412, "precondition-failed", "Precondition failed"};
    case ErrorCode::TooLarge: return {413, "too-large", "Too large"};
    case ErrorCode::RateLimited: return {429, "rate-limited", "Too many attempts"};
    case ErrorCode::Unavailable:
    case ErrorCode::KeyUnavailable: return {503, "unavailable", "Temporarily unavailable"};
    case ErrorCode::TenantSealed: return {503, "tenant-sealed", "The tenant is sealed"};
    case ErrorCode::NeedsDatabase:
    case ErrorCode::NeedsOutbound: return {500, "internal", "Internal error"};
    case ErrorCode::Internal: return {500, "internal", "Internal error"};
  }
  return {500, "internal", "Internal error"};
}

/// RFC 6749 §5.2: error_description is %x20-21 / %x23-5B / %x5D-7E.
std::string description(std::string_view detail) {
  std::string kept;
  kept.reserve(detail.size());
  for (const char c : detail) {
    if (c >= 0x20 && c <= 0x7e && c != '"' && c != '\\') kept += c;
  }
  return kept;
}

/// RFC 6749 §5.2: error_uri is %x21 / %x23-5B / %x5D-7E.
bool is_uri_text(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c > 0x20 && c <= 0x7e && c != '"' && c != '\\';
  });
}

void set_retry_after(Reply& reply, const Error& error) {
  if (error.retry_after) {
    reply.set_header("Retry-After", std::to_string(error.retry_after->count()));
  } else if (reply.status() == 503 || reply.status() == 429) {
    reply.set_header("Retry-After", "1");
  }
}

}  // namespace

Reply oauth_error(const Error& error, bool used_authorization_header, std::string_view realm) {
  const auto [status, name] = oauth_code(error.code);
  auto body = std::string("{\"error\":\"") + name + '"';
  // The one failure of ours that waiting does not end: whom to ask must be plain.
  if (error.code == ErrorCode::TenantSealed) {
    body += R"(,"error_description":"the tenant is sealed","reason":"tenant_sealed")";
  }
  if (status < 500) {
    if (const auto text = description(error.detail); !text.empty()) {
      body += ",\"error_description\":\"" + text + '"';
    }
  }
  if (is_uri_text(error.remedy.connect_url)) {
    body += ",\"error_uri\":\"" + error.remedy.connect_url + '"';
  }
  // RFC 9470 §3, in the body: the gateway makes the user's challenge of them.
  if (const auto acr = description(error.remedy.acr_values); !acr.empty()) {
    body += ",\"acr_values\":\"" + acr + '"';
  }
  if (error.remedy.max_age) {
    body += ",\"max_age\":" + std::to_string(error.remedy.max_age->count());
  }
  auto reply = Reply::json(status, body + '}');
  reply.no_store();
  if (status == 401 && used_authorization_header) {
    reply.set_header("WWW-Authenticate", basic_challenge(realm));
  }
  set_retry_after(reply, error);
  return reply;
}

std::string_view oauth_error_name(ErrorCode code) noexcept { return oauth_code(code).name; }

std::string basic_challenge(std::string_view realm) {
  return "Basic realm=\"" + description(realm) + "\", charset=\"UTF-8\"";
}

Reply problem(const Error& error) {
  const auto [status, name, title] = problem_kind(error.code);
  nlohmann::ordered_json body;
  body["type"] = std::string("urn:postern:problem:") + name;
  body["title"] = title;
  body["status"] = status;
  if (status < 500) {
    if (!error.detail.empty()) body["detail"] = error.detail;
    if (!error.pointer.empty()) body["pointer"] = error.pointer;
    const auto& remedy = error.remedy;
    if (!remedy.connect_url.empty()) body["connect_url"] = remedy.connect_url;
    if (!remedy.acr_values.empty()) body["acr_values"] = remedy.acr_values;
    if (remedy.max_age) body["max_age"] = remedy.max_age->count();
  }
  Reply reply(status);
  reply.set_header("Content-Type", "application/problem+json");
  // Details are ours and ASCII; `replace` keeps a mistake from throwing here.
  reply.body(body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  reply.no_store();
  if (status == 401) reply.set_header("WWW-Authenticate", "Bearer");
  set_retry_after(reply, error);
  return reply;
}

Reply vault_error(const Error& error) {
  const auto kind = problem_kind(error.code);
  int status = kind.status;
  switch (status) {
    case 401: status = 403; break;
    case 412:
    case 422: status = 400; break;
    default: break;
  }
  auto body = nlohmann::json{{"errors", nlohmann::json::array()}};
  if (status >= 500) {
    // The words for a seal are Vault's own: its clients tell it from other failures.
    body["errors"].push_back(error.code == ErrorCode::TenantSealed ? "Vault is sealed"
                                                                   : kind.title);
  } else if (status != 404) {
    auto text = error.detail.empty() ? std::string(kind.title) : error.detail;
    if (!error.pointer.empty()) text = error.pointer.substr(1) + ": " + text;
    body["errors"].push_back(std::move(text));
  }
  auto reply =
      Reply::json(status, body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  reply.no_store();
  set_retry_after(reply, error);
  return reply;
}

Surface surface_of(std::string_view path) noexcept {
  if (path.starts_with("/api/")) return Surface::Rest;
  if (path.starts_with("/v1/")) return Surface::Vault;
  if (path.starts_with("/t/")) {
    const auto slash = path.find('/', 3);
    if (slash != path.npos && path.substr(slash).starts_with("/v1/")) return Surface::Vault;
  }
  return Surface::OAuth;
}

Reply edge_error(int status, Surface surface, std::string_view detail) {
  const auto reason = std::string(reason_phrase(status));
  Reply reply(status);
  switch (surface) {
    case Surface::Rest:
      reply.set_header("Content-Type", "application/problem+json");
      reply.body(R"({"type":"about:blank","title":")" + reason + R"(","status":)" +
                 std::to_string(status) +
                 (detail.empty() ? "" : ",\"detail\":\"" + description(detail) + '"') + '}');
      break;
    case Surface::Vault:
      reply.set_header("Content-Type", "application/json");
      // Vault's own 404 has an empty list; its clients read that as "no such secret".
      reply.body(status == 404 ? R"({"errors":[]})" : R"({"errors":[")" + reason + R"("]})");
      break;
    case Surface::OAuth: {
      const char* name = status == 404   ? "not_found"
                         : status == 503 ? "temporarily_unavailable"
                         : status >= 500 ? "server_error"
                                         : "invalid_request";
      reply.set_header("Content-Type", "application/json");
      reply.body(std::string(R"({"error":")") + name + '"' +
                 (detail.empty() ? "" : ",\"error_description\":\"" + description(detail) + '"') +
                 '}');
      break;
    }
  }
  reply.no_store();
  if (status == 503) reply.set_header("Retry-After", "1");
  return reply;
}

std::string_view reason_phrase(int status) noexcept {
  switch (status) {
    case 100: return "Continue";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 428: return "Precondition Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
  }
  return "Unknown";
}

}  // namespace postern::http
