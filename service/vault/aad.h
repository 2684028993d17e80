#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string_view>

#include "core/bytes.h"
#include "core/ids.h"

namespace postern::vault {

/// Builds the associated data that binds a box to its one row: each part with
/// its length as 4 bytes big-endian before it, the format label first, so that
/// no two different rows, and no two kinds of box, have the same bytes.
///
/// Two of them are built for each release, so this is inline, and takes memory from
/// the heap only for what is longer than any usual row's.
class Aad {
 public:
  explicit Aad(std::string_view label) { text(label); }  // NOLINT(*-member-init)

  Aad& text(std::string_view part) {
    if (part.size() > std::numeric_limits<std::uint32_t>::max()) {
      throw std::logic_error("associated data part too long");
    }
    auto* const at = more(4 + part.size());
    put(at, static_cast<std::uint32_t>(part.size()));
    if (!part.empty()) std::memcpy(at + 4, part.data(), part.size());
    return *this;
  }
  Aad& number(std::uint64_t value) {  ///< 8 bytes big-endian
    auto* const at = more(4 + 8);
    put(at, std::uint32_t{8});
    put(at + 4, value);
    return *this;
  }
  Aad& tenant(const TenantId& tenant) { return text(tenant.str()); }
  Aad& owner(const Owner& owner) {
    return text(owner.principal().issuer).text(owner.principal().subject);
  }
  /// Goes on with the parts of another one, not this, whose label is empty: what several have
  /// in common.
  Aad& parts_of(const Aad& common) {
    const auto all = common.bytes();
    if (std::any_of(all.begin(), all.begin() + 4, [](auto byte) { return byte != std::byte{}; })) {
      throw std::logic_error("associated data in associated data");
    }
    if (all.size() > 4) std::memcpy(more(all.size() - 4), all.data() + 4, all.size() - 4);
    return *this;
  }
  ByteView bytes() const noexcept {
    return long_.empty() ? ByteView(short_.data(), size_) : ByteView(long_);
  }

 private:
  /// Big-endian.
  static void put(std::byte* at, std::uint32_t value) {
    if constexpr (std::endian::native == std::endian::little) value = __builtin_bswap32(value);
    std::memcpy(at, &value, sizeof value);
  }
  static void put(std::byte* at, std::uint64_t value) {
    if constexpr (std::endian::native == std::endian::little) value = __builtin_bswap64(value);
    std::memcpy(at, &value, sizeof value);
  }
  /// Where the next so many bytes are to be written.
  std::byte* more(std::size_t size) {
    if (long_.empty() && size <= short_.size() - size_) {
      auto* const at = short_.data() + size_;
      size_ += size;
      return at;
    }
    return more_of_long(size);
  }
  [[gnu::noinline]] std::byte* more_of_long(std::size_t size) {
    if (long_.empty()) long_.assign(short_.data(), short_.data() + size_);
    long_.resize(long_.size() + size);
    return long_.data() + long_.size() - size;
  }

  std::array<std::byte, 512> short_;  ///< only its first size_ bytes are ever read
  std::size_t size_ = 0;
  Bytes long_;  ///< all of it, once it is longer
};

}  // namespace postern::vault
