#include "grants/vault_sessions.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

#include "crypto/aead.h"
#include "crypto/base64url.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "token/json.h"
#include "vault/aad.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using token::Json;

constexpr auto kSkew = 60s;
constexpr std::size_t kMaxBytes = 1024;
// Sealed and in base64url; what a header may have is 16 KiB (http/basic_auth.cc).
constexpr std::size_t kMaxUserSessionBytes = 12 * 1024;
static_assert((VaultSessions::kMostUserBytes + crypto::kSealOverhead) * 4 / 3 <
              kMaxUserSessionBytes - kMaxBytes);

Error refused() { return fail(ErrorCode::Unauthenticated, "permission denied"); }

// Of a session with parents another one: releases that do not know parents would take it for one
// without, which nothing but its own end ends.
constexpr std::string_view kLabel = "postern-vault-token-v1";
constexpr std::string_view kLabelOfChild = "postern-vault-token-v2";

std::string_view label_of(const VaultSession& session) {
  return session.parents.empty() ? kLabel : kLabelOfChild;
}

std::string mac_of(const Kek& kek, std::string_view label, const TenantId& tenant,
                   std::string_view payload) {
  const auto key = crypto::derive(kek, "vaulttok");
  const auto mac =
      crypto::keyed_hash(key, {as_bytes(label), as_bytes(tenant.str()), as_bytes(payload)});
  return crypto::base64url(mac);
}

std::optional<VaultSession> session_of(const Json& claims) {
  if (!claims.is_object()) return std::nullopt;
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
  const auto parents = claims.find("parents");
  if (parents == claims.end()) return session;
  if (!parents->is_array() || parents->size() > VaultSessions::kMostParents) return std::nullopt;
  for (const auto& each : *parents) {
    if (!each.is_string()) return std::nullopt;
    session.parents.push_back(each.get<std::string>());
  }
  return session;
}

std::optional<VaultSession> read(std::string_view payload) {
  const auto bytes = crypto::base64url_decode(payload);
  if (!bytes.ok()) return std::nullopt;
  const auto json = token::parse_json(as_text(bytes.value()));
  return json.ok() ? session_of(json.value()) : std::nullopt;
}

Json claims_of(const VaultSession& session) {
  Json claims{{"client", session.client},
              {"id", session.id},
              {"iat", session.issued_at.time_since_epoch().count()},
              {"exp", session.expires_at.time_since_epoch().count()}};
  if (!session.parents.empty()) claims["parents"] = session.parents;
  return claims;
}

/// The parts of a token of this tenant, after its prefix and its tenant.
template <std::size_t count>
struct Parts {
  KekVersion kek_version{};
  std::array<std::string_view, count> rest;
};

template <std::size_t count>
std::optional<Parts<count>> parts_of(std::string_view token, std::string_view prefix,
                                     const TenantId& tenant) {
  if (!token.starts_with(prefix)) return std::nullopt;
  token.remove_prefix(prefix.size());
  std::array<std::string_view, count + 2> parts;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto dot = token.find('.');
    if ((dot == token.npos) != (i + 1 == parts.size())) return std::nullopt;
    parts[i] = token.substr(0, dot);
    token.remove_prefix(dot == token.npos ? token.size() : dot + 1);
  }
  const auto number = parts[1];
  std::uint32_t version = 0;
  const auto read_number = std::from_chars(number.data(), number.data() + number.size(), version);
  if (parts[0] != tenant.str() || read_number.ec != std::errc() ||
      read_number.ptr != number.data() + number.size()) {
    return std::nullopt;
  }
  Parts<count> found{KekVersion(version), {}};
  std::copy(parts.begin() + 2, parts.end(), found.rest.begin());
  return found;
}

vault::Aad aad_of(const TenantId& tenant) {
  vault::Aad aad("postern-vault-user-session-v1");
  aad.tenant(tenant);
  return aad;
}

std::string beginning(std::string_view prefix, const TenantId& tenant, KekVersion version) {
  return std::string(prefix) + tenant.str() + '.' +
         std::to_string(static_cast<std::uint32_t>(version)) + '.';
}

}  // namespace

