#include <algorithm>
#include <iterator>
#include <utility>

#include "core/text.h"
#include "core/time_format.h"
#include "crypto/base64url.h"
#include "crypto/hash.h"
#include "grants/emergency_cursor.h"
#include "grants/touched_credentials.h"
#include "http/handlers/credential_api.h"
#include "http/handlers/rotation_endpoints.h"

/// Rotates or disables all that a user, a client or a backend touched, and revokes what
/// was issued to them: for the hour after something was stolen.
namespace postern::http {
namespace {

using grants::CredentialRotations;
using token::Json;
using vault::RotationPhase;
using Again = CredentialRotations::Again;
using Kind = Caller::Kind;

Error at(std::string pointer, std::string detail) {
  Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
  error.pointer = std::move(pointer);
  return error;
}

struct Order {
  grants::Suspect suspect;
  sys_seconds since{};
  bool disable = false;
  bool dry_run = false;
  std::string reason;
  std::uint32_t limit = 0;
  grants::EmergencyCursor from{};
  bool goes_on = false;
};

/// How much of the trail one answer looks through. A cursor keeps to what its first page said,
/// or pages of one search would not be of the same part.
Result<std::uint64_t> records_in(const Json& body) {
  constexpr auto kMost = grants::SearchPart::kMostRecords;
  const auto it = body.find("records");
  if (it == body.end()) return std::uint64_t{kMost};
  if (it->is_number_unsigned() && it->get<std::uint64_t>() >= 1 &&
      it->get<std::uint64_t>() <= kMost) {
    return it->get<std::uint64_t>();
  }
  return at("/records", "must be a number from 1 to " + std::to_string(kMost));
}

/// What the pages of one order have in common; a time like "an hour ago" is another one each time.
std::string name_of(const Order& order) {
  const auto& suspect = order.suspect;
  Json json{{"client", suspect.client},
            {"backend", suspect.backend},
            {"disable", order.disable},
            {"dry_run", order.dry_run}};
  if (suspect.principal) {
    json["principal"] = {suspect.principal->issuer, suspect.principal->subject};
  }
  return crypto::base64url(crypto::sha256(as_bytes(token::dump_json(json))));
}

/// @param order  whose other members are read already
Status read_position(const Json& body, sys_seconds now, Order& order) {
  POSTERN_TRY(const auto records, records_in(body));
  POSTERN_TRY(const auto cursor, text_member(body, "cursor", grants::EmergencyCursor::kMaxBytes));
  order.goes_on = cursor.has_value();
  const auto name = name_of(order);
  if (!cursor) {
    order.from.order = name;
    order.from.begun_at = now;
    order.from.part.most_records = records;
    return {};
  }
  auto read = grants::read_emergency_cursor(*cursor, now);
  if (!read.ok()) return at("/cursor", read.error().detail);
  order.from = std::move(read).value();
  if (order.from.order != name) {
    return at("/cursor",
              "is of another order: whose traces, action and dry_run must be what they were");
  }
  return {};
}

Result<std::optional<Principal>> principal_in(const Json& body) {
  const auto it = body.find("principal");
  if (it == body.end()) return std::optional<Principal>();
  const auto text = [&](const char* name) -> std::string {
    const auto member = it->find(name);
    return member != it->end() && member->is_string() ? member->get<std::string>() : std::string();
  };
  Principal principal;
  if (it->is_object() && it->size() == 2) principal = {text("issuer"), text("subject")};
  if (principal.issuer.empty() || principal.subject.empty()) {
    return at("/principal", "must have issuer and subject, and nothing else");
  }
  return std::optional(std::move(principal));
}

Result<std::string> one_line(const Json& body, const char* name, std::size_t most) {
  POSTERN_TRY(auto text, text_member(body, name, most));
  if (text && (text->empty() || has_control_characters(*text))) {
    return at(std::string("/") + name, "must be one line of text");
  }
  return text.value_or("");
}

Result<Order> read_order(const Json& body, sys_seconds now) {
  Order order;
  POSTERN_TRY(order.suspect.principal, principal_in(body));
  POSTERN_TRY(order.suspect.client, one_line(body, "client", 200));
  POSTERN_TRY(order.suspect.backend, one_line(body, "backend", 63));
  if (!order.suspect.principal && order.suspect.client.empty() && order.suspect.backend.empty()) {
    return at("", "say whose traces: principal, client or backend");
  }
  POSTERN_TRY(const auto since, text_member(body, "since", 40));
  const auto time = since ? parse_time(*since) : std::nullopt;
  if (!time || *time > now) return at("/since", "must be a time that has passed");
  order.since = *time;
  POSTERN_TRY(const auto action, text_member(body, "action", 20));
  if (action != "rotate" && action != "disable") {
    return at("/action", "must be one of: rotate, disable");
  }
  order.disable = action == "disable";
  POSTERN_TRY(order.reason, one_line(body, "reason", 500));
  if (order.reason.empty()) return at("/reason", "must say in one line what has happened");
  POSTERN_TRY(order.limit, limit_in(body));
  if (const auto dry_run = body.find("dry_run"); dry_run != body.end()) {
    if (!dry_run->is_boolean()) return at("/dry_run", "must be true or false");
    order.dry_run = dry_run->get<bool>();
  }
  POSTERN_CHECK(read_position(body, now, order));
  return order;
}

std::string words_of(const Error& error) {
  return error.detail.empty() ? std::string(to_string(error.code)) : error.detail;
}

struct Acting {
  const Services& services;
  CredentialRotations& rotations;
  const TenantId& tenant;
  const Order& order;
  const audit::Event& act;
  sys_seconds now;

