#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "cli/commands.h"
#include "cli/credential_input.h"
#include "cli/import_backup.h"
#include "cli/import_sources.h"
#include "cli/manifest.h"
#include "cli/output.h"
#include "postern/json.h"
#include "postern/jwt.h"
#include "postern/secret_file.h"

namespace postern::cli {
namespace {

using sdk::ErrorKind;

constexpr const char* kDoing = "import";

// ---- files ----

struct HostFile {
  std::string path;  ///< without symbolic links, which are followed
  sdk::SecretBytes text;
};

sdk::Result<HostFile> read_host(const std::string& path, std::size_t max_bytes) {
  std::error_code error;
  HostFile out;
  out.path = std::filesystem::canonical(path, error).string();
  if (error) {
    return sdk::fail(ErrorKind::Usage, "cannot read " + path + ": " + error.message());
  }
  POSTERN_TRY(out.text, sdk::read_regular_file(out.path, max_bytes));
  return out;
}

/// Writes the new text, unless somebody else wrote into the file meanwhile.
sdk::Status replace_unchanged(const std::string& path, std::string_view before,
                              std::string_view after) {
  POSTERN_TRY(const auto now, read_host(path, kMaxImportBytes));
  if (now.path != path || sdk::view(now.text) != before) {
    return sdk::fail(ErrorKind::Usage,
                     path + " was changed meanwhile, so it stays; run this again");
  }
  return sdk::replace_file(path, after);
}

std::string hex_hash(std::initializer_list<std::string_view> parts) {
  std::uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a: tells names apart, and hides nothing
  for (const auto part : parts) {
    for (const char c : part) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
    hash = (hash ^ 0xffU) * 0x100000001b3U;
  }
  std::string out;
  for (int shift = 60; shift >= 0; shift -= 4) out += "0123456789abcdef"[hash >> shift & 15];
  return out;
}

/// The credential, and backend, that keeps the original of a file of this machine.
std::string backup_of(const std::string& path) {
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  return "import-" + hex_hash({host, path});
}

// ---- the manifest ----

bool of_user(const ImportOptions& options) { return !options.credential.tenant_owned; }

/// Who is to be allowed what is imported; nobody when it is the tenant's or not known.
Principal user_of(const Settings& settings, const ImportOptions& options) {
  if (!of_user(options)) return {};
  if (!options.credential.issuer.empty()) {
    return {options.credential.issuer, options.credential.subject};
  }
  const auto token = subject_token(settings);
  if (!token.ok()) return {};
  const auto jwt =
      token.value().expose([](ByteView bytes) { return sdk::decode_unverified(as_text(bytes)); });
  if (!jwt.ok()) return {};
  const auto claims = sdk::parse_json(jwt.value().claims);
  if (!claims.ok()) return {};
  const auto text = [&](const char* name) {
    const auto it = (*claims.value()).find(name);
    return it != (*claims.value()).end() && it->is_string() ? it->get<std::string>()
                                                            : std::string();
  };
  Principal user{text("iss"), text("sub")};
  return user.issuer.empty() || user.subject.empty() ? Principal{} : user;
}

/// `{field}` for a template.
std::string place(const std::string& field) { return "{" + field + "}"; }

Json backend_json(const std::string& name, const std::string& credential, bool principal) {
  return {{"name", name},
          {"audience", "urn:postern:import:" + name},
          {"answer", "vaulted"},
          {"credential", {{"name", credential}, {"owner", principal ? "principal" : "tenant"}}},
          {"delivery", Json::object()}};
}

std::string role_of(const std::string& backend) {
  if (backend.substr(0, 7) == "import-") return backend;
  return backend.size() > 56 ? "import-" + hex_hash({backend}) : "import-" + backend;
}

/// Backends that deliver what is imported, and who may have it. A role for each backend and a
/// binding for each user, so that no import takes away what another one gave.
Json manifest_of(const TenantId& tenant, const Found& found, const ImportOptions& options,
                 const Principal& user) {
  Json backends = Json::array();
  for (const auto& server : found.servers) {
    if (server.secrets.empty() || server.imported) continue;  // of the latter it is there
    auto backend = backend_json(server.backend, server.credential_name(), of_user(options));
    for (const auto& secret : server.secrets) {
      auto& delivery = backend["delivery"];
      if (!secret.variable.empty()) delivery["env"][secret.variable] = place(secret.field);
      if (!secret.header.empty()) delivery["headers"][secret.header] = place(secret.field);
    }
    backends.push_back(std::move(backend));
  }
  for (const auto& file : found.files) {
    const auto name = backup_of(file.path);
    auto backend = backend_json(name, name, of_user(options));
    for (const char* part : {"original", "rewritten", "earlier", "path"}) {
      backend["delivery"]["files"].push_back({{"name", part}, {"content", place(part)}});
    }
    backends.push_back(std::move(backend));
  }
  Json roles = Json::array();
  Json bindings = Json::array();
  for (const auto& backend : backends) {
    const auto name = backend["name"].get<std::string>();
    const auto role = role_of(name);
    roles.push_back({{"name", role}, {"allow", {name + ":*"}}});
    if (user.subject.empty()) continue;
    bindings.push_back({{"name", "import-" + hex_hash({name, user.issuer, user.subject})},
                        {"role", role},
                        {"subjects", {{{"issuer", user.issuer}, {"subject", user.subject}}}}});
  }
  Json out{{"tenant", tenant.str()}, {"backends", backends}, {"roles", roles}};
  if (!bindings.empty()) out["bindings"] = bindings;
  return out;
}

/// The backends of `wanted` that the tenant does not have, or (Usage) has in another way.
sdk::Result<std::vector<std::string>> missing_backends(const Json& wanted, const Json& has) {
  std::vector<std::string> missing;
  for (const auto& backend : wanted["backends"]) {
    const Json* known = nullptr;
    if (const auto it = has.find("backends"); it != has.end() && it->is_array()) {
      for (const auto& other : *it) {
        if (other.is_object() && other.value("name", Json()) == backend["name"]) known = &other;
      }
    }
    const auto name = backend["name"].get<std::string>();
    if (known == nullptr) {
      missing.push_back(name);
      continue;
    }
    bool same = known->value("credential", Json()) == backend["credential"];
    const auto delivery = known->value("delivery", Json::object());
    for (const auto& [kind, entries] : backend["delivery"].items()) {
      const auto there = delivery.value(kind, Json());
      for (const auto& [key, content] : entries.items()) {
        same = same && (there.is_object() ? there.value(key, Json()) == content : there == entries);
      }
    }
    if (!same) {
      return sdk::fail(ErrorKind::Usage,
                       "there is a backend " + name +
                           " already, which takes another credential or delivers something else; "
                           "choose another name with --backend SERVER=BACKEND");
    }
  }
  return missing;
}

// ---- what is stored ----

enum class Stored {
  New,
  Same,
  Differs,
  Lacks,  ///< fields that were found, of a server that was imported before
  Unknown
};

struct Planned {
  const FoundServer* server;
  Stored stored = Stored::New;
  std::uint64_t version = 0;  ///< of what is stored
};

const char* text_of(Stored stored) {
  switch (stored) {
    case Stored::New: return "new";
    case Stored::Same: return "stored already";
    case Stored::Differs: return "differs from what is stored";
    case Stored::Lacks: return "lacks what was found";
    case Stored::Unknown: return "stored already, and whether it is the same cannot be told";
  }
  return "";
}

bool equal(const FieldValue& a, const FieldValue& b) {
  return a.expose([&](ByteView left) {
    return b.expose([&](ByteView right) { return as_text(left) == as_text(right); });
  });
}

template <class Pairs>
const FieldValue* named(const Pairs& pairs, const std::string& name) {
  for (const auto& [key, value] : pairs) {
    if (key == name) return &value;
  }
  return nullptr;
}

bool is_delivered(const FoundSecret& secret) {
  return !secret.variable.empty() || !secret.header.empty();
}

/// How what a release delivers compares with what was found; nothing when it does not deliver all
/// that it should.
std::optional<Stored> compared(const FoundServer& server, const sdk::ReleasedItem& item) {
  bool same = true;
  for (const auto& secret : server.secrets) {
    if (!is_delivered(secret)) continue;
    const auto* value = !secret.variable.empty() ? named(item.env, secret.variable)
                                                 : named(item.headers, secret.header);
    if (value == nullptr) return std::nullopt;
    same = same && equal(*value, secret.value);
  }
  return same ? Stored::Same : Stored::Differs;
}

/// What the user whose token we have is released.
class Releases {
 public:
  /// Nothing when client and user are not configured, which `postern exec` needs too.
  static sdk::Result<std::optional<Releases>> create(const Settings& settings,
                                                     const TenantId& tenant) {
    if (settings.client_id.empty() || settings.client_secret_file.empty() ||
        settings.subject_token_file.empty()) {
      return std::optional<Releases>();
    }
    POSTERN_TRY(auto token, subject_token(settings));
    POSTERN_TRY(auto client, oauth_client(settings));
    return std::optional(Releases(settings, tenant, std::move(token), std::move(client)));
  }

