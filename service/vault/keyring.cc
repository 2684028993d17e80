#include "vault/keyring.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <stdexcept>
#include <string_view>
#include <typeinfo>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/log.h"
#include "crypto/aead.h"
#include "crypto/random.h"
#include "vault/aad.h"
#include "vault/share_errors.h"

namespace postern::vault {
namespace {

/// Tenants remembered at most: their keys are in locked memory, which is scarce.
constexpr std::size_t kMaxTenants = 8192;
/// Principals whose shares are.
constexpr std::size_t kMaxPrincipals = 16384;

std::uint64_t number(KekVersion version) { return static_cast<std::uint32_t>(version); }

Aad kek_aad(const TenantId& tenant, KekVersion version, std::string_view root_key_id,
            const std::optional<HeldShareDemand>& held, const std::optional<ShareId>& share) {
  Aad aad(share ? "postern-kek-v3" : held ? "postern-kek-v2" : "postern-kek-v1");
  aad.tenant(tenant).number(number(version)).text(root_key_id);
  if (held) {
    aad.text(as_text(held->check));
  } else if (share) {
    aad.text("");
  }
  if (share) aad.text(as_text(*share));
  return aad;
}

/// What is kept of a private key, beside its bytes.
struct PrivateKeyRow {
  const TenantId& tenant;
  const Owner& owner;
  std::string_view purpose, key_id;
};

Aad private_key_aad(const PrivateKeyRow& row, KekVersion version,
                    const std::optional<ShareId>& share) {
  Aad aad(share ? "postern-private-key-v2" : "postern-private-key-v1");
  aad.tenant(row.tenant).text(row.purpose).text(row.key_id).number(number(version));
  if (share) aad.owner(row.owner).text(as_text(*share));
  return aad;
}

Bytes seal_private(const Kek& kek, KekVersion version, const std::optional<ShareId>& share,
                   const PrivateKeyRow& row, const PrivateKey& key) {
  const auto aad = private_key_aad(row, version, share);
  return key.expose([&](ByteView bytes) { return crypto::seal(kek, bytes, aad.bytes()); });
}

DerivedKey derive_chain_key(const Kek& kek) { return crypto::derive(kek, "audit"); }

DerivedKey copy(const DerivedKey& key) {
  return DerivedKey(key.expose([](ByteView bytes) { return SecureBuffer::copy_of(bytes); }));
}

Result<Kek> unwrap(const RootKeys& root_keys, const TenantId& tenant, const WrappedKek& wrapped) {
  constexpr auto kDetail = "a tenant key could not be opened";
  const auto* root_key = root_keys.find(wrapped.root_key_id);
  if (root_key == nullptr) {
    return fail(ErrorCode::KeyUnavailable, kDetail,
                "kek: under root key " + root_key_ids({wrapped.root_key_id}) +
                    ", this process has " + root_key_ids(root_keys.ids()));
  }
  const auto aad =
      kek_aad(tenant, wrapped.version, wrapped.root_key_id, wrapped.held, wrapped.share);
  auto bytes = crypto::open(*root_key, wrapped.wrapped, aad.bytes());
  if (!bytes.ok() || bytes.value().size() != crypto::kKeyBytes) {
    return fail(ErrorCode::Internal, kDetail, "kek: altered row");
  }
  return Kek(std::move(bytes).value());
}

Error sealed() {
  Error error =
      fail(ErrorCode::TenantSealed, "the tenant is sealed: its key holder has to unseal it");
  error.retry_after = std::chrono::seconds(30);
  return error;
}

Kek with_share(const Kek& kek, const TenantId& tenant, KekVersion version, const HeldShare& share) {
  Aad row("postern-held-kek-v1");
  row.tenant(tenant).number(number(version));
  return share.expose([&](ByteView bytes) { return crypto::combine(kek, {row.bytes(), bytes}); });
}

Kek with_share(const Kek& kek, const TenantId& tenant, KekVersion version, const KeyShare& share) {
  Aad row("postern-shared-kek-v1");
  row.tenant(tenant).number(number(version));
  return share.expose([&](ByteView bytes) { return crypto::combine(kek, {row.bytes(), bytes}); });
}

Kek of_principal(const Kek& kek, const TenantId& tenant, KekVersion version, const Owner& owner,
                 const KeyShare& share) {
  Aad row("postern-principal-kek-v1");
  row.tenant(tenant).number(number(version)).owner(owner);
  return share.expose([&](ByteView bytes) { return crypto::combine(kek, {row.bytes(), bytes}); });
}

/// A share as its holder gave it, and when: `seals` as of then. Shared by the list of
/// them and the loads that use it.
struct GivenShare {
  HeldShareDemand is;
  HeldShare share;

