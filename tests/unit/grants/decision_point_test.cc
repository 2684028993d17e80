// The operator's decision point, by a server on loopback that answers as Open
// Policy Agent's REST data API does, and by what no such server should answer.

#include "grants/decision_point.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "grants/client_credentials.h"
#include "grants/jwt_bearer.h"
#include "outbound/fetch.h"
#include "support/code_of.h"
#include "support/grants_fixture.h"
#include "support/opa_server.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::GrantsFixture;
using test::must;
using test::OpaServer;
using token::Json;

std::string ok(const std::string& body) { return OpaServer::reply(body); }

outbound::FetchPolicy loopback() {
  outbound::FetchPolicy policy;
  policy.allow_insecure_loopback = true;
  policy.max_body_bytes = 64 * 1024;
  return policy;
}

/// The fixture's tenant with a decision point, and the grants that ask it.
struct Asked : GrantsFixture {
  void ask_at(const std::string& url, int cache_for = 5, int timeout_ms = 2000) {
    tenants.apply({{"tenant", "acme"},
                   {"guardrails",
                    {{"decision_point",
                      {{"url", url}, {"cache_for", cache_for}, {"timeout_ms", timeout_ms}}}}}},
                  clock.now(), policy::Prune::No);
    snapshot = tenants.snapshot(tenant);
  }
  Result<IssuedToken> exchange_with(std::optional<std::string> scope = std::nullopt,
                                    Wait wait = Wait::Yes) {
    const auto text = subject_token();
    auto asked = request(text);
    if (scope) asked.scope = *scope;
    auto made = record();
    return outside.exchange(*snapshot, caller(), asked, wait, made);
  }

  outbound::CurlFetcher curl{loopback()};
  DecisionPoint point{curl, clock};
  Release outside_release{verifier, credentials, envelope, clock, &point};
  TokenExchange outside{verifier, outside_release, clock, &point};
  ClientCredentials outside_credentials{clock, &point};
};

TEST(DecisionPoint, IsToldVerifiedFactsAndNoToken) {
  OpaServer opa([](const Json&) { return Json(true); });
  Asked f;
  f.manifest["bindings"][0]["claims"] = {{"department", {"rnd"}}};
  f.load();
  f.ask_at(opa.url());
  auto claims = f.claims();
  claims["department"] = "rnd";
  claims["email"] = "alice@acme.example";
  claims["acr"] = "phr";
  const auto text = f.idp.sign(claims);
  auto record = f.record();
  ASSERT_TRUE(f.outside.exchange(*f.snapshot, f.caller(), f.request(text), Wait::Yes, record).ok());
  ASSERT_EQ(opa.asked(), 1u);
  const auto request = opa.requests().front();
  EXPECT_EQ(OpaServer::input_of(request), Json({{"tenant", "acme"},
                                                {"client", "gw-01"},
                                                {"backend", "files"},
                                                {"audience", "https://files.example.com/mcp"},
                                                {"permitted", {"files:read", "files:write"}},
                                                {"subject",
                                                 {{"issuer", f.idp.issuer()},
                                                  {"subject", "alice"},
                                                  {"groups", {"engineering"}},
                                                  {"claims", {{"department", {"rnd"}}}},
                                                  {"acr", "phr"}}},
                                                {"actor", nullptr}}));
  EXPECT_EQ(request.find(text), request.npos);
  EXPECT_EQ(request.find(text.substr(text.rfind('.') + 1)), request.npos);
  EXPECT_EQ(request.find("Authorization"), request.npos);
}

TEST(DecisionPoint, IsToldWhoActs) {
  OpaServer opa([](const Json& input) { return Json(input.at("actor").is_null()); });
  Asked f;
  f.ask_at(opa.url());
  const auto text = f.subject_token();
  auto claims = f.claims();
  claims["sub"] = "agent-7";
  const auto actor = f.idp.sign(claims);
  auto asked = f.request(text);
  asked.actor_token = actor;
  asked.actor_token_type = asked.subject_token_type;
  auto record = f.record();
  EXPECT_EQ(code_of(f.outside.exchange(*f.snapshot, f.caller(), asked, Wait::Yes, record)),
            ErrorCode::TargetRefused);
  EXPECT_EQ(OpaServer::input_of(opa.requests().back()).at("actor"),
            Json({{"issuer", f.idp.issuer()}, {"subject", "agent-7"}}));
  EXPECT_TRUE(f.exchange_with().ok());  // the answer was about the two together
}

