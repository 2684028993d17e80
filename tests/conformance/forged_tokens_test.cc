// RFC 7515, 7518, 7519, 8725 at large: many random forgeries, of which none may
// pass, and many legal spellings of genuine tokens, of which all must.
//
//   POSTERN_PROPERTY_RUNS   4 forgeries for each and one genuine token for each 2.5
//                           (default 5000; 250000 makes a million and 100,000)
//   POSTERN_PROPERTY_SEED   to repeat a run (printed on failure)

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "crypto/base64url.h"
#include "support/code_of.h"
#include "support/from_environment.h"
#include "support/grants_fixture.h"

namespace postern {
namespace {

using crypto::Algorithm;
using policy::SubjectTokenType;
using test::from_environment;
using test::GrantsFixture;
using test::seconds_of;
using token::Json;
using namespace std::chrono_literals;

constexpr Algorithm kAlgorithms[] = {
    Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384,
    Algorithm::PS512, Algorithm::ES256, Algorithm::ES384, Algorithm::ES512, Algorithm::EdDSA};

std::string encoded(std::string_view text) { return crypto::base64url(as_bytes(text)); }

struct Key {
  explicit Key(Algorithm algorithm) : signing(crypto::SigningKey::generate(algorithm)) {
    jwk = token::public_jwk(signing);
    kid = jwk.at("kid").get<std::string>();
  }
  std::string name() const { return std::string(crypto::to_string(signing.algorithm())); }
  crypto::SigningKey signing;
  Json jwk;
  std::string kid;
};

/// The three parts of a compact token, as they will be joined.
struct Parts {
  std::string header, payload, signature;
  std::string text() const { return header + "." + payload + "." + signature; }
};

struct Forge : GrantsFixture {
  explicit Forge(std::uint64_t seed) : random(seed) {
    Json set{{"keys", Json::array()}};
    for (const auto algorithm : kAlgorithms) {
      keys.push_back(std::make_unique<Key>(algorithm));
      set["keys"].push_back(keys.back()->jwk);
    }
    for (const auto algorithm : {Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA}) {
      strangers.push_back(std::make_unique<Key>(algorithm));
    }
    partner = std::make_unique<Key>(Algorithm::ES256);
    Json names = Json::array();
    for (const auto algorithm : kAlgorithms) names.push_back(crypto::to_string(algorithm));
    issuer()["jwks"] = set;
    issuer()["algorithms"] = names;
    manifest["issuers"].push_back({{"name", "partner"},
                                   {"issuer", "https://idp.partner.example"},
                                   {"jwks", {{"keys", Json::array({partner->jwk})}}},
                                   {"audiences", {"gw-01"}},
                                   {"subject_prefix", "partner:"}});
    load();
    for (const auto& key : keys) {
      for (int i = 0; i < 4; ++i) genuine.push_back(sign(*key, plain_header(*key), base_claims()));
    }
  }

  // ---- chance ----
  std::size_t below(std::size_t bound) { return random() % bound; }
  bool chance(std::size_t percent) { return below(100) < percent; }
  template <class T>
  const T& one(const std::vector<T>& from) {
    return from[below(from.size())];
  }
  /// A key of ours; seldom a slow one.
  const Key& any_key() { return chance(85) ? *keys[chance(50) ? 9 : 6] : *keys[below(10)]; }
  std::string junk(std::size_t most) {
    std::string out(1 + below(most), ' ');
    for (auto& c : out) c = static_cast<char>('a' + below(26));
    return out;
  }

