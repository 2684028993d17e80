// UnverifiedJwt: never crashes, and nothing but the one signed token verifies.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "token/jws.h"
#include "vectors/access_token.h"
#include "vectors/jose.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern;
  using namespace postern::token;
  static const auto keys =
      JwkSet::parse(
          {{"keys",
            {{{"kty", "OKP"}, {"crv", "Ed25519"}, {"x", vectors::kEd25519X}},
             {{"kty", "EC"}, {"crv", "P-256"}, {"x", vectors::kP256X}, {"y", vectors::kP256Y}},
             {{"kty", "RSA"}, {"n", vectors::kRsaN}, {"e", vectors::kRsaE}}}}},
          JwkSet::WeakKeys::Refuse)
          .value();
  static const auto es256 =
      vectors::compact(vectors::kEs256Header, vectors::kPayload, vectors::kEs256Signature);
  static const auto rs256 =
      vectors::compact(vectors::kRs256Header, vectors::kPayload, vectors::kRs256Signature);

  const std::string_view token(reinterpret_cast<const char*>(data), size);
  const auto jwt = UnverifiedJwt::parse(token);
  if (!jwt.ok()) {
    if (jwt.error().code != ErrorCode::InvalidToken) std::abort();
    return 0;
  }
  (void)jwt.value().claimed_issuer();
  const bool known = token == vectors::kAccessToken || token == es256 || token == rs256;
  // ECDSA is malleable: (r, n - s) signs the same input.
  const bool twin = jwt.value().algorithm() == crypto::Algorithm::ES256 &&
                    token.starts_with(std::string_view(es256).substr(0, es256.rfind('.') + 1));
  if (jwt.value().verify(keys).ok() != known && !twin) std::abort();
  return 0;
}
