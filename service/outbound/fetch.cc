#include "outbound/fetch.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

namespace postern::outbound {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxUrlBytes = 2048;
constexpr std::size_t kMaxAddresses = 16;

// ---- URLs ------------------------------------------------------------------

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
std::string lower(std::string_view text) {
  std::string copy(text);
  for (auto& c : copy) c = lower(c);
  return copy;
}

struct Url {
  bool https = true;
  std::string host;                  ///< lower case, without brackets
  std::optional<IpAddress> literal;  ///< when the host is an address
  unsigned port = 443;
};

/// A DNS name of letters, digits and hyphens.
bool is_dns_name(std::string_view host) {
  if (host.empty() || host.size() > 253) return false;
  while (true) {
    const auto dot = host.find('.');
    const auto label = host.substr(0, dot);
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') {
      return false;
    }
    for (const char c : label) {
      if (!is_digit(c) && c != '-' && (lower(c) < 'a' || lower(c) > 'z')) return false;
    }
    if (dot == std::string_view::npos) break;
    host.remove_prefix(dot + 1);
  }
  // A last label that starts with a digit is a number to someone: inet_aton reads
  // 127.1, 0x7f.1, 017700000001 and 2130706433 as addresses. No top-level domain
  // starts with one.
  return !is_digit(host.front());
}

bool is_loopback_host(const Url& url) {
  return url.literal ? url.literal->is_loopback() : url.host == "localhost";
}

bool may_dial(const FetchPolicy& policy, const Url& url, const IpAddress& address) {
  if (policy.allow_insecure_loopback && is_loopback_host(url)) return address.is_loopback();
  // A private network is allowed for TLS only; http never gets this far.
  return address.is_public() ||
         std::any_of(policy.allow_private.begin(), policy.allow_private.end(),
                     [&](const Network& network) { return network.contains(address); });
}

Result<Url> parse_url(const FetchPolicy& policy, std::string_view text) {
  const auto refused = [](const char* detail) { return fail(ErrorCode::MalformedRequest, detail); };
  if (text.size() > kMaxUrlBytes) return refused("the URL is too long");
  for (const char c : text) {
    // Anything parsers disagree about, such as a backslash or a blank.
    if (c <= ' ' || c > '~' || std::strchr("\\\"<>^`{|}", c) != nullptr) {
      return refused("the URL holds a character that is not allowed");
    }
  }
  Url url;
  const auto scheme_end = text.find("://");
  const auto scheme = lower(text.substr(0, scheme_end == std::string_view::npos ? 0 : scheme_end));
  if (scheme != "https" && scheme != "http") return refused("the URL must begin with https://");
  url.https = scheme == "https";
  url.port = url.https ? 443 : 80;

  const auto rest = text.substr(scheme_end + 3);
  auto authority = rest.substr(0, rest.find_first_of("/?#"));
  if (authority.find('@') != std::string_view::npos)
    return refused("the URL holds user information");
  if (rest.find('#') != std::string_view::npos) return refused("the URL holds a fragment");

  const bool bracketed = authority.starts_with('[');
  const auto host_end = bracketed ? authority.find(']') : authority.find(':');
  if (bracketed && host_end == std::string_view::npos)
    return refused("the URL has a malformed host");
  auto host = authority.substr(0, host_end);
  auto after_host =
      host_end == std::string_view::npos ? std::string_view() : authority.substr(host_end);
  if (bracketed) {
    host.remove_prefix(1);
    after_host.remove_prefix(1);
  }
  if (!after_host.empty()) {
    const auto digits = after_host.substr(1);
    const auto* const digits_end = digits.data() + digits.size();
    const auto [end, error] = std::from_chars(digits.data(), digits_end, url.port);
    if (after_host.front() != ':' || error != std::errc() || end != digits_end || url.port == 0 ||
        url.port > 65535) {
      return refused("the URL has a malformed port");
    }
  }

  url.host = lower(host);
  url.literal = IpAddress::parse(url.host);
  if (url.literal ? url.literal->is_v4() == bracketed : bracketed || !is_dns_name(url.host)) {
    return refused("the URL has a malformed host");
  }
  if (!url.https && !(policy.allow_insecure_loopback && is_loopback_host(url))) {
    return refused("the URL must begin with https://");
  }
  if (url.literal && !may_dial(policy, url, *url.literal)) {
    return refused("the URL names an address that is not allowed");
  }
  return url;
}

