#include "http/handlers/vault_api.h"

#include <charconv>
#include <memory>
#include <optional>
#include <utility>

#include "core/time_format.h"
#include "http/basic_auth.h"
#include "http/vault_duration.h"

namespace postern::http {
namespace {

using token::Json;

constexpr std::string_view kInPath = "/t/{}/v1/";
constexpr std::string_view kInHeader = "/v1/";

bool starts(const BearerToken& bearer, std::string_view prefix) {
  return bearer.expose([&](ByteView bytes) { return as_text(bytes).starts_with(prefix); });
}

Result<Caller> client_session(const Services& services, const policy::TenantSnapshot& snapshot,
                              const BearerToken& bearer) {
  auto verified = bearer.expose(
      [&](ByteView bytes) { return services.vault_sessions->verify(snapshot, as_text(bytes)); });
  POSTERN_TRY(auto session, std::move(verified));
  return Caller{Caller::Kind::Client, {}, {}, std::move(session)};
}

/// The user's token is verified as if it had come with this request.
Result<Caller> user_session(const Services& services, const Request& request,
                            const policy::TenantSnapshot& snapshot, const BearerToken& bearer,
                            audit::Event& record) {
  auto verified = bearer.expose([&](ByteView bytes) {
    return services.vault_sessions->verify_for_user(snapshot, as_text(bytes));
  });
  POSTERN_TRY(auto held, std::move(verified));
  const auto* client = snapshot.find_client(held.session.client);
  if (client == nullptr) return permission_denied();
  auto user = held.user_token.expose([&](ByteView bytes) {
    return services.release.verify_undeclared(snapshot, grants::Caller(*client), as_text(bytes),
                                              wait_of(request));
  });
  if (!user.ok() && user.error().code == ErrorCode::InvalidToken) {
    record.with("caller", "client")
        .with("client", held.session.client)
        .with("session", held.session.id)
        .with("subject_token_refused", user.error().detail);
    return permission_denied();
  }
  POSTERN_TRY(auto subject, std::move(user));
  return Caller{Caller::Kind::ClientForUser, {}, std::move(subject), std::move(held.session)};
}

Result<Caller> any_caller(const Services& services, const Request& request,
                          const policy::TenantSnapshot& snapshot, const BearerToken& bearer,
                          audit::Event& record) {
  if (starts(bearer, grants::VaultSessions::kPrefix)) {
    return client_session(services, snapshot, bearer);
  }
  if (starts(bearer, grants::VaultSessions::kUserPrefix)) {
    return user_session(services, request, snapshot, bearer, record);
  }
  auto caller = caller_with(services, request, &snapshot, bearer);
  if (!caller.ok() && caller.error().code == ErrorCode::Unauthenticated) return permission_denied();
  return caller;
}

}  // namespace

Result<Caller> vault_caller(const Services& services, const Request& request,
                            const policy::TenantSnapshot& snapshot, const BearerToken& bearer,
                            audit::Event& record) {
  POSTERN_TRY(auto caller, any_caller(services, request, snapshot, bearer, record));
  caller.describe(record);
  return caller;
}

namespace {

/// Errors: MalformedRequest.
Result<std::optional<std::chrono::seconds>> wrap_ttl(const Request& request, Wraps wraps) {
  using Ttl = std::optional<std::chrono::seconds>;
  if (request.count("x-vault-wrap-ttl") == 0) {
    if (wraps != Wraps::Always) return Ttl();
    return fail(ErrorCode::MalformedRequest,
                "say in X-Vault-Wrap-TTL for how long the answer is to wait");
  }
  if (wraps == Wraps::Never) POSTERN_CHECK(refuse_wrapping(request));
  const auto ttl = vault_duration(request.header("x-vault-wrap-ttl").value_or(""));
  if (!ttl || *ttl < std::chrono::seconds(1) || *ttl > vault::Wrapping::kLongest) {
    return fail(ErrorCode::MalformedRequest,
                "X-Vault-Wrap-TTL is a time from one second to one day, such as 300 or 5m");
  }
  return Ttl(*ttl);
}

std::string maker_of(const Caller& caller) {
  switch (caller.kind) {
    case Caller::Kind::Operator: break;
    case Caller::Kind::TenantAdmin: return "tenant-admin " + caller.admin_token_id;
    case Caller::Kind::Client: return "client " + caller.session.client;
    case Caller::Kind::ClientForUser:
      return "client " + caller.session.client + " for " + caller.user->principal.issuer + ' ' +
             caller.user->principal.subject;
    case Caller::Kind::User:
      return "user " + caller.user->principal.issuer + ' ' + caller.user->principal.subject;
  }
  return "operator";
}

/// What a user has wrapped, or a client reads for them, is theirs.
Owner owner_of(const Caller& caller) {
  return caller.user ? Owner::principal(caller.user->principal) : Owner::tenant();
}

/// The path below `v1/`, as it was sent.
std::string creation_path(const Request& request) {
  constexpr std::string_view kBegin = "/v1/";
  const std::string_view path = request.path;
  // A tenant may be called `v1` as well.
  const auto after_tenant = path.starts_with("/t/") ? path.find('/', 3) : 0;
  return std::string(path.substr(path.find(kBegin, after_tenant) + kBegin.size(), 1000));
}

/// The answer waits; what goes out is the token. The record of the call is committed
/// with it.
Result<Done> wrapped(const VaultCall& call, const Done& done, std::chrono::seconds ttl) {
  POSTERN_TRY(const auto made,
              call.services.wrapping->wrap(call.tenant(), owner_of(call.caller),
                                           maker_of(call.caller), creation_path(call.request), ttl,
                                           Plaintext(SecureBuffer::copy_of(done.reply.body())),
                                           call.record));
  return Done{wrap_reply(call.request, made), Done::Recorded::InStore};
}

Result<Answer> vault_call(const Services& services, const Request& request, bool in_path,
                          const VaultRoute& route) {
  auto parameters = request.parameters;
  POSTERN_TRY(const auto wrapped_for, wrap_ttl(request, route.wraps));
  POSTERN_TRY(const auto named, vault_tenant(request, in_path, parameters));
  POSTERN_TRY(const auto bearer, vault_token(request));
  POSTERN_TRY(const auto snapshot, open_tenant(services, named));
  if (!snapshot) return permission_denied();

  auto record = record_for(services, snapshot->tenant(), request, route.action);
  record.with("api", "vault");
  return recorded(services, request, std::move(record), [&](audit::Event& kept) -> Result<Done> {
    POSTERN_TRY(const auto caller, vault_caller(services, request, *snapshot, bearer, kept));
    if (snapshot->settings().vault() == nullptr) {
      return fail(ErrorCode::Forbidden, "this tenant does not answer to the API of Vault");
    }
    POSTERN_CHECK(check_kind(caller, route.allowed));
    POSTERN_CHECK(snapshot->check_unsealed());
    const VaultCall call{services, request, *snapshot, caller, std::move(parameters), kept};
    POSTERN_TRY(auto done, route.run(call));
    // A version that is deleted: what is said of it holds no value.
    if (!wrapped_for || done.reply.status() == 404) return done;
    if (done.reply.status() != 200) {
      return fail(ErrorCode::MalformedRequest, "an item was refused, and nothing was wrapped");
    }
    return wrapped(call, done, *wrapped_for);
  });
}

}  // namespace

Status refuse_wrapping(const Request& request) {
  if (request.count("x-vault-wrap-ttl") == 0) return {};
  // Who asks for it does not want the value itself in the answer.
  return fail(ErrorCode::MalformedRequest, "response wrapping is not offered of this answer");
}

Reply wrap_reply(const Request& request, const vault::Wrapping::Made& made) {
  const auto& [token, answer] = made;
  auto body = vault_body(request, nullptr);
  body["wrap_info"] = {
      {"token", token.expose([](ByteView bytes) { return std::string(as_text(bytes)); })},
      {"accessor", answer.accessor},
      {"ttl", (answer.expires_at - answer.created_at).count()},
      {"creation_time", format_time(answer.created_at)},
      {"creation_path", answer.creation_path}};
  auto reply = json_reply(200, body);
  wipe_texts(body);
  return reply;
}

Result<std::string> vault_tenant(const Request& request, bool in_path,
                                 std::vector<std::string>& parameters) {
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

Result<Json> optional_vault_json(const Request& request) {
  const bool sent = request.body.expose(
      [](ByteView bytes) { return !bytes.empty() && as_text(bytes) != "null"; });
  return sent ? vault_json(request) : Json::object();
}

std::optional<std::uint32_t> vault_number(const Json& value) {
  std::uint64_t number = 0;
  if (value.is_number_unsigned()) {
    number = value.get<std::uint64_t>();
  } else if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const auto end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, number);
    if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  } else {
    return std::nullopt;
  }
  if (number > INT32_MAX) return std::nullopt;
  return static_cast<std::uint32_t>(number);
}

}  // namespace postern::http
