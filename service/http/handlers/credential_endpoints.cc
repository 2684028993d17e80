#include <algorithm>
#include <map>

#include "core/time_format.h"
#include "http/handlers/credential_api.h"
#include "http/handlers/rotation_endpoints.h"
#include "policy/credential_type.h"

/// Stored credentials: set, show, describe, list, delete. A value goes in and
/// never comes out here; only a release opens it.
namespace postern::http {
namespace {

using token::Json;
using vault::CredentialDescription;
using Kind = Caller::Kind;

Error at(std::string pointer, std::string detail) {
  Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
  error.pointer = std::move(pointer);
  return error;
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

/// What a request says about a credential beside its values. What it does not
/// name stays; null is the default again, and of labels and metadata each name
/// is set or, by null, taken away (RFC 7396).
class Description {
 public:
  static constexpr std::string_view kMembers[] = {
      "description", "labels", "metadata", "rotation_due_at", "max_versions", "cas_required"};

  static Result<Description> of(const Json& body) {
    Description read;
    for (const auto name : kMembers) {
      const auto it = body.find(name);
      if (it == body.end()) continue;
      read.named_ += (read.named_.empty() ? "" : " ") + std::string(name);
      POSTERN_CHECK(read.take(name, *it));
    }
    return read;
  }

  /// A date moves the schedule, which is an admin's to say, and has one as long as it is.
  Status check_date(grants::CredentialRotations& rotations, const TenantId& tenant,
                    const vault::CredentialKey& key, const Caller& caller) const {
    if (!rotation_due_at_) return {};
    const auto found = rotations.find(tenant, key);
    if (!found.ok() && found.error().code == ErrorCode::NotFound) return {};
    POSTERN_CHECK(found);
    const auto& settings = found.value().settings;
    if (!settings || !settings->interval) return {};
    if (caller.kind == Kind::User) {
      return fail(ErrorCode::Forbidden, "an admin of the tenant says when this one is rotated");
    }
    if (*rotation_due_at_) return {};
    return fail(ErrorCode::Conflict,
                "the credential is rotated at an interval: change the settings of its rotation");
  }

  /// The members that the request named, with spaces between them.
  const std::string& named() const { return named_; }

  void apply(CredentialDescription& to) const {
    if (description_) to.description = *description_;
    if (max_versions_) to.max_versions = *max_versions_;
    if (cas_required_) to.cas_required = *cas_required_;
    if (rotation_due_at_) to.rotation_due_at = *rotation_due_at_;
    labels_.apply(to.labels);
    metadata_.apply(to.metadata);
  }

 private:
  struct Merge {
    bool clear = false;
    std::map<std::string, std::optional<std::string>> set;

    Status read(const std::string& pointer, const Json& value) {
      clear = value.is_null();
      if (clear) return {};
      if (!value.is_object()) return at(pointer, "must be an object of texts");
      for (const auto& [name, text] : value.items()) {
        if (!text.is_string() && !text.is_null()) return at(pointer, "must hold texts, or null");
        set[name] = text.is_null() ? std::nullopt : std::optional(text.get<std::string>());
      }
      return {};
    }
    void apply(vault::Texts& to) const {
      if (clear) to.clear();
      for (const auto& [name, text] : set) {
        if (text) {
          to.insert_or_assign(name, *text);
        } else {
          to.erase(name);
        }
      }
    }
  };

  Status take(std::string_view name, const Json& value) {
    const auto pointer = "/" + std::string(name);
    const CredentialDescription defaults;
    if (name == "labels") return labels_.read(pointer, value);
    if (name == "metadata") return metadata_.read(pointer, value);
    if (name == "description") {
      if (!value.is_string() && !value.is_null()) return at(pointer, "must be text");
      description_ = value.is_null() ? std::string() : value.get<std::string>();
    } else if (name == "max_versions") {
      if (!value.is_number_unsigned() && !value.is_null()) {
        return at(pointer, "must be a number from 1 to 100");
      }
      // Beyond 32 bits is beyond the bound in any case.
      max_versions_ = value.is_null() ? defaults.max_versions
                                      : static_cast<std::uint32_t>(std::min<std::uint64_t>(
                                            value.get<std::uint64_t>(), UINT32_MAX));
    } else if (name == "cas_required") {
      if (!value.is_boolean() && !value.is_null()) return at(pointer, "must be true or false");
      cas_required_ = !value.is_null() && value.get<bool>();
    } else {
      // May be past: what is overdue already is worth being told of.
      std::optional<sys_seconds> time;
      if (value.is_string()) time = parse_time(value.get_ref<const std::string&>());
      if (!time && !value.is_null()) {
        return at(pointer, "must be a time such as 2026-12-31T23:59:59Z");
      }
      rotation_due_at_ = time;
    }
    return {};
  }

  std::string named_;
  std::optional<std::string> description_;
  std::optional<std::uint32_t> max_versions_;
  std::optional<bool> cas_required_;
  std::optional<std::optional<sys_seconds>> rotation_due_at_;
  Merge labels_, metadata_;
};

Result<std::optional<std::string>> type_of(const Json& body) {
  POSTERN_TRY(const auto type, text_member(body, "type", 64));
  if (type && !policy::is_credential_type(*type)) {
    return at("/type", "must be one of: " + policy::credential_types());
  }
  return type;
}

/// What is said about the version that is written: nobody changes it later.
Result<vault::Texts> version_metadata_of(const Json& body) {
  const auto it = body.find("version_metadata");
  if (it == body.end() || it->is_null()) return vault::Texts();
  if (!it->is_object()) return at("/version_metadata", "must be an object of texts");
  for (const auto& [name, text] : it->items()) {
    if (!text.is_string()) return at("/version_metadata", "must hold texts");
  }
  return it->get<vault::Texts>();
}

Result<Done> put_credential(const Services& services, grants::CredentialRotations& rotations,
                            const Request& request, const policy::TenantSnapshot& snapshot,
                            const Caller& caller, audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record, Untrusted::Refuse));
  POSTERN_CHECK(check_may_store(snapshot, caller, key.name));
  const auto now = services.clock.now();
  POSTERN_TRY(auto body, json_body(request, {"fields", "expires_at", "cas", "type", "description",
                                             "labels", "metadata", "rotation_due_at",
                                             "max_versions", "cas_required", "version_metadata"}));
  POSTERN_TRY(const auto fields, fields_of(body));  // first: it wipes what the body held
  POSTERN_TRY(const auto expires_at, time_member(body, "expires_at", now));
  POSTERN_TRY(const auto type, type_of(body));
  POSTERN_TRY(const auto description, Description::of(body));
  POSTERN_TRY(const auto said, version_metadata_of(body));
  POSTERN_CHECK(description.check_date(rotations, snapshot.tenant(), key, caller));
  POSTERN_CHECK(check_may_replace(services, snapshot.tenant(), key, caller));
  std::string names;
  for (const auto& [name, value] : fields) names += (names.empty() ? "" : " ") + name;
  auto changed = description.named();
  if (!said.empty()) changed += std::string(changed.empty() ? "" : " ") + "version_metadata";
  record.with("fields", names).with("type", type.value_or("")).with("changed", changed);
  POSTERN_TRY(const auto expected,
              expected_of_write(services, request, snapshot, key, body, Absent::Allow));

