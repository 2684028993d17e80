#include <algorithm>
#include <charconv>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "http/form.h"
#include "http/handlers/vault_api.h"

/// `sys` of the Vault subset: how the service is, and which mounts there are.
namespace postern::http {
namespace {

using token::Json;
using Kind = Caller::Kind;

/// The status that a caller wants for a state, Vault's otherwise. Go's client asks so, for
/// it takes 4xx and 5xx for errors. Errors: MalformedRequest.
Result<int> wanted_status(const Form& query, std::string_view name, int otherwise) {
  POSTERN_TRY(const auto text, query.optional_single(name));
  if (!text) return otherwise;
  int status = 0;
  const auto* const end = text->data() + text->size();
  const auto read = std::from_chars(text->data(), end, status);
  if (read.ec != std::errc() || read.ptr != end) status = 0;
  // With the others a reply has no body, or is none yet: a proxy would take it for the next.
  const bool has_body =
      status >= 200 && status <= 599 && status != 204 && status != 205 && status != 304;
  if (has_body) return status;
  return fail(ErrorCode::MalformedRequest,
              std::string(name) + " is a status from 200 to 599 of an answer with a body");
}

/// As Go reads it; by its name alone it is true. Errors: MalformedRequest.
Result<bool> wanted_flag(const Form& query, std::string_view name) {
  static const std::set<std::string_view> yes{"", "1", "t", "T", "true", "TRUE", "True"};
  static const std::set<std::string_view> no{"0", "f", "F", "false", "FALSE", "False"};
  POSTERN_TRY(const auto text, query.optional_single(name));
  if (!text || no.contains(*text)) return false;
  if (yes.contains(*text)) return true;
  return fail(ErrorCode::MalformedRequest, std::string(name) + " is true or false");
}

/// By the parameters of Vault's sys/health; others are passed over.
Result<int> health_status(const Request& request, bool sealed, bool standby) {
  POSTERN_TRY(const auto query, Form::parse(request.query, Form::Source::Query));
  POSTERN_TRY(const auto active, wanted_status(query, "activecode", 200));
  POSTERN_TRY(const auto when_standby, wanted_status(query, "standbycode", 429));
  POSTERN_TRY(const auto when_sealed, wanted_status(query, "sealedcode", 503));
  POSTERN_CHECK(wanted_status(query, "uninitcode", 501));  // which it never is
  POSTERN_TRY(const bool standby_ok, wanted_flag(query, "standbyok"));
  if (sealed) return when_sealed;
  return standby && !standby_ok ? when_standby : active;
}

/// The same for every tenant and for none: nobody has proven anything.
Result<Answer> health(const Services& services, const Request& request) {
  const auto is = services.health();
  const bool sealed = !is.has_root_key;
  // It opens nothing until it knows what is current.
  const bool standby = !sealed && !is.current;
  POSTERN_TRY(const int status, health_status(request, sealed, standby));
  return Answer{
      json_reply(status, {{"initialized", true},
                          {"sealed", sealed},
                          {"standby", standby},
                          {"performance_standby", false},
                          {"replication_performance_mode", "disabled"},
                          {"replication_dr_mode", "disabled"},
                          {"server_time_utc", services.clock.now().time_since_epoch().count()},
                          {"version", is.version},
                          {"cluster_name", "postern"},
                          {"cluster_id", ""}})};
}

Result<Answer> seal_status(const Services& services) {
  const auto is = services.health();
  return Answer{json_reply(200, {{"type", "postern"},
                                 {"initialized", true},
                                 {"sealed", !is.has_root_key},
                                 {"t", 1},
                                 {"n", 1},
                                 {"progress", 0},
                                 {"nonce", ""},
                                 {"version", is.version},
                                 {"build_date", ""},
                                 {"migration", false},
                                 {"cluster_name", "postern"},
                                 {"cluster_id", ""},
                                 {"recovery_seal", false},
                                 {"storage_type", "postgresql"}})};
}

Json mount_json(const char* type, const char* description, Json options) {
  return {{"type", type},
          {"description", description},
          {"accessor", ""},
          {"uuid", ""},
          {"config", {{"default_lease_ttl", 0}, {"max_lease_ttl", 0}, {"force_no_cache", false}}},
          {"options", std::move(options)},
          {"local", false},
          {"seal_wrap", false},
          {"external_entropy_access", false}};
}

bool may_use_transit(const VaultCall& call) {
  const auto& transit = call.snapshot.settings().vault()->transit;
  if (!transit) return false;
  if (is_admin(call.caller)) return true;
  return call.caller.kind == Kind::Client &&
         std::any_of(transit->rules.begin(), transit->rules.end(), [&](const auto& rule) {
           return rule.clients.contains(call.caller.session.client);
         });
}

/// Those that this caller may use, by their paths.
Json mounts_of(const VaultCall& call) {
  Json mounts{{call.snapshot.settings().vault()->mount + '/',
               mount_json("kv", "stored credentials", {{"version", "2"}})}};
  if (may_use_transit(call)) {
    mounts["transit/"] = mount_json("transit", "keys that do not leave", nullptr);
  }
  return mounts;
}

Result<Done> mounts(const VaultCall& call) {
  POSTERN_CHECK(Query::none(call.request));
  const auto mounted = mounts_of(call);
  auto body = vault_body(call.request, mounted);
  body.update(mounted);  // older clients read them beside `data`
  return Done{json_reply(200, body)};
}

Result<Done> visible_mounts(const VaultCall& call) {
  POSTERN_CHECK(Query::none(call.request));
  return Done{vault_reply(call.request, {{"auth", Json::object()}, {"secret", mounts_of(call)}})};
}

/// By which mount a path is served: what Vault's command asks before each `kv`.
Result<Done> mount_of_path(const VaultCall& call) {
  POSTERN_CHECK(Query::none(call.request));
  const auto path = call.parameters.at(0) + '/';
  const auto all = mounts_of(call);
  for (const auto& [mount, facts] : all.items()) {
    if (!path.starts_with(mount)) continue;
    auto json = facts;
    json["path"] = mount;
    return Done{vault_reply(call.request, std::move(json))};
  }
  return fail(ErrorCode::Forbidden, "no mount of this tenant serves this path");
}

}  // namespace

void add_vault_system_endpoints(Router& router, Gate& gate, Services& services) {
  add_vault_endpoint(
      router, gate, "GET", "sys/health", Pool::Inline,
      [&services](const Request& request, bool) { return health(services, request); });
  add_vault_endpoint(router, gate, "GET", "sys/seal-status", Pool::Inline,
                     [&services](const Request&, bool) { return seal_status(services); });
  const auto add = [&](const char* method, const char* pattern,
                       Result<Done> (*run)(const VaultCall&)) {
    add_vault_route(
        router, gate, services,
        {method,
         pattern,
         "tenant.read",
         {Kind::Operator, Kind::TenantAdmin, Kind::User, Kind::Client, Kind::ClientForUser},
         run});
  };
  add("GET", "sys/mounts", mounts);
  add("GET", "sys/internal/ui/mounts", visible_mounts);
  add("GET", "sys/internal/ui/mounts/{...}", mount_of_path);
}

}  // namespace postern::http
