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

// ---- who acts ----

/// As an exchange of these tokens decides, and as it is explained.
struct Acting : World {
  void expect_same_exchange(const Json& subject, const Json& actor, const char* target = "files") {
    SCOPED_TRACE(subject.dump() + " " + actor.dump());
    const auto subject_token = idp.sign(subject);
    const auto actor_token = idp.sign(actor);
    auto asked = question(target);
    asked.subject = must(verify(subject_token));
    asked.actor = must(verify(actor_token));
    explanation = explained(asked);
    auto request = this->request(subject_token);
    request.audiences = {target};
    request.actor_token = actor_token;
    request.actor_token_type = kAccessToken;
    const auto issued = exchange(request);
    ASSERT_EQ(explanation.allowed(), issued.ok());
    if (issued.ok()) return;
    EXPECT_EQ(explanation.refusal->code, issued.error().code);
    EXPECT_EQ(explanation.refusal->detail, issued.error().detail);
  }
  Json agent() {
    auto agent = claims();
    agent["sub"] = "agent";
    return agent;
  }
  Explanation explanation;
};

TEST(Explain, WhoActsIsDecidedAsTheExchangeDoes) {
  Acting f;
  f.expect_same_exchange(f.claims(), f.agent());
  EXPECT_TRUE(f.explanation.allowed());

  auto subject = f.claims();
  subject["may_act"] = {{"sub", "agent"}};
  f.expect_same_exchange(subject, f.agent());
  EXPECT_TRUE(f.explanation.allowed());
  subject["may_act"] = {{"sub", "gw-01"}};  // the client, and not who acts
  f.expect_same_exchange(subject, f.agent());
  EXPECT_EQ(f.explanation.refused_by, "actor");
  EXPECT_EQ(f.explanation.hints.at(0).kind, "subject");

  auto delegated = f.agent();
  delegated["act"] = {{"sub", "another"}};
  f.expect_same_exchange(f.claims(), delegated);
  EXPECT_EQ(f.explanation.refused_by, "actor");
  EXPECT_EQ(f.explanation.hints.at(0).kind, "actor");

  auto passed_on = f.claims();
  for (const char* name : {"a", "b", "c", "d", "e"}) {
    passed_on["act"] = {{"sub", name}, {"act", passed_on.value("act", Json({{"sub", "f"}}))}};
    if (name[0] == 'd') break;
  }
  f.expect_same_exchange(passed_on, f.agent());
  EXPECT_EQ(f.explanation.refused_by, "actor");
  EXPECT_EQ(f.explanation.refusal->detail, "the chain of actors is deeper than 5");
}

TEST(Explain, AStoredCredentialNamesNoActor) {
  Acting f;
  f.backend("github")["token_field"] = "token";
  f.load();
  f.store("github", "alice", {{"token", "t"}});
  f.expect_same_exchange(f.claims(), f.agent(), "github");
  EXPECT_EQ(f.explanation.refused_by, "actor");
}

TEST(Explain, ATokenIssuedHereIsAsked) {
  World f;
  f.backend("github")["token_field"] = "token";
  f.load();
  f.store("github", "alice", {{"token", "t"}});
  const auto issued = must(f.exchange(f.request(f.subject_token())));
  const std::string own =
      issued.access_token.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  for (const char* target : {"files", "github"}) {
    auto asked = f.question(target);
    asked.subject =
        must(f.verifier.verify(*f.snapshot, f.caller(), own, policy::SubjectTokenType::AccessToken,
                               Wait::Yes, OwnToken::Accept));
    const auto explanation = f.explained(asked);
    auto request = f.request(own);
    request.audiences = {target};
    const auto again = f.exchange(request);
    ASSERT_EQ(explanation.allowed(), again.ok()) << target;
    if (again.ok()) continue;
    EXPECT_EQ(explanation.refused_by, "subject");
    EXPECT_EQ(explanation.refusal->detail, again.error().detail);
  }
}

// ---- how it is asked ----

TEST(Explain, DecidesAsTheDoorThatIsNamed) {
  World f;
  f.store("github", "alice", {{"token", "t"}});
  const auto look = [&](const Question& asked) {
    return explain(*f.snapshot, asked, f.clock.now(), nullptr, Wait::Database, &f.credentials);
  };
  auto asked = f.question("github");
  EXPECT_EQ(look(asked).grant, "release");  // nothing else answers
  EXPECT_TRUE(look(asked).allowed());
  asked.grant = Question::Grant::Exchange;
  EXPECT_EQ(look(asked).refused_by, "target");
  EXPECT_EQ(look(asked).refusal->detail,
            "this backend takes a stored credential; ask the release endpoint for it");
  f.backend("github")["token_field"] = "other";
  f.load();
  asked = f.question("github");
  const auto lacking = look(asked);
  EXPECT_EQ(lacking.grant, "token-exchange");
  EXPECT_EQ(lacking.refused_by, "credential");
  EXPECT_EQ(lacking.refusal->detail,
            "the stored credential lacks the field that this backend is answered with");
  asked.grant = Question::Grant::Release;
  EXPECT_TRUE(look(asked).allowed());

  // A chain that an exchange cannot make longer, and a release of what is stored need not.
  auto claims = f.claims();
  claims["act"] = {{"sub", "a"}};
  for (const char* name : {"b", "c", "d", "e"}) {
    claims["act"] = {{"sub", name}, {"act", claims["act"]}};
  }
  asked = f.question("github");
  asked.subject = must(f.verify(f.idp.sign(claims)));
  asked.grant = Question::Grant::Release;
  EXPECT_TRUE(look(asked).allowed());
  asked.audiences = {"files"};
  EXPECT_EQ(look(asked).refusal->detail, "the chain of actors is deeper than 5");
}