Status VaultSessions::check_client(const policy::TenantSnapshot& snapshot,
                                   const policy::Client& client, ActsFor whom) {
  const auto* api = snapshot.settings().vault();
  if (api == nullptr || !client.enabled || api->clients.count(client.id.str()) == 0) {
    return fail(ErrorCode::Forbidden, "this client may not log in to the API of Vault");
  }
  if (whom == ActsFor::Itself && client.grants.count(policy::GrantType::ClientCredentials) == 0) {
    return fail(ErrorCode::Forbidden, "this client may not act for itself");
  }
  if (whom == ActsFor::User) {
    if (api->views.empty()) return fail(ErrorCode::Forbidden, "this tenant has no views");
    if (client.grants.count(policy::GrantType::TokenExchange) == 0) {
      return fail(ErrorCode::Forbidden, "this client may not act for users");
    }
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
  return started(snapshot.tenant(), {client.id.str(), crypto::random_id(), now,
                                     now + snapshot.settings().lifetime_ceiling()});
}

Result<VaultSessions::Started> VaultSessions::start_child(
    const policy::TenantSnapshot& snapshot, const VaultSession& parent,
    std::optional<std::chrono::seconds> lifetime) const {
  if (parent.parents.size() >= kMostParents) {
    return fail(ErrorCode::MalformedRequest, "a token that was made so makes no others; log in");
  }
  const auto now = clock_.now();
  VaultSession session{parent.client, crypto::random_id(), now, parent.expires_at, parent.parents};
  if (lifetime) session.expires_at = std::min(session.expires_at, now + *lifetime);
  session.parents.push_back(parent.id);
  return started(snapshot.tenant(), std::move(session));
}

Result<VaultSessions::Started> VaultSessions::started(const TenantId& tenant,
                                                      VaultSession session) const {
  const auto payload = crypto::base64url(as_bytes(token::dump_json(claims_of(session))));
  std::string text;
  POSTERN_CHECK(keyring_.with_current(tenant, [&](KekVersion version, const Kek& kek) -> Status {
    text = beginning(kPrefix, tenant, version) + payload + '.' +
           mac_of(kek, label_of(session), tenant, payload);
    return {};
  }));
  return Started{BearerToken(SecureBuffer::take(std::move(text))), std::move(session)};
}

Result<VaultSessions::Started> VaultSessions::start_for_user(const policy::TenantSnapshot& snapshot,
                                                             const policy::Client& client,
                                                             const VerifiedToken& user,
                                                             std::string_view user_token) const {
  const auto too_large = [] {
    return fail(ErrorCode::TooLarge, "the user's token is longer than a session can hold");
  };
  if (user_token.size() > kMostUserBytes) return too_large();
  const auto now = clock_.now();
  const auto end = std::min(user.expires_at, now + snapshot.settings().lifetime_ceiling());
  VaultSession session{client.id.str(), crypto::random_id(), now, end};
  auto claims = claims_of(session);
  claims["user"] = user_token;
  const auto plaintext = SecureBuffer::take(token::dump_json(claims));
  token::wipe_texts(claims);
  std::string text;
  POSTERN_CHECK(
      keyring_.with_current(snapshot.tenant(), [&](KekVersion version, const Kek& kek) -> Status {
        const auto box = crypto::seal(kek, plaintext.readable(), aad_of(snapshot.tenant()).bytes());
        text = beginning(kUserPrefix, snapshot.tenant(), version) + crypto::base64url(box);
        return {};
      }));
  if (text.size() > kMaxUserSessionBytes) return too_large();  // escapes, in JSON
  return Started{BearerToken(SecureBuffer::take(std::move(text))), std::move(session)};
}

Status VaultSessions::check_live(const policy::TenantSnapshot& snapshot,
                                 const VaultSession& session, ActsFor whom) const {
  const auto now = clock_.now();
  if (session.expires_at <= now || session.issued_at > now + kSkew) return refused();
  const auto* client = snapshot.find_client(session.client);
  if (client == nullptr || !check_client(snapshot, *client, whom).ok()) return refused();
  auto ids = session.parents;
  ids.push_back(session.id);
  POSTERN_TRY(const auto revoked, revocations_.any_revoked(snapshot.tenant(), ids));
  if (revoked) return refused();
  return {};
}

Result<VaultSession> VaultSessions::verify(const policy::TenantSnapshot& snapshot,
                                           std::string_view token) const {
  const auto& tenant = snapshot.tenant();
  if (token.size() > kMaxBytes) return refused();
  const auto parts = parts_of<2>(token, kPrefix, tenant);
  if (!parts) return refused();
  const auto [payload, mac] = parts->rest;
  std::optional<std::string_view> label;  // none: forged
  const auto compare = [&, &payload = payload, &mac = mac](KekVersion, const Kek& kek) -> Status {
    for (const auto each : {kLabel, kLabelOfChild}) {
      if (!crypto::equal(mac_of(kek, each, tenant, payload), mac)) continue;
      label = each;
      break;
    }
    return {};
  };
  if (const auto status = keyring_.with_version(tenant, parts->kek_version, compare);
      !status.ok() && status.error().code != ErrorCode::NotFound) {
    return status.error();
  }
  if (!label) return refused();
  auto session = read(payload);
  if (!session || label_of(*session) != *label) return refused();
  POSTERN_CHECK(check_live(snapshot, *session, ActsFor::Itself));
  return std::move(*session);
}

Result<VaultSessions::ForUser> VaultSessions::verify_for_user(
    const policy::TenantSnapshot& snapshot, std::string_view token) const {
  const auto& tenant = snapshot.tenant();
  if (token.size() > kMaxUserSessionBytes) return refused();
  const auto parts = parts_of<1>(token, kUserPrefix, tenant);
  if (!parts) return refused();
  const auto box = crypto::base64url_decode(parts->rest[0]);
  if (!box.ok()) return refused();
  std::optional<SecureBuffer> opened;
  const auto open = [&](KekVersion, const Kek& kek) -> Status {
    if (auto text = crypto::open(kek, box.value(), aad_of(tenant).bytes()); text.ok()) {
      opened = std::move(text).value();
    }
    return {};
  };
  if (const auto status = keyring_.with_version(tenant, parts->kek_version, open);
      !status.ok() && status.error().code != ErrorCode::NotFound) {
    return status.error();
  }
  if (!opened) return refused();
  auto claims = token::parse_json(as_text(opened->readable()));
  if (!claims.ok()) return refused();
  auto session = session_of(claims.value());
  const auto user = claims.value().find("user");
  if (!session || user == claims.value().end() || !user->is_string()) return refused();
  SubjectToken user_token(SecureBuffer::take(std::move(user->get_ref<std::string&>())));
  POSTERN_CHECK(check_live(snapshot, *session, ActsFor::User));
  return ForUser{std::move(*session), std::move(user_token)};
}

Status VaultSessions::end(const TenantId& tenant, const VaultSession& session) const {
  return revocations_.revoke(tenant, session.id, session.expires_at);
}

}  // namespace postern::grants
