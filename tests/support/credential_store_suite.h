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
#include "core/result.h"
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

  Result<vault::CredentialMetadata> put(const TenantId& tenant, const Key& key,
                                        std::optional<vault::Expected> expected = std::nullopt) {
    return store().put(
        tenant, key, expected,
        [&](std::uint32_t version) -> Result<vault::SealedVersion> {
          return sealed(tenant.str() + key.owner.principal().subject, version);
        },
        events(tenant, "credential.put"));
  }

  Status remove(const TenantId& tenant, const Key& key,
                std::optional<std::uint32_t> expected_version = std::nullopt) {
    return store().remove(tenant, key, expected_version, events(tenant, "credential.remove"));
  }

  using Change = vault::CredentialStore::VersionChange;
  using Description = vault::CredentialDescription;

  Result<vault::CredentialMetadata> change(const TenantId& tenant, const Key& key, Change how,
                                           std::vector<std::uint32_t> versions = {},
                                           std::optional<vault::Expected> expected = std::nullopt) {
    return store().change_versions(tenant, key, versions, how, expected, kNow,
                                   events(tenant, "credential.version"));
  }

  Result<vault::CredentialMetadata> describe(
      const TenantId& tenant, const Key& key, const std::function<void(Description&)>& edit,
      std::optional<vault::Expected> expected = std::nullopt) {
    return store().describe(
        tenant, key, expected,
        [&](Description& description) -> Status {
          edit(description);
          return {};
        },
        events(tenant, "credential.describe"));
  }

  /// A write that edits the description too.
  Result<vault::CredentialMetadata> put_described(
      const TenantId& tenant, const Key& key, const std::function<void(Description&)>& edit,
      std::optional<vault::Expected> expected = std::nullopt) {
    return store().put(
        tenant, key, expected,
        [&](std::uint32_t version) -> Result<vault::SealedVersion> {
          return sealed(tenant.str() + key.owner.principal().subject, version);
        },
        [&](Description& description) -> Status {
          edit(description);
          return {};
        },
        events(tenant, "credential.put"));
  }

  /// The state of each version that is kept: `1 live, 2 deleted`.
  std::string states(const TenantId& tenant, const Key& key) {
    const auto history = store().history(tenant, key);
    if (!history.ok()) return std::string(to_string(history.error().code));
    std::string out;
    for (const auto& each : history.value().versions) {
      out += (out.empty() ? "" : ", ") + std::to_string(each.version) + ' ' +
             std::string(to_string(each.state()));
    }
    return out;
  }

  static constexpr sys_seconds kNow{std::chrono::seconds(1'900'000'000)};

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

// ---- versions ----

TEST_P(CredentialStoreSuite, ListsTheVersionsItKeeps) {
  ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(put(a_, key_).ok());
  const auto history = store().history(a_, key_);
  ASSERT_TRUE(history.ok());
  EXPECT_EQ(history.value().metadata.version, 2u);
  ASSERT_EQ(history.value().versions.size(), 2u);
  for (const std::uint32_t number : {1u, 2u}) {
    const auto& version = history.value().versions[number - 1];
    const auto expected = sealed("", number);
    EXPECT_EQ(version.version, number);
    EXPECT_EQ(version.field_names, expected.field_names);
    EXPECT_EQ(version.created_at, expected.created_at);
    EXPECT_EQ(version.expires_at, expected.expires_at);
    EXPECT_EQ(version.state(), vault::VersionState::Live);
  }
}

TEST_P(CredentialStoreSuite, AVersionKeepsWhatWasSaidAsItWasWritten) {
  const auto write = [&](const vault::Texts& said) {
    return store().put(
        a_, key_, kAnyVersion,
        [&](std::uint32_t version) -> Result<vault::SealedVersion> {
          auto next = sealed("", version);
          next.metadata = said;
          return next;
        },
        events(a_, "credential.put"));
  };
  const vault::Texts first{{"ticket", "OPS-7"}, {"any name", "{}'\" \xF0\x9F\x94\x91"}};
  ASSERT_TRUE(write(first).ok());
  ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(write({{"ticket", ""}}).ok());
  const auto said = [&](std::size_t at) {
    return store().history(a_, key_).value().versions.at(at).metadata;
  };
  EXPECT_EQ(said(0), first);
  EXPECT_EQ(said(1), vault::Texts()) << "none is taken over";
  EXPECT_EQ(said(2), (vault::Texts{{"ticket", ""}}));
  EXPECT_EQ(store().metadata(a_, key_).value().description, Description());
  EXPECT_EQ(store().version(a_, key_, 1).value().metadata, vault::Texts());
  EXPECT_EQ(store().latest(a_, key_).value().metadata, vault::Texts()) << "history() alone has it";
  ASSERT_TRUE(describe(a_, key_, [](auto& is) { is.metadata = {{"ticket", "x"}}; }).ok());
  ASSERT_TRUE(change(a_, key_, Change::Delete, {1}).ok());
  ASSERT_TRUE(change(a_, key_, Change::Destroy, {1}).ok());
  EXPECT_EQ(said(0), first);
  EXPECT_EQ(said(2), (vault::Texts{{"ticket", ""}}));

  vault::Texts many{{std::string(128, 'm'), std::string(512, 't')}};
  for (int i = 0; i < 16; ++i) many.emplace("n" + std::to_string(i), "t");
  const vault::Texts beyond[]{many,
                              {{"", "x"}},
                              {{std::string(129, 'm'), "x"}},
                              {{"m", std::string(513, 't')}},
                              {{"m", std::string("\0", 1)}}};
  for (const auto& each : beyond) {
    const auto refused = write(each);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().pointer, "/version_metadata");
  }
  many.erase("n0");
  EXPECT_TRUE(write(many).ok());
}

TEST_P(CredentialStoreSuite, ReadsAnOldVersionByItsNumber) {
  ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(put(a_, key_).ok());
  const auto first = store().version(a_, key_, 1);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first.value().sealed, sealed(a_.str() + "alice", 1).sealed);
  EXPECT_EQ(first.value().wrapped_dek, sealed(a_.str() + "alice", 1).wrapped_dek);
  for (const std::uint32_t number : {0u, 3u, 4'000'000'000u}) {
    EXPECT_EQ(code_of(store().version(a_, key_, number)), ErrorCode::NotFound) << number;
  }
}

TEST_P(CredentialStoreSuite, ADeletedLatestVersionIsNoCredentialAndNoneTakesItsPlace) {
  ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(put(a_, key_).ok());
  const auto deleted = change(a_, key_, Change::Delete);
  ASSERT_TRUE(deleted.ok()) << deleted.error().diagnostic;
  EXPECT_EQ(deleted.value().version, 2u);
  EXPECT_EQ(deleted.value().state(), vault::VersionState::Deleted);
  EXPECT_EQ(deleted.value().deleted_at, kNow);

  EXPECT_EQ(code_of(store().latest(a_, key_)), ErrorCode::NotFound);
  EXPECT_EQ(store().latest(a_, key_).error().detail,
            store().latest(a_, key(user("bob"))).error().detail);
  EXPECT_EQ(code_of(store().version(a_, key_, 2)), ErrorCode::NotFound);
  EXPECT_TRUE(store().version(a_, key_, 1).ok());
  // It is still there for those who manage it.
  EXPECT_EQ(store().metadata(a_, key_).value().deleted_at, kNow);
  EXPECT_EQ(store().list(a_, std::nullopt, "", 10).value().items.size(), 1u);
  EXPECT_EQ(states(a_, key_), "1 live, 2 deleted");
  EXPECT_EQ(put(a_, key_, 2).value().version, 3u);
  EXPECT_EQ(latest(a_, key_), 3u);
}

TEST_P(CredentialStoreSuite, WhatWasDeletedComesBackAsItWas) {
  ASSERT_TRUE(put(a_, key_).ok());
  const auto before = store().latest(a_, key_).value();
  ASSERT_TRUE(change(a_, key_, Change::Delete).ok());
  ASSERT_EQ(latest(a_, key_), 0u);
  const auto back = change(a_, key_, Change::Undelete, {1});
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back.value().state(), vault::VersionState::Live);
  const auto after = store().latest(a_, key_).value();
  EXPECT_EQ(after.sealed, before.sealed);
  EXPECT_EQ(after.wrapped_dek, before.wrapped_dek);
  EXPECT_EQ(after.kek_version, before.kek_version);
}

