// Identity assertions as grants (draft-ietf-oauth-identity-assertion-authz-grant, and
// MCP's enterprise-managed authorization): the accepting side, over the wire. What
// the grant decides is in unit/grants/jwt_bearer_test.cc.

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "crypto/base64url.h"
#include "support/dpop_holder.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kJwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer";
constexpr const char* kProfile = "urn:ietf:params:oauth:grant-profile:id-jag";
constexpr const char* kFiles = "https://files.example.com/mcp";

/// A tenant whose issuer may send ID-JAGs, and two gateways that may present them.
struct Tenant : TestTenant {
  explicit Tenant(const std::string& called) : TestTenant(called) {
    for (const char* client : {"gw-01", "gw-files"}) {
      part("clients", client)["grants"] = {"token-exchange", "jwt-bearer"};
    }
    part("issuers", "corp")["token_types"] = {"access_token", "id_jag"};
    EXPECT_THAT(apply(), HasStatus(200));
  }
  std::string url() const { return std::string(kBaseUrlOfTests) + "/t/" + name; }
  /// Those that are required, and a resource.
  Json jag() {
    auto all = claims("alice");
    all["aud"] = url();
    all["jti"] = name + std::to_string(++number);
    all["client_id"] = "gw-01";
    all["resource"] = kFiles;
    return all;
  }
  Json with(const char* claim, const Json& value) {
    auto all = jag();
    all[claim] = value;
    return all;
  }
  std::string sign(const Json& claims) const { return idp.sign(claims, "oauth-id-jag+jwt"); }
  /// As the MCP client presents one: grant_type and assertion alone.
  WireReply present(const std::string& assertion, const Pairs& more = {},
                    const std::optional<std::string>& authorization = std::nullopt,
                    const std::string& proof = {}) const {
    Pairs fields{{"grant_type", kJwtBearer}, {"assertion", assertion}};
    fields.insert(fields.end(), more.begin(), more.end());
    Pairs headers{{"Content-Type", "application/x-www-form-urlencoded"}};
    const auto who = authorization.value_or(basic("gw-01", secret));
    if (!who.empty()) headers.emplace_back("Authorization", who);
    if (!proof.empty()) headers.emplace_back("DPoP", proof);
    return ask("POST", "/t/" + name + "/token", headers, form(fields));
  }
  int number = 0;
};

Tenant& acme() {
  static Tenant tenant("id-jag");
  return tenant;
}
Json issued(const WireReply& reply) {
  EXPECT_THAT(reply, HasStatus(200));
  return reply.status == 200 ? claims_of(json_of(reply, "access_token").get<std::string>())
                             : Json::object();
}

TEST(IdJag, Typ_OneIsKnownByItsHeader) {
  for (const char* typ : {"oauth-id-jag+jwt", "OAuth-ID-JAG+JWT", "application/oauth-id-jag+jwt"}) {
    EXPECT_THAT(acme().present(acme().idp.sign(acme().jag(), typ)), HasStatus(200)) << typ;
  }
}

TEST(IdJag, Typ_NoOtherKindIssuerKeyOrAlgorithm) {
  for (const char* typ :
       {"JWT", "at+jwt", "dpop+jwt", "client-authentication+jwt", "oauth-id-jag", "txntoken+jwt"}) {
    EXPECT_THAT(acme().present(acme().idp.sign(acme().jag(), typ)),
                IsOAuthError(400, "invalid_grant"))
        << typ;
  }
  const Idp impostor(acme().idp.issuer());
  EXPECT_THAT(acme().present(impostor.sign(acme().jag(), "oauth-id-jag+jwt")),
              IsOAuthError(400, "invalid_grant"));
  EXPECT_THAT(acme().present(acme().sign(acme().with("iss", "https://nobody.example"))),
              IsOAuthError(400, "invalid_grant"));
  for (const char* algorithm : {"none", "None", "HS256"}) {
    const Json header{{"typ", "oauth-id-jag+jwt"}, {"alg", algorithm}};
    const auto unsigned_one = crypto::base64url(as_bytes(header.dump())) + "." +
                              crypto::base64url(as_bytes(acme().jag().dump())) + ".";
    for (const char* signature : {"", "AAAA"}) {
      EXPECT_THAT(acme().present(unsigned_one + signature), IsOAuthError(400, "invalid_grant"))
          << algorithm;
    }
  }
}

