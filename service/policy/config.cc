#include "policy/config.h"

#include <algorithm>
#include <array>
#include <functional>

#include "policy/resource_uri.h"
#include "token/jwk.h"

namespace postern::policy {
namespace {

Error at(const std::string& pointer, std::string detail) {
  Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
  error.pointer = pointer;
  return error;
}

bool printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; });
}

/// Whether a member's name, which is the caller's own text, may stand in a pointer.
bool harmless_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

/// Reads the members of one object, remembering which were asked for, so that
/// finish() can refuse the rest.
class Reader {
 public:
  static Result<Reader> of(const Json& value, std::string pointer) {
    if (!value.is_object()) return at(pointer, "must be an object");
    return Reader(value, std::move(pointer));
  }

  const std::string& pointer() const { return pointer_; }
  std::string below(std::string_view name) const { return pointer_ + "/" + std::string(name); }

  /// Null when absent; an explicit null counts as absent.
  const Json* find(const char* name) {
    known_.insert(name);
    const auto it = value_.find(name);
    return it == value_.end() || it->is_null() ? nullptr : &*it;
  }

  Status text(const char* name, std::string& out, std::size_t max = 2000) {
    const auto* value = find(name);
    if (value == nullptr) return {};
    return read_text(*value, below(name), out, max);
  }
  Status required_text(const char* name, std::string& out, std::size_t max = 2000) {
    if (find(name) == nullptr) return at(below(name), "is required");
    POSTERN_CHECK(text(name, out, max));
    if (out.empty()) return at(below(name), "must not be empty");
    return {};
  }
  Status flag(const char* name, bool& out) {
    const auto* value = find(name);
    if (value == nullptr) return {};
    if (!value->is_boolean()) return at(below(name), "must be true or false");
    out = value->get<bool>();
    return {};
  }
  Status duration(const char* name, seconds& out, std::int64_t low, std::int64_t high) {
    const auto* value = find(name);
    if (value == nullptr) return {};
    const bool whole = value->is_number_integer();
    const bool fits = whole && (!value->is_number_unsigned() ||
                                value->get<std::uint64_t>() <= static_cast<std::uint64_t>(high));
    if (!fits || value->get<std::int64_t>() < low || value->get<std::int64_t>() > high) {
      return at(below(name), "must be a whole number of seconds from " + std::to_string(low) +
                                 " to " + std::to_string(high));
    }
    out = seconds(value->get<std::int64_t>());
    return {};
  }
  using EachText = std::function<Status(const std::string& text, const std::string& pointer)>;
  Status texts(const char* name, const EachText& each, std::size_t max_items = 200) {
    const auto* value = find(name);
    if (value == nullptr) return {};
    if (!value->is_array()) return at(below(name), "must be a list");
    if (value->size() > max_items) {
      return at(below(name), "has more than " + std::to_string(max_items) + " entries");
    }
    for (std::size_t i = 0; i < value->size(); ++i) {
      const auto place = below(name) + "/" + std::to_string(i);
      std::string item;
      POSTERN_CHECK(read_text((*value)[i], place, item, 2000));
      if (item.empty()) return at(place, "must not be empty");
      POSTERN_CHECK(each(item, place));
    }
    return {};
  }
  Status names(const char* name, NameSet& out) {
    return texts(name, [&](const std::string& item, const std::string&) -> Status {
      if (item == "*") {
        out.all = true;
      } else {
        out.names.insert(item);
      }
      return {};
    });
  }

  /// Refuses members that nothing asked for.
  Status finish() const {
    for (const auto& [name, value] : value_.items()) {
      if (known_.count(name) == 0) {
        return at(harmless_name(name) ? below(name) : pointer_, "is not a known member");
      }
    }
    return {};
  }

 private:
  Reader(const Json& value, std::string pointer) : value_(value), pointer_(std::move(pointer)) {}

  static Status read_text(const Json& value, const std::string& place, std::string& out,
                          std::size_t max) {
    if (!value.is_string()) return at(place, "must be text");
    const auto& text = value.get_ref<const std::string&>();
    if (text.size() > max) {
      return at(place, "is longer than " + std::to_string(max) + " bytes");
    }
    if (!printable(text)) return at(place, "has control characters");
    out = text;
    return {};
  }

  const Json& value_;
  std::string pointer_;
  std::set<std::string, std::less<>> known_;
};

bool https_uri(std::string_view text) {
  // Plain http only where it cannot leave the machine.
  const auto ok_prefix = [&](std::string_view prefix) {
    if (text.substr(0, prefix.size()) != prefix) return false;
    const auto rest = text.substr(prefix.size());
    return rest.empty() || rest.front() == '/' || rest.front() == ':';
  };
  const bool scheme = text.substr(0, 8) == "https://" || ok_prefix("http://127.0.0.1") ||
                      ok_prefix("http://localhost") || ok_prefix("http://[::1]");
  return scheme && comparable_resource(text).ok();
}

