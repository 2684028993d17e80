// Rotation of root keys and of tenants' KEKs over PostgreSQL, beside others who
// read and write.

#include "storage/postgres_rotation_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "audit/group_writer.h"
#include "storage/epoch_watcher.h"
#include "storage/postgres_transit_store.h"
#include "storage/postgres_wrapping_store.h"
#include "support/code_of.h"
#include "support/from_environment.h"
#include "support/postgres_stores.h"
#include "vault/envelope.h"
#include "vault/rotation.h"

namespace postern::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const SystemClock kClock;

vault::CredentialKey key_of(int number) {
  return {number % 3 == 0 ? Owner::tenant() : Owner::principal({"https://idp.example", "alice"}),
          CredentialName("credential-" + std::to_string(number))};
}

/// A replica: stores, and what releases.
struct Replica : StoreSet {
  Replica(const PostgresDatabase& server, const std::string& root_keys)
      : StoreSet(server.options(), vault::RootKeys::parse(root_keys).value()) {}

  Status put(const TenantId& tenant, const vault::CredentialKey& key, const std::string& value) {
    vault::Fields fields;
    fields.emplace("token", FieldValue(SecureBuffer::copy_of(value)));
    const auto stored = credentials.put(tenant, key, std::nullopt,
                                        [&](std::uint32_t version) {
                                          return envelope.seal(tenant, key, version, fields,
                                                               kClock.now(), std::nullopt);
                                        },
                                        {});
    if (!stored.ok()) return stored.error();
    return {};
  }
  Result<std::string> value(const TenantId& tenant, const vault::CredentialKey& key) {
    POSTERN_TRY(const auto sealed, credentials.latest(tenant, key));
    POSTERN_TRY(const auto fields, envelope.open(tenant, key, sealed));
    return fields.at("token").expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  }
  unsigned current_version(const TenantId& tenant) {
    unsigned version = 0;
    const auto status = keyring.with_current(tenant, [&](KekVersion v, const Kek&) {
      version = static_cast<unsigned>(v);
      return Status();
    });
    return status.ok() ? version : 0;
  }

  vault::Envelope envelope{keyring};
};

/// A replica that rotates.
struct Rotator : Replica {
  using Replica::Replica;
  vault::Rotation::Progress rotate_root() { return must(rotation.rotate_root(ignore)); }
  vault::Rotation::Progress rewrap(const TenantId& tenant) {
    return must(rotation.rewrap(tenant, ignore));
  }
  template <class T>
  static T must(Result<T> result) {
    if (!result.ok()) throw std::runtime_error(result.error().detail + result.error().diagnostic);
    return std::move(result).value();
  }

  static constexpr auto ignore = [](const vault::Rotation::Progress&) {};
  storage::PostgresRotationStore store{database, log};
  vault::Rotation rotation{store, keyring, kClock, {0, 3, {}}};  // small batches
};

class KeyRotation : public ::testing::Test {
 protected:
  static std::string line() {
    static std::atomic<int> number{0};
    const TempDirectory directory;
    const auto file = directory.path() / ("root" + std::to_string(++number));
    EXPECT_TRUE(vault::RootKeys::create(file).ok());
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static std::string id_in(const std::string& line) { return line.substr(20, 16); }

  pqxx::result as_superuser(const std::string& sql) {
    pqxx::connection connection(database_.superuser());
    pqxx::nontransaction tx(connection);
    tx.exec("SET search_path = postern");
    return tx.exec(sql);
  }
  std::string one(const std::string& sql) { return as_superuser(sql)[0][0].c_str(); }

  /// Fields of the records with this action, oldest first, as text.
  std::vector<std::string> records(const TenantId& tenant, const std::string& action) {
    std::vector<std::string> out;
    const auto found = replica_.log.read(tenant, {0, 1000, false, action});
    EXPECT_TRUE(found.ok());
    for (const auto& record : found.value()) out.push_back(record.body);
    return out;
  }
  static std::uint64_t number_in(const std::string& body, const std::string& field) {
    const auto at = body.find("\"" + field + "\":\"");
    return at == body.npos ? 0 : std::stoull(body.substr(at + field.size() + 4));
  }
  void expect_intact(const TenantId& tenant) {
    const auto verified = replica_.log.verify(tenant);
    ASSERT_TRUE(verified.ok());
    EXPECT_TRUE(verified.value().intact) << verified.value().problem;
  }
  void fill(const TenantId& tenant, int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(replica_.put(tenant, key_of(i), "value " + std::to_string(i)).ok());
    }
  }
  void expect_filled(Replica& replica, const TenantId& tenant, int count) {
    for (int i = 0; i < count; ++i) {
      const auto value = replica.value(tenant, key_of(i));
      ASSERT_TRUE(value.ok()) << i;
      EXPECT_EQ(value.value(), "value " + std::to_string(i));
    }
  }
  void add_signing_key(const TenantId& tenant, const std::string& kid, Replica& replica) {
    ASSERT_EQ(try_add_signing_key(tenant, kid, replica), std::nullopt);
  }
  static std::optional<ErrorCode> try_add_signing_key(const TenantId& tenant,
                                                      const std::string& kid, Replica& replica) {
    auto wrapped = replica.keyring.wrap_private(
        tenant, vault::kTokenSigning, kid, PrivateKey(SecureBuffer::copy_of("private " + kid)));
    policy::ConfigChange change;
    change.add_signing_keys.push_back({kid, "ES256", "{}", policy::SigningKeyState::Active,
                                       std::move(wrapped).value(), kClock.now(), std::nullopt});
    return code_of(replica.config.apply(tenant, change, {}));
  }