TEST_P(CredentialStoreSuite, WhatWasWithdrawnOnlyARestoreBringsBack) {
  ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(put(a_, key_).ok());
  // Also what its owner had deleted before.
  ASSERT_TRUE(change(a_, key_, Change::Delete, {1}).ok());
  const auto before = store().metadata(a_, key_).value().revision;
  const auto withdrawn = change(a_, key_, Change::Withdraw, {1, 2});
  ASSERT_TRUE(withdrawn.ok()) << withdrawn.error().diagnostic;
  EXPECT_EQ(withdrawn.value().revision, before + 1);
  EXPECT_EQ(states(a_, key_), "1 deleted, 2 deleted");
  const auto history = store().history(a_, key_).value();
  ASSERT_EQ(history.versions.size(), 2u);
  for (const auto& each : history.versions) {
    EXPECT_TRUE(each.withdrawn) << each.version;
    EXPECT_EQ(each.deleted_at, kNow);
  }
  EXPECT_EQ(change(a_, key_, Change::Withdraw, {1, 2}).value().revision, before + 1);
  EXPECT_EQ(change(a_, key_, Change::Delete, {2}).value().revision, before + 1);

  ASSERT_EQ(put(a_, key_).value().version, 3u) << "a new value may be stored";
  ASSERT_TRUE(change(a_, key_, Change::Delete, {3}).ok());
  EXPECT_EQ(code_of(change(a_, key_, Change::Undelete, {2})), ErrorCode::Forbidden);
  EXPECT_EQ(code_of(change(a_, key_, Change::Undelete, {3, 1})), ErrorCode::Forbidden);
  EXPECT_EQ(states(a_, key_), "1 deleted, 2 deleted, 3 deleted") << "not even some of them";
  ASSERT_TRUE(change(a_, key_, Change::Undelete, {3}).ok());

  ASSERT_TRUE(change(a_, key_, Change::Restore, {2}).ok());
  EXPECT_EQ(states(a_, key_), "1 deleted, 2 live, 3 live");
  EXPECT_FALSE(store().history(a_, key_).value().versions.at(1).withdrawn);
  ASSERT_TRUE(change(a_, key_, Change::Delete, {2}).ok());
  EXPECT_TRUE(change(a_, key_, Change::Undelete, {2}).ok()) << "it is the owner's again";
  // Destroyed is more than withdrawn.
  ASSERT_TRUE(change(a_, key_, Change::Destroy, {1}).ok());
  EXPECT_EQ(code_of(change(a_, key_, Change::Undelete, {1})), ErrorCode::Conflict);
}

