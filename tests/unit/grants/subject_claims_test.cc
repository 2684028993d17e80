// What an issuer's registration demands of its tokens beyond the standard's
// checks: required claims, header types, groups that were left out, kinds.

#include "grants/subject_claims.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using policy::SubjectTokenType;
using test::code_of;
using test::GrantsFixture;
using token::Json;

constexpr auto kRefused = ErrorCode::InvalidToken;
constexpr SubjectTokenType kAllTypes[] = {SubjectTokenType::AccessToken, SubjectTokenType::Jwt,
                                          SubjectTokenType::IdToken};

struct Registered : GrantsFixture {
  Result<VerifiedTokenPtr> with(const Json& more,
                                SubjectTokenType type = SubjectTokenType::AccessToken,
                                std::string_view typ = "JWT") {
    auto changed = claims();
    if (more.is_object()) changed.update(more);
    return verify(idp.sign(changed, typ), type);
  }
  std::optional<ErrorCode> refusal(const Json& more,
                                   SubjectTokenType type = SubjectTokenType::AccessToken,
                                   std::string_view typ = "JWT") {
    return code_of(with(more, type, typ));
  }
  std::optional<ErrorCode> as_user(const Json& more, std::string_view typ = "JWT") {
    auto changed = claims();
    if (more.is_object()) changed.update(more);
    return code_of(verifier.verify_user(*snapshot, idp.sign(changed, typ), Wait::Yes));
  }
};

// ---- required_claims ----

TEST(RequiredClaims, EachMustHaveOneOfItsValues) {
  Registered f;
  f.issuer()["required_claims"] = {{"tid", {"t1", "t2"}}, {"/realm_access/roles", {"mcp"}}};
  f.load();
  const Json roles{{"roles", {"other", "mcp"}}};
  EXPECT_EQ(f.refusal({{"tid", "t1"}, {"realm_access", roles}}), std::nullopt);
  EXPECT_EQ(f.refusal({{"tid", "t2"}, {"realm_access", {{"roles", "mcp"}}}}), std::nullopt);
  EXPECT_EQ(f.refusal({}), kRefused);
  EXPECT_EQ(f.refusal({{"tid", "t1"}}), kRefused);
  EXPECT_EQ(f.refusal({{"realm_access", roles}}), kRefused);
  EXPECT_EQ(f.refusal({{"tid", "t3"}, {"realm_access", roles}}), kRefused);
  EXPECT_EQ(f.refusal({{"tid", nullptr}, {"realm_access", roles}}), kRefused);
  EXPECT_EQ(f.refusal({{"tid", "t1"}, {"/realm_access/roles", {"mcp"}}}), kRefused);
  EXPECT_EQ(f.refusal({{"tid", "t1"}, {"realm_access", {{"roles", {"mcp2"}}}}}), kRefused);
}

TEST(RequiredClaims, HoldOnTheRestApiAndForActorsToo) {
  Registered f;
  f.issuer()["required_claims"] = {{"tid", {"t1"}}};
  f.load();
  EXPECT_EQ(f.as_user({{"tid", "t1"}}), std::nullopt);
  EXPECT_EQ(f.as_user({}), kRefused);
  auto good = f.claims(), agent = f.claims("agent");
  good["tid"] = "t1";
  const auto subject = f.idp.sign(good);
  const auto actor = f.idp.sign(agent);
  auto request = f.request(subject);
  ASSERT_TRUE(f.exchange(request).ok());
  request.actor_token = actor;
  request.actor_token_type = GrantsFixture::kAccessToken;
  EXPECT_EQ(code_of(f.exchange(request)), kRefused);
}

TEST(RequiredClaims, AreThoseOfTheTokensOwnIssuer) {
  Registered f;
  const test::Idp partner("https://idp.partner.example");
  f.manifest["issuers"].push_back({{"name", "partner"},
                                   {"issuer", partner.issuer()},
                                   {"jwks", partner.jwks()},
                                   {"audiences", {"gw-01"}},
                                   {"subject_prefix", "partner:"},
                                   {"required_claims", {{"tid", {"t1"}}}}});
  f.load();
  EXPECT_EQ(f.refusal({}), std::nullopt);
  auto claims = partner.claims("alice", f.clock.now());
  EXPECT_EQ(code_of(f.verify(partner.sign(claims))), kRefused);
  claims["tid"] = "t1";
  EXPECT_EQ(code_of(f.verify(partner.sign(claims))), std::nullopt);
}