TEST(Explain, NamesTheActorWhereTheTokenDoes) {
  Acting f;
  auto asked = f.question();
  EXPECT_FALSE(f.explained(asked).names_actor);
  asked.actor = must(f.verify(f.idp.sign(f.agent())));
  EXPECT_TRUE(f.explained(asked).names_actor);
}

TEST(Explain, WhatAnEarlierTokenOfOursWasGrantedIsALimitOfTheToken) {
  World f;
  const auto token = f.subject_token();
  auto request = f.request(token);
  request.scope = "files:read";
  const auto issued = must(f.exchange(request));
  const std::string own =
      issued.access_token.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  auto asked = f.question();
  asked.subject =
      must(f.verifier.verify(*f.snapshot, f.caller(), own, policy::SubjectTokenType::AccessToken,
                             Wait::Yes, OwnToken::Accept));
  asked.scope = "files:write";
  const auto json = f.json(asked);
  EXPECT_EQ(json.at("allowed"), false);
  EXPECT_EQ(json.at("would_allow")[0].at("kind"), "token_scope");
  EXPECT_EQ(json.at("scopes")[1].at("closed_by"), Json({"token"}));
}

TEST(Explain, EveryRefusalSaysWhatToDo) {
  World f;
  auto asked = f.question();
  asked.scope = "a\"b";
  EXPECT_EQ(f.explained(asked).hints.size(), 1u);
  asked.scope.reset();
  asked.audiences = {"files", "search"};
  EXPECT_EQ(f.explained(asked).refused_by, "target");
  EXPECT_EQ(f.explained(asked).hints.at(0).text, "name one target");
  // The client's own right comes before any token.
  asked = f.question();
  asked.subject.reset();
  asked.refused = Question::Refused{"subject", fail(ErrorCode::InvalidToken, "why"), "do"};
  EXPECT_EQ(f.explained(asked).refused_by, "subject");
  EXPECT_EQ(f.explained(asked).refusal->detail, "why");
  f.client()["grants"] = {"client_credentials"};
  f.load();
  asked.client = &f.gateway();
  EXPECT_EQ(f.explained(asked).refused_by, "client");
}

// ---- what is stored ----

TEST(Explain, SaysWhichStoredCredentialABackendWouldTake) {
  World f;
  const auto asked = f.question("github");
  const auto look = [&](Wait wait = Wait::Database) {
    return explain(*f.snapshot, asked, f.clock.now(), nullptr, wait, &f.credentials);
  };
  auto none = look();
  EXPECT_EQ(none.refused_by, "credential");
  EXPECT_EQ(none.refusal->code, ErrorCode::InteractionRequired);
  EXPECT_EQ(none.refusal->detail, "no credential of this user is stored for this backend");
  ASSERT_EQ(none.hints.size(), 1u);
  EXPECT_EQ(none.hints[0].details, Json({{"credential", "github"}, {"owner", "principal"}}));
  EXPECT_EQ(look(Wait::No).refusal->code, ErrorCode::NeedsDatabase);

  f.store("github", "bob", {{"token", "t"}});  // not of this user
  f.store("github", "", {{"token", "t"}});     // nor the tenant's
  EXPECT_EQ(look().refused_by, "credential");

  f.store("github", "alice", {{"token", "t"}}, f.clock.now());
  EXPECT_EQ(look().refusal->detail,
            "the stored credential for this backend has expired; store a new one");
  f.store("github", "alice", {{"token", "t"}}, f.clock.now() + std::chrono::seconds(60));
  const auto stored = look();
  ASSERT_TRUE(stored.allowed());
  const auto json = write(*f.snapshot, stored);
  EXPECT_EQ(json.at("credential").at("name"), "github");
  EXPECT_EQ(json.at("credential").at("owner"), "principal");
  EXPECT_EQ(json.at("credential").at("version"), 2);
  EXPECT_TRUE(json.at("credential").contains("expires_at"));
}

}  // namespace
}  // namespace postern::grants
