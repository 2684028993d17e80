#include "grants/subject.h"

#include <algorithm>

#include "crypto/base64url.h"
#include "token/json.h"
#include "token/jws.h"

namespace postern::grants {

using namespace std::chrono_literals;
using policy::SubjectTokenType;
using token::Json;

namespace {

constexpr auto kSkew = 60s;
constexpr std::string_view kTypePrefix = "urn:ietf:params:oauth:token-type:";

Error refused(std::string detail) { return fail(ErrorCode::InvalidToken, std::move(detail)); }

bool one_of(const std::vector<std::string>& list, std::string_view value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

/// RFC 6901 §4: `~1` is a slash, `~0` a tilde.
std::string unescaped(std::string_view step) {
  std::string out;
  for (std::size_t i = 0; i < step.size(); ++i) {
    const bool escape = step[i] == '~' && i + 1 < step.size();
    if (escape && (step[i + 1] == '0' || step[i + 1] == '1')) {
      out += step[++i] == '0' ? '~' : '/';
    } else {
      out += step[i];
    }
  }
  return out;
}

/// A mapped claim: top-level name, or JSON pointer. Null when absent.
const Json* claim_at(const Json& claims, const std::string& name) {
  if (name.empty()) return nullptr;
  if (name.front() != '/') {
    const auto it = claims.find(name);
    return it != claims.end() ? &*it : nullptr;
  }
  const Json* node = &claims;
  std::size_t begin = 1;
  while (begin <= name.size()) {
    const auto end = std::min(name.find('/', begin), name.size());
    if (!node->is_object()) return nullptr;
    const auto it = node->find(unescaped(std::string_view(name).substr(begin, end - begin)));
    if (it == node->end()) return nullptr;
    node = &*it;
    begin = end + 1;
  }
  return node;
}

/// A string, or an array of strings, each bounded. Nothing for anything else.
std::optional<std::vector<std::string>> texts(const Json& value, std::size_t max_items) {
  std::vector<std::string> out;
  const auto add = [&](const Json& item) {
    if (!item.is_string()) return false;
    const auto& text = item.get_ref<const std::string&>();
    if (text.empty() || text.size() > 512) return false;
    out.push_back(text);
    return true;
  };
  if (value.is_string()) {
    if (!add(value)) return std::nullopt;
    return out;
  }
  if (!value.is_array() || value.size() > max_items) return std::nullopt;
  for (const auto& item : value) {
    if (!add(item)) return std::nullopt;
  }
  return out;
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
    if (const auto methods = texts(*it, 20)) out["amr"] = *methods;
  }
  return out;
}

/// Whether the issuer URL lies in this installation: this tenant's or another's.
bool issued_here(const policy::TenantSnapshot& snapshot, std::string_view issuer) {
  const std::string_view own = snapshot.issuer_url();
  return issuer.starts_with(own.substr(0, own.size() - snapshot.tenant().str().size()));
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

}  // namespace

Result<SubjectTokenType> parse_token_type(std::string_view urn) {
  if (urn.substr(0, kTypePrefix.size()) == kTypePrefix) {
    const auto name = urn.substr(kTypePrefix.size());
    if (name == "access_token") return SubjectTokenType::AccessToken;
    if (name == "jwt") return SubjectTokenType::Jwt;
    if (name == "id_token") return SubjectTokenType::IdToken;
  }
  return fail(ErrorCode::MalformedRequest,
              "the token type is not supported; use access_token, jwt or id_token");
}

SubjectVerifier::SubjectVerifier(IssuerKeys& keys, const Clock& clock, Options options)
    : keys_(keys),
      clock_(clock),
      entries_per_shard_(std::max<std::size_t>(1, options.cache_entries / kShards)),
      bytes_per_shard_(options.cache_bytes / kShards) {}

Result<VerifiedTokenPtr> SubjectVerifier::verify(const policy::TenantSnapshot& snapshot,
                                                 const policy::Client& client,
                                                 std::string_view compact, SubjectTokenType type,
                                                 Wait wait) {
  POSTERN_TRY(auto token, verified(snapshot, compact, wait));
  POSTERN_CHECK(check_now(snapshot, *token, type));

  const auto presents = [&](std::string_view audience) {
    return audience == client.id.str() || one_of(client.audiences, audience);
  };
  const bool by_audience = std::any_of(token->audiences.begin(), token->audiences.end(), presents);
  // An ID token is for its audience alone; `azp` only narrows it (OpenID Connect Core §2).
  const bool by_party =
      type != SubjectTokenType::IdToken && token->authorized_party == client.id.str();
  if (!by_audience && !by_party) {
    return refused("the token was not issued to this client or for its audience");
  }
  if (type == SubjectTokenType::IdToken && token->audiences.size() > 1 &&
      !presents(token->authorized_party)) {
    return refused("the token has several audiences and names another authorised party");
  }
  return token;
}

Result<VerifiedTokenPtr> SubjectVerifier::verify_user(const policy::TenantSnapshot& snapshot,
                                                      std::string_view compact, Wait wait) {
  POSTERN_TRY(auto token, verified(snapshot, compact, wait));
  POSTERN_CHECK(check_now(snapshot, *token, std::nullopt));
  // The declared type is missing here: some type the issuer may send must fit.
  const auto* issuer = snapshot.find_issuer(token->principal.issuer);
  const auto& types = issuer->config.token_types;
  if (token->typ == "at+jwt" && types.count(SubjectTokenType::AccessToken) == 0 &&
      types.count(SubjectTokenType::Jwt) == 0) {
    return refused("this token type is not accepted from its issuer");
  }
  // Somebody who acts for the user is not the user.
  if (!token->act.is_null()) return refused("a delegated token may not be used here");
  return token;
}

Result<VerifiedTokenPtr> SubjectVerifier::verified(const policy::TenantSnapshot& snapshot,
                                                   std::string_view compact, Wait wait) {
  if (!snapshot.enabled()) return refused("this tenant is disabled");
  if (compact.size() > token::kMaxTokenBytes) return refused("the token is too long");
  const auto key = crypto::sha256_parts(
      {as_bytes("postern-token-cache-v1"), as_bytes(snapshot.tenant().str()), as_bytes(compact)});
  if (auto known = recall(snapshot, key)) return known;
  return verify_anew(snapshot, compact, key, wait);
}

Result<VerifiedTokenPtr> SubjectVerifier::verify_anew(const policy::TenantSnapshot& snapshot,
                                                      std::string_view compact,
                                                      const crypto::Hash256& key, Wait wait) {
  POSTERN_TRY(const auto unverified, token::UnverifiedJwt::parse(compact));
  const auto claimed = unverified.claimed_issuer();
  if (!claimed) return refused("the token names no issuer");
  // Not another tenant's either, whatever this tenant trusts: what was made for a
  // backend never opens a vault.
  if (issued_here(snapshot, *claimed)) {
    return refused("a token issued here opens nothing here; send the user's own token");
  }
  // Issuer first, key second: a kid never chooses between issuers (RFC 8725 §3.8).
  const auto* issuer = snapshot.find_issuer(*claimed);
  if (issuer == nullptr) return refused("the token's issuer is not trusted by this tenant");
  const auto& config = issuer->config;
  if (std::find(config.algorithms.begin(), config.algorithms.end(), unverified.algorithm()) ==
      config.algorithms.end()) {
    return refused("the token's algorithm is not allowed for its issuer");
  }
  POSTERN_TRY(auto keys, keys_.keys(snapshot.tenant(), *issuer, unverified.kid(), wait));
  POSTERN_TRY(const auto claims, unverified.verify(*keys));

  auto token = std::make_shared<VerifiedToken>();
  token->typ = unverified.typ();
  token->fingerprint = crypto::base64url(ByteView(key).first(16));

  const auto number = [&](const char* name) -> Result<std::optional<sys_seconds>> {
    const auto it = claims.find(name);
    if (it == claims.end()) return std::optional<sys_seconds>();
    const auto time = token::numeric_date(*it);
    if (!time) return refused("the token has a malformed time");
    return time;
  };
  POSTERN_TRY(const auto expires_at, number("exp"));
  POSTERN_TRY(const auto not_before, number("nbf"));
  POSTERN_TRY(token->issued_at, number("iat"));
  if (!expires_at) return refused("the token does not say when it expires");
  token->expires_at = *expires_at;
  const auto now = clock_.now();
  if (not_before && *not_before > now + kSkew) return refused("the token is not valid yet");
  if (token->issued_at && *token->issued_at > now + kSkew) {
    return refused("the token was issued in the future");
  }

  const auto aud = claims.find("aud");
  auto audiences = aud != claims.end() ? texts(*aud, 50) : std::nullopt;
  if (!audiences) return refused("the token has no well-formed audience");
  token->audiences = std::move(*audiences);
  const bool expected =
      std::any_of(config.audiences.begin(), config.audiences.end(),
                  [&](const std::string& audience) { return one_of(token->audiences, audience); });
  if (!expected) return refused("the token is for another audience");

  // RFC 8417 §4.6: a security event or logout token, signed with the same keys
  // for the same audience, is no proof of a user.
  if (claims.contains("events")) return refused("the token is of a kind that is not accepted here");

  // RFC 7800, RFC 8705, RFC 9449: a bound token is worth nothing without its proof.
  if (claims.contains("cnf"))
    return refused("the token is bound to a key; no proof of it was sent");

  const auto* subject = claim_at(claims, config.claims.subject);
  if (subject == nullptr || !subject->is_string()) return refused("the token names no subject");
  token->principal = {config.issuer, subject->get<std::string>()};
  const auto& name = token->principal.subject;
  const bool clean = std::all_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
  });
  if (name.empty() || name.size() > 255 || !clean)
    return refused("the token names no usable subject");
  token->issued_subject = config.subject_prefix + name;
  // Backends know users by `sub`: it must not read as a client's or as a user
  // of an issuer with another prefix (RFC 9068 §5).
  if (reads_as_anothers(snapshot, config, token->issued_subject)) {
    return refused("the token's subject could be taken for another issuer's");
  }
  if (snapshot.find_client(token->issued_subject) != nullptr) {
    return refused("the token's subject could be taken for a client");
  }

