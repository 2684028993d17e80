#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "token/json.h"

namespace postern::test {

/// An HTTP server on a free loopback port that plays Open Policy Agent's REST
/// data API, in a thread of its own: one connection after another, each closed
/// after its reply. Or it answers whatever bytes a test wants.
class OpaServer {
 public:
  using Json = token::Json;
  static constexpr const char* kPath = "/v1/data/postern/authz";

  /// The policy, in C++ in the place of Rego; null: the decision is undefined.
  using Policy = std::function<Json(const Json& input)>;
  /// Bytes for a request; nothing: silence until the client has gone.
  struct Raw {
    std::function<std::optional<std::string>(const std::string& request)> reply;
  };

  static std::string reply(const std::string& body, const char* status = "200 OK",
                           const char* more = "Content-Type: application/json\r\n") {
    return std::string("HTTP/1.1 ") + status + "\r\n" + more +
           "Connection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
           body;
  }
  static Raw always(std::string bytes) {
    return {[bytes = std::move(bytes)](const std::string&) { return std::optional(bytes); }};
  }
  static Raw silent() {
    return {[](const std::string&) { return std::optional<std::string>(); }};
  }

  explicit OpaServer(Policy policy)
      : OpaServer(Raw{[policy = std::move(policy)](const std::string& request) {
          return std::optional(answer(policy, request));
        }}) {}
  explicit OpaServer(Raw raw) : raw_(std::move(raw)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in bound{};
    bound.sin_family = AF_INET;
    bound.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof bound;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&bound), length) != 0 ||
        ::listen(listener_, 64) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&bound), &length) != 0) {
      throw std::runtime_error("cannot listen on loopback");
    }
    port_ = ntohs(bound.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~OpaServer() {
    stopping_ = true;
    ::shutdown(listener_, SHUT_RDWR);  // wakes accept()
    thread_.join();
    ::close(listener_);
  }
  OpaServer(const OpaServer&) = delete;
  OpaServer& operator=(const OpaServer&) = delete;

  std::string url(const std::string& path = kPath) const {
    return "http://127.0.0.1:" + std::to_string(port_) + path;
  }
  /// The requests so far, head and body.
  std::vector<std::string> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  std::size_t asked() const { return requests().size(); }
  static Json input_of(const std::string& request) {
    const auto body = Json::parse(request.substr(request.find("\r\n\r\n") + 4), nullptr, false);
    return body.is_object() && body.contains("input") ? body.at("input") : Json();
  }

 private:
  static std::string answer(const Policy& policy, const std::string& request) {
    if (request.rfind(std::string("POST ") + kPath + " HTTP/1.1\r\n", 0) != 0) {
      return reply(R"({"code":"not_found"})", "404 Not Found");
    }
    const auto input = input_of(request);
    if (input.is_null() || request.find("\r\nContent-Type: application/json\r\n") == request.npos) {
      return reply(R"({"code":"invalid_parameter"})", "400 Bad Request");
    }
    const auto result = policy(input);
    Json body{{"decision_id", "4ca636c1-55e4-417a-b1d8-4aceb67960d1"}};
    if (!result.is_null()) body["result"] = result;
    return reply(body.dump());
  }

  void serve() {
    while (true) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      const auto request = read(fd);
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(request);
      }
      if (const auto bytes = raw_.reply(request)) {
        for (std::size_t sent = 0; sent < bytes->size();) {
          const auto n = ::send(fd, bytes->data() + sent, bytes->size() - sent, MSG_NOSIGNAL);
          if (n <= 0) break;
          sent += static_cast<std::size_t>(n);
        }
      } else {
        pollfd waiting{fd, POLLIN, 0};
        while (!stopping_ && ::poll(&waiting, 1, 20) == 0) {
        }
      }
      ::close(fd);
    }
  }
  static std::string read(int fd) {
    std::string request;
    std::size_t expected = std::string::npos;  // of head and body, once the head is there
    char buffer[4096];
    while (request.size() < expected) {
      const auto received = ::recv(fd, buffer, sizeof buffer, 0);
      if (received <= 0) break;
      request.append(buffer, static_cast<std::size_t>(received));
      const auto head = request.find("\r\n\r\n");
      if (head == request.npos) continue;
      const auto length = request.find("Content-Length: ");
      expected =
          head + 4 + (length < head ? std::strtoul(request.c_str() + length + 16, nullptr, 10) : 0);
    }
    return request;
  }

  const Raw raw_;
  int listener_ = -1;
  unsigned port_ = 0;
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

}  // namespace postern::test
