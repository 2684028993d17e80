#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/bytes.h"
#include "core/result.h"
#include "core/secret.h"
#include "policy/config_store.h"
#include "vault/credential.h"
#include "vault/transit.h"

/// The records of a tenant's archive: JSON objects with a member `kind`. The first is the
/// tenant, the last counts those between.
namespace postern::app {

struct CredentialRecord {
  vault::CredentialMetadata metadata;
  struct Version {
    vault::VersionInfo info;
    std::optional<vault::Fields> fields;  ///< none: destroyed
  };
  std::vector<Version> versions;  ///< oldest first; one at least
};

struct TransitRecord {
  vault::TransitKey key;
  struct Version {
    std::uint32_t version = 0;
    sys_seconds created_at{};
    PrivateKey key;
  };
  std::vector<Version> versions;  ///< from 1 to latest_version
};

struct ArchiveTotals {
  std::uint64_t credentials = 0, versions = 0, transit_keys = 0;
  bool operator==(const ArchiveTotals&) const = default;
};

/// Without signing keys but for their algorithms.
SecureBuffer encode(const policy::StoredTenant& tenant);
SecureBuffer encode(const CredentialRecord& record);
SecureBuffer encode(const TransitRecord& record);
SecureBuffer encode(const ArchiveTotals& totals);

/// Errors: MalformedRequest for anything that encode() cannot have written.
using TenantArchiveRecord =
    std::variant<policy::StoredTenant, CredentialRecord, TransitRecord, ArchiveTotals>;
Result<TenantArchiveRecord> decode_record(ByteView record);

}  // namespace postern::app
