#include "grants/jwt_bearer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::field_of;
using test::GrantsFixture;
using test::seconds_of;
using token::Json;

constexpr const char* kUs = "https://sts.example.com/t/acme";

/// The fixture with an issuer that may send assertions, and a gateway that may use them.
struct Assertions : GrantsFixture {
  Assertions() {
    client()["grants"] = {"token-exchange", "jwt-bearer"};
    issuer()["token_types"] = {"access_token", "jwt_bearer", "id_jag"};
    load();
  }
  /// Claims of a good assertion, and of a good ID-JAG.
  Json jwt_claims(std::string_view subject = "alice") {
    auto claims = this->claims(subject);
    claims["aud"] = kUs;
    claims["jti"] = "jti-" + std::to_string(++number);
    return claims;
  }
  Json jag_claims(std::string_view subject = "alice") {
    auto claims = jwt_claims(subject);
    claims["client_id"] = "gw-01";
    claims["resource"] = "https://files.example.com/mcp";
    return claims;
  }
  Result<IssuedToken> present(const std::string& assertion, const char* audience = "files",
                              std::optional<std::string_view> scope = std::nullopt,
                              Wait wait = Wait::Yes) {
    last_record = record("token.jwt_bearer");
    JwtBearerRequest request{assertion, {}, {}, scope};
    if (audience != nullptr) request.audiences = {audience};
    return jwt_bearer.grant(*snapshot, caller(), request, wait, last_record);
  }
  Result<IssuedToken> jwt(const Json& claims) { return present(idp.sign(claims)); }
  Result<IssuedToken> jag(const Json& claims, const char* audience = nullptr,
                          std::optional<std::string_view> scope = std::nullopt) {
    return present(idp.sign(claims, "oauth-id-jag+jwt"), audience, scope);
  }
  int number = 0;
};

#define EXPECT_GRANT_REFUSED(expression) EXPECT_EQ(code_of(expression), ErrorCode::InvalidGrant)

// ---- RFC 7523 §2.1 ----

TEST(JwtBearer, Rfc7523_2_1_AnAssertionIsTheGrant) {
  Assertions f;
  const auto issued = f.jwt(f.jwt_claims());
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  const auto claims = f.open(issued.value().access_token);
  EXPECT_EQ(claims.at("sub"), "alice");
  EXPECT_EQ(claims.at("aud"), "https://files.example.com/mcp");
  EXPECT_EQ(claims.at("client_id"), "gw-01");
  EXPECT_EQ(issued.value().issued_token_type, "");
  EXPECT_EQ(field_of(f.last_record, "subject"), "alice");
  EXPECT_EQ(field_of(f.last_record, "assertion"), "jwt");
}

TEST(JwtBearer, Rfc7523_3_TheAudienceIsUsAndNobodyElse) {
  Assertions f;
  const auto with = [&](const Json& aud) {
    auto claims = f.jwt_claims();
    claims["aud"] = aud;
    return f.jwt(claims);
  };
  EXPECT_TRUE(with(kUs).ok());
  EXPECT_TRUE(with(std::string(kUs) + "/token").ok());
  EXPECT_TRUE(with(Json::array({kUs})).ok());
  for (const Json& aud :
       {Json("gw-01"), Json("https://sts.example.com/t/other"), Json(std::string(kUs) + "/"),
        Json("https://sts.example.com"), Json(std::string(kUs) + "/token/"),
        Json::array({kUs, "https://elsewhere.example"}), Json::array(), Json(nullptr), Json(1)}) {
    EXPECT_GRANT_REFUSED(with(aud)) << aud;
  }
}

TEST(JwtBearer, Rfc7523_3_WhatAnAssertionMustHave) {
  Assertions f;
  for (const char* name : {"iss", "sub", "aud", "exp"}) {
    auto claims = f.jwt_claims();
    claims.erase(name);
    EXPECT_GRANT_REFUSED(f.jwt(claims)) << name;
  }
  auto claims = f.jwt_claims();
  claims["exp"] = seconds_of(f.clock.now());
  EXPECT_GRANT_REFUSED(f.jwt(claims));
  claims["exp"] = seconds_of(f.clock.now() + 2h);
  EXPECT_GRANT_REFUSED(f.jwt(claims));
  claims = f.jwt_claims();
  claims["nbf"] = seconds_of(f.clock.now() + 2min);
  EXPECT_GRANT_REFUSED(f.jwt(claims));
  EXPECT_GRANT_REFUSED(f.present("garbage"));
  const test::Idp impostor(f.idp.issuer());
  EXPECT_GRANT_REFUSED(f.present(impostor.sign(f.jwt_claims())));
}

