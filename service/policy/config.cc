#include "policy/config.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "policy/config_reader.h"
#include "policy/resource_uri.h"

namespace postern::policy {

using namespace config;

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
  POSTERN_CHECK(check_scope_pattern(permission.scope, Variables::Allow));
  return permission;
}

bool Transit::allows(std::string_view client, std::string_view key,
                     std::optional<TransitOperation> operation) const {
  return std::any_of(rules.begin(), rules.end(), [&](const Rule& rule) {
    return rule.clients.count(client) > 0 && rule.keys.contains(key) &&
           (!operation || rule.operations.count(*operation) > 0);
  });
}

namespace {

constexpr Spelling<TransitOperation, 7> kTransitOperations{
    {{"encrypt", TransitOperation::Encrypt},
     {"decrypt", TransitOperation::Decrypt},
     {"rewrap", TransitOperation::Rewrap},
     {"sign", TransitOperation::Sign},
     {"verify", TransitOperation::Verify},
     {"hmac", TransitOperation::Hmac},
     {"datakey", TransitOperation::DataKey}}};

Result<Transit::Rule> read_transit_rule(const Json& value, const std::string& pointer,
                                        const VaultApi& api) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  Transit::Rule rule;
  POSTERN_CHECK(reader.texts("clients", [&](const auto& text, const auto& place) -> Status {
    if (api.clients.count(text) == 0) return at(place, "is no client that may log in");
    rule.clients.insert(text);
    return {};
  }));
  POSTERN_CHECK(reader.names("keys", rule.keys));
  POSTERN_CHECK(reader.texts("operations", [&](const auto& text, const auto& place) -> Status {
    auto operation = TransitOperation::Encrypt;
    POSTERN_CHECK(read_enum(kTransitOperations, text, place, operation));
    rule.operations.insert(operation);
    return {};
  }));
  POSTERN_CHECK(reader.finish());
  if (rule.clients.empty() || rule.operations.empty() ||
      (rule.keys.names.empty() && !rule.keys.all)) {
    return at(pointer, "names clients, keys and operations");
  }
  return rule;
}

Result<Transit> read_transit(const Json& value, const std::string& pointer, const VaultApi& api) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  Transit transit;
  if (const auto* rules = reader.find("rules")) {
    const auto place = reader.below("rules");
    if (!rules->is_array()) return at(place, "must be a list");
    if (rules->size() > 200) return at(place, "has more than 200 entries");
    for (std::size_t i = 0; i < rules->size(); ++i) {
      POSTERN_TRY(auto rule, read_transit_rule((*rules)[i], place + "/" + std::to_string(i), api));
      transit.rules.push_back(std::move(rule));
    }
  }
  POSTERN_CHECK(reader.finish());
  return transit;
}

Json write(const Transit& transit) {
  Json rules = Json::array();
  for (const auto& rule : transit.rules) {
    Json operations = Json::array();
    for (const auto operation : rule.operations) {
      operations.push_back(spell(kTransitOperations, operation));
    }
    rules.push_back({{"clients", rule.clients},
                     {"keys", config::write(rule.keys)},
                     {"operations", std::move(operations)}});
  }
  return {{"rules", std::move(rules)}};
}

Result<View> read_view(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  std::string path;
  POSTERN_CHECK(reader.required_text("path", path));
  std::string name;
  POSTERN_CHECK(reader.text("backend", name));
  POSTERN_CHECK(reader.finish());
  std::optional<BackendId> backend;
  if (!name.empty()) {
    auto parsed = BackendId::parse(name);
    if (!parsed.ok()) return at(reader.below("backend"), parsed.error().detail);
    backend = std::move(parsed).value();
  }
  auto view = View::parse(path, std::move(backend));
  if (!view.ok()) return at(reader.below("path"), view.error().detail);
  return view;
}

Result<Views> read_views(const Json& value, const std::string& pointer) {
  if (!value.is_array()) return at(pointer, "must be a list");
  if (value.size() > Views::kMost) return at(pointer, "has more than 50 entries");
  Views views;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const auto place = pointer + "/" + std::to_string(i);
    POSTERN_TRY(auto view, read_view(value[i], place));
    if (const auto added = views.add(std::move(view)); !added.ok()) {
      return at(place + "/path", added.error().detail);
    }
  }
  return views;
}

Json write(const Views& views) {
  Json list = Json::array();
  for (const auto& view : views.all()) {
    Json one{{"path", view.path()}};
    if (view.backend()) one["backend"] = view.backend()->str();
    list.push_back(std::move(one));
  }
  return list;
}

}  // namespace

