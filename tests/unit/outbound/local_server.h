#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace postern::outbound {

/// Answers one connection after another on a free loopback port, in a thread of
/// its own, with whatever bytes the test wants.
class LocalServer {
 public:
  /// Writes to a connection whose request head has been read.
  class Connection {
   public:
    explicit Connection(int fd) : fd_(fd) {}
    bool send(std::string_view text) const {
      while (!text.empty()) {
        const auto sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
        if (sent <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(sent));
      }
      return true;
    }
    /// Whether the client has gone, waiting so long for it.
    bool gone_within(int milliseconds) const {
      pollfd waiting{fd_, POLLIN, 0};
      char byte = 0;
      return ::poll(&waiting, 1, milliseconds) == 1 && ::recv(fd_, &byte, 1, 0) <= 0;
    }
    void wait_until_gone() const {
      while (!gone_within(60'000)) {
      }
    }

   private:
    int fd_;
  };
  using Handler = std::function<void(const Connection&, const std::string& head)>;

  explicit LocalServer(Handler handler, const char* address = "127.0.0.1")
      : handler_(std::move(handler)), address_(address) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in bound{};
    bound.sin_family = AF_INET;
    socklen_t length = sizeof bound;
    if (inet_pton(AF_INET, address, &bound.sin_addr) != 1 ||
        ::bind(listener_, reinterpret_cast<sockaddr*>(&bound), length) != 0 ||
        ::listen(listener_, 16) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&bound), &length) != 0) {
      throw std::runtime_error("cannot listen on loopback");
    }
    port_ = ntohs(bound.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  explicit LocalServer(std::string reply)
      : LocalServer([reply = std::move(reply)](const Connection& connection, const std::string&) {
          connection.send(reply);
        }) {}
  ~LocalServer() {
    ::shutdown(listener_, SHUT_RDWR);  // wakes accept()
    thread_.join();
    ::close(listener_);
  }
  LocalServer(const LocalServer&) = delete;
  LocalServer& operator=(const LocalServer&) = delete;

  unsigned port() const { return port_; }
  std::string url(const std::string& path = "/") const {
    return "http://" + address_ + ":" + std::to_string(port_) + path;
  }
  /// The heads of the requests so far; one a connection.
  std::vector<std::string> heads() const {
    const std::lock_guard lock(mutex_);
    return heads_;
  }

 private:
  void serve() {
    while (true) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      std::string head;
      char buffer[4096];
      while (head.find("\r\n\r\n") == std::string::npos) {
        const auto received = ::recv(fd, buffer, sizeof buffer, 0);
        if (received <= 0) break;
        head.append(buffer, static_cast<std::size_t>(received));
      }
      {
        const std::lock_guard lock(mutex_);
        heads_.push_back(head);
      }
      handler_(Connection(fd), head);
      ::close(fd);
    }
  }

  const Handler handler_;
  const std::string address_;
  int listener_ = -1;
  unsigned port_ = 0;
  mutable std::mutex mutex_;
  std::vector<std::string> heads_;
  std::thread thread_;
};

}  // namespace postern::outbound
