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
  Result<std::optional<vault::ShareId>> principal_share(const TenantId& tenant,
                                                        const Principal& principal) override;
  Result<vault::ShareId> add_principal_share(const TenantId& tenant, const Principal& principal,
                                             const vault::ShareId& fresh) override;

 private:
  Database& database_;
};

}  // namespace postern::storage
