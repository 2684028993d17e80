#pragma once

// Inside of service/storage: labels and metadata as their columns have them, JSON objects
// of texts.

#include <string>
#include <string_view>

#include "core/json_text.h"
#include "core/result.h"
#include "token/json.h"
#include "vault/credential.h"

namespace postern::storage {

inline std::string json_of(const vault::Texts& texts) {
  JsonObjectText json;
  for (const auto& [name, text] : texts) json.string(name, text);
  return json.str();
}

/// As json_of() wrote it, or PostgreSQL in its own spelling. Errors: Internal.
inline Result<vault::Texts> parse_texts(std::string_view stored) {
  const auto refused = [] { return fail(ErrorCode::Internal, "", "a column of texts has others"); };
  const auto json = token::parse_json(stored);
  if (!json.ok() || !json.value().is_object()) return refused();
  vault::Texts texts;
  for (const auto& [name, text] : json.value().items()) {
    if (!text.is_string()) return refused();
    texts.emplace(name, text.get<std::string>());
  }
  return texts;
}

}  // namespace postern::storage
