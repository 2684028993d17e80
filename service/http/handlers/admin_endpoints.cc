#include <algorithm>
#include <set>
#include <string>

#include "core/time_format.h"
#include "crypto/random.h"
#include "http/handlers/api.h"
#include "policy/manifest.h"
#include "policy/signing_keys.h"

/// Tenants, manifests, tenant-admin tokens and client secrets.
namespace postern::http {
namespace {

using policy::Prune;
using token::Json;
using Kind = Caller::Kind;

Json tenant_json(const policy::TenantRow& row) {
  return {{"tenant", row.tenant.str()},
          {"display_name", row.display_name},
          {"enabled", row.enabled},
          {"epoch", row.epoch},
          {"created_at", format_time(row.created_at)}};
}

std::string_view name_of(policy::PlannedChange::Action action) {
  using Action = policy::PlannedChange::Action;
  switch (action) {
    case Action::Unchanged: return "unchanged";
    case Action::Create: return "create";
    case Action::Update: return "update";
    case Action::Delete: return "delete";
  }
  return "";
}

Result<Answer> list_tenants(const Services& services, const Request& request) {
  POSTERN_CHECK(require_operator(services, request));
  POSTERN_TRY(const auto query, Query::parse(request.query, {"cursor", "limit"}));
  POSTERN_TRY(const auto limit, query.number("limit", 100, 1, 1000));
  POSTERN_TRY(const auto page, services.config.tenants(query.get("cursor").value_or(""),
                                                       static_cast<std::uint32_t>(limit)));
  Json body{{"items", Json::array()}};
  for (const auto& row : page.items) body["items"].push_back(tenant_json(row));
  if (!page.next.empty()) body["next_cursor"] = page.next;
  return Answer{json_reply(200, body)};
}

Result<Done> show_tenant(const Request& request, const policy::TenantSnapshot& snapshot) {
  const auto& config = snapshot.config();
  auto settings = policy::write(config.settings);
  settings.erase("guardrails");
  Json body{{"tenant", snapshot.tenant().str()},
            {"display_name", snapshot.display_name()},
            {"enabled", snapshot.enabled()},
            {"settings", std::move(settings)},
            {"guardrails", policy::write(config.settings.guardrails)},
            {"epoch", snapshot.epoch()},
            {"created_at", format_time(snapshot.created_at())},
            {"issuer", snapshot.issuer_url()},
            {"counts",
             {{"issuers", config.issuers.size()},
              {"clients", config.clients.size()},
              {"backends", config.backends.size()},
              {"roles", config.roles.size()},
              {"bindings", config.bindings.size()}}}};
  POSTERN_TRY(auto reply, versioned_reply(request, snapshot.epoch(), body));
  return Done{std::move(reply)};
}

/// Signing keys that the plan's result needs and the tenant has not got.
/// ES256 and EdDSA from the start; RS256, slow to make, when a backend wants it or a
/// client's signed introspection answers, which for resource servers is the default.
Status add_signing_keys(const Services& services, const policy::Manifest& manifest,
                        const policy::StoredTenant* stored, policy::ConfigChange& change) {
  using crypto::Algorithm;
  std::set<Algorithm> wanted;
  if (stored == nullptr) wanted = {Algorithm::ES256, Algorithm::EdDSA};
  for (const auto& object : manifest.objects) {
    const auto& spec = object.spec;
    std::string name;
    if (object.kind == policy::Kind::Backend) {
      name = spec.at("signing_algorithm").get<std::string>();
    }
    if (object.kind == policy::Kind::Client) {
      name = spec.value("introspection_algorithm", spec.contains("introspects") ? "RS256" : "");
    }
    if (const auto algorithm = crypto::parse_algorithm(name)) wanted.insert(*algorithm);
  }
  for (const auto algorithm : wanted) {
    const std::string name(crypto::to_string(algorithm));
    const bool known =
        stored != nullptr &&
        std::any_of(stored->signing_keys.begin(), stored->signing_keys.end(), [&](const auto& key) {
          return key.algorithm == name && key.state != policy::SigningKeyState::Retired;
        });
    if (known) continue;
    POSTERN_TRY(auto key, policy::make_signing_key(services.keyring, manifest.tenant, algorithm,
                                                   services.clock.now(),
                                                   change.create ? &change.create->kek : nullptr));
    change.add_signing_keys.push_back(std::move(key));
  }
  return {};
}

/// The shared credentials that the manifest names, and those its issuers need.
std::vector<policy::Manifest::CredentialReference> needed_credentials(
    const policy::Manifest& manifest) {
  auto needed = manifest.credentials;
  for (const auto& object : manifest.objects) {
    if (object.kind != policy::Kind::Issuer) continue;
    const auto introspection = object.spec.find("introspection");
    if (introspection == object.spec.end()) continue;
    needed.push_back(
        {CredentialName(introspection->at("credential").get<std::string>()), {"client_secret"}});
  }
  return needed;
}

Result<Json> missing_credentials(const Services& services, const policy::Manifest& manifest) {
  Json missing = Json::array();
  for (const auto& reference : needed_credentials(manifest)) {
    const auto stored =
        services.credentials.metadata(manifest.tenant, {Owner::tenant(), reference.name});
    if (!stored.ok() && stored.error().code != ErrorCode::NotFound) return stored.error();
    const bool complete =
        stored.ok() && stored.value().state() == vault::VersionState::Live &&
        std::all_of(reference.fields.begin(), reference.fields.end(), [&](const auto& field) {
          const auto& names = stored.value().field_names;
          return std::find(names.begin(), names.end(), field) != names.end();
        });
    if (!complete) missing.push_back(reference.name.str());
  }
  return missing;
}

/// A tenant that does not exist yet has no credentials.
Result<Json> none_stored(const policy::Manifest& manifest) {
  Json missing = Json::array();
  for (const auto& reference : needed_credentials(manifest)) {
    missing.push_back(reference.name.str());
  }
  return missing;
}

Json plan_json(const policy::Plan& plan) {
  Json changes = Json::array();
  for (const auto& line : plan.lines) {
    changes.push_back({{"kind", line.kind},
                       {"name", line.name},
                       {"action", name_of(line.action)},
                       {"fields", line.fields}});
  }
  return {{"changes", std::move(changes)}, {"warnings", plan.warnings}};
}

Result<Reply> put_manifest(const Services& services, const Request& request, const TenantId& tenant,
                           const Caller& caller, audit::Event& record) {
  POSTERN_TRY(const auto query, Query::parse(request.query, {"dry_run", "prune"}));
  POSTERN_TRY(const auto dry_run, query.flag("dry_run"));
  POSTERN_TRY(const auto prune, query.flag("prune"));
  POSTERN_TRY(const auto conditions, Preconditions::of(request));
  auto parsed = request.body.expose([](ByteView body) { return token::parse_json(as_text(body)); });
  POSTERN_TRY(const auto json, std::move(parsed));
  POSTERN_TRY(const auto manifest, policy::Manifest::read(json));
  if (manifest.tenant != tenant) {
    Error error = fail(ErrorCode::MalformedRequest, "names another tenant than the request's path");
    error.pointer = "/tenant";
    return error;
  }

  auto loaded = services.config.load(tenant);
  if (!loaded.ok() && loaded.error().code != ErrorCode::NotFound) return loaded.error();
  const policy::StoredTenant* stored = loaded.ok() ? &loaded.value() : nullptr;
  if (stored == nullptr && caller.kind != Kind::Operator) {
    return fail(ErrorCode::NotFound, "unknown tenant");
  }
  if (caller.kind == Kind::TenantAdmin && manifest.enabled &&
      *manifest.enabled != stored->row.enabled) {
    return fail(ErrorCode::Forbidden, "only an operator enables or disables a tenant");
  }
  if (caller.kind == Kind::TenantAdmin && manifest.guardrails &&
      *manifest.guardrails != policy::guardrails_of(stored->row)) {
    Error error = fail(ErrorCode::Forbidden, "only an operator changes a tenant's guardrails");
    error.pointer = "/guardrails";
    return error;
  }
  POSTERN_CHECK(
      conditions.check(stored != nullptr ? std::optional(stored->row.epoch) : std::nullopt));
  if (stored == nullptr) {
    // Found out by the write as well; a dry run must say it too.
    POSTERN_TRY(const auto removed, services.config.was_removed(tenant));
    if (removed) {
      Error error =
          fail(ErrorCode::Conflict, "a tenant of this id was deleted; an id is never used again");
      error.pointer = "/tenant";
      return error;
    }
  }
  POSTERN_TRY(auto plan,
              policy::plan(manifest, stored, prune ? Prune::Yes : Prune::No, services.clock.now()));

  // Before the write: nothing may fail between a commit and its answer, which
  // carries secrets that are shown once.
  POSTERN_TRY(auto missing,
              plan.creates ? none_stored(manifest) : missing_credentials(services, manifest));

  std::uint64_t epoch = stored != nullptr ? stored->row.epoch : 0;
  if (!dry_run && !plan.empty()) {
    if (plan.creates) {
      POSTERN_CHECK(services.keyring.may_create());
      POSTERN_TRY(const auto share, services.keyring.make_share(tenant));
      auto kek = services.keyring.create(tenant, KekVersion{1}, std::nullopt, share);
      POSTERN_TRY(auto chain_key, services.keyring.chain_key_under(kek, tenant));
      plan.change.create.emplace(
          policy::ConfigChange::Create{std::move(kek), std::move(chain_key)});
    }
    POSTERN_CHECK(add_signing_keys(services, manifest, stored, plan.change));
    std::size_t changed = 0;
    std::string names;
    for (const auto& line : plan.lines) {
      if (line.action == policy::PlannedChange::Action::Unchanged) continue;
      ++changed;
      if (names.size() < 1000) {
        names += (names.empty() ? "" : " ") + std::string(name_of(line.action)) + ":" + line.kind +
                 "/" + line.name;
      }
    }
    record.with("changes", std::to_string(changed)).with("objects", names);
    // The caller's failed precondition only if the caller named one.
    POSTERN_TRY(epoch, conditions.any() ? services.config.apply(tenant, plan.change, {&record, 1})
                                        : apply_or_conflict(services, tenant, plan.change, record));
    services.snapshots.moved_on(tenant, epoch);
  }

  Json body = plan_json(plan);
  body["tenant"] = tenant.str();
  body["epoch"] = epoch;
  body["created"] = plan.creates && !dry_run;
  body["dry_run"] = dry_run;
  body["client_secrets"] = Json::array();
  if (!dry_run) {
    for (const auto& generated : plan.generated) {
      generated.secret.expose([&](ByteView secret) {
        body["client_secrets"].push_back(
            {{"client", generated.client.str()}, {"client_secret", std::string(as_text(secret))}});
      });
    }
  }
  body["missing_credentials"] = std::move(missing);
  auto reply = json_reply(plan.creates && !dry_run ? 201 : 200, body);
  reply.set_header("ETag", etag(epoch));
  return reply;
}

/// As tenant_call, but the tenant may be about to exist.
Result<Answer> manifest_endpoint(const Services& services, const Request& request) {
  POSTERN_TRY(const auto tenant, TenantId::parse(request.parameters.at(0)));
  auto found = services.snapshots.get(tenant);
  // Internal: what is stored does not read back. Applying a manifest repairs it,
  // which an operator may, whose token needs no snapshot.
  if (!found.ok() && found.error().code != ErrorCode::NotFound &&
      found.error().code != ErrorCode::Internal) {
    return found.error();
  }
  const auto snapshot = found.ok() ? found.value() : nullptr;
  auto record = record_for(services, tenant, request, "config.apply");
  auto scope = snapshot ? snapshot->settings().api_scopes.str() : std::string(kOperatorScope);
  const auto run = [&]() -> Result<Reply> {
    POSTERN_TRY(const auto caller, caller_of(services, request, snapshot.get()));
    caller.describe(record);
    scope = scope_beyond(caller.kind, {Kind::Operator, Kind::TenantAdmin});
    if (caller.kind == Kind::User) return fail(ErrorCode::Forbidden, "this token may not do that");
    return put_manifest(services, request, tenant, caller, record);
  };
  auto reply = run();
  if (reply.ok()) return Answer{std::move(reply).value()};  // recorded with the write
  if (reply.error().code == ErrorCode::NeedsOutbound) return reply.error();
  if (!snapshot) return reply.error();  // no chain to record it in
  audit::Event refusal = record_for(services, tenant, request, "config.apply");
  refusal.fields = record.fields;
  record_error(refusal, reply.error());
  return Answer{render(reply.error(), request, scope), {std::move(refusal)}};
}

Result<Done> delete_tenant(const Services& services, const Request& request,
                           const policy::TenantSnapshot& snapshot, audit::Event& record) {
  POSTERN_TRY(const auto query, Query::parse(request.query, {"confirm"}));
  if (query.get("confirm") != snapshot.tenant().str()) {
    return fail(ErrorCode::MalformedRequest,
                "deleting a tenant destroys its keys and credentials for good; repeat its id in "
                "the query parameter confirm");
  }
  POSTERN_TRY(const auto conditions, Preconditions::of(request));
  POSTERN_CHECK(conditions.check(snapshot.epoch()));
  POSTERN_CHECK(services.config.remove(snapshot.tenant(), {&record, 1}));
  services.keyring.forget(snapshot.tenant());
  services.snapshots.moved_on(snapshot.tenant(), ~std::uint64_t{0});
  return Done{Reply(204), Done::Recorded::InStore};
}

Result<Done> create_admin_token(const Services& services, const Request& request,
                                const policy::TenantSnapshot& snapshot, audit::Event& record) {
  POSTERN_TRY(const auto body, json_body(request, {"description", "expires_at"}));
  POSTERN_TRY(const auto description, description_member(body));
  POSTERN_TRY(const auto expires_at, time_member(body, "expires_at", services.clock.now()));
  if (snapshot.admin_tokens().size() >= 100) {
    return fail(ErrorCode::Conflict, "this tenant has 100 admin tokens; delete some first");
  }
  const auto& tenant = snapshot.tenant();
  std::string text = "postern_ta_" + tenant.str() + "_" + crypto::random_token();
  const BearerToken token(SecureBuffer::copy_of(text));
  const auto id = crypto::random_id();
  policy::ConfigChange change;
  change.expected_epoch = snapshot.epoch();  // the limit was checked against it
  change.add_admin_tokens.push_back(
      {id, description, policy::admin_token_hash(tenant, token), services.clock.now(), expires_at});
  record.with("admin_token", id);
  auto reply = json_reply(201, {{"token_id", id}, {"token", text}});
  wipe(text);
  return apply_change(services, snapshot.tenant(), change, record, std::move(reply));
}

Result<Done> list_admin_tokens(const policy::TenantSnapshot& snapshot) {
  Json items = Json::array();
  for (const auto& token : snapshot.admin_tokens()) {
    Json item{{"token_id", token.token_id},
              {"description", token.description},
              {"created_at", format_time(token.created_at)}};
    if (token.expires_at) item["expires_at"] = format_time(*token.expires_at);
    items.push_back(std::move(item));
  }
  return Done{json_reply(200, {{"items", std::move(items)}})};
}

Result<Done> delete_admin_token(const Services& services, const Request& request,
                                const policy::TenantSnapshot& snapshot, audit::Event& record) {
  const auto& id = request.parameters.at(1);
  const auto& tokens = snapshot.admin_tokens();
  const bool known = std::any_of(tokens.begin(), tokens.end(),
                                 [&](const auto& token) { return token.token_id == id; });
  if (!known) return fail(ErrorCode::NotFound, "no such admin token");
  policy::ConfigChange change;
  change.remove_admin_tokens.push_back(id);
  record.with("revoked_token", id);
  return apply_change(services, snapshot.tenant(), change, record, Reply(204));
}

Result<const policy::Client*> client_of(const Request& request,
                                        const policy::TenantSnapshot& snapshot) {
  const auto* client = snapshot.find_client(request.parameters.at(1));
  if (client == nullptr) return fail(ErrorCode::NotFound, "no such client");
  return client;
}

Result<Done> create_client_secret(const Services& services, const Request& request,
                                  const policy::TenantSnapshot& snapshot, audit::Event& record) {
  POSTERN_TRY(const auto client, client_of(request, snapshot));
  if (!snapshot.settings().guardrails.allows(policy::ClientAuthentication::Secret)) {
    return fail(ErrorCode::Forbidden, "the operator does not allow this tenant client secrets");
  }
  POSTERN_TRY(const auto body, json_body(request, {"expires_at"}));
  POSTERN_TRY(const auto expires_at, time_member(body, "expires_at", services.clock.now()));
  const auto secrets = snapshot.secrets_of(client->id.str());
  const auto now = services.clock.now();
  const auto live = std::count_if(secrets.begin(), secrets.end(), [&](const auto* secret) {
    return !secret->expires_at || *secret->expires_at > now;
  });
  if (live >= 2) {
    return fail(ErrorCode::Conflict,
                "this client has two live secrets; delete the old one before adding another");
  }
  std::string text = crypto::random_token();
  const ClientSecret secret(SecureBuffer::copy_of(text));
  const auto id = crypto::random_id();
  policy::ConfigChange change;
  change.expected_epoch = snapshot.epoch();  // the limit was checked against it
  change.add_client_secrets.push_back(
      {client->id, id, policy::client_secret_hash(snapshot.tenant(), client->id.str(), secret),
       expires_at});
  for (const auto* old : secrets) {
    if (old->expires_at && *old->expires_at <= now) {
      change.remove_client_secrets.emplace_back(client->id, old->secret_id);
    }
  }
  record.with("client", client->id.str()).with("secret_id", id);
  auto reply = json_reply(201, {{"secret_id", id}, {"client_secret", text}});
  wipe(text);
  return apply_change(services, snapshot.tenant(), change, record, std::move(reply));
}

Result<Done> list_client_secrets(const Request& request, const policy::TenantSnapshot& snapshot) {
  POSTERN_TRY(const auto client, client_of(request, snapshot));
  Json items = Json::array();
  for (const auto* secret : snapshot.secrets_of(client->id.str())) {
    Json item{{"secret_id", secret->secret_id}};
    if (secret->expires_at) item["expires_at"] = format_time(*secret->expires_at);
    items.push_back(std::move(item));
  }
  return Done{json_reply(200, {{"items", std::move(items)}})};
}

Result<Done> delete_client_secret(const Services& services, const Request& request,
                                  const policy::TenantSnapshot& snapshot, audit::Event& record) {
  POSTERN_TRY(const auto client, client_of(request, snapshot));
  const auto& id = request.parameters.at(2);
  const auto secrets = snapshot.secrets_of(client->id.str());
  const bool known = std::any_of(secrets.begin(), secrets.end(),
                                 [&](const auto* secret) { return secret->secret_id == id; });
  if (!known) return fail(ErrorCode::NotFound, "no such secret");
  policy::ConfigChange change;
  change.remove_client_secrets.emplace_back(client->id, id);
  record.with("client", client->id.str()).with("secret_id", id);
  return apply_change(services, snapshot.tenant(), change, record, Reply(204));
}

}  // namespace

void add_admin_endpoints(Router& router, Gate& gate, Services& services) {
  const auto add = [&](const char* method, const char* pattern, Endpoint endpoint) {
    gate.add(router, method, pattern, Pool::Database, std::move(endpoint));
  };
  /// An endpoint on one tenant for operators and, where said, its admins.
  using Body =
      std::function<Result<Done>(const Request&, const policy::TenantSnapshot&, audit::Event&)>;
  enum class Parameters { None, ReadByBody };
  const auto on_tenant = [&](const char* method, const char* pattern, const char* action,
                             bool admins, Body body, Parameters parameters = Parameters::None) {
    add(method, pattern,
        [&services, action, admins, body = std::move(body), parameters](const Request& request) {
          const auto call = [&](const policy::TenantSnapshot& snapshot, const Caller&,
                                audit::Event& record) -> Result<Done> {
            if (parameters == Parameters::None) POSTERN_CHECK(Query::none(request));
            return body(request, snapshot, record);
          };
          return admins ? tenant_call(services, request, action,
                                      {Kind::Operator, Kind::TenantAdmin}, call)
                        : tenant_call(services, request, action, {Kind::Operator}, call);
        });
  };

  add("GET", "/api/v1/status", [&services](const Request& request) -> Result<Answer> {
    POSTERN_CHECK(require_operator(services, request));
    POSTERN_CHECK(Query::none(request));
    POSTERN_TRY(auto status, services.status());
    return Answer{std::move(Reply::json(200, std::move(status)).no_store())};
  });
  add("GET", "/api/v1/keys", [&services](const Request& request) -> Result<Answer> {
    POSTERN_CHECK(require_operator(services, request));
    POSTERN_CHECK(Query::none(request));
    if (!services.keys) return fail(ErrorCode::NotFound, "no such thing");
    POSTERN_TRY(auto keys, services.keys());
    return Answer{std::move(Reply::json(200, std::move(keys)).no_store())};
  });
  add("GET", "/api/v1/tenants",
      [&services](const Request& request) { return list_tenants(services, request); });
  add("PUT", "/api/v1/tenants/{}/manifest",
      [&services](const Request& request) { return manifest_endpoint(services, request); });

  on_tenant("GET", "/api/v1/tenants/{}", "tenant.read", true,
            [](const Request& request, const auto& snapshot, auto&) {
              return show_tenant(request, snapshot);
            });
  on_tenant(
      "DELETE", "/api/v1/tenants/{}", "tenant.delete", false,
      [&services](const Request& request, const auto& snapshot, auto& record) {
        return delete_tenant(services, request, snapshot, record);
      },
      Parameters::ReadByBody);
  on_tenant("GET", "/api/v1/tenants/{}/manifest", "config.read", true,
            [&services](const Request& request, const auto& snapshot, auto&) -> Result<Done> {
              POSTERN_TRY(const auto stored, services.config.load(snapshot.tenant()));
              POSTERN_TRY(auto reply, versioned_reply(request, stored.row.epoch,
                                                      policy::write_manifest(stored)));
              return Done{std::move(reply), Done::Recorded::ByGate};
            });
  on_tenant("POST", "/api/v1/tenants/{}/admin-tokens", "admin_token.create", false,
            [&services](const Request& request, const auto& snapshot, auto& record) {
              return create_admin_token(services, request, snapshot, record);
            });
  on_tenant(
      "GET", "/api/v1/tenants/{}/admin-tokens", "admin_token.list", true,
      [](const Request&, const auto& snapshot, auto&) { return list_admin_tokens(snapshot); });
  on_tenant("DELETE", "/api/v1/tenants/{}/admin-tokens/{}", "admin_token.delete", true,
            [&services](const Request& request, const auto& snapshot, auto& record) {
              return delete_admin_token(services, request, snapshot, record);
            });
  on_tenant("POST", "/api/v1/tenants/{}/clients/{}/secrets", "client_secret.create", true,
            [&services](const Request& request, const auto& snapshot, auto& record) {
              return create_client_secret(services, request, snapshot, record);
            });
  on_tenant("GET", "/api/v1/tenants/{}/clients/{}/secrets", "client_secret.list", true,
            [](const Request& request, const auto& snapshot, auto&) {
              return list_client_secrets(request, snapshot);
            });
  on_tenant("DELETE", "/api/v1/tenants/{}/clients/{}/secrets/{}", "client_secret.delete", true,
            [&services](const Request& request, const auto& snapshot, auto& record) {
              return delete_client_secret(services, request, snapshot, record);
            });
}

}  // namespace postern::http