TEST(DecisionPoint, RefusesAndIsRemembered) {
  OpaServer opa([](const Json& input) { return Json(input.at("backend") == "search"); });
  Asked f;
  f.ask_at(opa.url());
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(code_of(f.exchange_with()), ErrorCode::TargetRefused);
  }
  EXPECT_EQ(opa.asked(), 1u);
  f.clock.advance(4s);
  EXPECT_EQ(code_of(f.exchange_with()), ErrorCode::TargetRefused);
  EXPECT_EQ(opa.asked(), 1u);
  f.clock.advance(1s);
  EXPECT_EQ(code_of(f.exchange_with()), ErrorCode::TargetRefused);
  EXPECT_EQ(opa.asked(), 2u);
}

TEST(DecisionPoint, AChangedMindCountsWhenTheAnswerIsOld) {
  std::atomic<bool> allow{true};
  OpaServer opa([&](const Json&) { return Json(allow.load()); });
  Asked f;
  f.ask_at(opa.url(), 3);
  EXPECT_TRUE(f.exchange_with().ok());
  allow = false;
  f.clock.advance(2s);
  EXPECT_TRUE(f.exchange_with().ok());
  f.clock.advance(1s);
  EXPECT_EQ(code_of(f.exchange_with()), ErrorCode::TargetRefused);
}

TEST(DecisionPoint, IsAskedAnewWhenTheConfigurationChanged) {
  OpaServer opa([](const Json&) { return Json(true); });
  Asked f;
  f.ask_at(opa.url(), 60);
  ASSERT_TRUE(f.exchange_with().ok());
  ASSERT_TRUE(f.exchange_with().ok());
  EXPECT_EQ(opa.asked(), 1u);
  f.ask_at(opa.url(), 59);
  ASSERT_TRUE(f.exchange_with().ok());
  EXPECT_EQ(opa.asked(), 2u);
  // Another one is another: nothing of the first counts there.
  OpaServer other([](const Json&) { return Json(false); });
  f.ask_at(other.url(), 60);
  EXPECT_EQ(code_of(f.exchange_with()), ErrorCode::TargetRefused);
}

TEST(DecisionPoint, WithoutACacheEveryRequestAsks) {
  OpaServer opa([](const Json&) { return Json(true); });
  Asked f;
  f.ask_at(opa.url(), 0);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(f.exchange_with().ok());
  EXPECT_EQ(opa.asked(), 3u);
}

TEST(DecisionPoint, OnlyTakesAway) {
  const auto answering = [](Json answer, std::optional<std::string> scope = std::nullopt) {
    OpaServer opa([&](const Json&) { return answer; });
    Asked f;
    f.ask_at(opa.url());
    return f.exchange_with(std::move(scope));
  };
  const Json more{{"allow", true}, {"scopes", {"files:read", "files:admin", "*"}}};
  EXPECT_EQ(must(answering(more)).scope.str(), "files:read");
  EXPECT_EQ(code_of(answering(more, "files:write")), ErrorCode::ScopeRefused);
  EXPECT_EQ(code_of(answering(more, "files:admin")), ErrorCode::ScopeRefused);
  EXPECT_EQ(code_of(answering({{"allow", true}, {"scopes", Json::array()}})),
            ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(answering({{"allow", true}, {"scopes", {"files:admin"}}})),
            ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(answering({{"allow", false}, {"scopes", {"files:read"}}})),
            ErrorCode::TargetRefused);
  EXPECT_EQ(must(answering({{"allow", true}})).scope.str(), "files:read files:write");
  EXPECT_EQ(must(answering(true)).scope.str(), "files:read files:write");
}

TEST(DecisionPoint, IsNotAskedAboutWhatOurPolicyRefuses) {
  OpaServer opa([](const Json&) { return Json(true); });
  Asked f;
  f.manifest["roles"][0]["allow"] = {"search:*"};
  f.load();
  f.ask_at(opa.url());
  EXPECT_EQ(code_of(f.exchange_with()), ErrorCode::TargetRefused);
  EXPECT_EQ(opa.asked(), 0u);
}

TEST(DecisionPoint, WhatIsNoDecisionRefuses) {
  for (const char* body :
       {R"({})", R"({"decision_id":"x"})", R"({"result":null})", R"({"result":"true"})",
        R"({"result":1})", R"({"result":[true]})", R"({"result":{}})",
        R"({"result":{"allowed":true}})", R"({"result":{"allow":"true"}})",
        R"({"result":{"allow":1}})", R"({"result":{"allow":{"allow":true}}})",
        R"({"result":{"allow":true,"scopes":"files:read"}})",
        R"({"result":{"allow":true,"scopes":null}})",
        R"({"result":{"allow":true,"scopes":["files:read",1]}})"}) {
    OpaServer opa(OpaServer::always(ok(body)));
    Asked f;
    f.ask_at(opa.url());
    EXPECT_EQ(code_of(f.exchange_with()), ErrorCode::TargetRefused) << body;
  }
}

