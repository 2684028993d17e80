#include "app/backup_drill.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "app/plural.h"
#include "app/process_memory.h"
#include "app/root_keys.h"
#include "app/stores.h"
#include "crypto/base64url.h"
#include "policy/snapshot.h"
#include "storage/embedded_postgres.h"
#include "storage/migrator.h"
#include "storage/postgres_inventory.h"
#include "storage/postgres_transit_store.h"
#include "token/json.h"
#include "vault/envelope.h"
#include "vault/keyring.h"
#include "vault/transit.h"

namespace postern::app {
namespace {

namespace fs = std::filesystem;
using token::Json;

constexpr int kProven = 0;
constexpr int kFailed = 1;
constexpr std::size_t kMostProblems = 20;  // of a tenant; the rest are counted

int say(const Error& error) {
  std::cerr << "posternd: " << (error.detail.empty() ? error.diagnostic : error.detail) << '\n';
  return kFailed;
}

/// What ended the drill before its end.
int not_proven(const Error& error, const DrillOptions& options) {
  const auto code = say(error);
  if (options.json) {
    std::cout << token::dump_json({{"proven", false}, {"tenants", Json::array()}}) << '\n';
  } else {
    std::cout << "not proven: the drill did not come to its end\n";
  }
  return code;
}

/// What was found of one tenant. Problems name things, and quote no value.
struct Found {
  bool sealed = false;  ///< its key holder's share is not here, so that nothing but the audit is
  std::uint64_t keks = 0, signing_keys = 0, transit_keys = 0, credential_versions = 0;
  std::uint64_t audit_records = 0;
  std::string audit_head;
  std::uint64_t erased = 0;  ///< things whose share was destroyed
  std::uint64_t problem_count = 0;
  std::vector<std::string> problems;

  void add(std::string problem) {
    ++problem_count;
    if (problems.size() < kMostProblems) problems.push_back(std::move(problem));
  }
};

class Drill {
 public:
  Drill(const std::string& database_url, const std::string& share_store_url, std::string base_url,
        vault::RootKeys root_keys)
      : base_url_(std::move(base_url)),
        stores_(command_database(database_url, "posternd-drill", std::chrono::minutes(5)),
                std::move(root_keys), share_store_url) {}

  /// One page of all tenants after another. Errors: what ends it as a whole.
  Result<Json> run() {
    Json shown = Json::array();
    std::string cursor;
    do {
      POSTERN_TRY(const auto page, stores_.tenants.tenants(cursor, 500));
      for (const auto& row : page.items) {
        POSTERN_TRY(const auto found, prove(row.tenant));
        shown.push_back({{"tenant", row.tenant.str()},
                         {"sealed", found.sealed},
                         {"keks", found.keks},
                         {"signing_keys", found.signing_keys},
                         {"transit_keys", found.transit_keys},
                         {"credential_versions", found.credential_versions},
                         {"audit_records", found.audit_records},
                         {"audit_head", found.audit_head},
                         {"erased", found.erased},
                         {"problem_count", found.problem_count},
                         {"problems", found.problems}});
        stores_.keyring.forget(row.tenant);  // of many tenants one after the other
      }
      cursor = page.next;
    } while (!cursor.empty());
    return shown;
  }

 private:
  /// Whether it opened. A database that does not answer is no finding, but the end.
  static Result<bool> opened(const Status& status, Found& found, const std::string& what) {
    if (status.ok()) return true;
    const auto& error = status.error();
    if (error.code == ErrorCode::Unavailable) return error;
    if (error.code == ErrorCode::TenantSealed) {
      found.sealed = true;
      return false;
    }
    if (vault::is_share_destroyed(error)) {
      ++found.erased;
      return false;
    }
    const bool share = error.diagnostic.starts_with("share: ");
    found.add(what + (vault::is_another_share_store(error)
                          ? ": its share never was in this share store"
                      : error.code != ErrorCode::KeyUnavailable ? ": does not open"
                      : share ? ": the share store is not there to be asked for its share"
                              : ": its root key is not here"));
    return false;
  }
  template <class T>
  static Result<bool> opened(const Result<T>& result, Found& found, const std::string& what) {
    return opened(result.ok() ? Status() : Status(result.error()), found, what);
  }

