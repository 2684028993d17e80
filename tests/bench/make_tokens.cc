// Makes the inputs of the load test, signed with a fresh key, each a line:
//   make_tokens subject   ALGORITHM COUNT JWKS_FILE OUT_FILE           tokens of COUNT users
//   make_tokens assertion ALGORITHM COUNT JWKS_FILE OUT_FILE AUDIENCE  client assertions of gw-jwt
//   make_tokens dpop      ALGORITHM COUNT JWKS_FILE OUT_FILE URL       proofs for POST to URL
// JWKS_FILE gets the public key set. None of them has been seen before.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#include "crypto/base64url.h"
#include "crypto/random.h"
#include "token/jwk.h"
#include "token/jws.h"

namespace {

using namespace postern;
using token::Json;

Json subject_claims(long number, long now) {
  return {{"iss", "https://idp.bench.example"},
          {"sub", "user-" + std::to_string(number)},
          {"aud", "gw-01"},
          {"iat", now},
          {"exp", now + 7200},
          {"jti", crypto::random_id()},
          {"groups", {"engineering", "everyone"}}};
}

Json assertion_claims(const std::string& audience, long now) {
  return {{"iss", "gw-jwt"}, {"sub", "gw-jwt"},  {"aud", audience},
          {"iat", now},      {"exp", now + 500}, {"jti", crypto::random_id()}};
}

std::string proof(const crypto::SigningKey& key, const Json& jwk, const std::string& url,
                  long now) {
  const Json header{
      {"typ", "dpop+jwt"}, {"alg", std::string(crypto::to_string(key.algorithm()))}, {"jwk", jwk}};
  const Json claims{{"jti", crypto::random_id()}, {"htm", "POST"}, {"htu", url}, {"iat", now}};
  auto text = crypto::base64url(as_bytes(token::dump_json(header))) + "." +
              crypto::base64url(as_bytes(token::dump_json(claims)));
  return text + "." + crypto::base64url(key.sign(as_bytes(text)));
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view kind = argc > 1 ? argv[1] : "";
  if (argc != (kind == "subject" ? 6 : 7) ||
      (kind != "subject" && kind != "assertion" && kind != "dpop")) {
    std::fprintf(stderr,
                 "usage: make_tokens subject|assertion|dpop ALGORITHM COUNT JWKS_FILE OUT_FILE "
                 "[AUDIENCE|URL]\n");
    return 2;
  }
  const auto algorithm = crypto::parse_algorithm(argv[2]);
  if (!algorithm) return 2;
  const long count = std::atol(argv[3]);
  const std::string about = argc > 6 ? argv[6] : "";
  const auto key = crypto::SigningKey::generate(*algorithm);
  auto jwk = token::public_jwk(key);
  std::ofstream(argv[4]) << token::dump_json(Json{{"keys", {jwk}}});

  const auto kid = jwk.at("kid").get<std::string>();
  for (const char* member : {"kid", "use", "alg"}) jwk.erase(member);
  const long now = std::chrono::duration_cast<std::chrono::seconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  std::ofstream out(argv[5]);
  for (long i = 0; i < count; ++i) {
    out << (kind == "subject"     ? token::sign_jwt(key, kid, "JWT", subject_claims(i, now))
            : kind == "assertion" ? token::sign_jwt(key, kid, "JWT", assertion_claims(about, now))
                                  : proof(key, jwk, about, now))
        << '\n';
  }
  return out.good() ? 0 : 1;
}
