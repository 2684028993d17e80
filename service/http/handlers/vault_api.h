#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/handlers/api.h"
#include "vault/wrapping.h"

/// What the endpoints of the Vault subset share. Each is there twice: below
/// `/t/{tenant}/v1/`, and below `/v1/` with the tenant in `X-Vault-Namespace`.
///
/// A tenant that does not exist, is disabled or belongs to others, and a token
/// that proves nothing, are one answer: 403, as Vault gives it.
namespace postern::http {

/// What a call of the subset works with.
struct VaultCall {
  const Services& services;
  const Request& request;
  const policy::TenantSnapshot& snapshot;
  const Caller& caller;
  std::vector<std::string> parameters;  ///< of the pattern, without the tenant
  audit::Event& record;

  const TenantId& tenant() const { return snapshot.tenant(); }
};

/// Whether the answer may be wrapped: it waits for whoever has the token, which
/// goes out in its place.
enum class Wraps { Never, Allowed, Always };

/// How one is registered.
struct VaultRoute {
  const char* method;
  const char* pattern;  ///< below `v1/`
  const char* action;   ///< of its audit record
  std::vector<Caller::Kind> allowed;
  Result<Done> (*run)(const VaultCall& call);
  Wraps wraps = Wraps::Never;  ///< then `run` leaves its record to the gate
};
void add_vault_route(Router& router, Gate& gate, Services& services, const VaultRoute& route);

/// An endpoint that has no caller, at both places.
using VaultEndpoint = std::function<Result<Answer>(const Request& request, bool in_path)>;
void add_vault_endpoint(Router& router, Gate& gate, const char* method, const char* pattern,
                        Pool pool, const VaultEndpoint& endpoint);

/// The tenant that a request is about, as it is spelled there; taken out of the
/// parameters of a path. Errors: MalformedRequest.
Result<std::string> vault_tenant(const Request& request, bool in_path,
                                 std::vector<std::string>& parameters);
/// Null when there is no such tenant, or it is disabled. Errors: Unavailable.
Result<std::shared_ptr<const policy::TenantSnapshot>> open_tenant(const Services& services,
                                                                  const std::string& named);

/// The token of `X-Vault-Token`, or of `Authorization: Bearer`.
/// Errors: Unauthenticated; MalformedRequest when there are both.
Result<BearerToken> vault_token(const Request& request);

/// Who holds it; `record` says so, or why the session is good for nothing any more.
/// Errors: Unauthenticated; Forbidden, NeedsOutbound, Unavailable.
Result<Caller> vault_caller(const Services& services, const Request& request,
                            const policy::TenantSnapshot& snapshot, const BearerToken& bearer,
                            audit::Event& record);

/// GET of `data` for a client that acts for a user: the user's credential for one
/// backend, where a view of the tenant shows it (service/policy/view.h). Whatever is
/// refused, of whomever, is answered as nothing there.
Result<Done> read_view(const VaultCall& call);

/// Of a call whose answer is not wrapped. Errors: MalformedRequest.
Status refuse_wrapping(const Request& request);
/// What goes out in place of an answer that waits.
Reply wrap_reply(const Request& request, const vault::Wrapping::Made& made);

/// The refusal of whoever has proven nothing.
Error permission_denied();

/// Vault's envelope of an answer. @param data  may hold values: wipe_texts() what
/// is left of it with the caller.
token::Json vault_body(const Request& request, token::Json data);
Reply vault_reply(const Request& request, token::Json data, int status = 200);

/// The body as a JSON object; members that nobody asks for are passed over, as
/// Vault does. Errors: MalformedRequest.
Result<token::Json> vault_json(const Request& request);
/// The same where it may be left out, or null as Go's client sends it.
Result<token::Json> optional_vault_json(const Request& request);

/// A whole number, as JSON or, as Vault's own command sends it, as text.
std::optional<std::uint32_t> vault_number(const token::Json& value);

}  // namespace postern::http
