#include "core/wiping_memory.h"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>

#include "core/secret.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

namespace {

void* allocate(std::size_t size, std::size_t alignment) {
  for (;;) {
    // aligned_alloc wants a multiple of the alignment.
    void* const memory =
        alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__
            ? std::malloc(std::max<std::size_t>(size, 1))
            : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (memory != nullptr) return memory;
    const auto handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
  }
}

}  // namespace

// The other forms of new and delete come to these.
void* operator new(std::size_t size) { return allocate(size, 1); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { postern::free_wiped(memory); }
void operator delete(void* memory, std::size_t) noexcept { postern::free_wiped(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { postern::free_wiped(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  postern::free_wiped(memory);
}

#endif

namespace postern {

void free_wiped(void* memory) noexcept {
  if (memory == nullptr) return;
  wipe({static_cast<std::byte*>(memory), ::malloc_usable_size(memory)});
  std::free(memory);
}

void* resize_wiped(void* memory, std::size_t size) noexcept {
  if (memory == nullptr) return std::malloc(size);
  if (size == 0) {
    free_wiped(memory);
    return nullptr;
  }
  const auto usable = ::malloc_usable_size(memory);
  if (size <= usable && size > usable / 2) return memory;
  void* const moved = std::malloc(size);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, memory, std::min(size, usable));
  free_wiped(memory);
  return moved;
}

}  // namespace postern
