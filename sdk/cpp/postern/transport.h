#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/secret.h"
#include "postern/error.h"
#include "postern/secret_bytes.h"

namespace postern::sdk {

struct ClientCredentials {
  std::string id;
  ClientSecret secret;
};

struct TransportOptions {
  /// Where posternd listens. `https`, or `http` to a loopback address only.
  std::string url = "http://127.0.0.1:8711";
  std::string ca_file;  ///< PEM; empty for the system's authorities
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds timeout{60'000};  ///< for the whole call
  std::size_t max_answer_bytes = 8 * 1024 * 1024;
};

struct HttpRequest {
  std::string method;
  std::string target;  ///< path and query below the URL, begins with `/`
  std::vector<std::pair<std::string, std::string>> headers;  ///< none of them secret
  std::string content_type;                                  ///< empty: no body
  SecretBytes body;
  const BearerToken* bearer = nullptr;
  const ClientCredentials* client = nullptr;  ///< HTTP Basic (RFC 6749 §2.3.1)
};

struct HttpAnswer {
  int status = 0;
  std::string content_type;  ///< lower case, without parameters
  std::string etag;
  std::string request_id;
  std::string retry_after;
  SecretBytes body;
};

/// HTTP as this product needs it, on libcurl: no redirects (they would carry
/// credentials elsewhere), no proxy for loopback, no .netrc, no cookies,
/// bounded answers, TLS 1.2 or later. One call at a time: not thread-safe.
class Transport {
 public:
  /// Errors: Usage, when the URL may not be used.
  static Result<Transport> create(TransportOptions options);

  /// Errors: Unreachable, BrokenAnswer. Any status below 300 or above 399 is an answer.
  Result<HttpAnswer> send(const HttpRequest& request);

  const std::string& url() const noexcept { return options_.url; }

 private:
  struct Handle;
  struct HandleDeleter {
    void operator()(Handle* handle) const noexcept;
  };
  Transport(TransportOptions options, std::unique_ptr<Handle, HandleDeleter> handle);

  TransportOptions options_;
  std::unique_ptr<Handle, HandleDeleter> handle_;
};

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
std::string percent_encode(std::string_view text);

/// Appends `name=value` in application/x-www-form-urlencoded to a form or query.
void append_form(SecretBytes& form, std::string_view name, std::string_view value);

}  // namespace postern::sdk
