#include <string>
#include <utility>

#include "crypto/base64url.h"
#include "http/handlers/api.h"
#include "vault/key_holder.h"
#include "vault/row_mover.h"

/// What a tenant's key holder does: give the tenant's key a share to demand, seal the
/// tenant, unseal it.
namespace postern::http {
namespace {

using token::Json;
using Kind = Caller::Kind;

constexpr std::size_t kShareBytes = 32;

std::string_view name_of(vault::Keyring::Seal seal) {
  switch (seal) {
    case vault::Keyring::Seal::NotHeld: return "not-held";
    case vault::Keyring::Seal::Unsealed: return "unsealed";
    case vault::Keyring::Seal::Sealed: return "sealed";
  }
  return "";
}

/// A share in the body. Errors: MalformedRequest.
Result<std::optional<HeldShare>> share_in(Json& body, const char* name) {
  POSTERN_TRY(auto text, text_member(body, name, 100));
  if (!text) return std::optional<HeldShare>();
  auto decoded = crypto::base64url_decode(*text);
  wipe(*text);
  if (!decoded.ok() || decoded.value().size() != kShareBytes) {
    Error error = fail(ErrorCode::MalformedRequest, "must be 32 random bytes in base64url");
    error.pointer = std::string("/") + name;
    return error;
  }
  auto bytes = SecureBuffer::copy_of(decoded.value());
  wipe(decoded.value());
  return std::optional(HeldShare(std::move(bytes)));
}

Result<HeldShare> required_share(Json& body) {
  POSTERN_TRY(auto share, share_in(body, "share"));
  if (!share) {
    Error error = fail(ErrorCode::MalformedRequest, "is required");
    error.pointer = "/share";
    return error;
  }
  return std::move(*share);
}

/// What every call answers: how it is now, in this replica.
Result<Done> state_of(const Services& services, const TenantId& tenant, Done::Recorded recorded) {
  POSTERN_TRY(const auto state, services.key_holder->state(tenant));
  return Done{json_reply(200, {{"state", name_of(state.seal)},
                               {"kek_version", static_cast<std::uint32_t>(state.kek_version)},
                               {"rows_left", state.rows_left}}),
              recorded};
}

/// This replica answers by what has changed from now on.
Result<Done> changed(const Services& services, const TenantId& tenant) {
  services.snapshots.renew(tenant);
  services.row_mover->look_at(tenant);
  return state_of(services, tenant, Done::Recorded::InStore);
}

struct Call {
  const Services& services;
  const TenantId& tenant;
  Json& body;
  audit::Event& record;
};

Result<Done> hold(const Call& call) {
  POSTERN_TRY(auto share, required_share(call.body));
  POSTERN_TRY(const auto present, share_in(call.body, "present_share"));
  POSTERN_CHECK(call.services.key_holder->hold(call.tenant, std::move(share),
                                               present ? &*present : nullptr, call.record));
  return changed(call.services, call.tenant);
}

Result<Done> release(const Call& call) {
  POSTERN_TRY(const auto share, required_share(call.body));
  POSTERN_CHECK(call.services.key_holder->release(call.tenant, share, call.record));
  return changed(call.services, call.tenant);
}

Result<Done> unseal(const Call& call) {
  POSTERN_TRY(auto share, required_share(call.body));
  POSTERN_CHECK(call.services.key_holder->unseal(call.tenant, std::move(share), call.record));
  return changed(call.services, call.tenant);
}

Result<Done> seal(const Call& call) {
  POSTERN_TRY(const auto epoch, call.services.key_holder->seal(call.tenant, call.record));
  call.services.snapshots.moved_on(call.tenant, epoch);
  return changed(call.services, call.tenant);
}

}  // namespace

void add_key_holder_endpoints(Router& router, Gate& gate, Services& services) {
  gate.add(router, "GET", "/api/v1/tenants/{}/key-holder", Pool::Database,
           [&services](const Request& request) {
             return tenant_call(
                 services, request, "key_holder.read", {Kind::Operator, Kind::TenantAdmin},
                 [&](const auto& snapshot, const auto&, auto&) -> Result<Done> {
                   POSTERN_CHECK(Query::none(request));
                   return state_of(services, snapshot.tenant(), Done::Recorded::NotNeeded);
                 });
           });
  const auto add = [&](const char* method, const char* pattern, const char* action,
                       std::vector<std::string_view> members, Result<Done> (*run)(const Call&)) {
    gate.add(router, method, pattern, Pool::Database,
             [&services, action, members = std::move(members), run](const Request& request) {
               // Not the operator: what this keeps from them must not begin or end by them.
               return tenant_call(
                   services, request, action, {Kind::TenantAdmin},
                   [&](const auto& snapshot, const auto&, auto& record) -> Result<Done> {
                     POSTERN_CHECK(Query::none(request));
                     POSTERN_TRY(auto body, json_body(request, members));
                     auto done = run({services, snapshot.tenant(), body, record});
                     wipe_texts(body);
                     return done;
                   });
             });
  };
  add("PUT", "/api/v1/tenants/{}/key-holder", "key_holder.hold", {"share", "present_share"}, hold);
  add("POST", "/api/v1/tenants/{}/key-holder/release", "key_holder.release", {"share"}, release);
  add("POST", "/api/v1/tenants/{}/key-holder/seal", "key_holder.seal", {}, seal);
  add("POST", "/api/v1/tenants/{}/key-holder/unseal", "key_holder.unseal", {"share"}, unseal);
}

}  // namespace postern::http
