#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "core/result.h"

namespace postern::storage {

/// A private PostgreSQL server, run from the installed binaries in a directory
/// of its own, for `posternd dev` and for tests. Reachable only through a Unix
/// socket in that directory, with passwords that are kept there.
///
///   <directory>/pgdata        the cluster
///   <directory>/run           the socket, unless its path would be too long
///   <directory>/passwords     one line a role: `role password`, mode 0600
///   <directory>/postgres.log  without statements, parameters or row values
///   <directory>/lock          held while an instance is in use
///
/// PostgreSQL refuses to run as root; started by root, the server runs as the
/// user postgres and the directory belongs to that user.
///
/// The server stops with this object, and also when this process dies without
/// destroying it. Linux ties that to the *thread* that called start(), so call
/// it from one that lives as long as the process. A server that was left over
/// all the same is stopped by the next start().
class EmbeddedPostgres {
 public:
  struct Options {
    std::filesystem::path directory;
    std::filesystem::path binaries;  ///< of postgres and initdb; empty: the newest installed
    /// False only for tests that can afford to lose data: no fsync.
    enum class Durability { Full, None } durability = Durability::Full;
    unsigned max_connections = 60;
    std::chrono::seconds patience{60};  ///< for initdb, for start, and for a crash recovery
  };

  /// Errors: Unavailable, with a detail an operator can act on: no PostgreSQL
  /// found, directory in use by another process, not reachable for the user
  /// postgres, of another major version, or the server's log to read.
  static Result<EmbeddedPostgres> start(Options options);

  EmbeddedPostgres(EmbeddedPostgres&&) noexcept;
  EmbeddedPostgres& operator=(EmbeddedPostgres&&) noexcept;
  ~EmbeddedPostgres();  ///< stop()

  /// bootstrap() and migrate(), with this server's roles and passwords.
  Status provision(const std::string& database = "postern");

  /// The same of a share store, which is another database of this server.
  Status provision_shares(const std::string& database = "postern_shares");

  /// Creates the roles and the database, and restores an archive of pg_dump (-Fc, -Fd or
  /// -Ft) into it as postern_owner, who may do nothing outside of it: an archive is a
  /// program. Errors: Unavailable, with what pg_restore said first.
  Status restore(const std::filesystem::path& archive, const std::string& database = "postern");

  /// Connection strings, which hold the role's password.
  std::string superuser_conninfo(const std::string& database = "postgres") const;
  std::string owner_conninfo(const std::string& database = "postern") const;
  std::string service_conninfo(const std::string& database = "postern") const;
  std::string auditor_conninfo(const std::string& database = "postern") const;

  /// Starts the server again when it has ended by itself: a crash, a full disk, a
  /// stray kill. Call it now and then, from the thread that called start(). Waits
  /// for recovery; after a failed attempt the next ones are up to 30 s apart.
  void keep_running() noexcept;

  pid_t pid() const noexcept;  ///< of the postmaster; 0 when stopped
  const std::filesystem::path& log_file() const noexcept;

  /// Ends sessions and shuts down cleanly. Idempotent.
  void stop() noexcept;

 private:
  struct Impl;
  explicit EmbeddedPostgres(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::storage
