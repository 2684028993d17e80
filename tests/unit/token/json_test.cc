#include "token/json.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>

namespace postern::token {
namespace {

using std::chrono::seconds;
using std::chrono::sys_seconds;

/// The code of the error, or nothing when the text was accepted.
std::optional<ErrorCode> refusal(std::string_view text, const JsonLimits& limits = {}) {
  const auto json = parse_json(text, limits);
  if (json.ok()) return std::nullopt;
  // Errors are shown to clients: never a piece of the text.
  EXPECT_EQ(json.error().detail.find("canary"), std::string::npos);
  return json.error().code;
}

std::string repeated(std::string_view text, std::size_t count) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i) all += text;
  return all;
}

TEST(ParseJson, BuildsWhatTheTextSays) {
  const auto json = parse_json(
      R"( {"a":[1,-2,3.5,"t\u00e9\ud83d\ude00",true,false,null,[],{}],"b":{"c":{"d":"e"}},"f":0} )");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json.value(), Json({{"a",
                                 {1, -2, 3.5, "t\u00e9\U0001F600", true, false, nullptr,
                                  Json::array(), Json::object()}},
                                {"b", {{"c", {{"d", "e"}}}}},
                                {"f", 0}}));
  EXPECT_EQ(parse_json("\"text\"").value(), Json("text"));
  EXPECT_EQ(parse_json("17").value(), Json(17));
  EXPECT_EQ(parse_json("[[1,2],[3],[[4]]]").value(), Json::parse("[[1,2],[3],[[4]]]"));
}

TEST(ParseJson, KeepsWholeNumbersExact) {
  const auto json = parse_json("[18446744073709551615,-9223372036854775808,9007199254740993]");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(dump_json(json.value()),
            "[18446744073709551615,-9223372036854775808,9007199254740993]");
}

TEST(ParseJson, RefusesDuplicateMembersAtAnyDepth) {
  for (const std::string_view text :
       {R"({"sub":"a","sub":"canary"})", R"({"sub":"a","x":1,"sub":"a"})",
        R"({"sub":"a","\u0073ub":"canary"})", R"({"\u0073ub":1,"s\u0075b":2})",
        R"({"a":{"b":[{"c":1,"c":2}]}})", R"([[{"":1,"":2}]])", R"({"a":1,"a":{"b":2}})",
        R"({"a":{},"a":[]})", R"({"a\/b":1,"a/b":2})", R"({"\u00e9":1,"é":2})",
        R"({"\ud83d\ude00":1,"😀":2})", R"({"a":null,"a":null})"}) {
    EXPECT_EQ(refusal(text), ErrorCode::MalformedRequest) << text;
  }
}

TEST(ParseJson, AcceptsTheSameNameInDifferentObjects) {
  for (const std::string_view text :
       {R"({"a":{"a":{"a":1}}})", R"([{"a":1},{"a":2}])", R"({"a":1,"A":2,"a ":3})"}) {
    EXPECT_EQ(refusal(text), std::nullopt) << text;
  }
}

TEST(ParseJson, RefusesNulAndWhatFollowsIt) {
  const std::string nul(1, '\0');
  for (const auto& text : {R"({"a":1})" + nul, R"({"a":1})" + nul + "x", nul + R"({"a":1})",
                           R"({"a")" + nul + ":1}", R"({"a":"x)" + nul + R"(y"})",
                           R"({"a)" + nul + R"(":1})", nul, nul + nul, "[1" + nul + "]"}) {
    EXPECT_EQ(refusal(text), ErrorCode::MalformedRequest);
  }
}

TEST(ParseJson, RefusesAnEscapedNul) {
  EXPECT_EQ(refusal(R"({"a":"x\u0000y"})"), ErrorCode::MalformedRequest);
  EXPECT_EQ(refusal(R"({"a\u0000":1})"), ErrorCode::MalformedRequest);
  EXPECT_EQ(refusal(R"("\u0000")"), ErrorCode::MalformedRequest);
  EXPECT_EQ(refusal(R"("\\u0000")"), std::nullopt);  // a backslash and u0000
  EXPECT_EQ(refusal(R"("\u0001")"), std::nullopt);
}

