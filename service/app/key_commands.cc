#include "app/key_commands.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <utility>

#include "app/plural.h"
#include "app/process_memory.h"
#include "app/root_keys.h"
#include "app/stores.h"
#include "core/instant.h"
#include "core/log.h"
#include "core/pace.h"
#include "core/time_format.h"
#include "storage/postgres_erasure_store.h"
#include "storage/postgres_rotation_store.h"
#include "token/json.h"
#include "vault/keyring.h"
#include "vault/root_key_passphrase.h"
#include "vault/root_key_pkcs11.h"
#include "vault/share_errors.h"

namespace postern::app {
namespace {

using std::chrono::steady_clock;
using token::Json;

constexpr int kOk = 0;
constexpr int kFailed = 1;

int say(const Error& error) {
  std::cerr << "posternd: " << (error.detail.empty() ? error.diagnostic : error.detail) << '\n';
  return kFailed;
}

/// Why nothing was done for one tenant, while others go on.
void say_why(const TenantId& tenant, const Error& error) {
  const char* const why =
      error.code == ErrorCode::TenantSealed
          ? "its key demands a share; an unsealed replica moves its rows"
      : storage::is_being_erased(error) ? "it is being erased, and gets no new key"
      : vault::is_share_store_away(error)
          ? "the share store does not answer, or [share_store] is not set here"
      : error.code == ErrorCode::NotFound
          ? "its keys or its audit log are not as they were left; see postern "
            "audit verify"
      : error.code == ErrorCode::Unavailable || error.code == ErrorCode::Conflict
          ? "others hold its rows; run it again"
          : "its key cannot be opened";
  std::cerr << "posternd: tenant " << tenant << ": " << why << '\n';
}

std::uint32_t number(KekVersion version) { return static_cast<std::uint32_t>(version); }

/// What the commands work with.
struct Tools : Stores {
  Tools(const Config& config, vault::RootKeys root_keys, std::vector<std::string> given,
        vault::Rotation::Options options)
      : Stores(command_database(config.database_url, "posternd-keys", std::chrono::seconds(30)),
               std::move(root_keys), config.share_store_url),
        ids(std::move(given)),
        store(database, audit_log),
        rotation(store, keyring, clock, std::move(options)) {}

  const std::vector<std::string> ids;
  storage::PostgresRotationStore store;
  vault::Rotation rotation;
};

enum class WithoutKeys { Fail, GoOn };

Result<std::unique_ptr<Tools>> open_tools(const Config& config, const KeyOptions& options,
                                          WithoutKeys without, std::uint32_t rate) {
  log::set_level(config.log_level);
  POSTERN_CHECK(lock_memory(config));
  auto root_keys = root_key_provider(config)->load();
  if (!root_keys.ok()) {
    if (without == WithoutKeys::Fail) return root_keys.error();
    std::cerr << "posternd: " << root_keys.error().detail << '\n';
    root_keys = vault::RootKeys::none();
  }
  POSTERN_CHECK(check_schema(config.database_url));
  vault::Rotation::Options rotation;
  rotation.per_second = options.per_second.value_or(rate);
  auto ids = root_keys.value().ids();
  return std::make_unique<Tools>(config, std::move(root_keys).value(), std::move(ids),
                                 std::move(rotation));
}

/// Tenants that the command is about, in order.
Result<std::vector<TenantId>> tenants_of(Tools& tools, const KeyOptions& options) {
  std::vector<TenantId> all;
  if (!options.tenant.empty()) {
    POSTERN_TRY(auto tenant, TenantId::parse(options.tenant));
    all.push_back(std::move(tenant));
    return all;
  }
  std::string cursor;
  do {
    POSTERN_TRY(const auto page, tools.tenants.tenants(cursor, 500));
    for (const auto& row : page.items) all.push_back(row.tenant);
    cursor = page.next;
  } while (!cursor.empty());
  return all;
}

/// Whether a tenant of which something was not found was removed since the list was read.
/// The head of an audit log that does not verify is not found either.
bool is_removed(Tools& tools, const TenantId& tenant) {
  const auto there = tools.tenants.load(tenant);
  return !there.ok() && there.error().code == ErrorCode::NotFound;
}

/// Runs `each` for all of them, and returns how many failed: one tenant must not keep the
/// others on their keys. Errors: that of a tenant which the operator named; Unavailable
/// when it is the database that does not answer.
Result<std::uint64_t> for_tenants(Tools& tools, const KeyOptions& options,
                                  const std::vector<TenantId>& tenants,
                                  const std::function<Status(const TenantId&)>& each) {
  constexpr int kMostInARow = 5;  // each was tried several times
  std::uint64_t failed = 0;
  int unavailable = 0;
  for (const auto& tenant : tenants) {
    const auto done = each(tenant);
    if (done.ok()) {
      unavailable = 0;
      continue;
    }
    const auto& error = done.error();
    if (!options.tenant.empty()) return error;
    if (error.code == ErrorCode::NotFound && is_removed(tools, tenant)) continue;
    unavailable = error.code == ErrorCode::Unavailable ? unavailable + 1 : 0;
    if (unavailable == kMostInARow || (unavailable > 0 && !tools.store.now().ok())) return error;
    say_why(tenant, error);
    if (!storage::is_being_erased(error)) ++failed;
  }
  return failed;
}

/// One line on standard error every second, for somebody who waits.
class ProgressLine {
 public:
  explicit ProgressLine(std::string what) : what_(std::move(what)) {}
  void operator()(const vault::Rotation::Progress& progress) {
    const auto now = steady_clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::seconds(1);
    std::cerr << "posternd: " << what_ << ' ' << progress.done << " of " << progress.total;
    if (progress.failed > 0) std::cerr << ", " << progress.failed << " failed";
    if (progress.shares > 0) std::cerr << ", " << progress.shares << " shares made";
    std::cerr << '\n';
  }

