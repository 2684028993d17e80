#include "grants/token_exchange.h"

#include <algorithm>
#include <cstddef>

#include "grants/entitlement.h"
#include "grants/release.h"
#include "grants/tool_details.h"
#include "token/jws.h"

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

Status check_requested_type(const ExchangeTarget& asked) {
  const auto wanted = asked.requested_token_type.value_or(kAccessTokenType);
  if (wanted != kAccessTokenType && wanted != kJwtType && wanted != kCredentialTokenType) {
    return fail(ErrorCode::MalformedRequest,
                "requested_token_type is not issued here; use access_token or jwt");
  }
  return {};
}

bool is_access_token(ByteView bytes) {
  return !bytes.empty() && bytes.size() <= token::kMaxTokenBytes &&
         std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) {
           return byte >= std::byte{0x20} && byte <= std::byte{0x7e};
         });
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
  Json history = subject.act;
  // The client that a token of ours was issued to has acted too.
  if (history.is_null() && subject.own) history = {{"sub", subject.authorized_party}};
  if (actor != nullptr) {
    act = {{"iss", actor->principal.issuer}, {"sub", actor->principal.subject}};
  } else if (!history.is_null()) {
    act = {{"sub", client.id.str()}};
  } else {
    return act;
  }
  if (!history.is_null()) act["act"] = std::move(history);
  if (depth_of(act) > 5) {
    return fail(ErrorCode::MalformedRequest, "the chain of actors is deeper than 5");
  }
  return act;
}

Result<Json> check_parties(const policy::TenantSnapshot& snapshot, const policy::Client& client,
                           const VerifiedToken& subject, const VerifiedToken* actor) {
  if (subject.own && subject.own->of_client) {
    return fail(ErrorCode::InvalidToken,
                "the subject token is a client's own; it may be an actor_token, or the client "
                "asks for itself");
  }
  // Somebody else acts as this actor; the chain has no place for a second history.
  if (actor != nullptr && !actor->act.is_null()) {
    return fail(ErrorCode::InvalidToken, "the actor token is itself a delegated one");
  }
  POSTERN_CHECK(check_may_act(subject, actor, snapshot, client));
  return actor_chain(subject, actor, client);
}

Status check_answers_exchange(const policy::Backend& backend) {
  if (backend.answer == policy::AnswerKind::Minted || !backend.token_field.empty()) return {};
  return fail(ErrorCode::TargetRefused,
              "this backend takes a stored credential; ask the release endpoint for it");
}

Error lacks_token_field() {
  return fail(ErrorCode::InteractionRequired,
              "the stored credential lacks the field that this backend is answered with");
}

Status check_vaulted_actor(const VerifiedToken* actor) {
  if (actor == nullptr) return {};
  return fail(ErrorCode::MalformedRequest,
              "a stored credential cannot name an actor; send no actor_token for this backend");
}

Result<IssuedToken> TokenExchange::exchange(const policy::TenantSnapshot& snapshot,
                                            const Caller& caller,
                                            const TokenExchangeRequest& request, Wait wait,
                                            audit::Event& record) const {
  POSTERN_TRY(const auto parties, verify(snapshot, caller, request, wait, record));
  return issue_for(snapshot, caller, parties, request, wait, record);
}

Result<ExchangeParties> TokenExchange::verify(const policy::TenantSnapshot& snapshot,
                                              const Caller& caller, const ExchangeTokens& tokens,
                                              Wait wait, audit::Event& record) const {
  const auto& client = *caller.client;
  if (client.grants.count(policy::GrantType::TokenExchange) == 0) {
    return fail(ErrorCode::UnauthorizedClient, "this client may not exchange tokens");
  }
  if (tokens.actor_token_type && !tokens.actor_token) {
    return fail(ErrorCode::MalformedRequest, "actor_token_type was sent without actor_token");
  }
  if (tokens.actor_token && !tokens.actor_token_type) {
    return fail(ErrorCode::MalformedRequest, "actor_token was sent without actor_token_type");
  }
  POSTERN_TRY(const auto subject_type, parse_token_type(tokens.subject_token_type));

  // Issuers are trusted per tenant: the client's tenant picks the keys.
  ExchangeParties parties;
  POSTERN_TRY(parties.subject, verifier_.verify(snapshot, caller, tokens.subject_token,
                                                subject_type, wait, OwnToken::Accept));
  record_subject(record, *parties.subject);
  if (tokens.actor_token) {
    POSTERN_TRY(const auto actor_type, parse_token_type(*tokens.actor_token_type));
    POSTERN_TRY(parties.actor, verifier_.verify(snapshot, caller, *tokens.actor_token, actor_type,
                                                wait, OwnToken::Accept));
    const auto& actor = *parties.actor;
    record.with("actor_issuer", actor.principal.issuer).with("actor", actor.principal.subject);
  }
  POSTERN_TRY(parties.act, check_parties(snapshot, client, *parties.subject, parties.actor.get()));
  return parties;
}

