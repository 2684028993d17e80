// What a dump of the database opens, with the right root key and our own code, of a
// tenant whose key holder has a share; and how rows get under it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <stdexcept>
#include <string>
#include <vector>

#include "storage/postgres_rotation_store.h"
#include "support/code_of.h"
#include "support/postgres_stores.h"
#include "support/postgres_tools.h"
#include "support/sealed_besides.h"
#include "support/service_fixture.h"
#include "vault/envelope.h"
#include "vault/key_holder.h"
#include "vault/rotation.h"
#include "vault/row_mover.h"

namespace postern::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr int kCredentials = 7;
const SystemClock kClock;

vault::CredentialKey key_of(int number) {
  return {number % 3 == 0 ? Owner::tenant() : Owner::principal({"https://idp.example", "alice"}),
          CredentialName("credential-" + std::to_string(number))};
}

/// Every one of its bytes is this number.
HeldShare share(int number) {
  SecureBuffer bytes(32);
  std::fill(bytes.writable().begin(), bytes.writable().end(), static_cast<std::byte>(number));
  return HeldShare(std::move(bytes));
}

audit::Event event(const TenantId& tenant, const std::string& action) {
  return {tenant, kClock.now(), action, audit::Outcome::Allowed, "", {}};
}

std::string root_key_line() {
  const TempDirectory directory;
  const auto file = directory.path() / "root";
  EXPECT_TRUE(vault::RootKeys::create(file).ok());
  return read_text(file);
}

/// A replica, as the service puts it together.
struct Replica : StoreSet {
  Replica(const PostgresDatabase& server, const std::string& root_keys)
      : StoreSet(server.options(), vault::RootKeys::parse(root_keys).value()) {}

  void put(const TenantId& tenant, int number) {
    vault::Fields fields;
    fields.emplace("token", FieldValue(SecureBuffer::copy_of("value " + std::to_string(number))));
    const auto seal = [&](std::uint32_t version) {
      return envelope.seal(tenant, key_of(number), version, fields, kClock.now(), std::nullopt);
    };
    ASSERT_TRUE(credentials.put(tenant, key_of(number), std::nullopt, seal, {}).ok());
  }
  void add_signing_key(const TenantId& tenant) {
    auto wrapped = keyring.wrap_private(tenant, vault::kTokenSigning, "kid",
                                        PrivateKey(SecureBuffer::copy_of("signs tokens")));
    policy::ConfigChange change;
    change.add_signing_keys.push_back({"kid", "ES256", "{}", policy::SigningKeyState::Active,
                                       std::move(wrapped).value(), kClock.now(), std::nullopt});
    ASSERT_TRUE(config.apply(tenant, change, {}).ok());
  }
  Result<std::string> value(const TenantId& tenant, int number) {
    POSTERN_TRY(const auto sealed, credentials.latest(tenant, key_of(number)));
    POSTERN_TRY(const auto fields, envelope.open(tenant, key_of(number), sealed));
    return fields.at("token").expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  }
  /// How many of the tenant's stored values and signing keys open, as they are.
  int opened(const TenantId& tenant) {
    int count = 0;
    for (int i = 0; i < kCredentials; ++i) {
      const auto found = value(tenant, i);
      if (!found.ok()) continue;
      EXPECT_EQ(found.value(), "value " + std::to_string(i));
      ++count;
    }
    const auto stored = config.load(tenant);
    EXPECT_TRUE(stored.ok());
    for (const auto& key : stored.value().signing_keys) {
      count += keyring.unwrap_private(tenant, vault::kTokenSigning, key.kid, key.wrapped).ok();
    }
    return count;
  }
  /// What the watcher does when an epoch has moved.
  void hear_of(const TenantId& tenant) {
    keyring.forget(tenant);
    EXPECT_TRUE(!keyring.has_share(tenant) || keyring.seal_of(tenant).ok());
  }
  Status hold(const TenantId& tenant, int number, std::optional<int> present = std::nullopt) {
    auto record = event(tenant, "key_holder.hold");
    const auto old = present ? std::optional(share(*present)) : std::nullopt;
    return holder.hold(tenant, share(number), old ? &*old : nullptr, record);
  }
  Status release(const TenantId& tenant, int number) {
    auto record = event(tenant, "key_holder.release");
    return holder.release(tenant, share(number), record);
  }
  Status unseal(const TenantId& tenant, int number) {
    auto record = event(tenant, "key_holder.unseal");
    return holder.unseal(tenant, share(number), record);
  }
  std::optional<ErrorCode> seal(const TenantId& tenant) {
    auto record = event(tenant, "key_holder.seal");
    return code_of(holder.seal(tenant, record));
  }
  Result<vault::Rotation::Progress> rewrap(const TenantId& tenant) {
    return rotation.rewrap(tenant, [](const vault::Rotation::Progress&) {});
  }
  vault::Keyring::Seal seal_of(const TenantId& tenant) { return keyring.seal_of(tenant).value(); }

