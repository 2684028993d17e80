#include "core/instant.h"

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string_view>

namespace postern {
namespace {

using std::chrono::seconds;

constexpr sys_seconds kNow{seconds(1790000300)};

TEST(Instant, IsATimeOrADurationFromNow) {
  const auto time = std::optional(sys_seconds(seconds(951782400)));
  EXPECT_EQ(instant_after("2000-02-29T00:00:00Z", kNow), time);
  EXPECT_EQ(instant_before("2000-02-29T00:00:00Z", kNow), time);
  EXPECT_EQ(instant_after("45s", kNow), kNow + seconds(45));
  EXPECT_EQ(instant_before("45s", kNow), kNow - seconds(45));
  EXPECT_EQ(instant_before("30m", kNow), kNow - std::chrono::minutes(30));
  EXPECT_EQ(instant_before("12h", kNow), kNow - std::chrono::hours(12));
  EXPECT_EQ(instant_after("3650d", kNow), kNow + std::chrono::days(3650));
}

TEST(Instant, IsNothingElse) {
  for (const std::string_view text :
       {"", "d", "7", "0d", "-1d", "+1d", " 7d", "7d ", "7 d", "1w", "1h30m", "1.5h", "3651d",
        "315360001s", "99999999999999999999d", "9223372036854775807s", "2000-02-30T00:00:00Z"}) {
    EXPECT_EQ(instant_after(text, kNow), std::nullopt) << text;
    EXPECT_EQ(instant_before(text, kNow), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace postern