  bool meets(const HeldShareDemand& demand) const {
    return demand.seals == is.seals && crypto::equal(demand.check, is.check);
  }
};
using Shares = std::vector<std::shared_ptr<const GivenShare>>;

/// All that were given for one tenant, at least one.
struct GivenShares {
  Shares all;
  bool newest = false;  ///< the newest KEK demands one of them, as it was last read
};

const GivenShare* find(const Shares& shares, const HeldShareDemand& demand) {
  for (const auto& given : shares) {
    if (given->meets(demand)) return given.get();
  }
  return nullptr;
}

void sort_newest_first(std::vector<WrappedKek>& keks) {
  std::sort(keks.begin(), keks.end(),
            [](const auto& a, const auto& b) { return a.version > b.version; });
}

struct OpenedKek {
  KekVersion version;
  Result<Kek> kek;  ///< or why it does not open: an old one must not stop the others
  Result<DerivedKey> chain_key;
};

/// A tenant's KEKs, newest first, at least one. Never changed once made.
struct TenantKeks {
  std::vector<OpenedKek> keks;
  Keyring::Seal seal = Keyring::Seal::NotHeld;

  const OpenedKek* find(KekVersion version) const {
    for (const auto& kek : keks) {
      if (kek.version == version) return &kek;
    }
    return nullptr;
  }
};

// Shared by the cache and the calls that use it, so that no lock is held during
// a call, and after forget() the keys are wiped when the last call is done.
using Shared = std::shared_ptr<const TenantKeks>;

}  // namespace

struct Keyring::Impl {
  Impl(RootKeys keys, KekStore& kek_store, ShareStore* share_store)
      : store(kek_store),
        key_shares(share_store),
        root_keys_(std::make_shared<const RootKeys>(std::move(keys))) {}

  /// Shared with calls under way, so that replacing them waits for nobody.
  std::shared_ptr<const RootKeys> root_keys() const {
    const std::shared_lock lock(mutex);
    return root_keys_;
  }

  void replace(RootKeys keys) {
    auto fresh = std::make_shared<const RootKeys>(std::move(keys));
    const std::lock_guard lock(mutex);
    root_keys_.swap(fresh);
    cache.clear();
    loads.clear();  // what is on its way was opened with the old ones
  }

  /// Runs use(kek) with the current KEK, or that of a version, of which `part` must be there.
  template <class Part, class Use>
  auto with(const TenantId& tenant, const KekVersion* version, Part OpenedKek::*part,
            const Use& use) -> decltype(use(std::declval<const OpenedKek&>())) {
    const auto pick = [&](const TenantKeks& keks) {
      return version == nullptr ? &keks.keks.front() : keks.find(*version);
    };
    auto keks = cached(tenant);
    const OpenedKek* picked = keys_or_null(keks, pick);
    // Not there: never loaded, or added by another replica meanwhile. Not
    // opened: the row may have been repaired. What is sealed stays so until told.
    const auto missing = [](const auto& found) {
      return !found.ok() && found.error().code != ErrorCode::TenantSealed;
    };
    if (picked == nullptr || missing(picked->*part)) {
      POSTERN_TRY(keks, load_once(tenant, keks));
      picked = pick(*keks);
    }
    if (picked == nullptr) return fail(ErrorCode::NotFound, "no such key version");
    if (!(picked->*part).ok()) return (picked->*part).error();
    return use(*picked);
  }

