#include "http/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

namespace postern::http {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct RouterTest : ::testing::Test {
  RouterTest() {
    add("GET", "/", Pool::Inline);
    add("POST", "/t/{}/token", Pool::Compute);
    add("GET", "/t/{}/jwks", Pool::Inline);
    add("GET", "/t/fixed/jwks", Pool::Database);
    add("PUT", "/api/v1/tenants/{}/backends/{}", Pool::Database);
    add("DELETE", "/api/v1/tenants/{}/backends/{}", Pool::Database);
    add("GET", "/api/v1/tenants/{}/backends/{}", Pool::Database);
    add("LIST", "/v1/secret/metadata/", Pool::Database);
    add("GET", "/v1/{}/data/{...}", Pool::Database);
    add("PUT", "/v1/{}/data/{...}", Pool::Compute);
    add("GET", "/v1/{}/data/{}/{}/exactly", Pool::Outbound);
  }
  void add(std::string_view method, std::string_view pattern, Pool pool) {
    router.add(method, pattern, pool, [](std::shared_ptr<Request>, Responder) {});
  }
  bool found(std::string_view method, std::string_view path) const {
    return router.match(method, path).handler != nullptr;
  }
  Router router;
};

TEST_F(RouterTest, FindsLiteralsAndParameters) {
  EXPECT_TRUE(found("GET", "/"));
  const auto match = router.match("PUT", "/api/v1/tenants/acme/backends/files-1");
  ASSERT_NE(match.handler, nullptr);
  EXPECT_EQ(match.pool, Pool::Database);
  EXPECT_THAT(match.parameters, ElementsAre("acme", "files-1"));
  EXPECT_THAT(match.allow, IsEmpty());
}

TEST_F(RouterTest, DecodesParameters) {
  EXPECT_THAT(router.match("GET", "/t/a%2Db%20%C3%A9/jwks").parameters,
              ElementsAre("a-b \xc3\xa9"));
}

TEST_F(RouterTest, LiteralWinsAndFallsBackToTheParameter) {
  EXPECT_EQ(router.match("GET", "/t/fixed/jwks").pool, Pool::Database);
  const auto match = router.match("POST", "/t/fixed/token");
  ASSERT_NE(match.handler, nullptr);
  EXPECT_THAT(match.parameters, ElementsAre("fixed"));
}

TEST_F(RouterTest, PathsAreExact) {
  for (const auto* path : {"",
                           "t/acme/jwks",
                           "//",
                           "/t//jwks",
                           "/t/acme/jwks/",
                           "/t/acme//jwks",
                           "//t/acme/jwks",
                           "/T/acme/jwks",
                           "/t/acme/JWKS",
                           "/t/acme/jwk%73",
                           "/t/./jwks",
                           "/t/../jwks",
                           "/t/%2e/jwks",
                           "/t/%2E%2e/jwks",
                           "/t/a%2Fb/jwks",
                           "/t/a%2fb/jwks",
                           "/t/a%00/jwks",
                           "/t/a%0a/jwks",
                           "/t/a%7f/jwks",
                           "/t/%/jwks",
                           "/t/%4/jwks",
                           "/t/%zz/jwks",
                           "/t/%ff/jwks",
                           "/t/acme",
                           "/t",
                           "/t/",
                           "/t/acme/",
                           "/t/acme/jwks/x",
                           "*"}) {
    EXPECT_FALSE(found("GET", path)) << path;
    EXPECT_THAT(router.match("GET", path).allow, IsEmpty()) << path;
  }
}

TEST_F(RouterTest, HeadIsAnsweredByGet) {
  EXPECT_TRUE(found("HEAD", "/"));
  EXPECT_FALSE(found("HEAD", "/t/acme/token"));
}

TEST_F(RouterTest, WrongMethodNamesTheRightOnes) {
  EXPECT_EQ(router.match("GET", "/t/acme/token").allow, "POST");
  EXPECT_EQ(router.match("PATCH", "/api/v1/tenants/a/backends/b").allow, "DELETE, GET, HEAD, PUT");
  EXPECT_EQ(router.match("get", "/").allow, "GET, HEAD") << "methods are case-sensitive";
  EXPECT_THAT(router.match("GET", "/t/acme/token").parameters, IsEmpty());
}

TEST_F(RouterTest, AnyMethodAndATrailingSlashCanBeRoutes) {
  EXPECT_TRUE(found("LIST", "/v1/secret/metadata/"));
  EXPECT_FALSE(found("LIST", "/v1/secret/metadata"));
}

TEST_F(RouterTest, AllThatIsLeftIsOneParameterDecodedSegmentBySegment) {
  const auto rest = [&](std::string_view path) {
    const auto match = router.match("PUT", "/v1/kv/data/" + std::string(path));
    EXPECT_NE(match.handler, nullptr) << path;
    return match.parameters.size() == 2 ? match.parameters[1] : "(none)";
  };
  EXPECT_EQ(rest("a"), "a");
  EXPECT_EQ(rest("a/b/c"), "a/b/c");
  EXPECT_EQ(rest("a/b/"), "a/b/") << "the slash at the end says: a folder";
  EXPECT_EQ(rest(""), "");
  EXPECT_EQ(rest("a%20b/%41"), "a b/A");
  EXPECT_EQ(rest("a/%252e%252e/b"), "a/%2e%2e/b") << "decoded once";
}

TEST_F(RouterTest, AllThatIsLeftIsNoWayAround) {
  for (const auto* path :
       {"/v1/kv/data", "/v1/kv/data//", "/v1/kv/data/a//b", "/v1/kv/data//a", "/v1/kv/data/a//",
        "/v1/kv/data/..", "/v1/kv/data/a/../b", "/v1/kv/data/a/%2e%2e/b", "/v1/kv/data/a/./b",
        "/v1/kv/data/a%2fb", "/v1/kv/data/a/%2F", "/v1/kv/data/a%00", "/v1/kv/data/a%0d%0a",
        "/v1/kv/data/%ff", "/v1/kv/data/%", "/v1/kv/data/a/%4", "/v1//data/a", "/v1/../data/a"}) {
    EXPECT_FALSE(found("PUT", path)) << path;
    EXPECT_THAT(router.match("DELETE", path).allow, IsEmpty()) << path;
  }
}

TEST_F(RouterTest, WhatIsMoreExactComesBeforeAllThatIsLeft) {
  EXPECT_EQ(router.match("GET", "/v1/kv/data/a/b/exactly").pool, Pool::Outbound);
  EXPECT_EQ(router.match("GET", "/v1/kv/data/a/b/other").pool, Pool::Database);
  const auto match = router.match("PUT", "/v1/kv/data/a/b/exactly");
  EXPECT_EQ(match.pool, Pool::Compute) << "that path has no PUT of its own";
  EXPECT_THAT(match.parameters, ElementsAre("kv", "a/b/exactly"));
  EXPECT_EQ(router.match("LIST", "/v1/kv/data/a").allow, "GET, HEAD, PUT");
}

TEST_F(RouterTest, MistakesInRoutesShowAtStart) {
  EXPECT_THROW(add("GET", "/x/{...}/y", Pool::Inline), std::logic_error);
  EXPECT_THROW(add("GET", "/", Pool::Inline), std::logic_error);
  EXPECT_THROW(add("GET", "no-slash", Pool::Inline), std::logic_error);
  EXPECT_THROW(add("", "/x", Pool::Inline), std::logic_error);
}

}  // namespace
}  // namespace postern::http