TEST_P(CredentialStoreSuite, WhatWasDestroyedIsGoneForGood) {
  ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(put(a_, key_).ok());
  const auto destroyed = change(a_, key_, Change::Destroy, {2});
  ASSERT_TRUE(destroyed.ok()) << destroyed.error().diagnostic;
  EXPECT_EQ(destroyed.value().state(), vault::VersionState::Destroyed);
  EXPECT_EQ(destroyed.value().destroyed_at, kNow);
  EXPECT_EQ(destroyed.value().field_names, sealed("", 2).field_names);
  EXPECT_EQ(latest(a_, key_), 0u);
  EXPECT_EQ(code_of(store().version(a_, key_, 2)), ErrorCode::NotFound);
  for (const auto how : {Change::Undelete, Change::Delete}) {
    EXPECT_EQ(code_of(change(a_, key_, how, {2})), ErrorCode::Conflict);
  }
  EXPECT_TRUE(change(a_, key_, Change::Destroy, {2}).ok());  // it is as asked
  EXPECT_EQ(states(a_, key_), "1 live, 2 destroyed");
  EXPECT_EQ(audited(a_, "credential.version"), 2u);
  // Deleted before or not makes no difference.
  ASSERT_TRUE(change(a_, key_, Change::Delete, {1}).ok());
  ASSERT_TRUE(change(a_, key_, Change::Destroy, {1}).ok());
  EXPECT_EQ(states(a_, key_), "1 destroyed, 2 destroyed");
  EXPECT_EQ(put(a_, key_).value().version, 3u);
  EXPECT_EQ(latest(a_, key_), 3u);
}

