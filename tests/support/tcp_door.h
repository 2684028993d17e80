#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace postern::test {

/// A server's Unix socket, on a loopback port: for what reaches servers over TCP alone.
class TcpDoor {
 public:
  explicit TcpDoor(std::string socket) : socket_(std::move(socket)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        ::listen(listener_, 64) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
      throw std::runtime_error("no door");
    }
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept(); });
  }
  ~TcpDoor() {
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    ::close(listener_);
    for (auto& thread : threads_) thread.join();
  }
  std::uint16_t port() const { return port_; }
  std::atomic<bool> closed{false};  ///< connections are accepted, and nothing comes

 private:
  void accept() {
    for (;;) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      threads_.emplace_back([this, fd] { carry(fd); });
    }
  }
  void carry(int client) const {
    const int server = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket_.copy(address.sun_path, sizeof address.sun_path - 1);
    const bool open =
        !closed && ::connect(server, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    std::array<pollfd, 2> ends{pollfd{client, POLLIN, 0}, pollfd{server, POLLIN, 0}};
    std::array<char, 8192> bytes{};
    while (open && ::poll(ends.data(), 2, -1) > 0) {
      bool ended = false;
      for (std::size_t i = 0; i < 2; ++i) {
        if (ends[i].revents == 0) continue;
        const auto got = ::recv(ends[i].fd, bytes.data(), bytes.size(), 0);
        const auto to = ends[1 - i].fd;
        ended |= got <= 0 ||
                 ::send(to, bytes.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL) != got;
      }
      if (ended) break;
    }
    ::close(client);
    ::close(server);
  }

  const std::string socket_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::thread acceptor_;
  std::vector<std::thread> threads_;  // of the acceptor, until it has ended
};

}  // namespace postern::test
