#include "vault/aad.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <set>
#include <stdexcept>
#include <string>

namespace postern::vault {
namespace {

std::string text(const Aad& aad) { return std::string(as_text(aad.bytes())); }

TEST(Aad, PutsALengthBeforeEachPart) {
  EXPECT_EQ(text(Aad("ab").text("").text("c")),
            std::string("\0\0\0\2ab\0\0\0\0\0\0\0\1c", 4 + 2 + 4 + 4 + 1));
}

TEST(Aad, NumbersAreEightBytesBigEndian) {
  EXPECT_EQ(text(Aad("").number(0x0102030405060708)),
            std::string("\0\0\0\0\0\0\0\x08\1\2\3\4\5\6\7\x08", 16));
}

TEST(Aad, AnOwnerIsIssuerThenSubject) {
  EXPECT_EQ(text(Aad("x").owner(Owner::principal({"i", "s"}))), text(Aad("x").text("i").text("s")));
  EXPECT_EQ(text(Aad("x").owner(Owner::tenant())), text(Aad("x").text("").text("")));
}

TEST(Aad, PartsInCommonAreAsIfWrittenHere) {
  for (const std::size_t size : {0, 1, 250, 600, 2000}) {
    const std::string part(size, 'p');
    const auto common = Aad("").text(part).number(7);
    EXPECT_EQ(text(Aad("l").parts_of(common).text("z")),
              text(Aad("l").text(part).number(7).text("z")));
    EXPECT_EQ(text(Aad("l").text(part).parts_of(common)),
              text(Aad("l").text(part).text(part).number(7)));
  }
  EXPECT_EQ(text(Aad("l").parts_of(Aad(""))), text(Aad("l")));
  EXPECT_THROW(Aad("l").parts_of(Aad("other").text("p")), std::logic_error);
}

TEST(Aad, MovedBoundariesGiveOtherBytes) {
  const std::set<std::string> all{
      text(Aad("l").text("ab").text("c")), text(Aad("l").text("a").text("bc")),
      text(Aad("l").text("abc").text("")), text(Aad("l").text("").text("abc")),
      text(Aad("l").text("abc")),          text(Aad("la").text("b").text("c")),
  };
  EXPECT_EQ(all.size(), 6u);
}

TEST(Aad, DistinctRowsHaveDistinctBytes) {
  // Few short values, so that anything ambiguous would soon collide.
  const std::string words[] = {"a", "b", "aa", "ab", "ba"};
  std::set<std::string> all;
  std::size_t rows = 0;
  for (const auto& tenant : words) {
    for (const auto& issuer : words) {
      for (const auto& subject : words) {
        for (const auto& name : words) {
          for (std::uint64_t version = 1; version <= 3; ++version) {
            Aad aad("postern-dek-v1");
            aad.tenant(TenantId(tenant)).owner(Owner::principal({issuer, subject}));
            all.insert(text(aad.text(name).number(version)));
            ++rows;
          }
        }
      }
    }
  }
  EXPECT_EQ(all.size(), rows);
}

}  // namespace
}  // namespace postern::vault
