#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/secret.h"
#include "crypto/hash.h"

namespace postern::http {

/// One parsed request, complete and within every limit. Header names compare
/// without case. The body is secret until an endpoint has looked at it, since
/// it carries tokens and credentials.
struct Request {
  std::string method;  ///< as sent, case-sensitive (RFC 9110 §9.1)
  std::string path;    ///< before `?`, still percent-encoded, begins with `/`
  std::string query;   ///< after `?`, still encoded; empty when none
  std::vector<std::pair<std::string, std::string>> headers;  ///< in order, repeats kept
  Secret<struct RequestBodyTag> body{SecureBuffer{}};
  std::string peer_address;  ///< numeric, without port
  std::string request_id;    ///< the client's X-Request-Id when well formed, else made here
  std::optional<std::string>
      client_certificate;  ///< PEM of a TLS client certificate, when one was shown
  /// Whether the server's CA file vouches for that certificate.
  bool client_certificate_verified = false;
  bool tls = false;
  /// Set when this run may wait for the database; see ErrorCode::NeedsDatabase.
  bool may_wait_for_database = false;
  /// Set when this run may wait for a call to the outside; see ErrorCode::NeedsOutbound.
  bool may_block_on_outbound = false;
  /// This service's public origin, for links in answers; set by the gate, and
  /// never taken from what the client says.
  std::string public_origin;
  /// Path parameters in the order of the `{}` in the route pattern, decoded.
  std::vector<std::string> parameters;
  /// What this request has used up (a proof's or assertion's id, hashed), so that
  /// it is no replay of itself when it runs again on another pool. Runs of one
  /// request follow each other, never overlap.
  mutable std::vector<crypto::Hash256> used_up;

  /// The value of a header sent exactly once; nothing when absent or repeated.
  std::optional<std::string_view> header(std::string_view name) const;
  std::size_t count(std::string_view name) const;
  /// All values of a header that is a list, joined as one (RFC 9110 §5.3); nothing when absent.
  std::optional<std::string> list(std::string_view name) const;

  ~Request();  ///< wipes the Authorization header and others that carry secrets
  Request() = default;
  Request(Request&&) noexcept = default;
  Request& operator=(Request&&) noexcept = default;
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
};

/// What goes back. `Content-Length`, `Date`, `X-Request-Id` and `Connection`
/// are added by the server. A header name or value with CR, LF or NUL is
/// refused: set_header throws std::logic_error, so response splitting is a bug
/// that shows, never a response.
class Reply {
 public:
  explicit Reply(int status = 200) : status_(status) {}
  static Reply json(int status, std::string body);  ///< application/json
  static Reply text(int status, std::string body);  ///< text/plain; charset=utf-8

  Reply& set_header(std::string_view name, std::string_view value);
  Reply& no_store();  ///< Cache-Control: no-store, Pragma: no-cache (RFC 6749 §5.1)
  Reply& body(std::string text) {
    body_ = std::move(text);
    return *this;
  }
  Reply& close() {
    close_ = true;
    return *this;
  }

  int status() const noexcept { return status_; }
  const std::vector<std::pair<std::string, std::string>>& headers() const noexcept {
    return headers_;
  }
  const std::string& body() const noexcept { return body_; }
  bool closes() const noexcept { return close_; }
  std::optional<std::string_view> header(std::string_view name) const;

  ~Reply();  ///< wipes the body, which may carry tokens
  Reply(Reply&&) noexcept = default;
  Reply& operator=(Reply&&) noexcept = default;
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;

 private:
  int status_;
  std::vector<std::pair<std::string, std::string>> headers_;
  std::string body_;
  bool close_ = false;
};

/// The one-shot way to answer a request, from any thread, at any later time.
/// Keeps the order of pipelined requests. Dropping it unanswered sends a 500.
class Responder {
 public:
  class Sink {
   public:
    virtual ~Sink() = default;
    virtual void deliver(Reply reply) noexcept = 0;
  };

  explicit Responder(std::unique_ptr<Sink> sink) : sink_(std::move(sink)) {}
  Responder(Responder&&) noexcept = default;
  Responder& operator=(Responder&&) noexcept = default;
  ~Responder() {
    if (sink_) sink_->deliver(Reply(500));
  }
  void send(Reply reply) noexcept {
    if (const auto sink = std::exchange(sink_, nullptr)) sink->deliver(std::move(reply));
  }

 private:
  std::unique_ptr<Sink> sink_;
};

/// Answers now or later through the responder. Whatever it throws becomes a
/// plain 500 and one log line with the exception's type.
/// Takes shared ownership of the request because an answer may come from
/// another pool; the request is immutable after dispatch but for
/// may_block_on_outbound, which only the pools set.
using Handler = std::function<void(std::shared_ptr<Request>, Responder)>;

/// Where a handler runs. Pools are bounded; a full one answers 503 with
/// Retry-After, and no pool's trouble delays another's requests.
enum class Pool {
  Inline,    ///< on the IO thread: constant-time answers from memory only
  Compute,   ///< signatures and policy; touches no network or database itself
  Database,  ///< may wait for PostgreSQL
  Outbound,  ///< may wait for calls to the outside
};

}  // namespace postern::http
