#include <algorithm>

#include "core/time_format.h"
#include "http/ascii.h"
#include "http/handlers/api.h"

/// Stored credentials: set, show, list, delete. A value goes in and never
/// comes out here; only a release opens it.
namespace postern::http {
namespace {

using token::Json;
using Kind = Caller::Kind;

Json metadata_json(const vault::CredentialMetadata& metadata) {
  const auto& owner = metadata.key.owner;
  Json json{{"name", metadata.key.name.str()},
            {"version", metadata.version},
            {"fields", metadata.field_names},
            {"created_at", format_time(metadata.created_at)}};
  json["owner"] = owner.is_tenant() ? Json{{"type", "tenant"}}
                                    : Json{{"type", "principal"},
                                           {"issuer", owner.principal().issuer},
                                           {"subject", owner.principal().subject}};
  if (metadata.expires_at) json["expires_at"] = format_time(*metadata.expires_at);
  return json;
}

/// Whose credentials this request is about. A user's own, always; for the
/// others the principal that `issuer` and `subject` name, or nothing.
enum class Untrusted { Refuse, Allow };
Result<std::optional<Principal>> principal_of(const policy::TenantSnapshot& snapshot,
                                              const Caller& caller, const Query& query,
                                              Untrusted untrusted) {
  const auto issuer = query.get("issuer");
  const auto subject = query.get("subject");
  if (issuer.has_value() != subject.has_value()) {
    return fail(ErrorCode::MalformedRequest,
                "issuer and subject name a principal together; send both or neither");
  }
  if (caller.kind == Kind::User) {
    const auto& own = caller.user->principal;
    if (issuer && (*issuer != own.issuer || *subject != own.subject)) {
      return fail(ErrorCode::Forbidden, "a user may only see and change their own credentials");
    }
    return std::optional(own);
  }
  if (!issuer) return std::optional<Principal>();
  if (subject->size() > 255 || has_control_characters(*subject)) {
    return fail(ErrorCode::MalformedRequest,
                "subject is longer than 255 bytes or has control characters");
  }
  // What an issuer's users left behind must be seen and removed after it is gone.
  if (untrusted == Untrusted::Refuse && snapshot.find_issuer(*issuer) == nullptr) {
    return fail(ErrorCode::MalformedRequest,
                "issuer must be the URL of an issuer this tenant trusts");
  }
  return std::optional(Principal{*issuer, *subject});
}

Result<vault::CredentialKey> key_of(const Request& request, const policy::TenantSnapshot& snapshot,
                                    const Caller& caller, audit::Event& record,
                                    Untrusted untrusted = Untrusted::Allow) {
  POSTERN_TRY(const auto query, Query::parse(request.query, {"issuer", "subject"}));
  POSTERN_TRY(auto name, CredentialName::parse(request.parameters.at(1)));
  record.with("credential", name.str());
  POSTERN_TRY(auto principal, principal_of(snapshot, caller, query, untrusted));
  if (!principal) {
    record.with("credential_owner", "tenant");
    return vault::CredentialKey{Owner::tenant(), std::move(name)};
  }
  record.with("credential_owner", "principal");
  if (caller.kind != Kind::User) {
    record.with("subject_issuer", principal->issuer).with("subject", principal->subject);
  }
  return vault::CredentialKey{Owner::principal(std::move(*principal)), std::move(name)};
}

/// A user may store what some backend will ask of them, and nothing else: the
/// vault is not a free store.
bool wanted_of_users(const policy::TenantSnapshot& snapshot, const CredentialName& name) {
  const auto& backends = snapshot.config().backends;
  return std::any_of(backends.begin(), backends.end(), [&](const auto& entry) {
    const auto& backend = entry.second;
    return backend.enabled && backend.credential == name &&
           backend.credential_owner != policy::CredentialOwnerRule::Tenant;
  });
}

/// What a backend of the tenant will ask this credential for and not find: it
/// is stored all the same, since a manifest may be about to change.
Json missing_fields(const policy::TenantSnapshot& snapshot, const vault::CredentialKey& key,
                    const vault::Fields& fields) {
  using policy::CredentialOwnerRule;
  const auto other =
      key.owner.is_tenant() ? CredentialOwnerRule::Principal : CredentialOwnerRule::Tenant;
  Json warnings = Json::array();
  for (const auto& [name, backend] : snapshot.config().backends) {
    if (!backend.enabled || backend.credential != key.name || backend.credential_owner == other) {
      continue;
    }
    auto wanted = backend.delivery.fields();
    if (!backend.token_field.empty()) wanted.insert(backend.token_field);
    std::string missing;
    for (const auto& field : wanted) {
      if (fields.count(field) == 0) missing += (missing.empty() ? "" : ", ") + field;
    }
    if (!missing.empty()) {
      warnings.push_back("backend " + name + " cannot be used: it needs " + missing);
    }
  }
  return warnings;
}

Result<vault::Fields> fields_of(Json& body) {
  const auto at = [](std::string pointer, std::string detail) {
    Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
    error.pointer = std::move(pointer);
    return error;
  };
  const auto it = body.find("fields");
  if (it == body.end() || !it->is_object() || it->empty()) {
    return at("/fields", "must be an object of at least one field");
  }
  vault::Fields fields;
  for (auto& [name, value] : it->items()) {
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
      return at("/fields", "field values must be text and not empty");
    }
    fields.emplace(name, FieldValue(SecureBuffer::take(std::move(value.get_ref<std::string&>()))));
  }
  if (auto valid = vault::validate_fields(fields); !valid.ok()) {
    Error error = std::move(valid).error();
    error.pointer = "/fields";
    return error;
  }
  return fields;
}

/// The version that a write must meet (0: none), once the request's conditions
/// hold for it; nothing when it names no conditions.
Result<std::optional<std::uint32_t>> version_for(const Services& services,
                                                 const policy::TenantSnapshot& snapshot,
                                                 const vault::CredentialKey& key,
                                                 const Preconditions& conditions) {
  if (!conditions.any()) return std::optional<std::uint32_t>();
  const auto stored = services.credentials.metadata(snapshot.tenant(), key);
  if (!stored.ok() && stored.error().code != ErrorCode::NotFound) return stored.error();
  const auto version = stored.ok() ? stored.value().version : 0;
  POSTERN_CHECK(
      conditions.check(stored.ok() ? std::optional<std::uint64_t>(version) : std::nullopt));
  return std::optional(version);
}

Result<Done> put_credential(const Services& services, const Request& request,
                            const policy::TenantSnapshot& snapshot, const Caller& caller,
                            audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record, Untrusted::Refuse));
  if (caller.kind == Kind::User && !wanted_of_users(snapshot, key.name)) {
    return fail(ErrorCode::Forbidden,
                "no backend of this tenant asks its users for this credential");
  }
  POSTERN_TRY(const auto conditions, Preconditions::of(request));
  const auto now = services.clock.now();
  POSTERN_TRY(auto body, json_body(request, {"fields", "expires_at"}));
  POSTERN_TRY(const auto expires_at, time_member(body, "expires_at", now));
  POSTERN_TRY(const auto fields, fields_of(body));
  std::string names;
  for (const auto& [name, value] : fields) names += (names.empty() ? "" : " ") + name;
  record.with("fields", names);
  POSTERN_TRY(const auto expected, version_for(services, snapshot, key, conditions));

  POSTERN_TRY(const auto stored, services.credentials.put(snapshot.tenant(), key, expected,
                                                          [&](std::uint32_t version) {
                                                            return services.envelope.seal(
                                                                snapshot.tenant(), key, version,
                                                                fields, now, expires_at);
                                                          },
                                                          {&record, 1}));
  auto answer = metadata_json(stored);
  answer["warnings"] = missing_fields(snapshot, key, fields);
  auto reply = json_reply(stored.replaces ? 200 : 201, answer);
  reply.set_header("ETag", etag(stored.version));
  return Done{std::move(reply), Done::Recorded::InStore};
}

