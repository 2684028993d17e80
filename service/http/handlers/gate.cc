#include "http/handlers/gate.h"

#include <typeinfo>

#include "core/ids.h"
#include "core/log.h"
#include "http/error_render.h"

namespace postern::http {
namespace {

/// std::function wants to be copied; a Responder cannot be.
std::shared_ptr<Responder> shared(Responder responder) {
  return std::make_shared<Responder>(std::move(responder));
}

Error overloaded() {
  Error error = fail(ErrorCode::Unavailable, "", "a worker queue is full");
  error.retry_after = std::chrono::seconds(1);
  return error;
}

/// RFC 6750 §3, RFC 9728 §5.1. The tenant is as the client named it, known or not.
std::string bearer_challenge(const Request& request, std::string_view code,
                             std::string_view scope = {}) {
  std::string challenge = "Bearer ";
  if (!code.empty()) challenge.append(R"(error=")").append(code).append(R"(", )");
  if (!scope.empty()) challenge.append(R"(scope=")").append(scope).append(R"(", )");
  challenge.append(R"(resource_metadata=")").append(request.public_origin);
  challenge += "/.well-known/oauth-protected-resource/api/v1";
  if (!request.parameters.empty() && TenantId::parse(request.parameters[0]).ok()) {
    challenge.append("/tenants/").append(request.parameters[0]);
  }
  return challenge + '"';
}

/// RFC 9449 §7.1. Which algorithms a proof may have is in the metadata of the token endpoint.
std::string dpop_challenge(ErrorCode code) {
  return "DPoP error=\"" + std::string(oauth_error_name(code)) + '"';
}

}  // namespace

Reply render(const Error& error, const Request& request, std::string_view scope) {
  if (error.code == ErrorCode::Internal || error.code == ErrorCode::Unavailable ||
      error.code == ErrorCode::KeyUnavailable) {
    log::warning("request.failed", {{"code", to_string(error.code)},
                                    {"diagnostic", error.diagnostic},
                                    {"request_id", request.request_id}});
  }
  const auto realm = request.parameters.empty() ? std::string_view("postern")
                                                : std::string_view(request.parameters[0]);
  const auto surface = surface_of(request.path);
  if (surface == Surface::Vault) return vault_error(error);
  if (surface == Surface::Rest) {
    auto reply = problem(error);
    if (error.code == ErrorCode::InvalidClient) {
      reply.set_header("WWW-Authenticate", basic_challenge(realm));
    } else if (error.code == ErrorCode::InvalidDpopProof || error.code == ErrorCode::UseDpopNonce) {
      reply.set_header("WWW-Authenticate", dpop_challenge(error.code));
    } else if (error.code == ErrorCode::Unauthenticated) {
      // RFC 6750 §3.1: a code only for a token that was sent.
      reply.set_header(
          "WWW-Authenticate",
          bearer_challenge(request, request.count("authorization") > 0 ? "invalid_token" : ""));
    } else if (error.code == ErrorCode::Forbidden) {
      reply.set_header("WWW-Authenticate", bearer_challenge(request, "insufficient_scope", scope));
    }
    return reply;
  }
  return oauth_error(error, request.count("authorization") > 0, realm);
}

void Gate::add(Router& router, std::string_view method, std::string_view pattern, Pool pool,
               Endpoint endpoint) {
  auto kept = std::make_shared<const Endpoint>(std::move(endpoint));
  const bool may_wait = pool == Pool::Database || pool == Pool::Outbound;
  router.add(method, pattern, pool,
             [this, kept, may_wait](std::shared_ptr<Request> request, Responder responder) {
               request->may_wait_for_database = may_wait;
               request->public_origin = public_origin_;
               run(kept, std::move(request), std::move(responder));
             });
}

void Gate::run(const std::shared_ptr<const Endpoint>& endpoint, std::shared_ptr<Request> request,
               Responder responder) {
  Result<Answer> outcome = fail(ErrorCode::Internal, "");
  try {
    outcome = (*endpoint)(*request);
  } catch (const std::exception& fault) {
    // The type only: what() may quote data.
    log::error("handler.fault",
               {{"type", typeid(fault).name()}, {"request_id", request->request_id}});
  } catch (...) {
    log::error("handler.fault", {{"type", "unknown"}, {"request_id", request->request_id}});
  }

  if (!outcome.ok()) {
    const auto& error = outcome.error();
    const bool database = error.code == ErrorCode::NeedsDatabase && !request->may_wait_for_database;
    const bool outbound = error.code == ErrorCode::NeedsOutbound && !request->may_block_on_outbound;
    if (!database && !outbound) {
      responder.send(render(error, *request));
      return;
    }
    request->may_wait_for_database = true;
    request->may_block_on_outbound |= outbound;
    const auto waiting = shared(std::move(responder));
    const bool queued =
        post_(outbound ? Pool::Outbound : Pool::Database,
              [this, endpoint, request, waiting] { run(endpoint, request, std::move(*waiting)); });
    if (!queued) waiting->send(render(overloaded(), *request));
    return;
  }

  auto answer = std::make_shared<Answer>(std::move(outcome).value());
  if (answer->events.empty()) {
    responder.send(std::move(answer->reply));
    return;
  }
  auto events = std::move(answer->events);
  const auto waiting = shared(std::move(responder));
  audit_.submit(std::move(events), [request, answer, waiting](const Status& status) {
    if (status.ok()) {
      waiting->send(std::move(answer->reply));
      return;
    }
    Error error = status.error();
    if (error.code != ErrorCode::NotFound) error.code = ErrorCode::Unavailable;
    error.detail.clear();
    error.diagnostic = "audit record not committed: " + error.diagnostic;
    error.retry_after = std::chrono::seconds(1);
    waiting->send(render(error, *request));
  });
}

}  // namespace postern::http
