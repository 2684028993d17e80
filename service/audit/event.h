#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/ids.h"

namespace postern::audit {

enum class Outcome { Allowed, Refused, Failed };
std::string_view to_string(Outcome outcome) noexcept;  ///< "allowed", "refused", "failed"

/// One thing that was decided or done, in one tenant. Data, not logging: it is
/// committed before the answer leaves (design invariant: no audit, no answer).
///
/// Fields hold names, ids, scopes and codes. Never a token, a secret or a part
/// of one; a token is named by its `jti` or by a hash of it.
struct Event {
  TenantId tenant;
  sys_seconds at;
  std::string action;  ///< "token.exchange", "credential.release", "config.apply", …
  Outcome outcome = Outcome::Allowed;
  std::string request_id;
  std::vector<std::pair<std::string, std::string>>
      fields;  ///< each name once; empty values are left out

  Event& with(std::string_view name, std::string_view value) {
    if (!value.empty()) fields.emplace_back(name, value);
    return *this;
  }
};

/// The canonical bytes of an event: one JSON object, members sorted by name,
/// no white space, control characters and non-ASCII escaped as \u00XX / \uXXXX,
/// invalid UTF-8 replaced by U+FFFD. Members: action, at (RFC 3339), outcome,
/// request_id, and `fields` as an object. The hash chain is over these bytes,
/// stored and served as they are.
std::string canonical(const Event& event);

}  // namespace postern::audit
