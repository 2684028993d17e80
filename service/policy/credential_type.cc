#include "policy/credential_type.h"

#include <algorithm>
#include <array>
#include <span>

#include "core/text.h"
#include "crypto/certificate.h"
#include "crypto/private_key.h"
#include "token/json.h"

namespace postern::policy {
namespace {

using token::Json;

/// Why a value is not of its format; null when it is.
using Format = const char* (*)(std::string_view value);

struct Field {
  std::string_view name;
  bool required;
  Format format;
};

bool has_control_or_blank(std::string_view text) {
  return has_control_characters(text) || text.find(' ') != text.npos;
}
bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// ---- formats ----

const char* anything(std::string_view) { return nullptr; }

const char* line(std::string_view text) {
  return has_control_characters(text) ? "must be one line without control characters" : nullptr;
}
const char* word(std::string_view text) {
  return has_control_or_blank(text) ? "must have no white space and no control characters"
                                    : nullptr;
}
/// RFC 7617 §2: a colon would end it.
const char* user_name(std::string_view text) {
  if (text.find(':') != text.npos) return "must have no colon";
  return line(text);
}

const char* https_url(std::string_view text) {
  constexpr std::string_view kScheme = "https://";
  return text.starts_with(kScheme) && text.size() > kScheme.size() && text[kScheme.size()] != '/' &&
                 word(text) == nullptr
             ? nullptr
             : "must be an https URL";
}

const char* private_key(std::string_view text) {
  const auto form = crypto::private_key_form(text);
  return form && !form->openssh ? nullptr : "must be one private key in PEM that OpenSSL reads";
}
const char* ssh_private_key(std::string_view text) {
  return crypto::private_key_form(text) ? nullptr
                                        : "must be one private key in OpenSSH's form or in PEM";
}
const char* certificate(std::string_view text) {
  return crypto::Certificate::from_pem(text).ok() ? nullptr : "must begin with a PEM certificate";
}

/// `%` is followed by two hexadecimal digits.
bool well_encoded(std::string_view text) {
  const auto hex = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') continue;
    if (i + 2 >= text.size() || !hex(text[i + 1]) || !hex(text[i + 2])) return false;
  }
  return true;
}

/// scheme://user:password@host[:port][/…][?…]
const char* database_url(std::string_view url) {
  constexpr const char* kShape = "must be a URL such as postgresql://user:password@host:5432/name";
  if (has_control_or_blank(url)) return kShape;
  const auto colon = url.find("://");
  if (colon == url.npos || colon == 0) return kShape;
  const auto scheme = url.substr(0, colon);
  const bool named = std::all_of(scheme.begin(), scheme.end(), [](char c) {
    return is_alphanumeric(c) || c == '+' || c == '-' || c == '.';
  });
  if (!named) return kShape;
  const auto rest = url.substr(colon + 3);
  const auto authority = rest.substr(0, std::min(rest.find_first_of("/?#"), rest.size()));
  const auto at = authority.find('@');
  if (at == authority.npos) return "must hold a user and a password";
  const auto user_info = authority.substr(0, at);
  const auto host = authority.substr(at + 1);
  if (host.find('@') != host.npos) return "must have each @ of its password as %40";
  const auto divider = user_info.find(':');
  if (divider == user_info.npos || divider == 0 || divider + 1 == user_info.size()) {
    return "must hold a user and a password";
  }
  if (!well_encoded(user_info)) return "must have each % of user and password as %25";
  if (host.empty() || host.front() == ':') return "must name a host";
  return nullptr;
}

/// Wiped when it goes.
struct ParsedJson {
  explicit ParsedJson(std::string_view text) {
    if (auto parsed = token::parse_json(text); parsed.ok()) json = std::move(parsed).value();
  }
  ~ParsedJson() { token::wipe_texts(json); }
  ParsedJson(const ParsedJson&) = delete;
  ParsedJson& operator=(const ParsedJson&) = delete;

  std::string_view text(const char* name) const {
    const auto it = json.find(name);
    return it != json.end() && it->is_string() ? std::string_view(it->get_ref<const std::string&>())
                                               : std::string_view();
  }
  bool has_list(const char* name) const {
    const auto it = json.find(name);
    return it != json.end() && it->is_array() && !it->empty();
  }
  Json json = nullptr;
};

const char* service_account(std::string_view text) {
  const ParsedJson account(text);
  if (!account.json.is_object()) return "must be one JSON object";
  if (account.text("type") != "service_account") return "must have type service_account";
  for (const char* name : {"project_id", "private_key_id", "client_email"}) {
    if (account.text(name).empty()) {
      return "must have the members project_id, private_key_id and client_email";
    }
  }
  if (https_url(account.text("token_uri")) != nullptr) return "must have an https token_uri";
  if (private_key(account.text("private_key")) != nullptr) {
    return "must have a private_key that OpenSSL reads";
  }
  return nullptr;
}

/// YAML is looked at no further than its top level: nothing here uses it, and a
/// parser of all of it would be one more to attack.
const char* kubeconfig(std::string_view text) {
  constexpr const char* kShape =
      "must be a kubeconfig: apiVersion v1, kind Config, clusters, users and contexts";
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first != text.npos && text[first] == '{') {
    const ParsedJson config(text);
    const bool complete = config.json.is_object() && config.text("apiVersion") == "v1" &&
                          config.text("kind") == "Config" && config.has_list("clusters") &&
                          config.has_list("users") && config.has_list("contexts");
    return complete ? nullptr : kShape;
  }
  std::array seen{false, false, false, false, false};
  constexpr std::array<std::string_view, 5> kLines{"apiVersion: v1", "kind: Config",
                                                   "clusters:", "users:", "contexts:"};
  while (!text.empty()) {
    auto one = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(one.size() + 1, text.size()));
    if (one.starts_with('\t')) return "must not be indented with tabs";
    while (!one.empty() && (one.back() == '\r' || one.back() == ' ')) one.remove_suffix(1);
    for (std::size_t i = 0; i < kLines.size(); ++i) {
      if (one != kLines[i]) continue;
      if (seen[i]) return kShape;
      seen[i] = true;
    }
  }
  return std::all_of(seen.begin(), seen.end(), [](bool each) { return each; }) ? nullptr : kShape;
}