 private:
  const std::string what_;
  steady_clock::time_point next_ = steady_clock::now() + std::chrono::seconds(1);
};

std::string state_of(const std::vector<std::string>& given, const std::string& id) {
  if (!given.empty() && given.front() == id) return "active";
  return std::find(given.begin(), given.end(), id) != given.end() ? "old" : "missing";
}

std::string shown(const std::string& id) { return vault::root_key_ids({id}); }

/// Every root key there is word of: those here, then those that only the database knows.
std::vector<vault::RootKeyUse> all_root_keys(const std::vector<std::string>& given,
                                             const std::vector<vault::RootKeyUse>& uses) {
  std::vector<vault::RootKeyUse> all;
  for (const auto& id : given) {
    const auto used = std::find_if(uses.begin(), uses.end(),
                                   [&](const auto& use) { return use.root_key_id == id; });
    all.push_back(used != uses.end() ? *used : vault::RootKeyUse{id, 0, 0, 0});
  }
  for (const auto& use : uses) {
    if (state_of(given, use.root_key_id) == "missing") all.push_back(use);
  }
  return all;
}

/// What an operator should do next; nothing when all is done.
std::vector<std::string> advice(const std::vector<std::string>& given,
                                const std::vector<vault::RootKeyUse>& uses,
                                const vault::Backlog& backlog, const vault::Backlog& held) {
  std::vector<std::string> out;
  std::uint64_t old = 0;
  for (const auto& key : all_root_keys(given, uses)) {
    const auto state = state_of(given, key.root_key_id);
    if (state == "missing") {
      out.push_back("root key " + shown(key.root_key_id) + " is missing: put its line back; " +
                    plural(key.keks, "KEK") + " cannot be opened without it");
    } else if (state == "old" && key.keks == 0) {
      out.push_back("root key " + key.root_key_id +
                    " wraps nothing any more: its line may leave the file once every replica has "
                    "the active key; keep it as long as backups from before");
    }
    if (state == "old") old += key.keks;
  }
  if (old > 0) out.push_back(plural(old, "KEK") + " to wrap: posternd keys rotate-root");
  if (backlog.rows() > held.rows()) {
    out.push_back(plural(backlog.rows() - held.rows(), "row") +
                  " to move: posternd keys rewrap --all");
  }
  if (held.rows() > 0) {
    out.push_back(plural(held.rows(), "row") + " of " + plural(held.tenants, "tenant") +
                  " with a key holder to move: a replica does so where the tenant is unsealed, "
                  "rewrap has not its share");
  }
  return out;
}

Json summary(const std::vector<std::string>& given, const std::vector<vault::RootKeyUse>& uses,
             const vault::Backlog& backlog, const vault::Backlog& held) {
  Json keys = Json::array();
  std::uint64_t to_rotate = 0, rewrapped = 0;
  for (const auto& key : all_root_keys(given, uses)) {
    const auto state = state_of(given, key.root_key_id);
    keys.push_back({{"id", shown(key.root_key_id)},
                    {"state", state},
                    {"keks", key.keks},
                    {"tenants", key.tenants}});
    if (state != "active") to_rotate += key.keks;
    rewrapped += key.rewrapped;
  }
  return {{"root_keys", std::move(keys)},
          {"keks_to_rotate", to_rotate},
          {"rows_to_rewrap",
           {{"tenants", backlog.tenants},
            {"credential_versions", backlog.credential_versions},
            {"signing_keys", backlog.signing_keys},
            {"others", backlog.others}}},
          {"rows_rewrapped", rewrapped},
          {"advice", advice(given, uses, backlog, held)}};
}

}  // namespace

std::string key_summary(const std::vector<std::string>& given,
                        const std::vector<vault::RootKeyUse>& uses, const vault::Backlog& backlog,
                        const vault::Backlog& held) {
  return token::dump_json(summary(given, uses, backlog, held));
}

int show_keys(const Config& config, const KeyOptions& options) {
  const auto opened = open_tools(config, options, WithoutKeys::GoOn, 0);
  if (!opened.ok()) return say(opened.error());
  auto& tools = *opened.value();
  const auto uses = tools.store.root_key_uses();
  if (!uses.ok()) return say(uses.error());
  const auto backlog = tools.store.backlog();
  if (!backlog.ok()) return say(backlog.error());
  const auto held = vault::held_backlog(tools.store);
  if (!held.ok()) return say(held.error());
  auto json = summary(tools.ids, uses.value(), backlog.value(), held.value());
  json["tenants"] = Json::array();
  std::string lines;
  bool share_store_needed = false;
  const auto tenants = tenants_of(tools, options);
  if (!tenants.ok()) return say(tenants.error());
  const auto failed =
      for_tenants(tools, options, tenants.value(), [&](const TenantId& tenant) -> Status {
        POSTERN_TRY(const auto keks, tools.store.kek_uses(tenant));
        Json versions = Json::array();
        for (const auto& kek : keks) {
          share_store_needed = share_store_needed || kek.takes_share;
          versions.push_back({{"version", number(kek.version)},
                              {"root_key_id", shown(kek.root_key_id)},
                              {"credential_versions", kek.credential_versions},
                              {"signing_keys", kek.signing_keys},
                              {"others", kek.others},
                              {"share", kek.takes_share}});
          lines += "  " + tenant.str() + "  KEK " + std::to_string(number(kek.version)) +
                   (&kek == &keks.front() ? " (current)" : "") +
                   (kek.takes_share ? " with a share" : "") + "  root key " +
                   shown(kek.root_key_id) + "  " +
                   plural(kek.credential_versions, "credential version") + ", " +
                   plural(kek.signing_keys, "signing key") +
                   (kek.others > 0 ? ", " + plural(kek.others, "other row") : "") + "\n";
        }
        json["tenants"].push_back({{"tenant", tenant.str()}, {"keks", std::move(versions)}});
        return {};
      });
  if (!failed.ok()) return say(failed.error());
  const int code = failed.value() == 0 ? kOk : kFailed;
  auto* const shares = tools.shares.store();
  const char* const share_store = shares == nullptr     ? "none"
                                  : shares->ping().ok() ? "ok"
                                                        : "unreachable";
  json["share_store"] = share_store;
  if (shares == nullptr && share_store_needed) {
    json["advice"].push_back(
        "KEKs take a share, and [share_store] is not set here: nothing under them is moved, nor "
        "does their tenant get a new one");
  }
  if (options.json) {
    std::cout << token::dump_json(json) << '\n';
    return code;
  }
  std::cout << "root keys\n";
  for (const auto& key : json["root_keys"]) {
    std::cout << "  " << key["id"].get<std::string>() << "  " << key["state"].get<std::string>()
              << "  " << plural(key["keks"].get<std::uint64_t>(), "KEK") << " of "
              << plural(key["tenants"].get<std::uint64_t>(), "tenant") << '\n';
  }
  std::cout << "share store\n  " << share_store << '\n';
  std::cout << "tenants\n" << lines;
  std::cout << "to do\n";
  for (const auto& line : json["advice"]) std::cout << "  " << line.get<std::string>() << '\n';
  if (json["advice"].empty()) std::cout << "  nothing\n";
  return code;
}

int rotate_root(const Config& config, const KeyOptions& options) {
  const auto opened =
      open_tools(config, options, WithoutKeys::Fail, vault::Rotation::kKeksPerSecond);
  if (!opened.ok()) return say(opened.error());
  auto& tools = *opened.value();
  const auto without = tools.store.replicas_without(tools.ids.front());
  if (!without.ok()) return say(without.error());
  if (without.value() > 0 && !options.force) {
    std::cerr << "posternd: " << plural(without.value(), "replica") << " without root key "
              << tools.ids.front()
              << ": give the file to all of them and wait a second, or they will open nothing "
                 "that is wrapped under it (--force to do it all the same)\n";
    return kFailed;
  }
  ProgressLine line("KEKs wrapped under root key " + tools.ids.front() + ":");
  const auto done = tools.rotation.rotate_root(std::ref(line));
  if (!done.ok()) {
    say(done.error());
    std::cerr << "posternd: what was done stays done; run it again\n";
    return kFailed;
  }
  const auto& progress = done.value();
  const auto uses = tools.store.root_key_uses();
  if (!uses.ok()) return say(uses.error());
  const auto todo = advice(tools.ids, uses.value(), {}, {});
  if (options.json) {
    std::cout << token::dump_json({{"root_key_id", tools.ids.front()},
                                   {"wrapped", progress.done},
                                   {"left", progress.left},
                                   {"advice", todo}})
              << '\n';
  }
  if (progress.total == 0 && progress.done == 0 && tools.ids.size() == 1) {
    std::cerr << "posternd: every KEK is under root key " << tools.ids.front()
              << " already, the only one here; make another with: posternd keys add FILE\n";
    return kFailed;
  }
  if (!options.json) {
    std::cout << plural(progress.done, "KEK") << " wrapped under root key " << tools.ids.front()
              << ", " << progress.left << " left\n";
    for (const auto& text : todo) std::cout << text << '\n';
  }
  return progress.left == 0 ? kOk : kFailed;
}

int rotate_tenants(const Config& config, const KeyOptions& options) {
  const auto rate = options.per_second.value_or(vault::Rotation::kTenantsPerSecond);
  const auto opened = open_tools(config, options, WithoutKeys::Fail, rate);
  if (!opened.ok()) return say(opened.error());
  auto& tools = *opened.value();
  const auto tenants = tenants_of(tools, options);
  if (!tenants.ok()) return say(tenants.error());
  const auto now = tools.store.now();
  if (!now.ok()) return say(now.error());
  const bool all = options.tenant.empty();
  std::optional<sys_seconds> older_than;
  if (!options.older_than.empty()) {
    older_than = instant_before(options.older_than, now.value());
    if (!older_than) {
      return say(fail(ErrorCode::MalformedRequest,
                      "--older-than: " + options.older_than + " " + std::string(kInstantExpected)));
    }
    older_than = std::min(*older_than, now.value());
  }
  // What begins now is what is younger, so nothing else has to say which tenants are done.
  const auto how_to_go_on = "posternd keys rotate-tenant --all --older-than " +
                            format_time(older_than.value_or(now.value()));
  if (all) {
    std::cerr << "posternd: should this be interrupted, go on with: " << how_to_go_on << '\n';
  }
  std::uint64_t rotated = 0, younger = 0;
  vault::Rotation::Progress progress;
  progress.total = tenants.value().size();
  ProgressLine line("tenants:");
  Pace pace(rate);
  const auto failed =
      for_tenants(tools, options, tenants.value(), [&](const TenantId& tenant) -> Status {
        ++progress.done;
        if (all) line(progress);
        POSTERN_TRY(const auto made,
                    tools.rotation.rotate_older(tenant, older_than.value_or(sys_seconds::max())));
        if (!made) {
          ++younger;
          return {};
        }
        const auto version = *made;
        ++rotated;
        if (options.json) {
          std::cout << token::dump_json(
                           {{"tenant", tenant.str()}, {"kek_version", number(version)}})
                    << '\n';
        } else {
          std::cout << "tenant " << tenant << ": KEK " << number(version)
                    << " is current for what is sealed from now on\n";
        }
        pace.after(1);
        return {};
      });
  if (!failed.ok()) say(failed.error());
  if (all && (!failed.ok() || failed.value() > 0)) {
    std::cerr << "posternd: what was done stays done; go on with: " << how_to_go_on << '\n';
  }
  if (!failed.ok()) return kFailed;
  if (!options.json && younger > 0) {
    std::cout << plural(younger, "tenant") << " with a KEK that is not older: left as they are\n";
  }
  if (!options.json && rotated > 0) {
    std::cout << "older KEKs still open; move what is under them with: posternd keys rewrap "
              << (all ? "--all" : options.tenant) << '\n';
  }
  return failed.value() == 0 ? kOk : kFailed;
}

int rewrap_tenants(const Config& config, const KeyOptions& options) {
  const auto opened =
      open_tools(config, options, WithoutKeys::Fail, vault::Rotation::kRowsPerSecond);
  if (!opened.ok()) return say(opened.error());
  auto& tools = *opened.value();
  const auto tenants = tenants_of(tools, options);
  if (!tenants.ok()) return say(tenants.error());
  std::uint64_t nth = 0, moved = 0, left = 0;
  const auto failed =
      for_tenants(tools, options, tenants.value(), [&](const TenantId& tenant) -> Status {
        ProgressLine line("tenant " + tenant.str() + " (" + std::to_string(++nth) + " of " +
                          std::to_string(tenants.value().size()) + "): rows moved:");
        const auto done = tools.rotation.rewrap(tenant, std::ref(line));
        if (!done.ok()) {
          const auto backlog = tools.store.backlog_of(tenant);
          if (backlog.ok()) left += backlog.value().rows();
          return done.error();
        }
        const auto& progress = done.value();
        moved += progress.done;
        left += progress.left;
        if (progress.total == 0) return {};
        if (options.json) {
          std::cout << token::dump_json({{"tenant", tenant.str()},
                                         {"moved", progress.done},
                                         {"failed", progress.failed},
                                         {"left", progress.left}})
                    << '\n';
        } else {
          std::cout << "tenant " << tenant << ": " << plural(progress.done, "row") << " moved, "
                    << progress.left << " left";
          if (progress.failed > 0) {
            std::cout << "; " << plural(progress.failed, "row") << " cannot be opened, see the log";
          }
          std::cout << '\n';
        }
        return {};
      });
  if (!failed.ok()) {
    say(failed.error());
    std::cerr << "posternd: what was done stays done; run it again\n";
    return kFailed;
  }
  if (!options.json) std::cout << plural(moved, "row") << " moved, " << left << " left in all\n";
  return left == 0 && failed.value() == 0 ? kOk : kFailed;
}

int create_root_key(const std::filesystem::path& file, const RootKeySource& source) {
  const auto create = [&]() -> Status {
    if (!source.pkcs11.module.empty()) {
      POSTERN_CHECK(
          vault::RootKeyPkcs11::create(file, source.pkcs11, source.pkcs11_key, read_secret_file));
      return {};
    }
    if (source.passphrase_file.empty()) return vault::RootKeys::create(file);
    POSTERN_TRY(const auto secret, read_secret_file(source.passphrase_file));
    POSTERN_CHECK(vault::RootKeyPassphrase::create(file, as_text(secret.readable()), {}));
    return {};
  };
  if (const auto made = create(); !made.ok()) return say(made.error());
  std::cout << "created " << file << "\n";
  return kOk;
}

int add_root_key(const std::filesystem::path& file, const RootKeySource& source) {
  const auto add = [&]() -> Result<std::string> {
    if (!source.pkcs11.module.empty()) {
      return vault::RootKeyPkcs11::add_to(file, source.pkcs11, source.pkcs11_key, read_secret_file);
    }
    if (source.passphrase_file.empty()) return vault::RootKeys::add_to(file);
    POSTERN_TRY(const auto secret, read_secret_file(source.passphrase_file));
    return vault::RootKeyPassphrase::add_to(file, as_text(secret.readable()), {});
  };
  const auto id = add();
  if (!id.ok()) return say(id.error());
  std::cout << "root key " << id.value() << " is the first in " << file.string()
            << " and so the active one\n"
            << "give the file to every replica, which notices within seconds; then: posternd keys "
               "rotate-root\n";
  return kOk;
}

}  // namespace postern::app
