// RFC 8693 and RFC 8707 as far as the grant decides them: no server, no HTTP.

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern {
namespace {

using namespace std::chrono_literals;
using grants::TokenExchangeRequest;
using test::code_of;
using test::GrantsFixture;
using token::Json;

constexpr const char* kFiles = "https://files.example.com/mcp";

struct Grant : GrantsFixture {
  Grant() : token(subject_token()) {}
  TokenExchangeRequest asking() const { return request(token); }
  Json claims_of(const TokenExchangeRequest& request) {
    return open(test::must(exchange(request)).access_token);
  }
  const std::string token;
};

// §2.1 "subject_token REQUIRED", §2.2.2: invalid for any reason → invalid_request.
TEST(Rfc8693_2_1, RefusesAnInvalidSubjectToken) {
  Grant f;
  auto request = f.asking();
  for (const char* token : {"", "opaque", "a.b.c", "eyJhbGciOiJub25lIn0.e30."}) {
    request.subject_token = token;
    EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::InvalidToken) << token;
  }
}

TEST(Rfc8693_2_1, RefusesAnUnknownSubjectTokenType) {
  Grant f;
  auto request = f.asking();
  request.subject_token_type = "urn:ietf:params:oauth:token-type:saml2";
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::MalformedRequest);
}

// "actor_token_type … MUST NOT be included when actor_token is not".
TEST(Rfc8693_2_1, RefusesActorTokenTypeWithoutActorToken) {
  Grant f;
  auto request = f.asking();
  request.actor_token_type = GrantsFixture::kJwt;
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::MalformedRequest);
}

// "REQUIRED when the actor_token parameter is present".
TEST(Rfc8693_2_1, RefusesActorTokenWithoutItsType) {
  Grant f;
  auto request = f.asking();
  request.actor_token = f.token;
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::MalformedRequest);
}

// "resource … MUST be an absolute URI … MUST NOT include a fragment".
TEST(Rfc8693_2_1, RefusesAResourceThatIsRelativeOrHasAFragment) {
  Grant f;
  auto request = f.asking();
  request.audiences.clear();
  for (const char* resource :
       {"/mcp", "files.example.com/mcp", "files", "https://files.example.com/mcp#",
        "https://files.example.com/mcp#a"}) {
    request.resources = {resource};
    EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::TargetRefused) << resource;
  }
}

// "Multiple resource/audience parameters may be used" and "used together".
TEST(Rfc8693_2_1, TakesSeveralNamesOfOneTargetTogether) {
  Grant f;
  auto request = f.asking();
  request.audiences = {"files", "docs"};
  request.resources = {kFiles, "https://files.example.com/mcp/"};
  EXPECT_EQ(f.claims_of(request).at("aud"), kFiles);
}

// §2.1.1, §2.2.2: unwilling or unable to issue for all targets → invalid_target.
TEST(Rfc8693_2_1_1, RefusesMoreThanOneTarget) {
  Grant f;
  auto request = f.asking();
  request.audiences = {"files", "search"};
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::TargetRefused);
}

TEST(Rfc8693_2_2_1, IssuedTokenTypeIsWhatWasAskedFor) {
  Grant f;
  auto request = f.asking();
  EXPECT_EQ(test::must(f.exchange(request)).issued_token_type, GrantsFixture::kAccessToken);
  request.requested_token_type = GrantsFixture::kJwt;
  EXPECT_EQ(test::must(f.exchange(request)).issued_token_type, GrantsFixture::kJwt);
  for (const char* type :
       {"urn:ietf:params:oauth:token-type:id_token",
        "urn:ietf:params:oauth:token-type:refresh_token", "urn:ietf:params:oauth:token-type:saml1",
        "https://example.com/unheard-of"}) {
    request.requested_token_type = type;
    EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::MalformedRequest) << type;
  }
}

// §2.2.1: expires_in says how long, and agrees with the token.
TEST(Rfc8693_2_2_1, ExpiresInAgreesWithTheToken) {
  Grant f;
  const auto issued = test::must(f.exchange(f.asking()));
  const auto claims = f.open(issued.access_token);
  EXPECT_EQ(claims.at("exp").get<std::int64_t>() - claims.at("iat").get<std::int64_t>(),
            issued.expires_in.count());
}

