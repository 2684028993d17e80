#include "vault/keyring.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
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

#include "core/log.h"
#include "crypto/aead.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "vault/aad.h"

namespace postern::vault {
namespace {

/// Tenants remembered at most: their keys are in locked memory, which is scarce.
constexpr std::size_t kMaxTenants = 8192;

std::uint64_t number(KekVersion version) { return static_cast<std::uint32_t>(version); }

Aad kek_aad(const TenantId& tenant, KekVersion version, std::string_view root_key_id) {
  Aad aad("postern-kek-v1");
  aad.tenant(tenant).number(number(version)).text(root_key_id);
  return aad;
}

Aad private_key_aad(const TenantId& tenant, std::string_view purpose, std::string_view key_id,
                    KekVersion version) {
  Aad aad("postern-private-key-v1");
  aad.tenant(tenant).text(purpose).text(key_id).number(number(version));
  return aad;
}

Bytes seal_private(const Kek& kek, KekVersion version, const TenantId& tenant,
                   std::string_view purpose, std::string_view key_id, const PrivateKey& key) {
  const auto aad = private_key_aad(tenant, purpose, key_id, version);
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
  const auto aad = kek_aad(tenant, wrapped.version, wrapped.root_key_id);
  auto bytes = crypto::open(*root_key, wrapped.wrapped, aad.bytes());
  if (!bytes.ok() || bytes.value().size() != crypto::kKeyBytes) {
    return fail(ErrorCode::Internal, kDetail, "kek: altered row");
  }
  return Kek(std::move(bytes).value());
}

struct OpenedKek {
  KekVersion version;
  Result<Kek> kek;  ///< or why it does not open: an old one must not stop the others
  Result<DerivedKey> chain_key;
};

/// A tenant's KEKs, newest first, at least one. Never changed once made.
struct TenantKeks {
  std::vector<OpenedKek> keks;

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
  Impl(RootKeys keys, KekStore& kek_store)
      : store(kek_store), root_keys_(std::make_shared<const RootKeys>(std::move(keys))) {}

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

  /// Runs use(kek) with the current KEK, or that of a version.
  template <class Use>
  auto with(const TenantId& tenant, const KekVersion* version, const Use& use)
      -> decltype(use(std::declval<const OpenedKek&>())) {
    const auto pick = [&](const TenantKeks& keks) {
      return version == nullptr ? &keks.keks.front() : keks.find(*version);
    };
    auto keks = cached(tenant);
    const OpenedKek* picked = keys_or_null(keks, pick);
    // Not there: never loaded, or added by another replica meanwhile. Not
    // opened: the row may have been repaired.
    if (picked == nullptr || !picked->kek.ok()) {
      POSTERN_TRY(keks, load_once(tenant, keks));
      picked = pick(*keks);
    }
    if (picked == nullptr) return fail(ErrorCode::NotFound, "no such key version");
    if (!picked->kek.ok()) return picked->kek.error();
    return use(*picked);
  }

  void forget(const TenantId& tenant) {
    const std::lock_guard lock(mutex);
    cache.erase(tenant);
    loads.erase(tenant);
  }

  std::atomic<bool> creation_suspended{false};

 private:
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

