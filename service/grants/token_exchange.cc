#include "grants/token_exchange.h"

#include <algorithm>

namespace postern::grants {

using token::Json;

namespace {

constexpr std::string_view kAccessTokenType = "urn:ietf:params:oauth:token-type:access_token";
constexpr std::string_view kJwtType = "urn:ietf:params:oauth:token-type:jwt";

int depth_of(const Json& act) {
  int depth = 0;
  for (const Json* node = &act; node->is_object();) {
    ++depth;
    const auto nested = node->find("act");
    if (nested == node->end()) break;
    node = &*nested;
  }
  return depth;
}

}  // namespace

void record_subject(audit::Event& record, const VerifiedToken& subject) {
  record.with("subject_issuer", subject.principal.issuer)
      .with("subject", subject.principal.subject)
      .with("subject_token", subject.fingerprint);
}

Status check_may_act(const VerifiedToken& subject, const VerifiedToken* actor,
                     const policy::TenantSnapshot& snapshot, const policy::Client& client) {
  if (subject.may_act.is_null()) return {};
  const auto nobody = [] {
    return fail(ErrorCode::InvalidToken, "the subject token does not let this party act");
  };
  const auto& party = subject.may_act;
  if (!party.contains("sub") && !party.contains("client_id")) return nobody();
  // Without `iss` the issuer means a user of its own, not a namesake elsewhere.
  if (actor != nullptr && !party.contains("iss") &&
      actor->principal.issuer != subject.principal.issuer) {
    return nobody();
  }
  const std::string& name = actor != nullptr ? actor->principal.subject : client.id.str();
  const std::string& issuer = actor != nullptr ? actor->principal.issuer : snapshot.issuer_url();
  for (const auto& [member, value] : party.items()) {
    if (!value.is_string()) return nobody();
    const auto& expected = value.get_ref<const std::string&>();
    // A client is named by `sub` or `client_id`; a member we cannot check does not match.
    const bool matches = member == "sub"         ? expected == name
                         : member == "iss"       ? expected == issuer
                         : member == "client_id" ? actor == nullptr && expected == client.id.str()
                                                 : false;
    if (!matches) return nobody();
  }
  return {};
}

Result<Json> actor_chain(const VerifiedToken& subject, const VerifiedToken* actor,
                         const policy::Client& client) {
  Json act;
  if (actor != nullptr) {
    act = {{"iss", actor->principal.issuer}, {"sub", actor->principal.subject}};
  } else if (!subject.act.is_null()) {
    act = {{"sub", client.id.str()}};
  } else {
    return act;
  }
  if (!subject.act.is_null()) act["act"] = subject.act;
  if (depth_of(act) > 5) {
    return fail(ErrorCode::MalformedRequest, "the chain of actors is deeper than 5");
  }
  return act;
}

Result<IssuedToken> TokenExchange::exchange(const policy::TenantSnapshot& snapshot,
                                            const Caller& caller,
                                            const TokenExchangeRequest& request, Wait wait,
                                            audit::Event& record) const {
  const auto& client = *caller.client;
  if (client.grants.count(policy::GrantType::TokenExchange) == 0) {
    return fail(ErrorCode::UnauthorizedClient, "this client may not exchange tokens");
  }
  const auto wanted = request.requested_token_type.value_or(kAccessTokenType);
  if (wanted != kAccessTokenType && wanted != kJwtType) {
    return fail(ErrorCode::MalformedRequest,
                "requested_token_type is not issued here; use access_token or jwt");
  }
  if (request.actor_token_type && !request.actor_token) {
    return fail(ErrorCode::MalformedRequest, "actor_token_type was sent without actor_token");
  }
  if (request.actor_token && !request.actor_token_type) {
    return fail(ErrorCode::MalformedRequest, "actor_token was sent without actor_token_type");
  }
  POSTERN_TRY(const auto subject_type, parse_token_type(request.subject_token_type));

  // Issuers are trusted per tenant: the client's tenant picks the keys.
  POSTERN_TRY(const auto subject,
              verifier_.verify(snapshot, caller, request.subject_token, subject_type, wait));
  record_subject(record, *subject);
  VerifiedTokenPtr actor;
  if (request.actor_token) {
    POSTERN_TRY(const auto actor_type, parse_token_type(*request.actor_token_type));
    POSTERN_TRY(actor, verifier_.verify(snapshot, caller, *request.actor_token, actor_type, wait));
    record.with("actor_issuer", actor->principal.issuer).with("actor", actor->principal.subject);
    // Somebody else acts as this actor; the chain has no place for a second history.
    if (!actor->act.is_null()) {
      return fail(ErrorCode::InvalidToken, "the actor token is itself a delegated one");
    }
  }
  POSTERN_CHECK(check_may_act(*subject, actor.get(), snapshot, client));
  POSTERN_TRY(auto act, actor_chain(*subject, actor.get(), client));

  POSTERN_TRY(auto target,
              policy::resolve_target(snapshot, client, request.audiences, request.resources));
  record.with("backend", target.backend->name.str()).with("audience", target.audience);
  if (request.scope) {
    // Only what the backend knows: a mistaken gateway may have put a token here.
    if (const auto asked = policy::ScopeSet::parse(*request.scope); asked.ok()) {
      record.with("requested_scope", asked.value().intersect(target.backend->scopes).str());
    }
  }
  if (target.backend->answer == policy::AnswerKind::Vaulted) {
    return fail(ErrorCode::TargetRefused,
                "this backend takes a stored credential; ask the release endpoint for it");
  }
  POSTERN_TRY(auto permitted,
              policy::permitted_scope(snapshot, client, *target.backend, subject->rights()));

  auto not_beyond = subject->expires_at;
  if (actor) not_beyond = std::min(not_beyond, actor->expires_at);
  auto inherited = subject->bound_to;
  if (actor) inherited.include(actor->bound_to);
  POSTERN_TRY(auto issued, issue(snapshot,
                                 {&caller, std::move(target), subject->issued_subject,
                                  std::move(permitted), request.scope, not_beyond, std::move(act),
                                  subject->auth_context, std::move(inherited)},
                                 clock_, record));
  // Gateways refuse an answer whose type is not the one they asked for.
  issued.issued_token_type = wanted;
  return issued;
}

}  // namespace postern::grants
