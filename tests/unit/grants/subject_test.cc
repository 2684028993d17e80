#include "grants/subject.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "crypto/base64url.h"
#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using policy::SubjectTokenType;
using test::code_of;
using test::GrantsFixture;
using test::seconds_of;
using token::Json;

struct Subjects : GrantsFixture {
  /// Verifies alice's token after a change to its claims.
  Result<VerifiedTokenPtr> with(const std::function<void(Json&)>& change,
                                SubjectTokenType type = SubjectTokenType::AccessToken,
                                std::string_view typ = "JWT") {
    auto changed = claims();
    change(changed);
    return verify(idp.sign(changed, typ), type);
  }
  std::function<void(Json&)> set(const char* name, Json value) {
    return [name, value = std::move(value)](Json& json) { json[name] = value; };
  }
  std::optional<ErrorCode> refusal(const std::function<void(Json&)>& change) {
    return code_of(with(change));
  }
  void without(const char* name) {
    EXPECT_EQ(refusal([name](Json& json) { json.erase(name); }), ErrorCode::InvalidToken) << name;
  }
};

TEST(ParseTokenType, TakesThreeUrnsExactly) {
  EXPECT_EQ(parse_token_type(GrantsFixture::kAccessToken).value(), SubjectTokenType::AccessToken);
  EXPECT_EQ(parse_token_type(GrantsFixture::kJwt).value(), SubjectTokenType::Jwt);
  EXPECT_EQ(parse_token_type(GrantsFixture::kIdToken).value(), SubjectTokenType::IdToken);
  for (const char* urn :
       {"", "access_token", "urn:ietf:params:oauth:token-type:",
        "urn:ietf:params:oauth:token-type:JWT", "urn:ietf:params:oauth:token-type:refresh_token",
        "urn:ietf:params:oauth:token-type:saml2", "urn:ietf:params:oauth:token-type:id-jag",
        "URN:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:jwt ",
        "urn:ietf:params:oauth:token-type:access_token2"}) {
    EXPECT_EQ(code_of(parse_token_type(urn)), ErrorCode::MalformedRequest) << urn;
  }
}

TEST(SubjectVerifier, RebuildsWhatTheTokenSays) {
  Subjects f;
  const auto result = f.with([&](Json& json) {
    json["scope"] = "files:read openid";
    json["azp"] = "gw-01";
    json["email"] = "alice@example.com";
    json["auth_time"] = seconds_of(f.clock.now() - 60s);
    json["acr"] = "2";
    json["amr"] = {"pwd", "otp"};
    json["act"] = {{"sub", "agent"}, {"name", "dropped"}, {"act", {{"client_id", "first"}}}};
    json["may_act"] = {{"sub", "gw-01"}};
  });
  ASSERT_TRUE(result.ok()) << result.error().detail;
  const auto& token = *result.value();
  EXPECT_EQ(token.principal, (Principal{f.idp.issuer(), "alice"}));
  EXPECT_EQ(token.issued_subject, "alice");
  EXPECT_EQ(token.groups, std::vector<std::string>{"engineering"});
  EXPECT_EQ(token.scope->str(), "files:read openid");
  EXPECT_EQ(token.audiences, std::vector<std::string>{"gw-01"});
  EXPECT_EQ(token.authorized_party, "gw-01");
  EXPECT_EQ(token.typ, "jwt");
  EXPECT_EQ(token.expires_at, f.clock.now() + 300s);
  EXPECT_EQ(token.act, Json({{"sub", "agent"}, {"act", {{"client_id", "first"}}}}));
  EXPECT_EQ(token.may_act, Json({{"sub", "gw-01"}}));
  EXPECT_EQ(token.auth_context, Json({{"auth_time", seconds_of(f.clock.now() - 60s)},
                                      {"acr", "2"},
                                      {"amr", {"pwd", "otp"}}}));
  EXPECT_EQ(token.fingerprint.size(), 22u);
}

TEST(SubjectVerifier, RefusesATokenWithoutWhatItNeeds) {
  Subjects f;
  for (const char* name : {"iss", "sub", "aud", "exp"}) f.without(name);
}

// The type matrix: every claim we read against every kind of JSON value.
TEST(SubjectVerifier, RefusesClaimsOfTheWrongType) {
  Subjects f;
  const std::vector<Json> values{nullptr,
                                 true,
                                 false,
                                 0,
                                 -1,
                                 1.5,
                                 1e30,
                                 std::numeric_limits<std::uint64_t>::max(),
                                 "",
                                 "text",
                                 " ",
                                 Json::array(),
                                 Json::object(),
                                 Json::array({1}),
                                 Json::array({""}),
                                 Json::array({nullptr}),
                                 Json::array({Json::array({"a"})}),
                                 Json({{"a", 1}}),
                                 std::string(2000, 'x')};
  const auto refused = [&](const char* claim, const std::vector<std::size_t>& good) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto code = f.refusal(f.set(claim, values[i]));
      const bool fine = std::find(good.begin(), good.end(), i) != good.end();
      EXPECT_EQ(code, fine ? std::optional<ErrorCode>() : ErrorCode::InvalidToken)
          << claim << " = " << values[i].dump().substr(0, 50);
    }
  };
  refused("iss", {});
  refused("aud", {});
  refused("exp", {});       // 0 and 1.5 are times, long past
  refused("sub", {9, 10});  // "text" and a blank: odd, but an identifier
  refused("nbf", {3, 5});
  refused("iat", {3, 5});
  refused("groups", {
                        9,
                        10,
                        11,
                    });
  refused("scope", {8, 9, 10, 11});
  refused("act", {});
  refused("may_act", {12, 17});
  refused("cnf", {});
  refused("events", {});
}

