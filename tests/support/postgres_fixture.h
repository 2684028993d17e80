#pragma once

#include <filesystem>
#include <string>

#include "storage/database.h"
#include "storage/embedded_postgres.h"

namespace postern::test {

/// A directory of its own under the temporary directory, removed at the end.
/// Others may pass through it, so that a server running as another user reaches
/// what lies below.
class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

/// An empty, migrated database in a PostgreSQL server that this test process
/// starts once (without fsync: not for tests of durability). At the end it is
/// emptied for the next test, or dropped when the test altered more than rows.
class PostgresDatabase {
 public:
  PostgresDatabase();
  ~PostgresDatabase();
  PostgresDatabase(const PostgresDatabase&) = delete;
  PostgresDatabase& operator=(const PostgresDatabase&) = delete;

  const std::string& name() const noexcept { return name_; }
  std::string superuser() const;  ///< connection strings to this database
  std::string owner() const;
  std::string service() const;
  std::string auditor() const;

  storage::DatabaseOptions options() const;  ///< as the service role

 private:
  std::string name_;
};

/// A share store of its own, empty and migrated, in the same server. Dropped at the end.
class ShareDatabase {
 public:
  ShareDatabase();
  ~ShareDatabase();
  ShareDatabase(const ShareDatabase&) = delete;
  ShareDatabase& operator=(const ShareDatabase&) = delete;

  const std::string& name() const noexcept { return name_; }
  std::string superuser() const;  ///< connection strings to this database
  std::string owner() const;
  std::string service() const;
  storage::DatabaseOptions options() const;  ///< as the service role

 private:
  std::string name_;
};

/// The server of this process; started on first use.
storage::EmbeddedPostgres& shared_postgres();

/// A new database without a schema in it, for tests of the migrator. Stays until the end.
std::string empty_database();

}  // namespace postern::test