  Result<Found> prove(const TenantId& tenant) {
    Found found;
    POSTERN_CHECK(prove_keks(tenant, found));
    POSTERN_CHECK(prove_audit(tenant, found));
    const auto stored = stores_.tenants.load(tenant);
    POSTERN_TRY(const bool read, opened(stored, found, "the configuration"));
    if (read) POSTERN_CHECK(prove_configuration(stored.value(), found));
    const auto each = [&](const storage::PostgresInventory::Entry& entry) -> Status {
      const auto& owner = entry.key.owner;
      POSTERN_TRY(const bool open, opened(envelope_.open(tenant, entry.key, entry.sealed), found,
                                          "credential " + entry.key.name.str() + " version " +
                                              std::to_string(entry.sealed.version) + " of " +
                                              (owner.is_tenant() ? "the tenant" : "a principal")));
      if (open) ++found.credential_versions;
      return {};
    };
    POSTERN_CHECK(opened(inventory_.each_version(tenant, each), found, "a row of a credential"));
    POSTERN_TRY(const auto missing, inventory_.missing(tenant));
    if (missing > 0)
      found.add("the current version of " + plural(missing, "credential") + ": missing");
    POSTERN_CHECK(prove_transit(tenant, found));
    return found;
  }

  Status prove_keks(const TenantId& tenant, Found& found) {
    POSTERN_TRY(const auto keks, stores_.keks.keks(tenant));
    for (const auto& kek : keks) {
      // The audit chain's key is of the KEK alone, with a key holder's share or without.
      POSTERN_TRY(const bool open,
                  opened(stores_.keyring.of_version(tenant, kek.version), found,
                         "KEK " + std::to_string(static_cast<std::uint32_t>(kek.version)) +
                             " under root key " + vault::root_key_ids({kek.root_key_id})));
      if (open) ++found.keks;
    }
    return {};
  }

  Status prove_audit(const TenantId& tenant, Found& found) {
    const auto verified = stores_.audit_log.verify(tenant);
    POSTERN_TRY(const bool read, opened(verified, found, "the audit chain"));
    if (!read) return {};
    const auto& chain = verified.value();
    found.audit_records = chain.records;
    found.audit_head = crypto::base64url(ByteView(chain.head));
    if (!chain.intact) {
      found.add("the audit chain: " + chain.problem +
                (chain.first_bad > 0 ? " at " + std::to_string(chain.first_bad) : std::string()));
    }
    return {};
  }

  Status prove_configuration(const policy::StoredTenant& stored, Found& found) {
    const auto& tenant = stored.row.tenant;
    for (const auto& key : stored.signing_keys) {
      POSTERN_TRY(const bool open, opened(stores_.keyring.unwrap_private(
                                              tenant, vault::kTokenSigning, key.kid, key.wrapped),
                                          found, "signing key " + key.kid));
      if (open) ++found.signing_keys;
    }
    const auto& keys = stored.signing_keys;
    if (std::none_of(keys.begin(), keys.end(), [](const auto& key) {
          return key.state == policy::SigningKeyState::Active;
        })) {
      found.add("there is no signing key that is active: no token could be issued");
    }
    // What does not open is named above; then there is nothing more to learn from this.
    if (found.problem_count > 0 || found.erased > 0) return {};
    POSTERN_CHECK(opened(policy::TenantSnapshot::build(stored, base_url_, stores_.keyring), found,
                         "the configuration"));
    return {};
  }

  Status prove_transit(const TenantId& tenant, Found& found) {
    POSTERN_TRY(const auto names, transit_.names(tenant));
    for (const auto& name : names) {
      const auto parsed = vault::TransitName::parse(name);
      POSTERN_TRY(const bool named, opened(parsed, found, "a transit key without a proper name"));
      if (!named) continue;
      const auto read = transit_.find(tenant, parsed.value());
      POSTERN_TRY(const bool there, opened(read, found, "transit key " + name));
      if (!there) continue;
      const auto& key = read.value().key;
      POSTERN_TRY(const auto versions, transit_.versions(tenant, key.id));
      if (versions.size() != key.latest_version) {
        found.add("transit key " + name + ": a version is missing");
      }
      for (const auto& version : versions) {
        const auto box =
            vault::transit_box_id(name, vault::to_string(key.type), key.id, version.version);
        POSTERN_TRY(
            const bool open,
            opened(stores_.keyring.unwrap_private(tenant, vault::kTransitKey, box, version.wrapped),
                   found, "transit key " + name + " version " + std::to_string(version.version)));
        if (open) ++found.transit_keys;
      }
    }
    return {};
  }

