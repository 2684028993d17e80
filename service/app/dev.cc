#include "app/dev.h"

#include <sys/stat.h>
#include <unistd.h>

#include "app/wiring.h"
#include "vault/root_key.h"

namespace postern::app {

std::filesystem::path default_dev_directory(const Environment& environment) {
  if (::geteuid() == 0) return "/var/lib/postern";
  if (const auto data = environment("XDG_DATA_HOME")) {
    return std::filesystem::path(*data) / "postern";
  }
  // Without a home there is no private place: prepare_dev asks for --data-dir.
  const auto home = environment("HOME");
  return home ? std::filesystem::path(*home) / ".local/share/postern" : std::filesystem::path();
}

namespace {

/// Empty, or with what an earlier run made first.
bool may_be_used(const std::filesystem::path& directory) {
  std::error_code error;
  for (const char* ours : {"root.key", "root.key.new", "postgres/pgdata/PG_VERSION"}) {
    if (std::filesystem::exists(directory / ours, error)) return true;
  }
  return std::filesystem::is_empty(directory, error) && !error;
}

}  // namespace

Result<DevEnvironment> prepare_dev(DevOptions options, const Environment& environment) {
  const auto directory = std::filesystem::absolute(
      options.directory.empty() ? default_dev_directory(environment) : options.directory);
  if (options.directory.empty() && default_dev_directory(environment).empty()) {
    return fail(ErrorCode::Unavailable, "HOME is not set; say where to keep data with --data-dir");
  }
  if (options.port == 0) {
    return fail(ErrorCode::Unavailable,
                "the port must be chosen (--port 1 to 65535): it is a part of every issuer's URL");
  }
  std::error_code error;
  if (std::filesystem::create_directories(directory, error); error) {
    return fail(ErrorCode::Unavailable,
                directory.string() + ": cannot be created: " + error.message());
  }
  // Its mode is about to change, and --data-dir may be a slip.
  if (!may_be_used(directory)) {
    return fail(
        ErrorCode::Unavailable,
        directory.string() + ": is not empty and holds no data of posternd; name a new directory");
  }
  // As root the database runs as another user, who must be able to pass
  // through; the secrets in here have modes of their own.
  ::chmod(directory.c_str(), ::geteuid() == 0 ? 0711 : 0700);

  Config config;
  config.root_key_file = directory / "root.key";
  config.operator_token_file = directory / "operator.token";
  const bool fresh_key = !std::filesystem::exists(config.root_key_file, error);
  if (fresh_key && std::filesystem::exists(directory / "postgres/pgdata/PG_VERSION", error)) {
    return fail(ErrorCode::Unavailable,
                config.root_key_file.string() +
                    ": is missing, and without it nothing in the database can be opened; restore "
                    "it, or delete " +
                    directory.string() + " to begin anew");
  }
  if (fresh_key) POSTERN_CHECK(vault::RootKeys::create(config.root_key_file));
  if (!std::filesystem::exists(config.operator_token_file, error)) {
    POSTERN_CHECK(OperatorTokens::create(config.operator_token_file));
  }

  storage::EmbeddedPostgres::Options database;
  database.directory = directory / "postgres";
  POSTERN_TRY(auto postgres, storage::EmbeddedPostgres::start(std::move(database)));
  POSTERN_CHECK(postgres.provision());
  POSTERN_CHECK(postgres.provision_shares());

  config.database_url = postgres.service_conninfo();
  config.share_store_url = postgres.service_conninfo("postern_shares");
  config.listen.address = options.address;
  config.listen.port = options.port;
  config.ops.address = options.address;
  config.ops.port = options.ops_port;
  config.ops.io_threads = 1;
  config.ops.compute_threads = 1;
  config.ops.database_threads = 1;
  config.ops.outbound_threads = 1;
  config.ops.max_connections = 64;
  const bool v6 = options.address.find(':') != std::string::npos;
  config.base_url = "http://" + (v6 ? "[" + options.address + "]" : options.address) + ":" +
                    std::to_string(options.port);
  config.outbound_allow_insecure_loopback = true;  // identity providers on this machine
  config.decision_point_allow_loopback = true;     // and policy engines
  // Rotators, too, go no further than this machine.
  config.rotation_allow_insecure_loopback = true;
  config.rotation_webhook_hosts = {"localhost", "127.0.0.1"};
  config.rotation_postgres_hosts = {"localhost:5432", "127.0.0.1:5432"};
  return DevEnvironment{std::move(postgres), std::move(config)};
}

}  // namespace postern::app
