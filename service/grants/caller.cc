#include "grants/caller.h"

namespace postern::grants {

Result<Confirmation> read_confirmation(const token::Json& cnf) {
  const auto refused = [] {
    return fail(ErrorCode::InvalidToken, "the token is bound to a key in a way not accepted here");
  };
  if (!cnf.is_object() || cnf.empty()) return refused();
  Confirmation bound;
  for (const auto& [name, value] : cnf.items()) {
    if (!value.is_string()) return refused();
    const auto& text = value.get_ref<const std::string&>();
    if (text.size() != 43) return refused();  // SHA-256 in base64url, both of them
    if (name == "jkt") {
      bound.jkt = text;
    } else if (name == "x5t#S256") {
      bound.x5t_s256 = text;
    } else {
      return refused();
    }
  }
  return bound;
}

bool proves(const Caller& caller, const Confirmation& bound) {
  return (bound.jkt.empty() || bound.jkt == caller.proven.jkt) &&
         (bound.x5t_s256.empty() || bound.x5t_s256 == caller.proven.x5t_s256);
}

Result<Confirmation> confirmation_of(const Caller& caller, const Confirmation& inherited) {
  if (!proves(caller, inherited)) {
    return fail(ErrorCode::InvalidToken, "the token is bound to a key; no proof of it was sent");
  }
  const auto& client = *caller.client;
  if (client.dpop_bound && caller.proven.jkt.empty()) {
    return fail(ErrorCode::InvalidDpopProof, "this client must send a DPoP proof");
  }
  if (client.certificate_bound && caller.proven.x5t_s256.empty()) {
    return fail(ErrorCode::MalformedRequest,
                "tokens of this client are bound to its certificate, and it showed none");
  }
  Confirmation bound{caller.proven.jkt, {}};
  if (client.certificate_bound || !inherited.x5t_s256.empty()) {
    bound.x5t_s256 = caller.proven.x5t_s256;
  }
  return bound;
}

}  // namespace postern::grants
