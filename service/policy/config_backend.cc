#include <algorithm>
#include <array>

#include "core/variables.h"
#include "policy/config_reader.h"
#include "policy/resource_uri.h"

namespace postern::policy {

using namespace config;

namespace {

constexpr Spelling<AnswerKind, 2> kAnswers{
    {{"minted", AnswerKind::Minted}, {"vaulted", AnswerKind::Vaulted}}};
constexpr Spelling<CredentialOwnerRule, 3> kOwnerRules{
    {{"tenant", CredentialOwnerRule::Tenant},
     {"principal", CredentialOwnerRule::Principal},
     {"principal_or_tenant", CredentialOwnerRule::PrincipalOrTenant}}};

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

Status check_any_variable(const std::string& name, const std::string& pointer) {
  if (!variable_name(name)) return at(pointer, "is not an environment variable name");
  if (hijacking_variable(name)) {
    return at(pointer, "this variable could take over the started program and may not be set");
  }
  return {};
}

Status check_variable(const std::string& name, const std::string& pointer) {
  if (names_a_steering_file(name)) return at(pointer, "this variable may only name a file here");
  return check_any_variable(name, pointer);
}

/// A kubeconfig may name a program to start: no user may write into it.
Status check_steering_files(const Backend& backend, const std::string& pointer) {
  if (backend.answer != AnswerKind::Vaulted) return {};  // the fields are ours
  if (backend.credential_owner == CredentialOwnerRule::Tenant) return {};
  for (std::size_t i = 0; i < backend.delivery.files.size(); ++i) {
    const auto& file = backend.delivery.files[i];
    if (names_a_steering_file(file.env) && !file.content.fields().empty()) {
      return at(pointer + "/delivery/files/" + std::to_string(i) + "/env",
                "this file can name programs to start, so only a credential with owner tenant "
                "may be written into it");
    }
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
    if (has_control_characters(content.source())) {
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
      if (!out.env.empty()) POSTERN_CHECK(check_any_variable(out.env, file.below("env")));
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

}  // namespace

std::set<std::string> Delivery::fields() const {
  std::set<std::string> all;
  for (const auto& [name, part] : env) all.merge(part.fields());
  for (const auto& [name, part] : headers) all.merge(part.fields());
  for (const auto& file : files) all.merge(file.content.fields());
  return all;
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
  POSTERN_CHECK(reader.texts("scope_patterns", [&](const auto& item, const auto& place) -> Status {
    const bool ends_well = item.ends_with("/*") || item.ends_with(":*");
    if (!ends_well || !is_resource_token(std::string_view(item).substr(0, item.size() - 2))) {
      return at(place, "must be text such as user/ and then *");
    }
    backend.scope_patterns.push_back(item);
    return {};
  }));
  std::sort(backend.scope_patterns.begin(), backend.scope_patterns.end());
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
  POSTERN_CHECK(reader.text("token_field", backend.token_field, 128));
  if (!backend.token_field.empty() && !variable_name(backend.token_field)) {
    return at(reader.below("token_field"), "is not the name of a credential field");
  }
  if (const auto* require = reader.find("require")) {
    POSTERN_TRY(auto demand, Reader::of(*require, reader.below("require")));
    POSTERN_CHECK(read_sorted(demand, "acr", backend.require.acr));
    for (const auto& acr : backend.require.acr) {
      // They are sent as one space-separated text (RFC 9470 §3).
      if (!ScopeSet::is_token(acr)) {
        return at(demand.below("acr"), "has a value with a space, quote or backslash");
      }
    }
    POSTERN_CHECK(read_sorted(demand, "amr", backend.require.amr));
    if (demand.find("max_auth_age") != nullptr) {
      seconds age{};
      POSTERN_CHECK(demand.duration("max_auth_age", age, 10, 86400 * 30));
      backend.require.max_auth_age = age;
    }
    POSTERN_CHECK(demand.finish());
  }
  if (backend.answer == AnswerKind::Vaulted && !backend.credential) {
    return at(reader.below("credential"), "is required when answer is vaulted");
  }
  if (backend.answer == AnswerKind::Vaulted && !backend.scope_patterns.empty()) {
    return at(reader.below("scope_patterns"), "is only for minted answers: a credential is whole");
  }
  if (backend.answer == AnswerKind::Minted) {
    if (!backend.token_field.empty()) {
      return at(reader.below("token_field"), "is only for backends whose answer is vaulted");
    }
    if (backend.credential) {
      return at(reader.below("credential"), "is only for backends whose answer is vaulted");
    }
    for (const auto& field : backend.delivery.fields()) {
      if (field != "access_token") {
        return at(reader.below("delivery"), "a minted answer has only the field {access_token}");
      }
    }
  }
  POSTERN_CHECK(check_steering_files(backend, pointer));
  POSTERN_CHECK(reader.flag("enabled", backend.enabled));
  POSTERN_CHECK(reader.finish());
  return backend;
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
  if (!backend.scope_patterns.empty()) json["scope_patterns"] = backend.scope_patterns;
  if (backend.credential) {
    json["credential"] = {{"name", backend.credential->str()},
                          {"owner", std::string(spell(kOwnerRules, backend.credential_owner))}};
  }
  if (!backend.token_field.empty()) json["token_field"] = backend.token_field;
  if (backend.require.any()) {
    Json demand{{"acr", backend.require.acr}, {"amr", backend.require.amr}};
    if (backend.require.max_auth_age)
      demand["max_auth_age"] = backend.require.max_auth_age->count();
    json["require"] = std::move(demand);
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

}  // namespace postern::policy
