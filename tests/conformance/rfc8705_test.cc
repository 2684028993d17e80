// Mutual TLS (RFC 8705): certificates as client authentication and as what
// tokens are bound to, over TLS and through a declared proxy (RFC 9440).

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "crypto/base64url.h"
#include "crypto/certificate.h"
#include "support/certificates.h"
#include "support/service_fixture.h"
#include "support/temporary_directory.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

/// RFC 9440 §2.1.
std::string item(const Certificate& made) {
  return ":" + crypto::base64(as_bytes(der_of(made))) + ":";
}
CertificateDetails of_example(long not_after) {
  CertificateDetails details;
  details.subject = {{"O", "Example"}};
  details.not_after = not_after;
  return details;
}

/// An authority, certificates of it and of nobody, a tenant whose gw-01
/// authenticates by DN and whose gw-files shows a certificate of its own.
struct World {
  World() : tenant(service, "rfc8705") {
    tenant.part("clients", "gw-01")["authentication"] = {
        {"method", "tls_client_auth"}, {"tls_subject", {{"dn", "CN=gw-01,O=Example"}}}};
    tenant.part("clients", "gw-01")["certificate_bound"] = true;
    tenant.part("clients", "gw-files")["authentication"] = {
        {"method", "self_signed_tls_client_auth"}, {"certificate_sha256", {x5t(own)}}};
    EXPECT_EQ(tenant.apply().status, 200);
  }

  WireReply ask(const char* client, const Pairs& headers, const std::string& subject = {}) {
    auto fields =
        tenant.exchange_fields(subject.empty() ? tenant.user_token("alice") : subject, "files");
    if (client != nullptr) fields.emplace_back("client_id", client);
    Pairs all{{"Content-Type", "application/x-www-form-urlencoded"}};
    all.insert(all.end(), headers.begin(), headers.end());
    return tenant.ask("POST", "/t/rfc8705/token", all, form(fields));
  }
  WireReply over_tls(const char* client, const Certificate* shown, const Pairs& headers = {}) {
    auto fields = tenant.exchange_fields(tenant.user_token("alice"), "files");
    fields.emplace_back("client_id", client);
    const auto body = form(fields);
    std::string certificate, key;
    if (shown != nullptr) {
      certificate = directory.write("shown.pem", shown->certificate_pem()).string();
      key = directory.write("shown.key", shown->key_pem()).string();
    }
    TlsClient tls(direct.port(), certificate, key);
    std::string request =
        "POST /t/rfc8705/token HTTP/1.1\r\nHost: x\r\nContent-Type: "
        "application/x-www-form-urlencoded\r\nContent-Length: " +
        std::to_string(body.size()) + "\r\n";
    for (const auto& [name, value] : headers) request += name + ": " + value + "\r\n";
    tls.send(request + "\r\n" + body);
    return tls.reply();
  }

  TemporaryDirectory directory;
  const Certificate authority = make_certificate("authority");
  const Certificate good = make_certificate("gw-01", &authority, of_example(3600));
  const Certificate other = make_certificate("gw-02", &authority, of_example(3600));
  const Certificate expired = make_certificate("gw-01", &authority, of_example(-1));
  const Certificate forged = make_certificate("gw-01", nullptr, of_example(3600));
  const Certificate own = make_certificate("own");
  const std::string ca = directory.write("ca.pem", authority.certificate_pem()).string();
  TestService service{[this](app::Config& config) {
    config.proxy_addresses = {"127.0.0.1/32"};
    config.proxy_client_ca_file = ca;
  }};
  TestService direct{service.database_url(), service.key_directory(), [this](app::Config& config) {
                       const auto server = make_certificate("server");
                       http::TlsOptions tls;
                       tls.certificate_file =
                           directory.write("server.pem", server.certificate_pem());
                       tls.key_file = directory.write("server.key", server.key_pem());
                       tls.client_ca_file = ca;
                       tls.request_client_certificate = true;
                       tls.accept_unverified_client_certificate = true;
                       config.listen.tls = tls;
                     }};
  TestTenant tenant;
};

World& world() {
  static auto& postgres = shared_postgres();
  static_cast<void>(postgres);
  static World made;
  return made;
}
Json cnf_of(const WireReply& reply) {
  return claims_of(json_of(reply, "access_token").get<std::string>()).value("cnf", Json());
}

TEST(Rfc8705_2_1, AVouchedForCertificateWithTheRegisteredNameIsTheClient) {
  auto& w = world();
  const auto reply = w.over_tls("gw-01", &w.good);
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(claims_of(json_of(reply, "access_token").get<std::string>()).at("client_id"), "gw-01");
  EXPECT_EQ(cnf_of(reply), Json({{"x5t#S256", x5t(w.good)}}));
  EXPECT_EQ(json_of(reply, "token_type"), "Bearer");
}

