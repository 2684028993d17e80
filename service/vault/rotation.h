#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "audit/event.h"
#include "core/clock.h"
#include "core/ids.h"
#include "core/pace.h"
#include "core/result.h"
#include "vault/credential.h"
#include "vault/envelope.h"
#include "vault/keyring.h"

namespace postern::vault {

/// How many KEKs, of all tenants, one root key wraps.
struct RootKeyUse {
  std::string root_key_id;
  std::uint64_t keks = 0, tenants = 0;
  std::uint64_t rewrapped = 0;  ///< rows that rewrap has moved to these KEKs, ever
};

/// What is wrapped under one version of a tenant's KEK.
struct KekUse {
  KekVersion version{};
  std::string root_key_id;
  std::uint64_t credential_versions = 0, signing_keys = 0;
  std::uint64_t others = 0;  ///< answers that wait wrapped, versions of transit keys
  bool takes_share = false;  ///< of the share store
  bool held = false;         ///< demands the share of the tenant's key holder
};

/// The version after this one.
inline KekVersion after(KekVersion version) {
  return KekVersion{static_cast<std::uint32_t>(version) + 1};
}

/// What is still wrapped under an older KEK than its tenant's newest.
struct Backlog {
  std::uint64_t tenants = 0, credential_versions = 0, signing_keys = 0, others = 0;
  std::uint64_t rows() const noexcept { return credential_versions + signing_keys + others; }
};

/// A tenant with a KEK that demands its key holder's share.
struct HeldTenant {
  TenantId tenant;
  bool newest = false;  ///< the newest one does
};

struct KekPlace {
  TenantId tenant;
  KekVersion version{};
};

/// What key rotation needs of storage. A change is one transaction with its audit
/// event. Locks are held for one change, and a release never waits for them.
class RotationStore {
 public:
  virtual ~RotationStore() = default;

  // Across tenants: names, versions and numbers.
  virtual Result<std::vector<RootKeyUse>> root_key_uses() = 0;
  virtual Result<Backlog> backlog() = 0;
  /// KEKs under any other root key, in the order of tenant and version.
  virtual Result<std::vector<KekPlace>> keks_not_under(const std::string& root_key_id,
                                                       const std::optional<KekPlace>& after,
                                                       std::uint32_t limit) = 0;

  virtual Result<std::vector<HeldTenant>> held_tenants() = 0;

  /// Newest first. Errors: NotFound.
  virtual Result<std::vector<KekUse>> kek_uses(const TenantId& tenant) = 0;
  virtual Result<Backlog> backlog_of(const TenantId& tenant) = 0;
  struct NewestKek {
    KekVersion version{1};
    sys_seconds made_at{};
  };
  /// Errors: NotFound.
  virtual Result<NewestKek> newest_kek(const TenantId& tenant) = 0;

  struct KekChange {
    WrappedKek kek;
    audit::Event event;
  };
  /// Replaces how a KEK is wrapped. `change` sees the row as it is, locked.
  /// Errors: NotFound, what `change` answered, Unavailable.
  using ChangeKek = std::function<Result<KekChange>(const WrappedKek&)>;
  virtual Status rewrap_kek(const TenantId& tenant, KekVersion version,
                            const ChangeKek& change) = 0;

  /// Adds the next KEK version and raises the tenant's epoch. From then on nothing
  /// new is stored under an older one: writers under way end first, later ones are
  /// refused and seal again. Errors: as above.
  using MakeKek = std::function<Result<KekChange>(const WrappedKek& newest)>;
  virtual Result<KekVersion> add_kek(const TenantId& tenant, const MakeKek& make) = 0;

  /// Notes that the key holder has sealed the tenant, and raises its epoch, which is
  /// returned. Errors: NotFound, Unavailable.
  virtual Result<std::uint64_t> seal(const TenantId& tenant, const audit::Event& event) = 0;