TEST(SubjectVerifier, LeavesOutWhatItCannotUseOfTheAuthenticationContext) {
  Subjects f;
  const auto token = f.with([](Json& json) {
    json["auth_time"] = "yesterday";
    json["acr"] = {{"sub", "mallory"}};
    json["amr"] = {1, 2};
  });
  ASSERT_TRUE(token.ok());
  EXPECT_EQ(token.value()->auth_context, Json::object());
}

TEST(SubjectVerifier, ChecksTimesWithAMinuteOfSkewButNeverForExpiry) {
  Subjects f;
  const auto at = [&](std::chrono::seconds offset) { return seconds_of(f.clock.now() + offset); };
  EXPECT_EQ(f.refusal(f.set("exp", at(1s))), std::nullopt);
  EXPECT_EQ(f.refusal(f.set("exp", at(0s))), ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("exp", at(-1s))), ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("exp", static_cast<double>(at(0s)) + 0.9)), ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("nbf", at(60s))), std::nullopt);
  EXPECT_EQ(f.refusal(f.set("nbf", at(61s))), ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("iat", at(60s))), std::nullopt);
  EXPECT_EQ(f.refusal(f.set("iat", at(61s))), ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("exp", std::int64_t{1} << 53)), std::nullopt);
  EXPECT_EQ(f.refusal(f.set("exp", (std::int64_t{1} << 53) + 1)), ErrorCode::InvalidToken);
}

TEST(SubjectVerifier, RefusesTokensOlderThanTheIssuersLimit) {
  Subjects f;
  f.issuer()["max_token_age"] = 100;
  f.load();
  const auto at = [&](std::chrono::seconds offset) { return seconds_of(f.clock.now() + offset); };
  EXPECT_EQ(f.refusal(f.set("iat", at(-160s))), std::nullopt);
  EXPECT_EQ(f.refusal(f.set("iat", at(-161s))), ErrorCode::InvalidToken);
  f.without("iat");
}

TEST(SubjectVerifier, RefusesIssuersThatAreNotTrusted) {
  Subjects f;
  for (const char* issuer :
       {"https://idp.acme.example/", "https://IDP.acme.example", "https://idp.acme.example ",
        "https://other.example", "https://idp.acme.example.evil"}) {
    EXPECT_EQ(f.refusal(f.set("iss", issuer)), ErrorCode::InvalidToken) << issuer;
  }
  f.issuer()["enabled"] = false;
  f.load();
  EXPECT_EQ(f.refusal([](Json&) {}), ErrorCode::InvalidToken);
}

TEST(SubjectVerifier, RefusesAnotherKeyUnderTheSameKidAndIssuer) {
  Subjects f;
  const test::Idp impostor(f.idp.issuer());
  EXPECT_EQ(code_of(f.verify(impostor.sign_as(f.idp.kid(), f.claims()))), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(f.verify(impostor.sign(f.claims()))), ErrorCode::InvalidToken);
}

TEST(SubjectVerifier, NeverTakesOneIssuersKeyForAnothersToken) {
  Subjects f;
  const test::Idp partner("https://idp.partner.example");
  f.manifest["issuers"].push_back({{"name", "partner"},
                                   {"issuer", partner.issuer()},
                                   {"jwks", partner.jwks()},
                                   {"audiences", {"gw-01"}},
                                   {"subject_prefix", "partner:"}});
  f.load();
  // Signed by the partner, saying it is corp's: also with corp's kid.
  EXPECT_EQ(code_of(f.verify(partner.sign(f.claims()))), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(f.verify(partner.sign_as(f.idp.kid(), f.claims()))), ErrorCode::InvalidToken);
  EXPECT_TRUE(f.verify(partner.sign(partner.claims("alice", f.clock.now()))).ok());
}

TEST(SubjectVerifier, AllowsOnlyTheIssuersAlgorithms) {
  Subjects f;
  f.issuer()["algorithms"] = {"RS256", "EdDSA"};
  f.load();
  EXPECT_EQ(f.refusal([](Json&) {}), ErrorCode::InvalidToken);
}

TEST(SubjectVerifier, RefusesAlteredTokens) {
  Subjects f;
  const auto good = f.subject_token();
  ASSERT_TRUE(f.verify(good).ok());
  const auto first = good.find('.');
  const auto second = good.find('.', first + 1);
  std::vector<std::string> bad{"",
                               ".",
                               "..",
                               "...",
                               good + ".",
                               good + "=",
                               good + " ",
                               " " + good,
                               good.substr(0, second),
                               good.substr(0, second + 1),
                               good.substr(first + 1),
                               good + "." + good,
                               good + "\n",
                               std::string(16 * 1024 + 1, 'a')};
  for (std::size_t i = 0; i < good.size(); i += 7) {
    auto altered = good;
    altered[i] = altered[i] == 'A' ? 'B' : 'A';
    if (altered != good) bad.push_back(altered);
  }
  // alg none, with the original claims.
  const std::string none = crypto::base64url(as_bytes(R"({"alg":"none"})"));
  bad.push_back(none + good.substr(first, second - first) + ".");
  bad.push_back(none + good.substr(first));
  for (const auto& token : bad) {
    EXPECT_EQ(code_of(f.verify(token)), ErrorCode::InvalidToken) << token.substr(0, 60);
  }
}