  vault::Envelope envelope{keyring};
  storage::PostgresRotationStore store{database, log};
  vault::Rotation rotation{store, keyring, kClock, {0, 3, {}, {}}};  // small batches
  vault::KeyHolder holder{store, keyring, log};
};

constexpr int kAll = kCredentials + 1;

class HeldShareInTheDatabase : public ::testing::Test {
 protected:
  HeldShareInTheDatabase() {
    for (const auto& tenant : {held_, other_}) {
      for (int i = 0; i < kCredentials; ++i) replica_.put(tenant, i);
      replica_.add_signing_key(tenant);
    }
  }

  /// Held and moved, as the service does it.
  void hold_all() {
    ASSERT_TRUE(replica_.hold(held_, 1).ok());
    const auto moved = replica_.rewrap(held_);
    ASSERT_TRUE(moved.ok());
    ASSERT_EQ(moved.value().left, 0u);
  }
  static pqxx::result run(const PostgresDatabase& database, const std::string& sql) {
    pqxx::connection connection(database.superuser());
    pqxx::nontransaction tx(connection);
    tx.exec("SET search_path = postern");
    return tx.exec(sql);
  }
  void expect_intact(const TenantId& tenant) {
    const auto verified = replica_.log.verify(tenant);
    ASSERT_TRUE(verified.ok());
    EXPECT_TRUE(verified.value().intact) << verified.value().problem;
  }
  std::size_t records(const TenantId& tenant, const std::string& action) {
    return replica_.log.read(tenant, {0, 1000, false, action}).value().size();
  }

