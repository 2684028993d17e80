#include "app/process_memory.h"

#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <string>

#include "core/locked_memory.h"
#include "core/log.h"
#include "crypto/wiping_memory.h"
#include "outbound/wiping_memory.h"

namespace {

/// Whether no limit holds: then locking can never fail for want of room.
bool may_lock_everything() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY) return true;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  return ::syscall(SYS_capget, &header, sets.data()) == 0 &&
         (sets[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK)) != 0;
}

/// Whether this much more could be locked now. Touches none of it.
bool may_lock(std::size_t size) {
  void* const region =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (region == MAP_FAILED) return false;
  const bool locked = ::mlock2(region, size, MLOCK_ONFAULT) == 0;
  ::munmap(region, size);
  return locked;
}

}  // namespace

namespace postern::app {

void wipe_freed_memory() {
  if (!crypto::wipe_freed_memory() || !outbound::wipe_freed_memory()) std::abort();
}

Status lock_memory(const Config& config) {
  // Where a limit holds, MCL_FUTURE would make allocations fail that need no lock.
  if (may_lock_everything() && ::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0) return {};
  const bool partly = may_lock(kLockedBytes);
  const auto advice =
      std::string(partly ? "signing keys, and what requests hold, may be written to swap: "
                         : "secrets may be written to swap: ") +
      "raise RLIMIT_MEMLOCK to unlimited (systemd: LimitMEMLOCK=infinity), or give CAP_IPC_LOCK";
  if (config.require_locked_memory) return fail(ErrorCode::Unavailable, advice);
  log::warning(partly ? "memory.partly_locked" : "memory.not_locked", {{"advice", advice}});
  return {};
}

void keep_memory_locked() {
  static std::atomic<bool> was_locked{true};
  const bool locked = lock_secure_memory();
  if (was_locked.exchange(locked) == locked) return;
  if (locked) {
    log::info("memory.locked_again");
  } else {
    log::warning("memory.lock_failed",
                 {{"advice", "secrets may be written to swap: raise RLIMIT_MEMLOCK"}});
  }
}

}  // namespace postern::app
