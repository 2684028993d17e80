#include "grants/subject.h"

#include <algorithm>

#include "crypto/base64url.h"
#include "grants/own_token.h"
#include "grants/subject_claims.h"
#include "policy/claim_rules.h"
#include "token/json.h"
#include "token/jws.h"

namespace postern::grants {

using namespace std::chrono_literals;
using policy::SubjectTokenType;
using token::Json;

namespace {

constexpr auto kSkew = 60s;
constexpr auto kLongestAssertion = 3600s + kSkew;
constexpr std::string_view kIdJagType = "oauth-id-jag+jwt";
constexpr std::string_view kTypePrefix = "urn:ietf:params:oauth:token-type:";

Error refused(std::string detail) { return fail(ErrorCode::InvalidToken, std::move(detail)); }

bool one_of(const std::vector<std::string>& list, std::string_view value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

/// Whether the issuer URL lies in this installation: this tenant's or another's.
bool issued_here(const policy::TenantSnapshot& snapshot, std::string_view issuer) {
  const std::string_view own = snapshot.issuer_url();
  return issuer.starts_with(own.substr(0, own.size() - snapshot.tenant().str().size()));
}

/// The issuer to be asked about a token: the one of the tenant that has opaque
/// ones. Null when there is none, or the token can be no such.
const policy::IssuerEntry* issuer_to_ask(const policy::TenantSnapshot& snapshot,
                                         std::string_view token) {
  if (!may_be_opaque(token)) return nullptr;
  for (const auto& [name, issuer] : snapshot.config().issuers) {
    if (issuer.introspection && issuer.enabled) return snapshot.find_issuer(issuer.issuer);
  }
  return nullptr;
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

SubjectVerifier::SubjectVerifier(IssuerKeys& keys, const OwnTokens& own_tokens, const Clock& clock,
                                 Options options)
    : keys_(keys),
      own_tokens_(own_tokens),
      clock_(clock),
      entries_per_shard_(std::max<std::size_t>(1, options.cache_entries / kShards)),
      bytes_per_shard_(options.cache_bytes / kShards) {}

Result<VerifiedTokenPtr> SubjectVerifier::verify(const policy::TenantSnapshot& snapshot,
                                                 const Caller& caller, std::string_view compact,
                                                 SubjectTokenType type, Wait wait, OwnToken own) {
  const auto* asked = opaque_ != nullptr ? issuer_to_ask(snapshot, compact) : nullptr;
  POSTERN_TRY(auto token, asked != nullptr ? verified_opaque(snapshot, *asked, compact, wait)
                                           : verified(snapshot, compact, wait, own));
  POSTERN_CHECK(check_now(snapshot, *token, type));
  if (!proves(caller, token->bound_to)) {
    return refused("the token is bound to a key; no proof of it was sent");
  }
  POSTERN_CHECK(check_presenter(*caller.client, *token, type));
  return token;
}

Result<VerifiedTokenPtr> SubjectVerifier::verify_for_revocation(
    const policy::TenantSnapshot& snapshot, const Caller& caller, std::string_view compact,
    Wait wait) {
  const auto* asked = opaque_ != nullptr ? issuer_to_ask(snapshot, compact) : nullptr;
  POSTERN_TRY(auto token, asked != nullptr ? verified_opaque(snapshot, *asked, compact, wait)
                                           : verified(snapshot, compact, wait));
  POSTERN_CHECK(check_now(snapshot, *token, std::nullopt));
  POSTERN_CHECK(check_presenter(*caller.client, *token, std::nullopt));
  return token;
}

Status SubjectVerifier::check_presenter(const policy::Client& client, const VerifiedToken& token,
                                        std::optional<SubjectTokenType> type) const {
  if (token.own) {
    if (may_present(client, token)) return {};
    return refused("the token was not issued to this client or for its backend");
  }
  const auto presents = [&](std::string_view audience) {
    return audience == client.id.str() || one_of(client.audiences, audience);
  };
  const bool by_audience = std::any_of(token.audiences.begin(), token.audiences.end(), presents);
  // An ID token is for its audience alone; `azp` only narrows it (OpenID Connect Core §2).
  const bool id_token = type == SubjectTokenType::IdToken || token.kind == TokenKind::Id;
  const bool by_party = !id_token && token.authorized_party == client.id.str();
  if (!by_audience && !by_party) {
    return refused("the token was not issued to this client or for its audience");
  }
  if (id_token && token.audiences.size() > 1 && !presents(token.authorized_party)) {
    return refused("the token has several audiences and names another authorised party");
  }
  return {};
}

Result<VerifiedTokenPtr> SubjectVerifier::verify_user(const policy::TenantSnapshot& snapshot,
                                                      std::string_view compact, Wait wait) {
  POSTERN_TRY(auto token, verified(snapshot, compact, wait));
  POSTERN_CHECK(check_now(snapshot, *token, std::nullopt));
  // The declared type is missing here: some type the issuer may send must fit.
  const auto& types = snapshot.find_issuer(token->principal.issuer)->config.token_types;
  const auto takes = [&](SubjectTokenType type) { return types.count(type) > 0; };
  const bool fits = takes(SubjectTokenType::Jwt) ||
                    (token->kind != TokenKind::Id && takes(SubjectTokenType::AccessToken)) ||
                    (token->kind != TokenKind::Access && takes(SubjectTokenType::IdToken));
  if (!fits) return refused("this token type is not accepted from its issuer");
  if (!token->bound_to.empty()) {
    return refused("the token is bound to a key; no proof of it was sent");
  }
  // Somebody who acts for the user is not the user.
  if (!token->act.is_null()) return refused("a delegated token may not be used here");
  return token;
}

Result<VerifiedTokenPtr> SubjectVerifier::verified(const policy::TenantSnapshot& snapshot,
                                                   std::string_view compact, Wait wait,
                                                   OwnToken own) {
  if (!snapshot.enabled()) return refused("this tenant is disabled");
  if (compact.size() > token::kMaxTokenBytes) return refused("the token is too long");
  const auto key = crypto::sha256_parts(
      {as_bytes("postern-token-cache-v1"), as_bytes(snapshot.tenant().str()), as_bytes(compact)});
  if (auto known = recall(snapshot, key)) return known;
  return verify_anew(snapshot, compact, key, wait, own);
}

Result<SubjectVerifier::Opened> SubjectVerifier::open(const policy::TenantSnapshot& snapshot,
                                                      const token::UnverifiedJwt& unverified,
                                                      Wait wait) {
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
  if (config.jwks.empty() && config.jwks_uri.empty() && !config.discovery) {
    return refused("the token's issuer has opaque tokens alone");
  }
  if (std::find(config.algorithms.begin(), config.algorithms.end(), unverified.algorithm()) ==
      config.algorithms.end()) {
    return refused("the token's algorithm is not allowed for its issuer");
  }
  POSTERN_TRY(auto keys, keys_.keys(snapshot.tenant(), *issuer, unverified.kid(), wait));
  POSTERN_TRY(auto claims, unverified.verify(*keys));
  return Opened{issuer, std::move(keys), std::move(claims), unverified.typ()};
}

Result<VerifiedToken> SubjectVerifier::read(const policy::TenantSnapshot& snapshot,
                                            const Opened& opened,
                                            const std::vector<std::string>& expected) const {
  POSTERN_TRY(auto token,
              read_claims(snapshot, opened.issuer->config, opened.claims, expected, clock_.now()));
  token.typ = opened.typ;
  if (token.typ == "at+jwt") {
    if (token.kind == TokenKind::Id) return refused(std::string(kWrongKind));
    token.kind = TokenKind::Access;
  }
  return token;
}

Result<VerifiedTokenPtr> SubjectVerifier::verify_anew(const policy::TenantSnapshot& snapshot,
                                                      std::string_view compact,
                                                      const crypto::Hash256& key, Wait wait,
                                                      OwnToken own) {
  POSTERN_TRY(const auto unverified, token::UnverifiedJwt::parse(compact));
  if (own == OwnToken::Accept && unverified.claimed_issuer() == snapshot.issuer_url()) {
    // Not remembered: its keys and standing are at hand.
    POSTERN_TRY(auto token, own_tokens_.read(snapshot, unverified));
    return std::make_shared<const VerifiedToken>(std::move(token));
  }
  POSTERN_TRY(auto opened, open(snapshot, unverified, wait));
  POSTERN_TRY(auto token, read(snapshot, opened, opened.issuer->config.audiences));
  token.fingerprint = crypto::base64url(ByteView(key).first(16));
  token.lineage = {foreign_token_id(snapshot.tenant(), compact)};

  auto done = std::make_shared<const VerifiedToken>(std::move(token));
  if (done->expires_at > clock_.now()) {
    // Claims as JSON nodes take several times the bytes of their text.
    remember({key,
              done,
              opened.issuer->config.issuer,
              snapshot.epoch(),
              std::move(opened.keys),
              {},
              1024 + 6 * compact.size()});
  }
  return done;
}

Result<VerifiedTokenPtr> SubjectVerifier::verified_opaque(const policy::TenantSnapshot& snapshot,
                                                          const policy::IssuerEntry& issuer,
                                                          std::string_view token, Wait wait) {
  if (!snapshot.enabled()) return refused("this tenant is disabled");
  const auto& config = issuer.config;
  // Who was asked is part of the key: the same text may be another's token too.
  const auto key =
      crypto::sha256_parts({as_bytes("postern-opaque-cache-v1"), as_bytes(snapshot.tenant().str()),
                            as_bytes(config.issuer), as_bytes(token)});
  if (auto known = recall(snapshot, key)) return known;
  if (issued_here(snapshot, config.issuer)) {
    return refused("a token issued here opens nothing here; send the user's own token");
  }
  POSTERN_TRY(const auto claims, opaque_->ask(snapshot.tenant(), issuer, token, wait));
  if (const auto iss = claims.find("iss"); iss != claims.end() && *iss != Json(config.issuer)) {
    return refused("the token is another issuer's");
  }
  const auto now = clock_.now();
  POSTERN_TRY(auto read, read_claims(snapshot, config, claims, config.audiences, now));
  if (read.kind == TokenKind::Id) return refused(std::string(kWrongKind));
  read.kind = TokenKind::Access;
  read.opaque = true;
  read.fingerprint = crypto::base64url(ByteView(key).first(16));
  read.lineage = {foreign_token_id(snapshot.tenant(), token)};
  auto done = std::make_shared<const VerifiedToken>(std::move(read));
  if (config.introspection->cache_for > 0s && done->expires_at > now) {
    remember({key, done, config.issuer, snapshot.epoch(), nullptr,
              std::min(done->expires_at, now + config.introspection->cache_for),
              4096 + 6 * token.size()});
  }
  return done;
}

Result<VerifiedAssertion> SubjectVerifier::verify_assertion(const policy::TenantSnapshot& snapshot,
                                                            const Caller& caller,
                                                            std::string_view compact, Wait wait) {
  if (!snapshot.enabled()) return refused("this tenant is disabled");
  if (compact.size() > token::kMaxTokenBytes) return refused("the token is too long");
  POSTERN_TRY(const auto unverified, token::UnverifiedJwt::parse(compact));
  POSTERN_TRY(const auto opened, open(snapshot, unverified, wait));
  const bool id_jag = opened.typ == kIdJagType;
  // RFC 7523 §3 names the token endpoint too; an ID-JAG is for the issuer only.
  std::vector<std::string> expected{snapshot.issuer_url()};
  if (!id_jag) expected.push_back(snapshot.issuer_url() + "/token");
  POSTERN_TRY(auto token, read(snapshot, opened, expected));
  token.fingerprint = crypto::base64url(
      ByteView(crypto::sha256_parts({as_bytes("postern-assertion-v1"),
                                     as_bytes(snapshot.tenant().str()), as_bytes(compact)}))
          .first(16));
  token.lineage = {foreign_token_id(snapshot.tenant(), compact)};
  VerifiedAssertion assertion;
  assertion.type = id_jag ? SubjectTokenType::IdJag : SubjectTokenType::JwtBearer;
  POSTERN_CHECK(check_now(snapshot, token, assertion.type));
  // Made for us alone: one that others were to get as well may have leaked there.
  if (token.audiences.size() != 1) return refused("the token is for another audience as well");
  if (token.expires_at > clock_.now() + kLongestAssertion) {
    return refused("the token lives longer than an assertion may");
  }
  if (!proves(caller, token.bound_to)) {
    return refused("the token is bound to a key; no proof of it was sent");
  }
  assertion.token = std::move(token);
  POSTERN_CHECK(read_grant(opened.claims, caller.id(), assertion));
  return assertion;
}

Status SubjectVerifier::verify_workload(const policy::TenantSnapshot& snapshot,
                                        const policy::WorkloadRule& rule, std::string_view compact,
                                        Wait wait) {
  if (!snapshot.enabled()) return refused("this tenant is disabled");
  if (compact.size() > token::kMaxTokenBytes) return refused("the token is too long");
  POSTERN_TRY(const auto unverified, token::UnverifiedJwt::parse(compact));
  POSTERN_TRY(const auto opened, open(snapshot, unverified, wait));
  if (opened.issuer->config.name != rule.issuer) return refused("the token is of another issuer");
  POSTERN_TRY(auto token, read(snapshot, opened, {rule.audience}));
  token.lineage = {foreign_token_id(snapshot.tenant(), compact)};
  POSTERN_CHECK(check_now(snapshot, token, std::nullopt));
  // Who acts for a workload, or lacks the key the token is bound to, is not the workload.
  if (!token.act.is_null() || !token.bound_to.empty()) {
    return refused("the token is not the workload's own");
  }
  if (rule.claims.empty() || !policy::satisfies(opened.claims, rule.claims)) {
    return refused("the token is another workload's");
  }
  return {};
}

Status SubjectVerifier::check_now(const policy::TenantSnapshot& snapshot,
                                  const VerifiedToken& token,
                                  std::optional<SubjectTokenType> type) const {
  const auto now = clock_.now();
  // No skew here: nothing that lives longer than this token could be issued.
  if (token.expires_at <= now) return refused("the token has expired");
  if (token.own) {
    if (type == SubjectTokenType::IdToken)
      return refused("an access token was sent as an ID token");
    return own_tokens_.check(snapshot, token);
  }
  const auto* issuer = snapshot.find_issuer(token.principal.issuer);
  if (issuer == nullptr) return refused("the token's issuer is not trusted by this tenant");
  if (snapshot.disabled(token.principal, token.groups, token.attributes)) {
    return refused("this user is disabled");
  }
  POSTERN_CHECK(own_tokens_.check_revocation(snapshot.tenant(), token));
  const auto& config = issuer->config;
  if (config.max_token_age) {
    if (!token.issued_at) return refused("the token does not say when it was issued");
    if (now - *token.issued_at > *config.max_token_age + kSkew) {
      return refused("the token is older than its issuer's limit here");
    }
  }
  // RFC 8725 §3.11: a token of one kind never passes as another.
  if ((token.typ == kIdJagType) != (type == SubjectTokenType::IdJag)) {
    return refused(std::string(kWrongKind));
  }
  if (token.typ != kIdJagType && !token.typ.empty() && token.typ != "jwt" &&
      token.typ != "at+jwt" && !one_of(config.header_types, token.typ)) {
    return refused(std::string(kWrongKind));
  }
  if (!type) return {};
  if (token.opaque && *type != SubjectTokenType::AccessToken) {
    return refused("the token is opaque; only an access_token can be");
  }
  if (config.token_types.count(*type) == 0) {
    return refused("this token type is not accepted from its issuer");
  }
  if (*type == SubjectTokenType::JwtBearer && token.kind == TokenKind::Access) {
    return refused("an access token was sent as an assertion");
  }
  if (*type == SubjectTokenType::IdToken && token.kind == TokenKind::Access) {
    return refused("an access token was sent as an ID token");
  }
  if (*type == SubjectTokenType::AccessToken && token.kind == TokenKind::Id) {
    return refused("an ID token was sent as an access token");
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
  if (current && found.token->opaque) {
    current = clock_.now() < found.until;
  } else if (current) {
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
