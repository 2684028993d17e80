// Tokens of clients at the Vault subset: never crashes, and nothing is taken that
// was not made here.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "grants/vault_sessions.h"
#include "support/in_memory_revocation_list.h"
#include "support/tenant_fixture.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern;
  static test::TenantFixture f;
  static test::InMemoryRevocationList revocations;
  static const grants::VaultSessions sessions(f.tenants.keyring(), revocations, f.clock);

  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& token : {std::string(text), "postern_vt_acme." + std::string(text),
                            "postern_vt_acme.1." + std::string(text)}) {
    const auto session = sessions.verify(*f.snapshot, token);
    if (session.ok() || session.error().code != ErrorCode::Unauthenticated) std::abort();
  }
  return 0;
}
