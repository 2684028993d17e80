#pragma once

#include <string>

#include "core/clock.h"
#include "crypto/signature.h"
#include "support/dpop_proof.h"
#include "token/jwk.h"

namespace postern::test {

/// A client's key, and proofs of it (RFC 9449 §4.2).
struct DpopHolder {
  crypto::SigningKey key = crypto::SigningKey::generate(crypto::Algorithm::ES256);

  std::string jkt() const { return token::thumbprint(key.public_parameters()); }
  std::string proof(const std::string& url, const Json& more = Json::object()) const {
    return dpop_proof(key, url, SystemClock().now(), more);
  }
};

}  // namespace postern::test
