#include "storage/database.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <typeinfo>
#include <utility>

#include "storage/session.h"

namespace postern::storage {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kFirstBackOff{25};
constexpr milliseconds kLongestBackOff{1000};

/// Whether the peer has closed an idle connection, or said something unasked
/// (as before closing): found without a round trip.
bool gone(int socket) {
  char byte = 0;
  const auto got = ::recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

std::string session_settings(const DatabaseOptions& options) {
  const auto ms = [](milliseconds time) { return std::to_string(time.count()); };
  return "SET search_path = " + options.search_path +
         "; SET client_min_messages = error; SET bytea_output = hex; SET "
         "plan_cache_mode = force_generic_plan; "
         // An answer leaves after its audit record is on disk, whatever the server's default.
         "SELECT set_config('synchronous_commit', 'on', false) "
         " WHERE current_setting('synchronous_commit') = 'off'; "
         "SET statement_timeout = " +
         ms(options.statement_timeout) + "; SET lock_timeout = " + ms(options.lock_timeout) +
         "; SET idle_in_transaction_session_timeout = " + ms(options.idle_in_transaction_timeout);
}

Error unavailable(std::string diagnostic) {
  return fail(ErrorCode::Unavailable, "the database is not available", std::move(diagnostic));
}

}  // namespace

std::string complete_conninfo(const DatabaseOptions& options) {
  const auto& given = options.conninfo;
  const bool uri = given.rfind("postgres://", 0) == 0 || given.rfind("postgresql://", 0) == 0;
  std::string out = given;
  const auto add = [&](const std::string& key, const std::string& value) {
    if (given.find(key + "=") != std::string::npos) return;
    if (uri) {
      out += (out.find('?') == std::string::npos ? "?" : "&") + key + "=" + value;
    } else {
      out += " " + key + "=" + value;
    }
  };
  add("application_name", options.application_name);
  add("target_session_attrs", "read-write");
  // A peer that vanished is noticed within seconds, not after the kernel's quarter hour.
  add("keepalives_idle", "15");
  add("keepalives_interval", "5");
  add("keepalives_count", "3");
  add("tcp_user_timeout", "15000");
  add("connect_timeout", std::to_string(std::max<long long>(2, options.connect_timeout.count())));
  return out;
}

milliseconds client_timeout(const DatabaseOptions& options) noexcept {
  if (options.client_timeout.count() > 0) return options.client_timeout;
  return options.statement_timeout + std::chrono::seconds(1);
}

ConnectionPool::ConnectionPool(DatabaseOptions options)
    : options_(std::move(options)),
      conninfo_(complete_conninfo(options_)),
      client_timeout_(client_timeout(options_)) {}

Result<Session> ConnectionPool::checkout() {
  std::unique_lock lock(mutex_);
  const auto deadline = steady_clock::now() + options_.checkout_timeout;
  for (;;) {
    while (!idle_.empty()) {
      auto connection = std::move(idle_.back());
      idle_.pop_back();
      if (!gone(connection->link->sock())) return Session(*this, std::move(connection));
      --open_;
    }
    if (open_ < options_.max_connections) break;
    if (freed_.wait_until(lock, deadline) == std::cv_status::timeout && idle_.empty() &&
        open_ >= options_.max_connections) {
      ++counters_.checkout_timeouts;
      return unavailable("pool exhausted");
    }
  }
  if (steady_clock::now() < next_attempt_) return unavailable("waiting before the next connect");
  ++open_;
  lock.unlock();

  auto connection = open();

  lock.lock();
  if (connection.ok()) {
    back_off_ = milliseconds(0);
    return Session(*this, std::move(connection).value());
  }
  --open_;
  back_off_ = std::clamp(back_off_ * 2, kFirstBackOff, kLongestBackOff);
  next_attempt_ = steady_clock::now() + back_off_;
  freed_.notify_one();
  return std::move(connection).error();
}

Result<std::unique_ptr<Connection>> ConnectionPool::open() {
  try {
    auto connection = std::make_unique<Connection>();
    connection->link = pq::connect(conninfo_);  // has the connect_timeout
    connection->watch.emplace(watchdog_, connection->link->sock());
    connection->watch->allow(client_timeout_);
    pqxx::nontransaction tx(*connection->link);
    tx.exec(session_settings(options_));
    ++counters_.connects;
    return connection;
  } catch (...) {
    ++counters_.connect_failures;
    auto error = describe_failure("connect", nullptr);
    // Whatever the reason (password, missing database, start-up), it is not the caller's.
    error.code = ErrorCode::Unavailable;
    error.detail = "the database is not available";
    return error;
  }
}

void ConnectionPool::give_back(std::unique_ptr<Connection> connection, bool usable) noexcept {
  std::vector<std::unique_ptr<Connection>> dead;  // closed after unlocking
  if (usable) connection->watch->release();
  {
    const std::lock_guard lock(mutex_);
    if (usable) {
      try {
        idle_.push_back(std::move(connection));
      } catch (const std::bad_alloc&) {
        --open_;
      }
    } else {
      --open_;
      dead.push_back(std::move(connection));
      // What broke one connection has likely broken the others.
      open_ -= idle_.size();
      std::move(idle_.begin(), idle_.end(), std::back_inserter(dead));
      idle_.clear();
    }
  }
  usable ? freed_.notify_one() : freed_.notify_all();
}

DatabaseStats ConnectionPool::stats() const {
  DatabaseStats out;
  out.queries = counters_.queries;
  out.transactions = counters_.transactions;
  out.audit_batches = counters_.audit_batches;
  out.audit_events = counters_.audit_events;
  out.audit_conflicts = counters_.audit_conflicts;
  out.connects = counters_.connects;
  out.connect_failures = counters_.connect_failures;
  out.checkout_timeouts = counters_.checkout_timeouts;
  out.client_timeouts = watchdog_.ended();
  const std::lock_guard lock(mutex_);
  out.open = open_;
  out.busy = open_ - idle_.size();
  return out;
}

void Session::prepare(const Statement& statement) {
  if (connection_->prepared.contains(statement.name)) return;
  connection_->link->prepare(statement.name, statement.sql);
  connection_->prepared.insert(statement.name);
}

constexpr Statement kSetTenant{"tenant.set", "SELECT set_config('postern.tenant_id', $1, true)"};

TenantTransaction::TenantTransaction(Session& session, const TenantId& tenant, Mode mode)
    : session_(session), work_(session.link()) {
  ++session.counters().transactions;
  if (mode == Mode::Snapshot) {
    work_.exec("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY");
  }
  run(kSetTenant, tenant.str());
}

namespace {

Error describe_sqlstate(std::string_view state, std::string diagnostic, Session* session) {
  const auto is = [&](std::string_view prefix) { return state.substr(0, prefix.size()) == prefix; };
  const auto error = [&](ErrorCode code, std::string detail) {
    return fail(code, std::move(detail), std::move(diagnostic));
  };
  if (is("KEK01")) {  // migration 0009
    return error(ErrorCode::Conflict, "the tenant's key has just been rotated; try again");
  }
  if (is("SHR01")) {  // migration 0013
    return error(ErrorCode::Conflict, "the owner's key has just been destroyed; try again");
  }
  if (is("ERA01")) {  // migration 0014
    return error(ErrorCode::Conflict, "what the owner has is being erased");
  }
  if (is("23505")) return error(ErrorCode::Conflict, "it exists already");
  if (is("23503")) return error(ErrorCode::NotFound, "something this refers to does not exist");
  if (is("23514") || is("22001") || is("54")) {
    return error(ErrorCode::TooLarge, "a value is out of bounds");
  }
  if (is("22021")) return error(ErrorCode::MalformedRequest, "a text is not valid UTF-8");
  // Contention, time-outs, full disks, shut-down, fail-over: later may be better.
  if (is("40") || is("55P03") || is("57") || is("53") || is("08") || is("58") || is("25006") ||
      is("25P03")) {
    if (session != nullptr && (is("57P") || is("08") || is("25"))) session->discard();
    return error(ErrorCode::Unavailable, "the database is not available");
  }
  // A statement prepared before a migration; a new connection prepares it again.
  if (session != nullptr && (is("0A000") || is("26000"))) {
    session->discard();
    return error(ErrorCode::Unavailable, "the database is not available");
  }
  return error(ErrorCode::Internal, "the database refused a statement");
}

}  // namespace

Error describe_failure(std::string_view statement, Session* session) {
  const std::string name(statement);
  try {
    throw;
  } catch (const pq::NulInText&) {
    return fail(ErrorCode::MalformedRequest, "a text holds a NUL character", name + " nul");
  } catch (const pqxx::in_doubt_error&) {
    if (session != nullptr) session->discard();
    return unavailable(name + " in doubt");
  } catch (const pqxx::broken_connection&) {
    if (session != nullptr) session->discard();
    return unavailable(name + " connection lost");
  } catch (const std::exception& e) {
    if (session != nullptr && !session->link().is_open()) {
      session->discard();
      return unavailable(name + " connection lost");
    }
    if (const auto state = pq::sqlstate_of(e)) {
      return describe_sqlstate(*state, name + " " + *state, session);
    }
    // The type, not what(): see above. The connection's state is unknown.
    if (session != nullptr) session->discard();
    return fail(ErrorCode::Internal, "the database could not be used",
                name + " " + typeid(e).name());
  }
}

Bytes bytes(const pqxx::field& field) {
  const std::string_view hex(field.c_str(), field.size());
  const auto digit = [](char c) -> unsigned {
    if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
    throw std::logic_error("bytea is not in hex form");
  };
  if (hex.substr(0, 2) != "\\x" || hex.size() % 2 != 0) {
    throw std::logic_error("bytea is not in hex form");
  }
  Bytes out(hex.size() / 2 - 1);
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<std::byte>(digit(hex[2 * i + 2]) << 4 | digit(hex[2 * i + 3]));
  }
  return out;
}

Database::Database(DatabaseOptions options)
    : pool_(std::make_unique<ConnectionPool>(std::move(options))) {}
Database::~Database() = default;

constexpr Statement kPing{"ping", "SELECT 1"};

Status Database::ping() {
  return named(kPing.name, *pool_, [](Session& session) -> Status {
    pqxx::nontransaction tx(session.link());
    session.run(tx, kPing);
    return {};
  });
}

DatabaseStats Database::stats() const { return pool_->stats(); }
const DatabaseOptions& Database::options() const noexcept { return pool_->options(); }

}  // namespace postern::storage
