#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "http/request_parser.h"
#include "http/router.h"
#include "http/server.h"
#include "http/tls.h"
#include "http/worker_pool.h"

namespace postern::http {

/// What all connections of one server share. Owned by Server, which outlives
/// every attached connection; a detached one never looks here again.
struct Edge {
  Edge(ServerOptions server_options, const Router& server_router)
      : options(std::move(server_options)), router(server_router) {
    limits.max_header_bytes = options.max_header_bytes;
    limits.max_headers = options.max_headers;
    limits.max_body_bytes = options.max_body_bytes;
  }

  WorkerPool* pool(Pool which) const {
    switch (which) {
      case Pool::Inline: return nullptr;
      case Pool::Compute: return pools[0].get();
      case Pool::Database: return pools[1].get();
      case Pool::Outbound: return pools[2].get();
    }
    return nullptr;
  }

  /// Counts one more connection; false when a cap is reached.
  bool admit(const std::string& address);
  void leave(const std::string& address);

  std::shared_ptr<const TlsContext> tls() const {
    const std::lock_guard lock(tls_mutex);
    return tls_context;
  }

  const ServerOptions options;
  const Router& router;
  ParserLimits limits;
  std::array<std::unique_ptr<WorkerPool>, 3> pools;

  std::atomic<bool> draining{false};  // finish what is in flight, take nothing new
  std::atomic<bool> stopping{false};  // close everything now

  // Rare events; what happens on each request is counted per loop instead.
  std::atomic<std::size_t> open{0};
  std::atomic<std::uint64_t> refused{0}, overloads{0}, timeouts{0}, handler_faults{0};

  std::mutex empty_mutex;
  std::condition_variable empty;  // open has become 0

  mutable std::mutex tls_mutex;
  std::shared_ptr<const TlsContext> tls_context;

  std::mutex address_mutex;
  std::unordered_map<std::string, std::size_t> per_address;
};

/// What a connection needs of the reactor thread that owns its socket.
class Loop {
 public:
  static constexpr std::size_t kBufferBytes = 16 * 1024;

  virtual ~Loop() = default;
  /// Makes the socket report again what it is ready for: readable, writable.
  /// Any thread, under the lock of the connection that owns the descriptor.
  virtual void rearm(int fd) = 0;

  // Reactor thread only.
  std::array<char, kBufferBytes> received;
  std::array<char, kBufferBytes> decrypted;

  // Written by the reactor thread, read by Server::stats.
  std::atomic<std::uint64_t> accepted{0}, requests{0}, parse_errors{0};
};

/// Adds one where only one thread writes: cheaper than a locked increment.
inline void bump(std::atomic<std::uint64_t>& counter) {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace postern::http
