// X.509 certificates and RFC 4514 names: never crashes, whatever is asked of
// what was read.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "crypto/certificate.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto name = crypto::DistinguishedName::parse(text);
  if (!name.ok() && name.error().code != ErrorCode::MalformedRequest) std::abort();
  for (const auto& read :
       {crypto::Certificate::from_der(as_bytes(text)), crypto::Certificate::from_pem(text)}) {
    if (!read.ok()) {
      if (read.error().code != ErrorCode::MalformedRequest) std::abort();
      continue;
    }
    const auto& certificate = read.value();
    static const auto other = crypto::DistinguishedName::parse("CN=gw-01,O=Example").value();
    (void)certificate.has_subject(other);
    (void)certificate.valid_at(sys_seconds());
    (void)certificate.has_dns("a.example");
    (void)certificate.has_uri("spiffe://a");
    (void)certificate.has_email("a@b");
    (void)certificate.has_ip("192.0.2.1");
    (void)certificate.has_ip("2001:db8::1");
  }
  return 0;
}
