// Signed introspection answers (RFC 9701) over the wire. What a document of the
// client's own may choose is in client_id_metadata_test.cc.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;

constexpr const char* kSigned = "application/token-introspection+jwt";

Json template_of_tests() {
  return {{"dynamic", true},
          {"authentication", {"client_secret"}},
          {"backends", {"files"}},
          {"scopes", {"*"}},
          {"audiences", {"gw-01"}}};
}

/// With resource servers for `files` that chose this or that algorithm, or none.
struct Tenant : TestTenant {
  explicit Tenant(const std::string& called, const std::set<std::string>& choices)
      : TestTenant(called) {
    manifest["settings"]["registration"] = template_of_tests();
    for (const auto& choice : choices) {
      Json client{{"id", "rs-" + choice},
                  {"grants", {"token-exchange"}},
                  {"introspects", {"files"}},
                  {"introspection_algorithm", choice}};
      if (choice == "none-said") client.erase("introspection_algorithm");
      manifest["clients"].push_back(client);
    }
    const auto reply = apply();
    EXPECT_THAT(reply, HasStatus(200));
    for (const auto& made : json_of(reply, "client_secrets")) {
      const std::string client = made.at("client");
      credentials[client] = basic(client, made.at("client_secret").get<std::string>());
    }
    credentials["gw-01"] = basic("gw-01", secret);
  }

  std::string issued() const {
    return json_of(exchange(user_token("alice"), "files")).at("access_token");
  }
  WireReply introspect(const std::string& authorization, const std::string& token,
                       const std::string& accept = kSigned) const {
    return ask("POST", "/t/" + name + "/introspect",
               {{"Content-Type", "application/x-www-form-urlencoded"},
                {"Authorization", authorization},
                {"Accept", accept}},
               form({{"token", token}}));
  }
  /// The algorithm of this client's signed answers, which must verify.
  std::string signed_with(const std::string& authorization) const {
    const auto reply = introspect(authorization, "nothing");
    EXPECT_THAT(reply, HasStatus(200));
    if (reply.status != 200) return {};
    verified_claims(reply.body, json_of(ask("GET", "/t/" + name + "/jwks")));
    return header_of(reply.body).at("alg");
  }
  WireReply register_client(const Json& members) const {
    const std::string token =
        json_of(api("POST", "/initial-access-tokens", admin, Json::object())).at("token");
    return ask("POST", "/t/" + name + "/register",
               {{"Authorization", bearer(token)}, {"Content-Type", "application/json"}},
               members.dump());
  }
  Json metadata() const {
    return json_of(ask("GET", "/.well-known/oauth-authorization-server/t/" + name));
  }

  std::map<std::string, std::string> credentials;  ///< Authorization by client
};

/// That has a key of each algorithm.
Tenant& acme() {
  static Tenant tenant("rfc9701", {"none-said", "ES256", "EdDSA", "RS256"});
  return tenant;
}
/// That has no RS256 key: nobody needed one.
Tenant& plain() {
  static Tenant tenant("rfc9701-plain", {});
  return tenant;
}

std::string basic_of(const Json& registered) {
  return basic(registered.at("client_id").get<std::string>(),
               registered.at("client_secret").get<std::string>());
}

TEST(Rfc9701_4, WhoAsksForASignedAnswerGetsOne) {
  for (const char* accept : {kSigned, "text/html, Application/Token-Introspection+JWT;q=0.5",
                             "application/json;q=0.1, application/token-introspection+jwt"}) {
    const auto reply = acme().introspect(acme().credentials["gw-01"], "nothing", accept);
    EXPECT_EQ(reply.header("Content-Type"), kSigned) << accept;
  }
}

TEST(Rfc9701_4, NobodyElseGetsASignedAnswer) {
  for (const char* accept : {"application/json", "*/*", "application/token-introspection+jwt;q=0",
                             "application/token-introspection", "application/jwt", ""}) {
    const auto reply = acme().introspect(acme().credentials["gw-01"], "nothing", accept);
    EXPECT_THAT(reply.header("Content-Type"), HasSubstr("application/json")) << accept;
    EXPECT_EQ(reply.body, R"({"active":false})") << accept;
  }
}