  const std::string old_ = line();
  const std::string new_ = line();
  PostgresDatabase database_;
  Replica replica_{database_, old_ + new_};  // its file has the new one, not as the active
  Rotator rotator_{database_, new_ + old_};
  const TenantId a_ = replica_.add_tenant();
  const TenantId b_ = replica_.add_tenant();
};

// ---- the root key ----

TEST_F(KeyRotation, TheRootKeyIsReplacedUnderEveryKek) {
  fill(a_, 4);
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(b_).ok());  // two KEKs, one under each root key
  const auto before = rotator_.store.root_key_uses();
  ASSERT_EQ(before.value().size(), 2u);

  const auto progress = rotator_.rotate_root();
  EXPECT_EQ(progress.total, 2u);
  EXPECT_EQ(progress.done, 2u);
  EXPECT_EQ(progress.failed, 0u);
  EXPECT_EQ(progress.left, 0u);
  const auto after = rotator_.store.root_key_uses();
  ASSERT_EQ(after.value().size(), 1u);
  EXPECT_EQ(after.value()[0].root_key_id, id_in(new_));
  EXPECT_EQ(after.value()[0].keks, 3u);
  EXPECT_EQ(after.value()[0].tenants, 2u);

  Replica only_new(database_, new_);
  expect_filled(only_new, a_, 4);
  EXPECT_EQ(only_new.current_version(b_), 2u);
  Replica only_old(database_, old_);
  EXPECT_EQ(code_of(only_old.value(a_, key_of(0))), ErrorCode::KeyUnavailable);
  expect_filled(replica_, a_, 4);  // a replica that runs has what it had

  ASSERT_EQ(records(a_, "key.rotate_root").size(), 1u);
  EXPECT_THAT(records(a_, "key.rotate_root")[0], HasSubstr("\"from_root_key\":\"" + id_in(old_) +
                                                           "\",\"kek_version\":\"1\",\"keks\":"
                                                           "\"1\",\"to_root_key\":\"" +
                                                           id_in(new_) + "\""));
  EXPECT_EQ(records(b_, "key.rotate_root").size(), 1u);
  expect_intact(a_);
  expect_intact(b_);
}

TEST_F(KeyRotation, AFinishedRotationOfTheRootKeyIsLeftAlone) {
  rotator_.rotate_root();
  const auto rows =
      one("SELECT string_agg(encode(wrapped, 'hex'), ' ' ORDER BY tenant_id) FROM kek");
  const auto again = rotator_.rotate_root();
  EXPECT_EQ(again.total, 0u);
  EXPECT_EQ(again.done, 0u);
  EXPECT_EQ(one("SELECT string_agg(encode(wrapped, 'hex'), ' ' ORDER BY tenant_id) FROM kek"),
            rows);
}

TEST_F(KeyRotation, AKekThatDoesNotOpenStaysAndHoldsUpNoOther) {
  as_superuser(
      "UPDATE kek SET wrapped = set_byte(wrapped, 60, get_byte(wrapped, 60) # 1)"
      " WHERE tenant_id = '" +
      a_.str() + "'");
  const auto broken =
      one("SELECT encode(wrapped, 'hex') FROM kek WHERE tenant_id = '" + a_.str() + "'");
  const auto progress = rotator_.rotate_root();
  EXPECT_EQ(progress.done, 1u);
  EXPECT_EQ(progress.failed, 1u);
  EXPECT_EQ(progress.left, 1u);
  EXPECT_EQ(one("SELECT encode(wrapped, 'hex') FROM kek WHERE tenant_id = '" + a_.str() + "'"),
            broken);
  EXPECT_TRUE(Replica(database_, new_).keyring.current(b_).ok());
}

