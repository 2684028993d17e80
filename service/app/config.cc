#include "app/config.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "vault/root_key_access.h"

namespace postern::app {
namespace {

/// A value from file or environment, as text, with where it came from.
struct Value {
  std::string text;
  std::string origin;
  std::optional<std::vector<std::string>> list;
};
using Setter = std::function<std::optional<std::string>(const Value&)>;  // a problem, or nothing

Setter text(std::string& out) {
  return [&out](const Value& value) -> std::optional<std::string> {
    out = value.text;
    return std::nullopt;
  };
}
Setter path(std::filesystem::path& out) {
  return [&out](const Value& value) -> std::optional<std::string> {
    out = value.text;
    return std::nullopt;
  };
}
template <class Number>
Setter number(Number& out, std::uint64_t low, std::uint64_t high) {
  return [&out, low, high](const Value& value) -> std::optional<std::string> {
    std::uint64_t parsed = 0;
    const auto* end = value.text.data() + value.text.size();
    const auto [stop, error] = std::from_chars(value.text.data(), end, parsed);
    if (error != std::errc() || stop != end || parsed < low || parsed > high) {
      return "must be a number from " + std::to_string(low) + " to " + std::to_string(high);
    }
    out = static_cast<Number>(parsed);
    return std::nullopt;
  };
}
Setter milliseconds(std::chrono::milliseconds& out, std::uint64_t low, std::uint64_t high) {
  return [&out, low, high](const Value& value) -> std::optional<std::string> {
    std::uint64_t parsed = 0;
    if (auto problem = number(parsed, low, high)(value)) return *problem + " (milliseconds)";
    out = std::chrono::milliseconds(parsed);
    return std::nullopt;
  };
}
Setter whole_seconds(std::chrono::seconds& out, std::uint64_t low, std::uint64_t high) {
  return [&out, low, high](const Value& value) -> std::optional<std::string> {
    std::uint64_t parsed = 0;
    if (auto problem = number(parsed, low, high)(value)) return *problem + " (seconds)";
    out = std::chrono::seconds(parsed);
    return std::nullopt;
  };
}
Setter flag(bool& out) {
  return [&out](const Value& value) -> std::optional<std::string> {
    if (value.text != "true" && value.text != "false") return "must be true or false";
    out = value.text == "true";
    return std::nullopt;
  };
}
Setter list(std::vector<std::string>& out) {
  return [&out](const Value& value) -> std::optional<std::string> {
    out = value.list.value_or(std::vector<std::string>{});
    if (!value.list) {
      for (std::size_t begin = 0; begin < value.text.size();) {
        const auto end = std::min(value.text.find(',', begin), value.text.size());
        if (end > begin) out.push_back(value.text.substr(begin, end - begin));
        begin = end + 1;
      }
    }
    return std::nullopt;
  };
}
Setter level(log::Level& out) {
  return [&out](const Value& value) -> std::optional<std::string> {
    const std::map<std::string_view, log::Level> levels{{"debug", log::Level::Debug},
                                                        {"info", log::Level::Info},
                                                        {"warning", log::Level::Warning},
                                                        {"error", log::Level::Error}};
    const auto it = levels.find(value.text);
    if (it == levels.end()) return "must be debug, info, warning or error";
    out = it->second;
    return std::nullopt;
  };
}

/// What is set in passing and checked or resolved at the end.
struct Scratch {
  std::filesystem::path database_url_file;
  std::filesystem::path share_store_url_file;
  http::TlsOptions tls;
  std::filesystem::path client_ca_file;
};

std::map<std::string, Setter> keys(Config& config, Scratch& scratch) {
  auto& listen = config.listen;
  return {
      {"base_url", text(config.base_url)},
      {"listen.address", text(listen.address)},
      {"listen.port", number(listen.port, 0, 65535)},
      {"listen.io_threads", number(listen.io_threads, 1, 64)},
      {"listen.compute_threads", number(listen.compute_threads, 1, 256)},
      {"listen.database_threads", number(listen.database_threads, 1, 256)},
      {"listen.outbound_threads", number(listen.outbound_threads, 1, 256)},
      {"listen.pool_queue", number(listen.pool_queue, 1, 1'000'000)},
      {"listen.max_connections", number(listen.max_connections, 1, 1'000'000)},
      {"listen.max_connections_per_address",
       number(listen.max_connections_per_address, 1, 1'000'000)},
      {"listen.max_body_bytes", number(listen.max_body_bytes, 64 * 1024, 16 * 1024 * 1024)},
      {"listen.header_timeout_ms", milliseconds(listen.header_timeout, 100, 600'000)},
      {"listen.body_timeout_ms", milliseconds(listen.body_timeout, 100, 600'000)},
      {"listen.idle_timeout_ms", milliseconds(listen.idle_timeout, 100, 3'600'000)},
      {"listen.write_timeout_ms", milliseconds(listen.write_timeout, 100, 600'000)},
      {"listen.drain_timeout_ms", milliseconds(listen.drain_timeout, 0, 600'000)},
      {"listen.tls.certificate_file", path(scratch.tls.certificate_file)},
      {"listen.tls.key_file", path(scratch.tls.key_file)},
      {"listen.tls.client_ca_file", path(scratch.client_ca_file)},
      {"listen.tls.request_client_certificate", flag(scratch.tls.request_client_certificate)},
      {"listen.tls.accept_unverified_client_certificate",
       flag(scratch.tls.accept_unverified_client_certificate)},
      {"proxy.addresses", list(config.proxy_addresses)},
      {"proxy.client_ca_file", text(config.proxy_client_ca_file)},
      {"authentication.free_failures", number(config.throttle.free_failures, 1, 1000)},
      {"authentication.max_delay_seconds", whole_seconds(config.throttle.max_delay, 1, 3600)},
      {"authentication.throttle_entries", number(config.throttle.entries, 16, 10'000'000)},
      {"dpop.require_nonce", flag(config.dpop_require_nonce)},
      {"ops.address", text(config.ops.address)},
      {"ops.port", number(config.ops.port, 0, 65535)},
      {"database.url", text(config.database_url)},
      {"database.url_file", path(scratch.database_url_file)},
      {"database.connections", number(config.database_connections, 2, 500)},
      {"share_store.url", text(config.share_store_url)},
      {"share_store.url_file", path(scratch.share_store_url_file)},
      {"share_store.backup_days", number(config.share_store_backup_days, 0, 3650)},
      {"keys.root_key_file", path(config.root_key_file)},
      {"keys.root_key_command", list(config.root_key_command)},
      {"keys.passphrase_file", path(config.passphrase_file)},
      {"keys.pkcs11_module", path(config.pkcs11.module)},
      {"keys.pkcs11_token", text(config.pkcs11.token)},
      {"keys.pkcs11_pin_file", path(config.pkcs11.pin_file)},
      {"keys.require_locked_memory", flag(config.require_locked_memory)},
      {"operator.token_file", path(config.operator_token_file)},
      {"outbound.allow_private", list(config.outbound_allow_private)},
      {"outbound.ca_file", text(config.outbound_ca_file)},
      {"outbound.allow_insecure_loopback", flag(config.outbound_allow_insecure_loopback)},
      {"decision_point.allow_private", list(config.decision_point_allow_private)},
      {"decision_point.allow_loopback", flag(config.decision_point_allow_loopback)},
      {"rotation.postgres_hosts", list(config.rotation_postgres_hosts)},
      {"rotation.postgres_ca_file", text(config.rotation_postgres_ca_file)},
      {"rotation.webhook_hosts", list(config.rotation_webhook_hosts)},
      {"rotation.allow_private", list(config.rotation_allow_private)},
      {"rotation.allow_insecure_loopback", flag(config.rotation_allow_insecure_loopback)},
      {"log.level", level(config.log_level)},
      {"snapshots.memory_bytes",
       number(config.snapshot_memory_bytes, 1024 * 1024, std::uint64_t{1} << 40)},
  };
}

std::string variable_of(const std::string& key) {
  std::string name = "POSTERND_" + key;
  for (char& c : name) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    if (c == '.') c = '_';
  }
  return name;
}

void flatten(const toml::table& table, const std::string& prefix, const std::string& file,
             std::map<std::string, Value>& values, std::vector<std::string>& problems) {
  for (const auto& [key, node] : table) {
    const std::string name = prefix + std::string(key.str());
    Value value;
    value.origin = file + ":" + std::to_string(node.source().begin.line);
    if (const auto* nested = node.as_table()) {
      flatten(*nested, name + ".", file, values, problems);
      continue;
    }
    if (const auto* array = node.as_array()) {
      value.list.emplace();
      for (const auto& item : *array) {
        if (const auto entry = item.value<std::string>()) {
          value.list->push_back(*entry);
        } else {
          problems.push_back(value.origin + ": " + name + ": must be a list of text");
        }
      }
    } else if (const auto string = node.value_exact<std::string>()) {
      value.text = *string;
    } else if (const auto integer = node.value_exact<std::int64_t>()) {
      value.text = std::to_string(*integer);
    } else if (const auto boolean = node.value_exact<bool>()) {
      value.text = *boolean ? "true" : "false";
    } else {
      problems.push_back(value.origin + ": " + name + ": has a type that no key takes");
      continue;
    }
    values.emplace(name, std::move(value));
  }
}

bool loopback_origin(std::string_view url) {
  for (const std::string_view prefix : {"http://127.0.0.1", "http://localhost", "http://[::1]"}) {
    if (url.substr(0, prefix.size()) != prefix) continue;
    const auto rest = url.substr(prefix.size());
    if (rest.empty() || rest.front() == ':') return true;
  }
  return false;
}

bool is_loopback(std::string_view address) {
  const auto ip = outbound::IpAddress::parse(address);
  return ip && ip->is_loopback();
}

}  // namespace

std::function<bool(std::string_view)> peers_taken(const Config& config,
                                                  std::vector<outbound::Network> proxies) {
  if (config.listen.tls || !config.base_url.starts_with("https://")) return {};
  return [proxies = std::move(proxies)](std::string_view address) {
    const auto ip = outbound::IpAddress::parse(address);
    return ip && (ip->is_loopback() ||
                  std::any_of(proxies.begin(), proxies.end(),
                              [&](const auto& network) { return network.contains(*ip); }));
  };
}

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value != nullptr && *value != '\0' ? std::optional<std::string>(value) : std::nullopt;
  };
}

std::vector<std::string> process_settings() {
  std::vector<std::string> names;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const auto name = text.substr(0, text.find('='));
    if (name.starts_with("POSTERND_")) names.emplace_back(name);
  }
  return names;
}

std::optional<std::filesystem::path> systemd_credential(const Environment& environment,
                                                        std::string_view name) {
  const auto directory = environment("CREDENTIALS_DIRECTORY");
  if (!directory) return std::nullopt;
  auto file = std::filesystem::path(*directory) / name;
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return std::nullopt;
  return file;
}

Result<SecureBuffer> read_secret_file(const std::filesystem::path& file) {
  const auto problem = [&](const char* what) {
    return fail(ErrorCode::Unavailable, file.string() + ": " + what);
  };
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (descriptor < 0) return problem("cannot be opened");
  const std::unique_ptr<const int, void (*)(const int*)> closer(&descriptor,
                                                                [](const int* d) { ::close(*d); });
  struct stat facts {};
  if (::fstat(descriptor, &facts) != 0 || !S_ISREG(facts.st_mode)) {
    return problem("is not a regular file");
  }
  if (facts.st_uid != ::geteuid() && facts.st_uid != 0) {
    return problem("belongs to another user");
  }
  if (!vault::readable_by_owner_only(descriptor, facts.st_mode, ::geteuid())) {
    return problem("may be read by others; run: chmod 600 on it");
  }
  if (facts.st_size > 64 * 1024) return problem("is larger than 64 KiB");
  SecureBuffer buffer(static_cast<std::size_t>(facts.st_size));
  std::size_t filled = 0;
  while (filled < buffer.size()) {
    const auto got = ::read(descriptor, buffer.writable().data() + filled, buffer.size() - filled);
    if (got <= 0) return problem("cannot be read");
    filled += static_cast<std::size_t>(got);
  }
  return buffer;
}

std::variant<Config, ConfigProblems> load_config(const std::filesystem::path& file,
                                                 const Environment& environment,
                                                 const std::vector<std::string>& settings) {
  Config config;
  config.ops.port = 8712;
  config.listen.port = 8711;
  config.ops.io_threads = 1;
  config.ops.compute_threads = 1;
  config.ops.database_threads = 1;
  config.ops.outbound_threads = 1;
  config.ops.max_connections = 64;
  Scratch scratch;
  std::vector<std::string> problems;
  std::map<std::string, Value> values;

  if (!file.empty()) {
    try {
      flatten(toml::parse_file(file.string()), "", file.string(), values, problems);
    } catch (const toml::parse_error& error) {
      problems.push_back(file.string() + ":" + std::to_string(error.source().begin.line) + ": " +
                         std::string(error.description()));
      return ConfigProblems{std::move(problems)};
    }
  }
  const auto known = keys(config, scratch);
  std::set<std::string> variables;
  for (const auto& [name, setter] : known) {
    variables.insert(variable_of(name));
    if (const auto text = environment(variable_of(name))) {
      values[name] = Value{*text, variable_of(name), std::nullopt};
    }
  }
  for (const auto& name : settings) {
    if (variables.count(name) == 0) {
      problems.push_back(name + ": is the environment variable of no key");
    }
  }
  for (const auto& [name, value] : values) {
    const auto key = known.find(name);
    if (key == known.end()) {
      problems.push_back(value.origin + ": " + name + ": is not a known key");
    } else if (const auto problem = key->second(value)) {
      problems.push_back(value.origin + ": " + name + ": " + *problem);
    }
  }

  const auto require = [&](bool given, const char* key, const char* what) {
    if (!given) {
      problems.push_back(std::string(key) + ": is required: " + what + " (or set " +
                         variable_of(key) + ")");
    }
  };
  if (config.root_key_file.empty() && config.root_key_command.empty()) {
    // Also one that is not there: a missing root key is no reason not to start.
    const auto directory = environment("CREDENTIALS_DIRECTORY").value_or("");
    if (!directory.empty()) {
      config.root_key_file = std::filesystem::path(directory) / "postern-root-key";
    }
  }
  if (config.passphrase_file.empty() && config.root_key_command.empty()) {
    config.passphrase_file =
        systemd_credential(environment, "postern-root-passphrase").value_or("");
  }
  if (!config.pkcs11.module.empty() && config.pkcs11.pin_file.empty()) {
    config.pkcs11.pin_file = systemd_credential(environment, "postern-pkcs11-pin").value_or("");
  }
  if (config.operator_token_file.empty()) {
    config.operator_token_file =
        systemd_credential(environment, "postern-operator-token").value_or("");
  }
  if (scratch.database_url_file.empty() && config.database_url.empty()) {
    scratch.database_url_file =
        systemd_credential(environment, "postern-database-url").value_or("");
  }
  if (scratch.share_store_url_file.empty() && config.share_store_url.empty()) {
    scratch.share_store_url_file =
        systemd_credential(environment, "postern-share-store-url").value_or("");
  }
  require(!config.base_url.empty(), "base_url",
          "the public origin, such as https://sts.example.com");
  require(!config.root_key_file.empty() || !config.root_key_command.empty(), "keys.root_key_file",
          "make one with: posternd keys create FILE");
  if (!config.root_key_command.empty()) {
    if (!config.root_key_file.empty()) {
      problems.emplace_back("keys.root_key_command: give either it or root_key_file, not both");
    }
    if (!config.passphrase_file.empty()) {
      problems.emplace_back("keys.passphrase_file: goes with root_key_file");
    }
    if (!config.pkcs11.module.empty()) {
      problems.emplace_back("keys.pkcs11_module: goes with root_key_file");
    }
    if (!config.root_key_command.front().starts_with('/')) {
      problems.emplace_back("keys.root_key_command: begins with a program's absolute path");
    }
  }
  if (!config.pkcs11.module.empty() || !config.pkcs11.token.empty()) {
    require(!config.pkcs11.module.empty(), "keys.pkcs11_module",
            "the absolute path of the token's PKCS #11 library");
    require(!config.pkcs11.token.empty(), "keys.pkcs11_token", "the token's label");
    require(!config.pkcs11.pin_file.empty(), "keys.pkcs11_pin_file",
            "a file, mode 0600, with the token's user PIN");
    if (!config.pkcs11.module.empty() && !config.pkcs11.module.is_absolute()) {
      problems.emplace_back("keys.pkcs11_module: must be an absolute path");
    }
    if (!config.passphrase_file.empty()) {
      problems.emplace_back("keys.pkcs11_module: give either it or passphrase_file, not both");
    }
  }
  require(!config.operator_token_file.empty(), "operator.token_file",
          "make one with: posternd operator-token create FILE");
  require(!config.database_url.empty() || !scratch.database_url_file.empty(), "database.url_file",
          "a file with the PostgreSQL URL of the role postern_service");
  if (!config.database_url.empty() && !scratch.database_url_file.empty()) {
    problems.emplace_back("database.url: give either url or url_file, not both");
  }
  if (!config.base_url.empty()) {
    const bool https = config.base_url.substr(0, 8) == "https://" && config.base_url.size() > 8;
    if (!https && !loopback_origin(config.base_url)) {
      problems.emplace_back("base_url: must begin with https:// (http only for loopback)");
    }
    if (config.base_url.find_first_of("?#\"\\ ") != std::string::npos ||
        config.base_url.back() == '/' || config.base_url.find('/', 8) != std::string::npos) {
      problems.emplace_back(
          "base_url: must be scheme, host and port alone, without a path or trailing slash");
    }
  }
  const bool any_tls = !scratch.tls.certificate_file.empty() || !scratch.tls.key_file.empty();
  if (any_tls) {
    require(!scratch.tls.certificate_file.empty(), "listen.tls.certificate_file", "a PEM chain");
    require(!scratch.tls.key_file.empty(), "listen.tls.key_file", "a PEM private key");
    if (!scratch.client_ca_file.empty()) scratch.tls.client_ca_file = scratch.client_ca_file;
    config.listen.tls = scratch.tls;
  } else if (!scratch.client_ca_file.empty() || scratch.tls.request_client_certificate) {
    problems.emplace_back("listen.tls: client certificates need certificate_file and key_file");
  }
  // RFC 6749 section 3.2. What a container with a loopback base_url publishes is its host's affair.
  if (!any_tls && config.proxy_addresses.empty() && config.base_url.starts_with("https://") &&
      !is_loopback(config.listen.address)) {
    problems.emplace_back(
        "listen.address: beyond loopback it takes listen.tls, or proxy.addresses to say which "
        "proxy terminates TLS");
  }
  if (scratch.tls.accept_unverified_client_certificate &&
      (!any_tls || scratch.client_ca_file.empty())) {
    problems.emplace_back(
        "listen.tls.accept_unverified_client_certificate: goes with client_ca_file");
  }
  for (const auto& host : config.rotation_postgres_hosts) {
    const auto colon = host.rfind(':');
    if (colon == host.npos || colon == 0 || colon + 1 == host.size() ||
        host.find_first_not_of("0123456789", colon + 1) != host.npos) {
      problems.emplace_back(
          "rotation.postgres_hosts: each is a host and a port, as db.example:5432");
      break;
    }
  }
  if (!config.proxy_client_ca_file.empty() && config.proxy_addresses.empty()) {
    problems.emplace_back("proxy.client_ca_file: goes with proxy.addresses");
  }
  if (!config.share_store_url.empty() && !scratch.share_store_url_file.empty()) {
    problems.emplace_back("share_store.url: give either url or url_file, not both");
  }
  const auto read_url = [&](const std::filesystem::path& from, std::string& url, const char* key) {
    if (from.empty()) return;
    auto content = read_secret_file(from);
    if (!content.ok()) {
      problems.push_back(key + (": " + content.error().detail));
      return;
    }
    url = std::string(as_text(content.value().readable()));
    while (!url.empty() && url.back() <= ' ') url.pop_back();
  };
  read_url(scratch.database_url_file, config.database_url, "database.url_file");
  read_url(scratch.share_store_url_file, config.share_store_url, "share_store.url_file");
  if (!config.share_store_url.empty() && config.share_store_url == config.database_url) {
    problems.emplace_back("share_store.url: is the database that backups are made of");
  }
  if (!problems.empty()) return ConfigProblems{std::move(problems)};
  return config;
}

}  // namespace postern::app
