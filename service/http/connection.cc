#include "http/connection.h"

#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <span>
#include <typeinfo>
#include <utility>

#include "core/log.h"
#include "crypto/random.h"
#include "http/error_render.h"

namespace postern::http {
namespace {

constexpr std::size_t kPauseUnsentBytes = 64 * 1024;    // enough to keep the wire busy
constexpr std::size_t kKeepCapacity = 16 * 1024;        // of the output buffer
constexpr std::size_t kDiscardLimit = 8 * 1024 * 1024;  // while lingering
constexpr std::int64_t kLingerMillis = 2000;
constexpr int kReadsPerEvent = 4;  // then others get their turn
constexpr std::size_t kMaxRequestIdBytes = 128;
constexpr std::size_t kCompactSlots = 64;

std::int64_t now_millis() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// IMF-fixdate of RFC 9110 §5.6.7, made once a second and thread.
std::string_view http_date() {
  thread_local time_t made_for = 0;
  thread_local std::array<char, 32> text{};
  timespec now{};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (now.tv_sec != made_for) {
    static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                              "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    tm parts{};
    gmtime_r(&now.tv_sec, &parts);
    // strftime would use the locale's names.
    std::snprintf(text.data(), text.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                  kDays[parts.tm_wday % 7], parts.tm_mday, kMonths[parts.tm_mon % 12],
                  (parts.tm_year + 1900) % 10000, parts.tm_hour, parts.tm_min, parts.tm_sec);
    made_for = now.tv_sec;
  }
  return {text.data(), 29};
}

/// 75 bits: unique, not secret. 15 characters stay inside a std::string.
std::string make_request_id() {
  thread_local std::uint64_t state = [] {
    std::uint64_t seed = 0;
    crypto::random_bytes(std::as_writable_bytes(std::span(&seed, 1)));
    return seed;
  }();
  const auto next = [] {  // splitmix64
    std::uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  };
  static constexpr char kAlphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
  std::string id(15, 'a');
  auto bits = next();
  for (std::size_t i = 0; i < id.size(); ++i) {
    if (i == 12) bits = next();
    id[i] = kAlphabet[bits & 31];
    bits >>= 5;
  }
  return id;
}

bool is_request_id(std::string_view text) {
  return !text.empty() && text.size() <= kMaxRequestIdBytes &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  c == '.' || c == '_' || c == '-';
         });
}

void append_number(std::string& to, std::size_t number) {
  std::array<char, 24> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  to.append(digits.data(), static_cast<std::size_t>(end - digits.data()));
}

/// Runs a handler and keeps whatever it throws from leaving. The responder it
/// drops on the way out answers 500 by itself.
void run_handler(Edge& edge, const Handler& handler, const std::shared_ptr<Request>& request,
                 Responder responder) noexcept {
  const char* type = nullptr;
  try {
    handler(request, std::move(responder));
    return;
  } catch (const std::exception& e) {
    type = typeid(e).name();  // the type, not what(): that may quote the request
  } catch (...) {
    type = "not a std::exception";
  }
  edge.handler_faults.fetch_add(1, std::memory_order_relaxed);
  try {
    log::error("http.handler_threw", {{"type", type}, {"request_id", request->request_id}});
  } catch (...) {
    // Out of memory while logging: the counter above still tells.
  }
}

class HandlerJob final : public WorkerPool::Job {
 public:
  HandlerJob(Edge& edge, const Handler& handler, std::shared_ptr<Request> request,
             Responder responder)
      : edge_(edge),
        handler_(handler),
        request_(std::move(request)),
        responder_(std::move(responder)) {}

  void run() noexcept override { run_handler(edge_, handler_, request_, std::move(responder_)); }
  Responder& responder() { return responder_; }

 private:
  Edge& edge_;
  const Handler& handler_;
  std::shared_ptr<Request> request_;
  Responder responder_;
};

class SlotSink final : public Responder::Sink {
 public:
  SlotSink(std::shared_ptr<Connection> connection, std::uint64_t sequence, Surface surface)
      : connection_(std::move(connection)), sequence_(sequence), surface_(surface) {}

  void deliver(Reply reply) noexcept override {
    try {
      // What Responder sends when it is dropped: give it the surface's shape.
      if (reply.status() == 500 && reply.body().empty()) reply = edge_error(500, surface_);
      connection_->deliver(sequence_, std::move(reply));
    } catch (...) {
      connection_->deliver(sequence_, Reply(500));
    }
  }