template <class Enum, std::size_t N>
using Spelling = std::array<std::pair<std::string_view, Enum>, N>;

constexpr Spelling<SubjectTokenType, 3> kTokenTypes{
    {{"access_token", SubjectTokenType::AccessToken},
     {"jwt", SubjectTokenType::Jwt},
     {"id_token", SubjectTokenType::IdToken}}};
constexpr Spelling<GrantType, 2> kGrantTypes{
    {{"token-exchange", GrantType::TokenExchange},
     {"client_credentials", GrantType::ClientCredentials}}};
constexpr Spelling<AnswerKind, 2> kAnswers{
    {{"minted", AnswerKind::Minted}, {"vaulted", AnswerKind::Vaulted}}};
constexpr Spelling<CredentialOwnerRule, 3> kOwnerRules{
    {{"tenant", CredentialOwnerRule::Tenant},
     {"principal", CredentialOwnerRule::Principal},
     {"principal_or_tenant", CredentialOwnerRule::PrincipalOrTenant}}};

template <class Enum, std::size_t N>
Status read_enum(const Spelling<Enum, N>& spelling, const std::string& text,
                 const std::string& pointer, Enum& out) {
  std::string allowed;
  for (const auto& [name, value] : spelling) {
    if (name == text) {
      out = value;
      return {};
    }
    allowed += (allowed.empty() ? "" : ", ") + std::string(name);
  }
  return at(pointer, "must be one of: " + allowed);
}

template <class Enum, std::size_t N>
std::string_view spell(const Spelling<Enum, N>& spelling, Enum value) {
  for (const auto& [name, candidate] : spelling) {
    if (candidate == value) return name;
  }
  return "";
}

Status read_slug(Reader& reader, const char* name, std::string& out) {
  POSTERN_CHECK(reader.required_text(name, out));
  if (!detail::is_slug(out)) {
    return at(reader.below(name), "must be 1 to 63 lower-case letters, digits or hyphens");
  }
  return {};
}

Status read_algorithm(const std::string& text, const std::string& pointer, crypto::Algorithm& out) {
  const auto algorithm = crypto::parse_algorithm(text);
  if (!algorithm) return at(pointer, "is not a supported JWS algorithm");
  out = *algorithm;
  return {};
}

bool variable_name(std::string_view name) {
  const auto letter = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  };
  return !name.empty() && name.size() <= 128 && letter(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

bool header_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  });
}

/// Headers that frame a message or route it: whoever sets them decides what the
/// gateway's other requests look like.
bool framing_header(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  static constexpr std::array kFraming{
      std::string_view("host"),       std::string_view("content-length"),
      std::string_view("connection"), std::string_view("transfer-encoding"),
      std::string_view("te"),         std::string_view("trailer"),
      std::string_view("upgrade"),    std::string_view("keep-alive"),
      std::string_view("expect"),     std::string_view("proxy-connection")};
  return std::find(kFraming.begin(), kFraming.end(), lower) != kFraming.end();
}

Status check_header(const std::string& name, const std::string& pointer) {
  if (!header_name(name)) return at(pointer, "is not a header name");
  if (framing_header(name)) {
    return at(pointer, "this header frames or routes the message and may not be set");
  }
  return {};
}

Status check_variable(const std::string& name, const std::string& pointer) {
  if (!variable_name(name)) return at(pointer, "is not an environment variable name");
  if (hijacking_variable(name)) {
    return at(pointer, "this variable could take over the started program and may not be set");
  }
  return {};
}

Status read_templates(Reader& reader, const char* name, std::map<std::string, Template>& out,
                      const std::function<Status(const std::string&, const std::string&)>& check) {
  const auto* value = reader.find(name);
  if (value == nullptr) return {};
  if (!value->is_object()) return at(reader.below(name), "must be an object");
  if (value->size() > 64) return at(reader.below(name), "has more than 64 entries");
  for (const auto& [key, content] : value->items()) {
    const auto place = reader.below(name) + (harmless_name(key) ? "/" + key : "");
    POSTERN_CHECK(check(key, place));
    if (!content.is_string() || content.get_ref<const std::string&>().size() > 4096) {
      return at(place, "must be text of at most 4096 bytes");
    }
    auto parsed = Template::parse(content.get_ref<const std::string&>());
    if (!parsed.ok()) return at(place, parsed.error().detail);
    out.emplace(key, std::move(parsed).value());
  }
  return {};
}

