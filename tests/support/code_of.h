#pragma once

#include <optional>
#include <ostream>

#include "core/result.h"

namespace postern::test {

/// The error code of a Result or Status, nothing on success: makes both sides
/// of `EXPECT_EQ(code_of(x), ErrorCode::NotFound)` printable.
template <class R>
std::optional<ErrorCode> code_of(const R& result) {
  if (result.ok()) return std::nullopt;
  return result.error().code;
}

}  // namespace postern::test

namespace postern {
inline void PrintTo(ErrorCode code, std::ostream* out) { *out << to_string(code); }
}  // namespace postern
