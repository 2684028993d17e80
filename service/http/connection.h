#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/edge.h"
#include "http/message.h"
#include "http/request_parser.h"
#include "http/tls.h"

namespace postern::http {

/// One client: reads requests, hands them out, writes replies in order.
///
/// The socket belongs to the reactor, which closes it after detach(). Whoever
/// writes holds the lock and finds the descriptor gone after that, so a late
/// answer goes to this client or to nobody, even when the kernel has given the
/// number to another connection. Writes never block: what the kernel does not
/// take waits here, bounded, until the socket is writable again.
///
/// Shared by the reactor's table and the responders of requests in flight.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  enum class Verdict { Keep, Remove };

  Connection(Edge& edge, Loop& loop, int fd, std::string address);
  ~Connection();

  // ---- reactor thread only ----

  /// The socket is readable or writable. `ended`: the client has sent its last byte.
  Verdict on_event(bool ended);
  /// Time goes by: applies the time-outs, and closes when the server stops.
  Verdict on_tick();
  /// The reactor is about to close the descriptor.
  void detach();

  // ---- any thread ----

  void deliver(std::uint64_t sequence, Reply reply) noexcept;

 private:
  using Millis = std::int64_t;  // on the monotonic clock

  /// A request whose reply has not been written yet.
  struct Slot {
    std::string request_id;
    std::string bytes;  // its reply, while an earlier one is missing
    std::size_t cost = 0;
    bool done = false;
    bool keep_alive = false;
    bool head = false;
    bool http10 = false;
  };

  Verdict read_input(bool ended);
  Verdict read_socket(bool ended);
  void decrypt();
  void consume(std::string_view data);
  bool may_parse();
  void dispatch();
  void refuse(int status);
  std::optional<std::uint64_t> open_slot(Slot slot);  ///< nothing: not to be answered
  static void write_reply(const Slot& slot, const Reply& reply, bool close, std::string& to);
  void note_progress();

  // All of these need the lock.
  std::size_t unsent() const { return out_.size() - sent_; }
  bool overfull() const;
  bool held_back();
  void compact();
  void emit(std::string_view bytes);
  void send_continue();
  void flush();
  void start_close();
  void abort();
  void wake_if_paused();

  Edge& edge_;
  Loop& loop_;
  const std::string address_;

  // ---- reactor thread only ----
  RequestParser parser_;
  std::string leftover_;       // input held back while paused
  bool input_closed_ = false;  // nothing more is parsed
  bool undecrypted_ = false;   // TLS holds input back while paused
  std::size_t discarded_ = 0;
  Millis head_since_ = 0;  // when the request being received began; 0: none
  Millis body_since_ = 0;
  bool fresh_ = true;  // no request yet

  std::mutex mutex_;  // guards what follows
  int fd_;
  std::unique_ptr<TlsSession> tls_;
  std::vector<Slot> slots_;  // from first_ on
  std::size_t first_ = 0;
  std::uint64_t first_sequence_ = 0;
  std::size_t request_bytes_ = 0;  // of the requests in slots
  std::size_t held_bytes_ = 0;     // of their replies that wait for an earlier one
  bool continue_wanted_ = false;
  std::string out_;
  std::size_t sent_ = 0;
  bool corked_ = false;     // the reactor thread will flush
  bool paused_ = false;     // reading has stopped until replies are gone
  bool closing_ = false;    // the last reply has been written to out_
  bool lingering_ = false;  // our side is shut down, waiting for theirs
  bool ended_ = false;      // their side is shut down
  bool broken_ = false;
  const Millis accepted_at_;
  Millis active_at_;      // last reply
  bool stalled_ = false;  // the kernel takes no more bytes
  Millis progress_at_;    // when that began, or last changed
  Millis linger_until_ = 0;
};

}  // namespace postern::http
