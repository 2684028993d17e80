#include <algorithm>

#include "cli/import_sources.h"
#include "core/ids.h"
#include "postern/json.h"
#include "postern/secret_file.h"

namespace postern::cli {
namespace {

using sdk::ErrorKind;
using sdk::Json;

constexpr std::size_t kMaxAnswerBytes = 1024 * 1024;
constexpr int kMaxAnswerDepth = 32;

const Json* member(const Json* object, const char* name) {
  if (object == nullptr || !object->is_object()) return nullptr;
  const auto it = object->find(name);
  return it == object->end() ? nullptr : &*it;
}

sdk::Error strange() {
  return sdk::fail(ErrorKind::BrokenAnswer, "an answer is not one of KV version 2");
}

/// As clients of the Vault subset write it: a path is a name with two dots.
std::string credential_of(const std::string& path) {
  std::string name;
  for (const char c : path) {
    if (c == '/') {
      name += "..";
    } else {
      name += c;
    }
  }
  const bool plain = path.find("..") == path.npos && path.find("./") == path.npos &&
                     path.find("/.") == path.npos && path.back() != '.';
  return plain && CredentialName::parse(name).ok() ? name : std::string();
}

/// A path whose segments mean nothing to an HTTP server but themselves.
bool is_plain_path(std::string_view path) {
  if (path.size() > 512) return false;
  std::string rest = std::string(path) + "/";
  while (!rest.empty()) {
    const auto slash = rest.find('/');
    const auto segment = rest.substr(0, slash);
    rest.erase(0, slash + 1);
    if (segment.empty() || segment == "." || segment == "..") return false;
    if (std::any_of(segment.begin(), segment.end(),
                    [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) {
      return false;
    }
  }
  return true;
}

/// Others could be anything, and are not shown.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
  });
}

std::string encoded(std::string_view path) {
  std::string out;
  while (true) {
    const auto slash = path.find('/');
    out += sdk::percent_encode(path.substr(0, slash));
    if (slash == path.npos) return out;
    out += '/';
    path.remove_prefix(slash + 1);
  }
}

class Walk {
 public:
  Walk(sdk::Transport transport, BearerToken token, const VaultSource& source,
       const ImportRules& rules)
      : transport_(std::move(transport)),
        token_(std::move(token)),
        source_(source),
        rules_(rules) {}

  sdk::Result<Found> run() {
    std::string prefix = source_.prefix;
    while (!prefix.empty() && prefix.back() == '/') prefix.pop_back();
    POSTERN_CHECK(folder(prefix, 0));
    return std::move(found_);
  }

 private:
  /// Nothing when there is nothing at that path.
  sdk::Result<std::optional<sdk::HttpAnswer>> get(const std::string& kind, const std::string& path,
                                                  const char* query) {
    sdk::HttpRequest request;
    request.method = "GET";
    request.target = "/v1/" + encoded(source_.mount) + "/" + kind + "/" + encoded(path) + query;
    request.headers.emplace_back("X-Vault-Request", "true");
    if (!source_.name_space.empty()) {
      request.headers.emplace_back("X-Vault-Namespace", source_.name_space);
    }
    request.bearer = &token_;
    POSTERN_TRY(auto answer, transport_.send(request));
    if (answer.status == 404) return std::optional<sdk::HttpAnswer>();
    if (answer.status != 200) {
      auto error = sdk::fail(ErrorKind::Refused, "Vault refused to show " + kind + " of " +
                                                     (path.empty() ? "the mount" : path));
      error.status = answer.status;
      return error;
    }
    return std::optional(std::move(answer));
  }

  sdk::Status folder(const std::string& path, std::size_t depth) {
    if (depth >= kMaxVaultDepth) {
      return sdk::fail(ErrorKind::Usage, "folders deeper than " + std::to_string(kMaxVaultDepth) +
                                             "; name one further down with --prefix");
    }
    POSTERN_TRY(const auto answer, get("metadata", path, "?list=true"));
    if (!answer) {
      if (depth > 0) return {};  // somebody emptied it meanwhile
      // A prefix may name one secret.
      bool there = false;
      if (!path.empty()) {
        POSTERN_TRY(there, secret(path));
      }
      if (there) return {};
      return sdk::fail(ErrorKind::Usage, "there is nothing to read at " + source_.mount + "/" +
                                             path + ", or no KV version 2 is mounted at " +
                                             source_.mount + "; see --mount and --prefix");
    }
    POSTERN_TRY(const auto keys, parse_vault_list(sdk::view(answer->body)));
    for (const auto& key : keys) {
      const bool below = key.back() == '/';
      const auto name = below ? key.substr(0, key.size() - 1) : key;
      const auto child = path.empty() ? name : path + "/" + name;
      if (below) {
        POSTERN_CHECK(folder(child, depth + 1));
      } else {
        POSTERN_CHECK(secret(child));
      }
    }
    return {};
  }

