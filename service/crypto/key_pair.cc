#include "crypto/key_pair.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>
#include <vector>

#include "core/byte_reader.h"
#include "core/bytes.h"
#include "crypto/base64url.h"
#include "crypto/random.h"

namespace postern::crypto {
namespace {

template <class T>
using Owned = std::unique_ptr<T, void (*)(T*)>;
using Key = Owned<EVP_PKEY>;
using Number = Owned<BIGNUM>;

constexpr std::string_view kMagic("openssh-key-v1\0", 15);
constexpr std::string_view kBegin = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
constexpr std::string_view kEnd = "-----END OPENSSH PRIVATE KEY-----\n";
constexpr std::size_t kSeed = 32;

Key generate(KeyPairKind kind) {
  EVP_PKEY* made = nullptr;
  switch (kind) {
    case KeyPairKind::Ed25519: made = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"); break;
    case KeyPairKind::P256: made = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"); break;
    case KeyPairKind::P384: made = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-384"); break;
    case KeyPairKind::Rsa3072:
      made = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", size_t{3072});
      break;
    case KeyPairKind::Rsa4096:
      made = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", size_t{4096});
      break;
  }
  if (made == nullptr) throw std::bad_alloc();
  return {made, EVP_PKEY_free};
}

/// What was written into memory, moved into locked memory and wiped behind.
SecureBuffer taken(BIO* out) {
  char* data = nullptr;
  const auto size = BIO_get_mem_data(out, &data);
  auto text = SecureBuffer::copy_of(std::string_view(data, static_cast<std::size_t>(size)));
  wipe({reinterpret_cast<std::byte*>(data), static_cast<std::size_t>(size)});
  return text;
}

Owned<BIO> memory() {
  Owned<BIO> out(BIO_new(BIO_s_mem()), BIO_free_all);
  if (!out) throw std::bad_alloc();
  return out;
}

std::string public_pem(EVP_PKEY* key) {
  const auto out = memory();
  if (PEM_write_bio_PUBKEY(out.get(), key) != 1) throw std::bad_alloc();
  char* data = nullptr;
  const auto size = BIO_get_mem_data(out.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

// ---- OpenSSH's form: PROTOCOL.key, RFC 8709 §4, RFC 4253 §6.6 ----

/// Lengths and texts, big-endian. Reserved at once, so that nothing secret is left
/// behind when it grows.
class Wire {
 public:
  Wire() { bytes_.reserve(8192); }
  ~Wire() { wipe(bytes_); }
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  Wire& number(std::uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      bytes_ += static_cast<char>(value >> shift & 0xFF);
    }
    return *this;
  }
  Wire& text(std::string_view value) {
    number(static_cast<std::uint32_t>(value.size()));
    bytes_ += value;
    return *this;
  }
  /// RFC 4251 §5, of a number that is not negative.
  Wire& mpint(const BIGNUM* value) {
    std::string bytes(static_cast<std::size_t>(BN_num_bytes(value)), '\0');
    BN_bn2bin(value, reinterpret_cast<unsigned char*>(bytes.data()));
    if (!bytes.empty() && (static_cast<unsigned char>(bytes.front()) & 0x80) != 0) {
      bytes.insert(bytes.begin(), '\0');
    }
    text(bytes);
    wipe(bytes);
    return *this;
  }
  Wire& raw(std::string_view value) {
    bytes_ += value;
    return *this;
  }
  std::string_view view() const { return bytes_; }

 private:
  std::string bytes_;
};

Number number_of(EVP_PKEY* key, const char* name) {
  BIGNUM* value = nullptr;
  if (EVP_PKEY_get_bn_param(key, name, &value) != 1)
    throw std::logic_error("an RSA key without it");
  return {value, BN_clear_free};
}

using RawKey = std::array<unsigned char, kSeed>;
RawKey raw_public(EVP_PKEY* key) {
  RawKey out{};
  std::size_t size = out.size();
  if (EVP_PKEY_get_raw_public_key(key, out.data(), &size) != 1 || size != out.size()) {
    throw std::logic_error("an Ed25519 key without its public half");
  }
  return out;
}
std::string_view view(const RawKey& key) {
  return {reinterpret_cast<const char*>(key.data()), key.size()};
}

std::string ssh_line(std::string_view kind, std::string_view blob, std::string_view comment) {
  auto line = std::string(kind) + ' ' + base64(as_bytes(blob));
  if (!comment.empty()) line.append(" ").append(comment);
  return line;
}

/// @param section  the private key as the section has it, from its type on
KeyPair openssh(std::string_view kind, std::string_view blob, const Wire& key,
                std::string_view comment) {
  std::array<std::byte, 4> check;
  random_bytes(check);
  Wire section;
  section.raw(as_text(check)).raw(as_text(check)).raw(key.view()).text(comment);
  for (char pad = 1; section.view().size() % 8 != 0; ++pad) section.raw({&pad, 1});
  Wire file;
  file.raw(kMagic).text("none").text("none").text("").number(1).text(blob).text(section.view());
  auto encoded = base64(as_bytes(file.view()));
  std::string pem(kBegin);
  pem.reserve(kBegin.size() + kEnd.size() + encoded.size() + encoded.size() / 70 + 1);
  for (std::size_t at = 0; at < encoded.size(); at += 70) {
    pem.append(encoded, at, 70).append("\n");
  }
  pem += kEnd;
  wipe(encoded);
  return {SecureBuffer::take(std::move(pem)), ssh_line(kind, blob, comment)};
}

KeyPair openssh_ed25519(EVP_PKEY* key, std::string_view comment) {
  const auto public_key = raw_public(key);
  RawKey seed{};
  std::size_t size = seed.size();
  if (EVP_PKEY_get_raw_private_key(key, seed.data(), &size) != 1) throw std::bad_alloc();
  Wire blob;
  blob.text("ssh-ed25519").text(view(public_key));
  Wire both;
  both.raw(view(seed)).raw(view(public_key));
  Wire section;
  section.text("ssh-ed25519").text(view(public_key)).text(both.view());
  wipe(std::as_writable_bytes(std::span(seed)));
  return openssh("ssh-ed25519", blob.view(), section, comment);
}

KeyPair openssh_rsa(EVP_PKEY* key, std::string_view comment) {
  const auto n = number_of(key, OSSL_PKEY_PARAM_RSA_N);
  const auto e = number_of(key, OSSL_PKEY_PARAM_RSA_E);
  Wire blob;
  blob.text("ssh-rsa").mpint(e.get()).mpint(n.get());
  Wire section;
  section.text("ssh-rsa").mpint(n.get()).mpint(e.get());
  for (const char* name : {OSSL_PKEY_PARAM_RSA_D, OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
                           OSSL_PKEY_PARAM_RSA_FACTOR1, OSSL_PKEY_PARAM_RSA_FACTOR2}) {
    section.mpint(number_of(key, name).get());
  }
  return openssh("ssh-rsa", blob.view(), section, comment);
}

Number read_number(ByteReader& reader) {
  const auto bytes = reader.part();
  return {BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()),
                    static_cast<int>(bytes.size()), nullptr),
          BN_clear_free};
}

/// The public blob, if the secret numbers are of the same pair.
std::optional<std::string> openssh_public(ByteView section, std::string_view blob) {
  ByteReader reader(section);
  if (reader.number() != reader.number()) return std::nullopt;
  const auto kind = std::string(as_text(reader.part()));
  if (kind == "ssh-ed25519") {
    reader.part();
    const auto both = reader.part();
    if (!reader.ok() || both.size() != 2 * kSeed) return std::nullopt;
    const Key key(
        EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr,
                                     reinterpret_cast<const unsigned char*>(both.data()), kSeed),
        EVP_PKEY_free);
    if (!key) return std::nullopt;
    Wire computed;
    computed.text(kind).text(view(raw_public(key.get())));
    if (computed.view() != blob) return std::nullopt;
    return ssh_line(kind, blob, "");
  }
  if (kind != "ssh-rsa") return std::nullopt;
  const auto n = read_number(reader);
  const auto e = read_number(reader);
  const auto d = read_number(reader);
  const auto iqmp = read_number(reader);
  const auto p = read_number(reader);
  const auto q = read_number(reader);
  const Owned<BN_CTX> context(BN_CTX_new(), BN_CTX_free);
  const Number product(BN_new(), BN_clear_free);
  if (!reader.ok() || !n || !e || !d || !iqmp || !p || !q || !context || !product ||
      BN_mul(product.get(), p.get(), q.get(), context.get()) != 1 ||
      BN_cmp(product.get(), n.get()) != 0) {
    return std::nullopt;
  }
  Wire computed;
  computed.text(kind).mpint(e.get()).mpint(n.get());
  if (computed.view() != blob) return std::nullopt;
  return ssh_line(kind, blob, "");
}

