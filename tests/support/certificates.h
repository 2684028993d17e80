#pragma once

// Certificates made in the test: P-256, valid for an hour.

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/bytes.h"
#include "crypto/base64url.h"
#include "crypto/hash.h"

namespace postern::test {

struct Certificate {
  std::shared_ptr<EVP_PKEY> key;
  std::shared_ptr<X509> certificate;

  std::string certificate_pem() const {
    return pem([this](BIO* bio) { return PEM_write_bio_X509(bio, certificate.get()); });
  }
  std::string key_pem() const {
    return pem([this](BIO* bio) {
      return PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    });
  }

 private:
  template <class Write>
  static std::string pem(Write write) {
    const std::unique_ptr<BIO, void (*)(BIO*)> bio(BIO_new(BIO_s_mem()), BIO_free_all);
    if (write(bio.get()) != 1) throw std::runtime_error("PEM");
    char* text = nullptr;
    const auto size = BIO_get_mem_data(bio.get(), &text);
    return std::string(text, static_cast<std::size_t>(size));
  }
};

/// What else a certificate says.
struct CertificateDetails {
  std::vector<std::pair<std::string, std::string>>
      subject;                     ///< before the CN, least specific first
  std::string alternative_names;   ///< OpenSSL's form: "DNS:a,IP:1.2.3.4"
  std::string extended_key_usage;  ///< such as "serverAuth"
  long not_before = -60;           ///< seconds from now
  long not_after = 3600;
  bool authority = false;  ///< may sign others, as one without an issuer may
};

/// Signed by `issuer`, or by itself without one, which makes it a CA.
inline Certificate make_certificate(const std::string& name, const Certificate* issuer = nullptr,
                                    const CertificateDetails& details = {}) {
  static long serial = 1;
  Certificate made;
  made.key.reset(EVP_EC_gen("P-256"), EVP_PKEY_free);
  made.certificate.reset(X509_new(), X509_free);
  X509* const x509 = made.certificate.get();
  X509_set_version(x509, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x509), serial++);
  X509_gmtime_adj(X509_getm_notBefore(x509), details.not_before);
  X509_gmtime_adj(X509_getm_notAfter(x509), details.not_after);
  X509_set_pubkey(x509, made.key.get());
  for (const auto& [type, value] : details.subject) {
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), type.c_str(), MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(value.c_str()), -1, -1, 0);
  }
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(x509, X509_get_subject_name(issuer ? issuer->certificate.get() : x509));
  const auto extend = [&](int kind, const std::string& value) {
    if (value.empty()) return;
    X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value.c_str());
    if (extension == nullptr) throw std::runtime_error("X509V3_EXT_conf_nid");
    X509_add_ext(x509, extension, -1);
    X509_EXTENSION_free(extension);
  };
  if (issuer == nullptr || details.authority) extend(NID_basic_constraints, "critical,CA:TRUE");
  extend(NID_subject_alt_name, details.alternative_names);
  extend(NID_ext_key_usage, details.extended_key_usage);
  if (X509_sign(x509, issuer ? issuer->key.get() : made.key.get(), EVP_sha256()) == 0) {
    throw std::runtime_error("X509_sign");
  }
  return made;
}

inline std::string der_of(const Certificate& made) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(made.certificate.get(), &der);
  std::string out(reinterpret_cast<char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(der);
  return out;
}
/// The value of a `cnf` member `x5t#S256` (RFC 8705 §3.1).
inline std::string x5t(const Certificate& made) {
  return crypto::base64url(crypto::sha256(as_bytes(der_of(made))));
}

}  // namespace postern::test
