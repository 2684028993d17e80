#include "storage/follower.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>

#include "core/log.h"
#include "core/wipe_stack.h"
#include "storage/session.h"

namespace postern::storage {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kFirstBackOff{50};
constexpr milliseconds kLongestBackOff{2000};
constexpr milliseconds kCallLimit{6000};  // a second more than the statement_timeout below

constexpr const char* kSettings =
    "SET search_path = postern; SET client_min_messages = error; SET statement_timeout = 5000";

}  // namespace

class Follower::Impl {
 public:
  Impl(Options options, Read read)
      : options_(std::move(options)), read_(std::move(read)), wake_(::eventfd(0, EFD_CLOEXEC)) {
    if (wake_ < 0) throw std::runtime_error("eventfd");
    database_.conninfo = options_.conninfo;
    database_.application_name = options_.application_name;
  }
  ~Impl() {
    stop();
    ::close(wake_);
  }

  Status start() {
    try {
      connect();
      read(Reading::AtStart);
    } catch (...) {
      disconnect();
      auto error = describe_failure(options_.statement, nullptr);
      error.code = ErrorCode::Unavailable;
      return error;
    }
    thread_ = std::thread([this] { run(); });
    return {};
  }

  void stop() {
    if (!thread_.joinable()) return;
    stopping_ = true;
    const std::uint64_t one = 1;
    while (::write(wake_, &one, sizeof one) < 0 && errno == EINTR) {
    }
    thread_.join();
    disconnect();
  }

  steady_clock::time_point last_confirmed() const noexcept { return confirmed_.load(); }

 private:
  void connect() {
    connection_ = pq::connect(complete_conninfo(database_));
    watch_.emplace(watchdog_, connection_->sock());
    watch_->allow(kCallLimit);
    {
      pqxx::nontransaction tx(*connection_);
      tx.exec(kSettings);
    }
    // Listening first: a change after the reading that follows is announced.
    listener_ = std::make_unique<pq::Listener>(*connection_, options_.channel,
                                               [this](const std::string&) { announced_ = true; });
  }
  void disconnect() noexcept {
    try {
      if (watch_) watch_->allow(kCallLimit);
      listener_.reset();  // asks the server to stop notifying
    } catch (...) {       // NOLINT: the connection goes next
    }
    connection_.reset();
    watch_.reset();
  }

  void read(Reading reading) {
    const auto begun = steady_clock::now();
    watch_->allow(kCallLimit);
    read_(*connection_, reading);
    watch_->release();
    confirmed_ = begun;
  }

  void run() {
    milliseconds back_off{0};
    while (!stopping_) {
      try {
        if (!connection_) {
          connect();
          read(Reading::Reconnected);
          back_off = milliseconds(0);
          log::info("follower.connected", {{"reads", options_.statement}});
        }
        // What came with the answers of the last reading is in libpq's buffer, where
        // poll() does not see it.
        connection_->get_notifs();
        if (!announced_) wait(connection_->sock(), options_.interval);
        if (stopping_) return;
        connection_->get_notifs();
        announced_ = false;
        read(Reading::Again);
        wipe_stack();  // a change of a tenant may open its keys
      } catch (...) {
        const auto error = describe_failure(options_.statement, nullptr);
        disconnect();
        if (stopping_) return;
        if (back_off == milliseconds(0)) {
          log::warning("follower.lost",
                       {{"reads", options_.statement}, {"diagnostic", error.diagnostic}});
        }
        back_off = std::clamp(back_off * 2, kFirstBackOff, kLongestBackOff);
        wait(-1, back_off);
      }
    }
  }

  /// Until the socket has something, stop() is called, or time is up.
  void wait(int socket, milliseconds time) const {
    pollfd waited[] = {{wake_, POLLIN, 0}, {socket, POLLIN, 0}};
    ::poll(waited, socket < 0 ? 1 : 2, static_cast<int>(time.count()));
  }

  const Options options_;
  const Read read_;
  DatabaseOptions database_;
  const int wake_;
  std::atomic<bool> stopping_{false};
  std::atomic<steady_clock::time_point> confirmed_{steady_clock::now() - std::chrono::hours(24)};
  Watchdog watchdog_;
  std::optional<Watchdog::Watch> watch_;
  std::unique_ptr<pqxx::connection> connection_;
  std::unique_ptr<pq::Listener> listener_;
  bool announced_ = false;  // since the last reading began; used by the thread only
  std::thread thread_;
};

Follower::Follower(Options options, Read read)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(read))) {}
Follower::~Follower() = default;
Status Follower::start() { return impl_->start(); }
void Follower::stop() { impl_->stop(); }
steady_clock::time_point Follower::last_confirmed() const noexcept {
  return impl_->last_confirmed();
}

}  // namespace postern::storage
