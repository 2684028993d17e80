#include "http/handlers/services.h"

#include <algorithm>
#include <charconv>

#include "http/form.h"

namespace postern::http {

Result<std::shared_ptr<const policy::TenantSnapshot>> tenant_of(const Services& services,
                                                                const Request& request,
                                                                DisabledTenant disabled) {
  const auto unknown = [] { return fail(ErrorCode::NotFound, "unknown tenant"); };
  auto tenant = TenantId::parse(request.parameters.at(0));
  if (!tenant.ok()) return unknown();
  auto found = request.may_wait_for_database ? services.snapshots.get(tenant.value())
                                             : services.snapshots.peek(tenant.value());
  // In the words that a disabled tenant gets too.
  if (!found.ok() && found.error().code == ErrorCode::NotFound) return unknown();
  POSTERN_TRY(auto snapshot, std::move(found));
  if (!snapshot) return fail(ErrorCode::NeedsDatabase, "");
  if (!snapshot->enabled() && disabled == DisabledTenant::Refuse) return unknown();
  return snapshot;
}

audit::Event record_for(const Services& services, const TenantId& tenant, const Request& request,
                        std::string action) {
  audit::Event record{
      tenant, services.clock.now(), std::move(action), audit::Outcome::Allowed, request.request_id,
      {}};
  record.with("source", request.peer_address);
  return record;
}

void record_error(audit::Event& record, const Error& error) {
  const bool ours = error.code == ErrorCode::Internal || error.code == ErrorCode::Unavailable ||
                    error.code == ErrorCode::KeyUnavailable;
  record.outcome = ours ? audit::Outcome::Failed : audit::Outcome::Refused;
  record.with("code", to_string(error.code)).with("reason", error.detail);
}

Result<Query> Query::parse(std::string_view query, std::initializer_list<std::string_view> known) {
  Query parsed;
  POSTERN_TRY(const auto form, Form::parse(query, Form::Source::Query));
  POSTERN_CHECK(form.refuse_repeats_except({}));
  POSTERN_CHECK(form.only(known));
  for (const auto name : known) {
    POSTERN_TRY(const auto value, form.optional_single(name));
    if (!value) continue;
    if (value->empty()) {
      return fail(ErrorCode::MalformedRequest, "query parameter " + std::string(name) +
                                                   " is empty; leave it out or give a value");
    }
    parsed.values_.emplace_back(name, *value);
  }
  return parsed;
}

Status Query::none(const Request& request) {
  POSTERN_CHECK(parse(request.query, {}));
  return {};
}

std::optional<std::string> Query::get(std::string_view name) const {
  for (const auto& [known, value] : values_) {
    if (known == name) return value;
  }
  return std::nullopt;
}

Result<bool> Query::flag(std::string_view name) const {
  const auto value = get(name);
  if (!value || *value == "false") return false;
  if (*value == "true") return true;
  return fail(ErrorCode::MalformedRequest,
              "query parameter " + std::string(name) + " must be true or false");
}

Result<std::uint64_t> Query::number(std::string_view name, std::uint64_t otherwise,
                                    std::uint64_t low, std::uint64_t high) const {
  const auto value = get(name);
  if (!value) return otherwise;
  std::uint64_t number = 0;
  const auto* end = value->data() + value->size();
  const auto [at, error] = std::from_chars(value->data(), end, number);
  if (error != std::errc() || at != end || number < low || number > high) {
    return fail(ErrorCode::MalformedRequest, "query parameter " + std::string(name) +
                                                 " must be a number from " + std::to_string(low) +
                                                 " to " + std::to_string(high));
  }
  return number;
}

}  // namespace postern::http
