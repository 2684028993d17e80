#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "vault/rotation.h"

namespace postern::vault {

/// Moves the rows of tenants with key holders to their newest KEK, in a thread of its
/// own: `posternd keys rewrap` has not their shares. Where it stands is in the rows, so
/// it may stop at any moment, and every replica that has the share may do it.
class RowMover {
 public:
  RowMover(RotationStore& store, Keyring& keyring, const Clock& clock);
  ~RowMover() { stop(); }
  RowMover(const RowMover&) = delete;
  RowMover& operator=(const RowMover&) = delete;

  /// There may be something to move. Does nothing when the share is not here.
  void look_at(const TenantId& tenant);

  void start();
  void stop();  ///< idempotent

 private:
  using steady_clock = std::chrono::steady_clock;

  void run();
  bool move(const TenantId& tenant);

  Keyring& keyring_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<TenantId, steady_clock::time_point> due_;
  bool stopping_ = false;
  Rotation rotation_;
  std::thread thread_;
};

}  // namespace postern::vault
