// Who a certificate makes its holder (RFC 8705 §2). How one reaches us, over TLS or
// from a proxy, is in conformance/rfc8705_test.cc.

#include "grants/client_certificate.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "support/certificates.h"
#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using test::code_of;
using test::GrantsFixture;
using test::make_certificate;
using test::must;
using token::Json;

struct Certified : GrantsFixture {
  Certified() { clock.set(SystemClock().now()); }  // by which certificates are made

  void authenticates_by(const Json& rule) {
    client()["authentication"] = rule;
    load();
  }
  static ShownCertificate shown(const test::Certificate& made, bool vouched_for = true) {
    return {must(crypto::Certificate::from_pem(made.certificate_pem())), vouched_for};
  }
  std::optional<ErrorCode> present(const ShownCertificate& certificate, const char* id = "gw-01") {
    const auto who =
        authenticate_by_certificate(*snapshot, snapshot->find_client(id), certificate, clock.now());
    EXPECT_TRUE(!who.ok() || who.value()->id.str() == id);
    return code_of(who);
  }
};

Json by_name(const char* kind, const std::string& value) {
  return {{"method", "tls_client_auth"}, {"tls_subject", {{kind, value}}}};
}
Json by_thumbprint(const test::Certificate& made) {
  return {{"method", "self_signed_tls_client_auth"}, {"certificate_sha256", {test::x5t(made)}}};
}

TEST(ClientCertificate, Rfc8705_2_1_2_IsOfTheOneNameThatIsRegistered) {
  Certified f;
  const auto authority = make_certificate("authority");
  test::CertificateDetails details;
  details.subject = {{"O", "Example"}};
  details.alternative_names =
      "DNS:gw.example.com,URI:spiffe://example.com/gw,IP:192.0.2.7,email:gw@example.com";
  const auto good = f.shown(make_certificate("gw-01", &authority, details));
  const auto plain = f.shown(make_certificate("gw-01", &authority));
  const std::pair<const char*, std::pair<const char*, const char*>> names[] = {
      {"dn", {"CN=gw-01,O=Example", "CN=gw-01,O=Other"}},
      {"dns", {"gw.example.com", "gw2.example.com"}},
      {"uri", {"spiffe://example.com/gw", "spiffe://example.com/gw2"}},
      {"ip", {"192.0.2.7", "192.0.2.8"}},
      {"email", {"gw@example.com", "gw2@example.com"}}};
  for (const auto& [kind, values] : names) {
    f.authenticates_by(by_name(kind, values.first));
    EXPECT_EQ(f.present(good), std::nullopt) << kind;
    EXPECT_EQ(f.present(plain), ErrorCode::InvalidClient) << kind;
    f.authenticates_by(by_name(kind, values.second));
    EXPECT_EQ(f.present(good), ErrorCode::InvalidClient) << kind;
  }
}

TEST(ClientCertificate, Rfc8705_2_1_ANameCountsOnlyWhenAnAuthorityVouchesForIt) {
  Certified f;
  f.authenticates_by(by_name("dn", "CN=gw-01"));
  const auto made = make_certificate("gw-01");
  EXPECT_EQ(f.present(f.shown(made)), std::nullopt);
  EXPECT_EQ(f.present(f.shown(made, false)), ErrorCode::InvalidClient);
}

TEST(ClientCertificate, Rfc8705_2_2_ASelfSignedOneIsOneOfTheRegistered) {
  Certified f;
  const auto own = make_certificate("gw-01"), namesake = make_certificate("gw-01");
  f.authenticates_by(by_thumbprint(own));
  EXPECT_EQ(f.present(f.shown(own, false)), std::nullopt);
  EXPECT_EQ(f.present(f.shown(namesake, false)), ErrorCode::InvalidClient);
  EXPECT_EQ(f.present(f.shown(namesake)), ErrorCode::InvalidClient);
}

TEST(ClientCertificate, CountsWhileItIsValidAndClientAndTenantAreEnabled) {
  Certified f;
  const auto own = make_certificate("gw-01");
  f.authenticates_by(by_thumbprint(own));
  ASSERT_EQ(f.present(f.shown(own)), std::nullopt);
  EXPECT_EQ(f.present(f.shown(own), "gw-02"), ErrorCode::InvalidClient);  // there is none
  test::CertificateDetails ended;
  ended.not_before = -120;
  ended.not_after = -60;
  const auto old = make_certificate("gw-01", nullptr, ended);
  f.authenticates_by(by_thumbprint(old));
  EXPECT_EQ(f.present(f.shown(old)), ErrorCode::InvalidClient);

  f.client()["enabled"] = false;
  f.authenticates_by(by_thumbprint(own));
  EXPECT_EQ(f.present(f.shown(own)), ErrorCode::InvalidClient);
  f.client()["enabled"] = true;
  f.manifest["enabled"] = false;
  f.load();
  EXPECT_EQ(f.present(f.shown(own)), ErrorCode::InvalidClient);
}

TEST(ClientCertificate, IsNothingToAClientThatAuthenticatesInAnotherWay) {
  Certified f;
  const auto shown = f.shown(make_certificate("gw-01"));
  EXPECT_EQ(f.present(shown), ErrorCode::InvalidClient);  // by secret
  f.authenticates_by({{"method", "private_key_jwt"}, {"jwks", f.idp.jwks()}});
  EXPECT_EQ(f.present(shown), ErrorCode::InvalidClient);
}

}  // namespace
}  // namespace postern::grants