  if (const auto* groups = claim_at(claims, config.claims.groups)) {
    auto names = texts(*groups, 1000);
    if (!names) return refused("the token's groups are malformed");
    // Bindings name groups alone: one issuer's `admins` are not another's.
    for (auto& group : *names) {
      group.insert(0, config.subject_prefix);
      if (reads_as_anothers(snapshot, config, group)) {
        return refused("the token's groups could be taken for another issuer's");
      }
    }
    token->groups = std::move(*names);
  }
  if (!config.claims.scope.empty()) {
    const auto* scope = claim_at(claims, config.claims.scope);
    if (scope != nullptr) {
      // A string of tokens, or an array of them (some issuers' `scp`).
      std::string joined;
      if (scope->is_string()) {
        joined = scope->get<std::string>();
      } else if (const auto parts = texts(*scope, policy::ScopeSet::kMaxTokens)) {
        for (const auto& part : *parts) joined += part + " ";
      } else {
        return refused("the token's scope is malformed");
      }
      auto parsed = policy::ScopeSet::parse(joined);
      if (!parsed.ok()) return refused("the token's scope is malformed");
      token->scope = std::move(parsed).value();
    }
  }
  token->authorized_party = text_claim(claims, "azp");
  if (token->authorized_party.empty()) token->authorized_party = text_claim(claims, "client_id");
  if (const auto it = claims.find("act"); it != claims.end()) {
    token->act = rebuilt_actor(*it);
    if (token->act.is_null()) return refused("the token's act claim is malformed or too deep");
  }
  if (const auto it = claims.find("may_act"); it != claims.end()) {
    if (!it->is_object()) return refused("the token's may_act claim is malformed");
    token->may_act = *it;
  }
  token->auth_context = rebuilt_auth_context(claims);

