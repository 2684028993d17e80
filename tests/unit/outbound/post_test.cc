// POST through the one way out: the same walls as GET, and a body and a
// credential that reach nobody else.

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <utility>

#include "outbound/fetch.h"
#include "unit/outbound/local_server.h"

namespace postern::outbound {
namespace {

using namespace std::chrono_literals;

FetchPolicy loopback_policy() {
  FetchPolicy policy;
  policy.allow_insecure_loopback = true;
  return policy;
}

PostRequest canary_request(std::string url) {
  PostRequest request{std::move(url), form_body({{"token", "canary-token"}})};
  request.authorization = Authorization(SecureBuffer::copy_of("Basic Y2FuYXJ5OnNlY3JldA=="));
  return request;
}

Result<FetchReply> post(const std::string& url, FetchPolicy policy = loopback_policy(),
                        Resolver resolver = resolve_with_system) {
  return CurlFetcher(std::move(policy), std::move(resolver)).post(canary_request(url));
}

std::string failure(const Result<FetchReply>& reply) {
  if (reply.ok()) return "(sent)";
  EXPECT_EQ(reply.error().code, ErrorCode::Unavailable);
  EXPECT_EQ(reply.error().detail, "an outside service could not be reached");
  for (const char* canary : {"canary", "Y2FuYXJ5", "://"}) {
    EXPECT_EQ(reply.error().diagnostic.find(canary), std::string::npos);
  }
  return reply.error().diagnostic;
}

/// Sends back the request, which is small enough to arrive at once.
std::string echo(std::string request) {
  const auto end = request.find("\r\n\r\n");
  const auto length = std::stoul(request.substr(request.find("Content-Length: ") + 16));
  while (request.size() < end + 4 + length) request += '?';
  return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
         std::to_string(request.size()) + "\r\n\r\n" + request;
}

TEST(Post, SendsAFormWithTheCredentialAndNothingElse) {
  LocalServer server([](const LocalServer::Connection& connection, const std::string& head) {
    connection.send(echo(head));
  });
  const auto reply = post(server.url("/introspect"));
  ASSERT_TRUE(reply.ok()) << reply.error().diagnostic;
  const auto& seen = reply.value().body;
  EXPECT_EQ(seen.substr(0, seen.find("\r\n")), "POST /introspect HTTP/1.1");
  for (const char* line :
       {"\r\nContent-Type: application/x-www-form-urlencoded\r\n",
        "\r\nAuthorization: Basic Y2FuYXJ5OnNlY3JldA==\r\n", "\r\nAccept: application/json\r\n",
        "\r\nContent-Length: 18\r\n", "\r\nUser-Agent: postern\r\n"}) {
    EXPECT_NE(seen.find(line), std::string::npos) << line << seen;
  }
  EXPECT_EQ(seen.find("Expect"), std::string::npos);
  EXPECT_EQ(seen.find("Cookie"), std::string::npos);
}

TEST(Post, FollowsNoRedirectWithItsBody) {
  LocalServer elsewhere("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  for (const char* status : {"301 Moved", "302 Found", "307 Temporary", "308 Permanent"}) {
    LocalServer server("HTTP/1.1 " + std::string(status) + "\r\nLocation: " + elsewhere.url() +
                       "\r\nContent-Length: 0\r\n\r\n");
    const auto reply = post(server.url());
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ(reply.value().status, std::stoi(status));
  }
  EXPECT_TRUE(elsewhere.heads().empty());
}

TEST(Post, GoesNowhereThatAGetMayNotGo) {
  LocalServer server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  const auto port = std::to_string(server.port());
  EXPECT_EQ(failure(post(server.url(), FetchPolicy{})), "fetch: URL refused");
  EXPECT_EQ(failure(post("https://127.0.0.1:" + port, FetchPolicy{})), "fetch: URL refused");
  EXPECT_EQ(failure(post("http://idp.example:" + port)), "fetch: URL refused");
  EXPECT_EQ(failure(post("https://user:pw@idp.example/")), "fetch: URL refused");
  EXPECT_EQ(failure(post("https://169.254.169.254/latest")), "fetch: URL refused");
  for (const char* address :
       {"127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"}) {
    const auto inside = [&](const std::string&, std::chrono::milliseconds) {
      return std::vector<IpAddress>{*IpAddress::parse(address)};
    };
    EXPECT_EQ(failure(post("https://idp.example:" + port, FetchPolicy{}, inside)),
              "fetch: address not allowed")
        << address;
  }
  EXPECT_TRUE(server.heads().empty());
}

TEST(Post, BoundsTheAnswerAndTheTime) {
  LocalServer endless([](const LocalServer::Connection& connection, const std::string&) {
    connection.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    while (connection.send(std::string(4096, 'x'))) {
    }
  });
  EXPECT_EQ(failure(post(endless.url())), "fetch: body too large");
  LocalServer silent([](const LocalServer::Connection& connection, const std::string&) {
    connection.wait_until_gone();
  });
  auto policy = loopback_policy();
  policy.timeout = 200ms;
  EXPECT_EQ(failure(post(silent.url(), policy)), "fetch: curl code 28");
}

TEST(Post, IsNotRepeatedWhenTheConnectionBreaks) {
  LocalServer server([](const LocalServer::Connection&, const std::string&) {});
  EXPECT_EQ(failure(post(server.url())), "fetch: curl code 52");
  EXPECT_EQ(server.heads().size(), 1u);
}

TEST(Post, AnEmptyFormIsAnEmptyBody) {
  LocalServer server([](const LocalServer::Connection& connection, const std::string& head) {
    connection.send(echo(head));
  });
  const auto reply = CurlFetcher(loopback_policy()).post(PostRequest{server.url(), form_body({})});
  ASSERT_TRUE(reply.ok());
  EXPECT_NE(reply.value().body.find("\r\nContent-Length: 0\r\n"), std::string::npos);
  EXPECT_EQ(reply.value().body.find("Authorization"), std::string::npos);
}

}  // namespace
}  // namespace postern::outbound
