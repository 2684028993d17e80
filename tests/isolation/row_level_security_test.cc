// What PostgreSQL itself refuses, whatever statement is sent as the service role:
// the wall behind the WHERE clauses. Tables are taken from the catalog, so that a
// new one is covered, or fails here until it is.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <pqxx/pqxx>
#include <string>
#include <vector>

#include "core/ids.h"
#include "storage/postgres_credential_rotations.h"
#include "storage/postgres_erasure_store.h"
#include "storage/postgres_replay_guard.h"
#include "storage/postgres_revocation_list.h"
#include "storage/postgres_rotation_store.h"
#include "storage/postgres_transit_store.h"
#include "storage/postgres_wrapping_store.h"
#include "storage/session.h"
#include "support/code_of.h"
#include "support/postgres_stores.h"

namespace postern::test {
namespace {

using testing::AnyOf;
using testing::Each;
using testing::IsEmpty;
using testing::SizeIs;

constexpr const char* kDenied = "42501";
constexpr const char* kNothing = "";  // succeeded, but touched no row

/// Rows of every table for two tenants, a third that was removed, and one that was erased.
class RowLevelSecurity : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = std::make_unique<PostgresStores>();
    for (const auto& tenant : {a(), b(), removed()}) fill(tenant);
    ASSERT_TRUE(shared_->config.remove(removed(), {}).ok());
    const TenantId shredded("shredded");
    shared_->add(shredded);
    storage::PostgresErasureStore erasures(shared_->database, shared_->log);
    const sys_seconds now(std::chrono::seconds(1'800'000'000));
    const audit::Event event{shredded, now, "tenant.erase", {}, "r", {}};
    ASSERT_TRUE(erasures.begin_tenant(shredded, "e2", now, event).ok());
    ASSERT_TRUE(erasures.finish_tenant(shredded, 0, now, saying(shredded)).ok());
  }
  static void TearDownTestSuite() { shared_.reset(); }

  static TenantId a() { return TenantId("acme"); }
  static TenantId b() { return TenantId("beta"); }
  static TenantId removed() { return TenantId("gone"); }

  static void fill(const TenantId& tenant) {
    auto& stores = *shared_;
    stores.add(tenant);
    const sys_seconds now(std::chrono::seconds(1'800'000'000));
    auto wrapped = stores.keyring.wrap_private(tenant, "token", "k1",
                                               PrivateKey(SecureBuffer::copy_of("private")));
    ASSERT_TRUE(wrapped.ok());
    policy::ConfigChange change;
    change.put.push_back({policy::Kind::Client, "gateway", "{}", 0});
    change.add_client_secrets.push_back({ClientId("gateway"), "s1", {}, std::nullopt});
    change.add_admin_tokens.push_back({"t1", "", {}, now, std::nullopt});
    change.add_signing_keys.push_back({"k1", "ES256", "{}", policy::SigningKeyState::Active,
                                       std::move(wrapped).value(), now, std::nullopt});
    change.add_initial_tokens.push_back({"i1", "", {}, now, now, 1, 0});
    const std::vector events{audit::Event{tenant, now, "config.apply", {}, "r", {}}};
    ASSERT_TRUE(stores.config.apply(tenant, change, events).ok());
    const auto put = stores.credentials.put(
        tenant, key(), std::nullopt,
        [&](std::uint32_t version) -> Result<vault::SealedVersion> {
          return vault::SealedVersion{version,   KekVersion{1}, to_bytes("dek"), to_bytes("box"),
                                      {"token"}, now,           std::nullopt};
        },
        events);
    ASSERT_TRUE(put.ok()) << put.error().diagnostic;
    storage::PostgresReplayGuard replays(stores.database);
    const auto first = replays.first_use(tenant, "dpop", {}, now);
    ASSERT_TRUE(first.ok()) << first.error().diagnostic;
    const SystemClock clock;
    storage::PostgresRevocationList revocations(stores.database, stores.service(), clock);
    ASSERT_TRUE(revocations.revoke(tenant, "jti-1", clock.now() + std::chrono::hours(1)).ok());
    storage::PostgresWrappingStore answers(stores.database, stores.log);
    const vault::WrappedAnswer answer{crypto::sha256(as_bytes("token")),
                                      "accessor",
                                      "operator",
                                      "sys/wrapping/wrap",
                                      now,
                                      now + std::chrono::hours(1),
                                      {KekVersion{1}, to_bytes("box")}};
    const auto seal = [&] { return Result<vault::WrappedAnswer>(answer); };
    ASSERT_TRUE(answers.add(tenant, seal, 10, now, events).ok());
    storage::PostgresTransitStore transit(stores.database, stores.log);
    vault::TransitKey orders;
    orders.name = vault::TransitName("orders");
    orders.id = "k1";
    const auto seal_key = [&](const vault::TransitKey&, std::uint32_t version) {
      return Result<vault::TransitVersion>(
          vault::TransitVersion{version, now, {KekVersion{1}, to_bytes("box")}});
    };
    ASSERT_TRUE(transit.create(tenant, orders, seal_key, 10, events).ok());
    storage::PostgresCredentialRotations rotations(stores.database, stores.log);
    const auto rotation = rotations.change(tenant, key(), "", [&](vault::CredentialRotation& is) {
      is.settings.emplace();
      is.next_at = now;
      return Result<vault::CredentialRotationStore::Effect>(
          vault::CredentialRotationStore::Effect{});
    });
    ASSERT_TRUE(rotation.ok()) << rotation.error().diagnostic;
    for (const auto& principal : {eve(), mallory()}) {
      ASSERT_TRUE(stores.keks.add_principal_share(tenant, principal, {}).ok());
    }
    // Of mallory, to its end: a tenant with an open one is not removed.
    storage::PostgresErasureStore erasures(stores.database, stores.log);
    ASSERT_TRUE(erasures.begin(tenant, mallory(), "e1", now, events[0]).ok());
    ASSERT_TRUE(erasures.remove_rows(tenant, "e1", now).ok());
    ASSERT_TRUE(erasures.finish(tenant, "e1", now, saying(tenant)).ok());
  }
  static Principal eve() { return {"https://idp.example", "eve"}; }
  static Principal mallory() { return {"https://idp.example", "mallory"}; }
  static vault::ErasureStore::Say saying(const TenantId& tenant) {
    return [tenant](const vault::Erasure&) -> Result<vault::ErasureStore::Said> {
      return vault::ErasureStore::Said{"said",
                                       audit::Event{tenant, sys_seconds(), "erased", {}, "r", {}}};
    };
  }
  static vault::CredentialKey key() { return {Owner::tenant(), CredentialName("github")}; }

  static std::vector<std::string> column(const std::string& conninfo, const std::string& sql) {
    pqxx::connection connection(conninfo);
    pqxx::work tx(connection);
    std::vector<std::string> out;
    for (const auto& row : tx.exec(sql)) out.emplace_back(row[0].c_str());
    return out;
  }
  static std::vector<std::string> catalog(const std::string& sql) {
    return column(shared_->superuser(), sql);
  }

  /// Tables with a tenant's rows in them.
  static std::vector<std::string> tables() {
    return catalog(R"sql(
        SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'postern' AND c.relkind IN ('r', 'p', 'm', 'v', 'f')
           AND EXISTS (SELECT FROM pg_attribute a
                        WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')
         ORDER BY 1)sql");
  }

  /// Runs SQL as a role with settings made first; the first column of the first
  /// row, or the SQLSTATE it failed with.
  static std::string run(const std::string& conninfo, const std::vector<std::string>& settings,
                         const std::string& sql) {
    pqxx::connection connection(conninfo);
    pqxx::work tx(connection);
    tx.exec("SET search_path = postern");
    try {
      for (const auto& setting : settings) {
        const auto equals = setting.find('=');
        tx.exec("SELECT set_config(" + tx.quote(setting.substr(0, equals)) + ", " +
                tx.quote(setting.substr(equals + 1)) + ", true)");
      }
      const auto rows = tx.exec(sql);
      if (rows.columns() == 0) {
        return rows.affected_rows() == 0 ? kNothing : std::to_string(rows.affected_rows());
      }
      return rows.empty() ? kNothing : rows[0][0].c_str();
    } catch (const std::exception& e) {
      return storage::pq::sqlstate_of(e).value_or(e.what());
    }
  }
  static std::string as_service(const std::vector<std::string>& settings, const std::string& sql) {
    return run(shared_->service(), settings, sql);
  }

  static std::unique_ptr<PostgresStores> shared_;
};

std::unique_ptr<PostgresStores> RowLevelSecurity::shared_;

// ---- reading ----

TEST_F(RowLevelSecurity, EveryTableHasRowsForTheseTests) {
  const auto all = tables();
  EXPECT_THAT(all, SizeIs(testing::Ge(11U)));
  for (const auto& table : all) {
    EXPECT_NE(run(shared_->superuser(), {}, "SELECT count(*) FROM " + table), "0")
        << table << ": fill it above";
  }
}

TEST_F(RowLevelSecurity, WithoutATenantTheServiceSeesNoRow) {
  for (const auto& table : tables()) {
    const auto count = "SELECT count(*) FROM " + table;
    EXPECT_EQ(as_service({}, count), "0") << table;
    EXPECT_EQ(as_service({"postern.tenant_id="}, count), "0") << table;
    EXPECT_EQ(as_service({"postern.tenant_id=%"}, count), "0") << table;
    EXPECT_EQ(as_service({"postern.tenant_id=no-such-tenant"}, count), "0") << table;
  }
}

TEST_F(RowLevelSecurity, EvenTheOwnerSeesNoRow) {
  for (const auto& table : tables()) {
    EXPECT_EQ(run(shared_->owner(), {}, "SELECT count(*) FROM " + table), "0") << table;
  }
}

TEST_F(RowLevelSecurity, WithATenantTheServiceSeesOnlyItsRows) {
  for (const auto& table : tables()) {
    EXPECT_EQ(as_service({"postern.tenant_id=acme"},
                         "SELECT count(*) FROM " + table + " WHERE tenant_id <> 'acme'"),
              "0")
        << table;
  }
}

TEST_F(RowLevelSecurity, TheDirectoryShowsTenantsAndNothingElse) {
  const std::vector<std::string> directory{"postern.scope=directory"};
  EXPECT_EQ(as_service(directory, "SELECT count(*) FROM tenant"), "2");
  for (const auto& table : tables()) {
    if (table == "tenant") continue;
    EXPECT_EQ(as_service(directory, "SELECT count(*) FROM " + table), "0") << table;
  }
  // And is for reading.
  EXPECT_EQ(as_service(directory, "UPDATE tenant SET enabled = false"), kNothing);
  EXPECT_EQ(as_service(directory, "DELETE FROM tenant"), kNothing);
  EXPECT_EQ(as_service(directory, "INSERT INTO tenant (tenant_id, display_name) VALUES ('x', '')"),
            kDenied);
}

TEST_F(RowLevelSecurity, TheScopeOfRevocationsShowsTheirIdsAndNothingElse) {
  const std::vector<std::string> scope{"postern.scope=revocations"};
  EXPECT_EQ(as_service(scope, "SELECT count(*) FROM revoked_token"), "2");
  for (const auto& table : tables()) {
    if (table == "revoked_token") continue;
    EXPECT_EQ(as_service(scope, "SELECT count(*) FROM " + table), "0") << table;
  }
  // And is for reading.
  EXPECT_EQ(as_service(scope, "DELETE FROM revoked_token"), kNothing);
  EXPECT_EQ(as_service(scope, "INSERT INTO revoked_token VALUES ('beta', 'x', now())"), kDenied);
}

TEST_F(RowLevelSecurity, TheScopeOfKeysShowsKeksAndNothingElse) {
  const std::vector<std::string> scope{"postern.scope=keys"};
  EXPECT_EQ(as_service(scope, "SELECT count(DISTINCT tenant_id) FROM kek"), "2");
  for (const auto& table : tables()) {
    if (table == "kek") continue;
    EXPECT_EQ(as_service(scope, "SELECT count(*) FROM " + table), "0") << table;
  }
  // And is for reading.
  EXPECT_EQ(as_service(scope, "UPDATE kek SET wrapped = '\\x00'"), kNothing);
  EXPECT_EQ(as_service(scope, "INSERT INTO kek VALUES ('beta', 9, 'r', '\\x00')"), kDenied);
  EXPECT_EQ(as_service(scope, "DELETE FROM kek"), kDenied);
}

TEST_F(RowLevelSecurity, TheScopeOfErasuresShowsThemAndNothingElse) {
  const std::vector<std::string> scope{"postern.scope=erasures"};
  EXPECT_EQ(as_service(scope, "SELECT count(*) FROM erasure"), "2");
  EXPECT_EQ(as_service(scope, "SELECT string_agg(tenant_id, ',') FROM tenant_erasure"), "shredded");
  for (const auto& table : tables()) {
    if (table == "erasure" || table == "tenant_erasure") continue;
    EXPECT_EQ(as_service(scope, "SELECT count(*) FROM " + table), "0") << table;
  }
  // And is for reading.
  EXPECT_EQ(as_service(scope, "UPDATE erasure SET versions = 7"), kNothing);
  EXPECT_EQ(as_service(scope, "UPDATE tenant_erasure SET shares = 7"), kNothing);
  EXPECT_EQ(as_service({"postern.tenant_id=acme"}, "SELECT count(*) FROM tenant_erasure"), "0");
  EXPECT_EQ(as_service({"postern.tenant_id=acme"}, "UPDATE tenant_erasure SET shares = 7"),
            kNothing);
}

TEST_F(RowLevelSecurity, TheScopeOfRotationsShowsWhoseTurnItIsAndNothingElse) {
  const std::vector<std::string> scope{"postern.scope=rotations"};
  EXPECT_EQ(as_service(scope, "SELECT count(DISTINCT tenant_id) FROM credential_rotation"), "2");
  for (const auto& table : tables()) {
    if (table == "credential_rotation") continue;
    EXPECT_EQ(as_service(scope, "SELECT count(*) FROM " + table), "0") << table;
  }
  // And is for reading.
  EXPECT_EQ(as_service(scope, "UPDATE credential_rotation SET next_at = NULL"), kNothing);
  EXPECT_EQ(as_service(scope, "DELETE FROM credential_rotation"), kNothing);

  storage::PostgresCredentialRotations rotations(shared_->database, shared_->log);
  ASSERT_TRUE(rotations.due(sys_seconds(std::chrono::seconds(1'900'000'000)), 10).ok());
  ASSERT_TRUE(rotations.counts(sys_seconds()).ok());
  auto session = shared_->database.pool().checkout();
  ASSERT_TRUE(session.ok());
  pqxx::nontransaction tx(session.value().link());
  for (const auto& table : tables()) {
    EXPECT_STREQ(tx.exec("SELECT count(*) FROM " + table)[0][0].c_str(), "0") << table;
  }
}

TEST_F(RowLevelSecurity, TheCountOfWhatIsToMoveLeavesNothingBehind) {
  pqxx::connection connection(shared_->service());
  pqxx::nontransaction tx(connection);
  tx.exec("SET search_path = postern");
  EXPECT_STREQ(tx.exec("SELECT tenants FROM key_backlog()")[0][0].c_str(), "0");
  for (const auto& table : tables()) {
    EXPECT_STREQ(tx.exec("SELECT count(*) FROM " + table)[0][0].c_str(), "0") << table;
  }
  // Nor within one transaction.
  EXPECT_EQ(as_service({}, "SELECT count(*) FROM kek, key_backlog() b WHERE b.tenants < 0"), "0");
}

TEST_F(RowLevelSecurity, ABatchOfTenantsShowsOnlyTheirHeads) {
  const std::vector<std::string> batch{"postern.audit_tenants=acme"};
  EXPECT_EQ(as_service(batch, "SELECT string_agg(tenant_id, ',') FROM audit_head"), "acme");
  for (const auto& table : tables()) {
    if (table == "audit_head") continue;
    EXPECT_EQ(as_service(batch, "SELECT count(*) FROM " + table), "0") << table;
  }
}

TEST_F(RowLevelSecurity, RowSecurityCannotBeSwitchedOff) {
  for (const auto& table : tables()) {
    EXPECT_EQ(as_service({"row_security=off"}, "SELECT count(*) FROM " + table), kDenied) << table;
  }
}

TEST_F(RowLevelSecurity, TheReleaseFunctionReadsOneTenantAndLeavesNothingBehind) {
  const auto latest = [](const std::string& tenant) {
    return "SELECT count(*) FROM credential_latest('" + tenant + "', '', '', 'github')";
  };
  EXPECT_EQ(as_service({}, latest("acme")), "1");
  EXPECT_EQ(as_service({}, latest("no-such-tenant")), "0");
  EXPECT_EQ(as_service({}, latest("")), "0");

  // One statement, as the store sends it: the next one on the connection is blind again.
  pqxx::connection connection(shared_->service());
  pqxx::nontransaction tx(connection);
  tx.exec("SET search_path = postern");
  EXPECT_STREQ(tx.exec(latest("acme"))[0][0].c_str(), "1");
  EXPECT_STREQ(tx.exec("SELECT count(*) FROM credential_version")[0][0].c_str(), "0");
}

TEST_F(RowLevelSecurity, TheReplayFunctionKeepsTenantsApartAndLeavesNothingBehind) {
  storage::PostgresReplayGuard replays(shared_->database);
  const auto digest = crypto::sha256(as_bytes("one"));
  const auto now = SystemClock().now();
  EXPECT_TRUE(replays.first_use(a(), "dpop", digest, now + std::chrono::minutes(5)).value());
  EXPECT_TRUE(replays.first_use(b(), "dpop", digest, now + std::chrono::minutes(5)).value());
  EXPECT_FALSE(replays.first_use(a(), "dpop", digest, now + std::chrono::minutes(5)).value());
  EXPECT_EQ(code_of(replays.first_use(removed(), "dpop", digest, now)), ErrorCode::NotFound);

  pqxx::connection connection(shared_->service());
  pqxx::nontransaction tx(connection);
  tx.exec("SET search_path = postern");
  tx.exec("SELECT use_once('acme', 'dpop', decode(repeat('22', 32), 'hex'), 0)");
  EXPECT_STREQ(tx.exec("SELECT count(*) FROM used_once")[0][0].c_str(), "0");
}

TEST_F(RowLevelSecurity, APooledConnectionCarriesNothingOver) {
  auto options = shared_->options();
  options.max_connections = 1;
  storage::Database database(options);
  storage::PostgresAuditLog log(database, shared_->keyring);
  storage::PostgresConfigStore config(database, log);
  storage::PostgresCredentialStore credentials(database, log);
  const auto expect_blind = [&](const char* after) {
    auto session = database.pool().checkout();
    ASSERT_TRUE(session.ok());
    pqxx::nontransaction tx(session.value().link());
    for (const auto& table : tables()) {
      EXPECT_STREQ(tx.exec("SELECT count(*) FROM " + table)[0][0].c_str(), "0")
          << table << " after " << after;
    }
  };
  ASSERT_TRUE(credentials.latest(a(), key()).ok());
  expect_blind("latest");
  ASSERT_TRUE(credentials.list(a(), std::nullopt, "", 10).ok());
  expect_blind("list");
  ASSERT_TRUE(credentials.version(a(), key(), 1).ok());
  expect_blind("version");
  ASSERT_TRUE(credentials.history(a(), key()).ok());
  expect_blind("history");
  ASSERT_TRUE(credentials.note_uses(a(), std::vector{vault::CredentialStore::Use{key(), {}}}).ok());
  expect_blind("note_uses");
  ASSERT_FALSE(credentials.remove(a(), key(), 99, {}).ok());
  expect_blind("a write that was refused");
  ASSERT_TRUE(config.load(a()).ok());
  expect_blind("load");
  ASSERT_TRUE(config.tenants("", 10).ok());
  expect_blind("tenants");
  ASSERT_TRUE(log.append(std::vector{audit::Event{a(), {}, "x", {}, "", {}},
                                     audit::Event{b(), {}, "x", {}, "", {}}})
                  .ok());
  expect_blind("append");
  ASSERT_TRUE(log.read(a(), {}).ok());
  expect_blind("read");
  ASSERT_TRUE(log.verify(a()).ok());
  expect_blind("verify");
  storage::PostgresReplayGuard replays(database);
  ASSERT_TRUE(replays.first_use(a(), "dpop", {}, sys_seconds()).ok());
  expect_blind("first_use");
  storage::PostgresWrappingStore wrapped(database, log);
  ASSERT_TRUE(wrapped.find(a(), crypto::sha256(as_bytes("token")), sys_seconds()).ok());
  expect_blind("find");
  storage::PostgresTransitStore transit(database, log);
  const auto found = transit.find(a(), vault::TransitName("orders"));
  ASSERT_TRUE(found.ok());
  expect_blind("find of a key");
  ASSERT_TRUE(transit.version(a(), found.value().key.id, 1).ok());
  expect_blind("version of a key");
  ASSERT_TRUE(transit.versions(a(), found.value().key.id).ok());
  expect_blind("versions of a key");
  ASSERT_TRUE(transit.names(a()).ok());
  expect_blind("names of keys");
  storage::PostgresRotationStore rotation(database, log);
  ASSERT_TRUE(rotation.root_key_uses().ok());
  expect_blind("root_key_uses");
  ASSERT_TRUE(rotation.backlog().ok());
  expect_blind("backlog");
  ASSERT_TRUE(rotation.keks_not_under("x", std::nullopt, 10).ok());
  expect_blind("keks_not_under");
  ASSERT_TRUE(rotation.held_tenants().ok());
  expect_blind("held_tenants");
  ASSERT_TRUE(rotation.kek_uses(a()).ok());
  expect_blind("kek_uses");
  ASSERT_TRUE(rotation.backlog_of(a()).ok());
  expect_blind("backlog_of");
  ASSERT_TRUE(rotation.newest_kek(a()).ok());
  expect_blind("newest_kek");
  ASSERT_TRUE(rotation.without_share(a(), 10).ok());
  expect_blind("without_share");
  ASSERT_TRUE(rotation.note_emptied(a()).ok());
  expect_blind("note_emptied");
  storage::PostgresKekStore keks(database);
  ASSERT_TRUE(keks.principal_share(a(), eve()).ok());
  expect_blind("principal_share");
  ASSERT_TRUE(keks.add_principal_share(a(), eve(), {}).ok());
  expect_blind("add_principal_share");
  storage::PostgresErasureStore erasures(database, log);
  ASSERT_TRUE(erasures.find(a(), "e1").ok());
  expect_blind("find of an erasure");
  ASSERT_TRUE(erasures.list(a(), "", 10).ok());
  expect_blind("list of erasures");
  ASSERT_TRUE(erasures.find_tenant(TenantId("shredded")).ok());
  expect_blind("find of a tenant's erasure");
  ASSERT_TRUE(erasures.open(std::nullopt, 10).ok());
  expect_blind("open erasures");
  EXPECT_EQ(database.stats().connects, 1u) << "all of it on one connection";
}

// ---- writing ----

TEST_F(RowLevelSecurity, NoRowOfAnotherTenantCanBeChangedOrRemoved) {
  for (const auto& table : tables()) {
    const auto where = " WHERE tenant_id = 'beta'";
    EXPECT_THAT(as_service({"postern.tenant_id=acme"}, "DELETE FROM " + table + where),
                AnyOf(kNothing, kDenied))
        << table;
    EXPECT_THAT(as_service({"postern.tenant_id=acme"},
                           "UPDATE " + table + " SET tenant_id = 'acme'" + where),
                AnyOf(kNothing, kDenied))
        << table;
  }
  for (const char* update :
       {"UPDATE tenant SET enabled = false",
        "UPDATE kek SET wrapped = '\\x00'",
        "UPDATE config_object SET spec = '[]'",
        "UPDATE signing_key SET state = 'retired'",
        "UPDATE credential SET current_version = 0",
        "UPDATE credential SET labels = '{}'",
        "UPDATE credential SET last_used_at = now()",
        "UPDATE credential_version SET deleted_at = now()",
        "UPDATE credential_version SET sealed = NULL, wrapped_dek = NULL, kek_version = NULL, "
        "destroyed_at = now()",
        "UPDATE credential_version SET wrapped_dek = '\\x00'",
        "UPDATE audit_head SET sequence = 0",
        "UPDATE used_once SET expires_at = now()",
        "UPDATE wrapped_answer SET sealed = '\\x00'",
        "UPDATE principal_share SET unshared_until = now()",
        "UPDATE erasure SET versions = 7",
        "UPDATE kek SET emptied_at = now()",
        "UPDATE transit_key SET deletion_allowed = true",
        "UPDATE transit_key_version SET wrapped = '\\x00'",
        "UPDATE credential_rotation SET next_at = NULL",
        "UPDATE initial_access_token SET uses = 0"}) {
    EXPECT_EQ(
        as_service({"postern.tenant_id=acme"}, std::string(update) + " WHERE tenant_id = 'beta'"),
        kNothing)
        << update;
    EXPECT_EQ(as_service({}, update), kNothing) << update;
  }
}

TEST_F(RowLevelSecurity, NoRowCanBeAddedForAnotherTenant) {
  const std::string zeros = "decode(repeat('00', 32), 'hex')";
  const std::vector<std::string> inserts{
      "INSERT INTO tenant (tenant_id, display_name) VALUES ('new', '')",
      "INSERT INTO tenant_tombstone (tenant_id) VALUES ('beta')",
      "INSERT INTO kek VALUES ('beta', 2, 'r', '\\x00')",
      "INSERT INTO config_object VALUES ('beta', 'role', 'r', '{}', 1)",
      "INSERT INTO client_secret VALUES ('beta', 'gateway', 's2', " + zeros + ", NULL)",
      "INSERT INTO admin_token VALUES ('beta', 't2', '', " + zeros + ", now(), NULL)",
      "INSERT INTO initial_access_token VALUES ('beta', 'i2', '', " + zeros +
          ", now(), now(), 1, 0)",
      "INSERT INTO signing_key VALUES ('beta', 'k2', 'ES256', '{}', 'active', 1, '\\x00', now())",
      "INSERT INTO credential VALUES ('beta', '', '', 'new', 1, 0)",
      "INSERT INTO credential_version VALUES ('beta', '', '', 'github', 2, 1, '\\x00', '\\x00', "
      "'{t}', now())",
      "INSERT INTO credential_rotation VALUES ('beta', '', '', 'new')",
      "INSERT INTO revoked_token VALUES ('beta', 'jti-2', now())",
      "INSERT INTO audit_record VALUES ('beta', 1000, '{}', " + zeros + ")",
      "INSERT INTO audit_head VALUES ('new', 0, " + zeros + ", " + zeros + ", 1)",
      "INSERT INTO used_once VALUES ('beta', 'dpop', decode(repeat('11', 32), 'hex'), now())",
      "INSERT INTO wrapped_answer VALUES ('beta', " + zeros +
          ", 'a', 'm', 'p', now(), 'infinity', 1,"
          " '\\x00')",
      "INSERT INTO transit_key VALUES ('beta', 'n', 'k2', 't', false, false, 1)",
      "INSERT INTO principal_share VALUES ('beta', 'i', 's', " + zeros + ")",
      "INSERT INTO erasure VALUES ('beta', 'e9', 'i', 's', now())",
      "INSERT INTO tenant_erasure VALUES ('beta', 'e9', now())",
      "INSERT INTO transit_key_version VALUES ('beta', 'k1', 2, 1, '\\x00', now())"};
  EXPECT_EQ(inserts.size(), tables().size()) << "one for each table";
  for (const auto& insert : inserts) {
    EXPECT_EQ(as_service({"postern.tenant_id=acme"}, insert), kDenied) << insert;
    EXPECT_EQ(as_service({}, insert), kDenied) << insert;
  }
}

TEST_F(RowLevelSecurity, AuditRecordsCannotBeChangedOrRemoved) {
  const std::vector<std::string> own{"postern.tenant_id=acme"};
  EXPECT_EQ(as_service(own, "UPDATE audit_record SET body = '{}'"), kDenied);
  EXPECT_EQ(as_service(own, "DELETE FROM audit_record"), kDenied);
  EXPECT_EQ(as_service(own, "TRUNCATE audit_record"), kDenied);
  EXPECT_EQ(as_service(own, "DELETE FROM audit_head"), kDenied);
}

TEST_F(RowLevelSecurity, ACredentialsContentAndPastVersionsAreFinal) {
  const std::vector<std::string> own{"postern.tenant_id=acme"};
  EXPECT_EQ(as_service(own, "UPDATE credential_version SET sealed = '\\x00'"), kDenied);
  EXPECT_EQ(as_service(own, "UPDATE credential_version SET sealed = NULL"), "23514")
      << "it may go as a whole, which destroys the version";
  EXPECT_EQ(as_service(own, "UPDATE credential_version SET version = 7"), kDenied);
  EXPECT_EQ(as_service(own, "UPDATE credential_version SET metadata = '{}'"), kDenied);
  EXPECT_EQ(as_service(own, "DELETE FROM credential"), kDenied);
  EXPECT_EQ(as_service(own, "UPDATE credential SET last_version = 0, current_version = 0"),
            "23000");
  EXPECT_EQ(as_service(own, "DELETE FROM tenant_tombstone"), kDenied);
  EXPECT_EQ(as_service(own, "DELETE FROM kek"), kDenied);
}

TEST_F(RowLevelSecurity, TheServiceCannotChangeTheSchema) {
  EXPECT_EQ(as_service({}, "CREATE TABLE t (n integer)"), kDenied);
  EXPECT_EQ(as_service({}, "CREATE SCHEMA s"), kDenied);
  EXPECT_EQ(as_service({}, "CREATE TEMPORARY TABLE t (n integer)"), kDenied);
  EXPECT_EQ(as_service({}, "SET ROLE postern_owner"), kDenied);
  EXPECT_EQ(as_service({}, "DELETE FROM schema_migration"), kDenied);
  for (const auto& table : tables()) {
    EXPECT_EQ(as_service({}, "ALTER TABLE " + table + " DISABLE ROW LEVEL SECURITY"), kDenied);
    EXPECT_EQ(as_service({}, "DROP TABLE " + table + " CASCADE"), kDenied);
    EXPECT_EQ(as_service({}, "CREATE POLICY p ON " + table + " USING (true)"), kDenied);
  }
}

// ---- the auditor ----

TEST_F(RowLevelSecurity, TheAuditorReadsTheAuditAndNothingElse) {
  for (const auto& table : tables()) {
    const auto count = run(shared_->auditor(), {}, "SELECT count(*) FROM " + table);
    if (table == "audit_record" || table == "audit_head") {
      EXPECT_NE(count, "0") << table;
      EXPECT_NE(count, kDenied) << table;
      EXPECT_EQ(run(shared_->auditor(), {}, "DELETE FROM " + table), kDenied) << table;
      EXPECT_EQ(run(shared_->auditor(), {}, "UPDATE " + table + " SET tenant_id = 'x'"), kDenied);
    } else {
      EXPECT_EQ(count, kDenied) << table;
    }
  }
  EXPECT_EQ(run(shared_->auditor(), {}, "SELECT count(DISTINCT tenant_id) FROM audit_head"), "4");
}

// ---- the catalog ----

TEST_F(RowLevelSecurity, EveryTableForcesRowSecurityAndBelongsToTheOwner) {
  EXPECT_THAT(catalog(R"sql(
      SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = 'postern' AND c.relkind IN ('r', 'p')
         AND c.relname <> 'schema_migration'
         AND NOT (c.relrowsecurity AND c.relforcerowsecurity
                  AND c.relowner = 'postern_owner'::regrole))sql"),
              IsEmpty());
  // Views and the like would read with their owner's rights.
  EXPECT_THAT(catalog(R"sql(
      SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = 'postern' AND c.relkind NOT IN ('r', 'p', 'i', 'I', 'S', 't'))sql"),
              IsEmpty());
}

TEST_F(RowLevelSecurity, EveryPrimaryAndForeignKeyBeginsWithTheTenant) {
  EXPECT_THAT(catalog(R"sql(
      SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = 'postern' AND c.relkind IN ('r', 'p')
         AND c.relname <> 'schema_migration'
         AND NOT EXISTS (SELECT FROM pg_constraint k JOIN pg_attribute a
                            ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
                          WHERE k.conrelid = c.oid AND k.contype = 'p'
                            AND a.attname = 'tenant_id'))sql"),
              IsEmpty());
  EXPECT_THAT(catalog(R"sql(
      SELECT k.conname FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
       WHERE n.nspname = 'postern' AND k.contype IN ('f', 'u') AND a.attname <> 'tenant_id')sql"),
              IsEmpty());
  // Bytes are compared, whatever the locale of the database.
  EXPECT_THAT(catalog(R"sql(
      SELECT c.relname || '.' || a.attname
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (k.conkey)
       WHERE n.nspname = 'postern' AND k.contype = 'p' AND a.atttypid = 'text'::regtype
         AND a.attcollation <> 'pg_catalog."C"'::regcollation)sql"),
              IsEmpty());
}

TEST_F(RowLevelSecurity, NoRoleOfOursCanBypassIt) {
  EXPECT_THAT(catalog(R"sql(
      SELECT rolname FROM pg_roles
       WHERE rolname LIKE 'postern%'
         AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication))sql"),
              IsEmpty());
  EXPECT_THAT(catalog(R"sql(
      SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
       WHERE r.rolname IN ('postern_service', 'postern_auditor'))sql"),
              IsEmpty());
}

TEST_F(RowLevelSecurity, TheServiceOwnsNothing) {
  EXPECT_THAT(catalog(R"sql(
      SELECT s.classid::regclass FROM pg_shdepend s
       WHERE s.deptype = 'o'
         AND s.refobjid IN ('postern_service'::regrole, 'postern_auditor'::regrole))sql"),
              IsEmpty());
}

TEST_F(RowLevelSecurity, NoFunctionRunsWithItsOwnersRights) {
  EXPECT_THAT(catalog(R"sql(
      SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
       WHERE n.nspname = 'postern' AND p.prosecdef)sql"),
              IsEmpty());
}

TEST_F(RowLevelSecurity, ThePublicMayDoNothing) {
  EXPECT_THAT(catalog(R"sql(
      SELECT table_name || ' ' || privilege_type FROM information_schema.table_privileges
       WHERE table_schema = 'postern' AND grantee = 'PUBLIC')sql"),
              IsEmpty());
  EXPECT_THAT(catalog(R"sql(
      SELECT routine_name FROM information_schema.routine_privileges
       WHERE routine_schema = 'postern' AND grantee = 'PUBLIC')sql"),
              IsEmpty());
  EXPECT_THAT(catalog("SELECT has_database_privilege('public', current_database(), 'CONNECT')"),
              Each("f"));
}

// ---- stores without a suite of their own ----

TEST_F(RowLevelSecurity, AnotherTenantsKeksDoNotExist) {
  const auto of_a = shared_->keks.keks(a());
  const auto of_b = shared_->keks.keks(b());
  ASSERT_TRUE(of_a.ok());
  ASSERT_TRUE(of_b.ok());
  ASSERT_THAT(of_a.value(), SizeIs(1));
  ASSERT_THAT(of_b.value(), SizeIs(1));
  EXPECT_NE(of_a.value()[0].wrapped, of_b.value()[0].wrapped);
  EXPECT_EQ(code_of(shared_->keks.keks(removed())), ErrorCode::NotFound);
  EXPECT_EQ(code_of(shared_->keks.keks(TenantId("no-such-tenant"))), ErrorCode::NotFound);
}

TEST_F(RowLevelSecurity, RotationOfOneTenantsKeysIsNotAnothers) {
  PostgresStores stores;
  for (const auto& tenant : {a(), b()}) stores.add(tenant);
  storage::PostgresRotationStore rotation(stores.database, stores.log);
  const auto keks_of_b = stores.keks.keks(b()).value();
  const SystemClock clock;
  vault::Rotation rotator(rotation, stores.keyring, clock, {});
  ASSERT_TRUE(rotator.rotate_tenant(a()).ok());
  ASSERT_TRUE(rotator.rewrap(a(), [](const vault::Rotation::Progress&) {}).ok());
  ASSERT_THAT(rotation.kek_uses(a()).value(), SizeIs(2));
  ASSERT_THAT(rotation.kek_uses(b()).value(), SizeIs(1));
  EXPECT_EQ(code_of(rotation.newest_kek(TenantId("no-such-tenant"))), ErrorCode::NotFound);
  EXPECT_EQ(stores.keks.keks(b()).value()[0].wrapped, keks_of_b[0].wrapped);
  // A KEK of another tenant does not fit, whoever puts it there.
  const auto change = [&](const vault::WrappedKek&) -> Result<vault::RotationStore::KekChange> {
    return stores.keyring.rewrap(a(), keks_of_b[0]).error();
  };
  EXPECT_EQ(code_of(rotation.rewrap_kek(a(), KekVersion{1}, change)), ErrorCode::Internal);
  EXPECT_EQ(code_of(rotation.rewrap_kek(TenantId("no-such-tenant"), KekVersion{1}, change)),
            ErrorCode::NotFound);
}

TEST_F(RowLevelSecurity, SealingOneTenantIsNotAnothers) {
  PostgresStores stores;
  for (const auto& tenant : {a(), b()}) stores.add(tenant);
  storage::PostgresRotationStore rotation(stores.database, stores.log);
  const auto seals = [&](const TenantId& tenant) {
    const auto kek = stores.keks.keks(tenant).value().front();
    return kek.held ? static_cast<int>(kek.held->seals) : -1;
  };
  const audit::Event event{a(), SystemClock().now(), "key_holder.seal", audit::Outcome::Allowed, "",
                           {}};
  for (const auto& tenant : {a(), b()}) {
    const auto hold = [&](const vault::WrappedKek& newest) {
      auto kek =
          stores.keyring.create(tenant, vault::after(newest.version), vault::HeldShareDemand{});
      auto record = event;
      record.tenant = tenant;
      return Result<vault::RotationStore::KekChange>({std::move(kek), std::move(record)});
    };
    ASSERT_TRUE(rotation.add_kek(tenant, hold).ok());
  }
  const auto epoch_of_b = stores.config.load(b()).value().row.epoch;
  ASSERT_TRUE(rotation.seal(a(), event).ok());
  EXPECT_EQ(seals(a()), 1);
  EXPECT_EQ(seals(b()), 0);
  EXPECT_EQ(stores.config.load(b()).value().row.epoch, epoch_of_b);
  EXPECT_EQ(code_of(rotation.seal(TenantId("no-such-tenant"), event)), ErrorCode::NotFound);
}

}  // namespace
}  // namespace postern::test
