// TLS at the HTTP edge, over real sockets, with certificates made on the spot.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/certificates.h"
#include "support/edge_server.h"
#include "support/raw_client.h"
#include "support/temporary_directory.h"

namespace postern::http {
namespace {

using namespace std::chrono_literals;
using test::edge_options;
using test::EdgeServer;
using test::make_certificate;
using test::RawClient;
using test::TlsClient;
using ::testing::HasSubstr;

const std::string kGet = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

struct TlsEdge : ::testing::Test {
  TlsEdge() {
    const auto made = make_certificate("first");
    certificate = directory.write("server.pem", made.certificate_pem());
    key = directory.write("server.key", made.key_pem());
  }

  ServerOptions options() {
    auto options = edge_options();
    options.tls = TlsOptions{certificate, key, std::nullopt, false};
    return options;
  }

  static std::string server_name(TlsClient& client) {
    const std::unique_ptr<X509, void (*)(X509*)> shown(SSL_get1_peer_certificate(client.ssl()),
                                                       X509_free);
    char name[100] = "";
    if (shown) {
      X509_NAME_get_text_by_NID(X509_get_subject_name(shown.get()), NID_commonName, name,
                                sizeof name);
    }
    return name;
  }

  test::TemporaryDirectory directory;
  std::filesystem::path certificate, key;
};

TEST_F(TlsEdge, ServesTls12And13AndNothingOlder) {
  EdgeServer server(options());
  TlsClient newest(server.port());
  ASSERT_TRUE(newest.secure());
  EXPECT_STREQ(SSL_get_version(newest.ssl()), "TLSv1.3");
  EXPECT_EQ(newest.get("/peer").body, "127.0.0.1 tls");
  EXPECT_EQ(newest.get("/compute/x").body, "/compute/x?");

  TlsClient older(server.port(), {}, {},
                  [](SSL_CTX* context) { SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION); });
  ASSERT_TRUE(older.secure());
  EXPECT_STREQ(SSL_get_version(older.ssl()), "TLSv1.2");
  EXPECT_THAT(SSL_get_cipher(older.ssl()), HasSubstr("ECDHE"));
  EXPECT_EQ(older.get("/").status, 200);

  TlsClient oldest(server.port(), {}, {}, [](SSL_CTX* context) {
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION);
  });
  EXPECT_FALSE(oldest.secure());
  TlsClient weak(server.port(), {}, {}, [](SSL_CTX* context) {
    SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(context, "AES128-SHA:ECDHE-ECDSA-AES128-SHA");
  });
  EXPECT_FALSE(weak.secure());
}

TEST_F(TlsEdge, OffersHttp11OnlyAndNoRenegotiationOrResumption) {
  EdgeServer server(options());
  TlsClient both(server.port(), {}, {}, [](SSL_CTX* context) {
    SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>("\x02h2\x08http/1.1"),
                            12);
  });
  ASSERT_TRUE(both.secure());
  const unsigned char* chosen = nullptr;
  unsigned int size = 0;
  SSL_get0_alpn_selected(both.ssl(), &chosen, &size);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(chosen), size), "http/1.1");
  EXPECT_EQ(both.get("/").status, 200);
  EXPECT_EQ(SSL_session_reused(both.ssl()), 0);
  EXPECT_EQ(SSL_SESSION_has_ticket(SSL_get0_session(both.ssl())), 0);

  TlsClient only_h2(server.port(), {}, {}, [](SSL_CTX* context) {
    SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>("\x02h2"), 3);
  });
  EXPECT_FALSE(only_h2.secure());

  TlsClient renegotiating(server.port(), {}, {}, [](SSL_CTX* context) {
    SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
  });
  ASSERT_TRUE(renegotiating.secure());
  SSL_renegotiate(renegotiating.ssl());
  EXPECT_NE(SSL_do_handshake(renegotiating.ssl()), 1);
}

