#include "http/preconditions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/code_of.h"

namespace postern::http {
namespace {

using Headers = std::vector<std::pair<std::string, std::string>>;
constexpr std::optional<std::uint64_t> kNone;
constexpr std::optional<std::uint64_t> kSeven(7);

Result<Preconditions> conditions(const Headers& headers) {
  Request request;
  for (const auto& [name, value] : headers) request.headers.emplace_back(name, value);
  return Preconditions::of(request);
}

bool pass(const Headers& headers, std::optional<std::uint64_t> current) {
  const auto status = conditions(headers).value().check(current);
  EXPECT_THAT(test::code_of(status), testing::AnyOf(std::nullopt, ErrorCode::PreconditionFailed));
  return status.ok();
}

TEST(Rfc9110_13_1_1, IfMatchWantsOneOfTheseVersions) {
  EXPECT_TRUE(pass({}, kSeven));
  EXPECT_TRUE(pass({}, kNone));
  EXPECT_TRUE(pass({{"If-Match", "\"7\""}}, kSeven));
  EXPECT_TRUE(pass({{"if-match", "\"6\" , \"7\""}}, kSeven));
  EXPECT_TRUE(pass({{"If-Match", "\"6\""}, {"If-Match", "\"7\""}}, kSeven));
  EXPECT_TRUE(pass({{"If-Match", "\"a,b\",,\"7\","}}, kSeven));
  EXPECT_FALSE(pass({{"If-Match", "\"8\""}}, kSeven));
  EXPECT_FALSE(pass({{"If-Match", "\"07\""}}, kSeven));
  EXPECT_FALSE(pass({{"If-Match", "\"7\""}}, kNone));
}

TEST(Rfc9110_13_1_1, IfMatchStarWantsSomethingThere) {
  EXPECT_TRUE(pass({{"If-Match", "*"}}, kSeven));
  EXPECT_FALSE(pass({{"If-Match", "*"}}, kNone));
}

TEST(Rfc9110_13_1_1, IfMatchNeverTakesAWeakTag) {
  EXPECT_FALSE(pass({{"If-Match", "W/\"7\""}}, kSeven));
}

TEST(Rfc9110_13_1_2, IfNoneMatchWantsNoneOfTheseVersions) {
  EXPECT_TRUE(pass({{"If-None-Match", "\"6\""}}, kSeven));
  EXPECT_TRUE(pass({{"If-None-Match", "\"7\""}}, kNone));
  EXPECT_FALSE(pass({{"If-None-Match", "\"6\", \"7\""}}, kSeven));
  EXPECT_FALSE(pass({{"If-None-Match", "W/\"7\""}}, kSeven));  // weak comparison
}

TEST(Rfc9110_13_1_2, IfNoneMatchStarWantsNothingThere) {
  EXPECT_TRUE(pass({{"If-None-Match", "*"}}, kNone));
  EXPECT_FALSE(pass({{"If-None-Match", "*"}}, kSeven));
}

TEST(Rfc9110_13_2_2, BothMustHold) {
  EXPECT_FALSE(pass({{"If-Match", "*"}, {"If-None-Match", "*"}}, kSeven));
  EXPECT_FALSE(pass({{"If-Match", "*"}, {"If-None-Match", "*"}}, kNone));
  EXPECT_TRUE(pass({{"If-Match", "\"7\""}, {"If-None-Match", "\"6\""}}, kSeven));
}

TEST(Rfc9110_13_2_2, AReadOfTheSameVersionIsNotModified) {
  EXPECT_TRUE(conditions({{"If-None-Match", "W/\"7\""}}).value().not_modified(7).value());
  EXPECT_TRUE(conditions({{"If-None-Match", "*"}}).value().not_modified(7).value());
  EXPECT_FALSE(conditions({{"If-None-Match", "\"6\""}}).value().not_modified(7).value());
  EXPECT_FALSE(conditions({}).value().not_modified(7).value());
  EXPECT_EQ(test::code_of(conditions({{"If-Match", "\"6\""}}).value().not_modified(7)),
            ErrorCode::PreconditionFailed);
}

TEST(Rfc9110_8_8_1, WhatChangesWithinAVersionHasAnotherTag) {
  EXPECT_EQ(etag(7), "\"7\"");
  EXPECT_EQ(etag(7, 0), "\"7\"");
  EXPECT_EQ(etag(7, 12), "\"7.12\"");
  const auto holds = [](const char* sent, const std::string& current) {
    return conditions({{"If-Match", sent}}).value().check_tag(current).ok();
  };
  EXPECT_TRUE(holds("\"7.1\"", etag(7, 1)));
  EXPECT_FALSE(holds("\"7\"", etag(7, 1)));
  EXPECT_FALSE(holds("\"7.1\"", etag(7)));
  EXPECT_FALSE(holds("\"7.1\"", etag(7, 11)));
  EXPECT_TRUE(holds("*", etag(7, 1)));
  EXPECT_TRUE(
      conditions({{"If-None-Match", "\"7.1\""}}).value().not_modified_tag(etag(7, 1)).value());
  EXPECT_FALSE(
      conditions({{"If-None-Match", "\"7\""}}).value().not_modified_tag(etag(7, 1)).value());
}

TEST(Rfc9110_8_8_3, RefusesWhatIsNoEntityTag) {
  for (const char* text : {"", " ", ",", "7", "\"7", "7\"", "\"7\"8\"", "\"7\" \"8\"", "*, \"7\"",
                           "**", "w/\"7\"", "W/7", "W/ \"7\"", "\"\x7f\"", "\"a b\""}) {
    for (const char* name : {"If-Match", "If-None-Match"}) {
      EXPECT_EQ(test::code_of(conditions({{name, text}})), ErrorCode::MalformedRequest)
          << name << ": " << text;
    }
  }
  std::string many = "\"1\"";
  for (int i = 0; i < 64; ++i) many += ",\"1\"";
  EXPECT_FALSE(conditions({{"If-Match", many}}).ok());
}

}  // namespace
}  // namespace postern::http