TEST(DecisionPoint, FailsClosedOnWhateverIsNoAnswer) {
  const std::vector<std::string> replies{
      "",
      "garbage\r\n\r\n",
      OpaServer::reply("", "500 Internal Server Error"),
      OpaServer::reply(R"({"result":true})", "500 Internal Server Error"),
      OpaServer::reply(R"({"result":true})", "302 Found", "Location: /v1/data/other\r\n"),
      OpaServer::reply(R"({"result":true})", "401 Unauthorized"),
      OpaServer::reply(R"({"result":true})", "201 Created"),
      ok(""),
      ok("true"),
      ok("[]"),
      ok(R"({"result":false,"result":true})"),
      ok(R"({"result":true}x)"),
      ok(R"({"result":true)"),
      ok(std::string(70'000, ' ') + R"({"result":true})"),
      ok(R"({"result":{"allow":true,"scopes":)" + std::string(100, '[') + std::string(100, ']') +
         "}}"),
      "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{\"result\":true}",
      "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{\"result\":true}",
  };
  for (const auto& reply : replies) {
    OpaServer opa(OpaServer::always(reply));
    Asked f;
    f.ask_at(opa.url());
    const auto issued = f.exchange_with();
    ASSERT_EQ(code_of(issued), ErrorCode::Unavailable) << reply.substr(0, 200);
    EXPECT_EQ(issued.error().retry_after, 2s);
  }
  Asked nobody;
  nobody.ask_at("http://127.0.0.1:1/v1/data/x");
  EXPECT_EQ(code_of(nobody.exchange_with()), ErrorCode::Unavailable);
}

TEST(DecisionPoint, ASilentOneIsGivenUpOnAndLeftAlone) {
  OpaServer opa(OpaServer::silent());
  Asked f;
  f.ask_at(opa.url(), 5, 50);
  EXPECT_EQ(code_of(f.exchange_with()), ErrorCode::Unavailable);
  EXPECT_EQ(code_of(f.exchange_with()), ErrorCode::Unavailable);
  EXPECT_EQ(code_of(f.exchange_with(std::nullopt, Wait::No)), ErrorCode::Unavailable);
  EXPECT_EQ(opa.asked(), 1u);  // the others did not wait for it
  f.clock.advance(2s);
  EXPECT_EQ(code_of(f.exchange_with()), ErrorCode::Unavailable);
  EXPECT_EQ(opa.asked(), 2u);
}

TEST(DecisionPoint, AnInputThatItCannotDecideDoesNotKeepOthersFromAsking) {
  OpaServer opa(OpaServer::Raw{[](const std::string& request) {
    const bool files = OpaServer::input_of(request).at("backend") == "files";
    return std::optional(
        files ? OpaServer::reply(R"({"code":"internal_error"})", "500 Internal Server Error")
              : ok(R"({"result":true})"));
  }});
  Asked f;
  f.ask_at(opa.url());
  EXPECT_EQ(code_of(f.exchange_with()), ErrorCode::Unavailable);
  auto record = f.record();
  EXPECT_TRUE(
      f.outside_credentials.grant(*f.snapshot, f.caller(), {"search"}, {}, {}, record, Wait::Yes)
          .ok());
}

TEST(DecisionPoint, IsNotWaitedForOnAComputeThread) {
  OpaServer opa([](const Json&) { return Json(true); });
  Asked f;
  f.ask_at(opa.url());
  EXPECT_EQ(code_of(f.exchange_with(std::nullopt, Wait::No)), ErrorCode::NeedsOutbound);
  EXPECT_EQ(code_of(f.exchange_with(std::nullopt, Wait::Database)), ErrorCode::NeedsOutbound);
  EXPECT_EQ(opa.asked(), 0u);
  ASSERT_TRUE(f.exchange_with().ok());
  EXPECT_TRUE(f.exchange_with(std::nullopt, Wait::No).ok());  // remembered
}

TEST(DecisionPoint, StandsBeforeEveryGrantAndRelease) {
  OpaServer opa([](const Json&) { return Json(false); });
  Asked f;
  f.store("github", "alice", {{"token", "secret"}});
  f.ask_at(opa.url());
  EXPECT_EQ(code_of(f.exchange_with()), ErrorCode::TargetRefused);
  auto record = f.record();
  EXPECT_EQ(code_of(f.outside_credentials.grant(*f.snapshot, f.caller(), {"files"}, {}, {}, record,
                                                Wait::Yes)),
            ErrorCode::TargetRefused);
  const auto subject = must(f.verify(f.subject_token()));
  for (const char* backend : {"files", "github"}) {
    EXPECT_EQ(code_of(f.outside_release.release(*f.snapshot, f.caller(), *subject,
                                                {backend, false, {}}, record, Wait::Yes)),
              ErrorCode::TargetRefused);
  }
}

TEST(DecisionPoint, HalfOfABackendIsNoStoredCredential) {
  OpaServer opa([](const Json&) { return Json({{"allow", true}, {"scopes", {"repo:read"}}}); });
  Asked f;
  f.store("github", "alice", {{"token", "secret"}});
  f.ask_at(opa.url());
  const auto subject = must(f.verify(f.subject_token()));
  auto record = f.record();
  EXPECT_EQ(code_of(f.outside_release.release(*f.snapshot, f.caller(), *subject,
                                              {"github", false, {}}, record, Wait::Yes)),
            ErrorCode::ScopeRefused);
}

TEST(DecisionPoint, IsToldNoLessWhenTheTokenIsExchangedOnward) {
  // Nothing here is bound to the group or to the second department.
  OpaServer opa([](const Json& input) {
    const auto& subject = input.at("subject");
    const auto has = [](const Json& list, const char* text) {
      return std::find(list.begin(), list.end(), Json(text)) != list.end();
    };
    return Json(input.at("backend") == "files" ||
                !(has(subject.at("groups"), "contractors") &&
                  has(subject.at("claims").at("department"), "hr")));
  });
  Asked f;
  f.manifest["bindings"][0]["claims"] = {{"department", {"rnd"}}};
  f.load();
  const auto at = [&](const std::string& token, const char* backend) {
    auto asked = f.request(token);
    asked.audiences = {backend};
    auto made = f.record();
    return f.outside.exchange(*f.snapshot, f.caller(), asked, Wait::Yes, made);
  };
  const auto text = [](const Result<IssuedToken>& issued) {
    return issued.value().access_token.expose(
        [](ByteView bytes) { return std::string(as_text(bytes)); });
  };
  auto claims = f.claims();
  claims["department"] = {"rnd", "hr"};
  claims["groups"] = {"engineering", "contractors"};
  const auto user = f.idp.sign(claims);
  const auto earlier = at(user, "files");  // before there was a decision point
  ASSERT_TRUE(earlier.ok()) << earlier.error().detail;
  EXPECT_TRUE(at(text(earlier), "search").ok());

  f.ask_at(opa.url());
  EXPECT_EQ(code_of(at(user, "search")), ErrorCode::TargetRefused);
  EXPECT_EQ(code_of(at(text(earlier), "search")), ErrorCode::InvalidToken);
  const auto first = at(user, "files");
  ASSERT_TRUE(first.ok()) << first.error().detail;
  EXPECT_EQ(code_of(at(text(first), "search")), ErrorCode::TargetRefused);
  const auto second = at(text(first), "files");
  ASSERT_TRUE(second.ok()) << second.error().detail;
  EXPECT_EQ(code_of(at(text(second), "search")), ErrorCode::TargetRefused);

  // Another claim is asked for since: the token cannot say what its value was.
  f.manifest["bindings"][0]["claims"]["site"] = {"*"};
  f.manifest["bindings"].push_back(
      {{"name", "plain"}, {"role", "developer"}, {"groups", {"engineering"}}});
  f.load();
  f.ask_at(opa.url());
  EXPECT_EQ(code_of(at(text(first), "files")), ErrorCode::InvalidToken);
}

TEST(DecisionPoint, TenantsWithoutOneAreNotAsked) {
  Asked f;
  EXPECT_TRUE(f.exchange_with(std::nullopt, Wait::No).ok());
}

TEST(DecisionPoint, WhereNobodyAsksATenantWithOneIsRefused) {
  Asked f;
  f.ask_at("https://opa.example.com/v1/data/x");
  const auto text = f.subject_token();
  EXPECT_EQ(code_of(f.exchange(f.request(text))), ErrorCode::Unavailable);  // wired without
}

TEST(DecisionPoint, APrivateOrLoopbackAddressNeedsTheOperatorsSetting) {
  OpaServer opa([](const Json&) { return Json(true); });
  Asked f;
  f.ask_at(opa.url());
  outbound::CurlFetcher strict{outbound::FetchPolicy{}};
  DecisionPoint point(strict, f.clock);
  const auto subject = must(f.verify(f.subject_token()));
  EXPECT_EQ(code_of(point.decide(*f.snapshot,
                                 {&f.gateway(), f.snapshot->find_backend("files"), subject.get()},
                                 policy::ScopeSet({"files:read"}), Wait::Yes)),
            ErrorCode::Unavailable);
  EXPECT_EQ(opa.asked(), 0u);
}

/// Answers when it is told to.
struct HeldFetcher final : outbound::Fetcher {
  Result<outbound::FetchReply> get(const outbound::FetchRequest&) override {
    return fail(ErrorCode::Unavailable, "");
  }
  Result<outbound::FetchReply> post(const outbound::PostRequest&) override {
    ++calls;
    while (!let_go) std::this_thread::yield();
    return outbound::FetchReply{answer, "application/json", {}, R"({"result":true})"};
  }
  std::atomic<int> calls{0};
  std::atomic<int> answer{200};
  std::atomic<bool> let_go{false};
};

struct Held : Asked {
  Held() {
    ask_at("https://opa.example.com/v1/data/x", 0);
    subject = must(verify(subject_token()));
  }
  Result<Decision> decide() {
    return held_point.decide(*snapshot,
                             {&gateway(), snapshot->find_backend("files"), subject.get()},
                             policy::ScopeSet({"files:read"}), Wait::Yes);
  }
  HeldFetcher held;
  DecisionPoint held_point{held, clock, 2};
  VerifiedTokenPtr subject;
};

TEST(DecisionPoint, CallsUnderWayAreLimited) {
  Held f;
  std::thread one([&] { EXPECT_TRUE(f.decide().ok()); });
  std::thread two([&] { EXPECT_TRUE(f.decide().ok()); });
  while (f.held.calls < 2) std::this_thread::yield();
  EXPECT_EQ(code_of(f.decide()), ErrorCode::Unavailable);
  EXPECT_EQ(f.held.calls, 2);
  f.held.let_go = true;
  one.join();
  two.join();
  EXPECT_TRUE(f.decide().ok());
}

TEST(DecisionPoint, ADeadOneIsTriedByOneAtATime) {
  Held f;
  f.held.answer = 503;
  f.held.let_go = true;
  EXPECT_EQ(code_of(f.decide()), ErrorCode::Unavailable);
  f.clock.advance(1s);  // which may be a moment only
  EXPECT_EQ(code_of(f.decide()), ErrorCode::Unavailable);
  EXPECT_EQ(f.held.calls, 1);
  f.clock.advance(1s);
  f.held.let_go = false;
  std::thread tries([&] { EXPECT_EQ(code_of(f.decide()), ErrorCode::Unavailable); });
  while (f.held.calls < 2) std::this_thread::yield();
  EXPECT_EQ(code_of(f.decide()), ErrorCode::Unavailable);
  EXPECT_EQ(f.held.calls, 2);  // the second did not wait
  f.held.let_go = true;
  tries.join();
  f.held.answer = 200;
  EXPECT_EQ(code_of(f.decide()), ErrorCode::Unavailable);  // left alone
  f.clock.advance(2s);
  EXPECT_TRUE(f.decide().ok());
  EXPECT_TRUE(f.decide().ok());
}

TEST(DecisionPoint, InputsThatDifferAreDecidedApart) {
  Asked f;
  const auto base = *must(f.verify(f.subject_token()));
  const auto& backend = *f.snapshot->find_backend("files");
  const auto input = [&](const VerifiedToken& token) {
    return DecisionPoint::input_of(*f.snapshot, {&f.gateway(), &backend, &token},
                                   policy::ScopeSet({"files:read"}));
  };
  auto other = base;
  other.groups = {"engineering", "x"};
  EXPECT_NE(input(base), input(other));
  auto turned = base;
  turned.groups = {"x", "engineering"};
  EXPECT_EQ(input(turned), input(other));  // the order means nothing
  other.groups = {"engineering,x"};
  EXPECT_NE(input(base), input(other));
  other = base;
  other.principal.subject = "alice\",\"groups\":[\"root";
  EXPECT_NE(input(base), input(other));
  EXPECT_EQ(Json::parse(input(other)).at("input").at("subject").at("groups"),
            Json({"engineering"}));
  // Nothing that a token brings takes the place of a fact.
  other = base;
  other.auth_context["groups"] = {"root"};
  EXPECT_EQ(input(base), input(other));
}

}  // namespace
}  // namespace postern::grants