  Result<Keyring::Seal> seal_of(const TenantId& tenant) {
    auto keks = cached(tenant);
    if (keks == nullptr) {
      POSTERN_TRY(keks, load_once(tenant, keks));
    }
    return keks->seal;
  }

  struct Met {
    HeldShareDemand demand;
    Keyring::DemandedBy by;
  };
  /// The newest demand that this share meets. Errors: as Keyring::unseal.
  Result<Met> demand_met(const TenantId& tenant, const HeldShare& share) {
    POSTERN_TRY(auto wrapped, store.keks(tenant));
    sort_newest_first(wrapped);
    const auto check = check_of(tenant, share);
    bool held = false;
    for (const auto& row : wrapped) {
      held |= row.held.has_value();
      if (!row.held || !crypto::equal(row.held->check, check)) continue;
      return Met{*row.held, &row == &wrapped.front() ? Keyring::DemandedBy::Newest
                                                     : Keyring::DemandedBy::OlderOnly};
    }
    if (!held) return fail(ErrorCode::Conflict, "this tenant has no key holder");
    return fail(ErrorCode::Forbidden, "this is not the share of the tenant's key holder");
  }

  Status unseal(const TenantId& tenant, HeldShare share) {
    POSTERN_TRY(const auto met, demand_met(tenant, share));
    const auto& demand = met.demand;
    auto given = std::make_shared<const GivenShare>(GivenShare{demand, std::move(share)});
    const std::lock_guard lock(mutex);
    auto& of_tenant = shares[tenant];
    std::erase_if(of_tenant.all,
                  [&](const auto& other) { return other->is.check == demand.check; });
    of_tenant.all.push_back(std::move(given));
    if (met.by == Keyring::DemandedBy::Newest) of_tenant.newest = true;
    cache.erase(tenant);
    loads.erase(tenant);
    return {};
  }

  void seal(const TenantId& tenant) {
    const std::lock_guard lock(mutex);
    shares.erase(tenant);
    cache.erase(tenant);
    loads.erase(tenant);
  }

  Shares shares_of(const TenantId& tenant) const {
    const std::shared_lock lock(mutex);
    const auto found = shares.find(tenant);
    return found == shares.end() ? Shares() : found->second.all;
  }

  bool is_unsealed(const TenantId& tenant) const {
    const std::shared_lock lock(mutex);
    const auto found = shares.find(tenant);
    return found != shares.end() && found->second.newest;
  }

  /// Forgets those of `seen` that are not wanted.
  template <class Wanted>
  void keep_shares(const TenantId& tenant, const Shares& seen, const Wanted& wanted) {
    if (seen.empty()) return;
    const std::lock_guard lock(mutex);
    const auto found = shares.find(tenant);
    if (found == shares.end()) return;
    std::erase_if(found->second.all, [&](const auto& given) {
      return std::find(seen.begin(), seen.end(), given) != seen.end() && !wanted(*given);
    });
    if (found->second.all.empty()) shares.erase(found);
  }

  Status forget_old_shares(const TenantId& tenant, KekVersion oldest_in_use) {
    const auto seen = shares_of(tenant);
    if (seen.empty()) return {};
    POSTERN_TRY(const auto wrapped, store.keks(tenant));
    keep_shares(tenant, seen, [&](const GivenShare& given) {
      return std::any_of(wrapped.begin(), wrapped.end(), [&](const WrappedKek& kek) {
        return kek.version >= oldest_in_use && kek.held && given.meets(*kek.held);
      });
    });
    forget(tenant);
    return {};
  }

  void forget(const TenantId& tenant) {
    const std::lock_guard lock(mutex);
    cache.erase(tenant);
    loads.erase(tenant);
    ++forgotten;
    std::erase_if(principal_shares,
                  [&](const auto& entry) { return entry.first.tenant == tenant; });
  }

  Result<std::optional<ShareId>> make_share(const TenantId& tenant) const {
    if (key_shares == nullptr) return std::optional<ShareId>();
    SecureBuffer bytes(crypto::kKeyBytes);
    crypto::random_bytes(bytes.writable());
    const KeyShare share(std::move(bytes));
    const auto id = id_of(tenant, share);
    if (const auto added = key_shares->add(tenant, id, share); !added.ok()) {
      return share_store_is_away(added.error());
    }
    return std::optional(id);
  }

