#pragma once

#include <functional>
#include <optional>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "storage/database.h"
#include "vault/credential.h"

namespace postern::storage {

/// All that is sealed of a tenant's credentials: for whoever has to open everything,
/// not for serving. Thread-safe.
class PostgresInventory {
 public:
  explicit PostgresInventory(Database& database) : database_(database) {}

  struct Entry {
    vault::CredentialKey key;
    vault::SealedVersion sealed;
    std::optional<sys_seconds> deleted_at;  ///< undelete would bring it back
  };
  /// In the order of owner, name and version; what was destroyed is not among them.
  /// Read in pages: what is changed meanwhile may be seen before or after.
  /// Errors: those of `each`, which end it; Unavailable.
  using Each = std::function<Status(const Entry&)>;
  Status each_version(const TenantId& tenant, const Each& each);

 private:
  Database& database_;
};

}  // namespace postern::storage
