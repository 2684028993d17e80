#include "policy/scope.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "support/code_of.h"

namespace postern::policy {
namespace {

TEST(ScopeSet, ReadsTokensInAnyOrderAndOnlyOnce) {
  EXPECT_EQ(ScopeSet::parse("b a b  a ").value().str(), "a b");
  EXPECT_EQ(ScopeSet::parse(" a").value().str(), "a");
  EXPECT_TRUE(ScopeSet::parse("").value().empty());
  EXPECT_TRUE(ScopeSet::parse("   ").value().empty());
}

TEST(ScopeSet, IsCaseSensitive) {
  EXPECT_FALSE(ScopeSet::parse("Read").value().contains("read"));
  EXPECT_EQ(ScopeSet::parse("Read read").value().size(), 2u);
}

// RFC 6749 §3.3: %x21 / %x23-5B / %x5D-7E.
TEST(ScopeSet, TakesExactlyTheCharactersOfTheStandard) {
  for (int c = 0; c < 256; ++c) {
    const std::string token = std::string("a") + static_cast<char>(c) + "b";
    const bool allowed = c == 0x21 || (c >= 0x23 && c <= 0x5b) || (c >= 0x5d && c <= 0x7e);
    EXPECT_EQ(ScopeSet::is_token(token), allowed) << c;
    if (c == ' ') continue;  // separates
    EXPECT_EQ(ScopeSet::parse(token).ok(), allowed) << c;
  }
}

TEST(ScopeSet, RefusesTooManyAndTooLong) {
  std::string text;
  for (int i = 0; i < 64; ++i) text += "s" + std::to_string(i) + " ";
  EXPECT_EQ(ScopeSet::parse(text).value().size(), 64u);
  EXPECT_EQ(test::code_of(ScopeSet::parse(text + "one-more")), ErrorCode::ScopeRefused);
  EXPECT_TRUE(ScopeSet::parse(std::string(200, 'a')).ok());
  EXPECT_EQ(test::code_of(ScopeSet::parse(std::string(201, 'a'))), ErrorCode::ScopeRefused);
}

TEST(ScopeSet, IntersectsAndComparesLikeSets) {
  const unsigned seed = 20261121;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> a, b;
    for (char c = 'a'; c < 'h'; ++c) {
      if (random() % 2 == 0) a.emplace_back(1, c);
      if (random() % 2 == 0) b.emplace_back(1, c);
    }
    const ScopeSet left(a), right(b), both = left.intersect(right);
    for (char c = 'a'; c < 'h'; ++c) {
      const std::string token(1, c);
      ASSERT_EQ(both.contains(token), left.contains(token) && right.contains(token));
    }
    ASSERT_TRUE(both.subset_of(left) && both.subset_of(right));
    ASSERT_EQ(left.subset_of(right), both == left);
    ASSERT_EQ(ScopeSet::parse(left.str()).value(), left);
  }
}

}  // namespace
}  // namespace postern::policy