std::optional<std::string> read_openssh(std::string_view pem) {
  if (!pem.ends_with(kEnd)) return std::nullopt;
  pem.remove_prefix(kBegin.size());
  pem.remove_suffix(kEnd.size());
  std::string encoded;
  encoded.reserve(pem.size());
  for (const char c : pem) {
    if (c != '\n') encoded += c;
  }
  auto decoded = base64_decode(encoded);
  wipe(encoded);
  if (!decoded.ok()) return std::nullopt;
  auto file = std::move(decoded).value();
  ByteReader reader(file);
  const bool ours = as_text(reader.take(kMagic.size())) == kMagic &&
                    as_text(reader.part()) == "none" && as_text(reader.part()) == "none" &&
                    reader.part().empty() && reader.number() == 1;
  const auto blob = as_text(reader.part());
  const auto section = reader.part();
  std::optional<std::string> found;
  if (ours && reader.at_end()) found = openssh_public(section, blob);
  wipe(file);
  return found;
}

}  // namespace

std::string_view to_string(KeyPairKind kind) noexcept {
  switch (kind) {
    case KeyPairKind::Ed25519: return "ed25519";
    case KeyPairKind::P256: return "p-256";
    case KeyPairKind::P384: return "p-384";
    case KeyPairKind::Rsa3072: return "rsa-3072";
    case KeyPairKind::Rsa4096: return "rsa-4096";
  }
  return "";
}

