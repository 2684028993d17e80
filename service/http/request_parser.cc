#include "http/request_parser.h"

#include <algorithm>
#include <array>
#include <boost/beast/http/basic_parser.hpp>
#include <cstring>
#include <optional>
#include <utility>

#include "http/ascii.h"

namespace postern::http {
namespace beast = boost::beast;
namespace {

constexpr std::size_t kMaxMethodBytes = 32;
constexpr std::size_t kAroundTargetBytes = kMaxMethodBytes + 12;  // method, blanks, version
constexpr std::size_t kMaxChunkSizeDigits = 16;
constexpr std::size_t kFirstBodyBytes = 4096;

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && c != '\t') || byte == 0x7f;
}

/// What RFC 3986 allows in a path or query, and brackets, which some clients
/// leave as they are.
bool is_target_char(char c) {
  if (c <= 0x20 || c >= 0x7f) return false;  // char may be signed: this refuses 0x80 and up too
  return std::string_view("\"#<>\\^`{|}").find(c) == std::string_view::npos;
}

/// uri-host [ ":" port ] of RFC 9110 §7.2, narrowed to what names look like.
bool is_host(std::string_view host) {
  if (host.empty()) return false;
  std::string_view rest;
  if (host.front() == '[') {
    const auto end = host.find(']');
    if (end == host.npos || end < 2) return false;
    for (const char c : host.substr(1, end - 1)) {
      if (hex_value(c) < 0 && c != ':' && c != '.') return false;
    }
    rest = host.substr(end + 1);
  } else {
    const auto end = std::min(host.find(':'), host.size());
    if (end == 0) return false;
    for (const char c : host.substr(0, end)) {
      const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      if (!plain && c != '-' && c != '.' && c != '_') return false;
    }
    rest = host.substr(end);
  }
  if (rest.empty()) return true;
  if (rest.front() != ':' || rest.size() < 2 || rest.size() > 6) return false;
  return std::all_of(rest.begin() + 1, rest.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool names_framing(std::string_view name) {
  static constexpr std::array<std::string_view, 5> kNames = {"content-length", "transfer-encoding",
                                                             "host", "connection", "te"};
  return std::any_of(kNames.begin(), kNames.end(),
                     [&](std::string_view known) { return ascii_iequals(name, known); });
}

/// RFC 9110 §6.5.1: framing, routing and authentication never come as trailers.
bool forbidden_trailer(std::string_view name) {
  static constexpr std::array<std::string_view, 10> kNames = {
      "authorization", "cache-control", "content-encoding", "content-range", "content-type",
      "cookie",        "expect",        "max-forwards",     "range",         "trailer"};
  return names_framing(name) ||
         std::any_of(kNames.begin(), kNames.end(),
                     [&](std::string_view known) { return ascii_iequals(name, known); });
}

}  // namespace

/// Receives what Beast finds in the head. A callback refuses by setting status.
struct RequestParser::HeadReader final : beast::http::basic_parser<true> {
  using Text = beast::string_view;
  using Code = beast::error_code;

  HeadReader(Request& target, const ParserLimits& bounds) : request(target), limits(bounds) {
    header_limit(static_cast<std::uint32_t>(bounds.max_header_bytes));
    skip(true);  // bodies are read by RequestParser
  }

  static std::string_view view(Text text) { return {text.data(), text.size()}; }
  void refuse(Code& code, int with = 400) {
    status = with;
    code = beast::http::make_error_code(beast::http::error::bad_field);
  }

  void on_request_impl(beast::http::verb, Text method, Text target, int version,
                       Code& code) override {
    if (method.size() > kMaxMethodBytes) return refuse(code);
    if (target.size() > limits.max_target_bytes) return refuse(code, 414);
    if (!std::all_of(target.begin(), target.end(), is_target_char)) return refuse(code);
    http10 = version == 10;
    request.method = view(method);
    auto text = view(target);
    if (!text.starts_with('/')) {
      if (!take_authority(text)) return refuse(code);
    }
    const auto question = text.find('?');
    request.path = text.substr(0, question);
    if (question != text.npos) request.query = text.substr(question + 1);
  }

  /// Absolute-form and `OPTIONS *`; the authority-form of CONNECT is not ours.
  bool take_authority(std::string_view& text) {
    if (text == "*") return request.method == "OPTIONS";
    const auto scheme = text.find("://");
    if (scheme == text.npos || (!ascii_iequals(text.substr(0, scheme), "http") &&
                                !ascii_iequals(text.substr(0, scheme), "https"))) {
      return false;
    }
    text.remove_prefix(scheme + 3);
    const auto end = std::min(text.find_first_of("/?"), text.size());
    authority = text.substr(0, end);
    text.remove_prefix(end);
    if (!text.starts_with('/')) {
      if (!text.empty()) return false;  // `http://host?query`: legal, and never sent
      text = "/";
    }
    return is_host(authority);
  }

  void on_field_impl(beast::http::field field, Text raw_name, Text raw_value, Code& code) override {
    if (++fields > limits.max_headers) return refuse(code, 431);
    const auto name = view(raw_name);
    const auto value = view(raw_value);
    switch (field) {
      case beast::http::field::host:
        if (++hosts > 1 || !is_host(value)) return refuse(code);
        host = value;
        break;
      case beast::http::field::content_length: {
        if (++content_lengths > 1 || value.empty() || value.size() > 19) return refuse(code);
        for (const char c : value) {
          if (c < '0' || c > '9') {
            return refuse(code);
          }
          content_length = content_length * 10 + static_cast<std::uint64_t>(c - '0');
        }
        break;
      }
      case beast::http::field::transfer_encoding:
        if (++transfer_encodings > 1 || !ascii_iequals(value, "chunked")) return refuse(code);
        break;
      case beast::http::field::expect:
        if (++expects > 1) return refuse(code);
        expects_continue = ascii_iequals(value, "100-continue");
        break;
      default:
        // Gateways that map `_` to `-` would read Content_Length as framing.
        if (name.find('_') != name.npos) {
          std::string mapped(name);
          std::replace(mapped.begin(), mapped.end(), '_', '-');
          if (names_framing(mapped)) return refuse(code);
        }
        break;
    }
    request.headers.emplace_back(name, value);
  }

  void on_header_impl(Code& code) override {
    if (hosts == 0 && !http10) return refuse(code);
    if (!authority.empty() && hosts == 1 && !ascii_iequals(authority, host)) return refuse(code);
    if (transfer_encodings != 0 && (content_lengths != 0 || http10)) return refuse(code);
    if (content_length > limits.max_body_bytes) return refuse(code, 413);
    // RFC 9110 §10.1.1: an HTTP/1.0 client cannot mean it.
    if (expects != 0 && !http10 && !expects_continue) return refuse(code, 417);
  }

  void on_response_impl(int, Text, int, Code&) override {}
  void on_body_init_impl(boost::optional<std::uint64_t> const&, Code&) override {}
  std::size_t on_body_impl(Text, Code&) override { return 0; }
  void on_chunk_header_impl(std::uint64_t, Text, Code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, Text, Code&) override { return 0; }
  void on_finish_impl(Code&) override {}
  // Pure virtual in Boost after 1.83, unknown before: hence no `override`.
  virtual void on_trailer_field_impl(beast::http::field, Text, Text, Code&) {}

  Request& request;
  const ParserLimits& limits;
  int status = 0;
  bool http10 = false;
  bool expects_continue = false;
  std::string_view authority;
  std::string_view host;
  std::uint64_t content_length = 0;
  std::size_t fields = 0, hosts = 0, content_lengths = 0, transfer_encodings = 0, expects = 0;
};

RequestParser::RequestParser(const ParserLimits& limits) : limits_(limits) {}

RequestParser::~RequestParser() { wipe(head_); }

void RequestParser::fail(int status) noexcept {
  state_ = State::Failed;
  error_status_ = status;
}

std::string_view RequestParser::path() const noexcept {
  return request_ ? std::string_view(request_->path) : std::string_view();
}

bool RequestParser::take_expect_continue() noexcept {
  return in_body() && body_size_ == 0 && std::exchange(expect_continue_, false);
}

std::shared_ptr<Request> RequestParser::take() {
  auto request = std::move(request_);
  reset();
  return request;
}

void RequestParser::reset() {
  state_ = State::NeedMore;
  part_ = Part::Head;
  started_ = first_line_seen_ = keep_alive_ = http10_ = expect_continue_ = false;
  request_.reset();
  head_bytes_ = 0;
  body_ = WipedBuffer();
  body_size_ = 0;
  remaining_ = 0;
  chunk_ = Chunk::SizeFirst;
  chunk_overhead_ = 0;
  counted_ = 0;
}

std::size_t RequestParser::feed(std::string_view data) {
  std::size_t used = 0;
  while (used < data.size() && state_ == State::NeedMore) {
    const auto rest = data.substr(used);
    switch (part_) {
      case Part::Head: used += feed_head(rest); break;
      case Part::Body: {
        const auto piece = rest.substr(0, remaining_);
        append_body(piece);
        used += piece.size();
        remaining_ -= piece.size();
        if (remaining_ == 0) finish();
        break;
      }
      case Part::Chunks: used += feed_chunks(rest); break;
      case Part::Done: return used;
    }
  }
  return used;
}

/// Looks for the empty line, and on the way for line ends and folded lines that
/// implementations disagree about.
std::size_t RequestParser::feed_head(std::string_view data) {
  if (!started_) {
    started_ = true;
    if (!is_token_char(data.front()) && data.front() != '\r') {
      fail(400);
      return data.size();
    }
  }
  const std::size_t max_line = limits_.max_target_bytes + kAroundTargetBytes;
  const std::size_t before = head_.size();
  std::string_view text = data;
  if (before != 0) {
    // One byte beyond the limit is enough to see that it is passed.
    head_.append(data.substr(0, limits_.max_header_bytes + 1 - before));
    text = head_;
  }
  const auto folded_at = [&](std::size_t at) {
    return at < text.size() && (text[at] == ' ' || text[at] == '\t');
  };
  if (before != 0 && text[before - 1] == '\n' && folded_at(before)) fail(400);
  for (std::size_t from = before; state_ == State::NeedMore;) {
    const auto* found =
        from < text.size()
            ? static_cast<const char*>(std::memchr(text.data() + from, '\n', text.size() - from))
            : nullptr;
    if (found == nullptr) break;
    const auto at = static_cast<std::size_t>(found - text.data());
    if (at == 0 || text[at - 1] != '\r') {
      fail(400);  // bare LF
      return data.size();
    }
    // RFC 9112 §2.2: one empty line before the request line is let pass.
    if (at >= 3 && text[at - 2] == '\n') {
      if (at + 1 > limits_.max_header_bytes) break;
      parse_head(text.substr(0, at + 1));
      if (before != 0) wipe(head_);
      return at + 1 - before;
    }
    if (at > 1) {
      if (!first_line_seen_) check_first_line(text.substr(0, at - 1));
      first_line_seen_ = true;
    }
    if (folded_at(at + 1)) fail(400);
    from = at + 1;
  }
  if (state_ == State::Failed) return data.size();
  if (!first_line_seen_ && text.size() > max_line + 1) {  // its CR may be there already
    fail(414);
  } else if (text.size() > limits_.max_header_bytes) {
    fail(431);
  } else if (before == 0) {
    head_.assign(data);
  }
  return data.size();
}

/// So that a line which can never become a request is answered at once.
void RequestParser::check_first_line(std::string_view line) {
  if (line.size() > limits_.max_target_bytes + kAroundTargetBytes) return fail(414);
  if (!line.ends_with(" HTTP/1.1") && !line.ends_with(" HTTP/1.0")) return fail(400);
}

void RequestParser::parse_head(std::string_view head) {
  head_bytes_ = head.size();
  if (head.starts_with("\r\n")) head.remove_prefix(2);
  request_ = std::make_shared<Request>();
  request_->headers.reserve(8);
  HeadReader reader(*request_, limits_);
  beast::error_code code;
  const auto used = reader.put(boost::asio::const_buffer(head.data(), head.size()), code);
  if (code || used != head.size() || !reader.is_done()) {
    return fail(reader.status != 0 ? reader.status : 400);
  }
  keep_alive_ = reader.keep_alive();
  http10_ = reader.http10;
  expect_continue_ = reader.expects_continue && !http10_;
  if (reader.transfer_encodings != 0) {
    part_ = Part::Chunks;
  } else if (reader.content_length != 0) {
    part_ = Part::Body;
    remaining_ = reader.content_length;
  } else {
    finish();
  }
}

void RequestParser::append_body(std::string_view data) {
  if (data.empty()) return;
  const auto needed = body_size_ + data.size();
  if (needed > body_.size()) {
    // Memory follows what has arrived, not what Content-Length promises.
    const auto bound = part_ == Part::Body ? body_size_ + static_cast<std::size_t>(remaining_)
                                           : limits_.max_body_bytes;
    const auto grown = std::max({needed, body_.size() * 2, kFirstBodyBytes});
    WipedBuffer larger(std::max(needed, std::min(grown, bound)));
    if (body_size_ != 0) {
      std::memcpy(larger.writable().data(), body_.readable().data(), body_size_);
    }
    body_ = std::move(larger);
  }
  std::memcpy(body_.writable().data() + body_size_, data.data(), data.size());
  body_size_ = needed;
}

void RequestParser::finish() {
  request_->body =
      Secret<RequestBodyTag>(SecureBuffer::copy_of(body_.readable().first(body_size_)));
  body_ = WipedBuffer();
  part_ = Part::Done;
  state_ = State::Complete;
}

/// chunked-body of RFC 9112 §7.1, strictly: sizes are hexadecimal digits and
/// nothing else, every line ends in CRLF, extensions and trailers are bounded,
/// checked and dropped.
std::size_t RequestParser::feed_chunks(std::string_view data) {
  std::size_t i = 0;
  while (i < data.size() && state_ == State::NeedMore) {
    const char c = data[i];
    switch (chunk_) {
      case Chunk::SizeFirst:
        remaining_ = 0;
        counted_ = 0;
        if (hex_value(c) < 0) {
          fail(400);
          break;
        }
        chunk_ = Chunk::Size;
        continue;
      case Chunk::Size:
        ++i;
        if (const int digit = hex_value(c); digit >= 0) {
          if (++counted_ > kMaxChunkSizeDigits) fail(400);
          remaining_ = remaining_ * 16 + static_cast<std::uint64_t>(digit);
          if (remaining_ > limits_.max_body_bytes - body_size_) fail(413);
        } else if (c == ';') {
          chunk_ = Chunk::Extension;
        } else if (c == '\r') {
          chunk_ = Chunk::SizeLf;
        } else {
          fail(400);
        }
        break;
      case Chunk::Extension:
        ++i;
        if (c == '\r') {
          chunk_ = Chunk::SizeLf;
        } else if (is_control(c) || ++chunk_overhead_ > limits_.max_header_bytes) {
          fail(400);
        }
        break;
      case Chunk::SizeLf:
        ++i;
        if (c != '\n') fail(400);
        chunk_ = remaining_ == 0 ? Chunk::LineFirst : Chunk::Data;
        if (remaining_ == 0) counted_ = 0;
        break;
      case Chunk::Data: {
        const auto piece = data.substr(i, remaining_);
        append_body(piece);
        i += piece.size();
        remaining_ -= piece.size();
        if (remaining_ == 0) chunk_ = Chunk::DataCr;
        break;
      }
      case Chunk::DataCr:
        ++i;
        if (c != '\r') fail(400);
        chunk_ = Chunk::DataLf;
        break;
      case Chunk::DataLf:
        ++i;
        if (c != '\n') fail(400);
        chunk_ = Chunk::SizeFirst;
        break;
      case Chunk::LineFirst:
        if (c == '\r') {
          ++i;
          chunk_ = Chunk::EndLf;
        } else {
          chunk_ = Chunk::Line;
        }
        break;
      case Chunk::Line:
        ++i;
        if (c == '\r') {
          chunk_ = Chunk::LineLf;
        } else if (is_control(c)) {
          fail(400);
        } else if (++chunk_overhead_ > limits_.max_header_bytes) {
          fail(431);
        } else {
          head_ += c;
        }
        break;
      case Chunk::LineLf:
        ++i;
        if (c != '\n' || !accept_trailer_line()) fail(400);
        if (++counted_ > limits_.max_headers) fail(431);
        wipe(head_);
        chunk_ = Chunk::LineFirst;
        break;
      case Chunk::EndLf:
        ++i;
        if (c != '\n') {
          fail(400);
        } else {
          finish();
        }
        break;
    }
  }
  return state_ == State::Failed ? data.size() : i;
}

bool RequestParser::accept_trailer_line() {
  const std::string_view line = head_;
  const auto colon = line.find(':');
  return colon != line.npos && is_token(line.substr(0, colon)) &&
         !forbidden_trailer(line.substr(0, colon));
}

}  // namespace postern::http