TEST_F(KeyRotation, WithoutTheOldRootKeyNothingIsTouched) {
  Rotator without(database_, new_);
  const auto progress = without.rotate_root();
  EXPECT_EQ(progress.done, 0u);
  EXPECT_EQ(progress.left, 2u);
  EXPECT_EQ(replica_.current_version(a_), 1u);
}

TEST_F(KeyRotation, TwoRotationsOfTheRootKeyAtOnceDoItOnce) {
  for (int i = 0; i < 10; ++i) replica_.add_tenant();
  Rotator other(database_, new_ + old_);
  std::thread beside([&] { other.rotate_root(); });
  rotator_.rotate_root();
  beside.join();
  EXPECT_EQ(one("SELECT count(*) FROM kek WHERE root_key_id = '" + id_in(new_) + "'"), "12");
  expect_intact(a_);
}

TEST_F(KeyRotation, AKekPutBackAsItWasStillNeedsTheOldRootKey) {
  const auto row = as_superuser(
      "SELECT root_key_id, encode(wrapped, 'hex') FROM kek"
      " WHERE tenant_id = '" +
      a_.str() + "'");
  rotator_.rotate_root();
  as_superuser("UPDATE kek SET root_key_id = '" + std::string(row[0][0].c_str()) +
               "', wrapped = decode('" + row[0][1].c_str() + "', 'hex') WHERE tenant_id = '" +
               a_.str() + "'");
  Replica only_new(database_, new_);
  EXPECT_EQ(code_of(only_new.keyring.current(a_)), ErrorCode::KeyUnavailable);
  // The old box under the new name is nobody's.
  as_superuser("UPDATE kek SET root_key_id = '" + id_in(new_) + "' WHERE tenant_id = '" + a_.str() +
               "'");
  EXPECT_EQ(code_of(Replica(database_, new_ + old_).keyring.current(a_)), ErrorCode::Internal);
}

TEST_F(KeyRotation, OneTenantsMissingRootKeyRefusesNoOthersRecords) {
  const TenantId c("c");
  rotator_.add(c);  // under the new root key, as a_ is not
  Replica only_new(database_, new_);
  std::vector<std::optional<ErrorCode>> answers(6);
  {
    audit::GroupWriter writer(only_new.log);
    for (std::size_t i = 0; i < answers.size(); ++i) {
      writer.submit({audit::Event{i % 2 == 0 ? a_ : c, {}, "x", {}, "", {}}},
                    [&answers, i](const Status& status) { answers[i] = code_of(status); });
    }
  }
  for (std::size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i], i % 2 == 0 ? std::optional(ErrorCode::KeyUnavailable) : std::nullopt);
  }
  EXPECT_EQ(only_new.log.read(c, {}).value().size(), 3u);
}

// ---- a tenant's KEK ----

TEST_F(KeyRotation, ANewKekIsForWhatIsSealedFromThenOn) {
  fill(a_, 3);
  const auto epoch = one("SELECT epoch FROM tenant WHERE tenant_id = '" + a_.str() + "'");
  const auto version = rotator_.rotation.rotate_tenant(a_);
  ASSERT_TRUE(version.ok());
  EXPECT_EQ(version.value(), KekVersion{2});
  EXPECT_EQ(std::stoi(one("SELECT epoch FROM tenant WHERE tenant_id = '" + a_.str() + "'")),
            std::stoi(epoch) + 1);
  expect_filled(rotator_, a_, 3);  // older ones still open
  ASSERT_TRUE(rotator_.put(a_, key_of(3), "value 3").ok());
  const auto uses = rotator_.store.kek_uses(a_);
  ASSERT_TRUE(uses.ok());
  ASSERT_EQ(uses.value().size(), 2u);
  EXPECT_EQ(uses.value()[0].version, KekVersion{2});
  EXPECT_EQ(uses.value()[0].root_key_id, id_in(new_));
  EXPECT_EQ(uses.value()[0].credential_versions, 1u);
  EXPECT_EQ(uses.value()[1].credential_versions, 3u);
  EXPECT_EQ(rotator_.store.kek_uses(b_).value().size(), 1u);

  ASSERT_EQ(records(a_, "key.rotate_tenant").size(), 1u);
  EXPECT_EQ(number_in(records(a_, "key.rotate_tenant")[0], "kek_version"), 2u);
  // The chain goes on under the new KEK, and what is before it still verifies.
  ASSERT_TRUE(rotator_.log.append(std::vector{audit::Event{a_, {}, "x", {}, "", {}}}).ok());
  EXPECT_EQ(one("SELECT kek_version FROM audit_head WHERE tenant_id = '" + a_.str() + "'"), "2");
  const auto verified = rotator_.log.verify(a_);
  EXPECT_TRUE(verified.value().intact) << verified.value().problem;
}

