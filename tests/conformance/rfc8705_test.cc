// Mutual TLS (RFC 8705): certificates as client authentication and as what
// tokens are bound to. What a proxy passes on (RFC 9440) is in rfc9440_test.cc.

#include <gtest/gtest.h>

#include <string>

#include "support/mtls_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

MtlsWorld& world() {
  static auto& postgres = shared_postgres();
  static_cast<void>(postgres);
  static MtlsWorld made("rfc8705");
  return made;
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

TEST(Rfc8705_3, ABoundTokenIsNothingWithoutItsCertificate) {
  auto& w = world();
  auto claims = w.tenant.claims("alice");
  EXPECT_THAT(w.tenant.api("GET", "/credentials", w.tenant.idp.sign(claims)), HasStatus(200));
  claims["cnf"] = {{"x5t#S256", x5t(w.own)}};
  const auto bound = w.tenant.idp.sign(claims);
  for (const auto* shown : {&w.good, &w.other}) {
    EXPECT_EQ(w.ask("gw-01", {{"Client-Cert", item(*shown)}}, bound).status / 100, 4);
    const auto reply =
        w.tenant.api("GET", "/credentials", bound, nullptr, {{"Client-Cert", item(*shown)}});
    EXPECT_THAT(reply, IsProblem(401, "unauthenticated"));
    EXPECT_THAT(reply.header("WWW-Authenticate"), HasSubstr("error=\"invalid_token\""));
  }
}

TEST(Rfc8705_3_4, AClientRegisteredForBoundTokensGetsNoOthers) {
  auto& w = world();
  EXPECT_EQ(cnf_of(w.over_tls("gw-01", &w.good)), Json({{"x5t#S256", x5t(w.good)}}));
  EXPECT_THAT(w.ask("gw-01", {}), IsOAuthError(401, "invalid_client"));
}

TEST(Rfc8705_5, NoAliasesOfTheEndpointsAreNamed) {
  auto& w = world();
  const auto metadata =
      json_of(w.tenant.ask("GET", "/.well-known/oauth-authorization-server/t/rfc8705"));
  EXPECT_FALSE(metadata.contains("mtls_endpoint_aliases"));
  // The endpoint that is named takes certificates and secrets alike.
  EXPECT_EQ(metadata.at("token_endpoint"), "https://sts.example.com/t/rfc8705/token");
  EXPECT_THAT(w.over_tls("gw-01", &w.good), HasStatus(200));
  EXPECT_THAT(w.tenant.ask("POST", "/t/rfc8705/mtls/token"), HasStatus(404));
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
