#pragma once

#include <cstddef>

/// Memory that is overwritten as it is freed. A program that links this has an
/// operator delete that does so; the functions below are for libraries that take
/// an allocator. Where a sanitizer watches the heap there is no such operator.
namespace postern {

/// As free(), after overwriting all that was allocated.
void free_wiped(void* memory) noexcept;
/// As realloc(), and what is left behind is overwritten.
void* resize_wiped(void* memory, std::size_t size) noexcept;

}  // namespace postern
