#include <algorithm>
#include <charconv>

#include "core/text.h"
#include "core/time_format.h"
#include "http/handlers/credential_api.h"

/// The versions of a stored credential: list, delete, bring back, destroy. A
/// latest version that is deleted or destroyed is no credential to anybody who
/// asks for one; none before it takes its place. And the one way by which a
/// person sees a value again: reveal, where operator and tenant allow it.
namespace postern::http {
namespace {

using token::Json;
using VersionChange = vault::CredentialStore::VersionChange;

Result<std::uint32_t> version_of(const Request& request) {
  const auto& text = request.parameters.at(2);
  std::uint32_t version = 0;
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, version);
  if (parsed.ec != std::errc() || parsed.ptr != end || version == 0 || version > INT32_MAX ||
      text.front() == '0') {
    return fail(ErrorCode::MalformedRequest, "a version is a whole number from 1 up");
  }
  return version;
}

Json version_json(const vault::VersionInfo& version) {
  Json json{{"version", version.version},
            {"state", vault::to_string(version.state())},
            {"fields", version.field_names},
            {"created_at", format_time(version.created_at)},
            {"metadata", version.metadata}};
  if (version.expires_at) json["expires_at"] = format_time(*version.expires_at);
  if (version.deleted_at) json["deleted_at"] = format_time(*version.deleted_at);
  if (version.withdrawn && !version.destroyed_at) json["withdrawn"] = true;
  if (version.destroyed_at) json["destroyed_at"] = format_time(*version.destroyed_at);
  return json;
}

Result<Done> list_versions(const Services& services, const Request& request,
                           const policy::TenantSnapshot& snapshot, const Caller& caller,
                           audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record));
  POSTERN_TRY(const auto found, services.credentials.history(snapshot.tenant(), key));
  Json body{{"items", Json::array()}};
  for (const auto& version : found.versions) body["items"].push_back(version_json(version));
  POSTERN_TRY(auto reply, tagged_reply(request, tag_of(found.metadata), body));
  return Done{std::move(reply)};
}

template <VersionChange asked>
Result<Done> change_version(const Services& services, const Request& request,
                            const policy::TenantSnapshot& snapshot, const Caller& caller,
                            audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record));
  POSTERN_TRY(const auto version, version_of(request));
  record.with("credential_version", std::to_string(version));
  if (asked != VersionChange::Undelete) {
    POSTERN_CHECK(check_may_remove(services, snapshot.tenant(), key, caller, {&version, 1}));
  }
  // What an emergency disabled is not its owner's to bring back.
  const auto change =
      asked == VersionChange::Undelete && is_admin(caller) ? VersionChange::Restore : asked;
  POSTERN_TRY(const auto expected, expected_by(services, request, snapshot, key, Absent::Refuse));
  POSTERN_TRY(const auto stored,
              services.credentials.change_versions(snapshot.tenant(), key, {&version, 1}, change,
                                                   expected, services.clock.now(), {&record, 1}));
  auto reply = json_reply(200, metadata_json(stored));
  reply.set_header("ETag", tag_of(stored));
  return Done{std::move(reply), Done::Recorded::InStore};
}

/// Why somebody wants to see a value: goes into the audit record as it is.
Result<std::string> reason_of(const Json& body) {
  POSTERN_TRY(auto reason, text_member(body, "reason", 500));
  const bool given = reason && reason->find_first_not_of(' ') != std::string::npos &&
                     !has_control_characters(*reason);
  if (given) return std::move(*reason);
  Error error = fail(ErrorCode::MalformedRequest,
                     "must say in one line why the value is wanted; it goes into the audit trail");
  error.pointer = "/reason";
  return error;
}

Result<std::optional<std::uint32_t>> wanted_version(const Json& body) {
  const auto it = body.find("version");
  if (it == body.end()) return std::optional<std::uint32_t>();
  if (it->is_number_unsigned() && it->get<std::uint64_t>() >= 1 &&
      it->get<std::uint64_t>() <= INT32_MAX) {
    return std::optional(it->get<std::uint32_t>());
  }
  Error error = fail(ErrorCode::MalformedRequest, "must be the number of a version");
  error.pointer = "/version";
  return error;
}

Result<Done> reveal(const Services& services, const Request& request,
                    const policy::TenantSnapshot& snapshot, const Caller& caller,
                    audit::Event& record) {
  POSTERN_TRY(const auto key, key_of(request, snapshot, caller, record));
  POSTERN_TRY(const auto body, json_body(request, {"reason", "version"}));
  POSTERN_TRY(const auto reason, reason_of(body));
  POSTERN_TRY(const auto wanted, wanted_version(body));
  record.with("reason", reason);
  if (!snapshot.settings().may_reveal()) {
    return fail(ErrorCode::Forbidden, "this tenant reveals no stored value");
  }
  const auto& tenant = snapshot.tenant();
  POSTERN_TRY(const auto sealed, wanted ? services.credentials.version(tenant, key, *wanted)
                                        : services.credentials.latest(tenant, key));
  record.with("credential_version", std::to_string(sealed.version));
  POSTERN_TRY(const auto fields, services.envelope.open(tenant, key, sealed));
  Json shown{{"version", sealed.version}, {"fields", Json::object()}};
  for (const auto& [name, value] : fields) {
    shown["fields"][name] =
        value.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  }
  auto reply = json_reply(200, shown);
  wipe_texts(shown);
  // The gate lets it go once the record is committed, and drops it otherwise.
  return Done{std::move(reply), Done::Recorded::ByGate};
}

}  // namespace

void add_credential_version_endpoints(Router& router, Gate& gate, Services& services) {
  const auto add = [&](const char* method, const char* pattern, const char* action,
                       CredentialCall call) {
    add_credential_endpoint(router, gate, services, method, pattern, action, call);
  };
  constexpr auto kVersions = "/api/v1/tenants/{}/credentials/{}/versions";
  add("GET", kVersions, "credential.read", list_versions);
  constexpr auto kVersion = "/api/v1/tenants/{}/credentials/{}/versions/{}";
  add("DELETE", kVersion, "credential.version_delete", change_version<VersionChange::Delete>);
  constexpr auto kUndelete = "/api/v1/tenants/{}/credentials/{}/versions/{}/undelete";
  add("POST", kUndelete, "credential.version_undelete", change_version<VersionChange::Undelete>);
  constexpr auto kDestroy = "/api/v1/tenants/{}/credentials/{}/versions/{}/destroy";
  add("POST", kDestroy, "credential.version_destroy", change_version<VersionChange::Destroy>);
  constexpr auto kReveal = "/api/v1/tenants/{}/credentials/{}/reveal";
  gate.add(router, "POST", kReveal, Pool::Database, [&services](const Request& request) {
    return tenant_call(services, request, "credential.reveal",
                       {Caller::Kind::Operator, Caller::Kind::TenantAdmin},
                       [&](const auto& snapshot, const auto& caller, auto& record) {
                         return reveal(services, request, snapshot, caller, record);
                       });
  });
}

}  // namespace postern::http
