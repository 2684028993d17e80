#include "http/reactor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pistache/listener.h>
#include <pistache/net.h>
#include <pistache/os.h>
#include <pistache/peer.h>
#include <pistache/reactor.h>
#include <pistache/tcp.h>
#include <pistache/transport.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "core/log.h"
#include "core/wipe_stack.h"
#include "http/connection.h"

namespace postern::http {
namespace {

using Pistache::Polling::NotifyOn;
using Pistache::Polling::Tag;

constexpr int kBacklog = 1024;

/// Numeric, without port; empty when the client is gone already.
std::string peer_address(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
  if (storage.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
    ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
  } else if (storage.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
      ::inet_ntop(AF_INET, v6.sin6_addr.s6_addr + 12, text.data(), text.size());
    } else {
      ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
    }
  }
  return text.data();
}

/// Time-outs are looked at this often: late by an eighth of the shortest at most.
std::chrono::milliseconds tick_period(const ServerOptions& options) {
  const auto shortest =
      std::min({options.header_timeout, options.body_timeout, options.idle_timeout,
                options.write_timeout, options.tls_handshake_timeout});
  return std::clamp(shortest / 8, std::chrono::milliseconds(10), std::chrono::milliseconds(200));
}

class EdgeTransport;
/// Real transports register here when their reactor thread takes them.
struct Registry {
  std::mutex mutex;
  std::vector<std::shared_ptr<EdgeTransport>> transports;
};

/// Hears of new sockets; the transport deals with everything after that.
class EdgeHandler final : public Pistache::Tcp::Handler {
 public:
  void onConnection(const std::shared_ptr<Pistache::Tcp::Peer>& peer) override;
  void onInput(const char*, std::size_t, const std::shared_ptr<Pistache::Tcp::Peer>&) override {}
  std::shared_ptr<Pistache::Tcp::Handler> clone() const override {
    return std::make_shared<EdgeHandler>();
  }
};

class EdgeTransport final : public Pistache::Tcp::Transport, public Loop {
 public:
  EdgeTransport(Edge& edge, Registry& registry)
      : Transport(std::make_shared<EdgeHandler>()), edge_(edge), registry_(registry) {}

  ~EdgeTransport() override {
    if (timer_ >= 0) ::close(timer_);
  }

  std::shared_ptr<Pistache::Aio::Handler> clone() const override {
    auto copy = std::make_shared<EdgeTransport>(edge_, registry_);
    const std::lock_guard lock(registry_.mutex);
    registry_.transports.push_back(copy);
    return copy;
  }

  void registerPoller(Pistache::Polling::Epoll& poller) override {
    Transport::registerPoller(poller);
    timer_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer_ < 0) throw std::runtime_error("timerfd");
    poller.addFd(timer_, Pistache::Flags<NotifyOn>(NotifyOn::Read),
                 Tag(static_cast<std::uint64_t>(timer_)));
    const auto period = tick_period(edge_.options);
    interval_.tv_sec = period.count() / 1000;
    interval_.tv_nsec = period.count() % 1000 * 1'000'000;
    kick();
  }

  /// Any thread: ticks now, then at the usual rate.
  void kick() const {
    itimerspec spec{};
    spec.it_interval = interval_;
    spec.it_value.tv_nsec = 1;
    ::timerfd_settime(timer_, 0, &spec, nullptr);
  }

  void rearm(int fd) override {
    if (fd < 0) return;
    reactor()->modifyFd(key(), fd, NotifyOn::Read | NotifyOn::Write | NotifyOn::Shutdown,
                        Pistache::Polling::Mode::Edge);
  }

  void onReady(const Pistache::Aio::FdSet& fds) override {
    for (const auto& entry : fds) {
      // Entry hides the one flag that says "the client has finished sending".
      // The cast to its private base is one a C-style cast alone may make.
      const auto& event = (const Pistache::Polling::Event&)entry;
      const int fd = static_cast<int>(entry.getTag().value());
      try {
        handle(fd, event.flags.hasFlag(NotifyOn::Shutdown));
      } catch (...) {
        // Out of memory, or Pistache in a state it calls impossible. Only this
        // connection ends; an exception leaving here would end the process.
        failures_.fetch_add(1, std::memory_order_relaxed);
        remove(fd);
      }
    }
  }

