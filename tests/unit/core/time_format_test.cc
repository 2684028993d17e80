#include "core/time_format.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>
#include <string_view>

namespace postern {
namespace {

using std::chrono::seconds;

sys_seconds at(long long second) { return sys_seconds(seconds(second)); }

TEST(FormatTime, WritesRfc3339InUtc) {
  EXPECT_EQ(format_time(at(0)), "1970-01-01T00:00:00Z");
  EXPECT_EQ(format_time(at(1790000300)), "2026-09-21T14:18:20Z");
  EXPECT_EQ(format_time(at(951782399)), "2000-02-28T23:59:59Z");
  EXPECT_EQ(format_time(at(951782400)), "2000-02-29T00:00:00Z");
  EXPECT_EQ(format_time(at(-1)), "1969-12-31T23:59:59Z");
  EXPECT_EQ(format_time(at(253402300799)), "9999-12-31T23:59:59Z");
}

TEST(ParseTime, ReadsWhatFormatTimeWrites) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 2000; ++i) {
    const auto time = at(static_cast<long long>(random() % 253402300800ULL));
    ASSERT_EQ(parse_time(format_time(time)), time);
  }
}

TEST(ParseTime, DropsAFraction) {
  EXPECT_EQ(parse_time("2026-09-21T14:18:20.5Z"), at(1790000300));
  EXPECT_EQ(parse_time("2026-09-21T14:18:20.999999999Z"), at(1790000300));
}

TEST(ParseTime, RefusesOtherTexts) {
  for (const std::string_view text : {"",
                                      "Z",
                                      "2026-09-21",
                                      "2026-09-21T14:18:20",
                                      "2026-09-21 14:18:20Z",
                                      "2026-09-21t14:18:20Z",
                                      "2026-09-21T14:18:20z",
                                      "2026-09-21T14:18Z",
                                      "2026-09-21T14:18:20+00:00",
                                      "2026-09-21T14:18:20-00:00",
                                      "2026-9-21T14:18:20Z",
                                      "02026-09-21T14:18:20Z",
                                      "+2026-09-21T14:18:20Z",
                                      "2026-09-21T14:18:20ZZ",
                                      "2026-09-21T14:18:20Z ",
                                      " 2026-09-21T14:18:20Z",
                                      "2026-09-21T14:18:20.Z",
                                      "2026-09-21T14:18:20.1234567890Z",
                                      "2026-09-21T14:18:20,5Z",
                                      "2026-09-21T14:18:20.5",
                                      "2026-09-21T14:18:2xZ",
                                      "2026-09-21T-4:18:20Z",
                                      "20260921T141820Z",
                                      "now",
                                      "1790000300"}) {
    EXPECT_EQ(parse_time(text), std::nullopt) << text;
  }
  EXPECT_EQ(parse_time(std::string_view("2026-09-21T14:18:20Z\0", 21)), std::nullopt);
}

TEST(ParseTime, RefusesDatesThatDoNotExist) {
  for (const std::string_view text :
       {"2026-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2026-00-01T00:00:00Z",
        "2026-13-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z",
        "2026-04-31T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:60Z"}) {
    EXPECT_EQ(parse_time(text), std::nullopt) << text;
  }
  EXPECT_TRUE(parse_time("2028-02-29T23:59:59Z"));
}

}  // namespace
}  // namespace postern
