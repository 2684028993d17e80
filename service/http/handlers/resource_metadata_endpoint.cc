#include <string>
#include <utility>
#include <vector>

#include "http/handlers/api.h"

/// RFC 9728: the REST API as a protected resource. A client that was refused
/// finds this document by the challenge, and in it who issues the tokens that
/// count: the identity providers that the tenant trusts, never ourselves.
namespace postern::http {
namespace {

using token::Json;

Reply document(const Json& json) {
  auto reply = Reply::json(200, token::dump_json(json));
  // Public, as the authorization server's metadata is.
  reply.set_header("Cache-Control", "public, max-age=300");
  reply.set_header("Access-Control-Allow-Origin", "*");
  return reply;
}

Json about(std::string resource) {
  return {{"resource", std::move(resource)}, {"bearer_methods_supported", {"header"}}};
}

}  // namespace

void add_resource_metadata_endpoint(Router& router, Gate& gate, Services& services) {
  // Operators' tokens come from no server.
  gate.add(router, "GET", "/.well-known/oauth-protected-resource/api/v1", Pool::Compute,
           [&services](const Request&) -> Result<Answer> {
             auto body = about(services.base_url + "/api/v1");
             body["scopes_supported"] = {std::string(kOperatorScope)};
             return Answer{document(body)};
           });
  gate.add(router, "GET", "/.well-known/oauth-protected-resource/api/v1/tenants/{}", Pool::Compute,
           [&services](const Request& request) -> Result<Answer> {
             POSTERN_TRY(const auto snapshot, tenant_of(services, request));
             auto body = about(services.base_url + "/api/v1/tenants/" + snapshot->tenant().str());
             for (const auto& [name, issuer] : snapshot->config().issuers) {
               if (issuer.enabled) body["authorization_servers"].push_back(issuer.issuer);
             }
             // For the tokens of those servers, so none of our own tokens' scopes. RFC 9728 §3.2:
             // no empty list.
             const auto& scopes = snapshot->settings().api_scopes;
             if (!scopes.empty()) {
               body["scopes_supported"] = std::vector<std::string>(scopes.begin(), scopes.end());
             }
             return Answer{document(body)};
           });
}

}  // namespace postern::http
