// What a copy of the database opens of whom was erased, with the right root key and our
// own code; and that nothing of theirs comes back.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "crypto/random.h"
#include "policy/erasure_statement.h"
#include "storage/postgres_erasure_store.h"
#include "storage/postgres_rotation_store.h"
#include "storage/postgres_share_store.h"
#include "storage/postgres_wrapping_store.h"
#include "storage/pqxx_compat.h"
#include "support/code_of.h"
#include "support/postgres_stores.h"
#include "support/postgres_tools.h"
#include "support/sealed_besides.h"
#include "support/service_fixture.h"
#include "vault/envelope.h"
#include "vault/erasure.h"
#include "vault/key_holder.h"
#include "vault/rotation.h"
#include "vault/share_errors.h"
#include "vault/share_store.h"
#include "vault/wrapping.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::UnorderedElementsAreArray;

const SystemClock kClock;
const Principal kAlice{"https://idp.example", "alice"};
const Principal kBob{"https://idp.example", "bob"};
const Principal kNamesake{"https://other.example", "alice"};

std::string root_key_line() {
  const TempDirectory directory;
  const auto file = directory.path() / "root";
  EXPECT_TRUE(vault::RootKeys::create(file).ok());
  return read_text(file);
}

/// A share store that a test can take away, and look into.
class WatchedShares final : public vault::ShareStore {
 public:
  explicit WatchedShares(vault::ShareStore& store) : store_(store) {}
  Status add(const TenantId& tenant, const vault::ShareId& id,
             const vault::KeyShare& share) override {
    ++adds;
    if (before_ask) before_ask();
    return away ? Status(gone()) : store_.add(tenant, id, share);
  }
  Result<vault::KeyShare> find(const TenantId& tenant, const vault::ShareId& id) override {
    ++finds;
    if (before_ask) before_ask();
    if (away) return gone();
    auto found = store_.find(tenant, id);
    if (after_find) after_find();
    return found;
  }
  Status know(const TenantId& tenant, std::span<const vault::ShareId> ids) override {
    return away || tenant == refuses ? Status(gone()) : store_.know(tenant, ids);
  }
  using ShareStore::destroy;
  Status destroy(const TenantId& tenant, std::span<const vault::ShareId> ids) override {
    ++destroys;
    if (before_destroy) before_destroy();
    if (away || tenant == refuses) return gone();
    return store_.destroy(tenant, ids);
  }
  Result<std::uint64_t> destroy_all(const TenantId& tenant) override {
    ++destroys;
    if (away || tenant == refuses) return gone();
    return store_.destroy_all(tenant);
  }
  Status ping() override { return away ? Status(gone()) : store_.ping(); }

  std::atomic<bool> away{false};
  std::optional<TenantId> refuses;  ///< to destroy what this tenant has
  std::atomic<int> adds{0};
  std::atomic<int> finds{0};
  std::atomic<int> destroys{0};  ///< that were asked for
  std::function<void()> before_ask;
  std::function<void()> after_find;
  std::function<void()> before_destroy;

 private:
  static Error gone() { return fail(ErrorCode::Unavailable, "away", "away"); }
  vault::ShareStore& store_;
};

vault::CredentialKey key_of(const Owner& owner, const std::string& name = "github") {
  return {owner, CredentialName(name)};
}
vault::CredentialKey key_of(const Principal& principal, const std::string& name = "github") {
  return key_of(Owner::principal(principal), name);
}

vault::Fields fields_of(const std::string& value) {
  vault::Fields fields;
  fields.emplace("token", FieldValue(SecureBuffer::copy_of(value)));
  return fields;
}

/// A replica, as the service puts it together.
struct Replica : StoreSet {
  Replica(const PostgresDatabase& server, const std::string& root_keys, vault::ShareStore* shares_)
      : Replica(server.options(), root_keys, shares_) {}
  Replica(const storage::DatabaseOptions& options, const std::string& root_keys,
          vault::ShareStore* shares_)
      : StoreSet(options, vault::RootKeys::parse(root_keys).value(), shares_), shares(shares_) {}

  vault::CredentialStore::Seal sealing(const TenantId& tenant, const vault::CredentialKey& key,
                                       const std::string& value) {
    return [=, this](std::uint32_t version) {
      return envelope.seal(tenant, key, version, fields_of(value), kClock.now(), std::nullopt);
    };
  }
  Result<vault::CredentialMetadata> put(const TenantId& tenant, const vault::CredentialKey& key,
                                        const std::string& value,
                                        std::optional<vault::Expected> expected = std::nullopt) {
    return credentials.put(tenant, key, expected, sealing(tenant, key, value), {});
  }
  Result<std::string> value(const TenantId& tenant, const vault::CredentialKey& key) {
    POSTERN_TRY(const auto sealed, credentials.latest(tenant, key));
    POSTERN_TRY(const auto fields, envelope.open(tenant, key, sealed));
    return fields.at("token").expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  }
  audit::Event event(const TenantId& tenant, const std::string& action) const {
    return {tenant, kClock.now(), action, audit::Outcome::Allowed, "", {}};
  }
  Result<vault::ErasureStore::Begun> erase(const TenantId& tenant, const Principal& principal) {
    return erasures.erase(tenant, principal, event(tenant, "principal.erase"));
  }
  Result<vault::ErasureStore::Begun> erase_tenant(const TenantId& tenant) {
    return erasures.erase_tenant(tenant, event(tenant, "tenant.erase"));
  }
  Result<vault::Rotation::Progress> rewrap(const TenantId& tenant) {
    return rotation.rewrap(tenant, [](const vault::Rotation::Progress&) {});
  }

  /// Has an answer wait, and names it.
  Result<crypto::Hash256> wrap(const TenantId& tenant, const Owner& owner,
                               const std::string& maker) {
    auto record = event(tenant, "vault.wrap");
    POSTERN_TRY(const auto made,
                wrapping.wrap(tenant, owner, maker, "x", std::chrono::hours(1),
                              Plaintext(SecureBuffer::copy_of("the answer")), record));
    return made.answer.token_hash;
  }
  /// Opens one that waits, and leaves it there.
  Result<std::string> answer(const TenantId& tenant, const crypto::Hash256& token_hash) {
    POSTERN_TRY(const auto row, answers.find(tenant, token_hash, kClock.now()));
    POSTERN_TRY(const auto opened, keyring.unwrap_private(tenant, row.owner, vault::kWrappedAnswer,
                                                          vault::box_id(row), row.sealed));
    return opened.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  }

  vault::ShareStore* shares;
  vault::Envelope envelope{keyring};
  storage::PostgresWrappingStore answers{database, log};
  vault::Wrapping wrapping{keyring, answers, kClock};
  storage::PostgresRotationStore rotation_store{database, log};
  vault::Rotation rotation{rotation_store, keyring, kClock, {0, 3, {}, {}}};  // small batches
  storage::PostgresErasureStore erasure_store{database, log};
  vault::Erasures erasures{
      erasure_store, keyring, shares,
      [this](const TenantId& tenant, const vault::Erasure& erasure) {
        return policy::sign_statement(keyring, {std::string(kBaseUrlOfTests), 7}, tenant, erasure);
      },
      kClock};
};

