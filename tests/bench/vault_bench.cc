// One credential sealed and opened, next to the bare libsodium calls it cannot
// do without; one audit event made canonical and linked.
#include <benchmark/benchmark.h>
#include <sodium.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "audit/chain.h"
#include "audit/event.h"
#include "audit/group_writer.h"
#include "support/in_memory_audit_log.h"
#include "support/in_memory_kek_store.h"
#include "vault/envelope.h"

namespace {

using namespace postern;

const TenantId kAcme("acme");
const vault::CredentialKey kKey{
    Owner::principal({"https://idp.example/realms/acme", "4c1c9f4e-5a53-4c11-9a56-2f0c6b4f7c2d"}),
    CredentialName("github")};
constexpr sys_seconds kNow{std::chrono::seconds(1'800'000'000)};

vault::Fields fields() {
  vault::Fields made;
  made.emplace("host", SecureBuffer::copy_of("https://api.github.example"));
  made.emplace("token", SecureBuffer::copy_of("ghp_0123456789abcdefghijklmnopqrstuvwxyz"));
  return made;
}

struct Vault {
  test::TestKeyring keys{"acme"};
  vault::Envelope envelope{keys.keyring};
};

void seal_credential(benchmark::State& state) {
  Vault vault;
  const auto plain = fields();
  for (auto _ : state) {
    benchmark::DoNotOptimize(vault.envelope.seal(kAcme, kKey, 1, plain, kNow, std::nullopt));
  }
}
BENCHMARK(seal_credential);

void open_credential(benchmark::State& state) {
  Vault vault;
  const auto sealed = vault.envelope.seal(kAcme, kKey, 1, fields(), kNow, std::nullopt);
  for (auto _ : state) {
    benchmark::DoNotOptimize(vault.envelope.open(kAcme, kKey, sealed.value()));
  }
}
BENCHMARK(open_credential)->Threads(1)->Threads(2);

/// The two XChaCha20-Poly1305 calls of a credential and nothing else.
struct Bare {
  std::array<unsigned char, 32> key{};
  std::array<unsigned char, 24> nonce{};
  std::vector<unsigned char> aad = std::vector<unsigned char>(150);
  std::array<unsigned char, 32 + 16> dek{};
  std::array<unsigned char, 100 + 16> box{};

  void seal() {
    unsigned long long length = 0;
    randombytes_buf(key.data(), key.size());
    for (const std::size_t size : {std::size_t{32}, std::size_t{100}}) {
      randombytes_buf(nonce.data(), nonce.size());
      auto* out = size == 32 ? dek.data() : box.data();
      crypto_aead_xchacha20poly1305_ietf_encrypt(out, &length, out, size, aad.data(), aad.size(),
                                                 nullptr, nonce.data(), key.data());
    }
  }
};

void libsodium_seal(benchmark::State& state) {
  Bare bare;
  for (auto _ : state) {
    bare.seal();
    benchmark::DoNotOptimize(bare);
  }
}
BENCHMARK(libsodium_seal);

void libsodium_open(benchmark::State& state) {
  Bare bare;
  std::array<unsigned char, 100 + 16> box{};
  std::array<unsigned char, 100> plain{};
  unsigned long long length = 0;
  for (const std::size_t size : {std::size_t{32}, std::size_t{100}}) {
    crypto_aead_xchacha20poly1305_ietf_encrypt(size == 32 ? bare.dek.data() : box.data(), &length,
                                               plain.data(), size, bare.aad.data(), bare.aad.size(),
                                               nullptr, bare.nonce.data(), bare.key.data());
  }
  int opened = 0;
  for (auto _ : state) {
    opened |= crypto_aead_xchacha20poly1305_ietf_decrypt(
        plain.data(), &length, nullptr, bare.dek.data(), bare.dek.size(), bare.aad.data(),
        bare.aad.size(), bare.nonce.data(), bare.key.data());
    opened |= crypto_aead_xchacha20poly1305_ietf_decrypt(
        plain.data(), &length, nullptr, box.data(), box.size(), bare.aad.data(), bare.aad.size(),
        bare.nonce.data(), bare.key.data());
    benchmark::DoNotOptimize(plain);
  }
  if (opened != 0) state.SkipWithError("did not open");
}
BENCHMARK(libsodium_open);

void chain_key(benchmark::State& state) {
  Vault vault;
  for (auto _ : state) benchmark::DoNotOptimize(vault.keys.keyring.current(kAcme));
}
BENCHMARK(chain_key)->Threads(1)->Threads(2);

audit::Event exchange() {
  audit::Event event{
      kAcme, kNow, "token.exchange", audit::Outcome::Allowed, "0af7651916cd43dd8448eb211c80319c",
      {}};
  event.with("client", "gateway-eu-1")
      .with("subject", "4c1c9f4e-5a53-4c11-9a56-2f0c6b4f7c2d")
      .with("issuer", "https://idp.example/realms/acme")
      .with("backend", "github")
      .with("audience", "https://mcp.github.example/")
      .with("scope", "repo:read issues:read")
      .with("jti", "8u3kQmZ1n0yTq7cX5vB2wA")
      .with("expires_at", "2027-01-15T08:00:00Z");
  return event;
}

void audit_canonical(benchmark::State& state) {
  const auto event = exchange();
  for (auto _ : state) benchmark::DoNotOptimize(audit::canonical(event));
}
BENCHMARK(audit_canonical);

void audit_canonical_and_link(benchmark::State& state) {
  const auto event = exchange();
  audit::ChainHead head;
  for (auto _ : state) benchmark::DoNotOptimize(audit::append(kAcme, head, event));
}
BENCHMARK(audit_canonical_and_link);

/// Through the writer into a log that keeps nothing: the cost of grouping alone.
class NullLog final : public audit::AuditLog {
 public:
  Status append(std::span<const audit::Event> events) override {
    benchmark::DoNotOptimize(events.data());
    return {};
  }
  Result<std::vector<audit::Record>> read(const TenantId&, const audit::Query&) override {
    return std::vector<audit::Record>();
  }
  Result<audit::Verification> verify(const TenantId&) override { return audit::Verification(); }
};

void audit_group_writer(benchmark::State& state) {
  NullLog log;
  const auto event = exchange();
  std::atomic<std::size_t> done = 0;
  {
    audit::GroupWriter writer(log);
    for (auto _ : state) {
      writer.submit({event}, [&](const Status&) { done.fetch_add(1, std::memory_order_relaxed); });
    }
  }
  if (done != static_cast<std::size_t>(state.iterations())) state.SkipWithError("not all answered");
}
BENCHMARK(audit_group_writer)->UseRealTime();

}  // namespace
