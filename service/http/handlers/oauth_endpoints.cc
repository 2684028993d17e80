#include "http/handlers/oauth_endpoints.h"

#include <algorithm>
#include <array>
#include <string>

#include "core/json_text.h"
#include "http/form.h"
#include "http/handlers/authenticate.h"

namespace postern::http {
namespace {

constexpr std::string_view kTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange";
constexpr std::string_view kJwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer";

enum class Grant { Exchange, ClientCredentials, JwtBearer, OnBehalfOf };

/// Which grant is asked for, and the action that its audit record names.
/// Errors: UnsupportedGrant, MalformedRequest.
Result<Grant> grant_of(const Form& form, audit::Event& record) {
  POSTERN_TRY(const auto type, form.required_single("grant_type"));
  if (type == kTokenExchange) {
    record.action = "token.exchange";
    return Grant::Exchange;
  }
  if (type == "client_credentials") {
    record.action = "token.client_credentials";
    return Grant::ClientCredentials;
  }
  if (type != kJwtBearer)
    return fail(ErrorCode::UnsupportedGrant, "this grant_type is not offered");
  POSTERN_TRY(const auto use, form.optional_single("requested_token_use"));
  if (!use) {
    record.action = "token.jwt_bearer";
    return Grant::JwtBearer;
  }
  if (*use != "on_behalf_of") {
    return fail(ErrorCode::MalformedRequest, "requested_token_use can only be on_behalf_of");
  }
  record.action = "token.exchange";
  return Grant::OnBehalfOf;
}

/// RFC 6749 §2.3.1: credentials never stand in the URI, where they are logged.
bool secret_in_query(std::string_view query) {
  constexpr std::array<std::string_view, 9> kSecrets{
      "client_secret", "subject_token", "actor_token", "client_assertion", "assertion", "code",
      "refresh_token", "password",      "token"};
  while (!query.empty()) {
    const auto end = std::min(query.find('&'), query.size());
    const auto name = query.substr(0, std::min(query.find('='), end));
    if (std::find(kSecrets.begin(), kSecrets.end(), name) != kSecrets.end()) return true;
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return false;
}

/// `authorization_details` (RFC 9396 §6). Errors: InvalidAuthorizationDetails.
Result<std::optional<policy::ToolDetails>> tool_details(const Form& form) {
  POSTERN_TRY(const auto text, form.optional_single("authorization_details"));
  if (!text) return std::optional<policy::ToolDetails>();
  POSTERN_TRY(auto details, policy::parse_tool_details(*text));
  return std::optional(std::move(details));
}

/// Entra ID's on-behalf-of flow: an exchange in other words. Its `assertion` is
/// the user's access token, and it names the target within `scope`:
/// `<audience>/.default` for all, or `<audience>/<scope>`.
Result<grants::IssuedToken> on_behalf_of(const Services& services,
                                         const policy::TenantSnapshot& snapshot,
                                         const grants::Caller& caller, const Form& form,
                                         grants::Wait wait, audit::Event& record) {
  grants::TokenExchangeRequest asked;
  POSTERN_TRY(asked.subject_token, form.required_single("assertion"));
  asked.subject_token_type = "urn:ietf:params:oauth:token-type:access_token";
  asked.audiences = form.all("audience");
  asked.resources = form.all("resource");
  POSTERN_TRY(asked.tools, tool_details(form));
  POSTERN_TRY(asked.scope, form.optional_single("scope"));
  std::string scopes;
  if (asked.scope) {
    auto rest = *asked.scope;
    while (!rest.empty()) {
      const auto end = std::min(rest.find(' '), rest.size());
      auto scope = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      const auto slash = scope.rfind('/');
      if (slash != scope.npos && snapshot.resolve(scope.substr(0, slash)) != nullptr) {
        asked.audiences.push_back(scope.substr(0, slash));
        scope.remove_prefix(slash + 1);
        if (scope == ".default") continue;
      }
      (scopes += scope) += ' ';
    }
    // One target may be named once for each of its scopes.
    std::sort(asked.audiences.begin(), asked.audiences.end());
    asked.audiences.erase(std::unique(asked.audiences.begin(), asked.audiences.end()),
                          asked.audiences.end());
    asked.scope = scopes;
    if (scopes.empty()) asked.scope.reset();
  }
  POSTERN_TRY(auto issued, services.exchange.exchange(snapshot, caller, asked, wait, record));
  issued.issued_token_type.clear();  // a member of RFC 8693 answers only
  return issued;
}

Result<grants::IssuedToken> grant(const Services& services, const policy::TenantSnapshot& snapshot,
                                  const Request& request, const Form& form, Grant type,
                                  audit::Event& record) {
  POSTERN_TRY(auto caller, authenticate(services, snapshot, request, &form, record));
  POSTERN_CHECK(
      prove_key(services, snapshot, request, "/t/" + snapshot.tenant().str() + "/token", caller));
  POSTERN_CHECK(snapshot.check_unsealed());
  POSTERN_TRY(const auto scope, form.optional_single("scope"));
  const auto audiences = form.all("audience");
  const auto resources = form.all("resource");
  const auto wait = wait_of(request);
  POSTERN_TRY(auto tools, tool_details(form));
  switch (type) {
    case Grant::ClientCredentials:
      if (tools) {
        return fail(ErrorCode::InvalidAuthorizationDetails,
                    "authorization_details are for the tokens of users");
      }
      return services.client_credentials.grant(snapshot, caller, audiences, resources, scope,
                                               record, wait_of(request));
    case Grant::JwtBearer: {
      if (services.jwt_bearer == nullptr) {
        return fail(ErrorCode::UnsupportedGrant, "this grant_type is not offered");
      }
      POSTERN_TRY(const auto assertion, form.required_single("assertion"));
      return services.jwt_bearer->grant(snapshot, caller,
                                        {assertion, audiences, resources, scope, std::move(tools)},
                                        wait, record);
    }
    case Grant::OnBehalfOf: return on_behalf_of(services, snapshot, caller, form, wait, record);
    case Grant::Exchange: break;
  }
  grants::TokenExchangeRequest asked;
  POSTERN_TRY(asked.subject_token, form.required_single("subject_token"));
  POSTERN_TRY(asked.subject_token_type, form.required_single("subject_token_type"));
  POSTERN_TRY(asked.actor_token, form.optional_single("actor_token"));
  POSTERN_TRY(asked.actor_token_type, form.optional_single("actor_token_type"));
  POSTERN_TRY(asked.requested_token_type, form.optional_single("requested_token_type"));
  asked.audiences = audiences;
  asked.resources = resources;
  asked.scope = scope;
  asked.tools = std::move(tools);
  return services.exchange.exchange(snapshot, caller, asked, wait, record);
}

/// RFC 6749 §5.1. Written without a JSON library: this is the hot path, and only
/// a stored credential can need escaping (the others: a JWT, a number, RFC 6749
/// §3.3 scope tokens, our URIs).
Reply token_reply(const grants::IssuedToken& issued) {
  std::string body;
  body.reserve(2 * issued.access_token.size() + 4096);  // never moved: no copy of it stays behind
  body += R"({"access_token":)";
  issued.access_token.expose([&](ByteView bytes) { append_json_string(body, as_text(bytes)); });
  body += R"(,"token_type":")";
  body += issued.token_type;
  body += R"(","expires_in":)";
  body += std::to_string(issued.expires_in.count());
  if (!issued.scope.empty()) {
    body += R"(,"scope":")";
    body += issued.scope.str();
    body += '"';
  }
  if (!issued.authorization_details.empty()) {
    body += R"(,"authorization_details":)";
    body += issued.authorization_details;
  }
  if (!issued.issued_token_type.empty()) {
    body += R"(,"issued_token_type":")";
    body += issued.issued_token_type;
    body += '"';
  }
  body += '}';
  auto reply = Reply::json(200, std::move(body));
  reply.no_store();
  return reply;
}

