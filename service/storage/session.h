#pragma once

// Inside of service/storage: sessions, transactions and the error boundary.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "core/clock.h"
#include "core/ids.h"
#include "core/log.h"
#include "core/result.h"
#include "storage/database.h"
#include "storage/pqxx_compat.h"
#include "storage/watchdog.h"

namespace postern::storage {

/// A statement with its name, which is the prepared statement's and the one
/// that errors carry.
struct Statement {
  const char* name;
  const char* sql;
};

struct Counters {
  std::atomic<std::uint64_t> queries{0}, transactions{0}, audit_batches{0}, audit_events{0},
      audit_conflicts{0}, connects{0}, connect_failures{0}, checkout_timeouts{0};
};

/// One connection and what was prepared on it. Used by one thread at a time.
struct Connection {
  std::optional<Watchdog::Watch> watch;  // first, for closing `link` is watched too
  std::unique_ptr<pqxx::connection> link;
  std::set<std::string_view> prepared;  // names of Statement constants
};

class Session;

class ConnectionPool {
 public:
  explicit ConnectionPool(DatabaseOptions options);

  /// Waits for a free place up to the check-out time. Errors: Unavailable.
  Result<Session> checkout();

  const DatabaseOptions& options() const noexcept { return options_; }
  DatabaseStats stats() const;
  Counters& counters() noexcept { return counters_; }

 private:
  friend class Session;
  void give_back(std::unique_ptr<Connection> connection, bool usable) noexcept;
  Result<std::unique_ptr<Connection>> open();

  const DatabaseOptions options_;
  const std::string conninfo_;
  const std::chrono::milliseconds client_timeout_;
  Watchdog watchdog_;
  mutable std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<std::unique_ptr<Connection>> idle_;  // last in, first out: the rest may age
  std::size_t open_ = 0;                           // idle and leased
  std::chrono::steady_clock::time_point next_attempt_{};
  std::chrono::milliseconds back_off_{0};
  Counters counters_;
};

/// A connection on loan. Returns to the pool when destroyed; is closed instead
/// when it was found broken. A call on it that gets no answer within the
/// client_timeout fails as if the connection were lost.
class Session {
 public:
  Session(ConnectionPool& pool, std::unique_ptr<Connection> connection) noexcept
      : pool_(&pool), connection_(std::move(connection)), patience_(pool.client_timeout_) {
    begin_call();
  }
  Session(Session&& other) noexcept
      : pool_(other.pool_),
        connection_(std::move(other.connection_)),
        patience_(other.patience_),
        usable_(other.usable_) {}
  Session& operator=(Session&&) = delete;
  ~Session() {
    if (connection_) pool_->give_back(std::move(connection_), usable_);
  }

  pqxx::connection& link() { return *connection_->link; }
  Counters& counters() { return pool_->counters(); }
  void discard() noexcept { usable_ = false; }

  /// The client_timeout counts from here; run() says so itself.
  void begin_call() { connection_->watch->allow(patience_); }
  /// Another client_timeout for the rest of this loan, where a statement has a
  /// longer statement_timeout.
  void allow(std::chrono::milliseconds patience) {
    patience_ = patience;
    begin_call();
  }

  /// Runs a statement, preparing it on first use of this connection.
  template <class... Args>
  pqxx::result run(pqxx::transaction_base& tx, const Statement& statement, const Args&... args) {
    begin_call();
    prepare(statement);
    ++counters().queries;
    auto result = pq::exec_prepared(tx, statement.name, args...);
    begin_call();  // what comes next, a commit perhaps, has its own time
    return result;
  }

 private:
  void prepare(const Statement& statement);

  ConnectionPool* pool_;
  std::unique_ptr<Connection> connection_;
  std::chrono::milliseconds patience_;
  bool usable_ = true;
};

/// A transaction that sees and writes one tenant's rows: the setting that
/// row-level security reads ends with the transaction.
class TenantTransaction {
 public:
  enum class Mode {
    ReadWrite,
    Snapshot,  ///< reads only, and all statements see the same moment
  };
  TenantTransaction(Session& session, const TenantId& tenant, Mode mode = Mode::ReadWrite);
  template <class... Args>
  pqxx::result run(const Statement& statement, const Args&... args) {
    return session_.run(work_, statement, args...);
  }
  void commit() {
    session_.begin_call();
    work_.commit();
  }
  Session& session() { return session_; }
  pqxx::work& work() { return work_; }

 private:
  Session& session_;
  pqxx::work work_;
};

/// What an exception of libpqxx means, without its text: PostgreSQL quotes
/// values in messages. Closes the session's connection when it can no longer be
/// trusted. To be called inside a catch block.
Error describe_failure(std::string_view statement, Session* session);

/// Whether it is that something was sealed under a KEK that is not the newest any more, or
/// a share that is its owner's no more: this process had not heard of it yet.
inline bool kek_was_rotated(const Error& error) {
  return error.code == ErrorCode::Conflict &&
         (error.diagnostic.ends_with(" KEK01") || error.diagnostic.ends_with(" SHR01"));
}

/// Runs `body(session)` and turns what libpqxx throws into an Error that names
/// the statement and the SQLSTATE. Never runs anything twice.
template <class Body>
auto named(std::string_view name, ConnectionPool& pool, Body&& body)
    -> decltype(body(std::declval<Session&>())) {
  auto session = pool.checkout();
  if (!session.ok()) return std::move(session).error();
  try {
    return body(session.value());
  } catch (...) {
    return describe_failure(name, &session.value());
  }
}

// Reading fields. Types are those of our own schema, so a mismatch is a bug and throws.
inline std::string text(const pqxx::field& field) { return {field.c_str(), field.size()}; }
template <class T>
T number(const pqxx::field& field) {
  return field.as<T>();
}
Bytes bytes(const pqxx::field& field);  ///< bytea in hex form
inline sys_seconds instant(const pqxx::field& field) {
  return sys_seconds(std::chrono::seconds(field.as<long long>()));
}
inline std::optional<sys_seconds> optional_instant(const pqxx::field& field) {
  if (field.is_null()) return std::nullopt;
  return instant(field);
}

// Writing instants: seconds since 1970, as text so that there can be none ("").
inline long long seconds_of(sys_seconds time) { return time.time_since_epoch().count(); }
inline std::string seconds_of(const std::optional<sys_seconds>& time) {
  return time ? std::to_string(seconds_of(*time)) : std::string();
}

}  // namespace postern::storage
