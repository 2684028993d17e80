#pragma once

#include "vault/credential.h"
#include "vault/keyring.h"

namespace postern::vault {

class Aad;

/// A version's DEK as stored.
struct WrappedDek {
  KekVersion kek_version{};
  std::optional<ShareId> share;  ///< of the owner, which the KEK takes
  Bytes wrapped;
};

/// Seals credentials into versions and opens them again: fields → DEK → KEK.
///
/// Plaintext encoding (version byte 1): u32 field count, then for each field in
/// order of name: u32 length, name, u32 length, value; big-endian.
/// DEK box AAD:    "postern-dek-v1", tenant, owner issuer, owner subject, name, version, KEK
/// version; with a share of the owner's "postern-dek-v2", the same, share id. Fields box AAD:
/// "postern-fields-v1", the same without KEK version (a rewrap does not
///                 touch it), then creation and expiry time in seconds (0: none), the number of
///                 fields and each field name.
class Envelope {
 public:
  explicit Envelope(Keyring& keyring) : keyring_(keyring) {}

  /// Under a fresh DEK and the tenant's current KEK.
  Result<SealedVersion> seal(const TenantId& tenant, const CredentialKey& key,
                             std::uint32_t version, const Fields& fields, sys_seconds created_at,
                             std::optional<sys_seconds> expires_at);

  /// Errors: Internal when any part does not verify, alike for every cause;
  /// NotFound, Unavailable, KeyUnavailable or TenantSealed from the keyring.
  Result<Fields> open(const TenantId& tenant, const CredentialKey& key,
                      const SealedVersion& sealed);

  /// The same DEK under the tenant's KEK of version `to`, and a share of its owner's when
  /// one is given; what it seals is not looked at. Errors: as open().
  Result<WrappedDek> rewrap(const TenantId& tenant, const CredentialKey& key, std::uint32_t version,
                            const WrappedDek& from, KekVersion to,
                            const std::optional<ShareId>& share = std::nullopt);

 private:
  /// @param row  what names the row in the associated data of both of its boxes.
  Result<Dek> unwrap(const TenantId& tenant, const Owner& owner, const Aad& row, KekVersion from,
                     const std::optional<ShareId>& share, ByteView wrapped_dek);

  Keyring& keyring_;
};

}  // namespace postern::vault
