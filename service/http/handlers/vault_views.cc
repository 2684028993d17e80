#include "core/time_format.h"
#include "http/error_render.h"
#include "http/handlers/vault_api.h"

/// Views of the Vault subset: what a client reads for the user whose token it logged
/// in with. The path only has to fit that token; what is read is found by the token's
/// principal, and held to all that a release is held to.
namespace postern::http {
namespace {

using token::Json;

/// Whether it is about this user, client or path, not about the service.
bool is_refusal(ErrorCode code) {
  switch (code) {
    case ErrorCode::TargetRefused:
    case ErrorCode::ScopeRefused:
    case ErrorCode::InteractionRequired:
    case ErrorCode::InsufficientAuthentication:
    case ErrorCode::InvalidToken:
    case ErrorCode::UnauthorizedClient:
    case ErrorCode::Forbidden:
    case ErrorCode::NotFound: return true;
    default: return false;
  }
}

/// What the user can do about it, in words; empty when that is nothing. Only of a
/// backend that the user may use.
std::string remedy_of(const VaultCall& call, const std::string& backend, const Error& error) {
  if (error.code == ErrorCode::InteractionRequired) {
    const auto url = grants::connect_url(call.snapshot, backend);
    return url.empty() ? "" : error.detail + ": " + url;
  }
  if (error.code != ErrorCode::InsufficientAuthentication) return "";
  auto text = error.detail;
  const auto& [url, acr_values, max_age] = error.remedy;
  if (!acr_values.empty()) text += "; acr_values: " + acr_values;
  if (max_age) text += "; max_age: " + std::to_string(max_age->count());
  return text;
}

/// One answer, whatever the cause; the record tells it. Vault, too, says why nothing
/// is there in warnings.
Done not_there(const VaultCall& call, const Error& why, const std::string& remedy) {
  record_error(call.record, why);
  if (remedy.empty()) {
    return Done{vault_error(fail(ErrorCode::NotFound, "")), Done::Recorded::ByGate};
  }
  auto body = vault_body(call.request, nullptr);
  body["warnings"] = {remedy};
  return Done{json_reply(404, body), Done::Recorded::ByGate};
}

Error no_view() {
  return fail(ErrorCode::NotFound, "no view has this path, or it is not this user's");
}

/// Errors: NotFound.
Result<policy::Views::Found> view_of(const VaultCall& call) {
  const auto* api = call.snapshot.settings().vault();
  if (api == nullptr || call.parameters.at(0) != api->mount) return no_view();
  auto found = api->views.find(call.parameters.at(1), call.caller.user->view_claims);
  if (!found) return no_view();
  call.record.with("view", found->view->path());
  return std::move(*found);
}

Json data_of(const grants::OpenedCredential& credential) {
  Json data{{"metadata",
             {{"created_time", format_time(credential.created_at)},
              {"deletion_time", ""},
              {"destroyed", false},
              {"version", credential.used.version},
              {"custom_metadata", nullptr}}}};
  auto& shown = data["data"] = Json::object();
  for (const auto& [name, value] : credential.fields) {
    shown[name] = value.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  }
  return data;
}

Result<grants::OpenedCredential> open_view(const VaultCall& call, const std::string& backend) {
  const auto* client = call.snapshot.find_client(call.caller.session.client);
  if (client == nullptr) return permission_denied();
  return call.services.release.release_fields(call.snapshot, grants::Caller(*client),
                                              *call.caller.user, backend, call.record,
                                              wait_of(call.request));
}

}  // namespace

Result<Done> read_view(const VaultCall& call) {
  call.record.action = "credential.release";
  POSTERN_TRY(const auto query, Query::parse(call.request.query, {"version"}));
  POSTERN_TRY(const auto wanted, query.number("version", 0, 0, INT32_MAX));
  const auto found = view_of(call);
  if (!found.ok()) return not_there(call, found.error(), "");
  const auto& backend = found.value().backend;
  const auto opened = open_view(call, backend);
  if (!opened.ok()) {
    if (!is_refusal(opened.error().code)) return opened.error();
    return not_there(call, opened.error(), remedy_of(call, backend, opened.error()));
  }
  if (wanted != 0 && wanted != opened.value().used.version) {
    return not_there(call, fail(ErrorCode::NotFound, "a view shows the latest version alone"), "");
  }
  // The gate lets it go once the record is committed, and drops it otherwise.
  return Done{vault_reply(call.request, data_of(opened.value())), Done::Recorded::ByGate};
}

}  // namespace postern::http
