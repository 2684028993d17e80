// The HTTP edge over real sockets. P1 to P16 are what was found wrong with the
// HTTP layers this one replaces (docs/threat-model.md).

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/edge_server.h"
#include "support/raw_client.h"

namespace postern::http {
namespace {

using namespace std::chrono_literals;
using test::edge_options;
using test::EdgeServer;
using test::RawClient;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

const std::string kGet = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

std::string get(std::string_view path, std::string_view headers = "") {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: x\r\n" + std::string(headers) + "\r\n";
}

std::string post(std::string_view path, std::string_view body) {
  return "POST " + std::string(path) +
         " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         std::string(body);
}

// ---- the ordinary ----

TEST(HttpEdge, AnswersWithTheHeadersTheServerAdds) {
  EdgeServer server;
  RawClient client(server.port());
  const auto reply = client.get("/inline/a?b=c");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "/inline/a?b=c");
  EXPECT_EQ(reply.header("Content-Length"), "13");
  EXPECT_EQ(reply.header("Connection"), "(none)");
  EXPECT_THAT(reply.header("X-Request-Id"), MatchesRegex("[a-z0-9]+"));
  EXPECT_THAT(reply.header("Date"),
              MatchesRegex("(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9][0-9] [A-Z][a-z][a-z] "
                           "[0-9]+ [0-9]+:[0-9]+:[0-9]+ GMT"));
  EXPECT_EQ(client.get("/compute/x").body, "/compute/x?") << "the connection stays open";
  EXPECT_EQ(client.get("/outbound").body, "may block");
  EXPECT_EQ(client.get("/peer").body, "127.0.0.1 plain");
}

TEST(HttpEdge, RequestIdIsEchoedWhenWellFormed) {
  EdgeServer server;
  RawClient client(server.port());
  const auto id = [&](std::string_view sent) {
    return client.ask(get("/", "X-Request-Id: " + std::string(sent) + "\r\n"))
        .header("X-Request-Id");
  };
  EXPECT_EQ(id("a.B_c-9"), "a.B_c-9");
  EXPECT_EQ(id(std::string(128, 'x')), std::string(128, 'x'));
  EXPECT_NE(id(std::string(129, 'x')), std::string(129, 'x'));
  EXPECT_NE(id("a b"), "a b");
  EXPECT_NE(id("a\"b"), "a\"b");
  const auto first = client.get("/").header("X-Request-Id");
  EXPECT_NE(first, client.get("/").header("X-Request-Id"));
}

TEST(HttpEdge, HeadHasTheLengthButNoBody) {
  EdgeServer server;
  RawClient client(server.port());
  ASSERT_TRUE(client.send("HEAD /inline/abc HTTP/1.1\r\nHost: x\r\n\r\n"));
  const auto reply = client.reply(true);
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.header("Content-Length"), "12");
  EXPECT_EQ(client.get("/").body, "/?") << "no stray body before it";
  ASSERT_TRUE(client.send("HEAD /none HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_EQ(client.reply(true).status, 404);
  EXPECT_EQ(client.get("/empty").header("Content-Length"), "(none)") << "204 has no body";
}

TEST(HttpEdge, UnknownPathsAndMethodsAnswerInTheShapeOfTheSurface) {
  EdgeServer server;
  RawClient client(server.port());
  auto reply = client.get("/t/acme/none");
  EXPECT_EQ(reply.status, 404);
  EXPECT_EQ(reply.body, R"({"error":"not_found"})");
  reply = client.get("/api/v1/none");
  EXPECT_EQ(reply.status, 404);
  EXPECT_EQ(reply.header("Content-Type"), "application/problem+json");
  reply = client.ask("PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
  EXPECT_EQ(reply.status, 405);
  EXPECT_EQ(reply.header("Allow"), "POST");
  reply = client.ask("LIST / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(reply.status, 405);
  EXPECT_EQ(reply.header("Allow"), "GET, HEAD");
  EXPECT_EQ(client.ask("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").status, 404);
  EXPECT_EQ(client.get("/").status, 200) << "none of these closes";
}

TEST(HttpEdge, BodiesArriveWholeHoweverTheyAreSent) {
  EdgeServer server;
  RawClient client(server.port());
  const std::string large(60'000, 'y');
  EXPECT_EQ(client.ask(post("/echo", large)).body, large);
  EXPECT_EQ(client.ask(post("/compute-echo", "")).body, "");
  const std::string chunked =
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n";
  for (const char byte : chunked) ASSERT_TRUE(client.send({&byte, 1}));
  EXPECT_EQ(client.reply().body, "hello world");
  EXPECT_EQ(client.get("/").status, 200);
}

TEST(HttpEdge, Http10ClosesUnlessAskedToKeepAlive) {
  EdgeServer server;
  RawClient keep(server.port());
  auto reply = keep.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.header("Connection"), "keep-alive");
  reply = keep.ask("GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(reply.header("Connection"), "close");
  EXPECT_TRUE(keep.at_end());
}

TEST(HttpEdge, HalfClosedClientStillGetsItsReplies) {
  EdgeServer server;
  RawClient client(server.port());
  ASSERT_TRUE(client.send(get("/slow") + kGet));
  client.finish_sending();
  server.gate.wait_for(1);
  server.gate.open();
  EXPECT_EQ(client.reply().body, "slow");
  EXPECT_EQ(client.reply().status, 200);
  EXPECT_TRUE(client.at_end());
}

TEST(HttpEdge, ServesIpv6) {
  auto options = edge_options();
  options.address = "::1";
  EdgeServer server(options);
  const int fd = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(server.port());
  address.sin6_addr = in6addr_loopback;
  ASSERT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const auto request = get("/peer", "Connection: close\r\n");
  ASSERT_EQ(::send(fd, request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  std::string received;
  char bytes[1000];
  for (ssize_t size = 0; (size = ::recv(fd, bytes, sizeof bytes, 0)) > 0;) {
    received.append(bytes, static_cast<std::size_t>(size));
  }
  ::close(fd);
  EXPECT_THAT(received, HasSubstr("\r\n\r\n::1 plain"));
}

// ---- P1: clients that do not read ----

TEST(P1_NeverReading, HoldsNoThread) {
  EdgeServer server;
  std::vector<std::unique_ptr<RawClient>> stuck;
  std::string requests;
  for (int i = 0; i < 200; ++i) requests += get(i % 2 == 0 ? "/large" : "/compute-large");
  for (int i = 0; i < 8; ++i) {
    stuck.push_back(std::make_unique<RawClient>(server.port(), 2048));
    ASSERT_TRUE(stuck.back()->send(requests));
  }
  // Both IO threads and the compute pool still answer others.
  for (int i = 0; i < 20; ++i) {
    RawClient side(server.port());
    EXPECT_EQ(side.get("/").status, 200);
    EXPECT_EQ(side.get("/compute/x").status, 200);
  }
  // And they cost next to nothing while they wait.
  const auto cpu = [] {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec * 1000 + usage.ru_utime.tv_usec / 1000 +
           usage.ru_stime.tv_sec * 1000 + usage.ru_stime.tv_usec / 1000;
  };
  // What came before is done with once the time stands still.
  auto before = cpu();
  const auto is_idle = [&] {
    std::this_thread::sleep_for(100ms);
    const auto now = cpu();
    return now - std::exchange(before, now) < 10;
  };
  for (int i = 0; i < 50 && !is_idle(); ++i) continue;
  before = cpu();
  std::this_thread::sleep_for(1s);
  EXPECT_LT(cpu() - before, 500) << "milliseconds of CPU in one idle second";
  // One that reads after all gets everything, in order.
  for (int i = 0; i < 200; ++i) ASSERT_EQ(stuck[0]->reply().body.size(), 100'000u) << i;
}

TEST(P1_NeverReading, IsClosedAfterTheWriteTimeout) {
  auto options = edge_options();
  options.write_timeout = 200ms;
  EdgeServer server(options);
  std::vector<std::unique_ptr<RawClient>> stuck;
  std::string requests;
  for (int i = 0; i < 100; ++i) requests += get("/large");
  for (int i = 0; i < 4; ++i) {
    stuck.push_back(std::make_unique<RawClient>(server.port(), 2048));
    stuck.back()->send(requests);
  }
  EXPECT_TRUE(server.eventually(
      [](const ServerStats& stats) { return stats.timeouts == 4 && stats.connections_open == 0; }));
}

TEST(P1_NeverReading, UnsentBytesAreBounded) {
  auto options = edge_options();
  options.max_unsent_bytes = 200'000;
  EdgeServer server(options);
  RawClient client(server.port(), 2048);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(client.send(get("/held")));
  auto responders = server.held.take(10);
  for (auto& responder : responders) {
    responder.send(Reply::text(200, std::string(4'000'000, 'x')));
  }
  EXPECT_TRUE(
      server.eventually([](const ServerStats& stats) { return stats.connections_open == 0; }));
}

// ---- P3: handlers that throw ----

TEST(P3_ThrowingHandler, AnswersPlainlyAndLogsTheTypeOnly) {
  EdgeServer server;
  ::testing::internal::CaptureStderr();
  {
    RawClient client(server.port());
    auto reply = client.get("/throw-int");
    EXPECT_EQ(reply.status, 500);
    EXPECT_EQ(reply.body, R"({"error":"server_error"})");
    reply = client.get("/throw");
    EXPECT_EQ(reply.status, 500);
    EXPECT_THAT(reply.head + reply.body, Not(HasSubstr("canary")));
    reply = client.get("/api/throw");
    EXPECT_EQ(reply.body, R"({"type":"about:blank","title":"Internal Server Error","status":500})");
    reply = client.get("/answer-and-throw");
    EXPECT_EQ(reply.body, "answered");
    EXPECT_EQ(client.get("/silent").status, 500);
    EXPECT_EQ(client.get("/").status, 200);
  }
  const auto log = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("runtime_error"));
  EXPECT_THAT(log, Not(HasSubstr("canary")));
  // Counted after the reply has left.
  EXPECT_TRUE(
      server.eventually([](const ServerStats& stats) { return stats.handler_faults == 4; }));
}

// ---- P6: pipelining ----

TEST(P6_Pipelining, KeepsOrderAtAnyDepthAcrossPools) {
  EdgeServer server;
  for (const int depth : {2, 3, 15, 16, 17, 50, 100}) {
    RawClient client(server.port());
    std::string requests;
    const auto path = [](int i) {
      return std::string(i % 3 == 0 ? "/inline/" : "/compute/") + std::to_string(i);
    };
    for (int i = 0; i < depth; ++i) requests += get(path(i));
    ASSERT_TRUE(client.send(requests));
    for (int i = 0; i < depth; ++i) EXPECT_EQ(client.reply().body, path(i) + "?") << depth;
  }
}

TEST(P6_Pipelining, RepliesFinishedOutOfOrderWaitForTheirTurn) {
  EdgeServer server;
  RawClient client(server.port());
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(client.send(get("/held")));
  ASSERT_TRUE(client.send(get("/inline/last")));
  auto responders = server.held.take(8);
  for (int i = 7; i >= 0; --i) {
    EXPECT_FALSE(client.readable_within(0));
    responders[static_cast<std::size_t>(i)].send(Reply::text(200, std::to_string(i)));
  }
  for (int i = 0; i < 8; ++i) EXPECT_EQ(client.reply().body, std::to_string(i));
  EXPECT_EQ(client.reply().body, "/inline/last?");
}

TEST(P6_Pipelining, DepthIsBoundedAndTheRestWaits) {
  auto options = edge_options();
  options.max_pipelined = 4;
  EdgeServer server(options);
  RawClient client(server.port());
  std::string requests;
  for (int i = 0; i < 10; ++i) requests += get("/held");
  ASSERT_TRUE(client.send(requests));
  std::size_t answered = 0;
  while (answered < 10) {
    auto responders = server.held.take(1);
    EXPECT_LE(responders.size(), 4u);
    for (auto& responder : responders) {
      responder.send(Reply::text(200, std::to_string(answered++)));
    }
  }
  for (int i = 0; i < 10; ++i) EXPECT_EQ(client.reply().body, std::to_string(i));
}

TEST(P6_Pipelining, RequestsAfterACloseAreNotRead) {
  EdgeServer server;
  RawClient client(server.port());
  ASSERT_TRUE(client.send(get("/close") + kGet + kGet));
  const auto reply = client.reply();
  EXPECT_EQ(reply.header("Connection"), "close");
  EXPECT_EQ(reply.body, "bye");
  EXPECT_TRUE(client.at_end());
  EXPECT_FALSE(client.was_reset());
}

TEST(P6_Pipelining, ARequestCompletedAfterAClosingReplyIsNotActedOn) {
  EdgeServer server;
  RawClient client(server.port());
  const auto second = get("/held");
  ASSERT_TRUE(client.send(get("/close") + second.substr(0, second.size() - 4)));
  EXPECT_EQ(client.reply().body, "bye");
  client.send(second.substr(second.size() - 4));
  EXPECT_TRUE(client.at_end());
  // Another one that does arrive is the only one that was held.
  RawClient other(server.port());
  ASSERT_TRUE(other.send(second));
  EXPECT_EQ(server.held.take(1).size(), 1u);
}

// ---- P7, P8: errors end the connection, and nothing odd is understood ----

const std::vector<std::string>& bad_requests() {
  static const std::vector<std::string> kAll = [] {
    std::vector<std::string> all;
    const auto line = [&](const std::string& text) { all.push_back(text + "\r\nHost: x\r\n\r\n"); };
    const auto with = [&](const std::string& headers, const std::string& body = "") {
      all.push_back("POST /echo HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n\r\n" + body);
    };
    for (const auto* text : {"GET / HTTP/2.0",
                             "GET / HTTP/0.9",
                             "GET / HTTP/1.2",
                             "GET / HTTP/1.",
                             "GET / HTTP/",
                             "GET /",
                             "GET  / HTTP/1.1",
                             "GET / HTTP/1.1 ",
                             "GET\t/ HTTP/1.1",
                             "G(T / HTTP/1.1",
                             "GET: / HTTP/1.1",
                             " GET / HTTP/1.1",
                             "GET /a b HTTP/1.1",
                             "GET foo HTTP/1.1",
                             "GET * HTTP/1.1",
                             "CONNECT x:443 HTTP/1.1",
                             "GET http://y/ HTTP/1.1",
                             "GET ftp://x/ HTTP/1.1",
                             "GET /\x80 HTTP/1.1",
                             "GET /a#b HTTP/1.1",
                             "GET / HTTP/111",
                             "PUT s://]ufd/: HTTP/1.1",
                             "PRI * HTTP/2.0"}) {
      line(text);
    }
    for (const auto* headers : {"Content-Length: 3\r\nContent-Length: 3",
                                "Content-Length: 3\r\nContent-Length: 2",
                                "Content-Length: 3, 5",
                                "Content-Length: 3, 3",
                                "Content-Length: +3",
                                "Content-Length: -3",
                                "Content-Length: 3abc",
                                "Content-Length: 0x3",
                                "Content-Length: ",
                                "Content-Length: 3 3",
                                "Content-Length: 3_0",
                                "Content-Length : 3",
                                "Content_Length: 3",
                                "Content-Length: 3\r\nTransfer-Encoding: chunked",
                                "Transfer-Encoding: chunked\r\nContent-Length: 3",
                                "Transfer-Encoding: identity",
                                "Transfer-Encoding: gzip, chunked",
                                "Transfer-Encoding: chunked, identity",
                                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                                "Transfer-Encoding: xchunked",
                                "Transfer-Encoding: chunked\x0b",
                                "Transfer_Encoding: chunked",
                                "X: a\r\n b",
                                "X:\r\n\tb",
                                "X: a\nY: b",
                                "X: a\rb",
                                "X: \x01",
                                "X: \x7f",
                                "X\x80: a",
                                "X y: a",
                                ": a",
                                "nocolon",
                                "Host: x",
                                "Host: y",
                                "host: x",
                                "Connection: close\x02"}) {
      with(headers, "abc");
    }
    with(std::string("X: a\0b", 6));
    with(std::string("X\0: ab", 6));
    for (const auto* body :
         {"\r\nabc\r\n0\r\n\r\n", " 3\r\nabc\r\n0\r\n\r\n", "3 \r\nabc\r\n0\r\n\r\n",
          "+3\r\nabc\r\n0\r\n\r\n", "0x3\r\nabc\r\n0\r\n\r\n", "3\nabc\r\n0\r\n\r\n",
          "3\r\nabc0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "3\r\nabc\n0\r\n\r\n", "g\r\n",
          "0\r\nContent-Length: 5\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n",
          "0\r\nHost: y\r\n\r\n", "0\r\nX : y\r\n\r\n", "0\r\n X: y\r\n\r\n",
          "3;a\nb\r\nabc\r\n0\r\n\r\n", "-3\r\nabc\r\n0\r\n\r\n"}) {
      with("Transfer-Encoding: chunked", body);
    }
    all.push_back("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    all.push_back("GET / HTTP/1.1\r\n\r\n");
    all.push_back("GET / HTTP/1.1\nHost: x\n\n");
    for (const auto* host : {"", "a b", "a/b", "a@b", "a:x", "[::1", "0.0.0.0=5000"}) {
      all.push_back("GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n");
    }
    all.push_back("\x16\x03\x01\x02");
    all.push_back(std::string("\0", 1));
    return all;
  }();
  return kAll;
}

TEST(P8_Smuggling, EachOddRequestIsRefusedAndNothingAfterItAnswered) {
  EdgeServer server;
  for (const auto& bad : bad_requests()) {
    RawClient client(server.port());
    // A request before it is answered, one behind it is not.
    client.send(kGet + bad + kGet);
    EXPECT_EQ(client.reply().status, 200) << bad;
    const auto refusal = client.reply();
    EXPECT_EQ(refusal.status, 400) << bad;
    EXPECT_EQ(refusal.header("Connection"), "close") << bad;
    EXPECT_TRUE(client.at_end()) << bad;
    EXPECT_FALSE(client.was_reset()) << bad;
  }
  EXPECT_EQ(server->stats().parse_errors, bad_requests().size());
  EXPECT_EQ(server->stats().handler_faults, 0u);
}

TEST(P7_Errors, RefusalWaitsForTheRepliesBeforeIt) {
  EdgeServer server;
  RawClient client(server.port());
  ASSERT_TRUE(client.send(get("/held") + "BAD\r\n\r\n" + kGet));
  auto responders = server.held.take(1);
  EXPECT_TRUE(server.eventually([](const ServerStats& stats) { return stats.parse_errors == 1; }));
  responders[0].send(Reply::text(200, "first"));
  EXPECT_EQ(client.reply().body, "first");
  EXPECT_EQ(client.reply().status, 400);
  EXPECT_TRUE(client.at_end());
}

TEST(P7_Errors, ErrorReplyArrivesEvenWhileTheClientIsStillSending) {
  EdgeServer server;
  RawClient client(server.port());
  ASSERT_TRUE(client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"));
  client.send(std::string(2'000'000, 'x'));  // what a client does that does not look
  EXPECT_EQ(client.reply().status, 413);
  EXPECT_TRUE(client.at_end());
  EXPECT_FALSE(client.was_reset());
}

// ---- P9 ----

TEST(P9_ConnectionClose, IsDoneNotJustSaid) {
  EdgeServer server;
  for (const auto* path : {"/", "/compute/x", "/none"}) {
    RawClient client(server.port());
    const auto reply = client.ask(get(path, "Connection: close\r\n"));
    EXPECT_EQ(reply.header("Connection"), "close");
    EXPECT_TRUE(client.at_end());
    EXPECT_FALSE(client.was_reset());
  }
}

// ---- P10: sizes ----

long peak_kilobytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmPeak:")) return std::stol(line.substr(7));
  }
  return 0;
}

TEST(P10_Sizes, ContentLengthIsBelievedOnlyWithinTheLimit) {
  EdgeServer server;
  { RawClient(server.port()).get("/"); }  // memory the server needs anyway
  const auto before = peak_kilobytes();
  for (const auto* length : {"65537", "68719476736", "9223372036854775807"}) {
    RawClient client(server.port());
    const auto reply = client.ask(
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::string(length) + "\r\n\r\n");
    EXPECT_EQ(reply.status, 413) << length;
    EXPECT_TRUE(client.at_end());
  }
  for (const auto* length : {"18446744073709551615", "18446744073709551616"}) {
    RawClient client(server.port());
    const auto reply = client.ask(
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::string(length) + "\r\n\r\n");
    EXPECT_EQ(reply.status, 400) << "not a number of bytes anybody has: " << length;
  }
  EXPECT_LT(peak_kilobytes() - before, 64 * 1024);
}

TEST(P10_Sizes, EachBoundHasItsStatus) {
  EdgeServer server;
  const auto status = [&](const std::string& request) {
    RawClient client(server.port());
    const auto reply = client.ask(request);
    EXPECT_EQ(reply.header("Connection"), "close");
    EXPECT_TRUE(client.at_end());
    return reply.status;
  };
  EXPECT_EQ(status("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n"),
            413);
  EXPECT_EQ(status(get("/" + std::string(9000, 'x'))), 414);
  EXPECT_EQ(status(get("/", "X: " + std::string(9000, 'x') + "\r\n")), 431);
  std::string many;
  for (int i = 0; i < 100; ++i) many += "X: y\r\n";
  EXPECT_EQ(status(get("/", many)), 431);
  auto problem = RawClient(server.port())
                     .ask(
                         "POST /api/v1/x HTTP/1.1\r\nHost: x\r\n"
                         "Content-Length: 99999\r\n\r\n");
  EXPECT_EQ(problem.header("Content-Type"), "application/problem+json");
}

TEST(P10_Sizes, ManyLargeUploadsAtOnceAreHeldBack) {
  auto options = edge_options();
  options.max_pipelined = 64;
  EdgeServer server(options);
  RawClient client(server.port());
  const std::string body(60'000, 'z');
  std::thread sender([&] {
    for (int i = 0; i < 40; ++i) client.send(post("/compute-echo", body));
  });
  for (int i = 0; i < 40; ++i) EXPECT_EQ(client.reply().body, body) << i;
  sender.join();
}

// ---- P11 ----

TEST(P11_HeaderValues, NeverCauseAFault) {
  EdgeServer server;
  const std::vector<std::string> values = {
      "",  ";",  "=",     "a=b; c", ",,,",   "\"",    "\xff\xfe",    "%00",       "\t",     "Basic",
      "0", "-1", "1e999", "[]",     "text/", "*/*;q", "Mon, 99 Foo", "no-cache=", "chunked"};
  for (const auto* name : {"Date", "Cookie", "Accept", "Content-Type", "Cache-Control",
                           "Connection", "Authorization", "User-Agent", "Expect", "Upgrade", "TE",
                           "Trailer", "If-Match", "Range", "Accept-Encoding", "X-Request-Id"}) {
    for (const auto& value : values) {
      RawClient client(server.port());
      const auto reply = client.ask(get("/", std::string(name) + ": " + value + "\r\n"));
      EXPECT_THAT(reply.status, AnyOf(200, 400, 417)) << name << ": " << value;
      EXPECT_THAT(reply.body, Not(HasSubstr("basic_string")));
    }
  }
  EXPECT_EQ(server->stats().handler_faults, 0u);
}

// ---- P12: connections ----

TEST(P12_ConnectionCap, RefusesBeyondAndServesThoseInside) {
  auto options = edge_options();
  options.max_connections = 10;
  EdgeServer server(options);
  RawClient side(server.port());
  ASSERT_EQ(side.get("/").status, 200);
  std::vector<std::unique_ptr<RawClient>> crowd;
  for (int i = 0; i < 100; ++i) crowd.push_back(std::make_unique<RawClient>(server.port()));
  EXPECT_TRUE(server.eventually([](const ServerStats& stats) {
    return stats.connections_open == 10 && stats.connections_refused == 91;
  }));
  EXPECT_EQ(side.get("/").status, 200);
  crowd.clear();
  EXPECT_TRUE(
      server.eventually([](const ServerStats& stats) { return stats.connections_open == 1; }));
  EXPECT_EQ(RawClient(server.port()).get("/").status, 200);
}

TEST(P12_ConnectionCap, AlsoHoldsForOneAddress) {
  auto options = edge_options();
  options.max_connections_per_address = 3;
  EdgeServer server(options);
  std::vector<std::unique_ptr<RawClient>> crowd;
  for (int i = 0; i < 3; ++i) {
    crowd.push_back(std::make_unique<RawClient>(server.port()));
    EXPECT_EQ(crowd.back()->get("/").status, 200);
  }
  RawClient fourth(server.port());
  EXPECT_TRUE(fourth.at_end());
  crowd.pop_back();
  EXPECT_TRUE(
      server.eventually([](const ServerStats& stats) { return stats.connections_open == 2; }));
  EXPECT_EQ(RawClient(server.port()).get("/").status, 200);
}

TEST(P12_ConnectionCap, StartRefusesWhatTheDescriptorLimitCannotHold) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  auto options = edge_options();
  options.max_connections = limit.rlim_max;
  const Router router;
  Server server(options, router);
  const auto status = server.start();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::Unavailable);
  EXPECT_THAT(status.error().detail, HasSubstr("LimitNOFILE"));
}

TEST(ServerStart, SaysWhatToChange) {
  EdgeServer running;
  const Router router;
  auto options = edge_options();
  options.port = running.port();
  Server second(options, router);
  const auto taken = second.start();
  ASSERT_FALSE(taken.ok());
  EXPECT_THAT(taken.error().detail, HasSubstr("port free"));
  options.port = 0;
  options.address = "192.0.2.1";  // TEST-NET-1: nobody's
  Server elsewhere(options, router);
  EXPECT_FALSE(elsewhere.start().ok());
}

// ---- P13: bulkheads ----

TEST(P13_Bulkheads, SlowHandlersDelayNobodyElse) {
  auto options = edge_options();
  options.database_threads = 2;
  EdgeServer server(options);
  std::vector<std::unique_ptr<RawClient>> slow;
  for (int i = 0; i < 10; ++i) {
    slow.push_back(std::make_unique<RawClient>(server.port()));
    ASSERT_TRUE(slow.back()->send(get("/slow")));
  }
  server.gate.wait_for(2);
  for (int i = 0; i < 10; ++i) {
    RawClient client(server.port());
    EXPECT_EQ(client.get("/").status, 200);
    EXPECT_EQ(client.get("/compute/x").status, 200);
    EXPECT_EQ(client.get("/outbound").status, 200);
  }
  server.gate.open();
  for (auto& client : slow) EXPECT_EQ(client->reply().body, "slow");
}

TEST(P13_Bulkheads, FullPoolAnswers503AtOnce) {
  auto options = edge_options();
  options.database_threads = 1;
  options.pool_queue = 2;
  EdgeServer server(options);
  std::vector<std::unique_ptr<RawClient>> waiting;
  for (int i = 0; i < 3; ++i) {  // one runs, two wait
    waiting.push_back(std::make_unique<RawClient>(server.port()));
    ASSERT_TRUE(waiting.back()->send(get("/slow")));
    if (i == 0) server.gate.wait_for(1);
    ASSERT_TRUE(server.eventually(
        [&](const ServerStats& stats) { return stats.requests == static_cast<unsigned>(i) + 1; }));
  }
  RawClient client(server.port());
  const auto reply = client.get("/t/slow");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.header("Retry-After"), "1");
  EXPECT_EQ(reply.body, R"({"error":"temporarily_unavailable"})");
  EXPECT_EQ(client.get("/").status, 200) << "the connection survives";
  EXPECT_FALSE(server->post(Pool::Database, [] {}));
  EXPECT_EQ(server->stats().overloads, 2u);
  server.gate.open();
  for (auto& other : waiting) EXPECT_EQ(other->reply().status, 200);
}

TEST(P13_Bulkheads, PostRunsOnThePoolAndSurvivesThrowing) {
  EdgeServer server;
  std::atomic<int> ran{0};
  for (const auto pool : {Pool::Inline, Pool::Compute, Pool::Database, Pool::Outbound}) {
    EXPECT_TRUE(server->post(pool, [&] { ++ran; }));
    EXPECT_TRUE(server->post(pool, [&] {
      ++ran;
      throw 1;
    }));
  }
  EXPECT_TRUE(server.eventually(
      [&](const ServerStats& stats) { return ran == 8 && stats.handler_faults == 4; }));
}

// ---- P14: expectations and slow clients ----

TEST(P14_Expect, ContinueIsSentWhenTheBodyIsAwaited) {
  EdgeServer server;
  RawClient client(server.port());
  const std::string head =
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
  EXPECT_EQ(client.ask(head).status, 100);
  EXPECT_EQ(client.ask("abc").body, "abc");
  // Already sent: no interim reply.
  EXPECT_EQ(client.ask(head + "def").status, 200);
}

TEST(P14_Expect, ContinueWaitsForEarlierReplies) {
  EdgeServer server;
  RawClient client(server.port());
  ASSERT_TRUE(client.send(get("/held") + "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
                                         "Expect: 100-continue\r\n\r\n"));
  auto responders = server.held.take(1);
  EXPECT_FALSE(client.readable_within(50));
  responders[0].send(Reply::text(200, "first"));
  EXPECT_EQ(client.reply().body, "first");
  EXPECT_EQ(client.reply().status, 100);
  EXPECT_EQ(client.ask("abc").body, "abc");
}

TEST(P14_Expect, OthersFailAndTooLargeBodiesAreNotInvited) {
  EdgeServer server;
  EXPECT_EQ(RawClient(server.port()).ask(get("/", "Expect: cookies\r\n")).status, 417);
  EXPECT_EQ(RawClient(server.port())
                .ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n"
                     "Expect: 100-continue\r\n\r\n")
                .status,
            413);
}

TEST(P14_Slow, SilentAndTricklingClientsAreCutOff) {
  auto options = edge_options();
  options.header_timeout = 1s;
  options.body_timeout = 1s;
  EdgeServer server(options);
  RawClient silent(server.port());
  RawClient headers(server.port());
  RawClient body(server.port());
  RawClient chunks(server.port());
  ASSERT_TRUE(headers.send("GET / HT"));
  ASSERT_TRUE(body.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"));
  ASSERT_TRUE(chunks.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
  // A byte now and then does not help: the time is for the whole part.
  std::atomic<bool> stop{false};
  std::thread trickle([&] {
    while (!stop) {
      headers.send("x");
      body.send("x");
      chunks.send("1\r\nx\r\n");
      std::this_thread::sleep_for(20ms);
    }
  });
  EXPECT_TRUE(silent.at_end());
  EXPECT_EQ(headers.reply().status, 408);
  EXPECT_EQ(body.reply().status, 408);
  EXPECT_EQ(chunks.reply().status, 408);
  stop = true;
  trickle.join();
  EXPECT_EQ(server->stats().timeouts, 4u);
}

TEST(P14_Slow, IdleConnectionsEndCleanlyButNotWhileAReplyIsDue) {
  auto options = edge_options();
  options.idle_timeout = 200ms;
  EdgeServer server(options);
  RawClient idle(server.port());
  RawClient busy(server.port());
  EXPECT_EQ(idle.get("/").status, 200);
  ASSERT_TRUE(busy.send(get("/held")));
  auto responders = server.held.take(1);
  EXPECT_TRUE(idle.at_end());
  EXPECT_FALSE(idle.was_reset());
  std::this_thread::sleep_for(400ms);
  responders[0].send(Reply::text(200, "late"));
  EXPECT_EQ(busy.reply().body, "late");
  EXPECT_TRUE(busy.at_end());
}

// ---- misdelivery ----

TEST(Misdelivery, LateAnswerReachesNobodyElse) {
  EdgeServer server;
  for (int round = 0; round < 100; ++round) {
    auto first = std::make_unique<RawClient>(server.port());
    ASSERT_TRUE(first->send(get("/held")));
    auto responders = server.held.take(1);
    if (round % 2 == 0) {
      first->reset();
    } else {
      // Even a client that only closed: when its request is done, it is gone.
      first->close();
    }
    if (round % 2 == 0) {
      ASSERT_TRUE(
          server.eventually([](const ServerStats& stats) { return stats.connections_open == 0; }));
    }
    RawClient second(server.port());  // the kernel reuses the lowest free descriptor
    EXPECT_EQ(second.get("/inline/second").status, 200);
    responders[0].send(Reply::text(200, "canary-for-first"));
    EXPECT_EQ(second.get("/inline/mine").body, "/inline/mine?");
    EXPECT_FALSE(second.readable_within(0));
    second.close();
    ASSERT_TRUE(
        server.eventually([](const ServerStats& stats) { return stats.connections_open == 0; }));
  }
}

TEST(Misdelivery, ResponderMayOutliveTheServer) {
  std::vector<Responder> responders;
  {
    EdgeServer server;
    RawClient client(server.port());
    ASSERT_TRUE(client.send(get("/held")));
    responders = server.held.take(1);
  }
  responders[0].send(Reply::text(200, "to nobody"));
}

// ---- drain ----

TEST(Drain, FinishesWhatIsInFlightAndTakesNothingNew) {
  EdgeServer server;
  RawClient idle(server.port());
  ASSERT_EQ(idle.get("/").status, 200);
  RawClient busy(server.port());
  ASSERT_TRUE(busy.send(get("/slow") + get("/held")));
  server.gate.wait_for(1);
  auto responders = server.held.take(1);
  const auto port = server.port();
  std::thread draining([&] { server->drain(); });
  EXPECT_TRUE(idle.at_end());
  EXPECT_FALSE(idle.was_reset());
  EXPECT_FALSE(RawClient(port).connected());
  responders[0].send(Reply::text(200, "second"));
  server.gate.open();
  EXPECT_EQ(busy.reply().body, "slow");
  const auto last = busy.reply();
  EXPECT_EQ(last.body, "second");
  EXPECT_EQ(last.header("Connection"), "close");
  EXPECT_TRUE(busy.at_end());
  busy.close();
  draining.join();
  EXPECT_EQ(server->stats().connections_open, 0u);
}

TEST(Drain, LetsARequestBeingReceivedArrive) {
  EdgeServer server;
  RawClient client(server.port());
  ASSERT_TRUE(
      client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n"
                  "Expect: 100-continue\r\n\r\n"));
  ASSERT_EQ(client.reply().status, 100);  // the head has been read
  ASSERT_TRUE(client.send("abc"));
  const auto port = server.port();
  std::thread draining([&] { server->drain(); });
  while (RawClient(port).connected()) {
  }
  ASSERT_TRUE(client.send("def"));
  const auto reply = client.reply();
  EXPECT_EQ(reply.body, "abcdef");
  EXPECT_EQ(reply.header("Connection"), "close");
  EXPECT_TRUE(client.at_end());
  client.close();
  draining.join();
}

TEST(Drain, GivesUpAtItsTimeout) {
  auto options = edge_options();
  options.drain_timeout = 100ms;
  EdgeServer server(options);
  RawClient client(server.port());
  ASSERT_TRUE(client.send(get("/held")));
  const auto responders = server.held.take(1);
  server->drain();
  EXPECT_EQ(server->stats().connections_open, 1u);
}

TEST(Stop, EndsEveryConnectionWithoutADrain) {
  auto client = std::make_unique<RawClient>(0);
  {
    EdgeServer server;
    client = std::make_unique<RawClient>(server.port());
    ASSERT_EQ(client->get("/").status, 200);
    ASSERT_TRUE(client->send(get("/held")));
    server.held.take(1);
  }
  client->rest();
}

}  // namespace
}  // namespace postern::http