TEST(SubjectVerifier, WantsTheIssuersAudience) {
  Subjects f;
  EXPECT_EQ(f.refusal(f.set("aud", "other-app")), ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("aud", {"other-app", "GW-01"})), ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("aud", {"other-app", "gw-01"})), std::nullopt);
  // The client being the authorised party does not replace it.
  EXPECT_EQ(f.refusal([](Json& json) {
    json["aud"] = "other-app";
    json["azp"] = "gw-01";
  }),
            ErrorCode::InvalidToken);
  Json many = Json::array();
  for (int i = 0; i < 51; ++i) many.push_back("gw-01");
  EXPECT_EQ(f.refusal(f.set("aud", many)), ErrorCode::InvalidToken);
}

struct TwoClients : Subjects {
  TwoClients() {
    issuer()["audiences"] = {"gw-01", "api://mesh"};
    manifest["clients"].push_back({{"id", "gw-02"}, {"backends", {"*"}}, {"scopes", {"*"}}});
    load();
  }
  std::optional<ErrorCode> by(const char* client, const Json& claims,
                              SubjectTokenType type = SubjectTokenType::AccessToken) {
    return code_of(verifier.verify(*snapshot, caller(client), idp.sign(claims), type, Wait::Yes));
  }
};

TEST(SubjectVerifier, WantsThePresentingClientToBeAudienceOrParty) {
  TwoClients f;
  auto claims = f.claims();
  EXPECT_EQ(f.by("gw-01", claims), std::nullopt);
  EXPECT_EQ(f.by("gw-02", claims), ErrorCode::InvalidToken);  // and the cache is warm
  claims["azp"] = "gw-02";
  EXPECT_EQ(f.by("gw-02", claims), std::nullopt);
  claims.erase("azp");
  claims["client_id"] = "gw-02";
  EXPECT_EQ(f.by("gw-02", claims), std::nullopt);
  claims["azp"] = "other";  // azp goes before client_id
  EXPECT_EQ(f.by("gw-02", claims), ErrorCode::InvalidToken);

  claims = f.claims();
  claims["aud"] = "api://mesh";
  EXPECT_EQ(f.by("gw-01", claims), ErrorCode::InvalidToken);
  f.manifest["clients"][1]["audiences"] = {"api://mesh"};
  f.load();
  EXPECT_EQ(f.by("gw-01", claims), ErrorCode::InvalidToken);
  EXPECT_EQ(f.by("gw-02", claims), std::nullopt);
}

TEST(SubjectVerifier, AnIdTokenIsForItsAudienceAlone) {
  TwoClients f;
  const auto id = SubjectTokenType::IdToken;
  auto claims = f.claims();
  EXPECT_EQ(f.by("gw-01", claims, id), std::nullopt);
  claims["azp"] = "gw-02";
  EXPECT_EQ(f.by("gw-02", claims, id), ErrorCode::InvalidToken);
  // Several audiences: azp must name the presenter.
  claims = f.claims();
  claims["aud"] = {"gw-01", "gw-02"};
  EXPECT_EQ(f.by("gw-01", claims, id), ErrorCode::InvalidToken);
  claims["azp"] = "gw-02";
  EXPECT_EQ(f.by("gw-01", claims, id), ErrorCode::InvalidToken);
  EXPECT_EQ(f.by("gw-02", claims, id), std::nullopt);
}

TEST(SubjectVerifier, AnIdTokenKeepsItsRulesWhateverItIsDeclared) {
  TwoClients f;
  for (const char* mark : {"nonce", "at_hash", "c_hash"}) {
    SCOPED_TRACE(mark);
    auto claims = f.claims();
    claims.erase("scope");
    claims[mark] = "n-0S6_WzA2Mj";
    EXPECT_EQ(f.by("gw-01", claims, SubjectTokenType::IdToken), std::nullopt);
    EXPECT_EQ(f.by("gw-01", claims, SubjectTokenType::Jwt), std::nullopt);
    EXPECT_EQ(f.by("gw-01", claims, SubjectTokenType::AccessToken), ErrorCode::InvalidToken);
    // Not by its azp, and with several audiences by that alone.
    claims["azp"] = "gw-02";
    EXPECT_EQ(f.by("gw-02", claims, SubjectTokenType::Jwt), ErrorCode::InvalidToken);
    claims["aud"] = {"gw-01", "gw-02"};
    EXPECT_EQ(f.by("gw-01", claims, SubjectTokenType::Jwt), ErrorCode::InvalidToken);
  }
  // Some providers put the nonce of the login into access tokens.
  auto claims = f.claims();
  claims["nonce"] = "n-0S6_WzA2Mj";
  claims["scope"] = "files:read";
  claims["azp"] = "gw-02";
  EXPECT_EQ(f.by("gw-02", claims, SubjectTokenType::AccessToken), std::nullopt);
}

