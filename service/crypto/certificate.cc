#include "crypto/certificate.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <new>

namespace postern::crypto {
namespace {

template <class T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

Error malformed(std::string detail) {
  ERR_clear_error();
  return fail(ErrorCode::MalformedRequest, std::move(detail));
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char l = lower(c);
  return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

/// One `type=value`, and how it ended.
struct Part {
  std::string type;
  std::string value;
  char separator = 0;  ///< `,` `+`, or 0 at the end
};

/// RFC 4514 §3. Takes the part off the front of `text`.
std::optional<Part> take_part(std::string_view& text) {
  Part part;
  const auto equals = text.find('=');
  if (equals == std::string_view::npos) return std::nullopt;
  auto type = text.substr(0, equals);
  while (!type.empty() && type.front() == ' ') type.remove_prefix(1);
  while (!type.empty() && type.back() == ' ') type.remove_suffix(1);
  if (type.empty()) return std::nullopt;
  part.type = type;
  text.remove_prefix(equals + 1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  if (!text.empty() && text.front() == '#') return std::nullopt;
  std::size_t keep = 0;  // trailing spaces count only when escaped
  while (!text.empty()) {
    const char c = text.front();
    if (c == ',' || c == '+' || c == ';') {
      if (c == ';') return std::nullopt;
      part.separator = c;
      text.remove_prefix(1);
      break;
    }
    if (c == '"' || c == '<' || c == '>' || c == '\0') return std::nullopt;
    text.remove_prefix(1);
    if (c != '\\') {
      part.value += c;
      if (c != ' ') keep = part.value.size();
      continue;
    }
    if (text.empty()) return std::nullopt;
    if (text.size() >= 2 && hex(text[0]) >= 0 && hex(text[1]) >= 0) {
      part.value += static_cast<char>(hex(text[0]) * 16 + hex(text[1]));
      text.remove_prefix(2);
    } else if (std::string_view(" \"#+,;<=>\\").find(text.front()) != std::string_view::npos) {
      part.value += text.front();
      text.remove_prefix(1);
    } else {
      return std::nullopt;
    }
    keep = part.value.size();
  }
  part.value.resize(keep);
  if (part.value.empty()) return std::nullopt;
  return part;
}

/// RFC 4514 §3: its keywords are written in any case. OpenSSL's own names are not.
std::string openssl_name(const std::string& type) {
  constexpr std::array<std::string_view, 9> kKeywords{"CN", "L",      "ST", "O",  "OU",
                                                      "C",  "street", "DC", "UID"};
  for (const auto keyword : kKeywords) {
    if (std::equal(type.begin(), type.end(), keyword.begin(), keyword.end(),
                   [](char a, char b) { return lower(a) == lower(b); })) {
      return std::string(keyword);
    }
  }
  return type;
}

std::string_view text_of(const ASN1_STRING* string) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<std::size_t>(ASN1_STRING_length(string))};
}

template <class Matches>
bool any_name(x509_st* certificate, int type, const Matches& matches) {
  const Owned<GENERAL_NAMES> names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(
                                       certificate, NID_subject_alt_name, nullptr, nullptr)),
                                   GENERAL_NAMES_free);
  ERR_clear_error();
  if (!names) return false;
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    int found = 0;
    const void* value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), i), &found);
    if (found == type && matches(text_of(static_cast<const ASN1_STRING*>(value)))) return true;
  }
  return false;
}

}  // namespace

Result<DistinguishedName> DistinguishedName::parse(std::string_view text) {
  const auto problem = [] {
    return malformed("must be a distinguished name such as CN=gw-01,O=Example (RFC 4514)");
  };
  if (text.empty() || text.size() > 1024) return problem();
  std::shared_ptr<X509_NAME> name(X509_NAME_new(), X509_NAME_free);
  if (!name) throw std::bad_alloc();
  // RFC 4514 writes the last RDN first, so each new one goes before the others.
  bool same_rdn = false;
  char separator = ',';
  while (separator != 0) {
    const auto part = take_part(text);
    if (!part) return problem();
    separator = part->separator;
    if (separator != 0 && text.empty()) return problem();
    const Owned<ASN1_OBJECT> type(OBJ_txt2obj(openssl_name(part->type).c_str(), 0),
                                  ASN1_OBJECT_free);
    if (!type) return problem();
    if (X509_NAME_add_entry_by_OBJ(name.get(), type.get(), MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(part->value.data()),
                                   static_cast<int>(part->value.size()), 0,
                                   same_rdn ? 1 : 0) != 1) {
      return problem();
    }
    same_rdn = separator == '+';
  }
  // Encodes now, so that comparing later changes nothing.
  if (i2d_X509_NAME(name.get(), nullptr) <= 0) return problem();
  DistinguishedName parsed;
  parsed.name_ = std::move(name);
  return parsed;
}

