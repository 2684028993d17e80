#include "vault/share_store.h"

#include <chrono>

namespace postern::vault {
namespace {

constexpr const char* kDestroyed = "share: not in the share store";

}  // namespace

ShareId id_of(const TenantId& tenant, const KeyShare& share) {
  return share.expose([&](ByteView bytes) {
    return crypto::sha256_parts({as_bytes("postern-key-share-v1"), as_bytes(tenant.str()), bytes});
  });
}

Error share_store_is_away(const Error& cause) {
  Error error = fail(ErrorCode::KeyUnavailable, "the share store is not available",
                     "share: " + cause.diagnostic);
  error.retry_after = std::chrono::seconds(5);
  return error;
}

Error share_is_destroyed() {
  return fail(ErrorCode::KeyUnavailable, "the share of this key is not in the share store",
              kDestroyed);
}

bool is_share_destroyed(const Error& error) {
  return error.code == ErrorCode::KeyUnavailable && error.diagnostic == kDestroyed;
}

}  // namespace postern::vault
