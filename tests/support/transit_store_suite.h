#pragma once

// The contract of vault::TransitStore as tests; see config_store_suite.h for how to
// hold an implementation to it.

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "audit/log.h"
#include "support/code_of.h"
#include "vault/transit.h"

namespace postern::test {

class TransitStoreHarness {
 public:
  virtual ~TransitStoreHarness() = default;
  virtual vault::TransitStore& store() = 0;
  virtual audit::AuditLog& log() = 0;
  virtual TenantId add_tenant() = 0;
};

struct TransitStoreFactory {
  std::function<std::unique_ptr<TransitStoreHarness>()> make;
  friend void PrintTo(const TransitStoreFactory&, std::ostream* out) { *out << "transit store"; }
};

class TransitStoreSuite : public ::testing::TestWithParam<TransitStoreFactory> {
 protected:
  using Key = vault::TransitKey;
  using Version = vault::TransitVersion;
  static constexpr sys_seconds kNow{std::chrono::seconds(1'800'000'000)};

  static vault::TransitName name(const std::string& text) { return vault::TransitName(text); }
  static Result<Version> seal(const Key& key, std::uint32_t version) {
    const auto box = key.name.str() + " " + std::to_string(version);
    return Version{version, kNow, {KekVersion{1}, to_bytes(box)}};
  }
  static std::string box_of(const Version& version) {
    return std::string(as_text(version.wrapped.wrapped));
  }
  std::vector<audit::Event> events(const TenantId& tenant, const std::string& action) {
    return {audit::Event{tenant, kNow, action, {}, "r", {}}};
  }
  Status create(const TenantId& tenant, const std::string& of, std::uint32_t most = 10) {
    Key key;
    key.name = name(of);
    key.id = "id-of-" + of;
    key.type = vault::TransitType::EcdsaP256;
    key.derived = true;
    return store().create(tenant, key, seal, most, events(tenant, "create"));
  }
  Status rotate(const TenantId& tenant, const std::string& of, std::uint32_t most = 10) {
    return store().rotate(tenant, name(of), seal, most, events(tenant, "rotate"));
  }
  std::size_t recorded(const TenantId& tenant, const std::string& action) {
    return harness_->log().read(tenant, {0, 1000, false, action}).value().size();
  }
  vault::TransitStore& store() { return harness_->store(); }

  std::unique_ptr<TransitStoreHarness> harness_ = GetParam().make();
  const TenantId a_ = harness_->add_tenant();
  const TenantId b_ = harness_->add_tenant();
};

TEST_P(TransitStoreSuite, AKeyIsFoundAsItWasMade) {
  ASSERT_TRUE(create(a_, "orders").ok());
  const auto found = store().find(a_, name("orders"));
  ASSERT_TRUE(found.ok());
  const auto& [key, latest] = found.value();
  EXPECT_EQ(key.name, name("orders"));
  EXPECT_EQ(key.id, "id-of-orders");
  EXPECT_EQ(key.type, vault::TransitType::EcdsaP256);
  EXPECT_TRUE(key.derived);
  EXPECT_FALSE(key.deletion_allowed);
  EXPECT_EQ(key.latest_version, 1u);
  EXPECT_EQ(key.min_decryption_version, 1u);
  EXPECT_EQ(key.min_encryption_version, 0u);
  EXPECT_EQ(latest.version, 1u);
  EXPECT_EQ(latest.created_at, kNow);
  EXPECT_EQ(box_of(latest), "orders 1");
  EXPECT_EQ(code_of(create(a_, "orders")), ErrorCode::Conflict);
  EXPECT_EQ(recorded(a_, "create"), 1u);
}

TEST_P(TransitStoreSuite, OneTenantsKeysAreNotThereForAnother) {
  ASSERT_TRUE(create(a_, "orders").ok());
  EXPECT_EQ(code_of(store().find(b_, name("orders"))), ErrorCode::NotFound);
  EXPECT_EQ(code_of(store().version(b_, "id-of-orders", 1)), ErrorCode::NotFound);
  EXPECT_TRUE(store().versions(b_, "id-of-orders").value().empty());
  EXPECT_TRUE(store().names(b_).value().empty());
  EXPECT_EQ(code_of(rotate(b_, "orders")), ErrorCode::NotFound);
  const auto allow = [](Key& key) -> Status {
    key.deletion_allowed = true;
    return {};
  };
  const auto any = [](const Key&) { return Status(); };
  EXPECT_EQ(code_of(store().configure(b_, name("orders"), allow, {})), ErrorCode::NotFound);
  EXPECT_EQ(code_of(store().remove(b_, name("orders"), any, {})), ErrorCode::NotFound);
  EXPECT_TRUE(create(b_, "orders").ok()) << "names and ids are a tenant's own";
  ASSERT_TRUE(store().remove(b_, name("orders"), any, {}).ok());
  EXPECT_EQ(box_of(store().find(a_, name("orders")).value().latest), "orders 1");
  EXPECT_EQ(code_of(create(TenantId("nobody"), "x")), ErrorCode::NotFound);
}

TEST_P(TransitStoreSuite, ItsVersionsStayWhenItIsRotated) {
  ASSERT_TRUE(create(a_, "orders").ok());
  ASSERT_TRUE(rotate(a_, "orders").ok());
  ASSERT_TRUE(rotate(a_, "orders").ok());
  const auto found = store().find(a_, name("orders"));
  EXPECT_EQ(found.value().key.latest_version, 3u);
  EXPECT_EQ(box_of(found.value().latest), "orders 3");
  EXPECT_EQ(box_of(store().version(a_, "id-of-orders", 2).value()), "orders 2");
  EXPECT_EQ(code_of(store().version(a_, "id-of-orders", 4)), ErrorCode::NotFound);
  const auto all = store().versions(a_, "id-of-orders");
  ASSERT_EQ(all.value().size(), 3u);
  EXPECT_EQ(all.value()[0].version, 1u);
  EXPECT_EQ(code_of(rotate(a_, "orders", 3)), ErrorCode::TooLarge);
  EXPECT_EQ(store().find(a_, name("orders")).value().key.latest_version, 3u);
  EXPECT_EQ(code_of(rotate(a_, "none")), ErrorCode::NotFound);
  EXPECT_EQ(recorded(a_, "rotate"), 2u);
}

TEST_P(TransitStoreSuite, ItsSettingsChangeAsTheEditHasIt) {
  ASSERT_TRUE(create(a_, "orders").ok());
  ASSERT_TRUE(rotate(a_, "orders").ok());
  const auto edit = [](Key& key) -> Status {
    EXPECT_EQ(key.latest_version, 2u);
    key.deletion_allowed = true;
    key.min_decryption_version = 2;
    key.min_encryption_version = 2;
    return {};
  };
  ASSERT_TRUE(store().configure(a_, name("orders"), edit, events(a_, "configure")).ok());
  const auto key = store().find(a_, name("orders")).value().key;
  EXPECT_TRUE(key.deletion_allowed);
  EXPECT_EQ(key.min_decryption_version, 2u);
  EXPECT_EQ(key.min_encryption_version, 2u);
  EXPECT_EQ(key.latest_version, 2u);
  const auto refuse = [](Key& changed) -> Status {
    changed.deletion_allowed = false;
    return fail(ErrorCode::MalformedRequest, "");
  };
  EXPECT_EQ(code_of(store().configure(a_, name("orders"), refuse, events(a_, "configure"))),
            ErrorCode::MalformedRequest);
  EXPECT_TRUE(store().find(a_, name("orders")).value().key.deletion_allowed);
  EXPECT_EQ(recorded(a_, "configure"), 1u);
}

TEST_P(TransitStoreSuite, ItGoesWithItsVersionsWhenTheCheckAllowsIt) {
  ASSERT_TRUE(create(a_, "orders").ok());
  const auto refuse = [](const Key&) -> Status { return fail(ErrorCode::Forbidden, ""); };
  EXPECT_EQ(code_of(store().remove(a_, name("orders"), refuse, events(a_, "remove"))),
            ErrorCode::Forbidden);
  EXPECT_TRUE(store().find(a_, name("orders")).ok());
  const auto allow = [](const Key&) { return Status(); };
  ASSERT_TRUE(store().remove(a_, name("orders"), allow, events(a_, "remove")).ok());
  EXPECT_EQ(code_of(store().find(a_, name("orders"))), ErrorCode::NotFound);
  EXPECT_TRUE(store().versions(a_, "id-of-orders").value().empty());
  EXPECT_EQ(code_of(store().remove(a_, name("orders"), allow, {})), ErrorCode::NotFound);
  EXPECT_EQ(recorded(a_, "remove"), 1u);
}

TEST_P(TransitStoreSuite, ATenantHasSoManyKeysInTheOrderOfNames) {
  for (const char* each : {"b", "c", "a"}) ASSERT_TRUE(create(a_, each, 3).ok());
  EXPECT_EQ(store().names(a_).value(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(code_of(create(a_, "d", 3)), ErrorCode::TooLarge);
  EXPECT_EQ(code_of(store().create(a_, Key{},
                                   [](const Key&, std::uint32_t) -> Result<Version> {
                                     return fail(ErrorCode::KeyUnavailable, "");
                                   },
                                   10, {})),
            ErrorCode::KeyUnavailable);
  EXPECT_TRUE(create(b_, "d", 3).ok());
}

TEST_P(TransitStoreSuite, RotationsAtOnceAreSerial) {
  ASSERT_TRUE(create(a_, "orders").ok());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { EXPECT_TRUE(rotate(a_, "orders", 100).ok()); });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(store().find(a_, name("orders")).value().key.latest_version, 5u);
  EXPECT_EQ(store().versions(a_, "id-of-orders").value().size(), 5u);
}

}  // namespace postern::test