  audit::Event record(const char* action, const vault::CredentialKey& key) const {
    return record_of_one(act, action, key);
  }

  /// Whatever is under way must not keep what may be stolen alive.
  Result<vault::CredentialRotation> hurry(const vault::CredentialKey& key, Again again) const {
    POSTERN_TRY(auto is, rotations.find(tenant, key));
    if (is.phase == RotationPhase::None) return is;
    return rotations.hurry(tenant, key, again, record("credential.rotation_hurry", key));
  }

  Status disable(const vault::CredentialKey& key) const {
    // A value that is not handed out yet never is, now that the one before is deleted; to
    // give it up only saves the time until that is noticed.
    static_cast<void>(rotations.cancel(tenant, key, record("credential.rotation_cancel", key)));
    POSTERN_CHECK(hurry(key, Again::No));
    const auto event = record("credential.version_delete", key);
    const auto deleted = services.credentials.change_versions(
        tenant, key, {}, vault::CredentialStore::VersionChange::Withdraw, std::nullopt, now,
        {&event, 1});
    // Destroyed is more than disabled.
    if (deleted.ok() || deleted.error().code == ErrorCode::Conflict) return {};
    return deleted.error();
  }

  /// What came of it, and why it does not go on, or is not enough.
  struct Rotated {
    std::string status;
    std::string detail{};
  };
  /// Where nobody outside was told the value before goes on being taken: that is no all-clear.
  static Rotated rotated(const vault::RotationSettings& settings) {
    if (settings.reaches_outside()) return {"rotated"};
    return {"rotated_here", "nobody outside was told: end the value before there"};
  }
  Result<Rotated> rotate(const vault::CredentialKey& key) const {
    POSTERN_TRY(const auto before, rotations.find(tenant, key));
    // What a page before found as well, in a newer part of the trail, has its new value.
    if (order.goes_on && before.rotated_at && *before.rotated_at >= order.from.begun_at) {
      return keep_rotated(key, before);
    }
    if (before.phase != RotationPhase::None) return rotate_again(key, before);
    POSTERN_CHECK(rotations.may_rotate(before));
    CredentialRotations::Order at_once;
    at_once.grace = std::chrono::seconds(0);
    at_once.announce = std::chrono::seconds(0);
    POSTERN_TRY(const auto is,
                rotations.rotate(tenant, key, at_once, record("credential.rotate", key)));
    if (is.version != before.version) return rotated(*before.settings);
    return Rotated{"begun", is.problem};
  }

  Result<Rotated> keep_rotated(const vault::CredentialKey& key,
                               const vault::CredentialRotation& is) const {
    const auto hurried = hurry(key, is.wanted ? Again::Yes : Again::No);
    // One that has ended meanwhile has no grace either.
    if (!hurried.ok() && hurried.error().code != ErrorCode::Conflict) return hurried.error();
    if (is.phase != RotationPhase::None) return rotated(is.running.settings);
    return rotated(is.settings.value_or(vault::RotationSettings()));
  }

  /// What is handed out may be stolen, and one that is under way may not replace it.
  Result<Rotated> rotate_again(const vault::CredentialKey& key,
                               const vault::CredentialRotation& before) const {
    const auto may = rotations.may_begin(tenant, before);
    POSTERN_TRY(const auto is, hurry(key, may.ok() ? Again::Yes : Again::No));
    POSTERN_CHECK(may);
    // Its own new value, or that of another one when it waited only to be retired.
    const bool own = before.phase != RotationPhase::Previous;
    if (is.version != before.version) {
      return rotated(own ? before.running.settings : *before.settings);
    }
    if (is.phase != RotationPhase::None || is.wanted) return Rotated{"begun", is.problem};
    return fail(ErrorCode::Conflict, is.problem);
  }

