#pragma once

#include <string>

#include "core/clock.h"
#include "crypto/base64url.h"
#include "crypto/random.h"
#include "crypto/signature.h"
#include "support/tenant_fixture.h"
#include "token/jwk.h"

namespace postern::test {

/// A DPoP proof for a POST, by an ES256 key (RFC 9449 §4.2). `more` are claims
/// of the test's own.
inline std::string dpop_proof(const crypto::SigningKey& key, const std::string& url,
                              sys_seconds now, const Json& more = Json::object()) {
  auto jwk = token::public_jwk(key);
  for (const char* member : {"kid", "use", "alg"}) jwk.erase(member);
  const Json header{{"typ", "dpop+jwt"}, {"alg", "ES256"}, {"jwk", jwk}};
  Json claims{
      {"jti", crypto::random_id()}, {"htm", "POST"}, {"htu", url}, {"iat", seconds_of(now)}};
  claims.update(more);
  const auto input =
      crypto::base64url(as_bytes(header.dump())) + "." + crypto::base64url(as_bytes(claims.dump()));
  return input + "." + crypto::base64url(key.sign(as_bytes(input)));
}

}  // namespace postern::test
