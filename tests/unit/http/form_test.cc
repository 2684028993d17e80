#include "http/form.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace postern::http {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

ErrorCode refused(std::string_view body) {
  const auto form = Form::parse(body);
  return form.ok() ? ErrorCode::Internal : form.error().code;
}

std::string only(std::string_view body, std::string_view name) {
  const auto form = Form::parse(body);
  if (!form.ok()) return "(refused)";
  const auto value = form.value().required_single(name);
  return value.ok() ? std::string(value.value()) : "(missing)";
}

TEST(Form, DecodesPlusAndPercent) {
  EXPECT_EQ(only("scope=files%3Aread+files%3awrite", "scope"), "files:read files:write");
  EXPECT_EQ(only("a=%E2%82%AC", "a"), "\xe2\x82\xac");
  EXPECT_EQ(only("gr%61nt=x", "grant"), "x");
  EXPECT_EQ(only("a=b=c", "a"), "b=c");
  EXPECT_EQ(only("a=x y", "a"), "x y") << "what curl -d sends";
}

TEST(Form, EmptyBodyHasNoParameters) {
  const auto form = Form::parse("");
  ASSERT_TRUE(form.ok());
  EXPECT_THAT(form.value().all("a"), IsEmpty());
}

TEST(Rfc6749_3_2, ParameterWithoutValueCountsAsAbsent) {
  const auto form = Form::parse("client_secret=&scope&a=1&client_secret=");
  ASSERT_TRUE(form.ok());
  EXPECT_FALSE(form.value().required_single("client_secret").ok());
  EXPECT_EQ(form.value().optional_single("scope").value(), std::nullopt);
  EXPECT_TRUE(form.value().refuse_repeats_except({}).ok());
}

TEST(Form, KeepsEmptyValuesOfAQueryAndNamesIt) {
  const auto form = Form::parse("issuer=&dry_run&a=1", Form::Source::Query);
  ASSERT_TRUE(form.ok());
  EXPECT_EQ(form.value().optional_single("issuer").value(), "");
  EXPECT_EQ(form.value().optional_single("dry_run").value(), "");
  EXPECT_FALSE(form.value().only({"issuer", "a"}).ok());
  EXPECT_EQ(Form::parse("a=%zz", Form::Source::Query).error().detail,
            "the query string is not application/x-www-form-urlencoded in UTF-8");
}

TEST(Rfc6749_3_2, RepeatedParameterIsRefusedNotChosen) {
  const auto form = Form::parse("scope=a&grant_type=x&scope=b");
  ASSERT_TRUE(form.ok());
  EXPECT_EQ(form.value().required_single("scope").error().code, ErrorCode::MalformedRequest);
  EXPECT_EQ(form.value().optional_single("scope").error().code, ErrorCode::MalformedRequest);
  EXPECT_EQ(form.value().refuse_repeats_except({"audience"}).error().code,
            ErrorCode::MalformedRequest);
}

TEST(Rfc8693_2_1, AudienceAndResourceMayRepeatInOrder) {
  const auto form = Form::parse("audience=b&resource=r&audience=a&scope=s");
  ASSERT_TRUE(form.ok());
  EXPECT_TRUE(form.value().refuse_repeats_except({"audience", "resource"}).ok());
  EXPECT_THAT(form.value().all("audience"), ElementsAre("b", "a"));
}

TEST(Form, UnknownRepeatsAreRefusedWithoutEchoingTheName) {
  const auto form = Form::parse("canary-name=1&canary-name=2");
  ASSERT_TRUE(form.ok());
  const auto status = form.value().refuse_repeats_except({"audience"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().detail.find("canary"), std::string::npos);
}

TEST(Form, ANameSpelledTwoWaysIsOneName) {
  const auto form = Form::parse("scope=a&%73cope=b");
  ASSERT_TRUE(form.ok());
  EXPECT_FALSE(form.value().required_single("scope").ok());
}

TEST(Form, RefusesBadPercentEncoding) {
  for (const auto* body : {"a=%", "a=%4", "a=%G1", "a=%1G", "a=%%41", "%=a", "a=b%2", "a=%+1"}) {
    EXPECT_EQ(refused(body), ErrorCode::MalformedRequest) << body;
  }
}

TEST(Form, RefusesNulAndRawControlCharacters) {
  EXPECT_EQ(refused("a=%00"), ErrorCode::MalformedRequest);
  EXPECT_EQ(refused("a%00=b"), ErrorCode::MalformedRequest);
  EXPECT_EQ(refused(std::string_view("a=b\0c", 5)), ErrorCode::MalformedRequest);
  EXPECT_EQ(refused("a=b\r\n"), ErrorCode::MalformedRequest);
  EXPECT_EQ(refused("a=b\x7f"), ErrorCode::MalformedRequest);
}

TEST(Form, RefusesWhatIsNotUtf8) {
  for (const auto* body : {"a=%ff", "a=%C0%80", "a=%ED%A0%80", "a=%F4%90%80%80", "a=%E2%82",
                           "a=\x80", "a=%C3&b=%A9"}) {
    EXPECT_EQ(refused(body), ErrorCode::MalformedRequest) << body;
  }
  EXPECT_EQ(only("a=%F4%8F%BF%BF", "a"), "\xf4\x8f\xbf\xbf");
}

TEST(Form, SizeLimitIsExact) {
  EXPECT_TRUE(Form::parse("a=" + std::string(Form::kMaxBytes - 2, 'x')).ok());
  EXPECT_EQ(refused("a=" + std::string(Form::kMaxBytes - 1, 'x')), ErrorCode::TooLarge);
}

TEST(Form, ParameterLimitIsExactAndCountsEmptyOnes) {
  std::string body = "a=1";
  for (std::size_t i = 1; i < Form::kMaxParameters; ++i) body += "&b" + std::to_string(i) + "=";
  EXPECT_TRUE(Form::parse(body).ok());
  EXPECT_EQ(refused(body + "&c"), ErrorCode::MalformedRequest);
}

TEST(Form, ViewsSurviveAMove) {
  auto parsed = Form::parse("a=value");
  ASSERT_TRUE(parsed.ok());
  const auto view = parsed.value().required_single("a").value();
  const Form moved = std::move(parsed).value();
  EXPECT_EQ(view, "value");
  EXPECT_EQ(moved.required_single("a").value().data(), view.data());
}

}  // namespace
}  // namespace postern::http
