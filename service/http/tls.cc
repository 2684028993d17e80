#include "http/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <limits>
#include <new>

namespace postern::http {
namespace {

int clamp(std::size_t size) {
  return static_cast<int>(
      std::min<std::size_t>(size, static_cast<std::size_t>(std::numeric_limits<int>::max())));
}

/// Reason of the last OpenSSL error, for logs: names, never data.
std::string openssl_reason() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason != nullptr ? reason : "unknown";
}

int choose_http11(SSL*, const unsigned char** chosen, unsigned char* chosen_size,
                  const unsigned char* offered, unsigned int offered_size, void*) {
  static constexpr unsigned char kOurs[] = "\x08http/1.1";
  unsigned char* out = nullptr;
  if (SSL_select_next_proto(&out, chosen_size, kOurs, sizeof kOurs - 1, offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *chosen = out;
  return SSL_TLSEXT_ERR_OK;
}

/// Goes on whatever was wrong; SSL_get_verify_result() tells it afterwards.
int accept_any_certificate(int, X509_STORE_CTX*) { return 1; }

Error unusable(const char* what, const std::filesystem::path& file) {
  return fail(ErrorCode::Unavailable, std::string("cannot use the ") + what + " " + file.string() +
                                          ": " + openssl_reason());
}

}  // namespace

Result<std::shared_ptr<const TlsContext>> TlsContext::load(const TlsOptions& options) {
  ERR_clear_error();
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  if (!context) throw std::bad_alloc();
  auto* const raw = context.get();
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
                               SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  // No resumption: a resumed session would carry a client certificate past a
  // reload that no longer trusts its issuer.
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(raw, 0);
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_alpn_select_cb(raw, choose_http11, nullptr);
  if (SSL_CTX_set_cipher_list(raw, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1 ||
      SSL_CTX_set1_groups_list(raw, "X25519:P-256:P-384") != 1) {
    return fail(ErrorCode::Unavailable, "this OpenSSL offers none of the cipher suites we use",
                openssl_reason());
  }
  // A passphrase prompt would hang a service.
  SSL_CTX_set_default_passwd_cb(raw, [](char*, int, int, void*) { return 0; });
  if (SSL_CTX_use_certificate_chain_file(raw, options.certificate_file.c_str()) != 1) {
    return unusable("certificate file", options.certificate_file);
  }
  if (SSL_CTX_use_PrivateKey_file(raw, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return unusable("key file", options.key_file);
  }
  if (SSL_CTX_check_private_key(raw) != 1) {
    return unusable("key file (it does not belong to the certificate)", options.key_file);
  }
  if (options.client_ca_file) {
    if (SSL_CTX_load_verify_locations(raw, options.client_ca_file->c_str(), nullptr) != 1) {
      return unusable("client CA file", *options.client_ca_file);
    }
    auto* names = SSL_load_client_CA_file(options.client_ca_file->c_str());
    if (names == nullptr) return unusable("client CA file", *options.client_ca_file);
    SSL_CTX_set_client_CA_list(raw, names);  // takes ownership
    if (options.accept_unverified_client_certificate) {
      SSL_CTX_set_verify(raw, SSL_VERIFY_PEER, accept_any_certificate);
    } else {
      const int required = options.request_client_certificate ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
      SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | required, nullptr);
    }
  } else if (options.request_client_certificate) {
    SSL_CTX_set_verify(raw, SSL_VERIFY_PEER, accept_any_certificate);
  }
  std::shared_ptr<TlsContext> loaded(new TlsContext());
  loaded->context_ = std::move(context);
  loaded->has_client_ca_ = options.client_ca_file.has_value();
  return std::shared_ptr<const TlsContext>(std::move(loaded));
}

TlsSession::TlsSession(std::shared_ptr<const TlsContext> context)
    : context_(std::move(context)), ssl_(SSL_new(context_->get()), SSL_free) {
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  if (!ssl_ || in == nullptr || out == nullptr) {
    BIO_free(in);
    BIO_free(out);
    throw std::bad_alloc();
  }
  BIO_set_mem_eof_return(in, -1);  // empty means "later", not "end of stream"
  SSL_set_bio(ssl_.get(), in, out);
  SSL_set_accept_state(ssl_.get());
}

TlsSession::Outcome TlsSession::handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    handshake_done_ = true;
    const std::unique_ptr<X509, void (*)(X509*)> shown(SSL_get1_peer_certificate(ssl_.get()),
                                                       X509_free);
    if (shown) {
      certificate_verified_ =
          context_->has_client_ca() && SSL_get_verify_result(ssl_.get()) == X509_V_OK;
      const std::unique_ptr<BIO, void (*)(BIO*)> pem(BIO_new(BIO_s_mem()), BIO_free_all);
      char* text = nullptr;
      if (!pem || PEM_write_bio_X509(pem.get(), shown.get()) != 1) throw std::bad_alloc();
      const auto size = BIO_get_mem_data(pem.get(), &text);
      certificate_ = std::string(text, static_cast<std::size_t>(size));
    }
    return Outcome::Ok;
  }
  const int error = SSL_get_error(ssl_.get(), result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return Outcome::Ok;
  broken_ = true;
  ERR_clear_error();
  return Outcome::Failed;
}

TlsSession::Outcome TlsSession::receive(std::string_view ciphertext) {
  if (broken_) return Outcome::Failed;
  const int size = clamp(ciphertext.size());
  if (BIO_write(SSL_get_rbio(ssl_.get()), ciphertext.data(), size) != size) throw std::bad_alloc();
  return handshake_done_ ? Outcome::Ok : handshake();
}

TlsSession::Outcome TlsSession::read(std::span<char> out, std::size_t& size) {
  size = 0;
  if (broken_) return Outcome::Failed;
  if (!handshake_done_) return Outcome::Ok;
  ERR_clear_error();
  const int result = SSL_read(ssl_.get(), out.data(), clamp(out.size()));
  if (result > 0) {
    size = static_cast<std::size_t>(result);
    return Outcome::Ok;
  }
  const int error = SSL_get_error(ssl_.get(), result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return Outcome::Ok;
  if (error == SSL_ERROR_ZERO_RETURN) return Outcome::Closed;
  broken_ = true;
  ERR_clear_error();
  return Outcome::Failed;
}

bool TlsSession::write(std::string_view plaintext) {
  if (broken_ || !handshake_done_) return false;
  while (!plaintext.empty()) {
    ERR_clear_error();
    const int written = SSL_write(ssl_.get(), plaintext.data(), clamp(plaintext.size()));
    if (written <= 0) {
      broken_ = true;
      ERR_clear_error();
      return false;
    }
    plaintext.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

void TlsSession::close() {
  if (broken_ || !handshake_done_) return;
  ERR_clear_error();
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

void TlsSession::take_output(std::string& out) {
  BIO* const bio = SSL_get_wbio(ssl_.get());
  for (auto pending = BIO_ctrl_pending(bio); pending > 0; pending = BIO_ctrl_pending(bio)) {
    const auto before = out.size();
    out.resize(before + pending);
    const int got = BIO_read(bio, out.data() + before, clamp(pending));
    out.resize(before + static_cast<std::size_t>(std::max(got, 0)));
    if (got <= 0) return;
  }
}

}  // namespace postern::http
