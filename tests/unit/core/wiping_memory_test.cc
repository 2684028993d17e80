#include "core/wiping_memory.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>

namespace postern {
namespace {

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

// What is given back is given out again, to whoever asks next for as much; the first 16 bytes
// then hold what the C library keeps of it.
constexpr std::size_t kSize = 200, kOfTheLibrary = 16;
constexpr std::string_view kPattern = "a secret that a library copied; ";

/// Memory of the C library with something in it, as libpq's is.
char* filled(std::size_t size = kSize) {
  char* const memory = static_cast<char*>(std::malloc(size));
  for (std::size_t i = 0; i < size; ++i) {
    static_cast<volatile char*>(memory)[i] = kPattern[i % kPattern.size()];
  }
  return memory;
}

/// Whether the memory that was given back last holds anything still.
bool is_left() {
  const std::unique_ptr<char, void (*)(void*)> again(static_cast<char*>(std::malloc(kSize)),
                                                     std::free);
  const std::string_view text(again.get(), kSize);
  return text.substr(kOfTheLibrary).find_first_not_of('\0') != text.npos;
}

TEST(WipingScope, WhatIsFreedWithinIsOverwritten) {
  std::free(filled());
  ASSERT_TRUE(is_left()) << "nothing is shown by what follows";
  const WipingScope scope;
  std::free(filled());
  EXPECT_FALSE(is_left());
  std::free(nullptr);
}

TEST(WipingScope, SoIsWhatIsLeftBehindWhenMemoryGrows) {
  const auto grown = [] {
    char* const memory = static_cast<char*>(std::realloc(filled(), 100 * kSize));
    const bool kept = std::string_view(memory, kPattern.size()) == kPattern;
    const bool left = is_left();
    std::free(memory);
    return std::pair(kept, left);
  };
  EXPECT_EQ(grown(), std::pair(true, true)) << "nothing is shown by what follows";
  const WipingScope scope;
  EXPECT_EQ(grown(), std::pair(true, false));
  std::free(std::realloc(nullptr, kSize));
  EXPECT_EQ(std::realloc(filled(), 0), nullptr);
  EXPECT_FALSE(is_left());
}

TEST(WipingScope, MayNestAndEnds) {
  {
    const WipingScope outer;
    { const WipingScope inner; }
    std::free(filled());
    EXPECT_FALSE(is_left());
  }
  std::free(filled());
  EXPECT_TRUE(is_left());
}

TEST(WipingScope, IsOfItsThreadAlone) {
  const WipingScope scope;
  std::thread([] {
    std::free(filled());
    EXPECT_TRUE(is_left());
  }).join();
}

#endif

}  // namespace
}  // namespace postern
