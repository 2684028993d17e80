#include "http/handlers/authenticate.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "crypto/base64url.h"
#include "crypto/hash.h"
#include "grants/client_authentication.h"
#include "grants/client_certificate.h"
#include "http/ascii.h"
#include "http/basic_auth.h"
#include "http/handlers/services.h"

namespace postern::http {
namespace {

constexpr std::size_t kMaxIntermediates = 4;

Error failed() { return fail(ErrorCode::InvalidClient, "client authentication failed"); }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool is_proxy(const Authentication& how, std::string_view address) {
  const auto ip = outbound::IpAddress::parse(address);
  return ip && std::any_of(how.proxies.begin(), how.proxies.end(),
                           [&](const auto& network) { return network.contains(*ip); });
}

/// RFC 8941 §3.3.5: `:base64:`.
Result<crypto::Certificate> certificate_item(std::string_view item) {
  item = trimmed(item);
  if (item.size() < 3 || item.front() != ':' || item.back() != ':') {
    return fail(ErrorCode::MalformedRequest, "Client-Cert is malformed");
  }
  POSTERN_TRY(const auto der, crypto::base64_decode(item.substr(1, item.size() - 2)));
  return crypto::Certificate::from_der(der);
}

/// RFC 9440, from a declared proxy. Errors: MalformedRequest: a proxy that sends
/// what we cannot read must not leave its client less bound than it was.
Result<std::optional<grants::ShownCertificate>> forwarded_certificate(const Authentication& how,
                                                                      const Request& request,
                                                                      sys_seconds now) {
  using Shown = std::optional<grants::ShownCertificate>;
  if (request.count("client-cert") == 0) return Shown();
  const auto header = request.header("client-cert");
  if (!header) return fail(ErrorCode::MalformedRequest, "several Client-Cert headers");
  POSTERN_TRY(auto certificate, certificate_item(*header));
  std::vector<crypto::Certificate> chain;
  const auto sent = request.list("client-cert-chain").value_or("");
  for (std::string_view rest = sent; !rest.empty() && chain.size() < kMaxIntermediates;) {
    const auto comma = std::min(rest.find(','), rest.size());
    POSTERN_TRY(auto intermediate, certificate_item(rest.substr(0, comma)));
    chain.push_back(std::move(intermediate));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  const bool vouched =
      how.proxy_authorities && how.proxy_authorities->vouch_for(certificate, chain, now);
  return Shown(grants::ShownCertificate{std::move(certificate), vouched});
}

Result<std::optional<grants::ShownCertificate>> shown_certificate(const Services& services,
                                                                  const Request& request) {
  const auto& how = services.authentication;
  // A proxy's own certificate is not its client's.
  if (is_proxy(how, request.peer_address)) {
    return forwarded_certificate(how, request, services.clock.now());
  }
  if (!request.client_certificate) return std::optional<grants::ShownCertificate>();
  POSTERN_TRY(auto certificate, crypto::Certificate::from_pem(*request.client_certificate));
  return std::optional(
      grants::ShownCertificate{std::move(certificate), request.client_certificate_verified});
}

/// What one method makes of what was offered, and whom the client claims to be.
struct Attempt {
  std::string claimed;
  std::function<Result<const policy::Client*>()> check;
  /// A client that is known by its metadata document may authenticate so.
  bool takes_document = false;
};

using Document = std::shared_ptr<const grants::DocumentClient>;

Result<const policy::Client*> workload(const Services& services,
                                       const policy::TenantSnapshot& snapshot,
                                       const policy::Client& client, std::string_view assertion,
                                       const Request& request) {
  if (!client.enabled || !client.authentication.workload) return failed();
  const auto status = services.verifier.verify_workload(snapshot, *client.authentication.workload,
                                                        assertion, wait_of(request));
  if (status.ok()) return &client;
  return status.error().code == ErrorCode::InvalidToken ? failed() : status.error();
}

Result<Attempt> attempt_of(const Services& services, const policy::TenantSnapshot& snapshot,
                           const Request& request, const ClientParameters& offered,
                           policy::ReplayGuard& replays,
                           const std::optional<grants::ShownCertificate>& certificate,
                           const Document& document) {
  const bool header = request.count("authorization") > 0;
  if (header + offered.secret.has_value() + offered.assertion.has_value() > 1) {
    return fail(ErrorCode::MalformedRequest, "use one client authentication method, not two");
  }
  if (offered.assertion.has_value() != offered.assertion_type.has_value()) {
    return fail(ErrorCode::MalformedRequest,
                "client_assertion and client_assertion_type belong together");
  }
  const auto now = services.clock.now();
  const auto differs = [&](const std::string& id) { return offered.id && *offered.id != id; };
  const auto two_ids = [] {
    return fail(ErrorCode::MalformedRequest, "client_id differs from the authenticated client");
  };

  if (header) {
    const auto value = request.header("authorization");
    if (!value) return fail(ErrorCode::MalformedRequest, "several Authorization headers");
    POSTERN_TRY(auto credentials, basic_credentials(*value));
    if (differs(credentials.first)) return two_ids();
    // Shared with nobody: std::function wants to be copied, a secret cannot be.
    auto kept = std::make_shared<std::pair<std::string, ClientSecret>>(std::move(credentials));
    return Attempt{kept->first, [&snapshot, kept, now] {
                     return grants::authenticate_client(snapshot, kept->first, kept->second, now);
                   }};
  }
  if (offered.assertion) {
    if (*offered.assertion_type != grants::kJwtBearerAssertion) {
      return fail(ErrorCode::InvalidClient, "this client authentication method is not offered");
    }
    const auto assertion = *offered.assertion;
    const auto* named = offered.id ? snapshot.find_client(*offered.id) : nullptr;
    if (named != nullptr &&
        named->authentication.method == policy::ClientAuthentication::Workload) {
      return Attempt{named->id.str(), [&services, &snapshot, &request, named, assertion] {
                       return workload(services, snapshot, *named, assertion, request);
                     }};
    }
    const auto claimed = grants::claimed_client(assertion).value_or("");
    if (!claimed.empty() && differs(claimed)) return two_ids();
    return Attempt{claimed,
                   [&services, &snapshot, &request, &replays, &document, assertion] {
                     return services.authentication.assertions.authenticate(
                         snapshot, assertion, replays, wait_of(request), document.get());
                   },
                   true};
  }
  const std::string id(offered.id.value_or(""));
  if (offered.secret) {
    const auto secret = std::make_shared<ClientSecret>(SecureBuffer::copy_of(*offered.secret));
    return Attempt{id, [&snapshot, id, secret, now]() -> Result<const policy::Client*> {
                     if (id.empty()) return failed();
                     return grants::authenticate_client(snapshot, id, *secret, now);
                   }};
  }
  // RFC 8705 §2: the certificate says who it is, client_id which client to look at.
  if (certificate && !id.empty()) {
    return Attempt{id,
                   [&snapshot, &certificate, &document, id, now] {
                     return grants::authenticate_by_certificate(
                         snapshot, document ? &document->client : snapshot.find_client(id),
                         *certificate, now);
                   },
                   true};
  }
  // A public client (no secret) may not use any grant here.
  return Attempt{id, []() -> Result<const policy::Client*> { return failed(); }};
}

}  // namespace

std::string source_of(const Authentication& how, const Request& request) {
  if (!is_proxy(how, request.peer_address)) return request.peer_address;
  // Some proxies write a line of their own (RFC 9110 §5.3): the last one's is what counts.
  const auto sent = request.list("x-forwarded-for").value_or("");
  std::string_view rest = sent;
  while (!rest.empty()) {
    const auto comma = rest.rfind(',');
    const auto address = trimmed(comma == rest.npos ? rest : rest.substr(comma + 1));
    if (!outbound::IpAddress::parse(address)) break;
    if (!is_proxy(how, address)) return std::string(address);
    rest = comma == rest.npos ? std::string_view() : rest.substr(0, comma);
  }
  return request.peer_address;
}

Result<ClientParameters> ClientParameters::of(const Form& form) {
  ClientParameters offered;
  POSTERN_TRY(offered.id, form.optional_single("client_id"));
  POSTERN_TRY(offered.secret, form.optional_single("client_secret"));
  POSTERN_TRY(offered.assertion, form.optional_single("client_assertion"));
  POSTERN_TRY(offered.assertion_type, form.optional_single("client_assertion_type"));
  return offered;
}

Result<ClientParameters> ClientParameters::of(const token::Json& body) {
  const auto member = [&](const char* name) -> Result<std::optional<std::string_view>> {
    const auto it = body.find(name);
    if (it == body.end()) return std::optional<std::string_view>();
    if (!it->is_string() || it->get_ref<const std::string&>().empty()) {
      Error error = fail(ErrorCode::MalformedRequest, "must be text");
      error.pointer = std::string("/") + name;
      return error;
    }
    return std::optional<std::string_view>(it->get_ref<const std::string&>());
  };
  ClientParameters offered;
  POSTERN_TRY(offered.id, member("client_id"));
  POSTERN_TRY(offered.assertion, member("client_assertion"));
  POSTERN_TRY(offered.assertion_type, member("client_assertion_type"));
  return offered;
}

Result<grants::Caller> authenticate(const Services& services,
                                    const policy::TenantSnapshot& snapshot, const Request& request,
                                    const ClientParameters& offered, audit::Event& record) {
  auto& throttle = services.authentication.throttle;
  RequestReplays replays(services.authentication.replays, request);
  POSTERN_TRY(const auto certificate, shown_certificate(services, request));
  Document document;
  auto offer = attempt_of(services, snapshot, request, offered, replays, certificate, document);
  if (!offer.ok() && offer.error().code == ErrorCode::InvalidClient) {
    // What cannot even be read counts against its source.
    offer =
        Attempt{"", [error = offer.error()]() -> Result<const policy::Client*> { return error; }};
  }
  POSTERN_TRY(const auto attempt, std::move(offer));
  // Recorded before it is known to be true, so only when it is one of ours: a
  // mistaken gateway may have put a secret in its place.
  if (snapshot.find_client(attempt.claimed) != nullptr) record.with("client", attempt.claimed);

  const auto source = source_of(services.authentication, request);
  if (const auto refusal = throttle.refuses(snapshot.tenant(), attempt.claimed, source)) {
    if (refusal->to_record > 0) record.with("attempts", std::to_string(refusal->to_record));
    Error error = fail(ErrorCode::RateLimited, "too many failed client authentications");
    error.retry_after = refusal->retry_after;
    return error;
  }
  const auto note = [&](std::uint64_t uncounted) {
    if (uncounted > 0) record.with("attempts", std::to_string(uncounted));
  };
  const auto check = [&]() -> Result<const policy::Client*> {
    if (attempt.takes_document && services.authentication.documents != nullptr &&
        detail::is_client_url(attempt.claimed)) {
      POSTERN_TRY(document, services.authentication.documents->find(snapshot, attempt.claimed,
                                                                    source, wait_of(request)));
      record.with("client", attempt.claimed);
    }
    return attempt.check();
  };
  const auto client = check();
  if (!client.ok()) {
    if (client.error().code == ErrorCode::InvalidClient) {
      note(throttle.failed(snapshot.tenant(), attempt.claimed, source));
    }
    return client.error();
  }
  note(throttle.succeeded(snapshot.tenant(), attempt.claimed, source));
  grants::Caller caller(*client.value());
  caller.keeps = document;
  if (certificate) caller.proven.x5t_s256 = grants::thumbprint(certificate->certificate);
  return caller;
}

Result<grants::Caller> authenticate(const Services& services,
                                    const policy::TenantSnapshot& snapshot, const Request& request,
                                    const Form* form, audit::Event& record) {
  ClientParameters offered;
  if (form != nullptr) {
    POSTERN_TRY(offered, ClientParameters::of(*form));
  }
  return authenticate(services, snapshot, request, offered, record);
}

Status prove_key(const Services& services, const policy::TenantSnapshot& snapshot,
                 const Request& request, const std::string& path, grants::Caller& caller) {
  if (request.count("dpop") == 0) {
    if (caller.client->dpop_bound) {
      return fail(ErrorCode::InvalidDpopProof, "this client must send a DPoP proof");
    }
    return {};
  }
  const auto proof = request.header("dpop");
  if (!proof) return fail(ErrorCode::InvalidDpopProof, "send one DPoP header, not several");
  RequestReplays replays(services.authentication.replays, request);
  const auto url = services.base_url + path;
  POSTERN_TRY(caller.proven.jkt,
              services.authentication.dpop.verify(snapshot.tenant(), *proof,
                                                  {request.method, url, std::nullopt}, replays));
  return {};
}

void offer_nonce(const Services& services, const TenantId& tenant, const Request& request,
                 const Error* error, Reply& reply) {
  const auto& dpop = services.authentication.dpop;
  const bool asked = error != nullptr && error->code == ErrorCode::UseDpopNonce;
  if (!dpop.asks_for_nonce() || (!asked && (error != nullptr || request.count("dpop") == 0)))
    return;
  const auto nonce = dpop.nonces().current(tenant);
  if (nonce.ok()) reply.set_header("DPoP-Nonce", nonce.value());
}

std::vector<audit::Event> refusal_records(audit::Event record, const Error& error) {
  const auto counted = [](const auto& field) { return field.first == "attempts"; };
  if (error.code == ErrorCode::RateLimited &&
      std::none_of(record.fields.begin(), record.fields.end(), counted)) {
    return {};
  }
  record_error(record, error);
  std::vector<audit::Event> records;
  records.push_back(std::move(record));
  return records;
}

Result<bool> RequestReplays::first_use(const TenantId& tenant, std::string_view kind,
                                       const crypto::Hash256& digest, sys_seconds expires_at) {
  const auto key = crypto::sha256_parts({as_bytes(tenant.str()), as_bytes(kind), ByteView(digest)});
  auto& used = request_.used_up;
  if (std::find(used.begin(), used.end(), key) != used.end()) return true;
  if (!request_.may_wait_for_database) return fail(ErrorCode::NeedsDatabase, "");
  POSTERN_TRY(const bool first, guard_.first_use(tenant, kind, digest, expires_at));
  if (first) used.push_back(key);
  return first;
}

}  // namespace postern::http
