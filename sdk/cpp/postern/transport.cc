#include "postern/transport.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>

namespace postern::sdk {
namespace {

constexpr const char* kUserAgent = "postern-sdk/1";

std::string lower(std::string_view text) {
  std::string out(text);
  for (auto& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

template <class Container>
void percent_encode_into(Container& out, std::string_view text, bool space_as_plus) {
  static constexpr std::string_view kHex = "0123456789ABCDEF";
  for (const char c : text) {
    const bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                            (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
    const auto byte = static_cast<unsigned char>(c);
    if (unreserved) {
      out.push_back(c);
    } else if (c == ' ' && space_as_plus) {
      out.push_back('+');
    } else {
      out.push_back('%');
      out.push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 15]);
    }
  }
}

SecretBytes base64(std::string_view text) {
  static constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  SecretBytes out;
  for (std::size_t i = 0; i < text.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, text.size() - i);
    unsigned bits = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      bits = bits << 8 | (j < count ? static_cast<unsigned char>(text[i + j]) : 0U);
    }
    for (std::size_t j = 0; j < 4; ++j) {
      out.push_back(j <= count ? kAlphabet[bits >> (18 - 6 * j) & 63] : '=');
    }
  }
  return out;
}

/// Header lines for libcurl, wiped at the end: one of them may be Authorization.
class HeaderList {
 public:
  HeaderList() = default;
  ~HeaderList() {
    for (auto* line = lines_; line != nullptr; line = line->next) {
      wipe(std::span(reinterpret_cast<std::byte*>(line->data), std::strlen(line->data)));
    }
    curl_slist_free_all(lines_);
  }
  HeaderList(const HeaderList&) = delete;
  HeaderList& operator=(const HeaderList&) = delete;

  void add(std::string_view name, std::string_view value) {
    SecretBytes line;
    line.reserve(name.size() + value.size() + 3);
    append(line, name);
    append(line, value.empty() ? ":" : ": ");
    append(line, value);
    line.push_back('\0');
    auto* longer = curl_slist_append(lines_, line.data());
    if (longer == nullptr) throw std::bad_alloc();
    lines_ = longer;
  }
  curl_slist* get() const noexcept { return lines_; }

 private:
  curl_slist* lines_ = nullptr;
};

/// What the callbacks of one transfer fill in.
struct Transfer {
  HttpAnswer answer;
  std::size_t max_bytes = 0;
  bool too_large = false;
  bool out_of_memory = false;
};

std::size_t on_body(char* data, std::size_t, std::size_t size, void* user) noexcept {
  auto& transfer = *static_cast<Transfer*>(user);
  if (size > transfer.max_bytes - transfer.answer.body.size()) {
    transfer.too_large = true;
    return 0;
  }
  try {
    append(transfer.answer.body, {data, size});
  } catch (const std::bad_alloc&) {
    transfer.out_of_memory = true;
    return 0;
  }
  return size;
}

std::size_t on_header(char* data, std::size_t, std::size_t size, void* user) noexcept {
  auto& answer = static_cast<Transfer*>(user)->answer;
  try {
    const std::string_view line(data, size);
    const auto colon = line.find(':');
    if (colon == line.npos) return size;
    const auto name = lower(line.substr(0, colon));
    const auto value = trimmed(line.substr(colon + 1));
    if (name == "content-type")
      answer.content_type = lower(trimmed(value.substr(0, value.find(';'))));
    if (name == "etag") answer.etag = value;
    if (name == "x-request-id") answer.request_id = value;
    if (name == "retry-after") answer.retry_after = value;
  } catch (const std::bad_alloc&) {
    return 0;
  }
  return size;
}

bool is_loopback(std::string_view host) {
  if (host == "localhost" || host == "[::1]") return true;
  // 127.0.0.0/8 in dotted form; "127.evil.example" is a name and does not pass.
  return host.substr(0, 4) == "127." && host.find_first_not_of("0123456789.") == host.npos;
}

std::string url_part(CURLU* url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, 0) != CURLUE_OK || text == nullptr) return {};
  std::string out(text);
  curl_free(text);
  return out;
}