 private:
  std::shared_ptr<Connection> connection_;  // keeps the slot to answer into
  std::uint64_t sequence_;
  Surface surface_;
};

}  // namespace

Connection::Connection(Edge& edge, Loop& loop, int fd, std::string address)
    : edge_(edge),
      loop_(loop),
      address_(std::move(address)),
      parser_(edge.limits),
      fd_(fd),
      accepted_at_(now_millis()),
      active_at_(accepted_at_),
      progress_at_(accepted_at_) {
  if (auto context = edge.tls()) tls_ = std::make_unique<TlsSession>(std::move(context));
}

Connection::~Connection() {
  wipe(leftover_);
  wipe(out_);
}

Connection::Verdict Connection::on_event(bool ended) {
  {
    const std::lock_guard lock(mutex_);
    corked_ = true;
    paused_ = false;
    flush();
    if (broken_) return Verdict::Remove;
  }
  const auto verdict = read_input(ended);
  const std::lock_guard lock(mutex_);
  corked_ = false;
  flush();
  wake_if_paused();
  if (broken_ || verdict == Verdict::Remove) return Verdict::Remove;
  // A client may shut down its side after the request and still read the reply.
  const bool idle = first_ == slots_.size() && unsent() == 0;
  return ended_ && (lingering_ || idle) ? Verdict::Remove : Verdict::Keep;
}

Connection::Verdict Connection::read_input(bool ended) {
  if (!leftover_.empty()) {
    auto text = std::exchange(leftover_, {});
    consume(text);
    wipe(text);
  }
  if (std::exchange(undecrypted_, false)) decrypt();
  const auto verdict = read_socket(ended);
  note_progress();
  return verdict;
}

Connection::Verdict Connection::read_socket(bool ended) {
  auto& buffer = loop_.received;
  for (int reads = 0; reads < kReadsPerEvent;) {
    {
      // Paused input stays in the kernel, whose window then holds the client.
      const std::lock_guard lock(mutex_);
      if (held_back()) return broken_ ? Verdict::Remove : Verdict::Keep;
    }
    const auto size = ::recv(fd_, buffer.data(), buffer.size(), 0);
    if (size < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN || errno == EWOULDBLOCK ? Verdict::Keep : Verdict::Remove;
    }
    if (size == 0) {
      const std::lock_guard lock(mutex_);
      ended_ = true;
      return Verdict::Keep;
    }
    ++reads;
    const std::string_view data(buffer.data(), static_cast<std::size_t>(size));
    if (input_closed_) {
      discarded_ += data.size();
      if (discarded_ > kDiscardLimit) return Verdict::Remove;
    } else if (tls_) {
      bool usable = false;
      {
        const std::lock_guard lock(mutex_);
        usable = tls_->receive(data) != TlsSession::Outcome::Failed;
        tls_->take_output(out_);
        if (!usable) start_close();  // after the alert
      }
      if (usable) {
        decrypt();
      } else {
        input_closed_ = true;
      }
    } else {
      consume(data);
      wipe(std::as_writable_bytes(std::span(buffer).first(data.size())));
    }
    // A short read emptied the socket; what comes later is a new event.
    if (data.size() < buffer.size() && !ended) return Verdict::Keep;
  }
  const std::lock_guard lock(mutex_);
  loop_.rearm(fd_);
  return Verdict::Keep;
}

/// Moves what TLS can decrypt to the parser.
void Connection::decrypt() {
  auto& buffer = loop_.decrypted;
  while (!input_closed_) {
    std::size_t size = 0;
    auto outcome = TlsSession::Outcome::Ok;
    {
      const std::lock_guard lock(mutex_);
      if (held_back()) {
        undecrypted_ = true;
        return;
      }
      outcome = tls_->read(buffer, size);
      tls_->take_output(out_);
      if (outcome == TlsSession::Outcome::Failed) start_close();
      if (outcome == TlsSession::Outcome::Closed) ended_ = true;
    }
    if (outcome != TlsSession::Outcome::Ok) input_closed_ = true;
    if (size == 0) return;
    consume({buffer.data(), size});
    wipe(std::as_writable_bytes(std::span(buffer).first(size)));
  }
}

