#include "core/time_format.h"
#include "http/handlers/vault_api.h"

/// `sys` of the Vault subset: how the service is, and which mount there is.
namespace postern::http {
namespace {

using token::Json;
using Kind = Caller::Kind;

/// The same for every tenant and for none: nobody has proven anything.
Result<Answer> health(const Services& services) {
  const auto is = services.health();
  const bool well = is.has_root_key && is.current;
  // Vault's 503 is "sealed"; without a database there is nothing to open either.
  return Answer{json_reply(well ? 200 : 503,
                           {{"initialized", true},
                            {"sealed", !is.has_root_key},
                            {"standby", is.has_root_key && !is.current},
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

std::string mount_of(const VaultCall& call) {
  return call.snapshot.settings().vault()->mount + '/';
}

Json mount_json() {
  return {{"type", "kv"},
          {"description", "stored credentials"},
          {"accessor", ""},
          {"uuid", ""},
          {"config", {{"default_lease_ttl", 0}, {"max_lease_ttl", 0}, {"force_no_cache", false}}},
          {"options", {{"version", "2"}}},
          {"local", false},
          {"seal_wrap", false},
          {"external_entropy_access", false}};
}

Result<Done> mounts(const VaultCall& call) {
  POSTERN_CHECK(Query::none(call.request));
  const Json mounted{{mount_of(call), mount_json()}};
  auto body = vault_body(call.request, mounted);
  body.update(mounted);  // older clients read them beside `data`
  return Done{json_reply(200, body)};
}

Result<Done> visible_mounts(const VaultCall& call) {
  POSTERN_CHECK(Query::none(call.request));
  return Done{vault_reply(
      call.request, {{"auth", Json::object()}, {"secret", {{mount_of(call), mount_json()}}}})};
}

/// By which mount a path is served: what Vault's command asks before each `kv`.
Result<Done> mount_of_path(const VaultCall& call) {
  POSTERN_CHECK(Query::none(call.request));
  const auto mount = mount_of(call);
  if (!(call.parameters.at(0) + '/').starts_with(mount)) {
    return fail(ErrorCode::Forbidden, "no mount of this tenant serves this path");
  }
  auto json = mount_json();
  json["path"] = mount;
  return Done{vault_reply(call.request, std::move(json))};
}

}  // namespace

void add_vault_system_endpoints(Router& router, Gate& gate, Services& services) {
  add_vault_endpoint(router, gate, "GET", "sys/health", Pool::Inline,
                     [&services](const Request&, bool) { return health(services); });
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
