#include "support/postgres_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <pqxx/pqxx>
#include <stdexcept>
#include <vector>

#include "storage/migrator.h"

#if defined(__SANITIZE_ADDRESS__)
// libpqxx 6.4 loses a PGresult when a connection breaks under a statement: it
// asks the dead connection for its encoding before it takes the result.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libpqxx-6.4.so\n"; }
#endif

namespace postern::test {
namespace {

constexpr const char* kTemplate = "postern_template";

struct SharedServer {
  TempDirectory directory;
  storage::EmbeddedPostgres server;

  SharedServer() : server(start(directory.path())) {
    const auto provisioned = server.provision(kTemplate);
    if (!provisioned.ok()) {
      throw std::runtime_error("provision: " + provisioned.error().detail + " " +
                               provisioned.error().diagnostic);
    }
  }

  static storage::EmbeddedPostgres start(const std::filesystem::path& directory) {
    storage::EmbeddedPostgres::Options options;
    options.directory = directory / "postgres";
    options.durability = storage::EmbeddedPostgres::Options::Durability::None;
    options.max_connections = 100;
    auto started = storage::EmbeddedPostgres::start(options);
    if (!started.ok()) {
      throw std::runtime_error("embedded PostgreSQL: " + started.error().detail + " " +
                               started.error().diagnostic);
    }
    return std::move(started).value();
  }
};

void as_superuser(const std::string& sql) {
  pqxx::connection connection(shared_postgres().superuser_conninfo());
  pqxx::nontransaction tx(connection);
  tx.exec(sql);
}

std::string next_name(const char* prefix) {
  static std::atomic<int> number{0};
  return prefix + std::to_string(++number);
}

}  // namespace

TempDirectory::TempDirectory() {
  auto pattern = (std::filesystem::temp_directory_path() / "postern-test-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = pattern;
  ::chmod(path_.c_str(), 0711);
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

storage::EmbeddedPostgres& shared_postgres() {
  static SharedServer shared;
  return shared.server;
}

namespace {

// What a test might have altered besides rows; then its database is not used again.
constexpr const char* kFingerprint = R"sql(
    SELECT concat_ws(' ',
        (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc),
        (SELECT count(*) FROM pg_policy), (SELECT count(*) FROM pg_trigger),
        (SELECT count(*) FROM pg_attribute), (SELECT count(*) FROM pg_constraint),
        (SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
          WHERE d.datname = current_database()),
        (SELECT string_agg(version || name || encode(checksum, 'hex'), ',' ORDER BY version)
           FROM postern.schema_migration)))sql";

/// Databases of tests that ended, emptied: making one costs far more.
struct Emptied {
  std::mutex mutex;
  std::vector<std::string> names;
};
Emptied& emptied() {
  // Never destroyed: databases in static objects end after any static here.
  static auto* const all = ::new Emptied;
  return *all;
}

std::string fingerprint(pqxx::transaction_base& tx) { return tx.exec(kFingerprint)[0][0].c_str(); }

bool empty_it(const std::string& database) {
  static const auto* const original = [] {
    pqxx::connection connection(shared_postgres().superuser_conninfo(kTemplate));
    pqxx::nontransaction tx(connection);
    return ::new std::string(fingerprint(tx));
  }();
  pqxx::connection connection(shared_postgres().superuser_conninfo(database));
  pqxx::nontransaction tx(connection);
  if (fingerprint(tx) != *original) return false;
  tx.exec(
      "SET lock_timeout = '2s'; DELETE FROM postern.tenant; DELETE FROM postern.tenant_tombstone;"
      "DELETE FROM postern.tenant_erasure; DELETE FROM postern.principal_share;"
      "DELETE FROM postern.audit_record; DELETE FROM postern.audit_head");
  return true;
}

}  // namespace

PostgresDatabase::PostgresDatabase() {
  shared_postgres();
  {
    const std::lock_guard lock(emptied().mutex);
    if (!emptied().names.empty()) {
      name_ = emptied().names.back();
      emptied().names.pop_back();
      return;
    }
  }
  name_ = next_name("t");
  // Privileges and settings of a database are not copied with its content.
  as_superuser("CREATE DATABASE " + name_ + " OWNER postern_owner TEMPLATE " + kTemplate);
  as_superuser("REVOKE ALL ON DATABASE " + name_ + " FROM PUBLIC");
  as_superuser("GRANT CONNECT ON DATABASE " + name_ + " TO postern_service, postern_auditor");
  as_superuser("ALTER ROLE postern_auditor IN DATABASE " + name_ + " SET search_path = postern");
}

PostgresDatabase::~PostgresDatabase() {
  try {
    if (empty_it(name_)) {
      const std::lock_guard lock(emptied().mutex);
      emptied().names.push_back(name_);
      return;
    }
  } catch (const std::exception&) {  // NOLINT: then it is dropped
  }
  try {
    as_superuser("DROP DATABASE IF EXISTS " + name_ + " WITH (FORCE)");
  } catch (const std::exception&) {  // NOLINT: the whole server goes at the end anyway
  }
}

std::string PostgresDatabase::superuser() const {
  return shared_postgres().superuser_conninfo(name_);
}
std::string PostgresDatabase::owner() const { return shared_postgres().owner_conninfo(name_); }
std::string PostgresDatabase::service() const { return shared_postgres().service_conninfo(name_); }
std::string PostgresDatabase::auditor() const { return shared_postgres().auditor_conninfo(name_); }

storage::DatabaseOptions PostgresDatabase::options() const {
  storage::DatabaseOptions out;
  out.conninfo = service();
  return out;
}

ShareDatabase::ShareDatabase() : name_(next_name("shares")) {
  const auto made = shared_postgres().provision_shares(name_);
  if (!made.ok()) throw std::runtime_error("share store: " + made.error().detail);
}

ShareDatabase::~ShareDatabase() {
  try {
    as_superuser("DROP DATABASE IF EXISTS " + name_ + " WITH (FORCE)");
  } catch (const std::exception&) {  // NOLINT: the whole server goes at the end anyway
  }
}

std::string ShareDatabase::superuser() const { return shared_postgres().superuser_conninfo(name_); }
std::string ShareDatabase::owner() const { return shared_postgres().owner_conninfo(name_); }
std::string ShareDatabase::service() const { return shared_postgres().service_conninfo(name_); }

storage::DatabaseOptions ShareDatabase::options() const {
  storage::DatabaseOptions out;
  out.conninfo = service();
  return out;
}

std::string empty_database() {
  shared_postgres();
  auto name = next_name("empty");
  as_superuser("CREATE DATABASE " + name + " OWNER postern_owner TEMPLATE template0");
  return name;
}

}  // namespace postern::test