TEST(JwtBearer, OnlyOfIssuersThatMaySendThem) {
  Assertions f;
  f.issuer()["token_types"] = {"access_token", "jwt", "id_token", "id_jag"};
  f.load();
  EXPECT_GRANT_REFUSED(f.jwt(f.jwt_claims()));
  EXPECT_TRUE(f.jag(f.jag_claims()).ok());
  f.issuer()["token_types"] = {"jwt_bearer"};
  f.load();
  EXPECT_TRUE(f.jwt(f.jwt_claims()).ok());
  EXPECT_GRANT_REFUSED(f.jag(f.jag_claims()));
  f.issuer()["enabled"] = false;
  f.load();
  EXPECT_GRANT_REFUSED(f.jwt(f.jwt_claims()));
}

TEST(JwtBearer, OneKindOfTokenNeverPassesAsAnother) {
  Assertions f;
  // An access token is no assertion, and an assertion opens no exchange.
  EXPECT_GRANT_REFUSED(f.present(f.idp.sign(f.jwt_claims(), "at+jwt")));
  EXPECT_GRANT_REFUSED(f.present(f.idp.sign(f.jwt_claims(), "dpop+jwt")));
  const auto as_subject = [&](Json claims, const char* typ) {
    claims["aud"] = {"gw-01"};
    const auto token = f.idp.sign(claims, typ);
    return f.exchange(f.request(token));
  };
  EXPECT_TRUE(as_subject(f.jwt_claims(), "JWT").ok());
  EXPECT_EQ(code_of(as_subject(f.jag_claims(), "oauth-id-jag+jwt")), ErrorCode::InvalidToken);
}

TEST(JwtBearer, TheClientNeedsTheGrant) {
  Assertions f;
  f.client()["grants"] = {"token-exchange", "client_credentials"};
  f.load();
  EXPECT_EQ(code_of(f.jwt(f.jwt_claims())), ErrorCode::UnauthorizedClient);
}

TEST(JwtBearer, AnAssertionWithAnIdIsUsedOnce) {
  Assertions f;
  const auto assertion = f.idp.sign(f.jwt_claims());
  EXPECT_TRUE(f.present(assertion).ok());
  EXPECT_GRANT_REFUSED(f.present(assertion));
  // Another assertion with the same id is the same use; of another user it is not.
  auto claims = f.jwt_claims();
  claims["jti"] = "once";
  EXPECT_TRUE(f.jwt(claims).ok());
  claims["exp"] = seconds_of(f.clock.now() + 100s);
  EXPECT_GRANT_REFUSED(f.jwt(claims));
  claims["sub"] = "bob";
  EXPECT_TRUE(f.jwt(claims).ok());
  // RFC 7523 leaves `jti` to the issuer.
  claims.erase("jti");
  EXPECT_TRUE(f.jwt(claims).ok());
  EXPECT_TRUE(f.jwt(claims).ok());
  claims["jti"] = 7;
  EXPECT_GRANT_REFUSED(f.jwt(claims));
}

TEST(JwtBearer, ARefusalDoesNotUseTheAssertionUp) {
  Assertions f;
  const auto assertion = f.idp.sign(f.jwt_claims());
  EXPECT_EQ(code_of(f.present(assertion, "nowhere")), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(f.present(assertion, "files", "files:admin")), ErrorCode::ScopeRefused);
  EXPECT_EQ(code_of(f.present(assertion, "github")), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(f.present(assertion, "files", std::nullopt, Wait::No)),
            ErrorCode::NeedsDatabase);
  f.client()["dpop_bound"] = true;
  f.load();
  EXPECT_FALSE(f.present(assertion).ok());
  f.client()["dpop_bound"] = false;
  f.load();
  EXPECT_TRUE(f.present(assertion, "files", std::nullopt, Wait::Database).ok());
}

TEST(JwtBearer, NarrowsAsEveryGrantDoes) {
  Assertions f;
  EXPECT_EQ(f.present(f.idp.sign(f.jwt_claims()), "files", "files:read").value().scope.str(),
            "files:read");
  auto claims = f.jwt_claims("mallory");
  claims["groups"] = {"sales"};
  EXPECT_EQ(code_of(f.jwt(claims)), ErrorCode::TargetRefused);
  claims = f.jwt_claims();
  claims["exp"] = seconds_of(f.clock.now() + 50s);
  EXPECT_EQ(f.jwt(claims).value().expires_in, 50s);
  EXPECT_EQ(code_of(f.present(f.idp.sign(f.jwt_claims()), nullptr)), ErrorCode::TargetRefused);
  f.client()["default_backend"] = "files";
  f.backend("files")["require"] = {{"acr", {"gold"}}};
  f.load();
  EXPECT_EQ(code_of(f.present(f.idp.sign(f.jwt_claims()), nullptr)),
            ErrorCode::InsufficientAuthentication);
}

