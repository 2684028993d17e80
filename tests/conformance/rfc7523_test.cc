// Client authentication on the wire: RFC 7523 §2.2 with RFC 7521 §4.2, workload
// identity, throttling, and two secrets at a time. Rows A of docs/conformance.md; the
// rules of one assertion are in unit/grants/client_assertion_test.cc.

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "core/time_format.h"
#include "support/service_fixture.h"
#include "support/throttled.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

const Idp& gateway_key() {
  static const Idp key("gw-01");
  return key;
}

/// gw-01 signs; gw-files keeps its secret.
TestTenant& acme() {
  static TestTenant& tenant = [&]() -> TestTenant& {
    static TestTenant made("rfc7523");
    made.part("clients", "gw-01")["authentication"] = {{"method", "private_key_jwt"},
                                                       {"jwks", gateway_key().jwks()}};
    EXPECT_EQ(made.apply().status, 200);
    return made;
  }();
  return tenant;
}

std::string assertion(const std::string& jti, const Json& changes = Json::object()) {
  const auto now = SystemClock().now();
  Json claims{
      {"iss", "gw-01"}, {"sub", "gw-01"},         {"aud", "https://sts.example.com/t/rfc7523"},
      {"jti", jti},     {"iat", seconds_of(now)}, {"exp", seconds_of(now + 60s)}};
  claims.update(changes);
  return gateway_key().sign(claims);
}

Pairs fields(const std::string& compact, Pairs more = {}) {
  auto all = acme().exchange_fields(acme().user_token("alice"), "files");
  all.emplace_back("client_assertion_type", kType);
  all.emplace_back("client_assertion", compact);
  all.insert(all.end(), more.begin(), more.end());
  return all;
}
WireReply post(const Pairs& all) { return acme().token(all, ""); }

TEST(Rfc7523_2_2, A7_AClientAuthenticatesByItsAssertionWithAndWithoutClientId) {
  const auto reply = post(fields(assertion("wire-1")));
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(claims_of(json_of(reply, "access_token").get<std::string>()).at("client_id"), "gw-01");
  EXPECT_THAT(post(fields(assertion("wire-2"), {{"client_id", "gw-01"}})), HasStatus(200));
}

