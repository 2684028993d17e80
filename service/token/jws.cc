#include "token/jws.h"

#include <algorithm>
#include <utility>

#include "crypto/base64url.h"

namespace postern::token {
namespace {

constexpr std::size_t kMaxKidBytes = 128;
constexpr std::size_t kMaxTypBytes = 64;
constexpr JsonLimits kHeaderLimits{.max_bytes = 8 * 1024, .max_depth = 8, .max_values = 256};
constexpr JsonLimits kClaimsLimits{
    .max_bytes = kMaxTokenBytes, .max_depth = 16, .max_values = 2000};

// Coarse on purpose: an attacker learns nothing from what exactly was wrong.
Error malformed(std::string diagnostic) {
  return fail(ErrorCode::InvalidToken, "the token is malformed", std::move(diagnostic));
}

Result<Json> object_part(std::string_view part, const JsonLimits& limits) {
  const auto bytes = crypto::base64url_decode(part);
  if (!bytes.ok()) return malformed("jws: part is not base64url");
  auto json = parse_json(as_text(bytes.value()), limits);
  if (!json.ok() || !json.value().is_object()) return malformed("jws: part is not a JSON object");
  return json;
}

/// Case-insensitive, and `application/` may be left out (RFC 7515 §4.1.9).
std::string normalised_typ(std::string typ) {
  std::transform(typ.begin(), typ.end(), typ.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  constexpr std::string_view kPrefix = "application/";
  if (typ.starts_with(kPrefix)) typ.erase(0, kPrefix.size());
  return typ;
}

}  // namespace

Result<UnverifiedJwt> UnverifiedJwt::parse(std::string_view compact) {
  if (compact.size() > kMaxTokenBytes) {
    return fail(ErrorCode::InvalidToken, "the token is too long", "jws: too long");
  }
  const auto first = compact.find('.');
  const auto second = first == std::string_view::npos ? first : compact.find('.', first + 1);
  if (second == std::string_view::npos || compact.find('.', second + 1) != std::string_view::npos) {
    return malformed("jws: not three parts");
  }
  POSTERN_TRY(auto header, object_part(compact.substr(0, first), kHeaderLimits));
  // RFC 7515 §4.1.11: extensions that must be understood; we understand none.
  // `b64` (RFC 7797) and `zip` change what the payload is.
  for (const char* member : {"crit", "b64", "zip"}) {
    if (header.contains(member)) return malformed("jws: header asks for an extension");
  }

  UnverifiedJwt jwt;
  const auto alg = header.find("alg");
  if (alg == header.end() || !alg->is_string()) return malformed("jws: no alg");
  const auto algorithm = crypto::parse_algorithm(alg->get_ref<const std::string&>());
  if (!algorithm) {
    return fail(ErrorCode::InvalidToken, "the token is signed with an unsupported algorithm",
                "jws: unsupported alg");
  }
  jwt.algorithm_ = *algorithm;
  if (const auto kid = header.find("kid"); kid != header.end()) {
    if (!kid->is_string() || kid->get_ref<const std::string&>().size() > kMaxKidBytes) {
      return malformed("jws: bad kid");
    }
    jwt.kid_ = kid->get<std::string>();
  }
  if (const auto typ = header.find("typ"); typ != header.end()) {
    if (!typ->is_string() || typ->get_ref<const std::string&>().size() > kMaxTypBytes) {
      return malformed("jws: bad typ");
    }
    jwt.typ_ = normalised_typ(typ->get<std::string>());
  }

  if (const auto jwk = header.find("jwk"); jwk != header.end()) {
    jwt.embedded_key_ = std::move(*jwk);
  }

  auto signature = crypto::base64url_decode(compact.substr(second + 1));
  if (!signature.ok() || signature.value().empty()) return malformed("jws: bad signature part");
  jwt.signature_ = std::move(signature).value();
  POSTERN_TRY(jwt.claims_,
              object_part(compact.substr(first + 1, second - first - 1), kClaimsLimits));
  jwt.signing_input_ = compact.substr(0, second);
  return jwt;
}

std::optional<std::string> UnverifiedJwt::claimed_issuer() const {
  const auto issuer = claims_.find("iss");
  if (issuer == claims_.end() || !issuer->is_string()) return std::nullopt;
  return issuer->get<std::string>();
}

Result<Json> UnverifiedJwt::verify(const JwkSet& keys) const {
  return verify_among(keys.candidates(algorithm_, kid_));
}

Result<Json> UnverifiedJwt::verify_with_only(const JwkSet& keys) const {
  return verify_among(keys.candidates(algorithm_, std::nullopt));
}

Result<Json> UnverifiedJwt::verify_among(const std::vector<const Jwk*>& candidates) const {
  for (const auto* jwk : candidates) {
    if (jwk->key.verify(algorithm_, as_bytes(signing_input_), signature_)) return claims_;
  }
  return fail(ErrorCode::InvalidToken, "the token signature does not verify",
              "jws: no key verifies the signature");
}

namespace {

/// {"alg":…,"kid":…,"typ":…}. Thumbprints and media types stand in JSON as they
/// are, so the usual header is put together without building a value first.
std::string header_text(std::string_view alg, std::string_view kid, std::string_view typ) {
  const auto plain = [](std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '-' || c == '_' || c == '+' || c == '.';
    });
  };
  if (!plain(kid) || !plain(typ)) return dump_json({{"alg", alg}, {"kid", kid}, {"typ", typ}});
  std::string text = R"({"alg":")";
  text.append(alg).append(R"(","kid":")").append(kid).append(R"(","typ":")").append(typ);
  return text.append(R"("})");
}

}  // namespace

std::string sign_jwt(const crypto::SigningKey& key, std::string_view kid, std::string_view typ,
                     const Json& claims) {
  return sign_claims(key, kid, typ, dump_json(claims));
}

std::string sign_claims(const crypto::SigningKey& key, std::string_view kid, std::string_view typ,
                        std::string_view claims) {
  auto token =
      crypto::base64url(as_bytes(header_text(crypto::to_string(key.algorithm()), kid, typ)));
  token += '.';
  token += crypto::base64url(as_bytes(claims));
  const auto signature = key.sign(as_bytes(token));
  token += '.';
  token += crypto::base64url(signature);
  return token;
}

}  // namespace postern::token