TEST_F(KeyRotation, TheAgeOfATenantsKeyIsThatOfItsNewestKek) {
  const auto begun = rotator_.store.now();
  ASSERT_TRUE(begun.ok());
  as_superuser("UPDATE kek SET created_at = created_at - interval '30 days'");
  const auto made_at = [&](const TenantId& tenant) {
    return rotator_.store.newest_kek(tenant).value().made_at;
  };
  EXPECT_LT(made_at(a_), begun.value() - std::chrono::days(29));
  EXPECT_EQ(rotator_.store.newest_kek(a_).value().version, KekVersion{1});
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  EXPECT_GE(made_at(a_), begun.value());
  EXPECT_EQ(rotator_.store.newest_kek(a_).value().version, KekVersion{2});
  EXPECT_LT(made_at(b_), begun.value() - std::chrono::days(29));
  EXPECT_EQ(code_of(rotator_.store.newest_kek(TenantId("nobody"))), ErrorCode::NotFound);
}

TEST_F(KeyRotation, OfTwoThatRotateWhatIsOldOneDoes) {
  as_superuser("UPDATE kek SET created_at = created_at - interval '30 days'");
  const auto than = rotator_.store.now().value() - std::chrono::days(7);
  for (int round = 0; round < 5; ++round) {
    std::atomic<int> made = 0;
    std::vector<std::thread> both;
    for (int i = 0; i < 2; ++i) {
      both.emplace_back([&] {
        Rotator other(database_, new_ + old_);
        const auto done = other.rotation.rotate_older(a_, than);
        ASSERT_TRUE(done.ok()) << done.error().diagnostic;
        if (done.value()) ++made;
      });
    }
    for (auto& each : both) each.join();
    EXPECT_EQ(made, 1);
    EXPECT_EQ(rotator_.store.kek_uses(a_).value().size(), 2u + static_cast<std::size_t>(round));
    EXPECT_FALSE(rotator_.rotation.rotate_older(a_, than).value()) << "it is young";
    as_superuser("UPDATE kek SET created_at = created_at - interval '30 days'");
  }
  EXPECT_EQ(code_of(rotator_.rotation.rotate_older(TenantId("nobody"), than)), ErrorCode::NotFound);
}

TEST_F(KeyRotation, AWriterThatHasNotHeardOfItSealsAgain) {
  Replica unaware(database_, new_ + old_);
  ASSERT_TRUE(unaware.put(a_, key_of(0), "before").ok());
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  ASSERT_EQ(unaware.current_version(a_), 1u);
  ASSERT_TRUE(unaware.put(a_, key_of(0), "after").ok());
  EXPECT_EQ(unaware.current_version(a_), 2u);
  EXPECT_EQ(unaware.value(a_, key_of(0)).value(), "after");
  EXPECT_EQ(one("SELECT string_agg(version || ':' || kek_version, ' ' ORDER BY version)"
                "  FROM credential_version"),
            "1:1 2:2");
}

TEST_F(KeyRotation, ASigningKeyOfAWriterThatHasNotHeardOfItIsMadeAgain) {
  Replica unaware(database_, new_ + old_);
  ASSERT_EQ(unaware.current_version(a_), 1u);
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  EXPECT_EQ(try_add_signing_key(a_, "k1", unaware), ErrorCode::Conflict);
  add_signing_key(a_, "k1", unaware);
  EXPECT_EQ(one("SELECT kek_version FROM signing_key"), "2");
}

TEST_F(KeyRotation, NothingIsStoredOrMovedUnderAnOlderKek) {
  fill(a_, 1);
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  rotator_.rewrap(a_);
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  const auto state_of = [&](const std::string& sql) -> std::string {
    try {
      as_superuser(sql);
      return "";
    } catch (const pqxx::sql_error& error) {
      return error.sqlstate();
    }
  };
  EXPECT_EQ(state_of("UPDATE credential_version SET kek_version = 1"), "KEK01");
  EXPECT_EQ(state_of("INSERT INTO credential_version SELECT tenant_id, owner_issuer, owner_subject,"
                     " name, 2, kek_version, wrapped_dek, sealed, field_names, created_at"
                     "  FROM credential_version"),
            "KEK01");
  EXPECT_EQ(state_of("UPDATE credential_version SET kek_version = 3"), "");
}

