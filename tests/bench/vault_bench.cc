// One credential sealed and opened, next to the bare libsodium calls it cannot
// do without; one audit event made canonical and linked.
#include <benchmark/benchmark.h>
#include <sodium.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "audit/chain.h"
#include "audit/event.h"
#include "audit/group_writer.h"
#include "crypto/aead.h"
#include "support/in_memory_audit_log.h"
#include "support/in_memory_kek_store.h"
#include "support/in_memory_share_store.h"
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

/// With a share store: the tenant's key and the user's take a share each.
struct SharedVault {
  SharedVault() {
    store.add(kAcme, keyring.create(kAcme, KekVersion{1}, std::nullopt,
                                    keyring.make_share(kAcme).value()));
  }
  test::InMemoryKekStore store;
  test::InMemoryShareStore shares;
  vault::Keyring keyring{vault::RootKeys::generate(), store, &shares};
  vault::Envelope envelope{keyring};
};

template <class V>
void seal_credential_in(benchmark::State& state) {
  V vault;
  const auto plain = fields();
  for (auto _ : state) {
    benchmark::DoNotOptimize(vault.envelope.seal(kAcme, kKey, 1, plain, kNow, std::nullopt));
  }
}
BENCHMARK(seal_credential_in<Vault>)->Name("seal_credential");
BENCHMARK(seal_credential_in<SharedVault>)->Name("seal_credential_with_shares");

template <class V>
void open_credential_in(benchmark::State& state) {
  V vault;
  const auto sealed = vault.envelope.seal(kAcme, kKey, 1, fields(), kNow, std::nullopt);
  for (auto _ : state) {
    benchmark::DoNotOptimize(vault.envelope.open(kAcme, kKey, sealed.value()));
  }
}
BENCHMARK(open_credential_in<Vault>)->Name("open_credential")->Threads(1)->Threads(2);
BENCHMARK(open_credential_in<SharedVault>)->Name("open_credential_with_shares");

/// What a sealed credential cannot do without, in calls of libsodium and nothing else: a
/// fresh key, and for each of the two boxes a nonce, the commitment to its key and the
/// cipher. Lengths are those of the credential above.
struct Bare {
  template <std::size_t kPlain, std::size_t kAad>
  struct Box {
    std::array<unsigned char, 24> nonce{};
    std::array<unsigned char, 32> commitment{};
    std::array<unsigned char, kPlain> plain{};
    std::array<unsigned char, kPlain + 16> sealed{};
    std::array<unsigned char, kAad> aad{};

    void commit(const unsigned char* key, unsigned char* out) const {
      crypto_generichash_state state;
      crypto_generichash_init(&state, key, 32, 32);
      crypto_generichash_update(&state, aad.data(), 15);
      crypto_generichash_update(&state, nonce.data(), nonce.size());
      crypto_generichash_update(&state, aad.data(), aad.size());
      crypto_generichash_final(&state, out, 32);
      sodium_memzero(&state, sizeof state);
    }
    void seal(const unsigned char* key) {
      randombytes_buf(nonce.data(), nonce.size());
      seal_as_it_is(key);
    }
    void seal_as_it_is(const unsigned char* key) {
      commit(key, commitment.data());
      crypto_aead_xchacha20poly1305_ietf_encrypt(sealed.data(), nullptr, plain.data(), plain.size(),
                                                 aad.data(), aad.size(), nullptr, nonce.data(),
                                                 key);
    }
    bool open(const unsigned char* key) {
      std::array<unsigned char, 32> found{};
      commit(key, found.data());
      return sodium_memcmp(found.data(), commitment.data(), found.size()) == 0 &&
             crypto_aead_xchacha20poly1305_ietf_decrypt(plain.data(), nullptr, nullptr,
                                                        sealed.data(), sealed.size(), aad.data(),
                                                        aad.size(), nonce.data(), key) == 0;
    }
  };

  std::array<unsigned char, 32> kek{};
  Box<32, 135> dek;  // its plaintext is the key of the other one
  Box<32, 171> dek_with_share;
  Box<94, 179> fields;

  /// The fields under a fresh key: of one call for random bytes, as they need not be two.
  template <class DekBox>
  void seal_fields(DekBox& its_key) {
    std::array<unsigned char, 32 + 24> drawn;
    randombytes_buf(drawn.data(), drawn.size());
    std::copy_n(drawn.begin(), 32, its_key.plain.begin());
    std::copy_n(drawn.begin() + 32, 24, fields.nonce.begin());
    sodium_memzero(drawn.data(), drawn.size());
    fields.seal_as_it_is(its_key.plain.data());
  }
  void seal() {
    seal_fields(dek);
    dek.seal(kek.data());
  }
  bool open() { return dek.open(kek.data()) && fields.open(dek.plain.data()); }

