#pragma once

#include <chrono>

namespace postern {

using std::chrono::sys_seconds;

/// Wall-clock time, injected so that tests decide what time it is.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual sys_seconds now() const = 0;
};

class SystemClock final : public Clock {
 public:
  sys_seconds now() const override {
    return std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
  }
};

}  // namespace postern