Result<VaultApi> read_vault_api(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  VaultApi api;
  if (reader.find("mount") != nullptr) POSTERN_CHECK(read_slug(reader, "mount", api.mount));
  // Vault's own, which are not ours to shadow.
  if (api.mount == "sys" || api.mount == "auth" || api.mount == "identity" ||
      api.mount == "transit") {
    return at(reader.below("mount"), "is a path that Vault has for itself");
  }
  POSTERN_CHECK(reader.texts("clients", [&](const auto& text, const auto& place) -> Status {
    if (!detail::is_name(text)) return at(place, "must be the id of a client");
    api.clients.insert(text);
    return {};
  }));
  if (const auto* transit = reader.find("transit")) {
    POSTERN_TRY(api.transit, read_transit(*transit, reader.below("transit"), api));
  }
  if (const auto* views = reader.find("views")) {
    POSTERN_TRY(api.views, read_views(*views, reader.below("views")));
  }
  POSTERN_CHECK(reader.finish());
  return api;
}

Result<TenantSettings> read_settings(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  TenantSettings settings;
  POSTERN_CHECK(reader.duration("max_token_lifetime", settings.max_token_lifetime, 10, 3600));
  POSTERN_CHECK(reader.flag("reveal", settings.reveal));
  std::vector<std::string> scopes;
  POSTERN_CHECK(reader.texts(
      "api_scopes",
      [&](const auto& text, const auto& place) -> Status {
        if (!ScopeSet::is_token(text)) return at(place, "is not a scope token");
        if (text.starts_with("postern:")) return at(place, "is the name of a token that we make");
        scopes.push_back(text);
        return {};
      },
      20));
  settings.api_scopes = ScopeSet(std::move(scopes));
  POSTERN_CHECK(reader.text("connect_url", settings.connect_url));
  if (!settings.connect_url.empty()) {
    std::string sample = settings.connect_url;
    if (const auto place = sample.find("{backend}"); place != std::string::npos) {
      sample.replace(place, 9, "backend");
    }
    if (!https_uri(sample)) return at(reader.below("connect_url"), "must be an https URL");
  }
  if (const auto* guardrails = reader.find("guardrails")) {
    POSTERN_TRY(settings.guardrails, read_guardrails(*guardrails, reader.below("guardrails")));
  }
  if (const auto* registration = reader.find("registration")) {
    POSTERN_TRY(settings.registration,
                read_registration(*registration, reader.below("registration")));
  }
  if (const auto* api = reader.find("vault_api")) {
    POSTERN_TRY(settings.vault_api, read_vault_api(*api, reader.below("vault_api")));
  }
  POSTERN_CHECK(reader.finish());
  return settings;
}

Result<Role> read_role(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  Role role;
  POSTERN_CHECK(read_slug(reader, "name", role.name));
  const auto permissions = [&](const char* name, std::vector<Permission>& out,
                               Variables variables) {
    return reader.texts(name, [&out, variables](const auto& item, const auto& place) -> Status {
      auto permission = Permission::parse(item);
      if (!permission.ok()) return at(place, permission.error().detail);
      if (auto taken = check_scope_pattern(permission.value().scope, variables); !taken.ok()) {
        return at(place, taken.error().detail);
      }
      out.push_back(std::move(permission).value());
      return {};
    });
  };
  POSTERN_CHECK(permissions("allow", role.allow, Variables::Allow));
  // A deny that a user's own name could keep from matching would deny nothing.
  POSTERN_CHECK(permissions("deny", role.deny, Variables::Refuse));
  POSTERN_CHECK(reader.texts("tools", [&](const auto& item, const auto& place) -> Status {
    auto permission = ToolPermission::parse(item);
    if (!permission.ok()) return at(place, permission.error().detail);
    // Said twice, perhaps in either spelling, it is said once.
    if (std::find(role.tools.begin(), role.tools.end(), permission.value()) == role.tools.end()) {
      role.tools.push_back(std::move(permission).value());
    }
    return {};
  }));
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
  std::sort(binding.groups.begin(), binding.groups.end());
  binding.groups.erase(std::unique(binding.groups.begin(), binding.groups.end()),
                       binding.groups.end());
  if (reader.find("issuer") != nullptr) POSTERN_CHECK(read_slug(reader, "issuer", binding.issuer));
  POSTERN_CHECK(read_claim_rules(reader, "claims", binding.claims));
  if (binding.groups.empty() && binding.subjects.empty() && binding.claims.empty()) {
    return at(reader.pointer(), "binds the role to nobody; name groups, subjects or claims");
  }
  POSTERN_CHECK(reader.finish());
  return binding;
}

Json write(const VaultApi& api) {
  Json json{{"mount", api.mount}};
  if (!api.clients.empty()) json["clients"] = api.clients;
  if (api.transit) json["transit"] = write(*api.transit);
  if (!api.views.empty()) json["views"] = write(api.views);
  return json;
}