  /// Errors: KeyUnavailable; Internal (an altered row).
  Result<KeyShare> find_share(const TenantId& tenant, const ShareId& id) const {
    if (key_shares == nullptr) return no_share_store();
    auto share = key_shares->find(tenant, id);
    if (!share.ok()) {
      switch (share.error().code) {
        case ErrorCode::Conflict: return share_is_destroyed();
        case ErrorCode::NotFound: return another_share_store();
        default: return share_store_is_away(share.error());
      }
    }
    if (id_of(tenant, share.value()) != id) {
      return fail(ErrorCode::Internal, "a tenant key could not be opened", "share: altered row");
    }
    return share;
  }

  using SharedShare = std::shared_ptr<const KeyShare>;
  /// A principal's, if it was used before; else nothing.
  SharedShare known_share(const TenantId& tenant, const ShareId& id) const {
    const std::shared_lock lock(mutex);
    const auto found = principal_shares.find({tenant, id});
    return found == principal_shares.end() ? nullptr : found->second;
  }

  std::uint64_t times_forgotten() const {
    const std::shared_lock lock(mutex);
    return forgotten;
  }

  /// A principal's, from memory when it was used before.
  Result<SharedShare> share_of_principal(const TenantId& tenant, const ShareId& id) {
    if (auto known = known_share(tenant, id)) return known;
    const auto before = times_forgotten();
    POSTERN_TRY(auto found, find_share(tenant, id));
    auto share = std::make_shared<const KeyShare>(std::move(found));
    const std::lock_guard lock(mutex);
    // What was read before something was forgotten may be what is gone.
    if (forgotten != before) return share;
    while (principal_shares.size() >= kMaxPrincipals) {
      const auto bucket = random() % principal_shares.bucket_count();
      if (principal_shares.bucket_size(bucket) > 0) {
        principal_shares.erase(ShareKey(principal_shares.begin(bucket)->first));
      }
    }
    principal_shares.insert_or_assign({tenant, id}, share);
    return share;
  }

  Result<std::optional<ShareId>> principal_share(const TenantId& tenant,
                                                 const Principal& principal) {
    POSTERN_TRY(const auto present, store.principal_share(tenant, principal));
    if (present || key_shares == nullptr) return present;
    POSTERN_TRY(const auto fresh, make_share(tenant));
    const auto which = store.add_principal_share(tenant, principal, *fresh);
    // Somebody was first, or the owner is being erased; what nobody refers to seals nothing.
    const bool unused =
        which.ok() ? which.value() != *fresh : which.error().code == ErrorCode::Conflict;
    if (unused) static_cast<void>(key_shares->destroy(tenant, *fresh));
    if (!which.ok()) return which.error();
    return std::optional(which.value());
  }

  std::atomic<bool> creation_suspended{false};
  KekStore& store;
  ShareStore* const key_shares;

 private:
  struct ShareKey {
    TenantId tenant;
    ShareId id;
    bool operator==(const ShareKey&) const = default;
  };
  struct HashOfShareKey {
    std::size_t operator()(const ShareKey& key) const noexcept {
      std::size_t out = 0;  // of a hash, any part is one
      std::memcpy(&out, key.id.data(), sizeof out);
      return out;
    }
  };
  using Load = std::shared_future<Result<Shared>>;

  template <class Pick>
  static const OpenedKek* keys_or_null(const Shared& keks, const Pick& pick) {
    return keks == nullptr ? nullptr : pick(*keks);
  }

  Shared cached(const TenantId& tenant) const {
    const std::shared_lock lock(mutex);
    const auto found = cache.find(tenant);
    return found == cache.end() ? nullptr : found->second;
  }