  Json act_on(const vault::CredentialKey& key, const grants::TouchedCredential& touched) const {
    const auto& owner = key.owner;
    Json item{{"name", key.name.str()},
              {"uses", touched.uses},
              {"last_used_at", format_time(touched.last_at)}};
    item["owner"] = owner.is_tenant() ? Json{{"type", "tenant"}}
                                      : Json{{"type", "principal"},
                                             {"issuer", owner.principal().issuer},
                                             {"subject", owner.principal().subject}};
    const auto refuse = [&](const Error& error) {
      item["status"] = "refused";
      item["detail"] = words_of(error);
      return item;
    };
    const auto found = rotations.find(tenant, key);
    if (!found.ok()) {
      if (found.error().code != ErrorCode::NotFound) return refuse(found.error());
      item["status"] = "gone";
    } else if (order.dry_run) {
      const auto may = order.disable ? Status() : rotations.may_begin(tenant, found.value());
      if (!may.ok()) return refuse(may.error());
      item["status"] = order.disable ? "would_disable" : "would_rotate";
      if (!order.disable && !found.value().settings->reaches_outside()) {
        item["detail"] = "nobody outside would be told";
      }
    } else if (order.disable) {
      if (const auto done = disable(key); !done.ok()) return refuse(done.error());
      item["status"] = "disabled";
    } else {
      const auto done = rotate(key);
      if (!done.ok()) return refuse(done.error());
      item["status"] = done.value().status;
      if (!done.value().detail.empty()) item["detail"] = done.value().detail;
    }
    return item;
  }
};

std::string named(const vault::CredentialKey& key) {
  if (key.owner.is_tenant()) return key.name.str();
  const auto& [issuer, subject] = key.owner.principal();
  return key.name.str() + " of " + subject + " (" + issuer + ")";
}

Result<Done> contain(const Services& services, CredentialRotations& rotations,
                     policy::RevocationList& revocations, const Request& request,
                     const policy::TenantSnapshot& snapshot, audit::Event& record) {
  POSTERN_CHECK(Query::none(request));
  POSTERN_TRY(const auto body,
              json_body(request, {"principal", "client", "backend", "since", "action", "dry_run",
                                  "reason", "cursor", "limit", "records"}));
  const auto now = services.clock.now();
  POSTERN_TRY(auto order, read_order(body, now));
  order.suspect.configured = snapshot.find_backend(order.suspect.backend);
  record.with("reason", order.reason)
      .with("emergency", order.disable ? "disable" : "rotate")
      .with("since", format_time(order.since))
      .with("of_client", order.suspect.client)
      .with("of_backend", order.suspect.backend)
      .with("dry_run", order.dry_run ? "true" : "false");
  const auto& from = order.from;
  if (from.part.before != 0) record.with("before_sequence", std::to_string(from.part.before));
  if (order.suspect.principal) {
    record.with("of_issuer", order.suspect.principal->issuer)
        .with("of_subject", order.suspect.principal->subject);
  }
  const auto act = record;
  const auto& tenant = snapshot.tenant();
  POSTERN_TRY(const auto touched, grants::touched_by(services.audit_log, tenant, order.suspect,
                                                     order.since, now, from.part));
  const Acting acting{services, rotations, tenant, order, act, now};
  Json answer{{"items", Json::array()},
              {"dry_run", order.dry_run},
              {"complete", touched.complete},
              {"tokens", touched.tokens.size()},
              {"tokens_revoked", 0}};
  if (touched.ended_at != 0) {
    answer["searched_back_to"] = format_time(touched.reached);
  }
  // First, and with the first page: a token is used within minutes.
  std::uint64_t revoked = 0;
  for (const auto& token : touched.tokens) {
    if (order.dry_run || from.after) break;
    const auto done = revocations.revoke(tenant, token.id, token.expires_at,
                                         policy::RevocationList::Room::Reserved);
    if (done.ok()) ++revoked;
  }
  answer["tokens_revoked"] = revoked;
  std::string names;
  if (from.after) answer["tokens"] = 0;
  auto next =
      from.after ? touched.credentials.upper_bound(*from.after) : touched.credentials.begin();
  for (; next != touched.credentials.end() && answer["items"].size() < order.limit; ++next) {
    answer["items"].push_back(acting.act_on(next->first, next->second));
    names += (names.empty() ? "" : ", ") + named(next->first);
  }
  auto then = from;
  if (next != touched.credentials.end()) {
    then.after = std::prev(next)->first;
    answer["next_cursor"] = grants::write(then);
  } else if (touched.ended_at != 0) {
    then.after.reset();
    then.part.before = touched.ended_at;
    then.part.leads = touched.leads;
    answer["next_cursor"] = grants::write(then);
  }
  record.with("credentials", names).with("tokens_revoked", std::to_string(revoked));
  return Done{json_reply(200, answer), Done::Recorded::ByGate};
}

}  // namespace

void add_emergency_endpoint(Router& router, Gate& gate, Services& services,
                            CredentialRotations& rotations, policy::RevocationList& revocations) {
  gate.add(router, "POST", "/api/v1/tenants/{}/emergency", Pool::Database,
           [&](const Request& request) {
             return tenant_call(
                 services, request, "credential.emergency", {Kind::Operator, Kind::TenantAdmin},
                 [&](const auto& snapshot, const auto&, auto& record) {
                   return contain(services, rotations, revocations, request, snapshot, record);
                 });
           });
}

}  // namespace postern::http