TEST_F(KeyRotation, AnUnknownTenantHasNoKeyToRotate) {
  EXPECT_EQ(code_of(rotator_.rotation.rotate_tenant(TenantId("nobody"))), ErrorCode::NotFound);
  EXPECT_EQ(code_of(rotator_.store.kek_uses(TenantId("nobody"))), ErrorCode::NotFound);
}

TEST_F(KeyRotation, RotationsOfOneTenantAtOnceAreSerial) {
  Rotator other(database_, new_ + old_);
  std::thread beside([&] {
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(other.rotation.rotate_tenant(a_).ok());
  });
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  beside.join();
  EXPECT_EQ(
      one("SELECT count(*) || ' ' || max(version) FROM kek WHERE tenant_id = '" + a_.str() + "'"),
      "11 11");
  const auto verified = rotator_.log.verify(a_);
  EXPECT_TRUE(verified.value().intact) << verified.value().problem;
}

TEST_F(KeyRotation, AWatcherHearsOfANewKek) {
  std::mutex mutex;
  std::vector<std::string> heard;
  storage::EpochWatcher watcher(
      database_.service(),
      [&](const TenantId& tenant, std::uint64_t) {
        const std::lock_guard lock(mutex);
        heard.push_back(tenant.str());
      },
      std::chrono::hours(1));  // not by polling
  ASSERT_TRUE(watcher.start().ok());
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(b_).ok());
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  for (;;) {
    {
      const std::lock_guard lock(mutex);
      if (!heard.empty()) break;
    }
    ASSERT_LT(std::chrono::steady_clock::now(), until);
    std::this_thread::yield();
  }
  EXPECT_THAT(heard, ElementsAre(b_.str()));
}

// ---- what is under it ----

TEST_F(KeyRotation, RewrapMovesEveryRowAndTouchesNothingElse) {
  fill(a_, 10);
  fill(b_, 2);
  ASSERT_TRUE(replica_.put(a_, key_of(1), "value 1").ok());  // a second version
  add_signing_key(a_, "k1", replica_);
  add_signing_key(a_, "k2", replica_);
  const char* content =
      "SELECT md5(string_agg(tenant_id || owner_subject || name || version || encode(sealed, 'hex')"
      " || created_at, ' ' ORDER BY tenant_id, owner_subject, name, version))"
      "  FROM credential_version";
  const auto before = one(content);
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  EXPECT_EQ(rotator_.store.backlog_of(a_).value().rows(), 13u);
  EXPECT_EQ(rotator_.store.backlog().value().rows(), 13u);
  EXPECT_EQ(rotator_.store.backlog().value().tenants, 1u);

  const auto progress = rotator_.rewrap(a_);
  EXPECT_EQ(progress.total, 13u);
  EXPECT_EQ(progress.done, 13u);
  EXPECT_EQ(progress.failed, 0u);
  EXPECT_EQ(progress.left, 0u);
  EXPECT_EQ(rotator_.store.backlog().value().rows(), 0u);
  EXPECT_EQ(one("SELECT count(*) FROM credential_version WHERE kek_version = 1 AND tenant_id = '" +
                a_.str() + "'"),
            "0");
  EXPECT_EQ(one("SELECT count(*) FROM signing_key WHERE kek_version = 1"), "0");
  EXPECT_EQ(one(content), before);
  expect_filled(rotator_, a_, 10);
  expect_filled(replica_, a_, 10);  // which finds the new KEK by the row
  expect_filled(replica_, b_, 2);
  const auto stored = rotator_.config.load(a_);
  ASSERT_EQ(stored.value().signing_keys.size(), 2u);
  for (const auto& key : stored.value().signing_keys) {
    const auto opened =
        rotator_.keyring.unwrap_private(a_, vault::kTokenSigning, key.kid, key.wrapped);
    ASSERT_TRUE(opened.ok());
    EXPECT_EQ(opened.value().expose([](ByteView bytes) { return std::string(as_text(bytes)); }),
              "private " + key.kid);
  }
  // Batches of three, each with its record; all of them together are all rows.
  std::uint64_t versions = 0, signing_keys = 0;
  for (const auto& body : records(a_, "key.rewrap")) {
    versions += number_in(body, "credential_versions");
    signing_keys += number_in(body, "signing_keys");
    EXPECT_EQ(number_in(body, "kek_version"), 2u);
  }
  EXPECT_EQ(versions, 11u);
  EXPECT_EQ(signing_keys, 2u);
  EXPECT_GE(records(a_, "key.rewrap").size(), 4u);
  EXPECT_TRUE(records(b_, "key.rewrap").empty());
  std::uint64_t rewrapped = 0;
  const auto uses = rotator_.store.root_key_uses();
  for (const auto& use : uses.value()) rewrapped += use.rewrapped;
  EXPECT_EQ(rewrapped, 13u);
  EXPECT_EQ(rotator_.rewrap(a_).done, 0u);
}