TEST(JwtBearer, MayActAndActHoldHereToo) {
  Assertions f;
  auto claims = f.jwt_claims();
  claims["may_act"] = {{"sub", "gw-02"}};
  EXPECT_GRANT_REFUSED(f.jwt(claims));
  claims = f.jwt_claims();
  claims["act"] = {{"sub", "agent"}};
  const auto issued = f.jwt(claims);
  EXPECT_EQ(f.open(issued.value().access_token).at("act"),
            Json({{"sub", "gw-01"}, {"act", {{"sub", "agent"}}}}));
  // One more would make six.
  claims = f.jwt_claims();
  Json act{{"sub", "first"}};
  for (int i = 0; i < 4; ++i) act = {{"sub", "next"}, {"act", act}};
  claims["act"] = act;
  EXPECT_GRANT_REFUSED(f.jwt(claims));
  claims["act"] = act.at("act");
  EXPECT_TRUE(f.jwt(claims).ok());
}

TEST(JwtBearer, TheTokenNamesWhatItRestsOn) {
  Assertions f;
  const auto claims = f.jwt_claims();
  const auto own = f.open(f.jwt(claims).value().access_token).at("postern");
  EXPECT_EQ(own.at("ancestors").size(), 1u);
  EXPECT_EQ(own.at("iss"), claims.at("iss"));
}

TEST(JwtBearer, Rfc9396_9_DetailsOfTheAssertionLimitTheToken) {
  Assertions f;
  auto claims = f.jwt_claims();
  Json detail{{"type", "mcp_tool"}, {"identifier", "read_file"}, {"actions", {"call"}}};
  claims["authorization_details"] = Json::array({detail});
  const auto issued = f.jwt(claims);
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  detail["locations"] = {"https://files.example.com/mcp"};
  EXPECT_EQ(f.open(issued.value().access_token).at("authorization_details"), Json::array({detail}));
}

// ---- ID-JAG ----

TEST(IdJag, GrantsWhatItNames) {
  Assertions f;
  auto claims = f.jag_claims();
  claims["scope"] = "files:read other:scope";
  const auto issued = f.jag(claims);
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  const auto token = f.open(issued.value().access_token);
  EXPECT_EQ(token.at("aud"), "https://files.example.com/mcp");
  EXPECT_EQ(token.at("scope"), "files:read");
  EXPECT_EQ(token.at("sub"), "alice");
  EXPECT_EQ(field_of(f.last_record, "assertion"), "id-jag");
}

TEST(IdJag, WhatItMustHave) {
  Assertions f;
  for (const char* name : {"iss", "sub", "aud", "client_id", "jti", "exp", "iat"}) {
    auto claims = f.jag_claims();
    claims.erase(name);
    EXPECT_GRANT_REFUSED(f.jag(claims)) << name;
    claims[name] = Json::array();
    EXPECT_GRANT_REFUSED(f.jag(claims)) << name;
  }
  // Without the header type it is no ID-JAG.
  f.issuer()["token_types"] = {"id_jag"};
  f.load();
  EXPECT_GRANT_REFUSED(f.present(f.idp.sign(f.jag_claims())));
  EXPECT_TRUE(f.present(f.idp.sign(f.jag_claims(), "application/OAuth-ID-JAG+jwt"), nullptr).ok());
}

TEST(IdJag, TheAudienceIsOurIssuerOnly) {
  Assertions f;
  for (const Json& aud : {Json(std::string(kUs) + "/token"), Json(std::string(kUs) + "/"),
                          Json::array({kUs, "https://elsewhere.example"}), Json("gw-01")}) {
    auto claims = f.jag_claims();
    claims["aud"] = aud;
    EXPECT_GRANT_REFUSED(f.jag(claims)) << aud;
  }
  auto claims = f.jag_claims();
  claims["aud"] = Json::array({kUs});
  EXPECT_TRUE(f.jag(claims).ok());
}

TEST(IdJag, IsForTheAuthenticatedClient) {
  Assertions f;
  for (const char* other : {"gw-02", "", "GW-01"}) {
    auto claims = f.jag_claims();
    claims["client_id"] = other;
    EXPECT_GRANT_REFUSED(f.jag(claims)) << other;
  }
}

TEST(IdJag, IsUsedOnceUnlessItsIssuerMayRepeatIt) {
  Assertions f;
  const auto assertion = f.idp.sign(f.jag_claims(), "oauth-id-jag+jwt");
  EXPECT_TRUE(f.present(assertion, nullptr).ok());
  EXPECT_GRANT_REFUSED(f.present(assertion, nullptr));
  f.issuer()["id_jag_reuse"] = true;
  f.load();
  EXPECT_TRUE(f.present(assertion, nullptr).ok());
  EXPECT_TRUE(f.present(assertion, nullptr, std::nullopt, Wait::No).ok());
}

