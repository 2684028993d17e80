#include <algorithm>

#include "core/time_format.h"
#include "crypto/hash.h"
#include "grants/client_authentication.h"
#include "http/handlers/authenticate.h"
#include "http/handlers/vault_api.h"
#include "http/vault_duration.h"

/// `auth` of the Vault subset: what a token is and to whom it belongs, and how a
/// client gets one of its own (grants/vault_sessions.h): by its secret, or by an
/// assertion or its workload's token, as at the token endpoint.
namespace postern::http {
namespace {

using token::Json;
using Kind = Caller::Kind;

/// A token as Vault describes one.
struct TokenFacts {
  std::string name;    ///< who it belongs to
  std::string policy;  ///< what that one is here
  std::optional<sys_seconds> issued_at;
  std::optional<sys_seconds> expires_at;
  bool orphan = true;  ///< no other token ends it
};

constexpr const char* kClientPolicy = "client";
constexpr const char* kViewsPolicy = "views";

TokenFacts facts_of(const grants::VaultSession& session, const char* policy = kClientPolicy) {
  return {session.client, policy, session.issued_at, session.expires_at, session.parents.empty()};
}

bool is_session(const VaultCall& call) {
  return call.caller.kind == Kind::Client || call.caller.kind == Kind::ClientForUser;
}

TokenFacts facts_of(const VaultCall& call) {
  switch (call.caller.kind) {
    case Kind::Operator: break;
    case Kind::TenantAdmin: {
      const auto& tokens = call.snapshot.admin_tokens();
      const auto it = std::find_if(tokens.begin(), tokens.end(), [&](const auto& each) {
        return each.token_id == call.caller.admin_token_id;
      });
      if (it == tokens.end()) break;
      return {it->token_id, "tenant-admin", it->created_at, it->expires_at};
    }
    case Kind::Client: return facts_of(call.caller.session);
    case Kind::ClientForUser: return facts_of(call.caller.session, kViewsPolicy);
    case Kind::User: {
      const auto& user = *call.caller.user;
      return {user.principal.subject, "user", user.issued_at, user.expires_at};
    }
  }
  return {"operator", "operator", {}, {}};
}

/// @param id  the token itself, as Vault shows it; "" by its accessor.
Reply facts_reply(const VaultCall& call, const TokenFacts& facts, std::string id,
                  const std::string& accessor) {
  const auto seconds = [](std::optional<sys_seconds> time) {
    return time ? time->time_since_epoch().count() : 0;
  };
  const auto left =
      facts.expires_at ? *facts.expires_at - call.services.clock.now() : std::chrono::seconds(0);
  return vault_reply(
      call.request,
      {{"id", std::move(id)},
       {"accessor", accessor},
       {"creation_time", seconds(facts.issued_at)},
       {"creation_ttl",
        facts.expires_at ? seconds(facts.expires_at) - seconds(facts.issued_at) : 0},
       {"display_name", facts.name},
       {"entity_id", ""},
       {"expire_time", facts.expires_at ? Json(format_time(*facts.expires_at)) : Json(nullptr)},
       {"explicit_max_ttl", 0},
       {"issue_time", facts.issued_at ? Json(format_time(*facts.issued_at)) : Json(nullptr)},
       {"meta", nullptr},
       {"num_uses", 0},
       {"orphan", facts.orphan},
       {"path", "auth/token"},
       {"policies", {facts.policy}},
       {"renewable", facts.policy == kClientPolicy || facts.policy == kViewsPolicy},
       {"ttl", left.count()},
       {"type", "service"}});
}

std::string text_of(const BearerToken& token) {
  return token.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
}

Result<Done> lookup_self(const VaultCall& call) {
  POSTERN_CHECK(Query::none(call.request));
  // Vault's own command reads the token out of the answer.
  POSTERN_TRY(const auto bearer, vault_token(call.request));
  return Done{facts_reply(call, facts_of(call), text_of(bearer), call.caller.session.id)};
}

/// What a login and a renewal answer.
Reply session_reply(const Services& services, const Request& request,
                    const grants::VaultSession& session, const BearerToken& token,
                    const char* policy = kClientPolicy) {
  auto body = vault_body(request, nullptr);
  const auto left = session.expires_at - services.clock.now();
  body["auth"] = {{"client_token", text_of(token)},
                  {"accessor", session.id},
                  {"policies", {policy}},
                  {"token_policies", {policy}},
                  {"metadata", {{"client", session.client}}},
                  {"lease_duration", left.count()},
                  {"renewable", true},
                  {"entity_id", ""},
                  {"token_type", "service"},
                  {"orphan", session.parents.empty()},
                  {"mfa_requirement", nullptr},
                  {"num_uses", 0}};
  auto reply = json_reply(200, body);
  wipe_texts(body);
  return reply;
}

/// Vault's way with a token that has no life left to gain: the same one, and for
/// how long it still lives.
Result<Done> renew_self(const VaultCall& call) {
  POSTERN_CHECK(Query::none(call.request));
  if (!is_session(call)) return fail(ErrorCode::MalformedRequest, "lease is not renewable");
  POSTERN_TRY(const auto bearer, vault_token(call.request));
  return Done{session_reply(call.services, call.request, call.caller.session, bearer,
                            call.caller.kind == Kind::Client ? kClientPolicy : kViewsPolicy)};
}

Result<Done> end_session(const VaultCall& call, const grants::VaultSession& session) {
  call.record.with("ended", session.id);
  POSTERN_CHECK(call.services.vault_sessions->end(call.tenant(), session));
  return Done{Reply(204), Done::Recorded::ByGate};
}

Result<Done> revoke_self(const VaultCall& call) {
  POSTERN_CHECK(Query::none(call.request));
  return end_session(call, call.caller.session);
}

/// The token that a body names, which is the caller's own, or another of the same
/// client; nothing else is told about a token than to whoever holds it.
struct NamedToken {
  bool self = false;
  BearerToken token;
  grants::VaultSession session;  ///< of another
};
/// Errors: MalformedRequest; Unauthenticated, alike for somebody else's and for none.
Result<NamedToken> named_token(const VaultCall& call) {
  POSTERN_CHECK(Query::none(call.request));
  POSTERN_TRY(auto body, vault_json(call.request));
  const auto it = body.find("token");
  if (it == body.end() || !it->is_string())
    return fail(ErrorCode::MalformedRequest, "missing token");
  BearerToken named(SecureBuffer::take(std::move(it->get_ref<std::string&>())));
  POSTERN_TRY(const auto own, vault_token(call.request));
  const bool self = own.expose([&](ByteView mine) {
    return named.expose([&](ByteView theirs) { return crypto::equal(mine, theirs); });
  });
  if (self) return NamedToken{true, std::move(named), call.caller.session};
  if (call.caller.kind != Kind::Client) return permission_denied();
  auto verified = named.expose([&](ByteView bytes) {
    return call.services.vault_sessions->verify(call.snapshot, as_text(bytes));
  });
  POSTERN_TRY(auto session, std::move(verified));
  if (session.client != call.caller.session.client) return permission_denied();
  return NamedToken{false, std::move(named), std::move(session)};
}

/// Errors: MalformedRequest; Unauthenticated for an accessor that is not the caller's own:
/// there is no row by which another could be found.
Status check_own_accessor(const VaultCall& call) {
  POSTERN_CHECK(Query::none(call.request));
  POSTERN_TRY(const auto body, vault_json(call.request));
  const auto it = body.find("accessor");
  if (it == body.end() || !it->is_string()) {
    return fail(ErrorCode::MalformedRequest, "missing accessor");
  }
  const auto& own = call.caller.session.id;
  if (own.empty() || !crypto::equal(it->get_ref<const std::string&>(), own)) {
    return permission_denied();
  }
  return {};
}

Result<Done> lookup(const VaultCall& call) {
  POSTERN_TRY(const auto named, named_token(call));
  const auto facts = named.self ? facts_of(call) : facts_of(named.session);
  return Done{facts_reply(call, facts, text_of(named.token), named.session.id)};
}

Result<Done> lookup_accessor(const VaultCall& call) {
  POSTERN_CHECK(check_own_accessor(call));
  return Done{facts_reply(call, facts_of(call), "", call.caller.session.id)};
}

Result<Done> renew(const VaultCall& call) {
  POSTERN_TRY(const auto named, named_token(call));
  if (call.caller.kind != Kind::Client) {
    return fail(ErrorCode::MalformedRequest, "lease is not renewable");
  }
  return Done{session_reply(call.services, call.request, named.session, named.token)};
}

Result<Done> revoke(const VaultCall& call) {
  POSTERN_TRY(const auto named, named_token(call));
  return end_session(call, named.session);
}

Result<Done> revoke_accessor(const VaultCall& call) {
  POSTERN_CHECK(check_own_accessor(call));
  return end_session(call, call.caller.session);
}

bool is_nothing(const Json& value) {
  return value.is_null() || value == "" || value == 0 || value == false ||
         (value.is_structured() && value.empty()) ||
         (value.is_string() &&
          vault_duration(value.get_ref<const std::string&>()) == std::chrono::seconds(0));
}

/// What a token that is made may be asked to have: nothing that it would not have.
/// Errors: MalformedRequest.
Status check_creation(const Json& body) {
  for (const auto* name :
       {"id", "no_parent", "num_uses", "period", "entity_alias", "meta", "metadata"}) {
    if (const auto it = body.find(name); it != body.end() && !is_nothing(*it)) {
      return fail(ErrorCode::MalformedRequest, std::string(name) + " is not kept of a token here");
    }
  }
  if (const auto it = body.find("type");
      it != body.end() && !is_nothing(*it) && *it != "service" && *it != "default") {
    return fail(ErrorCode::MalformedRequest, "type of a token is service");
  }
  const auto policies = body.find("policies");
  if (policies == body.end() || is_nothing(*policies)) return {};
  const bool own =
      policies->is_array() && std::all_of(policies->begin(), policies->end(), [](const auto& each) {
        return each == kClientPolicy || each == "default";
      });
  if (own) return {};
  return fail(ErrorCode::MalformedRequest, "policies of a token are those of its parent: client");
}

/// The least of `ttl` and `explicit_max_ttl`; nothing when neither says any.
Result<std::optional<std::chrono::seconds>> asked_lifetime(const Json& body) {
  std::optional<std::chrono::seconds> least;
  for (const auto* name : {"ttl", "explicit_max_ttl"}) {
    const auto it = body.find(name);
    if (it == body.end() || is_nothing(*it)) continue;
    const auto time = it->is_string()            ? vault_duration(it->get_ref<const std::string&>())
                      : it->is_number_unsigned() ? vault_duration(it->dump())
                                                 : std::nullopt;
    if (!time) {
      return fail(ErrorCode::MalformedRequest,
                  std::string(name) + " is a time, such as 300 or 5m, of a year at most");
    }
    least = std::min(least.value_or(*time), *time);
  }
  return least;
}

/// A token for a part of the work: of the same client, and no longer than one's own.
Result<Done> create(const VaultCall& call) {
  POSTERN_CHECK(Query::none(call.request));
  if (call.caller.kind != Kind::Client) {
    return fail(ErrorCode::MalformedRequest,
                "tokens are made here of a client's: a client gets one by logging in");
  }
  POSTERN_TRY(const auto body, optional_vault_json(call.request));
  POSTERN_CHECK(check_creation(body));
  POSTERN_TRY(const auto lifetime, asked_lifetime(body));
  POSTERN_TRY(const auto made, call.services.vault_sessions->start_child(
                                   call.snapshot, call.caller.session, lifetime));
  call.record.with("created", made.session.id)
      .with("expires_at", std::to_string(made.session.expires_at.time_since_epoch().count()));
  return Done{session_reply(call.services, call.request, made.session, made.token),
              Done::Recorded::ByGate};
}

/// As at a tenant that does not know the client, and as at no tenant.
Error not_authenticated() { return fail(ErrorCode::InvalidClient, "client authentication failed"); }

/// How a client shows who it is.
struct Login {
  const char* method;
  const char* id;      ///< member with the client's id
  const char* secret;  ///< member with what proves it
  bool is_assertion;
  bool may_be_users;  ///< or with a user's token, where the client proves itself besides
};
constexpr Login kLogins[] = {{"approle", "role_id", "secret_id", false, false},
                             {"jwt", "role", "jwt", true, true},
                             {"kubernetes", "role", "jwt", true, false}};

Result<std::string_view> text_of(const Json& body, const char* name) {
  const auto it = body.find(name);
  if (it == body.end() || !it->is_string() || it->get_ref<const std::string&>().empty()) {
    return fail(ErrorCode::MalformedRequest, std::string("missing ") + name);
  }
  return std::string_view(it->get_ref<const std::string&>());
}

/// What proves the client besides: in the body, as in the form of the token endpoint.
/// Errors: MalformedRequest.
Result<ClientParameters> proofs_beside(const Json& body) {
  POSTERN_TRY(auto offered, ClientParameters::of(body));
  if (body.contains("client_secret")) {
    POSTERN_TRY(offered.secret, text_of(body, "client_secret"));
  }
  return offered;
}

/// Whether the client proves itself by something else than `jwt`, which is then the
/// token of its user: as it is there, or by how the client is registered.
bool is_for_user(const policy::TenantSnapshot& snapshot, const Request& request,
                 const ClientParameters& beside, std::string_view id) {
  if (request.count("authorization") > 0 || beside.secret || beside.assertion ||
      beside.assertion_type) {
    return true;
  }
  const auto* client = snapshot.find_client(id);
  if (client == nullptr) return false;
  const auto method = client->authentication.method;
  return method == policy::ClientAuthentication::Tls ||
         method == policy::ClientAuthentication::SelfSignedTls;
}

Result<grants::Caller> logged_in(const Services& services, const policy::TenantSnapshot& snapshot,
                                 const Request& request, const ClientParameters& offered,
                                 audit::Event& record) {
  auto authenticated = authenticate(services, snapshot, request, offered, record);
  if (!authenticated.ok() && (authenticated.error().code == ErrorCode::InvalidClient ||
                              authenticated.error().code == ErrorCode::MalformedRequest)) {
    return not_authenticated();  // an assertion that names somebody else, among others
  }
  return authenticated;
}

/// With when it ends: an emergency revokes it until then.
void record_session(audit::Event& record, const grants::VaultSession& session) {
  record.with("session", session.id)
      .with("expires_at", std::to_string(session.expires_at.time_since_epoch().count()));
}

/// What a login is tried with; the texts are the body's.
struct LoginTry {
  const Services& services;
  const policy::TenantSnapshot& snapshot;
  const Request& request;
  audit::Event& record;
};

Result<Reply> login_of_client(const LoginTry& with, const ClientParameters& offered) {
  POSTERN_TRY(const auto caller,
              logged_in(with.services, with.snapshot, with.request, offered, with.record));
  POSTERN_CHECK(grants::VaultSessions::check_client(with.snapshot, *caller.client));
  POSTERN_TRY(const auto started,
              with.services.vault_sessions->start(with.snapshot, *caller.client));
  record_session(with.record, started.session);
  return session_reply(with.services, with.request, started.session, started.token);
}

/// The user's token is held to what a release holds it to, now and at each use.
Result<Reply> login_for_user(const LoginTry& with, const ClientParameters& offered,
                             std::string_view user_token) {
  with.record.with("for", "user");
  POSTERN_TRY(const auto caller,
              logged_in(with.services, with.snapshot, with.request, offered, with.record));
  const auto& client = *caller.client;
  POSTERN_CHECK(grants::VaultSessions::check_client(with.snapshot, client, grants::ActsFor::User));
  // Without the keys that were proven here: nobody proves them when the session is used.
  POSTERN_TRY(const auto user,
              with.services.release.verify_undeclared(with.snapshot, grants::Caller(client),
                                                      user_token, wait_of(with.request)));
  grants::record_subject(with.record, *user);
  POSTERN_TRY(const auto started, with.services.vault_sessions->start_for_user(
                                      with.snapshot, client, *user, user_token));
  record_session(with.record, started.session);
  return session_reply(with.services, with.request, started.session, started.token, kViewsPolicy);
}

Result<Answer> login(const Services& services, const Request& request, bool in_path,
                     const Login& how) {
  auto parameters = request.parameters;
  POSTERN_CHECK(Query::none(request));
  POSTERN_CHECK(refuse_wrapping(request));
  POSTERN_TRY(const auto named, vault_tenant(request, in_path, parameters));
  POSTERN_TRY(auto body, vault_json(request));
  POSTERN_TRY(const auto id, text_of(body, how.id));
  POSTERN_TRY(const auto secret, text_of(body, how.secret));
  ClientParameters beside;
  if (how.may_be_users) {
    POSTERN_TRY(beside, proofs_beside(body));
  }
  POSTERN_TRY(const auto snapshot, open_tenant(services, named));
  if (!snapshot) return not_authenticated();

  auto record = record_for(services, snapshot->tenant(), request, "vault.login");
  record.with("api", "vault").with("method", how.method);
  const LoginTry with{services, *snapshot, request, record};
  const auto run = [&]() -> Result<Reply> {
    if (how.may_be_users && is_for_user(*snapshot, request, beside, id)) {
      if (beside.id && *beside.id != id) return not_authenticated();
      beside.id = id;
      return login_for_user(with, beside, secret);
    }
    ClientParameters offered;
    offered.id = id;
    if (how.is_assertion) {
      offered.assertion = secret;
      offered.assertion_type = grants::kJwtBearerAssertion;
    } else {
      offered.secret = secret;
    }
    return login_of_client(with, offered);
  };
  auto reply = run();
  wipe_texts(body);
  if (reply.ok()) return Answer{std::move(reply).value(), {std::move(record)}};
  const auto& error = reply.error();
  if (error.code == ErrorCode::NeedsOutbound || error.code == ErrorCode::NeedsDatabase) {
    return error;
  }
  return Answer{render(error, request), refusal_records(std::move(record), error)};
}

}  // namespace

void add_vault_token_endpoints(Router& router, Gate& gate, Services& services) {
  const auto add = [&](const char* method, const char* pattern, const char* action,
                       std::vector<Kind> allowed, Result<Done> (*run)(const VaultCall&)) {
    add_vault_route(router, gate, services, {method, pattern, action, std::move(allowed), run});
  };
  const std::vector anybody{Kind::Operator, Kind::TenantAdmin, Kind::User, Kind::Client};
  auto themselves = anybody;
  themselves.push_back(Kind::ClientForUser);
  const std::vector sessions{Kind::Client, Kind::ClientForUser};
  add("GET", "auth/token/lookup-self", "vault.token", themselves, lookup_self);
  add("POST", "auth/token/renew-self", "vault.token", themselves, renew_self);
  add("PUT", "auth/token/renew-self", "vault.token", themselves, renew_self);
  add("POST", "auth/token/revoke-self", "vault.logout", sessions, revoke_self);
  add("PUT", "auth/token/revoke-self", "vault.logout", sessions, revoke_self);

  add("POST", "auth/token/lookup", "vault.token", anybody, lookup);
  add("PUT", "auth/token/lookup", "vault.token", anybody, lookup);
  add("POST", "auth/token/lookup-accessor", "vault.token", anybody, lookup_accessor);
  add("PUT", "auth/token/lookup-accessor", "vault.token", anybody, lookup_accessor);
  add("POST", "auth/token/renew", "vault.token", anybody, renew);
  add("PUT", "auth/token/renew", "vault.token", anybody, renew);
  add("POST", "auth/token/revoke", "vault.logout", {Kind::Client}, revoke);
  add("PUT", "auth/token/revoke", "vault.logout", {Kind::Client}, revoke);
  add("POST", "auth/token/revoke-accessor", "vault.logout", {Kind::Client}, revoke_accessor);
  add("PUT", "auth/token/revoke-accessor", "vault.logout", {Kind::Client}, revoke_accessor);
  add("POST", "auth/token/create", "vault.token_create", anybody, create);
  add("PUT", "auth/token/create", "vault.token_create", anybody, create);

  const auto add_login = [&](const char* method, const char* pattern, const Login& how) {
    add_vault_endpoint(router, gate, method, pattern, Pool::Database,
                       [&services, &how](const Request& request, bool in_path) {
                         return login(services, request, in_path, how);
                       });
  };
  add_login("POST", "auth/approle/login", kLogins[0]);
  add_login("PUT", "auth/approle/login", kLogins[0]);
  add_login("POST", "auth/jwt/login", kLogins[1]);
  add_login("PUT", "auth/jwt/login", kLogins[1]);
  add_login("POST", "auth/kubernetes/login", kLogins[2]);
  add_login("PUT", "auth/kubernetes/login", kLogins[2]);
}

}  // namespace postern::http
