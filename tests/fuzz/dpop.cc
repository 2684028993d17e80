// DPoP proofs and their htu: never crashes; what is taken has a proof's every
// part, and a normalised URL is its own normal form.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "grants/dpop.h"
#include "support/in_memory_kek_store.h"
#include "support/in_memory_replay_guard.h"
#include "support/tenant_fixture.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern;
  static test::TestKeyring keys;
  static const test::FixedClock clock(sys_seconds(std::chrono::seconds(1562262616)));
  static grants::DpopNonces nonces(keys.keyring, clock);
  static const grants::DpopProofs proofs(nonces, grants::DpopProofs::Nonce::NotAsked, clock);
  static const TenantId tenant("acme");

  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto normal = grants::normalised_htu(text)) {
    if (normal->find_first_of("?# ") != normal->npos) std::abort();
    const auto host = normal->substr(0, normal->find('/', normal->find("://") + 3));
    if (host.find('@') != host.npos) std::abort();
    if (grants::normalised_htu(*normal) != normal) std::abort();
  }
  test::InMemoryReplayGuard replays;
  const auto jkt = proofs.verify(
      tenant, text, {"POST", "https://server.example.com/token", std::nullopt}, replays);
  if (!jkt.ok()) {
    if (jkt.error().code != ErrorCode::InvalidDpopProof) std::abort();
    return 0;
  }
  if (jkt.value().size() != 43 || replays.uses() != 1) std::abort();
  return 0;
}
