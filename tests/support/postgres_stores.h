#pragma once

#include <atomic>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "audit/event.h"
#include "core/ids.h"
#include "policy/config_store.h"
#include "storage/database.h"
#include "storage/postgres_audit_log.h"
#include "storage/postgres_config_store.h"
#include "storage/postgres_credential_store.h"
#include "storage/postgres_kek_store.h"
#include "support/postgres_fixture.h"
#include "vault/keyring.h"
#include "vault/root_key.h"

namespace postern::test {

/// What creating a tenant takes: keys of its own, and settings when given.
inline policy::ConfigChange creation(const TenantId& tenant, const vault::Keyring& keyring) {
  policy::ConfigChange change;
  const auto share = keyring.make_share(tenant);
  if (!share.ok()) throw std::runtime_error(share.error().detail);
  auto kek = keyring.create(tenant, KekVersion{1}, std::nullopt, share.value());
  auto chain_key = keyring.chain_key_under(kek, tenant);
  if (!chain_key.ok()) throw std::runtime_error(chain_key.error().detail);
  change.create.emplace(policy::ConfigChange::Create{std::move(kek), std::move(chain_key).value()});
  return change;
}

/// One replica's stores over a database: made twice over one database they are two replicas.
struct StoreSet {
  storage::Database database;
  storage::PostgresKekStore keks{database};
  vault::Keyring keyring;
  storage::PostgresAuditLog log{database, keyring};
  storage::PostgresConfigStore config{database, log};
  storage::PostgresCredentialStore credentials{database, log};

  StoreSet(storage::DatabaseOptions options, vault::RootKeys root,
           vault::ShareStore* shares = nullptr)
      : database(std::move(options)), keyring(std::move(root), keks, shares) {}

  TenantId add_tenant() {
    static std::atomic<int> number{0};
    const TenantId tenant("tenant-" + std::to_string(++number));
    add(tenant);
    return tenant;
  }
  void add(const TenantId& tenant) {
    const auto created = config.apply(tenant, creation(tenant, keyring), {});
    if (!created.ok()) {
      throw std::runtime_error(created.error().detail + " " + created.error().diagnostic);
    }
  }
};

/// A fresh database with one replica's stores.
struct PostgresStores : PostgresDatabase, StoreSet {
  PostgresStores() : StoreSet(PostgresDatabase::options(), vault::RootKeys::generate()) {}
};

}  // namespace postern::test