// ---- name look-up ----------------------------------------------------------

std::optional<IpAddress> address_of(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, address, sizeof in);
    std::array<std::uint8_t, 4> bytes{};
    std::memcpy(bytes.data(), &in.sin_addr, bytes.size());
    return IpAddress::v4(bytes);
  }
  if (address->sa_family == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, address, sizeof in);
    std::array<std::uint8_t, 16> bytes{};
    std::memcpy(bytes.data(), &in.sin6_addr, bytes.size());
    return IpAddress::v6(bytes);
  }
  return std::nullopt;
}

std::vector<IpAddress> look_up(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return {};
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  std::vector<IpAddress> addresses;
  for (const auto* entry = found; entry != nullptr; entry = entry->ai_next) {
    if (const auto address = address_of(entry->ai_addr)) addresses.push_back(*address);
  }
  return addresses;
}

// ---- transfer --------------------------------------------------------------

struct EasyCleanup {
  void operator()(CURL* handle) const noexcept { curl_easy_cleanup(handle); }
};
struct ListFree {
  void operator()(curl_slist* list) const noexcept {
    // A header may have been a credential.
    for (auto* node = list; node != nullptr; node = node->next) {
      wipe(std::as_writable_bytes(std::span(node->data, std::strlen(node->data))));
    }
    curl_slist_free_all(list);
  }
};
using Easy = std::unique_ptr<CURL, EasyCleanup>;
using List = std::unique_ptr<curl_slist, ListFree>;

List list_of(const std::string& text) {
  List list(curl_slist_append(nullptr, text.c_str()));
  if (list == nullptr) throw std::bad_alloc();
  return list;
}

void add(List& list, const std::string& text) {
  auto* longer = curl_slist_append(list.get(), text.c_str());
  if (longer == nullptr) throw std::bad_alloc();
  static_cast<void>(list.release());
  list.reset(longer);
}

struct Transfer {
  const FetchPolicy& policy;
  const Url& url;
  std::string body;
  bool too_large = false;
  bool address_refused = false;
};

std::size_t receive(const char* data, std::size_t, std::size_t size, void* context) {
  auto& transfer = *static_cast<Transfer*>(context);
  if (transfer.body.size() + size > transfer.policy.max_body_bytes) {
    transfer.too_large = true;
    return 0;  // any other number than size ends the transfer
  }
  transfer.body.append(data, size);
  return size;
}

/// The last word before a connection: whatever libcurl is about to dial, checked again.
curl_socket_t open_socket(void* context, curlsocktype, curl_sockaddr* target) {
  auto& transfer = *static_cast<Transfer*>(context);
  const auto address = address_of(&target->addr);
  if (!address || !may_dial(transfer.policy, transfer.url, *address)) {
    transfer.address_refused = true;
    return CURL_SOCKET_BAD;
  }
  return ::socket(target->family, target->socktype | SOCK_CLOEXEC, target->protocol);
}

std::string header(CURL* handle, const char* name) {
  std::string values;
  curl_header* found = nullptr;
  for (std::size_t i = 0; curl_easy_header(handle, name, i, CURLH_HEADER, -1, &found) == CURLHE_OK;
       ++i) {
    if (i > 0) values += ',';
    values += found->value;
  }
  return values;
}

