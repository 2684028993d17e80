// KEKs and principals' credentials that take a share of the share store.

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include "crypto/aead.h"
#include "support/code_of.h"
#include "support/in_memory_kek_store.h"
#include "support/in_memory_share_store.h"
#include "vault/aad.h"
#include "vault/envelope.h"
#include "vault/keyring.h"

namespace postern::vault {
namespace {

using test::code_of;

const TenantId kAcme("acme");
const TenantId kOther("other");
const Principal kAlice{"https://idp.example", "alice"};
const Principal kBob{"https://idp.example", "bob"};

struct SharedKeyTest : ::testing::Test {
  SharedKeyTest() {
    for (const auto& tenant : {kAcme, kOther}) {
      store.add(tenant, keyring.create(tenant, KekVersion{1}, std::nullopt,
                                       keyring.make_share(tenant).value()));
    }
  }
  static CredentialKey of(const Principal& principal) {
    return {Owner::principal(principal), CredentialName("github")};
  }
  static CredentialKey of_tenant() { return {Owner::tenant(), CredentialName("github")}; }
  Result<SealedVersion> seal(const CredentialKey& key, const TenantId& tenant = kAcme) {
    Fields fields;
    fields.emplace("token", FieldValue(SecureBuffer::copy_of("value")));
    return envelope.seal(tenant, key, 1, fields, sys_seconds{}, std::nullopt);
  }
  std::optional<ErrorCode> open(const CredentialKey& key, const SealedVersion& sealed,
                                const TenantId& tenant = kAcme) {
    return code_of(envelope.open(tenant, key, sealed));
  }

