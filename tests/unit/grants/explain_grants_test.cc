// What an explanation says of tools, assertions and the operator's decision point
// is what the grants do with them.

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "grants/explain.h"
#include "grants/jwt_bearer.h"
#include "outbound/fetch.h"
#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using test::GrantsFixture;
using test::must;
using token::Json;

/// A decision point that says always the same.
struct FixedFetcher final : outbound::Fetcher {
  Result<outbound::FetchReply> get(const outbound::FetchRequest&) override {
    return fail(ErrorCode::Unavailable, "");
  }
  Result<outbound::FetchReply> post(const outbound::PostRequest&) override {
    ++asked;
    return outbound::FetchReply{200, "application/json", {}, body};
  }
  std::string body;
  int asked = 0;
};

struct World : GrantsFixture {
  World() {
    client()["grants"] = {"token-exchange", "client_credentials", "jwt-bearer"};
    issuer()["token_types"] = {"access_token", "jwt_bearer", "id_jag"};
    load();
  }
  void decide(const std::string& body) {
    opa.body = body;
    tenants.apply(
        {{"tenant", "acme"},
         {"guardrails",
          {{"decision_point", {{"url", "https://opa.example.com/v1/data/x"}, {"cache_for", 0}}}}}},
        clock.now(), policy::Prune::No);
    snapshot = tenants.snapshot(tenant);
  }
  Question question(const char* target = "files") {
    Question asked;
    asked.client = &gateway();
    asked.subject = must(verify(subject_token()));
    asked.audiences = {target};
    return asked;
  }
  Explanation explained(const Question& question, Wait wait = Wait::Yes) {
    return explain(*snapshot, question, clock.now(), &point, wait);
  }
  Json json(const Question& question) { return write(*snapshot, explained(question)); }
  /// As the grant is asked with an assertion, and as it is explained.
  Question assertion_question(const Json& claims, const std::string& typ) {
    assertion = idp.sign(claims, typ);
    auto asked = question();
    asked.grant = Question::Grant::JwtBearer;
    asked.assertion = std::make_shared<const VerifiedAssertion>(
        must(verifier.verify_assertion(*snapshot, caller(), assertion, Wait::Yes)));
    asked.subject = VerifiedTokenPtr(asked.assertion, &asked.assertion->token);
    asked.audiences.clear();
    return asked;
  }
  Result<IssuedToken> granted(const Question& asked) {
    auto made = record();
    return JwtBearer(verifier, replays, clock, &point)
        .grant(*snapshot, caller(),
               {assertion, asked.audiences, asked.resources, asked.scope, asked.tools}, Wait::Yes,
               made);
  }
  void expect_same(const Question& asked) {
    const auto explanation = explained(asked);
    const auto issued = granted(asked);
    ASSERT_EQ(explanation.allowed(), issued.ok());
    if (issued.ok()) {
      EXPECT_EQ(explanation.granted, issued.value().scope);
      return;
    }
    EXPECT_EQ(explanation.refusal->code, issued.error().code);
    EXPECT_EQ(explanation.refusal->detail, issued.error().detail);
  }
  Json jag(const char* jti) {
    auto jag = claims();
    jag["aud"] = "https://sts.example.com/t/acme";
    jag["jti"] = jti;
    jag["client_id"] = "gw-01";
    jag["resource"] = "https://files.example.com/mcp";
    return jag;
  }

  FixedFetcher opa;
  DecisionPoint point{opa, clock};
  std::string assertion;
};

// ---- the decision point ----

TEST(Explain, SaysWhatTheDecisionPointSaid) {
  World f;
  EXPECT_FALSE(f.json(f.question()).contains("decision_point"));
  f.decide(R"({"result":true})");
  auto json = f.json(f.question());
  EXPECT_EQ(json.at("allowed"), true);
  EXPECT_EQ(json.at("decision_point"), Json({{"answer", "allowed"}}));
  f.decide(R"({"result":{"allow":true,"scopes":["files:read","other"]}})");
  json = f.json(f.question());
  EXPECT_EQ(json.at("scope"), "files:read");
  EXPECT_EQ(json.at("decision_point"), Json({{"answer", "allowed"}, {"scope", "files:read"}}));
  EXPECT_EQ(json.at("scopes")[1].at("closed_by"), Json({"decision_point"}));
  const auto refusing = {std::pair(R"({"result":false})", "refused"),
                         {"{}", "undefined"},
                         {R"({"result":"yes"})", "undefined"},
                         {"no", "unavailable"}};
  for (const auto& [body, answer] : refusing) {
    f.decide(body);
    json = f.json(f.question());
    EXPECT_EQ(json.at("allowed"), false);
    EXPECT_EQ(json.at("refused_by"), "decision_point") << body;
    EXPECT_EQ(json.at("decision_point"), Json({{"answer", answer}}));
    EXPECT_EQ(json.at("would_allow")[0].at("kind"), "decision_point");
  }
}

TEST(Explain, SaysThatTheDecisionPointTookTheScopeAskedFor) {
  World f;
  f.decide(R"({"result":{"allow":true,"scopes":["files:read"]}})");
  auto asked = f.question();
  asked.scope = "files:write";
  const auto json = f.json(asked);
  EXPECT_EQ(json.at("refused_by"), "request");
  ASSERT_EQ(json.at("would_allow").size(), 1u);
  EXPECT_EQ(json.at("would_allow")[0].at("kind"), "decision_point");
  EXPECT_EQ(json.at("would_allow")[0].at("scope"), "files:write");
}

