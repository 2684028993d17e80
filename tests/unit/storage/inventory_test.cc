#include "storage/postgres_inventory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
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