Result<Delivery> read_delivery(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  Delivery delivery;
  POSTERN_CHECK(read_templates(reader, "env", delivery.env, check_variable));
  POSTERN_CHECK(read_templates(reader, "headers", delivery.headers, check_header));
  for (const auto& [name, content] : delivery.headers) {
    if (!printable(content.source())) {
      return at(reader.below("headers") + (harmless_name(name) ? "/" + name : ""),
                "has control characters");
    }
  }
  if (const auto* files = reader.find("files")) {
    if (!files->is_array() || files->size() > 16) {
      return at(reader.below("files"), "must be a list of at most 16 files");
    }
    for (std::size_t i = 0; i < files->size(); ++i) {
      POSTERN_TRY(auto file, Reader::of((*files)[i], reader.below("files/" + std::to_string(i))));
      DeliveredFile out;
      POSTERN_CHECK(file.required_text("name", out.name, 100));
      if (!detail::is_name(out.name)) {
        return at(file.below("name"), "must be a plain file name without directories");
      }
      POSTERN_CHECK(file.text("env", out.env, 128));
      if (!out.env.empty()) POSTERN_CHECK(check_variable(out.env, file.below("env")));
      const auto* content = file.find("content");
      if (content == nullptr || !content->is_string() ||
          content->get_ref<const std::string&>().size() > 16384) {
        return at(file.below("content"), "must be text of at most 16384 bytes");
      }
      auto parsed = Template::parse(content->get_ref<const std::string&>());
      if (!parsed.ok()) return at(file.below("content"), parsed.error().detail);
      out.content = std::move(parsed).value();
      POSTERN_CHECK(file.finish());
      for (const auto& other : delivery.files) {
        if (other.name == out.name) return at(file.below("name"), "stands twice");
        if (!out.env.empty() && other.env == out.env) return at(file.below("env"), "stands twice");
      }
      if (delivery.env.count(out.env) != 0) {
        return at(file.below("env"), "is set by env already");
      }
      delivery.files.push_back(std::move(out));
    }
  }
  POSTERN_CHECK(reader.finish());
  return delivery;
}

std::set<std::string> fields_of(const Delivery& delivery) {
  std::set<std::string> fields;
  for (const auto& [name, part] : delivery.env) fields.merge(part.fields());
  for (const auto& [name, part] : delivery.headers) fields.merge(part.fields());
  for (const auto& file : delivery.files) fields.merge(file.content.fields());
  return fields;
}

Json write(const NameSet& set) {
  if (set.all) return Json::array({"*"});
  return Json(std::vector<std::string>(set.names.begin(), set.names.end()));
}

}  // namespace

