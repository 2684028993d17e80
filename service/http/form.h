#pragma once

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "core/secret.h"

namespace postern::http {

/// A decoded `application/x-www-form-urlencoded` body (RFC 6749 appendix B).
///
/// Duplicates are kept, because RFC 6749 §3.2 wants them refused and RFC 8693
/// §2.1 allows some. A parameter with an empty value counts as absent, but in
/// the REST API's query, where it is more likely a variable that was not set.
/// Names and values live in one locked buffer and are wiped with the form; the views
/// handed out are valid as long as the form is.
class Form {
 public:
  static constexpr std::size_t kMaxBytes = 64 * 1024;
  static constexpr std::size_t kMaxParameters = 64;

  /// Errors: TooLarge beyond kMaxBytes; MalformedRequest for more than
  /// kMaxParameters, a bad %XX, NUL, raw control characters, or bytes that are
  /// not UTF-8 once decoded.
  enum class Source { Body, Query };
  static Result<Form> parse(std::string_view text, Source source = Source::Body);

  /// Errors: MalformedRequest when absent or repeated.
  Result<std::string_view> required_single(std::string_view name) const;
  /// Errors: MalformedRequest when repeated.
  Result<std::optional<std::string_view>> optional_single(std::string_view name) const;
  std::vector<std::string_view> all(std::string_view name) const;

  /// Errors: MalformedRequest when there is a parameter that is not among these
  /// (the REST API refuses what it does not know; OAuth ignores it).
  Status only(std::initializer_list<std::string_view> known) const;

  /// Errors: MalformedRequest when any parameter but these is sent twice,
  /// whether or not we know it.
  Status refuse_repeats_except(std::initializer_list<std::string_view> repeatable) const;

 private:
  Form() = default;

  SecureBuffer storage_;
  std::vector<std::pair<std::string_view, std::string_view>> parameters_;  // into storage_
};

}  // namespace postern::http