void Connection::consume(std::string_view data) {
  while (!data.empty() && !input_closed_) {
    if (!parser_.started() && !may_parse()) {
      if (!input_closed_) leftover_.append(data);
      return;
    }
    data.remove_prefix(parser_.feed(data));
    switch (parser_.state()) {
      case RequestParser::State::NeedMore:
        if (parser_.take_expect_continue()) {
          const std::lock_guard lock(mutex_);
          continue_wanted_ = true;
          send_continue();
        }
        break;
      case RequestParser::State::Complete: dispatch(); break;
      case RequestParser::State::Failed:
        bump(loop_.parse_errors);
        refuse(parser_.error_status());
        break;
    }
  }
}

bool Connection::overfull() const {
  return slots_.size() - first_ >= edge_.options.max_pipelined ||
         request_bytes_ > edge_.options.max_body_bytes + edge_.options.max_header_bytes ||
         unsent() > kPauseUnsentBytes;
}

/// Whether no more input is taken until the client has read what waits for it.
/// Not only replies: TLS answers a peer's key updates by itself.
bool Connection::held_back() {
  if (!paused_ && unsent() > kPauseUnsentBytes) {
    flush();
    paused_ = unsent() > kPauseUnsentBytes;
  }
  return paused_ || broken_;
}

/// Whether another request may begin now. If not, reading is paused.
bool Connection::may_parse() {
  const std::lock_guard lock(mutex_);
  if (closing_ || broken_) {
    input_closed_ = true;
    return false;
  }
  if (unsent() > kPauseUnsentBytes) flush();
  paused_ = overfull();
  return !paused_;
}

/// Keeps the time-outs of the request being received.
void Connection::note_progress() {
  if (!parser_.started() || input_closed_) {
    head_since_ = body_since_ = 0;
  } else {
    if (head_since_ == 0) head_since_ = now_millis();
    if (parser_.in_body() && body_since_ == 0) body_since_ = now_millis();
  }
}

std::optional<std::uint64_t> Connection::open_slot(Slot slot) {
  const std::lock_guard lock(mutex_);
  // RFC 9112 §9.6: nothing that arrives after a reply that closes is acted on,
  // because the client will send it again elsewhere.
  const bool last_is_final = first_ < slots_.size() && !slots_.back().keep_alive;
  if (closing_ || broken_ || last_is_final) return std::nullopt;
  continue_wanted_ = false;  // a complete request waits for nothing
  request_bytes_ += slot.cost;
  slots_.push_back(std::move(slot));
  return first_sequence_ + (slots_.size() - first_) - 1;
}

void Connection::dispatch() {
  bump(loop_.requests);
  fresh_ = false;
  head_since_ = body_since_ = 0;
  Slot slot;
  slot.keep_alive = parser_.keep_alive();
  slot.http10 = parser_.http10();
  slot.cost = parser_.size();
  const auto request = parser_.take();
  request->peer_address = address_;
  if (tls_) {
    request->tls = true;
    request->client_certificate = tls_->client_certificate();  // final after the handshake
    request->client_certificate_verified = tls_->client_certificate_verified();
  }
  const auto sent_id = request->header("X-Request-Id");
  request->request_id =
      sent_id && is_request_id(*sent_id) ? std::string(*sent_id) : make_request_id();
  slot.request_id = request->request_id;
  slot.head = request->method == "HEAD";
  if (!slot.keep_alive) input_closed_ = true;

  const auto surface = surface_of(request->path);
  const auto sequence = open_slot(std::move(slot));
  if (!sequence) {
    input_closed_ = true;
    return;
  }
  Responder responder(std::make_unique<SlotSink>(shared_from_this(), *sequence, surface));
  auto match = edge_.router.match(request->method, request->path);
  if (match.handler == nullptr) {
    auto reply = edge_error(match.allow.empty() ? 404 : 405, surface);
    if (!match.allow.empty()) reply.set_header("Allow", match.allow);
    responder.send(std::move(reply));
    return;
  }
  request->parameters = std::move(match.parameters);
  request->may_block_on_outbound = match.pool == Pool::Outbound;
  auto* const pool = edge_.pool(match.pool);
  if (pool == nullptr) {
    run_handler(edge_, *match.handler, request, std::move(responder));
    return;
  }
  auto handler_job =
      std::make_unique<HandlerJob>(edge_, *match.handler, request, std::move(responder));
  auto* const waiting = handler_job.get();
  std::unique_ptr<WorkerPool::Job> job = std::move(handler_job);
  if (!pool->submit(job)) {
    edge_.overloads.fetch_add(1, std::memory_order_relaxed);
    waiting->responder().send(edge_error(503, surface));
  }
}