  sdk::Result<sdk::ReleasedItem> ask(const std::string& backend) {
    sdk::TargetItem item;
    item.backend = backend;
    POSTERN_TRY(auto items, client_.release(tenant_, token_, token_type_, {item}));
    if (items.size() != 1) return sdk::fail(ErrorKind::BrokenAnswer, "not one item was released");
    if (!items[0].allowed) {
      auto error =
          sdk::fail(ErrorKind::Refused, items[0].detail.empty() ? items[0].error : items[0].detail);
      error.code = items[0].error;
      error.connect_url = items[0].connect_url;
      error.status = 403;
      return error;
    }
    return std::move(items[0]);
  }

 private:
  Releases(const Settings& settings, TenantId tenant, SubjectToken token, sdk::Client client)
      : token_type_(token_type_urn(settings.subject_token_type)),
        tenant_(std::move(tenant)),
        token_(std::move(token)),
        client_(std::move(client)) {}

  std::string token_type_;
  TenantId tenant_;
  SubjectToken token_;
  sdk::Client client_;
};

// ---- what comes back ----

/// The imports of a file, the last one first. As a credential: `original` and `rewritten` of the
/// last one, the others as JSON in `earlier`, [[original, rewritten], …], and in `path` this
/// file and those that the same import rewrites, one in a line.
struct Backup {
  std::vector<Kept> imports;
  std::vector<std::string> others;
};

sdk::Result<Backup> backup_named(const Settings& settings, const ImportOptions& options,
                                 const TenantId& tenant, const std::string& name) {
  std::map<std::string, sdk::SecretBytes> parts;
  const auto take = [&](const std::string& part, const FieldValue& value) {
    value.expose([&](ByteView bytes) { parts[part] = copy_of(as_text(bytes)); });
  };
  POSTERN_TRY(auto releases, Releases::create(settings, tenant));
  const auto& owner = options.credential;
  std::optional<sdk::Error> hidden;
  if (owner.tenant_owned || !owner.issuer.empty()) {
    POSTERN_TRY(auto access, credential_access(settings, owner));
    const auto shown = access.client.reveal_credential(tenant, CredentialName(name), access.owner,
                                                       "postern import --restore");
    if (shown.ok()) {
      for (const auto& field : shown.value().fields) take(field.name, field.value);
    } else {
      hidden = shown.error();  // most tenants show nothing
    }
  }
  if (parts.empty() && releases) {
    POSTERN_TRY(const auto item, releases->ask(name));
    for (const auto& file : item.files) take(file.name, file.content);
  } else if (hidden) {
    return std::move(*hidden);
  } else if (parts.empty()) {
    return sdk::fail(ErrorKind::Usage,
                     "the original is released to its user: that takes --client-id, "
                     "--client-secret-file and --subject-token-file, as `postern exec` does");
  }
  Backup out;
  bool whole = parts.count("original") != 0 && parts.count("rewritten") != 0;
  if (whole) {
    out.imports.push_back({std::move(parts["original"]), std::move(parts["rewritten"])});
    const auto earlier = parts.find("earlier");
    whole = earlier == parts.end() || add_earlier(out.imports, sdk::view(earlier->second));
  }
  if (!whole) {
    return sdk::fail(ErrorKind::BrokenAnswer,
                     "credential " + name + " is not the original of a file");
  }
  std::string_view paths = sdk::view(parts["path"]);
  for (auto end = paths.find('\n'); end != paths.npos; end = paths.find('\n')) {
    paths.remove_prefix(end + 1);
    out.others.emplace_back(paths.substr(0, paths.find('\n')));
  }
  return out;
}

class Import {
 public:
  Import(const Settings& settings, const ImportOptions& options, TenantId tenant)
      : settings_(settings), options_(options), tenant_(std::move(tenant)) {}

