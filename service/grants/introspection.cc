#include "grants/introspection.h"

#include "token/jws.h"

namespace postern::grants {

using token::Json;

Result<Json> Introspection::introspect(const policy::TenantSnapshot& snapshot, const Caller& caller,
                                       std::string_view compact, audit::Event& record) const {
  auto answer = active(snapshot, caller, compact, record);
  if (answer.ok()) {
    record.with("active", "true");
    return answer;
  }
  const auto code = answer.error().code;
  if (code != ErrorCode::InvalidToken && code != ErrorCode::TargetRefused &&
      code != ErrorCode::ScopeRefused) {
    return answer;
  }
  record.with("active", "false").with("reason", answer.error().detail);
  return Json{{"active", false}};
}

Result<Json> Introspection::active(const policy::TenantSnapshot& snapshot, const Caller& caller,
                                   std::string_view compact, audit::Event& record) const {
  if (compact.size() > token::kMaxTokenBytes) {
    return fail(ErrorCode::InvalidToken, "the token is too long");
  }
  POSTERN_TRY(const auto jwt, token::UnverifiedJwt::parse(compact));
  POSTERN_TRY(const auto token, own_tokens_.read(snapshot, jwt));
  record.with("jti", token.fingerprint).with("backend", token.own->backend);
  if (!may_present(*caller.client, token)) {
    return fail(ErrorCode::InvalidToken, "the token is neither this client's nor for its backend");
  }
  POSTERN_CHECK(own_tokens_.check(snapshot, token));
  POSTERN_TRY(const auto scope, own_tokens_.scope(snapshot, token));

  const auto& claims = token.own->claims;
  Json answer{{"active", true}, {"token_type", token.bound_to.jkt.empty() ? "Bearer" : "DPoP"}};
  for (const char* name : {"iss", "sub", "aud", "client_id", "iat", "exp", "jti", "act", "cnf",
                           "auth_time", "acr", "amr", "authorization_details"}) {
    if (const auto it = claims.find(name); it != claims.end()) answer[name] = *it;
  }
  if (!scope.empty()) answer["scope"] = scope.str();
  return answer;
}

Result<std::string> signed_introspection(const policy::TenantSnapshot& snapshot,
                                         const Caller& caller, const Json& answer,
                                         sys_seconds now) {
  POSTERN_CHECK(snapshot.check_unsealed());
  const auto algorithm = snapshot.introspection_algorithm(*caller.client, now);
  const auto* signer = snapshot.signer(algorithm, now);
  if (signer == nullptr) {
    return fail(ErrorCode::MalformedRequest,
                "the tenant has no key for the algorithm of this client's signed answers; an admin "
                "makes one with a key rotation of that algorithm");
  }
  // §5: neither sub nor exp at the top, so that it never passes as a token.
  const Json claims{{"iss", snapshot.issuer_url()},
                    {"aud", caller.id()},
                    {"iat", now.time_since_epoch().count()},
                    {"token_introspection", answer}};
  return token::sign_jwt(*signer->key, signer->kid, "token-introspection+jwt", claims);
}

}  // namespace postern::grants