TEST(Rfc9701_5, TheAnswerIsAJwtForWhoAsked) {
  const auto token = acme().issued();
  const auto reply = acme().introspect(acme().credentials["rs-ES256"], token);
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(reply.header("Content-Type"), kSigned);
  EXPECT_THAT(reply.header("Cache-Control"), HasSubstr("no-store"));
  EXPECT_EQ(header_of(reply.body).at("typ"), "token-introspection+jwt");
  const auto claims = verified_claims(reply.body, json_of(acme().ask("GET", "/t/rfc9701/jwks")));
  EXPECT_EQ(claims.at("iss"), "https://sts.example.com/t/rfc9701");
  EXPECT_EQ(claims.at("aud"), "rs-ES256");
  EXPECT_TRUE(claims.at("iat").is_number_integer());
  const auto plain_answer =
      acme().introspect(acme().credentials["rs-ES256"], token, "application/json");
  EXPECT_EQ(claims.at("token_introspection"), json_of(plain_answer));
  EXPECT_EQ(claims.at("token_introspection").at("jti"), claims_of(token).at("jti"));
}

TEST(Rfc9701_5, ThatATokenIsNoneIsSignedToo) {
  const auto reply = acme().introspect(acme().credentials["rs-ES256"], "nothing");
  EXPECT_EQ(claims_of(reply.body).at("token_introspection"), Json({{"active", false}}));
}

TEST(Rfc9701_5, ThereIsNoSubjectAndNoExpiryAtTheTop) {
  for (const auto& token : {acme().issued(), std::string("nothing")}) {
    const auto claims = claims_of(acme().introspect(acme().credentials["rs-ES256"], token).body);
    EXPECT_EQ(claims.size(), 4u) << claims;
    EXPECT_FALSE(claims.contains("sub"));
    EXPECT_FALSE(claims.contains("exp"));
  }
}

TEST(Rfc9701_5, AnErrorIsNeverSigned) {
  const auto reply = acme().introspect(basic("rs-ES256", "wrong"), acme().issued());
  EXPECT_THAT(reply, IsOAuthError(401, "invalid_client"));
}

TEST(Rfc9701_6, AClientsChoiceSignsItsAnswers) {
  for (const std::string algorithm : {"ES256", "EdDSA", "RS256"}) {
    EXPECT_EQ(acme().signed_with(acme().credentials["rs-" + algorithm]), algorithm);
  }
}

TEST(Rfc9701_6, WithoutAChoiceItIsRs256WhereTheTenantHasSuchAKey) {
  EXPECT_EQ(acme().signed_with(acme().credentials["rs-none-said"]), "RS256");
  EXPECT_EQ(acme().signed_with(acme().credentials["gw-01"]), "RS256");
}

TEST(Rfc9701_6, WithoutSuchAKeyItIsWhatTokensAreSignedWith) {
  Tenant tenant("rfc9701-later", {});
  EXPECT_EQ(tenant.signed_with(tenant.credentials["gw-01"]), "ES256");
  // A key of RS256 is the default from then on.
  ASSERT_THAT(tenant.api("POST", "/signing-keys/rotation", tenant.admin, {{"algorithm", "RS256"}}),
              HasStatus(201));
  EXPECT_EQ(tenant.signed_with(tenant.credentials["gw-01"]), "RS256");
}

TEST(Rfc9701_6, AResourceServerThatDidNotChooseGetsAnRs256Key) {
  Tenant tenant("rfc9701-server", {"none-said"});
  EXPECT_EQ(tenant.signed_with(tenant.credentials["rs-none-said"]), "RS256");
}

TEST(Rfc9701_6, ARegisteredClientChooses) {
  const auto reply = plain().register_client({{"introspection_signed_response_alg", "EdDSA"}});
  ASSERT_THAT(reply, HasStatus(201));
  const auto registered = json_of(reply);
  EXPECT_EQ(registered.at("introspection_signed_response_alg"), "EdDSA");
  EXPECT_EQ(plain().signed_with(basic_of(registered)), "EdDSA");
}

