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

TEST_F(RouterTest, MistakesInRoutesShowAtStart) {
  EXPECT_THROW(add("GET", "/", Pool::Inline), std::logic_error);
  EXPECT_THROW(add("GET", "no-slash", Pool::Inline), std::logic_error);
  EXPECT_THROW(add("", "/x", Pool::Inline), std::logic_error);
}

}  // namespace
}  // namespace postern::http
