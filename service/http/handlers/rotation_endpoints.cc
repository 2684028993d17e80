#include "http/handlers/rotation_endpoints.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "core/time_format.h"
#include "http/handlers/credential_api.h"
#include "policy/rotation_settings.h"

/// Rotation of stored credentials. Nothing here answers with a value.
namespace postern::http {
namespace {

using grants::CredentialRotations;
using token::Json;
using vault::CredentialRotation;
using vault::RotationPhase;
using vault::RotationSettings;
using Kind = Caller::Kind;

Error at(std::string pointer, std::string detail) {
  Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
  error.pointer = std::move(pointer);
  return error;
}

void add_time(Json& json, const char* name, const std::optional<sys_seconds>& time) {
  if (time) json[name] = format_time(*time);
}

Json running_json(const CredentialRotation& rotation) {
  const auto& running = rotation.running;
  Json json{{"id", running.id},
            {"phase", to_string(rotation.phase)},
            {"kind", to_string(running.settings.kind)},
            {"version", running.new_version},
            {"previous_version", running.old_version},
            {"started_at", format_time(running.started_at)},
            {"attempts", rotation.attempts}};
  add_time(json, "retire_at", running.retire_at);
  if (is_announced(rotation)) {
    json["public_key"] = running.public_half;
    add_time(json, "promote_at", rotation.next_at);
  }
  return json;
}

/// Where it stands; never a value.
Json state_json(const CredentialRotation& rotation, sys_seconds now) {
  const auto& due = rotation.description.rotation_due_at;
  Json json{{"version", rotation.version},
            {"failures", rotation.failures},
            {"overdue", due && *due <= now}};
  if (rotation.settings) json["settings"] = policy::write(*rotation.settings);
  if (rotation.phase != RotationPhase::None) json["rotation"] = running_json(rotation);
  if (!rotation.problem.empty()) json["problem"] = rotation.problem;
  if (!rotation.public_half.empty() && rotation.public_version == rotation.version) {
    json["public_key"] = rotation.public_half;
  }
  add_time(json, "rotated_at", rotation.rotated_at);
  add_time(json, "failed_at", rotation.failed_at);
  add_time(json, "rotation_due_at", due);
  add_time(json, "next_at", rotation.next_at);
  return json;
}

/// 202 while something outside has still to be told, or somebody to install the key.
Reply state_reply(const CredentialRotation& rotation, sys_seconds now) {
  const bool under_way =
      rotation.phase != RotationPhase::None && rotation.phase != RotationPhase::Previous;
  return json_reply(under_way ? 202 : 200, state_json(rotation, now));
}

Error not_for_users() {
  return fail(ErrorCode::Forbidden, "this rotation is for an admin of the tenant");
}

/// Where something outside is told, it is for admins.
Status check_may_steer(const Caller& caller, const std::optional<RotationSettings>& settings) {
  if (caller.kind != Kind::User || !settings || !settings->reaches_outside()) return {};
  return not_for_users();
}

/// An RSA key takes seconds to make, and whoever waits for a release waits with it.
Status check_may_make(const Caller& caller, const RotationSettings& settings) {
  const auto made_as = settings.made_as();
  const bool pair =
      made_as == vault::RotationKind::KeyPair || made_as == vault::RotationKind::SshKey;
  const bool slow = pair && (settings.key == crypto::KeyPairKind::Rsa3072 ||
                             settings.key == crypto::KeyPairKind::Rsa4096);
  if (caller.kind != Kind::User || !slow) return {};
  return fail(ErrorCode::Forbidden, "RSA keys are made for an admin of the tenant; take ed25519");
}

struct Endpoints {
  Services& services;
  CredentialRotations& rotations;

  using Call = Result<Done> (*)(const Endpoints&, const Request&, const policy::TenantSnapshot&,
                                const Caller&, audit::Event&);
};

Result<Done> show(const Endpoints& on, const Request& request,
                  const policy::TenantSnapshot& snapshot, const Caller& caller,
                  audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record));
  POSTERN_TRY(const auto found, on.rotations.find(snapshot.tenant(), key));
  return Done{json_reply(200, state_json(found, on.services.clock.now()))};
}

Result<Done> configure(const Endpoints& on, const Request& request,
                       const policy::TenantSnapshot& snapshot, const Caller& caller,
                       audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record));
  POSTERN_TRY(const auto body,
              json_body(request, {"kind", "interval_seconds", "grace_seconds", "announce_seconds",
                                  "retired", "field", "public_field", "length", "alphabet",
                                  "require", "algorithm", "generate", "host", "port", "database",
                                  "roles", "admin_credential", "url", "secret_credential"}));
  POSTERN_TRY(const auto settings, policy::read_rotation_settings(body));
  record.with("kind", to_string(settings.kind));
  if (settings.interval) record.with("interval", std::to_string(settings.interval->count()));
  POSTERN_TRY(const auto expected,
              expected_by(on.services, request, snapshot, key, Absent::Refuse));
  POSTERN_TRY(const auto stored,
              on.rotations.configure(snapshot.tenant(), key, settings, record, expected));
  return Done{json_reply(200, state_json(stored, on.services.clock.now())),
              Done::Recorded::InStore};
}