  /// The KEK with the share of a user, bound to whose it is.
  void combine() {
    crypto_generichash_state state;
    crypto_generichash_init(&state, kek.data(), kek.size(), 32);
    crypto_generichash_update(&state, owner.data(), owner.size());
    crypto_generichash_update(&state, share.data(), share.size());
    crypto_generichash_final(&state, combined.data(), combined.size());
    sodium_memzero(&state, sizeof state);
  }
  void seal_with_share() {
    combine();
    seal_fields(dek_with_share);
    dek_with_share.seal(combined.data());
  }
  bool open_with_share() {
    combine();
    return dek_with_share.open(combined.data()) && fields.open(dek_with_share.plain.data());
  }
  std::array<unsigned char, 32> share{}, combined{};
  std::array<unsigned char, 123> owner{};
};

template <void (Bare::*kSeal)()>
void libsodium_seal_by(benchmark::State& state) {
  Bare bare;
  for (auto _ : state) {
    (bare.*kSeal)();
    benchmark::DoNotOptimize(bare);
  }
}
BENCHMARK(libsodium_seal_by<&Bare::seal>)->Name("libsodium_seal");
BENCHMARK(libsodium_seal_by<&Bare::seal_with_share>)->Name("libsodium_seal_with_share");

template <void (Bare::*kSeal)(), bool (Bare::*kOpen)()>
void libsodium_open_by(benchmark::State& state) {
  Bare bare;
  (bare.*kSeal)();
  for (auto _ : state) {
    if (!(bare.*kOpen)()) state.SkipWithError("did not open");
    benchmark::DoNotOptimize(bare);
  }
}
BENCHMARK(libsodium_open_by<&Bare::seal, &Bare::open>)->Name("libsodium_open");
BENCHMARK(libsodium_open_by<&Bare::seal_with_share, &Bare::open_with_share>)
    ->Name("libsodium_open_with_share");

/// A key of 32 bytes under another one, as a DEK is under its KEK.
void wrap_key(benchmark::State& state) {
  const Kek kek(SecureBuffer(crypto::kKeyBytes));
  const SecureBuffer dek(crypto::kKeyBytes);
  const Bytes aad(135);
  for (auto _ : state) benchmark::DoNotOptimize(crypto::seal(kek, dek.readable(), aad));
}
BENCHMARK(wrap_key);

void unwrap_key(benchmark::State& state) {
  const Kek kek(SecureBuffer(crypto::kKeyBytes));
  const Bytes aad(135);
  const auto box = crypto::seal(kek, SecureBuffer(crypto::kKeyBytes).readable(), aad);
  for (auto _ : state) benchmark::DoNotOptimize(crypto::open(kek, box, aad));
}
BENCHMARK(unwrap_key);

void libsodium_wrap_key(benchmark::State& state) {
  Bare bare;
  for (auto _ : state) {
    bare.dek.seal(bare.kek.data());
    benchmark::DoNotOptimize(bare);
  }
}
BENCHMARK(libsodium_wrap_key);

void libsodium_unwrap_key(benchmark::State& state) {
  Bare bare;
  bare.dek.seal(bare.kek.data());
  for (auto _ : state) {
    if (!bare.dek.open(bare.kek.data())) state.SkipWithError("did not open");
    benchmark::DoNotOptimize(bare);
  }
}
BENCHMARK(libsodium_unwrap_key);

/// As many as a keyring keeps, so that hardly one is in the processor's caches.
struct ManyTenants {
  ManyTenants() {
    for (int i = 0; i < 8192; ++i) {
      tenants.emplace_back("tenant-" + std::to_string(i));
      keys.add(tenants.back());
    }
  }
  test::TestKeyring keys;
  std::vector<TenantId> tenants;
};

/// What it takes to find the KEK of one tenant among many.
void find_key(benchmark::State& state) {
  static ManyTenants many;
  const auto use = [](KekVersion, const Kek& kek) -> Status {
    benchmark::DoNotOptimize(&kek);
    return {};
  };
  const auto find = [&](const TenantId& tenant) {
    return many.keys.keyring.with_current(tenant, std::ref(use));
  };
  for (const auto& tenant : many.tenants) {
    if (!find(tenant).ok()) state.SkipWithError("not found");
  }
  std::size_t at = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(find(many.tenants[at]));
    at = (at + 3001) % many.tenants.size();  // all of them, and no two neighbours
  }
}
BENCHMARK(find_key)->Threads(1)->Threads(2);

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