TEST_F(TlsEdge, LargeBodiesPipeliningAndErrorsWorkAsInPlain) {
  EdgeServer server(options());
  TlsClient client(server.port());
  ASSERT_TRUE(client.secure());
  const std::string body(60'000, 'z');
  ASSERT_TRUE(
      client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + body));
  EXPECT_EQ(client.reply().body, body);
  std::string requests;
  for (int i = 0; i < 100; ++i) {
    requests += "GET " + std::string(i % 2 == 0 ? "/large" : "/compute/") + std::to_string(i) +
                " HTTP/1.1\r\nHost: x\r\n\r\n";
  }
  ASSERT_TRUE(client.send(requests));
  for (int i = 0; i < 100; ++i) {
    const auto reply = client.reply();
    EXPECT_EQ(reply.status, i % 2 == 0 ? 404 : 200) << i;
  }
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n"));
  for (int i = 0; i < 30; ++i) EXPECT_EQ(client.reply().body.size(), 100'000u);
  ASSERT_TRUE(client.send("BAD\r\n\r\n" + kGet));
  EXPECT_EQ(client.reply().status, 400);
  EXPECT_TRUE(client.at_end());
  EXPECT_NE(SSL_get_shutdown(client.ssl()) & SSL_RECEIVED_SHUTDOWN, 0) << "close_notify came";
}

TEST_F(TlsEdge, BytesMayComeOneByOne) {
  EdgeServer server(options());
  TlsClient client(server.port());
  ASSERT_TRUE(client.secure());
  for (const char byte : kGet) ASSERT_TRUE(client.send({&byte, 1}));
  EXPECT_EQ(client.reply().status, 200);
}

// P2: clients that connect and say nothing.
TEST_F(TlsEdge, SilentClientsDelayNobodyAndAreCutOff) {
  auto short_handshake = options();
  short_handshake.tls_handshake_timeout = 500ms;
  EdgeServer server(short_handshake);
  std::vector<std::unique_ptr<RawClient>> silent;
  for (int i = 0; i < 20; ++i) silent.push_back(std::make_unique<RawClient>(server.port()));
  silent[0]->send("\x16\x03\x01");  // half a record
  silent[1]->close();               // during the handshake
  silent[2]->reset();
  TlsClient client(server.port());
  ASSERT_TRUE(client.secure());
  EXPECT_EQ(client.get("/").status, 200);
  EXPECT_TRUE(silent[3]->at_end());
  EXPECT_TRUE(server.eventually([](const ServerStats& stats) {
    return stats.connections_open == 1 && stats.timeouts == 18;
  }));
  EXPECT_EQ(client.get("/").status, 200);
}

TEST_F(TlsEdge, PlainHttpAndGarbageAreRefused) {
  auto short_handshake = options();  // some garbage is the beginning of a long message
  short_handshake.tls_handshake_timeout = 500ms;
  EdgeServer server(short_handshake);
  for (const std::string& text : {kGet, std::string("\x16\x03\x01\x00\x05hello"),
                                  std::string(5000, '\0'), std::string("SSH-2.0-x\r\n")}) {
    RawClient client(server.port());
    client.send(text);
    EXPECT_EQ(client.rest().find("HTTP/1.1"), std::string::npos);
  }
  EXPECT_EQ(server->stats().requests, 0u);
  EXPECT_EQ(TlsClient(server.port()).get("/").status, 200);
}

TEST_F(TlsEdge, NeverReadingClientsHoldNoThread) {
  auto short_write = options();
  short_write.write_timeout = 500ms;
  EdgeServer server(short_write);
  std::vector<std::unique_ptr<TlsClient>> stuck;
  for (int i = 0; i < 8; ++i) {
    stuck.push_back(std::make_unique<TlsClient>(server.port()));
    for (int k = 0; k < 100; ++k) stuck.back()->send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
  }
  for (int i = 0; i < 10; ++i) EXPECT_EQ(TlsClient(server.port()).get("/").status, 200);
  EXPECT_TRUE(
      server.eventually([](const ServerStats& stats) { return stats.connections_open == 0; }));
}

TEST_F(TlsEdge, ClientCertificateReachesTheHandler) {
  auto asking = options();
  asking.tls->request_client_certificate = true;
  EdgeServer server(asking);
  const auto made = make_certificate("self-signed");
  const auto file = directory.write("client.pem", made.certificate_pem());
  const auto client_key = directory.write("client.key", made.key_pem());
  EXPECT_EQ(TlsClient(server.port(), file, client_key).get("/certificate").body,
            made.certificate_pem());
  EXPECT_EQ(TlsClient(server.port()).get("/certificate").body, "none");
}

TEST_F(TlsEdge, ClientCertificateIsVerifiedAgainstTheCa) {
  const auto authority = make_certificate("authority");
  const auto good = make_certificate("good", &authority);
  const auto bad = make_certificate("bad");
  const auto good_file = directory.write("good.pem", good.certificate_pem());
  const auto good_key = directory.write("good.key", good.key_pem());
  const auto bad_file = directory.write("bad.pem", bad.certificate_pem());
  const auto bad_key = directory.write("bad.key", bad.key_pem());
  auto requiring = options();
  requiring.tls->client_ca_file = directory.write("ca.pem", authority.certificate_pem());

  {
    EdgeServer server(requiring);
    EXPECT_EQ(TlsClient(server.port(), good_file, good_key).get("/certificate").body,
              good.certificate_pem());
    // TLS 1.3 tells the client only after its handshake is done.
    EXPECT_EQ(TlsClient(server.port(), bad_file, bad_key).get("/").status, 0);
    EXPECT_EQ(TlsClient(server.port()).get("/").status, 0);
    EXPECT_EQ(server->stats().requests, 1u);
  }
  requiring.tls->request_client_certificate = true;  // ask, do not require
  EdgeServer server(requiring);
  EXPECT_EQ(TlsClient(server.port()).get("/certificate").body, "none");
  EXPECT_EQ(TlsClient(server.port(), bad_file, bad_key).get("/").status, 0);
}

TEST_F(TlsEdge, UnverifiedClientCertificatesAreMarkedWhereTheyAreTaken) {
  const auto authority = make_certificate("authority");
  const auto good = make_certificate("good", &authority);
  const auto bad = make_certificate("bad");
  const auto namesake = make_certificate("authority");
  const auto forged = make_certificate("good", &namesake);
  test::CertificateDetails past;
  past.not_after = -1;
  const auto expired = make_certificate("good", &authority, past);
  auto taking = options();
  taking.tls->client_ca_file = directory.write("ca.pem", authority.certificate_pem());
  taking.tls->request_client_certificate = true;
  taking.tls->accept_unverified_client_certificate = true;
  EdgeServer server(taking);
  const auto shown = [&](const test::Certificate& made) {
    const auto file = directory.write("shown.pem", made.certificate_pem());
    const auto shown_key = directory.write("shown.key", made.key_pem());
    return TlsClient(server.port(), file, shown_key).get("/verified").body;
  };
  EXPECT_EQ(shown(good), "verified");
  EXPECT_EQ(shown(bad), "unverified");
  EXPECT_EQ(shown(forged), "unverified");
  EXPECT_EQ(shown(expired), "unverified");
  EXPECT_EQ(TlsClient(server.port()).get("/verified").body, "none");
  // Without a CA file nobody is there to vouch.
  taking.tls->client_ca_file.reset();
  EdgeServer open(taking);
  const auto file = directory.write("good.pem", good.certificate_pem());
  const auto good_key = directory.write("good.key", good.key_pem());
  EXPECT_EQ(TlsClient(open.port(), file, good_key).get("/verified").body, "unverified");
}

TEST_F(TlsEdge, ReloadTakesTheNewCertificateAndKeepsTheOldOnError) {
  EdgeServer server(options());
  TlsClient before(server.port());
  EXPECT_EQ(server_name(before), "first");

  const auto second = make_certificate("second");
  directory.write("server.pem", second.certificate_pem());
  EXPECT_FALSE(server->reload_tls().ok()) << "the key does not belong to it yet";
  TlsClient meanwhile(server.port());
  EXPECT_EQ(server_name(meanwhile), "first");

  directory.write("server.key", second.key_pem());
  EXPECT_TRUE(server->reload_tls().ok());
  TlsClient after(server.port());
  EXPECT_EQ(server_name(after), "second");
  EXPECT_EQ(before.get("/").status, 200) << "connections that exist go on";

  directory.write("server.pem", "not a certificate");
  const auto status = server->reload_tls();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::Unavailable);
  EXPECT_THAT(status.error().detail, HasSubstr("server.pem"));
  TlsClient still(server.port());
  EXPECT_EQ(server_name(still), "second");
}

TEST_F(TlsEdge, StartNamesTheFileItCannotUse) {
  const Router router;
  auto missing = options();
  missing.tls->key_file = directory.path() / "no.key";
  Server server(missing, router);
  const auto status = server.start();
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().detail, HasSubstr("no.key"));
}

TEST_F(TlsEdge, DrainAndHalfCloseWork) {
  EdgeServer server(options());
  TlsClient idle(server.port());
  ASSERT_EQ(idle.get("/").status, 200);
  TlsClient busy(server.port());
  ASSERT_TRUE(busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"));
  server.gate.wait_for(1);
  SSL_shutdown(busy.ssl());  // close_notify: nothing more from us
  std::thread draining([&] { server->drain(); });
  EXPECT_TRUE(idle.at_end());
  server.gate.open();
  EXPECT_EQ(busy.reply().body, "slow");
  EXPECT_TRUE(busy.at_end());
  busy.close();
  idle.close();
  draining.join();
}

}  // namespace
}  // namespace postern::http
