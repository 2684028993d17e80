#include "crypto/private_key.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "core/byte_reader.h"

namespace postern::crypto {
namespace {

template <class T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

constexpr std::size_t kMaxBytes = 64 * 1024;

/// One block of a PEM text: what its lines decode to, and how it is called.
struct Block {
  char* name = nullptr;
  char* header = nullptr;
  unsigned char* data = nullptr;
  long size = 0;

  Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() {
    OPENSSL_secure_free(name);
    OPENSSL_secure_free(header);
    OPENSSL_secure_clear_free(data, static_cast<std::size_t>(size));
  }
  /// False at the end, and for a block that is malformed.
  bool read(BIO* from) {
    // With this flag OpenSSL wipes its own copies, also without a secure heap.
    return PEM_read_bio_ex(from, &name, &header, &data, &size, PEM_FLAG_SECURE) == 1;
  }
  ByteView bytes() const {
    return {reinterpret_cast<const std::byte*>(data), static_cast<std::size_t>(size)};
  }
};

/// PROTOCOL.key of OpenSSH: magic, cipher, KDF, its options, one key.
std::optional<PrivateKeyForm> openssh_form(ByteView bytes) {
  constexpr std::string_view kMagic("openssh-key-v1\0", 15);
  ByteReader reader(bytes);
  if (as_text(reader.take(kMagic.size())) != kMagic) return std::nullopt;
  const auto cipher = as_text(reader.part());
  reader.part();
  reader.part();
  const auto keys = reader.number();
  const auto public_key = reader.part();
  const auto section = reader.part();
  if (!reader.at_end() || keys != 1 || public_key.empty() || section.size() < 8) {
    return std::nullopt;
  }
  if (cipher == "none") {
    ByteReader inner(section);
    const auto first = inner.number();
    if (first != inner.number()) return std::nullopt;
    const auto kind = inner.part();
    if (!inner.ok() || kind.empty()) return std::nullopt;
  }
  return PrivateKeyForm{true, cipher != "none"};
}

std::optional<PrivateKeyForm> form_of(const Block& block) {
  const std::string_view name(block.name);
  if (name == "OPENSSH PRIVATE KEY") return openssh_form(block.bytes());
  const unsigned char* at = block.data;
  if (name == "ENCRYPTED PRIVATE KEY") {
    const Owned<X509_SIG> frame(d2i_X509_SIG(nullptr, &at, block.size), X509_SIG_free);
    if (!frame || at != block.data + block.size) return std::nullopt;
    return PrivateKeyForm{false, true};
  }
  // RFC 1421 §4.6.1.1, which older programs still write.
  if (std::string_view(block.header).find("ENCRYPTED") != std::string_view::npos) {
    return PrivateKeyForm{false, true};
  }
  const Owned<EVP_PKEY> key(d2i_AutoPrivateKey(nullptr, &at, block.size), EVP_PKEY_free);
  if (!key) return std::nullopt;
  return PrivateKeyForm{false, false};
}

}  // namespace

std::optional<PrivateKeyForm> private_key_form(std::string_view pem) {
  if (pem.empty() || pem.size() > kMaxBytes) return std::nullopt;
  const Owned<BIO> in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free_all);
  if (!in) throw std::bad_alloc();
  std::optional<PrivateKeyForm> found;
  for (;;) {
    Block block;
    if (!block.read(in.get())) break;
    if (!std::string_view(block.name).ends_with("PRIVATE KEY")) continue;
    auto form = form_of(block);
    if (!form || found) {
      found.reset();
      break;
    }
    found = form;
  }
  ERR_clear_error();
  return found;
}

}  // namespace postern::crypto