  /// All rows of a database, as a backup has them.
  std::filesystem::path dump() {
    const auto file = directory_.path() / ("dump." + std::to_string(++dumps_));
    finish({postgres_tool("pg_dump"), "--data-only", "--disable-triggers", "--schema=postern",
            "--exclude-table=postern.schema_migration", "--file=" + file.string(),
            "--dbname=" + database_.superuser()});
    return file;
  }
  std::unique_ptr<PostgresDatabase> restored(const std::filesystem::path& dump) {
    auto other = std::make_unique<PostgresDatabase>();
    finish({postgres_tool("psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1",
            "--file=" + dump.string(), "--dbname=" + other->superuser()});
    return other;
  }

  const std::string root_key_ = root_key_line();
  TempDirectory directory_;
  PostgresDatabase database_;
  Replica replica_{database_, root_key_};
  const TenantId held_ = replica_.add_tenant();
  const TenantId other_ = replica_.add_tenant();

 private:
  void finish(const std::vector<std::string>& command) {
    const auto output = directory_.path() / "output";
    Process process(command, {}, output);
    const int status = process.wait();
    if (status != 0) throw std::runtime_error(read_text(output));
  }
  int dumps_ = 0;
};

// ---- what a dump opens ----

TEST_F(HeldShareInTheDatabase, ADumpAndTheRootKeyOpenNothing) {
  const auto before = dump();
  hold_all();
  const auto after = dump();

  const auto old = restored(before);
  Replica of_before(*old, root_key_);
  EXPECT_EQ(of_before.opened(held_), kAll) << "what was copied before has to expire";

  const auto fresh = restored(after);
  Replica of_after(*fresh, root_key_);
  EXPECT_EQ(of_after.opened(other_), kAll) << "the control";
  EXPECT_EQ(of_after.opened(held_), 0);
  EXPECT_EQ(code_of(of_after.value(held_, 0)), ErrorCode::TenantSealed);
  EXPECT_EQ(code_of(of_after.rewrap(held_)), std::nullopt) << "there is nothing to move";
  const auto verified = of_after.log.verify(held_);
  ASSERT_TRUE(verified.ok());
  EXPECT_TRUE(verified.value().intact) << "the trail is there for whoever has the root key";

  // It is all there, for whoever has the share too.
  ASSERT_TRUE(of_after.unseal(held_, 1).ok());
  EXPECT_EQ(of_after.opened(held_), kAll);
}

TEST_F(HeldShareInTheDatabase, ADumpAndTheRootKeyOpenNoOtherKeyNorAnswerEither) {
  const SealedBesides of_held(replica_, held_), of_other(replica_, other_);
  hold_all();
  const auto file = dump();
  const auto copy = restored(file);
  Replica replica(*copy, root_key_);
  EXPECT_THAT(of_held.opened(replica), IsEmpty());
  EXPECT_EQ(of_other.opened(replica), SealedBesides::all()) << "the control";
  ASSERT_TRUE(replica.unseal(held_, 1).ok());
  EXPECT_EQ(of_held.opened(replica), SealedBesides::all()) << "it is all there";

  // Put under the KEK that demanded no share, which is made the newest again.
  const auto rewritten = restored(file);
  run(*rewritten,
      "SET session_replication_role = replica;"
      "UPDATE signing_key SET kek_version = 1; UPDATE transit_key_version SET kek_version = 1;"
      "UPDATE wrapped_answer SET kek_version = 1; DELETE FROM kek WHERE held_check IS NOT NULL");
  Replica thief(*rewritten, root_key_);
  EXPECT_THAT(of_held.opened(thief), IsEmpty());
  EXPECT_EQ(of_other.opened(thief), SealedBesides::all());
}

TEST_F(HeldShareInTheDatabase, WhoeverRewritesTheDumpOpensNothingEither) {
  hold_all();
  const auto file = dump();
  const char* const attempts[] = {
      // The demand taken away,
      "UPDATE kek SET held_check = NULL",
      // replaced by one for a share that they have,
      "UPDATE kek SET held_check = decode(repeat('07', 32), 'hex') WHERE held_check IS NOT NULL",
      // the KEK that demanded none made the newest again,
      "SET session_replication_role = replica;"
      "UPDATE credential_version SET kek_version = 1; UPDATE signing_key SET kek_version = 1;"
      "DELETE FROM kek WHERE held_check IS NOT NULL",
      // and put in place of the other.
      "UPDATE kek k SET held_check = NULL, wrapped = o.wrapped FROM kek o"
      " WHERE o.tenant_id = k.tenant_id AND o.version = 1 AND k.version = 2",
  };
  for (const auto* sql : attempts) {
    const auto copy = restored(file);
    run(*copy, sql);
    Replica replica(*copy, root_key_);
    EXPECT_EQ(replica.opened(held_), 0) << sql;
    static_cast<void>(replica.unseal(held_, 7));
    EXPECT_EQ(replica.opened(held_), 0) << sql;
    EXPECT_EQ(replica.opened(other_), kAll) << sql;
  }
}

TEST_F(HeldShareInTheDatabase, TheShareIsInNoRow) {
  hold_all();
  ASSERT_TRUE(replica_.unseal(held_, 1).ok());
  EXPECT_EQ(replica_.seal(held_), std::nullopt);
  const auto text = read_text(dump());
  EXPECT_THAT(text, HasSubstr("credential-1"));
  EXPECT_THAT(text, Not(HasSubstr("0101010101010101")));
  EXPECT_THAT(text, Not(HasSubstr("AQEBAQEBAQEB")));
}

// ---- holding and releasing ----

TEST_F(HeldShareInTheDatabase, WhatIsThereAndWhatComesIsUnderTheShare) {
  ASSERT_TRUE(replica_.hold(held_, 1).ok());
  EXPECT_EQ(replica_.opened(held_), kAll) << "while it is moved";
  const auto state = replica_.holder.state(held_).value();
  EXPECT_EQ(state.seal, vault::Keyring::Seal::Unsealed);
  EXPECT_EQ(state.kek_version, KekVersion{2});
  EXPECT_EQ(state.rows_left, static_cast<std::uint64_t>(kAll));
  ASSERT_EQ(replica_.rewrap(held_).value().left, 0u);
  EXPECT_EQ(replica_.holder.state(held_).value().rows_left, 0u);
  replica_.put(held_, 0);
  EXPECT_EQ(replica_.opened(held_), kAll);
  EXPECT_EQ(records(held_, "key_holder.hold"), 1u);
  expect_intact(held_);
  EXPECT_EQ(replica_.holder.state(other_).value().seal, vault::Keyring::Seal::NotHeld);
}

TEST_F(HeldShareInTheDatabase, SealedAgainWhileItIsMovedNothingOpens) {
  ASSERT_TRUE(replica_.hold(held_, 1).ok());
  Replica another(database_, root_key_);
  EXPECT_EQ(another.opened(held_), 0) << "nor what is not moved yet";
  EXPECT_EQ(code_of(another.rewrap(held_)), ErrorCode::TenantSealed);
  ASSERT_TRUE(another.unseal(held_, 1).ok());
  EXPECT_EQ(another.opened(held_), kAll);
  EXPECT_EQ(another.rewrap(held_).value().left, 0u);
}

TEST_F(HeldShareInTheDatabase, HoldingTwiceIsHoldingOnce) {
  ASSERT_TRUE(replica_.hold(held_, 1).ok());
  ASSERT_TRUE(replica_.hold(held_, 1).ok()) << "its answer may have been lost";
  EXPECT_EQ(replica_.holder.state(held_).value().kek_version, KekVersion{2});
  EXPECT_EQ(code_of(replica_.hold(held_, 2)), ErrorCode::Conflict);
  EXPECT_EQ(code_of(replica_.hold(held_, 2, 3)), ErrorCode::Forbidden);
  EXPECT_EQ(code_of(replica_.hold(other_, 2, 3)), ErrorCode::Conflict);
  EXPECT_EQ(code_of(replica_.hold(TenantId("nobody"), 1)), ErrorCode::NotFound);
  EXPECT_EQ(replica_.holder.state(held_).value().kek_version, KekVersion{2});
  EXPECT_EQ(replica_.holder.state(other_).value().kek_version, KekVersion{1});
}

TEST_F(HeldShareInTheDatabase, AShareIsReplacedByAnother) {
  hold_all();
  ASSERT_TRUE(replica_.hold(held_, 2, 1).ok());
  EXPECT_EQ(replica_.opened(held_), kAll);
  {
    Replica meanwhile(database_, root_key_);
    ASSERT_TRUE(meanwhile.unseal(held_, 1).ok()) << "rows of an older KEK demand it";
    EXPECT_EQ(meanwhile.seal_of(held_), vault::Keyring::Seal::Sealed);
    EXPECT_EQ(meanwhile.opened(held_), 0);
    ASSERT_TRUE(meanwhile.unseal(held_, 2).ok());
    EXPECT_EQ(meanwhile.opened(held_), kAll);
  }
  ASSERT_EQ(replica_.rewrap(held_).value().left, 0u);
  ASSERT_TRUE(replica_.keyring.forget_old_shares(held_, KekVersion{3}).ok());
  EXPECT_EQ(replica_.opened(held_), kAll);
  Replica another(database_, root_key_);
  EXPECT_EQ(code_of(another.unseal(held_, 1)), ErrorCode::Conflict) << "nothing demands it";
  EXPECT_EQ(another.seal_of(held_), vault::Keyring::Seal::Sealed);
  ASSERT_TRUE(another.unseal(held_, 2).ok());
  EXPECT_EQ(another.opened(held_), kAll);
}

TEST_F(HeldShareInTheDatabase, AReleasedTenantDemandsNoShare) {
  hold_all();
  EXPECT_EQ(code_of(replica_.release(held_, 2)), ErrorCode::Forbidden);
  EXPECT_EQ(code_of(replica_.release(other_, 2)), ErrorCode::Conflict);
  ASSERT_TRUE(replica_.release(held_, 1).ok());
  EXPECT_EQ(replica_.opened(held_), kAll);
  ASSERT_EQ(replica_.rewrap(held_).value().left, 0u);
  ASSERT_TRUE(replica_.keyring.forget_old_shares(held_, KekVersion{3}).ok());
  EXPECT_FALSE(replica_.keyring.has_share(held_));
  Replica another(database_, root_key_);
  EXPECT_EQ(another.opened(held_), kAll);
  EXPECT_EQ(code_of(replica_.release(held_, 1)), ErrorCode::Conflict);
}

TEST_F(HeldShareInTheDatabase, WhoIsSealedCanNeitherReleaseNorReplace) {
  hold_all();
  ASSERT_EQ(replica_.seal(held_), std::nullopt);
  EXPECT_EQ(code_of(replica_.release(held_, 1)), ErrorCode::TenantSealed);
  EXPECT_EQ(code_of(replica_.hold(held_, 2, 1)), ErrorCode::TenantSealed);
}

// ---- sealing, on two replicas ----

TEST_F(HeldShareInTheDatabase, SealedAtOneReplicaTheOtherForgetsToo) {
  hold_all();
  Replica another(database_, root_key_);
  ASSERT_TRUE(another.unseal(held_, 1).ok());
  ASSERT_EQ(another.opened(held_), kAll);

  ASSERT_EQ(replica_.seal(held_), std::nullopt);
  EXPECT_EQ(replica_.opened(held_), 0);
  EXPECT_FALSE(replica_.keyring.has_share(held_));
  another.hear_of(held_);
  EXPECT_EQ(another.opened(held_), 0);
  EXPECT_FALSE(another.keyring.has_share(held_));

  EXPECT_EQ(code_of(another.unseal(held_, 2)), ErrorCode::Forbidden);
  ASSERT_TRUE(another.unseal(held_, 1).ok());
  EXPECT_EQ(another.opened(held_), kAll);
  EXPECT_EQ(replica_.opened(held_), 0) << "each replica is unsealed by itself";
  EXPECT_EQ(replica_.seal(other_), ErrorCode::Conflict);
  EXPECT_EQ(records(held_, "key_holder.seal"), 1u);
  EXPECT_EQ(records(held_, "key_holder.unseal"), 2u);
  expect_intact(held_);
}

TEST_F(HeldShareInTheDatabase, SealingRaisesTheEpochThatReplicasFollow) {
  hold_all();
  const auto before = replica_.config.load(held_).value().row.epoch;
  auto record = event(held_, "key_holder.seal");
  EXPECT_EQ(replica_.holder.seal(held_, record).value(), before + 1);
  EXPECT_EQ(replica_.config.load(held_).value().row.epoch, before + 1);
}

// ---- beside the rotation of keys ----

TEST_F(HeldShareInTheDatabase, TheRootKeyIsRotatedWhileSealed) {
  hold_all();
  const auto new_key = root_key_line();
  Replica rotator(database_, new_key + root_key_);
  const auto progress = rotator.rotation.rotate_root([](const vault::Rotation::Progress&) {});
  ASSERT_TRUE(progress.ok());
  EXPECT_EQ(progress.value().failed, 0u);
  EXPECT_EQ(progress.value().left, 0u);
  Replica only_new(database_, new_key);
  EXPECT_EQ(only_new.opened(other_), kAll);
  EXPECT_EQ(only_new.opened(held_), 0);
  ASSERT_TRUE(only_new.unseal(held_, 1).ok());
  EXPECT_EQ(only_new.opened(held_), kAll);
}

TEST_F(HeldShareInTheDatabase, ANewKekDemandsTheSameShare) {
  hold_all();
  Replica rotator(database_, root_key_);  // as `posternd keys`: without the share
  ASSERT_EQ(rotator.rotation.rotate_tenant(held_).value(), KekVersion{3});
  EXPECT_EQ(code_of(rotator.rewrap(held_)), ErrorCode::TenantSealed);
  replica_.hear_of(held_);
  EXPECT_EQ(replica_.opened(held_), kAll);

  // What is left to move is moved by whoever has the share.
  vault::RowMover without(rotator.store, rotator.keyring, kClock);
  without.start();
  without.look_at(held_);
  vault::RowMover mover(replica_.store, replica_.keyring, kClock);
  mover.start();
  mover.look_at(held_);
  eventually([&] { return replica_.store.backlog_of(held_).value().rows() == 0; }, "moved");
  mover.stop();
  without.stop();
  EXPECT_EQ(replica_.opened(held_), kAll);
  Replica another(database_, root_key_);
  EXPECT_EQ(another.opened(held_), 0);
  expect_intact(held_);
}

TEST_F(HeldShareInTheDatabase, OneTenantsShareIsNotAnothers) {
  hold_all();
  ASSERT_TRUE(replica_.hold(other_, 2).ok());
  Replica another(database_, root_key_);
  EXPECT_EQ(code_of(another.unseal(other_, 1)), ErrorCode::Forbidden);
  ASSERT_TRUE(another.unseal(held_, 1).ok());
  EXPECT_EQ(another.opened(held_), kAll);
  EXPECT_EQ(another.opened(other_), 0);
  ASSERT_EQ(replica_.seal(other_), std::nullopt);
  EXPECT_EQ(replica_.opened(held_), kAll);
  another.hear_of(held_);
  EXPECT_EQ(another.opened(held_), kAll) << "the other's sealing is not this one's";
}

}  // namespace
}  // namespace postern::test
