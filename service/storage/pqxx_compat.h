#pragma once

// Where libpqxx 6.4 (Debian 12) and 7.x (Debian 13, Ubuntu 24.04) differ. The
// only header of this project that includes libpqxx; included by .cc files and
// by session.h, never by what other folders see.

#include <concepts>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <string_view>
#include <utility>

#include "core/bytes.h"

namespace postern::storage::pq {

/// A text with a NUL in it. libpq would cut it there without a word, and so
/// make one subject's key of another's.
class NulInText : public std::exception {};

// Parameters. Bytes travel in binary and so are never quoted in an error text.
inline std::string param(std::string_view text) {
  if (text.find('\0') != std::string_view::npos) throw NulInText();
  return std::string(text);
}
inline std::string param(const std::string& text) { return param(std::string_view(text)); }
inline std::string param(const char* text) { return text; }
template <std::integral T>
T param(T number) {
  return number;
}
inline auto param(ByteView bytes) {
  // Without a pointer it would be NULL, not empty.
  const void* data = bytes.empty() ? static_cast<const void*>("") : bytes.data();
#if PQXX_VERSION_MAJOR >= 7
  return pqxx::binary_cast(static_cast<const char*>(data), bytes.size());
#else
  return pqxx::binarystring(data, bytes.size());
#endif
}

/// Runs a statement prepared on this connection.
template <class... Args>
pqxx::result exec_prepared(pqxx::transaction_base& tx, const char* name, const Args&... args) {
#if PQXX_VERSION_MAJOR > 7 || (PQXX_VERSION_MAJOR == 7 && PQXX_VERSION_MINOR >= 10)
  return tx.exec(pqxx::prepped{name}, pqxx::params{param(args)...});
#else
  return tx.exec_prepared(name, param(args)...);
#endif
}

/// The SQLSTATE of what the server refused; nothing for any other exception.
/// libpqxx leaves it out of some of its classes, and which ones are sql_error
/// differs between releases.
inline std::optional<std::string> sqlstate_of(const std::exception& e) {
  if (dynamic_cast<const pqxx::insufficient_privilege*>(&e) != nullptr) return "42501";
  if (dynamic_cast<const pqxx::serialization_failure*>(&e) != nullptr) return "40001";
  if (dynamic_cast<const pqxx::deadlock_detected*>(&e) != nullptr) return "40P01";
  if (dynamic_cast<const pqxx::statement_completion_unknown*>(&e) != nullptr) return "40003";
  if (dynamic_cast<const pqxx::transaction_rollback*>(&e) != nullptr) return "40000";
  if (const auto* sql = dynamic_cast<const pqxx::sql_error*>(&e)) return sql->sqlstate();
  return std::nullopt;
}

// Below are functions that one of the releases calls deprecated.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/// Opens a connection that fails when it breaks. libpqxx 6 would otherwise
/// reconnect silently, losing session settings and prepared statements.
inline std::unique_ptr<pqxx::connection> connect(const std::string& conninfo) {
  auto connection = std::make_unique<pqxx::connection>(conninfo);
#if PQXX_VERSION_MAJOR < 7
  connection->inhibit_reactivation(true);
#endif
  return connection;
}

/// Calls `receive` with the payload of each notification on the channel.
class Listener final : public pqxx::notification_receiver {
 public:
  Listener(pqxx::connection& connection, const std::string& channel,
           std::function<void(const std::string&)> receive)
      : pqxx::notification_receiver(connection, channel), receive_(std::move(receive)) {}

  void operator()(const std::string& payload, int) override { receive_(payload); }

 private:
  std::function<void(const std::string&)> receive_;
};

#pragma GCC diagnostic pop

}  // namespace postern::storage::pq
