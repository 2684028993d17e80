// Values planted in statements that fail: they must be in no error and not in
// PostgreSQL's log, whose messages quote them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "storage/postgres_credential_rotations.h"
#include "storage/postgres_erasure_store.h"
#include "storage/postgres_share_store.h"
#include "storage/session.h"
#include "support/postgres_stores.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class StorageLeaks : public ::testing::Test {
 protected:
  static constexpr const char* kCanary = "canary-5ca1ab1e";

  void expect_clean(const Error& error) {
    EXPECT_THAT(error.detail + "|" + error.diagnostic, Not(HasSubstr("5ca1ab1e")));
    EXPECT_NE(error.diagnostic, "") << "it names the statement";
  }
  static std::string log_text() {
    std::ifstream file(shared_postgres().log_file());
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  void TearDown() override {
    const auto log = log_text();
    EXPECT_THAT(log, HasSubstr("ERROR")) << "the failures reached the server";
    EXPECT_THAT(log, Not(HasSubstr("5ca1ab1e")));
    EXPECT_THAT(log, Not(HasSubstr("35636131"))) << "nor in hexadecimal";
    EXPECT_THAT(log, Not(HasSubstr("INSERT"))) << "nor statements";
  }

  Result<std::uint64_t> apply(const policy::ConfigChange& change) {
    return stores_.config.apply(tenant_, change, {});
  }
  Result<vault::CredentialMetadata> put(const Owner& owner, Bytes sealed,
                                        std::uint32_t kek_version = 1) {
    return stores_.credentials.put(
        tenant_, {owner, CredentialName("github")}, std::nullopt,
        [&](std::uint32_t version) -> Result<vault::SealedVersion> {
          return vault::SealedVersion{
              version,     KekVersion{kek_version}, to_bytes(kCanary), sealed, {"token"}, {},
              std::nullopt};
        },
        {});
  }

  PostgresStores stores_;
  const TenantId tenant_ = stores_.add_tenant();
};

