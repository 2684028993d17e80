// What a JWT must be to be believed, on the wire: RFC 7515 §5.2, 7518 §3.3 and
// 3.4, 7519 §7.2, 8037 §3.1 and 8725 §3. Rows V of docs/conformance.md; each rule by
// itself is in unit/token and unit/grants/subject_test.cc.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "crypto/base64url.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using crypto::Algorithm;

/// Beside corp's ES256: an issuer with an RSA and one with an Ed25519 key, and one
/// whose RSA key says that it is for PS256.
struct World {
  World() {
    const auto trust = [&](const char* name, const Idp& issuer, const Json& jwks) {
      tenant.manifest["issuers"].push_back({{"name", name},
                                            {"issuer", issuer.issuer()},
                                            {"jwks", jwks},
                                            {"audiences", {"gw-01"}},
                                            {"subject_prefix", std::string(name) + ":"}});
    };
    trust("rsa", rsa, rsa.jwks());
    trust("edwards", edwards, edwards.jwks());
    auto pss = other_rsa.jwk();
    pss["alg"] = "PS256";
    trust("pss", other_rsa, {{"keys", Json::array({pss})}});
    tenant.manifest["bindings"][0]["subjects"] = {
        {{"issuer", rsa.issuer()}, {"subject", "alice"}},
        {{"issuer", edwards.issuer()}, {"subject", "alice"}}};
    EXPECT_EQ(tenant.apply().status, 200);
  }
  Json claims(const Idp& issuer) const {
    auto claims = issuer.claims("alice", SystemClock().now());
    claims["groups"] = {"engineering"};
    return claims;
  }

  TestTenant tenant{"rfc8725"};
  const Idp rsa{"https://rsa.example", Algorithm::RS256};
  const Idp other_rsa{"https://pss.example", Algorithm::RS256};
  const Idp edwards{"https://edwards.example", Algorithm::EdDSA};
};

World& world() {
  static World made;
  return made;
}
const Idp& corp() { return world().tenant.idp; }
Json claims() { return world().tenant.claims("alice"); }
Json claims_with(const char* name, const Json& value) {
  auto changed = claims();
  changed[name] = value;
  return changed;
}

std::string encoded(std::string_view text) { return crypto::base64url(as_bytes(text)); }

/// Signed whatever it says.
std::string raw(const std::string& header, const std::string& payload, const Idp& signer = corp()) {
  const auto input = encoded(header) + "." + encoded(payload);
  return input + "." + crypto::base64url(signer.key().sign(as_bytes(input)));
}
Json header(Json more = Json::object()) {
  Json all{{"alg", "ES256"}, {"kid", corp().kid()}, {"typ", "JWT"}};
  all.update(more);
  return all;
}

WireReply show(const std::string& token) { return world().tenant.exchange(token, "files"); }
const auto kTaken = HasStatus(200);
const auto kRefused = IsOAuthError(400, "invalid_request");

// ---- the compact form (RFC 7515 §3.1, 5.2; 7519 §7.2) ----

TEST(Rfc7515_5_2, V1_ThreeBase64urlPartsWithTwoJsonObjectsAreTaken) {
  EXPECT_THAT(show(raw(header().dump(), claims().dump())), kTaken);
  // White space and unknown members inside the JSON are the issuer's own affair.
  EXPECT_THAT(show(raw(header({{"x", 1}}).dump(2), claims_with("x", Json::array({1})).dump(4))),
              kTaken);
}

