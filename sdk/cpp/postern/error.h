#pragma once

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

#include "core/result.h"  // POSTERN_TRY and POSTERN_CHECK work with these types too

namespace postern::sdk {

enum class ErrorKind {
  Usage,         ///< the caller's mistake, found before anything was sent
  Unreachable,   ///< no answer: connection, TLS or time-out
  BrokenAnswer,  ///< an answer that is not Postern's: no JSON, too large, a redirect
  Refused,       ///< the server answered, and said no
};

/// What went wrong, in words for a person. `detail` never holds a secret of
/// ours; it may hold the server's words, so clean it before a terminal sees it.
struct Error {
  ErrorKind kind = ErrorKind::BrokenAnswer;
  std::string detail;
  int status = 0;                ///< HTTP status; 0 when there was no answer
  std::string code = {};         ///< OAuth `error`, or the last part of a problem's `type`
  std::string title = {};        ///< a problem's `title`
  std::string pointer = {};      ///< JSON pointer into the request body
  std::string request_id = {};   ///< for the operator's logs
  std::string connect_url = {};  ///< where the user can repair it
  std::optional<std::chrono::seconds> retry_after = {};
};

inline Error fail(ErrorKind kind, std::string detail) {
  Error error;
  error.kind = kind;
  error.detail = std::move(detail);
  return error;
}

/// Whether the same call may succeed later without any change.
inline bool is_temporary(const Error& error) noexcept {
  return error.kind == ErrorKind::Unreachable || error.status == 429 ||
         (error.status >= 502 && error.status <= 504);
}

/// A `T` or an `Error`. Reading the wrong one is a bug and throws logic_error.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }

  const T& value() const& { return get_value(*this); }
  T& value() & { return get_value(*this); }
  T&& value() && { return std::move(get_value(*this)); }

  const Error& error() const& { return get_error(*this); }
  Error&& error() && { return std::move(get_error(*this)); }

 private:
  template <class Self>
  static auto& get_value(Self& self) {
    if (auto* value = std::get_if<0>(&self.state_)) return *value;
    throw std::logic_error("Result::value() on an error");
  }
  template <class Self>
  static auto& get_error(Self& self) {
    if (auto* error = std::get_if<1>(&self.state_)) return *error;
    throw std::logic_error("Result::error() on a value");
  }

  std::variant<T, Error> state_;
};

/// A Result without a value.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : error_(std::move(error)) {}

  bool ok() const noexcept { return !error_.has_value(); }
  explicit operator bool() const noexcept { return ok(); }

  const Error& error() const& {
    if (!error_) throw std::logic_error("Status::error() on success");
    return *error_;
  }
  Error&& error() && {
    if (!error_) throw std::logic_error("Status::error() on success");
    return std::move(*error_);
  }

 private:
  std::optional<Error> error_;
};

}  // namespace postern::sdk