Result<Answer> token_endpoint(const Services& services, const Request& request) {
  POSTERN_TRY(const auto snapshot, tenant_of(services, request));
  POSTERN_CHECK(check_oauth_request(request));
  auto record = record_for(services, snapshot->tenant(), request, "token.request");
  const auto decide = [&]() -> Result<grants::IssuedToken> {
    POSTERN_TRY(const auto form,
                request.body.expose([](ByteView body) { return Form::parse(as_text(body)); }));
    POSTERN_CHECK(form.refuse_repeats_except({"audience", "resource"}));
    POSTERN_TRY(const auto type, grant_of(form, record));
    return grant(services, *snapshot, request, form, type, record);
  };
  const auto issued = decide();
  if (issued.ok()) {
    auto reply = token_reply(issued.value());
    offer_nonce(services, snapshot->tenant(), request, nullptr, reply);
    return Answer{std::move(reply), {std::move(record)}};
  }
  const auto& error = issued.error();
  if (error.code == ErrorCode::NeedsOutbound || error.code == ErrorCode::NeedsDatabase) {
    return error;
  }
  auto reply = render(error, request);
  offer_nonce(services, snapshot->tenant(), request, &error, reply);
  return Answer{std::move(reply), refusal_records(std::move(record), error)};
}

Reply document(const std::string& json) {
  auto reply = Reply::json(200, json);
  // Public by nature: browsers may read it, caches may keep it for a while.
  reply.set_header("Cache-Control", "public, max-age=300");
  reply.set_header("Access-Control-Allow-Origin", "*");
  return reply;
}

}  // namespace