TEST(IdJag, Typ_AnIssuerThatMaySendNoneSendsNone) {
  TestTenant tenant("id-jag-none");
  tenant.part("clients", "gw-01")["grants"] = {"jwt-bearer"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  auto claims = acme().jag();
  claims["aud"] = std::string(kBaseUrlOfTests) + "/t/id-jag-none";
  claims["iss"] = tenant.idp.issuer();
  EXPECT_THAT(tenant.token({{"grant_type", kJwtBearer},
                            {"assertion", tenant.idp.sign(claims, "oauth-id-jag+jwt")}}),
              IsOAuthError(400, "invalid_grant"));
}

TEST(IdJag, Claims_TheRequiredOnesAreEnough) {
  auto claims = acme().jag();
  claims.erase("resource");
  const auto token = issued(acme().present(acme().sign(claims), {{"resource", kFiles}}));
  EXPECT_EQ(token.at("sub"), "alice");
  EXPECT_EQ(token.at("client_id"), "gw-01");
}

TEST(IdJag, Claims_EachOneIsRequired) {
  for (const char* name : {"iss", "sub", "aud", "client_id", "jti", "exp", "iat"}) {
    auto claims = acme().jag();
    claims.erase(name);
    EXPECT_THAT(acme().present(acme().sign(claims)), IsOAuthError(400, "invalid_grant")) << name;
    for (const Json& bad : {Json(nullptr), Json::object(), Json("")}) {
      claims[name] = bad;
      EXPECT_THAT(acme().present(acme().sign(claims)), IsOAuthError(400, "invalid_grant"))
          << name << " " << bad;
    }
  }
  EXPECT_THAT(
      acme().present(acme().sign(acme().with("exp", seconds_of(SystemClock().now() - 120s)))),
      IsOAuthError(400, "invalid_grant"));
}

TEST(IdJag, Aud_IsOurIssuerAsTextOrAListOfOne) {
  EXPECT_THAT(acme().present(acme().sign(acme().with("aud", acme().url()))), HasStatus(200));
  EXPECT_THAT(acme().present(acme().sign(acme().with("aud", Json::array({acme().url()})))),
              HasStatus(200));
}

TEST(IdJag, Aud_IsNothingElse) {
  const auto us = acme().url();
  for (const Json& aud :
       {Json(us + "/token"), Json(us + "/"), Json("gw-01"), Json(kFiles), Json(Json::array()),
        Json::array({us, us}), Json::array({us, "https://elsewhere.example"}),
        Json("https://sts.example.com/t/other"), Json("https://sts.example.com")}) {
    EXPECT_THAT(acme().present(acme().sign(acme().with("aud", aud))),
                IsOAuthError(400, "invalid_grant"))
        << aud;
  }
}

TEST(IdJag, Client_TheOneThatIsNamedPresentsIt) {
  EXPECT_EQ(issued(acme().present(acme().sign(acme().jag()))).at("client_id"), "gw-01");
  const auto other = acme().sign(acme().with("client_id", "gw-files"));
  EXPECT_EQ(issued(acme().present(other, {{"scope", "files:read"}},
                                  basic("gw-files", acme().files_secret)))
                .at("client_id"),
            "gw-files");
}

TEST(IdJag, Client_NobodyElsePresentsIt) {
  const auto mine = acme().sign(acme().jag());
  EXPECT_THAT(acme().present(mine, {}, basic("gw-files", acme().files_secret)),
              IsOAuthError(400, "invalid_grant"));
  for (const char* other : {"gw-files", "gw-02", "GW-01"}) {
    EXPECT_THAT(acme().present(acme().sign(acme().with("client_id", other))),
                IsOAuthError(400, "invalid_grant"))
        << other;
  }
  // Nor anybody who does not authenticate.
  EXPECT_THAT(acme().present(mine, {}, basic("gw-01", "wrong")),
              IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(acme().present(mine, {{"client_id", "gw-01"}}, ""),
              IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(acme().present(mine), HasStatus(200)) << "what was refused did not use it up";
}

TEST(IdJag, Jti_ItsIssuerMayLetItBeUsedAgain) {
  Tenant tenant("id-jag-reuse");
  tenant.part("issuers", "corp")["id_jag_reuse"] = true;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto assertion = tenant.sign(tenant.jag());
  EXPECT_THAT(tenant.present(assertion), HasStatus(200));
  EXPECT_THAT(tenant.present(assertion), HasStatus(200));
}

TEST(IdJag, Jti_IsUsedOnce) {
  const auto claims = acme().jag();
  EXPECT_THAT(acme().present(acme().sign(claims)), HasStatus(200));
  EXPECT_THAT(acme().present(acme().sign(claims)), IsOAuthError(400, "invalid_grant"));
  auto again = acme().jag();
  again["jti"] = claims.at("jti");
  EXPECT_THAT(acme().present(acme().sign(again)), IsOAuthError(400, "invalid_grant"));
}

TEST(IdJag, Resource_IsTheAudienceAndScopeTheIntersection) {
  auto claims = acme().jag();
  claims["scope"] = "files:read other:scope";
  const auto reply = acme().present(acme().sign(claims));
  const auto token = issued(reply);
  EXPECT_EQ(token.at("aud"), kFiles);
  EXPECT_EQ(token.at("scope"), "files:read");
  EXPECT_EQ(json_of(reply, "scope"), "files:read");
  // The request may repeat it.
  EXPECT_EQ(issued(acme().present(acme().sign(acme().jag()), {{"resource", kFiles}})).at("aud"),
            kFiles);
}

TEST(IdJag, Resource_AnotherTargetOrMoreScopeIsRefused) {
  for (const auto& more :
       {Pairs{{"audience", "search"}}, Pairs{{"resource", "https://search.example.com/mcp"}}}) {
    EXPECT_THAT(acme().present(acme().sign(acme().jag()), more),
                IsOAuthError(400, "invalid_grant"));
  }
  auto read_only = acme().jag();
  read_only["scope"] = "files:read";
  EXPECT_THAT(acme().present(acme().sign(read_only), {{"scope", "files:write"}}),
              IsOAuthError(400, "invalid_scope"));
  EXPECT_THAT(acme().present(acme().sign(acme().with("resource", "https://nowhere.example/mcp"))),
              IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(acme().present(acme().sign(acme().with("scope", "other:scope"))),
              IsOAuthError(400, "invalid_scope"));
}

TEST(IdJag, Cnf_WithItsKeyTheTokenIsBoundAndNothingRefreshesIt) {
  const DpopHolder holder;
  const auto assertion = acme().sign(acme().with("cnf", {{"jkt", holder.jkt()}}));
  const auto reply =
      acme().present(assertion, {}, std::nullopt, holder.proof(acme().url() + "/token"));
  EXPECT_EQ(issued(reply).at("cnf"), Json({{"jkt", holder.jkt()}}));
  EXPECT_EQ(json_of(reply, "token_type"), "DPoP");
  EXPECT_FALSE(json_of(reply).contains("refresh_token"));
}

TEST(IdJag, Cnf_WithoutItsKeyItIsInvalidGrant) {
  const DpopHolder holder, thief;
  const auto url = acme().url() + "/token";
  const auto assertion = acme().sign(acme().with("cnf", {{"jkt", holder.jkt()}}));
  EXPECT_THAT(acme().present(assertion), IsOAuthError(400, "invalid_grant"));
  EXPECT_THAT(acme().present(assertion, {}, std::nullopt, thief.proof(url)),
              IsOAuthError(400, "invalid_grant"));
  EXPECT_THAT(acme().present(assertion, {}, std::nullopt, holder.proof(url)), HasStatus(200))
      << "what was refused did not use it up";
}

TEST(IdJag, Metadata_NamesTheProfileAndTheGrant) {
  const auto metadata =
      json_of(acme().ask("GET", "/.well-known/oauth-authorization-server/t/id-jag"));
  EXPECT_THAT(metadata.at("grant_types_supported").dump(), HasSubstr(kJwtBearer));
  EXPECT_EQ(metadata.at("authorization_grant_profiles_supported"), Json::array({kProfile}));
}

TEST(IdJag, Metadata_SaysNothingWhereNobodyMayPresentOne) {
  const auto metadata = [](const TestTenant& tenant) {
    return json_of(tenant.ask("GET", "/.well-known/oauth-authorization-server/t/" + tenant.name));
  };
  TestTenant plain("id-jag-silent");
  EXPECT_FALSE(metadata(plain).contains("authorization_grant_profiles_supported"));
  EXPECT_THAT(metadata(plain).at("grant_types_supported").dump(), Not(HasSubstr(kJwtBearer)));
  // With the grant, but without an issuer of ID-JAGs.
  plain.part("clients", "gw-01")["grants"] = {"jwt-bearer"};
  ASSERT_THAT(plain.apply(), HasStatus(200));
  EXPECT_FALSE(metadata(plain).contains("authorization_grant_profiles_supported"));
}

TEST(IdJag, StepUp_WhoSignedInAsDemandedGetsIn) {
  Tenant tenant("id-jag-fresh");
  tenant.part("backends", "files")["require"] = {{"max_auth_age", 300}};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto fresh = tenant.with("auth_time", seconds_of(SystemClock().now() - 10s));
  EXPECT_THAT(tenant.present(tenant.sign(fresh)), HasStatus(200));
}

TEST(IdJag, StepUp_WhoDidNotIsToldWhatIsDemanded) {
  Tenant tenant("id-jag-stale");
  tenant.part("backends", "files")["require"] = {{"max_auth_age", 300}, {"acr", {"urn:gold"}}};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto stale = tenant.with("auth_time", seconds_of(SystemClock().now() - 400s));
  for (const auto& claims : {tenant.jag(), stale}) {
    const auto refused = tenant.present(tenant.sign(claims));
    EXPECT_THAT(refused, IsOAuthError(400, "insufficient_user_authentication"));
    EXPECT_EQ(json_of(refused, "max_age"), 300);
    EXPECT_EQ(json_of(refused, "acr_values"), "urn:gold");
  }
}

TEST(IdJag, Log_TheRecordSaysWhatWasGranted) {
  EXPECT_THAT(acme().present(acme().sign(acme().jag())), HasStatus(200));
  const auto records = acme().audit("limit=1&order=desc&action=token.jwt_bearer");
  ASSERT_EQ(records.size(), 1u);
  const auto& fields = records[0].at("event").at("fields");
  EXPECT_EQ(fields.at("assertion"), "id-jag");
  EXPECT_EQ(fields.at("client"), "gw-01");
}

TEST(IdJag, Log_NoAssertionIsWrittenDownOrTakenFromAUrl) {
  const auto good = acme().sign(acme().jag());
  const auto bad = acme().sign(acme().with("client_id", "gw-02"));
  EXPECT_THAT(acme().present(good), HasStatus(200));
  const auto refused = acme().present(bad);
  EXPECT_THAT(refused.body, Not(HasSubstr(bad.substr(0, 20))));
  for (const auto& record : acme().audit("limit=1000&action=token.jwt_bearer")) {
    EXPECT_THAT(record.dump(), Not(HasSubstr("eyJ")));
  }
  const auto fresh = acme().sign(acme().jag());
  EXPECT_THAT(acme().ask("POST", "/t/id-jag/token?assertion=" + fresh,
                         {{"Content-Type", "application/x-www-form-urlencoded"},
                          {"Authorization", basic("gw-01", acme().secret)}},
                         form({{"grant_type", kJwtBearer}})),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().present(fresh), HasStatus(200)) << "what came by the URL was not read";
}

TEST(IdJag, IsNoSubjectTokenAndNoBearerToken) {
  auto claims = acme().with("aud", "gw-01");
  EXPECT_THAT(acme().exchange(acme().sign(claims), "files"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().api("GET", "/credentials", acme().sign(claims)),
              IsProblem(401, "unauthenticated"));
}

}  // namespace
}  // namespace postern::test
