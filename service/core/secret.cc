#include "core/secret.h"

#include <sodium.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include "core/locked_memory.h"
#include "core/wipe_stack.h"

namespace postern {
namespace {

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

/// Regions that could not be locked. Thread-safe.
class Unlocked {
 public:
  void add(void* region, std::size_t size) {
    const std::lock_guard lock(mutex_);
    regions_.push_back({region, size});
    count_ = regions_.size();
  }
  /// Before the region is freed.
  void remove(void* region) noexcept {
    if (count_ == 0) return;
    const std::lock_guard lock(mutex_);
    std::erase_if(regions_, [&](const Region& each) { return each.begin == region; });
    count_ = regions_.size();
  }
  void try_again() noexcept {
    if (count_ == 0) return;
    const std::lock_guard lock(mutex_);
    std::erase_if(regions_, [](const Region& each) { return mlock(each.begin, each.size) == 0; });
    count_ = regions_.size();
  }
  bool empty() const noexcept { return count_ == 0; }

 private:
  struct Region {
    void* begin;
    std::size_t size;
  };
  std::mutex mutex_;
  std::vector<Region> regions_;
  std::atomic<std::size_t> count_{0};
};

Unlocked& unlocked() {
  static auto* const instance = ::new Unlocked;  // never destroyed, as the arena
  return *instance;
}

void* locked_region(std::size_t size) {
  ensure_sodium();
  void* region = sodium_malloc(size);
  if (region == nullptr) throw std::bad_alloc();
  // sodium_malloc ignores a failed mlock, so ask again where the answer shows.
  if (mlock(region, size) != 0) unlocked().add(region, size);
  return region;
}

void free_region(void* region) noexcept {
  unlocked().remove(region);
  sodium_free(region);  // wipes first
}

/// Slots are all zero while nobody has them.
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
    std::memset(region, 0, kRegionBytes);
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

/// A few small slots that this thread gave back, so that the next request on it takes
/// them without a lock. Never destroyed, so that a secret may outlive it; Returner
/// empties it when the thread ends, and closes it.
struct Kept {
  static constexpr std::size_t kSlots = 8;
  static constexpr std::size_t kLargest = 256;

  struct SizeClass {
    std::array<std::byte*, kSlots> slots;
    std::size_t count;
  };
  std::array<SizeClass, slot_class(kLargest) + 1> classes;
  bool closed;
};
thread_local Kept g_kept{};

struct Returner {
  ~Returner() {
    g_kept.closed = true;
    for (std::size_t i = 0; i < g_kept.classes.size(); ++i) {
      auto& kept = g_kept.classes[i];
      while (kept.count > 0) arena().give(kept.slots[--kept.count], kMinSlot << i);
    }
  }
};

std::byte* take_slot(std::size_t size) {
  if (size <= Kept::kLargest) {
    auto& kept = g_kept.classes[slot_class(size)];
    if (kept.count > 0) return kept.slots[--kept.count];
  }
  return arena().take(size);
}

void give_slot(std::byte* slot, std::size_t size) noexcept {
  if (size <= Kept::kLargest && !g_kept.closed) {
    thread_local const Returner returner;
    auto& kept = g_kept.classes[slot_class(size)];
    if (kept.count < Kept::kSlots) {
      kept.slots[kept.count++] = slot;
      return;
    }
  }
  arena().give(slot, size);
}

}  // namespace

SecureBuffer::SecureBuffer(std::size_t size) : size_(size) {
  if (size == 0) return;
  if (size <= kMaxSlot) {
    data_ = take_slot(size);
  } else {
    data_ = static_cast<std::byte*>(locked_region(size));
    std::memset(data_, 0, size);
  }
}

void SecureBuffer::give_back() noexcept {
  if (size_ <= kMaxSlot) {
    sodium_memzero(data_, size_);
    give_slot(data_, size_);
  } else {
    free_region(data_);
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

bool secure_memory_locked() noexcept { return unlocked().empty(); }

bool lock_secure_memory() noexcept {
  unlocked().try_again();
  return secure_memory_locked();
}

}  // namespace postern
