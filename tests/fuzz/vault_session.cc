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
  const auto refused = [](const auto& session) {
    if (session.ok() || session.error().code != ErrorCode::Unauthenticated) std::abort();
  };
  for (const auto* prefix :
       {"", "postern_vt_acme.", "postern_vt_acme.1.", "postern_vu_acme.", "postern_vu_acme.1."}) {
    const auto token = prefix + std::string(text);
    refused(sessions.verify(*f.snapshot, token));
    refused(sessions.verify_for_user(*f.snapshot, token));
  }
  return 0;
}