  POSTERN_TRY(const auto stored,
              services.credentials.put(
                  snapshot.tenant(), key, expected,
                  [&](std::uint32_t version) -> Result<vault::SealedVersion> {
                    POSTERN_TRY(auto sealed, services.envelope.seal(snapshot.tenant(), key, version,
                                                                    fields, now, expires_at));
                    sealed.metadata = said;
                    return sealed;
                  },
                  [&](CredentialDescription& is) -> Status {
                    description.apply(is);
                    if (type) is.type = *type;  // or what it is stays
                    return policy::check_fields(is.type, fields);
                  },
                  {&record, 1}));
  auto answer = metadata_json(stored);
  answer["warnings"] = missing_fields(snapshot, key, fields);
  auto reply = json_reply(stored.replaces ? 200 : 201, answer);
  reply.set_header("ETag", tag_of(stored));
  return Done{std::move(reply), Done::Recorded::InStore};
}

Result<Done> show_credential(const Services& services, const Request& request,
                             const policy::TenantSnapshot& snapshot, const Caller& caller,
                             audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record));
  POSTERN_TRY(const auto found, services.credentials.metadata(snapshot.tenant(), key));
  POSTERN_TRY(auto reply, tagged_reply(request, tag_of(found), metadata_json(found)));
  return Done{std::move(reply)};
}

