#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>

namespace postern {

/// Keeps to so many a second. Of time in which nothing was done one second at most is caught
/// up on, so that a stall is not followed by a burst.
class Pace {
 public:
  using Clock = std::chrono::steady_clock;
  using Pause = std::function<void(std::chrono::milliseconds)>;
  static constexpr std::chrono::seconds kMostCredit{1};

  /// @param per_second  0: as fast as it goes
  explicit Pace(
      std::uint32_t per_second, Pause pause = [](auto time) { std::this_thread::sleep_for(time); },
      std::function<Clock::time_point()> now = Clock::now)
      : per_second_(per_second), pause_(std::move(pause)), now_(std::move(now)), due_(now_()) {}

  /// Waits for what `count` of them may take.
  void after(std::uint64_t count) {
    if (per_second_ == 0 || count == 0) return;
    const auto now = now_();
    due_ = std::max(due_, now - kMostCredit) +
           std::chrono::nanoseconds(count * 1'000'000'000 / per_second_);
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(due_ - now);
    if (wait.count() > 0) pause_(wait);
  }

 private:
  const std::uint32_t per_second_;
  const Pause pause_;
  const std::function<Clock::time_point()> now_;
  Clock::time_point due_;
};

}  // namespace postern