  /// Loads unless somebody has since `seen`; who comes during a load shares its
  /// result, also when it fails, so that a slow store is asked once.
  Result<Shared> load_once(const TenantId& tenant, const Shared& seen) {
    std::promise<Result<Shared>> promise;
    const auto load = std::make_shared<const Load>(promise.get_future().share());
    {
      std::unique_lock lock(mutex);
      const auto found = cache.find(tenant);
      if (found != cache.end() && found->second != seen) return found->second;
      const auto [slot, mine] = loads.try_emplace(tenant, load);
      if (!mine) {
        const auto running = slot->second;
        lock.unlock();
        return running->get();
      }
    }
    const auto result = load_from_store(tenant);
    {
      const std::lock_guard lock(mutex);
      const auto slot = loads.find(tenant);
      // When forget() came in between, this may be the state it wanted gone.
      if (slot != loads.end() && slot->second == load) {
        loads.erase(slot);
        remember(tenant, result);
      }
    }
    promise.set_value(result);
    return result;
  }

  Result<Shared> load_from_store(const TenantId& tenant) {
    try {
      // Before the rows: what these say of sealing is then later than the shares.
      const auto given = shares_of(tenant);
      auto found = store.keks(tenant);
      if (!found.ok() && found.error().code == ErrorCode::NotFound) {
        keep_shares(tenant, given, [](const GivenShare&) { return false; });
      }
      POSTERN_TRY(auto wrapped, std::move(found));
      if (wrapped.empty()) return fail(ErrorCode::NotFound, "no such tenant");
      sort_newest_first(wrapped);
      keep_shares(tenant, given, [&](const GivenShare& share) {
        return std::any_of(wrapped.begin(), wrapped.end(),
                           [&](const auto& row) { return row.held && share.meets(*row.held); });
      });
      const auto keys = root_keys();
      auto opened = std::make_shared<TenantKeks>();
      if (const auto& held = wrapped.front().held) {
        opened->seal =
            find(given, *held) == nullptr ? Keyring::Seal::Sealed : Keyring::Seal::Unsealed;
      }
      std::optional<Error> away;  // of the share store, which is then not asked for each KEK
      for (const auto& row : wrapped) {
        auto kek = unwrap(*keys, tenant, row);
        auto chain_key = kek.ok() ? Result<DerivedKey>(derive_chain_key(kek.value()))
                                  : Result<DerivedKey>(kek.error());
        if (kek.ok() && row.share) {
          const auto share = away ? Result<KeyShare>(*away) : find_share(tenant, *row.share);
          if (!share.ok() && is_share_store_away(share.error())) away = share.error();
          kek = share.ok()
                    ? Result<Kek>(with_share(kek.value(), tenant, row.version, share.value()))
                    : Result<Kek>(share.error());
        }
        if (kek.ok() && (row.held || opened->seal == Keyring::Seal::Sealed)) {
          const auto* share = row.held ? find(given, *row.held) : nullptr;
          const bool open = share != nullptr && opened->seal != Keyring::Seal::Sealed;
          kek = open ? Result<Kek>(with_share(kek.value(), tenant, row.version, share->share))
                     : Result<Kek>(sealed());
        }
        opened->keks.push_back({row.version, std::move(kek), std::move(chain_key)});
      }
      return Shared(std::move(opened));
    } catch (const std::exception& e) {
      // Others wait for this result, so it must be one. The type, not what().
      log::error("keyring.load_threw", {{"type", typeid(e).name()}});
      return fail(ErrorCode::Unavailable, "the key store is not available", typeid(e).name());
    }
  }

  void remember(const TenantId& tenant, const Result<Shared>& result) {
    if (!result.ok()) return;
    if (const auto given = shares.find(tenant); given != shares.end()) {
      given->second.newest = result.value()->seal == Keyring::Seal::Unsealed;
    }
    while (cache.size() >= kMaxTenants && !cache.contains(tenant)) {
      const auto bucket = random() % cache.bucket_count();
      if (cache.bucket_size(bucket) > 0) cache.erase(TenantId(cache.begin(bucket)->first));
    }
    cache.insert_or_assign(tenant, result.value());
  }