TEST(SubjectVerifier, AnIdTokenIsRefusedWhereOnlyAccessTokensAreTaken) {
  Subjects f;
  f.issuer()["token_types"] = Json::array({"access_token"});
  f.load();
  const auto none = [](Json&) {};
  EXPECT_EQ(code_of(f.with(none, SubjectTokenType::AccessToken)), std::nullopt);
  for (const auto type : {SubjectTokenType::AccessToken, SubjectTokenType::Jwt}) {
    EXPECT_EQ(code_of(f.with(f.set("at_hash", "x"), type)), ErrorCode::InvalidToken);
  }
}

TEST(SubjectVerifier, ATokenOfOneKindNeverPassesAsAnother) {
  Subjects f;
  const auto with_typ = [&](std::string_view typ, SubjectTokenType type) {
    return code_of(f.with([](Json&) {}, type, typ));
  };
  for (const auto type : {SubjectTokenType::AccessToken, SubjectTokenType::Jwt}) {
    for (const char* typ : {"JWT", "jwt", "at+jwt", "application/at+jwt", "AT+JWT", ""}) {
      EXPECT_EQ(with_typ(typ, type), std::nullopt) << typ;
    }
  }
  EXPECT_EQ(with_typ("JWT", SubjectTokenType::IdToken), std::nullopt);
  EXPECT_EQ(with_typ("at+jwt", SubjectTokenType::IdToken), ErrorCode::InvalidToken);
  for (const char* typ :
       {"logout+jwt", "secevent+jwt", "dpop+jwt", "oauth-id-jag+jwt", "client-authentication+jwt",
        "token-introspection+jwt", "txntoken+jwt", "id_token+jwt", "application/jwt+x"}) {
    for (const auto type :
         {SubjectTokenType::AccessToken, SubjectTokenType::Jwt, SubjectTokenType::IdToken}) {
      EXPECT_EQ(with_typ(typ, type), ErrorCode::InvalidToken) << typ;
    }
  }
}

TEST(SubjectVerifier, RefusesALogoutTokenThatCallsItselfJwt) {
  Subjects f;
  EXPECT_EQ(f.refusal(f.set("events", {{"http://schemas.openid.net/event/backchannel-logout",
                                        Json::object()}})),
            ErrorCode::InvalidToken);
}

TEST(SubjectVerifier, TakesOnlyTheTypesOfItsIssuer) {
  Subjects f;
  f.issuer()["token_types"] = {"id_token"};
  f.load();
  const auto none = [](Json&) {};
  EXPECT_EQ(code_of(f.with(none, SubjectTokenType::AccessToken)), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(f.with(none, SubjectTokenType::Jwt)), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(f.with(none, SubjectTokenType::IdToken)), std::nullopt);
}

TEST(SubjectVerifier, RefusesBoundTokensWithoutProof) {
  Subjects f;
  EXPECT_EQ(f.refusal(f.set("cnf", {{"jkt", "x"}})), ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("cnf", {{"x5t#S256", "x"}})), ErrorCode::InvalidToken);
}

TEST(SubjectVerifier, RefusesTokensIssuedByAnyTenantHere) {
  Subjects f;
  // A backend's token, sent back as a subject token.
  const auto token = f.subject_token();
  const auto issued = f.exchange(f.request(token));
  ASSERT_TRUE(issued.ok());
  issued.value().access_token.expose(
      [&](ByteView own) { EXPECT_EQ(code_of(f.verify(as_text(own))), ErrorCode::InvalidToken); });
  // Even when somebody registers a tenant of this installation as an issuer.
  const test::Idp other_tenant("https://sts.example.com/t/other");
  const test::Idp self("https://sts.example.com/t/acme");
  f.manifest["issuers"].push_back({{"name", "neighbour"},
                                   {"issuer", other_tenant.issuer()},
                                   {"jwks", other_tenant.jwks()},
                                   {"audiences", {"gw-01"}},
                                   {"subject_prefix", "neighbour:"}});
  f.manifest["issuers"].push_back({{"name", "self"},
                                   {"issuer", self.issuer()},
                                   {"jwks", self.jwks()},
                                   {"audiences", {"gw-01"}},
                                   {"subject_prefix", "self:"}});
  f.load();
  for (const auto* idp : {&other_tenant, &self}) {
    EXPECT_EQ(code_of(f.verify(idp->sign(idp->claims("alice", f.clock.now())))),
              ErrorCode::InvalidToken);
  }
}

TEST(SubjectVerifier, MapsSubjectGroupsAndScope) {
  Subjects f;
  f.issuer()["claims"] = {
      {"subject", "oid"}, {"groups", "/realm_access/roles"}, {"scope", "/a~1b/~0c"}};
  f.load();
  const auto token = f.with([](Json& json) {
    json["oid"] = "0c0ffee";
    json["realm_access"] = {{"roles", {"engineering", "ops"}}};
    json["a/b"] = {{"~c", {"files:read", "x y"}}};
  });
  ASSERT_TRUE(token.ok()) << token.error().detail;
  EXPECT_EQ(token.value()->principal.subject, "0c0ffee");
  EXPECT_EQ(token.value()->groups, (std::vector<std::string>{"engineering", "ops"}));
  EXPECT_EQ(token.value()->scope->str(), "files:read x y");
  // The claims that were mapped away say nothing any more.
  EXPECT_EQ(f.refusal([](Json&) {}), ErrorCode::InvalidToken);  // sub alone
}