/// RFC 9111 §5.2.2. A directive that cannot be read counts as stale (§4.2.1).
std::optional<std::chrono::seconds> max_age_of(std::string_view cache_control) {
  std::optional<std::chrono::seconds> max_age;
  while (!cache_control.empty()) {
    const auto comma = cache_control.find(',');
    auto directive = cache_control.substr(0, comma);
    cache_control.remove_prefix(comma == std::string_view::npos ? cache_control.size() : comma + 1);
    while (!directive.empty() && (directive.front() == ' ' || directive.front() == '\t')) {
      directive.remove_prefix(1);
    }
    while (!directive.empty() && (directive.back() == ' ' || directive.back() == '\t')) {
      directive.remove_suffix(1);
    }
    const auto name = lower(directive.substr(0, directive.find('=')));
    if (name == "no-store" || name == "no-cache") return std::chrono::seconds(0);
    if (name != "max-age") continue;
    auto value =
        directive.size() > name.size() ? directive.substr(name.size() + 1) : std::string_view();
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"') {
      value = value.substr(1, value.size() - 2);
    }
    std::int32_t seconds = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
    if (error == std::errc::result_out_of_range && value.front() != '-') {
      seconds = INT32_MAX;
    } else if (error != std::errc() || end != value.data() + value.size() || seconds < 0) {
      seconds = 0;
    }
    const std::chrono::seconds age(seconds);
    max_age = max_age ? std::min(*max_age, age) : age;
  }
  return max_age;
}

Error unavailable(std::string reason) {
  return fail(ErrorCode::Unavailable, "an outside service could not be reached",
              "fetch: " + std::move(reason));
}

void set_options(CURL* handle, Transfer& transfer, const std::string& url, milliseconds remaining) {
  // Each option is known to 7.85 and later; a failure to set one would be a bug.
  bool ok = true;
  const auto set = [&](CURLoption option, auto value) {
    ok = curl_easy_setopt(handle, option, value) == CURLE_OK && ok;
  };
  const char* const protocols = transfer.url.https ? "https" : "http";
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_PROTOCOLS_STR, protocols);
  set(CURLOPT_REDIR_PROTOCOLS_STR, protocols);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_PROXY, "");  // also keeps http_proxy and the like from being read
  set(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
  set(CURLOPT_PATH_AS_IS, 1L);
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_HTTP09_ALLOWED, 0L);
  set(CURLOPT_USERAGENT, "postern");
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_FORBID_REUSE, 1L);
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(std::max<milliseconds::rep>(remaining.count(), 1)));
  set(CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(transfer.policy.max_body_bytes));
  set(CURLOPT_SSL_VERIFYPEER, 1L);
  set(CURLOPT_SSL_VERIFYHOST, 2L);
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  // The system's authorities stay trusted through the default directory.
  if (!transfer.policy.ca_file.empty()) set(CURLOPT_CAINFO, transfer.policy.ca_file.c_str());
  set(CURLOPT_WRITEFUNCTION, &receive);
  set(CURLOPT_WRITEDATA, &transfer);
  set(CURLOPT_OPENSOCKETFUNCTION, &open_socket);
  set(CURLOPT_OPENSOCKETDATA, &transfer);
  if (!ok) throw std::logic_error("libcurl refused an option");
}

void require_curl() {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (initialised != CURLE_OK) throw std::bad_alloc();
}

}  // namespace

Status check_url(const FetchPolicy& policy, std::string_view url) {
  POSTERN_CHECK(parse_url(policy, url));
  return {};
}

std::vector<IpAddress> resolve_with_system(const std::string& host, milliseconds timeout) {
  // getaddrinfo cannot be interrupted, so it runs in a thread of its own, which
  // outlives the wait when the name server is silent. Few may pile up.
  constexpr int kMaxLookups = 32;
  static std::atomic<int> lookups{0};
  struct Answer {
    std::mutex mutex;
    std::condition_variable ready;
    bool done = false;
    std::vector<IpAddress> addresses;
  };
  // Shared by the caller and the thread; the last of the two to leave frees it.
  const auto answer = std::make_shared<Answer>();
  if (lookups.fetch_add(1) >= kMaxLookups) {
    lookups.fetch_sub(1);
    return {};
  }
  try {
    std::thread([answer, host] {
      std::vector<IpAddress> addresses;
      try {
        addresses = look_up(host);
      } catch (const std::bad_alloc&) {
        // No memory, no answer: the same as a name that does not exist.
      }
      lookups.fetch_sub(1);
      const std::lock_guard lock(answer->mutex);
      answer->addresses = std::move(addresses);
      answer->done = true;
      answer->ready.notify_one();
    }).detach();
  } catch (const std::system_error&) {
    lookups.fetch_sub(1);
    return {};
  }
  std::unique_lock lock(answer->mutex);
  answer->ready.wait_for(lock, timeout, [&] { return answer->done; });
  return std::move(answer->addresses);
}