Json write(const TenantSettings& settings) {
  Json json{{"max_token_lifetime", settings.max_token_lifetime.count()},
            {"connect_url", settings.connect_url}};
  if (settings.guardrails != Guardrails{}) json["guardrails"] = write(settings.guardrails);
  if (settings.registration) json["registration"] = write(*settings.registration);
  if (settings.reveal) json["reveal"] = true;
  if (!settings.api_scopes.empty()) {
    json["api_scopes"] =
        std::vector<std::string>(settings.api_scopes.begin(), settings.api_scopes.end());
  }
  if (settings.vault_api) json["vault_api"] = write(*settings.vault_api);
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
  for (const auto& permission : role.tools) json["tools"].push_back(permission.str());
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
  if (!binding.issuer.empty()) json["issuer"] = binding.issuer;
  if (!binding.claims.empty()) json["claims"] = binding.claims;
  return json;
}

namespace {

bool could_match(const std::string& pattern, const Backend& backend) {
  const auto overlaps = [&](const std::string& other) { return patterns_overlap(pattern, other); };
  return std::any_of(backend.scopes.begin(), backend.scopes.end(), overlaps) ||
         std::any_of(backend.scope_patterns.begin(), backend.scope_patterns.end(), overlaps);
}

}  // namespace

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
    for (const auto& backend : client.introspects.names) {
      if (backends.count(backend) == 0) {
        return at("/clients/" + id + "/introspects", "names a backend that does not exist");
      }
    }
    if (const auto& workload = client.authentication.workload;
        workload && issuers.count(workload->issuer) == 0) {
      return at("/clients/" + id + "/authentication", "names an issuer that does not exist");
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
  if (settings.registration) {
    for (const auto& backend : settings.registration->backends.names) {
      if (backends.count(backend) == 0) {
        return at("/settings/registration/backends", "names a backend that does not exist");
      }
    }
  }
  if (settings.vault_api) {
    const auto& views = settings.vault_api->views.all();
    for (std::size_t i = 0; i < views.size(); ++i) {
      if (!views[i].backend()) continue;
      const auto pointer = "/settings/vault_api/views/" + std::to_string(i) + "/backend";
      const auto backend = backends.find(views[i].backend()->str());
      if (backend == backends.end()) return at(pointer, "names a backend that does not exist");
      if (backend->second.answer != AnswerKind::Vaulted) {
        return at(pointer, "names a backend that takes no stored credential");
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
        if (permission.scope != "*" && !could_match(permission.scope, backend->second)) {
          return at(pointer, "names a scope that the backend does not have");
        }
      }
      return {};
    };
    POSTERN_CHECK(known(role.allow, "allow"));
    POSTERN_CHECK(known(role.deny, "deny"));
    for (std::size_t i = 0; i < role.tools.size(); ++i) {
      const auto& backend = role.tools[i].backend;
      if (backend != "*" && backends.count(backend) == 0) {
        return at("/roles/" + name + "/tools/" + std::to_string(i),
                  "names a backend that does not exist");
      }
    }
  }
  // What one request may have to walk through, and every replica holds in memory.
  constexpr std::size_t kMaxBound = 100'000;
  constexpr std::size_t kMaxConditional = 1'000;
  constexpr std::size_t kMaxClaims = 100;
  std::size_t bound = 0;
  std::size_t conditional = 0;
  std::set<std::string, std::less<>> claims;
  for (const auto& [name, binding] : bindings) {
    conditional += !binding.claims.empty() || !binding.issuer.empty();
    for (const auto& [claim, values] : binding.claims) claims.insert(claim);
    if (conditional > kMaxConditional || claims.size() > kMaxClaims) {
      return at("/bindings/" + name,
                "more than 1000 bindings name claims or an issuer, or more than 100 claims");
    }
    bound += binding.groups.size() + binding.subjects.size();
    if (bound > kMaxBound) {
      return at("/bindings/" + name,
                "all bindings together name more than 100000 groups and subjects");
    }
    if (roles.count(binding.role) == 0) {
      return at("/bindings/" + name + "/role", "names a role that does not exist");
    }
    if (!binding.issuer.empty() && issuers.count(binding.issuer) == 0) {
      return at("/bindings/" + name + "/issuer", "names an issuer that does not exist");
    }
    // One issuer's `department` is not another's.
    if (!binding.claims.empty() && binding.issuer.empty() && issuers.size() > 1) {
      return at("/bindings/" + name + "/issuer",
                "must name the issuer whose claims count, because this tenant trusts several");
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
  std::string opaque;
  for (const auto& [name, issuer] : issuers) {
    // An opaque token names no issuer, so it can be asked about at one place only:
    // asking all would show each issuer the others' tokens.
    if (issuer.introspection && !std::exchange(opaque, name).empty()) {
      return at("/issuers/" + name + "/introspection",
                "another issuer of this tenant has opaque tokens already");
    }
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