Result<Done> forget(const Endpoints& on, const Request& request,
                    const policy::TenantSnapshot& snapshot, const Caller& caller,
                    audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record));
  POSTERN_TRY(const auto expected,
              expected_by(on.services, request, snapshot, key, Absent::Refuse));
  POSTERN_TRY(const auto stored,
              on.rotations.configure(snapshot.tenant(), key, std::nullopt, record, expected));
  return Done{json_reply(200, state_json(stored, on.services.clock.now())),
              Done::Recorded::InStore};
}

Result<std::optional<std::chrono::seconds>> grace_of(const Json& body) {
  const auto it = body.find("grace_seconds");
  if (it == body.end()) return std::optional<std::chrono::seconds>();
  constexpr std::uint64_t kMost = 90 * 24 * 3600;
  if (it->is_number_unsigned() && it->get<std::uint64_t>() <= kMost) {
    return std::optional(std::chrono::seconds(it->get<std::int64_t>()));
  }
  return at("/grace_seconds", "must be a whole number of seconds from 0 to 7776000");
}

/// How a value is made this once: a kind that tells nobody outside.
Result<std::optional<RotationSettings>> once_of(const Json& body) {
  const auto it = body.find("generate");
  if (it == body.end()) return std::optional<RotationSettings>();
  POSTERN_TRY(const auto settings, policy::read_rotation_settings(*it, "/generate"));
  if (settings.reaches_outside() || settings.kind == vault::RotationKind::Manual) {
    return at("/generate/kind", "must be one of: password, key_pair, ssh_key");
  }
  if (settings.interval) return at("/generate/interval_seconds", "is for settings: this is once");
  return std::optional(settings);
}

Result<Done> rotate(const Endpoints& on, const Request& request,
                    const policy::TenantSnapshot& snapshot, const Caller& caller,
                    audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record, Untrusted::Refuse));
  POSTERN_CHECK(check_may_store(snapshot, caller, key.name));
  POSTERN_CHECK(check_may_replace(on.services, snapshot.tenant(), key, caller));
  POSTERN_TRY(auto body,
              json_body(request, {"fields", "generate", "grace_seconds", "expires_at", "cas"}));
  std::optional<vault::Fields> given;
  if (body.contains("fields")) {
    POSTERN_TRY(given, fields_of(body));
  }
  CredentialRotations::Order order;
  POSTERN_TRY(order.grace, grace_of(body));
  POSTERN_TRY(order.once, once_of(body));
  if (given && order.once) return at("/generate", "goes without fields");
  POSTERN_TRY(order.expires_at, time_member(body, "expires_at", on.services.clock.now()));
  if (order.expires_at && !given) return at("/expires_at", "goes with fields");
  order.given = given ? &*given : nullptr;
  POSTERN_TRY(order.expected,
              expected_of_write(on.services, request, snapshot, key, body, Absent::Refuse));
  POSTERN_TRY(const auto found, on.rotations.find(snapshot.tenant(), key));
  if (found.wanted && caller.kind == Kind::User) return not_for_users();
  if (order.given == nullptr && !order.once) {
    POSTERN_CHECK(check_may_steer(caller, found.settings));
    if (found.settings) POSTERN_CHECK(check_may_make(caller, *found.settings));
  }
  if (order.once) POSTERN_CHECK(check_may_make(caller, *order.once));
  POSTERN_TRY(const auto begun, on.rotations.rotate(snapshot.tenant(), key, order, record));
  return Done{state_reply(begun, on.services.clock.now()), Done::Recorded::InStore};
}

Result<bool> flag_in(const Json& body, const char* name) {
  const auto it = body.find(name);
  if (it == body.end()) return false;
  if (!it->is_boolean()) return at(std::string("/") + name, "must be true or false");
  return it->get<bool>();
}

/// `{"abandon": true}`, where there is something to abandon; no body is none.
Result<bool> abandons(const Request& request, const Caller& caller, bool possible) {
  if (request.body.expose([](ByteView bytes) { return bytes.empty(); })) return false;
  POSTERN_TRY(const auto body, possible ? json_body(request, {"abandon"}) : json_body(request, {}));
  POSTERN_TRY(const auto abandon, flag_in(body, "abandon"));
  if (abandon && caller.kind == Kind::User) {
    return fail(ErrorCode::Forbidden, "only an admin of the tenant may abandon a rotation");
  }
  return abandon;
}

