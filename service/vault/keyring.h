#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "audit/chain.h"
#include "core/ids.h"
#include "core/result.h"
#include "core/secret.h"
#include "crypto/hash.h"
#include "vault/root_key.h"
#include "vault/share_store.h"

namespace postern::vault {

/// That a KEK seals nothing by itself: only together with a share that the tenant's
/// key holder has. The share is in memory alone, from unsealing to sealing.
struct HeldShareDemand {
  crypto::Hash256 check;    ///< which share: check_of()
  std::uint64_t seals = 0;  ///< how often the tenant had been sealed when this was read
};

/// A hash of the share, bound to the tenant. A share is 256 random bits, so this
/// tells nothing of it.
crypto::Hash256 check_of(const TenantId& tenant, const HeldShare& share);

/// A tenant's KEK as stored: sealed by a root key.
struct WrappedKek {
  KekVersion version{1};
  std::string root_key_id;
  /// crypto::seal(root key, KEK); AAD: "postern-kek-v1", tenant, version, root key id;
  /// of one that demands a share: "postern-kek-v2", the same, check. So whoever takes
  /// the demand away, or puts another in its place, has a KEK that does not open. Of one
  /// that takes a share of the share store: "postern-kek-v3", the same, check or nothing,
  /// share id.
  Bytes wrapped;
  std::optional<HeldShareDemand> held = std::nullopt;
  std::optional<ShareId> share = std::nullopt;
};

/// Where wrapped KEKs come from. Implemented by storage.
class KekStore {
 public:
  virtual ~KekStore() = default;
  /// Newest first. Errors: NotFound for an unknown tenant.
  virtual Result<std::vector<WrappedKek>> keks(const TenantId& tenant) = 0;

  /// The share that a principal's credentials are under from now on, if there is one.
  virtual Result<std::optional<ShareId>> principal_share(const TenantId& tenant,
                                                         const Principal& principal) = 0;
  /// Makes it this one, unless there is one already; returns which it is then.
  virtual Result<ShareId> add_principal_share(const TenantId& tenant, const Principal& principal,
                                              const ShareId& fresh) = 0;
};

/// What a tenant's token-signing keys are wrapped for (wrap_private).
inline constexpr std::string_view kTokenSigning = "token-signing";

/// Opens and remembers tenants' KEKs (in locked memory), and the shares that key
/// holders have given. Thread-safe.
///
/// Of a KEK that demands a share, everything but the audit chain is sealed by the
/// combination of both: crypto::combine(KEK, "postern-held-kek-v1", tenant, version,
/// share). A tenant is sealed while its newest KEK demands a share that is not here;
/// then its older KEKs are not used either.
///
/// Before that, a KEK that takes a share of the share store is combined with it:
/// crypto::combine(KEK, "postern-shared-kek-v1", tenant, version, share). What a principal
/// owns is under crypto::combine(that, "postern-principal-kek-v1", tenant, version, issuer,
/// subject, share), by a share of the principal's own.
class Keyring : public audit::ChainKeys {
 public:
  /// @param shares  null: there is no share store. Then what takes a share does not open,
  ///                and nothing new takes one.
  Keyring(RootKeys root_keys, KekStore& store, ShareStore* shares = nullptr);
  ~Keyring() override;

  /// Other root keys from now on. Every KEK is opened anew when it is next used.
  void replace_root_keys(RootKeys root_keys);
  /// Whether new KEKs may be made. They may not while there is no root key, nor
  /// while suspended: under a key that is not the database's they would be lost
  /// as soon as the right one is put in place. Errors: KeyUnavailable.
  Status may_create() const;
  /// The id of the root key that new KEKs are wrapped under; "" when there is none.
  std::string active_root_key() const;
  enum class Creation { Allowed, Suspended };
  void set_creation(Creation creation);

  bool has_share_store() const noexcept;
  /// A fresh share, in the share store already; nothing when there is none. One that is
  /// then not used is of no harm. Errors: KeyUnavailable (the share store is away).
  Result<std::optional<ShareId>> make_share(const TenantId& tenant) const;

  /// A fresh KEK for a tenant, wrapped under the active root key; nothing is
  /// stored or cached: the caller commits it with the tenant. Throws logic_error
  /// when there is no root key: ask may_create() first.
  /// @param share  of make_share().
  WrappedKek create(const TenantId& tenant, KekVersion version,
                    const std::optional<HeldShareDemand>& held = std::nullopt,
                    const std::optional<ShareId>& share = std::nullopt) const;

  /// The same KEK under the active root key. Nothing is stored or cached.
  /// Errors: KeyUnavailable, Internal, alike for every cause.
  Result<WrappedKek> rewrap(const TenantId& tenant, const WrappedKek& wrapped) const;

