// KEKs that demand a share of the tenant's key holder.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include "crypto/hash.h"
#include "support/code_of.h"
#include "support/in_memory_kek_store.h"
#include "support/temporary_directory.h"
#include "vault/keyring.h"

namespace postern::vault {
namespace {

using test::code_of;

const TenantId kAcme("acme");
const TenantId kOther("other");

/// A root key file's text.
std::string line() {
  const test::TemporaryDirectory directory;
  const auto file = directory.path() / "root";
  EXPECT_TRUE(RootKeys::create(file).ok());
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct HeldShareTest : ::testing::Test {
  HeldShareTest() {
    store.add(kAcme, keyring.create(kAcme, KekVersion{1}));
    store.add(kAcme, keyring.create(kAcme, KekVersion{2}, demand(1)));
    store.add(kOther, keyring.create(kOther, KekVersion{1}));
  }

  /// Every one of its bytes is this number.
  static HeldShare share(int number) {
    SecureBuffer bytes(32);
    std::fill(bytes.writable().begin(), bytes.writable().end(), static_cast<std::byte>(number));
    return HeldShare(std::move(bytes));
  }
  static HeldShareDemand demand(int number, const TenantId& tenant = kAcme) {
    return {check_of(tenant, share(number))};
  }
  std::optional<ErrorCode> use(unsigned version) {
    return code_of(keyring.with_version(kAcme, KekVersion{version},
                                        [](KekVersion, const Kek&) { return Status(); }));
  }
  static std::string key_in(Keyring& keyring, unsigned version) {
    std::string found = "none";
    static_cast<void>(
        keyring.with_version(kAcme, KekVersion{version}, [&](KekVersion, const Kek& kek) {
          found = as_text(crypto::keyed_hash(crypto::derive(kek, "test"), {}));
          return Status();
        }));
    return found;
  }
  Status unseal(int number) { return keyring.unseal(kAcme, share(number)); }
  /// As the database does when the key holder seals.
  void seal_in_store() {
    auto rows = store.keks(kAcme).value();
    for (auto& row : rows) {
      if (row.held) ++row.held->seals;
    }
    store.replace(kAcme, std::move(rows));
    keyring.forget(kAcme);
  }
  Keyring fresh() { return Keyring(RootKeys::parse(text).value(), store); }

  const std::string text = line();
  test::InMemoryKekStore store;
  Keyring keyring{RootKeys::parse(text).value(), store};
};

TEST_F(HeldShareTest, NothingOpensWithoutTheShare) {
  EXPECT_EQ(use(2), ErrorCode::TenantSealed);
  EXPECT_EQ(use(1), ErrorCode::TenantSealed) << "also what demands none yet";
  EXPECT_EQ(use(3), ErrorCode::NotFound);
  const auto wrapped =
      keyring.wrap_private(kAcme, kTokenSigning, "kid", PrivateKey(SecureBuffer::copy_of("key")));
  EXPECT_EQ(code_of(wrapped), ErrorCode::TenantSealed);
  EXPECT_EQ(keyring.seal_of(kAcme).value(), Keyring::Seal::Sealed);
  EXPECT_EQ(keyring.seal_of(kOther).value(), Keyring::Seal::NotHeld);
}

TEST_F(HeldShareTest, WhatIsRefusedCanBeRecordedAllTheSame) {
  EXPECT_TRUE(keyring.current(kAcme).ok());
  EXPECT_TRUE(keyring.of_version(kAcme, KekVersion{1}).ok());
  const auto loads = store.loads();
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(keyring.current(kAcme).ok());
    EXPECT_EQ(use(2), ErrorCode::TenantSealed);
  }
  EXPECT_EQ(store.loads(), loads) << "being sealed is remembered";
}

TEST_F(HeldShareTest, OpensWithItAndWithNoOther) {
  EXPECT_EQ(code_of(unseal(2)), ErrorCode::Forbidden);
  EXPECT_EQ(code_of(keyring.unseal(kOther, share(1))), ErrorCode::Conflict);
  EXPECT_EQ(code_of(keyring.unseal(TenantId("nobody"), share(1))), ErrorCode::NotFound);
  EXPECT_EQ(use(2), ErrorCode::TenantSealed);
  EXPECT_FALSE(keyring.has_share(kAcme));

  EXPECT_TRUE(unseal(1).ok());
  EXPECT_EQ(use(2), std::nullopt);
  EXPECT_EQ(use(1), std::nullopt);
  EXPECT_EQ(keyring.seal_of(kAcme).value(), Keyring::Seal::Unsealed);
  EXPECT_TRUE(keyring.has_share(kAcme));
}

TEST_F(HeldShareTest, WhetherItIsUnsealedIsKnownWithoutAsking) {
  EXPECT_FALSE(keyring.is_unsealed(kAcme));
  EXPECT_FALSE(keyring.is_unsealed(kOther)) << "it is not held";
  EXPECT_EQ(store.loads(), 0u);
  ASSERT_TRUE(unseal(1).ok());
  const auto loads = store.loads();
  keyring.forget(kAcme);
  EXPECT_TRUE(keyring.is_unsealed(kAcme));
  EXPECT_EQ(store.loads(), loads);

  // Another replica replaces the share; this one hears of it.
  store.add(kAcme, keyring.create(kAcme, KekVersion{3}, demand(2)));
  keyring.forget(kAcme);
  EXPECT_EQ(keyring.seal_of(kAcme).value(), Keyring::Seal::Sealed);
  EXPECT_FALSE(keyring.is_unsealed(kAcme));
  ASSERT_TRUE(unseal(1).ok());
  EXPECT_FALSE(keyring.is_unsealed(kAcme)) << "the older one alone";
  ASSERT_TRUE(unseal(2).ok());
  EXPECT_TRUE(keyring.is_unsealed(kAcme));
  ASSERT_TRUE(unseal(1).ok());
  EXPECT_TRUE(keyring.is_unsealed(kAcme)) << "the older one besides";

  seal_in_store();
  EXPECT_EQ(keyring.seal_of(kAcme).value(), Keyring::Seal::Sealed);
  EXPECT_FALSE(keyring.is_unsealed(kAcme));
  ASSERT_TRUE(unseal(2).ok());
  EXPECT_TRUE(keyring.is_unsealed(kAcme));
  keyring.seal(kAcme);
  EXPECT_FALSE(keyring.is_unsealed(kAcme));
}

TEST_F(HeldShareTest, TheShareIsPartOfTheKey) {
  ASSERT_TRUE(unseal(1).ok());
  const auto with_it = key_in(keyring, 2);
  // The same KEK, of which somebody with the root key says that it demands nothing,
  // or a share that they know.
  auto rows = store.keks(kAcme).value();
  const auto before = rows;
  rows[0].held.reset();
  store.replace(kAcme, rows);
  auto stripped = fresh();
  EXPECT_EQ(key_in(stripped, 2), "none") << "the mark is bound to the KEK";
  rows[0].held = demand(7);
  store.replace(kAcme, rows);
  auto exchanged = fresh();
  ASSERT_TRUE(exchanged.unseal(kAcme, share(7)).ok());
  EXPECT_EQ(key_in(exchanged, 2), "none");
  rows = before;
  rows[1].held = demand(7);
  store.replace(kAcme, rows);
  auto added = fresh();
  ASSERT_TRUE(added.unseal(kAcme, share(1)).ok());
  ASSERT_TRUE(added.unseal(kAcme, share(7)).ok());
  EXPECT_EQ(key_in(added, 1), "none");
  EXPECT_EQ(key_in(added, 2), with_it);
}

TEST_F(HeldShareTest, OneShareMakesAnotherKeyOfEachVersionAndTenant) {
  store.add(kAcme, keyring.create(kAcme, KekVersion{3}, demand(1)));
  ASSERT_TRUE(unseal(1).ok());
  EXPECT_NE(key_in(keyring, 2), key_in(keyring, 3));
  EXPECT_NE(check_of(kAcme, share(1)), check_of(kOther, share(1)));
  EXPECT_NE(check_of(kAcme, share(1)), check_of(kAcme, share(2)));
}

TEST_F(HeldShareTest, IsForgottenWhenSealedHere) {
  ASSERT_TRUE(unseal(1).ok());
  ASSERT_EQ(use(2), std::nullopt);
  keyring.seal(kAcme);
  EXPECT_EQ(use(2), ErrorCode::TenantSealed);
  EXPECT_EQ(use(1), ErrorCode::TenantSealed);
  EXPECT_FALSE(keyring.has_share(kAcme));
  EXPECT_TRUE(unseal(1).ok());
  EXPECT_EQ(use(2), std::nullopt);
}

TEST_F(HeldShareTest, IsForgottenWhenSealedElsewhere) {
  ASSERT_TRUE(unseal(1).ok());
  keyring.forget(kAcme);
  EXPECT_EQ(use(2), std::nullopt) << "what is cached is not the share";
  seal_in_store();
  EXPECT_EQ(use(2), ErrorCode::TenantSealed);
  EXPECT_FALSE(keyring.has_share(kAcme));
  ASSERT_TRUE(unseal(1).ok());
  EXPECT_EQ(use(2), std::nullopt);
}

TEST_F(HeldShareTest, OutlivesAStoreThatIsAway) {
  ASSERT_TRUE(unseal(1).ok());
  keyring.forget(kAcme);
  store.fail_with(fail(ErrorCode::Unavailable, "down"));
  EXPECT_EQ(use(2), ErrorCode::Unavailable);
  store.fail_with(std::nullopt);
  EXPECT_EQ(use(2), std::nullopt);
  store.erase(kAcme);
  keyring.forget(kAcme);
  EXPECT_EQ(use(2), ErrorCode::NotFound);
  EXPECT_FALSE(keyring.has_share(kAcme)) << "the tenant is gone";
}

TEST_F(HeldShareTest, OfTwoSharesTheNewestKeksDecides) {
  store.add(kAcme, keyring.create(kAcme, KekVersion{3}, demand(2)));
  EXPECT_EQ(keyring.check_share(kAcme, share(1)).value(), Keyring::DemandedBy::OlderOnly);
  EXPECT_EQ(keyring.check_share(kAcme, share(2)).value(), Keyring::DemandedBy::Newest);
  ASSERT_TRUE(unseal(1).ok());
  EXPECT_EQ(use(2), ErrorCode::TenantSealed);
  ASSERT_TRUE(unseal(2).ok());
  EXPECT_EQ(use(3), std::nullopt);
  EXPECT_EQ(use(2), std::nullopt);
  ASSERT_TRUE(keyring.forget_old_shares(kAcme, KekVersion{2}).ok());
  EXPECT_EQ(use(2), std::nullopt) << "rows may still be under it";
  ASSERT_TRUE(keyring.forget_old_shares(kAcme, KekVersion{3}).ok());
  EXPECT_EQ(use(3), std::nullopt);
  EXPECT_EQ(use(2), ErrorCode::TenantSealed);
  EXPECT_EQ(use(1), std::nullopt);
}

TEST_F(HeldShareTest, TheRootKeyIsReplacedWhileSealed) {
  ASSERT_TRUE(unseal(1).ok());
  const auto before = key_in(keyring, 2);
  const auto new_line = line();
  Keyring both(RootKeys::parse(new_line + text).value(), store);
  auto rows = store.keks(kAcme).value();
  for (auto& row : rows) row = both.rewrap(kAcme, row).value();
  store.replace(kAcme, rows);
  Keyring only_new(RootKeys::parse(new_line).value(), store);
  EXPECT_EQ(key_in(only_new, 2), "none");
  ASSERT_TRUE(only_new.unseal(kAcme, share(1)).ok());
  EXPECT_EQ(key_in(only_new, 2), before);
}

TEST_F(HeldShareTest, TheShareAloneOpensNothing) {
  Keyring other(RootKeys::generate(), store);
  ASSERT_TRUE(other.unseal(kAcme, share(1)).ok());
  EXPECT_EQ(key_in(other, 2), "none");
  EXPECT_FALSE(other.current(kAcme).ok());
}

}  // namespace
}  // namespace postern::vault