TEST(ParseJson, RefusesByteOrderMarksAndOtherEncodings) {
  EXPECT_TRUE(refusal("\xef\xbb\xbf{}"));
  EXPECT_TRUE(refusal("\xef\xbb{}"));
  EXPECT_TRUE(refusal("\xff\xfe{\0}\0"));
  EXPECT_TRUE(refusal(std::string_view("\0{\0}", 4)));
}

TEST(ParseJson, RefusesWhatIsNotOneJsonText) {
  for (const std::string_view text : {"",
                                      " ",
                                      "{",
                                      "}",
                                      "{}{}",
                                      "{} {}",
                                      "{},",
                                      "[]]",
                                      "[1,]",
                                      "[,1]",
                                      "{,}",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "{'a':1}",
                                      "[1 2]",
                                      "nul",
                                      "True",
                                      "NaN",
                                      "[NaN]",
                                      "Infinity",
                                      "-Infinity",
                                      "[01]",
                                      "[+1]",
                                      "[.5]",
                                      "[1.]",
                                      "[1e]",
                                      "[0x10]",
                                      "[-]",
                                      "[--1]",
                                      "[1e+]",
                                      "\"",
                                      "\"\\\"",
                                      "\"\\x41\"",
                                      "\"\\u12\"",
                                      "\"\\ud800\"",
                                      "\"\\udc00\"",
                                      "\"\\ud800\\u0041\"",
                                      "\"tab\there\"",
                                      "\"line\nbreak\"",
                                      "// comment\n{}",
                                      "{}/* c */",
                                      "{}//c",
                                      "{1:2}",
                                      "{null:1}",
                                      "{[]:1}",
                                      "\xc2\xa0{}",
                                      "\x0b{}",
                                      "\x0c{}",
                                      "undefined",
                                      "{\"a\":1}x",
                                      "{}\x1f"}) {
    EXPECT_EQ(refusal(text), ErrorCode::MalformedRequest) << text;
  }
}

TEST(ParseJson, RefusesTextThatIsNotUtf8) {
  for (const std::string_view text :
       {"\"\x80\"", "\"\xc3\"", "\"\xc0\xaf\"", "\"\xe0\x80\xaf\"", "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"", "\"\xf8\x88\x80\x80\x80\"", "\"\xff\"", "{\"\xfe\":1}"}) {
    EXPECT_EQ(refusal(text), ErrorCode::MalformedRequest);
  }
}

TEST(ParseJson, RefusesNumbersThatDoNotFit) {
  for (const std::string_view text : {"1e999", "-1e999", "[1e400]", "{\"exp\":1e309}"}) {
    EXPECT_EQ(refusal(text), ErrorCode::MalformedRequest) << text;
  }
  EXPECT_EQ(refusal(std::string(400, '9')), ErrorCode::MalformedRequest);
  EXPECT_EQ(refusal("1e308"), std::nullopt);
}

TEST(ParseJson, BoundsNesting) {
  JsonLimits limits;
  limits.max_depth = 5;
  EXPECT_EQ(refusal("[[[[[1]]]]]", limits), std::nullopt);
  EXPECT_EQ(refusal("[[[[[[1]]]]]]", limits), ErrorCode::TooLarge);
  EXPECT_EQ(refusal(R"({"a":{"a":{"a":{"a":{}}}}})", limits), std::nullopt);
  EXPECT_EQ(refusal(R"({"a":{"a":{"a":{"a":{"a":{}}}}}})", limits), ErrorCode::TooLarge);
  EXPECT_EQ(refusal("[[],[],[],[],[],[],[]]", limits), std::nullopt);
}

