#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "audit/event.h"
#include "core/clock.h"
#include "core/result.h"
#include "crypto/certificate.h"
#include "grants/caller.h"
#include "grants/client_assertion.h"
#include "grants/dpop.h"
#include "grants/subject.h"
#include "grants/throttle.h"
#include "http/form.h"
#include "http/message.h"
#include "outbound/address.h"
#include "policy/replay_guard.h"
#include "policy/snapshot.h"
#include "token/json.h"

/// Who the client behind a request is, and which keys it holds.
namespace postern::http {

struct Services;

/// What authenticating clients takes. Part of Services.
struct Authentication {
  policy::ReplayGuard& replays;
  const grants::ClientAssertions& assertions;
  const grants::DpopProofs& dpop;
  grants::Throttle& throttle;
  /// Proxies that terminate TLS: their Client-Cert (RFC 9440) and
  /// X-Forwarded-For are believed, nobody else's.
  std::vector<outbound::Network> proxies;
  /// Who vouches for certificates in Client-Cert; none: nobody does.
  std::optional<crypto::CertificateAuthorities> proxy_authorities;
  /// Clients whose id is the URL of a document about them; null: there are none.
  grants::ClientDocuments* documents = nullptr;
};

/// Where the request comes from: behind declared proxies, the last address in
/// X-Forwarded-For that is none of theirs.
std::string source_of(const Authentication& how, const Request& request);

/// What a request offers for authenticating its client, besides its headers.
struct ClientParameters {
  std::optional<std::string_view> id;
  std::optional<std::string_view> secret;
  std::optional<std::string_view> assertion;
  std::optional<std::string_view> assertion_type;
  /// Errors: MalformedRequest for a repeated one.
  static Result<ClientParameters> of(const Form& form);
  /// Of a JSON body, which it points into: all but a secret. Errors: MalformedRequest.
  static Result<ClientParameters> of(const token::Json& body);
};

/// The client that a request authenticates, by exactly one method (RFC 6749
/// §2.3): `client_secret_basic`, `client_secret_post`, `private_key_jwt`, a
/// workload's token as assertion, `tls_client_auth` or
/// `self_signed_tls_client_auth`; with the certificate it showed, if any.
/// `record` gets the client's id.
/// Errors: InvalidClient; MalformedRequest (two methods, or two ids);
/// RateLimited after many failures; NeedsOutbound, NeedsDatabase, Unavailable.
Result<grants::Caller> authenticate(const Services& services,
                                    const policy::TenantSnapshot& snapshot, const Request& request,
                                    const ClientParameters& offered, audit::Event& record);
/// With the parameters of a form; null: headers alone.
Result<grants::Caller> authenticate(const Services& services,
                                    const policy::TenantSnapshot& snapshot, const Request& request,
                                    const Form* form, audit::Event& record);

/// Adds the key of the request's DPoP proof to the caller. `path` is ours, after
/// the base URL. To be called once the client is authenticated, before anything
/// of a token is looked at.
/// Errors: InvalidDpopProof (also when the client must send one and did not),
/// UseDpopNonce, NeedsDatabase.
Status prove_key(const Services& services, const policy::TenantSnapshot& snapshot,
                 const Request& request, const std::string& path, grants::Caller& caller);

/// Sets `DPoP-Nonce` where the client needs one for what comes next: on
/// use_dpop_nonce, and on the answer to any proof while nonces are asked for.
void offer_nonce(const Services& services, const TenantId& tenant, const Request& request,
                 const Error* error, Reply& reply);

/// The records of a refused request, marked with the error: none for an attempt
/// that the throttle only counts.
std::vector<audit::Event> refusal_records(audit::Event record, const Error& error);

/// The replay guard as one request sees it: what it has used up it may use again
/// when it is run again, and on a pool that may not wait it asks for another.
class RequestReplays final : public policy::ReplayGuard {
 public:
  RequestReplays(policy::ReplayGuard& guard, const Request& request)
      : guard_(guard), request_(request) {}
  Result<bool> first_use(const TenantId& tenant, std::string_view kind,
                         const crypto::Hash256& digest, sys_seconds expires_at) override;

 private:
  policy::ReplayGuard& guard_;
  const Request& request_;
};

}  // namespace postern::http
