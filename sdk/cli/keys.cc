#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <utility>
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

std::int64_t left_to_do(const sdk::KeyStatus& now) {
  return now.keks_to_rotate + now.rows_to_rewrap.credential_versions +
         now.rows_to_rewrap.signing_keys + now.rows_to_rewrap.others;
}

std::string json_of(const sdk::KeyStatus& now) {
  Json keys = Json::array();
  for (const auto& key : now.root_keys) {
    keys.push_back(
        {{"id", key.id}, {"state", key.state}, {"keks", key.keks}, {"tenants", key.tenants}});
  }
  const Json line = {{"root_keys", std::move(keys)},
                     {"keks_to_rotate", now.keks_to_rotate},
                     {"rows_to_rewrap",
                      {{"tenants", now.rows_to_rewrap.tenants},
                       {"credential_versions", now.rows_to_rewrap.credential_versions},
                       {"signing_keys", now.rows_to_rewrap.signing_keys},
                       {"others", now.rows_to_rewrap.others}}},
                     {"rows_rewrapped", now.rows_rewrapped},
                     {"advice", now.advice}};
  return line.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
}

/// A line for each look: what is left, and how much went since the look before.
std::string progress(const sdk::KeyStatus& now, std::int64_t gone) {
  return std::to_string(now.keks_to_rotate) + " KEKs to wrap, " +
         std::to_string(left_to_do(now) - now.keks_to_rotate) + " rows to move" +
         (gone > 0 ? " (" + std::to_string(gone) + " done)" : std::string()) + "\n";
}

std::string whole(const sdk::KeyStatus& now) {
  Table table({"ROOT KEY", "STATE", "KEKS", "TENANTS"});
  for (const auto& key : now.root_keys) {
    table.add({printable(key.id), printable(key.state), std::to_string(key.keks),
               std::to_string(key.tenants)});
  }
  auto out = table.text() + progress(now, 0);
  for (const auto& line : now.advice) out += printable(line) + "\n";
  return out;
}

}  // namespace

int run_keys_status(const Settings& settings, const KeysOptions& options) {
  constexpr const char* kDoing = "ask where keys are in use";
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  bool complained = false;
  std::optional<std::int64_t> before;
  for (;;) {
    const auto now = client.value().key_status();
    if (now.ok()) {
      complained = false;
      const auto left = left_to_do(now.value());
      const auto status = print(settings.json ? json_of(now.value())
                                : before      ? progress(now.value(), *before - left)
                                              : whole(now.value()));
      if (!status.ok()) return report(status.error(), "");
      if (!options.watch || left == 0) return exit_code::kOk;
      before = left;
    } else if (!options.watch || !sdk::is_temporary(now.error())) {
      return report(now.error(), kDoing);
    } else if (!complained) {
      report(now.error(), "watch keys for now");
      complained = true;
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(options.interval));
  }
}

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