TEST(SubjectVerifier, ScopeCountsOnlyWhereTheIssuersDoes) {
  Subjects f;
  EXPECT_EQ(f.with([](Json&) {}).value()->scope, std::nullopt);
  EXPECT_TRUE(f.with(f.set("scope", "")).value()->scope->empty());
  EXPECT_EQ(f.with(f.set("scope", std::string(199, 's') + " " + std::string(200, 't') + " " +
                                      std::string(200, 'u')))
                .value()
                ->scope->size(),
            3u);
  f.issuer().erase("claims");
  f.load();
  EXPECT_EQ(f.with(f.set("scope", "files:read")).value()->scope, std::nullopt);
}

TEST(SubjectVerifier, KeepsTwoIssuersUsersAndGroupsApart) {
  Subjects f;
  const test::Idp partner("https://idp.partner.example");
  f.manifest["issuers"].push_back({{"name", "partner"},
                                   {"issuer", partner.issuer()},
                                   {"jwks", partner.jwks()},
                                   {"audiences", {"gw-01"}},
                                   {"subject_prefix", "partner:"}});
  f.load();
  auto claims = partner.claims("alice", f.clock.now());
  claims["groups"] = {"engineering"};
  const auto token = f.verify(partner.sign(claims));
  ASSERT_TRUE(token.ok());
  EXPECT_EQ(token.value()->principal, (Principal{partner.issuer(), "alice"}));
  EXPECT_EQ(token.value()->issued_subject, "partner:alice");
  // The partner's engineers are not ours.
  EXPECT_EQ(token.value()->groups, std::vector<std::string>{"partner:engineering"});
  EXPECT_TRUE(f.snapshot->roles_of(token.value()->principal, token.value()->groups).empty());
  // And ours cannot spell theirs.
  EXPECT_EQ(f.refusal(f.set("sub", "partner:alice")), ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("groups", {"partner:engineering"})), ErrorCode::InvalidToken);
}

TEST(SubjectVerifier, RefusesASubjectThatReadsAsAClient) {
  Subjects f;
  EXPECT_EQ(f.refusal(f.set("sub", "gw-01")), ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("sub", "gw-0")), std::nullopt);
}

TEST(SubjectVerifier, BoundsSubjectAndGroups) {
  Subjects f;
  EXPECT_EQ(f.refusal(f.set("sub", std::string(255, 'a'))), std::nullopt);
  EXPECT_EQ(f.refusal(f.set("sub", std::string(256, 'a'))), ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("sub", "a\nb")), ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("sub", "a\x7f")), ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("groups", Json(std::vector<std::string>(1000, "g")))), std::nullopt);
  EXPECT_EQ(f.refusal(f.set("groups", Json(std::vector<std::string>(1001, "g")))),
            ErrorCode::InvalidToken);
  EXPECT_EQ(f.refusal(f.set("groups", std::string(513, 'g'))), ErrorCode::InvalidToken);
}

TEST(SubjectVerifier, ReadsAnActorChainUpToFiveDeepWithIdentityOnly) {
  Subjects f;
  const auto chain = [](int depth) {
    Json act{{"sub", "a1"}};
    for (int i = 2; i <= depth; ++i) act = {{"sub", "a" + std::to_string(i)}, {"act", act}};
    return act;
  };
  EXPECT_EQ(f.with(f.set("act", chain(5))).value()->act, chain(5));
  EXPECT_EQ(f.refusal(f.set("act", chain(6))), ErrorCode::InvalidToken);
  for (const Json& act : std::vector<Json>{{{"iss", "https://x"}},
                                           {{"sub", 1}},
                                           {{"sub", ""}},
                                           {{"sub", "a"}, {"iss", 1}},
                                           {{"sub", "a"}, {"exp", 1}},
                                           {{"sub", "a"}, {"aud", "x"}},
                                           {{"sub", "a"}, {"act", nullptr}},
                                           {{"sub", "a"}, {"act", Json::object()}},
                                           {{"sub", "a"}, {"act", {{"sub", "b"}, {"nbf", 1}}}}}) {
    EXPECT_EQ(f.refusal(f.set("act", act)), ErrorCode::InvalidToken) << act;
  }
}

TEST(SubjectVerifier, RefusesEverythingInADisabledTenant) {
  Subjects f;
  ASSERT_EQ(f.refusal([](Json&) {}), std::nullopt);
  const auto token = f.subject_token();
  ASSERT_TRUE(f.verify(token).ok());
  f.manifest["enabled"] = false;
  f.load();
  EXPECT_EQ(code_of(f.verify(token)), ErrorCode::InvalidToken);
  EXPECT_EQ(code_of(f.verifier.verify_user(*f.snapshot, token, Wait::Yes)),
            ErrorCode::InvalidToken);
  const auto assertion = f.verifier.verify_assertion(*f.snapshot, f.caller(), token, Wait::Yes);
  ASSERT_EQ(code_of(assertion), ErrorCode::InvalidToken);
  EXPECT_EQ(assertion.error().detail, "this tenant is disabled");
}

