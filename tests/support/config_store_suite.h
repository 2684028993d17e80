#pragma once

// The contract of policy::ConfigStore as tests. To hold an implementation to it:
//
//   namespace postern::test {
//   INSTANTIATE_TEST_SUITE_P(Postgres, ConfigStoreSuite,
//       ::testing::Values(ConfigStoreFactory{[] { return std::make_unique<Harness>(); }}));
//   }

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "audit/event.h"
#include "audit/log.h"
#include "core/ids.h"
#include "policy/config_store.h"
#include "support/code_of.h"
#include "vault/keyring.h"

namespace postern::test {

class ConfigStoreHarness {
 public:
  virtual ~ConfigStoreHarness() = default;
  virtual policy::ConfigStore& store() = 0;
  virtual audit::AuditLog& log() = 0;     ///< where the store's events go
  virtual vault::Keyring& keyring() = 0;  ///< over the store's KEKs
};

struct ConfigStoreFactory {
  std::function<std::unique_ptr<ConfigStoreHarness>()> make;
  friend void PrintTo(const ConfigStoreFactory&, std::ostream* out) { *out << "config store"; }
};

class ConfigStoreSuite : public ::testing::TestWithParam<ConfigStoreFactory> {
 protected:
  using Change = policy::ConfigChange;
  using Kind = policy::Kind;

  void SetUp() override {
    ASSERT_TRUE(create(a_).ok());
    ASSERT_TRUE(create(b_).ok());
  }

  policy::ConfigStore& store() { return harness_->store(); }

