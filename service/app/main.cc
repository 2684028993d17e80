#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <ctime>
#include <exception>
#include <fstream>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <thread>
#include <typeinfo>
#include <variant>

#include "app/backup_drill.h"
#include "app/config.h"
#include "app/dev.h"
#include "app/key_commands.h"
#include "app/process_memory.h"
#include "app/tenant_archive.h"
#include "app/wiring.h"
#include "core/instant.h"
#include "core/log.h"
#include "policy/erasure_statement.h"
#include "storage/migrator.h"
#include "token/json.h"

namespace {

using namespace postern;

constexpr int kOk = 0;
constexpr int kFailed = 1;
constexpr int kUsage = 2;

int say(const Error& error) {
  std::cerr << "posternd: " << (error.detail.empty() ? error.diagnostic : error.detail) << '\n';
  return kFailed;
}

/// Signals are waited for in one place; every thread started later inherits the mask.
sigset_t block_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return set;
}

/// Stopping waits for others: clients, the database. After this time, or at a
/// second signal, the process ends as it is.
void end_anyway_after(std::chrono::milliseconds time, sigset_t signals) {
  sigdelset(&signals, SIGHUP);
  std::thread([time, signals] {
    using std::chrono::steady_clock;
    const auto first = steady_clock::now();
    int signal = 0;
    while (signal <= 0) {
      const auto left = first + time - steady_clock::now();
      if (left <= left.zero()) break;
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
      timespec wait{};
      wait.tv_sec = seconds.count();
      wait.tv_nsec = std::chrono::nanoseconds(left - seconds).count();
      signal = ::sigtimedwait(&signals, nullptr, &wait);
      // Supervisors signal the process and then its group: that is one request.
      if (steady_clock::now() - first < std::chrono::seconds(1)) signal = 0;
    }
    log::error("service.ended_by_force",
               {{"cause", signal > 0 ? "a second signal" : "stopping took too long"}});
    ::_exit(kFailed);
  }).detach();
}

/// `tick` is called about once a second.
int run_until_signalled(
    app::Service& service, const sigset_t& signals, std::chrono::milliseconds drain_timeout,
    const std::function<void()>& tick = [] {}) {
  for (;;) {
    const timespec second{1, 0};
    const int signal = ::sigtimedwait(&signals, nullptr, &second);
    if (signal < 0) {
      app::keep_memory_locked();
      tick();
      continue;
    }
    if (signal == SIGHUP) {
      service.reload_root_keys();
      const auto reloaded = service.reload_tls();
      if (!reloaded.ok()) log::error("tls.reload_failed", {{"reason", reloaded.error().detail}});
      continue;
    }
    end_anyway_after(drain_timeout + std::chrono::seconds(10), signals);
    service.drain();
    return kOk;
  }
}

std::optional<app::Config> read_config(const std::string& file) {
  auto loaded = app::load_config(file, app::process_environment(), app::process_settings());
  if (auto* config = std::get_if<app::Config>(&loaded)) return std::move(*config);
  for (const auto& problem : std::get<app::ConfigProblems>(loaded).problems) {
    std::cerr << "posternd: " << problem << '\n';
  }
  return std::nullopt;
}

int serve(const std::string& file) {
  const auto signals = block_signals();
  auto config = read_config(file);
  if (!config) return kUsage;
  const auto drain_timeout = config->listen.drain_timeout;
  auto service = app::Service::create(std::move(*config));
  if (!service.ok()) return say(service.error());
  if (const auto started = service.value()->start(); !started.ok()) return say(started.error());
  return run_until_signalled(*service.value(), signals, drain_timeout);
}

int check_config(const std::string& file) {
  auto config = read_config(file);
  if (!config) return kUsage;
  auto service = app::Service::create(std::move(*config));
  if (!service.ok()) return say(service.error());
  if (const auto keys = service.value()->check_root_keys(); !keys.ok()) return say(keys.error());
  std::cout << "configuration, root key, operator token and database schema are in order\n";
  return kOk;
}

int dev(const app::DevOptions& options) {
  const auto signals = block_signals();
  auto prepared = app::prepare_dev(options, app::process_environment());
  if (!prepared.ok()) return say(prepared.error());
  auto& environment = prepared.value();
  const auto token_file = environment.config.operator_token_file;
  const auto base_url = environment.config.base_url;
  int status = kOk;
  {
    auto service = app::Service::create(environment.config);
    if (!service.ok()) return say(service.error());
    if (const auto started = service.value()->start(); !started.ok()) return say(started.error());
    std::cout << "Postern is ready at " << base_url << "\n"
              << "operator token: " << token_file.string() << " (mode 0600)\n"
              << "metrics: http://" << options.address << ":" << service.value()->ops_port()
              << "/metrics\n"
              << "Development only: loopback, one machine. For production see docs/operations.md\n"
              << std::flush;
    status = run_until_signalled(*service.value(), signals, environment.config.listen.drain_timeout,
                                 [&] { environment.postgres.keep_running(); });
  }
  environment.postgres.stop();
  return status;
}

