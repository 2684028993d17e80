#pragma once

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace postern {

/// What went wrong, in terms a caller can act on. Protocol names and HTTP
/// status are chosen later, in http/error_render.cc.
enum class ErrorCode {
  MalformedRequest,             ///< syntax, missing or repeated parameter, value out of bounds
  InvalidToken,                 ///< subject_token or actor_token failed verification
  InvalidGrant,                 ///< assertion of the jwt-bearer grant failed verification
  InvalidClient,                ///< the OAuth client could not be authenticated
  InvalidDpopProof,             ///< RFC 9449: the proof is missing, malformed or for something else
  UseDpopNonce,                 ///< RFC 9449 §8: the proof lacks our current nonce
  InvalidAuthorizationDetails,  ///< RFC 9396 §5: unknown type or member, or more than permitted
  InsufficientAuthentication,   ///< RFC 9470: the user must authenticate anew or more strongly
  UnauthorizedClient,           ///< this client may not use this grant
  UnsupportedGrant,             ///< no such grant_type
  TargetRefused,                ///< unknown, ambiguous or forbidden audience or resource
  ScopeRefused,                 ///< more than may be granted
  InteractionRequired,          ///< the user must act first, for example connect an account
  Unauthenticated,              ///< REST API: no or wrong bearer token
  Forbidden,                    ///< REST API: authenticated, but not allowed
  NotFound,                     ///< absent, or another tenant's: the two look alike
  Conflict,                     ///< exists already, or changed meanwhile
  PreconditionFailed,           ///< If-Match did not match
  TooLarge,                     ///< a bound on size or count was passed
  RateLimited,                  ///< too many attempts; see retry_after
  NeedsDatabase,                ///< answer needs the database: run again on the database pool
  NeedsOutbound,                ///< answer needs an outside call: run again on the outbound pool
  Unavailable,                  ///< a dependency failed; retrying later may help
  KeyUnavailable,  ///< one tenant's: the root key that its keys are under is not in this process
  TenantSealed,    ///< its key demands a share of its key holder, which is not in this process
  Internal,        ///< a bug or corrupted data
};

/// The enumerator's name, for logs and audit records.
std::string_view to_string(ErrorCode code) noexcept;

/// What the user can do about a refusal; sent with it, so ours or the tenant's words only.
struct Remedy {
  std::string connect_url;  ///< InteractionRequired: where a credential is stored
  std::string acr_values;   ///< RFC 9470 §3, space-separated
  std::optional<std::chrono::seconds> max_age;  ///< RFC 9470 §3
};

/// `detail` may reach the client: our own words, no request values, ASCII
/// without quote or backslash (RFC 6749 §5.2). `diagnostic` only reaches logs,
/// and holds names and codes, never values.
struct Error {
  ErrorCode code = ErrorCode::Internal;
  std::string detail;
  std::string diagnostic = {};
  std::optional<std::chrono::seconds> retry_after = {};
  /// JSON pointer into the request body the error is about ("" when none).
  /// Made of our field names and array indexes, never of values.
  std::string pointer = {};
  Remedy remedy = {};
};

inline Error fail(ErrorCode code, std::string detail, std::string diagnostic = {}) {
  return Error{code, std::move(detail), std::move(diagnostic), std::nullopt, {}, {}};
}

/// A `T` or an `Error`. Reading the wrong one is a bug and throws logic_error.
template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  // Implicit on purpose: `return value;` and `return fail(...);` both read well.
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

}  // namespace postern

#define POSTERN_CONCAT_INNER(a, b) a##b
#define POSTERN_CONCAT(a, b) POSTERN_CONCAT_INNER(a, b)

/// POSTERN_TRY(const auto x, f()): binds the value of a Result or returns its Error.
#define POSTERN_TRY(declaration, ...) \
  POSTERN_TRY_INNER(POSTERN_CONCAT(postern_try_, __COUNTER__), declaration, __VA_ARGS__)
#define POSTERN_TRY_INNER(name, declaration, ...) \
  auto name = (__VA_ARGS__);                      \
  if (!name.ok()) return std::move(name).error(); \
  declaration = std::move(name).value()

/// POSTERN_CHECK(g()): returns the Error of a Status or Result, if it has one.
#define POSTERN_CHECK(...) \
  POSTERN_CHECK_INNER(POSTERN_CONCAT(postern_check_, __COUNTER__), __VA_ARGS__)
#define POSTERN_CHECK_INNER(name, ...)                                         \
  do {                                                                         \
    if (auto name = (__VA_ARGS__); !name.ok()) return std::move(name).error(); \
  } while (false)
