#include "crypto/base64url.h"
#include "http/handlers/api.h"

/// Reading and verifying a tenant's audit chain.
namespace postern::http {
namespace {

using token::Json;
using Kind = Caller::Kind;

Result<Done> read_audit(const Services& services, const Request& request,
                        const policy::TenantSnapshot& snapshot) {
  POSTERN_TRY(const auto query, Query::parse(request.query, {"after", "limit", "action", "order"}));
  audit::Query wanted;
  POSTERN_TRY(wanted.after, query.number("after", 0, 0, INT64_MAX));
  POSTERN_TRY(const auto limit, query.number("limit", 100, 1, 1000));
  wanted.limit = static_cast<std::uint32_t>(limit);
  wanted.action = query.get("action").value_or("");
  const auto order = query.get("order").value_or("asc");
  if (order != "asc" && order != "desc") {
    return fail(ErrorCode::MalformedRequest, "order must be asc or desc");
  }
  wanted.newest_first = order == "desc";
  POSTERN_TRY(const auto records, services.audit_log.read(snapshot.tenant(), wanted));

  Json items = Json::array();
  for (const auto& record : records) {
    auto event = token::parse_json(record.body);
    items.push_back({{"sequence", record.sequence},
                     {"hash", crypto::base64url(ByteView(record.hash))},
                     {"event", event.ok() ? std::move(event).value() : Json(record.body)}});
  }
  Json body{{"items", std::move(items)}};
  if (records.size() == wanted.limit) body["next_after"] = records.back().sequence;
  return Done{json_reply(200, body)};
}

Result<Done> verify_audit(const Services& services, const policy::TenantSnapshot& snapshot) {
  POSTERN_TRY(const auto found, services.audit_log.verify(snapshot.tenant()));
  Json body{
      {"intact", found.intact},
      {"records", found.records},
      {"head", {{"sequence", found.records}, {"hash", crypto::base64url(ByteView(found.head))}}}};
  if (found.first_bad != 0) body["first_bad"] = found.first_bad;
  if (!found.problem.empty()) body["problem"] = found.problem;
  return Done{json_reply(200, body), Done::Recorded::ByGate};
}

}  // namespace

void add_audit_endpoints(Router& router, Gate& gate, Services& services) {
  gate.add(router, "GET", "/api/v1/tenants/{}/audit", Pool::Database,
           [&services](const Request& request) {
             return tenant_call(services, request, "audit.read",
                                {Kind::Operator, Kind::TenantAdmin},
                                [&](const auto& snapshot, const auto&, auto&) {
                                  return read_audit(services, request, snapshot);
                                });
           });
  gate.add(router, "GET", "/api/v1/tenants/{}/audit/verification", Pool::Database,
           [&services](const Request& request) {
             return tenant_call(services, request, "audit.verify",
                                {Kind::Operator, Kind::TenantAdmin},
                                [&](const auto& snapshot, const auto&, auto&) -> Result<Done> {
                                  POSTERN_CHECK(Query::none(request));
                                  return verify_audit(services, snapshot);
                                });
           });
}

}  // namespace postern::http