int migrate(const std::string& url_file, const std::string& bootstrap_file,
            const std::string& database, storage::Schema schema) {
  const auto read = [](const std::string& file) -> Result<std::string> {
    POSTERN_TRY(const auto content, app::read_secret_file(file));
    std::string text(as_text(content.readable()));
    while (!text.empty() && text.back() <= ' ') text.pop_back();
    return text;
  };
  if (!bootstrap_file.empty()) {
    auto superuser = read(bootstrap_file);
    if (!superuser.ok()) return say(superuser.error());
    storage::BootstrapOptions options;
    options.superuser_conninfo = superuser.value();
    options.database = database;
    if (const auto done = storage::bootstrap(options); !done.ok()) return say(done.error());
    std::cout << "roles postern_owner, postern_service, postern_auditor and database " << database
              << " are in place\n";
  }
  if (url_file.empty()) return kOk;
  auto owner = read(url_file);
  if (!owner.ok()) return say(owner.error());
  if (const auto done = storage::migrate(owner.value(), schema); !done.ok())
    return say(done.error());
  auto state = storage::schema_state(owner.value(), schema);
  if (!state.ok()) return say(state.error());
  std::cout << "schema is " << storage::to_string(state.value().status) << " at version "
            << state.value().applied << "\n";
  return kOk;
}