TEST(Explain, AsksTheDecisionPointOnlyWhereItMayWait) {
  World f;
  f.decide(R"({"result":true})");
  const auto explanation = f.explained(f.question(), Wait::No);
  ASSERT_FALSE(explanation.allowed());
  EXPECT_EQ(explanation.refusal->code, ErrorCode::NeedsOutbound);
  EXPECT_EQ(f.opa.asked, 0);
}

TEST(Explain, AClientThatAsksForItselfIsDecidedUponToo) {
  World f;
  f.decide(R"({"result":false})");
  auto asked = f.question();
  asked.subject.reset();
  EXPECT_EQ(f.explained(asked).refused_by, "decision_point");
}

// ---- tools ----

Json tool(const char* identifier) {
  return {{"type", "mcp_tool"}, {"identifier", identifier}, {"actions", {"call"}}};
}

TEST(Explain, SaysWhichToolsAndWhoseRoleNamesThem) {
  World f;
  f.role()["tools"] = {"mcp:files:read_*:call", "github:*:*"};
  f.load();
  auto asked = f.question();
  auto json = f.json(asked);
  EXPECT_EQ(
      json.at("tools"),
      Json::array(
          {{{"role", "developer"}, {"binding", "developer"}, {"tool", "files:read_*:call"}}}));
  EXPECT_EQ(json.at("authorization_details")[0].at("identifier"), "read_*");
  asked.tools = must(policy::read_tool_details(Json::array({tool("read_file")})));
  json = f.json(asked);
  EXPECT_EQ(json.at("authorization_details")[0].at("identifier"), "read_file");
  asked.tools = must(policy::read_tool_details(Json::array({tool("delete_file")})));
  json = f.json(asked);
  EXPECT_EQ(json.at("refused_by"), "tools");
  EXPECT_EQ(json.at("code"), "InvalidAuthorizationDetails");
  EXPECT_FALSE(json.contains("authorization_details"));
  EXPECT_EQ(json.at("would_allow")[0].at("kind"), "tools");
  EXPECT_EQ(json.at("would_allow")[0].at("tools"), Json({"files:read_*:call"}));
}

TEST(Explain, SaysThatAStoredCredentialOpensEveryTool) {
  World f;
  f.role()["tools"] = {"github:get_*:call"};
  f.load();
  EXPECT_EQ(f.explained(f.question("github")).refused_by, "tools");
  EXPECT_TRUE(f.explained(f.question("files")).allowed());
}

TEST(Explain, ToolsAreForUsers) {
  World f;
  auto asked = f.question();
  asked.subject.reset();
  asked.tools = must(policy::read_tool_details(Json::array({tool("read_file")})));
  const auto explanation = f.explained(asked);
  EXPECT_EQ(explanation.refused_by, "tools");
  EXPECT_EQ(explanation.refusal->code, ErrorCode::InvalidAuthorizationDetails);
}

// ---- jwt-bearer ----

TEST(Explain, AnAssertionIsDecidedAsTheGrantDoes) {
  World f;
  auto claims = f.jag("jti-1");
  claims["scope"] = "files:read";
  f.expect_same(f.assertion_question(claims, "oauth-id-jag+jwt"));

  claims["jti"] = "jti-2";
  auto wider = f.assertion_question(claims, "oauth-id-jag+jwt");
  wider.scope = "files:write";
  f.expect_same(wider);
  const auto json = f.json(wider);
  EXPECT_EQ(json.at("refused_by"), "request");
  EXPECT_EQ(json.at("would_allow")[0].at("kind"), "token_scope");
  EXPECT_EQ(json.at("scopes")[1].at("closed_by"), Json({"token"}));

  claims["jti"] = "jti-3";
  auto elsewhere = f.assertion_question(claims, "oauth-id-jag+jwt");
  elsewhere.audiences = {"search"};
  f.expect_same(elsewhere);
  EXPECT_EQ(f.explained(elsewhere).refused_by, "target");

  claims["jti"] = "jti-4";
  claims["scope"] = "search:all";
  auto nothing = f.assertion_question(claims, "oauth-id-jag+jwt");
  f.expect_same(nothing);
  EXPECT_EQ(f.explained(nothing).refused_by, "ceilings");

  claims["jti"] = "jti-5";
  claims["may_act"] = {{"sub", "gw-99"}};
  claims.erase("scope");
  auto other = f.assertion_question(claims, "oauth-id-jag+jwt");
  f.expect_same(other);
  EXPECT_EQ(f.explained(other).refused_by, "subject");
}

TEST(Explain, AnAssertionNeedsItsGrantAndNeverOpensTheVault) {
  World f;
  auto asked = f.question("github");
  asked.grant = Question::Grant::JwtBearer;
  EXPECT_EQ(f.explained(asked).refused_by, "target");
  EXPECT_EQ(f.explained(asked).refusal->code, ErrorCode::TargetRefused);
  f.client()["grants"] = {"token-exchange"};
  f.load();
  asked = f.question();
  EXPECT_TRUE(f.explained(asked).allowed());
  asked.grant = Question::Grant::JwtBearer;
  const auto explanation = f.explained(asked);
  EXPECT_EQ(explanation.refused_by, "client");
  EXPECT_EQ(explanation.hints.at(0).details.at("grant"), "jwt-bearer");
}

TEST(Explain, ATokenThatNamesAnotherActorIsRefused) {
  World f;
  auto claims = f.claims();
  claims["may_act"] = {{"sub", "gw-99"}};
  auto asked = f.question();
  asked.subject = must(f.verify(f.idp.sign(claims)));
  const auto explanation = f.explained(asked);
  EXPECT_EQ(explanation.refused_by, "subject");
  EXPECT_EQ(explanation.refusal->code, ErrorCode::InvalidToken);
}

}  // namespace
}  // namespace postern::grants
