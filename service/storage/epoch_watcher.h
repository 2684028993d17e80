#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "core/ids.h"
#include "core/result.h"

namespace postern::storage {

/// Follows the configuration epochs of all tenants, on a thread and a connection
/// of its own: woken by NOTIFY, and reading them all every second in any case.
///
/// What a notification says is not believed (any database role can send one):
/// it only makes the next reading happen now.
class EpochWatcher {
 public:
  /// The epoch that is passed for a tenant that was removed.
  static constexpr std::uint64_t kGone = std::numeric_limits<std::uint64_t>::max();

  /// Called on the watcher's thread for each tenant whose epoch has moved.
  using Changed = std::function<void(const TenantId&, std::uint64_t epoch)>;

  /// What this process wants others of its role to see of it: asked with each
  /// reading, and shown as the end of the session's application_name, which PostgreSQL
  /// cuts at 63 bytes. Letters, digits and commas.
  using Label = std::function<std::string()>;

  EpochWatcher(std::string conninfo, Changed changed,
               std::chrono::milliseconds interval = std::chrono::seconds(1), Label label = {});
  ~EpochWatcher();  ///< stop()
  EpochWatcher(const EpochWatcher&) = delete;
  EpochWatcher& operator=(const EpochWatcher&) = delete;

  /// Reads all epochs once, without calling back, and begins to follow them.
  /// Errors: Unavailable.
  Status start();
  /// Afterwards `changed` is not called any more. Returns within seconds even when
  /// the database hangs.
  void stop();

  /// When the last successful reading began: every change committed before then
  /// has been called back. Grows old while the database cannot be reached, so
  /// that callers can stop trusting what they hold. Long ago before start().
  std::chrono::steady_clock::time_point last_confirmed() const noexcept;

  std::size_t known_tenants() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::storage
