// DPoP at the token endpoint and at release (RFC 9449), over the wire. The rules
// of one proof are in unit/grants/dpop_test.cc.

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "support/dpop_holder.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;

constexpr const char* kUrl = "https://sts.example.com/t/rfc9449/token";

TestTenant& acme() {
  static TestTenant tenant("rfc9449");
  return tenant;
}

WireReply exchange(TestTenant& tenant, const std::string& subject,
                   const std::vector<std::string>& proofs) {
  Pairs headers{{"Content-Type", "application/x-www-form-urlencoded"},
                {"Authorization", basic("gw-01", tenant.secret)}};
  for (const auto& proof : proofs) headers.emplace_back("DPoP", proof);
  return tenant.ask("POST", "/t/" + tenant.name + "/token", headers,
                    form(tenant.exchange_fields(subject, "files")));
}
WireReply exchange(const std::vector<std::string>& proofs) {
  return exchange(acme(), acme().user_token("alice"), proofs);
}
Json cnf_of(const WireReply& reply) {
  return claims_of(json_of(reply, "access_token").get<std::string>()).value("cnf", Json());
}

TEST(Rfc9449_5, AProofBindsTheTokenAndItsType) {
  const DpopHolder holder;
  const auto reply = exchange({holder.proof(kUrl)});
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(json_of(reply, "token_type"), "DPoP");
  EXPECT_EQ(cnf_of(reply), Json({{"jkt", holder.jkt()}}));
  const auto unbound = exchange(std::vector<std::string>());
  EXPECT_EQ(json_of(unbound, "token_type"), "Bearer");
  EXPECT_EQ(cnf_of(unbound), Json());
}

TEST(Rfc9449_4_3_1, ThereIsOneDpopHeader) {
  const DpopHolder holder;
  EXPECT_THAT(exchange({holder.proof(kUrl), holder.proof(kUrl)}),
              IsOAuthError(400, "invalid_dpop_proof"));
  EXPECT_THAT(exchange({holder.proof(kUrl) + ", " + holder.proof(kUrl)}),
              IsOAuthError(400, "invalid_dpop_proof"));
  EXPECT_THAT(exchange({""}), IsOAuthError(400, "invalid_dpop_proof"));
  EXPECT_THAT(exchange({holder.proof(kUrl)}), HasStatus(200));
}

TEST(Rfc9449_4_3, TheUrlIsOfThisTenantsTokenEndpoint) {
  const DpopHolder holder;
  EXPECT_THAT(exchange({holder.proof("https://sts.example.com/t/other/token")}),
              IsOAuthError(400, "invalid_dpop_proof"));
  EXPECT_THAT(exchange({holder.proof("http://127.0.0.1/t/rfc9449/token")}),
              IsOAuthError(400, "invalid_dpop_proof"));
  EXPECT_THAT(exchange({holder.proof(std::string(kUrl) + "?a=b")}), HasStatus(200));
}