  static sys_seconds time(int offset = 0) {
    return sys_seconds(std::chrono::seconds(1'800'000'000 + offset));
  }
  static crypto::Hash256 hash(int number) {
    crypto::Hash256 out{};
    out[0] = static_cast<std::byte>(number);
    out[31] = std::byte{0xFF};
    return out;
  }

  Change creation(const TenantId& tenant) {
    Change change;
    auto kek = harness_->keyring().create(tenant, KekVersion{1});
    auto chain_key = harness_->keyring().chain_key_under(kek, tenant);
    EXPECT_TRUE(chain_key.ok());
    change.create.emplace(Change::Create{std::move(kek), std::move(chain_key).value()});
    return change;
  }
  Result<std::uint64_t> create(const TenantId& tenant) {
    return store().apply(tenant, creation(tenant), {});
  }

  std::vector<audit::Event> events(const TenantId& tenant, const std::string& action) {
    return {{tenant, time(), action, audit::Outcome::Allowed, "request-1", {}}};
  }
  Result<std::uint64_t> apply(const TenantId& tenant, const Change& change) {
    return store().apply(tenant, change, events(tenant, "config.apply"));
  }
  std::size_t audited(const TenantId& tenant, const std::string& action) {
    audit::Query query;
    query.action = action;
    const auto records = harness_->log().read(tenant, query);
    return records.ok() ? records.value().size() : 0;
  }

  policy::StoredTenant load(const TenantId& tenant) {
    auto loaded = store().load(tenant);
    EXPECT_TRUE(loaded.ok()) << loaded.error().detail;
    if (!loaded.ok()) throw std::runtime_error("load");
    return std::move(loaded).value();
  }
  std::vector<std::string> names(const TenantId& tenant) {
    std::vector<std::string> out;
    for (const auto& object : load(tenant).objects) {
      out.push_back(std::string(policy::to_string(object.kind)) + "/" + object.name + "=" +
                    object.spec + "@" + std::to_string(object.revision));
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  static Change putting(Kind kind, const std::string& name, const std::string& spec = "{}") {
    Change change;
    change.put.push_back({kind, name, spec, 0});
    return change;
  }
  static policy::StoredClientSecret secret(const std::string& client, const std::string& id) {
    return {ClientId(client), id, hash(1), time(60)};
  }
  static policy::StoredAdminToken token(const std::string& id) {
    return {id, "for " + id, hash(2), time(), std::nullopt};
  }
  static policy::StoredInitialToken initial_token(const std::string& id, std::uint32_t max_uses) {
    return {id, "for " + id, hash(3), time(), time(60), max_uses, 0};
  }
  policy::StoredSigningKey signing_key(const TenantId& tenant, const std::string& kid) {
    auto wrapped = harness_->keyring().wrap_private(tenant, "token", kid,
                                                    PrivateKey(SecureBuffer::copy_of("private")));
    EXPECT_TRUE(wrapped.ok());
    return {kid,
            "ES256",
            R"({"kty":"EC"})",
            policy::SigningKeyState::Active,
            std::move(wrapped).value(),
            time(),
            std::nullopt};
  }

  std::unique_ptr<ConfigStoreHarness> harness_ = GetParam().make();
  const TenantId a_{"acme"};
  const TenantId b_{"beta"};
  const TenantId unknown_{"no-such-tenant"};
  using Names = std::vector<std::string>;
};

// ---- creating ----

TEST_P(ConfigStoreSuite, ATenantBeginsAtEpochOne) {
  const TenantId fresh("fresh");
  auto change = creation(fresh);
  change.display_name = "Fresh \xC3\xA9 \"quoted\"";
  change.enabled = false;
  change.settings = R"({"a":1})";
  change.put.push_back({Kind::Client, "gateway", "{}", 0});
  const auto created = apply(fresh, change);
  ASSERT_TRUE(created.ok()) << created.error().detail;
  EXPECT_EQ(created.value(), 1u);

  const auto loaded = load(fresh);
  EXPECT_EQ(loaded.row.tenant, fresh);
  EXPECT_EQ(loaded.row.display_name, *change.display_name);
  EXPECT_FALSE(loaded.row.enabled);
  EXPECT_EQ(loaded.row.settings, R"({"a":1})");
  EXPECT_EQ(loaded.row.epoch, 1u);
  EXPECT_GT(loaded.row.created_at, sys_seconds(std::chrono::seconds(1'500'000'000)));
  EXPECT_EQ(names(fresh), (Names{"client/gateway={}@1"}));
  EXPECT_EQ(audited(fresh, "config.apply"), 1u);
  EXPECT_TRUE(harness_->log().verify(fresh).value().intact);
}

TEST_P(ConfigStoreSuite, ATenantIsEnabledAndHasNoSettingsUnlessSaid) {
  const auto loaded = load(a_);
  EXPECT_TRUE(loaded.row.enabled);
  EXPECT_EQ(loaded.row.settings, "{}");
  EXPECT_EQ(loaded.row.display_name, "");
  EXPECT_TRUE(loaded.objects.empty());
  EXPECT_TRUE(loaded.signing_keys.empty());
}

TEST_P(ConfigStoreSuite, ATenantIsCreatedOnce) {
  auto again = creation(a_);
  again.display_name = "impostor";
  EXPECT_EQ(code_of(apply(a_, again)), ErrorCode::Conflict);
  EXPECT_EQ(load(a_).row.display_name, "");
  EXPECT_EQ(audited(a_, ""), 0u);
  // And the first one's key still is the key.
  EXPECT_TRUE(harness_->keyring().current(a_).ok());
}

TEST_P(ConfigStoreSuite, OfConcurrentCreationsOneWins) {
  const TenantId fresh("fresh");
  std::vector<Change> changes;
  for (int i = 0; i < 4; ++i) changes.push_back(creation(fresh));
  std::atomic<int> won = 0, lost = 0;
  std::vector<std::thread> threads;
  for (const auto& change : changes) {
    threads.emplace_back([&] {
      const auto created = apply(fresh, change);
      if (created.ok()) ++won;
      if (code_of(created) == ErrorCode::Conflict) ++lost;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(won, 1);
  EXPECT_EQ(lost, 3);
  EXPECT_EQ(audited(fresh, ""), 1u);
}

TEST_P(ConfigStoreSuite, ATenantWithItsFirstSigningKeyIsOneChange) {
  const TenantId fresh("fresh");
  auto change = creation(fresh);
  auto wrapped = harness_->keyring().wrap_private_under(
      change.create->kek, fresh, "token", "k1", PrivateKey(SecureBuffer::copy_of("private")));
  ASSERT_TRUE(wrapped.ok());
  change.add_signing_keys.push_back({"k1", "ES256", "{}", policy::SigningKeyState::Active,
                                     wrapped.value(), time(), std::nullopt});
  ASSERT_TRUE(apply(fresh, change).ok());
  const auto stored = load(fresh).signing_keys.at(0);
  EXPECT_EQ(stored.wrapped.wrapped, wrapped.value().wrapped);
  EXPECT_TRUE(harness_->keyring().unwrap_private(fresh, "token", "k1", stored.wrapped).ok());
}

// ---- changing ----

TEST_P(ConfigStoreSuite, AnUnknownTenantCannotBeChangedOrRead) {
  EXPECT_EQ(code_of(apply(unknown_, putting(Kind::Role, "r"))), ErrorCode::NotFound);
  EXPECT_EQ(code_of(store().load(unknown_)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(store().remove(unknown_, {})), ErrorCode::NotFound);
}

TEST_P(ConfigStoreSuite, EveryChangeRaisesTheEpochAndMarksWhatItTouched) {
  EXPECT_EQ(apply(a_, putting(Kind::Backend, "files", R"({"v":1})")).value(), 2u);
  EXPECT_EQ(apply(a_, putting(Kind::Issuer, "idp")).value(), 3u);
  EXPECT_EQ(apply(a_, putting(Kind::Backend, "files", R"({"v":2})")).value(), 4u);
  EXPECT_EQ(names(a_), (Names{R"(backend/files={"v":2}@4)", "issuer/idp={}@3"}));
  EXPECT_EQ(load(a_).row.epoch, 4u);
  EXPECT_EQ(load(b_).row.epoch, 1u);
}

TEST_P(ConfigStoreSuite, ChangesOnlyWhatIsSaid) {
  Change first;
  first.display_name = "Acme";
  first.settings = R"({"x":true})";
  ASSERT_TRUE(apply(a_, first).ok());
  Change second;
  second.enabled = false;
  ASSERT_TRUE(apply(a_, second).ok());
  const auto row = load(a_).row;
  EXPECT_EQ(row.display_name, "Acme");
  EXPECT_EQ(row.settings, R"({"x":true})");
  EXPECT_FALSE(row.enabled);

  Change third;
  third.display_name = "";
  ASSERT_TRUE(apply(a_, third).ok());
  EXPECT_EQ(load(a_).row.display_name, "");
  EXPECT_FALSE(load(a_).row.enabled);
}

TEST_P(ConfigStoreSuite, OneNameMayBeOfSeveralKinds) {
  for (const auto kind : {Kind::Issuer, Kind::Client, Kind::Backend, Kind::Role, Kind::Binding}) {
    ASSERT_TRUE(apply(a_, putting(kind, "same")).ok());
  }
  EXPECT_EQ(load(a_).objects.size(), 5u);
}

TEST_P(ConfigStoreSuite, RemovesWhatIsNamed) {
  ASSERT_TRUE(apply(a_, putting(Kind::Role, "reader")).ok());
  ASSERT_TRUE(apply(a_, putting(Kind::Backend, "reader")).ok());
  Change change;
  change.remove.emplace_back(Kind::Role, "reader");
  ASSERT_TRUE(apply(a_, change).ok());
  EXPECT_EQ(names(a_), (Names{"backend/reader={}@3"}));
}

TEST_P(ConfigStoreSuite, AChangeWithOneBadPartChangesNothing) {
  ASSERT_TRUE(apply(a_, putting(Kind::Role, "kept")).ok());
  auto change = putting(Kind::Role, "new");
  change.display_name = "changed";
  change.remove.emplace_back(Kind::Role, "not there");
  EXPECT_EQ(code_of(apply(a_, change)), ErrorCode::NotFound);
  EXPECT_EQ(names(a_), (Names{"role/kept={}@2"}));
  EXPECT_EQ(load(a_).row.display_name, "");
  EXPECT_EQ(load(a_).row.epoch, 2u);
  EXPECT_EQ(audited(a_, ""), 1u);
}

TEST_P(ConfigStoreSuite, RefusesANulInAName) {
  EXPECT_EQ(code_of(apply(a_, putting(Kind::Role, std::string("ad\0min", 6)))),
            ErrorCode::MalformedRequest);
  EXPECT_TRUE(load(a_).objects.empty());
}

TEST_P(ConfigStoreSuite, KeepsTextsAsTheyAre) {
  const std::string odd = R"({"k":"\\ ' \" ; -- $1 %s )"
                          "\xF0\x9F\x94\x91\"}";
  ASSERT_TRUE(apply(a_, putting(Kind::Binding, "o'dd \"name\"; --", odd)).ok());
  const auto object = load(a_).objects.at(0);
  EXPECT_EQ(object.name, "o'dd \"name\"; --");
  EXPECT_EQ(object.spec, odd);
}

// ---- expected_epoch ----

TEST_P(ConfigStoreSuite, ChangesOnlyTheExpectedEpoch) {
  auto change = putting(Kind::Role, "r");
  for (const std::uint64_t wrong : {0u, 2u, 99u}) {
    change.expected_epoch = wrong;
    EXPECT_EQ(code_of(apply(a_, change)), ErrorCode::PreconditionFailed) << wrong;
  }
  EXPECT_TRUE(load(a_).objects.empty());
  EXPECT_EQ(load(a_).row.epoch, 1u);
  EXPECT_EQ(audited(a_, ""), 0u);
  change.expected_epoch = 1;
  EXPECT_EQ(apply(a_, change).value(), 2u);
}

TEST_P(ConfigStoreSuite, OfConcurrentChangesOfOneEpochOneWins) {
  std::atomic<int> won = 0, lost = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      auto change = putting(Kind::Role, "r" + std::to_string(i));
      change.expected_epoch = 1;
      const auto applied = apply(a_, change);
      if (applied.ok()) ++won;
      if (code_of(applied) == ErrorCode::PreconditionFailed) ++lost;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(won, 1);
  EXPECT_EQ(lost, 3);
  EXPECT_EQ(load(a_).objects.size(), 1u);
  EXPECT_EQ(audited(a_, ""), 1u);
}

TEST_P(ConfigStoreSuite, ConcurrentChangesAllHappen) {
  constexpr int kThreads = 4, kEach = 5;
  std::atomic<int> done = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const auto name = "r" + std::to_string(t) + "-" + std::to_string(i);
        if (apply(a_, putting(Kind::Role, name)).ok()) ++done;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(done, kThreads * kEach);
  EXPECT_EQ(load(a_).row.epoch, 1u + kThreads * kEach);
  EXPECT_EQ(load(a_).objects.size(), static_cast<std::size_t>(kThreads * kEach));
  EXPECT_TRUE(harness_->log().verify(a_).value().intact);
}

// ---- secrets, tokens and keys ----

TEST_P(ConfigStoreSuite, AClientsSecretsGoWithTheClient) {
  auto change = putting(Kind::Client, "gateway");
  change.put.push_back({Kind::Client, "other", "{}", 0});
  change.add_client_secrets = {secret("gateway", "s1"), secret("gateway", "s2"),
                               secret("other", "s1")};
  ASSERT_TRUE(apply(a_, change).ok());
  ASSERT_EQ(load(a_).client_secrets.size(), 3u);
  const auto stored = load(a_).client_secrets.at(0);
  EXPECT_EQ(stored.hash, hash(1));
  EXPECT_EQ(stored.expires_at, time(60));

  Change removal;
  removal.remove.emplace_back(Kind::Client, "gateway");
  ASSERT_TRUE(apply(a_, removal).ok());
  const auto left = load(a_).client_secrets;
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].client, ClientId("other"));
}

TEST_P(ConfigStoreSuite, ReplacingAClientKeepsItsSecrets) {
  auto change = putting(Kind::Client, "gateway");
  change.add_client_secrets = {secret("gateway", "s1")};
  ASSERT_TRUE(apply(a_, change).ok());
  ASSERT_TRUE(apply(a_, putting(Kind::Client, "gateway", R"({"v":2})")).ok());
  EXPECT_EQ(load(a_).client_secrets.size(), 1u);
}

TEST_P(ConfigStoreSuite, ASecretNeedsItsClient) {
  Change change = putting(Kind::Backend, "gateway");  // of the name, but no client
  change.add_client_secrets = {secret("gateway", "s1")};
  EXPECT_EQ(code_of(apply(a_, change)), ErrorCode::NotFound);
  ASSERT_TRUE(apply(b_, putting(Kind::Client, "gateway")).ok());  // another tenant's
  EXPECT_EQ(code_of(apply(a_, change)), ErrorCode::NotFound);
  EXPECT_TRUE(load(a_).client_secrets.empty());
  EXPECT_TRUE(load(a_).objects.empty());
}

TEST_P(ConfigStoreSuite, RemovesOneClientSecret) {
  auto change = putting(Kind::Client, "gateway");
  change.add_client_secrets = {secret("gateway", "s1"), secret("gateway", "s2")};
  ASSERT_TRUE(apply(a_, change).ok());
  Change removal;
  removal.remove_client_secrets.emplace_back(ClientId("gateway"), "s1");
  ASSERT_TRUE(apply(a_, removal).ok());
  EXPECT_EQ(load(a_).client_secrets.size(), 1u);
  EXPECT_EQ(code_of(apply(a_, removal)), ErrorCode::NotFound);
}

TEST_P(ConfigStoreSuite, AdminTokensComeAndGo) {
  Change change;
  change.add_admin_tokens = {token("t1"), token("t2")};
  ASSERT_TRUE(apply(a_, change).ok());
  const auto tokens = load(a_).admin_tokens;
  ASSERT_EQ(tokens.size(), 2u);
  EXPECT_EQ(tokens[0].description, "for t1");
  EXPECT_EQ(tokens[0].hash, hash(2));
  EXPECT_EQ(tokens[0].created_at, time());
  EXPECT_EQ(tokens[0].expires_at, std::nullopt);
  EXPECT_EQ(code_of(apply(a_, change)), ErrorCode::Conflict);

  Change removal;
  removal.remove_admin_tokens = {"t1"};
  ASSERT_TRUE(apply(a_, removal).ok());
  EXPECT_EQ(code_of(apply(a_, removal)), ErrorCode::NotFound);
  EXPECT_EQ(load(a_).admin_tokens.size(), 1u);
}

TEST_P(ConfigStoreSuite, SigningKeysRetire) {
  Change change;
  change.add_signing_keys = {signing_key(a_, "k1"), signing_key(a_, "k2")};
  ASSERT_TRUE(apply(a_, change).ok());
  EXPECT_EQ(code_of(apply(a_, change)), ErrorCode::Conflict);

  Change retiring;
  retiring.set_signing_key_state = {{"k1", policy::SigningKeyState::Retired}};
  ASSERT_TRUE(apply(a_, retiring).ok());
  const auto keys = load(a_).signing_keys;
  ASSERT_EQ(keys.size(), 2u);
  const auto& retired = keys[0].kid == "k1" ? keys[0] : keys[1];
  const auto& active = keys[0].kid == "k1" ? keys[1] : keys[0];
  EXPECT_EQ(retired.state, policy::SigningKeyState::Retired);
  EXPECT_TRUE(retired.retired_at.has_value());
  EXPECT_EQ(active.state, policy::SigningKeyState::Active);
  EXPECT_FALSE(active.retired_at.has_value());
  EXPECT_TRUE(harness_->keyring().unwrap_private(a_, "token", "k2", active.wrapped).ok());

  retiring.set_signing_key_state = {{"k3", policy::SigningKeyState::Retired}};
  EXPECT_EQ(code_of(apply(a_, retiring)), ErrorCode::NotFound);
}

TEST_P(ConfigStoreSuite, SigningKeysWaitAndGo) {
  Change change;
  change.add_signing_keys = {signing_key(a_, "k1"), signing_key(a_, "k2")};
  change.add_signing_keys[1].state = policy::SigningKeyState::Pending;
  change.add_signing_keys[1].active_from = time(900);
  ASSERT_TRUE(apply(a_, change).ok());
  for (const auto& key : load(a_).signing_keys) {
    const bool waits = key.kid == "k2";
    EXPECT_EQ(key.active_from, waits ? std::optional(time(900)) : std::nullopt);
    EXPECT_EQ(key.state == policy::SigningKeyState::Pending, waits);
  }

  Change removal;
  removal.remove_signing_keys = {"k1"};
  EXPECT_EQ(code_of(apply(b_, removal)), ErrorCode::NotFound) << "another tenant's";
  ASSERT_TRUE(apply(a_, removal).ok());
  EXPECT_EQ(code_of(apply(a_, removal)), ErrorCode::NotFound);
  ASSERT_EQ(load(a_).signing_keys.size(), 1u);
  EXPECT_EQ(load(a_).signing_keys[0].kid, "k2");
}

TEST_P(ConfigStoreSuite, InitialTokensAreUsedUpAndGo) {
  Change change;
  change.add_initial_tokens = {initial_token("t1", 2), initial_token("t2", 1)};
  ASSERT_TRUE(apply(a_, change).ok());
  EXPECT_EQ(code_of(apply(a_, change)), ErrorCode::Conflict);

  Change use;
  use.use_initial_tokens = {"t1"};
  EXPECT_EQ(code_of(apply(b_, use)), ErrorCode::NotFound) << "another tenant's";
  ASSERT_TRUE(apply(a_, use).ok());
  ASSERT_TRUE(apply(a_, use).ok());
  use.put.push_back({Kind::Client, "one-too-many", "{}", 0});
  EXPECT_EQ(code_of(apply(a_, use)), ErrorCode::NotFound);
  EXPECT_TRUE(load(a_).objects.empty()) << "nothing of it happened";
  const auto tokens = load(a_).initial_tokens;
  ASSERT_EQ(tokens.size(), 2u);
  const auto& used = tokens[0].token_id == "t1" ? tokens[0] : tokens[1];
  EXPECT_EQ(used.uses, 2u);
  EXPECT_EQ(used.max_uses, 2u);
  EXPECT_EQ(used.description, "for t1");
  EXPECT_EQ(used.hash, hash(3));
  EXPECT_EQ(used.created_at, time());
  EXPECT_EQ(used.expires_at, time(60));

  Change removal;
  removal.remove_initial_tokens = {"t1"};
  EXPECT_EQ(code_of(apply(b_, removal)), ErrorCode::NotFound) << "another tenant's";
  ASSERT_TRUE(apply(a_, removal).ok());
  EXPECT_EQ(code_of(apply(a_, removal)), ErrorCode::NotFound);
  EXPECT_EQ(load(a_).initial_tokens.size(), 1u);
  EXPECT_TRUE(load(b_).initial_tokens.empty());
}

// ---- a change and its audit events are one ----

TEST_P(ConfigStoreSuite, AChangeCommitsItsEvents) {
  ASSERT_TRUE(apply(a_, putting(Kind::Role, "r")).ok());
  EXPECT_EQ(audited(a_, "config.apply"), 1u);
  EXPECT_EQ(audited(b_, ""), 0u);
  EXPECT_TRUE(harness_->log().verify(a_).value().intact);
}

TEST_P(ConfigStoreSuite, AnEventOfAnotherTenantIsABug) {
  EXPECT_THROW(
      static_cast<void>(store().apply(a_, putting(Kind::Role, "r"), events(b_, "config.apply"))),
      std::logic_error);
  EXPECT_TRUE(load(a_).objects.empty());
  EXPECT_EQ(audited(b_, ""), 0u);
}

// ---- tenants do not see one another ----

TEST_P(ConfigStoreSuite, AnotherTenantsObjectsDoNotExist) {
  auto change = putting(Kind::Client, "gateway");
  change.add_client_secrets = {secret("gateway", "s1")};
  change.add_admin_tokens = {token("t1")};
  change.add_signing_keys = {signing_key(a_, "k1")};
  ASSERT_TRUE(apply(a_, change).ok());

  const auto other = load(b_);
  EXPECT_TRUE(other.objects.empty());
  EXPECT_TRUE(other.client_secrets.empty());
  EXPECT_TRUE(other.admin_tokens.empty());
  EXPECT_TRUE(other.signing_keys.empty());

  Change object, client_secret, admin_token, key;
  object.remove.emplace_back(Kind::Client, "gateway");
  client_secret.remove_client_secrets.emplace_back(ClientId("gateway"), "s1");
  admin_token.remove_admin_tokens = {"t1"};
  key.set_signing_key_state = {{"k1", policy::SigningKeyState::Retired}};
  for (const auto* attempt : {&object, &client_secret, &admin_token, &key}) {
    EXPECT_EQ(code_of(apply(b_, *attempt)), ErrorCode::NotFound);
  }
  const auto own = load(a_);
  EXPECT_EQ(own.objects.size(), 1u);
  EXPECT_EQ(own.client_secrets.size(), 1u);
  EXPECT_EQ(own.admin_tokens.size(), 1u);
  EXPECT_EQ(own.signing_keys.at(0).state, policy::SigningKeyState::Active);
}

// ---- the directory ----

TEST_P(ConfigStoreSuite, ListsTenantsInOrder) {
  for (const char* name : {"zeta", "a-1", "a1", "0"}) ASSERT_TRUE(create(TenantId(name)).ok());
  const Names expected{"0", "a-1", "a1", "acme", "beta", "zeta"};
  for (const std::uint32_t limit : {1u, 2u, 5u, 6u, 100u}) {
    Names found;
    std::string cursor;
    do {
      const auto page = store().tenants(cursor, limit);
      ASSERT_TRUE(page.ok());
      ASSERT_LE(page.value().items.size(), limit);
      for (const auto& row : page.value().items) found.push_back(row.tenant.str());
      cursor = page.value().next;
    } while (!cursor.empty() && found.size() < 100);
    EXPECT_EQ(found, expected) << "limit " << limit;
  }
}

TEST_P(ConfigStoreSuite, ListsEpochsAndNames) {
  Change change;
  change.display_name = "Acme";
  ASSERT_TRUE(apply(a_, change).ok());
  const auto page = store().tenants("", 10);
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page.value().items.at(0).display_name, "Acme");
  EXPECT_EQ(page.value().items.at(0).epoch, 2u);
  EXPECT_EQ(page.value().items.at(1).epoch, 1u);
}

TEST_P(ConfigStoreSuite, RefusesACursorThatIsNone) {
  for (const std::string cursor : {"-", "A", "' OR '1'='1", "a b", "\xFF"}) {
    EXPECT_EQ(code_of(store().tenants(cursor, 10)), ErrorCode::MalformedRequest) << cursor;
  }
}

// ---- removing ----

TEST_P(ConfigStoreSuite, ARemovedTenantIsGoneAndItsIdIsNotUsedAgain) {
  auto change = putting(Kind::Client, "gateway");
  change.add_client_secrets = {secret("gateway", "s1")};
  change.add_admin_tokens = {token("t1")};
  change.add_signing_keys = {signing_key(a_, "k1")};
  ASSERT_TRUE(apply(a_, change).ok());
  const auto removed = store().remove(a_, events(a_, "tenant.remove"));
  ASSERT_TRUE(removed.ok()) << removed.error().detail << removed.error().diagnostic;
  harness_->keyring().forget(a_);

  EXPECT_EQ(code_of(store().load(a_)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(harness_->keyring().current(a_)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(apply(a_, putting(Kind::Role, "r"))), ErrorCode::NotFound);
  EXPECT_EQ(code_of(store().remove(a_, {})), ErrorCode::NotFound);
  EXPECT_EQ(code_of(apply(a_, creation(a_))), ErrorCode::Conflict);
  EXPECT_TRUE(store().was_removed(a_).value());
  EXPECT_FALSE(store().was_removed(b_).value());
  EXPECT_FALSE(store().was_removed(unknown_).value());
  EXPECT_EQ(code_of(store().load(a_)), ErrorCode::NotFound);
  EXPECT_EQ(store().tenants("", 10).value().items.size(), 1u);

  // What was done stays known; nothing more can be done.
  EXPECT_EQ(audited(a_, "config.apply"), 1u);
  EXPECT_EQ(audited(a_, "tenant.remove"), 1u);
  EXPECT_EQ(code_of(harness_->log().append(events(a_, "token.exchange"))), ErrorCode::NotFound);
  EXPECT_EQ(load(b_).row.epoch, 1u);
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ConfigStoreSuite);

}  // namespace postern::test
