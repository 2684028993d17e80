#pragma once

#include <cstdint>
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
  /// Errors: NotFound (destroyed, or of another tenant), Unavailable.
  virtual Result<KeyShare> find(const TenantId& tenant, const ShareId& id) = 0;
  /// Also when it was before. Errors: NotFound (it never was here: this is another share
  /// store than the one it was added to, or a copy from before), Unavailable.
  virtual Status destroy(const TenantId& tenant, const ShareId& id) = 0;
  /// All that the tenant has left; returns how many. Errors: Unavailable.
  virtual Result<std::uint64_t> destroy_all(const TenantId& tenant) = 0;
  /// Whether it answers. Errors: Unavailable.
  virtual Status ping() = 0;
};

/// Of a key whose share is not to be had: KeyUnavailable, which is worth another try, but
/// for one that was destroyed.
Error share_store_is_away(const Error& cause);
Error no_share_store();       ///< of a process that is configured without one
Error another_share_store();  ///< as above: one that never had what it should destroy
Error share_is_destroyed();
bool is_share_destroyed(const Error& error);

}  // namespace postern::vault
