#include "core/pace.h"

#include <gtest/gtest.h>

#include <chrono>

namespace postern {
namespace {

using namespace std::chrono_literals;

/// Time passes when something is waited for, and when a test says so.
struct Line {
  Pace::Clock::time_point now{};
  std::chrono::milliseconds waited{};
  Pace pace{100,
            [this](std::chrono::milliseconds time) {
              waited += time;
              now += time;
            },
            [this] { return now; }};
};

TEST(Pace, KeepsToItsRateWhateverEachTakes) {
  Line line;
  for (int i = 0; i < 50; ++i) {
    line.now += 3ms;
    line.pace.after(1);
  }
  EXPECT_EQ(line.now.time_since_epoch(), 500ms);
  EXPECT_EQ(line.waited, 350ms);
  line.pace.after(0);
  EXPECT_EQ(line.waited, 350ms) << "nothing was done";
  line.pace.after(50);
  EXPECT_EQ(line.now.time_since_epoch(), 1000ms) << "many at once";
}

TEST(Pace, CatchesUpOnASecondAtMost) {
  Line line;
  line.now += 400ms;
  for (int i = 0; i < 40; ++i) line.pace.after(1);
  EXPECT_EQ(line.waited, 0ms);
  line.now += 1h;
  for (int i = 0; i < 100; ++i) line.pace.after(1);
  EXPECT_EQ(line.waited, 0ms);
  for (int i = 0; i < 100; ++i) line.pace.after(1);
  EXPECT_EQ(line.waited, 1s);
}

TEST(Pace, GoesAsFastAsItCanWithoutARate) {
  bool waited = false;
  Pace pace(0, [&](std::chrono::milliseconds) { waited = true; });
  pace.after(1'000'000);
  EXPECT_FALSE(waited);
}

}  // namespace
}  // namespace postern