  const std::string base_url_;
  Stores stores_;
  vault::Envelope envelope_{stores_.keyring};
  storage::PostgresInventory inventory_{stores_.database};
  storage::PostgresTransitStore transit_{stores_.database, stores_.audit_log};
};

std::uint64_t sum(const Json& tenants, const char* member) {
  std::uint64_t total = 0;
  for (const auto& tenant : tenants) total += tenant[member].get<std::uint64_t>();
  return total;
}

int report(const Json& tenants, const DrillOptions& options) {
  const bool as_json = options.json;
  const auto erased = sum(tenants, "erased");
  const auto problems = sum(tenants, "problem_count");
  std::uint64_t sealed = 0;
  for (const auto& tenant : tenants) sealed += tenant["sealed"].get<bool>() ? 1 : 0;
  // An empty database opens as a whole, and proves nothing.
  const bool unexpected = erased > 0 && !options.accept_erased;
  const bool proven = problems == 0 && !unexpected && !tenants.empty();
  if (as_json) {
    std::cout << token::dump_json({{"proven", proven}, {"tenants", tenants}}) << '\n';
    return proven ? kProven : kFailed;
  }
  for (const auto& tenant : tenants) {
    const auto& count = tenant["problem_count"];
    std::cout << tenant["tenant"].get<std::string>() << "  "
              << plural(tenant["credential_versions"], "credential version") << ", "
              << plural(tenant["signing_keys"], "signing key") << ", "
              << plural(tenant["transit_keys"], "transit key") << ", "
              << plural(tenant["audit_records"], "audit record") << ", head "
              << tenant["audit_head"].get<std::string>()
              << (tenant["sealed"].get<bool>() ? ", sealed by its key holder" : "") << '\n';
    if (const auto gone = tenant["erased"].get<std::uint64_t>(); gone > 0) {
      std::cout << "  " << gone << " without a share: it was destroyed\n";
    }
    for (const auto& problem : tenant["problems"]) {
      std::cout << "  " << problem.get<std::string>() << '\n';
    }
    if (count > tenant["problems"].size()) {
      std::cout << "  and " << count.get<std::uint64_t>() - tenant["problems"].size() << " more\n";
    }
  }
  if (sealed > 0) {
    std::cout << plural(sealed, "tenant")
              << " sealed: what they have under their key holders' shares was not tried\n";
  }
  if (unexpected) {
    std::cout << plural(erased, "key") << " and versions of credentials take shares that were "
              << "destroyed: if they were erased after the backup, say --accept-erased\n";
  }
  if (tenants.empty()) {
    std::cout << "not proven: there is no tenant in it\n";
  } else if (problems > 0) {
    std::cout << "not proven: " << plural(problems, "problem") << " in "
              << plural(tenants.size(), "tenant") << '\n';
  } else if (unexpected) {
    std::cout << "not proven: what was erased does not open\n";
  } else {
    std::cout << "proven: " << plural(sum(tenants, "credential_versions"), "credential version")
              << " of " << plural(tenants.size(), "tenant")
              << " open, and every audit chain is intact\n";
  }
  return proven ? kProven : kFailed;
}

int prove(const std::string& database_url, const Config& config, const DrillOptions& options) {
  auto share_store_url = config.share_store_url;
  if (!options.share_store_url_file.empty()) {
    const auto content = read_secret_file(options.share_store_url_file);
    if (!content.ok()) return not_proven(content.error(), options);
    share_store_url = std::string(as_text(content.value().readable()));
    while (!share_store_url.empty() && share_store_url.back() <= ' ') share_store_url.pop_back();
  }
  auto root_keys = root_key_provider(config)->load();
  if (!root_keys.ok()) return not_proven(root_keys.error(), options);
  if (const auto schema = check_schema(database_url); !schema.ok())
    return not_proven(schema.error(), options);
  Drill drill(database_url, share_store_url, config.base_url, std::move(root_keys).value());
  const auto found = drill.run();
  return found.ok() ? report(found.value(), options) : not_proven(found.error(), options);
}

/// Restores the dump and proves what came of it.
int restore_and_prove(const Config& config, const DrillOptions& options,
                      const fs::path& directory) {
  // A process of its own has no lock of its parent's. What there is to say was said there.
  if (const auto locked = lock_memory(config); !locked.ok()) {
    return not_proven(locked.error(), options);
  }
  storage::EmbeddedPostgres::Options settings;
  settings.directory = directory / "postgres";
  settings.durability = storage::EmbeddedPostgres::Options::Durability::None;
  auto postgres = storage::EmbeddedPostgres::start(std::move(settings));
  if (!postgres.ok()) return not_proven(postgres.error(), options);
  const auto restored = postgres.value().restore(options.dump);
  if (!restored.ok()) return not_proven(restored.error(), options);
  // A backup of before the last release is brought up to date, as after a real restore.
  const auto migrated = storage::migrate(postgres.value().owner_conninfo());
  if (!migrated.ok()) return not_proven(migrated.error(), options);
  return prove(postgres.value().service_conninfo(), config, options);
}

/// A directory of our own, which the user that PostgreSQL runs as may pass through.
Result<fs::path> make_directory(const fs::path& where) {
  std::error_code error;
  const auto base = where.empty() ? fs::temp_directory_path(error) : fs::absolute(where, error);
  auto pattern = (base / "postern-drill-XXXXXX").string();
  if (error || ::mkdtemp(pattern.data()) == nullptr) {
    return fail(ErrorCode::Unavailable, base.string() + ": no directory can be made there: " +
                                            (error ? error.message() : std::strerror(errno)));
  }
  if (::geteuid() == 0) ::chmod(pattern.c_str(), 0711);
  return fs::path(pattern);
}

/// Its PostgreSQL may still be ending.
bool remove_directory(const fs::path& directory) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::error_code error;
    fs::remove_all(directory, error);
    if (!error) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  std::cerr << "posternd: " << directory.string() << " could not be removed: delete it\n";
  return false;
}

}  // namespace

