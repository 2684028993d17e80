#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/secret.h"
#include "http/message.h"

namespace postern::http {

struct ParserLimits {
  std::size_t max_header_bytes = 32 * 1024;
  std::size_t max_headers = 100;
  std::size_t max_body_bytes = 1024 * 1024;
  std::size_t max_target_bytes = 8 * 1024;
};

/// Ordinary memory, wiped when it goes. What a client has sent of a body is not
/// worth locked memory before the request is complete: anybody can send half of one.
class WipedBuffer {
 public:
  WipedBuffer() = default;
  explicit WipedBuffer(std::size_t size) : bytes_(size) {}
  ~WipedBuffer() { wipe(bytes_); }
  WipedBuffer(WipedBuffer&& other) noexcept { bytes_.swap(other.bytes_); }
  WipedBuffer& operator=(WipedBuffer&& other) noexcept {
    bytes_.swap(other.bytes_);
    return *this;
  }
  WipedBuffer(const WipedBuffer&) = delete;
  WipedBuffer& operator=(const WipedBuffer&) = delete;

  std::span<std::byte> writable() noexcept { return bytes_; }
  ByteView readable() const noexcept { return bytes_; }
  std::size_t size() const noexcept { return bytes_.size(); }

 private:
  Bytes bytes_;
};

/// Reads HTTP/1.x requests from a byte stream, whatever the pieces it comes in.
///
/// The head goes through Boost.Beast, behind checks for what Beast lets pass:
/// RFC 9112 readings that differ between implementations are refused, because
/// a proxy in front may read them the other way (request smuggling). Bodies
/// are framed here: chunked decoding byte by byte, so that nothing but the
/// body itself is ever buffered.
///
/// After Failed nothing more may be read from this stream. Not thread-safe.
class RequestParser {
 public:
  enum class State { NeedMore, Complete, Failed };

  explicit RequestParser(const ParserLimits& limits);
  ~RequestParser();
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  /// Reads from the front of `data` and returns how much of it was used. Stops
  /// at the end of one request; the rest belongs to the next.
  std::size_t feed(std::string_view data);

  State state() const noexcept { return state_; }
  /// With Failed: 400, 413, 414, 417 or 431.
  int error_status() const noexcept { return error_status_; }
  /// The path of the request, as far as known; for the shape of an error.
  std::string_view path() const noexcept;

  bool started() const noexcept { return started_; }  ///< some of it has been seen
  bool in_body() const noexcept { return part_ == Part::Body || part_ == Part::Chunks; }
  /// True once, when the client waits for `100 Continue` before it sends the body.
  bool take_expect_continue() noexcept;

  // With Complete:
  bool keep_alive() const noexcept { return keep_alive_; }
  bool http10() const noexcept { return http10_; }
  std::size_t size() const noexcept { return head_bytes_ + body_size_; }
  /// Hands the request out and gets ready for the next one.
  std::shared_ptr<Request> take();

 private:
  enum class Part { Head, Body, Chunks, Done };
  enum class Chunk {
    SizeFirst,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    LineFirst,
    Line,
    LineLf,
    EndLf
  };
  struct HeadReader;

  std::size_t feed_head(std::string_view data);
  std::size_t feed_chunks(std::string_view data);
  void parse_head(std::string_view head);
  void check_first_line(std::string_view line);
  bool accept_trailer_line();
  void append_body(std::string_view data);
  void finish();
  void fail(int status) noexcept;
  void reset();

  const ParserLimits limits_;
  State state_ = State::NeedMore;
  Part part_ = Part::Head;
  int error_status_ = 0;
  bool started_ = false;
  bool first_line_seen_ = false;
  bool keep_alive_ = false;
  bool http10_ = false;
  bool expect_continue_ = false;

  std::string head_;  // a head that came in pieces; in chunked bodies a trailer line
  std::shared_ptr<Request> request_;
  std::size_t head_bytes_ = 0;

  WipedBuffer body_;
  std::size_t body_size_ = 0;
  std::uint64_t remaining_ = 0;  // of the body, or of the chunk
  Chunk chunk_ = Chunk::SizeFirst;
  std::size_t chunk_overhead_ = 0;  // extensions and trailers so far
  std::size_t counted_ = 0;         // digits of the chunk size, then trailer lines
};

}  // namespace postern::http
