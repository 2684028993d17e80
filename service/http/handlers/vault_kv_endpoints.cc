#include <algorithm>
#include <set>

#include "core/time_format.h"
#include "http/handlers/credential_api.h"
#include "http/handlers/oauth_endpoints.h"
#include "http/handlers/vault_api.h"
#include "http/vault_path.h"
#include "policy/credential_type.h"

/// Vault's KV version 2 over the stored credentials: `data`, `delete`, `undelete`,
/// `destroy` and `metadata` of one mount. A user's token works on that user's
/// credentials, any other on the tenant's. Values are shown to whom reveal shows
/// them, and recorded as it records them.
namespace postern::http {
namespace {

using token::Json;
using Kind = Caller::Kind;
using vault::CredentialDescription;
using VersionChange = vault::CredentialStore::VersionChange;
using Numbers = std::vector<std::uint32_t>;

constexpr const char* kCasDiffers =
    "check-and-set parameter did not match the current version";  // Vault's words
constexpr const char* kCasRequired = "check-and-set parameter required for this call";

Error malformed(std::string detail) { return fail(ErrorCode::MalformedRequest, std::move(detail)); }

Owner owner_of(const Caller& caller) {
  return caller.kind == Kind::User ? Owner::principal(caller.user->principal) : Owner::tenant();
}

Status check_mount(const VaultCall& call) {
  if (call.parameters.at(0) == call.snapshot.settings().vault()->mount) return {};
  return fail(ErrorCode::NotFound, "no such mount");
}

/// What mount and path of the call name, also in the record.
Result<vault::CredentialKey> key_of(const VaultCall& call) {
  POSTERN_CHECK(check_mount(call));
  POSTERN_TRY(auto name, credential_of_path(call.parameters.at(1)));
  const auto owner = owner_of(call.caller);
  call.record.with("credential", name.str())
      .with("credential_owner", owner.is_tenant() ? "tenant" : "principal");
  return vault::CredentialKey{owner, std::move(name)};
}

std::string time_or_empty(const std::optional<sys_seconds>& time) {
  return time ? format_time(*time) : std::string();
}

Json custom_metadata(const CredentialDescription& description) {
  return description.metadata.empty() ? Json(nullptr) : Json(description.metadata);
}

Json version_json(const vault::VersionInfo& version) {
  return {{"created_time", format_time(version.created_at)},
          {"deletion_time", time_or_empty(version.deleted_at)},
          {"destroyed", version.destroyed_at.has_value()}};
}

/// What is said of a version beside its values.
Json version_json(const vault::VersionInfo& version, const CredentialDescription& description) {
  auto json = version_json(version);
  json["version"] = version.version;
  json["custom_metadata"] = custom_metadata(description);
  return json;
}

/// What a write answers.
Json version_json(const vault::CredentialMetadata& stored) {
  return version_json(
      vault::VersionInfo{
          stored.version, {}, stored.created_at, {}, stored.deleted_at, stored.destroyed_at},
      stored.description);
}

/// Nothing there to change: Vault's answer is the same as if there were.
Done nothing_there(audit::Event& record, const Error& error) {
  record_error(record, error);
  return Done{Reply(204), Done::Recorded::ByGate};
}

/// Errors: Forbidden for a client that may not have it; NeedsOutbound, Unavailable.
Status check_client_has(const VaultCall& call, const CredentialName& name) {
  if (call.caller.kind != Kind::Client) return {};
  const auto* client = call.snapshot.find_client(call.caller.session.client);
  if (client == nullptr) return permission_denied();
  return call.services.client_release->check(call.snapshot, *client, name, wait_of(call.request));
}

// ---- data ----

/// Who is shown values: admins as reveal has it, and clients that a backend gives
/// them to, by themselves.
Status check_may_read(const VaultCall& call, const CredentialName& name) {
  switch (call.caller.kind) {
    case Kind::Client:
      // What a release is, and recorded as one.
      call.record.action = "credential.release";
      return check_client_has(call, name);
    case Kind::User:
      return fail(ErrorCode::Forbidden, "what a user has stored is for releases and is not shown");
    case Kind::ClientForUser: break;  // has views alone: read_view
    case Kind::Operator:
    case Kind::TenantAdmin:
      if (call.snapshot.settings().may_reveal()) return {};
  }
  return fail(ErrorCode::Forbidden, "this tenant reveals no stored value");
}

/// The version of the credential that is asked for; 0: the latest.
/// Errors: NotFound.
Result<vault::VersionInfo> version_in(const vault::CredentialStore::History& history,
                                      std::uint32_t wanted) {
  const auto number = wanted == 0 ? history.metadata.version : wanted;
  for (const auto& version : history.versions) {
    if (version.version == number) return version;
  }
  return fail(ErrorCode::NotFound, "no such version");
}

/// 404, and what is said of the version all the same.
Done is_gone(const VaultCall& call, const vault::VersionInfo& version,
             const CredentialDescription& description) {
  record_error(call.record, fail(ErrorCode::NotFound, "the version is deleted or destroyed"));
  Json data{{"data", nullptr}, {"metadata", version_json(version, description)}};
  return Done{vault_reply(call.request, std::move(data), 404), Done::Recorded::ByGate};
}

Result<Done> read_data(const VaultCall& call) {
  if (call.caller.kind == Kind::ClientForUser) return read_view(call);
  POSTERN_TRY(const auto key, key_of(call));
  POSTERN_TRY(const auto query, Query::parse(call.request.query, {"version"}));
  POSTERN_TRY(const auto wanted, query.number("version", 0, 0, INT32_MAX));
  POSTERN_CHECK(check_may_read(call, key.name));
  POSTERN_TRY(const auto history, call.services.credentials.history(call.tenant(), key));
  POSTERN_TRY(const auto version, version_in(history, static_cast<std::uint32_t>(wanted)));
  call.record.with("credential_version", std::to_string(version.version));
  const bool to_client = call.caller.kind == Kind::Client;
  if (to_client && version.version != history.metadata.version) {
    return fail(ErrorCode::Forbidden, "a client gets the latest version alone");
  }
  if (version.state() != vault::VersionState::Live) {
    return is_gone(call, version, history.metadata.description);
  }
  if (to_client && !grants::check_not_ended(version.expires_at, call.services.clock.now()).ok()) {
    return fail(ErrorCode::Forbidden, "the stored credential has expired");
  }
  POSTERN_TRY(const auto sealed,
              call.services.credentials.version(call.tenant(), key, version.version));
  if (to_client) call.services.client_release->note(call.tenant(), key);
  POSTERN_TRY(const auto fields, call.services.envelope.open(call.tenant(), key, sealed));
  Json data{{"metadata", version_json(version, history.metadata.description)}};
  auto& shown = data["data"] = Json::object();
  for (const auto& [name, value] : fields) {
    shown[name] = value.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  }
  // The gate lets it go once the record is committed, and drops it otherwise.
  return Done{vault_reply(call.request, std::move(data)), Done::Recorded::ByGate};
}

/// The texts of `data`; nothing: a field to be taken away, which only a patch may.
using Values = std::map<std::string, std::optional<FieldValue>>;
enum class Null { Refuse, Allow };
Result<Values> values_of(Json& body, Null null) {
  const auto data = body.find("data");
  if (data == body.end() || !data->is_object()) return malformed("no data provided");
  Values values;
  for (auto& [name, value] : data->items()) {
    if (value.is_null() && null == Null::Allow) {
      values.emplace(name, std::nullopt);
      continue;
    }
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
      return malformed("the values of data must be texts that are not empty");
    }
    values.emplace(name, FieldValue(SecureBuffer::take(std::move(value.get_ref<std::string&>()))));
  }
  return values;
}

Result<std::optional<std::uint32_t>> cas_of(const Json& body) {
  const auto options = body.find("options");
  if (options == body.end() || options->is_null()) return std::optional<std::uint32_t>();
  if (!options->is_object()) return malformed("options must be an object");
  const auto cas = options->find("cas");
  if (cas == options->end() || cas->is_null()) return std::optional<std::uint32_t>();
  const auto number = vault_number(*cas);
  if (!number) return malformed("cas must be the number of a version, or 0 for none");
  return number;
}

Result<vault::CredentialMetadata> write(const VaultCall& call, const vault::CredentialKey& key,
                                        const std::optional<vault::Expected>& expected,
                                        const vault::Fields& fields,
                                        std::optional<sys_seconds> expires_at = {}) {
  POSTERN_CHECK(vault::validate_fields(fields));
  POSTERN_CHECK(check_may_replace(call.services, call.tenant(), key, call.caller));
  const auto now = call.services.clock.now();
  const auto seal = [&](std::uint32_t version) {
    return call.services.envelope.seal(call.tenant(), key, version, fields, now, expires_at);
  };
  const auto hold_to_type = [&](CredentialDescription& is) {
    return policy::check_fields(is.type, fields);
  };
  return call.services.credentials.put(call.tenant(), key, expected, seal, hold_to_type,
                                       {&call.record, 1});
}

void record_fields(const VaultCall& call, const Values& values) {
  std::string names;
  for (const auto& [name, value] : values) names += (names.empty() ? "" : " ") + name;
  call.record.with("fields", names);
}

/// A write that found another version, in Vault's words.
Error in_vaults_words(Error error, bool said_cas) {
  if (error.code == ErrorCode::PreconditionFailed) {
    error.detail = said_cas ? kCasDiffers : kCasRequired;
  }
  return error;
}

Result<Done> write_data(const VaultCall& call) {
  POSTERN_TRY(const auto key, key_of(call));
  POSTERN_CHECK(Query::none(call.request));
  POSTERN_CHECK(check_may_store(call.snapshot, call.caller, key.name));
  POSTERN_TRY(auto body, vault_json(call.request));
  POSTERN_TRY(auto values, values_of(body, Null::Refuse));  // first: it wipes what the body held
  POSTERN_TRY(const auto cas, cas_of(body));
  record_fields(call, values);
  vault::Fields fields;
  for (auto& [name, value] : values) fields.emplace(name, std::move(*value));
  auto stored = write(call, key, cas ? std::optional(vault::Expected(*cas)) : std::nullopt, fields);
  if (!stored.ok()) return in_vaults_words(std::move(stored).error(), cas.has_value());
  return Done{vault_reply(call.request, version_json(stored.value())), Done::Recorded::InStore};
}

/// RFC 7396 over the latest version. What it holds is opened to be written again
/// and is not shown, so whoever may write may do it.
Result<Done> patch_data(const VaultCall& call) {
  POSTERN_TRY(const auto key, key_of(call));
  POSTERN_CHECK(Query::none(call.request));
  POSTERN_CHECK(check_may_store(call.snapshot, call.caller, key.name));
  if (!has_media_type(call.request, "application/merge-patch+json")) {
    return malformed("a patch is sent as application/merge-patch+json");
  }
  POSTERN_TRY(auto body, vault_json(call.request));
  POSTERN_TRY(auto values, values_of(body, Null::Allow));
  POSTERN_TRY(const auto cas, cas_of(body));
  record_fields(call, values);
  call.record.with("patched", "true");
  POSTERN_TRY(const auto history, call.services.credentials.history(call.tenant(), key));
  const auto& latest = history.metadata;
  if (!cas && latest.description.cas_required) {
    return fail(ErrorCode::PreconditionFailed, kCasRequired);
  }
  if (cas && *cas != latest.version) return fail(ErrorCode::PreconditionFailed, kCasDiffers);
  POSTERN_TRY(const auto version, version_in(history, 0));
  if (version.state() != vault::VersionState::Live) {
    return is_gone(call, version, latest.description);
  }
  POSTERN_TRY(const auto sealed,
              call.services.credentials.version(call.tenant(), key, version.version));
  POSTERN_TRY(auto fields, call.services.envelope.open(call.tenant(), key, sealed));
  for (auto& [name, value] : values) {
    fields.erase(name);
    if (value) fields.emplace(name, std::move(*value));
  }
  // Of two patches at once the second must not undo the first.
  auto stored = write(call, key, vault::Expected(version.version), fields, version.expires_at);
  if (!stored.ok()) return in_vaults_words(std::move(stored).error(), true);
  return Done{vault_reply(call.request, version_json(stored.value())), Done::Recorded::InStore};
}

// ---- delete, undelete, destroy ----

/// @param versions  none: the latest one.
Result<Done> change(const VaultCall& call, const vault::CredentialKey& key, const Numbers& versions,
                    VersionChange change) {
  std::string numbers;
  for (const auto version : versions) {
    numbers += (numbers.empty() ? "" : " ") + std::to_string(version);
  }
  call.record.with("credential_version", numbers);
  if (change != VersionChange::Undelete) {
    POSTERN_CHECK(check_may_remove(call.services, call.tenant(), key, call.caller, versions));
  }
  if (change == VersionChange::Undelete && is_admin(call.caller)) change = VersionChange::Restore;
  const auto changed =
      call.services.credentials.change_versions(call.tenant(), key, versions, change, std::nullopt,
                                                call.services.clock.now(), {&call.record, 1});
  if (changed.ok()) return Done{Reply(204), Done::Recorded::InStore};
  const auto code = changed.error().code;
  if (code != ErrorCode::NotFound && code != ErrorCode::Conflict) return changed.error();
  return nothing_there(call.record, changed.error());
}

Result<Done> delete_latest(const VaultCall& call) {
  POSTERN_TRY(const auto key, key_of(call));
  POSTERN_CHECK(Query::none(call.request));
  return change(call, key, {}, VersionChange::Delete);
}

template <VersionChange kind>
Result<Done> change_versions(const VaultCall& call) {
  POSTERN_TRY(const auto key, key_of(call));
  POSTERN_CHECK(Query::none(call.request));
  POSTERN_TRY(const auto body, vault_json(call.request));
  const auto listed = body.find("versions");
  if (listed == body.end() || !listed->is_array() || listed->empty()) {
    return malformed("no version number provided");
  }
  if (listed->size() > CredentialDescription::kMostVersions) {
    return malformed("more versions than a credential can have");
  }
  Numbers versions;
  for (const auto& each : *listed) {
    const auto number = vault_number(each);
    if (!number || *number == 0) return malformed("a version is a whole number from 1 up");
    versions.push_back(*number);
  }
  return change(call, key, versions, kind);
}

// ---- metadata ----

Result<Done> list_folder(const VaultCall& call, std::string_view path) {
  POSTERN_CHECK(check_mount(call));
  POSTERN_TRY(const auto folder, folder_of_path(path));
  std::set<std::string> keys;
  std::string cursor;
  do {
    POSTERN_TRY(auto page, call.services.credentials.list(
                               call.tenant(), vault::CredentialStore::Filter(owner_of(call.caller)),
                               cursor, 1000));
    for (const auto& item : page.items) {
      const auto found = path_of_credential(item.key.name);
      if (!found || !found->starts_with(folder)) continue;
      const auto has = check_client_has(call, item.key.name);
      if (!has.ok() && has.error().code == ErrorCode::Forbidden) continue;
      POSTERN_CHECK(has);
      const auto below = std::string_view(*found).substr(folder.size());
      keys.emplace(below.substr(0, std::min(below.find('/'), below.size() - 1) + 1));
    }
    cursor = std::move(page.next);
  } while (!cursor.empty());
  if (keys.empty()) return fail(ErrorCode::NotFound, "nothing is there");
  return Done{vault_reply(call.request, {{"keys", keys}})};
}

Result<Done> list(const VaultCall& call) {
  return list_folder(call, call.parameters.size() > 1 ? call.parameters[1] : "");
}

/// What is said of a credential, or, with `list=true`, what a folder has.
Result<Done> read_metadata(const VaultCall& call) {
  POSTERN_TRY(const auto query, Query::parse(call.request.query, {"list"}));
  const auto lists = query.get("list").value_or("");
  if (lists == "true" || lists == "1" || call.parameters.size() == 1) return list(call);
  POSTERN_TRY(const auto key, key_of(call));
  POSTERN_CHECK(check_client_has(call, key.name));
  POSTERN_TRY(const auto found, call.services.credentials.history(call.tenant(), key));
  const auto& description = found.metadata.description;
  Json versions = Json::object();
  for (const auto& version : found.versions) {
    versions[std::to_string(version.version)] = version_json(version);
  }
  const auto& oldest = found.versions.front();
  return Done{vault_reply(call.request, {{"cas_required", description.cas_required},
                                         {"created_time", format_time(oldest.created_at)},
                                         {"current_version", found.metadata.version},
                                         {"custom_metadata", custom_metadata(description)},
                                         {"delete_version_after", "0s"},
                                         {"max_versions", description.max_versions},
                                         {"oldest_version", oldest.version},
                                         {"updated_time", format_time(found.metadata.created_at)},
                                         {"versions", std::move(versions)}})};
}

/// A change of what is said of a credential, read from a body of Vault's.
class MetadataChange {
 public:
  enum class Texts { Replace, Merge };

