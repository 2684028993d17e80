#include "grants/dpop.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

#include "crypto/base64url.h"
#include "crypto/hash.h"
#include "token/json.h"
#include "token/jwk.h"
#include "token/jws.h"

namespace postern::grants {

using namespace std::chrono_literals;
using crypto::Algorithm;
using token::Json;

namespace {

constexpr auto kWindow = 300s;
constexpr std::size_t kMaxProofBytes = 8 * 1024;
constexpr std::size_t kMaxIdBytes = 128;
constexpr std::size_t kMaxUrlBytes = 2000;
// What the metadata says (policy/snapshot.cc).
constexpr std::array kAlgorithms{Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA,
                                 Algorithm::RS256, Algorithm::PS256};

Error refused(std::string detail) { return fail(ErrorCode::InvalidDpopProof, std::move(detail)); }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
bool same_letters(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}
int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/// Percent-encoding of unreserved characters undone, of others in upper case.
std::optional<std::string> normalised_path(std::string_view path) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] != '%') {
      out += path[i];
      continue;
    }
    if (i + 2 >= path.size() || hex(path[i + 1]) < 0 || hex(path[i + 2]) < 0) return std::nullopt;
    const int value = hex(path[i + 1]) * 16 + hex(path[i + 2]);
    i += 2;
    const char c = static_cast<char>(value);
    const bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                            (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
    if (unreserved) {
      out += c;
    } else {
      out += '%';
      out += kDigits[static_cast<std::size_t>(value / 16)];
      out += kDigits[static_cast<std::size_t>(value % 16)];
    }
  }
  // Ours have none, and resolving them is where parsers differ.
  for (std::size_t begin = 0; begin < out.size();) {
    const auto end = std::min(out.find('/', begin), out.size());
    const auto segment = std::string_view(out).substr(begin, end - begin);
    if (segment == "." || segment == "..") return std::nullopt;
    begin = end + 1;
  }
  return out;
}

const std::string* text(const Json& claims, const char* name) {
  const auto it = claims.find(name);
  return it != claims.end() ? it->get_ptr<const std::string*>() : nullptr;
}

}  // namespace

