#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "cli/commands.h"
#include "cli/manifest.h"
#include "cli/output.h"
#include "core/ids.h"
#include "postern/secret_file.h"

namespace postern::cli {
namespace {

/// Every manifest of every file, or nothing: all faults have been shown then.
std::optional<std::vector<Document>> read_all(const std::vector<std::string>& files) {
  std::vector<Document> documents;
  std::vector<Fault> faults;
  for (const auto& file : files) {
    auto reading = read_manifests(file);
    std::move(reading.documents.begin(), reading.documents.end(), std::back_inserter(documents));
    std::move(reading.faults.begin(), reading.faults.end(), std::back_inserter(faults));
  }
  if (faults.empty()) {
    std::set<std::string> tenants;
    for (const auto& document : documents) {
      const auto& tenant = document.json()["tenant"].get_ref<const std::string&>();
      if (!tenants.insert(tenant).second) {
        faults.push_back(document.fault("/tenant", "tenant " + tenant + " has a manifest already"));
      }
    }
  }
  if (faults.empty()) return documents;
  for (const auto& fault : faults) say_error(printable(fault.text()));
  say_note("nothing was sent or changed");
  return std::nullopt;
}

TenantId tenant_id(const Document& document) {
  return TenantId(document.json()["tenant"].get_ref<const std::string&>());
}

/// The server's refusal, at the line of the manifest that it is about.
int report_at(const Document& document, const sdk::Error& error, const std::string& doing) {
  if (error.pointer.empty()) return report(error, doing + " " + document.file());
  say_error(printable(document.fault(error.pointer, error.detail).text()));
  if (!error.request_id.empty()) say_note("request: " + printable(error.request_id));
  return exit_code_of(error);
}

sdk::Result<sdk::ApplyResult> send(sdk::Client& client, const Document& document,
                                   sdk::DryRun dry_run, bool prune) {
  sdk::ApplyOptions options;
  options.dry_run = dry_run;
  options.prune = prune ? sdk::Prune::Yes : sdk::Prune::No;
  return client.apply(tenant_id(document), sdk::dump_secret(document.json()), options);
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : ", ") + word;
  return printable(out);
}

/// What a list of the manifest calls its entries, by the kind in an answer.
const Json* find_object(const Json& manifest, const std::string& kind, const std::string& name) {
  if (!manifest.is_object()) return nullptr;
  if (kind == "tenant") return &manifest;
  const auto list = manifest.find(kind + "s");
  if (list == manifest.end() || !list->is_array()) return nullptr;
  for (const auto& entry : *list) {
    if (!entry.is_object()) continue;
    for (const char* key : {"name", "id", "role"}) {  // a binding's name is its role by default
      const auto it = entry.find(key);
      if (it == entry.end()) continue;
      if (*it == name) return &entry;
      break;
    }
  }
  return nullptr;
}

std::string shown_value(const Json* object, const std::string& field) {
  if (field == "secret") return "(not shown)";
  if (object == nullptr) return "(default)";
  const auto it = object->find(field);
  if (it == object->end()) return "(default)";
  auto text = it->dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 120) text = text.substr(0, 117) + "...";
  return printable(text);
}

std::string sign_of(const sdk::Change& change) {
  if (change.action == "create") return "+";
  if (change.action == "update") return "~";
  if (change.action == "delete") return "-";
  return " ";
}

/// One line a change, as `+ backend github`; with `before` also the values.
std::string shown_changes(const sdk::ApplyResult& result, const Json* before, const Json& after) {
  std::string out;
  for (const auto& change : result.changes) {
    if (change.action == "unchanged") continue;
    out += sign_of(change) + " " + printable(change.kind) + " " + printable(change.name);
    std::vector<std::string> fields;
    for (const auto& field : change.fields) {
      fields.push_back(!field.empty() && field[0] == '/' ? field.substr(1) : field);
    }
    if (change.action != "update" || before == nullptr) {
      if (change.action == "update" && !fields.empty()) out += ": " + joined(fields);
      out += "\n";
      continue;
    }
    out += "\n";
    const auto* old_object = find_object(*before, change.kind, change.name);
    const auto* new_object = find_object(after, change.kind, change.name);
    for (const auto& field : fields) {
      out += "    " + printable(field) + ": " + shown_value(old_object, field) + " -> " +
             shown_value(new_object, field) + "\n";
    }
  }
  return out;
}

