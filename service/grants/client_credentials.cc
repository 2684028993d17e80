#include "grants/client_credentials.h"

#include "grants/entitlement.h"

namespace postern::grants {

Result<IssuedToken> ClientCredentials::grant(const policy::TenantSnapshot& snapshot,
                                             const Caller& caller,
                                             const std::vector<std::string_view>& audiences,
                                             const std::vector<std::string_view>& resources,
                                             std::optional<std::string_view> scope,
                                             audit::Event& record, Wait wait) const {
  const auto& client = *caller.client;
  if (client.grants.count(policy::GrantType::ClientCredentials) == 0) {
    return fail(ErrorCode::UnauthorizedClient, "this client may not use client_credentials");
  }
  POSTERN_TRY(auto target, policy::resolve_target(snapshot, client, audiences, resources));
  record.with("backend", target.backend->name.str()).with("audience", target.audience);
  if (target.backend->answer == policy::AnswerKind::Vaulted) {
    return fail(ErrorCode::TargetRefused, "this backend takes a stored credential, not a token");
  }
  POSTERN_TRY(auto permitted,
              entitled_scope_of_client(snapshot, client, *target.backend, scope, {point_, wait}));
  return issue(snapshot,
               {&caller, std::move(target), client.id.str(), std::move(permitted), scope,
                std::nullopt, token::Json(), token::Json::object()},
               clock_, record);
}

}  // namespace postern::grants
