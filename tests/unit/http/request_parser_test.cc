#include "http/request_parser.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace postern::http {
namespace {

ParserLimits small_limits() {
  ParserLimits limits;
  limits.max_header_bytes = 1024;
  limits.max_headers = 10;
  limits.max_body_bytes = 100;
  limits.max_target_bytes = 128;
  return limits;
}

struct Outcome {
  int status = 0;  // 0: read to the end without an error
  std::vector<std::string> requests;
};

std::string describe(const Request& request) {
  return request.method + ' ' + request.path + (request.query.empty() ? "" : '?' + request.query) +
         request.body.expose([](ByteView body) {
           return body.empty() ? std::string() : ' ' + std::string(as_text(body));
         });
}

Outcome read(std::string_view stream, std::size_t piece = 1 << 20) {
  RequestParser parser(small_limits());
  Outcome outcome;
  while (!stream.empty()) {
    const auto part = stream.substr(0, piece);
    const auto used = parser.feed(part);
    stream.remove_prefix(used);
    if (parser.state() == RequestParser::State::Failed) {
      outcome.status = parser.error_status();
      return outcome;
    }
    if (parser.state() == RequestParser::State::Complete) {
      outcome.requests.push_back(describe(*parser.take()));
    }
  }
  return outcome;
}

std::string get(std::string_view headers, std::string_view line = "GET / HTTP/1.1") {
  return std::string(line) + "\r\n" + std::string(headers) + "\r\n";
}

/// Status of the stream, the same however it is cut.
int status_of(std::string_view stream) {
  const int whole = read(stream).status;
  EXPECT_EQ(read(stream, 1).status, whole) << stream;
  EXPECT_EQ(read(stream, 3).status, whole) << stream;
  return whole;
}

TEST(RequestParser, ReadsPipelinedRequestsInAnyPieces) {
  const std::string stream =
      "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
      "POST /b HTTP/1.1\r\nHost: x:80\r\nContent-Length: 5\r\n\r\nhello"
      "POST /c HTTP/1.1\r\nhost: [::1]:8080\r\nTransfer-Encoding: Chunked\r\n\r\n"
      "5;a=\"b c\"\r\nhello\r\n0006\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n"
      "\r\nGET /d HTTP/1.0\r\n\r\n";
  const std::vector<std::string> expected = {"GET /a?b=c", "POST /b hello", "POST /c hello world",
                                             "GET /d"};
  for (const std::size_t piece : {1u, 2u, 3u, 7u, 50u, 1000u}) {
    const auto outcome = read(stream, piece);
    EXPECT_EQ(outcome.status, 0) << piece;
    EXPECT_EQ(outcome.requests, expected) << piece;
  }
}

TEST(RequestParser, KeepAliveFollowsVersionAndConnection) {
  const auto keep = [](std::string_view text) {
    RequestParser parser(small_limits());
    parser.feed(text);
    EXPECT_EQ(parser.state(), RequestParser::State::Complete);
    return parser.keep_alive();
  };
  EXPECT_TRUE(keep("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_FALSE(keep("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n"));
  EXPECT_FALSE(keep("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(keep("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
}

TEST(RequestParser, ExpectContinueIsToldOnce) {
  RequestParser parser(small_limits());
  parser.feed("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n");
  EXPECT_TRUE(parser.take_expect_continue());
  EXPECT_FALSE(parser.take_expect_continue());
  parser.feed("ab");
  EXPECT_EQ(parser.state(), RequestParser::State::Complete);
}

TEST(RequestParser, BodyThatHasBegunNeedsNoContinue) {
  RequestParser parser(small_limits());
  parser.feed("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\na");
  EXPECT_FALSE(parser.take_expect_continue());
}

TEST(Rfc9112_3_2, TargetForms) {
  const auto target = [](std::string_view text, std::string_view host = "a.example") {
    const auto outcome =
        read("GET " + std::string(text) + " HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n");
    return outcome.status != 0 ? std::to_string(outcome.status) : outcome.requests.at(0);
  };
  EXPECT_EQ(target("http://a.example/x?y"), "GET /x?y");
  EXPECT_EQ(target("HTTPS://A.example"), "GET /");
  EXPECT_EQ(target("http://[::1]:8/x", "[::1]:8"), "GET /x");
  EXPECT_EQ(target("http://b.example/x"), "400") << "Host says another";
  EXPECT_EQ(target("http://user:pass@a.example/x"), "400");
  EXPECT_EQ(target("ftp://a.example/x"), "400");
  EXPECT_EQ(target("http:///x"), "400");
  EXPECT_EQ(target("a.example:443"), "400");
  EXPECT_EQ(target("foo/bar"), "400");
  EXPECT_EQ(target("*"), "400");
  EXPECT_EQ(read(get("Host: x\r\n", "OPTIONS * HTTP/1.1")).requests.at(0), "OPTIONS *");
  EXPECT_EQ(status_of(get("Host: x\r\n", "CONNECT a:443 HTTP/1.1")), 400);
}

TEST(RequestParser, RefusesBadRequestLines) {
  for (const std::string line : {"GET  / HTTP/1.1",
                                 "GET / HTTP/1.1 ",
                                 " GET / HTTP/1.1",
                                 "GET /  HTTP/1.1",
                                 "GET\t/ HTTP/1.1",
                                 "GET /",
                                 "GET",
                                 "GET / HTTP/",
                                 "GET / HTTP/1",
                                 "GET / HTTP/1.",
                                 "GET / HTTP/1.2",
                                 "GET / HTTP/2.0",
                                 "GET / HTTP/0.9",
                                 "GET / HTTP/11",
                                 "GET / HTTP/111",
                                 "GET / HTTP/1.10",
                                 "GET / http/1.1",
                                 "GET / FTP/1.1",
                                 "GET /a b HTTP/1.1",
                                 "G(T / HTTP/1.1",
                                 "GET: / HTTP/1.1",
                                 "bla:rgh / HTTP/1.1",
                                 "GET /\xc3\xa9 HTTP/1.1",
                                 "GET /a#b HTTP/1.1",
                                 "GET /\x7f HTTP/1.1",
                                 "GET /\" HTTP/1.1",
                                 "GET /<a> HTTP/1.1",
                                 "GET /a\\b HTTP/1.1",
                                 "GET\xc3\x9f / HTTP/1.1",
                                 "PRI * HTTP/2.0",
                                 "\r\nGET / HTTP/1.1",
                                 "\rGET / HTTP/1.1"}) {
    if (line == "\r\nGET / HTTP/1.1") {
      EXPECT_EQ(status_of(get("Host: x\r\n", "\r\n" + line)), 400) << "two empty lines";
      continue;
    }
    EXPECT_EQ(status_of(get("Host: x\r\n", line)), 400) << line;
  }
  EXPECT_EQ(status_of(std::string("GET\0 / HTTP/1.1\r\nHost: x\r\n\r\n", 28)), 400);
  EXPECT_EQ(status_of(get("Host: x\r\n", std::string(33, 'M') + " / HTTP/1.1")), 400);
  EXPECT_EQ(status_of("\x16\x03\x01\x02"), 400) << "TLS to a plain port";
}

TEST(RequestParser, RefusesBadHeaderLines) {
  for (const std::string_view headers :
       {"Host: x\r\nA : b\r\n", "Host : x\r\n", "Host: x\r\n: b\r\n", "Host: x\r\nnocolon\r\n",
        "Host: x\r\nA: b\r\n c\r\n", "Host: x\r\nA:\r\n\tb\r\n", " Host: x\r\n",
        "Host: x\r\n A: b\r\n", "Host: x\r\nA: b\nC: d\r\n", "Host: x\nA: b\r\n",
        "Host: x\r\nA: b\rc\r\n", "Host: x\r\nA: \x07\r\n", "Host: x\r\nA: \x7f\r\n",
        "Host: x\r\nA\xc3\x9f: b\r\n", "Host: x\r\nA(: b\r\n", "Host: x\r\nConnection: ,;\r\n"}) {
    EXPECT_EQ(status_of(get(headers)), 400) << headers;
  }
  EXPECT_EQ(status_of(get(std::string_view("Host: x\r\nA: b\0c\r\n", 17))), 400);
  EXPECT_EQ(status_of(get(std::string_view("Host: x\r\nA\0: bc\r\n", 17))), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\nHost: x\n\n"), 400);
  EXPECT_EQ(status_of(get("Host: x\r\nA:\tb \t\r\nB: caf\xc3\xa9\r\nX.Y|Z: \r\n")), 0);
}

TEST(Rfc9112_3_2, HostIsThereOnceAndLooksLikeOne) {
  EXPECT_EQ(status_of(get("")), 400);
  EXPECT_EQ(status_of(get("", "GET / HTTP/1.0")), 0);
  EXPECT_EQ(status_of(get("Host: a\r\nHost: a\r\n")), 400);
  EXPECT_EQ(status_of(get("Host: a\r\nHost: b\r\n", "GET / HTTP/1.0")), 400);
  for (const std::string host :
       {"", "a b", "a,b", "a/b", "a@b", "a:", "a:x", "a:123456", ":80", "[::1", "[]", "[::1]x",
        "[g::1]", "a?b", "0.0.0.0=5000", "\xc3\xa9.example", "a:80:80", "a\"b"}) {
    EXPECT_EQ(status_of(get("Host: " + host + "\r\n")), 400) << host;
  }
  for (const std::string host : {"a", "a.b-c_d.example:1", "[::1]:65535", "127.0.0.1:8080"}) {
    EXPECT_EQ(status_of(get("Host: " + host + "\r\n")), 0) << host;
  }
}

TEST(Smuggling, OneExactContentLengthOrNothing) {
  for (const std::string value : {"3, 3", "3,3", "+3", "-3", "-0", "3abc", "0x3", "3 3", "3_0", "",
                                  "1e1", "\xd9\xa3", "99999999999999999999"}) {
    EXPECT_EQ(status_of(get("Host: x\r\nContent-Length: " + value + "\r\n") + "abc"), 400) << value;
  }
  EXPECT_EQ(status_of(get("Host: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n") + "abc"), 400);
  EXPECT_EQ(status_of(get("Host: x\r\nContent-Length: 3\r\ncontent-length: 2\r\n") + "abc"), 400);
  EXPECT_EQ(status_of(get("Host: x\r\nContent_Length: 3\r\n") + "abc"), 400);
  EXPECT_EQ(status_of(get("Host: x\r\nContent-Length: 0003\r\n") + "abc"), 0);
}

TEST(Smuggling, TransferEncodingIsChunkedAlone) {
  const std::string body = "0\r\n\r\n";
  for (const std::string headers :
       {"Transfer-Encoding: identity\r\n", "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n", "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n", "Transfer-Encoding:\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "Transfer_Encoding: chunked\r\n"}) {
    EXPECT_EQ(status_of(get("Host: x\r\n" + headers) + body), 400) << headers;
  }
  EXPECT_EQ(status_of(get("Host: x\r\nTransfer-Encoding: chunked\r\n", "POST / HTTP/1.0") + body),
            400);
  EXPECT_EQ(status_of(get("Host: x\r\nTransfer-Encoding: \tchunked \r\n") + body), 0);
}

TEST(Smuggling, ChunksAreExact) {
  const auto head = get("Host: x\r\nTransfer-Encoding: chunked\r\n", "POST / HTTP/1.1");
  for (const std::string_view body : {"\r\nhello\r\n0\r\n\r\n",
                                      " 5\r\nhello\r\n0\r\n\r\n",
                                      "5 \r\nhello\r\n0\r\n\r\n",
                                      "+5\r\nhello\r\n0\r\n\r\n",
                                      "-5\r\nhello\r\n0\r\n\r\n",
                                      "0x5\r\nhello\r\n0\r\n\r\n",
                                      "5_0\r\nhello\r\n0\r\n\r\n",
                                      "5\nhello\r\n0\r\n\r\n",
                                      "5\r\nhello0\r\n\r\n",
                                      "5\r\nhello\n0\r\n\r\n",
                                      "5\r\nhelloX\r\n0\r\n\r\n",
                                      "5\rhello\r\n0\r\n\r\n",
                                      ";a=b\r\nhello\r\n0\r\n\r\n",
                                      "5;a=\rb\r\nhello\r\n0\r\n\r\n",
                                      "5;a=\nb\r\nhello\r\n0\r\n\r\n",
                                      "5;\x07\r\nhello\r\n0\r\n\r\n",
                                      "00000000000000005\r\nhello\r\n0\r\n\r\n",
                                      "0\r\n\n",
                                      "0\n\r\n",
                                      "0\r\nX\r\n\r\n",
                                      "0\r\nX : y\r\n\r\n",
                                      "0\r\n X: y\r\n\r\n",
                                      "0\r\nX: y\n\r\n",
                                      "0\r\nX: \x01\r\n\r\n",
                                      "0\r\nContent-Length: 9\r\n\r\n",
                                      "0\r\nTransfer-Encoding: chunked\r\n\r\n",
                                      "0\r\nHost: evil\r\n\r\n",
                                      "0\r\nauthorization: x\r\n\r\n"}) {
    EXPECT_EQ(status_of(head + std::string(body)), 400) << body;
  }
  EXPECT_EQ(status_of(head + "A;x=\"y\"\r\n0123456789\r\n000\r\nX-T: y\r\n\r\n"), 0);
}

TEST(Limits, BodySizeIsKnownBeforeItComes) {
  EXPECT_EQ(status_of(get("Host: x\r\nContent-Length: 100\r\n") + std::string(100, 'x')), 0);
  EXPECT_EQ(status_of(get("Host: x\r\nContent-Length: 101\r\n")), 413);
  EXPECT_EQ(status_of(get("Host: x\r\nContent-Length: 9223372036854775807\r\n")), 413);
  const auto head = get("Host: x\r\nTransfer-Encoding: chunked\r\n");
  EXPECT_EQ(status_of(head + "65\r\n"), 413);
  EXPECT_EQ(status_of(head + "ffffffffffffffff\r\n"), 413);
  const auto full = head + "64\r\n" + std::string(100, 'x') + "\r\n";
  EXPECT_EQ(status_of(full + "0\r\n\r\n"), 0);
  EXPECT_EQ(status_of(full + "1\r\nx\r\n"), 413);
}

TEST(Limits, HeadersTargetsAndChunkOverhead) {
  std::string headers = "Host: x\r\n";
  for (int i = 0; i < 9; ++i) headers += "A: b\r\n";
  EXPECT_EQ(status_of(get(headers)), 0);
  EXPECT_EQ(status_of(get(headers + "A: b\r\n")), 431);
  const std::string most = "Host: x\r\nA: " + std::string(1024 - 16 - 9 - 3 - 4, 'x') + "\r\n";
  EXPECT_EQ(get(most).size(), 1024u);
  EXPECT_EQ(status_of(get(most)), 0);
  EXPECT_EQ(status_of(get("B:\r\n" + most)), 431);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nA: " + std::string(2000, 'x')), 431);
  EXPECT_EQ(status_of(get("Host: x\r\n", "GET /" + std::string(127, 'x') + " HTTP/1.1")), 0);
  EXPECT_EQ(status_of(get("Host: x\r\n", "GET /" + std::string(128, 'x') + " HTTP/1.1")), 414);
  EXPECT_EQ(status_of("GET /" + std::string(2000, 'x')), 414);
  const auto head = get("Host: x\r\nTransfer-Encoding: chunked\r\n");
  EXPECT_EQ(status_of(head + "1;" + std::string(2000, 'x')), 400);
  EXPECT_EQ(status_of(head + "0\r\nA: " + std::string(2000, 'x')), 431);
  std::string trailers;
  for (int i = 0; i < 11; ++i) trailers += "A: b\r\n";
  EXPECT_EQ(status_of(head + "0\r\n" + trailers), 431);
}

TEST(Rfc9110_10_1_1, UnknownExpectationFails) {
  EXPECT_EQ(status_of(get("Host: x\r\nExpect: 200-ok\r\n")), 417);
  EXPECT_EQ(status_of(get("Expect: 200-ok\r\n", "GET / HTTP/1.0")), 0);
}

TEST(RequestParser, BadLinesAreRefusedBeforeTheHeadIsComplete) {
  EXPECT_EQ(status_of("GET /\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nA: b\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nA: b\r\n "), 400);
}

TEST(RequestParser, NothingIsReadAfterAnError) {
  RequestParser parser(small_limits());
  const std::string stream = "BAD\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
  parser.feed(stream);
  EXPECT_EQ(parser.state(), RequestParser::State::Failed);
  EXPECT_EQ(parser.feed(stream), 0u);
}

}  // namespace
}  // namespace postern::http
