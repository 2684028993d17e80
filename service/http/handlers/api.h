#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "grants/vault_sessions.h"
#include "http/handlers/services.h"
#include "http/preconditions.h"
#include "http/router.h"
#include "token/json.h"

/// What the endpoints of the native REST API share: who calls, what is
/// recorded, how bodies are read.
namespace postern::http {

/// Who calls the REST API, or the Vault subset, where alone there are clients, by
/// themselves or for a user whose token the session holds.
struct Caller {
  enum class Kind { Operator, TenantAdmin, User, Client, ClientForUser };
  Kind kind = Kind::User;
  std::string admin_token_id{};     ///< TenantAdmin
  grants::VerifiedTokenPtr user{};  ///< User, ClientForUser
  grants::VaultSession session{};   ///< Client, ClientForUser

  void describe(audit::Event& record) const;
};

inline bool is_admin(const Caller& caller) {
  return caller.kind == Caller::Kind::Operator || caller.kind == Caller::Kind::TenantAdmin;
}

/// The caller behind `Authorization: Bearer`. An operator's token needs no
/// tenant; the others count only in `snapshot`'s, users with its `api_scopes`.
/// Errors: Unauthenticated, Forbidden, NeedsOutbound, Unavailable.
Result<Caller> caller_of(const Services& services, const Request& request,
                         const policy::TenantSnapshot* snapshot);

/// The scope of the next token that may do what this caller may not; none beyond operators.
std::string scope_beyond(Caller::Kind kind, std::initializer_list<Caller::Kind> allowed);

/// As caller_of, of a token that came by another header.
Result<Caller> caller_with(const Services& services, const Request& request,
                           const policy::TenantSnapshot* snapshot, const BearerToken& bearer);

/// The tenant that an admin's token names, where the path names none; nothing
/// for other tokens and for no such tenant. Waits for the database.
/// Errors: Unavailable, Internal.
Result<std::shared_ptr<const policy::TenantSnapshot>> tenant_of_admin_token(
    const Services& services, const Request& request);

/// What an API endpoint did. Writes commit their record in their own
/// transaction; for anything else that must be recorded, the gate does it.
struct Done {
  enum class Recorded { InStore, ByGate, NotNeeded };
  Reply reply;
  Recorded recorded = Recorded::NotNeeded;
};

/// A call on one existing tenant: finds the tenant, authenticates the caller,
/// refuses kinds that are not allowed (recorded), runs the body, and renders
/// and records its errors.
using TenantCall = std::function<Result<Done>(const policy::TenantSnapshot& snapshot,
                                              const Caller& caller, audit::Event& record)>;
Result<Answer> tenant_call(const Services& services, const Request& request, std::string action,
                           std::initializer_list<Caller::Kind> allowed, const TenantCall& body);

/// Only operators may call what has no tenant. Not recorded: there is no chain it could
/// belong to. Errors: as caller_of().
Status require_operator(const Services& services, const Request& request);

/// Errors: Forbidden unless the caller is one of these.
Status check_kind(const Caller& caller, std::span<const Caller::Kind> allowed);

/// Renders what `run` makes of the record, and has it recorded as Done says. Whoever
/// proves to be nobody (`record` has no caller) fills no audit trail: after some refusals
/// from one source there are a few records a minute, with how many there were (`attempts`).
/// @param scope  as of render(); looked at when `run` is over.
Result<Answer> recorded(const Services& services, const Request& request, audit::Event record,
                        const std::function<Result<Done>(audit::Event& record)>& run,
                        const std::string& scope = {});

/// A call of a client for a user: finds the tenant, authenticates the client (by
/// headers, or by `client_id`, `client_assertion` and `client_assertion_type` in
/// the body, as in the form of the token endpoint), proves its key, reads the body
/// with these `members` besides, runs the call, and renders and records its errors.
/// `name` is the last part of the path.
using ClientCall = std::function<Result<Answer>(const policy::TenantSnapshot& snapshot,
                                                const grants::Caller& caller, token::Json& body,
                                                audit::Event& record)>;
Result<Answer> client_call(const Services& services, const Request& request, std::string action,
                           const std::string& name, std::initializer_list<std::string_view> members,
                           const ClientCall& call);

/// Applies a change that was computed from what was read just before, with its record.
/// Errors: as ConfigStore::apply; Conflict when the tenant has moved on since.
Result<std::uint64_t> apply_or_conflict(const Services& services, const TenantId& tenant,
                                        const policy::ConfigChange& change, audit::Event& record);
/// As apply_or_conflict; this replica answers by the change from then on.
Result<Done> apply_change(const Services& services, const TenantId& tenant,
                          const policy::ConfigChange& change, audit::Event& record, Reply reply);

/// The member `description`: one line for people, or nothing. Errors: MalformedRequest.
Result<std::string> description_member(const token::Json& body);

/// The body as a JSON object with no members but these. Errors: MalformedRequest.
Result<token::Json> json_body(const Request& request, const std::vector<std::string_view>& members);
/// A member that must be text when present. Errors: MalformedRequest with pointer.
Result<std::optional<std::string>> text_member(const token::Json& body, const char* name,
                                               std::size_t max = 2000);
/// A member that must be an RFC 3339 time in the future when present.
Result<std::optional<sys_seconds>> time_member(const token::Json& body, const char* name,
                                               sys_seconds now);
/// What a call with several items says of one that is refused.
token::Json refused_item(const policy::TenantSnapshot& snapshot, const std::string& asked,
                         const Error& error);
using token::wipe_texts;  ///< of what was written into a reply

Reply json_reply(int status, const token::Json& body);  ///< never cached
/// What a GET answers: 200 with the ETag of `version`, or 304 when the caller
/// has that version. Errors: MalformedRequest, PreconditionFailed.
Result<Reply> versioned_reply(const Request& request, std::uint64_t version,
                              const token::Json& body);
/// As versioned_reply, by an entity-tag. @param tag  with its quotes.
Result<Reply> tagged_reply(const Request& request, const std::string& tag, const token::Json& body);

void add_admin_endpoints(Router& router, Gate& gate, Services& services);
void add_credential_endpoints(Router& router, Gate& gate, Services& services);
void add_credential_version_endpoints(Router& router, Gate& gate, Services& services);
void add_erasure_endpoints(Router& router, Gate& gate, Services& services);
void add_exchange_endpoint(Router& router, Gate& gate, Services& services);
void add_key_holder_endpoints(Router& router, Gate& gate, Services& services);
void add_registration_endpoints(Router& router, Gate& gate, Services& services);
void add_release_endpoint(Router& router, Gate& gate, Services& services);
void add_resource_metadata_endpoint(Router& router, Gate& gate, Services& services);
void add_signing_key_endpoints(Router& router, Gate& gate, Services& services);
void add_audit_endpoints(Router& router, Gate& gate, Services& services);
void add_explanation_endpoint(Router& router, Gate& gate, Services& services);
void add_vault_kv_endpoints(Router& router, Gate& gate, Services& services);
void add_vault_system_endpoints(Router& router, Gate& gate, Services& services);
void add_vault_token_endpoints(Router& router, Gate& gate, Services& services);
void add_vault_transit_endpoints(Router& router, Gate& gate, Services& services);
void add_vault_wrapping_endpoints(Router& router, Gate& gate, Services& services);

}  // namespace postern::http
