#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace postern::test {

struct SeenRequest {
  std::string method;
  std::string target;
  std::string head;  ///< request line and headers as sent
  std::string body;

  /// Value of a header; empty when absent. `name` in lower case.
  std::string header(std::string_view name) const {
    std::size_t at = head.find("\r\n");
    while (at != head.npos && at + 2 < head.size()) {
      at += 2;
      const auto end = std::min(head.find("\r\n", at), head.size());
      auto line = head.substr(at, end - at);
      const auto colon = line.find(':');
      std::string key = line.substr(0, colon);
      for (auto& c : key) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      if (key == name && colon != line.npos) {
        const auto first = line.find_first_not_of(' ', colon + 1);
        return first == line.npos ? "" : line.substr(first);
      }
      at = end == head.size() ? head.npos : end;
    }
    return {};
  }
};

/// An HTTP server that answers with whatever bytes a test wants, well formed
/// or not. One request a connection. Listens on a free port of 127.0.0.1.
class FakeServer {
 public:
  using Handler = std::function<std::string(const SeenRequest&)>;

  explicit FakeServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (listener_ < 0 || ::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(listener_, 16) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::runtime_error("cannot listen");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }

  ~FakeServer() {
    stopping_ = true;
    ::shutdown(listener_, SHUT_RDWR);  // wakes accept()
    thread_.join();
    ::close(listener_);
  }
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

  std::vector<SeenRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }

 private:
  void serve() {
    while (!stopping_) {
      const int peer = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (peer < 0) continue;
      SeenRequest request;
      if (read_request(peer, request)) {
        {
          const std::lock_guard lock(mutex_);
          seen_.push_back(request);
        }
        const auto reply = handler_(request);
        std::string_view rest(reply);
        while (!rest.empty()) {
          const auto count = ::send(peer, rest.data(), rest.size(), MSG_NOSIGNAL);
          if (count <= 0) break;
          rest.remove_prefix(static_cast<std::size_t>(count));
        }
      }
      ::shutdown(peer, SHUT_WR);
      ::close(peer);
    }
  }

  static bool read_request(int peer, SeenRequest& request) {
    std::string data;
    std::size_t head_end = data.npos;
    std::size_t wanted = data.npos;
    char buffer[16384];
    while (data.size() < wanted) {
      const auto count = ::recv(peer, buffer, sizeof buffer, 0);
      if (count <= 0) return false;
      data.append(buffer, static_cast<std::size_t>(count));
      if (head_end != data.npos) continue;
      head_end = data.find("\r\n\r\n");
      if (head_end == data.npos) continue;
      request.head = data.substr(0, head_end);
      const auto length = request.header("content-length");
      wanted = head_end + 4 + std::strtoul(length.c_str(), nullptr, 10);
    }
    request.body = data.substr(head_end + 4);
    const auto first_space = request.head.find(' ');
    request.method = request.head.substr(0, first_space);
    request.target = request.head.substr(first_space + 1,
                                         request.head.find(' ', first_space + 1) - first_space - 1);
    return true;
  }

  Handler handler_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::vector<SeenRequest> seen_;
  std::thread thread_;
};

/// A complete reply. `extra` holds further header lines, each with its CRLF.
inline std::string http_reply(int status, const std::string& type, const std::string& body,
                              const std::string& extra = {}) {
  return "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Type: " + type +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n" +
         extra + "\r\n" + body;
}
inline std::string json_reply(int status, const std::string& body, const std::string& extra = {}) {
  return http_reply(status, "application/json", body, extra);
}
inline std::string problem_reply(int status, const std::string& body) {
  return http_reply(status, "application/problem+json", body);
}

}  // namespace postern::test
