#include "grants/jwt_bearer.h"

#include <chrono>
#include <utility>

#include "crypto/hash.h"
#include "grants/entitlement.h"
#include "grants/token_exchange.h"
#include "grants/tool_details.h"

namespace postern::grants {

using policy::SubjectTokenType;

namespace {

/// RFC 7521 §4.1.1: whatever is wrong with the assertion is invalid_grant.
template <class T>
Result<T> of_assertion(Result<T> result) {
  if (result.ok() || result.error().code != ErrorCode::InvalidToken) return result;
  Error error = std::move(result).error();
  error.code = ErrorCode::InvalidGrant;
  return error;
}

}  // namespace

Result<policy::Target> target_of(const policy::TenantSnapshot& snapshot,
                                 const policy::Client& client, const VerifiedAssertion& assertion,
                                 const std::vector<std::string_view>& audiences,
                                 const std::vector<std::string_view>& named_resources) {
  if (assertion.resources.empty()) {
    return policy::resolve_target(snapshot, client, audiences, named_resources);
  }
  const std::vector<std::string_view> resources(assertion.resources.begin(),
                                                assertion.resources.end());
  POSTERN_TRY(auto target, policy::resolve_target(snapshot, client, {}, resources));
  if (!audiences.empty() || !named_resources.empty()) {
    POSTERN_TRY(const auto named,
                policy::resolve_target(snapshot, client, audiences, named_resources));
    if (named.backend != target.backend) {
      return fail(ErrorCode::InvalidGrant, "the assertion is for another resource");
    }
  }
  return target;
}

Result<policy::ScopeSet> within_assertion(const VerifiedAssertion& assertion,
                                          const policy::Backend& backend,
                                          policy::ScopeSet permitted) {
  if (!assertion.scope) return permitted;
  permitted = permitted.intersect(*assertion.scope);
  if (permitted.empty() && backend.has_scopes()) {
    return fail(ErrorCode::ScopeRefused, "the assertion's scope leaves nothing at this backend");
  }
  return permitted;
}

Result<IssuedToken> JwtBearer::grant(const policy::TenantSnapshot& snapshot, const Caller& caller,
                                     const JwtBearerRequest& request, Wait wait,
                                     audit::Event& record) const {
  const auto& client = *caller.client;
  if (client.grants.count(policy::GrantType::JwtBearer) == 0) {
    return fail(ErrorCode::UnauthorizedClient, "this client may not use jwt-bearer");
  }
  POSTERN_TRY(const auto assertion,
              of_assertion(verifier_.verify_assertion(snapshot, caller, request.assertion, wait)));
  const auto& subject = assertion.token;
  record_subject(record, subject);
  const bool id_jag = assertion.type == SubjectTokenType::IdJag;
  record.with("assertion", id_jag ? "id-jag" : "jwt");
  if (const auto may = check_may_act(subject, nullptr, snapshot, client); !may.ok()) {
    return fail(ErrorCode::InvalidGrant, may.error().detail);
  }
  auto act = actor_chain(subject, nullptr, client);
  if (!act.ok()) return fail(ErrorCode::InvalidGrant, act.error().detail);

  POSTERN_TRY(auto target,
              target_of(snapshot, client, assertion, request.audiences, request.resources));
  const auto& backend = *target.backend;
  record.with("backend", backend.name.str()).with("audience", target.audience);
  if (backend.answer == policy::AnswerKind::Vaulted) {
    return fail(ErrorCode::TargetRefused, "this backend takes a stored credential, not a token");
  }
  POSTERN_TRY(auto permitted, entitled_scope(snapshot, client, backend, subject, request.scope,
                                             clock_.now(), {point_, wait}));
  POSTERN_TRY(permitted, within_assertion(assertion, backend, std::move(permitted)));
  POSTERN_TRY(auto tools, granted_tools(snapshot, target, subject, request.tools));
  // Whatever else issue() could refuse, so that a refusal does not use up the assertion.
  POSTERN_CHECK(policy::narrow_scope(permitted, request.scope));
  POSTERN_CHECK(of_assertion(confirmation_of(caller, subject.bound_to)));

  const auto* issuer = snapshot.find_issuer(subject.principal.issuer);
  const bool reusable = id_jag && issuer != nullptr && issuer->config.id_jag_reuse;
  if (!assertion.jti.empty() && !reusable) {
    if (wait == Wait::No) return fail(ErrorCode::NeedsDatabase, "");
    const auto use =
        crypto::sha256_parts({as_bytes(subject.principal.issuer),
                              as_bytes(subject.principal.subject), as_bytes(assertion.jti)});
    POSTERN_TRY(const bool first,
                replays_.first_use(snapshot.tenant(), id_jag ? "id_jag" : "jwt_bearer", use,
                                   subject.expires_at));
    if (!first) return fail(ErrorCode::InvalidGrant, "the assertion was used before");
  }
  return of_assertion(
      issue(snapshot,
            {&caller, std::move(target), subject.issued_subject, std::move(permitted),
             request.scope, subject.expires_at, std::move(act).value(), subject.auth_context,
             subject.bound_to, &subject, nullptr, std::move(tools)},
            clock_, record));
}

}  // namespace postern::grants
