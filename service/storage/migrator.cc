#include "storage/migrator.h"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "crypto/hash.h"
#include "storage/embedded_migrations.h"
#include "storage/scram_verifier.h"
#include "storage/session.h"

namespace postern::storage {
namespace {

// "postern" and a digit, as numbers: advisory locks have no names.
constexpr const char* kLockMigration = "SELECT pg_advisory_xact_lock(8101821198418210353)";
constexpr const char* kLockBootstrap = "SELECT pg_advisory_lock(8101821198418210354)";

constexpr const char* kCreateHistory = R"sql(
    CREATE SCHEMA IF NOT EXISTS postern;
    SET LOCAL search_path = postern;
    CREATE TABLE IF NOT EXISTS schema_migration (
      version    integer     PRIMARY KEY,
      name       text        NOT NULL,
      checksum   bytea       NOT NULL,
      applied_at timestamptz NOT NULL DEFAULT now()
    ))sql";
constexpr const char* kFindHistory = "SELECT to_regclass('postern.schema_migration') IS NOT NULL";
constexpr const char* kReadHistory =
    "SELECT version, checksum FROM postern.schema_migration ORDER BY version";

constexpr Statement kRecord{"schema.record", R"sql(
    INSERT INTO postern.schema_migration (version, name, checksum) VALUES ($1, $2, $3))sql"};

int version_of(const Migration& migration) { return std::stoi(migration.name.substr(0, 4)); }

Bytes checksum(const Migration& migration) {
  const auto hash = crypto::sha256(as_bytes(migration.sql));
  return {hash.begin(), hash.end()};
}

const std::vector<Migration>& migrations_of(Schema schema) {
  return schema == Schema::Shares ? embedded_share_migrations() : embedded_migrations();
}

SchemaState compare(pqxx::transaction_base& tx, const std::vector<Migration>& known) {
  SchemaState state;
  state.known = static_cast<int>(known.size());
  if (!number<bool>(tx.exec(kFindHistory)[0][0])) return state;
  bool altered = false;
  const auto history = tx.exec(kReadHistory);
  for (const auto& row : history) {
    const auto version = number<int>(row[0]);
    state.applied = std::max(state.applied, version);
    if (version <= state.known) {
      altered |= bytes(row[1]) != checksum(known[static_cast<std::size_t>(version - 1)]);
    }
  }
  altered |= static_cast<int>(history.size()) != state.applied;  // a gap
  state.status = altered                       ? SchemaStatus::Altered
                 : state.applied == 0          ? SchemaStatus::Missing
                 : state.applied < state.known ? SchemaStatus::Older
                 : state.applied > state.known ? SchemaStatus::Newer
                                               : SchemaStatus::Current;
  return state;
}

/// Runs `body(connection)` on a connection of its own, outside any pool. Changes
/// of the schema take as long as they take; only what reads it has a limit.
enum class Patience { Limited, Unlimited };
template <class Body>
auto on_own_connection(std::string_view name, const std::string& conninfo, Patience patience,
                       Body&& body) -> decltype(body(std::declval<pqxx::connection&>())) {
  DatabaseOptions options;
  options.conninfo = conninfo;
  options.application_name = "postern-migrate";
  try {
    Watchdog watchdog;
    std::optional<Watchdog::Watch> watch;  // before the connection, so as to outlive it
    const auto connection = pq::connect(complete_conninfo(options));
    watch.emplace(watchdog, connection->sock());
    if (patience == Patience::Limited) watch->allow(client_timeout(options));
    return body(*connection);
  } catch (...) {
    return describe_failure(name, nullptr);
  }
}

bool is_database_name(std::string_view name) {
  return !name.empty() && name.size() <= 63 && name.front() >= 'a' && name.front() <= 'z' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
         });
}

}  // namespace

std::string_view to_string(SchemaStatus status) noexcept {
  switch (status) {
    case SchemaStatus::Current: return "current";
    case SchemaStatus::Missing: return "missing";
    case SchemaStatus::Older: return "older";
    case SchemaStatus::Newer: return "newer";
    case SchemaStatus::Altered: return "altered";
  }
  return "altered";
}

Result<SchemaState> schema_state(const std::string& conninfo, Schema schema) {
  return on_own_connection("schema.state", conninfo, Patience::Limited,
                           [&](pqxx::connection& connection) -> Result<SchemaState> {
                             pqxx::work tx(connection);
                             tx.exec("SET LOCAL bytea_output = hex");
                             return compare(tx, migrations_of(schema));
                           });
}

