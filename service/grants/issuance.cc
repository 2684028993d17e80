#include "grants/issuance.h"

#include <algorithm>

#include "core/json_text.h"
#include "crypto/random.h"
#include "grants/own_token.h"
#include "token/jws.h"

namespace postern::grants {

Result<IssuedToken> issue(const policy::TenantSnapshot& snapshot, const Issuance& issuance,
                          const Clock& clock, audit::Event& record) {
  const auto& backend = *issuance.target.backend;
  POSTERN_TRY(const auto bound, confirmation_of(*issuance.caller, issuance.inherited));
  POSTERN_TRY(auto scope, policy::narrow_scope(issuance.permitted, issuance.requested_scope));

  const auto now = clock.now();
  auto expires_at = now + std::min(backend.max_expires_in, snapshot.settings().lifetime_ceiling());
  if (issuance.not_beyond) expires_at = std::min(expires_at, *issuance.not_beyond);
  if (expires_at <= now) return fail(ErrorCode::InvalidToken, "the token has expired");

  // Guardrails hold for what was configured before them as well.
  const auto& guardrails = snapshot.settings().guardrails;
  POSTERN_CHECK(policy::check_signing(snapshot, backend));
  POSTERN_CHECK(snapshot.check_unsealed());
  const auto* signer = snapshot.signer(backend.signing_algorithm, now);
  if (signer == nullptr) {
    return fail(ErrorCode::Unavailable, "", "tenant has no active key for the backend's algorithm");
  }

  std::string jti = crypto::random_id();
  const std::string granted = scope.str();
  JsonObjectText claims;
  claims.string("iss", snapshot.issuer_url())
      .string("sub", issuance.subject)
      .string("aud", issuance.target.audience)
      .string("client_id", issuance.caller->id())
      .number("iat", now.time_since_epoch().count())
      .number("exp", expires_at.time_since_epoch().count())
      .string("jti", jti);
  if (!granted.empty()) claims.string("scope", granted);
  if (!issuance.act.is_null()) {
    claims.json("act", token::dump_json(issuance.act));
  } else if (!guardrails.impersonation && issuance.subject != issuance.caller->id()) {
    // Nobody passes as the user: with no other actor it is the client that acts.
    claims.json("act", JsonObjectText().string("sub", issuance.caller->id()).str());
  }
  for (const auto& [name, value] : issuance.auth_context.items()) {
    claims.json(name, token::dump_json(value));
  }
  JsonObjectText confirmation;
  if (!bound.jkt.empty()) confirmation.string("jkt", bound.jkt);
  if (!bound.x5t_s256.empty()) confirmation.string("x5t#S256", bound.x5t_s256);
  if (!confirmation.empty()) claims.json("cnf", confirmation.str());

  if (issuance.subject_token != nullptr) {
    POSTERN_TRY(const auto own, own_claim(snapshot, *issuance.subject_token, issuance.actor_token));
    claims.json(kOwnClaim, own);
  }
  std::string details;
  if (issuance.tools) {
    details = token::dump_json(policy::write(*issuance.tools));
    claims.json("authorization_details", details);
  }

  record.with("scope", granted)
      .with("authorization_details", details)
      .with("jti", jti)
      .with("bound_to", bound.jkt.empty() ? bound.x5t_s256 : bound.jkt)
      .with("expires_at", std::to_string(expires_at.time_since_epoch().count()));
  return IssuedToken{
      AccessToken(SecureBuffer::take(
          token::sign_claims(*signer->key, signer->kid, "at+jwt", claims.str()))),
      {},
      bound.jkt.empty() ? "Bearer" : "DPoP",  // RFC 9449 §5; RFC 8705 §3 keeps Bearer
      expires_at - now,
      std::move(scope),
      expires_at,
      std::move(details)};
}

}  // namespace postern::grants
