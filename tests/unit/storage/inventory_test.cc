#include "storage/postgres_inventory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "support/postgres_stores.h"
#include "vault/envelope.h"

namespace postern::test {
namespace {

using VersionChange = vault::CredentialStore::VersionChange;

class Inventory : public ::testing::Test {
 protected:
  vault::CredentialKey key(const Owner& owner, const std::string& name) {
    return {owner, CredentialName(name)};
  }
  void put(const TenantId& tenant, const vault::CredentialKey& of, const std::string& value) {
    const auto seal = [&](std::uint32_t version) {
      vault::Fields fields;
      fields.emplace("value", FieldValue(SecureBuffer::copy_of(as_bytes(value))));
      return envelope_.seal(tenant, of, version, fields, clock_.now(), {});
    };
    ASSERT_TRUE(stores_.credentials.put(tenant, of, {}, seal, {}).ok());
  }
  void change(const TenantId& tenant, const vault::CredentialKey& of, std::uint32_t version,
              VersionChange how) {
    const std::vector<std::uint32_t> versions{version};
    ASSERT_TRUE(
        stores_.credentials.change_versions(tenant, of, versions, how, {}, clock_.now(), {}).ok());
  }
  /// `owner/name#version=value` of each, as it is opened; "-" before what is deleted.
  std::vector<std::string> opened(const TenantId& tenant) {
    std::vector<std::string> out;
    const auto done = inventory_.each_version(tenant, [&](const auto& entry) -> Status {
      POSTERN_TRY(const auto fields, envelope_.open(tenant, entry.key, entry.sealed));
      const auto& owner = entry.key.owner;
      out.push_back(
          (entry.deleted_at ? "-" : "") +
          (owner.is_tenant() ? std::string() : owner.principal().subject) + "/" +
          entry.key.name.str() + "#" + std::to_string(entry.sealed.version) + "=" +
          fields.at("value").expose([](ByteView bytes) { return std::string(as_text(bytes)); }));
      return {};
    });
    EXPECT_TRUE(done.ok());
    return out;
  }

