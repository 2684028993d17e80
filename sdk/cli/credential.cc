#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "cli/commands.h"
#include "cli/output.h"
#include "core/time_format.h"
#include "postern/json.h"
#include "postern/secret_file.h"

namespace postern::cli {
namespace {

using sdk::ErrorKind;

constexpr std::size_t kMaxValueBytes = 1024 * 1024;

termios terminal_before{};  // for end_with_echo(), which a signal calls

void end_with_echo(int signal) {
  ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal_before);
  ::raise(signal);  // SA_RESETHAND: this time it ends us
}

/// Turns off the terminal's echo while a secret is typed, until the end of
/// that or of the process.
class NoEcho {
 public:
  NoEcho() {
    active_ = ::tcgetattr(STDIN_FILENO, &terminal_before) == 0;
    if (!active_) return;
    struct sigaction restore {};
    restore.sa_handler = end_with_echo;
    restore.sa_flags = static_cast<int>(SA_RESETHAND);
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      ::sigaction(kSignals[i], nullptr, &actions_before_[i]);
      const bool ignored = actions_before_[i].sa_handler == SIG_IGN;
      if (!ignored) ::sigaction(kSignals[i], &restore, nullptr);
    }
    auto quiet = terminal_before;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
  }
  ~NoEcho() {
    if (!active_) return;
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal_before);
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      ::sigaction(kSignals[i], &actions_before_[i], nullptr);
    }
  }
  NoEcho(const NoEcho&) = delete;
  NoEcho& operator=(const NoEcho&) = delete;

 private:
  static constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP, SIGQUIT};
  std::array<struct sigaction, kSignals.size()> actions_before_{};
  bool active_ = false;
};

/// `FIELD=SOURCE`, cut at the first equals sign.
sdk::Result<std::pair<std::string, std::string>> field_and_source(const std::string& text,
                                                                  const char* shape) {
  const auto equals = text.find('=');
  if (equals == text.npos || equals == 0 || equals + 1 == text.size()) {
    // Not quoted: somebody may have put the secret itself here.
    return sdk::fail(ErrorKind::Usage, std::string("a field is given as ") + shape +
                                           "; a value itself never goes on the command line");
  }
  return std::pair(text.substr(0, equals), text.substr(equals + 1));
}

/// A file that is one line ends with a newline only because editors add it.
SecureBuffer without_final_newline(const SecureBuffer& content) {
  auto text = as_text(content.readable());
  if (!text.empty() && text.find('\n') == text.size() - 1) text.remove_suffix(1);
  if (!text.empty() && text.back() == '\r' && text.find('\r') == text.size() - 1) {
    text.remove_suffix(1);
  }
  return SecureBuffer::copy_of(text);
}

sdk::Result<SecureBuffer> typed_value(const std::string& field) {
  if (::isatty(STDIN_FILENO) == 0) {
    return sdk::read_secret_file("-", "field " + field, kMaxValueBytes);
  }
  const NoEcho quiet;
  const auto prompt = "Value of " + printable(field) + " (not shown): ";
  std::fputs(prompt.c_str(), stderr);
  sdk::SecretBytes line(4096);
  const auto count = ::read(STDIN_FILENO, line.data(), line.size());
  std::fputs("\n", stderr);
  if (count <= 0) return sdk::fail(ErrorKind::Usage, "nothing was entered");
  return SecureBuffer::copy_of(std::string_view(line.data(), static_cast<std::size_t>(count)));
}

