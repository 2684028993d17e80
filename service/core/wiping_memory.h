#pragma once

#include <cstddef>

/// Memory that is overwritten as it is freed. A program that links this has an
/// operator delete that does so; the functions below are for libraries that take
/// an allocator, and a scope is for those that take none. Where a sanitizer watches
/// the heap there is neither such an operator nor what a scope does.
namespace postern {

/// While one lives, all that this thread frees is overwritten, whoever allocated it:
/// around what hands a secret to libpq, which frees as it likes. Scopes may nest. What a
/// library keeps beyond the scope is not reached: close it within.
class WipingScope {
 public:
  WipingScope() noexcept;
  ~WipingScope();
  WipingScope(const WipingScope&) = delete;
  WipingScope& operator=(const WipingScope&) = delete;
};

/// As free(), after overwriting all that was allocated.
void free_wiped(void* memory) noexcept;
/// As realloc(), and what is left behind is overwritten.
void* resize_wiped(void* memory, std::size_t size) noexcept;

}  // namespace postern