Result<Done> show_credential(const Services& services, const Request& request,
                             const policy::TenantSnapshot& snapshot, const Caller& caller,
                             audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record));
  POSTERN_TRY(const auto found, services.credentials.metadata(snapshot.tenant(), key));
  POSTERN_TRY(auto reply, versioned_reply(request, found.version, metadata_json(found)));
  return Done{std::move(reply)};
}

Result<Done> delete_credential(const Services& services, const Request& request,
                               const policy::TenantSnapshot& snapshot, const Caller& caller,
                               audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record));
  POSTERN_TRY(const auto conditions, Preconditions::of(request));
  std::optional<std::uint32_t> expected;
  if (conditions.any()) {
    // RFC 9110 §13.2.1: what is not there is not found, whatever the conditions.
    POSTERN_CHECK(services.credentials.metadata(snapshot.tenant(), key));
    POSTERN_TRY(expected, version_for(services, snapshot, key, conditions));
  }
  POSTERN_CHECK(services.credentials.remove(snapshot.tenant(), key, expected, {&record, 1}));
  return Done{Reply(204), Done::Recorded::InStore};
}

Result<Done> list_credentials(const Services& services, const Request& request,
                              const policy::TenantSnapshot& snapshot, const Caller& caller) {
  POSTERN_TRY(const auto query,
              Query::parse(request.query, {"owner", "issuer", "subject", "cursor", "limit"}));
  POSTERN_TRY(const auto limit, query.number("limit", 100, 1, 1000));
  POSTERN_TRY(auto principal, principal_of(snapshot, caller, query, Untrusted::Allow));
  const auto kind = query.get("owner");
  std::optional<Owner> owner;
  if (principal) owner = Owner::principal(std::move(*principal));
  if (kind == "tenant") {
    if (owner) return fail(ErrorCode::Forbidden, "these are the tenant's credentials");
    owner = Owner::tenant();
  } else if (kind && kind != "principal") {
    return fail(ErrorCode::MalformedRequest, "owner must be tenant or principal");
  } else if (kind == "principal" && !owner) {
    return fail(ErrorCode::MalformedRequest, "name the principal with issuer and subject");
  }
  POSTERN_TRY(const auto page,
              services.credentials.list(snapshot.tenant(), owner, query.get("cursor").value_or(""),
                                        static_cast<std::uint32_t>(limit)));
  Json body{{"items", Json::array()}};
  for (const auto& item : page.items) body["items"].push_back(metadata_json(item));
  if (!page.next.empty()) body["next_cursor"] = page.next;
  return Done{json_reply(200, body)};
}

}  // namespace

void add_credential_endpoints(Router& router, Gate& gate, Services& services) {
  using Body = Result<Done> (*)(const Services&, const Request&, const policy::TenantSnapshot&,
                                const Caller&, audit::Event&);
  const auto add = [&](const char* method, const char* pattern, const char* action, Body body) {
    gate.add(router, method, pattern, Pool::Database,
             [&services, action, body](const Request& request) {
               return tenant_call(services, request, action,
                                  {Kind::Operator, Kind::TenantAdmin, Kind::User},
                                  [&](const auto& snapshot, const auto& caller, auto& record) {
                                    return body(services, request, snapshot, caller, record);
                                  });
             });
  };
  constexpr auto kOne = "/api/v1/tenants/{}/credentials/{}";
  add("PUT", kOne, "credential.put", put_credential);
  add("GET", kOne, "credential.read", show_credential);
  add("DELETE", kOne, "credential.delete", delete_credential);
  add("GET", "/api/v1/tenants/{}/credentials", "credential.list",
      [](const Services& services_, const Request& request, const policy::TenantSnapshot& snapshot,
         const Caller& caller,
         audit::Event&) { return list_credentials(services_, request, snapshot, caller); });
}

}  // namespace postern::http