/// Answers what cannot be a request, after the replies still due, and closes.
void Connection::refuse(int status) {
  input_closed_ = true;
  head_since_ = body_since_ = 0;
  Slot slot;
  slot.request_id = make_request_id();
  const auto surface = surface_of(parser_.path());
  const auto detail = status != 413 ? std::string()
                                    : "the body is larger than " +
                                          std::to_string(edge_.limits.max_body_bytes) + " bytes";
  if (const auto sequence = open_slot(std::move(slot))) {
    deliver(*sequence, edge_error(status, surface, detail));
  }
}

void Connection::deliver(std::uint64_t sequence, Reply reply) noexcept {
  const std::lock_guard lock(mutex_);
  if (fd_ < 0 || closing_ || broken_) return;  // nobody to tell
  try {
    auto& slot = slots_[first_ + static_cast<std::size_t>(sequence - first_sequence_)];
    const bool last = &slot == &slots_.back();
    const bool close = !slot.keep_alive || reply.closes() ||
                       (last && edge_.draining.load(std::memory_order_relaxed));
    slot.keep_alive = !close;
    slot.done = true;
    if (&slot == &slots_[first_] && !tls_) {
      write_reply(slot, reply, close, out_);  // the usual case: no copy
    } else {
      write_reply(slot, reply, close, slot.bytes);
      held_bytes_ += slot.bytes.size();
    }
    while (first_ < slots_.size() && slots_[first_].done) {
      auto& front = slots_[first_];
      const bool keep_alive = front.keep_alive;
      request_bytes_ -= front.cost;
      held_bytes_ -= front.bytes.size();
      emit(front.bytes);
      wipe(front.bytes);
      ++first_;
      ++first_sequence_;
      if (!keep_alive) {
        start_close();
        break;
      }
    }
    if (first_ == slots_.size()) {
      slots_.clear();
      first_ = 0;
      active_at_ = now_millis();
      send_continue();
    } else if (first_ >= kCompactSlots && first_ * 2 >= slots_.size()) {
      slots_.erase(slots_.begin(), slots_.begin() + static_cast<std::ptrdiff_t>(first_));
      first_ = 0;
    }
    if (!corked_ || unsent() > kPauseUnsentBytes) flush();
    if (unsent() + held_bytes_ > edge_.options.max_unsent_bytes) {
      log::warning("http.cut_off", {{"reason", "max_unsent_bytes"}});
      abort();
    }
    wake_if_paused();
  } catch (...) {
    abort();  // out of memory: this client only
  }
}

void Connection::write_reply(const Slot& slot, const Reply& reply, bool close, std::string& to) {
  const int status = reply.status();
  const bool no_content = status == 204 || status == 304;
  to += "HTTP/1.1 ";
  append_number(to, static_cast<std::size_t>(std::clamp(status, 100, 999)));
  to += ' ';
  to += reason_phrase(status);
  to += "\r\nDate: ";
  to += http_date();
  if (!no_content) {
    to += "\r\nContent-Length: ";
    append_number(to, reply.body().size());
  }
  to += "\r\nX-Request-Id: ";
  to += slot.request_id;
  if (close) {
    to += "\r\nConnection: close";
  } else if (slot.http10) {
    to += "\r\nConnection: keep-alive";
  }
  for (const auto& [name, value] : reply.headers()) {
    to += "\r\n";
    to += name;
    to += ": ";
    to += value;
  }
  to += "\r\n\r\n";
  if (!slot.head && !no_content) to += reply.body();
}

/// Puts bytes on the way out.
void Connection::emit(std::string_view bytes) {
  if (!tls_) {
    out_ += bytes;
    return;
  }
  if (!bytes.empty() && !tls_->write(bytes)) abort();
  tls_->take_output(out_);
}

/// Only between replies: inside or before one it would break their order.
void Connection::send_continue() {
  if (!continue_wanted_ || first_ != slots_.size()) return;
  continue_wanted_ = false;
  emit("HTTP/1.1 100 Continue\r\n\r\n");
}