// §2.2.1: scope is named when it differs from the request; we always know it.
TEST(Rfc8693_2_2_1, ScopeAgreesWithTheToken) {
  Grant f;
  auto request = f.asking();
  request.scope = "openid files:read";
  const auto issued = test::must(f.exchange(request));
  EXPECT_EQ(issued.scope.str(), "files:read");
  EXPECT_EQ(f.open(issued.access_token).at("scope"), "files:read");
}

// §2.1: "the act of performing a token exchange has no impact on the validity".
TEST(Rfc8693_2_1, LeavesTheInputTokensAsTheyAre) {
  Grant f;
  EXPECT_TRUE(f.exchange(f.asking()).ok());
  EXPECT_TRUE(f.exchange(f.asking()).ok());
  f.clock.advance(300s);
  EXPECT_FALSE(f.exchange(f.asking()).ok());
}

// §4.1: the current actor is outermost, "prior actors … nested".
TEST(Rfc8693_4_1, NestsPriorActorsBelowTheCurrentOne) {
  Grant f;
  auto claims = f.claims();
  claims["act"] = {{"sub", "consumer.example.com-web-application"},
                   {"act", {{"sub", "admin@example.net"}}}};
  const auto subject = f.idp.sign(claims);
  const auto agent = f.subject_token("agent");
  auto request = f.request(subject);
  request.actor_token = agent;
  request.actor_token_type = GrantsFixture::kAccessToken;
  EXPECT_EQ(f.claims_of(request).at("act"), Json({{"iss", f.idp.issuer()},
                                                  {"sub", "agent"},
                                                  {"act",
                                                   {{"sub", "consumer.example.com-web-application"},
                                                    {"act", {{"sub", "admin@example.net"}}}}}}));
}

// §4.1: "nested act claims … are not used to make access control decisions".
TEST(Rfc8693_4_1, PriorActorsGrantAndTakeNothing) {
  Grant f;
  f.manifest["roles"].push_back({{"name", "closed"}, {"deny", {"*:*"}}});
  f.manifest["bindings"].push_back(
      {{"role", "closed"}, {"subjects", {{{"issuer", f.idp.issuer()}, {"subject", "blocked"}}}}});
  f.load();
  auto claims = f.claims();
  claims["act"] = {{"sub", "blocked"}, {"iss", f.idp.issuer()}};
  EXPECT_TRUE(f.exchange(f.request(f.idp.sign(claims))).ok());
}

// §4.1: no exp, nbf or aud inside act.
TEST(Rfc8693_4_1, RefusesNonIdentityClaimsInAct) {
  Grant f;
  for (const char* member : {"exp", "nbf", "aud"}) {
    auto claims = f.claims();
    claims["act"] = {{"sub", "agent"}, {member, 1}};
    EXPECT_EQ(code_of(f.exchange(f.request(f.idp.sign(claims)))), ErrorCode::InvalidToken);
  }
}

// §4.3: client_id names the client that asked, not the subject token's.
TEST(Rfc8693_4_3, ClientIdIsTheRequestingClient) {
  Grant f;
  auto claims = f.claims();
  claims["client_id"] = "spa";
  EXPECT_EQ(f.claims_of(f.request(f.idp.sign(claims))).at("client_id"), "gw-01");
}

// §4.4: may_act "makes a statement that one party is authorized to become the actor".
TEST(Rfc8693_4_4, OnlyThePartyInMayActBecomesTheActor) {
  Grant f;
  auto claims = f.claims();
  claims["may_act"] = {{"sub", "agent"}, {"iss", f.idp.issuer()}};
  const auto subject = f.idp.sign(claims);
  auto request = f.request(subject);
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::InvalidToken);
  const auto other = f.subject_token("other");
  request.actor_token = other;
  request.actor_token_type = GrantsFixture::kAccessToken;
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::InvalidToken);
  const auto agent = f.subject_token("agent");
  request.actor_token = agent;
  EXPECT_TRUE(f.exchange(request).ok());
}

// RFC 8707 §2: "an audience-restricted access token", and only that resource.
TEST(Rfc8707_2, TheTokenIsForTheNamedResourceAlone) {
  Grant f;
  auto request = f.asking();
  request.audiences.clear();
  request.resources = {kFiles};
  EXPECT_EQ(f.claims_of(request).at("aud"), kFiles);
  request.resources = {"https://unknown.example.com/"};
  EXPECT_EQ(code_of(f.exchange(request)), ErrorCode::TargetRefused);
}

}  // namespace
}  // namespace postern
