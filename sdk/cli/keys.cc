#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/output.h"
#include "core/time_format.h"
#include "postern/json.h"

namespace postern::cli {
namespace {

using sdk::Json;

int show(const Settings& settings, const std::vector<sdk::SigningKey>& keys) {
  Table table({"KID", "ALGORITHM", "STATE", "SIGNS FROM", "RETIRED"});
  std::string json;
  for (const auto& key : keys) {
    Json line = {{"kid", key.kid},
                 {"algorithm", key.algorithm},
                 {"state", key.state},
                 {"created_at", format_time(key.created_at)},
                 {"active_from", format_time(key.active_from)}};
    if (key.retired_at) line["retired_at"] = format_time(*key.retired_at);
    json += line.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
    table.add({printable(key.kid), printable(key.algorithm), printable(key.state),
               format_time(key.active_from),
               key.retired_at ? format_time(*key.retired_at) : std::string("-")});
  }
  const auto status = print(settings.json ? json : table.text());
  return status.ok() ? exit_code::kOk : report(status.error(), "");
}

}  // namespace

int run_keys_list(const Settings& settings) {
  constexpr const char* kDoing = "list signing keys";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto keys = client.value().signing_keys(tenant.value());
  return keys.ok() ? show(settings, keys.value()) : report(keys.error(), kDoing);
}

int run_keys_rotate(const Settings& settings, const KeysOptions& options) {
  constexpr const char* kDoing = "rotate signing keys";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  std::optional<std::chrono::seconds> publish_for;
  if (options.publish_for >= 0) publish_for = std::chrono::seconds(options.publish_for);
  if (options.now) publish_for = std::chrono::seconds(0);
  const auto keys =
      client.value().rotate_signing_keys(tenant.value(), options.algorithm, publish_for);
  return keys.ok() ? show(settings, keys.value()) : report(keys.error(), kDoing);
}

int run_keys_withdraw(const Settings& settings, const KeysOptions& options) {
  constexpr const char* kDoing = "withdraw the signing key";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  auto status = client.value().withdraw_signing_key(tenant.value(), options.kid);
  if (!status.ok()) return report(status.error(), kDoing);
  status = print("key " + printable(options.kid) + " withdrawn\n");
  return status.ok() ? exit_code::kOk : report(status.error(), "");
}

}  // namespace postern::cli