TEST(RequiredClaims, CountForTokensThatAreRemembered) {
  Registered f;
  const auto token = f.subject_token();
  ASSERT_TRUE(f.verify(token).ok());
  f.issuer()["required_claims"] = {{"tid", {"t1"}}};
  f.load();
  EXPECT_EQ(code_of(f.verify(token)), kRefused);
}

// ---- header_types ----

TEST(HeaderTypes, AreTakenBesidesTheStandardOnes) {
  Registered f;
  for (const auto type : kAllTypes) EXPECT_EQ(f.refusal({}, type, "vnd.acme+jwt"), kRefused);
  f.issuer()["header_types"] = {"application/VND.Acme+JWT"};
  f.load();
  for (const char* typ : {"vnd.acme+jwt", "VND.ACME+JWT", "application/vnd.acme+jwt"}) {
    for (const auto type : kAllTypes) EXPECT_EQ(f.refusal({}, type, typ), std::nullopt) << typ;
    EXPECT_EQ(f.as_user({}, typ), std::nullopt);
  }
  for (const char* typ : {"JWT", "at+jwt", ""})
    EXPECT_EQ(f.refusal({}, kAllTypes[0], typ), std::nullopt);
  for (const char* typ : {"vnd.acme", "vnd.acme+jwt2", "dpop+jwt", "logout+jwt", "jwt+vnd.acme"}) {
    EXPECT_EQ(f.refusal({}, kAllTypes[0], typ), kRefused) << typ;
  }
}

TEST(HeaderTypes, AreWithdrawnFromRememberedTokensToo) {
  Registered f;
  f.issuer()["header_types"] = {"vnd.acme+jwt"};
  f.load();
  const auto token = f.idp.sign(f.claims(), "vnd.acme+jwt");
  ASSERT_TRUE(f.verify(token).ok());
  f.issuer().erase("header_types");
  f.load();
  EXPECT_EQ(code_of(f.verify(token)), kRefused);
}

// ---- groups that the issuer left out ----

const std::vector<Json> kLeftOut{
    {{"_claim_names", {{"groups", "src1"}}},
     {"_claim_sources",
      {{"src1", {{"endpoint", "https://graph.windows.net/t1/users/u1/getMemberObjects"}}}}}},
    {{"hasgroups", true}},
    {{"hasgroups", "true"}},
    {{"hasgroups", 1}},
    {{"_claim_names", "groups"}},
    {{"_claim_names", nullptr}},
};

TEST(GroupsOverage, IsRefusedWhereRolesDependOnGroups) {
  Registered f;
  for (const auto& claims : kLeftOut) {
    const auto result = f.with(claims);
    EXPECT_EQ(code_of(result), kRefused) << claims;
    if (result.ok()) continue;
    EXPECT_NE(result.error().detail.find("groups"), std::string::npos);
    EXPECT_EQ(f.as_user(claims), kRefused);
  }
  // A short list beside it is no whole list, and none at all hides a deny just as well.
  for (auto claims : kLeftOut) {
    claims["groups"] = Json::array();
    EXPECT_EQ(f.refusal(claims), kRefused);
  }
  for (const Json& claims : std::vector<Json>{{{"hasgroups", false}},
                                              {{"hasgroups", "false"}},
                                              {{"_claim_names", Json::object()}},
                                              {{"_claim_names", {{"email", "src1"}}}}}) {
    EXPECT_EQ(f.refusal(claims), std::nullopt) << claims;
  }
}

TEST(GroupsOverage, MattersNotWhereOnlySubjectsAreBound) {
  Registered f;
  f.issuer()["claims"].erase("scope");
  f.manifest["bindings"] = {
      {{"role", "developer"}, {"subjects", {{{"issuer", f.idp.issuer()}, {"subject", "alice"}}}}}};
  f.load();
  for (const auto& claims : kLeftOut) EXPECT_EQ(f.refusal(claims), std::nullopt) << claims;
}

TEST(GroupsOverage, ConcernsTheClaimThatIsMapped) {
  Registered f;
  f.issuer()["claims"]["groups"] = "roles";
  f.load();
  EXPECT_EQ(f.refusal({{"hasgroups", true}}), std::nullopt);
  EXPECT_EQ(f.refusal({{"_claim_names", {{"groups", "src1"}}}}), std::nullopt);
  EXPECT_EQ(f.refusal({{"_claim_names", {{"roles", "src1"}}}}), kRefused);
  f.issuer()["claims"]["groups"] = "/realm~1access/roles";
  f.load();
  EXPECT_EQ(f.refusal({{"_claim_names", {{"realm/access", "src1"}}}}), kRefused);
  EXPECT_EQ(f.refusal({{"_claim_names", {{"roles", "src1"}}}}), std::nullopt);
}