TEST_P(CredentialStoreSuite, ChangesManyVersionsAtOnceAndPassesOverTheRest) {
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(put(a_, key_).ok());
  ASSERT_TRUE(change(a_, key_, Change::Destroy, {1}).ok());
  ASSERT_TRUE(change(a_, key_, Change::Delete, {1, 2, 4, 77}).ok());
  EXPECT_EQ(states(a_, key_), "1 destroyed, 2 deleted, 3 live, 4 deleted, 5 live");
  EXPECT_EQ(latest(a_, key_), 5u);
  ASSERT_TRUE(change(a_, key_, Change::Undelete, {1, 2, 3}).ok());
  EXPECT_EQ(states(a_, key_), "1 destroyed, 2 live, 3 live, 4 deleted, 5 live");
  EXPECT_EQ(code_of(change(a_, key_, Change::Delete, {77, 0, 4'000'000'000})), ErrorCode::NotFound);
  EXPECT_EQ(code_of(change(a_, key(user("bob")), Change::Delete, {1})), ErrorCode::NotFound);
}

TEST_P(CredentialStoreSuite, KeepsAsManyVersionsAsItIsToldTo) {
  const auto keep = [](std::uint32_t count) {
    return [count](Description& description) { description.max_versions = count; };
  };
  ASSERT_TRUE(put_described(a_, key_, keep(2)).ok());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(put(a_, key_).ok());
  EXPECT_EQ(states(a_, key_), "3 live, 4 live");
  EXPECT_EQ(code_of(store().version(a_, key_, 2)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(change(a_, key_, Change::Undelete, {2})), ErrorCode::NotFound);

  ASSERT_TRUE(describe(a_, key_, keep(1)).ok());
  EXPECT_EQ(states(a_, key_), "3 live, 4 live") << "until the next write";
  ASSERT_TRUE(put(a_, key_).ok());
  EXPECT_EQ(states(a_, key_), "5 live");
  // More room brings nothing back.
  ASSERT_TRUE(put_described(a_, key_, keep(100)).ok());
  EXPECT_EQ(states(a_, key_), "5 live, 6 live");
  for (const std::uint32_t count : {0u, 101u}) {
    EXPECT_EQ(code_of(describe(a_, key_, keep(count))), ErrorCode::MalformedRequest);
    EXPECT_EQ(code_of(put_described(a_, key_, keep(count))), ErrorCode::MalformedRequest);
  }
  EXPECT_EQ(states(a_, key_), "5 live, 6 live");
}

TEST_P(CredentialStoreSuite, MayInsistOnKnowingWhatAWriterSaw) {
  ASSERT_TRUE(put_described(a_, key_, [](auto& is) { is.cas_required = true; }).ok());
  EXPECT_EQ(code_of(put(a_, key_)), ErrorCode::PreconditionFailed);
  EXPECT_EQ(code_of(put(a_, key_, 2)), ErrorCode::PreconditionFailed);
  vault::Expected as_found(1);  // which is no word of the writer's
  as_found.named = false;
  EXPECT_EQ(code_of(put(a_, key_, as_found)), ErrorCode::PreconditionFailed);
  EXPECT_EQ(put(a_, key_, 1).value().version, 2u);
  // Not a write: these need no word.
  EXPECT_TRUE(change(a_, key_, Change::Delete).ok());
  EXPECT_TRUE(describe(a_, key_, [](auto& is) { is.cas_required = false; }).ok());
  EXPECT_TRUE(put(a_, key_).ok());
}

TEST_P(CredentialStoreSuite, EveryChangeMovesTheRevisionAndAWriteStartsItAnew) {
  ASSERT_EQ(put(a_, key_).value().revision, 0u);
  EXPECT_EQ(describe(a_, key_, [](auto& is) { is.description = "x"; }).value().revision, 1u);
  EXPECT_EQ(describe(a_, key_, [](auto& is) { is.description = "x"; }).value().revision, 1u);
  EXPECT_EQ(change(a_, key_, Change::Delete).value().revision, 2u);
  EXPECT_EQ(change(a_, key_, Change::Delete).value().revision, 2u) << "was deleted already";
  EXPECT_EQ(change(a_, key_, Change::Undelete).value().revision, 3u);
  EXPECT_EQ(store().metadata(a_, key_).value().revision, 3u);

  using vault::Expected;
  EXPECT_EQ(code_of(put_described(
                a_, key_, [](auto&) {}, Expected(1, 2))),
            ErrorCode::PreconditionFailed);
  EXPECT_EQ(code_of(change(a_, key_, Change::Destroy, {}, Expected(1, 2))),
            ErrorCode::PreconditionFailed);
  EXPECT_EQ(code_of(change(a_, key_, Change::Destroy, {}, Expected(2))),
            ErrorCode::PreconditionFailed);
  EXPECT_EQ(code_of(describe(
                a_, key_, [](auto& is) { is.description = "y"; }, Expected(1, 4))),
            ErrorCode::PreconditionFailed);
  EXPECT_EQ(code_of(store().remove(a_, key_, Expected(1, 0), {})), ErrorCode::PreconditionFailed);
  EXPECT_EQ(store().metadata(a_, key_).value().description.description, "x");
  EXPECT_EQ(latest(a_, key_), 1u);

  EXPECT_EQ(put_described(
                a_, key_, [](auto&) {}, Expected(1, 3))
                .value()
                .revision,
            0u);
  EXPECT_EQ(put(a_, key_, 2).value().version, 3u) << "the version alone may be named";
}

// ---- descriptions ----

TEST_P(CredentialStoreSuite, KeepsWhatIsSaidOfACredential) {
  const auto all = [](Description& is) {
    is.type = "database_url";
    is.max_versions = 7;
    is.cas_required = true;
    is.description = "line one\nline \"two\" \xC3\xA9 \\";
    is.labels = {{"team", "web"}, {"a/b", "{}'\""}};
    is.metadata = {{"any name", "any text \xF0\x9F\x94\x91"}};
    is.rotation_due_at = kNow;
  };
  Description expected;
  all(expected);
  ASSERT_TRUE(put(a_, key_).ok());
  EXPECT_EQ(store().metadata(a_, key_).value().description, Description());
  const auto described = describe(a_, key_, all);
  ASSERT_TRUE(described.ok()) << described.error().diagnostic;
  EXPECT_EQ(described.value().description, expected);
  EXPECT_EQ(described.value().version, 1u);
  EXPECT_EQ(store().metadata(a_, key_).value().description, expected);
  EXPECT_EQ(store().history(a_, key_).value().metadata.description, expected);
  EXPECT_EQ(store().list(a_, std::nullopt, "", 1).value().items[0].description, expected);
  // A write that says nothing leaves it.
  EXPECT_EQ(put(a_, key_, 1).value().description, expected);
  EXPECT_EQ(store().metadata(a_, key_).value().description, expected);
  EXPECT_EQ(audited(a_, "credential.describe"), 1u);

  ASSERT_TRUE(remove(a_, key_).ok());
  EXPECT_EQ(put(a_, key_).value().description, Description()) << "it goes with the credential";
  EXPECT_EQ(store().metadata(a_, key_).value().description, Description());
}

TEST_P(CredentialStoreSuite, RefusesDescriptionsBeyondTheirBounds) {
  ASSERT_TRUE(put(a_, key_).ok());
  const auto many = [](std::size_t count) {
    vault::Texts texts;
    for (std::size_t i = 0; i < count; ++i) texts.emplace("n" + std::to_string(i), "t");
    return texts;
  };
  EXPECT_TRUE(describe(a_, key_, [&](auto& is) {
                is.labels = many(31);
                is.labels[std::string(63, 'l')] = std::string(200, 't');
                is.metadata = many(63);
                is.metadata[std::string(128, 'm')] = std::string(512, 't');
                is.description = std::string(1000, 'd');
              }).ok());
  const auto before = store().metadata(a_, key_).value();
  const std::function<void(Description&)> edits[] = {
      [&](auto& is) { is.labels = many(33); },
      [&](auto& is) { is.metadata = many(65); },
      [&](auto& is) {
        is.labels = {{"", "x"}};
      },
      [&](auto& is) {
        is.labels = {{"-a", "x"}};
      },
      [&](auto& is) {
        is.labels = {{"a b", "x"}};
      },
      [&](auto& is) {
        is.labels = {{"a", "x,y"}};
      },
      [&](auto& is) {
        is.labels = {{"a", "x\ny"}};
      },
      [&](auto& is) {
        is.labels = {{std::string(64, 'l'), "x"}};
      },
      [&](auto& is) {
        is.labels = {{"a", std::string(201, 't')}};
      },
      [&](auto& is) {
        is.metadata = {{"", "x"}};
      },
      [&](auto& is) {
        is.metadata = {{std::string("a\0b", 3), "x"}};
      },
      [&](auto& is) {
        is.metadata = {{"a", std::string("a\0b", 3)}};
      },
      [&](auto& is) {
        is.metadata = {{std::string(129, 'm'), "x"}};
      },
      [&](auto& is) {
        is.metadata = {{"a", std::string(513, 't')}};
      },
      [&](auto& is) { is.description = std::string(1001, 'd'); },
      [&](auto& is) { is.description = "\x1b[2J"; },
  };
  int number = 0;
  for (const auto& edit : edits) {
    ++number;
    EXPECT_FALSE(describe(a_, key_, edit).ok()) << number;
    EXPECT_FALSE(put_described(a_, key_, edit).ok()) << number;
  }
  const auto after = store().metadata(a_, key_).value();
  EXPECT_EQ(after.description, before.description);
  EXPECT_EQ(after.version, before.version);
  EXPECT_EQ(after.revision, before.revision);
  EXPECT_EQ(audited(a_, "credential.describe"), 1u);
}

TEST_P(CredentialStoreSuite, AnEditThatFailsChangesNothing) {
  ASSERT_TRUE(put(a_, key_).ok());
  const auto failing = [](Description& is) -> Status {
    is.description = "half done";
    return fail(ErrorCode::Conflict, "no");
  };
  EXPECT_EQ(code_of(store().describe(a_, key_, std::nullopt, failing, {})), ErrorCode::Conflict);
  const auto never = [](std::uint32_t) -> Result<vault::SealedVersion> {
    ADD_FAILURE() << "sealed for nothing";
    return fail(ErrorCode::Internal, "");
  };
  EXPECT_EQ(code_of(store().put(a_, key_, std::nullopt, never, failing, {})), ErrorCode::Conflict);
  EXPECT_EQ(store().metadata(a_, key_).value().description.description, "");
  EXPECT_EQ(latest(a_, key_), 1u);
  EXPECT_EQ(put(a_, key_).value().version, 2u);
}

// ---- uses ----

TEST_P(CredentialStoreSuite, NotesWhenACredentialWasUsed) {
  ASSERT_TRUE(put(a_, key_).ok());
  EXPECT_EQ(store().metadata(a_, key_).value().last_used_at, std::nullopt);
  const auto note = [&](const TenantId& tenant, const Key& key, std::chrono::seconds after) {
    const std::vector<vault::CredentialStore::Use> uses{{key, kNow + after}};
    return store().note_uses(tenant, uses);
  };
  using std::chrono::seconds;
  ASSERT_TRUE(note(a_, key_, seconds(10)).ok());
  EXPECT_EQ(store().metadata(a_, key_).value().last_used_at, kNow + seconds(10));
  ASSERT_TRUE(note(a_, key_, seconds(5)).ok());
  EXPECT_EQ(store().metadata(a_, key_).value().last_used_at, kNow + seconds(10)) << "never back";
  EXPECT_EQ(store().list(a_, std::nullopt, "", 10).value().items[0].last_used_at,
            kNow + seconds(10));
  EXPECT_EQ(store().metadata(a_, key_).value().revision, 0u);
  // A new version is the same credential; one that was removed is another.
  EXPECT_EQ(put(a_, key_).value().last_used_at, kNow + seconds(10));
  ASSERT_TRUE(remove(a_, key_).ok());
  ASSERT_TRUE(note(a_, key_, seconds(20)).ok());
  EXPECT_EQ(put(a_, key_).value().last_used_at, std::nullopt);
  EXPECT_EQ(store().metadata(a_, key_).value().last_used_at, std::nullopt);
  // Nor is a use that was noted late the other's.
  const auto stored_at = store().metadata(a_, key_).value().created_at - kNow;
  ASSERT_TRUE(note(a_, key_, stored_at - seconds(1)).ok());
  EXPECT_EQ(store().metadata(a_, key_).value().last_used_at, std::nullopt);
  ASSERT_TRUE(note(a_, key_, stored_at).ok());
  EXPECT_EQ(store().metadata(a_, key_).value().last_used_at, kNow + stored_at);
}

TEST_P(CredentialStoreSuite, NotesManyUsesAndPassesOverWhatIsGone) {
  std::vector<vault::CredentialStore::Use> uses;
  for (const char* name : {"z", "a", "gone"}) {
    uses.push_back({key(user("al\"ice"), name), kNow});
  }
  ASSERT_TRUE(put(a_, uses[0].key).ok());
  ASSERT_TRUE(put(a_, uses[1].key).ok());
  ASSERT_TRUE(put(b_, uses[1].key).ok());
  ASSERT_TRUE(store().note_uses(a_, uses).ok());
  EXPECT_EQ(store().metadata(a_, uses[0].key).value().last_used_at, kNow);
  EXPECT_EQ(store().metadata(a_, uses[1].key).value().last_used_at, kNow);
  EXPECT_EQ(store().metadata(b_, uses[1].key).value().last_used_at, std::nullopt);
  EXPECT_TRUE(store().note_uses(a_, {}).ok());
  EXPECT_TRUE(store().note_uses(TenantId("no-such-tenant"), uses).ok());
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
  EXPECT_EQ(code_of(store().version(unknown, key_, 1)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(store().history(unknown, key_)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(change(unknown, key_, Change::Destroy)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(describe(unknown, key_, [](auto&) {})), ErrorCode::NotFound);
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
  EXPECT_EQ(code_of(store().version(b_, key_, 1)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(store().history(b_, key_)), ErrorCode::NotFound);
  for (const auto how : {Change::Delete, Change::Undelete, Change::Destroy}) {
    EXPECT_EQ(code_of(change(b_, key_, how)), ErrorCode::NotFound);
    EXPECT_EQ(code_of(change(b_, key_, how, {1}, 1)), ErrorCode::NotFound);
  }
  EXPECT_EQ(code_of(describe(b_, key_, [](auto& is) { is.description = "b"; })),
            ErrorCode::NotFound);
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
    EXPECT_EQ(code_of(store().version(a_, other, 1)), ErrorCode::NotFound);
    EXPECT_EQ(code_of(store().history(a_, other)), ErrorCode::NotFound);
    EXPECT_EQ(code_of(change(a_, other, Change::Destroy)), ErrorCode::NotFound);
    EXPECT_EQ(code_of(describe(a_, other, [](auto& is) { is.description = "x"; })),
              ErrorCode::NotFound);
    const std::vector<vault::CredentialStore::Use> use{{other, kNow}};
    EXPECT_TRUE(store().note_uses(a_, use).ok());
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
  const auto untouched = store().metadata(a_, key(owners[0])).value();
  EXPECT_EQ(untouched.revision, 0u);
  EXPECT_EQ(untouched.last_used_at, std::nullopt);
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

TEST_P(CredentialStoreSuite, ListsWhatPassesTheFilter) {
  const auto add = [&](const char* name, const std::function<void(Description&)>& edit) {
    ASSERT_TRUE(put_described(a_, key(user("alice"), name), edit).ok());
  };
  add("a", [](auto& is) { is.labels = {{"team", "web"}, {"env", "prod"}}; });
  add("b", [](auto& is) {
    is.labels = {{"team", "web"}};
    is.rotation_due_at = kNow;
  });
  add("c", [](auto& is) {
    is.type = "basic";
    is.rotation_due_at = kNow + std::chrono::seconds(1);
  });
  add("d", [](auto& is) { is.rotation_due_at = kNow; });
  ASSERT_TRUE(change(a_, key(user("alice"), "d"), Change::Delete).ok());
  ASSERT_TRUE(put_described(a_, key(Owner::tenant(), "a"), [](auto& is) {
                is.labels = {{"team", "web"}};
              }).ok());
  ASSERT_TRUE(put_described(b_, key(user("alice"), "e"), [](auto& is) {
                is.labels = {{"team", "web"}};
                is.rotation_due_at = kNow;
              }).ok());

  using Filter = vault::CredentialStore::Filter;
  const auto names = [&](const std::function<void(Filter&)>& narrow) {
    Filter filter(user("alice"));
    narrow(filter);
    std::string out;
    std::string cursor;
    do {  // a page at a time, so that the filter holds for all of them
      const auto page = store().list(a_, filter, cursor, 1);
      EXPECT_TRUE(page.ok());
      if (!page.ok()) break;
      for (const auto& item : page.value().items) out += item.key.name.str();
      cursor = page.value().next;
    } while (!cursor.empty());
    return out;
  };
  EXPECT_EQ(names([](auto&) {}), "abcd");
  EXPECT_EQ(names([](auto& f) { f.labels = {{"team", "web"}}; }), "ab");
  EXPECT_EQ(names([](auto& f) { f.labels = {{"team", "web"}, {"env", "prod"}}; }), "a");
  EXPECT_EQ(names([](auto& f) { f.labels = {{"team", "we"}}; }), "");
  EXPECT_EQ(names([](auto& f) { f.labels = {{"Team", "web"}}; }), "");
  EXPECT_EQ(names([](auto& f) { f.type = "basic"; }), "c");
  EXPECT_EQ(names([](auto& f) { f.type = "generic"; }), "abd");
  EXPECT_EQ(names([](auto& f) { f.type = "' OR '1'='1"; }), "");
  EXPECT_EQ(names([](auto& f) { f.due_by = kNow; }), "b");
  EXPECT_EQ(names([](auto& f) { f.due_by = kNow + std::chrono::seconds(1); }), "bc");
  EXPECT_EQ(names([](auto& f) {
              f.labels = {{"team", "web"}};
              f.due_by = kNow;
            }),
            "b");
  EXPECT_EQ(names([](auto& f) {
              f.owner.reset();
              f.labels = {{"team", "web"}};
            }),
            "aab");
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