std::optional<std::string> normalised_htu(std::string_view url) {
  url = url.substr(0, url.find_first_of("?#"));
  const auto visible = [](char c) { return c > 0x20 && c < 0x7f && c != '"' && c != '\\'; };
  if (url.size() > kMaxUrlBytes || !std::all_of(url.begin(), url.end(), visible)) {
    return std::nullopt;
  }
  const auto colon = url.find("://");
  if (colon == std::string_view::npos) return std::nullopt;
  const bool https = same_letters(url.substr(0, colon), "https");
  if (!https && !same_letters(url.substr(0, colon), "http")) return std::nullopt;
  const auto rest = url.substr(colon + 3);
  const auto slash = std::min(rest.find('/'), rest.size());
  auto authority = rest.substr(0, slash);
  if (authority.find('@') != std::string_view::npos) return std::nullopt;
  const auto bracket = authority.rfind(']');
  const auto port_at = authority.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (port_at != std::string_view::npos) {
    const auto port = authority.substr(port_at + 1);
    if (port.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
    if (port.empty() || port == (https ? "443" : "80")) authority = authority.substr(0, port_at);
  }
  if (authority.empty() || authority.front() == ':') return std::nullopt;
  const auto path = normalised_path(rest.substr(slash));
  if (!path) return std::nullopt;
  std::string out = https ? "https://" : "http://";
  std::transform(authority.begin(), authority.end(), std::back_inserter(out), lower);
  return out + (path->empty() ? "/" : *path);
}

// ---- nonces ----

Result<std::string> DpopNonces::of_slice(const TenantId& tenant, std::int64_t slice) {
  const auto number = std::to_string(slice);
  std::string nonce;
  POSTERN_CHECK(keyring_.with_current(tenant, [&](KekVersion, const Kek& kek) -> Status {
    const auto key = crypto::derive(kek, "dpopnonc");
    const auto mac = crypto::keyed_hash(
        key, {as_bytes("postern-dpop-nonce-v1"), as_bytes(tenant.str()), as_bytes(number)});
    nonce = number + "." + crypto::base64url(ByteView(mac).first(16));
    return {};
  }));
  return nonce;
}

Result<std::string> DpopNonces::current(const TenantId& tenant) {
  return of_slice(tenant, clock_.now().time_since_epoch() / kSlice);
}

Result<bool> DpopNonces::fresh(const TenantId& tenant, std::string_view nonce) {
  std::int64_t slice = 0;
  const auto dot = std::min(nonce.find('.'), nonce.size());
  const auto [stop, error] = std::from_chars(nonce.data(), nonce.data() + dot, slice);
  if (error != std::errc() || stop != nonce.data() + dot) return false;
  const std::int64_t now = clock_.now().time_since_epoch() / kSlice;
  if (slice < now - 1 || slice > now + 1) return false;
  POSTERN_TRY(const auto ours, of_slice(tenant, slice));
  return crypto::equal(ours, nonce);
}

// ---- proofs ----

Result<std::string> DpopProofs::verify(const TenantId& tenant, std::string_view proof,
                                       const DpopExpectation& expected,
                                       policy::ReplayGuard& replays) const {
  if (proof.size() > kMaxProofBytes) return refused("the DPoP proof is too long");
  const auto parsed = token::UnverifiedJwt::parse(proof);
  if (!parsed.ok()) return refused("the DPoP proof is not a well-formed JWT");
  const auto& jwt = parsed.value();
  if (jwt.typ() != "dpop+jwt") return refused("the DPoP proof has another typ than dpop+jwt");
  if (std::find(kAlgorithms.begin(), kAlgorithms.end(), jwt.algorithm()) == kAlgorithms.end()) {
    return refused("the DPoP proof is signed with an unsupported algorithm");
  }
  // Exactly one public key; a set of one is read by the rules for all keys,
  // which refuse private members and weak keys.
  auto jwk = jwt.embedded_key();
  if (!jwk.is_object()) return refused("the DPoP proof lacks the public key");
  jwk.erase("kid");  // means nothing: there is one key
  Json set;
  set["keys"].push_back(jwk);
  const auto keys = token::JwkSet::parse(set, token::JwkSet::WeakKeys::Refuse);
  if (!keys.ok() || keys.value().size() != 1) {
    return refused("the DPoP proof has a key that is not taken");
  }
  const auto verified = jwt.verify_with_only(keys.value());
  if (!verified.ok()) return refused("the signature of the DPoP proof does not verify");
  const auto& claims = verified.value();

  const auto* method = text(claims, "htm");
  if (method == nullptr || *method != expected.method) {
    return refused("the DPoP proof is for another method");
  }
  const auto* url = text(claims, "htu");
  const auto normalised = url != nullptr ? normalised_htu(*url) : std::nullopt;
  const auto ours = normalised_htu(expected.url);
  if (!normalised || !ours || *normalised != *ours) {
    return refused("the DPoP proof is for another URL");
  }
  const auto* id = text(claims, "jti");
  if (id == nullptr || id->empty() || id->size() > kMaxIdBytes) {
    return refused("the DPoP proof has no usable jti");
  }
  const auto iat = claims.find("iat");
  // None counts as 1970, which is outside of any window.
  const auto issued_at =
      (iat != claims.end() ? token::numeric_date(*iat) : std::nullopt).value_or(sys_seconds());
  const auto now = clock_.now();
  if (issued_at < now - kWindow || issued_at > now + kWindow) {
    return refused("the DPoP proof was not made just now; look at the clock, or at its iat");
  }
  if (expected.access_token) {
    const auto* hash = text(claims, "ath");
    if (hash == nullptr ||
        *hash != crypto::base64url(crypto::sha256(as_bytes(*expected.access_token)))) {
      return refused("the DPoP proof is for another access token");
    }
  }
  POSTERN_TRY(const auto thumbprint, token::thumbprint(jwk));
  // Before the nonce, which costs more: NeedsDatabase comes from here. A proof
  // that lacks the nonce is spent too; its client makes another with the nonce.
  const auto digest =
      crypto::sha256_parts({as_bytes(thumbprint), as_bytes(*normalised), as_bytes(*id)});
  POSTERN_TRY(const bool first,
              replays.first_use(tenant, "dpop", digest, issued_at + kWindow + 60s));
  if (!first) return refused("the DPoP proof was used before");
  if (nonce_ == Nonce::Required) {
    const auto* nonce = text(claims, "nonce");
    bool fresh = false;
    if (nonce != nullptr) {
      POSTERN_TRY(fresh, nonces_.fresh(tenant, *nonce));
    }
    if (!fresh) return fail(ErrorCode::UseDpopNonce, "use the nonce of the DPoP-Nonce header");
  }
  return thumbprint;
}

}  // namespace postern::grants
