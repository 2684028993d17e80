#pragma once

// Clients that send exactly the bytes a test wants, and see exactly what comes back.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace postern::test {

/// How long a test waits for what must happen; far more than it ever takes.
constexpr int kPatienceMillis = 20'000;

/// One reply off the wire. Status 0: the connection ended instead.
struct WireReply {
  int status = 0;
  std::string head;
  std::string body;

  std::string header(std::string_view name) const {
    const auto lower = [](std::string text) {
      for (auto& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
      return text;
    };
    const auto at = lower(head).find("\r\n" + lower(std::string(name)) + ": ");
    if (at == std::string::npos) return "(none)";
    const auto begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
};

class RawClient {
 public:
  explicit RawClient(std::uint16_t port, int receive_buffer = 0) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_buffer > 0) {
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  virtual ~RawClient() { close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool connected() const { return connected_; }
  int fd() const { return fd_; }

  /// False when the other side has gone.
  virtual bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  /// The next reply; `head_only` for replies to HEAD. Interim 1xx count as replies.
  WireReply reply(bool head_only = false) {
    WireReply reply;
    std::size_t end = 0;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
      if (!fill()) return reply;
    }
    reply.head = buffer_.substr(0, end + 2);
    buffer_.erase(0, end + 4);
    reply.status = std::atoi(reply.head.substr(9, 3).c_str());
    const auto length = reply.header("Content-Length");
    const auto size = head_only || length == "(none)" ? 0u : std::stoul(length);
    while (buffer_.size() < size) {
      if (!fill()) {
        reply.status = 0;
        return reply;
      }
    }
    reply.body = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return reply;
  }

  WireReply ask(std::string_view bytes) { return send(bytes) ? reply() : WireReply{}; }
  WireReply get(std::string_view path) {
    return ask("GET " + std::string(path) + " HTTP/1.1\r\nHost: x\r\n\r\n");
  }

  /// Everything up to the end of the stream.
  std::string rest() {
    while (fill()) {
    }
    return std::exchange(buffer_, {});
  }
  /// The server has closed, cleanly or by reset, and sent nothing more.
  bool at_end() { return rest().empty(); }
  bool was_reset() const { return reset_; }

  /// Whether anything arrives within the time; for "nothing must come".
  bool readable_within(int millis) {
    pollfd entry{fd_, POLLIN, 0};
    return !buffer_.empty() || ::poll(&entry, 1, millis) > 0;
  }

  void finish_sending() { ::shutdown(fd_, SHUT_WR); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  /// Ends with RST instead of FIN.
  void reset() {
    const linger hard{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close();
  }

 protected:
  virtual long receive(char* to, std::size_t size) { return ::recv(fd_, to, size, 0); }

  bool fill() {
    pollfd entry{fd_, POLLIN, 0};
    if (!pending() && ::poll(&entry, 1, kPatienceMillis) <= 0) {
      throw std::runtime_error("nothing received in time");
    }
    char bytes[16 * 1024];
    const auto size = receive(bytes, sizeof bytes);
    if (size < 0 && errno == ECONNRESET) reset_ = true;
    if (size <= 0) return false;
    buffer_.append(bytes, static_cast<std::size_t>(size));
    return true;
  }
  virtual bool pending() const { return false; }

  int fd_ = -1;
  bool connected_ = false;
  bool reset_ = false;
  std::string buffer_;
};

/// The same through TLS; certificates are not verified.
class TlsClient : public RawClient {
 public:
  using Setup = void (*)(SSL_CTX*);

  explicit TlsClient(std::uint16_t port, const std::string& certificate = {},
                     const std::string& key = {}, Setup setup = nullptr)
      : RawClient(port), context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free) {
    std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without MSG_NOSIGNAL
    if (setup != nullptr) setup(context_.get());
    if (!certificate.empty()) {
      SSL_CTX_use_certificate_chain_file(context_.get(), certificate.c_str());
      SSL_CTX_use_PrivateKey_file(context_.get(), key.c_str(), SSL_FILETYPE_PEM);
    }
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), fd_);
    const timeval patience{kPatienceMillis / 1000, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    secure_ = SSL_connect(ssl_.get()) == 1;
  }

  bool secure() const { return secure_; }
  SSL* ssl() { return ssl_.get(); }

  bool send(std::string_view bytes) override {
    return bytes.empty() || SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) > 0;
  }

 protected:
  long receive(char* to, std::size_t size) override {
    return SSL_read(ssl_.get(), to, static_cast<int>(size));
  }
  bool pending() const override { return SSL_pending(ssl_.get()) > 0; }

 private:
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context_;
  std::unique_ptr<SSL, void (*)(SSL*)> ssl_{nullptr, SSL_free};
  bool secure_ = false;
};

}  // namespace postern::test
