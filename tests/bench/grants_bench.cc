// One token exchange against the sum of what it cannot do without: a signature
// verified, a signature made, JSON read and written. `exchange_remembered` is
// the usual case: the same subject token for another backend or once more.
//   grants_bench --benchmark_min_time=0.5

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "crypto/base64url.h"
#include "crypto/hash.h"
#include "grants/client_assertion.h"
#include "grants/client_authentication.h"
#include "grants/dpop.h"
#include "support/grants_fixture.h"
#include "token/json.h"
#include "token/jwk.h"
#include "token/jws.h"

namespace postern {
namespace {

using crypto::Algorithm;
using grants::Wait;
using test::GrantsFixture;
using token::Json;

/// The fixture with an issuer of this algorithm, and a tenant of usual size.
struct World : GrantsFixture {
  explicit World(Algorithm subject, Algorithm issued = Algorithm::ES256)
      : provider("https://idp.acme.example", subject) {
    issuer()["jwks"] = provider.jwks();
    for (auto& item : manifest["backends"]) {
      item["signing_algorithm"] = std::string(crypto::to_string(issued));
    }
    for (int i = 0; i < 50; ++i) {
      const auto n = std::to_string(i);
      manifest["backends"].push_back({{"name", "backend-" + n},
                                      {"audience", "https://b" + n + ".example.com/mcp"},
                                      {"scopes", {"read", "write"}}});
      manifest["roles"].push_back({{"name", "role-" + n}, {"allow", {"backend-" + n + ":*"}}});
      manifest["bindings"].push_back({{"role", "role-" + n}, {"groups", {"group-" + n}}});
    }
    load();
  }
  std::string token(int user) const {
    auto claims = provider.claims("00u1a2b3c4d5e6f7g8h" + std::to_string(user), clock.now());
    claims["groups"] = {"engineering", "group-1", "group-2", "staff"};
    claims["scope"] = "openid profile files:read files:write";
    claims["azp"] = "gw-01";
    claims["jti"] = "2f1c6d2e-5b0a-4a55-9d0e-" + std::to_string(100000000000 + user);
    claims["auth_time"] = test::seconds_of(clock.now());
    return provider.sign(claims);
  }
  test::Idp provider;
};

void run(World& world, grants::SubjectVerifier& verifier, const std::string& token,
         benchmark::State& state) {
  const grants::TokenExchange exchange(verifier, world.release, world.clock);
  auto request = world.request(token);
  request.scope = "files:read";
  auto record = world.record();
  const auto issued = exchange.exchange(*world.snapshot, world.caller(), request, Wait::No, record);
  if (!issued.ok()) state.SkipWithError(issued.error().detail.c_str());
  benchmark::DoNotOptimize(&issued);
}

/// Every token is new to the verifier: a ring of more tokens than it remembers.
void exchange_cold(benchmark::State& state, Algorithm subject, Algorithm issued) {
  World world(subject, issued);
  grants::SubjectVerifier verifier(world.issuer_keys, world.own_tokens, world.clock,
                                   grants::SubjectVerifier::Options{16});
  std::vector<std::string> tokens;
  for (int i = 0; i < 512; ++i) tokens.push_back(world.token(i));
  std::size_t next = 0;
  for (auto _ : state) run(world, verifier, tokens[next++ % tokens.size()], state);
  if (verifier.stats().hits != 0) state.SkipWithError("not cold");
}
BENCHMARK_CAPTURE(exchange_cold, ES256_to_ES256, Algorithm::ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(exchange_cold, EdDSA_to_EdDSA, Algorithm::EdDSA, Algorithm::EdDSA);
BENCHMARK_CAPTURE(exchange_cold, RS256_to_ES256, Algorithm::RS256, Algorithm::ES256);

void exchange_remembered(benchmark::State& state, Algorithm issued) {
  World world(Algorithm::ES256, issued);
  const auto token = world.token(1);
  run(world, world.verifier, token, state);
  for (auto _ : state) run(world, world.verifier, token, state);
}
BENCHMARK_CAPTURE(exchange_remembered, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(exchange_remembered, EdDSA, Algorithm::EdDSA);

// ---- the parts --------------------------------------------------------------

void subject_verify_cold(benchmark::State& state, Algorithm algorithm) {
  World world(algorithm);
  grants::SubjectVerifier verifier(world.issuer_keys, world.own_tokens, world.clock,
                                   grants::SubjectVerifier::Options{16});
  std::vector<std::string> tokens;
  for (int i = 0; i < 512; ++i) tokens.push_back(world.token(i));
  std::size_t next = 0;
  for (auto _ : state) {
    const auto token =
        verifier.verify(*world.snapshot, world.caller(), tokens[next++ % tokens.size()],
                        policy::SubjectTokenType::AccessToken, Wait::No);
    if (!token.ok()) state.SkipWithError("refused");
  }
}
BENCHMARK_CAPTURE(subject_verify_cold, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(subject_verify_cold, EdDSA, Algorithm::EdDSA);

void subject_verify_remembered(benchmark::State& state) {
  World world(Algorithm::ES256);
  const auto token = world.token(1);
  for (auto _ : state) {
    const auto verified = world.verifier.verify(*world.snapshot, world.caller(), token,
                                                policy::SubjectTokenType::AccessToken, Wait::No);
    if (!verified.ok()) state.SkipWithError("refused");
  }
}
BENCHMARK(subject_verify_remembered);

void authorize(benchmark::State& state) {
  World world(Algorithm::ES256);
  const auto subject = world.verify(world.token(1)).value();
  for (auto _ : state) {
    const auto target = policy::resolve_target(*world.snapshot, world.gateway(), {"files"}, {});
    const auto scope = policy::permitted_scope(*world.snapshot, world.gateway(),
                                               *target.value().backend, subject->rights());
    if (!scope.ok()) state.SkipWithError("refused");
    benchmark::DoNotOptimize(&scope);
  }
}
BENCHMARK(authorize);

void mint(benchmark::State& state, Algorithm algorithm) {
  World world(Algorithm::ES256, algorithm);
  const auto caller = world.caller();
  const auto* backend = world.snapshot->find_backend("files");
  for (auto _ : state) {
    auto record = world.record();
    const auto issued = grants::issue(*world.snapshot,
                                      {&caller,
                                       {backend, backend->audience},
                                       "00u1a2b3c4d5e6f7g8h1",
                                       backend->scopes,
                                       std::nullopt,
                                       std::nullopt,
                                       Json(),
                                       Json::object()},
                                      world.clock, record);
    if (!issued.ok()) state.SkipWithError("refused");
  }
}
BENCHMARK_CAPTURE(mint, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(mint, EdDSA, Algorithm::EdDSA);

// ---- client authentication, without the database ----

/// Everything is used for the first time.
class AlwaysFirst final : public policy::ReplayGuard {
 public:
  Result<bool> first_use(const TenantId&, std::string_view, const crypto::Hash256&,
                         sys_seconds) override {
    return true;
  }
};

void client_secret(benchmark::State& state) {
  World world(Algorithm::ES256, Algorithm::ES256);
  const ClientSecret secret(SecureBuffer::copy_of(world.tenants.secret(world.tenant, "gw-01")));
  for (auto _ : state) {
    const auto client =
        grants::authenticate_client(*world.snapshot, "gw-01", secret, world.clock.now());
    if (!client.ok()) state.SkipWithError("refused");
  }
}
BENCHMARK(client_secret);

void private_key_jwt(benchmark::State& state, Algorithm algorithm) {
  World world(Algorithm::ES256, Algorithm::ES256);
  const test::Idp key("gw-01", algorithm);
  world.client()["authentication"] = {{"method", "private_key_jwt"}, {"jwks", key.jwks()}};
  world.load();
  const auto now = world.clock.now();
  const std::string issuer = world.snapshot->issuer_url();
  const auto assertion = key.sign({{"iss", "gw-01"},
                                   {"sub", "gw-01"},
                                   {"aud", issuer},
                                   {"jti", "1"},
                                   {"exp", test::seconds_of(now + std::chrono::seconds(60))}});
  AlwaysFirst replays;
  const grants::ClientAssertions assertions(world.issuer_keys, world.clock);
  for (auto _ : state) {
    const auto client = assertions.authenticate(*world.snapshot, assertion, replays, Wait::No);
    if (!client.ok()) state.SkipWithError("refused");
  }
}
BENCHMARK_CAPTURE(private_key_jwt, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(private_key_jwt, RS256, Algorithm::RS256);
BENCHMARK_CAPTURE(private_key_jwt, EdDSA, Algorithm::EdDSA);

void dpop_proof(benchmark::State& state, Algorithm algorithm) {
  World world(Algorithm::ES256, Algorithm::ES256);
  const auto key = crypto::SigningKey::generate(algorithm);
  auto jwk = token::public_jwk(key);
  for (const char* member : {"kid", "use", "alg"}) jwk.erase(member);
  const std::string url = "https://sts.example.com/t/acme/token";
  const Json header{
      {"typ", "dpop+jwt"}, {"alg", std::string(crypto::to_string(algorithm))}, {"jwk", jwk}};
  const Json claims{
      {"jti", "1"}, {"htm", "POST"}, {"htu", url}, {"iat", test::seconds_of(world.clock.now())}};
  const auto input =
      crypto::base64url(as_bytes(header.dump())) + "." + crypto::base64url(as_bytes(claims.dump()));
  const auto proof = input + "." + crypto::base64url(key.sign(as_bytes(input)));
  AlwaysFirst replays;
  grants::DpopNonces nonces(world.tenants.keyring(), world.clock);
  const grants::DpopProofs proofs(nonces, grants::DpopProofs::Nonce::NotAsked, world.clock);
  for (auto _ : state) {
    const auto jkt = proofs.verify(world.tenant, proof, {"POST", url, std::nullopt}, replays);
    if (!jkt.ok()) state.SkipWithError("refused");
  }
}
BENCHMARK_CAPTURE(dpop_proof, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(dpop_proof, EdDSA, Algorithm::EdDSA);

void sign_alone(benchmark::State& state, Algorithm algorithm) {
  const auto key = crypto::SigningKey::generate(algorithm);
  const std::string input(420, 'a');
  for (auto _ : state) benchmark::DoNotOptimize(key.sign(as_bytes(input)));
}
BENCHMARK_CAPTURE(sign_alone, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(sign_alone, EdDSA, Algorithm::EdDSA);

void verify_alone(benchmark::State& state, Algorithm algorithm) {
  const auto key = crypto::SigningKey::generate(algorithm);
  const std::string input(560, 'a');
  const auto signature = key.sign(as_bytes(input));
  const auto verifier = key.public_key();
  for (auto _ : state) {
    if (!verifier.verify(algorithm, as_bytes(input), signature)) state.SkipWithError("refused");
  }
}
BENCHMARK_CAPTURE(verify_alone, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(verify_alone, EdDSA, Algorithm::EdDSA);

/// The JSON of one cold exchange: header and claims read, header and claims written.
void json_parse_and_serialise(benchmark::State& state) {
  World world(Algorithm::ES256);
  const auto token = world.token(1);
  const auto first = token.find('.');
  const auto second = token.find('.', first + 1);
  const auto part = [&](std::size_t from, std::size_t to) {
    return std::string(
        as_text(crypto::base64url_decode(std::string_view(token).substr(from, to - from)).value()));
  };
  const auto header = part(0, first), claims = part(first + 1, second);
  for (auto _ : state) {
    const auto read_header = token::parse_json(header).value();
    const auto read_claims = token::parse_json(claims).value();
    benchmark::DoNotOptimize(token::dump_json(read_header));
    benchmark::DoNotOptimize(token::dump_json(read_claims));
  }
}
BENCHMARK(json_parse_and_serialise);

/// A tenant of 53 backends read and indexed, as after every configuration change.
void snapshot_build(benchmark::State& state) {
  World world(Algorithm::ES256);
  for (auto _ : state) benchmark::DoNotOptimize(world.tenants.snapshot(world.tenant));
}
BENCHMARK(snapshot_build)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace postern