bool hijacking_variable(std::string_view name) {
  using namespace std::string_view_literals;
  // The same as `postern exec` refuses (sdk/cli/environment.cc); a test compares the two.
  constexpr std::array kInherited{"PATH"sv,  "HOME"sv,   "USER"sv,           "LOGNAME"sv,
                                  "SHELL"sv, "LANG"sv,   "LANGUAGE"sv,       "TERM"sv,
                                  "TZ"sv,    "TMPDIR"sv, "XDG_RUNTIME_DIR"sv};
  constexpr std::array kHijacking{
      // shells
      "IFS"sv, "ENV"sv, "SHELLOPTS"sv, "BASHOPTS"sv, "PS4"sv, "PROMPT_COMMAND"sv, "CDPATH"sv,
      "GLOBIGNORE"sv, "ZDOTDIR"sv,
      // the C library
      "GCONV_PATH"sv, "LOCPATH"sv, "NLSPATH"sv, "HOSTALIASES"sv, "RES_OPTIONS"sv, "LOCALDOMAIN"sv,
      "TZDIR"sv, "TERMCAP"sv, "MALLOC_CHECK_"sv,
      // language runtimes
      "_JAVA_OPTIONS"sv, "JDK_JAVA_OPTIONS"sv, "CLASSPATH"sv, "PHPRC"sv, "PHP_INI_SCAN_DIR"sv,
      "R_PROFILE"sv, "R_PROFILE_USER"sv, "R_ENVIRON"sv, "R_ENVIRON_USER"sv, "GOROOT"sv, "GOFLAGS"sv,
      "GOPROXY"sv,
      // programs that others start
      "EDITOR"sv, "VISUAL"sv, "PAGER"sv, "BROWSER"sv, "LESSOPEN"sv, "LESSCLOSE"sv, "SSH_ASKPASS"sv,
      "SUDO_ASKPASS"sv,
      // whom the child talks to, and whom it trusts
      "SSL_CERT_FILE"sv, "SSL_CERT_DIR"sv, "SSLKEYLOGFILE"sv, "OPENSSL_CONF"sv, "OPENSSL_MODULES"sv,
      "OPENSSL_ENGINES"sv, "CURL_HOME"sv, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"sv};
  constexpr std::array kHijackingPrefixes{
      "LC_"sv,   "LD_"sv,         "DYLD_"sv, "GLIBC_"sv,  "TERMINFO"sv, "BASH_"sv,    "PYTHON"sv,
      "NODE_"sv, "NPM_CONFIG_"sv, "YARN_"sv, "BUN_"sv,    "DENO_"sv,    "PERL"sv,     "RUBY"sv,
      "GEM_"sv,  "BUNDLE_"sv,     "JAVA_"sv, "DOTNET_"sv, "COR_"sv,     "CORECLR_"sv, "LUA_"sv,
      "GIT_"sv,  "UV_"sv,         "PIP_"sv,  "XDG_"sv,    "POSTERN_"sv};
  constexpr std::array kHijackingSuffixes{"_PROXY"sv, "_CA_BUNDLE"sv};
  // Programs differ in which case they read (npm_config_x, http_proxy), so case
  // does not count. Who sets a proxy sees the traffic.
  std::string upper(name);
  for (char& c : upper) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  const auto is_one_of = [&](const auto& names) {
    return std::find(names.begin(), names.end(), upper) != names.end();
  };
  return is_one_of(kInherited) || is_one_of(kHijacking) ||
         std::any_of(kHijackingPrefixes.begin(), kHijackingPrefixes.end(),
                     [&](std::string_view prefix) { return upper.starts_with(prefix); }) ||
         std::any_of(kHijackingSuffixes.begin(), kHijackingSuffixes.end(),
                     [&](std::string_view suffix) { return upper.ends_with(suffix); });
}

Result<Template> Template::parse(std::string_view text) {
  Template made;
  made.source_ = text;
  std::string literal;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '\0') return fail(ErrorCode::MalformedRequest, "has a NUL character");
    const bool doubled = i + 1 < text.size() && text[i + 1] == c;
    if ((c == '{' || c == '}') && doubled) {
      literal += c;
      i += 2;
    } else if (c == '}') {
      return fail(ErrorCode::MalformedRequest, "has a } without {; write }} for a brace");
    } else if (c == '{') {
      const auto end = text.find('}', i);
      if (end == std::string_view::npos) {
        return fail(ErrorCode::MalformedRequest, "has a { without }; write {{ for a brace");
      }
      const auto field = text.substr(i + 1, end - i - 1);
      if (!variable_name(field)) {
        return fail(ErrorCode::MalformedRequest, "has a {field} that is not a field name");
      }
      if (!literal.empty()) made.parts_.push_back({false, std::exchange(literal, {})});
      made.parts_.push_back({true, std::string(field)});
      i = end + 1;
    } else {
      literal += c;
      ++i;
    }
  }
  if (!literal.empty()) made.parts_.push_back({false, std::move(literal)});
  return made;
}

std::set<std::string> Template::fields() const {
  std::set<std::string> fields;
  for (const auto& part : parts_) {
    if (part.is_field) fields.insert(part.text);
  }
  return fields;
}

Result<Permission> Permission::parse(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos) {
    return fail(ErrorCode::MalformedRequest, "must have the form backend:scope");
  }
  Permission permission{std::string(text.substr(0, colon)), std::string(text.substr(colon + 1))};
  if (permission.backend != "*" && !detail::is_slug(permission.backend)) {
    return fail(ErrorCode::MalformedRequest, "must begin with a backend name or *");
  }
  if (permission.scope != "*" && !ScopeSet::is_token(permission.scope)) {
    return fail(ErrorCode::MalformedRequest, "must end with a scope token or *");
  }
  return permission;
}

Result<TenantSettings> read_settings(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  TenantSettings settings;
  POSTERN_CHECK(reader.duration("max_token_lifetime", settings.max_token_lifetime, 10, 3600));
  POSTERN_CHECK(reader.text("connect_url", settings.connect_url));
  if (!settings.connect_url.empty()) {
    std::string sample = settings.connect_url;
    if (const auto place = sample.find("{backend}"); place != std::string::npos) {
      sample.replace(place, 9, "backend");
    }
    if (!https_uri(sample)) return at(reader.below("connect_url"), "must be an https URL");
  }
  POSTERN_CHECK(reader.finish());
  return settings;
}

