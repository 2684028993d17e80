#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "core/bytes.h"
#include "core/ids.h"
#include "core/result.h"
#include "core/secret.h"
#include "crypto/hash.h"

namespace postern::vault {

/// 32 random bytes that a key takes besides the root key.
using KeyShare = Secret<struct KeyShareTag>;

/// Which share: a hash of it and its tenant. A share is 256 random bits, so this tells
/// nothing of it.
using ShareId = crypto::Hash256;
ShareId id_of(const TenantId& tenant, const KeyShare& share);

/// Where shares are: in no backup, so that what was destroyed here is nowhere. Implemented
/// by storage and, in memory, by tests/support; one suite holds both to it. Thread-safe.
class ShareStore {
 public:
  virtual ~ShareStore() = default;

  /// Stored when it returns. Errors: Unavailable.
  virtual Status add(const TenantId& tenant, const ShareId& id, const KeyShare& share) = 0;
  /// Errors: Conflict (destroyed), NotFound (never was here, or is another tenant's),
  /// Unavailable.
  virtual Result<KeyShare> find(const TenantId& tenant, const ShareId& id) = 0;
  /// Whether each of these is here, or was destroyed here. Errors: NotFound (one never was:
  /// this is another share store than where it was added, or a copy from before), Unavailable.
  virtual Status know(const TenantId& tenant, std::span<const ShareId> ids) = 0;
  /// All of these, or none; also what was destroyed before. Errors: as know().
  virtual Status destroy(const TenantId& tenant, std::span<const ShareId> ids) = 0;
  Status destroy(const TenantId& tenant, const ShareId& id) { return destroy(tenant, {&id, 1}); }
  /// All that the tenant has left; returns how many. Errors: Unavailable.
  virtual Result<std::uint64_t> destroy_all(const TenantId& tenant) = 0;
  /// Whether it answers. Errors: Unavailable.
  virtual Status ping() = 0;
};

/// Of a key whose share is not to be had: KeyUnavailable, which is worth another try, but
/// for one that was destroyed.
Error share_store_is_away(const Error& cause);
Error no_share_store();  ///< of a process that is configured without one
/// Of a share that never was here. Where a row names it, the row does not open, as any other
/// that was altered: Internal. Where it is to be destroyed, nobody says that it was.
Error another_share_store();
bool is_another_share_store(const Error& error);
Error share_is_destroyed();
bool is_share_destroyed(const Error& error);

}  // namespace postern::vault
