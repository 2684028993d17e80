#include "storage/watchdog.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "core/log.h"

namespace postern::storage {

using std::chrono::steady_clock;

namespace {

constexpr auto kNever = steady_clock::time_point::max();

int duplicate(int socket) {
  const int own = ::fcntl(socket, F_DUPFD_CLOEXEC, 0);
  if (own < 0) throw std::system_error(errno, std::generic_category(), "watchdog");
  return own;
}

}  // namespace

Watchdog::Watchdog() : thread_([this] { run(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Watchdog::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const auto now = steady_clock::now();
    wakes_ = kNever;
    for (auto* watch : watches_) {
      if (watch->deadline_ <= now) {
        ::shutdown(watch->socket_, SHUT_RDWR);
        watch->deadline_ = kNever;
        ++ended_;
        log::warning("database.no_answer");
      }
      wakes_ = std::min(wakes_, watch->deadline_);
    }
    if (wakes_ == kNever) {
      changed_.wait(lock);
    } else {
      changed_.wait_until(lock, wakes_);
    }
  }
}

Watchdog::Watch::Watch(Watchdog& watchdog, int socket)
    : watchdog_(watchdog), socket_(duplicate(socket)) {
  const std::lock_guard lock(watchdog_.mutex_);
  try {
    watchdog_.watches_.push_back(this);
  } catch (...) {
    ::close(socket_);
    throw;
  }
}

Watchdog::Watch::~Watch() {
  {
    const std::lock_guard lock(watchdog_.mutex_);
    std::erase(watchdog_.watches_, this);
  }
  ::close(socket_);
}

void Watchdog::Watch::allow(std::chrono::milliseconds time) {
  const auto deadline = steady_clock::now() + time;
  const std::lock_guard lock(watchdog_.mutex_);
  deadline_ = deadline;
  // Otherwise it wakes early enough, and finds this one then.
  if (deadline < watchdog_.wakes_) {
    watchdog_.wakes_ = deadline;
    watchdog_.changed_.notify_one();
  }
}

void Watchdog::Watch::release() {
  const std::lock_guard lock(watchdog_.mutex_);
  deadline_ = kNever;
}

}  // namespace postern::storage
