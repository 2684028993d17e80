#pragma once

#include <string>

#include "core/clock.h"
#include "crypto/base64url.h"
#include "crypto/random.h"
#include "crypto/signature.h"
#include "support/tenant_fixture.h"
#include "token/jwk.h"

namespace postern::test {

/// A client's key, and proofs of it (RFC 9449 §4.2).
struct DpopHolder {
  crypto::SigningKey key = crypto::SigningKey::generate(crypto::Algorithm::ES256);

  std::string jkt() const { return token::thumbprint(key.public_parameters()); }
  std::string proof(const std::string& url, const Json& more = Json::object()) const {
    auto jwk = token::public_jwk(key);
    for (const char* member : {"kid", "use", "alg"}) jwk.erase(member);
    Json claims{{"jti", crypto::random_id()},
                {"htm", "POST"},
                {"htu", url},
                {"iat", seconds_of(SystemClock().now())}};
    claims.update(more);
    const Json header{{"typ", "dpop+jwt"}, {"alg", "ES256"}, {"jwk", jwk}};
    const auto input = crypto::base64url(as_bytes(header.dump())) + "." +
                       crypto::base64url(as_bytes(claims.dump()));
    return input + "." + crypto::base64url(key.sign(as_bytes(input)));
  }
};

}  // namespace postern::test