/// The URL without a trailing slash, or why it may not be used.
Result<std::string> usable_url(const std::string& text) {
  const std::unique_ptr<CURLU, void (*)(CURLU*)> url(curl_url(), curl_url_cleanup);
  if (!url) throw std::bad_alloc();
  // libcurl would take the first part of the path in https:///path as the host.
  if (text.find(":///") != text.npos ||
      curl_url_set(url.get(), CURLUPART_URL, text.c_str(), CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK) {
    return fail(ErrorKind::Usage, "the server URL is not a URL such as https://postern.example");
  }
  const auto scheme = lower(url_part(url.get(), CURLUPART_SCHEME));
  const auto host = lower(url_part(url.get(), CURLUPART_HOST));
  if (!url_part(url.get(), CURLUPART_USER).empty() ||
      !url_part(url.get(), CURLUPART_PASSWORD).empty()) {
    return fail(ErrorKind::Usage, "the server URL must not hold a user name or password");
  }
  if (text.find('?') != text.npos || text.find('#') != text.npos) {
    return fail(ErrorKind::Usage, "the server URL must not have a query or a fragment");
  }
  if (scheme != "https" && scheme != "http") {
    return fail(ErrorKind::Usage, "the server URL must begin with https://");
  }
  if (scheme == "http" && !is_loopback(host)) {
    return fail(ErrorKind::Usage,
                "plain http is only for this machine (127.0.0.1, ::1, localhost), because tokens "
                "and credentials would cross the network in the clear; use https://" +
                    host);
  }
  auto path = url_part(url.get(), CURLUPART_PATH);
  while (!path.empty() && path.back() == '/') path.pop_back();
  const auto port = url_part(url.get(), CURLUPART_PORT);
  return scheme + "://" + host + (port.empty() ? "" : ":" + port) + path;
}

Error transfer_error(CURLcode code, const Transfer& transfer, const TransportOptions& options) {
  const auto unreachable = [&](const std::string& why) {
    return fail(ErrorKind::Unreachable, "cannot reach " + options.url + ": " + why);
  };
  const auto broken = [&](const std::string& why) {
    return fail(ErrorKind::BrokenAnswer, "the answer of " + options.url + " " + why);
  };
  if (transfer.too_large) {
    return broken("is larger than " + std::to_string(options.max_answer_bytes) + " bytes");
  }
  if (transfer.out_of_memory) throw std::bad_alloc();
  switch (code) {
    case CURLE_COULDNT_CONNECT: return unreachable("nothing accepts connections there");
    case CURLE_COULDNT_RESOLVE_HOST: return unreachable("no such host");
    case CURLE_OPERATION_TIMEDOUT: return unreachable("no answer in time");
    case CURLE_GOT_NOTHING: return unreachable("it closed the connection without an answer");
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR: return unreachable("the connection broke");
    case CURLE_PEER_FAILED_VERIFICATION:
      return unreachable(
          "its TLS certificate is not valid for that name, or not signed by a known authority "
          "(name the authority's PEM file if it is your own)");
    case CURLE_SSL_CACERT_BADFILE:
      return fail(ErrorKind::Usage, "cannot use the CA file " + options.ca_file);
    case CURLE_SSL_CONNECT_ERROR: return unreachable("the TLS handshake failed");
    case CURLE_PARTIAL_FILE: return broken("ended in the middle");
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY: return broken("is not HTTP");
    default: return unreachable(curl_easy_strerror(code));
  }
}

}  // namespace

struct Transport::Handle {
  CURL* curl = curl_easy_init();
};

void Transport::HandleDeleter::operator()(Handle* handle) const noexcept {
  curl_easy_cleanup(handle->curl);
  delete handle;
}

