#include "core/secret.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstring>
#include <initializer_list>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/locked_memory.h"

namespace postern {
namespace {

// The wrong call does not compile.
template <class T>
concept Streamable = requires(std::ostream& out, const T& value) {
  out << value;
};
template <class T>
concept Comparable = requires(const T& value) {
  value == value;
};

static_assert(!std::is_copy_constructible_v<Kek>);
static_assert(!std::is_copy_assignable_v<Kek>);
static_assert(std::is_nothrow_move_constructible_v<Kek>);
static_assert(!std::is_copy_constructible_v<SecureBuffer>);
static_assert(!std::is_convertible_v<Kek, Dek> && !std::is_constructible_v<Dek, Kek>);
static_assert(!std::is_constructible_v<Dek, std::string>);
static_assert(!std::is_convertible_v<SecureBuffer, Dek>);
static_assert(!std::is_convertible_v<Dek, std::string_view>);
static_assert(!Streamable<Dek>);
static_assert(!Comparable<Dek>);

std::string text_of(const SecureBuffer& buffer) { return std::string(as_text(buffer.readable())); }

TEST(SecureBuffer, StartsAsZeros) {
  for (const std::size_t size :
       std::initializer_list<std::size_t>{1, 63, 64, 65, 1000, 16 * 1024, 16 * 1024 + 1, 100'000}) {
    const SecureBuffer buffer(size);
    EXPECT_EQ(buffer.size(), size);
    EXPECT_EQ(text_of(buffer), std::string(size, '\0'));
  }
}

TEST(SecureBuffer, MayBeEmpty) {
  EXPECT_EQ(SecureBuffer().size(), 0U);
  EXPECT_EQ(SecureBuffer(0).size(), 0U);
  EXPECT_EQ(SecureBuffer::copy_of("").size(), 0U);
  SecureBuffer moved = SecureBuffer::take(std::string());
  EXPECT_TRUE(moved.writable().empty());
}

TEST(SecureBuffer, NeverHandsOutWhatAnotherLeftBehind) {
  for (const std::size_t size : std::initializer_list<std::size_t>{32, 64, 200, 5000}) {
    for (int i = 0; i < 50; ++i) {
      SecureBuffer used(size);
      std::fill(used.writable().begin(), used.writable().end(), std::byte{0x5a});
      const auto* const address = used.readable().data();
      { const SecureBuffer gone = std::move(used); }
      const SecureBuffer next(size);
      // Slots are reused last in, first out, so this looks at the very bytes.
      ASSERT_EQ(next.readable().data(), address);
      ASSERT_EQ(text_of(next), std::string(size, '\0'));
    }
  }
}

TEST(SecureBuffer, IsWipedWhenGivenBack) {
  const std::byte* address = nullptr;
  {
    const auto buffer = SecureBuffer::copy_of("canary-canary-canary");
    address = buffer.readable().data();
  }
  // The slot stays mapped: the arena never returns its regions.
  std::string left(20, 'x');
  std::memcpy(left.data(), address, left.size());
  EXPECT_EQ(left, std::string(20, '\0'));
}

TEST(SecureBuffer, LiveBuffersNeverOverlap) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  std::vector<std::pair<SecureBuffer, char>> live;
  for (int i = 0; i < 3000; ++i) {
    if (live.size() > 200 || (!live.empty() && random() % 3 == 0)) {
      const auto at = random() % live.size();
      ASSERT_EQ(text_of(live[at].first), std::string(live[at].first.size(), live[at].second));
      std::swap(live[at], live.back());
      live.pop_back();
    } else {
      const auto fill = static_cast<char>(random());
      live.emplace_back(SecureBuffer::copy_of(std::string(1 + random() % 3000, fill)), fill);
    }
  }
  for (const auto& [buffer, fill] : live) {
    ASSERT_EQ(text_of(buffer), std::string(buffer.size(), fill));
  }
}

TEST(SecureBuffer, IsAllocatedAndFreedFromManyThreads) {
  std::vector<std::thread> threads;
  std::vector<int> wrong(8);
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    threads.emplace_back([&, i] {
      const std::string content(40 + i * 100, static_cast<char>('a' + i));
      for (int j = 0; j < 2000; ++j) {
        const auto buffer = SecureBuffer::copy_of(content);
        wrong[i] += text_of(buffer) != content ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(8));
}

TEST(SecureBuffer, MovesWithoutCopying) {
  auto first = SecureBuffer::copy_of("first");
  const auto* const address = first.readable().data();
  SecureBuffer second(std::move(first));
  EXPECT_EQ(second.readable().data(), address);
  EXPECT_EQ(first.size(), 0U);  // NOLINT: moved from, on purpose
  auto third = SecureBuffer::copy_of("third");
  third = std::move(second);
  EXPECT_EQ(text_of(third), "first");
}

TEST(SecureBuffer, TakesAStringAndWipesIt) {
  std::string text(100, 'c');
  const auto* const data = text.data();
  const auto buffer = SecureBuffer::take(std::move(text));
  EXPECT_EQ(text_of(buffer), std::string(100, 'c'));
  EXPECT_TRUE(text.empty());  // NOLINT: take() leaves it wiped, still owning its memory
  ASSERT_EQ(text.data(), data);
  EXPECT_EQ(std::string(data, 100), std::string(100, '\0'));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// A sanitizer answers mlock() by itself, and always that it is done.
TEST(SecureMemory, IsLockedOnceThereIsRoomForIt) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &before), 0);
  constexpr std::size_t kLarge = 1 << 20;
  if (before.rlim_max < 4 * kLarge) GTEST_SKIP() << "nothing may be locked here";
  std::thread([&] {
    // Of this thread alone: with it no limit holds.
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    ASSERT_EQ(::syscall(SYS_capget, &header, sets.data()), 0);
    sets[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
    ASSERT_EQ(::syscall(SYS_capset, &header, sets.data()), 0);
    const auto allow = [&](rlim_t size) {
      const rlimit limit{size, before.rlim_max};
      ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    };
    EXPECT_TRUE(lock_secure_memory());
    allow(0);
    {
      const SecureBuffer large(kLarge);
      EXPECT_FALSE(secure_memory_locked());
      EXPECT_FALSE(lock_secure_memory());
    }
    EXPECT_TRUE(secure_memory_locked()) << "what was not locked is gone";
    const SecureBuffer first(kLarge), second(kLarge);
    EXPECT_FALSE(secure_memory_locked());
    allow(before.rlim_max);
    EXPECT_TRUE(lock_secure_memory());
    EXPECT_TRUE(secure_memory_locked());
  }).join();
  EXPECT_EQ(::setrlimit(RLIMIT_MEMLOCK, &before), 0);
}
#endif

TEST(Wipe, ClearsBytesAndShortStrings) {
  std::string text = "short";  // inside the object
  wipe(text);
  EXPECT_TRUE(text.empty());
  EXPECT_EQ(std::string(text.data(), 5), std::string(5, '\0'));
  std::string bytes = "bytes";
  wipe(std::as_writable_bytes(std::span(bytes)));
  EXPECT_EQ(bytes, std::string(5, '\0'));
  wipe(std::span<std::byte>());
}

TEST(Secret, GivesItsBytesOnlyToExpose) {
  const Dek dek(SecureBuffer::copy_of("0123456789"));
  EXPECT_EQ(dek.size(), 10U);
  EXPECT_EQ(dek.expose([](ByteView bytes) { return bytes.size(); }), 10U);
  EXPECT_EQ(dek.expose([](ByteView bytes) { return std::string(as_text(bytes)); }), "0123456789");
}

TEST(Secret, IsNotPrintedByATestThatFails) {
  const Dek dek(SecureBuffer::copy_of("canary"));
  EXPECT_EQ(testing::PrintToString(dek), "[secret]");
}

}  // namespace
}  // namespace postern
