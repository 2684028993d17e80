#pragma once

#include "storage/database.h"
#include "vault/share_store.h"

namespace postern::storage {

/// The share store: a database of its own, with the schema of migrations/shares/.
class PostgresShareStore final : public vault::ShareStore {
 public:
  explicit PostgresShareStore(Database& database) : database_(database) {}

  Status add(const TenantId& tenant, const vault::ShareId& id,
             const vault::KeyShare& share) override;
  Result<vault::KeyShare> find(const TenantId& tenant, const vault::ShareId& id) override;
  Status know(const TenantId& tenant, std::span<const vault::ShareId> ids) override;
  using ShareStore::destroy;
  Status destroy(const TenantId& tenant, std::span<const vault::ShareId> ids) override;
  Result<std::uint64_t> destroy_all(const TenantId& tenant) override;
  Status ping() override { return database_.ping(); }

 private:
  Database& database_;
};

}  // namespace postern::storage
