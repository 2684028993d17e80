#include "grants/vault_sessions.h"

#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

#include "crypto/base64url.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "token/json.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using token::Json;

constexpr auto kSkew = 60s;
constexpr std::size_t kMaxBytes = 1024;

Error refused() { return fail(ErrorCode::Unauthenticated, "permission denied"); }

std::string mac_of(const Kek& kek, const TenantId& tenant, std::string_view payload) {
  const auto key = crypto::derive(kek, "vaulttok");
  const auto mac = crypto::keyed_hash(
      key, {as_bytes("postern-vault-token-v1"), as_bytes(tenant.str()), as_bytes(payload)});
  return crypto::base64url(mac);
}

std::optional<VaultSession> read(std::string_view payload) {
  const auto bytes = crypto::base64url_decode(payload);
  if (!bytes.ok()) return std::nullopt;
  const auto json = token::parse_json(as_text(bytes.value()));
  if (!json.ok() || !json.value().is_object()) return std::nullopt;
  const auto& claims = json.value();
  VaultSession session;
  for (const auto& [name, to] :
       {std::pair("client", &session.client), std::pair("id", &session.id)}) {
    const auto it = claims.find(name);
    if (it == claims.end() || !it->is_string()) return std::nullopt;
    *to = it->get<std::string>();
  }
  for (const auto& [name, to] :
       {std::pair("iat", &session.issued_at), std::pair("exp", &session.expires_at)}) {
    const auto it = claims.find(name);
    const auto time = it != claims.end() ? token::numeric_date(*it) : std::nullopt;
    if (!time) return std::nullopt;
    *to = *time;
  }
  return session;
}

}  // namespace

Status VaultSessions::check_client(const policy::TenantSnapshot& snapshot,
                                   const policy::Client& client) {
  const auto* api = snapshot.settings().vault();
  if (api == nullptr || !client.enabled || api->clients.count(client.id.str()) == 0) {
    return fail(ErrorCode::Forbidden, "this client may not log in to the API of Vault");
  }
  if (client.grants.count(policy::GrantType::ClientCredentials) == 0) {
    return fail(ErrorCode::Forbidden, "this client may not act for itself");
  }
  if (client.dpop_bound || client.certificate_bound) {
    return fail(ErrorCode::Forbidden,
                "the tokens of this client are bound to a key, which a token of Vault cannot be");
  }
  if (!snapshot.settings().guardrails.allows(client.authentication.method)) {
    return fail(ErrorCode::Forbidden, "the operator does not allow how this client authenticates");
  }
  return {};
}

Result<VaultSessions::Started> VaultSessions::start(const policy::TenantSnapshot& snapshot,
                                                    const policy::Client& client) const {
  const auto now = clock_.now();
  VaultSession session{client.id.str(), crypto::random_id(), now,
                       now + snapshot.settings().lifetime_ceiling()};
  const Json claims{{"client", session.client},
                    {"id", session.id},
                    {"iat", now.time_since_epoch().count()},
                    {"exp", session.expires_at.time_since_epoch().count()}};
  const auto payload = crypto::base64url(as_bytes(token::dump_json(claims)));
  std::string text(kPrefix);
  POSTERN_CHECK(
      keyring_.with_current(snapshot.tenant(), [&](KekVersion version, const Kek& kek) -> Status {
        const auto number = std::to_string(static_cast<std::uint32_t>(version));
        text += snapshot.tenant().str() + '.' + number + '.' + payload + '.' +
                mac_of(kek, snapshot.tenant(), payload);
        return {};
      }));
  return Started{BearerToken(SecureBuffer::take(std::move(text))), std::move(session)};
}

Result<VaultSession> VaultSessions::verify(const policy::TenantSnapshot& snapshot,
                                           std::string_view token) const {
  const auto& tenant = snapshot.tenant();
  if (token.size() > kMaxBytes || !token.starts_with(kPrefix)) return refused();
  token.remove_prefix(kPrefix.size());
  std::array<std::string_view, 4> parts;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto dot = token.find('.');
    if ((dot == token.npos) != (i + 1 == parts.size())) return refused();
    parts[i] = token.substr(0, dot);
    token.remove_prefix(dot == token.npos ? token.size() : dot + 1);
  }
  const auto [named, number, payload, mac] = parts;
  std::uint32_t version = 0;
  const auto read_number = std::from_chars(number.data(), number.data() + number.size(), version);
  if (named != tenant.str() || read_number.ec != std::errc() ||
      read_number.ptr != number.data() + number.size()) {
    return refused();
  }

  bool genuine = false;
  const auto compare = [&, &payload = payload, &mac = mac](KekVersion, const Kek& kek) -> Status {
    genuine = crypto::equal(mac_of(kek, tenant, payload), mac);
    return {};
  };
  if (const auto status = keyring_.with_version(tenant, KekVersion(version), compare);
      !status.ok() && status.error().code != ErrorCode::NotFound) {
    return status.error();
  }
  if (!genuine) return refused();

  auto session = read(payload);
  const auto now = clock_.now();
  if (!session || session->expires_at <= now || session->issued_at > now + kSkew) return refused();
  const auto* client = snapshot.find_client(session->client);
  if (client == nullptr || !check_client(snapshot, *client).ok()) return refused();
  POSTERN_TRY(const auto revoked, revocations_.any_revoked(tenant, {&session->id, 1}));
  if (revoked) return refused();
  return std::move(*session);
}

Status VaultSessions::end(const TenantId& tenant, const VaultSession& session) const {
  return revocations_.revoke(tenant, session.id, session.expires_at);
}

}  // namespace postern::grants