  sdk::Status read() {
    POSTERN_CHECK(read_rules());
    if (!options_.vault_url.empty()) {
      VaultSource source{options_.vault_url,     options_.vault_token_file,
                         options_.vault_ca_file, options_.vault_namespace,
                         options_.mount,         options_.prefix};
      POSTERN_TRY(found_, read_vault(source, rules_));
      return {};
    }
    if (options_.file.empty()) {
      return sdk::fail(ErrorKind::Usage, "import what? name a file, or a server with --vault");
    }
    POSTERN_TRY(auto file, read_host(options_.file, kMaxManifestBytes));
    const auto format = options_.format.empty() ? format_of(file.path, sdk::view(file.text))
                                                : format_named(options_.format);
    if (!format) {
      return sdk::fail(ErrorKind::Usage,
                       "what is " + options_.file + "? its name does not say; use --format");
    }
    auto found = read_as(*format, std::move(file));
    if (!found.ok()) {
      auto error = std::move(found).error();
      if (error.detail.substr(0, 5) == "line ") error.detail = options_.file + ": " + error.detail;
      return error;
    }
    found_ = std::move(found).value();
    for (const auto& change : found_.files) {
      if (change.original.size() > kMaxImportBytes || change.rewritten.size() > kMaxImportBytes) {
        return sdk::fail(ErrorKind::Usage, change.path + " has more than " +
                                               std::to_string(kMaxImportBytes) +
                                               " bytes, and could not be kept as a credential");
      }
    }
    return {};
  }