TEST(Rfc9701_6, ARegisteredClientThatDidNotChooseIsToldAndItStays) {
  Tenant tenant("rfc9701-told", {});
  const auto first = json_of(tenant.register_client(Json::object()));
  EXPECT_EQ(first.at("introspection_signed_response_alg"), "ES256");
  ASSERT_THAT(tenant.api("POST", "/signing-keys/rotation", tenant.admin, {{"algorithm", "RS256"}}),
              HasStatus(201));
  EXPECT_EQ(tenant.signed_with(basic_of(first)), "ES256");
  const auto second = json_of(tenant.register_client(Json::object()));
  EXPECT_EQ(second.at("introspection_signed_response_alg"), "RS256");
}

TEST(Rfc9701_6, WhatTheTenantCannotSignIsNotRegistered) {
  for (const char* bad : {"RS256", "PS256", "HS256", "none", "es256", "Ed25519", "x"}) {
    const auto reply = plain().register_client({{"introspection_signed_response_alg", bad}});
    EXPECT_EQ(reply.status, 400) << bad;
    const auto answer = json_of(reply);
    EXPECT_EQ(answer.at("error"), "invalid_client_metadata") << bad;
    EXPECT_EQ(answer.at("error_description"),
              "introspection_signed_response_alg must be one that this tenant signs with: ES256, "
              "EdDSA")
        << bad;
  }
  for (const char* member :
       {"introspection_encrypted_response_alg", "introspection_encrypted_response_enc"}) {
    const auto reply = plain().register_client({{member, "RSA-OAEP-256"}});
    EXPECT_EQ(reply.status, 400) << member;
    EXPECT_THAT(reply.body, HasSubstr("answers are not encrypted"));
  }
}

TEST(Rfc9701_6, AManifestNamesOnlyWhatPosternSigns) {
  for (const char* bad : {"none", "HS256", "PS256", ""}) {
    auto manifest = plain().manifest;
    manifest["clients"][0]["introspection_algorithm"] = bad;
    const auto reply = plain().api("PUT", "/manifest", plain().admin, manifest);
    EXPECT_THAT(reply, IsProblem(400, "malformed-request")) << bad;
    EXPECT_EQ(json_of(reply).at("pointer"), "/clients/0/introspection_algorithm");
  }
}

TEST(Rfc9701_7, TheMetadataNamesWhatAnswersCanBeSignedWith) {
  for (auto* tenant : {&acme(), &plain()}) {
    std::set<std::string> published;
    for (const auto& key : json_of(tenant->ask("GET", "/t/" + tenant->name + "/jwks"), "keys")) {
      published.insert(key.at("alg").get<std::string>());
    }
    const auto named = tenant->metadata().at("introspection_signing_alg_values_supported");
    EXPECT_EQ(named.get<std::set<std::string>>(), published);
  }
  EXPECT_EQ(acme().metadata().at("introspection_signing_alg_values_supported").size(), 3u);
}

TEST(Rfc9701_7, TheMetadataNamesNothingElse) {
  Tenant tenant("rfc9701-withdrawn", {"RS256"});
  std::string kid;
  for (const auto& key : json_of(tenant.ask("GET", "/t/rfc9701-withdrawn/jwks"), "keys")) {
    if (key.at("alg") == "RS256") kid = key.at("kid");
  }
  ASSERT_THAT(tenant.api("DELETE", "/signing-keys/" + kid, tenant.admin), HasStatus(204));
  const auto metadata = tenant.metadata();
  EXPECT_EQ(metadata.at("introspection_signing_alg_values_supported"), Json({"ES256", "EdDSA"}));
  EXPECT_FALSE(metadata.contains("introspection_encryption_alg_values_supported"));
  EXPECT_FALSE(metadata.contains("introspection_encryption_enc_values_supported"));
  // Who chose it gets no answer of another algorithm.
  EXPECT_THAT(tenant.introspect(tenant.credentials["rs-RS256"], "nothing"),
              IsOAuthError(400, "invalid_request"));
  EXPECT_EQ(tenant.signed_with(tenant.credentials["gw-01"]), "ES256");
}

TEST(Rfc9701_8_1, ASignedAnswerIsNoToken) {
  const auto answer = acme().introspect(acme().credentials["rs-ES256"], acme().issued()).body;
  EXPECT_EQ(acme().introspect(acme().credentials["rs-ES256"], answer, "application/json").body,
            R"({"active":false})");
  EXPECT_THAT(acme().exchange(answer, "files"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(acme().api("GET", "/credentials", answer), IsProblem(401, "unauthenticated"));
}

}  // namespace
}  // namespace postern::test
