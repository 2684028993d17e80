#pragma once

#include <memory>
#include <string>
#include <vector>

#include "http/edge.h"

namespace postern::http {

/// Pistache's listener and reactor threads, with connections of ours on them.
///
/// Of Pistache this uses the accept thread, the epoll loops and the transfer of
/// accepted sockets between them. The transport is derived from Pistache's own
/// (Listener::setTransportFactory), and takes over what happens to a socket
/// that is ready, because Tcp::Transport spins on a client that does not read,
/// answers by descriptor number alone, reads without bound, and lets its own
/// exceptions end the process (docs/threat-model.md, HTTP edge).
class Reactor {
 public:
  explicit Reactor(Edge& edge);
  ~Reactor();  ///< closes every connection and joins all threads

  /// Errors: Unavailable when the address cannot be bound.
  Status listen();
  std::uint16_t port() const;

  /// New clients are refused by the kernel from now on.
  void stop_accepting();
  /// Makes every connection look at the edge's flags now, not at the next tick.
  void kick();

  std::vector<const Loop*> loops() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::http
