#include "http/handlers/credential_api.h"

#include <algorithm>

#include "core/text.h"
#include "core/time_format.h"
#include "grants/credential_rotations.h"

namespace postern::http {
namespace {

using token::Json;
using Kind = Caller::Kind;

Error malformed(std::string pointer, std::string detail) {
  Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
  error.pointer = std::move(pointer);
  return error;
}

/// A new value is being set outside, and would be given up.
bool sets_outside(const vault::CredentialRotation& is) {
  return vault::is_before_current(is.phase) && is.running.settings.reaches_outside();
}

/// Whether a rotation under way of another one of the owner's works with this one: signs with
/// it, or logs in.
Result<bool> serves_a_rotation(grants::CredentialRotations& rotations, const TenantId& tenant,
                               const vault::CredentialKey& key) {
  const auto is_served = [&](const vault::CredentialRotation& is) {
    const bool running = is.phase != vault::RotationPhase::None &&
                         is.running.settings.secret_credential == key.name.str();
    return running ||
           (is.wanted && is.settings && is.settings->secret_credential == key.name.str());
  };
  std::string cursor;
  do {
    POSTERN_TRY(auto page, rotations.report(tenant, key.owner, cursor, 200));
    for (const auto& each : page.items) {
      if (is_served(each.rotation)) return true;
    }
    cursor = std::move(page.next);
  } while (!cursor.empty());
  return false;
}

/// @param versions  that are taken away; none: the latest one
/// @param ends      whether what is under way of the credential itself would end by that
template <class Ends>
Status check_not_steered(const Services& services, const TenantId& tenant,
                         const vault::CredentialKey& key, const Caller& caller,
                         std::span<const std::uint32_t> versions, const Ends& ends) {
  if (caller.kind != Kind::User || services.rotations == nullptr) return {};
  const auto found = services.rotations->find(tenant, key);
  if (!found.ok()) {
    return found.error().code == ErrorCode::NotFound ? Status() : found.error();
  }
  const auto& is = found.value();
  if (!versions.empty() &&
      std::find(versions.begin(), versions.end(), is.version) == versions.end()) {
    return {};
  }
  bool steered = ends(is);
  if (!steered) {
    POSTERN_TRY(steered, serves_a_rotation(*services.rotations, tenant, key));
  }
  if (!steered) return {};
  return fail(ErrorCode::Forbidden,
              "a rotation is under way that is for an admin of the tenant to end");
}

}  // namespace

Json metadata_json(const vault::CredentialMetadata& metadata) {
  const auto& owner = metadata.key.owner;
  const auto& description = metadata.description;
  Json json{{"name", metadata.key.name.str()},
            {"version", metadata.version},
            {"state", vault::to_string(metadata.state())},
            {"type", description.type},
            {"fields", metadata.field_names},
            {"created_at", format_time(metadata.created_at)},
            {"max_versions", description.max_versions},
            {"cas_required", description.cas_required},
            {"labels", Json::object()},
            {"metadata", Json::object()}};
  json["owner"] = owner.is_tenant() ? Json{{"type", "tenant"}}
                                    : Json{{"type", "principal"},
                                           {"issuer", owner.principal().issuer},
                                           {"subject", owner.principal().subject}};
  for (const auto& [name, text] : description.labels) json["labels"][name] = text;
  for (const auto& [name, text] : description.metadata) json["metadata"][name] = text;
  if (!description.description.empty()) json["description"] = description.description;
  const auto add_time = [&](const char* name, const std::optional<sys_seconds>& time) {
    if (time) json[name] = format_time(*time);
  };
  add_time("expires_at", metadata.expires_at);
  add_time("deleted_at", metadata.deleted_at);
  add_time("destroyed_at", metadata.destroyed_at);
  add_time("rotation_due_at", description.rotation_due_at);
  add_time("last_used_at", metadata.last_used_at);
  return json;
}

std::string tag_of(const vault::CredentialMetadata& metadata) {
  return etag(metadata.version, metadata.revision);
}

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
                                    Untrusted untrusted) {
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

Status check_may_store(const policy::TenantSnapshot& snapshot, const Caller& caller,
                       const CredentialName& name) {
  const auto& backends = snapshot.config().backends;
  const bool may = caller.kind != Kind::User ||
                   std::any_of(backends.begin(), backends.end(), [&](const auto& entry) {
                     const auto& backend = entry.second;
                     return backend.enabled && backend.credential == name &&
                            backend.credential_owner != policy::CredentialOwnerRule::Tenant;
                   });
  if (may) return {};
  return fail(ErrorCode::Forbidden, "no backend of this tenant asks its users for this credential");
}

Status check_may_remove(const Services& services, const TenantId& tenant,
                        const vault::CredentialKey& key, const Caller& caller) {
  return check_not_steered(
      services, tenant, key, caller, {}, [](const vault::CredentialRotation& is) {
        return is.wanted ||
               (is.phase != vault::RotationPhase::None && is.running.settings.reaches_outside());
      });
}

Status check_may_remove(const Services& services, const TenantId& tenant,
                        const vault::CredentialKey& key, const Caller& caller,
                        std::span<const std::uint32_t> versions) {
  return check_not_steered(
      services, tenant, key, caller, versions,
      [](const vault::CredentialRotation& is) { return is.wanted || sets_outside(is); });
}

Status check_may_replace(const Services& services, const TenantId& tenant,
                         const vault::CredentialKey& key, const Caller& caller) {
  return check_not_steered(services, tenant, key, caller, {}, sets_outside);
}

Result<std::optional<vault::Expected>> expected_by(const Services& services, const Request& request,
                                                   const policy::TenantSnapshot& snapshot,
                                                   const vault::CredentialKey& key, Absent absent) {
  POSTERN_TRY(const auto conditions, Preconditions::of(request));
  if (!conditions.any()) return std::optional<vault::Expected>();
  const auto found = [&](vault::Expected expected) {
    expected.named = conditions.names_version();
    return std::optional(expected);
  };
  const auto stored = services.credentials.metadata(snapshot.tenant(), key);
  if (!stored.ok()) {
    if (stored.error().code != ErrorCode::NotFound || absent == Absent::Refuse) {
      return stored.error();
    }
    POSTERN_CHECK(conditions.check_tag(std::nullopt));
    return found(vault::Expected(0));
  }
  POSTERN_CHECK(conditions.check_tag(tag_of(stored.value())));
  return found(vault::Expected(stored.value().version, stored.value().revision));
}

Result<std::optional<vault::Expected>> expected_of_write(const Services& services,
                                                         const Request& request,
                                                         const policy::TenantSnapshot& snapshot,
                                                         const vault::CredentialKey& key,
                                                         const Json& body, Absent absent) {
  POSTERN_TRY(auto expected, expected_by(services, request, snapshot, key, absent));
  const auto cas = body.find("cas");
  if (cas == body.end() || cas->is_null()) return expected;
  if (!cas->is_number_unsigned() || cas->get<std::uint64_t>() > INT32_MAX) {
    return malformed("/cas", "must be the number of a version, or 0 for none");
  }
  const auto version = cas->get<std::uint32_t>();
  if (expected && expected->version != version) {
    return fail(ErrorCode::PreconditionFailed, "the credential has another version");
  }
  if (!expected) expected = vault::Expected(version);
  expected->named = true;
  return expected;
}

Result<vault::Fields> fields_of(Json& body) {
  const auto it = body.find("fields");
  if (it == body.end() || !it->is_object() || it->empty()) {
    return malformed("/fields", "must be an object of at least one field");
  }
  vault::Fields fields;
  for (auto& [name, value] : it->items()) {
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
      return malformed("/fields", "field values must be text and not empty");
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

Result<vault::Texts> labels_of(std::string_view selector) {
  vault::Texts labels;
  while (!selector.empty()) {
    const auto one = selector.substr(0, selector.find(','));
    const auto equals = one.find('=');
    if (equals == one.npos || equals == 0 ||
        !labels.emplace(one.substr(0, equals), one.substr(equals + 1)).second) {
      return fail(ErrorCode::MalformedRequest,
                  "labels must be NAME=TEXT, with commas between several, each name once");
    }
    selector.remove_prefix(std::min(one.size() + 1, selector.size()));
  }
  return labels;
}

void add_credential_endpoint(Router& router, Gate& gate, Services& services, const char* method,
                             const char* pattern, const char* action, CredentialCall call) {
  gate.add(router, method, pattern, Pool::Database,
           [&services, action, call](const Request& request) {
             return tenant_call(services, request, action,
                                {Kind::Operator, Kind::TenantAdmin, Kind::User},
                                [&](const auto& snapshot, const auto& caller, auto& record) {
                                  return call(services, request, snapshot, caller, record);
                                });
           });
}

}  // namespace postern::http
