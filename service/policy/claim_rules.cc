#include "policy/claim_rules.h"

#include <algorithm>

namespace postern::policy {

using token::Json;

std::string unescaped_step(std::string_view step) {
  std::string out;
  for (std::size_t i = 0; i < step.size(); ++i) {
    const bool escape = step[i] == '~' && i + 1 < step.size();
    if (escape && (step[i + 1] == '0' || step[i + 1] == '1')) {
      out += step[++i] == '0' ? '~' : '/';
    } else {
      out += step[i];
    }
  }
  return out;
}

const Json* claim_at(const Json& claims, std::string_view name) {
  if (name.empty() || !claims.is_object()) return nullptr;
  if (name.front() != '/') {
    const auto it = claims.find(std::string(name));
    return it != claims.end() ? &*it : nullptr;
  }
  const Json* node = &claims;
  std::size_t begin = 1;
  while (begin <= name.size()) {
    const auto end = std::min(name.find('/', begin), name.size());
    if (!node->is_object()) return nullptr;
    const auto it = node->find(unescaped_step(name.substr(begin, end - begin)));
    if (it == node->end()) return nullptr;
    node = &*it;
    begin = end + 1;
  }
  return node;
}

std::optional<std::vector<std::string>> claim_texts(const Json& value, std::size_t max_items) {
  std::vector<std::string> out;
  const auto add = [&](const Json& item) {
    if (!item.is_string()) return false;
    const auto& text = item.get_ref<const std::string&>();
    if (text.empty() || text.size() > 512) return false;
    out.push_back(text);
    return true;
  };
  if (value.is_string()) {
    if (!add(value)) return std::nullopt;
    return out;
  }
  if (!value.is_array() || value.size() > max_items) return std::nullopt;
  for (const auto& item : value) {
    if (!add(item)) return std::nullopt;
  }
  return out;
}

bool satisfies(const Json& claims, const ClaimRules& rules) {
  return std::all_of(rules.begin(), rules.end(), [&](const auto& rule) {
    const auto* claim = claim_at(claims, rule.first);
    if (claim == nullptr) return false;
    const auto allowed = [&](const Json& value) {
      return value.is_string() &&
             std::find(rule.second.begin(), rule.second.end(),
                       value.template get_ref<const std::string&>()) != rule.second.end();
    };
    return claim->is_array() ? std::any_of(claim->begin(), claim->end(), allowed) : allowed(*claim);
  });
}

}  // namespace postern::policy
