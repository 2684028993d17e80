#include "vault/keyring.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "crypto/hash.h"
#include "support/code_of.h"
#include "support/in_memory_kek_store.h"
#include "support/temporary_directory.h"

namespace postern::vault {
namespace {

using test::code_of;

const TenantId kAcme("acme");
const TenantId kOther("other");

/// A fingerprint, to compare keys that tests must not copy out.
std::string print(const Kek& kek) {
  const auto hash = crypto::keyed_hash(crypto::derive(kek, "test"), {});
  return std::string(as_text(hash));
}
std::string print(const DerivedKey& key) {
  return std::string(as_text(crypto::keyed_hash(key, {})));
}

struct KeyringTest : ::testing::Test {
  KeyringTest() { keys.add(kAcme), keys.add(kOther); }

  Keyring& keyring() { return keys.keyring; }
  std::optional<std::string> current(const TenantId& tenant) {
    std::string found;
    const auto status = keyring().with_current(tenant, [&](KekVersion, const Kek& kek) {
      found = print(kek);
      return Status();
    });
    return status.ok() ? std::optional(found) : std::nullopt;
  }
  Status use(const TenantId& tenant) {
    return keyring().with_current(tenant, [](KekVersion, const Kek&) { return Status(); });
  }
  Status use(const TenantId& tenant, unsigned version) {
    return keyring().with_version(tenant, KekVersion{version},
                                  [](KekVersion, const Kek&) { return Status(); });
  }

