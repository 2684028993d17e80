#include "outbound/fetch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "unit/outbound/local_server.h"

namespace postern::outbound {
namespace {

using namespace std::chrono_literals;

FetchPolicy loopback_policy() {
  FetchPolicy policy;
  policy.allow_insecure_loopback = true;
  return policy;
}

IpAddress ip(std::string_view text) { return *IpAddress::parse(text); }

std::string with_length(const std::string& headers, const std::string& body) {
  return "HTTP/1.1 200 OK\r\n" + headers + "Content-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

/// The diagnostic of a failure, after checking what every failure has in common.
std::string failure(const Result<FetchReply>& reply) {
  if (reply.ok()) return "(fetched)";
  EXPECT_EQ(reply.error().code, ErrorCode::Unavailable);
  EXPECT_EQ(reply.error().detail, "an outside service could not be reached");
  EXPECT_EQ(reply.error().diagnostic.find("://"), std::string::npos);
  EXPECT_EQ(reply.error().diagnostic.find("canary"), std::string::npos);
  return reply.error().diagnostic;
}

std::string get_failure(const std::string& url, FetchPolicy policy = loopback_policy(),
                        Resolver resolver = resolve_with_system) {
  CurlFetcher fetcher(std::move(policy), std::move(resolver));
  FetchRequest request;
  request.url = url;
  return failure(fetcher.get(request));
}

Result<FetchReply> get(const std::string& url, FetchPolicy policy = loopback_policy()) {
  CurlFetcher fetcher(std::move(policy));
  FetchRequest request;
  request.url = url;
  return fetcher.get(request);
}

std::string url_refusal(std::string_view url, const FetchPolicy& policy = {}) {
  const auto status = check_url(policy, url);
  if (status.ok()) return "(accepted)";
  EXPECT_EQ(status.error().code, ErrorCode::MalformedRequest);
  return status.error().detail;
}

// ---- what a URL may look like ----------------------------------------------

TEST(CheckUrl, AcceptsHttpsToNamesAndPublicAddresses) {
  for (const std::string_view url :
       {"https://idp.example", "https://idp.example/", "https://idp.example/jwks?x=1&y=%20",
        "HTTPS://IDP.Example/jwks", "https://idp.example:8443/jwks", "https://idp.example:443",
        "https://a-b.c1.example/", "https://xn--bcher-kva.example/", "https://intranet/jwks",
        "https://8.8.8.8/", "https://8.8.8.8:8443/", "https://[2606:4700:4700::1111]/",
        "https://[2606:4700:4700::1111]:8443/", "https://idp.example?x", "https://1.example/",
        "https://0x7f.example/"}) {
    EXPECT_EQ(url_refusal(url), "(accepted)") << url;
  }
}

TEST(CheckUrl, RefusesOtherSchemes) {
  for (const std::string_view url :
       {"http://idp.example/", "ftp://idp.example/", "file:///etc/passwd", "gopher://idp.example/",
        "https:/idp.example/", "https:idp.example", "//idp.example/", "idp.example", "", "https",
        "://idp.example", "javascript:alert(1)", "data:,x", "dict://idp.example/",
        "httpss://idp.example/", "ldap://idp.example", "wss://idp.example",
        "view-source:https://idp.example/", "jar:https://idp.example/!/"}) {
    EXPECT_EQ(url_refusal(url), "the URL must begin with https://") << url;
  }
}

TEST(CheckUrl, RefusesUserInformationAndFragments) {
  for (const std::string_view url :
       {"https://user@idp.example/", "https://user:pw@idp.example/", "https://@idp.example/",
        "https://idp.example@127.0.0.1/", "https://idp.example:443@127.0.0.1/",
        "https://127.0.0.1%40idp.example@x/"}) {
    EXPECT_EQ(url_refusal(url), "the URL holds user information") << url;
  }
  for (const std::string_view url : {"https://idp.example/#", "https://idp.example/#x",
                                     "https://idp.example#@x", "https://idp.example/?q#f"}) {
    EXPECT_EQ(url_refusal(url), "the URL holds a fragment") << url;
  }
  EXPECT_EQ(url_refusal("https://idp.example/a@b?c@d"), "(accepted)");
}

TEST(CheckUrl, RefusesCharactersThatParsersDisagreeAbout) {
  for (const std::string_view url :
       {"https://idp.example\\@127.0.0.1/", "https://idp.example/a b", " https://idp.example/",
        "https://idp.example/\r\nHost: x", "https://idp.example/\t", "https://idp.example/\x7f",
        "https://idp.ex\xc3\xa4mple/",
        "https://\xef\xbc\x91"
        "27.0.0.1/",
        "https://idp.example/<", "https://idp.example/\"", "https://idp.example/{x}",
        "https://idp.example/|", "https://idp.example/^", "https://idp.example/`",
        "https://idp\xe3\x80\x82"
        "example/"}) {
    EXPECT_EQ(url_refusal(url), "the URL holds a character that is not allowed") << url;
  }
  EXPECT_EQ(url_refusal(std::string_view("https://idp.example/\0", 21)),
            "the URL holds a character that is not allowed");
  EXPECT_EQ(url_refusal("https://idp.example/" + std::string(3000, 'x')), "the URL is too long");
}

TEST(CheckUrl, RefusesMalformedHostsAndPorts) {
  for (const std::string_view url : {"https://",
                                     "https:///",
                                     "https://:443/",
                                     "https://?x",
                                     "https://.",
                                     "https://.example/",
                                     "https://idp..example/",
                                     "https://idp.example./",
                                     "https://-idp.example/",
                                     "https://idp-.example/",
                                     "https://idp_x.example/",
                                     "https://idp%2eexample/",
                                     "https://%31%32%37.0.0.1/",
                                     "https://[idp.example]/",
                                     "https://[8.8.8.8]/",
                                     "https://[]/",
                                     "https://[::1/",
                                     "https://[::1%25lo]/",
                                     "https://[fe80::1%25eth0]/",
                                     "https://a,b/",
                                     "https://*.example/",
                                     "https://idp!example/",
                                     "https://$x/",
                                     "https://idp;x/",
                                     "https://[v1.x]/",
                                     "https://]/",
                                     "https://idp.example]/"}) {
    EXPECT_EQ(url_refusal(url), "the URL has a malformed host") << url;
  }
  EXPECT_EQ(url_refusal("https://" + std::string(64, 'a') + ".example/"),
            "the URL has a malformed host");
  std::string long_name;
  for (int i = 0; i < 60; ++i) long_name += "abcd.";
  EXPECT_EQ(url_refusal("https://" + long_name + "example/"), "the URL has a malformed host");
  for (const std::string_view url :
       {"https://idp.example:", "https://idp.example:/", "https://idp.example:0/",
        "https://idp.example:65536/", "https://idp.example:99999999999/", "https://idp.example:-1/",
        "https://idp.example:+443/", "https://idp.example:0x1bb/", "https://idp.example:443x/",
        "https://idp.example:443:443/", "https://[2606:4700::1]443/", "https://[2606:4700::1]x/",
        "https://2606:4700:4700::1111/", "https://fe80::1/"}) {
    EXPECT_EQ(url_refusal(url), "the URL has a malformed port") << url;
  }
}

TEST(CheckUrl, RefusesEveryOtherSpellingOfAnIpv4Address) {
  for (const std::string_view host : {"2130706433",
                                      "0x7f000001",
                                      "0X7F000001",
                                      "017700000001",
                                      "127.1",
                                      "127.0.1",
                                      "0x7f.1",
                                      "0x7f.0x0.0x0.0x1",
                                      "0177.0.0.1",
                                      "0177.0.0.01",
                                      "127.0.0.01",
                                      "00000000177.0.0.1",
                                      "127.0.0.1.",
                                      "127.0.0.1.1",
                                      "127.0.0.256",
                                      "1.2.3",
                                      "0",
                                      "0x0",
                                      "00",
                                      "3232235521",
                                      "192.168.257",
                                      "0xa9fea9fe",
                                      "169.254.43518",
                                      "0251.0376.0251.0376",
                                      "4294967295",
                                      "18446744073709551617",
                                      "8.8.8.8.",
                                      "0x08080808",
                                      "134744072",
                                      "010.8.8.8",
                                      "idp.example.1",
                                      "idp.0x1"}) {
    EXPECT_EQ(url_refusal("https://" + std::string(host) + "/"), "the URL has a malformed host")
        << host;
  }
}

TEST(CheckUrl, RefusesAddressesThatAreNotPublic) {
  for (const std::string_view host : {"127.0.0.1",
                                      "0.0.0.0",
                                      "10.0.0.1",
                                      "100.64.0.1",
                                      "169.254.169.254",
                                      "172.16.0.1",
                                      "192.168.1.1",
                                      "198.18.0.1",
                                      "203.0.113.9",
                                      "224.0.0.1",
                                      "255.255.255.255",
                                      "168.63.129.16",
                                      "[::]",
                                      "[::1]",
                                      "[0:0:0:0:0:0:0:1]",
                                      "[::ffff:127.0.0.1]",
                                      "[::ffff:7f00:1]",
                                      "[::ffff:8.8.8.8]",
                                      "[::127.0.0.1]",
                                      "[64:ff9b::7f00:1]",
                                      "[64:ff9b::10.0.0.1]",
                                      "[2002:7f00:1::]",
                                      "[2001:0:7f00:1::]",
                                      "[fc00::1]",
                                      "[fd00::1]",
                                      "[fe80::1]",
                                      "[ff02::1]",
                                      "[2001:db8::1]"}) {
    EXPECT_EQ(url_refusal("https://" + std::string(host) + "/"),
              "the URL names an address that is not allowed")
        << host;
  }
}

TEST(CheckUrl, AllowsThePrivateNetworksOfThePolicy) {
  FetchPolicy policy;
  policy.allow_private = {Network::parse("10.1.0.0/16").value(),
                          Network::parse("fd00:1::/32").value()};
  EXPECT_EQ(url_refusal("https://10.1.2.3/", policy), "(accepted)");
  EXPECT_EQ(url_refusal("https://[fd00:1::5]/", policy), "(accepted)");
  for (const std::string_view url : {"https://10.2.0.1/", "https://[fd00:2::5]/",
                                     "https://[::ffff:10.1.2.3]/", "https://127.0.0.1/"}) {
    EXPECT_EQ(url_refusal(url, policy), "the URL names an address that is not allowed") << url;
  }
  EXPECT_EQ(url_refusal("http://10.1.2.3/", policy), "the URL must begin with https://");
}

TEST(CheckUrl, AllowsHttpOnlyToLoopbackAndOnlyWhenAsked) {
  for (const std::string_view url :
       {"http://127.0.0.1/", "http://127.9.9.9:8080/", "http://localhost:8080/x",
        "http://LOCALHOST/", "http://[::1]:8080/", "https://127.0.0.1/", "https://localhost/"}) {
    EXPECT_EQ(url_refusal(url, loopback_policy()), "(accepted)") << url;
  }
  for (const std::string_view url :
       {"http://idp.example/", "http://localhost.example/", "http://8.8.8.8/", "http://10.0.0.1/",
        "http://0.0.0.0/", "http://[::ffff:127.0.0.1]/", "http://[::]/", "http://foo.localhost/"}) {
    EXPECT_EQ(url_refusal(url, loopback_policy()), "the URL must begin with https://") << url;
  }
  EXPECT_EQ(url_refusal("http://127.0.0.1/"), "the URL must begin with https://");
  EXPECT_EQ(url_refusal("http://localhost/"), "the URL must begin with https://");
}

// ---- fetching --------------------------------------------------------------

TEST(Fetch, GivesStatusTypeAndBody) {
  LocalServer server(
      with_length("Content-Type: application/json; charset=utf-8\r\n", R"({"keys":[]})"));
  const auto reply = get(server.url("/jwks"));
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply.value().status, 200);
  EXPECT_EQ(reply.value().content_type, "application/json; charset=utf-8");
  EXPECT_EQ(reply.value().body, R"({"keys":[]})");
  EXPECT_EQ(reply.value().cache_max_age, std::nullopt);
}

TEST(Fetch, SendsOnePlainRequest) {
  LocalServer server(with_length("Set-Cookie: a=b\r\n", "x"));
  CurlFetcher fetcher(loopback_policy());
  FetchRequest request;
  request.url = server.url("/a/../jwks?q=1%20");
  request.accept = "application/jwk-set+json";
  ASSERT_TRUE(fetcher.get(request).ok());
  ASSERT_TRUE(fetcher.get(request).ok());
  const auto heads = server.heads();
  ASSERT_EQ(heads.size(), 2U);
  EXPECT_EQ(heads[0], heads[1]);  // no cookie came back
  EXPECT_EQ(heads[0],
            "GET /a/../jwks?q=1%20 HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(server.port()) +
                "\r\nUser-Agent: postern\r\nAccept: application/jwk-set+json\r\n\r\n");
}

TEST(Fetch, PassesOtherStatusesOn) {
  for (const int status : {201, 204, 304, 400, 404, 410, 500, 503}) {
    LocalServer server("HTTP/1.1 " + std::to_string(status) +
                       " X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    const auto reply = get(server.url());
    ASSERT_TRUE(reply.ok()) << status;
    EXPECT_EQ(reply.value().status, status);
    EXPECT_EQ(server.heads().size(), 1U);  // no retry
  }
}

TEST(Fetch, FollowsNoRedirect) {
  LocalServer target(with_length("", "canary"));
  for (const int status : {301, 302, 303, 307, 308}) {
    LocalServer server("HTTP/1.1 " + std::to_string(status) + " X\r\nLocation: " + target.url() +
                       "\r\nContent-Length: 0\r\n\r\n");
    const auto reply = get(server.url());
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ(reply.value().status, status);
    EXPECT_EQ(reply.value().body, "");
  }
  EXPECT_TRUE(target.heads().empty());
}

TEST(Fetch, UsesNoProxyFromTheEnvironment) {
  LocalServer proxy(with_length("", "from the proxy"));
  LocalServer server(with_length("", "from the server"));
  const std::vector<const char*> names = {"http_proxy", "https_proxy", "all_proxy", "ALL_PROXY",
                                          "HTTPS_PROXY"};
  for (const char* name : names) setenv(name, proxy.url().c_str(), 1);
  const auto reply = get(server.url());
  for (const char* name : names) unsetenv(name);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply.value().body, "from the server");
  EXPECT_TRUE(proxy.heads().empty());
}

TEST(Fetch, ReadsCacheControl) {
  const std::pair<std::string, std::optional<std::chrono::seconds>> cases[] = {
      {"", std::nullopt},
      {"Cache-Control: public\r\n", std::nullopt},
      {"Cache-Control: max-age=300\r\n", 300s},
      {"cache-control: PUBLIC, Max-Age=300 , must-revalidate\r\n", 300s},
      {"Cache-Control: max-age=\"60\"\r\n", 60s},
      {"Cache-Control: s-maxage=5, max-age=300\r\n", 300s},
      {"Cache-Control: public\r\nCache-Control: max-age=10\r\n", 10s},
      {"Cache-Control: max-age=300, max-age=10\r\n", 10s},
      {"Cache-Control: max-age=300, no-store\r\n", 0s},
      {"Cache-Control: no-cache, max-age=300\r\n", 0s},
      {"Cache-Control: max-age=0\r\n", 0s},
      {"Cache-Control: max-age=-5\r\n", 0s},
      {"Cache-Control: max-age=\r\n", 0s},
      {"Cache-Control: max-age\r\n", 0s},
      {"Cache-Control: max-age=5x\r\n", 0s},
      {"Cache-Control: max-age=99999999999999999999\r\n", std::chrono::seconds(2147483647)},
      {"Cache-Control: xmax-age=5\r\n", std::nullopt},
      {"X-Cache-Control: max-age=5\r\n", std::nullopt},
      {"Cache-Control:\r\n", std::nullopt},
  };
  for (const auto& [headers, expected] : cases) {
    LocalServer server(with_length(headers, "x"));
    const auto reply = get(server.url());
    ASSERT_TRUE(reply.ok()) << headers;
    EXPECT_EQ(reply.value().cache_max_age, expected) << headers;
  }
}

TEST(Fetch, ReadsTheFinalHeadersOnly) {
  LocalServer server(
      "HTTP/1.1 103 Early Hints\r\nCache-Control: max-age=9\r\nContent-Type: text/evil\r\n\r\n" +
      with_length("Content-Type: application/json\r\n", "x"));
  const auto reply = get(server.url());
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply.value().content_type, "application/json");
  EXPECT_EQ(reply.value().cache_max_age, std::nullopt);
}

TEST(Fetch, BoundsTheBody) {
  const std::size_t limit = FetchPolicy{}.max_body_bytes;
  EXPECT_EQ(limit, 256U * 1024);
  LocalServer fits(with_length("", std::string(limit, 'x')));
  const auto reply = get(fits.url());
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply.value().body.size(), limit);

