#pragma once

#include <cstddef>
#include <cstdint>

#include "core/bytes.h"

namespace postern {

/// Takes from the front of bytes; once something is missing, ok() stays false and
/// nothing more is found. Numbers are 32 bits, big-endian.
class ByteReader {
 public:
  explicit ByteReader(ByteView bytes) : rest_(bytes) {}
  ByteView take(std::size_t size) {
    if (size > rest_.size()) {
      ok_ = false;
      return {};
    }
    const auto taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  std::uint32_t number() {
    std::uint32_t value = 0;
    for (const auto byte : take(4)) value = value << 8 | std::to_integer<std::uint32_t>(byte);
    return value;
  }
  ByteView part() { return take(number()); }  ///< with its length before it
  bool ok() const noexcept { return ok_; }
  bool at_end() const noexcept { return ok_ && rest_.empty(); }

 private:
  ByteView rest_;
  bool ok_ = true;
};

}  // namespace postern