/// @param stuck  the phase that can be abandoned here, or None
template <auto change, RotationPhase stuck>
Result<Done> steer(const Endpoints& on, const Request& request,
                   const policy::TenantSnapshot& snapshot, const Caller& caller,
                   audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record));
  POSTERN_TRY(const auto abandon, abandons(request, caller, stuck != RotationPhase::None));
  POSTERN_TRY(const auto found, on.rotations.find(snapshot.tenant(), key));
  if (found.wanted && caller.kind == Kind::User) return not_for_users();
  if (found.phase != RotationPhase::None) {
    POSTERN_CHECK(check_may_steer(caller, found.running.settings));
  }
  auto result = abandon ? on.rotations.abandon(snapshot.tenant(), key, stuck, record)
                        : (on.rotations.*change)(snapshot.tenant(), key, record);
  POSTERN_TRY(const auto changed, std::move(result));
  const auto now = on.services.clock.now();
  if (stuck == RotationPhase::None) return Done{state_reply(changed, now), Done::Recorded::InStore};
  // What is not retired yet is under way: somebody outside has still to be told.
  const bool waits = changed.next_at && changed.phase != RotationPhase::None;
  return Done{json_reply(waits ? 202 : 200, state_json(changed, now)), Done::Recorded::InStore};
}

Result<Done> report(const Endpoints& on, const Request& request,
                    const policy::TenantSnapshot& snapshot, const Caller&, audit::Event&) {
  POSTERN_TRY(const auto query,
              Query::parse(request.query, {"cursor", "limit", "labels", "type", "overdue"}));
  POSTERN_TRY(const auto limit, query.number("limit", 100, 1, 1000));
  POSTERN_TRY(const auto overdue, query.flag("overdue"));
  vault::CredentialStore::Filter filter;
  POSTERN_TRY(filter.labels, labels_of(query.get("labels").value_or("")));
  filter.type = query.get("type").value_or("");
  const auto now = on.services.clock.now();
  if (overdue) filter.due_by = now;
  POSTERN_TRY(const auto page,
              on.rotations.report(snapshot.tenant(), filter, query.get("cursor").value_or(""),
                                  static_cast<std::uint32_t>(limit)));
  Json body{{"items", Json::array()}};
  for (const auto& [credential, rotation] : page.items) {
    auto item = state_json(rotation, now);
    const auto shown = metadata_json(credential);
    for (const char* name : {"name", "owner", "type", "state", "last_used_at"}) {
      if (shown.contains(name)) item[name] = shown.at(name);
    }
    add_time(item, "rotation_due_at", credential.description.rotation_due_at);
    item["overdue"] =
        credential.description.rotation_due_at && *credential.description.rotation_due_at <= now;
    item["age_seconds"] = std::max<std::int64_t>(0, (now - credential.created_at).count());
    item.erase("public_key");
    if (const auto running = item.find("rotation"); running != item.end()) {
      running->erase("public_key");
    }
    body["items"].push_back(std::move(item));
  }
  if (!page.next.empty()) body["next_cursor"] = page.next;
  return Done{json_reply(200, body)};
}

// ---- in bulk ----

Result<vault::Texts> labels_in(const Json& body) {
  vault::Texts labels;
  const auto it = body.find("labels");
  if (it == body.end()) return labels;
  if (!it->is_object()) return at("/labels", "must be an object of texts");
  for (const auto& [name, text] : it->items()) {
    if (!text.is_string()) return at("/labels", "must hold texts");
    labels.emplace(name, text.get<std::string>());
  }
  return labels;
}

void refuse_item(Json& item, const Error& error) {
  item["status"] = "refused";
  item["detail"] = error.detail.empty() ? std::string(to_string(error.code)) : error.detail;
}

/// Begins it, and says in the item what came of that.
void rotate_one(const Endpoints& on, const TenantId& tenant, const CredentialRotation& rotation,
                bool dry_run, const audit::Event& record, Json& item) {
  auto may = on.rotations.may_rotate(rotation);
  if (may.ok() && dry_run) may = on.rotations.may_begin(tenant, rotation);
  if (!may.ok()) {
    refuse_item(item, may.error());
  } else if (dry_run) {
    item["status"] = "would_rotate";
  } else if (const auto begun = on.rotations.rotate(tenant, rotation.key, {}, record);
             !begun.ok()) {
    refuse_item(item, begun.error());
  } else {
    const auto phase = begun.value().phase;
    const bool done = phase == RotationPhase::Previous || phase == RotationPhase::None;
    item["status"] = done ? "rotated" : "begun";
  }
}