// ---- types ----

constexpr Field kApiKey[] = {{"api_key", true, word}, {"username", false, line}};
constexpr Field kBasic[] = {{"username", true, user_name}, {"password", true, line}};
constexpr Field kOauth[] = {{"access_token", false, word},        {"refresh_token", false, word},
                            {"client_id", false, line},           {"client_secret", false, line},
                            {"token_endpoint", false, https_url}, {"scope", false, line},
                            {"token_type", false, word},          {"id_token", false, word}};
constexpr Field kPemKey[] = {{"private_key", true, private_key},
                             {"passphrase", false, anything},
                             {"certificate", false, certificate}};
constexpr Field kSshKey[] = {{"private_key", true, ssh_private_key},
                             {"passphrase", false, anything},
                             {"username", false, word},
                             {"known_hosts", false, anything}};
constexpr Field kKubeconfig[] = {{"kubeconfig", true, kubeconfig}};
constexpr Field kServiceAccount[] = {{"service_account_json", true, service_account}};
constexpr Field kDatabaseUrl[] = {{"url", true, database_url}};

struct Type {
  std::string_view name;
  std::span<const Field> fields;  ///< none: any
};
constexpr Type kTypes[] = {{"generic", {}},
                           {"api_key", kApiKey},
                           {"basic", kBasic},
                           {"oauth", kOauth},
                           {"pem_key", kPemKey},
                           {"ssh_key", kSshKey},
                           {"kubeconfig", kKubeconfig},
                           {"service_account", kServiceAccount},
                           {"database_url", kDatabaseUrl}};

const Type* find_type(std::string_view name) {
  const auto it = std::find_if(std::begin(kTypes), std::end(kTypes),
                               [&](const Type& type) { return type.name == name; });
  return it == std::end(kTypes) ? nullptr : it;
}

Error at(std::string_view field, std::string detail) {
  Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
  error.pointer = "/fields";
  if (!field.empty()) error.pointer += "/" + std::string(field);
  return error;
}

std::string names_of(std::span<const Field> fields) {
  std::string out;
  for (const auto& field : fields) out += (out.empty() ? "" : ", ") + std::string(field.name);
  return out;
}

/// A key that is encrypted needs its passphrase, and one that is not has none.
Status check_passphrase(const vault::Fields& fields) {
  const bool encrypted = fields.find("private_key")->second.expose([](ByteView bytes) {
    const auto form = crypto::private_key_form(as_text(bytes));
    return form && form->encrypted;
  });
  const bool given = fields.count("passphrase") != 0;
  if (encrypted == given) return {};
  return at("passphrase", encrypted ? "is missing: the private key is encrypted"
                                    : "is given, and the private key is not encrypted");
}

}  // namespace

bool is_credential_type(std::string_view name) { return find_type(name) != nullptr; }

std::string credential_types() {
  std::string out;
  for (const auto& type : kTypes) out += (out.empty() ? "" : ", ") + std::string(type.name);
  return out;
}

Status check_fields(std::string_view type_name, const vault::Fields& fields) {
  const auto* type = find_type(type_name);
  if (type == nullptr) {
    return fail(ErrorCode::Conflict, "the credential is of a type that this release does not know");
  }
  if (type->fields.empty()) return {};
  for (const auto& [name, value] : fields) {
    const auto field = std::find_if(type->fields.begin(), type->fields.end(),
                                    [&, &is = name](const Field& each) { return each.name == is; });
    if (field == type->fields.end()) {
      return at("", "a credential of this type has only the fields " + names_of(type->fields));
    }
    const auto* problem =
        value.expose([&](ByteView bytes) { return field->format(as_text(bytes)); });
    if (problem != nullptr) return at(field->name, problem);
  }
  for (const auto& field : type->fields) {
    if (field.required && fields.find(std::string(field.name)) == fields.end()) {
      return at(field.name, "is missing");
    }
  }
  if (type_name == "oauth" && fields.count("access_token") + fields.count("refresh_token") == 0) {
    return at("", "must have an access_token or a refresh_token");
  }
  if (type_name == "pem_key" || type_name == "ssh_key") return check_passphrase(fields);
  return {};
}

}  // namespace postern::policy
