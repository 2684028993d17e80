#include "policy/manifest.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "core/text.h"
#include "crypto/random.h"

namespace postern::policy {
namespace {

using namespace std::chrono_literals;

constexpr auto kSecretGrace = 24h;
constexpr std::size_t kMinSecretBytes = 32;
constexpr std::size_t kMaxObjects = 10'000;
constexpr std::size_t kMaxConfigBytes = 8 * 1024 * 1024;
constexpr std::size_t kMostRegistered = 500;  // the most that max_clients can be
constexpr std::size_t kMaxRegisteredBytes = 32 * 1024;

Error at(const std::string& pointer, std::string detail) {
  Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
  error.pointer = pointer;
  return error;
}

struct Section {
  const char* member;
  Kind kind;
  const char* name_member;
};
constexpr Section kSections[] = {{"issuers", Kind::Issuer, "name"},
                                 {"clients", Kind::Client, "id"},
                                 {"backends", Kind::Backend, "name"},
                                 {"roles", Kind::Role, "name"},
                                 {"bindings", Kind::Binding, "name"}};

const Section& section_of(Kind kind) {
  return *std::find_if(std::begin(kSections), std::end(kSections),
                       [&](const Section& section) { return section.kind == kind; });
}

Result<Json> normalised(Kind kind, const Json& value, const std::string& pointer) {
  switch (kind) {
    case Kind::Issuer: {
      POSTERN_TRY(const auto object, read_issuer(value, pointer));
      return write(object);
    }
    case Kind::Client: {
      POSTERN_TRY(const auto object, read_client(value, pointer));
      return write(object);
    }
    case Kind::Backend: {
      POSTERN_TRY(const auto object, read_backend(value, pointer));
      return write(object);
    }
    case Kind::Role: {
      POSTERN_TRY(const auto object, read_role(value, pointer));
      return write(object);
    }
    case Kind::Binding: {
      POSTERN_TRY(const auto object, read_binding(value, pointer));
      return write(object);
    }
  }
  return fail(ErrorCode::Internal, "");
}

Status read_credentials(const Json& value, std::vector<Manifest::CredentialReference>& out) {
  if (!value.is_array() || value.size() > 1000) {
    return at("/credentials", "must be a list of at most 1000 references");
  }
  for (std::size_t i = 0; i < value.size(); ++i) {
    const auto pointer = "/credentials/" + std::to_string(i);
    const auto& item = value[i];
    if (!item.is_object()) return at(pointer, "must be an object");
    Manifest::CredentialReference reference{CredentialName("unset"), {}};
    for (const auto& [member, content] : item.items()) {
      if (member == "name" && content.is_string()) {
        auto name = CredentialName::parse(content.get<std::string>());
        if (!name.ok()) return at(pointer + "/name", name.error().detail);
        reference.name = std::move(name).value();
      } else if (member == "fields" && content.is_array()) {
        for (const auto& field : content) {
          if (!field.is_string()) return at(pointer + "/fields", "must be a list of field names");
          reference.fields.push_back(field.get<std::string>());
        }
      } else if (member == "value" || member == "values" || member == "secret") {
        return at(pointer,
                  "values never stand in a manifest; store them with: postern credential set");
      } else {
        return at(pointer,
                  "has a member that is unknown or of the wrong type; it takes name and fields");
      }
    }
    if (!item.contains("name")) return at(pointer + "/name", "is required");
    out.push_back(std::move(reference));
  }
  return {};
}

/// Pointers that TenantConfig::check gives name kind and object; the manifest's
/// author wants the place in the file.
Error relocated(Error error, const Manifest& manifest) {
  for (const auto& object : manifest.objects) {
    const std::string prefix =
        std::string("/") + section_of(object.kind).member + "/" + object.name;
    if (error.pointer == prefix || error.pointer.starts_with(prefix + "/")) {
      error.pointer = object.pointer + error.pointer.substr(prefix.size());
      return error;
    }
  }
  return error;
}

std::vector<std::string> differing(const Json& before, const Json& after) {
  std::set<std::string> members;
  for (const auto& [name, value] : before.items()) members.insert(name);
  for (const auto& [name, value] : after.items()) members.insert(name);
  std::vector<std::string> fields;
  for (const auto& name : members) {
    const auto old_value = before.find(name);
    const auto new_value = after.find(name);
    const bool same =
        old_value != before.end() && new_value != after.end() && *old_value == *new_value;
    if (!same) fields.push_back("/" + name);
  }
  return fields;
}

Result<TenantSettings> stored_settings(const TenantRow& row) {
  POSTERN_TRY(const auto json, token::parse_json(row.settings));
  return read_settings(json, "/settings");
}

/// Clients that registered themselves: no manifest has them, so none prunes them.
bool registered(Kind kind, const std::string& spec) {
  if (kind != Kind::Client || spec.find("\"registered\"") == spec.npos) return false;
  const auto json = token::parse_json(spec);
  return json.ok() && json.value().contains("registered");
}

bool same_besides_guardrails(TenantSettings a, const TenantSettings& b) {
  a.guardrails = b.guardrails;
  return write(a) == write(b);
}

/// Settings and guardrails that the manifest names; the others stay as they are.
Status plan_settings(const Manifest& manifest, Plan& made, StoredTenant& next,
                     const std::function<void(const char*)>& changed) {
  if (!made.creates && !manifest.settings && !manifest.guardrails) return {};
  auto before = stored_settings(next.row);  // "{}" for a tenant that is made
  if (!before.ok() && !manifest.settings) return before.error();
  const auto old = before.ok() ? before.value() : TenantSettings{};
  auto wanted = manifest.settings.value_or(old);
  wanted.guardrails = manifest.guardrails.value_or(old.guardrails);
  const bool names_lifetime = manifest.named_settings.count("max_token_lifetime") > 0;
  const bool new_lifetime = !before.ok() || wanted.max_token_lifetime != old.max_token_lifetime;
  if (names_lifetime && (made.creates || new_lifetime)) {
    if (const auto beyond = breach(wanted.guardrails, wanted)) {
      Error error = fail(ErrorCode::Forbidden, beyond->detail);
      error.pointer = "/settings/" + beyond->member;
      return error;
    }
  } else if (!names_lifetime && (manifest.settings || made.creates)) {
    wanted.max_token_lifetime = wanted.lifetime_ceiling();  // a default gives way
  }
  const auto forbidden = [](const char* member, const char* what) {
    Error error = fail(ErrorCode::Forbidden,
                       std::string("the operator does not allow this tenant to ") + what);
    error.pointer = std::string("/settings/") + member;
    return error;
  };
  if (wanted.reveal && !old.reveal && !wanted.guardrails.reveal) {
    return forbidden("reveal", "reveal");
  }
  if (wanted.vault_api && !old.vault_api && !wanted.guardrails.vault_api) {
    return forbidden("vault_api", "answer to the API of Vault");
  }
  if (manifest.settings) {
    // They are one thing: what a manifest does not say of them is the default again.
    const auto is = write(wanted);
    const auto was = write(old);
    for (const auto& [name, value] : was.items()) {
      const bool given = name == "guardrails" || manifest.named_settings.count(name) > 0;
      if (given || is.value(name, Json()) == value) continue;
      made.warnings.push_back("settings: " + name + " is not given and goes back to its default");
    }
  }
  const auto text = token::dump_json(write(wanted));
  if (text == next.row.settings) return {};
  made.change.settings = next.row.settings = text;
  const bool limits = wanted.guardrails != old.guardrails;
  if (limits) changed("/guardrails");
  if (manifest.settings && (!limits || !same_besides_guardrails(wanted, old))) {
    changed("/settings");
  }
  return {};
}

/// What changes keeps within the guardrails; what stays and does not is warned of.
Status hold_to_guardrails(const TenantConfig& config, const Manifest& manifest, Plan& made) {
  const auto& guardrails = config.settings.guardrails;
  const auto hold = [&](Kind kind, const std::string& name,
                        const std::optional<Breach>& beyond) -> Status {
    if (!beyond) return {};
    const bool changes = std::any_of(
        made.change.put.begin(), made.change.put.end(),
        [&](const StoredObject& object) { return object.kind == kind && object.name == name; });
    if (!changes) {
      made.warnings.push_back(std::string(to_string(kind)) + " " + name + ": " + beyond->member +
                              " " + beyond->detail + "; nothing is issued by it");
      return {};
    }
    Error error = fail(ErrorCode::Forbidden, beyond->detail);
    for (const auto& object : manifest.objects) {
      if (object.kind == kind && object.name == name) {
        error.pointer = object.pointer + "/" + beyond->member;
      }
    }
    return error;
  };
  for (const auto& [name, issuer] : config.issuers) {
    POSTERN_CHECK(hold(Kind::Issuer, name, breach(guardrails, issuer)));
  }
  for (const auto& [id, client] : config.clients) {
    POSTERN_CHECK(hold(Kind::Client, id, breach(guardrails, client)));
  }
  for (const auto& [name, backend] : config.backends) {
    POSTERN_CHECK(hold(Kind::Backend, name, breach(guardrails, backend)));
  }
  if (const auto beyond = breach(guardrails, config.settings)) {
    made.warnings.push_back("settings: " + beyond->member + " " + beyond->detail +
                            ", which is what counts");
  }
  const auto not_allowed = [&](const char* member, bool wanted, bool allowed) {
    if (!wanted || allowed) return;
    made.warnings.push_back(std::string("settings: ") + member +
                            " is not what the operator's guardrails allow");
  };
  not_allowed("reveal", config.settings.reveal, guardrails.reveal);
  not_allowed("vault_api", config.settings.vault_api.has_value(), guardrails.vault_api);
  return {};
}

}  // namespace

Guardrails guardrails_of(const TenantRow& row) {
  const auto settings = stored_settings(row);
  return settings.ok() ? settings.value().guardrails : Guardrails{};
}

Result<Manifest> Manifest::read(const Json& value) {
  if (!value.is_object()) return at("", "a manifest must be an object");
  Manifest manifest;
  const auto tenant = value.find("tenant");
  if (tenant == value.end() || !tenant->is_string()) return at("/tenant", "is required");
  auto id = TenantId::parse(tenant->get_ref<const std::string&>());
  if (!id.ok()) return at("/tenant", id.error().detail);
  manifest.tenant = std::move(id).value();

  std::set<std::string> known{"tenant",   "display_name", "enabled",
                              "settings", "guardrails",   "credentials"};
  if (const auto it = value.find("display_name"); it != value.end()) {
    // No control characters: names end up on administrators' terminals.
    const auto one_line = [](const std::string& name) {
      return name.size() <= 200 && !has_control_characters(name);
    };
    if (!it->is_string() || !one_line(it->get_ref<const std::string&>())) {
      return at("/display_name", "must be one line of text of at most 200 bytes");
    }
    manifest.display_name = it->get<std::string>();
  }
  if (const auto it = value.find("enabled"); it != value.end()) {
    if (!it->is_boolean()) return at("/enabled", "must be true or false");
    manifest.enabled = it->get<bool>();
  }
  if (const auto it = value.find("settings"); it != value.end()) {
    POSTERN_TRY(manifest.settings, read_settings(*it, "/settings"));
    if (it->contains("guardrails")) {
      return at("/settings/guardrails", "stands beside settings in a manifest, not within");
    }
    for (const auto& [name, member] : it->items()) {
      if (!member.is_null()) manifest.named_settings.insert(name);
    }
  }
  if (const auto it = value.find("guardrails"); it != value.end()) {
    POSTERN_TRY(manifest.guardrails, read_guardrails(*it, "/guardrails"));
  }
  if (const auto it = value.find("credentials"); it != value.end()) {
    POSTERN_CHECK(read_credentials(*it, manifest.credentials));
  }

  for (const auto& section : kSections) {
    known.insert(section.member);
    const auto it = value.find(section.member);
    if (it == value.end()) continue;
    const std::string place = std::string("/") + section.member;
    if (!it->is_array()) return at(place, "must be a list");
    std::map<std::string, std::string> seen;
    for (std::size_t i = 0; i < it->size(); ++i) {
      const auto pointer = place + "/" + std::to_string(i);
      Json item = (*it)[i];
      std::optional<ClientSecret> secret;
      if (section.kind == Kind::Client && item.is_object() && item.contains("secret")) {
        auto& text = item["secret"];
        if (!text.is_string()) return at(pointer + "/secret", "must be text");
        const auto& given = text.get_ref<const std::string&>();
        const bool visible =
            std::all_of(given.begin(), given.end(), [](char c) { return c > 0x20 && c < 0x7f; });
        if (given.size() < kMinSecretBytes || given.size() > 512 || !visible) {
          return at(
              pointer + "/secret",
              "must be 32 to 512 visible ASCII characters; leave it out to have one generated");
        }
        secret.emplace(SecureBuffer::take(std::move(text.get_ref<std::string&>())));
        item.erase("secret");
      }
      POSTERN_TRY(auto spec, normalised(section.kind, item, pointer));
      auto name = spec.at(section.name_member).get<std::string>();
      const auto [first, fresh] = seen.emplace(name, pointer);
      if (!fresh) {
        return at(pointer + "/" + section.name_member,
                  "stands twice; the first is " + first->second);
      }
      if (secret && spec.contains("authentication")) {
        return at(pointer + "/secret", "is only for clients that authenticate by secret");
      }
      if (secret) manifest.client_secrets.push_back({ClientId(name), std::move(*secret)});
      manifest.objects.push_back({section.kind, std::move(name), std::move(spec), pointer});
      if (manifest.objects.size() > kMaxObjects) {
        return at(place, "a manifest has at most 10000 objects");
      }
    }
  }
  for (const auto& [name, content] : value.items()) {
    if (known.count(name) == 0) {
      const bool harmless = name.size() <= 32 && detail::is_name(name);
      return at(harmless ? "/" + name : "", "is not a known member of a manifest");
    }
  }
  return manifest;
}

bool Plan::empty() const {
  return std::all_of(lines.begin(), lines.end(), [](const PlannedChange& line) {
    return line.action == PlannedChange::Action::Unchanged;
  });
}

Result<Plan> plan(const Manifest& manifest, const StoredTenant* stored, Prune prune,
                  sys_seconds now) {
  using Action = PlannedChange::Action;
  Plan made;
  made.creates = stored == nullptr;
  StoredTenant next{{manifest.tenant, manifest.tenant.str(), true, "{}", 0, now}, {}, {}, {}, {}};
  if (stored != nullptr) next = *stored;

  // The tenant itself.
  PlannedChange line{
      "tenant", manifest.tenant.str(), made.creates ? Action::Create : Action::Unchanged, {}};
  const auto changed = [&](const char* field) {
    if (!made.creates) line.action = Action::Update;
    line.fields.emplace_back(field);
  };
  if (manifest.display_name && *manifest.display_name != next.row.display_name) {
    made.change.display_name = manifest.display_name;
    changed("/display_name");
  }
  if (manifest.enabled && *manifest.enabled != next.row.enabled) {
    made.change.enabled = manifest.enabled;
    changed("/enabled");
  }
  if (made.creates && !made.change.display_name) made.change.display_name = manifest.tenant.str();
  POSTERN_CHECK(plan_settings(manifest, made, next, changed));
  made.lines.push_back(std::move(line));

  // Its objects.
  std::map<std::pair<Kind, std::string>, StoredObject> objects;
  for (const auto& object : next.objects) objects[{object.kind, object.name}] = object;
  std::set<std::pair<Kind, std::string>> named;
  for (const auto& object : manifest.objects) {
    named.emplace(object.kind, object.name);
    const auto text = token::dump_json(object.spec);
    const auto known = objects.find({object.kind, object.name});
    PlannedChange entry{std::string(to_string(object.kind)), object.name, Action::Create, {}};
    if (known != objects.end()) {
      // Something stored that does not read back differs in everything: applying repairs it.
      const auto before = token::parse_json(known->second.spec);
      entry.fields = differing(before.ok() ? before.value() : Json::object(), object.spec);
      entry.action = entry.fields.empty() ? Action::Unchanged : Action::Update;
    }
    if (entry.action != Action::Unchanged) {
      made.change.put.push_back({object.kind, object.name, text, 0});
      objects[{object.kind, object.name}] = {object.kind, object.name, text, 0};
    }
    made.lines.push_back(std::move(entry));
  }
  if (prune == Prune::Yes) {
    for (auto it = objects.begin(); it != objects.end();) {
      if (named.count(it->first) != 0 || registered(it->first.first, it->second.spec)) {
        ++it;
        continue;
      }
      made.change.remove.emplace_back(it->first);
      made.lines.push_back(
          {std::string(to_string(it->first.first)), it->first.second, Action::Delete, {}});
      it = objects.erase(it);
    }
  }

  // Does the result fit together?
  std::size_t bytes = 0;
  std::size_t configured = 0;
  const auto registered_before = static_cast<std::size_t>(
      std::count_if(next.objects.begin(), next.objects.end(),
                    [](const auto& object) { return registered(object.kind, object.spec); }));
  // Those that registered are bounded on their own, so that they cannot keep admins
  // from work; and so is what a manifest can gain by saying so of its clients.
  std::size_t exempt = std::min(registered_before, kMostRegistered);
  for (const auto& [key, object] : objects) {
    if (registered(key.first, object.spec) && object.spec.size() <= kMaxRegisteredBytes &&
        exempt > 0) {
      --exempt;
      continue;
    }
    ++configured;
    bytes += object.spec.size();
  }
  if (configured > kMaxObjects || bytes > kMaxConfigBytes) {
    return at("", "a tenant has at most 10000 objects and 8 MiB of configuration");
  }
  next.objects.clear();
  for (auto& [key, object] : objects) next.objects.push_back(std::move(object));
  POSTERN_TRY(const auto config, read_config(next));
  if (auto fits = config.check(); !fits.ok()) {
    return relocated(std::move(fits).error(), manifest);
  }
  POSTERN_CHECK(hold_to_guardrails(config, manifest, made));

  // Client secrets.
  const auto mark_client = [&](const ClientId& client) {
    for (auto& entry : made.lines) {
      if (entry.kind == "client" && entry.name == client.str()) {
        if (entry.action == Action::Unchanged) entry.action = Action::Update;
        entry.fields.emplace_back("/secret");
      }
    }
  };
  std::set<ClientId> given;
  for (const auto& wanted : manifest.client_secrets) {
    const auto& client = wanted.client;
    given.insert(client);
    const auto hash = client_secret_hash(manifest.tenant, client.str(), wanted.secret);
    const auto is_given = [&](const StoredClientSecret& existing) {
      return existing.client == client && crypto::equal(ByteView(existing.hash), ByteView(hash));
    };
    // One that is about to expire counts as new: going back to the previous
    // secret must not end in a client without any.
    const bool known = std::any_of(
        next.client_secrets.begin(), next.client_secrets.end(),
        [&](const auto& existing) { return is_given(existing) && !existing.expires_at; });
    if (known) continue;
    for (const auto& existing : next.client_secrets) {
      if (existing.client != client) continue;
      if (is_given(existing)) {
        made.change.remove_client_secrets.emplace_back(client, existing.secret_id);
        continue;
      }
      if (existing.expires_at && *existing.expires_at <= now + kSecretGrace) continue;
      auto expiring = existing;
      expiring.expires_at = now + kSecretGrace;
      made.change.remove_client_secrets.emplace_back(client, existing.secret_id);
      made.change.add_client_secrets.push_back(std::move(expiring));
    }
    made.change.add_client_secrets.push_back({client, crypto::random_id(), hash, std::nullopt});
    mark_client(client);
  }
  for (const auto& object : manifest.objects) {
    if (object.kind != Kind::Client || object.spec.contains("authentication")) continue;
    // Its secret came with its registration, and ended as the tenant wants it to.
    if (object.spec.contains("registered")) continue;
    const ClientId client(object.name);
    const bool has_one = std::any_of(
        next.client_secrets.begin(), next.client_secrets.end(), [&](const auto& existing) {
          return existing.client == client && (!existing.expires_at || *existing.expires_at > now);
        });
    if (has_one || given.count(client) != 0) continue;
    ClientSecret secret(SecureBuffer::take(crypto::random_token()));
    const auto id = crypto::random_id();
    made.change.add_client_secrets.push_back(
        {client, id, client_secret_hash(manifest.tenant, client.str(), secret), std::nullopt});
    made.generated.push_back({client, id, std::move(secret)});
    mark_client(client);
  }

  for (const auto& [name, issuer] : config.issuers) {
    if (issuer.issuer.starts_with("http://")) {
      made.warnings.push_back("issuer " + name + " uses plain http: for development only");
    }
  }
  for (const auto& [name, issuer] : config.issuers) {
    if (!config.settings.api_scopes.empty() && issuer.enabled && issuer.claims.scope.empty()) {
      made.warnings.push_back("issuer " + name +
                              " maps no scope, so its users have none of settings.api_scopes");
    }
  }
  for (const auto& [name, role] : config.roles) {
    const bool bound =
        std::any_of(config.bindings.begin(), config.bindings.end(),
                    [&role = role](const auto& entry) { return entry.second.role == role.name; });
    if (!bound) made.warnings.push_back("role " + name + " is bound to nobody");
  }
  if (stored != nullptr) made.change.expected_epoch = stored->row.epoch;
  return made;
}

Json write_manifest(const StoredTenant& stored) {
  Json manifest{{"tenant", stored.row.tenant.str()},
                {"display_name", stored.row.display_name},
                {"enabled", stored.row.enabled}};
  if (auto settings = token::parse_json(stored.row.settings); settings.ok()) {
    manifest["settings"] = std::move(settings).value();
    if (const auto it = manifest["settings"].find("guardrails"); it != manifest["settings"].end()) {
      manifest["guardrails"] = *it;
      manifest["settings"].erase("guardrails");
    }
  }
  for (const auto& section : kSections) manifest[section.member] = Json::array();
  for (const auto& object : stored.objects) {
    if (auto spec = token::parse_json(object.spec); spec.ok()) {
      manifest[section_of(object.kind).member].push_back(std::move(spec).value());
    }
  }
  return manifest;
}

}  // namespace postern::policy
