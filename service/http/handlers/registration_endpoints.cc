#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "core/time_format.h"
#include "crypto/random.h"
#include "http/basic_auth.h"
#include "http/handlers/api.h"
#include "http/handlers/oauth_endpoints.h"
#include "policy/client_metadata.h"

/// Clients that register themselves (RFC 7591), and the initial access tokens
/// without which nobody may.
namespace postern::http {
namespace {

using namespace std::chrono_literals;
using token::Json;
using Kind = Caller::Kind;

// Every admin's read and every replica's memory has the metadata of all of them.
constexpr std::size_t kMaxMetadataBytes = 16 * 1024;
// Stored a level or two deeper, inside what may be 32 deep.
constexpr std::size_t kMaxMetadataDepth = 8;
constexpr std::size_t kMaxTokens = 100;
constexpr auto kDefaultLife = 24h;
constexpr auto kMaxLife = 24h * 366;
constexpr std::uint64_t kMaxUses = 1000;
constexpr int kAttempts = 4;
// No client id has a space: failures count apart from those of clients.
constexpr std::string_view kThrottledAs = "initial access token";

/// RFC 7591 §3.2.2: the error that a member of the metadata asks for.
std::string_view error_name(const Error& error) {
  switch (error.code) {
    case ErrorCode::Unauthenticated: return "invalid_token";
    case ErrorCode::Forbidden: return "access_denied";
    case ErrorCode::MalformedRequest: break;
    default: return "";
  }
  if (error.pointer.starts_with("/redirect_uris")) return "invalid_redirect_uri";
  if (error.pointer.starts_with("/software_statement")) return "unapproved_software_statement";
  return "invalid_client_metadata";
}

Reply refusal(const Error& error, const Request& request) {
  const auto name = error_name(error);
  if (name.empty()) return render(error, request);
  auto detail = error.detail;
  if (error.pointer.size() > 1) detail = error.pointer.substr(1) + " " + detail;
  const int status = name == "invalid_token" ? 401 : name == "access_denied" ? 403 : 400;
  auto reply = json_reply(status, {{"error", name}, {"error_description", detail}});
  if (status == 401) {
    // RFC 6750 §3.1: a code only for a token that was sent.
    reply.set_header("WWW-Authenticate", request.count("authorization") > 0
                                             ? R"(Bearer error="invalid_token")"
                                             : "Bearer");
  }
  return reply;
}

Error not_authenticated() {
  return fail(ErrorCode::Unauthenticated,
              "registering takes an initial access token that is unexpired and has a use left");
}

/// The id of the initial access token behind the request.
/// Errors: Unauthenticated; RateLimited after many failures.
Result<std::string> initial_token_of(const Services& services, const Request& request,
                                     const policy::TenantSnapshot& snapshot, audit::Event& record) {
  auto& throttle = services.authentication.throttle;
  const auto source = source_of(services.authentication, request);
  if (const auto refused = throttle.refuses(snapshot.tenant(), kThrottledAs, source)) {
    if (refused->to_record > 0) record.with("attempts", std::to_string(refused->to_record));
    Error error = fail(ErrorCode::RateLimited, "too many failed registrations");
    error.retry_after = refused->retry_after;
    return error;
  }
  const auto header = request.header("authorization");
  const auto bearer = header ? bearer_token(*header) : Result<BearerToken>(not_authenticated());
  const auto id = bearer.ok() ? snapshot.initial_token_id(bearer.value(), services.clock.now())
                              : std::optional<std::string>();
  if (id) return *id;
  const auto uncounted = throttle.failed(snapshot.tenant(), kThrottledAs, source);
  if (uncounted > 0) record.with("attempts", std::to_string(uncounted));
  return not_authenticated();
}

/// A client as it is about to be stored, and what is said to it once.
struct NewClient {
  policy::ConfigChange change;
  Json answer;
};

Result<NewClient> new_client(const Services& services, const policy::TenantSnapshot& snapshot,
                             const policy::ClientMetadata& metadata, const std::string& token_id) {
  const auto& settings = snapshot.settings();
  const auto now = services.clock.now();
  const auto& clients = snapshot.config().clients;
  const auto registered = std::count_if(clients.begin(), clients.end(), [](const auto& entry) {
    return entry.second.registered.has_value();
  });
  if (static_cast<std::size_t>(registered) >= settings.registration->max_clients) {
    return fail(ErrorCode::Forbidden,
                "this tenant has as many registered clients as it allows; one must go first");
  }
  // A5: safe in Basic as it is, no URL, and nobody's choice.
  const ClientId id("dyn-" + crypto::random_id());
  auto client = policy::client_of(id, metadata);
  client.registered = {token_id, now, metadata.name};
  if (const auto beyond = policy::breach(settings.guardrails, client)) {
    return fail(ErrorCode::Forbidden, beyond->detail);
  }

  NewClient made;
  made.answer = policy::write(metadata, *settings.registration);
  made.answer["client_id"] = id.str();
  made.answer["client_id_issued_at"] = now.time_since_epoch().count();
  made.change.expected_epoch = snapshot.epoch();  // the limits were checked against it
  made.change.use_initial_tokens = {token_id};
  auto spec = token::dump_json(policy::write(client));
  // One object that does not read back would stop the whole tenant.
  POSTERN_TRY(const auto stored, token::parse_json(spec));
  POSTERN_CHECK(policy::read_client(stored, ""));
  made.change.put.push_back({policy::Kind::Client, id.str(), std::move(spec), 0});
  if (metadata.authentication.method == policy::ClientAuthentication::Secret) {
    auto text = crypto::random_token();
    const ClientSecret secret(SecureBuffer::copy_of(text));
    std::optional<sys_seconds> expires_at;
    if (const auto& life = settings.registration->secret_expires_in) expires_at = now + *life;
    made.change.add_client_secrets.push_back(
        {id, crypto::random_id(), policy::client_secret_hash(snapshot.tenant(), id.str(), secret),
         expires_at});
    // §3.2.1: required with a secret; 0 says never.
    made.answer["client_secret_expires_at"] =
        expires_at ? expires_at->time_since_epoch().count() : 0;
    made.answer["client_secret"] = std::move(text);
  }
  return made;
}

Result<Reply> register_client(const Services& services, const Request& request,
                              const policy::TenantSnapshot& snapshot, audit::Event& record) {
  POSTERN_TRY(const auto token_id, initial_token_of(services, request, snapshot, record));
  record.with("initial_access_token", token_id);
  if (!has_media_type(request, "application/json")) {
    return fail(ErrorCode::MalformedRequest, "the body must be application/json");
  }
  token::JsonLimits limits;
  limits.max_bytes = kMaxMetadataBytes;
  limits.max_depth = kMaxMetadataDepth;
  auto parsed =
      request.body.expose([&](ByteView body) { return token::parse_json(as_text(body), limits); });
  POSTERN_TRY(const auto json, std::move(parsed));
  POSTERN_TRY(auto metadata, policy::read_client_metadata(json, *snapshot.settings().registration,
                                                          snapshot.introspection_algorithms(),
                                                          policy::MetadataSource::Registration));
  if (!metadata.introspection_algorithm) {
    // The RFC's default is not every tenant's: said in the answer, and then it stays.
    metadata.introspection_algorithm =
        snapshot.introspection_algorithm(policy::Client{}, services.clock.now());
  }
  POSTERN_TRY(auto made, new_client(services, snapshot, metadata, token_id));
  if (!request.may_wait_for_database) return fail(ErrorCode::NeedsDatabase, "");

  record.with("client", made.answer["client_id"].get<std::string>())
      .with("authentication", metadata.method)
      .with("client_name", metadata.name);
  auto reply = json_reply(201, made.answer);
  wipe_texts(made.answer);
  auto applied = services.config.apply(snapshot.tenant(), made.change, {&record, 1});
  if (!applied.ok() && applied.error().code == ErrorCode::NotFound) return not_authenticated();
  POSTERN_TRY(const auto epoch, std::move(applied));
  services.snapshots.moved_on(snapshot.tenant(), epoch);
  return reply;
}

Result<Answer> registration_endpoint(const Services& services, const Request& request) {
  for (int attempt = 1;; ++attempt) {
    POSTERN_TRY(const auto snapshot, tenant_of(services, request));
    if (!snapshot->takes_registrations()) {
      return fail(ErrorCode::NotFound, "this tenant takes no registrations");
    }
    auto record = record_for(services, snapshot->tenant(), request, "client.register");
    auto reply = register_client(services, request, *snapshot, record);
    if (reply.ok()) return Answer{std::move(reply).value()};  // recorded with the write
    auto error = std::move(reply).error();
    if (error.code == ErrorCode::NeedsDatabase) return error;
    if (error.code == ErrorCode::PreconditionFailed) {
      // Somebody else changed the tenant meanwhile, most likely by registering.
      services.snapshots.moved_on(snapshot->tenant(), snapshot->epoch() + 1);
      if (attempt < kAttempts) continue;
      error = fail(ErrorCode::Unavailable, "", "registration: the configuration keeps changing");
      error.retry_after = 1s;
    }
    auto records = refusal_records(std::move(record), error);
    return Answer{refusal(error, request), std::move(records)};
  }
}

Result<Done> create_token(const Services& services, const Request& request,
                          const policy::TenantSnapshot& snapshot, audit::Event& record) {
  const auto now = services.clock.now();
  POSTERN_TRY(const auto body, json_body(request, {"description", "expires_at", "max_uses"}));
  POSTERN_TRY(const auto description, description_member(body));
  POSTERN_TRY(const auto asked, time_member(body, "expires_at", now));
  const auto bad = [](const char* pointer, const char* detail) {
    Error error = fail(ErrorCode::MalformedRequest, detail);
    error.pointer = pointer;
    return error;
  };
  if (asked && *asked > now + kMaxLife) {
    return bad("/expires_at", "must be within 366 days");
  }
  std::uint64_t max_uses = 1;
  if (const auto it = body.find("max_uses"); it != body.end() && !it->is_null()) {
    if (!it->is_number_unsigned() || it->get<std::uint64_t>() < 1 ||
        it->get<std::uint64_t>() > kMaxUses) {
      return bad("/max_uses", "must be a whole number from 1 to 1000");
    }
    max_uses = it->get<std::uint64_t>();
  }
  if (!snapshot.takes_registrations()) {
    return fail(ErrorCode::Conflict,
                "this tenant takes no registrations; set settings.registration.dynamic first");
  }
  policy::ConfigChange change;
  change.expected_epoch = snapshot.epoch();  // the limit is checked against it
  std::size_t live = 0;
  for (const auto& token : snapshot.initial_tokens()) live += token.live(now);
  if (live >= kMaxTokens) {
    return fail(ErrorCode::Conflict,
                "this tenant has 100 initial access tokens; delete some first");
  }
  // What is of no more use makes room.
  if (snapshot.initial_tokens().size() >= kMaxTokens) {
    for (const auto& token : snapshot.initial_tokens()) {
      if (!token.live(now)) change.remove_initial_tokens.push_back(token.token_id);
    }
  }
  const auto& tenant = snapshot.tenant();
  std::string text = "postern_ia_" + tenant.str() + "_" + crypto::random_token();
  const BearerToken token(SecureBuffer::copy_of(text));
  const auto id = crypto::random_id();
  const auto expires_at = asked.value_or(now + kDefaultLife);
  change.add_initial_tokens.push_back({id, description, policy::initial_token_hash(tenant, token),
                                       now, expires_at, static_cast<std::uint32_t>(max_uses), 0});
  record.with("initial_access_token", id).with("max_uses", std::to_string(max_uses));
  auto reply = json_reply(201, {{"token_id", id},
                                {"token", text},
                                {"expires_at", format_time(expires_at)},
                                {"max_uses", max_uses}});
  wipe(text);
  return apply_change(services, tenant, change, record, std::move(reply));
}

Result<Done> list_tokens(const policy::TenantSnapshot& snapshot) {
  Json items = Json::array();
  for (const auto& token : snapshot.initial_tokens()) {
    items.push_back({{"token_id", token.token_id},
                     {"description", token.description},
                     {"created_at", format_time(token.created_at)},
                     {"expires_at", format_time(token.expires_at)},
                     {"max_uses", token.max_uses},
                     {"uses", token.uses}});
  }
  return Done{json_reply(200, {{"items", std::move(items)}})};
}

Result<Done> delete_token(const Services& services, const Request& request,
                          const policy::TenantSnapshot& snapshot, audit::Event& record) {
  const auto& id = request.parameters.at(1);
  const auto& tokens = snapshot.initial_tokens();
  const bool known = std::any_of(tokens.begin(), tokens.end(),
                                 [&](const auto& token) { return token.token_id == id; });
  if (!known) return fail(ErrorCode::NotFound, "no such initial access token");
  policy::ConfigChange change;
  change.remove_initial_tokens.push_back(id);
  record.with("initial_access_token", id);
  return apply_change(services, snapshot.tenant(), change, record, Reply(204));
}

/// Only what registered itself: a configured client goes by the manifest.
Result<Done> delete_client(const Services& services, const Request& request,
                           const policy::TenantSnapshot& snapshot, audit::Event& record) {
  const auto* client = snapshot.find_client(request.parameters.at(1));
  if (client == nullptr) return fail(ErrorCode::NotFound, "no such client");
  record.with("client", client->id.str());
  if (!client->registered) {
    return fail(ErrorCode::Conflict,
                "this client did not register itself; apply a manifest without it, with prune");
  }
  policy::ConfigChange change;
  change.expected_epoch = snapshot.epoch();  // `registered` was looked at there
  change.remove.emplace_back(policy::Kind::Client, client->id.str());
  return apply_change(services, snapshot.tenant(), change, record, Reply(204));
}

}  // namespace

void add_registration_endpoints(Router& router, Gate& gate, Services& services) {
  gate.add(router, "POST", "/t/{}/register", Pool::Compute, [&services](const Request& request) {
    return registration_endpoint(services, request);
  });
  using Body =
      std::function<Result<Done>(const Request&, const policy::TenantSnapshot&, audit::Event&)>;
  const auto on_tenant = [&](const char* method, const char* pattern, const char* action,
                             Body body) {
    gate.add(router, method, pattern, Pool::Database,
             [&services, action, body = std::move(body)](const Request& request) {
               return tenant_call(services, request, action, {Kind::Operator, Kind::TenantAdmin},
                                  [&](const policy::TenantSnapshot& snapshot, const Caller&,
                                      audit::Event& record) -> Result<Done> {
                                    POSTERN_CHECK(Query::none(request));
                                    return body(request, snapshot, record);
                                  });
             });
  };
  on_tenant("POST", "/api/v1/tenants/{}/initial-access-tokens", "initial_access_token.create",
            [&services](const Request& request, const auto& snapshot, auto& record) {
              return create_token(services, request, snapshot, record);
            });
  on_tenant("GET", "/api/v1/tenants/{}/initial-access-tokens", "initial_access_token.list",
            [](const Request&, const auto& snapshot, auto&) { return list_tokens(snapshot); });
  on_tenant("DELETE", "/api/v1/tenants/{}/initial-access-tokens/{}", "initial_access_token.delete",
            [&services](const Request& request, const auto& snapshot, auto& record) {
              return delete_token(services, request, snapshot, record);
            });
  on_tenant("DELETE", "/api/v1/tenants/{}/clients/{}", "client.delete",
            [&services](const Request& request, const auto& snapshot, auto& record) {
              return delete_client(services, request, snapshot, record);
            });
}

}  // namespace postern::http
