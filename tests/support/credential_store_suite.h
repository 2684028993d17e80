#pragma once

// The contract of vault::CredentialStore as tests. To hold an implementation to it:
//
//   namespace postern::test {
//   INSTANTIATE_TEST_SUITE_P(Postgres, CredentialStoreSuite,
//       ::testing::Values(CredentialStoreFactory{[] { return std::make_unique<Harness>(); }}));
//   }

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "audit/event.h"
#include "audit/log.h"
#include "core/ids.h"
#include "support/code_of.h"
#include "vault/credential.h"

namespace postern::test {

class CredentialStoreHarness {
 public:
  virtual ~CredentialStoreHarness() = default;
  virtual vault::CredentialStore& store() = 0;
  virtual audit::AuditLog& log() = 0;  ///< where the store's events go
  virtual TenantId add_tenant() = 0;   ///< a new one, with keys and an empty chain
};

struct CredentialStoreFactory {
  std::function<std::unique_ptr<CredentialStoreHarness>()> make;
  friend void PrintTo(const CredentialStoreFactory&, std::ostream* out) {
    *out << "credential store";
  }
};

class CredentialStoreSuite : public ::testing::TestWithParam<CredentialStoreFactory> {
 protected:
  using Key = vault::CredentialKey;
  static constexpr auto kAnyVersion = std::nullopt;

  vault::CredentialStore& store() { return harness_->store(); }

  static Owner user(const std::string& subject) {
    return Owner::principal({"https://idp.example", subject});
  }
  static Key key(const Owner& owner, const std::string& name = "github") {
    return {owner, CredentialName(name)};
  }