  /// False: there is none, or its latest version is deleted.
  sdk::Result<bool> secret(const std::string& path) {
    if (++secrets_ > kMaxVaultSecrets) {
      return sdk::fail(ErrorKind::Usage, "more than " + std::to_string(kMaxVaultSecrets) +
                                             " secrets; name a folder with --prefix");
    }
    POSTERN_TRY(const auto answer, get("data", path, ""));
    if (!answer) return false;
    POSTERN_TRY(auto server, parse_vault_secret(sdk::view(answer->body), path, rules_));
    if (!server.secrets.empty()) {
      const auto same = [&](const auto& other) { return other.backend == server.backend; };
      if (std::any_of(found_.servers.begin(), found_.servers.end(), same)) {
        return sdk::fail(ErrorKind::Usage, "two paths would be the backend " + server.backend +
                                               "; name one with --backend PATH=BACKEND");
      }
    }
    if (!server.secrets.empty() || !server.notes.empty())
      found_.servers.push_back(std::move(server));
    return true;
  }

  sdk::Transport transport_;
  BearerToken token_;
  const VaultSource& source_;
  const ImportRules& rules_;
  std::size_t secrets_ = 0;
  Found found_;
};

}  // namespace

sdk::Result<std::vector<std::string>> parse_vault_list(std::string_view body) {
  const auto json = sdk::parse_json(body, kMaxAnswerDepth);
  if (!json.ok()) return strange();
  const auto* keys = member(member(&*json.value(), "data"), "keys");
  if (keys == nullptr || !keys->is_array()) return strange();
  std::vector<std::string> out;
  for (const auto& key : *keys) {
    if (!key.is_string()) return strange();
    const auto& name = key.get_ref<const std::string&>();
    const auto plain = name.empty() || name.back() != '/' ? name : name.substr(0, name.size() - 1);
    if (!is_plain_path(plain) || plain.find('/') != plain.npos) return strange();
    out.push_back(name);
  }
  return out;
}

sdk::Result<FoundServer> parse_vault_secret(std::string_view body, const std::string& path,
                                            const ImportRules& rules) {
  const auto json = sdk::parse_json(body, kMaxAnswerDepth);
  if (!json.ok()) return strange();
  const auto* data = member(member(&*json.value(), "data"), "data");
  if (data == nullptr || !data->is_object()) return strange();
  FoundServer server;
  server.name = path;
  for (const auto& [name, value] : data->items()) {
    const auto shown = is_plain_name(name) ? name : std::string("a key");
    if (!value.is_string()) {
      server.notes.push_back(shown + " stays: it is no text");
    } else if (!is_field_name(name)) {
      server.notes.push_back(shown + " stays: no credential can have a field of that name");
    } else if (server.secrets.size() >= kMaxImportFields) {
      server.notes.push_back(shown + " stays: a credential has at most " +
                             std::to_string(kMaxImportFields) + " fields");
    } else if (!value.get_ref<const std::string&>().empty()) {
      auto variable = as_variable(name);
      auto not_that = why_not_delivered(variable);
      const auto same = [&](const FoundSecret& secret) { return secret.variable == variable; };
      if (std::any_of(server.secrets.begin(), server.secrets.end(), same)) {
        not_that = "another key is the variable " + variable;
      }
      if (!not_that.empty()) {
        server.notes.push_back(name + " is stored, and not delivered: " + not_that);
        variable.clear();
      }
      server.secrets.push_back({name,
                                variable,
                                {},
                                "it is in Vault",
                                FieldValue(SecureBuffer::copy_of(
                                    std::string_view(value.get_ref<const std::string&>())))});
    }
  }
  if (!server.secrets.empty()) {
    POSTERN_TRY(server.backend, backend_of(path, rules));
    server.credential = credential_of(path);
  }
  return server;
}

sdk::Result<Found> read_vault(const VaultSource& source, const ImportRules& rules) {
  if (source.token_file.empty()) {
    return sdk::fail(ErrorKind::Usage, "which token? name the file with --vault-token-file");
  }
  const auto plain_prefix = source.prefix.empty() || is_plain_path(source.prefix) ||
                            (source.prefix.back() == '/' &&
                             is_plain_path(source.prefix.substr(0, source.prefix.size() - 1)));
  if (!is_plain_path(source.mount) || !plain_prefix) {
    return sdk::fail(ErrorKind::Usage, "mount and prefix are paths without empty segments or dots");
  }
  if (!source.name_space.empty() && !is_plain_path(source.name_space)) {
    return sdk::fail(ErrorKind::Usage, "the namespace is not a path");
  }
  POSTERN_TRY(auto token, sdk::read_token_file(source.token_file, "Vault token"));
  sdk::TransportOptions options;
  options.url = source.url;
  options.ca_file = source.ca_file;
  options.max_answer_bytes = kMaxAnswerBytes;
  POSTERN_TRY(auto transport, sdk::Transport::create(std::move(options)));
  return Walk(std::move(transport), BearerToken(std::move(token)), source, rules).run();
}

}  // namespace postern::cli