  /// Reactor thread, before the socket is registered: it cannot be closed yet,
  /// but shut down, which its first event then reports.
  void adopt(int fd) noexcept {
    ++announced_;
    bool adopted = false;
    std::string address;
    try {
      address = peer_address(fd);
      if (edge_.admit(address)) {
        const auto index = static_cast<std::size_t>(fd);
        try {
          if (connections_.size() <= index) connections_.resize(index + 64);
          connections_[index] = std::make_shared<Connection>(edge_, *this, fd, address);
          addresses_.resize(connections_.size());
          addresses_[index] = std::move(address);
          bump(accepted);
          adopted = true;
        } catch (...) {
          connections_[index].reset();
          edge_.leave(address);
        }
      }
    } catch (...) {
      failures_.fetch_add(1, std::memory_order_relaxed);
    }
    if (!adopted) {
      edge_.refused.fetch_add(1, std::memory_order_relaxed);
      ::shutdown(fd, SHUT_RDWR);
    }
  }

  /// After the reactor thread has ended: sockets it never came to see.
  void close_leftovers() {
    for (std::size_t i = 0; i < connections_.size(); ++i) drop(static_cast<int>(i));
    for (const auto& [fd, peer] : peers) ::close(fd);
    peers.clear();
  }

 private:
  void handle(int fd, bool ended) {
    if (fd == timer_) {
      std::uint64_t expirations = 0;
      [[maybe_unused]] const auto size = ::read(timer_, &expirations, sizeof expirations);
      tick();
      return;
    }
    const auto index = static_cast<std::size_t>(fd);
    if (index < connections_.size() && connections_[index]) {
      const auto connection = connections_[index];  // outlives its removal below
      if (connection->on_event(ended) == Connection::Verdict::Remove) remove(fd);
      wipe_stack();
    } else if (peers.find(fd) != peers.end()) {
      remove(fd);  // was refused
    } else {
      // Pistache's own queues, or a socket removed earlier in this round.
      const auto before = announced_;
      hand_to_pistache(fd);
      if (announced_ != before) peer_queue_ = fd;
    }
  }

  /// Its own queues: new peers above all.
  void hand_to_pistache(int fd) {
    Pistache::Polling::Event event(Tag(static_cast<std::uint64_t>(fd)));
    event.flags.setFlag(NotifyOn::Read);
    std::vector<Pistache::Polling::Event> one;
    one.push_back(event);
    Transport::onReady(Pistache::Aio::FdSet(std::move(one)));
  }

  void tick() {
    // PollableQueue::pop reads its eventfd after finding the queue empty, so a
    // peer pushed between the two is announced to nobody. Look again.
    if (peer_queue_ >= 0) hand_to_pistache(peer_queue_);
    for (std::size_t i = 0; i < connections_.size(); ++i) {
      if (!connections_[i]) continue;
      const auto connection = connections_[i];
      auto verdict = Connection::Verdict::Remove;
      try {
        verdict = connection->on_tick();
      } catch (...) {
        failures_.fetch_add(1, std::memory_order_relaxed);
      }
      if (verdict == Connection::Verdict::Remove) remove(static_cast<int>(i));
    }
  }

  /// From here on nobody writes to the descriptor; Pistache closes it.
  void remove(int fd) noexcept {
    drop(fd);
    try {
      if (const auto found = peers.find(fd); found != peers.end()) {
        const auto peer = found->second;
        removePeer(peer);
      }
    } catch (...) {
      failures_.fetch_add(1, std::memory_order_relaxed);
    }
  }

  void drop(int fd) noexcept {
    const auto index = static_cast<std::size_t>(fd);
    if (fd < 0 || index >= connections_.size() || !connections_[index]) return;
    connections_[index]->detach();
    connections_[index].reset();
    edge_.leave(addresses_[index]);
  }

  Edge& edge_;
  Registry& registry_;
  int timer_ = -1;
  timespec interval_{};
  std::vector<std::shared_ptr<Connection>> connections_;  // by descriptor
  std::vector<std::string> addresses_;                    // likewise
  int peer_queue_ = -1;          // the eventfd that announces new peers, once known
  std::uint64_t announced_ = 0;  // new peers so far
  std::atomic<std::uint64_t> failures_{0};
};