std::string summary(const sdk::ApplyResult& result) {
  std::size_t created = 0;
  std::size_t updated = 0;
  std::size_t deleted = 0;
  bool new_tenant = result.created;
  for (const auto& change : result.changes) {
    // A dry run does not say `created`: nothing was.
    new_tenant = new_tenant || (change.kind == "tenant" && change.action == "create");
    if (change.action == "create" && change.kind != "tenant") ++created;
    if (change.action == "update") ++updated;
    if (change.action == "delete") ++deleted;
  }
  if (created + updated + deleted == 0 && !new_tenant) return "unchanged";
  std::string out = new_tenant ? "new tenant" : "";
  const auto add = [&](std::size_t count, const char* what) {
    if (count > 0) out += (out.empty() ? "" : ", ") + std::to_string(count) + " " + what;
  };
  add(created, "created");
  add(updated, "updated");
  add(deleted, "deleted");
  return out;
}

void show_hints(const sdk::ApplyResult& result) {
  for (const auto& warning : result.warnings) {
    say_error("warning: tenant " + printable(result.tenant) + ": " + printable(warning));
  }
  for (const auto& name : result.missing_credentials) {
    say_error("tenant " + printable(result.tenant) + " still lacks the shared credential " +
              printable(name));
    say_note("next: postern credential set --tenant " + printable(result.tenant) +
             " --tenant-owned " + printable(name) + " --from-file FIELD=PATH");
  }
}

/// Where new secrets go: files of mode 0600 in one folder, or standard output.
class SecretsFolder {
 public:
  /// Makes the folder (0700) and tries to write into it, before anything is
  /// created that could not be kept afterwards.
  static sdk::Result<SecretsFolder> open(const std::string& path) {
    if (!path.empty()) {
      if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
        return sdk::fail(sdk::ErrorKind::Usage,
                         "cannot make the folder " + path + ": " + std::strerror(errno));
      }
      const auto probe = path + "/.postern-write-test";
      POSTERN_CHECK(sdk::write_secret_file(probe, ""));
      ::unlink(probe.c_str());
    }
    return SecretsFolder(path);
  }

  bool has(const std::string& name) const {
    return ::access((path_ + "/" + name).c_str(), F_OK) == 0;
  }

  /// Keeps one secret: in a file, or, only when there is no folder, on standard output.
  sdk::Status keep(const std::string& name, const std::string& label, ByteView secret) const {
    if (!path_.empty()) {
      const auto file = path_ + "/" + name;
      if (!detail::is_name(name)) {
        return sdk::fail(sdk::ErrorKind::BrokenAnswer, "not a usable file name");
      }
      POSTERN_CHECK(sdk::write_secret_file(file, as_text(secret)));
      say_error(label + " is in " + file);
      return {};
    }
    say_error("warning: " + label + " follows on standard output and is never shown again");
    sdk::SecretBytes line;
    sdk::append(line, label + ": ");
    sdk::append(line, as_text(secret));
    line.push_back('\n');
    return print(sdk::view(line));
  }

 private:
  explicit SecretsFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

/// Keeps as many as it can: what cannot be kept is reported, one by one.
int keep_secrets(sdk::Client& client, const ApplyOptions& options, const SecretsFolder& folder,
                 const sdk::ApplyResult& result, const TenantId& tenant) {
  int code = exit_code::kOk;
  for (const auto& made : result.client_secrets) {
    const auto label = "secret of client " + printable(made.client) + " of tenant " + tenant.str();
    const auto status = made.secret.expose([&](ByteView secret) {
      return folder.keep(tenant.str() + "." + made.client + ".secret", label, secret);
    });
    if (!status.ok()) {
      code = report_lost(status.error(), label,
                         "postern client secret list " + printable(made.client) + " --tenant " +
                             tenant.str() + ", remove it, and add another");
    }
  }
  const auto file = tenant.str() + ".admin.token";
  if (!options.admin_token || folder.has(file)) return code;
  const auto token = client.create_admin_token(tenant, "made by postern apply", {});
  if (!token.ok()) {
    return std::max(code, report(token.error(), "make an admin token of tenant " + tenant.str()));
  }
  const auto status = token.value().token.expose([&](ByteView bytes) {
    return folder.keep(file, "admin token of tenant " + tenant.str(), bytes);
  });
  if (status.ok()) return code;
  return report_lost(status.error(), "admin token of tenant " + tenant.str(),
                     "postern tenant admin-token delete " + printable(token.value().token_id) +
                         " --tenant " + tenant.str() + ", then make another");
}

}  // namespace

