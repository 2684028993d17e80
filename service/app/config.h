#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/log.h"
#include "core/result.h"
#include "core/secret.h"
#include "grants/throttle.h"
#include "http/server.h"
#include "outbound/address.h"
#include "vault/root_key_pkcs11.h"

namespace postern::app {

/// The configuration of `posternd serve`. One TOML file; every key can be given
/// in the environment instead (`listen.port` is POSTERND_LISTEN_PORT). Unknown
/// keys are errors. Secrets are file paths, never values.
struct Config {
  std::string base_url;  ///< public origin, as in token issuers; https but for loopback
  http::ServerOptions listen;
  http::ServerOptions ops;   ///< /livez, /readyz, /metrics
  std::string database_url;  ///< without a password, or read from database.url_file
  std::size_t database_connections = 12;
  /// Where shares of keys are, in no backup; "": there is no share store.
  std::string share_store_url;
  /// For how long copies of the share store are kept all the same.
  std::uint32_t share_store_backup_days = 0;
  std::filesystem::path root_key_file;
  std::vector<std::string> root_key_command;  ///< in its place: a program and its arguments
  std::filesystem::path passphrase_file;      ///< then root_key_file says how they are stretched
  vault::RootKeyPkcs11::Where pkcs11;         ///< then it has what this token has encrypted
  bool require_locked_memory = false;         ///< false: only warns when memory cannot be locked
  std::filesystem::path operator_token_file;
  std::vector<std::string> outbound_allow_private;
  std::string outbound_ca_file;
  bool outbound_allow_insecure_loopback = false;
  /// Where tenants' decision points may be, besides public addresses. Theirs
  /// alone: what tenants name (issuers) never gets there by these.
  std::vector<std::string> decision_point_allow_private;
  bool decision_point_allow_loopback = false;
  /// Where rotators may go: nowhere unless it is named here.
  std::vector<std::string> rotation_postgres_hosts;  ///< `host:port`
  std::string rotation_postgres_ca_file;
  std::vector<std::string> rotation_webhook_hosts;
  std::vector<std::string> rotation_allow_private;  ///< networks of webhooks, besides public ones
  bool rotation_allow_insecure_loopback = false;
  std::vector<std::string> proxy_addresses;  ///< networks whose Client-Cert is believed
  std::string proxy_client_ca_file;          ///< who vouches for certificates in Client-Cert
  grants::Throttle::Options throttle;
  bool dpop_require_nonce = false;
  log::Level log_level = log::Level::Info;
  std::size_t snapshot_memory_bytes = 256 * 1024 * 1024;
  /// How often a replica looks for changes that nobody announced to it, and how long it goes
  /// on without word of the database. Not in the file: whoever stops something relies on it.
  std::chrono::milliseconds follow_interval{1000};
  std::chrono::seconds max_staleness{10};
};

/// Whose connections are answered (RFC 6749 section 3.2): without TLS of our own
/// loopback and the declared proxies, which have it. Empty: everybody's, over TLS
/// or where base_url itself is plain http on loopback.
std::function<bool(std::string_view address)> peers_taken(const Config& config,
                                                          std::vector<outbound::Network> proxies);

/// All that is wrong with a configuration, each with key and what to do.
struct ConfigProblems {
  std::vector<std::string> problems;
};

using Environment = std::function<std::optional<std::string>(const std::string& name)>;
Environment process_environment();
/// Names of this process's variables that begin with POSTERND_.
std::vector<std::string> process_settings();

/// Reads and validates everything; on failure every problem is listed.
/// @param file  may be empty: then all comes from the environment.
/// @param settings  names of variables; one that is no key's is a problem.
std::variant<Config, ConfigProblems> load_config(const std::filesystem::path& file,
                                                 const Environment& environment,
                                                 const std::vector<std::string>& settings = {});

/// `name` in $CREDENTIALS_DIRECTORY when it is set and the file is there
/// (systemd LoadCredential), else nothing.
std::optional<std::filesystem::path> systemd_credential(const Environment& environment,
                                                        std::string_view name);

/// Reads a small secret file: regular, not readable by others. Errors: Unavailable.
Result<SecureBuffer> read_secret_file(const std::filesystem::path& file);

}  // namespace postern::app