  /// One batch of rows under older KEKs than the newest, in the order of their keys.
  struct Rewrapper {
    virtual ~Rewrapper() = default;
    /// @param share  the owner's own, when it has one.
    virtual Result<WrappedDek> dek(const CredentialKey& key, std::uint32_t version,
                                   const WrappedDek& from, KekVersion to,
                                   const std::optional<ShareId>& share) = 0;
    /// What Keyring::wrap_private() made.
    struct Box {
      std::string key_id;
      std::string name;  ///< for the log
      Keyring::OwnedPrivateKey wrapped;
      Owner owner = Owner::tenant();
      std::optional<ShareId> share = std::nullopt;  ///< the owner's own, when it has one
    };
    virtual Result<Keyring::OwnedPrivateKey> box(std::string_view purpose, const Box& box,
                                                 KekVersion to) = 0;
    struct Moved {
      std::uint64_t credential_versions = 0, signing_keys = 0, others = 0;
    };
    virtual audit::Event event(KekVersion to, const Moved& moved) = 0;
  };
  struct Position {  ///< the last row seen; to begin with, none
    enum class In { SigningKeys, WrappedAnswers, TransitKeys, Credentials };
    In in = In::SigningKeys;  ///< which are moved in this order
    std::string other;        ///< the key of the last one of those before credentials
    std::string issuer, subject, name;
    std::uint32_t version = 0;
  };
  struct Batch {
    std::uint64_t moved = 0;
    std::uint64_t failed = 0;  ///< Internal: they do not open, and stay as they are
    bool end = false;
  };
  /// Moves up to `limit` rows after `position`, and that on. Rows that others hold
  /// are passed over, and those of an owner who is being erased. Errors: Conflict (a newer KEK has
  /// just come), NotFound, KeyUnavailable, TenantSealed, Unavailable; then nothing has changed.
  virtual Result<Batch> rewrap_rows(const TenantId& tenant, Position& position, std::uint32_t limit,
                                    Rewrapper& rewrapper) = 0;

  /// Principals with rows under older KEKs and no share of their own; at most `limit`.
  virtual Result<std::vector<Principal>> without_share(const TenantId& tenant,
                                                       std::uint32_t limit) = 0;
  /// Notes that nothing is left under the KEKs that are not the newest and take no share.
  virtual Status note_emptied(const TenantId& tenant) = 0;
};

/// Of the backlog, what only a process with the share of the tenant's key holder can move.
Result<Backlog> held_backlog(RotationStore& store);

/// Whether a KEK with `share` may follow the newest one. Without a share after one with it,
/// what is stored from then on would open without, and its erasure be none. Errors:
/// KeyUnavailable (this process has no share store).
Status keeps_taking_a_share(const WrappedKek& newest, const std::optional<ShareId>& share);

/// Rotates keys while the service runs. Where it stands is in the rows alone: it
/// may be killed at any moment and run again, and two may run at once.
class Rotation {
 public:
  /// At which releases beside it hardly notice, on two processors with their database.
  static constexpr std::uint32_t kRowsPerSecond = 500;
  /// Likewise; each is a transaction of its own.
  static constexpr std::uint32_t kKeksPerSecond = 100;
  /// Each is a change of the tenant, which every replica then loads anew.
  static constexpr std::uint32_t kTenantsPerSecond = 20;

  struct Options {
    std::uint32_t per_second = 0;  ///< KEKs, shares or rows; 0: as fast as it goes
    std::uint32_t batch = 50;      ///< rows in one transaction
    /// Waits; replaced by tests.
    std::function<void(std::chrono::milliseconds)> pause;
    /// Asked after each share and batch of rewrap(), which then ends with what is left.
    std::function<bool()> stopped = {};
  };
  Rotation(RotationStore& store, Keyring& keyring, const Clock& clock, Options options);

  struct Progress {
    std::uint64_t done = 0, failed = 0;
    std::uint64_t total = 0;   ///< as counted at the beginning
    std::uint64_t left = 0;    ///< counted at the end
    std::uint64_t shares = 0;  ///< made by rewrap() for principals that had none
  };
  using Report = std::function<void(const Progress&)>;

  /// Wraps every KEK under the active root key. One that does not open counts as
  /// failed and stays. Errors: KeyUnavailable (no root key), Unavailable.
  Result<Progress> rotate_root(const Report& report);

  /// Gives the tenant a new KEK for all that is sealed from now on; it demands the share
  /// that the one before does. Errors: NotFound, KeyUnavailable (also when the one before
  /// takes a share of the share store, and this process has none), Internal, Unavailable.
  Result<KekVersion> rotate_tenant(const TenantId& tenant);

  /// Likewise where the newest KEK was made before a time; nothing where it was not. Of two
  /// that ask at once, one makes a KEK. Errors: as above.
  Result<std::optional<KekVersion>> rotate_older(const TenantId& tenant, sys_seconds than);

  /// Wraps the tenant's DEKs and signing keys under its newest KEK. Errors: as above;
  /// TenantSealed when a share is demanded that was not given to this process.
  Result<Progress> rewrap(const TenantId& tenant, const Report& report);

 private:
  Status make_shares(const TenantId& tenant, Progress& progress, Pace& pace, const Report& report);
  bool stopped() const { return options_.stopped && options_.stopped(); }
  audit::Event event(const TenantId& tenant, std::string action) const;
  /// Runs it again while it is Unavailable or in Conflict, a few times.
  template <class Step>
  auto persistently(const Step& step) -> decltype(step());

  RotationStore& store_;
  Keyring& keyring_;
  Envelope envelope_;
  const Clock& clock_;
  const Options options_;
};

}  // namespace postern::vault
