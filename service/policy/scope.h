#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace postern::policy {

/// Scope tokens (RFC 6749 §3.3), sorted and without repeats. Case-sensitive.
class ScopeSet {
 public:
  static constexpr std::size_t kMaxTokens = 64;

  ScopeSet() = default;
  explicit ScopeSet(std::vector<std::string> tokens);

  /// Reads a space-separated list. Errors: ScopeRefused when a token has a
  /// character outside %x21 / %x23-5B / %x5D-7E, or there are more than 64.
  static Result<ScopeSet> parse(std::string_view text);
  static bool is_token(std::string_view token) noexcept;

  bool contains(std::string_view token) const;
  bool empty() const noexcept { return tokens_.empty(); }
  std::size_t size() const noexcept { return tokens_.size(); }
  auto begin() const { return tokens_.begin(); }
  auto end() const { return tokens_.end(); }
  std::string str() const;  ///< space-separated

  ScopeSet intersect(const ScopeSet& other) const;
  bool subset_of(const ScopeSet& other) const;
  bool operator==(const ScopeSet&) const = default;

 private:
  std::vector<std::string> tokens_;
};

}  // namespace postern::policy