TEST(Rfc8705_2_1, NoOtherCertificateIs) {
  auto& w = world();
  EXPECT_THAT(w.over_tls("gw-01", nullptr), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(w.over_tls("gw-01", &w.other), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(w.over_tls("gw-01", &w.forged), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(w.over_tls("gw-01", &w.expired), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(w.over_tls("gw-01", &w.own), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(w.over_tls("gw-files", &w.good), IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(w.over_tls("nobody", &w.good), IsOAuthError(401, "invalid_client"));
}

TEST(Rfc8705_2_2, ASelfSignedCertificateIsTheClientWhenItIsRegistered) {
  auto& w = world();
  const auto reply = w.over_tls("gw-files", &w.own);
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(cnf_of(reply), Json()) << "this client does not ask for bound tokens";
  EXPECT_THAT(w.over_tls("gw-files", &w.forged), IsOAuthError(401, "invalid_client"));
}

TEST(Rfc9440_2_4, ClientCertIsIgnoredFromWhoIsNoProxy) {
  auto& w = world();
  EXPECT_THAT(w.over_tls("gw-01", nullptr, {{"Client-Cert", item(w.good)}}),
              IsOAuthError(401, "invalid_client"));
  // Not even beside a certificate of one's own.
  EXPECT_THAT(w.over_tls("gw-01", &w.own, {{"Client-Cert", item(w.good)}}),
              IsOAuthError(401, "invalid_client"));
}

TEST(Rfc9440_2_1, ADeclaredProxyPassesTheCertificateOn) {
  auto& w = world();
  const auto reply = w.ask("gw-01", {{"Client-Cert", item(w.good)}});
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(cnf_of(reply), Json({{"x5t#S256", x5t(w.good)}}));
  EXPECT_THAT(w.ask("gw-files", {{"Client-Cert", item(w.own)}}), HasStatus(200));
  EXPECT_THAT(w.ask("gw-01", {{"Client-Cert", item(w.forged)}}),
              IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(w.ask("gw-01", {{"Client-Cert", item(w.expired)}}),
              IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(w.ask("gw-01", {}), IsOAuthError(401, "invalid_client"));
}

TEST(Rfc9440_2_1, WhatCannotBeReadIsRefused) {
  auto& w = world();
  const auto whole = item(w.good);
  for (const auto& bad : {std::string(":"), std::string("::"), std::string("x"), whole.substr(1),
                          whole.substr(0, whole.size() - 1), whole + ", " + whole,
                          ":" + whole + ":", std::string(":AAAA:")}) {
    EXPECT_THAT(w.ask("gw-01", {{"Client-Cert", bad}}), IsOAuthError(400, "invalid_request"))
        << bad.substr(0, 20);
  }
  EXPECT_THAT(w.ask("gw-01", {{"Client-Cert", whole}, {"Client-Cert", whole}}),
              IsOAuthError(400, "invalid_request"));
}

TEST(Rfc9440_2_2, TheChainLeadsToTheAuthority) {
  auto& w = world();
  EXPECT_THAT(w.ask("gw-01", {{"Client-Cert", item(w.good)},
                              {"Client-Cert-Chain", item(w.other) + ", " + item(w.authority)}}),
              HasStatus(200));
  EXPECT_THAT(
      w.ask("gw-01", {{"Client-Cert", item(w.forged)}, {"Client-Cert-Chain", item(w.forged)}}),
      IsOAuthError(401, "invalid_client"))
      << "what is sent along is no authority";
}

TEST(Rfc8705_2, ClientIdIsRequired) {
  auto& w = world();
  EXPECT_THAT(w.ask(nullptr, {{"Client-Cert", item(w.good)}}), IsOAuthError(401, "invalid_client"));
}

TEST(Rfc8705_3, X5_ABoundSubjectTokenNeedsItsCertificateAndStaysBound) {
  auto& w = world();
  auto claims = w.tenant.claims("alice");
  claims["cnf"] = {{"x5t#S256", x5t(w.own)}};
  const auto subject = w.tenant.idp.sign(claims);
  EXPECT_THAT(w.ask("gw-01", {{"Client-Cert", item(w.good)}}, subject),
              IsOAuthError(400, "invalid_request"));
  const auto reply = w.ask("gw-files", {{"Client-Cert", item(w.own)}}, subject);
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(cnf_of(reply), Json({{"x5t#S256", x5t(w.own)}}));
}

TEST(Rfc8705_3_3, TheMetadataSaysSoOnlyWhereSomeClientUsesIt) {
  auto& w = world();
  const auto metadata =
      json_of(w.tenant.ask("GET", "/.well-known/oauth-authorization-server/t/rfc8705"));
  EXPECT_EQ(metadata.at("tls_client_certificate_bound_access_tokens"), true);
  const auto methods = metadata.at("token_endpoint_auth_methods_supported").dump();
  EXPECT_THAT(methods, HasSubstr("\"tls_client_auth\""));
  EXPECT_THAT(methods, HasSubstr("\"self_signed_tls_client_auth\""));
  TestTenant plain(w.service, "rfc8705-plain");
  const auto other =
      json_of(plain.ask("GET", "/.well-known/oauth-authorization-server/t/rfc8705-plain"));
  EXPECT_FALSE(other.contains("tls_client_certificate_bound_access_tokens"));
  EXPECT_THAT(other.at("token_endpoint_auth_methods_supported").dump(), Not(HasSubstr("tls")));
}

}  // namespace
}  // namespace postern::test
