// What the hot path costs: each operation of ours beside the library call it is
// made of. Run one repetition at a time on an idle machine:
//   crypto_bench --benchmark_min_time=0.5
#include <benchmark/benchmark.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <sodium.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "crypto/aead.h"
#include "crypto/base64url.h"
#include "crypto/hash.h"
#include "crypto/signature.h"
#include "token/jws.h"

namespace postern {
namespace {

using crypto::Algorithm;

constexpr std::size_t kMessageBytes = 700;  // the signing input of a usual access token

Bytes message_of(std::size_t size) { return Bytes(size, std::byte{0x61}); }

// ---- signatures: ours ------------------------------------------------------

void sign(benchmark::State& state, Algorithm algorithm) {
  const auto key = crypto::SigningKey::generate(algorithm);
  const auto message = message_of(kMessageBytes);
  for (auto _ : state) benchmark::DoNotOptimize(key.sign(message));
}

void verify(benchmark::State& state, Algorithm algorithm) {
  const auto key = crypto::SigningKey::generate(algorithm);
  const auto message = message_of(kMessageBytes);
  const auto signature = key.sign(message);
  const auto verifier = key.public_key();
  for (auto _ : state) {
    if (!verifier.verify(algorithm, message, signature)) state.SkipWithError("does not verify");
  }
}

BENCHMARK_CAPTURE(sign, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(sign, EdDSA, Algorithm::EdDSA);
BENCHMARK_CAPTURE(sign, RS256, Algorithm::RS256);
BENCHMARK_CAPTURE(verify, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(verify, ES384, Algorithm::ES384);
BENCHMARK_CAPTURE(verify, EdDSA, Algorithm::EdDSA);
BENCHMARK_CAPTURE(verify, RS256, Algorithm::RS256);
BENCHMARK_CAPTURE(verify, PS256, Algorithm::PS256);

// ---- signatures: the libraries alone ---------------------------------------

using Pkey = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using PkeyContext = std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)>;
using MdContext = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

Pkey openssl_key(Algorithm algorithm) {
  return {algorithm == Algorithm::ES256 ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048), EVP_PKEY_free};
}

void require(bool ok) {
  if (!ok) throw std::runtime_error("OpenSSL failed");
}

std::vector<unsigned char> openssl_sign_once(EVP_PKEY* key, const Bytes& message) {
  const MdContext context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  std::vector<unsigned char> signature(512);
  std::size_t length = signature.size();
  require(EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1 &&
          EVP_DigestSign(context.get(), signature.data(), &length, as_uchar(ByteView(message)),
                         message.size()) == 1);
  signature.resize(length);
  return signature;
}

/// The textbook way: everything looked up and allocated at each call.
void openssl_digest_sign(benchmark::State& state, Algorithm algorithm) {
  const auto key = openssl_key(algorithm);
  const auto message = message_of(kMessageBytes);
  for (auto _ : state) benchmark::DoNotOptimize(openssl_sign_once(key.get(), message));
}

void openssl_digest_verify(benchmark::State& state, Algorithm algorithm) {
  const auto key = openssl_key(algorithm);
  const auto message = message_of(kMessageBytes);
  const auto signature = openssl_sign_once(key.get(), message);
  for (auto _ : state) {
    const MdContext context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    require(EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) == 1 &&
            EVP_DigestVerify(context.get(), signature.data(), signature.size(),
                             as_uchar(ByteView(message)), message.size()) == 1);
  }
}

/// The arithmetic alone: one context used again, hash and encoding left out.
void openssl_raw_sign(benchmark::State& state, Algorithm algorithm) {
  const auto key = openssl_key(algorithm);
  const PkeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, key.get(), nullptr),
                            EVP_PKEY_CTX_free);
  require(EVP_PKEY_sign_init(context.get()) == 1);
  const std::vector<unsigned char> digest(32, 7);
  std::vector<unsigned char> signature(512);
  for (auto _ : state) {
    std::size_t length = signature.size();
    require(EVP_PKEY_sign(context.get(), signature.data(), &length, digest.data(), digest.size()) ==
            1);
  }
}