Result<TrustedIssuer> read_issuer(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  TrustedIssuer issuer;
  POSTERN_CHECK(read_slug(reader, "name", issuer.name));
  POSTERN_CHECK(reader.required_text("issuer", issuer.issuer));
  if (!https_uri(issuer.issuer)) {
    return at(reader.below("issuer"), "must be an absolute https URL, exactly as in the iss claim");
  }

  const auto* jwks = reader.find("jwks");
  POSTERN_CHECK(reader.text("jwks_uri", issuer.jwks_uri));
  POSTERN_CHECK(reader.flag("discovery", issuer.discovery));
  const int sources = (jwks != nullptr) + !issuer.jwks_uri.empty() + issuer.discovery;
  if (sources != 1) {
    return at(reader.pointer(), "needs exactly one of jwks, jwks_uri and discovery: true");
  }
  if (!issuer.jwks_uri.empty() && !https_uri(issuer.jwks_uri)) {
    return at(reader.below("jwks_uri"), "must be an absolute https URL");
  }
  if (jwks != nullptr) {
    const auto keys = token::JwkSet::parse(*jwks, token::JwkSet::WeakKeys::Refuse);
    if (!keys.ok()) return at(reader.below("jwks"), keys.error().detail);
    if (keys.value().size() == 0) return at(reader.below("jwks"), "has no usable key");
    issuer.jwks = token::dump_json(*jwks);
  }

  POSTERN_CHECK(reader.texts("algorithms", [&](const auto& text, const auto& place) -> Status {
    crypto::Algorithm algorithm{};
    POSTERN_CHECK(read_algorithm(text, place, algorithm));
    if (std::find(issuer.algorithms.begin(), issuer.algorithms.end(), algorithm) ==
        issuer.algorithms.end()) {
      issuer.algorithms.push_back(algorithm);
    }
    return {};
  }));
  if (reader.find("algorithms") == nullptr) {
    using crypto::Algorithm;
    issuer.algorithms = {Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA};
  }
  if (issuer.algorithms.empty()) return at(reader.below("algorithms"), "must not be empty");
  std::sort(issuer.algorithms.begin(), issuer.algorithms.end());

  POSTERN_CHECK(reader.texts("audiences", [&](const auto& text, const auto&) -> Status {
    issuer.audiences.push_back(text);
    return {};
  }));
  if (issuer.audiences.empty()) {
    return at(reader.below("audiences"),
              "must name the aud values that tokens for this gateway carry");
  }
  std::sort(issuer.audiences.begin(), issuer.audiences.end());

  POSTERN_CHECK(reader.texts("token_types", [&](const auto& text, const auto& place) -> Status {
    SubjectTokenType type{};
    POSTERN_CHECK(read_enum(kTokenTypes, text, place, type));
    issuer.token_types.insert(type);
    return {};
  }));
  if (reader.find("token_types") == nullptr) {
    for (const auto& [name, type] : kTokenTypes) issuer.token_types.insert(type);
  }
  if (issuer.token_types.empty()) return at(reader.below("token_types"), "must not be empty");

  if (const auto* claims = reader.find("claims")) {
    POSTERN_TRY(auto mapping, Reader::of(*claims, reader.below("claims")));
    POSTERN_CHECK(mapping.text("subject", issuer.claims.subject, 200));
    POSTERN_CHECK(mapping.text("groups", issuer.claims.groups, 200));
    POSTERN_CHECK(mapping.text("scope", issuer.claims.scope, 200));
    POSTERN_CHECK(mapping.finish());
    if (issuer.claims.subject.empty()) {
      return at(mapping.below("subject"), "must not be empty");
    }
    // Mutable or reassignable names would let one person inherit another's
    // credentials (a user name against an immutable id).
    const auto& subject = issuer.claims.subject;
    const auto last = subject.substr(subject.front() == '/' ? subject.rfind('/') + 1 : 0);
    for (const char* mutable_claim : {"email", "preferred_username", "upn", "unique_name", "name",
                                      "nickname", "phone_number", "login", "username"}) {
      if (last == mutable_claim) {
        return at(mapping.below("subject"),
                  "must be an immutable identifier such as sub or oid, not a name or e-mail");
      }
    }
  }
  POSTERN_CHECK(reader.text("subject_prefix", issuer.subject_prefix, 32));
  if (!issuer.subject_prefix.empty() &&
      (issuer.subject_prefix.back() != ':' ||
       !detail::is_slug(
           std::string_view(issuer.subject_prefix).substr(0, issuer.subject_prefix.size() - 1)))) {
    return at(reader.below("subject_prefix"),
              "must be lower-case letters, digits or hyphens, then a colon");
  }
  if (reader.find("max_token_age") != nullptr) {
    seconds age{};
    POSTERN_CHECK(reader.duration("max_token_age", age, 10, 86400 * 30));
    issuer.max_token_age = age;
  }
  POSTERN_CHECK(reader.flag("enabled", issuer.enabled));
  POSTERN_CHECK(reader.finish());
  return issuer;
}