  bool has_secrets() const {
    return std::any_of(found_.servers.begin(), found_.servers.end(),
                       [](const auto& server) { return !server.secrets.empty(); });
  }

  sdk::Status show_nothing() const {
    if (found_.unfinished) return unfinished();
    if (settings_.json) return show_plan();
    return print(found_.servers.empty() ? "there is nothing to import, as it is\n"
                                        : "there is nothing to import; what stays is said above\n");
  }

  void show_notes() const {
    for (const auto& server : found_.servers) {
      for (const auto& note : server.notes) {
        say_error(printable(server.name) + ": " + printable(note));
      }
    }
  }

  Json manifest() const {
    return manifest_of(tenant_, found_, options_, user_of(settings_, options_));
  }

  /// Asks the server what it has.
  sdk::Status plan() {
    POSTERN_TRY(auto access, credential_access(settings_, owner_options()));
    access_.emplace(std::move(access));
    POSTERN_TRY(releases_, Releases::create(settings_, tenant_));
    for (const auto& server : found_.servers) {
      if (server.secrets.empty()) continue;
      Planned planned{&server};
      POSTERN_TRY(const auto name, credential_name(server.credential_name()));
      const auto info = access_->client.credential(tenant_, name, access_->owner);
      if (info.ok()) {
        planned.version = info.value().version;
        planned.stored = compare(server, name, info.value());
      } else if (info.error().status != 404) {
        return info.error();
      }
      planned_.push_back(planned);
    }
    return {};
  }

