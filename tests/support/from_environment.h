#pragma once

#include <cstdint>
#include <cstdlib>

namespace postern::test {

/// A number that a run may be given: how much of something random, or its seed.
inline std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

}  // namespace postern::test