  static Result<MetadataChange> of(const Json& body, Texts how) {
    MetadataChange change;
    if (const auto most = body.find("max_versions"); most != body.end()) {
      const auto number = vault_number(*most);
      if (!number) return malformed("max_versions must be a number from 0 to 100");
      change.max_versions_ = *number == 0 ? CredentialDescription::kDefaultVersions : *number;
    }
    if (const auto required = body.find("cas_required"); required != body.end()) {
      if (!required->is_boolean()) return malformed("cas_required must be true or false");
      change.cas_required_ = required->get<bool>();
    }
    if (const auto after = body.find("delete_version_after"); after != body.end()) {
      if (*after != "0s" && *after != "0" && *after != 0) {
        return malformed("delete_version_after is not offered; versions beyond max_versions go");
      }
    }
    const auto texts = body.find("custom_metadata");
    if (texts == body.end()) return change;
    change.clears_ = how == Texts::Replace || texts->is_null();
    if (texts->is_null()) return change;
    if (!texts->is_object()) return malformed("custom_metadata must be an object of texts");
    for (const auto& [name, text] : texts->items()) {
      const bool takes_away = text.is_null() && how == Texts::Merge;
      if (!text.is_string() && !takes_away) {
        return malformed("custom_metadata must be an object of texts");
      }
      change.texts_[name] = takes_away ? std::nullopt : std::optional(text.get<std::string>());
    }
    return change;
  }

