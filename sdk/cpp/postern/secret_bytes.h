#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "core/secret.h"

namespace postern::sdk {

/// Wipes memory before giving it back, so that a growing buffer leaves no
/// older, shorter copy of itself behind.
template <class T>
struct WipingAllocator {
  using value_type = T;
  WipingAllocator() noexcept = default;
  template <class U>
  WipingAllocator(const WipingAllocator<U>&) noexcept {}

  T* allocate(std::size_t count) { return std::allocator<T>().allocate(count); }
  void deallocate(T* memory, std::size_t count) noexcept {
    wipe(std::span(reinterpret_cast<std::byte*>(memory), count * sizeof(T)));
    std::allocator<T>().deallocate(memory, count);
  }
  bool operator==(const WipingAllocator&) const noexcept = default;
};

/// Request and reply bodies, which may carry tokens and credentials. A vector
/// and not a string: a short string lives inside its object, out of the
/// allocator's sight.
using SecretBytes = std::vector<char, WipingAllocator<char>>;

inline std::string_view view(const SecretBytes& bytes) noexcept {
  return {bytes.data(), bytes.size()};
}
inline void append(SecretBytes& bytes, std::string_view text) {
  bytes.insert(bytes.end(), text.begin(), text.end());
}

}  // namespace postern::sdk
