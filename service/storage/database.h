#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/result.h"

namespace postern::storage {

/// How to reach PostgreSQL. `conninfo` is a libpq connection string or URI and
/// may hold a password: it is never logged nor part of an error.
struct DatabaseOptions {
  std::string conninfo;
  std::string application_name = "postern";
  std::string search_path = "postern";  ///< never one of another's schemas first
  std::size_t max_connections = 8;
  std::chrono::milliseconds checkout_timeout{2000};  ///< then Unavailable
  std::chrono::seconds connect_timeout{3};           ///< unless conninfo has its own
  std::chrono::milliseconds statement_timeout{5000};
  /// How long we wait for an answer ourselves, for a server that hangs ends no
  /// statement; then the connection is closed. Also the longest time between two
  /// statements of one loan. 0: a second more than statement_timeout.
  std::chrono::milliseconds client_timeout{0};
  std::chrono::milliseconds lock_timeout{2000};
  std::chrono::milliseconds idle_in_transaction_timeout{10000};
};

/// Counters since the start, for metrics, and for tests to show what a request
/// did and did not ask of the database.
struct DatabaseStats {
  std::uint64_t queries = 0;        ///< statements sent, audit batches included
  std::uint64_t transactions = 0;   ///< explicit ones
  std::uint64_t audit_batches = 0;  ///< appends of the audit log that committed
  std::uint64_t audit_events = 0;
  std::uint64_t audit_conflicts = 0;  ///< batches computed again: another replica was first
  std::uint64_t connects = 0;
  std::uint64_t connect_failures = 0;
  std::uint64_t checkout_timeouts = 0;
  std::uint64_t client_timeouts = 0;  ///< connections closed because no answer came
  std::size_t open = 0;               ///< connections now
  std::size_t busy = 0;
};

class ConnectionPool;

/// A bounded pool of connections to one PostgreSQL server, opened on demand.
///
/// A connection that failed is closed, never reused; the next call opens a new
/// one, so the pool recovers by itself when the server returns. After a failed
/// attempt to connect, calls fail at once for a moment (up to a second) rather
/// than queue behind time-outs. Thread-safe.
class Database {
 public:
  explicit Database(DatabaseOptions options);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  /// One round trip, for readiness. Errors: Unavailable.
  Status ping();

  DatabaseStats stats() const;
  const DatabaseOptions& options() const noexcept;

  ConnectionPool& pool() noexcept { return *pool_; }  ///< for this folder

 private:
  std::unique_ptr<ConnectionPool> pool_;
};

/// conninfo with what every connection of ours has: application_name,
/// target_session_attrs=read-write (a fail-over must not leave us on a standby)
/// and connect_timeout. What conninfo already says stays.
std::string complete_conninfo(const DatabaseOptions& options);

/// options.client_timeout, or what it is when not given.
std::chrono::milliseconds client_timeout(const DatabaseOptions& options) noexcept;

}  // namespace postern::storage