sdk::Result<std::vector<sdk::CredentialField>> read_fields(const CredentialOptions& options) {
  std::vector<sdk::CredentialField> fields;
  bool stdin_used = false;
  const auto add = [&](const std::string& name, SecureBuffer content) -> sdk::Status {
    for (const auto& field : fields) {
      if (field.name == name) {
        return sdk::fail(ErrorKind::Usage, "field " + name + " is given twice");
      }
    }
    auto value = without_final_newline(content);
    if (value.size() == 0) {
      return sdk::fail(ErrorKind::Usage, "the value of field " + name + " is empty");
    }
    fields.push_back(sdk::CredentialField{name, FieldValue(std::move(value))});
    return {};
  };
  const auto from_input = [&](const std::string& name) -> sdk::Status {
    if (stdin_used && ::isatty(STDIN_FILENO) == 0) {
      return sdk::fail(ErrorKind::Usage, "only one field can be read from standard input");
    }
    stdin_used = true;
    POSTERN_TRY(auto content, typed_value(name));
    return add(name, std::move(content));
  };

  for (const auto& text : options.from_file) {
    POSTERN_TRY(const auto pair, field_and_source(text, "--from-file FIELD=PATH"));
    if (pair.second == "-") {
      POSTERN_CHECK(from_input(pair.first));
      continue;
    }
    POSTERN_TRY(auto content,
                sdk::read_secret_file(pair.second, "field " + pair.first, kMaxValueBytes));
    POSTERN_CHECK(add(pair.first, std::move(content)));
  }
  for (const auto& text : options.from_env) {
    POSTERN_TRY(const auto pair, field_and_source(text, "--from-env FIELD=VARIABLE"));
    const char* value = std::getenv(pair.second.c_str());
    if (value == nullptr) {
      return sdk::fail(ErrorKind::Usage,
                       "there is no such environment variable for field " + pair.first);
    }
    POSTERN_CHECK(add(pair.first, SecureBuffer::copy_of(std::string_view(value))));
  }
  for (const auto& name : options.fields) {
    if (name.find('=') != name.npos) {
      return sdk::fail(ErrorKind::Usage,
                       "--field takes a name alone and asks for the value; a value never goes on "
                       "the command line");
    }
    POSTERN_CHECK(from_input(name));
  }
  if (fields.empty()) {
    return sdk::fail(ErrorKind::Usage,
                     "which fields? use --from-file FIELD=PATH, --from-env FIELD=VARIABLE, or "
                     "--field FIELD to be asked");
  }
  return fields;
}

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
  const bool principal = !options.issuer.empty() || !options.subject.empty();
  if (principal && (options.issuer.empty() || options.subject.empty())) {
    return sdk::fail(ErrorKind::Usage, "a user is named by --issuer and --subject together");
  }
  if (int{options.tenant_owned} + int{options.as_user} + int{principal} != 1) {
    return sdk::fail(ErrorKind::Usage,
                     "whose credential is it? use one of --tenant-owned, --as-user, or --issuer "
                     "with --subject");
  }
  if (options.as_user) {
    POSTERN_TRY(auto client, user_client(settings));
    return Call{std::move(tenant), std::move(name).value(), sdk::CredentialOwner::caller(),
                std::move(client)};
  }
  POSTERN_TRY(auto client, admin_client(settings));
  auto owner = principal ? sdk::CredentialOwner::principal({options.issuer, options.subject})
                         : sdk::CredentialOwner::tenant();
  return Call{std::move(tenant), std::move(name).value(), std::move(owner), std::move(client)};
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
  json["labels"] = sdk::Json::object();
  for (const auto& [name, text] : info.labels) json["labels"][name] = text;
  json["metadata"] = sdk::Json::object();
  for (const auto& [name, text] : info.metadata) json["metadata"][name] = text;
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

sdk::Result<std::uint64_t> whole_number(const std::string& text, const char* option) {
  std::uint64_t number = 0;
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    return sdk::fail(ErrorKind::Usage, std::string(option) + " takes a whole number");
  }
  return number;
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

sdk::Result<sdk::CredentialDescription> description_of(const CredentialOptions& options) {
  sdk::CredentialDescription out;
  if (!options.description.empty()) out.description = options.description;
  for (const auto& text : options.labels) {
    POSTERN_TRY(auto pair, name_and_text(text, "--label"));
    out.labels.emplace_back(std::move(pair));
  }
  for (const auto& text : options.metadata) {
    POSTERN_TRY(auto pair, name_and_text(text, "--metadata"));
    out.metadata.emplace_back(std::move(pair));
  }
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
  std::optional<std::uint64_t> only_version;
  if (!options.only_version.empty()) {
    const auto version = whole_number(options.only_version, "--only-version");
    if (!version.ok()) return report(version.error(), doing);
    only_version = version.value();
  }
  const auto description = description_of(options);
  if (!description.ok()) return report(description.error(), doing);
  auto call = prepare(settings, options);
  if (!call.ok()) return report(call.error(), doing);
  const auto fields = read_fields(options);
  if (!fields.ok()) return report(fields.error(), doing);
  const auto info = call.value().client.put_credential(
      call.value().tenant, call.value().name, call.value().owner, fields.value(),
      expires_at.value(), only_version, options.type, description.value());
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
  Table table({"VERSION", "STATE", "CREATED", "EXPIRES", "FIELDS"});
  std::string json;
  for (const auto& version : versions.value()) {
    std::string fields;
    for (const auto& field : version.fields)
      fields += (fields.empty() ? "" : ",") + printable(field);
    if (!settings.json) {
      table.add({std::to_string(version.version), printable(version.state),
                 format_time(version.created_at), shown(version.expires_at), fields});
      continue;
    }
    sdk::Json line = {{"version", version.version},
                      {"state", version.state},
                      {"fields", version.fields},
                      {"created_at", format_time(version.created_at)}};
    if (version.expires_at) line["expires_at"] = format_time(*version.expires_at);
    if (version.deleted_at) line["deleted_at"] = format_time(*version.deleted_at);
    if (version.destroyed_at) line["destroyed_at"] = format_time(*version.destroyed_at);
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