void EdgeHandler::onConnection(const std::shared_ptr<Pistache::Tcp::Peer>& peer) {
  static_cast<EdgeTransport*>(transport())->adopt(peer->fd());
}

/// Every socket of this process that listens.
std::vector<int> listening_sockets() {
  std::vector<int> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", ignored)) {
    const int fd = std::atoi(entry.path().filename().c_str());
    int listening = 0;
    socklen_t size = sizeof listening;
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening != 0) {
      found.push_back(fd);
    }
  }
  return found;
}

bool is_bound_to(int fd, std::uint16_t port) {
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return false;
  // The port is at the same place for both families.
  return ntohs(reinterpret_cast<const sockaddr_in&>(bound).sin_port) == port;
}

}  // namespace

class Reactor::Impl {
 public:
  explicit Impl(Edge& edge) : edge_(edge) {}

  ~Impl() {
    edge_.stopping = true;
    stop_accepting();
    kick();
    if (listener_ && running_) listener_->shutdown();
    listener_.reset();  // joins its threads
    for (const auto& transport : registry_.transports) transport->close_leftovers();
  }

  Status listen() {
    const auto& options = edge_.options;
    // Pistache takes an IPv6 address in brackets.
    const bool bare_v6 = options.address.find(':') != std::string::npos &&
                         options.address.find('[') == std::string::npos;
    const auto host = bare_v6 ? '[' + options.address + ']' : options.address;
    try {
      listener_ = std::make_unique<Pistache::Tcp::Listener>();
      Pistache::Flags<Pistache::Tcp::Options> socket_options;
      socket_options.setFlag(Pistache::Tcp::Options::ReuseAddr)
          .setFlag(Pistache::Tcp::Options::NoDelay)
          .setFlag(Pistache::Tcp::Options::CloseOnExec);
      listener_->init(static_cast<std::size_t>(std::max(options.io_threads, 1)), socket_options,
                      "postern-io", kBacklog);
      listener_->setTransportFactory(
          [this] { return std::make_shared<EdgeTransport>(edge_, registry_); });
      const auto before = listening_sockets();
      listener_->bind(Pistache::Address(host, Pistache::Port(options.port)));
      port_ = listener_->getPort();
      // Pistache keeps the descriptor to itself, and stop_accepting() needs it.
      for (const int fd : listening_sockets()) {
        const bool is_new = std::find(before.begin(), before.end(), fd) == before.end();
        if (is_new && is_bound_to(fd, port_)) listening_ = fd;
      }
      listener_->runThreaded();
      running_ = true;
    } catch (const std::exception& e) {
      return fail(ErrorCode::Unavailable,
                  "cannot listen on " + host + ":" + std::to_string(options.port) +
                      ": is the address one of this machine, and the port free and allowed?",
                  e.what());
    }
    return {};
  }

  /// Pistache cannot stop accepting without stopping its reactors. Putting an
  /// unconnected socket in the listener's place closes the listening one and
  /// leaves Pistache a descriptor it may poll and close.
  void stop_accepting() {
    if (listening_ < 0) return;
    const int placeholder = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (placeholder < 0) return;
    ::dup3(placeholder, listening_, O_CLOEXEC);
    ::close(placeholder);
    listening_ = -1;
  }

  void kick() const {
    for (const auto& transport : registry_.transports) transport->kick();
  }

  std::uint16_t port() const { return port_; }

  std::vector<const Loop*> loops() const {
    std::vector<const Loop*> found;
    for (const auto& transport : registry_.transports) found.push_back(transport.get());
    return found;
  }

 private:
  Edge& edge_;
  Registry registry_;  // complete, and constant, once bind() has returned
  std::unique_ptr<Pistache::Tcp::Listener> listener_;
  std::uint16_t port_ = 0;
  int listening_ = -1;
  bool running_ = false;
};

Reactor::Reactor(Edge& edge) : impl_(std::make_unique<Impl>(edge)) {}
Reactor::~Reactor() = default;
Status Reactor::listen() { return impl_->listen(); }
std::uint16_t Reactor::port() const { return impl_->port(); }
void Reactor::stop_accepting() { impl_->stop_accepting(); }
void Reactor::kick() { impl_->kick(); }
std::vector<const Loop*> Reactor::loops() const { return impl_->loops(); }

}  // namespace postern::http
