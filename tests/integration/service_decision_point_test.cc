// The operator's decision point on the wire: before every grant and every release,
// closed when it does not answer, and asked in a second run of a request whose
// single-use proofs were spent in the first.

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "crypto/base64url.h"
#include "crypto/random.h"
#include "support/dpop_proof.h"
#include "support/opa_server.h"
#include "support/service_fixture.h"
#include "token/jwk.h"

namespace postern::test {
namespace {

using namespace std::chrono_literals;

/// A service whose operator keeps decision points beside it.
TestService& service() {
  static TestService made([](app::Config& config) { config.decision_point_allow_loopback = true; });
  return made;
}

WireReply ask_at(const TestTenant& tenant, const std::string& url, Json more = Json::object()) {
  Json point{{"url", url}, {"cache_for", 0}, {"timeout_ms", 2000}};
  point.update(more);
  return tenant.api("PUT", "/manifest", tenant.operator_token(),
                    {{"tenant", tenant.name}, {"guardrails", {{"decision_point", point}}}});
}

Json last_event(const TestTenant& tenant) { return tenant.audit().back().at("event"); }

TEST(DecisionPoint, AColdOneDoesNotSpendAssertionsAndProofsTwice) {
  std::atomic<bool> allow{true};
  OpaServer opa([&](const Json&) { return Json(allow.load()); });
  TestTenant t(service(), "point-once");
  const Idp gateway("gw-01");
  t.part("clients", "gw-01")["authentication"] = {{"method", "private_key_jwt"},
                                                  {"jwks", gateway.jwks()}};
  t.part("clients", "gw-01")["dpop_bound"] = true;
  ASSERT_THAT(t.apply(), HasStatus(200));
  ASSERT_THAT(ask_at(t, opa.url(), {{"cache_for", 60}}), HasStatus(200));

  const auto holder = crypto::SigningKey::generate(crypto::Algorithm::ES256);
  const auto issuer = std::string(kBaseUrlOfTests) + "/t/" + t.name;
  const auto proof = [&] { return dpop_proof(holder, issuer + "/token", SystemClock().now()); };
  const auto assertion = [&] {
    const auto now = SystemClock().now();
    return gateway.sign({{"iss", "gw-01"},
                         {"sub", "gw-01"},
                         {"aud", issuer},
                         {"jti", crypto::random_id()},
                         {"iat", seconds_of(now)},
                         {"exp", seconds_of(now + 60s)}});
  };
  const auto post = [&](const std::string& compact, const std::string& dpop,
                        const std::string& audience) {
    auto fields = t.exchange_fields(t.user_token("alice"), audience);
    fields.emplace_back("client_assertion_type",
                        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    fields.emplace_back("client_assertion", compact);
    return t.ask("POST", "/t/" + t.name + "/token",
                 {{"Content-Type", "application/x-www-form-urlencoded"}, {"DPoP", dpop}},
                 form(fields));
  };
  const auto used = assertion();
  const auto shown = proof();
  const auto cold = post(used, shown, "files");
  ASSERT_THAT(cold, HasStatus(200));
  EXPECT_EQ(json_of(cold, "token_type"), "DPoP");
  EXPECT_EQ(opa.asked(), 1u);
  // Both were spent, by that one request.
  EXPECT_THAT(post(used, proof(), "files"), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(post(assertion(), shown, "files"), IsOAuthError(400, "invalid_dpop_proof"));
  // Warm, on the compute thread alone as far as the decision goes.
  EXPECT_THAT(post(assertion(), proof(), "files"), HasStatus(200));
  EXPECT_EQ(opa.asked(), 1u);
  // Refused in the second run: one record, and the two are spent as well.
  allow = false;
  const auto before = t.audit().size();
  const auto refused = assertion();
  EXPECT_THAT(post(refused, proof(), "search"), IsOAuthError(400, "invalid_target"));
  EXPECT_EQ(t.audit().size(), before + 1);
  EXPECT_THAT(post(refused, proof(), "files"), IsOAuthError(401, "invalid_client"));
}

/// Every way to a token or a credential, by name.
struct EveryPath {
  explicit EveryPath(const std::string& name) : t(service(), name) {
    t.store("alice", "github", {{"token", "kept-value"}});
    t.part("clients", "gw-01")["grants"] = {"token-exchange", "client_credentials", "jwt-bearer"};
    t.part("issuers", "corp")["token_types"] = {"access_token", "jwt", "jwt_bearer"};
    EXPECT_THAT(t.apply(), HasStatus(200));
  }
  std::string assertion() const {
    auto claims = t.claims("alice");
    claims["aud"] = std::string(kBaseUrlOfTests) + "/t/" + t.name;
    claims["jti"] = crypto::random_id();
    return t.idp.sign(claims);
  }
  WireReply exchange() const { return t.exchange(t.user_token("alice"), "files"); }
  WireReply itself() const {
    return t.token({{"grant_type", "client_credentials"}, {"audience", "files"}});
  }
  WireReply jwt_bearer(const std::string& compact) const {
    return t.token({{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"},
                    {"assertion", compact},
                    {"audience", "files"}});
  }
  WireReply on_behalf_of() const {
    return t.token({{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"},
                    {"requested_token_use", "on_behalf_of"},
                    {"assertion", t.user_token("alice")},
                    {"scope", "https://files.example.com/mcp/.default"}});
  }
  WireReply batch() const {
    const Json body{{"subject_token", t.user_token("alice")},
                    {"items", {{{"audience", "files"}}, {{"audience", "search"}}}}};
    return t.ask(
        "POST", "/api/v1/tenants/" + t.name + "/exchange",
        {{"Authorization", basic("gw-01", t.secret)}, {"Content-Type", "application/json"}},
        body.dump());
  }
  WireReply release() const {
    return t.release(t.user_token("alice"), {{{"backend", "files"}}, {{"backend", "github"}}});
  }
  TestTenant t;
};

TEST(DecisionPoint, StandsOnEveryPath) {
  std::atomic<bool> allow{false};
  OpaServer opa([&](const Json&) { return Json(allow.load()); });
  const EveryPath f("point-paths");
  ASSERT_THAT(ask_at(f.t, opa.url()), HasStatus(200));
  const auto assertion = f.assertion();
  const auto refused_on_record = [&](const char* action) {
    const auto event = last_event(f.t);
    EXPECT_EQ(event.at("action"), action);
    EXPECT_EQ(event.at("outcome"), "refused");
    EXPECT_EQ(event.at("fields").at("reason"), "the operator's decision point does not allow this");
  };
  EXPECT_THAT(f.exchange(), IsOAuthError(400, "invalid_target"));
  refused_on_record("token.exchange");
  EXPECT_THAT(f.itself(), IsOAuthError(400, "invalid_target"));
  refused_on_record("token.client_credentials");
  EXPECT_THAT(f.jwt_bearer(assertion), IsOAuthError(400, "invalid_target"));
  refused_on_record("token.jwt_bearer");
  EXPECT_THAT(f.on_behalf_of(), IsOAuthError(400, "invalid_target"));
  refused_on_record("token.exchange");
  auto before = f.t.audit().size();
  const auto batch = f.batch();
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(item_of(batch, i).at("status"), "refused");
  EXPECT_EQ(f.t.audit().size(), before + 2);
  refused_on_record("token.exchange");
  before = f.t.audit().size();
  const auto release = f.release();
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(item_of(release, i).at("status"), "refused");
  EXPECT_EQ(release.body.find("kept-value"), std::string::npos);
  EXPECT_EQ(f.t.audit().size(), before + 2);
  refused_on_record("credential.release");

  allow = true;
  EXPECT_THAT(f.exchange(), HasStatus(200));
  EXPECT_THAT(f.itself(), HasStatus(200));
  EXPECT_THAT(f.jwt_bearer(assertion), HasStatus(200));  // the refusal had not spent it
  EXPECT_THAT(f.jwt_bearer(assertion), IsOAuthError(400, "invalid_grant"));
  EXPECT_THAT(f.on_behalf_of(), HasStatus(200));
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(item_of(f.batch(), i).at("status"), "allowed");
    EXPECT_EQ(item_of(f.release(), i).at("status"), "allowed");
  }
}

TEST(DecisionPoint, NoAnswerIsATemporaryErrorOnRecordOnEveryPath) {
  OpaServer opa(OpaServer::silent());
  const EveryPath f("point-silent");
  // A new configuration before each: what did not answer is left alone for a while.
  const auto given_up_on = [&](const WireReply& reply, const char* action) {
    EXPECT_THAT(reply, IsOAuthError(503, "temporarily_unavailable"));
    EXPECT_NE(reply.header("Retry-After"), "(none)");
    const auto event = last_event(f.t);
    EXPECT_EQ(event.at("action"), action);
    EXPECT_EQ(event.at("outcome"), "failed");
    EXPECT_EQ(event.at("fields").at("reason"), "the operator's decision point gave no answer");
  };
  int number = 0;
  const auto silent = [&] {
    const auto url = opa.url("/v1/data/silent/" + std::to_string(++number));
    ASSERT_THAT(ask_at(f.t, url, {{"timeout_ms", 50}}), HasStatus(200));
  };
  silent();
  given_up_on(f.exchange(), "token.exchange");
  silent();
  given_up_on(f.itself(), "token.client_credentials");
  silent();
  given_up_on(f.jwt_bearer(f.assertion()), "token.jwt_bearer");
  silent();
  given_up_on(f.on_behalf_of(), "token.exchange");
  silent();
  const auto batch = f.batch();
  for (std::size_t i = 0; i < 2; ++i) EXPECT_NE(item_of(batch, i).at("status"), "allowed");
  EXPECT_EQ(last_event(f.t).at("outcome"), "failed");
  silent();
  const auto release = f.release();
  for (std::size_t i = 0; i < 2; ++i) EXPECT_NE(item_of(release, i).at("status"), "allowed");
  EXPECT_EQ(release.body.find("kept-value"), std::string::npos);
  EXPECT_EQ(last_event(f.t).at("outcome"), "failed");
  EXPECT_EQ(opa.asked(), 6u);  // the second items did not wait again
}

TEST(DecisionPoint, AnswersThatAreNoneAreClosed) {
  const std::vector<std::pair<std::string, int>> replies{
      {OpaServer::reply(R"({"result":true})"), 200},
      {OpaServer::reply(R"({})"), 400},
      {OpaServer::reply(R"({"result":"true"})"), 400},
      {OpaServer::reply(R"({"result":1})"), 400},
      {OpaServer::reply(R"({"result":true})", "500 Internal Server Error"), 503},
      {OpaServer::reply("garbage"), 503},
      {OpaServer::reply(R"({"result":true,"more":")" + std::string(70'000, 'x') + "\"}"), 503},
      {"no HTTP at all", 503}};
  const TestTenant t(service(), "point-answers");
  for (const auto& [bytes, status] : replies) {
    OpaServer opa(OpaServer::always(bytes));
    ASSERT_THAT(ask_at(t, opa.url()), HasStatus(200));
    EXPECT_THAT(t.exchange(t.user_token("alice"), "files"), HasStatus(status))
        << bytes.substr(0, 100);
  }
}

TEST(DecisionPoint, IsTheOperatorsToName) {
  OpaServer opa([](const Json&) { return Json(false); });
  OpaServer mine([](const Json&) { return Json(true); });
  const TestTenant t(service(), "point-owner");
  ASSERT_THAT(ask_at(t, opa.url()), HasStatus(200));
  for (const auto& wanted :
       {Json::object(), Json{{"decision_point", {{"url", mine.url()}}}},
        Json{{"decision_point", {{"url", opa.url()}, {"cache_for", 60}, {"timeout_ms", 2000}}}}}) {
    EXPECT_THAT(t.api("PUT", "/manifest", t.admin, {{"tenant", t.name}, {"guardrails", wanted}}),
                IsProblem(403, "forbidden"));
  }
  EXPECT_THAT(
      t.api("PUT", "/manifest?prune=true", t.admin, json_of(t.api("GET", "/manifest", t.admin))),
      HasStatus(200));
  EXPECT_THAT(t.exchange(t.user_token("alice"), "files"), IsOAuthError(400, "invalid_target"));
  EXPECT_EQ(mine.asked(), 0u);
  for (const char* url :
       {"http://opa.example/v1/data/x", "https://opa.example/", "https://opa.example/v1/data/x?y",
        "https://user:word@opa.example/v1/data/x", "file:///v1/data/x"}) {
    EXPECT_THAT(ask_at(t, url), IsProblem(400, "malformed-request")) << url;
  }
}

TEST(DecisionPoint, OnLoopbackNeedsTheOperatorsSetting) {
  OpaServer opa([](const Json&) { return Json(true); });
  const TestTenant t("point-loopback");  // at a service without it
  ASSERT_THAT(ask_at(t, opa.url()), HasStatus(200));
  EXPECT_THAT(t.exchange(t.user_token("alice"), "files"),
              IsOAuthError(503, "temporarily_unavailable"));
  EXPECT_EQ(opa.asked(), 0u);
}

TEST(DecisionPoint, ItsSettingOpensNothingToWhatTenantsName) {
  OpaServer opa([](const Json&) { return Json(true); });
  TestTenant t(service(), "point-ssrf");
  auto& issuer = t.part("issuers", "corp");
  issuer.erase("jwks");
  issuer["jwks_uri"] = opa.url();
  ASSERT_THAT(t.apply(), HasStatus(200));
  EXPECT_THAT(t.exchange(t.user_token("alice"), "files"),
              IsOAuthError(503, "temporarily_unavailable"));
  EXPECT_EQ(opa.asked(), 0u);
}

}  // namespace
}  // namespace postern::test
