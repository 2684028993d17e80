// A tenant as it is stored: its settings, and lists of objects of each kind. What reads back
// is within the tenant's guardrails, and is the same once it was written and read again.

#include "policy/snapshot.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "policy/config.h"
#include "policy/config_store.h"
#include "support/in_memory_kek_store.h"
#include "token/json.h"

using namespace postern;
using namespace postern::policy;

namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

constexpr std::string_view kBaseUrl = "https://sts.example";
constexpr sys_seconds kNow{std::chrono::seconds(1'790'000'000)};
using Built = Result<std::shared_ptr<const TenantSnapshot>>;

std::string text_of(const Json& json) {
  return json.is_string() ? json.get<std::string>() : token::dump_json(json);
}

/// The name that the object's row has beside it.
std::string name_of(const Json& spec) {
  for (const char* member : {"name", "id", "role"}) {
    if (spec.is_object() && spec.contains(member) && spec[member].is_string()) return spec[member];
  }
  return "";
}

StoredTenant stored(const Json& input) {
  StoredTenant out{{TenantId("acme"), "Acme", true, "{}", 1, kNow}, {}, {}, {}, {}};
  for (const auto& [member, value] : input.items()) {
    if (member == "settings") out.row.settings = text_of(value);
    const auto kind = parse_kind(member);
    if (!kind || !value.is_array()) continue;
    for (const auto& spec : value) out.objects.push_back({*kind, name_of(spec), text_of(spec), 1});
  }
  return out;
}

StoredTenant stored(const TenantConfig& config) {
  StoredTenant out{{TenantId("acme"), "Acme", true, "{}", 1, kNow}, {}, {}, {}, {}};
  out.row.settings = token::dump_json(write(config.settings));
  const auto add = [&](Kind kind, const auto& objects) {
    for (const auto& [name, object] : objects) {
      out.objects.push_back({kind, name, token::dump_json(write(object)), 1});
    }
  };
  add(Kind::Issuer, config.issuers);
  add(Kind::Client, config.clients);
  add(Kind::Backend, config.backends);
  add(Kind::Role, config.roles);
  add(Kind::Binding, config.bindings);
  return out;
}

Built build(const StoredTenant& from) {
  static test::TestKeyring keys{"acme"};
  return TenantSnapshot::build(from, kBaseUrl, keys.keyring, kNow);
}

void check_settings(const TenantSettings& settings) {
  const auto& limits = settings.guardrails;
  require(settings.lifetime_ceiling() <= settings.max_token_lifetime);
  require(!limits.max_token_lifetime || settings.lifetime_ceiling() <= *limits.max_token_lifetime);
  require(limits.reveal || !settings.may_reveal());
  require((settings.vault() != nullptr) == (settings.vault_api && limits.vault_api));
  if (!settings.vault_api) return;
  const auto& api = *settings.vault_api;
  for (const auto& view : api.views.all()) {
    const auto again = View::parse(view.path(), view.backend());
    require(again.ok() && again.value().path() == view.path());
  }
  if (!api.transit) return;
  require(!api.transit->allows("", "orders", std::nullopt));
  for (const auto& rule : api.transit->rules) {
    for (const auto& client : rule.clients) require(api.clients.contains(client));
  }
}

void check(const TenantSnapshot& made) {
  const auto& config = made.config();
  check_settings(config.settings);
  for (const auto& [name, issuer] : config.issuers) {
    const auto* found = made.find_issuer(issuer.issuer);
    require(found == nullptr || found->config.enabled);
    require(found == nullptr || config.settings.guardrails.allows_issuer(issuer.issuer));
  }
  for (const auto& [name, backend] : config.backends) {
    const auto* found = made.resolve(name);
    require(found == nullptr || found->enabled);
  }
  require(token::parse_json(made.jwks_document()).ok());
  require(token::parse_json(made.metadata_document()).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = token::parse_json({reinterpret_cast<const char*>(data), size});
  if (!input.ok() || !input.value().is_object()) return 0;
  const auto made = build(stored(input.value()));
  if (!made.ok()) {
    require(made.error().code == ErrorCode::Internal);
    return 0;
  }
  check(*made.value());
  const auto written = stored(made.value()->config());
  const auto again = build(written);
  require(again.ok());
  const auto twice = stored(again.value()->config());
  require(twice.row.settings == written.row.settings);
  require(std::equal(twice.objects.begin(), twice.objects.end(), written.objects.begin(),
                     written.objects.end(), [](const auto& a, const auto& b) {
                       return a.kind == b.kind && a.name == b.name && a.spec == b.spec;
                     }));
  require(again.value()->metadata_document() == made.value()->metadata_document());
  return 0;
}
