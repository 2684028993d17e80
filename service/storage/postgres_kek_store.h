#pragma once

#include <vector>

#include "storage/database.h"
#include "vault/keyring.h"

namespace postern::storage {

/// Wrapped KEKs of tenants. Thread-safe.
class PostgresKekStore final : public vault::KekStore {
 public:
  explicit PostgresKekStore(Database& database) : database_(database) {}
  Result<std::vector<vault::WrappedKek>> keks(const TenantId& tenant) override;

 private:
  Database& database_;
};

}  // namespace postern::storage
