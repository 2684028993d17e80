#include <charconv>

#include "cli/commands.h"
#include "cli/credential_input.h"
#include "cli/output.h"
#include "core/time_format.h"
#include "postern/json.h"

namespace postern::cli {
namespace {

using sdk::ErrorKind;

/// What a command on one credential works with.
struct Call {
  TenantId tenant;
  CredentialName name;
  sdk::CredentialOwner owner;
  sdk::Client client;
};

sdk::Result<Call> prepare(const Settings& settings, const CredentialOptions& options) {
  POSTERN_TRY(auto tenant, tenant_of(settings));
  auto name = CredentialName::parse(options.name);
  if (!name.ok()) return sdk::fail(ErrorKind::Usage, name.error().detail);
  POSTERN_TRY(auto access, credential_access(settings, options));
  return Call{std::move(tenant), std::move(name).value(), std::move(access.owner),
              std::move(access.client)};
}

std::string owner_text(const sdk::CredentialInfo& info) {
  if (info.owner_type != "principal") return "tenant";
  return printable(info.principal.subject) + " (" + printable(info.principal.issuer) + ")";
}

std::string field_names(const sdk::CredentialInfo& info) {
  std::string out;
  for (const auto& field : info.fields) out += (out.empty() ? "" : ",") + printable(field);
  return out;
}

sdk::Json object_of(const std::vector<std::pair<std::string, std::string>>& pairs) {
  auto json = sdk::Json::object();
  for (const auto& [name, text] : pairs) json[name] = text;
  return json;
}

sdk::Json as_json(const sdk::CredentialInfo& info) {
  sdk::Json json = {{"name", info.name},
                    {"owner", {{"type", info.owner_type}}},
                    {"version", info.version},
                    {"fields", info.fields},
                    {"created_at", format_time(info.created_at)}};
  if (info.owner_type == "principal") {
    json["owner"]["issuer"] = info.principal.issuer;
    json["owner"]["subject"] = info.principal.subject;
  }
  json["state"] = info.state;
  json["type"] = info.type;
  json["max_versions"] = info.max_versions;
  json["cas_required"] = info.cas_required;
  json["labels"] = object_of(info.labels);
  json["metadata"] = object_of(info.metadata);
  if (!info.description.empty()) json["description"] = info.description;
  const auto add_time = [&](const char* name, const std::optional<sys_seconds>& time) {
    if (time) json[name] = format_time(*time);
  };
  add_time("expires_at", info.expires_at);
  add_time("deleted_at", info.deleted_at);
  add_time("destroyed_at", info.destroyed_at);
  add_time("rotation_due_at", info.rotation_due_at);
  add_time("last_used_at", info.last_used_at);
  return json;
}

std::string texts(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::string out;
  for (const auto& [name, text] : pairs) {
    if (!out.empty()) out += ", ";
    out += printable(name) + '=' + printable(text);
  }
  return out.empty() ? "-" : out;
}

/// `NAME=TEXT`, cut at the first equals sign.
sdk::Result<std::pair<std::string, std::string>> name_and_text(const std::string& text,
                                                               const char* option) {
  const auto equals = text.find('=');
  if (equals == text.npos || equals == 0) {
    return sdk::fail(ErrorKind::Usage, std::string(option) + " takes NAME=TEXT");
  }
  return std::pair(text.substr(0, equals), text.substr(equals + 1));
}

template <class Pairs>
sdk::Status add_pairs(const std::vector<std::string>& texts, const char* option, Pairs& to) {
  for (const auto& text : texts) {
    POSTERN_TRY(auto pair, name_and_text(text, option));
    to.emplace_back(std::move(pair));
  }
  return {};
}

sdk::Result<sdk::CredentialDescription> description_of(const CredentialOptions& options) {
  sdk::CredentialDescription out;
  if (!options.description.empty()) out.description = options.description;
  POSTERN_CHECK(add_pairs(options.labels, "--label", out.labels));
  POSTERN_CHECK(add_pairs(options.metadata, "--metadata", out.metadata));
  POSTERN_CHECK(add_pairs(options.version_metadata, "--version-metadata", out.version_metadata));
  for (const auto& name : options.remove_labels) out.labels.emplace_back(name, std::nullopt);
  for (const auto& name : options.remove_metadata) out.metadata.emplace_back(name, std::nullopt);
  out.never_due = options.rotation_due == "never";
  if (!out.never_due) {
    POSTERN_TRY(out.rotation_due_at, parse_expiry(options.rotation_due));
  }
  if (!options.max_versions.empty()) {
    POSTERN_TRY(const auto count, whole_number(options.max_versions, "--max-versions"));
    if (count < 1 || count > 100) {
      return sdk::fail(ErrorKind::Usage, "--max-versions takes a number from 1 to 100");
    }
    out.max_versions = static_cast<std::uint32_t>(count);
  }
  if (!options.cas_required.empty()) out.cas_required = options.cas_required == "true";
  return out;
}

std::string line_of(const sdk::Json& json) {
  return json.dump(-1, ' ', true, sdk::Json::error_handler_t::replace) + "\n";
}

int finish(const sdk::Status& status) {
  return status.ok() ? exit_code::kOk : report(status.error(), "");
}

}  // namespace

int run_credential_set(const Settings& settings, const CredentialOptions& options) {
  const auto doing = "set credential " + options.name;
  const auto expires_at = parse_expiry(options.expires);
  if (!expires_at.ok()) return report(expires_at.error(), doing);
  const auto only = only_version(options);
  if (!only.ok()) return report(only.error(), doing);
  const auto description = description_of(options);
  if (!description.ok()) return report(description.error(), doing);
  auto call = prepare(settings, options);
  if (!call.ok()) return report(call.error(), doing);
  const auto fields = read_fields(options);
  if (!fields.ok()) return report(fields.error(), doing);
  const auto info = call.value().client.put_credential(
      call.value().tenant, call.value().name, call.value().owner, fields.value(),
      expires_at.value(), only.value(), options.type, description.value());
  if (!info.ok()) return report(info.error(), doing);
  for (const auto& warning : info.value().warnings) say_error("warning: " + printable(warning));
  if (settings.json) return finish(print(line_of(as_json(info.value()))));
  return finish(print("credential " + printable(info.value().name) + " of " +
                      owner_text(info.value()) + ": version " +
                      std::to_string(info.value().version) + " stored\n"));
}

namespace {

int show(const Settings& settings, const sdk::CredentialInfo& info) {
  if (settings.json) return finish(print(line_of(as_json(info))));
  std::string text =
      "name         " + printable(info.name) + "\nowner        " + owner_text(info) +
      "\ntype         " + printable(info.type) + "\nversion      " + std::to_string(info.version) +
      (info.state == "live" ? "" : ", " + printable(info.state)) + "\nfields       " +
      field_names(info) + "\ncreated      " + format_time(info.created_at) + "\nexpires      " +
      shown(info.expires_at) + "\nrotation due " + shown(info.rotation_due_at) + "\nlast used    " +
      shown(info.last_used_at) + "\nlabels       " + texts(info.labels) + "\nmetadata     " +
      texts(info.metadata) + "\nkeeps        " + std::to_string(info.max_versions) + " versions" +
      (info.cas_required ? ", written only with --only-version" : "") + "\n";
  if (!info.description.empty()) text += "description  " + printable(info.description) + "\n";
  return finish(print(text));
}

int change_version(const Settings& settings, const CredentialOptions& options,
                   sdk::VersionChange change, const std::string& verb, const char* done) {
  const auto doing = verb + " version " + options.version + " of credential " + options.name;
  const auto version = whole_number(options.version, "--version");
  if (!version.ok()) return report(version.error(), doing);
  auto call = prepare(settings, options);
  if (!call.ok()) return report(call.error(), doing);
  const auto info = call.value().client.change_credential_version(
      call.value().tenant, call.value().name, call.value().owner, version.value(), change);
  if (!info.ok()) return report(info.error(), doing);
  if (settings.json) return finish(print(line_of(as_json(info.value()))));
  auto text = "version " + std::to_string(version.value()) + " of credential " +
              printable(info.value().name) + " of " + owner_text(info.value()) + " " + done + "\n";
  if (info.value().state != "live") {
    say_note("its latest version is " + printable(info.value().state) +
             ": there is no credential to release");
  }
  return finish(print(text));
}

}  // namespace

int run_credential_get(const Settings& settings, const CredentialOptions& options) {
  const auto doing = "look up credential " + options.name;
  auto call = prepare(settings, options);
  if (!call.ok()) return report(call.error(), doing);
  const auto info =
      call.value().client.credential(call.value().tenant, call.value().name, call.value().owner);
  if (!info.ok()) return report(info.error(), doing);
  return show(settings, info.value());
}

int run_credential_describe(const Settings& settings, const CredentialOptions& options) {
  const auto doing = "describe credential " + options.name;
  const auto description = description_of(options);
  if (!description.ok()) return report(description.error(), doing);
  auto call = prepare(settings, options);
  if (!call.ok()) return report(call.error(), doing);
  const auto info = call.value().client.describe_credential(
      call.value().tenant, call.value().name, call.value().owner, description.value());
  if (!info.ok()) return report(info.error(), doing);
  return show(settings, info.value());
}

int run_credential_versions(const Settings& settings, const CredentialOptions& options) {
  const auto doing = "list versions of credential " + options.name;
  auto call = prepare(settings, options);
  if (!call.ok()) return report(call.error(), doing);
  const auto versions = call.value().client.credential_versions(
      call.value().tenant, call.value().name, call.value().owner);
  if (!versions.ok()) return report(versions.error(), doing);
  Table table({"VERSION", "STATE", "CREATED", "EXPIRES", "FIELDS", "METADATA"});
  std::string json;
  for (const auto& version : versions.value()) {
    std::string fields;
    for (const auto& field : version.fields)
      fields += (fields.empty() ? "" : ",") + printable(field);
    if (!settings.json) {
      table.add({std::to_string(version.version),
                 version.withdrawn ? "withdrawn" : printable(version.state),
                 format_time(version.created_at), shown(version.expires_at), fields,
                 texts(version.metadata)});
      continue;
    }
    sdk::Json line = {{"version", version.version},
                      {"state", version.state},
                      {"fields", version.fields},
                      {"created_at", format_time(version.created_at)},
                      {"metadata", object_of(version.metadata)}};
    if (version.expires_at) line["expires_at"] = format_time(*version.expires_at);
    if (version.deleted_at) line["deleted_at"] = format_time(*version.deleted_at);
    if (version.destroyed_at) line["destroyed_at"] = format_time(*version.destroyed_at);
    if (version.withdrawn) line["withdrawn"] = true;
    json += line_of(line);
  }
  return finish(print(settings.json ? json : table.text()));
}

int run_credential_delete(const Settings& settings, const CredentialOptions& options) {
  if (!options.version.empty()) {
    return change_version(settings, options, sdk::VersionChange::Delete, "delete", "deleted");
  }
  const auto doing = "delete credential " + options.name;
  auto call = prepare(settings, options);
  if (!call.ok()) return report(call.error(), doing);
  const auto status = call.value().client.delete_credential(call.value().tenant, call.value().name,
                                                            call.value().owner);
  if (!status.ok()) return report(status.error(), doing);
  return finish(print("credential " + options.name + " deleted\n"));
}

int run_credential_undelete(const Settings& settings, const CredentialOptions& options) {
  return change_version(settings, options, sdk::VersionChange::Undelete, "undelete", "is back");
}

int run_credential_destroy(const Settings& settings, const CredentialOptions& options) {
  return change_version(settings, options, sdk::VersionChange::Destroy, "destroy", "destroyed");
}

int run_credential_reveal(const Settings& settings, const CredentialOptions& options) {
  const auto doing = "reveal credential " + options.name;
  std::optional<std::uint64_t> version;
  if (!options.version.empty()) {
    const auto number = whole_number(options.version, "--version");
    if (!number.ok()) return report(number.error(), doing);
    version = number.value();
  }
  if (const auto out = check_standard_output(); !out.ok()) return report(out.error(), doing);
  auto call = prepare(settings, options);
  if (!call.ok()) return report(call.error(), doing);
  const auto shown = call.value().client.reveal_credential(
      call.value().tenant, call.value().name, call.value().owner, options.reason, version);
  if (!shown.ok()) return report(shown.error(), doing);
  sdk::SecretJson json{sdk::Json::object()};
  for (const auto& field : shown.value().fields) {
    const auto value = [&](ByteView bytes) { return std::string(as_text(bytes)); };
    if (options.fields.empty()) {
      (*json)[field.name] = field.value.expose(value);
    } else if (options.fields.front() == field.name) {
      return field.value.expose([](ByteView bytes) { return finish(print(as_text(bytes))); });
    }
  }
  if (!options.fields.empty()) {
    return report(sdk::fail(ErrorKind::Usage, "it has no field of that name"), doing);
  }
  auto text = sdk::dump_secret(*json);
  text.push_back('\n');
  return finish(print({text.data(), text.size()}));
}

int run_credential_list(const Settings& settings, const CredentialOptions& options) {
  constexpr const char* kDoing = "list credentials";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = options.as_user ? user_client(settings) : admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);

