#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "outbound/address.h"
#include "outbound/form.h"

namespace postern::outbound {

struct FetchRequest {
  std::string url;
  std::string accept = "application/json";
};

struct PostRequest {
  std::string url;
  FormBody body;
  std::optional<Authorization> authorization = std::nullopt;
  std::string content_type = {};  ///< empty: application/x-www-form-urlencoded
  /// Shorter than the policy's, for all of it.
  std::optional<std::chrono::milliseconds> timeout = std::nullopt;
  std::string accept = "application/json";
  /// Besides the others. Our own words and ids, without line breaks; nothing secret.
  std::vector<std::pair<std::string, std::string>> headers = {};
};

struct FetchReply {
  int status = 0;            ///< redirects are not followed: 3xx arrives here too
  std::string content_type;  ///< as sent, with parameters; empty when absent
  /// `max-age` of Cache-Control; zero for `no-store` and `no-cache`; nothing when
  /// the server does not say.
  std::optional<std::chrono::seconds> cache_max_age;
  std::string body;
};

/// The only way out of the service. What is built on it (a key-set cache, for
/// example) takes a Fetcher&, so that its tests decide what the world answers.
class Fetcher {
 public:
  virtual ~Fetcher() = default;
  /// One GET, no retry. Errors: Unavailable for whatever went wrong, always with
  /// the same detail, so that a caller's choice of URL tells it nothing about the
  /// network; the diagnostic names the reason. Thread-safe.
  virtual Result<FetchReply> get(const FetchRequest& request) = 0;
  /// One form, or other body, sent by POST, likewise: same addresses, bounds and errors, no retry.
  virtual Result<FetchReply> post(const PostRequest& request) = 0;
};

/// Where a fetch may go.
struct FetchPolicy {
  /// For development: http and loopback addresses, but only when the URL's host
  /// is itself a loopback literal or `localhost`.
  bool allow_insecure_loopback = false;
  /// Networks that are not public but may be dialled over https: on-premise
  /// identity providers. Everything else that is not public is refused.
  std::vector<Network> allow_private;
  /// PEM file of authorities trusted besides the system's; empty for none.
  std::string ca_file;
  std::size_t max_body_bytes = 256 * 1024;
  std::chrono::milliseconds timeout{5000};  ///< for all of it: look-up to last byte
};

/// Whether a URL may be fetched as far as its text tells: for configuration time.
/// https (http: see the policy), visible ASCII, no user info, no fragment, a
/// host that is a DNS name or a strict address literal the policy allows.
/// Errors: MalformedRequest with the reason.
Status check_url(const FetchPolicy& policy, std::string_view url);

/// Gives every address of a host name, or an empty list. Must return in time.
using Resolver =
    std::function<std::vector<IpAddress>(const std::string& host, std::chrono::milliseconds)>;

/// getaddrinfo, given up on after the time-out.
std::vector<IpAddress> resolve_with_system(const std::string& host,
                                           std::chrono::milliseconds timeout);

/// Fetches with libcurl: the host is resolved once, every address it has must be
/// allowed, and exactly those are dialled, so a name that changes its mind between
/// check and use (DNS rebinding) changes nothing. No redirects, proxies, cookies
/// or retries; TLS 1.2 or newer, verified.
class CurlFetcher final : public Fetcher {
 public:
  explicit CurlFetcher(FetchPolicy policy, Resolver resolver = resolve_with_system);
  Result<FetchReply> get(const FetchRequest& request) override;
  Result<FetchReply> post(const PostRequest& request) override;

 private:
  Result<FetchReply> perform(const std::string& url, const std::string& accept,
                             const PostRequest* post) const;

  const FetchPolicy policy_;
  const Resolver resolver_;
};

}  // namespace postern::outbound
