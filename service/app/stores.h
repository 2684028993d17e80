#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "core/clock.h"
#include "core/result.h"
#include "storage/migrator.h"
#include "storage/postgres_audit_log.h"
#include "storage/postgres_config_store.h"
#include "storage/postgres_kek_store.h"
#include "vault/keyring.h"

namespace postern::app {

/// What commands work with over one database, beside a running service or without one.
struct Stores {
  Stores(const storage::DatabaseOptions& options, vault::RootKeys root_keys)
      : database(options),
        key_database(options),
        keks(key_database),
        keyring(std::move(root_keys), keks),
        audit_log(database, keyring),
        tenants(database, audit_log) {}

  SystemClock clock;
  storage::Database database;
  storage::Database key_database;  // a transaction under way may need a KEK
  storage::PostgresKekStore keks;
  vault::Keyring keyring;
  storage::PostgresAuditLog audit_log;
  storage::PostgresConfigStore tenants;
};

/// @param name  of the command, for whoever looks at the database's sessions.
inline storage::DatabaseOptions command_database(const std::string& url, std::string name,
                                                 std::chrono::seconds statement_timeout) {
  storage::DatabaseOptions options;
  options.conninfo = url;
  options.application_name = std::move(name);
  options.max_connections = 2;
  options.statement_timeout = statement_timeout;
  return options;
}

/// Errors: Unavailable, unless the schema is this program's.
inline Status check_schema(const std::string& url) {
  POSTERN_TRY(const auto schema, storage::schema_state(url));
  if (schema.status == storage::SchemaStatus::Current) return {};
  return fail(ErrorCode::Unavailable, "the database schema is " +
                                          std::string(storage::to_string(schema.status)) +
                                          "; run: posternd migrate");
}

}  // namespace postern::app