void openssl_raw_verify(benchmark::State& state, Algorithm algorithm) {
  const auto key = openssl_key(algorithm);
  const auto message = message_of(kMessageBytes);
  const auto signature = openssl_sign_once(key.get(), message);
  const auto digest = crypto::sha256(message);
  const PkeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, key.get(), nullptr),
                            EVP_PKEY_CTX_free);
  require(EVP_PKEY_verify_init(context.get()) == 1);
  if (algorithm == Algorithm::RS256) {
    require(EVP_PKEY_CTX_set_signature_md(context.get(), EVP_sha256()) == 1);
  }
  for (auto _ : state) {
    require(EVP_PKEY_verify(context.get(), signature.data(), signature.size(),
                            as_uchar(ByteView(digest)), digest.size()) == 1);
  }
}

BENCHMARK_CAPTURE(openssl_digest_sign, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(openssl_raw_sign, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(openssl_digest_sign, RS256, Algorithm::RS256);
BENCHMARK_CAPTURE(openssl_digest_verify, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(openssl_raw_verify, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(openssl_digest_verify, RS256, Algorithm::RS256);
BENCHMARK_CAPTURE(openssl_raw_verify, RS256, Algorithm::RS256);

struct SodiumPair {
  std::vector<unsigned char> public_key = std::vector<unsigned char>(crypto_sign_PUBLICKEYBYTES);
  std::vector<unsigned char> secret_key = std::vector<unsigned char>(crypto_sign_SECRETKEYBYTES);
  SodiumPair() {
    require(sodium_init() >= 0);
    crypto_sign_keypair(public_key.data(), secret_key.data());
  }
};

void sodium_sign(benchmark::State& state) {
  const SodiumPair pair;
  const auto message = message_of(kMessageBytes);
  std::vector<unsigned char> signature(crypto_sign_BYTES);
  for (auto _ : state) {
    crypto_sign_detached(signature.data(), nullptr, as_uchar(ByteView(message)), message.size(),
                         pair.secret_key.data());
    benchmark::ClobberMemory();
  }
}
BENCHMARK(sodium_sign);

void sodium_verify(benchmark::State& state) {
  const SodiumPair pair;
  const auto message = message_of(kMessageBytes);
  std::vector<unsigned char> signature(crypto_sign_BYTES);
  crypto_sign_detached(signature.data(), nullptr, as_uchar(ByteView(message)), message.size(),
                       pair.secret_key.data());
  for (auto _ : state) {
    require(crypto_sign_verify_detached(signature.data(), as_uchar(ByteView(message)),
                                        message.size(), pair.public_key.data()) == 0);
  }
}
BENCHMARK(sodium_verify);

// ---- sealing ---------------------------------------------------------------

Dek dek() {
  SecureBuffer bytes(crypto::kKeyBytes);
  require(sodium_init() >= 0);
  randombytes_buf(bytes.writable().data(), bytes.size());
  return Dek(std::move(bytes));
}

std::size_t size_of(const benchmark::State& state) {
  return static_cast<std::size_t>(state.range(0));
}

void seal(benchmark::State& state) {
  const auto key = dek();
  const auto plaintext = message_of(size_of(state));
  const auto aad = message_of(120);
  for (auto _ : state) benchmark::DoNotOptimize(crypto::seal(key, plaintext, aad));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(seal)->Arg(32)->Arg(1024)->Arg(65536);

void open(benchmark::State& state) {
  const auto key = dek();
  const auto aad = message_of(120);
  const auto box = crypto::seal(key, message_of(size_of(state)), aad);
  for (auto _ : state) {
    if (!crypto::open(key, box, aad).ok()) state.SkipWithError("does not open");
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(open)->Arg(32)->Arg(1024)->Arg(65536);

/// The same cipher without commitment, allocation or fresh nonce.
void sodium_encrypt(benchmark::State& state) {
  const auto key = dek();
  const auto plaintext = message_of(size_of(state));
  const auto aad = message_of(120);
  const std::vector<unsigned char> nonce(24, 1);
  std::vector<unsigned char> out(plaintext.size() + 16);
  for (auto _ : state) {
    key.expose([&](ByteView bytes) {
      crypto_aead_xchacha20poly1305_ietf_encrypt(
          out.data(), nullptr, as_uchar(ByteView(plaintext)), plaintext.size(),
          as_uchar(ByteView(aad)), aad.size(), nullptr, nonce.data(), as_uchar(bytes));
    });
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(sodium_encrypt)->Arg(32)->Arg(1024)->Arg(65536);

void sodium_decrypt(benchmark::State& state) {
  const auto key = dek();
  const auto plaintext = message_of(size_of(state));
  const auto aad = message_of(120);
  const std::vector<unsigned char> nonce(24, 1);
  std::vector<unsigned char> box(plaintext.size() + 16);
  std::vector<unsigned char> out(plaintext.size());
  key.expose([&](ByteView bytes) {
    crypto_aead_xchacha20poly1305_ietf_encrypt(box.data(), nullptr, as_uchar(ByteView(plaintext)),
                                               plaintext.size(), as_uchar(ByteView(aad)),
                                               aad.size(), nullptr, nonce.data(), as_uchar(bytes));
    for (auto _ : state) {
      require(crypto_aead_xchacha20poly1305_ietf_decrypt(
                  out.data(), nullptr, nullptr, box.data(), box.size(), as_uchar(ByteView(aad)),
                  aad.size(), nonce.data(), as_uchar(bytes)) == 0);
    }
  });
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(sodium_decrypt)->Arg(32)->Arg(1024)->Arg(65536);

// ---- whole tokens ----------------------------------------------------------

token::Json claims() {
  return {{"act", {{"sub", "gw-01"}}},
          {"aud", "https://files.example.com/mcp"},
          {"client_id", "gw-01"},
          {"exp", 1790000300},
          {"iat", 1790000000},
          {"iss", "https://sts.example.com/t/acme"},
          {"jti", "VGhpcyBpcyBhIHRlc3QgaWQ"},
          {"scope", "files:read files:write"},
          {"sub", "user-42"}};
}

void mint_token(benchmark::State& state, Algorithm algorithm) {
  const auto key = crypto::SigningKey::generate(algorithm);
  const auto kid = token::thumbprint(key.public_parameters());
  const auto content = claims();
  for (auto _ : state) benchmark::DoNotOptimize(token::sign_jwt(key, kid, "at+jwt", content));
}
BENCHMARK_CAPTURE(mint_token, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(mint_token, EdDSA, Algorithm::EdDSA);

void verify_token(benchmark::State& state, Algorithm algorithm) {
  const auto key = crypto::SigningKey::generate(algorithm);
  const auto jwk = token::public_jwk(key);
  const auto set =
      token::JwkSet::parse({{"keys", token::Json::array({jwk})}}, token::JwkSet::WeakKeys::Refuse)
          .value();
  const auto text = token::sign_jwt(key, jwk["kid"].get<std::string>(), "at+jwt", claims());
  for (auto _ : state) {
    const auto jwt = token::UnverifiedJwt::parse(text);
    if (!jwt.ok() || !jwt.value().verify(set).ok()) state.SkipWithError("does not verify");
  }
}
BENCHMARK_CAPTURE(verify_token, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(verify_token, EdDSA, Algorithm::EdDSA);
BENCHMARK_CAPTURE(verify_token, RS256, Algorithm::RS256);

void parse_token(benchmark::State& state) {
  const auto key = crypto::SigningKey::generate(Algorithm::EdDSA);
  const auto text = token::sign_jwt(key, "kid", "at+jwt", claims());
  for (auto _ : state) benchmark::DoNotOptimize(token::UnverifiedJwt::parse(text));
}
BENCHMARK(parse_token);

// ---- small parts -----------------------------------------------------------

void sha256(benchmark::State& state) {
  const auto message = message_of(size_of(state));
  for (auto _ : state) benchmark::DoNotOptimize(crypto::sha256(message));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(sha256)->Arg(64)->Arg(1024);

void base64url_encode(benchmark::State& state) {
  const auto message = message_of(size_of(state));
  for (auto _ : state) benchmark::DoNotOptimize(crypto::base64url(message));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(base64url_encode)->Arg(1000);

void base64url_decode(benchmark::State& state) {
  const auto text = crypto::base64url(message_of(size_of(state)));
  for (auto _ : state) benchmark::DoNotOptimize(crypto::base64url_decode(text));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(base64url_decode)->Arg(1000);

}  // namespace
}  // namespace postern
