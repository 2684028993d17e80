#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "grants/entitlement.h"
#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::GrantsFixture;
using test::seconds_of;
using token::Json;

/// The fixture with a demand on `files` and `github`.
struct StepUp : GrantsFixture {
  void demand(const Json& require) {
    for (const char* name : {"files", "github"}) backend(name)["require"] = require;
    backend("github")["token_field"] = "token";
    load();
    store("github", "alice", {{"token", "ghp"}});
  }
  Result<IssuedToken> with(const Json& context, const char* audience = "files") {
    auto claims = this->claims();
    for (const auto& [name, value] : context.items()) claims[name] = value;
    token = idp.sign(claims);
    auto asked = request(token);
    asked.audiences = {audience};
    return exchange(asked);
  }
  std::string token;
};

TEST(StepUp, Rfc9470_AnyOfTheAcrValuesWillDo) {
  StepUp f;
  f.demand({{"acr", {"urn:gold", "urn:silver"}}});
  EXPECT_TRUE(f.with({{"acr", "urn:silver"}}).ok());
  EXPECT_TRUE(f.with({{"acr", "urn:gold"}}).ok());
  for (const Json& context : {Json::object(), Json{{"acr", "urn:bronze"}}, Json{{"acr", "urn:gol"}},
                              Json{{"acr", "urn:gold urn:silver"}}, Json{{"acr", 1}},
                              Json{{"acr", Json::array({"urn:gold"})}}}) {
    const auto refused = f.with(context);
    ASSERT_EQ(code_of(refused), ErrorCode::InsufficientAuthentication) << context;
    EXPECT_EQ(refused.error().remedy.acr_values, "urn:gold urn:silver");
    EXPECT_FALSE(refused.error().remedy.max_age);
  }
}

TEST(StepUp, AllOfTheMethodsAreNeeded) {
  StepUp f;
  f.demand({{"amr", {"hwk", "pin"}}});
  EXPECT_TRUE(f.with({{"amr", {"pin", "pwd", "hwk"}}}).ok());
  for (const Json& context :
       {Json::object(), Json{{"amr", Json::array({"hwk"})}}, Json{{"amr", Json::array()}},
        Json{{"amr", "hwk pin"}}, Json{{"amr", {{"hwk", true}, {"pin", true}}}}}) {
    EXPECT_EQ(code_of(f.with(context)), ErrorCode::InsufficientAuthentication) << context;
  }
}

TEST(StepUp, Rfc9470_AuthenticationMayBeTooLongAgo) {
  StepUp f;
  f.demand({{"max_auth_age", 600}});
  const auto at = [&](std::chrono::seconds ago) {
    return Json{{"auth_time", seconds_of(f.clock.now() - ago)}};
  };
  EXPECT_TRUE(f.with(at(0s)).ok());
  EXPECT_TRUE(f.with(at(600s)).ok());
  for (const Json& context :
       {at(601s), at(100'000s), at(-61s), Json::object(), Json{{"auth_time", "now"}},
        Json{{"auth_time", true}}, Json{{"auth_time", nullptr}}}) {
    const auto refused = f.with(context);
    ASSERT_EQ(code_of(refused), ErrorCode::InsufficientAuthentication) << context;
    EXPECT_EQ(refused.error().remedy.max_age, 600s);
    EXPECT_EQ(refused.error().remedy.acr_values, "");
  }
  // A token that is remembered grows too old as well.
  ASSERT_TRUE(f.with(at(500s)).ok());
  f.clock.advance(101s);
  auto again = f.request(f.token);
  EXPECT_EQ(code_of(f.exchange(again)), ErrorCode::InsufficientAuthentication);
}

TEST(StepUp, TheWholeDemandIsTheRemedy) {
  StepUp f;
  f.demand({{"acr", {"urn:gold"}}, {"max_auth_age", 60}});
  const auto refused = f.with({{"acr", "urn:gold"}});
  ASSERT_EQ(code_of(refused), ErrorCode::InsufficientAuthentication);
  EXPECT_EQ(refused.error().remedy.acr_values, "urn:gold");
  EXPECT_EQ(refused.error().remedy.max_age, 60s);
}

TEST(StepUp, HoldsForAReleaseAndAStoredCredential) {
  StepUp f;
  f.demand({{"acr", {"urn:gold"}}});
  EXPECT_EQ(code_of(f.with(Json::object(), "github")), ErrorCode::InsufficientAuthentication);
  EXPECT_TRUE(f.with({{"acr", "urn:gold"}}, "github").ok());
  const auto subject = f.subject_token();
  const auto verified = test::must(f.release.verify_subject(
      *f.snapshot, f.caller(), subject, GrantsFixture::kAccessToken, Wait::Yes));
  for (const char* backend : {"files", "github"}) {
    auto record = f.record();
    EXPECT_EQ(code_of(f.release.release(*f.snapshot, f.caller(), *verified,
                                        {backend, false, std::nullopt}, record)),
              ErrorCode::InsufficientAuthentication)
        << backend;
  }
}

TEST(StepUp, IsAskedOnlyOfWhomThenGetsIn) {
  StepUp f;
  f.demand({{"acr", {"urn:gold"}}});
  EXPECT_EQ(code_of(f.with({{"groups", {"sales"}}})), ErrorCode::TargetRefused);
  EXPECT_TRUE(f.with(Json::object(), "search").ok());  // which demands nothing
}

TEST(StepUp, AClientByItselfIsNoUser) {
  StepUp f;
  f.demand({{"acr", {"urn:gold"}}});
  auto record = f.record();
  EXPECT_TRUE(
      f.client_credentials.grant(*f.snapshot, f.caller(), {"files"}, {}, std::nullopt, record)
          .ok());
}

}  // namespace
}  // namespace postern::grants