  LocalServer one_more(with_length("", std::string(limit + 1, 'x')));
  EXPECT_EQ(get_failure(one_more.url()), "fetch: body too large");
  LocalServer unannounced("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" +
                          std::string(limit + 1, 'x'));
  EXPECT_EQ(get_failure(unannounced.url()), "fetch: body too large");
}

TEST(Fetch, StopsReadingABodyWithoutEnd) {
  for (const std::string_view head : {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
                                      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                                      "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"}) {
    LocalServer server([&](const LocalServer::Connection& connection, const std::string&) {
      connection.send(head);
      const bool chunked = head.find("chunked") != std::string_view::npos;
      const auto piece =
          chunked ? "1000\r\n" + std::string(4096, 'x') + "\r\n" : std::string(4096, 'x');
      while (connection.send(piece)) {
      }
    });
    EXPECT_EQ(get_failure(server.url()), "fetch: body too large") << head;
  }
}

TEST(Fetch, DoesNotUnpackABody) {
  LocalServer server(with_length("Content-Encoding: gzip\r\n", "not unpacked"));
  const auto reply = get(server.url());
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply.value().body, "not unpacked");
}

TEST(Fetch, GivesUpWhenTimeIsOver) {
  auto policy = loopback_policy();
  policy.timeout = 200ms;
  const std::string timed_out = "fetch: curl code 28";
  LocalServer silent([](const LocalServer::Connection& connection, const std::string&) {
    connection.wait_until_gone();
  });
  EXPECT_EQ(get_failure(silent.url(), policy), timed_out);
  LocalServer half([](const LocalServer::Connection& connection, const std::string&) {
    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
    connection.wait_until_gone();
  });
  EXPECT_EQ(get_failure(half.url(), policy), timed_out);
  LocalServer trickle([](const LocalServer::Connection& connection, const std::string&) {
    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    while (!connection.gone_within(5) && connection.send("x")) {
    }
  });
  EXPECT_EQ(get_failure(trickle.url(), policy), timed_out);
  LocalServer headers([](const LocalServer::Connection& connection, const std::string&) {
    connection.send("HTTP/1.1 200 OK\r\n");
    while (!connection.gone_within(5) && connection.send("X: y\r\n")) {
    }
  });
  EXPECT_EQ(get_failure(headers.url(), policy), timed_out);
}

