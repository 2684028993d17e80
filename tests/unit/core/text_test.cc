#include "core/text.h"

#include <gtest/gtest.h>

#include <string>

namespace postern {
namespace {

TEST(HasControlCharacters, OfOneLineOfTextThereAreNone) {
  for (const char* text : {"", " ", "a b~", "\xc3\xa4", "\x80\xff"}) {
    EXPECT_FALSE(has_control_characters(text)) << text;
  }
}

TEST(HasControlCharacters, EveryOneIsFoundWhereverItStands) {
  for (int byte = 0; byte < 0x80; ++byte) {
    const auto c = static_cast<char>(byte);
    const bool control = byte < 0x20 || byte == 0x7f;
    EXPECT_EQ(is_control(c), control) << byte;
    for (const auto& text : {std::string(1, c), std::string(1, c) + "a", "a" + std::string(1, c)}) {
      EXPECT_EQ(has_control_characters(text), control) << byte;
    }
  }
}

}  // namespace
}  // namespace postern
