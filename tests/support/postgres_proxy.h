#pragma once

// Stands between a service and its PostgreSQL, and changes statements on their way:
// what a mistake in one of ours would send.

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "core/descriptor.h"
#include "support/postgres_fixture.h"

namespace postern::test {

/// A Unix socket in front of another one. Speaks as much of PostgreSQL's protocol 3
/// as it takes to rewrite the text of what is parsed (message `P`) or sent as it is
/// (`Q`); all else passes unseen. Connections end with the proxy.
class PostgresProxy {
 public:
  /// Called from several threads.
  using Rewrite = std::function<std::string(std::string sql)>;

  /// In front of the server of a connection string that begins with `host='…'`.
  PostgresProxy(const std::string& conninfo, Rewrite rewrite) : rewrite_(std::move(rewrite)) {
    constexpr std::string_view kHost = "host='";
    const auto end = conninfo.find('\'', kHost.size());
    if (!conninfo.starts_with(kHost) || end == conninfo.npos) {
      throw std::logic_error("not a connection string of the test's server");
    }
    server_ = conninfo.substr(kHost.size(), end - kHost.size()) + kSocket;
    conninfo_ = "host='" + directory_.path().string() + conninfo.substr(end);
    listener_ = bound_socket(directory_.path().string() + kSocket);
    accepting_ = std::jthread([this] { accept_all(); });
  }
  ~PostgresProxy() {
    stopping_ = true;
    accepting_.join();
    for (auto& relay : relays_) relay.join();
  }
  PostgresProxy(const PostgresProxy&) = delete;
  PostgresProxy& operator=(const PostgresProxy&) = delete;

  const std::string& conninfo() const noexcept { return conninfo_; }

 private:
  static constexpr const char* kSocket = "/.s.PGSQL.5432";
  static constexpr int kPollMilliseconds = 20;

  static sockaddr_un address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) throw std::runtime_error("socket path too long");
    path.copy(address.sun_path, path.size());
    return address;
  }
  static Descriptor bound_socket(const std::string& path) {
    Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto address = address_of(path);
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(socket.get(), SOMAXCONN) != 0) {
      throw std::runtime_error("proxy cannot listen");
    }
    return socket;
  }
  static Descriptor connected_socket(const std::string& path) {
    Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto address = address_of(path);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      return Descriptor();
    }
    return socket;
  }

  void accept_all() {
    while (!stopping_) {
      pollfd waiting{listener_.get(), POLLIN, 0};
      if (::poll(&waiting, 1, kPollMilliseconds) <= 0) continue;
      Descriptor client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      Descriptor server = connected_socket(server_);
      if (client.get() < 0 || server.get() < 0) continue;
      relays_.emplace_back([this, client = std::move(client), server = std::move(server)] {
        relay(client.get(), server.get());
      });
    }
  }

  void relay(int client, int server) {
    std::string from_client;
    bool started = false;
    std::array<char, 65536> chunk{};
    while (!stopping_) {
      std::array<pollfd, 2> waiting{pollfd{client, POLLIN, 0}, pollfd{server, POLLIN, 0}};
      if (::poll(waiting.data(), waiting.size(), kPollMilliseconds) < 0) return;
      if (waiting[1].revents != 0) {
        const auto size = ::recv(server, chunk.data(), chunk.size(), 0);
        if (size <= 0 || !send_all(client, {chunk.data(), static_cast<std::size_t>(size)})) return;
      }
      if (waiting[0].revents != 0) {
        const auto size = ::recv(client, chunk.data(), chunk.size(), 0);
        if (size <= 0) return;
        from_client.append(chunk.data(), static_cast<std::size_t>(size));
        if (!send_all(server, whole_messages(from_client, started))) return;
      }
    }
  }

  /// Takes what has arrived whole; the first message of a connection has no type.
  std::string whole_messages(std::string& arrived, bool& started) const {
    std::string out;
    for (;;) {
      const std::size_t type = started ? 1 : 0;
      if (arrived.size() < type + 4) return out;
      const std::size_t size = type + length_at(arrived, type);
      if (arrived.size() < size) return out;
      const auto message = arrived.substr(0, size);
      arrived.erase(0, size);
      out += started ? rewritten(message) : message;
      started = true;
    }
  }

  std::string rewritten(const std::string& message) const {
    // `P`: name, text, types of parameters; `Q`: text. Names and texts end with NUL.
    constexpr std::size_t kHeader = 5;
    if (message[0] != 'P' && message[0] != 'Q') return message;
    const auto begin = message[0] == 'P' ? message.find('\0', kHeader) + 1 : kHeader;
    const auto end = message.find('\0', begin);
    const auto body = message.substr(kHeader, begin - kHeader) +
                      rewrite_(message.substr(begin, end - begin)) + message.substr(end);
    return message[0] + number(body.size() + 4) + body;
  }

  static std::size_t length_at(const std::string& bytes, std::size_t at) {
    std::size_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    }
    return value;
  }
  static std::string number(std::size_t value) {
    std::string out;
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xFF);
    return out;
  }

  static bool send_all(int to, std::string_view bytes) {
    while (!bytes.empty()) {
      const auto sent = ::send(to, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  Rewrite rewrite_;
  TempDirectory directory_;
  std::string server_, conninfo_;
  Descriptor listener_;
  std::atomic<bool> stopping_{false};
  std::vector<std::jthread> relays_;
  std::jthread accepting_;
};

}  // namespace postern::test
