#include "http/vault_duration.h"

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace postern::http {
namespace {

using namespace std::chrono_literals;

TEST(VaultDuration, IsSecondsOrHoursMinutesAndSeconds) {
  for (const auto& [text, time] :
       std::vector<std::pair<std::string, std::chrono::seconds>>{{"0", 0s},
                                                                 {"300", 300s},
                                                                 {"007", 7s},
                                                                 {"45s", 45s},
                                                                 {"5m", 5min},
                                                                 {"1h", 1h},
                                                                 {"1h30m", 90min},
                                                                 {"1h5s", 3605s},
                                                                 {"2m3s", 123s},
                                                                 {"1h2m3s", 3723s},
                                                                 {"0s", 0s},
                                                                 {"8784h", 366 * 24h}}) {
    EXPECT_EQ(vault_duration(text), std::optional(time)) << text;
  }
}

TEST(VaultDuration, AnythingElseIsNone) {
  for (const std::string text : {"",       " ",     "s",    "h1",         "1x",
                                 "1d",     "-1",    "-1s",  "+1",         "1.5h",
                                 "1h 30m", "30m1h", "1s1m", "1m1m",       "1h30",
                                 "300 ",   "1H",    "0x10", "4294967296", "99999999999999999999",
                                 "8785h",  "1hh"}) {
    EXPECT_EQ(vault_duration(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace postern::http