Result<Done> describe_credential(const Services& services, grants::CredentialRotations& rotations,
                                 const Request& request, const policy::TenantSnapshot& snapshot,
                                 const Caller& caller, audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record));
  POSTERN_TRY(const auto body,
              json_body(request, {"description", "labels", "metadata", "rotation_due_at",
                                  "max_versions", "cas_required"}));
  POSTERN_TRY(const auto description, Description::of(body));
  record.with("changed", description.named());
  POSTERN_CHECK(description.check_date(rotations, snapshot.tenant(), key, caller));
  POSTERN_TRY(const auto expected, expected_by(services, request, snapshot, key, Absent::Refuse));
  POSTERN_TRY(const auto stored,
              services.credentials.describe(snapshot.tenant(), key, expected,
                                            [&](CredentialDescription& is) -> Status {
                                              description.apply(is);
                                              return {};
                                            },
                                            {&record, 1}));
  auto reply = json_reply(200, metadata_json(stored));
  reply.set_header("ETag", tag_of(stored));
  return Done{std::move(reply), Done::Recorded::InStore};
}

Result<Done> delete_credential(const Services& services, const Request& request,
                               const policy::TenantSnapshot& snapshot, const Caller& caller,
                               audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record));
  POSTERN_CHECK(check_may_remove(services, snapshot.tenant(), key, caller));
  POSTERN_TRY(const auto expected, expected_by(services, request, snapshot, key, Absent::Refuse));
  POSTERN_CHECK(services.credentials.remove(snapshot.tenant(), key, expected, {&record, 1}));
  return Done{Reply(204), Done::Recorded::InStore};
}

Result<Done> list_credentials(const Services& services, const Request& request,
                              const policy::TenantSnapshot& snapshot, const Caller& caller) {
  POSTERN_TRY(const auto query,
              Query::parse(request.query, {"owner", "issuer", "subject", "cursor", "limit",
                                           "labels", "type", "overdue"}));
  POSTERN_TRY(const auto limit, query.number("limit", 100, 1, 1000));
  POSTERN_TRY(auto principal, principal_of(snapshot, caller, query, Untrusted::Allow));
  POSTERN_TRY(const auto overdue, query.flag("overdue"));
  const auto kind = query.get("owner");
  vault::CredentialStore::Filter filter;
  auto& owner = filter.owner;
  if (principal) owner = Owner::principal(std::move(*principal));
  if (kind == "tenant") {
    if (owner) return fail(ErrorCode::Forbidden, "these are the tenant's credentials");
    owner = Owner::tenant();
  } else if (kind && kind != "principal") {
    return fail(ErrorCode::MalformedRequest, "owner must be tenant or principal");
  } else if (kind == "principal" && !owner) {
    return fail(ErrorCode::MalformedRequest, "name the principal with issuer and subject");
  }
  POSTERN_TRY(filter.labels, labels_of(query.get("labels").value_or("")));
  filter.type = query.get("type").value_or("");
  if (overdue) filter.due_by = services.clock.now();
  POSTERN_TRY(const auto page,
              services.credentials.list(snapshot.tenant(), filter, query.get("cursor").value_or(""),
                                        static_cast<std::uint32_t>(limit)));
  Json body{{"items", Json::array()}};
  for (const auto& item : page.items) body["items"].push_back(metadata_json(item));
  if (!page.next.empty()) body["next_cursor"] = page.next;
  return Done{json_reply(200, body)};
}

constexpr auto kOne = "/api/v1/tenants/{}/credentials/{}";

}  // namespace

void add_credential_write_endpoints(Router& router, Gate& gate, Services& services,
                                    grants::CredentialRotations& rotations) {
  const auto add = [&](const char* method, const char* pattern, const char* action, auto call) {
    gate.add(router, method, pattern, Pool::Database,
             [&services, &rotations, action, call](const Request& request) {
               return tenant_call(
                   services, request, action, {Kind::Operator, Kind::TenantAdmin, Kind::User},
                   [&](const auto& snapshot, const auto& caller, auto& record) {
                     return call(services, rotations, request, snapshot, caller, record);
                   });
             });
  };
  add("PUT", kOne, "credential.put", put_credential);
  add("PATCH", kOne, "credential.describe", describe_credential);
}

void add_credential_endpoints(Router& router, Gate& gate, Services& services) {
  const auto add = [&](const char* method, const char* pattern, const char* action,
                       CredentialCall call) {
    add_credential_endpoint(router, gate, services, method, pattern, action, call);
  };
  add("GET", kOne, "credential.read", show_credential);
  add("DELETE", kOne, "credential.delete", delete_credential);
  add("GET", "/api/v1/tenants/{}/credentials", "credential.list",
      [](const Services& services_, const Request& request, const policy::TenantSnapshot& snapshot,
         const Caller& caller,
         audit::Event&) { return list_credentials(services_, request, snapshot, caller); });
}

}  // namespace postern::http