TEST(Fetch, RefusesRepliesThatAreNotHttp) {
  for (const std::string reply :
       {"", "hello\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "\x16\x03\x01",
        "220 ftp\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx"}) {
    LocalServer server(reply);
    EXPECT_NE(get_failure(server.url()), "(fetched)") << reply;
    EXPECT_EQ(server.heads().size(), 1U);
  }
}

TEST(Fetch, RefusesAConnectionThatNobodyAccepts) {
  unsigned port = 0;
  { port = LocalServer("x").port(); }
  EXPECT_EQ(get_failure("http://127.0.0.1:" + std::to_string(port) + "/canary"),
            "fetch: curl code 7");
}

TEST(Fetch, RefusesTheUrlsThatCheckUrlRefuses) {
  LocalServer server(with_length("", "canary"));
  const auto port = std::to_string(server.port());
  for (const auto& url :
       {"http://127.1:" + port + "/canary", "http://2130706433:" + port + "/canary",
        "http://user@127.0.0.1:" + port + "/canary", "http://0.0.0.0:" + port + "/canary",
        "http://[::ffff:127.0.0.1]:" + port + "/canary", std::string("file:///etc/passwd"),
        "http://127.0.0.1:" + port + "/canary#", "ftp://127.0.0.1:" + port + "/canary"}) {
    EXPECT_EQ(get_failure(url), "fetch: URL refused") << url;
  }
  EXPECT_EQ(get_failure(server.url("/canary"), FetchPolicy{}), "fetch: URL refused");
  EXPECT_TRUE(server.heads().empty());
}

