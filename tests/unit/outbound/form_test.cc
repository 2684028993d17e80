#include "outbound/form.h"

#include <gtest/gtest.h>

#include <string>
#include <type_traits>

namespace postern::outbound {
namespace {

std::string text_of(const FormBody& body) {
  return body.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
}

TEST(FormBody, EncodesEverythingThatIsNotUnreserved) {
  EXPECT_EQ(text_of(form_body({{"token", "aZ09-._~"}})), "token=aZ09-._~");
  EXPECT_EQ(text_of(form_body({{"a b", "+&=%/?\r\n"}, {"c", ""}})),
            "a%20b=%2B%26%3D%25%2F%3F%0D%0A&c=");
  EXPECT_EQ(text_of(form_body({{"u", "\xc3\xa4"}, {"n", std::string_view("\0", 1)}})),
            "u=%C3%A4&n=%00");
  EXPECT_EQ(text_of(form_body({})), "");
  EXPECT_EQ(as_text(form_encoded("s3cret_X:1").readable()), "s3cret_X%3A1");
}

TEST(FormBody, IsASecret) {
  static_assert(!std::is_copy_constructible_v<FormBody>);
  static_assert(!std::is_convertible_v<FormBody, Authorization>);
}

}  // namespace
}  // namespace postern::outbound