  void apply(CredentialDescription& to) const {
    if (max_versions_) to.max_versions = *max_versions_;
    if (cas_required_) to.cas_required = *cas_required_;
    if (clears_) to.metadata.clear();
    for (const auto& [name, text] : texts_) {
      if (text) {
        to.metadata.insert_or_assign(name, *text);
      } else {
        to.metadata.erase(name);
      }
    }
  }

 private:
  std::optional<std::uint32_t> max_versions_;
  std::optional<bool> cas_required_;
  bool clears_ = false;
  std::map<std::string, std::optional<std::string>> texts_;
};

template <MetadataChange::Texts how>
Result<Done> write_metadata(const VaultCall& call) {
  POSTERN_TRY(const auto key, key_of(call));
  POSTERN_CHECK(Query::none(call.request));
  POSTERN_TRY(const auto body, vault_json(call.request));
  POSTERN_TRY(const auto change, MetadataChange::of(body, how));
  const auto stored = call.services.credentials.describe(call.tenant(), key, std::nullopt,
                                                         [&](CredentialDescription& is) -> Status {
                                                           change.apply(is);
                                                           return {};
                                                         },
                                                         {&call.record, 1});
  POSTERN_CHECK(stored);
  return Done{Reply(204), Done::Recorded::InStore};
}

/// What clients may do, by themselves, and for a user too.
enum class Reads { No, Yes, OfUsersToo };

Result<Done> remove_all(const VaultCall& call) {
  POSTERN_TRY(const auto key, key_of(call));
  POSTERN_CHECK(Query::none(call.request));
  POSTERN_CHECK(check_may_remove(call.services, call.tenant(), key, call.caller));
  const auto removed =
      call.services.credentials.remove(call.tenant(), key, std::nullopt, {&call.record, 1});
  if (removed.ok()) return Done{Reply(204), Done::Recorded::InStore};
  if (removed.error().code != ErrorCode::NotFound) return removed.error();
  return nothing_there(call.record, removed.error());
}

}  // namespace