Result<Client> read_client(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  Client client;
  std::string text;
  POSTERN_CHECK(reader.required_text("id", text, 200));
  auto id = ClientId::parse(text);
  if (!id.ok()) return at(reader.below("id"), id.error().detail);
  client.id = std::move(id).value();
  POSTERN_CHECK(reader.texts("grants", [&](const auto& item, const auto& place) -> Status {
    GrantType grant{};
    POSTERN_CHECK(read_enum(kGrantTypes, item, place, grant));
    client.grants.insert(grant);
    return {};
  }));
  if (reader.find("grants") == nullptr) client.grants.insert(GrantType::TokenExchange);
  POSTERN_CHECK(reader.names("backends", client.backends));
  POSTERN_CHECK(reader.names("scopes", client.scopes));
  for (const auto& scope : client.scopes.names) {
    if (!ScopeSet::is_token(scope))
      return at(reader.below("scopes"), "has a malformed scope token");
  }
  POSTERN_CHECK(reader.texts("audiences", [&](const auto& item, const auto&) -> Status {
    client.audiences.push_back(item);
    return {};
  }));
  std::sort(client.audiences.begin(), client.audiences.end());
  text.clear();
  POSTERN_CHECK(reader.text("default_backend", text));
  if (!text.empty()) {
    auto backend = BackendId::parse(text);
    if (!backend.ok()) return at(reader.below("default_backend"), backend.error().detail);
    client.default_backend = std::move(backend).value();
  }
  POSTERN_CHECK(reader.flag("enabled", client.enabled));
  POSTERN_CHECK(reader.finish());
  return client;
}

Result<Backend> read_backend(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  Backend backend;
  std::string text;
  POSTERN_CHECK(read_slug(reader, "name", text));
  backend.name = BackendId(text);
  POSTERN_CHECK(reader.required_text("audience", backend.audience));
  if (!comparable_resource(backend.audience).ok()) {
    return at(reader.below("audience"), "must be an absolute URI without fragment");
  }
  POSTERN_CHECK(reader.texts("aliases", [&](const auto& item, const auto&) -> Status {
    backend.aliases.push_back(item);
    return {};
  }));
  std::sort(backend.aliases.begin(), backend.aliases.end());
  POSTERN_CHECK(reader.flag("aud_as_requested", backend.aud_as_requested));
  std::vector<std::string> scopes;
  POSTERN_CHECK(reader.texts(
      "scopes",
      [&](const auto& item, const auto& place) -> Status {
        if (!ScopeSet::is_token(item)) return at(place, "is not a scope token");
        scopes.push_back(item);
        return {};
      },
      ScopeSet::kMaxTokens));
  backend.scopes = ScopeSet(std::move(scopes));
  text = "minted";
  POSTERN_CHECK(reader.text("answer", text));
  POSTERN_CHECK(read_enum(kAnswers, text, reader.below("answer"), backend.answer));
  text = "ES256";
  POSTERN_CHECK(reader.text("signing_algorithm", text));
  using crypto::Algorithm;
  POSTERN_CHECK(read_algorithm(text, reader.below("signing_algorithm"), backend.signing_algorithm));
  if (backend.signing_algorithm != Algorithm::ES256 &&
      backend.signing_algorithm != Algorithm::EdDSA &&
      backend.signing_algorithm != Algorithm::RS256) {
    return at(reader.below("signing_algorithm"), "must be one of: ES256, EdDSA, RS256");
  }
  POSTERN_CHECK(reader.duration("max_expires_in", backend.max_expires_in, 10, 3600));

  if (const auto* credential = reader.find("credential")) {
    POSTERN_TRY(auto reference, Reader::of(*credential, reader.below("credential")));
    std::string name;
    POSTERN_CHECK(reference.required_text("name", name, 200));
    auto parsed = CredentialName::parse(name);
    if (!parsed.ok()) return at(reference.below("name"), parsed.error().detail);
    backend.credential = std::move(parsed).value();
    std::string owner = "principal";
    POSTERN_CHECK(reference.text("owner", owner));
    POSTERN_CHECK(
        read_enum(kOwnerRules, owner, reference.below("owner"), backend.credential_owner));
    POSTERN_CHECK(reference.finish());
  }
  if (const auto* delivery = reader.find("delivery")) {
    POSTERN_TRY(backend.delivery, read_delivery(*delivery, reader.below("delivery")));
  }
  if (backend.answer == AnswerKind::Vaulted && !backend.credential) {
    return at(reader.below("credential"), "is required when answer is vaulted");
  }
  if (backend.answer == AnswerKind::Minted) {
    if (backend.credential) {
      return at(reader.below("credential"), "is only for backends whose answer is vaulted");
    }
    for (const auto& field : fields_of(backend.delivery)) {
      if (field != "access_token") {
        return at(reader.below("delivery"), "a minted answer has only the field {access_token}");
      }
    }
  }
  POSTERN_CHECK(reader.flag("enabled", backend.enabled));
  POSTERN_CHECK(reader.finish());
  return backend;
}