TEST(Rfc7523_2_2, A2_AnotherClientIdIsRefused) {
  EXPECT_THAT(post(fields(assertion("wire-3"), {{"client_id", "gw-files"}})),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc7523_2_2, A1_IsTheOnlyMethodOfItsRequest) {
  EXPECT_THAT(acme().token(fields(assertion("wire-4")), basic("gw-files", acme().files_secret)),
              IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(post(fields(assertion("wire-5"), {{"client_secret", acme().files_secret}})),
              IsOAuthError(400, "invalid_request"));
  auto untyped = fields(assertion("wire-6"));
  untyped.erase(untyped.end() - 2);
  EXPECT_THAT(post(untyped), IsOAuthError(400, "invalid_request"));
}

TEST(Rfc7523_2_2, A7_TheAssertionTypeIsExact) {
  for (const char* type :
       {"urn:ietf:params:oauth:client-assertion-type:saml2-bearer",
        "URN:ietf:params:oauth:client-assertion-type:jwt-bearer", "jwt-bearer"}) {
    auto all = fields(assertion("wire-7"));
    (all.end() - 2)->second = type;
    EXPECT_THAT(post(all), IsOAuthError(401, "invalid_client")) << type;
  }
}

TEST(Rfc7523_3, A7_EveryFailureReadsTheSameAndNamesNoHeader) {
  const auto reference = post(fields("x"));
  EXPECT_THAT(reference, IsOAuthError(401, "invalid_client"));
  EXPECT_EQ(reference.header("WWW-Authenticate"), "(none)");
  for (const auto& bad :
       {assertion("wire-8", {{"aud", "https://sts.example.com/t/rfc7523/token"}}),
        assertion("wire-9", {{"iss", "nobody"}, {"sub", "nobody"}}),
        assertion("wire-10", {{"iss", "gw-files"}, {"sub", "gw-files"}}),
        assertion("wire-11", {{"exp", 1}}), assertion("wire-12", {{"sub", "gw-files"}}),
        Idp("gw-01").sign(claims_of(assertion("wire-13")))}) {
    EXPECT_EQ(post(fields(bad)).body, reference.body);
  }
}

TEST(Rfc7523_3, A8_TheSlashAliasIsTheClientsSwitch) {
  const Json slash{{"aud", "https://sts.example.com/t/rfc7523/"}};
  EXPECT_THAT(post(fields(assertion("slash-1", slash))), HasStatus(200));
  auto& rule = acme().part("clients", "gw-01")["authentication"];
  rule["issuer_slash_audience"] = false;
  ASSERT_THAT(acme().apply(), HasStatus(200));
  EXPECT_THAT(post(fields(assertion("slash-2", slash))), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(post(fields(assertion("slash-3"))), HasStatus(200));
  rule.erase("issuer_slash_audience");
  ASSERT_THAT(acme().apply(), HasStatus(200));
  EXPECT_THAT(post(fields(assertion("slash-4", slash))), HasStatus(200));
}

TEST(Rfc7523_3, T15_NothingIsSaidOfTokensBeforeTheClientIsKnown) {
  auto all = fields("x");
  all[1].second = "garbage";
  EXPECT_EQ(post(all).body, post(fields("x")).body);
}

TEST(Rfc7523_3, A9_AnAssertionIsTakenOnceByAnyReplica) {
  static TestService replica(shared_service().database_url(), shared_service().key_directory(), {});
  const auto all = fields(assertion("once"));
  const Pairs headers{{"Content-Type", "application/x-www-form-urlencoded"}};
  EXPECT_THAT(post(all), HasStatus(200));
  EXPECT_THAT(replica.ask("POST", "/t/rfc7523/token", headers, form(all)),
              IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(post(all), IsOAuthError(401, "invalid_client"));
}

TEST(Rfc7523_3, AFailedExchangeUsesTheAssertionUpAndAFetchInBetweenDoesNot) {
  auto wrong = fields(assertion("spent"));
  wrong[3].second = "nowhere";
  EXPECT_THAT(post(wrong), IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(post(wrong), IsOAuthError(401, "invalid_client"));
}

/// A batch or a release, whose client authenticates in its body.
Json members(const std::string& compact) {
  return {{"client_assertion_type", kType}, {"client_assertion", compact}};
}
Json with(Json body, const char* name, Json value) {
  body[name] = std::move(value);
  return body;
}

struct JsonBodies : testing::TestWithParam<const char*> {
  static WireReply call(const Json& more, const Pairs& headers = {}) {
    return acme().call_with(GetParam(), more, headers);
  }
  static std::string fresh(const char* jti) { return assertion(std::string(GetParam()) + jti); }
};
INSTANTIATE_TEST_SUITE_P(Rfc7523_2_2, JsonBodies, testing::Values("release", "exchange"));

TEST_P(JsonBodies, TakeAnAssertionOnceWithAndWithoutClientId) {
  for (const auto& more : {members(fresh("1")), with(members(fresh("2")), "client_id", "gw-01")}) {
    const auto reply = call(more);
    ASSERT_THAT(reply, HasStatus(200));
    EXPECT_EQ(item_of(reply).at("status"), "allowed");
    const auto records = acme().audit("limit=1&order=desc");
    EXPECT_EQ(records.at(0).at("event").at("fields").at("client"), "gw-01");
    EXPECT_THAT(call(more), IsProblem(401, "invalid-client")) << "replayed";
  }
  // Nor where the other one has taken it.
  const auto elsewhere = members(fresh("3"));
  EXPECT_THAT(acme().call_with(GetParam()[0] == 'r' ? "exchange" : "release", elsewhere),
              HasStatus(200));
  EXPECT_THAT(call(elsewhere), IsProblem(401, "invalid-client"));
}

TEST_P(JsonBodies, RefuseAWrongAssertion) {
  const auto reference = call(members("x"));
  EXPECT_THAT(reference, IsProblem(401, "invalid-client"));
  for (const auto& bad : {assertion("wrong-aud" + std::string(GetParam()),
                                    {{"aud", "https://sts.example.com/api/v1/tenants/rfc7523"}}),
                          assertion("wrong-exp" + std::string(GetParam()), {{"exp", 1}}),
                          assertion("wrong-iss" + std::string(GetParam()),
                                    {{"iss", "gw-files"}, {"sub", "gw-files"}}),
                          Idp("gw-01").sign(claims_of(fresh("7"))), acme().user_token("alice")}) {
    EXPECT_EQ(call(members(bad)).body, reference.body);
  }
  EXPECT_THAT(call(with(members(fresh("8")), "client_assertion_type", "jwt-bearer")),
              IsProblem(401, "invalid-client"));
  EXPECT_THAT(call(with(members(fresh("9")), "client_id", "gw-files")),
              IsProblem(400, "malformed-request"));
  EXPECT_THAT(call({{"client_id", "gw-01"}}), IsProblem(401, "invalid-client"));
  EXPECT_THAT(call(Json::object()), IsProblem(401, "invalid-client"));
}

TEST_P(JsonBodies, RefuseTwoMethodsAndHalfOfOne) {
  const Pairs header{{"Authorization", basic("gw-files", acme().files_secret)}};
  EXPECT_THAT(call(Json::object(), header), HasStatus(200));
  EXPECT_THAT(call({{"client_id", "gw-files"}}, header), HasStatus(200));
  EXPECT_THAT(call({{"client_id", "gw-01"}}, header), IsProblem(400, "malformed-request"));
  EXPECT_THAT(call(members(fresh("10")), header), IsProblem(400, "malformed-request"));
  for (const char* name : {"client_assertion", "client_assertion_type"}) {
    auto half = members(fresh("11"));
    half.erase(name);
    EXPECT_THAT(call(half), IsProblem(400, "malformed-request")) << name;
    EXPECT_THAT(call(half, header), IsProblem(400, "malformed-request")) << name;
  }
  for (const char* name : {"client_id", "client_assertion", "client_assertion_type"}) {
    for (const Json& value : {Json(1), Json(""), Json(nullptr), Json::array({"gw-01"})}) {
      const auto reply = call(with(members(fresh("12")), name, value));
      EXPECT_THAT(reply, IsProblem(400, "malformed-request")) << name << value;
      EXPECT_EQ(json_of(reply, "pointer"), std::string("/") + name);
    }
  }
  EXPECT_THAT(call(with(members(fresh("13")), "client_secret", acme().files_secret)),
              IsProblem(401, "invalid-client"));
}

TEST(Rfc8414_2, M4_TheMetadataNamesTheMethodAndItsAlgorithms) {
  const auto metadata =
      json_of(acme().ask("GET", "/.well-known/oauth-authorization-server/t/rfc7523"));
  EXPECT_THAT(metadata.at("token_endpoint_auth_methods_supported").dump(),
              HasSubstr("\"private_key_jwt\""));
  const auto algorithms = metadata.at("token_endpoint_auth_signing_alg_values_supported").dump();
  EXPECT_THAT(algorithms, HasSubstr("RS256"));
  EXPECT_THAT(algorithms, Not(HasSubstr("none")));
  EXPECT_THAT(algorithms, Not(HasSubstr("HS")));
}

// ---- workload identity ----

TEST(WorkloadIdentity, ATokenOfThePlatformIsTheClientsCredential) {
  TestTenant tenant("rfc7523-workload");
  const Idp cluster("https://kubernetes.default.svc.cluster.local");
  const std::string audience = "https://sts.example.com/t/rfc7523-workload";
  tenant.manifest["issuers"].push_back({{"name", "cluster"},
                                        {"issuer", cluster.issuer()},
                                        {"jwks", cluster.jwks()},
                                        {"audiences", {audience}},
                                        {"subject_prefix", "k8s:"}});
  tenant.part("clients", "gw-01")["authentication"] = {
      {"method", "workload_identity"},
      {"workload",
       {{"issuer", "cluster"},
        {"audience", audience},
        {"claims", {{"sub", {"system:serviceaccount:gateways:gw"}}}}}}};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto now = SystemClock().now();
  Json claims{{"iss", cluster.issuer()},        {"sub", "system:serviceaccount:gateways:gw"},
              {"aud", Json::array({audience})}, {"iat", seconds_of(now)},
              {"exp", seconds_of(now + 3600s)}, {"kubernetes.io", {{"namespace", "gateways"}}}};
  const auto ask = [&](const std::string& token, const char* id) {
    auto all = tenant.exchange_fields(tenant.user_token("alice"), "files");
    all.emplace_back("client_assertion_type", kType);
    all.emplace_back("client_assertion", token);
    if (id != nullptr) all.emplace_back("client_id", id);
    return tenant.token(all, "");
  };
  EXPECT_THAT(ask(cluster.sign(claims), "gw-01"), HasStatus(200));
  EXPECT_THAT(ask(cluster.sign(claims), "gw-01"), HasStatus(200)) << "until it expires";
  for (const char* endpoint : {"release", "exchange"}) {
    const auto named = with(members(cluster.sign(claims)), "client_id", "gw-01");
    EXPECT_THAT(tenant.call_with(endpoint, named), HasStatus(200));
    EXPECT_THAT(tenant.call_with(endpoint, named), HasStatus(200)) << "until it expires";
    EXPECT_THAT(tenant.call_with(endpoint, members(cluster.sign(claims))),
                IsProblem(401, "invalid-client"));
    EXPECT_THAT(
        tenant.call_with(endpoint, with(members(tenant.user_token("alice")), "client_id", "gw-01")),
        IsProblem(401, "invalid-client"));
    EXPECT_THAT(tenant.call_with(endpoint, Json::object(),
                                 {{"Authorization", basic("gw-01", tenant.secret)}}),
                IsProblem(401, "invalid-client"))
        << "its old secret";
  }
  EXPECT_THAT(ask(cluster.sign(claims), nullptr), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(ask(cluster.sign(claims), "gw-files"), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(ask(tenant.user_token("alice"), "gw-01"), IsOAuthError(401, "invalid_client"));
  claims["sub"] = "system:serviceaccount:gateways:other";
  EXPECT_THAT(ask(cluster.sign(claims), "gw-01"), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "files"),
              IsOAuthError(401, "invalid_client"))
      << "its old secret";
}

// ---- throttling ----

TEST(Throttling, A6_GuessingIsSlowedDownAndDoesNotFillTheAuditTrail) {
  TestService service([](app::Config& config) {
    config.throttle.free_failures = 12;
    config.throttle.max_delay = 2s;
  });
  TestTenant tenant(service, "throttled");
  const auto guess = [&](const char* id) {
    return tenant.token(tenant.exchange_fields("x", "files"), basic(id, "wrong"));
  };
  // A client that retries each of three failures three times is not slowed down.
  for (int i = 0; i < 12; ++i) EXPECT_THAT(guess("gw-01"), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(tenant.exchange(tenant.user_token("alice"), "files"), HasStatus(200));
  for (int i = 0; i < 13; ++i) guess("gw-01");
  const auto before = tenant.audit().size();
  int refused = 0;
  for (int i = 0; i < 200; ++i) {
    const auto reply = guess("gw-01");
    if (reply.status != 429) continue;
    ++refused;
    EXPECT_THAT(reply, IsOAuthError(429, "temporarily_unavailable"));
    EXPECT_NE(reply.header("Retry-After"), "(none)");
  }
  EXPECT_GT(refused, 100);
  EXPECT_LT(tenant.audit().size() - before, 60U);
  // The right secret is not looked at either meanwhile; another client is.
  EXPECT_THAT(tenant.token(tenant.exchange_fields(tenant.user_token("alice"), "files"),
                           basic("gw-files", tenant.files_secret)),
              HasStatus(200));
  // No lock-out: after the time that Retry-After names, the right secret works.
  WireReply reply;
  do {
    reply = tenant.exchange(tenant.user_token("alice"), "files");
  } while (reply.status == 429);
  EXPECT_THAT(reply, HasStatus(200));
  // What no client's name is counts alike, and says no more.
  for (int i = 0; i < 13; ++i) EXPECT_EQ(guess("nobody").status, 401);
  eventually([&] { return guess("nobody").status == 429; }, "it has to wait");
}

TEST(Throttling, WhoProvesNothingFillsNoAuditTrailAndKeepsNobodyOut) {
  TestService service([](app::Config& config) {
    config.throttle.free_failures = 12;
    config.throttle.max_delay = 2s;
  });
  TestTenant tenant(service, "throttled");
  tenant.manifest["settings"]["vault_api"] = {{"clients", {"gw-01"}}};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto before = tenant.audit().size();
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) {
    const auto token = "made-up-" + std::to_string(i);
    EXPECT_THAT(tenant.api("GET", "/credentials", token), HasStatus(401));
    EXPECT_THAT(tenant.ask("GET", "/t/throttled/v1/secret/data/db", {{"X-Vault-Token", token}}),
                HasStatus(403));
    if (i >= 50) {
      EXPECT_THAT(tenant.ask("PUT", "/t/throttled/v1/sys/wrapping/unwrap",
                             {{"X-Vault-Token", "postern_wt_" + std::string(43, 'A')}}),
                  HasStatus(400));
    }
    // From the same address: answered at once.
    EXPECT_THAT(tenant.api("GET", "/credentials", tenant.admin), HasStatus(200));
  }
  // Each time that a block of two seconds is over one is recorded, of either kind.
  const auto blocks = static_cast<std::size_t>(
      std::chrono::ceil<std::chrono::seconds>(std::chrono::steady_clock::now() - began).count());
  std::uint64_t counted = 0;
  std::size_t of_nobody = 0, alarms = 0;
  for (const auto& record : tenant.audit()) {
    const auto& fields = record.at("event").at("fields");
    if (fields.contains("caller") || fields.contains("client")) continue;
    ++of_nobody;
    alarms += fields.contains("alarm") ? 1 : 0;
    counted +=
        fields.contains("attempts") ? std::stoull(fields.at("attempts").get<std::string>()) : 0;
  }
  EXPECT_GE(of_nobody, 12U);
  EXPECT_LT(of_nobody, 40U + blocks) << "of 250";
  EXPECT_GE(alarms, 12U) << "the noise of before keeps none out";
  EXPECT_GT(counted, 0U) << "the others are counted";
  EXPECT_LT(tenant.audit().size() - before, 200U + blocks);
}

TEST(Throttling, A6_BehindAProxyEachSourceIsOneInHoweverManyLines) {
  TestService service([](app::Config& config) {
    config.proxy_addresses = {"127.0.0.1/32"};
    config.throttle.free_failures = 3;
    config.throttle.max_delay = 60s;
  });
  TestTenant tenant(service, "throttled-behind");
  const auto fields = form(tenant.exchange_fields(tenant.user_token("alice"), "files"));
  const auto from = [&](const std::vector<std::string>& lines, const std::string& secret) {
    Pairs headers{{"Authorization", basic("gw-01", secret)},
                  {"Content-Type", "application/x-www-form-urlencoded"}};
    for (const auto& line : lines) headers.emplace_back("X-Forwarded-For", line);
    return tenant.ask("POST", "/t/throttled-behind/token", headers, fields);
  };
  eventually(
      [&] {
        return seconds_to_wait(from({"192.0.2.1", "198.51.100.7"}, "wrong")) >= 3;
      },
      "a time to wait that what is asked below fits into");
  EXPECT_THAT(from({"192.0.2.1", "198.51.100.7"}, tenant.secret), HasStatus(429));
  // The last line is the proxy's; what came before it is the client's word.
  EXPECT_THAT(from({"192.0.2.9, 198.51.100.7"}, tenant.secret), HasStatus(429));
  EXPECT_THAT(from({"198.51.100.7", "203.0.113.5"}, tenant.secret), HasStatus(200));
}

// ---- two live secrets ----

TEST(Secrets, TwoWorkSideBySideAndTheExpiredOneStops) {
  TestTenant tenant("rfc7523-rotation");
  const auto works = [&](const std::string& secret) {
    return tenant
               .token(tenant.exchange_fields(tenant.user_token("alice"), "files"),
                      basic("gw-01", secret))
               .status == 200;
  };
  const auto expiry = SystemClock().now() + 8s;
  const auto made = tenant.api("POST", "/clients/gw-01/secrets", tenant.admin,
                               {{"expires_at", format_time(expiry)}});
  ASSERT_THAT(made, HasStatus(201));
  const std::string passing = json_of(made, "client_secret");
  EXPECT_TRUE(works(passing));
  EXPECT_TRUE(works(tenant.secret));
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  while (works(passing) && std::chrono::steady_clock::now() < deadline) {
  }
  EXPECT_GE(SystemClock().now(), expiry);
  EXPECT_FALSE(works(passing));
  EXPECT_TRUE(works(tenant.secret));
}

}  // namespace
}  // namespace postern::test
