#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "core/clock.h"
#include "core/result.h"
#include "crypto/hash.h"

struct x509_st;
struct X509_name_st;
struct x509_store_st;

namespace postern::crypto {

/// A distinguished name as RFC 4514 writes it, most specific part first:
/// `CN=gw-01,OU=agents,O=Example\, Inc.,C=DE`. Values may be escaped (`\,`, `\2C`);
/// `#` and hexadecimal DER is refused. Types: a keyword that OpenSSL knows (CN, O, OU, C, ST, L,
/// STREET, DC, UID, serialNumber, emailAddress, …) or a dotted OID; `+` joins the parts of one
/// multi-valued RDN.
class DistinguishedName {
 public:
  /// Errors: MalformedRequest.
  static Result<DistinguishedName> parse(std::string_view text);

 private:
  friend class Certificate;
  std::shared_ptr<X509_name_st> name_;  // immutable, so copies may share it
};

/// A client's X.509 certificate, parsed. Immutable, thread-safe.
class Certificate {
 public:
  static constexpr std::size_t kMaxBytes = 16 * 1024;

  /// Errors (both): MalformedRequest, also for what follows the certificate.
  static Result<Certificate> from_der(ByteView der);
  static Result<Certificate> from_pem(std::string_view pem);

  const Hash256& sha256() const noexcept { return sha256_; }  ///< of the DER form
  bool valid_at(sys_seconds now) const;

  /// RFC 5280 §7.1 comparison: same types in the same order, values equal but for
  /// ASCII case, white space at the ends and its amount within, and string type.
  bool has_subject(const DistinguishedName& name) const;
  /// Subject alternative names. DNS without regard to case and without wildcards;
  /// e-mail and URI byte for byte; an IP address as its 4 or 16 bytes.
  bool has_dns(std::string_view name) const;
  bool has_email(std::string_view address) const;
  bool has_uri(std::string_view uri) const;
  bool has_ip(std::string_view address) const;

 private:
  friend class CertificateAuthorities;
  std::shared_ptr<x509_st> certificate_;  // immutable, so copies may share it
  Hash256 sha256_{};
};

/// Authorities that vouch for client certificates. Immutable, thread-safe.
class CertificateAuthorities {
 public:
  /// Errors: Unavailable when the file cannot be used.
  static Result<CertificateAuthorities> load(const std::string& pem_file);

  /// Whether a chain through these intermediates leads to one of the authorities,
  /// is valid at this time, and is for TLS clients.
  bool vouch_for(const Certificate& certificate, std::span<const Certificate> intermediates,
                 sys_seconds now) const;

 private:
  std::shared_ptr<x509_store_st> store_;  // immutable, so copies may share it
};

}  // namespace postern::crypto
