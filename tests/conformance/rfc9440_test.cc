// What a proxy that terminates TLS passes on (RFC 9440): the client's certificate
// in Client-Cert, from declared addresses alone. What certificates are good for is
// in rfc8705_test.cc.

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "support/mtls_fixture.h"

namespace postern::test {
namespace {

MtlsWorld& world() {
  static auto& postgres = shared_postgres();
  static_cast<void>(postgres);
  static MtlsWorld made("rfc9440");
  return made;
}

/// The same service for which our address is nobody's: another one is the proxy's.
TestService& far_side() {
  static TestService service{world().service.database_url(), world().service.key_directory(),
                             [](app::Config& config) {
                               config.proxy_addresses = {"127.0.0.2/32", "192.0.2.0/24"};
                               config.proxy_client_ca_file = world().ca;
                             }};
  return service;
}
WireReply as_stranger(const char* client, Pairs headers) {
  auto fields = world().tenant.exchange_fields(world().tenant.user_token("alice"), "files");
  if (client != nullptr) fields.emplace_back("client_id", client);
  headers.emplace_back("Content-Type", "application/x-www-form-urlencoded");
  return far_side().ask("POST", "/t/rfc9440/token", headers, form(fields));
}

TEST(Rfc9440_2_1, TheValueIsTheCertificateAsAByteSequence) {
  auto& w = world();
  const auto whole = item(w.good);
  EXPECT_THAT(w.ask("gw-01", {{"Client-Cert", whole}}), HasStatus(200));
  EXPECT_THAT(w.ask("gw-01", {{"client-cert", "  " + whole + "  "}}), HasStatus(200));
}

TEST(Rfc9440_2_1, WhatCannotBeReadIsRefused) {
  auto& w = world();
  const auto whole = item(w.good);
  auto pem = w.good.certificate_pem();
  for (auto& c : pem) {
    if (c == '\n') c = ' ';
  }
  for (const auto& bad :
       {std::string(), std::string(":"), std::string("::"), std::string("x"), whole.substr(1),
        whole.substr(0, whole.size() - 1), ":" + whole + ":", std::string(":AAAA:"),
        std::string("\"") + whole + "\"", whole.substr(1, whole.size() - 2),
        whole.substr(0, 80) + ":", ":*" + whole.substr(2), pem}) {
    EXPECT_THAT(w.ask("gw-01", {{"Client-Cert", bad}}), IsOAuthError(400, "invalid_request"))
        << bad.substr(0, 20);
  }
}

TEST(Rfc9440_2_2, Rfc9700_4_13_ADeclaredProxyPassesTheCertificateOn) {
  auto& w = world();
  const auto reply = w.ask("gw-01", {{"Client-Cert", item(w.good)}});
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(cnf_of(reply), Json({{"x5t#S256", x5t(w.good)}}));
  EXPECT_THAT(w.ask("gw-files", {{"Client-Cert", item(w.own)}}), HasStatus(200));
}

TEST(Rfc9440_2_2, ItIsTheClientsAtABatchAndAReleaseToo) {
  auto& w = world();
  for (const char* endpoint : {"exchange", "release"}) {
    const auto ask = [&](const char* client, const Pairs& headers) {
      return w.tenant.call_with(endpoint, client ? Json{{"client_id", client}} : Json::object(),
                                headers);
    };
    for (const auto& [client, own] : {std::pair{"gw-01", &w.good}, {"gw-files", &w.own}}) {
      const auto reply = ask(client, {{"Client-Cert", item(*own)}});
      ASSERT_THAT(reply, HasStatus(200)) << endpoint;
      EXPECT_EQ(item_of(reply).at("status"), "allowed");
      for (const auto* bad : {&w.forged, &w.expired, &w.other}) {
        EXPECT_THAT(ask(client, {{"Client-Cert", item(*bad)}}), IsProblem(401, "invalid-client"));
      }
      EXPECT_THAT(ask(client, {}), IsProblem(401, "invalid-client"));
    }
    EXPECT_THAT(ask("gw-files", {{"Client-Cert", item(w.good)}}), IsProblem(401, "invalid-client"));
    EXPECT_THAT(ask(nullptr, {{"Client-Cert", item(w.good)}}), IsProblem(401, "invalid-client"));
    const auto body = Json{{"client_id", "gw-01"},
                           {"subject_token", w.tenant.user_token("alice")},
                           {"items", {{{"backend", "files"}}}}};
    EXPECT_THAT(
        far_side().ask("POST", std::string("/api/v1/tenants/rfc9440/") + endpoint,
                       {{"Content-Type", "application/json"}, {"Client-Cert", item(w.good)}},
                       body.dump()),
        IsProblem(401, "invalid-client"))
        << "from who is no proxy";
  }
  const auto batch =
      w.tenant.call_with("exchange", {{"client_id", "gw-01"}}, {{"Client-Cert", item(w.good)}});
  EXPECT_EQ(claims_of(item_of(batch).at("access_token").get<std::string>()).at("cnf"),
            Json({{"x5t#S256", x5t(w.good)}}));
}

TEST(Rfc9440_2_2, WhatItPassesOnIsJudgedAsAnyCertificate) {
  auto& w = world();
  for (const auto* bad : {&w.forged, &w.expired, &w.other, &w.own}) {
    EXPECT_THAT(w.ask("gw-01", {{"Client-Cert", item(*bad)}}), IsOAuthError(401, "invalid_client"));
  }
  EXPECT_THAT(w.ask("gw-01", {}), IsOAuthError(401, "invalid_client")) << "the proxy is no client";
}

TEST(Rfc9440_2_2, ThereIsOneCertificate) {
  auto& w = world();
  const auto good = item(w.good);
  for (const auto& second : {good, item(w.own), std::string()}) {
    EXPECT_THAT(w.ask("gw-01", {{"Client-Cert", good}, {"Client-Cert", second}}),
                IsOAuthError(400, "invalid_request"));
    EXPECT_THAT(w.ask("gw-01", {{"Client-Cert", second}, {"client-cert", good}}),
                IsOAuthError(400, "invalid_request"));
  }
  EXPECT_THAT(w.ask("gw-01", {{"Client-Cert", good + ", " + good}}),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc9440_2_3, TheChainLeadsToTheAuthority) {
  auto& w = world();
  CertificateDetails details;
  details.authority = true;
  const auto middle = make_certificate("middle", &w.authority, details);
  const auto leaf = make_certificate("gw-01", &middle, of_example(3600));
  const auto ask = [&](Pairs chain) {
    chain.emplace_back("Client-Cert", item(leaf));
    return w.ask("gw-01", chain);
  };
  EXPECT_THAT(ask({}), IsOAuthError(401, "invalid_client")) << "nothing leads there";
  EXPECT_THAT(ask({{"Client-Cert-Chain", item(middle)}}), HasStatus(200));
  EXPECT_THAT(ask({{"Client-Cert-Chain", item(w.other) + ", " + item(middle)}}), HasStatus(200));
  // A list may come in several lines.
  EXPECT_THAT(ask({{"Client-Cert-Chain", item(w.other)}, {"Client-Cert-Chain", item(middle)}}),
              HasStatus(200));
}

TEST(Rfc9440_2_3, WhatIsSentAlongIsNoAuthority) {
  auto& w = world();
  EXPECT_THAT(
      w.ask("gw-01", {{"Client-Cert", item(w.forged)}, {"Client-Cert-Chain", item(w.forged)}}),
      IsOAuthError(401, "invalid_client"));
  // Nor a certificate: without Client-Cert there is none.
  EXPECT_THAT(w.ask("gw-01", {{"Client-Cert-Chain", item(w.good)}}),
              IsOAuthError(401, "invalid_client"));
  for (const std::string bad : {"x", ":AAAA:", ","}) {
    EXPECT_THAT(w.ask("gw-01", {{"Client-Cert", item(w.good)}, {"Client-Cert-Chain", bad}}),
                IsOAuthError(400, "invalid_request"))
        << bad;
  }
}

TEST(Rfc9440_2_4, Rfc9700_4_13_ClientCertIsIgnoredFromWhoIsNoProxy) {
  auto& w = world();
  EXPECT_THAT(w.over_tls("gw-01", nullptr, {{"Client-Cert", item(w.good)}}),
              IsOAuthError(401, "invalid_client"));
  // Not even beside a certificate of one's own.
  EXPECT_THAT(w.over_tls("gw-01", &w.own, {{"Client-Cert", item(w.good)}}),
              IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(as_stranger("gw-01", {{"Client-Cert", item(w.good)}}),
              IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(as_stranger("gw-files", {{"Client-Cert", item(w.own)}}),
              IsOAuthError(401, "invalid_client"));
}

TEST(Rfc9440_2_4, Rfc9700_4_13_NoHeaderMakesAStrangerAProxy) {
  for (const char* header : {"X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"}) {
    EXPECT_THAT(as_stranger("gw-01", {{header, "127.0.0.2"}, {"Client-Cert", item(world().good)}}),
                IsOAuthError(401, "invalid_client"))
        << header;
  }
}

TEST(Rfc9440_2_4, AStrangersClientCertNeitherBindsNorBreaksAnything) {
  auto manifest = world().tenant.manifest;
  const std::string secret = "a-secret-of-gw-secret-with-enough-characters";
  manifest["clients"].push_back({{"id", "gw-secret"},
                                 {"secret", secret},
                                 {"backends", {"*"}},
                                 {"scopes", {"*"}},
                                 {"audiences", {"gw-01"}}});
  const auto apply = [&] {
    return far_side().as_operator("PUT", "/api/v1/tenants/rfc9440/manifest", manifest);
  };
  const auto ask = [&](const std::string& sent) {
    return as_stranger(nullptr,
                       {{"Client-Cert", sent}, {"Authorization", basic("gw-secret", secret)}});
  };
  ASSERT_THAT(apply(), HasStatus(200));
  for (const auto& sent : {item(world().good), std::string(":AAAA:"), std::string("x")}) {
    const auto reply = ask(sent);
    ASSERT_THAT(reply, HasStatus(200)) << sent.substr(0, 20);
    EXPECT_EQ(cnf_of(reply), Json());
  }
  // A client whose tokens must be bound gets none for what a stranger claims.
  manifest["clients"].back()["certificate_bound"] = true;
  ASSERT_THAT(apply(), HasStatus(200));
  EXPECT_EQ(ask(item(world().good)).status / 100, 4);
}

}  // namespace
}  // namespace postern::test