TEST_F(StorageLeaks, AConstraintThatFails) {
  // Too large, so that a CHECK fails and DETAIL would show the whole row.
  auto sealed = to_bytes(std::string(600'000, 'x'));
  const auto canary = to_bytes(kCanary);
  std::copy(canary.begin(), canary.end(), sealed.begin());
  const auto large = put(Owner::tenant(), sealed);
  ASSERT_FALSE(large.ok());
  EXPECT_EQ(large.error().code, ErrorCode::TooLarge);
  expect_clean(large.error());

  policy::ConfigChange change;
  change.put.push_back({policy::Kind::Client, std::string(300, 'n') + kCanary, kCanary, 0});
  const auto name = apply(change);
  ASSERT_FALSE(name.ok());
  expect_clean(name.error());
}

TEST_F(StorageLeaks, AShareThatFails) {
  const ShareDatabase server;
  storage::Database database(server.options());
  storage::PostgresShareStore shares(database);
  // Of another length than a share has, so that DETAIL would show the whole row.
  const vault::KeyShare share(SecureBuffer::copy_of(std::string(40, 'x') + kCanary));
  const auto refused = shares.add(tenant_, vault::id_of(tenant_, share), share);
  ASSERT_FALSE(refused.ok());
  expect_clean(refused.error());
}

TEST_F(StorageLeaks, AStatementOfErasureThatFails) {
  storage::PostgresErasureStore erasures(stores_.database, stores_.log);
  const Principal who{"https://idp.example", kCanary};
  const audit::Event event{tenant_, {}, "principal.erase", {}, "r", {}};
  ASSERT_TRUE(stores_.keks.add_principal_share(tenant_, who, {}).ok());
  ASSERT_TRUE(erasures.begin(tenant_, who, "e1", {}, event).ok());
  ASSERT_TRUE(erasures.remove_rows(tenant_, "e1", {}).ok());
  const auto refused = erasures.finish(
      tenant_, "e1", {}, [&](const vault::Erasure&) -> Result<vault::ErasureStore::Said> {
        return vault::ErasureStore::Said{std::string(20'000, 'x') + kCanary, event};
      });
  ASSERT_FALSE(refused.ok());
  expect_clean(refused.error());
}

TEST_F(StorageLeaks, ARotationThatFails) {
  ASSERT_TRUE(put(Owner::tenant(), to_bytes(kCanary)).ok());
  const vault::CredentialKey key{Owner::tenant(), CredentialName("github")};
  storage::PostgresCredentialRotations rotations(stores_.database, stores_.log);
  auto sealed = to_bytes(std::string(600'000, 'x'));
  const auto canary = to_bytes(kCanary);
  std::copy(canary.begin(), canary.end(), sealed.begin());
  const auto begun = rotations.begin(
      tenant_, key, 1, {"lease", {}},
      [&](std::uint32_t version) -> Result<vault::SealedVersion> {
        return vault::SealedVersion{version, KekVersion{1}, to_bytes(kCanary), sealed, {"token"},
                                    {},      std::nullopt};
      },
      [](vault::CredentialRotation&) -> Result<vault::CredentialRotationStore::Effect> {
        return vault::CredentialRotationStore::Effect{};
      });
  ASSERT_FALSE(begun.ok());
  EXPECT_EQ(begun.error().code, ErrorCode::TooLarge);
  expect_clean(begun.error());

  const auto said = rotations.change(
      tenant_, key, "",
      [](vault::CredentialRotation& is) -> Result<vault::CredentialRotationStore::Effect> {
        is.problem = std::string(600, 'x') + kCanary;
        return vault::CredentialRotationStore::Effect{};
      });
  ASSERT_FALSE(said.ok());
  expect_clean(said.error());
}

TEST_F(StorageLeaks, AKeyThatIsThereAlready) {
  policy::ConfigChange change;
  change.add_admin_tokens.push_back({kCanary, kCanary, {}, {}, std::nullopt});
  ASSERT_TRUE(apply(change).ok());
  const auto again = apply(change);
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, ErrorCode::Conflict);
  expect_clean(again.error());
}

TEST_F(StorageLeaks, ARegistrationThatFails) {
  policy::ConfigChange change;
  const crypto::Hash256 hash{};
  change.add_initial_tokens.push_back({kCanary, kCanary, hash, {}, {}, 1, 0});
  ASSERT_TRUE(apply(change).ok());
  const auto again = apply(change);
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, ErrorCode::Conflict);
  expect_clean(again.error());

  policy::ConfigChange unbounded;
  unbounded.add_initial_tokens.push_back({"other", kCanary, hash, {}, {}, 0, 7});
  const auto refused = apply(unbounded);
  ASSERT_FALSE(refused.ok());
  expect_clean(refused.error());

  policy::ConfigChange unknown;
  unknown.use_initial_tokens = {std::string(kCanary) + "-unknown"};
  unknown.put.push_back({policy::Kind::Client, kCanary, "{}", 0});
  unknown.add_client_secrets.push_back({ClientId(kCanary), kCanary, hash, std::nullopt});
  const auto absent = apply(unknown);
  ASSERT_FALSE(absent.ok());
  EXPECT_EQ(absent.error().code, ErrorCode::NotFound);
  EXPECT_THAT(absent.error().detail + absent.error().diagnostic, Not(HasSubstr("5ca1ab1e")));
}

TEST_F(StorageLeaks, AReferenceToWhatIsNot) {
  policy::ConfigChange change;
  change.add_client_secrets.push_back({ClientId(kCanary), kCanary, {}, std::nullopt});
  const auto secret = apply(change);
  ASSERT_FALSE(secret.ok());
  expect_clean(secret.error());

  const auto at_commit = put(Owner::tenant(), to_bytes(kCanary), 7);
  ASSERT_FALSE(at_commit.ok());
  expect_clean(at_commit.error());
}

TEST_F(StorageLeaks, ATextInTheWrongEncoding) {
  const auto subject = std::string(kCanary) + "\xFF\xFE";
  const auto written = put(Owner::principal({"https://idp.example", subject}), to_bytes(kCanary));
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().code, ErrorCode::MalformedRequest);
  expect_clean(written.error());
}

TEST_F(StorageLeaks, AStatementThatTakesTooLong) {
  constexpr storage::Statement kSlow{"test.slow", "SELECT pg_sleep(60), $1::text, $2::bytea"};
  auto options = stores_.options();
  options.statement_timeout = std::chrono::milliseconds(20);
  storage::Database database(options);
  const auto canary = to_bytes(kCanary);
  const auto status =
      storage::named(kSlow.name, database.pool(), [&](storage::Session& session) -> Status {
        pqxx::nontransaction tx(session.link());
        session.run(tx, kSlow, kCanary, ByteView(canary));
        return {};
      });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::Unavailable);
  expect_clean(status.error());
}

TEST_F(StorageLeaks, AValueThatDoesNotConvert) {
  constexpr storage::Statement kConvert{"test.convert", "SELECT length($1::bytea)"};
  const auto canary = to_bytes(kCanary);
  // Sealed bytes travel in binary: there is no text form that could fail to convert.
  const auto status = storage::named(kConvert.name, stores_.database.pool(),
                                     [&](storage::Session& session) -> Status {
                                       pqxx::nontransaction tx(session.link());
                                       session.run(tx, kConvert, ByteView(canary));
                                       tx.exec("SELECT 1/0");
                                       return {};
                                     });
  ASSERT_FALSE(status.ok());
  expect_clean(status.error());
}

}  // namespace
}  // namespace postern::test
