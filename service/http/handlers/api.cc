#include "http/handlers/api.h"

#include <algorithm>

#include "core/log.h"
#include "core/text.h"
#include "core/time_format.h"
#include "http/basic_auth.h"
#include "http/error_render.h"

namespace postern::http {
namespace {

constexpr std::string_view kOperatorPrefix = "postern_op_";
constexpr std::string_view kAdminPrefix = "postern_ta_";

bool needs_another_pool(const Error& error) {
  return error.code == ErrorCode::NeedsOutbound || error.code == ErrorCode::NeedsDatabase;
}

Error at(std::string pointer, std::string detail) {
  Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
  error.pointer = std::move(pointer);
  return error;
}

/// One text for all: nobody who has not proven anything learns which tenants
/// there are, or whom a tenant trusts.
Error not_authenticated() {
  return fail(ErrorCode::Unauthenticated,
              "send Authorization: Bearer with a valid operator or tenant-admin token, or an "
              "unexpired token of an issuer that this tenant trusts");
}

}  // namespace

void Caller::describe(audit::Event& record) const {
  switch (kind) {
    case Kind::Operator: record.with("caller", "operator"); break;
    case Kind::TenantAdmin:
      record.with("caller", "tenant-admin").with("admin_token", admin_token_id);
      break;
    case Kind::User:
      record.with("caller", "user")
          .with("subject_issuer", user->principal.issuer)
          .with("subject", user->principal.subject);
      break;
    case Kind::Client:
      record.with("caller", "client").with("client", session.client).with("session", session.id);
      break;
    case Kind::ClientForUser:
      record.with("caller", "client").with("client", session.client).with("session", session.id);
      grants::record_subject(record, *user);
      break;
  }
}

Result<Caller> caller_of(const Services& services, const Request& request,
                         const policy::TenantSnapshot* snapshot) {
  const auto header = request.header("authorization");
  if (!header) return not_authenticated();
  POSTERN_TRY(const auto bearer, bearer_token(*header));
  return caller_with(services, request, snapshot, bearer);
}

Result<Caller> caller_with(const Services& services, const Request& request,
                           const policy::TenantSnapshot* snapshot, const BearerToken& bearer) {
  const auto starts = [&](std::string_view prefix) {
    return bearer.expose(
        [&](ByteView bytes) { return as_text(bytes).substr(0, prefix.size()) == prefix; });
  };
  if (starts(kOperatorPrefix)) {
    if (!services.is_operator(bearer)) {
      // No tenant's chain is the place for it; guessing must show all the same.
      log::warning("operator.token_refused",
                   {{"source", request.peer_address}, {"request_id", request.request_id}});
      return not_authenticated();
    }
    return Caller{Caller::Kind::Operator};
  }
  if (snapshot == nullptr || !snapshot->enabled()) return not_authenticated();
  if (starts(kAdminPrefix)) {
    auto id = snapshot->admin_token_id(bearer, services.clock.now());
    if (!id) return not_authenticated();
    return Caller{Caller::Kind::TenantAdmin, std::move(*id)};
  }
  auto user = bearer.expose([&](ByteView bytes) {
    return services.verifier.verify_user(*snapshot, as_text(bytes), wait_of(request));
  });
  if (!user.ok()) {
    return user.error().code == ErrorCode::InvalidToken ? not_authenticated() : user.error();
  }
  const auto has = user.value()->scope.value_or(policy::ScopeSet());
  if (!snapshot->settings().api_scopes.subset_of(has)) {
    return fail(ErrorCode::Forbidden, "the token lacks a scope that users need here");
  }
  return Caller{Caller::Kind::User, {}, std::move(user).value()};
}

std::string scope_beyond(Caller::Kind kind, std::initializer_list<Caller::Kind> allowed) {
  if (kind == Caller::Kind::Operator) return {};
  const bool admins =
      std::find(allowed.begin(), allowed.end(), Caller::Kind::TenantAdmin) != allowed.end();
  return std::string(kind == Caller::Kind::User && admins ? kAdminScope : kOperatorScope);
}

Result<std::shared_ptr<const policy::TenantSnapshot>> tenant_of_admin_token(
    const Services& services, const Request& request) {
  const std::shared_ptr<const policy::TenantSnapshot> none;
  const auto header = request.header("authorization");
  if (!header) return none;
  const auto bearer = bearer_token(*header);
  if (!bearer.ok()) return none;
  const auto tenant = bearer.value().expose([](ByteView bytes) -> std::optional<TenantId> {
    auto text = as_text(bytes);
    if (!text.starts_with(kAdminPrefix)) return std::nullopt;
    text.remove_prefix(kAdminPrefix.size());
    auto id = TenantId::parse(text.substr(0, text.find('_')));
    return id.ok() ? std::optional(std::move(id).value()) : std::nullopt;
  });
  if (!tenant) return none;
  auto found = services.snapshots.get(*tenant);
  if (!found.ok() && found.error().code == ErrorCode::NotFound) return none;
  return found;
}

Result<Answer> tenant_call(const Services& services, const Request& request, std::string action,
                           std::initializer_list<Caller::Kind> allowed, const TenantCall& body) {
  auto found = tenant_of(services, request, DisabledTenant::Allow);
  if (!found.ok() && found.error().code == ErrorCode::NotFound) {
    POSTERN_CHECK(caller_of(services, request, nullptr));  // only operators get to know
  }
  POSTERN_TRY(const auto snapshot, std::move(found));
  auto scope = snapshot->settings().api_scopes.str();
  return recorded(
      services, request, record_for(services, snapshot->tenant(), request, std::move(action)),
      [&](audit::Event& kept) -> Result<Done> {
        POSTERN_TRY(const auto caller, caller_of(services, request, snapshot.get()));
        caller.describe(kept);
        scope = scope_beyond(caller.kind, allowed);
        POSTERN_CHECK(check_kind(caller, {allowed.begin(), allowed.size()}));
        return body(*snapshot, caller, kept);
      },
      scope);
}

Status require_operator(const Services& services, const Request& request) {
  // A tenant's admin is known by the tenant that the token itself names.
  POSTERN_TRY(const auto snapshot, tenant_of_admin_token(services, request));
  POSTERN_TRY(const auto caller, caller_of(services, request, snapshot.get()));
  if (caller.kind != Caller::Kind::Operator) {
    return fail(ErrorCode::Forbidden, "this needs an operator token");
  }
  return {};
}

Status check_kind(const Caller& caller, std::span<const Caller::Kind> allowed) {
  if (std::find(allowed.begin(), allowed.end(), caller.kind) != allowed.end()) return {};
  return fail(ErrorCode::Forbidden, "this token may not do that");
}

namespace {

/// What the throttle knows them by, which are no clients' ids. What is worth an alarm is
/// counted by itself, so that nothing else keeps it out of the trail.
constexpr std::string_view kNobody = " ";
constexpr std::string_view kAlarming = " !";

std::vector<audit::Event> records_of_refusal(const Services& services, const Request& request,
                                             audit::Event record, const Error& error) {
  using enum ErrorCode;
  record_error(record, error);
  const auto has = [&](std::string_view name) {
    return std::any_of(record.fields.begin(), record.fields.end(),
                       [&](const auto& field) { return field.first == name; });
  };
  const bool ours = error.code == Unavailable || error.code == Internal ||
                    error.code == KeyUnavailable || error.code == TenantSealed;
  if (!ours && !has("caller")) {
    auto& throttle = services.authentication.throttle;
    const auto source = source_of(services.authentication, request);
    const auto who = has("alarm") ? kAlarming : kNobody;
    const auto only_counted = throttle.refuses(record.tenant, who, source);
    const auto attempts =
        only_counted ? only_counted->to_record : throttle.failed(record.tenant, who, source);
    if (only_counted && attempts == 0) return {};
    if (attempts > 0) record.with("attempts", std::to_string(attempts));
  }
  std::vector<audit::Event> records;
  records.push_back(std::move(record));
  return records;
}

}  // namespace

Result<Answer> recorded(const Services& services, const Request& request, audit::Event record,
                        const std::function<Result<Done>(audit::Event& record)>& run,
                        const std::string& scope) {
  auto done = run(record);
  if (done.ok()) {
    Answer answer{std::move(done.value().reply)};
    if (done.value().recorded == Done::Recorded::ByGate) answer.events.push_back(std::move(record));
    return answer;
  }
  if (needs_another_pool(done.error())) return done.error();
  return Answer{render(done.error(), request, scope),
                records_of_refusal(services, request, std::move(record), done.error())};
}

Result<Answer> client_call(const Services& services, const Request& request, std::string action,
                           const std::string& name, std::initializer_list<std::string_view> members,
                           const ClientCall& call) {
  auto found = tenant_of(services, request);
  if (!found.ok() && found.error().code == ErrorCode::NotFound) {
    // As at a tenant that does not know the client.
    return fail(ErrorCode::InvalidClient, "client authentication failed");
  }
  POSTERN_TRY(const auto snapshot, std::move(found));
  const auto& tenant = snapshot->tenant();
  auto record = record_for(services, tenant, request, std::move(action));
  const auto run = [&]() -> Result<Answer> {
    std::vector<std::string_view> known{"client_id", "client_assertion", "client_assertion_type"};
    known.insert(known.end(), members);
    // A body that cannot be read names no client; who is a client is told why.
    auto read = json_body(request, known);
    ClientParameters offered;
    if (read.ok()) {
      POSTERN_TRY(offered, ClientParameters::of(read.value()));
    }
    POSTERN_TRY(auto caller, authenticate(services, *snapshot, request, offered, record));
    POSTERN_CHECK(Query::none(request));
    POSTERN_CHECK(prove_key(services, *snapshot, request,
                            "/api/v1/tenants/" + tenant.str() + "/" + name, caller));
    POSTERN_CHECK(snapshot->check_unsealed());
    POSTERN_TRY(auto body, std::move(read));
    return call(*snapshot, caller, body, record);
  };
  auto answer = run();
  if (answer.ok() || needs_another_pool(answer.error())) return answer;
  auto refusal = render(answer.error(), request);
  offer_nonce(services, tenant, request, &answer.error(), refusal);
  return Answer{std::move(refusal), refusal_records(std::move(record), answer.error())};
}

Result<std::uint64_t> apply_or_conflict(const Services& services, const TenantId& tenant,
                                        const policy::ConfigChange& change, audit::Event& record) {
  auto applied = services.config.apply(tenant, change, {&record, 1});
  if (!applied.ok() && applied.error().code == ErrorCode::PreconditionFailed) {
    return fail(ErrorCode::Conflict, "the configuration changed meanwhile; try again");
  }
  return applied;
}

Result<Done> apply_change(const Services& services, const TenantId& tenant,
                          const policy::ConfigChange& change, audit::Event& record, Reply reply) {
  POSTERN_TRY(const auto epoch, apply_or_conflict(services, tenant, change, record));
  services.snapshots.moved_on(tenant, epoch);
  return Done{std::move(reply), Done::Recorded::InStore};
}

Result<token::Json> json_body(const Request& request,
                              const std::vector<std::string_view>& members) {
  auto parsed = request.body.expose([](ByteView body) { return token::parse_json(as_text(body)); });
  POSTERN_TRY(auto json, std::move(parsed));
  if (!json.is_object()) return at("", "the body must be a JSON object");
  for (const auto& [name, value] : json.items()) {
    if (std::find(members.begin(), members.end(), name) == members.end()) {
      // A longer one may be a secret in the wrong place.
      const bool harmless = name.size() <= 32 && detail::is_name(name);
      return at(harmless ? "/" + name : "", "is not a known member");
    }
  }
  return json;
}

Result<std::optional<std::string>> text_member(const token::Json& body, const char* name,
                                               std::size_t max) {
  const auto it = body.find(name);
  if (it == body.end() || it->is_null()) return std::optional<std::string>();
  const auto pointer = std::string("/") + name;
  if (!it->is_string()) return at(pointer, "must be text");
  const auto& text = it->get_ref<const std::string&>();
  if (text.size() > max) return at(pointer, "is longer than " + std::to_string(max) + " bytes");
  return std::optional(text);
}

Result<std::string> description_member(const token::Json& body) {
  POSTERN_TRY(const auto text, text_member(body, "description", 200));
  // It ends up on administrators' terminals.
  if (text && has_control_characters(*text)) {
    return at("/description", "must be one line of text");
  }
  return text.value_or("");
}

Result<std::optional<sys_seconds>> time_member(const token::Json& body, const char* name,
                                               sys_seconds now) {
  POSTERN_TRY(const auto text, text_member(body, name, 40));
  if (!text) return std::optional<sys_seconds>();
  const auto time = parse_time(*text);
  if (!time) return at(std::string("/") + name, "must be a time such as 2026-12-31T23:59:59Z");
  if (*time <= now) return at(std::string("/") + name, "must be in the future");
  return time;
}

token::Json refused_item(const policy::TenantSnapshot& snapshot, const std::string& asked,
                         const Error& error) {
  const bool ours = error.code == ErrorCode::Internal || error.code == ErrorCode::Unavailable ||
                    error.code == ErrorCode::KeyUnavailable;
  token::Json json{
      {"backend", asked},
      {"status", "refused"},
      // A gateway handles items as it handles the token endpoint's errors.
      {"error", oauth_error_name(error.code)},
      {"detail", ours ? "the service cannot answer for this backend now" : error.detail}};
  if (error.code == ErrorCode::InteractionRequired) {
    const auto* backend = snapshot.resolve(asked);
    const auto url = grants::connect_url(snapshot, backend != nullptr ? backend->name.str() : "");
    if (!url.empty()) json["connect_url"] = url;
  }
  if (!error.remedy.acr_values.empty()) json["acr_values"] = error.remedy.acr_values;
  if (error.remedy.max_age) json["max_age"] = error.remedy.max_age->count();
  return json;
}

Reply json_reply(int status, const token::Json& body) {
  auto reply = Reply::json(status, token::dump_json(body));
  reply.no_store();
  return reply;
}

Result<Reply> versioned_reply(const Request& request, std::uint64_t version,
                              const token::Json& body) {
  return tagged_reply(request, etag(version), body);
}

Result<Reply> tagged_reply(const Request& request, const std::string& tag,
                           const token::Json& body) {
  POSTERN_TRY(const auto conditions, Preconditions::of(request));
  POSTERN_TRY(const auto not_modified, conditions.not_modified_tag(tag));
  auto reply = not_modified ? std::move(Reply(304).no_store()) : json_reply(200, body);
  reply.set_header("ETag", tag);
  return reply;
}

}  // namespace postern::http