int run_apply(const Settings& settings, const ApplyOptions& options) {
  const auto documents = read_all(options.files);
  if (!documents) return exit_code::kUsage;
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), "apply");
  const auto folder = SecretsFolder::open(options.dry_run ? "" : options.secrets_dir);
  if (!folder.ok()) return report(folder.error(), "apply");
  if (!options.dry_run && options.secrets_dir.empty()) {
    // New clients' secrets come with the answer, and only the server knows which are new.
    if (const auto output = check_standard_output(); !output.ok()) {
      return report(output.error(), "apply");
    }
  }

  // Each manifest is atomic on the server. Several are tried first, so that a
  // fault in the last does not leave the others applied.
  if (options.dry_run || documents->size() > 1) {
    int code = exit_code::kOk;
    for (const auto& document : *documents) {
      const auto result = send(client.value(), document, sdk::DryRun::Yes, options.prune);
      if (!result.ok()) {
        code = std::max(code, report_at(document, result.error(), "apply"));
        if (result.error().kind != sdk::ErrorKind::Refused) break;
      } else if (options.dry_run) {
        const auto text = "tenant " + printable(result.value().tenant) + ": " +
                          summary(result.value()) + " (dry run)\n" +
                          shown_changes(result.value(), nullptr, document.json());
        if (const auto status = print(text); !status.ok()) return report(status.error(), "");
        show_hints(result.value());
      }
    }
    if (code != exit_code::kOk) say_note("nothing was changed");
    if (code != exit_code::kOk || options.dry_run) return code;
  }

  int code = exit_code::kOk;
  std::vector<std::string> done;
  for (const auto& document : *documents) {
    const auto result = send(client.value(), document, sdk::DryRun::No, options.prune);
    if (!result.ok()) {
      code = std::max(code, report_at(document, result.error(), "apply"));
      if (!done.empty()) say_note("applied before that: " + joined(done));
      if (result.error().kind != sdk::ErrorKind::Refused) {
        say_note("tenant " + tenant_id(document).str() +
                 " may or may not be changed; apply it again, which is always safe");
      }
      return code;
    }
    done.push_back(tenant_id(document).str());
    // Before anything is printed: the secrets cannot be had again.
    code = std::max(code, keep_secrets(client.value(), options, folder.value(), result.value(),
                                       tenant_id(document)));
    const auto text = "tenant " + printable(result.value().tenant) + ": " +
                      summary(result.value()) + "\n" +
                      shown_changes(result.value(), nullptr, document.json());
    if (const auto status = print(text); !status.ok()) {
      report(status.error(), "");
      return exit_code::kNotKept;
    }
    show_hints(result.value());
  }
  return code;
}

int run_diff(const Settings& settings, const ApplyOptions& options) {
  const auto documents = read_all(options.files);
  if (!documents) return exit_code::kUsage;
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), "compare");

  bool differences = false;
  bool failed = false;
  for (const auto& document : *documents) {
    const auto result = send(client.value(), document, sdk::DryRun::Yes, options.prune);
    if (!result.ok()) {
      report_at(document, result.error(), "compare");
      failed = true;
      if (result.error().kind != sdk::ErrorKind::Refused) break;
      continue;
    }
    sdk::SecretJson before;
    if (result.value().changes_anything()) {
      // For the old values. A tenant that is new has none.
      const auto stored = client.value().manifest(tenant_id(document));
      if (stored.ok()) {
        if (auto json = sdk::parse_json(stored.value()); json.ok()) {
          before = std::move(json).value();
        }
      }
    }
    if (result.value().changes_anything()) {
      differences = true;
      const auto text = "tenant " + printable(result.value().tenant) + "\n" +
                        shown_changes(result.value(), &*before, document.json());
      if (const auto status = print(text); !status.ok()) return report(status.error(), "");
    }
    show_hints(result.value());
  }
  // As kubectl diff: 0 the same, 1 different, 2 could not tell.
  if (failed) return exit_code::kUsage;
  return differences ? 1 : exit_code::kOk;
}

}  // namespace postern::cli