TEST_F(KeyRotation, AnswersThatWaitWrappedAreMovedAndTaken) {
  storage::PostgresWrappingStore answers(replica_.database, replica_.log);
  const vault::Wrapping wrapping(replica_.keyring, answers, kClock);
  std::vector<std::string> tokens;
  audit::Event record{a_, kClock.now(), "x", {}, "r", {}};
  for (int i = 0; i < 7; ++i) {
    auto event = record;
    const auto made =
        wrapping.wrap(a_, Owner::tenant(), "operator", "sys/wrapping/wrap", std::chrono::hours(1),
                      Plaintext(SecureBuffer::copy_of("answer " + std::to_string(i))), event);
    ASSERT_TRUE(made.ok());
    tokens.push_back(
        made.value().token.expose([](ByteView bytes) { return std::string(as_text(bytes)); }));
  }
  const auto unwrap = [&](int i) {
    auto event = record;
    const auto answer = wrapping.unwrap(a_, tokens.at(i), event);
    return answer.ok()
               ? answer.value().expose([](ByteView bytes) { return std::string(as_text(bytes)); })
               : std::string(to_string(answer.error().code));
  };
  as_superuser(
      "UPDATE wrapped_answer SET maker = 'altered' WHERE accessor ="
      " (SELECT min(accessor) FROM wrapped_answer)");
  fill(a_, 2);
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  EXPECT_EQ(rotator_.store.kek_uses(a_).value()[1].others, 7u);
  EXPECT_EQ(rotator_.store.backlog_of(a_).value().others, 7u);
  EXPECT_EQ(rotator_.store.backlog().value().others, 7u);
  EXPECT_EQ(rotator_.store.backlog().value().rows(), 9u);
  // Wrapped by who has not heard of the new key: it is under the new one all the same.
  auto event = record;
  ASSERT_TRUE(wrapping
                  .wrap(a_, Owner::tenant(), "operator", "x", std::chrono::hours(1),
                        Plaintext(SecureBuffer::copy_of("late")), event)
                  .ok());
  const auto progress = rotator_.rewrap(a_);
  EXPECT_EQ(progress.done, 8u);
  EXPECT_EQ(progress.failed, 1u) << "what was altered stays";
  EXPECT_EQ(one("SELECT count(*) FROM wrapped_answer WHERE kek_version = 1"), "1");
  int given = 0;
  for (int i = 0; i < 7; ++i) given += unwrap(i) == "answer " + std::to_string(i);
  EXPECT_EQ(given, 6);
  std::uint64_t others = 0;
  for (const auto& body : records(a_, "key.rewrap")) others += number_in(body, "others");
  EXPECT_EQ(others, 6u);
  expect_filled(rotator_, a_, 2);
}

TEST_F(KeyRotation, TransitKeysAreMovedAndOpenAsBefore) {
  storage::PostgresTransitStore store(replica_.database, replica_.log);
  vault::Transit transit(replica_.keyring, store, kClock);
  const audit::Event record{a_, kClock.now(), "x", {}, "r", {}};
  std::vector<vault::TransitText> made;
  for (const char* name : {"one", "two", "three"}) {
    vault::TransitKey key;
    key.name = vault::TransitName(name);
    ASSERT_TRUE(transit.create(a_, key, record).ok());
    made.push_back(transit.open(a_, key.name).value().encrypt(as_bytes(name), {}, {}).value());
    ASSERT_TRUE(transit.rotate(a_, key.name, record).ok());
  }
  as_superuser(
      "UPDATE transit_key_version SET wrapped = set_byte(wrapped, 40, get_byte(wrapped, 40) # 1)"
      " WHERE version = 2 AND key_id = (SELECT key_id FROM transit_key WHERE name = 'two')");
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  EXPECT_EQ(rotator_.store.backlog_of(a_).value().others, 6u);
  EXPECT_EQ(rotator_.store.kek_uses(a_).value()[1].others, 6u);
  // By who has not heard of the new key: under the new one all the same.
  ASSERT_TRUE(transit.rotate(a_, vault::TransitName("one"), record).ok());
  EXPECT_EQ(rotator_.store.backlog().value().others, 6u);
  const auto progress = rotator_.rewrap(a_);
  EXPECT_EQ(progress.done, 5u);
  EXPECT_EQ(progress.failed, 1u) << "what was altered stays";
  EXPECT_EQ(progress.left, 1u);
  EXPECT_EQ(one("SELECT count(*) FROM transit_key_version WHERE kek_version = 1"), "1");
  std::size_t at = 0;
  for (const char* name : {"one", "two", "three"}) {
    const auto opened =
        transit.open(a_, vault::TransitName(name)).value().decrypt(made.at(at++), {}, {});
    ASSERT_TRUE(opened.ok()) << name;
    EXPECT_EQ(opened.value().expose([](ByteView bytes) { return std::string(as_text(bytes)); }),
              name);
  }
}