// ---- names -----------------------------------------------------------------

TEST(Fetch, DialsWhatTheResolverGaveAndAsksItOnce) {
  // A name that changes its address between check and use (DNS rebinding): only
  // the first answer counts, whatever the system or a second look-up would say.
  LocalServer first([](const LocalServer::Connection& connection,
                       const std::string&) { connection.send(with_length("", "first")); },
                    "127.0.0.77");
  std::atomic<int> asked{0};
  CurlFetcher fetcher(loopback_policy(), [&](const std::string& host, std::chrono::milliseconds) {
    EXPECT_EQ(host, "localhost");
    return std::vector<IpAddress>{ip(++asked == 1 ? "127.0.0.77" : "127.0.0.78")};
  });
  FetchRequest request;
  request.url = "http://LocalHost:" + std::to_string(first.port()) + "/";
  const auto reply = fetcher.get(request);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply.value().body, "first");
  EXPECT_EQ(asked, 1);
}

TEST(Fetch, TriesTheNextAddressOfAName) {
  LocalServer server([](const LocalServer::Connection& connection,
                        const std::string&) { connection.send(with_length("", "second")); },
                     "127.0.0.79");
  CurlFetcher fetcher(loopback_policy(), [](const std::string&, std::chrono::milliseconds) {
    return std::vector<IpAddress>{ip("127.0.0.80"), ip("127.0.0.79")};
  });
  FetchRequest request;
  request.url = "http://localhost:" + std::to_string(server.port()) + "/";
  const auto reply = fetcher.get(request);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply.value().body, "second");
}