// No other check is to be reached: not with megabytes in hand.
TEST(SubjectVerifier, RefusesWhatIsTooLongBeforeItLooksAtIt) {
  Subjects f;
  const std::string token(token::kMaxTokenBytes + 1, 'a');
  const auto refused = f.verify(token);
  ASSERT_EQ(code_of(refused), ErrorCode::InvalidToken);
  EXPECT_EQ(refused.error().detail, "the token is too long");
  const auto assertion = f.verifier.verify_assertion(*f.snapshot, f.caller(), token, Wait::Yes);
  ASSERT_EQ(code_of(assertion), ErrorCode::InvalidToken);
  EXPECT_EQ(assertion.error().detail, "the token is too long");
}

// A role that denies everything disables its users, whatever others allow them.
TEST(SubjectVerifier, RefusesADisabledUser) {
  Subjects f;
  f.manifest["roles"].push_back({{"name", "off"}, {"deny", {"*:*"}}});
  f.manifest["bindings"].push_back(
      {{"role", "off"}, {"subjects", {{{"issuer", f.idp.issuer()}, {"subject", "bob"}}}}});
  f.load();
  ASSERT_TRUE(f.verify(f.idp.sign(f.claims("alice"))).ok());
  const auto token = f.idp.sign(f.claims("bob"));
  const auto user = f.verifier.verify_user(*f.snapshot, token, Wait::Yes);
  const auto revoked = f.verifier.verify_for_revocation(*f.snapshot, f.caller(), token, Wait::Yes);
  for (const auto& refused : {f.verify(token), user, revoked}) {
    ASSERT_EQ(code_of(refused), ErrorCode::InvalidToken);
    EXPECT_EQ(refused.error().detail, "this user is disabled");
  }
}

TEST(SubjectVerifier, NeverRepeatsTheTokenInAnError) {
  Subjects f;
  auto claims = f.claims("canary-subject");
  claims["aud"] = "canary-audience";
  const auto token = f.idp.sign(claims);
  const auto refused = f.verify(token);
  ASSERT_FALSE(refused.ok());
  for (const auto& text : {refused.error().detail, refused.error().diagnostic}) {
    EXPECT_EQ(text.find("canary"), std::string::npos);
    EXPECT_EQ(text.find("eyJ"), std::string::npos);
  }
}

TEST(VerifyUser, NeedsNoClientButTheIssuersAudience) {
  Subjects f;
  auto claims = f.claims();
  EXPECT_TRUE(f.verifier.verify_user(*f.snapshot, f.idp.sign(claims), Wait::Yes).ok());
  EXPECT_EQ(code_of(f.verifier.verify_user(*f.snapshot, f.idp.sign(claims, "dpop+jwt"), Wait::Yes)),
            ErrorCode::InvalidToken);
  claims["aud"] = "other";
  EXPECT_EQ(code_of(f.verifier.verify_user(*f.snapshot, f.idp.sign(claims), Wait::Yes)),
            ErrorCode::InvalidToken);
}

TEST(VerifyUser, RefusesWhoActsForTheUser) {
  Subjects f;
  auto claims = f.claims();
  claims["act"] = {{"sub", "agent"}};
  EXPECT_EQ(code_of(f.verifier.verify_user(*f.snapshot, f.idp.sign(claims), Wait::Yes)),
            ErrorCode::InvalidToken);
}

TEST(VerifyUser, TakesOnlyTheKindsItsIssuerSends) {
  Subjects f;
  const auto access = f.idp.sign(f.claims(), "at+jwt");
  EXPECT_TRUE(f.verifier.verify_user(*f.snapshot, access, Wait::Yes).ok());
  f.issuer()["token_types"] = {"id_token"};
  f.load();
  EXPECT_EQ(code_of(f.verifier.verify_user(*f.snapshot, access, Wait::Yes)),
            ErrorCode::InvalidToken);
  EXPECT_TRUE(f.verifier.verify_user(*f.snapshot, f.subject_token(), Wait::Yes).ok());
}

// ---- what is remembered ----

TEST(SubjectCache, ServesTheSameTokenAgain) {
  Subjects f;
  const auto token = f.subject_token();
  const auto first = f.verify(token).value();
  const auto second = f.verify(token).value();
  EXPECT_EQ(first, second);
  EXPECT_EQ(f.verifier.stats().hits, 1u);
  EXPECT_EQ(f.verifier.stats().entries, 1u);
}

// CVE-2026-35030: a key of the token's first characters gave one user another's claims.
TEST(SubjectCache, TellsApartTokensThatShareLongPrefixesAndSuffixes) {
  Subjects f;
  const auto good = f.subject_token();
  ASSERT_TRUE(f.verify(good).ok());
  // Every token that shares all but one character with a remembered one.
  for (std::size_t i = 0; i < good.size(); ++i) {
    auto altered = good;
    altered[i] = altered[i] == 'x' ? 'y' : 'x';
    ASSERT_FALSE(f.verify(altered).ok()) << i;
  }
  for (std::size_t length = 0; length < good.size(); length += 3) {
    ASSERT_FALSE(f.verify(good.substr(0, length)).ok());
    ASSERT_FALSE(f.verify(good.substr(good.size() - length)).ok());
  }
  EXPECT_EQ(f.verifier.stats().hits, 0u);
  // And two users' tokens with the same head and much of the same claims.
  const auto bob = f.verify(f.subject_token("bob")).value();
  EXPECT_EQ(bob->principal.subject, "bob");
  EXPECT_EQ(f.verify(good).value()->principal.subject, "alice");
}