  VerifiedTokenPtr done = std::move(token);
  if (done->expires_at > now) {
    // Claims as JSON nodes take several times the bytes of their text.
    remember(
        {key, done, config.issuer, snapshot.epoch(), std::move(keys), 1024 + 6 * compact.size()});
  }
  return done;
}

Status SubjectVerifier::check_now(const policy::TenantSnapshot& snapshot,
                                  const VerifiedToken& token,
                                  std::optional<SubjectTokenType> type) const {
  const auto now = clock_.now();
  // No skew here: nothing that lives longer than this token could be issued.
  if (token.expires_at <= now) return refused("the token has expired");
  const auto* issuer = snapshot.find_issuer(token.principal.issuer);
  if (issuer == nullptr) return refused("the token's issuer is not trusted by this tenant");
  const auto& config = issuer->config;
  if (config.max_token_age) {
    if (!token.issued_at) return refused("the token does not say when it was issued");
    if (now - *token.issued_at > *config.max_token_age + kSkew) {
      return refused("the token is older than its issuer's limit here");
    }
  }
  // RFC 8725 §3.11: a token of one kind never passes as another.
  const bool access_typ = token.typ == "at+jwt";
  if (!token.typ.empty() && token.typ != "jwt" && !access_typ) {
    return refused("the token is of a kind that is not accepted here");
  }
  if (!type) return {};
  if (config.token_types.count(*type) == 0) {
    return refused("this token type is not accepted from its issuer");
  }
  if (*type == SubjectTokenType::IdToken && access_typ) {
    return refused("an access token was sent as an ID token");
  }
  return {};
}

