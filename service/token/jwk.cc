#include "token/jwk.h"

#include <algorithm>
#include <array>
#include <utility>

#include "crypto/base64url.h"
#include "crypto/hash.h"

namespace postern::token {
namespace {

using crypto::Algorithm;
using crypto::PublicKey;

constexpr std::size_t kMaxKeys = 100;
constexpr std::size_t kMaxKidBytes = 128;
// A token without kid, or a set that repeats one, costs a verification a key.
constexpr std::size_t kMaxCandidates = 16;
// Only private and symmetric keys have these (RFC 7518 §6.2.2, §6.3.2, §6.4; RFC 8037).
constexpr std::array kPrivateMembers = {"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"};

Error malformed(std::string detail) { return fail(ErrorCode::MalformedRequest, std::move(detail)); }

const std::string* text_member(const Json& object, const char* name) {
  const auto member = object.find(name);
  return member == object.end() ? nullptr : member->get_ptr<const std::string*>();
}

Result<Bytes> octets(const Json& jwk, const char* name) {
  const auto* const text = text_member(jwk, name);
  if (text == nullptr) return malformed("a key lacks a member of its type");
  auto bytes = crypto::base64url_decode(*text);
  if (!bytes.ok()) return malformed("a member of a key is not base64url");
  return bytes;
}

/// Nothing for a kty or crv that is none of ours.
std::optional<Result<PublicKey>> public_key(const Json& jwk) {
  const auto* const kty = text_member(jwk, "kty");
  const auto* const crv = text_member(jwk, "crv");
  const auto make = [&]() -> std::optional<Result<PublicKey>> {
    if (*kty == "RSA") {
      const auto n = octets(jwk, "n");
      const auto e = octets(jwk, "e");
      if (!n.ok()) return n.error();
      if (!e.ok()) return e.error();
      return PublicKey::rsa(n.value(), e.value());
    }
    if (crv == nullptr) return std::nullopt;
    if (*kty == "EC" && (*crv == "P-256" || *crv == "P-384" || *crv == "P-521")) {
      const auto x = octets(jwk, "x");
      const auto y = octets(jwk, "y");
      if (!x.ok()) return x.error();
      if (!y.ok()) return y.error();
      return PublicKey::ec(*crv, x.value(), y.value());
    }
    if (*kty == "OKP" && *crv == "Ed25519") {
      const auto x = octets(jwk, "x");
      if (!x.ok()) return x.error();
      return PublicKey::ed25519(x.value());
    }
    return std::nullopt;
  };
  return kty == nullptr ? std::nullopt : make();
}

/// Whether the key says of itself that it is for verifying (RFC 7517 §4.2, §4.3).
bool for_verifying(const Json& jwk) {
  if (jwk.contains("use")) {
    const auto* const use = text_member(jwk, "use");
    if (use == nullptr || *use != "sig") return false;
  }
  const auto operations = jwk.find("key_ops");
  if (operations == jwk.end()) return true;
  return operations->is_array() &&
         std::find(operations->begin(), operations->end(), Json("verify")) != operations->end();
}

}  // namespace

Result<JwkSet> JwkSet::parse(const Json& document, WeakKeys weak) {
  if (!document.is_object()) return malformed("a JWK Set is a JSON object");
  const auto keys = document.find("keys");
  if (keys == document.end() || !keys->is_array())
    return malformed("a JWK Set has an array of keys");
  if (keys->size() > kMaxKeys) return malformed("a JWK Set holds at most 100 keys");

  JwkSet set;
  for (const auto& jwk : *keys) {
    if (!jwk.is_object()) return malformed("a JWK is a JSON object");
    // Whoever publishes this has lost the key: nothing it signs can be trusted.
    for (const char* member : kPrivateMembers) {
      if (jwk.contains(member)) return malformed("a JWK Set holds a private or symmetric key");
    }
    if (!for_verifying(jwk)) continue;

    std::optional<Algorithm> algorithm;
    if (jwk.contains("alg")) {
      const auto* const name = text_member(jwk, "alg");
      if (name != nullptr) algorithm = crypto::parse_algorithm(*name);
      if (!algorithm) continue;
    }
    auto key = public_key(jwk);
    if (!key) continue;

    std::optional<std::string> kid;
    if (key->ok() && jwk.contains("kid")) {
      const auto* const text = text_member(jwk, "kid");
      if (text == nullptr || text->size() > kMaxKidBytes) {
        key = malformed("a kid is text of at most 128 bytes");
      } else {
        kid = *text;
      }
    }
    if (key->ok() && algorithm && !key->value().supports(*algorithm)) {
      key = malformed("the alg of a key does not fit its type");
    }
    if (!key->ok()) {
      if (weak == WeakKeys::Refuse) return std::move(*key).error();
      continue;
    }
    set.keys_.push_back({std::move(kid), algorithm, std::move(*key).value()});
  }
  return set;
}

std::vector<const Jwk*> JwkSet::candidates(Algorithm algorithm,
                                           const std::optional<std::string>& kid) const {
  const auto family_size = std::count_if(
      keys_.begin(), keys_.end(), [&](const Jwk& jwk) { return jwk.key.supports(algorithm); });
  std::vector<const Jwk*> found;
  for (const auto& jwk : keys_) {
    if (!jwk.key.supports(algorithm) || jwk.algorithm.value_or(algorithm) != algorithm) continue;
    const bool fits = !kid || (jwk.kid ? *jwk.kid == *kid : family_size == 1);
    if (fits && found.size() < kMaxCandidates) found.push_back(&jwk);
  }
  return found;
}

bool JwkSet::has_kid(std::string_view kid) const {
  return std::any_of(keys_.begin(), keys_.end(), [&](const Jwk& jwk) { return jwk.kid == kid; });
}

namespace {

/// The members RFC 7638 §3.2 hashes; for OKP, RFC 8037 §2.
Json required_members(const crypto::PublicParameters& parameters) {
  Json jwk = {{"kty", parameters.kty}};
  if (!parameters.crv.empty()) jwk["crv"] = parameters.crv;
  if (!parameters.n.empty()) jwk["n"] = crypto::base64url(parameters.n);
  if (!parameters.e.empty()) jwk["e"] = crypto::base64url(parameters.e);
  if (!parameters.x.empty()) jwk["x"] = crypto::base64url(parameters.x);
  if (!parameters.y.empty()) jwk["y"] = crypto::base64url(parameters.y);
  return jwk;
}

}  // namespace

Json public_jwk(const crypto::SigningKey& key) {
  const auto parameters = key.public_parameters();
  auto jwk = required_members(parameters);
  jwk["kid"] = thumbprint(parameters);
  jwk["use"] = "sig";
  jwk["alg"] = crypto::to_string(key.algorithm());
  return jwk;
}

std::string thumbprint(const crypto::PublicParameters& parameters) {
  // nlohmann/json keeps members sorted and dump_json adds no white space: the
  // form RFC 7638 §3.3 asks for.
  return crypto::base64url(crypto::sha256(as_bytes(dump_json(required_members(parameters)))));
}

Result<std::string> thumbprint(const Json& jwk) {
  const auto* const kty = jwk.is_object() ? text_member(jwk, "kty") : nullptr;
  if (kty == nullptr) return malformed("a JWK names its kty");
  crypto::PublicParameters parameters;
  parameters.kty = *kty;
  if (*kty == "RSA") {
    POSTERN_TRY(parameters.n, octets(jwk, "n"));
    POSTERN_TRY(parameters.e, octets(jwk, "e"));
    return thumbprint(parameters);
  }
  const auto* const crv = text_member(jwk, "crv");
  if (crv == nullptr || (*kty != "EC" && *kty != "OKP")) return malformed("unknown kind of key");
  parameters.crv = *crv;
  POSTERN_TRY(parameters.x, octets(jwk, "x"));
  if (*kty == "EC") {
    POSTERN_TRY(parameters.y, octets(jwk, "y"));
  }
  return thumbprint(parameters);
}

}  // namespace postern::token
