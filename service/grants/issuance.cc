#include "grants/issuance.h"

#include <algorithm>

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
  const auto* signer = snapshot.signer(backend.signing_algorithm, now);
  if (signer == nullptr) {
    return fail(ErrorCode::Unavailable, "", "tenant has no active key for the backend's algorithm");
  }

  std::string jti = crypto::random_id();
  const std::string granted = scope.str();
  // Member by member: an initialiser list would build and copy a pair for each.
  token::Json claims = token::Json::object();
  claims["iss"] = snapshot.issuer_url();
  claims["sub"] = issuance.subject;
  claims["aud"] = issuance.target.audience;
  claims["client_id"] = issuance.caller->id();
  claims["iat"] = now.time_since_epoch().count();
  claims["exp"] = expires_at.time_since_epoch().count();
  claims["jti"] = jti;
  if (!granted.empty()) claims["scope"] = granted;
  if (!issuance.act.is_null()) {
    claims["act"] = issuance.act;
  } else if (!guardrails.impersonation && issuance.subject != issuance.caller->id()) {
    // Nobody passes as the user: with no other actor it is the client that acts.
    claims["act"] = {{"sub", issuance.caller->id()}};
  }
  for (const auto& [name, value] : issuance.auth_context.items()) claims[name] = value;
  if (!bound.jkt.empty()) claims["cnf"]["jkt"] = bound.jkt;
  if (!bound.x5t_s256.empty()) claims["cnf"]["x5t#S256"] = bound.x5t_s256;

  if (issuance.subject_token != nullptr) {
    POSTERN_TRY(claims[kOwnClaim],
                own_claim(snapshot, *issuance.subject_token, issuance.actor_token));
  }
  std::string details;
  if (issuance.tools) {
    claims["authorization_details"] = policy::write(*issuance.tools);
    details = token::dump_json(claims["authorization_details"]);
  }

  record.with("scope", granted)
      .with("authorization_details", details)
      .with("jti", jti)
      .with("bound_to", bound.jkt.empty() ? bound.x5t_s256 : bound.jkt)
      .with("expires_at", std::to_string(expires_at.time_since_epoch().count()));
  return IssuedToken{
      AccessToken(SecureBuffer::take(token::sign_jwt(*signer->key, signer->kid, "at+jwt", claims))),
      {},
      bound.jkt.empty() ? "Bearer" : "DPoP",  // RFC 9449 §5; RFC 8705 §3 keeps Bearer
      expires_at - now,
      std::move(scope),
      expires_at,
      std::move(details)};
}

}  // namespace postern::grants