bool has_media_type(const Request& request, std::string_view wanted) {
  const auto type = request.header("content-type");
  if (!type) return false;
  // Media-type parameters such as charset=UTF-8 are common and mean nothing here.
  const auto end = std::min(type->find(';'), type->size());
  auto media = type->substr(0, end);
  while (!media.empty() && (media.back() == ' ' || media.back() == '\t')) media.remove_suffix(1);
  return media.size() == wanted.size() &&
         std::equal(media.begin(), media.end(), wanted.begin(), [](char a, char b) {
           return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + 32) : a) == b;
         });
}

Status check_oauth_request(const Request& request) {
  if (!has_media_type(request, "application/x-www-form-urlencoded")) {
    return fail(ErrorCode::MalformedRequest, "the body must be application/x-www-form-urlencoded");
  }
  if (secret_in_query(request.query)) {
    return fail(ErrorCode::MalformedRequest, "send parameters in the body, never in the URI");
  }
  return {};
}

void add_oauth_endpoints(Router& router, Gate& gate, Services& services) {
  gate.add(router, "POST", "/t/{}/token", Pool::Compute,
           [&services](const Request& request) { return token_endpoint(services, request); });
  gate.add(router, "GET", "/t/{}/jwks", Pool::Compute,
           [&services](const Request& request) -> Result<Answer> {
             POSTERN_TRY(const auto snapshot, tenant_of(services, request));
             return Answer{document(snapshot->jwks_document())};
           });
  gate.add(router, "GET", "/.well-known/oauth-authorization-server/t/{}", Pool::Compute,
           [&services](const Request& request) -> Result<Answer> {
             POSTERN_TRY(const auto snapshot, tenant_of(services, request));
             return Answer{document(snapshot->metadata_document())};
           });
  // Published because MCP clients want it in the metadata; no client is
  // registered for codes, so it never redirects anywhere.
  gate.add(router, "GET", "/t/{}/authorize", Pool::Compute,
           [&services](const Request& request) -> Result<Answer> {
             POSTERN_CHECK(tenant_of(services, request));
             auto reply = Reply::text(400,
                                      "This authorization server issues no authorization codes. "
                                      "Use its token endpoint.\n");
             reply.no_store();
             return Answer{std::move(reply)};
           });
}

}  // namespace postern::http