class ErasureInTheDatabase : public ::testing::Test {
 protected:
  ErasureInTheDatabase() {
    for (const auto& tenant : {acme_, other_}) {
      for (const auto& key : all_keys()) fill(replica_, tenant, key);
    }
  }
  static std::vector<vault::CredentialKey> all_keys() {
    return {key_of(kAlice), key_of(kAlice, "jira"), key_of(kBob), key_of(kNamesake),
            key_of(Owner::tenant())};
  }
  static std::string value_of(const vault::CredentialKey& key) {
    return "value of " + key.owner.principal().issuer + key.owner.principal().subject +
           key.name.str();
  }
  static void fill(Replica& replica, const TenantId& tenant, const vault::CredentialKey& key) {
    const auto put = replica.put(tenant, key, value_of(key));
    ASSERT_TRUE(put.ok()) << put.error().detail << put.error().diagnostic;
  }
  static bool opens(Replica& replica, const TenantId& tenant, const vault::CredentialKey& key) {
    const auto found = replica.value(tenant, key);
    if (found.ok()) {
      EXPECT_EQ(found.value(), value_of(key));
    }
    return found.ok();
  }
  /// Which of all_keys() open, one digit for each.
  static std::string opened(Replica& replica, const TenantId& tenant) {
    std::string out;
    for (const auto& key : all_keys()) out += opens(replica, tenant, key) ? '1' : '0';
    return out;
  }
  static std::string scalar(const PostgresDatabase& database, const std::string& sql) {
    pqxx::connection connection(database.superuser());
    pqxx::nontransaction tx(connection);
    tx.exec("SET search_path = postern");
    const auto rows = tx.exec(sql);
    return rows.empty() ? "" : rows[0][0].c_str();
  }
  std::string scalar(const std::string& sql) { return scalar(database_, sql); }
  /// The SQLSTATE of a statement of the service in acme's name; "" when it succeeds.
  std::string refused(const std::string& sql) {
    pqxx::connection connection(database_.service());
    pqxx::work tx(connection);
    tx.exec("SET search_path = postern");
    tx.exec("SELECT set_config('postern.tenant_id', " + tx.quote(acme_.str()) + ", true)");
    try {
      tx.exec(sql);
    } catch (const std::exception& error) {
      return storage::pq::sqlstate_of(error).value_or(error.what());
    }
    return "";
  }
  std::string of_alice() const {
    return " WHERE tenant_id = '" + acme_.str() +
           "' AND owner_issuer = 'https://idp.example' AND owner_subject = 'alice'";
  }
  /// One that waits for a lock for as long as a test may take.
  storage::DatabaseOptions patient() const {
    auto options = database_.options();
    options.statement_timeout = options.lock_timeout = std::chrono::seconds(30);
    return options;
  }
  /// Until so many wait for a lock in this test's database.
  void until_waiting(const std::string& count) {
    eventually(
        [&] {
          return scalar(
                     "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                     " AND wait_event_type = 'Lock'") == count;
        },
        "waits");
  }
  vault::ErasureStore::Begun begun_tenant(const TenantId& tenant) {
    return replica_.erasure_store
        .begin_tenant(tenant, "whole", kClock.now(), replica_.event(tenant, "tenant.erase"))
        .value();
  }
  void expect_intact(const TenantId& tenant) {
    const auto verified = replica_.log.verify(tenant);
    ASSERT_TRUE(verified.ok());
    EXPECT_TRUE(verified.value().intact) << verified.value().problem;
  }
  std::size_t records(const TenantId& tenant, const std::string& action) {
    return replica_.log.read(tenant, {0, 1000, false, action}).value().size();
  }
  Json claims(const std::string& statement) {
    const auto read = policy::verify_statement(policy::statement_keys(replica_.keyring), statement);
    EXPECT_TRUE(read.ok());
    return read.ok() ? read.value() : Json();
  }

  /// All rows of a database, as a backup has them.
  std::filesystem::path dump() { return dump_of(database_.superuser()); }
  std::filesystem::path dump_of(const std::string& conninfo) {
    const auto file = directory_.path() / ("dump." + std::to_string(++dumps_));
    finish({postgres_tool("pg_dump"), "--data-only", "--disable-triggers", "--schema=postern",
            "--exclude-table=postern.schema_migration", "--file=" + file.string(),
            "--dbname=" + conninfo});
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
  ShareDatabase share_server_;
  storage::Database share_database_{share_server_.options()};
  storage::PostgresShareStore postgres_shares_{share_database_};
  WatchedShares shares_{postgres_shares_};
  PostgresDatabase database_;
  Replica replica_{database_, root_key_, &shares_};
  const TenantId acme_ = replica_.add_tenant();
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

TEST_F(ErasureInTheDatabase, ADumpOfBeforeAndTheRootKeyOpenNothingOfAnErasedPrincipal) {
  const auto before = dump();
  const auto copy = restored(before);
  {
    Replica control(*copy, root_key_, &shares_);
    ASSERT_EQ(opened(control, acme_), "11111") << "the control: it all opens while the shares are";
  }
  const auto done = replica_.erase(acme_, kAlice);
  ASSERT_TRUE(done.ok()) << done.error().diagnostic;
  ASSERT_TRUE(done.value().erasure.done_at);
  EXPECT_EQ(opened(replica_, acme_), "00111");
  EXPECT_EQ(opened(replica_, other_), "11111");

  // Even with the share store as it is now.
  Replica of_before(*copy, root_key_, &shares_);
  EXPECT_EQ(opened(of_before, acme_), "00111");
  EXPECT_EQ(opened(of_before, other_), "11111") << "another tenant's namesake";
  EXPECT_TRUE(vault::is_share_destroyed(of_before.value(acme_, key_of(kAlice)).error()));
  EXPECT_EQ(code_of(of_before.rewrap(acme_)), std::nullopt);
}

TEST_F(ErasureInTheDatabase, ADumpOfBeforeAndTheRootKeyOpenNothingOfAnErasedTenant) {
  const auto before = dump();
  const auto copy = restored(before);
  const auto done = replica_.erase_tenant(acme_);
  ASSERT_TRUE(done.ok()) << done.error().diagnostic;
  ASSERT_TRUE(done.value().erasure.done_at);
  EXPECT_EQ(opened(replica_, acme_), "00000");
  EXPECT_EQ(opened(replica_, other_), "11111");

  Replica of_before(*copy, root_key_, &shares_);
  EXPECT_EQ(opened(of_before, acme_), "00000");
  EXPECT_EQ(opened(of_before, other_), "11111") << "the control";
  const auto verified = of_before.log.verify(acme_);
  ASSERT_TRUE(verified.ok());
  EXPECT_TRUE(verified.value().intact) << "its trail verifies: that takes the KEK alone";
}

TEST_F(ErasureInTheDatabase, WhoeverRewritesTheDumpOpensNothingEither) {
  const auto before = dump();
  ASSERT_TRUE(replica_.erase(acme_, kAlice).ok());
  ASSERT_TRUE(replica_.erase_tenant(other_).ok());
  const char* const attempts[] = {
      // The marks taken away,
      "UPDATE credential_version SET share_id = NULL; UPDATE kek SET share_id = NULL",
      // all put under the share of somebody who is there,
      "UPDATE credential_version SET share_id = (SELECT share_id FROM principal_share"
      " WHERE owner_subject = 'bob' LIMIT 1) WHERE owner_subject = 'alice'",
      // and the rows made another's, who is there.
      "UPDATE credential_version SET owner_subject = 'bob', name = 'jira',"
      " share_id = (SELECT share_id FROM principal_share WHERE owner_subject = 'bob' LIMIT 1)"
      " WHERE owner_subject = 'alice' AND name = 'jira'",
  };
  for (const auto* sql : attempts) {
    const auto copy = restored(before);
    scalar(*copy, std::string("SET session_replication_role = replica; ") + sql);
    Replica replica(*copy, root_key_, &shares_);
    EXPECT_FALSE(opens(replica, acme_, key_of(kAlice))) << sql;
    EXPECT_FALSE(opens(replica, acme_, key_of(kAlice, "jira"))) << sql;
    EXPECT_FALSE(replica.value(acme_, key_of(kBob, "jira")).ok()) << sql;
    for (const auto& key : all_keys()) EXPECT_FALSE(opens(replica, other_, key)) << sql;
  }
}

TEST_F(ErasureInTheDatabase, WithoutTheShareStoreADumpOpensNothingThatTakesAShare) {
  const auto copy = restored(dump());
  Replica thief(*copy, root_key_, nullptr);
  EXPECT_EQ(opened(thief, acme_), "00000");
  EXPECT_EQ(code_of(thief.value(acme_, key_of(kAlice))), ErrorCode::KeyUnavailable);
}

TEST_F(ErasureInTheDatabase, SharesAndValuesAreInNoRowAndNoLog) {
  // Every share there is, as the share store has them, in the form of a dump.
  pqxx::connection connection(share_server_.superuser());
  pqxx::nontransaction tx(connection);
  const auto rows =
      tx.exec("SELECT encode(share, 'hex') FROM postern.key_share WHERE share IS NOT NULL");
  ASSERT_EQ(static_cast<int>(rows.size()), 2 + 2 * 3);  // two KEKs, and three principals of each
  const auto before = read_text(dump());
  ASSERT_TRUE(replica_.erase(acme_, kAlice).ok());
  const auto after = read_text(dump());
  const auto log = read_text(shared_postgres().log_file());
  EXPECT_THAT(before, HasSubstr("github"));
  for (const auto& row : rows) {
    for (const auto* text : {&before, &after, &log}) {
      EXPECT_EQ(text->find(row[0].c_str()), std::string::npos);
    }
  }
  for (const auto* text : {&before, &after, &log}) {
    EXPECT_THAT(*text, Not(HasSubstr("value of")));
  }
  EXPECT_EQ(tx.exec("SELECT count(share) FROM postern.key_share")[0][0].as<int>(), 2 + 2 * 3 - 1);
}

// ---- the erasure of a principal ----

TEST_F(ErasureInTheDatabase, AllThatIsTheirsIsGoneAndNothingElse) {
  const auto begun = replica_.erase(acme_, kAlice).value();
  EXPECT_TRUE(begun.anew);
  EXPECT_EQ(begun.erasure.credentials, 2u);
  EXPECT_EQ(begun.erasure.versions, 2u);
  EXPECT_EQ(begun.erasure.shares, 1u);
  const std::string of_alice = " WHERE tenant_id = '" + acme_.str() +
                               "' AND owner_issuer = 'https://idp.example'"
                               " AND owner_subject = 'alice'";
  EXPECT_EQ(scalar("SELECT count(*) FROM credential" + of_alice), "0");
  EXPECT_EQ(scalar("SELECT count(*) FROM credential_version" + of_alice), "0");
  EXPECT_EQ(scalar("SELECT count(*) FROM principal_share" + of_alice), "0");
  EXPECT_EQ(opened(replica_, acme_), "00111");
  EXPECT_EQ(records(acme_, "principal.erase"), 1u);
  EXPECT_EQ(records(acme_, "principal.erased"), 1u);
  EXPECT_EQ(records(other_, "principal.erased"), 0u);
  expect_intact(acme_);
}

TEST_F(ErasureInTheDatabase, AnswersThatWaitWrappedGoToo) {
  storage::PostgresWrappingStore answers(replica_.database, replica_.log);
  int number = 0;
  const auto wrap = [&](const TenantId& tenant, const std::string& maker) {
    const auto seal = [&]() -> Result<vault::WrappedAnswer> {
      const auto text = std::to_string(++number);
      return vault::WrappedAnswer{crypto::sha256(as_bytes(text)),
                                  "accessor-" + text,
                                  maker,
                                  "path",
                                  kClock.now(),
                                  kClock.now() + std::chrono::hours(1),
                                  {KekVersion{1}, to_bytes("box")}};
    };
    return answers.add(tenant, seal, 10, kClock.now(), {});
  };
  const auto left = [&](const TenantId& tenant) {
    std::vector<std::string> makers;
    pqxx::connection connection(database_.superuser());
    pqxx::nontransaction tx(connection);
    for (const auto& row : tx.exec("SELECT maker FROM postern.wrapped_answer WHERE tenant_id = " +
                                   tx.quote(tenant.str()))) {
      makers.emplace_back(row[0].c_str());
    }
    return makers;
  };
  // Of alice, by herself and by clients, of which one has a bad name.
  const std::vector<std::string> hers = {
      "user https://idp.example alice", "client gw-01 for https://idp.example alice",
      "client https://gw.example/for for https://idp.example alice",
      "client for for https://idp.example alice"};
  const std::vector<std::string> others = {
      "operator", "tenant-admin alice", "client gw-01", "user https://idp.example bob",
      "user https://idp.example alice smith", "user https://other.example alice",
      "client gw-01 for https://idp.example bob", "client gw-01 for https://other.example alice",
      "client gw-01 for https://idp.example alice smith",
      "client gw-01 for https://idp.example malice",
      "client gw-01 for https://idp.example for https://idp.example alice",
      // A subject that reads as if a client had been there for alice.
      "user https://idp.example x for https://idp.example alice",
      "client gw-01 for https://idp.example x for https://idp.example alice",
      "client gw-01 for https://idp.example client gw-01 for https://idp.example alice",
      "user client gw-01 for https://idp.example alice"};
  for (const auto& makers : {hers, others}) {
    for (const auto& maker : makers) ASSERT_TRUE(wrap(acme_, maker).ok()) << maker;
  }
  ASSERT_TRUE(wrap(other_, hers[1]).ok());
  shares_.refuses = acme_;  // so that it stays open
  ASSERT_FALSE(replica_.erase(acme_, kAlice).value().erasure.done_at);
  EXPECT_THAT(left(acme_), UnorderedElementsAreArray(others));
  EXPECT_THAT(left(other_), UnorderedElementsAreArray({hers[1]})) << "another tenant's namesake";
  // Nor does one begin to wait meanwhile.
  for (const auto& maker : hers) {
    const auto late = wrap(acme_, maker);
    ASSERT_FALSE(late.ok()) << maker;
    EXPECT_TRUE(storage::is_being_erased(late.error())) << late.error().diagnostic;
  }
  for (const auto& maker : others) EXPECT_TRUE(wrap(acme_, maker).ok()) << maker;
}

class AnswersOfTheErased : public ErasureInTheDatabase {
 protected:
  /// Of alice, by herself and by a client; and of others.
  struct Waiting {
    std::vector<crypto::Hash256> hers, others;
  };
  static Waiting wrapped(Replica& replica, const TenantId& tenant) {
    const auto alice = Owner::principal(kAlice), bob = Owner::principal(kBob);
    return {{replica.wrap(tenant, alice, "user https://idp.example alice").value(),
             replica.wrap(tenant, alice, "client gw-01 for https://idp.example alice").value()},
            {replica.wrap(tenant, bob, "user https://idp.example bob").value(),
             replica.wrap(tenant, Owner::tenant(), "operator").value()}};
  }
  static int opened(Replica& replica, const TenantId& tenant,
                    const std::vector<crypto::Hash256>& waiting) {
    int count = 0;
    for (const auto& hash : waiting) {
      const auto answer = replica.answer(tenant, hash);
      if (!answer.ok()) continue;
      EXPECT_EQ(answer.value(), "the answer");
      ++count;
    }
    return count;
  }
  std::string without_share(const TenantId& tenant) {
    return scalar("SELECT count(*) FROM wrapped_answer WHERE share_id IS NULL AND tenant_id = '" +
                  tenant.str() + "'");
  }
};

TEST_F(AnswersOfTheErased, ADumpOfWhileTheyWaitedAndTheRootKeyOpenNothing) {
  const auto waiting = wrapped(replica_, acme_);
  const auto begun = restored(dump());
  ASSERT_TRUE(replica_.rotation.rotate_tenant(acme_).ok());
  ASSERT_EQ(replica_.rewrap(acme_).value().left, 0u);
  const auto moved = restored(dump());
  ASSERT_EQ(opened(replica_, acme_, waiting.hers), 2);
  for (const auto* copy : {&begun, &moved}) {
    Replica control(**copy, root_key_, &shares_);
    ASSERT_EQ(opened(control, acme_, waiting.hers), 2) << "while the share is there";
  }

  const auto erasure = replica_.erase(acme_, kAlice).value().erasure;
  ASSERT_TRUE(erasure.done_at);
  EXPECT_EQ(claims(erasure.statement).at("backups").at("covered"), true);
  for (const auto* copy : {&begun, &moved}) {
    Replica thief(**copy, root_key_, &shares_);
    EXPECT_EQ(opened(thief, acme_, waiting.hers), 0);
    EXPECT_EQ(opened(thief, acme_, waiting.others), 2);
    EXPECT_TRUE(vault::is_share_destroyed(thief.answer(acme_, waiting.hers[0]).error()));
    for (const auto* attempt :
         {"share_id = NULL",
          "share_id = (SELECT share_id FROM principal_share p WHERE p.owner_subject = 'bob'"
          " AND p.tenant_id = w.tenant_id)",
          "owner_subject = 'bob'", "share_id = NULL, owner_issuer = '', owner_subject = ''"}) {
      scalar(**copy, std::string("SET session_replication_role = replica;"
                                 "UPDATE wrapped_answer w SET ") +
                         attempt + " WHERE maker LIKE '% alice'");
      EXPECT_EQ(opened(thief, acme_, waiting.hers), 0) << attempt;
    }
  }
}

TEST_F(AnswersOfTheErased, WhoHasNothingElseIsErasedAsWell) {
  const Principal carol{"https://idp.example", "carol"};
  const auto hers = replica_.wrap(acme_, Owner::principal(carol), "user https://idp.example carol");
  ASSERT_TRUE(hers.ok());
  const auto copy = restored(dump());
  const auto erasure = replica_.erase(acme_, carol).value().erasure;
  ASSERT_TRUE(erasure.done_at);
  EXPECT_EQ(erasure.shares, 1u);
  EXPECT_EQ(code_of(replica_.answer(acme_, hers.value())), ErrorCode::NotFound);
  Replica thief(*copy, root_key_, &shares_);
  EXPECT_FALSE(thief.answer(acme_, hers.value()).ok());
}

TEST_F(AnswersOfTheErased, WhoHasNothingElseIsErasedAlsoWhereThatTakesNoShare) {
  const Principal carol{"https://idp.example", "carol"};
  const auto expect_erased = [&](Replica& replica, const TenantId& tenant, const Owner& owner,
                                 const std::string& maker) -> std::string {
    const auto hers = replica.wrap(tenant, owner, maker);
    EXPECT_TRUE(hers.ok());
    const auto begun = replica.erase(tenant, carol);
    if (!hers.ok() || !begun.ok()) {
      ADD_FAILURE() << maker;
      return "";
    }
    EXPECT_TRUE(begun.value().anew);
    EXPECT_TRUE(begun.value().erasure.done_at);
    EXPECT_EQ(begun.value().erasure.shares, 0u);
    EXPECT_EQ(code_of(replica.answer(tenant, hers.value())), ErrorCode::NotFound);
    return begun.value().erasure.id;
  };
  Replica plain(database_, root_key_, nullptr);
  const auto tenant = plain.add_tenant();
  const auto owner = Owner::principal(carol);
  EXPECT_EQ(code_of(plain.erase(tenant, carol)), ErrorCode::NotFound);
  const auto first = expect_erased(plain, tenant, owner, "user https://idp.example carol");
  // Another one has come since: the statement of before does not speak of it.
  const auto second =
      expect_erased(plain, tenant, owner, "client gw-01 for https://idp.example carol");
  EXPECT_NE(first, second);
  // With a share store, one of the release before, which takes no share.
  expect_erased(replica_, acme_, Owner::tenant(), "user https://idp.example carol");
}

TEST_F(AnswersOfTheErased, ThoseFromBeforeThereWasAShareStoreOpenAndAreMovedUnderShares) {
  Replica plain(database_, root_key_, nullptr);
  const auto tenant = plain.add_tenant();
  const auto waiting = wrapped(plain, tenant);
  ASSERT_EQ(without_share(tenant), "4");
  Replica replica(database_, root_key_, &shares_);
  EXPECT_EQ(opened(replica, tenant, waiting.hers), 2);
  ASSERT_TRUE(replica.rotation.rotate_tenant(tenant).ok());
  const auto moved = replica.rewrap(tenant);
  ASSERT_TRUE(moved.ok()) << moved.error().diagnostic;
  ASSERT_EQ(moved.value().left, 0u);
  EXPECT_EQ(without_share(tenant), "1") << "the operator's";
  EXPECT_EQ(opened(replica, tenant, waiting.hers), 2);
  const auto after = restored(dump());
  ASSERT_TRUE(replica.erase(tenant, kAlice).value().erasure.done_at);
  Replica thief(*after, root_key_, &shares_);
  EXPECT_EQ(opened(thief, tenant, waiting.hers), 0);
}

TEST_F(AnswersOfTheErased, CopiesAreSaidToBeCoveredFromWhenTheLastOneWithoutAShareWent) {
  // As the release before stores them: who it is for is in the name of the maker alone.
  const auto long_ago = kClock.now() - std::chrono::hours(48);
  scalar("UPDATE principal_share SET created_at = now() - interval '2 days' RETURNING 1");
  const auto hash = replica_.wrap(acme_, Owner::tenant(), "user https://idp.example alice").value();
  const auto before = kClock.now();
  ASSERT_TRUE(replica_.answers
                  .take(acme_, hash, kClock.now(),
                        [](const auto&) { return std::optional<vault::WrappedAnswer>(); }, {})
                  .ok());
  EXPECT_GE(*replica_.erase(acme_, kAlice).value().erasure.covered_since, before);
  EXPECT_LE(*replica_.erase(acme_, kBob).value().erasure.covered_since,
            long_ago + std::chrono::hours(1))
      << "nothing of his was ever without";
}

TEST_F(AnswersOfTheErased, NoneIsStoredUnderAShareThatIsNotTheirs) {
  const auto insert = [&](const std::string& subject, const std::string& share) {
    return refused(
        "INSERT INTO wrapped_answer (tenant_id, token_hash, accessor, maker, creation_path,"
        " created_at, expires_at, kek_version, sealed, owner_issuer, owner_subject, share_id)"
        " VALUES ('" +
        acme_.str() +
        "', decode(repeat('01', 32), 'hex'), 'a', 'm', 'p', now(), 'infinity', 1,"
        " decode('00', 'hex'), 'https://idp.example', '" +
        subject + "', " + share + ")");
  };
  const auto alices = "(SELECT share_id FROM principal_share" + of_alice() + ")";
  EXPECT_EQ(insert("alice", alices), "");
  EXPECT_EQ(insert("bob", alices), "SHR01");
  EXPECT_EQ(insert("alice", "decode(repeat('02', 32), 'hex')"), "SHR01");
}

TEST_F(AnswersOfTheErased, NoTransactionWaitsForTheShareStore) {
  int asked = 0;
  shares_.before_ask = [&] {
    ++asked;
    EXPECT_EQ(scalar("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                     " AND state LIKE 'idle in transaction%'"),
              "0");
  };
  const auto text_of = [](const BearerToken& token) {
    return token.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  };
  const Principal dave{"https://idp.example", "dave"};
  auto record = replica_.event(acme_, "vault.wrap");
  const auto made = replica_.wrapping.wrap(
      acme_, Owner::principal(dave), "user https://idp.example dave", "x", std::chrono::hours(1),
      Plaintext(SecureBuffer::copy_of("the answer")), record);
  ASSERT_TRUE(made.ok());
  EXPECT_GT(std::exchange(asked, 0), 0) << "for a share of dave's";

  // Of replicas that have not read any share yet.
  Replica second(database_, root_key_, &shares_), third(database_, root_key_, &shares_);
  record = second.event(acme_, "vault.rewrap");
  const auto anew = second.wrapping.rewrap(acme_, text_of(made.value().token), record);
  ASSERT_TRUE(anew.ok());
  EXPECT_GT(std::exchange(asked, 0), 0);
  record = third.event(acme_, "vault.unwrap");
  EXPECT_TRUE(third.wrapping.unwrap(acme_, text_of(anew.value().token), record).ok());
  EXPECT_GT(asked, 0);
  shares_.before_ask = nullptr;
}

TEST_F(AnswersOfTheErased, WithTheShareStoreAwayNoneBeginsToWait) {
  shares_.away = true;
  Replica cold(database_, root_key_, &shares_);
  EXPECT_EQ(code_of(cold.wrap(acme_, Owner::principal(kAlice), "user https://idp.example alice")),
            ErrorCode::KeyUnavailable);
  EXPECT_EQ(scalar("SELECT count(*) FROM wrapped_answer"), "0");
}

TEST_F(ErasureInTheDatabase, AskedAgainItIsTheSameErasure) {
  const auto first = replica_.erase(acme_, kAlice).value();
  const auto again = replica_.erase(acme_, kAlice).value();
  EXPECT_EQ(again.erasure.id, first.erasure.id);
  EXPECT_FALSE(again.anew);
  EXPECT_EQ(again.erasure.statement, first.erasure.statement);
  EXPECT_EQ(records(acme_, "principal.erased"), 1u);
}

TEST_F(ErasureInTheDatabase, OfWhomNothingIsStoredThereIsNothingToErase) {
  EXPECT_EQ(code_of(replica_.erase(acme_, {"https://idp.example", "nobody"})), ErrorCode::NotFound);
  EXPECT_EQ(code_of(replica_.erase(TenantId("nowhere"), kAlice)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(replica_.erasure_store.find(other_, "nothing")), ErrorCode::NotFound);
  EXPECT_EQ(scalar("SELECT count(*) FROM erasure"), "0");
  EXPECT_EQ(opened(replica_, acme_), "11111");
}

TEST_F(ErasureInTheDatabase, OneTenantsErasuresAreNotAnothers) {
  const auto id = replica_.erase(acme_, kAlice).value().erasure.id;
  EXPECT_EQ(code_of(replica_.erasure_store.find(other_, id)), ErrorCode::NotFound);
  EXPECT_THAT(replica_.erasure_store.list(other_, "", 100).value().items, IsEmpty());
  EXPECT_THAT(replica_.erasure_store.list(acme_, "", 100).value().items, SizeIs(1));
  EXPECT_EQ(code_of(replica_.erasure_store.remove_rows(other_, id, kClock.now())),
            ErrorCode::NotFound);
}

TEST_F(ErasureInTheDatabase, WhoComesBackHasAFreshShareAndNoOldVersionNumber) {
  const auto old = replica_.credentials.latest(acme_, key_of(kAlice)).value();
  ASSERT_TRUE(replica_.erase(acme_, kAlice).ok());
  const auto stored = replica_.put(acme_, key_of(kAlice), value_of(key_of(kAlice)));
  ASSERT_TRUE(stored.ok()) << stored.error().detail;
  EXPECT_GT(stored.value().version, old.version);
  const auto fresh = replica_.credentials.latest(acme_, key_of(kAlice)).value();
  EXPECT_NE(fresh.share, old.share);
  EXPECT_TRUE(opens(replica_, acme_, key_of(kAlice)));
  EXPECT_FALSE(replica_.envelope.open(acme_, key_of(kAlice), old).ok())
      << "what somebody kept of before";
  // And may be erased again.
  const auto again = replica_.erase(acme_, kAlice).value();
  EXPECT_TRUE(again.anew);
  EXPECT_TRUE(again.erasure.done_at);
  EXPECT_EQ(replica_.erasure_store.list(acme_, "", 100).value().items.size(), 2u);
}

// ---- no way around ----

TEST_F(ErasureInTheDatabase, AWriterThatHasTheOldKeyIsRefusedAndSealsAnew) {
  Replica slow(database_, root_key_, &shares_);
  const auto stale =
      slow.sealing(acme_, key_of(kAlice), value_of(key_of(kAlice)))(7).value();  // before
  ASSERT_TRUE(replica_.erase(acme_, kAlice).ok());
  ASSERT_TRUE(replica_.put(acme_, key_of(kAlice, "other"), "to have a share").ok());
  int seals = 0;
  const auto put = slow.credentials.put(acme_, key_of(kAlice), std::nullopt,
                                        [&](std::uint32_t version) -> Result<vault::SealedVersion> {
                                          if (++seals > 1) {
                                            return slow.sealing(acme_, key_of(kAlice),
                                                                value_of(key_of(kAlice)))(version);
                                          }
                                          auto sealed = stale;
                                          sealed.version = version;
                                          return sealed;
                                        },
                                        {});
  ASSERT_TRUE(put.ok()) << put.error().detail;
  EXPECT_EQ(seals, 2);
  const auto stored = replica_.credentials.latest(acme_, key_of(kAlice)).value();
  EXPECT_NE(stored.share, stale.share);
  EXPECT_TRUE(opens(replica_, acme_, key_of(kAlice)));
}

TEST_F(ErasureInTheDatabase, WhatWasReadBeforeIsNotWrittenAfterwards) {
  // As a PATCH does: read, and write what was read.
  const auto read = replica_.value(acme_, key_of(kAlice)).value();
  const auto version = replica_.credentials.metadata(acme_, key_of(kAlice)).value().version;
  ASSERT_TRUE(replica_.erase(acme_, kAlice).ok());
  EXPECT_EQ(code_of(replica_.put(acme_, key_of(kAlice), read, vault::Expected(version))),
            ErrorCode::PreconditionFailed);
  // Nor when the person is back already, with a credential of the same name.
  ASSERT_TRUE(replica_.put(acme_, key_of(kAlice), "new").ok());
  EXPECT_EQ(code_of(replica_.put(acme_, key_of(kAlice), read, vault::Expected(version))),
            ErrorCode::PreconditionFailed);
  EXPECT_EQ(replica_.value(acme_, key_of(kAlice)).value(), "new");
}

TEST_F(ErasureInTheDatabase, ANumberThatWasErasedIsNotUsedAgainByAWriterThatWaited) {
  ASSERT_TRUE(
      replica_.erasure_store
          .begin(acme_, kAlice, "first", kClock.now(), replica_.event(acme_, "principal.erase"))
          .ok());
  // As the erasure does, in one transaction that the writer waits for in the middle of
  // its statement: what that knows of erasures is from before.
  pqxx::connection connection(database_.superuser());
  pqxx::work tx(connection);
  tx.exec("SET search_path = postern");
  tx.exec("SELECT 1 FROM credential" + of_alice() + " FOR UPDATE");
  Replica writer(patient(), root_key_, &shares_);
  auto written =
      std::async(std::launch::async, [&] { return writer.put(acme_, key_of(kAlice), "again"); });
  until_waiting("1");
  tx.exec("DELETE FROM credential" + of_alice());
  tx.exec("DELETE FROM principal_share" + of_alice());
  tx.exec(
      "UPDATE erasure SET removed_at = now(), last_version = 1, done_at = now(),"
      " statement = 'said'" +
      of_alice());
  tx.commit();
  const auto put = written.get();
  ASSERT_TRUE(put.ok()) << put.error().detail << put.error().diagnostic;
  EXPECT_EQ(put.value().version, 2u);

  const std::string insert =
      "INSERT INTO credential_version (tenant_id, owner_issuer, owner_subject, name, version,"
      " kek_version, wrapped_dek, sealed, field_names, created_at, share_id)"
      " SELECT tenant_id, owner_issuer, owner_subject, name, ";
  const std::string from =
      ", kek_version, wrapped_dek, sealed, field_names, created_at, share_id"
      " FROM credential_version" +
      of_alice();
  EXPECT_EQ(refused(insert + "1" + from), "SHR01");
  EXPECT_EQ(refused(insert + "3" + from), "") << "the control";
}

TEST_F(ErasureInTheDatabase, WhoeverHasNothingKeepsNoWriterWaiting) {
  pqxx::connection connection(database_.superuser());
  pqxx::work writer(connection);
  writer.exec("SELECT pg_advisory_xact_lock_shared(postern.kek_lock('" + acme_.str() + "'))");
  EXPECT_EQ(code_of(replica_.erase(acme_, {"https://idp.example", "nobody"})), ErrorCode::NotFound);
}

TEST_F(ErasureInTheDatabase, WhileOneIsOpenNoShareIsMadeAndNoAnswerBeginsToWait) {
  shares_.refuses = acme_;
  ASSERT_FALSE(replica_.erase(acme_, kAlice).value().erasure.done_at);
  shares_.refuses.reset();
  const auto kept = [&] {
    pqxx::connection connection(share_server_.superuser());
    pqxx::nontransaction tx(connection);
    return tx.exec("SELECT count(share) FROM postern.key_share")[0][0].as<int>();
  };
  const auto before = kept();
  EXPECT_EQ(code_of(replica_.keyring.principal_share(acme_, kAlice)), ErrorCode::Conflict);
  EXPECT_EQ(scalar("SELECT count(*) FROM principal_share" + of_alice()), "0");
  EXPECT_EQ(kept(), before) << "what was made for it is taken away";

  storage::PostgresWrappingStore answers(replica_.database, replica_.log);
  const auto add = [&](const std::string& maker) {
    const auto seal = [&]() -> Result<vault::WrappedAnswer> {
      return vault::WrappedAnswer{crypto::sha256(as_bytes(maker)),
                                  maker.substr(0, 64),
                                  maker,
                                  "path",
                                  kClock.now(),
                                  kClock.now() + std::chrono::hours(1),
                                  {KekVersion{1}, to_bytes("box")}};
    };
    return answers.add(acme_, seal, 10, kClock.now(), {});
  };
  EXPECT_EQ(code_of(add("user https://idp.example alice")), ErrorCode::Conflict);
  EXPECT_TRUE(add("user https://idp.example bob").ok());
  EXPECT_TRUE(add("operator").ok());
  replica_.erasures.go_on();
  EXPECT_TRUE(add("user https://idp.example alice").ok()) << "when it is done";
}

TEST_F(ErasureInTheDatabase, WhileOneIsOpenNothingOfTheOwnersIsSealed) {
  shares_.refuses = acme_;
  const auto open = replica_.erase(acme_, kAlice).value();
  ASSERT_FALSE(open.erasure.done_at);
  EXPECT_EQ(code_of(replica_.put(acme_, key_of(kAlice), "again")), ErrorCode::Conflict);
  EXPECT_EQ(code_of(replica_.put(acme_, key_of(kAlice, "new"), "again")), ErrorCode::Conflict);
  EXPECT_EQ(scalar("SELECT count(*) FROM credential WHERE owner_subject = 'alice'"
                   " AND owner_issuer = 'https://idp.example' AND tenant_id = '" +
                   acme_.str() + "'"),
            "0");
  EXPECT_EQ(opened(replica_, acme_), "00111") << "others read";
  EXPECT_TRUE(replica_.put(acme_, key_of(kBob), value_of(key_of(kBob))).ok()) << "and write";
  EXPECT_TRUE(replica_.put(other_, key_of(kAlice), value_of(key_of(kAlice))).ok());

  shares_.refuses.reset();
  replica_.erasures.go_on();
  EXPECT_TRUE(replica_.erasure_store.find(acme_, open.erasure.id).value().done_at);
  EXPECT_TRUE(replica_.put(acme_, key_of(kAlice), "again").ok());
}

TEST_F(ErasureInTheDatabase, ARewrapPassesOverWhomIsBeingErased) {
  ASSERT_TRUE(replica_.rotation.rotate_tenant(acme_).ok());
  // Stopped after its first step, so that the rows are there yet.
  const auto begun = replica_.erasure_store.begin(acme_, kAlice, "first", kClock.now(),
                                                  replica_.event(acme_, "principal.erase"));
  ASSERT_TRUE(begun.ok());
  const auto moved = replica_.rewrap(acme_);
  ASSERT_TRUE(moved.ok()) << moved.error().detail << moved.error().diagnostic;
  EXPECT_EQ(moved.value().left, 0u);
  EXPECT_EQ(moved.value().failed, 0u);
  EXPECT_EQ(scalar("SELECT string_agg(DISTINCT kek_version::text, ',') FROM credential_version"
                   " WHERE tenant_id = '" +
                   acme_.str() +
                   "' AND owner_subject = 'alice'"
                   " AND owner_issuer = 'https://idp.example'"),
            "1");
  replica_.erasures.go_on();
  EXPECT_EQ(opened(replica_, acme_), "00111");
  EXPECT_TRUE(replica_.erasure_store.find(acme_, "first").value().done_at);
}

TEST_F(ErasureInTheDatabase, WritersAtTheSameTimeLeaveNothingUnderTheOldShare) {
  const auto old = replica_.keyring.principal_share(acme_, kAlice).value();
  Replica another(database_, root_key_, &shares_);
  std::atomic<bool> stop{false};
  std::atomic<int> written{0}, refused{0}, otherwise{0};
  std::vector<std::thread> writers;
  for (auto* replica : {&replica_, &another, &replica_, &another}) {
    writers.emplace_back([&, replica, number = writers.size()] {
      const auto key = key_of(kAlice, "of-writer-" + std::to_string(number));
      while (!stop) {
        const auto put = replica->put(acme_, key, "value");
        if (put.ok()) {
          ++written;
        } else if (put.error().code == ErrorCode::Conflict) {
          ++refused;
        } else {
          ++otherwise;
          ADD_FAILURE() << put.error().detail << " " << put.error().diagnostic;
        }
      }
    });
  }
  int before = 0;
  for (int round = 0; round < 5; ++round) {
    // Each erasure finds something that was written since the one before.
    eventually([&] { return written > before; }, "writers write");
    const auto erased = replica_.erase(acme_, kAlice);
    EXPECT_TRUE(erased.ok()) << erased.error().detail << erased.error().diagnostic;
    EXPECT_TRUE(erased.ok() && erased.value().erasure.done_at);
    before = written;
  }
  stop = true;
  for (auto& writer : writers) writer.join();
  EXPECT_EQ(otherwise, 0) << "they are refused in so many words, and never wait for each other";
  EXPECT_EQ(scalar("SELECT count(*) FROM credential_version v WHERE v.owner_subject = 'alice'"
                   " AND NOT EXISTS (SELECT FROM principal_share p WHERE p.share_id = v.share_id)"),
            "0");
  EXPECT_NE(replica_.keyring.principal_share(acme_, kAlice).value(), old);
  EXPECT_EQ(opened(replica_, acme_).substr(2), "111");
  expect_intact(acme_);
}

TEST_F(ErasureInTheDatabase, KeysAreForgottenWhenTheShareIsGone) {
  const auto row = replica_.credentials.latest(acme_, key_of(kAlice)).value();
  ASSERT_TRUE(replica_.envelope.open(acme_, key_of(kAlice), row).ok());  // and so it is remembered
  ASSERT_TRUE(replica_.erase(acme_, kAlice).ok());
  EXPECT_EQ(code_of(replica_.envelope.open(acme_, key_of(kAlice), row)), ErrorCode::KeyUnavailable);
}

TEST_F(ErasureInTheDatabase, AShareThatWasReadJustBeforeIsNotRemembered) {
  const auto row = replica_.credentials.latest(acme_, key_of(kAlice)).value();
  Replica reader(database_, root_key_, &shares_);
  ASSERT_TRUE(opens(reader, acme_, key_of(kBob)));  // so that only hers is read below
  bool once = false;
  shares_.after_find = [&] {
    if (std::exchange(once, true)) return;
    ASSERT_TRUE(replica_.erase(acme_, kAlice).ok());
    reader.keyring.forget(acme_);  // as its watcher does when it hears of it
  };
  EXPECT_TRUE(reader.envelope.open(acme_, key_of(kAlice), row).ok()) << "it had read it";
  shares_.after_find = {};
  EXPECT_EQ(code_of(reader.envelope.open(acme_, key_of(kAlice), row)), ErrorCode::KeyUnavailable);
}

TEST_F(ErasureInTheDatabase, FinishingRaisesTheEpochThatReplicasFollow) {
  const auto before = replica_.config.load(acme_).value().row.epoch;
  ASSERT_TRUE(replica_.erase(acme_, kAlice).ok());
  EXPECT_EQ(replica_.config.load(acme_).value().row.epoch, before + 1);
}

TEST_F(ErasureInTheDatabase, TheServiceMayNotRemoveACredentialsRowOtherwise) {
  pqxx::connection connection(database_.service());
  pqxx::work tx(connection);
  tx.exec("SET search_path = postern");
  tx.exec("SELECT set_config('postern.tenant_id', " + tx.quote(acme_.str()) + ", true)");
  try {
    tx.exec("DELETE FROM credential");
    FAIL() << "it was removed";
  } catch (const std::exception& error) {
    EXPECT_EQ(storage::pq::sqlstate_of(error), "42501");
  }
}

// ---- what does not end, ends later ----

TEST_F(ErasureInTheDatabase, WithTheShareStoreAwayItStaysOpenAndGoesOnLater) {
  shares_.away = true;
  const auto open = replica_.erase(acme_, kAlice).value();
  EXPECT_FALSE(open.erasure.done_at);
  EXPECT_TRUE(open.erasure.removed_at) << "the rows are gone at once";
  EXPECT_FALSE(opens(replica_, acme_, key_of(kAlice)));
  EXPECT_EQ(replica_.erase(acme_, kAlice).value().erasure.id, open.erasure.id);
  replica_.erasures.go_on();
  EXPECT_FALSE(replica_.erasure_store.find(acme_, open.erasure.id).value().done_at);
  replica_.erasures.look_at_share_store();
  EXPECT_EQ(replica_.erasures.share_store(), vault::Erasures::ShareStoreState::Unreachable);

  shares_.away = false;
  Replica another(database_, root_key_, &shares_);  // any replica does it
  another.erasures.start(std::chrono::hours(1));
  eventually(
      [&] {
        return replica_.erasure_store.find(acme_, open.erasure.id).value().done_at.has_value();
      },
      "done");
  another.erasures.stop();
  EXPECT_EQ(another.erasures.share_store(), vault::Erasures::ShareStoreState::Ok);
  EXPECT_EQ(records(acme_, "principal.erased"), 1u);
}

TEST_F(ErasureInTheDatabase, OneThatFailsKeepsNoOtherFromIt) {
  shares_.away = true;
  ASSERT_TRUE(replica_.erase(acme_, kAlice).ok());
  ASSERT_TRUE(replica_.erase(acme_, kBob).ok());
  ASSERT_TRUE(replica_.erase(other_, kAlice).ok());
  shares_.away = false;
  shares_.refuses = acme_;
  replica_.erasures.go_on();
  EXPECT_TRUE(replica_.erasure_store.list(other_, "", 10).value().items.at(0).done_at);
  for (const auto& item : replica_.erasure_store.list(acme_, "", 10).value().items) {
    EXPECT_FALSE(item.done_at);
  }
}

TEST_F(ErasureInTheDatabase, OpenOnesAreReadInPages) {
  shares_.away = true;
  for (const auto& principal : {kAlice, kBob, kNamesake}) {
    ASSERT_TRUE(replica_.erase(acme_, principal).ok());
    ASSERT_TRUE(replica_.erase(other_, principal).ok());
  }
  ASSERT_TRUE(replica_.erase_tenant(other_).ok());
  std::vector<std::string> seen;
  std::optional<vault::ErasureStore::Open> after;
  for (;;) {
    const auto page = replica_.erasure_store.open(after, 2).value();
    if (page.empty()) break;
    for (const auto& open : page) seen.push_back(open.tenant.str() + "/" + open.id);
    after = page.back();
  }
  EXPECT_THAT(seen, SizeIs(7));
  EXPECT_EQ(seen.front(), other_.str() + "/") << "whole tenants first";
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::unique(seen.begin(), seen.end()), seen.end());
}

TEST_F(ErasureInTheDatabase, ATenantWithAnOpenErasureIsNotDeletedAndItsErasureEndsBoth) {
  shares_.away = true;
  const auto open = replica_.erase(acme_, kAlice).value();
  EXPECT_EQ(code_of(replica_.config.remove(acme_, {})), ErrorCode::Conflict);
  EXPECT_EQ(opened(replica_, acme_), "00111");
  shares_.away = false;
  const auto erased = replica_.erase_tenant(acme_).value();
  ASSERT_TRUE(erased.erasure.done_at);
  EXPECT_EQ(code_of(replica_.erasure_store.find(acme_, open.erasure.id)), ErrorCode::NotFound);
  EXPECT_THAT(replica_.erasure_store.open(std::nullopt, 10).value(), IsEmpty());
}

TEST_F(ErasureInTheDatabase, AReplicaWithoutTheShareStoreLeavesItToOthers) {
  Replica without(database_, root_key_, nullptr);
  const auto open = without.erase(acme_, kAlice).value();
  EXPECT_FALSE(open.erasure.done_at);
  without.erasures.go_on();
  EXPECT_FALSE(replica_.erasure_store.find(acme_, open.erasure.id).value().done_at);
  replica_.erasures.go_on();
  EXPECT_TRUE(replica_.erasure_store.find(acme_, open.erasure.id).value().done_at);
}

TEST_F(ErasureInTheDatabase, AReplicaWithoutTheShareStoreFinishesNoTenantThatHasShares) {
  Replica without(database_, root_key_, nullptr);
  const auto open = without.erase_tenant(acme_).value();
  EXPECT_FALSE(open.erasure.done_at);
  without.erasures.go_on();
  EXPECT_FALSE(replica_.erasure_store.find_tenant(acme_).value().done_at);
  EXPECT_EQ(scalar("SELECT count(*) FROM kek WHERE tenant_id = '" + acme_.str() + "'"), "1")
      << "nothing has changed";
  replica_.erasures.go_on();
  const auto done = replica_.erasure_store.find_tenant(acme_).value();
  ASSERT_TRUE(done.done_at);
  EXPECT_EQ(claims(done.statement).at("backups").at("covered"), true);
  EXPECT_EQ(postgres_shares_.destroy_all(acme_).value(), 0u) << "none is left";
}

/// A share store of another installation, with tenants of the same names.
struct AnotherShareStore {
  vault::ShareId add(const TenantId& tenant) {
    SecureBuffer bytes(32);
    crypto::random_bytes(bytes.writable());
    const vault::KeyShare share(std::move(bytes));
    const auto id = vault::id_of(tenant, share);
    EXPECT_TRUE(store.add(tenant, id, share).ok());
    return id;
  }
  ShareDatabase server;
  storage::Database database{server.options()};
  storage::PostgresShareStore store{database};
};

TEST_F(ErasureInTheDatabase, NothingIsSaidOfAnotherShareStoreAndNothingDestroyedThere) {
  AnotherShareStore other;
  const auto theirs = other.add(acme_);
  const auto named = [&](const TenantId& tenant) {
    return replica_.erasure_store.shares_of(tenant, std::nullopt, 100).value();
  };
  ASSERT_THAT(named(acme_), SizeIs(4)) << "of the KEK and of three principals";
  const auto alices = replica_.keyring.principal_share(acme_, kAlice).value();
  Replica misled(database_, root_key_, &other.store);
  EXPECT_FALSE(misled.erase(acme_, kAlice).value().erasure.done_at);
  EXPECT_THAT(named(acme_), SizeIs(4)) << "also what an open erasure is to destroy";
  EXPECT_FALSE(misled.erase_tenant(acme_).value().erasure.done_at);
  misled.erasures.go_on();
  EXPECT_THAT(replica_.erasure_store.open(std::nullopt, 10).value(), SizeIs(2));
  // Nor where all but one of them are: it may be a copy from before that one was made.
  const auto ids = named(acme_);
  for (const auto& id : ids) {
    if (id == alices) continue;
    ASSERT_TRUE(other.store.add(acme_, id, postgres_shares_.find(acme_, id).value()).ok());
  }
  misled.erasures.go_on();
  EXPECT_THAT(replica_.erasure_store.open(std::nullopt, 10).value(), SizeIs(2));
  EXPECT_TRUE(other.store.find(acme_, theirs).ok());
  for (const auto& id : ids) EXPECT_EQ(other.store.find(acme_, id).ok(), id != alices);

  replica_.erasures.go_on();
  const auto done = replica_.erasure_store.find_tenant(acme_).value();
  ASSERT_TRUE(done.done_at);
  EXPECT_EQ(done.shares, 4u);
  EXPECT_EQ(claims(done.statement).at("backups").at("covered"), true);
  for (const auto& id : ids) {
    EXPECT_EQ(code_of(postgres_shares_.find(acme_, id)), ErrorCode::Conflict);
  }
  // It is too late for what the misled one had read.
  misled.erasures.go_on();
  EXPECT_TRUE(other.store.find(acme_, theirs).ok());
}

TEST_F(ErasureInTheDatabase, ATenantThatNamesNoShareHasNoneDestroyedByItsNameAlone) {
  Replica plain(database_, root_key_, nullptr);
  const auto tenant = plain.add_tenant();
  AnotherShareStore other;
  const auto theirs = other.add(tenant);
  Replica misled(database_, root_key_, &other.store);
  const auto done = misled.erase_tenant(tenant).value().erasure;
  EXPECT_TRUE(done.done_at);
  EXPECT_EQ(claims(done.statement).at("backups").at("covered"), false);
  EXPECT_TRUE(other.store.find(tenant, theirs).ok());
}

TEST_F(ErasureInTheDatabase, AShareThatNeverWasHereIsARowThatDoesNotOpen) {
  AnotherShareStore other;
  Replica misled(database_, root_key_, &other.store);
  const auto refused = misled.value(acme_, key_of(kAlice));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::Internal);
  auto altered = replica_.credentials.latest(acme_, key_of(kAlice)).value();
  altered.sealed.back() ^= std::byte{1};
  EXPECT_EQ(refused.error().detail,
            replica_.envelope.open(acme_, key_of(kAlice), altered).error().detail);
}

TEST_F(ErasureInTheDatabase, APassEndsWhenTheReplicaStops) {
  for (const auto& principal : {kAlice, kBob, kNamesake}) {
    ASSERT_TRUE(replica_.erasure_store
                    .begin(acme_, principal, principal.issuer + principal.subject, kClock.now(),
                           replica_.event(acme_, "principal.erase"))
                    .ok());
  }
  shares_.before_destroy = [&] { replica_.erasures.stop(); };
  replica_.erasures.go_on();
  EXPECT_EQ(shares_.destroys, 1);
  EXPECT_THAT(replica_.erasure_store.open(std::nullopt, 10).value(), SizeIs(2));
}

TEST_F(ErasureInTheDatabase, WhatIsOpenDoesNotAskAShareStoreThatIsUnreachable) {
  shares_.away = true;
  ASSERT_FALSE(replica_.erase(acme_, kAlice).value().erasure.done_at);
  ASSERT_FALSE(replica_.erase_tenant(other_).value().erasure.done_at);
  replica_.erasures.look_at_share_store();
  const int before = shares_.destroys;
  replica_.erasures.go_on();
  EXPECT_EQ(shares_.destroys, before);
  shares_.away = false;
  replica_.erasures.look_at_share_store();
  replica_.erasures.go_on();
  EXPECT_THAT(replica_.erasure_store.open(std::nullopt, 10).value(), IsEmpty());
}

TEST_F(ErasureInTheDatabase, NobodyRemovesATenantWhileAnErasureIsOpen) {
  // As a replica of the release before, which does not look.
  const auto remove = "DELETE FROM tenant WHERE tenant_id = '" + acme_.str() + "'";
  shares_.refuses = acme_;
  ASSERT_FALSE(replica_.erase(acme_, kAlice).value().erasure.done_at);
  EXPECT_EQ(refused(remove), "ERA01");
  ASSERT_FALSE(replica_.erase_tenant(acme_).value().erasure.done_at);
  EXPECT_EQ(refused(remove), "ERA01");
  shares_.refuses.reset();
  replica_.erasures.go_on();
  EXPECT_TRUE(replica_.erasure_store.find_tenant(acme_).value().done_at);
  EXPECT_THAT(replica_.erasure_store.open(std::nullopt, 10).value(), IsEmpty());
}

// ---- the erasure of a tenant ----

TEST_F(ErasureInTheDatabase, SharesThatWereDestroyedBeforeAreCountedAllTheSame) {
  // Another replica was first, or this one stopped after it had destroyed them; and of a
  // principal the rows are gone, but not the share.
  shares_.refuses = acme_;
  ASSERT_FALSE(replica_.erase(acme_, kAlice).value().erasure.done_at);
  shares_.refuses.reset();
  begun_tenant(acme_);
  ASSERT_EQ(shares_.destroy_all(acme_).value(), 4u);
  replica_.erasures.go_on();
  const auto done = replica_.erasure_store.find_tenant(acme_).value();
  ASSERT_TRUE(done.done_at);
  EXPECT_EQ(done.shares, 4u);
  const auto said = claims(done.statement);
  EXPECT_EQ(said.at("shares_destroyed"), 4);
  EXPECT_EQ(said.at("backups").at("covered"), true);
}

TEST_F(ErasureInTheDatabase, OfTwoThatFinishATenantBothAnswerThatItIsDone) {
  begun_tenant(acme_);
  Replica second(patient(), root_key_, &shares_);
  ASSERT_TRUE(opens(second, acme_, key_of(kBob))) << "so that it has the chain's key";
  const auto say = [&](const vault::Erasure&) -> Result<vault::ErasureStore::Said> {
    return vault::ErasureStore::Said{"said", replica_.event(acme_, "tenant.erased")};
  };
  std::future<Result<vault::Erasure>> other;
  const auto first = replica_.erasure_store.finish_tenant(
      acme_, 4, kClock.now(), [&](const vault::Erasure& erasure) {
        other = std::async(std::launch::async, [&] {
          return second.erasure_store.finish_tenant(acme_, 4, kClock.now(), say);
        });
        until_waiting("1");
        return say(erasure);
      });
  ASSERT_TRUE(first.ok()) << first.error().diagnostic;
  const auto late = other.get();
  ASSERT_TRUE(late.ok()) << late.error().detail << late.error().diagnostic;
  EXPECT_TRUE(late.value().done_at);
  EXPECT_EQ(late.value().statement, "said");
  EXPECT_EQ(records(acme_, "tenant.erased"), 1u);
}

TEST_F(ErasureInTheDatabase, ATenantThatIsBeingErasedIsNotEnabledAgain) {
  begun_tenant(acme_);
  policy::ConfigChange enable;
  enable.enabled = true;
  EXPECT_EQ(code_of(replica_.config.apply(acme_, enable, {})), ErrorCode::Conflict);
  EXPECT_FALSE(replica_.config.load(acme_).value().row.enabled);
  policy::ConfigChange rename;
  rename.display_name = "other";
  EXPECT_TRUE(replica_.config.apply(acme_, rename, {}).ok()) << "the control";
  EXPECT_TRUE(replica_.config.apply(other_, enable, {}).ok()) << "the control";
}

TEST_F(ErasureInTheDatabase, WhatIsRefusedLeavesNoShare) {
  vault::KeyHolder holder(replica_.rotation_store, replica_.keyring, replica_.log);
  const auto share = [](int number) {
    SecureBuffer bytes(32);
    std::fill(bytes.writable().begin(), bytes.writable().end(), static_cast<std::byte>(number));
    return HeldShare(std::move(bytes));
  };
  auto event = replica_.event(acme_, "key_holder.hold");
  const auto one = share(1), another = share(2);
  ASSERT_TRUE(holder.hold(acme_, share(1), nullptr, event).ok());
  const int before = shares_.adds;
  EXPECT_EQ(code_of(holder.hold(acme_, share(2), nullptr, event)), ErrorCode::Conflict);
  EXPECT_EQ(code_of(holder.hold(acme_, share(3), &another, event)), ErrorCode::Forbidden);
  EXPECT_EQ(code_of(holder.release(acme_, another, event)), ErrorCode::Forbidden);
  EXPECT_EQ(code_of(holder.release(other_, one, event)), ErrorCode::Conflict);
  EXPECT_EQ(code_of(replica_.rotation.rotate_tenant(TenantId("nobody"))), ErrorCode::NotFound);
  EXPECT_EQ(shares_.adds, before);
  ASSERT_TRUE(holder.hold(acme_, share(2), &one, event).ok());
  EXPECT_EQ(shares_.adds, before + 1) << "the control";
}

TEST_F(ErasureInTheDatabase, AShareThatNoKeyNamesGoesAndIsNotCounted) {
  const auto stray = replica_.keyring.make_share(acme_).value();  // and then a crash
  ASSERT_TRUE(stray);
  const auto done = replica_.erase_tenant(acme_).value().erasure;
  EXPECT_EQ(done.shares, 4u);
  EXPECT_EQ(code_of(postgres_shares_.find(acme_, *stray)), ErrorCode::Conflict);
}

TEST_F(ErasureInTheDatabase, KeysOfATenantThatIsBeingErasedStayWhereTheyAre) {
  ASSERT_TRUE(replica_.rotation.rotate_tenant(acme_).ok());
  begun_tenant(acme_);
  const auto moved = replica_.rewrap(acme_);
  ASSERT_TRUE(moved.ok()) << moved.error().detail << moved.error().diagnostic;
  EXPECT_EQ(moved.value().done, 0u);
  EXPECT_EQ(moved.value().left, 0u);
  const auto rotated = replica_.rotation.rotate_tenant(acme_);
  ASSERT_FALSE(rotated.ok());
  EXPECT_TRUE(storage::is_being_erased(rotated.error())) << rotated.error().diagnostic;
  EXPECT_FALSE(storage::is_being_erased(fail(ErrorCode::Conflict, "", "kek.add: KEK01")));
}

TEST_F(ErasureInTheDatabase, OfATenantThereIsItsAuditChainAndTheStatement) {
  const auto begun = replica_.erase_tenant(acme_).value();
  EXPECT_EQ(begun.erasure.credentials, 5u);
  EXPECT_EQ(begun.erasure.shares, 4u);  // of its KEK and of three principals
  for (const char* table : {"tenant", "kek", "credential", "credential_version", "principal_share",
                            "signing_key", "erasure"}) {
    EXPECT_EQ(scalar(std::string("SELECT count(*) FROM ") + table + " WHERE tenant_id = '" +
                     acme_.str() + "'"),
              "0")
        << table;
  }
  EXPECT_EQ(records(acme_, "tenant.erase"), 1u);
  EXPECT_EQ(records(acme_, "tenant.erased"), 1u);
  EXPECT_EQ(scalar("SELECT closed FROM audit_head WHERE tenant_id = '" + acme_.str() + "'"), "t");
  const auto kept = replica_.erasure_store.find_tenant(acme_).value();
  EXPECT_EQ(kept.statement, begun.erasure.statement);
  EXPECT_EQ(code_of(replica_.erasure_store.find_tenant(other_)), ErrorCode::NotFound);
  EXPECT_EQ(code_of(replica_.config.apply(acme_, creation(acme_, replica_.keyring), {})),
            ErrorCode::Conflict)
      << "its id is not used again";
  EXPECT_EQ(opened(replica_, other_), "11111");
}

TEST_F(ErasureInTheDatabase, ATenantThatIsBeingErasedIsDisabledAndSealsNothing) {
  shares_.refuses = acme_;
  ASSERT_FALSE(replica_.erase_tenant(acme_).value().erasure.done_at);
  EXPECT_FALSE(replica_.config.load(acme_).value().row.enabled);
  EXPECT_EQ(code_of(replica_.put(acme_, key_of(kBob), "x")), ErrorCode::Conflict);
  EXPECT_EQ(code_of(replica_.put(acme_, key_of(Owner::tenant()), "x")), ErrorCode::Conflict);
  EXPECT_EQ(code_of(replica_.rotation.rotate_tenant(acme_)), ErrorCode::Conflict);
  EXPECT_EQ(code_of(replica_.config.remove(acme_, {})), ErrorCode::Conflict);
  const auto again = replica_.erase_tenant(acme_).value();
  EXPECT_FALSE(again.anew);
  shares_.refuses.reset();
  replica_.erasures.go_on();
  EXPECT_TRUE(replica_.erasure_store.find_tenant(acme_).value().done_at);
  EXPECT_EQ(code_of(replica_.config.load(acme_)), ErrorCode::NotFound);
}

// ---- statements ----

TEST_F(ErasureInTheDatabase, TheStatementSaysWhatWasDestroyed) {
  const auto erasure = replica_.erase(acme_, kAlice).value().erasure;
  const auto said = claims(erasure.statement);
  EXPECT_EQ(said.at("iss"), kBaseUrlOfTests);
  EXPECT_EQ(said.at("tenant"), acme_.str());
  EXPECT_EQ(said.at("erased"), "principal");
  EXPECT_EQ(said.at("erasure_id"), erasure.id);
  EXPECT_EQ(said.at("principal_sha256"), policy::principal_hash(acme_, kAlice));
  EXPECT_EQ(said.at("credentials"), 2);
  EXPECT_EQ(said.at("versions"), 2);
  EXPECT_EQ(said.at("shares_destroyed"), 1);
  EXPECT_EQ(said.at("backups").at("covered"), true);
  EXPECT_TRUE(said.at("backups").contains("since"));
  EXPECT_TRUE(said.at("backups").contains("shares_in_backups_until"));
  EXPECT_THAT(said.dump(), Not(HasSubstr("alice")));
  const auto records = replica_.log.read(acme_, {0, 10, false, "principal.erased"}).value();
  ASSERT_THAT(records, SizeIs(1));
  EXPECT_THAT(records[0].body, HasSubstr(erasure.statement));

  auto altered = erasure.statement;
  altered[altered.find('.') + 5] ^= 1;
  EXPECT_FALSE(policy::verify_statement(policy::statement_keys(replica_.keyring), altered).ok());
  Replica stranger(database_, root_key_line(), nullptr);
  EXPECT_FALSE(
      policy::verify_statement(policy::statement_keys(stranger.keyring), erasure.statement).ok());
}

TEST_F(ErasureInTheDatabase, AStatementVerifiesAfterTheRootKeyWasRotated) {
  const auto statement = replica_.erase(acme_, kAlice).value().erasure.statement;
  Replica rotated(database_, root_key_line() + root_key_, &shares_);
  const auto keys = policy::statement_keys(rotated.keyring);
  EXPECT_THAT(keys.at("keys"), SizeIs(2));
  EXPECT_TRUE(policy::verify_statement(keys, statement).ok());
}

TEST_F(ErasureInTheDatabase, WithoutAShareStoreTheStatementSaysThatBackupsAreNotCovered) {
  Replica plain(database_, root_key_, nullptr);
  const auto tenant = plain.add_tenant();
  fill(plain, tenant, key_of(kAlice));
  const auto copy = restored(dump());
  const auto erased = plain.erase(tenant, kAlice).value().erasure;
  ASSERT_TRUE(erased.done_at);
  const auto said = claims(erased.statement);
  EXPECT_EQ(said.at("backups"), (Json{{"covered", false}}));
  EXPECT_EQ(said.at("shares_destroyed"), 0);
  Replica of_before(*copy, root_key_, nullptr);
  EXPECT_TRUE(opens(of_before, tenant, key_of(kAlice))) << "which is so";
  const auto whole = claims(plain.erase_tenant(tenant).value().erasure.statement);
  EXPECT_EQ(whole.at("backups"), (Json{{"covered", false}}));
}

// ---- rows from before there was a share store ----

TEST_F(ErasureInTheDatabase, RowsFromBeforeOpenAndAreMovedUnderShares) {
  Replica plain(database_, root_key_, nullptr);
  const auto tenant = plain.add_tenant();
  for (const auto& key : all_keys()) fill(plain, tenant, key);
  Replica replica(database_, root_key_, &shares_);
  EXPECT_EQ(opened(replica, tenant), "11111");
  const auto before = restored(dump());

  ASSERT_TRUE(replica.rotation.rotate_tenant(tenant).ok());
  const auto moved = replica.rewrap(tenant);
  ASSERT_TRUE(moved.ok()) << moved.error().detail << moved.error().diagnostic;
  ASSERT_EQ(moved.value().left, 0u);
  EXPECT_EQ(opened(replica, tenant), "11111");
  EXPECT_EQ(scalar("SELECT count(*) FROM credential_version WHERE tenant_id = '" + tenant.str() +
                   "' AND owner_subject <> '' AND share_id IS NULL"),
            "0");
  const auto after = restored(dump());
  const auto erasure = replica.erase(tenant, kAlice).value().erasure;
  ASSERT_TRUE(erasure.done_at);
  EXPECT_EQ(claims(erasure.statement).at("backups").at("covered"), true);
  const auto whole = replica.erase_tenant(tenant).value().erasure;
  EXPECT_EQ(claims(whole.statement).at("backups").at("covered"), true);

  Replica of_after(*after, root_key_, &shares_);
  EXPECT_EQ(opened(of_after, tenant), "00000");
  Replica of_before(*before, root_key_, &shares_);
  EXPECT_EQ(opened(of_before, tenant), "11111")
      << "copies of before they were moved: the statement's `since` says so";
}

TEST_F(ErasureInTheDatabase, SharesOfPrincipalsAreMadeAtTheRateOfRowsAndNotAfterAStop) {
  constexpr int kPrincipals = 12;
  Replica plain(database_, root_key_, nullptr);
  const auto tenant = plain.add_tenant();
  for (int i = 0; i < kPrincipals; ++i) {
    fill(plain, tenant, key_of({"https://idp.example", "user-" + std::to_string(i)}));
  }
  Replica replica(database_, root_key_, &shares_);
  ASSERT_TRUE(replica.rotation.rotate_tenant(tenant).ok());
  const auto count = [&] {
    return scalar("SELECT count(*) FROM principal_share WHERE tenant_id = '" + tenant.str() + "'");
  };
  // One a second, and nobody waits: what comes is ahead of the rate.
  int pauses = 0;
  bool stop = false;
  vault::Rotation slow(replica.rotation_store, replica.keyring, kClock,
                       {1, 1, [&](std::chrono::milliseconds) { ++pauses; }, [&] { return stop; }});
  std::uint64_t reported = 0;
  const auto stopped = slow.rewrap(tenant, [&](const vault::Rotation::Progress& progress) {
    reported = progress.shares;
    stop = progress.shares == 5;
  });
  ASSERT_TRUE(stopped.ok()) << stopped.error().detail << stopped.error().diagnostic;
  EXPECT_EQ(count(), "5");
  EXPECT_EQ(reported, 5u);
  EXPECT_EQ(stopped.value().done, 0u);
  EXPECT_GT(pauses, 0) << "no row was moved, so it is the shares that are paced";
  EXPECT_GT(stopped.value().left, 0u);

  stop = false;
  const auto done = slow.rewrap(tenant, [](const vault::Rotation::Progress&) {});
  ASSERT_TRUE(done.ok()) << done.error().detail << done.error().diagnostic;
  EXPECT_EQ(count(), std::to_string(kPrincipals));
  EXPECT_EQ(done.value().shares, kPrincipals - 5u);
  EXPECT_EQ(done.value().left, 0u);
}

TEST_F(ErasureInTheDatabase, AKekThatTakesAShareHasNoSuccessorThatTakesNone) {
  Replica without(database_, root_key_, nullptr);
  const auto refused = without.rotation.rotate_tenant(acme_);
  EXPECT_EQ(code_of(refused), ErrorCode::KeyUnavailable);
  EXPECT_TRUE(vault::is_share_store_away(refused.error())) << refused.error().diagnostic;
  EXPECT_EQ(scalar("SELECT count(*) FROM kek WHERE tenant_id = '" + acme_.str() + "'"), "1");
  ASSERT_TRUE(replica_.rotation.rotate_tenant(acme_).ok());
  EXPECT_EQ(scalar("SELECT count(*) FROM kek WHERE share_id IS NOT NULL AND tenant_id = '" +
                   acme_.str() + "'"),
            "2");
}

TEST_F(ErasureInTheDatabase, ATenantThatWasNotMovedIsSaidNotToBeCovered) {
  Replica plain(database_, root_key_, nullptr);
  const auto tenant = plain.add_tenant();
  fill(plain, tenant, key_of(Owner::tenant()));
  Replica replica(database_, root_key_, &shares_);
  ASSERT_TRUE(replica.rotation.rotate_tenant(tenant).ok());  // and not moved
  const auto erased = replica.erase_tenant(tenant).value().erasure;
  EXPECT_EQ(claims(erased.statement).at("backups"), (Json{{"covered", false}}));
}

TEST_F(ErasureInTheDatabase, AKekIsNotEmptyWhileWhomIsBeingErasedHasRowsUnderIt) {
  Replica plain(database_, root_key_, nullptr);
  const auto tenant = plain.add_tenant();
  for (const auto& key : all_keys()) fill(plain, tenant, key);
  Replica replica(database_, root_key_, &shares_);
  ASSERT_TRUE(replica.rotation.rotate_tenant(tenant).ok());
  ASSERT_TRUE(
      replica.erasure_store
          .begin(tenant, kAlice, "first", kClock.now(), replica.event(tenant, "principal.erase"))
          .ok());
  const auto empty = [&] {
    return scalar("SELECT emptied_at IS NOT NULL FROM kek WHERE version = 1 AND tenant_id = '" +
                  tenant.str() + "'");
  };
  ASSERT_EQ(replica.rewrap(tenant).value().left, 0u);
  EXPECT_EQ(empty(), "f") << "a copy that is made now has rows that the root key opens";
  replica.erasures.go_on();
  ASSERT_EQ(replica.rewrap(tenant).value().left, 0u);
  EXPECT_EQ(empty(), "t");
}

TEST_F(ErasureInTheDatabase, CopiesAreSaidToBeCoveredFromWhenTheChangeWasSurelyCommitted) {
  Replica plain(database_, root_key_, nullptr);
  const auto tenant = plain.add_tenant();
  for (const auto& key : all_keys()) fill(plain, tenant, key);
  Replica replica(database_, root_key_, &shares_);
  ASSERT_TRUE(replica.rotation.rotate_tenant(tenant).ok());
  ASSERT_EQ(replica.rewrap(tenant).value().left, 0u);
  scalar(
      "UPDATE principal_share SET unshared_until = unshared_until - interval '2 hours'"
      " WHERE owner_subject = 'bob' RETURNING 1");
  const auto bobs_end = std::stoll(
      scalar("SELECT ceil(extract(epoch FROM unshared_until))::bigint FROM principal_share"
             " WHERE owner_subject = 'bob' AND tenant_id = '" +
             tenant.str() + "'"));
  const auto before = kClock.now();
  const auto alice = replica.erase(tenant, kAlice).value().erasure;
  ASSERT_TRUE(alice.covered_since);
  EXPECT_GE(*alice.covered_since, before) << "moved just now: from the end of the erasure";
  EXPECT_LE(*alice.covered_since, kClock.now() + std::chrono::seconds(1));
  const auto bob = replica.erase(tenant, kBob).value().erasure;
  ASSERT_TRUE(bob.covered_since);
  EXPECT_EQ(bob.covered_since->time_since_epoch().count(), bobs_end + 3600);
}

// ---- without the share store ----

TEST_F(ErasureInTheDatabase, AShareStoreThatIsAwayIsAskedOnceForAllKeysOfATenant) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(replica_.rotation.rotate_tenant(acme_).ok());
  ASSERT_EQ(replica_.rotation_store.kek_uses(acme_).value().size(), 4u);
  Replica cold(database_, root_key_, &shares_);
  shares_.away = true;
  const int before = shares_.finds;
  EXPECT_EQ(code_of(cold.value(acme_, key_of(Owner::tenant()))), ErrorCode::KeyUnavailable);
  EXPECT_LE(shares_.finds - before, 2) << "once for each load, of which a missing KEK makes two";
}

TEST_F(ErasureInTheDatabase, WithTheShareStoreAwayWhatIsWarmOpensAndNothingElseFailsOtherwise) {
  Replica warm(database_, root_key_, &shares_);
  ASSERT_EQ(opened(warm, acme_), "11111");
  shares_.away = true;
  const int before = shares_.finds;
  EXPECT_EQ(opened(warm, acme_), "11111");
  EXPECT_EQ(shares_.finds, before) << "it asks nothing";
  Replica cold(database_, root_key_, &shares_);
  EXPECT_EQ(code_of(cold.value(acme_, key_of(kAlice))), ErrorCode::KeyUnavailable);
  EXPECT_EQ(code_of(cold.value(acme_, key_of(Owner::tenant()))), ErrorCode::KeyUnavailable);
  EXPECT_EQ(code_of(cold.put(acme_, key_of(kAlice), "x")), ErrorCode::KeyUnavailable);
  EXPECT_TRUE(cold.log.verify(acme_).value().intact);
  shares_.away = false;
  EXPECT_EQ(opened(cold, acme_), "11111");
}

// ---- what is not a credential ----

TEST_F(ErasureInTheDatabase, ADumpOfBeforeOpensNoOtherKeyNorAnswerOfAnErasedTenant) {
  const SealedBesides of_acme(replica_, acme_), of_other(replica_, other_);
  const auto copy = restored(dump());
  {
    Replica control(*copy, root_key_, &shares_);
    ASSERT_EQ(of_acme.opened(control), SealedBesides::all()) << "while the shares are there";
    Replica thief(*copy, root_key_, nullptr);
    EXPECT_THAT(of_acme.opened(thief), IsEmpty()) << "without the share store";
  }
  const auto done = replica_.erase_tenant(acme_);
  ASSERT_TRUE(done.ok()) << done.error().diagnostic;
  ASSERT_TRUE(done.value().erasure.done_at);

  Replica of_before(*copy, root_key_, &shares_);
  EXPECT_THAT(of_acme.opened(of_before), IsEmpty());
  EXPECT_EQ(of_other.opened(of_before), SealedBesides::all()) << "the control";

  // The mark of the share taken away.
  scalar(*copy, "SET session_replication_role = replica; UPDATE kek SET share_id = NULL");
  Replica rewritten(*copy, root_key_, &shares_);
  EXPECT_THAT(of_acme.opened(rewritten), IsEmpty());
}

}  // namespace
}  // namespace postern::test