  /// What a vault would have sealed; the content names tenant and version.
  static vault::SealedVersion sealed(const std::string& content, std::uint32_t version) {
    const sys_seconds time(std::chrono::seconds(1'800'000'000 + version));
    const auto box = content + '#' + std::to_string(version) + std::string("\0\xFF", 2);
    // 105 bytes, the length of a sealed 32-byte key, in case a column insists.
    return {version,
            KekVersion{1},
            to_bytes(std::string(105 - box.size(), 'k') + box),
            to_bytes(std::string(80, 's') + box),
            {"host", "token"},
            time,
            time + std::chrono::hours(1)};
  }

  std::vector<audit::Event> events(const TenantId& tenant, const std::string& action) {
    return {{tenant,
             sys_seconds(std::chrono::seconds(1'800'000'000)),
             action,
             audit::Outcome::Allowed,
             "request-1",
             {}}};
  }

  Result<vault::CredentialMetadata> put(
      const TenantId& tenant, const Key& key,
      std::optional<std::uint32_t> expected_version = std::nullopt) {
    return store().put(
        tenant, key, expected_version,
        [&](std::uint32_t version) -> Result<vault::SealedVersion> {
          return sealed(tenant.str() + key.owner.principal().subject, version);
        },
        events(tenant, "credential.put"));
  }

  Status remove(const TenantId& tenant, const Key& key,
                std::optional<std::uint32_t> expected_version = std::nullopt) {
    return store().remove(tenant, key, expected_version, events(tenant, "credential.remove"));
  }

  /// The latest version number, 0 when there is none.
  std::uint32_t latest(const TenantId& tenant, const Key& key) {
    const auto found = store().latest(tenant, key);
    return found.ok() ? found.value().version : 0;
  }

  std::size_t audited(const TenantId& tenant, const std::string& action) {
    audit::Query query;
    query.action = action;
    query.limit = 1000;
    const auto records = harness_->log().read(tenant, query);
    return records.ok() ? records.value().size() : 0;
  }

  std::vector<Key> keys(const vault::CredentialStore::Page& page) {
    std::vector<Key> found;
    for (const auto& item : page.items) found.push_back(item.key);
    return found;
  }

  std::vector<Key> list_all(const TenantId& tenant, const std::optional<Owner>& owner,
                            std::uint32_t limit) {
    std::vector<Key> found;
    std::string cursor;
    do {
      const auto page = store().list(tenant, owner, cursor, limit);
      EXPECT_TRUE(page.ok());
      if (!page.ok()) break;
      EXPECT_LE(page.value().items.size(), limit);
      for (const auto& item : page.value().items) found.push_back(item.key);
      cursor = page.value().next;
    } while (!cursor.empty() && found.size() < 100);
    return found;
  }

  std::unique_ptr<CredentialStoreHarness> harness_ = GetParam().make();
  const TenantId a_ = harness_->add_tenant();
  const TenantId b_ = harness_->add_tenant();
  const Key key_ = key(user("alice"));
};

// ---- content and versions ----

TEST_P(CredentialStoreSuite, ReturnsWhatWasPut) {
  const auto written = put(a_, key_);
  ASSERT_TRUE(written.ok()) << written.error().detail;

  const auto found = store().latest(a_, key_);
  ASSERT_TRUE(found.ok());
  const auto expected = sealed(a_.str() + "alice", 1);
  EXPECT_EQ(found.value().version, 1u);
  EXPECT_EQ(found.value().kek_version, expected.kek_version);
  EXPECT_EQ(found.value().wrapped_dek, expected.wrapped_dek);
  EXPECT_EQ(found.value().sealed, expected.sealed);
  EXPECT_EQ(found.value().field_names, expected.field_names);
  EXPECT_EQ(found.value().created_at, expected.created_at);
  EXPECT_EQ(found.value().expires_at, expected.expires_at);
}

TEST_P(CredentialStoreSuite, KeepsThatACredentialDoesNotExpire) {
  const auto without_expiry = [](std::uint32_t version) -> Result<vault::SealedVersion> {
    auto made = sealed("x", version);
    made.expires_at.reset();
    return made;
  };
  ASSERT_TRUE(
      store().put(a_, key_, kAnyVersion, without_expiry, events(a_, "credential.put")).ok());
  EXPECT_EQ(store().latest(a_, key_).value().expires_at, std::nullopt);
  EXPECT_EQ(store().metadata(a_, key_).value().expires_at, std::nullopt);
}

TEST_P(CredentialStoreSuite, DescribesTheLatestVersion) {
  ASSERT_TRUE(put(a_, key_).ok());
  const auto written = put(a_, key_);
  ASSERT_TRUE(written.ok());
  const auto read = store().metadata(a_, key_);
  ASSERT_TRUE(read.ok());
  const auto page = store().list(a_, std::nullopt, "", 10);
  ASSERT_TRUE(page.ok());
  ASSERT_EQ(page.value().items.size(), 1u);

  const auto expected = sealed("", 2);
  for (const auto& metadata : {written.value(), read.value(), page.value().items[0]}) {
    EXPECT_EQ(metadata.key, key_);
    EXPECT_EQ(metadata.version, 2u);
    EXPECT_EQ(metadata.field_names, expected.field_names);
    EXPECT_EQ(metadata.created_at, expected.created_at);
    EXPECT_EQ(metadata.expires_at, expected.expires_at);
  }
}

TEST_P(CredentialStoreSuite, VersionsCountUpFromOnePerCredential) {
  EXPECT_EQ(put(a_, key_).value().version, 1u);
  EXPECT_EQ(put(a_, key_).value().version, 2u);
  EXPECT_EQ(put(a_, key(user("alice"), "slack")).value().version, 1u);
  EXPECT_EQ(put(a_, key(user("bob"))).value().version, 1u);
  EXPECT_EQ(put(a_, key(Owner::tenant())).value().version, 1u);
  EXPECT_EQ(put(b_, key_).value().version, 1u);
  EXPECT_EQ(put(a_, key_).value().version, 3u);
}

TEST_P(CredentialStoreSuite, NeverReusesAVersion) {
  ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(remove(a_, key_).ok());
  EXPECT_EQ(put(a_, key_).value().version, 3u);
  ASSERT_TRUE(remove(a_, key_).ok());
  EXPECT_EQ(put(a_, key_, 0).value().version, 4u);
  EXPECT_EQ(latest(a_, key_), 4u);
}

TEST_P(CredentialStoreSuite, RemovesAllVersions) {
  ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(remove(a_, key_).ok());
  EXPECT_EQ(code_of(store().latest(a_, key_)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(store().metadata(a_, key_)), ErrorCode::NotFound);
  EXPECT_TRUE(store().list(a_, std::nullopt, "", 10).value().items.empty());
  EXPECT_EQ(code_of(remove(a_, key_)), ErrorCode::NotFound);
}

// ---- expected_version ----

TEST_P(CredentialStoreSuite, PutsOnlyOverTheExpectedVersion) {
  EXPECT_EQ(code_of(put(a_, key_, 1)), ErrorCode::PreconditionFailed);  // none exists
  EXPECT_EQ(put(a_, key_, 0).value().version, 1u);
  EXPECT_EQ(code_of(put(a_, key_, 0)), ErrorCode::PreconditionFailed);
  EXPECT_EQ(code_of(put(a_, key_, 2)), ErrorCode::PreconditionFailed);
  EXPECT_EQ(put(a_, key_, 1).value().version, 2u);
  EXPECT_EQ(code_of(put(a_, key_, 1)), ErrorCode::PreconditionFailed);
  EXPECT_EQ(latest(a_, key_), 2u);
  EXPECT_EQ(audited(a_, "credential.put"), 2u);
}

TEST_P(CredentialStoreSuite, ARemovedCredentialIsExpectedAsNone) {
  ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(remove(a_, key_).ok());
  EXPECT_EQ(code_of(put(a_, key_, 1)), ErrorCode::PreconditionFailed);
  EXPECT_TRUE(put(a_, key_, 0).ok());
}

TEST_P(CredentialStoreSuite, RemovesOnlyTheExpectedVersion) {
  ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(put(a_, key_).ok());
  EXPECT_EQ(code_of(remove(a_, key_, 1)), ErrorCode::PreconditionFailed);
  EXPECT_EQ(code_of(remove(a_, key_, 0)), ErrorCode::PreconditionFailed);
  EXPECT_EQ(latest(a_, key_), 2u);
  EXPECT_EQ(audited(a_, "credential.remove"), 0u);
  EXPECT_TRUE(remove(a_, key_, 2).ok());
  EXPECT_EQ(code_of(remove(a_, key_, 2)), ErrorCode::NotFound);
  EXPECT_EQ(audited(a_, "credential.remove"), 1u);
}

// ---- a write and its audit events are one ----

TEST_P(CredentialStoreSuite, AWriteCommitsItsEvents) {
  ASSERT_TRUE(put(a_, key_).ok());
  EXPECT_EQ(audited(a_, "credential.put"), 1u);
  ASSERT_TRUE(remove(a_, key_).ok());
  EXPECT_EQ(audited(a_, "credential.remove"), 1u);
  EXPECT_EQ(audited(b_, ""), 0u);
  EXPECT_TRUE(harness_->log().verify(a_).value().intact);
}

TEST_P(CredentialStoreSuite, ARefusedWriteCommitsNoEvent) {
  ASSERT_FALSE(put(a_, key_, 5).ok());
  ASSERT_FALSE(remove(a_, key_).ok());
  EXPECT_EQ(audited(a_, ""), 0u);
}

TEST_P(CredentialStoreSuite, AFailedSealChangesNothing) {
  const auto failing = [](std::uint32_t) -> Result<vault::SealedVersion> {
    return fail(ErrorCode::Unavailable, "no key");
  };
  const auto status = store().put(a_, key_, kAnyVersion, failing, events(a_, "credential.put"));
  EXPECT_EQ(code_of(status), ErrorCode::Unavailable);
  EXPECT_EQ(status.error().detail, "no key");
  EXPECT_EQ(latest(a_, key_), 0u);
  EXPECT_EQ(audited(a_, ""), 0u);
  EXPECT_EQ(code_of(store().metadata(a_, key_)), ErrorCode::NotFound);
  EXPECT_TRUE(store().list(a_, std::nullopt, "", 10).value().items.empty());

  ASSERT_TRUE(put(a_, key_).ok());
  EXPECT_FALSE(store().put(a_, key_, kAnyVersion, failing, {}).ok());
  EXPECT_EQ(latest(a_, key_), 1u);
}

TEST_P(CredentialStoreSuite, AnUnknownTenantHasNoCredentials) {
  const TenantId unknown("no-such-tenant");
  EXPECT_EQ(code_of(put(unknown, key_)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(store().latest(unknown, key_)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(remove(unknown, key_)), ErrorCode::NotFound);
}

// ---- isolation: every method, two tenants and two owners ----

TEST_P(CredentialStoreSuite, AnotherTenantsCredentialDoesNotExist) {
  ASSERT_TRUE(put(a_, key_).ok());
  const auto cursor_of_a = [&] {
    EXPECT_TRUE(put(a_, key(user("alice"), "slack")).ok());
    return store().list(a_, std::nullopt, "", 1).value().next;
  }();

  EXPECT_EQ(code_of(store().latest(b_, key_)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(store().metadata(b_, key_)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(remove(b_, key_)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(remove(b_, key_, 1)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(put(b_, key_, 1)), ErrorCode::PreconditionFailed);
  EXPECT_TRUE(store().list(b_, std::nullopt, "", 10).value().items.empty());
  EXPECT_TRUE(store().list(b_, user("alice"), "", 10).value().items.empty());
  EXPECT_TRUE(store().list(b_, std::nullopt, cursor_of_a, 10).value().items.empty());
  EXPECT_EQ(audited(b_, ""), 0u);
}

TEST_P(CredentialStoreSuite, TwoTenantsHaveTheSameNamesApart) {
  ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(put(b_, key_).ok());
  ASSERT_TRUE(put(b_, key_).ok());
  EXPECT_EQ(store().latest(a_, key_).value().sealed, sealed(a_.str() + "alice", 1).sealed);
  EXPECT_EQ(store().latest(b_, key_).value().sealed, sealed(b_.str() + "alice", 2).sealed);
  EXPECT_EQ(store().metadata(a_, key_).value().version, 1u);
  EXPECT_EQ(store().list(a_, std::nullopt, "", 10).value().items.size(), 1u);

  ASSERT_TRUE(remove(b_, key_).ok());
  EXPECT_EQ(latest(a_, key_), 1u);
}

TEST_P(CredentialStoreSuite, AnotherOwnersCredentialDoesNotExist) {
  const Owner owners[] = {
      user("alice"),
      user("Alice"),
      user("alice "),
      user("alic"),
      Owner::principal({"https://idp.example/", "alice"}),
      Owner::principal({"https://idp.exampl", "ealice"}),
      Owner::tenant(),
  };
  ASSERT_TRUE(put(a_, key(owners[0])).ok());
  for (std::size_t i = 1; i < std::size(owners); ++i) {
    const auto other = key(owners[i]);
    EXPECT_EQ(code_of(store().latest(a_, other)), ErrorCode::NotFound);
    EXPECT_EQ(code_of(store().metadata(a_, other)), ErrorCode::NotFound);
    EXPECT_EQ(code_of(remove(a_, other)), ErrorCode::NotFound);
    EXPECT_EQ(code_of(put(a_, other, 1)), ErrorCode::PreconditionFailed);
    EXPECT_TRUE(store().list(a_, owners[i], "", 10).value().items.empty());
  }
  // And each can have one of its own.
  for (std::size_t i = 1; i < std::size(owners); ++i) {
    EXPECT_EQ(put(a_, key(owners[i])).value().version, 1u);
    EXPECT_EQ(store().latest(a_, key(owners[i])).value().sealed,
              sealed(a_.str() + owners[i].principal().subject, 1).sealed);
    EXPECT_TRUE(remove(a_, key(owners[i])).ok());
  }
  EXPECT_EQ(latest(a_, key(owners[0])), 1u);
}

TEST_P(CredentialStoreSuite, TheTenantsCredentialIsNoUsers) {
  ASSERT_TRUE(put(a_, key(Owner::tenant())).ok());
  EXPECT_EQ(code_of(store().latest(a_, key_)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(remove(a_, key_)), ErrorCode::NotFound);
  EXPECT_TRUE(store().list(a_, user("alice"), "", 10).value().items.empty());
}

TEST_P(CredentialStoreSuite, NamesDifferInCase) {
  ASSERT_TRUE(put(a_, key(user("alice"), "GitHub")).ok());
  EXPECT_EQ(code_of(store().latest(a_, key_)), ErrorCode::NotFound);
}

TEST_P(CredentialStoreSuite, AbsentAndForeignLookAlike) {
  ASSERT_TRUE(put(a_, key_).ok());
  const auto foreign_tenant = store().latest(b_, key_);
  const auto foreign_owner = store().latest(a_, key(user("bob")));
  const auto absent = store().latest(b_, key(user("bob"), "nothing"));
  EXPECT_EQ(foreign_tenant.error().detail, absent.error().detail);
  EXPECT_EQ(foreign_owner.error().detail, absent.error().detail);
  EXPECT_EQ(remove(b_, key_).error().detail,
            remove(b_, key(user("bob"), "nothing")).error().detail);
}

// ---- lists ----

TEST_P(CredentialStoreSuite, ListsByOwnerThenName) {
  // Byte order, which a database's collation would not give.
  std::vector<Key> expected{
      key(Owner::tenant(), "zeta"),   key(user("Zoe"), "github"),   key(user("alice"), "GitHub"),
      key(user("alice"), "a.b"),      key(user("alice"), "github"), key(user("bob"), "github"),
      key(user("\xC3\xA9va"), "one"),
  };
  std::sort(expected.begin(), expected.end());
  for (auto it = expected.rbegin(); it != expected.rend(); ++it) ASSERT_TRUE(put(a_, *it).ok());
  ASSERT_TRUE(put(b_, key_).ok());

  for (const std::uint32_t limit : {1u, 2u, 3u, 7u, 8u, 100u}) {
    EXPECT_EQ(list_all(a_, std::nullopt, limit), expected) << "limit " << limit;
  }
}

TEST_P(CredentialStoreSuite, ListsOnlyOneOwnersWhenAsked) {
  const std::vector<Key> of_alice{key(user("alice"), "github"), key(user("alice"), "jira"),
                                  key(user("alice"), "slack")};
  for (const auto& one : of_alice) ASSERT_TRUE(put(a_, one).ok());
  ASSERT_TRUE(put(a_, key(user("bob"))).ok());
  ASSERT_TRUE(put(a_, key(Owner::tenant())).ok());

  for (const std::uint32_t limit : {1u, 2u, 10u}) {
    EXPECT_EQ(list_all(a_, user("alice"), limit), of_alice);
  }
  EXPECT_EQ(list_all(a_, Owner::tenant(), 10), std::vector{key(Owner::tenant())});
  EXPECT_TRUE(list_all(a_, user("carol"), 10).empty());
}

TEST_P(CredentialStoreSuite, ACursorGoesOnWhereItWas) {
  for (const char* name : {"b", "d", "f"}) ASSERT_TRUE(put(a_, key(user("alice"), name)).ok());
  const auto first = store().list(a_, std::nullopt, "", 2);
  ASSERT_TRUE(first.ok());
  ASSERT_EQ(first.value().items.size(), 2u);

  // Neither a row before it nor the removal of the row it names moves it.
  ASSERT_TRUE(put(a_, key(user("alice"), "a")).ok());
  ASSERT_TRUE(remove(a_, key(user("alice"), "d")).ok());
  ASSERT_TRUE(put(a_, key(user("alice"), "e")).ok());

  const auto rest = store().list(a_, std::nullopt, first.value().next, 10);
  ASSERT_TRUE(rest.ok());
  EXPECT_EQ(keys(rest.value()), (std::vector{key(user("alice"), "e"), key(user("alice"), "f")}));
  EXPECT_EQ(rest.value().next, "");
}

TEST_P(CredentialStoreSuite, ACursorOfOneOwnerShowsNothingOfAnother) {
  for (const char* name : {"a", "b"}) {
    ASSERT_TRUE(put(a_, key(user("alice"), name)).ok());
    ASSERT_TRUE(put(a_, key(user("bob"), name)).ok());
  }
  const auto of_bob = store().list(a_, user("bob"), "", 1);
  ASSERT_TRUE(of_bob.ok());
  const auto page = store().list(a_, user("alice"), of_bob.value().next, 10);
  if (!page.ok()) {
    EXPECT_EQ(code_of(page), ErrorCode::MalformedRequest);
    return;
  }
  for (const auto& item : page.value().items) EXPECT_EQ(item.key.owner, user("alice"));
}

TEST_P(CredentialStoreSuite, RefusesACursorThatIsNone) {
  ASSERT_TRUE(put(a_, key_).ok());
  for (const std::string cursor : {"x", "....", "' OR '1'='1", "{}", "AAAA", "\xFF"}) {
    EXPECT_EQ(code_of(store().list(a_, std::nullopt, cursor, 10)), ErrorCode::MalformedRequest)
        << cursor;
  }
}

// ---- concurrency ----

TEST_P(CredentialStoreSuite, ConcurrentPutsAllGetTheirOwnVersion) {
  constexpr int kThreads = 4;
  constexpr int kEach = 5;
  std::vector<std::vector<std::uint32_t>> versions(kThreads);
  std::vector<std::thread> threads;
  for (auto& mine : versions) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        auto written = put(a_, key_);
        for (int again = 0; code_of(written) == ErrorCode::Conflict && again < 100; ++again) {
          written = put(a_, key_);
        }
        if (written.ok()) mine.push_back(written.value().version);
      }
    });
  }
  for (auto& thread : threads) thread.join();

  std::vector<std::uint32_t> all;
  for (const auto& mine : versions) all.insert(all.end(), mine.begin(), mine.end());
  std::sort(all.begin(), all.end());
  ASSERT_EQ(all.size(), static_cast<std::size_t>(kThreads * kEach));
  EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end());
  EXPECT_EQ(latest(a_, key_), all.back());
  EXPECT_EQ(audited(a_, "credential.put"), all.size());
}

TEST_P(CredentialStoreSuite, OfConcurrentPutsOverOneVersionOneWins) {
  ASSERT_TRUE(put(a_, key_).ok());
  std::atomic<int> won = 0;
  std::atomic<int> lost = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const auto written = put(a_, key_, 1);
      if (written.ok()) ++won;
      const auto code = code_of(written);
      if (code == ErrorCode::PreconditionFailed || code == ErrorCode::Conflict) ++lost;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(won, 1);
  EXPECT_EQ(lost, 3);
  EXPECT_EQ(audited(a_, "credential.put"), 2u);
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(CredentialStoreSuite);

}  // namespace postern::test
