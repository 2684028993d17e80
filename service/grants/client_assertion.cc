#include "grants/client_assertion.h"

#include <algorithm>
#include <chrono>

#include "crypto/hash.h"
#include "token/json.h"
#include "token/jws.h"

namespace postern::grants {

using namespace std::chrono_literals;
using token::Json;

namespace {

constexpr auto kSkew = 60s;
constexpr auto kMaxAhead = 600s;
constexpr std::size_t kMaxIdBytes = 256;

/// One text for all: an attacker learns neither which clients there are nor how
/// near a forgery came.
Error refused(const char* diagnostic) {
  return fail(ErrorCode::InvalidClient, "client authentication failed", diagnostic);
}

/// The only audience: text, or a list of one (rfc7523bis §4: never several, so
/// that an assertion made for somebody else is of no use here).
bool only_audience(const Json& claims, const policy::TenantSnapshot& snapshot,
                   const policy::AuthenticationRule& rule) {
  const auto it = claims.find("aud");
  if (it == claims.end()) return false;
  const Json& value = it->is_array() && it->size() == 1 ? it->front() : *it;
  if (!value.is_string()) return false;
  const auto& audience = value.get_ref<const std::string&>();
  const auto& issuer = snapshot.issuer_url();
  return audience == issuer ||
         // Some clients' URL types add a slash to whatever they are configured with.
         (rule.issuer_slash_audience && audience == issuer + "/") ||
         (rule.token_endpoint_audience && audience == issuer + "/token");
}

}  // namespace

std::optional<std::string> claimed_client(std::string_view assertion) {
  const auto jwt = token::UnverifiedJwt::parse(assertion);
  if (!jwt.ok()) return std::nullopt;
  return jwt.value().claimed_issuer();
}

Result<const policy::Client*> ClientAssertions::authenticate(const policy::TenantSnapshot& snapshot,
                                                             std::string_view assertion,
                                                             policy::ReplayGuard& replays,
                                                             Wait wait,
                                                             const DocumentClient* document) const {
  const auto parsed = token::UnverifiedJwt::parse(assertion);
  if (!parsed.ok()) return refused("assertion: malformed");
  const auto& jwt = parsed.value();
  // RFC 8725 §3.11: a token of another kind that the client's key signed is no assertion.
  if (!jwt.typ().empty() && jwt.typ() != "jwt" && jwt.typ() != "client-authentication+jwt") {
    return refused("assertion: typ of another kind");
  }
  const auto claimed = jwt.claimed_issuer();
  if (!claimed) return refused("assertion: no iss");
  const auto* client = snapshot.find_client(*claimed);
  const auto* keys_of_client = snapshot.client_keys(*claimed);
  if (document != nullptr && document->client.id.str() == *claimed) {
    client = &document->client;
    keys_of_client = &document->keys;
  }
  if (client == nullptr || keys_of_client == nullptr || !client->enabled || !snapshot.enabled()) {
    return refused("assertion: no such client");
  }
  const auto& rule = client->authentication;
  if (std::find(rule.algorithms.begin(), rule.algorithms.end(), jwt.algorithm()) ==
      rule.algorithms.end()) {
    return refused("assertion: algorithm not registered");
  }
  POSTERN_TRY(const auto keys, keys_.keys_of(snapshot.tenant(), *keys_of_client, jwt.kid(), wait));
  const auto verified = jwt.verify(*keys);
  if (!verified.ok()) return refused("assertion: signature");
  const auto& claims = verified.value();

  const auto text = [&](const char* name) -> const std::string* {
    const auto it = claims.find(name);
    return it != claims.end() ? it->get_ptr<const std::string*>() : nullptr;
  };
  const auto* subject = text("sub");
  if (subject == nullptr || *subject != client->id.str()) return refused("assertion: sub");
  if (!only_audience(claims, snapshot, rule)) return refused("assertion: aud");

  const auto now = clock_.now();
  const auto time = [&](const char* name, bool required) -> Result<std::optional<sys_seconds>> {
    const auto it = claims.find(name);
    if (it == claims.end() && !required) return std::optional<sys_seconds>();
    const auto value = it != claims.end() ? token::numeric_date(*it) : std::nullopt;
    if (!value) return refused("assertion: time");
    return value;
  };
  POSTERN_TRY(const auto expires_at, time("exp", true));
  POSTERN_TRY(const auto not_before, time("nbf", false));
  POSTERN_TRY(const auto issued_at, time("iat", false));
  if (*expires_at + kSkew <= now) return refused("assertion: expired");
  if (*expires_at > now + kMaxAhead) return refused("assertion: lives too long");
  if (not_before && *not_before > now + kSkew) return refused("assertion: not valid yet");
  if (issued_at && *issued_at > now + kSkew) return refused("assertion: from the future");

  const auto* id = text("jti");
  if (id == nullptr || id->empty() || id->size() > kMaxIdBytes) return refused("assertion: jti");
  // Last of all, so that only what is otherwise good is remembered, until no
  // replica would take it any more.
  const auto digest = crypto::sha256_parts({as_bytes(client->id.str()), as_bytes(*id)});
  POSTERN_TRY(const bool first, replays.first_use(snapshot.tenant(), "client_assertion", digest,
                                                  *expires_at + kSkew));
  if (!first) return refused("assertion: used before");
  return client;
}

}  // namespace postern::grants
