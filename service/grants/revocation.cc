#include "grants/revocation.h"

#include <memory>
#include <utility>

#include "token/jws.h"

namespace postern::grants {

Status Revocation::revoke(const policy::TenantSnapshot& snapshot, const Caller& caller,
                          std::string_view compact, Wait wait, audit::Event& record) const {
  const auto token = revocable(snapshot, caller, compact, wait);
  if (!token.ok()) {
    if (token.error().code != ErrorCode::InvalidToken) return token.error();
    record.with("effect", "none").with("reason", token.error().detail);
    return {};
  }
  const auto& id = token.value()->lineage.front();
  record.with("revoked_token", id);
  POSTERN_CHECK(list_.revoke(snapshot.tenant(), id, token.value()->expires_at));
  record.with("effect", "revoked");
  return {};
}

Result<VerifiedTokenPtr> Revocation::revocable(const policy::TenantSnapshot& snapshot,
                                               const Caller& caller, std::string_view compact,
                                               Wait wait) const {
  if (compact.size() > token::kMaxTokenBytes) {
    return fail(ErrorCode::InvalidToken, "the token is too long");
  }
  const auto jwt = token::UnverifiedJwt::parse(compact);
  if (!jwt.ok() || jwt.value().claimed_issuer() != snapshot.issuer_url()) {
    return verifier_.verify_for_revocation(snapshot, caller, compact, wait);
  }
  // Whether it still stands does not matter: what is disabled may be enabled again.
  POSTERN_TRY(auto token, own_tokens_.read(snapshot, jwt.value()));
  if (token.authorized_party != caller.id()) {
    return fail(ErrorCode::InvalidToken, "the token was not issued to this client");
  }
  return std::make_shared<const VerifiedToken>(std::move(token));
}

}  // namespace postern::grants
