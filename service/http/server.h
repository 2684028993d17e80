#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/result.h"
#include "http/message.h"
#include "http/router.h"

namespace postern::http {

struct TlsOptions {
  std::filesystem::path certificate_file;  ///< PEM chain
  std::filesystem::path key_file;          ///< PEM private key
  std::optional<std::filesystem::path>
      client_ca_file;                       ///< verify client certificates against these
  bool request_client_certificate = false;  ///< ask, but do not require
  /// With a CA file: also take certificates it does not vouch for, marked as such
  /// (self_signed_tls_client_auth). Asks, but does not require.
  bool accept_unverified_client_certificate = false;
};

/// Defaults are for production. All bounds are hard.
struct ServerOptions {
  std::string address = "127.0.0.1";
  std::uint16_t port = 0;  ///< 0: any free port, see Server::port()
  std::optional<TlsOptions> tls;
  /// Which peers are answered, by numeric address; unset: all. Others are
  /// disconnected before anything they send is read.
  std::function<bool(std::string_view address)> takes_peer;

  int io_threads = 2;
  int compute_threads = 2;
  int database_threads = 8;
  int outbound_threads = 16;
  std::size_t pool_queue = 1024;  ///< waiting requests per pool before 503

  std::chrono::milliseconds header_timeout{10'000};  ///< first byte to end of headers
  std::chrono::milliseconds body_timeout{30'000};
  std::chrono::milliseconds idle_timeout{75'000};
  std::chrono::milliseconds write_timeout{30'000};  ///< without progress
  std::chrono::milliseconds tls_handshake_timeout{10'000};
  std::chrono::milliseconds drain_timeout{20'000};

  std::size_t max_connections = 10'000;  ///< also held below RLIMIT_NOFILE, checked at start
  std::size_t max_connections_per_address = 10'000;
  std::size_t max_header_bytes = 32 * 1024;
  std::size_t max_headers = 100;
  std::size_t max_body_bytes = 1024 * 1024;
  std::size_t max_pipelined = 64;  ///< requests of one connection not yet answered
  /// Reply bytes waiting for one client, beyond what the kernel takes. A client
  /// that passes it is cut off, so it also bounds what one reply may hold.
  std::size_t max_unsent_bytes = 4 * 1024 * 1024;
};

/// Counters for metrics and tests; relaxed snapshot.
struct ServerStats {
  std::uint64_t connections_accepted = 0, connections_open = 0, connections_refused = 0;
  std::uint64_t requests = 0, parse_errors = 0, overloads = 0, timeouts = 0, handler_faults = 0;
};

/// HTTP/1.1 over Pistache's TCP layer and Beast's parser (docs/architecture.md).
class Server {
 public:
  /// The router must outlive the server.
  Server(ServerOptions options, const Router& router);
  ~Server();  ///< stops without draining when still running

  /// Binds and starts all threads. Errors: Unavailable with what to change
  /// (port in use, unreadable certificate, descriptor limit below max_connections).
  Status start();
  std::uint16_t port() const;

  /// Stops accepting, lets requests in flight finish, closes idle connections,
  /// returns when all are gone or drain_timeout has passed.
  void drain();

  /// Reads certificate and key again; keeps the old ones on error.
  Status reload_tls();

  ServerStats stats() const;

  /// Queues work on a pool; false when its queue is full. Inline means Compute
  /// here: the IO threads have no queue. Work not begun when the server stops
  /// is dropped.
  bool post(Pool pool, std::function<void()> work);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern::http