Status migrate(const std::string& owner_conninfo, Schema schema) {
  const auto& known = migrations_of(schema);
  std::string step = "schema.migrate";
  return on_own_connection(
      step, owner_conninfo, Patience::Unlimited, [&](pqxx::connection& connection) -> Status {
        pqxx::work tx(connection);
        // A running service holds short locks only; give up rather than queue
        // everybody behind an ALTER TABLE that waits.
        tx.exec(
            "SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = 0; "
            "SET LOCAL client_min_messages = error; SET LOCAL bytea_output = hex");
        tx.exec(kLockMigration);
        const auto state = compare(tx, known);
        switch (state.status) {
          case SchemaStatus::Current: return {};
          case SchemaStatus::Newer:
            return fail(ErrorCode::Conflict, "the schema was made by a later release");
          case SchemaStatus::Altered:
            return fail(ErrorCode::Conflict,
                        "a migration differs from the one that was applied to this database");
          case SchemaStatus::Missing:
          case SchemaStatus::Older: break;
        }
        tx.exec(kCreateHistory);
        connection.prepare(kRecord.name, kRecord.sql);
        for (auto i = static_cast<std::size_t>(state.applied); i < known.size(); ++i) {
          const auto& migration = known[i];
          if (version_of(migration) != static_cast<int>(i) + 1) {
            throw std::logic_error("migrations are not numbered without gaps");
          }
          try {
            tx.exec(migration.sql);
          } catch (...) {
            return describe_failure("migration " + migration.name, nullptr);
          }
          pq::exec_prepared(tx, kRecord.name, version_of(migration), migration.name,
                            ByteView(checksum(migration)));
        }
        tx.commit();
        return {};
      });
}

Status bootstrap(const BootstrapOptions& options) {
  if (!is_database_name(options.database)) {
    return fail(ErrorCode::MalformedRequest,
                "a database name is lower-case letters, digits and underscores");
  }
  std::vector<std::pair<std::string, std::string>> roles;  // name, verifier
  for (const auto& [role, password] : {std::pair{"postern_owner", &options.owner_password},
                                       std::pair{"postern_service", &options.service_password},
                                       std::pair{"postern_auditor", &options.auditor_password}}) {
    std::string verifier;
    if (!password->empty()) {
      POSTERN_TRY(verifier, scram_verifier(*password));
    }
    roles.emplace_back(role, std::move(verifier));
  }

  return on_own_connection(
      "bootstrap", options.superuser_conninfo, Patience::Unlimited,
      [&](pqxx::connection& connection) -> Status {
        // Not one transaction: CREATE DATABASE does not run in one. Each step can be repeated.
        pqxx::nontransaction tx(connection);
        tx.exec("SET client_min_messages = error");
        tx.exec(kLockBootstrap);  // held until the connection ends
        for (const auto& [role, verifier] : roles) {
          const auto found = tx.exec(
              "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = " + tx.quote(role));
          if (found.empty()) {
            tx.exec("CREATE ROLE " + role + " LOGIN");
          } else if (number<bool>(found[0][0])) {
            return fail(ErrorCode::Conflict,
                        "an existing database role could bypass row-level security", role);
          }
          if (!verifier.empty()) {
            tx.exec("ALTER ROLE " + role + " LOGIN PASSWORD " + tx.quote(verifier));
          }
        }
        if (tx.exec("SELECT 1 FROM pg_database WHERE datname = " + tx.quote(options.database))
                .empty()) {
          if (!number<bool>(
                  tx.exec("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")[0][0])) {
            tx.exec("GRANT postern_owner TO CURRENT_USER");
          }
          tx.exec("CREATE DATABASE " + options.database +
                  " OWNER postern_owner ENCODING 'UTF8' TEMPLATE template0 "
                  "LC_COLLATE 'C' LC_CTYPE 'C'");
        }
        tx.exec("REVOKE ALL ON DATABASE " + options.database + " FROM PUBLIC");
        tx.exec("GRANT CONNECT ON DATABASE " + options.database +
                " TO postern_service, postern_auditor");
        tx.exec("ALTER ROLE postern_auditor IN DATABASE " + options.database +
                " SET search_path = postern");
        return {};
      });
}

}  // namespace postern::storage
