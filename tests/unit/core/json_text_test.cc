#include "core/json_text.h"

#include <gtest/gtest.h>

namespace postern {
namespace {

std::string written(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(JsonText, WritesStringsInAscii) {
  EXPECT_EQ(written(""), R"("")");
  EXPECT_EQ(written("files:read"), R"("files:read")");
  EXPECT_EQ(written("a\"b\\c"), R"("a\"b\\c")");
  EXPECT_EQ(written(std::string_view("\n\0\x1f\x7f", 4)), R"("\u000a\u0000\u001f\u007f")");
  EXPECT_EQ(written("\xc3\xa9\xe2\x82\xac\xf0\x9f\x94\x91"), R"("\u00e9\u20ac\ud83d\udd11")");
}

TEST(JsonText, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(written("\xff"), R"("\ufffd")");
  EXPECT_EQ(written("\xc0\xaf"), R"("\ufffd\ufffd")");            // overlong
  EXPECT_EQ(written("\xed\xa0\x80"), R"("\ufffd\ufffd\ufffd")");  // a surrogate
  EXPECT_EQ(written("\xe2\x82"), R"("\ufffd\ufffd")");            // cut off
  EXPECT_EQ(written("\xf4\x90\x80\x80"), R"("\ufffd\ufffd\ufffd\ufffd")");
}

TEST(JsonText, WritesObjectsMemberByMember) {
  EXPECT_EQ(JsonObjectText().str(), "{}");
  EXPECT_TRUE(JsonObjectText().empty());
  JsonObjectText object;
  object.string("s\"", "x").number("n", -5).strings("none", {}).strings("two", {"a", "\""});
  object.json("o", JsonObjectText().json("t", "true").str());
  EXPECT_FALSE(object.empty());
  EXPECT_EQ(object.str(), R"({"s\"":"x","n":-5,"none":[],"two":["a","\""],"o":{"t":true}})");
}

}  // namespace
}  // namespace postern