Result<Certificate> Certificate::from_der(ByteView der) {
  const auto* at = as_uchar(der);
  if (der.size() > kMaxBytes) return malformed("the certificate is too large");
  std::shared_ptr<X509> certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())),
                                    X509_free);
  if (!certificate || at != as_uchar(der) + der.size()) {
    return malformed("the certificate is malformed");
  }
  // Reads the extensions now: OpenSSL keeps what it finds in the object.
  X509_check_purpose(certificate.get(), -1, 0);
  ERR_clear_error();
  Certificate parsed;
  parsed.sha256_ = crypto::sha256(der);
  parsed.certificate_ = std::move(certificate);
  return parsed;
}

Result<Certificate> Certificate::from_pem(std::string_view pem) {
  if (pem.empty()) return malformed("the certificate is malformed");
  if (pem.size() > 2 * kMaxBytes) return malformed("the certificate is too large");
  const Owned<BIO> in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free_all);
  if (!in) throw std::bad_alloc();
  const Owned<X509> read(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr), X509_free);
  if (!read) return malformed("the certificate is malformed");
  unsigned char* der = nullptr;
  const int size = i2d_X509(read.get(), &der);
  if (size <= 0) return malformed("the certificate is malformed");
  const std::unique_ptr<unsigned char, void (*)(unsigned char*)> owner(
      der, [](unsigned char* bytes) { OPENSSL_free(bytes); });
  return from_der({reinterpret_cast<const std::byte*>(der), static_cast<std::size_t>(size)});
}

bool Certificate::valid_at(sys_seconds now) const {
  auto time = static_cast<time_t>(now.time_since_epoch().count());
  const bool begun = X509_cmp_time(X509_get0_notBefore(certificate_.get()), &time) == -1;
  const bool ended = X509_cmp_time(X509_get0_notAfter(certificate_.get()), &time) != 1;
  return begun && !ended;
}

bool Certificate::has_subject(const DistinguishedName& name) const {
  // OpenSSL compares the canonical forms that RFC 5280 §7.1 describes.
  return X509_NAME_cmp(X509_get_subject_name(certificate_.get()), name.name_.get()) == 0;
}

bool Certificate::has_dns(std::string_view name) const {
  return any_name(certificate_.get(), GEN_DNS, [&](std::string_view found) {
    return std::equal(found.begin(), found.end(), name.begin(), name.end(),
                      [](char a, char b) { return lower(a) == lower(b); });
  });
}
bool Certificate::has_email(std::string_view address) const {
  return any_name(certificate_.get(), GEN_EMAIL,
                  [&](std::string_view found) { return found == address; });
}
bool Certificate::has_uri(std::string_view uri) const {
  return any_name(certificate_.get(), GEN_URI,
                  [&](std::string_view found) { return found == uri; });
}
bool Certificate::has_ip(std::string_view address) const {
  const std::string text(address);
  std::array<char, 16> bytes{};
  std::size_t size = 0;
  if (inet_pton(AF_INET, text.c_str(), bytes.data()) == 1) {
    size = 4;
  } else if (inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1) {
    size = 16;
  } else {
    return false;
  }
  return any_name(certificate_.get(), GEN_IPADD, [&](std::string_view found) {
    return found == std::string_view(bytes.data(), size);
  });
}

Result<CertificateAuthorities> CertificateAuthorities::load(const std::string& pem_file) {
  std::shared_ptr<X509_STORE> store(X509_STORE_new(), X509_STORE_free);
  if (!store) throw std::bad_alloc();
  if (X509_STORE_load_locations(store.get(), pem_file.c_str(), nullptr) != 1) {
    ERR_clear_error();
    return fail(ErrorCode::Unavailable, "cannot use the client CA file " + pem_file);
  }
  CertificateAuthorities loaded;
  loaded.store_ = std::move(store);
  return loaded;
}

bool CertificateAuthorities::vouch_for(const Certificate& certificate,
                                       std::span<const Certificate> intermediates,
                                       sys_seconds now) const {
  const Owned<X509_STORE_CTX> context(X509_STORE_CTX_new(), X509_STORE_CTX_free);
  const std::unique_ptr<STACK_OF(X509), void (*)(STACK_OF(X509)*)> chain(
      sk_X509_new_null(), [](STACK_OF(X509) * stack) { sk_X509_free(stack); });
  if (!context || !chain) throw std::bad_alloc();
  for (const auto& intermediate : intermediates) {
    if (sk_X509_push(chain.get(), intermediate.certificate_.get()) == 0) throw std::bad_alloc();
  }
  if (X509_STORE_CTX_init(context.get(), store_.get(), certificate.certificate_.get(),
                          chain.get()) != 1 ||
      X509_STORE_CTX_set_default(context.get(), "ssl_client") != 1) {
    ERR_clear_error();
    return false;
  }
  X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(context.get()),
                             static_cast<time_t>(now.time_since_epoch().count()));
  X509_VERIFY_PARAM_set_depth(X509_STORE_CTX_get0_param(context.get()), 5);
  const bool vouched = X509_verify_cert(context.get()) == 1;
  ERR_clear_error();
  return vouched;
}

}  // namespace postern::crypto