  test::TestKeyring keys;
};

TEST_F(KeyringTest, OpensTheKekItMade) {
  unsigned version = 0;
  std::size_t size = 0;
  ASSERT_TRUE(keyring()
                  .with_current(kAcme,
                                [&](KekVersion v, const Kek& kek) {
                                  version = static_cast<unsigned>(v);
                                  size = kek.size();
                                  return Status();
                                })
                  .ok());
  EXPECT_EQ(version, 1u);
  EXPECT_EQ(size, 32u);
}

TEST_F(KeyringTest, EachTenantHasItsOwnKek) {
  EXPECT_NE(current(kAcme), current(kOther));
  EXPECT_EQ(current(kAcme), current(kAcme));
}

TEST_F(KeyringTest, EveryKekItMakesIsNew) {
  keys.add(kAcme, KekVersion{2});
  std::string one;
  std::string two;
  ASSERT_TRUE(keyring()
                  .with_version(kAcme, KekVersion{1},
                                [&](KekVersion, const Kek& kek) {
                                  one = print(kek);
                                  return Status();
                                })
                  .ok());
  two = *current(kAcme);
  EXPECT_NE(one, two);
}

TEST_F(KeyringTest, AsksTheStoreOnce) {
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(use(kAcme).ok());
    EXPECT_TRUE(use(kAcme, 1).ok());
    EXPECT_TRUE(keyring().current(kAcme).ok());
    EXPECT_TRUE(keyring().of_version(kAcme, KekVersion{1}).ok());
  }
  EXPECT_EQ(keys.store.loads(), 1u);
}

TEST_F(KeyringTest, ReturnsWhatTheUseReturned) {
  const auto status = keyring().with_current(
      kAcme, [](KekVersion, const Kek&) -> Status { return fail(ErrorCode::Conflict, "mine"); });
  EXPECT_EQ(code_of(status), ErrorCode::Conflict);
}

TEST_F(KeyringTest, AUseMayUseTheKeyringAgain) {
  const auto status = keyring().with_current(kAcme, [&](KekVersion, const Kek&) {
    keyring().forget(kAcme);
    return use(kOther);
  });
  EXPECT_TRUE(status.ok());
}

TEST_F(KeyringTest, AnUnknownTenantIsNotFoundAndNotRemembered) {
  const TenantId later("later");
  EXPECT_EQ(code_of(use(later)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(use(later, 1)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(keyring().current(later)), ErrorCode::NotFound);
  keys.store.add(later, keyring().create(later, KekVersion{1}));
  EXPECT_TRUE(use(later).ok());
}

TEST_F(KeyringTest, AFailingStoreIsNotRemembered) {
  keys.store.fail_with(fail(ErrorCode::Unavailable, "down"));
  EXPECT_EQ(code_of(use(kAcme)), ErrorCode::Unavailable);
  keys.store.fail_with(std::nullopt);
  EXPECT_TRUE(use(kAcme).ok());
}

TEST_F(KeyringTest, WhatIsRememberedOutlivesAFailingStore) {
  ASSERT_TRUE(use(kAcme).ok());
  keys.store.fail_with(fail(ErrorCode::Unavailable, "down"));
  EXPECT_TRUE(use(kAcme).ok());
}

// ---- versions ----

TEST_F(KeyringTest, TheNewestVersionIsCurrentInWhateverOrder) {
  std::vector<WrappedKek> rows;
  for (const unsigned version : {2u, 10u, 1u}) {
    rows.push_back(keyring().create(kAcme, KekVersion{version}));
  }
  keys.store.replace(kAcme, rows);
  unsigned current_version = 0;
  ASSERT_TRUE(keyring()
                  .with_current(kAcme,
                                [&](KekVersion v, const Kek&) {
                                  current_version = static_cast<unsigned>(v);
                                  return Status();
                                })
                  .ok());
  EXPECT_EQ(current_version, 10u);
  for (const unsigned version : {1u, 2u, 10u}) EXPECT_TRUE(use(kAcme, version).ok());
  EXPECT_EQ(code_of(use(kAcme, 3)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(use(kAcme, 0)), ErrorCode::NotFound);
}

TEST_F(KeyringTest, AVersionAddedElsewhereIsFoundWithoutForgetting) {
  ASSERT_TRUE(use(kAcme).ok());
  keys.store.add(kAcme, keyring().create(kAcme, KekVersion{2}));
  EXPECT_TRUE(use(kAcme, 2).ok());
  EXPECT_TRUE(use(kAcme, 1).ok());
  EXPECT_EQ(keys.store.loads(), 2u);
}

TEST_F(KeyringTest, ForgettingMakesARotationSeen) {
  const auto before = current(kAcme);
  keys.store.add(kAcme, keyring().create(kAcme, KekVersion{2}));
  EXPECT_EQ(current(kAcme), before);
  keyring().forget(kAcme);
  EXPECT_NE(current(kAcme), before);
}

TEST_F(KeyringTest, AnErasedTenantIsGoneOnceForgotten) {
  ASSERT_TRUE(use(kAcme).ok());
  keys.store.erase(kAcme);
  keyring().forget(kAcme);
  EXPECT_EQ(code_of(use(kAcme)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(use(kAcme, 1)), ErrorCode::NotFound);
  EXPECT_TRUE(use(kOther).ok());
}

// ---- altered rows ----

TEST_F(KeyringTest, AKekOfAnotherTenantDoesNotOpen) {
  keys.store.replace(kAcme, keys.store.keks(kOther).value());
  EXPECT_EQ(code_of(use(kAcme)), ErrorCode::Internal);
}

TEST_F(KeyringTest, AKekUnderAnotherVersionDoesNotOpen) {
  auto rows = keys.store.keks(kAcme).value();
  rows[0].version = KekVersion{2};
  keys.store.replace(kAcme, rows);
  EXPECT_EQ(code_of(use(kAcme)), ErrorCode::Internal);
  EXPECT_EQ(code_of(use(kAcme, 2)), ErrorCode::Internal);
}

TEST_F(KeyringTest, AKekOfAnotherRootKeyDoesNotOpen) {
  const test::TestKeyring strangers({"acme"});
  auto rows = strangers.keyring.create(kAcme, KekVersion{1});
  keys.store.replace(kAcme, {rows});
  EXPECT_EQ(code_of(use(kAcme)), ErrorCode::KeyUnavailable);
  rows.root_key_id = keys.keyring.create(kAcme, KekVersion{1}).root_key_id;
  keys.store.replace(kAcme, {rows});
  EXPECT_EQ(code_of(use(kAcme)), ErrorCode::Internal);
}

TEST_F(KeyringTest, NoFlippedBitOpens) {
  const auto row = keys.store.keks(kAcme).value().at(0);
  for (std::size_t bit = 0; bit < row.wrapped.size() * 8; ++bit) {
    auto flipped = row;
    flipped.wrapped[bit / 8] ^= std::byte(1 << (bit % 8));
    keys.store.replace(kAcme, {flipped});
    ASSERT_EQ(code_of(use(kAcme)), ErrorCode::Internal) << bit;
  }
  keys.store.replace(kAcme, {row});  // and no failure was remembered
  EXPECT_TRUE(use(kAcme).ok());
}

TEST_F(KeyringTest, AnOldKekThatDoesNotOpenHarmsNoOther) {
  auto rows = keys.store.keks(kAcme).value();
  rows[0].wrapped.clear();
  rows.push_back(keyring().create(kAcme, KekVersion{2}));
  keys.store.replace(kAcme, rows);
  EXPECT_TRUE(use(kAcme).ok());
  EXPECT_TRUE(use(kAcme, 2).ok());
  EXPECT_EQ(code_of(use(kAcme, 1)), ErrorCode::Internal);
}

TEST_F(KeyringTest, AnOlderKekNeverStandsInForANewerThatDoesNotOpen) {
  auto rows = keys.store.keks(kAcme).value();
  rows.push_back(keyring().create(kAcme, KekVersion{2}));
  rows.back().wrapped.back() ^= std::byte{1};
  keys.store.replace(kAcme, rows);
  EXPECT_EQ(code_of(use(kAcme)), ErrorCode::Internal);
  EXPECT_EQ(code_of(keyring().current(kAcme)), ErrorCode::Internal);
  EXPECT_TRUE(use(kAcme, 1).ok());
}

// ---- root keys ----

/// Two root keys, in the order given.
RootKeys both(const std::string& first, const std::string& second) {
  return RootKeys::parse(first + second).value();
}

struct RootKeyRotation : ::testing::Test {
  RootKeyRotation() {
    const test::TemporaryDirectory directory;
    for (auto* line : {&old_line, &new_line}) {
      const auto file = directory.path() / (line == &old_line ? "old" : "new");
      EXPECT_TRUE(RootKeys::create(file).ok());
      std::ifstream in(file);
      line->assign(std::istreambuf_iterator<char>(in), {});
    }
    const Keyring maker(RootKeys::parse(old_line).value(), store);
    rows.push_back(maker.create(kAcme, KekVersion{1}));
    store.replace(kAcme, rows);
  }
  static std::string id_in(const std::string& line) { return line.substr(20, 16); }
  std::optional<std::string> current(Keyring& keyring) {
    std::string found;
    const auto status = keyring.with_current(kAcme, [&](KekVersion, const Kek& kek) {
      found = print(kek);
      return Status();
    });
    return status.ok() ? std::optional(found) : std::nullopt;
  }

  std::string old_line, new_line;
  test::InMemoryKekStore store;
  std::vector<WrappedKek> rows;
};

TEST_F(RootKeyRotation, ARewrappedKekIsTheSameUnderTheActiveRootKey) {
  Keyring keyring(both(new_line, old_line), store);
  const auto before = current(keyring);
  const auto moved = keyring.rewrap(kAcme, rows[0]);
  ASSERT_TRUE(moved.ok());
  EXPECT_EQ(moved.value().root_key_id, id_in(new_line));
  EXPECT_EQ(moved.value().version, KekVersion{1});

  store.replace(kAcme, {moved.value()});
  Keyring only_new(RootKeys::parse(new_line).value(), store);
  EXPECT_EQ(current(only_new), before);
  Keyring only_old(RootKeys::parse(old_line).value(), store);
  EXPECT_EQ(current(only_old), std::nullopt);
}

TEST_F(RootKeyRotation, ARewrappedKekIsBoundToItsRowAndItsRootKey) {
  Keyring keyring(both(new_line, old_line), store);
  const auto moved = keyring.rewrap(kAcme, rows[0]).value();
  const auto refused = [&](WrappedKek row, const TenantId& tenant) {
    Keyring fresh(both(new_line, old_line), store);
    return code_of(fresh.rewrap(tenant, row)) == ErrorCode::Internal;
  };
  EXPECT_TRUE(refused(moved, kOther));
  auto other = moved;
  other.version = KekVersion{2};
  EXPECT_TRUE(refused(other, kAcme));
  other = moved;
  other.root_key_id = id_in(old_line);  // the label alone put back
  EXPECT_TRUE(refused(other, kAcme));
  other = moved;
  other.wrapped = rows[0].wrapped;  // the box alone put back
  EXPECT_TRUE(refused(other, kAcme));
}

TEST_F(RootKeyRotation, WhatDoesNotOpenIsNotRewrapped) {
  Keyring keyring(both(new_line, old_line), store);
  auto row = rows[0];
  row.wrapped.back() ^= std::byte{1};
  EXPECT_EQ(code_of(keyring.rewrap(kAcme, row)), ErrorCode::Internal);
  Keyring without(RootKeys::parse(new_line).value(), store);
  EXPECT_EQ(code_of(without.rewrap(kAcme, rows[0])), ErrorCode::KeyUnavailable);
  Keyring empty(RootKeys::none(), store);
  EXPECT_EQ(code_of(empty.rewrap(kAcme, rows[0])), ErrorCode::KeyUnavailable);
}

TEST_F(RootKeyRotation, ALogLineNamesTheKeyWantedAndTheKeysHere) {
  Keyring keyring(RootKeys::parse(new_line).value(), store);
  const auto status = keyring.with_current(kAcme, [](KekVersion, const Kek&) { return Status(); });
  ASSERT_EQ(code_of(status), ErrorCode::KeyUnavailable);
  EXPECT_EQ(status.error().diagnostic,
            "kek: under root key " + id_in(old_line) + ", this process has " + id_in(new_line));
  // Whoever can write the row does not write the log.
  rows[0].root_key_id = "x\nforged line";
  store.replace(kAcme, rows);
  const auto forged = keyring.with_current(kAcme, [](KekVersion, const Kek&) { return Status(); });
  EXPECT_EQ(forged.error().diagnostic,
            "kek: under root key malformed, this process has " + id_in(new_line));
}

TEST_F(RootKeyRotation, OtherRootKeysTakeEffectAtOnce) {
  Keyring keyring(RootKeys::none(), store);
  EXPECT_EQ(current(keyring), std::nullopt);
  keyring.replace_root_keys(RootKeys::parse(old_line).value());
  const auto opened = current(keyring);
  EXPECT_NE(opened, std::nullopt);
  keyring.replace_root_keys(both(new_line, old_line));
  EXPECT_EQ(current(keyring), opened);
  EXPECT_EQ(keyring.create(kOther, KekVersion{1}).root_key_id, id_in(new_line));
  // Also for what is remembered: what was taken out opens nothing any more.
  keyring.replace_root_keys(RootKeys::parse(new_line).value());
  EXPECT_EQ(current(keyring), std::nullopt);
}

TEST_F(RootKeyRotation, NoKekIsMadeWithoutARootKeyOrWhileSuspended) {
  Keyring keyring(RootKeys::none(), store);
  EXPECT_EQ(code_of(keyring.may_create()), ErrorCode::KeyUnavailable);
  EXPECT_THROW(keyring.create(kOther, KekVersion{1}), std::logic_error);
  EXPECT_EQ(keyring.active_root_key(), "");
  keyring.replace_root_keys(RootKeys::parse(old_line).value());
  EXPECT_TRUE(keyring.may_create().ok());
  EXPECT_EQ(keyring.active_root_key(), id_in(old_line));
  keyring.set_creation(Keyring::Creation::Suspended);
  EXPECT_EQ(code_of(keyring.may_create()), ErrorCode::KeyUnavailable);
  keyring.set_creation(Keyring::Creation::Allowed);
  EXPECT_TRUE(keyring.may_create().ok());
}

TEST_F(RootKeyRotation, ReplacingAndUsingMayRace) {
  Keyring keyring(both(new_line, old_line), store);
  std::atomic<int> failed = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 300; ++i) {
        if (t == 0) {
          keyring.replace_root_keys(i % 2 == 0 ? both(old_line, new_line)
                                               : both(new_line, old_line));
        } else if (!current(keyring)) {
          ++failed;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
}

// ---- private keys ----

PrivateKey secret(std::string_view text) { return PrivateKey(SecureBuffer::copy_of(text)); }
std::string revealed(const PrivateKey& key) {
  return key.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
}

TEST_F(KeyringTest, PrivateKeysComeBack) {
  const auto wrapped = keyring().wrap_private(kAcme, "signing", "kid-1", secret("pkcs8"));
  ASSERT_TRUE(wrapped.ok());
  EXPECT_EQ(wrapped.value().kek_version, KekVersion{1});
  const auto key = keyring().unwrap_private(kAcme, "signing", "kid-1", wrapped.value());
  ASSERT_TRUE(key.ok());
  EXPECT_EQ(revealed(key.value()), "pkcs8");
}

TEST_F(KeyringTest, PrivateKeysOpenAfterARotation) {
  const auto wrapped = keyring().wrap_private(kAcme, "signing", "kid-1", secret("pkcs8"));
  keys.add(kAcme, KekVersion{2});
  EXPECT_TRUE(keyring().unwrap_private(kAcme, "signing", "kid-1", wrapped.value()).ok());
  EXPECT_EQ(keyring().wrap_private(kAcme, "signing", "kid-2", secret("x")).value().kek_version,
            KekVersion{2});
}

TEST_F(KeyringTest, APrivateKeyIsBoundToItsRow) {
  keys.add(kAcme, KekVersion{2});
  const auto wrapped = keyring().wrap_private(kAcme, "signing", "kid-1", secret("pkcs8")).value();
  const auto refused = [&](const TenantId& tenant, std::string_view purpose, std::string_view kid,
                           const Keyring::WrappedPrivateKey& box) {
    return code_of(keyring().unwrap_private(tenant, purpose, kid, box)) == ErrorCode::Internal;
  };
  keys.add(kOther, KekVersion{2});
  EXPECT_TRUE(refused(kOther, "signing", "kid-1", wrapped));
  EXPECT_TRUE(refused(kAcme, "other", "kid-1", wrapped));
  EXPECT_TRUE(refused(kAcme, "signing", "kid-2", wrapped));
  EXPECT_TRUE(refused(kAcme, "signingk", "id-1", wrapped));
  auto moved = wrapped;
  moved.kek_version = KekVersion{1};
  EXPECT_TRUE(refused(kAcme, "signing", "kid-1", moved));
  for (std::size_t bit = 0; bit < wrapped.wrapped.size() * 8; ++bit) {
    auto flipped = wrapped;
    flipped.wrapped[bit / 8] ^= std::byte(1 << (bit % 8));
    ASSERT_TRUE(refused(kAcme, "signing", "kid-1", flipped)) << bit;
  }
}

TEST_F(KeyringTest, ARewrappedPrivateKeyIsTheSameUnderAnotherKek) {
  const auto wrapped = keyring().wrap_private(kAcme, "signing", "kid-1", secret("pkcs8")).value();
  keys.add(kAcme, KekVersion{2});
  const auto moved = keyring().rewrap_private(kAcme, "signing", "kid-1", wrapped, KekVersion{2});
  ASSERT_TRUE(moved.ok());
  EXPECT_EQ(moved.value().kek_version, KekVersion{2});
  EXPECT_EQ(revealed(keyring().unwrap_private(kAcme, "signing", "kid-1", moved.value()).value()),
            "pkcs8");
  // Neither half of a row can be put back alone.
  auto mixed = moved.value();
  mixed.kek_version = KekVersion{1};
  EXPECT_EQ(code_of(keyring().unwrap_private(kAcme, "signing", "kid-1", mixed)),
            ErrorCode::Internal);
  mixed = wrapped;
  mixed.kek_version = KekVersion{2};
  EXPECT_EQ(code_of(keyring().unwrap_private(kAcme, "signing", "kid-1", mixed)),
            ErrorCode::Internal);

  auto altered = wrapped;
  altered.wrapped.back() ^= std::byte{1};
  EXPECT_EQ(code_of(keyring().rewrap_private(kAcme, "signing", "kid-1", altered, KekVersion{2})),
            ErrorCode::Internal);
  EXPECT_EQ(code_of(keyring().rewrap_private(kAcme, "signing", "kid-2", wrapped, KekVersion{2})),
            ErrorCode::Internal);
  EXPECT_EQ(code_of(keyring().rewrap_private(kAcme, "signing", "kid-1", wrapped, KekVersion{9})),
            ErrorCode::NotFound);
}

TEST_F(KeyringTest, ANewTenantsKeysCanBeMadeBeforeItIsStored) {
  const TenantId fresh("fresh");
  const auto kek = keyring().create(fresh, KekVersion{1});
  const auto wrapped = keyring().wrap_private_under(kek, fresh, "signing", "kid", secret("pkcs8"));
  const auto chain_key = keyring().chain_key_under(kek, fresh);
  ASSERT_TRUE(wrapped.ok());
  ASSERT_TRUE(chain_key.ok());
  EXPECT_EQ(code_of(use(fresh)), ErrorCode::NotFound);  // nothing was stored or remembered

  keys.store.add(fresh, kek);
  const auto key = keyring().unwrap_private(fresh, "signing", "kid", wrapped.value());
  ASSERT_TRUE(key.ok());
  EXPECT_EQ(revealed(key.value()), "pkcs8");
  EXPECT_EQ(print(keyring().current(fresh).value().key), print(chain_key.value().key));
}

TEST_F(KeyringTest, AKekOfAnotherTenantWrapsNothing) {
  const auto kek = keyring().create(kAcme, KekVersion{1});
  EXPECT_EQ(code_of(keyring().wrap_private_under(kek, kOther, "signing", "kid", secret("x"))),
            ErrorCode::Internal);
  EXPECT_EQ(code_of(keyring().chain_key_under(kek, kOther)), ErrorCode::Internal);
}

// ---- audit chain keys ----

TEST_F(KeyringTest, ChainKeysDifferByTenantAndVersion) {
  keys.add(kAcme, KekVersion{2});
  const auto v1 = keyring().of_version(kAcme, KekVersion{1});
  const auto v2 = keyring().of_version(kAcme, KekVersion{2});
  const auto current = keyring().current(kAcme);
  const auto other = keyring().of_version(kOther, KekVersion{1});
  EXPECT_NE(print(v1.value().key), print(v2.value().key));
  EXPECT_NE(print(v1.value().key), print(other.value().key));
  EXPECT_EQ(print(v2.value().key), print(current.value().key));
  EXPECT_EQ(current.value().kek_version, KekVersion{2});
  EXPECT_EQ(code_of(keyring().of_version(kAcme, KekVersion{3})), ErrorCode::NotFound);
}

// ---- concurrency ----

/// A store whose loads the test holds.
class HeldStore final : public KekStore {
 public:
  explicit HeldStore(test::InMemoryKekStore& store) : store_(store) {}
  Result<std::vector<WrappedKek>> keks(const TenantId& tenant) override {
    auto rows = store_.keks(tenant);
    std::unique_lock lock(mutex_);
    ++entered_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    if (throws) throw std::runtime_error("text with a secret");
    return rows;
  }
  Result<std::optional<ShareId>> principal_share(const TenantId& tenant,
                                                 const Principal& principal) override {
    return store_.principal_share(tenant, principal);
  }
  Result<ShareId> add_principal_share(const TenantId& tenant, const Principal& principal,
                                      const ShareId& fresh) override {
    return store_.add_principal_share(tenant, principal, fresh);
  }
  void wait_for_load() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return entered_ > 0; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  int loads() {
    const std::lock_guard lock(mutex_);
    return entered_;
  }
  std::atomic<bool> throws = false;

 private:
  test::InMemoryKekStore& store_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int entered_ = 0;
};

struct HeldKeyring : ::testing::Test {
  HeldKeyring() { store.add(kAcme, keyring.create(kAcme, KekVersion{1})); }
  Status use() {
    return keyring.with_current(kAcme, [](KekVersion, const Kek&) { return Status(); });
  }
  test::InMemoryKekStore store;
  HeldStore held{store};
  Keyring keyring{RootKeys::generate(), held};
};

TEST_F(HeldKeyring, ConcurrentFirstUsesLoadOnce) {
  std::atomic<int> ok = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back([&] { ok += use().ok(); });
  held.wait_for_load();
  held.open();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(ok, 8);
  EXPECT_EQ(held.loads(), 1);
}

TEST_F(HeldKeyring, ForgettingDoesNotWaitForALoad) {
  std::thread loading([&] { EXPECT_TRUE(use().ok()); });
  held.wait_for_load();
  keyring.forget(kAcme);
  keyring.forget(kOther);
  held.open();
  loading.join();
}

TEST_F(HeldKeyring, WhatWasForgottenDuringALoadIsNotRemembered) {
  std::thread first([&] { EXPECT_TRUE(use().ok()); });
  held.wait_for_load();
  store.erase(kAcme);  // erased while the old rows are on their way
  keyring.forget(kAcme);
  held.open();
  first.join();
  EXPECT_EQ(code_of(use()), ErrorCode::NotFound);
}

TEST_F(HeldKeyring, AThrowingStoreLeavesNobodyWaiting) {
  held.throws = true;
  std::atomic<int> unavailable = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { unavailable += code_of(use()) == ErrorCode::Unavailable; });
  }
  held.wait_for_load();
  held.open();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(unavailable, 4);
  held.throws = false;
  EXPECT_TRUE(use().ok());
}

TEST_F(KeyringTest, UseAndForgetMayRace) {
  std::atomic<int> failed = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        if (t == 0) {
          keyring().forget(kAcme);
        } else if (!use(kAcme).ok() || !keyring().current(kOther).ok()) {
          ++failed;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
}

TEST_F(KeyringTest, RemembersABoundedNumberOfTenants) {
  const auto row_of = [&](const TenantId& tenant) {
    keys.store.add(tenant, keyring().create(tenant, KekVersion{1}));
  };
  ASSERT_TRUE(use(kAcme).ok());
  for (int i = 0; i < 8300; ++i) {
    const TenantId tenant("t" + std::to_string(i));
    row_of(tenant);
    ASSERT_TRUE(use(tenant).ok());
  }
  const auto before = keys.store.loads();
  for (int i = 0; i < 8300; ++i) ASSERT_TRUE(use(TenantId("t" + std::to_string(i))).ok());
  EXPECT_GT(keys.store.loads(), before);             // some were dropped,
  EXPECT_LT(keys.store.loads(), before + 8300 / 2);  // most were not
}

}  // namespace
}  // namespace postern::vault
