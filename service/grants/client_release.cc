#include "grants/client_release.h"

#include "grants/entitlement.h"
#include "policy/authorize.h"

namespace postern::grants {

Status ClientRelease::check(const policy::TenantSnapshot& snapshot, const policy::Client& client,
                            const CredentialName& credential, Wait wait) const {
  for (const auto& [name, backend] : snapshot.config().backends) {
    const bool takes_it = backend.enabled && backend.answer == policy::AnswerKind::Vaulted &&
                          backend.credential == credential &&
                          backend.credential_owner != policy::CredentialOwnerRule::Principal;
    // Where a user must have authenticated in some way, nobody is none.
    if (!takes_it || backend.require.any() || !client.backends.contains(name)) continue;
    const auto permitted =
        entitled_scope_of_client(snapshot, client, backend, std::nullopt, {point_, wait});
    if (permitted.ok()) {
      if (policy::check_whole_backend(backend, permitted.value()).ok()) return {};
      continue;
    }
    const auto code = permitted.error().code;
    if (code != ErrorCode::ScopeRefused && code != ErrorCode::TargetRefused) {
      return permitted.error();
    }
  }
  return fail(ErrorCode::Forbidden, "no backend gives this credential to this client by itself");
}

void ClientRelease::note(const TenantId& tenant, const vault::CredentialKey& key) const {
  if (uses_ != nullptr) uses_->note(tenant, key, clock_.now());
}

}  // namespace postern::grants
