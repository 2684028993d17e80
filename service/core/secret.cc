#include "core/secret.h"

#include <sodium.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include "core/wipe_stack.h"

namespace postern {
namespace {

std::atomic<bool> g_all_locked{true};

void ensure_sodium() {
  static const int initialised = sodium_init();
  if (initialised < 0) throw std::bad_alloc();
}

// One region is kRegionBytes of slots of one size class. Regions are never
// returned: the high-water mark of secrets in flight is small and bounded by
// the number of requests in flight.
constexpr std::size_t kRegionBytes = 64 * 1024;
constexpr std::size_t kMinSlot = 64;
constexpr std::size_t kMaxSlot = 16 * 1024;

constexpr std::size_t slot_class(std::size_t size) {
  const std::size_t rounded = std::bit_ceil(size < kMinSlot ? kMinSlot : size);
  return static_cast<std::size_t>(std::countr_zero(rounded)) -
         static_cast<std::size_t>(std::countr_zero(kMinSlot));
}
constexpr std::size_t kClasses = slot_class(kMaxSlot) + 1;

void* locked_region(std::size_t size) {
  ensure_sodium();
  void* region = sodium_malloc(size);
  if (region == nullptr) throw std::bad_alloc();
  // sodium_malloc ignores a failed mlock, so ask again where the answer shows.
  if (mlock(region, size) != 0) g_all_locked.store(false, std::memory_order_relaxed);
  return region;
}

class Arena {
 public:
  std::byte* take(std::size_t size) {
    auto& slots = classes_[slot_class(size)];
    const std::lock_guard lock(slots.mutex);
    if (slots.free.empty()) grow(slots, std::bit_ceil(size < kMinSlot ? kMinSlot : size));
    auto* slot = slots.free.back();
    slots.free.pop_back();
    return slot;
  }

  void give(std::byte* slot, std::size_t size) noexcept {
    auto& slots = classes_[slot_class(size)];
    const std::lock_guard lock(slots.mutex);
    slots.free.push_back(slot);  // capacity was reserved when the region was cut
  }

 private:
  struct SizeClass {
    std::mutex mutex;
    std::vector<std::byte*> free;
    std::size_t total = 0;
  };

  static void grow(SizeClass& slots, std::size_t slot_size) {
    const std::size_t count = kRegionBytes / slot_size;
    slots.free.reserve(slots.total + count);
    auto* region = static_cast<std::byte*>(locked_region(kRegionBytes));
    slots.total += count;
    for (std::size_t i = count; i-- > 0;) slots.free.push_back(region + i * slot_size);
  }

  std::array<SizeClass, kClasses> classes_;
};

Arena& arena() {
  // Never destroyed: secrets in static objects may outlive any order of destruction.
  static auto* const instance = ::new Arena;
  return *instance;
}

}  // namespace

SecureBuffer::SecureBuffer(std::size_t size) : size_(size) {
  if (size == 0) return;
  data_ = size <= kMaxSlot ? arena().take(size) : static_cast<std::byte*>(locked_region(size));
  std::memset(data_, 0, size);
}

SecureBuffer::~SecureBuffer() {
  if (data_ == nullptr) return;
  if (size_ <= kMaxSlot) {
    sodium_memzero(data_, size_);
    arena().give(data_, size_);
  } else {
    sodium_free(data_);  // wipes first
  }
}

SecureBuffer SecureBuffer::copy_of(ByteView bytes) {
  SecureBuffer copy(bytes.size());
  if (!bytes.empty()) std::memcpy(copy.data_, bytes.data(), bytes.size());
  return copy;
}

SecureBuffer SecureBuffer::take(std::string&& text) {
  SecureBuffer copy = copy_of(as_bytes(text));
  wipe(text);
  return copy;
}

void wipe(std::span<std::byte> bytes) noexcept {
  if (!bytes.empty()) sodium_memzero(bytes.data(), bytes.size());
}

void wipe(std::string& text) noexcept {
  // A short string lives inside the object, so wipe the whole capacity.
  text.resize(text.capacity());
  sodium_memzero(text.data(), text.size());
  text.clear();
}

void wipe_stack() noexcept { sodium_stackzero(32 * 1024); }

bool secure_memory_locked() noexcept { return g_all_locked.load(std::memory_order_relaxed); }

}  // namespace postern
