#include "grants/own_token.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "core/json_text.h"
#include "crypto/base64url.h"
#include "crypto/hash.h"
#include "grants/subject_claims.h"
#include "policy/authorize.h"

namespace postern::grants {

using namespace std::chrono_literals;
using token::Json;

namespace {

constexpr auto kSkew = 60s;

Error refused(std::string detail) { return fail(ErrorCode::InvalidToken, std::move(detail)); }
Error malformed() { return refused("the token is not one that is issued here"); }

const std::string* text_of(const Json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() ? it->get_ptr<const std::string*>() : nullptr;
}

std::optional<std::vector<std::string>> texts_of(const Json& object, const char* name) {
  std::vector<std::string> out;
  const auto it = object.find(name);
  if (it == object.end()) return out;
  if (!it->is_array()) return std::nullopt;
  for (const auto& item : *it) {
    if (!item.is_string()) return std::nullopt;
    out.push_back(item.get<std::string>());
  }
  return out;
}

Result<policy::ScopeSet> scope_in(const std::string* text) {
  if (text == nullptr || text->empty()) return policy::ScopeSet();
  auto parsed = policy::ScopeSet::parse(*text);
  if (!parsed.ok()) return malformed();
  return parsed;
}

/// The principal and what else the private claim says.
Status read_own_claim(const Json& own, VerifiedToken& token) {
  const auto* issuer = text_of(own, "iss");
  if (issuer == nullptr) return malformed();
  const auto* subject = text_of(own, "sub");
  token.principal = {*issuer, subject != nullptr ? *subject : token.issued_subject};
  auto ancestors = texts_of(own, "ancestors");
  auto groups = texts_of(own, "groups");
  if (!ancestors || !groups || ancestors->empty() || ancestors->size() > kMaxAncestors) {
    return malformed();
  }
  token.lineage.insert(token.lineage.end(), ancestors->begin(), ancestors->end());
  token.groups = std::move(*groups);
  if (const auto it = own.find("claims"); it != own.end()) {
    if (!it->is_object()) return malformed();
    for (const auto& [claim, values] : it->items()) {
      auto read = texts_of(*it, claim.c_str());
      if (!read) return malformed();
      token.attributes.emplace(claim, std::move(*read));
    }
  }
  if (const auto* scope = text_of(own, "scope")) {
    POSTERN_TRY(token.scope, scope_in(scope));
  }
  if (const auto it = own.find("within"); it != own.end()) {
    if (!it->is_object()) return malformed();
    for (const auto& [backend, scope] : it->items()) {
      POSTERN_TRY(token.own->within[backend], scope_in(scope.get_ptr<const std::string*>()));
    }
  }
  if (const auto it = own.find("may_act"); it != own.end()) {
    if (!it->is_object()) return malformed();
    token.may_act = *it;
  }
  if (const auto it = own.find("iat"); it != own.end()) {
    token.own->rooted_at = token::numeric_date(*it);
    if (!token.own->rooted_at) return malformed();
  }
  if (own.contains("whole")) {
    token.own->whole = texts_of(own, "whole");
    if (!token.own->whole) return malformed();
  }
  const auto epoch = own.find("epoch");
  if (epoch == own.end() || !epoch->is_number_unsigned()) return malformed();
  token.own->epoch = epoch->get<std::uint64_t>();
  return {};
}

}  // namespace

Result<std::string> own_claim(const policy::TenantSnapshot& snapshot, const VerifiedToken& subject,
                              const VerifiedToken* actor) {
  auto ancestors = subject.lineage;
  if (actor != nullptr) {
    ancestors.insert(ancestors.end(), actor->lineage.begin(), actor->lineage.end());
  }
  if (ancestors.empty()) return fail(ErrorCode::Internal, "", "a subject token without an id");
  // Never cut short: an id that is left out is a revocation that is missed.
  if (ancestors.size() > kMaxAncestors) {
    return fail(ErrorCode::MalformedRequest, "the token would rest on too many others");
  }
  JsonObjectText own;
  own.strings("ancestors", ancestors).string("iss", subject.principal.issuer);
  if (subject.principal.subject != subject.issued_subject) {
    own.string("sub", subject.principal.subject);
  }
  // A decision point judges by all that the user's own token says, not by what is
  // bound here: the next exchange must tell it no less.
  const bool whole = snapshot.settings().guardrails.decision_point.has_value();
  if (whole && !subject.own) {
    const auto& names = snapshot.binding_claims();
    own.strings("whole", {names.begin(), names.end()});
  } else if (subject.own && subject.own->whole) {
    own.strings("whole", *subject.own->whole);
  }
  std::vector<std::string> groups;
  for (const auto& group : subject.groups) {
    if (whole || snapshot.binds(group)) groups.push_back(group);
  }
  if (!groups.empty()) own.strings("groups", groups);
  JsonObjectText claims;
  for (const auto& [claim, values] : subject.attributes) {
    std::vector<std::string> bound;
    for (const auto& value : values) {
      if (whole || snapshot.binds_claim(claim, value)) bound.push_back(value);
    }
    if (!bound.empty()) claims.strings(claim, bound);
  }
  if (!claims.empty()) own.json("claims", claims.str());
  // Whom the user's token lets act may not pass that on to others. What is too
  // large to carry names nobody (RFC 8693 §4.4), which is the safe side.
  if (!subject.may_act.is_null()) {
    const auto text = token::dump_json(subject.may_act);
    own.json("may_act", text.size() <= 512 ? std::string_view(text) : "{}");
  }
  // Scopes that no backend of the tenant has can never be granted.
  if (subject.scope) own.string("scope", subject.scope->intersect(snapshot.all_scopes()).str());
  // Groups were left out at the first exchange; what was bound later is unknown since.
  own.json("epoch", std::to_string(subject.own ? subject.own->epoch : snapshot.epoch()));
  const auto rooted_at = subject.own ? subject.own->rooted_at : subject.issued_at;
  if (rooted_at) own.number("iat", rooted_at->time_since_epoch().count());
  if (subject.own && !subject.own->within.empty()) {
    JsonObjectText within;
    for (const auto& [backend, scope] : subject.own->within) within.string(backend, scope.str());
    own.json("within", within.str());
  }
  return own.str();
}

std::string foreign_token_id(const TenantId& tenant, std::string_view compact) {
  // A JWS but for its signature; whatever is no JWS, whole.
  const auto dots = std::count(compact.begin(), compact.end(), '.');
  const auto signed_part = dots == 2 ? compact.substr(0, compact.rfind('.')) : compact;
  const auto digest = crypto::sha256_parts(
      {as_bytes("postern-token-id-v1"), as_bytes(tenant.str()), as_bytes(signed_part)});
  return "x:" + crypto::base64url(ByteView(digest).first(16));
}

Result<VerifiedToken> OwnTokens::read(const policy::TenantSnapshot& snapshot,
                                      const token::UnverifiedJwt& jwt) const {
  if (!snapshot.enabled()) return refused("this tenant is disabled");
  if (jwt.claimed_issuer() != snapshot.issuer_url()) return malformed();
  if (jwt.typ() != "at+jwt") return refused(std::string(kWrongKind));
  POSTERN_TRY(auto claims, jwt.verify(snapshot.own_keys()));

  const auto now = clock_.now();
  const auto time = [&](const char* name) {
    const auto it = claims.find(name);
    return it != claims.end() ? token::numeric_date(*it) : std::nullopt;
  };
  const auto expires_at = time("exp");
  const auto issued_at = time("iat");
  const auto* subject = text_of(claims, "sub");
  const auto* audience = text_of(claims, "aud");
  const auto* client = text_of(claims, "client_id");
  const auto* id = text_of(claims, "jti");
  if (!expires_at || !issued_at || subject == nullptr || audience == nullptr || client == nullptr ||
      id == nullptr || id->empty() || id->size() > 100) {
    return malformed();
  }
  if (*expires_at <= now) return refused("the token has expired");
  if (*issued_at > now + kSkew) return refused("the token was issued in the future");

  VerifiedToken token;
  token.issued_subject = *subject;
  token.audiences = {*audience};
  token.authorized_party = *client;
  token.typ = jwt.typ();
  token.kind = TokenKind::Access;
  token.issued_at = issued_at;
  token.expires_at = *expires_at;
  token.fingerprint = *id;
  token.lineage = {*id};
  if (const auto it = claims.find("act"); it != claims.end()) token.act = *it;
  if (const auto it = claims.find("cnf"); it != claims.end()) {
    POSTERN_TRY(token.bound_to, read_confirmation(*it));
  }
  token.auth_context = Json::object();
  for (const char* name : {"auth_time", "acr", "amr"}) {
    if (const auto it = claims.find(name); it != claims.end()) token.auth_context[name] = *it;
  }
  POSTERN_CHECK(read_tools(claims, token));
  token.own = VerifiedToken::Own{};
  POSTERN_TRY(token.own->scope, scope_in(text_of(claims, "scope")));
  if (const auto* backend = snapshot.resolve(*audience)) {
    token.own->backend = backend->name.str();
  }
  if (const auto own = claims.find(kOwnClaim); own != claims.end()) {
    POSTERN_CHECK(read_own_claim(*own, token));
  } else {
    if (*subject != *client) return malformed();
    token.principal = {snapshot.issuer_url(), *subject};
    token.own->of_client = true;
  }
  // What was granted last is the narrowest.
  if (!token.own->backend.empty()) token.own->within[token.own->backend] = token.own->scope;
  token.own->claims = std::move(claims);
  return token;
}

Status OwnTokens::check(const policy::TenantSnapshot& snapshot, const VerifiedToken& token) const {
  const auto& own = *token.own;
  if (own.backend.empty()) return refused("the token's backend is not open any more");
  const auto* client = snapshot.client_of_token(token.authorized_party);
  if (client == nullptr || !client->enabled) return refused("the token's client is disabled");
  if (!own.of_client) {
    const auto* issuer = snapshot.find_issuer(token.principal.issuer);
    if (issuer == nullptr) return refused("the token's issuer is not trusted by this tenant");
    const auto& config = issuer->config;
    // The prefix may have changed: then `sub` may by now be somebody else's.
    if (config.subject_prefix + token.principal.subject != token.issued_subject ||
        snapshot.client_of_token(token.issued_subject) != nullptr) {
      return refused("the token names its subject as it was named before");
    }
    if (config.max_token_age &&
        (!own.rooted_at || clock_.now() - *own.rooted_at > *config.max_token_age + kSkew)) {
      return refused("the token is older than its issuer's limit here");
    }
    if (snapshot.groups_denied_at() > own.epoch) {
      return refused("groups were denied since the token was issued; send the user's own token");
    }
    if (snapshot.disabled(token.principal, token.groups, token.attributes)) {
      return refused("this user is disabled");
    }
  }
  return check_revocation(snapshot.tenant(), token);
}

Status OwnTokens::check_revocation(const TenantId& tenant, const VerifiedToken& token) const {
  POSTERN_TRY(const auto revoked, revocations_.any_revoked(tenant, token.lineage));
  if (revoked) return refused("the token has been revoked");
  return {};
}

Result<policy::ScopeSet> OwnTokens::scope(const policy::TenantSnapshot& snapshot,
                                          const VerifiedToken& token) const {
  const auto* client = snapshot.client_of_token(token.authorized_party);
  const auto* backend = snapshot.find_backend(token.own->backend);
  if (client == nullptr || !client->enabled || backend == nullptr || !backend->enabled ||
      !client->backends.contains(backend->name.str())) {
    return fail(ErrorCode::TargetRefused, "the token's backend is not open to its client");
  }
  POSTERN_TRY(auto permitted,
              token.own->of_client
                  ? policy::permitted_scope_of_client(*client, *backend)
                  : policy::permitted_scope(snapshot, *client, *backend, token.rights()));
  auto left = permitted.intersect(token.own->scope);
  if (left.empty() && !token.own->scope.empty()) {
    return fail(ErrorCode::ScopeRefused, "nothing of the token's scope is permitted any more");
  }
  return left;
}

bool tells_all(const policy::TenantSnapshot& snapshot, const VerifiedToken& token) {
  if (!token.own || token.own->of_client) return true;
  const auto& whole = token.own->whole;
  const auto& claims = snapshot.binding_claims();
  return whole && std::all_of(claims.begin(), claims.end(), [&](const std::string& claim) {
           return std::find(whole->begin(), whole->end(), claim) != whole->end();
         });
}

bool may_present(const policy::Client& client, const VerifiedToken& token) {
  return client.id.str() == token.authorized_party ||
         (!token.own->backend.empty() && client.introspects.contains(token.own->backend));
}

Result<policy::ScopeSet> within_chain(const VerifiedToken& subject, const policy::Backend& backend,
                                      policy::ScopeSet permitted) {
  if (!subject.own) return permitted;
  const auto earlier = subject.own->within.find(backend.name.str());
  if (earlier == subject.own->within.end()) return permitted;
  permitted = permitted.intersect(earlier->second);
  if (permitted.empty() && !backend.scopes.empty()) {
    return fail(ErrorCode::ScopeRefused, "the subject token leaves nothing at this backend");
  }
  return permitted;
}

}  // namespace postern::grants