  mutable std::shared_mutex mutex;  // never held while the store or a caller's code runs
  std::shared_ptr<const RootKeys> root_keys_;
  std::unordered_map<TenantId, Shared> cache;
  std::unordered_map<TenantId, GivenShares> shares;
  std::unordered_map<ShareKey, SharedShare, HashOfShareKey> principal_shares;
  std::uint64_t forgotten = 0;  // how often something was
  std::unordered_map<TenantId, std::shared_ptr<const Load>> loads;
  std::minstd_rand random;
};

Keyring::Keyring(RootKeys root_keys, KekStore& store, ShareStore* shares)
    : impl_(std::make_unique<Impl>(std::move(root_keys), store, shares)) {}
Keyring::~Keyring() = default;

void Keyring::replace_root_keys(RootKeys root_keys) { impl_->replace(std::move(root_keys)); }

std::string Keyring::active_root_key() const { return impl_->root_keys()->active_id(); }

void Keyring::set_creation(Creation creation) {
  impl_->creation_suspended = creation == Creation::Suspended;
}

Status Keyring::may_create() const {
  if (impl_->root_keys()->empty()) {
    return fail(ErrorCode::KeyUnavailable, "", "kek: this process has no root key");
  }
  if (impl_->creation_suspended) {
    return fail(ErrorCode::KeyUnavailable, "",
                "kek: this process has not all root keys of the database");
  }
  return {};
}

crypto::Hash256 check_of(const TenantId& tenant, const HeldShare& share) {
  return crypto::keyed_hash(share, {as_bytes("postern-held-share-v1"), as_bytes(tenant.str())});
}

Status Keyring::unseal(const TenantId& tenant, HeldShare share) {
  return impl_->unseal(tenant, std::move(share));
}

Result<Keyring::DemandedBy> Keyring::check_share(const TenantId& tenant, const HeldShare& share) {
  POSTERN_TRY(const auto met, impl_->demand_met(tenant, share));
  return met.by;
}

void Keyring::seal(const TenantId& tenant) { impl_->seal(tenant); }

Status Keyring::forget_old_shares(const TenantId& tenant, KekVersion oldest_in_use) {
  return impl_->forget_old_shares(tenant, oldest_in_use);
}

bool Keyring::has_share(const TenantId& tenant) const { return !impl_->shares_of(tenant).empty(); }

Result<Keyring::Seal> Keyring::seal_of(const TenantId& tenant) { return impl_->seal_of(tenant); }

bool Keyring::is_unsealed(const TenantId& tenant) const { return impl_->is_unsealed(tenant); }

bool Keyring::has_share_store() const noexcept { return impl_->key_shares != nullptr; }

Result<std::optional<ShareId>> Keyring::make_share(const TenantId& tenant) const {
  return impl_->make_share(tenant);
}

WrappedKek Keyring::create(const TenantId& tenant, KekVersion version,
                           const std::optional<HeldShareDemand>& held,
                           const std::optional<ShareId>& share) const {
  const auto keys = impl_->root_keys();
  if (keys->empty()) throw std::logic_error("a KEK without a root key");
  SecureBuffer kek(crypto::kKeyBytes);
  crypto::random_bytes(kek.writable());
  const auto aad = kek_aad(tenant, version, keys->active_id(), held, share);
  return {version, keys->active_id(), crypto::seal(keys->active(), kek.readable(), aad.bytes()),
          held, share};
}

Result<WrappedKek> Keyring::rewrap(const TenantId& tenant, const WrappedKek& wrapped) const {
  const auto keys = impl_->root_keys();
  POSTERN_TRY(const auto kek, unwrap(*keys, tenant, wrapped));
  const auto aad = kek_aad(tenant, wrapped.version, keys->active_id(), wrapped.held, wrapped.share);
  auto box =
      kek.expose([&](ByteView bytes) { return crypto::seal(keys->active(), bytes, aad.bytes()); });
  return WrappedKek{wrapped.version, keys->active_id(), std::move(box), wrapped.held,
                    wrapped.share};
}

Status Keyring::with_current(const TenantId& tenant, const Use& use) {
  return impl_->with(tenant, nullptr, &OpenedKek::kek, [&](const OpenedKek& opened) {
    return use(opened.version, opened.kek.value());
  });
}

Status Keyring::with_version(const TenantId& tenant, KekVersion version, const Use& use) {
  return impl_->with(tenant, &version, &OpenedKek::kek, [&](const OpenedKek& opened) {
    return use(opened.version, opened.kek.value());
  });
}

Status Keyring::with_current(const TenantId& tenant, const Owner& owner, const UseOfOwner& use) {
  std::optional<ShareId> share;
  std::shared_ptr<const KeyShare> bytes;
  if (!owner.is_tenant()) {
    POSTERN_TRY(share, impl_->principal_share(tenant, owner.principal()));
  }
  if (share) {
    auto found = impl_->share_of_principal(tenant, *share);
    if (!found.ok() && is_share_destroyed(found.error())) {
      // Perhaps between the two: then there is another, or none, and a fresh one is made.
      POSTERN_TRY(const auto now, impl_->principal_share(tenant, owner.principal()));
      if (now && now != share) {
        share = now;
        found = impl_->share_of_principal(tenant, *share);
      }
    }
    POSTERN_TRY(bytes, std::move(found));
  }
  const auto use_combined = [&](KekVersion version, const Kek& kek) {
    return bytes == nullptr
               ? use(version, share, kek)
               : use(version, share, of_principal(kek, tenant, version, owner, *bytes));
  };
  return with_current(tenant, std::ref(use_combined));  // a copy would be on the heap
}

Status Keyring::with_version(const TenantId& tenant, KekVersion version, const Owner& owner,
                             const std::optional<ShareId>& share, const Use& use) {
  if (!share) return with_version(tenant, version, use);
  auto bytes = impl_->known_share(tenant, *share);
  if (bytes == nullptr) {
    // First the tenant's: when that one is sealed, this is not asked for.
    POSTERN_CHECK(with_version(tenant, version, [](KekVersion, const Kek&) { return Status(); }));
    POSTERN_TRY(bytes, impl_->share_of_principal(tenant, *share));
  }
  const auto use_combined = [&](KekVersion found, const Kek& kek) {
    return use(found, of_principal(kek, tenant, found, owner, *bytes));
  };
  return with_version(tenant, version, std::ref(use_combined));
}

Result<std::optional<ShareId>> Keyring::principal_share(const TenantId& tenant,
                                                        const Principal& principal) {
  return impl_->principal_share(tenant, principal);
}

std::vector<PrivateKey> Keyring::statement_keys() const {
  const auto keys = impl_->root_keys();
  std::vector<PrivateKey> out;
  for (const auto& id : keys->ids()) {
    const auto seed = crypto::derive(*keys->find(id), "erasure");
    out.push_back(
        PrivateKey(seed.expose([](ByteView bytes) { return SecureBuffer::copy_of(bytes); })));
  }
  return out;
}

Result<Keyring::WrappedPrivateKey> Keyring::wrap_private(const TenantId& tenant,
                                                         std::string_view purpose,
                                                         std::string_view key_id,
                                                         const PrivateKey& key) {
  POSTERN_TRY(auto made, wrap_private(tenant, Owner::tenant(), purpose, key_id, key));
  return WrappedPrivateKey{made.kek_version, std::move(made.wrapped)};
}

Result<PrivateKey> Keyring::unwrap_private(const TenantId& tenant, std::string_view purpose,
                                           std::string_view key_id,
                                           const WrappedPrivateKey& wrapped) {
  const OwnedPrivateKey of_tenant{wrapped.kek_version, wrapped.wrapped};
  return unwrap_private(tenant, Owner::tenant(), purpose, key_id, of_tenant);
}

Result<Keyring::WrappedPrivateKey> Keyring::rewrap_private(const TenantId& tenant,
                                                           std::string_view purpose,
                                                           std::string_view key_id,
                                                           const WrappedPrivateKey& wrapped,
                                                           KekVersion to) {
  const OwnedPrivateKey of_tenant{wrapped.kek_version, wrapped.wrapped};
  POSTERN_TRY(auto moved, rewrap_private(tenant, Owner::tenant(), purpose, key_id, of_tenant, to,
                                         std::nullopt));
  return WrappedPrivateKey{moved.kek_version, std::move(moved.wrapped)};
}

Result<Keyring::OwnedPrivateKey> Keyring::wrap_private(const TenantId& tenant, const Owner& owner,
                                                       std::string_view purpose,
                                                       std::string_view key_id,
                                                       const PrivateKey& key) {
  OwnedPrivateKey made;
  const auto seal = [&](KekVersion version, const std::optional<ShareId>& share,
                        const Kek& kek) -> Status {
    made = {version, seal_private(kek, version, share, {tenant, owner, purpose, key_id}, key),
            share};
    return {};
  };
  POSTERN_CHECK(with_current(tenant, owner, std::ref(seal)));
  return made;
}

Result<PrivateKey> Keyring::unwrap_private(const TenantId& tenant, const Owner& owner,
                                           std::string_view purpose, std::string_view key_id,
                                           const OwnedPrivateKey& wrapped) {
  std::optional<PrivateKey> key;
  const auto open = [&](KekVersion version, const Kek& kek) -> Status {
    const auto aad = private_key_aad({tenant, owner, purpose, key_id}, version, wrapped.share);
    POSTERN_TRY(auto bytes, crypto::open(kek, wrapped.wrapped, aad.bytes()));
    key.emplace(std::move(bytes));
    return {};
  };
  POSTERN_CHECK(with_version(tenant, wrapped.kek_version, owner, wrapped.share, std::ref(open)));
  return std::move(*key);
}

Result<Keyring::OwnedPrivateKey> Keyring::rewrap_private(
    const TenantId& tenant, const Owner& owner, std::string_view purpose, std::string_view key_id,
    const OwnedPrivateKey& wrapped, KekVersion to, const std::optional<ShareId>& share) {
  POSTERN_TRY(const auto key, unwrap_private(tenant, owner, purpose, key_id, wrapped));
  OwnedPrivateKey moved;
  const auto seal = [&](KekVersion version, const Kek& kek) -> Status {
    moved = {version, seal_private(kek, version, share, {tenant, owner, purpose, key_id}, key),
             share};
    return {};
  };
  POSTERN_CHECK(with_version(tenant, to, owner, share, std::ref(seal)));
  return moved;
}

Result<Keyring::WrappedPrivateKey> Keyring::wrap_private_under(const WrappedKek& kek,
                                                               const TenantId& tenant,
                                                               std::string_view purpose,
                                                               std::string_view key_id,
                                                               const PrivateKey& key) const {
  if (kek.held) return sealed();  // there is no such tenant yet, so nobody has given its share
  POSTERN_TRY(auto opened, unwrap(*impl_->root_keys(), tenant, kek));
  if (kek.share) {
    POSTERN_TRY(const auto share, impl_->find_share(tenant, *kek.share));
    opened = with_share(opened, tenant, kek.version, share);
  }
  const auto owner = Owner::tenant();
  return WrappedPrivateKey{kek.version, seal_private(opened, kek.version, std::nullopt,
                                                     {tenant, owner, purpose, key_id}, key)};
}

Result<audit::ChainKey> Keyring::chain_key_under(const WrappedKek& kek,
                                                 const TenantId& tenant) const {
  POSTERN_TRY(const auto opened, unwrap(*impl_->root_keys(), tenant, kek));
  return audit::ChainKey{kek.version, derive_chain_key(opened)};
}

Result<audit::ChainKey> Keyring::current(const TenantId& tenant) {
  return impl_->with(tenant, nullptr, &OpenedKek::chain_key,
                     [](const OpenedKek& opened) -> Result<audit::ChainKey> {
                       return audit::ChainKey{opened.version, copy(opened.chain_key.value())};
                     });
}

Result<audit::ChainKey> Keyring::of_version(const TenantId& tenant, KekVersion version) {
  return impl_->with(tenant, &version, &OpenedKek::chain_key,
                     [](const OpenedKek& opened) -> Result<audit::ChainKey> {
                       return audit::ChainKey{opened.version, copy(opened.chain_key.value())};
                     });
}

void Keyring::forget(const TenantId& tenant) { impl_->forget(tenant); }

}  // namespace postern::vault
