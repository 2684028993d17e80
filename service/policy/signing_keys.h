#pragma once

#include <chrono>
#include <optional>
#include <vector>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "crypto/signature.h"
#include "policy/config_store.h"
#include "vault/keyring.h"

/// The keys that a tenant signs tokens with: made, rotated and withdrawn. Which
/// of them signs at a time is for published_keys() in policy/snapshot.h to say.
namespace postern::policy {

/// Verifiers keep a key set for 5 to 10 minutes; a key they do not know yet
/// must not sign (docs/rfc8693.md).
inline constexpr std::chrono::seconds kPublishFor{900};
inline constexpr std::chrono::seconds kLongestPublishFor{7 * 24 * 3600};

/// A new key, sealed. @param under  the KEK of a tenant that is not stored yet.
/// Errors: as Keyring::wrap_private.
Result<StoredSigningKey> make_signing_key(vault::Keyring& keyring, const TenantId& tenant,
                                          crypto::Algorithm algorithm, sys_seconds now,
                                          const vault::WrappedKek* under = nullptr);

/// What rotating these algorithms' keys changes: each gets a new key, which
/// signs after `publish_for`, at once when that is 0 or nothing signs now.
/// Keys whose last token has expired go.
/// Errors: Conflict while an earlier rotation's key still waits (unless
/// publish_for is 0, when it goes) or when there are too many keys.
Result<ConfigChange> rotate_signing_keys(vault::Keyring& keyring, const StoredTenant& stored,
                                         const std::vector<crypto::Algorithm>& algorithms,
                                         std::chrono::seconds publish_for, sys_seconds now);

/// What withdrawing a key changes: it is published no more, so that what it
/// signed verifies no more, and no earlier key signs again in its place.
/// Errors: NotFound.
Result<ConfigChange> withdraw_signing_key(const StoredTenant& stored, std::string_view kid,
                                          sys_seconds now);

/// The algorithms that the tenant has keys for.
std::vector<crypto::Algorithm> signing_algorithms(const StoredTenant& stored);

}  // namespace postern::policy
