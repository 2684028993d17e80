#include "core/wiping_memory.h"

#include <dlfcn.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>

#include "core/secret.h"

// Whether a sanitizer watches the heap, with an allocator of its own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define POSTERN_HEAP_IS_WATCHED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define POSTERN_HEAP_IS_WATCHED
#endif
#endif

namespace {

constinit thread_local int g_scopes = 0;  // of WipingScope, on this thread

}  // namespace

#ifdef POSTERN_HEAP_IS_WATCHED

namespace {

void give_back(void* memory) noexcept { std::free(memory); }

}  // namespace

#else

namespace {

/// The allocator's own function: the C library's, unless another was put before it
/// (LD_PRELOAD). The first call is before main().
template <class Function>
Function* behind(std::atomic<Function*>& known, const char* name) noexcept {
  auto* found = known.load(std::memory_order_relaxed);
  if (found != nullptr) return found;
  found = reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
  if (found == nullptr) std::abort();
  known.store(found, std::memory_order_relaxed);
  return found;
}

constinit std::atomic<void (*)(void*)> g_free{nullptr};
constinit std::atomic<void* (*)(void*, std::size_t)> g_realloc{nullptr};

void give_back(void* memory) noexcept { behind(g_free, "free")(memory); }

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

// Before the C library's, for all that is in this process. These two are how memory goes back
// to it; its own reallocarray() calls the second.
extern "C" void free(void* memory) noexcept {
  if (g_scopes > 0) {
    postern::free_wiped(memory);
  } else {
    give_back(memory);
  }
}
extern "C" void* realloc(void* memory, std::size_t size) noexcept {
  return g_scopes > 0 ? postern::resize_wiped(memory, size)
                      : behind(g_realloc, "realloc")(memory, size);
}

#endif

namespace postern {

WipingScope::WipingScope() noexcept { ++g_scopes; }
WipingScope::~WipingScope() { --g_scopes; }

void free_wiped(void* memory) noexcept {
  if (memory == nullptr) return;
  wipe({static_cast<std::byte*>(memory), ::malloc_usable_size(memory)});
  give_back(memory);
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
