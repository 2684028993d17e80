#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/time_format.h"
#include "http/handlers/api.h"
#include "policy/signing_keys.h"

/// The keys that a tenant signs its tokens with: list, rotate, withdraw.
namespace postern::http {
namespace {

using Kind = Caller::Kind;
using policy::SigningKeyState;
using token::Json;

const char* name_of(SigningKeyState state) {
  switch (state) {
    case SigningKeyState::Pending: return "pending";
    case SigningKeyState::Active: return "active";
    case SigningKeyState::Retired: return "retired";
  }
  return "";
}

Json keys_json(const policy::TenantSnapshot& snapshot, sys_seconds now) {
  Json items = Json::array();
  for (const auto& key : snapshot.signing_keys()) {
    Json item{{"kid", key.kid},
              {"algorithm", key.algorithm},
              {"state", name_of(key.state(now))},
              {"created_at", format_time(key.created_at)},
              {"active_from", format_time(key.active_from)}};
    if (key.retired_at) item["retired_at"] = format_time(*key.retired_at);
    items.push_back(std::move(item));
  }
  return items;
}

Result<Done> rotate(const Services& services, const Request& request, const TenantId& tenant,
                    audit::Event& record) {
  const auto now = services.clock.now();
  POSTERN_TRY(const auto body, json_body(request, {"algorithm", "publish_for"}));
  POSTERN_TRY(const auto name, text_member(body, "algorithm", 20));
  auto publish_for = policy::kPublishFor;
  if (const auto it = body.find("publish_for"); it != body.end()) {
    const bool fits =
        it->is_number_unsigned() &&
        it->get<std::uint64_t>() <= static_cast<std::uint64_t>(policy::kLongestPublishFor.count());
    if (!fits) {
      Error error = fail(ErrorCode::MalformedRequest, "must be a number of seconds, 0 to 604800");
      error.pointer = "/publish_for";
      return error;
    }
    publish_for = std::chrono::seconds(it->get<std::int64_t>());
  }
  POSTERN_TRY(const auto stored, services.config.load(tenant));
  auto algorithms = policy::signing_algorithms(stored);
  if (name) {
    const auto algorithm = crypto::parse_algorithm(*name);
    using crypto::Algorithm;
    if (algorithm != Algorithm::ES256 && algorithm != Algorithm::EdDSA &&
        algorithm != Algorithm::RS256) {
      Error error = fail(ErrorCode::MalformedRequest, "must be one of: ES256, EdDSA, RS256");
      error.pointer = "/algorithm";
      return error;
    }
    algorithms = {*algorithm};
  }
  POSTERN_TRY(const auto change,
              policy::rotate_signing_keys(services.keyring, stored, algorithms, publish_for, now));
  std::string kids;
  Json items = Json::array();
  for (const auto& key : change.add_signing_keys) {
    kids += (kids.empty() ? "" : " ") + key.kid;
    items.push_back({{"kid", key.kid},
                     {"algorithm", key.algorithm},
                     {"state", name_of(key.state)},
                     {"created_at", format_time(key.created_at)},
                     {"active_from", format_time(key.active_from.value_or(now))}});
  }
  record.with("kids", kids).with("publish_for", std::to_string(publish_for.count()));
  return apply_change(services, tenant, change, record,
                      json_reply(201, {{"items", std::move(items)}}));
}

Result<Done> withdraw(const Services& services, const Request& request, const TenantId& tenant,
                      audit::Event& record) {
  const auto& kid = request.parameters.at(1);
  POSTERN_TRY(const auto stored, services.config.load(tenant));
  POSTERN_TRY(const auto change, policy::withdraw_signing_key(stored, kid, services.clock.now()));
  record.with("kid", kid);  // one of ours: it was found
  return apply_change(services, tenant, change, record, Reply(204));
}

}  // namespace

void add_signing_key_endpoints(Router& router, Gate& gate, Services& services) {
  const auto add = [&](const char* method, const char* pattern, const char* action, auto body) {
    gate.add(
        router, method, pattern, Pool::Database, [&services, action, body](const Request& request) {
          return tenant_call(services, request, action, {Kind::Operator, Kind::TenantAdmin},
                             [&](const auto& snapshot, const auto&, auto& record) -> Result<Done> {
                               POSTERN_CHECK(Query::none(request));
                               return body(services, request, snapshot, record);
                             });
        });
  };
  using policy::TenantSnapshot;
  add("GET", "/api/v1/tenants/{}/signing-keys", "signing_key.list",
      [](const Services& with, const Request&, const TenantSnapshot& snapshot,
         audit::Event&) -> Result<Done> {
        return Done{json_reply(200, {{"items", keys_json(snapshot, with.clock.now())}})};
      });
  add("POST", "/api/v1/tenants/{}/signing-keys/rotation", "signing_key.rotate",
      [](const Services& with, const Request& request, const TenantSnapshot& snapshot,
         audit::Event& record) { return rotate(with, request, snapshot.tenant(), record); });
  add("DELETE", "/api/v1/tenants/{}/signing-keys/{}", "signing_key.withdraw",
      [](const Services& with, const Request& request, const TenantSnapshot& snapshot,
         audit::Event& record) { return withdraw(with, request, snapshot.tenant(), record); });
}

}  // namespace postern::http
