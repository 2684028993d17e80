// RFC 9068, 7515 and 7519: the shape of every token that is issued, whichever
// grant issued it, read with nothing but the published key set.

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "crypto/base64url.h"
#include "support/grants_fixture.h"

namespace postern {
namespace {

using test::GrantsFixture;
using token::Json;

struct Issued : GrantsFixture {
  /// A token of each way to get one: exchange, client_credentials, release.
  std::vector<std::pair<const char*, std::string>> all() {
    std::vector<std::pair<const char*, std::string>> tokens;
    const auto text = [](const auto& secret) {
      return secret.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
    };
    const auto subject = subject_token();
    tokens.emplace_back("exchange", text(test::must(exchange(request(subject))).access_token));
    auto event = record();
    tokens.emplace_back("client_credentials",
                        text(test::must(client_credentials.grant(*snapshot, caller(), {"files"}, {},
                                                                 std::nullopt, event))
                                 .access_token));
    const auto verified = test::must(verify(subject));
    const auto item = test::must(
        release.release(*snapshot, caller(), *verified, {"files", false, std::nullopt}, event));
    tokens.emplace_back("release", text(item.env.at("FILES_TOKEN")));
    return tokens;
  }
  static Json part(const std::string& token, int index) {
    std::size_t from = 0;
    for (int i = 0; i < index; ++i) from = token.find('.', from) + 1;
    const auto to = std::min(token.find('.', from), token.size());
    const auto bytes =
        test::must(crypto::base64url_decode(std::string_view(token).substr(from, to - from)));
    return test::must(token::parse_json(as_text(bytes)));
  }
};

TEST(Rfc9068_2_1, HeaderSaysAtJwtAndNamesAPublishedKey) {
  Issued f;
  const auto keys = test::must(token::parse_json(f.snapshot->jwks_document()));
  std::set<std::string> kids;
  for (const auto& key : keys.at("keys")) kids.insert(key.at("kid").get<std::string>());
  for (const auto& [grant, token] : f.all()) {
    const auto header = Issued::part(token, 0);
    EXPECT_EQ(header.at("typ"), "at+jwt") << grant;
    EXPECT_EQ(header.at("alg"), "ES256") << grant;
    EXPECT_EQ(kids.count(header.at("kid").get<std::string>()), 1u) << grant;
    EXPECT_EQ(header.size(), 3u) << grant;  // no jku, x5u, jwk
  }
}

TEST(Rfc9068_2_2, HasEveryRequiredClaimWithItsType) {
  Issued f;
  for (const auto& [grant, token] : f.all()) {
    const auto claims = Issued::part(token, 1);
    for (const char* text : {"iss", "sub", "aud", "client_id", "jti"}) {
      EXPECT_TRUE(claims.at(text).is_string()) << grant << " " << text;
    }
    for (const char* number : {"exp", "iat"}) {
      EXPECT_TRUE(claims.at(number).is_number_integer()) << grant << " " << number;
    }
    EXPECT_EQ(claims.at("iss"), f.snapshot->issuer_url()) << grant;
    EXPECT_EQ(claims.at("aud"), "https://files.example.com/mcp") << grant;
  }
}

TEST(Rfc9068_2_2, SubjectOfAClientIsItsClientId) {
  Issued f;
  for (const auto& [grant, token] : f.all()) {
    const auto claims = Issued::part(token, 1);
    const bool of_client = std::string_view(grant) == "client_credentials";
    EXPECT_EQ(claims.at("sub"), of_client ? "gw-01" : "alice") << grant;
  }
}

// §2.1: signed, with a key that only we have.
TEST(Rfc9068_2_1, J1_NoBackendGetsAnUnsignedOrSymmetricToken) {
  Issued f;
  for (const char* algorithm : {"none", "HS256", "HS512", "ES384", "es256", ""}) {
    auto manifest = f.manifest;
    manifest["backends"][0]["signing_algorithm"] = algorithm;
    EXPECT_FALSE(policy::Manifest::read(manifest).ok()) << algorithm;
  }
}

// §3: a scope means one thing at one resource.
TEST(Rfc9068_3, J6_AnotherTargetsScopeIsNoScopeHere) {
  Issued f;
  const auto token = f.subject_token();
  auto request = f.request(token);
  request.scope = "files:read";
  EXPECT_TRUE(f.exchange(request).ok());
  for (const char* scope : {"repo:read", "files:read repo:read", "search"}) {
    request.scope = scope;
    const auto refused = f.exchange(request);
    ASSERT_FALSE(refused.ok()) << scope;
    EXPECT_EQ(refused.error().code, ErrorCode::ScopeRefused) << scope;
  }
  request.audiences = {"search"};
  request.scope = "files:read";
  EXPECT_FALSE(f.exchange(request).ok());
}

// §5: nobody may obtain a token whose sub reads as a client's.
TEST(Rfc9068_5, AUserCannotTakeAClientsSubject) {
  Issued f;
  const auto token = f.subject_token("gw-01");
  EXPECT_FALSE(f.exchange(f.request(token)).ok());
}

TEST(Rfc9068_2_2, J2_NoJtiIsUsedTwiceOrShorterThan128Bits) {
  Issued f;
  std::set<std::string> seen;
  for (int i = 0; i < 20; ++i) {
    for (const auto& [grant, token] : f.all()) {
      const auto jti = Issued::part(token, 1).at("jti").get<std::string>();
      EXPECT_GE(jti.size() * 6, 128u);
      EXPECT_TRUE(seen.insert(jti).second) << grant;
    }
  }
}

TEST(Rfc7515_3_1, IsCompactAndVerifiesWithThePublishedSet) {
  Issued f;
  for (const auto& [grant, token] : f.all()) {
    EXPECT_EQ(token.find_first_not_of(
                  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."),
              std::string::npos)
        << grant;
    EXPECT_NO_THROW(f.open(token)) << grant;
    // And not after any bit of it changed.
    for (std::size_t i = 0; i < token.size(); i += 11) {
      auto altered = token;
      altered[i] = altered[i] == 'Q' ? 'R' : 'Q';
      if (altered == token) continue;
      EXPECT_ANY_THROW(f.open(altered)) << grant << " " << i;
    }
  }
}

// RFC 7518 §3.4: 64 raw bytes.
TEST(Rfc7518_3_4, Es256SignaturesAre64Bytes) {
  Issued f;
  for (const auto& [grant, token] : f.all()) {
    const auto signature = test::must(crypto::base64url_decode(token.substr(token.rfind('.') + 1)));
    EXPECT_EQ(signature.size(), 64u) << grant;
  }
}

// RFC 8725 §3.9: a token of one tenant does not verify at another.
TEST(Rfc8725_3_9, TenantsDoNotShareKeys) {
  Issued f;
  auto manifest = f.manifest;
  manifest["tenant"] = "other";
  f.tenants.apply(manifest, f.clock.now());
  const auto other = f.tenants.snapshot(TenantId("other"));
  for (const auto& [grant, token] : f.all()) {
    const auto jwt = test::must(token::UnverifiedJwt::parse(token));
    EXPECT_FALSE(jwt.verify(other->own_keys()).ok()) << grant;
  }
}

}  // namespace
}  // namespace postern
