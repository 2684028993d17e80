#include "http/handlers/vault_api.h"

#include <memory>
#include <optional>
#include <utility>

#include "http/basic_auth.h"

namespace postern::http {
namespace {

using token::Json;

constexpr std::string_view kInPath = "/t/{}/v1/";
constexpr std::string_view kInHeader = "/v1/";

/// Errors: Unauthenticated; NeedsOutbound, Unavailable.
Result<Caller> caller_with_token(const Services& services, const Request& request,
                                 const policy::TenantSnapshot& snapshot,
                                 const BearerToken& bearer) {
  const auto session =
      bearer.expose([&](ByteView bytes) -> Result<std::optional<grants::VaultSession>> {
        const auto text = as_text(bytes);
        if (!text.starts_with(grants::VaultSessions::kPrefix)) {
          return std::optional<grants::VaultSession>();
        }
        POSTERN_TRY(auto verified, services.vault_sessions->verify(snapshot, text));
        return std::optional(std::move(verified));
      });
  POSTERN_CHECK(session);
  if (session.value()) return Caller{Caller::Kind::Client, {}, {}, *session.value()};
  return caller_with(services, request, &snapshot, bearer);
}

Result<Answer> vault_call(const Services& services, const Request& request, bool in_path,
                          const VaultRoute& route) {
  auto parameters = request.parameters;
  POSTERN_TRY(const auto named, vault_tenant(request, in_path, parameters));
  POSTERN_TRY(const auto bearer, vault_token(request));
  POSTERN_TRY(const auto snapshot, open_tenant(services, named));
  if (!snapshot) return permission_denied();

  auto record = record_for(services, snapshot->tenant(), request, route.action);
  record.with("api", "vault");
  return recorded(request, std::move(record), [&](audit::Event& kept) -> Result<Done> {
    auto caller = caller_with_token(services, request, *snapshot, bearer);
    if (!caller.ok() && caller.error().code == ErrorCode::Unauthenticated) {
      return permission_denied();
    }
    POSTERN_CHECK(caller);
    caller.value().describe(kept);
    if (snapshot->settings().vault() == nullptr) {
      return fail(ErrorCode::Forbidden, "this tenant does not answer to the API of Vault");
    }
    POSTERN_CHECK(check_kind(caller.value(), route.allowed));
    POSTERN_CHECK(snapshot->check_unsealed());
    return route.run({services, request, *snapshot, caller.value(), std::move(parameters), kept});
  });
}

}  // namespace

Result<std::string> vault_tenant(const Request& request, bool in_path,
                                 std::vector<std::string>& parameters) {
  // Who asks for that does not want the value itself in the answer.
  if (request.count("x-vault-wrap-ttl") > 0) {
    return fail(ErrorCode::MalformedRequest, "response wrapping is not offered");
  }
  std::optional<std::string> named;
  if (request.count("x-vault-namespace") > 0) {
    auto text = request.header("x-vault-namespace").value_or("");
    if (text.ends_with('/')) text.remove_suffix(1);  // clients write it either way
    named = text;
  }
  if (!in_path) {
    if (!named) {
      return fail(ErrorCode::MalformedRequest, "name the tenant in X-Vault-Namespace");
    }
    return std::move(*named);
  }
  auto tenant = std::move(parameters.front());
  parameters.erase(parameters.begin());
  if (named && *named != tenant) {
    return fail(ErrorCode::MalformedRequest,
                "X-Vault-Namespace names another tenant than the path");
  }
  return tenant;
}

Result<std::shared_ptr<const policy::TenantSnapshot>> open_tenant(const Services& services,
                                                                  const std::string& named) {
  const std::shared_ptr<const policy::TenantSnapshot> none;
  const auto tenant = TenantId::parse(named);
  if (!tenant.ok()) return none;
  auto found = services.snapshots.get(tenant.value());
  if (!found.ok() && found.error().code == ErrorCode::NotFound) return none;
  POSTERN_TRY(auto snapshot, std::move(found));
  return snapshot->enabled() ? snapshot : none;
}

Error permission_denied() { return fail(ErrorCode::Unauthenticated, "permission denied"); }

Result<BearerToken> vault_token(const Request& request) {
  const bool own = request.count("x-vault-token") > 0;
  if (own && request.count("authorization") > 0) {
    return fail(ErrorCode::MalformedRequest, "send X-Vault-Token or Authorization, not both");
  }
  const auto header = request.header(own ? "x-vault-token" : "authorization");
  if (!header) return permission_denied();
  auto token = own ? bare_token(*header) : bearer_token(*header);
  if (!token.ok()) return permission_denied();
  return token;
}

void add_vault_route(Router& router, Gate& gate, Services& services, const VaultRoute& route) {
  for (const auto prefix : {kInPath, kInHeader}) {
    const bool in_path = prefix == kInPath;
    gate.add(router, route.method, std::string(prefix) + route.pattern, Pool::Database,
             [&services, route, in_path](const Request& request) {
               return vault_call(services, request, in_path, route);
             });
  }
}

void add_vault_endpoint(Router& router, Gate& gate, const char* method, const char* pattern,
                        Pool pool, const VaultEndpoint& endpoint) {
  for (const auto prefix : {kInPath, kInHeader}) {
    const bool in_path = prefix == kInPath;
    gate.add(router, method, std::string(prefix) + pattern, pool,
             [endpoint, in_path](const Request& request) { return endpoint(request, in_path); });
  }
}

Json vault_body(const Request& request, Json data) {
  Json body{{"request_id", request.request_id},
            {"lease_id", ""},
            {"renewable", false},
            {"lease_duration", 0},
            {"wrap_info", nullptr},
            {"warnings", nullptr},
            {"auth", nullptr}};
  body["data"] = std::move(data);
  return body;
}

Reply vault_reply(const Request& request, Json data, int status) {
  auto body = vault_body(request, std::move(data));
  auto reply = json_reply(status, body);
  wipe_texts(body);
  return reply;
}

Result<Json> vault_json(const Request& request) {
  auto parsed = request.body.expose([](ByteView body) { return token::parse_json(as_text(body)); });
  POSTERN_TRY(auto json, std::move(parsed));
  if (!json.is_object()) return fail(ErrorCode::MalformedRequest, "the body must be a JSON object");
  return json;
}

}  // namespace postern::http
