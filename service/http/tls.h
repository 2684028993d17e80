#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"
#include "http/server.h"

struct ssl_st;
struct ssl_ctx_st;

namespace postern::http {

/// Certificate, key and settings for new connections: TLS 1.2 and 1.3, AEAD
/// suites with forward secrecy, ALPN http/1.1; no renegotiation, compression
/// or session resumption. Immutable: a reload makes another one, shared by the
/// connections that began with it.
class TlsContext {
 public:
  /// Client certificates: with a CA file one is required (asked for only, when
  /// request_client_certificate is set) and must verify; without a CA file but
  /// with request_client_certificate any certificate is taken, and judging it
  /// is left to whoever reads Request::client_certificate. With both and
  /// accept_unverified_client_certificate any is taken, and
  /// client_certificate_verified() tells those apart that verify.
  /// Errors: Unavailable, naming the file.
  static Result<std::shared_ptr<const TlsContext>> load(const TlsOptions& options);

  ssl_ctx_st* get() const noexcept { return context_.get(); }
  bool has_client_ca() const noexcept { return has_client_ca_; }

 private:
  TlsContext() = default;
  std::shared_ptr<ssl_ctx_st> context_;  // shared only because its deleter is erased
  bool has_client_ca_ = false;
};

/// The TLS side of one connection over memory: bytes in, bytes out, never a
/// system call. Not thread-safe; the connection's lock guards it.
class TlsSession {
 public:
  enum class Outcome { Ok, Closed, Failed };

  explicit TlsSession(std::shared_ptr<const TlsContext> context);

  /// Takes bytes from the network and goes on with the handshake.
  Outcome receive(std::string_view ciphertext);
  bool handshake_done() const noexcept { return handshake_done_; }
  /// Decrypts into `out`; 0 bytes with Ok when more must be received first.
  Outcome read(std::span<char> out, std::size_t& size);
  /// Encrypts; false when the session is broken.
  bool write(std::string_view plaintext);
  /// Queues close_notify.
  void close();
  /// Appends what has to go to the network.
  void take_output(std::string& out);

  /// PEM of the client's certificate, once the handshake is done.
  const std::optional<std::string>& client_certificate() const noexcept { return certificate_; }
  /// Whether the CA file vouches for it.
  bool client_certificate_verified() const noexcept { return certificate_verified_; }

 private:
  Outcome handshake();

  std::shared_ptr<const TlsContext> context_;
  std::unique_ptr<ssl_st, void (*)(ssl_st*)> ssl_;
  bool handshake_done_ = false;
  bool broken_ = false;
  std::optional<std::string> certificate_;
  bool certificate_verified_ = false;
};

}  // namespace postern::http
