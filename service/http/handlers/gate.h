#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "audit/event.h"
#include "audit/group_writer.h"
#include "core/result.h"
#include "http/message.h"
#include "http/router.h"

namespace postern::http {

/// What an endpoint decided: the reply, and the audit records without which
/// the reply must not leave.
struct Answer {
  Reply reply;
  std::vector<audit::Event> events = {};
};

/// An endpoint answers, or fails with an error that nothing was decided or
/// recorded for. NeedsDatabase and NeedsOutbound run it again where it may wait.
using Endpoint = std::function<Result<Answer>(const Request&)>;

/// The one way from an endpoint to the wire. It holds every reply until its
/// audit records are durably committed; when they cannot be, the reply is
/// dropped unseen and 503 goes out instead: no audit, no answer.
class Gate {
 public:
  using Post = std::function<bool(Pool, std::function<void()>)>;

  /// @param public_origin  without trailing slash.
  Gate(audit::GroupWriter& audit, Post post, std::string public_origin = {})
      : audit_(audit), post_(std::move(post)), public_origin_(std::move(public_origin)) {}

  /// Registers the endpoint. The gate must outlive the router. Exceptions
  /// become a plain error 500.
  void add(Router& router, std::string_view method, std::string_view pattern, Pool pool,
           Endpoint endpoint);

 private:
  void run(const std::shared_ptr<const Endpoint>& endpoint, std::shared_ptr<Request> request,
           Responder responder);

  audit::GroupWriter& audit_;
  Post post_;
  const std::string public_origin_;
};

/// Scopes that stand in challenges for the tokens that we make ourselves. What users' tokens
/// must have is the tenant's `settings.api_scopes`.
inline constexpr std::string_view kOperatorScope = "postern:operator";
inline constexpr std::string_view kAdminScope = "postern:tenant-admin";

/// An error in the words of the request's surface, logged once when it is ours (5xx).
/// @param scope  what a token must have that is not Forbidden this (RFC 6750 §3.1); what no
///               tenant is named for is for operators.
Reply render(const Error& error, const Request& request, std::string_view scope = kOperatorScope);

}  // namespace postern::http