int prove_backup(const Config& config, const DrillOptions& options) {
  if (const auto locked = lock_memory(config); !locked.ok())
    return not_proven(locked.error(), options);
  log::set_level(log::Level::Error);
  if (options.dump.empty()) return prove(config.database_url, config, options);
  if (::access(options.dump.c_str(), R_OK) != 0) {
    return say(fail(ErrorCode::Unavailable,
                    options.dump.string() + ": cannot be read: " + std::strerror(errno)));
  }
  // The work is done by a child: whatever ends it, and whatever ends us but SIGKILL,
  // nothing of the backup is left behind.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT}) sigaddset(&signals, number);
  sigset_t before;
  sigprocmask(SIG_BLOCK, &signals, &before);
  const auto directory = make_directory(options.directory);
  if (!directory.ok()) return say(directory.error());
  const auto child = ::fork();
  if (child < 0) {
    remove_directory(directory.value());
    return say(fail(ErrorCode::Unavailable, "no process could be started"));
  }
  if (child == 0) {
    sigprocmask(SIG_SETMASK, &before, nullptr);
    ::setpgid(0, 0);  // ^C is for the parent
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int result = restore_and_prove(config, options, directory.value());
    std::cout.flush();
    ::_exit(result);
  }
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    int number = 0;
    sigwait(&signals, &number);
    if (number != SIGCHLD) ::kill(child, SIGKILL);  // its PostgreSQL ends with it
  }
  sigprocmask(SIG_SETMASK, &before, nullptr);
  const bool removed = remove_directory(directory.value());
  if (!WIFEXITED(status)) {
    std::cerr << "posternd: the drill was ended\n";
    return kFailed;
  }
  return removed ? WEXITSTATUS(status) : kFailed;
}

}  // namespace postern::app