void add_vault_kv_endpoints(Router& router, Gate& gate, Services& services) {
  const auto add = [&](const char* method, const char* pattern, const char* action,
                       Result<Done> (*run)(const VaultCall&), Reads reads = Reads::No) {
    std::vector allowed{Kind::Operator, Kind::TenantAdmin, Kind::User};
    if (reads != Reads::No) allowed.push_back(Kind::Client);
    if (reads == Reads::OfUsersToo) allowed.push_back(Kind::ClientForUser);
    // Reads alone: what a write answers holds no value.
    const auto wraps = reads == Reads::No ? Wraps::Never : Wraps::Allowed;
    add_vault_route(router, gate, services,
                    {method, pattern, action, std::move(allowed), run, wraps});
  };
  constexpr auto kData = "{}/data/{...}";
  add("GET", kData, "credential.reveal", read_data, Reads::OfUsersToo);
  add("POST", kData, "credential.put", write_data);
  add("PUT", kData, "credential.put", write_data);
  add("PATCH", kData, "credential.put", patch_data);
  add("DELETE", kData, "credential.version_delete", delete_latest);

  constexpr auto kDelete = "{}/delete/{...}";
  add("POST", kDelete, "credential.version_delete", change_versions<VersionChange::Delete>);
  add("PUT", kDelete, "credential.version_delete", change_versions<VersionChange::Delete>);
  constexpr auto kUndelete = "{}/undelete/{...}";
  add("POST", kUndelete, "credential.version_undelete", change_versions<VersionChange::Undelete>);
  add("PUT", kUndelete, "credential.version_undelete", change_versions<VersionChange::Undelete>);
  constexpr auto kDestroy = "{}/destroy/{...}";
  add("POST", kDestroy, "credential.version_destroy", change_versions<VersionChange::Destroy>);
  add("PUT", kDestroy, "credential.version_destroy", change_versions<VersionChange::Destroy>);

  constexpr auto kMetadata = "{}/metadata/{...}";
  add("GET", kMetadata, "credential.read", read_metadata, Reads::Yes);
  add("LIST", kMetadata, "credential.list", list, Reads::Yes);
  add("POST", kMetadata, "credential.describe", write_metadata<MetadataChange::Texts::Replace>);
  add("PUT", kMetadata, "credential.describe", write_metadata<MetadataChange::Texts::Replace>);
  add("PATCH", kMetadata, "credential.describe", write_metadata<MetadataChange::Texts::Merge>);
  add("DELETE", kMetadata, "credential.delete", remove_all);
  constexpr auto kTop = "{}/metadata";
  add("GET", kTop, "credential.list", read_metadata, Reads::Yes);
  add("LIST", kTop, "credential.list", list, Reads::Yes);
}

}  // namespace postern::http
