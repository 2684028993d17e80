#pragma once

// Clients that show certificates (RFC 8705): over TLS, and through a declared
// proxy that passes them on (RFC 9440).

#include <string>

#include "core/bytes.h"
#include "crypto/base64url.h"
#include "support/certificates.h"
#include "support/service_fixture.h"
#include "support/temporary_directory.h"

namespace postern::test {

/// RFC 9440 §2.1.
inline std::string item(const Certificate& made) {
  return ":" + crypto::base64(as_bytes(der_of(made))) + ":";
}

inline CertificateDetails of_example(long not_after) {
  CertificateDetails details;
  details.subject = {{"O", "Example"}};
  details.not_after = not_after;
  return details;
}

/// An authority, certificates of it and of nobody, a tenant whose gw-01
/// authenticates by DN and whose gw-files shows a certificate of its own.
struct MtlsWorld {
  explicit MtlsWorld(const std::string& called) : tenant(service, called) {
    tenant.part("clients", "gw-01")["authentication"] = {
        {"method", "tls_client_auth"}, {"tls_subject", {{"dn", "CN=gw-01,O=Example"}}}};
    tenant.part("clients", "gw-01")["certificate_bound"] = true;
    tenant.part("clients", "gw-files")["authentication"] = {
        {"method", "self_signed_tls_client_auth"}, {"certificate_sha256", {x5t(own)}}};
    EXPECT_EQ(tenant.apply().status, 200);
  }

  /// Through the proxy; without `client_id` when `client` is null.
  WireReply ask(const char* client, const Pairs& headers, const std::string& subject = {}) {
    auto fields =
        tenant.exchange_fields(subject.empty() ? tenant.user_token("alice") : subject, "files");
    if (client != nullptr) fields.emplace_back("client_id", client);
    Pairs all{{"Content-Type", "application/x-www-form-urlencoded"}};
    all.insert(all.end(), headers.begin(), headers.end());
    return tenant.ask("POST", "/t/" + tenant.name + "/token", all, form(fields));
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
    std::string request = "POST /t/" + tenant.name +
                          "/token HTTP/1.1\r\nHost: x\r\nContent-Type: "
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

/// What the token of an answer is bound to; null when it is not.
inline Json cnf_of(const WireReply& reply) {
  return claims_of(json_of(reply, "access_token").get<std::string>()).value("cnf", Json());
}

}  // namespace postern::test