TEST_F(KeyRotation, DeletedVersionsAreMovedAndDestroyedOnesAreNothingToMove) {
  using Change = vault::CredentialStore::VersionChange;
  fill(a_, 3);
  const auto change = [&](Replica& replica, int number, Change how) {
    const auto changed = replica.credentials.change_versions(a_, key_of(number), {}, how,
                                                             std::nullopt, kClock.now(), {});
    ASSERT_TRUE(changed.ok());
  };
  change(replica_, 0, Change::Delete);
  change(replica_, 1, Change::Destroy);
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  EXPECT_EQ(rotator_.store.backlog_of(a_).value().rows(), 2u);
  EXPECT_EQ(rotator_.store.backlog().value().rows(), 2u);
  const auto progress = rotator_.rewrap(a_);
  EXPECT_EQ(progress.done, 2u);
  EXPECT_EQ(progress.failed, 0u);
  EXPECT_EQ(progress.left, 0u);

  change(replica_, 0, Change::Undelete);
  for (auto* replica : {static_cast<Replica*>(&rotator_), &replica_}) {
    EXPECT_EQ(replica->value(a_, key_of(0)).value(), "value 0");
    EXPECT_EQ(code_of(replica->value(a_, key_of(1))), ErrorCode::NotFound);
  }
  change(rotator_, 2, Change::Destroy);  // of what was moved
  EXPECT_EQ(one("SELECT count(*) FROM credential_version WHERE kek_version IS NULL"), "2");
}

TEST_F(KeyRotation, RewrapGoesFromEveryOlderKekToTheNewest) {
  fill(a_, 1);
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  ASSERT_TRUE(rotator_.put(a_, key_of(1), "value 1").ok());
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  EXPECT_EQ(rotator_.rewrap(a_).done, 2u);
  EXPECT_EQ(one("SELECT string_agg(DISTINCT kek_version::text, ' ') FROM credential_version"), "3");
  expect_filled(rotator_, a_, 2);
}

TEST_F(KeyRotation, ARowThatDoesNotOpenStaysAndHoldsUpNoOther) {
  fill(a_, 9);
  as_superuser(
      "UPDATE credential_version SET wrapped_dek = set_byte(wrapped_dek, 40,"
      " get_byte(wrapped_dek, 40) # 1) WHERE name IN ('credential-0', 'credential-4')");
  const char* broken =
      "SELECT string_agg(kek_version || encode(wrapped_dek, 'hex'), ' ' ORDER BY name)"
      "  FROM credential_version WHERE name IN ('credential-0', 'credential-4')";
  const auto before = one(broken);
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  const auto progress = rotator_.rewrap(a_);
  EXPECT_EQ(progress.done, 7u);
  EXPECT_EQ(progress.failed, 2u);
  EXPECT_EQ(progress.left, 2u);
  EXPECT_EQ(one(broken), before);
}

TEST_F(KeyRotation, RowsThatSomebodyHoldsAreMovedLater) {
  fill(a_, 5);
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  pqxx::connection holder(database_.superuser());
  auto held = std::make_unique<pqxx::work>(holder);
  held->exec("SELECT 1 FROM postern.credential_version WHERE name = 'credential-2' FOR UPDATE");
  int pauses = 0;
  vault::Rotation rotation(rotator_.store, rotator_.keyring, kClock,
                           {0, 3, [&](std::chrono::milliseconds) {
                              if (++pauses == 3) held.reset();  // lets go
                            }});
  const auto progress = rotation.rewrap(a_, Rotator::ignore);
  ASSERT_TRUE(progress.ok());
  EXPECT_EQ(progress.value().done, 5u);
  EXPECT_EQ(progress.value().left, 0u);
  EXPECT_GE(pauses, 3);
}

