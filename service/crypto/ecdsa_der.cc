#include "crypto/ecdsa_der.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>

#include <algorithm>
#include <memory>
#include <span>
#include <stdexcept>
#include <string_view>

#include "crypto/base64url.h"

namespace postern::crypto {
namespace {

struct FreeSignature {
  void operator()(ECDSA_SIG* signature) const noexcept { ECDSA_SIG_free(signature); }
};
using SignaturePtr = std::unique_ptr<ECDSA_SIG, FreeSignature>;

Bytes encode(const ECDSA_SIG& signature) {
  const auto length = i2d_ECDSA_SIG(&signature, nullptr);
  if (length <= 0) throw std::runtime_error("OpenSSL operation failed");
  Bytes der(static_cast<std::size_t>(length));
  auto* out = as_uchar(std::span(der));
  i2d_ECDSA_SIG(&signature, &out);
  return der;
}

}  // namespace

Bytes ecdsa_to_der(ByteView raw) {
  const auto half = raw.size() / 2;
  const auto number = [](ByteView bytes) {
    return BN_bin2bn(as_uchar(bytes), static_cast<int>(bytes.size()), nullptr);
  };
  const SignaturePtr signature(ECDSA_SIG_new());
  // Takes both numbers.
  if (!signature ||
      ECDSA_SIG_set0(signature.get(), number(raw.first(half)), number(raw.last(half))) != 1) {
    throw std::runtime_error("OpenSSL operation failed");
  }
  return encode(*signature);
}

Result<Bytes> ecdsa_from_der(ByteView der, std::size_t field_bytes) {
  const auto refused = fail(ErrorCode::MalformedRequest, "not a signature in ASN.1 DER");
  if (der.size() > 2 * field_bytes + 16) return refused;
  const auto* in = as_uchar(der);
  const SignaturePtr signature(d2i_ECDSA_SIG(nullptr, &in, static_cast<long>(der.size())));
  ERR_clear_error();
  if (!signature) return refused;
  const auto again = encode(*signature);
  if (!std::equal(again.begin(), again.end(), der.begin(), der.end())) return refused;
  Bytes raw(2 * field_bytes);
  const auto put = [&](const BIGNUM* number, std::size_t at) {
    return BN_is_negative(number) == 0 &&
           BN_bn2binpad(number, as_uchar(std::span(raw).subspan(at)),
                        static_cast<int>(field_bytes)) == static_cast<int>(field_bytes);
  };
  const bool fits = put(ECDSA_SIG_get0_r(signature.get()), 0) &&
                    put(ECDSA_SIG_get0_s(signature.get()), field_bytes);
  ERR_clear_error();
  if (!fits) return refused;
  return raw;
}

std::string p256_pem(ByteView x, ByteView y) {
  // RFC 5480: id-ecPublicKey, prime256v1, and the uncompressed point as a bit string.
  constexpr std::string_view kBefore(
      "\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01"
      "\x07\x03\x42\x00\x04",
      27);
  Bytes der = to_bytes(kBefore);
  der.insert(der.end(), x.begin(), x.end());
  der.insert(der.end(), y.begin(), y.end());
  const auto text = base64(der);
  std::string pem = "-----BEGIN PUBLIC KEY-----\n";
  for (std::size_t at = 0; at < text.size(); at += 64) pem += text.substr(at, 64) + '\n';
  return pem + "-----END PUBLIC KEY-----\n";
}

}  // namespace postern::crypto
