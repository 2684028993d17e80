#pragma once

// Inside of service/storage: a thread that keeps reading something.

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "core/result.h"
#include "storage/pqxx_compat.h"

namespace postern::storage {

/// Reads again and again, on a thread and a connection of its own: woken by
/// NOTIFY, and after an interval in any case. What a notification says is not
/// looked at (any database role can send one).
class Follower {
 public:
  /// Which reading it is. The first of a connection may find another server
  /// than the last one did.
  enum class Reading { AtStart, Reconnected, Again };
  /// Reads in a transaction of its own. What it throws ends the connection; the
  /// next one begins with Reconnected.
  using Read = std::function<void(pqxx::connection&, Reading)>;

  struct Options {
    std::string conninfo;
    const char* application_name;
    const char* channel;
    const char* statement;  ///< named in errors and in the log
    std::chrono::milliseconds interval;
  };

  Follower(Options options, Read read);
  ~Follower();  ///< stop()
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;

  /// Reads once on the caller's thread, then follows. Errors: Unavailable.
  Status start();
  /// Afterwards nothing is read any more. Returns within seconds even when the
  /// database hangs.
  void stop();

  /// When the last successful reading began; long ago before start().
  std::chrono::steady_clock::time_point last_confirmed() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::storage
