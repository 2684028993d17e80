#include "grants/entitlement.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "grants/own_token.h"

namespace postern::grants {

using namespace std::chrono_literals;
using token::Json;

namespace {

constexpr auto kSkew = 60s;

bool acr_fits(const policy::AuthenticationDemand& demand, const Json& context) {
  if (demand.acr.empty()) return true;
  const auto acr = context.find("acr");
  return acr != context.end() && acr->is_string() &&
         std::find(demand.acr.begin(), demand.acr.end(), acr->get_ref<const std::string&>()) !=
             demand.acr.end();
}

bool amr_fits(const policy::AuthenticationDemand& demand, const Json& context) {
  if (demand.amr.empty()) return true;
  const auto amr = context.find("amr");
  if (amr == context.end() || !amr->is_array()) return false;
  return std::all_of(demand.amr.begin(), demand.amr.end(), [&](const std::string& method) {
    return std::find(amr->begin(), amr->end(), Json(method)) != amr->end();
  });
}

bool age_fits(const policy::AuthenticationDemand& demand, const Json& context, sys_seconds now) {
  if (!demand.max_auth_age) return true;
  const auto at = context.find("auth_time");
  const auto time = at != context.end() ? token::numeric_date(*at) : std::nullopt;
  return time && *time <= now + kSkew && now - *time <= *demand.max_auth_age;
}

Result<policy::ScopeSet> asked_outside(const policy::TenantSnapshot& snapshot,
                                       const DecisionFacts& facts, policy::ScopeSet permitted,
                                       const Outside& outside) {
  if (!snapshot.settings().guardrails.decision_point) return permitted;
  if (outside.point == nullptr) {
    return fail(ErrorCode::Unavailable, "", "decision point: this service asks none");
  }
  if (facts.subject != nullptr && !tells_all(snapshot, *facts.subject)) {
    return fail(ErrorCode::InvalidToken,
                "the token does not say all that is asked of its user; send the user's own token");
  }
  POSTERN_TRY(const auto decision, outside.point->decide(snapshot, facts, permitted, outside.wait));
  if (outside.told != nullptr) *outside.told = decision;
  return apply(decision, std::move(permitted));
}

}  // namespace

Status check_authentication(const policy::AuthenticationDemand& demand, const Json& auth_context,
                            sys_seconds now) {
  if (acr_fits(demand, auth_context) && amr_fits(demand, auth_context) &&
      age_fits(demand, auth_context, now)) {
    return {};
  }
  Error error = fail(ErrorCode::InsufficientAuthentication,
                     "this backend wants the user to authenticate more strongly or more recently");
  for (const auto& acr : demand.acr) {
    if (!error.remedy.acr_values.empty()) error.remedy.acr_values += ' ';
    error.remedy.acr_values += acr;
  }
  error.remedy.max_age = demand.max_auth_age;
  return error;
}

Result<policy::ScopeSet> entitled_scope(const policy::TenantSnapshot& snapshot,
                                        const policy::Client& client,
                                        const policy::Backend& backend,
                                        const VerifiedToken& subject,
                                        const std::optional<std::string_view>& requested,
                                        sys_seconds now, const Outside& outside,
                                        policy::PolicyTrace* trace) {
  // Rights first: whoever has none is not sent to authenticate for nothing.
  POSTERN_TRY(auto scope, policy::permitted_scope(snapshot, client, backend, subject.rights(),
                                                  requested, trace));
  POSTERN_CHECK(check_authentication(backend.require, subject.auth_context, now));
  const auto before = trace != nullptr ? scope : policy::ScopeSet();
  auto left = within_chain(subject, backend, std::move(scope));
  if (trace != nullptr) {
    for (auto& one : trace->scopes) {
      if (before.contains(one.scope) && !(left.ok() && left.value().contains(one.scope))) {
        one.within_token = false;  // by what an earlier token of ours was granted
      }
    }
  }
  POSTERN_TRY(scope, std::move(left));
  return asked_outside(snapshot, {&client, &backend, &subject, outside.actor}, std::move(scope),
                       outside);
}

Result<policy::ScopeSet> entitled_scope_of_client(const policy::TenantSnapshot& snapshot,
                                                  const policy::Client& client,
                                                  const policy::Backend& backend,
                                                  const std::optional<std::string_view>& requested,
                                                  const Outside& outside,
                                                  policy::PolicyTrace* trace) {
  POSTERN_TRY(auto scope, policy::permitted_scope_of_client(client, backend, requested, trace));
  return asked_outside(snapshot, {&client, &backend, nullptr, nullptr}, std::move(scope), outside);
}

}  // namespace postern::grants