  /// Takes a key holder's share: the tenant is unsealed in this process, until seal()
  /// or until the database says that it was sealed.
  /// Errors: Conflict (no KEK of the tenant demands a share), Forbidden (another
  /// share), and as with_current().
  Status unseal(const TenantId& tenant, HeldShare share);
  /// As unseal(), but takes nothing: which of the tenant's KEKs demands this share.
  enum class DemandedBy { Newest, OlderOnly };
  Result<DemandedBy> check_share(const TenantId& tenant, const HeldShare& share);
  /// Forgets the tenant's shares, and what was opened with them.
  void seal(const TenantId& tenant);
  /// Forgets those of its shares that no KEK from this version on demands. Errors: as KekStore.
  Status forget_old_shares(const TenantId& tenant, KekVersion oldest_in_use);
  bool has_share(const TenantId& tenant) const;

  enum class Seal { NotHeld, Unsealed, Sealed };
  Result<Seal> seal_of(const TenantId& tenant);
  /// Whether the share is here that the newest KEK demands, by what was last read of the
  /// KEKs; asks nobody.
  bool is_unsealed(const TenantId& tenant) const;

  /// The current KEK and its version, or the KEK of a version, with the share if it
  /// demands one. Errors: NotFound, Unavailable, KeyUnavailable (its root key is not
  /// here), TenantSealed, Internal (does not open: altered row).
  using Use = std::function<Status(KekVersion, const Kek&)>;
  Status with_current(const TenantId& tenant, const Use& use);
  Status with_version(const TenantId& tenant, KekVersion version, const Use& use);

  /// As with_current(), of what this owner's credentials are sealed under from now on, and
  /// the share it takes, which is made when a principal has none yet.
  /// Errors: also KeyUnavailable (the share store is away, or the share destroyed).
  using UseOfOwner = std::function<Status(KekVersion, const std::optional<ShareId>&, const Kek&)>;
  Status with_current(const TenantId& tenant, const Owner& owner, const UseOfOwner& use);
  /// As with_version(), likewise, of a row that says which share it takes.
  Status with_version(const TenantId& tenant, KekVersion version, const Owner& owner,
                      const std::optional<ShareId>& share, const Use& use);
  /// The share that a principal's credentials take from now on, made when there is none;
  /// nothing without a share store. Not while a transaction holds rows of the tenant.
  Result<std::optional<ShareId>> principal_share(const TenantId& tenant,
                                                 const Principal& principal);

  /// Private keys kept in the database (token signing). AAD: "postern-private-key-v1",
  /// tenant, purpose, key id, KEK version. Returns the KEK version with the box.
  struct WrappedPrivateKey {
    KekVersion kek_version{};
    Bytes wrapped;
  };
  Result<WrappedPrivateKey> wrap_private(const TenantId& tenant, std::string_view purpose,
                                         std::string_view key_id, const PrivateKey& key);
  Result<PrivateKey> unwrap_private(const TenantId& tenant, std::string_view purpose,
                                    std::string_view key_id, const WrappedPrivateKey& wrapped);

  /// The same private key under the KEK of version `to`.
  Result<WrappedPrivateKey> rewrap_private(const TenantId& tenant, std::string_view purpose,
                                           std::string_view key_id,
                                           const WrappedPrivateKey& wrapped, KekVersion to);

  /// The same three of what is an owner's: a principal's takes the share that their
  /// credentials take. AAD: with a share "postern-private-key-v2", the same, issuer,
  /// subject, share id. Errors: also as with_current() and with_version() of an owner.
  struct OwnedPrivateKey {
    KekVersion kek_version{};
    Bytes wrapped;
    std::optional<ShareId> share = std::nullopt;
  };
  Result<OwnedPrivateKey> wrap_private(const TenantId& tenant, const Owner& owner,
                                       std::string_view purpose, std::string_view key_id,
                                       const PrivateKey& key);
  Result<PrivateKey> unwrap_private(const TenantId& tenant, const Owner& owner,
                                    std::string_view purpose, std::string_view key_id,
                                    const OwnedPrivateKey& wrapped);
  /// @param share  the owner's own, when it has one.
  Result<OwnedPrivateKey> rewrap_private(const TenantId& tenant, const Owner& owner,
                                         std::string_view purpose, std::string_view key_id,
                                         const OwnedPrivateKey& wrapped, KekVersion to,
                                         const std::optional<ShareId>& share);

  /// As wrap_private, but under a KEK made by create() that is not stored yet:
  /// a new tenant's first signing key is committed with the tenant itself.
  Result<WrappedPrivateKey> wrap_private_under(const WrappedKek& kek, const TenantId& tenant,
                                               std::string_view purpose, std::string_view key_id,
                                               const PrivateKey& key) const;
  /// The audit chain key of a KEK that is not stored yet; see wrap_private_under.
  Result<audit::ChainKey> chain_key_under(const WrappedKek& kek, const TenantId& tenant) const;

  // audit::ChainKeys: derived from the KEK with label "audit", without any share, for
  // what is refused while the tenant is sealed is recorded as well.
  Result<audit::ChainKey> current(const TenantId& tenant) override;
  Result<audit::ChainKey> of_version(const TenantId& tenant, KekVersion version) override;

  /// Of the installation, for signing statements of erasure: one seed of each root key here,
  /// the active one first. Ed25519.
  std::vector<PrivateKey> statement_keys() const;

  /// Drops what is cached, after rotation or erasure, and what is on its way. Held shares
  /// stay; those of the share store go.
  void forget(const TenantId& tenant) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::vault