std::optional<KeyPairKind> parse_key_pair_kind(std::string_view text) noexcept {
  for (const auto kind : {KeyPairKind::Ed25519, KeyPairKind::P256, KeyPairKind::P384,
                          KeyPairKind::Rsa3072, KeyPairKind::Rsa4096}) {
    if (text == to_string(kind)) return kind;
  }
  return std::nullopt;
}

KeyPair make_pem_key_pair(KeyPairKind kind) {
  const auto key = generate(kind);
  const auto out = memory();
  if (PEM_write_bio_PKCS8PrivateKey(out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) !=
      1) {
    throw std::bad_alloc();
  }
  return {taken(out.get()), public_pem(key.get())};
}

KeyPair make_ssh_key_pair(KeyPairKind kind, std::string_view comment) {
  switch (kind) {
    case KeyPairKind::Ed25519: return openssh_ed25519(generate(kind).get(), comment);
    case KeyPairKind::Rsa3072:
    case KeyPairKind::Rsa4096: return openssh_rsa(generate(kind).get(), comment);
    case KeyPairKind::P256:
    case KeyPairKind::P384: break;
  }
  throw std::logic_error("an SSH key of another kind");
}

std::optional<std::string> public_half(std::string_view private_text) {
  if (private_text.size() > 64 * 1024) return std::nullopt;
  if (private_text.starts_with(kBegin)) return read_openssh(private_text);
  const Owned<BIO> in(BIO_new_mem_buf(private_text.data(), static_cast<int>(private_text.size())),
                      BIO_free_all);
  if (!in) throw std::bad_alloc();
  // Without a passphrase, and without asking anybody for one.
  const auto none = [](char*, int, int, void*) { return 0; };
  const Key key(PEM_read_bio_PrivateKey(in.get(), nullptr, none, nullptr), EVP_PKEY_free);
  std::optional<std::string> found;
  if (key) {
    const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new(key.get(), nullptr), EVP_PKEY_CTX_free);
    if (context && EVP_PKEY_pairwise_check(context.get()) == 1) found = public_pem(key.get());
  }
  ERR_clear_error();
  return found;
}

}  // namespace postern::crypto