void Connection::flush() {
  if (fd_ < 0 || broken_) return;
  while (sent_ < out_.size()) {
    const auto written = ::send(fd_, out_.data() + sent_, unsent(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return abort();
      if (!stalled_) progress_at_ = now_millis();
      stalled_ = true;
      if (sent_ >= kPauseUnsentBytes) compact();
      // The reactor calls again when the client has read something.
      return loop_.rearm(fd_);
    }
    sent_ += static_cast<std::size_t>(written);
    stalled_ = false;
  }
  if (!out_.empty()) {
    if (out_.capacity() > kKeepCapacity) {
      wipe(out_);
      std::string().swap(out_);
    } else {
      wipe(std::as_writable_bytes(std::span(out_)));
      out_.clear();
    }
    sent_ = 0;
  }
  if (closing_ && !lingering_) {
    // Shutting down only our side lets the client read the reply: closing with
    // its bytes unread would reset the connection under it.
    lingering_ = true;
    linger_until_ = now_millis() + kLingerMillis;
    ::shutdown(fd_, SHUT_WR);
  }
  if (!corked_ && ended_ && first_ == slots_.size())
    ::shutdown(fd_, SHUT_RDWR);  // wakes the reactor
}

/// Drops what was sent. A client that reads steadily, but never everything,
/// would otherwise make out_ keep all it was ever sent.
void Connection::compact() {
  const auto rest = unsent();
  std::memmove(out_.data(), out_.data() + sent_, rest);
  wipe(std::as_writable_bytes(std::span(out_)).subspan(rest));
  out_.resize(rest);
  sent_ = 0;
}

/// What is in out_ is the last thing this client gets.
void Connection::start_close() {
  if (closing_) return;
  closing_ = true;
  for (auto i = first_; i < slots_.size(); ++i) wipe(slots_[i].bytes);
  slots_.clear();
  first_ = 0;
  request_bytes_ = held_bytes_ = 0;
  continue_wanted_ = false;
  if (tls_) {
    tls_->close();
    tls_->take_output(out_);
  }
}

void Connection::abort() {
  if (broken_) return;
  broken_ = true;
  if (fd_ >= 0) ::shutdown(fd_, SHUT_RDWR);  // wakes the reactor, which removes us
}

void Connection::wake_if_paused() {
  if (paused_ && !corked_ && fd_ >= 0 && !overfull()) {
    paused_ = false;
    loop_.rearm(fd_);
  }
}

Connection::Verdict Connection::on_tick() {
  const auto now = now_millis();
  const auto& options = edge_.options;
  bool late_request = false;
  {
    const std::lock_guard lock(mutex_);
    if (broken_ || edge_.stopping.load(std::memory_order_relaxed)) return Verdict::Remove;
    const auto expired = [&](Millis since, std::chrono::milliseconds limit) {
      if (now - since < limit.count()) return false;
      edge_.timeouts.fetch_add(1, std::memory_order_relaxed);
      return true;
    };
    if (unsent() > 0) {
      return expired(progress_at_, options.write_timeout) ? Verdict::Remove : Verdict::Keep;
    }
    if (lingering_) return now >= linger_until_ ? Verdict::Remove : Verdict::Keep;
    if (tls_ && !tls_->handshake_done()) {
      return expired(accepted_at_, options.tls_handshake_timeout) ? Verdict::Remove : Verdict::Keep;
    }
    if (body_since_ != 0) {
      late_request = expired(body_since_, options.body_timeout);
    } else if (head_since_ != 0) {
      late_request = expired(head_since_, options.header_timeout);
    } else if (first_ == slots_.size()) {
      // Bytes alone do not count as a sign of life, or a byte of TLS a second
      // would hold a connection for ever.
      const auto first_request = options.header_timeout + (tls_ ? options.tls_handshake_timeout
                                                                : std::chrono::milliseconds(0));
      const bool idle_out =
          fresh_ ? expired(accepted_at_, first_request) : expired(active_at_, options.idle_timeout);
      if (!idle_out && !edge_.draining.load(std::memory_order_relaxed)) return Verdict::Keep;
      start_close();
      flush();
      return Verdict::Remove;  // all was read and written: closing now is a clean end
    }
  }
  if (late_request) refuse(408);
  return Verdict::Keep;
}

void Connection::detach() {
  const std::lock_guard lock(mutex_);
  if (fd_ < 0) return;
  fd_ = -1;
  start_close();
  tls_.reset();
  wipe(out_);
  sent_ = 0;
}

}  // namespace postern::http