TEST(IdJag, TheRequestMayOnlyRepeatItsResource) {
  Assertions f;
  EXPECT_TRUE(f.jag(f.jag_claims(), "files").ok());
  EXPECT_TRUE(f.jag(f.jag_claims(), "docs").ok());
  EXPECT_GRANT_REFUSED(f.jag(f.jag_claims(), "search"));
  auto claims = f.jag_claims();
  claims["resource"] = "https://nowhere.example/mcp";
  EXPECT_EQ(code_of(f.jag(claims)), ErrorCode::TargetRefused);
  claims["resource"] = Json::array({"https://files.example.com/mcp"});
  claims["jti"] = "array";
  EXPECT_TRUE(f.jag(claims).ok());
  for (const Json& bad : {Json(1), Json::array(), Json::object(), Json("")}) {
    claims["resource"] = bad;
    EXPECT_GRANT_REFUSED(f.jag(claims)) << bad;
  }
  // It need not name one; then the request does.
  claims.erase("resource");
  claims["jti"] = "none";
  EXPECT_EQ(code_of(f.jag(claims)), ErrorCode::TargetRefused);
  EXPECT_TRUE(f.jag(claims, "search").ok());
}

TEST(IdJag, ScopeIsTheIntersection) {
  Assertions f;
  auto claims = f.jag_claims();
  claims["scope"] = "files:read";
  EXPECT_EQ(code_of(f.jag(claims, nullptr, "files:write")), ErrorCode::ScopeRefused);
  EXPECT_EQ(f.jag(claims, nullptr, "files:read").value().scope.str(), "files:read");
  claims["scope"] = "other:scope";
  EXPECT_EQ(code_of(f.jag(claims)), ErrorCode::ScopeRefused);
  claims["scope"] = 1;
  EXPECT_GRANT_REFUSED(f.jag(claims));
}

TEST(IdJag, ScopeIsACeilingWhereTheIssuersScopeIsNone) {
  Assertions f;
  f.issuer()["claims"] = {{"scope", ""}};
  f.load();
  auto claims = f.jag_claims();
  claims["scope"] = "other:scope";
  EXPECT_EQ(code_of(f.jag(claims)), ErrorCode::ScopeRefused);
  for (const Json& scope : std::vector<Json>{"a\"b", 7, nullptr, Json::array({"files:read"})}) {
    claims["scope"] = scope;
    EXPECT_GRANT_REFUSED(f.jag(claims));
  }
  claims["scope"] = "files:read";
  EXPECT_EQ(f.jag(claims).value().scope.str(), "files:read");
}

TEST(IdJag, ABoundOneNeedsItsKey) {
  Assertions f;
  auto claims = f.jag_claims();
  claims["cnf"] = {{"jkt", "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}};
  EXPECT_GRANT_REFUSED(f.jag(claims));
  auto caller = f.caller();
  caller.proven.jkt = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
  const auto assertion = f.idp.sign(claims, "oauth-id-jag+jwt");
  auto record = f.record();
  const auto issued =
      f.jwt_bearer.grant(*f.snapshot, caller, {assertion, {}, {}, {}}, Wait::Yes, record);
  ASSERT_TRUE(issued.ok()) << issued.error().detail;
  EXPECT_EQ(issued.value().token_type, "DPoP");
  caller.proven.jkt = "another";
  claims["jti"] = "another";
  const auto second = f.idp.sign(claims, "oauth-id-jag+jwt");
  EXPECT_GRANT_REFUSED(
      f.jwt_bearer.grant(*f.snapshot, caller, {second, {}, {}, {}}, Wait::Yes, record));
  // The verifier refuses it by itself already: others ask it too.
  const auto verified = f.verifier.verify_assertion(*f.snapshot, caller, second, Wait::Yes);
  ASSERT_EQ(code_of(verified), ErrorCode::InvalidToken);
  EXPECT_EQ(verified.error().detail, "the token is bound to a key; no proof of it was sent");
}

TEST(IdJag, AsksForStepUp) {
  Assertions f;
  f.backend("files")["require"] = {{"max_auth_age", 300}};
  f.load();
  auto claims = f.jag_claims();
  EXPECT_EQ(code_of(f.jag(claims)), ErrorCode::InsufficientAuthentication);
  claims["auth_time"] = seconds_of(f.clock.now() - 10s);
  EXPECT_TRUE(f.jag(claims).ok());  // and the refusal had not used it up
}

}  // namespace
}  // namespace postern::grants