TEST(Fetch, RefusesANameWithAnyForbiddenAddress) {
  LocalServer server(with_length("", "canary"));
  FetchPolicy policy;
  policy.allow_private = {Network::parse("127.0.0.1/32").value()};
  const auto url = "https://idp.example:" + std::to_string(server.port()) + "/";
  for (const std::string_view bad :
       {"127.0.0.2", "10.0.0.1", "169.254.169.254", "0.0.0.0", "192.168.0.1", "::1",
        "::ffff:127.0.0.1", "::ffff:8.8.8.8", "fd00::1", "64:ff9b::7f00:1", "2002:7f00:1::"}) {
    for (const auto& addresses :
         {std::vector{ip(bad)}, std::vector{ip("127.0.0.1"), ip(bad)},
          std::vector{ip(bad), ip("127.0.0.1")}, std::vector{ip("8.8.8.8"), ip(bad)}}) {
      EXPECT_EQ(
          get_failure(url, policy,
                      [&](const std::string&, std::chrono::milliseconds) { return addresses; }),
          "fetch: address not allowed")
          << bad;
    }
  }
  std::vector<IpAddress> many(40, ip("127.0.0.1"));
  many.push_back(ip("10.0.0.1"));
  EXPECT_EQ(
      get_failure(url, policy, [&](const std::string&, std::chrono::milliseconds) { return many; }),
      "fetch: address not allowed");
  EXPECT_TRUE(server.heads().empty());
}

