#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "grants/introspection.h"
#include "grants/revocation.h"
#include "http/ascii.h"
#include "http/form.h"
#include "http/handlers/oauth_endpoints.h"

/// POST /t/{tenant}/introspect (RFC 7662, RFC 9701) and /t/{tenant}/revoke (RFC 7009).
namespace postern::http {
namespace {

constexpr std::string_view kSignedType = "application/token-introspection+jwt";

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

/// RFC 9110 §12.5.1, as far as it matters: the signed answer is named, and not
/// with `q=0`. A wildcard asks for nothing in particular and gets JSON.
bool accepts_signed(const Request& request) {
  for (const auto& [name, value] : request.headers) {
    if (!ascii_iequals(name, "accept")) continue;
    std::string_view rest = value;
    while (!rest.empty()) {
      const auto end = std::min(rest.find(','), rest.size());
      const auto range = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      const auto semicolon = std::min(range.find(';'), range.size());
      if (!ascii_iequals(trimmed(range.substr(0, semicolon)), kSignedType)) continue;
      const auto parameters = range.substr(semicolon);
      const auto q = parameters.find("q=");
      if (q == parameters.npos) return true;
      // "0", "0.0", "0.000": any other digit says yes.
      const auto weight = parameters.substr(q + 2);
      return weight.find_first_of("123456789") != weight.npos;
    }
  }
  return false;
}

/// What both endpoints do: authenticate the client, read `token`, answer, record.
/// `token_type_hint` is a hint (RFC 7009 §2.1): every kind is looked for anyway.
template <class Body>
Result<Answer> token_call(const Services& services, const Request& request, const char* action,
                          const Body& body) {
  POSTERN_TRY(const auto snapshot, tenant_of(services, request));
  POSTERN_CHECK(check_oauth_request(request));
  auto record = record_for(services, snapshot->tenant(), request, action);
  const auto decide = [&]() -> Result<Reply> {
    POSTERN_TRY(const auto form,
                request.body.expose([](ByteView text) { return Form::parse(as_text(text)); }));
    POSTERN_CHECK(form.refuse_repeats_except({}));
    POSTERN_TRY(const auto caller, authenticate(services, *snapshot, request, &form, record));
    POSTERN_TRY(const auto token, form.required_single("token"));
    return body(*snapshot, caller, token, record);
  };
  auto reply = decide();
  if (reply.ok()) return Answer{std::move(reply).value(), {std::move(record)}};
  const auto& error = reply.error();
  if (error.code == ErrorCode::NeedsOutbound || error.code == ErrorCode::NeedsDatabase) {
    return error;
  }
  return Answer{render(error, request), refusal_records(std::move(record), error)};
}

Result<Reply> introspect(const Services& services, const Request& request,
                         const policy::TenantSnapshot& snapshot, const grants::Caller& caller,
                         std::string_view token, audit::Event& record) {
  POSTERN_TRY(const auto answer,
              services.introspection.introspect(snapshot, caller, token, record));
  if (!accepts_signed(request)) {
    auto reply = Reply::json(200, token::dump_json(answer));
    reply.no_store();
    return reply;
  }
  POSTERN_TRY(auto text,
              grants::signed_introspection(snapshot, caller, answer, services.clock.now()));
  Reply reply(200);
  reply.set_header("Content-Type", kSignedType);
  reply.body(std::move(text));
  reply.no_store();
  return reply;
}

}  // namespace

void add_token_status_endpoints(Router& router, Gate& gate, Services& services) {
  gate.add(router, "POST", "/t/{}/introspect", Pool::Compute, [&services](const Request& request) {
    return token_call(services, request, "token.introspect",
                      [&](const auto& snapshot, const auto& caller, auto token, auto& record) {
                        return introspect(services, request, snapshot, caller, token, record);
                      });
  });
  gate.add(router, "POST", "/t/{}/revoke", Pool::Database, [&services](const Request& request) {
    return token_call(
        services, request, "token.revoke",
        [&](const auto& snapshot, const auto& caller, auto token, auto& record) -> Result<Reply> {
          POSTERN_CHECK(
              services.revocation.revoke(snapshot, caller, token, wait_of(request), record));
          Reply reply(200);
          reply.no_store();
          return reply;
        });
  });
}

}  // namespace postern::http