Result<Done> rotate_many(const Endpoints& on, const Request& request,
                         const policy::TenantSnapshot& snapshot, const Caller&,
                         audit::Event& record) {
  POSTERN_CHECK(Query::none(request));
  POSTERN_TRY(const auto body,
              json_body(request, {"labels", "type", "dry_run", "cursor", "limit"}));
  vault::CredentialStore::Filter filter;
  POSTERN_TRY(filter.labels, labels_in(body));
  POSTERN_TRY(const auto type, text_member(body, "type", 64));
  filter.type = type.value_or("");
  if (filter.labels.empty() && filter.type.empty()) {
    return at("/labels", "say which: by labels, by type or by both");
  }
  POSTERN_TRY(const auto dry_run, flag_in(body, "dry_run"));
  POSTERN_TRY(const auto limit, limit_in(body));
  POSTERN_TRY(const auto cursor, text_member(body, "cursor"));
  POSTERN_TRY(const auto page,
              on.rotations.report(snapshot.tenant(), filter, cursor.value_or(""), limit));
  Json answer{{"items", Json::array()}, {"dry_run", dry_run}};
  for (const auto& [credential, rotation] : page.items) {
    const auto shown = metadata_json(credential);
    Json item{{"name", shown.at("name")}, {"owner", shown.at("owner")}};
    auto record_of = record_of_one(record, "credential.rotate", credential.key);
    record_of.with("reason", "bulk");
    rotate_one(on, snapshot.tenant(), rotation, dry_run, record_of, item);
    answer["items"].push_back(std::move(item));
  }
  if (!page.next.empty()) answer["next_cursor"] = page.next;
  record.with("credentials", std::to_string(page.items.size()))
      .with("dry_run", dry_run ? "true" : "false");
  return Done{json_reply(200, answer), Done::Recorded::ByGate};
}

}  // namespace

Result<std::uint32_t> limit_in(const Json& body) {
  const auto it = body.find("limit");
  if (it == body.end()) return std::uint32_t{50};
  if (it->is_number_unsigned() && it->get<std::uint64_t>() >= 1 &&
      it->get<std::uint64_t>() <= 100) {
    return it->get<std::uint32_t>();
  }
  return at("/limit", "must be a number from 1 to 100");
}

audit::Event record_of_one(const audit::Event& act, const char* action,
                           const vault::CredentialKey& key) {
  auto record = act;
  record.action = action;
  record.with("credential", key.name.str())
      .with("credential_owner", key.owner.is_tenant() ? "tenant" : "principal");
  if (!key.owner.is_tenant()) {
    record.with("subject_issuer", key.owner.principal().issuer)
        .with("subject", key.owner.principal().subject);
  }
  return record;
}

void add_rotation_endpoints(Router& router, Gate& gate, Services& services,
                            CredentialRotations& rotations) {
  const Endpoints on{services, rotations};
  enum class For { Admins, Everybody };
  const auto add = [&](const char* method, const char* pattern, const char* action, For whom,
                       Endpoints::Call call) {
    gate.add(router, method, pattern, Pool::Database,
             [on, action, whom, call](const Request& request) {
               const auto run = [&](const policy::TenantSnapshot& snapshot, const Caller& caller,
                                    audit::Event& record) {
                 return call(on, request, snapshot, caller, record);
               };
               return whom == For::Admins
                          ? tenant_call(on.services, request, action,
                                        {Kind::Operator, Kind::TenantAdmin}, run)
                          : tenant_call(on.services, request, action,
                                        {Kind::Operator, Kind::TenantAdmin, Kind::User}, run);
             });
  };
  constexpr auto kRotation = "/api/v1/tenants/{}/credentials/{}/rotation";
  add("GET", kRotation, "credential.read", For::Everybody, show);
  add("PUT", kRotation, "credential.rotation_configure", For::Admins, configure);
  add("DELETE", kRotation, "credential.rotation_forget", For::Admins, forget);
  add("POST", "/api/v1/tenants/{}/credentials/{}/rotate", "credential.rotate", For::Everybody,
      rotate);
  add("POST", "/api/v1/tenants/{}/credentials/{}/rotation/promote", "credential.rotation_promote",
      For::Everybody, steer<&CredentialRotations::promote_now, RotationPhase::None>);
  add("POST", "/api/v1/tenants/{}/credentials/{}/rotation/retire", "credential.rotation_retire",
      For::Everybody, steer<&CredentialRotations::end_grace, RotationPhase::Previous>);
  add("POST", "/api/v1/tenants/{}/credentials/{}/rotation/cancel", "credential.rotation_cancel",
      For::Everybody, steer<&CredentialRotations::cancel, RotationPhase::RollingBack>);
  add("POST", "/api/v1/tenants/{}/rotations", "credential.rotate_many", For::Admins, rotate_many);
  add("GET", "/api/v1/tenants/{}/rotations", "credential.list", For::Admins, report);
}

}  // namespace postern::http