TEST(SubjectCache, DoesNotServeOneTenantsTokenToAnother) {
  Subjects f;
  const auto token = f.subject_token();
  ASSERT_TRUE(f.verify(token).ok());
  // Another tenant with the same epoch, client and issuer name, but another key.
  const test::Idp impostor(f.idp.issuer());
  auto manifest = f.manifest;
  manifest["tenant"] = "other";
  manifest["issuers"][0]["jwks"] = impostor.jwks();
  f.tenants.apply(manifest, f.clock.now());
  const auto other = f.tenants.snapshot(TenantId("other"));
  ASSERT_EQ(other->epoch(), f.snapshot->epoch());
  EXPECT_EQ(code_of(f.verifier.verify(*other, Caller(*other->find_client("gw-01")), token,
                                      SubjectTokenType::AccessToken, Wait::Yes)),
            ErrorCode::InvalidToken);
  EXPECT_EQ(f.verifier.stats().hits, 0u);
}

TEST(SubjectCache, ChecksTheCallingClientOnEveryHit) {
  TwoClients f;
  const auto token = f.idp.sign(f.claims());
  const auto by = [&](const char* client) {
    return code_of(f.verifier.verify(*f.snapshot, f.caller(client), token,
                                     SubjectTokenType::AccessToken, Wait::Yes));
  };
  EXPECT_EQ(by("gw-01"), std::nullopt);
  EXPECT_EQ(by("gw-02"), ErrorCode::InvalidToken);
  EXPECT_EQ(by("gw-01"), std::nullopt);
  EXPECT_EQ(f.verifier.stats().hits, 2u);
}

TEST(SubjectCache, ChecksTheDeclaredTypeOnEveryHit) {
  Subjects f;
  const auto token = f.idp.sign(f.claims(), "at+jwt");
  EXPECT_TRUE(f.verify(token, SubjectTokenType::AccessToken).ok());
  EXPECT_EQ(code_of(f.verify(token, SubjectTokenType::IdToken)), ErrorCode::InvalidToken);
}

TEST(SubjectCache, ForgetsNothingOfExpiry) {
  Subjects f;
  const auto token = f.subject_token();
  ASSERT_TRUE(f.verify(token).ok());
  f.clock.advance(299s);
  EXPECT_TRUE(f.verify(token).ok());
  f.clock.advance(1s);
  EXPECT_EQ(code_of(f.verify(token)), ErrorCode::InvalidToken);
}

TEST(SubjectCache, ForgetsNothingOfTheIssuersAgeLimit) {
  Subjects f;
  f.issuer()["max_token_age"] = 30;
  f.load();
  const auto token = f.subject_token();
  ASSERT_TRUE(f.verify(token).ok());
  f.clock.advance(90s);
  EXPECT_TRUE(f.verify(token).ok());
  f.clock.advance(1s);
  EXPECT_EQ(code_of(f.verify(token)), ErrorCode::InvalidToken);
}

TEST(SubjectCache, VerifiesAnewAfterEveryConfigurationChange) {
  Subjects f;
  const auto token = f.subject_token();
  ASSERT_TRUE(f.verify(token).ok());
  f.manifest["display_name"] = "Acme Corporation";
  f.load();
  EXPECT_TRUE(f.verify(token).ok());
  EXPECT_EQ(f.verifier.stats().hits, 0u);
  // The audience, the groups claim, the key: each counts at once.
  f.issuer()["claims"]["groups"] = "roles";
  f.load();
  EXPECT_TRUE(f.verify(token).value()->groups.empty());
  f.issuer()["audiences"] = {"api://other"};
  f.load();
  EXPECT_EQ(code_of(f.verify(token)), ErrorCode::InvalidToken);
  f.issuer()["audiences"] = {"gw-01"};
  f.issuer()["jwks"] = test::Idp(f.idp.issuer()).jwks();
  f.load();
  EXPECT_EQ(code_of(f.verify(token)), ErrorCode::InvalidToken);
  f.issuer()["jwks"] = f.idp.jwks();
  f.issuer()["enabled"] = false;
  f.load();
  EXPECT_EQ(code_of(f.verify(token)), ErrorCode::InvalidToken);
}

TEST(SubjectCache, DoesNotOutliveAWithdrawnKeyOfAFetchedSet) {
  Subjects f;
  const char* kUri = "https://idp.acme.example/keys";
  f.issuer().erase("jwks");
  f.issuer()["jwks_uri"] = kUri;
  f.fetcher.serve(kUri, f.idp.jwks(), 300s);
  f.load();
  auto claims = f.claims();
  claims["exp"] = seconds_of(f.clock.now() + 3600s);
  const auto token = f.idp.sign(claims);
  ASSERT_TRUE(f.verify(token).ok());
  f.fetcher.serve(kUri, test::Idp(f.idp.issuer()).jwks(), 300s);
  f.clock.advance(299s);
  EXPECT_TRUE(f.verify(token).ok());  // within what the issuer's answer allowed
  f.clock.advance(1s);
  EXPECT_EQ(code_of(f.verify(token)), ErrorCode::InvalidToken);
}