Transport::Transport(TransportOptions options, std::unique_ptr<Handle, HandleDeleter> handle)
    : options_(std::move(options)), handle_(std::move(handle)) {}

Result<Transport> Transport::create(TransportOptions options) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  POSTERN_TRY(options.url, usable_url(options.url));
  std::unique_ptr<Handle, HandleDeleter> handle(new Handle);
  if (handle->curl == nullptr) throw std::bad_alloc();
  return Transport(std::move(options), std::move(handle));
}

Result<HttpAnswer> Transport::send(const HttpRequest& request) {
  CURL* const curl = handle_->curl;
  curl_easy_reset(curl);  // keeps the connection for the next call
  Transfer transfer;
  transfer.max_bytes = options_.max_answer_bytes;

  const auto set = [&](CURLoption option, auto value) {
    if (const auto code = curl_easy_setopt(curl, option, value); code != CURLE_OK) {
      throw std::logic_error(std::string("libcurl refused an option: ") + curl_easy_strerror(code));
    }
  };
  set(CURLOPT_URL, (options_.url + request.target).c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_HTTP09_ALLOWED, 0L);
  set(CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_timeout.count()));
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(options_.timeout.count()));
  set(CURLOPT_USERAGENT, kUserAgent);
  if (!options_.ca_file.empty()) set(CURLOPT_CAINFO, options_.ca_file.c_str());
  if (options_.url.substr(0, 5) == "http:") set(CURLOPT_PROXY, "");
  set(CURLOPT_WRITEFUNCTION, &on_body);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&transfer));
  set(CURLOPT_HEADERFUNCTION, &on_header);
  set(CURLOPT_HEADERDATA, static_cast<void*>(&transfer));

  HeaderList headers;
  headers.add("Accept", "application/json, application/problem+json");
  headers.add("Expect", "");  // the name alone tells libcurl not to send one
  for (const auto& [name, value] : request.headers) headers.add(name, value);
  if (request.bearer != nullptr) {
    request.bearer->expose([&](ByteView token) {
      SecretBytes value;
      append(value, "Bearer ");
      append(value, as_text(token));
      headers.add("Authorization", view(value));
    });
  } else if (request.client != nullptr) {
    request.client->secret.expose([&](ByteView secret) {
      SecretBytes pair;
      percent_encode_into(pair, request.client->id, true);
      pair.push_back(':');
      percent_encode_into(pair, as_text(secret), true);
      const auto encoded = base64(view(pair));
      SecretBytes value;
      append(value, "Basic ");
      append(value, view(encoded));
      headers.add("Authorization", view(value));
    });
  }
  if (request.content_type.empty()) {
    set(CURLOPT_HTTPGET, 1L);
  } else {
    headers.add("Content-Type", request.content_type);
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    // Not copied by libcurl. An empty vector has no address, which would mean "read stdin".
    set(CURLOPT_POSTFIELDS, request.body.empty() ? "" : request.body.data());
  }
  set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
  set(CURLOPT_HTTPHEADER, headers.get());

  const auto code = curl_easy_perform(curl);
  if (code != CURLE_OK) return transfer_error(code, transfer, options_);

  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  transfer.answer.status = static_cast<int>(status);
  if (status >= 300 && status < 400) {
    auto error =
        fail(ErrorKind::BrokenAnswer, options_.url +
                                          " redirects elsewhere, which is not followed because the "
                                          "credentials of this call would go there too");
    error.status = transfer.answer.status;
    return error;
  }
  return std::move(transfer.answer);
}

std::string percent_encode(std::string_view text) {
  std::string out;
  percent_encode_into(out, text, false);
  return out;
}

void append_form(SecretBytes& form, std::string_view name, std::string_view value) {
  if (!form.empty()) form.push_back('&');
  percent_encode_into(form, name, true);
  form.push_back('=');
  percent_encode_into(form, value, true);
}

}  // namespace postern::sdk