  // ---- genuine tokens ----
  Json base_claims() {
    auto claims = this->claims("user-" + std::to_string(random() % 100'000));
    claims["jti"] = junk(20);
    return claims;
  }
  static Json plain_header(const Key& key) {
    return {{"alg", key.name()}, {"kid", key.kid}, {"typ", "JWT"}};
  }
  static Parts sign_text(const Key& key, const std::string& header, const std::string& payload) {
    Parts parts{encoded(header), encoded(payload), ""};
    parts.signature =
        crypto::base64url(key.signing.sign(as_bytes(parts.header + "." + parts.payload)));
    return parts;
  }
  static Parts sign(const Key& key, const Json& header, const Json& claims) {
    return sign_text(key, header.dump(), claims.dump());
  }
  Result<grants::VerifiedTokenPtr> verify_as(const std::string& token, SubjectTokenType type) {
    return verifier.verify(*snapshot, caller(), token, type, grants::Wait::Yes);
  }

  // ---- forgeries, by family ----
  std::string broken_signature();
  std::string algorithm_confusion();
  std::string edited_after_signing();
  std::string by_a_stranger();
  std::string genuine_key_wrong_claims();
  std::string genuine_key_wrong_header();
  std::string odd_encoding();

  std::mt19937_64 random;
  std::vector<std::unique_ptr<Key>> keys, strangers;
  std::unique_ptr<Key> partner;
  std::vector<Parts> genuine;
};

std::string Forge::broken_signature() {
  Parts parts = one(genuine);
  auto bytes = crypto::base64url_decode(parts.signature).value();
  const auto put = [&] { parts.signature = crypto::base64url(bytes); };
  switch (below(11)) {
    case 0:
      bytes[below(bytes.size())] ^= static_cast<std::byte>(1 << below(8));
      put();
      break;
    case 1:
      bytes.resize(below(bytes.size()));
      put();
      break;
    case 2:
      bytes.push_back(static_cast<std::byte>(below(256)));
      put();
      break;
    case 3:
      std::fill(bytes.begin(), bytes.end(), std::byte{0});
      put();
      break;  // CVE-2022-21449
    case 4:
      std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
      put();
      break;
    case 5:  // S before R
      std::rotate(bytes.begin(), bytes.begin() + static_cast<long>(bytes.size() / 2), bytes.end());
      put();
      break;
    case 6: {  // DER instead of R || S
      Bytes der{std::byte{0x30}, static_cast<std::byte>(bytes.size() + 4), std::byte{2},
                static_cast<std::byte>(bytes.size() / 2)};
      der.insert(der.end(), bytes.begin(), bytes.begin() + static_cast<long>(bytes.size() / 2));
      der.push_back(std::byte{2});
      der.push_back(static_cast<std::byte>(bytes.size() / 2));
      der.insert(der.end(), bytes.begin() + static_cast<long>(bytes.size() / 2), bytes.end());
      bytes = der;
      put();
      break;
    }
    case 7: {  // another token's
      const auto& other = one(genuine);
      if (other.payload == parts.payload)
        bytes.pop_back(), put();
      else
        parts.signature = other.signature;
      break;
    }
    case 8: parts.signature.clear(); break;
    case 9:
      for (auto& b : bytes) b = static_cast<std::byte>(below(256));
      put();
      break;
    default: {  // bits that the last character does not use
      const auto used = parts.signature.size() % 4;
      constexpr std::string_view kAlphabet =
          "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
      if (used == 2 || used == 3) {
        auto& last = parts.signature.back();
        last = kAlphabet[kAlphabet.find(last) | (1 + below(used == 2 ? 15 : 3))];
      } else {
        parts.signature += 'A';
      }
    }
  }
  return parts.text();
}

std::string Forge::algorithm_confusion() {
  const auto& key = any_key();
  Json header = plain_header(key);
  const std::string payload = encoded(base_claims().dump());
  const auto hmac = [&](const EVP_MD* hash, const std::string& secret, const std::string& input) {
    unsigned char out[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    HMAC(hash, secret.data(), static_cast<int>(secret.size()),
         reinterpret_cast<const unsigned char*>(input.data()), input.size(), out, &size);
    return crypto::base64url(ByteView(reinterpret_cast<const std::byte*>(out), size));
  };
  if (chance(50)) {
    // The public key as a shared secret, in whatever spelling.
    const auto& jwk = key.jwk;
    const auto main = jwk.contains("n") ? jwk["n"].get<std::string>() : jwk["x"].get<std::string>();
    const auto raw = crypto::base64url_decode(main).value();
    const auto der64 = crypto::base64(raw);
    const std::vector<std::string> secrets{
        jwk.dump(),
        main,
        std::string(as_text(raw)),
        key.kid,
        "-----BEGIN PUBLIC KEY-----\n" + der64 + "\n-----END PUBLIC KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\n" + der64 + "\n-----END PUBLIC KEY-----",
        snapshot->find_issuer(idp.issuer())->config.jwks,
        "",
        "secret"};
    const std::pair<const char*, const EVP_MD*> macs[] = {
        {"HS256", EVP_sha256()}, {"HS384", EVP_sha384()}, {"HS512", EVP_sha512()}};
    const auto& [name, hash] = macs[below(3)];
    // Also under the key's own algorithm name.
    if (chance(80)) header["alg"] = name;
    const auto head = encoded(header.dump());
    return head + "." + payload + "." + hmac(hash, one(secrets), head + "." + payload);
  }
  const std::vector<Json> algorithms{"none",
                                     "None",
                                     "NONE",
                                     "nOnE",
                                     "none ",
                                     "",
                                     nullptr,
                                     1,
                                     true,
                                     Json::array({key.name()}),
                                     Json::object(),
                                     "HS256",
                                     "RS1",
                                     "ES256K",
                                     "A128KW",
                                     "dir",
                                     key.name() + " ",
                                     "eddsa",
                                     "rs256",
                                     "ED25519",
                                     "Ed448",
                                     "\t" + key.name()};
  header["alg"] = one(algorithms);
  if (chance(10)) header.erase("alg");
  // Signed by the genuine key, not signed, or signed with junk.
  Parts parts = sign_text(key, header.dump(), base_claims().dump());
  if (header.contains("alg") && header["alg"] == Json(key.name())) parts.signature.clear();
  if (chance(40))
    parts.signature.clear();
  else if (chance(30))
    parts.signature = encoded(junk(64));
  return parts.text();
}

std::string Forge::edited_after_signing() {
  Parts parts = one(genuine);
  const bool in_header = chance(20);
  auto& part = in_header ? parts.header : parts.payload;
  const auto bytes = crypto::base64url_decode(part).value();
  Json json = Json::parse(as_text(bytes));
  const auto before = json;
  if (in_header) {
    static const std::vector<std::string> kMembers{"typ", "cty", "x", "kid"};
    const auto& member = one(kMembers);
    json[member] = member == "typ" ? "at+jwt" : member == "kid" ? one(keys)->kid : junk(10);
  } else {
    switch (below(6)) {
      case 0: json["sub"] = junk(12); break;
      case 1:
        json["exp"] = json["exp"].get<std::int64_t>() + 1 + static_cast<int>(below(100'000));
        break;
      case 2: json["groups"] = {"engineering", junk(8)}; break;
      case 3: json["scope"] = "files:write " + junk(4); break;
      case 4: json.erase(one(std::vector<std::string>{"jti", "groups", "iat"})); break;
      default: json[junk(5)] = junk(20);
    }
  }
  if (json == before) json["x"] = 1;
  part = encoded(json.dump());
  return parts.text();
}

std::string Forge::by_a_stranger() {
  const bool is_partner = chance(25);
  const Key& signer = is_partner ? *partner : *one(strangers);
  Json header{{"alg", signer.name()}, {"typ", "JWT"}};
  switch (below(5)) {
    case 0: header["kid"] = one(keys)->kid; break;
    case 1: header["kid"] = signer.kid; break;
    case 2: break;
    case 3:
      header["kid"] =
          one(std::vector<std::string>{"../../../dev/null", "' OR '1'='1", "0", "",
                                       "https://evil.example/key", std::string(128, 'k')});
      break;
    default: header["kid"] = partner->kid;
  }
  // RFC 8725 §3.10: keys that the token brings along.
  if (chance(40)) header["jwk"] = signer.jwk;
  if (chance(20)) header["jku"] = "https://evil.example/jwks.json";
  if (chance(20)) header["x5u"] = "https://evil.example/cert.pem";
  if (chance(20)) header["x5c"] = {crypto::base64(as_bytes(junk(60)))};
  if (chance(20)) header["x5t#S256"] = encoded(junk(32));
  auto claims = base_claims();
  if (!is_partner && chance(20)) claims["iss"] = "https://idp.partner.example";
  if (chance(10)) claims["iss"] = "https://evil.example";
  return sign(signer, header, claims).text();
}

std::string Forge::genuine_key_wrong_claims() {
  const auto& key = any_key();
  auto claims = base_claims();
  const auto now = seconds_of(clock.now());
  static const std::vector<Json> kNeverAName{nullptr,
                                             true,
                                             false,
                                             0,
                                             -1,
                                             1.5,
                                             1e30,
                                             "",
                                             Json::object(),
                                             Json::array({1}),
                                             Json::array({""}),
                                             Json::array({nullptr}),
                                             Json({{"a", 1}}),
                                             std::string(2000, 'x')};
  static const std::vector<Json> kNeverATime{nullptr,
                                             true,
                                             false,
                                             -1,
                                             1e30,
                                             "text",
                                             "",
                                             Json::array(),
                                             "1790000300",
                                             Json::object(),
                                             Json::array({1790000300}),
                                             18446744073709551615ULL,
                                             -0.5};
  switch (below(14)) {
    case 0: claims["iss"] = one(kNeverAName); break;
    case 1:
      claims["iss"] = one(std::vector<std::string>{
          idp.issuer() + "/", idp.issuer() + " ", "HTTPS://idp.acme.example", "idp.acme.example",
          "https://sts.example.com/t/acme", "https://sts.example.com/t/other", junk(10)});
      break;
    case 2: claims["aud"] = one(kNeverAName); break;
    case 3: claims["aud"] = {junk(8), "GW-01", "gw-01 ", "gw-0"}; break;
    case 4: claims["exp"] = one(kNeverATime); break;
    case 5: claims["exp"] = now - static_cast<int>(below(100'000)); break;
    case 6:
      claims["nbf"] =
          chance(50) ? one(kNeverATime) : Json(now + 61 + static_cast<int>(below(9999)));
      break;
    case 7:
      claims["iat"] =
          chance(50) ? one(kNeverATime) : Json(now + 61 + static_cast<int>(below(9999)));
      break;
    case 8:
      claims["sub"] =
          one(std::vector<Json>{nullptr, true, 7, "", Json::array({"alice"}), std::string(256, 'a'),
                                "gw-01", "partner:bob", "a\nb", "a\x7f"});
      break;
    case 9:
      claims[one(std::vector<std::string>{"cnf", "events"})] =
          one(std::vector<Json>{nullptr,
                                true,
                                "",
                                Json::object(),
                                {{"jkt", std::string(43, 'k')}},
                                {{"x5t#S256", std::string(43, 'k')}},
                                {{"kid", "x"}}});
      break;
    case 10:
      claims["act"] = one(std::vector<Json>{nullptr,
                                            "agent",
                                            Json::array(),
                                            Json::object(),
                                            {{"sub", 1}},
                                            {{"sub", "a"}, {"exp", 1}},
                                            {{"sub", "a"}, {"act", nullptr}},
                                            {{"iss", "x"}}});
      break;
    case 11: claims["may_act"] = one(std::vector<Json>{nullptr, "x", 1, Json::array()}); break;
    case 12:
      claims["groups"] = one(std::vector<Json>{
          nullptr, 1, Json::object(), {1}, {""}, "partner:staff", {"a", "partner:x"}});
      break;
    default: claims.erase(one(std::vector<std::string>{"iss", "sub", "aud", "exp"}));
  }
  return sign(key, plain_header(key), claims).text();
}

std::string Forge::genuine_key_wrong_header() {
  const auto& key = any_key();
  Json header = plain_header(key);
  const auto claims = base_claims();
  switch (below(6)) {
    case 0:
      header["crit"] = one(std::vector<Json>{{"exp"}, {"b64"}, Json::array(), nullptr, "x", {"x"}});
      if (chance(50)) header["b64"] = false;
      if (chance(50)) header["x"] = 1;
      break;
    case 1:
      header[one(std::vector<std::string>{"b64", "zip"})] =
          one(std::vector<Json>{false, true, "DEF"});
      break;
    case 2:
      header["typ"] = one(std::vector<Json>{
          "dpop+jwt", "logout+jwt", "secevent+jwt", "id_token+jwt", "oauth-id-jag+jwt",
          "client-authentication+jwt", "token-introspection+jwt", "JWT ", "at+jwt2", 1, nullptr,
          Json::array({"JWT"}), std::string(65, 'j')});
      break;
    case 3:
      header["kid"] = one(std::vector<Json>{nullptr, 1, Json::array(), std::string(129, 'k'),
                                            "unknown", "", key.kid + "x"});
      break;
    case 4: {  // a key for one algorithm, a header that names its sister
      static const std::map<std::string, std::vector<std::string>> kSisters{
          {"ES256", {"ES384", "ES512", "ES256K", "RS256", "EdDSA"}},
          {"EdDSA", {"ES256", "PS256", "RS512"}}};
      const auto it = kSisters.find(key.name());
      header["alg"] = it != kSisters.end()   ? one(it->second)
                      : key.name()[0] == 'R' ? "PS" + key.name().substr(2)
                                             : "RS" + key.name().substr(2);
      if (key.name() == "ES384" || key.name() == "ES512") header["alg"] = "ES256";
      break;
    }
    default: {  // members twice: the last one wins in lax parsers
      const std::string text = claims.dump();
      const auto twice = one(std::vector<std::string>{
          R"("sub":"mallory")", R"("\u0073ub":"mallory")", R"("exp":9999999999)",
          R"("aud":"gw-01")", R"("iss":"https://idp.acme.example")"});
      if (chance(70)) {
        return sign_text(key, header.dump(), "{" + twice + "," + text.substr(1)).text();
      }
      return sign_text(key, R"({"alg":"none",)" + header.dump().substr(1), text).text();
    }
  }
  return sign(key, header, claims).text();
}

std::string Forge::odd_encoding() {
  Parts parts = one(genuine);
  const auto text = parts.text();
  const auto at = below(text.size() + 1);
  const auto raw = [](const std::string& part) {
    const auto bytes = crypto::base64url_decode(part).value();
    return std::string(as_text(bytes));
  };
  const auto& key = any_key();
  switch (below(13)) {
    case 0:
      return text.substr(0, at) +
             one(std::vector<std::string>{" ", "\n", "\r\n", "\t", "=", "+", "/", "%20", "\xc3\xa4",
                                          std::string(1, '\0')}) +
             text.substr(at);
    case 1: return text.substr(0, below(text.size()));
    case 2: return text + one(std::vector<std::string>{".", "..", ".e30", "=", "==", "A", "AAAA"});
    case 3: return "." + text;
    case 4: return parts.header + ".." + parts.signature;
    case 5: return parts.payload + "." + parts.header + "." + parts.signature;
    case 6:  // padded
      return parts.header + std::string(1 + below(2), '=') + "." + parts.payload + "." +
             parts.signature;
    case 7:  // the JSON serialisation
      return Json{
          {"protected", parts.header}, {"payload", parts.payload}, {"signature", parts.signature}}
          .dump();
    case 8: {  // JSON that is none, correctly signed
      const auto claims = raw(parts.payload);
      const auto odd = one(std::vector<std::string>{
          "\xef\xbb\xbf" + claims, claims + "x", claims + std::string("\0x", 2), claims + claims,
          "[" + claims + "]", "\"" + claims + "\"", claims.substr(0, claims.size() - 1),
          claims.substr(0, claims.size() - 1) + ",}", "{" + claims.substr(1, 20) + "\xff\"}", "",
          "{}", "null", "{'sub':'alice'}",
          claims.substr(0, claims.size() - 1) + R"(,"z":)" + std::string(40, '[') +
              std::string(40, ']') + "}",
          claims.substr(0, claims.size() - 1) + R"(,"z":1e999})",
          claims.substr(0, claims.size() - 1) + ",\"z\":\"\\u0000\"}"});
      return sign_text(key, Forge::plain_header(key).dump(), odd).text();
    }
    case 9: {  // five parts
      return parts.text() + "." + encoded(junk(16)) + "." + encoded(junk(16));
    }
    case 10:
      return std::string(1 + below(20'000), 'A') + "." + parts.payload + "." + parts.signature;
    case 11: {  // one character for another
      auto changed = text;
      auto& c = changed[below(changed.size())];
      c = c == 'A' ? 'B' : 'A';
      // In the signature's last character this may only touch unused bits, which is refused too.
      return changed;
    }
    default: {
      auto changed = text;
      const auto from = below(changed.size()), to = below(changed.size());
      if (changed[from] == changed[to]) return changed + "A";
      std::swap(changed[from], changed[to]);
      return changed;
    }
  }
}

TEST(Rfc8725, NoForgedTokenIsAccepted) {
  const auto seed = from_environment("POSTERN_PROPERTY_SEED", std::random_device{}());
  const auto runs = 4 * from_environment("POSTERN_PROPERTY_RUNS", 5'000);
  SCOPED_TRACE("POSTERN_PROPERTY_SEED=" + std::to_string(seed));
  Forge f(seed);
  for (const auto& parts : f.genuine) ASSERT_TRUE(f.verify(parts.text()).ok());
  const std::vector<std::pair<const char*, std::string (Forge::*)()>> families{
      {"broken signature", &Forge::broken_signature},
      {"algorithm confusion", &Forge::algorithm_confusion},
      {"edited after signing", &Forge::edited_after_signing},
      {"by a stranger", &Forge::by_a_stranger},
      {"genuine key, wrong claims", &Forge::genuine_key_wrong_claims},
      {"genuine key, wrong header", &Forge::genuine_key_wrong_header},
      {"odd encoding", &Forge::odd_encoding}};
  std::uint64_t accepted = 0;
  for (std::uint64_t run = 0; run < runs; ++run) {
    const auto& [name, make] = families[run % families.size()];
    const auto forged = (f.*make)();
    const auto type = static_cast<SubjectTokenType>(f.below(3));
    const auto result = f.verify_as(forged, type);
    if (!result.ok() && result.error().code == ErrorCode::InvalidToken) continue;
    ++accepted;
    ADD_FAILURE() << "run " << run << ", " << name << ": "
                  << (result.ok() ? "accepted" : std::string(to_string(result.error().code)))
                  << "\n"
                  << forged.substr(0, 4000);
    if (accepted > 5) break;
  }
  EXPECT_EQ(accepted, 0u);
  RecordProperty("forged", std::to_string(runs));
  std::cout << "forged tokens: " << runs << ", accepted: " << accepted
            << ", POSTERN_PROPERTY_SEED=" << seed << "\n";
}

/// A genuine token in one of its many legal spellings.
Parts legal(Forge& f, std::string& subject) {
  const Key& key = *f.keys[f.below(10)];
  auto claims = f.base_claims();
  subject = claims["sub"].get<std::string>();
  const auto now = seconds_of(f.clock.now());
  Json header{{"alg", key.name()}};
  if (f.chance(70)) header["kid"] = key.kid;
  if (f.chance(70)) {
    header["typ"] = f.one(std::vector<std::string>{"JWT", "jwt", "at+jwt", "AT+JWT",
                                                   "application/at+jwt", "Application/JWT", ""});
  }
  if (key.name() == "EdDSA" && f.chance(30)) header["alg"] = "Ed25519";  // RFC 9864
  // RFC 7515 §4.1: what we do not use is ignored, not refused.
  if (f.chance(15)) header["cty"] = "JWT";
  if (f.chance(15)) header["jwk"] = key.jwk;
  if (f.chance(10)) header["jku"] = "https://idp.acme.example/jwks";
  if (f.chance(10)) header["x5t"] = encoded(f.junk(20));
  if (f.chance(10)) header["x5c"] = {"MIIB"};
  if (f.chance(10)) header["nonce"] = f.junk(20);
  // NumericDate: whole, fractional, or in exponent form (RFC 7519 §2).
  const auto exp = now + 2 + static_cast<int>(f.below(100'000));
  if (f.chance(20))
    claims["exp"] = static_cast<double>(exp) + 0.5;
  else
    claims["exp"] = exp;
  if (f.chance(30)) claims["nbf"] = now + 60 - static_cast<int>(f.below(1000));
  if (f.chance(20))
    claims["iat"] = static_cast<double>(now) - 0.25;
  else if (f.chance(20))
    claims.erase("iat");
  else if (f.chance(20))
    claims["iat"] = now + 60;
  // `aud`: text or list.
  if (f.chance(40))
    claims["aud"] = {"gw-01"};
  else if (f.chance(40))
    claims["aud"] = {f.junk(9), "gw-01", "https://idp.acme.example/userinfo"};
  if (f.chance(30)) claims["azp"] = "gw-01";
  if (f.chance(30)) claims["client_id"] = f.junk(9);
  // `scope`: text, list, empty or absent.
  switch (f.below(4)) {
    case 0: claims["scope"] = "openid files:read"; break;
    case 1: claims["scope"] = {"files:read", "files:write"}; break;
    case 2: claims["scope"] = ""; break;
    default: break;
  }
  if (f.chance(20)) claims["groups"] = "engineering";
  if (f.chance(20)) claims.erase("groups");
  if (f.chance(20)) {
    Json act{{"sub", "agent"}};
    for (auto depth = f.below(5); depth > 0; --depth)
      act = {{"client_id", f.junk(5)}, {"act", act}};
    claims["act"] = act;
  }
  if (f.chance(10)) claims["may_act"] = {{"sub", "agent"}, {"iss", "https://x.example"}};
  if (f.chance(10)) claims["sub"] = subject = "J\xc3\xb6rg \xf0\x9f\x94\x91 " + f.junk(5);
  if (f.chance(10)) claims["sub"] = subject = std::string(255, 's');
  if (f.chance(20)) claims["realm_access"] = {{"roles", {"a", "b"}}, {"n", {{"m", nullptr}}}};
  if (f.chance(20)) claims["https://acme.example/tier"] = 7;
  if (f.chance(20)) {
    claims["auth_time"] = now - 5;
    claims["acr"] = "2";
    claims["amr"] = {"pwd", "otp"};
  }
  // Blanks between, escapes within: all one JSON.
  const bool ascii = f.chance(30);
  const int indent = f.chance(30) ? static_cast<int>(f.below(4)) : -1;
  auto text = claims.dump(indent, ' ', ascii);
  if (f.chance(10)) text = " \r\n\t" + text + " \n";
  return Forge::sign_text(key, header.dump(f.chance(20) ? 1 : -1), text);
}

TEST(Rfc7519, EveryLegalSpellingOfAGenuineTokenIsAccepted) {
  const auto seed = from_environment("POSTERN_PROPERTY_SEED", std::random_device{}());
  const auto runs = from_environment("POSTERN_PROPERTY_RUNS", 5'000) * 2 / 5;
  SCOPED_TRACE("POSTERN_PROPERTY_SEED=" + std::to_string(seed));
  Forge f(seed);
  std::uint64_t refused = 0;
  for (std::uint64_t run = 0; run < runs && refused < 5; ++run) {
    std::string subject;
    const auto parts = legal(f, subject);
    const auto result = f.verify(parts.text());
    if (result.ok() && result.value()->principal.subject == subject) continue;
    ++refused;
    const auto header = crypto::base64url_decode(parts.header).value();
    const auto payload = crypto::base64url_decode(parts.payload).value();
    ADD_FAILURE() << "run " << run << ": "
                  << (result.ok() ? "another subject" : result.error().detail) << "\n"
                  << as_text(header) << "\n"
                  << as_text(payload);
  }
  std::cout << "genuine tokens: " << runs << ", refused: " << refused
            << ", POSTERN_PROPERTY_SEED=" << seed << "\n";
}

}  // namespace
}  // namespace postern
