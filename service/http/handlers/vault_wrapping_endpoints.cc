#include "core/time_format.h"
#include "http/handlers/vault_api.h"

/// `sys/wrapping` of the Vault subset. Whoever holds a wrapping token may look it up,
/// take what it stands for, and change it for another: it is shown as `token` in the
/// body beside a token of one's own, or by itself as X-Vault-Token.
namespace postern::http {
namespace {

using token::Json;
using Kind = Caller::Kind;

/// Any JSON object, wrapped: the answer to be is the body that was sent.
Result<Done> wrap(const VaultCall& call) {
  POSTERN_CHECK(Query::none(call.request));
  POSTERN_TRY(auto body, vault_json(call.request));
  return Done{vault_reply(call.request, std::move(body)), Done::Recorded::ByGate};
}

/// What came with a request: the wrapping token, and the caller's own if there is one.
struct Presented {
  BearerToken wrapping;
  std::optional<BearerToken> own;
};

/// Errors: Unauthenticated, MalformedRequest.
Result<Presented> presented(const Request& request) {
  POSTERN_TRY(auto body, optional_vault_json(request));
  POSTERN_TRY(auto header, vault_token(request));
  const auto named = body.find("token");
  if (named == body.end() || named->is_null() || *named == "") {
    return Presented{std::move(header), std::nullopt};
  }
  if (!named->is_string()) return fail(ErrorCode::MalformedRequest, "token must be text");
  BearerToken token(SecureBuffer::take(std::move(named->get_ref<std::string&>())));
  return Presented{std::move(token), std::move(header)};
}

/// What is done with a wrapping token, by what it says.
using Use = Result<Done> (*)(const Services& services, const Request& request,
                             const TenantId& tenant, std::string_view token, audit::Event& record);

Result<Answer> use_token(const Services& services, const Request& request, bool in_path,
                         const char* action, Use use) {
  auto parameters = request.parameters;
  POSTERN_CHECK(refuse_wrapping(request));
  POSTERN_CHECK(Query::none(request));
  POSTERN_TRY(const auto named, vault_tenant(request, in_path, parameters));
  POSTERN_TRY(const auto tokens, presented(request));
  POSTERN_TRY(const auto snapshot, open_tenant(services, named));
  // As at a tenant that never made this token.
  const auto unknown = tokens.own ? permission_denied() : vault::Wrapping::not_valid();
  if (!snapshot) return unknown;

  auto record = record_for(services, snapshot->tenant(), request, action);
  record.with("api", "vault");
  return recorded(services, request, std::move(record), [&](audit::Event& kept) -> Result<Done> {
    if (tokens.own) {
      POSTERN_CHECK(vault_caller(services, request, *snapshot, *tokens.own, kept));
    }
    if (snapshot->settings().vault() == nullptr) return unknown;
    return tokens.wrapping.expose([&](ByteView bytes) {
      auto used = use(services, request, snapshot->tenant(), as_text(bytes), kept);
      if (!used.ok() && used.error().code == ErrorCode::MalformedRequest &&
          vault::Wrapping::has_form(as_text(bytes))) {
        // Somebody else may have had what this one was to get.
        kept.with("alarm", "wrapping_token_not_valid");
      }
      return used;
    });
  });
}

Result<Done> unwrap(const Services& services, const Request&, const TenantId& tenant,
                    std::string_view token, audit::Event& record) {
  POSTERN_TRY(const auto answer, services.wrapping->unwrap(tenant, token, record));
  auto reply =
      Reply::json(200, answer.expose([](ByteView bytes) { return std::string(as_text(bytes)); }));
  reply.no_store();
  return Done{std::move(reply), Done::Recorded::InStore};
}

Result<Done> look_up(const Services& services, const Request& request, const TenantId& tenant,
                     std::string_view token, audit::Event& record) {
  POSTERN_TRY(const auto found, services.wrapping->look_up(tenant, token, record));
  return Done{
      vault_reply(request, {{"creation_path", found.creation_path},
                            {"creation_time", format_time(found.created_at)},
                            {"creation_ttl", (found.expires_at - found.created_at).count()}}),
      Done::Recorded::ByGate};
}

Result<Done> rewrap(const Services& services, const Request& request, const TenantId& tenant,
                    std::string_view token, audit::Event& record) {
  POSTERN_TRY(const auto made, services.wrapping->rewrap(tenant, token, record));
  return Done{wrap_reply(request, made), Done::Recorded::InStore};
}

}  // namespace

void add_vault_wrapping_endpoints(Router& router, Gate& gate, Services& services) {
  const auto add_use = [&](const char* method, const char* pattern, const char* action, Use use) {
    add_vault_endpoint(router, gate, method, pattern, Pool::Database,
                       [&services, action, use](const Request& request, bool in_path) {
                         return use_token(services, request, in_path, action, use);
                       });
  };
  const auto add_wrap = [&](const char* method, const char* pattern) {
    add_vault_route(router, gate, services,
                    {method,
                     pattern,
                     "vault.wrap",
                     {Kind::Operator, Kind::TenantAdmin, Kind::User, Kind::Client},
                     wrap,
                     Wraps::Always});
  };
  add_wrap("POST", "sys/wrapping/wrap");
  add_wrap("PUT", "sys/wrapping/wrap");
  add_use("POST", "sys/wrapping/unwrap", "vault.unwrap", unwrap);
  add_use("PUT", "sys/wrapping/unwrap", "vault.unwrap", unwrap);
  constexpr auto kLookUp = "sys/wrapping/lookup";
  add_use("GET", kLookUp, "vault.wrapping_lookup", look_up);
  add_use("POST", kLookUp, "vault.wrapping_lookup", look_up);
  add_use("PUT", kLookUp, "vault.wrapping_lookup", look_up);
  add_use("POST", "sys/wrapping/rewrap", "vault.rewrap", rewrap);
  add_use("PUT", "sys/wrapping/rewrap", "vault.rewrap", rewrap);
}

}  // namespace postern::http