/// Neither file holds a secret.
Result<std::string> public_file(const std::string& name) {
  constexpr std::size_t kMost = 1024 * 1024;
  std::ifstream in(name, std::ios::binary);
  std::string content(kMost + 1, '\0');
  in.read(content.data(), static_cast<std::streamsize>(content.size()));
  content.resize(static_cast<std::size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  if (content.empty() || content.size() > kMost) {
    return fail(ErrorCode::Unavailable, name + ": cannot be read");
  }
  while (!content.empty() && content.back() <= ' ') content.pop_back();
  return content;
}

int verify_erasure(const std::string& file, const std::string& keys_file) {
  const auto statement = public_file(file);
  if (!statement.ok()) return say(statement.error());
  const auto text = public_file(keys_file);
  if (!text.ok()) return say(text.error());
  const auto keys = token::parse_json(text.value());
  if (!keys.ok()) return say(fail(ErrorCode::Unavailable, keys_file + ": is no JWK Set"));
  const auto said = policy::verify_statement(keys.value(), statement.value());
  if (!said.ok()) return say(said.error());
  std::cout << token::dump_json(said.value()) << "\n";
  return kOk;
}

int run(int argc, char** argv) {
  CLI::App program{"Postern: credential vault and token exchange for MCP gateways"};
  program.name("posternd");
  program.set_version_flag("--version", std::string("posternd ") + POSTERN_VERSION);
  program.require_subcommand(1);

  std::string config_file;
  auto* serve_command = program.add_subcommand("serve", "Serve, with a PostgreSQL of yours");
  serve_command->add_option("-c,--config", config_file, "TOML file; keys also as POSTERND_…");
  auto* check_command =
      program.add_subcommand("check-config", "Check configuration, keys and schema, then exit");
  check_command->add_option("-c,--config", config_file, "TOML file; keys also as POSTERND_…");

  app::DevOptions dev_options;
  auto* dev_command =
      program.add_subcommand("dev", "Serve on loopback with a private PostgreSQL of its own");
  dev_command->add_option("--data-dir", dev_options.directory, "Where everything is kept");
  dev_command->add_option("--port", dev_options.port, "Port (default 8711)");
  dev_command->add_option("--ops-port", dev_options.ops_port,
                          "Port of health and metrics (default 8712)");

  std::string url_file;
  std::string bootstrap_file;
  std::string database;
  bool share_store = false;
  auto* migrate_command = program.add_subcommand("migrate", "Bring the database schema up to date");
  migrate_command->add_option("--url-file", url_file,
                              "File with the PostgreSQL URL of the role postern_owner");
  migrate_command->add_option("--bootstrap-url-file", bootstrap_file,
                              "First create roles and database, with this superuser's URL");
  migrate_command->add_option("--database", database,
                              "Database to create (default postern, or postern_shares)");
  migrate_command->add_flag("--share-store", share_store,
                            "Of the share store, which is a database of its own");

  std::string file;
  auto* keys_command = program.add_subcommand("keys", "Root keys");
  keys_command->require_subcommand(1);
  auto* keys_create = keys_command->add_subcommand("create", "Make a root key file, mode 0600");
  keys_create->add_option("FILE", file, "File to create")->required();
  auto* keys_add = keys_command->add_subcommand(
      "add", "Put a fresh key first in a root key file, as the active");
  keys_add->add_option("FILE", file, "Root key file")->required();
  app::RootKeySource source;
  for (auto* command : {keys_create, keys_add}) {
    auto* passphrases = command->add_option("--passphrase-file", source.passphrase_file,
                                            "Stretch the key from the first line of this file");
    auto* module = command->add_option("--pkcs11-module", source.pkcs11.module,
                                       "Have it encrypted by a token: its PKCS #11 library");
    auto* token = command->add_option("--pkcs11-token", source.pkcs11.token, "The token's label");
    auto* pin = command->add_option("--pkcs11-pin-file", source.pkcs11.pin_file,
                                    "File with the token's user PIN");
    command
        ->add_option("--pkcs11-key", source.pkcs11_key,
                     "Label of the token's AES key, made when there is none (default postern)")
        ->needs(module);
    module->excludes(passphrases)->needs(token)->needs(pin);
    token->needs(module);
    pin->needs(module);
  }
  using vault::Rotation;
  app::KeyOptions key_options;
  bool all_tenants = false;
  /// @param rate  how many a second without --rate; 0: it has no such option.
  const auto on_database = [&](const char* name, const char* help, bool tenants,
                               std::uint32_t rate) {
    auto* command = keys_command->add_subcommand(name, help);
    command->add_option("-c,--config", config_file, "TOML file; keys also as POSTERND_…");
    command->add_flag("--json", key_options.json, "JSON on standard output");
    if (tenants) {
      auto* one = command->add_option("TENANT", key_options.tenant, "Tenant");
      command->add_flag("--all", all_tenants, "Every tenant")->excludes(one);
    }
    if (rate > 0) {
      command
          ->add_option("--rate", key_options.per_second,
                       "At most so many a second (default " + std::to_string(rate) +
                           "); 0: as fast as it goes")
          ->check(CLI::Range(0, 1'000'000));
    }
    return command;
  };
  auto* keys_status =
      on_database("status", "Where keys are in use, and what is left to do", false, 0);
  auto* keys_rotate_root =
      on_database("rotate-root", "Wrap every tenant's KEKs under the active root key", false,
                  Rotation::kKeksPerSecond);
  keys_rotate_root->add_flag("--force", key_options.force,
                             "Also when a replica is there that has not the active root key");
  auto* keys_rotate_tenant =
      on_database("rotate-tenant", "A new KEK for what is sealed from now on", true,
                  Rotation::kTenantsPerSecond);
  keys_rotate_tenant
      ->add_option("--older-than", key_options.older_than,
                   "Only tenants whose newest KEK is from before this time, or older than so long, "
                   "such as 30d")
      ->check([](const std::string& text) {
        return instant_before(text, SystemClock().now()) ? "" : std::string(kInstantExpected);
      });
  auto* keys_rewrap = on_database("rewrap", "Wrap what is under older KEKs under the newest", true,
                                  Rotation::kRowsPerSecond);
  app::DrillOptions drill_options;
  bool drill = false;
  auto* restore_command = program.add_subcommand("restore", "Prove that a backup can be restored");
  restore_command->add_option("-c,--config", config_file, "TOML file; keys also as POSTERND_…");
  restore_command
      ->add_flag("--drill", drill, "Open all that it has, and change nothing; it does no other")
      ->required();
  auto* dump = restore_command->add_option(
      "--dump", drill_options.dump,
      "Archive of pg_dump -Fc, -Fd or -Ft, restored into a PostgreSQL of its own (default: the "
      "database of the configuration)");
  restore_command
      ->add_option("--directory", drill_options.directory,
                   "Where that is kept meanwhile (default: the temporary directory)")
      ->needs(dump);
  restore_command->add_option("--share-store-url-file", drill_options.share_store_url_file,
                              "File with the URL of the share store (default: that of the "
                              "configuration)");
  restore_command->add_flag("--accept-erased", drill_options.accept_erased,
                            "Also when shares were destroyed: by erasures after the backup");
  restore_command->add_flag("--json", drill_options.json, "JSON on standard output");
  auto* tenant_command = program.add_subcommand("tenant", "Move a tenant between installations");
  tenant_command->require_subcommand(1);
  app::ArchiveOptions archive_options;
  const auto on_archive = [&](const char* name, const char* help) {
    auto* command = tenant_command->add_subcommand(name, help);
    command->add_option("-c,--config", config_file, "TOML file; keys also as POSTERND_…");
    command
        ->add_option("--passphrase-file", archive_options.passphrase_file,
                     "File whose first line opens the archive: 16 bytes at least")
        ->required();
    return command;
  };
  auto* export_command = on_archive("export", "All that a tenant has, in an encrypted archive");
  export_command->add_option("TENANT", archive_options.tenant, "Tenant")->required();
  export_command->add_option("FILE", archive_options.file, "Archive to create, mode 0600")
      ->required();
  auto* import_command = on_archive("import", "A tenant that another installation exported");
  import_command->add_option("TENANT", archive_options.tenant, "The tenant that is expected in it")
      ->required();
  import_command->add_option("FILE", archive_options.file, "Archive")->required();
  import_command->add_flag("--accept-guardrails", archive_options.accept_guardrails,
                           "Also with guardrails of the archive, which are shown otherwise");
  import_command->add_flag("--enable", archive_options.enable, "Enable it when all is imported");
  import_command->add_flag("--resume", archive_options.resume,
                           "Go on with an import that did not end");
  auto* erasure_command = program.add_subcommand("erasure", "Statements of erasure");
  erasure_command->require_subcommand(1);
  auto* erasure_verify = erasure_command->add_subcommand(
      "verify", "Verify a statement with an installation's published keys, and show it");
  std::string statement_file, statement_keys_file;
  erasure_verify->add_option("FILE", statement_file, "The statement")->required();
  erasure_verify
      ->add_option("--keys", statement_keys_file, "What GET /api/v1/erasure-keys answered")
      ->required();
  auto* token_command = program.add_subcommand("operator-token", "Operator tokens");
  token_command->require_subcommand(1);
  auto* token_create =
      token_command->add_subcommand("create", "Make an operator token file, mode 0600");
  token_create->add_option("FILE", file, "File to create")->required();

  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = program.exit(error);
    return code == 0 ? kOk : kUsage;
  }
  if (serve_command->parsed()) return serve(config_file);
  if (check_command->parsed()) return check_config(config_file);
  if (dev_command->parsed()) return dev(dev_options);
  if (migrate_command->parsed()) {
    if (url_file.empty() && bootstrap_file.empty()) {
      std::cerr << "posternd: migrate needs --url-file, --bootstrap-url-file or both\n";
      return kUsage;
    }
    if (database.empty()) database = share_store ? "postern_shares" : "postern";
    return migrate(url_file, bootstrap_file, database,
                   share_store ? storage::Schema::Shares : storage::Schema::Service);
  }
  if (erasure_verify->parsed()) return verify_erasure(statement_file, statement_keys_file);
  if (keys_add->parsed()) return app::add_root_key(file, source);
  if (keys_create->parsed()) return app::create_root_key(file, source);
  if (restore_command->parsed()) {
    const auto config = read_config(config_file);
    return config ? app::prove_backup(*config, drill_options) : kUsage;
  }
  if (export_command->parsed() || import_command->parsed()) {
    const auto config = read_config(config_file);
    if (!config) return kUsage;
    return export_command->parsed() ? app::export_tenant(*config, archive_options)
                                    : app::import_tenant(*config, archive_options);
  }
  const auto with_config = [&](int (*command)(const app::Config&, const app::KeyOptions&)) {
    const auto config = read_config(config_file);
    return config ? command(*config, key_options) : kUsage;
  };
  if (keys_status->parsed()) return with_config(app::show_keys);
  if (keys_rotate_root->parsed()) return with_config(app::rotate_root);
  if (keys_rotate_tenant->parsed() || keys_rewrap->parsed()) {
    if (key_options.tenant.empty() != all_tenants) {
      std::cerr << "posternd: name a tenant, or --all of them\n";
      return kUsage;
    }
    return with_config(keys_rewrap->parsed() ? app::rewrap_tenants : app::rotate_tenants);
  }
  const auto done = app::OperatorTokens::create(file);
  if (!done.ok()) return say(done.error());
  std::cout << "created " << file << "\n";
  return kOk;
}

}  // namespace

int main(int argc, char** argv) {
  postern::app::wipe_freed_memory();
  postern::app::harden_process();
  try {
    return run(argc, argv);
  } catch (const std::exception& fault) {
    // The type only: what() may quote data.
    std::cerr << "posternd: internal fault: " << typeid(fault).name() << '\n';
    return kFailed;
  }
}
