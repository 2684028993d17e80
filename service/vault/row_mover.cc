#include "vault/row_mover.h"

#include <algorithm>
#include <string>
#include <typeinfo>

#include "core/log.h"
#include "core/wipe_stack.h"

namespace postern::vault {
namespace {

constexpr std::chrono::seconds kAgain(10);

}  // namespace

RowMover::RowMover(RotationStore& store, Keyring& keyring, const Clock& clock)
    : keyring_(keyring), rotation_(store, keyring, clock, [this] {
        Rotation::Options options;
        options.per_second = Rotation::kRowsPerSecond;
        options.pause = [this](std::chrono::milliseconds time) {
          std::unique_lock lock(mutex_);
          wake_.wait_for(lock, time, [this] { return stopping_; });
        };
        options.stopped = [this] {
          const std::lock_guard lock(mutex_);
          return stopping_;
        };
        return options;
      }()) {}

void RowMover::look_at(const TenantId& tenant) {
  if (!keyring_.has_share(tenant)) return;
  const std::lock_guard lock(mutex_);
  due_[tenant] = steady_clock::now();
  wake_.notify_all();
}

void RowMover::start() {
  thread_ = std::thread([this] { run(); });
}

void RowMover::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

/// False when it should be tried again.
bool RowMover::move(const TenantId& tenant) {
  try {
    KekVersion moving_to{};
    keyring_.forget(tenant);  // what the database has, not what was read before
    const auto newest =
        keyring_.with_current(tenant, [&](KekVersion version, const Kek&) -> Status {
          moving_to = version;
          return {};
        });
    const auto moved = rotation_.rewrap(tenant, [](const Rotation::Progress&) {});
    if (moved.ok()) {
      const auto& progress = moved.value();
      // Somebody held them, or they did not open: perhaps for the moment between a new
      // demand and its share. The log names those that never do.
      if (progress.left > 0) return false;
      return newest.ok() && keyring_.forget_old_shares(tenant, moving_to).ok();
    }
    const auto code = moved.error().code;
    log::warning("key_holder.move_failed", {{"tenant", tenant.str()}, {"code", to_string(code)}});
    // With a share it may be so for a moment only: between a new demand and its share.
    if (code == ErrorCode::TenantSealed) return !keyring_.has_share(tenant);
    return code == ErrorCode::NotFound;
  } catch (const std::exception& e) {
    log::error("key_holder.move_threw", {{"type", typeid(e).name()}});  // the type, not what()
    return false;
  }
}

void RowMover::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const auto next = std::min_element(
        due_.begin(), due_.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    if (next == due_.end()) {
      wake_.wait(lock);
      continue;
    }
    if (next->second > steady_clock::now()) {
      wake_.wait_until(lock, next->second);
      continue;
    }
    const auto tenant = next->first;
    due_.erase(next);
    lock.unlock();
    const bool settled = move(tenant);
    wipe_stack();
    lock.lock();
    if (!settled) due_.emplace(tenant, steady_clock::now() + kAgain);
  }
}

}  // namespace postern::vault
