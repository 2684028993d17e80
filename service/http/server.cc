#include "http/server.h"

#include <sys/resource.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <typeinfo>
#include <utility>

#include "core/log.h"
#include "http/edge.h"
#include "http/reactor.h"

namespace postern::http {
namespace {

/// Descriptors for everything but clients: database, outside calls, files.
constexpr std::size_t kReservedDescriptors = 256;

/// Makes room for max_connections, raising the soft limit where that is allowed.
/// With too few descriptors Pistache's accept loop would spin without end.
Status check_descriptors(std::size_t max_connections) {
  const rlim_t needed = max_connections + kReservedDescriptors;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed) return {};
  if (limit.rlim_max >= needed) {
    limit.rlim_cur = needed;
    if (::setrlimit(RLIMIT_NOFILE, &limit) == 0) return {};
  }
  return fail(ErrorCode::Unavailable,
              "max_connections " + std::to_string(max_connections) + " needs " +
                  std::to_string(needed) + " file descriptors, and the limit is " +
                  std::to_string(limit.rlim_max) +
                  ": raise it (ulimit -n, or LimitNOFILE= in the systemd unit) or lower "
                  "max_connections");
}

class FunctionJob final : public WorkerPool::Job {
 public:
  FunctionJob(Edge& edge, std::function<void()> work) : edge_(edge), work_(std::move(work)) {}

  void run() noexcept override {
    const char* type = nullptr;
    try {
      work_();
      return;
    } catch (const std::exception& e) {
      type = typeid(e).name();
    } catch (...) {
      type = "not a std::exception";
    }
    edge_.handler_faults.fetch_add(1, std::memory_order_relaxed);
    try {
      log::error("http.work_threw", {{"type", type}});
    } catch (...) {
      // Out of memory while logging: the counter above still tells.
    }
  }

 private:
  Edge& edge_;
  std::function<void()> work_;
};

}  // namespace

bool Edge::admit(const std::string& address) {
  if (draining || stopping) return false;
  if (options.takes_peer && !options.takes_peer(address)) return false;
  {
    const std::lock_guard lock(address_mutex);
    auto& count = per_address[address];
    if (count >= options.max_connections_per_address || open.load() >= options.max_connections) {
      if (count == 0) per_address.erase(address);
      return false;
    }
    ++count;
    ++open;  // under the lock, so that the cap is exact
  }
  return true;
}

void Edge::leave(const std::string& address) {
  {
    const std::lock_guard lock(address_mutex);
    if (const auto found = per_address.find(address); found != per_address.end()) {
      if (--found->second == 0) per_address.erase(found);
    }
  }
  if (open.fetch_sub(1) == 1) {
    const std::lock_guard lock(empty_mutex);
    empty.notify_all();
  }
}

class Server::Impl {
 public:
  Impl(ServerOptions options, const Router& router) : edge_(std::move(options), router) {}

  ~Impl() {
    if (!reactor_) return;
    reactor_->stop_accepting();
    edge_.stopping = true;
    reactor_->kick();
    wait_until_empty(std::chrono::seconds(5));
    for (auto& pool : edge_.pools) pool->stop();
    reactor_.reset();
  }

  Status start() {
    POSTERN_CHECK(check_descriptors(edge_.options.max_connections));
    POSTERN_CHECK(load_tls());
    const auto& options = edge_.options;
    edge_.pools[0] =
        std::make_unique<WorkerPool>("postern-cpu", options.compute_threads, options.pool_queue);
    edge_.pools[1] =
        std::make_unique<WorkerPool>("postern-db", options.database_threads, options.pool_queue);
    edge_.pools[2] =
        std::make_unique<WorkerPool>("postern-out", options.outbound_threads, options.pool_queue);
    reactor_ = std::make_unique<Reactor>(edge_);
    return reactor_->listen();
  }

  std::uint16_t port() const { return reactor_ ? reactor_->port() : 0; }

  void drain() {
    if (!reactor_) return;
    edge_.draining = true;
    reactor_->stop_accepting();
    reactor_->kick();
    wait_until_empty(edge_.options.drain_timeout);
  }

  Status load_tls() {
    if (!edge_.options.tls) return {};
    POSTERN_TRY(auto loaded, TlsContext::load(*edge_.options.tls));
    const std::lock_guard lock(edge_.tls_mutex);
    edge_.tls_context = std::move(loaded);
    return {};
  }

  ServerStats stats() const {
    ServerStats stats;
    stats.connections_open = edge_.open;
    stats.connections_refused = edge_.refused;
    stats.overloads = edge_.overloads;
    stats.timeouts = edge_.timeouts;
    stats.handler_faults = edge_.handler_faults;
    if (!reactor_) return stats;
    for (const auto* loop : reactor_->loops()) {
      stats.connections_accepted += loop->accepted.load(std::memory_order_relaxed);
      stats.requests += loop->requests.load(std::memory_order_relaxed);
      stats.parse_errors += loop->parse_errors.load(std::memory_order_relaxed);
    }
    return stats;
  }

  bool post(Pool which, std::function<void()> work) {
    // There is no queue for the IO threads; short work goes to the compute pool.
    auto* const pool = edge_.pool(which == Pool::Inline ? Pool::Compute : which);
    if (pool == nullptr) return false;
    std::unique_ptr<WorkerPool::Job> job = std::make_unique<FunctionJob>(edge_, std::move(work));
    if (pool->submit(job)) return true;
    edge_.overloads.fetch_add(1, std::memory_order_relaxed);
    return false;
  }

 private:
  void wait_until_empty(std::chrono::milliseconds limit) {
    std::unique_lock lock(edge_.empty_mutex);
    edge_.empty.wait_for(lock, limit, [this] { return edge_.open == 0; });
  }

  Edge edge_;
  std::unique_ptr<Reactor> reactor_;
};

Server::Server(ServerOptions options, const Router& router)
    : impl_(std::make_unique<Impl>(std::move(options), router)) {}
Server::~Server() = default;

Status Server::start() { return impl_->start(); }
std::uint16_t Server::port() const { return impl_->port(); }
void Server::drain() { impl_->drain(); }
Status Server::reload_tls() { return impl_->load_tls(); }
ServerStats Server::stats() const { return impl_->stats(); }
bool Server::post(Pool pool, std::function<void()> work) {
  return impl_->post(pool, std::move(work));
}

}  // namespace postern::http
