#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace postern::storage {

/// Ends connections that wait too long for an answer. libpq itself waits for
/// ever, and the server's own time-outs are worth nothing when it is the server
/// that hangs. What is ended is the socket (shutdown), so that the waiting call
/// fails as for a lost connection. One thread; thread-safe.
class Watchdog {
 public:
  Watchdog();
  ~Watchdog();  ///< after all watches
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// Sockets ended so far.
  std::uint64_t ended() const noexcept { return ended_; }

  /// One socket, not limited at first. Holds a descriptor of its own: when libpq
  /// closes the one it has, that number may soon mean another's connection.
  class Watch {
   public:
    /// Throws std::system_error when there is no descriptor left.
    Watch(Watchdog& watchdog, int socket);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    void allow(std::chrono::milliseconds time);  ///< from now on, whatever was said before
    void release();

   private:
    friend class Watchdog;
    Watchdog& watchdog_;
    const int socket_;
    std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::time_point::max();
  };

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Watch*> watches_;  // few: as many as a pool has connections
  std::chrono::steady_clock::time_point wakes_ = std::chrono::steady_clock::time_point::max();
  bool stopping_ = false;
  std::atomic<std::uint64_t> ended_{0};
  std::thread thread_;  // last: it uses the others
};

}  // namespace postern::storage