  SystemClock clock_;
  PostgresStores stores_;
  vault::Envelope envelope_{stores_.keyring};
  storage::PostgresInventory inventory_{stores_.database};
  const TenantId tenant_ = stores_.add_tenant(), other_ = stores_.add_tenant();
  const Owner alice_ = Owner::principal({"https://idp.example", "alice"});
};

TEST_F(Inventory, HasWhatOpensOfOneTenant) {
  const auto shared = key(Owner::tenant(), "db"), own = key(alice_, "db");
  put(tenant_, shared, "one");
  put(tenant_, shared, "two");
  put(tenant_, own, "three");
  put(other_, shared, "other");
  change(tenant_, shared, 1, VersionChange::Delete);
  EXPECT_EQ(opened(tenant_),
            (std::vector<std::string>{"-/db#1=one", "/db#2=two", "alice/db#1=three"}));
  change(tenant_, shared, 1, VersionChange::Destroy);
  EXPECT_EQ(opened(tenant_), (std::vector<std::string>{"/db#2=two", "alice/db#1=three"}));
  EXPECT_EQ(opened(other_), (std::vector<std::string>{"/db#1=other"}));
  EXPECT_EQ(opened(TenantId("nobody")), std::vector<std::string>());
}

TEST_F(Inventory, GoesOnWhereAPageEnds) {
  constexpr int kCredentials = 205;
  for (int i = 0; i < kCredentials; ++i) {
    put(tenant_, key(i % 2 == 0 ? Owner::tenant() : alice_, "c" + std::to_string(1000 + i)), "x");
  }
  const auto all = opened(tenant_);
  EXPECT_EQ(all.size(), static_cast<std::size_t>(kCredentials));
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
}

TEST_F(Inventory, WhatIsPutBackIsAsItWas) {
  using Credential = storage::PostgresInventory::Credential;
  const auto own = key(alice_, "db");
  const auto at = clock_.now();
  for (const char* value : {"one", "two", "three", "four", "five"}) {
    const auto seal = [&](std::uint32_t version) -> Result<vault::SealedVersion> {
      vault::Fields fields;
      fields.emplace("value", FieldValue(SecureBuffer::copy_of(std::string_view(value))));
      POSTERN_TRY(auto sealed, envelope_.seal(tenant_, own, version, fields, at,
                                              at + std::chrono::hours(version)));
      sealed.metadata = {{"ticket", value}};
      return sealed;
    };
    const auto edit = [&](vault::CredentialDescription& description) -> Status {
      description = {"api_key", 4, true, "of the reports", {{"team", "data"}}, {{"cost", "7"}}, at};
      return {};
    };
    const auto now = stores_.credentials.history(tenant_, own);
    const vault::Expected latest(now.ok() ? now.value().metadata.version : 0);
    ASSERT_TRUE(stores_.credentials.put(tenant_, own, latest, seal, edit, {}).ok());
  }
  change(tenant_, own, 2, VersionChange::Destroy);
  change(tenant_, own, 3, VersionChange::Withdraw);
  change(tenant_, own, 4, VersionChange::Delete);

  const auto all = [&](const TenantId& tenant) {
    std::vector<Credential> found;
    EXPECT_TRUE(inventory_
                    .each_credential(tenant, stores_.credentials,
                                     [&](Credential credential) -> Status {
                                       found.push_back(std::move(credential));
                                       return {};
                                     })
                    .ok());
    return found;
  };
  auto credentials = all(tenant_);
  ASSERT_EQ(credentials.size(), 1u);
  auto& credential = credentials.front();
  ASSERT_EQ(credential.versions.size(), 4u) << "the first is beyond max_versions";
  credential.metadata.last_used_at = at;
  for (auto& [info, sealed] : credential.versions) {
    EXPECT_EQ(sealed.has_value(), info.version != 2);
    if (!sealed) continue;
    const auto fields = envelope_.open(tenant_, own, *sealed).value();
    sealed =
        envelope_.seal(other_, own, info.version, fields, info.created_at, info.expires_at).value();
  }
  EXPECT_EQ(inventory_.put_back(other_, credentials).value(), 1u);
  EXPECT_EQ(opened(other_),
            (std::vector<std::string>{"-alice/db#3=three", "-alice/db#4=four", "alice/db#5=five"}));

  const auto there = all(other_);
  ASSERT_EQ(there.size(), 1u);
  const auto& is = there.front().metadata;
  const auto& was = credential.metadata;
  EXPECT_EQ(is.version, 5u);
  EXPECT_EQ(is.description, was.description);
  EXPECT_EQ(is.last_used_at, was.last_used_at);
  EXPECT_EQ(is.expires_at, was.expires_at);
  EXPECT_EQ(is.field_names, was.field_names);
  ASSERT_EQ(there.front().versions.size(), credential.versions.size());
  for (std::size_t i = 0; i < credential.versions.size(); ++i) {
    const auto& copy = there.front().versions[i].info;
    const auto& from = credential.versions[i].info;
    EXPECT_EQ(std::tie(copy.version, copy.field_names, copy.created_at, copy.expires_at,
                       copy.deleted_at, copy.destroyed_at, copy.withdrawn, copy.metadata),
              std::tie(from.version, from.field_names, from.created_at, from.expires_at,
                       from.deleted_at, from.destroyed_at, from.withdrawn, from.metadata))
        << from.version;
  }

  // What is there stays, and so does what a removal left of it.
  EXPECT_EQ(inventory_.put_back(other_, credentials).value(), 0u);
  EXPECT_EQ(opened(other_).size(), 3u);
  ASSERT_TRUE(stores_.credentials.remove(other_, own, std::nullopt, {}).ok());
  EXPECT_EQ(inventory_.put_back(other_, credentials).value(), 0u);
  EXPECT_EQ(opened(other_), std::vector<std::string>());
  EXPECT_EQ(opened(tenant_).size(), 3u);
  EXPECT_FALSE(inventory_.put_back(TenantId("nobody"), credentials).ok());
}

TEST_F(Inventory, EndsWithTheFirstError) {
  put(tenant_, key(Owner::tenant(), "a"), "x");
  put(tenant_, key(Owner::tenant(), "b"), "x");
  int seen = 0;
  const auto done = inventory_.each_version(tenant_, [&](const auto&) -> Status {
    ++seen;
    return fail(ErrorCode::Internal, "enough");
  });
  EXPECT_EQ(done.error().code, ErrorCode::Internal);
  EXPECT_EQ(seen, 1);
}

}  // namespace
}  // namespace postern::test