  sdk::Status show_plan() const {
    if (settings_.json) {
      Json json{{"servers", Json::array()}, {"files", Json::array()}};
      for (const auto& planned : planned_) {
        Json fields = Json::array();
        for (const auto& secret : planned.server->secrets) {
          fields.push_back({{"field", secret.field}, {"why", secret.why}});
        }
        json["servers"].push_back({{"server", planned.server->name},
                                   {"backend", planned.server->backend},
                                   {"credential", planned.server->credential_name()},
                                   {"stored", text_of(planned.stored)},
                                   {"fields", fields}});
      }
      for (const auto& file : found_.files) {
        json["files"].push_back({{"path", file.path}, {"backup", backup_of(file.path)}});
      }
      return print(json.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n");
    }
    std::string text;
    for (const auto& planned : planned_) {
      text += printable(planned.server->name) + ": credential " +
              printable(planned.server->credential_name()) + " of backend " +
              printable(planned.server->backend) + ": " + text_of(planned.stored) + "\n";
      for (const auto& secret : planned.server->secrets) {
        text += "    " + printable(secret.field) + " (" + printable(secret.why) + ")\n";
      }
    }
    for (const auto& file : found_.files) {
      text += printable(file.path) + ": rewritten; the original becomes credential " +
              backup_of(file.path) + "\n";
    }
    return print(text);
  }

  /// Stores everything, tries it, and rewrites the files last.
  sdk::Status run() {
    for (const auto& planned : planned_) {
      if (planned.server->imported) POSTERN_CHECK(check_imported(planned));
      const bool doubt = planned.stored == Stored::Differs || planned.stored == Stored::Unknown;
      if (doubt && !options_.overwrite && !options_.keep_stored) {
        return sdk::fail(
            ErrorKind::Usage,
            "credential " + planned.server->credential_name() + ": " + text_of(planned.stored) +
                "; --overwrite stores what was found, --keep-stored leaves it. Nothing "
                "was changed");
      }
    }
    // All files, before the first is touched: the second one's would be too late.
    for (const auto& file : found_.files) {
      if (auto can = sdk::check_replace_target(file.path); !can.ok()) {
        auto error = std::move(can).error();
        error.detail += ". Nothing was changed";
        return error;
      }
    }
    POSTERN_CHECK(prepare_tenant());
    for (const auto& planned : planned_) POSTERN_CHECK(store(planned));
    for (const auto& file : found_.files) POSTERN_CHECK(store_original(file));
    POSTERN_CHECK(try_releases());
    for (const auto& file : found_.files) {
      POSTERN_CHECK(
          replace_unchanged(file.path, sdk::view(file.original), sdk::view(file.rewritten)));
      POSTERN_CHECK(
          tell(printable(file.path) + " rewritten; postern import --restore puts it back"));
    }
    const auto starts_postern = [](const FileChange& file) {
      return sdk::view(file.rewritten).find("\"postern\"") != std::string_view::npos;
    };
    if (std::any_of(found_.files.begin(), found_.files.end(), starts_postern)) warn_of_path();
    return found_.unfinished ? unfinished() : sdk::Status();
  }

 private:
  static sdk::Status unfinished() {
    return sdk::fail(ErrorKind::Usage,
                     "secrets stay in an envFile of an earlier import, as it says above");
  }

  /// Hosts that a desktop starts have little more than these in their PATH.
  static void warn_of_path() {
    const auto has_it = [](const char* folder) {
      return ::access((std::string(folder) + "/postern").c_str(), X_OK) == 0;
    };
    if (has_it("/usr/local/bin") || has_it("/usr/bin") || has_it("/bin")) return;
    say_note(
        "postern is in none of /usr/local/bin, /usr/bin and /bin: see that it is in the PATH of "
        "the program that starts the servers");
  }

  /// What was done. Standard output has the plan alone when that is JSON.
  sdk::Status tell(const std::string& line) const {
    if (!settings_.json) return print(line + "\n");
    say_note(line);
    return {};
  }

  /// CredentialOptions with the owner that is meant when none is named.
  CredentialOptions owner_options() const {
    auto out = options_.credential;
    out.as_user = !out.tenant_owned && out.issuer.empty();
    return out;
  }

  /// Its credential has more than was found now, so there is nothing to replace it with.
  sdk::Status check_imported(const Planned& planned) const {
    const auto& name = planned.server->credential_name();
    const auto refused = [&](const std::string& why) {
      return sdk::fail(ErrorKind::Usage,
                       planned.server->name +
                           " runs postern already, and its envFile has secrets; " + why +
                           ". Nothing was changed");
    };
    switch (planned.stored) {
      case Stored::Same: return {};
      case Stored::New:
      case Stored::Lacks:
        return refused("the credential " + name +
                       " has not all of them. Store them there, and see that the backend delivers "
                       "them");
      case Stored::Differs:
      case Stored::Unknown:
        if (options_.keep_stored) return {};
        return refused("credential " + name + ": " + text_of(planned.stored) +
                       "; --keep-stored takes them out of the file all the same");
    }
    return {};
  }

  static sdk::Result<CredentialName> credential_name(const std::string& text) {
    auto name = CredentialName::parse(text);
    if (!name.ok()) return sdk::fail(ErrorKind::Usage, name.error().detail);
    return std::move(name).value();
  }

  sdk::Status read_rules() {
    rules_.also = options_.env;
    rules_.all = options_.all_env;
    rules_.except = options_.except;
    rules_.servers = options_.servers;
    for (const auto& text : options_.backends) {
      const auto equals = text.rfind('=');
      if (equals == text.npos) {
        only_backend_ = text;
      } else if (!rules_.backends.emplace(text.substr(0, equals), text.substr(equals + 1)).second) {
        return sdk::fail(ErrorKind::Usage, "--backend names one server twice");
      }
    }
    if (!options_.credential.from_file.empty() || !options_.credential.from_env.empty()) {
      POSTERN_TRY(given_, read_fields(options_.credential));
    }
    if (!options_.no_settings) {
      const auto add = [&](const char* name, const std::string& text) {
        if (!text.empty()) rules_.settings.emplace_back(name, text);
      };
      const auto absolute = [](const std::string& path) {
        return path.empty() ? path : std::filesystem::absolute(path).string();
      };
      add("POSTERN_URL", settings_.url);
      add("POSTERN_TENANT", settings_.tenant);
      add("POSTERN_CLIENT_ID", settings_.client_id);
      add("POSTERN_CLIENT_SECRET_FILE", absolute(settings_.client_secret_file));
      add("POSTERN_SUBJECT_TOKEN_FILE", absolute(settings_.subject_token_file));
      if (settings_.subject_token_type != Settings().subject_token_type) {
        add("POSTERN_SUBJECT_TOKEN_TYPE", settings_.subject_token_type);
      }
      add("POSTERN_CA_FILE", absolute(settings_.ca_file));
    }
    rules_.look_up = [this](const Reference& reference) { return look_up(reference); };
    rules_.read = [](const std::string& path) -> sdk::Result<sdk::SecretBytes> {
      POSTERN_TRY(auto file, read_host(path, kMaxImportBytes));
      if (file.path != path) {
        return sdk::fail(ErrorKind::Usage, path + " is reached by a symbolic link");
      }
      return std::move(file.text);
    };
    return {};
  }

  std::optional<SecureBuffer> look_up(const Reference& reference) {
    const auto copy = [](ByteView bytes) { return SecureBuffer::copy_of(bytes); };
    for (const auto& field : given_) {
      if (field.name == reference.name || field.name == reference.variable) {
        return field.value.expose(copy);
      }
    }
    if (reference.kind == Reference::Kind::Environment) {
      const char* value = std::getenv(reference.name.c_str());
      if (value == nullptr || *value == '\0') return std::nullopt;
      return SecureBuffer::copy_of(std::string_view(value));
    }
    if (!options_.yes || ::isatty(STDIN_FILENO) == 0) return std::nullopt;
    auto typed = typed_value(reference.name);
    if (!typed.ok()) return std::nullopt;
    auto token = sdk::trim_token(typed.value(), reference.name);
    if (!token.ok()) return std::nullopt;
    given_.push_back({reference.name, FieldValue(std::move(token).value())});
    return given_.back().value.expose(copy);
  }

  sdk::Result<Found> read_as(ImportFormat format, HostFile file) {
    if (format == ImportFormat::DockerCatalog) {
      return read_docker_catalog(sdk::view(file.text), file.path, rules_);
    }
    if (file.text.size() > kMaxImportBytes) {
      return sdk::fail(ErrorKind::Usage, options_.file + " has more than " +
                                             std::to_string(kMaxImportBytes) + " bytes");
    }
    if (format != ImportFormat::Dotenv) {
      return read_host_file(std::move(file.text), format, file.path, rules_);
    }
    if (only_backend_.empty()) {
      return sdk::fail(ErrorKind::Usage, "for which backend? name it with --backend");
    }
    rules_.backends[only_backend_] = only_backend_;
    POSTERN_TRY(const auto backend, backend_of(only_backend_, rules_));
    return read_dotenv_file(std::move(file.text), backend, file.path, rules_);
  }

  Stored compare(const FoundServer& server, const CredentialName& name,
                 const sdk::CredentialInfo& info) {
    std::set<std::string> fields;
    for (const auto& secret : server.secrets) fields.insert(secret.field);
    const std::set<std::string> has(info.fields.begin(), info.fields.end());
    const bool whole = server.imported
                           ? std::includes(has.begin(), has.end(), fields.begin(), fields.end())
                           : has == fields;
    if (info.state != "live" || !whole) return server.imported ? Stored::Lacks : Stored::Differs;
    if (owner_options().as_user) {
      if (!releases_) return Stored::Unknown;
      const auto item = releases_->ask(server.backend);
      if (!item.ok() || item.value().credential_version != info.version) return Stored::Unknown;
      const auto outcome = compared(server, item.value()).value_or(Stored::Unknown);
      const bool all = std::all_of(server.secrets.begin(), server.secrets.end(), is_delivered);
      return outcome == Stored::Same && !all ? Stored::Unknown : outcome;
    }
    const auto shown = access_->client.reveal_credential(tenant_, name, access_->owner,
                                                         "postern import: is it the same");
    if (!shown.ok()) return Stored::Unknown;  // most tenants show nothing
    for (const auto& secret : server.secrets) {
      for (const auto& field : shown.value().fields) {
        if (field.name == secret.field && !equal(field.value, secret.value)) return Stored::Differs;
      }
    }
    return Stored::Same;
  }

  /// Sees to it that there are backends for what is stored.
  sdk::Status prepare_tenant() {
    const bool admin = options_.apply || !owner_options().as_user;
    if (!admin) return {};  // the server refuses what no backend asks for
    POSTERN_TRY(auto client, admin_client(settings_));
    POSTERN_TRY(const auto text, client.manifest(tenant_));
    POSTERN_TRY(const auto has, sdk::parse_json(text));
    const auto wanted = manifest();
    POSTERN_TRY(const auto missing, missing_backends(wanted, *has));
    if (!options_.apply) {
      if (missing.empty()) return {};
      return sdk::fail(ErrorKind::Usage, "there is no backend " + missing.front() +
                                             " yet; --apply makes what is missing, --manifest "
                                             "shows it. Nothing was changed");
    }
    POSTERN_CHECK(client.apply(tenant_, sdk::dump_secret(wanted), {}));
    return {};
  }

  sdk::Status store(const Planned& planned) {
    const auto& server = *planned.server;
    if (planned.stored == Stored::Same) return {};
    if (planned.stored != Stored::New && options_.keep_stored) return {};
    std::vector<sdk::CredentialField> fields;
    for (const auto& secret : server.secrets) {
      fields.push_back({secret.field, secret.value.expose([](ByteView bytes) {
                          return FieldValue(SecureBuffer::copy_of(bytes));
                        })});
    }
    return put(server.credential_name(), fields, planned.version);
  }

  /// Together with what came back until now: whether the file will be rewritten is not known yet.
  sdk::Status store_original(const FileChange& file) {
    const auto name = backup_of(file.path);
    std::uint64_t version = 0;
    POSTERN_TRY(auto backup, backup_until_now(name, version));
    auto& imports = backup.imports;
    // A file that is again what it was takes up from there.
    const auto again = std::find_if(imports.begin(), imports.end(), [&](const Kept& kept) {
      return sdk::view(kept.original) == sdk::view(file.original);
    });
    if (again != imports.end()) imports.erase(imports.begin(), again + 1);
    imports.insert(imports.begin(),
                   {copy_of(sdk::view(file.original)), copy_of(sdk::view(file.rewritten))});
    auto earlier = earlier_text(imports);
    for (; earlier.size() > kMaxImportBytes; earlier = earlier_text(imports)) {
      imports.pop_back();
      say_error("warning: there is no room for what " + printable(file.path) +
                " was before its first import; until more versions follow, version " +
                std::to_string(version) + " of credential " + name + " has it");
    }
    auto paths = file.path;
    for (const auto& other : found_.files) {
      if (other.path != file.path) paths += "\n" + other.path;
    }
    std::vector<sdk::CredentialField> fields;
    const auto add = [&](const char* part, std::string_view text) {
      fields.push_back({part, FieldValue(SecureBuffer::copy_of(text))});
    };
    add("original", sdk::view(file.original));
    add("rewritten", sdk::view(file.rewritten));
    add("earlier", sdk::view(earlier));
    add("path", paths);
    return put(name, fields, version);
  }

  sdk::Result<Backup> backup_until_now(const std::string& name, std::uint64_t& version) {
    POSTERN_TRY(const auto credential, credential_name(name));
    const auto info = access_->client.credential(tenant_, credential, access_->owner);
    if (!info.ok()) {
      if (info.error().status == 404) return Backup();
      return info.error();
    }
    version = info.value().version;
    if (info.value().state != "live") return Backup();
    auto backup = backup_named(settings_, options_, tenant_, name);
    if (backup.ok()) return backup;
    say_error("warning: what --restore put back until now cannot be read, so it stays in version " +
              std::to_string(version) + " of credential " + name +
              " alone: " + printable(backup.error().detail));
    return Backup();
  }

  sdk::Status put(const std::string& name, const std::vector<sdk::CredentialField>& fields,
                  std::optional<std::uint64_t> version) {
    POSTERN_TRY(const auto credential, credential_name(name));
    auto info = access_->client.put_credential(tenant_, credential, access_->owner, fields, {},
                                               version, {}, {});
    if (!info.ok()) {
      auto error = std::move(info).error();
      error.detail = "credential " + name + ": " + error.detail;
      if (error.status == 403 && owner_options().as_user) {
        error.detail +=
            "; an admin applies what `postern import --manifest` shows, or --apply does";
      }
      return error;
    }
    return tell("credential " + printable(name) + ": version " +
                std::to_string(info.value().version) + " stored");
  }

  /// What `postern exec` will be given, before any file depends on it.
  sdk::Status try_releases() {
    if (!releases_) {
      say_error(
          "warning: whether the servers get their variables was not tried: that takes "
          "--client-id, --client-secret-file and --subject-token-file, as `postern exec` does");
      return {};
    }
    const std::string so_far =
        found_.files.empty() ? "; its credential is stored" : "; no file was changed";
    for (const auto& planned : planned_) {
      const auto& server = *planned.server;
      auto item = releases_->ask(server.backend);
      if (!item.ok()) {
        auto error = std::move(item).error();
        error.detail = "backend " + server.backend + ": " + error.detail + so_far;
        return error;
      }
      const auto outcome = compared(server, item.value());
      const bool kept = options_.keep_stored && outcome == Stored::Differs;
      if (outcome != Stored::Same && !kept) {
        return sdk::fail(ErrorKind::Usage, "backend " + server.backend +
                                               " does not deliver what was stored" + so_far);
      }
    }
    return {};
  }

  const Settings& settings_;
  const ImportOptions& options_;
  TenantId tenant_;
  ImportRules rules_;
  std::string only_backend_;
  std::vector<sdk::CredentialField> given_;
  Found found_;
  std::optional<CredentialAccess> access_;
  std::optional<Releases> releases_;
  std::vector<Planned> planned_;
};

// ---- back again ----

sdk::Status restore(const Settings& settings, const ImportOptions& options,
                    const TenantId& tenant) {
  POSTERN_TRY(const auto file, read_host(options.file, kMaxImportBytes));
  const auto name = options.backup.empty() ? backup_of(file.path) : options.backup;
  if (!CredentialName::parse(name).ok() || name.substr(0, 7) != "import-") {
    return sdk::fail(ErrorKind::Usage, "--backup takes the import-… that the import showed");
  }
  const auto stored = backup_named(settings, options, tenant, name);
  if (!stored.ok()) {
    auto error = stored.error();
    if (options.backup.empty() && error.kind == ErrorKind::Refused) {
      error.detail += "; asked for was " + name +
                      ", named after this machine and this path. If either was another at the "
                      "import, give the name that it showed with --backup";
    }
    return error;
  }
  const auto& backup = stored.value();
  const auto& imports = backup.imports;
  const auto text = sdk::view(file.text);
  const auto changed = [&](const std::string& since) {
    return sdk::fail(ErrorKind::Usage, file.path + " was changed since " + since +
                                           ", which --overwrite would undo too");
  };
  auto undone = std::find_if(imports.begin(), imports.end(),
                             [&](const Kept& kept) { return sdk::view(kept.rewritten) == text; });
  if (undone == imports.end()) {
    const auto before = std::find_if(imports.begin(), imports.end(), [&](const Kept& kept) {
      return sdk::view(kept.original) == text;
    });
    if (before != imports.end() && before + 1 == imports.end()) {
      return print(printable(file.path) + " is as it was before its import\n");
    }
    if (!options.overwrite) {
      return changed(before == imports.end()
                         ? "it was imported"
                         : "the import before its last one, before which it is");
    }
    undone = before == imports.end() ? imports.begin() : before + 1;
  }
  if (!options.yes) {
    return print(printable(file.path) + " would be put back; --yes does it\n");
  }
  POSTERN_CHECK(replace_unchanged(file.path, text, sdk::view(undone->original)));
  POSTERN_CHECK(
      print(printable(file.path) + " is as it was before its import, with its secrets\n"));
  if (undone + 1 != imports.end()) {
    say_note("it was imported before that too; --restore --overwrite goes back further");
  }
  for (const auto& other : undone == imports.begin() ? backup.others : std::vector<std::string>()) {
    say_note("the same import rewrote " + printable(other) + ", which has a --restore of its own");
  }
  return {};
}

int finish(const sdk::Status& status) {
  return status.ok() ? exit_code::kOk : report(status.error(), kDoing);
}

}  // namespace

int run_import(const Settings& settings, const ImportOptions& options) {
  auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  if (options.restore) return finish(restore(settings, options, tenant.value()));

  Import import(settings, options, tenant.value());
  if (const auto status = import.read(); !status.ok()) return finish(status);
  import.show_notes();
  if (!import.has_secrets()) return finish(import.show_nothing());
  if (options.manifest) {
    return finish(
        print(import.manifest().dump(2, ' ', true, Json::error_handler_t::replace) + "\n"));
  }
  if (const auto status = import.plan(); !status.ok()) return finish(status);
  if (const auto status = import.show_plan(); !status.ok()) return finish(status);
  if (options.yes) return finish(import.run());
  say_note(
      "nothing was changed; --yes does it. `postern import --manifest` shows the backends that "
      "it needs");
  return exit_code::kOk;
}

}  // namespace postern::cli