Result<Role> read_role(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  Role role;
  POSTERN_CHECK(read_slug(reader, "name", role.name));
  const auto permissions = [&](const char* name, std::vector<Permission>& out) {
    return reader.texts(name, [&](const auto& item, const auto& place) -> Status {
      auto permission = Permission::parse(item);
      if (!permission.ok()) return at(place, permission.error().detail);
      out.push_back(std::move(permission).value());
      return {};
    });
  };
  POSTERN_CHECK(permissions("allow", role.allow));
  POSTERN_CHECK(permissions("deny", role.deny));
  POSTERN_CHECK(reader.finish());
  return role;
}

Result<Binding> read_binding(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  Binding binding;
  POSTERN_CHECK(read_slug(reader, "role", binding.role));
  binding.name = binding.role;
  if (reader.find("name") != nullptr) POSTERN_CHECK(read_slug(reader, "name", binding.name));
  POSTERN_CHECK(reader.texts("groups", [&](const auto& item, const auto&) -> Status {
    binding.groups.push_back(item);
    return {};
  }));
  if (const auto* subjects = reader.find("subjects")) {
    if (!subjects->is_array() || subjects->size() > 1000) {
      return at(reader.below("subjects"), "must be a list of at most 1000 subjects");
    }
    for (std::size_t i = 0; i < subjects->size(); ++i) {
      POSTERN_TRY(auto subject,
                  Reader::of((*subjects)[i], reader.below("subjects/" + std::to_string(i))));
      Principal principal;
      POSTERN_CHECK(subject.required_text("issuer", principal.issuer));
      POSTERN_CHECK(subject.required_text("subject", principal.subject, 255));
      POSTERN_CHECK(subject.finish());
      binding.subjects.push_back(std::move(principal));
    }
  }
  if (binding.groups.empty() && binding.subjects.empty()) {
    return at(reader.pointer(), "binds the role to nobody; name groups or subjects");
  }
  POSTERN_CHECK(reader.finish());
  return binding;
}

Json write(const TenantSettings& settings) {
  return {{"max_token_lifetime", settings.max_token_lifetime.count()},
          {"connect_url", settings.connect_url}};
}

Json write(const TrustedIssuer& issuer) {
  Json json{{"name", issuer.name},
            {"issuer", issuer.issuer},
            {"audiences", issuer.audiences},
            {"claims",
             {{"subject", issuer.claims.subject},
              {"groups", issuer.claims.groups},
              {"scope", issuer.claims.scope}}},
            {"subject_prefix", issuer.subject_prefix},
            {"enabled", issuer.enabled}};
  for (const auto algorithm : issuer.algorithms) {
    json["algorithms"].push_back(std::string(crypto::to_string(algorithm)));
  }
  for (const auto type : issuer.token_types) {
    json["token_types"].push_back(std::string(spell(kTokenTypes, type)));
  }
  if (!issuer.jwks.empty()) json["jwks"] = Json::parse(issuer.jwks);
  if (!issuer.jwks_uri.empty()) json["jwks_uri"] = issuer.jwks_uri;
  if (issuer.discovery) json["discovery"] = true;
  if (issuer.max_token_age) json["max_token_age"] = issuer.max_token_age->count();
  return json;
}

Json write(const Client& client) {
  Json json{{"id", client.id.str()},
            {"grants", Json::array()},
            {"backends", write(client.backends)},
            {"scopes", write(client.scopes)},
            {"audiences", client.audiences},
            {"enabled", client.enabled}};
  for (const auto grant : client.grants) {
    json["grants"].push_back(std::string(spell(kGrantTypes, grant)));
  }
  if (client.default_backend) json["default_backend"] = client.default_backend->str();
  return json;
}

Json write(const Backend& backend) {
  Json json{{"name", backend.name.str()},
            {"audience", backend.audience},
            {"aliases", backend.aliases},
            {"aud_as_requested", backend.aud_as_requested},
            {"scopes", std::vector<std::string>(backend.scopes.begin(), backend.scopes.end())},
            {"answer", std::string(spell(kAnswers, backend.answer))},
            {"signing_algorithm", std::string(crypto::to_string(backend.signing_algorithm))},
            {"max_expires_in", backend.max_expires_in.count()},
            {"enabled", backend.enabled}};
  if (backend.credential) {
    json["credential"] = {{"name", backend.credential->str()},
                          {"owner", std::string(spell(kOwnerRules, backend.credential_owner))}};
  }
  Json delivery = {{"env", Json::object()}, {"headers", Json::object()}, {"files", Json::array()}};
  for (const auto& [name, part] : backend.delivery.env) delivery["env"][name] = part.source();
  for (const auto& [name, part] : backend.delivery.headers) {
    delivery["headers"][name] = part.source();
  }
  for (const auto& file : backend.delivery.files) {
    Json item{{"name", file.name}, {"content", file.content.source()}};
    if (!file.env.empty()) item["env"] = file.env;
    delivery["files"].push_back(std::move(item));
  }
  json["delivery"] = std::move(delivery);
  return json;
}