VerifiedTokenPtr SubjectVerifier::recall(const policy::TenantSnapshot& snapshot,
                                         const crypto::Hash256& key) {
  Remembered found;
  {
    auto& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const auto it = shard.index.find(key);
    if (it == shard.index.end()) {
      ++shard.misses;
      return nullptr;
    }
    found = *it->second;
  }
  const auto* issuer = snapshot.find_issuer(found.issuer);
  bool current = issuer != nullptr && found.epoch == snapshot.epoch();
  if (current) {
    // Keys may have been withdrawn: the set must still be the one that verified it.
    const auto keys = keys_.keys(snapshot.tenant(), *issuer, std::nullopt, Wait::No);
    current = keys.ok() && keys.value() == found.keys;
  }
  auto& shard = shard_of(key);
  const std::lock_guard lock(shard.mutex);
  ++(current ? shard.hits : shard.misses);
  return current ? found.token : nullptr;
}

void SubjectVerifier::remember(Remembered entry) {
  auto& shard = shard_of(entry.key);
  const std::lock_guard lock(shard.mutex);
  const auto forget = [&](std::list<Remembered>::iterator old) {
    shard.bytes -= old->cost;
    shard.index.erase(old->key);
    shard.order.erase(old);
  };
  if (const auto it = shard.index.find(entry.key); it != shard.index.end()) forget(it->second);
  while (!shard.order.empty() && (shard.order.size() >= entries_per_shard_ ||
                                  shard.bytes + entry.cost > bytes_per_shard_)) {
    forget(std::prev(shard.order.end()));
  }
  shard.bytes += entry.cost;
  shard.order.push_front(std::move(entry));
  shard.index.emplace(shard.order.front().key, shard.order.begin());
}

SubjectVerifier::Stats SubjectVerifier::stats() const {
  Stats total;
  for (auto& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    total.hits += shard.hits;
    total.misses += shard.misses;
    total.entries += shard.order.size();
  }
  return total;
}

}  // namespace postern::grants