TEST(ParseJson, StopsAtFloodsOfNesting) {
  EXPECT_EQ(refusal(std::string(1'000'000, '[')), ErrorCode::TooLarge);
  EXPECT_EQ(refusal(repeated("{\"a\":", 200'000)), ErrorCode::TooLarge);
  EXPECT_EQ(refusal(std::string(100'000, '[') + std::string(100'000, ']')), ErrorCode::TooLarge);
}

TEST(ParseJson, BoundsTheNumberOfValues) {
  JsonLimits limits;
  limits.max_values = 4;
  EXPECT_EQ(refusal("[1,2,3]", limits), std::nullopt);
  EXPECT_EQ(refusal("[1,2,3,4]", limits), ErrorCode::TooLarge);
  EXPECT_EQ(refusal(R"({"a":1,"b":[2]})", limits), std::nullopt);
  EXPECT_EQ(refusal(R"({"a":1,"b":[2,3]})", limits), ErrorCode::TooLarge);
}

TEST(ParseJson, StopsAtFloodsOfMembers) {
  std::string flood = "{\"0\":0";
  for (int i = 1; i < 200'000; ++i) flood += ",\"" + std::to_string(i) + "\":0";
  JsonLimits limits;
  limits.max_bytes = flood.size() + 1;
  EXPECT_EQ(refusal(flood + "}", limits), ErrorCode::TooLarge);
  limits.max_bytes = 1000;
  EXPECT_EQ(refusal(flood + "}", limits), ErrorCode::TooLarge);
}

TEST(ParseJson, BoundsTheLengthOfTheText) {
  JsonLimits limits;
  limits.max_bytes = 10;
  EXPECT_EQ(refusal("\"12345678\"", limits), std::nullopt);
  EXPECT_EQ(refusal("\"123456789\"", limits), ErrorCode::TooLarge);
}

TEST(DumpJson, SortsMembersAndLeavesOutWhiteSpace) {
  EXPECT_EQ(dump_json(parse_json(R"({ "b" : [ 1 , 2 ] , "a" : "/é" })").value()),
            R"({"a":"/é","b":[1,2]})");
}

TEST(DumpJson, ReplacesBytesThatAreNotUtf8) {
  EXPECT_EQ(dump_json(Json("a\xff z")), "\"a\xef\xbf\xbd z\"");
  EXPECT_NO_THROW(dump_json(Json({{"\xff", "\x80"}})));
}

TEST(NumericDate, ReadsSecondsRoundedDown) {
  EXPECT_EQ(numeric_date(Json(0)), sys_seconds(seconds(0)));
  EXPECT_EQ(numeric_date(Json(1790000300)), sys_seconds(seconds(1790000300)));
  EXPECT_EQ(numeric_date(Json(1790000300.999)), sys_seconds(seconds(1790000300)));
  EXPECT_EQ(numeric_date(Json(0.5)), sys_seconds(seconds(0)));
  EXPECT_EQ(numeric_date(parse_json("1.79e9").value()), sys_seconds(seconds(1790000000)));
  EXPECT_EQ(numeric_date(Json(9007199254740992)), sys_seconds(seconds(9007199254740992)));
  EXPECT_EQ(numeric_date(parse_json("9007199254740992").value()),
            sys_seconds(seconds(9007199254740992)));
}

TEST(NumericDate, RefusesEverythingElse) {
  for (const std::string_view text :
       {"true", "false", "null", "\"1790000300\"", "\"\"", "[]", "[1790000300]", "{}", "-1", "-0.5",
        "-1e300", "9007199254740993", "9223372036854775807", "9223372036854775808",
        "18446744073709551615", "1e30", "1e308", "18446744073709551616", "9007199254740994.0"}) {
    EXPECT_EQ(numeric_date(parse_json(text).value()), std::nullopt) << text;
  }
  EXPECT_EQ(numeric_date(Json(std::nan(""))), std::nullopt);
  EXPECT_EQ(numeric_date(Json(std::numeric_limits<double>::infinity())), std::nullopt);
  EXPECT_EQ(numeric_date(Json(std::numeric_limits<std::int64_t>::min())), std::nullopt);
}

}  // namespace
}  // namespace postern::token