  Result<Shared> load_from_store(const TenantId& tenant) const {
    try {
      POSTERN_TRY(auto wrapped, store.keks(tenant));
      if (wrapped.empty()) return fail(ErrorCode::NotFound, "no such tenant");
      std::sort(wrapped.begin(), wrapped.end(),
                [](const auto& a, const auto& b) { return a.version > b.version; });
      const auto keys = root_keys();
      auto opened = std::make_shared<TenantKeks>();
      for (const auto& row : wrapped) {
        auto kek = unwrap(*keys, tenant, row);
        auto chain_key = kek.ok() ? Result<DerivedKey>(derive_chain_key(kek.value()))
                                  : Result<DerivedKey>(kek.error());
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
    while (cache.size() >= kMaxTenants && !cache.contains(tenant)) {
      const auto bucket = random() % cache.bucket_count();
      if (cache.bucket_size(bucket) > 0) cache.erase(TenantId(cache.begin(bucket)->first));
    }
    cache.insert_or_assign(tenant, result.value());
  }

  KekStore& store;
  mutable std::shared_mutex mutex;  // never held while the store or a caller's code runs
  std::shared_ptr<const RootKeys> root_keys_;
  std::unordered_map<TenantId, Shared> cache;
  std::unordered_map<TenantId, std::shared_ptr<const Load>> loads;
  std::minstd_rand random;
};

Keyring::Keyring(RootKeys root_keys, KekStore& store)
    : impl_(std::make_unique<Impl>(std::move(root_keys), store)) {}
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

WrappedKek Keyring::create(const TenantId& tenant, KekVersion version) const {
  const auto keys = impl_->root_keys();
  if (keys->empty()) throw std::logic_error("a KEK without a root key");
  SecureBuffer kek(crypto::kKeyBytes);
  crypto::random_bytes(kek.writable());
  const auto aad = kek_aad(tenant, version, keys->active_id());
  return {version, keys->active_id(), crypto::seal(keys->active(), kek.readable(), aad.bytes())};
}

Result<WrappedKek> Keyring::rewrap(const TenantId& tenant, const WrappedKek& wrapped) const {
  const auto keys = impl_->root_keys();
  POSTERN_TRY(const auto kek, unwrap(*keys, tenant, wrapped));
  const auto aad = kek_aad(tenant, wrapped.version, keys->active_id());
  auto box =
      kek.expose([&](ByteView bytes) { return crypto::seal(keys->active(), bytes, aad.bytes()); });
  return WrappedKek{wrapped.version, keys->active_id(), std::move(box)};
}

Status Keyring::with_current(const TenantId& tenant, const Use& use) {
  return impl_->with(tenant, nullptr, [&](const OpenedKek& opened) {
    return use(opened.version, opened.kek.value());
  });
}

Status Keyring::with_version(const TenantId& tenant, KekVersion version, const Use& use) {
  return impl_->with(tenant, &version, [&](const OpenedKek& opened) {
    return use(opened.version, opened.kek.value());
  });
}

Result<Keyring::WrappedPrivateKey> Keyring::wrap_private(const TenantId& tenant,
                                                         std::string_view purpose,
                                                         std::string_view key_id,
                                                         const PrivateKey& key) {
  return impl_->with(tenant, nullptr, [&](const OpenedKek& opened) -> Result<WrappedPrivateKey> {
    return WrappedPrivateKey{opened.version, seal_private(opened.kek.value(), opened.version,
                                                          tenant, purpose, key_id, key)};
  });
}

Result<PrivateKey> Keyring::unwrap_private(const TenantId& tenant, std::string_view purpose,
                                           std::string_view key_id,
                                           const WrappedPrivateKey& wrapped) {
  const auto& version = wrapped.kek_version;
  return impl_->with(tenant, &version, [&](const OpenedKek& opened) -> Result<PrivateKey> {
    const auto aad = private_key_aad(tenant, purpose, key_id, version);
    POSTERN_TRY(auto bytes, crypto::open(opened.kek.value(), wrapped.wrapped, aad.bytes()));
    return PrivateKey(std::move(bytes));
  });
}

Result<Keyring::WrappedPrivateKey> Keyring::rewrap_private(const TenantId& tenant,
                                                           std::string_view purpose,
                                                           std::string_view key_id,
                                                           const WrappedPrivateKey& wrapped,
                                                           KekVersion to) {
  POSTERN_TRY(const auto key, unwrap_private(tenant, purpose, key_id, wrapped));
  return impl_->with(tenant, &to, [&](const OpenedKek& opened) -> Result<WrappedPrivateKey> {
    return WrappedPrivateKey{opened.version, seal_private(opened.kek.value(), opened.version,
                                                          tenant, purpose, key_id, key)};
  });
}

Result<Keyring::WrappedPrivateKey> Keyring::wrap_private_under(const WrappedKek& kek,
                                                               const TenantId& tenant,
                                                               std::string_view purpose,
                                                               std::string_view key_id,
                                                               const PrivateKey& key) const {
  POSTERN_TRY(const auto opened, unwrap(*impl_->root_keys(), tenant, kek));
  return WrappedPrivateKey{kek.version,
                           seal_private(opened, kek.version, tenant, purpose, key_id, key)};
}

Result<audit::ChainKey> Keyring::chain_key_under(const WrappedKek& kek,
                                                 const TenantId& tenant) const {
  POSTERN_TRY(const auto opened, unwrap(*impl_->root_keys(), tenant, kek));
  return audit::ChainKey{kek.version, derive_chain_key(opened)};
}

Result<audit::ChainKey> Keyring::current(const TenantId& tenant) {
  return impl_->with(tenant, nullptr, [](const OpenedKek& opened) -> Result<audit::ChainKey> {
    return audit::ChainKey{opened.version, copy(opened.chain_key.value())};
  });
}

Result<audit::ChainKey> Keyring::of_version(const TenantId& tenant, KekVersion version) {
  return impl_->with(tenant, &version, [](const OpenedKek& opened) -> Result<audit::ChainKey> {
    return audit::ChainKey{opened.version, copy(opened.chain_key.value())};
  });
}

void Keyring::forget(const TenantId& tenant) { impl_->forget(tenant); }

}  // namespace postern::vault