TEST(SubjectCache, DoesNotOutliveAKeyThatAnotherRequestFoundWithdrawn) {
  Subjects f;
  const char* kUri = "https://idp.acme.example/keys";
  const test::Idp next(f.idp.issuer());
  f.issuer().erase("jwks");
  f.issuer()["jwks_uri"] = kUri;
  f.fetcher.serve(kUri, f.idp.jwks(), 3600s);
  f.load();
  const auto token = f.subject_token();
  ASSERT_TRUE(f.verify(token).ok());
  f.fetcher.serve(kUri, next.jwks(), 3600s);
  f.clock.advance(60s);
  ASSERT_TRUE(f.verify(token).ok());
  ASSERT_TRUE(f.verify(next.sign(f.claims("bob"))).ok());  // its kid made us look
  EXPECT_EQ(code_of(f.verify(token)), ErrorCode::InvalidToken);
}

/// One key set for everybody, so that only tenant and epoch tell entries apart.
class SharedKeys final : public IssuerKeys {
 public:
  explicit SharedKeys(const Json& jwks)
      : set_(std::make_shared<const token::JwkSet>(
            test::must(token::JwkSet::parse(jwks, token::JwkSet::WeakKeys::Refuse)))) {}
  Result<std::shared_ptr<const token::JwkSet>> keys(const TenantId&, const policy::IssuerEntry&,
                                                    const std::optional<std::string>&,
                                                    Wait) override {
    return set_;
  }

 private:
  std::shared_ptr<const token::JwkSet> set_;
};

TEST(SubjectCache, KeepsTenantsApartEvenWithTheSameKeysAndEpoch) {
  Subjects f;
  SharedKeys keys(f.idp.jwks());
  SubjectVerifier verifier(keys, f.own_tokens, f.clock);
  auto manifest = f.manifest;
  manifest["tenant"] = "other";
  manifest["issuers"][0]["subject_prefix"] = "corp:";
  f.tenants.apply(manifest, f.clock.now());
  const auto other = f.tenants.snapshot(TenantId("other"));
  ASSERT_EQ(other->epoch(), f.snapshot->epoch());
  const auto token = f.subject_token();
  const auto subject_at = [&](const policy::TenantSnapshot& snapshot) {
    return verifier
        .verify(snapshot, Caller(*snapshot.find_client("gw-01")), token,
                SubjectTokenType::AccessToken, Wait::Yes)
        .value()
        ->issued_subject;
  };
  EXPECT_EQ(subject_at(*f.snapshot), "alice");
  EXPECT_EQ(subject_at(*other), "corp:alice");
  EXPECT_EQ(subject_at(*f.snapshot), "alice");
}

TEST(SubjectCache, CountsAChangeElsewhereInTheConfiguration) {
  Subjects f;
  SharedKeys keys(f.idp.jwks());
  SubjectVerifier verifier(keys, f.own_tokens, f.clock);
  const auto token = f.subject_token("service-7");
  const auto verify = [&] {
    return code_of(
        verifier.verify(*f.snapshot, f.caller(), token, SubjectTokenType::AccessToken, Wait::Yes));
  };
  ASSERT_EQ(verify(), std::nullopt);
  f.manifest["clients"].push_back({{"id", "service-7"}});
  f.load();
  EXPECT_EQ(verify(), ErrorCode::InvalidToken);
}

TEST(SubjectCache, RemembersNoMoreThanItMay) {
  Subjects f;
  SubjectVerifier small(f.issuer_keys, f.own_tokens, f.clock, SubjectVerifier::Options{32});
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(small
                    .verify(*f.snapshot, f.caller(), f.subject_token("user-" + std::to_string(i)),
                            SubjectTokenType::AccessToken, Wait::Yes)
                    .ok());
  }
  EXPECT_LE(small.stats().entries, 32u);
  EXPECT_GT(small.stats().entries, 16u);
}

TEST(SubjectCache, CountsBytesAsWellAsTokens) {
  Subjects f;
  SubjectVerifier::Options options;
  options.cache_bytes = 16 * 100 * 1024;  // 16 parts of 100 KiB
  SubjectVerifier small(f.issuer_keys, f.own_tokens, f.clock, options);
  for (int i = 0; i < 200; ++i) {
    auto claims = f.claims("user-" + std::to_string(i));
    claims["padding"] = std::string(8'000, 'x');
    ASSERT_TRUE(small
                    .verify(*f.snapshot, f.caller(), f.idp.sign(claims),
                            SubjectTokenType::AccessToken, Wait::Yes)
                    .ok());
  }
  EXPECT_GE(small.stats().entries, 8u);
  EXPECT_LE(small.stats().entries, 16u);  // each takes more than half of a part
}

TEST(SubjectCache, RemembersNothingThatWasRefused) {
  Subjects f;
  const auto refused = f.idp.sign([&] {
    auto claims = f.claims();
    claims["aud"] = "other";
    return claims;
  }());
  EXPECT_FALSE(f.verify(refused).ok());
  auto expired = f.claims();
  expired["exp"] = seconds_of(f.clock.now() - 1s);
  EXPECT_FALSE(f.verify(f.idp.sign(expired)).ok());
  EXPECT_EQ(f.verifier.stats().entries, 0u);
}

}  // namespace
}  // namespace postern::grants
