#include "core/log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

namespace postern {
namespace {

/// What one line says after its time.
std::string logged(std::string_view value) {
  testing::internal::CaptureStderr();
  log::warning("test.event", {{"field", value}, {"last", "z"}});
  const auto line = testing::internal::GetCapturedStderr();
  const auto level = line.find(" warning ");
  return level == std::string::npos ? line : line.substr(level + 1);
}

TEST(Log, WritesEventAndFields) {
  EXPECT_EQ(logged("acme"), "warning test.event field=acme last=z\n");
  EXPECT_EQ(logged("a/b:c.d-e_f{0}"), "warning test.event field=a/b:c.d-e_f{0} last=z\n");
}

TEST(Log, KeepsALineALineWhateverTheValue) {
  EXPECT_EQ(logged(""), "warning test.event field=\"\" last=z\n");
  EXPECT_EQ(logged("a b"), "warning test.event field=\"a b\" last=z\n");
  EXPECT_EQ(logged("x last=forged"), "warning test.event field=\"x last=forged\" last=z\n");
  EXPECT_EQ(logged("x\" y=\"z"), "warning test.event field=\"x\\\" y=\\\"z\" last=z\n");
  EXPECT_EQ(logged("a\\"), "warning test.event field=\"a\\\\\" last=z\n");
  EXPECT_EQ(logged("a\r\nerror forged"),
            "warning test.event field=\"a\\x0d\\x0aerror forged\" last=z\n");
  EXPECT_EQ(logged("\x1b[2J"), "warning test.event field=\"\\x1b[2J\" last=z\n");
  EXPECT_EQ(logged("\xc3\xa9"), "warning test.event field=\"\\xc3\\xa9\" last=z\n");
  EXPECT_EQ(logged(std::string_view("a\0b", 3)), "warning test.event field=\"a\\x00b\" last=z\n");
}

TEST(Log, FormatsNothing) {
  // The line is data to the logging library, never a format string.
  EXPECT_EQ(logged("{}"), "warning test.event field={} last=z\n");
  EXPECT_EQ(logged("{:999999}%s%n"), "warning test.event field={:999999}%s%n last=z\n");
}

TEST(Log, BeginsWithTheTimeInUtc) {
  testing::internal::CaptureStderr();
  log::error("test.event");
  const auto line = testing::internal::GetCapturedStderr();
  std::string shape = line.substr(0, 24);
  std::replace_if(
      shape.begin(), shape.end(), [](char c) { return c >= '0' && c <= '9'; }, 'd');
  EXPECT_EQ(shape, "dddd-dd-ddTdd:dd:dd.dddZ");
  EXPECT_EQ(line.substr(24), " error test.event\n");
}

TEST(Log, LeavesOutWhatIsBelowTheLevel) {
  testing::internal::CaptureStderr();
  log::set_level(log::Level::Error);
  log::debug("test.debug");
  log::info("test.info");
  log::warning("test.warning");
  log::error("test.error");
  log::set_level(log::Level::Info);
  log::debug("test.debug");
  log::info("test.second");
  log::warning("test.flush");
  const auto text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  for (const auto* event : {"test.error", "test.second", "test.flush"}) {
    EXPECT_NE(text.find(event), std::string::npos) << event;
  }
}

}  // namespace
}  // namespace postern
