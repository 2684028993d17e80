#include "vault/share_store.h"

#include <chrono>
#include <string>
#include <string_view>

#include "vault/share_errors.h"

namespace postern::vault {
namespace {

constexpr const char* kDestroyed = "share: destroyed";
constexpr const char* kNever = "share: never in this share store";
constexpr std::string_view kAway = "share: away: ";

}  // namespace

ShareId id_of(const TenantId& tenant, const KeyShare& share) {
  return share.expose([&](ByteView bytes) {
    return crypto::sha256_parts({as_bytes("postern-key-share-v1"), as_bytes(tenant.str()), bytes});
  });
}

Error share_store_is_away(const Error& cause) {
  Error error = fail(ErrorCode::KeyUnavailable, "the share store is not available",
                     std::string(kAway) + cause.diagnostic);
  error.retry_after = std::chrono::seconds(5);
  return error;
}

Error no_share_store() {
  return share_store_is_away(fail(ErrorCode::Unavailable, "", "this process has no share store"));
}

Error another_share_store() {
  return fail(ErrorCode::Internal, "a tenant key could not be opened", kNever);
}

bool is_another_share_store(const Error& error) {
  return error.code == ErrorCode::Internal && error.diagnostic == kNever;
}

bool is_share_store_away(const Error& error) {
  return error.code == ErrorCode::KeyUnavailable && error.diagnostic.starts_with(kAway);
}

Error share_is_destroyed() {
  return fail(ErrorCode::KeyUnavailable, "the share of this key was destroyed", kDestroyed);
}

bool is_share_destroyed(const Error& error) {
  return error.code == ErrorCode::KeyUnavailable && error.diagnostic == kDestroyed;
}

}  // namespace postern::vault