TEST(Rfc7515_5_2, V1_NoOtherSpellingIsTaken) {
  const auto good = raw(header().dump(), claims().dump());
  ASSERT_THAT(show(good), kTaken);
  const auto first = good.find('.'), second = good.find('.', first + 1);
  auto trailing_bits = good;  // 64 bytes leave four bits of the last character unused
  ++trailing_bits.back();
  for (const auto& token :
       {good.substr(0, second), good.substr(0, second + 1), good + ".", "." + good, good + ".AAAA",
        good + "=", good.substr(0, first) + "=" + good.substr(first), good + " ", "\n" + good,
        std::string(good).insert(second, "\r\n"), std::string(good).insert(first + 3, "+"),
        trailing_bits, std::string("..")}) {
    EXPECT_THAT(show(token), kRefused) << token;
  }
  const auto text = claims().dump();
  for (const auto& [head, payload] :
       Pairs{{"[]", text},
             {header().dump(), "[]"},
             {header().dump(), "null"},
             {header().dump(), text + "{}"},
             {R"({"alg":"ES256","alg":"ES256"})", text},
             {header().dump(), R"({"sub":"bob",)" + text.substr(1)},
             {header().dump(), R"({"act":{"sub":"a","sub":"b"},)" + text.substr(1)},
             {header().dump(), "\xef\xbb\xbf" + text},
             {header().dump(), R"({"x":")"
                               "\xff"
                               R"(",)" +
                                   text.substr(1)}}) {
    EXPECT_THAT(show(raw(head, payload)), kRefused) << head << payload;
  }
}

// ---- algorithms (RFC 8725 §3.1, 3.2) ----

TEST(Rfc8725_3_1, V2_EachKeyServesItsOneAlgorithm) {
  EXPECT_THAT(show(corp().sign(claims())), kTaken);
  EXPECT_THAT(show(world().rsa.sign(world().claims(world().rsa))), kTaken);
  EXPECT_THAT(show(world().edwards.sign(world().claims(world().edwards))), kTaken);
}

TEST(Rfc8725_3_1, V2_NoOtherAlgorithmAndNoneLeastOfAll) {
  const auto text = claims().dump();
  const auto unsigned_input = encoded(R"({"alg":"none"})") + "." + encoded(text) + ".";
  EXPECT_THAT(show(unsigned_input), kRefused);
  EXPECT_THAT(show(unsigned_input + "AAAA"), kRefused);
  for (const char* algorithm : {"none", "None", "HS256", "HS512", "RS256", "PS256", "EdDSA",
                                "ES384", "es256", "ES256K", ""}) {
    EXPECT_THAT(show(raw(header({{"alg", algorithm}}).dump(), text)), kRefused) << algorithm;
  }
  auto nameless = header();
  nameless.erase("alg");
  EXPECT_THAT(show(raw(nameless.dump(), text)), kRefused);
  // The key says PS256, the token RS256, the signature is good.
  EXPECT_THAT(show(world().other_rsa.sign(world().claims(world().other_rsa))), kRefused);
}

TEST(Rfc8725_3_1, V2_AnIssuersListOfAlgorithmsHolds) {
  TestTenant tenant("rfc8725-list");
  tenant.part("issuers", "corp")["algorithms"] = {"RS256"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "files"), kRefused);
  tenant.part("issuers", "corp")["algorithms"] = {"ES256"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "files"), kTaken);
}

TEST(Rfc7515_4_1_11, V3_AnUnknownMemberIsIgnored) {
  EXPECT_THAT(show(raw(header({{"cty", "JWT"}, {"x", {{"y", 1}}}}).dump(), claims().dump())),
              kTaken);
}

TEST(Rfc7515_4_1_11, V3_WhatMustBeUnderstoodIsNot) {
  for (const Json& more : std::vector<Json>{{{"crit", {"exp"}}, {"exp", 1}},
                                            {{"crit", {"b64"}}, {"b64", true}},
                                            {{"crit", Json::array()}},
                                            {{"crit", "exp"}},
                                            {{"crit", {1}}},
                                            {{"crit", nullptr}},
                                            {{"b64", false}},
                                            {{"zip", "DEF"}}}) {
    EXPECT_THAT(show(raw(header(more).dump(), claims().dump())), kRefused) << more;
  }
}

// ---- signatures (RFC 7518 §3.3, 3.4; 8037 §3.1) ----

TEST(Rfc7518_3_4, V4_AnEcdsaSignatureIsSixtyFourBytes) {
  EXPECT_EQ(corp().key().sign(as_bytes("x")).size(), 64u);
  EXPECT_THAT(show(raw(header().dump(), claims().dump())), kTaken);
}

