#pragma once

// A server with toy routes on a free port of the loopback interface.

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "http/server.h"
#include "support/tsan_suppressions.h"

namespace postern::test {

/// Responders that wait for the test to say when.
class Held {
 public:
  void add(http::Responder responder) {
    const std::lock_guard lock(mutex_);
    responders_.push_back(std::move(responder));
    changed_.notify_all();
  }
  /// Blocks until so many have been added, and takes them all.
  std::vector<http::Responder> take(std::size_t count) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(20),
                           [&] { return responders_.size() >= count; })) {
      throw std::runtime_error("handler was not reached");
    }
    return std::exchange(responders_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<http::Responder> responders_;
};

/// Lets handlers block until it is opened.
class Gate {
 public:
  ~Gate() { open(); }
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void wait_for(int count) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(20), [&] { return waiting_ >= count; })) {
      throw std::runtime_error("handler was not reached");
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool open_ = false;
};

/// Small limits, so that tests reach them, and long time-outs, so that only
/// tests about time-outs do.
inline http::ServerOptions edge_options() {
  http::ServerOptions options;
  options.max_connections = 500;
  options.max_connections_per_address = 500;
  options.max_header_bytes = 8 * 1024;
  options.max_body_bytes = 64 * 1024;
  options.max_pipelined = 16;
  options.header_timeout = std::chrono::minutes(2);
  options.body_timeout = std::chrono::minutes(2);
  options.idle_timeout = std::chrono::minutes(2);
  options.write_timeout = std::chrono::minutes(2);
  options.tls_handshake_timeout = std::chrono::minutes(2);
  return options;
}

class EdgeServer {
 public:
  explicit EdgeServer(http::ServerOptions options = edge_options()) {
    using http::Pool;
    using http::Reply;
    using http::Request;
    using http::Responder;
    const auto echo = [](std::shared_ptr<Request> request, Responder responder) {
      responder.send(Reply::text(
          200, request->body.expose([](ByteView body) { return std::string(as_text(body)); })));
    };
    const auto path = [](std::shared_ptr<Request> request, Responder responder) {
      responder.send(Reply::text(200, request->path + '?' + request->query));
    };
    router_.add("GET", "/", Pool::Inline, path);
    router_.add("GET", "/inline/{}", Pool::Inline, path);
    router_.add("GET", "/compute/{}", Pool::Compute, path);
    router_.add("POST", "/echo", Pool::Inline, echo);
    router_.add("POST", "/compute-echo", Pool::Compute, echo);
    router_.add("GET", "/empty", Pool::Inline,
                [](auto, auto responder) { responder.send(Reply(204)); });
    router_.add("GET", "/close", Pool::Inline, [](auto, auto responder) {
      auto reply = Reply::text(200, "bye");
      reply.close();
      responder.send(std::move(reply));
    });
    router_.add("GET", "/large", Pool::Inline, [](auto, auto responder) {
      responder.send(Reply::text(200, std::string(100'000, 'x')));
    });
    router_.add("GET", "/compute-large", Pool::Compute, [](auto, auto responder) {
      responder.send(Reply::text(200, std::string(100'000, 'x')));
    });
    router_.add("GET", "/held", Pool::Inline,
                [this](auto, auto responder) { held.add(std::move(responder)); });
    router_.add("GET", "/slow", Pool::Database, [this](auto, auto responder) {
      gate.pass();
      responder.send(Reply::text(200, "slow"));
    });
    router_.add("GET", "/t/slow", Pool::Database, [this](auto, auto responder) {
      gate.pass();
      responder.send(Reply::text(200, "slow"));
    });
    router_.add("GET", "/outbound", Pool::Outbound, [](auto request, auto responder) {
      responder.send(Reply::text(200, request->may_block_on_outbound ? "may block" : "may not"));
    });
    router_.add("GET", "/certificate", Pool::Inline, [](auto request, auto responder) {
      responder.send(Reply::text(200, request->client_certificate.value_or("none")));
    });
    router_.add("GET", "/verified", Pool::Inline, [](auto request, auto responder) {
      responder.send(Reply::text(200, !request->client_certificate           ? "none"
                                      : request->client_certificate_verified ? "verified"
                                                                             : "unverified"));
    });
    router_.add("GET", "/peer", Pool::Inline, [](auto request, auto responder) {
      responder.send(Reply::text(200, request->peer_address + (request->tls ? " tls" : " plain")));
    });
    router_.add("GET", "/throw-int", Pool::Inline, [](auto, auto) { throw 42; });
    router_.add("GET", "/throw", Pool::Compute,
                [](auto, auto) { throw std::runtime_error("canary-what"); });
    router_.add("GET", "/api/throw", Pool::Inline,
                [](auto, auto) { throw std::runtime_error("canary-what"); });
    router_.add("GET", "/answer-and-throw", Pool::Inline, [](auto, auto responder) {
      responder.send(Reply::text(200, "answered"));
      throw std::runtime_error("canary-what");
    });
    router_.add("GET", "/silent", Pool::Compute, [](auto, auto) {});
    server_.emplace(std::move(options), router_);
    const auto started = server_->start();
    if (!started.ok()) throw std::runtime_error(started.error().detail);
  }

  ~EdgeServer() { gate.open(); }

  http::Server& operator*() { return *server_; }
  http::Server* operator->() { return &*server_; }
  std::uint16_t port() const { return server_->port(); }

  /// Polls the counters until they are as expected; false when they never are.
  template <class Expected>
  bool eventually(Expected expected) const {
    for (int i = 0; i < 2000; ++i) {
      if (expected(server_->stats())) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  Held held;
  Gate gate;

 private:
  http::Router router_;
  std::optional<http::Server> server_;
};

}  // namespace postern::test