CurlFetcher::CurlFetcher(FetchPolicy policy, Resolver resolver)
    : policy_(std::move(policy)), resolver_(std::move(resolver)) {
  require_curl();
}

Result<FetchReply> CurlFetcher::get(const FetchRequest& request) {
  return perform(request.url, request.accept, nullptr);
}

Result<FetchReply> CurlFetcher::post(const PostRequest& request) {
  return perform(request.url, request.accept, &request);
}

Result<FetchReply> CurlFetcher::perform(const std::string& text, const std::string& accept,
                                        const PostRequest* post) const {
  const auto timeout = post != nullptr && post->timeout ? std::min(*post->timeout, policy_.timeout)
                                                        : policy_.timeout;
  const auto deadline = steady_clock::now() + timeout;
  const auto remaining = [&] {
    return std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now());
  };
  const auto parsed = parse_url(policy_, text);
  if (!parsed.ok()) return unavailable("URL refused");
  const auto& url = parsed.value();

  List resolved;
  if (!url.literal) {
    const auto addresses = resolver_(url.host, remaining());
    if (addresses.empty()) return unavailable("name does not resolve");
    // One bad address condemns the name: it is either wrong or an attack.
    std::string entry = url.host + ":" + std::to_string(url.port) + ":";
    for (std::size_t i = 0; i < addresses.size(); ++i) {
      const auto& address = addresses[i];
      if (!may_dial(policy_, url, address)) return unavailable("address not allowed");
      if (i >= kMaxAddresses) continue;
      if (i > 0) entry += ',';
      entry += address.is_v4() ? address.str() : "[" + address.str() + "]";
    }
    resolved = list_of(entry);
  }

  const Easy easy(curl_easy_init());
  if (easy == nullptr) throw std::bad_alloc();
  auto headers = list_of("Accept: " + accept);
  Transfer transfer{policy_, url, {}};
  set_options(easy.get(), transfer, text, remaining());
  if (resolved) curl_easy_setopt(easy.get(), CURLOPT_RESOLVE, resolved.get());
  const auto send = [&] {
    curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers.get());
    return curl_easy_perform(easy.get());
  };
  const auto code = [&] {
    if (post == nullptr) return send();
    add(headers, "Expect:");  // no waiting for 100-continue
    if (!post->content_type.empty()) add(headers, "Content-Type: " + post->content_type);
    for (const auto& [name, value] : post->headers) {
      if ((name + value).find_first_of("\r\n") != std::string::npos) {
        throw std::logic_error("a line break in a header");
      }
      add(headers, name + ": " + value);
    }
    if (post->authorization) {
      post->authorization->expose([&](ByteView value) {
        std::string header;
        header.reserve(value.size() + 32);
        header.append("Authorization: ").append(as_text(value));
        add(headers, header);
        wipe(header);
      });
    }
    // libcurl reads the body where it is: what it sends is not copied before.
    return post->body.expose([&](ByteView body) {
      curl_easy_setopt(easy.get(), CURLOPT_POST, 1L);
      curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDS, body.empty() ? "" : as_text(body).data());
      curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDSIZE_LARGE,
                       static_cast<curl_off_t>(body.size()));
      return send();
    });
  }();
  if (transfer.address_refused) return unavailable("address not allowed");
  if (transfer.too_large || code == CURLE_FILESIZE_EXCEEDED) return unavailable("body too large");
  if (code != CURLE_OK) return unavailable("curl code " + std::to_string(code));

  long status = 0;
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
  return FetchReply{static_cast<int>(status), header(easy.get(), "Content-Type"),
                    max_age_of(header(easy.get(), "Cache-Control")), std::move(transfer.body)};
}

}  // namespace postern::outbound