  test::InMemoryKekStore store;
  test::InMemoryShareStore shares;
  Keyring keyring{RootKeys::generate(), store, &shares};
  Envelope envelope{keyring};
};

TEST_F(SharedKeyTest, APrincipalsCredentialsTakeTheirOwnShareATenantsDoNot) {
  const auto alices = seal(of(kAlice)).value();
  const auto bobs = seal(of(kBob)).value();
  const auto shared = seal(of_tenant()).value();
  ASSERT_TRUE(alices.share && bobs.share);
  EXPECT_NE(*alices.share, *bobs.share);
  EXPECT_EQ(shared.share, std::nullopt);
  EXPECT_EQ(open(of(kAlice), alices), std::nullopt);
  EXPECT_EQ(open(of(kBob), bobs), std::nullopt);
  EXPECT_EQ(open(of_tenant(), shared), std::nullopt);
  EXPECT_EQ(seal(of(kAlice)).value().share, alices.share) << "one share for all that is hers";
}

TEST_F(SharedKeyTest, TheShareIsInTheAssociatedDataToo) {
  // Each share makes a key of its own, so no swap alone would show that.
  const auto row = seal(of(kAlice)).value();
  const auto opens = [&](const Aad& aad) {
    return keyring
        .with_current(kAcme, Owner::principal(kAlice),
                      [&](KekVersion, const std::optional<ShareId>&, const Kek& kek) -> Status {
                        POSTERN_CHECK(crypto::open(kek, row.wrapped_dek, aad.bytes()));
                        return {};
                      })
        .ok();
  };
  Aad aad("postern-dek-v2");
  aad.tenant(kAcme).owner(Owner::principal(kAlice)).text("github").number(1).number(1);
  EXPECT_FALSE(opens(aad));
  EXPECT_TRUE(opens(aad.text(as_text(*row.share))));
}

TEST_F(SharedKeyTest, ANamesakeOfAnotherTenantHasAnotherShare) {
  const auto here = seal(of(kAlice)).value();
  const auto there = seal(of(kAlice), kOther).value();
  EXPECT_NE(here.share, there.share);
  ASSERT_TRUE(shares.destroy(kAcme, *here.share).ok());
  keyring.forget(kAcme);
  EXPECT_EQ(open(of(kAlice), here), ErrorCode::KeyUnavailable);
  EXPECT_EQ(open(of(kAlice), there, kOther), std::nullopt);
}

TEST_F(SharedKeyTest, WithoutTheShareNothingOpensAndNothingElseIsSaid) {
  const auto sealed = seal(of(kAlice)).value();
  ASSERT_TRUE(shares.destroy(kAcme, *sealed.share).ok());
  keyring.forget(kAcme);
  const auto refused = envelope.open(kAcme, of(kAlice), sealed);
  ASSERT_FALSE(refused.ok());
  EXPECT_TRUE(is_share_destroyed(refused.error()));
  EXPECT_TRUE(is_share_destroyed(seal(of(kAlice)).error())) << "nor is anything sealed by it";

  // Whoever rewrites the row gets no further.
  auto forged = sealed;
  forged.share.reset();
  EXPECT_EQ(open(of(kAlice), forged), ErrorCode::Internal);
  forged.share = seal(of(kBob)).value().share;
  EXPECT_EQ(open(of(kAlice), forged), ErrorCode::Internal);
}

TEST_F(SharedKeyTest, ATenantsKeyTakesItsShareAndTheAuditChainDoesNot) {
  const auto sealed = seal(of_tenant()).value();
  ASSERT_EQ(shares.destroy_all(kAcme).value(), 1u);
  EXPECT_EQ(open(of_tenant(), sealed), std::nullopt) << "from memory";
  keyring.forget(kAcme);
  EXPECT_EQ(open(of_tenant(), sealed), ErrorCode::KeyUnavailable);
  EXPECT_TRUE(keyring.current(kAcme).ok()) << "the chain's key is of the KEK alone";
  const auto others = seal(of_tenant(), kOther).value();
  EXPECT_EQ(open(of_tenant(), others, kOther), std::nullopt);
}

TEST_F(SharedKeyTest, AKekWhoseShareIsTakenAwayOrExchangedDoesNotOpen) {
  const auto sealed = seal(of_tenant()).value();
  const auto rows = store.keks(kAcme).value();
  auto forged = rows;
  forged.front().share.reset();
  store.replace(kAcme, forged);
  keyring.forget(kAcme);
  EXPECT_EQ(open(of_tenant(), sealed), ErrorCode::Internal);
  forged = rows;
  forged.front().share = keyring.make_share(kAcme).value();
  store.replace(kAcme, forged);
  keyring.forget(kAcme);
  EXPECT_EQ(open(of_tenant(), sealed), ErrorCode::Internal);
  store.replace(kAcme, rows);
  shares.forge(kAcme, *rows.front().share);
  keyring.forget(kAcme);
  EXPECT_EQ(open(of_tenant(), sealed), ErrorCode::Internal) << "another share under its id";
}

TEST_F(SharedKeyTest, AWarmOpeningAsksTheShareStoreNothing) {
  const auto alices = seal(of(kAlice)).value();
  ASSERT_EQ(open(of(kAlice), alices), std::nullopt);
  const auto before = shares.finds();
  shares.away(true);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(open(of(kAlice), alices), std::nullopt);
  EXPECT_EQ(shares.finds(), before);
  keyring.forget(kAcme);
  EXPECT_EQ(open(of(kAlice), alices), ErrorCode::KeyUnavailable);
  EXPECT_EQ(code_of(seal(of(kBob))), ErrorCode::KeyUnavailable);
  EXPECT_EQ(code_of(keyring.make_share(kAcme)), ErrorCode::KeyUnavailable);
  shares.away(false);
  EXPECT_EQ(open(of(kAlice), alices), std::nullopt);
}

TEST_F(SharedKeyTest, ForgettingDropsSharesToo) {
  const auto alices = seal(of(kAlice)).value();
  ASSERT_EQ(open(of(kAlice), alices), std::nullopt);
  const auto before = shares.finds();
  keyring.forget(kOther);
  EXPECT_EQ(open(of(kAlice), alices), std::nullopt);
  EXPECT_EQ(shares.finds(), before) << "another tenant's";
  keyring.forget(kAcme);
  EXPECT_EQ(open(of(kAlice), alices), std::nullopt);
  EXPECT_EQ(shares.finds(), before + 2) << "the tenant's and hers";
}

TEST_F(SharedKeyTest, WhatWasSealedWithoutASharesOpensAndIsMovedUnderThem) {
  Keyring plain(RootKeys::generate(), store);
  const TenantId old("old");
  store.add(old, plain.create(old, KekVersion{1}));
  Envelope before(plain);
  Fields fields;
  fields.emplace("token", FieldValue(SecureBuffer::copy_of("value")));
  const auto row = before.seal(old, of(kAlice), 1, fields, sys_seconds{}, std::nullopt).value();
  EXPECT_EQ(row.share, std::nullopt);

  // The same root key, now with a share store.
  EXPECT_FALSE(plain.has_share_store());
  EXPECT_EQ(plain.make_share(old).value(), std::nullopt);
  EXPECT_EQ(code_of(before.open(old, of(kAlice), row)), std::nullopt);
}

TEST_F(SharedKeyTest, ARewrapPutsARowUnderItsOwnersShare) {
  const auto version = KekVersion{2};
  auto row = seal(of(kAlice)).value();
  const auto share = row.share;
  // As one of before.
  const auto bare = envelope
                        .rewrap(kAcme, of(kAlice), 1, {row.kek_version, row.share, row.wrapped_dek},
                                KekVersion{1})
                        .value();
  EXPECT_EQ(bare.share, std::nullopt);
  store.add(kAcme, keyring.create(kAcme, version, std::nullopt, keyring.make_share(kAcme).value()));
  keyring.forget(kAcme);
  const auto moved = envelope.rewrap(kAcme, of(kAlice), 1, bare, version, share).value();
  row.kek_version = version;
  row.wrapped_dek = moved.wrapped;
  row.share = moved.share;
  EXPECT_EQ(row.share, share);
  EXPECT_EQ(open(of(kAlice), row), std::nullopt);
  ASSERT_TRUE(shares.destroy(kAcme, *share).ok());
  keyring.forget(kAcme);
  EXPECT_EQ(open(of(kAlice), row), ErrorCode::KeyUnavailable);
}

TEST_F(SharedKeyTest, AHeldShareIsTakenBesides) {
  SecureBuffer bytes(32);
  HeldShare held(std::move(bytes));
  const HeldShareDemand demand{check_of(kAcme, held)};
  store.add(kAcme, keyring.create(kAcme, KekVersion{2}, demand, keyring.make_share(kAcme).value()));
  keyring.forget(kAcme);
  EXPECT_EQ(code_of(seal(of(kAlice))), ErrorCode::TenantSealed);
  ASSERT_TRUE(keyring.unseal(kAcme, std::move(held)).ok());
  const auto row = seal(of(kAlice)).value();
  EXPECT_EQ(open(of(kAlice), row), std::nullopt);
  keyring.seal(kAcme);
  EXPECT_EQ(open(of(kAlice), row), ErrorCode::TenantSealed);
  // Nor is alice's share asked for, when it is not known: but those of both KEKs.
  keyring.forget(kAcme);
  const auto before = shares.finds();
  EXPECT_EQ(open(of(kAlice), row), ErrorCode::TenantSealed);
  EXPECT_EQ(shares.finds(), before + 2);
}

TEST_F(SharedKeyTest, OfTwoFirstWritersOneSharePrevailsAndTheOtherIsGone) {
  const auto first = keyring.principal_share(kAcme, kAlice).value();
  const auto count = shares.size();
  Keyring another(RootKeys::generate(), store, &shares);
  EXPECT_EQ(another.principal_share(kAcme, kAlice).value(), first);
  EXPECT_EQ(shares.size(), count);
}

TEST_F(SharedKeyTest, ATenantsFirstSigningKeyIsUnderItsShare) {
  const TenantId fresh("fresh");
  const auto kek =
      keyring.create(fresh, KekVersion{1}, std::nullopt, keyring.make_share(fresh).value());
  const auto wrapped = keyring
                           .wrap_private_under(kek, fresh, kTokenSigning, "kid",
                                               PrivateKey(SecureBuffer::copy_of("key")))
                           .value();
  store.add(fresh, kek);
  EXPECT_TRUE(keyring.unwrap_private(fresh, kTokenSigning, "kid", wrapped).ok());
  ASSERT_EQ(shares.destroy_all(fresh).value(), 1u);
  keyring.forget(fresh);
  EXPECT_EQ(code_of(keyring.unwrap_private(fresh, kTokenSigning, "kid", wrapped)),
            ErrorCode::KeyUnavailable);
}

}  // namespace
}  // namespace postern::vault
