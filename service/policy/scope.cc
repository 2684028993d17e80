#include "policy/scope.h"

#include <algorithm>
#include <iterator>

namespace postern::policy {

ScopeSet::ScopeSet(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end());
  tokens_.erase(std::unique(tokens_.begin(), tokens_.end()), tokens_.end());
}

bool ScopeSet::is_token(std::string_view token) noexcept {
  return !token.empty() && token.size() <= 200 &&
         std::all_of(token.begin(), token.end(),
                     [](char c) { return c > 0x20 && c < 0x7f && c != '"' && c != '\\'; });
}

Result<ScopeSet> ScopeSet::parse(std::string_view text) {
  std::vector<std::string> tokens;
  while (!text.empty()) {
    const auto end = std::min(text.find(' '), text.size());
    if (end > 0) {
      const auto token = text.substr(0, end);
      if (!is_token(token)) return fail(ErrorCode::ScopeRefused, "scope is malformed");
      if (tokens.size() == kMaxTokens) {
        return fail(ErrorCode::ScopeRefused, "more than 64 scope tokens");
      }
      tokens.emplace_back(token);
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return ScopeSet(std::move(tokens));
}

bool ScopeSet::contains(std::string_view token) const {
  return std::binary_search(tokens_.begin(), tokens_.end(), token);
}

std::string ScopeSet::str() const {
  std::string text;
  for (const auto& token : tokens_) {
    if (!text.empty()) text += ' ';
    text += token;
  }
  return text;
}

ScopeSet ScopeSet::intersect(const ScopeSet& other) const {
  ScopeSet both;
  std::set_intersection(tokens_.begin(), tokens_.end(), other.tokens_.begin(), other.tokens_.end(),
                        std::back_inserter(both.tokens_));
  return both;
}

bool ScopeSet::subset_of(const ScopeSet& other) const {
  return std::includes(other.tokens_.begin(), other.tokens_.end(), tokens_.begin(), tokens_.end());
}

}  // namespace postern::policy