Result<IssuedToken> TokenExchange::issue_for(const policy::TenantSnapshot& snapshot,
                                             const Caller& caller, const ExchangeParties& parties,
                                             const ExchangeTarget& asked, Wait wait,
                                             audit::Event& record) const {
  POSTERN_CHECK(check_requested_type(asked));
  const auto& client = *caller.client;
  const auto& subject = *parties.subject;
  POSTERN_TRY(auto target,
              policy::resolve_target(snapshot, client, asked.audiences, asked.resources));
  const auto& backend = *target.backend;
  const bool minted = backend.answer == policy::AnswerKind::Minted;
  record.with("backend", backend.name.str());
  if (minted) record.with("audience", target.audience);
  if (asked.scope) {
    // Only what the backend knows: a mistaken gateway may have put a token here.
    if (const auto scopes = policy::ScopeSet::parse(*asked.scope); scopes.ok()) {
      record.with("requested_scope", scopes.value().intersect(backend.scopes).str());
    }
  }
  POSTERN_CHECK(check_answers_exchange(backend));
  const auto wanted = asked.requested_token_type.value_or(kAccessTokenType);
  if (wanted == (minted ? kCredentialTokenType : kJwtType)) {
    return fail(ErrorCode::MalformedRequest,
                "this backend is not answered with a token of the requested type");
  }
  POSTERN_TRY(auto permitted, entitled_scope(snapshot, client, backend, subject, asked.scope,
                                             clock_.now(), {point_, wait, parties.actor.get()}));
  if (!minted) {
    POSTERN_CHECK(check_all_tools(snapshot, backend, subject, asked.tools));
    return vaulted(snapshot, backend, parties, permitted, asked, wait, record);
  }
  POSTERN_TRY(auto tools, granted_tools(snapshot, target, subject, asked.tools));

  auto not_beyond = subject.expires_at;
  if (parties.actor) not_beyond = std::min(not_beyond, parties.actor->expires_at);
  auto inherited = subject.bound_to;
  if (parties.actor) inherited.include(parties.actor->bound_to);
  POSTERN_TRY(auto issued,
              issue(snapshot,
                    {&caller, std::move(target), subject.issued_subject, std::move(permitted),
                     asked.scope, not_beyond, parties.act, subject.auth_context,
                     std::move(inherited), &subject, parties.actor.get(), std::move(tools)},
                    clock_, record));
  // Gateways refuse an answer whose type is not the one they asked for.
  issued.issued_token_type = wanted;
  return issued;
}

Result<IssuedToken> TokenExchange::vaulted(const policy::TenantSnapshot& snapshot,
                                           const policy::Backend& backend,
                                           const ExchangeParties& parties,
                                           const policy::ScopeSet& permitted,
                                           const ExchangeTarget& asked, Wait wait,
                                           audit::Event& record) const {
  // Whoever looks for plaintext that left finds one action, whatever the door.
  record.action = "credential.release";
  record.with("grant", "token-exchange");
  POSTERN_CHECK(check_vaulted_actor(parties.actor.get()));
  const auto answer = [&]() -> Result<IssuedToken> {
    POSTERN_TRY(const auto opened, release_.open_credential(snapshot, backend, *parties.subject,
                                                            permitted, asked.scope, wait, record));
    const auto field = opened.fields.find(backend.token_field);
    if (field == opened.fields.end()) return lacks_token_field();
    // RFC 6749 appendix A.12: visible ASCII and space.
    if (!field->second.expose(is_access_token)) {
      return fail(ErrorCode::InteractionRequired,
                  "the stored credential cannot be a token: it is too long or not plain ASCII");
    }
    // How long the answer may be kept: never longer than the proof of the user.
    const auto now = clock_.now();
    auto until = now + std::min(backend.max_expires_in, snapshot.settings().lifetime_ceiling());
    until = std::min(until, parties.subject->expires_at);
    if (opened.expires_at) until = std::min(until, *opened.expires_at);
    if (until <= now) return fail(ErrorCode::InvalidToken, "the token has expired");
    const auto wanted = asked.requested_token_type.value_or(kAccessTokenType);
    record.with("scope", backend.scopes.str());
    return IssuedToken{
        AccessToken(
            field->second.expose([](ByteView bytes) { return SecureBuffer::copy_of(bytes); })),
        std::string(wanted),
        // Stock gateways pass on only what is called Bearer (RFC 8693 §2.2.1).
        wanted == kCredentialTokenType ? "N_A" : "Bearer", until - now, backend.scopes, until};
  };
  auto answered = answer();
  if (answered.ok() || answered.error().code != ErrorCode::InteractionRequired) return answered;
  Error error = std::move(answered).error();
  error.remedy.connect_url = connect_url(snapshot, backend.name.str());
  return error;
}

}  // namespace postern::grants
