#include "core/result.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace postern {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return fail(ErrorCode::MalformedRequest, "the number is odd", "half");
  return number / 2;
}

Result<int> quarter(int number, int* reached) {
  POSTERN_TRY(const int halved, half(number));
  ++*reached;
  POSTERN_TRY(const int quartered, half(halved));
  ++*reached;
  return quartered;
}

Status even(int number) {
  POSTERN_CHECK(half(number));
  return {};
}

TEST(Result, HoldsAValueOrAnError) {
  const auto good = half(4);
  EXPECT_TRUE(good.ok());
  EXPECT_TRUE(static_cast<bool>(good));
  EXPECT_EQ(good.value(), 2);
  EXPECT_THROW((void)good.error(), std::logic_error);
  const auto bad = half(3);
  EXPECT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code, ErrorCode::MalformedRequest);
  EXPECT_EQ(bad.error().detail, "the number is odd");
  EXPECT_EQ(bad.error().diagnostic, "half");
  EXPECT_THROW((void)bad.value(), std::logic_error);
}

TEST(Result, CarriesWhatCannotBeCopied) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(7));
  const auto taken = std::move(result).value();
  EXPECT_EQ(*taken, 7);
}

TEST(Result, MayHoldAString) {
  // Both alternatives are built from text-like things; neither is taken for the other.
  const Result<std::string> result(std::string("text"));
  EXPECT_EQ(result.value(), "text");
}

TEST(Try, StopsAtTheFirstError) {
  int reached = 0;
  EXPECT_EQ(quarter(8, &reached).value(), 2);
  EXPECT_EQ(reached, 2);
  reached = 0;
  EXPECT_EQ(quarter(6, &reached).error().diagnostic, "half");
  EXPECT_EQ(reached, 1);
  reached = 0;
  EXPECT_FALSE(quarter(5, &reached).ok());
  EXPECT_EQ(reached, 0);
}

TEST(Status, IsGoodUntilGivenAnError) {
  EXPECT_TRUE(Status().ok());
  EXPECT_THROW((void)Status().error(), std::logic_error);
  EXPECT_TRUE(even(2).ok());
  ASSERT_FALSE(even(1).ok());
  EXPECT_EQ(even(1).error().detail, "the number is odd");
}

TEST(ErrorCode, EveryCodeHasItsOwnName) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(ErrorCode::Internal); ++code) {
    EXPECT_TRUE(names.insert(to_string(static_cast<ErrorCode>(code))).second) << code;
  }
}

}  // namespace
}  // namespace postern
