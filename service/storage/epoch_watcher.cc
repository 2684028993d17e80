#include "storage/epoch_watcher.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>

#include "core/log.h"
#include "storage/postgres_config_store.h"
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
constexpr const char* kSetDirectory = "SELECT set_config('postern.scope', 'directory', true)";
constexpr const char* kEpochs = "SELECT tenant_id, epoch FROM tenant";

}  // namespace

class EpochWatcher::Impl {
 public:
  Impl(std::string conninfo, Changed changed, milliseconds interval)
      : changed_(std::move(changed)), interval_(interval), wake_(::eventfd(0, EFD_CLOEXEC)) {
    if (wake_ < 0) throw std::runtime_error("eventfd");
    options_.conninfo = std::move(conninfo);
    options_.application_name = "posternd-epochs";
  }
  ~Impl() {
    stop();
    ::close(wake_);
  }

  Status start() {
    try {
      connect();
      read_epochs(false);
    } catch (...) {
      disconnect();
      auto error = describe_failure("tenant.epochs", nullptr);
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
  std::size_t known_tenants() const noexcept { return known_.load(); }

 private:
  void connect() {
    connection_ = pq::connect(complete_conninfo(options_));
    watch_.emplace(watchdog_, connection_->sock());
    watch_->allow(kCallLimit);
    {
      pqxx::nontransaction tx(*connection_);
      tx.exec(kSettings);
    }
    // Listening first: a change after the reading below is announced.
    listener_ =
        std::make_unique<pq::Listener>(*connection_, kEpochChannel, [](const std::string&) {});
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

  void read_epochs(bool call_back) {
    const auto begun = steady_clock::now();
    watch_->allow(kCallLimit);
    std::map<TenantId, std::uint64_t> now;
    {
      pqxx::work tx(*connection_);
      tx.exec(kSetDirectory);
      for (const auto& row : tx.exec(kEpochs)) {
        now.emplace(TenantId(text(row[0])), number<std::uint64_t>(row[1]));
      }
    }
    watch_->release();
    std::map<TenantId, std::uint64_t> moved;
    for (const auto& [tenant, epoch] : now) {
      const auto before = epochs_.find(tenant);
      if (before == epochs_.end() || before->second != epoch) moved.emplace(tenant, epoch);
    }
    for (const auto& [tenant, epoch] : epochs_) {
      if (!now.contains(tenant)) moved.emplace(tenant, kGone);
    }
    if (call_back) {
      for (const auto& [tenant, epoch] : moved) changed_(tenant, epoch);
    }
    // Last, so that a call that threw is made again.
    epochs_ = std::move(now);
    known_ = epochs_.size();
    confirmed_ = begun;
  }

  void run() {
    milliseconds back_off{0};
    while (!stopping_) {
      try {
        if (!connection_) {
          connect();
          read_epochs(true);
          back_off = milliseconds(0);
          log::info("epochs.connected");
        }
        wait(connection_->sock(), interval_);
        if (stopping_) return;
        connection_->get_notifs();
        read_epochs(true);
      } catch (...) {
        const auto error = describe_failure("tenant.epochs", nullptr);
        disconnect();
        if (stopping_) return;
        if (back_off == milliseconds(0)) {
          log::warning("epochs.lost", {{"diagnostic", error.diagnostic}});
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

  DatabaseOptions options_;
  const Changed changed_;
  const milliseconds interval_;
  const int wake_;
  std::atomic<bool> stopping_{false};
  std::atomic<steady_clock::time_point> confirmed_{steady_clock::now() - std::chrono::hours(24)};
  std::atomic<std::size_t> known_{0};
  Watchdog watchdog_;
  std::optional<Watchdog::Watch> watch_;
  std::unique_ptr<pqxx::connection> connection_;
  std::unique_ptr<pq::Listener> listener_;
  std::map<TenantId, std::uint64_t> epochs_;
  std::thread thread_;
};

EpochWatcher::EpochWatcher(std::string conninfo, Changed changed, milliseconds interval)
    : impl_(std::make_unique<Impl>(std::move(conninfo), std::move(changed), interval)) {}
EpochWatcher::~EpochWatcher() = default;
Status EpochWatcher::start() { return impl_->start(); }
void EpochWatcher::stop() { impl_->stop(); }
steady_clock::time_point EpochWatcher::last_confirmed() const noexcept {
  return impl_->last_confirmed();
}
std::size_t EpochWatcher::known_tenants() const noexcept { return impl_->known_tenants(); }

}  // namespace postern::storage