Json write(const Role& role) {
  Json json{{"name", role.name}, {"allow", Json::array()}, {"deny", Json::array()}};
  for (const auto& permission : role.allow) {
    json["allow"].push_back(permission.backend + ":" + permission.scope);
  }
  for (const auto& permission : role.deny) {
    json["deny"].push_back(permission.backend + ":" + permission.scope);
  }
  return json;
}

Json write(const Binding& binding) {
  Json json{{"name", binding.name},
            {"role", binding.role},
            {"groups", binding.groups},
            {"subjects", Json::array()}};
  for (const auto& subject : binding.subjects) {
    json["subjects"].push_back({{"issuer", subject.issuer}, {"subject", subject.subject}});
  }
  return json;
}

Status TenantConfig::check() const {
  std::map<std::string, std::string> targets;  // comparable form → backend
  for (const auto& [name, backend] : backends) {
    const auto claim = [&, &owner = name](const std::string& text,
                                          const std::string& pointer) -> Status {
      std::string form = text;
      if (looks_like_uri(text)) {
        auto comparable = comparable_resource(text);
        if (!comparable.ok()) return at(pointer, comparable.error().detail);
        form = std::move(comparable).value();
      }
      const auto [it, fresh] = targets.emplace(form, owner);
      if (!fresh && it->second != owner) {
        return at(pointer, "is already the audience, alias or name of backend " + it->second);
      }
      return {};
    };
    POSTERN_CHECK(claim(name, "/backends/" + name + "/name"));
    POSTERN_CHECK(claim(backend.audience, "/backends/" + name + "/audience"));
    for (std::size_t i = 0; i < backend.aliases.size(); ++i) {
      POSTERN_CHECK(claim(backend.aliases[i], "/backends/" + name + "/aliases"));
    }
  }
  for (const auto& [id, client] : clients) {
    for (const auto& backend : client.backends.names) {
      if (backends.count(backend) == 0) {
        return at("/clients/" + id + "/backends", "names a backend that does not exist");
      }
    }
    if (client.default_backend) {
      if (backends.count(client.default_backend->str()) == 0) {
        return at("/clients/" + id + "/default_backend", "names a backend that does not exist");
      }
      if (!client.backends.contains(client.default_backend->str())) {
        return at("/clients/" + id + "/default_backend", "is not among this client's backends");
      }
    }
  }
  for (const auto& [name, role] : roles) {
    const auto known = [&, &owner = name](const std::vector<Permission>& permissions,
                                          const std::string& member) -> Status {
      for (std::size_t i = 0; i < permissions.size(); ++i) {
        const auto pointer = "/roles/" + owner + "/" + member + "/" + std::to_string(i);
        const auto& permission = permissions[i];
        if (permission.backend == "*") continue;
        const auto backend = backends.find(permission.backend);
        if (backend == backends.end()) return at(pointer, "names a backend that does not exist");
        if (permission.scope != "*" && !backend->second.scopes.contains(permission.scope)) {
          return at(pointer, "names a scope that the backend does not have");
        }
      }
      return {};
    };
    POSTERN_CHECK(known(role.allow, "allow"));
    POSTERN_CHECK(known(role.deny, "deny"));
  }
  for (const auto& [name, binding] : bindings) {
    if (roles.count(binding.role) == 0) {
      return at("/bindings/" + name + "/role", "names a role that does not exist");
    }
    for (const auto& subject : binding.subjects) {
      const bool trusted = std::any_of(issuers.begin(), issuers.end(), [&](const auto& entry) {
        return entry.second.issuer == subject.issuer;
      });
      if (!trusted) {
        return at("/bindings/" + name + "/subjects", "names an issuer that is not trusted here");
      }
    }
  }
  std::map<std::string, std::string> urls;
  std::map<std::string, std::string> prefixes;
  for (const auto& [name, issuer] : issuers) {
    if (!urls.emplace(issuer.issuer, name).second) {
      return at("/issuers/" + name + "/issuer", "is already registered under another name");
    }
    // Backends tell users apart by `sub` alone, so two issuers may not share it.
    if (!prefixes.emplace(issuer.subject_prefix, name).second) {
      return at("/issuers/" + name + "/subject_prefix",
                "must differ from the other issuers': their users could not be told apart");
    }
  }
  return {};
}

}  // namespace postern::policy
