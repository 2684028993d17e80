#include "grants/subject_claims.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "core/text.h"
#include "policy/claim_rules.h"

namespace postern::grants {

using namespace std::chrono_literals;
using policy::claim_at;
using policy::claim_texts;
using token::Json;

namespace {

constexpr auto kSkew = 60s;

Error refused(std::string detail) { return fail(ErrorCode::InvalidToken, std::move(detail)); }

bool one_of(const std::vector<std::string>& list, std::string_view value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

/// RFC 8693 §4.1: who acts, nested history below, at most 5 deep. Rebuilt from
/// the members that identify; what else the issuer put there is not ours to
/// sign. Null when it is malformed or names nobody.
Json rebuilt_actor(const Json& act, int depth = 1) {
  if (!act.is_object() || depth > 5) return {};
  for (const char* forbidden : {"exp", "nbf", "aud", "iat"}) {
    if (act.contains(forbidden)) return {};
  }
  Json out;
  for (const char* member : {"iss", "sub", "client_id"}) {
    const auto it = act.find(member);
    if (it == act.end()) continue;
    if (!it->is_string() || it->get_ref<const std::string&>().empty() ||
        it->get_ref<const std::string&>().size() > 512) {
      return {};
    }
    out[member] = *it;
  }
  if (!out.contains("sub") && !out.contains("client_id")) return {};
  if (const auto nested = act.find("act"); nested != act.end()) {
    out["act"] = rebuilt_actor(*nested, depth + 1);
    if (out["act"].is_null()) return {};
  }
  return out;
}

/// RFC 9068 §2.2.1: how the user authenticated, of the expected types only.
Json rebuilt_auth_context(const Json& claims) {
  Json out = Json::object();
  if (const auto it = claims.find("auth_time"); it != claims.end() && token::numeric_date(*it)) {
    out["auth_time"] = *it;
  }
  if (const auto it = claims.find("acr"); it != claims.end() && it->is_string()) {
    if (it->get_ref<const std::string&>().size() <= 512) out["acr"] = *it;
  }
  if (const auto it = claims.find("amr"); it != claims.end() && it->is_array()) {
    if (const auto methods = claim_texts(*it, 20)) out["amr"] = *methods;
  }
  return out;
}

/// Whether another issuer's users or groups are spelled like this.
bool reads_as_anothers(const policy::TenantSnapshot& snapshot, const policy::TrustedIssuer& issuer,
                       std::string_view name) {
  const auto& issuers = snapshot.config().issuers;
  return std::any_of(issuers.begin(), issuers.end(), [&](const auto& entry) {
    const auto& other = entry.second;
    return !other.subject_prefix.empty() && other.issuer != issuer.issuer &&
           name.starts_with(other.subject_prefix);
  });
}

std::string text_claim(const Json& claims, const char* name) {
  const auto it = claims.find(name);
  return it != claims.end() && it->is_string() ? it->get<std::string>() : std::string();
}

/// Keycloak tells its tokens apart by a claim, not by the header: all of one
/// realm are signed with the same keys. Errors: InvalidToken for a kind that is
/// no proof of a user.
Result<TokenKind> kind_of(const Json& claims) {
  // RFC 8417 §4.6: a security event or logout token, signed with the same keys
  // for the same audience, is no proof of a user.
  if (claims.contains("events")) return refused(std::string(kWrongKind));
  std::string typ = text_claim(claims, "typ");
  std::transform(typ.begin(), typ.end(), typ.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  for (const std::string_view foreign : {"refresh", "offline", "logout", "serialized-id",
                                         "initialaccesstoken", "registrationaccesstoken"}) {
    if (typ == foreign) return refused(std::string(kWrongKind));
  }
  if (typ == "id") return TokenKind::Id;
  if (typ == "bearer" || typ == "dpop" || typ == "at+jwt") return TokenKind::Access;
  // Claims of OpenID Connect Core §2 and §3.3.2.11 that only ID tokens have; some
  // providers put the nonce of the login into access tokens too.
  const bool of_access = claims.contains("scope") || claims.contains("scp");
  if (claims.contains("at_hash") || claims.contains("c_hash") ||
      (claims.contains("nonce") && !of_access)) {
    return TokenKind::Id;
  }
  return TokenKind::Unknown;
}

/// Whether the issuer has a claim of this name for the user and left it out of
/// the token: OpenID Connect Core §5.6.2 distributed claims, and Entra ID, which
/// does so with the groups of whoever has many.
bool left_out(const Json& claims, std::string_view mapped) {
  if (mapped.empty()) return false;
  if (mapped.front() == '/') mapped = mapped.substr(1, mapped.find('/', 1) - 1);
  const auto name = policy::unescaped_step(mapped);
  if (const auto elsewhere = claims.find("_claim_names"); elsewhere != claims.end()) {
    if (!elsewhere->is_object() || elsewhere->contains(name)) return true;
  }
  const auto has = claims.find("hasgroups");
  return name == "groups" && has != claims.end() && *has != Json(false) && *has != Json("false");
}

/// Whether some role is bound by a group that users of this issuer may be in.
bool binds_by_group(const policy::TenantSnapshot& snapshot, const policy::TrustedIssuer& issuer) {
  const auto& bindings = snapshot.config().bindings;
  return std::any_of(bindings.begin(), bindings.end(), [&](const auto& entry) {
    const auto& groups = entry.second.groups;
    return std::any_of(groups.begin(), groups.end(), [&](const std::string& group) {
      return group.starts_with(issuer.subject_prefix) &&
             !reads_as_anothers(snapshot, issuer, group);
    });
  });
}

Status read_times(const Json& claims, sys_seconds now, VerifiedToken& token) {
  const auto number = [&](const char* name) -> Result<std::optional<sys_seconds>> {
    const auto it = claims.find(name);
    if (it == claims.end()) return std::optional<sys_seconds>();
    const auto time = token::numeric_date(*it);
    if (!time) return refused("the token has a malformed time");
    return time;
  };
  POSTERN_TRY(const auto expires_at, number("exp"));
  POSTERN_TRY(const auto not_before, number("nbf"));
  POSTERN_TRY(token.issued_at, number("iat"));
  if (!expires_at) return refused("the token does not say when it expires");
  token.expires_at = *expires_at;
  if (not_before && *not_before > now + kSkew) return refused("the token is not valid yet");
  if (token.issued_at && *token.issued_at > now + kSkew) {
    return refused("the token was issued in the future");
  }
  return {};
}

Status read_audience(const std::vector<std::string>& wanted, const Json& claims,
                     VerifiedToken& token) {
  const auto aud = claims.find("aud");
  auto audiences = aud != claims.end() ? claim_texts(*aud, 50) : std::nullopt;
  if (!audiences) return refused("the token has no well-formed audience");
  token.audiences = std::move(*audiences);
  const bool expected = std::any_of(wanted.begin(), wanted.end(), [&](const std::string& audience) {
    return one_of(token.audiences, audience);
  });
  if (!expected) return refused("the token is for another audience");
  return {};
}

Status read_subject(const policy::TenantSnapshot& snapshot, const policy::TrustedIssuer& issuer,
                    const Json& claims, VerifiedToken& token) {
  const auto* subject = claim_at(claims, issuer.claims.subject);
  if (subject == nullptr || !subject->is_string()) return refused("the token names no subject");
  token.principal = {issuer.issuer, subject->get<std::string>()};
  POSTERN_TRY(token.issued_subject, issued_subject_of(snapshot, issuer, token.principal.subject));
  return {};
}

Status read_groups(const policy::TenantSnapshot& snapshot, const policy::TrustedIssuer& issuer,
                   const Json& claims, VerifiedToken& token) {
  // What is missing could be what a role denies, so half a list is no list.
  if (left_out(claims, issuer.claims.groups) && binds_by_group(snapshot, issuer)) {
    return refused(
        "the token leaves out the user's groups, on which roles depend here; have the issuer send "
        "fewer groups, or roles");
  }
  const auto* groups = claim_at(claims, issuer.claims.groups);
  if (groups == nullptr) return {};
  auto names = claim_texts(*groups, 1000);
  if (!names) return refused("the token's groups are malformed");
  // Bindings name groups alone: one issuer's `admins` are not another's.
  for (auto& group : *names) {
    group.insert(0, issuer.subject_prefix);
    if (reads_as_anothers(snapshot, issuer, group)) {
      return refused("the token's groups could be taken for another issuer's");
    }
  }
  std::sort(names->begin(), names->end());
  names->erase(std::unique(names->begin(), names->end()), names->end());
  token.groups = std::move(*names);
  return {};
}

Status read_scope(const policy::TrustedIssuer& issuer, const Json& claims, VerifiedToken& token) {
  if (left_out(claims, issuer.claims.scope)) return refused("the token leaves out its scope");
  const auto* scope = claim_at(claims, issuer.claims.scope);
  if (scope == nullptr) return {};
  // A string of tokens, or an array of them (some issuers' `scp`).
  std::string joined;
  if (scope->is_string()) {
    joined = scope->get<std::string>();
  } else if (const auto parts = claim_texts(*scope, policy::ScopeSet::kMaxTokens)) {
    for (const auto& part : *parts) joined += part + " ";
  } else {
    return refused("the token's scope is malformed");
  }
  auto parsed = policy::ScopeSet::parse(joined);
  if (!parsed.ok()) return refused("the token's scope is malformed");
  token.scope = std::move(parsed).value();
  return {};
}

/// Only what bindings ask for is kept; what is no text or list of texts is not there.
void read_attributes(const policy::TenantSnapshot& snapshot, const Json& claims,
                     VerifiedToken& token) {
  for (const auto& name : snapshot.binding_claims()) {
    const auto* claim = policy::claim_at(claims, name);
    if (claim == nullptr) continue;
    if (auto values = policy::claim_texts(*claim, 100)) {
      token.attributes.emplace(name, std::move(*values));
    }
  }
}

/// Kept where some path may be compared with them.
void read_view_claims(const policy::TenantSnapshot& snapshot, const Json& claims,
                      VerifiedToken& token) {
  const auto* api = snapshot.settings().vault();
  if (api == nullptr || api->views.empty()) return;
  const auto text = [&](const char* name) -> std::optional<std::string> {
    const auto it = claims.find(name);
    if (it == claims.end() || !it->is_string()) return std::nullopt;
    return it->get<std::string>();
  };
  token.view_claims.sub = text("sub");
  token.view_claims.preferred_username = text("preferred_username");
}

Status read_actors(const Json& claims, VerifiedToken& token) {
  token.authorized_party = text_claim(claims, "azp");
  if (token.authorized_party.empty()) token.authorized_party = text_claim(claims, "client_id");
  if (const auto it = claims.find("act"); it != claims.end()) {
    token.act = rebuilt_actor(*it);
    if (token.act.is_null()) return refused("the token's act claim is malformed or too deep");
  }
  if (const auto it = claims.find("may_act"); it != claims.end()) {
    if (!it->is_object()) return refused("the token's may_act claim is malformed");
    token.may_act = *it;
  }
  return {};
}

}  // namespace

Result<std::string> issued_subject_of(const policy::TenantSnapshot& snapshot,
                                      const policy::TrustedIssuer& issuer,
                                      const std::string& name) {
  if (name.empty() || name.size() > 255 || has_control_characters(name)) {
    return refused("the token names no usable subject");
  }
  auto issued = issuer.subject_prefix + name;
  // Backends know users by `sub`: it must not read as a client's or as a user
  // of an issuer with another prefix (RFC 9068 §5).
  if (reads_as_anothers(snapshot, issuer, issued)) {
    return refused("the token's subject could be taken for another issuer's");
  }
  if (snapshot.client_of_token(issued) != nullptr) {
    return refused("the token's subject could be taken for a client");
  }
  return issued;
}

Status read_tools(const Json& claims, VerifiedToken& token) {
  const auto details = claims.find("authorization_details");
  if (details == claims.end()) return {};
  const auto malformed = [] { return refused("the token's authorization_details are malformed"); };
  if (!details->is_array() || details->size() > 64) return malformed();
  Json ours = Json::array();
  for (const auto& detail : *details) {
    const auto type = detail.is_object() ? detail.find("type") : detail.end();
    if (!detail.is_object() || type == detail.end() || !type->is_string()) return malformed();
    if (*type == Json(policy::kToolDetailType)) ours.push_back(detail);
  }
  if (ours.empty()) return {};
  auto read = policy::read_tool_details(ours);
  if (!read.ok()) return malformed();
  token.tools = std::move(read).value();
  return {};
}

Result<VerifiedToken> read_claims(const policy::TenantSnapshot& snapshot,
                                  const policy::TrustedIssuer& issuer, const Json& claims,
                                  const std::vector<std::string>& expected, sys_seconds now) {
  VerifiedToken token;
  POSTERN_CHECK(read_times(claims, now, token));
  POSTERN_CHECK(read_audience(expected, claims, token));
  POSTERN_TRY(token.kind, kind_of(claims));
  // RFC 7800, RFC 8705, RFC 9449: a bound token is worth nothing without its proof.
  if (const auto it = claims.find("cnf"); it != claims.end()) {
    POSTERN_TRY(token.bound_to, read_confirmation(*it));
  }
  if (!policy::satisfies(claims, issuer.required_claims)) {
    return refused("the token lacks a claim that is required of its issuer's tokens here");
  }
  POSTERN_CHECK(read_subject(snapshot, issuer, claims, token));
  POSTERN_CHECK(read_groups(snapshot, issuer, claims, token));
  read_attributes(snapshot, claims, token);
  read_view_claims(snapshot, claims, token);
  POSTERN_CHECK(read_scope(issuer, claims, token));
  POSTERN_CHECK(read_actors(claims, token));
  POSTERN_CHECK(read_tools(claims, token));
  token.auth_context = rebuilt_auth_context(claims);
  return token;
}

Status read_grant(const Json& claims, const std::string& client_id, VerifiedAssertion& assertion) {
  if (const auto jti = claims.find("jti"); jti != claims.end()) {
    if (!jti->is_string() || jti->get_ref<const std::string&>().empty() ||
        jti->get_ref<const std::string&>().size() > 512) {
      return refused("the token's jti is malformed");
    }
    assertion.jti = jti->get<std::string>();
  }
  if (assertion.type != policy::SubjectTokenType::IdJag) return {};
  if (assertion.jti.empty()) return refused("the token has no jti");
  if (!assertion.token.issued_at) return refused("the token does not say when it was issued");
  if (text_claim(claims, "client_id") != client_id) {
    return refused("the token was issued for another client");
  }
  if (const auto resource = claims.find("resource"); resource != claims.end()) {
    auto resources = claim_texts(*resource, 8);
    if (!resources || resources->empty()) return refused("the token's resource is malformed");
    assertion.resources = std::move(*resources);
  }
  if (const auto scope = claims.find("scope"); scope != claims.end()) {
    if (!scope->is_string()) return refused("the token's scope is malformed");
    auto parsed = policy::ScopeSet::parse(scope->get_ref<const std::string&>());
    if (!parsed.ok()) return refused("the token's scope is malformed");
    assertion.scope = std::move(parsed).value();
  }
  return {};
}

}  // namespace postern::grants
