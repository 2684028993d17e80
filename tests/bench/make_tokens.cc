// Makes the inputs of the load test: a fresh issuer key, and subject tokens
// signed with it. Usage: make_tokens ALGORITHM COUNT JWKS_FILE TOKENS_FILE
//
// JWKS_FILE gets the public key set, TOKENS_FILE one compact JWT a line, each of
// another user, so that none has been verified before.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "crypto/random.h"
#include "token/jwk.h"
#include "token/jws.h"

int main(int argc, char** argv) {
  using namespace postern;
  if (argc != 5) {
    std::fprintf(stderr, "usage: make_tokens ALGORITHM COUNT JWKS_FILE TOKENS_FILE\n");
    return 2;
  }
  const auto algorithm = crypto::parse_algorithm(argv[1]);
  if (!algorithm) return 2;
  const auto key = crypto::SigningKey::generate(*algorithm);
  const auto jwk = token::public_jwk(key);
  std::ofstream(argv[3]) << token::dump_json(token::Json{{"keys", {jwk}}});

  const auto kid = jwk.at("kid").get<std::string>();
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  std::ofstream out(argv[4]);
  const long count = std::atol(argv[2]);
  for (long i = 0; i < count; ++i) {
    out << token::sign_jwt(key, kid, "JWT",
                           {{"iss", "https://idp.bench.example"},
                            {"sub", "user-" + std::to_string(i)},
                            {"aud", "gw-01"},
                            {"iat", now},
                            {"exp", now + 7200},
                            {"jti", crypto::random_id()},
                            {"groups", {"engineering", "everyone"}}})
        << '\n';
  }
  return out.good() ? 0 : 1;
}
