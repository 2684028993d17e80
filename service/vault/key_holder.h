#pragma once

#include <cstdint>
#include <optional>

#include "audit/event.h"
#include "audit/log.h"
#include "core/ids.h"
#include "core/result.h"
#include "vault/keyring.h"
#include "vault/rotation.h"

namespace postern::vault {

/// What a tenant's key holder does with the share that the tenant's key demands.
/// Each change is committed with its record, `event`, which is given the KEK version.
/// Errors of all, besides their own: NotFound, KeyUnavailable, Unavailable.
class KeyHolder {
 public:
  KeyHolder(RotationStore& store, Keyring& keyring, audit::AuditLog& log)
      : store_(store), keyring_(keyring), log_(log) {}

  struct State {
    Keyring::Seal seal = Keyring::Seal::NotHeld;  ///< in this process
    KekVersion kek_version{};
    /// Rows under older KEKs, which may demand another share or none.
    std::uint64_t rows_left = 0;
  };
  Result<State> state(const TenantId& tenant);

  /// A new KEK that demands this share: for all that is sealed from now on, and, once
  /// Rotation::rewrap is done, for all. The tenant is unsealed in this process. Asked
  /// for again with the same share, it does nothing.
  /// @param present  the share that is demanded now, when one is.
  /// Errors: Conflict (a share is demanded, and `present` is not given), Forbidden
  /// (`present` is another), TenantSealed.
  Status hold(const TenantId& tenant, HeldShare share, const HeldShare* present,
              audit::Event& event);

  /// A new KEK that demands none. Errors: Conflict (none is demanded), Forbidden
  /// (another share), TenantSealed.
  Status release(const TenantId& tenant, const HeldShare& share, audit::Event& event);

  /// Here at once; everywhere else when the tenant's epoch, which is returned, is seen.
  /// Errors: Conflict (no share is demanded).
  Result<std::uint64_t> seal(const TenantId& tenant, audit::Event& event);

  /// In this process. While rows are moved from one share to another it takes both.
  /// Errors: Conflict (no share is demanded, or this one by nothing that is left),
  /// Forbidden (another).
  Status unseal(const TenantId& tenant, HeldShare share, audit::Event& event);

 private:
  Status may_add_kek(const TenantId& tenant, const HeldShare* present);
  Status add_kek(const TenantId& tenant, const HeldShare* present,
                 const std::optional<HeldShareDemand>& demand, audit::Event& event);

  RotationStore& store_;
  Keyring& keyring_;
  audit::AuditLog& log_;
};

}  // namespace postern::vault