TEST(Fetch, LocalhostMustBeLoopback) {
  for (const std::string_view address : {"8.8.8.8", "10.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"}) {
    EXPECT_EQ(get_failure("http://localhost:1/", loopback_policy(),
                          [&](const std::string&, std::chrono::milliseconds) {
                            return std::vector{ip(address)};
                          }),
              "fetch: address not allowed")
        << address;
  }
}

TEST(Fetch, OtherNamesNeverReachLoopbackEvenInDevelopment) {
  EXPECT_EQ(get_failure("https://idp.example/", loopback_policy(),
                        [](const std::string&, std::chrono::milliseconds) {
                          return std::vector{ip("127.0.0.1")};
                        }),
            "fetch: address not allowed");
}

TEST(Fetch, RefusesANameThatDoesNotResolve) {
  EXPECT_EQ(get_failure("https://idp.example/", FetchPolicy{},
                        [](const std::string&, std::chrono::milliseconds) {
                          return std::vector<IpAddress>{};
                        }),
            "fetch: name does not resolve");
}

TEST(Resolve, FindsLocalhostAndNothingForNonsense) {
  const auto addresses = resolve_with_system("localhost", 5s);
  ASSERT_FALSE(addresses.empty());
  for (const auto& address : addresses) EXPECT_TRUE(address.is_loopback());
  // An invalid name is refused without a question to a name server.
  EXPECT_TRUE(resolve_with_system("a..b", 5s).empty());
}

TEST(Fetch, WorksFromManyThreads) {
  LocalServer server(with_length("", "x"));
  CurlFetcher fetcher(loopback_policy());
  std::atomic<int> fetched{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      FetchRequest request;
      request.url = "http://localhost:" + std::to_string(server.port()) + "/";
      for (int j = 0; j < 20; ++j) fetched += fetcher.get(request).ok() ? 1 : 0;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(fetched, 160);
}

}  // namespace
}  // namespace postern::outbound
