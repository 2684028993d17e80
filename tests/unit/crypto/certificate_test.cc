#include "crypto/certificate.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "support/certificates.h"
#include "support/code_of.h"
#include "support/temporary_directory.h"

namespace postern::crypto {
namespace {

using namespace std::chrono_literals;
using test::CertificateDetails;
using test::code_of;
using test::make_certificate;

Certificate parsed(const test::Certificate& made) {
  return Certificate::from_pem(made.certificate_pem()).value();
}
bool named(const Certificate& certificate, std::string_view dn) {
  return certificate.has_subject(DistinguishedName::parse(dn).value());
}

TEST(Certificate, ReadsPemAndDerAndNothingElse) {
  const auto made = make_certificate("gw-01");
  const auto pem = made.certificate_pem();
  const auto certificate = Certificate::from_pem(pem);
  ASSERT_TRUE(certificate.ok());
  unsigned char* der = nullptr;
  const int size = i2d_X509(made.certificate.get(), &der);
  ASSERT_GT(size, 0);
  Bytes bytes(reinterpret_cast<std::byte*>(der), reinterpret_cast<std::byte*>(der) + size);
  OPENSSL_free(der);
  EXPECT_EQ(Certificate::from_der(bytes).value().sha256(), certificate.value().sha256());
  EXPECT_EQ(certificate.value().sha256(), sha256(bytes));
  auto longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_EQ(code_of(Certificate::from_der(longer)), ErrorCode::MalformedRequest);
  bytes.resize(bytes.size() - 1);
  EXPECT_EQ(code_of(Certificate::from_der(bytes)), ErrorCode::MalformedRequest);
  EXPECT_EQ(code_of(Certificate::from_der({})), ErrorCode::MalformedRequest);
  EXPECT_EQ(code_of(Certificate::from_der(Bytes(20'000))), ErrorCode::MalformedRequest);
  EXPECT_EQ(code_of(Certificate::from_pem("")), ErrorCode::MalformedRequest);
  EXPECT_EQ(code_of(Certificate::from_pem(made.key_pem())), ErrorCode::MalformedRequest);
}

TEST(Certificate, Rfc4514_TheMostSpecificPartComesFirst) {
  CertificateDetails details;
  details.subject = {{"C", "DE"}, {"O", "Example, Inc."}, {"OU", "agents"}};
  const auto certificate = parsed(make_certificate("gw-01", nullptr, details));
  for (const char* same :
       {"CN=gw-01,OU=agents,O=Example\\, Inc.,C=DE", "cn=GW-01, ou=Agents ,O=example\\2C inc.,c=de",
        "2.5.4.3=gw-01,OU=agents,O=Example\\,  Inc.,C=DE"}) {
    EXPECT_TRUE(named(certificate, same)) << same;
  }
  for (const char* other :
       {"C=DE,O=Example\\, Inc.,OU=agents,CN=gw-01", "CN=gw-01", "CN=gw-01,OU=agents,C=DE",
        "CN=gw-02,OU=agents,O=Example\\, Inc.,C=DE", "CN=gw-01+OU=agents,O=Example\\, Inc.,C=DE",
        "CN=gw-01,OU=agents,O=Example\\, Inc.,C=DE,DC=x",
        "OU=gw-01,OU=agents,O=Example\\, Inc.,C=DE",
        "CN=gw-01 x,OU=agents,O=Example\\, Inc.,C=DE"}) {
    EXPECT_FALSE(named(certificate, other)) << other;
  }
}

TEST(DistinguishedName, RefusesWhatIsNone) {
  for (const char* bad : {"", "gw-01", "CN", "CN=", "=x", "CN=a,", ",CN=a", "CN=a,,O=b", "CN=a;O=b",
                          "CN=#0401", "nosuchtype=x", "CN=a\\", "CN=a\\zz", "CN=\"a\"", "C=DEU",
                          "CN=a+", "CN=<a>", "CN=\\ff\\fe"}) {
    EXPECT_EQ(code_of(DistinguishedName::parse(bad)), ErrorCode::MalformedRequest) << bad;
  }
  EXPECT_EQ(code_of(DistinguishedName::parse("CN=" + std::string(2000, 'a'))),
            ErrorCode::MalformedRequest);
}

TEST(Certificate, AlternativeNamesAreComparedWholeAndByKind) {
  CertificateDetails details;
  details.alternative_names =
      "DNS:gw.example.com,DNS:*.wild.example.com,URI:spiffe://example.org/gw,"
      "email:gw@example.com,IP:192.0.2.7,IP:2001:db8::7";
  const auto certificate = parsed(make_certificate("cn.example.com", nullptr, details));
  EXPECT_TRUE(certificate.has_dns("gw.example.com"));
  EXPECT_TRUE(certificate.has_dns("GW.Example.COM"));
  EXPECT_TRUE(certificate.has_uri("spiffe://example.org/gw"));
  EXPECT_TRUE(certificate.has_email("gw@example.com"));
  EXPECT_TRUE(certificate.has_ip("192.0.2.7"));
  EXPECT_TRUE(certificate.has_ip("2001:db8::7"));
  EXPECT_TRUE(certificate.has_ip("2001:0db8:0:0:0:0:0:7"));

  EXPECT_FALSE(certificate.has_dns("cn.example.com")) << "the CN is no alternative name";
  EXPECT_FALSE(certificate.has_dns("a.wild.example.com")) << "no wildcards";
  EXPECT_FALSE(certificate.has_dns("gw.example.com."));
  EXPECT_FALSE(certificate.has_dns("gw.example.co"));
  EXPECT_FALSE(certificate.has_dns(""));
  EXPECT_FALSE(certificate.has_uri("gw.example.com"));
  EXPECT_FALSE(certificate.has_uri("spiffe://example.org/gw/admin"));
  EXPECT_FALSE(certificate.has_email("GW@example.com"));
  EXPECT_FALSE(certificate.has_ip("192.0.2.8"));
  EXPECT_FALSE(certificate.has_ip("::ffff:192.0.2.7"));
  EXPECT_FALSE(certificate.has_ip("gw.example.com"));
  EXPECT_FALSE(parsed(make_certificate("x")).has_dns("x"));
}

TEST(Certificate, AuthoritiesVouchForWhatTheySignedWhileItIsValid) {
  test::TemporaryDirectory directory;
  const auto authority = make_certificate("authority");
  const auto file = directory.write("ca.pem", authority.certificate_pem());
  const auto authorities = CertificateAuthorities::load(file.string());
  ASSERT_TRUE(authorities.ok());
  const auto vouched = [&](const test::Certificate& made, std::chrono::seconds later = 0s) {
    return authorities.value().vouch_for(parsed(made), {}, SystemClock().now() + later);
  };
  const auto good = make_certificate("good", &authority);
  EXPECT_TRUE(vouched(good));
  EXPECT_FALSE(vouched(good, 3700s)) << "expired";
  EXPECT_FALSE(vouched(good, -120s)) << "not valid yet";
  EXPECT_FALSE(vouched(make_certificate("self-signed")));
  const auto namesake = make_certificate("authority");
  EXPECT_FALSE(vouched(make_certificate("bad", &namesake))) << "another key of the same name";
  EXPECT_FALSE(vouched(make_certificate("bad", &good))) << "signed by what is no authority";
  CertificateDetails server;
  server.extended_key_usage = "serverAuth";
  EXPECT_FALSE(vouched(make_certificate("server", &authority, server)));
  CertificateDetails both;
  both.extended_key_usage = "serverAuth,clientAuth";
  EXPECT_TRUE(vouched(make_certificate("both", &authority, both)));
  EXPECT_EQ(code_of(CertificateAuthorities::load("/nonexistent")), ErrorCode::Unavailable);

  EXPECT_TRUE(parsed(good).valid_at(SystemClock().now()));
  EXPECT_FALSE(parsed(good).valid_at(SystemClock().now() + 3700s));
  EXPECT_FALSE(parsed(good).valid_at(SystemClock().now() - 120s));
}

}  // namespace
}  // namespace postern::crypto