TEST(Rfc9449_11_1, AProofIsTakenOnceByAnyReplica) {
  static TestService replica(shared_service().database_url(), shared_service().key_directory(), {});
  const DpopHolder holder;
  const auto body = form(acme().exchange_fields(acme().user_token("alice"), "files"));
  for (int round = 0; round < 5; ++round) {
    const Pairs headers{{"Content-Type", "application/x-www-form-urlencoded"},
                        {"Authorization", basic("gw-01", acme().secret)},
                        {"DPoP", holder.proof(kUrl)}};
    std::atomic<int> taken{0}, refused{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 6; ++i) {
      threads.emplace_back([&, i] {
        auto& service = i % 2 == 0 ? shared_service() : replica;
        const auto reply = service.ask("POST", "/t/rfc9449/token", headers, body);
        ++(reply.status == 200 ? taken : refused);
        if (reply.status != 200) {
          EXPECT_THAT(reply, IsOAuthError(400, "invalid_dpop_proof"));
        }
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(taken, 1);
    EXPECT_EQ(refused, 5);
  }
}

TEST(Rfc9449_5_2, AClientRegisteredForItMustSendAProof) {
  TestTenant tenant("rfc9449-bound");
  tenant.part("clients", "gw-01")["dpop_bound"] = true;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const DpopHolder holder;
  const auto subject = tenant.user_token("alice");
  EXPECT_THAT(exchange(tenant, subject, {}), IsOAuthError(400, "invalid_dpop_proof"));
  // The client first: nobody else learns that it is registered so.
  EXPECT_THAT(tenant.token(tenant.exchange_fields(subject, "files"), basic("gw-01", "wrong")),
              IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(
      exchange(tenant, subject, {holder.proof("https://sts.example.com/t/rfc9449-bound/token")}),
      HasStatus(200));
}

TEST(Rfc9449_6, X5_ABoundSubjectTokenNeedsItsKeyAndStaysBound) {
  const DpopHolder holder, thief;
  auto claims = acme().claims("alice");
  claims["cnf"] = {{"jkt", holder.jkt()}};
  const auto subject = acme().idp.sign(claims);
  EXPECT_THAT(exchange(acme(), subject, {}), IsOAuthError(400, "invalid_request"));
  EXPECT_THAT(exchange(acme(), subject, {thief.proof(kUrl)}), IsOAuthError(400, "invalid_request"));
  const auto reply = exchange(acme(), subject, {holder.proof(kUrl)});
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(cnf_of(reply), Json({{"jkt", holder.jkt()}}));
  EXPECT_EQ(json_of(reply, "token_type"), "DPoP");
}

TEST(Rfc9449_6, IntrospectionNamesTheKey) {
  const DpopHolder holder;
  const std::string token = json_of(exchange({holder.proof(kUrl)})).at("access_token");
  const auto answer = json_of(acme().ask("POST", "/t/rfc9449/introspect",
                                         {{"Content-Type", "application/x-www-form-urlencoded"},
                                          {"Authorization", basic("gw-01", acme().secret)}},
                                         form({{"token", token}})));
  EXPECT_EQ(answer.at("cnf"), Json({{"jkt", holder.jkt()}}));
  EXPECT_EQ(answer.at("token_type"), "DPoP");
}

TEST(Rfc9449_6, WithoutItsKeyABoundTokenIsNoSubjectToken) {
  const DpopHolder holder, thief;
  auto claims = acme().claims("alice");
  claims["cnf"] = {{"jkt", holder.jkt()}};
  for (const auto& subject :
       {acme().idp.sign(claims),
        json_of(exchange({holder.proof(kUrl)})).at("access_token").get<std::string>()}) {
    EXPECT_THAT(exchange(acme(), subject, {}), IsOAuthError(400, "invalid_request"));
    EXPECT_THAT(exchange(acme(), subject, {thief.proof(kUrl)}),
                IsOAuthError(400, "invalid_request"));
  }
}

TEST(Rfc9449_7_2, ABoundTokenIsNoBearerToken) {
  const DpopHolder holder;
  auto claims = acme().claims("alice");
  EXPECT_THAT(acme().api("GET", "/credentials", acme().idp.sign(claims)), HasStatus(200));
  claims["cnf"] = {{"jkt", holder.jkt()}};
  const auto bound = acme().idp.sign(claims);
  const auto url = "https://sts.example.com/api/v1/tenants/rfc9449/credentials";
  for (const auto& proof : {std::string(), holder.proof(url, {{"htm", "GET"}})}) {
    const auto reply = acme().api("GET", "/credentials", bound, nullptr, {{"DPoP", proof}});
    EXPECT_THAT(reply, IsProblem(401, "unauthenticated"));
    EXPECT_THAT(reply.header("WWW-Authenticate"), HasSubstr("error=\"invalid_token\""));
  }
}

TEST(Rfc9449_6, AReleaseProvesTheKeyToo) {
  const DpopHolder holder;
  auto claims = acme().claims("alice");
  claims["cnf"] = {{"jkt", holder.jkt()}};
  const Json body{{"subject_token", acme().idp.sign(claims)}, {"items", {{{"backend", "files"}}}}};
  const auto release = [&](const Pairs& proof) {
    Pairs headers{{"Authorization", basic("gw-01", acme().secret)},
                  {"Content-Type", "application/json"}};
    headers.insert(headers.end(), proof.begin(), proof.end());
    return acme().ask("POST", "/api/v1/tenants/rfc9449/release", headers, body.dump());
  };
  EXPECT_THAT(release({}), HasStatus(422));
  EXPECT_THAT(release({{"DPoP", holder.proof(kUrl)}}), IsProblem(401, "invalid-dpop-proof"));
  EXPECT_THAT(
      release({{"DPoP", holder.proof("https://sts.example.com/api/v1/tenants/rfc9449/release")}}),
      HasStatus(200));
}

TEST(Rfc9449_5, AProofBindsEveryTokenOfABatch) {
  const DpopHolder holder;
  const Json body{{"subject_token", acme().user_token("alice")},
                  {"items", {{{"backend", "files"}}, {{"backend", "search"}}}}};
  const auto batch = [&](const std::string& proof) {
    return acme().ask("POST", "/api/v1/tenants/rfc9449/exchange",
                      {{"Authorization", basic("gw-01", acme().secret)},
                       {"Content-Type", "application/json"},
                       {"DPoP", proof}},
                      body.dump());
  };
  EXPECT_THAT(batch(holder.proof(kUrl)), IsProblem(401, "invalid-dpop-proof"));  // for another URL
  const auto proof = holder.proof("https://sts.example.com/api/v1/tenants/rfc9449/exchange");
  const auto reply = batch(proof);
  ASSERT_THAT(reply, HasStatus(200));
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(item_of(reply, i).at("token_type"), "DPoP");
    const auto claims = claims_of(item_of(reply, i).at("access_token").get<std::string>());
    EXPECT_EQ(claims.at("cnf"), Json({{"jkt", holder.jkt()}}));
  }
  EXPECT_THAT(batch(proof), IsProblem(401, "invalid-dpop-proof"));  // a second time
}

TEST(Rfc9449_5_2, ABatchAndAReleaseSayTheSameOfAMissingOrBadProof) {
  TestTenant tenant("rfc9449-batch");
  tenant.part("clients", "gw-01")["dpop_bound"] = true;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const DpopHolder holder;
  for (const auto& proof : {Pairs{}, Pairs{{"DPoP", "garbage"}}, Pairs{{"DPoP", ""}},
                            Pairs{{"DPoP", holder.proof(kUrl)}}}) {
    const auto ask = [&](const char* endpoint) {
      Pairs headers{{"Authorization", basic("gw-01", tenant.secret)}};
      headers.insert(headers.end(), proof.begin(), proof.end());
      return tenant.call_with(endpoint, Json::object(), headers);
    };
    const auto batch = ask("exchange"), release = ask("release");
    EXPECT_THAT(batch, IsProblem(401, "invalid-dpop-proof"));
    EXPECT_EQ(batch.body, release.body);
    for (const auto& reply : {batch, release}) {
      EXPECT_EQ(reply.header("WWW-Authenticate"), "DPoP error=\"invalid_dpop_proof\"");
    }
  }
}

TEST(Rfc9449_5_1, TheMetadataNamesTheAlgorithms) {
  const auto metadata =
      json_of(acme().ask("GET", "/.well-known/oauth-authorization-server/t/rfc9449"));
  EXPECT_THAT(metadata.at("dpop_signing_alg_values_supported").dump(), HasSubstr("ES256"));
}

TEST(Rfc9449_8, ANonceIsAskedForGivenAndRenewedByAnyReplica) {
  const auto required = [](app::Config& config) { config.dpop_require_nonce = true; };
  TestService one(required);
  TestService two(one.database_url(), one.key_directory(), required);
  TestTenant tenant(one, "nonces");
  const DpopHolder holder;
  const std::string url = "https://sts.example.com/t/nonces/token";
  const auto first = exchange(tenant, tenant.user_token("alice"), {holder.proof(url)});
  ASSERT_THAT(first, IsOAuthError(400, "use_dpop_nonce"));
  const auto nonce = first.header("DPoP-Nonce");
  ASSERT_NE(nonce, "(none)");
  const auto ask = [&](TestService& service, const std::string& proof) {
    return service.ask("POST", "/t/nonces/token",
                       {{"Content-Type", "application/x-www-form-urlencoded"},
                        {"Authorization", basic("gw-01", tenant.secret)},
                        {"DPoP", proof}},
                       form(tenant.exchange_fields(tenant.user_token("alice"), "files")));
  };
  for (auto* service : {&two, &one}) {
    const auto reply = ask(*service, holder.proof(url, {{"nonce", nonce}}));
    ASSERT_THAT(reply, HasStatus(200));
    EXPECT_NE(reply.header("DPoP-Nonce"), "(none)");
  }
  for (const char* bad : {"", "1.AAAAAAAAAAAAAAAAAAAAAA", "x"}) {
    const auto reply = ask(two, holder.proof(url, {{"nonce", bad}}));
    EXPECT_THAT(reply, IsOAuthError(400, "use_dpop_nonce"));
    EXPECT_NE(reply.header("DPoP-Nonce"), "(none)");
  }
  // Without a proof nothing is bound, and nothing said of nonces.
  const auto plain = exchange(tenant, tenant.user_token("alice"), {});
  EXPECT_THAT(plain, HasStatus(200));
  EXPECT_EQ(plain.header("DPoP-Nonce"), "(none)");
}

}  // namespace
}  // namespace postern::test