TEST_F(KeyRotation, AReleaseWaitsForNoLockOfARewrap) {
  fill(a_, 3);
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  /// In the middle of a batch that has locked and moved every row.
  struct Held final : vault::RotationStore::Rewrapper {
    Result<vault::WrappedDek> dek(const vault::CredentialKey&, std::uint32_t,
                                  const vault::WrappedDek&, KekVersion to,
                                  const std::optional<vault::ShareId>& share) override {
      if (++rows == 3) release();
      return vault::WrappedDek{to, share, Bytes(105)};
    }
    Result<vault::Keyring::OwnedPrivateKey> box(std::string_view, const Box&, KekVersion) override {
      return fail(ErrorCode::Internal, "");
    }
    audit::Event event(KekVersion, const Moved&) override {
      throw std::runtime_error("killed here");
    }
    std::function<void()> release;
    int rows = 0;
  } held;
  int released = 0;
  held.release = [&] {
    for (int i = 0; i < 3; ++i) released += replica_.value(a_, key_of(i)).ok();
  };
  vault::RotationStore::Position position;
  EXPECT_FALSE(rotator_.store.rewrap_rows(a_, position, 10, held).ok());
  EXPECT_EQ(released, 3);
  EXPECT_EQ(rotator_.store.backlog_of(a_).value().rows(), 3u);  // nothing was kept of it
  expect_filled(replica_, a_, 3);
}

TEST_F(KeyRotation, ARateIsKept) {
  fill(a_, 8);
  ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
  std::chrono::milliseconds waited{0};
  vault::Rotation slow(rotator_.store, rotator_.keyring, kClock,
                       {4, 50, [&](std::chrono::milliseconds time) { waited = time; }});
  ASSERT_TRUE(slow.rewrap(a_, Rotator::ignore).ok());
  // Eight rows at four a second are done after two seconds, most of which it waits.
  EXPECT_GT(waited.count(), 0);
  EXPECT_LE(waited.count(), 2000);
}

// ---- all of it, beside others ----

TEST_F(KeyRotation, UnderLoadNoReleaseFailsAndNothingIsLeftBehind) {
  const auto rounds = from_environment("POSTERN_ROTATION_ROUNDS", 3);
  constexpr int kCredentials = 24;
  fill(a_, kCredentials);
  Replica first(database_, new_ + old_);
  Replica second(database_, new_ + old_);
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0}, puts{0}, releases{0};
  std::mutex mutex;
  std::map<int, std::string> last;  // each is written by one thread
  const auto write = [&](Replica& replica, int from) {
    for (int i = 0; !stop; ++i) {
      const int number = from + i % (kCredentials / 2);
      const auto value = "value " + std::to_string(number) + " " + std::to_string(i);
      if (replica.put(a_, key_of(number), value).ok()) {
        ++puts;
        const std::lock_guard lock(mutex);
        last[number] = value;
      } else {
        ++failed;
      }
    }
  };
  const auto release = [&](Replica& replica) {
    for (int i = 0; !stop; ++i) {
      const auto value = replica.value(a_, key_of(i % kCredentials));
      if (!value.ok() || !value.value().starts_with("value " + std::to_string(i % kCredentials))) {
        ++failed;
      }
      ++releases;
    }
  };
  std::vector<std::thread> threads;
  threads.emplace_back(write, std::ref(first), 0);
  threads.emplace_back(write, std::ref(second), kCredentials / 2);
  threads.emplace_back(release, std::ref(first));
  threads.emplace_back(release, std::ref(second));
  rotator_.rotate_root();
  for (std::uint64_t round = 0; round < rounds; ++round) {
    const int before = puts;
    ASSERT_TRUE(rotator_.rotation.rotate_tenant(a_).ok());
    const auto progress = rotator_.rewrap(a_);
    EXPECT_EQ(progress.left, 0u);
    // Not just now, but for good: no writer adds to it, however late it hears of it.
    while (puts < before + 20 && failed == 0) std::this_thread::yield();
    EXPECT_EQ(rotator_.store.backlog_of(a_).value().rows(), 0u);
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_GT(releases, 0);
  Replica fresh(database_, new_);  // without the old root key
  for (int i = 0; i < kCredentials; ++i) {
    const auto found = last.find(i);
    EXPECT_EQ(fresh.value(a_, key_of(i)).value(),
              found != last.end() ? found->second : "value " + std::to_string(i));
  }
  const auto verified = fresh.log.verify(a_);
  EXPECT_TRUE(verified.value().intact) << verified.value().problem;
}

}  // namespace
}  // namespace postern::test
