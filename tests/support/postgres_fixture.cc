#include "support/postgres_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <pqxx/pqxx>
#include <stdexcept>

#include "storage/migrator.h"

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

PostgresDatabase::PostgresDatabase() : name_(next_name("t")) {
  shared_postgres();
  // Privileges on a database are not copied with its content.
  as_superuser("CREATE DATABASE " + name_ + " OWNER postern_owner TEMPLATE " + kTemplate);
  as_superuser("REVOKE ALL ON DATABASE " + name_ + " FROM PUBLIC");
  as_superuser("GRANT CONNECT ON DATABASE " + name_ + " TO postern_service, postern_auditor");
}

PostgresDatabase::~PostgresDatabase() {
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

std::string empty_database() {
  shared_postgres();
  auto name = next_name("empty");
  as_superuser("CREATE DATABASE " + name + " OWNER postern_owner TEMPLATE template0");
  return name;
}

}  // namespace postern::test
