#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "core/clock.h"
#include "core/result.h"
#include "storage/migrator.h"
#include "storage/postgres_audit_log.h"
#include "storage/postgres_config_store.h"
#include "storage/postgres_kek_store.h"
#include "storage/postgres_share_store.h"
#include "vault/keyring.h"

namespace postern::app {

/// The share store as configured, if one is.
struct ShareStoreHere {
  std::unique_ptr<storage::Database> database;
  std::unique_ptr<storage::PostgresShareStore> postgres;

  vault::ShareStore* store() const noexcept { return postgres.get(); }
};

inline ShareStoreHere share_store_of(const std::string& url, const std::string& name) {
  if (url.empty()) return {};
  storage::DatabaseOptions options;
  options.conninfo = url;
  options.application_name = name;
  options.max_connections = 4;
  // A release may wait for it, and is then refused: not for long.
  options.statement_timeout = std::chrono::seconds(2);
  options.checkout_timeout = std::chrono::milliseconds(1000);
  options.lock_timeout = std::chrono::milliseconds(500);
  ShareStoreHere here;
  here.database = std::make_unique<storage::Database>(std::move(options));
  here.postgres = std::make_unique<storage::PostgresShareStore>(*here.database);
  return here;
}

/// What commands work with over one database, beside a running service or without one.
struct Stores {
  /// @param share_store_url  "": there is no share store.
  Stores(const storage::DatabaseOptions& options, vault::RootKeys root_keys,
         const std::string& share_store_url)
      : database(options),
        key_database(options),
        keks(key_database),
        shares(share_store_of(share_store_url, options.application_name)),
        keyring(std::move(root_keys), keks, shares.store()),
        audit_log(database, keyring),
        tenants(database, audit_log) {}

  SystemClock clock;
  storage::Database database;
  storage::Database key_database;  // a transaction under way may need a KEK
  storage::PostgresKekStore keks;
  ShareStoreHere shares;
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
inline Status check_schema(const std::string& url,
                           storage::Schema which = storage::Schema::Service) {
  POSTERN_TRY(const auto schema, storage::schema_state(url, which));
  if (schema.status == storage::SchemaStatus::Current) return {};
  const bool shares = which == storage::Schema::Shares;
  return fail(ErrorCode::Unavailable,
              std::string("the schema of the ") + (shares ? "share store" : "database") + " is " +
                  std::string(storage::to_string(schema.status)) + " (it has " +
                  std::to_string(schema.applied) + ", this release knows " +
                  std::to_string(schema.known) + "); run: posternd migrate" +
                  (shares ? " --share-store" : ""));
}

/// As above, of a share store that answers: without it much goes on.
inline Status check_share_store(const std::string& url) {
  if (url.empty()) return {};
  const auto schema = storage::schema_state(url, storage::Schema::Shares);
  return schema.ok() ? check_schema(url, storage::Schema::Shares) : Status();
}

}  // namespace postern::app