TEST(Rfc7518_3_4, V4_NeitherDerNorAnythingElseIsOne) {
  const auto input = encoded(header().dump()) + "." + encoded(claims().dump());
  const auto signature = corp().key().sign(as_bytes(input));
  const std::string bytes(as_text(ByteView(signature)));
  const auto integer = [](std::string value) {
    while (value.size() > 1 && value[0] == '\0' && (value[1] & 0x80) == 0) value.erase(0, 1);
    if ((value[0] & 0x80) != 0) value.insert(0, 1, '\0');
    return std::string("\x02") + static_cast<char>(value.size()) + value;
  };
  const auto both = integer(bytes.substr(0, 32)) + integer(bytes.substr(32));
  const auto der = std::string("\x30") + static_cast<char>(both.size()) + both;
  for (const auto& forged :
       {der, bytes.substr(0, 63), bytes + std::string(1, '\0'), bytes + bytes.substr(32),
        std::string(64, '\0'), std::string(64, '\xff'), bytes.substr(0, 32) + std::string(32, '\0'),
        bytes.substr(32) + bytes.substr(0, 32)}) {
    EXPECT_THAT(show(input + "." + encoded(forged)), kRefused) << forged.size();
  }
}

TEST(Rfc7518_3_3, V4_AnRsaKeyOfLessThan2048BitsIsNotRegistered) {
  auto weak = world().rsa.jwk();
  weak["n"] = encoded("\xc1" + std::string(126, '\x5a') + "\x5b");  // 1024 bits, odd
  auto manifest = world().tenant.manifest;
  manifest["issuers"][1]["jwks"] = {{"keys", Json::array({weak})}};
  const auto reply =
      world().tenant.api("PUT", "/manifest", world().tenant.operator_token(), manifest);
  ASSERT_THAT(reply, HasStatus(400));
  EXPECT_THAT(json_of(reply, "pointer").get<std::string>(), testing::StartsWith("/issuers/1/jwks"));
}

TEST(Rfc8037_3_1, V5_Ed25519GoesByBothItsNames) {
  const auto text = world().claims(world().edwards).dump();
  for (const char* algorithm : {"EdDSA", "Ed25519"}) {
    const Json head{{"alg", algorithm}};
    EXPECT_THAT(show(raw(head.dump(), text, world().edwards)), kTaken) << algorithm;
  }
}

TEST(Rfc8037_3_1, V5_ByNoOtherNameAndWithNoOtherKey) {
  const auto text = world().claims(world().edwards).dump();
  for (const char* algorithm : {"Ed448", "ed25519", "EDDSA", "ES256"}) {
    const Json head{{"alg", algorithm}};
    EXPECT_THAT(show(raw(head.dump(), text, world().edwards)), kRefused) << algorithm;
  }
  EXPECT_THAT(show(raw(R"({"alg":"EdDSA"})", text, corp())), kRefused);
}

// ---- keys (RFC 8725 §3.8, 3.10) ----

TEST(Rfc8725_3_10, V6_LinksAndKeysInTheHeaderAreIgnored) {
  const Idp attacker(corp().issuer());
  const Json more{{"jwk", attacker.jwk()},
                  {"jku", "https://attacker.example/jwks"},
                  {"x5u", "https://attacker.example/x5c"},
                  {"x5c", Json::array({"AAAA"})}};
  EXPECT_THAT(show(raw(header(more).dump(), claims().dump())), kTaken);
}

TEST(Rfc8725_3_10, V6_AKeyThatTheTokenBringsVerifiesNothing) {
  const Idp attacker(corp().issuer());
  for (const Json& more :
       std::vector<Json>{{{"jwk", attacker.jwk()}},
                         {{"jwk", attacker.jwk()}, {"kid", attacker.kid()}},
                         {{"jku", "https://attacker.example/jwks"}, {"kid", attacker.kid()}},
                         {{"kid", "../../etc/passwd"}},
                         {{"kid", "' OR 1=1 --"}},
                         {{"kid", std::string(129, 'k')}},
                         {{"kid", 7}}}) {
    EXPECT_THAT(show(raw(header(more).dump(), claims().dump(), attacker)), kRefused) << more;
  }
  // Too long or no text at all is refused though the signature is good.
  for (const Json& kid : {Json(std::string(129, 'k')), Json(7), Json(nullptr)}) {
    EXPECT_THAT(show(raw(header({{"kid", kid}}).dump(), claims().dump())), kRefused) << kid;
  }
}