  sdk::CredentialFilter filter;
  filter.type = options.type;
  filter.overdue = options.overdue;
  for (const auto& text : options.labels) {
    auto label = name_and_text(text, "--label");
    if (!label.ok()) return report(label.error(), kDoing);
    filter.labels.push_back(std::move(label).value());
  }
  if (options.tenant_owned) filter.owner = "tenant";
  filter.principal = {options.issuer, options.subject};
  if (!options.issuer.empty() || !options.subject.empty()) filter.owner = "principal";
  Table table({"NAME", "OWNER", "TYPE", "VERSION", "FIELDS", "CREATED", "EXPIRES"});
  std::string json;
  do {
    auto page = client.value().credentials(tenant.value(), filter);
    if (!page.ok()) return report(page.error(), kDoing);
    for (const auto& info : page.value().items) {
      if (settings.json) {
        json += line_of(as_json(info));
      } else {
        table.add({printable(info.name), owner_text(info), printable(info.type),
                   std::to_string(info.version) +
                       (info.state == "live" ? "" : " (" + printable(info.state) + ")"),
                   field_names(info), format_time(info.created_at), shown(info.expires_at)});
      }
    }
    // A server that repeats its cursor would keep us here for ever.
    if (page.value().next_cursor == filter.cursor) break;
    filter.cursor = page.value().next_cursor;
  } while (!filter.cursor.empty());
  return finish(print(settings.json ? json : table.text()));
}

}  // namespace postern::cli
