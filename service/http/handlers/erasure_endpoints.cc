#include <string>
#include <utility>

#include "core/text.h"
#include "core/time_format.h"
#include "http/handlers/api.h"
#include "policy/erasure_statement.h"
#include "vault/erasure.h"

/// Erasing what a principal or a tenant has, and what is said of it afterwards.
namespace postern::http {
namespace {

using token::Json;
using Kind = Caller::Kind;

Json erasure_json(const vault::Erasure& erasure) {
  Json json{{"erasure_id", erasure.id},
            {"state", erasure.done_at ? "done" : "open"},
            {"asked_at", format_time(erasure.asked_at)}};
  if (erasure.principal) {
    json["issuer"] = erasure.principal->issuer;
    json["subject"] = erasure.principal->subject;
    json["credentials"] = erasure.credentials;
    json["versions"] = erasure.versions;
  }
  if (erasure.done_at) {
    json["done_at"] = format_time(*erasure.done_at);
    json["statement"] = erasure.statement;
  }
  return json;
}

/// 202 while there is something left to do, which goes on by itself.
Done answered(const vault::ErasureStore::Begun& begun) {
  return Done{json_reply(begun.erasure.done_at ? 200 : 202, erasure_json(begun.erasure)),
              begun.anew ? Done::Recorded::InStore : Done::Recorded::ByGate};
}

Error at(std::string pointer, std::string detail) {
  Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
  error.pointer = std::move(pointer);
  return error;
}

/// Whom the body names; a user need not name themselves, and may name nobody else.
Result<Principal> principal_in(const Request& request, const Caller& caller) {
  POSTERN_TRY(const auto body, json_body(request, {"issuer", "subject"}));
  POSTERN_TRY(const auto issuer, text_member(body, "issuer", 1024));
  POSTERN_TRY(const auto subject, text_member(body, "subject", 255));
  if (caller.kind == Kind::User) {
    const auto& own = caller.user->principal;
    if (issuer.value_or(own.issuer) != own.issuer || subject.value_or(own.subject) != own.subject) {
      return fail(ErrorCode::Forbidden, "a user may only erase what is their own");
    }
    return own;
  }
  if (!issuer || issuer->empty()) return at("/issuer", "is required");
  if (!subject || subject->empty()) return at("/subject", "is required");
  if (has_control_characters(*issuer)) return at("/issuer", "has control characters");
  if (has_control_characters(*subject)) return at("/subject", "has control characters");
  return Principal{*issuer, *subject};
}

Result<Done> erase_principal(const Services& services, const Request& request,
                             const policy::TenantSnapshot& snapshot, const Caller& caller,
                             audit::Event& record) {
  POSTERN_CHECK(Query::none(request));
  POSTERN_TRY(const auto principal, principal_in(request, caller));
  if (caller.kind != Kind::User) {
    record.with("subject_issuer", principal.issuer).with("subject", principal.subject);
  }
  POSTERN_TRY(const auto begun, services.erasures->erase(snapshot.tenant(), principal, record));
  services.snapshots.renew(snapshot.tenant());
  return answered(begun);
}

Result<Done> erase_tenant(const Services& services, const Request& request,
                          const policy::TenantSnapshot& snapshot, audit::Event& record) {
  POSTERN_CHECK(Query::none(request));
  POSTERN_TRY(const auto body, json_body(request, {"confirm"}));
  POSTERN_TRY(const auto confirm, text_member(body, "confirm", 100));
  const auto& tenant = snapshot.tenant();
  if (confirm != tenant.str()) {
    return at("/confirm",
              "erasing a tenant destroys all that it has, in backups too; repeat its id here");
  }
  POSTERN_TRY(const auto begun, services.erasures->erase_tenant(tenant, record));
  if (begun.erasure.done_at) {
    services.snapshots.moved_on(tenant, ~std::uint64_t{0});
  } else {
    services.snapshots.renew(tenant);
  }
  auto done = answered(begun);
  // Its chain is closed; what was asked for again is in it already.
  if (begun.erasure.done_at) done.recorded = Done::Recorded::InStore;
  return done;
}

bool may_see(const Caller& caller, const vault::Erasure& erasure) {
  return caller.kind != Kind::User || erasure.principal == caller.user->principal;
}

Result<Done> show_erasure(const Services& services, const Request& request,
                          const policy::TenantSnapshot& snapshot, const Caller& caller) {
  POSTERN_CHECK(Query::none(request));
  const auto found = services.erasures->store().find(snapshot.tenant(), request.parameters.at(1));
  POSTERN_CHECK(found);
  if (!may_see(caller, found.value())) return fail(ErrorCode::NotFound, "no such erasure");
  return Done{json_reply(200, erasure_json(found.value()))};
}

Result<Done> list_erasures(const Services& services, const Request& request,
                           const policy::TenantSnapshot& snapshot) {
  POSTERN_TRY(const auto query, Query::parse(request.query, {"cursor", "limit"}));
  POSTERN_TRY(const auto limit, query.number("limit", 100, 1, 1000));
  POSTERN_TRY(const auto page,
              services.erasures->store().list(snapshot.tenant(), query.get("cursor").value_or(""),
                                              static_cast<std::uint32_t>(limit)));
  Json body{{"items", Json::array()}};
  for (const auto& erasure : page.items) body["items"].push_back(erasure_json(erasure));
  if (!page.next.empty()) body["next_cursor"] = page.next;
  return Done{json_reply(200, body)};
}

}  // namespace

void add_erasure_endpoints(Router& router, Gate& gate, Services& services) {
  gate.add(router, "POST", "/api/v1/tenants/{}/principals/erase", Pool::Database,
           [&services](const Request& request) {
             return tenant_call(services, request, "principal.erase",
                                {Kind::Operator, Kind::TenantAdmin, Kind::User},
                                [&](const auto& snapshot, const auto& caller, auto& record) {
                                  return erase_principal(services, request, snapshot, caller,
                                                         record);
                                });
           });
  gate.add(router, "GET", "/api/v1/tenants/{}/erasures", Pool::Database,
           [&services](const Request& request) {
             return tenant_call(services, request, "erasure.list",
                                {Kind::Operator, Kind::TenantAdmin},
                                [&](const auto& snapshot, const auto&, auto&) {
                                  return list_erasures(services, request, snapshot);
                                });
           });
  gate.add(router, "GET", "/api/v1/tenants/{}/erasures/{}", Pool::Database,
           [&services](const Request& request) {
             return tenant_call(services, request, "erasure.read",
                                {Kind::Operator, Kind::TenantAdmin, Kind::User},
                                [&](const auto& snapshot, const auto& caller, auto&) {
                                  return show_erasure(services, request, snapshot, caller);
                                });
           });
  gate.add(router, "POST", "/api/v1/tenants/{}/erase", Pool::Database,
           [&services](const Request& request) {
             return tenant_call(services, request, "tenant.erase", {Kind::Operator},
                                [&](const auto& snapshot, const auto&, auto& record) {
                                  return erase_tenant(services, request, snapshot, record);
                                });
           });
  // The tenant may be gone, and its chain with it.
  gate.add(router, "GET", "/api/v1/tenant-erasures/{}", Pool::Database,
           [&services](const Request& request) -> Result<Answer> {
             POSTERN_CHECK(require_operator(services, request));
             POSTERN_CHECK(Query::none(request));
             const auto tenant = TenantId::parse(request.parameters.at(0));
             if (!tenant.ok()) return fail(ErrorCode::NotFound, "no such erasure");
             POSTERN_TRY(const auto found, services.erasures->store().find_tenant(tenant.value()));
             return Answer{json_reply(200, erasure_json(found))};
           });
  // Public keys, for whoever was given a statement.
  gate.add(router, "GET", "/api/v1/erasure-keys", Pool::Compute,
           [&services](const Request& request) -> Result<Answer> {
             POSTERN_CHECK(Query::none(request));
             return Answer{json_reply(200, policy::statement_keys(services.keyring))};
           });
}

}  // namespace postern::http
