#pragma once

// The contract of vault::ShareStore as tests; see config_store_suite.h for how
// to hold an implementation to it.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <ostream>
#include <vector>

#include "core/ids.h"
#include "crypto/hash.h"
#include "support/code_of.h"
#include "vault/share_store.h"

namespace postern::test {

class ShareStoreHarness {
 public:
  virtual ~ShareStoreHarness() = default;
  virtual vault::ShareStore& store() = 0;
};

struct ShareStoreFactory {
  std::function<std::unique_ptr<ShareStoreHarness>()> make;
  friend void PrintTo(const ShareStoreFactory&, std::ostream* out) { *out << "share store"; }
};

class ShareStoreSuite : public ::testing::TestWithParam<ShareStoreFactory> {
 protected:
  /// Every one of its bytes is this number.
  static vault::KeyShare share(int number) {
    SecureBuffer bytes(32);
    std::fill(bytes.writable().begin(), bytes.writable().end(), static_cast<std::byte>(number));
    return vault::KeyShare(std::move(bytes));
  }
  static vault::ShareId id(const TenantId& tenant, int number) {
    return vault::id_of(tenant, share(number));
  }
  Status add(const TenantId& tenant, int number) {
    return store().add(tenant, id(tenant, number), share(number));
  }
  std::optional<ErrorCode> find(const TenantId& tenant, const vault::ShareId& of) {
    return code_of(store().find(tenant, of));
  }
  vault::ShareStore& store() { return harness_->store(); }

  std::unique_ptr<ShareStoreHarness> harness_ = GetParam().make();
  const TenantId a_{"acme"}, b_{"beta"};
};

TEST_P(ShareStoreSuite, GivesBackWhatItWasGiven) {
  ASSERT_TRUE(add(a_, 1).ok());
  ASSERT_TRUE(add(a_, 2).ok());
  const auto found = store().find(a_, id(a_, 2));
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(vault::id_of(a_, found.value()), id(a_, 2));
  EXPECT_TRUE(store().ping().ok());
}

TEST_P(ShareStoreSuite, WhatIsDestroyedIsNotFound) {
  ASSERT_TRUE(add(a_, 1).ok());
  ASSERT_TRUE(add(a_, 2).ok());
  ASSERT_TRUE(store().destroy(a_, id(a_, 1)).ok());
  EXPECT_EQ(find(a_, id(a_, 1)), ErrorCode::Conflict);
  EXPECT_EQ(find(a_, id(a_, 2)), std::nullopt);
  EXPECT_EQ(find(a_, id(a_, 3)), ErrorCode::NotFound) << "never was here";
  EXPECT_TRUE(store().destroy(a_, id(a_, 1)).ok()) << "twice is once";
}

TEST_P(ShareStoreSuite, WhatNeverWasHereIsNotSaidToBeDestroyed) {
  EXPECT_EQ(code_of(store().destroy(a_, id(a_, 1))), ErrorCode::NotFound);
  ASSERT_TRUE(add(a_, 1).ok());
  ASSERT_TRUE(add(a_, 2).ok());
  ASSERT_TRUE(store().destroy(a_, id(a_, 1)).ok());
  ASSERT_EQ(store().destroy_all(a_).value(), 1u);
  EXPECT_TRUE(store().destroy(a_, id(a_, 2)).ok()) << "it was, with the others";
  EXPECT_EQ(code_of(store().destroy(a_, id(a_, 3))), ErrorCode::NotFound);
  // Nor does it come back.
  ASSERT_TRUE(add(a_, 1).ok());
  EXPECT_EQ(find(a_, id(a_, 1)), ErrorCode::Conflict);
}

TEST_P(ShareStoreSuite, OfManyAllAreDestroyedOrNone) {
  std::vector<vault::ShareId> ids;
  for (int i = 1; i <= 5; ++i) {
    ASSERT_TRUE(add(a_, i).ok());
    ids.push_back(id(a_, i));
  }
  EXPECT_TRUE(store().know(a_, ids).ok());
  EXPECT_TRUE(store().know(a_, {}).ok());
  EXPECT_EQ(code_of(store().know(b_, ids)), ErrorCode::NotFound);
  auto more = ids;
  more.push_back(id(a_, 6));
  EXPECT_EQ(code_of(store().know(a_, more)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(store().destroy(a_, more)), ErrorCode::NotFound);
  for (const auto& each : ids) EXPECT_EQ(find(a_, each), std::nullopt);
  ASSERT_TRUE(store().destroy(a_, ids[0]).ok());
  ASSERT_TRUE(store().destroy(a_, ids).ok());
  EXPECT_TRUE(store().know(a_, ids).ok()) << "they were here";
  for (const auto& each : ids) EXPECT_EQ(find(a_, each), ErrorCode::Conflict);
}

TEST_P(ShareStoreSuite, OneTenantsSharesAreNotAnothers) {
  ASSERT_TRUE(add(a_, 1).ok());
  ASSERT_TRUE(add(b_, 1).ok());
  EXPECT_NE(id(a_, 1), id(b_, 1));
  EXPECT_EQ(find(b_, id(a_, 1)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(store().destroy(b_, id(a_, 1))), ErrorCode::NotFound);
  EXPECT_EQ(find(a_, id(a_, 1)), std::nullopt);
  EXPECT_EQ(store().destroy_all(b_).value(), 1u);
  EXPECT_EQ(find(a_, id(a_, 1)), std::nullopt);
  EXPECT_EQ(find(b_, id(b_, 1)), ErrorCode::Conflict);
}

TEST_P(ShareStoreSuite, AllOfATenantGoTogether) {
  for (int i = 1; i <= 3; ++i) ASSERT_TRUE(add(a_, i).ok());
  EXPECT_EQ(store().destroy_all(a_).value(), 3u);
  EXPECT_EQ(store().destroy_all(a_).value(), 0u);
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(find(a_, id(a_, i)), ErrorCode::Conflict);
}

TEST_P(ShareStoreSuite, AShareThatIsThereStays) {
  ASSERT_TRUE(add(a_, 1).ok());
  ASSERT_TRUE(store().add(a_, id(a_, 1), share(2)).ok());
  EXPECT_EQ(vault::id_of(a_, store().find(a_, id(a_, 1)).value()), id(a_, 1));
}

}  // namespace postern::test