TEST(GroupsOverage, MattersOnlyToIssuersWhoseGroupsAreBound) {
  Registered f;
  const test::Idp partner("https://idp.partner.example");
  f.manifest["issuers"].push_back({{"name", "partner"},
                                   {"issuer", partner.issuer()},
                                   {"jwks", partner.jwks()},
                                   {"audiences", {"gw-01"}},
                                   {"subject_prefix", "partner:"}});
  f.load();
  auto claims = partner.claims("bob", f.clock.now());
  claims["hasgroups"] = true;
  EXPECT_EQ(code_of(f.verify(partner.sign(claims))), std::nullopt);
  f.manifest["bindings"] = {{{"role", "developer"}, {"groups", {"partner:staff"}}}};
  f.load();
  EXPECT_EQ(code_of(f.verify(partner.sign(claims))), kRefused);
  EXPECT_EQ(f.refusal({{"hasgroups", true}}), std::nullopt);
}

TEST(GroupsOverage, AScopeThatIsElsewhereIsNoMissingCeiling) {
  Registered f;
  EXPECT_EQ(f.refusal({{"_claim_names", {{"scope", "src1"}}}}), kRefused);
}

// ---- kinds, where claims tell them (Keycloak) ----

TEST(TokenKind, IsNeverAnotherThanTheClaimSays) {
  Registered f;
  const auto [access, jwt, id] =
      std::tuple(SubjectTokenType::AccessToken, SubjectTokenType::Jwt, SubjectTokenType::IdToken);
  for (const char* typ : {"Bearer", "bearer", "DPoP", "at+jwt"}) {
    EXPECT_EQ(f.refusal({{"typ", typ}}, access), std::nullopt) << typ;
    EXPECT_EQ(f.refusal({{"typ", typ}}, jwt), std::nullopt) << typ;
    EXPECT_EQ(f.refusal({{"typ", typ}}, id), kRefused) << typ;
  }
  EXPECT_EQ(f.refusal({{"typ", "ID"}}, access), kRefused);
  EXPECT_EQ(f.refusal({{"typ", "ID"}}, jwt), std::nullopt);
  EXPECT_EQ(f.refusal({{"typ", "ID"}}, id), std::nullopt);
  EXPECT_EQ(f.refusal({{"typ", "ID"}}, jwt, "at+jwt"), kRefused);
  for (const char* typ : {"Refresh", "REFRESH", "Offline", "Logout", "Serialized-ID",
                          "InitialAccessToken", "RegistrationAccessToken"}) {
    for (const auto type : kAllTypes) EXPECT_EQ(f.refusal({{"typ", typ}}, type), kRefused) << typ;
    EXPECT_EQ(f.as_user({{"typ", typ}}), kRefused) << typ;
  }
  // Others use the claim for something else.
  EXPECT_EQ(f.refusal({{"typ", "employee"}}, access), std::nullopt);
  EXPECT_EQ(f.refusal({{"typ", 7}}, access), std::nullopt);
}

TEST(TokenKind, AnIdTokenCalledJwtIsStillForItsAudienceAlone) {
  Registered f;
  f.issuer()["audiences"] = {"gw-01", "web-app"};
  f.load();
  const Json party{{"aud", "web-app"}, {"azp", "gw-01"}};
  Json id = party;
  id["typ"] = "ID";
  EXPECT_EQ(f.refusal(party, SubjectTokenType::Jwt), std::nullopt);
  EXPECT_EQ(f.refusal(id, SubjectTokenType::Jwt), kRefused);
}

TEST(TokenKind, TheRestApiTakesOnlyKindsThatTheIssuerMaySend) {
  Registered f;
  f.issuer()["token_types"] = {"access_token"};
  f.load();
  EXPECT_EQ(f.as_user({{"typ", "Bearer"}}), std::nullopt);
  EXPECT_EQ(f.as_user({{"typ", "ID"}}), kRefused);
  f.issuer()["token_types"] = {"id_token"};
  f.load();
  EXPECT_EQ(f.as_user({{"typ", "ID"}}), std::nullopt);
  EXPECT_EQ(f.as_user({{"typ", "Bearer"}}), kRefused);
  f.issuer()["token_types"] = {"id_jag", "jwt_bearer"};
  f.load();
  EXPECT_EQ(f.as_user({}), kRefused);
}

}  // namespace
}  // namespace postern::grants