// ---- claims (RFC 7519 §4.1) ----

TEST(Rfc7519_4_1, V7_TimesMayBeFractionsAndAMinuteOff) {
  const auto now = seconds_of(SystemClock().now());
  for (const auto& good :
       {claims_with("exp", static_cast<double>(now) + 120.5),
        claims_with("iat", static_cast<double>(now) - 0.5), claims_with("nbf", now + 30),
        claims_with("iat", now + 30), claims_with("aud", {"somebody-else", "gw-01"})}) {
    EXPECT_THAT(show(corp().sign(good)), kTaken) << good;
  }
}

TEST(Rfc7519_4_1, V7_IssuerAudienceAndTimesMustFit) {
  const auto now = seconds_of(SystemClock().now());
  for (const auto& bad : {claims_with("iss", corp().issuer() + "/"),
                          claims_with("iss", "HTTPS://idp.example"),
                          claims_with("iss", Json::array({corp().issuer()})),
                          claims_with("iss", nullptr),
                          claims_with("aud", "GW-01"),
                          claims_with("aud", "gw-01 "),
                          claims_with("aud", ""),
                          claims_with("aud", Json::array()),
                          claims_with("aud", nullptr),
                          claims_with("aud", Json{{"gw-01", true}}),
                          claims_with("exp", now - 1),
                          claims_with("exp", -1),
                          claims_with("exp", std::to_string(now + 60)),
                          claims_with("exp", 9007199254740993),
                          claims_with("exp", nullptr),
                          claims_with("nbf", now + 600),
                          claims_with("nbf", "0"),
                          claims_with("iat", now + 600),
                          claims_with("iat", -5),
                          claims_with("sub", nullptr),
                          claims_with("sub", 7)}) {
    EXPECT_THAT(show(corp().sign(bad)), kRefused) << bad;
  }
  for (const char* name : {"iss", "aud", "exp", "sub"}) {
    auto without = claims();
    without.erase(name);
    EXPECT_THAT(show(corp().sign(without)), kRefused) << name;
  }
}

// ---- kinds of token (RFC 8725 §3.11, 3.12) ----

TEST(Rfc8725_3_11, V8_AnAccessTokenIsOneByWhateverCase) {
  for (const char* typ :
       {"at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt", "JWT", "jwt"}) {
    EXPECT_THAT(show(corp().sign(claims(), typ)), kTaken) << typ;
  }
  auto untyped = header();
  untyped.erase("typ");
  EXPECT_THAT(show(raw(untyped.dump(), claims().dump())), kTaken);
}

TEST(Rfc8725_3_11, V8_NoOtherKindPassesForOne) {
  for (const char* typ :
       {"dpop+jwt", "client-authentication+jwt", "oauth-id-jag+jwt", "logout+jwt", "secevent+jwt",
        "token-introspection+jwt", "application/DPoP+JWT", "txntoken+jwt", "at+jwt2", " at+jwt"}) {
    EXPECT_THAT(show(corp().sign(claims(), typ)), kRefused) << typ;
  }
  for (const Json& typ : {Json(7), Json(Json::array({"at+jwt"})), Json(nullptr)}) {
    EXPECT_THAT(show(raw(header({{"typ", typ}}).dump(), claims().dump())), kRefused) << typ;
  }
}

// ---- encryption (RFC 7516) ----

TEST(Rfc7516_3_1, V9_AnEncryptedTokenIsRefused) {
  EXPECT_THAT(show(encoded(R"({"alg":"dir","enc":"A256GCM"})") + "..AAAAAAAAAAAAAAAA.AAAA."
                                                                 "AAAAAAAAAAAAAAAAAAAAAA"),
              kRefused);
  EXPECT_THAT(show(encoded(R"({"alg":"PBES2-HS256+A128KW","enc":"A256GCM","p2c":2147483647})") +
                   ".AAAA.AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA"),
              kRefused);
}

}  // namespace
}  // namespace postern::test
